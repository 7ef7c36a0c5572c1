/*-------------------------------------------------------------------------
 *
 * scan.c
 *	  Index scans of the alex access method.
 *
 * A scan takes its view when it is started or restarted, and reads that view
 * to its end, whatever is inserted, sealed or compacted meanwhile.  What it
 * reads is a list of intervals (scan_keys.c); for each of them the sources
 * that may have entries are merged (scan_merge.c, cursor.c).
 *
 * Entries are totally ordered and no two live ones are equal, so a place in
 * the scan is simply the entry that was delivered last.  A change of
 * direction and a restored mark start the cursors anew from there.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/parallel.h"
#include "access/tupmacs.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"

#include "alex/scan.h"

/* All of this backend that have not ended. */
static dlist_head scans = DLIST_STATIC_INIT(scans);

/*
 * Gives back what is neither memory of the scan nor known to a resource
 * owner.  Also called when the scan's memory goes after an error; must not
 * raise one, nor touch buffers.
 */
static void
release_shared(void *argument)
{
	AlexScan   *state = argument;

	dlist_delete(&state->link);
	alex_scan_leave(state);
	if (state->view.shared != NULL)
		alex_view_release(&state->view);
	if (state->incarnation != 0)
		alex_reader_end(&state->reader);
	state->incarnation = 0;
	if (state->local != NULL)
		alex_local_release(state->local);
	state->local = NULL;
}

/*
 * A resource owner lets go of its pins, and so of readers' places.  The memory of
 * a scan may outlive it: that of a cursor that has failed in a subtransaction
 * stays until the cursor is closed, and so long VACUUM must not wait for it.
 */
static void
leave_places(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
			 void *argument)
{
	dlist_iter	iter;

	if (phase != RESOURCE_RELEASE_BEFORE_LOCKS || !alex_readers_are_inside())
		return;
	dlist_foreach(iter, &scans)
	{
		AlexScan   *state = dlist_container(AlexScan, link, iter.cur);

		if (state->place_owner == CurrentResourceOwner)
			alex_scan_leave(state);
	}
}

void
alex_scan_init(void)
{
	RegisterResourceReleaseCallback(leave_places, NULL);
}

IndexScanDesc
alex_begin_scan(Relation index, int nkeys, int norderbys)
{
	IndexScanDesc scan;
	MemoryContext context;
	AlexScan   *state;

	Assert(norderbys == 0);
	alex_require_preload();

	scan = RelationGetIndexScan(index, nkeys, norderbys);
	context = AllocSetContextCreate(CurrentMemoryContext, "alex scan",
									ALLOCSET_DEFAULT_SIZES);
	state = MemoryContextAllocZero(context, sizeof(AlexScan));
	state->scan = scan;
	state->index = index;
	state->context = context;
	state->release.func = release_shared;
	state->release.arg = state;
	MemoryContextRegisterResetCallback(context, &state->release);
	dlist_push_head(&scans, &state->link);
	alex_codec_init(&state->codec, index);
	state->local = alex_local_acquire(index);
	state->place = ALEX_SCAN_OUTSIDE;

	scan->xs_itupdesc = RelationGetDescr(index);
	scan->opaque = state;
	return scan;
}

MemoryContext
alex_scan_create_scratch(AlexScan *state)
{
	state->scratch = AllocSetContextCreate(state->context, "alex scan keys",
										   ALLOCSET_SMALL_SIZES);
	return state->scratch;
}

/* Cursors are about to be started anew, or let go. */
pg_noinline void
alex_scan_apply_killed(AlexScan *state)
{
	for (int i = 0; i < state->nruns; i++)
	{
		AlexCursor *cursor = state->runs[i].cursor;

		if (cursor != NULL && cursor->has_killed)
			alex_cursor_apply_killed(state, cursor);
	}
	for (AlexSealedGeneration *sealed = state->sealed; sealed != NULL;
		 sealed = sealed->next)
	{
		for (int i = 0; i < sealed->nruns; i++)
		{
			AlexCursor *cursor = sealed->runs[i].cursor;

			if (cursor != NULL && cursor->has_killed)
				alex_cursor_apply_killed(state, cursor);
		}
	}
	for (int i = 0; i < lengthof(state->memtable_cursors); i++)
	{
		AlexCursor *cursor = state->memtable_cursors[i];

		if (cursor != NULL && cursor->has_killed)
			alex_cursor_apply_killed(state, cursor);
	}
	if (state->group != NULL && state->group->cursor.has_killed)
		alex_group_apply_killed(state, state->group);
	state->has_killed = false;
}

/* Lets go of leaf pages, and of the memtable entries in hand. */
static void
release_entries(AlexScan *state)
{
	if (!state->has_entries)
		return;
	state->has_entries = false;
	if (unlikely(state->has_killed))
		alex_scan_apply_killed(state);
	for (int i = 0; i < state->nruns; i++)
	{
		if (state->runs[i].cursor != NULL)
			alex_page_close(&state->runs[i].cursor->leaf);
	}
	for (AlexSealedGeneration *sealed = state->sealed; sealed != NULL;
		 sealed = sealed->next)
	{
		for (int i = 0; i < sealed->nruns; i++)
		{
			if (sealed->runs[i].cursor != NULL)
				alex_page_close(&sealed->runs[i].cursor->leaf);
		}
	}
	alex_scan_leave(state);
	state->nheads = 0;
}

static void
close_sealed(AlexScan *state)
{
	for (AlexSealedGeneration *sealed = state->sealed; sealed != NULL;
		 sealed = sealed->next)
	{
		for (int i = 0; i < sealed->nruns; i++)
		{
			alex_scan_run_close(&sealed->runs[i]);
			if (sealed->runs[i].cursor != NULL)
				pfree(sealed->runs[i].cursor);
		}
	}
	if (state->sealed != NULL)
		MemoryContextReset(state->sealed_context);
	state->sealed = NULL;
}

/*
 * Of a scan that lives as long as a statement's inserts: pins, also those of
 * model pages where they are not mapped, and the reader's place.
 */
void
alex_scan_suspend(AlexScan *state)
{
	if (unlikely(state->sealed != NULL))
		close_sealed(state);
	release_entries(state);
	for (int i = 0; i < state->nruns; i++)
	{
		AlexScanRun *run = &state->runs[i];

		if (run->opened && run->reader.source.first_page == NULL)
			alex_scan_run_close(run);
	}
}

static void
close_runs(AlexScan *state)
{
	for (int i = 0; i < state->nruns; i++)
	{
		alex_scan_run_close(&state->runs[i]);
		state->runs[i].run = NULL;
	}
	state->nruns = 0;
}

/*
 * Makes the list of runs of a view that is not the last one's.  Cursors are
 * kept for other runs to use.
 */
static void
list_runs(AlexScan *state)
{
	AlexManifest *manifest = state->view.manifest;

	if (manifest->nruns > state->runs_capacity)
	{
		Size		size = manifest->nruns * sizeof(AlexScanRun);
		Size		old_size = state->runs_capacity * sizeof(AlexScanRun);

		if (state->runs == NULL)
			state->runs = MemoryContextAlloc(state->context, size);
		else
			state->runs = repalloc(state->runs, size);
		memset((char *) state->runs + old_size, 0, size - old_size);
		state->runs_capacity = manifest->nruns;
		for (int i = 0; i < state->runs_capacity; i++)
		{
			if (state->runs[i].cursor != NULL)
				state->runs[i].cursor->run = &state->runs[i];
		}
	}
	for (int i = 0; i < manifest->nruns; i++)
	{
		if ((manifest->runs[i].flags & ALEX_RUN_RETIRED) == 0)
			state->runs[state->nruns++].run = &manifest->runs[i];
	}
}

/* Makes a view ready to be read. */
static void
open_view(AlexScan *state)
{
	close_runs(state);
	if (state->incarnation != state->view.manifest->incarnation)
	{
		if (state->incarnation != 0)
			alex_reader_end(&state->reader);
		state->incarnation = 0;
		alex_reader_init(&state->reader, state->index,
						 state->view.manifest->incarnation);
		state->incarnation = state->view.manifest->incarnation;
	}
	list_runs(state);
}

/* Which runs have hints that the scan may heed? */
static inline void
note_hints(AlexScan *state)
{
	state->hinted_runs = state->scan->ignore_killed_tuples ?
		alex_local_hinted_runs(state->local) : 0;
}

/*
 * Takes a fresh view.  Runs stay open as long as the manifest is the same;
 * this is the hot path of a nested loop's inner scan.
 */
void
alex_scan_take_view(AlexScan *state)
{
	AlexSharedManifest *old = state->view.shared;
	AlexView	view = {0};

	if (likely(alex_view_renew(state->local, &state->view)))
	{
		note_hints(state);
		return;
	}

	/* The new one first: then a freed manifest's address cannot come back. */
	alex_view_take(state->local, state->index, &view);
	note_hints(state);
	if (old != NULL)
		alex_view_release(&state->view);
	state->view = view;
	if (unlikely(view.shared != old))
		open_view(state);
}

/* For a scan that is never started. */
void
alex_scan_glance(AlexScan *state)
{
	alex_view_glance(state->local, state->index, &state->view);
	open_view(state);
}

void
alex_rescan(IndexScanDesc scan, ScanKey keys, int nkeys,
			ScanKey orderbys, int norderbys)
{
	AlexScan   *state = scan->opaque;

	if (IsParallelWorker())
		ALEX_FAILPOINT("parallel-before-view");
	release_entries(state);
	if (unlikely(state->sealed != NULL))
		close_sealed(state);
	if (state->heap_fetch != NULL)
		table_index_fetch_reset(state->heap_fetch);
	state->place = ALEX_SCAN_OUTSIDE;
	state->mark.valid = false;
	if (keys != NULL && scan->numberOfKeys > 0)
		memmove(scan->keyData, keys, scan->numberOfKeys * sizeof(ScanKeyData));
	state->keys_are_ready = false;

	/* the scan must find what its own transaction has inserted (H5) */
	if (unlikely(alex_pending_total > 0))
		alex_pending_flush_for_scan(state->index, scan->xs_snapshot);

	/*
	 * The view may contain a copy of the log.  VACUUM must wait for whoever
	 * may take TIDs out of a copy that was made before it came.
	 */
	if (unlikely(!IsMVCCSnapshot(scan->xs_snapshot)))
		alex_scan_enter(state);
	alex_scan_take_view(state);
	if (alex_scan_keys_prepare_simple(state))
		alex_scan_look_ahead(state);
}

void
alex_end_scan(IndexScanDesc scan)
{
	AlexScan   *state = scan->opaque;

	release_entries(state);
	close_sealed(state);
	close_runs(state);
	alex_heap_prefetch_end(state);
	if (state->heap_slot != NULL)
		ExecDropSingleTupleTableSlot(state->heap_slot);
	if (state->heap_fetch != NULL)
		table_index_fetch_end(state->heap_fetch);
	MemoryContextDelete(state->context);
	scan->opaque = NULL;
}

void
alex_scan_load_interval(AlexScan *state, int number)
{
	int			nulls = state->codec.nulls_first ? 0 : state->intervals.count;

	state->interval = number;
	if (state->nulls_wanted && number == nulls)
	{
		state->part = ALEX_PART_NULLS;
		state->low = state->high = 0;
		return;
	}
	if (state->nulls_wanted && number > nulls)
		number--;
	state->part = ALEX_PART_VALUES;
	state->low = state->intervals.items[number].low;
	state->high = state->intervals.items[number].high;
}

void
alex_scan_count_interval(AlexScan *state)
{
	pgstat_count_index_scan(state->index);
	if (state->low != state->high)
		alex_count_range_scan(state->local);
}

/*
 * Starts a group of intervals of single keys, or the cursors at the beginning
 * of one interval, in state->forward.
 */
static void
start_interval(AlexScan *state, int number, int batch_size)
{
	AlexEntry	bound;

	if (unlikely(state->has_killed))
		alex_scan_apply_killed(state);
	if (state->intervals.count > 1)
	{
		int			started = alex_group_start(state, number);

		if (started > 0)
		{
			alex_scan_load_interval(state, state->forward ?
									number + started - 1 : number - started + 1);
			for (int i = 0; i < started; i++)
				pgstat_count_index_scan(state->index);
			return;
		}
	}
	alex_scan_load_interval(state, number);
	alex_scan_count_interval(state);
	bound.key = state->forward ? state->low : state->high;
	bound.tid = state->forward ? ALEX_TID_BEFORE_ALL : ALEX_TID_AFTER_ALL;
	alex_merge_start(state, bound, batch_size);
}

/*
 * Begins the scan at one of its ends.  Returns false when no entry can
 * match.
 */
static bool
start_scan(AlexScan *state, bool forward, int batch_size)
{
	IndexScanDesc scan = state->scan;

	if (!state->keys_are_ready)
		alex_scan_keys_prepare(state);
	alex_scan_test_snapshot(state);
	state->snapshot_is_mvcc = IsMVCCSnapshot(scan->xs_snapshot);
	state->interlock = scan->xs_want_itup || !state->snapshot_is_mvcc;
	state->forward = forward;
	if (alex_scan_intervals(state) == 0)
	{
		pgstat_count_index_scan(state->index);
		return false;
	}
	if (scan->parallel_scan != NULL)
	{
		state->in_chunk = false;
		state->counted_interval = -1;
		return true;
	}
	if (state->intervals.count > 1)
		alex_group_reset(state, batch_size);
	start_interval(state, forward ? 0 : alex_scan_intervals(state) - 1, batch_size);
	return true;
}

/*
 * The interval that the current entry belongs to.  While a group is read,
 * state->interval is the last one of the group.
 */
static int
current_interval(AlexScan *state)
{
	const AlexInterval *items = state->intervals.items;
	int			low = 0;
	int			high = state->intervals.count - 1;

	if (state->nulls_wanted)
		return state->interval;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (items[middle].high < state->current.key)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Starts the cursors right after the current entry, in a direction. */
static void
continue_scan(AlexScan *state, bool forward)
{
	AlexEntry	bound = state->current;

	Assert(state->scan->parallel_scan == NULL);
	if (unlikely(state->has_killed))
		alex_scan_apply_killed(state);
	state->forward = forward;
	if (forward)
		bound.tid++;
	alex_scan_load_interval(state, current_interval(state));
	alex_merge_start(state, bound, ALEX_FIRST_BATCH);
}

/* The tuple of the current entry, on which its cursor stands, is dead. */
static pg_noinline void
kill_current(AlexScan *state)
{
	AlexCursor *cursor = state->source;

	Assert(cursor->keys[cursor->at] == state->current.key &&
		   cursor->tids[cursor->at] == state->current.tid);
	alex_cursor_kill(state, cursor, cursor->at);
}

/*
 * Is the tuple of a memtable entry visible to the scan?
 *
 * An index-only scan's caller trusts the visibility map, and nothing keeps
 * VACUUM from removing a memtable entry and its heap tuple before the caller
 * looks there.  So it gets only entries whose tuple its snapshot sees: these
 * VACUUM cannot remove.
 */
bool
alex_scan_memtable_entry_is_visible(AlexScan *state)
{
	IndexScanDesc scan = state->scan;
	ItemPointerData tid;
	bool		call_again = false;
	bool		all_dead = false;
	bool		found;

	if (state->heap_slot == NULL)
	{
		MemoryContext old_context = MemoryContextSwitchTo(state->context);

		state->heap_fetch = table_index_fetch_begin(scan->heapRelation);
		state->heap_slot = table_slot_create(scan->heapRelation, NULL);
		MemoryContextSwitchTo(old_context);
	}
	ItemPointerSet(&tid, ALEX_TID_BLOCK(state->current.tid),
				   ALEX_TID_OFFSET(state->current.tid));
	found = table_index_fetch_tuple(state->heap_fetch, &tid,
									scan->xs_snapshot, state->heap_slot,
									&call_again, &all_dead);
	ExecClearTuple(state->heap_slot);
	if (all_dead && !scan->xactStartedInRecovery)
		kill_current(state);
	return found;
}

/*
 * Makes the index tuple of the current entry.  Types that have a value
 * function are of fixed length, so all tuples but that of a NULL look alike.
 */
static IndexTuple
index_tuple(AlexScan *state)
{
	const AlexCodec *codec = &state->codec;
	Size		size = MAXALIGN(sizeof(IndexTupleData)) + codec->typlen;
	MemoryContext old_context;
	char	   *data;
	Datum		value;

	if (state->part == ALEX_PART_NULLS)
	{
		if (state->null_tuple == NULL)
		{
			bool		is_null = true;

			value = (Datum) 0;
			old_context = MemoryContextSwitchTo(state->context);
			state->null_tuple = index_form_tuple(RelationGetDescr(state->index),
												 &value, &is_null);
			MemoryContextSwitchTo(old_context);
		}
		return state->null_tuple;
	}

	if (state->tuple == NULL)
	{
		Assert(codec->value != NULL && codec->typlen > 0);
		state->tuple = MemoryContextAllocZero(state->context, MAXALIGN(size));
		state->tuple->t_info = MAXALIGN(size);
	}
	data = (char *) state->tuple + MAXALIGN(sizeof(IndexTupleData));
	if (codec->value_is_lane)
	{
		store_att_byval(data,
						Int64GetDatum(alex_codec_load(codec, state->current.key)),
						sizeof(int64));
		return state->tuple;
	}
	old_context = MemoryContextSwitchTo(alex_scan_scratch(state));
	value = FunctionCall1Coll(codec->value, codec->collation,
							  Int64GetDatum(alex_codec_load(codec, state->current.key)));
	MemoryContextSwitchTo(old_context);
	if (codec->typbyval)
		store_att_byval(data, value, codec->typlen);
	else
		memcpy(data, DatumGetPointer(value), codec->typlen);
	/* what a value function may leave behind can wait */
	if ((++state->tuples_made & 0xFF) == 0)
		MemoryContextReset(state->scratch);
	return state->tuple;
}

/*
 * Moves to the next entry in state->forward that the caller may see.
 */
static bool
next_entry(AlexScan *state)
{
	for (;;)
	{
		while (alex_merge_next(state))
		{
			if (alex_scan_entry_is_wanted(state))
				return true;
			CHECK_FOR_INTERRUPTS();
		}
		if (state->forward)
		{
			if (state->interval + 1 >= alex_scan_intervals(state))
				return false;
			start_interval(state, state->interval + 1, ALEX_FIRST_BATCH);
		}
		else
		{
			if (state->interval == 0)
				return false;
			start_interval(state, state->interval - 1, ALEX_FIRST_BATCH);
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/* Of a damaged page whose hash was not looked at; core relies on valid ones. */
static void pg_attribute_noreturn()
report_invalid_tid(AlexScan *state)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" has an entry with an invalid tuple identifier",
					RelationGetRelationName(state->index)),
			 errhint("Please REINDEX it.")));
}

bool
alex_get_tuple(IndexScanDesc scan, ScanDirection direction)
{
	AlexScan   *state = scan->opaque;
	bool		forward = ScanDirectionIsForward(direction);

	scan->xs_recheck = false;	/* lanes are exact */

	/* never set in transactions that began in recovery */
	if (unlikely(scan->kill_prior_tuple) && state->place == ALEX_SCAN_INSIDE)
		kill_current(state);

	if (state->place == ALEX_SCAN_OUTSIDE)
	{
		if (!start_scan(state, forward, ALEX_FIRST_BATCH))
			return false;
		alex_heap_prefetch_begin(state);
	}
	else if (state->place == ALEX_SCAN_RESTORED || state->forward != forward)
		continue_scan(state, forward);

	if (!(unlikely(scan->parallel_scan != NULL) ? alex_parallel_next(state) :
		  next_entry(state)))
	{
		state->place = ALEX_SCAN_OUTSIDE;
		release_entries(state);
		return false;
	}
	state->place = ALEX_SCAN_INSIDE;
	if (unlikely(ALEX_TID_OFFSET(state->current.tid) == InvalidOffsetNumber))
		report_invalid_tid(state);
	alex_heap_prefetch(state);
	ItemPointerSet(&scan->xs_heaptid, ALEX_TID_BLOCK(state->current.tid),
				   ALEX_TID_OFFSET(state->current.tid));
	if (scan->xs_want_itup)
		scan->xs_itup = index_tuple(state);
	else
		alex_heap_touch(state);
	return true;
}

/* Adds what is left of a cursor to a bitmap. */
static int64
drain_cursor(AlexScan *state, AlexCursor *cursor, AlexBitmapFeed *feed)
{
	int64		ntids = 0;

	while (alex_cursor_advance(state, cursor))
	{
		int			count = cursor->left + 1;

		alex_bitmap_feed_add(feed, cursor->tids + cursor->at, count);
		cursor->left = 0;
		ntids += count;
		CHECK_FOR_INTERRUPTS();
	}
	return ntids;
}

/*
 * A bitmap has its own order, so sources need not be merged: the heads serve
 * as a list of them.
 */
int64
alex_get_bitmap(IndexScanDesc scan, TIDBitmap *bitmap)
{
	AlexScan   *state = scan->opaque;
	AlexBitmapFeed feed;
	int64		ntids = 0;
	bool		more;

	state->for_bitmap = true;
	more = start_scan(state, true, ALEX_LEAF_BLOCK);
	alex_bitmap_feed_begin(&feed, state->context, bitmap);
	while (more)
	{
		while (state->nheads > 0)
		{
			AlexCursor *cursor = state->heads[--state->nheads].cursor;

			ntids += drain_cursor(state, cursor, &feed);
			if (cursor->sealed)
				alex_merge_add_sealed(state, cursor->generation,
									  cursor->bound, ALEX_LEAF_BLOCK);
		}
		CHECK_FOR_INTERRUPTS();
		more = state->interval + 1 < alex_scan_intervals(state);
		if (more)
			start_interval(state, state->interval + 1, ALEX_LEAF_BLOCK);
	}
	alex_bitmap_feed_end(&feed);
	release_entries(state);
	return ntids;
}

void
alex_mark_position(IndexScanDesc scan)
{
	AlexScan   *state = scan->opaque;

	state->mark.valid = (state->place != ALEX_SCAN_OUTSIDE);
	state->mark.interval = state->interval;
	state->mark.current = state->current;
}

void
alex_restore_position(IndexScanDesc scan)
{
	AlexScan   *state = scan->opaque;

	if (!state->mark.valid)
	{
		state->place = ALEX_SCAN_OUTSIDE;
		release_entries(state);
		return;
	}
	state->place = ALEX_SCAN_RESTORED;
	state->interval = state->mark.interval;
	state->current = state->mark.current;
}

/*
 * An index-only scan must give back the very value that was indexed, and
 * writes it into an index tuple of constant size.
 */
bool
alex_can_return(Relation index, int attribute)
{
	return attribute == 1 &&
		TupleDescAttr(RelationGetDescr(index), 0)->attlen > 0 &&
		RegProcedureIsValid(index_getprocid(index, 1, ALEX_VALUE_PROC));
}
