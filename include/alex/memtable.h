/*-------------------------------------------------------------------------
 *
 * memtable.h
 *	  The memtable room: the shared arena, the registry of indexes whose log
 *	  is held in it, loading and catching up from the log, appending to log
 *	  and memtable together, and the view that a scan takes.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/memtable.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_MEMTABLE_H
#define ALEX_MEMTABLE_H

#include "access/genam.h"
#include "alex/store.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/* A generation in the arena: its entries as of "applied" in its log. */
typedef struct AlexMemtableGeneration
{
	uint64		generation;		/* 0: none */
	AlexLogPosition applied;
	AlexTree	trees[ALEX_PARTS];
	uint64		hinted[ALEX_PARTS]; /* entries not in the trees, but live in
									 * the log, as scans found them dead */
} AlexMemtableGeneration;

#define ALEX_ACTIVE				0
#define ALEX_FROZEN				1

typedef enum AlexMemtableState
{
	ALEX_MEMTABLE_UNLOADED,		/* must be loaded from the log before use */
	ALEX_MEMTABLE_LOADING,		/* one backend is at it; others wait */
	ALEX_MEMTABLE_READY
} AlexMemtableState;

/* What "content" reads while the memtable cannot be trusted. */
#define ALEX_CONTENT_UNREADY	PG_UINT64_MAX

/* The bit of a run in "hinted_runs". */
#define ALEX_HINTED_RUN(run)	(UINT64CONST(1) << ((run) % 64))

/*
 * One index's place in the registry, in shared memory.  The first three
 * atomics are written under the lock and may be read without it, see
 * alex_view_take.
 */
typedef struct AlexMemtable
{
	pg_atomic_uint64 tenure;	/* number of this occupancy, never reused */
	pg_atomic_uint64 manifest_version;
	pg_atomic_uint64 content;	/* entries of both generations */
	pg_atomic_uint64 hinted_runs;	/* whose entries may have hints */
	pg_atomic_uint64 last_used; /* for eviction */
	pg_atomic_uint32 range_scans;	/* how many lately; for compaction */
	LWLock		lock;
	/* the rest is protected by the lock */
	bool		occupied;
	RelFileNodeBackend node;
	uint64		database_birth; /* databases may have had namesakes */
	uint64		incarnation;
	uint64		dead_epoch;
	AlexMemtableState state;
	bool		in_recovery;	/* loaded on a standby: behind its log unless
								 * compared with it */
	bool		missed_change;	/* while loading: the loader must start again */
	bool		no_room;		/* the arena could not take the log's entries */
	uint64		versions;		/* of the active generation's entries about so
								 * many are of new versions of rows */
	uint64		run_pages;		/* leaf pages of live runs; 0 if not known */
	ConditionVariable loaded;
	AlexMemtableGeneration generations[2];	/* ALEX_ACTIVE, ALEX_FROZEN */
} AlexMemtable;

/* arena.c */
extern Size alex_arena_shmem_size(void);
extern void alex_arena_shmem_init(void);
extern AlexChunks *alex_arena_chunks(void);

/* registry.c */
extern Size alex_registry_shmem_size(void);
extern void alex_registry_shmem_init(void);

/*
 * The index's memtable, entered in the registry if it was not there (another
 * that is idle may be evicted for it); NULL when the registry has no room.
 * *tenure tells this occupancy from later ones.
 */
extern AlexMemtable *alex_registry_attach(Relation index, uint64 incarnation,
										  uint64 *tenure);

/*
 * The index's memtable with its lock held exclusively, or NULL.  Raises no
 * error; may be called in a critical section and with buffer locks held.
 */
extern AlexMemtable *alex_registry_lock(Relation index);

/*
 * Is a locked memtable that of this incarnation in this database?  It may be
 * of a namesake, whose entries say nothing about the index (H10).
 */
extern bool alex_memtable_is_of(const AlexMemtable *memtable,
								uint64 incarnation);

/* Notes that the memtable is in use. */
extern void alex_registry_touch(AlexMemtable *memtable);

/*
 * Have range scans read the index lately?  "forget" halves their number, so
 * that those of old do not count for ever.
 */
extern bool alex_range_scans(Relation index, bool forget);

/* Forgets what is held for a relation file, whatever incarnation. */
extern void alex_registry_forget(Relation index);

/* Frees arena memory by unloading an idle memtable; false if none could be. */
extern bool alex_registry_evict(const AlexMemtable *not_this);

/* Throws the entries away; caller holds the lock exclusively. */
extern void alex_memtable_unload(AlexMemtable *memtable);
/* Recomputes "content"; caller holds the lock exclusively. */
extern void alex_memtable_publish(AlexMemtable *memtable);

/*
 * ---------------------------------------------------------------------
 * view.c: what a scan sees
 * ---------------------------------------------------------------------
 */

/* A manifest shared by the views that were taken of it in this backend. */
typedef struct AlexSharedManifest
{
	int			references;
	MemoryContext context;
	AlexManifest *manifest;
} AlexSharedManifest;

/* A sorted copy of a log, for when the arena has no room. */
typedef struct AlexPrivateLog
{
	int			references;
	MemoryContext context;
	uint64		generations[2];
	AlexLogPosition positions[2];
	uint64		dead_epoch;
	uint64		incarnation;
	AlexEntry  *entries[2][ALEX_PARTS];
	Size		nentries[2][ALEX_PARTS];
} AlexPrivateLog;

/* What this backend knows of an index; looked up once a scan. */
typedef struct AlexLocal
{
	RelFileNodeBackend node;	/* hash key */
	int			references;
	uint64		last_used;
	uint64		incarnation;	/* 0: nothing known yet */
	AlexMemtable *memtable;		/* NULL: none */
	uint64		tenure;
	AlexSharedManifest *manifest;
	AlexPrivateLog *private_log;
	AlexLogPosition tail;		/* where it appended last; only a hint */
	Buffer		tail_buffer;	/* likewise */
} AlexLocal;

typedef struct AlexView
{
	AlexSharedManifest *shared; /* NULL: no view taken */
	AlexManifest *manifest;		/* shared->manifest */
	AlexPrivateLog *private_log;	/* NULL: read the shared memtable */
	bool		memtable_empty; /* nothing in either generation */
} AlexView;

/*
 * Counts a scan of more than one key.  The number goes no further than it
 * takes to be remembered for a while, so that scans do not keep writing to the
 * line that all readers of the memtable share.
 */
#define ALEX_MANY_RANGE_SCANS	64

static inline void
alex_count_range_scan(AlexLocal *local)
{
	if (local->memtable != NULL &&
		pg_atomic_read_u32(&local->memtable->range_scans) < ALEX_MANY_RANGE_SCANS)
		pg_atomic_fetch_add_u32(&local->memtable->range_scans, 1);
}

/* Takes and gives back a reference; release may be called at any time. */
extern AlexLocal *alex_local_acquire(Relation index);
extern void alex_local_release(AlexLocal *local);

/* Finds the index's place in the registry, for a backend that only inserts. */
extern void alex_local_attach(AlexLocal *local, Relation index);

/*
 * One consistent pair of manifest and memtable state.  Includes every entry
 * whose insertion ended before the call.
 */
extern void alex_view_take(AlexLocal *local, Relation index, AlexView *view);
extern void alex_view_release(AlexView *view);

/*
 * Makes a view that was taken before a fresh one, where that takes no more
 * than finding that the manifest is the same; false where it takes more.
 */
extern bool alex_view_renew(AlexLocal *local, AlexView *view);

/*
 * A view for estimates: the manifest is right, but the memtable may not be
 * loaded, and is not made to be.
 */
extern void alex_view_glance(AlexLocal *local, Relation index, AlexView *view);

/*
 * When entries were read from the memtable: what is known of them holds for
 * their equals in the memtable until one of these changes.
 */
typedef struct AlexMoment
{
	uint64		tenure;			/* 0: they were not read from there */
	uint64		dead_epoch;
} AlexMoment;

/*
 * Reads up to max entries of one part of one generation of the view, in the
 * direction asked for, after (or from) position "from".  Fewer than max mean
 * the end.  Returns -1 when the generation has been sealed since: its entries
 * are then in the runs of that generation in the current manifest.
 */
extern int	alex_view_read(AlexLocal *local, Relation index, AlexView *view,
						   uint64 generation, AlexPart part, AlexEntry from,
						   bool inclusive, bool forward,
						   AlexEntry *out, int max, AlexMoment *moment);

/*
 * Skips entries of one part of one generation, as alex_tree_skip does.  False
 * also when the generation is not there any more.
 */
extern bool alex_view_skip(AlexLocal *local, const AlexView *view,
						   uint64 generation, AlexPart part, AlexEntry from,
						   bool forward, uint64 count, AlexEntry *boundary);

/*
 * The number of entries in [low, high) of one part of one generation, roughly.
 * False when it is not to be had.
 */
extern bool alex_view_count(AlexLocal *local, Relation index,
							const AlexView *view, uint64 generation,
							AlexPart part, AlexEntry low, AlexEntry high,
							double *count);

/*
 * The first and the last entry of one part of one generation.  False where it
 * has none, or when they are not to be had.
 */
extern bool alex_view_ends(AlexLocal *local, Relation index,
						   const AlexView *view, uint64 generation,
						   AlexPart part, AlexEntry *first, AlexEntry *last);

/*
 * Reads the first entries, up to max, that a generation of the view has of each
 * of several keys, not NULLs, as alex_tree_scan_keys does.  False when they are
 * not to be had, because the generation has been sealed or the memtable evicted.
 */
extern bool alex_view_read_keys(AlexLocal *local, const AlexView *view,
								uint64 generation, const uint64 *keys,
								int nkeys, AlexEntry *out, int max,
								uint8 *counts, AlexMoment *moment);

/* Runs (see ALEX_HINTED_RUN) of whose entries some may be hinted as dead. */
static inline uint64
alex_local_hinted_runs(const AlexLocal *local)
{
	return local->memtable == NULL ? 0 :
		pg_atomic_read_u64(&local->memtable->hinted_runs);
}

/* append.c */

/*
 * Appends entries to the log and puts them into the memtable.  Returns the
 * number of entries from which the generation should be sealed when it has
 * just grown past it, else 0.
 *
 * *appended grows with each page by the entries that it took, in the page's
 * critical section: after an error it tells how many of them are in the
 * index, and the others are not (hazard H18).
 */
extern uint64 alex_append(Relation index, AlexLocal *local,
						  const AlexLogEntry *entries, Size nentries,
						  Size *appended);

/* A log that has more entries takes more than an eighth of the runs' room. */
#define ALEX_LOG_SHARE(leaf_pages) \
	((uint64) (leaf_pages) * ALEX_LOG_PAGE_ENTRIES / 8)
/* When the arena is full, or VACUUM comes, so many entries are worth a run. */
#define ALEX_MIN_SEALED			8192

/*
 * Puts entries that are being appended to the log behind position "before"
 * into the memtable, whose lock the caller holds exclusively, as it does the
 * log page's.  Unloads the memtable when it cannot take them; raises no
 * error.
 */
extern bool alex_memtable_apply(AlexMemtable *memtable, uint64 generation,
								const AlexLogPosition *before,
								const AlexLogEntry *entries, int nentries);

/*
 * What the maintenance operations tell the memtable; called with the
 * metapage locked exclusively, in a critical section, lock taken here.
 */
extern void alex_memtable_frozen(Relation index, const AlexManifest *manifest,
								 uint32 tail_count);
extern void alex_memtable_installed(Relation index,
									const AlexManifest *manifest);
extern void alex_memtable_changed(Relation index,
								  const AlexManifest *manifest);
/* Rows were updated whose indexed column was not: old entries will be dead. */
extern void alex_memtable_note_versions(Relation index, uint64 nrows);
/* VACUUM marked these entries dead in a log page that it holds locked. */
extern void alex_memtable_delete(Relation index, uint64 generation,
								 const AlexLogEntry *entries, int nentries);

/* load.c */

/*
 * Brings the index's memtable up to its log.  True: it is (or was, a moment
 * ago) ready and complete; false: there is no room for it in the arena, or
 * no memtable at all.  Takes no lock on entry; raises errors of the store.
 */
extern bool alex_memtable_load(AlexLocal *local, Relation index);

/*
 * Compares a memtable that this backend has not used before with the index's
 * log, and unloads it when it does not match (hazard H10).
 */
extern void alex_memtable_verify(AlexMemtable *memtable, uint64 tenure,
								 Relation index);

/*
 * ---------------------------------------------------------------------
 * hints.c: entries that scans found dead to all
 * ---------------------------------------------------------------------
 *
 * For scans whose tuples' horizon is that of this server: not in recovery,
 * nor in transactions that began in it.
 */
extern Size alex_hints_shmem_size(void);
extern void alex_hints_shmem_init(void);

/* Notes that entries of a run are dead, by slots of a leaf page, ascending. */
extern void alex_hints_set(Relation index, AlexLocal *local, uint64 run,
						   uint64 stamp, const uint16 *slots, int nslots);

/*
 * Which of the slots [first, first + count), at most ALEX_LEAF_BLOCK, are
 * noted as dead, in hinted[2]; false if none are.
 */
extern bool alex_hints_get(Relation index, uint64 stamp, int first, int count,
						   uint64 *hinted);

/* The first slot in [from, end) that is not noted as dead, or end. */
extern int	alex_hints_skip_forward(Relation index, uint64 stamp, int from,
									int end);

/* Likewise backward: the end of the slots before "from" up to such a one. */
extern int	alex_hints_skip_backward(Relation index, uint64 stamp, int from);

/*
 * Takes entries that were found dead out of the memtable, unless they may
 * have been removed since "moment" and others like them inserted.
 */
extern void alex_hints_delete(AlexLocal *local, uint64 generation,
							  AlexPart part, const AlexMoment *moment,
							  const AlexEntry *entries, int nentries);

/*
 * Sets "flag" for those of a frozen generation's sorted entries that scans
 * found dead, as far as the memtable knows.  False if there are none.
 */
extern bool alex_hints_find(Relation index, uint64 generation, AlexPart part,
							const AlexEntry *entries, Size nentries,
							uint8 *flags, uint8 flag);

/* The runs (see ALEX_HINTED_RUN) of an index that may have hints. */
extern uint64 alex_hints_runs(Relation index);

/* private_log.c */

/*
 * A sorted copy of the log as it is now: "cached" with one more reference
 * when that is still true, else a new one with one reference.  *manifest is
 * replaced by the manifest that belongs to it.
 */
extern AlexPrivateLog *alex_private_log(Relation index,
										AlexPrivateLog *cached,
										AlexManifest **manifest);

/* Is a copy that was made before still what the log holds? */
extern bool alex_private_log_is_current(Relation index,
										const AlexPrivateLog *log,
										const AlexManifest *manifest);

/*
 * Reads a chain from *position on and sorts its entries, those marked dead
 * left out, by part into arrays that are palloc'd (huge) in "context".
 * Returns false when the chain is gone; then nothing is allocated.
 */
extern bool alex_log_collect(Relation index, const AlexLogChain *chain,
							 AlexLogPosition *position, MemoryContext context,
							 AlexEntry **entries, Size *nentries);
extern void alex_private_log_release(AlexPrivateLog *log);
extern int	alex_private_log_read(AlexPrivateLog *log, uint64 generation,
								  AlexPart part, AlexEntry from,
								  bool inclusive, bool forward,
								  AlexEntry *out, int max);
extern bool alex_private_log_skip(const AlexPrivateLog *log, uint64 generation,
								  AlexPart part, AlexEntry from, bool forward,
								  uint64 count, AlexEntry *boundary);

/*
 * readers.c: scans whose TIDs VACUUM must not let be reused
 *
 * enter and leave nest; try_enter fails when this backend is inside already.
 * move says that a scan has done with all TIDs that it read so far; only for
 * whoever entered by try_enter.  These two say on which leaf page the TIDs are
 * that it will read until it moves or leaves.  Who leaves tells whether it is the
 * one that was inside first, as enter returned, and try_enter when it succeeded.
 * leave raises no error.
 */
#define ALEX_READER_ANYWHERE	InvalidBlockNumber

extern Size alex_readers_shmem_size(void);
extern void alex_readers_shmem_init(void);
extern bool alex_readers_enter(Relation index);
extern bool alex_readers_try_enter(Relation index, BlockNumber block);
extern void alex_readers_move(BlockNumber block);
extern void alex_readers_leave(bool outermost);
/* Is this backend inside an index? */
extern bool alex_readers_are_inside(void);

/*
 * Waits until everybody who was inside the index, other than on a leaf page that
 * is not in the bitmap of blocks, has moved or left.  NULL: on any page.
 */
extern void alex_readers_wait(Relation index, const uint8 *blocks,
							  BlockNumber nblocks);

/*
 * ---------------------------------------------------------------------
 * claims.c: keys of unique indexes whose entries wait in some backend
 * ---------------------------------------------------------------------
 */
typedef struct AlexClaims AlexClaims;

extern Size alex_claims_shmem_size(void);
extern void alex_claims_shmem_init(void);

/* A place for this backend's claims in an index, or NULL; and its end. */
extern AlexClaims *alex_claims_begin(Relation index);
extern void alex_claims_end(AlexClaims *claims);

/* Claims a key for a row.  False: there is no memory for that. */
extern bool alex_claims_add(AlexClaims *claims, AlexPart part,
							AlexEntry entry);

/* Takes claims back; those that are not there any more do not matter. */
extern void alex_claims_remove(AlexClaims *claims, const AlexLogEntry *entries,
							   Size nentries);

/* Has any backend claimed a key in the closed interval? */
extern bool alex_claims_have(Relation index, AlexPart part, uint64 low,
							 uint64 high);

/*
 * Visits all claims of keys in the interval, with no lock held, until the
 * visitor returns false; then so does this.
 */
typedef bool (*AlexClaimVisitor) (AlexEntry entry, void *context);
extern bool alex_claims_visit(Relation index, AlexPart part, uint64 low,
							  uint64 high, AlexClaimVisitor visit,
							  void *context);

/* Takes away the claims of rows that VACUUM is about to remove. */
extern void alex_claims_vacuum(Relation index,
							   IndexBulkDeleteCallback callback,
							   void *callback_state);

#endif							/* ALEX_MEMTABLE_H */
