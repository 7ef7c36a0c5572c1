/*-------------------------------------------------------------------------
 *
 * bloom.c
 *	  Split-block Bloom filter of 512-bit blocks.
 *
 * A key's block is one cache line of eight 64-bit words, and the key has one
 * bit in each of them, so that a test is a handful of independent
 * instructions.  False positives measured over 10^6 absent keys, blocks of
 * 512 bits:
 *
 *	 bits a key				   9	  10	  11	  12
 *	 4 words of 128 bits	1.8 %	1.3 %	0.9 %	0.7 %
 *	 8 words of 64 bits		1.7 %	1.1 %	0.6 %	0.4 %
 *	16 words of 32 bits		6.6 %	3.8 %	2.2 %	1.3 %
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/bloom.c
 *
 *-------------------------------------------------------------------------
 */
#include "kernels.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(ALEX_BLOOM_WORDS << ALEX_BLOOM_WORD_SHIFT ==
			   8 * ALEX_BLOOM_BLOCK_BYTES, "words make a block");

/*
 * Odd multipliers, one a word: the highest bits of the product pick the bit.
 * They are part of the format of bloom pages.
 */
const uint32_t alex_bloom_salts[ALEX_BLOOM_WORDS] = {
	0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F,
	0x165667B1, 0xD3A2646D, 0xFD7046C5, 0xB55A4F09
};

static inline uint64_t
word_bit(uint64_t hash, int word)
{
	return UINT64_C(1) << (((uint32_t) hash * alex_bloom_salts[word]) >>
						   (32 - ALEX_BLOOM_WORD_SHIFT));
}

uint64_t
alex_bloom_hash(uint64_t key)
{
	return XXH3_64bits(&key, sizeof(key));
}

uint32_t
alex_bloom_blocks(uint64_t nkeys, double bits_per_key)
{
	double		nblocks = (double) nkeys * bits_per_key /
		(8 * ALEX_BLOOM_BLOCK_BYTES);

	if (!(nblocks > 1))
		return 1;
	if (nblocks >= (double) UINT32_MAX)
		return UINT32_MAX;
	return (uint32_t) nblocks + ((double) (uint32_t) nblocks < nblocks);
}

/* The high half of the hash, scaled down; the low half picks the bits. */
uint32_t
alex_bloom_block(uint64_t hash, uint32_t nblocks)
{
	return (uint32_t) (((hash >> 32) * nblocks) >> 32);
}

void
alex_bloom_add(void *block, uint64_t hash)
{
	uint64_t   *words = (uint64_t *) block;

	for (int word = 0; word < ALEX_BLOOM_WORDS; word++)
		words[word] |= word_bit(hash, word);
}

bool
alex_bloom_test_scalar(const void *block, uint64_t hash)
{
	const uint64_t *words = (const uint64_t *) block;
	uint64_t	missing = 0;

	for (int word = 0; word < ALEX_BLOOM_WORDS; word++)
		missing |= word_bit(hash, word) & ~words[word];
	return missing == 0;
}

bool
alex_bloom_test(const void *block, uint64_t hash)
{
	return alex_kernels.bloom_test(block, hash);
}
