/*-------------------------------------------------------------------------
 *
 * check_entries.c
 *	  Verification of what concerns all live entries together: that no TID
 *	  is there twice, and, on request, that every row of the table is there.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/check_entries.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "check.h"

typedef struct HeapCheck
{
	AlexCheck  *check;
	AlexCodec	codec;
} HeapCheck;

/* Distinguishes the part in a fingerprint; no TID has this bit. */
#define NULL_FINGERPRINT		(UINT64CONST(1) << 63)

static AlexEntry
fingerprint(AlexPart part, uint64 key, uint64 tid)
{
	AlexEntry	result;

	result.key = key;
	result.tid = part == ALEX_PART_NULLS ? tid | NULL_FINGERPRINT : tid;
	return result;
}

/*
 * The snapshot is taken before any entry is read: all rows that it sees had
 * their entries made before.  No lock against writers is needed then, and
 * VACUUM, which would take entries away, waits for our maintenance lock.
 */
static void
begin_fingerprints(AlexCheck *check)
{
	Relation	index = check->index;
	AlexManifest *manifest = alex_manifest_read(index);
	int64		expected = 0;

	check->snapshot = RegisterSnapshot(GetTransactionSnapshot());

	/*
	 * An old transaction snapshot may see rows for which the index is not
	 * usable yet, because of broken HOT chains.
	 */
	if (IsolationUsesXactSnapshot() && index->rd_index->indcheckxmin &&
		!TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data),
							   check->snapshot->xmin))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("index \"%s\" cannot be verified using transaction snapshot",
						RelationGetRelationName(index))));

	for (int i = 0; i < manifest->nruns; i++)
	{
		if ((manifest->runs[i].flags & ALEX_RUN_RETIRED) == 0)
			expected += manifest->runs[i].entries;
	}
	expected += ((int64) manifest->active.npages + manifest->frozen.npages) *
		ALEX_LOG_PAGE_ENTRIES;
	pfree(manifest);

	check->fingerprints = bloom_create(Max(expected, 1), maintenance_work_mem,
									   pg_prng_uint64(&pg_global_prng_state));
}

void
alex_check_entries_begin(AlexCheck *check, bool heapallindexed)
{
	check->tids = tuplesort_begin_datum(INT8OID, Int8LessOperator, InvalidOid,
										false, maintenance_work_mem, NULL,
										TUPLESORT_NONE);
	if (heapallindexed)
		begin_fingerprints(check);
}

const char *
alex_check_entry(AlexCheck *check, AlexPart part, uint64 key, uint64 tid)
{
	if (tid > ALEX_TID_MAX || ALEX_TID_OFFSET(tid) == InvalidOffsetNumber ||
		ALEX_TID_BLOCK(tid) == InvalidBlockNumber)
		return "an entry has an impossible TID";

	tuplesort_putdatum(check->tids, Int64GetDatum((int64) tid), false);

	if (check->fingerprints != NULL)
	{
		AlexEntry	element = fingerprint(part, key, tid);

		bloom_add_element(check->fingerprints, (unsigned char *) &element,
						  sizeof(element));
	}
	return NULL;
}

/*
 * No two live entries have the same TID, not even with different keys: a TID
 * is used again only after VACUUM has marked its old entry dead.
 */
static void
check_tids(AlexCheck *check)
{
	uint64		previous = 0;	/* no TID is 0 */
	Datum		datum;
	bool		isnull;

	tuplesort_performsort(check->tids);
	while (tuplesort_getdatum(check->tids, true, &datum, &isnull, NULL))
	{
		uint64		tid = (uint64) DatumGetInt64(datum);

		CHECK_FOR_INTERRUPTS();

		if (tid == previous)
			ereport(ERROR,
					(errcode(ERRCODE_INDEX_CORRUPTED),
					 errmsg("index \"%s\" has more than one live entry for heap tuple (%u,%u)",
							RelationGetRelationName(check->index),
							ALEX_TID_BLOCK(tid), ALEX_TID_OFFSET(tid)),
					 errhint("Please REINDEX it.")));
		previous = tid;
	}
	tuplesort_end(check->tids);
	check->tids = NULL;
}

/* IndexBuildCallback */
static void
check_heap_tuple(Relation index, ItemPointer pointer, Datum *values,
				 bool *isnull, bool is_alive, void *state)
{
	HeapCheck  *heap_check = (HeapCheck *) state;
	AlexCheck  *check = heap_check->check;
	uint64		tid = ALEX_TID(ItemPointerGetBlockNumber(pointer),
							   ItemPointerGetOffsetNumber(pointer));
	AlexEntry	element;

	if (isnull[0])
		element = fingerprint(ALEX_PART_NULLS, 0, tid);
	else
		element = fingerprint(ALEX_PART_VALUES,
							  alex_codec_key(&heap_check->codec, values[0]),
							  tid);

	if (bloom_lacks_element(check->fingerprints, (unsigned char *) &element,
							sizeof(element)))
		ereport(ERROR,
				(errcode(ERRCODE_INDEX_CORRUPTED),
				 errmsg("heap tuple (%u,%u) from table \"%s\" lacks matching entry within index \"%s\"",
						ItemPointerGetBlockNumber(pointer),
						ItemPointerGetOffsetNumber(pointer),
						RelationGetRelationName(check->heap),
						RelationGetRelationName(index)),
				 errhint("Please REINDEX it.")));
}

/*
 * Scans the table as the first phase of CREATE INDEX CONCURRENTLY does, that
 * is, by snapshot.
 */
static void
check_heap(AlexCheck *check)
{
	IndexInfo  *info = BuildIndexInfo(check->index);
	HeapCheck	heap_check;
	TableScanDesc scan;
	Oid			user;
	int			security_context;
	int			nest_level;

	heap_check.check = check;
	alex_codec_init(&heap_check.codec, check->index);

	info->ii_Concurrent = true;
	info->ii_Unique = false;
	info->ii_ExclusionOps = NULL;
	info->ii_ExclusionProcs = NULL;
	info->ii_ExclusionStrats = NULL;

	/* expressions and predicates of the index run as the table's owner */
	GetUserIdAndSecContext(&user, &security_context);
	SetUserIdAndSecContext(check->heap->rd_rel->relowner,
						   security_context | SECURITY_RESTRICTED_OPERATION);
	nest_level = NewGUCNestLevel();

	/* table_index_build_scan() ends the scan for us */
	scan = table_beginscan_strat(check->heap, check->snapshot, 0, NULL, true,
								 true);
	table_index_build_scan(check->heap, check->index, info, true, false,
						   check_heap_tuple, &heap_check, scan);

	AtEOXact_GUC(false, nest_level);
	SetUserIdAndSecContext(user, security_context);
}

static void
free_fingerprints(AlexCheck *check)
{
	bloom_free(check->fingerprints);
	check->fingerprints = NULL;
	UnregisterSnapshot(check->snapshot);
	check->snapshot = NULL;
}

void
alex_check_entries_abandon(AlexCheck *check)
{
	tuplesort_end(check->tids);
	check->tids = NULL;
	if (check->fingerprints != NULL)
		free_fingerprints(check);
}

void
alex_check_entries_end(AlexCheck *check)
{
	check_tids(check);
	if (check->fingerprints != NULL)
	{
		check_heap(check);
		free_fingerprints(check);
	}
}
