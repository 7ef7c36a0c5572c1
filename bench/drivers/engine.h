/*-------------------------------------------------------------------------
 *
 * engine.h
 *	  What an embedded database has to do for embedded.c.
 *
 * There is one table of rows (number, key, value), found by number, and with
 * it an index on the key, if one is asked for.  A row's number is its place in
 * the order of insertion.  Every function ends the program if it fails.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/drivers/engine.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

/* Opens a new database in an empty directory; the cache is in megabytes. */
extern void engine_open(const char *directory, bool with_index, int cache);

/* Between these two, insertions belong to one transaction or batch. */
extern void engine_begin(void);
extern void engine_commit(void);
extern void engine_insert(uint64_t number, uint64_t key, uint64_t value);

/* Brings what has been inserted to where reading is fast. */
extern void engine_settle(void);

/* Adds the values of all rows with the key; returns their number. */
extern uint64_t engine_find(uint64_t key, uint64_t *sum);

/* Adds the values of the first rows, at most "limit", from the key on. */
extern uint64_t engine_range(uint64_t key, uint64_t limit, uint64_t *sum);

/* Bytes of memory in which the database keeps what it reads. */
extern uint64_t engine_memory(void);

extern void engine_close(void);
extern void engine_fail(const char *what, const char *message);

#endif							/* BENCH_ENGINE_H */
