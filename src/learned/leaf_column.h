/*-------------------------------------------------------------------------
 *
 * leaf_column.h
 *	  Reading single numbers of a packed column of a leaf page.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf_column.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_LEAF_COLUMN_H
#define ALEX_LEAF_COLUMN_H

#include "leaf_format.h"

/* A residual of at most that many bits is in eight bytes, wherever it begins. */
#define ALEX_NARROW_WIDTH		57

/* A column, ready to be read. */
typedef struct AlexColumn
{
	uint64_t	origin;			/* what all numbers are relative to */
	uint64_t	base;			/* origin included */
	uint64_t	slope;
	uint64_t	mask;			/* of "width" bits */
	const uint8_t *bits;		/* the residuals */
	const uint8_t *exceptions;	/* positions, followed by numbers */
	unsigned	width;
	unsigned	shift;
	unsigned	exception_bytes;
	int			nexceptions;
} AlexColumn;

/*
 * Reads a column's header.  Returns what follows it, and its descriptor's
 * last field in *extra if the caller wants that.
 */
static inline const uint8_t *
alex_column_open(const uint8_t *header, uint64_t origin, AlexColumn *column,
				 unsigned *extra)
{
	uint32_t	descriptor = alex_load32(header);
	unsigned	base_bytes = ALEX_DESCRIPTOR_BASE_BYTES(descriptor);
	unsigned	slope_bytes = ALEX_DESCRIPTOR_SLOPE_BYTES(descriptor);

	header += ALEX_DESCRIPTOR_BYTES;
	column->width = ALEX_DESCRIPTOR_WIDTH(descriptor);
	column->mask = alex_bit_mask(column->width);
	column->shift = ALEX_DESCRIPTOR_SHIFT(descriptor);
	column->exception_bytes = ALEX_DESCRIPTOR_EXCEPTION_BYTES(descriptor);
	column->origin = origin;
	column->base = origin + alex_load_signed(header, base_bytes);
	header += base_bytes;
	column->slope = alex_load_bytes(header, slope_bytes);
	header += slope_bytes;
	column->nexceptions = 0;
	if (column->exception_bytes > 0)
	{
		column->nexceptions = alex_load16(header);
		header += 2;
	}
	if (extra)
		*extra = ALEX_DESCRIPTOR_EXTRA(descriptor);
	return header;
}

/* Tells a column of "count" numbers where its data is; returns their end. */
static inline const uint8_t *
alex_column_place(const uint8_t *data, int count, AlexColumn *column)
{
	column->exceptions = data;
	data += column->nexceptions * (2 + column->exception_bytes);
	column->bits = data;
	return data + alex_packed_bytes(count, column->width);
}

static inline uint64_t
alex_column_residual(const AlexColumn *column, uint32_t index)
{
	uint32_t	position = index * column->width;
	const uint8_t *from = column->bits + (position >> 3);
	unsigned	skip = position & 7;
	uint64_t	residual = alex_load64(from) >> skip;

	if (column->width > ALEX_NARROW_WIDTH && skip > 0)
		residual |= (uint64_t) from[8] << (64 - skip);
	return residual & column->mask;
}

/* The first exception at or after a position. */
static inline int
alex_column_find_exception(const AlexColumn *column, uint32_t index)
{
	int			low = 0;
	int			high = column->nexceptions;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (alex_load16(column->exceptions + 2 * middle) < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static inline uint64_t
alex_column_exception(const AlexColumn *column, int exception)
{
	return column->origin +
		alex_load_bytes(column->exceptions + 2 * column->nexceptions +
						exception * (int) column->exception_bytes,
						column->exception_bytes);
}

static inline uint64_t
alex_column_number(const AlexColumn *column, uint32_t index)
{
	if (__builtin_expect(column->nexceptions > 0, 0))
	{
		int			exception = alex_column_find_exception(column, index);

		if (exception < column->nexceptions &&
			alex_load16(column->exceptions + 2 * exception) == index)
			return alex_column_exception(column, exception);
	}
	return column->base + ((column->slope * index) >> column->shift) +
		alex_column_residual(column, index);
}

#endif							/* ALEX_LEAF_COLUMN_H */
