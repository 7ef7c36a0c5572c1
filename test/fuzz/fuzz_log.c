/*-------------------------------------------------------------------------
 *
 * fuzz_log.c
 *	  Chains of log pages of arbitrary bytes.
 *
 * The chain is the one that the metapage describes.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "server.h"

#include "alex/store.h"

static Relation index_relation;
static uint64 taken;

static void
take(const AlexLogEntry *entries, int n, void *context)
{
	uint64		sum = 0;

	for (int i = 0; i < n; i++)
		sum += entries[i].key + ALEX_LOG_TID(&entries[i]);
	*(volatile uint64 *) context = sum;
	taken += n;
	FUZZ_REQUIRE(taken <= SERVER_PAGES * ALEX_LOG_PAGE_ENTRIES);
}

static void
read_chain(void *argument)
{
	const AlexLogChain *chain = &alex_manifest_read(index_relation)->active;
	AlexLogPosition position = {0};
	uint64		sum;
	uint64		again = 0;
	uint64		count;

	taken = 0;
	(void) alex_log_count(index_relation, chain, &count);
	if (alex_log_read(index_relation, chain, &position, take, &sum))
	{
		/* whoever goes on from the end finds nothing more */
		again = taken;
		FUZZ_REQUIRE(alex_log_read(index_relation, chain, &position, take, &sum));
		FUZZ_REQUIRE(taken == again);
	}
}

static void
list_pages(void *argument)
{
	const AlexLogChain *chain = &alex_manifest_read(index_relation)->active;
	int			npages;
	AlexPagePointer *pages = alex_log_pages(index_relation, chain, &npages);

	for (int i = 0; i < npages; i++)
		FUZZ_REQUIRE(pages[i].block < SERVER_PAGES);
}

static void
find_break(void *argument)
{
	alex_log_check_unbroken(index_relation,
							alex_manifest_read(index_relation));
}

/* The lock of the tail; a chain that must be extended is not our business. */
static void
lock_tail(void *argument)
{
	const AlexLogChain *chain = &alex_manifest_read(index_relation)->active;
	AlexLogPosition hint = {0};
	uint32		linked;

	if (chain->tail >= SERVER_PAGES || chain->tail_stamp == 0 ||
		((AlexLogPage *) server_page(chain->tail))->count >= ALEX_LOG_PAGE_ENTRIES)
		return;
	((AlexMetaPage *) server_page(0))->active = *chain;
	hint.block = chain->tail;
	hint.stamp = chain->tail_stamp;
	UnlockReleaseBuffer(alex_log_lock_tail(index_relation, hint, InvalidBuffer,
										   &linked));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {data, size};

	index_relation = server_take_relation(&input);
	(void) server_try(read_chain, NULL);
	(void) server_try(list_pages, NULL);
	(void) server_try(find_break, NULL);
	(void) server_try(lock_tail, NULL);
	return 0;
}
