/*-------------------------------------------------------------------------
 *
 * test_leaf.c
 *	  Unit tests of the leaf codec.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * test/unit/test_leaf.c
 *
 *-------------------------------------------------------------------------
 */
#include "../../src/learned/leaf_column.h"
#include "unit.h"

#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_ENTRIES		100000
#define MUTATIONS		100000

static AlexLeafEncoder *encoder;
static AlexEntry *entries;		/* MAX_ENTRIES of them */
static uint8_t *page;			/* followed by memory that cannot be read */
static uint64_t seed = 42;

/* What a page turned out to be. */
typedef struct Shape
{
	int			layout;
	int			encoding;		/* of the first block */
	unsigned	key_width;
	int			key_exceptions;
	int			tid_exceptions;
} Shape;

static uint64_t
random_below(uint64_t limit)
{
	return unit_random(&seed) % limit;
}

/* Uniform in (0, 1]. */
static double
random_unit(void)
{
	return (double) ((unit_random(&seed) >> 11) + 1) / 9007199254740992.0;
}

static int
compare_entries(const void *left, const void *right)
{
	const AlexEntry *a = (const AlexEntry *) left;
	const AlexEntry *b = (const AlexEntry *) right;

	return alex_compare(a->key, a->tid, b->key, b->tid);
}

/* Sorts entries and drops equal ones; returns how many are left. */
static int
sort_entries(int count)
{
	int			kept = 1;

	qsort(entries, (size_t) count, sizeof(AlexEntry), compare_entries);
	for (int i = 1; i < count; i++)
	{
		if (compare_entries(&entries[i], &entries[kept - 1]) != 0)
			entries[kept++] = entries[i];
	}
	return kept;
}

/* The TID of a row of a table with equally full blocks. */
static uint64_t
row_tid(uint64_t row, unsigned rows)
{
	return ALEX_TID(row / rows, row % rows + 1);
}

static uint64_t
random_tid(void)
{
	return row_tid(random_below(10000000), 157);
}

static Shape
page_shape(void)
{
	const AlexLeafHeader *header = (const AlexLeafHeader *) page;
	const uint8_t *from = (const uint8_t *) (header + 1);
	AlexColumn	column;
	unsigned	extra;
	Shape		shape;

	shape.layout = header->layout;
	if (header->layout == ALEX_LAYOUT_MINI_BLOCKS)
	{
		int			nblocks = alex_leaf_blocks(header->nentries);

		from = page + ((const uint16_t *) (from + 8 * nblocks))[0];
	}
	from = alex_column_open(from, ALEX_LEAF_END(page), 0, &column, &extra);
	shape.key_width = column.width;
	shape.key_exceptions = column.nexceptions;
	alex_column_open(from, ALEX_LEAF_END(page), 0, &column, &extra);
	shape.encoding = (int) extra;
	shape.tid_exceptions = column.nexceptions;
	return shape;
}

/* The reference that alex_leaf_search() is compared with. */
static int
reference_search(const AlexEntry *sorted, int count, uint64_t key, uint64_t tid)
{
	int			low = 0;

	/* steps of powers of two, upward only: plain enough to be trusted */
	for (int step = 16384; step > 0; step /= 2)
	{
		if (low + step <= count &&
			alex_compare(sorted[low + step - 1].key, sorted[low + step - 1].tid,
						 key, tid) < 0)
			low += step;
	}
	return low;
}

static int
search_agrees(const AlexEntry *sorted, int count, uint64_t key, uint64_t tid)
{
	return alex_leaf_search(page, key, tid) ==
		reference_search(sorted, count, key, tid);
}

/* Searches for what is there and for what lies just beside it. */
static int
searches_agree(const AlexEntry *sorted, int count)
{
	uint64_t	span = sorted[count - 1].key - sorted[0].key;
	int			step = count / 500 + 1;
	int			bad = 0;

	for (int i = 0; i < count; i += step)
	{
		int			at = i + (int) random_below((uint64_t) step);
		uint64_t	key;
		uint64_t	tid;

		if (at >= count)
			at = count - 1;
		key = sorted[at].key;
		tid = sorted[at].tid;
		bad += !search_agrees(sorted, count, key, tid);
		bad += !search_agrees(sorted, count, key, 0);
		bad += !search_agrees(sorted, count, key, tid + 1);
		bad += !search_agrees(sorted, count, key, tid - 1);
		bad += !search_agrees(sorted, count, key, UINT64_MAX);
		bad += !search_agrees(sorted, count, key + 1, 0);
		bad += !search_agrees(sorted, count, key - 1, tid);
		bad += !search_agrees(sorted, count, unit_random(&seed), tid);
		if (span > 0)
			bad += !search_agrees(sorted, count,
								  sorted[0].key + random_below(span), tid);
	}
	bad += !search_agrees(sorted, count, 0, 0);
	bad += !search_agrees(sorted, count, UINT64_MAX, UINT64_MAX);
	return bad == 0;
}

/* Everything on the page, one by one and in stretches. */
static int
contents_agree(const AlexEntry *sorted, int count)
{
	uint64_t	keys[ALEX_LEAF_BLOCK];
	uint64_t	tids[ALEX_LEAF_BLOCK];
	int			bad = 0;

	if (alex_leaf_count(page) != count || alex_leaf_dead_count(page) != 0)
		return 0;
	for (int i = 0; i < count; i++)
		bad += alex_leaf_key(page, i) != sorted[i].key ||
			alex_leaf_tid(page, i) != sorted[i].tid;
	for (int i = 0; i < 60; i++)
	{
		int			first = (int) random_below((uint64_t) count);
		int			run = 1 + (int) random_below(ALEX_LEAF_BLOCK);

		if (run > count - first)
			run = count - first;
		alex_leaf_unpack(page, first, run, keys, tids);
		for (int j = 0; j < run; j++)
			bad += keys[j] != sorted[first + j].key ||
				tids[j] != sorted[first + j].tid;
	}
	return bad == 0;
}

/*
 * Packs entries[] into as many pages as it takes and tests each of them.
 * Returns the number of pages, or 0 if anything was wrong.
 */
static int
pages_agree(int count)
{
	int			done = 0;
	int			pages = 0;

	alex_leaf_encoder_init(encoder);
	while (done < count)
	{
		const AlexEntry *first = entries + done;
		int			packed;
		const char *fault;

		memset(page, 0xA5, ALEX_PAGE_SIZE);
		packed = alex_leaf_encode(encoder, page, 77 + (uint64_t) pages,
								  first, count - done);
		if (packed < 1 || packed > count - done)
		{
			unit_note("encoder returned %d", packed);
			return 0;
		}
		for (int i = 0; i < 24; i++)
		{
			if (page[i] != 0xA5)
				return 0;
		}
		fault = alex_leaf_check(page);
		if (fault)
		{
			unit_note("page %d: %s", pages, fault);
			return 0;
		}
		if (alex_page_header(page)->stamp != 77 + (uint64_t) pages ||
			alex_leaf_hash(page) != alex_page_header(page)->hash ||
			!contents_agree(first, packed) || !searches_agree(first, packed))
			return 0;
		done += packed;
		pages++;
	}
	return pages;
}

/* The same without the tests: bytes an entry. */
static double
bytes_an_entry(int count)
{
	int			done = 0;
	int			pages = 0;

	alex_leaf_encoder_init(encoder);
	while (done < count)
	{
		int			packed = alex_leaf_encode(encoder, page, 1, entries + done,
											  count - done);

		/* the last page is not full */
		if (packed == count - done && pages > 0)
			break;
		if (packed < 1)
			return INFINITY;
		done += packed;
		pages++;
	}
	return (double) pages * ALEX_PAGE_SIZE / done;
}

/* A page of entries[] with all that fits; its shape. */
static Shape
one_page(int count)
{
	alex_leaf_encoder_init(encoder);
	if (alex_leaf_encode(encoder, page, 1, entries, count) < 1)
		memset(page, 0, ALEX_PAGE_SIZE);
	return page_shape();
}

static void
test_encodings(void)
{
	uint64_t	tid;

	for (int i = 0; i < 40000; i++)
	{
		entries[i].key = 1000 + (uint64_t) i;
		entries[i].tid = row_tid((uint64_t) i + 13, 157);
	}
	unit_ok(one_page(40000).encoding == ALEX_TIDS_REGULAR &&
			alex_leaf_count(page) == ALEX_LEAF_MAX_ENTRIES &&
			page_shape().layout == ALEX_LAYOUT_SEGMENT && pages_agree(40000),
			"regular TIDs");

	tid = ALEX_TID(5, 1);
	for (int i = 0; i < 40000; i++)
	{
		entries[i].tid = tid;
		tid = random_below(70) == 0 ? ALEX_TID(ALEX_TID_BLOCK(tid) + 1, 1) :
			tid + 1;
	}
	unit_ok(one_page(40000).encoding == ALEX_TIDS_SEQUENCES &&
			pages_agree(40000), "sequences");

	for (int i = 0; i < 5000; i++)
		entries[i].tid = random_tid();
	unit_ok(one_page(5000).encoding == ALEX_TIDS_ONE_NUMBER &&
			pages_agree(5000), "one number");

	for (int i = 0; i < 5000; i++)
		entries[i].tid = ALEX_TID(7 + i / 100, 1 + random_below(16) * 4096);
	unit_ok(one_page(5000).encoding == ALEX_TIDS_SPLIT && pages_agree(5000),
			"split blocks and offsets");

	for (int i = 0; i < 5000; i++)
		entries[i].tid = ALEX_TID(i % 97 == 5 ? UINT32_MAX - (unsigned) i :
								  100 + random_below(4), 1 + random_below(8));
	unit_ok(one_page(5000).tid_exceptions > 0 && pages_agree(5000),
			"exceptions above the other TIDs");

	for (int i = 0; i < 5000; i++)
		entries[i].tid = ALEX_TID(i % 97 == 5 ? (unsigned) i :
								  UINT32_MAX - random_below(4),
								  1 + random_below(8));
	unit_ok(one_page(5000).tid_exceptions > 0 && pages_agree(5000),
			"exceptions below the other TIDs");

	for (int i = 0; i < 5000; i++)
	{
		entries[i].key = ((uint64_t) i / 128 << 52) + (uint64_t) i +
			(i % 128 > 125 ? UINT64_C(1) << 50 : 0);
		entries[i].tid = random_tid();
	}
	unit_ok(one_page(5000).key_exceptions > 0 &&
			page_shape().layout == ALEX_LAYOUT_MINI_BLOCKS && pages_agree(5000),
			"key exceptions, mini-blocks");
}

/* Every width of residuals in both columns that can be that wide. */
static void
test_widths(void)
{
	int			wrong = 0;

	for (unsigned width = 0; width <= 64; width++)
	{
		uint64_t	mask = alex_bit_mask(width);

		/* equal keys but for one half and the other: no line fits that */
		for (int i = 0; i < 120; i++)
		{
			entries[i].key = i < 60 ? 0 : mask;
			entries[i].tid = width < 6 ? (uint64_t) i + 1 :
				i % 60 == 0 ? 0 : unit_random(&seed) & mask & ALEX_TID_MAX;
		}
		wrong += !pages_agree(sort_entries(120));
	}
	unit_ok(wrong == 0, "steps of 0 to 64 bits");

	/* and keys that use all bits of their width */
	wrong = 0;
	for (unsigned width = 0; width <= 64; width++)
	{
		uint64_t	mask = alex_bit_mask(width);

		for (int i = 0; i < 1000; i++)
		{
			entries[i].key = (unit_random(&seed) & mask) +
				(width < 60 ? UINT64_C(1) << 60 : 0);
			entries[i].tid = random_tid();
		}
		entries[0].key = mask + (width < 60 ? UINT64_C(1) << 60 : 0);
		wrong += !pages_agree(sort_entries(1000));
	}
	unit_ok(wrong == 0, "random keys of 0 to 64 bits");

	/* widths 0 to 64 are really stored */
	wrong = 0;
	for (unsigned width = 0; width <= 64; width++)
	{
		uint64_t	mask = alex_bit_mask(width);
		unsigned	seen;

		for (int i = 0; i < 24; i++)
		{
			entries[i].key = i < 12 ? 0 : mask;
			entries[i].tid = (uint64_t) i + 1;
		}
		seen = one_page(24).key_width;
		/* a line saves a bit of such steps, and at most two */
		wrong += seen > width || seen + 2 < width;
	}
	unit_ok(wrong == 0, "residuals are as wide as they must be");
	for (int i = 0; i < 24; i++)
	{
		entries[i].key = i < 12 ? 0 : UINT64_MAX;
		entries[i].tid = (uint64_t) i + 1;
	}
	unit_ok(one_page(24).key_width == 64, "a residual of 64 bits");
}

/* Keys of hostile distributions; entries are sorted by the caller. */
static uint64_t
hostile_key(int distribution, int i)
{
	switch (distribution)
	{
		case 0:
			return 12345;		/* all equal */
		case 1:
			return i % 2 ? UINT64_C(1) << 63 : 0;
		case 2:
			return i % 2 ? UINT64_MAX : 0;
		case 3:
			return UINT64_C(1) << (i % 64);	/* exponential gaps */
		case 4:
			return (uint64_t) (pow(2, 64.0 * i / 20001));
		case 5:
			return (random_below(1000) << 40) | (uint64_t) i;	/* sawtooth */
		case 6:
			return (uint64_t) (exp(sqrt(-2 * log(random_unit())) *
								   cos(6.2831853 * random_unit()) * 2) * 1e9);
		case 7:
			return unit_random(&seed);
		case 8:
			return UINT64_MAX - (uint64_t) i;
		case 9:
			return random_below(200) * 1000003;	/* many TIDs a key */
		case 10:
			return (uint64_t) i * UINT64_C(922337203685477);	/* steep line */
		case 11:
			return i == 777 ? UINT64_MAX : (uint64_t) i;
		case 12:
			return i == 777 ? 0 : UINT64_MAX / 2 + (uint64_t) i * 16;
		default:
			return ((uint64_t) i << 32) + (unit_random(&seed) >> 40);
	}
}

static void
test_hostile(void)
{
	static const char *names[] = {
		"all keys equal", "two keys 2^63 apart", "0 and the highest key",
		"powers of two", "exponential keys", "sawtooth", "lognormal",
		"random 64-bit keys", "down from the highest key",
		"many random TIDs a key", "a steep line", "one very high key",
		"one very low key", "jittered steps"
	};

	for (int distribution = 0; distribution < 14; distribution++)
	{
		int			count = 20000;

		for (int i = 0; i < count; i++)
		{
			entries[i].key = hostile_key(distribution, i);
			entries[i].tid = distribution % 3 == 0 ?
				unit_random(&seed) & ALEX_TID_MAX : random_tid();
		}
		unit_ok(pages_agree(sort_entries(count)), "%s", names[distribution]);
	}
}

static void
test_counts(void)
{
	static const int counts[] = {1, 2, 3, 127, 128, 129, 130, 255, 256, 257,
		1000, 32766, 32767, 32768, 65537};
	int			ncounts = (int) (sizeof(counts) / sizeof(counts[0]));
	int			wrong = 0;

	for (int random_tids = 0; random_tids < 2; random_tids++)
	{
		for (int i = 0; i < ncounts; i++)
		{
			for (int j = 0; j < counts[i]; j++)
			{
				entries[j].key = 5 + 3 * (uint64_t) j;
				entries[j].tid = random_tids ? random_tid() :
					row_tid((uint64_t) j, 226);
			}
			wrong += !pages_agree(counts[i]);
		}
	}
	unit_ok(wrong == 0, "from 1 to 65537 entries");

	entries[0].key = UINT64_MAX;
	entries[0].tid = ALEX_TID_MAX;
	unit_ok(pages_agree(1), "the highest entry alone");
	entries[0].key = 0;
	entries[0].tid = 0;
	unit_ok(pages_agree(1), "the lowest entry alone");
	entries[0].tid = ALEX_TID_MAX + 1;
	unit_ok(alex_leaf_encode(encoder, page, 1, entries, 1) == 0,
			"a TID that cannot be stored is refused");
}

static void
fill_mixed(int count)
{
	for (int i = 0; i < count; i++)
	{
		entries[i].key = hostile_key(13, i);
		entries[i].tid = random_tid();
	}
}

static void
test_dead_and_hash(void)
{
	uint64_t	hash;
	int			count;
	int			start;
	int			wrong = 0;
	static uint8_t before[ALEX_PAGE_SIZE];

	fill_mixed(5000);
	one_page(5000);
	count = alex_leaf_count(page);
	start = alex_leaf_dead_start(count);
	hash = alex_leaf_hash(page);
	memcpy(before, page, ALEX_PAGE_SIZE);
	for (int i = 0; i < count; i += 3)
		wrong += !alex_leaf_set_dead(page, i) || alex_leaf_set_dead(page, i);
	for (int i = 0; i < count; i++)
		wrong += alex_leaf_is_dead(page, i) != (i % 3 == 0);
	unit_ok(wrong == 0 && alex_leaf_dead_count(page) == (count + 2) / 3 &&
			alex_leaf_check(page) == NULL, "dead bits");
	unit_ok(alex_leaf_hash(page) == hash, "the hash ignores dead bits");
	page[alex_leaf_dead_start(count)] ^= 1;
	unit_ok(alex_leaf_check(page) != NULL, "a wrong dead count is seen");

	memcpy(page, before, ALEX_PAGE_SIZE);
	for (int i = 0; i < 24 * 8; i++)
	{
		page[i / 8] ^= (uint8_t) (1 << i % 8);
		wrong += alex_leaf_hash(page) != hash;
		page[i / 8] ^= (uint8_t) (1 << i % 8);
	}
	unit_ok(wrong == 0, "the hash ignores the page header");
	for (int i = 24 * 8; i < start * 8; i++)
	{
		/* the hash itself, kind, version and dead count are not covered */
		if (i >= 32 * 8 && i < ALEX_PAGE_HASHED_FROM * 8)
			continue;
		/* a wrong number of entries would hash beyond the page */
		if (i / 8 == 60 || i / 8 == 61)
			continue;
		page[i / 8] ^= (uint8_t) (1 << i % 8);
		wrong += alex_leaf_hash(page) == hash;
		page[i / 8] ^= (uint8_t) (1 << i % 8);
	}
	for (int i = 60 * 8; i < 62 * 8; i++)
	{
		int			other;

		page[i / 8] ^= (uint8_t) (1 << i % 8);
		other = alex_leaf_count(page);
		if (other > 0 && other <= ALEX_LEAF_MAX_ENTRIES)
			wrong += alex_leaf_hash(page) == hash;
		page[i / 8] ^= (uint8_t) (1 << i % 8);
	}
	unit_ok(wrong == 0, "the hash sees every flipped bit of the rest");
}

/*
 * Mutated pages: a read outside the page is fatal here.  What passes the
 * check must be safe to read and consistent.
 */
static void
test_mutations(int mutations)
{
	static uint8_t originals[8][ALEX_PAGE_SIZE];
	int			passed = 0;
	int			refused = 0;
	int			wrong = 0;

	for (int kind = 0; kind < 8; kind++)
	{
		int			count = kind == 7 ? 20 : 3000;

		for (int i = 0; i < count; i++)
		{
			entries[i].key = hostile_key(kind < 4 ? 13 : 3 + kind, i);
			if (kind == 0)
				entries[i].tid = row_tid((uint64_t) i, 100);
			else if (kind == 1)
				entries[i].tid = ALEX_TID(i / 60, 1 + i % 60 + i / 60 % 3);
			else if (kind == 2)
				entries[i].tid = ALEX_TID(7 + i / 100,
										  1 + random_below(16) * 4096);
			else if (kind == 3)
				entries[i].tid = ALEX_TID(i % 97 == 5 ? 1000000 : i % 4,
										  1 + random_below(8));
			else
				entries[i].tid = random_tid();
		}
		one_page(sort_entries(count));
		memcpy(originals[kind], page, ALEX_PAGE_SIZE);
	}
	for (int i = 0; i < mutations; i++)
	{
		int			changes = 1 + (int) random_below(4);

		memcpy(page, originals[i % 8], ALEX_PAGE_SIZE);
		for (int j = 0; j < changes; j++)
		{
			/* headers are where it hurts */
			uint64_t	at = random_below(3) > 0 ? 40 + random_below(80) :
				40 + random_below(ALEX_PAGE_SIZE - 40);

			page[at] = (uint8_t) (random_below(2) ? unit_random(&seed) :
								  page[at] ^ (1u << random_below(8)));
		}
		if (alex_leaf_check(page) == NULL)
		{
			uint64_t	key = alex_leaf_key(page, alex_leaf_count(page) / 2);
			uint64_t	tid = alex_leaf_tid(page, alex_leaf_count(page) / 2);

			wrong += alex_leaf_search(page, key, tid) !=
				alex_leaf_count(page) / 2;
			passed++;
		}
		else
			refused++;
	}
	unit_ok(wrong == 0 && passed > 0 && refused > mutations / 4,
			"mutated pages (%d passed the check, %d did not)",
			passed, refused);

	wrong = 0;
	for (int i = 0; i < mutations / 10; i++)
	{
		for (int j = 0; j < ALEX_PAGE_SIZE; j += 8)
		{
			uint64_t	noise = unit_random(&seed);

			memcpy(page + j, &noise, 8);
		}
		memcpy(page, originals[i % 8], 48 + random_below(40));
		wrong += alex_leaf_check(page) == NULL;
	}
	unit_ok(wrong == 0, "random bytes are refused");
}

/* A mapped page that is overwritten while it is being read must not hang us. */
static void
test_fewer_entries(void)
{
	static const int counts[] = {0, 1, 100, 128, 1000, 2304, 2400};
	int			ncounts = (int) (sizeof(counts) / sizeof(counts[0]));
	uint64_t	keys[ALEX_LEAF_BLOCK + 1];
	uint64_t	tids[ALEX_LEAF_BLOCK + 1];
	int			wrong = 0;

	for (int i = 0; i < ncounts; i++)
	{
		int			first = counts[i] == 2400 ? 2390 : 2388;

		memset(page, 0, ALEX_PAGE_SIZE);
		if (counts[i] > 0)
		{
			for (int j = 0; j < counts[i]; j++)
			{
				entries[j].key = 5 + 3 * (uint64_t) j;
				entries[j].tid = row_tid((uint64_t) j, 226);
			}
			one_page(counts[i]);
			wrong += alex_leaf_count(page) != counts[i];
		}
		keys[ALEX_LEAF_BLOCK] = tids[ALEX_LEAF_BLOCK] = 42;
		keys[0] = 0;
		alex_leaf_unpack(page, first, ALEX_LEAF_BLOCK, keys, tids);
		wrong += keys[ALEX_LEAF_BLOCK] != 42 || tids[ALEX_LEAF_BLOCK] != 42;
		wrong += keys[0] != (counts[i] == 2400 ? entries[first].key : 0);
	}
	unit_ok(wrong == 0, "entries that are there no more");
}

static void
note_sizes(void)
{
	int			count = MAX_ENTRIES;
	uint64_t	key = 0;
	unsigned	block = 0;
	unsigned	offset = 1;
	double		size;

	for (int i = 0; i < count; i++)
	{
		entries[i].key = 1000000 + (uint64_t) i;
		entries[i].tid = row_tid((uint64_t) i, 226);
	}
	size = bytes_an_entry(count);
	unit_ok(size <= 0.26, "sequential keys, regular TIDs: %.3f bytes", size);

	/* each hundredth row arrives late */
	for (int i = 0; i < count; i++)
	{
		entries[i].key = (uint64_t) i +
			(random_below(100) == 0 ? random_below(50000) : 0);
		entries[i].tid = (uint64_t) i;
	}
	count = sort_entries(count);
	for (int i = 0; i < count; i++)
	{
		/* the i-th row to arrive */
		entries[i].key = entries[i].tid;
		entries[i].tid = row_tid((uint64_t) i, 226);
	}
	count = sort_entries(count);
	size = bytes_an_entry(count);
	unit_ok(size <= 0.3, "1 %% late arrivals: %.3f bytes", size);

	for (int i = 0; i < count; i++)
	{
		entries[i].key = 1000000 + (uint64_t) i;
		entries[i].tid = ALEX_TID(block, offset++);
		if (offset > 90 + block * 7 % 23)
		{
			offset = 1;
			block++;
		}
	}
	size = bytes_an_entry(count);
	unit_ok(size <= 0.3, "varying rows a block: %.3f bytes", size);

	for (int i = 0; i < count; i++)
	{
		entries[i].key = UINT64_C(1700000000000000) + (uint64_t) i * 1000 +
			random_below(100000);
		entries[i].tid = row_tid((uint64_t) i, 120);
	}
	count = sort_entries(count);
	unit_note("jittered time: %.3f bytes", bytes_an_entry(count));

	for (int i = 0; i < count; i++)
	{
		entries[i].key = random_below(100) << 40 | (uint64_t) i;
		entries[i].tid = row_tid((uint64_t) i, 100);
	}
	unit_note("sawtooth tenants: %.3f bytes",
			  bytes_an_entry(sort_entries(count)));

	for (int i = 0; i < count; i++)
	{
		key += 1 + (uint64_t) fmin(1e12, pow(random_unit(), -1.2));
		entries[i].key = key;
		entries[i].tid = random_tid();
	}
	unit_note("heavy-tailed gaps, random TIDs: %.3f bytes",
			  bytes_an_entry(count));

	/* as dense as 10 million keys of 60 bits */
	for (int i = 0; i < count; i++)
	{
		entries[i].key = (uint64_t) (random_unit() * 0x1p60 * count / 1e7);
		entries[i].tid = random_tid();
	}
	size = bytes_an_entry(sort_entries(count));
	unit_ok(size <= 8.9, "random 60-bit keys, random TIDs: %.3f bytes", size);
}

int
main(int argc, char **argv)
{
	uint8_t    *memory = mmap(NULL, 2 * 65536, PROT_READ | PROT_WRITE,
							  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	encoder = malloc(alex_leaf_encoder_size());
	entries = malloc(MAX_ENTRIES * sizeof(AlexEntry));
	if (memory == MAP_FAILED || encoder == NULL || entries == NULL ||
		mprotect(memory + 65536, 65536, PROT_NONE) != 0)
	{
		printf("Bail out! out of memory\n");
		return 1;
	}
	page = memory + 65536 - ALEX_PAGE_SIZE;

	test_encodings();
	test_widths();
	test_hostile();
	test_counts();
	test_dead_and_hash();
	test_mutations(MUTATIONS);
	test_fewer_entries();
	note_sizes();
	return unit_done();
}
