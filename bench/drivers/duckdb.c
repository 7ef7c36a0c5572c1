/*-------------------------------------------------------------------------
 *
 * duckdb.c
 *	  DuckDB as an engine: one file, rows through an appender, an ART index on
 *	  the key, prepared statements.
 *
 * One thread, as everybody else has.  There is no commit that does not wait
 * for the disk, so single commits do.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/drivers/duckdb.c
 *
 *-------------------------------------------------------------------------
 */
#include <duckdb.h>
#include <stddef.h>
#include <stdio.h>

#include "engine.h"

static duckdb_database database;
static duckdb_connection connection;
static duckdb_appender appender;
static duckdb_prepared_statement find;
static duckdb_prepared_statement range;

static void
check(duckdb_state state, const char *what)
{
	if (state != DuckDBSuccess)
		engine_fail("DuckDB", what);
}

static void
run(const char *sql)
{
	duckdb_result result;

	if (duckdb_query(connection, sql, &result) != DuckDBSuccess)
		engine_fail(sql, duckdb_result_error(&result));
	duckdb_destroy_result(&result);
}

static duckdb_prepared_statement
prepare(const char *sql)
{
	duckdb_prepared_statement statement;

	if (duckdb_prepare(connection, sql, &statement) != DuckDBSuccess)
		engine_fail(sql, duckdb_prepare_error(statement));
	return statement;
}

void
engine_open(const char *directory, bool with_index, int cache)
{
	char		text[4096];

	snprintf(text, sizeof(text), "%s/bench.duckdb", directory);
	check(duckdb_open(text, &database), "cannot open a database");
	check(duckdb_connect(database, &connection), "cannot connect");
	/* what it needs for its work is in this, too */
	snprintf(text, sizeof(text), "SET memory_limit = '%dMB'", 4 * cache);
	run(text);
	run("SET threads = 1");
	run("CREATE TABLE t (number BIGINT, k BIGINT, v BIGINT)");
	if (with_index)
		run("CREATE INDEX t_k ON t (k)");
	check(duckdb_appender_create(connection, NULL, "t", &appender),
		  "cannot append");
	find = prepare("SELECT v FROM t WHERE k = ?");
	range = prepare("SELECT v FROM t WHERE k >= ? ORDER BY k LIMIT ?");
}

void
engine_begin(void)
{
	run("BEGIN TRANSACTION");
}

void
engine_commit(void)
{
	if (duckdb_appender_flush(appender) != DuckDBSuccess)
		engine_fail("DuckDB", duckdb_appender_error(appender));
	run("COMMIT");
}

void
engine_insert(uint64_t number, uint64_t key, uint64_t value)
{
	duckdb_append_int64(appender, (int64_t) number);
	duckdb_append_int64(appender, (int64_t) key);
	duckdb_append_int64(appender, (int64_t) value);
	if (duckdb_appender_end_row(appender) != DuckDBSuccess)
		engine_fail("DuckDB", duckdb_appender_error(appender));
}

void
engine_settle(void)
{
	run("CHECKPOINT");
}

static uint64_t
add_values(duckdb_prepared_statement statement, uint64_t *sum)
{
	duckdb_result result;
	duckdb_data_chunk chunk;
	uint64_t	rows = 0;

	if (duckdb_execute_prepared(statement, &result) != DuckDBSuccess)
		engine_fail("DuckDB", duckdb_result_error(&result));
	while ((chunk = duckdb_fetch_chunk(result)) != NULL)
	{
		idx_t		count = duckdb_data_chunk_get_size(chunk);
		const int64_t *values =
			duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));

		for (idx_t i = 0; i < count; i++)
			*sum += (uint64_t) values[i];
		rows += count;
		duckdb_destroy_data_chunk(&chunk);
		if (count == 0)
			break;
	}
	duckdb_destroy_result(&result);
	return rows;
}

uint64_t
engine_find(uint64_t key, uint64_t *sum)
{
	duckdb_bind_int64(find, 1, (int64_t) key);
	return add_values(find, sum);
}

uint64_t
engine_range(uint64_t key, uint64_t limit, uint64_t *sum)
{
	duckdb_bind_int64(range, 1, (int64_t) key);
	duckdb_bind_int64(range, 2, (int64_t) limit);
	return add_values(range, sum);
}

uint64_t
engine_memory(void)
{
	duckdb_result result;
	duckdb_data_chunk chunk;
	uint64_t	bytes;

	if (duckdb_query(connection, "SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()",
					 &result) != DuckDBSuccess)
		engine_fail("DuckDB", duckdb_result_error(&result));
	chunk = duckdb_fetch_chunk(result);
	bytes = *(uint64_t *) duckdb_vector_get_data(duckdb_data_chunk_get_vector(chunk, 0));
	duckdb_destroy_data_chunk(&chunk);
	duckdb_destroy_result(&result);
	return bytes;
}

void
engine_close(void)
{
	duckdb_destroy_prepare(&find);
	duckdb_destroy_prepare(&range);
	check(duckdb_appender_destroy(&appender), "cannot finish appending");
	duckdb_disconnect(&connection);
	duckdb_close(&database);
}
