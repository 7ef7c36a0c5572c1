/*-------------------------------------------------------------------------
 *
 * position.c
 *	  Positions in a run: skipping entries, and counting them.
 *
 * A fence says how many entries its leaf page has.  So a position is known
 * exactly by the number of its leaf page and of the entry there, and how far
 * apart two positions are by the fences between them.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/position.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "alex/store.h"

/*
 * Entries of more leaf pages than this are not counted page by page, but
 * estimated from so many of the pages.
 */
#define COUNTED_PAGES			32
#define SAMPLED_PAGES			16

typedef struct Position
{
	uint32		leaf;			/* number of the leaf page */
	int			slot;
	AlexPageReference page;
} Position;

static void
open_leaf(AlexRunReader *run_reader, Position *position)
{
	AlexFence	fence;

	alex_run_place(run_reader, position->leaf, &fence);
	alex_page_open(run_reader->reader, fence.block, fence.stamp,
				   ALEX_PAGE_LEAF, run_reader->run->id, false,
				   &position->page);
}

/* Finds the first entry at or after (key, tid); it may be on the next page. */
static void
find_position(AlexRunReader *run_reader, AlexEntry entry, bool forward,
			  uint64 edge, Position *position)
{
	const AlexPageReference none = ALEX_PAGE_REFERENCE_NONE;

	position->leaf = alex_run_find(run_reader, entry.key, entry.tid);
	position->page = none;
	alex_run_read_ahead(run_reader, position->leaf, forward, edge);
	open_leaf(run_reader, position);
	position->slot = alex_leaf_search(position->page.page, entry.key,
									  entry.tid);
}

/*
 * The same for a count: of a leaf page that is damaged half the entries come
 * before.  It is for those who need the page to complain.
 */
static void
find_for_count(AlexRunReader *run_reader, AlexEntry entry, Position *position)
{
	const AlexPageReference none = ALEX_PAGE_REFERENCE_NONE;
	AlexFence	fence;

	position->leaf = alex_run_find(run_reader, entry.key, entry.tid);
	position->page = none;
	alex_run_place(run_reader, position->leaf, &fence);
	if (alex_page_try_open(run_reader->reader, fence.block, fence.stamp,
						   ALEX_PAGE_LEAF, &position->page))
		position->slot = alex_leaf_search(position->page.page, entry.key,
										  entry.tid);
	else
		position->slot = (int) fence.entries / 2;
}

static inline uint32
leaf_entries(AlexRunReader *run_reader, uint32 leaf)
{
	AlexFence	fence;

	alex_run_place(run_reader, leaf, &fence);
	return fence.entries;
}

/* Moves on, or back, by so many entries; false if there are fewer. */
static bool
move_position(AlexRunReader *run_reader, Position *position, bool forward,
			  uint64 edge, uint64 count)
{
	uint32		leaf = position->leaf;
	uint64		slot = position->slot;

	if (forward)
	{
		uint32		entries = leaf_entries(run_reader, leaf);

		slot += count;
		while (slot >= entries)
		{
			if (leaf + 1 >= run_reader->run->leaf_pages)
				return false;
			slot -= entries;
			entries = leaf_entries(run_reader, ++leaf);
		}
	}
	else
	{
		while (count > slot)
		{
			if (leaf == 0)
				return false;
			count -= slot;
			slot = leaf_entries(run_reader, --leaf);
		}
		slot -= count;
	}

	position->slot = (int) slot;
	if (position->leaf != leaf)
	{
		position->leaf = leaf;
		alex_run_read_ahead(run_reader, leaf, forward, edge);
		open_leaf(run_reader, position);
	}
	return true;
}

bool
alex_run_skip(AlexRunReader *run_reader, AlexEntry from, bool forward,
			  uint64 edge, uint64 count, AlexEntry *boundary)
{
	Position	position;
	bool		result;

	find_position(run_reader, from, forward, edge, &position);
	result = move_position(run_reader, &position, forward, edge, count);
	if (result)
	{
		boundary->key = alex_leaf_key(position.page.page, position.slot);
		boundary->tid = alex_leaf_tid(position.page.page, position.slot);
	}
	alex_page_close(&position.page);
	return result;
}

/* The entries of the leaf pages [from, to). */
static double
count_pages(AlexRunReader *run_reader, uint32 from, uint32 to)
{
	const AlexRun *run = run_reader->run;
	uint32		npages = to - from;
	double		sum = 0;

	if (npages <= COUNTED_PAGES)
	{
		for (uint32 leaf = from; leaf < to; leaf++)
			sum += leaf_entries(run_reader, leaf);
		return sum;
	}
	if (run->leaf_pages - npages <= COUNTED_PAGES)
		return (double) run->entries - count_pages(run_reader, 0, from) -
			count_pages(run_reader, to, run->leaf_pages);

	for (int i = 0; i < SAMPLED_PAGES; i++)
		sum += leaf_entries(run_reader, from +
							(uint32) ((uint64) npages * i / SAMPLED_PAGES));
	return sum * npages / SAMPLED_PAGES;
}

double
alex_run_count(AlexRunReader *run_reader, AlexEntry low, AlexEntry high)
{
	const AlexRun *run = run_reader->run;
	Position	first;
	Position	last;
	double		count;

	if (alex_compare(low.key, low.tid, run->min.key, run->min.tid) <= 0 &&
		alex_compare(high.key, high.tid, run->max.key, run->max.tid) > 0)
		return (double) run->entries;

	find_for_count(run_reader, low, &first);
	find_for_count(run_reader, high, &last);
	if (first.leaf <= last.leaf)
		count = count_pages(run_reader, first.leaf, last.leaf) +
			last.slot - first.slot;
	else
		count = 0;
	alex_page_close(&first.page);
	alex_page_close(&last.page);
	return Max(count, 0);
}
