/*-------------------------------------------------------------------------
 *
 * sorter.h
 *	  Sorting entries within a memory limit; see src/am/sorter.c.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/sorter.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_SORTER_H
#define ALEX_SORTER_H

#include "postgres.h"

#include "alex/learned.h"

typedef struct AlexSorter AlexSorter;

/* memory is in bytes; everything lives in the current memory context. */
extern AlexSorter *alex_sorter_begin(Size memory);
extern void alex_sorter_add(AlexSorter *sorter, uint64 key, uint64 tid);
extern uint64 alex_sorter_count(const AlexSorter *sorter);
/* After the last add, before the first read. */
extern void alex_sorter_sort(AlexSorter *sorter);
/* The next entries, valid until the next call; 0 at the end. */
extern int	alex_sorter_read(AlexSorter *sorter, const AlexEntry **entries);
extern void alex_sorter_end(AlexSorter *sorter);

#endif							/* ALEX_SORTER_H */
