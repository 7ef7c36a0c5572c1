/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  Makes the keys of the benchmarks, and the keys to look for.
 *
 *	  keys make KIND COUNT SEED FILE
 *	  keys probes hit|zipf|miss KEYS FIRST COUNT SEED FILE
 *	  keys text KEYS FIRST COUNT
 *
 * Files of keys are in the binary format of the SOSD benchmark: a 64-bit
 * count, then the keys as unsigned 64-bit numbers, both in the machine's byte
 * order.  "make" writes one; where KIND is file:PATH, it copies the first
 * COUNT keys of such a file.  All keys are below 2^63, so that they fit a
 * bigint; those of a file that has greater ones lose their highest bit's worth,
 * which keeps their order.
 *
 * "probes" writes COUNT keys to look for among the first FIRST ones of KEYS:
 * uniformly chosen, by Zipf's law with exponent 0.99 and the ranks scattered
 * over the keys, or such that are not there.  "text" prints COUNT rows from
 * the FIRST-th on (counted from 0) for COPY: the key and the row's number.
 *
 * Kinds:
 *	sequential	1, 2, 3, ...
 *	uniform		random numbers of 60 bits
 *	lognormal	exp of a normal distribution with mu 0 and sigma 2, times 10^12
 *	duplicates	1,000 distinct keys
 *	series		microseconds of one sensor: steps of a second with jitter, and
 *				2 % of the rows arrive up to 1,000 rows late
 *	devices		10,000 devices report in turn, each at its own offset within
 *				the minute
 *	log			milliseconds of an application's log: bursts with ties, pauses
 *				between them
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/drivers/keys.c
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICES			10000
#define DISTINCT		1000
#define LATE_ROWS		1000
#define ZIPF_EXPONENT	0.99

static uint64_t random_state;

static void
fail(const char *what, const char *of)
{
	fprintf(stderr, "keys: %s: %s\n", what, of);
	exit(1);
}

/* splitmix64 */
static uint64_t
next_random(void)
{
	uint64_t	z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* In [0, limit). */
static uint64_t
random_below(uint64_t limit)
{
	return (uint64_t) (((unsigned __int128) next_random() * limit) >> 64);
}

/* In (0, 1]. */
static double
random_fraction(void)
{
	return ((next_random() >> 11) + 1) * 0x1.0p-53;
}

static double
random_normal(void)
{
	return sqrt(-2.0 * log(random_fraction())) *
		cos(2.0 * 3.14159265358979323846 * random_fraction());
}

static void *
allocate(uint64_t count)
{
	void	   *memory = malloc((count + 1) * sizeof(uint64_t));

	if (memory == NULL)
		fail("out of memory", strerror(errno));
	return memory;
}

static uint64_t *
read_keys(const char *path, uint64_t *count)
{
	FILE	   *file = fopen(path, "rb");
	uint64_t   *keys;
	uint64_t	there;
	bool		high = false;

	if (file == NULL)
		fail(path, strerror(errno));
	if (fread(&there, sizeof(there), 1, file) != 1)
		fail(path, "no keys");
	if (*count == 0)
		*count = there;
	if (there < *count)
		fail(path, "too few keys");
	keys = allocate(*count);
	if (fread(keys, sizeof(uint64_t), *count, file) != *count)
		fail(path, "too short");
	fclose(file);

	for (uint64_t i = 0; i < *count; i++)
		high |= keys[i] >> 63 != 0;
	for (uint64_t i = 0; high && i < *count; i++)
		keys[i] >>= 1;
	return keys;
}

static void
write_keys(const char *path, const uint64_t *keys, uint64_t count)
{
	FILE	   *file = fopen(path, "wb");

	if (file == NULL)
		fail(path, strerror(errno));
	if (fwrite(&count, sizeof(count), 1, file) != 1 ||
		fwrite(keys, sizeof(uint64_t), count, file) != count ||
		fclose(file) != 0)
		fail(path, strerror(errno));
}

/* Some rows arrive late: they change places with one further on. */
static void
delay_some(uint64_t *keys, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
	{
		uint64_t	other = i + 1 + random_below(LATE_ROWS);

		if (random_below(100) < 2 && other < count)
		{
			uint64_t	key = keys[i];

			memmove(&keys[i], &keys[i + 1],
					(other - i) * sizeof(uint64_t));
			keys[other] = key;
		}
	}
}

static void
make_keys(const char *kind, uint64_t *keys, uint64_t count)
{
	uint64_t	offsets[DEVICES];
	uint64_t	now = UINT64_C(1700000000000);
	uint64_t	burst = 0;

	for (int i = 0; i < DEVICES; i++)
		offsets[i] = random_below(60000000);

	for (uint64_t i = 0; i < count; i++)
	{
		if (strcmp(kind, "sequential") == 0)
			keys[i] = i + 1;
		else if (strcmp(kind, "uniform") == 0)
			keys[i] = next_random() >> 4;
		else if (strcmp(kind, "lognormal") == 0)
			keys[i] = (uint64_t) (exp(2.0 * random_normal()) * 1e12);
		else if (strcmp(kind, "duplicates") == 0)
			keys[i] = random_below(DISTINCT) * 1000;
		else if (strcmp(kind, "series") == 0)
			keys[i] = (now * 1000) + i * 1000000 + random_below(500000);
		else if (strcmp(kind, "devices") == 0)
			keys[i] = (now * 1000) + i / DEVICES * 60000000 +
				offsets[i % DEVICES];
		else if (strcmp(kind, "log") == 0)
		{
			if (burst == 0)
			{
				burst = 1 + random_below(200);
				now += (uint64_t) (-log(random_fraction()) * 5000);
			}
			burst--;
			now += random_below(4) == 0;
			keys[i] = now;
		}
		else
			fail("unknown kind of keys", kind);
	}
	if (strcmp(kind, "series") == 0)
		delay_some(keys, count);
}

static int
compare_keys(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a;
	uint64_t	y = *(const uint64_t *) b;

	return (x > y) - (x < y);
}

/*
 * Ranks by Zipf's law, by inversion of its approximation by an integral; the
 * ranks are scattered over the keys, or else the first ones would be cached
 * together.
 */
static uint64_t
zipf_position(uint64_t count)
{
	double		power = 1.0 - ZIPF_EXPONENT;
	double		all = pow((double) count, power) - 1.0;
	double		rank = pow(random_fraction() * all + 1.0, 1.0 / power);
	uint64_t	number = rank < 1.0 ? 0 : (uint64_t) rank - 1;

	if (number >= count)
		number = count - 1;
	return number * UINT64_C(0x9E3779B97F4A7C15) % count;
}

/* Keys that are not there, next to such that are. */
static void
make_absent(const uint64_t *keys, uint64_t count, uint64_t *probes, uint64_t n)
{
	uint64_t   *sorted = allocate(count);

	memcpy(sorted, keys, count * sizeof(uint64_t));
	qsort(sorted, count, sizeof(uint64_t), compare_keys);
	for (uint64_t i = 0; i < n; i++)
	{
		uint64_t	at = random_below(count);
		uint64_t	gap = 0;

		if (at + 1 < count)
			gap = sorted[at + 1] - sorted[at];
		if (gap > 1)
			probes[i] = sorted[at] + 1 + random_below(gap - 1);
		else
			probes[i] = sorted[count - 1] + 1 + random_below(count);
	}
	free(sorted);
}

static void
make_probes(const char *how, const uint64_t *keys, uint64_t count,
			uint64_t *probes, uint64_t n)
{
	if (strcmp(how, "miss") == 0)
	{
		make_absent(keys, count, probes, n);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
	{
		if (strcmp(how, "hit") == 0)
			probes[i] = keys[random_below(count)];
		else if (strcmp(how, "zipf") == 0)
			probes[i] = keys[zipf_position(count)];
		else
			fail("unknown kind of probes", how);
	}
}

static uint64_t
number(const char *text)
{
	char	   *end;
	uint64_t	result = strtoull(text, &end, 10);

	if (*text == '\0' || *end != '\0')
		fail("not a number", text);
	return result;
}

int
main(int argc, char **argv)
{
	uint64_t   *keys;
	uint64_t   *probes;
	uint64_t	count;

	if (argc == 6 && strcmp(argv[1], "make") == 0)
	{
		count = number(argv[3]);
		random_state = number(argv[4]);
		if (strncmp(argv[2], "file:", 5) == 0)
			keys = read_keys(argv[2] + 5, &count);
		else
		{
			keys = allocate(count);
			make_keys(argv[2], keys, count);
		}
		write_keys(argv[5], keys, count);
	}
	else if (argc == 8 && strcmp(argv[1], "probes") == 0)
	{
		uint64_t	n = number(argv[5]);

		count = number(argv[4]);
		random_state = number(argv[6]);
		keys = read_keys(argv[3], &count);
		probes = allocate(n);
		make_probes(argv[2], keys, count, probes, n);
		write_keys(argv[7], probes, n);
	}
	else if (argc == 5 && strcmp(argv[1], "text") == 0)
	{
		uint64_t	first = number(argv[3]);
		uint64_t	end = first + number(argv[4]);

		keys = read_keys(argv[2], &end);
		for (uint64_t i = first; i < end; i++)
			printf("%" PRIu64 "\t%" PRIu64 "\n", keys[i], i);
		if (fflush(stdout) != 0)
			fail("could not write", strerror(errno));
	}
	else
	{
		fprintf(stderr, "usage: keys make KIND COUNT SEED FILE\n"
				"       keys probes hit|zipf|miss KEYS FIRST COUNT SEED FILE\n"
				"       keys text KEYS FIRST COUNT\n");
		return 1;
	}
	return 0;
}
