/*-------------------------------------------------------------------------
 *
 * cursor.c
 *	  Cursors of a scan: over a run, and over a generation of the memtable.
 *
 * Both kinds read a batch at a time.  The first batch is small, because
 * most probes want one entry; later ones grow, because unpacking many
 * entries at once is far cheaper for each of them.
 *
 * A cursor moves off its leaf page only when its caller has come back for
 * the entry after the last one of the batch.  Where leaf pages are pinned,
 * the page of the entry that the executor is looking at therefore is, which
 * keeps VACUUM from removing the heap tuple meanwhile.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/cursor.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/memutils.h"

#include "alex/scan.h"

AlexCursor *
alex_cursor_create(AlexScan *state)
{
	AlexCursor *cursor = MemoryContextAlloc(state->context,
											sizeof(AlexCursor));

	memset(cursor, 0, offsetof(AlexCursor, keys));
	return cursor;
}

/*
 * Makes the cursor begin at "bound".  A leaf page in hand is kept, for the
 * next interval may well be on it, too.
 */
void
alex_cursor_start(AlexCursor *cursor, AlexEntry bound, int batch_size)
{
	Assert(!cursor->has_killed);
	cursor->bound = bound;
	cursor->opened = false;
	cursor->finished = false;
	cursor->sealed = false;
	cursor->batch_size = batch_size;
	cursor->left = 0;
}

void
alex_scan_run_open(AlexScan *state, AlexScanRun *run)
{
	if (run->opened)
		return;
	alex_run_open(&run->reader, &state->reader, run->run);
	run->opened = true;
}

void
alex_scan_run_close(AlexScanRun *run)
{
	if (run->cursor != NULL)
		alex_page_close(&run->cursor->leaf);
	if (run->opened)
		alex_run_close(&run->reader);
	run->opened = false;
	run->leaf_is_known = false;
}

/*
 * What a vacuum or a compaction took out of the log, or out of the manifest
 * together with its page, left no page behind that this scan would come
 * across, but they did change the metapage.
 */
void
alex_scan_test_snapshot_slow(AlexScan *state)
{
	Buffer		buffer;

	buffer = ReadBuffer(state->index, ALEX_META_BLOCK);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	TestForOldSnapshot(state->scan->xs_snapshot, state->index,
					   BufferGetPage(buffer));
	UnlockReleaseBuffer(buffer);
}

static void
open_leaf(AlexScan *state, AlexCursor *cursor, uint32 number,
		  const AlexFence *fence)
{
	alex_scan_move(state, fence->block);
	alex_page_open(&state->reader, fence->block, fence->stamp, ALEX_PAGE_LEAF,
				   cursor->run->run->id, state->pin_leaves, &cursor->leaf);
	TestForOldSnapshot(state->scan->xs_snapshot, state->index,
					   (Page) cursor->leaf.page);
	cursor->leaf_block = fence->block;
	cursor->leaf_number = number;
	cursor->leaf_entries = alex_leaf_count(cursor->leaf.page);
}

/* Looks up the leaf page of an opened run to begin with, and asks for it. */
static inline void
find_leaf(AlexScan *state, AlexScanRun *run, AlexEntry bound)
{
	run->leaf_number = alex_run_find(&run->reader, bound.key, bound.tid);
	alex_run_place(&run->reader, run->leaf_number, &run->leaf_fence);
	if (!state->pin_leaves)
		alex_run_prefetch(&run->reader, run->leaf_number, &run->leaf_fence,
						  bound.key);
	run->leaf_bound = bound;
	run->leaf_is_known = true;
}

/* Opens a run, if need be, and looks up where a cursor over it begins. */
static inline void
find_first_leaf(AlexScan *state, AlexCursor *cursor)
{
	AlexScanRun *run = cursor->run;

	alex_scan_run_open(state, run);
	if (!run->leaf_is_known ||
		alex_compare(run->leaf_bound.key, run->leaf_bound.tid,
					 cursor->bound.key, cursor->bound.tid) != 0)
		find_leaf(state, run, cursor->bound);
}

BlockNumber
alex_cursor_first_block(AlexScan *state, AlexCursor *cursor)
{
	find_first_leaf(state, cursor);
	return cursor->run->leaf_fence.block;
}

/*
 * The scan was restarted, with keys_are_ready, as happens to the inner scan of
 * a nested loop for each row of the outer one.  Then the leaf pages are looked
 * up at once, so that what a search will touch there is on its way while the
 * executor comes back to read, and while the scan gets ready for it.
 *
 * No leaf page is read here: that must not happen before the interlock with
 * VACUUM is there.  Only the run's model is, which never changes.
 */
void
alex_scan_look_ahead(AlexScan *state)
{
	const AlexInterval *interval = state->intervals.items;
	AlexEntry	bound;

	if (state->intervals.count != 1 || interval->low != interval->high)
		return;
	bound.key = interval->low;
	bound.tid = ALEX_TID_BEFORE_ALL;
	for (int i = 0; i < state->nruns; i++)
	{
		AlexScanRun *run = &state->runs[i];

		/* where a filter will be asked first, most keys are not in the run */
		if (run->opened && run->reader.source.first_page != NULL &&
			run->run->part == ALEX_PART_VALUES &&
			run->run->bloom_pages == 0 &&
			run->run->min.key <= bound.key && run->run->max.key >= bound.key)
			find_leaf(state, run, bound);
	}
}

/*
 * The scan is about to open a leaf page further along the run.  Pinned pages
 * are read through the buffer manager, which may have them.
 */
static inline void
read_ahead(AlexScan *state, AlexCursor *cursor, uint32 number)
{
	if (!state->pin_leaves)
		alex_run_read_ahead(&cursor->run->reader, number, state->forward,
							state->forward ? state->high : state->low);
}

/*
 * Opens the cursor's run at its bound.  That may turn out to lie at an edge
 * of the leaf, with nothing to deliver from it.
 */
static void
open_run(AlexScan *state, AlexCursor *cursor)
{
	AlexScanRun *run = cursor->run;
	AlexEntry	bound = cursor->bound;

	find_first_leaf(state, cursor);
	if (state->in_chunk)
		read_ahead(state, cursor, run->leaf_number);
	else
		alex_run_begin_at(&run->reader, run->leaf_number);
	open_leaf(state, cursor, run->leaf_number, &run->leaf_fence);
	cursor->leaf_edge = alex_leaf_search_shape(cursor->leaf.page, bound.key,
											   bound.tid, &run->reader.shape);
	cursor->opened = true;
}

/*
 * The scan has come to a leaf page from the one beside it and may well go on
 * to the next: asks for the lines there that it will touch first.  Processors
 * do not fetch ahead across pages by themselves.
 */
static void
prefetch_leaf(AlexScan *state, AlexCursor *cursor)
{
	AlexRunReader *reader = &cursor->run->reader;
	uint32		number = cursor->leaf_number + (state->forward ? 1 : -1);
	AlexFence	fence;
	AlexFence	beside;

	if (state->pin_leaves || number >= cursor->run->run->leaf_pages)
		return;
	alex_run_fence(reader, number, &fence);
	if (state->forward)
	{
		if (fence.key <= state->high)
			alex_run_prefetch(reader, number, &fence, fence.key);
		return;
	}
	/* its last entries come right before the page in hand */
	alex_run_fence(reader, cursor->leaf_number, &beside);
	if (beside.key > state->low)
		alex_run_prefetch(reader, number, &fence, beside.key - 1);
}

/* False when there is no further leaf in the interval. */
static bool
next_leaf(AlexScan *state, AlexCursor *cursor)
{
	AlexScanRun *run = cursor->run;
	AlexFence	fence;

	if (state->forward)
	{
		if (cursor->leaf_number + 1 >= run->run->leaf_pages)
			return false;
		alex_run_fence(&run->reader, cursor->leaf_number + 1, &fence);
		if (fence.key > state->high)
			return false;
		read_ahead(state, cursor, cursor->leaf_number + 1);
		open_leaf(state, cursor, cursor->leaf_number + 1, &fence);
		cursor->leaf_edge = 0;
	}
	else
	{
		if (cursor->leaf_number == 0)
			return false;
		alex_run_fence(&run->reader, cursor->leaf_number - 1, &fence);
		read_ahead(state, cursor, cursor->leaf_number - 1);
		open_leaf(state, cursor, cursor->leaf_number - 1, &fence);
		cursor->leaf_edge = cursor->leaf_entries;
	}
	prefetch_leaf(state, cursor);
	return true;
}

/* May some of the run's entries be hinted as dead? */
static inline bool
has_hints(AlexScan *state, AlexCursor *cursor)
{
	return unlikely(state->hinted_runs != 0) &&
		(state->hinted_runs & ALEX_HINTED_RUN(cursor->run->run->id)) != 0;
}

/*
 * Goes to the next entry of the leaf page that is not hinted as dead: long
 * stretches of such entries cost next to nothing.  False when there is none.
 */
static pg_noinline bool
skip_hinted(AlexScan *state, AlexCursor *cursor)
{
	uint64		stamp = alex_page_header(cursor->leaf.page)->stamp;

	if (state->forward)
	{
		cursor->leaf_edge = alex_hints_skip_forward(state->index, stamp,
													cursor->leaf_edge,
													cursor->leaf_entries);
		return cursor->leaf_edge < cursor->leaf_entries;
	}
	cursor->leaf_edge = alex_hints_skip_backward(state->index, stamp,
												 cursor->leaf_edge);
	return cursor->leaf_edge > 0;
}

/* Is all of the leaf page from the batch on in the interval?  Forward only. */
static bool
rest_is_wanted(AlexScan *state, AlexCursor *cursor)
{
	AlexScanRun *run = cursor->run;
	AlexFence	next;

	if (cursor->leaf_number + 1 >= run->run->leaf_pages)
		return run->run->max.key <= state->high;
	alex_run_fence(&run->reader, cursor->leaf_number + 1, &next);
	return next.key <= state->high;
}

/*
 * Unpacks the keys of the next entries of a run and returns their number.
 * Sets finished when there are none.
 *
 * A bitmap needs keys to see where the interval ends, and no others.
 *
 * The caller has come back for the entry after the last one that we gave it,
 * so nothing in hand needs VACUUM to wait; what is read from here on does.
 */
static int
load_from_run(AlexScan *state, AlexCursor *cursor)
{
	int			first;
	int			count;

	if (cursor->opened)
		alex_scan_move(state, cursor->leaf_block);
	else
		open_run(state, cursor);
	while (cursor->leaf_edge == (state->forward ? cursor->leaf_entries : 0) ||
		   (has_hints(state, cursor) && !skip_hinted(state, cursor)))
	{
		CHECK_FOR_INTERRUPTS();
		if (!next_leaf(state, cursor))
		{
			cursor->finished = true;
			return 0;
		}
	}

	if (state->forward)
	{
		first = cursor->leaf_edge;
		count = Min(cursor->leaf_entries - first, cursor->batch_size);
		cursor->leaf_edge = first + count;
	}
	else
	{
		count = Min(cursor->leaf_edge, cursor->batch_size);
		first = cursor->leaf_edge - count;
		cursor->leaf_edge = first;
	}
	if (unlikely(state->for_bitmap) && rest_is_wanted(state, cursor))
		cursor->keys[count - 1] = state->high;
	else
		alex_leaf_unpack(cursor->leaf.page, first, count, cursor->keys, NULL);
	cursor->first_slot = first;
	cursor->has_gaps = false;
	return count;
}

/*
 * Reads the next entries of a memtable generation, likewise.  When it has
 * been sealed, sets sealed, too.
 *
 * Nothing pins a memtable entry.  Whoever looks at heap tuples with a
 * snapshot that does not tell a reused TID from the old one announces it.
 */
static int
load_from_memtable(AlexScan *state, AlexCursor *cursor)
{
	AlexEntry  *entries;
	int			count;

	if (unlikely(state->entries == NULL))
		state->entries = MemoryContextAlloc(state->context,
											ALEX_LEAF_BLOCK * sizeof(AlexEntry));
	entries = state->entries;
	if (!state->snapshot_is_mvcc && !state->is_reader)
		alex_scan_enter(state);
	count = alex_view_read(state->local, state->index, &state->view,
						   cursor->generation, state->part, cursor->bound,
						   state->forward, state->forward,
						   entries, cursor->batch_size, &cursor->moment);
	if (count < 0)
	{
		cursor->sealed = true;
		cursor->finished = true;
		return 0;
	}
	alex_scan_test_snapshot(state);
	if (count < cursor->batch_size)
		cursor->finished = true;
	for (int i = 0; i < count; i++)
	{
		int			at = state->forward ? i : count - 1 - i;

		cursor->keys[at] = entries[i].key;
		cursor->tids[at] = entries[i].tid;
	}
	if (count > 0)
	{
		cursor->bound = entries[count - 1];
		if (state->forward)
			cursor->bound.tid++;
	}
	return count;
}

/* How many of the sorted keys are less than, or (inclusive) equal to, key. */
static int
count_keys(const uint64 *keys, int count, uint64 key, bool inclusive)
{
	int			low = 0;

	while (count > 0)
	{
		int			half = count / 2;

		if (keys[low + half] < key || (inclusive && keys[low + half] == key))
		{
			low += half + 1;
			count -= half + 1;
		}
		else
			count = half;
	}
	return low;
}

/*
 * Closes the gaps that dead entries leave in [begin, *end) of the batch, and
 * those that are hinted as dead.
 */
static void
drop_dead(AlexScan *state, AlexCursor *cursor, int begin, int *end)
{
	const char *page = cursor->leaf.page;
	bool		any_dead = alex_leaf_dead_count(page) > 0;
	uint64		hinted[ALEX_LEAF_BLOCK / 64] = {0};
	bool		any_hinted = has_hints(state, cursor) &&
		alex_hints_get(state->index, alex_page_header(page)->stamp,
					   cursor->first_slot, *end, hinted);
	int			live = begin;

	if (!any_dead && !any_hinted)
		return;
	for (int i = begin; i < *end; i++)
	{
		if ((hinted[i / 64] >> (i % 64) & 1) != 0 ||
			(any_dead && alex_leaf_is_dead(page, cursor->first_slot + i)))
			continue;
		cursor->keys[live] = cursor->keys[i];
		cursor->tids[live] = cursor->tids[i];
		cursor->slots[live] = i;
		live++;
	}
	cursor->has_gaps = true;
	*end = live;
}

void
alex_cursor_kill(AlexScan *state, AlexCursor *cursor, int at)
{
	cursor->killed[at / 64] |= UINT64CONST(1) << (at % 64);
	cursor->has_killed = true;
	state->has_killed = true;
}

void
alex_cursor_apply_killed(AlexScan *state, AlexCursor *cursor)
{
	uint16		slots[ALEX_LEAF_BLOCK];
	AlexEntry	entries[ALEX_LEAF_BLOCK];
	int			n = 0;

	if (cursor->group != NULL)
	{
		alex_group_apply_killed(state, cursor->group);
		return;
	}
	for (int i = 0; i < ALEX_LEAF_BLOCK; i++)
	{
		if ((cursor->killed[i / 64] >> (i % 64) & 1) == 0)
			continue;
		slots[n] = cursor->first_slot + (cursor->has_gaps ? cursor->slots[i] : i);
		entries[n].key = cursor->keys[i];
		entries[n].tid = cursor->tids[i];
		n++;
	}
	memset(cursor->killed, 0, sizeof(cursor->killed));
	cursor->has_killed = false;

	if (cursor->run != NULL)
		alex_hints_set(state->index, state->local, cursor->run->run->id,
					   alex_page_header(cursor->leaf.page)->stamp, slots, n);
	else
		alex_hints_delete(state->local, cursor->generation, state->part,
						  &cursor->moment, entries, n);
}

/*
 * Loads the next batch that has a live entry in the interval and moves to its
 * first entry.  Returns false, holding no page any more, if there is none.
 */
bool
alex_cursor_fill(AlexScan *state, AlexCursor *cursor)
{
	if (unlikely(cursor->has_killed))
		alex_cursor_apply_killed(state, cursor);

	while (!cursor->finished)
	{
		int			begin = 0;
		int			end;

		if (cursor->run != NULL)
			end = load_from_run(state, cursor);
		else
			end = load_from_memtable(state, cursor);
		if (end == 0)
			break;
		if (cursor->batch_size < ALEX_LEAF_BLOCK)
			cursor->batch_size = Min(cursor->batch_size * ALEX_BATCH_GROWTH,
									 ALEX_LEAF_BLOCK);

		if (state->forward && cursor->keys[end - 1] > state->high)
		{
			end = count_keys(cursor->keys, end, state->high, true);
			cursor->finished = true;
		}
		else if (!state->forward && cursor->keys[0] < state->low)
		{
			begin = count_keys(cursor->keys, end, state->low, false);
			cursor->finished = true;
		}
		/* TIDs are elsewhere on the page: read those that are wanted */
		if (cursor->run != NULL && begin < end)
		{
			alex_leaf_unpack(cursor->leaf.page, cursor->first_slot + begin,
							 end - begin, NULL, cursor->tids + begin);
			if (alex_leaf_dead_count(cursor->leaf.page) > 0 ||
				has_hints(state, cursor))
				drop_dead(state, cursor, begin, &end);
		}

		if (begin < end)
		{
			cursor->at = state->forward ? begin : end - 1;
			cursor->left = end - begin - 1;
			cursor->prefetched = cursor->left;
			return true;
		}
		CHECK_FOR_INTERRUPTS();
	}
	cursor->finished = true;
	alex_page_close(&cursor->leaf);
	return false;
}
