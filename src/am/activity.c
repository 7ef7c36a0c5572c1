/*-------------------------------------------------------------------------
 *
 * activity.c
 *	  What maintenance has done on each index, and what it is asked to do.
 *
 * A fixed number of places in shared memory, found by relation file.  When all
 * are taken, the one that was used longest ago goes, unless a request waits in
 * it: what it counted is lost, and nothing else.
 *
 * Whoever makes a run asks here for compaction, unless it is the only one.  A
 * request is no promise: it may be dropped at any time, since the next run that
 * comes asks again, and VACUUM compacts in any case.  The launcher looks for
 * databases with requests, a worker for those of its database (worker.c).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/activity.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "alex/am.h"
#include "alex/worker.h"

typedef enum AlexRequestState
{
	ALEX_REQUEST_NONE,
	ALEX_REQUEST_WAITING,
	ALEX_REQUEST_TAKEN			/* a worker is at it */
} AlexRequestState;

typedef struct AlexActivity
{
	RelFileNode node;			/* hash key */
	Oid			index;
	uint64		last_used;
	AlexCounters counters;

	/* the request */
	AlexRequestState state;
	bool		asked_before;	/* so there were runs to compact */
	bool		asked_again;	/* since it was taken */
	bool		failed;			/* the last attempt ended in an error */
	bool		urgent;			/* inserters make runs faster than they go */
	int			attempts;		/* since the last one that was worth it */
	TimestampTz due;			/* not to be taken before */
} AlexActivity;

typedef struct AlexActivityControl
{
	LWLock		lock;
	int			tranche;
	uint64		clock;			/* ticks with every use; for eviction */
	Latch	   *launcher;		/* NULL: there is none */
	bool		others_wait;	/* databases, for a worker to make way */
} AlexActivityControl;

static AlexActivityControl *control;
static HTAB *activities;

/*
 * A request that cannot be met now is tried again after this time, doubled
 * with each attempt.  It mostly waits for retired runs, hence for statements
 * that may end any moment.
 */
#define FIRST_RETRY_MS		32
#define FIRST_RETRY_FAILED_MS	1000
#define LAST_RETRY_MS		(60 * 1000)
/* After so many attempts that failed it is dropped. */
#define MAX_ATTEMPTS		16

Size
alex_activity_shmem_size(void)
{
	return add_size(sizeof(AlexActivityControl),
					hash_estimate_size(alex_max_memtables,
									   sizeof(AlexActivity)));
}

void
alex_activity_shmem_init(void)
{
	HASHCTL		hash_control;
	bool		found;

	control = ShmemInitStruct("alexam activity", sizeof(AlexActivityControl),
							  &found);
	if (!found)
	{
		control->tranche = LWLockNewTrancheId();
		LWLockInitialize(&control->lock, control->tranche);
		control->clock = 0;
		control->launcher = NULL;
		control->others_wait = false;
	}
	LWLockRegisterTranche(control->tranche, "AlexActivity");

	hash_control.keysize = sizeof(RelFileNode);
	hash_control.entrysize = sizeof(AlexActivity);
	activities = ShmemInitHash("alexam activity hash",
							   alex_max_memtables, alex_max_memtables,
							   &hash_control, HASH_ELEM | HASH_BLOBS);
}

/* Makes room for one more; false if there are requests in all places. */
static bool
forget_oldest(void)
{
	HASH_SEQ_STATUS status;
	AlexActivity *activity;
	AlexActivity *oldest = NULL;

	hash_seq_init(&status, activities);
	while ((activity = hash_seq_search(&status)) != NULL)
	{
		if (activity->state == ALEX_REQUEST_NONE &&
			(oldest == NULL || activity->last_used < oldest->last_used))
			oldest = activity;
	}
	return oldest != NULL &&
		hash_search(activities, &oldest->node, HASH_REMOVE, NULL) != NULL;
}

/*
 * The index's place, or NULL if it cannot have one.  The lock is held
 * exclusively.
 */
static AlexActivity *
find_or_enter(Relation index)
{
	AlexActivity *activity;
	bool		found;

	activity = hash_search(activities, &index->rd_node, HASH_FIND, NULL);
	if (activity == NULL)
	{
		if (hash_get_num_entries(activities) >= alex_max_memtables &&
			!forget_oldest())
			return NULL;
		activity = hash_search(activities, &index->rd_node, HASH_ENTER_NULL,
							   &found);
		if (activity == NULL)
			return NULL;
		memset((char *) activity + sizeof(RelFileNode), 0,
			   sizeof(AlexActivity) - sizeof(RelFileNode));
	}
	/* ALTER COLUMN TYPE may give the file to another index */
	activity->index = RelationGetRelid(index);
	activity->last_used = ++control->clock;
	return activity;
}

/* Temporary indexes are not counted: others cannot ask for them. */
static bool
is_counted(Relation index)
{
	return !RelationUsesLocalBuffers(index);
}

void
alex_count_sealed(Relation index, uint64 entries)
{
	AlexActivity *activity;

	if (!is_counted(index))
		return;
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	activity = find_or_enter(index);
	if (activity != NULL)
	{
		activity->counters.seals++;
		activity->counters.entries_sealed += entries;
	}
	LWLockRelease(&control->lock);
}

void
alex_count_compaction(Relation index, uint64 written, uint64 dropped,
					  uint64 pages)
{
	AlexActivity *activity;

	if (!is_counted(index))
		return;
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	activity = find_or_enter(index);
	if (activity != NULL)
	{
		activity->counters.compactions++;
		activity->counters.entries_rewritten += written;
		activity->counters.entries_dropped += dropped;
		activity->counters.pages_written += pages;
	}
	LWLockRelease(&control->lock);
}

void
alex_counters_read(Relation index, AlexCounters *counters)
{
	AlexActivity *activity;

	memset(counters, 0, sizeof(AlexCounters));
	LWLockAcquire(&control->lock, LW_SHARED);
	activity = hash_search(activities, &index->rd_node, HASH_FIND, NULL);
	if (activity != NULL)
		*counters = activity->counters;
	LWLockRelease(&control->lock);
}

/*
 * ---------------------------------------------------------------------
 * Requests
 * ---------------------------------------------------------------------
 */

/* One that is due already keeps its place before those of other databases. */
static void
make_due(AlexActivity *activity)
{
	TimestampTz now = GetCurrentTimestamp();

	if (activity->state != ALEX_REQUEST_WAITING || activity->due > now)
		activity->due = now;
	activity->state = ALEX_REQUEST_WAITING;
	activity->attempts = 0;
	activity->failed = false;
	if (control->launcher != NULL)
		SetLatch(control->launcher);
}

/* The lock is held exclusively. */
static void
ask(AlexActivity *activity)
{
	activity->asked_before = true;
	if (activity->state == ALEX_REQUEST_TAKEN)
		activity->asked_again = true;
	else if (activity->state == ALEX_REQUEST_NONE || !activity->failed)
		make_due(activity);
}

bool
alex_request_compaction(Relation index, bool urgent)
{
	AlexActivity *activity;
	bool		accepted = false;

	if (!alex_background_compaction || !is_counted(index))
		return false;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	if (control->launcher != NULL &&
		(activity = find_or_enter(index)) != NULL)
	{
		ask(activity);
		activity->urgent = urgent;
		accepted = true;
	}
	LWLockRelease(&control->lock);
	return accepted;
}

void
alex_request_again(RelFileNode node)
{
	AlexActivity *activity;

	if (!alex_background_compaction)
		return;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	activity = hash_search(activities, &node, HASH_FIND, NULL);
	if (control->launcher != NULL && activity != NULL &&
		activity->asked_before)
		ask(activity);
	LWLockRelease(&control->lock);
}

/* Says where the launcher can be woken, or that there is none any more. */
void
alex_requests_set_launcher(struct Latch *latch)
{
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	control->launcher = latch;
	LWLockRelease(&control->lock);
}

void
alex_requests_set_waiting(bool others_wait)
{
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	control->others_wait = others_wait;
	LWLockRelease(&control->lock);
}

bool
alex_requests_are_waiting(void)
{
	bool		others_wait;

	LWLockAcquire(&control->lock, LW_SHARED);
	others_wait = control->others_wait;
	LWLockRelease(&control->lock);
	return others_wait;
}

static bool
is_among(Oid oid, const Oid *oids, int count)
{
	for (int i = 0; i < count; i++)
		if (oids[i] == oid)
			return true;
	return false;
}

Oid
alex_requests_next_database(const Oid *except, int nexcept, TimestampTz now,
							TimestampTz *next_due)
{
	HASH_SEQ_STATUS status;
	AlexActivity *activity;
	AlexActivity *first = NULL;
	Oid			database = InvalidOid;

	*next_due = DT_NOEND;
	LWLockAcquire(&control->lock, LW_SHARED);
	hash_seq_init(&status, activities);
	while ((activity = hash_seq_search(&status)) != NULL)
	{
		if (activity->state != ALEX_REQUEST_WAITING ||
			is_among(activity->node.dbNode, except, nexcept))
			continue;
		if (activity->due > now)
			*next_due = Min(*next_due, activity->due);
		else if (first == NULL || activity->due < first->due)
			first = activity;
	}
	if (first != NULL)
		database = first->node.dbNode;
	LWLockRelease(&control->lock);

	return database;
}

bool
alex_request_take(Oid database, TimestampTz now, AlexRequest *request,
				  TimestampTz *next_due)
{
	HASH_SEQ_STATUS status;
	AlexActivity *activity;
	AlexActivity *first = NULL;

	*next_due = DT_NOEND;
	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, activities);
	while ((activity = hash_seq_search(&status)) != NULL)
	{
		if (activity->state != ALEX_REQUEST_WAITING ||
			activity->node.dbNode != database)
			continue;
		if (activity->due > now)
			*next_due = Min(*next_due, activity->due);
		else if (first == NULL || activity->last_used < first->last_used)
			first = activity;
	}
	if (first != NULL)
	{
		first->state = ALEX_REQUEST_TAKEN;
		first->asked_again = false;
		request->node = first->node;
		request->index = first->index;
		request->urgent = &first->urgent;
	}
	LWLockRelease(&control->lock);

	return first != NULL;
}

void
alex_request_finish(const AlexRequest *request, AlexRequestOutcome outcome)
{
	AlexActivity *activity;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	activity = hash_search(activities, &request->node, HASH_FIND, NULL);
	if (activity == NULL || activity->state != ALEX_REQUEST_TAKEN)
	{
		/* another worker, on its way out, has forgotten it */
		LWLockRelease(&control->lock);
		return;
	}

	activity->urgent = false;
	if (outcome == ALEX_REQUEST_FAILED && !activity->failed)
		activity->attempts = 0;
	activity->failed = outcome == ALEX_REQUEST_FAILED;
	if (outcome == ALEX_REQUEST_DROP ||
		(outcome == ALEX_REQUEST_DONE && !activity->asked_again) ||
		(activity->failed && activity->attempts >= MAX_ATTEMPTS))
		activity->state = ALEX_REQUEST_NONE;
	else if (outcome == ALEX_REQUEST_UNFINISHED ||
			 (activity->asked_again && !activity->failed))
		make_due(activity);
	else
	{
		int			first = activity->failed ?
			FIRST_RETRY_FAILED_MS : FIRST_RETRY_MS;
		int			delay = Min(first << activity->attempts, LAST_RETRY_MS);

		activity->attempts = Min(activity->attempts + 1, MAX_ATTEMPTS);
		activity->state = ALEX_REQUEST_WAITING;
		activity->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													delay);
	}
	LWLockRelease(&control->lock);
}

void
alex_requests_end_turn(Oid database)
{
	HASH_SEQ_STATUS status;
	AlexActivity *activity;
	TimestampTz now = GetCurrentTimestamp();

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, activities);
	while ((activity = hash_seq_search(&status)) != NULL)
		if (activity->node.dbNode == database)
			activity->due = Max(activity->due, now);
	LWLockRelease(&control->lock);
}

void
alex_requests_forget(Oid database)
{
	HASH_SEQ_STATUS status;
	AlexActivity *activity;

	LWLockAcquire(&control->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, activities);
	while ((activity = hash_seq_search(&status)) != NULL)
		if (activity->node.dbNode == database)
			activity->state = ALEX_REQUEST_NONE;
	LWLockRelease(&control->lock);
}
