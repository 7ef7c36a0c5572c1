/*-------------------------------------------------------------------------
 *
 * records.c
 *	  Writing the records of VACUUM, which concern pages of several kinds.
 *
 * All other records are written where the change is made.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/wal/records.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xloginsert.h"
#include "alex/wal.h"
#include "miscadmin.h"

void
alex_log_dead(Relation index, Buffer buffer, const uint16 *slots, int nslots)
{
	Page		page = BufferGetPage(buffer);
	xl_alex_dead record = {0};
	XLogRecPtr	lsn;

	Assert(CritSectionCount > 0);
	Assert(nslots > 0);

	MarkBufferDirty(buffer);

	if (!RelationNeedsWAL(index))
		return;

	record.stamp = alex_page_header(page)->stamp;
	record.kind = alex_page_header(page)->kind;
	record.count = nslots;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfAlexDead);
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBufData(0, (char *) slots, nslots * sizeof(uint16));
	lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_DEAD);
	PageSetLSN(page, lsn);
}

void
alex_log_barrier(Relation index)
{
	xl_alex_barrier record;

	if (!RelationNeedsWAL(index))
		return;

	record.node = index->rd_node;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfAlexBarrier);
	XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_BARRIER);
}
