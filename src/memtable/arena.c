/*-------------------------------------------------------------------------
 *
 * arena.c
 *	  The memtables' memory: a fixed number of chunks in shared memory.
 *
 * Chunks never used before are handed out in order, so that an arena which
 * is larger than what its indexes need costs no physical memory; chunks that
 * came back are kept in a list threaded through them.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/arena.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/shmem.h"
#include "storage/spin.h"

#include "alex/am.h"
#include "alex/memtable.h"

typedef struct AlexArena
{
	slock_t		mutex;
	uint32		nchunks;
	uint32		nfresh;			/* chunks from here on were never used */
	uint32		nreturned;		/* length of the list */
	uint32		returned;		/* its first chunk */
} AlexArena;

static AlexArena *arena;
static AlexChunks chunks;

/* A returned chunk begins with the number of the next one. */
#define NEXT_RETURNED(chunk) \
	(*(uint32 *) (chunks.base + (Size) (chunk) * ALEX_PAGE_SIZE))

static uint32
arena_chunks(void)
{
	return (uint32) ((Size) alex_memtable_memory * 1024 / ALEX_PAGE_SIZE);
}

Size
alex_arena_shmem_size(void)
{
	Size		size = CACHELINEALIGN(sizeof(AlexArena));

	size = add_size(size, PG_CACHE_LINE_SIZE);
	return add_size(size, mul_size(arena_chunks(), ALEX_PAGE_SIZE));
}

static uint32
allocate_chunk(void *context)
{
	uint32		chunk = ALEX_NO_CHUNK;

	SpinLockAcquire(&arena->mutex);
	if (arena->nreturned > 0)
	{
		chunk = arena->returned;
		arena->returned = NEXT_RETURNED(chunk);
		arena->nreturned--;
	}
	else if (arena->nfresh < arena->nchunks)
		chunk = arena->nfresh++;
	SpinLockRelease(&arena->mutex);

	return chunk;
}

static void
release_chunk(void *context, uint32 chunk)
{
	SpinLockAcquire(&arena->mutex);
	NEXT_RETURNED(chunk) = arena->returned;
	arena->returned = chunk;
	arena->nreturned++;
	SpinLockRelease(&arena->mutex);
}

void
alex_arena_shmem_init(void)
{
	bool		found;

	arena = ShmemInitStruct("alexam memtable arena", alex_arena_shmem_size(),
							&found);
	if (!found)
	{
		memset(arena, 0, sizeof(AlexArena));
		SpinLockInit(&arena->mutex);
		arena->nchunks = arena_chunks();
		arena->returned = ALEX_NO_CHUNK;
	}

	chunks.base = (char *) CACHELINEALIGN((char *) arena + sizeof(AlexArena));
	chunks.allocate = allocate_chunk;
	chunks.release = release_chunk;
	chunks.context = NULL;
}

AlexChunks *
alex_arena_chunks(void)
{
	return &chunks;
}
