/*-------------------------------------------------------------------------
 *
 * fuzz_run.c
 *	  Probes of a run: Bloom filter, model tree and leaf pages of arbitrary
 *	  bytes, as a scan reads them.
 *
 * Input: the run as the manifest would list it, a byte with options, a key
 * and a TID, then the pages.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include "alex/am.h"
#include "alex/store.h"

typedef struct Probe
{
	Relation	index;
	AlexRun		run;
	uint64		key;
	uint64		tid;
} Probe;

static void
read_leaf(AlexReader *reader, const AlexFence *fence, const Probe *probe)
{
	AlexPageReference leaf = ALEX_PAGE_REFERENCE_NONE;
	uint64		keys[ALEX_LEAF_BLOCK];
	uint64		tids[ALEX_LEAF_BLOCK];
	int			found;
	int			count;

	alex_page_open(reader, fence->block, fence->stamp, ALEX_PAGE_LEAF,
				   probe->run.id, false, &leaf);
	count = alex_leaf_count(leaf.page);
	found = alex_leaf_search(leaf.page, probe->key, probe->tid);
	FUZZ_REQUIRE(found >= 0 && found <= count);
	alex_leaf_unpack(leaf.page, found, Min(count - found, ALEX_LEAF_BLOCK),
					 keys, tids);
	alex_page_close(&leaf);
}

static void
probe_run(void *argument)
{
	Probe	   *probe = (Probe *) argument;
	AlexReader	reader;
	AlexRunReader run_reader;
	AlexFence	fence;

	alex_reader_init(&reader, probe->index, 1);
	alex_run_open(&run_reader, &reader, &probe->run);
	(void) alex_run_may_contain(&run_reader, probe->key);
	alex_run_place(&run_reader, alex_run_find(&run_reader, probe->key,
											  probe->tid), &fence);
	read_leaf(&reader, &fence, probe);
	alex_run_fence(&run_reader, probe->run.leaf_pages - 1, &fence);
	read_leaf(&reader, &fence, probe);
	alex_run_close(&run_reader);
	alex_reader_end(&reader);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool initialized = false;
	FuzzInput	input = {data, size};
	Probe		probe;

	if (!initialized)
		alex_verified_shmem_init();
	initialized = true;

	fuzz_take(&input, &probe.run, sizeof(probe.run));
	alex_verify_checksums = (fuzz_take8(&input) & 1) != 0;
	probe.key = fuzz_take64(&input);
	probe.tid = fuzz_take64(&input) & ALEX_TID_MAX;
	probe.index = server_take_relation(&input);
	(void) server_try(probe_run, &probe);
	return 0;
}
