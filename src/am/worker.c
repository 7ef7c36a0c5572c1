/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Compaction in the background: a launcher and its workers.
 *
 * The launcher is started with the server, looks at the requests in shared
 * memory (activity.c), and starts a worker for a database that has any.  A
 * worker connects to its database, serves the requests one after the other,
 * and exits soon after the last one, or when another database has its turn.
 *
 * Nobody must have to wait for a worker for long.  It takes no lock that it
 * would have to wait for, and its locks are the weakest that keep the index
 * from being dropped, rebuilt or moved: all that does so takes, or at least
 * waits for, AccessExclusiveLock on the table or the index.  In particular
 * VACUUM, ANALYZE and CREATE INDEX do not notice them.  And a worker carries
 * the flag that autovacuum's workers have: whoever waits for one of its locks
 * (VACUUM may, for the maintenance lock) cancels it after deadlock_timeout,
 * and DROP DATABASE and its like, which cannot go on while anybody is
 * connected, terminate it.  The flag has no other meaning in the server but
 * that CREATE INDEX CONCURRENTLY does not wait for the snapshots of those who
 * have it; we have none while we compact.
 *
 * After an error, or when it was cancelled, a worker frees the pages that it
 * wrote in vain, and goes on with the next request.  What it leaves behind
 * when it is terminated is found by the sweep of VACUUM.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/worker.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/vacuum.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/indexfsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "alex/am.h"
#include "alex/merge.h"
#include "alex/worker.h"

/* The launcher keeps no more workers than this, whatever the setting. */
#define MAX_WORKERS				ALEX_MAX_COMPACTION_WORKERS
/* A worker stays for requests that come, or are due, within this time. */
#define LINGER_MS				2000
/* It stays longer where it has noted whom to wait for; the note goes with it. */
#define LINGER_NOTES_MS			10000
/* While it does, it looks for them this often. */
#define LINGER_STEP_MS			20
/* After this time it makes way for other databases, if they wait for that. */
#define TURN_MS					5000
/* When no worker can be started, the launcher tries again after this time. */
#define START_RETRY_MS			10000

typedef struct RunningWorker
{
	Oid			database;
	BackgroundWorkerHandle *handle;
} RunningWorker;

/* Where much is dead, a worker works so many times as long between naps. */
#define HURRY					4

/* What the worker is at; NULL in any other process. */
static const AlexRequest *current_request = NULL;
/* Its turn began then. */
static TimestampTz turn_start;
/*
 * Indexes of which much was dead when they were merged last, each in the place
 * that its OID leads to; those of one table have OIDs close to each other.
 */
#define BLOATED_PLACES			64
static Oid	bloated_indexes[BLOATED_PLACES];

/*
 * ---------------------------------------------------------------------
 * The launcher
 * ---------------------------------------------------------------------
 */

void
alex_launcher_register(void)
{
	BackgroundWorker launcher;

	memset(&launcher, 0, sizeof(launcher));
	launcher.bgw_flags = BGWORKER_SHMEM_ACCESS;
	launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
	launcher.bgw_restart_time = 5;
	snprintf(launcher.bgw_library_name, BGW_MAXLEN, "alexam");
	snprintf(launcher.bgw_function_name, BGW_MAXLEN, "alex_launcher_main");
	snprintf(launcher.bgw_name, BGW_MAXLEN, "alexam compaction launcher");
	snprintf(launcher.bgw_type, BGW_MAXLEN, "alexam compaction launcher");
	RegisterBackgroundWorker(&launcher);
}

static bool
start_worker(Oid database, RunningWorker *running)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "alexam");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "alex_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "alexam compaction worker");
	snprintf(worker.bgw_type, BGW_MAXLEN, "alexam compaction worker");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;

	running->database = database;
	return RegisterDynamicBackgroundWorker(&worker, &running->handle);
}

/* Forgets the workers that have ended; returns how many are left. */
static int
reap_workers(RunningWorker *workers, int nworkers)
{
	int			left = 0;

	for (int i = 0; i < nworkers; i++)
	{
		pid_t		pid;

		if (GetBackgroundWorkerPid(workers[i].handle, &pid) == BGWH_STOPPED)
			pfree(workers[i].handle);
		else
			workers[left++] = workers[i];
	}
	return left;
}

/*
 * Starts workers for databases that have none.  Returns how long there will
 * be nothing to do, in milliseconds, or -1.
 */
static long
start_workers(RunningWorker *workers, int *nworkers)
{
	int			limit = Min(alex_max_compaction_workers, MAX_WORKERS);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz next_due = DT_NOEND;

	for (;;)
	{
		Oid			served[MAX_WORKERS];
		Oid			database;

		for (int i = 0; i < *nworkers; i++)
			served[i] = workers[i].database;
		database = alex_requests_next_database(served, *nworkers, now,
											   &next_due);
		alex_requests_set_waiting(OidIsValid(database) && *nworkers >= limit);
		if (!OidIsValid(database) || *nworkers >= limit)
			break;
		if (!start_worker(database, &workers[*nworkers]))
		{
			/* the server has no more processes; ours may make way */
			alex_requests_set_waiting(*nworkers > 0);
			return START_RETRY_MS;
		}
		(*nworkers)++;
	}

	return next_due == DT_NOEND ? -1 :
		Max(TimestampDifferenceMilliseconds(now, next_due), 1);
}

static void
forget_launcher(int code, Datum argument)
{
	alex_requests_set_launcher(NULL);
}

void
alex_launcher_main(Datum argument)
{
	RunningWorker workers[MAX_WORKERS];
	int			nworkers = 0;

	/* a signal from the postmaster says that a worker started or ended */
	pqsignal(SIGUSR1, procsignal_sigusr1_handler);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	before_shmem_exit(forget_launcher, (Datum) 0);
	alex_requests_set_launcher(MyLatch);

	/* an exit code other than 0 lets the postmaster start another launcher */
	while (!ShutdownRequestPending)
	{
		long		timeout = -1;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		nworkers = reap_workers(workers, nworkers);
		if (alex_background_compaction)
			timeout = start_workers(workers, &nworkers);

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH |
						 (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	proc_exit(1);
}

/*
 * ---------------------------------------------------------------------
 * Workers
 * ---------------------------------------------------------------------
 */

static inline Oid *
bloated_place(Oid index)
{
	return &bloated_indexes[index % BLOATED_PLACES];
}

/*
 * Takes up the settings, which a reload may have changed.
 *
 * Runs that are merged because they are many are in nobody's way meanwhile.
 * But while dead entries are waiting to be got rid of, the file has no room
 * for those that come, and grows.  The work is the same, it is done sooner.
 */
static void
set_cost_limit(void)
{
	VacuumCostLimit = alex_compaction_cost_limit;
	if (current_request != NULL &&
		*bloated_place(current_request->index) == current_request->index)
		VacuumCostLimit *= HURRY;
	VacuumCostDelay = alex_compaction_cost_delay;
	VacuumCostActive = VacuumCostDelay > 0 &&
		!(current_request != NULL && *current_request->urgent);
}

void
alex_worker_check(void)
{
	if (current_request == NULL)
		return;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		if (!alex_background_compaction)
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling compaction because \"%s\" was turned off",
							"alexam.background_compaction")));
	}
	set_cost_limit();
}

void
alex_worker_merged(uint64 rewritten, uint64 dropped)
{
	if (current_request == NULL)
		return;
	*bloated_place(current_request->index) =
		dropped * ALEX_DEAD_FRACTION > rewritten + dropped ?
		current_request->index : InvalidOid;
}

/*
 * Locks and opens the index of a request.  If that cannot be done now, or not
 * any more, returns NULL and says so in *outcome.
 */
static Relation
open_requested(const AlexRequest *request, AlexRequestOutcome *outcome)
{
	Oid			table = IndexGetRelation(request->index, true);
	Relation	index;

	*outcome = ALEX_REQUEST_DROP;
	if (!OidIsValid(table))
		return NULL;

	*outcome = ALEX_REQUEST_RETRY;
	if (!ConditionalLockRelationOid(table, AccessShareLock) ||
		!ConditionalLockRelationOid(request->index, AccessShareLock))
		return NULL;

	/* it may have been dropped, or rebuilt, before we had the locks */
	*outcome = ALEX_REQUEST_DROP;
	if (IndexGetRelation(request->index, true) != table)
		return NULL;
	index = try_relation_open(request->index, NoLock);
	if (index == NULL)
		return NULL;
	if (index->rd_rel->relkind != RELKIND_INDEX ||
		!RelFileNodeEquals(index->rd_node, request->node) ||
		index->rd_indam->ambulkdelete != alex_bulk_delete ||
		!index->rd_index->indislive)
	{
		relation_close(index, NoLock);
		return NULL;
	}
	return index;
}

/* Tells pg_stat_activity. */
static void
report_index(Relation index)
{
	char	   *schema = get_namespace_name(RelationGetNamespace(index));
	char	   *text;

	text = psprintf("alexam: compacting index \"%s.%s\"",
					schema != NULL ? schema : "",
					RelationGetRelationName(index));
	pgstat_report_activity(STATE_RUNNING, text);
	pfree(text);
}

/*
 * Sees to it that retired runs can go: the next transaction id is taken if they
 * wait for that, as they would do for ever where nobody else takes any; and it
 * is noted who may be reading them.  True if they may go now.
 */
static bool
look_after_retired(Relation index)
{
	FullTransactionId oldest;
	FullTransactionId newest;
	bool		is_next;

	alex_retired_range(index, &oldest, &newest);
	is_next = FullTransactionIdEquals(newest, ReadNextFullTransactionId());
	if (is_next)
		(void) GetTopTransactionId();
	return alex_lockers_note(index) || is_next;
}

/*
 * Does a step, in a transaction of its own: the locks go with it, and so does a
 * transaction id, if one has to be taken for the sake of retired runs.  True if
 * another step may be due.
 */
static bool
serve_step(const AlexRequest *request, bool first, bool *ranges,
		   AlexWrittenPages *written, AlexRequestOutcome *outcome)
{
	Relation	index;
	bool		more = false;

	StartTransactionCommand();
	index = open_requested(request, outcome);
	if (index != NULL)
	{
		report_index(index);
		if (first)
			*ranges = alex_range_scans(index, true);

		/* a snapshot would keep retired runs from being removed */
		InvalidateCatalogSnapshot();

		/* else VACUUM is at it, which compacts, too */
		*outcome = ALEX_REQUEST_RETRY;
		if (ConditionalLockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock))
		{
			bool		none_left = alex_remove_retired(index);

			more = alex_compact_step(index, *ranges, written);
			if (none_left && !more)
				*outcome = ALEX_REQUEST_DONE;
			UnlockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);
			IndexFreeSpaceMapVacuum(index);
			more |= look_after_retired(index);
		}
		relation_close(index, NoLock);
	}
	CommitTransactionCommand();
	return more;
}

/*
 * A database that is always busy must not keep a worker for ever while others
 * wait for one.
 */
static bool
turn_is_over(void)
{
	return TimestampDifferenceExceeds(turn_start, GetCurrentTimestamp(),
									  TURN_MS) &&
		alex_requests_are_waiting();
}

static AlexRequestOutcome
serve(const AlexRequest *request, AlexWrittenPages *written)
{
	AlexRequestOutcome outcome;
	bool		ranges = false;
	bool		first = true;

	while (serve_step(request, first, &ranges, written, &outcome))
	{
		first = false;
		if (turn_is_over())
			return ALEX_REQUEST_UNFINISHED;
	}
	return outcome;
}

/*
 * Frees what a failed compaction has written, if the index can still be had;
 * else that is left to the sweep.  Nobody can refer to these pages; and if
 * somebody else has found and freed them before us, they carry other stamps by
 * now.
 */
static void
free_written(const AlexRequest *request, AlexWrittenPages *written)
{
	AlexRequestOutcome outcome;
	Relation	index;

	if (written->npages == 0)
		return;
	StartTransactionCommand();
	index = open_requested(request, &outcome);
	if (index != NULL)
	{
		alex_written_pages_free(index, written);
		IndexFreeSpaceMapVacuum(index);
		relation_close(index, NoLock);
	}
	CommitTransactionCommand();
}

/* Serves a request, and reports and survives errors. */
static AlexRequestOutcome
try_serve(const AlexRequest *request, AlexWrittenPages *written)
{
	volatile AlexRequestOutcome outcome = ALEX_REQUEST_FAILED;

	written->npages = 0;
	PG_TRY();
	{
		outcome = serve(request, written);
	}
	PG_CATCH();
	{
		/* a cancel that comes now is not meant for what follows */
		HOLD_INTERRUPTS();
		errcontext("compaction of index with OID %u", request->index);
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		FlushErrorState();
		QueryCancelPending = false;
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();

	if (outcome == ALEX_REQUEST_FAILED)
	{
		PG_TRY();
		{
			free_written(request, written);
		}
		PG_CATCH();
		{
			HOLD_INTERRUPTS();
			EmitErrorReport();
			AbortOutOfAnyTransaction();
			FlushErrorState();
			RESUME_INTERRUPTS();
		}
		PG_END_TRY();
	}
	return outcome;
}

/*
 * Whoever terminates a worker wants it to stay away, perhaps because the
 * database is about to be dropped.
 */
static void
forget_requests(int code, Datum database)
{
	if (code != 0)
		alex_requests_forget(DatumGetObjectId(database));
}

/* See the head of this file. */
static void
become_cancellable(void)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	MyProc->statusFlags |= PROC_IS_AUTOVACUUM;
	ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
	LWLockRelease(ProcArrayLock);
}

/* Waits for the next request of this database; false if none comes. */
static bool
next_request(Oid database, AlexRequest *request)
{
	TimestampTz idle_since = GetCurrentTimestamp();

	pgstat_report_activity(STATE_IDLE, NULL);
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next_due;
		int			linger;

		/* there is nothing to cancel */
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (!alex_background_compaction)
			return false;
		if (turn_is_over())
		{
			alex_requests_end_turn(database);
			return false;
		}
		if (alex_request_take(database, now, request, &next_due))
			return true;
		linger = alex_lockers_watch() ? LINGER_NOTES_MS : LINGER_MS;
		if (TimestampDifferenceExceeds(idle_since, now, linger) &&
			next_due > TimestampTzPlusMilliseconds(now, LINGER_MS))
			return false;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LINGER_STEP_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
alex_worker_main(Datum argument)
{
	Oid			database = DatumGetObjectId(argument);
	AlexRequest request;
	AlexWrittenPages written = {0};
	MemoryContext context;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	before_shmem_exit(forget_requests, ObjectIdGetDatum(database));
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid,
											  BGWORKER_BYPASS_ALLOWCONN);
	become_cancellable();
	turn_start = GetCurrentTimestamp();

	/* nobody must be waited for because of a transaction id that was taken */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);

	written.context = AllocSetContextCreate(TopMemoryContext,
											"alexam written pages",
											ALLOCSET_DEFAULT_SIZES);
	context = AllocSetContextCreate(TopMemoryContext, "alexam worker",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);

	while (next_request(database, &request))
	{
		AlexRequestOutcome outcome;

		current_request = &request;
		set_cost_limit();
		outcome = try_serve(&request, &written);
		current_request = NULL;
		VacuumCostActive = false;
		VacuumCostBalance = 0;
		alex_request_finish(&request, outcome);
		pgstat_report_stat(true);

		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
	}
	proc_exit(0);
}
