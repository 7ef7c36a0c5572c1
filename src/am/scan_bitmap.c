/*-------------------------------------------------------------------------
 *
 * scan_bitmap.c
 *	  TIDs on their way into a bitmap.
 *
 * A bitmap looks up a heap block's entry in a hash table whenever a TID has
 * another block than the one before it.  Where keys and heap are in like
 * order that is rare, and TIDs are handed over as they come.  Where they are
 * not, each TID would cost a lookup, most of them in memory that is in no
 * cache.  So such TIDs are gathered, and sorted by block, which costs far
 * less: a radix sort of a few passes, none of which waits for memory.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/scan_bitmap.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "utils/memutils.h"

#include "alex/scan.h"

/* Room for so many TIDs at first, and at most; see also gather_limit. */
#define FIRST_CAPACITY			1024
#define MAX_CAPACITY			(1 << 18)

/* Bits that a pass of the sort distributes by, at most. */
#define MAX_DIGIT				11

/* So many TIDs are handed over at a time. */
#define HAND_OVER				256

/* The gathered TIDs and the sort's working space take a part of work_mem. */
static int
gather_limit(void)
{
	Size		limit = (Size) work_mem * 1024 / 4 / (2 * sizeof(uint64));

	return Max(FIRST_CAPACITY, Min(limit, MAX_CAPACITY));
}

/* Adds TIDs as they come. */
static void
hand_over(TIDBitmap *bitmap, const uint64 *tids, int ntids)
{
	ItemPointerData pointers[HAND_OVER];

	for (int done = 0; done < ntids;)
	{
		int			count = Min(ntids - done, HAND_OVER);

		for (int i = 0; i < count; i++)
			ItemPointerSet(&pointers[i], ALEX_TID_BLOCK(tids[done + i]),
						   ALEX_TID_OFFSET(tids[done + i]));
		tbm_add_tuples(bitmap, pointers, count, false);
		done += count;
		CHECK_FOR_INTERRUPTS();
	}
}

/* One pass: distributes TIDs by "bits" bits from "shift" up, stably. */
static void
distribute(const uint64 *from, uint64 *to, int ntids, int shift, int bits)
{
	uint32		starts[1 << MAX_DIGIT] = {0};
	uint64		mask = (UINT64CONST(1) << bits) - 1;
	uint32		start = 0;

	for (int i = 0; i < ntids; i++)
		starts[from[i] >> shift & mask]++;
	for (int digit = 0; digit <= mask; digit++)
	{
		uint32		count = starts[digit];

		starts[digit] = start;
		start += count;
	}
	for (int i = 0; i < ntids; i++)
		to[starts[from[i] >> shift & mask]++] = from[i];
}

/* Hands over what has been gathered, in the order of blocks. */
static void
hand_over_sorted(AlexBitmapFeed *feed)
{
	uint64	   *from = feed->tids;
	uint64	   *to = feed->tids + feed->capacity;
	uint64		differing = 0;
	int			nbits;
	int			npasses;

	for (int i = 1; i < feed->ntids; i++)
		differing |= feed->tids[i] ^ feed->tids[0];
	differing >>= 16;
	nbits = differing == 0 ? 0 : pg_leftmost_one_pos64(differing) + 1;
	npasses = (nbits + MAX_DIGIT - 1) / MAX_DIGIT;
	for (int pass = 0; pass < npasses; pass++)
	{
		int			low = nbits * pass / npasses;
		int			high = nbits * (pass + 1) / npasses;
		uint64	   *swap = from;

		distribute(from, to, feed->ntids, 16 + low, high - low);
		from = to;
		to = swap;
		CHECK_FOR_INTERRUPTS();
	}
	hand_over(feed->bitmap, from, feed->ntids);
	feed->ntids = 0;
}

static void
enlarge(AlexBitmapFeed *feed)
{
	int			capacity = feed->capacity == 0 ? FIRST_CAPACITY :
	feed->capacity * 4;
	uint64	   *tids;

	capacity = Min(capacity, gather_limit());
	tids = MemoryContextAlloc(feed->context,
							  (Size) capacity * 2 * sizeof(uint64));
	if (feed->tids != NULL)
	{
		memcpy(tids, feed->tids, feed->ntids * sizeof(uint64));
		pfree(feed->tids);
	}
	feed->tids = tids;
	feed->capacity = capacity;
}

static inline bool
blocks_ascend(const uint64 *tids, int ntids)
{
	uint64		descents = 0;

	for (int i = 1; i < ntids; i++)
		descents += tids[i] >> 16 < tids[i - 1] >> 16;
	return descents == 0;
}

void
alex_bitmap_feed_begin(AlexBitmapFeed *feed, MemoryContext context,
					   TIDBitmap *bitmap)
{
	feed->context = context;
	feed->bitmap = bitmap;
	feed->tids = NULL;
	feed->capacity = 0;
	feed->ntids = 0;
}

void
alex_bitmap_feed_add(AlexBitmapFeed *feed, const uint64 *tids, int ntids)
{
	Assert(ntids <= FIRST_CAPACITY);
	if (blocks_ascend(tids, ntids))
	{
		hand_over(feed->bitmap, tids, ntids);
		return;
	}
	if (feed->ntids + ntids > feed->capacity &&
		feed->capacity < gather_limit())
		enlarge(feed);
	if (feed->ntids + ntids > feed->capacity)
		hand_over_sorted(feed);
	memcpy(feed->tids + feed->ntids, tids, ntids * sizeof(uint64));
	feed->ntids += ntids;
}

void
alex_bitmap_feed_end(AlexBitmapFeed *feed)
{
	if (feed->ntids > 0)
		hand_over_sorted(feed);
	if (feed->tids != NULL)
		pfree(feed->tids);
	feed->tids = NULL;
}
