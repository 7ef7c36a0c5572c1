/*-------------------------------------------------------------------------
 *
 * embedded.c
 *	  Runs the workloads of the benchmarks on an embedded database.
 *
 *	  PROGRAM DIRECTORY KEYS ROWS MORE COMMITS HITS MISSES RANGES CACHE INDEX
 *
 * It inserts the first ROWS of the file KEYS in one transaction, the next MORE
 * in another, and the COMMITS after these each in its own; then it looks for
 * the keys of HITS, of MISSES, and reads ranges of 1,000 rows from the keys of
 * RANGES on.  CACHE is in megabytes, INDEX 1 or 0: without the index there is
 * nothing to be read.  It prints a line for each workload: its name,
 * milliseconds, number of operations, and a number to check the answer by.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/drivers/embedded.c
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

#define RANGE_ROWS		1000

typedef struct Keys
{
	uint64_t	count;
	uint64_t   *keys;
} Keys;

void
engine_fail(const char *what, const char *message)
{
	fprintf(stderr, "%s: %s\n", what, message != NULL ? message : "failed");
	exit(1);
}

static double
milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static Keys
read_keys(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	Keys		result;

	if (file == NULL || fread(&result.count, sizeof(uint64_t), 1, file) != 1)
		engine_fail(path, strerror(errno));
	result.keys = malloc((result.count + 1) * sizeof(uint64_t));
	if (result.keys == NULL ||
		fread(result.keys, sizeof(uint64_t), result.count, file) != result.count)
		engine_fail(path, "could not read the keys");
	fclose(file);
	return result;
}

static void
report(const char *workload, double start, uint64_t operations, uint64_t answer)
{
	printf("%s\t%.3f\t%" PRIu64 "\t%" PRIu64 "\n", workload,
		   milliseconds() - start, operations, answer);
	fflush(stdout);
}

static void
insert_rows(const char *workload, const Keys *keys, uint64_t first,
			uint64_t count)
{
	double		start = milliseconds();

	engine_begin();
	for (uint64_t i = first; i < first + count; i++)
		engine_insert(i, keys->keys[i], i);
	engine_commit();
	report(workload, start, count, 0);
}

static void
commit_rows(const Keys *keys, uint64_t first, uint64_t count)
{
	double		start = milliseconds();

	for (uint64_t i = first; i < first + count; i++)
	{
		engine_begin();
		engine_insert(i, keys->keys[i], i);
		engine_commit();
	}
	report("commits", start, count, 0);
}

static void
find_keys(const char *workload, const Keys *probes)
{
	double		start = milliseconds();
	uint64_t	sum = 0;

	for (uint64_t i = 0; i < probes->count; i++)
		engine_find(probes->keys[i], &sum);
	report(workload, start, probes->count, sum);
}

static void
read_ranges(const Keys *starts)
{
	double		start = milliseconds();
	uint64_t	sum = 0;

	for (uint64_t i = 0; i < starts->count; i++)
		engine_range(starts->keys[i], RANGE_ROWS, &sum);
	report("range_1000", start, starts->count, sum);
}

int
main(int argc, char **argv)
{
	Keys		keys;
	Keys		hits;
	Keys		misses;
	Keys		ranges;
	uint64_t	rows;
	uint64_t	more;
	uint64_t	commits;
	bool		with_index;

	if (argc != 11)
		engine_fail("usage", "PROGRAM DIRECTORY KEYS ROWS MORE COMMITS HITS MISSES RANGES CACHE INDEX");
	keys = read_keys(argv[2]);
	rows = strtoull(argv[3], NULL, 10);
	more = strtoull(argv[4], NULL, 10);
	commits = strtoull(argv[5], NULL, 10);
	hits = read_keys(argv[6]);
	misses = read_keys(argv[7]);
	ranges = read_keys(argv[8]);
	with_index = strcmp(argv[10], "1") == 0;
	if (keys.count < rows + more + commits)
		engine_fail(argv[2], "too few keys");

	engine_open(argv[1], with_index, atoi(argv[9]));
	insert_rows("load", &keys, 0, rows);
	engine_settle();
	if (with_index)
	{
		/* the second pass is warm, and the one that counts */
		find_keys("cold", &hits);
		find_keys("point_hit", &hits);
		find_keys("point_miss", &misses);
		read_ranges(&ranges);
		report("memory", milliseconds(), 1, engine_memory());
	}
	insert_rows("insert", &keys, rows, more);
	commit_rows(&keys, rows + more, commits);
	engine_close();
	return 0;
}
