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
 * When so many have come that they are dense in their range of blocks, they
 * move into a map, which has a few words of bits for each block of the range,
 * and so do those that come later.  A bit is set without looking anything up,
 * the map is smaller than the TIDs would be, and in the end the bitmap gets all
 * TIDs of a block at once.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/scan_bitmap.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "utils/memutils.h"

#include "alex/scan.h"

/* Room for so many TIDs at first, and at most; see also memory_limit. */
#define FIRST_CAPACITY			1024
#define MAX_CAPACITY			(1 << 22)

/* TIDs are dense if their range has no more blocks than so many for each. */
#define BLOCKS_PER_TID			4

/* Bits that a pass of the sort distributes by, at most. */
#define MAX_DIGIT				11

/* So many TIDs are handed over at a time. */
#define HAND_OVER				512

/* So many blocks of the map are fetched before they are read. */
#define AHEAD					8

/* Bits of a word of the map; so many words hold any block's. */
#define WORD_BITS				64
#define MAX_WORDS				((MaxHeapTuplesPerPage - 1) / WORD_BITS + 1)

/* So much does the list of a map's blocks take for each, to be sorted. */
#define LIST_WORDS				2

/* See list_tids. */
#define STEPS					8
#define HIGHEST_BIT				(UINT64CONST(1) << (WORD_BITS - 1))

StaticAssertDecl(MAX_WORDS * WORD_BITS <= HAND_OVER,
				 "TIDs of a block are handed over together");

/* The map, the gathered TIDs and the sort's space take a part of work_mem. */
static inline Size
memory_limit(void)
{
	return (Size) work_mem * 1024 / 4;
}

/* What a map takes with, in the end, the list of its blocks. */
static inline Size
map_size(uint64 nblocks, int words)
{
	return (Size) nblocks * (words + LIST_WORDS) * sizeof(uint64);
}

/* How many TIDs may be gathered, beside the map. */
static int
gather_limit(AlexBitmapFeed *feed)
{
	Size		limit = memory_limit();

	if (feed->map != NULL)
		limit -= map_size(feed->nblocks, feed->words);
	limit /= 2 * sizeof(uint64);
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

/*
 * Sorts numbers by "nbits" bits from "shift" up, with as much working space.
 * Returns which of the two arrays they are in then.
 */
static uint64 *
sort_by_bits(uint64 *from, uint64 *to, int count, int shift, int nbits)
{
	int			npasses = (nbits + MAX_DIGIT - 1) / MAX_DIGIT;

	for (int pass = 0; pass < npasses; pass++)
	{
		int			low = nbits * pass / npasses;
		int			high = nbits * (pass + 1) / npasses;
		uint64	   *swap = from;

		distribute(from, to, count, shift + low, high - low);
		from = to;
		to = swap;
		CHECK_FOR_INTERRUPTS();
	}
	return from;
}

/* Hands over what has been gathered, in the order of blocks. */
static void
hand_over_sorted(AlexBitmapFeed *feed)
{
	uint64		differing = 0;
	uint64	   *sorted;

	for (int i = 1; i < feed->ntids; i++)
		differing |= feed->tids[i] ^ feed->tids[0];
	differing >>= 16;
	sorted = sort_by_bits(feed->tids, feed->tids + feed->capacity, feed->ntids,
						  16, differing == 0 ? 0 :
						  pg_leftmost_one_pos64(differing) + 1);
	hand_over(feed->bitmap, sorted, feed->ntids);
	feed->ntids = 0;
}

/*
 * Lists the blocks of the map that have TIDs.  The bitmap's hash table, which
 * is in no cache when it is large, should be filled from one end to the other;
 * so they come in the order of what decides on their place there, the low bits
 * of the block's hash.  Nothing but time depends on it.
 *
 * Each is its place in the map, with the hash above.  Sets *list to what is to
 * be freed.
 */
static uint64 *
list_blocks(AlexBitmapFeed *feed, uint64 **list, int *count)
{
	const uint64 *words = feed->map;
	int			nbits;

	*list = MemoryContextAlloc(feed->context,
							   (Size) feed->nblocks * LIST_WORDS * sizeof(uint64));
	*count = 0;
	for (uint32 i = 0; i < feed->nblocks; i++)
	{
		uint64		any = 0;

		for (int j = 0; j < feed->words; j++)
			any |= *words++;
		(*list)[*count] =
			(uint64) murmurhash32(feed->first_block + i) << 32 | i;
		*count += any != 0;
	}
	/* the table has room for up to twice as many, or a little more */
	nbits = *count == 0 ? 0 : pg_leftmost_one_pos32(*count) + 2;
	return sort_by_bits(*list, *list + feed->nblocks, *count, 32,
						Min(nbits, 32));
}

/*
 * Writes the TIDs of a block of the map, and returns their number.  Goes eight
 * steps at a time, which write nothing that counts when a word has no more
 * bits: how many it has cannot be predicted, but that it has no more than
 * eight, where a scan wants a part of the table, can.
 */
static inline int
list_tids(const uint64 *words, int nwords, BlockNumber block,
		  ItemPointerData *pointers)
{
	int			count = 0;

	for (int i = 0; i < nwords; i++)
	{
		uint64		bits = words[i];

		while (bits != 0)
		{
			for (int step = 0; step < STEPS; step++)
			{
				int			bit = pg_rightmost_one_pos64(bits | HIGHEST_BIT);

				ItemPointerSet(&pointers[count], block,
							   i * WORD_BITS + bit + FirstOffsetNumber);
				count += bits != 0;
				bits &= bits - 1;
			}
		}
	}
	return count;
}

/* Hands over what is in the map, and does away with it. */
static void
hand_over_map(AlexBitmapFeed *feed)
{
	/* the steps write one more */
	ItemPointerData pointers[HAND_OVER + 1];
	int			npointers = 0;
	uint64	   *list;
	int			nblocks;
	uint64	   *blocks = list_blocks(feed, &list, &nblocks);

	for (int i = 0; i < nblocks; i++)
	{
		uint32		at = (uint32) blocks[i];
		uint32		ahead = (uint32) blocks[Min(i + AHEAD, nblocks - 1)];

		__builtin_prefetch(feed->map + (Size) ahead * feed->words);
		if (npointers > HAND_OVER - feed->words * WORD_BITS)
		{
			tbm_add_tuples(feed->bitmap, pointers, npointers, false);
			npointers = 0;
			CHECK_FOR_INTERRUPTS();
		}
		npointers += list_tids(feed->map + (Size) at * feed->words, feed->words,
							   feed->first_block + at, pointers + npointers);
	}
	tbm_add_tuples(feed->bitmap, pointers, npointers, false);
	pfree(list);
	pfree(feed->map);
	feed->map = NULL;
}

/*
 * Puts TIDs into the map.  Returns the number of those that do not belong
 * there, and moves them to "rest", which may be where the TIDs are.
 */
static int
set_bits(AlexBitmapFeed *feed, const uint64 *tids, int ntids, uint64 *rest)
{
	uint64	   *map = feed->map;
	uint64		nblocks = feed->nblocks;
	uint64		first_block = feed->first_block;
	uint64		words = feed->words;
	int			nrest = 0;

	for (int i = 0; i < ntids; i++)
	{
		uint64		block = (tids[i] >> 16) - first_block;
		uint64		bit = (tids[i] & 0xFFFF) - FirstOffsetNumber;

		if (likely(block < nblocks && bit < words * WORD_BITS))
			map[block * words + bit / WORD_BITS] |=
				UINT64CONST(1) << bit % WORD_BITS;
		else
			rest[nrest++] = tids[i];
	}
	return nrest;
}

/*
 * Makes a map for the range of the gathered TIDs and moves them there, if they
 * are dense.  A map for another range gives way: as many TIDs have come since
 * that were not in it.
 */
static bool
make_map(AlexBitmapFeed *feed)
{
	uint64		first = PG_UINT64_MAX;
	uint64		last = 0;
	uint64		max_bit = 0;
	uint64		nblocks;
	int			words;
	Size		gathered = (Size) feed->capacity * 2 * sizeof(uint64);

	for (int i = 0; i < feed->ntids; i++)
	{
		first = Min(first, feed->tids[i]);
		last = Max(last, feed->tids[i]);
		max_bit = Max(max_bit, (feed->tids[i] & 0xFFFF) - FirstOffsetNumber);
	}
	/* an offset that no heap page has: the bitmap will complain */
	if (max_bit >= MAX_WORDS * WORD_BITS)
		return false;
	nblocks = (last >> 16) - (first >> 16) + 1;
	words = max_bit / WORD_BITS + 1;
	if (nblocks > (uint64) feed->ntids * BLOCKS_PER_TID ||
		map_size(nblocks, words) + gathered > memory_limit())
		return false;

	if (feed->map != NULL)
		hand_over_map(feed);
	feed->map = MemoryContextAllocZero(feed->context,
									   nblocks * words * sizeof(uint64));
	feed->nblocks = nblocks;
	feed->words = words;
	feed->first_block = first >> 16;
	(void) set_bits(feed, feed->tids, feed->ntids, feed->tids);
	feed->ntids = 0;
	return true;
}

static void
enlarge(AlexBitmapFeed *feed)
{
	int			capacity = feed->capacity == 0 ? FIRST_CAPACITY :
	feed->capacity * 4;
	uint64	   *tids;

	capacity = Min(capacity, gather_limit(feed));
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

/* The gathered TIDs take all of their room.  Makes more of it. */
static void
make_room(AlexBitmapFeed *feed)
{
	if (feed->ntids > 0 && make_map(feed))
		return;
	if (feed->capacity < gather_limit(feed))
		enlarge(feed);
	else
		hand_over_sorted(feed);
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
	feed->map = NULL;
}

void
alex_bitmap_feed_add(AlexBitmapFeed *feed, const uint64 *tids, int ntids)
{
	uint64		rest[ALEX_LEAF_BLOCK];

	Assert(ntids <= ALEX_LEAF_BLOCK);
	if (feed->map != NULL)
	{
		ntids = set_bits(feed, tids, ntids, rest);
		tids = rest;
	}
	if (blocks_ascend(tids, ntids))
	{
		hand_over(feed->bitmap, tids, ntids);
		return;
	}
	while (feed->ntids + ntids > feed->capacity)
		make_room(feed);
	memcpy(feed->tids + feed->ntids, tids, ntids * sizeof(uint64));
	feed->ntids += ntids;
}

void
alex_bitmap_feed_end(AlexBitmapFeed *feed)
{
	if (feed->ntids > 0)
		hand_over_sorted(feed);
	if (feed->map != NULL)
		hand_over_map(feed);
	if (feed->tids != NULL)
		pfree(feed->tids);
	feed->tids = NULL;
}
