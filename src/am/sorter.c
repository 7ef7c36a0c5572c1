/*-------------------------------------------------------------------------
 *
 * sorter.c
 *	  Sorting the entries of a build within maintenance_work_mem.
 *
 * Entries are collected in memory and radix-sorted; when memory is full the
 * sorted chunk goes to a temporary file, and at the end the chunks are merged
 * (sorted_chunks.c).  Input that comes in order (an append-only table's timestamps) is
 * found out by one comparison an entry and is not sorted at all.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/sorter.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/tablespace.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "alex/sorter.h"

/* Entries that are handed out at a time. */
#define READ_ENTRIES			4096

struct AlexSorter
{
	MemoryContext context;
	Size		memory;
	AlexEntry  *entries;
	AlexEntry  *scratch;
	Size		nentries;
	Size		room;
	Size		limit;			/* entries that memory may hold */
	bool		in_order;		/* the entries collected so far are sorted */
	uint64		total;
	Size		next;			/* reading from memory */

	BufFile    *file;			/* NULL: nothing was spilled */
	uint64		spilled;		/* entries in the file */
	int			nchunks;
	int			chunks_room;
	AlexChunk  *chunks;
	AlexSortedChunks *reader;

	/* if the chunks are for other processes, too */
	SharedFileSet *files;		/* NULL: they are not */
	const char *name;
	AlexEntry  *samples;
	uint64		nsamples;
	uint64		samples_room;
};

AlexSorter *
alex_sorter_begin(Size memory)
{
	AlexSorter *sorter = palloc0(sizeof(AlexSorter));

	sorter->context = CurrentMemoryContext;
	sorter->memory = memory;
	sorter->limit = Max(memory / (2 * sizeof(AlexEntry)), 1024);
	sorter->room = Min(sorter->limit, 8192);
	sorter->entries = MemoryContextAllocHuge(sorter->context,
											 sorter->room * sizeof(AlexEntry));
	sorter->in_order = true;

	return sorter;
}

static void
sort_collected(AlexSorter *sorter)
{
	if (sorter->in_order)
		return;
	if (sorter->scratch == NULL)
		sorter->scratch = MemoryContextAllocHuge(sorter->context,
												 sorter->room * sizeof(AlexEntry));
	alex_sort(sorter->entries, sorter->scratch, sorter->nentries);
}

static void
open_file(AlexSorter *sorter)
{
	if (sorter->files != NULL)
		sorter->file = BufFileCreateFileSet(&sorter->files->fs, sorter->name);
	else
	{
		PrepareTempTablespaces();
		sorter->file = BufFileCreateTemp(false);
	}
	sorter->chunks_room = 16;
	sorter->chunks = palloc(sizeof(AlexChunk) * sorter->chunks_room);
	if (sorter->files != NULL)
	{
		sorter->samples_room = 64;
		sorter->samples = palloc(sizeof(AlexEntry) * sorter->samples_room);
	}
}

/* Notes which of the collected entries are where in the new chunk. */
static void
take_samples(AlexSorter *sorter)
{
	for (Size i = 0; i < sorter->nentries; i += ALEX_SAMPLE_INTERVAL)
	{
		if (sorter->nsamples == sorter->samples_room)
		{
			sorter->samples_room *= 2;
			sorter->samples = repalloc_huge(sorter->samples,
											sorter->samples_room *
											sizeof(AlexEntry));
		}
		sorter->samples[sorter->nsamples++] = sorter->entries[i];
	}
}

/* Writes what has been collected to the file as one sorted chunk. */
static void
spill(AlexSorter *sorter)
{
	AlexChunk  *chunk;

	sort_collected(sorter);

	if (sorter->file == NULL)
		open_file(sorter);
	if (sorter->nchunks == sorter->chunks_room)
	{
		sorter->chunks_room *= 2;
		sorter->chunks = repalloc(sorter->chunks,
								  sizeof(AlexChunk) * sorter->chunks_room);
	}
	chunk = &sorter->chunks[sorter->nchunks++];
	chunk->first = sorter->spilled;
	chunk->count = sorter->nentries;
	sorter->spilled += sorter->nentries;
	if (sorter->files != NULL)
		take_samples(sorter);

	/* BufFileWrite takes an int's worth of bytes at the most */
	for (Size done = 0; done < sorter->nentries;)
	{
		Size		n = Min(sorter->nentries - done, 1024 * 1024);

		CHECK_FOR_INTERRUPTS();
		BufFileWrite(sorter->file, sorter->entries + done,
					 n * sizeof(AlexEntry));
		done += n;
	}

	sorter->nentries = 0;
	sorter->in_order = true;
}

/* Makes room for one more entry: more memory, or none is left: the file. */
static void
make_room(AlexSorter *sorter)
{
	if (sorter->room >= sorter->limit)
	{
		spill(sorter);
		return;
	}
	sorter->room = Min(sorter->room * 2, sorter->limit);
	sorter->entries = repalloc_huge(sorter->entries,
									sorter->room * sizeof(AlexEntry));
}

void
alex_sorter_add(AlexSorter *sorter, uint64 key, uint64 tid)
{
	AlexEntry  *entry;

	if (unlikely(sorter->nentries == sorter->room))
		make_room(sorter);

	entry = &sorter->entries[sorter->nentries];
	entry->key = key;
	entry->tid = tid;
	if (sorter->in_order && sorter->nentries > 0 &&
		alex_compare(entry[-1].key, entry[-1].tid, key, tid) > 0)
		sorter->in_order = false;
	sorter->nentries++;
	sorter->total++;
}

uint64
alex_sorter_count(const AlexSorter *sorter)
{
	return sorter->total;
}

static void
free_collected(AlexSorter *sorter)
{
	if (sorter->entries != NULL)
		pfree(sorter->entries);
	sorter->entries = NULL;
	if (sorter->scratch != NULL)
		pfree(sorter->scratch);
	sorter->scratch = NULL;
}

void
alex_sorter_sort(AlexSorter *sorter)
{
	if (sorter->file == NULL)
	{
		sort_collected(sorter);
		return;
	}

	if (sorter->nentries > 0)
		spill(sorter);
	free_collected(sorter);
	sorter->reader = alex_chunks_begin();
	alex_chunks_add(sorter->reader, sorter->file, sorter->chunks,
					sorter->nchunks);
	alex_chunks_seek(sorter->reader, NULL, NULL, sorter->memory);
}

int
alex_sorter_read(AlexSorter *sorter, const AlexEntry **entries)
{
	int			n;

	if (sorter->reader != NULL)
		return alex_chunks_read(sorter->reader, entries);

	n = Min(sorter->nentries - sorter->next, READ_ENTRIES);
	*entries = sorter->entries + sorter->next;
	sorter->next += n;
	return n;
}

void
alex_sorter_end(AlexSorter *sorter)
{
	if (sorter->reader != NULL)
		alex_chunks_end(sorter->reader);
	if (sorter->file != NULL)
	{
		BufFileClose(sorter->file);
		pfree(sorter->chunks);
		if (sorter->samples != NULL)
			pfree(sorter->samples);
	}
	free_collected(sorter);
	pfree(sorter);
}

void
alex_sorter_share(AlexSorter *sorter, SharedFileSet *files, const char *name)
{
	Assert(sorter->total == 0);
	sorter->files = files;
	sorter->name = name;
}

/* The samples and the chunks' places follow the entries in the file. */
void
alex_sorter_export(AlexSorter *sorter, AlexSortedFile *description)
{
	Assert(sorter->files != NULL);
	if (sorter->nentries > 0)
		spill(sorter);

	description->nentries = sorter->total;
	description->nsamples = sorter->nsamples;
	description->nchunks = sorter->nchunks;
	if (sorter->file != NULL)
	{
		BufFileWrite(sorter->file, sorter->samples,
					 sorter->nsamples * sizeof(AlexEntry));
		BufFileWrite(sorter->file, sorter->chunks,
					 sorter->nchunks * sizeof(AlexChunk));
		BufFileExportFileSet(sorter->file);
	}
	alex_sorter_end(sorter);
}
