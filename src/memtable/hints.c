/*-------------------------------------------------------------------------
 *
 * hints.c
 *	  Entries that scans found dead to all, so that later scans skip them.
 *
 * An entry of the memtable is simply taken out of it: the log still has it,
 * for VACUUM and for whoever loads the memtable again.  The danger is that
 * VACUUM has removed the entry since the scan read it, and that its TID has
 * been used again for a row with the same key, whose entry equals the old
 * one.  Before any TID of the log is used again VACUUM publishes a new dead
 * epoch in the memtable; so an entry is only taken out while the memtable has
 * the tenure and the dead epoch with which it was read.
 *
 * Entries of runs are hinted by bits in a table in shared memory, since
 * nothing may be written through a mapping, and nothing of a run changes but
 * the dead bits, which are WAL-logged.  A leaf page's contents never change and
 * its stamp is never given to another page, so what was once true of (stamp,
 * slot) is true for ever: no hint ever has to be taken back.  The table has
 * lines of 64 bytes, each with the bits of 384 slots of one leaf page under a
 * tag that mixes stamp, relation file (databases are copied with their stamps,
 * and made anew with their numbers: see birth.c) and the range of slots.  A line
 * may be given to other slots at any time, which loses hints and does no harm.  What must never happen is that a bit is
 * seen under another tag than it was set under: therefore each line has a
 * sequence number, odd while the line is being changed, by which readers tell
 * whether tag and bits belong together.  Who finds a line being changed by
 * another gives up rather than wait.
 *
 * Hints are neither set nor heeded in recovery: what is dead to all on the
 * primary may be visible to a snapshot of a standby, and the other way round.
 * They are never proof that an entry can be removed.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/hints.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "port/pg_bitutils.h"
#include "storage/shmem.h"

#include "alex/am.h"
#include "alex/memtable.h"

#define LINE_WORDS				6
#define LINE_SLOTS				(LINE_WORDS * 64)
/* A tag may stand in any line of its set. */
#define SET_LINES				4
/* How often a reader looks again at a line that was being changed. */
#define READ_ATTEMPTS			3

typedef struct HintLine
{
	pg_atomic_uint64 sequence;	/* odd: being changed */
	pg_atomic_uint64 tag;		/* 0: none */
	pg_atomic_uint64 bits[LINE_WORDS];
} HintLine;

StaticAssertDecl(sizeof(HintLine) == 64, "a line of hints is a cache line");

/* Where the bits of a range of slots belong. */
typedef struct HintPlace
{
	uint64		tag;
	HintLine   *set;
} HintPlace;

static HintLine *lines;
static uint64 set_mask;

/* The largest power of two of sets that fits the setting. */
static Size
number_of_sets(void)
{
	Size		most = (Size) alex_hint_memory * 1024 / (SET_LINES * sizeof(HintLine));
	Size		sets = 1;

	while (sets * 2 <= most)
		sets *= 2;
	return sets;
}

Size
alex_hints_shmem_size(void)
{
	return add_size(PG_CACHE_LINE_SIZE,
					mul_size(number_of_sets(), SET_LINES * sizeof(HintLine)));
}

void
alex_hints_shmem_init(void)
{
	bool		found;
	char	   *base;

	base = ShmemInitStruct("alexam hints", alex_hints_shmem_size(), &found);
	lines = (HintLine *) CACHELINEALIGN(base);
	set_mask = number_of_sets() - 1;
	if (found)
		return;
	for (Size i = 0; i < number_of_sets() * SET_LINES; i++)
	{
		pg_atomic_init_u64(&lines[i].sequence, 0);
		pg_atomic_init_u64(&lines[i].tag, 0);
		for (int word = 0; word < LINE_WORDS; word++)
			pg_atomic_init_u64(&lines[i].bits[word], 0);
	}
}

static inline uint64
mix(uint64 number)
{
	number = (number ^ (number >> 33)) * UINT64CONST(0xFF51AFD7ED558CCD);
	number = (number ^ (number >> 33)) * UINT64CONST(0xC4CEB9FE1A85EC53);
	return number ^ (number >> 33);
}

/*
 * The set is not computed from the tag, so that two leaf pages are taken for
 * one another only if 64 bits agree that are as random as their stamps.
 */
static inline HintPlace
find_place(Relation index, uint64 stamp, int range)
{
	const RelFileNode *node = &index->rd_node;
	uint64		salt;
	HintPlace	place;

	salt = (((((uint64) node->dbNode << 32) | node->relNode) ^
			 alex_database_birth()) * UINT64CONST(0x9E3779B97F4A7C15)) ^
		(((uint64) node->spcNode << 32) | (uint32) range);
	place.tag = mix(stamp ^ salt);
	if (place.tag == 0)
		place.tag = 1;
	place.set = &lines[((stamp * UINT64CONST(0xD6E8FEB86659FD93) +
						 salt * UINT64CONST(0xA0761D6478BD642F)) >> 32 & set_mask) *
					   SET_LINES];
	return place;
}

/* The line that has the tag, or NULL. */
static inline HintLine *
find_line(const HintPlace *place)
{
	for (int i = 0; i < SET_LINES; i++)
	{
		if (pg_atomic_read_u64(&place->set[i].tag) == place->tag)
			return &place->set[i];
	}
	return NULL;
}

/* Copies the bits of a range of slots; false if there are none. */
static bool
read_line(Relation index, uint64 stamp, int range, uint64 *bits)
{
	HintPlace	place = find_place(index, stamp, range);

	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++)
	{
		HintLine   *line = find_line(&place);
		uint64		sequence;
		bool		ours;

		if (line == NULL)
			return false;
		sequence = pg_atomic_read_u64(&line->sequence);
		pg_read_barrier();
		ours = pg_atomic_read_u64(&line->tag) == place.tag;
		for (int word = 0; word < LINE_WORDS; word++)
			bits[word] = pg_atomic_read_u64(&line->bits[word]);
		pg_read_barrier();
		if ((sequence & 1) == 0 && ours &&
			pg_atomic_read_u64(&line->sequence) == sequence)
			return true;
	}
	return false;
}

/* A line for a tag that has none: an unused one, or one of the others. */
static HintLine *
choose_line(const HintPlace *place)
{
	static unsigned int victim = 0;

	for (int i = 0; i < SET_LINES; i++)
	{
		if (pg_atomic_read_u64(&place->set[i].tag) == 0)
			return &place->set[i];
	}
	return &place->set[victim++ % SET_LINES];
}

static void
add_to_line(Relation index, uint64 stamp, int range, const uint64 *bits)
{
	HintPlace	place = find_place(index, stamp, range);
	HintLine   *line = find_line(&place);
	uint64		sequence;
	bool		ours;

	if (line == NULL)
		line = choose_line(&place);

	/* the exchange is a barrier: what follows is not seen before it */
	sequence = pg_atomic_read_u64(&line->sequence);
	if ((sequence & 1) != 0 ||
		!pg_atomic_compare_exchange_u64(&line->sequence, &sequence,
										sequence + 1))
		return;

	ours = pg_atomic_read_u64(&line->tag) == place.tag;
	pg_atomic_write_u64(&line->tag, place.tag);
	for (int word = 0; word < LINE_WORDS; word++)
	{
		uint64		old = ours ? pg_atomic_read_u64(&line->bits[word]) : 0;

		pg_atomic_write_u64(&line->bits[word], old | bits[word]);
	}
	pg_write_barrier();
	pg_atomic_write_u64(&line->sequence, sequence + 2);
}

/*
 * Which runs have hints is noted by index, 64 runs apart being taken for one
 * another, so that scans need not look into the table for all others.
 */
void
alex_hints_set(Relation index, AlexLocal *local, uint64 run, uint64 stamp,
			   const uint16 *slots, int nslots)
{
	AlexMemtable *memtable = local->memtable;

	for (int i = 0; i < nslots;)
	{
		int			range = slots[i] / LINE_SLOTS;
		uint64		bits[LINE_WORDS] = {0};

		for (; i < nslots && slots[i] / LINE_SLOTS == range; i++)
		{
			int			slot = slots[i] % LINE_SLOTS;

			bits[slot / 64] |= UINT64CONST(1) << (slot % 64);
		}
		add_to_line(index, stamp, range, bits);
	}

	if (memtable != NULL &&
		(pg_atomic_read_u64(&memtable->hinted_runs) & ALEX_HINTED_RUN(run)) == 0)
		pg_atomic_fetch_or_u64(&memtable->hinted_runs, ALEX_HINTED_RUN(run));
}

bool
alex_hints_get(Relation index, uint64 stamp, int first, int count,
			   uint64 *hinted)
{
	bool		any = false;

	memset(hinted, 0, ALEX_LEAF_BLOCK / 8);
	for (int i = 0; i < count;)
	{
		int			range = (first + i) / LINE_SLOTS;
		int			end = Min((range + 1) * LINE_SLOTS - first, count);
		uint64		bits[LINE_WORDS];

		if (!read_line(index, stamp, range, bits))
		{
			i = end;
			continue;
		}
		for (; i < end; i++)
		{
			int			slot = (first + i) % LINE_SLOTS;

			if ((bits[slot / 64] >> (slot % 64) & 1) != 0)
			{
				hinted[i / 64] |= UINT64CONST(1) << (i % 64);
				any = true;
			}
		}
	}
	return any;
}

int
alex_hints_skip_forward(Relation index, uint64 stamp, int from, int end)
{
	while (from < end)
	{
		uint64		bits[LINE_WORDS];
		int			range = from / LINE_SLOTS;

		if (!read_line(index, stamp, range, bits))
			return from;
		while (from < end && from / LINE_SLOTS == range)
		{
			int			slot = from % LINE_SLOTS;
			uint64		free = ~bits[slot / 64] >> (slot % 64);

			if (free != 0)
				return Min(from + pg_rightmost_one_pos64(free), end);
			from += 64 - slot % 64;
		}
	}
	return end;
}

int
alex_hints_skip_backward(Relation index, uint64 stamp, int from)
{
	while (from > 0)
	{
		uint64		bits[LINE_WORDS];
		int			range = (from - 1) / LINE_SLOTS;

		if (!read_line(index, stamp, range, bits))
			return from;
		while (from > 0 && (from - 1) / LINE_SLOTS == range)
		{
			int			slot = (from - 1) % LINE_SLOTS;
			uint64		free = ~bits[slot / 64] << (63 - slot % 64);

			if (free != 0)
				return from - (63 - pg_leftmost_one_pos64(free));
			from -= slot % 64 + 1;
		}
	}
	return 0;
}

void
alex_hints_delete(AlexLocal *local, uint64 generation, AlexPart part,
				  const AlexMoment *moment, const AlexEntry *entries,
				  int nentries)
{
	AlexMemtable *memtable = local->memtable;

	if (memtable == NULL || moment->tenure == 0)
		return;

	LWLockAcquire(&memtable->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u64(&memtable->tenure) == moment->tenure &&
		memtable->state == ALEX_MEMTABLE_READY && !memtable->in_recovery &&
		memtable->dead_epoch == moment->dead_epoch)
	{
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			AlexMemtableGeneration *held = &memtable->generations[i];

			if (held->generation != generation)
				continue;
			for (int n = 0; n < nentries; n++)
			{
				/* another scan may have been here before us */
				if (alex_tree_delete(alex_arena_chunks(), &held->trees[part],
									 entries[n]))
					held->hinted[part]++;
			}
		}
		alex_memtable_publish(memtable);
	}
	LWLockRelease(&memtable->lock);
}

/* Reads on in a generation of the memtable; -1 if it is not there. */
static int
read_generation(Relation index, uint64 generation, AlexPart part,
				AlexEntry from, AlexEntry *out, int max)
{
	AlexMemtable *memtable = alex_registry_lock(index);
	int			result = -1;

	if (memtable == NULL)
		return -1;
	if (memtable->state == ALEX_MEMTABLE_READY && !memtable->in_recovery)
	{
		for (int i = 0; i < lengthof(memtable->generations); i++)
		{
			AlexMemtableGeneration *held = &memtable->generations[i];

			if (held->generation == generation && held->hinted[part] > 0)
				result = alex_tree_scan(alex_arena_chunks(),
										&held->trees[part], from, true, true,
										out, max);
		}
	}
	LWLockRelease(&memtable->lock);
	return result;
}

bool
alex_hints_find(Relation index, uint64 generation, AlexPart part,
				const AlexEntry *entries, Size nentries,
				uint8 *flags, uint8 flag)
{
	AlexEntry	read[512];
	bool		any = false;
	Size		i = 0;

	while (i < nentries)
	{
		int			n = read_generation(index, generation, part, entries[i],
										read, lengthof(read));

		if (n < 0)
			break;

		/* what the memtable lacks in front of an entry that it has is dead */
		for (int r = 0; r < n && i < nentries; r++)
		{
			int			order = -1;

			for (; i < nentries; i++)
			{
				order = alex_compare(entries[i].key, entries[i].tid,
									 read[r].key, read[r].tid);
				if (order >= 0)
					break;
				flags[i] |= flag;
				any = true;
			}
			if (i < nentries && order == 0)
				i++;
		}
		if (n < lengthof(read))
		{
			for (; i < nentries; i++)
			{
				flags[i] |= flag;
				any = true;
			}
		}
	}
	return any;
}

uint64
alex_hints_runs(Relation index)
{
	AlexMemtable *memtable = alex_registry_lock(index);
	uint64		runs = 0;

	if (memtable != NULL)
	{
		runs = pg_atomic_read_u64(&memtable->hinted_runs);
		LWLockRelease(&memtable->lock);
	}
	return runs;
}
