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

#include "datatype/timestamp.h"
#include "storage/relfilenode.h"

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
	ALEX_REQUEST_RETRY,			/* not all could be done now */
	ALEX_REQUEST_FAILED,		/* there was an error */
	ALEX_REQUEST_DROP			/* there is no such index any more */
} AlexRequestOutcome;

/* Where the launcher can be woken; NULL when there is none. */
extern void alex_requests_set_launcher(struct Latch *latch);

/*
 * A database with a request that is due, leaving out those in "except"; or
 * InvalidOid, and when the next one will be.
 */
extern Oid	alex_requests_next_database(const Oid *except, int nexcept,
										TimestampTz now,
										TimestampTz *next_due);

/* Takes a request of this database that is due; false as above. */
extern bool alex_request_take(Oid database, TimestampTz now,
							  AlexRequest *request, TimestampTz *next_due);
extern void alex_request_finish(const AlexRequest *request,
								AlexRequestOutcome outcome);

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

#endif							/* ALEX_WORKER_H */
