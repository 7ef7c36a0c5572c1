/*-------------------------------------------------------------------------
 *
 * leaf.c
 *	  Reading of packed leaf pages: search, single entries, bulk unpacking,
 *	  dead bits and the check of pages of unknown origin.
 *
 * See leaf_format.h for the layout.  The caller has compared the page's hash
 * or has had it checked.  On a page that is damaged nevertheless the functions
 * give wrong answers, but they do not leave the page, see leaf_column.h, and
 * come to an end.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf.c
 *
 *-------------------------------------------------------------------------
 */
#include "kernels.h"

/* How many bytes from where it is expected an entry is fetched ahead. */
#define KEYS_REACH				160
#define TIDS_REACH				96

/* A search looks at a window of keys where a line errs by more entries. */
#define WINDOW_ERROR			3.0

/* A block whose key column is ready to be read. */
typedef struct Block
{
	AlexColumn		keys;
	int			nentries;
	const uint8_t *tid_header;
	const uint8_t *tid_data;
	const uint8_t *end;			/* see leaf_column.h */
} Block;

/* The TIDs of a block, ready to be read. */
typedef struct Tids
{
	int			encoding;
	int			nsequences;		/* SEQUENCES */
	uint32_t	rows;			/* REGULAR: rows a heap block */
	uint32_t	skipped;		/* REGULAR: rows before entry 0 */
	uint64_t	first;			/* REGULAR: TID of the first heap block's row */
	uint64_t	divisor;		/* ONE_NUMBER */
	AlexColumn		numbers;		/* ONE_NUMBER; positions of SEQUENCES */
	AlexColumn		blocks;			/* SPLIT, SEQUENCES */
	AlexColumn		offsets;		/* SPLIT, SEQUENCES */
} Tids;

const uint8_t alex_no_bits[ALEX_LINE_SIZE] = {0};

bool
alex_column_header_fits(const uint8_t *header, const uint8_t *end)
{
	return end - header >= ALEX_DESCRIPTOR_BYTES &&
		end - header >= alex_column_header_bytes(alex_load32(header));
}

static inline const AlexLeafHeader *
leaf_header(const void *page)
{
	return (const AlexLeafHeader *) page;
}

/* Unpacks numbers [first, first + count) of a column. */
static void
column_unpack(const AlexColumn *column, uint32_t first, int count,
			  uint64_t *out)
{
	alex_kernels.unpack(column, first, count, out);
	if (column->nexceptions > 0)
	{
		int			exception = alex_column_find_exception(column, first);

		for (; exception < column->nexceptions; exception++)
		{
			uint32_t	at = alex_load16(column->exceptions + 2 * exception);

			/* on a damaged page they may also be out of order */
			if (at - first >= (uint32_t) count)
				break;
			out[at - first] = alex_column_exception(column, exception);
		}
	}
}

static ALEX_COLUMN_INLINE void
open_block(const void *page, int number, Block *block)
{
	const AlexLeafHeader *header = leaf_header(page);
	const uint8_t *from = (const uint8_t *) (header + 1);
	const uint8_t *end = ALEX_LEAF_END(page);
	uint64_t	fence = header->first_key;
	unsigned	header_bytes;

	block->nentries = header->nentries;
	block->end = end;
	if (header->layout == ALEX_LAYOUT_MINI_BLOCKS)
	{
		int			nblocks = alex_leaf_blocks(header->nentries);
		const uint64_t *fences = (const uint64_t *) from;
		const uint16_t *offsets = (const uint16_t *) (fences + nblocks);

		fence = fences[number];
		from = (const uint8_t *) page + offsets[number];
		if (from > end)
			from = end;
		block->nentries -= number * ALEX_LEAF_BLOCK;
		if (block->nentries > ALEX_LEAF_BLOCK)
			block->nentries = ALEX_LEAF_BLOCK;
	}
	block->tid_header = alex_column_open(from, end, fence, &block->keys,
										 &header_bytes);
	block->tid_data = alex_column_place(from + header_bytes, end,
										block->nentries, &block->keys);
}

/* Opens the block that has an entry; *index becomes relative to the block. */
static ALEX_COLUMN_INLINE void
open_block_of(const void *page, int *index, Block *block)
{
	int			number = 0;

	if (leaf_header(page)->layout == ALEX_LAYOUT_MINI_BLOCKS)
	{
		number = *index / ALEX_LEAF_BLOCK;
		*index %= ALEX_LEAF_BLOCK;
	}
	open_block(page, number, block);
}

static void
open_tids(const Block *block, Tids *tids)
{
	const uint8_t *header = block->tid_header;
	const uint8_t *data = block->tid_data;
	const uint8_t *end = block->end;
	unsigned	encoding;

	header = alex_column_open(header, end, 0, &tids->numbers, &encoding);
	tids->encoding = (int) encoding;
	switch (encoding)
	{
		case ALEX_TIDS_REGULAR:
			tids->rows = alex_load16(header);
			tids->rows += tids->rows == 0;
			tids->skipped = alex_load16(header + 2);
			tids->first = ALEX_TID(alex_load32(header + 6),
								   alex_load16(header + 4));
			break;
		case ALEX_TIDS_SEQUENCES:
			tids->nsequences = alex_load16(header);
			tids->nsequences += tids->nsequences == 0;
			header = alex_column_open(header + 2, end, 0, &tids->blocks, NULL);
			alex_column_open(header, end, 0, &tids->offsets, NULL);
			data = alex_column_place(data, end, tids->nsequences,
									 &tids->numbers);
			data = alex_column_place(data, end, tids->nsequences,
									 &tids->blocks);
			alex_column_place(data, end, tids->nsequences, &tids->offsets);
			break;
		case ALEX_TIDS_ONE_NUMBER:
			tids->divisor = (uint64_t) alex_load16(header) + 1;
			alex_column_place(data, end, block->nentries, &tids->numbers);
			break;
		default:
			tids->blocks = tids->numbers;
			alex_column_open(header, end, 0, &tids->offsets, NULL);
			data = alex_column_place(data, end, block->nentries,
									 &tids->blocks);
			alex_column_place(data, end, block->nentries, &tids->offsets);
			break;
	}
}

/* A position from a model's floating-point one; NaN and nonsense are fine. */
static inline int
clamp_position(double position, int count)
{
	if (position < (double) count)
		return position > 0 ? (int) position : 0;
	return position >= (double) count ? count - 1 : 0;
}

/*
 * The sequence that a position belongs to.  Positions grow nearly linearly,
 * so a guess, corrected by what is found there, is galloped from.
 */
static int
find_sequence(const Tids *tids, int nentries, uint32_t index)
{
	const AlexColumn *positions = &tids->numbers;
	int			count = tids->nsequences;
	double		rate = (double) count / nentries;
	int			low = (int) (index * rate);
	int			high;
	int			step = 1;

	if (low >= count)
		low = count - 1;
	low = clamp_position(low + ((double) index -
								(double) alex_column_number(positions, (uint32_t) low)) *
						 rate, count);

	/* Narrow to number(low) <= index < number(high). */
	if (alex_column_number(positions, (uint32_t) low) <= index)
	{
		high = low + step;
		while (high < count &&
			   alex_column_number(positions, (uint32_t) high) <= index)
		{
			low = high;
			step *= 2;
			high = low + step;
		}
		if (high > count)
			high = count;
	}
	else
	{
		high = low;
		low = high - step;
		while (low > 0 && alex_column_number(positions, (uint32_t) low) > index)
		{
			high = low;
			step *= 2;
			low = high - step;
		}
		if (low < 0)
			low = 0;
	}
	while (high - low > 1)
	{
		int			middle = (low + high) / 2;

		if (alex_column_number(positions, (uint32_t) middle) <= index)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* TID that a sequence would have at position 0, modulo 2^64. */
static inline uint64_t
sequence_origin(const Tids *tids, int sequence, uint32_t position)
{
	return (alex_column_number(&tids->blocks, (uint32_t) sequence) << 16) +
		alex_column_number(&tids->offsets, (uint32_t) sequence) - position;
}

static uint64_t
block_tid(const Block *block, uint32_t index)
{
	Tids		tids;

	open_tids(block, &tids);
	switch (tids.encoding)
	{
		case ALEX_TIDS_REGULAR:
			{
				uint32_t	row = tids.skipped + index;

				return tids.first + ((uint64_t) (row / tids.rows) << 16) +
					row % tids.rows;
			}
		case ALEX_TIDS_SEQUENCES:
			{
				int			sequence = find_sequence(&tids, block->nentries,
													 index);
				uint64_t	position = alex_column_number(&tids.numbers,
													 (uint32_t) sequence);

				return sequence_origin(&tids, sequence, (uint32_t) position) +
					index;
			}
		case ALEX_TIDS_ONE_NUMBER:
			{
				uint64_t	number = alex_column_number(&tids.numbers, index);

				return (number / tids.divisor << 16) | number % tids.divisor;
			}
		default:
			return (alex_column_number(&tids.blocks, index) << 16) |
				alex_column_number(&tids.offsets, index);
	}
}

static void
unpack_regular(const Tids *tids, uint32_t first, int count, uint64_t *out)
{
	uint32_t	row = (tids->skipped + first) % tids->rows;
	uint64_t	block = tids->first +
		((uint64_t) ((tids->skipped + first) / tids->rows) << 16);
	int			done = 0;

	while (done < count)
	{
		int			run = (int) (tids->rows - row);

		if (run > count - done)
			run = count - done;
		alex_kernels.fill(out + done, run, block + row);
		done += run;
		row = 0;
		block += UINT64_C(1) << 16;
	}
}

static void
unpack_sequences(const Tids *tids, int nentries, uint32_t first, int count,
				 uint64_t *out)
{
	int			sequence = find_sequence(tids, nentries, first);
	uint32_t	position = (uint32_t) alex_column_number(&tids->numbers,
													(uint32_t) sequence);
	int			done = 0;

	while (done < count)
	{
		uint32_t	at = first + (uint32_t) done;
		uint64_t	origin = sequence_origin(tids, sequence, position);
		int			run = count - done;

		if (++sequence < tids->nsequences)
		{
			position = (uint32_t) alex_column_number(&tids->numbers,
												(uint32_t) sequence);
			if ((uint32_t) run > position - at)
				run = (int) (position - at);
		}
		alex_kernels.fill(out + done, run, origin + at);
		done += run;
	}
}

static void
block_unpack_tids(const Block *block, uint32_t first, int count, uint64_t *out)
{
	Tids		tids;

	open_tids(block, &tids);
	switch (tids.encoding)
	{
		case ALEX_TIDS_REGULAR:
			unpack_regular(&tids, first, count, out);
			break;
		case ALEX_TIDS_SEQUENCES:
			unpack_sequences(&tids, block->nentries, first, count, out);
			break;
		case ALEX_TIDS_ONE_NUMBER:
			column_unpack(&tids.numbers, first, count, out);
			alex_kernels.split(out, count, tids.divisor);
			break;
		default:
			{
				uint64_t	offsets[ALEX_LEAF_BLOCK];

				column_unpack(&tids.blocks, first, count, out);
				column_unpack(&tids.offsets, first, count, offsets);
				alex_kernels.join(out, offsets, count);
				break;
			}
	}
}

int
alex_leaf_count(const void *page)
{
	return leaf_header(page)->nentries;
}

int
alex_leaf_dead_count(const void *page)
{
	return alex_page_header(page)->ndead;
}

uint64_t
alex_leaf_key(const void *page, int index)
{
	Block		block;

	open_block_of(page, &index, &block);
	return alex_column_number(&block.keys, (uint32_t) index);
}

uint64_t
alex_leaf_tid(const void *page, int index)
{
	Block		block;

	open_block_of(page, &index, &block);
	return block_tid(&block, (uint32_t) index);
}

void
alex_leaf_unpack(const void *page, int first, int count,
				 uint64_t *keys, uint64_t *tids)
{
	while (count > 0)
	{
		Block		block;
		int			index = first;
		int			run;

		open_block_of(page, &index, &block);
		run = block.nentries - index;
		if (run > count)
			run = count;

		/*
		 * The page lost entries since the caller looked: somebody writes to
		 * the file of a mapping.  There must be an end to it all the same.
		 */
		if (run <= 0)
		{
			if (keys)
				memset(keys, 0, (size_t) count * sizeof(uint64_t));
			if (tids)
				memset(tids, 0, (size_t) count * sizeof(uint64_t));
			return;
		}
		if (keys)
		{
			column_unpack(&block.keys, (uint32_t) index, run, keys);
			keys += run;
		}
		if (tids)
		{
			block_unpack_tids(&block, (uint32_t) index, run, tids);
			tids += run;
		}
		first += run;
		count -= run;
	}
}

/* How far a key is from another one, in entries. */
static inline double
model_distance(uint64_t key, uint64_t from, double rate)
{
	if (key >= from)
		return (double) (key - from) * rate;
	return -((double) (from - key) * rate);
}

/* Is the block's entry less than (key, tid)? */
static inline bool
entry_less(const Block *block, int index, uint64_t key, uint64_t tid)
{
	uint64_t	found = alex_column_number(&block->keys, (uint32_t) index);

	if (found != key)
		return found < key;
	/* no TID is less than 0, which saves looking at it */
	return tid > 0 && block_tid(block, (uint32_t) index) < tid;
}

/*
 * Whoever finds a key wants its TID, which stands some lines away from it.
 * Where that is is known as well as where the key is; asking for both lines
 * at once saves waiting for the second.
 */
static inline void
prefetch_tid(const Block *block, int predicted)
{
#ifdef __GNUC__
	uint32_t	descriptor = alex_load32(block->tid_header);

	__builtin_prefetch(block->tid_data +
					   ((uint32_t) predicted *
						ALEX_DESCRIPTOR_WIDTH(descriptor) >> 3));
#endif
}

/*
 * Looks at ALEX_SEARCH_WINDOW keys around a position without any branch that
 * could be mispredicted.  Sets *position to the first of them that is not
 * less than the key; false if it may not be the first one of the block.
 */
static inline bool
search_window(const Block *block, int *position, uint64_t key)
{
	int			first = *position - ALEX_SEARCH_WINDOW / 2;
	int			last = block->nentries - ALEX_SEARCH_WINDOW;
	int			less;

	first = first > last ? last : first;
	first = first < 0 ? 0 : first;
	less = alex_kernels.count_less(&block->keys, (uint32_t) first, key);
	*position = first + less;
	return less > 0 && less < ALEX_SEARCH_WINDOW;
}

/*
 * The first entry of the block >= (key, tid), or its count.  Starts at the
 * predicted position.  The key found there corrects the prediction once:
 * near the goal the model errs far less, and arithmetic is cheaper than the
 * mispredicted branches of a longer search.
 *
 * Where residuals make up for more than an entry or two, where the goal is
 * from there is chance, and a search from it mispredicts several branches.
 * Then a window of keys is looked at in one go.
 */
static inline int
search_block(const Block *block, int predicted, double rate,
			 uint64_t key, uint64_t tid)
{
	int			count = block->nentries;
	uint64_t	found;
	int			low;
	int			high;
	int			step = 1;

	prefetch_tid(block, predicted);
	found = alex_column_number(&block->keys, (uint32_t) predicted);

	predicted = clamp_position(predicted + model_distance(key, found, rate),
							   count);
	if (tid == 0 && block->keys.nexceptions == 0 &&
		count >= ALEX_SEARCH_WINDOW &&
		(double) block->keys.mask * rate > WINDOW_ERROR &&
		search_window(block, &predicted, key))
		return predicted;
	predicted = predicted < count ? predicted : count - 1;
	if (entry_less(block, predicted, key, tid))
	{
		/* entries below "low" are less */
		low = predicted + 1;
		high = low;
		while (high < count && entry_less(block, high, key, tid))
		{
			low = high + 1;
			high = low + step;
			step *= 2;
		}
		if (high > count)
			high = count;
	}
	else
	{
		/* the entry at "high" is not less */
		high = predicted;
		low = high;
		while (low > 0 && !entry_less(block, low - 1, key, tid))
		{
			high = low - 1;
			low = high - step;
			step *= 2;
		}
		if (low < 0)
			low = 0;
	}
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (entry_less(block, middle, key, tid))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Entries a key unit by the block's own line; the page's if it has none. */
static inline double
block_rate(const Block *block, double page_rate)
{
	uint64_t	bits = (uint64_t) (1023 + block->keys.shift) << 52;
	double		scale;

	if (block->keys.slope == 0)
		return page_rate;
	memcpy(&scale, &bits, sizeof(scale));
	return scale / (double) block->keys.slope;
}

/*
 * Searches a page of mini-blocks.  The one to be searched is the last whose
 * first entry is less than (key, tid), or the first one: the result is in it,
 * or is the next one's first entry.
 */
static int
search_mini_blocks(const void *page, uint64_t key, uint64_t tid)
{
	const AlexLeafHeader *header = leaf_header(page);
	const uint64_t *fences = (const uint64_t *) (header + 1);
	int			nblocks = alex_leaf_blocks(header->nentries);
	int			low = 0;
	int			high;
	Block		block;
	double		rate;
	double		distance;

	/* The last block whose fence is lower, found without branches. */
	for (int rest = nblocks; rest > 1;)
	{
		int			half = rest / 2;

		low = fences[low + half] < key ? low + half : low;
		rest -= half;
	}
	high = low + 1;

	/* Where the fence is the key itself, the TID decides. */
	if (tid > 0)
	{
		while (high < nblocks && fences[high] == key)
			high++;
	}
	while (high - low > 1)
	{
		int			middle = (low + high) / 2;

		open_block(page, middle, &block);
		if (entry_less(&block, 0, key, tid))
			low = middle;
		else
			high = middle;
	}

	open_block(page, low, &block);
	rate = block_rate(&block, header->rate);
	distance = model_distance(key, block.keys.base + block.keys.mask / 2, rate);
	return low * ALEX_LEAF_BLOCK +
		search_block(&block, clamp_position(distance, block.nentries),
					 rate, key, tid);
}

/*
 * Notes how the only block of a page lies.  That of a damaged page may lie
 * elsewhere (see alex_column_place), or have no entries.
 */
static inline void
note_shape(const void *page, const Block *block, AlexLeafShape *shape)
{
	int			end = alex_leaf_dead_start(block->nentries);
	ptrdiff_t	data = block->keys.bits - (const uint8_t *) page;

	shape->data = 0;
	if (block->nentries < 1 || data <= 0 || data >= end)
		return;
	shape->data = (uint16_t) data;
	shape->bits = (uint8_t) ((end - data) * 8 / block->nentries -
							 block->keys.width);
	shape->tid_bits = (uint8_t)
		ALEX_DESCRIPTOR_WIDTH(alex_load32(block->tid_header));
}

static inline int
search_page(const void *page, uint64_t key, uint64_t tid,
			AlexLeafShape *shape)
{
	const AlexLeafHeader *header = leaf_header(page);
	Block		block;
	double		rate = header->rate;

	if (key < header->first_key || header->nentries == 0)
		return 0;
	if (header->layout == ALEX_LAYOUT_MINI_BLOCKS)
		return search_mini_blocks(page, key, tid);
	open_block(page, 0, &block);
	if (shape != NULL)
		note_shape(page, &block, shape);
	return search_block(&block,
						clamp_position(model_distance(key, header->first_key,
													  rate),
									   block.nentries),
						rate, key, tid);
}

int
alex_leaf_search(const void *page, uint64_t key, uint64_t tid)
{
	return search_page(page, key, tid, NULL);
}

int
alex_leaf_search_shape(const void *page, uint64_t key, uint64_t tid,
					   AlexLeafShape *shape)
{
	return search_page(page, key, tid, shape);
}

/* Asks for a range of a page, which may reach beyond the page. */
static inline void
prefetch_range(const void *page, int from, int to)
{
#ifdef __GNUC__
	for (int at = from & ~(ALEX_LINE_SIZE - 1); at < to; at += ALEX_LINE_SIZE)
		if (at >= 0 && at < ALEX_PAGE_SIZE)
			__builtin_prefetch((const char *) page + at);
#endif
}

void
alex_leaf_prefetch(const void *page, const AlexLeafShape *shape,
				   uint32_t nentries, double fraction)
{
	int			end;
	int			position;
	int			key_bits;
	int			keys;
	int			tids;

	prefetch_range(page, 0, 2 * ALEX_LINE_SIZE);
	if (shape->data == 0 || nentries < 1 || nentries > ALEX_LEAF_MAX_ENTRIES)
		return;
	position = (int) (fraction * nentries);

	/*
	 * TIDs take as many bits an entry on all pages of a run, or nearly so, but
	 * keys do not.  As pages are full, the number of entries tells how many.
	 */
	end = alex_leaf_dead_start((int) nentries);
	key_bits = (end - shape->data) * 8 / (int) nentries - shape->bits;
	if (key_bits <= 0)
		return;

	/* random keys are some entries away from where they should be */
	keys = shape->data + position * key_bits / 8;
	prefetch_range(page, keys - KEYS_REACH, keys + KEYS_REACH);
	if (shape->tid_bits == 0)
		return;
	tids = end - (int) nentries * shape->bits / 8 +
		position * shape->tid_bits / 8;
	prefetch_range(page, tids - TIDS_REACH, tids + TIDS_REACH);
}

bool
alex_leaf_is_dead(const void *page, int index)
{
	const AlexLeafHeader *header = leaf_header(page);
	const uint8_t *bitmap;

	if (header->page.ndead == 0)
		return false;
	bitmap = (const uint8_t *) page + alex_leaf_dead_start(header->nentries);
	return (bitmap[index / 8] >> (index % 8)) & 1;
}

bool
alex_leaf_set_dead(void *page, int index)
{
	AlexLeafHeader *header = (AlexLeafHeader *) page;
	uint8_t    *bitmap = (uint8_t *) page +
		alex_leaf_dead_start(header->nentries);
	uint8_t		bit = (uint8_t) (1 << (index % 8));

	if (bitmap[index / 8] & bit)
		return false;
	bitmap[index / 8] |= bit;
	header->page.ndead++;
	return true;
}

uint64_t
alex_leaf_hash(const void *page)
{
	const AlexLeafHeader *header = leaf_header(page);
	int			end = alex_leaf_dead_start(header->nentries);

	/* no page has so many entries */
	if (end < ALEX_PAGE_HASHED_FROM)
		end = ALEX_PAGE_HASHED_FROM;
	return alex_page_hash(page, header->page.stamp, end);
}
