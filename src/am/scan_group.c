/*-------------------------------------------------------------------------
 *
 * scan_group.c
 *	  Several keys of a list looked up at the same time.
 *
 * A lookup spends most of its time waiting for memory: for lines of the
 * Bloom filter, of the model, of the fences, and of a leaf page, one after
 * the other.  A scan that knows its next keys need not wait for each of them.
 * It takes one step for all keys of a GROUP before it takes the next one, and
 * each step asks for the lines that the next one will read.
 *
 * What comes of it is a batch of entries, like a cursor's but from several
 * leaf pages and runs, and from the memtable.  It has all entries of its keys,
 * so it does not matter to it if a generation is sealed before they have been
 * delivered.  Only keys of the simple sort are in a group: with few entries in
 * each source, none of which begin or end on another leaf page.  The group ends
 * before any other, for which cursors are started as for any interval.
 *
 * A group is read in the reader's place, if the scan needs an interlock with
 * VACUUM: the place is entered, or moved, before the first dead bit is looked
 * at.  As a group is one batch, there may be any number of runs.  Where only
 * pins would do there are no groups.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/scan_group.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "pgstat.h"
#include "utils/memutils.h"

#include "alex/scan.h"

/* A key with as many entries as this in a source is left to cursors. */
#define GROUP_KEY_ENTRIES		4

/*
 * Where most keys are not of the simple sort, so many are read without
 * looking at them as a group first.
 */
#define GROUP_PAUSE				16

/* The keys of a group that is being read. */
typedef struct GroupKeys
{
	int			nkeys;
	uint64		keys[ALEX_GROUP_KEYS];	/* ascending, like the intervals */
	int			begin;			/* those of [begin, end) will be delivered */
	int			end;
} GroupKeys;

static AlexGroup *
group_create(AlexScan *state)
{
	AlexGroup  *group = MemoryContextAllocZero(state->context,
											   sizeof(AlexGroup));

	group->cursor.group = group;
	state->group = group;
	return group;
}

void
alex_group_reset(AlexScan *state, int batch_size)
{
	if (state->group == NULL)
		group_create(state);
	state->group->limit = Min(batch_size, ALEX_GROUP_KEYS);
	state->group->pause = 0;
}

/* The group will end before (going backward: after) this key. */
static inline void
cut_group(AlexScan *state, GroupKeys *group_keys, int which)
{
	if (state->forward)
		group_keys->end = Min(group_keys->end, which);
	else
		group_keys->begin = Max(group_keys->begin, which + 1);
}

/*
 * Takes the next intervals as long as they are single keys.  Returns false if
 * that is not worth while.
 */
static bool
take_keys(AlexScan *state, int number, GroupKeys *group_keys)
{
	AlexInterval *items = state->intervals.items;
	int			limit = state->group->limit;
	int			first = number;
	int			last = number;

	if (state->forward)
	{
		int			end = Min(state->intervals.count, number + limit);

		while (last < end && items[last].low == items[last].high)
			last++;
	}
	else
	{
		int			end = Max(0, number + 1 - limit);

		last++;
		first++;
		while (first > end && items[first - 1].low == items[first - 1].high)
			first--;
	}
	if (last - first < 2)
		return false;

	group_keys->nkeys = last - first;
	for (int i = 0; i < group_keys->nkeys; i++)
		group_keys->keys[i] = items[first + i].low;
	group_keys->begin = 0;
	group_keys->end = group_keys->nkeys;
	return true;
}

/*
 * Sees to it that VACUUM waits for the scan, if it must, until it has done with
 * the group.  The caller has come back for the entry after the last one that
 * it was given, so nothing else is in hand.
 */
static bool
enter_place(AlexScan *state)
{
	if (!state->interlock)
		return true;
	if (RecoveryInProgress())
		return false;
	if (!state->has_place)
		alex_scan_try_enter(state, ALEX_READER_ANYWHERE);
	if (!state->has_place)
		return false;
	alex_scan_move(state, ALEX_READER_ANYWHERE);
	return true;
}

/*
 * Which keys, of those that the group still has, may be in the run?  Returns
 * their number, and fills in keys[] and which[].
 */
static int
keys_for_run(AlexScanRun *run, const GroupKeys *group_keys,
			 uint64 *keys, int *which)
{
	const AlexRun *listed = run->run;
	int			n = 0;
	int			wanted = 0;

	for (int i = group_keys->begin; i < group_keys->end; i++)
	{
		if (group_keys->keys[i] < listed->min.key ||
			group_keys->keys[i] > listed->max.key)
			continue;
		keys[n] = group_keys->keys[i];
		which[n++] = i;
	}
	if (listed->bloom_pages == 0)
		return n;

	for (int i = 0; i < n; i++)
		alex_run_prefetch_filter(&run->reader, keys[i]);
	for (int i = 0; i < n; i++)
	{
		if (!alex_run_may_contain(&run->reader, keys[i]))
			continue;
		keys[wanted] = keys[i];
		which[wanted++] = which[i];
	}
	return wanted;
}

/* Adds an entry to the batch. */
static inline void
add_entry(AlexGroup *group, uint64 key, uint64 tid, AlexEntryOrigin origin)
{
	AlexCursor *cursor = &group->cursor;
	int			n = group->nentries++;

	if (n > 0 && alex_compare(cursor->keys[n - 1], cursor->tids[n - 1],
							  key, tid) >= 0)
		group->unsorted = true;
	cursor->keys[n] = key;
	cursor->tids[n] = tid;
	group->origins[n] = origin;
}

/*
 * Cuts the group before a generation has more entries of its keys than half the
 * batch's room: the other sources need some, too.
 */
static void
cut_to_room(AlexScan *state, GroupKeys *group_keys, const uint8 *counts)
{
	int			room = (ALEX_LEAF_BLOCK - state->group->nentries) / 2;
	int			step = state->forward ? 1 : -1;
	int			first = state->forward ? 0 : group_keys->nkeys - 1;

	for (int i = 0; i < group_keys->nkeys; i++)
	{
		int			which = first + i * step;

		if (counts[which] == GROUP_KEY_ENTRIES || counts[which] > room)
		{
			cut_group(state, group_keys, which);
			return;
		}
		room -= counts[which];
	}
}

/*
 * Adds the entries that the memtable has of the group's keys.  These are all
 * that the view has there, whatever becomes of the generation after that.
 * False if they cannot be had.
 */
static bool
add_memtable_entries(AlexScan *state, GroupKeys *group_keys)
{
	AlexGroup  *group = state->group;
	uint64		generations[2];

	generations[ALEX_ACTIVE] = state->view.manifest->active.generation;
	generations[ALEX_FROZEN] = state->view.manifest->frozen.generation;
	for (int i = 0; i < lengthof(generations); i++)
	{
		AlexEntryOrigin origin = {0, generations[i], 0};
		AlexEntry	entries[ALEX_GROUP_KEYS * GROUP_KEY_ENTRIES];
		uint8		counts[ALEX_GROUP_KEYS];

		if (generations[i] == 0)
			continue;
		if (!alex_view_read_keys(state->local, &state->view, generations[i],
								 group_keys->keys, group_keys->nkeys,
								 entries, GROUP_KEY_ENTRIES, counts,
								 &group->moments[i]))
			return false;
		cut_to_room(state, group_keys, counts);
		for (int j = group_keys->begin; j < group_keys->end; j++)
		{
			for (int k = 0; k < counts[j]; k++)
			{
				AlexEntry	entry = entries[j * GROUP_KEY_ENTRIES + k];

				add_entry(group, entry.key, entry.tid, origin);
			}
		}
	}
	group->has_memtable_entries = group->nentries > 0;
	alex_scan_test_snapshot(state);
	return true;
}

/*
 * Adds the entries with the key that a leaf page has.  False if there may be
 * others on the next one, or too many.
 */
static bool
add_key(AlexScan *state, AlexScanRun *run, const char *page, uint32 number,
		uint64 key)
{
	AlexGroup  *group = state->group;
	AlexEntryOrigin origin = {run->run->id, alex_page_header(page)->stamp, 0};
	int			nentries = alex_leaf_count(page);
	int			slot = alex_leaf_search_shape(page, key, 0, &run->reader.shape);
	int			count = Min(nentries - slot, GROUP_KEY_ENTRIES);
	int			same = 0;
	bool		any_dead = alex_leaf_dead_count(page) > 0;
	uint64		hinted[ALEX_LEAF_BLOCK / 64] = {0};
	uint64		keys[GROUP_KEY_ENTRIES];
	uint64		tids[GROUP_KEY_ENTRIES];

	if (count > 0)
		alex_leaf_unpack(page, slot, count, keys, NULL);
	while (same < count && keys[same] == key)
		same++;
	if (same == GROUP_KEY_ENTRIES ||
		group->nentries + same > ALEX_LEAF_BLOCK)
		return false;
	if (slot + same == nentries && number + 1 < run->run->leaf_pages)
	{
		AlexFence	next;

		alex_run_fence(&run->reader, number + 1, &next);
		if (next.key == key)
			return false;
	}
	if (same == 0)
		return true;

	alex_leaf_unpack(page, slot, same, NULL, tids);
	if (unlikely((state->hinted_runs & ALEX_HINTED_RUN(run->run->id)) != 0))
		(void) alex_hints_get(state->index, origin.stamp, slot, same, hinted);
	for (int i = 0; i < same; i++)
	{
		if ((hinted[0] >> i & 1) != 0 ||
			(any_dead && alex_leaf_is_dead(page, slot + i)))
			continue;
		origin.slot = slot + i;
		add_entry(group, key, tids[i], origin);
	}
	return true;
}

/*
 * Adds the entries that a run has of the group's keys.  False if the run cannot
 * be read in this way.
 */
static bool
add_run_entries(AlexScan *state, AlexScanRun *run, GroupKeys *group_keys)
{
	AlexPageReference leaf = ALEX_PAGE_REFERENCE_NONE;
	uint64		keys[ALEX_GROUP_KEYS];
	int			which[ALEX_GROUP_KEYS];
	uint32		numbers[ALEX_GROUP_KEYS];
	AlexFence	places[ALEX_GROUP_KEYS];
	uint32		leaf_number = 0;
	int			nkeys;

	if (run->run->part != ALEX_PART_VALUES ||
		run->run->min.key > group_keys->keys[group_keys->nkeys - 1] ||
		run->run->max.key < group_keys->keys[0])
		return true;
	alex_scan_run_open(state, run);
	if (!alex_run_is_mapped(&run->reader))
		return false;
	nkeys = keys_for_run(run, group_keys, keys, which);
	if (nkeys == 0)
		return true;
	alex_run_find_group(&run->reader, keys, nkeys, numbers, places);

	for (int i = 0; i < nkeys; i++)
	{
		if (which[i] < group_keys->begin || which[i] >= group_keys->end)
			continue;
		if (leaf.page == NULL || numbers[i] != leaf_number)
		{
			alex_page_open(&state->reader, places[i].block, places[i].stamp,
						   ALEX_PAGE_LEAF, run->run->id, false, &leaf);
			TestForOldSnapshot(state->scan->xs_snapshot, state->index,
							   (Page) leaf.page);
			leaf_number = numbers[i];
		}
		if (!add_key(state, run, leaf.page, numbers[i], keys[i]))
			cut_group(state, group_keys, which[i]);
	}
	alex_page_close(&leaf);
	return true;
}

static inline void
copy_entry(AlexGroup *group, int to, int from)
{
	group->cursor.keys[to] = group->cursor.keys[from];
	group->cursor.tids[to] = group->cursor.tids[from];
	group->origins[to] = group->origins[from];
}

/*
 * Brings the entries of several runs into order.  Should two runs have one
 * entry, the second is dropped, see scan_merge.c.
 */
static void
sort_entries(AlexGroup *group)
{
	AlexCursor *cursor = &group->cursor;
	int			n = 0;

	for (int i = 0; i < group->nentries; i++)
	{
		uint64		key = cursor->keys[i];
		uint64		tid = cursor->tids[i];
		AlexEntryOrigin origin = group->origins[i];
		int			at = n;
		int			order = 1;

		while (at > 0 &&
			   (order = alex_compare(key, tid, cursor->keys[at - 1],
									 cursor->tids[at - 1])) < 0)
			at--;
		if (at > 0 && order == 0)
		{
			alex_duplicates_dropped++;
			continue;
		}
		for (int j = n; j > at; j--)
			copy_entry(group, j, j - 1);
		cursor->keys[at] = key;
		cursor->tids[at] = tid;
		group->origins[at] = origin;
		n++;
	}
	group->nentries = n;
}

/*
 * Makes the cursor deliver the entries of the keys that the group has in the
 * end.
 */
static void
start_cursor(AlexScan *state, const GroupKeys *group_keys)
{
	AlexGroup  *group = state->group;
	AlexCursor *cursor = &group->cursor;
	uint64		low = group_keys->keys[group_keys->begin];
	uint64		high = group_keys->keys[group_keys->end - 1];
	int			begin = 0;
	int			end = group->nentries;

	while (begin < end && cursor->keys[begin] < low)
		begin++;
	while (begin < end && cursor->keys[end - 1] > high)
		end--;
	cursor->finished = true;
	cursor->left = end - begin;
	cursor->prefetched = cursor->left;
	cursor->at = state->forward ? begin - 1 : end;
	alex_merge_start_single(state, cursor);
}

/* A leaf page that a cursor keeps pinned is of no use to a group. */
static void
let_go_of_pins(AlexScan *state)
{
	for (int i = 0; i < state->nruns; i++)
	{
		if (state->runs[i].cursor != NULL)
			alex_page_close(&state->runs[i].cursor->leaf);
	}
	state->pin_leaves = false;
}

/*
 * Starts a scan of interval "number" and of others after it, in the scan's
 * direction.  Returns how many these are: zero, if cursors must be started
 * for the first one.
 */
int
alex_group_start(AlexScan *state, int number)
{
	AlexGroup  *group = state->group;
	GroupKeys	group_keys;
	int			nkeys;

	if (group->pause > 0)
	{
		group->pause--;
		return 0;
	}
	if (state->nulls_wanted || !state->snapshot_is_mvcc ||
		state->sealed != NULL || state->reader.mapping == NULL ||
		!take_keys(state, number, &group_keys))
		return 0;

	/* unless it comes to something */
	group->pause = GROUP_PAUSE;
	if (!enter_place(state))
		return 0;
	if (state->pin_leaves)
		let_go_of_pins(state);
	state->has_entries = true;
	group->nentries = 0;
	group->unsorted = false;
	group->has_memtable_entries = false;
	if (!state->view.memtable_empty &&
		!add_memtable_entries(state, &group_keys))
		return 0;
	for (int i = 0; i < state->nruns && group_keys.begin < group_keys.end; i++)
	{
		if (!add_run_entries(state, &state->runs[i], &group_keys))
			return 0;
	}
	nkeys = group_keys.end - group_keys.begin;
	if (nkeys <= 0)
		return 0;
	if (nkeys >= group_keys.nkeys / 4)
		group->pause = 0;
	if (group->unsorted)
		sort_entries(group);
	start_cursor(state, &group_keys);
	group->limit = Min(group->limit * ALEX_BATCH_GROWTH, ALEX_GROUP_KEYS);
	return nkeys;
}

static inline bool
entry_is_killed(const AlexGroup *group, int number)
{
	return (group->cursor.killed[number / 64] >> (number % 64) & 1) != 0;
}

/* Deletes entries that were found dead from a generation of the memtable. */
static void
delete_killed(AlexScan *state, AlexGroup *group, uint64 generation,
			  const AlexMoment *moment)
{
	AlexEntry	entries[ALEX_LEAF_BLOCK];
	int			n = 0;

	for (int i = 0; i < group->nentries; i++)
	{
		const AlexEntryOrigin *origin = &group->origins[i];

		if (!entry_is_killed(group, i) || origin->run != 0 ||
			origin->stamp != generation)
			continue;
		entries[n].key = group->cursor.keys[i];
		entries[n++].tid = group->cursor.tids[i];
	}
	if (n > 0)
		alex_hints_delete(state->local, generation, ALEX_PART_VALUES, moment,
						  entries, n);
}

/*
 * Makes known which entries of the batch were found dead, a leaf page at a
 * time.
 */
void
alex_group_apply_killed(AlexScan *state, AlexGroup *group)
{
	AlexManifest *manifest = state->view.manifest;
	AlexCursor *cursor = &group->cursor;
	uint16		slots[ALEX_LEAF_BLOCK];
	int			n = 0;

	if (group->has_memtable_entries)
	{
		delete_killed(state, group, manifest->active.generation,
					  &group->moments[ALEX_ACTIVE]);
		delete_killed(state, group, manifest->frozen.generation,
					  &group->moments[ALEX_FROZEN]);
	}
	for (int i = 0; i < group->nentries; i++)
	{
		const AlexEntryOrigin *origin = &group->origins[i];

		if (entry_is_killed(group, i) && origin->run != 0)
			slots[n++] = origin->slot;
		if (n > 0 && (i + 1 == group->nentries ||
					  group->origins[i + 1].run != origin->run ||
					  group->origins[i + 1].stamp != origin->stamp))
		{
			alex_hints_set(state->index, state->local, origin->run,
						   origin->stamp, slots, n);
			n = 0;
		}
	}
	memset(cursor->killed, 0, sizeof(cursor->killed));
	cursor->has_killed = false;
}
