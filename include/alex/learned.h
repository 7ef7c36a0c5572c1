/*-------------------------------------------------------------------------
 *
 * learned.h
 *	  The learned room: packed leaf pages, model trees, the gapped-array
 *	  ALEX of the memtable, Bloom filters and the entry sort.
 *
 * Nothing here calls the server: the room is compiled into the extension
 * and, unchanged, into the stand-alone unit tests, fuzzers and benchmarks.
 * No function raises an error; what can fail says so in its result.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/learned.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_LEARNED_H
#define ALEX_LEARNED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sealed pages have PostgreSQL's default page size; no other is supported. */
#define ALEX_PAGE_SIZE			8192
#define ALEX_LINE_SIZE			64

/*
 * An entry: the key's order-preserving lane and the heap TID as one number,
 * block << 16 | offset.  Entries are ordered by key, then TID.
 */
typedef struct AlexEntry
{
	uint64_t	key;
	uint64_t	tid;
} AlexEntry;

#define ALEX_TID_BITS			48
#define ALEX_TID_MAX			((UINT64_C(1) << ALEX_TID_BITS) - 1)
#define ALEX_TID(block, offset) \
	(((uint64_t) (block) << 16) | (uint64_t) (offset))
#define ALEX_TID_BLOCK(tid)		((uint32_t) ((tid) >> 16))
#define ALEX_TID_OFFSET(tid)	((uint16_t) ((tid) & 0xFFFF))

static inline int
alex_compare(uint64_t key1, uint64_t tid1, uint64_t key2, uint64_t tid2)
{
	if (key1 != key2)
		return key1 < key2 ? -1 : 1;
	if (tid1 != tid2)
		return tid1 < tid2 ? -1 : 1;
	return 0;
}

/*
 * What every page of an index begins with.  The first 24 bytes are
 * PostgreSQL's page header (LSN, checksum, pd_lower, pd_upper, pd_special);
 * the learned room never looks at them.  "stamp" is a unique number given to
 * the page at its birth; whoever points at the page holds it too.  "hash" is
 * the XXH3-64 of the bytes from offset 48 to the end of the immutable part,
 * seeded with the stamp (sealed pages only).
 */
typedef struct AlexPageHeader
{
	uint8_t		page_header[24];
	uint64_t	stamp;
	uint64_t	hash;
	uint16_t	kind;			/* one of ALEX_PAGE_... */
	uint16_t	version;		/* format version of this kind of page */
	uint16_t	ndead;			/* leaf: entries with the dead bit set */
	uint16_t	unused;			/* zero */
	/* 48: what follows depends on the kind */
} AlexPageHeader;

#define ALEX_PAGE_HASHED_FROM	48
#define ALEX_SEALED_VERSION		1

/* Page kinds; odd values that random bytes rarely hit. */
#define ALEX_PAGE_META			0xA101
#define ALEX_PAGE_MANIFEST		0xA102
#define ALEX_PAGE_LOG			0xA103
#define ALEX_PAGE_LEAF			0xA104
#define ALEX_PAGE_MODEL			0xA105
#define ALEX_PAGE_BLOOM			0xA106
#define ALEX_PAGE_FREE			0xA107

static inline const AlexPageHeader *
alex_page_header(const void *page)
{
	return (const AlexPageHeader *) page;
}

/* XXH3-64 of bytes [ALEX_PAGE_HASHED_FROM, end) of a page, seeded by stamp. */
extern uint64_t alex_page_hash(const void *page, uint64_t stamp, int end);

/*
 * ---------------------------------------------------------------------
 * leaf.c, leaf_encode.c: packed, immutable leaf pages
 * ---------------------------------------------------------------------
 */

/* More entries than this never share a page. */
#define ALEX_LEAF_MAX_ENTRIES	32767
/* A scan unpacks this many entries at a time; also the mini-block size. */
#define ALEX_LEAF_BLOCK			128

/*
 * Packs as many leading entries of the sorted array as fit into one page
 * (at least one, at most ALEX_LEAF_MAX_ENTRIES) and returns that number.
 * Writes all of bytes [24, ALEX_PAGE_SIZE), kind, stamp and hash included.
 * TIDs must be <= ALEX_TID_MAX.  *scratch is working memory, see below.
 * Returns 0 if what was packed does not unpack to the same entries (a bug or
 * broken hardware; the caller raises an error).
 */
typedef struct AlexLeafEncoder AlexLeafEncoder;
extern size_t alex_leaf_encoder_size(void);
extern void alex_leaf_encoder_init(AlexLeafEncoder *encoder);
extern int	alex_leaf_encode(AlexLeafEncoder *encoder, void *page,
							 uint64_t stamp, const AlexEntry *entries,
							 int nentries);

extern int	alex_leaf_count(const void *page);
extern int	alex_leaf_dead_count(const void *page);
/* The same, as the bits say; for a page of which the header is right. */
extern int	alex_leaf_count_dead_bits(const void *page);
extern uint64_t alex_leaf_key(const void *page, int index);
extern uint64_t alex_leaf_tid(const void *page, int index);

/* The first index whose entry is >= (key, tid), or the count if none is. */
extern int	alex_leaf_search(const void *page, uint64_t key, uint64_t tid);

/*
 * How the columns of a page lie; much the same on the next page of a run.
 */
typedef struct AlexLeafShape
{
	uint16_t	data;			/* where the data begins on the page; 0: no page
								 * was looked at yet */
	uint8_t		bits;			/* of an entry behind the keys */
	uint8_t		tid_bits;		/* of these, in the column that comes first */
} AlexLeafShape;

/* The same, noting the page's shape. */
extern int	alex_leaf_search_shape(const void *page, uint64_t key,
								   uint64_t tid, AlexLeafShape *shape);

/*
 * Asks for the cache lines of a page that a search near the position, which
 * is a fraction of the page, and the reading of what it finds will touch.  A
 * wrong guess costs time, nothing else.
 */
extern void alex_leaf_prefetch(const void *page, const AlexLeafShape *shape,
							   uint32_t nentries, double fraction);

/*
 * Unpacks entries [first, first + count) into keys[] and tids[]; count is at
 * most ALEX_LEAF_BLOCK.  Dead entries are unpacked like all others.  Either
 * array may be NULL: keys and TIDs do not share cache lines.
 */
extern void alex_leaf_unpack(const void *page, int first, int count,
							 uint64_t *keys, uint64_t *tids);

extern bool alex_leaf_is_dead(const void *page, int index);

/* Sets the dead bit; false if it was set already.  Keeps ndead true. */
extern bool alex_leaf_set_dead(void *page, int index);

/* Recomputes the hash of the immutable part. */
extern uint64_t alex_leaf_hash(const void *page);

/*
 * Checks every offset, width and count of a page of unknown origin, then
 * that its entries are in order and its dead count is right.  Returns NULL,
 * or a constant string that says what is wrong (lower case, no full stop).
 * Never reads outside the page, whatever its bytes.  Does not check the hash.
 */
extern const char *alex_leaf_check(const void *page);

/*
 * ---------------------------------------------------------------------
 * model.c, model_train.c: the model tree over a run's fences
 * ---------------------------------------------------------------------
 */

/* A leaf page's first entry, and where the page is. */
typedef struct AlexFence
{
	uint64_t	key;
	uint64_t	tid;
	uint64_t	stamp;
	uint32_t	block;
	uint32_t	entries;		/* on the page, dead ones included */
} AlexFence;

/* Model pages hold 64-byte lines after a first line for the page header. */
#define ALEX_MODEL_PAGE_LINES	(ALEX_PAGE_SIZE / ALEX_LINE_SIZE - 1)

typedef struct AlexModelInfo
{
	uint32_t	nlines;			/* 64-byte lines of the trained tree */
	uint32_t	nnodes;			/* inner and data nodes */
	uint32_t	depth;			/* 1 = the root is a data node */
	double		expected_cost;	/* of a lookup, in the cost model's units */
} AlexModelInfo;

/*
 * Trains a model tree over sorted, distinct fences.  Returns the lines, made
 * with allocate(size), or NULL when allocate returned NULL.  Line 0 is the
 * root.  The caller cuts them into pages with alex_model_page().
 */
typedef void *(*AlexAllocate) (size_t size);
typedef void (*AlexRelease) (void *pointer);
extern void *alex_model_train(const AlexFence *fences, uint32_t nfences,
							  AlexAllocate allocate, AlexRelease release,
							  AlexModelInfo *info);

/* Pages needed for that many lines. */
extern uint32_t alex_model_pages(uint32_t nlines);

/* Writes bytes [24, ALEX_PAGE_SIZE) of page number "number" of the tree. */
extern void alex_model_page(void *page, uint64_t stamp, uint32_t number,
							const void *lines, uint32_t nlines);

/*
 * Where the lines of a tree are: contiguous mapped pages (first_page), or,
 * when that is NULL, pages handed out one at a time by get_page.  A page
 * that get_page returned stays valid until its next call but one.  nlines is
 * what the caller knows to be there: no other line is read, whatever the tree
 * says.
 */
typedef struct AlexModelSource
{
	uint32_t	nlines;
	const char *first_page;
	const void *(*get_page) (void *context, uint32_t number);
	void	   *context;
} AlexModelSource;

/*
 * The number of the last fence that is <= (key, tid); 0 when even the first
 * fence is greater.
 */
extern uint32_t alex_model_find(const AlexModelSource *source,
								uint64_t key, uint64_t tid);

/*
 * The same for several keys, with the least TID, in a mapped tree: the waits
 * for memory overlap.  Fetches the places of the fences found, too.
 */
#define ALEX_MODEL_GROUP		64
extern void alex_model_find_group(const AlexModelSource *source,
								  const uint64_t *keys, int nkeys,
								  uint32_t *numbers);
extern uint32_t alex_model_nfences(const AlexModelSource *source);
extern void alex_model_fence(const AlexModelSource *source, uint32_t number,
							 AlexFence *fence);
/* How far key is from a fence to the next one: from 0 to 1, roughly. */
extern double alex_model_fraction(const AlexModelSource *source,
								  uint32_t number, uint64_t key);
/* Stamp, block and entries only, which stand in one cache line. */
extern void alex_model_place(const AlexModelSource *source, uint32_t number,
							 AlexFence *fence);

/*
 * Checks a tree of unknown origin: every offset and count within nlines,
 * fences in order and as many as nfences, and that every fence is found from
 * its own key.  Returns NULL or what is wrong.  A lookup in a tree that
 * fails this check may return a wrong fence, but never reads a line beyond
 * those of the source, nor loops for ever.
 */
extern const char *alex_model_check(const AlexModelSource *source,
									uint32_t nlines, uint32_t nfences);

/*
 * ---------------------------------------------------------------------
 * tree.c: the gapped-array ALEX over a log's entries (the memtable)
 * ---------------------------------------------------------------------
 *
 * Nodes are chunks of ALEX_PAGE_SIZE bytes out of an arena and address each
 * other by chunk number, so that the tree can live in shared memory that is
 * mapped anywhere.  The caller serializes: one writer and no reader, or any
 * number of readers.
 */
#define ALEX_NO_CHUNK			UINT32_MAX

typedef struct AlexChunks
{
	char	   *base;			/* address of chunk 0 */
	uint32_t	(*allocate) (void *context);	/* ALEX_NO_CHUNK: none left */
	void		(*release) (void *context, uint32_t chunk);
	void	   *context;
} AlexChunks;

typedef struct AlexTree
{
	uint32_t	root;			/* ALEX_NO_CHUNK when empty */
	uint32_t	height;			/* 0 when empty, 1 = the root is a data node */
	uint64_t	nentries;
	uint32_t	nchunks;
	uint32_t	first_data;		/* leftmost and rightmost data node */
	uint32_t	last_data;
	uint32_t	unused;
	AlexEntry	min;			/* meaningful while nentries > 0; may be */
	AlexEntry	max;			/* wider than the entries after deletions */
} AlexTree;

typedef enum AlexTreeResult
{
	ALEX_TREE_DONE,
	ALEX_TREE_PRESENT,			/* the entry was there already */
	ALEX_TREE_NO_MEMORY			/* nothing was changed */
} AlexTreeResult;

extern void alex_tree_init(AlexTree *tree);

/*
 * The number of chunks that one insert can need at most.  With that many to
 * be had, alex_tree_insert never returns ALEX_TREE_NO_MEMORY.
 */
extern uint32_t alex_tree_insert_chunks(const AlexTree *tree);
extern AlexTreeResult alex_tree_insert(AlexChunks *chunks, AlexTree *tree,
									   AlexEntry entry);

/*
 * Inserts ascending entries; those that are there already stay as they are.
 * *done is set to the number of entries, from the first on, that the tree has
 * now; fewer than nentries only with ALEX_TREE_NO_MEMORY.
 */
extern AlexTreeResult alex_tree_insert_batch(AlexChunks *chunks,
											 AlexTree *tree,
											 const AlexEntry *entries,
											 size_t nentries, size_t *done);

/* False when the entry is not there. */
extern bool alex_tree_delete(AlexChunks *chunks, AlexTree *tree,
							 AlexEntry entry);

/*
 * Copies up to max entries into out[], in the direction asked for, that come
 * after position "from" (or at it, if inclusive).  Returns how many; fewer
 * than max only at the end of the tree.
 */
extern int	alex_tree_scan(const AlexChunks *chunks, const AlexTree *tree,
						   AlexEntry from, bool inclusive, bool forward,
						   AlexEntry *out, int max);

/*
 * Finds the place that parts "count" entries from those behind them.  Going
 * forward they are counted from "from" on, and *boundary is the entry after
 * them; going backward those before "from" are counted, and *boundary is the
 * first of them.  False when there is no such entry.  Takes time in proportion
 * to the count.
 */
extern bool alex_tree_skip(const AlexChunks *chunks, const AlexTree *tree,
						   AlexEntry from, bool forward, uint64_t count,
						   AlexEntry *boundary);

/*
 * Copies the first entries, up to max, of each of several keys: those of key i
 * to out[i * max] and behind, counts[i] of them.  The waits for memory overlap.
 * The keys are at most ALEX_TREE_GROUP.
 */
#define ALEX_TREE_GROUP			64
extern void alex_tree_scan_keys(const AlexChunks *chunks, const AlexTree *tree,
								const uint64_t *keys, int nkeys,
								AlexEntry *out, int max, uint8_t *counts);

/* The number of entries in [low, high); roughly, if there are many. */
extern double alex_tree_count(const AlexChunks *chunks, const AlexTree *tree,
							  AlexEntry low, AlexEntry high);

/* Gives all chunks back. */
extern void alex_tree_free(AlexChunks *chunks, AlexTree *tree);

/* NULL, or what is wrong with the tree's structure. */
extern const char *alex_tree_check(const AlexChunks *chunks,
								   const AlexTree *tree);

/*
 * ---------------------------------------------------------------------
 * sort.c: radix sort of entries by (key, TID)
 * ---------------------------------------------------------------------
 *
 * "scratch" has room for as many entries as are sorted.  The result is in
 * entries[].  Already sorted input costs one pass.
 */
extern void alex_sort(AlexEntry *entries, AlexEntry *scratch, size_t nentries);

/*
 * ---------------------------------------------------------------------
 * bloom.c: split-block Bloom filter of 512-bit blocks
 * ---------------------------------------------------------------------
 */
#define ALEX_BLOOM_BLOCK_BYTES	64

extern uint64_t alex_bloom_hash(uint64_t key);
/* Blocks for that many distinct keys at that many bits a key; at least 1. */
extern uint32_t alex_bloom_blocks(uint64_t nkeys, double bits_per_key);
/* Which block a hash belongs to. */
extern uint32_t alex_bloom_block(uint64_t hash, uint32_t nblocks);
extern void alex_bloom_add(void *block, uint64_t hash);
extern bool alex_bloom_test(const void *block, uint64_t hash);

#endif							/* ALEX_LEARNED_H */
