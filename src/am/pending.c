/*-------------------------------------------------------------------------
 *
 * pending.c
 *	  Entries of this transaction that wait in the backend.
 *
 * Until a transaction commits nobody else sees its rows, so nobody misses
 * their entries.  An insertion into a plain index therefore only puts the
 * entry into an array of this backend, the index's batch.  A batch is sorted
 * and flushed as a whole: a small one to the log, a large one as runs of its
 * own.  It is flushed
 *
 * - when it has alexam.batch_size entries, or when all batches together take
 *	 more than alexam.batch_memory;
 * - before the transaction commits or is prepared;
 * - when a scan of the index begins whose snapshot may see one of its rows;
 * - before a utility command that may change, rebuild or look at the index;
 * - before a plan with parallel workers runs.
 *
 * Some entries may not wait at all, see alex_pending_is_allowed.
 *
 * Rolling back a subtransaction frees the TIDs of its rows, which VACUUM may
 * give to others while our transaction lives; so its entries are dropped at
 * once (hazard H3).  Subtransactions nest, and only the innermost one inserts.
 * So the entries of a subtransaction, and of those inside it that have been
 * released, are always the last of a batch, and a batch needs nothing but a
 * stack of the places at which subtransactions began ("levels").
 *
 * A batch belongs to one relation file of an index.  A command that gives the
 * index another file leaves the batch as it is.  If it commits, the entries
 * are not needed, as the new file was built from the table; if it is rolled
 * back, they are needed in the old one (hazard H6).  To keep others from
 * changing the index, the transaction holds its lock on it to the end.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/pending.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "alex/am.h"

/* A new batch has room for so many entries. */
#define FIRST_ROOM				32

typedef struct AlexPendingFrame AlexPendingFrame;

/* Where the entries of a subtransaction begin in a batch. */
typedef struct AlexPendingLevel
{
	AlexPendingBatch *batch;
	AlexPendingFrame *frame;	/* the subtransaction */
	Size		start;
	struct AlexPendingLevel *below; /* in the batch: of an outer one */
	struct AlexPendingLevel *next;	/* in the frame: of another batch */
} AlexPendingLevel;

/* A subtransaction, or the transaction, that has inserted something. */
struct AlexPendingFrame
{
	SubTransactionId subid;
	AlexPendingLevel *levels;
	AlexPendingFrame *outer;
};

typedef struct AlexPendingKey
{
	Oid			index;
	RelFileNode node;
} AlexPendingKey;

struct AlexPendingBatch
{
	AlexPendingKey key;			/* hash key */
	AlexLogEntry *entries;		/* in the order in which they came */
	Size		nentries;
	Size		room;
	CommandId	lowest;			/* no row of the batch is of an earlier one */
	AlexPendingLevel *level;	/* innermost */
	AlexClaims *claims;			/* of a unique index's entries, or NULL */
	bool		made_runs;		/* some of its entries became runs */
	dlist_node	link;
};

uint64		alex_pending_total = 0;
uint64		alex_pending_epoch = 1;

static HTAB *batches_hash;
static dlist_head batches = DLIST_STATIC_INIT(batches);
static Size pending_bytes;
static AlexPendingFrame *frames;	/* innermost */
static MemoryContext pending_context;
static bool committing;			/* our callback before commit is running, or
								 * has run */

/*
 * ---------------------------------------------------------------------
 * Collecting
 * ---------------------------------------------------------------------
 */

/*
 * May entries wait now?  Not in a serializable transaction: a reader that
 * conflicts with us must find the entry (H4); nor after our own callback before
 * commit has run; nor while certain commands do (commands.c).
 */
bool
alex_pending_is_allowed(void)
{
	return alex_batch_size > 1 && !committing &&
		alex_commands_let_entries_wait() && !IsolationIsSerializable();
}

static AlexPendingKey
key_of(Relation index)
{
	AlexPendingKey key;

	/* hashed as bytes: leave no padding undefined */
	memset(&key, 0, sizeof(key));
	key.index = RelationGetRelid(index);
	key.node = index->rd_node;
	return key;
}

static AlexPendingBatch *
find_batch(Relation index)
{
	AlexPendingKey key = key_of(index);

	if (dlist_is_empty(&batches))
		return NULL;
	return hash_search(batches_hash, &key, HASH_FIND, NULL);
}

AlexPendingBatch *
alex_pending_batch(Relation index)
{
	AlexPendingKey key = key_of(index);
	AlexPendingBatch *batch;
	bool		found;

	if (batches_hash == NULL)
	{
		HASHCTL		control;

		pending_context = AllocSetContextCreate(TopMemoryContext,
												"alexam pending entries",
												ALLOCSET_DEFAULT_SIZES);
		control.keysize = sizeof(AlexPendingKey);
		control.entrysize = sizeof(AlexPendingBatch);
		control.hcxt = TopMemoryContext;
		batches_hash = hash_create("alexam pending batches", 64, &control,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}

	batch = hash_search(batches_hash, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) batch + sizeof(key), 0,
			   sizeof(AlexPendingBatch) - sizeof(key));
		batch->lowest = InvalidCommandId;
		dlist_push_tail(&batches, &batch->link);
	}
	return batch;
}

/* The current subtransaction's frame. */
static AlexPendingFrame *
current_frame(void)
{
	SubTransactionId subid = GetCurrentSubTransactionId();

	if (frames == NULL || frames->subid != subid)
	{
		AlexPendingFrame *frame;

		frame = MemoryContextAllocZero(pending_context,
									   sizeof(AlexPendingFrame));
		frame->subid = subid;
		frame->outer = frames;
		frames = frame;
	}
	return frames;
}

/* The current subtransaction's first entry in a batch is about to come. */
static void
push_level(AlexPendingBatch *batch)
{
	AlexPendingFrame *frame = current_frame();
	AlexPendingLevel *level;
	ResourceOwner owner = CurrentResourceOwner;

	/*
	 * Kept to the end of the transaction.  The current resource owner may be
	 * that of a cursor, whose locks go when it fails, while rows that it has
	 * inserted before stay.
	 */
	CurrentResourceOwner = CurTransactionResourceOwner;
	LockRelationOid(batch->key.index, RowExclusiveLock);
	CurrentResourceOwner = owner;

	level = MemoryContextAlloc(pending_context, sizeof(AlexPendingLevel));
	level->batch = batch;
	level->frame = frame;
	level->start = batch->nentries;
	level->below = batch->level;
	level->next = frame->levels;
	frame->levels = level;
	batch->level = level;
}

/* All entries are in the index, or of no interest any more. */
static void
end_claims(AlexPendingBatch *batch)
{
	AlexClaims *claims = batch->claims;

	batch->claims = NULL;
	if (claims != NULL)
		alex_claims_end(claims);
}

static void
empty_batch(AlexPendingBatch *batch)
{
	end_claims(batch);
	alex_pending_total -= batch->nentries;
	batch->nentries = 0;
	batch->lowest = InvalidCommandId;
	for (AlexPendingLevel *level = batch->level; level != NULL;
		 level = level->below)
		level->start = 0;
}

static void
free_entries(AlexPendingBatch *batch)
{
	if (batch->entries != NULL)
		pfree(batch->entries);
	batch->entries = NULL;
	pending_bytes -= batch->room * sizeof(AlexLogEntry);
	batch->room = 0;
}

/* The batch is full, or has no array yet. */
static pg_noinline void
make_room(AlexPendingBatch *batch)
{
	Size		more;

	if (batch->nentries >= alex_batch_size)
	{
		alex_pending_flush(batch);
		if (batch->nentries < batch->room)
			return;
	}

	more = Max(batch->room, FIRST_ROOM);
	if (batch->room < alex_batch_size && batch->room + more > alex_batch_size)
		more = alex_batch_size - batch->room;
	if (batch->room > 0 &&
		pending_bytes + more * sizeof(AlexLogEntry) >
		(Size) alex_batch_memory * 1024)
	{
		/* also where many partitions have a few entries each */
		alex_pending_flush_all();
		if (batch->nentries < batch->room)
			return;
		more = Max(batch->room, FIRST_ROOM);
	}

	if (batch->entries == NULL)
		batch->entries = MemoryContextAlloc(pending_context,
											more * sizeof(AlexLogEntry));
	else
		batch->entries = repalloc_huge(batch->entries,
									   (batch->room + more) *
									   sizeof(AlexLogEntry));
	batch->room += more;
	pending_bytes += more * sizeof(AlexLogEntry);
}

/*
 * No snapshot with a curcid up to this one sees the row that is being
 * inserted.  The command that inserts it is not earlier than the snapshot that
 * it runs under; GetCurrentCommandId may be later, when a trigger has run
 * commands of its own meanwhile.
 */
static inline CommandId
command_of_row(void)
{
	return ActiveSnapshotSet() ? GetActiveSnapshot()->curcid : FirstCommandId;
}

static inline void
reserve(AlexPendingBatch *batch)
{
	if (unlikely(batch->level == NULL ||
				 batch->level->frame->subid != GetCurrentSubTransactionId()))
		push_level(batch);
	if (unlikely(batch->nentries == batch->room ||
				 batch->nentries >= alex_batch_size))
		make_room(batch);
}

static inline void
put(AlexPendingBatch *batch, AlexLogEntry entry)
{
	CommandId	command = command_of_row();

	batch->entries[batch->nentries++] = entry;
	batch->lowest = Min(batch->lowest, command);
	alex_pending_total++;
}

void
alex_pending_add(AlexPendingBatch *batch, AlexLogEntry entry)
{
	reserve(batch);
	put(batch, entry);
}

void
alex_pending_reserve(AlexPendingBatch *batch)
{
	reserve(batch);
}

void
alex_pending_put(AlexPendingBatch *batch, AlexLogEntry entry)
{
	put(batch, entry);
}

AlexClaims *
alex_pending_claims(AlexPendingBatch *batch, Relation index)
{
	if (unlikely(batch->claims == NULL))
		batch->claims = alex_claims_begin(index);
	return batch->claims;
}

/*
 * ---------------------------------------------------------------------
 * Flushing
 * ---------------------------------------------------------------------
 */

/* A batch being flushed: its entries, sorted, NULLs last. */
typedef struct AlexFlush
{
	AlexEntry  *entries;
	Size		nentries;
	Size		nvalues;
	Size		appended;		/* that many of them are in the log */
	bool		installed;		/* all of them are in runs */
} AlexFlush;

StaticAssertDecl(sizeof(AlexEntry) == sizeof(AlexLogEntry) &&
				 offsetof(AlexEntry, tid) == offsetof(AlexLogEntry, tid),
				 "entries of log and runs are alike but for the flag of NULLs");

/* Did the entries come in the order of a run, with no NULLs? */
static bool
is_sorted(const AlexPendingBatch *batch)
{
	const AlexLogEntry *entries = batch->entries;

	if ((entries[0].tid & ALEX_LOG_NULL) != 0)
		return false;
	for (Size i = 1; i < batch->nentries; i++)
	{
		if ((entries[i].tid & ALEX_LOG_NULL) != 0 ||
			alex_compare(entries[i - 1].key, entries[i - 1].tid,
						 entries[i].key, entries[i].tid) > 0)
			return false;
	}
	return true;
}

/*
 * Sorts a copy, since a rollback to a savepoint needs them in the order in
 * which they came if the flush fails.  There is none if that is the order.
 */
static void
sort_entries(AlexPendingBatch *batch, AlexFlush *flush)
{
	Size		size = batch->nentries * sizeof(AlexEntry);
	AlexEntry  *scratch;
	Size		nvalues = 0;
	Size		nnulls = 0;

	flush->nentries = batch->nentries;
	if (is_sorted(batch))
	{
		flush->entries = (AlexEntry *) batch->entries;
		flush->nvalues = batch->nentries;
		return;
	}

	flush->entries = MemoryContextAllocHuge(CurrentMemoryContext, size);
	for (Size i = 0; i < batch->nentries; i++)
	{
		const AlexLogEntry *entry = &batch->entries[i];

		if ((entry->tid & ALEX_LOG_NULL) != 0)
			flush->entries[batch->nentries - ++nnulls].tid = ALEX_LOG_TID(entry);
		else
		{
			flush->entries[nvalues].key = entry->key;
			flush->entries[nvalues++].tid = entry->tid;
		}
	}
	for (Size i = nvalues; i < batch->nentries; i++)
		flush->entries[i].key = 0;
	flush->nvalues = nvalues;

	scratch = MemoryContextAllocHuge(CurrentMemoryContext, size);
	alex_sort(flush->entries, scratch, nvalues);
	alex_sort(flush->entries + nvalues, scratch, nnulls);
	pfree(scratch);
}

/*
 * After an error half way: takes the entries that are in the log already out
 * of the batch.  They are the first ones of the sorted entries, so comparing
 * with the first that is not tells them from the others.  (H18)
 */
static void
remove_appended(AlexPendingBatch *batch, const AlexFlush *flush)
{
	bool		next_is_null = flush->appended >= flush->nvalues;
	AlexEntry	next;
	Size		kept = 0;
	AlexPendingLevel *level;

	if (flush->installed || flush->appended == flush->nentries)
	{
		empty_batch(batch);
		return;
	}
	if (flush->appended == 0)
		return;
	next = flush->entries[flush->appended];

	/* from the outermost level on, their places are passed one by one */
	for (Size i = 0; i <= batch->nentries; i++)
	{
		AlexLogEntry entry;
		bool		is_null;

		for (level = batch->level; level != NULL && level->start >= i;
			 level = level->below)
		{
			if (level->start == i)
				level->start = kept;
		}
		if (i == batch->nentries)
			break;
		entry = batch->entries[i];
		is_null = (entry.tid & ALEX_LOG_NULL) != 0;
		if (is_null != next_is_null ? is_null :
			alex_compare(entry.key, ALEX_LOG_TID(&entry),
						 next.key, next.tid) >= 0)
			batch->entries[kept++] = entry;
	}
	alex_pending_total -= batch->nentries - kept;
	batch->nentries = kept;
}

/* Appends what is not in a run to the log. */
static void
append_entries(Relation index, AlexFlush *flush)
{
	AlexLocal  *local = alex_local_acquire(index);

	PG_TRY();
	{
		uint64		due;

		/* from now on in the log's form */
		for (Size i = flush->nvalues; i < flush->nentries; i++)
			flush->entries[i].tid |= ALEX_LOG_NULL;

		alex_local_attach(local, index);
		due = alex_append(index, local, (AlexLogEntry *) flush->entries,
						  flush->nentries, &flush->appended);
		if (due > 0)
			alex_try_seal(index, due);
	}
	PG_FINALLY();
	{
		alex_local_release(local);
		for (Size i = flush->nvalues; i < flush->nentries; i++)
			flush->entries[i].tid &= ~ALEX_LOG_NULL;
	}
	PG_END_TRY();
}

static void
flush_entries(Relation index, AlexPendingBatch *batch, AlexFlush *flush)
{
	if (flush->nentries >= alex_direct_seal_threshold ||
		alex_is_large_batch(index, flush->nentries))
	{
		AlexEntry  *entries[ALEX_PARTS];
		Size		nentries[ALEX_PARTS];

		entries[ALEX_PART_VALUES] = flush->entries;
		nentries[ALEX_PART_VALUES] = flush->nvalues;
		entries[ALEX_PART_NULLS] = flush->entries + flush->nvalues;
		nentries[ALEX_PART_NULLS] = flush->nentries - flush->nvalues;
		if (alex_direct_seal(index, entries, nentries, &flush->installed))
		{
			batch->made_runs = true;
			return;
		}
	}
	append_entries(index, flush);
}

/*
 * The index whose batch this is, or NULL: if it has another file by now, or
 * is gone.
 */
static Relation
open_index(const AlexPendingBatch *batch)
{
	/* our transaction holds its lock */
	Relation	index = try_relation_open(batch->key.index, NoLock);

	if (index != NULL && !RelFileNodeEquals(index->rd_node, batch->key.node))
	{
		relation_close(index, NoLock);
		index = NULL;
	}
	return index;
}

/*
 * Flushes a batch, so that everybody can find its entries.  After an error
 * exactly those are still pending that are not in the index (H18).
 */
void
alex_pending_flush(AlexPendingBatch *batch)
{
	MemoryContext context;
	MemoryContext old_context;
	AlexFlush  *flush;
	Relation	index;

	if (batch->nentries == 0)
		return;

	/*
	 * The entries of a file that a command of this transaction has replaced
	 * are dropped when it commits; it may yet be rolled back.
	 */
	index = open_index(batch);
	if (index == NULL)
	{
		if (committing)
			empty_batch(batch);
		return;
	}

	context = AllocSetContextCreate(pending_context, "alexam flush",
									ALLOCSET_DEFAULT_SIZES);
	old_context = MemoryContextSwitchTo(context);
	flush = palloc0(sizeof(AlexFlush));
	sort_entries(batch, flush);

	PG_TRY();
	{
		ALEX_FAILPOINT("flush-before-entries");
		flush_entries(index, batch, flush);
		ALEX_FAILPOINT("flush-after-entries");
	}
	PG_FINALLY();
	{
		remove_appended(batch, flush);
		MemoryContextSwitchTo(old_context);
		MemoryContextDelete(context);
	}
	PG_END_TRY();

	relation_close(index, NoLock);
}

void
alex_pending_flush_all(void)
{
	dlist_mutable_iter iter;

	if (alex_pending_total == 0)
		return;

	dlist_foreach_modify(iter, &batches)
	{
		AlexPendingBatch *batch = dlist_container(AlexPendingBatch, link,
												  iter.cur);

		CHECK_FOR_INTERRUPTS();
		alex_pending_flush(batch);
		if (batch->nentries == 0)
			free_entries(batch);
	}
}

/* Flushes what a scan of the index under that snapshot might see (H5). */
void
alex_pending_flush_for_scan(Relation index, Snapshot snapshot)
{
	AlexPendingBatch *batch = find_batch(index);

	if (batch == NULL || batch->nentries == 0)
		return;
	if (snapshot != NULL && IsMVCCSnapshot(snapshot) &&
		snapshot->curcid <= batch->lowest)
		return;
	alex_pending_flush(batch);
}

/*
 * The index is being built anew in its old file, from all rows that are in
 * the table: our entries are, or must not be, among them.
 */
void
alex_pending_forget(Relation index)
{
	AlexPendingBatch *batch = find_batch(index);

	if (batch != NULL)
		empty_batch(batch);
}

/*
 * ---------------------------------------------------------------------
 * Transactions
 * ---------------------------------------------------------------------
 */

/*
 * Everything is flushed, or of no interest any more.
 *
 * Compaction was asked for when runs were made.  But the rows that ours replace
 * are dead only now.
 */
static void
end_transaction(bool is_commit)
{
	committing = false;
	if (dlist_is_empty(&batches))
		return;

	while (!dlist_is_empty(&batches))
	{
		AlexPendingBatch *batch;

		batch = dlist_container(AlexPendingBatch, link,
								dlist_pop_head_node(&batches));
		end_claims(batch);
		if (is_commit && batch->made_runs)
			alex_request_again(batch->key.node);
		hash_search(batches_hash, &batch->key, HASH_REMOVE, NULL);
	}
	frames = NULL;
	pending_bytes = 0;
	alex_pending_total = 0;
	alex_pending_epoch++;
	MemoryContextReset(pending_context);
}

static void
at_transaction_event(XactEvent event, void *argument)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			/* whatever is inserted by now, in others' callbacks, goes at once */
			committing = true;
			alex_pending_flush_all();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			Assert(alex_pending_total == 0);
			end_transaction(event == XACT_EVENT_COMMIT);
			break;
		case XACT_EVENT_ABORT:
			end_transaction(false);
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			/* parallel workers do not insert */
			break;
	}
}

/* The entries of a subtransaction that is rolled back are dropped (H3). */
static void
drop_frame(AlexPendingFrame *frame)
{
	AlexPendingLevel *next;

	for (AlexPendingLevel *level = frame->levels; level != NULL; level = next)
	{
		AlexPendingBatch *batch = level->batch;

		Assert(batch->level == level);
		Assert(level->start <= batch->nentries);
		ALEX_FAILPOINT("drop-before-claims");
		if (level->start == 0)
			end_claims(batch);
		else if (batch->claims != NULL)
			alex_claims_remove(batch->claims, batch->entries + level->start,
							   batch->nentries - level->start);
		alex_pending_total -= batch->nentries - level->start;
		batch->nentries = level->start;
		batch->level = level->below;
		next = level->next;
		pfree(level);
	}
	frames = frame->outer;
	pfree(frame);
}

/* Those of one that is released belong to the one around it. */
static void
release_frame(AlexPendingFrame *frame, SubTransactionId parent)
{
	AlexPendingFrame *outer = frame->outer;
	AlexPendingLevel *next;

	if (outer == NULL || outer->subid != parent)
	{
		frame->subid = parent;
		return;
	}

	for (AlexPendingLevel *level = frame->levels; level != NULL; level = next)
	{
		AlexPendingBatch *batch = level->batch;

		Assert(batch->level == level);
		next = level->next;
		if (level->below != NULL && level->below->frame == outer)
		{
			batch->level = level->below;
			pfree(level);
		}
		else
		{
			level->frame = outer;
			level->next = outer->levels;
			outer->levels = level;
		}
	}
	frames = outer;
	pfree(frame);
}

static void
at_subtransaction_event(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *argument)
{
	if (frames == NULL || frames->subid != subid)
		return;

	if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_frame(frames);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		release_frame(frames, parent);
}

void
alex_pending_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterSubXactCallback(at_subtransaction_event, NULL);
}
