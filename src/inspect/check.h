/*-------------------------------------------------------------------------
 *
 * check.h
 *	  What the files of alex_check() share.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/check.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_CHECK_H
#define ALEX_CHECK_H

#include "postgres.h"

#include "alex/am.h"
#include "alex/store.h"
#include "lib/bloomfilter.h"
#include "utils/snapshot.h"
#include "utils/tuplesort.h"

typedef struct AlexCheck
{
	Relation	heap;
	Relation	index;
	MemoryContext context;		/* of everything here */
	BufferAccessStrategy strategy;
	AlexMapping *mapping;		/* NULL: the relation is not mapped */
	bool		dead_bits_flushed;	/* all of them should be in the file */
	AlexManifest *manifest;
	const char *subject;		/* what is being checked, for messages */

	/* which blocks somebody was found to refer to, a bit each */
	BlockNumber nblocks;
	uint8	   *claimed;

	/* TIDs of live entries, to find the ones that are there twice */
	Tuplesortstate *tids;

	/* with heapallindexed: fingerprints of live entries */
	bloom_filter *fingerprints;
	Snapshot	snapshot;

	/* copy of the page being checked */
	PGAlignedBlock page;
} AlexCheck;

/* check.c */
extern void alex_check_fail(AlexCheck *check, BlockNumber block,
							const char *fault) pg_attribute_noreturn();
extern void alex_check_claim(AlexCheck *check, BlockNumber block);

/* check_page.c */

/* Copies a page to check->page; its block number may be anything. */
extern void alex_check_read(AlexCheck *check, BlockNumber block);

/* Copies and checks a sealed page, also as the mapping shows it. */
extern bool alex_check_is_claimed(const AlexCheck *check, BlockNumber block);
extern void alex_check_read_sealed(AlexCheck *check, BlockNumber block,
								   uint64 stamp, uint16 kind);

/* check_log.c */

/*
 * Checks both logs and the memtable over them.  False when the manifest has
 * changed meanwhile, which happens in recovery only.
 */
extern bool alex_check_logs(AlexCheck *check);

/* check_run.c */
extern void alex_check_run(AlexCheck *check, const AlexRun *run);

/* check_entries.c: what concerns all live entries, wherever they are */
extern void alex_check_entries_begin(AlexCheck *check, bool heapallindexed);

/* NULL, or what is wrong with the entry.  Takes a note of it. */
extern const char *alex_check_entry(AlexCheck *check, AlexPart part,
									uint64 key, uint64 tid);
extern void alex_check_entries_end(AlexCheck *check);

/* Forgets the notes, to begin again. */
extern void alex_check_entries_abandon(AlexCheck *check);

#endif							/* ALEX_CHECK_H */
