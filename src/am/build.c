/*-------------------------------------------------------------------------
 *
 * build.c
 *	  CREATE INDEX: heap scan, sort, one run for the values and one for the
 *	  NULLs.
 *
 * The index is built through shared buffers like every later run, and its
 * manifest is changed once, at the end.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/build.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xloginsert.h"
#include "catalog/index.h"
#include "catalog/storage.h"
#include "commands/progress.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/smgr.h"
#include "utils/memutils.h"

#include "alex/am.h"
#include "alex/sorter.h"

/* Phases; the first is PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE */
#define ALEX_PHASE_SCAN			2
#define ALEX_PHASE_SORT			3
#define ALEX_PHASE_WRITE		4
#define ALEX_PHASE_INSTALL		5

typedef struct AlexBuild
{
	AlexCodec	codec;
	AlexSorter *sorters[ALEX_PARTS];
	AlexUniqueBuild *unique;	/* NULL: the index is not */
	MemoryContext tuple_context;
	uint64		ntuples;
} AlexBuild;

char *
alex_build_phase_name(int64 phase)
{
	switch (phase)
	{
		case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
			return "initializing";
		case ALEX_PHASE_SCAN:
			return "scanning table";
		case ALEX_PHASE_SORT:
			return "sorting entries";
		case ALEX_PHASE_WRITE:
			return "packing and writing pages";
		case ALEX_PHASE_INSTALL:
			return "training model and installing run";
		default:
			return NULL;
	}
}

/* Writes the metapage of an empty index as block 0. */
static void
make_metapage(Relation index)
{
	Buffer		buffer = ReadBufferExtended(index, MAIN_FORKNUM, P_NEW,
											RBM_ZERO_AND_LOCK, NULL);
	PGAlignedBlock image;

	if (BufferGetBlockNumber(buffer) != ALEX_META_BLOCK)
		elog(ERROR, "index \"%s\" already contains data",
			 RelationGetRelationName(index));

	/* a random number is needed, which is not for a critical section */
	alex_meta_init(image.data);

	START_CRIT_SECTION();
	memcpy(BufferGetPage(buffer), image.data, BLCKSZ);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(index))
		log_newpage_buffer(buffer, true);
	END_CRIT_SECTION();

	UnlockReleaseBuffer(buffer);
}

/* Callback of the heap scan: one row. */
static void
add_tuple(Relation index, ItemPointer tid, Datum *values, bool *isnull,
		  bool tuple_is_alive, void *state)
{
	AlexBuild  *build = state;
	uint64		number = ALEX_TID(ItemPointerGetBlockNumber(tid),
								  ItemPointerGetOffsetNumber(tid));

	if (build->unique != NULL)
		number = alex_unique_build_add(build->unique, values[0], isnull[0],
									   number, tuple_is_alive);

	if (isnull[0])
		alex_sorter_add(build->sorters[ALEX_PART_NULLS], 0, number);
	else if (build->codec.lane_is_value)
		alex_sorter_add(build->sorters[ALEX_PART_VALUES],
						alex_codec_key(&build->codec, values[0]), number);
	else
	{
		MemoryContext old_context = MemoryContextSwitchTo(build->tuple_context);
		uint64		key = alex_codec_key(&build->codec, values[0]);

		MemoryContextSwitchTo(old_context);
		alex_sorter_add(build->sorters[ALEX_PART_VALUES], key, number);
		/* an opclass's lane function may leave something behind */
		if ((++build->ntuples & 0xFF) == 0)
			MemoryContextReset(build->tuple_context);
	}
}

/* Writes the sorted entries of one part as a run. */
static void
write_part(Relation index, AlexBuild *build, AlexPart part, AlexRun *run,
		   uint64 *done)
{
	AlexSorter *sorter = build->sorters[part];
	AlexRunWriter *writer;
	const AlexEntry *entries;
	int			nentries;

	/* the largest run has no Bloom filter: absence is rarely worth asking */
	writer = alex_run_writer_begin(index, part, alex_sorter_count(sorter),
								   false);
	while ((nentries = alex_sorter_read(sorter, &entries)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		if (build->unique == NULL)
			for (int i = 0; i < nentries; i++)
				alex_run_writer_add(writer, entries[i].key, entries[i].tid);
		else
			for (int i = 0; i < nentries; i++)
				alex_run_writer_add(writer, entries[i].key,
									alex_unique_build_check(build->unique, part,
															entries[i].key,
															entries[i].tid));
		*done += nentries;
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, *done);
	}
	alex_run_writer_finish(writer, run);
}

/* Sorts and writes both parts and enters their runs in the manifest. */
static void
write_runs(Relation index, AlexBuild *build)
{
	AlexManifestChange change;
	AlexRun		runs[ALEX_PARTS];
	uint64		done = 0;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_SORT);
	for (int part = 0; part < ALEX_PARTS; part++)
		alex_sorter_sort(build->sorters[part]);
	if (build->unique != NULL)
		alex_unique_build_finish(build->unique);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_WRITE);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL,
								 alex_sorter_count(build->sorters[0]) +
								 alex_sorter_count(build->sorters[1]));
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		write_part(index, build, part, &runs[part], &done);
		alex_sorter_end(build->sorters[part]);
	}

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE,
								 ALEX_PHASE_INSTALL);
	ALEX_FAILPOINT("build-before-install");
	alex_manifest_change_begin(index, ALEX_PARTS, &change);
	for (int part = 0; part < ALEX_PARTS; part++)
		if (runs[part].entries > 0)
			alex_manifest_add(&change, &runs[part]);
	alex_manifest_change_commit(&change, ALEX_MANIFEST_INSTALL,
								InvalidFullTransactionId, InvalidBuffer,
								NULL, NULL, NULL);
	alex_manifest_change_end(&change);
}

IndexBuildResult *
alex_build(Relation heap, Relation index, IndexInfo *index_info)
{
	IndexBuildResult *result;
	AlexBuild	build = {0};
	MemoryContext context;
	MemoryContext old_context;
	double		heap_tuples;
	uint64		index_tuples;
	Size		memory = (Size) maintenance_work_mem * 1024;

	alex_require_preload();
	if (RelationGetNumberOfBlocks(index) != 0)
		elog(ERROR, "index \"%s\" already contains data",
			 RelationGetRelationName(index));

	/* the relation file's number may have been another index's before */
	alex_registry_forget(index);
	alex_pending_forget(index);
	make_metapage(index);

	context = AllocSetContextCreate(CurrentMemoryContext, "alexam build",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	build.tuple_context = AllocSetContextCreate(context, "alexam build tuple",
												ALLOCSET_SMALL_SIZES);
	alex_codec_init(&build.codec, index);

	/* NULLs are rare; they get a small part of the memory */
	build.sorters[ALEX_PART_VALUES] = alex_sorter_begin(memory - memory / 16);
	build.sorters[ALEX_PART_NULLS] = alex_sorter_begin(memory / 16);
	if (index_info->ii_Unique)
		build.unique = alex_unique_build_begin(heap, index, memory / 16);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_SCAN);
	heap_tuples = alex_build_scan(heap, index, index_info, add_tuple, &build);
	index_tuples = alex_sorter_count(build.sorters[ALEX_PART_VALUES]) +
		alex_sorter_count(build.sorters[ALEX_PART_NULLS]);
	write_runs(index, &build);

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
	alex_registry_forget(index);

	result = palloc(sizeof(IndexBuildResult));
	result->heap_tuples = heap_tuples;
	result->index_tuples = index_tuples;
	return result;
}

/* The init fork of an unlogged index: a metapage. */
void
alex_build_empty(Relation index)
{
	PGAlignedBlock image;
	Page		page = image.data;

	alex_require_preload();
	alex_meta_init(page);

	/*
	 * Written and synced at once, since an unlogged relation's init fork must
	 * be there after a crash; see btbuildempty.
	 */
	PageSetChecksumInplace(page, ALEX_META_BLOCK);
	smgrwrite(RelationGetSmgr(index), INIT_FORKNUM, ALEX_META_BLOCK,
			  (char *) page, true);
	log_newpage(&RelationGetSmgr(index)->smgr_rnode.node, INIT_FORKNUM,
				ALEX_META_BLOCK, page, true);
	smgrimmedsync(RelationGetSmgr(index), INIT_FORKNUM);
}
