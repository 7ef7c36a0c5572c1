/*-------------------------------------------------------------------------
 *
 * kernels_x86.c
 *	  Kernels with AVX2 and AVX-512.
 *
 * Unpacking.  Eight residuals of w bits are w bytes, so that the places of
 * eight numbers within their bytes are the same for the next eight.  They are
 * worked out once; then each step loads bytes, shuffles those of each number
 * into a word of its own, shifts each word by its own count, and masks it.
 * With AVX2, 16 bytes loaded at the first byte of one number have the next
 * one, too.  With AVX-512 one load has all eight, and is masked so that it
 * ends where they do.  That does for residuals of up to 57 bits; wider ones,
 * which need nine bytes, are rare and left to the scalar twin.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/kernels_x86.c
 *
 *-------------------------------------------------------------------------
 */
#include "kernels.h"

#ifdef ALEX_KERNELS_X86

#include <immintrin.h>

#define AVX2		__attribute__((target("avx2")))
#define AVX512 \
	__attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vbmi")))

/* Bytes 0 to 7 of a word. */
#define BYTE_NUMBERS	INT64_C(0x0706050403020100)

/* The bits of 2^52 as a double: numbers below that are its fraction. */
#define DOUBLE_2_52		INT64_C(0x4330000000000000)

/*
 * ---------------------------------------------------------------------
 * AVX2: four numbers at a time
 * ---------------------------------------------------------------------
 */

/* Where the residuals of four numbers are, from the first one's byte on. */
typedef struct Quad
{
	__m256i		shuffle;
	__m256i		shift;
	uint32_t	low;			/* where the first two are loaded from */
	uint32_t	high;			/* and the other two */
} Quad;

/* What does not change while a column is unpacked. */
typedef struct Lines
{
	__m256i		base;
	__m256i		mask;
	__m128i		shift;
} Lines;

/* Four numbers from bit "skip" on; eight numbers need two of these. */
static inline AVX2 Quad
quad_at(unsigned skip, unsigned width)
{
	const __m256i first_byte = _mm256_set_epi64x(0x0808080808080808, 0,
												 0x0808080808080808, 0);
	__m256i		bits;
	__m256i		bytes;
	Quad		quad;

	bits = _mm256_add_epi64(_mm256_mul_epu32(_mm256_set1_epi64x(width),
											 _mm256_set_epi64x(3, 2, 1, 0)),
							_mm256_set1_epi64x(skip));
	/* from the pair's first byte on, repeated in all bytes of the word */
	bytes = _mm256_srli_epi64(bits, 3);
	bytes = _mm256_sub_epi64(bytes, _mm256_unpacklo_epi64(bytes, bytes));
	bytes = _mm256_shuffle_epi8(bytes, first_byte);
	quad.shuffle = _mm256_add_epi8(bytes, _mm256_set1_epi64x(BYTE_NUMBERS));
	quad.shift = _mm256_and_si256(bits, _mm256_set1_epi64x(7));
	quad.low = skip >> 3;
	quad.high = (skip + 2 * width) >> 3;
	return quad;
}

static inline AVX2 __m256i
unpack_quad(const uint8_t *bits, const Quad *quad, const Lines *lines,
			__m256i line)
{
	__m256i		words;

	words = _mm256_inserti128_si256(
		_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *) (bits + quad->low))),
		_mm_loadu_si128((const __m128i *) (bits + quad->high)), 1);
	words = _mm256_srlv_epi64(_mm256_shuffle_epi8(words, quad->shuffle),
							  quad->shift);
	words = _mm256_and_si256(words, lines->mask);
	line = _mm256_add_epi64(_mm256_srl_epi64(line, lines->shift),
							lines->base);
	return _mm256_add_epi64(words, line);
}

static inline AVX2 void
store_quad(uint64_t *out, __m256i numbers)
{
	_mm256_storeu_si256((__m256i *) out, numbers);
}

/* slope * i for the four numbers from "first" on. */
static inline AVX2 __m256i
quad_line(uint64_t slope, uint64_t first)
{
	const __m256i once = _mm256_set1_epi64x((int64_t) slope);
	__m256i		line = _mm256_set1_epi64x((int64_t) (slope * first));

	line = _mm256_add_epi64(line,
							_mm256_and_si256(once, _mm256_set_epi64x(-1, 0, -1, 0)));
	return _mm256_add_epi64(line,
							_mm256_and_si256(_mm256_slli_epi64(once, 1),
											 _mm256_set_epi64x(-1, -1, 0, 0)));
}

static inline AVX2 Lines
open_lines(const AlexColumn *column)
{
	Lines		lines;

	lines.base = _mm256_set1_epi64x((int64_t) column->base);
	lines.mask = _mm256_set1_epi64x((int64_t) column->mask);
	lines.shift = _mm_cvtsi32_si128((int) column->shift);
	return lines;
}

/* Columns without residuals. */
static AVX2 void
unpack_lines_avx2(const AlexColumn *column, uint32_t first, int count,
				  uint64_t *out)
{
	const Lines lines = open_lines(column);
	const __m256i step = _mm256_set1_epi64x((int64_t) (4 * column->slope));
	__m256i		line = quad_line(column->slope, first);
	int			done = 0;

	for (; done + 4 <= count; done += 4)
	{
		store_quad(out + done,
				   _mm256_add_epi64(_mm256_srl_epi64(line, lines.shift),
									lines.base));
		line = _mm256_add_epi64(line, step);
	}
	for (; done < count; done++)
		out[done] = column->base +
			((column->slope * (first + (uint32_t) done)) >> column->shift);
}

static AVX2 void
unpack_avx2(const AlexColumn *column, uint32_t first, int count,
			uint64_t *out)
{
	const unsigned width = column->width;
	int			done = 0;

	if (width == 0)
	{
		unpack_lines_avx2(column, first, count, out);
		return;
	}
	if (width <= ALEX_NARROW_WIDTH && count >= 4)
	{
		const Lines lines = open_lines(column);
		const __m256i step = _mm256_set1_epi64x((int64_t) (4 * column->slope));
		const uint32_t bit = first * width;
		const uint8_t *bits = column->bits + (bit >> 3);
		const Quad	quad1 = quad_at(bit & 7, width);
		const Quad	quad2 = quad_at((bit & 7) + 4 * width, width);
		__m256i		line = quad_line(column->slope, first);

		for (; done + 8 <= count; done += 8)
		{
			store_quad(out + done, unpack_quad(bits, &quad1, &lines, line));
			line = _mm256_add_epi64(line, step);
			store_quad(out + done + 4, unpack_quad(bits, &quad2, &lines, line));
			line = _mm256_add_epi64(line, step);
			bits += width;
		}
		if (done + 4 <= count)
		{
			store_quad(out + done, unpack_quad(bits, &quad1, &lines, line));
			done += 4;
		}
	}
	if (done < count)
		alex_kernels_scalar.unpack(column, first + (uint32_t) done,
								   count - done, out + done);
}

/*
 * There are only signed comparisons, so both sides are turned by 2^63, the
 * numbers with the base that is added to all of them.
 */
static AVX2 int
count_less_avx2(const AlexColumn *column, uint32_t first, uint64_t key)
{
	const uint64_t sign = UINT64_C(1) << 63;
	const __m256i bound = _mm256_set1_epi64x((int64_t) (key ^ sign));
	const __m256i step = _mm256_set1_epi64x((int64_t) (4 * column->slope));
	const uint32_t bit = first * column->width;
	const uint8_t *bits = column->bits + (bit >> 3);
	const Quad	quad1 = quad_at(bit & 7, column->width);
	const Quad	quad2 = quad_at((bit & 7) + 4 * column->width, column->width);
	__m256i		line = quad_line(column->slope, first);
	Lines		lines = open_lines(column);
	unsigned	less = 0;

	if (column->width == 0 || column->width > ALEX_NARROW_WIDTH)
		return alex_kernels_scalar.count_less(column, first, key);

	lines.base = _mm256_set1_epi64x((int64_t) (column->base ^ sign));
	for (int i = 0; i < ALEX_SEARCH_WINDOW / 8; i++)
	{
		__m256i		low = unpack_quad(bits, &quad1, &lines, line);
		__m256i		high;

		line = _mm256_add_epi64(line, step);
		high = unpack_quad(bits, &quad2, &lines, line);
		line = _mm256_add_epi64(line, step);
		bits += column->width;

		low = _mm256_cmpgt_epi64(bound, low);
		high = _mm256_cmpgt_epi64(bound, high);
		/* one bit for each of the eight, in whatever order */
		less = less << 8 |
			(unsigned) _mm256_movemask_ps(_mm256_shuffle_ps(_mm256_castsi256_ps(low),
															_mm256_castsi256_ps(high),
															0xDD));
	}
	return __builtin_popcount(less);
}

/*
 * The quotient by floating point: adding one half keeps number / divisor at
 * least 2^-17 away from any integer, and blocks are below 2^32, so that the
 * two roundings, of 2^-53 each, cannot carry it across one.
 */
static AVX2 void
split_avx2(uint64_t *numbers, int count, uint64_t divisor)
{
	const __m256d inverse = _mm256_set1_pd(1.0 / (double) divisor);
	const __m256i spread = _mm256_set1_epi64x((int64_t) (65536 - divisor));
	const __m256i magic = _mm256_set1_epi64x(DOUBLE_2_52);
	const __m256d less_magic = _mm256_set1_pd(0x1p52 - 0.5);
	const __m256d plus_magic = _mm256_set1_pd(0x1p52);
	int			done = 0;

	for (; done + 4 <= count; done += 4)
	{
		__m256i		four = _mm256_loadu_si256((const __m256i *) (numbers + done));
		__m256d		halves;
		__m256i		blocks;

		halves = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(four, magic)),
							   less_magic);
		halves = _mm256_floor_pd(_mm256_mul_pd(halves, inverse));
		/* the multiplication looks at the lower halves of words only */
		blocks = _mm256_castpd_si256(_mm256_add_pd(halves, plus_magic));
		store_quad(numbers + done,
				   _mm256_add_epi64(four, _mm256_mul_epu32(blocks, spread)));
	}
	if (done < count)
		alex_kernels_scalar.split(numbers + done, count - done, divisor);
}

static AVX2 void
join_avx2(uint64_t *blocks, const uint64_t *offsets, int count)
{
	int			done = 0;

	for (; done + 4 <= count; done += 4)
		store_quad(blocks + done,
				   _mm256_or_si256(
					   _mm256_slli_epi64(_mm256_loadu_si256((const __m256i *) (blocks + done)), 16),
					   _mm256_loadu_si256((const __m256i *) (offsets + done))));
	for (; done < count; done++)
		blocks[done] = blocks[done] << 16 | offsets[done];
}

static AVX2 void
fill_avx2(uint64_t *out, int count, uint64_t first)
{
	const __m256i step = _mm256_set1_epi64x(4);
	__m256i		four = quad_line(1, first);
	int			done = 0;

	for (; done + 4 <= count; done += 4)
	{
		store_quad(out + done, four);
		four = _mm256_add_epi64(four, step);
	}
	for (; done < count; done++)
		out[done] = first + (uint64_t) done;
}

/* Which bit of each of the block's words is the key's. */
static inline AVX2 __m256i
bloom_bits(uint64_t hash)
{
	__m256i		product;

	product = _mm256_mullo_epi32(_mm256_set1_epi32((int) (uint32_t) hash),
								 _mm256_loadu_si256((const __m256i *) alex_bloom_salts));
	return _mm256_srli_epi32(product, 32 - ALEX_BLOOM_WORD_SHIFT);
}

static AVX2 bool
bloom_test_avx2(const void *block, uint64_t hash)
{
	const __m256i *words = (const __m256i *) block;
	const __m256i one = _mm256_set1_epi64x(1);
	const __m256i bits = bloom_bits(hash);
	__m256i		low;
	__m256i		high;

	low = _mm256_sllv_epi64(one, _mm256_cvtepu32_epi64(_mm256_castsi256_si128(bits)));
	high = _mm256_sllv_epi64(one, _mm256_cvtepu32_epi64(_mm256_extracti128_si256(bits, 1)));
	low = _mm256_andnot_si256(_mm256_loadu_si256(words), low);
	high = _mm256_andnot_si256(_mm256_loadu_si256(words + 1), high);
	low = _mm256_or_si256(low, high);
	return _mm256_testz_si256(low, low);
}

const AlexKernels alex_kernels_avx2 = {
	.name = "avx2",
	.unpack = unpack_avx2,
	.count_less = count_less_avx2,
	.split = split_avx2,
	.join = join_avx2,
	.fill = fill_avx2,
	.bloom_test = bloom_test_avx2
};

/*
 * ---------------------------------------------------------------------
 * AVX-512: eight numbers at a time, the last ones by masks
 * ---------------------------------------------------------------------
 */

/* What does not change while a column is unpacked. */
typedef struct Octet
{
	__m512i		shuffle;
	__m512i		shift;
	__m512i		mask;
	__m512i		base;
	__m128i		line_shift;
} Octet;

static inline AVX512 Octet
open_octet(const AlexColumn *column, unsigned skip)
{
	const __m512i numbers = _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0);
	Octet		octet;
	__m512i		bits;
	__m512i		bytes;

	bits = _mm512_add_epi64(
		_mm512_mul_epu32(numbers, _mm512_set1_epi64(column->width)),
		_mm512_set1_epi64(skip));
	/* the byte's number, below 64, repeated in all of the word's bytes */
	bytes = _mm512_srli_epi64(bits, 3);
	bytes = _mm512_shuffle_epi8(bytes, _mm512_set4_epi64(0x0808080808080808, 0,
														 0x0808080808080808, 0));
	octet.shuffle = _mm512_add_epi8(bytes, _mm512_set1_epi64(BYTE_NUMBERS));
	octet.shift = _mm512_and_si512(bits, _mm512_set1_epi64(7));
	octet.mask = _mm512_set1_epi64((int64_t) column->mask);
	octet.base = _mm512_set1_epi64((int64_t) column->base);
	octet.line_shift = _mm_cvtsi32_si128((int) column->shift);
	return octet;
}

/* The bytes of "count" numbers, at most 58 of them. */
static inline __mmask64
octet_bytes(unsigned skip, unsigned width, int count)
{
	return UINT64_MAX >> (64 - (skip + (unsigned) count * width + 7) / 8);
}

static inline AVX512 __m512i
unpack_octet(const uint8_t *bits, __mmask64 bytes, const Octet *octet,
			 __m512i line)
{
	__m512i		words;

	words = _mm512_maskz_loadu_epi8(bytes, bits);
	words = _mm512_srlv_epi64(_mm512_permutexvar_epi8(octet->shuffle, words),
							  octet->shift);
	words = _mm512_and_si512(words, octet->mask);
	line = _mm512_add_epi64(_mm512_srl_epi64(line, octet->line_shift),
							octet->base);
	return _mm512_add_epi64(words, line);
}

/* slope * i for the eight numbers from "first" on. */
static inline AVX512 __m512i
octet_line(uint64_t slope, uint64_t first)
{
	return _mm512_add_epi64(
		_mm512_set1_epi64((int64_t) (slope * first)),
		_mm512_mullo_epi64(_mm512_set1_epi64((int64_t) slope),
						   _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)));
}

static AVX512 void
unpack_avx512(const AlexColumn *column, uint32_t first, int count,
			  uint64_t *out)
{
	const unsigned width = column->width;
	const uint32_t bit = first * width;
	const uint8_t *bits = column->bits + (bit >> 3);
	const __m512i step = _mm512_set1_epi64((int64_t) (8 * column->slope));
	__m512i		line;
	__mmask64	bytes = 0;
	Octet		octet;

	if (width > ALEX_NARROW_WIDTH)
	{
		alex_kernels_scalar.unpack(column, first, count, out);
		return;
	}
	octet = open_octet(column, bit & 7);
	line = octet_line(column->slope, first);
	/* nothing is loaded where there are no residuals */
	if (width > 0)
		bytes = octet_bytes(bit & 7, width, 8);
	for (; count >= 8; count -= 8)
	{
		_mm512_storeu_si512(out, unpack_octet(bits, bytes, &octet, line));
		line = _mm512_add_epi64(line, step);
		bits += width;
		out += 8;
	}
	if (count > 0)
	{
		if (width > 0)
			bytes = octet_bytes(bit & 7, width, count);
		_mm512_mask_storeu_epi64(out, (__mmask8) ((1 << count) - 1),
								 unpack_octet(bits, bytes, &octet, line));
	}
}

static AVX512 int
count_less_avx512(const AlexColumn *column, uint32_t first, uint64_t key)
{
	const unsigned width = column->width;
	const uint32_t bit = first * width;
	const uint8_t *bits = column->bits + (bit >> 3);
	const __m512i bound = _mm512_set1_epi64((int64_t) key);
	__m512i		line;
	__m512i		low;
	__m512i		high;
	__mmask64	bytes;
	Octet		octet;

	if (width == 0 || width > ALEX_NARROW_WIDTH)
		return alex_kernels_scalar.count_less(column, first, key);
	octet = open_octet(column, bit & 7);
	line = octet_line(column->slope, first);
	bytes = octet_bytes(bit & 7, width, 8);
	low = unpack_octet(bits, bytes, &octet, line);
	line = _mm512_add_epi64(line,
							_mm512_set1_epi64((int64_t) (8 * column->slope)));
	high = unpack_octet(bits + width, bytes, &octet, line);
	return __builtin_popcount(_mm512_cmplt_epu64_mask(low, bound) |
							  _mm512_cmplt_epu64_mask(high, bound) << 8);
}

/* Likewise; see split_avx2. */
static AVX512 void
split_avx512(uint64_t *numbers, int count, uint64_t divisor)
{
	const __m512d inverse = _mm512_set1_pd(1.0 / (double) divisor);
	const __m512d half = _mm512_set1_pd(0.5);
	const __m512i spread = _mm512_set1_epi64((int64_t) (65536 - divisor));

	for (; count > 0; count -= 8, numbers += 8)
	{
		const __mmask8 there = count >= 8 ? 0xFF : (__mmask8) ((1 << count) - 1);
		__m512i		eight = _mm512_maskz_loadu_epi64(there, numbers);
		__m512d		quotients;
		__m512i		blocks;

		quotients = _mm512_mul_pd(_mm512_add_pd(_mm512_cvtepu64_pd(eight), half),
								  inverse);
		blocks = _mm512_cvttpd_epu64(quotients);
		_mm512_mask_storeu_epi64(numbers, there,
								 _mm512_add_epi64(eight,
												  _mm512_mul_epu32(blocks, spread)));
	}
}

static AVX512 void
join_avx512(uint64_t *blocks, const uint64_t *offsets, int count)
{
	for (; count > 0; count -= 8, blocks += 8, offsets += 8)
	{
		const __mmask8 there = count >= 8 ? 0xFF : (__mmask8) ((1 << count) - 1);

		_mm512_mask_storeu_epi64(blocks, there,
								 _mm512_or_si512(
									 _mm512_slli_epi64(_mm512_maskz_loadu_epi64(there, blocks), 16),
									 _mm512_maskz_loadu_epi64(there, offsets)));
	}
}

static AVX512 void
fill_avx512(uint64_t *out, int count, uint64_t first)
{
	const __m512i step = _mm512_set1_epi64(8);
	__m512i		eight = octet_line(1, first);

	for (; count >= 8; count -= 8, out += 8)
	{
		_mm512_storeu_si512(out, eight);
		eight = _mm512_add_epi64(eight, step);
	}
	if (count > 0)
		_mm512_mask_storeu_epi64(out, (__mmask8) ((1 << count) - 1), eight);
}

static AVX512 bool
bloom_test_avx512(const void *block, uint64_t hash)
{
	__m512i		bits = _mm512_cvtepu32_epi64(bloom_bits(hash));

	bits = _mm512_sllv_epi64(_mm512_set1_epi64(1), bits);
	bits = _mm512_andnot_si512(_mm512_loadu_si512(block), bits);
	return _mm512_test_epi64_mask(bits, bits) == 0;
}

const AlexKernels alex_kernels_avx512 = {
	.name = "avx512",
	.unpack = unpack_avx512,
	.count_less = count_less_avx512,
	.split = split_avx512,
	.join = join_avx512,
	.fill = fill_avx512,
	.bloom_test = bloom_test_avx512
};

#endif							/* ALEX_KERNELS_X86 */
