/*-------------------------------------------------------------------------
 *
 * tree_batch.c
 *	  Insertion of sorted entries into the memtable's tree.
 *
 * The entries that belong in one data node are a STRETCH of the batch.  A
 * short stretch is inserted entry by entry.  For a long one the node is built
 * anew, from its own entries and the stretch merged; what is too much for one
 * node becomes several at once, so that a node splits once for a batch.
 *
 * The nodes of a few stretches are looked up before the first of them is
 * changed, and fetched from memory meanwhile.  A change concerns only the node
 * of its own stretch and inner nodes, which are looked at again then.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree_batch.c
 *
 *-------------------------------------------------------------------------
 */
#include "tree_format.h"

#include <string.h>

/* Stretches looked up ahead. */
#define MAX_STRETCHES		8

/* A longer stretch is cut. */
#define MAX_STRETCH			512

/* Fewer entries than this are not worth looking ahead. */
#define MIN_BATCH			4

/*
 * A node is built anew when the stretch has one entry for so many of its own:
 * building is that much faster, per entry, than inserting.
 */
#define BUILD_RATIO			8

/* How full nodes are made of entries that come in no order. */
#define USUAL_COUNT			(ALEX_DATA_FULL / 4 * 3)

/* The entries of a node and a stretch make no more nodes than this. */
#define MAX_NODES			3

_Static_assert(ALEX_DATA_FULL + MAX_STRETCH <= 3 * USUAL_COUNT &&
			   MAX_STRETCH <= 2 * ALEX_DATA_FULL,
			   "number of nodes that a node and a stretch make");

typedef struct Stretch
{
	uint32_t	chunk;			/* data node */
	int			nentries;
	const AlexEntry *entries;
} Stretch;

/*
 * A place in the tree that moves to the right: the inner nodes down to the
 * lowest, and where their ranges end.  What ends with the tree has no end.
 */
typedef struct Finger
{
	int			level;			/* lowest level from which inner[] is known */
	uint32_t	inner[ALEX_TREE_MAX_HEIGHT];
	bool		has_end[ALEX_TREE_MAX_HEIGHT];
	AlexEntry	end[ALEX_TREE_MAX_HEIGHT];
} Finger;

static void
start_finger(const AlexTree *tree, Finger *finger)
{
	finger->level = (int) tree->height - 1;
	finger->inner[finger->level] = tree->root;
	finger->has_end[finger->level] = false;
}

/*
 * Moves on to the data node of an entry, and fetches it.  Sets its end, if
 * it has one, as that of level 0.
 */
static uint32_t
move_finger(const AlexChunks *chunks, const AlexTree *tree, Finger *finger,
			AlexEntry entry)
{
	int			top = (int) tree->height - 1;

	if (top == 0)
	{
		finger->has_end[0] = false;
		return tree->root;
	}

	while (finger->level < top && finger->has_end[finger->level] &&
		   !alex_entry_less(&entry, finger->end[finger->level]))
		finger->level++;

	for (int level = finger->level; level > 0; level--)
	{
		const AlexInnerNode *node = alex_inner_node(chunks,
													finger->inner[level]);
		int			number = alex_inner_search(node, entry);

		finger->has_end[level - 1] = finger->has_end[level];
		finger->end[level - 1] = finger->end[level];
		if (number + 1 < node->count)
		{
			finger->has_end[level - 1] = true;
			finger->end[level - 1].key = node->keys[number + 1];
			finger->end[level - 1].tid = node->tids[number + 1];
		}
		if (level == 1)
		{
			finger->level = 1;
			(void) alex_fetch_data(chunks, node, number, entry.key);
			return node->children[number];
		}
		finger->inner[level - 1] = node->children[number];
	}
	return ALEX_NO_CHUNK;		/* not reached: level 1 returns */
}

/* How many of the entries come before the end of the finger's data node. */
static int
stretch_length(const Finger *finger, const AlexEntry *entries,
			   size_t nentries)
{
	int			limit = nentries < MAX_STRETCH ? (int) nentries : MAX_STRETCH;
	int			low = 1;		/* so many are known to be before it */
	int			high;

	if (!finger->has_end[0])
		return limit;
	for (high = 2; high <= limit; high *= 2)
	{
		if (!alex_entry_less(&entries[high - 1], finger->end[0]))
			break;
		low = high;
	}
	if (high > limit)
		high = limit + 1;
	while (high - low > 1)
	{
		int			middle = (low + high) / 2;

		if (alex_entry_less(&entries[middle - 1], finger->end[0]))
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Merges a node's entries with a stretch; returns how many there are then. */
static int
merge_stretch(const AlexDataNode *node, const Stretch *stretch,
			  AlexEntry *merged)
{
	AlexEntry	own[ALEX_DATA_SLOTS];
	int			nown = alex_data_gather(node, own);
	int			at = 0;
	int			total = 0;

	for (int i = 0; i < stretch->nentries; i++)
	{
		AlexEntry	entry = stretch->entries[i];

		while (at < nown && alex_entry_less(&own[at], entry))
			merged[total++] = own[at++];
		if (at < nown && own[at].key == entry.key && own[at].tid == entry.tid)
			at++;
		merged[total++] = entry;
	}
	memcpy(&merged[total], &own[at], (nown - at) * sizeof(AlexEntry));
	return total + nown - at;
}

/*
 * Into how many entries each to cut what is too much for one node.  "rank" is
 * that of the stretch's last entry among all.
 *
 * If no other entry is between those of the stretch, entries probably come in
 * order: what is before its end is done and may be full, and what is behind
 * it stands by itself.
 */
static int
plan_nodes(int total, int rank, bool in_order, int *counts)
{
	int			nnodes = 0;
	int			done = 0;

	if (in_order)
	{
		int			behind = total - rank - 1;

		while (total - behind - done > ALEX_DATA_FULL)
		{
			counts[nnodes++] = ALEX_DATA_FULL;
			done += ALEX_DATA_FULL;
		}
		if (total - done > ALEX_DATA_FULL)
		{
			counts[nnodes++] = total - behind - done;
			done = total - behind;
		}
		counts[nnodes++] = total - done;
	}
	else
	{
		int			wanted = (total + USUAL_COUNT - 1) / USUAL_COUNT;

		for (int i = 0; i < wanted; i++)
		{
			counts[nnodes] = (total - done) / (wanted - i);
			done += counts[nnodes++];
		}
	}
	return nnodes;
}

/* The stretch's last entry is where a next one can tell that it is in order. */
static void
note_last(AlexDataNode *node, AlexEntry entry)
{
	node->last_slot = alex_next_taken(node, alex_data_search(node, entry));
}

/*
 * Builds the node of a stretch anew, or several.  False when there is no
 * memory for these; nothing was changed then.
 */
static bool
build_stretch(AlexChunks *chunks, AlexTree *tree, const Stretch *stretch)
{
	AlexDataNode *node = alex_data_node(chunks, stretch->chunk);
	AlexEntry	merged[ALEX_DATA_SLOTS + MAX_STRETCH];
	AlexEntry	last = stretch->entries[stretch->nentries - 1];
	uint32_t	spare[MAX_NODES + ALEX_TREE_MAX_HEIGHT];
	uint32_t	chunk = stretch->chunk;
	int			counts[MAX_NODES];
	int			nnodes;
	int			nspare;
	int			taken;
	int			done;
	int			before = node->count;
	int			total = merge_stretch(node, stretch, merged);
	int			rank = total - 1;

	if (total <= ALEX_DATA_FULL)
	{
		alex_data_build(node, merged, total);
		note_last(node, last);
		tree->nentries += total - before;
		return true;
	}

	while (alex_entry_less(&last, merged[rank]))
		rank--;
	nnodes = plan_nodes(total, rank,
						rank + 1 >= stretch->nentries &&
						merged[rank + 1 - stretch->nentries].key == stretch->entries[0].key &&
						merged[rank + 1 - stretch->nentries].tid == stretch->entries[0].tid,
						counts);

	/* each inner node on the way, and the root, may split once */
	nspare = nnodes - 1 + (int) tree->height;
	if (tree->height == ALEX_TREE_MAX_HEIGHT ||
		!alex_tree_allocate(chunks, spare, nspare))
		return false;

	/* from here on nothing can fail */
	taken = nnodes - 1;
	alex_data_build(node, merged, counts[0]);
	done = counts[0];
	for (int i = 1; i < nnodes; i++)
	{
		uint32_t	right = spare[i - 1];
		AlexPath	path;

		alex_tree_find_path(chunks, tree, merged[done - 1], &path);
		alex_tree_add_right(chunks, tree, chunk, right);
		alex_data_build(alex_data_node(chunks, right), merged + done,
						counts[i]);
		taken += alex_tree_add_child(chunks, tree, &path, merged[done], right,
									 spare + taken);
		if (rank >= done - counts[i - 1] && rank < done)
			note_last(alex_data_node(chunks, chunk), last);
		done += counts[i];
		chunk = right;
	}
	if (rank >= done - counts[nnodes - 1])
		note_last(alex_data_node(chunks, chunk), last);
	tree->nchunks += taken;
	while (nspare > taken)
		chunks->release(chunks->context, spare[--nspare]);
	tree->nentries += total - before;
	return true;
}

/*
 * Inserts a stretch one by one.  After a split it is for the tree to say where
 * the next entry belongs.
 */
static AlexTreeResult
insert_stretch(AlexChunks *chunks, AlexTree *tree, const Stretch *stretch,
			   size_t *done)
{
	AlexDataNode *node = alex_data_node(chunks, stretch->chunk);
	int			i;

	for (i = 0; i < stretch->nentries; i++)
	{
		AlexDataResult result = alex_data_insert(node, stretch->entries[i]);

		if (result == ALEX_DATA_NO_ROOM)
			break;
		if (result == ALEX_DATA_DONE)
			tree->nentries++;
		(*done)++;
	}
	for (; i < stretch->nentries; i++)
	{
		if (alex_tree_insert(chunks, tree,
							 stretch->entries[i]) == ALEX_TREE_NO_MEMORY)
			return ALEX_TREE_NO_MEMORY;
		(*done)++;
	}
	return ALEX_TREE_DONE;
}

/* The tree's bounds include the entries now, or will in a moment. */
static void
widen_bounds(AlexTree *tree, AlexEntry first, AlexEntry last)
{
	if (alex_entry_less(&first, tree->min))
		tree->min = first;
	if (alex_entry_less(&tree->max, last))
		tree->max = last;
}

AlexTreeResult
alex_tree_insert_batch(AlexChunks *chunks, AlexTree *tree,
					   const AlexEntry *entries, size_t nentries,
					   size_t *done)
{
	Stretch		stretches[MAX_STRETCHES];

	*done = 0;
	while (*done < nentries)
	{
		Finger		finger;
		int			nstretches = 0;
		size_t		next = *done;

		if (nentries - next < MIN_BATCH || tree->root == ALEX_NO_CHUNK)
		{
			if (alex_tree_insert(chunks, tree,
								 entries[next]) == ALEX_TREE_NO_MEMORY)
				return ALEX_TREE_NO_MEMORY;
			(*done)++;
			continue;
		}

		start_finger(tree, &finger);
		while (nstretches < MAX_STRETCHES && next < nentries)
		{
			Stretch    *stretch = &stretches[nstretches++];

			stretch->entries = entries + next;
			stretch->chunk = move_finger(chunks, tree, &finger, entries[next]);
			stretch->nentries = stretch_length(&finger, entries + next,
											   nentries - next);
			next += stretch->nentries;

			/* the rest of one that was cut must look at the node anew */
			if (stretch->nentries == MAX_STRETCH)
				break;
		}

		for (int i = 0; i < nstretches; i++)
		{
			const Stretch *stretch = &stretches[i];
			const AlexDataNode *node = alex_data_node(chunks, stretch->chunk);

			widen_bounds(tree, stretch->entries[0],
						 stretch->entries[stretch->nentries - 1]);
			if (stretch->nentries * BUILD_RATIO >= node->count &&
				stretch->nentries >= MIN_BATCH &&
				build_stretch(chunks, tree, stretch))
				*done += stretch->nentries;
			else if (insert_stretch(chunks, tree, stretch,
									done) == ALEX_TREE_NO_MEMORY)
				return ALEX_TREE_NO_MEMORY;
		}
	}
	return ALEX_TREE_DONE;
}
