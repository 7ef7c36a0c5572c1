/*-------------------------------------------------------------------------
 *
 * private_log.c
 *	  A backend's own sorted copy of an index's log.
 *
 * This is what a scan reads when the arena has no room for the memtable: on
 * a standby with a smaller arena than its primary, or while a long VACUUM
 * keeps a large generation from being sealed.  It is slower to make, and
 * made again whenever the log has grown, but needs nothing from anybody.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/private_log.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "alex/memtable.h"

/* Entries of one generation while they are collected. */
typedef struct AlexCollector
{
	MemoryContext context;
	AlexEntry  *entries[ALEX_PARTS];
	Size		nentries[ALEX_PARTS];
	Size		room[ALEX_PARTS];
} AlexCollector;

static void
collect(const AlexLogEntry *entries, int n, void *context)
{
	AlexCollector *collector = context;

	for (int i = 0; i < n; i++)
	{
		int			part = ALEX_LOG_PART(&entries[i]);

		if (entries[i].tid & ALEX_LOG_DEAD)
			continue;
		if (collector->nentries[part] == collector->room[part])
		{
			Size		room = Max(collector->room[part] * 2, 1024);
			Size		size = room * sizeof(AlexEntry);

			collector->entries[part] = collector->room[part] == 0 ?
				MemoryContextAllocHuge(collector->context, size) :
				repalloc_huge(collector->entries[part], size);
			collector->room[part] = room;
		}
		collector->entries[part][collector->nentries[part]].key = entries[i].key;
		collector->entries[part][collector->nentries[part]].tid = ALEX_LOG_TID(&entries[i]);
		collector->nentries[part]++;
	}
}

static void
sort_part(AlexEntry *entries, Size nentries)
{
	AlexEntry  *scratch;

	if (nentries < 2)
		return;
	scratch = MemoryContextAllocHuge(CurrentMemoryContext,
									 nentries * sizeof(AlexEntry));
	alex_sort(entries, scratch, nentries);
	pfree(scratch);
}

bool
alex_log_collect(Relation index, const AlexLogChain *chain,
				 AlexLogPosition *position, MemoryContext context,
				 AlexEntry **entries, Size *nentries)
{
	AlexCollector collector = {0};

	collector.context = context;
	if (chain->generation != 0 &&
		!alex_log_read(index, chain, position, collect, &collector))
	{
		for (int part = 0; part < ALEX_PARTS; part++)
			if (collector.entries[part] != NULL)
				pfree(collector.entries[part]);
		return false;
	}

	for (int part = 0; part < ALEX_PARTS; part++)
	{
		sort_part(collector.entries[part], collector.nentries[part]);
		entries[part] = collector.entries[part];
		nentries[part] = collector.nentries[part];
	}
	return true;
}

/* True if the log is still at the position to which it was read. */
static bool
is_at_tail(Relation index, const AlexLogChain *chain,
		   const AlexLogPosition *position)
{
	Buffer		buffer;
	AlexLogPage *log;
	bool		result;

	if (!BlockNumberIsValid(chain->tail))
		return position->stamp == 0;
	if (chain->tail_stamp != position->stamp)
		return false;

	buffer = ReadBuffer(index, chain->tail);
	log = (AlexLogPage *) BufferGetPage(buffer);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	result = alex_log_page_is((Page) log, position->stamp) &&
		!BlockNumberIsValid(log->next) && log->count == position->count;
	UnlockReleaseBuffer(buffer);

	return result;
}

bool
alex_private_log_is_current(Relation index, const AlexPrivateLog *log,
							const AlexManifest *manifest)
{
	return log->incarnation == manifest->incarnation &&
		log->dead_epoch == manifest->dead_epoch &&
		log->generations[ALEX_ACTIVE] == manifest->active.generation &&
		log->generations[ALEX_FROZEN] == manifest->frozen.generation &&
		is_at_tail(index, &manifest->active, &log->positions[ALEX_ACTIVE]);
}

/* Reads both chains as the manifest has them; NULL if one is gone. */
static AlexPrivateLog *
read_log(Relation index, const AlexManifest *manifest)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam private log",
												  ALLOCSET_SMALL_SIZES);
	AlexPrivateLog *log = MemoryContextAllocZero(context,
												 sizeof(AlexPrivateLog));

	log->references = 1;
	log->context = context;
	log->incarnation = manifest->incarnation;
	log->dead_epoch = manifest->dead_epoch;
	log->generations[ALEX_ACTIVE] = manifest->active.generation;
	log->generations[ALEX_FROZEN] = manifest->frozen.generation;

	if (alex_log_collect(index, &manifest->frozen,
						 &log->positions[ALEX_FROZEN], context,
						 log->entries[ALEX_FROZEN],
						 log->nentries[ALEX_FROZEN]) &&
		alex_log_collect(index, &manifest->active,
						 &log->positions[ALEX_ACTIVE], context,
						 log->entries[ALEX_ACTIVE],
						 log->nentries[ALEX_ACTIVE]))
		return log;

	MemoryContextDelete(context);
	return NULL;
}

AlexPrivateLog *
alex_private_log(Relation index, AlexPrivateLog *cached,
				 AlexManifest **manifest)
{
	for (;;)
	{
		AlexPrivateLog *log;
		AlexManifest *after;

		CHECK_FOR_INTERRUPTS();

		if (cached != NULL &&
			alex_private_log_is_current(index, cached, *manifest))
		{
			cached->references++;
			return cached;
		}

		log = read_log(index, *manifest);
		if (log == NULL)
			alex_log_check_unbroken(index, *manifest);

		/*
		 * A seal in the meantime would have moved entries from under us into
		 * a run that *manifest does not list, and a VACUUM may have marked
		 * entries dead that we had read already: then once more.
		 */
		after = alex_manifest_read(index);
		if (log != NULL && after->version == (*manifest)->version &&
			after->incarnation == (*manifest)->incarnation)
		{
			pfree(after);
			MemoryContextSetParent(log->context, CacheMemoryContext);
			return log;
		}
		if (log != NULL)
			MemoryContextDelete(log->context);
		pfree(*manifest);
		*manifest = after;
	}
}

void
alex_private_log_release(AlexPrivateLog *log)
{
	if (--log->references == 0)
		MemoryContextDelete(log->context);
}

/* The first of the sorted entries that is >= (or >, if not inclusive) from. */
static Size
find_from(const AlexEntry *entries, Size nentries, AlexEntry from,
		  bool inclusive)
{
	Size		low = 0;
	Size		high = nentries;

	while (low < high)
	{
		Size		middle = low + (high - low) / 2;
		int			order = alex_compare(entries[middle].key,
										 entries[middle].tid,
										 from.key, from.tid);

		if (order < 0 || (order == 0 && !inclusive))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int
alex_private_log_read(AlexPrivateLog *log, uint64 generation, AlexPart part,
					  AlexEntry from, bool inclusive, bool forward,
					  AlexEntry *out, int max)
{
	int			which = log->generations[ALEX_ACTIVE] == generation ?
		ALEX_ACTIVE : ALEX_FROZEN;
	const AlexEntry *entries = log->entries[which][part];
	Size		nentries = log->nentries[which][part];
	int			n = 0;

	Assert(log->generations[which] == generation);

	if (forward)
	{
		Size		next = find_from(entries, nentries, from, inclusive);

		while (n < max && next < nentries)
			out[n++] = entries[next++];
	}
	else
	{
		/* the entries before this one are < from, or <= from if inclusive */
		Size		end = find_from(entries, nentries, from, !inclusive);

		while (n < max && end > 0)
			out[n++] = entries[--end];
	}
	return n;
}

bool
alex_private_log_skip(const AlexPrivateLog *log, uint64 generation,
					  AlexPart part, AlexEntry from, bool forward,
					  uint64 count, AlexEntry *boundary)
{
	int			which = log->generations[ALEX_ACTIVE] == generation ?
		ALEX_ACTIVE : ALEX_FROZEN;
	const AlexEntry *entries = log->entries[which][part];
	Size		nentries = log->nentries[which][part];
	Size		at = find_from(entries, nentries, from, true);

	if (log->generations[which] != generation ||
		(forward ? count >= nentries - at : count > at))
		return false;
	*boundary = entries[forward ? at + count : at - count];
	return true;
}
