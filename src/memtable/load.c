/*-------------------------------------------------------------------------
 *
 * load.c
 *	  Bringing a memtable up to its log, and keeping it so through freeze,
 *	  install and VACUUM.
 *
 * A memtable is loaded by one backend at a time, in state LOADING, without
 * any lock: nobody else touches its trees meanwhile.  Appenders do not wait
 * for the loader; so it ends by locking the metapage and the log's tail page
 * (no page can be linked, no entry appended), applying what is left, and
 * declaring the memtable ready before it lets go.
 *
 * On a primary every change of the log is made in the memtable by whoever
 * makes it, so a ready memtable stays complete.  On a standby the log is
 * changed by redo, which knows nothing of shared memory: there the backends
 * compare the memtable with the log's tail at every view and load what is
 * missing, in the same way.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/load.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"

#include "alex/am.h"
#include "alex/memtable.h"

typedef struct AlexLoader
{
	AlexMemtableGeneration *generation;
	bool		no_memory;
} AlexLoader;

/* Frees the entries of one generation; in state LOADING or under the lock. */
static void
reset_generation(AlexMemtableGeneration *generation, uint64 number)
{
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		alex_tree_free(alex_arena_chunks(), &generation->trees[part]);
		alex_tree_init(&generation->trees[part]);
	}
	generation->generation = number;
	memset(&generation->applied, 0, sizeof(AlexLogPosition));
	memset(generation->hinted, 0, sizeof(generation->hinted));
}

/*
 * Puts log entries into a generation's trees; false when the arena is full.
 * Raises no error: also called in critical sections.
 */
static bool
insert_entries(AlexMemtableGeneration *generation,
			   const AlexLogEntry *entries, int n)
{
	AlexEntry	ascending[ALEX_LOG_PAGE_ENTRIES];
	int			next = 0;

	while (next < n)
	{
		AlexPart	part = ALEX_LOG_PART(&entries[next]);
		int			count = 0;
		size_t		done;

		/* batches are in the log in order, so look for what ascends */
		for (; next < n; next++)
		{
			const AlexLogEntry *entry = &entries[next];

			if (entry->tid & ALEX_LOG_DEAD)
				continue;
			if (count > 0 &&
				(ALEX_LOG_PART(entry) != part ||
				 alex_compare(ascending[count - 1].key,
							  ascending[count - 1].tid,
							  entry->key, ALEX_LOG_TID(entry)) >= 0))
				break;
			part = ALEX_LOG_PART(entry);
			ascending[count].key = entry->key;
			ascending[count].tid = ALEX_LOG_TID(entry);
			count++;
		}
		if (alex_tree_insert_batch(alex_arena_chunks(),
								   &generation->trees[part], ascending,
								   count, &done) == ALEX_TREE_NO_MEMORY)
			return false;
	}
	return true;
}

/*
 * Called with the log page share-locked.  What does not fit now is tried
 * again after an eviction by reading the log from the start.
 */
static void
take_entries(const AlexLogEntry *entries, int n, void *context)
{
	AlexLoader *loader = context;

	if (!loader->no_memory &&
		!insert_entries(loader->generation, entries, n))
		loader->no_memory = true;
}

/* What the memtable remembers of the runs. */
static void
note_runs(AlexMemtable *memtable, const AlexManifest *manifest)
{
	uint64		listed = 0;

	memtable->run_pages = 0;
	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		listed |= ALEX_HINTED_RUN(run->id);
		if ((run->flags & ALEX_RUN_RETIRED) == 0)
			memtable->run_pages += run->leaf_pages;
	}
	/* forget the hints of runs that are gone */
	pg_atomic_fetch_and_u64(&memtable->hinted_runs, listed);
}

/* Leaves state LOADING; the memtable's lock is held exclusively. */
static void
finish_loading(AlexMemtable *memtable, bool ready)
{
	memtable->state = ready ? ALEX_MEMTABLE_READY : ALEX_MEMTABLE_UNLOADED;
	if (!ready)
		alex_memtable_unload(memtable);
	memtable->missed_change = false;
	alex_memtable_publish(memtable);
	ConditionVariableBroadcast(&memtable->loaded);
}

/* Error or exit of the loading backend. */
static void
abandon_loading(int code, Datum argument)
{
	AlexMemtable *memtable = (AlexMemtable *) DatumGetPointer(argument);

	LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
	finish_loading(memtable, false);
	LWLockRelease(&memtable->lock);
}

/* Reads one chain into its generation, from where it was read before. */
static bool
load_chain(Relation index, AlexMemtable *memtable, int which,
		   const AlexLogChain *chain, bool *no_memory)
{
	AlexLoader	loader = {0};

	loader.generation = &memtable->generations[which];

	if (loader.generation->generation != chain->generation)
		reset_generation(loader.generation, chain->generation);
	if (chain->generation == 0)
		return true;
	if (!alex_log_read(index, chain, &loader.generation->applied,
					   take_entries, &loader))
		return false;
	*no_memory = loader.no_memory;
	return !loader.no_memory;
}

/*
 * The end of loading: with metapage and tail locked, takes what was appended
 * since and declares the memtable ready.  False when the manifest has
 * changed, or a VACUUM removed entries that we may have read before.
 */
static bool
complete_loading(Relation index, AlexMemtable *memtable,
				 const AlexManifest *manifest, bool recovery, bool *no_memory)
{
	Buffer		meta_buffer = ReadBuffer(index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(meta_buffer);
	Buffer		tail_buffer = InvalidBuffer;
	AlexMemtableGeneration *active = &memtable->generations[ALEX_ACTIVE];
	bool		done = false;

	LockBuffer(meta_buffer, BUFFER_LOCK_SHARE);
	alex_meta_check(index, (Page) meta);

	if (meta->incarnation == manifest->incarnation &&
		meta->manifest_version == manifest->version &&
		load_chain(index, memtable, ALEX_ACTIVE, &meta->active, no_memory))
	{
		AlexLoader	loader = {0};

		/*
		 * On a primary, the page that we have come to is the one that the
		 * metapage calls the tail.  Redo links a new page before it changes
		 * the metapage, so on a standby it may be the next one already.
		 */
			loader.generation = active;
		if (active->applied.stamp != 0)
		{
			AlexLogPage *tail;

			tail_buffer = ReadBuffer(index, active->applied.block);
			LockBuffer(tail_buffer, BUFFER_LOCK_SHARE);
			tail = (AlexLogPage *) BufferGetPage(tail_buffer);
			if (!alex_log_page_is((Page) tail, active->applied.stamp) ||
				tail->count < active->applied.count)
				alex_log_report_damage(index, active->applied.block);
			Assert(recovery || active->applied.block == meta->active.tail);
			take_entries(tail->entries + active->applied.count,
						 tail->count - active->applied.count, &loader);
			active->applied.count = tail->count;
		}
		*no_memory = loader.no_memory;

		LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
		if (!loader.no_memory && !memtable->missed_change &&
			memtable->incarnation == manifest->incarnation)
		{
			memtable->in_recovery = recovery;
			memtable->dead_epoch = manifest->dead_epoch;
			note_runs(memtable, manifest);
			pg_atomic_write_u64(&memtable->manifest_version, manifest->version);
			finish_loading(memtable, true);
			done = true;
		}
		LWLockRelease(&memtable->lock);

		if (BufferIsValid(tail_buffer))
			UnlockReleaseBuffer(tail_buffer);
	}
	UnlockReleaseBuffer(meta_buffer);

	return done;
}

/*
 * Loads in state LOADING.  Returns whether the memtable is ready now; if not
 * it is left in state LOADING.
 */
static bool
load(Relation index, AlexMemtable *memtable, bool recovery)
{
	bool		fresh = false;

	for (;;)
	{
		AlexManifest *manifest = alex_manifest_read(index);
		bool		no_memory = false;
		bool		done = false;

		if (manifest->incarnation != memtable->incarnation)
		{
			pfree(manifest);
			return false;
		}

		LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
		fresh |= memtable->missed_change;
		memtable->missed_change = false;
		LWLockRelease(&memtable->lock);

		/* entries that a VACUUM removed must not stay */
		if (fresh || memtable->dead_epoch != manifest->dead_epoch)
			for (int i = 0; i < lengthof(memtable->generations); i++)
				reset_generation(&memtable->generations[i], 0);

		if (load_chain(index, memtable, ALEX_FROZEN, &manifest->frozen,
					   &no_memory) &&
			load_chain(index, memtable, ALEX_ACTIVE, &manifest->active,
					   &no_memory))
		{
			ALEX_FAILPOINT("load-before-ready");
			done = complete_loading(index, memtable, manifest, recovery,
									&no_memory);
		}
		if (!done && !no_memory)
			alex_log_check_unbroken(index, manifest);
		pfree(manifest);

		if (done)
			return true;
		if (no_memory && !alex_registry_evict(memtable))
		{
			/* the next who appends seals the log before it is full */
			LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
			memtable->no_room = true;
			LWLockRelease(&memtable->lock);
			return false;
		}
		/* what is there may be in part: begin again */
		fresh = true;
	}
}

bool
alex_memtable_load(AlexLocal *local, Relation index)
{
	AlexMemtable *memtable = local->memtable;
	bool		recovery = RecoveryInProgress();
	volatile bool ready = false;

	if (memtable == NULL)
		return false;

	for (;;)
	{
		LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
		if (pg_atomic_read_u64(&memtable->tenure) != local->tenure)
		{
			/* evicted, or rebuilt: the caller attaches again */
			LWLockRelease(&memtable->lock);
			ConditionVariableCancelSleep();
			return true;
		}
		if (memtable->state != ALEX_MEMTABLE_LOADING)
			break;
		ConditionVariablePrepareToSleep(&memtable->loaded);
		LWLockRelease(&memtable->lock);
		ConditionVariableSleep(&memtable->loaded, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();

	if (memtable->state == ALEX_MEMTABLE_READY && !memtable->in_recovery &&
		!recovery)
	{
		LWLockRelease(&memtable->lock);
		return true;
	}

	/*
	 * What a standby's backends loaded is a good start, but only while we
	 * are a standby: after promotion, begin from nothing.
	 */
	if (memtable->state == ALEX_MEMTABLE_READY && !recovery)
		alex_memtable_unload(memtable);
	memtable->state = ALEX_MEMTABLE_LOADING;
	pg_atomic_write_u64(&memtable->content, ALEX_CONTENT_UNREADY);
	LWLockRelease(&memtable->lock);

	PG_ENSURE_ERROR_CLEANUP(abandon_loading, PointerGetDatum(memtable));
	{
		ready = load(index, memtable, recovery);
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_loading, PointerGetDatum(memtable));

	if (!ready)
		abandon_loading(0, PointerGetDatum(memtable));

	return ready;
}

void
alex_memtable_verify(AlexMemtable *memtable, uint64 tenure, Relation index)
{
	Buffer		meta_buffer = ReadBuffer(index, ALEX_META_BLOCK);
	AlexMetaPage *meta = (AlexMetaPage *) BufferGetPage(meta_buffer);
	Buffer		tail_buffer = InvalidBuffer;
	uint32		tail_count = 0;

	LockBuffer(meta_buffer, BUFFER_LOCK_SHARE);
	alex_meta_check(index, (Page) meta);
	if (BlockNumberIsValid(meta->active.tail))
	{
		tail_buffer = ReadBuffer(index, meta->active.tail);
		LockBuffer(tail_buffer, BUFFER_LOCK_SHARE);
		tail_count = ((AlexLogPage *) BufferGetPage(tail_buffer))->count;
	}

	LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&memtable->tenure) == tenure &&
		memtable->state == ALEX_MEMTABLE_READY && !memtable->in_recovery)
	{
		AlexMemtableGeneration *active = &memtable->generations[ALEX_ACTIVE];
		AlexMemtableGeneration *frozen = &memtable->generations[ALEX_FROZEN];

		if (memtable->incarnation != meta->incarnation ||
			memtable->dead_epoch != meta->dead_epoch ||
			pg_atomic_read_u64(&memtable->manifest_version) != meta->manifest_version ||
			active->generation != meta->active.generation ||
			frozen->generation != meta->frozen.generation ||
			active->applied.stamp != meta->active.tail_stamp ||
			active->applied.count != tail_count)
			alex_memtable_unload(memtable);
	}
	LWLockRelease(&memtable->lock);

	if (BufferIsValid(tail_buffer))
		UnlockReleaseBuffer(tail_buffer);
	UnlockReleaseBuffer(meta_buffer);
}

bool
alex_memtable_apply(AlexMemtable *memtable, uint64 generation,
					const AlexLogPosition *before,
					const AlexLogEntry *entries, int nentries)
{
	AlexMemtableGeneration *active = &memtable->generations[ALEX_ACTIVE];
	bool		follows;

	Assert(LWLockHeldByMeInMode(&memtable->lock, LW_EXCLUSIVE));

	if (memtable->state != ALEX_MEMTABLE_READY)
		return false;

	/* does the memtable hold all that stands before the new entries? */
	if (before->count > 0)
		follows = active->applied.stamp == before->stamp &&
			active->applied.count == before->count;
	else
		follows = active->applied.number + 1 == before->number &&
			(before->number == 1 ||
			 active->applied.count == ALEX_LOG_PAGE_ENTRIES);

	if (memtable->in_recovery || active->generation != generation || !follows)
	{
		alex_memtable_unload(memtable);
		return false;
	}
	if (!insert_entries(active, entries, nentries))
	{
		memtable->no_room = true;
		alex_memtable_unload(memtable);
		return false;
	}

	active->applied = *before;
	active->applied.count += nentries;
	alex_memtable_publish(memtable);
	return true;
}

/*
 * A change of the manifest finds the memtable as the change before left it,
 * or else it is of a file that was moved away, changed and moved back (H10).
 * Then it is thrown away here, as its number of the manifest's version is
 * what would have given it away.
 */
static bool
follows_manifest(AlexMemtable *memtable, const AlexManifest *manifest)
{
	if (memtable->state != ALEX_MEMTABLE_READY)
		return false;
	if (!memtable->in_recovery &&
		memtable->incarnation == manifest->incarnation &&
		pg_atomic_read_u64(&memtable->manifest_version) + 1 == manifest->version)
		return true;
	alex_memtable_unload(memtable);
	return false;
}

void
alex_memtable_note_versions(Relation index, uint64 nrows)
{
	AlexMemtable *memtable = alex_registry_lock(index);

	if (memtable == NULL)
		return;
	memtable->versions += nrows;
	LWLockRelease(&memtable->lock);
}

void
alex_memtable_frozen(Relation index, const AlexManifest *manifest,
					 uint32 tail_count)
{
	AlexMemtable *memtable = alex_registry_lock(index);
	AlexMemtableGeneration *active;
	AlexMemtableGeneration *frozen;

	if (memtable == NULL)
		return;

	active = &memtable->generations[ALEX_ACTIVE];
	frozen = &memtable->generations[ALEX_FROZEN];
	memtable->no_room = false;
	memtable->versions = 0;
	/* this is when the chain's end is last compared with its log's (H10) */
	if (follows_manifest(memtable, manifest) &&
		(active->generation != manifest->frozen.generation ||
		 active->applied.stamp != manifest->frozen.tail_stamp ||
		 active->applied.count != tail_count || frozen->generation != 0))
		alex_memtable_unload(memtable);
	if (memtable->state == ALEX_MEMTABLE_READY)
	{
		*frozen = *active;
		for (int part = 0; part < ALEX_PARTS; part++)
			alex_tree_init(&active->trees[part]);
		active->generation = manifest->active.generation;
		memset(&active->applied, 0, sizeof(AlexLogPosition));
		memset(active->hinted, 0, sizeof(active->hinted));
	}
	pg_atomic_write_u64(&memtable->manifest_version, manifest->version);
	alex_memtable_publish(memtable);
	LWLockRelease(&memtable->lock);
}

void
alex_memtable_installed(Relation index, const AlexManifest *manifest)
{
	AlexMemtable *memtable = alex_registry_lock(index);
	bool		follows;

	if (memtable == NULL)
		return;

	/* the version first: whoever sees less content must see the new run */
	follows = follows_manifest(memtable, manifest);
	pg_atomic_write_u64(&memtable->manifest_version, manifest->version);
	if (follows)
		reset_generation(&memtable->generations[ALEX_FROZEN], 0);
	note_runs(memtable, manifest);
	alex_memtable_publish(memtable);
	LWLockRelease(&memtable->lock);
}

void
alex_memtable_changed(Relation index, const AlexManifest *manifest)
{
	AlexMemtable *memtable = alex_registry_lock(index);

	if (memtable == NULL)
		return;
	if (follows_manifest(memtable, manifest))
		memtable->dead_epoch = manifest->dead_epoch;
	note_runs(memtable, manifest);
	pg_atomic_write_u64(&memtable->manifest_version, manifest->version);
	LWLockRelease(&memtable->lock);
}

void
alex_memtable_delete(Relation index, uint64 generation,
					 const AlexLogEntry *entries, int nentries)
{
	AlexMemtable *memtable = alex_registry_lock(index);

	if (memtable == NULL)
		return;

	if (memtable->state == ALEX_MEMTABLE_LOADING)
		memtable->missed_change = true;
	else if (memtable->state == ALEX_MEMTABLE_READY)
	{
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			AlexMemtableGeneration *held = &memtable->generations[i];

			if (held->generation != generation)
				continue;
			for (int n = 0; n < nentries; n++)
			{
				int			part = ALEX_LOG_PART(&entries[n]);
				AlexEntry	entry;

				entry.key = entries[n].key;
				entry.tid = ALEX_LOG_TID(&entries[n]);
				if (!alex_tree_delete(alex_arena_chunks(), &held->trees[part],
									  entry) && held->hinted[part] > 0)
					held->hinted[part]--;
			}
		}
		alex_memtable_publish(memtable);
	}
	LWLockRelease(&memtable->lock);
}
