/*-------------------------------------------------------------------------
 *
 * sweep.c
 *	  Finding the pages of the file that nothing refers to.
 *
 * Those are free pages, which the free space map may have forgotten, since
 * it is not WAL-logged; zeroed pages that an extension left; and orphans:
 * pages of a run, or of a sealed log chain, that an error or a crash left
 * behind.  While both the maintenance and the seal lock are held nobody
 * writes a run, so an unreferenced page cannot be one in the making.  A log
 * page may have been linked after the manifest was read; it is told by its
 * generation.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/sweep.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "miscadmin.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "alex/am.h"

typedef struct AlexSweep
{
	Relation	index;
	AlexManifest *manifest;
	BlockNumber nblocks;
	uint8	   *referenced;		/* a bit for each block */
} AlexSweep;

static void
mark(AlexSweep *sweep, BlockNumber block)
{
	if (block >= sweep->nblocks)
		return;
	sweep->referenced[block / 8] |= 1 << (block % 8);
}

static void
mark_range(AlexSweep *sweep, BlockNumber first, uint32 npages)
{
	for (uint32 i = 0; i < npages; i++)
		mark(sweep, first + i);
}

static void
mark_chain(AlexSweep *sweep, const AlexLogChain *chain)
{
	AlexPagePointer *pages;
	int			npages;

	if (chain->npages == 0)
		return;
	pages = alex_log_pages(sweep->index, chain, &npages);
	for (int i = 0; i < npages; i++)
		mark(sweep, pages[i].block);
	pfree(pages);
}

/* The metapage and the manifest's overflow pages. */
static void
mark_manifest(AlexSweep *sweep)
{
	Buffer		buffer = ReadBuffer(sweep->index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(buffer);
	BlockNumber block;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	mark(sweep, ALEX_META_BLOCK);
	block = meta->overflow;
	for (uint32 i = 0; i < meta->noverflow; i++)
	{
		Buffer		overflow = ReadBuffer(sweep->index, block);

		mark(sweep, block);
		LockBuffer(overflow, BUFFER_LOCK_SHARE);
		block = ((AlexManifestPage *) BufferGetPage(overflow))->next;
		UnlockReleaseBuffer(overflow);
	}
	UnlockReleaseBuffer(buffer);
}

static void
mark_runs(AlexSweep *sweep)
{
	AlexReader *reader;

	reader = alex_reader_open(sweep->index, sweep->manifest->incarnation);
	for (int i = 0; i < sweep->manifest->nruns; i++)
	{
		const AlexRun *run = &sweep->manifest->runs[i];
		AlexRunReader run_reader;

		mark_range(sweep, run->model_block, run->model_pages);
		mark_range(sweep, run->bloom_block, run->bloom_pages);
		alex_run_open(&run_reader, reader, run);
		for (uint32 leaf = 0; leaf < run->leaf_pages; leaf++)
		{
			AlexFence	fence;

			alex_run_fence(&run_reader, leaf, &fence);
			mark(sweep, fence.block);
		}
		alex_run_close(&run_reader);
	}
	alex_reader_close(reader);
}

/* Pages that the manifest accounts for. */
static uint64
count_referenced(const AlexManifest *manifest)
{
	uint64		count = 1 + manifest->noverflow + manifest->active.npages +
	manifest->frozen.npages;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		count += run->model_pages + run->bloom_pages;
		if ((run->flags & ALEX_RUN_MOVED) == 0)
			count += run->leaf_pages;
	}
	return count;
}

/*
 * Looks at an unreferenced page.  True: it is free.  Else *orphan is set if
 * it can be freed.
 */
static bool
examine(AlexSweep *sweep, BlockNumber block, BufferAccessStrategy strategy,
		AlexPagePointer *orphan)
{
	Buffer		buffer = ReadBufferExtended(sweep->index, MAIN_FORKNUM, block,
											RBM_NORMAL, strategy);
	Page		page = BufferGetPage(buffer);
	const AlexPageHeader *header = alex_page_header(page);
	bool		is_free;

	orphan->stamp = 0;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	is_free = PageIsNew(page) || header->kind == ALEX_PAGE_FREE;
	if (!is_free &&
		(header->kind != ALEX_PAGE_LOG ||
		 ((AlexLogPage *) page)->incarnation != sweep->manifest->incarnation ||
		 ((AlexLogPage *) page)->generation < sweep->manifest->active.generation))
	{
		orphan->block = block;
		orphan->stamp = header->stamp;
	}
	UnlockReleaseBuffer(buffer);

	return is_free;
}

BlockNumber
alex_sweep(Relation index)
{
	AlexSweep	sweep;
	BufferAccessStrategy strategy;
	BlockNumber nfree = 0;

	sweep.index = index;

	/* no page that is being added now may be taken for a free one */
	if (!RELATION_IS_LOCAL(index))
		LockRelationForExtension(index, ExclusiveLock);
	sweep.nblocks = RelationGetNumberOfBlocks(index);
	if (!RELATION_IS_LOCAL(index))
		UnlockRelationForExtension(index, ExclusiveLock);

	sweep.manifest = alex_manifest_read(index);
	if (count_referenced(sweep.manifest) >= sweep.nblocks)
	{
		pfree(sweep.manifest);
		return 0;
	}

	sweep.referenced = MemoryContextAllocExtended(CurrentMemoryContext,
												  sweep.nblocks / 8 + 1,
												  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	mark_manifest(&sweep);
	mark_chain(&sweep, &sweep.manifest->active);
	mark_chain(&sweep, &sweep.manifest->frozen);
	mark_runs(&sweep);

	strategy = GetAccessStrategy(BAS_VACUUM);
	for (BlockNumber block = 0; block < sweep.nblocks; block++)
	{
		AlexPagePointer orphan;

		if (sweep.referenced[block / 8] & (1 << (block % 8)))
			continue;
		vacuum_delay_point();
		if (examine(&sweep, block, strategy, &orphan))
			RecordFreeIndexPage(index, block);
		else if (orphan.stamp != 0)
			alex_space_free(index, &orphan, 1);
		else
			continue;
		nfree++;
	}

	FreeAccessStrategy(strategy);
	pfree(sweep.referenced);
	pfree(sweep.manifest);
	return nfree;
}
