/*-------------------------------------------------------------------------
 *
 * page_hash.c
 *	  The hash that every sealed page carries.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/page_hash.c
 *
 *-------------------------------------------------------------------------
 */
#include "alex/learned.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t
alex_page_hash(const void *page, uint64_t stamp, int end)
{
	return XXH3_64bits_withSeed((const char *) page + ALEX_PAGE_HASHED_FROM,
								(size_t) (end - ALEX_PAGE_HASHED_FROM),
								stamp);
}
