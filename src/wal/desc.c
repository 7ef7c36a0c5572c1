/*-------------------------------------------------------------------------
 *
 * desc.c
 *	  The resource manager's records, for a person to read.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/wal/desc.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlogrecord.h"
#include "alex/wal.h"

#include "rmgr.h"

static const char *
page_kind_name(uint16 kind)
{
	switch (kind)
	{
		case ALEX_PAGE_META:
			return "meta";
		case ALEX_PAGE_MANIFEST:
			return "manifest";
		case ALEX_PAGE_LOG:
			return "log";
		case ALEX_PAGE_LEAF:
			return "leaf";
		case ALEX_PAGE_MODEL:
			return "model";
		case ALEX_PAGE_BLOOM:
			return "bloom";
		case ALEX_PAGE_FREE:
			return "free";
	}
	return "unknown";
}

static const char *
manifest_operation_name(uint16 operation)
{
	switch ((AlexManifestOperation) operation)
	{
		case ALEX_MANIFEST_FREEZE:
			return "freeze";
		case ALEX_MANIFEST_INSTALL:
			return "install";
		case ALEX_MANIFEST_COMPACT:
			return "compact";
		case ALEX_MANIFEST_REMOVE:
			return "remove";
		case ALEX_MANIFEST_VACUUM:
			return "vacuum";
		case ALEX_MANIFEST_EXTEND:
			return "extend";
	}
	return "unknown";
}

/* The data that records of a kind have, which tells damaged ones. */
Size
alex_record_size(uint8 info)
{
	switch (info & ~XLR_INFO_MASK)
	{
		case XLOG_ALEX_LOG_APPEND:
			return SizeOfAlexLogAppend;
		case XLOG_ALEX_LOG_PACKED:
			return SizeOfAlexLogPacked;
		case XLOG_ALEX_LOG_LINK:
			return SizeOfAlexLogLink;
		case XLOG_ALEX_RUN_PAGES:
			return SizeOfAlexRunPages;
		case XLOG_ALEX_MANIFEST:
			return SizeOfAlexManifest;
		case XLOG_ALEX_DEAD:
			return SizeOfAlexDead;
		case XLOG_ALEX_BARRIER:
			return SizeOfAlexBarrier;
		case XLOG_ALEX_FREE:
			return SizeOfAlexFree;
	}
	return 0;
}

static void
describe_node(StringInfo buf, const RelFileNode *node)
{
	appendStringInfo(buf, "rel %u/%u/%u",
					 node->spcNode, node->dbNode, node->relNode);
}

static void
describe_log_link(StringInfo buf, const xl_alex_log_link *link)
{
	appendStringInfo(buf,
					 "block %u stamp " UINT64_FORMAT
					 " incarnation " UINT64_FORMAT
					 " generation " UINT64_FORMAT " npages %u",
					 link->block, link->stamp, link->incarnation,
					 link->generation, link->npages);
}

static void
describe_manifest(StringInfo buf, const xl_alex_manifest *manifest)
{
	appendStringInfo(buf, "%s ", manifest_operation_name(manifest->operation));
	describe_node(buf, &manifest->node);
	appendStringInfo(buf, " version " UINT64_FORMAT " nruns %u",
					 manifest->version, manifest->nruns);
	if (FullTransactionIdIsValid(manifest->conflict))
		appendStringInfo(buf, " conflict %u:%u",
						 EpochFromFullTransactionId(manifest->conflict),
						 XidFromFullTransactionId(manifest->conflict));
}

/*
 * The slots are data of the block, and so are missing when the record has
 * an image of the page instead.
 */
static void
describe_dead(StringInfo buf, const xl_alex_dead *dead, XLogReaderState *record)
{
	Size		size;
	const char *slots = XLogRecGetBlockData(record, 0, &size);

	appendStringInfo(buf, "kind %s stamp " UINT64_FORMAT " count %u",
					 page_kind_name(dead->kind), dead->stamp, dead->count);
	if (slots == NULL)
		return;

	appendStringInfoString(buf, " slots [");
	for (int i = 0; i < dead->count && (i + 1) * sizeof(uint16) <= size; i++)
	{
		uint16		slot;

		memcpy(&slot, slots + i * sizeof(uint16), sizeof(uint16));
		appendStringInfo(buf, "%s%u", i > 0 ? ", " : "", slot);
	}
	appendStringInfoChar(buf, ']');
}

void
alex_desc(StringInfo buf, XLogReaderState *record)
{
	const char *data = XLogRecGetData(record);

	/* redo complains of such a record, and has it described for that */
	if (XLogRecGetDataLen(record) != alex_record_size(XLogRecGetInfo(record)))
	{
		appendStringInfo(buf, "%u bytes of data", XLogRecGetDataLen(record));
		return;
	}

	switch (XLogRecGetInfo(record) & ~XLR_INFO_MASK)
	{
		case XLOG_ALEX_LOG_APPEND:
			{
				const xl_alex_log_append *append = (const xl_alex_log_append *) data;

				appendStringInfo(buf, "first %u count %u",
								 append->first, append->count);
				break;
			}
		case XLOG_ALEX_LOG_PACKED:
			{
				const xl_alex_log_packed *packed = (const xl_alex_log_packed *) data;

				appendStringInfo(buf, "first %u count %u part %s",
								 packed->first, packed->count,
								 packed->part == ALEX_PART_NULLS ? "nulls" : "values");
				break;
			}
		case XLOG_ALEX_LOG_LINK:
			describe_log_link(buf, (const xl_alex_log_link *) data);
			break;
		case XLOG_ALEX_RUN_PAGES:
			{
				const xl_alex_run_pages *pages = (const xl_alex_run_pages *) data;

				appendStringInfo(buf,
								 "kind %s npages %u first stamp " UINT64_FORMAT,
								 page_kind_name(pages->kind), pages->npages,
								 pages->first_stamp);
				break;
			}
		case XLOG_ALEX_MANIFEST:
			describe_manifest(buf, (const xl_alex_manifest *) data);
			break;
		case XLOG_ALEX_DEAD:
			describe_dead(buf, (const xl_alex_dead *) data, record);
			break;
		case XLOG_ALEX_BARRIER:
			describe_node(buf, &((const xl_alex_barrier *) data)->node);
			break;
		case XLOG_ALEX_FREE:
			appendStringInfo(buf, "npages %u",
							 ((const xl_alex_free *) data)->npages);
			break;
	}
}

const char *
alex_identify(uint8 info)
{
	switch (info & ~XLR_INFO_MASK)
	{
		case XLOG_ALEX_LOG_APPEND:
			return "LOG_APPEND";
		case XLOG_ALEX_LOG_PACKED:
			return "LOG_PACKED";
		case XLOG_ALEX_LOG_LINK:
			return "LOG_LINK";
		case XLOG_ALEX_RUN_PAGES:
			return "RUN_PAGES";
		case XLOG_ALEX_MANIFEST:
			return "MANIFEST";
		case XLOG_ALEX_DEAD:
			return "DEAD";
		case XLOG_ALEX_BARRIER:
			return "BARRIER";
		case XLOG_ALEX_FREE:
			return "FREE";
	}
	return NULL;
}
