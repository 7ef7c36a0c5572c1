/*-------------------------------------------------------------------------
 *
 * sorter.h
 *	  Sorting entries within a memory limit; see src/am/sorter.c and
 *	  src/am/sorted_chunks.c.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/sorter.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_SORTER_H
#define ALEX_SORTER_H

#include "postgres.h"

#include "storage/buffile.h"
#include "storage/sharedfileset.h"

#include "alex/learned.h"

typedef struct AlexSorter AlexSorter;

/* memory is in bytes; everything lives in the current memory context. */
extern AlexSorter *alex_sorter_begin(Size memory);
extern void alex_sorter_add(AlexSorter *sorter, uint64 key, uint64 tid);
extern uint64 alex_sorter_count(const AlexSorter *sorter);
/* After the last add, before the first read. */
extern void alex_sorter_sort(AlexSorter *sorter);
/* The next entries, valid until the next call; 0 at the end. */
extern int	alex_sorter_read(AlexSorter *sorter, const AlexEntry **entries);
extern void alex_sorter_end(AlexSorter *sorter);

/*
 * Instead of sort, read and end: leaves all entries as sorted chunks in a file
 * of that name, for any process that has the file set to read.  "share" comes
 * before the first add, "export" after the last one.  No entries, no file.
 */
typedef struct AlexSortedFile
{
	uint64		nentries;
	uint64		nsamples;
	uint64		nchunks;
} AlexSortedFile;

extern void alex_sorter_share(AlexSorter *sorter, SharedFileSet *files,
							  const char *name);
extern void alex_sorter_export(AlexSorter *sorter, AlexSortedFile *description);

/*
 * Sorted chunks in one or more files, read as one sorted sequence.
 *
 * Of a chunk in a shared file every ALEX_SAMPLE_INTERVAL-th entry is known,
 * from the first one on, so that the sequence can be split evenly, and a part
 * of it found.
 */
#define ALEX_SAMPLE_INTERVAL	2048

typedef struct AlexChunk
{
	uint64		first;			/* its first entry's number in the file */
	uint64		count;
} AlexChunk;

typedef struct AlexSortedChunks AlexSortedChunks;

extern AlexSortedChunks *alex_chunks_begin(void);
/* Chunks of a file that the caller has open, and can only be read whole. */
extern void alex_chunks_add(AlexSortedChunks *chunks, BufFile *file,
							const AlexChunk *places, int nplaces);
/* A file that alex_sorter_export made. */
extern void alex_chunks_open(AlexSortedChunks *chunks, SharedFileSet *files,
							 const char *name,
							 const AlexSortedFile *description);
extern uint64 alex_chunks_count(const AlexSortedChunks *chunks);

/*
 * Sets nparts - 1 entries that split the sequence into parts of about the same
 * size.  Whoever has opened the same files gets the same ones.
 */
extern void alex_chunks_split(AlexSortedChunks *chunks, int nparts,
							  AlexEntry *splitters);

/*
 * Begins to read what is not less than *from and less than *to; NULL is no
 * bound.
 */
extern void alex_chunks_seek(AlexSortedChunks *chunks, const AlexEntry *from,
							 const AlexEntry *to, Size memory);
/* As alex_sorter_read */
extern int	alex_chunks_read(AlexSortedChunks *chunks,
							 const AlexEntry **entries);
extern void alex_chunks_end(AlexSortedChunks *chunks);

#endif							/* ALEX_SORTER_H */
