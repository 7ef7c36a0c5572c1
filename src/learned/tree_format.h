/*-------------------------------------------------------------------------
 *
 * tree_format.h
 *	  The two kinds of node of the memtable's tree, and what its source files
 *	  share.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree_format.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_TREE_FORMAT_H
#define ALEX_TREE_FORMAT_H

#include "alex/learned.h"

/*
 * Nodes live in shared memory only and never outlive the server, so that
 * the code that reads a node is always the code that wrote it; the version
 * is there for a debugger that looks at a core file, and for alex_tree_check.
 */
#define ALEX_NODE_DATA		0xA1D1
#define ALEX_NODE_INNER		0xA1D2
#define ALEX_NODE_VERSION	1

/* Slots of a data node, and how many of them may be taken before it splits. */
#define ALEX_DATA_SLOTS		504
#define ALEX_DATA_FULL		448

/* Children of an inner node. */
#define ALEX_INNER_CHILDREN	290

/*
 * A root splits only after about 150 splits of the level below it, so a tree
 * of height n took at least 150^(n - 1) insertions: no tree gets this high.
 */
#define ALEX_TREE_MAX_HEIGHT	16

#define ALEX_NO_SLOT		UINT16_MAX

/* Slots, or children, around the expected one: a search begins with them. */
#define ALEX_DATA_WINDOW	8
#define ALEX_INNER_WINDOW	12

/* position = slope * (key - base) + intercept */
typedef struct AlexLinear
{
	uint64_t	base;
	double		slope;
	double		intercept;
} AlexLinear;

/*
 * A data node:
 *
 *	   0  header
 *	  64  bitmap of the taken slots; the bits past the last slot are set
 *	 128  slots: entries in ascending order
 *
 * A gap holds a copy of the next entry to its right, and those with no entry
 * to their right hold the greatest entry there can be, so that a search need
 * not know which slots are gaps.
 *
 * "last_slot" is where the newest entry is, unless others were shifted since.
 * "ascents" counts the insertions right behind the insertion before,
 * "descents" those right in front of it: entries that come in order are told
 * by that from those that come at random, wherever in the key space it is.
 */
typedef struct AlexDataNode
{
	uint16_t	kind;			/* ALEX_NODE_DATA */
	uint16_t	version;
	uint16_t	count;			/* entries */
	uint16_t	retrain_at;		/* count at which the model is outgrown */
	uint16_t	last_slot;
	uint16_t	inserts;		/* since the node was built */
	uint16_t	ascents;
	uint16_t	descents;
	uint32_t	left;			/* neighbours, or ALEX_NO_CHUNK */
	uint32_t	right;
	AlexLinear	model;			/* key to slot, or TID to slot */
	uint64_t	only_key;		/* of all entries, if the model is over TIDs */
	uint32_t	over_tids;		/* 1 if it is, else 0 */
	uint32_t	unused;
	uint64_t	taken[8];
	AlexEntry	slots[ALEX_DATA_SLOTS];
} AlexDataNode;

/*
 * What an inner node knows of a data node's model, relative to the separator.
 * Only good for fetching cache lines ahead: it may be out of date.
 */
typedef struct AlexHint
{
	float		slope;
	float		intercept;
} AlexHint;

/*
 * An inner node:
 *
 *	   0  header
 *	  64  keys of the separators
 *	2384  TIDs of the separators
 *	4704  hints
 *	7024  chunk numbers of the children
 *	8184  not used
 *
 * Child i holds the entries that are >= separator i and < separator i + 1.
 * Separator 0 does not part anything, what is below separator 1 is in child
 * 0; but its hint is relative to it.  There are hints only where the children
 * are data nodes.
 */
typedef struct AlexInnerNode
{
	uint16_t	kind;			/* ALEX_NODE_INNER */
	uint16_t	version;
	uint16_t	count;			/* children, at least 1 */
	uint16_t	changes;		/* since the model was trained */
	AlexLinear	model;			/* key to number of the child */
	uint64_t	unused[4];
	uint64_t	keys[ALEX_INNER_CHILDREN];
	uint64_t	tids[ALEX_INNER_CHILDREN];
	AlexHint	hints[ALEX_INNER_CHILDREN];
	uint32_t	children[ALEX_INNER_CHILDREN];
	uint64_t	unused_end;
} AlexInnerNode;

_Static_assert(sizeof(AlexDataNode) == ALEX_PAGE_SIZE, "size of data node");
_Static_assert(offsetof(AlexDataNode, taken) == 64, "bitmap of data node");
_Static_assert(offsetof(AlexDataNode, slots) == 128, "slots of data node");
_Static_assert(sizeof(AlexInnerNode) == ALEX_PAGE_SIZE, "size of inner node");
_Static_assert(offsetof(AlexInnerNode, keys) == 64, "keys of inner node");
_Static_assert(offsetof(AlexInnerNode, tids) == 2384, "TIDs of inner node");
_Static_assert(offsetof(AlexInnerNode, hints) == 4704, "hints of inner node");
_Static_assert(offsetof(AlexInnerNode, children) == 7024,
			   "children of inner node");

static inline void *
alex_chunk(const AlexChunks *chunks, uint32_t chunk)
{
	return chunks->base + (size_t) chunk * ALEX_PAGE_SIZE;
}

static inline AlexDataNode *
alex_data_node(const AlexChunks *chunks, uint32_t chunk)
{
	return (AlexDataNode *) alex_chunk(chunks, chunk);
}

static inline AlexInnerNode *
alex_inner_node(const AlexChunks *chunks, uint32_t chunk)
{
	return (AlexInnerNode *) alex_chunk(chunks, chunk);
}

/*
 * Where the model expects a key, among "limit" positions.  The difference is
 * taken in integers, so that neighbours at the far end of the key space stay
 * apart; slope and intercept are finite and the slope is not negative, so
 * there is no NaN to think of.
 */
static inline int
alex_predict(const AlexLinear *model, uint64_t key, int limit)
{
	double		position = model->intercept;

	if (key > model->base)
		position += model->slope * (double) (key - model->base);
	if (position >= (double) (limit - 1))
		return limit - 1;
	return position > 0 ? (int) position : 0;
}

/*
 * Comparisons without a branch: whether an entry of a search is smaller is
 * as good as random, whether its key is equal is rarely in doubt.
 */
static inline bool
alex_entry_less(const AlexEntry *entry, AlexEntry than)
{
	return (entry->key < than.key) |
		((entry->key == than.key) & (entry->tid < than.tid));
}

static inline bool
alex_separator_within(const AlexInnerNode *node, int number, AlexEntry entry)
{
	return (node->keys[number] < entry.key) |
		((node->keys[number] == entry.key) &
		 (node->tids[number] <= entry.tid));
}

/* The first taken slot at or after "slot"; ALEX_DATA_SLOTS if none is. */
static inline int
alex_next_taken(const AlexDataNode *node, int slot)
{
	int			word = slot >> 6;
	uint64_t	bits = node->taken[word] & (~UINT64_C(0) << (slot & 63));

	while (bits == 0)
		bits = node->taken[++word];
	return (word << 6) + __builtin_ctzll(bits);
}

/* The last taken slot before "slot"; -1 if there is none. */
static inline int
alex_previous_taken(const AlexDataNode *node, int slot)
{
	int			word = slot >> 6;
	uint64_t	bits = node->taken[word] & ~(~UINT64_C(0) << (slot & 63));

	while (bits == 0)
	{
		if (word == 0)
			return -1;
		bits = node->taken[--word];
	}
	return (word << 6) + 63 - __builtin_clzll(bits);
}

/* tree_data.c */
typedef enum AlexDataResult
{
	ALEX_DATA_DONE,
	ALEX_DATA_PRESENT,
	ALEX_DATA_NO_ROOM			/* nothing was changed */
} AlexDataResult;

extern void alex_train(const uint64_t *keys, int stride, int nkeys,
					   double scale, AlexLinear *model);
extern void alex_data_build(AlexDataNode *node, const AlexEntry *entries,
							int nentries);
extern int	alex_data_gather(const AlexDataNode *node, AlexEntry *entries);
extern int	alex_data_search(const AlexDataNode *node, AlexEntry entry);
extern AlexDataResult alex_data_insert(AlexDataNode *node, AlexEntry entry);
extern int	alex_data_split_point(const AlexDataNode *node, int rank);
extern bool alex_data_delete(AlexDataNode *node, AlexEntry entry);

/* tree.c */

/* The way from the root down to a data node. */
typedef struct AlexPath
{
	uint32_t	data;			/* chunk of the data node */
	uint32_t	inner[ALEX_TREE_MAX_HEIGHT];	/* inner nodes by level; a
												 * data node's level is 0 */
	uint16_t	number[ALEX_TREE_MAX_HEIGHT];	/* of the child taken there */
} AlexPath;

extern void alex_tree_find_path(const AlexChunks *chunks, const AlexTree *tree,
								AlexEntry entry, AlexPath *path);
extern bool alex_tree_allocate(AlexChunks *chunks, uint32_t *allocated,
							   int nchunks);
extern void alex_tree_add_right(const AlexChunks *chunks, AlexTree *tree,
								uint32_t chunk, uint32_t right_chunk);
extern int	alex_tree_add_child(const AlexChunks *chunks, AlexTree *tree,
								const AlexPath *path, AlexEntry separator,
								uint32_t child, const uint32_t *spare);

/*
 * Returns a child that is a data node, and fetches what a search in it will
 * look at, all at once: to read its model first and then the slots would be
 * to wait for memory twice.
 */
static inline AlexDataNode *
alex_fetch_data(const AlexChunks *chunks, const AlexInnerNode *parent,
				int number, uint64_t key)
{
	AlexDataNode *node = alex_data_node(chunks, parent->children[number]);
	float		distance = (float) (int64_t) (key - parent->keys[number]);
	float		position;

	__builtin_prefetch(node);
	__builtin_prefetch(node->taken);

	position = parent->hints[number].slope * distance +
		parent->hints[number].intercept;
	if (position >= 0 && position < ALEX_DATA_SLOTS)
	{
		const char *slot = (const char *) &node->slots[(int) position];

		__builtin_prefetch(slot - 2 * ALEX_LINE_SIZE);
		__builtin_prefetch(slot - ALEX_LINE_SIZE);
		__builtin_prefetch(slot);
		__builtin_prefetch(slot + ALEX_LINE_SIZE);
		__builtin_prefetch(slot + 2 * ALEX_LINE_SIZE);
	}
	return node;
}

/* tree_inner.c */
extern void alex_inner_init(AlexInnerNode *node, uint32_t child);
extern void alex_inner_insert(AlexInnerNode *node, int number,
							  AlexEntry separator, uint32_t child,
							  const AlexDataNode *data);
extern void alex_inner_split(AlexInnerNode *node, AlexInnerNode *right,
							 int number, AlexEntry *separator, uint32_t child,
							 const AlexDataNode *data);
extern void alex_inner_hint(AlexInnerNode *node, int number,
							const AlexDataNode *data);
extern void alex_inner_remove(AlexInnerNode *node, int number);
extern int	alex_inner_search_exponentially(const AlexInnerNode *node,
											AlexEntry entry, int expected);

/*
 * The number of the child that holds an entry, or would hold it: that of the
 * last separator that is not greater.
 *
 * The model is mostly off by no more than a few children, at random.  Counting
 * the smaller keys in a window around the expected child has no branch that
 * would depend on by how many.
 */
static inline int
alex_inner_search(const AlexInnerNode *node, AlexEntry entry)
{
	int			expected = alex_predict(&node->model, entry.key, node->count);
	int			first = expected - ALEX_INNER_WINDOW / 2;
	int			nwithin = 0;

	if (first > node->count - ALEX_INNER_WINDOW)
		first = node->count - ALEX_INNER_WINDOW;
	if (first >= 1)
	{
		const uint64_t *window = &node->keys[first];

#pragma GCC unroll 16
		for (int i = 0; i < ALEX_INNER_WINDOW; i++)
			nwithin += window[i] <= entry.key;
		if (nwithin > 0 && nwithin < ALEX_INNER_WINDOW &&
			window[nwithin - 1] != entry.key)
			return first + nwithin - 1;
	}
	return alex_inner_search_exponentially(node, entry, expected);
}

#endif							/* ALEX_TREE_FORMAT_H */
