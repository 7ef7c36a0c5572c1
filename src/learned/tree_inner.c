/*-------------------------------------------------------------------------
 *
 * tree_inner.c
 *	  Inner nodes of the memtable's tree.
 *
 * ALEX's inner nodes compute the number of the child from the key alone.
 * That cannot tell entries of equal keys apart, of which there may be any
 * number here, so ours keep separators of key and TID in order, and the model
 * only says where to begin the search.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree_inner.c
 *
 *-------------------------------------------------------------------------
 */
#include "tree_format.h"

#include <string.h>

static void
train(AlexInnerNode *node)
{
	node->changes = 0;
	if (node->count == 1)
		memset(&node->model, 0, sizeof(node->model));
	else
	{
		alex_train(&node->keys[1], 1, node->count - 1, 1.0, &node->model);
		node->model.intercept += 1;
	}
}

void
alex_inner_init(AlexInnerNode *node, uint32_t child)
{
	memset(node, 0, sizeof(*node));
	node->kind = ALEX_NODE_INNER;
	node->version = ALEX_NODE_VERSION;
	node->count = 1;
	node->children[0] = child;
	train(node);
}

/* Moves the children from number "from" on by "distance". */
static void
move_children(AlexInnerNode *node, int from, int distance)
{
	int			nmoved = node->count - from;

	memmove(&node->keys[from + distance], &node->keys[from],
			nmoved * sizeof(node->keys[0]));
	memmove(&node->tids[from + distance], &node->tids[from],
			nmoved * sizeof(node->tids[0]));
	memmove(&node->hints[from + distance], &node->hints[from],
			nmoved * sizeof(node->hints[0]));
	memmove(&node->children[from + distance], &node->children[from],
			nmoved * sizeof(node->children[0]));
	node->count += distance;
}

/* Trains a changed node anew before its model is off by many children. */
static void
count_change(AlexInnerNode *node)
{
	if (++node->changes > node->count / 64)
		train(node);
}

/* Notes the model of a child that is a data node. */
void
alex_inner_hint(AlexInnerNode *node, int number, const AlexDataNode *data)
{
	AlexHint   *hint = &node->hints[number];
	const AlexLinear *model = &data->model;
	double		distance;

	if (data->over_tids)
	{
		/* the key does not tell where to look: a position out of range */
		hint->slope = 0;
		hint->intercept = -1;
		return;
	}
	if (number == 0)
		node->keys[0] = model->base;
	distance = node->keys[number] >= model->base ?
		(double) (node->keys[number] - model->base) :
		-(double) (model->base - node->keys[number]);
	hint->slope = (float) model->slope;
	hint->intercept = (float) (model->intercept + model->slope * distance);
}

/*
 * Adds a child to a node that has room.  "number", at least 1, is what it
 * shall have; "data" is the child again if it is a data node, or else NULL.
 */
void
alex_inner_insert(AlexInnerNode *node, int number, AlexEntry separator,
				  uint32_t child, const AlexDataNode *data)
{
	move_children(node, number, 1);
	node->keys[number] = separator.key;
	node->tids[number] = separator.tid;
	node->children[number] = child;
	if (data)
		alex_inner_hint(node, number, data);
	count_change(node);
}

/*
 * Adds a child to a full node by splitting it into itself and the new node
 * "right".  Replaces *separator by the one between the two.
 */
void
alex_inner_split(AlexInnerNode *node, AlexInnerNode *right, int number,
				 AlexEntry *separator, uint32_t child,
				 const AlexDataNode *data)
{
	AlexEntry	added = *separator;
	int			middle = node->count / 2;
	int			nmoved = node->count - middle;

	/* children that come in order leave full nodes behind */
	if (number == node->count)
	{
		alex_inner_init(right, child);
		if (data)
			alex_inner_hint(right, 0, data);
		return;
	}

	separator->key = node->keys[middle];
	separator->tid = node->tids[middle];
	alex_inner_init(right, node->children[middle]);
	memcpy(right->keys, &node->keys[middle], nmoved * sizeof(node->keys[0]));
	memcpy(right->tids, &node->tids[middle], nmoved * sizeof(node->tids[0]));
	memcpy(right->hints, &node->hints[middle],
		   nmoved * sizeof(node->hints[0]));
	memcpy(right->children, &node->children[middle],
		   nmoved * sizeof(node->children[0]));
	right->count = nmoved;
	node->count = middle;
	train(node);
	train(right);

	if (number <= middle)
		alex_inner_insert(node, number, added, child, data);
	else
		alex_inner_insert(right, number - middle, added, child, data);
}

/* Takes a child out of a node that has others. */
void
alex_inner_remove(AlexInnerNode *node, int number)
{
	move_children(node, number + 1, -1);
	count_change(node);
}

/* Exponential search for the child that alex_inner_search() returns. */
int
alex_inner_search_exponentially(const AlexInnerNode *node, AlexEntry entry,
								int expected)
{
	int			low = expected;
	int			high;
	int			step = 1;

	if (low == 0 || alex_separator_within(node, low, entry))
	{
		high = low + 1;
		while (high < node->count && alex_separator_within(node, high, entry))
		{
			low = high;
			step *= 2;
			high += step;
		}
		if (high > node->count)
			high = node->count;
	}
	else
	{
		high = low;
		low--;
		while (low > 0 && !alex_separator_within(node, low, entry))
		{
			high = low;
			step *= 2;
			low -= step;
		}
		if (low < 0)
			low = 0;
	}

	/* the answer is in [low, high) */
	while (high - low > 1)
	{
		int			middle = (low + high) / 2;
		bool		within = alex_separator_within(node, middle, entry);

		low = within ? middle : low;
		high = within ? high : middle;
	}
	return low;
}
