/*-------------------------------------------------------------------------
 *
 * registry.c
 *	  Which indexes have a memtable in shared memory.
 *
 * A fixed number of places, found through a shared hash table by relation
 * file.  A place is reused for another index (or another incarnation of the
 * same file) under a new tenure number, so that a backend which remembers a
 * place can tell that it is no longer its index's.  Everything in a place
 * can be rebuilt from the index's log, so any of them may be evicted.
 *
 * Lock order: buffer locks, the registry's lock, a place's lock.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/registry.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "alex/am.h"
#include "alex/memtable.h"

/* So many range scans make compaction keep fewer runs. */
#define FEW_RANGE_SCANS		4

typedef struct AlexRegistry
{
	LWLock		lock;			/* the hash table, and who occupies places */
	int			registry_tranche;
	int			memtable_tranche;
	pg_atomic_uint64 next_tenure;
	pg_atomic_uint64 clock;		/* ticks at every attach; for eviction */
	int			nplaces;
	AlexMemtable places[FLEXIBLE_ARRAY_MEMBER];
} AlexRegistry;

typedef struct AlexRegistryEntry
{
	RelFileNodeBackend node;	/* hash key */
	int			place;
} AlexRegistryEntry;

static AlexRegistry *registry;
static HTAB *registry_hash;

static Size
registry_size(void)
{
	return add_size(offsetof(AlexRegistry, places),
					mul_size(alex_max_memtables, sizeof(AlexMemtable)));
}

Size
alex_registry_shmem_size(void)
{
	return add_size(registry_size(),
					hash_estimate_size(alex_max_memtables,
									   sizeof(AlexRegistryEntry)));
}

static void
init_place(AlexMemtable *memtable, int tranche)
{
	memset(memtable, 0, sizeof(AlexMemtable));
	pg_atomic_init_u64(&memtable->tenure, 0);
	pg_atomic_init_u64(&memtable->manifest_version, 0);
	pg_atomic_init_u64(&memtable->content, ALEX_CONTENT_UNREADY);
	pg_atomic_init_u64(&memtable->hinted_runs, 0);
	pg_atomic_init_u64(&memtable->last_used, 0);
	pg_atomic_init_u32(&memtable->range_scans, 0);
	LWLockInitialize(&memtable->lock, tranche);
	ConditionVariableInit(&memtable->loaded);
	for (int i = 0; i < lengthof(memtable->generations); i++)
		for (int part = 0; part < ALEX_PARTS; part++)
			alex_tree_init(&memtable->generations[i].trees[part]);
}

void
alex_registry_shmem_init(void)
{
	HASHCTL		control;
	bool		found;

	registry = ShmemInitStruct("alexam registry", registry_size(), &found);
	if (!found)
	{
		registry->registry_tranche = LWLockNewTrancheId();
		registry->memtable_tranche = LWLockNewTrancheId();
		LWLockInitialize(&registry->lock, registry->registry_tranche);
		pg_atomic_init_u64(&registry->next_tenure, 1);
		pg_atomic_init_u64(&registry->clock, 1);
		registry->nplaces = alex_max_memtables;
		for (int i = 0; i < registry->nplaces; i++)
			init_place(&registry->places[i], registry->memtable_tranche);
	}
	LWLockRegisterTranche(registry->registry_tranche, "AlexRegistry");
	LWLockRegisterTranche(registry->memtable_tranche, "AlexMemtable");

	control.keysize = sizeof(RelFileNodeBackend);
	control.entrysize = sizeof(AlexRegistryEntry);
	registry_hash = ShmemInitHash("alexam registry hash",
								  alex_max_memtables, alex_max_memtables,
								  &control, HASH_ELEM | HASH_BLOBS);
}

static RelFileNodeBackend
node_of(Relation index)
{
	RelFileNodeBackend node;

	/* hashed as bytes: leave no padding undefined */
	memset(&node, 0, sizeof(node));
	node.node = index->rd_node;
	node.backend = index->rd_backend;
	return node;
}

void
alex_memtable_unload(AlexMemtable *memtable)
{
	AlexChunks *chunks = alex_arena_chunks();

	Assert(LWLockHeldByMeInMode(&memtable->lock, LW_EXCLUSIVE));
	Assert(memtable->state != ALEX_MEMTABLE_LOADING);

	pg_atomic_write_u64(&memtable->content, ALEX_CONTENT_UNREADY);
	memtable->state = ALEX_MEMTABLE_UNLOADED;
	for (int i = 0; i < lengthof(memtable->generations); i++)
	{
		AlexMemtableGeneration *generation = &memtable->generations[i];

		for (int part = 0; part < ALEX_PARTS; part++)
		{
			alex_tree_free(chunks, &generation->trees[part]);
			alex_tree_init(&generation->trees[part]);
		}
		generation->generation = 0;
		memset(&generation->applied, 0, sizeof(AlexLogPosition));
		memset(generation->hinted, 0, sizeof(generation->hinted));
	}
}

void
alex_memtable_publish(AlexMemtable *memtable)
{
	uint64		content = 0;

	Assert(LWLockHeldByMeInMode(&memtable->lock, LW_EXCLUSIVE));

	/*
	 * What was loaded during recovery falls behind the log without anybody
	 * telling; it must not be believed without a look at the log.
	 */
	if (memtable->state != ALEX_MEMTABLE_READY || memtable->in_recovery)
		content = ALEX_CONTENT_UNREADY;
	else
	{
		for (int i = 0; i < lengthof(memtable->generations); i++)
			for (int part = 0; part < ALEX_PARTS; part++)
				content += memtable->generations[i].trees[part].nentries;
	}

	/* readers look at the content first, then at the manifest's version */
	pg_write_barrier();
	pg_atomic_write_u64(&memtable->content, content);
}

/* Gives a place to an index; both locks are held exclusively. */
static void
occupy(AlexMemtable *memtable, RelFileNodeBackend node, uint64 incarnation)
{
	alex_memtable_unload(memtable);
	memtable->occupied = true;
	memtable->node = node;
	memtable->database_birth = alex_database_birth();
	memtable->incarnation = incarnation;
	memtable->dead_epoch = 0;
	memtable->in_recovery = false;
	memtable->no_room = false;
	memtable->versions = 0;
	memtable->run_pages = 0;
	pg_atomic_write_u64(&memtable->hinted_runs, 0);
	pg_atomic_write_u32(&memtable->range_scans, 0);
	pg_atomic_write_u64(&memtable->tenure,
						pg_atomic_fetch_add_u64(&registry->next_tenure, 1));
}

/*
 * Locks a place exclusively for eviction if nobody is using it this moment.
 */
static bool
lock_idle(AlexMemtable *memtable)
{
	if (!LWLockConditionalAcquire(&memtable->lock, LW_EXCLUSIVE))
		return false;
	if (memtable->state != ALEX_MEMTABLE_LOADING)
		return true;
	LWLockRelease(&memtable->lock);
	return false;
}

/*
 * Goes through the places in order of last use, from the least recent on,
 * and returns the next one that can be locked, locked.  *used and *place are
 * where the search stands; they begin as 0 and -1.
 */
static AlexMemtable *
lock_next_idle(const AlexMemtable *not_this, uint64 *used, int *place)
{
	for (;;)
	{
		uint64		best_used = 0;
		int			best = -1;

		for (int i = 0; i < registry->nplaces; i++)
		{
			uint64		this_used = pg_atomic_read_u64(&registry->places[i].last_used);

			if (this_used < *used || (this_used == *used && i <= *place))
				continue;
			if (best < 0 || this_used < best_used)
			{
				best = i;
				best_used = this_used;
			}
		}
		if (best < 0)
			return NULL;
		*used = best_used;
		*place = best;
		if (&registry->places[best] != not_this &&
			lock_idle(&registry->places[best]))
			return &registry->places[best];
	}
}

bool
alex_registry_evict(const AlexMemtable *not_this)
{
	AlexMemtable *memtable;
	uint64		used = 0;
	int			place = -1;

	while ((memtable = lock_next_idle(not_this, &used, &place)) != NULL)
	{
		uint32		nchunks = 0;

		for (int i = 0; i < lengthof(memtable->generations); i++)
			for (int part = 0; part < ALEX_PARTS; part++)
				nchunks += memtable->generations[i].trees[part].nchunks;
		if (nchunks > 0)
			alex_memtable_unload(memtable);
		LWLockRelease(&memtable->lock);
		if (nchunks > 0)
			return true;
	}
	return false;
}

/* A place that is nobody's, or was taken from an idle index. */
static AlexMemtable *
find_place(void)
{
	AlexMemtable *memtable;
	uint64		used = 0;
	int			place = -1;

	for (int i = 0; i < registry->nplaces; i++)
	{
		memtable = &registry->places[i];
		if (!memtable->occupied)
		{
			LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
			return memtable;
		}
	}

	memtable = lock_next_idle(NULL, &used, &place);
	if (memtable != NULL)
		hash_search(registry_hash, &memtable->node, HASH_REMOVE, NULL);
	return memtable;
}

AlexMemtable *
alex_registry_lock(Relation index)
{
	RelFileNodeBackend node = node_of(index);
	AlexRegistryEntry *entry;
	AlexMemtable *memtable = NULL;

	LWLockAcquire(&registry->lock, LW_SHARED);
	entry = hash_search(registry_hash, &node, HASH_FIND, NULL);
	if (entry != NULL)
	{
		memtable = &registry->places[entry->place];
		LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
	}
	LWLockRelease(&registry->lock);

	return memtable;
}

void
alex_registry_touch(AlexMemtable *memtable)
{
	uint64		now = pg_atomic_read_u64(&registry->clock);

	/* most calls write nothing, so the line stays shared */
	if (pg_atomic_read_u64(&memtable->last_used) != now)
		pg_atomic_write_u64(&memtable->last_used, now);
}

bool
alex_memtable_is_of(const AlexMemtable *memtable, uint64 incarnation)
{
	return memtable->incarnation == incarnation &&
		memtable->database_birth == alex_database_birth();
}

AlexMemtable *
alex_registry_attach(Relation index, uint64 incarnation, uint64 *tenure)
{
	RelFileNodeBackend node = node_of(index);
	AlexRegistryEntry *entry;
	AlexMemtable *memtable;
	bool		found;

	memtable = alex_registry_lock(index);
	if (memtable == NULL)
	{
		LWLockAcquire(&registry->lock, LW_EXCLUSIVE);
		entry = hash_search(registry_hash, &node, HASH_FIND, &found);
		if (found)
		{
			memtable = &registry->places[entry->place];
			LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
		}
		else
		{
			memtable = find_place();
			if (memtable == NULL)
			{
				LWLockRelease(&registry->lock);
				return NULL;
			}

			/* the table has an entry for every place, so this cannot fail */
			entry = hash_search(registry_hash, &node, HASH_ENTER, &found);
			entry->place = memtable - registry->places;
			occupy(memtable, node, incarnation);
		}
		LWLockRelease(&registry->lock);
	}

	/* the file was rebuilt in place, or its number reused (hazard H10) */
	if (!alex_memtable_is_of(memtable, incarnation))
	{
		if (memtable->state == ALEX_MEMTABLE_LOADING)
		{
			/* the loader will find out for itself; do without until then */
			LWLockRelease(&memtable->lock);
			return NULL;
		}
		occupy(memtable, node, incarnation);
	}

	pg_atomic_write_u64(&memtable->last_used,
						pg_atomic_add_fetch_u64(&registry->clock, 1));
	*tenure = pg_atomic_read_u64(&memtable->tenure);
	LWLockRelease(&memtable->lock);

	return memtable;
}

bool
alex_range_scans(Relation index, bool forget)
{
	AlexMemtable *memtable = alex_registry_lock(index);
	uint32		number;

	if (memtable == NULL)
		return false;
	number = pg_atomic_read_u32(&memtable->range_scans);
	if (forget)
		pg_atomic_write_u32(&memtable->range_scans, number / 2);
	LWLockRelease(&memtable->lock);

	/* a few now and then are not worth the writing */
	return number >= FEW_RANGE_SCANS;
}

void
alex_registry_forget(Relation index)
{
	AlexMemtable *memtable;

	if (registry == NULL)
		return;
	memtable = alex_registry_lock(index);
	if (memtable == NULL)
		return;
	if (memtable->state == ALEX_MEMTABLE_LOADING)
		memtable->missed_change = true;
	else
		alex_memtable_unload(memtable);
	/* whoever remembers this place has to look again */
	memtable->incarnation = 0;
	pg_atomic_write_u64(&memtable->tenure,
						pg_atomic_fetch_add_u64(&registry->next_tenure, 1));
	LWLockRelease(&memtable->lock);
}
