/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Compaction: several runs become one, without their dead entries.
 *
 * Runs of like size are merged when enough of them have come together, so
 * that an entry is rewritten a number of times logarithmic in the size of
 * the index.  Where the key ranges of the runs do not overlap, whole leaf
 * pages are taken over as they are and only a new model is written: keys
 * that ascend are never rewritten.  A run with many dead entries is
 * rewritten by itself.
 *
 * One WAL record puts the new run in and marks the old ones retired.  They
 * stay listed, and VACUUM goes on to visit them, until no scan can be
 * following an older manifest: their safexid is behind every snapshot.  Then
 * they leave the manifest, and their pages are freed.
 *
 * The safexid is the next transaction id at some moment when everybody could
 * see the change.  Read any earlier, it would not do: a view is taken without
 * a lock, so that until the change is published a scan could follow the older
 * manifest with a snapshot that is newer than what we read; and on a standby
 * transactions that come before the change in WAL could be newer, too.  So a
 * second record adds it, and until then the runs cannot be removed.
 *
 * The maintenance lock keeps VACUUM from setting dead bits in runs while
 * they are copied (hazard H8).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/compact.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_rusage.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alex/am.h"
#include "alex/merge.h"
#include "alex/worker.h"

/* What this process is writing, or has written in vain, for its last index. */
static AlexWrittenPages unfinished;
static RelFileNode unfinished_node; /* of the index ... */
static uint64 unfinished_incarnation;	/* ... which others may have, too */

static void
publish_change(AlexManifestChange *change, void *context)
{
	alex_memtable_changed(change->index, change->manifest);
}

/* Retired, but nobody knows yet how long it must stay listed. */
static inline bool
lacks_safexid(const AlexRun *run)
{
	return (run->flags & ALEX_RUN_RETIRED) != 0 &&
		!FullTransactionIdIsValid(run->safexid);
}

/* Gives retired runs their safexid; see the head of this file. */
static void
set_safexid(Relation index)
{
	AlexManifestChange change;
	FullTransactionId safexid;

	alex_manifest_change_begin(index, 0, &change);
	safexid = ReadNextFullTransactionId();
	for (int i = 0; i < change.manifest->nruns; i++)
	{
		if (lacks_safexid(&change.manifest->runs[i]))
			change.manifest->runs[i].safexid = safexid;
	}
	alex_manifest_change_commit(&change, ALEX_MANIFEST_COMPACT,
								InvalidFullTransactionId, InvalidBuffer,
								NULL, publish_change, NULL);
	alex_manifest_change_end(&change);
}

/* What a compaction works with. */
typedef struct AlexCompaction
{
	Relation	index;
	const AlexManifest *manifest;
	AlexPart	part;
	AlexMerge	merge;			/* runs chosen, and what became of them */
	AlexRun    *new_runs;		/* the merged one, and what is left of others */
	int			nnew;
	AlexWrittenPages *written;	/* pages to be freed if it fails */

	/* entries, dead ones included */
	uint64		before;
	uint64		after;
	uint64		rewritten;

	/* for the log */
	TimestampTz start;
	WalUsage	start_wal;
	uint64		pages;			/* written */
} AlexCompaction;

/* From now on the pages that were written belong to a run. */
static void
publish_install(AlexManifestChange *change, void *context)
{
	AlexCompaction *compaction = context;

	alex_memtable_changed(change->index, change->manifest);
	compaction->written->npages = 0;
}

/* Puts the new runs in place of the old ones. */
static void
install(AlexCompaction *compaction, FullTransactionId conflict)
{
	const AlexMerge *merge = &compaction->merge;
	AlexManifestChange change;

	alex_manifest_change_begin(compaction->index, compaction->nnew, &change);
	for (int i = 0; i < change.manifest->nruns; i++)
	{
		AlexRun    *run = &change.manifest->runs[i];

		for (int n = 0; n < merge->nruns; n++)
		{
			if (run->id != merge->runs[n]->id)
				continue;
			run->flags &= ~(ALEX_RUN_MERGING | ALEX_RUN_SUSPECT);
			run->flags |= ALEX_RUN_RETIRED;
			run->moved_pages = merge->adopted[n];
			if (run->moved_pages == run->leaf_pages)
				run->flags |= ALEX_RUN_MOVED;
		}
	}
	for (int i = 0; i < compaction->nnew; i++)
		alex_manifest_add(&change, &compaction->new_runs[i]);
	alex_manifest_change_commit(&change, ALEX_MANIFEST_COMPACT, conflict,
								InvalidBuffer, NULL, publish_install,
								compaction);
	alex_manifest_change_end(&change);

	ALEX_FAILPOINT("compact-before-safexid");
	set_safexid(compaction->index);
}

/* Counts what was done, and tells the server's log if it took long. */
static void
report(const AlexCompaction *compaction)
{
	Relation	index = compaction->index;
	uint64		dropped = compaction->before - compaction->after;
	long		milliseconds;
	WalUsage	wal;
	char	   *schema;

	alex_count_compaction(index, compaction->rewritten, dropped,
						  compaction->pages);
	alex_worker_merged(compaction->rewritten, dropped);

	milliseconds = TimestampDifferenceMilliseconds(compaction->start,
												   GetCurrentTimestamp());
	if (alex_log_compaction_min_duration < 0 ||
		milliseconds < alex_log_compaction_min_duration)
		return;

	memset(&wal, 0, sizeof(wal));
	WalUsageAccumDiff(&wal, &pgWalUsage, &compaction->start_wal);
	schema = get_namespace_name(RelationGetNamespace(index));
	ereport(LOG,
			(errmsg("compaction of alex index \"%s.%s\": %d runs into %d, "
					UINT64_FORMAT " entries, " UINT64_FORMAT " of them rewritten, "
					UINT64_FORMAT " dropped, " UINT64_FORMAT " pages written, "
					UINT64_FORMAT " bytes of WAL, %ld ms",
					schema != NULL ? schema : "",
					RelationGetRelationName(index), compaction->merge.nruns,
					compaction->nnew, compaction->after, compaction->rewritten,
					dropped, compaction->pages, wal.wal_bytes, milliseconds)));
}

static int
compare_by_first_entry(const void *a, const void *b)
{
	const AlexRun *r1 = *(const AlexRun *const *) a;
	const AlexRun *r2 = *(const AlexRun *const *) b;

	return alex_compare(r1->min.key, r1->min.tid, r2->min.key, r2->min.tid);
}

/*
 * A filter of a run that takes pages over costs a look at their entries.  It
 * is worth that where they had one before.  While runs are merged slice by
 * slice, no filters are made: they would be written anew with each slice.
 */
static bool
wants_filter(const AlexCompaction *compaction, uint64 expected)
{
	const AlexMerge *merge = &compaction->merge;
	AlexRun		new_run = {0};
	bool		had_filter = false;

	if (!merge->complete)
		return false;
	new_run.part = compaction->part;
	new_run.entries = expected;
	new_run.min = merge->runs[0]->min;
	new_run.max = merge->runs[0]->max;
	for (int i = 0; i < merge->nruns; i++)
	{
		const AlexRun *run = merge->runs[i];

		had_filter |= run->bloom_pages > 0 ||
			(run->flags & ALEX_RUN_MERGING) != 0;
		if (alex_compare(run->max.key, run->max.tid,
						 new_run.max.key, new_run.max.tid) > 0)
			new_run.max = run->max;
	}
	return (had_filter || !merge->may_adopt) &&
		alex_is_bloom_worthwhile(compaction->manifest, &new_run,
								 merge->runs, merge->nruns);
}

static void
begin_run(AlexCompaction *compaction, uint64 expected, bool filter)
{
	AlexMerge  *merge = &compaction->merge;

	merge->writer = alex_run_writer_begin(compaction->index, compaction->part,
										  expected, filter);
	alex_run_writer_record(merge->writer, compaction->written);
	alex_dropper_start(merge->dropper, merge->writer, compaction->part);
	merge->adopted_entries = 0;
	merge->adopted_dead = 0;
}

/* "flags" are those of a run that is not merged completely yet. */
static void
finish_run(AlexCompaction *compaction, uint16 flags)
{
	AlexMerge  *merge = &compaction->merge;
	AlexRun    *run = &compaction->new_runs[compaction->nnew];

	Assert(compaction->nnew <= merge->nruns);

	alex_run_writer_finish(merge->writer, run);
	if (run->entries == 0)
		return;
	/* those on pages that were taken over are still there */
	run->dead = merge->adopted_dead;
	if (!merge->complete)
		run->flags |= flags;
	compaction->after += run->entries;
	compaction->rewritten += run->entries - merge->adopted_entries;
	compaction->nnew++;
}

/* Compacts the chosen runs, or a slice of them. */
static void
compact_chosen(Relation index, const AlexManifest *manifest, AlexPart part,
			   const AlexRun **runs, int nruns, bool all,
			   const AlexRun *suspect, AlexWrittenPages *written)
{
	AlexCompaction compaction = {0};
	AlexMerge  *merge = &compaction.merge;
	uint64		expected = 0;
	FullTransactionId conflict;

	compaction.index = index;
	compaction.manifest = manifest;
	compaction.part = part;
	compaction.written = written;
	compaction.start = GetCurrentTimestamp();
	compaction.start_wal = pgWalUsage;
	/* a suspect run may leave a rest although it is the only one */
	compaction.new_runs = palloc(sizeof(AlexRun) * (nruns + 1));

	qsort(runs, nruns, sizeof(AlexRun *), compare_by_first_entry);
	for (int i = 0; i < nruns; i++)
	{
		compaction.before += runs[i]->entries;
		expected += runs[i]->entries - runs[i]->dead;
	}

	merge->reader = alex_reader_open(index, manifest->incarnation);
	merge->runs = runs;
	merge->nruns = nruns;
	merge->all_dead_go = all;
	merge->suspect = suspect;
	/*
	 * A page of each run is half read when it stops, and read again then.  Of a
	 * suspect run at most a fourth of the pages is written again.
	 */
	if (!all)
		merge->slice = Max(alex_slice_pages(manifest) * (suspect != NULL ? 4 : 1),
						   2 * nruns);
	alex_merge_begin(merge);
	merge->dropper = alex_dropper_begin(index, 0, expected);
	begin_run(&compaction, expected, wants_filter(&compaction, expected));
	alex_merge_runs(merge);
	finish_run(&compaction, ALEX_RUN_MERGING);
	for (int i = 0; i < nruns; i++)
	{
		if (!alex_merge_has_rest(merge, i))
			continue;
		ALEX_FAILPOINT("compact-before-rest");
		begin_run(&compaction, runs[i]->entries, false);
		alex_merge_rest(merge, i);
		finish_run(&compaction, runs[i] == suspect ?
				   ALEX_RUN_MERGING | ALEX_RUN_SUSPECT : ALEX_RUN_MERGING);
	}
	alex_merge_end(merge);
	(void) alex_dropper_end(merge->dropper, &conflict);
	alex_reader_close(merge->reader);
	compaction.pages = written->npages;

	ALEX_FAILPOINT("compact-before-install");
	install(&compaction, conflict);
	ALEX_FAILPOINT("compact-after-install");

	report(&compaction);
}

/*
 * A slice lists a new run, and may list the rest of each old one, while these
 * stay listed, too.  Leaves the smallest runs for which the manifest has room, if
 * it has not for all that were chosen.
 */
static int
leave_room(const AlexManifest *manifest, const AlexRun **chosen, int n,
		   const AlexRun **suspect)
{
	int			room = (int) ALEX_MAX_LISTED_RUNS - manifest->nruns - 1;

	if (n <= room)
		return n;
	qsort(chosen, n, sizeof(AlexRun *), alex_compare_by_size);
	*suspect = NULL;
	return room >= 2 ? room : 0;
}

/* Compacts what is due in a part, or a slice of it; false if nothing is. */
static bool
compact_part(Relation index, AlexPart part, bool all, bool ranges,
			 AlexWrittenPages *written)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam compaction",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	AlexManifest *manifest = alex_manifest_read(index);
	const AlexRun **chosen = palloc(sizeof(AlexRun *) * (manifest->nruns + 1));
	const AlexRun *suspect;
	int			n = 0;

	if (all || !alex_too_much_retired(manifest))
		n = alex_choose_runs(index, manifest, part, all, ranges, chosen,
							 &suspect);
	if (!all)
		n = leave_room(manifest, chosen, n, &suspect);
	else if (n > 0 && manifest->nruns >= ALEX_MAX_LISTED_RUNS)
		alex_manifest_report_full(index, manifest->nruns);
	if (n > 0)
		compact_chosen(index, manifest, part, chosen, n, all, suspect,
					   written);

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
	return n > 0;
}

bool
alex_compact_step(Relation index, bool ranges, AlexWrittenPages *written)
{
	for (int part = 0; part < ALEX_PARTS; part++)
		if (compact_part(index, part, false, ranges, written))
			return true;
	return false;
}

/*
 * Frees what a compaction by this process, which was cancelled or failed, has
 * written.  If somebody has found the pages before us, they carry other stamps.
 * It may have been in another file of the same incarnation, that of a
 * tablespace to which the index was not moved in the end.
 */
static void
free_unfinished(Relation index, uint64 incarnation)
{
	if (unfinished.npages > 0 && unfinished_incarnation == incarnation &&
		RelFileNodeEquals(unfinished_node, index->rd_node))
		alex_written_pages_free(index, &unfinished);
	if (unfinished.context != NULL)
		MemoryContextReset(unfinished.context);
	else
		unfinished.context = AllocSetContextCreate(TopMemoryContext,
												   "alexam unfinished compaction",
												   ALLOCSET_SMALL_SIZES);
	unfinished.pages = NULL;
	unfinished.npages = unfinished.max_pages = 0;
	unfinished_node = index->rd_node;
	unfinished_incarnation = incarnation;
}

void
alex_compact_all(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);

	free_unfinished(index, manifest->incarnation);
	for (int part = 0; part < ALEX_PARTS; part++)
		(void) compact_part(index, part, true, false, &unfinished);
	free_unfinished(index, manifest->incarnation);
	pfree(manifest);
}

void
alex_compact_due(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);
	bool		ranges = alex_range_scans(index, true);

	free_unfinished(index, manifest->incarnation);
	do
	{
		alex_remove_retired(index);
	} while (alex_compact_step(index, ranges, &unfinished));
	free_unfinished(index, manifest->incarnation);
	pfree(manifest);
}

/* Does the run go with those retired at "newest" and before? */
static inline bool
goes_with(const AlexRun *run, FullTransactionId newest)
{
	return (run->flags & ALEX_RUN_RETIRED) != 0 && !lacks_safexid(run) &&
		FullTransactionIdFollowsOrEquals(newest, run->safexid);
}

/*
 * Marks the leaf pages of the runs that stay listed, unless they are marked
 * with a younger run.  Returns a bit for each block of the file.
 */
static uint8 *
mark_leaves_that_stay(AlexReader *reader, const AlexManifest *manifest,
					  FullTransactionId newest)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(reader->index);
	uint8	   *marks = MemoryContextAllocExtended(CurrentMemoryContext,
												   nblocks / 8 + 1,
												   MCXT_ALLOC_HUGE |
												   MCXT_ALLOC_ZERO);

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];
		AlexRunReader run_reader;

		if (goes_with(run, newest) || (run->flags & ALEX_RUN_MOVED) != 0)
			continue;
		alex_run_open(&run_reader, reader, run);
		for (uint32 leaf = 0; leaf < run->leaf_pages; leaf++)
		{
			AlexFence	fence;

			alex_run_fence(&run_reader, leaf, &fence);
			if (fence.block < nblocks)
				marks[fence.block / 8] |= 1 << (fence.block % 8);
		}
		alex_run_close(&run_reader);
	}
	return marks;
}

/*
 * Adds the pages that leave with a retired run to the list.  If some of its
 * leaf pages were taken over, those that stay are marked.  (Perhaps not with
 * the run that took them over: that may be leaving now, too, and another may
 * have taken them from it.)
 */
static int
collect_pages(AlexReader *reader, const AlexRun *run, const uint8 *marks,
			  AlexPagePointer *pages)
{
	int			n = 0;

	for (uint32 i = 0; i < run->model_pages; i++)
	{
		pages[n].block = run->model_block + i;
		pages[n++].stamp = run->model_stamp + i;
	}
	for (uint32 i = 0; i < run->bloom_pages; i++)
	{
		pages[n].block = run->bloom_block + i;
		pages[n++].stamp = run->bloom_stamp + i;
	}
	if ((run->flags & ALEX_RUN_MOVED) == 0)
	{
		AlexRunReader run_reader;

		alex_run_open(&run_reader, reader, run);
		for (uint32 i = 0; i < run->leaf_pages; i++)
		{
			AlexFence	fence;

			alex_run_fence(&run_reader, i, &fence);
			if (run->moved_pages > 0 &&
				(marks[fence.block / 8] & (1 << (fence.block % 8))) != 0)
				continue;
			pages[n].block = fence.block;
			pages[n++].stamp = fence.stamp;
		}
		alex_run_close(&run_reader);
	}
	return n;
}

/*
 * The newest safexid of the retired runs that no scan can be following any
 * more; invalid when there are none.  All runs with an older one can go too.
 *
 * Only snapshots that may read the table matter.  Those in other databases
 * and the horizon of logical slots, which is for catalogs, might hold
 * everything up for days.  A table that is local to this session is asked
 * about like a shared one: its own horizon knows nothing of our snapshots.
 * A worker that has noted who reads the index need not wait for others.
 */
static FullTransactionId
find_removable(Relation index, const AlexManifest *manifest)
{
	FullTransactionId newest = InvalidFullTransactionId;
	Relation	heap = table_open(index->rd_index->indrelid, AccessShareLock);
	Relation	seen_by = RELATION_IS_LOCAL(heap) ? NULL : heap;
	FullTransactionId unread = alex_lockers_limit(index);

	/* makes GlobalVisCheckRemovableFullXid look at the present (H22) */
	(void) GetOldestNonRemovableTransactionId(seen_by);

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) != 0 && !lacks_safexid(run) &&
			(FullTransactionIdPrecedes(run->safexid, unread) ||
			 GlobalVisCheckRemovableFullXid(seen_by, run->safexid)) &&
			(!FullTransactionIdIsValid(newest) ||
			 FullTransactionIdFollows(run->safexid, newest)))
			newest = run->safexid;
	}
	table_close(heap, AccessShareLock);
	return newest;
}

/* Takes runs out of the manifest and frees their pages. */
static void
remove_runs(Relation index, const AlexManifest *manifest,
			FullTransactionId newest)
{
	AlexManifestChange change;
	AlexReader *reader = alex_reader_open(index, manifest->incarnation);
	AlexPagePointer *pages;
	uint8	   *marks = NULL;
	bool		any_moved = false;
	Size		npages = 0;
	int			used = 0;

	/* read their fences while they are still there */
	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if (!goes_with(run, newest))
			continue;
		npages += run->leaf_pages + run->model_pages + run->bloom_pages;
		any_moved |= run->moved_pages > 0 && (run->flags & ALEX_RUN_MOVED) == 0;
	}
	if (any_moved)
		marks = mark_leaves_that_stay(reader, manifest, newest);
	pages = MemoryContextAllocHuge(CurrentMemoryContext,
								   npages * sizeof(AlexPagePointer));
	for (int i = 0; i < manifest->nruns; i++)
		if (goes_with(&manifest->runs[i], newest))
			used += collect_pages(reader, &manifest->runs[i], marks,
								  pages + used);
	alex_reader_close(reader);

	/* nobody else retires or removes runs: we hold the maintenance lock */
	alex_manifest_change_begin(index, 0, &change);
	for (int i = change.manifest->nruns - 1; i >= 0; i--)
	{
		if (goes_with(&change.manifest->runs[i], newest))
			alex_manifest_delete(&change, i);
	}
	alex_manifest_change_commit(&change, ALEX_MANIFEST_REMOVE, newest,
								InvalidBuffer, NULL, publish_change, NULL);
	alex_manifest_change_end(&change);

	ALEX_FAILPOINT("remove-before-free");
	alex_space_free(index, pages, used);
	pfree(pages);
	if (marks != NULL)
		pfree(marks);
}

bool
alex_remove_retired(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);
	FullTransactionId newest = find_removable(index, manifest);
	int			nretired = 0;
	bool		incomplete = false;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		incomplete |= lacks_safexid(run);
		if ((run->flags & ALEX_RUN_RETIRED) != 0 &&
			!(FullTransactionIdIsValid(newest) && goes_with(run, newest)))
			nretired++;
	}

	/* an error or a crash came between the two records of a compaction */
	if (incomplete)
		set_safexid(index);

	if (FullTransactionIdIsValid(newest))
		remove_runs(index, manifest, newest);
	pfree(manifest);
	return nretired == 0;
}

void
alex_retired_range(Relation index, FullTransactionId *oldest,
				   FullTransactionId *newest)
{
	AlexManifest *manifest = alex_manifest_read(index);

	*oldest = *newest = InvalidFullTransactionId;
	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) == 0 || lacks_safexid(run))
			continue;
		if (!FullTransactionIdIsValid(*oldest) ||
			FullTransactionIdPrecedes(run->safexid, *oldest))
			*oldest = run->safexid;
		if (FullTransactionIdFollows(run->safexid, *newest))
			*newest = run->safexid;
	}
	pfree(manifest);
}
