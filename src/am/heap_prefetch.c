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
 * Asking costs a system call a block.  That is time lost if the block is in
 * the operating system's cache, about which it cannot be asked.  But it can be
 * told from the time: a scan that comes by its rows faster than a device reads
 * blocks does not wait for one.  So a scan first looks on while it delivers a
 * few rows, a SAMPLE: how many blocks were read, and how long did it take?  As
 * long as that was not worth while, it goes on without asking, and takes the
 * next sample after a pause, which gets longer each time.  Otherwise it asks,
 * and takes a sample now and then, since caches get warm.
 *
 * Scans that end early, as with LIMIT, should not read what nobody wants: so
 * the distance begins at nothing and grows with the rows that were delivered.
 * Blocks that follow each other are left to the operating system's readahead.
 *
 * No heap block is pinned, so there is nothing to let go of.
 *
 * A block that is in shared buffers is not free of charge either.  The fetch of
 * a tuple waits for memory several times, and each time finds out only then
 * where to look next: in the table of buffers, in the buffer's descriptor, in
 * the page's header, in the line pointer.  Once the table has been looked up,
 * the places of all others are known.  So a scan does that itself, before the
 * executor will, and asks for them together (alex_heap_touch).
 *
 * Index-only scans come to few heap blocks, but to a page of the visibility map
 * at each entry.  Of a small map they keep all pages pinned (pin_map).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/heap_prefetch.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/visibilitymap.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/spccache.h"

#include "alex/scan.h"

/* Rows that a scan delivers before it takes the first sample. */
#define ROWS_BEFORE				4

/*
 * Of so many rows, at least so many must have had a block read, and each of
 * these reads must have taken so long (us).  No device is as fast, and no copy
 * from the operating system's cache as slow.
 */
#define SAMPLE_ROWS				8
#define SAMPLE_READS			2
#define SLOW_READ				10

/* Rows of an index-only scan before it pins the visibility map. */
#define ROWS_BEFORE_MAP			1000

/* Heap blocks of a page of the map, which has two bits for each. */
#define BLOCKS_PER_MAP_PAGE \
	((BLCKSZ - MAXALIGN(SizeOfPageHeaderData)) * BITS_PER_BYTE / \
	 BITS_PER_HEAPBLOCK)

/* Rows to be delivered without looking, at first and at most. */
#define FIRST_PAUSE				64
#define MAX_PAUSE				4096

/* Rows between two samples of a scan that asks for blocks. */
#define ROWS_OF_A_STRETCH		1024

/* A table of so few pages is taken to be in the processor's caches. */
#define CACHED_PAGES			512

void
alex_heap_prefetch_begin(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;

	prefetch->stage = ALEX_PREFETCH_UNKNOWN;
	prefetch->pause = ROWS_BEFORE;
}

static int64
blocks_read(void)
{
	return pgBufferUsage.shared_blks_read + pgBufferUsage.local_blks_read;
}

/*
 * Pins the pages of the table's visibility map.
 *
 * The executor looks into the map at each entry, and keeps but one page of it
 * pinned.  Where the map has several and TIDs are in no order, that is a pin an
 * entry, whose cost is not so much the instructions as the buffer's descriptor,
 * which processes that scan in parallel take out of each other's caches.  A
 * page that this process has pinned already is pinned again without that.
 */
static void
pin_map(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	Relation	heap = state->scan->heapRelation;
	BlockNumber nblocks = RelationGetNumberOfBlocks(heap);
	int			npages = (nblocks - 1) / BLOCKS_PER_MAP_PAGE + 1;

	prefetch->stage = ALEX_PREFETCH_LOOK;
	prefetch->pause = INT_MAX;
	if (prefetch->map_pins[0] != InvalidBuffer ||
		nblocks <= BLOCKS_PER_MAP_PAGE ||
		npages > alex_space_pins(heap, ALEX_MAP_PINS))
		return;
	for (int i = 0; i < npages; i++)
	{
		(void) visibilitymap_get_status(heap, i * BLOCKS_PER_MAP_PAGE,
										&prefetch->map_pins[i]);
		if (prefetch->map_pins[i] == InvalidBuffer)
			break;
	}
}

/* The scan ends.  After an error the resource owner sees to that. */
void
alex_heap_prefetch_end(AlexScan *state)
{
	Buffer	   *pins = state->prefetch.map_pins;

	for (int i = 0; i < ALEX_MAP_PINS && pins[i] != InvalidBuffer; i++)
		ReleaseBuffer(pins[i]);
}

/* A scan comes to its fifth row: may it ask for blocks at all? */
static void
begin_slow(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	int			max_distance = 0;

	Relation	heap = state->scan->heapRelation;

#ifdef USE_PREFETCH
	/* index-only scans visit few blocks, and do not say which */
	if (heap != NULL && !state->scan->xs_want_itup)
		max_distance =
			get_tablespace_io_concurrency(heap->rd_rel->reltablespace);
#endif
	prefetch->max_distance = max_distance;
	prefetch->distance = 0;
	prefetch->next_pause = FIRST_PAUSE;
	prefetch->last_block = InvalidBlockNumber;
	if (heap != NULL && state->scan->xs_want_itup)
	{
		prefetch->stage = ALEX_PREFETCH_MAP;
		prefetch->pause = ROWS_BEFORE_MAP;
	}
	else if (max_distance == 0)
		prefetch->pause = INT_MAX;
	else
		prefetch->stage = ALEX_PREFETCH_LOOK;
}

static void
begin_sample(AlexHeapPrefetch *prefetch)
{
	prefetch->reads = blocks_read();
	INSTR_TIME_SET_CURRENT(prefetch->start);
	prefetch->stage = ALEX_PREFETCH_SAMPLE;
	prefetch->pause = SAMPLE_ROWS - 1;
}

static void
end_sample(AlexHeapPrefetch *prefetch)
{
	int64		reads = blocks_read() - prefetch->reads;
	instr_time	elapsed;

	INSTR_TIME_SET_CURRENT(elapsed);
	INSTR_TIME_SUBTRACT(elapsed, prefetch->start);
	if (reads >= SAMPLE_READS &&
		INSTR_TIME_GET_MICROSEC(elapsed) >= reads * SLOW_READ)
	{
		prefetch->stage = ALEX_PREFETCH_ASK;
		prefetch->rows = ROWS_OF_A_STRETCH;
		prefetch->next_pause = FIRST_PAUSE;
	}
	else
	{
		prefetch->stage = ALEX_PREFETCH_LOOK;
		prefetch->pause = prefetch->next_pause;
		prefetch->next_pause = Min(prefetch->next_pause * 2, MAX_PAUSE);
	}
}

/* Asks for the block of a TID. */
static void
prefetch_block(AlexScan *state, uint64 tid)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	BlockNumber block = ALEX_TID_BLOCK(tid);
	BlockNumber last = prefetch->last_block;

	prefetch->last_block = block;
	if (block == last ||
		(last != InvalidBlockNumber &&
		 (block == last + 1 || block + 1 == last)))
		return;
	PrefetchBuffer(state->scan->heapRelation, MAIN_FORKNUM, block);
}

/* Asks for the blocks of the entries that come next in the source's batch. */
static void
prefetch_blocks(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;
	AlexCursor *cursor = state->source;
	int			distance;

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

/*
 * The scan is about to deliver an entry of its source's batch, and not in a
 * pause.
 */
void
alex_heap_prefetch_next(AlexScan *state)
{
	AlexHeapPrefetch *prefetch = &state->prefetch;

	if (prefetch->stage == ALEX_PREFETCH_UNKNOWN)
		begin_slow(state);
	else if (prefetch->stage == ALEX_PREFETCH_SAMPLE)
		end_sample(prefetch);
	else if (prefetch->stage == ALEX_PREFETCH_MAP && prefetch->pause == 0)
		pin_map(state);
	if (prefetch->stage == ALEX_PREFETCH_LOOK && prefetch->pause == 0)
		begin_sample(prefetch);
	if (prefetch->stage != ALEX_PREFETCH_ASK)
		return;

	prefetch_blocks(state);
	if (--prefetch->rows == 0)
	{
		/* first come the rows whose blocks were asked for */
		prefetch->stage = ALEX_PREFETCH_LOOK;
		prefetch->pause = prefetch->distance;
	}
}

/*
 * If the block of a TID is in shared buffers, asks for the lines of memory that
 * the fetch of the tuple will need.  It may be replaced at any moment: then this
 * was of no use.  Nor is it worth waiting for a lock.
 */
void
alex_heap_touch_block(Relation heap, uint64 tid)
{
#ifdef __GNUC__
	BufferTag	tag;
	uint32		hash;
	LWLock	   *partition;
	int			id;
	const char *page;

	if (RelationUsesLocalBuffers(heap) || heap->rd_rel->relpages < CACHED_PAGES)
		return;

	INIT_BUFFERTAG(tag, heap->rd_node, MAIN_FORKNUM, ALEX_TID_BLOCK(tid));
	hash = BufTableHashCode(&tag);
	partition = BufMappingPartitionLock(hash);
	if (!LWLockConditionalAcquire(partition, LW_SHARED))
		return;
	id = BufTableLookup(&tag, hash);
	LWLockRelease(partition);
	if (id < 0)
		return;

	page = (const char *) BufferGetBlock(id + 1);
	__builtin_prefetch(GetBufferDescriptor(id));
	__builtin_prefetch(page);
	__builtin_prefetch(page + SizeOfPageHeaderData +
					   (ALEX_TID_OFFSET(tid) - 1) % MaxHeapTuplesPerPage *
					   sizeof(ItemIdData));
#endif
}
