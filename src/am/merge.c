/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  Reading several runs in order, and writing what is alive of them.
 *
 * Leaf pages that no other run reaches into can be taken over as they are: only
 * a fence is written for them.  So runs side by side are joined without
 * rewriting any, and a few late arrivals are merged into a large run at the
 * cost of the pages that they fall on.  A page all of whose entries are dead
 * is left out, and one with many is rewritten.
 *
 * A stream stands either on an entry or before a leaf page that it has not
 * opened; then the page's fence is a bound of what comes.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/merge.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"

#include "alex/am.h"
#include "alex/merge.h"
#include "alex/scan.h"
#include "alex/worker.h"

/* Smaller runs are rewritten rather than taken over page by page. */
#define MIN_ADOPTED_LEAVES		8

/*
 * Unpacking, merging and packing so many entries is charged like a page found
 * in shared buffers, on top of the pages themselves: it is processor time that
 * others may want.
 */
#define ENTRIES_PER_COST		16

/* A run being read in order. */
typedef struct AlexRunStream
{
	AlexRunReader reader;
	int			number;			/* of the run */

	/* the leaf page in hand, or the one that it stands before */
	bool		opened;
	AlexFence	fence;
	uint32		leaf;			/* its number in the run */
	AlexPageReference page;
	int			next_slot;
	int			slots;

	/* unpacked live entries; of a page not opened, its fence */
	int			position;
	int			count;
	uint64		keys[ALEX_LEAF_BLOCK];
	uint64		tids[ALEX_LEAF_BLOCK];
	bool		may_be_hinted;	/* scans found entries of the run dead */
	bool		any_hinted;		/* some of these, see hinted[] */
	bool		hinted[ALEX_LEAF_BLOCK];
} AlexRunStream;

/*
 * ---------------------------------------------------------------------
 * Streams
 * ---------------------------------------------------------------------
 */

/* Stands before a leaf page; false at the end of the run. */
static bool
stand_before(AlexRunStream *stream, uint32 leaf)
{
	if (leaf == stream->reader.run->leaf_pages)
		return false;
	alex_run_fence(&stream->reader, leaf, &stream->fence);
	stream->leaf = leaf;
	stream->opened = false;
	stream->position = 0;
	stream->count = 1;
	stream->keys[0] = stream->fence.key;
	stream->tids[0] = stream->fence.tid;
	return true;
}

/* Between two pages: heeds interrupts, and sleeps as the cost limit demands. */
static void
delay_point(uint32 entries)
{
	if (VacuumCostActive)
		VacuumCostBalance += VacuumCostPageHit + entries / ENTRIES_PER_COST;
	alex_worker_check();
	vacuum_delay_point();
}

static void
open_leaf(AlexRunStream *stream)
{
	alex_page_open(stream->reader.reader, stream->fence.block,
				   stream->fence.stamp, ALEX_PAGE_LEAF,
				   stream->reader.run->id, false, &stream->page);
}

/*
 * Unpacks the next live entries of the page; when there are none left, stands
 * before the next page.  False at the end of the run.
 */
static bool
fill_stream(AlexRunStream *stream)
{
	const char *page = stream->page.page;

	stream->position = 0;
	stream->count = 0;
	while (stream->next_slot < stream->slots)
	{
		int			first = stream->next_slot;
		int			n = Min(stream->slots - first, ALEX_LEAF_BLOCK);

		uint64		hinted[ALEX_LEAF_BLOCK / 64];

		alex_leaf_unpack(page, first, n, stream->keys, stream->tids);
		stream->next_slot += n;
		stream->any_hinted = stream->may_be_hinted &&
			alex_hints_get(stream->reader.reader->index, stream->fence.stamp,
						   first, n, hinted);
		if (alex_leaf_dead_count(page) == 0 && !stream->any_hinted)
		{
			stream->count = n;
			return true;
		}
		for (int i = 0; i < n; i++)
		{
			if (alex_leaf_is_dead(page, first + i))
				continue;
			stream->keys[stream->count] = stream->keys[i];
			stream->tids[stream->count] = stream->tids[i];
			stream->hinted[stream->count] = stream->any_hinted &&
				(hinted[i / 64] >> (i % 64) & 1) != 0;
			stream->count++;
		}
		if (stream->count > 0)
			return true;
	}
	return stand_before(stream, stream->leaf + 1);
}

/* Opens the page that the stream stands before; false at the end of the run. */
static bool
enter_leaf(AlexRunStream *stream)
{
	delay_point(stream->fence.entries);
	open_leaf(stream);
	stream->opened = true;
	stream->next_slot = 0;
	stream->slots = alex_leaf_count(stream->page.page);
	return fill_stream(stream);
}

static inline bool
advance_stream(AlexRunStream *stream)
{
	return ++stream->position < stream->count || fill_stream(stream);
}

/*
 * ---------------------------------------------------------------------
 * A heap of streams, the one with the least entry first
 * ---------------------------------------------------------------------
 */
typedef struct StreamHeap
{
	int			count;
	AlexRunStream *streams[FLEXIBLE_ARRAY_MEMBER];
} StreamHeap;

static inline bool
comes_before(const AlexRunStream *s1, const AlexRunStream *s2)
{
	uint64		key1 = s1->keys[s1->position];
	uint64		key2 = s2->keys[s2->position];

	if (key1 != key2)
		return key1 < key2;
	return s1->tids[s1->position] < s2->tids[s2->position];
}

/* Restores the order after the stream at "at" has moved on. */
static inline void
sift_down(StreamHeap *heap, int at)
{
	AlexRunStream *stream = heap->streams[at];

	for (;;)
	{
		int			child = 2 * at + 1;

		if (child >= heap->count)
			break;
		if (child + 1 < heap->count &&
			comes_before(heap->streams[child + 1], heap->streams[child]))
			child++;
		if (!comes_before(heap->streams[child], stream))
			break;
		heap->streams[at] = heap->streams[child];
		at = child;
	}
	heap->streams[at] = stream;
}

/* The first stream has moved on, or come to its end. */
static inline void
replace_first(StreamHeap *heap, bool more)
{
	if (!more)
		heap->streams[0] = heap->streams[--heap->count];
	if (heap->count > 0)
		sift_down(heap, 0);
}

/*
 * ---------------------------------------------------------------------
 * Taking pages over
 * ---------------------------------------------------------------------
 */

/* Does any other stream come before the end of the first one's page? */
static bool
others_reach_in(const StreamHeap *heap)
{
	AlexRunStream *stream = heap->streams[0];
	const AlexRun *run = stream->reader.run;
	bool		is_last = stream->leaf + 1 == run->leaf_pages;
	AlexFence	next;

	if (heap->count == 1)
		return false;
	if (is_last)
	{
		next.key = run->max.key;
		next.tid = run->max.tid;
	}
	else
		alex_run_fence(&stream->reader, stream->leaf + 1, &next);

	/* one of the heap's next two is the least of the others */
	for (int i = 1; i < Min(heap->count, 3); i++)
	{
		const AlexRunStream *other = heap->streams[i];
		int			order = alex_compare(other->keys[other->position],
										 other->tids[other->position],
										 next.key, next.tid);

		if (order < 0 || (order == 0 && is_last))
			return true;
	}
	return false;
}

/* How many entries of a leaf page are hinted as dead. */
static uint32
count_hinted(AlexRunStream *stream)
{
	uint32		count = 0;

	for (uint32 first = 0; first < stream->fence.entries;
		 first += ALEX_LEAF_BLOCK)
	{
		uint64		hinted[ALEX_LEAF_BLOCK / 64];

		if (alex_hints_get(stream->reader.reader->index, stream->fence.stamp,
						   first, Min(stream->fence.entries - first,
									  ALEX_LEAF_BLOCK), hinted))
			count += pg_popcount((const char *) hinted, sizeof(hinted));
	}
	return count;
}

/*
 * Takes over, or leaves out, the page that the first stream stands before.
 * False if its entries must be written anew.
 */
static bool
take_page(AlexMerge *merge, const StreamHeap *heap)
{
	AlexRunStream *stream = heap->streams[0];
	uint32		entries = stream->fence.entries;
	uint32		dead = 0;
	uint32		hinted = 0;
	bool		needs_page;

	if (!merge->may_adopt[stream->number] || others_reach_in(heap))
		return false;

	/* the manifest's count may be too small, which does no harm */
	needs_page = alex_run_writer_has_filter(merge->writer);
	if (stream->may_be_hinted)
		hinted = count_hinted(stream);
	if (stream->reader.run->dead > 0 || needs_page || hinted > 0)
	{
		delay_point(needs_page ? entries : 0);
		open_leaf(stream);
		dead = alex_leaf_dead_count(stream->page.page);
		if (dead == entries)
			return true;
		if (dead + hinted > 0 && merge->rewrite_limit > 0 &&
			(merge->dead_fraction == 0 ||
			 (dead + hinted) * merge->dead_fraction > entries))
		{
			merge->rewrite_limit--;
			return false;
		}
	}
	else
		CHECK_FOR_INTERRUPTS();

	alex_dropper_flush(merge->dropper);
	alex_run_writer_adopt(merge->writer, &stream->fence,
						  needs_page ? stream->page.page : NULL);
	merge->adopted[stream->number]++;
	merge->adopted_entries += entries;
	merge->adopted_dead += dead;
	return true;
}

/*
 * The number of a run's leaf pages that lie before, or behind, all that it
 * shares with other runs.
 */
static uint32
pages_outside(AlexMerge *merge, int which)
{
	const AlexRun *run = merge->runs[which];
	AlexEntry	low = run->max;
	AlexEntry	high = run->min;
	bool		overlaps = false;
	AlexRunReader reader;
	uint32		outside;

	for (int i = 0; i < merge->nruns; i++)
	{
		const AlexRun *other = merge->runs[i];

		if (i == which ||
			alex_compare(other->max.key, other->max.tid,
						 run->min.key, run->min.tid) < 0 ||
			alex_compare(other->min.key, other->min.tid,
						 run->max.key, run->max.tid) > 0)
			continue;
		overlaps = true;
		if (alex_compare(other->min.key, other->min.tid, low.key, low.tid) < 0)
			low = other->min;
		if (alex_compare(other->max.key, other->max.tid, high.key, high.tid) > 0)
			high = other->max;
	}
	if (!overlaps)
		return run->leaf_pages;

	alex_run_open(&reader, merge->reader, run);
	outside = alex_run_find(&reader, low.key, low.tid);
	outside += run->leaf_pages - 1 - alex_run_find(&reader, high.key, high.tid);
	alex_run_close(&reader);
	return outside;
}

bool
alex_merge_plan(AlexMerge *merge)
{
	bool		any = false;

	merge->may_adopt = palloc(sizeof(bool) * merge->nruns);
	merge->adopted = palloc0(sizeof(uint32) * merge->nruns);
	for (int i = 0; i < merge->nruns; i++)
	{
		uint32		outside = pages_outside(merge, i);

		/* a page or two at the ends are not worth it */
		merge->may_adopt[i] = outside >= MIN_ADOPTED_LEAVES &&
			outside >= merge->runs[i]->leaf_pages / 2;
		any |= merge->may_adopt[i];
	}
	return any;
}

/*
 * ---------------------------------------------------------------------
 * The merge
 * ---------------------------------------------------------------------
 */
void
alex_merge_runs(AlexMerge *merge)
{
	AlexRunStream *streams = palloc0(sizeof(AlexRunStream) * merge->nruns);
	StreamHeap *heap = palloc(offsetof(StreamHeap, streams) +
							  sizeof(AlexRunStream *) * merge->nruns);
	uint64		hinted_runs = alex_hints_runs(merge->reader->index);
	AlexEntry	last = {0};
	bool		first = true;

	/* ascending by first entry: a heap already */
	heap->count = merge->nruns;
	for (int i = 0; i < merge->nruns; i++)
	{
		streams[i].number = i;
		streams[i].page.buffer = InvalidBuffer;
		streams[i].may_be_hinted =
			(hinted_runs & ALEX_HINTED_RUN(merge->runs[i]->id)) != 0;
		alex_run_open(&streams[i].reader, merge->reader, merge->runs[i]);
		stand_before(&streams[i], 0);
		heap->streams[i] = &streams[i];
	}

	while (heap->count > 0)
	{
		AlexRunStream *stream = heap->streams[0];
		uint64		key;
		uint64		tid;

		if (!stream->opened)
		{
			replace_first(heap,
						  take_page(merge, heap) ?
						  stand_before(stream, stream->leaf + 1) :
						  enter_leaf(stream));
			continue;
		}

		key = stream->keys[stream->position];
		tid = stream->tids[stream->position];
		if (first || alex_compare(last.key, last.tid, key, tid) != 0)
			alex_dropper_add(merge->dropper, key, tid,
							 stream->any_hinted &&
							 stream->hinted[stream->position]);
		else
			alex_duplicates_dropped++;
		last.key = key;
		last.tid = tid;
		first = false;

		replace_first(heap, advance_stream(stream));
	}

	alex_dropper_flush(merge->dropper);
	for (int i = 0; i < merge->nruns; i++)
	{
		alex_page_close(&streams[i].page);
		alex_run_close(&streams[i].reader);
	}
	pfree(heap);
	pfree(streams);
}
