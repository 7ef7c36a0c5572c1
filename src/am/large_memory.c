/*-------------------------------------------------------------------------
 *
 * large_memory.c
 *	  Large arrays, in huge pages where the operating system has them.
 *
 * Entries are collected and sorted in arrays of many megabytes.  In pages of 4
 * kB the first touch of each page is a fault, and a radix sort, which writes to
 * dozens of places in turn, is short of entries in the processor's translation
 * buffers.  So the kernel is asked for huge pages.  That is a hint, which may
 * come to nothing.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/large_memory.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/mman.h>

#include "alex/sorter.h"

/* Huge pages of most processors; smaller ones are aligned to this as well. */
#define HUGE_PAGE_SIZE			(2 * 1024 * 1024)

static void *
prefer_huge_pages(void *pointer, Size size)
{
#ifdef MADV_HUGEPAGE
	char	   *begin = (char *) TYPEALIGN(HUGE_PAGE_SIZE, pointer);
	char	   *end = (char *) TYPEALIGN_DOWN(HUGE_PAGE_SIZE,
											  (char *) pointer + size);

	if (begin < end)
		(void) madvise(begin, end - begin, MADV_HUGEPAGE);
#endif
	return pointer;
}

void *
alex_large_alloc(MemoryContext context, Size size)
{
	return prefer_huge_pages(MemoryContextAllocHuge(context, size), size);
}

void *
alex_large_realloc(void *pointer, Size size)
{
	return prefer_huge_pages(repalloc_huge(pointer, size), size);
}
