/*-------------------------------------------------------------------------
 *
 * leaf_check.c
 *	  The check of leaf pages of unknown origin.
 *
 * First the structure: every descriptor, length and position is looked at
 * before anything that it leads to, so that no byte outside the page is read
 * whatever the page holds.  A page of sound structure is safe for the readers
 * of leaf.c, which then serve to check the entries.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf_check.c
 *
 *-------------------------------------------------------------------------
 */
#include "leaf_column.h"

/* Where the walk through a page's blocks stands. */
typedef struct Walk
{
	const uint8_t *page;
	int			at;				/* offset of the first byte not yet claimed */
	int			limit;			/* where the dead bitmap begins */
} Walk;

/* A column whose header was checked, and then its data. */
typedef struct CheckedColumn
{
	AlexColumn	column;
	unsigned	extra;
} CheckedColumn;

/* Claims that many bytes; false if the page does not have them. */
static bool
claim(Walk *walk, int bytes)
{
	if (walk->limit - walk->at < bytes)
		return false;
	walk->at += bytes;
	return true;
}

static const char *
check_column_header(Walk *walk, CheckedColumn *checked)
{
	const uint8_t *header = walk->page + walk->at;
	uint32_t	descriptor;

	if (!claim(walk, ALEX_DESCRIPTOR_BYTES))
		return "column header reaches into the dead bitmap";
	descriptor = alex_load32(header);
	if (ALEX_DESCRIPTOR_WIDTH(descriptor) > 64 ||
		ALEX_DESCRIPTOR_BASE_BYTES(descriptor) > 8 ||
		ALEX_DESCRIPTOR_SLOPE_BYTES(descriptor) > 8 ||
		ALEX_DESCRIPTOR_EXCEPTION_BYTES(descriptor) > 8)
		return "column descriptor is impossible";
	if (!claim(walk, alex_column_header_bytes(descriptor) -
			   ALEX_DESCRIPTOR_BYTES))
		return "column header reaches into the dead bitmap";
	alex_column_open(header, ALEX_LEAF_END(walk->page), 0, &checked->column, &checked->extra);
	return NULL;
}

static const char *
check_column_data(Walk *walk, CheckedColumn *checked, int count)
{
	AlexColumn *column = &checked->column;
	const uint8_t *data = walk->page + walk->at;
	int			previous = -1;

	if (column->nexceptions > count)
		return "column has more exceptions than numbers";
	if (!claim(walk, column->nexceptions *
			   (2 + (int) column->exception_bytes) +
			   alex_packed_bytes(count, column->width)))
		return "column data reach into the dead bitmap";
	alex_column_place(data, ALEX_LEAF_END(walk->page), count, column);
	for (int i = 0; i < column->nexceptions; i++)
	{
		int			position = alex_load16(column->exceptions + 2 * i);

		if (position <= previous || position >= count)
			return "exception positions are out of order";
		previous = position;
	}
	return NULL;
}

/* Are all numbers of a column below or at a limit? */
static bool
numbers_at_most(const CheckedColumn *checked, int count, uint64_t limit)
{
	for (int i = 0; i < count; i++)
	{
		if (alex_column_number(&checked->column, (uint32_t) i) > limit)
			return false;
	}
	return true;
}

/* Sequences must begin at 0 and ascend within the block. */
static const char *
check_sequences(const CheckedColumn *columns, int nsequences, int nentries)
{
	uint64_t	previous = 0;

	for (int i = 0; i < nsequences; i++)
	{
		uint64_t	position = alex_column_number(&columns[0].column,
												  (uint32_t) i);

		if (i == 0 ? position != 0 : position <= previous)
			return "sequence positions are out of order";
		if (position >= (uint64_t) nentries)
			return "sequence position is beyond its block";
		previous = position;
	}
	return NULL;
}

static const char *
check_regular(const uint8_t *header, int nentries)
{
	uint32_t	rows = alex_load16(header);
	uint32_t	skipped = alex_load16(header + 2);
	uint32_t	offset = alex_load16(header + 4);
	uint64_t	block = alex_load32(header + 6);

	if (rows == 0 || skipped >= rows || offset + rows - 1 > UINT16_MAX)
		return "regular TIDs have an impossible number of rows";
	if (block + (skipped + (uint32_t) nentries - 1) / rows > UINT32_MAX)
		return "regular TIDs pass the last heap block";
	return NULL;
}

/* A block's TID headers and data; the key column's header is before them. */
static const char *
check_block(Walk *walk, int nentries)
{
	int			start = walk->at;
	CheckedColumn keys;
	CheckedColumn columns[3];
	const uint8_t *parameters;	/* what follows the first TID column header */
	const char *fault;
	int			ncolumns = 1;
	int			count = nentries;
	unsigned	encoding;

	if ((fault = check_column_header(walk, &keys)) ||
		(fault = check_column_header(walk, &columns[0])))
		return fault;
	parameters = walk->page + walk->at;
	encoding = columns[0].extra;
	if (encoding > ALEX_TIDS_SPLIT)
		return "TID encoding is unknown";
	if (encoding != ALEX_TIDS_SPLIT &&
		!claim(walk, encoding == ALEX_TIDS_REGULAR ? ALEX_REGULAR_BYTES : 2))
		return "TID header reaches into the dead bitmap";
	if (encoding == ALEX_TIDS_SEQUENCES)
	{
		count = alex_load16(parameters);
		if (count == 0 || count > nentries)
			return "number of sequences is impossible";
		ncolumns = 3;
	}
	else if (encoding == ALEX_TIDS_SPLIT)
		ncolumns = 2;
	for (int i = 1; i < ncolumns; i++)
	{
		if ((fault = check_column_header(walk, &columns[i])))
			return fault;
	}
	if (walk->at - start != (int) keys.extra)
		return "block header has a wrong length";
	if ((fault = check_column_data(walk, &keys, nentries)))
		return fault;
	if (encoding == ALEX_TIDS_REGULAR)
		return check_regular(parameters, nentries);
	for (int i = 0; i < ncolumns; i++)
	{
		if ((fault = check_column_data(walk, &columns[i], count)))
			return fault;
	}
	if (encoding == ALEX_TIDS_ONE_NUMBER)
	{
		uint64_t	divisor = (uint64_t) alex_load16(parameters) + 1;

		if (divisor < 2)
			return "TID divisor is impossible";
		if (!numbers_at_most(&columns[0], nentries, (divisor << 32) - 1))
			return "TID is out of range";
		return NULL;
	}
	if (encoding == ALEX_TIDS_SEQUENCES &&
		(fault = check_sequences(columns, count, nentries)))
		return fault;
	if (!numbers_at_most(&columns[ncolumns - 2], count, UINT32_MAX) ||
		!numbers_at_most(&columns[ncolumns - 1], count, UINT16_MAX))
		return "TID is out of range";
	return NULL;
}

static const char *
check_structure(const void *page)
{
	const AlexLeafHeader *header = (const AlexLeafHeader *) page;
	int			nblocks = 1;
	int			nentries = header->nentries;
	const char *fault;
	Walk		walk;

	if (header->page.kind != ALEX_PAGE_LEAF)
		return "page is not a leaf page";
	if (header->page.version != ALEX_SEALED_VERSION)
		return "leaf page has an unknown version";
	if (header->page.unused != 0 || header->flags != 0)
		return "reserved fields of the header are not zero";
	if (nentries == 0 || nentries > ALEX_LEAF_MAX_ENTRIES)
		return "number of entries is impossible";
	walk.page = (const uint8_t *) page;
	walk.at = sizeof(AlexLeafHeader);
	walk.limit = alex_leaf_dead_start(nentries);
	if (header->layout == ALEX_LAYOUT_MINI_BLOCKS)
	{
		nblocks = alex_leaf_blocks(nentries);
		if (!claim(&walk, nblocks * ALEX_DIRECTORY_BYTES))
			return "directory reaches into the dead bitmap";
	}
	else if (header->layout != ALEX_LAYOUT_SEGMENT)
		return "layout is unknown";

	for (int i = 0; i < nblocks; i++)
	{
		int			count = nentries;

		if (header->layout == ALEX_LAYOUT_MINI_BLOCKS)
		{
			const uint64_t *fences = (const uint64_t *) (header + 1);
			const uint16_t *offsets = (const uint16_t *) (fences + nblocks);

			if (offsets[i] != walk.at)
				return "directory entry is wrong";
			count = nentries - i * ALEX_LEAF_BLOCK;
			if (count > ALEX_LEAF_BLOCK)
				count = ALEX_LEAF_BLOCK;
		}
		if ((fault = check_block(&walk, count)))
			return fault;
	}
	for (; walk.at < walk.limit; walk.at++)
	{
		if (walk.page[walk.at] != 0)
			return "unused space is not zero";
	}
	return NULL;
}

int
alex_leaf_count_dead_bits(const void *page)
{
	const AlexLeafHeader *header = (const AlexLeafHeader *) page;
	int			at = alex_leaf_dead_start(header->nentries);
	int			total = 0;

	for (; at < ALEX_PAGE_SIZE; at += sizeof(uint64_t))
		total += __builtin_popcountll(alex_load64((const uint8_t *) page + at));
	return total;
}

static const char *
check_dead(const void *page)
{
	const AlexLeafHeader *header = (const AlexLeafHeader *) page;
	int			total = alex_leaf_count_dead_bits(page);
	int			known = 0;

	for (int i = 0; i < header->nentries; i++)
		known += alex_leaf_is_dead(page, i);
	if (total != header->page.ndead)
		return "number of dead entries is wrong";
	if (known != total)
		return "dead bits beyond the last entry are set";
	return NULL;
}

const char *
alex_leaf_check(const void *page)
{
	const AlexLeafHeader *header = (const AlexLeafHeader *) page;
	const uint64_t *fences = (const uint64_t *) (header + 1);
	uint64_t	keys[ALEX_LEAF_BLOCK];
	uint64_t	tids[ALEX_LEAF_BLOCK];
	uint64_t	last_key = 0;
	uint64_t	last_tid = 0;
	const char *fault = check_structure(page);

	if (fault)
		return fault;
	for (int first = 0; first < header->nentries; first += ALEX_LEAF_BLOCK)
	{
		int			count = header->nentries - first;

		if (count > ALEX_LEAF_BLOCK)
			count = ALEX_LEAF_BLOCK;
		alex_leaf_unpack(page, first, count, keys, tids);
		if (first == 0 && keys[0] != header->first_key)
			return "first key in the page header is wrong";
		if (header->layout == ALEX_LAYOUT_MINI_BLOCKS &&
			fences[first / ALEX_LEAF_BLOCK] != keys[0])
			return "fence of a block is wrong";
		for (int i = 0; i < count; i++)
		{
			if (tids[i] > ALEX_TID_MAX)
				return "TID is out of range";
			if (first + i > 0 &&
				alex_compare(last_key, last_tid, keys[i], tids[i]) >= 0)
				return "entries are out of order";
			last_key = keys[i];
			last_tid = tids[i];
		}
	}
	return check_dead(page);
}
