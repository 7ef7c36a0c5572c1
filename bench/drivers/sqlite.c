/*-------------------------------------------------------------------------
 *
 * sqlite.c
 *	  SQLite as an engine: one file with a write-ahead log, prepared statements.
 *
 * With synchronous = NORMAL a commit writes to the log and does not wait for
 * the disk, like PostgreSQL's with synchronous_commit = off.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/drivers/sqlite.c
 *
 *-------------------------------------------------------------------------
 */
#include <sqlite3.h>
#include <stdio.h>

#include "engine.h"

static sqlite3 *database;
static sqlite3_stmt *begin;
static sqlite3_stmt *commit;
static sqlite3_stmt *insert;
static sqlite3_stmt *find;
static sqlite3_stmt *range;

static void
check(int status, int expected)
{
	if (status != expected)
		engine_fail("SQLite", sqlite3_errmsg(database));
}

static void
run(const char *sql)
{
	check(sqlite3_exec(database, sql, NULL, NULL, NULL), SQLITE_OK);
}

static sqlite3_stmt *
prepare(const char *sql)
{
	sqlite3_stmt *statement;

	check(sqlite3_prepare_v3(database, sql, -1, SQLITE_PREPARE_PERSISTENT,
							 &statement, NULL), SQLITE_OK);
	return statement;
}

static void
execute(sqlite3_stmt *statement)
{
	check(sqlite3_step(statement), SQLITE_DONE);
	sqlite3_reset(statement);
}

void
engine_open(const char *directory, bool with_index, int cache)
{
	char		text[4096];

	snprintf(text, sizeof(text), "%s/bench.sqlite", directory);
	check(sqlite3_open(text, &database), SQLITE_OK);
	snprintf(text, sizeof(text), "PRAGMA cache_size = -%d", cache * 1024);
	run(text);
	run("PRAGMA journal_mode = WAL");
	run("PRAGMA synchronous = NORMAL");
	run("PRAGMA page_size = 8192");
	run("CREATE TABLE t (number INTEGER PRIMARY KEY, k INTEGER, v INTEGER)");
	if (with_index)
		run("CREATE INDEX t_k ON t (k)");
	begin = prepare("BEGIN");
	commit = prepare("COMMIT");
	insert = prepare("INSERT INTO t VALUES (?, ?, ?)");
	find = prepare("SELECT v FROM t WHERE k = ?");
	range = prepare("SELECT v FROM t WHERE k >= ? ORDER BY k LIMIT ?");
}

void
engine_begin(void)
{
	execute(begin);
}

void
engine_commit(void)
{
	execute(commit);
}

void
engine_insert(uint64_t number, uint64_t key, uint64_t value)
{
	sqlite3_bind_int64(insert, 1, number);
	sqlite3_bind_int64(insert, 2, key);
	sqlite3_bind_int64(insert, 3, value);
	execute(insert);
}

void
engine_settle(void)
{
	run("PRAGMA wal_checkpoint(TRUNCATE)");
}

static uint64_t
add_values(sqlite3_stmt *statement, uint64_t *sum)
{
	uint64_t	rows = 0;
	int			status;

	while ((status = sqlite3_step(statement)) == SQLITE_ROW)
	{
		*sum += sqlite3_column_int64(statement, 0);
		rows++;
	}
	check(status, SQLITE_DONE);
	sqlite3_reset(statement);
	return rows;
}

uint64_t
engine_find(uint64_t key, uint64_t *sum)
{
	sqlite3_bind_int64(find, 1, key);
	return add_values(find, sum);
}

uint64_t
engine_range(uint64_t key, uint64_t limit, uint64_t *sum)
{
	sqlite3_bind_int64(range, 1, key);
	sqlite3_bind_int64(range, 2, limit);
	return add_values(range, sum);
}

uint64_t
engine_memory(void)
{
	return sqlite3_memory_used();
}

void
engine_close(void)
{
	sqlite3_finalize(begin);
	sqlite3_finalize(commit);
	sqlite3_finalize(insert);
	sqlite3_finalize(find);
	sqlite3_finalize(range);
	check(sqlite3_close(database), SQLITE_OK);
}
