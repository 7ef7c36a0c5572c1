/*-------------------------------------------------------------------------
 *
 * fuzz_manifest.c
 *	  Metapage and manifest of arbitrary bytes.
 *
 * What is let pass lists runs and chains that lie within the file.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include "alex/store.h"

static void
require_chain(const AlexLogChain *chain, BlockNumber nblocks)
{
	FUZZ_REQUIRE(chain->npages < nblocks);
	if (chain->npages > 0)
		FUZZ_REQUIRE(chain->head < nblocks && chain->tail < nblocks);
}

static void
require_sound(Relation index, const AlexManifest *manifest)
{
	BlockNumber nblocks = RelationGetNumberOfBlocks(index);

	require_chain(&manifest->active, nblocks);
	require_chain(&manifest->frozen, nblocks);
	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		FUZZ_REQUIRE(run->part < ALEX_PARTS && run->entries > 0);
		FUZZ_REQUIRE((uint64) run->model_block + Max(run->model_pages, 1) <= nblocks);
		FUZZ_REQUIRE(run->bloom_pages == 0 ||
					 (uint64) run->bloom_block + run->bloom_pages <= nblocks);
	}
}

static void
read_manifest(void *argument)
{
	Relation	index = (Relation) argument;

	require_sound(index, alex_manifest_read(index));
}

/* The same with all pages locked at a time. */
static void
begin_change(void *argument)
{
	Relation	index = (Relation) argument;
	AlexManifestChange change;

	alex_manifest_change_begin(index, 0, &change);
	require_sound(index, change.manifest);
	alex_manifest_change_end(&change);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {data, size};
	Relation	index = server_take_relation(&input);

	FUZZ_REQUIRE(server_try(read_manifest, index) ==
				 server_try(begin_change, index));
	return 0;
}
