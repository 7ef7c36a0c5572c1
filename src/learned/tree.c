/*-------------------------------------------------------------------------
 *
 * tree.c
 *	  The memtable's tree: insertion, deletion and scans.
 *
 * All data nodes are at the same depth and linked in both directions.  A
 * node that is full splits; one whose last entry is deleted is given back.
 * Nodes that are nearly empty are not merged: the tree lives only until it is
 * sealed.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree.c
 *
 *-------------------------------------------------------------------------
 */
#include "tree_format.h"

#include <string.h>

void
alex_tree_init(AlexTree *tree)
{
	memset(tree, 0, sizeof(*tree));
	tree->root = ALEX_NO_CHUNK;
	tree->first_data = ALEX_NO_CHUNK;
	tree->last_data = ALEX_NO_CHUNK;
}

uint32_t
alex_tree_insert_chunks(const AlexTree *tree)
{
	/* one more on each level, and a new root */
	return tree->height + 1;
}

static inline AlexDataNode *
find_data(const AlexChunks *chunks, const AlexTree *tree, AlexEntry entry)
{
	uint32_t	chunk = tree->root;

	for (int level = (int) tree->height - 1; level > 0; level--)
	{
		const AlexInnerNode *node = alex_inner_node(chunks, chunk);
		int			number = alex_inner_search(node, entry);

		if (level == 1)
			return alex_fetch_data(chunks, node, number, entry.key);
		chunk = node->children[number];
	}
	return alex_data_node(chunks, chunk);
}

/* The same, remembering the way. */
void
alex_tree_find_path(const AlexChunks *chunks, const AlexTree *tree,
					AlexEntry entry, AlexPath *path)
{
	uint32_t	chunk = tree->root;

	for (int level = (int) tree->height - 1; level > 0; level--)
	{
		const AlexInnerNode *node = alex_inner_node(chunks, chunk);
		int			number = alex_inner_search(node, entry);

		path->inner[level] = chunk;
		path->number[level] = number;
		chunk = node->children[number];
	}
	path->data = chunk;
}

bool
alex_tree_allocate(AlexChunks *chunks, uint32_t *allocated, int nchunks)
{
	for (int i = 0; i < nchunks; i++)
	{
		allocated[i] = chunks->allocate(chunks->context);
		if (allocated[i] == ALEX_NO_CHUNK)
		{
			while (i-- > 0)
				chunks->release(chunks->context, allocated[i]);
			return false;
		}
	}
	return true;
}

/* The number of chunks that a split of the data node takes. */
static int
split_chunks(const AlexChunks *chunks, const AlexTree *tree,
			 const AlexPath *path)
{
	int			nchunks = 1;

	for (int level = 1; level < (int) tree->height; level++)
	{
		if (alex_inner_node(chunks, path->inner[level])->count <
			ALEX_INNER_CHILDREN)
			return nchunks;
		nchunks++;
	}
	return nchunks + 1;
}

/* Puts a new data node to the right of another one. */
void
alex_tree_add_right(const AlexChunks *chunks, AlexTree *tree, uint32_t chunk,
					uint32_t right_chunk)
{
	AlexDataNode *node = alex_data_node(chunks, chunk);
	AlexDataNode *right = alex_data_node(chunks, right_chunk);

	right->left = chunk;
	right->right = node->right;
	if (right->right == ALEX_NO_CHUNK)
		tree->last_data = right_chunk;
	else
		alex_data_node(chunks, right->right)->left = right_chunk;
	node->right = right_chunk;
}

/*
 * Splits a full data node while the entry is added to it.  Returns the
 * separator between the two nodes.
 */
static AlexEntry
split_data(const AlexChunks *chunks, AlexTree *tree, uint32_t chunk,
		   uint32_t right_chunk, AlexEntry entry)
{
	AlexDataNode *node = alex_data_node(chunks, chunk);
	AlexDataNode *right = alex_data_node(chunks, right_chunk);
	AlexEntry	entries[ALEX_DATA_SLOTS + 1];
	int			total = alex_data_gather(node, entries);
	int			rank = total;
	int			nleft;

	while (rank > 0 && alex_entry_less(&entry, entries[rank - 1]))
	{
		entries[rank] = entries[rank - 1];
		rank--;
	}
	entries[rank] = entry;
	total++;

	nleft = alex_data_split_point(node, rank);
	alex_tree_add_right(chunks, tree, chunk, right_chunk);
	alex_data_build(node, entries, nleft);
	alex_data_build(right, entries + nleft, total - nleft);

	/* should entries come in order, the next one can tell */
	if (rank < nleft)
		right = node;
	right->last_slot = alex_next_taken(right, alex_data_search(right, entry));
	return entries[nleft];
}

/*
 * Makes a new data node known to the inner nodes, next to the one that "path"
 * leads to, and splits those that are full.  Takes the chunks for that from
 * spare[], and returns how many; each level and a new root may need one.
 */
int
alex_tree_add_child(const AlexChunks *chunks, AlexTree *tree,
					const AlexPath *path, AlexEntry separator, uint32_t child,
					const uint32_t *spare)
{
	const AlexDataNode *left = alex_data_node(chunks, path->data);
	const AlexDataNode *data = alex_data_node(chunks, child);
	AlexInnerNode *root;
	int			taken = 0;

	for (int level = 1; level < (int) tree->height; level++)
	{
		AlexInnerNode *node = alex_inner_node(chunks, path->inner[level]);
		int			number = path->number[level] + 1;

		if (level == 1)
			alex_inner_hint(node, number - 1, left);
		if (node->count < ALEX_INNER_CHILDREN)
		{
			alex_inner_insert(node, number, separator, child, data);
			return taken;
		}
		alex_inner_split(node, alex_inner_node(chunks, spare[taken]),
						 number, &separator, child, data);
		child = spare[taken++];
		data = NULL;
	}

	/* the root was split */
	root = alex_inner_node(chunks, spare[taken]);
	alex_inner_init(root, tree->root);
	if (tree->height == 1)
		alex_inner_hint(root, 0, left);
	alex_inner_insert(root, 1, separator, child, data);
	tree->root = spare[taken++];
	tree->height++;
	return taken;
}

/* The data node of an entry is full: splits it, and what is full above it. */
static AlexTreeResult
insert_with_split(AlexChunks *chunks, AlexTree *tree, AlexEntry entry)
{
	uint32_t	allocated[ALEX_TREE_MAX_HEIGHT + 1];
	int			nchunks;
	AlexPath	path;
	AlexEntry	separator;

	alex_tree_find_path(chunks, tree, entry, &path);
	nchunks = split_chunks(chunks, tree, &path);
	if (tree->height == ALEX_TREE_MAX_HEIGHT ||
		!alex_tree_allocate(chunks, allocated, nchunks))
		return ALEX_TREE_NO_MEMORY;
	tree->nchunks += nchunks;

	/* from here on nothing can fail */
	separator = split_data(chunks, tree, path.data, allocated[0], entry);
	(void) alex_tree_add_child(chunks, tree, &path, separator, allocated[0],
							   allocated + 1);
	return ALEX_TREE_DONE;
}

static AlexTreeResult
insert_first(AlexChunks *chunks, AlexTree *tree, AlexEntry entry)
{
	uint32_t	chunk;
	AlexDataNode *node;

	if (!alex_tree_allocate(chunks, &chunk, 1))
		return ALEX_TREE_NO_MEMORY;
	node = alex_data_node(chunks, chunk);
	node->left = ALEX_NO_CHUNK;
	node->right = ALEX_NO_CHUNK;
	alex_data_build(node, &entry, 1);
	tree->root = chunk;
	tree->first_data = chunk;
	tree->last_data = chunk;
	tree->height = 1;
	tree->nentries = 1;
	tree->nchunks = 1;
	tree->min = entry;
	tree->max = entry;
	return ALEX_TREE_DONE;
}

AlexTreeResult
alex_tree_insert(AlexChunks *chunks, AlexTree *tree, AlexEntry entry)
{
	AlexDataNode *node;
	AlexDataResult result;
	bool		at_end;

	if (tree->root == ALEX_NO_CHUNK)
		return insert_first(chunks, tree, entry);

	/*
	 * Every separator was an entry once, and max has not shrunk since, so
	 * what is greater than max belongs in the last data node.
	 */
	at_end = alex_entry_less(&tree->max, entry);
	if (at_end)
		node = alex_data_node(chunks, tree->last_data);
	else
		node = find_data(chunks, tree, entry);

	result = alex_data_insert(node, entry);
	if (result == ALEX_DATA_PRESENT)
		return ALEX_TREE_PRESENT;
	if (result == ALEX_DATA_NO_ROOM &&
		insert_with_split(chunks, tree, entry) == ALEX_TREE_NO_MEMORY)
		return ALEX_TREE_NO_MEMORY;

	tree->nentries++;
	if (at_end)
		tree->max = entry;
	else if (alex_entry_less(&entry, tree->min))
		tree->min = entry;
	return ALEX_TREE_DONE;
}

static void
release_chunk(AlexChunks *chunks, AlexTree *tree, uint32_t chunk)
{
	chunks->release(chunks->context, chunk);
	tree->nchunks--;
}

/* Removes a data node with its last entry, and what gets empty above it. */
static void
remove_data(AlexChunks *chunks, AlexTree *tree, const AlexPath *path)
{
	const AlexDataNode *node = alex_data_node(chunks, path->data);
	uint32_t	left = node->left;
	uint32_t	right = node->right;

	if (left == ALEX_NO_CHUNK)
		tree->first_data = right;
	else
		alex_data_node(chunks, left)->right = right;
	if (right == ALEX_NO_CHUNK)
		tree->last_data = left;
	else
		alex_data_node(chunks, right)->left = left;
	release_chunk(chunks, tree, path->data);

	for (int level = 1; level < (int) tree->height; level++)
	{
		AlexInnerNode *parent = alex_inner_node(chunks, path->inner[level]);

		if (parent->count > 1)
		{
			alex_inner_remove(parent, path->number[level]);
			break;
		}
		release_chunk(chunks, tree, path->inner[level]);
	}

	/* a root with one child is not needed */
	while (tree->height > 1)
	{
		const AlexInnerNode *root = alex_inner_node(chunks, tree->root);
		uint32_t	child = root->children[0];

		if (root->count > 1)
			break;
		release_chunk(chunks, tree, tree->root);
		tree->root = child;
		tree->height--;
	}
}

bool
alex_tree_delete(AlexChunks *chunks, AlexTree *tree, AlexEntry entry)
{
	AlexDataNode *node;
	int			slot;

	if (tree->root == ALEX_NO_CHUNK)
		return false;
	node = find_data(chunks, tree, entry);
	if (node->count > 1)
	{
		if (!alex_data_delete(node, entry))
			return false;
		tree->nentries--;
		return true;
	}

	slot = alex_next_taken(node, 0);
	if (node->slots[slot].key != entry.key ||
		node->slots[slot].tid != entry.tid)
		return false;
	if (tree->nentries == 1)
		alex_tree_free(chunks, tree);
	else
	{
		AlexPath	path;

		alex_tree_find_path(chunks, tree, entry, &path);
		remove_data(chunks, tree, &path);
		tree->nentries--;
	}
	return true;
}

static int
scan_forward(const AlexChunks *chunks, const AlexDataNode *node, int slot,
			 AlexEntry *out, int max)
{
	int			count = 0;

	for (;;)
	{
		slot = alex_next_taken(node, slot);
		if (slot < ALEX_DATA_SLOTS)
		{
			if (count == max)
				return count;
			out[count++] = node->slots[slot++];
		}
		else
		{
			if (node->right == ALEX_NO_CHUNK || count == max)
				return count;
			node = alex_data_node(chunks, node->right);
			slot = 0;
		}
	}
}

static int
scan_backward(const AlexChunks *chunks, const AlexDataNode *node, int slot,
			  AlexEntry *out, int max)
{
	int			count = 0;

	for (;;)
	{
		slot = alex_previous_taken(node, slot);
		if (slot >= 0)
		{
			if (count == max)
				return count;
			out[count++] = node->slots[slot];
		}
		else
		{
			if (node->left == ALEX_NO_CHUNK || count == max)
				return count;
			node = alex_data_node(chunks, node->left);
			slot = ALEX_DATA_SLOTS;
		}
	}
}

int
alex_tree_scan(const AlexChunks *chunks, const AlexTree *tree,
			   AlexEntry from, bool inclusive, bool forward,
			   AlexEntry *out, int max)
{
	const AlexDataNode *node;
	int			slot;

	if (tree->root == ALEX_NO_CHUNK || max <= 0)
		return 0;

	/*
	 * Both directions part the entries at a position: forward returns those
	 * at or after it, backward those before.  So for "forward, exclusive" and
	 * "backward, inclusive" take the position right behind "from".
	 */
	if (forward != inclusive)
	{
		if (from.tid < UINT64_MAX)
			from.tid++;
		else if (from.key < UINT64_MAX)
		{
			from.key++;
			from.tid = 0;
		}
		else if (forward)
			return 0;
		else
			return scan_backward(chunks,
								 alex_data_node(chunks, tree->last_data),
								 ALEX_DATA_SLOTS, out, max);
	}

	node = find_data(chunks, tree, from);
	slot = alex_data_search(node, from);
	if (forward)
		return scan_forward(chunks, node, slot, out, max);
	return scan_backward(chunks, node, slot, out, max);
}

/* Copies entries with a key from a slot on; returns how many, up to max. */
static int
scan_key(const AlexChunks *chunks, const AlexDataNode *node, int slot,
		 uint64_t key, AlexEntry *out, int max)
{
	int			count = 0;

	while (count < max)
	{
		slot = alex_next_taken(node, slot);
		if (slot < ALEX_DATA_SLOTS)
		{
			if (node->slots[slot].key != key)
				break;
			out[count++] = node->slots[slot++];
		}
		else
		{
			if (node->right == ALEX_NO_CHUNK)
				break;
			node = alex_data_node(chunks, node->right);
			slot = 0;
		}
	}
	return count;
}

void
alex_tree_scan_keys(const AlexChunks *chunks, const AlexTree *tree,
					const uint64_t *keys, int nkeys, AlexEntry *out, int max,
					uint8_t *counts)
{
	const AlexDataNode *nodes[ALEX_TREE_GROUP];

	if (tree->nentries == 0)
	{
		memset(counts, 0, nkeys * sizeof(counts[0]));
		return;
	}
	for (int i = 0; i < nkeys; i++)
	{
		AlexEntry	from = {keys[i], 0};

		nodes[i] = keys[i] < tree->min.key || keys[i] > tree->max.key ? NULL :
			find_data(chunks, tree, from);
	}
	for (int i = 0; i < nkeys; i++)
	{
		AlexEntry	from = {keys[i], 0};

		counts[i] = nodes[i] == NULL ? 0 :
			scan_key(chunks, nodes[i], alex_data_search(nodes[i], from),
					 keys[i], out + i * max, max);
	}
}

static void
release_nodes(AlexChunks *chunks, uint32_t chunk, int level)
{
	if (level > 0)
	{
		const AlexInnerNode *node = alex_inner_node(chunks, chunk);

		for (int i = 0; i < node->count; i++)
			release_nodes(chunks, node->children[i], level - 1);
	}
	chunks->release(chunks->context, chunk);
}

void
alex_tree_free(AlexChunks *chunks, AlexTree *tree)
{
	if (tree->root != ALEX_NO_CHUNK)
		release_nodes(chunks, tree->root, (int) tree->height - 1);
	alex_tree_init(tree);
}
