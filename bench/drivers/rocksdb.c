/*-------------------------------------------------------------------------
 *
 * rocksdb.c
 *	  RocksDB as an engine: a column family of rows by their numbers, and one
 *	  that is the index, with (key, number) as its keys and nothing as values.
 *
 * Insertions go through write batches of 1,000 rows, with the write-ahead log
 * on and without waiting for the disk, like PostgreSQL's with
 * synchronous_commit = off.  Filters of the index are of keys alone, without
 * row numbers, and so spare absent keys the search.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/drivers/rocksdb.c
 *
 *-------------------------------------------------------------------------
 */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#define BATCH_ROWS		1000
#define BLOOM_BITS		10
#define KEY_BYTES		8

static rocksdb_t *database;
static rocksdb_options_t *options;
static rocksdb_cache_t *cache;
static rocksdb_writeoptions_t *write_options;
static rocksdb_readoptions_t *read_options;
static rocksdb_readoptions_t *equal_options;	/* within one key */
static rocksdb_readoptions_t *range_options;	/* across keys */
static rocksdb_column_family_handle_t *families[2];
static rocksdb_writebatch_t *batch;
static rocksdb_iterator_t *equal_iterator;
static rocksdb_iterator_t *range_iterator;
static bool has_index;

enum
{
	ROWS, INDEX
};

static void
check(char *error)
{
	if (error != NULL)
		engine_fail("RocksDB", error);
}

/* Numbers are stored so that their bytes sort as they do. */
static void
put_number(char *bytes, uint64_t number)
{
	number = __builtin_bswap64(number);
	memcpy(bytes, &number, sizeof(number));
}

static uint64_t
get_number(const char *bytes)
{
	uint64_t	number;

	memcpy(&number, bytes, sizeof(number));
	return __builtin_bswap64(number);
}

void
engine_open(const char *directory, bool with_index, int megabytes)
{
	rocksdb_block_based_table_options_t *table_options;
	const char *names[] = {"default", "index"};
	rocksdb_options_t *index_options;
	const rocksdb_options_t *all_options[2];
	char		path[4096];
	char	   *error = NULL;

	has_index = with_index;
	cache = rocksdb_cache_create_lru((size_t) megabytes << 20);
	table_options = rocksdb_block_based_options_create();
	rocksdb_block_based_options_set_block_cache(table_options, cache);
	rocksdb_block_based_options_set_filter_policy(table_options,
												  rocksdb_filterpolicy_create_bloom_full(BLOOM_BITS));
	options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(options, 1);
	rocksdb_options_set_create_missing_column_families(options, 1);
	rocksdb_options_increase_parallelism(options, 2);
	rocksdb_options_set_write_buffer_size(options, (size_t) 64 << 20);
	rocksdb_options_set_max_write_buffer_number(options, 3);
	rocksdb_options_set_block_based_table_factory(options, table_options);
	index_options = rocksdb_options_create_copy(options);
	rocksdb_options_set_prefix_extractor(index_options,
										 rocksdb_slicetransform_create_fixed_prefix(KEY_BYTES));
	all_options[ROWS] = options;
	all_options[INDEX] = index_options;
	snprintf(path, sizeof(path), "%s/bench.rocksdb", directory);
	database = rocksdb_open_column_families(options, path, 2, names,
											all_options, families, &error);
	check(error);
	write_options = rocksdb_writeoptions_create();
	read_options = rocksdb_readoptions_create();
	equal_options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_prefix_same_as_start(equal_options, 1);
	range_options = rocksdb_readoptions_create();
	rocksdb_readoptions_set_total_order_seek(range_options, 1);
	batch = rocksdb_writebatch_create();
}

static void
write_batch(void)
{
	char	   *error = NULL;

	rocksdb_write(database, write_options, batch, &error);
	check(error);
	rocksdb_writebatch_clear(batch);
}

void
engine_begin(void)
{
}

void
engine_commit(void)
{
	write_batch();
}

void
engine_insert(uint64_t number, uint64_t key, uint64_t value)
{
	char		row_key[8];
	char		row[16];
	char		index_key[16];

	put_number(row_key, number);
	put_number(row, key);
	put_number(row + 8, value);
	rocksdb_writebatch_put_cf(batch, families[ROWS], row_key, sizeof(row_key),
							  row, sizeof(row));
	if (has_index)
	{
		put_number(index_key, key);
		put_number(index_key + 8, number);
		rocksdb_writebatch_put_cf(batch, families[INDEX], index_key,
								  sizeof(index_key), "", 0);
	}
	if (rocksdb_writebatch_count(batch) >= BATCH_ROWS)
		write_batch();
}

void
engine_settle(void)
{
	rocksdb_flushoptions_t *flush_options = rocksdb_flushoptions_create();
	char	   *error = NULL;

	rocksdb_flushoptions_set_wait(flush_options, 1);
	for (int i = 0; i < 2; i++)
	{
		rocksdb_flush_cf(database, flush_options, families[i], &error);
		check(error);
		rocksdb_compact_range_cf(database, families[i], NULL, 0, NULL, 0);
	}
	rocksdb_flushoptions_destroy(flush_options);
	equal_iterator = rocksdb_create_iterator_cf(database, equal_options,
												families[INDEX]);
	range_iterator = rocksdb_create_iterator_cf(database, range_options,
												families[INDEX]);
}

/* The value of the row on whose index entry the iterator stands. */
static uint64_t
row_value(const char *index_key)
{
	char	   *error = NULL;
	size_t		length;
	rocksdb_pinnableslice_t *slice;
	uint64_t	value;

	slice = rocksdb_get_pinned_cf(database, read_options, families[ROWS],
								  index_key + 8, 8, &error);
	check(error);
	if (slice == NULL)
		engine_fail("RocksDB", "a row is missing");
	value = get_number(rocksdb_pinnableslice_value(slice, &length) + 8);
	rocksdb_pinnableslice_destroy(slice);
	return value;
}

static uint64_t
read_entries(uint64_t key, bool equal, uint64_t limit, uint64_t *sum)
{
	rocksdb_iterator_t *iterator = equal ? equal_iterator : range_iterator;
	char		bound[KEY_BYTES];
	uint64_t	rows = 0;

	put_number(bound, key);
	for (rocksdb_iter_seek(iterator, bound, sizeof(bound));
		 rows < limit && rocksdb_iter_valid(iterator);
		 rocksdb_iter_next(iterator))
	{
		size_t		length;
		const char *index_key = rocksdb_iter_key(iterator, &length);

		if (equal && get_number(index_key) != key)
			break;
		*sum += row_value(index_key);
		rows++;
	}
	return rows;
}

uint64_t
engine_find(uint64_t key, uint64_t *sum)
{
	return read_entries(key, true, UINT64_MAX, sum);
}

uint64_t
engine_range(uint64_t key, uint64_t limit, uint64_t *sum)
{
	return read_entries(key, false, limit, sum);
}

uint64_t
engine_memory(void)
{
	uint64_t	bytes = rocksdb_cache_get_usage(cache);

	for (int i = 0; i < 2; i++)
	{
		static const char *const parts[] = {
			"rocksdb.estimate-table-readers-mem",
			"rocksdb.cur-size-all-mem-tables"
		};

		for (int part = 0; part < 2; part++)
		{
			char	   *text = rocksdb_property_value_cf(database, families[i],
														 parts[part]);

			if (text != NULL)
				bytes += strtoull(text, NULL, 10);
			free(text);
		}
	}
	return bytes;
}

void
engine_close(void)
{
	if (equal_iterator != NULL)
		rocksdb_iter_destroy(equal_iterator);
	if (range_iterator != NULL)
		rocksdb_iter_destroy(range_iterator);
	for (int i = 0; i < 2; i++)
		rocksdb_column_family_handle_destroy(families[i]);
	rocksdb_close(database);
}
