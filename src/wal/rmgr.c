/*-------------------------------------------------------------------------
 *
 * rmgr.c
 *	  The resource manager: redo, masking and registration.
 *
 * Redo touches the blocks that a record registers and nothing else, above
 * all no shared memory of ours: a memtable is a cache over the log pages, and
 * the backends of a standby catch up with those pages by themselves.  The
 * one record without blocks, BARRIER, writes buffers out and keeps no state.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/wal/rmgr.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/bufmask.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "alex/wal.h"
#include "storage/smgr.h"
#include "storage/standby.h"

#include "rmgr.h"

static void
redo_log_append(XLogReaderState *record)
{
	xl_alex_log_append *append = (xl_alex_log_append *) XLogRecGetData(record);
	Buffer		buffer;

	if (XLogReadBufferForRedo(record, 0, &buffer) == BLK_NEEDS_REDO)
	{
		Page		page = BufferGetPage(buffer);
		AlexLogPage *log = (AlexLogPage *) page;
		Size		size;
		char	   *entries = XLogRecGetBlockData(record, 0, &size);

		if (log->header.kind != ALEX_PAGE_LOG ||
			log->count != append->first || append->count == 0 ||
			log->count + append->count > ALEX_LOG_PAGE_ENTRIES ||
			size != append->count * sizeof(AlexLogEntry))
			elog(PANIC, "alex log page does not fit the entries to be added");

		alex_log_page_add(page, (AlexLogEntry *) entries, append->count);
		PageSetLSN(page, record->EndRecPtr);
		MarkBufferDirty(buffer);
	}
	if (BufferIsValid(buffer))
		UnlockReleaseBuffer(buffer);
}

static void
redo_log_packed(XLogReaderState *record)
{
	xl_alex_log_packed *packed = (xl_alex_log_packed *) XLogRecGetData(record);
	Buffer		buffer;

	if (XLogReadBufferForRedo(record, 0, &buffer) == BLK_NEEDS_REDO)
	{
		Page		page = BufferGetPage(buffer);
		AlexLogPage *log = (AlexLogPage *) page;
		AlexLogEntry entries[ALEX_LOG_PAGE_ENTRIES];
		Size		size;
		char	   *data = XLogRecGetBlockData(record, 0, &size);
		const char *fault;

		if (log->header.kind != ALEX_PAGE_LOG ||
			log->count != packed->first ||
			log->count + packed->count > ALEX_LOG_PAGE_ENTRIES)
			elog(PANIC, "alex log page does not fit the entries to be added");

		fault = alex_log_unpack(data, size, packed->count,
								packed->part == ALEX_PART_NULLS, entries);
		if (fault != NULL)
			elog(PANIC, "packed entries of an alex log page are damaged: %s",
				 fault);

		alex_log_page_add(page, entries, packed->count);
		PageSetLSN(page, record->EndRecPtr);
		MarkBufferDirty(buffer);
	}
	if (BufferIsValid(buffer))
		UnlockReleaseBuffer(buffer);
}

/*
 * The new page comes first, then the link to it, then the metapage, one lock
 * at a time: whatever a reader of the standby sees in between is a chain
 * that holds all entries, since nothing is on the new page yet.
 */
static void
redo_log_link(XLogReaderState *record)
{
	xl_alex_log_link *link = (xl_alex_log_link *) XLogRecGetData(record);
	bool		has_old_tail = XLogRecHasBlockRef(record, 2);
	Buffer		buffer;

	buffer = XLogInitBufferForRedo(record, 1);
	alex_log_page_init(BufferGetPage(buffer), link->stamp, link->incarnation,
					   link->generation, link->npages);
	PageSetLSN(BufferGetPage(buffer), record->EndRecPtr);
	MarkBufferDirty(buffer);
	UnlockReleaseBuffer(buffer);

	if (has_old_tail)
	{
		if (XLogReadBufferForRedo(record, 2, &buffer) == BLK_NEEDS_REDO)
		{
			AlexLogPage *old = (AlexLogPage *) BufferGetPage(buffer);

			if (old->header.kind != ALEX_PAGE_LOG)
				elog(PANIC, "page to be linked from is not an alex log page");
			old->next = link->block;
			old->next_stamp = link->stamp;
			PageSetLSN((Page) old, record->EndRecPtr);
			MarkBufferDirty(buffer);
		}
		if (BufferIsValid(buffer))
			UnlockReleaseBuffer(buffer);
	}

	if (XLogReadBufferForRedo(record, 0, &buffer) == BLK_NEEDS_REDO)
	{
		AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(buffer);

		if (meta->header.kind != ALEX_PAGE_META)
			elog(PANIC, "page to be linked from is not an alex metapage");
		meta->active.generation = link->generation;
		if (!has_old_tail)
		{
			meta->active.head = link->block;
			meta->active.head_stamp = link->stamp;
		}
		meta->active.tail = link->block;
		meta->active.tail_stamp = link->stamp;
		meta->active.npages = link->npages;
		PageSetLSN((Page) meta, record->EndRecPtr);
		MarkBufferDirty(buffer);
	}
	if (BufferIsValid(buffer))
		UnlockReleaseBuffer(buffer);
}

/* Restores a block of which the record must have an image. */
static Buffer
restore_image(XLogReaderState *record, uint8 block_id)
{
	Buffer		buffer;

	if (XLogReadBufferForRedo(record, block_id, &buffer) != BLK_RESTORED)
		elog(PANIC, "alex record lacks the image of block %u", block_id);
	return buffer;
}

static void
redo_run_pages(XLogReaderState *record)
{
	for (int i = 0; i <= XLogRecMaxBlockId(record); i++)
		UnlockReleaseBuffer(restore_image(record, i));
}

/*
 * Readers hold the metapage's lock while they read the overflow pages, so we
 * hold it while we replace them.
 */
static void
redo_manifest(XLogReaderState *record)
{
	xl_alex_manifest *manifest = (xl_alex_manifest *) XLogRecGetData(record);
	Buffer		meta;

	/*
	 * Not all transaction ids that the primary gave out are known here: some
	 * have written nothing so far.  Core takes an id beyond the next one for
	 * one from long ago, with which nobody is in conflict; but everybody is.
	 */
	if (InHotStandby && FullTransactionIdIsValid(manifest->conflict))
	{
		FullTransactionId conflict = manifest->conflict;
		FullTransactionId next = ReadNextFullTransactionId();

		if (FullTransactionIdFollows(conflict, next))
			conflict = next;
		ResolveRecoveryConflictWithSnapshotFullXid(conflict, manifest->node);
	}

	meta = restore_image(record, 0);
	for (int i = 1; i <= XLogRecMaxBlockId(record); i++)
		UnlockReleaseBuffer(restore_image(record, i));
	UnlockReleaseBuffer(meta);
}

/* The entries of a leaf or log page, none if there cannot be so many. */
static int
count_entries(Page page)
{
	int			count = 0;
	int			limit = 0;

	if (alex_page_header(page)->kind == ALEX_PAGE_LEAF)
	{
		count = alex_leaf_count(page);
		limit = ALEX_LEAF_MAX_ENTRIES;
	}
	else if (alex_page_header(page)->kind == ALEX_PAGE_LOG)
	{
		count = ((AlexLogPage *) page)->count;
		limit = ALEX_LOG_PAGE_ENTRIES;
	}
	return count <= limit ? count : 0;
}

/*
 * An index-only scan of the standby that has a TID of this page in hand holds
 * a pin on it until it has looked at the visibility map.  The cleanup lock
 * waits for (or cancels) such scans before the heap's part of the VACUUM,
 * which comes later in WAL, marks the heap page all-visible.
 */
static void
redo_dead(XLogReaderState *record)
{
	xl_alex_dead *dead = (xl_alex_dead *) XLogRecGetData(record);
	Buffer		buffer;

	if (XLogReadBufferForRedoExtended(record, 0, RBM_NORMAL, true,
									  &buffer) == BLK_NEEDS_REDO)
	{
		Page		page = BufferGetPage(buffer);
		const AlexPageHeader *header = alex_page_header(page);
		Size		size;
		uint16	   *slots = (uint16 *) XLogRecGetBlockData(record, 0, &size);
		int			count;

		if (header->kind != dead->kind || header->stamp != dead->stamp ||
			dead->count == 0 || size != dead->count * sizeof(uint16))
			elog(PANIC, "alex page is not the one with the dead entries");

		count = count_entries(page);
		for (int i = 0; i < dead->count; i++)
		{
			if (slots[i] >= count)
				elog(PANIC, "alex page has no entry %u", slots[i]);
		}

		alex_page_set_dead(page, slots, dead->count);
		PageSetLSN(page, record->EndRecPtr);
		MarkBufferDirty(buffer);
	}
	if (BufferIsValid(buffer))
		UnlockReleaseBuffer(buffer);
}

/*
 * Mapped reads of the standby see only what has left shared buffers.  After
 * this record the TIDs of dead entries may be used again, so the dead bits
 * must be out by now.  It does not matter if the relation has been dropped
 * later in WAL: then it has no buffers, or their file was made anew with
 * them.
 */
static void
redo_barrier(XLogReaderState *record)
{
	xl_alex_barrier *barrier = (xl_alex_barrier *) XLogRecGetData(record);
	SMgrRelation reln = smgropen(barrier->node, InvalidBackendId);

	FlushRelationsAllBuffers(&reln, 1);
}

static void
redo_free(XLogReaderState *record)
{
	for (int i = 0; i <= XLogRecMaxBlockId(record); i++)
	{
		Buffer		buffer = XLogInitBufferForRedo(record, i);
		Page		page = BufferGetPage(buffer);

		alex_page_init(page, ALEX_PAGE_FREE, ALEX_FREE_STAMP);
		PageSetLSN(page, record->EndRecPtr);
		MarkBufferDirty(buffer);
		UnlockReleaseBuffer(buffer);
	}
}

static void
alex_redo(XLogReaderState *record)
{
	uint8		info = XLogRecGetInfo(record) & ~XLR_INFO_MASK;

	if (XLogRecGetDataLen(record) != alex_record_size(info))
		elog(PANIC, "alex record has %u bytes of data instead of %zu",
			 XLogRecGetDataLen(record), alex_record_size(info));

	switch (info)
	{
		case XLOG_ALEX_LOG_APPEND:
			redo_log_append(record);
			break;
		case XLOG_ALEX_LOG_PACKED:
			redo_log_packed(record);
			break;
		case XLOG_ALEX_LOG_LINK:
			redo_log_link(record);
			break;
		case XLOG_ALEX_RUN_PAGES:
			redo_run_pages(record);
			break;
		case XLOG_ALEX_MANIFEST:
			redo_manifest(record);
			break;
		case XLOG_ALEX_DEAD:
			redo_dead(record);
			break;
		case XLOG_ALEX_BARRIER:
			redo_barrier(record);
			break;
		case XLOG_ALEX_FREE:
			redo_free(record);
			break;
		default:
			elog(PANIC, "alex_redo: unknown op code %u", info);
	}
}

/*
 * We write no hints and keep pd_lower and pd_upper true on all pages, so
 * pages must agree in everything but LSN, checksum and the hole.
 */
static void
alex_mask(char *pagedata, BlockNumber block)
{
	Page		page = (Page) pagedata;

	mask_page_lsn_and_checksum(page);
	mask_unused_space(page);
}

void
alex_wal_register(void)
{
	static RmgrData rmgr = {
		.rm_name = ALEX_RMGR_NAME,
		.rm_redo = alex_redo,
		.rm_desc = alex_desc,
		.rm_identify = alex_identify,
		.rm_mask = alex_mask,
	};

	RegisterCustomRmgr(ALEX_RMGR_ID, &rmgr);
}
