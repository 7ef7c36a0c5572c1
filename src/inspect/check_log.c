/*-------------------------------------------------------------------------
 *
 * check_log.c
 *	  Verification of the logs and of the memtable that caches them.
 *
 * The memtable is copied first, under its lock.  The logs are read afterwards
 * without it, since writers lock the log's tail before the memtable.  They
 * only grow, so that the part which the memtable had applied is still there.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/check_log.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "check.h"

/* All that a log entry's upper TID bits may say. */
#define LOG_TID_BITS	(ALEX_TID_MAX | ALEX_LOG_NULL | ALEX_LOG_DEAD)

typedef struct EntryArray
{
	AlexEntry  *entries;
	Size		count;
	Size		room;
} EntryArray;

/* A generation as the memtable had it. */
typedef struct HeldGeneration
{
	uint64		generation;
	AlexLogPosition applied;
	EntryArray	entries[ALEX_PARTS];
	uint64		hinted[ALEX_PARTS]; /* left out because they are dead */
	const char *fault;			/* of a tree's structure */
} HeldGeneration;

/* What has been read of a log. */
typedef struct ChainCheck
{
	AlexCheck  *check;
	const AlexLogChain *chain;
	bool		frozen;
	const HeldGeneration *held; /* NULL: not in memory */
	EntryArray	entries[ALEX_PARTS];	/* live ones */
	Size		napplied[ALEX_PARTS];	/* as far as the memtable had it */
	bool		applied_found;
} ChainCheck;

static void
add_entry(EntryArray *array, uint64 key, uint64 tid)
{
	if (array->count == array->room)
	{
		array->room = Max(array->room * 2, 1024);
		if (array->entries == NULL)
			array->entries = palloc(array->room * sizeof(AlexEntry));
		else
			array->entries = repalloc_huge(array->entries,
										   array->room * sizeof(AlexEntry));
	}
	array->entries[array->count].key = key;
	array->entries[array->count].tid = tid;
	array->count++;
}

static void
copy_tree(const AlexTree *tree, EntryArray *array)
{
	const AlexEntry first = {0, 0};

	if (tree->nentries == 0)
		return;
	array->room = tree->nentries;
	array->entries = MemoryContextAllocHuge(CurrentMemoryContext,
											array->room * sizeof(AlexEntry));
	array->count = alex_tree_scan(alex_arena_chunks(), tree, first, true, true,
								  array->entries, array->room);
}

/*
 * Copies both generations; false when the index has no memtable that should
 * agree with its log.  One that was loaded in recovery may lag behind, and is
 * brought up to date by whoever uses it.
 */
static bool
copy_memtable(AlexCheck *check, HeldGeneration *held)
{
	AlexMemtable *memtable = alex_registry_lock(check->index);
	bool		usable;

	if (memtable == NULL)
		return false;

	usable = memtable->state == ALEX_MEMTABLE_READY &&
		!memtable->in_recovery && !RecoveryInProgress() &&
		alex_memtable_is_of(memtable, check->manifest->incarnation);
	for (int i = 0; usable && i < lengthof(memtable->generations); i++)
	{
		const AlexMemtableGeneration *generation = &memtable->generations[i];

		held[i].generation = generation->generation;
		held[i].applied = generation->applied;
		for (int part = 0; part < ALEX_PARTS; part++)
		{
			const AlexTree *tree = &generation->trees[part];

			if (held[i].fault == NULL)
				held[i].fault = alex_tree_check(alex_arena_chunks(), tree);
			if (held[i].fault == NULL)
				copy_tree(tree, &held[i].entries[part]);
			held[i].hinted[part] = generation->hinted[part];
		}
	}
	LWLockRelease(&memtable->lock);

	return usable;
}

static void pg_attribute_noreturn()
fail_memtable(AlexCheck *check, uint64 generation, const char *fault)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("memtable of index \"%s\" is damaged",
					RelationGetRelationName(check->index)),
			 errdetail("Generation " UINT64_FORMAT ": %s.", generation, fault),
			 errhint("Restart the server to have it loaded again from the index.")));
}

/*
 * NULL, or what is wrong with the log page at hand apart from its entries.
 */
static const char *
log_page_fault(const ChainCheck *chain_check, BlockNumber block, uint64 stamp,
			   uint32 number)
{
	const AlexCheck *check = chain_check->check;
	const AlexLogChain *chain = chain_check->chain;
	const AlexLogPage *log = (const AlexLogPage *) check->page.data;
	bool		is_tail = number == chain->npages;
	bool		closed = (log->flags & ALEX_LOG_CLOSED) != 0;

	if (!alex_log_page_is((Page) check->page.data, stamp))
		return "the page is not the log page that was linked";
	if (log->header.version != ALEX_SEALED_VERSION)
		return psprintf("the page has format version %u", log->header.version);
	if (log->incarnation != check->manifest->incarnation)
		return "the page is of another incarnation of the index";
	if (log->generation != chain->generation)
		return psprintf("the page is of generation " UINT64_FORMAT,
						log->generation);
	if (log->number != number)
		return psprintf("the page has number %u instead of %u",
						log->number, number);
	if (log->count > ALEX_LOG_PAGE_ENTRIES)
		return psprintf("the page has %u entries", log->count);
	if (((const PageHeaderData *) log)->pd_lower !=
		offsetof(AlexLogPage, entries) + log->count * sizeof(AlexLogEntry))
		return "the page's free space is not where its entries end";
	if ((log->flags & ~ALEX_LOG_CLOSED) != 0)
		return "the page has unknown flags";
	if (closed != (chain_check->frozen && is_tail))
		return closed ? "the page is closed too early" :
			"the last page is not closed";
	if (is_tail && (block != chain->tail || stamp != chain->tail_stamp))
		return "the page is not the tail that the metapage names";
	if (!is_tail && number < chain->npages &&
		!BlockNumberIsValid(log->next))
		return "the log ends too early";
	if (chain_check->frozen && is_tail && BlockNumberIsValid(log->next))
		return "the log goes on behind its tail";
	return NULL;
}

static const char *
log_entry_fault(const AlexLogEntry *entry)
{
	if ((entry->tid & ~LOG_TID_BITS) != 0)
		return "an entry has unknown flags";
	if ((entry->tid & ALEX_LOG_NULL) != 0 && entry->key != 0)
		return "an entry for a NULL has a key";
	return NULL;
}

/*
 * Takes the entries of the page at hand, and notes where the memtable was.
 */
static const char *
take_page(ChainCheck *chain_check, uint64 stamp)
{
	const AlexLogPage *log = (const AlexLogPage *) chain_check->check->page.data;
	const HeldGeneration *held = chain_check->held;
	bool		was_here = held != NULL && held->applied.stamp == stamp;

	for (uint32 i = 0;; i++)
	{
		const AlexLogEntry *entry = &log->entries[i];
		const char *fault;

		if (was_here && held->applied.count == i)
		{
			for (int part = 0; part < ALEX_PARTS; part++)
				chain_check->napplied[part] = chain_check->entries[part].count;
			chain_check->applied_found = true;
		}
		if (i == log->count)
			return NULL;

		fault = log_entry_fault(entry);
		if (fault != NULL)
			return fault;
		if ((entry->tid & ALEX_LOG_DEAD) == 0)
		{
			AlexPart	part = ALEX_LOG_PART(entry);

			add_entry(&chain_check->entries[part], entry->key,
					  ALEX_LOG_TID(entry));
			fault = alex_check_entry(chain_check->check, part, entry->key,
									 ALEX_LOG_TID(entry));
			if (fault != NULL)
				return fault;
		}
	}
}

/* In recovery the manifest may change while we look. */
static bool
manifest_has_changed(AlexCheck *check)
{
	AlexManifest *manifest = alex_manifest_read(check->index);
	bool		changed = manifest->version != check->manifest->version ||
		manifest->incarnation != check->manifest->incarnation;

	pfree(manifest);
	return changed;
}

/* Reads the chain; false when the manifest has changed. */
static bool
check_chain(ChainCheck *chain_check)
{
	AlexCheck  *check = chain_check->check;
	const AlexLogChain *chain = chain_check->chain;
	const AlexLogPage *log = (const AlexLogPage *) check->page.data;
	BlockNumber block = chain->head;
	uint64		stamp = chain->head_stamp;
	uint32		number = 1;

	check->subject = psprintf("Log of generation " UINT64_FORMAT,
							  chain->generation);

	if (BlockNumberIsValid(block) != (chain->npages > 0) ||
		BlockNumberIsValid(chain->tail) != (chain->npages > 0) ||
		(chain->npages > 0 && chain->generation == 0) || chain->unused != 0)
		alex_check_fail(check, ALEX_META_BLOCK, "the metapage describes it in a way that contradicts itself");

	for (; BlockNumberIsValid(block); number++)
	{
		const char *fault;

		alex_check_read(check, block);
		fault = log_page_fault(chain_check, block, stamp, number);
		if (fault == NULL)
			fault = take_page(chain_check, stamp);
		if (fault != NULL)
		{
			if (manifest_has_changed(check))
				return false;
			alex_check_fail(check, block, fault);
		}
		alex_check_claim(check, block);

		block = log->next;
		stamp = log->next_stamp;
	}

	return true;
}

/* Are the sorted entries of the memtable all among those of the log? */
static bool
is_subset(const EntryArray *array, const AlexEntry *logged, Size count)
{
	Size		next = 0;

	for (Size i = 0; i < array->count; i++)
	{
		while (next < count &&
			   memcmp(&logged[next], &array->entries[i], sizeof(AlexEntry)) != 0)
			next++;
		if (next++ == count)
			return false;
	}
	return true;
}

/*
 * Compares what the memtable had with what the log says up to there.  It may
 * lack entries that scans found dead, and knows how many.
 */
static void
compare_with_memtable(ChainCheck *chain_check)
{
	AlexCheck  *check = chain_check->check;
	const HeldGeneration *held = chain_check->held;

	if (held->generation != chain_check->chain->generation)
		fail_memtable(check, held->generation, "it is not the one that the metapage names");
	if (held->fault != NULL)
		fail_memtable(check, held->generation, held->fault);
	if (held->applied.stamp != 0 && !chain_check->applied_found)
		fail_memtable(check, held->generation, "the log does not reach as far");

	for (int part = 0; part < ALEX_PARTS; part++)
	{
		const EntryArray *array = &held->entries[part];
		AlexEntry  *logged = chain_check->entries[part].entries;
		Size		count = chain_check->napplied[part];
		AlexEntry  *scratch;

		if (array->count + held->hinted[part] != count)
			fail_memtable(check, held->generation,
						  psprintf("it has %zu entries and " UINT64_FORMAT " hints, and the log %zu entries",
								   array->count, held->hinted[part], count));
		if (count == 0)
			continue;

		scratch = MemoryContextAllocHuge(CurrentMemoryContext,
										 count * sizeof(AlexEntry));
		alex_sort(logged, scratch, count);
		pfree(scratch);
		if (!is_subset(array, logged, count))
			fail_memtable(check, held->generation, "its entries are not those of the log");
	}
}

bool
alex_check_logs(AlexCheck *check)
{
	const AlexLogChain *chains[2];
	HeldGeneration held[2] = {0};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alex_check log",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	bool		loaded = copy_memtable(check, held);
	bool		unchanged = true;

	chains[ALEX_ACTIVE] = &check->manifest->active;
	chains[ALEX_FROZEN] = &check->manifest->frozen;

	for (int i = 0; unchanged && i < lengthof(chains); i++)
	{
		ChainCheck	chain_check = {0};

		chain_check.check = check;
		chain_check.chain = chains[i];
		chain_check.frozen = i == ALEX_FROZEN;
		chain_check.held = loaded ? &held[i] : NULL;

		unchanged = check_chain(&chain_check);
		if (unchanged && loaded)
			compare_with_memtable(&chain_check);
	}

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);

	return unchanged;
}
