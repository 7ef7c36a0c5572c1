/*-------------------------------------------------------------------------
 *
 * micro.c
 *	  Micro-benchmarks of the learned room, without a server.
 *
 * micro KEYS prints nanoseconds an operation over that many keys, 10^4 to
 * 10^8: packing, training, lookup in the model and by binary search, unpacking
 * and searching of leaf pages, the index work of a whole point probe, Bloom
 * filter, memtable; scalar and with each set of vector kernels that the
 * processor has.  Without an argument it takes few keys, measures nothing, and
 * only tests that all ways of reading give the same answers; then, as always,
 * it speaks TAP.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * bench/micro/micro.c
 *
 *-------------------------------------------------------------------------
 */
#include <sys/mman.h>
#include <time.h>

#include "../../src/learned/kernels.h"
#include "unit.h"

#define QUICK_KEYS		20000
#define LEAST_KEYS		UINT64_C(10000)
#define MOST_KEYS		UINT64_C(100000000)
#define TREE_KEYS		UINT64_C(10000000)	/* no memtable is larger */
#define ROWS_A_BLOCK	157
#define FIRST_BATCH		4		/* as a scan's cursor */
#define KERNEL_CALLS	5000
#define BLOOM_BITS		11
#define BATCH			1000	/* entries that come together */
#define PASSES			5

static uint64_t nkeys = QUICK_KEYS;
static uint64_t nprobes;
static bool quick = true;
static uint64_t seed = 3;

/* The keys that are looked up, and whether they are there. */
static uint64_t *probes;
static uint64_t *absent;

/* A run as the store has it: pages in a row, and a model. */
typedef struct Run
{
	const char *name;
	AlexEntry  *entries;
	char	   *pages;
	AlexFence  *fences;
	uint32_t	npages;
	AlexModelSource model;
} Run;

/* Processor time: others may be using the machine. */
static double
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double) time.tv_sec * 1e9 + (double) time.tv_nsec;
}

/* One figure; in a test there are none. */
static void
print_figure(const char *what, const char *how, double nanoseconds)
{
	if (!quick)
		printf("# %-44s %-8s %9.2f ns\n", what, how, nanoseconds);
}

static void
report(const char *what, const char *how, double began, double operations)
{
	print_figure(what, how, (now() - began) / operations);
}

/* The best of some passes, for what is short and can be done again. */
#define REPORT_BEST(what, how, operations, pass) \
	do { \
		double		best = 0; \
		for (int number = 0; number < (quick ? 1 : PASSES); number++) \
		{ \
			double		began = now(); \
			double		elapsed; \
			pass; \
			elapsed = now() - began; \
			if (number == 0 || elapsed < best) \
				best = elapsed; \
		} \
		print_figure(what, how, best / (operations)); \
	} while (0)

static void *
allocate(size_t size)
{
	void	   *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
							  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
							  -1, 0);

	if (memory == MAP_FAILED)
	{
		fprintf(stderr, "micro: no memory for %zu bytes\n", size);
		exit(2);
	}
	return memory;
}

static void *
allocate_lines(size_t size)
{
	return malloc(size);
}

static uint64_t
random_key(void)
{
	return unit_random(&seed) >> 4;
}

/* Keys 1 to n in the order of their rows. */
static void
make_ids(Run *run)
{
	run->name = "id";
	for (uint64_t i = 0; i < nkeys; i++)
	{
		run->entries[i].key = i + 1;
		run->entries[i].tid = ALEX_TID(i / ROWS_A_BLOCK, i % ROWS_A_BLOCK + 1);
	}
	for (uint64_t i = 0; i < nprobes; i++)
	{
		probes[i] = 1 + unit_random(&seed) % nkeys;
		absent[i] = nkeys + probes[i];
	}
}

/* Random keys of 60 bits: the rows are in another order. */
static void
make_random(Run *run)
{
	AlexEntry  *scratch = allocate(nkeys * sizeof(AlexEntry));

	run->name = "r";
	for (uint64_t i = 0; i < nkeys; i++)
	{
		run->entries[i].key = random_key();
		run->entries[i].tid = ALEX_TID(i / ROWS_A_BLOCK, i % ROWS_A_BLOCK + 1);
	}
	for (uint64_t i = 0; i < nprobes; i++)
	{
		probes[i] = run->entries[unit_random(&seed) % nkeys].key;
		absent[i] = random_key();
	}
	alex_sort(run->entries, scratch, nkeys);
	munmap(scratch, nkeys * sizeof(AlexEntry));
}

static void
pack_run(Run *run)
{
	AlexLeafEncoder *encoder = malloc(alex_leaf_encoder_size());
	uint64_t	done = 0;
	double		began;

	/* no page has less than 200 entries of these */
	run->npages = 0;
	run->pages = allocate((nkeys / 200 + 1) * ALEX_PAGE_SIZE);
	run->fences = allocate((nkeys / 200 + 1) * sizeof(AlexFence));
	alex_leaf_encoder_init(encoder);
	began = now();
	while (done < nkeys)
	{
		char	   *page = run->pages + (size_t) run->npages * ALEX_PAGE_SIZE;
		uint64_t	left = nkeys - done;
		AlexFence  *fence = &run->fences[run->npages];
		int			packed;

		packed = alex_leaf_encode(encoder, page, run->npages + 1,
								  run->entries + done,
								  left > 1000000 ? 1000000 : (int) left);
		if (packed < 1)
			break;
		fence->key = run->entries[done].key;
		fence->tid = run->entries[done].tid;
		fence->stamp = run->npages + 1;
		fence->block = run->npages++;
		fence->entries = (uint32_t) packed;
		done += (uint64_t) packed;
	}
	report("pack, an entry", "", began, (double) nkeys);
	if (!quick)
		printf("# %-44s %-8s %9.2f bytes\n", "an entry", "",
			   (double) run->npages * ALEX_PAGE_SIZE / (double) nkeys);
	unit_ok(done == nkeys, "%s: all entries are packed", run->name);
	free(encoder);
}

static void
train_run(Run *run)
{
	AlexModelInfo info;
	double		began = now();
	void	   *lines = alex_model_train(run->fences, run->npages,
										 allocate_lines, free, &info);
	uint32_t	npages = alex_model_pages(info.nlines);
	char	   *pages = allocate((size_t) npages * ALEX_PAGE_SIZE);

	report("train, a fence", "", began, run->npages);
	for (uint32_t i = 0; i < npages; i++)
		alex_model_page(pages + (size_t) i * ALEX_PAGE_SIZE, i + 1, i, lines,
						info.nlines);
	memset(&run->model, 0, sizeof(run->model));
	run->model.nlines = info.nlines;
	run->model.first_page = pages;
	free(lines);
}

/* What a model is compared with: binary search without branches. */
static uint32_t
search_fences(const uint64_t *keys, uint32_t count, uint64_t key)
{
	uint32_t	low = 0;

	while (count > 1)
	{
		uint32_t	half = count / 2;

		low += keys[low + half] <= key ? half : 0;
		count -= half;
	}
	return low;
}

/* Each lookup waits for the one before, as those of a query do. */
static void
look_up_fences(const Run *run)
{
	uint64_t   *keys = allocate(run->npages * sizeof(uint64_t));
	uint64_t	wrong = 0;
	uint32_t	found = 0;

	for (uint32_t i = 0; i < run->npages; i++)
		keys[i] = run->fences[i].key;
	for (uint64_t i = 0; i < nprobes; i++)
		wrong += alex_model_find(&run->model, probes[i], ALEX_TID_MAX) !=
			search_fences(keys, run->npages, probes[i]);
	unit_ok(wrong == 0, "%s: model and binary search agree", run->name);

	REPORT_BEST("fence by the model", "", (double) nprobes,
				for (uint64_t i = 0; i < nprobes; i++)
				found = alex_model_find(&run->model, probes[i] + (found >> 31),
										ALEX_TID_MAX));
	REPORT_BEST("fence by binary search", "", (double) nprobes,
				for (uint64_t i = 0; i < nprobes; i++)
				found = search_fences(keys, run->npages,
									  probes[i] + (found >> 31)));
	unit_ok(found < run->npages, "%s: fences are found", run->name);
	munmap(keys, run->npages * sizeof(uint64_t));
}

/* A sum that any wrong or missing entry would change. */
static uint64_t
unpack_run(const Run *run)
{
	uint64_t	sum = 0;

	for (uint32_t i = 0; i < run->npages; i++)
	{
		const char *page = run->pages + (size_t) i * ALEX_PAGE_SIZE;
		int			count = alex_leaf_count(page);

		for (int first = 0; first < count; first += ALEX_LEAF_BLOCK)
		{
			uint64_t	keys[ALEX_LEAF_BLOCK];
			uint64_t	tids[ALEX_LEAF_BLOCK];
			int			n = count - first < ALEX_LEAF_BLOCK ? count - first :
				ALEX_LEAF_BLOCK;

			alex_leaf_unpack(page, first, n, keys, tids);
			sum = sum * 31 + keys[0] + keys[n - 1] + tids[n / 2] + tids[n - 1];
		}
	}
	return sum;
}

/* Searches in a page that is in the caches. */
static uint64_t
search_one_page(const Run *run, const char *page)
{
	int			count = alex_leaf_count(page);
	uint64_t	sum = 0;
	uint64_t	state = 5;

	for (uint64_t i = 0; i < nprobes; i++)
	{
		uint64_t	key = run->entries[unit_random(&state) % (uint64_t) count].key;

		sum += (uint64_t) alex_leaf_search(page, key + (sum >> 63), 0);
	}
	return sum;
}

/*
 * The index work of a point probe: all that a scan of one run does between
 * key and TID.  Returns the TID, or 0.
 */
static inline uint64_t
probe_run(const Run *run, uint64_t key, AlexLeafShape *shape)
{
	uint32_t	number = alex_model_find(&run->model, key, 0);
	uint64_t	keys[FIRST_BATCH];
	uint64_t	tid = 0;
	int			count;
	int			slot;

	for (;;)
	{
		const char *page;
		AlexFence	fence;

		alex_model_place(&run->model, number, &fence);
		page = run->pages + (size_t) fence.block * ALEX_PAGE_SIZE;
		alex_leaf_prefetch(page, shape, fence.entries,
						   alex_model_fraction(&run->model, number, key));
		if (alex_page_header(page)->stamp != fence.stamp)
			return 0;
		slot = alex_leaf_search_shape(page, key, 0, shape);
		count = alex_leaf_count(page) - slot;
		if (count == 0)
		{
			if (++number == run->npages)
				return 0;
			continue;
		}
		alex_leaf_unpack(page, slot, count < FIRST_BATCH ? count : FIRST_BATCH,
						 keys, NULL);
		if (keys[0] == key)
			alex_leaf_unpack(page, slot, 1, NULL, &tid);
		return tid;
	}
}

/* Each probe waits for the one before. */
static uint64_t
probe_all(const Run *run, const uint64_t *wanted)
{
	AlexLeafShape shape = {0};
	uint64_t	sum = 0;

	for (uint64_t i = 0; i < nprobes; i++)
		sum += probe_run(run, wanted[i] + (sum >> 63), &shape);
	return sum;
}

/* All that depends on kernels, once with each set of them. */
static void
read_run(const Run *run)
{
	uint64_t	expected[4] = {0};
	const AlexKernels *kernels;
	const AlexKernels in_use = alex_kernels;

	for (int set = 0; (kernels = alex_kernels_available(set)) != NULL; set++)
	{
		uint64_t	sums[4];

		alex_kernels = *kernels;
		REPORT_BEST("unpack, an entry", kernels->name, (double) nkeys,
					sums[0] = unpack_run(run));
		REPORT_BEST("search of a page in the caches", kernels->name,
					(double) nprobes,
					sums[1] = search_one_page(run, run->pages));
		REPORT_BEST("point probe, index work", kernels->name,
					(double) nprobes, sums[2] = probe_all(run, probes));
		REPORT_BEST("point probe, absent key", kernels->name,
					(double) nprobes, sums[3] = probe_all(run, absent));
		if (set == 0)
			memcpy(expected, sums, sizeof(sums));
		unit_ok(memcmp(expected, sums, sizeof(sums)) == 0 &&
				sums[2] != 0 && sums[3] == 0,
				"%s: answers agree, %s", run->name, kernels->name);
	}
	alex_kernels = in_use;
}

/* A filter of all keys, with as many bits each as alexam.bloom_bits has. */
static void
bench_bloom(const Run *run)
{
	uint32_t	nblocks = alex_bloom_blocks(nkeys, BLOOM_BITS);
	char	   *blocks = allocate((size_t) nblocks * ALEX_BLOOM_BLOCK_BYTES);
	uint64_t	missing = 0;
	uint64_t	passed = 0;
	double		began = now();

	for (uint64_t i = 0; i < nkeys; i++)
	{
		uint64_t	hash = alex_bloom_hash(run->entries[i].key);

		alex_bloom_add(blocks + (size_t) alex_bloom_block(hash, nblocks) *
					   ALEX_BLOOM_BLOCK_BYTES, hash);
	}
	report("Bloom filter, add", "", began, (double) nkeys);
	began = now();
	for (uint64_t i = 0; i < nprobes; i++)
	{
		uint64_t	hash = alex_bloom_hash(probes[i]);

		missing += !alex_bloom_test(blocks +
									(size_t) alex_bloom_block(hash, nblocks) *
									ALEX_BLOOM_BLOCK_BYTES, hash);
	}
	report("Bloom filter, test", "", began, (double) nprobes);
	for (uint64_t i = 0; i < nprobes; i++)
	{
		uint64_t	hash = alex_bloom_hash(absent[i]);

		passed += alex_bloom_test(blocks +
								  (size_t) alex_bloom_block(hash, nblocks) *
								  ALEX_BLOOM_BLOCK_BYTES, hash);
	}
	if (!quick)
		printf("# %-53s %9.2f %%\n", "Bloom filter, absent keys skipped",
			   100 * (1 - (double) passed / (double) nprobes));
	unit_ok(missing == 0 && passed < nprobes / 50, "Bloom filter");
	munmap(blocks, (size_t) nblocks * ALEX_BLOOM_BLOCK_BYTES);
}

/* Chunks one after the other; none is given back before the end. */
static uint32_t
next_chunk(void *context)
{
	return (*(uint32_t *) context)++;
}

static void
keep_chunk(void *context, uint32_t chunk)
{
}

static void
bench_tree(const Run *run, const AlexEntry *arriving, const char *order)
{
	uint64_t	count = nkeys < TREE_KEYS ? nkeys : TREE_KEYS;
	uint32_t	nchunks = 0;
	size_t		room = (size_t) (count / 100 + 100) * ALEX_PAGE_SIZE;
	AlexChunks	chunks = {allocate(room), next_chunk, keep_chunk, &nchunks};
	AlexTree	tree;
	uint64_t	found = 0;
	double		began = now();

	alex_tree_init(&tree);
	for (uint64_t i = 0; i < count; i++)
		alex_tree_insert(&chunks, &tree, arriving[i]);
	report("memtable, insert", order, began, (double) count);
	began = now();
	for (uint64_t i = 0; i < nprobes; i++)
	{
		AlexEntry	wanted = arriving[unit_random(&seed) % count];
		AlexEntry	entry;

		wanted.tid += found >> 63;
		if (alex_tree_scan(&chunks, &tree, wanted, true, true, &entry, 1) == 1)
			found += entry.key == wanted.key && entry.tid == wanted.tid;
	}
	report("memtable, look up", order, began, (double) nprobes);
	unit_ok(found == nprobes && tree.nentries == count, "memtable, %s, %s",
			run->name, order);
	munmap(chunks.base, room);
}

/* What comes in no order is sorted: all of it, and by the batch. */
static void
bench_batches(const Run *run, AlexEntry *mixed)
{
	uint64_t	count = nkeys < TREE_KEYS ? nkeys : TREE_KEYS;
	AlexEntry  *scratch = allocate(count * sizeof(AlexEntry));
	uint32_t	nchunks = 0;
	size_t		room = (size_t) (count / 100 + 100) * ALEX_PAGE_SIZE;
	AlexChunks	chunks = {allocate(room), next_chunk, keep_chunk, &nchunks};
	AlexTree	tree;
	uint64_t	wrong = 0;
	AlexEntry  *sorted = allocate(count * sizeof(AlexEntry));
	double		began;

	memcpy(sorted, mixed, count * sizeof(AlexEntry));
	began = now();
	alex_sort(sorted, scratch, count);
	report("sort, an entry", "", began, (double) count);
	munmap(sorted, count * sizeof(AlexEntry));

	began = now();
	for (uint64_t i = 0; i < count; i += BATCH)
		alex_sort(mixed + i, scratch, count - i < BATCH ? count - i : BATCH);
	report("sort by batches, an entry", "", began, (double) count);

	alex_tree_init(&tree);
	began = now();
	for (uint64_t i = 0; i < count; i += BATCH)
	{
		size_t		done;

		wrong += alex_tree_insert_batch(&chunks, &tree, mixed + i,
										count - i < BATCH ? count - i : BATCH,
										&done) != ALEX_TREE_DONE;
	}
	report("memtable, insert by batches", "", began, (double) count);
	unit_ok(wrong == 0 && tree.nentries == count, "memtable, %s, batches",
			run->name);
	munmap(chunks.base, room);
	munmap(scratch, count * sizeof(AlexEntry));
}

/* The memtable's entries, in order and not. */
static void
bench_memtable(const Run *run)
{
	uint64_t	count = nkeys < TREE_KEYS ? nkeys : TREE_KEYS;
	AlexEntry  *mixed = allocate(count * sizeof(AlexEntry));

	bench_tree(run, run->entries, "sorted");
	memcpy(mixed, run->entries, count * sizeof(AlexEntry));
	for (uint64_t i = count - 1; i > 0; i--)
	{
		uint64_t	other = unit_random(&seed) % (i + 1);
		AlexEntry	entry = mixed[i];

		mixed[i] = mixed[other];
		mixed[other] = entry;
	}
	bench_tree(run, mixed, "mixed");
	bench_batches(run, mixed);
	munmap(mixed, count * sizeof(AlexEntry));
}

/* Kernels by themselves, 128 numbers in the caches at a time. */
static void
bench_kernels(const AlexKernels *kernels)
{
	static const unsigned widths[] = {0, 7, 13, 25, 33, 44, 57, 64};
	static uint8_t bits[ALEX_LEAF_BLOCK * 8 + 64];
	uint64_t	numbers[ALEX_LEAF_BLOCK] = {0};
	uint64_t	offsets[ALEX_LEAF_BLOCK] = {0};
	static uint8_t filter[ALEX_LEAF_BLOCK * ALEX_BLOOM_BLOCK_BYTES];
	uint64_t	less = 0;
	double		each = (double) KERNEL_CALLS * ALEX_LEAF_BLOCK;
	char		what[64];

	for (int i = 0; i < (int) (sizeof(widths) / sizeof(widths[0])); i++)
	{
		AlexColumn	column = {.slope = 12345, .shift = 7, .width = widths[i],
		.mask = alex_bit_mask(widths[i]), .bits = bits};

		snprintf(what, sizeof(what), "kernel: unpack %u bits, a number",
				 widths[i]);
		REPORT_BEST(what, kernels->name, each,
					for (int call = 0; call < KERNEL_CALLS; call++)
					kernels->unpack(&column, 0, ALEX_LEAF_BLOCK, numbers));
		if (widths[i] != 44)
			continue;
		REPORT_BEST("kernel: unpack 44 bits, 4 numbers", kernels->name,
					KERNEL_CALLS,
					for (int call = 0; call < KERNEL_CALLS; call++)
					kernels->unpack(&column, (uint32_t) call % 100,
									FIRST_BATCH, numbers));
		REPORT_BEST("kernel: count_less, a window", kernels->name,
					KERNEL_CALLS,
					for (int call = 0; call < KERNEL_CALLS; call++)
					less += (uint64_t) kernels->count_less(&column,
														   (uint32_t) call % 64,
														   5));
	}
	for (int i = 0; i < ALEX_LEAF_BLOCK; i++)
		numbers[i] = (uint64_t) i * 1000;
	REPORT_BEST("kernel: split, a number", kernels->name, each,
				for (int call = 0; call < KERNEL_CALLS; call++)
				kernels->split(numbers, ALEX_LEAF_BLOCK, ROWS_A_BLOCK + 1));
	REPORT_BEST("kernel: join, a number", kernels->name, each,
				for (int call = 0; call < KERNEL_CALLS; call++)
				kernels->join(numbers, offsets, ALEX_LEAF_BLOCK));
	REPORT_BEST("kernel: fill, a number", kernels->name, each,
				for (int call = 0; call < KERNEL_CALLS; call++)
				kernels->fill(numbers, ALEX_LEAF_BLOCK, (uint64_t) call));
	/* hashes far apart, and blocks that are full */
	memset(filter, 0xFF, sizeof(filter));
	REPORT_BEST("kernel: Bloom filter, a test", kernels->name, each,
				for (int call = 0; call < KERNEL_CALLS; call++)
				for (int i = 0; i < ALEX_LEAF_BLOCK; i++)
				less += kernels->bloom_test(filter + i * ALEX_BLOOM_BLOCK_BYTES,
											(uint64_t) call * UINT64_C(0x9E3779B97F4A7C15)));
}

static void
bench_run(void (*make_entries) (Run *run))
{
	Run			run;

	run.entries = allocate(nkeys * sizeof(AlexEntry));
	make_entries(&run);
	if (!quick)
		printf("# -- %s, %" PRIu64 " keys\n", run.name, nkeys);
	pack_run(&run);
	train_run(&run);
	look_up_fences(&run);
	read_run(&run);
	if (run.entries[1].key != 2)
		bench_bloom(&run);
	bench_memtable(&run);
	munmap(run.entries, nkeys * sizeof(AlexEntry));
}

int
main(int argc, char **argv)
{
	const AlexKernels *kernels;

	if (argc > 1)
	{
		quick = false;
		nkeys = strtoull(argv[1], NULL, 10);
		if (argc > 2 || nkeys < LEAST_KEYS || nkeys > MOST_KEYS)
		{
			fprintf(stderr, "usage: %s [KEYS], from 10000 to 100000000\n",
					argv[0]);
			return 2;
		}
	}
	nprobes = nkeys < 1000000 ? nkeys : 1000000;
	probes = allocate(nprobes * sizeof(uint64_t));
	absent = allocate(nprobes * sizeof(uint64_t));
	for (int set = 0; !quick && (kernels = alex_kernels_available(set)) != NULL;
		 set++)
		bench_kernels(kernels);
	bench_run(make_ids);
	bench_run(make_random);
	return unit_done();
}
