/*-------------------------------------------------------------------------
 *
 * heap_prefetch.c
 *	  Heap blocks of the coming TIDs, asked for ahead of time.
 *
 * An index scan whose keys are not in the heap's order waits for a read at
 * each row that is not cached.  The cursor has a batch of TIDs in hand, so
 * the operating system can be told of those that come next, as bitmap heap
 * scans do.  How far ahead is what effective_io_concurrency, or the setting of
 * the table's tablespace, allows.
 *
 * Scans that end early, as with LIMIT, should not read what nobody wants: so
 * the distance begins at nothing and grows with the rows that were delivered.
 * Blocks that follow each other are left to the operating system's readahead.
 * Looking for blocks that turn out to be in shared buffers is time lost: where
 * most are, the scan stops looking for a while, and for longer each time.
 *
 * No buffer is pinned, so there is nothing to let go of.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/heap_prefetch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/spccache.h"

#include "alex/scan.h"

/* Rows that a scan delivers before the first block is asked for. */
#define ROWS_BEFORE				4

/* Of so many blocks, at least so many must not have been cached. */
#define SAMPLE_BLOCKS			16
#define SAMPLE_MISSES			4

/* Rows to be delivered without looking, at first and at most. */
#define FIRST_PAUSE				64
#define MAX_PAUSE				4096

void
alex_heap_prefetch_begin(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	Relation	heap = state->scan->heapRelation;

	memset(prefetch, 0, sizeof(AlexHeapPrefetch));
	prefetch->last_block = InvalidBlockNumber;
	prefetch->pause = ROWS_BEFORE;
	prefetch->next_pause = FIRST_PAUSE;
#ifdef USE_PREFETCH
	/* index-only scans visit few blocks, and do not say which */
	if (heap != NULL && !state->scan->xs_want_itup)
		prefetch->max_distance =
			get_tablespace_io_concurrency(heap->rd_rel->reltablespace);
#endif
}

/* Asks for the block of a TID. */
static void
prefetch_block(AlexScan *state, uint64 tid)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	BlockNumber block = ALEX_TID_BLOCK(tid);
	BlockNumber last = prefetch->last_block;
	PrefetchBufferResult result;

	prefetch->last_block = block;
	if (block == last)
		return;
	prefetch->sampled++;
	if (last != InvalidBlockNumber &&
		(block == last + 1 || block + 1 == last))
		return;
	result = PrefetchBuffer(state->scan->heapRelation, MAIN_FORKNUM, block);
	if (!BufferIsValid(result.recent_buffer))
		prefetch->missed++;
}

/*
 * The scan is about to deliver an entry of its source's batch: asks for the
 * blocks of those that come next.
 */
void
alex_heap_prefetch_next(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	AlexCursor *cursor = state->source;
	int			distance;

	if (prefetch->sampled >= SAMPLE_BLOCKS)
	{
		bool		worth_while = prefetch->missed >= SAMPLE_MISSES;

		prefetch->sampled = 0;
		prefetch->missed = 0;
		if (!worth_while)
		{
			prefetch->pause = prefetch->next_pause;
			prefetch->next_pause = Min(prefetch->next_pause * 2, MAX_PAUSE);
			return;
		}
		prefetch->next_pause = FIRST_PAUSE;
	}
	if (prefetch->distance < prefetch->max_distance)
		prefetch->distance++;

	/* sources that are merged share the distance */
	distance = Max(1, prefetch->distance / Max(1, state->nheads));
	cursor->prefetched = Min(cursor->prefetched, cursor->left);
	while (cursor->prefetched > 0 &&
		   cursor->left - cursor->prefetched < distance)
	{
		int			ahead = cursor->left - --cursor->prefetched;

		prefetch_block(state, cursor->tids[state->forward ?
										   cursor->at + ahead :
										   cursor->at - ahead]);
	}
}
