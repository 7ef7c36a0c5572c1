/*-------------------------------------------------------------------------
 *
 * read_ahead.c
 *	  Has the operating system read mapped pages before they are touched.
 *
 * To the kernel a mapped page that is not in its cache is a fault, and it
 * guesses what else will be wanted: whatever lies around that page, as much
 * as the device's readahead setting says, which may be megabytes.  We know
 * better.  A probe wants one page, a list of keys the pages that its keys
 * lead to, and a scan the pages that the next fences name, which need not lie
 * side by side in the file.  A page that is asked for is in the cache, or on
 * its way there, by the time it is touched, and then the kernel reads nothing
 * around it.
 *
 * Asking is a system call, and most pages are in the cache.  So single pages
 * are asked for only if nobody has verified them, which is to say touched
 * them, since the server started, or else so long ago that this has been
 * forgotten (reader.c).  A scan that goes from leaf page to leaf page asks
 * whatever is known of them, but for many at a time.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/read_ahead.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "alex/store.h"

/* Leaf pages that a scan asks for at first and at most. */
#define FIRST_WINDOW			2
#define LAST_WINDOW				32

/*
 * Participants of a parallel scan take turns at leaf pages, and merges pass
 * over some.  Who comes to one that is no further than this from its last one
 * goes along the run.  Longer steps make the window smaller: a participant may
 * just have had to wait, but a merge may need few pages.
 */
#define NEAR					8

/*
 * Asks for leaf pages from "first" on, up to "last" or the one that has the
 * edge.  Returns the number of the last one.
 */
static int64
ask_for_leaves(AlexRunReader *run_reader, int64 first, int64 last,
			   bool forward, uint64 edge)
{
	AlexMapping *mapping = run_reader->reader->mapping;
	int			step = forward ? 1 : -1;
	int64		number = first;
	BlockNumber begin = 0;
	BlockNumber nblocks = 0;

	for (;;)
	{
		AlexFence	fence;

		alex_run_fence(run_reader, (uint32) number, &fence);
		if (forward && fence.key > edge)
		{
			number--;
			break;
		}

		/* blocks that follow each other, in either direction, are one call */
		if (nblocks > 0 && fence.block == begin + nblocks)
			nblocks++;
		else if (nblocks > 0 && fence.block + 1 == begin)
		{
			begin--;
			nblocks++;
		}
		else
		{
			alex_mapping_will_need(mapping, begin, nblocks);
			begin = fence.block;
			nblocks = 1;
		}

		if (number == last || (!forward && fence.key < edge))
			break;
		number += step;
	}
	alex_mapping_will_need(mapping, begin, nblocks);
	return number;
}

void
alex_run_read_ahead(AlexRunReader *run_reader, uint32 number, bool forward,
					uint64 edge)
{
	AlexReadAhead *ahead = &run_reader->ahead;
	int			sign = forward ? 1 : -1;
	int64		moved = ((int64) number - ahead->place) * sign;
	int64		nleaves = run_reader->run->leaf_pages;
	int64		first;
	int64		last;

	if (run_reader->reader->mapping == NULL || moved == 0)
		return;
	ahead->place = number;
	if (moved < 0)
	{
		ahead->window = 0;
		return;
	}
	if (moved > NEAR)
	{
		ahead->window /= 2;
		ahead->trigger = number;
		return;
	}
	if (ahead->window > 0 && (number - ahead->trigger) * sign < 0)
		return;

	first = number;
	if (ahead->window > 0 && (ahead->asked - first) * sign >= 0)
		first = ahead->asked + sign;
	ahead->window = ahead->window == 0 ? FIRST_WINDOW :
		Min(2 * ahead->window, LAST_WINDOW);
	last = first + sign * (ahead->window - 1);
	last = Max(Min(last, nleaves - 1), 0);
	if ((last - first) * sign < 0)
		return;

	ahead->asked = ask_for_leaves(run_reader, first, last, forward, edge);

	/*
	 * The next pages are asked for when the first of these is come to; or, if
	 * the edge has been, when the scan goes beyond it all the same.
	 */
	ahead->trigger = ahead->asked == last ? first : ahead->asked + sign;
}
