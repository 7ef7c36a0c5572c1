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

/*
 * A run with more than one dead entry in so many is rewritten, and so are any
 * neighbouring leaf pages of it of which that is true.
 */
#define ALEX_DEAD_FRACTION		8

/*
 * ---------------------------------------------------------------------
 * policy.c
 * ---------------------------------------------------------------------
 */

/*
 * Picks the runs of one part that are due for compaction and returns their
 * number; 0 when none are.  "all" asks for all of them, if that changes
 * anything; "ranges" says that range scans read the index.  chosen[] has room
 * for all runs.  *suspect is one of them, if most of its entries are likely to
 * be dead, or NULL.
 */
extern int	alex_choose_runs(Relation index, const AlexManifest *manifest,
							 AlexPart part, bool all, bool ranges,
							 const AlexRun **chosen, const AlexRun **suspect);

extern int	alex_compare_by_size(const void *a, const void *b);

extern int	alex_count_live_runs(const AlexManifest *manifest, AlexPart part);

/*
 * Merging goes in slices of so many leaf pages of the index, as the old pages
 * stay in the file until no scan can be reading them.
 */
extern uint32 alex_slice_pages(const AlexManifest *manifest);

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
struct AlexRunStream;

typedef struct AlexMerge
{
	AlexReader *reader;
	AlexRunWriter *writer;		/* of the run that is being written */
	AlexDropper *dropper;		/* through which entries come to it */
	const AlexRun **runs;		/* ascending by first entry */
	int			nruns;
	bool		all_dead_go;	/* rewrite any page with dead entries; else
								 * where these are more than one in
								 * ALEX_DEAD_FRACTION */
	const AlexRun *suspect;		/* look at the row of each entry of this one */
	uint32		slice;			/* rewrite no more pages than so many; 0: as
								 * many as there are */

	/* found out by alex_merge_begin */
	bool		may_adopt;		/* may any leaf pages be taken over? */
	bool		page_by_page;	/* look for dead entries in single pages, not
								 * in several at a time */
	bool		complete;		/* does all that is to be done fit into the
								 * slice? */
	struct AlexRunStream *streams;

	/* what has been done */
	uint32		rewritten;		/* leaf pages */
	uint32		stretch;		/* of them since one was taken over */
	uint32		fullest;		/* most entries on any of these, and on the one
								 * before */
	uint32		full_pages;		/* of these, so many are nearly as full */
	uint64		full_entries;	/* and have so many entries */
	uint32	   *adopted;		/* leaf pages of each run taken over */
	uint64		adopted_entries;	/* on those of the run being written, dead
									 * ones included */
	uint64		adopted_dead;
} AlexMerge;

/* Opens the runs, and sees what is to be done. */
extern void alex_merge_begin(AlexMerge *merge);

/*
 * Writes the runs' entries in order, dead ones left out.  If the slice is not
 * large enough for all of them, what is left of the longest run goes on behind
 * the slice, and that of the others, and of the suspect one, has to be written
 * as runs of their own.
 */
extern void alex_merge_runs(AlexMerge *merge);

/* Is there anything left of this run?  Writes that. */
extern bool alex_merge_has_rest(const AlexMerge *merge, int which);
extern void alex_merge_rest(AlexMerge *merge, int which);

extern void alex_merge_end(AlexMerge *merge);

#endif							/* ALEX_MERGE_H */
