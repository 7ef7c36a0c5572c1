/*-------------------------------------------------------------------------
 *
 * leaf_encode.c
 *	  Packing entries into leaf pages.
 *
 * See leaf_format.h for the layout.  A plan of a block says how it will be
 * stored and how many bytes that takes; making one costs a few passes over
 * the entries.  A page is first planned as mini-blocks, one after the other
 * until it is full, and then as one segment, which is taken unless it holds
 * noticeably fewer entries.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/leaf_encode.c
 *
 *-------------------------------------------------------------------------
 */
#include "leaf_fit.h"

/* Of so many pages, one is planned in both layouts. */
#define LAYOUT_TRIAL_PAGES	8

/*
 * A segment may have fewer entries than mini-blocks would, by one in so many:
 * a probe takes about three quarters of the time there.
 */
#define SEGMENT_BONUS		64

/* How a block will be stored. */
typedef struct BlockPlan
{
	int			nentries;
	int			bytes;
	int			encoding;		/* ALEX_TIDS_... */
	AlexColumnPlan keys;
	AlexColumnPlan columns[3];	/* of the TIDs, in the order they are stored */
	uint64_t	divisor;		/* ONE_NUMBER */
	int			nsequences;		/* SEQUENCES */
	uint32_t	rows;			/* REGULAR */
	uint32_t	skipped;
	uint32_t	offset;
	uint32_t	block;
} BlockPlan;

/*
 * Working memory: the entries as columns, and the columns that a TID encoding
 * is made of, for the block at hand.
 */
struct AlexLeafEncoder
{
	int			pages;			/* pages encoded so far */
	int			guess;			/* entries of the last page, 0 if mini-blocks */
	int			loaded;			/* entries that are in keys[] and tids[] */
	uint64_t	keys[ALEX_LEAF_MAX_ENTRIES];
	uint64_t	tids[ALEX_LEAF_MAX_ENTRIES];
	uint64_t	columns[3][ALEX_LEAF_MAX_ENTRIES];
	BlockPlan	plans[ALEX_LEAF_MAX_BLOCKS];
};

size_t
alex_leaf_encoder_size(void)
{
	return sizeof(AlexLeafEncoder);
}

void
alex_leaf_encoder_init(AlexLeafEncoder *encoder)
{
	encoder->pages = 0;
	encoder->guess = 0;
	encoder->loaded = 0;
}

/* Brings entries into the columns, up to a count. */
static inline void
load_entries(AlexLeafEncoder *encoder, const AlexEntry *entries, int count)
{
	for (int i = encoder->loaded; i < count; i++)
	{
		encoder->keys[i] = entries[i].key;
		encoder->tids[i] = entries[i].tid;
	}
	if (encoder->loaded < count)
		encoder->loaded = count;
}

/*
 * Splits TIDs into sequences: their positions, blocks and offsets become the
 * working columns.  Returns how many there are, or 0 when they are too short
 * to be worth it.
 */
static int
list_sequences(AlexLeafEncoder *encoder, const uint64_t *tids, int count)
{
	uint64_t	expected = tids[0] + 1;
	int			nsequences = 0;

	for (int i = 0; i < count; i++)
	{
		if (tids[i] != expected)
		{
			if (nsequences > 32 + i / 2)
				return 0;
			encoder->columns[0][nsequences] = (uint64_t) i;
			encoder->columns[1][nsequences] = ALEX_TID_BLOCK(tids[i]);
			encoder->columns[2][nsequences] = ALEX_TID_OFFSET(tids[i]);
			nsequences++;
		}
		expected = tids[i] + 1;
	}
	return nsequences;
}

/* Are the listed sequences those of a table with equally full heap blocks? */
static bool
plan_regular(const AlexLeafEncoder *encoder, int nsequences, int count,
			 BlockPlan *plan)
{
	const uint64_t *positions = encoder->columns[0];
	const uint64_t *blocks = encoder->columns[1];
	const uint64_t *offsets = encoder->columns[2];
	uint64_t	lowest = nsequences > 1 ? offsets[1] : offsets[0];
	uint64_t	rows;

	/*
	 * Rows a block: from the first full one, or where there is none, as many
	 * as the longer of two parts shows.
	 */
	if (nsequences > 2)
		rows = positions[2] - positions[1];
	else if (nsequences == 2)
	{
		rows = offsets[0] + positions[1] - lowest;
		if (offsets[0] < lowest || rows < (uint64_t) count - positions[1])
			return false;
	}
	else
		rows = (uint64_t) count;
	if (offsets[0] < lowest || offsets[0] - lowest >= rows ||
		rows > UINT16_MAX || lowest + rows - 1 > UINT16_MAX)
		return false;
	for (int i = 1; i < nsequences; i++)
	{
		if (offsets[i] != lowest || blocks[i] != blocks[0] + (uint64_t) i ||
			positions[i] != (uint64_t) i * rows - (offsets[0] - lowest))
			return false;
	}
	if ((uint64_t) count > (uint64_t) nsequences * rows - (offsets[0] - lowest))
		return false;
	plan->encoding = ALEX_TIDS_REGULAR;
	plan->rows = (uint32_t) rows;
	plan->skipped = (uint32_t) (offsets[0] - lowest);
	plan->offset = (uint32_t) lowest;
	plan->block = (uint32_t) blocks[0];
	return true;
}

/* Bytes of a block's TIDs. */
static int
tid_bytes(const BlockPlan *plan)
{
	switch (plan->encoding)
	{
		case ALEX_TIDS_REGULAR:
			return ALEX_DESCRIPTOR_BYTES + ALEX_REGULAR_BYTES;
		case ALEX_TIDS_SEQUENCES:
			return 2 + plan->columns[0].bytes + plan->columns[1].bytes +
				plan->columns[2].bytes;
		case ALEX_TIDS_ONE_NUMBER:
			return 2 + plan->columns[0].bytes;
		default:
			return plan->columns[0].bytes + plan->columns[1].bytes;
	}
}

/* Makes the working column of TIDs as one number. */
static void
make_numbers(AlexLeafEncoder *encoder, const uint64_t *tids, int count,
			 uint64_t divisor)
{
	uint64_t   *numbers = encoder->columns[0];

	/* block * divisor + offset, where the TID is block * 2^16 + offset */
	for (int i = 0; i < count; i++)
		numbers[i] = tids[i] -
			(tids[i] >> 16) * ((UINT64_C(1) << 16) - divisor);
}

/* Makes the working columns of blocks and of offsets. */
static void
make_split(AlexLeafEncoder *encoder, const uint64_t *tids, int count)
{
	for (int i = 0; i < count; i++)
	{
		encoder->columns[0][i] = ALEX_TID_BLOCK(tids[i]);
		encoder->columns[1][i] = ALEX_TID_OFFSET(tids[i]);
	}
}

/* Where a block's TIDs and their offsets are lowest and highest. */
typedef struct TidExtremes
{
	int			lowest_at;
	int			highest_at;
	int			lowest_offset_at;
	int			highest_offset_at;
} TidExtremes;

static void
find_tid_extremes(const uint64_t *tids, int count, TidExtremes *extremes)
{
	uint64_t	lowest = tids[0];
	uint64_t	highest = tids[0];
	unsigned	lowest_offset = ALEX_TID_OFFSET(tids[0]);
	unsigned	highest_offset = lowest_offset;

	memset(extremes, 0, sizeof(*extremes));
	for (int i = 1; i < count; i++)
	{
		unsigned	offset = ALEX_TID_OFFSET(tids[i]);

		if (tids[i] < lowest)
		{
			lowest = tids[i];
			extremes->lowest_at = i;
		}
		if (tids[i] > highest)
		{
			highest = tids[i];
			extremes->highest_at = i;
		}
		if (offset < lowest_offset)
		{
			lowest_offset = offset;
			extremes->lowest_offset_at = i;
		}
		if (offset > highest_offset)
		{
			highest_offset = offset;
			extremes->highest_offset_at = i;
		}
	}
}

/* Plans the encodings that store every TID; the smaller one stays. */
static void
plan_numbers(AlexLeafEncoder *encoder, const uint64_t *tids, int count,
			 BlockPlan *plan)
{
	TidExtremes extremes;
	uint64_t	blocks;
	unsigned	lowest_offset;
	unsigned	highest_offset;
	BlockPlan	split;

	find_tid_extremes(tids, count, &extremes);
	blocks = ALEX_TID_BLOCK(tids[extremes.highest_at]) -
		ALEX_TID_BLOCK(tids[extremes.lowest_at]);
	lowest_offset = ALEX_TID_OFFSET(tids[extremes.lowest_offset_at]);
	highest_offset = ALEX_TID_OFFSET(tids[extremes.highest_offset_at]);
	plan->encoding = ALEX_TIDS_ONE_NUMBER;
	plan->divisor = highest_offset < 1 ? 2 : (uint64_t) highest_offset + 1;
	make_numbers(encoder, tids, count, plan->divisor);

	/* the numbers are in the order of the TIDs, and so are their blocks */
	alex_fit_column(encoder->columns[0], count,
					extremes.lowest_at, extremes.highest_at, 0,
					&plan->columns[0]);

	/*
	 * Where TIDs show no order, two columns cost what their ranges say, and
	 * that is rarely less than one number; anything else must be tried.
	 */
	if (plan->columns[0].slope == 0 && plan->columns[0].nexceptions == 0 &&
		plan->columns[0].width <= alex_bit_length(blocks) +
		alex_bit_length(highest_offset - lowest_offset))
		return;
	split.encoding = ALEX_TIDS_SPLIT;
	make_split(encoder, tids, count);
	alex_fit_column(encoder->columns[0], count,
					extremes.lowest_at, extremes.highest_at, 0,
					&split.columns[0]);
	alex_fit_column(encoder->columns[1], count,
					extremes.lowest_offset_at, extremes.highest_offset_at, 0,
					&split.columns[1]);
	if (tid_bytes(&split) < tid_bytes(plan))
	{
		plan->encoding = split.encoding;
		memcpy(plan->columns, split.columns, 2 * sizeof(AlexColumnPlan));
	}
}

static void
plan_tids(AlexLeafEncoder *encoder, const uint64_t *tids, int count,
		  BlockPlan *plan)
{
	int			nsequences = list_sequences(encoder, tids, count);
	BlockPlan	numbers;

	if (nsequences == 0)
	{
		plan_numbers(encoder, tids, count, plan);
		return;
	}
	if (plan_regular(encoder, nsequences, count, plan))
		return;
	plan->encoding = ALEX_TIDS_SEQUENCES;
	plan->nsequences = nsequences;
	for (int i = 0; i < 3; i++)
	{
		int			lowest_at;
		int			highest_at;

		alex_find_extremes(encoder->columns[i], nsequences,
						   &lowest_at, &highest_at);
		alex_fit_column(encoder->columns[i], nsequences,
						lowest_at, highest_at, 0, &plan->columns[i]);
	}
	plan_numbers(encoder, tids, count, &numbers);
	if (tid_bytes(&numbers) < tid_bytes(plan))
	{
		plan->encoding = numbers.encoding;
		plan->divisor = numbers.divisor;
		memcpy(plan->columns, numbers.columns, 2 * sizeof(AlexColumnPlan));
	}
}

/* Plans a block of entries [first, first + count), which are loaded. */
static void
plan_block(AlexLeafEncoder *encoder, int first, int count, BlockPlan *plan)
{
	plan->nentries = count;
	alex_fit_column(encoder->keys + first, count, 0, count - 1,
					encoder->keys[first], &plan->keys);
	plan_tids(encoder, encoder->tids + first, count, plan);
	plan->bytes = plan->keys.bytes + tid_bytes(plan);
}

/*
 * Bytes that a page lacks with a block behind what is used already, its first
 * entry included; at most 0 if the block fits.
 */
static int
bytes_missing(const BlockPlan *plan, int used, int first)
{
	return used + plan->bytes - alex_leaf_dead_start(first + plan->nentries);
}

/*
 * Looks for the largest block that begins with entry "first" and fits on the
 * page behind "used" bytes, with more than "low" and fewer than "high"
 * entries.  "count" is the first guess.  Returns the entries of the plan that
 * it leaves in *best, or 0.
 *
 * A block's bytes grow nearly in proportion to its entries, so each trial
 * says where to try next; where that was wrong a few times, the interval is
 * halved.  The last percent is not worth the trials.
 */
static int
fill_block(AlexLeafEncoder *encoder, const AlexEntry *entries, int first,
		   int used, int low, int high, int count, BlockPlan *best)
{
	int			found = 0;
	BlockPlan	plan;

	for (int try = 1; high - low > 1; try++)
	{
		double		room;
		double		next;

		if (count <= low)
			count = low + 1;
		if (count >= high)
			count = high - 1;
		load_entries(encoder, entries, first + count);
		plan_block(encoder, first, count, &plan);
		room = ALEX_PAGE_SIZE - used - first / 8.0;
		next = count * room / (plan.bytes + count / 8.0);
		if (bytes_missing(&plan, used, first) <= 0)
		{
			*best = plan;
			found = low = count;
			if (next < count + 1 + count / 128.0)
				break;
		}
		else
			high = count;
		if (found > 0 && high - low <= 1 + low / 128)
			break;

		/* do not trust a small sample with a large trial */
		if (next > 4.0 * count)
			next = 4.0 * count;
		/* nor spend two trials where one that is a little shorter will do */
		next -= next / 512;
		count = next > 1 ? (int) next : 1;
		if (try % 3 == 0 && high < 4 * (low + 1))
			count = (low + high) / 2;
	}
	return found;
}

/* Plans a page of mini-blocks.  Returns its entries, and their bytes. */
static int
plan_mini_blocks(AlexLeafEncoder *encoder, const AlexEntry *entries, int limit,
				 int *nblocks)
{
	int			used = sizeof(AlexLeafHeader);
	int			done = 0;

	*nblocks = 0;
	while (done < limit)
	{
		BlockPlan  *plan = &encoder->plans[*nblocks];
		int			count = limit - done;
		int			missing;

		if (count > ALEX_LEAF_BLOCK)
			count = ALEX_LEAF_BLOCK;
		used += ALEX_DIRECTORY_BYTES;
		load_entries(encoder, entries, done + count);
		plan_block(encoder, done, count, plan);
		missing = bytes_missing(plan, used, done);
		if (missing > 0)
		{
			count = count * (plan->bytes - missing) / plan->bytes;
			count = fill_block(encoder, entries, done, used, 0,
							   plan->nentries, count, plan);
			if (count > 0)
			{
				++*nblocks;
				done += count;
			}
			break;
		}
		++*nblocks;
		used += plan->bytes;
		done += count;
	}
	return done;
}

/*
 * Plans a page.  Returns its entries; plans[] has its blocks.
 *
 * A page's neighbours are mostly like it, so where one layout was better than
 * the other, the next few pages are not planned in both.
 */
static int
plan_page(AlexLeafEncoder *encoder, const AlexEntry *entries, int limit,
		  int *layout, int *nblocks)
{
	const int	used = sizeof(AlexLeafHeader);
	bool		try_both = encoder->pages++ % LAYOUT_TRIAL_PAGES == 0;
	BlockPlan	segment;
	int			mini = 0;
	int			count = 0;

	if (limit <= ALEX_LEAF_BLOCK ||
		encoder->guess == ALEX_LEAF_MAX_ENTRIES)
		count = fill_block(encoder, entries, 0, used,
						   limit - 1, limit + 1, limit, &segment);
	if (count == 0 && encoder->guess > 0 && !try_both)
		count = fill_block(encoder, entries, 0, used,
						   encoder->guess * 3 / 4, limit + 1,
						   encoder->guess, &segment);
	if (count == 0)
	{
		mini = plan_mini_blocks(encoder, entries, limit, nblocks);
		if (encoder->guess > 0 || try_both)
		{
			int			least = mini - mini / SEGMENT_BONUS;

			count = fill_block(encoder, entries, 0, used, least, limit + 1,
							   encoder->guess > least ? encoder->guess : least,
							   &segment);
		}
	}
	if (count == 0)
	{
		encoder->guess = 0;
		*layout = ALEX_LAYOUT_MINI_BLOCKS;
		return mini;
	}
	/* a page that ended with its input says nothing about the next one */
	if (count < limit || count == ALEX_LEAF_MAX_ENTRIES)
		encoder->guess = count;
	encoder->plans[0] = segment;
	*layout = ALEX_LAYOUT_SEGMENT;
	*nblocks = 1;
	return count;
}

static uint8_t *
write_tid_headers(uint8_t *out, const BlockPlan *plan)
{
	if (plan->encoding == ALEX_TIDS_REGULAR)
	{
		out = alex_store_bytes(out, ALEX_DESCRIPTOR(0, 0, 0, 0, 0,
													ALEX_TIDS_REGULAR),
							   ALEX_DESCRIPTOR_BYTES);
		out = alex_store_bytes(out, plan->rows, 2);
		out = alex_store_bytes(out, plan->skipped, 2);
		out = alex_store_bytes(out, plan->offset, 2);
		return alex_store_bytes(out, plan->block, 4);
	}
	out = alex_write_column_header(out, &plan->columns[0],
								   (unsigned) plan->encoding);
	if (plan->encoding == ALEX_TIDS_ONE_NUMBER)
		return alex_store_bytes(out, plan->divisor - 1, 2);
	if (plan->encoding == ALEX_TIDS_SEQUENCES)
		out = alex_store_bytes(out, (uint64_t) plan->nsequences, 2);
	out = alex_write_column_header(out, &plan->columns[1], 0);
	if (plan->encoding == ALEX_TIDS_SEQUENCES)
		out = alex_write_column_header(out, &plan->columns[2], 0);
	return out;
}

/* Writes the data of a block's TIDs. */
static uint8_t *
write_tid_data(AlexLeafEncoder *encoder, uint8_t *out, const uint64_t *tids,
			   const BlockPlan *plan)
{
	int			ncolumns = 1;
	int			count = plan->nentries;

	switch (plan->encoding)
	{
		case ALEX_TIDS_REGULAR:
			return out;
		case ALEX_TIDS_SEQUENCES:
			count = list_sequences(encoder, tids, count);
			ncolumns = 3;
			break;
		case ALEX_TIDS_ONE_NUMBER:
			make_numbers(encoder, tids, count, plan->divisor);
			break;
		default:
			make_split(encoder, tids, count);
			ncolumns = 2;
			break;
	}
	for (int i = 0; i < ncolumns; i++)
		out = alex_write_column_data(out, &plan->columns[i],
									 encoder->columns[i], count);
	return out;
}

static uint8_t *
write_block(AlexLeafEncoder *encoder, uint8_t *out, int first,
			const BlockPlan *plan)
{
	uint8_t    *header = out;

	/* the TIDs' headers first: their end is part of the key column's header */
	out = write_tid_headers(header + plan->keys.header_bytes, plan);
	alex_write_column_header(header, &plan->keys, (unsigned) (out - header));
	out = alex_write_column_data(out, &plan->keys, encoder->keys + first,
								 plan->nentries);
	return write_tid_data(encoder, out, encoder->tids + first, plan);
}

/*
 * The rate of the page's model, entries a key unit.  It is a hint only, so
 * what counts is that it is good for most keys: the line through the last
 * key is compared with lines through keys further inside, by the sum of
 * the search steps that errors cost over a sample.
 */
static double
model_rate(const uint64_t *keys, int count)
{
	double		best_rate = 0;
	unsigned	best_cost = UINT32_MAX;
	int			step = count / 64 + 1;

	for (int quarter = 4; quarter > 0; quarter--)
	{
		int			at = (int) ((int64_t) (count - 1) * quarter / 4);
		double		rate;
		unsigned	cost = 0;

		if (keys[at] == keys[0])
			continue;
		rate = at / (double) (keys[at] - keys[0]);
		for (int i = 0; i < count; i += step)
		{
			double		position = (double) (keys[i] - keys[0]) * rate;
			double		error;

			if (position > count)
				position = count;
			error = position > i ? position - i : i - position;
			cost += alex_bit_length((uint64_t) error);
		}
		if (cost < best_cost)
		{
			best_cost = cost;
			best_rate = rate;
		}
	}
	return best_rate;
}

/* What was packed must unpack to what was given. */
static bool
verify_page(const void *page, const AlexLeafEncoder *encoder, int nentries)
{
	uint64_t	keys[ALEX_LEAF_BLOCK];
	uint64_t	tids[ALEX_LEAF_BLOCK];

	for (int first = 0; first < nentries; first += ALEX_LEAF_BLOCK)
	{
		int			count = nentries - first;

		if (count > ALEX_LEAF_BLOCK)
			count = ALEX_LEAF_BLOCK;
		alex_leaf_unpack(page, first, count, keys, tids);
		if (memcmp(keys, encoder->keys + first, (size_t) count * 8) != 0 ||
			memcmp(tids, encoder->tids + first, (size_t) count * 8) != 0)
			return false;
	}
	return true;
}

int
alex_leaf_encode(AlexLeafEncoder *encoder, void *page, uint64_t stamp,
				 const AlexEntry *entries, int nentries)
{
	AlexLeafHeader *header = (AlexLeafHeader *) page;
	uint8_t    *out = (uint8_t *) (header + 1);
	int			first = 0;
	int			layout;
	int			nblocks;

	if (nentries < 1)
		return 0;
	if (nentries > ALEX_LEAF_MAX_ENTRIES)
		nentries = ALEX_LEAF_MAX_ENTRIES;
	encoder->loaded = 0;
	nentries = plan_page(encoder, entries, nentries, &layout, &nblocks);

	memset((uint8_t *) page + sizeof(header->page.page_header), 0,
		   ALEX_PAGE_SIZE - sizeof(header->page.page_header));
	header->page.stamp = stamp;
	header->page.kind = ALEX_PAGE_LEAF;
	header->page.version = ALEX_SEALED_VERSION;
	header->first_key = encoder->keys[0];
	header->nentries = (uint16_t) nentries;
	header->layout = (uint8_t) layout;
	header->rate = (float) model_rate(encoder->keys, nentries);
	if (layout == ALEX_LAYOUT_MINI_BLOCKS)
		out += nblocks * ALEX_DIRECTORY_BYTES;
	for (int i = 0; i < nblocks; i++)
	{
		const BlockPlan *plan = &encoder->plans[i];

		if (layout == ALEX_LAYOUT_MINI_BLOCKS)
		{
			uint64_t   *fences = (uint64_t *) (header + 1);
			uint16_t   *offsets = (uint16_t *) (fences + nblocks);

			fences[i] = encoder->keys[first];
			offsets[i] = (uint16_t) (out - (uint8_t *) page);
		}
		out = write_block(encoder, out, first, plan);
		first += plan->nentries;
	}
	if (!verify_page(page, encoder, nentries))
		return 0;
	header->page.hash = alex_leaf_hash(page);
	return nentries;
}
