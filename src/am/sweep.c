/*-------------------------------------------------------------------------
 *
 * sweep.c
 *	  Finding the pages of the file that nothing refers to.
 *
 * Those are free pages, which the free space map may have forgotten, since
 * it is not WAL-logged; zeroed pages that an extension left; and orphans:
 * pages of a run, or of a sealed log chain, that an error or a crash left
 * behind.
 *
 * While both the maintenance and the seal lock are held nobody seals the log
 * or compacts.  But there are direct seals, so an unreferenced page may be of
 * a run in the making.  These hold the run lock, in share mode.  So what look
 * like orphans are only noted in a first pass.  Then the run lock is taken,
 * exclusively, and released: that waits for all direct seals that wrote one
 * of those pages.  Each of them has either listed its runs by then, or failed.
 * A page that was noted, and that the manifest does not refer to even now, is
 * an orphan.  A later direct seal cannot have come by one of them: none was
 * free.
 *
 * It is safe to wait for the run lock here: we hold no buffer, and a direct
 * seal waits for nobody who waits for us.  It only tries for the other page
 * locks; what it does wait for are the extension lock, which we release before,
 * and buffer locks, but never for another's pin (hazard H17).  Nor does our
 * waiting keep inserters waiting, since they only try for the run lock.
 *
 * A log page may have been linked after the manifest was read; it is told by
 * its generation.
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
#include "alex/wal.h"

typedef struct AlexSweep
{
	Relation	index;
	AlexManifest *manifest;
	BlockNumber nblocks;
	uint8	   *referenced;		/* a bit for each block */
	BlockNumber nfree;
	AlexPagePointer *orphans;	/* what look like orphans */
	Size		norphans;
	Size		max_orphans;
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

static bool
is_marked(const AlexSweep *sweep, BlockNumber block)
{
	return (sweep->referenced[block / 8] & (1 << (block % 8))) != 0;
}

/* The pages of runs that were listed under this number or a later one. */
static void
mark_runs(AlexSweep *sweep, uint64 first_id)
{
	AlexReader *reader;

	reader = alex_reader_open(sweep->index, sweep->manifest->incarnation);
	for (int i = 0; i < sweep->manifest->nruns; i++)
	{
		const AlexRun *run = &sweep->manifest->runs[i];
		AlexRunReader run_reader;

		if (run->id < first_id)
			continue;
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

		count += run->model_pages + run->bloom_pages + run->leaf_pages;
		if ((run->flags & ALEX_RUN_RETIRED) != 0)
			count -= run->moved_pages;
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

/* First pass: free pages, and what look like orphans. */
static void
examine_unreferenced(AlexSweep *sweep)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_VACUUM);

	for (BlockNumber block = 0; block < sweep->nblocks; block++)
	{
		AlexPagePointer orphan;

		if (is_marked(sweep, block))
			continue;
		vacuum_delay_point();
		if (examine(sweep, block, strategy, &orphan))
		{
			RecordFreeIndexPage(sweep->index, block);
			sweep->nfree++;
		}
		else if (orphan.stamp != 0)
		{
			if (sweep->norphans == sweep->max_orphans)
			{
				sweep->max_orphans *= 2;
				sweep->orphans = repalloc_huge(sweep->orphans,
											   sweep->max_orphans *
											   sizeof(AlexPagePointer));
			}
			sweep->orphans[sweep->norphans++] = orphan;
		}
	}
	FreeAccessStrategy(strategy);
}

/* Second pass: frees what are orphans indeed. */
static void
free_orphans(AlexSweep *sweep)
{
	uint64		first_id = sweep->manifest->next_run_id;
	Size		norphans = 0;

	if (sweep->norphans == 0)
		return;
	ALEX_FAILPOINT("sweep-before-wait");
	LockPage(sweep->index, ALEX_RUN_LOCK, ExclusiveLock);
	UnlockPage(sweep->index, ALEX_RUN_LOCK, ExclusiveLock);

	pfree(sweep->manifest);
	sweep->manifest = alex_manifest_read(sweep->index);
	mark_manifest(sweep);
	mark_runs(sweep, first_id);

	for (Size i = 0; i < sweep->norphans; i++)
		if (!is_marked(sweep, sweep->orphans[i].block))
			sweep->orphans[norphans++] = sweep->orphans[i];
	for (Size done = 0; done < norphans;)
	{
		int			n = Min(norphans - done, ALEX_RECORD_BLOCKS);

		vacuum_delay_point();
		alex_space_free(sweep->index, &sweep->orphans[done], n);
		done += n;
	}
	sweep->nfree += norphans;
}

BlockNumber
alex_sweep(Relation index)
{
	AlexSweep	sweep = {0};

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
	sweep.max_orphans = 64;
	sweep.orphans = palloc(sizeof(AlexPagePointer) * sweep.max_orphans);
	mark_manifest(&sweep);
	mark_chain(&sweep, &sweep.manifest->active);
	mark_chain(&sweep, &sweep.manifest->frozen);
	mark_runs(&sweep, 0);

	examine_unreferenced(&sweep);
	free_orphans(&sweep);

	pfree(sweep.orphans);
	pfree(sweep.referenced);
	pfree(sweep.manifest);
	return sweep.nfree;
}
