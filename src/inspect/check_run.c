/*-------------------------------------------------------------------------
 *
 * check_run.c
 *	  Verification of a run: its place in the manifest, its model tree, its
 *	  Bloom filter and its leaf pages.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/check_run.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "check.h"

typedef struct RunCheck
{
	AlexCheck  *check;
	const AlexRun *run;
	char	   *model;			/* copies of its pages, or NULL */
	char	   *bloom;
	bool		live;			/* its entries count */

	/* what has been seen of its leaf pages */
	uint64		entries;
	uint64		dead;
	AlexEntry	last;			/* meaningful while entries > 0 */
} RunCheck;

/*
 * NULL, or what is wrong with the manifest's description as such.
 */
static const char *
run_fault(const AlexManifest *manifest, const AlexRun *run)
{
	bool		retired = (run->flags & ALEX_RUN_RETIRED) != 0;

	if (run->id == 0 || run->id >= manifest->next_run_id)
		return "its number was never given";
	if (run->generation >= manifest->next_generation)
		return "its generation was never started";
	if (!retired && run->generation != 0 &&
		(run->generation == manifest->active.generation ||
		 run->generation == manifest->frozen.generation))
		return "its generation is not sealed yet";
	if (run->part >= ALEX_PARTS)
		return "it is of an unknown part";
	if ((run->flags & ~(ALEX_RUN_RETIRED | ALEX_RUN_MOVED | ALEX_RUN_MERGING |
						ALEX_RUN_SUSPECT)) != 0)
		return "it has unknown flags";
	if ((run->flags & ALEX_RUN_SUSPECT) != 0 &&
		(run->flags & ALEX_RUN_MERGING) == 0)
		return "it is suspect although it is not being merged";
	if ((run->flags & ALEX_RUN_MERGING) != 0 && retired)
		return "it is being merged although it is retired";
	if ((run->flags & ALEX_RUN_MOVED) != 0 && !retired)
		return "its pages belong to another run although it is not retired";
	if (!retired && FullTransactionIdIsValid(run->safexid))
		return "it is not retired but says since when";
	if (!retired && run->dead_pages > run->leaf_pages)
		return "it has more dead pages than pages";
	if (retired &&
		(run->moved_pages > run->leaf_pages ||
		((run->flags & ALEX_RUN_MOVED) != 0) !=
		  (run->moved_pages == run->leaf_pages)))
		return "its number of moved pages is wrong";
	if (run->entries == 0 || run->leaf_pages == 0)
		return "it is empty";
	if (run->dead > run->entries)
		return "it has more dead entries than entries";
	if (alex_compare(run->min.key, run->min.tid,
					 run->max.key, run->max.tid) > 0)
		return "its first entry is greater than its last";

	if (run->model_pages == 0)
	{
		if (run->leaf_pages != 1 || run->model_lines != 0 || run->depth != 0)
			return "it has no model tree";
	}
	else if (run->model_pages != alex_model_pages(run->model_lines) ||
			 run->depth == 0)
		return "the size of its model tree is wrong";

	if (run->bloom_pages != (run->bloom_blocks + ALEX_BLOOM_PAGE_BLOCKS - 1) /
		ALEX_BLOOM_PAGE_BLOCKS)
		return "the size of its Bloom filter is wrong";

	return NULL;
}

/* Checks contiguous pages and returns a copy of them. */
static char *
copy_pages(AlexCheck *check, BlockNumber first, uint32 npages,
		   uint64 first_stamp, uint16 kind)
{
	char	   *copy;

	/* before the memory is allocated, as the number may be anything */
	if ((uint64) first + npages > RelationGetNumberOfBlocks(check->index))
		alex_check_fail(check, first, "its pages reach beyond the end of the file");

	copy = MemoryContextAllocHuge(CurrentMemoryContext, (Size) npages * BLCKSZ);
	for (uint32 i = 0; i < npages; i++)
	{
		alex_check_claim(check, first + i);
		alex_check_read_sealed(check, first + i, first_stamp + i, kind);
		memcpy(copy + (Size) i * BLCKSZ, check->page.data, BLCKSZ);
	}

	return copy;
}

static void
check_model(RunCheck *run_check)
{
	const AlexRun *run = run_check->run;
	AlexModelSource source = {0};
	const char *fault;

	run_check->model = copy_pages(run_check->check, run->model_block,
								  run->model_pages, run->model_stamp,
								  ALEX_PAGE_MODEL);
	source.nlines = run->model_lines;
	source.first_page = run_check->model;
	fault = alex_model_check(&source, run->model_lines, run->leaf_pages);
	if (fault != NULL)
		alex_check_fail(run_check->check, run->model_block, fault);
}

/* Where the leaf page of that number is. */
static AlexFence
run_fence(const RunCheck *run_check, uint32 number)
{
	const AlexRun *run = run_check->run;
	AlexFence	fence;

	if (run_check->model != NULL)
	{
		AlexModelSource source = {0};

		source.nlines = run->model_lines;
		source.first_page = run_check->model;
		alex_model_fence(&source, number, &fence);
	}
	else
	{
		fence.key = run->min.key;
		fence.tid = run->min.tid;
		fence.stamp = run->model_stamp;
		fence.block = run->model_block;
		fence.entries = run->entries;
	}
	return fence;
}

static bool
bloom_has(const RunCheck *run_check, uint64 key)
{
	uint64		hash = alex_bloom_hash(key);
	uint32		block = alex_bloom_block(hash, run_check->run->bloom_blocks);
	Size		line = 1 + block % ALEX_BLOOM_PAGE_BLOCKS;

	return alex_bloom_test(run_check->bloom +
						   (Size) (block / ALEX_BLOOM_PAGE_BLOCKS) * BLCKSZ +
						   line * ALEX_BLOOM_BLOCK_BYTES, hash);
}

/* NULL, or what is wrong with an entry of the leaf page at hand. */
static const char *
entry_fault(RunCheck *run_check, int index, uint64 key, uint64 tid)
{
	const AlexRun *run = run_check->run;

	if (run->part == ALEX_PART_NULLS && key != 0)
		return "an entry for a NULL has a key";
	if (run_check->bloom != NULL && !bloom_has(run_check, key))
		return "a key is missing from the Bloom filter";

	if (alex_leaf_is_dead(run_check->check->page.data, index))
	{
		run_check->dead++;
		return NULL;
	}
	if (!run_check->live)
		return NULL;
	return alex_check_entry(run_check->check, run->part, key, tid);
}

/* Checks the entries of the leaf page at hand. */
static void
check_leaf_entries(RunCheck *run_check, const AlexFence *fence)
{
	AlexCheck  *check = run_check->check;
	int			count = alex_leaf_count(check->page.data);
	uint64		keys[ALEX_LEAF_BLOCK];
	uint64		tids[ALEX_LEAF_BLOCK];

	for (int first = 0; first < count; first += ALEX_LEAF_BLOCK)
	{
		int			n = Min(count - first, ALEX_LEAF_BLOCK);

		alex_leaf_unpack(check->page.data, first, n, keys, tids);

		if (first == 0 && (keys[0] != fence->key || tids[0] != fence->tid))
			alex_check_fail(check, fence->block, "its first entry is not the one that the model tree tells");

		for (int i = 0; i < n; i++)
		{
			const char *fault;

			if (run_check->entries > 0 &&
				alex_compare(run_check->last.key, run_check->last.tid,
							 keys[i], tids[i]) >= 0)
				alex_check_fail(check, fence->block, "an entry is not greater than the one before");
			run_check->last.key = keys[i];
			run_check->last.tid = tids[i];
			run_check->entries++;

			fault = entry_fault(run_check, first + i, keys[i], tids[i]);
			if (fault != NULL)
				alex_check_fail(check, fence->block, fault);
		}
	}
}

static void
check_leaf(RunCheck *run_check, const AlexFence *fence)
{
	AlexCheck  *check = run_check->check;
	const char *fault;

	alex_check_claim(check, fence->block);
	alex_check_read_sealed(check, fence->block, fence->stamp, ALEX_PAGE_LEAF);

	fault = alex_leaf_check(check->page.data);
	if (fault != NULL)
		alex_check_fail(check, fence->block, fault);
	if (alex_leaf_count(check->page.data) != fence->entries)
		alex_check_fail(check, fence->block,
						psprintf("it has %d entries instead of %u",
								 alex_leaf_count(check->page.data),
								 fence->entries));

	check_leaf_entries(run_check, fence);
}

/*
 * Of a run of which some leaf pages were taken over, only the others are its
 * own.  Younger runs have been checked before, and have claimed theirs.
 */
static void
claim_leaves_that_stayed(RunCheck *run_check)
{
	const AlexRun *run = run_check->run;
	AlexCheck  *check = run_check->check;
	uint32		moved = 0;

	for (uint32 i = 0; i < run->leaf_pages; i++)
	{
		AlexFence	fence = run_fence(run_check, i);

		if (alex_check_is_claimed(check, fence.block))
			moved++;
		else
			check_leaf(run_check, &fence);
	}
	if (moved != run->moved_pages)
		alex_check_fail(check, run->model_block,
						psprintf("%u of its leaf pages belong to others instead of %u",
								 moved, run->moved_pages));
}

/*
 * Leaf pages that were taken over belong to a younger run, and are checked
 * there.
 */
static void
check_leaves(RunCheck *run_check)
{
	const AlexRun *run = run_check->run;
	AlexCheck  *check = run_check->check;

	if ((run->flags & ALEX_RUN_MOVED) != 0)
		return;

	if (!run_check->live && run->moved_pages > 0)
	{
		claim_leaves_that_stayed(run_check);
		return;
	}

	for (uint32 i = 0; i < run->leaf_pages; i++)
	{
		AlexFence	fence = run_fence(run_check, i);

		if (i == 0 && (fence.key != run->min.key || fence.tid != run->min.tid))
			alex_check_fail(check, fence.block, "its first entry is not the one that the manifest tells");
		check_leaf(run_check, &fence);
	}

	if (run_check->last.key != run->max.key ||
		run_check->last.tid != run->max.tid)
		alex_check_fail(check, run->model_block, "its last entry is not the one that the manifest tells");
	if (run_check->entries != run->entries)
		alex_check_fail(check, run->model_block,
						psprintf("it has " UINT64_FORMAT " entries instead of " UINT64_FORMAT,
								 run_check->entries, run->entries));

	/* a VACUUM that was cancelled leaves more than it could count */
	if (run_check->dead < run->dead)
		alex_check_fail(check, run->model_block,
						psprintf("it has " UINT64_FORMAT " dead entries instead of " UINT64_FORMAT,
								 run_check->dead, run->dead));
}

void
alex_check_run(AlexCheck *check, const AlexRun *run)
{
	RunCheck	run_check = {0};
	const char *fault;

	check->subject = psprintf("Run " UINT64_FORMAT, run->id);

	fault = run_fault(check->manifest, run);
	if (fault != NULL)
		alex_check_fail(check, ALEX_META_BLOCK, fault);

	run_check.check = check;
	run_check.run = run;
	run_check.live = (run->flags & ALEX_RUN_RETIRED) == 0;

	/*
	 * In recovery nothing keeps the pages of a retired run from being freed
	 * and used again, unless our snapshot is older than its retirement.
	 */
	if (!run_check.live && RecoveryInProgress())
		return;

	if (run->model_pages > 0)
		check_model(&run_check);
	if (run->bloom_pages > 0)
		run_check.bloom = copy_pages(check, run->bloom_block, run->bloom_pages,
									 run->bloom_stamp, ALEX_PAGE_BLOOM);

	check_leaves(&run_check);

	if (run_check.model != NULL)
		pfree(run_check.model);
	if (run_check.bloom != NULL)
		pfree(run_check.bloom);
}
