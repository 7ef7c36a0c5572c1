/*-------------------------------------------------------------------------
 *
 * build_parallel.c
 *	  CREATE INDEX with parallel workers.
 *
 * All participants, the leader among them, go through two phases, with one
 * barrier in between.  In the first, they share out the heap scan, and each
 * leaves its entries as sorted chunks in temporary files that all can read.
 * In the second, the order of all entries is split into items of like size,
 * and whoever has nothing to do takes the next item, merges what belongs to it
 * out of all files, and packs and writes leaf pages.  What remains to the
 * leader is to train the model on the fences of all leaf pages.
 *
 * Everybody finds the same splitters by itself, from the samples in the
 * files.  Nobody waits for a worker that comes late, or not at all: in the
 * first phase it is not counted, in the second it takes what items are left.
 *
 * The tuplesort of core would do the first phase as well, but nothing of the
 * second, in which the leader alone merges and loads.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/build_parallel.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>

#include "access/parallel.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_proc.h"
#include "commands/progress.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "pgstat.h"
#include "storage/barrier.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "alex/build.h"

/* Keys of the parallel context's table of contents */
#define KEY_SHARED				UINT64CONST(0xA1E0000000000001)
#define KEY_SCAN				UINT64CONST(0xA1E0000000000002)
#define KEY_QUERY_TEXT			UINT64CONST(0xA1E0000000000003)
#define KEY_WAL_USAGE			UINT64CONST(0xA1E0000000000004)
#define KEY_BUFFER_USAGE		UINT64CONST(0xA1E0000000000005)

/*
 * Each item ends with a leaf page that is not full.  So there should be no
 * more of them than it takes to keep all participants busy up to the end.
 */
#define MIN_ITEM_ENTRIES		(64 * 1024)
#define ITEMS_PER_PARTICIPANT	8

/*
 * A table is scanned by workers if it is that many times as large as
 * min_parallel_table_scan_size: 64 MB by default, where a build with workers
 * begins to be faster than one without.
 */
#define WORTHWHILE_SCAN			8

/* Sorted files of a participant: one for each part, and one more */
#define STREAM_AMBIGUOUS		ALEX_PARTS	/* see unique_build.c */
#define STREAMS					(ALEX_PARTS + 1)

/* Phases of the barrier */
#define PHASE_SCAN				0

/* Leaf pages of an item are a range of its packer's. */
typedef struct BuildItem
{
	int			participant;
	uint32		first_fence;
	uint32		nfences;
} BuildItem;

typedef struct BuildParticipant
{
	AlexSortedFile files[STREAMS];
} BuildParticipant;

/* What all participants share. */
typedef struct BuildShared
{
	/* set by the leader before workers start */
	Oid			heap_id;
	Oid			index_id;
	bool		is_unique;
	bool		is_concurrent;
	int			nparticipants;	/* at most; 0 is the leader */
	Size		memory;			/* of each */
	BlockNumber nblocks;
	SharedFileSet files;

	Barrier		barrier;
	pg_atomic_uint64 next_block;
	pg_atomic_uint32 next_item;
	pg_atomic_uint64 entries_packed;

	slock_t		mutex;			/* protects what follows */
	double		heap_tuples;
	bool		broken_hot_chain;

	/* each participant writes its own, the packer of an item the item */
	BuildParticipant participants[FLEXIBLE_ARRAY_MEMBER];
} BuildShared;

/* One process's view. */
typedef struct Participation
{
	BuildShared *shared;
	BuildItem  *items;			/* of all parts, one after the other */
	AlexBuild	build;
	int			number;			/* 0: leader */
	uint32		item;			/* the one to be packed next */
} Participation;

/* What the leader needs to end the parallel build. */
typedef struct Leader
{
	ParallelContext *context;
	Snapshot	snapshot;
	BuildShared *shared;
	ParallelTableScanDesc scan;
	WalUsage   *wal_usage;
	BufferUsage *buffer_usage;
} Leader;

static int
max_items(int nparticipants)
{
	return ALEX_PARTS * nparticipants * ITEMS_PER_PARTICIPANT;
}

static Size
shared_size(int nparticipants)
{
	return MAXALIGN(offsetof(BuildShared, participants) +
					nparticipants * sizeof(BuildParticipant)) +
		max_items(nparticipants) * sizeof(BuildItem);
}

static BuildItem *
shared_items(BuildShared *shared)
{
	return (BuildItem *) ((char *) shared +
						  MAXALIGN(offsetof(BuildShared, participants) +
								   shared->nparticipants *
								   sizeof(BuildParticipant)));
}

/* Number of items of a part with that many entries. */
static uint32
count_items(const BuildShared *shared, uint64 nentries)
{
	uint64		most = shared->nparticipants * ITEMS_PER_PARTICIPANT;

	if (nentries == 0)
		return 0;
	return Min(nentries / MIN_ITEM_ENTRIES + 1, most);
}

static uint64
count_entries(const BuildShared *shared, int stream)
{
	uint64		nentries = 0;

	for (int i = 0; i < shared->nparticipants; i++)
		nentries += shared->participants[i].files[stream].nentries;
	return nentries;
}

static char *
sorted_file_name(int stream, int participant)
{
	return psprintf("sorted.%d.%d", stream, participant);
}

static char *
fences_file_name(int part, int participant)
{
	return psprintf("fences.%d.%d", part, participant);
}

/*
 * ---------------------------------------------------------------------
 * First phase: scan and sort
 * ---------------------------------------------------------------------
 */

static void
scan_and_sort(Participation *self, ParallelTableScanDesc core_scan)
{
	BuildShared *shared = self->shared;
	AlexSortedFile *files = shared->participants[self->number].files;
	AlexBuild  *build = &self->build;
	AlexSharedScan scan;
	double		heap_tuples;

	scan.next_block = &shared->next_block;
	scan.nblocks = shared->nblocks;
	scan.core = core_scan;
	scan.report_progress = self->number == 0;

	for (int part = 0; part < ALEX_PARTS; part++)
		alex_sorter_share(build->sorters[part], &shared->files,
						  sorted_file_name(part, self->number));
	if (build->unique != NULL)
		alex_unique_build_share(build->unique, &shared->files,
								sorted_file_name(STREAM_AMBIGUOUS,
												 self->number));

	heap_tuples = alex_build_scan(build->heap, build->index, build->index_info,
								  &scan, alex_build_add_tuple, build);
	ALEX_FAILPOINT("parallel-build-after-scan");

	if (self->number == 0)
		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE,
									 ALEX_PHASE_SORT);
	for (int part = 0; part < ALEX_PARTS; part++)
		alex_sorter_export(build->sorters[part], &files[part]);
	if (build->unique != NULL)
		alex_unique_build_export(build->unique, &files[STREAM_AMBIGUOUS]);

	SpinLockAcquire(&shared->mutex);
	shared->heap_tuples += heap_tuples;
	shared->broken_hot_chain |= build->index_info->ii_BrokenHotChain;
	SpinLockRelease(&shared->mutex);
}

static AlexSortedChunks *
open_sorted(BuildShared *shared, int stream)
{
	AlexSortedChunks *chunks = alex_chunks_begin();

	for (int i = 0; i < shared->nparticipants; i++)
		alex_chunks_open(chunks, &shared->files, sorted_file_name(stream, i),
						 &shared->participants[i].files[stream]);
	return chunks;
}

/* The leader looks for duplicates that do not have the same key. */
static void
check_ambiguous(Participation *self)
{
	AlexSortedChunks *ambiguous = open_sorted(self->shared, STREAM_AMBIGUOUS);

	alex_chunks_seek(ambiguous, NULL, NULL, self->shared->memory);
	alex_unique_build_finish_shared(self->build.unique, ambiguous);
	alex_chunks_end(ambiguous);
}

/*
 * ---------------------------------------------------------------------
 * Second phase: merge and pack
 * ---------------------------------------------------------------------
 */

static uint32
claim_item(BuildShared *shared)
{
	return pg_atomic_fetch_add_u32(&shared->next_item, 1);
}

/* Packs the entries that were sought. */
static void
pack_item(Participation *self, AlexPart part, AlexSortedChunks *chunks,
		  AlexRunWriter *writer)
{
	const AlexEntry *entries;
	int			nentries;

	while ((nentries = alex_chunks_read(chunks, &entries)) > 0)
	{
		uint64		packed;

		alex_build_write(&self->build, part, writer, entries, nentries);
		packed = pg_atomic_add_fetch_u64(&self->shared->entries_packed,
										 nentries);
		if (self->number == 0)
			pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE,
										 packed);
	}
}

/* Leaves the fences of this process's leaf pages to the leader. */
static void
export_fences(Participation *self, AlexPart part, AlexRunWriter *writer)
{
	const AlexFence *fences = alex_run_writer_leaves(writer);
	uint32		nfences = alex_run_writer_cut(writer);
	BufFile    *file = BufFileCreateFileSet(&self->shared->files.fs,
											fences_file_name(part, self->number));

	for (uint32 i = 0; i < nfences; i++)
		BufFileWrite(file, unconstify(AlexFence *, &fences[i]),
					 sizeof(AlexFence));
	BufFileExportFileSet(file);
	BufFileClose(file);
	alex_run_writer_end(writer);
}

/*
 * Packs items of one part, of which the first has that number.  Items are
 * claimed in order, so that one writer can take all that this process gets.
 */
static void
pack_part(Participation *self, AlexPart part, uint32 first, uint32 nitems)
{
	BuildShared *shared = self->shared;
	uint64		nentries = count_entries(shared, part);
	AlexSortedChunks *chunks;
	AlexEntry  *splitters;
	AlexRunWriter *writer;
	uint32		nfences = 0;

	if (self->item >= first + nitems)
		return;

	chunks = open_sorted(shared, part);
	splitters = palloc(nitems * sizeof(AlexEntry));
	alex_chunks_split(chunks, nitems, splitters);

	/* entries of one key stay together, for the one who sees duplicates */
	if (shared->is_unique)
		for (uint32 i = 0; i + 1 < nitems; i++)
			splitters[i].tid = 0;
	writer = alex_run_writer_begin(self->build.index, part, nentries, false);

	while (self->item < first + nitems)
	{
		uint32		i = self->item - first;
		BuildItem  *item = &self->items[self->item];

		alex_chunks_seek(chunks, i == 0 ? NULL : &splitters[i - 1],
						 i == nitems - 1 ? NULL : &splitters[i],
						 shared->memory);
		pack_item(self, part, chunks, writer);
		ALEX_FAILPOINT("parallel-build-item");
		item->participant = self->number;
		item->first_fence = nfences;
		nfences = alex_run_writer_cut(writer);
		item->nfences = nfences - item->first_fence;
		self->item = claim_item(shared);
	}
	export_fences(self, part, writer);
	alex_chunks_end(chunks);
	pfree(splitters);
}

static void
pack_items(Participation *self)
{
	uint32		first = 0;

	self->item = claim_item(self->shared);
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		uint32		nitems = count_items(self->shared,
										 count_entries(self->shared, part));

		pack_part(self, part, first, nitems);
		first += nitems;
	}
}

/*
 * ---------------------------------------------------------------------
 * Participants
 * ---------------------------------------------------------------------
 */

/* What every participant does.  It has attached to the barrier. */
static void
participate(Participation *self, ParallelTableScanDesc core_scan, int phase)
{
	BuildShared *shared = self->shared;

	if (phase == PHASE_SCAN)
	{
		scan_and_sort(self, core_scan);
		BarrierArriveAndWait(&shared->barrier,
							 WAIT_EVENT_PARALLEL_CREATE_INDEX_SCAN);
	}
	if (self->number == 0)
	{
		pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE,
									 ALEX_PHASE_WRITE);
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL,
									 count_entries(shared, ALEX_PART_VALUES) +
									 count_entries(shared, ALEX_PART_NULLS));
		if (self->build.unique != NULL)
			check_ambiguous(self);
	}
	pack_items(self);
	BarrierDetach(&shared->barrier);
}

static void
begin_participation(Participation *self, BuildShared *shared, int number,
					Relation heap, Relation index, IndexInfo *index_info)
{
	self->shared = shared;
	self->items = shared_items(shared);
	self->number = number;
	alex_build_begin(&self->build, heap, index, index_info, shared->memory);
}

/* Entry point of the workers. */
extern PGDLLEXPORT void alex_build_worker(dsm_segment *segment, shm_toc *toc);

void
alex_build_worker(dsm_segment *segment, shm_toc *toc)
{
	BuildShared *shared = shm_toc_lookup(toc, KEY_SHARED, false);
	ParallelTableScanDesc core_scan = shm_toc_lookup(toc, KEY_SCAN, false);
	BufferUsage *buffer_usage = shm_toc_lookup(toc, KEY_BUFFER_USAGE, false);
	WalUsage   *wal_usage = shm_toc_lookup(toc, KEY_WAL_USAGE, false);
	LOCKMODE	heap_lock = shared->is_concurrent ? ShareUpdateExclusiveLock : ShareLock;
	LOCKMODE	index_lock = shared->is_concurrent ? RowExclusiveLock : AccessExclusiveLock;
	Participation self;
	Relation	heap;
	Relation	index;
	IndexInfo  *index_info;

	debug_query_string = shm_toc_lookup(toc, KEY_QUERY_TEXT, true);
	pgstat_report_activity(STATE_RUNNING, debug_query_string);

	/* the locks that the leader has, as a member of its group */
	heap = table_open(shared->heap_id, heap_lock);
	index = index_open(shared->index_id, index_lock);
	index_info = BuildIndexInfo(index);
	index_info->ii_Unique = shared->is_unique;
	index_info->ii_Concurrent = shared->is_concurrent;

	SharedFileSetAttach(&shared->files, segment);
	InstrStartParallelQuery();
	begin_participation(&self, shared, ParallelWorkerNumber + 1, heap, index,
						index_info);
	ALEX_FAILPOINT("parallel-build-start");
	participate(&self, core_scan, BarrierAttach(&shared->barrier));
	InstrEndParallelQuery(&buffer_usage[ParallelWorkerNumber],
						  &wal_usage[ParallelWorkerNumber]);

	index_close(index, index_lock);
	table_close(heap, heap_lock);
}

/*
 * ---------------------------------------------------------------------
 * Leader
 * ---------------------------------------------------------------------
 */

/*
 * How many workers to ask for.  Core, which plans them for btree only, would
 * not object to functions of the operator class.  It sends workers to tables
 * of min_parallel_table_scan_size; but one process alone has built an alex
 * index of a table that small before they have started.
 */
static int
plan_workers(Relation heap, Relation index)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(heap);

	/* there may be none of an empty table, say after TRUNCATE */
	if (nblocks == 0)
		return 0;
	/* as in core, the table's parallel_workers is obeyed whatever its size */
	if (RelationGetParallelWorkers(heap, -1) == -1 &&
		nblocks / WORTHWHILE_SCAN < min_parallel_table_scan_size)
		return 0;
	for (int i = 1; i <= ALEX_NPROCS; i++)
	{
		Oid			procedure = index_getprocid(index, 1, i);

		if (OidIsValid(procedure) &&
			func_parallel(procedure) != PROPARALLEL_SAFE)
			return 0;
	}
	return plan_create_index_workers(RelationGetRelid(heap),
									 RelationGetRelid(index));
}

static void
end_parallel(Leader *leader)
{
	if (IsMVCCSnapshot(leader->snapshot))
		UnregisterSnapshot(leader->snapshot);
	DestroyParallelContext(leader->context);
	ExitParallelMode();
}

static void
init_shared(BuildShared *shared, Relation heap, Relation index,
			const IndexInfo *index_info, int nparticipants,
			dsm_segment *segment)
{
	memset(shared, 0, shared_size(nparticipants));
	shared->heap_id = RelationGetRelid(heap);
	shared->index_id = RelationGetRelid(index);
	shared->is_unique = index_info->ii_Unique;
	shared->is_concurrent = index_info->ii_Concurrent;
	shared->nparticipants = nparticipants;
	shared->memory = (Size) maintenance_work_mem * 1024 / nparticipants;
	shared->nblocks = RelationGetNumberOfBlocks(heap);
	SharedFileSetInit(&shared->files, segment);
	BarrierInit(&shared->barrier, 0);
	pg_atomic_init_u64(&shared->next_block, 0);
	pg_atomic_init_u32(&shared->next_item, 0);
	pg_atomic_init_u64(&shared->entries_packed, 0);
	SpinLockInit(&shared->mutex);
}

static void
estimate(ParallelContext *context, Size size)
{
	shm_toc_estimate_chunk(&context->estimator, size);
	shm_toc_estimate_keys(&context->estimator, 1);
}

static void *
allocate(ParallelContext *context, uint64 key, Size size)
{
	void	   *address = shm_toc_allocate(context->toc, size);

	shm_toc_insert(context->toc, key, address);
	return address;
}

/* Makes the shared state; false, and all is as before, if there is no room. */
static bool
begin_parallel(Leader *leader, Relation heap, Relation index,
			   const IndexInfo *index_info, int nworkers)
{
	int			nparticipants = nworkers + 1;
	Size		usage = Max(sizeof(WalUsage), sizeof(BufferUsage)) * nworkers;
	Size		query_size = debug_query_string == NULL ? 0 : strlen(debug_query_string) + 1;
	ParallelContext *context;
	Size		scan_size;

	EnterParallelMode();
	context = CreateParallelContext("alexam", "alex_build_worker", nworkers);
	leader->context = context;

	/* as in nbtree: CREATE INDEX CONCURRENTLY scans by a snapshot */
	leader->snapshot = index_info->ii_Concurrent ?
		RegisterSnapshot(GetTransactionSnapshot()) : SnapshotAny;
	scan_size = table_parallelscan_estimate(heap, leader->snapshot);

	estimate(context, shared_size(nparticipants));
	estimate(context, scan_size);
	estimate(context, usage);
	estimate(context, usage);
	if (query_size > 0)
		estimate(context, query_size);
	InitializeParallelDSM(context);
	if (context->seg == NULL)
	{
		end_parallel(leader);
		return false;
	}

	leader->shared = allocate(context, KEY_SHARED, shared_size(nparticipants));
	init_shared(leader->shared, heap, index, index_info, nparticipants,
				context->seg);
	leader->scan = allocate(context, KEY_SCAN, scan_size);
	table_parallelscan_initialize(heap, leader->scan, leader->snapshot);
	leader->wal_usage = allocate(context, KEY_WAL_USAGE, usage);
	leader->buffer_usage = allocate(context, KEY_BUFFER_USAGE, usage);
	if (query_size > 0)
		memcpy(allocate(context, KEY_QUERY_TEXT, query_size),
			   debug_query_string, query_size);
	return true;
}

/* Joins the leaf pages of a part, which all have been written, in a run. */
static void
join_part(BuildShared *shared, Relation index, AlexPart part, uint32 first,
		  uint32 nitems, AlexRun *run)
{
	AlexRunWriter *writer = alex_run_writer_begin(index, part,
												  count_entries(shared, part),
												  false);
	BufFile   **files = palloc0(shared->nparticipants * sizeof(BufFile *));

	for (uint32 i = first; i < first + nitems; i++)
	{
		const BuildItem *item = &shared_items(shared)[i];
		BufFile   **file = &files[item->participant];

		if (*file == NULL)
			*file = BufFileOpenFileSet(&shared->files.fs,
									   fences_file_name(part, item->participant),
									   O_RDONLY, false);
		for (uint32 j = 0; j < item->nfences; j++)
		{
			AlexFence	fence;

			if (BufFileRead(*file, &fence, sizeof(fence)) != sizeof(fence))
				ereport(ERROR,
						(errcode_for_file_access(),
						 errmsg("could not read from temporary file of an index build")));
			alex_run_writer_adopt(writer, &fence, NULL);
		}
	}
	for (int i = 0; i < shared->nparticipants; i++)
		if (files[i] != NULL)
			BufFileClose(files[i]);
	alex_run_writer_finish(writer, run);
	Assert(run->entries == count_entries(shared, part));
}

bool
alex_build_in_parallel(Relation heap, Relation index, IndexInfo *index_info,
					   AlexRun *runs, double *heap_tuples)
{
	int			nworkers = plan_workers(heap, index);
	Leader		leader;
	Participation self;
	BuildShared *shared;
	uint32		first = 0;

	if (nworkers == 0 ||
		!begin_parallel(&leader, heap, index, index_info, nworkers))
		return false;
	shared = leader.shared;

	/* attached first, so that the first phase does not end without us */
	(void) BarrierAttach(&shared->barrier);
	LaunchParallelWorkers(leader.context);
	if (leader.context->nworkers_launched == 0)
	{
		end_parallel(&leader);
		return false;
	}
	ereport(DEBUG1,
			(errmsg_internal("building index \"%s\" with %d parallel workers",
							 RelationGetRelationName(index),
							 leader.context->nworkers_launched)));

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_SCAN);
	begin_participation(&self, shared, 0, heap, index, index_info);
	participate(&self, leader.scan, PHASE_SCAN);
	WaitForParallelWorkersToFinish(leader.context);
	for (int i = 0; i < leader.context->nworkers_launched; i++)
		InstrAccumParallelQuery(&leader.buffer_usage[i], &leader.wal_usage[i]);

	/* what workers have packed after the leader's last item counts, too */
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE,
								 pg_atomic_read_u64(&shared->entries_packed));
	*heap_tuples = shared->heap_tuples;
	index_info->ii_BrokenHotChain |= shared->broken_hot_chain;
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		uint32		nitems = count_items(shared, count_entries(shared, part));

		join_part(shared, index, part, first, nitems, &runs[part]);
		first += nitems;
	}
	end_parallel(&leader);
	return true;
}
