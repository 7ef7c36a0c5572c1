/*-------------------------------------------------------------------------
 *
 * scan.h
 *	  Private structs of index scans: intervals made from scan keys, cursors
 *	  over one source each, and their merge.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/scan.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_SCAN_H
#define ALEX_SCAN_H

#include "postgres.h"

#include "access/relscan.h"
#include "access/tableam.h"
#include "lib/ilist.h"
#include "nodes/tidbitmap.h"
#include "portability/instr_time.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "alex/am.h"

/*
 * Two places in the order of entries that no entry can have: TIDs have no
 * offset 0, and no block InvalidBlockNumber.
 */
#define ALEX_TID_BEFORE_ALL		UINT64CONST(0)
#define ALEX_TID_AFTER_ALL		ALEX_TID_MAX

/* A batch of a cursor begins this small: most probes want one entry. */
#define ALEX_FIRST_BATCH		4
#define ALEX_BATCH_GROWTH		4

/* So many keys of a list are looked up at the same time. */
#define ALEX_GROUP_KEYS			64

/* A closed interval of stored keys; never empty. */
typedef struct AlexInterval
{
	uint64		low;
	uint64		high;
} AlexInterval;

/* Ascending and disjoint, once it is finished. */
typedef struct AlexIntervalList
{
	AlexInterval *items;
	int			count;
	int			capacity;
} AlexIntervalList;

/* How arguments of one type become lanes; see alexam--1.0.sql. */
typedef struct AlexArgumentType
{
	Oid			type;
	FmgrInfo   *low;
	FmgrInfo   *high;			/* same as low where both are function 1 */
	bool		is_int8;		/* both return the argument: no need to call */
	bool		is_int4;		/* likewise, as a bigint */
	struct AlexArgumentType *next;
} AlexArgumentType;

/*
 * A cursor delivers the entries of one source in one interval and direction.
 * It holds a batch of them, ascending in keys[] and tids[] whatever the
 * direction.  Its place is "bound" until it is opened: entries at or after
 * it are delivered going forward, entries before it going backward.
 */
typedef struct AlexCursor
{
	struct AlexScanRun *run;	/* NULL: of the memtable, or a group's */
	uint64		generation;		/* of the memtable; else 0 */
	struct AlexGroup *group;	/* NULL: it has a source of its own */
	AlexEntry	bound;
	bool		opened;
	bool		finished;		/* nothing comes after the batch in hand */
	bool		sealed;			/* finished because the generation is sealed;
								 * its runs go on at bound */
	int			batch_size;		/* of the next batch */

	/* the batch: current entry, and how many come after it */
	int			at;
	int			left;
	int			prefetched;		/* entries after that many before the end have
								 * had their heap blocks asked for */
	int			first_slot;		/* of a run: slot of keys[0] on the leaf page */
	bool		has_gaps;		/* entries were left out: see slots[] */
	bool		has_killed;		/* any bit is set in killed[] */
	uint64		killed[ALEX_LEAF_BLOCK / 64];	/* entries found dead */
	AlexMoment	moment;			/* of the memtable: when it was read */

	/* the leaf page in hand, of a run */
	AlexPageReference leaf;
	BlockNumber leaf_block;
	uint32		leaf_number;
	int			leaf_entries;
	int			leaf_edge;		/* next slot forward, or the one after the
								 * next slot backward */

	/* from here on not set before a batch is read */
	uint64		keys[ALEX_LEAF_BLOCK];
	uint64		tids[ALEX_LEAF_BLOCK];
	uint8		slots[ALEX_LEAF_BLOCK]; /* behind first_slot, if has_gaps */
} AlexCursor;

/* Where an entry of a group was found. */
typedef struct AlexEntryOrigin
{
	uint64		run;			/* 0: in the memtable */
	uint64		stamp;			/* of the leaf page; or the generation */
	int			slot;
} AlexEntryOrigin;

/*
 * The entries of several keys that were looked up together, as the batch of
 * a cursor that has no more than these; see scan_group.c.
 */
typedef struct AlexGroup
{
	int			limit;			/* keys of the next group */
	int			pause;			/* intervals to be read without one before */
	int			nentries;
	bool		unsorted;		/* entries of several runs, not merged yet */
	bool		has_memtable_entries;
	AlexMoment	moments[2];		/* when the generations were read */
	AlexCursor	cursor;
	AlexEntryOrigin origins[ALEX_LEAF_BLOCK];
} AlexGroup;

/* A run that the scan may read; opened when first needed. */
typedef struct AlexScanRun
{
	const AlexRun *run;
	bool		opened;
	AlexRunReader reader;
	AlexCursor *cursor;			/* NULL until needed */

	/* the leaf page that was looked up last, for which place */
	bool		leaf_is_known;
	AlexEntry	leaf_bound;
	uint32		leaf_number;
	AlexFence	leaf_fence;
} AlexScanRun;

/*
 * The runs that a generation of the view was sealed into after the view was
 * taken.
 */
typedef struct AlexSealedGeneration
{
	struct AlexSealedGeneration *next;
	uint64		generation;
	int			nruns;
	AlexScanRun runs[FLEXIBLE_ARRAY_MEMBER];
} AlexSealedGeneration;

/*
 * Where a cursor stands in the merge.  Key and TID are complemented going
 * backward, so that the least head always comes next.  A head that is not
 * ready is a lower bound: of a cursor not opened yet, or the entry that was
 * delivered last.
 */
typedef struct AlexMergeHead
{
	uint64		key;
	uint64		tid;
	AlexCursor *cursor;
	bool		ready;
} AlexMergeHead;

typedef enum AlexScanPlace
{
	ALEX_SCAN_OUTSIDE,			/* before the first or after the last entry */
	ALEX_SCAN_INSIDE,			/* on "current", and so are the cursors */
	ALEX_SCAN_RESTORED			/* on "current", cursors are not */
} AlexScanPlace;

/* What a scan does when a pause is over; see heap_prefetch.c. */
typedef enum AlexPrefetchStage
{
	ALEX_PREFETCH_UNKNOWN,		/* finds out what it may do */
	ALEX_PREFETCH_MAP,			/* pins the visibility map */
	ALEX_PREFETCH_LOOK,			/* begins a sample */
	ALEX_PREFETCH_SAMPLE,		/* ends it */
	ALEX_PREFETCH_ASK			/* asks for blocks, row by row */
} AlexPrefetchStage;

/* Pages of the visibility map that an index-only scan keeps pinned, at most. */
#define ALEX_MAP_PINS			4

/* Heap blocks of coming entries. */
typedef struct AlexHeapPrefetch
{
	AlexPrefetchStage stage;
	int			pause;			/* entries to be delivered before */
	int			next_pause;
	int			max_distance;	/* 0: no blocks are asked for */
	int			distance;
	int			rows;			/* to be delivered before the next sample */
	int64		reads;			/* blocks read when the sample began ... */
	instr_time	start;			/* ... and when that was */
	BlockNumber last_block;
	BlockNumber touched_block;	/* by alex_heap_touch, maybe in an earlier scan */
	Buffer		map_pins[ALEX_MAP_PINS];	/* the first ones, until the end */
} AlexHeapPrefetch;

typedef struct AlexScanMark
{
	bool		valid;
	int			interval;
	AlexEntry	current;
} AlexScanMark;

/* A place in a scan: an entry, or where one would be, of an interval. */
typedef struct AlexScanBound
{
	int			interval;
	AlexEntry	entry;
} AlexScanBound;

typedef struct AlexScan
{
	IndexScanDesc scan;
	Relation	index;
	MemoryContext context;		/* of all that the scan holds */
	MemoryContext scratch;		/* of what support functions leave; NULL until
								 * needed */
	MemoryContextCallback release;
	dlist_node	link;			/* in the list of all scans, see scan.c */
	AlexCodec	codec;

	/* what is read */
	AlexLocal  *local;
	AlexView	view;
	AlexReader	reader;
	uint64		incarnation;	/* of reader; 0: none yet */
	AlexScanRun *runs;			/* of the view, retired ones left out */
	int			nruns;
	int			runs_capacity;
	AlexCursor *memtable_cursors[2];
	AlexGroup  *group;			/* NULL until needed */
	AlexHeapPrefetch prefetch;
	AlexSealedGeneration *sealed;	/* in sealed_context */
	MemoryContext sealed_context;	/* NULL until needed */
	bool		interlock;		/* VACUUM must wait for the TIDs in hand ... */
	bool		pin_leaves;		/* ... because we pin their leaf pages */
	bool		has_place;		/* ... because we entered by try_enter */
	bool		place_is_used;	/* something was read since */
	BlockNumber place_block;	/* entered for this leaf page */
	bool		is_reader;		/* ... of the memtable: because we entered */
	bool		is_outermost;	/* ... as the first scan of this backend */
	ResourceOwner place_owner;	/* of has_place and is_reader */
	bool		has_entries;	/* there may be something to let go of */
	bool		snapshot_is_mvcc;
	bool		has_killed;		/* some cursor has */
	uint64		hinted_runs;	/* see ALEX_HINTED_RUN */

	/* what is wanted */
	bool		for_bitmap;		/* TIDs only; keys in hand mean nothing */
	bool		keys_are_ready;
	bool		nulls_wanted;
	AlexIntervalList intervals;
	AlexIntervalList operand;	/* working space */
	AlexIntervalList result;
	AlexArgumentType *argument_types;

	/* where the scan is */
	AlexScanPlace place;
	bool		forward;
	int			interval;		/* number; NULLs count as one */
	AlexPart	part;			/* and the interval itself */
	uint64		low;
	uint64		high;
	bool		current_is_valid;	/* an entry of this interval */
	AlexEntry	current;
	AlexCursor *source;			/* of current */
	AlexScanMark mark;
	AlexMergeHead *heads;
	int			nheads;
	int			heads_capacity;

	/* a parallel scan's chunk; going backward, its end is its last entry */
	bool		in_chunk;
	AlexScanBound chunk_begin;
	AlexScanBound chunk_end;
	int			counted_interval;	/* in statistics: the last one */

	/* for index-only scans */
	IndexTuple	tuple;
	IndexTuple	null_tuple;
	uint32		tuples_made;
	IndexFetchTableData *heap_fetch;
	TupleTableSlot *heap_slot;

	AlexEntry  *entries;		/* a batch read from the memtable; NULL until
								 * needed */
} AlexScan;

/* Entries that two sources both delivered; see scan_merge.c. */
extern uint64 alex_duplicates_dropped;

/*
 * From now on VACUUM waits for the scan, until its entries are let go of: it
 * looks at heap tuples with a snapshot that does not tell a reused TID from
 * the old one.
 */
static inline void
alex_scan_enter(AlexScan *state)
{
	state->is_outermost = alex_readers_enter(state->index);
	state->is_reader = true;
	state->place_owner = CurrentResourceOwner;
	state->has_entries = true;
}

/*
 * The same for TIDs of a leaf page, or of ALEX_READER_ANYWHERE, unless this
 * backend is inside an index already.
 */
static inline void
alex_scan_try_enter(AlexScan *state, BlockNumber block)
{
	if (!alex_readers_try_enter(state->index, block))
		return;
	state->has_place = true;
	state->place_is_used = false;
	state->place_block = block;
	state->place_owner = CurrentResourceOwner;
}

/* The scan has done with the TIDs in hand and will read those of that page. */
static inline void
alex_scan_move(AlexScan *state, BlockNumber block)
{
	if (!state->has_place)
		return;
	if (state->place_is_used || state->place_block != block)
		alex_readers_move(block);
	state->place_is_used = true;
}

/* No TID is in hand any more that VACUUM would have to wait for. */
static inline void
alex_scan_leave(AlexScan *state)
{
	if (state->is_reader)
		alex_readers_leave(state->is_outermost);
	if (state->has_place)
		alex_readers_leave(true);
	state->is_reader = false;
	state->has_place = false;
}

/* scan.c */
extern MemoryContext alex_scan_create_scratch(AlexScan *state);
extern void alex_scan_take_view(AlexScan *state);
/* The same for counting entries: the memtable may not be loaded. */
extern void alex_scan_glance(AlexScan *state);
/* Lets go of what a scan that nobody ends must not hold until it is used next. */
extern void alex_scan_suspend(AlexScan *state);

extern void alex_scan_apply_killed(AlexScan *state);
extern bool alex_scan_memtable_entry_is_visible(AlexScan *state);
/* Makes an interval the current one. */
extern void alex_scan_load_interval(AlexScan *state, int number);
/* Counts the current interval, for statistics and for compaction. */
extern void alex_scan_count_interval(AlexScan *state);

/* Memory for support functions. */
static inline MemoryContext
alex_scan_scratch(AlexScan *state)
{
	return likely(state->scratch != NULL) ? state->scratch :
		alex_scan_create_scratch(state);
}

/* Number of intervals, of which the NULLs are one. */
static inline int
alex_scan_intervals(AlexScan *state)
{
	return state->intervals.count + (state->nulls_wanted ? 1 : 0);
}

/* Was the current entry found in the memtable? */
static inline bool
alex_scan_entry_is_of_memtable(const AlexScan *state)
{
	const AlexCursor *source = state->source;

	return source->group != NULL ?
		source->group->origins[source->at].run == 0 : source->generation != 0;
}

/* May the caller see the current entry?  Not in doubt for entries of runs. */
static inline bool
alex_scan_entry_is_wanted(AlexScan *state)
{
	return !alex_scan_entry_is_of_memtable(state) ||
		!state->scan->xs_want_itup ||
		!state->snapshot_is_mvcc || alex_scan_memtable_entry_is_visible(state);
}

/* parallel_scan.c */
extern bool alex_parallel_next(AlexScan *state);

/* scan_keys.c */
extern void alex_scan_keys_prepare(AlexScan *state);
/* The same if that is simple, as for a nested loop's inner scan; else false. */
extern bool alex_scan_keys_prepare_simple(AlexScan *state);

/* cursor.c */
extern AlexCursor *alex_cursor_create(AlexScan *state);
extern void alex_cursor_start(AlexCursor *cursor, AlexEntry bound,
							  int batch_size);
extern bool alex_cursor_fill(AlexScan *state, AlexCursor *cursor);
extern void alex_scan_run_open(AlexScan *state, AlexScanRun *run);
/* For a scan that will read a single key's interval: fetches leaf pages. */
extern void alex_scan_look_ahead(AlexScan *state);
extern void alex_scan_run_close(AlexScanRun *run);
/* The block of the leaf page on which a run's cursor will begin. */
extern BlockNumber alex_cursor_first_block(AlexScan *state,
										   AlexCursor *cursor);
extern void alex_scan_test_snapshot_slow(AlexScan *state);

/* Raises an error if the snapshot is too old, with old_snapshot_threshold. */
static inline void
alex_scan_test_snapshot(AlexScan *state)
{
	if (unlikely(OldSnapshotThresholdActive()))
		alex_scan_test_snapshot_slow(state);
}

/* The tuple of an entry of the batch is dead to all; not in recovery. */
extern void alex_cursor_kill(AlexScan *state, AlexCursor *cursor, int at);
/* Makes that known to others; before the batch in hand is let go. */
extern void alex_cursor_apply_killed(AlexScan *state, AlexCursor *cursor);

/* Moves to the cursor's next entry; false when there is none. */
static inline bool
alex_cursor_advance(AlexScan *state, AlexCursor *cursor)
{
	if (likely(cursor->left > 0))
	{
		cursor->left--;
		cursor->at += state->forward ? 1 : -1;
		return true;
	}
	return alex_cursor_fill(state, cursor);
}

/* scan_group.c */

/* Before a scan of more than one interval begins. */
extern void alex_group_reset(AlexScan *state, int batch_size);
extern int	alex_group_start(AlexScan *state, int number);
extern void alex_group_apply_killed(AlexScan *state, AlexGroup *group);

/* heap_prefetch.c */
extern void alex_heap_prefetch_begin(AlexScan *state);
extern void alex_heap_prefetch_next(AlexScan *state);
extern void alex_heap_prefetch_end(AlexScan *state);
extern void alex_heap_touch_block(Relation heap, uint64 tid);

/* The scan has moved to its current entry. */
static inline void
alex_heap_prefetch(AlexScan *state)
{
	if (likely(state->prefetch.pause > 0))
		state->prefetch.pause--;
	else
		alex_heap_prefetch_next(state);
}

/*
 * The scan is about to deliver its current entry, whose tuple will be fetched.
 * What is in shared buffers may yet be in no cache of the processor.
 */
static inline void
alex_heap_touch(AlexScan *state)
{
	BlockNumber block = ALEX_TID_BLOCK(state->current.tid);

	if (block != state->prefetch.touched_block)
	{
		state->prefetch.touched_block = block;
		if (likely(state->scan->heapRelation != NULL))
			alex_heap_touch_block(state->scan->heapRelation,
								  state->current.tid);
	}
}

/*
 * scan_bitmap.c: TIDs for a bitmap, up to a cursor's batch at a time.  They are
 * in the bitmap when the feed has ended.
 */
typedef struct AlexBitmapFeed
{
	MemoryContext context;
	TIDBitmap  *bitmap;
	uint64	   *tids;			/* gathered, then as much working space */
	int			capacity;
	int			ntids;
	uint64	   *map;			/* a bit for each offset of some blocks, or NULL */
	uint32		nblocks;		/* which has these blocks, from first_block on, */
	uint32		first_block;
	int			words;			/* and so many words for each of them */
} AlexBitmapFeed;

extern void alex_bitmap_feed_begin(AlexBitmapFeed *feed, MemoryContext context,
								   TIDBitmap *bitmap);
extern void alex_bitmap_feed_add(AlexBitmapFeed *feed, const uint64 *tids,
								 int ntids);
extern void alex_bitmap_feed_end(AlexBitmapFeed *feed);

/* scan_merge.c */
extern void alex_merge_start_single(AlexScan *state, AlexCursor *cursor);
extern void alex_merge_start(AlexScan *state, AlexEntry bound, int batch_size);
extern bool alex_merge_next(AlexScan *state);
extern void alex_merge_add_sealed(AlexScan *state, uint64 generation,
								  AlexEntry bound, int batch_size);

#endif							/* ALEX_SCAN_H */
