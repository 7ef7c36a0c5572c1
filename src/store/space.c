/*-------------------------------------------------------------------------
 *
 * space.c
 *	  Finding, claiming and freeing pages of the relation file.
 *
 * The index's free space map says which pages may be free.  It is a hint: it
 * is not WAL-logged, and two backends may be told of the same page.  So a
 * page from it is locked conditionally, checked, and kept locked until its
 * claimer has stamped it.
 *
 * Unlike nbtree's, a page is stamped free only once no scan can reach it any
 * more: a run stays listed as retired until then, and the WAL record that
 * takes it out of the manifest resolves the conflicts on a standby.  Hence a
 * free page can be reused at once.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/space.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "port.h"
#include "storage/freespace.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"

#include "alex/am.h"
#include "alex/store.h"
#include "alex/wal.h"

/* Contiguous free pages are looked for among so many. */
#define RANGE_SEARCH_BLOCKS		65536

uint64
alex_new_stamp(void)
{
	uint64		stamp;

	do
	{
		if (!pg_strong_random(&stamp, sizeof(stamp)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random page stamp")));
	} while (stamp <= ALEX_FREE_STAMP);

	return stamp;
}

void
alex_page_init(Page page, uint16 kind, uint64 stamp)
{
	AlexPageHeader *header = (AlexPageHeader *) page;

	PageInit(page, BLCKSZ, 0);
	header->stamp = stamp;
	header->kind = kind;
	header->version = ALEX_SEALED_VERSION;
	((PageHeader) page)->pd_lower = sizeof(AlexPageHeader);
}

bool
alex_space_is_free(Page page)
{
	return PageIsNew(page) ||
		alex_page_header(page)->kind == ALEX_PAGE_FREE;
}

/*
 * Shared buffers may be as few as 16, for all sessions.  What else is pinned
 * is a page here and there, as in other access methods.
 */
int
alex_space_pins(Relation relation, int npages)
{
	if (RelationUsesLocalBuffers(relation))
		return npages;
	return Min(npages, Max(1, NBuffers / MaxBackends));
}

/* New pages at the end of the file, pinned and exclusively locked. */
static void
extend(Relation index, int npages, BufferAccessStrategy strategy,
	   Buffer *buffers)
{
	bool		need_lock = !RelationUsesLocalBuffers(index);

	/*
	 * Unlike others, an index that is new in this transaction is extended by
	 * several processes, if it is built in parallel.  To workers it does not
	 * look new; they would take the lock, and the leader would not.
	 *
	 * The buffers are locked before the extension lock is released, so that
	 * nobody who learns of a new page can claim it before we stamp it.
	 */
	if (need_lock)
		LockRelationForExtension(index, ExclusiveLock);
	if (npages > 1 && !IsParallelWorker())
		ALEX_FAILPOINT("extend-by-group");
	for (int i = 0; i < npages; i++)
		buffers[i] = ReadBufferExtended(index, MAIN_FORKNUM, P_NEW,
										RBM_ZERO_AND_LOCK, strategy);
	if (need_lock)
		UnlockRelationForExtension(index, ExclusiveLock);
}

/* A page from the free space map, or InvalidBuffer. */
static Buffer
claim_free_page(Relation index, BufferAccessStrategy strategy)
{
	BlockNumber block;

	while ((block = GetFreeIndexPage(index)) != InvalidBlockNumber)
	{
		Buffer		buffer;

		/* a free space map may have outlived a crash that lost the page */
		if (block >= RelationGetNumberOfBlocks(index))
			continue;
		buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL,
									strategy);
		if (ConditionalLockBuffer(buffer))
		{
			if (alex_space_is_free(BufferGetPage(buffer)))
				return buffer;
			UnlockReleaseBuffer(buffer);
		}
		else
			ReleaseBuffer(buffer);
	}
	return InvalidBuffer;
}

/*
 * Who waits for the extension lock with a page locked cannot be interrupted.
 * The leader of a parallel build may have that lock while it waits for its
 * workers to end, after an error; they would not (H28).  So the file is
 * extended by as many pages as are wanted, before any is locked; and free
 * pages, if there are some, must do without new ones.
 */
int
alex_space_claim_pages(Relation index, int npages,
					   BufferAccessStrategy strategy, Buffer *buffers)
{
	int			claimed = 0;

	npages = alex_space_pins(index, npages);
	while (claimed < npages)
	{
		buffers[claimed] = claim_free_page(index, strategy);
		if (!BufferIsValid(buffers[claimed]))
			break;
		claimed++;
	}
	if (claimed > 0)
		return claimed;

	extend(index, npages, strategy, buffers);
	return npages;
}

Buffer
alex_space_claim(Relation index, BufferAccessStrategy strategy)
{
	Buffer		buffer;

	(void) alex_space_claim_pages(index, 1, strategy, &buffer);
	return buffer;
}

/*
 * Looks for npages contiguous pages that are free according to the free space
 * map, and takes them out of it.  Were new pages used instead, each compaction
 * would make the file grow, as the pages of the old models and Bloom filters
 * outnumber what else is in need of pages.
 *
 * The search begins where the map's own search would, and sees part of a large
 * file only.
 */
static BlockNumber
find_free_range(Relation index, uint32 npages)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(index);
	BlockNumber first = GetFreeIndexPage(index);
	uint32		found = 0;

	if (first == InvalidBlockNumber)
		return InvalidBlockNumber;
	RecordFreeIndexPage(index, first);

	for (BlockNumber i = 0; i < Min(nblocks, RANGE_SEARCH_BLOCKS); i++)
	{
		BlockNumber block = ((uint64) first + i) % nblocks;

		/* what lies on both sides of the end of the file is no range */
		if (block == 0 || GetRecordedFreeSpace(index, block) < BLCKSZ / 2)
			found = 0;
		else if (++found == npages)
		{
			first = block - npages + 1;
			for (BlockNumber taken = first; taken <= block; taken++)
				RecordUsedIndexPage(index, taken);
			return first;
		}
	}
	return InvalidBlockNumber;
}

BlockNumber
alex_space_claim_range(Relation index, uint32 npages,
					   BufferAccessStrategy strategy)
{
	bool		need_lock = !RelationUsesLocalBuffers(index);
	BlockNumber first = find_free_range(index, npages);

	if (first != InvalidBlockNumber)
		return first;

	/*
	 * The new pages are not locked when we return.  Only the sweep would take
	 * zeroed pages for free ones.  It needs the maintenance and the seal lock,
	 * of which those who extend hold one; unless they write a run directly,
	 * and then the caller may find that a page is taken, and asks again.
	 */
	if (need_lock)
		LockRelationForExtension(index, ExclusiveLock);
	for (uint32 i = 0; i < npages; i++)
	{
		Buffer		buffer = ReadBufferExtended(index, MAIN_FORKNUM, P_NEW,
												RBM_NORMAL, strategy);

		if (i == 0)
			first = BufferGetBlockNumber(buffer);
		else if (BufferGetBlockNumber(buffer) != first + i)
			elog(ERROR, "index \"%s\" was extended by somebody else",
				 RelationGetRelationName(index));
		ReleaseBuffer(buffer);
	}
	if (need_lock)
		UnlockRelationForExtension(index, ExclusiveLock);

	return first;
}

/* Stamps the pages in these exclusively locked buffers free, and logs it. */
static void
stamp_free(Relation index, const Buffer *buffers, int nbuffers)
{
	bool		need_wal = RelationNeedsWAL(index);

	if (need_wal)
		XLogEnsureRecordSpace(nbuffers, 0);

	START_CRIT_SECTION();

	for (int i = 0; i < nbuffers; i++)
	{
		alex_page_init(BufferGetPage(buffers[i]), ALEX_PAGE_FREE,
					   ALEX_FREE_STAMP);
		MarkBufferDirty(buffers[i]);
	}

	if (need_wal)
	{
		xl_alex_free record;
		XLogRecPtr	lsn;

		record.npages = nbuffers;
		XLogBeginInsert();
		XLogRegisterData((char *) &record, SizeOfAlexFree);
		for (int i = 0; i < nbuffers; i++)
			XLogRegisterBuffer(i, buffers[i], REGBUF_WILL_INIT | REGBUF_STANDARD);
		lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_FREE);
		for (int i = 0; i < nbuffers; i++)
			PageSetLSN(BufferGetPage(buffers[i]), lsn);
	}

	END_CRIT_SECTION();
}

/* Is the block among these buffers? */
static bool
holds_block(const Buffer *buffers, int nbuffers, BlockNumber block)
{
	for (int i = 0; i < nbuffers; i++)
	{
		if (BufferGetBlockNumber(buffers[i]) == block)
			return true;
	}
	return false;
}

void
alex_space_free(Relation index, const AlexPagePointer *pages, int npages)
{
	Buffer		buffers[ALEX_RECORD_BLOCKS];
	int			max_buffers = alex_space_pins(index, lengthof(buffers));
	BlockNumber first = InvalidBlockNumber;
	BlockNumber last = 0;
	int			next = 0;

	while (next < npages)
	{
		int			nbuffers = 0;

		CHECK_FOR_INTERRUPTS();

		for (; next < npages && nbuffers < max_buffers; next++)
		{
			Buffer		buffer;
			Page		page;

			/*
			 * A page that one run took over from another is named twice when
			 * both leave at once: do not wait for ourselves.
			 */
			if (holds_block(buffers, nbuffers, pages[next].block))
				continue;

			buffer = ReadBuffer(index, pages[next].block);
			page = BufferGetPage(buffer);

			/*
			 * The sweep, and a worker that frees what it wrote in vain, may
			 * have the same pages in different orders.  So nobody waits for
			 * a page while holding others: these are freed first.
			 */
			if (nbuffers == 0)
				LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
			else if (!ConditionalLockBuffer(buffer))
			{
				ReleaseBuffer(buffer);
				break;
			}
			if (!PageIsNew(page) &&
				alex_page_header(page)->stamp == pages[next].stamp &&
				alex_page_header(page)->kind != ALEX_PAGE_FREE)
				buffers[nbuffers++] = buffer;
			else
				UnlockReleaseBuffer(buffer);
		}

		if (nbuffers > 0)
			stamp_free(index, buffers, nbuffers);

		for (int i = 0; i < nbuffers; i++)
		{
			BlockNumber block = BufferGetBlockNumber(buffers[i]);

			UnlockReleaseBuffer(buffers[i]);
			RecordFreeIndexPage(index, block);
			first = Min(first, block);
			last = Max(last, block);
		}
	}

	/* without this they would not be found before the next VACUUM */
	if (BlockNumberIsValid(first))
		FreeSpaceMapVacuumRange(index, first, last + 1);
}
