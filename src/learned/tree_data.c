/*-------------------------------------------------------------------------
 *
 * tree_data.c
 *	  Data nodes of the memtable's tree: ALEX's gapped arrays.
 *
 * A linear model maps a key to a slot.  A node is built by placing each entry
 * where the model expects it, so that later searches find it there, or a few
 * slots beside; gaps remain in between, and an insertion takes the gap at the
 * expected slot, or moves the few entries up to the nearest gap.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/learned/tree_data.c
 *
 *-------------------------------------------------------------------------
 */
#include "tree_format.h"

#include <string.h>

/* A fit over this many keys is as good as one over all keys of a node. */
#define TRAINING_SAMPLE		64

/*
 * Fits scale * i to the keys by least squares.  "stride" is the distance from
 * key to key.
 *
 * Two passes, the second about the means: the textbook's sum of squares would
 * cancel to nothing where keys are close together but far from the base.
 */
void
alex_train(const uint64_t *keys, int stride, int nkeys, double scale,
		   AlexLinear *model)
{
	int			step = nkeys / TRAINING_SAMPLE + 1;
	int			nsamples = 0;
	double		mean_key = 0;
	double		mean_position = 0;
	double		covariance = 0;
	double		variance = 0;
	uint64_t	base = keys[0];

	for (int i = 0; i < nkeys; i += step)
	{
		mean_key += (double) (keys[(size_t) i * stride] - base);
		mean_position += i;
		nsamples++;
	}
	mean_key /= nsamples;
	mean_position /= nsamples;

	for (int i = 0; i < nkeys; i += step)
	{
		double		difference;

		difference = (double) (keys[(size_t) i * stride] - base) - mean_key;
		covariance += difference * (i - mean_position);
		variance += difference * difference;
	}

	model->base = base;
	model->slope = 0;
	if (variance > 0 && covariance > 0)
		model->slope = scale * (covariance / variance);
	model->intercept = scale * mean_position - model->slope * mean_key;
}

/*
 * Trains the model of a node over its entries, or its slots.  Where all keys
 * are equal, TIDs are what there is to go by.
 */
static void
train(AlexDataNode *node, const AlexEntry *entries, int nentries, double scale)
{
	node->only_key = entries[0].key;
	node->over_tids = entries[0].key == entries[nentries - 1].key;
	alex_train(node->over_tids ? &entries[0].tid : &entries[0].key,
			   sizeof(AlexEntry) / sizeof(uint64_t), nentries, scale,
			   &node->model);
}

/* The slot that the model expects an entry in. */
static inline int
expected_slot(const AlexDataNode *node, AlexEntry entry)
{
	uint64_t	value = entry.key;

	if (node->over_tids)
	{
		if (entry.key != node->only_key)
			return entry.key < node->only_key ? 0 : ALEX_DATA_SLOTS - 1;
		value = entry.tid;
	}
	return alex_predict(&node->model, value, ALEX_DATA_SLOTS);
}

/*
 * Fills the slots from "first" to "last", and returns the one behind.  Most
 * gaps are short: what this writes too much while entries are placed from
 * left to right is written over, and costs less than a branch for each slot.
 */
static inline int
fill_slots(AlexDataNode *node, int first, int last, AlexEntry entry)
{
	if (first + 3 < ALEX_DATA_SLOTS)
	{
		node->slots[first] = entry;
		node->slots[first + 1] = entry;
		node->slots[first + 2] = entry;
		node->slots[first + 3] = entry;
		first += 4;
	}
	while (first <= last)
		node->slots[first++] = entry;
	return last + 1;
}

/*
 * Puts the entries into the slots, by the model or evenly, and fills the gaps
 * between them.  Returns how many found their slot taken.
 */
static int
place_entries(AlexDataNode *node, const AlexEntry *entries, int nentries,
			  bool evenly)
{
	const AlexEntry last = {UINT64_MAX, UINT64_MAX};
	int			next = 0;
	int			ncollisions = 0;

	memset(node->taken, 0, sizeof(node->taken));
	node->taken[ALEX_DATA_SLOTS >> 6] = ~UINT64_C(0) << (ALEX_DATA_SLOTS & 63);

	for (int i = 0; i < nentries; i++)
	{
		AlexEntry	entry = entries[i];
		int			slot;

		if (evenly)
			slot = i * ALEX_DATA_SLOTS / nentries;
		else
		{
			int			highest = ALEX_DATA_SLOTS - (nentries - i);

			slot = expected_slot(node, entry);
			ncollisions += slot < next;
			slot = slot < next ? next : slot;
			slot = slot > highest ? highest : slot;
		}
		node->taken[slot >> 6] |= UINT64_C(1) << (slot & 63);
		next = fill_slots(node, next, slot, entry);
	}
	while (next < ALEX_DATA_SLOTS)
		node->slots[next++] = last;
	return ncollisions;
}

/*
 * A model is outgrown when the entries have doubled; but where the node is
 * about to split then, the split trains new ones anyway.
 */
static inline int
next_training(int nentries)
{
	int			outgrown = nentries < 8 ? 16 : 2 * nentries;

	return outgrown < ALEX_DATA_FULL / 4 * 3 ? outgrown : ALEX_NO_SLOT;
}

/* Makes a node of the entries; the links to the neighbours stay. */
void
alex_data_build(AlexDataNode *node, const AlexEntry *entries, int nentries)
{
	node->kind = ALEX_NODE_DATA;
	node->version = ALEX_NODE_VERSION;
	node->count = nentries;
	node->retrain_at = next_training(nentries);
	node->last_slot = ALEX_NO_SLOT;
	node->inserts = 0;
	node->ascents = 0;
	node->descents = 0;
	node->unused = 0;
	train(node, entries, nentries, (double) ALEX_DATA_SLOTS / nentries);

	/*
	 * A few keys with many entries each, or far from the others, defeat the
	 * model: then it would put the entries side by side, and each insertion
	 * had to move many of them.
	 */
	if (place_entries(node, entries, nentries, false) > nentries / 4 * 3)
		(void) place_entries(node, entries, nentries, true);
}

/* Copies the entries out; there is room for ALEX_DATA_SLOTS of them. */
int
alex_data_gather(const AlexDataNode *node, AlexEntry *entries)
{
	int			nentries = 0;

	for (int word = 0; word < ALEX_DATA_SLOTS / 64 + 1; word++)
	{
		const AlexEntry *slots = node->slots + word * 64;
		uint64_t	bits = node->taken[word];

		if (word == ALEX_DATA_SLOTS / 64)
			bits &= ~(~UINT64_C(0) << (ALEX_DATA_SLOTS & 63));
		for (; bits != 0; bits &= bits - 1)
			entries[nentries++] = slots[__builtin_ctzll(bits)];
	}
	return nentries;
}

/* Exponential search for the slot that find_slot() returns, from "slot" on. */
static int
search_exponentially(const AlexDataNode *node, AlexEntry entry, int slot)
{
	const AlexEntry *slots = node->slots;
	int			low;
	int			high;
	int			length;
	int			step = 1;

	if (alex_entry_less(&slots[slot], entry))
	{
		high = slot + 1;
		low = high;
		while (high < ALEX_DATA_SLOTS && alex_entry_less(&slots[high], entry))
		{
			low = high + 1;
			step *= 2;
			high += step;
		}
		if (high > ALEX_DATA_SLOTS)
			high = ALEX_DATA_SLOTS;
	}
	else
	{
		high = slot;
		low = slot - 1;
		while (low >= 0 && !alex_entry_less(&slots[low], entry))
		{
			high = low;
			step *= 2;
			low -= step;
		}
		low = low < 0 ? 0 : low + 1;
	}

	for (length = high - low; length > 0;)
	{
		int			half = length / 2;
		bool		less = alex_entry_less(&slots[low + half], entry);

		low = less ? low + half + 1 : low;
		length = less ? length - half - 1 : half;
	}
	return low;
}

/*
 * The first slot whose entry, or copy of an entry, is not smaller than
 * "entry"; ALEX_DATA_SLOTS if there is none.
 *
 * The model is mostly off by no more than a few slots, at random.  Counting
 * the smaller keys in a window around the expected slot has no branch that
 * would depend on by how many, other than a search.
 */
static inline int
find_slot(const AlexDataNode *node, AlexEntry entry, int expected)
{
	const AlexEntry *window;
	int			nsmaller = 0;
	int			slot = expected - ALEX_DATA_WINDOW / 2 + 1;

	if (slot < 0)
		slot = 0;
	if (slot > ALEX_DATA_SLOTS - ALEX_DATA_WINDOW)
		slot = ALEX_DATA_SLOTS - ALEX_DATA_WINDOW;
	window = &node->slots[slot];
	if (node->over_tids)
	{
#pragma GCC unroll 8
		for (int i = 0; i < ALEX_DATA_WINDOW; i++)
			nsmaller += alex_entry_less(&window[i], entry);
	}
	else
	{
#pragma GCC unroll 8
		for (int i = 0; i < ALEX_DATA_WINDOW; i++)
			nsmaller += window[i].key < entry.key;
	}

	if (nsmaller > 0 && nsmaller < ALEX_DATA_WINDOW &&
		!alex_entry_less(&window[nsmaller], entry))
		return slot + nsmaller;
	return search_exponentially(node, entry, nsmaller < ALEX_DATA_WINDOW ?
								slot + nsmaller : slot + ALEX_DATA_WINDOW - 1);
}

int
alex_data_search(const AlexDataNode *node, AlexEntry entry)
{
	return find_slot(node, entry, expected_slot(node, entry));
}

/* The first gap at or after "slot"; ALEX_DATA_SLOTS or more if none. */
static inline int
next_gap(const AlexDataNode *node, int slot)
{
	int			word = slot >> 6;
	uint64_t	bits = ~node->taken[word] & (~UINT64_C(0) << (slot & 63));

	while (bits == 0)
	{
		if (++word > ALEX_DATA_SLOTS >> 6)
			return ALEX_DATA_SLOTS;
		bits = ~node->taken[word];
	}
	return (word << 6) + __builtin_ctzll(bits);
}

/* The last gap before "slot"; -1 if there is none. */
static inline int
previous_gap(const AlexDataNode *node, int slot)
{
	int			word = slot >> 6;
	uint64_t	bits = ~node->taken[word] & ~(~UINT64_C(0) << (slot & 63));

	while (bits == 0)
	{
		if (word == 0)
			return -1;
		bits = ~node->taken[--word];
	}
	return (word << 6) + 63 - __builtin_clzll(bits);
}

/*
 * Makes room in front of the taken slot "slot" by moving entries up to the
 * nearest gap, of which there is at least one.  Returns the slot that is
 * free for the new entry now, and marked as taken.
 */
static inline int
shift_to_gap(AlexDataNode *node, int slot)
{
	AlexEntry  *slots = node->slots;
	int			right = next_gap(node, slot);
	int			left = previous_gap(node, slot);

	if (right < ALEX_DATA_SLOTS && (left < 0 || right - slot <= slot - left))
	{
		memmove(&slots[slot + 1], &slots[slot],
				(right - slot) * sizeof(AlexEntry));
		node->taken[right >> 6] |= UINT64_C(1) << (right & 63);
		return slot;
	}
	memmove(&slots[left], &slots[left + 1],
			(slot - 1 - left) * sizeof(AlexEntry));
	node->taken[left >> 6] |= UINT64_C(1) << (left & 63);
	return slot - 1;
}

/*
 * The node has outgrown its model.  Entries that come in order leave the free
 * slots where the next ones go, so there only the model is renewed, over the
 * slots as they are; gaps count as the entry that they copy.
 */
static void
retrain(AlexDataNode *node)
{
	AlexEntry	entries[ALEX_DATA_SLOTS];

	if (node->ascents > node->inserts / 2)
	{
		int			end = alex_previous_taken(node, ALEX_DATA_SLOTS) + 1;

		train(node, node->slots, end, 1.0);
		node->retrain_at = next_training(node->count);
	}
	else
		alex_data_build(node, entries, alex_data_gather(node, entries));
}

/*
 * Halving the counts from time to time keeps them from overflowing in a node
 * where entries come and go, and lets it forget.
 */
static void
halve_counts(AlexDataNode *node)
{
	node->inserts /= 2;
	node->ascents /= 2;
	node->descents /= 2;
}

AlexDataResult
alex_data_insert(AlexDataNode *node, AlexEntry entry)
{
	AlexEntry  *slots = node->slots;
	int			last = node->last_slot;
	int			expected;
	int			slot;
	int			next;

	/* entries that come in order go right behind the one before */
	expected = last + 1;
	if (node->ascents < node->inserts / 2 || expected >= ALEX_DATA_SLOTS)
		expected = expected_slot(node, entry);
	slot = find_slot(node, entry, expected);
	next = alex_next_taken(node, slot);
	if (next < ALEX_DATA_SLOTS && slots[next].key == entry.key &&
		slots[next].tid == entry.tid)
		return ALEX_DATA_PRESENT;
	if (node->count >= ALEX_DATA_FULL)
		return ALEX_DATA_NO_ROOM;

	/*
	 * Of the gaps between its neighbours the entry takes the one that the
	 * model expects it in, or, if it comes in order, the one that leaves the
	 * others free for the entries that come next.
	 */
	if (++node->inserts == 2 * ALEX_DATA_SLOTS)
		halve_counts(node);
	if (slot == last + 1)
	{
		node->ascents++;
		expected = slot;
	}
	else if (next == last)
	{
		node->descents++;
		expected = next - 1;
	}
	if (next == slot)
	{
		slot = shift_to_gap(node, slot);
		slots[slot] = entry;
	}
	else
	{
		if (expected >= next)
			expected = next - 1;
		while (slot < expected)
			slots[slot++] = entry;
		slots[slot] = entry;
		node->taken[slot >> 6] |= UINT64_C(1) << (slot & 63);
	}
	node->last_slot = slot;
	if (++node->count == node->retrain_at)
		retrain(node);
	return ALEX_DATA_DONE;
}

/*
 * How many entries stay in the left node when a full node splits; counted
 * with the new entry, whose rank among them is "rank".
 *
 * Random insertions get two halves.  Where entries come in order, what is
 * behind the last of them is done and may stay nearly full: the split is made
 * at the new entry, on the side that leaves it more room to go on.  At either
 * end of the tree order that is only approximate is enough.
 */
int
alex_data_split_point(const AlexDataNode *node, int rank)
{
	int			total = node->count + 1;
	int			ordered = node->inserts / 4 * 3;

	if (node->ascents > ordered)
		return rank >= total / 2 ? rank : rank + 1;
	if (node->descents > ordered && rank < total / 2)
		return rank + 1;
	if (node->right == ALEX_NO_CHUNK && rank > total / 4 * 3)
		return total / 10 * 9;
	if (node->left == ALEX_NO_CHUNK && rank < total / 4)
		return total / 10;
	return total / 2;
}

/* Takes an entry out of a node that has others. */
bool
alex_data_delete(AlexDataNode *node, AlexEntry entry)
{
	AlexEntry	next = {UINT64_MAX, UINT64_MAX};
	int			first = alex_data_search(node, entry);
	int			slot = alex_next_taken(node, first);

	if (slot == ALEX_DATA_SLOTS || node->slots[slot].key != entry.key ||
		node->slots[slot].tid != entry.tid)
		return false;

	/* the gaps in front of it hold copies from "first" on */
	if (slot + 1 < ALEX_DATA_SLOTS)
		next = node->slots[slot + 1];
	while (first <= slot)
		node->slots[first++] = next;
	node->taken[slot >> 6] &= ~(UINT64_C(1) << (slot & 63));
	node->count--;
	return true;
}
