/*-------------------------------------------------------------------------
 *
 * page_changes.c
 *	  Changes of a page that are made in the same way when they are done and
 *	  when they are redone.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/wal/page_changes.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "alex/wal.h"

static int
set_dead_in_leaf(Page page, const uint16 *slots, int nslots)
{
	int			nset = 0;

	for (int i = 0; i < nslots; i++)
	{
		Assert(slots[i] < alex_leaf_count(page));
		if (alex_leaf_set_dead(page, slots[i]))
			nset++;
	}
	return nset;
}

static int
set_dead_in_log(AlexLogPage *log, const uint16 *slots, int nslots)
{
	int			nset = 0;

	for (int i = 0; i < nslots; i++)
	{
		AlexLogEntry *entry = &log->entries[slots[i]];

		Assert(slots[i] < log->count);
		if ((entry->tid & ALEX_LOG_DEAD) == 0)
		{
			entry->tid |= ALEX_LOG_DEAD;
			nset++;
		}
	}
	return nset;
}

int
alex_page_set_dead(Page page, const uint16 *slots, int nslots)
{
	if (alex_page_header(page)->kind == ALEX_PAGE_LEAF)
		return set_dead_in_leaf(page, slots, nslots);

	Assert(alex_page_header(page)->kind == ALEX_PAGE_LOG);
	return set_dead_in_log((AlexLogPage *) page, slots, nslots);
}
