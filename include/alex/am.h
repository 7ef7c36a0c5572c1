/*-------------------------------------------------------------------------
 *
 * am.h
 *	  The access method room: callbacks, key codec, maintenance.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/am.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_AM_H
#define ALEX_AM_H

#include "access/amapi.h"
#include "access/genam.h"
#include "access/tableam.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "utils/snapshot.h"

#include "alex/memtable.h"
#include "alex/store.h"

/* Operator class support functions, see README.md */
#define ALEX_LANE_PROC			1	/* lane(type) -> bigint */
#define ALEX_LOW_PROC			2	/* low(argument) -> bigint */
#define ALEX_HIGH_PROC			3	/* high(argument) -> bigint */
#define ALEX_VALUE_PROC			4	/* value(bigint) -> type */
#define ALEX_NPROCS				4
#define ALEX_NSTRATEGIES		5	/* btree's */

/* Settings (alexam.c) */
extern bool alex_use_mmap;
extern bool alex_verify_checksums;
extern int	alex_memtable_memory;	/* kB */
extern int	alex_memtable_entries;
extern int	alex_max_memtables;
extern double alex_bloom_bits;
extern int	alex_batch_size;
extern int	alex_batch_memory;	/* kB */
extern int	alex_direct_seal_threshold;
extern int	alex_hint_memory;	/* kB */
extern bool alex_background_compaction;
extern int	alex_max_compaction_workers;
extern int	alex_compaction_cost_limit;
extern double alex_compaction_cost_delay;	/* ms */
extern int	alex_log_compaction_min_duration;	/* ms; -1: off */

/* Raises an error with a hint unless the library is preloaded. */
extern void alex_require_preload(void);
extern bool alex_is_preloaded(void);

/* Points at which tests make the server fail; nothing in ordinary builds. */
#ifdef ALEX_FAILPOINTS
extern void alex_failpoint(const char *name);
#define ALEX_FAILPOINT(name)	alex_failpoint(name)
#else
#define ALEX_FAILPOINT(name)	((void) 0)
#endif

/*
 * ---------------------------------------------------------------------
 * codec.c: values to lanes and back
 * ---------------------------------------------------------------------
 *
 * A lane as stored is unsigned and ascends in the index's own order: the
 * support function's bigint with its sign bit flipped, complemented for
 * DESC.
 */
typedef struct AlexCodec
{
	FmgrInfo   *lane;
	FmgrInfo   *value;			/* NULL: no index-only scans */
	Oid			collation;
	bool		descending;
	bool		nulls_first;
	bool		lane_is_value;	/* "lane" returns its argument: no need to call */
	bool		value_is_lane;	/* likewise "value" */
	int16		typlen;
	bool		typbyval;
} AlexCodec;

extern void alex_codec_init(AlexCodec *codec, Relation index);

/* The support functions of types that are such numbers already (lanes.c) */
extern PGDLLEXPORT Datum alex_lane_int4(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum alex_lane_int8(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum alex_value_int8(PG_FUNCTION_ARGS);

static inline uint64
alex_codec_store(const AlexCodec *codec, int64 lane)
{
	uint64		key = (uint64) lane ^ (UINT64CONST(1) << 63);

	return codec->descending ? ~key : key;
}

static inline int64
alex_codec_load(const AlexCodec *codec, uint64 key)
{
	if (codec->descending)
		key = ~key;
	return (int64) (key ^ (UINT64CONST(1) << 63));
}

static inline uint64
alex_codec_key(const AlexCodec *codec, Datum value)
{
	if (codec->lane_is_value)
		return alex_codec_store(codec, DatumGetInt64(value));
	return alex_codec_store(codec, DatumGetInt64(FunctionCall1Coll(codec->lane,
																   codec->collation,
																   value)));
}

/*
 * ---------------------------------------------------------------------
 * unique.c, unique_build.c: unique indexes
 * ---------------------------------------------------------------------
 *
 * Values that are equal have neighbouring keys, mostly one and the same:
 * those from low to high, and no other value's.
 */
typedef struct AlexKeyClass
{
	AlexPart	part;
	uint64		key;			/* of the value itself */
	uint64		low;
	uint64		high;
} AlexKeyClass;

typedef struct AlexKeyClassifier
{
	AlexCodec	codec;
	FmgrInfo   *low;			/* NULL: equal values have equal keys */
	FmgrInfo   *high;
} AlexKeyClassifier;

extern void alex_key_classifier_init(AlexKeyClassifier *classifier,
									 Relation index);
extern void alex_key_classify(const AlexKeyClassifier *classifier, Datum value,
							  AlexKeyClass *class);

/* aminsert of a unique index, unless it is not to be checked. */
extern bool alex_insert_unique(Relation index, Datum *values, bool *isnull,
							   ItemPointer tid, Relation heap,
							   IndexUniqueCheck check_unique,
							   IndexInfo *index_info);

extern Size alex_unique_shmem_size(void);
extern void alex_unique_shmem_init(void);

/* After CREATE INDEX: warns of what PostgreSQL reserves to unique btrees. */
extern void alex_unique_warn(const IndexStmt *create);

/*
 * ---------------------------------------------------------------------
 * dead_filter.c: which TIDs VACUUM's callback need not be asked about
 * ---------------------------------------------------------------------
 */
typedef struct AlexDeadFilter AlexDeadFilter;

extern bool alex_dead_filter_learn(IndexVacuumInfo *info,
								   IndexBulkDeleteCallback callback,
								   void *callback_state);
extern AlexDeadFilter *alex_dead_filter_make(IndexBulkDeleteCallback callback,
											 void *callback_state);
extern bool alex_dead_filter_is_exact(const AlexDeadFilter *filter);
extern int	alex_dead_filter_choose(const AlexDeadFilter *filter,
									const uint64 *tids, int ntids,
									uint16 *which);
extern void alex_dead_filter_free(AlexDeadFilter *filter);

/* Callbacks, each in the file named after it */
extern IndexBuildResult *alex_build(Relation heap, Relation index,
									IndexInfo *index_info);
extern void alex_build_empty(Relation index);
extern char *alex_build_phase_name(int64 phase);
extern bool alex_insert(Relation index, Datum *values, bool *isnull,
						ItemPointer tid, Relation heap,
						IndexUniqueCheck check_unique, bool index_unchanged,
						IndexInfo *index_info);
extern IndexBulkDeleteResult *alex_bulk_delete(IndexVacuumInfo *info,
											   IndexBulkDeleteResult *stats,
											   IndexBulkDeleteCallback callback,
											   void *callback_state);
extern IndexBulkDeleteResult *alex_vacuum_cleanup(IndexVacuumInfo *info,
												  IndexBulkDeleteResult *stats);
extern bool alex_can_return(Relation index, int attribute);
extern void alex_cost_estimate(struct PlannerInfo *root, struct IndexPath *path,
							   double loop_count, Cost *startup_cost,
							   Cost *total_cost, Selectivity *selectivity,
							   double *correlation, double *pages);
/* May some rows of the table be hidden from whoever sees the plan? */
extern bool alex_may_hide_rows(struct PlannerInfo *root, unsigned int relid);
extern bytea *alex_options(Datum reloptions, bool validate);
extern bool alex_validate(Oid opclass);
extern IndexScanDesc alex_begin_scan(Relation index, int nkeys, int norderbys);
extern void alex_rescan(IndexScanDesc scan, ScanKey keys, int nkeys,
						ScanKey orderbys, int norderbys);
extern bool alex_get_tuple(IndexScanDesc scan, ScanDirection direction);
extern int64 alex_get_bitmap(IndexScanDesc scan, TIDBitmap *bitmap);
extern void alex_end_scan(IndexScanDesc scan);
extern void alex_mark_position(IndexScanDesc scan);
extern void alex_restore_position(IndexScanDesc scan);
extern Size alex_estimate_parallel_scan(void);
extern void alex_init_parallel_scan(void *target);
extern void alex_parallel_rescan(IndexScanDesc scan);

/*
 * estimate.c: how many entries would a scan with these keys read?  False when
 * that cannot be told.
 */
extern bool alex_estimate_entries(Relation index, ScanKey keys, int nkeys,
								  double *entries);

/*
 * Between which lanes are all keys, dead ones perhaps included?  *least is
 * greater than *greatest where that is not known.  False without a snapshot.
 */
extern bool alex_estimate_ends(Relation index, int64 *least, int64 *greatest);

/* statistics.c: histograms that reach to where the keys of an index end */
extern void alex_statistics_init(void);

/*
 * ---------------------------------------------------------------------
 * pending.c: entries of this transaction that wait in the backend
 * ---------------------------------------------------------------------
 */
typedef struct AlexPendingBatch AlexPendingBatch;

/* Entries that wait in all batches. */
extern uint64 alex_pending_total;
/* Changes when batches are thrown away: at the end of a transaction. */
extern uint64 alex_pending_epoch;

/* Installs callbacks; called when the library is preloaded. */
extern void alex_pending_init(void);

/* scan.c: places of readers go with resource owners */
extern void alex_scan_init(void);

/* commands.c: likewise for hooks; and what they know */
extern void alex_commands_init(void);
extern bool alex_commands_let_entries_wait(void);

/* May an entry of a plain index wait now? */
extern bool alex_pending_is_allowed(void);

/* The index's batch, made if there is none; valid while the epoch is. */
extern AlexPendingBatch *alex_pending_batch(Relation index);

/*
 * Adds an entry.  May flush, and raise whatever can go wrong then; the entry
 * has not been added in that case.
 */
extern void alex_pending_add(AlexPendingBatch *batch, AlexLogEntry entry);

/*
 * The same in two steps: what may flush or fail, outside of any lock; and what
 * does neither, for the one entry that the former has made room for.
 */
extern void alex_pending_reserve(AlexPendingBatch *batch);
extern void alex_pending_put(AlexPendingBatch *batch, AlexLogEntry entry);

/*
 * Where a unique index's batch claims the keys of its entries; NULL if no
 * place is free.
 */
extern AlexClaims *alex_pending_claims(AlexPendingBatch *batch,
									   Relation index);

/*
 * Flush: one batch; all; or the index's, if that snapshot may see a row of
 * it (NULL: any snapshot).  No lock may be held that log or runs need.
 */
extern void alex_pending_flush(AlexPendingBatch *batch);
extern void alex_pending_flush_all(void);
extern void alex_pending_flush_for_scan(Relation index, Snapshot snapshot);

/* Drops what waits for the index: it is being built anew in its old file. */
extern void alex_pending_forget(Relation index);

/*
 * ---------------------------------------------------------------------
 * maintenance: seal.c, compact.c, sweep.c
 * ---------------------------------------------------------------------
 *
 * Heavyweight page locks of the index order it: the maintenance lock (VACUUM,
 * compaction), the seal lock (seal, VACUUM's pass over the log), and the run
 * lock, which those share who write runs while they hold neither of the
 * others.  Foreground code only ever tries for them (hazard H17).
 */
#define ALEX_MAINTENANCE_LOCK	0	/* LockPage block numbers */
#define ALEX_SEAL_LOCK			1
#define ALEX_RUN_LOCK			2

/*
 * With so many runs in the manifest, retired ones included, inserters do not seal
 * any more, and with so many retired ones nobody merges: what is left of its room
 * is for VACUUM's seals.
 */
#define ALEX_MANY_LISTED_RUNS	1024

/*
 * Seals the frozen generation, if there is one, and then the active one if
 * it has at least "minimum" entries; neither if the manifest has no room.
 * Caller holds the seal lock.
 */
extern void alex_seal(Relation index, uint64 minimum);

/*
 * drop_dead.c: leaving out dead entries when runs are written.
 *
 * "generation" is the sealed one, or 0 when runs are merged.  The entries of
 * a run are added in order, between "start" and "flush"; dead ones do not come
 * to the writer.  "end" returns how many were left out, and sets *conflict to
 * what the record that lists the runs must carry.
 */
typedef struct AlexDropper AlexDropper;

extern AlexDropper *alex_dropper_begin(Relation index, uint64 generation,
									   uint64 expected);
extern void alex_dropper_start(AlexDropper *dropper, AlexRunWriter *writer,
							   AlexPart part);
extern void alex_dropper_add(AlexDropper *dropper, uint64 key, uint64 tid,
							 bool hinted);
/* Entries that have not come to the writer yet. */
extern Size alex_dropper_pending(const AlexDropper *dropper);
extern void alex_dropper_flush(AlexDropper *dropper);
extern uint64 alex_dropper_end(AlexDropper *dropper,
							   FullTransactionId *conflict);

/*
 * Moves to the front of the live runs of one part an old run of which many
 * rows have been replaced by newer versions, and the runs that have these, and
 * returns their number; 0 if there is no such run.  If most of it is dead, it
 * is moved there alone, and is *suspect.  Changes the order of the others.
 * Caller holds the maintenance lock: it looks up TIDs of runs in the heap,
 * which VACUUM must not free meanwhile.
 */
extern int	alex_choose_churned(Relation index, const AlexManifest *manifest,
								const AlexRun **runs, int nruns,
								const AlexRun **suspect);

/*
 * Should a new run, of which part, entries, min and max are known, have a
 * Bloom filter?  "replaced" are the runs that go when it comes.
 */
extern bool alex_is_bloom_worthwhile(const AlexManifest *manifest,
									 const AlexRun *new_run,
									 const AlexRun **replaced, int nreplaced);

/* So many entries are worth runs of their own, rather than room in the log. */
extern uint64 alex_log_limit(Relation index);

/* Is a batch so large that it must not go through the log? */
extern bool alex_is_large_batch(Relation index, Size nentries);

/* Tries for the seal lock and seals; for the inserter. */
extern void alex_try_seal(Relation index, uint64 minimum);

/*
 * Makes runs of entries that are in no log: of each part, sorted and
 * distinct.  False, and nothing was done, when it is not possible now.
 * *installed is set in the critical section that lists the runs: if it is
 * set after an error, the entries are in the index all the same.
 */
extern bool alex_direct_seal(Relation index,
							 AlexEntry *const entries[ALEX_PARTS],
							 const Size nentries[ALEX_PARTS],
							 bool *installed);

/*
 * What inserters do when many runs have come together.  For whoever has just
 * added some, and holds no page lock.
 */
extern void alex_relieve(Relation index);

/*
 * With more live runs of a part than this, inserters compact, if nobody else
 * is at it.
 */
#define ALEX_MANY_RUNS			12

/*
 * Merges or concatenates runs.  Caller holds the maintenance lock.
 *
 * alex_compact_all: all of them, into one run of each part.
 *
 * alex_compact_step: a slice of those that the policy finds due; false when
 * nothing is, or when too many retired pages wait for their time.  "ranges" says
 * that range scans read the index.  If it fails, "written" lists pages to be
 * freed.
 *
 * alex_compact_due: removes retired runs whose time has come, and compacts step by
 * step until nothing is due.
 *
 * If alex_compact_all or alex_compact_due fails, the next call of one of them by
 * this process frees what was written, if it is for the same index; else VACUUM
 * does.
 */
extern void alex_compact_all(Relation index);
extern bool alex_compact_step(Relation index, bool ranges,
							  AlexWrittenPages *written);
extern void alex_compact_due(Relation index);

/*
 * Takes retired runs that no scan can follow any more out of the manifest
 * and frees their pages.  Caller holds the maintenance lock.  True if none
 * are left.
 */
extern bool alex_remove_retired(Relation index);

/* The safexids of the retired runs; invalid if there are none. */
extern void alex_retired_range(Relation index, FullTransactionId *oldest,
							   FullTransactionId *newest);

/*
 * Finds pages that nothing refers to, frees orphans, and enters free pages
 * in the FSM.  Caller holds the maintenance and the seal lock.  Returns the
 * number of free pages.
 */
extern BlockNumber alex_sweep(Relation index);

/*
 * ---------------------------------------------------------------------
 * activity.c: what maintenance has done on an index since the server started
 * ---------------------------------------------------------------------
 */
typedef struct AlexCounters
{
	uint64		seals;
	uint64		entries_sealed;
	uint64		compactions;
	uint64		entries_rewritten;	/* by compactions */
	uint64		entries_dropped;
	uint64		pages_written;	/* by compactions */
} AlexCounters;

extern Size alex_activity_shmem_size(void);
extern void alex_activity_shmem_init(void);
extern void alex_count_sealed(Relation index, uint64 entries);
extern void alex_count_compaction(Relation index, uint64 rewritten,
								  uint64 dropped, uint64 pages);
extern void alex_counters_read(Relation index, AlexCounters *counters);

/*
 * Asks for compaction in the background; false if there is nobody to ask.
 * "urgent": without regard to the cost limit.
 */
extern bool alex_request_compaction(Relation index, bool urgent);

/* Asks once more, if somebody has asked before; raises no error. */
extern void alex_request_again(RelFileNode node);

#endif							/* ALEX_AM_H */
