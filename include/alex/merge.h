/*-------------------------------------------------------------------------
 *
 * merge.h
 *	  Compaction's two halves: which runs (policy.c), and their entries in
 *	  order (merge.c).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/merge.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_MERGE_H
#define ALEX_MERGE_H

#include "alex/am.h"

/* A run, or a leaf page, with more than one dead entry in so many is
 * rewritten. */
#define ALEX_DEAD_FRACTION		5

/*
 * ---------------------------------------------------------------------
 * policy.c
 * ---------------------------------------------------------------------
 */

/*
 * Picks the runs of one part that are due for compaction and returns their
 * number; 0 when none are.  "all" asks for all of them, if that changes
 * anything; "ranges" says that range scans read the index.  chosen[] has room
 * for all runs.
 */
extern int	alex_choose_runs(Relation index, const AlexManifest *manifest,
							 AlexPart part, bool all, bool ranges,
							 const AlexRun **chosen);

extern int	alex_count_live_runs(const AlexManifest *manifest, AlexPart part);

/*
 * A long-lived snapshot keeps the pages of retired runs; more compaction
 * would then only make the file grow.
 */
extern bool alex_too_much_retired(const AlexManifest *manifest);

/*
 * ---------------------------------------------------------------------
 * merge.c
 * ---------------------------------------------------------------------
 */
typedef struct AlexMerge
{
	AlexReader *reader;
	AlexRunWriter *writer;
	AlexDropper *dropper;		/* through which entries come to the writer */
	const AlexRun **runs;		/* ascending by first entry */
	int			nruns;
	bool	   *may_adopt;		/* may leaf pages of that run be taken over? */
	int			dead_fraction;	/* pages with more dead entries than one in so
								 * many are rewritten; 0: with any */
	uint32		rewrite_limit;	/* but no more than so many pages */

	/* what has been done */
	uint32	   *adopted;		/* leaf pages of each run taken over */
	uint64		adopted_entries;	/* on them, dead ones included */
	uint64		adopted_dead;
} AlexMerge;

/* Decides whose leaf pages may be taken over; true if any may. */
extern bool alex_merge_plan(AlexMerge *merge);

/* Writes the runs' entries in order, dead ones left out. */
extern void alex_merge_runs(AlexMerge *merge);

#endif							/* ALEX_MERGE_H */
