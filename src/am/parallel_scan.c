/*-------------------------------------------------------------------------
 *
 * parallel_scan.c
 *	  Parallel index scans and index-only scans.
 *
 * A scan is handed out in CHUNKS, stretches of the order of its entries that
 * follow each other.  What the participants share is the place at which the
 * next chunk begins.  Whoever wants one finds out from its own view where it
 * should end, so that it has about as many entries as a chunk should have, and
 * moves the place on if nobody else has done so meanwhile.  Nobody ever waits
 * for another participant.
 *
 * Each participant takes a view of its own, and that is enough.  They have one
 * MVCC snapshot, which was taken before any of these views, and a view has
 * every entry that was inserted before it was taken; so each of them has, once,
 * every entry whose row the snapshot can see.  Chunks are disjoint and together
 * are everything, since a place is an entry, or where one would be: it means
 * the same in all views, whatever has been sealed or compacted in between.  So
 * each entry that matters is delivered once, by the participant whose chunk it
 * falls into.  By what else the views differ, younger entries and those that
 * somebody found dead to all, the snapshot does not see.
 *
 * The chunks of a participant come in the scan's direction, so its entries do,
 * as Gather Merge wants it.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/parallel_scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "miscadmin.h"
#include "storage/spin.h"

#include "alex/scan.h"

/*
 * Entries of a chunk.  The first ones are small, for the sake of short scans
 * and of limits.  They double after some chunks, and again, up to 1,024: no
 * more than what a queue of tuples to the leader takes, or Gather Merge would
 * have all participants but one wait.
 */
#define FIRST_CHUNK			64
#define CHUNKS_OF_A_SIZE	4
#define DOUBLINGS			4

/* Where intervals lie far apart, so many of them make a chunk. */
#define CHUNK_INTERVALS		16

/* What the participants share. */
typedef struct AlexParallelScan
{
	slock_t		mutex;			/* protects the rest */
	uint64		nchunks;		/* handed out so far */
	AlexScanBound next;			/* where the next one begins, if nchunks > 0 */
} AlexParallelScan;

Size
alex_estimate_parallel_scan(void)
{
	return sizeof(AlexParallelScan);
}

void
alex_init_parallel_scan(void *target)
{
	AlexParallelScan *shared = target;

	SpinLockInit(&shared->mutex);
	shared->nchunks = 0;
}

static inline AlexParallelScan *
shared_scan(IndexScanDesc scan)
{
	return OffsetToPointer(scan->parallel_scan, scan->parallel_scan->ps_offset);
}

void
alex_parallel_rescan(IndexScanDesc scan)
{
	AlexParallelScan *shared = shared_scan(scan);

	SpinLockAcquire(&shared->mutex);
	shared->nchunks = 0;
	SpinLockRelease(&shared->mutex);
}

static inline bool
is_interval(AlexScan *state, int interval)
{
	return interval >= 0 && interval < alex_scan_intervals(state);
}

/* Where a scan of an interval begins; behind the last one, where all ends. */
static AlexScanBound
interval_begin(AlexScan *state, int interval)
{
	AlexScanBound bound = {interval, {0, 0}};

	if (is_interval(state, interval))
	{
		alex_scan_load_interval(state, interval);
		bound.entry.key = state->forward ? state->low : state->high;
		bound.entry.tid = state->forward ? ALEX_TID_BEFORE_ALL :
			ALEX_TID_AFTER_ALL;
	}
	return bound;
}

/* In the direction of the scan. */
static inline bool
is_before(AlexScan *state, AlexEntry entry1, AlexEntry entry2)
{
	int			order = alex_compare(entry1.key, entry1.tid,
									 entry2.key, entry2.tid);

	return state->forward ? order < 0 : order > 0;
}

/*
 * Skips "count" entries of the current part in each source, and returns the
 * nearest of the places reached; false when no source has as many.
 *
 * A generation that has been sealed meanwhile is not asked.  That may make a
 * chunk larger than intended.
 */
static bool
skip_entries(AlexScan *state, AlexEntry from, uint64 count, AlexEntry *nearest)
{
	AlexManifest *manifest = state->view.manifest;
	uint64		generations[] = {
		manifest->active.generation, manifest->frozen.generation
	};
	bool		found = false;
	AlexEntry	place = from;

	for (int i = 0; i < state->nruns; i++)
	{
		AlexScanRun *run = &state->runs[i];
		const AlexRun *listed = run->run;

		if (listed->part != state->part || listed->entries < count ||
			is_before(state, state->forward ? listed->max : listed->min, from))
			continue;
		alex_scan_run_open(state, run);
		if (alex_run_skip(&run->reader, from, state->forward,
						  state->forward ? state->high : state->low, count,
						  &place) &&
			(!found || is_before(state, place, *nearest)))
		{
			*nearest = place;
			found = true;
		}
	}

	for (int i = 0; i < lengthof(generations); i++)
	{
		if (!state->view.memtable_empty && generations[i] != 0 &&
			alex_view_skip(state->local, &state->view, generations[i],
						   state->part, from, state->forward, count, &place) &&
			(!found || is_before(state, place, *nearest)))
		{
			*nearest = place;
			found = true;
		}
	}
	return found;
}

/*
 * Finds where a chunk that begins at "begin" should end.  Few of the entries
 * skipped may be in an interval of the scan; then goes on from the next one.
 */
static AlexScanBound
choose_end(AlexScan *state, AlexScanBound begin, int64 entries)
{
	int			step = state->forward ? 1 : -1;
	int64		price = Max(entries / CHUNK_INTERVALS, 1);

	for (;;)
	{
		int			interval = begin.interval;
		AlexPart	part;
		AlexEntry	place = begin.entry;
		bool		found;

		alex_scan_load_interval(state, interval);
		part = state->part;
		found = skip_entries(state, begin.entry, entries, &place);

		/* intervals of this part that end before that place */
		do
		{
			if (found && (state->forward ? state->high >= place.key :
						  state->low <= place.key))
				break;
			interval += step;
			if (!is_interval(state, interval))
				break;
			alex_scan_load_interval(state, interval);
		} while (state->part == part);

		begin = interval_begin(state, interval);
		if (!found || !is_interval(state, interval) || state->part != part)
			return begin;
		if (!is_before(state, place, begin.entry))
		{
			begin.entry = place;
			return begin;
		}
		entries -= price;
		if (entries <= 0)
			return begin;
	}
}

/* Gets the next chunk of the scan, if there is one. */
static bool
claim_chunk(AlexScan *state)
{
	AlexParallelScan *shared = shared_scan(state->scan);
	bool		claimed = false;

	while (!claimed)
	{
		uint64		nchunks;
		AlexScanBound begin;
		AlexScanBound end;
		int64		entries;

		CHECK_FOR_INTERRUPTS();
		if (IsParallelWorker())
			ALEX_FAILPOINT("parallel-before-chunk");

		SpinLockAcquire(&shared->mutex);
		nchunks = shared->nchunks;
		begin = shared->next;
		SpinLockRelease(&shared->mutex);

		if (nchunks == 0)
			begin = interval_begin(state, state->forward ? 0 :
								   alex_scan_intervals(state) - 1);
		if (!is_interval(state, begin.interval))
			return false;
		entries = (int64) FIRST_CHUNK <<
			Min(nchunks / CHUNKS_OF_A_SIZE, DOUBLINGS);
		end = choose_end(state, begin, entries);

		SpinLockAcquire(&shared->mutex);
		if (shared->nchunks == nchunks)
		{
			shared->nchunks++;
			shared->next = end;
			claimed = true;
		}
		SpinLockRelease(&shared->mutex);
		state->chunk_begin = begin;
		state->chunk_end = end;
	}
	return true;
}

/* Starts the cursors at a place of the chunk. */
static void
start_cursors(AlexScan *state, AlexScanBound bound)
{
	int			batch_size = ALEX_LEAF_BLOCK;

	alex_scan_load_interval(state, bound.interval);
	if (state->counted_interval != bound.interval)
		alex_scan_count_interval(state);
	state->counted_interval = bound.interval;
	if (state->low == state->high)
		batch_size = ALEX_FIRST_BATCH;

	/* what is behind the chunk's end need not be read */
	if (bound.interval == state->chunk_end.interval)
	{
		if (state->forward)
			state->high = Min(state->high, state->chunk_end.entry.key);
		else
			state->low = Max(state->low, state->chunk_end.entry.key);
	}
	alex_merge_start(state, bound.entry, batch_size);
}

/*
 * Goes on with the next interval of the chunk, or with another chunk; false
 * if there is none.
 */
static bool
next_interval(AlexScan *state)
{
	int			step = state->forward ? 1 : -1;
	AlexScanBound bound;

	/* while the current interval is the one that they are of */
	if (unlikely(state->has_killed))
		alex_scan_apply_killed(state);

	if (state->in_chunk && state->interval != state->chunk_end.interval)
	{
		bound = interval_begin(state, state->interval + step);
		if (is_interval(state, bound.interval) &&
			(bound.interval != state->chunk_end.interval ||
			 is_before(state, bound.entry, state->chunk_end.entry)))
		{
			start_cursors(state, bound);
			return true;
		}
	}

	state->in_chunk = claim_chunk(state);
	if (state->in_chunk)
		start_cursors(state, state->chunk_begin);
	return state->in_chunk;
}

/* Has the scan come to an entry that is not in its chunk any more? */
static inline bool
chunk_is_over(AlexScan *state)
{
	AlexEntry	end = state->chunk_end.entry;
	int			order;

	if (likely(state->interval != state->chunk_end.interval))
		return false;
	order = alex_compare(state->current.key, state->current.tid,
						 end.key, end.tid);
	/* going backward, the place is that of the last entry */
	return state->forward ? order >= 0 : order < 0;
}

/*
 * Moves to the next entry that the caller may see, in chunks of its own.
 */
bool
alex_parallel_next(AlexScan *state)
{
	for (;;)
	{
		while (state->in_chunk && alex_merge_next(state))
		{
			if (chunk_is_over(state))
				break;
			if (alex_scan_entry_is_wanted(state))
				return true;
			CHECK_FOR_INTERRUPTS();
		}
		if (!next_interval(state))
			return false;
	}
}
