/*-------------------------------------------------------------------------
 *
 * kernels.c
 *	  The scalar twins of the kernels, and the choice among kernels.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/kernels.c
 *
 *-------------------------------------------------------------------------
 */
#include "kernels.h"

static void
unpack_scalar(const AlexColumn *column, uint32_t first, int count,
			  uint64_t *out)
{
	const uint64_t base = column->base;
	const uint64_t slope = column->slope;
	const uint64_t mask = column->mask;
	const uint8_t *bits = column->bits;
	const unsigned width = column->width;
	const unsigned shift = column->shift;
	uint64_t	line = slope * first;
	uint32_t	position = first * width;

	if (width == 0)
	{
		for (int i = 0; i < count; i++, line += slope)
			out[i] = base + (line >> shift);
	}
	else if (width <= ALEX_NARROW_WIDTH)
	{
		for (int i = 0; i < count; i++, line += slope, position += width)
			out[i] = base + (line >> shift) +
				(alex_load64(bits + (position >> 3)) >> (position & 7) & mask);
	}
	else
	{
		for (int i = 0; i < count; i++, line += slope)
			out[i] = base + (line >> shift) +
				alex_column_residual(column, first + (uint32_t) i);
	}
}

static int
count_less_scalar(const AlexColumn *column, uint32_t first, uint64_t key)
{
	uint64_t	numbers[ALEX_SEARCH_WINDOW];
	int			less = 0;

	unpack_scalar(column, first, ALEX_SEARCH_WINDOW, numbers);
	for (int i = 0; i < ALEX_SEARCH_WINDOW; i++)
		less += numbers[i] < key;
	return less;
}

/*
 * The factor exceeds 2^64 / divisor by at most one, so the high half of the
 * product exceeds number / divisor by less than number / 2^64; numbers are
 * below 2^48 and divisors from 2 to 2^16, so that this is less than 1 / divisor
 * and the high half's integer part is the exact quotient.
 */
static void
split_scalar(uint64_t *numbers, int count, uint64_t divisor)
{
	const uint64_t factor = UINT64_MAX / divisor + 1;
	const uint64_t spread = (UINT64_C(1) << 16) - divisor;

	for (int i = 0; i < count; i++)
	{
		uint64_t	block = (uint64_t) (((unsigned __int128) numbers[i] *
										 factor) >> 64);

		/* block << 16 | offset, where offset is number - block * divisor */
		numbers[i] += block * spread;
	}
}

static void
join_scalar(uint64_t *blocks, const uint64_t *offsets, int count)
{
	for (int i = 0; i < count; i++)
		blocks[i] = blocks[i] << 16 | offsets[i];
}

static void
fill_scalar(uint64_t *out, int count, uint64_t first)
{
	for (int i = 0; i < count; i++)
		out[i] = first + (uint64_t) i;
}

const AlexKernels alex_kernels_scalar = {
	.name = "scalar",
	.unpack = unpack_scalar,
	.count_less = count_less_scalar,
	.split = split_scalar,
	.join = join_scalar,
	.fill = fill_scalar,
	.bloom_test = alex_bloom_test_scalar
};

AlexKernels alex_kernels = {
	.name = "scalar",
	.unpack = unpack_scalar,
	.count_less = count_less_scalar,
	.split = split_scalar,
	.join = join_scalar,
	.fill = fill_scalar,
	.bloom_test = alex_bloom_test_scalar
};

#ifdef ALEX_KERNELS_X86

/* __builtin_cpu_supports looks at what the operating system saves, too. */
const AlexKernels *
alex_kernels_available(int number)
{
	__builtin_cpu_init();
	if (number == 0)
		return &alex_kernels_scalar;
	if (number == 1 && __builtin_cpu_supports("avx2"))
		return &alex_kernels_avx2;
	if (number == 2 && __builtin_cpu_supports("avx2") &&
		__builtin_cpu_supports("avx512f") &&
		__builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") &&
		__builtin_cpu_supports("avx512vbmi"))
		return &alex_kernels_avx512;
	return NULL;
}

/* Runs when the program is started or the library loaded, in one thread. */
static __attribute__((constructor)) void
choose_kernels(void)
{
	const AlexKernels *kernels;

	for (int i = 1; (kernels = alex_kernels_available(i)) != NULL; i++)
		alex_kernels = *kernels;
}

#else

const AlexKernels *
alex_kernels_available(int number)
{
	return number == 0 ? &alex_kernels_scalar : NULL;
}

#endif							/* ALEX_KERNELS_X86 */
