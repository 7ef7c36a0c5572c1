/*-------------------------------------------------------------------------
 *
 * build.h
 *	  What the files of an index build share; see src/am/build.c.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/build.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_BUILD_H
#define ALEX_BUILD_H

#include "port/atomics.h"

#include "alex/am.h"
#include "alex/sorter.h"

/* Phases; the first is PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE */
#define ALEX_PHASE_SCAN			2
#define ALEX_PHASE_SORT			3
#define ALEX_PHASE_WRITE		4
#define ALEX_PHASE_INSTALL		5

/*
 * ---------------------------------------------------------------------
 * unique_build.c: duplicates among the entries that are sorted
 * ---------------------------------------------------------------------
 */
typedef struct AlexUniqueBuild AlexUniqueBuild;

extern AlexUniqueBuild *alex_unique_build_begin(Relation heap, Relation index,
												Size memory);

/*
 * Notes a row and returns the number to sort its entry by in place of its
 * TID.
 */
extern uint64 alex_unique_build_add(AlexUniqueBuild *build, Datum value,
									bool is_null, uint64 tid, bool is_alive);

/* Takes entries in order, gives the TID back, fails at a second live row. */
extern uint64 alex_unique_build_check(AlexUniqueBuild *build, AlexPart part,
									  uint64 key, uint64 number);

/* When all rows have been added: what neighbouring keys would hide. */
extern void alex_unique_build_finish(AlexUniqueBuild *build);

/*
 * The same in a parallel build: "share" before the first row, "export" after
 * the last one, and "finish" for what all participants exported.
 */
extern void alex_unique_build_share(AlexUniqueBuild *build,
									SharedFileSet *files, const char *name);
extern void alex_unique_build_export(AlexUniqueBuild *build,
									 AlexSortedFile *description);
extern void alex_unique_build_finish_shared(AlexUniqueBuild *build,
											AlexSortedChunks *ambiguous);

/*
 * ---------------------------------------------------------------------
 * build_scan.c: the heap scan
 * ---------------------------------------------------------------------
 */

/* How participants of a parallel build share the scan. */
typedef struct AlexSharedScan
{
	pg_atomic_uint64 *next_block;	/* not given to anybody yet */
	BlockNumber nblocks;		/* of the table */
	ParallelTableScanDesc core; /* for tables that core scans */
	bool		report_progress;
} AlexSharedScan;

/* NULL: the whole table.  Returns the number of rows scanned. */
extern double alex_build_scan(Relation heap, Relation index,
							  IndexInfo *index_info,
							  const AlexSharedScan *shared,
							  IndexBuildCallback callback,
							  void *callback_state);

/*
 * ---------------------------------------------------------------------
 * build.c: what one process does
 * ---------------------------------------------------------------------
 */
typedef struct AlexBuild
{
	Relation	heap;
	Relation	index;
	IndexInfo  *index_info;
	AlexCodec	codec;
	AlexSorter *sorters[ALEX_PARTS];
	AlexUniqueBuild *unique;	/* NULL: the index is not */
	MemoryContext tuple_context;
	uint64		ntuples;
} AlexBuild;

/* Everything lives in the current memory context. */
extern void alex_build_begin(AlexBuild *build, Relation heap, Relation index,
							 IndexInfo *index_info, Size memory);
/* The callback of the heap scan. */
extern void alex_build_add_tuple(Relation index, ItemPointer tid,
								 Datum *values, bool *isnull,
								 bool tuple_is_alive, void *state);
/* Hands sorted entries to the writer. */
extern void alex_build_write(AlexBuild *build, AlexPart part,
							 AlexRunWriter *writer, const AlexEntry *entries,
							 int nentries);

/*
 * ---------------------------------------------------------------------
 * build_parallel.c
 * ---------------------------------------------------------------------
 *
 * Scans, sorts, and writes one run for each part, with the help of parallel
 * workers.  False, with nothing done, if there are none.
 */
extern bool alex_build_in_parallel(Relation heap, Relation index,
								   IndexInfo *index_info, AlexRun *runs,
								   double *heap_tuples);

#endif							/* ALEX_BUILD_H */
