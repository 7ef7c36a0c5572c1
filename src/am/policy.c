/*-------------------------------------------------------------------------
 *
 * policy.c
 *	  Which runs are to be compacted.
 *
 * Runs of like size are merged when enough of them have come together, so
 * that an entry is rewritten a number of times logarithmic in the size of the
 * index.  Two bounds come on top of that: on the number of runs in all, for
 * the sake of probes, each of which asks every run whose keys enclose it; and
 * on the number of runs that share a key, much tighter, where there are range
 * scans, which have to merge them.  When a bound is exceeded, the smallest
 * runs are merged, and the next larger ones with them for as long as that
 * doubles them at least, nearly.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/policy.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "alex/am.h"
#include "alex/merge.h"

/* So many runs of like size are merged. */
#define TIER_FANOUT				8
/* Runs are of like size if each is smaller than so many of the smallest. */
#define LIKE_SIZE				3
/* More runs than these are too many. */
#define MAX_RUNS				ALEX_MANY_RUNS
/* So are more that share a key, where range scans are made. */
#define MAX_OVERLAPPING_RUNS	4
/* A run with so many dead pages, and more than one in so many, loses them. */
#define MIN_DEAD_PAGES			8
#define DEAD_PAGES_FRACTION		16
/* Merging goes in slices of so much of the index, or so many leaf pages. */
#define SLICE_FRACTION			16
#define MIN_SLICE				8
/* It pauses while retired runs have so many per cent of the live leaf pages */
#define MAX_RETIRED				10
/* or, with many runs, so many. */
#define MAX_RETIRED_MANY		100
/* A run this much larger than all smaller ones together is left alone. */
#define MUCH_LARGER				2

/* For sorting pointers to runs, the smallest first. */
int
alex_compare_by_size(const void *a, const void *b)
{
	const AlexRun *r1 = *(const AlexRun *const *) a;
	const AlexRun *r2 = *(const AlexRun *const *) b;

	if (r1->entries != r2->entries)
		return r1->entries < r2->entries ? -1 : 1;
	return r1->id < r2->id ? -1 : 1;
}

/* The live runs of a part, smallest first. */
static int
live_runs(const AlexManifest *manifest, AlexPart part, const AlexRun **runs)
{
	int			nruns = 0;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if (run->part == part && (run->flags & ALEX_RUN_RETIRED) == 0)
			runs[nruns++] = run;
	}
	qsort(runs, nruns, sizeof(AlexRun *), alex_compare_by_size);
	return nruns;
}

/*
 * Leaves runs of like size if there are enough, the smallest if there are
 * several such groups; 0 if there is none.
 */
static int
choose_like_size(const AlexRun **runs, int nruns)
{
	for (int from = 0; from + TIER_FANOUT <= nruns; from++)
	{
		uint64		limit = runs[from]->entries * LIKE_SIZE;
		int			to = from + 1;

		while (to < nruns && runs[to]->entries < limit)
			to++;
		if (to - from >= TIER_FANOUT)
		{
			memmove(runs, runs + from, sizeof(AlexRun *) * (to - from));
			return to - from;
		}
	}
	return 0;
}

/* How many of these runs, sorted by size, are to be merged; at least two. */
static int
choose_smallest(const AlexRun **runs, int nruns)
{
	uint64		sum = runs[0]->entries + runs[1]->entries;
	int			n = 2;

	while (n < nruns && runs[n]->entries <= MUCH_LARGER * sum)
		sum += runs[n++]->entries;
	return n;
}

static inline bool
encloses(const AlexRun *run, AlexEntry entry)
{
	return alex_compare(run->min.key, run->min.tid, entry.key, entry.tid) <= 0 &&
		alex_compare(run->max.key, run->max.tid, entry.key, entry.tid) >= 0;
}

/*
 * Leaves the runs that overlap where the most do.  Some run begins there.
 */
static int
choose_overlapping(const AlexRun **runs, int nruns)
{
	AlexEntry	deepest = {0};
	int			most = 0;
	int			left = 0;

	for (int i = 0; i < nruns; i++)
	{
		int			n = 0;

		for (int j = 0; j < nruns; j++)
			n += encloses(runs[j], runs[i]->min);
		if (n > most)
		{
			most = n;
			deepest = runs[i]->min;
		}
	}
	for (int i = 0; i < nruns; i++)
		if (encloses(runs[i], deepest))
			runs[left++] = runs[i];
	return left;
}

/*
 * Has the run many dead entries?  Where whole pages are dead, as in a sliding
 * window, it takes fewer, since these cost nothing to get rid of.
 */
static bool
is_much_dead(const AlexRun *run)
{
	return run->dead * ALEX_DEAD_FRACTION > run->entries ||
		(run->dead_pages >= MIN_DEAD_PAGES &&
		 run->dead_pages > run->leaf_pages / DEAD_PAGES_FRACTION);
}

/* Leaves the runs whose merging has begun. */
static int
choose_unfinished(const AlexRun **runs, int nruns, const AlexRun **suspect)
{
	int			left = 0;

	for (int i = 0; i < nruns; i++)
	{
		const AlexRun *run = runs[i];

		if ((run->flags & ALEX_RUN_MERGING) == 0)
			continue;
		if ((run->flags & ALEX_RUN_SUSPECT) != 0)
			*suspect = run;
		runs[i] = runs[left];
		runs[left++] = run;
	}
	return left;
}

int
alex_choose_runs(Relation index, const AlexManifest *manifest, AlexPart part,
				 bool all, bool ranges, const AlexRun **chosen,
				 const AlexRun **suspect)
{
	int			nruns = live_runs(manifest, part, chosen);
	int			n;

	*suspect = NULL;
	n = choose_unfinished(chosen, nruns, suspect);
	if (all)
	{
		uint64		hinted = alex_hints_runs(index);

		for (int i = 0; i < nruns; i++)
			if (n > 0 || chosen[i]->dead > 0 ||
				(hinted & ALEX_HINTED_RUN(chosen[i]->id)) != 0)
				return nruns;
		return nruns > 1 ? nruns : 0;
	}

	if (n > 0)
		return n;

	for (int i = 0; i < nruns; i++)
	{
		if (is_much_dead(chosen[i]))
		{
			chosen[0] = chosen[i];
			return 1;
		}
	}

	n = alex_choose_churned(index, manifest, chosen, nruns, suspect);
	if (n > 0)
		return n;
	qsort(chosen, nruns, sizeof(AlexRun *), alex_compare_by_size);

	n = choose_like_size(chosen, nruns);
	if (n > 0)
		return n;
	if (nruns > MAX_RUNS)
		return choose_smallest(chosen, nruns);
	if (ranges && nruns > MAX_OVERLAPPING_RUNS)
	{
		n = choose_overlapping(chosen, nruns);
		if (n > MAX_OVERLAPPING_RUNS)
			return choose_smallest(chosen, n);
	}
	return 0;
}

int
alex_count_live_runs(const AlexManifest *manifest, AlexPart part)
{
	int			count = 0;

	for (int i = 0; i < manifest->nruns; i++)
		count += manifest->runs[i].part == part &&
			(manifest->runs[i].flags & ALEX_RUN_RETIRED) == 0;
	return count;
}

/* Leaf pages of live runs, and those that only retired ones have. */
static void
count_leaf_pages(const AlexManifest *manifest, uint64 *live, uint64 *retired)
{
	*live = 0;
	*retired = 0;
	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) == 0)
			*live += run->leaf_pages;
		else
			*retired += run->leaf_pages - run->moved_pages;
	}
}

uint32
alex_slice_pages(const AlexManifest *manifest)
{
	uint64		live;
	uint64		retired;

	count_leaf_pages(manifest, &live, &retired);
	return Max(live / SLICE_FRACTION, MIN_SLICE);
}

/*
 * Where runs come faster than they can be merged because of what is retired,
 * they are merged all the same: the file has room for them once more, then,
 * but reading it does not become slower and slower.  The rest of a manifest
 * that is full of retired runs is for seals.
 */
bool
alex_too_much_retired(const AlexManifest *manifest)
{
	uint64		live;
	uint64		retired;
	bool		many = false;
	int			nretired = manifest->nruns;

	for (int part = 0; part < ALEX_PARTS; part++)
	{
		int			nlive = alex_count_live_runs(manifest, part);

		many |= nlive > ALEX_MANY_RUNS;
		nretired -= nlive;
	}
	if (nretired >= ALEX_MANY_LISTED_RUNS)
		return true;
	count_leaf_pages(manifest, &live, &retired);
	return retired > MIN_SLICE &&
		retired * 100 > live * (many ? MAX_RETIRED_MANY : MAX_RETIRED);
}
