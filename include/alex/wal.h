/*-------------------------------------------------------------------------
 *
 * wal.h
 *	  The resource manager's records.  Redo touches the registered blocks and
 *	  nothing else: never shared memory.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/wal.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_WAL_H
#define ALEX_WAL_H

#include "alex/store.h"

/* Unreserved number in the range for extensions. */
#define ALEX_RMGR_ID			187

#define XLOG_ALEX_LOG_APPEND	0x00	/* entries onto the tail page */
#define XLOG_ALEX_LOG_LINK		0x10	/* a new tail page */
#define XLOG_ALEX_RUN_PAGES		0x20	/* full images of pages */
#define XLOG_ALEX_MANIFEST		0x30	/* metapage and overflow pages */
#define XLOG_ALEX_DEAD			0x40	/* dead bits of one leaf or log page */
#define XLOG_ALEX_BARRIER		0x50	/* flush the relation's buffers */
#define XLOG_ALEX_FREE			0x60	/* pages become free */
#define XLOG_ALEX_LOG_PACKED	0x70	/* a sorted batch onto the tail page */

/* LOG_APPEND.  Block 0: the tail page; its data: the entries. */
typedef struct xl_alex_log_append
{
	uint16		first;			/* entries on the page before */
	uint16		count;			/* entries in the record */
} xl_alex_log_append;

/*
 * LOG_PACKED.  Block 0: the tail page; its data: the entries as alex_log_pack
 * packs them.
 */
typedef struct xl_alex_log_packed
{
	uint16		first;			/* entries on the page before */
	uint16		count;			/* entries in the record */
	uint16		part;			/* AlexPart, of all of them */
} xl_alex_log_packed;

/*
 * LOG_LINK.  Block 0: metapage; block 1: the new page, made anew; block 2:
 * the old tail, absent when the chain was empty.
 */
typedef struct xl_alex_log_link
{
	uint64		stamp;			/* of the new page */
	uint64		incarnation;
	uint64		generation;
	uint32		npages;			/* of the chain, the new one included */
	BlockNumber block;			/* the new page */
} xl_alex_log_link;

/* RUN_PAGES.  Blocks: full images, all. */
typedef struct xl_alex_run_pages
{
	uint64		first_stamp;
	uint16		kind;
	uint16		npages;
} xl_alex_run_pages;

/*
 * MANIFEST.  Block 0: metapage; blocks 1..: overflow pages; perhaps one log
 * page.  Full images, all.
 */
typedef struct xl_alex_manifest
{
	FullTransactionId conflict; /* snapshots that must be gone, if valid */
	RelFileNode node;
	uint16		operation;		/* AlexManifestOperation */
	uint16		nruns;
	uint32		unused;
	uint64		version;
} xl_alex_manifest;

/* DEAD.  Block 0: leaf or log page; its data: slot numbers, ascending. */
typedef struct xl_alex_dead
{
	uint64		stamp;
	uint16		kind;
	uint16		count;
} xl_alex_dead;

/* BARRIER.  No blocks. */
typedef struct xl_alex_barrier
{
	RelFileNode node;
} xl_alex_barrier;

/* FREE.  Blocks: the pages. */
typedef struct xl_alex_free
{
	uint16		npages;
} xl_alex_free;

#define SizeOfAlexLogAppend		sizeof(xl_alex_log_append)
#define SizeOfAlexLogPacked		sizeof(xl_alex_log_packed)
#define SizeOfAlexLogLink		sizeof(xl_alex_log_link)
#define SizeOfAlexRunPages		sizeof(xl_alex_run_pages)
#define SizeOfAlexManifest		sizeof(xl_alex_manifest)
#define SizeOfAlexDead			sizeof(xl_alex_dead)
#define SizeOfAlexBarrier		sizeof(xl_alex_barrier)
#define SizeOfAlexFree			sizeof(xl_alex_free)

/* A record never has more blocks than this. */
#define ALEX_RECORD_BLOCKS		XLR_MAX_BLOCK_ID

/* rmgr.c */
extern void alex_wal_register(void);

/* page_changes.c: changes of a page that do and redo share */

/* Sets dead bits of a leaf or log page; the slots that were not set yet. */
extern int	alex_page_set_dead(Page page, const uint16 *slots, int nslots);

/* records.c: the records that do not belong to one room's operation */

/*
 * Logs dead bits already set in an exclusively locked buffer; caller is in a
 * critical section.
 */
extern void alex_log_dead(Relation index, Buffer buffer, const uint16 *slots,
						  int nslots);
extern void alex_log_barrier(Relation index);

#endif							/* ALEX_WAL_H */
