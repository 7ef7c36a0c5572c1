/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzz targets share.
 *
 * A target is a function over arbitrary bytes, linked with libFuzzer, with
 * AddressSanitizer and UndefinedBehaviorSanitizer.  An input that is shorter
 * than what is decoded is extended with zeros.  Each page is a piece of
 * memory of its own, so that a read beyond it is seen.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_FUZZ_H
#define ALEX_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alex/learned.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the input is. */
#define FUZZ_REQUIRE(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: not true: %s\n", \
					__FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* The rest of an input that is read piece by piece. */
typedef struct FuzzInput
{
	const uint8_t *data;
	size_t		size;
} FuzzInput;

/* Takes the next bytes; what the input does not have becomes zero. */
static inline void
fuzz_take(FuzzInput *input, void *to, size_t bytes)
{
	size_t		n = input->size < bytes ? input->size : bytes;

	if (n > 0)
		memcpy(to, input->data, n);
	memset((char *) to + n, 0, bytes - n);
	input->data += n;
	input->size -= n;
}

static inline uint64_t
fuzz_take64(FuzzInput *input)
{
	uint64_t	number;

	fuzz_take(input, &number, sizeof(number));
	return number;
}

static inline uint32_t
fuzz_take32(FuzzInput *input)
{
	uint32_t	number;

	fuzz_take(input, &number, sizeof(number));
	return number;
}

static inline uint8_t
fuzz_take8(FuzzInput *input)
{
	uint8_t		number;

	fuzz_take(input, &number, sizeof(number));
	return number;
}

#endif							/* ALEX_FUZZ_H */
