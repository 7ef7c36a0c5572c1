/*-------------------------------------------------------------------------
 *
 * meta.c
 *	  The metapage and the manifest.
 *
 * The manifest begins in the metapage and goes on in a chain of overflow
 * pages, which are locked after the metapage, in chain order.  Whoever holds
 * the metapage's lock therefore sees one manifest.  A change rewrites the
 * pages that differ and logs full images of them: changes are as rare as
 * seals, and redo that only restores images cannot go wrong.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/meta.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xloginsert.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"

#include "alex/store.h"
#include "alex/wal.h"

StaticAssertDecl(ALEX_MAX_OVERFLOW + 2 <= ALEX_RECORD_BLOCKS,
				 "the metapage, overflow pages and one more fit into one record");

static Size
manifest_size(int nruns)
{
	return offsetof(AlexManifest, runs) + sizeof(AlexRun) * (Size) nruns;
}

static void
set_meta_lower(Page page, int nruns)
{
	((PageHeader) page)->pd_lower =
		offsetof(AlexMetaPage, runs) + nruns * sizeof(AlexRun);
}

static void
set_overflow_lower(Page page, int nruns)
{
	((PageHeader) page)->pd_lower =
		offsetof(AlexManifestPage, runs) + nruns * sizeof(AlexRun);
}

/* How many of the runs stand in the metapage itself. */
static int
runs_in_meta(const AlexMetaPage *meta)
{
	return (((const PageHeaderData *) meta)->pd_lower -
			offsetof(AlexMetaPage, runs)) / sizeof(AlexRun);
}

void
alex_meta_init(Page page)
{
	AlexMetaPage *meta = (AlexMetaPage *) page;
	uint64		incarnation = alex_new_stamp();

	alex_page_init(page, ALEX_PAGE_META, incarnation);
	meta->magic = ALEX_MAGIC;
	meta->format_version = ALEX_FORMAT_VERSION;
	meta->incarnation = incarnation;
	meta->manifest_version = 1;
	meta->next_generation = 2;
	meta->next_run_id = 1;
	meta->active.generation = 1;
	meta->active.head = InvalidBlockNumber;
	meta->active.tail = InvalidBlockNumber;
	meta->frozen.head = InvalidBlockNumber;
	meta->frozen.tail = InvalidBlockNumber;
	meta->overflow = InvalidBlockNumber;
	set_meta_lower(page, 0);
}

/* Can a chain be like that?  Its pages are looked at by those who read it. */
static inline bool
is_chain(const AlexLogChain *chain)
{
	if (chain->npages == 0)
		return !BlockNumberIsValid(chain->head) &&
			!BlockNumberIsValid(chain->tail);
	return BlockNumberIsValid(chain->head) && chain->head != ALEX_META_BLOCK &&
		BlockNumberIsValid(chain->tail) && chain->tail != ALEX_META_BLOCK;
}

void
alex_meta_check(Relation index, Page page)
{
	AlexMetaPage *meta = (AlexMetaPage *) page;

	if (PageIsNew(page) || meta->header.kind != ALEX_PAGE_META ||
		meta->magic != ALEX_MAGIC)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("index \"%s\" has no valid metapage",
						RelationGetRelationName(index)),
				 errdetail("Block 0 is not an alex metapage."),
				 errhint("Please REINDEX it.")));

	if (meta->format_version != ALEX_FORMAT_VERSION)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("index \"%s\" has format version %u, but the alexam library supports version %u only",
						RelationGetRelationName(index),
						meta->format_version, ALEX_FORMAT_VERSION),
				 errhint("Please REINDEX it, or install the library version that built it.")));

	if (meta->header.stamp != meta->incarnation ||
		runs_in_meta(meta) > ALEX_META_RUNS ||
		runs_in_meta(meta) > meta->nruns ||
		!is_chain(&meta->active) || !is_chain(&meta->frozen) ||
		meta->noverflow > ALEX_MAX_OVERFLOW ||
		meta->nruns > ALEX_META_RUNS + meta->noverflow * ALEX_MANIFEST_RUNS)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("metapage of index \"%s\" is damaged",
						RelationGetRelationName(index)),
				 errhint("Please REINDEX it.")));
}

static void pg_attribute_noreturn()
report_overflow(Relation index, BlockNumber block)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("manifest page at block %u of index \"%s\" is damaged",
					block, RelationGetRelationName(index)),
			 errhint("Please REINDEX it.")));
}

/*
 * Raises an error unless the chain of overflow pages, of which so many have
 * been locked, can go on with a block: to lock a page twice is to wait for
 * oneself, and to the buffer manager an invalid block means a new page.
 */
static void
check_overflow_block(Relation index, BlockNumber block,
					 const BlockNumber *locked, uint32 nlocked)
{
	if (block == ALEX_META_BLOCK || !BlockNumberIsValid(block))
		report_overflow(index, block);
	for (uint32 i = 0; i < nlocked; i++)
	{
		if (locked[i] == block)
			report_overflow(index, block);
	}
}

/* Raises an error unless this is the overflow page that was looked for. */
static void
check_overflow(Relation index, BlockNumber block, Page page, uint64 stamp,
			   int room)
{
	AlexManifestPage *overflow = (AlexManifestPage *) page;

	if (PageIsNew(page) || overflow->header.kind != ALEX_PAGE_MANIFEST ||
		overflow->header.stamp != stamp ||
		overflow->nruns > ALEX_MANIFEST_RUNS || (int) overflow->nruns > room)
		report_overflow(index, block);
}

/* Do npages pages from a block on lie within the file, behind the metapage? */
static inline bool
is_range(BlockNumber block, uint32 npages, BlockNumber nblocks)
{
	return block != ALEX_META_BLOCK && block < nblocks &&
		npages <= nblocks - block;
}

static inline bool
is_chain_within(const AlexLogChain *chain, BlockNumber nblocks)
{
	return chain->npages == 0 ||
		(chain->npages < nblocks &&
		 chain->head < nblocks && chain->tail < nblocks);
}

/*
 * Raises an error unless each run is where and what a run can be, and so are
 * the chains.  A manifest has no hash, and its numbers say which pages are
 * freed.
 */
static void
check_contents(Relation index, const AlexManifest *manifest)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(index);

	if (!is_chain_within(&manifest->active, nblocks) ||
		!is_chain_within(&manifest->frozen, nblocks))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("manifest of index \"%s\" is damaged",
						RelationGetRelationName(index)),
				 errdetail("What it says about the log is impossible in a file of %u blocks.",
						   nblocks),
				 errhint("Please REINDEX it.")));

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if (run->part >= ALEX_PARTS || run->entries == 0 ||
			run->leaf_pages == 0 || run->leaf_pages >= nblocks ||
			run->model_pages != alex_model_pages(run->model_lines) ||
			(run->model_pages == 0 && run->leaf_pages != 1) ||
			!is_range(run->model_block, Max(run->model_pages, 1), nblocks) ||
			(run->bloom_pages > 0 &&
			 !is_range(run->bloom_block, run->bloom_pages, nblocks)))
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("manifest of index \"%s\" is damaged",
							RelationGetRelationName(index)),
					 errdetail("What it says about run %llu is impossible in a file of %u blocks.",
							   (unsigned long long) run->id, nblocks),
					 errhint("Please REINDEX it.")));
	}
}

/*
 * Copies a locked metapage and its overflow pages, with room for "extra"
 * more runs.  The overflow pages are locked in "mode"; with a non-NULL
 * "buffers" they stay pinned and locked, and are stored there.
 */
static AlexManifest *
copy_manifest(Relation index, AlexMetaPage *meta, int extra, int mode,
			  Buffer *buffers)
{
	AlexManifest *manifest;
	BlockNumber blocks[ALEX_MAX_OVERFLOW];
	BlockNumber block = meta->overflow;
	uint64		stamp = meta->overflow_stamp;
	int			nruns = runs_in_meta(meta);

	manifest = palloc0(manifest_size(meta->nruns + extra));
	manifest->incarnation = meta->incarnation;
	manifest->version = meta->manifest_version;
	manifest->dead_epoch = meta->dead_epoch;
	manifest->next_generation = meta->next_generation;
	manifest->next_run_id = meta->next_run_id;
	manifest->flags = meta->flags;
	manifest->noverflow = meta->noverflow;
	manifest->active = meta->active;
	manifest->frozen = meta->frozen;
	memcpy(manifest->runs, meta->runs, nruns * sizeof(AlexRun));

	for (uint32 i = 0; i < meta->noverflow; i++)
	{
		Buffer		buffer;
		AlexManifestPage *page;

		check_overflow_block(index, block, blocks, i);
		blocks[i] = block;
		buffer = ReadBuffer(index, block);
		page = (AlexManifestPage *) BufferGetPage(buffer);
		LockBuffer(buffer, mode);
		check_overflow(index, block, (Page) page, stamp, meta->nruns - nruns);
		memcpy(manifest->runs + nruns, page->runs,
			   page->nruns * sizeof(AlexRun));
		nruns += page->nruns;
		block = page->next;
		stamp = page->next_stamp;
		if (buffers != NULL)
			buffers[i] = buffer;
		else
			UnlockReleaseBuffer(buffer);
	}

	if (nruns != meta->nruns)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("manifest of index \"%s\" lists %d runs instead of %u",
						RelationGetRelationName(index), nruns, meta->nruns),
				 errhint("Please REINDEX it.")));
	manifest->nruns = nruns;
	check_contents(index, manifest);

	return manifest;
}

AlexManifest *
alex_manifest_read(Relation index)
{
	Buffer		buffer = ReadBuffer(index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(buffer);
	AlexManifest *manifest;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	alex_meta_check(index, (Page) meta);
	manifest = copy_manifest(index, meta, 0, BUFFER_LOCK_SHARE, NULL);
	UnlockReleaseBuffer(buffer);

	return manifest;
}

/* Prepends an empty overflow page to the manifest's chain. */
static void
add_overflow(Relation index)
{
	uint64		stamp = alex_new_stamp();
	Buffer		buffer = alex_space_claim(index, NULL);
	Buffer		meta_buffer = ReadBuffer(index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(meta_buffer);
	Page		page = BufferGetPage(buffer);

	LockBuffer(meta_buffer, BUFFER_LOCK_EXCLUSIVE);

	/* somebody else may have added the last one; the caller looks again */
	if (meta->noverflow >= ALEX_MAX_OVERFLOW)
	{
		BlockNumber unused = BufferGetBlockNumber(buffer);

		UnlockReleaseBuffer(meta_buffer);
		UnlockReleaseBuffer(buffer);
		RecordFreeIndexPage(index, unused);
		return;
	}

	START_CRIT_SECTION();

	alex_page_init(page, ALEX_PAGE_MANIFEST, stamp);
	((AlexManifestPage *) page)->next = meta->overflow;
	((AlexManifestPage *) page)->next_stamp = meta->overflow_stamp;
	set_overflow_lower(page, 0);
	meta->overflow = BufferGetBlockNumber(buffer);
	meta->overflow_stamp = stamp;
	meta->noverflow++;
	MarkBufferDirty(buffer);
	MarkBufferDirty(meta_buffer);

	if (RelationNeedsWAL(index))
	{
		xl_alex_manifest record = {0};
		XLogRecPtr	lsn;

		record.conflict = InvalidFullTransactionId;
		record.node = index->rd_node;
		record.operation = ALEX_MANIFEST_EXTEND;
		record.nruns = meta->nruns;
		record.version = meta->manifest_version;
		XLogBeginInsert();
		XLogRegisterData((char *) &record, SizeOfAlexManifest);
		XLogRegisterBuffer(0, meta_buffer, REGBUF_FORCE_IMAGE | REGBUF_STANDARD);
		XLogRegisterBuffer(1, buffer, REGBUF_FORCE_IMAGE | REGBUF_STANDARD);
		lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_MANIFEST);
		PageSetLSN((Page) meta, lsn);
		PageSetLSN(page, lsn);
	}

	END_CRIT_SECTION();

	UnlockReleaseBuffer(meta_buffer);
	UnlockReleaseBuffer(buffer);
}

void
alex_manifest_report_full(Relation index, uint32 nruns)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("index \"%s\" has too many runs",
					RelationGetRelationName(index)),
			 errdetail("The manifest lists %u runs, retired ones included.",
					   nruns),
			 errhint("End long-running transactions, then VACUUM the table.")));
}

void
alex_manifest_change_begin(Relation index, int extra,
						   AlexManifestChange *change)
{
	change->index = index;
	change->meta = ReadBuffer(index, ALEX_META_BLOCK);

	for (;;)
	{
		AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(change->meta);

		LockBuffer(change->meta, BUFFER_LOCK_EXCLUSIVE);
		alex_meta_check(index, (Page) meta);

		if (meta->nruns + extra <=
			ALEX_META_RUNS + meta->noverflow * ALEX_MANIFEST_RUNS)
		{
			change->noverflow = meta->noverflow;
			change->overflow = palloc(sizeof(Buffer) * (meta->noverflow + 1));
			change->manifest = copy_manifest(index, meta, extra,
											 BUFFER_LOCK_EXCLUSIVE,
											 change->overflow);
			return;
		}

		if (meta->noverflow >= ALEX_MAX_OVERFLOW)
			alex_manifest_report_full(index, meta->nruns);

		LockBuffer(change->meta, BUFFER_LOCK_UNLOCK);
		add_overflow(index);
	}
}

AlexRun *
alex_manifest_add(AlexManifestChange *change, const AlexRun *run)
{
	AlexManifest *manifest = change->manifest;
	AlexRun    *slot = &manifest->runs[manifest->nruns++];

	*slot = *run;
	slot->id = manifest->next_run_id++;
	return slot;
}

void
alex_manifest_delete(AlexManifestChange *change, int which)
{
	AlexManifest *manifest = change->manifest;

	Assert(which >= 0 && which < manifest->nruns);
	memmove(&manifest->runs[which], &manifest->runs[which + 1],
			sizeof(AlexRun) * (manifest->nruns - which - 1));
	manifest->nruns--;
}

/* Puts the edited manifest into the image of the metapage. */
static int
fill_meta(const AlexManifest *manifest, Page image)
{
	AlexMetaPage *meta = (AlexMetaPage *) image;
	int			nruns = Min(manifest->nruns, ALEX_META_RUNS);

	meta->manifest_version = manifest->version;
	meta->dead_epoch = manifest->dead_epoch;
	meta->next_generation = manifest->next_generation;
	meta->next_run_id = manifest->next_run_id;
	meta->flags = manifest->flags;
	meta->nruns = manifest->nruns;
	meta->active = manifest->active;
	meta->frozen = manifest->frozen;
	memset(meta->runs, 0, BLCKSZ - offsetof(AlexMetaPage, runs));
	memcpy(meta->runs, manifest->runs, sizeof(AlexRun) * nruns);
	set_meta_lower(image, nruns);

	return nruns;
}

/*
 * Puts the runs from "next" on into the image of an overflow page; returns
 * the first run that did not fit.
 */
static int
fill_overflow(const AlexManifest *manifest, int next, Page image)
{
	AlexManifestPage *page = (AlexManifestPage *) image;
	int			nruns = Min(manifest->nruns - next, ALEX_MANIFEST_RUNS);

	page->nruns = nruns;
	memset(page->runs, 0, BLCKSZ - offsetof(AlexManifestPage, runs));
	memcpy(page->runs, manifest->runs + next, sizeof(AlexRun) * nruns);
	set_overflow_lower(image, nruns);

	return next + nruns;
}

/* Logs the pages of a manifest change; in its critical section. */
static void
log_change(AlexManifestChange *change, AlexManifestOperation operation,
		   FullTransactionId conflict, const Buffer *buffers, int nbuffers)
{
	xl_alex_manifest record = {0};
	XLogRecPtr	lsn;

	record.conflict = conflict;
	record.node = change->index->rd_node;
	record.operation = operation;
	record.nruns = change->manifest->nruns;
	record.version = change->manifest->version;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfAlexManifest);
	for (int i = 0; i < nbuffers; i++)
		XLogRegisterBuffer(i, buffers[i], REGBUF_FORCE_IMAGE | REGBUF_STANDARD);
	lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_MANIFEST);
	for (int i = 0; i < nbuffers; i++)
		PageSetLSN(BufferGetPage(buffers[i]), lsn);
}

void
alex_manifest_change_commit(AlexManifestChange *change,
							AlexManifestOperation operation,
							FullTransactionId conflict,
							Buffer also,
							void (*change_also) (Page page),
							void (*publish) (AlexManifestChange *change,
											 void *context),
							void *context)
{
	AlexManifest *manifest = change->manifest;
	PGAlignedBlock *images;
	Buffer		buffers[ALEX_RECORD_BLOCKS];
	int			nbuffers = 0;
	int			next;

	/* all that can fail comes before the critical section */
	images = palloc(sizeof(PGAlignedBlock) * (change->noverflow + 1));
	manifest->version++;
	memcpy(images[0].data, BufferGetPage(change->meta), BLCKSZ);
	next = fill_meta(manifest, images[0].data);
	buffers[nbuffers++] = change->meta;
	for (int i = 0; i < change->noverflow; i++)
	{
		Page		page = BufferGetPage(change->overflow[i]);
		char	   *image = images[nbuffers].data;

		memcpy(image, page, BLCKSZ);
		next = fill_overflow(manifest, next, image);
		if (memcmp(image, page, BLCKSZ) != 0)
			buffers[nbuffers++] = change->overflow[i];
	}
	Assert(next == manifest->nruns);
	if (RelationNeedsWAL(change->index))
		XLogEnsureRecordSpace(nbuffers + 1, 0);

	START_CRIT_SECTION();

	for (int i = 0; i < nbuffers; i++)
	{
		memcpy(BufferGetPage(buffers[i]), images[i].data, BLCKSZ);
		MarkBufferDirty(buffers[i]);
	}
	if (BufferIsValid(also))
	{
		change_also(BufferGetPage(also));
		MarkBufferDirty(also);
		buffers[nbuffers++] = also;
	}
	if (RelationNeedsWAL(change->index))
		log_change(change, operation, conflict, buffers, nbuffers);
	if (publish != NULL)
		publish(change, context);

	END_CRIT_SECTION();

	pfree(images);
}

void
alex_manifest_change_end(AlexManifestChange *change)
{
	for (int i = 0; i < change->noverflow; i++)
		UnlockReleaseBuffer(change->overflow[i]);
	UnlockReleaseBuffer(change->meta);
	pfree(change->overflow);
	pfree(change->manifest);
}
