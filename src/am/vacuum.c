/*-------------------------------------------------------------------------
 *
 * vacuum.c
 *	  ambulkdelete and amvacuumcleanup.
 *
 * ambulkdelete sets the dead bits of entries whose heap tuples VACUUM is
 * about to remove: first in the log (and takes them out of the memtable),
 * under the seal lock; then in the leaf pages of every run that is listed
 * when the log is done, retired runs too, since scans may still read them
 * (hazard H2).  Whatever is sealed after that comes from the log without
 * those entries.
 *
 * For each TID VACUUM asks its list of dead ones by binary search; that would
 * be nearly all of what ambulkdelete costs.  So a filter (dead_filter.c) passes
 * over most of those that are not in the list, and mostly there is nothing to be
 * asked about the others.  If there is, they come at random in the order of
 * keys, and each search would miss the processor's cache again and again.  So the
 * entries of many leaf pages are gathered and sorted by TID first.
 *
 * Scans read leaf pages through mappings of the file, so the dead bits must
 * have left shared buffers before the heap's line pointers are reused
 * (hazard H1).  "Unflushed" in the metapage is set before the first dead bit
 * and cleared in the end; a VACUUM that finds it set, because an earlier
 * one was cancelled or the server crashed, flushes whoever dirtied the pages.
 * A record makes standbys do the same.
 *
 * Last it waits for scans without pins that may hold TIDs of the pages in which
 * it has set bits (readers.c), and, if it found the metapage's flag, for all:
 * the earlier VACUUM may have been cancelled before it had waited.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/vacuum.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"

#include "alex/am.h"
#include "alex/wal.h"

/* At least the entries of one leaf page are gathered, at most as many. */
#define MIN_GATHERED			(2 * ALEX_LEAF_MAX_ENTRIES)
#define MAX_GATHERED			(1024 * 1024)
/* And of at most so many pages. */
#define MAX_GATHERED_LEAVES		8192

/* A leaf page whose entries, as far as they may be dead, have been gathered. */
typedef struct GatheredLeaf
{
	AlexFence	fence;
	int			live;			/* entries without dead bit */
} GatheredLeaf;

/* What one call of ambulkdelete works with. */
typedef struct AlexVacuum
{
	IndexVacuumInfo *info;
	Relation	index;
	IndexBulkDeleteResult *stats;
	IndexBulkDeleteCallback callback;
	void	   *callback_state;
	AlexDeadFilter *filter;
	AlexManifest *manifest;
	AlexReader *reader;
	bool		unflushed;		/* the metapage says so */
	bool		was_unflushed;	/* it did when we came */
	uint64		log_dead;		/* entries marked in the log */
	bool		log_changed;	/* there are dead entries in the log */
	uint64	   *run_dead;		/* dead entries of each run that was visited */
	uint32	   *run_dead_pages; /* pages without live ones */

	/*
	 * Leaf pages in hand, and those of their live entries that may have to be
	 * removed: the TID as key, and in place of the TID the number of the leaf
	 * << 16 | slot.
	 */
	GatheredLeaf *leaves;
	int			nleaves;
	AlexEntry  *gathered;
	AlexEntry  *scratch;		/* for sorting */
	int			ngathered;
	int			max_gathered;
	uint64		nlooked_at;		/* live entries of leaf pages */
	uint64		nasked;			/* of them, the callback was asked about */
	uint8	   *visited;		/* a bit for each block */
	uint8	   *changed;		/* likewise: new dead bits */
	BlockNumber nblocks;

	uint16		slots[ALEX_LEAF_MAX_ENTRIES];
	int			nslots;
} AlexVacuum;

static bool
is_dead_tid(AlexVacuum *vacuum, uint64 tid)
{
	ItemPointerData pointer;

	ItemPointerSet(&pointer, ALEX_TID_BLOCK(tid), ALEX_TID_OFFSET(tid));
	return vacuum->callback(&pointer, vacuum->callback_state);
}

static void
publish_change(AlexManifestChange *change, void *context)
{
	alex_memtable_changed(change->index, change->manifest);
}

static void
commit_change(AlexManifestChange *change)
{
	alex_manifest_change_commit(change, ALEX_MANIFEST_VACUUM,
								InvalidFullTransactionId, InvalidBuffer,
								NULL, publish_change, NULL);
	alex_manifest_change_end(change);
}

/*
 * Sets dead bits in a locked page, logs them, and takes the entries of a log
 * page out of the memtable.
 */
static void
mark_dead(AlexVacuum *vacuum, Buffer buffer)
{
	Page		page = BufferGetPage(buffer);
	AlexLogEntry entries[ALEX_LOG_PAGE_ENTRIES];
	bool		is_log = alex_page_header(page)->kind == ALEX_PAGE_LOG;

	if (is_log)
		for (int i = 0; i < vacuum->nslots; i++)
			entries[i] = ((AlexLogPage *) page)->entries[vacuum->slots[i]];

	START_CRIT_SECTION();

	alex_page_set_dead(page, vacuum->slots, vacuum->nslots);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(vacuum->index))
		alex_log_dead(vacuum->index, buffer, vacuum->slots, vacuum->nslots);
	if (is_log)
		alex_memtable_delete(vacuum->index,
							 ((AlexLogPage *) page)->generation,
							 entries, vacuum->nslots);

	END_CRIT_SECTION();
}

static void
vacuum_log_page(AlexVacuum *vacuum, const AlexPagePointer *pointer)
{
	Buffer		buffer = ReadBuffer(vacuum->index, pointer->block);
	AlexLogPage *log = (AlexLogPage *) BufferGetPage(buffer);
	int			live = 0;

	vacuum->nslots = 0;
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (!alex_log_page_is((Page) log, pointer->stamp))
		alex_log_report_damage(vacuum->index, pointer->block);

	for (int i = 0; i < log->count; i++)
	{
		AlexLogEntry *entry = &log->entries[i];

		if (entry->tid & ALEX_LOG_DEAD)
		{
			vacuum->log_changed = true;
			continue;
		}
		if (is_dead_tid(vacuum, ALEX_LOG_TID(entry)))
			vacuum->slots[vacuum->nslots++] = i;
		else
			live++;
	}
	if (vacuum->nslots > 0)
	{
		mark_dead(vacuum, buffer);
		vacuum->log_changed = true;
	}
	UnlockReleaseBuffer(buffer);

	vacuum->log_dead += vacuum->nslots;
	vacuum->stats->num_index_tuples += live;
}

static void
vacuum_chain(AlexVacuum *vacuum, const AlexLogChain *chain)
{
	AlexPagePointer *pages;
	int			npages;

	if (chain->npages == 0)
		return;
	pages = alex_log_pages(vacuum->index, chain, &npages);
	for (int i = 0; i < npages; i++)
	{
		vacuum_delay_point();
		vacuum_log_page(vacuum, &pages[i]);
	}
	pfree(pages);
}

/*
 * First pass: the log.  Leaves in vacuum->manifest the runs for the second
 * pass, which must be read before the seal lock is released: what is sealed
 * later has been cleaned here, what was sealed earlier is listed there.
 */
static void
vacuum_log(AlexVacuum *vacuum)
{
	AlexManifest *manifest;

	LockPage(vacuum->index, ALEX_SEAL_LOCK, ExclusiveLock);

	manifest = alex_manifest_read(vacuum->index);
	vacuum_chain(vacuum, &manifest->frozen);
	vacuum_chain(vacuum, &manifest->active);
	ALEX_FAILPOINT("vacuum-before-epoch");
	pfree(manifest);

	/*
	 * Whoever has a copy of the log must know that it is out of date, before
	 * a TID is used again; even if we have marked nothing, since an earlier
	 * VACUUM that did may have been cancelled before it came here.
	 */
	if (vacuum->log_changed)
	{
		AlexManifestChange change;

		alex_manifest_change_begin(vacuum->index, 0, &change);
		change.manifest->dead_epoch++;
		commit_change(&change);
	}
	vacuum->manifest = alex_manifest_read(vacuum->index);

	UnlockPage(vacuum->index, ALEX_SEAL_LOCK, ExclusiveLock);
}

/* Notes in the metapage that dead bits may be missing from the file. */
static void
set_unflushed(AlexVacuum *vacuum)
{
	AlexManifestChange change;

	alex_manifest_change_begin(vacuum->index, 0, &change);
	change.manifest->flags |= ALEX_META_UNFLUSHED;
	commit_change(&change);
	vacuum->unflushed = true;
}

/* Sets the dead bits of the slots collected for a leaf page. */
static void
mark_leaf(AlexVacuum *vacuum, const AlexFence *fence)
{
	Buffer		buffer;

	if (!vacuum->unflushed)
		set_unflushed(vacuum);

	/*
	 * The cleanup lock waits for index-only scans that hold a TID of this
	 * page and have yet to look at the visibility map.
	 */
	buffer = ReadBufferExtended(vacuum->index, MAIN_FORKNUM, fence->block,
								RBM_NORMAL, vacuum->info->strategy);
	LockBufferForCleanup(buffer);
	mark_dead(vacuum, buffer);
	UnlockReleaseBuffer(buffer);
	/* found when the file was as large as it was when visited[] was made */
	if (fence->block < vacuum->nblocks)
		vacuum->changed[fence->block / 8] |= 1 << (fence->block % 8);
}

/*
 * Moves those of the gathered entries that are to be removed to the front of
 * the array, page by page, slot by slot, and returns how many.
 */
static int
find_dead(AlexVacuum *vacuum)
{
	AlexEntry  *entries = vacuum->gathered;
	int			ndead = 0;

	/* they were gathered in that order */
	if (alex_dead_filter_is_exact(vacuum->filter))
		return vacuum->ngathered;

	alex_sort(entries, vacuum->scratch, vacuum->ngathered);
	vacuum->nasked += vacuum->ngathered;
	for (int i = 0; i < vacuum->ngathered; i++)
	{
		if (i % ALEX_LEAF_MAX_ENTRIES == 0)
			CHECK_FOR_INTERRUPTS();
		if (is_dead_tid(vacuum, entries[i].key))
			entries[ndead++] = entries[i];
	}
	for (int i = 0; i < ndead; i++)
		entries[i].key = 0;
	alex_sort(entries, vacuum->scratch, ndead);
	return ndead;
}

/* Removes what is to be removed of the leaf pages gathered from a run. */
static void
vacuum_gathered(AlexVacuum *vacuum, int which)
{
	const AlexRun *run = &vacuum->manifest->runs[which];
	AlexEntry  *dead = vacuum->gathered;
	int			ndead = find_dead(vacuum);
	int			next = 0;

	for (int i = 0; i < vacuum->nleaves; i++)
	{
		GatheredLeaf *leaf = &vacuum->leaves[i];

		vacuum->nslots = 0;
		while (next < ndead && dead[next].tid >> 16 == i)
			vacuum->slots[vacuum->nslots++] = dead[next++].tid & 0xFFFF;
		leaf->live -= vacuum->nslots;

		/* counted anew: a VACUUM that was cancelled has left more than it said */
		vacuum->run_dead[which] += leaf->fence.entries - leaf->live;
		if (leaf->live == 0)
			vacuum->run_dead_pages[which]++;
		if ((run->flags & ALEX_RUN_RETIRED) == 0)
		{
			vacuum->stats->num_index_tuples += leaf->live;
			vacuum->stats->tuples_removed += vacuum->nslots;
		}

		if (vacuum->nslots > 0)
		{
			vacuum_delay_point();
			mark_leaf(vacuum, &leaf->fence);
		}
	}
	vacuum->nleaves = 0;
	vacuum->ngathered = 0;
}

/*
 * Adds the live entries of a leaf page that may have to be removed to those
 * gathered.
 */
static void
gather_leaf(AlexVacuum *vacuum, const AlexRun *run, const AlexFence *fence)
{
	AlexPageReference reference = ALEX_PAGE_REFERENCE_NONE;
	int			which = vacuum->nleaves++;
	GatheredLeaf *leaf = &vacuum->leaves[which];
	int			nentries;
	int			ndead;

	alex_page_open(vacuum->reader, fence->block, fence->stamp,
				   ALEX_PAGE_LEAF, run->id, false, &reference);
	nentries = alex_leaf_count(reference.page);
	ndead = alex_leaf_dead_count(reference.page);
	for (int first = 0; first < nentries; first += ALEX_LEAF_BLOCK)
	{
		uint64		tids[ALEX_LEAF_BLOCK];
		uint16		chosen[ALEX_LEAF_BLOCK];
		int			n = Min(nentries - first, ALEX_LEAF_BLOCK);

		alex_leaf_unpack(reference.page, first, n, NULL, tids);
		n = alex_dead_filter_choose(vacuum->filter, tids, n, chosen);
		for (int i = 0; i < n; i++)
		{
			int			slot = first + chosen[i];
			AlexEntry  *entry = &vacuum->gathered[vacuum->ngathered];

			if (ndead > 0 && alex_leaf_is_dead(reference.page, slot))
				continue;
			entry->key = tids[chosen[i]];
			entry->tid = (uint64) which << 16 | slot;
			vacuum->ngathered++;
		}
	}
	alex_page_close(&reference);

	leaf->fence = *fence;
	leaf->live = nentries - ndead;
	vacuum->nlooked_at += leaf->live;
}

/* True, and a note is taken, when the block is visited for the first time. */
static bool
visit(AlexVacuum *vacuum, BlockNumber block)
{
	uint8		bit = 1 << (block % 8);

	/* what should not be will be found out when the page is read */
	if (block >= vacuum->nblocks)
		return true;
	if ((vacuum->visited[block / 8] & bit) != 0)
		return false;
	vacuum->visited[block / 8] |= bit;
	return true;
}

static AlexEntry *
allocate_entries(int n)
{
	return MemoryContextAllocHuge(CurrentMemoryContext,
								  n * sizeof(AlexEntry));
}

static uint8 *
allocate_bitmap(BlockNumber nblocks)
{
	return MemoryContextAllocExtended(CurrentMemoryContext, nblocks / 8 + 1,
									  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

static void
begin_gathering(AlexVacuum *vacuum)
{
	int64		room = (int64) maintenance_work_mem * 1024 /
		(2 * sizeof(AlexEntry));

	vacuum->max_gathered = Max(Min(room, MAX_GATHERED), MIN_GATHERED);
	vacuum->gathered = allocate_entries(vacuum->max_gathered);
	vacuum->scratch = allocate_entries(vacuum->max_gathered);
	vacuum->leaves = palloc(MAX_GATHERED_LEAVES * sizeof(GatheredLeaf));
	vacuum->nblocks = RelationGetNumberOfBlocks(vacuum->index);
	vacuum->visited = allocate_bitmap(vacuum->nblocks);
	vacuum->changed = allocate_bitmap(vacuum->nblocks);
}

/*
 * Second pass: the runs.  The youngest come first, since they may have taken
 * pages over from older ones.
 */
static void
vacuum_runs(AlexVacuum *vacuum)
{
	AlexManifest *manifest = vacuum->manifest;

	begin_gathering(vacuum);
	vacuum->filter = alex_dead_filter_make(vacuum->callback,
										   vacuum->callback_state);
	for (int i = manifest->nruns - 1; i >= 0; i--)
	{
		AlexRun    *run = &manifest->runs[i];
		AlexRunReader run_reader;

		/* leaf pages that moved are visited with the run they moved to */
		if (run->flags & ALEX_RUN_MOVED)
			continue;
		alex_run_open(&run_reader, vacuum->reader, run);
		for (uint32 number = 0; number < run->leaf_pages; number++)
		{
			AlexFence	fence;

			alex_run_fence(&run_reader, number, &fence);
			if (!visit(vacuum, fence.block))
				continue;
			if (vacuum->ngathered + fence.entries > vacuum->max_gathered ||
				vacuum->nleaves == MAX_GATHERED_LEAVES)
				vacuum_gathered(vacuum, i);
			vacuum_delay_point();
			alex_run_read_ahead(&run_reader, number, true, PG_UINT64_MAX);
			gather_leaf(vacuum, run, &fence);
		}
		vacuum_gathered(vacuum, i);
		alex_run_close(&run_reader);
	}
	ereport(DEBUG1,
			(errmsg_internal("VACUUM of index \"%s\" asked about " UINT64_FORMAT " of " UINT64_FORMAT " entries",
							 RelationGetRelationName(vacuum->index),
							 vacuum->nasked, vacuum->nlooked_at)));
	alex_dead_filter_free(vacuum->filter);
	pfree(vacuum->visited);
	pfree(vacuum->leaves);
	pfree(vacuum->scratch);
	pfree(vacuum->gathered);
}

/* Makes the dead bits visible to every mapped reader, here and on standbys. */
static void
flush_dead_bits(AlexVacuum *vacuum)
{
	if (!vacuum->unflushed)
		return;

	ALEX_FAILPOINT("vacuum-before-flush");
	FlushRelationBuffers(vacuum->index);
	ALEX_FAILPOINT("vacuum-before-barrier");
	if (RelationNeedsWAL(vacuum->index))
		alex_log_barrier(vacuum->index);
	ALEX_FAILPOINT("vacuum-after-barrier");
}

/* Nothing is left to do for those dead bits. */
static void
clear_unflushed(AlexVacuum *vacuum)
{
	AlexManifestChange change;

	if (!vacuum->unflushed)
		return;

	alex_manifest_change_begin(vacuum->index, 0, &change);
	change.manifest->flags &= ~ALEX_META_UNFLUSHED;
	for (int i = 0; i < change.manifest->nruns; i++)
	{
		AlexRun    *run = &change.manifest->runs[i];

		for (int n = 0; n < vacuum->manifest->nruns; n++)
		{
			if (vacuum->manifest->runs[n].id != run->id ||
				(run->flags & ALEX_RUN_RETIRED) != 0)
				continue;
			run->dead = vacuum->run_dead[n];
			run->dead_pages = vacuum->run_dead_pages[n];
		}
	}
	commit_change(&change);
}

IndexBulkDeleteResult *
alex_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				 IndexBulkDeleteCallback callback, void *callback_state)
{
	AlexVacuum *vacuum;

	alex_require_preload();
	if (alex_dead_filter_learn(info, callback, callback_state))
		return stats;
	if (stats == NULL)
		stats = palloc0(sizeof(IndexBulkDeleteResult));
	stats->estimated_count = false;
	stats->num_index_tuples = 0;

	vacuum = palloc0(sizeof(AlexVacuum));
	vacuum->info = info;
	vacuum->index = info->index;
	vacuum->stats = stats;
	vacuum->callback = callback;
	vacuum->callback_state = callback_state;

	LockPage(info->index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	alex_claims_vacuum(info->index, callback, callback_state);
	vacuum_log(vacuum);
	stats->tuples_removed += vacuum->log_dead;

	vacuum->was_unflushed =
		(vacuum->manifest->flags & ALEX_META_UNFLUSHED) != 0;
	vacuum->unflushed = vacuum->was_unflushed;
	vacuum->run_dead = palloc0(sizeof(uint64) * (vacuum->manifest->nruns + 1));
	vacuum->run_dead_pages = palloc0(sizeof(uint32) *
									 (vacuum->manifest->nruns + 1));
	vacuum->reader = alex_reader_open(info->index,
									  vacuum->manifest->incarnation);
	vacuum->reader->strategy = info->strategy;
	vacuum_runs(vacuum);
	alex_reader_close(vacuum->reader);
	flush_dead_bits(vacuum);

	/* scans without pins may hold TIDs that they read before */
	alex_readers_wait(info->index,
					  vacuum->was_unflushed ? NULL : vacuum->changed,
					  vacuum->nblocks);
	clear_unflushed(vacuum);

	UnlockPage(info->index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	pfree(vacuum->changed);
	pfree(vacuum->run_dead);
	pfree(vacuum->run_dead_pages);
	pfree(vacuum->manifest);
	pfree(vacuum);
	return stats;
}

/* Entries in the index, for a VACUUM that did not visit them. */
static double
count_entries(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);
	uint64		active;
	uint64		frozen;
	double		count = 0;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) == 0)
			count += run->entries - run->dead;
	}
	(void) alex_log_count(index, &manifest->active, &active);
	(void) alex_log_count(index, &manifest->frozen, &frozen);
	pfree(manifest);

	return count + active + frozen;
}

IndexBulkDeleteResult *
alex_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
	Relation	index = info->index;
	bool		all_removed;

	if (info->analyze_only)
		return stats;
	alex_require_preload();

	if (stats == NULL)
	{
		stats = palloc0(sizeof(IndexBulkDeleteResult));
		stats->num_index_tuples = count_entries(index);
		stats->estimated_count = true;
	}

	LockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	/* first of all, so that there is room in the manifest */
	(void) alex_remove_retired(index);

	/*
	 * Entries that VACUUM has marked stay in the log until it is sealed, and an
	 * inserter who does that may be long in coming.  A frozen generation that a
	 * crash left is sealed now, too.
	 *
	 * The sweep comes before compaction: an autovacuum that is cancelled in that
	 * again and again must not leave more orphans each time.
	 */
	if (ConditionalLockPage(index, ALEX_SEAL_LOCK, ExclusiveLock))
	{
		alex_seal(index, alex_log_limit(index));
		stats->pages_free = alex_sweep(index);
		UnlockPage(index, ALEX_SEAL_LOCK, ExclusiveLock);
	}

	alex_compact_due(index);
	all_removed = alex_remove_retired(index);

	UnlockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	/* what waits for scans to end is left to a worker, which wants the lock */
	if (!all_removed)
		(void) alex_request_compaction(index, false);

	IndexFreeSpaceMapVacuum(index);
	stats->num_pages = RelationGetNumberOfBlocks(index);

	return stats;
}
