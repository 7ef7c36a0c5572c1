/*-------------------------------------------------------------------------
 *
 * test_model.c
 *	  Unit tests of the model tree: every lookup is compared with what a
 *	  binary search over the same fences answers.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * test/unit/test_model.c
 *
 *-------------------------------------------------------------------------
 */
#include <math.h>

#include "unit.h"
#include "alex/learned.h"
#include "model_format.h"

typedef enum Distribution
{
	SEQUENTIAL,
	RANDOM60,
	RANDOM64,
	LOGNORMAL,
	EXPONENTIAL,
	SAWTOOTH,
	ZIPF,
	CLUSTERS,
	STEPS,
	FRACTAL,
	ONE_KEY,
	EXTREMES,
	NDISTRIBUTIONS
} Distribution;

static const char *const distribution_names[NDISTRIBUTIONS] = {
	"sequential", "random 60-bit", "random 64-bit", "lognormal",
	"exponential gaps", "sawtooth", "zipf duplicates", "two clusters",
	"steps", "fractal", "one key", "extremes"
};

/* A trained tree with its fences, as pages. */
typedef struct Tree
{
	AlexFence  *fences;
	uint32_t	nfences;
	AlexModelInfo info;
	char	   *pages;
	uint32_t	npages;
	AlexModelSource mapped;
	AlexModelSource handed_out;
} Tree;

/*
 * Hands out copies of pages that become invalid as early as they may, and
 * remembers whether a page was asked for that does not exist.
 */
typedef struct Pager
{
	const Tree *tree;
	bool		out_of_range;
	int			calls;
	int			next;
	_Alignas(8) char copies[2][ALEX_PAGE_SIZE];
} Pager;

static Pager pager;

static size_t memory_now;
static size_t memory_peak;
static int	allocations_left = -1;	/* then allocate() fails; -1: never */

static void *
allocate(size_t size)
{
	size_t	   *chunk;

	if (allocations_left == 0)
		return NULL;
	if (allocations_left > 0)
		allocations_left--;
	chunk = malloc(size + 16);
	chunk[0] = size;
	memory_now += size;
	if (memory_now > memory_peak)
		memory_peak = memory_now;
	return chunk + 2;
}

static void
release(void *pointer)
{
	size_t	   *chunk = (size_t *) pointer - 2;

	memory_now -= chunk[0];
	free(chunk);
}

static const void *
hand_out_page(void *context, uint32_t number)
{
	Pager	   *self = context;
	char	   *copy = self->copies[self->next];

	self->calls++;
	self->next = 1 - self->next;
	if (number >= self->tree->npages)
	{
		self->out_of_range = true;
		memset(copy, 0, ALEX_PAGE_SIZE);
	}
	else
		memcpy(copy, self->tree->pages + (size_t) number * ALEX_PAGE_SIZE,
			   ALEX_PAGE_SIZE);
	return copy;
}

static double
random_fraction(uint64_t *state)
{
	return (double) (unit_random(state) >> 11) / 9007199254740992.0;
}

static uint64_t
make_key(Distribution distribution, uint32_t i, uint32_t n, uint64_t *state)
{
	double		u = random_fraction(state);
	double		v = random_fraction(state);
	uint64_t	key = 0;

	switch (distribution)
	{
		case SEQUENTIAL:
			return 1000 + (uint64_t) i * 300;
		case RANDOM60:
			return unit_random(state) >> 4;
		case RANDOM64:
			return unit_random(state);
		case LOGNORMAL:
			return (uint64_t) (1e12 * exp(2 * sqrt(-2 * log(u + 1e-300)) *
										  cos(6.283185307179586 * v)));
		case EXPONENTIAL:
			return (uint64_t) exp2(63.9 * u);
		case SAWTOOTH:
			return ((uint64_t) (i % 1000) << 40) + (i / 1000) * 250 +
				(uint64_t) (100 * u);
		case ZIPF:
			return (uint64_t) (1000 / (u + 1e-9));
		case CLUSTERS:
			return ((unit_random(state) & 1) << 63) +
				(uint64_t) (1000.0 * n * u);
		case STEPS:
			return (uint64_t) (i / 100) * 1000000000 + i % 100 +
				(i / 100) % 7 * 77777777;
		case FRACTAL:
			/* clusters within clusters, however far one zooms in */
			for (int bit = 0; bit < 64; bit += 4)
				key = key << 4 | (unit_random(state) % 16 < 15 ? 0 :
								  unit_random(state) % 16);
			return key;
		case ONE_KEY:
			return UINT64_MAX / 3;
		case EXTREMES:
			return i % 2 == 0 ? 0 : UINT64_MAX;
		case NDISTRIBUTIONS:
			break;
	}
	abort();
}

static int
compare_fences(const void *a, const void *b)
{
	const AlexFence *fence1 = a;
	const AlexFence *fence2 = b;

	return alex_compare(fence1->key, fence1->tid, fence2->key, fence2->tid);
}

static void
make_fences(Tree *tree, Distribution distribution, uint32_t n)
{
	uint64_t	state = distribution * 1000003 + n;
	uint32_t	ndistinct = 1;

	tree->fences = malloc((size_t) n * sizeof(AlexFence));
	for (uint32_t i = 0; i < n; i++)
	{
		tree->fences[i].key = make_key(distribution, i, n, &state);
		tree->fences[i].tid = unit_random(&state) & ALEX_TID_MAX;
	}
	qsort(tree->fences, n, sizeof(AlexFence), compare_fences);
	for (uint32_t i = 1; i < n; i++)
	{
		if (compare_fences(&tree->fences[ndistinct - 1],
						   &tree->fences[i]) != 0)
			tree->fences[ndistinct++] = tree->fences[i];
	}
	for (uint32_t i = 0; i < ndistinct; i++)
	{
		tree->fences[i].stamp = unit_random(&state);
		tree->fences[i].block = (uint32_t) unit_random(&state);
		tree->fences[i].entries = 1 + i % 300;
	}
	tree->nfences = ndistinct;
}

static void
make_tree(Tree *tree, Distribution distribution, uint32_t n)
{
	void	   *lines;

	make_fences(tree, distribution, n);
	lines = alex_model_train(tree->fences, tree->nfences, allocate, release,
							 &tree->info);

	tree->npages = alex_model_pages(tree->info.nlines);
	tree->pages = malloc((size_t) tree->npages * ALEX_PAGE_SIZE);
	for (uint32_t i = 0; i < tree->npages; i++)
		alex_model_page(tree->pages + (size_t) i * ALEX_PAGE_SIZE, 1000 + i, i,
						lines, tree->info.nlines);
	release(lines);

	memset(&pager, 0, sizeof(pager));
	pager.tree = tree;
	memset(&tree->mapped, 0, sizeof(tree->mapped));
	tree->mapped.nlines = tree->info.nlines;
	tree->mapped.first_page = tree->pages;
	memset(&tree->handed_out, 0, sizeof(tree->handed_out));
	tree->handed_out.nlines = tree->info.nlines;
	tree->handed_out.get_page = hand_out_page;
	tree->handed_out.context = &pager;
}

static void
free_tree(Tree *tree)
{
	free(tree->fences);
	free(tree->pages);
}

/* The reference: the last fence <= (key, tid), or 0. */
static uint32_t
reference_find(const Tree *tree, uint64_t key, uint64_t tid)
{
	uint32_t	low = 0;
	uint32_t	high = tree->nfences;

	while (high - low > 1)
	{
		uint32_t	middle = low + (high - low) / 2;

		if (alex_compare(tree->fences[middle].key, tree->fences[middle].tid,
						 key, tid) <= 0)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Number of wrong answers for every fence and its neighbours on each side. */
static uint32_t
wrong_at_fences(const Tree *tree, const AlexModelSource *source,
				uint32_t stride)
{
	uint32_t	wrong = 0;

	for (uint32_t i = 0; i < tree->nfences; i += stride)
	{
		uint64_t	key = tree->fences[i].key;
		uint64_t	tid = tree->fences[i].tid;

		wrong += alex_model_find(source, key, tid) != i;
		if (tid > 0)
			wrong += alex_model_find(source, key, tid - 1) !=
				reference_find(tree, key, tid - 1);
		if (key > 0)
			wrong += alex_model_find(source, key - 1, ALEX_TID_MAX) !=
				reference_find(tree, key - 1, ALEX_TID_MAX);
		wrong += alex_model_find(source, key, tid + 1) !=
			reference_find(tree, key, tid + 1);
		wrong += alex_model_find(source, key, 0) !=
			reference_find(tree, key, 0);
		wrong += alex_model_find(source, key, ALEX_TID_MAX) !=
			reference_find(tree, key, ALEX_TID_MAX);
		if (key < UINT64_MAX)
			wrong += alex_model_find(source, key + 1, 0) !=
				reference_find(tree, key + 1, 0);
	}
	return wrong;
}

/* The same for keys anywhere: all 64 bits, within the tree, between fences. */
static uint32_t
wrong_at_random(const Tree *tree, const AlexModelSource *source, int n)
{
	uint64_t	state = 4711;
	uint32_t	wrong = 0;

	for (int i = 0; i < n; i++)
	{
		uint32_t	near = unit_random(&state) % tree->nfences;
		uint64_t	key = unit_random(&state) >> (unit_random(&state) % 64);
		uint64_t	tid = unit_random(&state) & ALEX_TID_MAX;

		if (i % 3 == 1)
			key = tree->fences[near].key + key;
		else if (i % 3 == 2 && near + 1 < tree->nfences)
			key = tree->fences[near].key +
				(tree->fences[near + 1].key - tree->fences[near].key) / 2;
		wrong += alex_model_find(source, key, tid) !=
			reference_find(tree, key, tid);
	}
	wrong += alex_model_find(source, 0, 0) != reference_find(tree, 0, 0);
	wrong += alex_model_find(source, UINT64_MAX, UINT64_MAX) !=
		tree->nfences - 1;
	return wrong;
}

/*
 * The same for groups of keys, ascending as those of a list are, of all sizes
 * that a group may have.  What a group's lookup answers is where a lookup of
 * (key, 0) alone would lead.
 */
static uint32_t
wrong_in_groups(const Tree *tree, int ngroups)
{
	uint64_t	keys[ALEX_MODEL_GROUP];
	uint32_t	numbers[ALEX_MODEL_GROUP];
	uint64_t	state = 815;
	uint32_t	wrong = 0;

	for (int group = 0; group < ngroups; group++)
	{
		int			nkeys = 1 + group % ALEX_MODEL_GROUP;
		uint64_t	spread = unit_random(&state) % 64;

		for (int i = 0; i < nkeys; i++)
		{
			uint32_t	near = unit_random(&state) % tree->nfences;

			keys[i] = unit_random(&state) >> spread;
			if (group % 3 > 0)
				keys[i] = tree->fences[near].key +
					(group % 3 > 1 ? keys[i] : i % 3 - 1);
		}
		for (int i = 1; i < nkeys; i++)
		{
			uint64_t	key = keys[i];
			int			at = i;

			for (; at > 0 && keys[at - 1] > key; at--)
				keys[at] = keys[at - 1];
			keys[at] = key;
		}
		alex_model_find_group(&tree->mapped, keys, nkeys, numbers);
		for (int i = 0; i < nkeys; i++)
			wrong += numbers[i] != alex_model_find(&tree->mapped, keys[i], 0) ||
				numbers[i] != reference_find(tree, keys[i], 0);
	}
	return wrong;
}

static uint32_t
wrong_fences(const Tree *tree, const AlexModelSource *source, uint32_t stride)
{
	uint32_t	wrong = alex_model_nfences(source) != tree->nfences;

	for (uint32_t i = 0; i < tree->nfences; i += stride)
	{
		const AlexFence *expected = &tree->fences[i];
		AlexFence	fence;

		alex_model_fence(source, i, &fence);
		wrong += fence.key != expected->key || fence.tid != expected->tid ||
			fence.stamp != expected->stamp ||
			fence.block != expected->block ||
			fence.entries != expected->entries;
	}
	return wrong;
}

static void
test_lookups(Distribution distribution, uint32_t n)
{
	Tree		tree;
	const char *name = distribution_names[distribution];
	const char *error;
	uint32_t	stride = n > 10000 ? 97 : 1;

	memory_peak = memory_now = 0;
	make_tree(&tree, distribution, n);
	n = tree.nfences;

	unit_ok(wrong_at_fences(&tree, &tree.mapped, n > 10000 ? 7 : 1) == 0 &&
			wrong_at_random(&tree, &tree.mapped, 1000 + n / 8) == 0,
			"%s, %u: lookups in mapped pages", name, n);
	unit_ok(wrong_at_fences(&tree, &tree.handed_out, stride) == 0 &&
			wrong_at_random(&tree, &tree.handed_out, 1000) == 0 &&
			!pager.out_of_range,
			"%s, %u: lookups in pages handed out", name, n);
	unit_ok(wrong_in_groups(&tree, 300) == 0,
			"%s, %u: groups of lookups", name, n);
	unit_ok(wrong_fences(&tree, &tree.mapped, 1) == 0 &&
			wrong_fences(&tree, &tree.handed_out, stride) == 0,
			"%s, %u: fences read back", name, n);
	error = alex_model_check(&tree.mapped, tree.info.nlines, n);
	unit_ok(error == NULL, "%s, %u: check: %s", name, n,
			error == NULL ? "sound" : error);
	unit_ok(tree.info.depth >= 1 && tree.info.depth <= 5,
			"%s, %u: depth %u, %u nodes", name, n, tree.info.depth,
			tree.info.nnodes);
	unit_ok(memory_now == 0 &&
			memory_peak <= (size_t) tree.info.nlines * 64 * 5 / 4 + 65536,
			"%s, %u: memory peak %zu for %u lines", name, n, memory_peak,
			tree.info.nlines);
	free_tree(&tree);
}

/*
 * How good the models are, in lines looked at: the root, the last key tested
 * for equality, two lines of keys, and two lines for each inner node; one
 * more for the TID of a key that is a fence's.  A binary search looks at 14
 * lines.
 */
static void
test_lines_touched(Distribution distribution, double limit)
{
	Tree		tree;
	int			nlookups = 0;
	double		mean;

	make_tree(&tree, distribution, 100000);
	for (uint32_t i = 0; i + 1 < tree.nfences; i += 37)
	{
		uint64_t	key = tree.fences[i].key;

		alex_model_find(&tree.handed_out,
						key + (tree.fences[i + 1].key - key) / 2, 0);
		nlookups++;
	}
	mean = (double) pager.calls / nlookups;
	unit_ok(mean <= limit, "%s: %.2f lines looked at in a lookup",
			distribution_names[distribution], mean);
	free_tree(&tree);
}

static void
test_pages(void)
{
	Tree		tree;
	bool		headers = true;
	bool		zeros = true;
	static _Alignas(8) char page[ALEX_PAGE_SIZE];
	static AlexModelLine lines[3];
	const AlexModelPageHeader *header;

	make_tree(&tree, LOGNORMAL, 4000);
	for (uint32_t i = 0; i < tree.npages; i++)
	{
		header = (const AlexModelPageHeader *)
			(tree.pages + (size_t) i * ALEX_PAGE_SIZE);
		headers = headers && header->header.kind == ALEX_PAGE_MODEL &&
			header->header.version == ALEX_SEALED_VERSION &&
			header->header.stamp == 1000 + i && header->number == i &&
			header->nlines == tree.info.nlines &&
			header->header.hash == alex_page_hash(header, 1000 + i,
												  ALEX_PAGE_SIZE);
	}
	unit_ok(tree.npages > 1 && headers, "page headers");
	free_tree(&tree);

	memset(page, 0x55, sizeof(page));
	memset(lines, 0x77, sizeof(lines));
	alex_model_page(page, 1, 0, lines, 3);
	for (int i = 0; i < 24; i++)
		zeros = zeros && page[i] == 0x55;
	unit_ok(zeros, "the caller's part of the page is left alone");
	for (int i = 4 * ALEX_LINE_SIZE; i < ALEX_PAGE_SIZE; i++)
		zeros = zeros && page[i] == 0;
	unit_ok(zeros && page[4 * ALEX_LINE_SIZE - 1] == 0x77,
			"the rest of the last page is zero");
	unit_ok(alex_model_pages(1) == 1 && alex_model_pages(127) == 1 &&
			alex_model_pages(128) == 2, "number of pages");
}

static void
test_no_memory(void)
{
	Tree		tree;
	bool		leaks = false;
	int			failures = 0;

	make_fences(&tree, LOGNORMAL, 20000);
	for (int i = 0;; i++)
	{
		void	   *lines;

		memory_now = 0;
		allocations_left = i;
		lines = alex_model_train(tree.fences, tree.nfences, allocate, release,
								 &tree.info);
		allocations_left = -1;
		if (lines != NULL)
		{
			release(lines);
			break;
		}
		failures++;
		leaks = leaks || memory_now != 0;
	}
	unit_ok(failures >= 2 && !leaks && memory_now == 0,
			"out of memory at each of %d allocations", failures);
	free(tree.fences);
}

/* A line of a tree's pages. */
static AlexModelLine *
tree_line(Tree *tree, uint32_t line)
{
	return (AlexModelLine *) tree->pages + line / ALEX_MODEL_PAGE_LINES + 1 +
		line;
}

/* The checker refuses the tree with a field of it changed. */
static void
expect_refused(Tree *tree, void *field, const void *value, size_t size,
			   const char *what)
{
	char		saved[16];
	const char *error;

	memcpy(saved, field, size);
	memcpy(field, value, size);
	error = alex_model_check(&tree->handed_out, tree->info.nlines,
							 tree->nfences);
	unit_ok(error != NULL && !pager.out_of_range, "check finds %s: %s", what,
			error == NULL ? "no" : error);
	memcpy(field, saved, size);
}

static void
test_refusals(void)
{
	Tree		tree;
	AlexModelNode *root;
	AlexModelNode *child;
	AlexModelLine *slots;
	AlexModelLine *keys;
	uint32_t	key_line;
	uint32_t	child_line;
	uint32_t	value;
	uint64_t	key;
	uint16_t	kind = 7;
	uint8_t		byte = 9;

	make_tree(&tree, LOGNORMAL, 9001);
	root = &tree_line(&tree, 0)->node;
	slots = tree_line(&tree, root->first);
	child_line = slots->slots[0];
	child = &tree_line(&tree, child_line)->node;
	key_line = root->first_key_line;
	keys = tree_line(&tree, key_line + 3);

	unit_ok(root->kind == ALEX_MODEL_INNER &&
			child->kind == ALEX_MODEL_DATA,
			"the tree to damage has two levels");
	unit_ok(alex_model_check(&tree.handed_out, tree.info.nlines + 1,
							 tree.nfences) != NULL &&
			alex_model_check(&tree.handed_out, tree.info.nlines,
							 tree.nfences + 1) != NULL,
			"check compares the totals");

	value = key_line - 1;
	expect_refused(&tree, &root->first_key_line, &value, 4, "moved fences");
	value = root->count + 1;
	expect_refused(&tree, &root->count, &value, 4, "an odd number of slots");
	value = key_line;
	expect_refused(&tree, &root->first, &value, 4, "slots out of range");
	expect_refused(&tree, &slots->slots[0], &value, 4, "a child out of range");
	value = 0;
	expect_refused(&tree, &slots->slots[1], &value, 4, "a cycle");
	value = child_line + 1;
	expect_refused(&tree, &slots->slots[0], &value, 4, "a skipped child");
	value = child->count + 1;
	expect_refused(&tree, &child->count, &value, 4, "a data node too long");
	value = 1;
	expect_refused(&tree, &child->first, &value, 4, "a data node too late");
	expect_refused(&tree, &child->nfences, &value, 4, "totals in a child");
	expect_refused(&tree, &child->kind, &kind, 2, "an unknown kind");
	expect_refused(&tree, &child->curve, &byte, 1, "an unknown curve");
	byte = child->shift ^ 1;
	expect_refused(&tree, &child->shift, &byte, 1, "a wrong shift");
	key = UINT64_MAX;
	expect_refused(&tree, &child->multiplier, &key, 8, "a slope too steep");
	key = keys->keys[5] + 1;
	expect_refused(&tree, &keys->keys[4], &key, 8, "keys out of order");
	key = 0;
	keys = tree_line(&tree, key_line + alex_model_key_lines(tree.nfences) - 1);
	expect_refused(&tree, &keys->keys[7], &key, 8, "a wrong padding");
	unit_ok(alex_model_check(&tree.handed_out, tree.info.nlines,
							 tree.nfences) == NULL,
			"check passes with everything put back");
	free_tree(&tree);
}

/* Changes one to four bytes, mostly of the nodes. */
static void
mutate(Tree *tree, uint32_t key_line, uint64_t *state)
{
	int			n = 1 + unit_random(state) % 4;

	while (n-- > 0)
	{
		uint64_t	choice = unit_random(state);
		uint32_t	line = choice % 8 == 0 ?
			unit_random(state) % tree->info.nlines :
			unit_random(state) % key_line;
		unsigned char *byte = (unsigned char *) tree_line(tree, line) +
			unit_random(state) % ALEX_LINE_SIZE;

		*byte = choice % 3 == 0 ? *byte ^ (1 << (choice >> 8) % 8) :
			choice % 3 == 1 ? 0xFF : (unsigned char) (choice >> 16);
	}
}

/*
 * Randomly damaged trees: the checker asks for no page that does not exist,
 * and what it lets pass still answers rightly for all of the tree's own
 * fences.  Where the totals are unharmed, so is a lookup free of such
 * requests, and answers with an existing fence.
 */
static void
test_mutations(Distribution distribution, uint32_t nfences, int ntrials)
{
	Tree		tree;
	uint64_t	state = distribution + 5;
	uint32_t	key_line;
	AlexModelNode intact_root;
	char	   *intact;
	size_t		bytes;
	int			refused = 0;
	int			wrong = 0;

	make_tree(&tree, distribution, nfences);
	bytes = (size_t) tree.npages * ALEX_PAGE_SIZE;
	intact = malloc(bytes);
	memcpy(intact, tree.pages, bytes);
	intact_root = tree_line(&tree, 0)->node;
	key_line = intact_root.first_key_line;

	for (int i = 0; i < ntrials; i++)
	{
		AlexModelNode *root = &tree_line(&tree, 0)->node;

		mutate(&tree, key_line, &state);
		if (alex_model_check(&tree.handed_out, tree.info.nlines,
							 tree.nfences) != NULL)
			refused++;
		else
		{
			for (uint32_t j = 0; j < tree.nfences; j += 13)
			{
				AlexFence	fence;

				alex_model_fence(&tree.mapped, j, &fence);
				wrong += alex_model_find(&tree.mapped, fence.key,
										 fence.tid) != j;
			}
		}

		root->nlines = intact_root.nlines;
		root->nfences = intact_root.nfences;
		root->first_key_line = intact_root.first_key_line;
		for (int j = 0; j < 60; j++)
		{
			uint64_t	key = unit_random(&state);

			if (j % 3 != 0)
				key = tree.fences[key % tree.nfences].key;
			wrong += alex_model_find(&tree.handed_out, key, 1) >= tree.nfences;
			if (pager.out_of_range)
				break;
			wrong += alex_model_find(&tree.mapped, key, 1) >= tree.nfences;
		}
		memcpy(tree.pages, intact, bytes);
	}
	unit_ok(refused > ntrials / 4 && wrong == 0 && !pager.out_of_range,
			"%s: %d of %d damaged trees refused, none misread",
			distribution_names[distribution], refused, ntrials);
	free(intact);
	free_tree(&tree);
}

int
main(void)
{
	static const uint32_t sizes[] = {
		1, 2, 7, 8, 9, 16, 17, 127, 4095, 4096, 4097, 100000
	};

	for (int d = 0; d < NDISTRIBUTIONS; d++)
	{
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			test_lookups((Distribution) d, sizes[i]);
	}
	test_lookups(LOGNORMAL, 1000000);

	test_lines_touched(SEQUENTIAL, 4.01);
	test_lines_touched(RANDOM60, 6.5);
	test_lines_touched(LOGNORMAL, 7);
	test_lines_touched(EXPONENTIAL, 7);
	test_lines_touched(SAWTOOTH, 6.5);
	test_lines_touched(CLUSTERS, 8.5);
	test_lines_touched(STEPS, 7.5);
	test_lines_touched(FRACTAL, 10);
	test_pages();
	test_no_memory();
	test_refusals();
	test_mutations(LOGNORMAL, 4000, 1500);
	test_mutations(CLUSTERS, 3000, 1000);

	return unit_done();
}
