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

/*
 * Whoever reads a page trusts that it has the right contents, which its hash
 * has shown, but not so far as to leave the page: it may have been read from a
 * damaged disk anew since then, or hashes may not be looked at.  So a header,
 * or the data of a column, that would reach beyond "end" are taken for a
 * column without bits.  Loads of eight bytes, or nine, may reach beyond it, but
 * not beyond the page.
 */
#define ALEX_LEAF_END(page) \
	((const uint8_t *) (page) + ALEX_PAGE_SIZE - 16)

/* The most that a header takes, whatever its descriptor says. */
#define ALEX_COLUMN_HEADER_MAX	(ALEX_DESCRIPTOR_BYTES + 15 + 15 + 2)

/*
 * Zeros: what is read instead.  As headers these are of columns without bits,
 * four bytes each; there are more of them than a block has headers.
 */
extern const uint8_t alex_no_bits[ALEX_LINE_SIZE];

/* Compilers find these too large, which costs a probe a fifth of its time. */
#ifdef __GNUC__
#define ALEX_COLUMN_INLINE		inline __attribute__((always_inline))
#else
#define ALEX_COLUMN_INLINE		inline
#endif

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
 * Is there a header before "end", of the length that its descriptor says?
 * Few blocks are so near the end of a page that this is asked.
 */
extern bool alex_column_header_fits(const uint8_t *header, const uint8_t *end);

/*
 * Reads a column's header.  Returns what follows it, and its descriptor's
 * last field in *extra if the caller wants that.
 */
static ALEX_COLUMN_INLINE const uint8_t *
alex_column_open(const uint8_t *header, const uint8_t *end, uint64_t origin,
				 AlexColumn *column, unsigned *extra)
{
	uint32_t	descriptor;
	unsigned	base_bytes;
	unsigned	slope_bytes;

	if (__builtin_expect(end - header < ALEX_COLUMN_HEADER_MAX, 0) &&
		!alex_column_header_fits(header, end))
		header = alex_no_bits;

	descriptor = alex_load32(header);
	base_bytes = ALEX_DESCRIPTOR_BASE_BYTES(descriptor);
	slope_bytes = ALEX_DESCRIPTOR_SLOPE_BYTES(descriptor);
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
static ALEX_COLUMN_INLINE const uint8_t *
alex_column_place(const uint8_t *data, const uint8_t *end, int count,
				  AlexColumn *column)
{
	int			exceptions = column->nexceptions *
		(2 + (int) column->exception_bytes);
	int			bytes = exceptions + alex_packed_bytes(count, column->width);

	if (__builtin_expect(bytes > end - data, 0))
	{
		column->nexceptions = 0;
		column->width = 0;
		column->mask = 0;
		column->bits = alex_no_bits;
		return data;
	}
	column->exceptions = data;
	column->bits = data + exceptions;
	return data + bytes;
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
