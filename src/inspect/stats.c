/*-------------------------------------------------------------------------
 *
 * stats.c
 *	  What an index consists of: alex_stats() and alex_runs().
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/stats.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "alex/am.h"
#include "alex/inspect.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

PG_FUNCTION_INFO_V1(alex_stats);
PG_FUNCTION_INFO_V1(alex_runs);

typedef struct LogCounts
{
	uint64		entries;		/* dead ones included */
	uint64		dead;
} LogCounts;

typedef struct RunCounts
{
	uint64		entries;		/* dead ones included */
	uint64		dead;
	int			live_runs;
	int			retired_runs;
	uint32		depth;
} RunCounts;

typedef struct PageCounts
{
	uint64		pages;
	uint64		leaf;
	uint64		model;
	uint64		bloom;
	uint64		log;
	uint64		manifest;		/* metapage included */
	uint64		free;			/* never used ones included */
} PageCounts;

typedef struct MemtableCounts
{
	bool		loaded;
	uint64		entries;
	uint64		bytes;
} MemtableCounts;

static void
count_log_entries(const AlexLogEntry *entries, int n, void *context)
{
	LogCounts  *counts = (LogCounts *) context;

	counts->entries += n;
	for (int i = 0; i < n; i++)
	{
		if ((entries[i].tid & ALEX_LOG_DEAD) != 0)
			counts->dead++;
	}
}

/*
 * Reads the manifest and the logs that it names.  A seal in between moves
 * entries from a log into a run; then start again.
 */
static AlexManifest *
read_manifest_and_logs(Relation index, LogCounts *counts)
{
	for (;;)
	{
		AlexManifest *manifest = alex_manifest_read(index);
		AlexLogPosition frozen_position = {0};
		AlexLogPosition active_position = {0};

		CHECK_FOR_INTERRUPTS();

		memset(counts, 0, sizeof(LogCounts));
		if (alex_log_read(index, &manifest->frozen, &frozen_position,
						  count_log_entries, counts) &&
			alex_log_read(index, &manifest->active, &active_position,
						  count_log_entries, counts))
			return manifest;
		alex_log_check_unbroken(index, manifest);
		pfree(manifest);
	}
}

static RunCounts
count_runs(const AlexManifest *manifest)
{
	RunCounts	counts = {0};

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) != 0)
		{
			counts.retired_runs++;
			continue;
		}
		counts.live_runs++;
		counts.entries += run->entries;
		counts.dead += run->dead;
		counts.depth = Max(counts.depth, run->depth);
	}
	return counts;
}

static void
count_page(Page page, PageCounts *counts)
{
	counts->pages++;
	if (PageIsNew(page))
	{
		counts->free++;
		return;
	}
	switch (alex_page_header(page)->kind)
	{
		case ALEX_PAGE_LEAF:
			counts->leaf++;
			break;
		case ALEX_PAGE_MODEL:
			counts->model++;
			break;
		case ALEX_PAGE_BLOOM:
			counts->bloom++;
			break;
		case ALEX_PAGE_LOG:
			counts->log++;
			break;
		case ALEX_PAGE_META:
		case ALEX_PAGE_MANIFEST:
			counts->manifest++;
			break;
		case ALEX_PAGE_FREE:
			counts->free++;
			break;
	}
}

/* Looks at every page of the file, whoever it belongs to. */
static PageCounts
count_pages(Relation index)
{
	BufferAccessStrategy strategy = GetAccessStrategy(BAS_BULKREAD);
	BlockNumber nblocks = RelationGetNumberOfBlocks(index);
	PageCounts	counts = {0};

	for (BlockNumber block = 0; block < nblocks; block++)
	{
		Buffer		buffer;

		CHECK_FOR_INTERRUPTS();

		buffer = ReadBufferExtended(index, MAIN_FORKNUM, block, RBM_NORMAL,
									strategy);
		LockBuffer(buffer, BUFFER_LOCK_SHARE);
		count_page(BufferGetPage(buffer), &counts);
		UnlockReleaseBuffer(buffer);
	}
	FreeAccessStrategy(strategy);

	return counts;
}

/* What of the log is in memory; nothing is loaded for this. */
static MemtableCounts
count_memtable(Relation index, uint64 incarnation)
{
	AlexMemtable *memtable = alex_registry_lock(index);
	MemtableCounts counts = {0};

	if (memtable == NULL)
		return counts;

	if (memtable->state == ALEX_MEMTABLE_READY &&
		alex_memtable_is_of(memtable, incarnation))
	{
		counts.loaded = true;
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			for (int part = 0; part < ALEX_PARTS; part++)
			{
				const AlexTree *tree = &memtable->generations[i].trees[part];

				counts.entries += tree->nentries;
				counts.bytes += (uint64) tree->nchunks * ALEX_PAGE_SIZE;
			}
		}
	}
	LWLockRelease(&memtable->lock);

	return counts;
}

#define STATS_COLUMNS	23

Datum
alex_stats(PG_FUNCTION_ARGS)
{
	Relation	index = alex_inspect_open(PG_GETARG_OID(0), AccessShareLock,
										  true);
	TupleDesc	descriptor;
	Datum		values[STATS_COLUMNS];
	bool		nulls[STATS_COLUMNS] = {false};
	LogCounts	log;
	AlexManifest *manifest = read_manifest_and_logs(index, &log);
	RunCounts	runs = count_runs(manifest);
	MemtableCounts memtable = count_memtable(index, manifest->incarnation);
	PageCounts	pages = count_pages(index);
	AlexCounters counters;
	uint64		live = runs.entries + log.entries - runs.dead - log.dead;
	int			i = 0;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE ||
		descriptor->natts != STATS_COLUMNS)
		elog(ERROR, "alex_stats was not declared as expected");

	values[i++] = Int64GetDatum(runs.entries);
	values[i++] = Int64GetDatum(runs.dead);
	values[i++] = Int32GetDatum(runs.live_runs);
	values[i++] = Int32GetDatum(runs.retired_runs);
	values[i++] = Int32GetDatum(runs.depth);
	values[i++] = Int64GetDatum(log.entries);
	values[i++] = Int64GetDatum(log.dead);
	nulls[i] = !memtable.loaded;
	values[i++] = Int64GetDatum(memtable.entries);
	nulls[i] = !memtable.loaded;
	values[i++] = Int64GetDatum(memtable.bytes);
	values[i++] = Int64GetDatum(pages.pages);
	values[i++] = Int64GetDatum(pages.leaf);
	values[i++] = Int64GetDatum(pages.model);
	values[i++] = Int64GetDatum(pages.bloom);
	values[i++] = Int64GetDatum(pages.log);
	values[i++] = Int64GetDatum(pages.manifest);
	values[i++] = Int64GetDatum(pages.free);
	nulls[i] = live == 0;
	values[i++] = Float8GetDatum(live == 0 ? 0.0 :
								 (double) pages.pages * BLCKSZ / live);
	alex_counters_read(index, &counters);
	values[i++] = Int64GetDatum(counters.seals);
	values[i++] = Int64GetDatum(counters.entries_sealed);
	values[i++] = Int64GetDatum(counters.compactions);
	values[i++] = Int64GetDatum(counters.entries_rewritten);
	values[i++] = Int64GetDatum(counters.entries_dropped);
	values[i++] = Int64GetDatum(counters.pages_written);
	Assert(i == STATS_COLUMNS);

	relation_close(index, AccessShareLock);

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(descriptor),
													  values, nulls)));
}

static const char *
run_state(const AlexRun *run)
{
	if ((run->flags & ALEX_RUN_MOVED) != 0)
		return "moved";
	if ((run->flags & ALEX_RUN_RETIRED) != 0)
		return "retired";
	return "live";
}

/* The key of a lane in its type's own spelling. */
static Datum
key_text(Relation index, const AlexCodec *codec, int64 lane)
{
	Oid			type = TupleDescAttr(RelationGetDescr(index), 0)->atttypid;
	Oid			output;
	bool		varlena;
	Datum		key;

	key = FunctionCall1Coll(codec->value, codec->collation,
							Int64GetDatum(lane));
	getTypeOutputInfo(type, &output, &varlena);
	return CStringGetTextDatum(OidOutputFunctionCall(output, key));
}

#define RUNS_COLUMNS	15

static void
put_run(ReturnSetInfo *result, Relation index, const AlexCodec *codec,
		const AlexRun *run)
{
	Datum		values[RUNS_COLUMNS];
	bool		nulls[RUNS_COLUMNS] = {false};
	int64		first_lane = alex_codec_load(codec, run->min.key);
	int64		last_lane = alex_codec_load(codec, run->max.key);
	uint64		pages = (uint64) run->leaf_pages + run->model_pages +
		run->bloom_pages;
	bool		has_key = run->part == ALEX_PART_VALUES;
	bool		has_text = has_key && codec->value != NULL;
	int			i = 0;

	values[i++] = Int64GetDatum(run->id);
	values[i++] = CStringGetTextDatum(run->part == ALEX_PART_NULLS ?
									  "nulls" : "values");
	values[i++] = CStringGetTextDatum(run_state(run));
	nulls[i] = run->generation == 0;
	values[i++] = Int64GetDatum(run->generation);
	values[i++] = Int64GetDatum(run->entries);
	values[i++] = Int64GetDatum(run->dead);
	nulls[i] = nulls[i + 1] = !has_key;
	values[i++] = Int64GetDatum(first_lane);
	values[i++] = Int64GetDatum(last_lane);
	nulls[i] = nulls[i + 1] = !has_text;
	values[i++] = has_text ? key_text(index, codec, first_lane) : (Datum) 0;
	values[i++] = has_text ? key_text(index, codec, last_lane) : (Datum) 0;
	values[i++] = Int64GetDatum(run->leaf_pages);
	values[i++] = Int64GetDatum(run->model_pages);
	values[i++] = Int64GetDatum(run->bloom_pages);
	values[i++] = Int32GetDatum(run->depth);
	nulls[i] = run->entries == 0;
	values[i++] = Float8GetDatum(run->entries == 0 ? 0.0 :
								 (double) pages * BLCKSZ / run->entries);
	Assert(i == RUNS_COLUMNS);

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* For owners only: first and last keys are data. */
Datum
alex_runs(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	index = alex_inspect_open(PG_GETARG_OID(0), AccessShareLock,
										  false);
	AlexManifest *manifest = alex_manifest_read(index);
	AlexCodec	codec;

	InitMaterializedSRF(fcinfo, 0);
	if (result->setDesc->natts != RUNS_COLUMNS)
		elog(ERROR, "alex_runs was not declared as expected");

	alex_codec_init(&codec, index);
	for (int i = 0; i < manifest->nruns; i++)
		put_run(result, index, &codec, &manifest->runs[i]);

	relation_close(index, AccessShareLock);

	return (Datum) 0;
}
