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
 * Scans read leaf pages through mappings of the file, so the dead bits must
 * have left shared buffers before the heap's line pointers are reused
 * (hazard H1).  "Unflushed" in the metapage is set before the first dead bit
 * and cleared after the flush; a VACUUM that finds it set, because an earlier
 * one was cancelled or the server crashed, flushes whoever dirtied the pages.
 * A record makes standbys do the same.
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

/* What one call of ambulkdelete works with. */
typedef struct AlexVacuum
{
	IndexVacuumInfo *info;
	Relation	index;
	IndexBulkDeleteResult *stats;
	IndexBulkDeleteCallback callback;
	void	   *callback_state;
	AlexManifest *manifest;
	AlexReader *reader;
	bool		unflushed;		/* the metapage says so */
	uint64		log_dead;		/* entries marked in the log */
	bool		log_changed;	/* there are dead entries in the log */
	uint64	   *run_dead;		/* dead entries of each run that was visited */
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

/*
 * Collects the slots of a leaf page whose entries are to be removed; returns
 * the number of live entries that stay.
 */
static int
find_dead_slots(AlexVacuum *vacuum, const char *page)
{
	int			nentries = alex_leaf_count(page);
	bool		any_dead = alex_leaf_dead_count(page) > 0;
	int			live = 0;

	vacuum->nslots = 0;
	for (int first = 0; first < nentries; first += ALEX_LEAF_BLOCK)
	{
		uint64		keys[ALEX_LEAF_BLOCK];
		uint64		tids[ALEX_LEAF_BLOCK];
		int			n = Min(nentries - first, ALEX_LEAF_BLOCK);

		alex_leaf_unpack(page, first, n, keys, tids);
		for (int i = 0; i < n; i++)
		{
			if (any_dead && alex_leaf_is_dead(page, first + i))
				continue;
			if (is_dead_tid(vacuum, tids[i]))
				vacuum->slots[vacuum->nslots++] = first + i;
			else
				live++;
		}
	}
	return live;
}

static void
vacuum_leaf(AlexVacuum *vacuum, int which, const AlexFence *fence)
{
	const AlexRun *run = &vacuum->manifest->runs[which];
	AlexPageReference reference = ALEX_PAGE_REFERENCE_NONE;
	Buffer		buffer;
	int			entries;
	int			live;

	alex_page_open(vacuum->reader, fence->block, fence->stamp,
				   ALEX_PAGE_LEAF, run->id, false, &reference);
	live = find_dead_slots(vacuum, reference.page);
	entries = alex_leaf_count(reference.page);
	alex_page_close(&reference);

	/* counted anew: a VACUUM that was cancelled has left more than it said */
	vacuum->run_dead[which] += entries - live;

	if ((run->flags & ALEX_RUN_RETIRED) == 0)
		vacuum->stats->num_index_tuples += live;
	if (vacuum->nslots == 0)
		return;

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

	if ((run->flags & ALEX_RUN_RETIRED) == 0)
		vacuum->stats->tuples_removed += vacuum->nslots;
}

/* Second pass: the runs. */
static void
vacuum_runs(AlexVacuum *vacuum)
{
	AlexManifest *manifest = vacuum->manifest;

	for (int i = 0; i < manifest->nruns; i++)
	{
		AlexRun    *run = &manifest->runs[i];
		AlexRunReader run_reader;

		/* leaf pages that moved are visited with the run they moved to */
		if (run->flags & ALEX_RUN_MOVED)
			continue;
		alex_run_open(&run_reader, vacuum->reader, run);
		for (uint32 leaf = 0; leaf < run->leaf_pages; leaf++)
		{
			AlexFence	fence;

			vacuum_delay_point();
			alex_run_fence(&run_reader, leaf, &fence);
			vacuum_leaf(vacuum, i, &fence);
		}
		alex_run_close(&run_reader);
	}
}

/* Makes the dead bits visible to every mapped reader, here and on standbys. */
static void
flush_dead_bits(AlexVacuum *vacuum)
{
	AlexManifestChange change;

	if (!vacuum->unflushed)
		return;

	ALEX_FAILPOINT("vacuum-before-flush");
	FlushRelationBuffers(vacuum->index);
	ALEX_FAILPOINT("vacuum-before-barrier");
	if (RelationNeedsWAL(vacuum->index))
		alex_log_barrier(vacuum->index);
	ALEX_FAILPOINT("vacuum-after-barrier");

	alex_manifest_change_begin(vacuum->index, 0, &change);
	change.manifest->flags &= ~ALEX_META_UNFLUSHED;
	for (int i = 0; i < change.manifest->nruns; i++)
	{
		AlexRun    *run = &change.manifest->runs[i];

		for (int n = 0; n < vacuum->manifest->nruns; n++)
			if (vacuum->manifest->runs[n].id == run->id &&
				(run->flags & ALEX_RUN_MOVED) == 0)
				run->dead = vacuum->run_dead[n];
	}
	commit_change(&change);
}

IndexBulkDeleteResult *
alex_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats,
				 IndexBulkDeleteCallback callback, void *callback_state)
{
	AlexVacuum *vacuum;

	alex_require_preload();
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

	vacuum->unflushed = (vacuum->manifest->flags & ALEX_META_UNFLUSHED) != 0;
	vacuum->run_dead = palloc0(sizeof(uint64) * (vacuum->manifest->nruns + 1));
	vacuum->reader = alex_reader_open(info->index,
									  vacuum->manifest->incarnation);
	vacuum->reader->strategy = info->strategy;
	vacuum_runs(vacuum);
	alex_reader_close(vacuum->reader);
	flush_dead_bits(vacuum);

	/*
	 * Scans without pins may hold TIDs that they read before; even if this
	 * call has changed nothing, since an earlier one may have been cancelled
	 * right here.
	 */
	alex_readers_wait(info->index);

	UnlockPage(info->index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	pfree(vacuum->run_dead);
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

	alex_remove_retired(index);
	alex_compact_runs(index, false);

	/* a frozen generation that a crash left is sealed now */
	if (ConditionalLockPage(index, ALEX_SEAL_LOCK, ExclusiveLock))
	{
		alex_seal(index, alex_memtable_entries);
		stats->pages_free = alex_sweep(index);
		UnlockPage(index, ALEX_SEAL_LOCK, ExclusiveLock);
	}

	UnlockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);

	IndexFreeSpaceMapVacuum(index);
	stats->num_pages = RelationGetNumberOfBlocks(index);

	return stats;
}
