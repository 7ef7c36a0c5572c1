/*-------------------------------------------------------------------------
 *
 * append.c
 *	  Appending entries to the log and to the memtable, as one step.
 *
 * Entries go to the log page by page.  For each page the WAL record, the
 * page and the memtable change in one critical section under the tail's
 * exclusive lock, so that no error leaves one of them without the others,
 * and so that the memtable takes the entries in the log's order.
 *
 * The memtable is only a cache: when it does not fit any more, or does not
 * follow the log, it is unloaded and the next scan loads it again.  Nothing
 * here can fail for lack of its memory.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/append.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xloginsert.h"
#include "miscadmin.h"

#include "alex/am.h"
#include "alex/memtable.h"
#include "alex/wal.h"

/*
 * A log that takes more room than a share of the runs is sealed from so many
 * entries on, or from fewer, if half of them are of new versions of rows.
 */
#define MIN_LARGE				65536
#define MIN_VERSIONS			4096

/* Where this index's tail probably is; nothing known is all zeroes. */
static AlexLogPosition
tail_hint(AlexLocal *local)
{
	AlexMemtable *memtable = local->memtable;
	AlexLogPosition hint = {0};

	if (memtable == NULL)
		return hint;

	/*
	 * What we remember holds for this incarnation of the file only; the place
	 * in the registry changes its tenure when that ends.
	 */
	LWLockAcquire(&memtable->lock, LW_SHARED);
	if (pg_atomic_read_u64(&memtable->tenure) == local->tenure)
		hint = memtable->state == ALEX_MEMTABLE_READY ?
			memtable->generations[ALEX_ACTIVE].applied : local->tail;
	LWLockRelease(&memtable->lock);

	return hint;
}

/*
 * The index's memtable, locked; by way of what this backend remembers if
 * that is still right.
 */
static AlexMemtable *
lock_memtable(AlexLocal *local, Relation index)
{
	AlexMemtable *memtable = local->memtable;

	if (memtable != NULL)
	{
		LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
		if (pg_atomic_read_u64(&memtable->tenure) == local->tenure)
			return memtable;
		LWLockRelease(&memtable->lock);
	}
	return alex_registry_lock(index);
}

/*
 * Logs the entries just added behind the first "first" ones of the page; in
 * packed form if there is one ("packed" is not NULL).
 */
static void
log_append(Buffer buffer, const AlexLogEntry *entries, int first, int n,
		   const char *packed, int packed_size)
{
	xl_alex_log_append append;
	xl_alex_log_packed append_packed;
	XLogRecPtr	lsn;

	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	if (packed != NULL)
	{
		append_packed.first = first;
		append_packed.count = n;
		append_packed.part = ALEX_LOG_PART(&entries[0]);
		XLogRegisterData((char *) &append_packed, SizeOfAlexLogPacked);
		XLogRegisterBufData(0, (char *) packed, packed_size);
		lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_LOG_PACKED);
	}
	else
	{
		append.first = first;
		append.count = n;
		XLogRegisterData((char *) &append, SizeOfAlexLogAppend);
		XLogRegisterBufData(0, (char *) entries, n * sizeof(AlexLogEntry));
		lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_LOG_APPEND);
	}
	PageSetLSN(BufferGetPage(buffer), lsn);
}

/*
 * The number of entries at which a log that has "total" is to be sealed.  An
 * entry takes more room in the log than in a run; so the log of a small index
 * is not left to become larger than its runs are, least of all where it would
 * grow for as long as rows are updated.
 */
static uint64
seal_limit(const AlexMemtable *memtable, uint64 total)
{
	uint64		share = ALEX_LOG_SHARE(memtable->run_pages);
	bool		versions = memtable->versions * 2 >= total;
	uint64		limit = Max(share, versions ? MIN_VERSIONS : MIN_LARGE);

	if (memtable->no_room)
		limit = Min(limit, ALEX_MIN_SEALED);
	return Min(limit, alex_memtable_entries);
}

uint64
alex_append(Relation index, AlexLocal *local, const AlexLogEntry *entries,
			Size nentries, Size *appended)
{
	uint64		due = 0;

	while (nentries > 0)
	{
		uint32		linked;
		Buffer		buffer = alex_log_lock_tail(index, tail_hint(local),
												local->tail_buffer, &linked);
		AlexLogPage *log = (AlexLogPage *) BufferGetPage(buffer);
		int			n = Min(nentries, ALEX_LOG_PAGE_ENTRIES - log->count);
		AlexMemtable *memtable;
		AlexLogPosition before = {0};
		uint64		total;
		uint64		limit = alex_memtable_entries;
		const char *packed = NULL;
		int			packed_size = 0;

		before.stamp = log->header.stamp;
		before.block = BufferGetBlockNumber(buffer);
		before.number = log->number;
		before.count = log->count;

		if (RelationNeedsWAL(index) && n >= ALEX_LOG_MIN_PACKED)
		{
			int			npacked = alex_log_pack(entries, n, &packed,
												&packed_size);

			if (npacked > 0)
				n = npacked;
			else
				packed = NULL;
		}
		total = alex_log_entries_before(&before) + n;

		START_CRIT_SECTION();

		alex_log_page_add((Page) log, entries, n);
		MarkBufferDirty(buffer);
		if (RelationNeedsWAL(index))
			log_append(buffer, entries, before.count, n, packed, packed_size);
		ALEX_FAILPOINT("append-before-memtable");

		/* not held across the WAL insertion: scans need it */
		memtable = lock_memtable(local, index);
		if (memtable != NULL)
		{
			alex_memtable_apply(memtable, log->generation, &before, entries, n);
			limit = seal_limit(memtable, total);
			LWLockRelease(&memtable->lock);
		}
		*appended += n;

		END_CRIT_SECTION();

		UnlockReleaseBuffer(buffer);
		local->tail = before;
		local->tail_buffer = buffer;
		ALEX_FAILPOINT("append-after-page");

		entries += n;
		nentries -= n;

		/*
		 * Say so once, when the limit is passed; and again with every new
		 * page, in case that the seal could not be done then.
		 */
		if (total >= limit && (linked > 0 || total - n < limit))
			due = limit;
	}

	return due;
}
