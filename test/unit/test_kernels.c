/*-------------------------------------------------------------------------
 *
 * test_kernels.c
 *	  Unit tests of the vector kernels: each gives what its scalar twin gives,
 *	  and reads nothing outside of the page.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * test/unit/test_kernels.c
 *
 *-------------------------------------------------------------------------
 */
#include "../../src/learned/kernels.h"
#include "unit.h"

#include <sys/mman.h>
#include <unistd.h>

#define ROUNDS			400		/* a width */
#define MAX_COUNT		ALEX_LEAF_BLOCK
#define CANARIES		8

static uint8_t *page;			/* between memory that cannot be read */
static uint64_t seed = 7;

static uint64_t
random_below(uint64_t limit)
{
	return unit_random(&seed) % limit;
}

/* A page between two that cannot be read. */
static uint8_t *
guarded_page(void)
{
	size_t		size = (size_t) sysconf(_SC_PAGESIZE);
	size_t		room;
	char	   *memory;

	room = (ALEX_PAGE_SIZE + size - 1) / size * size;
	memory = mmap(NULL, room + 2 * size, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED ||
		mprotect(memory + size, room, PROT_READ | PROT_WRITE) != 0)
		exit(2);
	/* the end matters more, should system pages be larger than ours */
	return (uint8_t *) memory + size + room - ALEX_PAGE_SIZE;
}

/*
 * A column of a given width with "count" numbers anywhere on the page: at its
 * very beginning, or its very end, which is 16 bytes from the page's.
 */
static void
random_column(AlexColumn *column, unsigned width, uint32_t count)
{
	int			bytes = alex_packed_bytes((int) count, width);
	int			highest = ALEX_PAGE_SIZE - 16 - bytes;
	int			start;

	switch (random_below(3))
	{
		case 0:
			start = 0;
			break;
		case 1:
			start = highest;
			break;
		default:
			start = (int) random_below((uint64_t) highest + 1);
			break;
	}
	memset(column, 0, sizeof(*column));
	column->base = unit_random(&seed);
	column->slope = random_below(3) == 0 ? 0 :
		unit_random(&seed) >> random_below(64);
	column->shift = (unsigned) random_below(64);
	column->width = width;
	column->mask = alex_bit_mask(width);
	column->bits = page + start;
}

/* One unpacking, into memory whose other bytes must stay as they are. */
static int
unpacks_agree(const AlexKernels *kernels, const AlexColumn *column,
			  uint32_t first, int count)
{
	uint64_t	expected[MAX_COUNT + 2 * CANARIES];
	uint64_t	numbers[MAX_COUNT + 2 * CANARIES];

	memset(expected, 0xA5, sizeof(expected));
	memset(numbers, 0xA5, sizeof(numbers));
	alex_kernels_scalar.unpack(column, first, count, expected + CANARIES);
	kernels->unpack(column, first, count, numbers + CANARIES);
	if (memcmp(expected, numbers, sizeof(numbers)) == 0)
		return 1;
	unit_note("width %u, shift %u, first %u, count %d", column->width,
			  column->shift, first, count);
	return 0;
}

/* The scalar twin against the formula of the format. */
static void
test_formula(void)
{
	int			wrong = 0;

	for (unsigned width = 0; width <= 64; width++)
	{
		for (int round = 0; round < 20; round++)
		{
			uint64_t	numbers[MAX_COUNT];
			AlexColumn	column;
			uint32_t	first = (uint32_t) random_below(500);

			random_column(&column, width, first + MAX_COUNT);
			alex_kernels_scalar.unpack(&column, first, MAX_COUNT, numbers);
			for (uint32_t i = 0; i < MAX_COUNT; i++)
				wrong += numbers[i] != alex_column_number(&column, first + i);
		}
	}
	unit_ok(wrong == 0, "scalar unpack gives numbers one by one");
}

static void
test_unpack(const AlexKernels *kernels)
{
	int			wrong = 0;

	for (unsigned width = 0; width <= 64; width++)
	{
		for (int round = 0; round < ROUNDS; round++)
		{
			AlexColumn	column;
			int			count = (int) random_below(MAX_COUNT + 1);
			uint32_t	first;

			first = (uint32_t) random_below((ALEX_PAGE_SIZE - 16) * 8 / 65 -
											MAX_COUNT);
			random_column(&column, width, first + (uint32_t) count);
			wrong += !unpacks_agree(kernels, &column, first, count);
		}
	}
	unit_ok(wrong == 0, "%s: unpack, widths 0 to 64", kernels->name);

	/* large positions */
	wrong = 0;
	for (unsigned width = 0; width <= 2; width++)
	{
		for (int round = 0; round < ROUNDS; round++)
		{
			AlexColumn	column;
			uint32_t	first;

			first = (uint32_t) random_below(ALEX_LEAF_MAX_ENTRIES - MAX_COUNT);
			random_column(&column, width, width == 2 ? 30000 : first + MAX_COUNT);
			if (width == 2 && first + MAX_COUNT > 30000)
				continue;
			wrong += !unpacks_agree(kernels, &column, first, MAX_COUNT);
		}
	}
	unit_ok(wrong == 0, "%s: unpack, thousands of numbers", kernels->name);
}

static void
test_count_less(const AlexKernels *kernels)
{
	int			wrong = 0;

	for (unsigned width = 0; width <= 64; width++)
	{
		for (int round = 0; round < ROUNDS; round++)
		{
			AlexColumn	column;
			uint32_t	first;
			uint64_t	numbers[ALEX_SEARCH_WINDOW];
			uint64_t	key;
			int			less = 0;

			first = (uint32_t) random_below((ALEX_PAGE_SIZE - 16) * 8 / 65 -
											ALEX_SEARCH_WINDOW);
			random_column(&column, width, first + ALEX_SEARCH_WINDOW);
			alex_kernels_scalar.unpack(&column, first, ALEX_SEARCH_WINDOW,
									   numbers);
			key = numbers[random_below(ALEX_SEARCH_WINDOW)] +
				random_below(3) - 1;
			for (int i = 0; i < ALEX_SEARCH_WINDOW; i++)
				less += numbers[i] < key;
			wrong += kernels->count_less(&column, first, key) != less;
		}
	}
	unit_ok(wrong == 0, "%s: count_less", kernels->name);
}

static void
test_split(const AlexKernels *kernels)
{
	int			wrong = 0;

	for (int round = 0; round < 40000; round++)
	{
		uint64_t	numbers[MAX_COUNT + CANARIES];
		uint64_t	tids[MAX_COUNT];
		int			count = (int) random_below(MAX_COUNT + 1);
		uint64_t	divisor = 2 + random_below(65535);

		if (round % 4 == 0)
			divisor = round % 8 == 0 ? 65536 : 2 + random_below(300);
		memset(numbers, 0xA5, sizeof(numbers));
		for (int i = 0; i < count; i++)
		{
			uint64_t	block = random_below(2) == 0 ? UINT32_MAX - random_below(9) :
				unit_random(&seed) >> (32 + random_below(32));
			uint64_t	offset = random_below(3) == 0 ? divisor - 1 :
				random_below(2) * random_below(divisor);

			numbers[i] = block * divisor + offset;
			tids[i] = block << 16 | offset;
		}
		kernels->split(numbers, count, divisor);
		wrong += memcmp(numbers, tids, (size_t) count * sizeof(uint64_t)) != 0;
		for (int i = count; i < MAX_COUNT + CANARIES; i++)
			wrong += numbers[i] != UINT64_C(0xA5A5A5A5A5A5A5A5);
	}
	unit_ok(wrong == 0, "%s: split", kernels->name);
}

static void
test_join_and_fill(const AlexKernels *kernels)
{
	int			wrong = 0;

	for (int round = 0; round < 5000; round++)
	{
		uint64_t	blocks[MAX_COUNT + CANARIES];
		uint64_t	expected[MAX_COUNT + CANARIES];
		uint64_t	offsets[MAX_COUNT];
		int			count = (int) random_below(MAX_COUNT + 1);
		uint64_t	first = unit_random(&seed);

		for (int i = 0; i < MAX_COUNT + CANARIES; i++)
			blocks[i] = expected[i] = unit_random(&seed) >> 32;
		for (int i = 0; i < count; i++)
		{
			offsets[i] = unit_random(&seed) & 0xFFFF;
			expected[i] = blocks[i] << 16 | offsets[i];
		}
		kernels->join(blocks, offsets, count);
		wrong += memcmp(blocks, expected, sizeof(blocks)) != 0;

		for (int i = 0; i < count; i++)
			expected[i] = first + (uint64_t) i;
		kernels->fill(blocks, count, first);
		wrong += memcmp(blocks, expected, sizeof(blocks)) != 0;
	}
	unit_ok(wrong == 0, "%s: join, fill", kernels->name);
}

/*
 * Blocks from empty to full, each at the very end of the page: of hashes that
 * were added all are found, and of others the same ones as by the scalar twin,
 * of which some must be in and some not.
 */
static void
test_bloom(const AlexKernels *kernels)
{
	uint8_t    *block = page + ALEX_PAGE_SIZE - ALEX_BLOOM_BLOCK_BYTES;
	int			wrong = 0;
	int			found = 0;
	int			missed = 0;

	for (int round = 0; round < 300; round++)
	{
		memset(block, 0, ALEX_BLOOM_BLOCK_BYTES);
		for (int i = 0; i < round; i++)
		{
			uint64_t	hash = unit_random(&seed);

			alex_bloom_add(block, hash);
			wrong += !kernels->bloom_test(block, hash);
		}
		for (int i = 0; i < 200; i++)
		{
			uint64_t	hash = unit_random(&seed);
			bool		expected = alex_bloom_test_scalar(block, hash);

			wrong += kernels->bloom_test(block, hash) != expected;
			*(expected ? &found : &missed) += 1;
		}
	}
	unit_ok(wrong == 0 && found > 1000 && missed > 1000,
			"%s: Bloom filter, %d found, %d missed", kernels->name, found,
			missed);
}

/* One bit of the eight taken away: a key that is no longer there. */
static void
test_bloom_bits(const AlexKernels *kernels)
{
	uint64_t	block[ALEX_BLOOM_WORDS] = {0};
	int			wrong = 0;

	for (int i = 0; i < 1000; i++)
	{
		uint64_t	hash = unit_random(&seed);

		alex_bloom_add(block, hash);
		for (int word = 0; word < ALEX_BLOOM_WORDS; word++)
		{
			uint64_t	kept = block[word];

			block[word] = 0;
			wrong += kernels->bloom_test(block, hash);
			block[word] = kept;
		}
		wrong += !kernels->bloom_test(block, hash);
		memset(block, 0, sizeof(block));
	}
	unit_ok(wrong == 0, "%s: each word of a Bloom filter's block counts",
			kernels->name);
}

/* Entries of many kinds: with exceptions in both columns, in all encodings. */
static AlexEntry
page_entry(int kind, int i)
{
	AlexEntry	entry;

	switch (kind)
	{
		case 0:
			entry.key = 1000 + (uint64_t) i;
			entry.tid = ALEX_TID(i / 157, i % 157 + 1);
			break;
		case 1:
			entry.key = (uint64_t) i << 50 | unit_random(&seed) >> 14;
			entry.tid = ALEX_TID(random_below(70000), 1 + random_below(157));
			break;
		case 2:
			entry.key = 7 * (uint64_t) i + (i % 97 == 5 ? 6 : 0);
			entry.tid = ALEX_TID(i % 97 == 5 ? UINT32_MAX - (unsigned) i :
								 100 + random_below(4), 1 + random_below(8));
			break;
		case 3:
			entry.key = ((uint64_t) i / 128 << 52) + (uint64_t) i +
				(i % 128 > 125 ? UINT64_C(1) << 50 : 0);
			entry.tid = ALEX_TID(7 + i / 100, 1 + random_below(16) * 4096);
			break;
		default:
			entry.key = (uint64_t) i / 3;
			entry.tid = ALEX_TID(i / 90, i % 90 + 1 + (i / 90) % 5);
			break;
	}
	return entry;
}

#define PAGE_KINDS		5
#define PAGE_ENTRIES	8000

/* Whole pages, read with each kernel and with its twin. */
static void
test_pages(const AlexKernels *kernels)
{
	AlexLeafEncoder *encoder = malloc(alex_leaf_encoder_size());
	AlexEntry  *entries = malloc(PAGE_ENTRIES * sizeof(AlexEntry));
	int			wrong = 0;

	for (int kind = 0; kind < PAGE_KINDS; kind++)
	{
		int			count;

		for (int i = 0; i < PAGE_ENTRIES; i++)
			entries[i] = page_entry(kind, i);
		alex_leaf_encoder_init(encoder);
		count = alex_leaf_encode(encoder, page, 1, entries, PAGE_ENTRIES);
		wrong += count < 1;
		for (int round = 0; round < 2000; round++)
		{
			uint64_t	keys[2][MAX_COUNT];
			uint64_t	tids[2][MAX_COUNT];
			int			first = (int) random_below((uint64_t) count);
			int			run = 1 + (int) random_below(MAX_COUNT);
			uint64_t	key = entries[random_below((uint64_t) count)].key +
				random_below(3) - 1;
			uint64_t	tid = random_below(2) * unit_random(&seed);
			int			found;

			if (run > count - first)
				run = count - first;
			alex_kernels = alex_kernels_scalar;
			alex_leaf_unpack(page, first, run, keys[0], tids[0]);
			found = alex_leaf_search(page, key, tid);
			alex_kernels = *kernels;
			alex_leaf_unpack(page, first, run, keys[1], tids[1]);
			wrong += alex_leaf_search(page, key, tid) != found;
			for (int i = 0; i < run; i++)
				wrong += keys[0][i] != keys[1][i] || tids[0][i] != tids[1][i] ||
					keys[0][i] != entries[first + i].key ||
					tids[0][i] != entries[first + i].tid;
		}
	}
	unit_ok(wrong == 0, "%s: pages of all encodings, exceptions",
			kernels->name);
	free(entries);
	free(encoder);
}

int
main(void)
{
	const AlexKernels *kernels;
	const AlexKernels *best = &alex_kernels_scalar;

	page = guarded_page();
	for (int i = 0; i < ALEX_PAGE_SIZE; i++)
		page[i] = (uint8_t) unit_random(&seed);

	for (int i = 1; (kernels = alex_kernels_available(i)) != NULL; i++)
		best = kernels;
	unit_ok(strcmp(alex_kernels.name, best->name) == 0,
			"kernels in use: %s", alex_kernels.name);

	test_formula();
	for (int i = 0; (kernels = alex_kernels_available(i)) != NULL; i++)
	{
		test_unpack(kernels);
		test_count_less(kernels);
		test_split(kernels);
		test_join_and_fill(kernels);
		test_bloom(kernels);
		test_bloom_bits(kernels);
	}
	for (int i = 1; (kernels = alex_kernels_available(i)) != NULL; i++)
		test_pages(kernels);
	return unit_done();
}
