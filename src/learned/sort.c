/*-------------------------------------------------------------------------
 *
 * sort.c
 *	  Radix sort of entries by (key, TID).
 *
 * Entries are distributed by their highest bits that are not the same in all
 * of them, then each bucket likewise by itself.  After one or two rounds a
 * bucket fits the processor's cache, and random keys are told apart long
 * before their low bits have been looked at, so that this moves each entry
 * three times or so; from the lowest byte up it would be once a byte.  What is
 * not distributed any further is small, and left to insertion sort.
 *
 * Each round looks at new bits, of which there are 128, so that the number of
 * rounds is bounded, whatever the input.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/sort.c
 *
 *-------------------------------------------------------------------------
 */
#include "alex/learned.h"

#include <string.h>

/* Up to this many entries are sorted by insertion. */
#define INSERTION_MAX	24

/* Bits that a round distributes by. */
#define MIN_DIGIT		4
#define MAX_DIGIT		6

/* What one pass over a range of entries tells. */
typedef struct Survey
{
	uint64_t	key_bits;		/* set where keys differ */
	uint64_t	tid_bits;		/* set where TIDs differ */
	bool		ascending;
	bool		descending;
} Survey;

static inline bool
entry_less(const AlexEntry *one, const AlexEntry *other)
{
	return (one->key < other->key) |
		((one->key == other->key) & (one->tid < other->tid));
}

/* Sorts "from" into "to", which may be the same. */
static void
insertion_sort(const AlexEntry *from, AlexEntry *to, size_t nentries)
{
	for (size_t i = 0; i < nentries; i++)
	{
		AlexEntry	entry = from[i];
		size_t		slot = i;

		while (slot > 0 && entry_less(&entry, &to[slot - 1]))
		{
			to[slot] = to[slot - 1];
			slot--;
		}
		to[slot] = entry;
	}
}

static Survey
survey(const AlexEntry *entries, size_t nentries)
{
	uint64_t	key_bits = 0;
	uint64_t	tid_bits = 0;
	uint64_t	nless = 0;
	uint64_t	ngreater = 0;

	for (size_t i = 1; i < nentries; i++)
	{
		key_bits |= entries[i].key ^ entries[i - 1].key;
		tid_bits |= entries[i].tid ^ entries[i - 1].tid;
		nless += entry_less(&entries[i], &entries[i - 1]);
		ngreater += entry_less(&entries[i - 1], &entries[i]);
	}
	return (Survey) {key_bits, tid_bits, nless == 0, ngreater == 0};
}

static void
reverse(AlexEntry *entries, size_t nentries)
{
	for (size_t i = 0; i < nentries / 2; i++)
	{
		AlexEntry	entry = entries[i];

		entries[i] = entries[nentries - 1 - i];
		entries[nentries - 1 - i] = entry;
	}
}

/*
 * More buckets than entries would cost more than they save.  More than 2^6 at
 * a time write to more pages and lines than the processor keeps at hand:
 * measured, 10^7 random keys took 29 ns an entry with 6 bits a round, 38 ns
 * with 8, although that saves a round.
 */
static int
digit_bits(size_t nentries)
{
	int			bits = MIN_DIGIT;

	while (bits < MAX_DIGIT && nentries >> (bits + 1) != 0)
		bits++;
	return bits;
}

/* The bits of key and TID, as one number, that a round distributes by. */
typedef struct Digit
{
	int			word;			/* 0 is the key, 1 the TID */
	int			shift;
	uint64_t	mask;
} Digit;

static inline Digit
highest_digit(int nbits, size_t nentries)
{
	int			width = digit_bits(nentries);
	int			word = nbits > 64 ? 0 : 1;
	int			available = nbits > 64 ? nbits - 64 : nbits;

	if (width > available)
		width = available;
	return (Digit) {word, available - width, (UINT64_C(1) << width) - 1};
}

static inline size_t
bucket_of(const AlexEntry *entry, Digit digit)
{
	uint64_t	bits = digit.word == 0 ? entry->key : entry->tid;

	return (bits >> digit.shift) & digit.mask;
}

/* Counts the entries of each bucket; returns the greatest count. */
static size_t
count_buckets(const AlexEntry *entries, size_t nentries, Digit digit,
			  size_t *counts)
{
	size_t		greatest = 0;

	memset(counts, 0, (digit.mask + 1) * sizeof(*counts));
	for (size_t i = 0; i < nentries; i++)
		counts[bucket_of(&entries[i], digit)]++;
	for (size_t bucket = 0; bucket <= digit.mask; bucket++)
		if (counts[bucket] > greatest)
			greatest = counts[bucket];
	return greatest;
}

/* On return, ends[] says where each bucket ends. */
static void
distribute(const AlexEntry *from, AlexEntry *to, size_t nentries, Digit digit,
		   size_t *ends)
{
	size_t		start = 0;

	for (size_t bucket = 0; bucket <= digit.mask; bucket++)
	{
		size_t		count = ends[bucket];

		ends[bucket] = start;
		start += count;
	}
	for (size_t i = 0; i < nentries; i++)
		to[ends[bucket_of(&from[i], digit)]++] = from[i];
}

/*
 * Sorts "from" into itself, or, if in_place is false, into "to"; the other
 * one is working memory.  The entries are known to differ in no more than
 * the lowest "nbits" bits of key and TID; 0 if there is nothing known.
 */
static void
sort_range(AlexEntry *from, AlexEntry *to, size_t nentries, bool in_place,
		   int nbits)
{
	size_t		ends[1 << MAX_DIGIT];
	AlexEntry  *result = in_place ? from : to;
	bool		surveyed = nbits == 0;
	Digit		digit;
	size_t		greatest = nentries;
	size_t		start = 0;

	if (!surveyed)
	{
		/* where the digit tells too little apart, it pays to look closer */
		digit = highest_digit(nbits, nentries);
		greatest = count_buckets(from, nentries, digit, ends);
		surveyed = greatest > nentries / 2;
	}
	if (surveyed)
	{
		Survey		found = survey(from, nentries);

		if (found.descending)
			reverse(from, nentries);
		if (found.ascending || found.descending)
		{
			if (!in_place)
				memcpy(to, from, nentries * sizeof(AlexEntry));
			return;
		}
		nbits = found.key_bits ? 128 - __builtin_clzll(found.key_bits) :
			64 - __builtin_clzll(found.tid_bits);
		digit = highest_digit(nbits, nentries);
		greatest = count_buckets(from, nentries, digit, ends);
	}

	distribute(from, to, nentries, digit, ends);
	if (greatest <= INSERTION_MAX)
	{
		insertion_sort(to, result, nentries);
		return;
	}
	nbits = (digit.word == 0 ? 64 : 0) + digit.shift;
	for (size_t bucket = 0; bucket <= digit.mask; bucket++)
	{
		size_t		count = ends[bucket] - start;

		if (count > INSERTION_MAX && nbits > 0)
			sort_range(to + start, from + start, count, !in_place, nbits);
		else if (nbits > 0)
			insertion_sort(to + start, result + start, count);
		else if (in_place)
			memcpy(from + start, to + start, count * sizeof(AlexEntry));
		start = ends[bucket];
	}
}

void
alex_sort(AlexEntry *entries, AlexEntry *scratch, size_t nentries)
{
	if (nentries <= INSERTION_MAX)
		insertion_sort(entries, entries, nentries);
	else
		sort_range(entries, scratch, nentries, true, 0);
}
