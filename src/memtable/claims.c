/*-------------------------------------------------------------------------
 *
 * claims.c
 *	  Keys of unique indexes whose entries wait in some backend.
 *
 * An entry that waits in its inserter's memory hides an in-progress row from
 * everybody else.  For most that is as it should be, but not for another
 * inserter of the same key in a unique index.  So an inserter that lets its
 * entry wait claims the key here, in shared memory; whoever checks a key looks
 * here, too.  The claim is given up after the entry has been flushed, or when
 * its subtransaction is rolled back.
 *
 * Each backend has a place of its own for each index, with a tree for each
 * part, so that all claims of a flushed batch go at once, and nobody can take
 * away a claim that another has put there.  Places are few.  Who finds none
 * that is free, or no room in the arena, does not let the entry wait.
 *
 * Whoever checks a key reads the claims before it takes its view of log and
 * runs.  An entry on its way from the one to the other is found in the claims,
 * or in the view, which was taken after the flush.
 *
 * VACUUM takes claims of dead rows away before it lets TIDs be used again:
 * the owner of those of a rolled-back subtransaction may be slow to do so.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/claims.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/shmem.h"

#include "alex/am.h"
#include "alex/memtable.h"

#define BUCKET_BITS				6
#define BUCKET_PLACES			8	/* for the indexes of one bucket */
#define READ_ENTRIES			64	/* read under a place's lock at a time */

struct AlexClaims
{
	LWLock		lock;
	/* the rest is protected by the lock */
	RelFileNodeBackend node;
	AlexTree	trees[ALEX_PARTS];
	pg_atomic_uint64 *owner;	/* its element of the bucket's owners[] */
};

typedef struct ClaimBucket
{
	/* numbers of the indexes that have the places, 0: free; one line */
	pg_atomic_uint64 owners[BUCKET_PLACES];
	AlexClaims	places[BUCKET_PLACES];
} ClaimBucket;

typedef struct ClaimTable
{
	int			tranche;
	pg_atomic_uint32 nchunks;	/* of all claims */
	ClaimBucket buckets[1 << BUCKET_BITS];
} ClaimTable;

static ClaimTable *table = NULL;

Size
alex_claims_shmem_size(void)
{
	return add_size(sizeof(ClaimTable), PG_CACHE_LINE_SIZE);
}

static void
init_bucket(ClaimBucket *bucket)
{
	for (int i = 0; i < BUCKET_PLACES; i++)
	{
		AlexClaims *claims = &bucket->places[i];

		pg_atomic_init_u64(&bucket->owners[i], 0);
		LWLockInitialize(&claims->lock, table->tranche);
		for (int part = 0; part < ALEX_PARTS; part++)
			alex_tree_init(&claims->trees[part]);
		claims->owner = &bucket->owners[i];
	}
}

void
alex_claims_shmem_init(void)
{
	bool		found;

	table = ShmemInitStruct("alexam claims", alex_claims_shmem_size(), &found);
	if (!found)
	{
		memset(table, 0, sizeof(ClaimTable));
		table->tranche = LWLockNewTrancheId();
		pg_atomic_init_u32(&table->nchunks, 0);
		for (int i = 0; i < lengthof(table->buckets); i++)
			init_bucket(&table->buckets[i]);
	}
	LWLockRegisterTranche(table->tranche, "AlexClaims");
}

/* A number that stands for the index; two indexes may have the same. */
static inline uint64
number_of(Relation index)
{
	const RelFileNode *node = &index->rd_node;
	uint64		number = ((uint64) node->dbNode << 32) | node->relNode;

	return (number * UINT64CONST(0x9E3779B97F4A7C15)) | 1;
}

static inline ClaimBucket *
bucket_of(uint64 number)
{
	return &table->buckets[number >> (64 - BUCKET_BITS)];
}

static inline bool
is_of(const AlexClaims *claims, Relation index)
{
	return RelFileNodeEquals(claims->node.node, index->rd_node) &&
		claims->node.backend == index->rd_backend;
}

AlexClaims *
alex_claims_begin(Relation index)
{
	uint64		number = number_of(index);
	ClaimBucket *bucket = bucket_of(number);

	for (int i = 0; i < BUCKET_PLACES; i++)
	{
		AlexClaims *claims = &bucket->places[i];
		uint64		expected = 0;

		if (!pg_atomic_compare_exchange_u64(&bucket->owners[i], &expected,
											number))
			continue;
		LWLockAcquire(&claims->lock, LW_EXCLUSIVE);
		claims->node.node = index->rd_node;
		claims->node.backend = index->rd_backend;
		LWLockRelease(&claims->lock);
		return claims;
	}
	return NULL;
}

static uint32
count_chunks(const AlexClaims *claims)
{
	uint32		nchunks = 0;

	for (int part = 0; part < ALEX_PARTS; part++)
		nchunks += claims->trees[part].nchunks;
	return nchunks;
}

void
alex_claims_end(AlexClaims *claims)
{
	LWLockAcquire(&claims->lock, LW_EXCLUSIVE);
	pg_atomic_fetch_sub_u32(&table->nchunks, count_chunks(claims));
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		alex_tree_free(alex_arena_chunks(), &claims->trees[part]);
		alex_tree_init(&claims->trees[part]);
	}
	memset(&claims->node, 0, sizeof(claims->node));
	LWLockRelease(&claims->lock);

	/* after which the place may be anybody's */
	pg_write_barrier();
	pg_atomic_write_u64(claims->owner, 0);
}

bool
alex_claims_add(AlexClaims *claims, AlexPart part, AlexEntry entry)
{
	AlexTree   *tree = &claims->trees[part];
	AlexTreeResult result = ALEX_TREE_NO_MEMORY;
	uint32		limit;

	/* half of the arena is for what can be evicted */
	limit = (uint32) ((Size) alex_memtable_memory * 1024 / ALEX_PAGE_SIZE / 2);

	LWLockAcquire(&claims->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&table->nchunks) < limit)
	{
		uint32		before = tree->nchunks;

		result = alex_tree_insert(alex_arena_chunks(), tree, entry);
		if (tree->nchunks != before)
			pg_atomic_fetch_add_u32(&table->nchunks, tree->nchunks - before);
	}
	LWLockRelease(&claims->lock);

	return result != ALEX_TREE_NO_MEMORY;
}

static void
remove_locked(AlexClaims *claims, const AlexLogEntry *entries, Size nentries)
{
	for (Size i = 0; i < nentries; i++)
	{
		AlexTree   *tree = &claims->trees[ALEX_LOG_PART(&entries[i])];
		uint32		before = tree->nchunks;
		AlexEntry	entry;

		entry.key = entries[i].key;
		entry.tid = ALEX_LOG_TID(&entries[i]);
		(void) alex_tree_delete(alex_arena_chunks(), tree, entry);
		if (tree->nchunks != before)
			pg_atomic_fetch_sub_u32(&table->nchunks, before - tree->nchunks);
	}
}

void
alex_claims_remove(AlexClaims *claims, const AlexLogEntry *entries,
				   Size nentries)
{
	LWLockAcquire(&claims->lock, LW_EXCLUSIVE);
	remove_locked(claims, entries, nentries);
	LWLockRelease(&claims->lock);
}

/*
 * Reads up to max claims of one place, of keys up to "high" and behind (or at,
 * if inclusive) position "from".  *more tells whether there are others.
 */
static int
read_place(AlexClaims *claims, Relation index, AlexPart part, AlexEntry from,
		   bool inclusive, uint64 high, AlexEntry *out, int max, bool *more)
{
	int			count = 0;
	int			wanted = 0;

	LWLockAcquire(&claims->lock, LW_SHARED);
	if (is_of(claims, index))
	{
		const AlexTree *tree = &claims->trees[part];

		/* keys mostly ascend */
		if (tree->nentries > 0 && from.key <= tree->max.key)
			count = alex_tree_scan(alex_arena_chunks(), tree, from, inclusive,
								   true, out, max);
	}
	LWLockRelease(&claims->lock);

	while (wanted < count && out[wanted].key <= high)
		wanted++;
	*more = wanted == max;
	return wanted;
}

bool
alex_claims_have(Relation index, AlexPart part, uint64 low, uint64 high)
{
	uint64		number = number_of(index);
	ClaimBucket *bucket = bucket_of(number);
	AlexEntry	from = {low, 0};

	for (int i = 0; i < BUCKET_PLACES; i++)
	{
		AlexEntry	entry;
		bool		more;

		if (pg_atomic_read_u64(&bucket->owners[i]) == number &&
			read_place(&bucket->places[i], index, part, from, true, high,
					   &entry, 1, &more) > 0)
			return true;
	}

	/*
	 * The view is taken after this: a claim that has gone is in the index.
	 * Goes with the write barrier of who ends claims.
	 */
	pg_read_barrier();
	return false;
}

bool
alex_claims_visit(Relation index, AlexPart part, uint64 low, uint64 high,
				  AlexClaimVisitor visit, void *context)
{
	uint64		number = number_of(index);
	ClaimBucket *bucket = bucket_of(number);

	for (int i = 0; i < BUCKET_PLACES; i++)
	{
		AlexEntry	from = {low, 0};
		bool		inclusive = true;
		bool		more = pg_atomic_read_u64(&bucket->owners[i]) == number;

		while (more)
		{
			AlexEntry	entries[READ_ENTRIES];
			int			count = read_place(&bucket->places[i], index, part,
										   from, inclusive, high, entries,
										   READ_ENTRIES, &more);

			for (int n = 0; n < count; n++)
				if (!visit(entries[n], context))
					return false;
			if (count > 0)
				from = entries[count - 1];
			inclusive = false;
		}
	}
	pg_read_barrier();			/* as above */
	return true;
}

/* Those among the claims that VACUUM calls dead. */
typedef struct DeadClaims
{
	IndexBulkDeleteCallback callback;
	void	   *callback_state;
	AlexPart	part;
	AlexLogEntry *entries;
	Size		nentries;
	Size		room;
} DeadClaims;

static bool
note_dead(AlexEntry entry, void *context)
{
	DeadClaims *dead = context;
	AlexLogEntry *noted;
	ItemPointerData pointer;

	ItemPointerSet(&pointer, ALEX_TID_BLOCK(entry.tid),
				   ALEX_TID_OFFSET(entry.tid));
	if (!dead->callback(&pointer, dead->callback_state))
		return true;
	if (dead->nentries == dead->room)
	{
		dead->room = dead->room == 0 ? READ_ENTRIES : dead->room * 2;
		dead->entries = dead->entries == NULL ?
			palloc(dead->room * sizeof(AlexLogEntry)) :
			repalloc_huge(dead->entries, dead->room * sizeof(AlexLogEntry));
	}
	noted = &dead->entries[dead->nentries++];
	noted->key = entry.key;
	noted->tid = entry.tid;
	if (dead->part == ALEX_PART_NULLS)
		noted->tid |= ALEX_LOG_NULL;
	return true;
}

/*
 * A claim that is made while we are at it is of a row that was inserted after
 * VACUUM looked for dead ones.
 */
void
alex_claims_vacuum(Relation index, IndexBulkDeleteCallback callback,
				   void *callback_state)
{
	uint64		number = number_of(index);
	ClaimBucket *bucket = bucket_of(number);
	DeadClaims	dead = {0};

	dead.callback = callback;
	dead.callback_state = callback_state;
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		dead.part = part;
		(void) alex_claims_visit(index, part, 0, PG_UINT64_MAX, note_dead,
								 &dead);
	}
	if (dead.nentries == 0)
		return;

	for (int i = 0; i < BUCKET_PLACES; i++)
	{
		AlexClaims *claims = &bucket->places[i];

		if (pg_atomic_read_u64(&bucket->owners[i]) != number)
			continue;
		LWLockAcquire(&claims->lock, LW_EXCLUSIVE);
		if (is_of(claims, index))
			remove_locked(claims, dead.entries, dead.nentries);
		LWLockRelease(&claims->lock);
	}
	pfree(dead.entries);
}
