/*-------------------------------------------------------------------------
 *
 * seal.c
 *	  Turning a generation of the log, or a large batch of entries, into runs.
 *
 * A seal has three steps, each a valid state of the index by itself:
 *
 * 1. Freeze: in one WAL record the active chain becomes the frozen one, its
 *	  tail is closed, and a new, empty generation begins.
 * 2. The frozen chain's entries, those marked dead left out, are sorted and
 *	  written as runs that nobody knows of yet; if many turn out to be dead to
 *	  all, without these (drop_dead.c).
 * 3. Install: in one WAL record the runs enter the manifest and the frozen
 *	  chain leaves it.  Then the chain's pages are freed.
 *
 * After a crash between 1 and 3 the frozen chain is still read, and the next
 * seal begins by finishing it; pages written in vain are found by VACUUM.
 *
 * The entries are read from the log, not from the memtable: the log is what
 * is true, and sorting costs little beside packing and writing.
 *
 * The seal lock keeps VACUUM from marking entries of the frozen chain dead
 * between steps 2 and 3, which the run would bring back to life.
 *
 * A direct seal turns entries into runs that never were in the log: they come
 * from a transaction in progress, which writes them before it ends.  It holds
 * neither the seal lock nor the maintenance lock, so that several sessions
 * can be at it at once and VACUUM does not keep them out.  A VACUUM that goes
 * on at the same time need not know of these entries: it looks for TIDs which
 * were found dead before it came to the index, hence were inserted by a
 * transaction, or a subtransaction, that had ended then, and whose runs had
 * been listed before.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/seal.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

#include "alex/am.h"
#include "alex/merge.h"

/* At most the values in two runs, and the NULLs. */
#define MAX_SEALED_RUNS			3

/* So many entries of a batch are a run, unless the index is much larger. */
#define MIN_LARGE_BATCH			32768

static void
publish_freeze(AlexManifestChange *change, void *context)
{
	Page		tail = BufferGetPage(*(Buffer *) context);

	alex_memtable_frozen(change->index, change->manifest,
						 ((AlexLogPage *) tail)->count);
}

static void
publish_install(AlexManifestChange *change, void *context)
{
	alex_memtable_installed(change->index, change->manifest);
}

static void
close_tail(Page page)
{
	((AlexLogPage *) page)->flags |= ALEX_LOG_CLOSED;
}

/* Freezes the active generation, if it has any entries. */
static void
freeze(Relation index)
{
	AlexManifestChange change;
	AlexManifest *manifest;
	Buffer		tail;

	alex_manifest_change_begin(index, 0, &change);
	manifest = change.manifest;
	Assert(manifest->frozen.generation == 0);

	if (BlockNumberIsValid(manifest->active.tail))
	{
		/* appends that hold the tail now still belong to this generation */
		tail = ReadBuffer(index, manifest->active.tail);
		LockBuffer(tail, BUFFER_LOCK_EXCLUSIVE);
		if (!alex_log_page_is(BufferGetPage(tail), manifest->active.tail_stamp))
			alex_log_report_damage(index, manifest->active.tail);

		manifest->frozen = manifest->active;
		memset(&manifest->active, 0, sizeof(AlexLogChain));
		manifest->active.generation = manifest->next_generation++;
		manifest->active.head = InvalidBlockNumber;
		manifest->active.tail = InvalidBlockNumber;
		alex_manifest_change_commit(&change, ALEX_MANIFEST_FREEZE,
									InvalidFullTransactionId, tail,
									close_tail, publish_freeze, &tail);
		UnlockReleaseBuffer(tail);
	}
	alex_manifest_change_end(&change);
}

/*
 * A Bloom filter keeps probes away from a small run.  For the largest run of
 * all it would cost the most and save the least: most keys that are looked
 * for are there.  Nor is it of use where no other run has keys in its range:
 * from there, no probe comes that would not find anything.
 */
bool
alex_is_bloom_worthwhile(const AlexManifest *manifest, const AlexRun *new_run,
						 const AlexRun **replaced, int nreplaced)
{
	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];
		bool		stays = (run->flags & ALEX_RUN_RETIRED) == 0;

		for (int n = 0; n < nreplaced; n++)
			stays &= run->id != replaced[n]->id;
		if (stays && run->part == new_run->part &&
			run->entries > new_run->entries &&
			run->min.key <= new_run->max.key &&
			run->max.key >= new_run->min.key)
			return true;
	}
	return false;
}

/*
 * Writes sorted entries as a run, if there are any.  The dropper, if there is
 * one, leaves out those that are dead.
 */
static void
write_run(Relation index, const AlexManifest *manifest, uint64 generation,
		  AlexDropper *dropper, AlexPart part, const AlexEntry *entries,
		  Size nentries, AlexRun *runs, int *nruns)
{
	AlexRunWriter *writer;
	AlexRun		run = {0};

	if (nentries == 0)
		return;

	run.part = part;
	run.entries = nentries;
	run.min = entries[0];
	run.max = entries[nentries - 1];
	writer = alex_run_writer_begin(index, part, nentries,
								   alex_is_bloom_worthwhile(manifest, &run,
															NULL, 0));
	if (dropper != NULL)
	{
		alex_dropper_start(dropper, writer, part);
		for (Size i = 0; i < nentries; i++)
			alex_dropper_add(dropper, entries[i].key, entries[i].tid, false);
		alex_dropper_flush(dropper);
	}
	else
	{
		for (Size i = 0; i < nentries; i++)
			alex_run_writer_add(writer, entries[i].key, entries[i].tid);
	}
	alex_run_writer_finish(writer, &runs[*nruns]);
	if (runs[*nruns].entries == 0)
		return;
	runs[*nruns].generation = generation;
	(*nruns)++;
}

/*
 * Where to cut the sorted values in two.  The entries above every listed
 * run's highest key are worth a run of their own when they are the most: then
 * keys mostly ascend, and a few late arrivals must not keep that run from
 * being concatenated with its predecessor.
 */
static Size
find_cut(const AlexManifest *manifest, const AlexEntry *entries,
		 Size nentries)
{
	Size		low = 0;
	Size		high = nentries;
	uint64		highest = 0;
	bool		found = false;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if (run->part == ALEX_PART_VALUES &&
			(run->flags & ALEX_RUN_RETIRED) == 0)
		{
			highest = Max(highest, run->max.key);
			found = true;
		}
	}
	if (!found)
		return 0;

	while (low < high)
	{
		Size		middle = low + (high - low) / 2;

		if (entries[middle].key <= highest)
			low = middle + 1;
		else
			high = middle;
	}
	return low <= nentries / 2 ? low : 0;
}

/*
 * Writes sorted entries of both parts as runs, at most MAX_SEALED_RUNS.
 * Returns how many.
 */
static int
write_runs(Relation index, const AlexManifest *manifest, uint64 generation,
		   AlexDropper *dropper, AlexEntry *const entries[ALEX_PARTS],
		   const Size nentries[ALEX_PARTS], AlexRun *runs)
{
	const AlexEntry *values = entries[ALEX_PART_VALUES];
	Size		nvalues = nentries[ALEX_PART_VALUES];
	Size		cut = find_cut(manifest, values, nvalues);
	int			nruns = 0;

	write_run(index, manifest, generation, dropper, ALEX_PART_VALUES,
			  values, cut, runs, &nruns);
	write_run(index, manifest, generation, dropper, ALEX_PART_VALUES,
			  values + cut, nvalues - cut, runs, &nruns);
	write_run(index, manifest, generation, dropper, ALEX_PART_NULLS,
			  entries[ALEX_PART_NULLS], nentries[ALEX_PART_NULLS],
			  runs, &nruns);
	return nruns;
}

/* Enters the runs in the manifest in place of the frozen chain. */
static void
install(Relation index, uint64 generation, const AlexRun *runs, int nruns,
		FullTransactionId conflict)
{
	AlexManifestChange change;

	alex_manifest_change_begin(index, nruns, &change);
	if (change.manifest->frozen.generation != generation)
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("generation " UINT64_FORMAT " of index \"%s\" was sealed twice",
						generation, RelationGetRelationName(index))));
	for (int i = 0; i < nruns; i++)
		alex_manifest_add(&change, &runs[i]);
	memset(&change.manifest->frozen, 0, sizeof(AlexLogChain));
	change.manifest->frozen.head = InvalidBlockNumber;
	change.manifest->frozen.tail = InvalidBlockNumber;
	alex_manifest_change_commit(&change, ALEX_MANIFEST_INSTALL, conflict,
								InvalidBuffer, NULL, publish_install, NULL);
	alex_manifest_change_end(&change);
}

/* Steps 2 and 3. */
static void
seal_frozen(Relation index, const AlexManifest *manifest)
{
	AlexLogPosition position = {0};
	AlexEntry  *entries[ALEX_PARTS];
	Size		nentries[ALEX_PARTS];
	AlexRun		runs[MAX_SEALED_RUNS];
	int			nruns;
	uint64		generation = manifest->frozen.generation;
	AlexDropper *dropper;
	FullTransactionId conflict;
	AlexPagePointer *pages;
	int			npages;

	if (!alex_log_collect(index, &manifest->frozen, &position,
						  CurrentMemoryContext, entries, nentries))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("log of index \"%s\" is damaged",
						RelationGetRelationName(index)),
				 errdetail("The chain of generation " UINT64_FORMAT " breaks off.",
						   generation),
				 errhint("Please REINDEX it.")));

	dropper = alex_dropper_begin(index, generation,
								 Max(nentries[ALEX_PART_VALUES],
									 nentries[ALEX_PART_NULLS]));
	nruns = write_runs(index, manifest, generation, dropper, entries, nentries,
					   runs);
	(void) alex_dropper_end(dropper, &conflict);

	ALEX_FAILPOINT("seal-before-install");
	pages = alex_log_pages(index, &manifest->frozen, &npages);
	install(index, generation, runs, nruns, conflict);
	alex_count_sealed(index, nentries[ALEX_PART_VALUES] +
					  nentries[ALEX_PART_NULLS]);
	ALEX_FAILPOINT("seal-after-install");
	alex_space_free(index, pages, npages);
}

/* Has the manifest room for what a seal lists?  Found out before it writes. */
static inline bool
has_room(const AlexManifest *manifest)
{
	return manifest->nruns + MAX_SEALED_RUNS <= ALEX_MAX_LISTED_RUNS;
}

void
alex_seal(Relation index, uint64 minimum)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam seal",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	AlexManifest *manifest = alex_manifest_read(index);
	uint64		count;

	if (manifest->frozen.generation != 0 && has_room(manifest))
	{
		seal_frozen(index, manifest);
		manifest = alex_manifest_read(index);
	}

	(void) alex_log_count(index, &manifest->active, &count);
	if (count >= minimum && manifest->frozen.generation == 0 &&
		has_room(manifest))
	{
		freeze(index);
		ALEX_FAILPOINT("seal-after-freeze");
		manifest = alex_manifest_read(index);
		if (manifest->frozen.generation != 0)
			seal_frozen(index, manifest);
	}

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
}

/* In the critical section that lists the runs of a direct seal. */
static void
publish_direct(AlexManifestChange *change, void *context)
{
	alex_memtable_changed(change->index, change->manifest);
	*(bool *) context = true;
}

/*
 * Writes and lists the runs of a direct seal, unless the manifest has no room
 * for more.  The run lock is held.
 */
static bool
direct_seal(Relation index, AlexEntry *const entries[ALEX_PARTS],
			const Size nentries[ALEX_PARTS], bool *installed)
{
	AlexManifest *manifest = alex_manifest_read(index);
	AlexManifestChange change;
	AlexRun		runs[MAX_SEALED_RUNS];
	int			nruns;

	if (manifest->nruns >= ALEX_MANY_LISTED_RUNS)
		return false;

	nruns = write_runs(index, manifest, 0, NULL, entries, nentries, runs);
	ALEX_FAILPOINT("direct-seal-before-install");

	alex_manifest_change_begin(index, nruns, &change);
	for (int i = 0; i < nruns; i++)
		alex_manifest_add(&change, &runs[i]);
	alex_manifest_change_commit(&change, ALEX_MANIFEST_INSTALL,
								InvalidFullTransactionId, InvalidBuffer,
								NULL, publish_direct, installed);
	alex_manifest_change_end(&change);
	alex_count_sealed(index, nentries[ALEX_PART_VALUES] +
					  nentries[ALEX_PART_NULLS]);
	ALEX_FAILPOINT("direct-seal-after-install");
	return true;
}

bool
alex_direct_seal(Relation index, AlexEntry *const entries[ALEX_PARTS],
				 const Size nentries[ALEX_PARTS], bool *installed)
{
	MemoryContext context;
	MemoryContext old_context;
	bool		done;

	/* the sweep must not free the pages before the runs are listed */
	if (!ConditionalLockPage(index, ALEX_RUN_LOCK, ShareLock))
		return false;

	context = AllocSetContextCreate(CurrentMemoryContext, "alexam direct seal",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	done = direct_seal(index, entries, nentries, installed);
	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);

	UnlockPage(index, ALEX_RUN_LOCK, ShareLock);
	if (done)
		alex_relieve(index);
	return done;
}

/*
 * An inserter that has made runs asks for compaction, if there are others.
 * Whether any is due may take visits to the heap to find out (for churned
 * runs), so that is left to whoever answers.  If too many runs have come
 * together all the same, the inserter compacts itself, unless somebody else is
 * at it.
 */
void
alex_relieve(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);
	int			most = 0;
	bool		many = manifest->nruns >= ALEX_MANY_LISTED_RUNS;

	for (int part = 0; part < ALEX_PARTS; part++)
		most = Max(most, alex_count_live_runs(manifest, part));
	many |= most > ALEX_MANY_RUNS;

	if (many || most > 1)
		(void) alex_request_compaction(index, many);
	if (many &&
		ConditionalLockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock))
	{
		alex_compact_due(index);
		UnlockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);
	}
	pfree(manifest);
}

static uint64
count_leaf_pages(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);
	uint64		leaf_pages = 0;

	for (int i = 0; i < manifest->nruns; i++)
		if ((manifest->runs[i].flags & ALEX_RUN_RETIRED) == 0)
			leaf_pages += manifest->runs[i].leaf_pages;
	pfree(manifest);
	return leaf_pages;
}

uint64
alex_log_limit(Relation index)
{
	return Min(Max(ALEX_LOG_SHARE(count_leaf_pages(index)), ALEX_MIN_SEALED),
			   alex_memtable_entries);
}

/*
 * In the log it would take an eighth of the room that the runs take, if it is
 * large in itself, or half of it.
 */
bool
alex_is_large_batch(Relation index, Size nentries)
{
	uint64		share;

	if (nentries < ALEX_MIN_SEALED)
		return false;
	share = ALEX_LOG_SHARE(count_leaf_pages(index));
	return nentries >= Max(share, MIN_LARGE_BATCH) ||
		(share > 0 && nentries >= 4 * share);
}

/*
 * Where the manifest has no room for more runs, the log grows: a snapshot that
 * keeps retired runs listed must not make inserts fail.
 */
void
alex_try_seal(Relation index, uint64 minimum)
{
	AlexManifest *manifest;

	if (!ConditionalLockPage(index, ALEX_SEAL_LOCK, ExclusiveLock))
		return;
	manifest = alex_manifest_read(index);
	if (manifest->nruns < ALEX_MANY_LISTED_RUNS)
		alex_seal(index, minimum);
	pfree(manifest);
	UnlockPage(index, ALEX_SEAL_LOCK, ExclusiveLock);

	alex_relieve(index);
}
