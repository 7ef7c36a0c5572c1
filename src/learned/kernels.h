/*-------------------------------------------------------------------------
 *
 * kernels.h
 *	  The inner loops of the learned room that a processor's vector
 *	  instructions make faster.
 *
 * Each kernel has a scalar twin, which is compiled on every platform and
 * gives the same result, bit for bit.  Which ones are called is decided once,
 * when the library is loaded, by what the processor has.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/kernels.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_KERNELS_H
#define ALEX_KERNELS_H

#include "leaf_column.h"

/* Kernels are left out of a library that is linked, or loaded, by others. */
#if defined(__GNUC__)
#define ALEX_HIDDEN				__attribute__((visibility("hidden")))
#else
#define ALEX_HIDDEN
#endif

/* So many keys does a search look at in one go. */
#define ALEX_SEARCH_WINDOW		16

/*
 * No kernel knows of exceptions: their places in a column have residuals like
 * any other, which the caller replaces.
 *
 * Kernels read whole vectors.  What they read begins at the first byte of a
 * residual that was asked for and is at most 16 bytes long, or ends with the
 * last byte of one; so it is on the page, because of the dead bitmap's size.
 */
typedef struct AlexKernels
{
	const char *name;

	/* Unpacks numbers [first, first + count) of a column. */
	void		(*unpack) (const AlexColumn *column, uint32_t first,
						   int count, uint64_t *out);

	/*
	 * How many of ALEX_SEARCH_WINDOW ascending numbers of a column, of which
	 * all are there, are less than the key.
	 */
	int			(*count_less) (const AlexColumn *column, uint32_t first,
							   uint64_t key);

	/*
	 * Turns numbers block * divisor + offset into TIDs.  Divisors are from 2
	 * to 2^16, numbers below 2^48, and blocks below 2^32.
	 */
	void		(*split) (uint64_t *numbers, int count, uint64_t divisor);

	/* Turns blocks, together with their offsets, into TIDs. */
	void		(*join) (uint64_t *blocks, const uint64_t *offsets, int count);

	/* Fills in numbers that follow each other. */
	void		(*fill) (uint64_t *out, int count, uint64_t first);

	/* Are all bits of a hash in a block of a Bloom filter? */
	bool		(*bloom_test) (const void *block, uint64_t hash);
} AlexKernels;

/* The kernels in use: a copy of one of those below. */
extern AlexKernels alex_kernels ALEX_HIDDEN;

extern const AlexKernels alex_kernels_scalar ALEX_HIDDEN;
#if defined(__x86_64__) && defined(__GNUC__)
#define ALEX_KERNELS_X86
extern const AlexKernels alex_kernels_avx2 ALEX_HIDDEN;
extern const AlexKernels alex_kernels_avx512 ALEX_HIDDEN;
#endif

/* Of Bloom filters: see bloom.c. */
#define ALEX_BLOOM_WORDS		8	/* of 64 bits, in a block */
#define ALEX_BLOOM_WORD_SHIFT	6	/* a word has 2^6 bits */

extern const uint32_t alex_bloom_salts[ALEX_BLOOM_WORDS] ALEX_HIDDEN;
extern bool alex_bloom_test_scalar(const void *block,
								   uint64_t hash) ALEX_HIDDEN;

/* The kernels that this processor can run, from the scalar ones up, or NULL. */
extern const AlexKernels *alex_kernels_available(int number) ALEX_HIDDEN;

#endif							/* ALEX_KERNELS_H */
