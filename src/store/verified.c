/*-------------------------------------------------------------------------
 *
 * verified.c
 *	  The pages whose hash somebody has verified, as far as remembered.
 *
 * A page that a backend touches first has been verified by another one as a
 * rule, and its hash over 8 kB, and asking the operating system for it, cost
 * more than all the rest of a probe.  So backends share a table of what they
 * have verified.  It may forget, which costs the next one these two; and it
 * is of fixed size, as shared memory is.
 *
 * The table is a cache like a processor's: a tag's upper bits choose one of
 * its lines, which is one cache line, so that a lookup waits for memory once,
 * and has WAYS places, any of which may hold the tag.  With one place for
 * each, pages would displace each other long before the table is full: were
 * it filled to the brim, a third of them.  A line's places hold 31 other bits
 * of the tag.  A page that was not verified is taken for one that was with a
 * probability of 2^-27 at most each time it is asked for, which is little beside
 * the 2^-16 with which a damaged page passes PostgreSQL's own checksums.
 *
 * Nobody takes a lock.  If two backends write to one place, one of the two
 * pages is verified again some time.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/verified.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xlog.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "alex/store.h"

/* 8 MB for two million pages, which are 16 GB. */
#define LINE_BITS				17
#define WAYS					16

typedef struct VerifiedLine
{
	pg_atomic_uint32 checks[WAYS];	/* 0: none */
} VerifiedLine;

StaticAssertDecl(sizeof(VerifiedLine) == ALEX_LINE_SIZE,
				 "a line of verified pages is one cache line");

typedef struct VerifiedPages
{
	bool		always;			/* whatever alexam.verify_checksums says */
	char		padding[ALEX_LINE_SIZE - sizeof(bool)];
	VerifiedLine lines[1 << LINE_BITS];
} VerifiedPages;

static VerifiedPages *verified_pages = NULL;

Size
alex_verified_shmem_size(void)
{
	return sizeof(VerifiedPages);
}

void
alex_verified_shmem_init(void)
{
	bool		found;

	/* allocations are aligned to cache lines */
	verified_pages = ShmemInitStruct("alexam verified pages",
									 alex_verified_shmem_size(), &found);
	if (found)
		return;

	/*
	 * There are readers in recovery, and pages that reach the file after it,
	 * only if one of these files is there when the server starts.
	 */
	verified_pages->always = access(STANDBY_SIGNAL_FILE, F_OK) == 0 ||
		access(RECOVERY_SIGNAL_FILE, F_OK) == 0;
	for (int i = 0; i < 1 << LINE_BITS; i++)
	{
		for (int j = 0; j < WAYS; j++)
			pg_atomic_init_u32(&verified_pages->lines[i].checks[j], 0);
	}
}

bool
alex_verified_always(void)
{
	return verified_pages->always;
}

/* The tag's line, and what stands there for the tag: never 0. */
static inline VerifiedLine *
find_line(uint64 tag, uint32 *check)
{
	*check = (uint32) (tag >> (32 - LINE_BITS)) | 1;
	return &verified_pages->lines[tag >> (64 - LINE_BITS)];
}

bool
alex_verified_contains(uint64 tag)
{
	uint32		check;
	VerifiedLine *line = find_line(tag, &check);
	bool		found = false;

	for (int i = 0; i < WAYS; i++)
		found |= pg_atomic_read_u32(&line->checks[i]) == check;
	return found;
}

void
alex_verified_add(uint64 tag)
{
	uint32		check;
	VerifiedLine *line = find_line(tag, &check);
	int			place;

	/* in a full line, any tag has to make room */
	for (place = 0; place < WAYS; place++)
	{
		if (pg_atomic_read_u32(&line->checks[place]) == 0)
			break;
	}
	if (place == WAYS)
		place = (check >> 1) % WAYS;
	pg_atomic_write_u32(&line->checks[place], check);
}
