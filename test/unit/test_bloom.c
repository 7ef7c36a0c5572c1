/*-------------------------------------------------------------------------
 *
 * test_bloom.c
 *	  Unit tests of the Bloom filter.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "alex/learned.h"
#include "unit.h"

#define NKEYS			1000000
#define BITS_PER_KEY	11.0

typedef enum KeySet
{
	SEQUENTIAL,
	RANDOM,
	LOGNORMAL,
	NKEYSETS
} KeySet;

static const char *const set_names[NKEYSETS] = {
	"sequential", "random", "lognormal"
};

/*
 * Even keys are the present ones, odd keys the absent ones: absent keys have
 * the distribution of the present ones, and are surely absent.
 */
static uint64_t
draw_key(KeySet set, uint64_t number, uint64_t *state)
{
	double		u = (double) ((unit_random(state) >> 11) + 1) * 0x1p-53;
	double		v = (double) (unit_random(state) >> 11) * 0x1p-53;
	double		normal = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);

	switch (set)
	{
		case SEQUENTIAL:
			return 2 * number;
		case RANDOM:
			return unit_random(state) & ~UINT64_C(1);
		default:
			return (uint64_t) exp(2 * normal + 25) & ~UINT64_C(1);
	}
}

static void
test_set(KeySet set)
{
	uint32_t	nblocks = alex_bloom_blocks(NKEYS, BITS_PER_KEY);
	char	   *blocks = calloc(nblocks, ALEX_BLOOM_BLOCK_BYTES);
	uint64_t	state = 1;
	uint64_t	nmissed = 0;
	uint64_t	npassed = 0;

	for (int pass = 0; pass < 2; pass++)
	{
		state = 1;
		for (uint64_t i = 0; i < NKEYS; i++)
		{
			uint64_t	hash = alex_bloom_hash(draw_key(set, i, &state));
			char	   *block = blocks + (size_t) ALEX_BLOOM_BLOCK_BYTES *
				alex_bloom_block(hash, nblocks);

			if (pass == 0)
				alex_bloom_add(block, hash);
			else
				nmissed += !alex_bloom_test(block, hash);
		}
	}
	unit_ok(nmissed == 0, "%s: every key that was added passes",
			set_names[set]);

	for (uint64_t i = 0; i < NKEYS; i++)
	{
		uint64_t	hash = alex_bloom_hash(draw_key(set, i, &state) | 1);

		npassed += alex_bloom_test(blocks + (size_t) ALEX_BLOOM_BLOCK_BYTES *
								   alex_bloom_block(hash, nblocks), hash);
	}
	unit_ok(npassed <= NKEYS * 0.011 && npassed > 0,
			"%s: %.2f %% of absent keys pass", set_names[set],
			100.0 * npassed / NKEYS);
	free(blocks);
}

/* What one key sets, and what passes a filter that is empty or full. */
static void
test_block(void)
{
	uint64_t	block[ALEX_BLOOM_BLOCK_BYTES / 8] = {0};
	uint64_t	full[ALEX_BLOOM_BLOCK_BYTES / 8];
	uint64_t	hash = alex_bloom_hash(42);
	int			nbits = 0;

	unit_ok(!alex_bloom_test(block, hash), "an empty block passes nothing");
	alex_bloom_add(block, hash);
	for (int i = 0; i < ALEX_BLOOM_BLOCK_BYTES / 8; i++)
		nbits += __builtin_popcountll(block[i]);
	unit_ok(nbits == 8, "a key sets 8 bits");
	unit_ok(alex_bloom_test(block, hash), "its key passes");
	for (int i = 0; i < ALEX_BLOOM_BLOCK_BYTES / 8; i++)
	{
		uint64_t	saved = block[i];

		block[i] = 0;
		if (!unit_ok(!alex_bloom_test(block, hash),
					 "without its bit in word %d it does not", i))
			break;
		block[i] = saved;
	}
	memset(full, 0xFF, sizeof(full));
	unit_ok(alex_bloom_test(full, alex_bloom_hash(43)),
			"a full block passes everything");
}

static void
test_sizes(void)
{
	uint64_t	state = 7;
	int			nwrong = 0;

	/* known answers: filters are on disk */
	unit_ok(alex_bloom_hash(0) == UINT64_C(0xC77B3ABB6F87ACD9) &&
			alex_bloom_hash(42) == alex_bloom_hash(42),
			"hash of 0 is the XXH3-64 of eight zero bytes (%" PRIx64 ")",
			alex_bloom_hash(0));
	unit_ok(alex_bloom_blocks(0, 11) == 1, "no key takes one block");
	unit_ok(alex_bloom_blocks(46, 11) == 1, "46 keys at 11 bits take one");
	unit_ok(alex_bloom_blocks(47, 11) == 2, "47 keys take two");
	unit_ok(alex_bloom_blocks(512, 10) == 10, "no block more than needed");
	unit_ok(alex_bloom_blocks(UINT64_MAX, 11) == UINT32_MAX,
			"the number of blocks does not overflow");
	for (int i = 0; i < 100000; i++)
	{
		uint32_t	nblocks = unit_random(&state) >> (i % 31 + 32);

		if (nblocks == 0)
			nblocks = 1;
		nwrong += alex_bloom_block(unit_random(&state), nblocks) >= nblocks;
		nwrong += alex_bloom_block(UINT64_MAX, nblocks) != nblocks - 1;
		nwrong += alex_bloom_block(0, nblocks) != 0;
	}
	unit_ok(nwrong == 0, "a block's number is less than the number of blocks");
}

int
main(void)
{
	test_sizes();
	test_block();
	for (KeySet set = 0; set < NKEYSETS; set++)
		test_set(set);
	return unit_done();
}
