/*-------------------------------------------------------------------------
 *
 * scan_merge.c
 *	  The sources of a scan in one order.
 *
 * The sources of an interval are the runs that may hold keys of it, and the
 * generations of the memtable.  Each stands in a heap with its next entry,
 * or with a lower bound for it as long as it has not been opened: runs that
 * do not overlap are opened one after the other, when their turn comes.
 *
 * No entry is in two sources of one view.  Should that ever happen, the
 * second is dropped and counted, rather than a row returned twice.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/scan_merge.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "alex/scan.h"

uint64		alex_duplicates_dropped = 0;

static inline bool
head_is_less(const AlexMergeHead *left, const AlexMergeHead *right)
{
	return left->key < right->key ||
		(left->key == right->key && left->tid < right->tid);
}

static void
sift_down(AlexScan *state, int position)
{
	AlexMergeHead *heads = state->heads;
	AlexMergeHead head = heads[position];

	for (;;)
	{
		int			child = position * 2 + 1;

		if (child >= state->nheads)
			break;
		if (child + 1 < state->nheads &&
			head_is_less(&heads[child + 1], &heads[child]))
			child++;
		if (!head_is_less(&heads[child], &head))
			break;
		heads[position] = heads[child];
		position = child;
	}
	heads[position] = head;
}

static void
heapify(AlexScan *state)
{
	for (int i = state->nheads / 2 - 1; i >= 0; i--)
		sift_down(state, i);
}

/* Adds a source at the end; the caller restores the heap's order. */
static void
add_head(AlexScan *state, AlexCursor *cursor, AlexEntry first)
{
	uint64		mask = state->forward ? 0 : PG_UINT64_MAX;
	AlexMergeHead *head;

	if (state->nheads >= state->heads_capacity)
	{
		int			capacity = Max(state->heads_capacity * 2, 8);
		Size		size = capacity * sizeof(AlexMergeHead);

		if (state->heads == NULL)
			state->heads = MemoryContextAlloc(state->context, size);
		else
			state->heads = repalloc(state->heads, size);
		state->heads_capacity = capacity;
	}
	head = &state->heads[state->nheads++];
	head->key = first.key ^ mask;
	head->tid = first.tid ^ mask;
	head->cursor = cursor;
	head->ready = false;
}

/*
 * False when the run has nothing for the interval from "bound" on.  *first is
 * set to a place that its first such entry does not come before.
 */
static bool
run_is_wanted(AlexScan *state, AlexScanRun *run, AlexEntry bound,
			  AlexEntry *first)
{
	const AlexRun *listed = run->run;

	if (listed->part != state->part ||
		listed->min.key > state->high || listed->max.key < state->low)
		return false;
	*first = bound;
	if (state->forward)
	{
		if (alex_compare(listed->max.key, listed->max.tid,
						 bound.key, bound.tid) < 0)
			return false;
		if (alex_compare(listed->min.key, listed->min.tid,
						 bound.key, bound.tid) > 0)
			*first = listed->min;
	}
	else
	{
		if (alex_compare(listed->min.key, listed->min.tid,
						 bound.key, bound.tid) >= 0)
			return false;
		if (alex_compare(listed->max.key, listed->max.tid,
						 bound.key, bound.tid) < 0)
			*first = listed->max;
	}

	if (state->low == state->high && listed->bloom_pages > 0)
	{
		alex_scan_run_open(state, run);
		return alex_run_may_contain(&run->reader, state->low);
	}
	return true;
}

static void
add_run(AlexScan *state, AlexScanRun *run, AlexEntry bound, int batch_size)
{
	AlexEntry	first;

	if (!run_is_wanted(state, run, bound, &first))
	{
		/* a pin from the last interval is of no use any more */
		if (run->cursor != NULL)
			alex_page_close(&run->cursor->leaf);
		return;
	}
	if (run->cursor == NULL)
	{
		run->cursor = alex_cursor_create(state);
		run->cursor->run = run;
	}
	alex_cursor_start(run->cursor, bound, batch_size);
	add_head(state, run->cursor, first);
}

/*
 * The runs of a generation that was sealed since the view was taken.  They
 * may be listed as retired by now: a later compaction has taken their place.
 * Our snapshot and lock keep their pages from reuse like those of the view's
 * own runs.  None listed means that the generation had no live entries.
 */
static AlexSealedGeneration *
sealed_generation(AlexScan *state, uint64 generation)
{
	AlexSealedGeneration *sealed;
	AlexManifest *manifest;
	MemoryContext old_context;
	int			nruns = 0;

	if (state->sealed_context == NULL)
		state->sealed_context = AllocSetContextCreate(state->context,
													  "alex sealed generations",
													  ALLOCSET_SMALL_SIZES);
	old_context = MemoryContextSwitchTo(state->sealed_context);
	manifest = alex_manifest_read(state->index);
	for (int i = 0; i < manifest->nruns; i++)
		if (manifest->runs[i].generation == generation)
			nruns++;
	sealed = palloc0(offsetof(AlexSealedGeneration, runs) +
					 nruns * sizeof(AlexScanRun));
	sealed->generation = generation;
	for (int i = 0; i < manifest->nruns; i++)
		if (manifest->runs[i].generation == generation)
			sealed->runs[sealed->nruns++].run = &manifest->runs[i];
	sealed->next = state->sealed;
	state->sealed = sealed;
	MemoryContextSwitchTo(old_context);
	return sealed;
}

static AlexSealedGeneration *
find_sealed(AlexScan *state, uint64 generation)
{
	AlexSealedGeneration *sealed = state->sealed;

	while (sealed != NULL && sealed->generation != generation)
		sealed = sealed->next;
	return sealed;
}

static void
add_sealed(AlexScan *state, AlexSealedGeneration *sealed, AlexEntry bound,
		   int batch_size)
{
	for (int i = 0; i < sealed->nruns; i++)
		add_run(state, &sealed->runs[i], bound, batch_size);
}

/*
 * A cursor found its generation sealed: go on with that generation's runs.
 * Restores the heap's order.
 */
void
alex_merge_add_sealed(AlexScan *state, uint64 generation, AlexEntry bound,
					  int batch_size)
{
	AlexSealedGeneration *sealed = find_sealed(state, generation);

	if (sealed == NULL)
		sealed = sealed_generation(state, generation);
	add_sealed(state, sealed, bound, batch_size);
	heapify(state);
}

static void
add_generation(AlexScan *state, int which, uint64 generation, AlexEntry bound,
			   int batch_size)
{
	AlexSealedGeneration *sealed;
	AlexCursor *cursor;

	if (generation == 0)
		return;
	sealed = find_sealed(state, generation);
	if (sealed != NULL)
	{
		add_sealed(state, sealed, bound, batch_size);
		return;
	}
	if (state->memtable_cursors[which] == NULL)
		state->memtable_cursors[which] = alex_cursor_create(state);
	cursor = state->memtable_cursors[which];
	cursor->generation = generation;
	alex_cursor_start(cursor, bound, batch_size);
	add_head(state, cursor, bound);
}

/*
 * Chooses how VACUUM is kept from reusing TIDs that this scan has in hand.
 *
 * A scan of one mapped run says in shared memory on which of its leaf pages it
 * is.  It moves with every batch, so that VACUUM waits no longer than for a pin.
 * With several sources there would be no moment at which it has done with all
 * batches but the end; then, and where there is no mapping, leaf pages are
 * pinned.  So they are on a standby, where only pins make redo wait.
 */
static void
choose_interlock(AlexScan *state)
{
	bool		one_mapped_run = state->nheads == 1 &&
	state->heads[0].cursor->run != NULL && state->reader.mapping != NULL;

	if (state->interlock && one_mapped_run && !RecoveryInProgress())
	{
		if (!state->has_place)
			alex_scan_try_enter(state, alex_cursor_first_block(state,
															   state->heads[0].cursor));
	}
	else if (state->has_place)
	{
		state->has_place = false;
		alex_readers_leave(true);
	}
	state->pin_leaves = state->interlock && !state->has_place;
}

/* Prepares to deliver what one cursor has in hand. */
void
alex_merge_start_single(AlexScan *state, AlexCursor *cursor)
{
	AlexEntry	nowhere = {0};

	state->nheads = 0;
	state->current_is_valid = false;
	add_head(state, cursor, nowhere);
}

/*
 * Prepares to deliver the entries of the current interval from "bound" on.
 */
void
alex_merge_start(AlexScan *state, AlexEntry bound, int batch_size)
{
	AlexManifest *manifest = state->view.manifest;

	state->nheads = 0;
	state->has_entries = true;
	state->current_is_valid = false;
	for (int i = 0; i < state->nruns; i++)
		add_run(state, &state->runs[i], bound, batch_size);
	if (!state->view.memtable_empty)
	{
		add_generation(state, ALEX_ACTIVE, manifest->active.generation,
					   bound, batch_size);
		add_generation(state, ALEX_FROZEN, manifest->frozen.generation,
					   bound, batch_size);
	}
	if (state->nheads > 1)
		heapify(state);
	choose_interlock(state);
}

/*
 * Moves to the next entry of the interval, state->current, which came from
 * state->source; returns false at the end.
 */
bool
alex_merge_next(AlexScan *state)
{
	uint64		mask = state->forward ? 0 : PG_UINT64_MAX;

	/*
	 * The only source needs no comparison.  Its head, which is not looked at,
	 * stays a lower bound in case that others join.
	 */
	if (likely(state->nheads == 1))
	{
		AlexCursor *cursor = state->heads[0].cursor;

		if (likely(!state->heads[0].ready && alex_cursor_advance(state, cursor)))
		{
			state->current.key = cursor->keys[cursor->at];
			state->current.tid = cursor->tids[cursor->at];
			state->current_is_valid = true;
			state->source = cursor;
			return true;
		}
	}

	while (state->nheads > 0)
	{
		AlexMergeHead *head = &state->heads[0];
		AlexCursor *cursor = head->cursor;

		if (head->ready)
		{
			AlexEntry	entry;

			/* The cursor moves on when the caller has come back. */
			head->ready = false;
			entry.key = head->key ^ mask;
			entry.tid = head->tid ^ mask;
			if (unlikely(state->current_is_valid &&
						 alex_compare(entry.key, entry.tid, state->current.key,
									  state->current.tid) == 0))
			{
				alex_duplicates_dropped++;
				continue;
			}
			state->current = entry;
			state->current_is_valid = true;
			state->source = cursor;
			return true;
		}

		if (alex_cursor_advance(state, cursor))
		{
			head->key = cursor->keys[cursor->at] ^ mask;
			head->tid = cursor->tids[cursor->at] ^ mask;
			head->ready = true;
		}
		else
		{
			*head = state->heads[--state->nheads];
			if (cursor->sealed)
				alex_merge_add_sealed(state, cursor->generation,
									  cursor->bound, cursor->batch_size);
		}
		if (state->nheads > 1)
			sift_down(state, 0);
	}
	return false;
}
