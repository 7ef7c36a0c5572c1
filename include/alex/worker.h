/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Background compaction: requests, the launcher and its workers.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/worker.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_WORKER_H
#define ALEX_WORKER_H

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "storage/relfilenode.h"
#include "utils/relcache.h"

/*
 * ---------------------------------------------------------------------
 * activity.c: requests in shared memory; see am.h for counters
 * ---------------------------------------------------------------------
 */
struct Latch;

/* A request that this worker has taken. */
typedef struct AlexRequest
{
	RelFileNode node;
	Oid			index;
	volatile bool *urgent;		/* in shared memory: do not sleep */
} AlexRequest;

typedef enum AlexRequestOutcome
{
	ALEX_REQUEST_DONE,
	ALEX_REQUEST_UNFINISHED,	/* the database's turn was over */
	ALEX_REQUEST_RETRY,			/* not all could be done now */
	ALEX_REQUEST_FAILED,		/* there was an error */
	ALEX_REQUEST_DROP			/* there is no such index any more */
} AlexRequestOutcome;

/* Where the launcher can be woken; NULL when there is none. */
extern void alex_requests_set_launcher(struct Latch *latch);

/*
 * The launcher says whether a database has a request that is due, and cannot be
 * given a worker: there are as many as there may be, or as can be started.
 */
extern void alex_requests_set_waiting(bool others_wait);
extern bool alex_requests_are_waiting(void);

/*
 * The database whose request has been due for longest, leaving out those in
 * "except"; or InvalidOid, and when the next one will be.
 */
extern Oid	alex_requests_next_database(const Oid *except, int nexcept,
										TimestampTz now,
										TimestampTz *next_due);

/* Takes a request of this database that is due; false as above. */
extern bool alex_request_take(Oid database, TimestampTz now,
							  AlexRequest *request, TimestampTz *next_due);
extern void alex_request_finish(const AlexRequest *request,
								AlexRequestOutcome outcome);

/* Puts all requests of a database behind those that are due in others. */
extern void alex_requests_end_turn(Oid database);

/* Drops all requests of a database. */
extern void alex_requests_forget(Oid database);

/*
 * ---------------------------------------------------------------------
 * worker.c
 * ---------------------------------------------------------------------
 */

/* The greatest value of alexam.max_compaction_workers */
#define ALEX_MAX_COMPACTION_WORKERS	32

/* Has the postmaster start the launcher; for _PG_init. */
extern void alex_launcher_register(void);

extern PGDLLEXPORT void alex_launcher_main(Datum argument);
extern PGDLLEXPORT void alex_worker_main(Datum argument);

/*
 * Called between two pages of a compaction, whoever does it.  A worker heeds
 * changes of the settings here.
 */
extern void alex_worker_check(void);

/*
 * Called after a compaction, whoever did it, with the numbers of entries.  A
 * worker takes fewer naps while much of what it merges is dead.
 */
extern void alex_worker_merged(uint64 rewritten, uint64 dropped);

/*
 * ---------------------------------------------------------------------
 * lockers.c: transactions that may be reading what was retired
 * ---------------------------------------------------------------------
 */

/*
 * Makes a note of the transactions that have the index locked, for its runs
 * that are retired.  False if there are none, or there is a note already, or
 * none could be made now, as their safexid is still the next transaction id.
 *
 * For workers, which have no scan of their own open.
 */
extern bool alex_lockers_note(Relation index);

/*
 * Asks for indexes to be compacted again when all transactions noted are over.
 * True if there are any that were not.
 */
extern bool alex_lockers_watch(void);

/*
 * Retired runs whose safexid is older than this are read by nobody any more, by
 * the note that this process has made; invalid if there is none, or some of
 * the transactions are not over.
 */
extern FullTransactionId alex_lockers_limit(Relation index);

#endif							/* ALEX_WORKER_H */
