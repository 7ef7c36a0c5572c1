/*-------------------------------------------------------------------------
 *
 * alexam.c
 *	  Loading the library: settings, shared memory, the resource manager.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/alexam.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "alex/am.h"
#include "alex/memtable.h"
#include "alex/wal.h"
#include "alex/worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

bool		alex_use_mmap = true;
bool		alex_verify_checksums = true;
int			alex_memtable_memory = 64 * 1024;
int			alex_memtable_entries = 500000;
int			alex_max_memtables = 1024;
double		alex_bloom_bits = 11.0;
int			alex_batch_size = 1024 * 1024;
int			alex_batch_memory = 64 * 1024;
int			alex_direct_seal_threshold = 100000;
int			alex_hint_memory = 4 * 1024;
bool		alex_background_compaction = true;
int			alex_max_compaction_workers = 2;
int			alex_compaction_cost_limit = 200;
double		alex_compaction_cost_delay = 2.0;
int			alex_log_compaction_min_duration = 600000;

static bool preloaded = false;
static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

static void
request_shared_memory(void)
{
	if (previous_shmem_request)
		previous_shmem_request();

	RequestAddinShmemSpace(alex_arena_shmem_size());
	RequestAddinShmemSpace(alex_registry_shmem_size());
	RequestAddinShmemSpace(alex_readers_shmem_size());
	RequestAddinShmemSpace(alex_verified_shmem_size());
	RequestAddinShmemSpace(alex_unique_shmem_size());
	RequestAddinShmemSpace(alex_claims_shmem_size());
	RequestAddinShmemSpace(alex_hints_shmem_size());
	RequestAddinShmemSpace(alex_activity_shmem_size());
}

static void
start_shared_memory(void)
{
	if (previous_shmem_startup)
		previous_shmem_startup();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	alex_arena_shmem_init();
	alex_registry_shmem_init();
	alex_readers_shmem_init();
	alex_verified_shmem_init();
	alex_unique_shmem_init();
	alex_claims_shmem_init();
	alex_hints_shmem_init();
	alex_activity_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

bool
alex_is_preloaded(void)
{
	return preloaded;
}

void
alex_require_preload(void)
{
	if (!preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("alexam must be loaded via shared_preload_libraries"),
				 errhint("Add alexam to shared_preload_libraries and restart the server.")));

	/* where it cannot be found out, let it be an error of no consequence */
	(void) alex_database_birth();
}

#ifdef ALEX_FAILPOINTS

static char *failpoint_setting = NULL;
static const char *failpoint = NULL;	/* without "+" */
static bool failpoint_spares_next = false;

static void
assign_failpoint(const char *newval, void *extra)
{
	failpoint_spares_next = newval != NULL && *newval == '+';
	failpoint = failpoint_spares_next ? newval + 1 : newval;
}

/* Is the setting this name followed by this character? */
static bool
failpoint_is(const char *name, char how)
{
	size_t		length = strlen(name);

	return failpoint != NULL && strncmp(failpoint, name, length) == 0 &&
		failpoint[length] == how;
}

/*
 * alexam.failpoint is "name" (an error is raised there), "name!" (the server
 * panics there, as in a crash), "name?" (the session waits there to be
 * cancelled or killed, or for another value in the configuration file) or
 * "name@path" (it waits there, perhaps with locks that hold off interrupts,
 * for a file to be made).  Either kind of waiting is seen in pg_stat_activity.
 * With "+" before the name, nothing happens the first time.
 */
void
alex_failpoint(const char *name)
{
	if (failpoint_spares_next && strncmp(failpoint, name, strlen(name)) == 0)
	{
		failpoint_spares_next = false;
		return;
	}
	if (failpoint_is(name, '\0'))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("failpoint \"%s\" reached", name)));
	if (failpoint_is(name, '!'))
		ereport(PANIC,
				(errmsg("failpoint \"%s\" reached", name)));
	while (failpoint_is(name, '@') &&
		   access(failpoint + strlen(name) + 1, F_OK) != 0)
	{
		pgstat_report_wait_start(PG_WAIT_EXTENSION);
		pg_usleep(10000L);
		pgstat_report_wait_end();
	}
	while (failpoint_is(name, '?'))
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 100L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}
#endif

static void
define_compaction_settings(void)
{
	DefineCustomBoolVariable("alexam.background_compaction",
							 "Compacts alex indexes in background workers.",
							 NULL,
							 &alex_background_compaction, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.max_compaction_workers",
							"Number of databases whose indexes are compacted in the background at a time.",
							NULL,
							&alex_max_compaction_workers, 2,
							1, ALEX_MAX_COMPACTION_WORKERS,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.compaction_cost_limit",
							"Cost after which a background worker that compacts takes a nap.",
							"Costs are those of vacuum_cost_page_hit and its like. Where much is dead, the nap comes after four times as much.",
							&alex_compaction_cost_limit, 200,
							1, 10000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomRealVariable("alexam.compaction_cost_delay",
							 "Length of that nap.",
							 "Zero means that background compaction is not slowed down.",
							 &alex_compaction_cost_delay, 2.0, 0.0, 100.0,
							 PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.log_compaction_min_duration",
							"Compactions that take this long are logged.",
							"Zero logs all of them. -1 turns this off.",
							&alex_log_compaction_min_duration, 600000,
							-1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_settings(void)
{
	DefineCustomBoolVariable("alexam.use_mmap",
							 "Reads sealed index pages through memory mappings.",
							 "If off, all index pages are read through shared buffers.",
							 &alex_use_mmap, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("alexam.verify_checksums",
							 "Verifies the checksum of each sealed page when it is first read.",
							 NULL,
							 &alex_verify_checksums, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.memtable_memory",
							"Shared memory for the entries of all alex indexes that are not in a run yet.",
							NULL,
							&alex_memtable_memory, 64 * 1024,
							1024, MAX_KILOBYTES,
							PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.memtable_entries",
							"Number of new entries after which an index's log is sealed into a run.",
							NULL,
							&alex_memtable_entries, 500000,
							100, 100000000,
							PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.max_memtables",
							"Number of indexes whose memtables can be in shared memory at a time.",
							NULL,
							&alex_max_memtables, 1024,
							8, 100000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.hint_memory",
							"Shared memory for hints on entries of runs whose rows are dead.",
							NULL,
							&alex_hint_memory, 4 * 1024,
							64, 1024 * 1024,
							PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);

	DefineCustomRealVariable("alexam.bloom_bits",
							 "Bits per key of the Bloom filters of new runs.",
							 "Zero means that no Bloom filters are built.",
							 &alex_bloom_bits, 11.0, 0.0, 32.0,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.batch_size",
							"Number of new entries of an index that a transaction collects before it flushes them.",
							"At 1 every entry is written at once.",
							&alex_batch_size, 1024 * 1024,
							1, 100000000,
							PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.batch_memory",
							"Memory for the new entries of all indexes that a transaction collects.",
							NULL,
							&alex_batch_memory, 64 * 1024,
							64, MAX_KILOBYTES,
							PGC_USERSET, GUC_UNIT_KB, NULL, NULL, NULL);

	DefineCustomIntVariable("alexam.direct_seal_threshold",
							"Number of collected entries from which they are written as runs instead of to the log.",
							NULL,
							&alex_direct_seal_threshold, 100000,
							1, INT_MAX,
							PGC_SUSET, 0, NULL, NULL, NULL);

	define_compaction_settings();

#ifdef ALEX_FAILPOINTS
	DefineCustomStringVariable("alexam.failpoint",
							   "Point at which this session fails, for tests.",
							   NULL,
							   &failpoint_setting, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   NULL, assign_failpoint, NULL);
#endif

	MarkGUCPrefixReserved("alexam");
}

/*
 * Without preloading there is neither shared memory nor a resource manager.
 * The library then loads all the same, so that DROP INDEX and DROP EXTENSION
 * work; whatever touches an index raises an error with a hint.
 */
void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	define_settings();
	alex_wal_register();
	alex_pending_init();
	alex_scan_init();
	alex_commands_init();
	alex_statistics_init();
	alex_launcher_register();

	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = request_shared_memory;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = start_shared_memory;
	preloaded = true;
}
