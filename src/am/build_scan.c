/*-------------------------------------------------------------------------
 *
 * build_scan.c
 *	  The heap scan of CREATE INDEX.
 *
 * An index build must index every row that some transaction may still see,
 * and so core's scan looks at each tuple under the page's lock, which it
 * takes twice a tuple.  That is the larger part of what an alex index costs
 * to build.  It is not needed for pages that are all-visible, as those of a
 * vacuumed table are: there each tuple is live, and stays so while ShareLock
 * on the table keeps writers and VACUUM away.  Stretches of such pages are
 * read here, a page at a time; the rest is left to core.
 *
 * Core's scan remains for all that is not a plain column of a heap table:
 * expressions, predicates, other table access methods; for CREATE INDEX
 * CONCURRENTLY, whose lock lets writers in and which has a snapshot to scan
 * by; and for catalogs, whose writers need not hold their locks to the end.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/build_scan.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "catalog/catalog.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"

#include "alex/build.h"

/* A shorter stretch of all-visible pages is not worth a scan of its own. */
#define MIN_STRETCH			32

/* Blocks that a participant of a parallel build takes at a time, at most. */
#define MAX_SHARE			256

typedef struct HeapBuildScan
{
	Relation	heap;
	Relation	index;
	IndexInfo  *index_info;
	IndexBuildCallback callback;
	void	   *callback_state;
	BufferAccessStrategy strategy;
	Buffer		map;			/* page of the visibility map looked at last */
	bool		report_progress;
	double		ntuples;
} HeapBuildScan;

static bool
is_suitable(Relation heap, IndexInfo *index_info)
{
	return heap->rd_tableam == GetHeapamTableAmRoutine() &&
		!index_info->ii_Concurrent &&
		!IsSystemRelation(heap) &&
		index_info->ii_Predicate == NIL &&
		index_info->ii_IndexAttrNumbers[0] > 0;
}

/* In a parallel build this is how far the leader has come, as in core. */
static void
report_done(HeapBuildScan *scan, BlockNumber end)
{
	if (scan->report_progress)
		pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_DONE, end);
}

/* Leaves a range of blocks to core. */
static void
scan_range(HeapBuildScan *scan, BlockNumber begin, BlockNumber end)
{
	if (begin < end)
		scan->ntuples +=
			table_index_build_range_scan(scan->heap, scan->index,
										 scan->index_info, false, false, false,
										 begin, end - begin, scan->callback,
										 scan->callback_state, NULL);
	report_done(scan, end);
}

/* TID of the root of a heap-only tuple's chain. */
static ItemPointerData
root_of(HeapBuildScan *scan, HeapTuple tuple, const OffsetNumber *roots)
{
	OffsetNumber offset = ItemPointerGetOffsetNumber(&tuple->t_self);
	ItemPointerData root = tuple->t_self;

	if (!OffsetNumberIsValid(roots[offset - 1]))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg_internal("failed to find parent tuple for heap-only tuple at (%u,%u) in table \"%s\"",
								 ItemPointerGetBlockNumber(&tuple->t_self),
								 offset,
								 RelationGetRelationName(scan->heap))));
	ItemPointerSetOffsetNumber(&root, roots[offset - 1]);
	return root;
}

/*
 * Hands over the tuples of a pinned all-visible page.  A pin is enough: what
 * others may still change are hint bits and row locks.
 */
static void
scan_tuples(HeapBuildScan *scan, BlockNumber block, Page page)
{
	AttrNumber	column = scan->index_info->ii_IndexAttrNumbers[0];
	TupleDesc	descriptor = RelationGetDescr(scan->heap);
	OffsetNumber nlines = PageGetMaxOffsetNumber(page);
	OffsetNumber roots[MaxHeapTuplesPerPage];
	bool		roots_known = false;
	HeapTupleData tuple;

	tuple.t_tableOid = RelationGetRelid(scan->heap);
	for (OffsetNumber line = FirstOffsetNumber; line <= nlines; line++)
	{
		ItemId		item = PageGetItemId(page, line);
		ItemPointerData tid;
		Datum		value;
		bool		is_null;

		/* others lead to tuples, or to none any more */
		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, line);
		tid = tuple.t_self;
		if (HeapTupleIsHeapOnly(&tuple))
		{
			if (!roots_known)
				heap_get_root_tuples(page, roots);
			roots_known = true;
			tid = root_of(scan, &tuple, roots);
		}
		value = heap_getattr(&tuple, column, descriptor, &is_null);
		scan->callback(scan->index, &tid, &value, &is_null, true,
					   scan->callback_state);
		scan->ntuples++;
	}
}

/* Reads a page; false if it is not all-visible after all. */
static bool
scan_page(HeapBuildScan *scan, BlockNumber block)
{
	Buffer		buffer = ReadBufferExtended(scan->heap, MAIN_FORKNUM, block,
											RBM_NORMAL, scan->strategy);
	Page		page = BufferGetPage(buffer);
	bool		all_visible;

	/* locked once, so that what the last writer did to it is seen */
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	all_visible = PageIsAllVisible(page);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (all_visible)
		scan_tuples(scan, block, page);
	ReleaseBuffer(buffer);
	return all_visible;
}

static void
scan_all_visible(HeapBuildScan *scan, BlockNumber begin, BlockNumber end)
{
	for (BlockNumber block = begin; block < end; block++)
	{
		CHECK_FOR_INTERRUPTS();
		if (scan_page(scan, block))
			report_done(scan, block + 1);
		else
			scan_range(scan, block, block + 1);
	}
}

/* Where the stretch of all-visible pages that begins at a block ends. */
static BlockNumber
end_of_stretch(HeapBuildScan *scan, BlockNumber block, BlockNumber end)
{
	while (block < end && VM_ALL_VISIBLE(scan->heap, block, &scan->map))
		block++;
	return block;
}

/* Reads the longer stretches of all-visible pages, and leaves core the rest. */
static void
scan_blocks(HeapBuildScan *scan, BlockNumber begin, BlockNumber end)
{
	BlockNumber block = begin;

	while (block < end)
	{
		BlockNumber stretch_end = end_of_stretch(scan, block, end);

		if (stretch_end - block >= MIN_STRETCH)
		{
			scan_range(scan, begin, block);
			scan_all_visible(scan, block, stretch_end);
			begin = stretch_end;
		}
		block = stretch_end + 1;
	}
	scan_range(scan, begin, end);
}

/*
 * Takes share after share of the table until nothing is left.  They ascend,
 * so that entries whose keys follow the table's order need no sorting.
 */
static void
scan_shares(HeapBuildScan *scan, const AlexSharedScan *shared)
{
	BlockNumber share = Min(Max(shared->nblocks / 64, MIN_STRETCH), MAX_SHARE);
	uint64		begin;

	while ((begin = pg_atomic_fetch_add_u64(shared->next_block, share)) <
		   shared->nblocks)
		scan_blocks(scan, begin, Min(begin + share, shared->nblocks));
	report_done(scan, shared->nblocks);
}

static double
core_scan(Relation heap, Relation index, IndexInfo *index_info,
		  const AlexSharedScan *shared, IndexBuildCallback callback,
		  void *callback_state)
{
	if (shared == NULL)
		return table_index_build_scan(heap, index, index_info, true, true,
									  callback, callback_state, NULL);
	return table_index_build_scan(heap, index, index_info, true,
								  shared->report_progress, callback,
								  callback_state,
								  table_beginscan_parallel(heap, shared->core));
}

double
alex_build_scan(Relation heap, Relation index, IndexInfo *index_info,
				const AlexSharedScan *shared, IndexBuildCallback callback,
				void *callback_state)
{
	HeapBuildScan scan = {0};
	BlockNumber nblocks;

	if (!is_suitable(heap, index_info))
		return core_scan(heap, index, index_info, shared, callback,
						 callback_state);

	scan.heap = heap;
	scan.index = index;
	scan.index_info = index_info;
	scan.callback = callback;
	scan.callback_state = callback_state;
	scan.map = InvalidBuffer;
	scan.report_progress = shared == NULL || shared->report_progress;

	/* a large table goes through a ring of buffers, as in core's scan */
	nblocks = shared == NULL ? RelationGetNumberOfBlocks(heap) : shared->nblocks;
	if (!RelationUsesLocalBuffers(heap) && nblocks > NBuffers / 4)
		scan.strategy = GetAccessStrategy(BAS_BULKREAD);
	if (scan.report_progress)
		pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_TOTAL, nblocks);

	if (shared == NULL)
		scan_blocks(&scan, 0, nblocks);
	else
		scan_shares(&scan, shared);

	if (BufferIsValid(scan.map))
		ReleaseBuffer(scan.map);
	if (scan.strategy != NULL)
		FreeAccessStrategy(scan.strategy);
	return scan.ntuples;
}
