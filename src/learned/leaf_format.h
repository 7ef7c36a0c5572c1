/*-------------------------------------------------------------------------
 *
 * leaf_format.h
 *	  The layout of packed leaf pages, shared by their encoder and readers.
 *
 * A leaf page:
 *
 *		AlexLeafHeader				64 bytes, one cache line
 *		directory					mini-blocks only: uint64 fences, then
 *									uint16 offsets in the page
 *		blocks						one after the other, without gaps
 *		zeros
 *		dead bitmap					at the end of the page, one bit an entry
 *
 * In the segment layout there is one block with all entries.  In the
 * mini-block layout every block has ALEX_LEAF_BLOCK entries but the last,
 * which may have fewer.
 *
 * The first key of a block is its fence.  It stands in the page's header or
 * in the directory, and the block's keys are stored relative to it.  Where a
 * page is in mini-blocks, its keys do not follow a line: a model would often
 * name the wrong block, and finding that out costs cache lines.  The fences
 * name the right one, and cost little since the blocks get by without them.
 *
 * A block is the header of its key column, the header of its TID encoding,
 * then the data of the key column and of the TID columns, in this order.
 * All headers stand together so that a probe finds them in one cache line.
 *
 * A column of n numbers is stored as
 *
 *		number[i] = base + ((slope * i) >> shift) + residual[i]
 *
 * modulo 2^64 (keys: plus the fence), which covers a constant (slope and
 * width 0), a frame of reference (slope 0) and a line in one exact formula.
 * slope * (n - 1) never exceeds 64 bits.  Numbers that would need a residual
 * wider than the column's are exceptions, kept whole in a sorted list.
 *
 *		column header:	uint32 descriptor
 *						base (signed), slope: as many bytes as the
 *						descriptor says
 *						uint16 number of exceptions, if there are any
 *		column data:	positions of the exceptions, uint16 each, ascending
 *						their numbers, as many bytes each as the descriptor says
 *						residuals, "width" bits each, from the lowest bit up
 *
 * All numbers are little-endian except those in AlexLeafHeader and the
 * directory, which are native.  Pages are aligned to 8 bytes in memory.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf_format.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_LEAF_FORMAT_H
#define ALEX_LEAF_FORMAT_H

#include "alex/learned.h"

#include <string.h>

/* The header line.  Everything from first_key on is covered by the hash. */
typedef struct AlexLeafHeader
{
	AlexPageHeader page;		/* 0 */
	uint64_t	first_key;		/* 48: also where the page's model starts */
	float		rate;			/* 56: entries a key unit, a hint */
	uint16_t	nentries;		/* 60 */
	uint8_t		layout;			/* 62: one of ALEX_LAYOUT_... */
	uint8_t		flags;			/* 63: zero in this version */
} AlexLeafHeader;

_Static_assert(sizeof(AlexPageHeader) == ALEX_PAGE_HASHED_FROM,
			   "page header must end where the hash begins");
_Static_assert(sizeof(AlexLeafHeader) == ALEX_LINE_SIZE,
			   "leaf header must be one cache line");

#define ALEX_LAYOUT_SEGMENT		1
#define ALEX_LAYOUT_MINI_BLOCKS	2

/* What the directory has for each mini-block. */
#define ALEX_DIRECTORY_BYTES	10

/* The most blocks a page can have. */
#define ALEX_LEAF_MAX_BLOCKS \
	((ALEX_LEAF_MAX_ENTRIES + ALEX_LEAF_BLOCK - 1) / ALEX_LEAF_BLOCK)

/*
 * How a block's TIDs are stored.
 *
 * REGULAR: the same number of rows in every heap block.  An empty column
 * header that carries the encoding, then uint16 rows, uint16 skipped (rows of
 * the first heap block that come before entry 0), uint16 lowest offset,
 * uint32 first heap block.  No data.
 *
 * SEQUENCES: runs of TIDs each one more than the one before.  The header of a
 * column of the positions where runs begin, uint16 number of runs, then the
 * headers of the columns of the block and of the offset that each run begins
 * with.  Position 0 begins the first run.
 *
 * ONE_NUMBER: one column of block * divisor + offset; its header, then
 * uint16 divisor - 1.
 *
 * SPLIT: a column of blocks and a column of offsets; their headers.
 */
#define ALEX_TIDS_REGULAR		0
#define ALEX_TIDS_SEQUENCES		1
#define ALEX_TIDS_ONE_NUMBER	2
#define ALEX_TIDS_SPLIT			3

#define ALEX_REGULAR_BYTES		10	/* what follows its column header */

/*
 * Column descriptor: bit fields of a uint32.  The last one depends on the
 * column: a key column has there the bytes of all headers of its block (90 at
 * most), the first column of the TIDs has their encoding, others have zero.
 */
#define ALEX_DESCRIPTOR_BYTES		4
#define ALEX_DESCRIPTOR(width, shift, base_bytes, slope_bytes, \
						exception_bytes, extra) \
	((uint32_t) (width) | (uint32_t) (shift) << 7 | \
	 (uint32_t) (base_bytes) << 13 | (uint32_t) (slope_bytes) << 17 | \
	 (uint32_t) (exception_bytes) << 21 | (uint32_t) (extra) << 25)
#define ALEX_DESCRIPTOR_WIDTH(d)			((d) & 0x7F)
#define ALEX_DESCRIPTOR_SHIFT(d)			(((d) >> 7) & 0x3F)
#define ALEX_DESCRIPTOR_BASE_BYTES(d)		(((d) >> 13) & 0xF)
#define ALEX_DESCRIPTOR_SLOPE_BYTES(d)		(((d) >> 17) & 0xF)
#define ALEX_DESCRIPTOR_EXCEPTION_BYTES(d)	(((d) >> 21) & 0xF)
#define ALEX_DESCRIPTOR_EXTRA(d)			((d) >> 25)

/*
 * The dead bitmap takes whole 64-bit words, and at least 16 bytes: a field
 * is read by an 8-byte load, of a width above 57 bits by nine bytes, and with
 * that many bytes after the last field no such load leaves the page.
 */
static inline int
alex_leaf_dead_bytes(int nentries)
{
	int			bytes = (nentries + 63) / 64 * 8;

	return bytes < 16 ? 16 : bytes;
}

/* Where the dead bitmap begins, and what the hash covers ends. */
static inline int
alex_leaf_dead_start(int nentries)
{
	return ALEX_PAGE_SIZE - alex_leaf_dead_bytes(nentries);
}

static inline int
alex_leaf_blocks(int nentries)
{
	return (nentries + ALEX_LEAF_BLOCK - 1) / ALEX_LEAF_BLOCK;
}

static inline uint64_t
alex_load64(const uint8_t *from)
{
	uint64_t	value;

	memcpy(&value, from, sizeof(value));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	value = __builtin_bswap64(value);
#endif
	return value;
}

static inline uint32_t
alex_load32(const uint8_t *from)
{
	return (uint32_t) from[0] | (uint32_t) from[1] << 8 |
		(uint32_t) from[2] << 16 | (uint32_t) from[3] << 24;
}

static inline uint16_t
alex_load16(const uint8_t *from)
{
	return (uint16_t) (from[0] | from[1] << 8);
}

/*
 * A mask of the lowest "width" bits, 0 to 64.  Damaged descriptors ask for
 * more, and may get anything.
 */
static inline uint64_t
alex_bit_mask(unsigned width)
{
	return width == 0 ? 0 : UINT64_MAX >> ((64 - width) & 63);
}

/* A number of 0 to 8 bytes; reads 8. */
static inline uint64_t
alex_load_bytes(const uint8_t *from, unsigned bytes)
{
	return alex_load64(from) & alex_bit_mask(bytes * 8);
}

/* A signed number of 0 to 8 bytes, modulo 2^64; reads 8. */
static inline uint64_t
alex_load_signed(const uint8_t *from, unsigned bytes)
{
	uint64_t	value = alex_load_bytes(from, bytes);
	uint64_t	sign = bytes == 0 ? 0 : UINT64_C(1) << ((bytes * 8 - 1) & 63);

	return (value ^ sign) - sign;
}

/* The bits that a number needs, 0 to 64. */
static inline unsigned
alex_bit_length(uint64_t value)
{
	return value == 0 ? 0 : 64 - (unsigned) __builtin_clzll(value);
}

/* Bytes that the residuals of a column take. */
static inline int
alex_packed_bytes(int count, unsigned width)
{
	return (int) (((uint32_t) count * width + 7) / 8);
}

/* Bytes of a column's header, without what its encoding puts behind it. */
static inline int
alex_column_header_bytes(uint32_t descriptor)
{
	return ALEX_DESCRIPTOR_BYTES +
		(int) ALEX_DESCRIPTOR_BASE_BYTES(descriptor) +
		(int) ALEX_DESCRIPTOR_SLOPE_BYTES(descriptor) +
		(ALEX_DESCRIPTOR_EXCEPTION_BYTES(descriptor) > 0 ? 2 : 0);
}

#endif							/* ALEX_LEAF_FORMAT_H */
