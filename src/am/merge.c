/*-------------------------------------------------------------------------
 *
 * merge.c
 *	  Reading several runs in order, and writing what is alive of them.
 *
 * Leaf pages that no other run reaches into can be taken over as they are: only
 * a fence is written for them.  So runs side by side are joined without
 * rewriting any, and a few late arrivals are merged into a large run at the
 * cost of the pages around those that they fall on.  A page all of whose
 * entries are dead is left out, and where there are many dead entries pages are
 * rewritten.
 *
 * Pages are rewritten in stretches, because the last page of a stretch is not
 * full in general.  Rewritten one by one, pages would not become fewer, just
 * emptier.
 *
 * A merge may be told to rewrite no more than a slice of the index.  It stops at
 * some key then.  Behind it the longest run's pages are taken over, so that the
 * new run has all of that one; what is left of each other run is made a run of
 * its own, again by taking over its pages.  So is what is left of a suspect run,
 * the row of each of whose entries is looked at.
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
 * So many neighbouring pages are rewritten, unless the last is well filled; and
 * more, up to a limit, as long as what is left fits on the next page.
 */
#define STRETCH					8
#define MAX_STRETCH				16

/*
 * Unpacking, merging and packing so many entries is charged like a page found
 * in shared buffers, on top of the pages themselves: it is processor time that
 * others may want.
 */
#define ENTRIES_PER_COST		16

/* What is known of a leaf page. */
typedef struct AlexLeafState
{
	uint16		dead;			/* entries with the dead bit */
	uint16		hinted;			/* entries that scans have found dead */
} AlexLeafState;

/* A run being read in order. */
typedef struct AlexRunStream
{
	AlexRunReader reader;
	int			number;			/* of the run */
	bool		suspect;		/* look at the row of each entry */
	bool		may_adopt;		/* may its leaf pages be taken over? */
	bool		at_end;
	AlexLeafState *leaves;		/* NULL: there are no dead entries */
	bool		any_leaf_goes;	/* some leaf has dead entries only */
	uint32		rewritten_to;	/* pages before this one are rewritten */

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
	{
		stream->at_end = true;
		return false;
	}
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
	alex_run_read_ahead(&stream->reader, stream->leaf, true, PG_UINT64_MAX);
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

/*
 * An entry and the fence of a page not opened may be equal, when the page's
 * first entry is dead and its TID has come to a row with the same key again.
 * The page comes first, then, and is opened because the other reaches into it.
 * Were it taken over behind the live entry, the run would have both.
 */
static inline bool
comes_before(const AlexRunStream *s1, const AlexRunStream *s2)
{
	uint64		key1 = s1->keys[s1->position];
	uint64		key2 = s2->keys[s2->position];
	uint64		tid1 = s1->tids[s1->position];
	uint64		tid2 = s2->tids[s2->position];

	if (key1 != key2)
		return key1 < key2;
	if (tid1 != tid2)
		return tid1 < tid2;
	return !s1->opened && s2->opened;
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

/*
 * Counts a page among those that tell how many entries a full page has, about
 * here: it has three quarters of the most that there are on any of them.  Going
 * by the most alone, the error would add up to a page in a stretch.
 */
static void
learn_fullness(AlexMerge *merge, uint32 entries)
{
	if (entries * UINT64CONST(3) > merge->fullest * UINT64CONST(4))
	{
		merge->full_pages = 0;
		merge->full_entries = 0;
	}
	merge->fullest = Max(merge->fullest, entries);
	if (entries * UINT64CONST(4) >= merge->fullest * UINT64CONST(3))
	{
		merge->full_pages++;
		merge->full_entries += entries;
	}
}

/*
 * May the stretch that is being rewritten end before this page?  It may if the
 * last page of it comes out well filled, and if it is long enough already; but
 * not before a page that has room for what is left, such as the end of an
 * earlier stretch.  Otherwise each stretch would leave one more of these.
 */
static bool
may_end_stretch(const AlexMerge *merge, const AlexRunStream *stream)
{
	Size		waiting = alex_dropper_pending(merge->dropper) +
		alex_run_writer_pending(merge->writer);
	Size		full = merge->full_pages == 0 ? stream->fence.entries :
		merge->full_entries / merge->full_pages;

	if (waiting == 0 || waiting % full * 4 >= full * 3)
		return true;
	if (merge->stretch < STRETCH)
		return false;
	return merge->stretch >= MAX_STRETCH ||
		waiting % full + stream->fence.entries > full;
}

/*
 * Are the entries of a page, and of the next ones, to be written anew because
 * too many of them are dead?
 */
static bool
is_worth_rewriting(const AlexMerge *merge, AlexRunStream *stream, uint32 leaf)
{
	const AlexRun *run = stream->reader.run;
	uint32		end = Min(leaf + STRETCH, run->leaf_pages);
	uint64		entries = 0;
	uint64		dead = 0;

	if (stream->leaves == NULL ||
		stream->leaves[leaf].dead + stream->leaves[leaf].hinted == 0)
		return false;
	if (merge->all_dead_go)
		return true;
	if (merge->page_by_page)
		end = leaf + 1;
	for (; leaf < end; leaf++)
	{
		AlexFence	fence;

		alex_run_place(&stream->reader, leaf, &fence);
		entries += fence.entries;
		dead += stream->leaves[leaf].dead + stream->leaves[leaf].hinted;
	}
	return dead * ALEX_DEAD_FRACTION > entries;
}

/* Takes over, or leaves out, the page that the stream stands before. */
static void
adopt_page(AlexMerge *merge, AlexRunStream *stream)
{
	uint32		entries = stream->fence.entries;
	uint32		dead = 0;
	bool		needs_page = alex_run_writer_has_filter(merge->writer);

	if (stream->leaves != NULL)
		dead = stream->leaves[stream->leaf].dead;
	if (dead == entries)
		return;
	if (needs_page)
	{
		delay_point(entries);
		open_leaf(stream);
	}
	else
		CHECK_FOR_INTERRUPTS();

	alex_dropper_flush(merge->dropper);
	alex_run_writer_adopt(merge->writer, &stream->fence,
						  needs_page ? stream->page.page : NULL);
	merge->stretch = 0;
	merge->fullest = 0;
	merge->full_pages = 0;
	merge->full_entries = 0;
	merge->adopted[stream->number]++;
	merge->adopted_entries += entries;
	merge->adopted_dead += dead;
}

/*
 * Takes over, or leaves out, the page that the first stream stands before.
 * False if its entries must be written anew.
 */
static bool
take_page(AlexMerge *merge, const StreamHeap *heap)
{
	AlexRunStream *stream = heap->streams[0];

	if (!stream->may_adopt || others_reach_in(heap) ||
		!may_end_stretch(merge, stream) || stream->leaf < stream->rewritten_to)
		return false;
	if ((merge->slice == 0 || merge->rewritten < merge->slice) &&
		is_worth_rewriting(merge, stream, stream->leaf))
	{
		stream->rewritten_to = stream->leaf + (merge->all_dead_go ? 1 : STRETCH);
		return false;
	}
	adopt_page(merge, stream);
	return true;
}

/* Goes on behind the page that the stream stands before, or into it. */
static bool
pass_page(AlexMerge *merge, AlexRunStream *stream, bool taken)
{
	learn_fullness(merge, stream->fence.entries);
	if (taken)
		return stand_before(stream, stream->leaf + 1);
	merge->rewritten++;
	merge->stretch++;
	return enter_leaf(stream);
}

/*
 * ---------------------------------------------------------------------
 * What is to be done
 * ---------------------------------------------------------------------
 */

/* How many entries of a leaf page are hinted as dead. */
static uint32
count_hinted(AlexRunStream *stream, const AlexFence *fence)
{
	uint32		count = 0;

	for (uint32 first = 0; first < fence->entries; first += ALEX_LEAF_BLOCK)
	{
		uint64		hinted[ALEX_LEAF_BLOCK / 64];

		if (alex_hints_get(stream->reader.reader->index, fence->stamp,
						   first, Min(fence->entries - first,
									  ALEX_LEAF_BLOCK), hinted))
			count += pg_popcount((const char *) hinted, sizeof(hinted));
	}
	return count;
}

/*
 * Counts the dead entries of each leaf page.  The manifest's count of all of
 * them may be too small, after a VACUUM that was cancelled, which does no harm.
 */
static void
count_dead(AlexRunStream *stream)
{
	const AlexRun *run = stream->reader.run;

	if (run->dead == 0 && !stream->may_be_hinted)
		return;
	stream->leaves = MemoryContextAllocHuge(CurrentMemoryContext,
											run->leaf_pages *
											sizeof(AlexLeafState));
	for (uint32 leaf = 0; leaf < run->leaf_pages; leaf++)
	{
		AlexFence	fence;

		delay_point(0);
		alex_run_place(&stream->reader, leaf, &fence);
		alex_run_read_ahead(&stream->reader, leaf, true, PG_UINT64_MAX);
		alex_page_open(stream->reader.reader, fence.block, fence.stamp,
					   ALEX_PAGE_LEAF, run->id, false, &stream->page);
		stream->leaves[leaf].dead = alex_leaf_dead_count(stream->page.page);
		stream->leaves[leaf].hinted = stream->may_be_hinted ?
			count_hinted(stream, &fence) : 0;
		stream->any_leaf_goes |= stream->leaves[leaf].dead == fence.entries;
	}
}

/*
 * The number of a run's leaf pages that lie before, or behind, all that it
 * shares with other runs.
 */
static uint32
pages_outside(AlexMerge *merge, int which)
{
	const AlexRun *run = merge->runs[which];
	AlexRunReader *reader = &merge->streams[which].reader;
	AlexEntry	low = run->max;
	AlexEntry	high = run->min;
	bool		overlaps = false;
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

	outside = alex_run_find(reader, low.key, low.tid);
	outside += run->leaf_pages - 1 - alex_run_find(reader, high.key, high.tid);
	return outside;
}

/* How many leaf pages of a run are likely to be rewritten? */
static uint32
pages_to_rewrite(AlexMerge *merge, AlexRunStream *stream)
{
	const AlexRun *run = stream->reader.run;
	uint32		outside = pages_outside(merge, stream->number);
	uint32		count = run->leaf_pages - outside;
	uint32		least;

	/*
	 * A page or two at the ends are not worth it.  But what an earlier slice has
	 * written is never written again: merging would not come to an end.
	 */
	least = (run->flags & ALEX_RUN_MERGING) != 0 ? 1 : MIN_ADOPTED_LEAVES;
	stream->may_adopt = outside >= least && !stream->suspect;
	merge->may_adopt |= stream->may_adopt;
	if (!stream->may_adopt)
		return run->leaf_pages;

	for (uint32 leaf = 0; leaf < run->leaf_pages && stream->leaves != NULL;)
	{
		bool		worth_it = is_worth_rewriting(merge, stream, leaf);

		count += worth_it ? STRETCH : 0;
		leaf += worth_it ? STRETCH : 1;
	}
	return Min(count, run->leaf_pages);
}

void
alex_merge_begin(AlexMerge *merge)
{
	uint64		hinted_runs = alex_hints_runs(merge->reader->index);
	uint64		count = 0;

	merge->streams = palloc0(sizeof(AlexRunStream) * merge->nruns);
	merge->adopted = palloc0(sizeof(uint32) * merge->nruns);
	for (int i = 0; i < merge->nruns; i++)
	{
		AlexRunStream *stream = &merge->streams[i];

		stream->number = i;
		stream->suspect = merge->runs[i] == merge->suspect;
		stream->page.buffer = InvalidBuffer;
		stream->may_be_hinted =
			(hinted_runs & ALEX_HINTED_RUN(merge->runs[i]->id)) != 0;
		alex_run_open(&stream->reader, merge->reader, merge->runs[i]);
		count_dead(stream);
	}
	for (int i = 0; i < merge->nruns; i++)
	{
		count += pages_to_rewrite(merge, &merge->streams[i]);
		stand_before(&merge->streams[i], 0);
	}

	/*
	 * A run that is rewritten because too much of it is dead must lose something,
	 * or it would be due for ever.  Where pages are of very different sizes, the
	 * dead entries of a small one may be few among those of its neighbours.
	 */
	if (merge->nruns == 1 && count == 0 && !merge->streams[0].any_leaf_goes)
	{
		merge->page_by_page = true;
		count = pages_to_rewrite(merge, &merge->streams[0]);
	}

	/* a last slice may be half as large again, lest little be left of it */
	merge->complete = merge->slice == 0 ||
		count <= merge->slice + merge->slice / 2;
	if (merge->complete)
		merge->slice = 0;
}

/*
 * ---------------------------------------------------------------------
 * The merge
 * ---------------------------------------------------------------------
 */

/* Hands the entry that a stream stands on to the writer. */
static inline void
put_entry(AlexMerge *merge, const AlexRunStream *stream)
{
	int			position = stream->position;

	alex_dropper_add(merge->dropper, stream->keys[position],
					 stream->tids[position],
					 stream->suspect ||
					 (stream->any_hinted && stream->hinted[position]));
}

/* Goes through the streams in the order of their entries. */
static void
merge_streams(AlexMerge *merge, StreamHeap *heap)
{
	AlexEntry	last = {0};
	bool		first = true;

	while (heap->count > 0)
	{
		AlexRunStream *stream = heap->streams[0];
		uint64		key;
		uint64		tid;

		if (!stream->opened)
		{
			if (merge->slice > 0 && merge->rewritten >= merge->slice)
				return;
			replace_first(heap, pass_page(merge, stream,
										  take_page(merge, heap)));
			continue;
		}

		key = stream->keys[stream->position];
		tid = stream->tids[stream->position];
		if (first || alex_compare(last.key, last.tid, key, tid) != 0)
			put_entry(merge, stream);
		else
			alex_duplicates_dropped++;
		last.key = key;
		last.tid = tid;
		first = false;

		replace_first(heap, advance_stream(stream));
	}
}

void
alex_merge_runs(AlexMerge *merge)
{
	StreamHeap *heap = palloc(offsetof(StreamHeap, streams) +
							  sizeof(AlexRunStream *) * merge->nruns);
	AlexRunStream *longest = NULL;
	uint32		most = 0;

	/* ascending by first entry: a heap already */
	heap->count = merge->nruns;
	for (int i = 0; i < merge->nruns; i++)
		heap->streams[i] = &merge->streams[i];
	merge_streams(merge, heap);

	for (int i = 0; i < heap->count; i++)
	{
		AlexRunStream *stream = heap->streams[i];
		uint32		pages = stream->reader.run->leaf_pages - stream->leaf;

		/* the next slice must know which entries have not been looked at */
		if (!stream->suspect && pages > most)
		{
			longest = stream;
			most = pages;
		}
	}
	if (longest != NULL)
		alex_merge_rest(merge, longest->number);
	alex_dropper_flush(merge->dropper);
	pfree(heap);
}

bool
alex_merge_has_rest(const AlexMerge *merge, int which)
{
	return !merge->streams[which].at_end;
}

void
alex_merge_rest(AlexMerge *merge, int which)
{
	AlexRunStream *stream = &merge->streams[which];

	while (!stream->at_end)
	{
		if (!stream->opened)
		{
			adopt_page(merge, stream);
			stand_before(stream, stream->leaf + 1);
		}
		else
		{
			put_entry(merge, stream);
			(void) advance_stream(stream);
		}
	}
	alex_dropper_flush(merge->dropper);
}

void
alex_merge_end(AlexMerge *merge)
{
	for (int i = 0; i < merge->nruns; i++)
	{
		AlexRunStream *stream = &merge->streams[i];

		alex_page_close(&stream->page);
		alex_run_close(&stream->reader);
	}
}
