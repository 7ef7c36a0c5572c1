/*-------------------------------------------------------------------------
 *
 * fuzz_redo.c
 *	  Redo and description of damaged WAL records.
 *
 * Redo must raise an error or leave pages that are as long as pages are.
 * When it raises one, the server describes the record in the error's context;
 * so that must stand it, too.
 *
 * Input: a byte with the kind of record, a byte with flags (for each of three
 * blocks whether the record has it, and whether an image of it), two bytes
 * each with the lengths of the record's data and the first block's, both of
 * these, then the pages that the blocks are, from block 0 on.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include "access/xlog_internal.h"
#include "access/xlogutils.h"
#include "alex/wal.h"
#include "lib/stringinfo.h"
#include "storage/smgr.h"

#include "../../src/wal/rmgr.h"

#define RECORD_BLOCKS		3

static RmgrData manager;
static char *block_data;
static uint16 block_size;
static uint8 flags;

/* What core does for us; blocks that are not there are its error. */
void
RegisterCustomRmgr(RmgrId number, RmgrData *data)
{
	manager = *data;
}

char *
XLogRecGetBlockData(XLogReaderState *record, uint8 block_id, Size *size)
{
	if (block_id > 0 || (flags & 1) == 0 || block_size == 0)
	{
		if (size)
			*size = 0;
		return NULL;
	}
	if (size)
		*size = block_size;
	return block_data;
}

static Buffer
pin_block(uint8 block_id)
{
	Buffer		buffer;

	if (block_id >= RECORD_BLOCKS || (flags & (1 << block_id)) == 0)
		ereport(PANIC, (errmsg("failed to locate backup block")));
	buffer = ReadBuffer(NULL, block_id);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	return buffer;
}

XLogRedoAction
XLogReadBufferForRedoExtended(XLogReaderState *record, uint8 block_id,
							  ReadBufferMode mode, bool get_cleanup_lock,
							  Buffer *buffer)
{
	*buffer = pin_block(block_id);
	return (flags & (8 << block_id)) != 0 ? BLK_RESTORED : BLK_NEEDS_REDO;
}

XLogRedoAction
XLogReadBufferForRedo(XLogReaderState *record, uint8 block_id, Buffer *buffer)
{
	return XLogReadBufferForRedoExtended(record, block_id, RBM_NORMAL, false,
										 buffer);
}

Buffer
XLogInitBufferForRedo(XLogReaderState *record, uint8 block_id)
{
	return pin_block(block_id);
}

SMgrRelation
smgropen(RelFileNode node, BackendId backend)
{
	return NULL;
}

void
FlushRelationsAllBuffers(SMgrRelation *relations, int nrelations)
{
}

static void
redo(void *argument)
{
	manager.rm_redo((XLogReaderState *) argument);
}

static void
describe(void *argument)
{
	char		text[256];
	StringInfoData string = {text, 0, sizeof(text), 0};

	manager.rm_desc(&string, (XLogReaderState *) argument);
	(void) manager.rm_identify(XLogRecGetInfo((XLogReaderState *) argument));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static DecodedXLogRecord *decoded = NULL;
	FuzzInput	input = {data, size};
	XLogReaderState record = {0};
	uint16		main_size;
	uint8		info;

	if (decoded == NULL)
	{
		decoded = calloc(1, sizeof(DecodedXLogRecord) +
						 RECORD_BLOCKS * sizeof(DecodedBkpBlock));
		alex_wal_register();
	}
	info = fuzz_take8(&input);
	flags = fuzz_take8(&input);
	fuzz_take(&input, &main_size, sizeof(main_size));
	fuzz_take(&input, &block_size, sizeof(block_size));
	main_size %= 256;
	block_size %= 2 * BLCKSZ;

	decoded->header.xl_info = info;
	decoded->header.xl_rmid = ALEX_RMGR_ID;
	decoded->main_data_len = main_size;
	decoded->main_data = malloc(main_size);
	fuzz_take(&input, decoded->main_data, main_size);
	block_data = malloc(block_size);
	fuzz_take(&input, block_data, block_size);
	decoded->max_block_id = -1;
	for (int i = 0; i < RECORD_BLOCKS; i++)
	{
		decoded->blocks[i].in_use = (flags & (1 << i)) != 0;
		if (decoded->blocks[i].in_use)
			decoded->max_block_id = i;
	}
	record.record = decoded;
	(void) server_take_relation(&input);

	(void) server_try(describe, &record);
	(void) server_try(redo, &record);

	free(decoded->main_data);
	free(block_data);
	return 0;
}
