/*-------------------------------------------------------------------------
 *
 * seeds.c
 *	  Write the corpus that fuzzing begins with: inputs made of real pages and
 *	  records, small ones.
 *
 *	  seeds DIRECTORY		(which has a directory for each target)
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog_internal.h"
#include "alex/store.h"
#include "alex/wal.h"

#undef printf
#undef snprintf
#undef fprintf
#undef qsort
#undef vprintf

#include "../unit/unit.h"

#define MAX_INPUT		65536

static const char *directory;
static char input[MAX_INPUT];
static size_t input_size;
static uint64_t seed = 1;
static AlexLeafEncoder *encoder;
static AlexEntry entries[4000];
static char page[BLCKSZ] pg_attribute_aligned(8);

static void
add(const void *data, size_t size)
{
	if (input_size + size > MAX_INPUT)
		abort();
	memcpy(input + input_size, data, size);
	input_size += size;
}

static void
add8(uint8 number)
{
	add(&number, sizeof(number));
}

static void
add16(uint16 number)
{
	add(&number, sizeof(number));
}

static void
add64(uint64 number)
{
	add(&number, sizeof(number));
}

/* How much of a page there is before it is zeros only. */
static size_t
used(const char *bytes, size_t size)
{
	while (size > 0 && bytes[size - 1] == 0)
		size--;
	return size;
}

/* A page as server_take_relation() reads it; one that is not new. */
static void
add_page(char *bytes)
{
	size_t		size = used(bytes, BLCKSZ);

	((PageHeader) bytes)->pd_upper = BLCKSZ;
	add16((uint16) size);
	add(bytes, size);
}

static void
write_input(const char *target, const char *name)
{
	char		path[1024];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s/%s", directory, target, name);
	file = fopen(path, "wb");
	if (file == NULL || fwrite(input, 1, input_size, file) != input_size ||
		fclose(file) != 0)
	{
		perror(path);
		exit(1);
	}
	input_size = 0;
}

/* Entries that lead to each of the layouts and TID encodings. */
static const char *const shapes[] = {
	"sequential", "late", "varying", "random", "sawtooth", "equal", "wide"
};

static int
compare_entries(const void *left, const void *right)
{
	const AlexEntry *a = (const AlexEntry *) left;
	const AlexEntry *b = (const AlexEntry *) right;

	return alex_compare(a->key, a->tid, b->key, b->tid);
}

static void
make_entries(int shape, int n)
{
	for (int i = 0; i < n; i++)
	{
		uint64		number = unit_random(&seed);
		uint64		row = (uint64) i;

		entries[i].key = 1000 + 3 * (uint64) i;
		if (shape == 1 && i % 50 == 7)
			row += 40;
		if (shape == 2)
			row += i / 37;
		if (shape >= 3)
			row = number % 50000;
		if (shape == 3)
			entries[i].key = number >> 4;
		if (shape == 4)
			entries[i].key = (number % 8 << 40) + (uint64) i;
		if (shape == 5)
			entries[i].key = 77;
		if (shape == 6)
			entries[i].key = i % 40 == 3 ? number : number % 1000;
		entries[i].tid = ALEX_TID(row / 100, row % 100 + 1);
	}
	qsort(entries, n, sizeof(AlexEntry), compare_entries);
	for (int i = 1; i < n; i++)
		if (compare_entries(&entries[i - 1], &entries[i]) == 0)
			entries[i].tid += UINT64CONST(1) << 40;
	qsort(entries, n, sizeof(AlexEntry), compare_entries);
}

/* A leaf page of these entries; returns how many are on it. */
static int
make_leaf(int shape, int n, uint64 stamp)
{
	memset(page, 0, BLCKSZ);
	make_entries(shape, n);
	return alex_leaf_encode(encoder, page, stamp, entries, n);
}

static void
write_leaf_pages(void)
{
	static const int sizes[] = {1, 40, 300};

	for (int shape = 0; shape < lengthof(shapes); shape++)
		for (int i = 0; i < lengthof(sizes); i++)
		{
			char		name[64];
			int			n = make_leaf(shape, sizes[i], 5);

			if (i == 1)
				(void) alex_leaf_set_dead(page, n / 2);
			add64(entries[n / 2].key);
			add64(entries[n / 2].tid);
			add(page + 32, i == 1 ? BLCKSZ - 32 : used(page, BLCKSZ) - 32);
			snprintf(name, sizeof(name), "%s-%d", shapes[shape], sizes[i]);
			write_input("leaf", name);
		}
}

/* Fences and the tree's lines over them. */
static char *
make_tree(int shape, int nfences, AlexModelInfo *info)
{
	AlexFence  *fences = calloc(nfences, sizeof(AlexFence));
	char	   *lines;

	make_entries(shape, nfences);
	for (int i = 0; i < nfences; i++)
	{
		fences[i].key = entries[i].key;
		fences[i].tid = entries[i].tid;
		fences[i].stamp = 100 + i;
		fences[i].block = 2 + i;
		fences[i].entries = 300;
	}
	lines = alex_model_train(fences, nfences, malloc, free, info);
	free(fences);
	return lines;
}

static void
write_trees(void)
{
	static const int sizes[] = {2, 20, 200};

	for (int shape = 0; shape < lengthof(shapes); shape++)
		for (int i = 0; i < lengthof(sizes); i++)
		{
			char		name[64];
			AlexModelInfo info;
			char	   *lines = make_tree(shape, sizes[i], &info);

			if (info.nlines <= 255)
			{
				add64(entries[sizes[i] / 2].key);
				add64(entries[sizes[i] / 2].tid);
				add8((uint8) info.nlines);
				add(lines, (size_t) info.nlines * ALEX_LINE_SIZE);
				snprintf(name, sizeof(name), "%s-%d", shapes[shape], sizes[i]);
				write_input("model", name);
			}
			free(lines);
		}
}

/*
 * A run with a tree of two leaves: metapage, model page, leaves, Bloom page
 * are blocks 0 to 4.
 */
static void
write_run(int shape, bool verify)
{
	static char pages[4][BLCKSZ] pg_attribute_aligned(8);
	AlexFence	fences[2] = {{0}};
	AlexModelInfo info;
	AlexRun		run = {0};
	char	   *lines;
	char		name[64];
	AlexPageHeader *header = (AlexPageHeader *) pages[3];

	for (int i = 0; i < 2; i++)
	{
		fences[i].entries = make_leaf(shape, 60, 50 + i);
		fences[i].key = entries[0].key + i;
		fences[i].tid = entries[0].tid;
		fences[i].stamp = 50 + i;
		fences[i].block = 2 + i;
		memcpy(pages[1 + i], page, BLCKSZ);
	}
	lines = alex_model_train(fences, 2, malloc, free, &info);
	alex_model_page(pages[0], 40, 0, lines, info.nlines);
	free(lines);

	memset(pages[3], 0, BLCKSZ);
	header->stamp = 60;
	header->kind = ALEX_PAGE_BLOOM;
	header->version = ALEX_SEALED_VERSION;
	for (int i = 0; i < 60; i++)
	{
		uint64		hash = alex_bloom_hash(entries[i].key);

		alex_bloom_add(pages[3] + ALEX_LINE_SIZE *
					   (1 + alex_bloom_block(hash, 2)), hash);
	}
	header->hash = alex_page_hash(pages[3], 60, BLCKSZ);

	run.id = 1;
	run.entries = 120;
	run.model_stamp = 40;
	run.model_block = 1;
	run.model_pages = 1;
	run.model_lines = info.nlines;
	run.bloom_stamp = 60;
	run.bloom_block = 4;
	run.bloom_pages = 1;
	run.bloom_blocks = 2;
	run.leaf_pages = 2;
	run.depth = 1;
	add(&run, sizeof(run));
	add8(verify);
	add64(entries[30].key);
	add64(entries[30].tid);
	add8(5);
	add16(0);
	for (int i = 0; i < 4; i++)
		add_page(pages[i]);
	snprintf(name, sizeof(name), "%s-%s", shapes[shape],
			 verify ? "verified" : "unverified");
	write_input("run", name);
}

/* Page of a log chain, in "page". */
static void
make_log_page(uint64 stamp, uint32 number, int n, BlockNumber next,
			  uint64 next_stamp)
{
	AlexLogPage *log = (AlexLogPage *) page;

	memset(page, 0, BLCKSZ);
	log->header.stamp = stamp;
	log->header.kind = ALEX_PAGE_LOG;
	log->header.version = ALEX_SEALED_VERSION;
	log->incarnation = 9;
	log->generation = 3;
	log->next = next;
	log->next_stamp = next_stamp;
	log->number = number;
	log->count = n;
	make_entries(3, n);
	memcpy(log->entries, entries, n * sizeof(AlexEntry));
}

static void
add_metapage(int nruns, int nruns_here, uint32 noverflow,
			 const AlexLogChain *active)
{
	AlexMetaPage *meta = (AlexMetaPage *) page;

	memset(page, 0, BLCKSZ);
	meta->header.stamp = 9;
	meta->header.kind = ALEX_PAGE_META;
	meta->header.version = ALEX_SEALED_VERSION;
	((PageHeader) page)->pd_lower = offsetof(AlexMetaPage, runs) +
		nruns_here * sizeof(AlexRun);
	meta->magic = ALEX_MAGIC;
	meta->format_version = ALEX_FORMAT_VERSION;
	meta->incarnation = 9;
	meta->nruns = nruns;
	meta->active = *active;
	meta->frozen.head = InvalidBlockNumber;
	meta->frozen.tail = InvalidBlockNumber;
	meta->overflow = noverflow > 0 ? 3 : InvalidBlockNumber;
	meta->overflow_stamp = noverflow > 0 ? 33 : 0;
	meta->noverflow = noverflow;
	for (int i = 0; i < nruns_here; i++)
	{
		meta->runs[i].id = i + 1;
		meta->runs[i].entries = 10;
		meta->runs[i].model_block = 1 + i % 4;
		meta->runs[i].leaf_pages = 1;
	}
	add_page(page);
}

static void
add_overflow_page(uint64 stamp, int nruns, BlockNumber next, uint64 next_stamp)
{
	AlexManifestPage *overflow = (AlexManifestPage *) page;

	memset(page, 0, BLCKSZ);
	overflow->header.stamp = stamp;
	overflow->header.kind = ALEX_PAGE_MANIFEST;
	overflow->header.version = ALEX_SEALED_VERSION;
	overflow->next = next;
	overflow->next_stamp = next_stamp;
	overflow->nruns = nruns;
	for (int i = 0; i < nruns; i++)
	{
		overflow->runs[i].id = 100 + i;
		overflow->runs[i].entries = 10;
		overflow->runs[i].model_block = 1 + i % 4;
		overflow->runs[i].leaf_pages = 1;
	}
	add_page(page);
}

static const AlexLogChain no_chain = {
	.generation = 3, .head = InvalidBlockNumber, .tail = InvalidBlockNumber
};

/* Pages 1 to 3, the last one the tail. */
static const AlexLogChain chain = {
	.generation = 3, .head_stamp = 11, .tail_stamp = 13,
	.head = 1, .tail = 3, .npages = 3
};

static void
write_manifests(void)
{
	add8(1);
	add_metapage(0, 0, 0, &no_chain);
	write_input("manifest", "empty");

	add8(5);
	add_metapage(5, 5, 0, &chain);
	write_input("manifest", "runs");

	add8(5);
	add_metapage(7, 4, 2, &no_chain);
	add16(0);
	add16(0);
	add_overflow_page(33, 2, 4, 44);
	add_overflow_page(44, 1, InvalidBlockNumber, 0);
	write_input("manifest", "overflow");
}

static void
write_log(void)
{
	add8(4);
	add_metapage(0, 0, 0, &chain);
	for (int i = 1; i <= 3; i++)
	{
		make_log_page(10 + i, i, i < 3 ? (int) ALEX_LOG_PAGE_ENTRIES : 20,
					  i < 3 ? i + 1 : InvalidBlockNumber, i < 3 ? 11 + i : 0);
		add_page(page);
	}
	write_input("log", "chain");

	add8(1);
	add_metapage(0, 0, 0, &no_chain);
	write_input("log", "empty");
}

/* A record up to the blocks' pages; see fuzz_redo.c. */
static void
add_record(uint8 info, uint8 flags, const void *main_data, uint16 main_size,
		   const void *data, uint16 size)
{
	add8(info);
	add8(flags);
	add16(main_size);
	add16(size);
	add(main_data, main_size);
	if (size > 0)
		add(data, size);
}

static void
write_log_records(void)
{
	xl_alex_log_append append = {.first = 20,.count = 5};
	xl_alex_log_packed packed = {.first = 20,.part = ALEX_PART_VALUES};
	xl_alex_log_link link = {
		.stamp = 14, .incarnation = 9, .generation = 3, .npages = 4, .block = 1
	};

	make_entries(0, 5);
	add_record(XLOG_ALEX_LOG_APPEND, 1, &append, sizeof(append), entries,
			   5 * sizeof(AlexEntry));
	add8(1);
	make_log_page(11, 1, 20, InvalidBlockNumber, 0);
	add_page(page);
	write_input("redo", "append");

	for (int shape = 0; shape < lengthof(shapes); shape++)
	{
		char		name[64];

		packed.count = make_leaf(shape, 64, 0);
		add_record(XLOG_ALEX_LOG_PACKED, 1, &packed, sizeof(packed),
				   page + ALEX_PAGE_HASHED_FROM,
				   (uint16) used(page, BLCKSZ) - ALEX_PAGE_HASHED_FROM);
		add8(1);
		make_log_page(11, 1, 20, InvalidBlockNumber, 0);
		add_page(page);
		snprintf(name, sizeof(name), "packed-%s", shapes[shape]);
		write_input("redo", name);
	}

	add_record(XLOG_ALEX_LOG_LINK, 7, &link, sizeof(link), NULL, 0);
	add8(3);
	add_metapage(0, 0, 0, &chain);
	add16(0);
	make_log_page(11, 1, 20, InvalidBlockNumber, 0);
	add_page(page);
	write_input("redo", "link");
}

static void
write_other_records(void)
{
	uint16		slots[] = {1, 4, 9};
	xl_alex_run_pages run_pages = {.first_stamp = 50,.kind = ALEX_PAGE_LEAF,.npages = 2};
	xl_alex_manifest manifest = {.operation = ALEX_MANIFEST_INSTALL,.nruns = 1};
	xl_alex_dead dead = {.stamp = 50,.kind = ALEX_PAGE_LEAF,.count = 3};
	xl_alex_barrier barrier = {{0}};
	xl_alex_free free_pages = {.npages = 2};

	add_record(XLOG_ALEX_DEAD, 1, &dead, sizeof(dead), slots, sizeof(slots));
	add8(1);
	(void) make_leaf(3, 40, 50);
	add_page(page);
	write_input("redo", "dead-leaf");

	dead.stamp = 11;
	dead.kind = ALEX_PAGE_LOG;
	add_record(XLOG_ALEX_DEAD, 1, &dead, sizeof(dead), slots, sizeof(slots));
	add8(1);
	make_log_page(11, 1, 20, InvalidBlockNumber, 0);
	add_page(page);
	write_input("redo", "dead-log");

	add_record(XLOG_ALEX_RUN_PAGES, 1 | 2 | 8 | 16, &run_pages,
			   sizeof(run_pages), NULL, 0);
	add8(2);
	write_input("redo", "run-pages");
	add_record(XLOG_ALEX_MANIFEST, 1 | 2 | 8 | 16, &manifest, sizeof(manifest),
			   NULL, 0);
	add8(2);
	write_input("redo", "manifest");
	add_record(XLOG_ALEX_BARRIER, 0, &barrier, sizeof(barrier), NULL, 0);
	write_input("redo", "barrier");
	add_record(XLOG_ALEX_FREE, 3, &free_pages, sizeof(free_pages), NULL, 0);
	add8(2);
	write_input("redo", "free");
}

int
main(int argc, char **argv)
{
	if (argc != 2)
	{
		fprintf(stderr, "usage: seeds DIRECTORY\n");
		return 1;
	}
	directory = argv[1];
	encoder = malloc(alex_leaf_encoder_size());
	alex_leaf_encoder_init(encoder);

	write_leaf_pages();
	write_trees();
	for (int shape = 0; shape < lengthof(shapes); shape++)
		write_run(shape, shape % 2 == 0);
	write_manifests();
	write_log();
	write_log_records();
	write_other_records();
	return 0;
}
