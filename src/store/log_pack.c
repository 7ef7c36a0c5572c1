/*-------------------------------------------------------------------------
 *
 * log_pack.c
 *	  Entries of a batch in packed form, for the WAL record that adds them to
 *	  a log page.
 *
 * A log page holds entries as they are, 16 bytes each, since they come in any
 * order and VACUUM marks them one by one.  But a batch comes sorted, and the
 * record of a sorted batch may as well be as small as the leaf page that it
 * becomes in the end.  So it has just that, a packed leaf page, less its page
 * header and whatever follows the last byte that is not zero.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/log_pack.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "alex/store.h"

/* Where the packed form begins on the page, and the least it can be. */
#define PACKED_START			ALEX_PAGE_HASHED_FROM
#define PACKED_MIN				(ALEX_LINE_SIZE - PACKED_START)

/*
 * What packing works with, for the life of the backend.  It is large because
 * it would do for whole leaf pages; most of it is never touched.
 */
static AlexLeafEncoder *encoder = NULL;
static AlexEntry *sorted = NULL;
static PGAlignedBlock *packed = NULL;

static void
allocate_workspace(void)
{
	MemoryContext context = TopMemoryContext;

	if (sorted == NULL)
		sorted = MemoryContextAlloc(context,
									sizeof(AlexEntry) * ALEX_LOG_PAGE_ENTRIES);
	if (packed == NULL)
		packed = MemoryContextAlloc(context, sizeof(PGAlignedBlock));
	if (encoder == NULL)
	{
		AlexLeafEncoder *allocated;

		allocated = MemoryContextAllocHuge(context, alex_leaf_encoder_size());
		alex_leaf_encoder_init(allocated);
		encoder = allocated;
	}
}

/* How many of the entries, from the first on, ascend and are of one part. */
static int
count_sorted(const AlexLogEntry *entries, int nentries)
{
	uint64		part = entries[0].tid & ALEX_LOG_NULL;
	int			n;

	for (n = 0; n < nentries; n++)
	{
		sorted[n].key = entries[n].key;
		sorted[n].tid = ALEX_LOG_TID(&entries[n]);
		if ((entries[n].tid & (ALEX_LOG_NULL | ALEX_LOG_DEAD)) != part)
			break;
		if (n > 0 && alex_compare(sorted[n - 1].key, sorted[n - 1].tid,
								  sorted[n].key, sorted[n].tid) >= 0)
			break;
	}
	return n;
}

int
alex_log_pack(const AlexLogEntry *entries, int nentries, const char **data,
			  int *size)
{
	int			n;
	int			end;

	Assert(nentries <= ALEX_LOG_PAGE_ENTRIES);

	allocate_workspace();
	n = count_sorted(entries, nentries);
	if (n < ALEX_LOG_MIN_PACKED ||
		alex_leaf_encode(encoder, packed, 0, sorted, n) != n)
		return 0;

	for (end = BLCKSZ; end > PACKED_START + PACKED_MIN; end--)
		if (packed->data[end - 1] != 0)
			break;
	*data = packed->data + PACKED_START;
	*size = end - PACKED_START;

	return *size < n * (int) sizeof(AlexLogEntry) ? n : 0;
}

const char *
alex_log_unpack(const char *data, Size size, int nentries, bool nulls,
				AlexLogEntry *entries)
{
	PGAlignedBlock page;
	AlexPageHeader *header = (AlexPageHeader *) page.data;
	const char *fault;

	if (data == NULL || size < PACKED_MIN || size > BLCKSZ - PACKED_START)
		return "size is out of range";

	memset(page.data, 0, BLCKSZ);
	header->kind = ALEX_PAGE_LEAF;
	header->version = ALEX_SEALED_VERSION;
	memcpy(page.data + PACKED_START, data, size);
	fault = alex_leaf_check(page.data);
	if (fault != NULL)
		return fault;
	if (alex_leaf_count(page.data) != nentries)
		return "number of entries differs";

	for (int first = 0; first < nentries; first += ALEX_LEAF_BLOCK)
	{
		uint64		keys[ALEX_LEAF_BLOCK];
		uint64		tids[ALEX_LEAF_BLOCK];
		int			n = Min(nentries - first, ALEX_LEAF_BLOCK);

		alex_leaf_unpack(page.data, first, n, keys, tids);
		for (int i = 0; i < n; i++)
		{
			entries[first + i].key = keys[i];
			entries[first + i].tid = tids[i] | (nulls ? ALEX_LOG_NULL : 0);
		}
	}
	return NULL;
}
