/*-------------------------------------------------------------------------
 *
 * unit.h
 *	  The few macros that the stand-alone unit tests are written with.  Each
 *	  test program prints TAP, so that prove(1) runs and counts them.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_UNIT_H
#define ALEX_UNIT_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int	unit_tests;
static int	unit_failures;

/* One TAP line; returns the condition. */
static inline int
unit_ok(int condition, const char *format,...)
{
	va_list		arguments;

	unit_tests++;
	if (!condition)
		unit_failures++;
	printf("%sok %d - ", condition ? "" : "not ", unit_tests);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	return condition;
}

static inline void
unit_note(const char *format,...)
{
	va_list		arguments;

	printf("# ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
}

static inline int
unit_done(void)
{
	printf("1..%d\n", unit_tests);
	return unit_failures > 0;
}

/* splitmix64: repeatable from a seed on every platform */
static inline uint64_t
unit_random(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

#endif							/* ALEX_UNIT_H */
