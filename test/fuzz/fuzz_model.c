/*-------------------------------------------------------------------------
 *
 * fuzz_model.c
 *	  Model trees of arbitrary bytes.
 *
 * The check and all lookups must stay within the tree's pages, mapped in a
 * row or handed out one at a time, and lookups must give the number of a
 * fence.
 *
 * Input: 16 bytes of key and TID to look for, one byte for the number of
 * lines, then the lines.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"

#include "../../src/learned/model_format.h"

#define MAX_LINES		255

static char *pages[(MAX_LINES - 1) / ALEX_MODEL_PAGE_LINES + 1];
static uint32_t npages;

static const void *
get_page(void *context, uint32_t number)
{
	FUZZ_REQUIRE(number < npages);
	return pages[number];
}

/* Looks into the tree in every way; returns the fence that was found. */
static uint32_t
read_tree(const AlexModelSource *source, uint64_t key, uint64_t tid)
{
	uint32_t	nfences = alex_model_nfences(source);
	uint32_t	found = alex_model_find(source, key, tid);
	double		fraction;
	AlexFence	fence;

	FUZZ_REQUIRE(found < nfences || found == 0);
	alex_model_fence(source, found, &fence);
	alex_model_place(source, found, &fence);
	alex_model_fence(source, nfences, &fence);
	fraction = alex_model_fraction(source, found, key);
	FUZZ_REQUIRE(fraction >= 0 && fraction <= 1);
	return found;
}

/* A tree that passed the check leads to the last fence that is not greater. */
static void
read_sound(const AlexModelSource *source, uint32_t nfences, uint64_t key,
		   uint64_t tid)
{
	uint32_t	found = alex_model_find(source, key, tid);

	for (uint32_t i = 0; i < nfences; i++)
	{
		AlexFence	fence;
		bool		beyond;

		alex_model_fence(source, i, &fence);
		beyond = alex_compare(fence.key, fence.tid, key, tid) > 0;
		FUZZ_REQUIRE(i == 0 || beyond == (i > found));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {data, size};
	uint64_t	key = fuzz_take64(&input);
	uint64_t	tid = fuzz_take64(&input) & ALEX_TID_MAX;
	uint32_t	nlines = fuzz_take8(&input);
	AlexModelSource mapped = {0};
	AlexModelSource handed_out = {0};
	char	   *row;
	uint32_t	nfences;
	uint32_t	found;

	nlines = nlines > 0 ? nlines : 1;
	npages = alex_model_pages(nlines);

	/* pages in a row, of which only the lines may be read */
	row = malloc((size_t) (nlines + npages) * ALEX_LINE_SIZE);
	for (uint32_t i = 0; i < npages; i++)
	{
		char	   *page = row + (size_t) i * ALEX_PAGE_SIZE;
		uint32_t	lines = nlines - i * ALEX_MODEL_PAGE_LINES;
		size_t		bytes;

		if (lines > ALEX_MODEL_PAGE_LINES)
			lines = ALEX_MODEL_PAGE_LINES;
		bytes = (size_t) (lines + 1) * ALEX_LINE_SIZE;
		memset(page, 0, ALEX_LINE_SIZE);
		fuzz_take(&input, page + ALEX_LINE_SIZE, bytes - ALEX_LINE_SIZE);
		pages[i] = malloc(bytes);
		memcpy(pages[i], page, bytes);
	}
	mapped.first_page = row;
	mapped.nlines = nlines;
	handed_out.get_page = get_page;
	handed_out.nlines = nlines;

	nfences = alex_model_nfences(&mapped);
	FUZZ_REQUIRE(alex_model_nfences(&handed_out) == nfences);
	if (alex_model_check(&mapped, nlines, nfences) == NULL)
	{
		FUZZ_REQUIRE(alex_model_check(&handed_out, nlines, nfences) == NULL);
		read_sound(&mapped, nfences, key, tid);
	}
	(void) alex_model_check(&handed_out, nlines, (uint32_t) key);
	found = read_tree(&mapped, key, tid);
	FUZZ_REQUIRE(read_tree(&handed_out, key, tid) == found);

	for (uint32_t i = 0; i < npages; i++)
		free(pages[i]);
	free(row);
	return 0;
}
