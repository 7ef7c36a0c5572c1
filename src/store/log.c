/*-------------------------------------------------------------------------
 *
 * log.c
 *	  The log: chains of pages that hold the entries not yet in a run.
 *
 * Each generation has a chain of its own, from the head that the metapage
 * names to a tail page without a successor.  Entries stand in arrival order.
 * The tail's exclusive buffer lock is what serializes appends to an index;
 * a frozen chain's tail is flagged closed, so that a backend which remembers
 * it as the tail finds out.
 *
 * A sealed generation's pages are freed without regard to who may be reading
 * them.  A reader therefore compares stamp, incarnation and generation under
 * the page's lock and starts again from the metapage when they differ.
 *
 * Lock order: a new page, metapage, tail page, memtable.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/log.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"

#include "alex/am.h"
#include "alex/store.h"
#include "alex/wal.h"

void
alex_log_page_init(Page page, uint64 stamp, uint64 incarnation,
				   uint64 generation, uint32 number)
{
	AlexLogPage *log = (AlexLogPage *) page;

	alex_page_init(page, ALEX_PAGE_LOG, stamp);
	log->incarnation = incarnation;
	log->generation = generation;
	log->next = InvalidBlockNumber;
	log->number = number;
	((PageHeader) page)->pd_lower = offsetof(AlexLogPage, entries);
}

bool
alex_log_page_is(Page page, uint64 stamp)
{
	const AlexPageHeader *header = alex_page_header(page);

	return !PageIsNew(page) && header->kind == ALEX_PAGE_LOG &&
		header->stamp == stamp &&
		((const AlexLogPage *) page)->count <= ALEX_LOG_PAGE_ENTRIES;
}

void
alex_log_report_damage(Relation index, BlockNumber block)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("block %u of index \"%s\" is not the log page that was expected",
					block, RelationGetRelationName(index)),
			 errhint("Please REINDEX it.")));
}

void
alex_log_page_add(Page page, const AlexLogEntry *entries, int n)
{
	AlexLogPage *log = (AlexLogPage *) page;

	Assert(log->count + n <= ALEX_LOG_PAGE_ENTRIES);
	memcpy(&log->entries[log->count], entries, n * sizeof(AlexLogEntry));
	log->count += n;
	((PageHeader) page)->pd_lower = offsetof(AlexLogPage, entries) +
		log->count * sizeof(AlexLogEntry);
}

/* Where the metapage says that the active chain's tail is. */
static AlexLogPosition
read_tail(Relation index)
{
	Buffer		buffer = ReadBuffer(index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(buffer);
	AlexLogPosition tail = {0};

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	alex_meta_check(index, (Page) meta);
	tail.block = meta->active.tail;
	tail.stamp = meta->active.tail_stamp;
	tail.number = meta->active.npages;
	tail.count = 0;
	UnlockReleaseBuffer(buffer);

	return tail;
}

/* Adds the new page behind the old tail (invalid: none), and logs it. */
static void
link_page(Relation index, Buffer meta_buffer, Buffer old_buffer,
		  Buffer new_buffer, uint64 stamp)
{
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(meta_buffer);
	BlockNumber block = BufferGetBlockNumber(new_buffer);
	bool		need_wal = RelationNeedsWAL(index);

	START_CRIT_SECTION();

	alex_log_page_init(BufferGetPage(new_buffer), stamp, meta->incarnation,
					   meta->active.generation, meta->active.npages + 1);
	MarkBufferDirty(new_buffer);

	if (BufferIsValid(old_buffer))
	{
		AlexLogPage *old = (AlexLogPage *) BufferGetPage(old_buffer);

		old->next = block;
		old->next_stamp = stamp;
		MarkBufferDirty(old_buffer);
	}
	else
	{
		meta->active.head = block;
		meta->active.head_stamp = stamp;
	}
	meta->active.tail = block;
	meta->active.tail_stamp = stamp;
	meta->active.npages++;
	MarkBufferDirty(meta_buffer);

	if (need_wal)
	{
		xl_alex_log_link record = {0};
		XLogRecPtr	lsn;

		record.stamp = stamp;
		record.incarnation = meta->incarnation;
		record.generation = meta->active.generation;
		record.npages = meta->active.npages;
		record.block = block;

		XLogBeginInsert();
		XLogRegisterData((char *) &record, SizeOfAlexLogLink);
		XLogRegisterBuffer(0, meta_buffer, REGBUF_STANDARD);
		XLogRegisterBuffer(1, new_buffer, REGBUF_WILL_INIT | REGBUF_STANDARD);
		if (BufferIsValid(old_buffer))
			XLogRegisterBuffer(2, old_buffer, REGBUF_STANDARD);
		lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_LOG_LINK);

		PageSetLSN((Page) meta, lsn);
		PageSetLSN(BufferGetPage(new_buffer), lsn);
		if (BufferIsValid(old_buffer))
			PageSetLSN(BufferGetPage(old_buffer), lsn);
	}

	END_CRIT_SECTION();
}

/*
 * Extends the active chain, whose tail the caller found to be full (or
 * absent).  Returns the new tail, pinned and exclusively locked, or
 * InvalidBuffer when somebody else was faster.
 */
static Buffer
extend_chain(Relation index, AlexLogPosition tail, uint32 *linked)
{
	uint64		stamp = alex_new_stamp();
	Buffer		new_buffer = alex_space_claim(index, NULL);
	Buffer		meta_buffer = ReadBuffer(index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(meta_buffer);
	Buffer		old_buffer = InvalidBuffer;

	LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);

	if (meta->active.tail != tail.block ||
		meta->active.tail_stamp != tail.stamp)
	{
		BlockNumber unused = BufferGetBlockNumber(new_buffer);

		UnlockReleaseBuffer(meta_buffer);
		UnlockReleaseBuffer(new_buffer);
		RecordFreeIndexPage(index, unused);
		return InvalidBuffer;
	}

	if (BlockNumberIsValid(tail.block))
	{
		old_buffer = ReadBuffer(index, tail.block);
		LockBuffer(old_buffer, BUFFER_LOCK_EXCLUSIVE);
	}

	ALEX_FAILPOINT("log-before-link");
	link_page(index, meta_buffer, old_buffer, new_buffer, stamp);
	*linked = meta->active.npages;

	if (BufferIsValid(old_buffer))
		UnlockReleaseBuffer(old_buffer);
	UnlockReleaseBuffer(meta_buffer);

	return new_buffer;
}

/* Pins a page, without a search for its buffer if it is where it was. */
static Buffer
read_page(Relation index, BlockNumber block, Buffer recent)
{
	if (BufferIsValid(recent) &&
		ReadRecentBuffer(index->rd_node, MAIN_FORKNUM, block, recent))
		return recent;
	return ReadBuffer(index, block);
}

Buffer
alex_log_lock_tail(Relation index, AlexLogPosition hint, Buffer recent,
				   uint32 *linked)
{
	AlexLogPosition tail = hint;

	*linked = 0;

	if (tail.stamp == 0)
		tail = read_tail(index);

	for (;;)
	{
		Buffer		buffer;

		CHECK_FOR_INTERRUPTS();

		if (BlockNumberIsValid(tail.block))
		{
			AlexLogPage *log;

			buffer = read_page(index, tail.block, recent);
			log = (AlexLogPage *) BufferGetPage(buffer);
			LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);

			if (!alex_log_page_is((Page) log, tail.stamp) ||
				(log->flags & ALEX_LOG_CLOSED) != 0 ||
				BlockNumberIsValid(log->next))
			{
				AlexLogPosition now;

				/*
				 * The chain went on without us.  Whoever did that changed the
				 * metapage, which he held locked, too.
				 */
				UnlockReleaseBuffer(buffer);
				now = read_tail(index);
				if (now.block == tail.block && now.stamp == tail.stamp)
					alex_log_report_damage(index, tail.block);
				tail = now;
				continue;
			}
			if (log->count < ALEX_LOG_PAGE_ENTRIES)
				return buffer;
			UnlockReleaseBuffer(buffer);
		}

		buffer = extend_chain(index, tail, linked);
		if (BufferIsValid(buffer))
			return buffer;
		tail = read_tail(index);
	}
}

/*
 * Is this the page of that number of a chain?  The numbers ascend, so that a
 * walk along a chain that is damaged comes to an end.
 */
static inline bool
is_page_of_chain(const AlexLogPage *log, uint64 stamp,
				 const AlexLogChain *chain, uint32 number)
{
	return alex_log_page_is((Page) log, stamp) &&
		log->generation == chain->generation && log->number == number;
}

bool
alex_log_read(Relation index, const AlexLogChain *chain,
			  AlexLogPosition *position, AlexLogTake take, void *context)
{
	BlockNumber block = position->stamp == 0 ? chain->head : position->block;
	uint64		stamp = position->stamp == 0 ? chain->head_stamp : position->stamp;
	uint32		start = position->stamp == 0 ? 0 : position->count;
	uint32		number = position->stamp == 0 ? 1 : position->number;

	while (BlockNumberIsValid(block))
	{
		Buffer		buffer;
		AlexLogPage *log;

		CHECK_FOR_INTERRUPTS();

		buffer = ReadBuffer(index, block);
		log = (AlexLogPage *) BufferGetPage(buffer);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);

		if (!is_page_of_chain(log, stamp, chain, number) ||
			log->count < start)
		{
			UnlockReleaseBuffer(buffer);
			return false;
		}

		if (log->count > start)
			take(log->entries + start, log->count - start, context);

		position->stamp = stamp;
		position->block = block;
		position->number = log->number;
		position->count = log->count;

		block = log->next;
		stamp = log->next_stamp;
		number++;
		start = 0;
		UnlockReleaseBuffer(buffer);
	}

	return true;
}

/* The block at which a chain breaks off, or InvalidBlockNumber. */
static BlockNumber
find_break(Relation index, const AlexLogChain *chain)
{
	BlockNumber block = chain->generation == 0 ? InvalidBlockNumber : chain->head;
	uint64		stamp = chain->head_stamp;

	for (uint32 number = 1; BlockNumberIsValid(block); number++)
	{
		Buffer		buffer;
		AlexLogPage *log;
		BlockNumber next;

		CHECK_FOR_INTERRUPTS();

		buffer = ReadBuffer(index, block);
		log = (AlexLogPage *) BufferGetPage(buffer);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		if (!is_page_of_chain(log, stamp, chain, number))
		{
			UnlockReleaseBuffer(buffer);
			break;
		}
		next = log->next;
		stamp = log->next_stamp;
		UnlockReleaseBuffer(buffer);
		block = next;
	}

	return block;
}

void
alex_log_check_unbroken(Relation index, const AlexManifest *manifest)
{
	BlockNumber block = find_break(index, &manifest->frozen);
	AlexManifest *now;

	if (!BlockNumberIsValid(block))
		block = find_break(index, &manifest->active);
	if (!BlockNumberIsValid(block))
		return;

	/* a chain's pages are freed after the manifest has changed */
	now = alex_manifest_read(index);
	if (now->incarnation == manifest->incarnation &&
		now->version == manifest->version)
		alex_log_report_damage(index, block);
	pfree(now);
}

AlexPagePointer *
alex_log_pages(Relation index, const AlexLogChain *chain, int *npages)
{
	AlexPagePointer *pages = palloc(sizeof(AlexPagePointer) * chain->npages);
	BlockNumber block = chain->head;
	uint64		stamp = chain->head_stamp;

	*npages = 0;
	while (BlockNumberIsValid(block) && *npages < (int) chain->npages)
	{
		Buffer		buffer = ReadBuffer(index, block);
		AlexLogPage *log = (AlexLogPage *) BufferGetPage(buffer);

		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		if (!alex_log_page_is((Page) log, stamp))
			alex_log_report_damage(index, block);
		pages[*npages].block = block;
		pages[*npages].stamp = stamp;
		(*npages)++;
		block = log->next;
		stamp = log->next_stamp;
		UnlockReleaseBuffer(buffer);
	}

	return pages;
}

bool
alex_log_count(Relation index, const AlexLogChain *chain, uint64 *count)
{
	AlexLogPosition tail = {0};
	Buffer		buffer;
	bool		found;

	*count = 0;
	if (chain->npages == 0)
		return true;

	tail.number = chain->npages;
	buffer = ReadBuffer(index, chain->tail);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = alex_log_page_is(BufferGetPage(buffer), chain->tail_stamp);
	if (found)
		tail.count = ((AlexLogPage *) BufferGetPage(buffer))->count;
	UnlockReleaseBuffer(buffer);

	*count = alex_log_entries_before(&tail);
	return found;
}
