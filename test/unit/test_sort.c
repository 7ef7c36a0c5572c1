/*-------------------------------------------------------------------------
 *
 * test_sort.c
 *	  Unit tests of the entry sort, against qsort.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "alex/learned.h"
#include "unit.h"

#define LARGE		1000000
#define SMALL		300

typedef enum Input
{
	RANDOM_60,
	RANDOM_64,
	ASCENDING,
	DESCENDING,
	DESCENDING_EQUAL,
	NEARLY_SORTED,
	RANDOM_AT_END,
	EQUAL_KEYS,
	EQUAL_ENTRIES,
	FEW_KEYS,
	ZIPF,
	LOGNORMAL,
	POWERS_OF_TWO,
	OUTLIERS,
	EXTREMES,
	NINPUTS
} Input;

static const char *const input_names[NINPUTS] = {
	"random 60-bit keys", "random 64-bit keys and TIDs", "ascending",
	"descending", "descending keys in pairs", "nearly sorted",
	"sorted but for the last entry", "equal keys, random TIDs",
	"equal entries", "16 keys", "Zipf", "lognormal", "powers of two",
	"sequence with outliers", "least and greatest keys"
};

static AlexEntry *entries;
static AlexEntry *scratch;
static AlexEntry *expected;

static int
compare(const void *one, const void *other)
{
	const AlexEntry *a = (const AlexEntry *) one;
	const AlexEntry *b = (const AlexEntry *) other;

	return alex_compare(a->key, a->tid, b->key, b->tid);
}

static AlexEntry
draw(Input input, uint64_t i, uint64_t n, uint64_t *state)
{
	uint64_t	random = unit_random(state);
	uint64_t	other = unit_random(state);
	double		u = (double) ((random >> 11) + 1) * 0x1p-53;
	double		v = (double) (other >> 11) * 0x1p-53;

	switch (input)
	{
		case RANDOM_60:
			return (AlexEntry) {random >> 4, i};
		case RANDOM_64:
			return (AlexEntry) {random, other};
		case ASCENDING:
			return (AlexEntry) {i, i % 7};
		case DESCENDING:
			return (AlexEntry) {n - i, i % 7};
		case DESCENDING_EQUAL:
			return (AlexEntry) {(n - i) / 2, i};
		case NEARLY_SORTED:
			return (AlexEntry) {i * 100 + random % 10000, i};
		case RANDOM_AT_END:
			return (AlexEntry) {i + 1 == n ? random % n : i, 5};
		case EQUAL_KEYS:
			return (AlexEntry) {42, other & ALEX_TID_MAX};
		case EQUAL_ENTRIES:
			return (AlexEntry) {42, 43};
		case FEW_KEYS:
			return (AlexEntry) {random % 16, i};
		case ZIPF:
			return (AlexEntry) {(uint64_t) (1 / u), other & ALEX_TID_MAX};
		case LOGNORMAL:
			u = sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
			return (AlexEntry) {(uint64_t) exp(2 * u + 20), i};
		case POWERS_OF_TWO:
			return (AlexEntry) {UINT64_C(1) << random % 64,
				UINT64_C(1) << other % 64};
		case OUTLIERS:
			return (AlexEntry) {i % 1000 == 0 ? random : random % (2 * n), i};
		default:
			return (AlexEntry) {random % 3 == 0 ? UINT64_MAX : random % 2,
				other % 3 == 0 ? UINT64_MAX : other % 2};
	}
}

/* True if the sort gives what qsort gives. */
static bool
sorts(Input input, size_t n, uint64_t seed)
{
	uint64_t	state = seed;

	for (size_t i = 0; i < n; i++)
		entries[i] = draw(input, i, n, &state);
	memcpy(expected, entries, n * sizeof(AlexEntry));
	alex_sort(entries, scratch, n);
	qsort(expected, n, sizeof(AlexEntry), compare);
	return memcmp(expected, entries, n * sizeof(AlexEntry)) == 0;
}

int
main(void)
{
	entries = malloc((LARGE + 1) * sizeof(AlexEntry));
	scratch = malloc((LARGE + 1) * sizeof(AlexEntry));
	expected = malloc(LARGE * sizeof(AlexEntry));

	for (Input input = 0; input < NINPUTS; input++)
	{
		size_t		wrong = SIZE_MAX;
		const AlexEntry guard = {UINT64_C(0xABCDEF), UINT64_C(0x123456)};
		bool		intact = true;

		for (size_t n = 0; n <= SMALL; n++)
		{
			entries[n] = guard;
			scratch[n] = guard;
			if (!sorts(input, n, n + 1) && wrong == SIZE_MAX)
				wrong = n;
			intact = intact && compare(&entries[n], &guard) == 0 &&
				compare(&scratch[n], &guard) == 0;
		}
		unit_ok(wrong == SIZE_MAX, "%s: 0 to %d entries", input_names[input],
				SMALL);
		if (wrong != SIZE_MAX)
			unit_note("wrong at %zu", wrong);
		unit_ok(intact, "%s: nothing is written behind the arrays",
				input_names[input]);
		unit_ok(sorts(input, LARGE, 1), "%s: %d entries",
				input_names[input], LARGE);
	}

	free(entries);
	free(scratch);
	free(expected);
	return unit_done();
}
