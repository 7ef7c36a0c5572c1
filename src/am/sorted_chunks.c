/*-------------------------------------------------------------------------
 *
 * sorted_chunks.c
 *	  Merging sorted chunks of entries that are in temporary files.
 *
 * A sort that does not fit into memory leaves such chunks, and so does each
 * participant of a parallel build.  There the merge is shared out: everybody
 * reads the samples of all chunks, splits the whole sequence at the same
 * entries, and merges some of the parts.  No part needs to be cut out of the
 * files beforehand: where it begins and ends in a chunk is found by the
 * samples and one look at the entries in between.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/sorted_chunks.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

#include "alex/sorter.h"

/* Entries that are read from a chunk at a time: at most, and at least. */
#define MAX_BUFFER				4096
#define MIN_BUFFER				64
/* Entries that are handed out at a time. */
#define READ_ENTRIES			4096

typedef struct MergedChunk
{
	BufFile    *file;
	AlexChunk	place;
	const AlexEntry *samples;	/* NULL: it is only read whole */

	/* the part that is being read */
	uint64		next;			/* entries not in the buffer yet: the first */
	uint64		remaining;		/* and how many */
	AlexEntry  *buffer;
	int			position;
	int			count;
} MergedChunk;

/* A chunk's next entry, where the merge compares it. */
typedef struct ChunkHead
{
	AlexEntry	entry;
	MergedChunk *chunk;
} ChunkHead;

struct AlexSortedChunks
{
	MemoryContext context;		/* holds all of it */
	List	   *files;			/* BufFiles to be closed at the end */
	MergedChunk *chunks;
	int			nchunks;
	uint64		nentries;

	int			buffer_entries; /* room of each chunk's buffer */
	AlexEntry  *buffers;
	ChunkHead  *heap;			/* least entry first */
	int			heap_size;
	AlexEntry  *merged;			/* entries handed out last */
};

AlexSortedChunks *
alex_chunks_begin(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam sorted chunks",
												  ALLOCSET_DEFAULT_SIZES);
	AlexSortedChunks *chunks = MemoryContextAllocZero(context,
													  sizeof(AlexSortedChunks));

	chunks->context = context;
	chunks->merged = MemoryContextAlloc(context,
										READ_ENTRIES * sizeof(AlexEntry));
	return chunks;
}

void
alex_chunks_end(AlexSortedChunks *chunks)
{
	ListCell   *lc;

	foreach(lc, chunks->files)
		BufFileClose((BufFile *) lfirst(lc));
	MemoryContextDelete(chunks->context);
}

uint64
alex_chunks_count(const AlexSortedChunks *chunks)
{
	return chunks->nentries;
}

/* Reads 16-byte items of a file, from one of them on. */
static void
read_items(BufFile *file, uint64 first, void *items, uint64 count)
{
	Size		size = count * sizeof(AlexEntry);

	StaticAssertStmt(sizeof(AlexEntry) == 16 && sizeof(AlexChunk) == 16,
					 "the files are arrays of items of 16 bytes");

	if (BufFileSeek(file, 0, first * sizeof(AlexEntry), SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in temporary file of an index build")));
	if (BufFileRead(file, items, size) != size)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read from temporary file of an index build")));
}

static uint64
count_samples(const AlexChunk *place)
{
	return (place->count + ALEX_SAMPLE_INTERVAL - 1) / ALEX_SAMPLE_INTERVAL;
}

static void
add_chunks(AlexSortedChunks *chunks, BufFile *file, const AlexChunk *places,
		   int nplaces, const AlexEntry *samples)
{
	Size		size = (chunks->nchunks + nplaces) * sizeof(MergedChunk);

	if (chunks->chunks == NULL)
		chunks->chunks = MemoryContextAlloc(chunks->context, size);
	else
		chunks->chunks = repalloc(chunks->chunks, size);

	for (int i = 0; i < nplaces; i++)
	{
		MergedChunk *chunk = &chunks->chunks[chunks->nchunks++];

		memset(chunk, 0, sizeof(MergedChunk));
		chunk->file = file;
		chunk->place = places[i];
		chunk->samples = samples;
		chunks->nentries += places[i].count;
		if (samples != NULL)
			samples += count_samples(&places[i]);
	}
}

void
alex_chunks_add(AlexSortedChunks *chunks, BufFile *file,
				const AlexChunk *places, int nplaces)
{
	add_chunks(chunks, file, places, nplaces, NULL);
}

void
alex_chunks_open(AlexSortedChunks *chunks, SharedFileSet *files,
				 const char *name, const AlexSortedFile *description)
{
	MemoryContext old_context = MemoryContextSwitchTo(chunks->context);
	BufFile    *file;
	AlexEntry  *samples;
	AlexChunk  *places;

	if (description->nentries > 0)
	{
		file = BufFileOpenFileSet(&files->fs, name, O_RDONLY, false);
		chunks->files = lappend(chunks->files, file);
		samples = MemoryContextAllocHuge(chunks->context,
										 description->nsamples *
										 sizeof(AlexEntry));
		places = palloc(description->nchunks * sizeof(AlexChunk));
		read_items(file, description->nentries, samples,
				   description->nsamples);
		read_items(file, description->nentries + description->nsamples, places,
				   description->nchunks);
		add_chunks(chunks, file, places, description->nchunks, samples);
		pfree(places);
	}
	MemoryContextSwitchTo(old_context);
}

void
alex_chunks_split(AlexSortedChunks *chunks, int nparts, AlexEntry *splitters)
{
	uint64		nsamples = 0;
	uint64		n = 0;
	AlexEntry  *samples;

	for (int i = 0; i < chunks->nchunks; i++)
		nsamples += count_samples(&chunks->chunks[i].place);
	if (nsamples == 0 || nparts <= 1)
	{
		Assert(nparts <= 1);
		return;
	}

	/* the second half is working memory of the sort */
	samples = MemoryContextAllocHuge(chunks->context,
									 2 * nsamples * sizeof(AlexEntry));
	for (int i = 0; i < chunks->nchunks; i++)
	{
		uint64		count = count_samples(&chunks->chunks[i].place);

		memcpy(samples + n, chunks->chunks[i].samples,
			   count * sizeof(AlexEntry));
		n += count;
	}
	alex_sort(samples, samples + nsamples, nsamples);
	for (int i = 1; i < nparts; i++)
		splitters[i - 1] = samples[nsamples * i / nparts];
	pfree(samples);
}

static inline bool
is_less(const AlexEntry *entry1, const AlexEntry *entry2)
{
	return entry1->key < entry2->key ||
		(entry1->key == entry2->key && entry1->tid < entry2->tid);
}

/* How many of these sorted entries are less than the bound. */
static uint64
count_less(const AlexEntry *entries, uint64 nentries, const AlexEntry *bound)
{
	uint64		low = 0;
	uint64		high = nentries;

	while (low < high)
	{
		uint64		middle = low + (high - low) / 2;

		if (is_less(&entries[middle], bound))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* How many entries of the chunk are less than the bound. */
static uint64
find_in_chunk(AlexSortedChunks *chunks, const MergedChunk *chunk,
			  const AlexEntry *bound)
{
	AlexEntry  *entries = chunks->merged;
	uint64		first = count_less(chunk->samples,
								   count_samples(&chunk->place), bound);
	uint64		nentries;

	StaticAssertStmt(ALEX_SAMPLE_INTERVAL <= READ_ENTRIES,
					 "entries between two samples fit the array");

	if (first == 0)
		return 0;
	first = (first - 1) * ALEX_SAMPLE_INTERVAL;
	nentries = Min(chunk->place.count - first, ALEX_SAMPLE_INTERVAL);
	read_items(chunk->file, chunk->place.first + first, entries, nentries);
	return first + count_less(entries, nentries, bound);
}

/* Reads the chunk's next entries into its buffer; false at its end. */
static bool
fill_buffer(AlexSortedChunks *chunks, MergedChunk *chunk)
{
	CHECK_FOR_INTERRUPTS();

	chunk->position = 0;
	chunk->count = Min(chunk->remaining, chunks->buffer_entries);
	if (chunk->count == 0)
		return false;
	read_items(chunk->file, chunk->next, chunk->buffer, chunk->count);
	chunk->next += chunk->count;
	chunk->remaining -= chunk->count;
	return true;
}

/* Moves a head down from a place of the heap to where it belongs. */
static inline void
sift_down(AlexSortedChunks *chunks, int place, ChunkHead moving)
{
	ChunkHead  *heap = chunks->heap;

	for (;;)
	{
		int			child = 2 * place + 1;

		if (child >= chunks->heap_size)
			break;
		if (child + 1 < chunks->heap_size)
			child += is_less(&heap[child + 1].entry, &heap[child].entry);
		if (!is_less(&heap[child].entry, &moving.entry))
			break;
		heap[place] = heap[child];
		place = child;
	}
	heap[place] = moving;
}

static void
allocate_buffers(AlexSortedChunks *chunks, Size memory)
{
	Size		room = memory / 2 / sizeof(AlexEntry) / Max(chunks->nchunks, 1);

	chunks->buffer_entries = Min(Max(room, MIN_BUFFER), MAX_BUFFER);
	chunks->buffers = MemoryContextAllocHuge(chunks->context,
											 sizeof(AlexEntry) *
											 chunks->buffer_entries *
											 chunks->nchunks);
	chunks->heap = MemoryContextAlloc(chunks->context,
									  sizeof(ChunkHead) * chunks->nchunks);
	for (int i = 0; i < chunks->nchunks; i++)
		chunks->chunks[i].buffer = chunks->buffers +
			(Size) i * chunks->buffer_entries;
}

void
alex_chunks_seek(AlexSortedChunks *chunks, const AlexEntry *from,
				 const AlexEntry *to, Size memory)
{
	if (chunks->nchunks > 0 && chunks->buffers == NULL)
		allocate_buffers(chunks, memory);

	chunks->heap_size = 0;
	for (int i = 0; i < chunks->nchunks; i++)
	{
		MergedChunk *chunk = &chunks->chunks[i];
		uint64		begin = from == NULL ? 0 : find_in_chunk(chunks, chunk, from);
		uint64		end = to == NULL ? chunk->place.count :
			find_in_chunk(chunks, chunk, to);

		Assert(begin <= end);
		chunk->next = chunk->place.first + begin;
		chunk->remaining = end - begin;
		if (fill_buffer(chunks, chunk))
		{
			ChunkHead  *head = &chunks->heap[chunks->heap_size++];

			head->chunk = chunk;
			head->entry = chunk->buffer[chunk->position++];
		}
	}
	for (int place = chunks->heap_size / 2 - 1; place >= 0; place--)
		sift_down(chunks, place, chunks->heap[place]);
}

/* Takes the least of the chunks' next entries; there is one. */
static inline AlexEntry
take_least(AlexSortedChunks *chunks)
{
	AlexEntry	least = chunks->heap[0].entry;
	MergedChunk *chunk = chunks->heap[0].chunk;
	ChunkHead	head;

	/* put the chunk's next entry, or the last head, in the root's place */
	if (chunk->position < chunk->count || fill_buffer(chunks, chunk))
	{
		head.chunk = chunk;
		head.entry = chunk->buffer[chunk->position++];
	}
	else
		head = chunks->heap[--chunks->heap_size];
	if (chunks->heap_size > 0)
		sift_down(chunks, 0, head);

	return least;
}

int
alex_chunks_read(AlexSortedChunks *chunks, const AlexEntry **entries)
{
	int			n = 0;

	while (n < READ_ENTRIES && chunks->heap_size > 0)
		chunks->merged[n++] = take_least(chunks);
	*entries = chunks->merged;
	return n;
}
