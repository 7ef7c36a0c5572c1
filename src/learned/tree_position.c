/*-------------------------------------------------------------------------
 *
 * tree_position.c
 *	  Positions in the memtable's tree: skipping entries, and counting them.
 *
 * Nodes know how many entries they have, but not how many there are in front
 * of them: that would have to be changed on every level with each insertion.
 * So entries close together are counted node by node, and how far apart others
 * are is told from the numbers of the data nodes that come before them.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree_position.c
 *
 *-------------------------------------------------------------------------
 */
#include "tree_format.h"

/* Entries in more nodes than this are not counted one node after the other. */
#define COUNTED_NODES		16

/* The number of entries before a slot. */
static int
entries_before(const AlexDataNode *node, int slot)
{
	int			count = 0;

	for (int word = 0; word < slot >> 6; word++)
		count += __builtin_popcountll(node->taken[word]);
	if ((slot & 63) != 0)
		count += __builtin_popcountll(node->taken[slot >> 6] &
									  ~(~UINT64_C(0) << (slot & 63)));
	return count;
}

/* The entry that so many others of the node come before. */
static AlexEntry
entry_at(const AlexDataNode *node, int number)
{
	int			slot = alex_next_taken(node, 0);

	while (number-- > 0)
		slot = alex_next_taken(node, slot + 1);
	return node->slots[slot];
}

bool
alex_tree_skip(const AlexChunks *chunks, const AlexTree *tree, AlexEntry from,
			   bool forward, uint64_t count, AlexEntry *boundary)
{
	const AlexDataNode *node;
	AlexPath	path;
	uint64_t	number;

	if (tree->root == ALEX_NO_CHUNK)
		return false;
	alex_tree_find_path(chunks, tree, from, &path);
	node = alex_data_node(chunks, path.data);
	number = entries_before(node, alex_data_search(node, from));

	if (forward)
	{
		number += count;
		while (number >= node->count)
		{
			if (node->right == ALEX_NO_CHUNK)
				return false;
			number -= node->count;
			node = alex_data_node(chunks, node->right);
		}
	}
	else
	{
		while (count > number)
		{
			if (node->left == ALEX_NO_CHUNK)
				return false;
			count -= number;
			node = alex_data_node(chunks, node->left);
			number = node->count;
		}
		number -= count;
	}
	*boundary = entry_at(node, (int) number);
	return true;
}

/*
 * The data nodes below the children of a node at level 2, and how many of them
 * are below the first "number" children.  Entries that come in order make full
 * inner nodes but for the last one, so these are not alike.
 */
static int
count_data_nodes(const AlexChunks *chunks, const AlexInnerNode *node,
				 int number, int *before)
{
	int			total = 0;

	for (int i = 0; i < node->count; i++)
	{
		if (i == number)
			*before = total;
		total += alex_inner_node(chunks, node->children[i])->count;
	}
	return total;
}

/* The share of the tree's entries that come before an entry, roughly. */
static double
share_before(const AlexChunks *chunks, const AlexTree *tree,
			 const AlexPath *path, int in_node)
{
	double		share = (double) in_node /
		alex_data_node(chunks, path->data)->count;

	for (int level = 1; level < (int) tree->height; level++)
	{
		const AlexInnerNode *node = alex_inner_node(chunks, path->inner[level]);
		int			number = path->number[level];

		if (level == 2)
		{
			int			before = 0;
			int			total = count_data_nodes(chunks, node, number, &before);
			int			below = alex_inner_node(chunks, path->inner[1])->count;

			share = (before + share * below) / total;
		}
		else
			share = (number + share) / node->count;
	}
	return share;
}

double
alex_tree_count(const AlexChunks *chunks, const AlexTree *tree, AlexEntry low,
				AlexEntry high)
{
	const AlexDataNode *node;
	AlexPath	low_path;
	AlexPath	high_path;
	int			before_low;
	int			before_high;
	double		count = 0;
	double		share;

	if (tree->root == ALEX_NO_CHUNK || !alex_entry_less(&low, high))
		return 0;

	alex_tree_find_path(chunks, tree, low, &low_path);
	alex_tree_find_path(chunks, tree, high, &high_path);
	node = alex_data_node(chunks, high_path.data);
	before_high = entries_before(node, alex_data_search(node, high));
	node = alex_data_node(chunks, low_path.data);
	before_low = entries_before(node, alex_data_search(node, low));

	for (int i = 0; i < COUNTED_NODES; i++)
	{
		if (node == alex_data_node(chunks, high_path.data))
			return count + before_high - before_low;
		count += node->count;
		if (node->right == ALEX_NO_CHUNK)
			break;
		node = alex_data_node(chunks, node->right);
	}

	share = share_before(chunks, tree, &high_path, before_high) -
		share_before(chunks, tree, &low_path, before_low);
	return share > 0 ? share * (double) tree->nentries : 0;
}
