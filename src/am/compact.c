/*-------------------------------------------------------------------------
 *
 * compact.c
 *	  Compaction: several runs become one, without their dead entries.
 *
 * Runs of like size are merged when enough of them have come together, so
 * that an entry is rewritten a number of times logarithmic in the size of
 * the index.  Where the key ranges of the runs do not overlap, whole leaf
 * pages are taken over as they are and only a new model is written: keys
 * that ascend are never rewritten.  A run with many dead entries is
 * rewritten by itself.
 *
 * One WAL record puts the new run in and marks the old ones retired.  They
 * stay listed, and VACUUM goes on to visit them, until no scan can be
 * following an older manifest: their safexid is behind every snapshot.  Then
 * they leave the manifest, and their pages are freed.
 *
 * The safexid is the next transaction id at some moment when everybody could
 * see the change.  Read any earlier, it would not do: a view is taken without
 * a lock, so that until the change is published a scan could follow the older
 * manifest with a snapshot that is newer than what we read; and on a standby
 * transactions that come before the change in WAL could be newer, too.  So a
 * second record adds it, and until then the runs cannot be removed.
 *
 * The maintenance lock keeps VACUUM from setting dead bits in runs while
 * they are copied (hazard H8).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/compact.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "alex/am.h"
#include "alex/scan.h"

/* This many runs of one size class are merged; a class is a factor of it. */
#define TIER_FANOUT				4
/* A run with more than one dead entry in so many is rewritten. */
#define DEAD_FRACTION			5
/* Smaller runs are rewritten rather than taken over page by page. */
#define MIN_ADOPTED_LEAVES		8

/* A run being read in order, dead entries left out. */
typedef struct AlexRunStream
{
	AlexRunReader reader;
	AlexPageReference page;
	uint32		next_leaf;
	int			next_slot;		/* on the page */
	int			slots;
	int			position;		/* in the unpacked entries */
	int			count;
	uint64		keys[ALEX_LEAF_BLOCK];
	uint64		tids[ALEX_LEAF_BLOCK];
	bool		may_be_hinted;	/* scans found entries of the run dead */
	bool		hinted[ALEX_LEAF_BLOCK];	/* unless any_hinted is not set */
	bool		any_hinted;
} AlexRunStream;

static void
open_stream(AlexRunStream *stream, AlexReader *reader, const AlexRun *run)
{
	memset(stream, 0, offsetof(AlexRunStream, keys));
	stream->may_be_hinted = (alex_hints_runs(reader->index) &
							 ALEX_HINTED_RUN(run->id)) != 0;
	stream->any_hinted = false;
	stream->page.buffer = InvalidBuffer;
	alex_run_open(&stream->reader, reader, run);
}

static void
close_stream(AlexRunStream *stream)
{
	alex_page_close(&stream->page);
	alex_run_close(&stream->reader);
}

/* Opens the next leaf page; false at the end of the run. */
static bool
next_leaf(AlexRunStream *stream)
{
	const AlexRun *run = stream->reader.run;
	AlexFence	fence;

	vacuum_delay_point();

	if (stream->next_leaf == run->leaf_pages)
		return false;
	alex_run_fence(&stream->reader, stream->next_leaf++, &fence);
	alex_page_open(stream->reader.reader, fence.block, fence.stamp,
				   ALEX_PAGE_LEAF, run->id, false, &stream->page);
	stream->next_slot = 0;
	stream->slots = alex_leaf_count(stream->page.page);
	return true;
}

/* Unpacks the next live entries; false at the end of the run. */
static bool
fill_stream(AlexRunStream *stream)
{
	stream->position = 0;
	stream->count = 0;
	while (stream->count == 0)
	{
		int			n;
		int			first = stream->next_slot;
		uint64		hinted[ALEX_LEAF_BLOCK / 64];

		if (first == stream->slots)
		{
			if (!next_leaf(stream))
				return false;
			continue;
		}

		n = Min(stream->slots - first, ALEX_LEAF_BLOCK);
		alex_leaf_unpack(stream->page.page, first, n, stream->keys,
						 stream->tids);
		stream->next_slot += n;
		stream->any_hinted = stream->may_be_hinted &&
			alex_hints_get(stream->reader.reader->index,
						   alex_page_header(stream->page.page)->stamp,
						   first, n, hinted);
		if (alex_leaf_dead_count(stream->page.page) == 0 &&
			!stream->any_hinted)
		{
			stream->count = n;
			break;
		}
		for (int i = 0; i < n; i++)
		{
			if (alex_leaf_is_dead(stream->page.page, first + i))
				continue;
			stream->keys[stream->count] = stream->keys[i];
			stream->tids[stream->count] = stream->tids[i];
			stream->hinted[stream->count] = stream->any_hinted &&
				(hinted[i / 64] >> (i % 64) & 1) != 0;
			stream->count++;
		}
	}
	return true;
}

static inline bool
advance_stream(AlexRunStream *stream)
{
	return ++stream->position < stream->count || fill_stream(stream);
}

/* For binaryheap, whose first element is the greatest. */
static int
compare_streams(Datum a, Datum b, void *context)
{
	AlexRunStream *s1 = (AlexRunStream *) DatumGetPointer(a);
	AlexRunStream *s2 = (AlexRunStream *) DatumGetPointer(b);

	return -alex_compare(s1->keys[s1->position], s1->tids[s1->position],
						 s2->keys[s2->position], s2->tids[s2->position]);
}

/* Passes the live entries of overlapping runs to the dropper in order. */
static void
merge_runs(AlexReader *reader, const AlexRun **runs, int nruns,
		   AlexDropper *dropper)
{
	AlexRunStream *streams = palloc(sizeof(AlexRunStream) * nruns);
	binaryheap *heap = binaryheap_allocate(nruns, compare_streams, NULL);
	AlexEntry	last = {0};
	bool		first = true;

	for (int i = 0; i < nruns; i++)
	{
		open_stream(&streams[i], reader, runs[i]);
		if (fill_stream(&streams[i]))
			binaryheap_add_unordered(heap, PointerGetDatum(&streams[i]));
	}
	binaryheap_build(heap);

	while (!binaryheap_empty(heap))
	{
		AlexRunStream *stream = (AlexRunStream *) DatumGetPointer(binaryheap_first(heap));
		uint64		key = stream->keys[stream->position];
		uint64		tid = stream->tids[stream->position];

		if (first || alex_compare(last.key, last.tid, key, tid) != 0)
			alex_dropper_add(dropper, key, tid,
							 stream->any_hinted &&
							 stream->hinted[stream->position]);
		else
			alex_duplicates_dropped++;
		last.key = key;
		last.tid = tid;
		first = false;

		if (advance_stream(stream))
			binaryheap_replace_first(heap, PointerGetDatum(stream));
		else
			binaryheap_remove_first(heap);
	}

	for (int i = 0; i < nruns; i++)
		close_stream(&streams[i]);
	alex_dropper_flush(dropper);
	binaryheap_free(heap);
	pfree(streams);
}

/*
 * Should the run's leaf pages be taken over as they are?  "hinted" is what
 * alex_hints_runs says.
 */
static bool
worth_adopting(const AlexRun *run, bool all, uint64 hinted)
{
	if (run->leaf_pages < MIN_ADOPTED_LEAVES)
		return false;
	if (all)
		return run->dead == 0 && (hinted & ALEX_HINTED_RUN(run->id)) == 0;
	return run->dead * DEAD_FRACTION <= run->entries;
}

/*
 * Writes runs that do not overlap, in order, one behind the other.  Sets
 * moved[] for those whose leaf pages were taken over.
 */
static void
concatenate_runs(AlexReader *reader, const AlexRun **runs, int nruns,
				 bool all, AlexRunWriter *writer, AlexDropper *dropper,
				 bool *moved)
{
	uint64		hinted = alex_hints_runs(reader->index);

	for (int i = 0; i < nruns; i++)
	{
		if (worth_adopting(runs[i], all, hinted))
		{
			AlexRunReader run_reader;

			alex_run_open(&run_reader, reader, runs[i]);
			for (uint32 leaf = 0; leaf < runs[i]->leaf_pages; leaf++)
			{
				AlexFence	fence;

				CHECK_FOR_INTERRUPTS();
				alex_run_fence(&run_reader, leaf, &fence);
				alex_run_writer_adopt(writer, &fence);
			}
			alex_run_close(&run_reader);
			moved[i] = true;
		}
		else
			merge_runs(reader, &runs[i], 1, dropper);
	}
}

static int
compare_by_first_entry(const void *a, const void *b)
{
	const AlexRun *r1 = *(const AlexRun *const *) a;
	const AlexRun *r2 = *(const AlexRun *const *) b;

	return alex_compare(r1->min.key, r1->min.tid, r2->min.key, r2->min.tid);
}

static int
compare_by_size(const void *a, const void *b)
{
	const AlexRun *r1 = *(const AlexRun *const *) a;
	const AlexRun *r2 = *(const AlexRun *const *) b;

	if (r1->entries != r2->entries)
		return r1->entries < r2->entries ? -1 : 1;
	return r1->id < r2->id ? -1 : 1;
}

static int
size_class(const AlexRun *run)
{
	int			class = 0;

	for (uint64 entries = run->entries; entries >= TIER_FANOUT;
		 entries /= TIER_FANOUT)
		class++;
	return class;
}

/*
 * Picks the runs of one part that are due for compaction and returns their
 * number; 0 when none are.
 */
static int
choose_due(Relation index, const AlexManifest *manifest, AlexPart part,
		   bool all, const AlexRun **chosen)
{
	int			nlive = 0;
	int			nchurned;
	uint64		dead = 0;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if (run->part == part && (run->flags & ALEX_RUN_RETIRED) == 0)
		{
			chosen[nlive++] = run;
			dead += run->dead;
		}
	}

	if (all)
	{
		uint64		hinted = alex_hints_runs(index);

		for (int i = 0; i < nlive; i++)
			dead += (hinted & ALEX_HINTED_RUN(chosen[i]->id)) != 0;
		return (nlive > 1 || dead > 0) ? nlive : 0;
	}

	for (int i = 0; i < nlive; i++)
	{
		if (chosen[i]->dead * DEAD_FRACTION > chosen[i]->entries)
		{
			chosen[0] = chosen[i];
			return 1;
		}
	}

	nchurned = alex_choose_churned(index, manifest, chosen, nlive);
	if (nchurned > 0)
		return nchurned;

	/* the smallest size class that is full */
	qsort(chosen, nlive, sizeof(AlexRun *), compare_by_size);
	for (int from = 0; from < nlive;)
	{
		int			to = from + 1;

		while (to < nlive && size_class(chosen[to]) == size_class(chosen[from]))
			to++;
		if (to - from >= TIER_FANOUT)
		{
			memmove(chosen, chosen + from, sizeof(AlexRun *) * (to - from));
			return to - from;
		}
		from = to;
	}
	return 0;
}

/*
 * A long-lived snapshot keeps the pages of retired runs; more compaction
 * would then only make the file grow.
 */
static bool
too_much_retired(const AlexManifest *manifest)
{
	uint64		retired = 0;
	uint64		live = 0;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) == 0)
			live += run->leaf_pages;
		else if ((run->flags & ALEX_RUN_MOVED) == 0)
			retired += run->leaf_pages;
	}
	return retired > 64 && retired * 10 > live * 3;
}

static void
publish_change(AlexManifestChange *change, void *context)
{
	alex_memtable_changed(change->index, change->manifest);
}

/* Retired, but nobody knows yet how long it must stay listed. */
static inline bool
lacks_safexid(const AlexRun *run)
{
	return (run->flags & ALEX_RUN_RETIRED) != 0 &&
		!FullTransactionIdIsValid(run->safexid);
}

/* Gives retired runs their safexid; see the head of this file. */
static void
set_safexid(Relation index)
{
	AlexManifestChange change;
	FullTransactionId safexid;

	alex_manifest_change_begin(index, 0, &change);
	safexid = ReadNextFullTransactionId();
	for (int i = 0; i < change.manifest->nruns; i++)
	{
		if (lacks_safexid(&change.manifest->runs[i]))
			change.manifest->runs[i].safexid = safexid;
	}
	alex_manifest_change_commit(&change, ALEX_MANIFEST_COMPACT,
								InvalidFullTransactionId, InvalidBuffer,
								NULL, publish_change, NULL);
	alex_manifest_change_end(&change);
}

/* Puts the new run in place of the old ones. */
static void
install(Relation index, const AlexRun **runs, const bool *moved, int nruns,
		const AlexRun *new_run, FullTransactionId conflict)
{
	AlexManifestChange change;

	alex_manifest_change_begin(index, 1, &change);
	for (int i = 0; i < change.manifest->nruns; i++)
	{
		AlexRun    *run = &change.manifest->runs[i];

		for (int n = 0; n < nruns; n++)
		{
			if (run->id == runs[n]->id)
				run->flags |= ALEX_RUN_RETIRED | (moved[n] ? ALEX_RUN_MOVED : 0);
		}
	}
	if (new_run->entries > 0)
		alex_manifest_add(&change, new_run);
	alex_manifest_change_commit(&change, ALEX_MANIFEST_COMPACT, conflict,
								InvalidBuffer, NULL, publish_change, NULL);
	alex_manifest_change_end(&change);

	ALEX_FAILPOINT("compact-before-safexid");
	set_safexid(index);
}

/* Compacts the chosen runs; returns the number of entries dropped. */
static uint64
compact_chosen(Relation index, const AlexManifest *manifest, AlexPart part,
			   const AlexRun **runs, int nruns, bool all)
{
	AlexReader *reader;
	AlexRunWriter *writer;
	AlexDropper *dropper;
	FullTransactionId conflict;
	AlexRun		new_run = {0};
	bool	   *moved = palloc0(sizeof(bool) * nruns);
	bool		overlap = false;
	uint64		before = 0;
	uint64		expected = 0;

	qsort(runs, nruns, sizeof(AlexRun *), compare_by_first_entry);
	for (int i = 0; i < nruns; i++)
	{
		if (i > 0 && alex_compare(runs[i - 1]->max.key, runs[i - 1]->max.tid,
								  runs[i]->min.key, runs[i]->min.tid) >= 0)
			overlap = true;
		before += runs[i]->entries;
		expected += runs[i]->entries - runs[i]->dead;
	}

	reader = alex_reader_open(index, manifest->incarnation);
	writer = alex_run_writer_begin(index, part, expected,
								   alex_is_bloom_worthwhile(manifest, part,
															expected));
	dropper = alex_dropper_begin(index, 0, expected);
	alex_dropper_start(dropper, writer, part);
	if (overlap)
		merge_runs(reader, runs, nruns, dropper);
	else
		concatenate_runs(reader, runs, nruns, all, writer, dropper, moved);
	(void) alex_dropper_end(dropper, &conflict);
	alex_run_writer_finish(writer, &new_run);
	alex_reader_close(reader);

	/* dead entries on pages that were taken over are still there */
	for (int i = 0; i < nruns; i++)
		if (moved[i])
			new_run.dead += runs[i]->dead;

	ALEX_FAILPOINT("compact-before-install");
	install(index, runs, moved, nruns, &new_run, conflict);
	ALEX_FAILPOINT("compact-after-install");

	return before - new_run.entries;
}

uint64
alex_compact_runs(Relation index, bool all)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam compaction",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	uint64		dropped = 0;

	for (int part = 0; part < ALEX_PARTS; part++)
	{
		for (;;)
		{
			AlexManifest *manifest = alex_manifest_read(index);
			const AlexRun **chosen = palloc(sizeof(AlexRun *) *
											(manifest->nruns + 1));
			int			n = choose_due(index, manifest, part, all,
														chosen);

			if (n == 0 || (!all && too_much_retired(manifest)))
				break;
			dropped += compact_chosen(index, manifest, part, chosen, n, all);
			MemoryContextReset(context);
			if (all)
				break;
		}
		MemoryContextReset(context);
	}

	MemoryContextSwitchTo(old_context);
	MemoryContextDelete(context);
	return dropped;
}

/* Adds the pages that leave with a retired run to the list. */
static int
collect_pages(AlexReader *reader, const AlexRun *run, AlexPagePointer *pages)
{
	int			n = 0;

	for (uint32 i = 0; i < run->model_pages; i++)
	{
		pages[n].block = run->model_block + i;
		pages[n++].stamp = run->model_stamp + i;
	}
	for (uint32 i = 0; i < run->bloom_pages; i++)
	{
		pages[n].block = run->bloom_block + i;
		pages[n++].stamp = run->bloom_stamp + i;
	}
	if ((run->flags & ALEX_RUN_MOVED) == 0)
	{
		AlexRunReader run_reader;

		alex_run_open(&run_reader, reader, run);
		for (uint32 i = 0; i < run->leaf_pages; i++)
		{
			AlexFence	fence;

			alex_run_fence(&run_reader, i, &fence);
			pages[n].block = fence.block;
			pages[n++].stamp = fence.stamp;
		}
		alex_run_close(&run_reader);
	}
	return n;
}

/*
 * The newest safexid of the retired runs that no scan can be following any
 * more; invalid when there are none.  All runs with an older one can go too.
 */
static FullTransactionId
find_removable(const AlexManifest *manifest)
{
	FullTransactionId newest = InvalidFullTransactionId;

	/* makes GlobalVisCheckRemovableFullXid look at the present (H22) */
	(void) GetOldestNonRemovableTransactionId(NULL);

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if ((run->flags & ALEX_RUN_RETIRED) != 0 && !lacks_safexid(run) &&
			GlobalVisCheckRemovableFullXid(NULL, run->safexid) &&
			(!FullTransactionIdIsValid(newest) ||
			 FullTransactionIdFollows(run->safexid, newest)))
			newest = run->safexid;
	}
	return newest;
}

static inline bool
goes_with(const AlexRun *run, FullTransactionId newest)
{
	return (run->flags & ALEX_RUN_RETIRED) != 0 && !lacks_safexid(run) &&
		FullTransactionIdFollowsOrEquals(newest, run->safexid);
}

void
alex_remove_retired(Relation index)
{
	AlexManifest *manifest = alex_manifest_read(index);
	AlexManifestChange change;
	AlexReader *reader;
	AlexPagePointer *pages;
	FullTransactionId newest = find_removable(manifest);
	Size		npages = 0;
	int			used = 0;

	/* an error or a crash came between the two records of a compaction */
	for (int i = 0; i < manifest->nruns; i++)
	{
		if (lacks_safexid(&manifest->runs[i]))
		{
			set_safexid(index);
			break;
		}
	}

	if (!FullTransactionIdIsValid(newest))
	{
		pfree(manifest);
		return;
	}

	/* read their fences while they are still there */
	for (int i = 0; i < manifest->nruns; i++)
	{
		AlexRun    *run = &manifest->runs[i];

		if (goes_with(run, newest))
			npages += run->leaf_pages + run->model_pages + run->bloom_pages;
	}
	pages = MemoryContextAllocHuge(CurrentMemoryContext,
								   npages * sizeof(AlexPagePointer));
	reader = alex_reader_open(index, manifest->incarnation);
	for (int i = 0; i < manifest->nruns; i++)
		if (goes_with(&manifest->runs[i], newest))
			used += collect_pages(reader, &manifest->runs[i], pages + used);
	alex_reader_close(reader);

	/* nobody else retires or removes runs: we hold the maintenance lock */
	alex_manifest_change_begin(index, 0, &change);
	for (int i = change.manifest->nruns - 1; i >= 0; i--)
	{
		if (goes_with(&change.manifest->runs[i], newest))
			alex_manifest_delete(&change, i);
	}
	alex_manifest_change_commit(&change, ALEX_MANIFEST_REMOVE, newest,
								InvalidBuffer, NULL, publish_change, NULL);
	alex_manifest_change_end(&change);

	ALEX_FAILPOINT("remove-before-free");
	alex_space_free(index, pages, used);
	pfree(pages);
	pfree(manifest);
}
