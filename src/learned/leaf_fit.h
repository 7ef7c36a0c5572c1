/*-------------------------------------------------------------------------
 *
 * leaf_fit.h
 *	  Finding the smallest packed form of a column of numbers, and writing it.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf_fit.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_LEAF_FIT_H
#define ALEX_LEAF_FIT_H

#include "leaf_format.h"

/* How a column will be stored; see leaf_format.h. */
typedef struct AlexColumnPlan
{
	uint64_t	origin;			/* base and exceptions are stored less this */
	uint64_t	base;
	uint64_t	slope;
	uint64_t	range;			/* highest residual, before exceptions */
	unsigned	width;
	unsigned	shift;
	unsigned	exception_bytes;
	int			nexceptions;	/* numbers whose residual exceeds the width */
	int			header_bytes;
	int			bytes;			/* header and data */
} AlexColumnPlan;

/*
 * Plans a column.  No number is below the origin.  The caller says where the
 * lowest and the highest number are: it mostly knows without a pass over them.
 */
extern void alex_fit_column(const uint64_t *numbers, int count,
							int lowest_at, int highest_at,
							uint64_t origin, AlexColumnPlan *plan);
extern void alex_find_extremes(const uint64_t *numbers, int count,
							   int *lowest_at, int *highest_at);

/* Both return the end of what they wrote. */
extern uint8_t *alex_write_column_header(uint8_t *out,
										 const AlexColumnPlan *plan,
										 unsigned extra);
extern uint8_t *alex_write_column_data(uint8_t *out,
									   const AlexColumnPlan *plan,
									   const uint64_t *numbers, int count);

static inline void
alex_store64(uint8_t *to, uint64_t value)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	value = __builtin_bswap64(value);
#endif
	memcpy(to, &value, sizeof(value));
}

/* The lowest "bytes" bytes of a number; returns their end. */
static inline uint8_t *
alex_store_bytes(uint8_t *to, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*to++ = (uint8_t) (value >> (8 * i));
	return to;
}

#endif							/* ALEX_LEAF_FIT_H */
