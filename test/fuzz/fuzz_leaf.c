/*-------------------------------------------------------------------------
 *
 * fuzz_leaf.c
 *	  Leaf pages of arbitrary bytes.
 *
 * The check must stand any page; and so must all that reads a page, as far as
 * memory goes, since with alexam.verify_checksums = off nothing but stamp,
 * kind and version is compared, and a page once verified may be read from a
 * damaged disk anew.  What the check lets pass must also be consistent.
 *
 * Input: 16 bytes of key and TID to look for, then the page from byte 32 on.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "../../src/learned/leaf_format.h"

#define INPUT_START		32

static uint8_t *page;

/* Any page: the answers mean nothing, but they must be possible ones. */
static void
read_any(uint64_t key, uint64_t tid)
{
	int			count = alex_leaf_count(page);
	uint64_t	keys[ALEX_LEAF_BLOCK];
	uint64_t	tids[ALEX_LEAF_BLOCK];
	AlexLeafShape shape = {0};
	int			found = alex_leaf_search(page, key, tid);

	FUZZ_REQUIRE(found >= 0 && found <= count);
	FUZZ_REQUIRE(alex_leaf_search_shape(page, key, tid, &shape) == found);
	alex_leaf_prefetch(page, &shape, (uint32_t) count, 0.5);
	(void) alex_leaf_hash(page);
	if (found < count)
	{
		(void) alex_leaf_key(page, found);
		(void) alex_leaf_tid(page, found);
		(void) alex_leaf_is_dead(page, found);
	}

	/* from the ends and from where the search led, across a block's end */
	for (int i = 0; i < 3; i++)
	{
		int			first = i == 0 ? 0 :
			i == 1 ? count - ALEX_LEAF_BLOCK : found - (int) (key % 7);
		int			n;

		if (first < 0)
			first = 0;
		n = count - first < ALEX_LEAF_BLOCK ? count - first : ALEX_LEAF_BLOCK;
		alex_leaf_unpack(page, first, n, keys, tids);
	}
}

/* A page that passed the check holds one list of entries, however read. */
static void
read_sound(uint64_t key, uint64_t tid)
{
	int			count = alex_leaf_count(page);
	int			found = alex_leaf_search(page, key, tid);

	for (int first = 0; first < count; first += ALEX_LEAF_BLOCK)
	{
		uint64_t	keys[ALEX_LEAF_BLOCK];
		uint64_t	tids[ALEX_LEAF_BLOCK];
		int			n = count - first < ALEX_LEAF_BLOCK ? count - first :
			ALEX_LEAF_BLOCK;
		int			step = n / 8 + 1;

		alex_leaf_unpack(page, first, n, keys, tids);
		for (int i = 0; i < n; i++)
			FUZZ_REQUIRE((alex_compare(keys[i], tids[i], key, tid) < 0) ==
						 (first + i < found));
		for (int i = 0; i < n; i += step)
		{
			FUZZ_REQUIRE(alex_leaf_key(page, first + i) == keys[i]);
			FUZZ_REQUIRE(alex_leaf_tid(page, first + i) == tids[i]);
			FUZZ_REQUIRE(alex_leaf_search(page, keys[i], tids[i]) == first + i);
		}
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {data, size};
	uint64_t	key = fuzz_take64(&input);
	uint64_t	tid = fuzz_take64(&input) & ALEX_TID_MAX;
	AlexPageHeader *header;

	if (page == NULL)
		page = malloc(ALEX_PAGE_SIZE);
	memset(page, 0, INPUT_START);
	fuzz_take(&input, page + INPUT_START, ALEX_PAGE_SIZE - INPUT_START);

	header = (AlexPageHeader *) page;
	if (alex_leaf_check(page) == NULL)
		read_sound(key, tid);
	header->kind = ALEX_PAGE_LEAF;
	header->version = ALEX_SEALED_VERSION;
	read_any(key, tid);
	return 0;
}
