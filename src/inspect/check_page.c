/*-------------------------------------------------------------------------
 *
 * check_page.c
 *	  Reading the pages that alex_check() verifies.
 *
 * Pages are read through the buffer manager, since that is what decides
 * whether an index is sound: a reader that does not trust what the mapping
 * shows turns to it.  What scans do read most of the time is the mapping,
 * though, so it is compared.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/check_page.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "check.h"

/* Pins and share-locks a block, which may be any number. */
static Buffer
lock_block(AlexCheck *check, BlockNumber block)
{
	Buffer		buffer;

	CHECK_FOR_INTERRUPTS();

	if (block >= RelationGetNumberOfBlocks(check->index))
		alex_check_fail(check, block, "the block is beyond the end of the file");

	buffer = ReadBufferExtended(check->index, MAIN_FORKNUM, block, RBM_NORMAL,
								check->strategy);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);

	return buffer;
}

void
alex_check_read(AlexCheck *check, BlockNumber block)
{
	Buffer		buffer = lock_block(check, block);

	memcpy(check->page.data, BufferGetPage(buffer), BLCKSZ);
	UnlockReleaseBuffer(buffer);
}

/* Do two copies agree in all but the header that the buffer manager keeps? */
static bool
pages_agree(const char *page, const char *other)
{
	return memcmp(page + SizeOfPageHeaderData, other + SizeOfPageHeaderData,
				  BLCKSZ - SizeOfPageHeaderData) == 0;
}

/* Are they the same leaf page, its dead bits aside? */
static bool
leaves_agree(const char *page, const char *other)
{
	const AlexPageHeader *header = alex_page_header(page);
	const AlexPageHeader *other_header = alex_page_header(other);

	return header->kind == ALEX_PAGE_LEAF &&
		other_header->kind == ALEX_PAGE_LEAF &&
		other_header->stamp == header->stamp &&
		other_header->hash == header->hash &&
		other_header->version == header->version &&
		alex_leaf_count(other) == alex_leaf_count(page) &&
		alex_page_hash_fits(other);
}

/*
 * Compares the page with what the mapping shows.  The buffer is locked.
 *
 * The mapping may lag behind shared buffers where WAL was replayed since the
 * last checkpoint; readers then find a wrong stamp or hash and use the
 * buffer.  So a page that differs is flushed, and must agree then.
 *
 * Where nothing can be mapped, scans read shared buffers alone: then there is
 * nothing to compare.
 */
static void
compare_with_mapping(AlexCheck *check, Buffer buffer, BlockNumber block)
{
	const char *page = check->page.data;
	const char *mapped = alex_mapping_page(check->mapping, block);

	if (mapped == NULL)
	{
		if (check->mapping->error == ENOENT)
			alex_check_fail(check, block, "the page is not in the mapped file");
		return;
	}
	if (pages_agree(page, mapped))
		return;

	/* a newer snapshot would get a TID that may be in use again */
	if (check->dead_bits_flushed && leaves_agree(page, mapped))
		alex_check_fail(check, block, "its dead bits have not reached the file");

	FlushOneBuffer(buffer);
	if (!pages_agree(page, mapped) && !leaves_agree(page, mapped))
		alex_check_fail(check, block, "the mapped file shows another page than shared buffers");
}

void
alex_check_read_sealed(AlexCheck *check, BlockNumber block, uint64 stamp,
					   uint16 kind)
{
	Buffer		buffer = lock_block(check, block);
	const char *fault;

	memcpy(check->page.data, BufferGetPage(buffer), BLCKSZ);

	fault = alex_page_header_fault(check->page.data, stamp, kind);
	if (fault == NULL && !alex_page_hash_fits(check->page.data))
		fault = "the page does not fit its checksum";
	if (fault != NULL)
		alex_check_fail(check, block, fault);
	if (check->mapping != NULL)
		compare_with_mapping(check, buffer, block);

	UnlockReleaseBuffer(buffer);
}
