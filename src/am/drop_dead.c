/*-------------------------------------------------------------------------
 *
 * drop_dead.c
 *	  Leaving out dead entries when a run is written.
 *
 * Where rows are updated over and over, most entries of a generation, and of
 * runs that are merged, lead to row versions that nobody sees any more.  While
 * they are being rewritten in any case it takes only a visit to the heap to
 * leave them out.  What can be left out is for the table access method to say
 * (table_index_delete_tuples): an entry none of whose tuples anybody can see,
 * now or ever.  The newest transaction that this rests on goes into the WAL
 * record that lists the new run, and redo on a standby waits for, or cancels,
 * queries with an older snapshot, as for the deletions of a btree.
 *
 * Whoever writes the run must keep VACUUM from the entries meanwhile (by the
 * seal lock for those of the log, by the maintenance lock for those of runs):
 * then no TID of an entry without dead bit can be given to another row.
 *
 * Visiting the heap for every entry would cost far more than writing it.  The
 * candidates are entries that scans have found dead (hints.c), and entries
 * that share their key with others, as the versions of a row do when the
 * indexed column is not what was updated.  The latter may as well be
 * duplicates, so a sample is looked at first, and the others only if a good
 * part of the sample is dead.  Entries pass through a buffer, and candidates
 * are visited in the heap's order.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/drop_dead.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "alex/am.h"
#include "alex/merge.h"

/* Entries that pass through the buffer at a time. */
#define BUFFER_MIN				1024
#define BUFFER_MAX				(512 * 1024)
/* Candidates that the table access method is given at a time. */
#define BATCH_CANDIDATES		1024
/* So many of the candidates that may be duplicates are looked at first. */
#define SAMPLE					256
/* The others, too, if one in so many was dead. */
#define DEAD_FRACTION			8
/* A run is churned if one in so many of its rows have been replaced. */
#define CHURN_FRACTION			4
#define CHURN_SAMPLE			64
/* No more than so many runs, the largest, are taken for one. */
#define CHURN_RUNS				ALEX_MANY_RUNS

/* What is known of an entry in the buffer. */
#define ENTRY_HINTED			0x01
#define ENTRY_DEAD				0x02

struct AlexDropper
{
	Relation	index;
	Relation	heap;
	uint64		generation;		/* that the entries were in; 0: in runs */
	MemoryContext context;
	IndexFetchTableData *fetch; /* NULL until something is looked at */
	TupleTableSlot *slot;
	TransactionId horizon;		/* newest one that made a dropped entry dead */
	uint64		ndropped;

	/* the run that is being written */
	AlexRunWriter *writer;
	AlexPart	part;

	/* entries that have not been written yet */
	AlexEntry  *entries;
	uint8	   *flags;
	Size		nentries;
	Size		room;
	bool		any_hinted;		/* some of them are */
	bool		any_equal;		/* some have the same key as others */

	/* duplicates are not worth a look in so many of the next buffers */
	int			pause;
	int			next_pause;

	/* working space: candidates as (TID, position in the buffer) */
	AlexEntry  *candidates;
	AlexEntry  *scratch;
	Size		ncandidates;
	Size		candidates_room;
};

AlexDropper *
alex_dropper_begin(Relation index, uint64 generation, uint64 expected)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam dead entries",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	AlexDropper *dropper = palloc0(sizeof(AlexDropper));

	dropper->index = index;
	dropper->generation = generation;
	dropper->context = context;
	dropper->horizon = InvalidTransactionId;
	dropper->room = Max(Min(expected, BUFFER_MAX), BUFFER_MIN);
	dropper->entries = palloc(dropper->room * sizeof(AlexEntry));
	dropper->flags = palloc(dropper->room);
	dropper->next_pause = 1;

	/* whoever writes to the index has locked the table */
	dropper->heap = table_open(index->rd_index->indrelid, AccessShareLock);
	MemoryContextSwitchTo(old_context);

	return dropper;
}

void
alex_dropper_start(AlexDropper *dropper, AlexRunWriter *writer, AlexPart part)
{
	Assert(dropper->nentries == 0);
	dropper->writer = writer;
	dropper->part = part;
}

static void
prepare_fetch(AlexDropper *dropper)
{
	MemoryContext old_context;

	if (dropper->fetch != NULL)
		return;

	/* makes the horizon that GlobalVisTestFor goes by that of now (H22) */
	(void) GetOldestNonRemovableTransactionId(dropper->heap);

	old_context = MemoryContextSwitchTo(dropper->context);
	dropper->fetch = table_index_fetch_begin(dropper->heap);
	dropper->slot = table_slot_create(dropper->heap, NULL);
	MemoryContextSwitchTo(old_context);
}

static inline void
set_tid(ItemPointer pointer, uint64 tid)
{
	ItemPointerSet(pointer, ALEX_TID_BLOCK(tid), ALEX_TID_OFFSET(tid));
}

/* Are all tuples of an entry dead to all? */
static bool
is_dead(AlexDropper *dropper, uint64 tid, SnapshotData *snapshot)
{
	ItemPointerData pointer;
	bool		call_again = false;
	bool		found;

	set_tid(&pointer, tid);
	found = table_index_fetch_tuple(dropper->fetch, &pointer, snapshot,
									dropper->slot, &call_again, NULL);
	ExecClearTuple(dropper->slot);
	return !found;
}

/*
 * Looks at a batch of candidates, which are in order of their TIDs, and flags
 * the dead ones.  Returns how many are dead.
 */
static Size
check_batch(AlexDropper *dropper, const AlexEntry *candidates, int n)
{
	TM_IndexDelete deletes[BATCH_CANDIDATES];
	TM_IndexStatus status[BATCH_CANDIDATES];
	TM_IndexDeleteOp operation;
	SnapshotData snapshot;
	TransactionId horizon;
	Size		ndead = 0;

	prepare_fetch(dropper);
	InitNonVacuumableSnapshot(snapshot, GlobalVisTestFor(dropper->heap));

	/*
	 * What is handed to table_index_delete_tuples must have an entry that is
	 * known to be dead: find the first one.
	 */
	while (n > 0 && !is_dead(dropper, candidates->key, &snapshot))
	{
		candidates++;
		n--;
	}
	table_index_fetch_reset(dropper->fetch);
	if (n == 0)
		return 0;

	for (int i = 0; i < n; i++)
	{
		set_tid(&deletes[i].tid, candidates[i].key);
		deletes[i].id = i;
		status[i].idxoffnum = FirstOffsetNumber;	/* for error messages */
		status[i].knowndeletable = (i == 0);
		status[i].promising = false;
		status[i].freespace = 0;
	}
	operation.irel = dropper->index;
	operation.iblknum = ALEX_META_BLOCK;
	operation.bottomup = false;
	operation.bottomupfreespace = 0;
	operation.ndeltids = n;
	operation.deltids = deletes;
	operation.status = status;
	horizon = table_index_delete_tuples(dropper->heap, &operation);

	if (TransactionIdIsValid(horizon) &&
		(!TransactionIdIsValid(dropper->horizon) ||
		 TransactionIdFollows(horizon, dropper->horizon)))
		dropper->horizon = horizon;

	for (int i = 0; i < n; i++)
	{
		if (status[i].knowndeletable)
		{
			dropper->flags[candidates[i].tid] |= ENTRY_DEAD;
			ndead++;
		}
	}
	return ndead;
}

/* The same for any number of them. */
static Size
check_candidates(AlexDropper *dropper, const AlexEntry *candidates, Size n)
{
	Size		ndead = 0;

	for (Size i = 0; i < n; i += BATCH_CANDIDATES)
	{
		CHECK_FOR_INTERRUPTS();
		ndead += check_batch(dropper, candidates + i,
							 Min(n - i, BATCH_CANDIDATES));
	}
	return ndead;
}

static void
add_candidate(AlexDropper *dropper, Size position)
{
	AlexEntry  *candidate;

	if (dropper->ncandidates == dropper->candidates_room)
	{
		Size		room = Max(dropper->candidates_room * 2, BUFFER_MIN);
		Size		size = room * sizeof(AlexEntry);

		if (dropper->candidates == NULL)
		{
			dropper->candidates = MemoryContextAlloc(dropper->context, size);
			dropper->scratch = MemoryContextAlloc(dropper->context, size);
		}
		else
		{
			dropper->candidates = repalloc(dropper->candidates, size);
			pfree(dropper->scratch);
			dropper->scratch = MemoryContextAlloc(dropper->context, size);
		}
		dropper->candidates_room = room;
	}
	candidate = &dropper->candidates[dropper->ncandidates++];
	candidate->key = dropper->entries[position].tid;
	candidate->tid = position;
}

/* Puts the candidates in order of their TIDs, each of which is there once. */
static void
sort_candidates(AlexDropper *dropper)
{
	AlexEntry  *candidates = dropper->candidates;
	Size		n = 0;

	alex_sort(candidates, dropper->scratch, dropper->ncandidates);
	for (Size i = 0; i < dropper->ncandidates; i++)
	{
		if (n == 0 || candidates[n - 1].key != candidates[i].key)
			candidates[n++] = candidates[i];
	}
	dropper->ncandidates = n;
}

/* Looks at the entries that scans have found dead. */
static void
check_hinted(AlexDropper *dropper, Size n)
{
	dropper->ncandidates = 0;
	for (Size i = 0; i < n; i++)
	{
		if (dropper->flags[i] & ENTRY_HINTED)
			add_candidate(dropper, i);
	}
	sort_candidates(dropper);
	(void) check_candidates(dropper, dropper->candidates,
							dropper->ncandidates);
}

/*
 * Looks at a sample of the candidates, evenly spread over the heap, which are
 * taken out of the list.  True if enough of them are dead.
 */
static bool
check_sample(AlexDropper *dropper)
{
	AlexEntry	sample[SAMPLE];
	Size		left = 0;
	Size		n = 0;

	for (Size i = 0; i < dropper->ncandidates; i++)
	{
		/* the first one of each of SAMPLE equal parts of the list */
		if (n < SAMPLE && i == n * dropper->ncandidates / SAMPLE)
			sample[n++] = dropper->candidates[i];
		else
			dropper->candidates[left++] = dropper->candidates[i];
	}
	dropper->ncandidates = left;
	return check_candidates(dropper, sample, n) * DEAD_FRACTION >= n;
}

/* Looks at entries with equal keys, if that is worth it. */
static void
check_equal_keys(AlexDropper *dropper, Size n)
{
	Size		start = 0;

	if (dropper->pause > 0)
	{
		dropper->pause--;
		return;
	}

	dropper->ncandidates = 0;
	while (start < n)
	{
		uint64		key = dropper->entries[start].key;
		Size		end = start + 1;

		while (end < n && dropper->entries[end].key == key)
			end++;
		for (Size i = start; end - start > 1 && i < end; i++)
		{
			if ((dropper->flags[i] & ENTRY_HINTED) == 0)
				add_candidate(dropper, i);
		}
		start = end;
	}

	sort_candidates(dropper);
	if (dropper->ncandidates > SAMPLE && !check_sample(dropper))
	{
		dropper->pause = dropper->next_pause;
		dropper->next_pause = Min(dropper->next_pause * 2, 64);
		return;
	}
	dropper->next_pause = 1;
	(void) check_candidates(dropper, dropper->candidates,
							dropper->ncandidates);
}

/* Writes the first n entries of the buffer, the dead ones left out. */
static void
write_entries(AlexDropper *dropper, Size n)
{
	if (n == 0)
		return;
	if (dropper->generation != 0 &&
		alex_hints_find(dropper->index, dropper->generation, dropper->part,
						dropper->entries, n, dropper->flags, ENTRY_HINTED))
		dropper->any_hinted = true;
	if (dropper->any_hinted)
		check_hinted(dropper, n);
	if (dropper->any_equal)
		check_equal_keys(dropper, n);

	for (Size i = 0; i < n; i++)
	{
		if (dropper->flags[i] & ENTRY_DEAD)
			dropper->ndropped++;
		else
			alex_run_writer_add(dropper->writer, dropper->entries[i].key,
								dropper->entries[i].tid);
	}
	dropper->nentries -= n;
	memmove(dropper->entries, dropper->entries + n,
			dropper->nentries * sizeof(AlexEntry));
	memmove(dropper->flags, dropper->flags + n, dropper->nentries);
	dropper->any_hinted = dropper->nentries > 0 && dropper->any_hinted;
	dropper->any_equal = dropper->nentries > 1;
}

/*
 * Writes what is in the buffer, but for the entries with the last key, which
 * may go on: those with equal keys must be seen together.
 */
static void
make_room(AlexDropper *dropper)
{
	uint64		last_key = dropper->entries[dropper->nentries - 1].key;
	Size		n = dropper->nentries;

	while (n > 0 && dropper->entries[n - 1].key == last_key)
		n--;
	write_entries(dropper, n > 0 ? n : dropper->nentries);
}

void
alex_dropper_add(AlexDropper *dropper, uint64 key, uint64 tid, bool hinted)
{
	AlexEntry  *entry;

	if (unlikely(dropper->nentries == dropper->room))
		make_room(dropper);
	entry = &dropper->entries[dropper->nentries];
	entry->key = key;
	entry->tid = tid;
	dropper->any_equal |= dropper->nentries > 0 && entry[-1].key == key;
	dropper->any_hinted |= hinted;
	dropper->flags[dropper->nentries++] = hinted ? ENTRY_HINTED : 0;
}

Size
alex_dropper_pending(const AlexDropper *dropper)
{
	return dropper->nentries;
}

void
alex_dropper_flush(AlexDropper *dropper)
{
	write_entries(dropper, dropper->nentries);
}

/* The number that a recent transaction has with its epoch. */
static FullTransactionId
full_transaction_id(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}

uint64
alex_dropper_end(AlexDropper *dropper, FullTransactionId *conflict)
{
	uint64		ndropped = dropper->ndropped;

	Assert(dropper->nentries == 0);

	*conflict = InvalidFullTransactionId;
	if (TransactionIdIsNormal(dropper->horizon) && XLogStandbyInfoActive() &&
		RelationNeedsWAL(dropper->index))
		*conflict = full_transaction_id(dropper->horizon);

	if (dropper->fetch != NULL)
	{
		table_index_fetch_end(dropper->fetch);
		ExecDropSingleTupleTableSlot(dropper->slot);
	}
	table_close(dropper->heap, AccessShareLock);
	MemoryContextDelete(dropper->context);
	return ndropped;
}

/*
 * ---------------------------------------------------------------------
 * Runs of which much has been replaced
 * ---------------------------------------------------------------------
 */

/* Has the run a live entry with this key? */
static bool
has_key(AlexRunReader *run_reader, uint64 key)
{
	const AlexRun *run = run_reader->run;
	AlexPageReference leaf = ALEX_PAGE_REFERENCE_NONE;
	bool		found = false;

	/* a key that is not there mostly costs no leaf page */
	if (key < run->min.key || key > run->max.key ||
		!alex_run_may_contain(run_reader, key))
		return false;

	for (uint32 number = alex_run_find(run_reader, key, 0);
		 !found && number < run->leaf_pages; number++)
	{
		AlexFence	fence;
		int			slot;

		alex_run_fence(run_reader, number, &fence);
		if (fence.key > key)
			break;
		alex_page_open(run_reader->reader, fence.block, fence.stamp,
					   ALEX_PAGE_LEAF, run->id, false, &leaf);
		for (slot = alex_leaf_search(leaf.page, key, 0);
			 !found && slot < alex_leaf_count(leaf.page); slot++)
		{
			if (alex_leaf_key(leaf.page, slot) != key)
				break;
			found = !alex_leaf_is_dead(leaf.page, slot);
		}
		/* the key may go on, or begin, on the next page only at the end */
		if (slot < alex_leaf_count(leaf.page))
			break;
	}
	alex_page_close(&leaf);
	return found;
}

/* Takes some live entries of a run, evenly spread; returns how many. */
static int
take_sample(AlexReader *reader, const AlexRun *run, AlexEntry *sample)
{
	AlexPageReference leaf = ALEX_PAGE_REFERENCE_NONE;
	AlexRunReader run_reader;
	int			wanted = Min(run->entries, CHURN_SAMPLE);
	int			n = 0;

	alex_run_open(&run_reader, reader, run);
	for (int i = 0; i < wanted; i++)
	{
		uint64		place = (uint64) run->leaf_pages * i;
		AlexFence	fence;
		int			slot;

		alex_run_fence(&run_reader, place / wanted, &fence);
		alex_page_open(reader, fence.block, fence.stamp, ALEX_PAGE_LEAF,
					   run->id, false, &leaf);
		slot = place % wanted * alex_leaf_count(leaf.page) / wanted;
		if (alex_leaf_is_dead(leaf.page, slot))
			continue;
		sample[n].key = alex_leaf_key(leaf.page, slot);
		sample[n++].tid = alex_leaf_tid(leaf.page, slot);
	}
	alex_page_close(&leaf);
	alex_run_close(&run_reader);
	return n;
}

/* About how many entries of the run have keys that the other one has? */
static uint64
count_shared(AlexReader *reader, const AlexRun *run, const AlexRun *other)
{
	AlexEntry	sample[CHURN_SAMPLE];
	int			n = take_sample(reader, run, sample);
	int			nshared = 0;
	AlexRunReader run_reader;

	alex_run_open(&run_reader, reader, other);
	for (int i = 0; i < n; i++)
		nshared += has_key(&run_reader, sample[i].key);
	alex_run_close(&run_reader);
	return n == 0 ? 0 : run->entries * nshared / n;
}

/* About how many of CHURN_SAMPLE entries of the run are dead, by the heap? */
static int
sample_dead(Relation index, AlexReader *reader, const AlexRun *run)
{
	AlexDropper *dropper = alex_dropper_begin(index, 0, CHURN_SAMPLE);
	AlexEntry	sample[CHURN_SAMPLE];
	int			n = take_sample(reader, run, sample);
	FullTransactionId unused;
	Size		ndead;

	for (int i = 0; i < n; i++)
	{
		alex_dropper_add(dropper, sample[i].key, sample[i].tid, true);
		add_candidate(dropper, i);
	}
	sort_candidates(dropper);
	ndead = check_candidates(dropper, dropper->candidates,
							 dropper->ncandidates);
	dropper->nentries = 0;
	alex_dropper_end(dropper, &unused);
	return n == 0 ? 0 : ndead * CHURN_SAMPLE / n;
}

static inline bool
overlap(const AlexRun *r1, const AlexRun *r2)
{
	return r1->min.key <= r2->max.key && r2->min.key <= r1->max.key;
}

/*
 * Moves the run "which" to the front, and behind it those that share many keys
 * with it, which may be newer versions of its rows.  Returns how many these
 * are, or 0 if that is too little altogether to matter to it.
 */
static int
find_replacements(AlexReader *reader, const AlexRun **runs, int nruns,
				  int which)
{
	const AlexRun *run = runs[which];
	uint64		possible = 0;
	uint64		shared = 0;
	int			nfound = 0;

	runs[which] = runs[0];
	runs[0] = run;
	for (int i = 1; i < nruns; i++)
		possible += overlap(runs[i], run) ? runs[i]->entries : 0;
	if (possible * CHURN_FRACTION < run->entries)
		return 0;

	for (int i = 1; i < nruns; i++)
	{
		const AlexRun *other = runs[i];
		uint64		count;

		if (!overlap(other, run))
			continue;
		CHECK_FOR_INTERRUPTS();
		count = count_shared(reader, other, run);
		if (count * CHURN_FRACTION < other->entries)
			continue;
		shared += count;
		runs[i] = runs[nfound + 1];
		runs[++nfound] = other;
	}
	return shared * CHURN_FRACTION < run->entries ? 0 : nfound;
}

/*
 * Nothing is looked at in the heap before it is known that there are enough
 * other entries with the same keys.  Which of two runs has the older versions
 * is not known either, as a run that was merged while others came has younger
 * ones than these by its number only; so each run, the largest first, is taken
 * for the one that was replaced.  But each is compared with all others, which
 * inserters wait for when there are many runs.  Small ones are about to be
 * merged then in any case.
 */
int
alex_choose_churned(Relation index, const AlexManifest *manifest,
					const AlexRun **runs, int nruns,
					const AlexRun **suspect)
{
	AlexReader *reader;
	int			nchosen = 0;

	if (nruns < 2 || runs[0]->part != ALEX_PART_VALUES)
		return 0;

	reader = alex_reader_open(index, manifest->incarnation);
	for (int which = nruns - 1;
		 which >= Max(nruns - CHURN_RUNS, 0) && nchosen == 0; which--)
	{
		int			nfound;
		int			dead;

		qsort(runs, nruns, sizeof(AlexRun *), alex_compare_by_size);
		nfound = find_replacements(reader, runs, nruns, which);
		if (nfound == 0)
			continue;

		dead = sample_dead(index, reader, runs[0]);
		if (dead * 4 >= CHURN_SAMPLE * 3)
		{
			*suspect = runs[0];
			nchosen = 1;
		}
		else if (dead * CHURN_FRACTION >= CHURN_SAMPLE)
			nchosen = nfound + 1;
	}
	alex_reader_close(reader);
	return nchosen;
}
