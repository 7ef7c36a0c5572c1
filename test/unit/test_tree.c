/*-------------------------------------------------------------------------
 *
 * test_tree.c
 *	  Unit tests of the memtable's tree, against a sorted array.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */

#include "alex/learned.h"
#include "unit.h"

/*
 * An arena that knows which chunks are out.  The tree must neither give back
 * what it does not have, nor have more than it says.
 */
#define ARENA_CHUNKS	12000

typedef struct Arena
{
	char	   *memory;
	uint32_t	nfree;
	uint32_t	free[ARENA_CHUNKS];
	bool		out[ARENA_CHUNKS];
	int64_t		allowance;		/* allocations that succeed; -1: all */
	int			nfaults;
} Arena;

static Arena arena;
static AlexChunks chunks;

static uint32_t
arena_allocate(void *context)
{
	Arena	   *self = context;
	uint32_t	chunk;

	if (self->allowance == 0 || self->nfree == 0)
		return ALEX_NO_CHUNK;
	if (self->allowance > 0)
		self->allowance--;
	chunk = self->free[--self->nfree];
	self->out[chunk] = true;
	return chunk;
}

static void
arena_release(void *context, uint32_t chunk)
{
	Arena	   *self = context;

	if (chunk >= ARENA_CHUNKS || !self->out[chunk])
	{
		self->nfaults++;
		return;
	}
	self->out[chunk] = false;
	memset(self->memory + (size_t) chunk * ALEX_PAGE_SIZE, 0xE5,
		   ALEX_PAGE_SIZE);
	self->free[self->nfree++] = chunk;
}

static void
arena_init(void)
{
	arena.memory = aligned_alloc(4096, (size_t) ARENA_CHUNKS * ALEX_PAGE_SIZE);
	memset(arena.memory, 0xE5, (size_t) ARENA_CHUNKS * ALEX_PAGE_SIZE);
	arena.nfree = ARENA_CHUNKS;
	for (uint32_t i = 0; i < ARENA_CHUNKS; i++)
		arena.free[i] = ARENA_CHUNKS - 1 - i;
	arena.allowance = -1;
	chunks.base = arena.memory;
	chunks.allocate = arena_allocate;
	chunks.release = arena_release;
	chunks.context = &arena;
}

static bool
arena_whole(void)
{
	return arena.nfree == ARENA_CHUNKS && arena.nfaults == 0;
}

/*
 * The order in which entries come, and what they are.
 */
typedef enum Input
{
	RANDOM,
	SEQUENTIAL,
	DESCENDING,
	JITTER,
	CLUSTERED,
	ZIPF,
	ONE_KEY,
	ONE_KEY_RANDOM_TIDS,
	TENANTS,
	EXTREMES,
	WHOLE_RANGE,
	NINPUTS
} Input;

static const char *const input_names[NINPUTS] = {
	"random", "sequential", "descending", "jittered sequence", "clustered",
	"Zipf", "one key, ascending TIDs", "one key, random TIDs",
	"64 sequences", "least and greatest keys", "64-bit keys and TIDs"
};

static AlexEntry
draw(Input input, uint64_t i, uint64_t n, uint64_t *state)
{
	uint64_t	random = unit_random(state);
	uint64_t	tid = unit_random(state) & ALEX_TID_MAX;
	double		u = (double) ((random >> 11) + 1) * 0x1p-53;

	switch (input)
	{
		case RANDOM:
			return (AlexEntry) {random >> 4, i};
		case SEQUENTIAL:
			return (AlexEntry) {10 * i, i};
		case DESCENDING:
			return (AlexEntry) {10 * (n - i), i};
		case JITTER:
			return (AlexEntry) {1000 * i + random % 100000, i};
		case CLUSTERED:
			return (AlexEntry) {(random % 50) << 52 | tid >> 30, i};
		case ZIPF:
			return (AlexEntry) {(uint64_t) (1 / u), tid};
		case ONE_KEY:
			return (AlexEntry) {42, i};
		case ONE_KEY_RANDOM_TIDS:
			return (AlexEntry) {42, tid};
		case TENANTS:
			return (AlexEntry) {(random % 64) << 40 | i, i};
		case EXTREMES:
			if (i < 2)
				return (AlexEntry) {i == 0 ? UINT64_MAX : 0,
					i == 0 ? UINT64_MAX : 0};
			return (AlexEntry) {random % 2 ? UINT64_MAX - random % 3 % 2 :
				random % 3 % 2, tid % (n / 2) == 0 ? UINT64_MAX : tid % n};
		default:
			return (AlexEntry) {random, unit_random(state)};
	}
}

static int
compare(const void *one, const void *other)
{
	const AlexEntry *a = (const AlexEntry *) one;
	const AlexEntry *b = (const AlexEntry *) other;

	return alex_compare(a->key, a->tid, b->key, b->tid);
}

static bool
same(const AlexEntry *one, const AlexEntry *other)
{
	return compare(one, other) == 0;
}

/* Sorts and drops duplicates; returns how many are left. */
static int
sort_unique(AlexEntry *entries, int n)
{
	int			kept = 0;

	qsort(entries, n, sizeof(AlexEntry), compare);
	for (int i = 0; i < n; i++)
		if (i == 0 || !same(&entries[i], &entries[kept - 1]))
			entries[kept++] = entries[i];
	return kept;
}

/* The number of entries of a sorted array that are below a position. */
static int
count_below(const AlexEntry *sorted, int n, AlexEntry from, bool or_at)
{
	int			low = 0;
	int			high = n;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare(&sorted[middle], &from);

		if (order < 0 || (order == 0 && or_at))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Compares one scan with what the sorted array says. */
static bool
scan_agrees(const AlexTree *tree, const AlexEntry *sorted, int n,
			AlexEntry from, bool inclusive, bool forward, int max)
{
	AlexEntry	out[2000];
	int			split = count_below(sorted, n, from, forward != inclusive);
	int			expected = forward ? n - split : split;
	int			count;

	if (expected > max)
		expected = max;
	count = alex_tree_scan(&chunks, tree, from, inclusive, forward, out, max);
	if (count != expected)
		return false;
	for (int i = 0; i < count; i++)
		if (!same(&out[i], &sorted[forward ? split + i : split - 1 - i]))
			return false;
	return true;
}

/* Scans from entries, from beside them, and from both ends. */
static int
wrong_scans(const AlexTree *tree, const AlexEntry *sorted, int n, int nscans,
			uint64_t seed)
{
	uint64_t	state = seed;
	int			nwrong = 0;

	for (int i = 0; i < nscans; i++)
	{
		uint64_t	random = unit_random(&state);
		AlexEntry	from = {unit_random(&state), unit_random(&state)};
		int			max = (random >> 8) % 16 == 0 ? 2000 : (random >> 12) % 5;

		if (i == 0)
			from = (AlexEntry) {0, 0};
		else if (i == 1)
			from = (AlexEntry) {UINT64_MAX, UINT64_MAX};
		else if (n > 0 && i % 8 != 0)
		{
			from = sorted[unit_random(&state) % n];
			from.key += (random >> 20) % 4 == 0 ? (random >> 22) % 3 - 1 : 0;
			from.tid += (random >> 24) % 4 == 0 ? (random >> 26) % 3 - 1 : 0;
		}
		for (int way = 0; way < 4; way++)
			nwrong += !scan_agrees(tree, sorted, n, from, way & 1, way & 2,
								   max);
	}
	return nwrong;
}

/* All entries, by scans of an odd length each in one direction. */
static bool
full_scan_agrees(const AlexTree *tree, const AlexEntry *sorted, int n,
				 bool forward)
{
	AlexEntry	out[777];
	AlexEntry	from = {0, 0};
	bool		inclusive = true;
	int			total = 0;
	int			count;

	if (!forward)
		from = (AlexEntry) {UINT64_MAX, UINT64_MAX};
	while ((count = alex_tree_scan(&chunks, tree, from, inclusive, forward,
								   out, 777)) > 0)
	{
		for (int i = 0; i < count; i++, total++)
			if (total >= n ||
				!same(&out[i], &sorted[forward ? total : n - 1 - total]))
				return false;
		from = out[count - 1];
		inclusive = false;
	}
	return total == n;
}

/* An entry of the array, or one beside it. */
static AlexEntry
some_entry(const AlexEntry *sorted, int n, uint64_t *state)
{
	AlexEntry	entry = sorted[unit_random(state) % n];

	entry.tid += unit_random(state) % 3 - 1;
	return entry;
}

/* Skips entries from random positions, in both directions. */
static int
wrong_skips(const AlexTree *tree, const AlexEntry *sorted, int n, int nskips,
			uint64_t seed)
{
	uint64_t	state = seed;
	int			nwrong = 0;

	for (int i = 0; i < nskips; i++)
	{
		AlexEntry	from = some_entry(sorted, n, &state);
		int			count = unit_random(&state) % (i % 2 == 0 ? 10 : 3000) + 1;
		int			split = count_below(sorted, n, from, false);

		for (int forward = 0; forward < 2; forward++)
		{
			int			expected = forward ? split + count : split - count;
			AlexEntry	place;

			if (alex_tree_skip(&chunks, tree, from, forward, count, &place))
				nwrong += expected < 0 || expected >= n ||
					!same(&place, &sorted[expected]);
			else
				nwrong += expected >= 0 && expected < n;
		}
	}
	return nwrong;
}

/* Counts between random positions: few entries exactly, others roughly. */
static int
wrong_counts(const AlexTree *tree, const AlexEntry *sorted, int n, int ncounts,
			 uint64_t seed)
{
	uint64_t	state = seed;
	int			nwrong = 0;

	for (int i = 0; i < ncounts; i++)
	{
		AlexEntry	low = some_entry(sorted, n, &state);
		AlexEntry	high = some_entry(sorted, n, &state);
		int			below = count_below(sorted, n, low, false);
		int			expected;
		double		error;

		if (i % 2 == 0 && below + 8 < n)
			high = sorted[below + 8];
		expected = count_below(sorted, n, high, false) - below;
		error = alex_tree_count(&chunks, tree, low, high) -
			(expected > 0 ? expected : 0);
		if (expected <= 8)
			nwrong += error != 0;
		else
			nwrong += error > n / 10.0 || error < n / -10.0;
	}
	return nwrong;
}

/* Entries of groups of keys, of which some are not there. */
static int
wrong_groups(const AlexTree *tree, const AlexEntry *sorted, int n, int ngroups,
			 uint64_t seed)
{
	uint64_t	state = seed;
	int			nwrong = 0;

	for (int i = 0; i < ngroups; i++)
	{
		uint64_t	keys[ALEX_TREE_GROUP];
		AlexEntry	out[ALEX_TREE_GROUP * 4];
		uint8_t		counts[ALEX_TREE_GROUP];
		int			nkeys = 1 + unit_random(&state) % ALEX_TREE_GROUP;
		int			max = 1 + unit_random(&state) % 4;

		for (int j = 0; j < nkeys; j++)
			keys[j] = some_entry(sorted, n, &state).key +
				(unit_random(&state) % 4 == 0);
		alex_tree_scan_keys(&chunks, tree, keys, nkeys, out, max, counts);
		for (int j = 0; j < nkeys; j++)
		{
			int			first = count_below(sorted, n, (AlexEntry) {keys[j], 0},
											false);
			int			expected = 0;

			while (expected < max && first + expected < n &&
				   sorted[first + expected].key == keys[j])
			{
				nwrong += expected < counts[j] &&
					!same(&out[j * max + expected], &sorted[first + expected]);
				expected++;
			}
			nwrong += counts[j] != expected;
		}
	}
	return nwrong;
}

static void
check(const AlexTree *tree, const AlexEntry *sorted, int n, const char *name,
	  const char *when)
{
	const char *fault = alex_tree_check(&chunks, tree);

	if (!unit_ok(fault == NULL, "%s: structure is sound %s", name, when))
		unit_note("%s", fault);
	unit_ok(tree->nentries == n, "%s: number of entries %s", name, when);
	unit_ok(tree->nchunks + arena.nfree == ARENA_CHUNKS && arena.nfaults == 0,
			"%s: number of chunks %s", name, when);
	unit_ok(full_scan_agrees(tree, sorted, n, true) &&
			full_scan_agrees(tree, sorted, n, false),
			"%s: full scans in both directions %s", name, when);
	unit_ok(wrong_scans(tree, sorted, n, 2000, n + 1) == 0,
			"%s: scans from random positions %s", name, when);
	if (n == 0)
		return;
	unit_ok(wrong_skips(tree, sorted, n, 500, n + 2) == 0,
			"%s: skips from random positions %s", name, when);
	unit_ok(wrong_counts(tree, sorted, n, 500, n + 3) == 0,
			"%s: counts between random positions %s", name, when);
	unit_ok(wrong_groups(tree, sorted, n, 100, n + 4) == 0,
			"%s: entries of groups of keys %s", name, when);
}

/*
 * Inserts, and then deletes in another order, checking on the way.
 */
static void
test_input(Input input, int n)
{
	const char *name = input_names[input];
	AlexEntry  *entries = malloc(n * sizeof(AlexEntry));
	AlexEntry  *sorted = malloc(n * sizeof(AlexEntry));
	AlexTree	tree;
	uint64_t	state = input + 1;
	int			nwrong = 0;
	int			kept;

	for (int i = 0; i < n; i++)
		entries[i] = draw(input, i, n, &state);
	memcpy(sorted, entries, n * sizeof(AlexEntry));
	kept = sort_unique(sorted, n);

	alex_tree_init(&tree);
	for (int i = 0; i < n; i++)
		if (alex_tree_insert(&chunks, &tree, entries[i]) ==
			ALEX_TREE_NO_MEMORY)
			nwrong++;
	unit_note("%s: %.1f bytes an entry, height %u", name,
			  (double) tree.nchunks * ALEX_PAGE_SIZE / kept, tree.height);
	unit_ok(nwrong == 0, "%s: insertions", name);
	check(&tree, sorted, kept, name, "after insertions");
	for (int i = 0; i < kept; i++)
		nwrong += alex_tree_insert(&chunks, &tree, sorted[i]) !=
			ALEX_TREE_PRESENT;
	unit_ok(nwrong == 0, "%s: what is there is reported as present", name);
	unit_ok(same(&tree.min, &sorted[0]) && same(&tree.max, &sorted[kept - 1]),
			"%s: least and greatest entry", name);

	/* delete two thirds by blocks, some of which take whole nodes away */
	n = 0;
	for (int i = 0; i < kept; i++)
	{
		bool		delete = (i / 2000) % 3 != 0 ? i % 500 != 7 : i % 3 == 0;

		if (!delete)
			sorted[n++] = sorted[i];
		else
		{
			AlexEntry	entry = sorted[i];

			nwrong += !alex_tree_delete(&chunks, &tree, entry);
			nwrong += alex_tree_delete(&chunks, &tree, entry);
		}
	}
	unit_ok(nwrong == 0, "%s: deletions find what is there only", name);
	check(&tree, sorted, n, name, "after deletions");

	/* delete the others from both ends */
	for (int i = 0; i < n / 2; i++)
	{
		nwrong += !alex_tree_delete(&chunks, &tree, sorted[n - 1 - i]);
		nwrong += !alex_tree_delete(&chunks, &tree, sorted[i]);
	}
	if (n % 2 != 0)
	{
		check(&tree, &sorted[n / 2], 1, name, "before the last is deleted");
		nwrong += !alex_tree_delete(&chunks, &tree, sorted[n / 2]);
	}
	unit_ok(nwrong == 0 && tree.nentries == 0 && tree.height == 0 &&
			tree.root == ALEX_NO_CHUNK && arena_whole(),
			"%s: all chunks are back when all is deleted", name);
	free(entries);
	free(sorted);
}

/*
 * Insertions, deletions and scans at random over a small set of entries, of
 * which "present" is the truth.
 */
static void
test_mixed(int universe, int noperations, int bias_period)
{
	AlexEntry  *all = malloc(universe * sizeof(AlexEntry));
	AlexEntry  *sorted = malloc(universe * sizeof(AlexEntry));
	bool	   *present = calloc(universe, sizeof(bool));
	AlexTree	tree;
	uint64_t	state = universe;
	int			nwrong = 0;
	int			nfaults = 0;
	uint32_t	max_height = 0;

	/* a third each of dense keys, equal keys and random keys */
	for (int i = 0; i < universe; i++)
		all[i] = (AlexEntry) {i % 3 == 0 ? i : i % 3 == 1 ? i % 7 :
			unit_random(&state), i};
	universe = sort_unique(all, universe);

	alex_tree_init(&tree);
	for (int i = 0; i < noperations; i++)
	{
		int			number = unit_random(&state) % universe;
		bool		grow = (i / bias_period) % 2 == 0;

		/* phases that grow alternate with phases that shrink */
		if (unit_random(&state) % 4 == 0 ? !grow : grow)
		{
			nwrong += alex_tree_insert(&chunks, &tree, all[number]) !=
				(present[number] ? ALEX_TREE_PRESENT : ALEX_TREE_DONE);
			present[number] = true;
		}
		else
		{
			nwrong += alex_tree_delete(&chunks, &tree, all[number]) !=
				present[number];
			present[number] = false;
		}
		if (tree.height > max_height)
			max_height = tree.height;
		if (i % (noperations / 40) == 0)
		{
			int			n = 0;

			for (int j = 0; j < universe; j++)
				if (present[j])
					sorted[n++] = all[j];
			nfaults += alex_tree_check(&chunks, &tree) != NULL;
			nwrong += tree.nentries != n;
			nwrong += wrong_scans(&tree, sorted, n, 200, i);
		}
	}
	unit_ok(nwrong == 0 && nfaults == 0,
			"%d mixed operations over %d entries, height up to %u",
			noperations, universe, max_height);
	alex_tree_free(&chunks, &tree);
	unit_ok(arena_whole() && tree.root == ALEX_NO_CHUNK,
			"all chunks are back when the tree is freed");
	free(all);
	free(sorted);
	free(present);
}

/*
 * Lets each insertion that needs memory fail first, at its first, second, ...
 * allocation.  The tree must be the same then, byte by byte.
 */
static void
test_no_memory(Input input, int n)
{
	const char *name = input_names[input];
	AlexTree	tree;
	AlexTree	before;
	uint64_t	state = 5;
	char	   *copy = malloc((size_t) ARENA_CHUNKS * ALEX_PAGE_SIZE);
	int			nfailures = 0;
	int64_t		most = 0;
	int			nwrong = 0;

	alex_tree_init(&tree);
	for (int i = 0; i < n; i++)
	{
		AlexEntry	entry = draw(input, i, n, &state);
		AlexTreeResult result;

		for (int64_t allowance = 0;; allowance++)
		{
			uint32_t	nfree = arena.nfree;
			uint32_t	nmost = alex_tree_insert_chunks(&tree);

			before = tree;
			arena.allowance = allowance;
			result = alex_tree_insert(&chunks, &tree, entry);
			arena.allowance = -1;
			if (result != ALEX_TREE_NO_MEMORY)
			{
				if (allowance > most)
					most = allowance;
				nwrong += result != ALEX_TREE_DONE;
				nwrong += nfree - arena.nfree > nmost;
				nwrong += nfree - arena.nfree != tree.nchunks - before.nchunks;
				break;
			}
			nfailures++;
			nwrong += allowance >= nmost;
			nwrong += arena.nfree != nfree;
			nwrong += memcmp(&before, &tree, sizeof(tree)) != 0;

			/* compare the nodes of a few; the second time they are the same */
			if (nfailures % 64 == 1 || allowance > 0)
			{
				for (uint32_t j = 0; j < ARENA_CHUNKS; j++)
					if (arena.out[j])
						memcpy(copy + (size_t) j * ALEX_PAGE_SIZE,
							   arena.memory + (size_t) j * ALEX_PAGE_SIZE,
							   ALEX_PAGE_SIZE);
				arena.allowance = allowance;
				nwrong += alex_tree_insert(&chunks, &tree, entry) !=
					ALEX_TREE_NO_MEMORY;
				arena.allowance = -1;
				for (uint32_t j = 0; j < ARENA_CHUNKS; j++)
					if (arena.out[j])
						nwrong += memcmp(copy + (size_t) j * ALEX_PAGE_SIZE,
										 arena.memory +
										 (size_t) j * ALEX_PAGE_SIZE,
										 ALEX_PAGE_SIZE) != 0;
				nwrong += alex_tree_check(&chunks, &tree) != NULL;
			}
		}
	}
	unit_ok(nwrong == 0 && nfailures > n / 500 && tree.nentries == n,
			"%s: %d failed allocations leave the tree unchanged", name,
			nfailures);
	unit_ok(most >= 3, "%s: one insertion took %d chunks", name, (int) most);
	unit_ok(alex_tree_check(&chunks, &tree) == NULL,
			"%s: structure is sound after them", name);
	alex_tree_free(&chunks, &tree);
	unit_ok(arena_whole(), "%s: all chunks are back after them", name);
	free(copy);
}

/*
 * Batches of several sizes, in which some entries are present already.  If
 * "starve", memory often runs out half way; the batch goes on, with memory,
 * behind the entries that it says are in.
 */
static void
test_batches(Input input, int n, bool starve)
{
	static const int sizes[] = {1, 700, 3, 40, 506, 8, 5000};
	const char *name = input_names[input];
	AlexEntry  *entries = malloc(n * sizeof(AlexEntry));
	AlexEntry  *batch = malloc(n * sizeof(AlexEntry));
	AlexEntry  *sorted = malloc(2 * n * sizeof(AlexEntry));
	AlexTree	tree;
	uint64_t	state = input + 1;
	int			nwrong = 0;
	int			nfailures = 0;
	int			inserted = 0;

	for (int i = 0; i < n; i++)
		entries[i] = draw(input, i, n, &state);
	alex_tree_init(&tree);
	for (int first = 0, which = 0; first < n; which++)
	{
		/* begins with the last ones of the batch before */
		int			from = first < 2 ? first : first - 2;
		int			size = sizes[which % 7] < n - first ? sizes[which % 7] : n - first;
		size_t		kept;
		size_t		done;

		first += size;
		memcpy(batch, entries + from, (first - from) * sizeof(AlexEntry));
		kept = sort_unique(batch, first - from);
		arena.allowance = starve ? (int64_t) (unit_random(&state) % 4) : -1;
		if (alex_tree_insert_batch(&chunks, &tree, batch, kept,
								   &done) != ALEX_TREE_DONE)
		{
			nfailures++;
			nwrong += done >= kept;
			memcpy(sorted + inserted, batch, done * sizeof(AlexEntry));
			inserted = sort_unique(sorted, inserted + (int) done);
			nwrong += tree.nentries != inserted;
			nwrong += nfailures % 8 == 1 &&
				(alex_tree_check(&chunks, &tree) != NULL ||
				 !full_scan_agrees(&tree, sorted, inserted, true));
			arena.allowance = -1;
			memmove(batch, batch + done, (kept - done) * sizeof(AlexEntry));
			kept -= done;
			nwrong += alex_tree_insert_batch(&chunks, &tree, batch, kept,
											 &done) != ALEX_TREE_DONE;
		}
		nwrong += done != kept;
		if (starve)
		{
			memcpy(sorted + inserted, batch, kept * sizeof(AlexEntry));
			inserted = sort_unique(sorted, inserted + (int) kept);
		}
	}
	arena.allowance = -1;
	if (starve)
		unit_ok(nfailures > 10, "%s: memory ran out %d times", name, nfailures);
	unit_ok(nwrong == 0, "%s: batches say what they have inserted", name);

	n = sort_unique(entries, n);
	unit_ok(same(&tree.min, &entries[0]) && same(&tree.max, &entries[n - 1]),
			"%s: least and greatest entry of batches", name);
	check(&tree, entries, n, name, starve ? "after starved batches" : "after batches");
	alex_tree_free(&chunks, &tree);
	free(entries);
	free(batch);
	free(sorted);
}

/* A check that finds nothing proves nothing: break the tree by hand. */
static void
test_check(void)
{
	AlexTree	tree;
	AlexTree	broken;
	uint64_t	state = 3;
	char		saved[16];
	char	   *node;

	alex_tree_init(&tree);
	for (int i = 0; i < 20000; i++)
		alex_tree_insert(&chunks, &tree, draw(RANDOM, i, 20000, &state));
	node = chunks.base + (size_t) tree.first_data * ALEX_PAGE_SIZE;
	unit_ok(alex_tree_check(&chunks, &tree) == NULL, "a sound tree");

	broken = tree;
	broken.nentries++;
	unit_ok(alex_tree_check(&chunks, &broken) != NULL, "wrong entry count");
	broken = tree;
	broken.nchunks++;
	unit_ok(alex_tree_check(&chunks, &broken) != NULL, "wrong chunk count");
	broken = tree;
	broken.last_data = tree.first_data;
	unit_ok(alex_tree_check(&chunks, &broken) != NULL, "wrong last node");
	broken = tree;
	broken.height--;
	unit_ok(alex_tree_check(&chunks, &broken) != NULL, "wrong height");
	broken = tree;
	broken.max.key = 0;
	unit_ok(alex_tree_check(&chunks, &broken) != NULL, "wrong maximum");

	/* the count, the right link, the bitmap, and a slot of a data node */
	for (int i = 0; i < 4; i++)
	{
		static const int offsets[] = {4, 20, 64, 128 + 100 * 16};

		memcpy(saved, node + offsets[i], sizeof(saved));
		node[offsets[i]] ^= 1;
		unit_ok(alex_tree_check(&chunks, &tree) != NULL,
				"a bit flipped at offset %d", offsets[i]);
		memcpy(node + offsets[i], saved, sizeof(saved));
	}
	unit_ok(alex_tree_check(&chunks, &tree) == NULL, "sound again");
	alex_tree_free(&chunks, &tree);
}

/*
 * Splits a full root at each of its children in turn.  Entries that come in
 * order fill the data nodes, so that one more entry anywhere splits one.
 */
static void
test_inner_split(void)
{
	int			nsplits = 0;
	int			nwrong = 0;

	for (int target = 0; target < 100; target++)
	{
		AlexTree	tree;
		AlexEntry	out[2];
		AlexEntry	entry;
		uint32_t	nchunks;
		int			n = 0;

		/* one chunk allows for a split of a data node, not of the root */
		alex_tree_init(&tree);
		do
		{
			entry = (AlexEntry) {10 * (uint64_t) n, n};
			arena.allowance = tree.height == 2 ? 1 : -1;
			n++;
		} while (alex_tree_insert(&chunks, &tree, entry) == ALEX_TREE_DONE);
		n--;
		arena.allowance = -1;
		nchunks = tree.nchunks;

		/* the middle ones, one by one, and the others in larger steps */
		entry.key = target < 30 ? (uint64_t) n * target / 30 * 10 + 1 :
			((uint64_t) n / 2 + (target - 65) * 224) * 10 + 1;
		nwrong += alex_tree_insert(&chunks, &tree, entry) != ALEX_TREE_DONE;
		nsplits += tree.height == 3 && tree.nchunks == nchunks + 3;
		nwrong += alex_tree_check(&chunks, &tree) != NULL;
		nwrong += alex_tree_scan(&chunks, &tree, entry, true, true, out, 2) != 2;
		nwrong += !same(&out[0], &entry) || out[1].key != entry.key + 9;
		alex_tree_free(&chunks, &tree);
	}
	unit_ok(nsplits >= 90 && nwrong == 0,
			"%d splits of the root at different children", nsplits);
}

static void
test_empty(void)
{
	AlexTree	tree;
	AlexEntry	entry = {1, 2};
	AlexEntry	out;
	uint8_t		count = 1;

	alex_tree_init(&tree);
	unit_ok(alex_tree_check(&chunks, &tree) == NULL, "an empty tree is sound");
	unit_ok(!alex_tree_delete(&chunks, &tree, entry), "nothing to delete");
	unit_ok(alex_tree_scan(&chunks, &tree, entry, true, true, &out, 1) == 0,
			"nothing to scan");
	alex_tree_scan_keys(&chunks, &tree, &entry.key, 1, &out, 1, &count);
	unit_ok(count == 0, "no entries of a group of keys");
	unit_ok(!alex_tree_skip(&chunks, &tree, entry, true, 1, &out) &&
			alex_tree_count(&chunks, &tree, entry, (AlexEntry) {3, 4}) == 0,
			"nothing to skip or to count");
	unit_ok(alex_tree_insert_chunks(&tree) == 1,
			"a first entry takes a chunk");
	alex_tree_free(&chunks, &tree);
	unit_ok(arena_whole(), "nothing to free");
}

/* Inner nodes split into inner nodes. */
static void
test_many(void)
{
	int			n = 1000000;
	AlexTree	tree;
	uint64_t	state = 1;

	alex_tree_init(&tree);
	for (int i = 0; i < n; i++)
		alex_tree_insert(&chunks, &tree,
						 (AlexEntry) {unit_random(&state) >> 4, i});
	unit_ok(tree.height >= 3 && alex_tree_check(&chunks, &tree) == NULL,
			"%d random entries make a sound tree of height %u", n,
			tree.height);
	alex_tree_free(&chunks, &tree);
}

int
main(void)
{
	arena_init();
	test_empty();
	test_check();
	test_inner_split();
	for (Input input = 0; input < NINPUTS; input++)
		test_input(input, 150000);
	for (Input input = 0; input < NINPUTS; input++)
	{
		test_batches(input, 100000, false);
		test_batches(input, 60000, true);
	}
	test_mixed(3000, 200000, 5000);
	test_mixed(200000, 600000, 150000);
	test_no_memory(RANDOM, 120000);
	test_no_memory(SEQUENTIAL, 150000);
	test_no_memory(ONE_KEY_RANDOM_TIDS, 120000);
	test_many();
	unit_ok(arena_whole(), "all chunks are back at the end");
	free(arena.memory);
	return unit_done();
}
