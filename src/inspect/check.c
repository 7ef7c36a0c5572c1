/*-------------------------------------------------------------------------
 *
 * check.c
 *	  alex_check(): verification of a whole index.
 *
 * What is verified is one state of the index, the manifest and the logs as
 * of an instant.  The maintenance lock keeps VACUUM and compaction away to
 * the end, so that the runs of that state stay as they are.  The seal lock
 * is held only while the logs are read: a run that is sealed afterwards is
 * not of that state, and its pages look like orphans.
 *
 * Writers go on meanwhile, and in recovery so does redo, which no lock stops;
 * there, what is read of manifest and logs is read again if the manifest has
 * changed, and our snapshot protects the runs.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/check.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "alex/inspect.h"
#include "catalog/index.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "check.h"

PG_FUNCTION_INFO_V1(alex_check);

void
alex_check_fail(AlexCheck *check, BlockNumber block, const char *fault)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is damaged at block %u",
					RelationGetRelationName(check->index), block),
			 errdetail("%s: %s.", check->subject, fault),
			 errhint("Please REINDEX it.")));
}

/* Takes notice of the file's present size. */
static void
grow_claims(AlexCheck *check)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(check->index);
	Size		old_size = (check->nblocks + 7) / 8;
	Size		new_size = ((Size) nblocks + 7) / 8;

	if (nblocks <= check->nblocks)
		return;

	if (check->claimed == NULL)
		check->claimed = MemoryContextAllocHuge(check->context, new_size);
	else
		check->claimed = repalloc_huge(check->claimed, new_size);
	memset(check->claimed + old_size, 0, new_size - old_size);
	check->nblocks = nblocks;
}

bool
alex_check_is_claimed(const AlexCheck *check, BlockNumber block)
{
	return block < check->nblocks &&
		(check->claimed[block / 8] & (1 << (block % 8))) != 0;
}

/* Notes that something refers to a block, which nothing did before. */
void
alex_check_claim(AlexCheck *check, BlockNumber block)
{
	if (block >= check->nblocks)
		grow_claims(check);
	if (block >= check->nblocks)
		alex_check_fail(check, block, "the block is beyond the end of the file");
	if (alex_check_is_claimed(check, block))
		alex_check_fail(check, block, "the page belongs to something else, too");
	check->claimed[block / 8] |= 1 << (block % 8);
}

/*
 * Walks the manifest's pages for what alex_manifest_read() does not look at.
 * The metapage stays locked so that the chain of overflow pages does not
 * change.  False when the manifest is not the one that was read before.
 */
static bool
check_manifest_pages(AlexCheck *check)
{
	Buffer		buffer = ReadBuffer(check->index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(buffer);
	bool		unchanged;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	alex_meta_check(check->index, (Page) meta);
	unchanged = meta->manifest_version == check->manifest->version;

	check->subject = "Manifest";
	alex_check_claim(check, ALEX_META_BLOCK);
	if (unchanged)
	{
		BlockNumber block = meta->overflow;
		uint64		stamp = meta->overflow_stamp;

		for (uint32 i = 0; i < meta->noverflow; i++)
		{
			const AlexManifestPage *page = (AlexManifestPage *) check->page.data;

			alex_check_claim(check, block);
			alex_check_read(check, block);
			if (page->header.kind != ALEX_PAGE_MANIFEST ||
				page->header.stamp != stamp ||
				page->header.version != ALEX_SEALED_VERSION)
				alex_check_fail(check, block, "the page is not the overflow page that was linked");
			block = page->next;
			stamp = page->next_stamp;
		}
		if (BlockNumberIsValid(block))
			alex_check_fail(check, block, "there are more overflow pages than the metapage tells");
	}
	UnlockReleaseBuffer(buffer);

	return unchanged;
}

/* Checks what the manifest says that can be checked without other pages. */
static void
check_manifest(AlexCheck *check)
{
	const AlexManifest *manifest = check->manifest;

	check->subject = "Manifest";

	if ((manifest->flags & ~ALEX_META_UNFLUSHED) != 0)
		alex_check_fail(check, ALEX_META_BLOCK, "it has unknown flags");
	if (manifest->active.generation == 0 ||
		manifest->active.generation >= manifest->next_generation)
		alex_check_fail(check, ALEX_META_BLOCK, "its active generation was never started");
	if (manifest->frozen.generation >= manifest->active.generation)
		alex_check_fail(check, ALEX_META_BLOCK, "its frozen generation is not older than the active one");

	for (int i = 0; i < manifest->nruns; i++)
	{
		for (int j = 0; j < i; j++)
		{
			if (manifest->runs[i].id == manifest->runs[j].id)
				alex_check_fail(check, ALEX_META_BLOCK,
								psprintf("it lists run " UINT64_FORMAT " twice",
										 manifest->runs[i].id));
		}
	}
}

/*
 * Reads and checks manifest and logs as of an instant.  With the seal lock
 * nobody changes the manifest except, in recovery, redo.
 */
static void
check_state(AlexCheck *check, bool heapallindexed)
{
	LockPage(check->index, ALEX_SEAL_LOCK, ExclusiveLock);
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();

		if (check->claimed != NULL)
			memset(check->claimed, 0, ((Size) check->nblocks + 7) / 8);
		alex_check_entries_begin(check, heapallindexed);

		check->manifest = alex_manifest_read(check->index);
		if (check_manifest_pages(check) && alex_check_logs(check))
			break;

		alex_check_entries_abandon(check);
		pfree(check->manifest);
	}
	UnlockPage(check->index, ALEX_SEAL_LOCK, ExclusiveLock);

	check_manifest(check);
}

/*
 * Pages that nothing refers to: free ones, and orphans, which a crash or an
 * error may leave and VACUUM finds, or which a seal is about to list.
 */
static void
check_unclaimed(AlexCheck *check)
{
	BlockNumber nfree = 0;
	BlockNumber norphans = 0;

	check->subject = "Space";

	for (BlockNumber block = 0; block < check->nblocks; block++)
	{
		if (alex_check_is_claimed(check, block))
			continue;

		alex_check_read(check, block);
		if (PageIsNew(check->page.data))
		{
			nfree++;
			continue;
		}
		switch (alex_page_header(check->page.data)->kind)
		{
			case ALEX_PAGE_FREE:
				nfree++;
				break;
			case ALEX_PAGE_MANIFEST:
			case ALEX_PAGE_LOG:
			case ALEX_PAGE_LEAF:
			case ALEX_PAGE_MODEL:
			case ALEX_PAGE_BLOOM:
				norphans++;
				break;
			default:
				alex_check_fail(check, block,
								psprintf("the page is of unknown kind %04X",
										 alex_page_header(check->page.data)->kind));
		}
	}

	ereport(DEBUG1,
			(errmsg_internal("index \"%s\" has %u pages, %u of them free and %u orphans",
							 RelationGetRelationName(check->index),
							 check->nblocks, nfree, norphans)));
}

static void
release_mapping(void *argument)
{
	AlexCheck  *check = (AlexCheck *) argument;

	if (check->mapping != NULL)
		alex_mapping_release(check->mapping);
}

static void
check_index(Relation heap, Relation index, bool heapallindexed)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alex_check",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	AlexCheck  *check = palloc0(sizeof(AlexCheck));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	check->heap = heap;
	check->index = index;
	check->context = context;
	check->strategy = GetAccessStrategy(BAS_BULKREAD);

	/* an error must give the mapping back, too */
	callback->func = release_mapping;
	callback->arg = check;
	MemoryContextRegisterResetCallback(context, callback);

	check_state(check, heapallindexed);

	check->mapping = alex_mapping_acquire(index, check->manifest->incarnation);
	check->dead_bits_flushed = !RecoveryInProgress() &&
		(check->manifest->flags & ALEX_META_UNFLUSHED) == 0;
	/* the youngest first: they may have taken pages over from older ones */
	for (int i = check->manifest->nruns - 1; i >= 0; i--)
		alex_check_run(check, &check->manifest->runs[i]);
	check_unclaimed(check);
	alex_check_entries_end(check);

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
}

/*
 * The table is locked before the index, as everywhere.  If it is not an index
 * that we were asked about, alex_inspect_open() says so.
 */
Datum
alex_check(PG_FUNCTION_ARGS)
{
	Oid			indexid = PG_GETARG_OID(0);
	bool		heapallindexed = PG_GETARG_BOOL(1);
	Oid			heapid = IndexGetRelation(indexid, true);
	Relation	heap = NULL;
	Relation	index;

	if (OidIsValid(heapid))
		heap = table_open(heapid, AccessShareLock);
	index = alex_inspect_open(indexid, AccessShareLock, false);
	if (heap == NULL || heapid != IndexGetRelation(indexid, false))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("could not open parent table of index \"%s\"",
						RelationGetRelationName(index))));

	/*
	 * A VACUUM that holds the maintenance lock may be waiting for a pin that
	 * an index-only scan of this session holds; we must not wait for it then,
	 * as nobody would notice the deadlock.
	 */
	CheckTableNotInUse(index, "check");

	LockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);
	check_index(heap, index, heapallindexed);
	UnlockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	relation_close(index, AccessShareLock);
	table_close(heap, AccessShareLock);

	PG_RETURN_VOID();
}
