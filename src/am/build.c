/*-------------------------------------------------------------------------
 *
 * build.c
 *	  CREATE INDEX: heap scan, sort, one run for the values and one for the
 *	  NULLs.
 *
 * The index is built through shared buffers like every later run, and its
 * manifest is changed once, at the end.  Here is the build by one process, and
 * what it has in common with the one by several (build_parallel.c).
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

#include "alex/build.h"

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

void
alex_build_begin(AlexBuild *build, Relation heap, Relation index,
				 IndexInfo *index_info, Size memory)
{
	memset(build, 0, sizeof(AlexBuild));
	build->heap = heap;
	build->index = index;
	build->index_info = index_info;
	build->tuple_context = AllocSetContextCreate(CurrentMemoryContext,
												 "alexam build tuple",
												 ALLOCSET_SMALL_SIZES);
	alex_codec_init(&build->codec, index);

	/* NULLs are rare; they get a small part of the memory */
	build->sorters[ALEX_PART_VALUES] = alex_sorter_begin(memory - memory / 16);
	build->sorters[ALEX_PART_NULLS] = alex_sorter_begin(memory / 16);
	if (index_info->ii_Unique)
		build->unique = alex_unique_build_begin(heap, index, memory / 16);
}

void
alex_build_add_tuple(Relation index, ItemPointer tid, Datum *values,
					 bool *isnull, bool tuple_is_alive, void *state)
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

void
alex_build_write(AlexBuild *build, AlexPart part, AlexRunWriter *writer,
				 const AlexEntry *entries, int nentries)
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
}

/* Writes the sorted entries of one part as a run. */
static void
write_part(AlexBuild *build, AlexPart part, AlexRun *run, uint64 *done)
{
	AlexSorter *sorter = build->sorters[part];
	AlexRunWriter *writer;
	const AlexEntry *entries;
	int			nentries;

	/* the largest run has no Bloom filter: absence is rarely worth asking */
	writer = alex_run_writer_begin(build->index, part,
								   alex_sorter_count(sorter), false);
	while ((nentries = alex_sorter_read(sorter, &entries)) > 0)
	{
		alex_build_write(build, part, writer, entries, nentries);
		*done += nentries;
		pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, *done);
	}
	alex_run_writer_finish(writer, run);
}

/* Scans, sorts and writes both parts; returns the number of rows scanned. */
static double
build_alone(Relation heap, Relation index, IndexInfo *index_info,
			AlexRun *runs)
{
	AlexBuild	build;
	double		heap_tuples;
	uint64		done = 0;

	alex_build_begin(&build, heap, index, index_info,
					 (Size) maintenance_work_mem * 1024);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_SCAN);
	heap_tuples = alex_build_scan(heap, index, index_info, NULL,
								  alex_build_add_tuple, &build);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_SORT);
	for (int part = 0; part < ALEX_PARTS; part++)
		alex_sorter_sort(build.sorters[part]);
	if (build.unique != NULL)
		alex_unique_build_finish(build.unique);

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ALEX_PHASE_WRITE);
	pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL,
								 alex_sorter_count(build.sorters[0]) +
								 alex_sorter_count(build.sorters[1]));
	for (int part = 0; part < ALEX_PARTS; part++)
	{
		write_part(&build, part, &runs[part], &done);
		alex_sorter_end(build.sorters[part]);
	}
	return heap_tuples;
}

/* Enters the runs in the manifest. */
static void
install(Relation index, const AlexRun *runs)
{
	AlexManifestChange change;

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
	IndexBuildResult *result = palloc(sizeof(IndexBuildResult));
	AlexRun		runs[ALEX_PARTS];
	MemoryContext context;
	MemoryContext old_context;

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
	if (!alex_build_in_parallel(heap, index, index_info, runs,
								&result->heap_tuples))
		result->heap_tuples = build_alone(heap, index, index_info, runs);
	result->index_tuples = 0;
	for (int part = 0; part < ALEX_PARTS; part++)
		result->index_tuples += runs[part].entries;

	pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE,
								 ALEX_PHASE_INSTALL);
	install(index, runs);

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
	alex_registry_forget(index);
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
