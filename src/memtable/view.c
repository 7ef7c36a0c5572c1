/*-------------------------------------------------------------------------
 *
 * view.c
 *	  What a scan sees: one manifest, and the generations that go with it.
 *
 * A seal moves entries from a generation of the memtable into runs of the
 * manifest.  A scan must see them in one place or the other, never in both
 * or neither (hazard H7).  So a view names the manifest version and, through
 * it, the numbers of the active and the frozen generation; and entries of a
 * generation are only ever read while the memtable still holds the
 * generation of that number.  Once it does not, the generation has been
 * sealed, and its entries are in the runs of that generation, which the
 * manifest lists (as retired ones, perhaps) as long as we have the index
 * locked and our snapshot lives.
 *
 * On a primary no lock is needed to take a view.  The memtable's content is
 * read before the manifest's version, and an installer writes the version
 * before it takes the content out.  So if we see an empty memtable, the
 * version that we see afterwards is one whose runs have all that was in it.
 *
 * On a standby redo does not touch shared memory: there every view begins
 * with a look at the metapage and the log's tail.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/view.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "alex/memtable.h"

/* Indexes that a backend remembers beyond those it is using. */
#define ALEX_MAX_LOCALS			256

static HTAB *locals = NULL;
static AlexLocal *last_acquired = NULL;
static uint64 local_clock = 0;

static void
release_manifest(AlexSharedManifest *shared)
{
	if (--shared->references == 0)
		MemoryContextDelete(shared->context);
}

/* Forgets all that depends on the index's incarnation. */
static void
reset_local(AlexLocal *local)
{
	if (local->manifest != NULL)
		release_manifest(local->manifest);
	if (local->private_log != NULL)
		alex_private_log_release(local->private_log);
	local->manifest = NULL;
	local->private_log = NULL;
	local->memtable = NULL;
	local->tenure = 0;
	local->incarnation = 0;
	memset(&local->tail, 0, sizeof(AlexLogPosition));
}

/* Makes room when too many indexes are remembered. */
static void
forget_oldest(void)
{
	HASH_SEQ_STATUS status;
	AlexLocal  *local;
	AlexLocal  *oldest = NULL;

	hash_seq_init(&status, locals);
	while ((local = hash_seq_search(&status)) != NULL)
	{
		if (local->references == 0 &&
			(oldest == NULL || local->last_used < oldest->last_used))
			oldest = local;
	}
	if (oldest != NULL)
	{
		reset_local(oldest);
		if (oldest == last_acquired)
			last_acquired = NULL;
		hash_search(locals, &oldest->node, HASH_REMOVE, NULL);
	}
}

AlexLocal *
alex_local_acquire(Relation index)
{
	RelFileNodeBackend node;
	AlexLocal  *local;
	bool		found;

	if (locals == NULL)
	{
		HASHCTL		control;

		control.keysize = sizeof(RelFileNodeBackend);
		control.entrysize = sizeof(AlexLocal);
		control.hcxt = TopMemoryContext;
		locals = hash_create("alexam indexes", 64, &control,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	memset(&node, 0, sizeof(node));
	node.node = index->rd_node;
	node.backend = index->rd_backend;

	/* a statement that is executed over and over reads the same index */
	if (last_acquired != NULL &&
		memcmp(&last_acquired->node, &node, sizeof(node)) == 0)
		local = last_acquired;
	else
		local = hash_search(locals, &node, HASH_FIND, NULL);
	if (local == NULL)
	{
		if (hash_get_num_entries(locals) >= ALEX_MAX_LOCALS)
			forget_oldest();
		local = hash_search(locals, &node, HASH_ENTER, &found);
		memset((char *) local + sizeof(node), 0,
			   sizeof(AlexLocal) - sizeof(node));
	}
	local->references++;
	local->last_used = ++local_clock;
	last_acquired = local;

	return local;
}

void
alex_local_release(AlexLocal *local)
{
	Assert(local->references > 0);
	local->references--;
}

/* Makes a copy of the manifest the one that this backend shares. */
static void
keep_manifest(AlexLocal *local, const AlexManifest *manifest)
{
	MemoryContext context;
	AlexSharedManifest *shared;
	Size		size;

	if (local->manifest != NULL &&
		local->manifest->manifest->version == manifest->version)
		return;

	context = AllocSetContextCreate(CacheMemoryContext, "alexam manifest",
									ALLOCSET_SMALL_SIZES);
	size = offsetof(AlexManifest, runs) + sizeof(AlexRun) * manifest->nruns;
	shared = MemoryContextAlloc(context, sizeof(AlexSharedManifest));
	shared->context = context;
	shared->references = 1;
	shared->manifest = MemoryContextAlloc(context, size);
	memcpy(shared->manifest, manifest, size);

	if (local->manifest != NULL)
		release_manifest(local->manifest);
	local->manifest = shared;
}

/* Is the place that we remember still this index's? */
static inline bool
is_attached(const AlexLocal *local)
{
	return local->memtable != NULL &&
		pg_atomic_read_u64(&local->memtable->tenure) == local->tenure;
}

/* Finds the index's place in the registry again, if it is not known. */
static void
attach(AlexLocal *local, Relation index, uint64 incarnation)
{
	if (local->incarnation != incarnation)
		reset_local(local);

	if (is_attached(local))
		return;

	memset(&local->tail, 0, sizeof(AlexLogPosition));
	local->incarnation = incarnation;
	local->memtable = alex_registry_attach(index, incarnation, &local->tenure);
	if (local->memtable != NULL && !RecoveryInProgress())
		alex_memtable_verify(local->memtable, local->tenure, index);
}

void
alex_local_attach(AlexLocal *local, Relation index)
{
	AlexManifest *manifest;

	if (is_attached(local))
		return;
	manifest = alex_manifest_read(index);
	attach(local, index, manifest->incarnation);
	pfree(manifest);
}

static void
use_manifest(AlexLocal *local, AlexView *view)
{
	view->shared = local->manifest;
	view->shared->references++;
	view->manifest = view->shared->manifest;
}

/*
 * Is what this backend knows still true?  On a primary.  Then *empty says
 * whether the memtable is.
 */
static inline bool
known_is_current(AlexLocal *local, bool *empty)
{
	AlexMemtable *memtable = local->memtable;
	uint64		content;
	uint64		version;

	if (memtable == NULL || local->manifest == NULL)
		return false;

	/* in this order: see the head of this file */
	content = pg_atomic_read_u64(&memtable->content);
	pg_read_barrier();
	version = pg_atomic_read_u64(&memtable->manifest_version);
	pg_read_barrier();

	if (content == ALEX_CONTENT_UNREADY ||
		version != local->manifest->manifest->version ||
		pg_atomic_read_u64(&memtable->tenure) != local->tenure)
		return false;

	alex_registry_touch(memtable);
	*empty = (content == 0);
	return true;
}

/* Takes the view of what this backend knows, if that is still true. */
static inline bool
take_known(AlexLocal *local, AlexView *view)
{
	bool		empty;

	if (!known_is_current(local, &empty))
		return false;
	use_manifest(local, view);
	view->private_log = NULL;
	view->memtable_empty = empty;
	return true;
}

bool
alex_view_renew(AlexLocal *local, AlexView *view)
{
	return view->shared != NULL && view->shared == local->manifest &&
		view->private_log == NULL && !RecoveryInProgress() &&
		known_is_current(local, &view->memtable_empty);
}

/*
 * Takes a view on a standby, if the memtable has all that the log had when
 * the manifest was read.
 */
static bool
take_on_standby(AlexLocal *local, Relation index,
				const AlexManifest *manifest, AlexView *view)
{
	AlexMemtable *memtable = local->memtable;
	uint64		count;
	bool		complete;
	uint64		entries = 0;

	/* redo may have sealed the log since the manifest was read */
	if (!alex_log_count(index, &manifest->active, &count))
		return false;

	if (manifest->active.npages > 0 || manifest->frozen.npages > 0)
	{
		AlexMemtableGeneration *active;
		AlexMemtableGeneration *frozen;

		if (memtable == NULL)
			return false;
		active = &memtable->generations[ALEX_ACTIVE];
		frozen = &memtable->generations[ALEX_FROZEN];

		LWLockAcquire(&memtable->lock, LW_SHARED);
		complete = pg_atomic_read_u64(&memtable->tenure) == local->tenure &&
			memtable->state == ALEX_MEMTABLE_READY &&
			memtable->dead_epoch == manifest->dead_epoch &&
			active->generation == manifest->active.generation &&
			frozen->generation == manifest->frozen.generation &&
			alex_log_entries_before(&active->applied) >= count;
		for (int part = 0; part < ALEX_PARTS; part++)
			entries += active->trees[part].nentries +
				frozen->trees[part].nentries;
		LWLockRelease(&memtable->lock);
		if (!complete)
			return false;
		alex_registry_touch(memtable);
	}

	keep_manifest(local, manifest);
	use_manifest(local, view);
	view->private_log = NULL;
	view->memtable_empty = (entries == 0);
	return true;
}

/* Takes a view with a sorted copy of the log of our own. */
static void
take_private(AlexLocal *local, Relation index, AlexManifest **manifest,
			 AlexView *view)
{
	AlexPrivateLog *log = alex_private_log(index, local->private_log, manifest);

	if (local->private_log != NULL)
		alex_private_log_release(local->private_log);
	local->private_log = log;
	log->references++;
	keep_manifest(local, *manifest);
	use_manifest(local, view);
	view->private_log = log;
	view->memtable_empty = false;
}

void
alex_view_take(AlexLocal *local, Relation index, AlexView *view)
{
	bool		standby = RecoveryInProgress();

	Assert(view->shared == NULL);

	if (!standby && take_known(local, view))
		return;

	/* a few attempts: others may evict what we have just loaded */
	for (int attempt = 0; attempt < 4; attempt++)
	{
		AlexManifest *manifest = alex_manifest_read(index);
		bool		taken;

		CHECK_FOR_INTERRUPTS();

		attach(local, index, manifest->incarnation);
		if (standby)
			taken = take_on_standby(local, index, manifest, view);
		else
		{
			keep_manifest(local, manifest);
			taken = take_known(local, view);
		}

		/*
		 * There was no room for the memtable when we made a copy of the log,
		 * and trying to load it may cost more than all else that a scan does:
		 * not before the log has changed.
		 */
		if (!taken && local->private_log != NULL &&
			alex_private_log_is_current(index, local->private_log, manifest))
		{
			take_private(local, index, &manifest, view);
			taken = true;
		}
		pfree(manifest);
		if (taken)
			return;
		if (!alex_memtable_load(local, index))
			break;
	}

	{
		AlexManifest *manifest = alex_manifest_read(index);

		attach(local, index, manifest->incarnation);
		take_private(local, index, &manifest, view);
		pfree(manifest);
	}
}

void
alex_view_glance(AlexLocal *local, Relation index, AlexView *view)
{
	AlexManifest *manifest;

	if (!RecoveryInProgress() && take_known(local, view))
		return;

	manifest = alex_manifest_read(index);
	if (local->incarnation != manifest->incarnation)
	{
		reset_local(local);
		local->incarnation = manifest->incarnation;
	}
	keep_manifest(local, manifest);
	pfree(manifest);
	use_manifest(local, view);
	view->private_log = NULL;
	view->memtable_empty = false;
}

void
alex_view_release(AlexView *view)
{
	if (view->shared != NULL)
		release_manifest(view->shared);
	if (view->private_log != NULL)
		alex_private_log_release(view->private_log);
	view->shared = NULL;
	view->manifest = NULL;
	view->private_log = NULL;
}

/*
 * Reads from the shared memtable; -1 when it has another generation by now,
 * -2 when it is not loaded.
 */
static int
read_shared(AlexLocal *local, uint64 generation, AlexPart part,
			AlexEntry from, bool inclusive, bool forward,
			AlexEntry *out, int max, AlexMoment *moment)
{
	AlexMemtable *memtable = local->memtable;
	int			result = -2;

	if (memtable == NULL)
		return -2;

	LWLockAcquire(&memtable->lock, LW_SHARED);
	if (pg_atomic_read_u64(&memtable->tenure) == local->tenure &&
		memtable->state == ALEX_MEMTABLE_READY)
	{
		result = -1;
		moment->tenure = local->tenure;
		moment->dead_epoch = memtable->dead_epoch;
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			if (memtable->generations[i].generation == generation)
				result = alex_tree_scan(alex_arena_chunks(),
										&memtable->generations[i].trees[part],
										from, inclusive, forward, out, max);
		}
	}
	LWLockRelease(&memtable->lock);

	return result;
}

int
alex_view_read(AlexLocal *local, Relation index, AlexView *view,
			   uint64 generation, AlexPart part, AlexEntry from,
			   bool inclusive, bool forward, AlexEntry *out, int max,
			   AlexMoment *moment)
{
	AlexManifest *manifest;
	AlexPrivateLog *log;

	for (int attempt = 0; view->private_log == NULL && attempt < 4; attempt++)
	{
		int			result = read_shared(local, generation, part, from,
										 inclusive, forward, out, max,
										 moment);

		if (result >= -1)
			return result;

		/* evicted under us: load it again */
		CHECK_FOR_INTERRUPTS();
		manifest = alex_manifest_read(index);
		attach(local, index, manifest->incarnation);
		pfree(manifest);
		if (!alex_memtable_load(local, index))
			break;
	}

	moment->tenure = 0;
	if (view->private_log == NULL)
	{
		manifest = alex_manifest_read(index);
		view->private_log = alex_private_log(index, NULL, &manifest);
		pfree(manifest);
	}

	/* a copy made later than the view may lack a generation sealed since */
	log = view->private_log;
	if (log->generations[ALEX_ACTIVE] != generation &&
		log->generations[ALEX_FROZEN] != generation)
		return -1;

	return alex_private_log_read(log, generation, part, from, inclusive,
								 forward, out, max);
}

bool
alex_view_skip(AlexLocal *local, const AlexView *view, uint64 generation,
			   AlexPart part, AlexEntry from, bool forward, uint64 count,
			   AlexEntry *boundary)
{
	AlexMemtable *memtable = local->memtable;
	bool		result = false;

	if (view->private_log != NULL)
		return alex_private_log_skip(view->private_log, generation, part, from,
									 forward, count, boundary);
	if (memtable == NULL)
		return false;

	LWLockAcquire(&memtable->lock, LW_SHARED);
	if (pg_atomic_read_u64(&memtable->tenure) == local->tenure &&
		memtable->state == ALEX_MEMTABLE_READY)
	{
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			if (memtable->generations[i].generation == generation)
				result = alex_tree_skip(alex_arena_chunks(),
										&memtable->generations[i].trees[part],
										from, forward, count, boundary);
		}
	}
	LWLockRelease(&memtable->lock);
	return result;
}

/*
 * Locks the memtable for a look at a part of a generation; NULL if that is not
 * there, or not the index's.  A place that this backend has not used before is
 * only looked at: whether what is there can be relied on is for the first scan
 * to find out.
 */
static AlexMemtable *
lock_for_glance(AlexLocal *local, Relation index, const AlexView *view,
				uint64 generation, AlexPart part, const AlexTree **tree)
{
	AlexMemtable *memtable = local->memtable;

	if (is_attached(local))
		LWLockAcquire(&memtable->lock, LW_SHARED);
	else
		memtable = alex_registry_lock(index);
	if (memtable == NULL)
		return NULL;

	if (alex_memtable_is_of(memtable, view->manifest->incarnation) &&
		memtable->state == ALEX_MEMTABLE_READY)
	{
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			if (memtable->generations[i].generation != generation)
				continue;
			*tree = &memtable->generations[i].trees[part];
			return memtable;
		}
	}
	LWLockRelease(&memtable->lock);
	return NULL;
}

bool
alex_view_count(AlexLocal *local, Relation index, const AlexView *view,
				uint64 generation, AlexPart part, AlexEntry low,
				AlexEntry high, double *count)
{
	const AlexTree *tree;
	AlexMemtable *memtable = lock_for_glance(local, index, view, generation,
											 part, &tree);

	if (memtable == NULL)
		return false;
	*count = alex_tree_count(alex_arena_chunks(), tree, low, high);
	LWLockRelease(&memtable->lock);
	return true;
}

bool
alex_view_ends(AlexLocal *local, Relation index, const AlexView *view,
			   uint64 generation, AlexPart part, AlexEntry *first,
			   AlexEntry *last)
{
	const AlexEntry lowest = {0, 0};
	const AlexEntry highest = {PG_UINT64_MAX, PG_UINT64_MAX};
	const AlexTree *tree;
	AlexMemtable *memtable = lock_for_glance(local, index, view, generation,
											 part, &tree);
	bool		found;

	if (memtable == NULL)
		return false;
	found = alex_tree_scan(alex_arena_chunks(), tree, lowest, true, true,
						   first, 1) == 1 &&
		alex_tree_scan(alex_arena_chunks(), tree, highest, true, false,
					   last, 1) == 1;
	LWLockRelease(&memtable->lock);
	return found;
}

/* Reads the entries of several keys from the shared memtable. */
static bool
read_shared_keys(AlexLocal *local, uint64 generation, const uint64 *keys,
				 int nkeys, AlexEntry *out, int max, uint8 *counts,
				 AlexMoment *moment)
{
	AlexMemtable *memtable = local->memtable;
	bool		found = false;

	if (memtable == NULL)
		return false;
	LWLockAcquire(&memtable->lock, LW_SHARED);
	if (pg_atomic_read_u64(&memtable->tenure) == local->tenure &&
		memtable->state == ALEX_MEMTABLE_READY)
	{
		moment->tenure = local->tenure;
		moment->dead_epoch = memtable->dead_epoch;
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			AlexMemtableGeneration *held = &memtable->generations[i];

			if (held->generation != generation)
				continue;
			alex_tree_scan_keys(alex_arena_chunks(),
								&held->trees[ALEX_PART_VALUES],
								keys, nkeys, out, max, counts);
			found = true;
		}
	}
	LWLockRelease(&memtable->lock);
	return found;
}

bool
alex_view_read_keys(AlexLocal *local, const AlexView *view, uint64 generation,
					const uint64 *keys, int nkeys, AlexEntry *out, int max,
					uint8 *counts, AlexMoment *moment)
{
	AlexPrivateLog *log = view->private_log;

	if (log == NULL)
		return read_shared_keys(local, generation, keys, nkeys, out, max,
								counts, moment);
	moment->tenure = 0;
	if (log->generations[ALEX_ACTIVE] != generation &&
		log->generations[ALEX_FROZEN] != generation)
		return false;
	for (int i = 0; i < nkeys; i++)
	{
		AlexEntry	from = {keys[i], 0};
		AlexEntry  *entries = out + i * max;
		int			count;

		count = alex_private_log_read(log, generation, ALEX_PART_VALUES, from,
									  true, true, entries, max);
		while (count > 0 && entries[count - 1].key != keys[i])
			count--;
		counts[i] = count;
	}
	return true;
}
