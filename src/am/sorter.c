/*-------------------------------------------------------------------------
 *
 * sorter.c
 *	  Sorting the entries of a build within maintenance_work_mem.
 *
 * Entries are collected in memory and radix-sorted; when memory is full the
 * sorted chunk goes to a temporary file, and at the end the chunks are
 * merged.  Input that comes in order (an append-only table's timestamps) is
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
#include "storage/buffile.h"
#include "utils/memutils.h"

#include "alex/sorter.h"

/* Entries that a merge reads from a chunk at a time. */
#define CHUNK_BUFFER_ENTRIES	4096
/* Entries that are handed out at a time. */
#define READ_ENTRIES			4096

/* A sorted chunk in the temporary file, while merging. */
typedef struct AlexSortedChunk
{
	int			file_number;	/* where its next entry is in the file */
	off_t		file_offset;
	uint64		remaining;		/* entries not yet in the buffer */
	AlexEntry  *buffer;
	int			next;
	int			count;
} AlexSortedChunk;

/* A chunk's next entry, where the merge compares it. */
typedef struct AlexChunkHead
{
	AlexEntry	entry;
	AlexSortedChunk *chunk;
} AlexChunkHead;

struct AlexSorter
{
	MemoryContext context;
	AlexEntry  *entries;
	AlexEntry  *scratch;
	Size		nentries;
	Size		room;
	Size		limit;			/* entries that memory may hold */
	bool		in_order;		/* the entries collected so far are sorted */
	uint64		total;
	Size		next;			/* reading from memory */

	BufFile    *file;			/* NULL: nothing was spilled */
	int			nchunks;
	int			chunks_room;
	AlexSortedChunk *chunks;
	AlexChunkHead *heap;		/* least entry first */
	int			heap_size;
	AlexEntry  *merged;			/* entries handed out last */
};

AlexSorter *
alex_sorter_begin(Size memory)
{
	AlexSorter *sorter = palloc0(sizeof(AlexSorter));

	sorter->context = CurrentMemoryContext;
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

/* Writes what has been collected to the file as one sorted chunk. */
static void
spill(AlexSorter *sorter)
{
	AlexSortedChunk *chunk;

	sort_collected(sorter);

	if (sorter->file == NULL)
	{
		PrepareTempTablespaces();
		sorter->file = BufFileCreateTemp(false);
		sorter->chunks_room = 16;
		sorter->chunks = palloc(sizeof(AlexSortedChunk) * sorter->chunks_room);
	}
	if (sorter->nchunks == sorter->chunks_room)
	{
		sorter->chunks_room *= 2;
		sorter->chunks = repalloc(sorter->chunks,
								  sizeof(AlexSortedChunk) * sorter->chunks_room);
	}

	chunk = &sorter->chunks[sorter->nchunks++];
	memset(chunk, 0, sizeof(AlexSortedChunk));
	BufFileTell(sorter->file, &chunk->file_number, &chunk->file_offset);
	chunk->remaining = sorter->nentries;

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

/* Reads the chunk's next entries into its buffer; false at its end. */
static bool
fill_buffer(AlexSorter *sorter, AlexSortedChunk *chunk)
{
	Size		size;

	CHECK_FOR_INTERRUPTS();

	chunk->count = Min(chunk->remaining, CHUNK_BUFFER_ENTRIES);
	chunk->next = 0;
	if (chunk->count == 0)
		return false;

	size = chunk->count * sizeof(AlexEntry);
	if (BufFileSeek(sorter->file, chunk->file_number, chunk->file_offset,
					SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in temporary file of an index build")));
	if (BufFileRead(sorter->file, chunk->buffer, size) != size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read from temporary file of an index build")));
	BufFileTell(sorter->file, &chunk->file_number, &chunk->file_offset);
	chunk->remaining -= chunk->count;

	return true;
}

static inline bool
comes_before(const AlexChunkHead *head1, const AlexChunkHead *head2)
{
	return head1->entry.key < head2->entry.key ||
		(head1->entry.key == head2->entry.key &&
		 head1->entry.tid < head2->entry.tid);
}

/* Moves a head down from a place of the heap to where it belongs. */
static inline void
sift_down(AlexSorter *sorter, int place, AlexChunkHead moving)
{
	AlexChunkHead *heap = sorter->heap;

	for (;;)
	{
		int			child = 2 * place + 1;

		if (child >= sorter->heap_size)
			break;
		if (child + 1 < sorter->heap_size)
			child += comes_before(&heap[child + 1], &heap[child]);
		if (!comes_before(&heap[child], &moving))
			break;
		heap[place] = heap[child];
		place = child;
	}
	heap[place] = moving;
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
	pfree(sorter->entries);
	sorter->entries = NULL;
	if (sorter->scratch != NULL)
		pfree(sorter->scratch);
	sorter->scratch = NULL;

	sorter->merged = palloc(READ_ENTRIES * sizeof(AlexEntry));
	sorter->heap = palloc(sizeof(AlexChunkHead) * sorter->nchunks);
	for (int i = 0; i < sorter->nchunks; i++)
	{
		AlexSortedChunk *chunk = &sorter->chunks[i];

		chunk->buffer = palloc(CHUNK_BUFFER_ENTRIES * sizeof(AlexEntry));
		if (fill_buffer(sorter, chunk))
		{
			AlexChunkHead *head = &sorter->heap[sorter->heap_size++];

			head->chunk = chunk;
			head->entry = chunk->buffer[chunk->next++];
		}
	}
	for (int place = sorter->heap_size / 2 - 1; place >= 0; place--)
		sift_down(sorter, place, sorter->heap[place]);
}

/* Takes the least of the chunks' next entries; there is one. */
static inline AlexEntry
take_least(AlexSorter *sorter)
{
	AlexEntry	least = sorter->heap[0].entry;
	AlexSortedChunk *chunk = sorter->heap[0].chunk;
	AlexChunkHead head;

	/* put the chunk's next entry, or the last head, in the root's place */
	if (chunk->next < chunk->count || fill_buffer(sorter, chunk))
	{
		head.chunk = chunk;
		head.entry = chunk->buffer[chunk->next++];
	}
	else
		head = sorter->heap[--sorter->heap_size];
	if (sorter->heap_size > 0)
		sift_down(sorter, 0, head);

	return least;
}

int
alex_sorter_read(AlexSorter *sorter, const AlexEntry **entries)
{
	int			n = 0;

	if (sorter->file == NULL)
	{
		n = Min(sorter->nentries - sorter->next, READ_ENTRIES);
		*entries = sorter->entries + sorter->next;
		sorter->next += n;
		return n;
	}

	while (n < READ_ENTRIES && sorter->heap_size > 0)
		sorter->merged[n++] = take_least(sorter);
	*entries = sorter->merged;
	return n;
}

void
alex_sorter_end(AlexSorter *sorter)
{
	if (sorter->file != NULL)
	{
		BufFileClose(sorter->file);
		for (int i = 0; i < sorter->nchunks; i++)
			if (sorter->chunks[i].buffer != NULL)
				pfree(sorter->chunks[i].buffer);
		pfree(sorter->chunks);
		if (sorter->heap != NULL)
			pfree(sorter->heap);
		if (sorter->merged != NULL)
			pfree(sorter->merged);
	}
	if (sorter->entries != NULL)
		pfree(sorter->entries);
	if (sorter->scratch != NULL)
		pfree(sorter->scratch);
	pfree(sorter);
}
