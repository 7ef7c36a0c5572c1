/*-------------------------------------------------------------------------
 *
 * tree_check.c
 *	  Verification of the memtable's tree.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree_check.c
 *
 *-------------------------------------------------------------------------
 */
#include "tree_format.h"

/* Entries from "low" on and before "high", which may be missing. */
typedef struct Bounds
{
	const AlexEntry *low;
	const AlexEntry *high;
} Bounds;

typedef struct CheckState
{
	const AlexChunks *chunks;
	const AlexTree *tree;
	uint64_t	nentries;		/* met so far */
	uint32_t	nchunks;
	uint32_t	last_data;
} CheckState;

static bool
same_entry(AlexEntry one, AlexEntry other)
{
	return one.key == other.key && one.tid == other.tid;
}

/* No infinity, no NaN, and positions ascend with the keys. */
static bool
usable_model(const AlexLinear *model)
{
	return model->slope >= 0 && model->slope <= 1e9 &&
		model->intercept >= -1e30 && model->intercept <= 1e30;
}

/* The slots of a data node, from the last to the first. */
static const char *
check_slots(const AlexDataNode *node, Bounds bounds)
{
	AlexEntry	next = {UINT64_MAX, UINT64_MAX};
	bool		at_end = true;
	int			count = 0;

	for (int slot = ALEX_DATA_SLOTS - 1; slot >= 0; slot--)
	{
		AlexEntry	entry = node->slots[slot];

		if ((node->taken[slot >> 6] >> (slot & 63)) & 1)
		{
			if (!at_end && !alex_entry_less(&entry, next))
				return "entries of a data node are out of order";
			if (bounds.high && !alex_entry_less(&entry, *bounds.high))
				return "entry is not below the next separator";
			if (bounds.low && alex_entry_less(&entry, *bounds.low))
				return "entry is below the separator of its node";
			next = entry;
			at_end = false;
			count++;
		}
		else if (!same_entry(entry, next))
			return "gap does not copy the next entry";
	}
	if (count != node->count)
		return "count of a data node is wrong";
	return NULL;
}

static const char *
check_data(CheckState *state, uint32_t chunk, Bounds bounds)
{
	const AlexDataNode *node = alex_data_node(state->chunks, chunk);

	if (node->kind != ALEX_NODE_DATA || node->version != ALEX_NODE_VERSION)
		return "not a data node";
	if (node->count < 1 || node->count > ALEX_DATA_FULL)
		return "count of a data node is out of range";
	if (node->taken[ALEX_DATA_SLOTS >> 6] >> (ALEX_DATA_SLOTS & 63) !=
		~UINT64_C(0) >> (ALEX_DATA_SLOTS & 63))
		return "bitmap of a data node has no end";
	if (!usable_model(&node->model))
		return "model of a data node is unusable";
	if (node->left != state->last_data)
		return "left link of a data node is wrong";
	if (state->last_data == ALEX_NO_CHUNK ?
		state->tree->first_data != chunk :
		alex_data_node(state->chunks, state->last_data)->right != chunk)
		return "right link of a data node is wrong";
	state->last_data = chunk;
	state->nentries += node->count;
	return check_slots(node, bounds);
}

static const char *
check_node(CheckState *state, uint32_t chunk, int level, Bounds bounds)
{
	const AlexInnerNode *node;
	AlexEntry	low;
	AlexEntry	high;

	if (++state->nchunks > state->tree->nchunks)
		return "more nodes than the tree has";
	if (level == 0)
		return check_data(state, chunk, bounds);

	node = alex_inner_node(state->chunks, chunk);
	if (node->kind != ALEX_NODE_INNER || node->version != ALEX_NODE_VERSION)
		return "not an inner node";
	if (node->count < 1 || node->count > ALEX_INNER_CHILDREN)
		return "count of an inner node is out of range";
	if (!usable_model(&node->model))
		return "model of an inner node is unusable";

	for (int i = 0; i < node->count; i++)
	{
		Bounds		child = bounds;
		const char *fault;

		if (i > 0)
		{
			low = (AlexEntry) {node->keys[i], node->tids[i]};
			if (bounds.low && !alex_entry_less(bounds.low, low))
				return "separator is not above that of its node";
			if (alex_inner_search(node, low) != i)
				return "separator is not found";
			child.low = &low;
		}
		if (i + 1 < node->count)
		{
			high = (AlexEntry) {node->keys[i + 1], node->tids[i + 1]};
			if (bounds.high && !alex_entry_less(&high, *bounds.high))
				return "separator is not below the next of the level above";
			if (i > 0 && !alex_entry_less(&low, high))
				return "separators are out of order";
			child.high = &high;
		}
		fault = check_node(state, node->children[i], level - 1, child);
		if (fault)
			return fault;
	}
	return NULL;
}

/* The least and the greatest entry lie within what the tree says of them. */
static const char *
check_ends(const AlexChunks *chunks, const AlexTree *tree)
{
	const AlexDataNode *first = alex_data_node(chunks, tree->first_data);
	const AlexDataNode *last = alex_data_node(chunks, tree->last_data);
	int			last_taken = alex_previous_taken(last, ALEX_DATA_SLOTS);

	if (last->right != ALEX_NO_CHUNK)
		return "last data node has a right link";
	if (alex_entry_less(&first->slots[alex_next_taken(first, 0)], tree->min))
		return "first entry is below the minimum";
	if (alex_entry_less(&tree->max, last->slots[last_taken]))
		return "last entry is above the maximum";
	return NULL;
}

const char *
alex_tree_check(const AlexChunks *chunks, const AlexTree *tree)
{
	CheckState	state = {chunks, tree, 0, 0, ALEX_NO_CHUNK};
	Bounds		all = {NULL, NULL};
	const char *fault;

	if (tree->root == ALEX_NO_CHUNK)
	{
		if (tree->height != 0 || tree->nentries != 0 || tree->nchunks != 0 ||
			tree->first_data != ALEX_NO_CHUNK ||
			tree->last_data != ALEX_NO_CHUNK)
			return "empty tree is not empty";
		return NULL;
	}
	if (tree->height < 1 || tree->height > ALEX_TREE_MAX_HEIGHT)
		return "height is out of range";
	fault = check_node(&state, tree->root, (int) tree->height - 1, all);
	if (fault)
		return fault;
	if (state.nentries != tree->nentries)
		return "number of entries is wrong";
	if (state.nchunks != tree->nchunks)
		return "number of nodes is wrong";
	if (state.last_data != tree->last_data)
		return "last data node is wrong";
	return check_ends(chunks, tree);
}
