/*-------------------------------------------------------------------------
 *
 * unique.c
 *	  Insertion into unique indexes.
 *
 * An inserter holds the lock of its key while it looks for the key in the
 * memtable and the runs, visits the heap for each entry that it finds, and
 * appends its own.  So of two inserters of one key the second finds the
 * first's entry, as in nbtree, where they meet at the leaf page's lock.  Keys
 * share a fixed number of LWLocks, by hash.  Nobody but inserters takes one of
 * these, always before any other lock of an index and only one at a time; so
 * holding one while reading the heap keeps no reader waiting and cannot lead
 * to a deadlock.  Interrupts are held off meanwhile, which is why all waiting
 * is done without it.
 *
 * An entry may wait with those of plain indexes (pending.c) once its key has
 * been claimed in shared memory (claims.c), where other inserters look.
 *
 * Where there is an entry with the key, the probe is a scan under a dirty
 * snapshot.  The backend is in its reader's place from before the scan takes
 * its view until the last heap tuple has been looked at: VACUUM cannot make a
 * TID that was found be another row's before that.
 *
 * What is a duplicate, what is waited for, and what the errors say is as in
 * nbtree (_bt_check_unique).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/unique.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/predicate.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "alex/scan.h"

/* Number of locks for keys, as a power of two. */
#define STRIPE_BITS				10

typedef struct KeyStripes
{
	int			tranche;
	LWLockPadded stripes[1 << STRIPE_BITS];
} KeyStripes;

static KeyStripes *key_stripes = NULL;

/* Kept in ii_AmCache, for all rows that a statement inserts. */
typedef struct AlexUniqueState
{
	AlexPendingBatch *batch;	/* where entries wait; NULL: not known */
	uint64		epoch;			/* of the batch */
	AlexKeyClassifier classifier;
	IndexScanDesc scan;
	SnapshotData dirty;
	MemoryContext tuple_context;
	bool		nulls_not_distinct;
} AlexUniqueState;

/* What a check for other rows with a key found. */
typedef enum ProbeVerdict
{
	PROBE_UNIQUE,				/* there is none */
	PROBE_UNCERTAIN,			/* there may be one, and the caller does not
								 * want to wait */
	PROBE_WAIT,					/* it depends on a transaction's outcome */
	PROBE_DUPLICATE
} ProbeVerdict;

typedef struct Probe
{
	AlexUniqueState *state;
	Relation	heap;
	ItemPointerData tid;		/* of the row to be inserted */
	IndexUniqueCheck check;
	AlexKeyClass class;
	ProbeVerdict verdict;
	bool		decided;		/* no further entry needs to be looked at */
	bool		found_itself;	/* the row has an entry already */
	bool		row_is_dead;	/* to all: the one that was looked at last */
	TransactionId waited_for;	/* for PROBE_WAIT */
	uint32		speculative_token;
} Probe;

Size
alex_unique_shmem_size(void)
{
	return sizeof(KeyStripes);
}

void
alex_unique_shmem_init(void)
{
	bool		found;

	key_stripes = ShmemInitStruct("alexam key stripes",
								  alex_unique_shmem_size(), &found);
	if (!found)
	{
		key_stripes->tranche = LWLockNewTrancheId();
		for (int i = 0; i < lengthof(key_stripes->stripes); i++)
			LWLockInitialize(&key_stripes->stripes[i].lock,
							 key_stripes->tranche);
	}
	LWLockRegisterTranche(key_stripes->tranche, "AlexUniqueKey");
}

/* The lock of a key: the same for all that are equal to it. */
static LWLock *
stripe_of(Relation index, const AlexKeyClass *class)
{
	const RelFileNode *node = &index->rd_node;
	uint64		hash;

	hash = (((uint64) node->dbNode << 32) | node->relNode) *
		UINT64CONST(0xD6E8FEB86659FD93) + class->part;
	hash = (hash ^ class->low) * UINT64CONST(0x9E3779B97F4A7C15);
	hash ^= hash >> 32;
	hash *= UINT64CONST(0x9E3779B97F4A7C15);
	return &key_stripes->stripes[hash >> (64 - STRIPE_BITS)].lock;
}

void
alex_key_classifier_init(AlexKeyClassifier *classifier, Relation index)
{
	alex_codec_init(&classifier->codec, index);
	if (RegProcedureIsValid(index_getprocid(index, 1, ALEX_LOW_PROC)))
	{
		classifier->low = index_getprocinfo(index, 1, ALEX_LOW_PROC);
		classifier->high = index_getprocinfo(index, 1, ALEX_HIGH_PROC);
	}
}

void
alex_key_classify(const AlexKeyClassifier *classifier, Datum value,
				  AlexKeyClass *class)
{
	const AlexCodec *codec = &classifier->codec;
	uint64		low;
	uint64		high;

	class->part = ALEX_PART_VALUES;
	class->key = alex_codec_key(codec, value);
	if (classifier->low == NULL)
	{
		class->low = class->high = class->key;
		return;
	}
	low = alex_codec_store(codec, DatumGetInt64(FunctionCall1Coll(classifier->low,
																  codec->collation,
																  value)));
	high = alex_codec_store(codec, DatumGetInt64(FunctionCall1Coll(classifier->high,
																   codec->collation,
																   value)));
	class->low = codec->descending ? high : low;
	class->high = codec->descending ? low : high;
}

static AlexUniqueState *
begin_inserts(Relation index, IndexInfo *index_info)
{
	MemoryContext old_context;
	AlexUniqueState *state;

	alex_require_preload();

	old_context = MemoryContextSwitchTo(index_info->ii_Context);
	state = palloc0(sizeof(AlexUniqueState));
	alex_key_classifier_init(&state->classifier, index);
	state->nulls_not_distinct = index->rd_index->indnullsnotdistinct;
	state->tuple_context = AllocSetContextCreate(CurrentMemoryContext,
												 "alexam unique insert",
												 ALLOCSET_SMALL_SIZES);
	InitDirtySnapshot(state->dirty);
	/* what the scan holds is released when its memory goes, see scan.c */
	state->scan = alex_begin_scan(index, 0, 0);
	state->scan->xs_snapshot = &state->dirty;
	index_info->ii_AmCache = state;
	MemoryContextSwitchTo(old_context);
	alex_local_attach(((AlexScan *) state->scan->opaque)->local, index);

	return state;
}

/*
 * Looks at the row of an entry with our key, and notes in the probe what it
 * means for us.
 */
static void
check_row(Probe *probe, uint64 tid)
{
	AlexUniqueState *state = probe->state;
	ItemPointerData pointer;
	bool		all_dead = false;

	ItemPointerSet(&pointer, ALEX_TID_BLOCK(tid), ALEX_TID_OFFSET(tid));

	/* a recheck finds the row that it is about, and goes on */
	if (probe->check == UNIQUE_CHECK_EXISTING &&
		ItemPointerEquals(&pointer, &probe->tid))
	{
		probe->found_itself = true;
		return;
	}

	if (!table_index_fetch_tuple_check(probe->heap, &pointer, &state->dirty,
									   &all_dead))
	{
		probe->row_is_dead = all_dead;
		return;
	}

	probe->decided = true;
	if (probe->check == UNIQUE_CHECK_PARTIAL)
	{
		probe->verdict = PROBE_UNCERTAIN;
		return;
	}

	/* being inserted, updated or deleted by a transaction in progress? */
	probe->waited_for = TransactionIdIsValid(state->dirty.xmin) ?
		state->dirty.xmin : state->dirty.xmax;
	if (TransactionIdIsValid(probe->waited_for))
	{
		probe->speculative_token = state->dirty.speculativeToken;
		probe->verdict = PROBE_WAIT;
		return;
	}

	/*
	 * A definite conflict; unless the row that we are to insert is itself
	 * dead by now, which happens to CREATE INDEX CONCURRENTLY.  Its TID may
	 * be the root of a HOT chain: any live member of it is a conflict.
	 */
	pointer = probe->tid;
	if (table_index_fetch_tuple_check(probe->heap, &pointer, SnapshotSelf,
									  NULL))
		probe->verdict = PROBE_DUPLICATE;
}

static bool
check_claim(AlexEntry entry, void *context)
{
	Probe	   *probe = context;

	check_row(probe, entry.tid);
	return !probe->decided;
}

/* Has the run no entry, dead or alive, with the key?  It lies in its range. */
static bool
run_lacks_key(AlexScan *scan, AlexScanRun *run, const AlexKeyClass *class)
{
	AlexPageReference leaf = ALEX_PAGE_REFERENCE_NONE;
	AlexFence	fence;
	uint32		number;
	int			slot;
	bool		result;

	alex_scan_run_open(scan, run);
	if (class->low == class->high && run->run->bloom_pages > 0 &&
		!alex_run_may_contain(&run->reader, class->low))
		result = true;
	else
	{
		number = alex_run_find(&run->reader, class->low, ALEX_TID_BEFORE_ALL);
		alex_run_place(&run->reader, number, &fence);
		alex_page_open(&scan->reader, fence.block, fence.stamp,
					   ALEX_PAGE_LEAF, run->run->id, false, &leaf);
		slot = alex_leaf_search(leaf.page, class->low, ALEX_TID_BEFORE_ALL);
		if (slot < alex_leaf_count(leaf.page))
			result = alex_leaf_key(leaf.page, slot) > class->high;
		else if (number + 1 < run->run->leaf_pages)
		{
			alex_run_fence(&run->reader, number + 1, &fence);
			result = fence.key > class->high;
		}
		else
			result = true;
		alex_page_close(&leaf);
	}
	/* pages of the model that are not mapped are pinned */
	if (run->reader.source.first_page == NULL)
		alex_scan_run_close(run);
	return result;
}

/* Has the generation no entry with the key?  False, too, if it is gone. */
static bool
generation_lacks_key(AlexScan *scan, uint64 generation,
					 const AlexKeyClass *class)
{
	AlexEntry	from = {class->low, ALEX_TID_BEFORE_ALL};
	AlexEntry	entry;
	AlexMoment	moment;
	int			count;

	if (generation == 0)
		return true;
	count = alex_view_read(scan->local, scan->index, &scan->view, generation,
						   class->part, from, true, true, &entry, 1,
						   &moment);
	return count == 0 || (count == 1 && entry.key > class->high);
}

/*
 * Is there no entry with the key at all?  That is what most inserters find,
 * and they need no interlock with VACUUM, for they have no TID in hand.
 */
static bool
key_is_absent(AlexScan *scan, const AlexKeyClass *class)
{
	/* before the view is taken: see claims.c */
	if (alex_claims_have(scan->index, class->part, class->low, class->high))
		return false;
	alex_scan_take_view(scan);
	if (!scan->view.memtable_empty &&
		(!generation_lacks_key(scan, scan->view.manifest->active.generation,
							   class) ||
		 !generation_lacks_key(scan, scan->view.manifest->frozen.generation,
							   class)))
		return false;
	for (int i = 0; i < scan->nruns; i++)
	{
		AlexScanRun *run = &scan->runs[i];

		if (run->run->part == class->part &&
			run->run->min.key <= class->high &&
			run->run->max.key >= class->low &&
			!run_lacks_key(scan, run, class))
			return false;
	}
	return true;
}

/*
 * Looks for other rows with the key of the probe.  The order of entries does
 * not matter, so the sources need not be merged.
 */
static void
look_for_key(Probe *probe)
{
	AlexScan   *scan = probe->state->scan->opaque;
	AlexEntry	bound;

	probe->verdict = PROBE_UNIQUE;
	probe->decided = false;
	probe->found_itself = false;
	if (likely(key_is_absent(scan, &probe->class)))
		return;

	/* not by amrescan, which may flush what waits in this backend */
	alex_scan_enter(scan);
	if (!alex_claims_visit(scan->index, probe->class.part, probe->class.low,
						   probe->class.high, check_claim, probe))
	{
		alex_scan_suspend(scan);
		return;
	}
	alex_scan_take_view(scan);

	scan->part = probe->class.part;
	scan->low = probe->class.low;
	scan->high = probe->class.high;
	scan->forward = true;
	scan->snapshot_is_mvcc = false;
	scan->interlock = false;	/* the place is enough: we never move in it */
	bound.key = scan->low;
	bound.tid = ALEX_TID_BEFORE_ALL;
	alex_merge_start(scan, bound, ALEX_FIRST_BATCH);

	while (scan->nheads > 0 && !probe->decided)
	{
		AlexCursor *cursor = scan->heads[--scan->nheads].cursor;

		while (!probe->decided && alex_cursor_fill(scan, cursor))
		{
			ALEX_FAILPOINT("unique-before-heap");
			for (int i = 0; i <= cursor->left && !probe->decided; i++)
			{
				probe->row_is_dead = false;
				check_row(probe, cursor->tids[cursor->at + i]);
				if (probe->row_is_dead)
					alex_cursor_kill(scan, cursor, cursor->at + i);
			}
		}
		if (cursor->sealed && !probe->decided)
			alex_merge_add_sealed(scan, cursor->generation, cursor->bound,
								  ALEX_FIRST_BATCH);
	}

	alex_scan_suspend(scan);
}

/* Waits for the transaction on which the verdict depends. */
static void
wait_for_other(Relation index, Probe *probe)
{
	if (probe->speculative_token != 0)
		SpeculativeInsertionWait(probe->waited_for, probe->speculative_token);
	else
		XactLockTableWait(probe->waited_for, index, &probe->tid,
						  XLTW_InsertIndex);
}

static void pg_attribute_noreturn()
report_duplicate(Relation heap, Relation index, Datum *values, bool *isnull)
{
	char	   *description;

	/* a conflict of transactions would be masked by our error otherwise */
	CheckForSerializableConflictIn(index, NULL, InvalidBlockNumber);

	description = BuildIndexValueDescription(index, values, isnull);
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("duplicate key value violates unique constraint \"%s\"",
					RelationGetRelationName(index)),
			 description != NULL ?
			 errdetail("Key %s already exists.", description) : 0,
			 errtableconstraint(heap, RelationGetRelationName(index))));
}

static void pg_attribute_noreturn()
report_missing(Relation heap, Relation index)
{
	ereport(ERROR,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("failed to re-find tuple within index \"%s\"",
					RelationGetRelationName(index)),
			 errhint("This may be because of a non-immutable index expression."),
			 errtableconstraint(heap, RelationGetRelationName(index))));
}

/*
 * The batch in which entries of the index may wait, with room for one more, or
 * NULL.  Logical replication looks for the row of a replica identity by a scan of
 * its index under a dirty snapshot, and waits for a transaction that is
 * inserting it: such a scan knows nothing of claims, and must find the entry
 * (hazard H4).
 */
static AlexPendingBatch *
waiting_room(Relation index, AlexUniqueState *state)
{
	if (!alex_pending_is_allowed() || index->rd_index->indisreplident)
		return NULL;
	if (unlikely(state->batch == NULL || state->epoch != alex_pending_epoch))
	{
		state->batch = alex_pending_batch(index);
		state->epoch = alex_pending_epoch;
	}
	alex_pending_reserve(state->batch);
	return state->batch;
}

/* Appends an entry to the log.  Returns what alex_append does. */
static uint64
append(Relation index, AlexUniqueState *state, const AlexLogEntry *entry)
{
	Size		appended = 0;

	return alex_append(index, ((AlexScan *) state->scan->opaque)->local,
					   entry, 1, &appended);
}

/*
 * Lets the entry of a row that is known to be unique wait, if its key can be
 * claimed.
 */
static bool
claim(Relation index, AlexPendingBatch *batch, const Probe *probe,
	  const AlexLogEntry *entry)
{
	AlexClaims *claims = alex_pending_claims(batch, index);
	AlexEntry	claimed = {entry->key, ALEX_LOG_TID(entry)};

	if (claims == NULL ||
		!alex_claims_add(claims, probe->class.part, claimed))
		return false;
	alex_pending_put(batch, *entry);
	return true;
}

/*
 * Inserts a row's entry, or for UNIQUE_CHECK_EXISTING only looks, as soon as
 * no other row with its key stands in the way.  Returns what alex_append
 * does.
 */
static uint64
check_and_insert(Relation index, Probe *probe, const AlexLogEntry *entry,
				 Datum *values, bool *isnull)
{
	AlexUniqueState *state = probe->state;
	LWLock	   *stripe = stripe_of(index, &probe->class);

	for (;;)
	{
		AlexPendingBatch *batch = NULL;
		uint64		due = 0;

		/* a row that is only perhaps unique is found at once */
		if (probe->check == UNIQUE_CHECK_YES)
			batch = waiting_room(index, state);

		LWLockAcquire(stripe, LW_EXCLUSIVE);
		look_for_key(probe);
		if (probe->verdict <= PROBE_UNCERTAIN &&
			probe->check != UNIQUE_CHECK_EXISTING)
		{
			ALEX_FAILPOINT("unique-before-append");
			if (batch == NULL || !claim(index, batch, probe, entry))
				due = append(index, state, entry);
		}
		LWLockRelease(stripe);

		switch (probe->verdict)
		{
			case PROBE_UNIQUE:
				if (probe->check == UNIQUE_CHECK_EXISTING &&
					!probe->found_itself)
					report_missing(probe->heap, index);
				return due;
			case PROBE_UNCERTAIN:
				return due;
			case PROBE_WAIT:
				wait_for_other(index, probe);
				break;
			case PROBE_DUPLICATE:
				report_duplicate(probe->heap, index, values, isnull);
		}
	}
}

bool
alex_insert_unique(Relation index, Datum *values, bool *isnull,
				   ItemPointer tid, Relation heap,
				   IndexUniqueCheck check_unique, IndexInfo *index_info)
{
	AlexUniqueState *state = index_info->ii_AmCache;
	MemoryContext old_context;
	AlexLogEntry entry;
	Probe		probe;
	uint64		due = 0;

	if (state == NULL)
		state = begin_inserts(index, index_info);

	old_context = MemoryContextSwitchTo(state->tuple_context);
	entry.tid = ALEX_TID(ItemPointerGetBlockNumber(tid),
						 ItemPointerGetOffsetNumber(tid));
	if (isnull[0])
	{
		probe.class.part = ALEX_PART_NULLS;
		probe.class.key = probe.class.low = probe.class.high = 0;
		entry.tid |= ALEX_LOG_NULL;
	}
	else
		alex_key_classify(&state->classifier, values[0], &probe.class);
	entry.key = probe.class.key;
	probe.state = state;
	probe.heap = heap;
	probe.tid = *tid;
	probe.check = check_unique;
	probe.verdict = PROBE_UNIQUE;

	if (!isnull[0] || state->nulls_not_distinct)
		due = check_and_insert(index, &probe, &entry, values, isnull);
	else
	{
		AlexPendingBatch *batch = waiting_room(index, state);

		if (batch != NULL)
			alex_pending_put(batch, entry);
		else
			due = append(index, state, &entry);
	}

	MemoryContextSwitchTo(old_context);
	MemoryContextReset(state->tuple_context);

	if (due > 0)
		alex_try_seal(index, due);

	/* see insert_at_once; entries of serializable transactions do not wait */
	if (IsolationIsSerializable() && check_unique != UNIQUE_CHECK_EXISTING)
		CheckForSerializableConflictIn(index, NULL, InvalidBlockNumber);

	return probe.verdict == PROBE_UNIQUE;
}
