/*-------------------------------------------------------------------------
 *
 * run_writer.c
 *	  Writing a run: leaf pages, model tree, Bloom filter.
 *
 * Entries come in order.  They wait until there are enough of them for the
 * leaf encoder to see more than can fit on a page, are packed into pages in
 * local memory, and go to the relation in groups of pages with one WAL record
 * a group.  Nothing that can fail happens between the moment at which a page
 * of the relation is changed and its WAL record.
 *
 * Nobody knows of the pages before the caller lists the run in the manifest,
 * and that it may do only after finish has seen to it that each of them was
 * handed to the operating system: readers see them through a mapping of the
 * file, not through shared buffers.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/run_writer.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "alex/am.h"
#include "alex/store.h"
#include "alex/wal.h"

#include "../learned/leaf_format.h"

/*
 * Pages written, and locked, at a time; fewer where there are not buffers
 * enough for all sessions to do so.  Larger groups would save little: the
 * overhead of a record is small against sixteen page images.
 */
#define GROUP_PAGES				16

/*
 * The encoder sees at least ALEX_LEAF_MAX_ENTRIES entries until the end of
 * the run is near; with twice the room, each entry moves to the front of the
 * array once at most, on average.
 */
#define PENDING_MIN				1024
#define PENDING_MAX				(2 * ALEX_LEAF_MAX_ENTRIES)

/*
 * Runs of that many entries go through a ring of buffers, lest they push
 * everything else out of shared buffers, where mapped pages are of no use.
 */
#define BULK_ENTRIES			(256 * 1024)

struct AlexRunWriter
{
	Relation	index;
	AlexPart	part;
	MemoryContext context;		/* holds all of the writer */
	BufferAccessStrategy strategy;
	AlexLeafEncoder *encoder;
	uint64		entries;

	/* entries not packed yet */
	AlexEntry  *pending;
	int			npending;
	int			max_pending;

	/* a fence for each leaf page, in order */
	AlexFence  *fences;
	uint32		nfences;
	uint32		max_fences;
	AlexEntry	last;			/* last entry packed */
	bool		last_adopted;	/* the last fence is of an adopted page */

	/* pages packed but not written; their fences lack the block number */
	char	   *group;
	int			ngroup;
	uint32		group_fences[GROUP_PAGES];

	/* pages written, to be flushed at the end */
	AlexWrittenPages *written;
	uint64		first_written;	/* of that list, other writers' before it */
	XLogRecPtr	lsn;			/* end of the last record */

	/* Bloom filter; NULL if there will be none */
	char	   *bloom;
	uint32		bloom_blocks;
	double		bloom_bits;		/* a key, as set when the writer began */
	uint64		bloom_keys;		/* distinct keys in it */
	uint64		bloom_last;		/* the last one */
};

/* Writes bytes [24, BLCKSZ) of one page of a model tree or Bloom filter. */
typedef void (*FillPage) (Page page, uint64 stamp, uint32 number,
						  const void *source, uint32 size);

/*
 * ---------------------------------------------------------------------
 * Pages to the relation
 * ---------------------------------------------------------------------
 */

static char *
group_page(AlexRunWriter *writer, int i)
{
	return writer->group + (Size) i * BLCKSZ;
}

/*
 * Declares the zeros before "end" the page's hole, which full-page images
 * leave out.  The hole of a page stays the same for ever, so it may only
 * contain bytes that never change: dead bits lie after the end.
 */
static void
set_hole(Page page, int end)
{
	int			lower = end;

	while (lower > ALEX_LINE_SIZE && page[lower - 1] == 0)
		lower--;
	((PageHeader) page)->pd_lower = lower;
	((PageHeader) page)->pd_upper = end;
}

/* Logs the group's pages from "first" on as they are in these buffers. */
static void
log_pages(AlexRunWriter *writer, uint16 kind, int first,
		  const Buffer *buffers, int nbuffers)
{
	xl_alex_run_pages record;

	memset(&record, 0, sizeof(record));
	record.first_stamp = alex_page_header(group_page(writer, first))->stamp;
	record.kind = kind;
	record.npages = nbuffers;

	XLogBeginInsert();
	XLogRegisterData((char *) &record, SizeOfAlexRunPages);
	for (int i = 0; i < nbuffers; i++)
		XLogRegisterBuffer(i, buffers[i],
						   REGBUF_FORCE_IMAGE | REGBUF_STANDARD);
	writer->lsn = XLogInsert(ALEX_RMGR_ID, XLOG_ALEX_RUN_PAGES);

	for (int i = 0; i < nbuffers; i++)
		PageSetLSN(BufferGetPage(buffers[i]), writer->lsn);
}

/* Makes room for that many more written pages. */
static void
reserve_written(AlexWrittenPages *written, int npages)
{
	if (written->npages + npages <= written->max_pages)
		return;
	if (written->pages == NULL)
	{
		written->max_pages = 64;
		written->pages = MemoryContextAlloc(written->context,
											64 * sizeof(AlexWrittenPage));
		return;
	}
	written->pages = repalloc_huge(written->pages,
								   2 * written->max_pages *
								   sizeof(AlexWrittenPage));
	written->max_pages *= 2;
}

/*
 * Puts the group's pages from "first" on into as many exclusively locked
 * buffers, and releases these.
 */
static void
write_pages(AlexRunWriter *writer, uint16 kind, int first,
			const Buffer *buffers, int nbuffers)
{
	bool		need_wal = RelationNeedsWAL(writer->index);

	reserve_written(writer->written, nbuffers);
	if (need_wal)
		XLogEnsureRecordSpace(nbuffers - 1, 0);

	START_CRIT_SECTION();

	/* Dirty before logged: else a checkpoint in between loses the page. */
	for (int i = 0; i < nbuffers; i++)
	{
		memcpy(BufferGetPage(buffers[i]), group_page(writer, first + i),
			   BLCKSZ);
		MarkBufferDirty(buffers[i]);
	}
	if (need_wal)
		log_pages(writer, kind, first, buffers, nbuffers);

	END_CRIT_SECTION();

	for (int i = 0; i < nbuffers; i++)
	{
		AlexWrittenPage *page = &writer->written->pages[writer->written->npages++];

		page->place.block = BufferGetBlockNumber(buffers[i]);
		page->place.stamp = alex_page_header(group_page(writer, first + i))->stamp;
		page->buffer = buffers[i];
		UnlockReleaseBuffer(buffers[i]);
	}
}

/* Writes the leaf pages packed so far to wherever there is room. */
static void
write_group(AlexRunWriter *writer)
{
	for (int done = 0; done < writer->ngroup;)
	{
		Buffer		buffers[GROUP_PAGES];
		int			n;

		CHECK_FOR_INTERRUPTS();

		n = alex_space_claim_pages(writer->index, writer->ngroup - done,
								   writer->strategy, buffers);
		for (int i = 0; i < n; i++)
			writer->fences[writer->group_fences[done + i]].block =
				BufferGetBlockNumber(buffers[i]);
		write_pages(writer, ALEX_PAGE_LEAF, done, buffers, n);
		done += n;
	}
	writer->ngroup = 0;
}

/*
 * Locks npages free pages from "first" on.  False, with none locked, if one
 * of them is not free any more.
 */
static bool
lock_free_pages(AlexRunWriter *writer, BlockNumber first, int npages,
				Buffer *buffers)
{
	for (int i = 0; i < npages; i++)
	{
		buffers[i] = ReadBufferExtended(writer->index, MAIN_FORKNUM, first + i,
										RBM_NORMAL, writer->strategy);
		LockBuffer(buffers[i], BUFFER_LOCK_EXCLUSIVE);
		if (!alex_space_is_free(BufferGetPage(buffers[i])))
		{
			while (i >= 0)
				UnlockReleaseBuffer(buffers[i--]);
			return false;
		}
	}
	return true;
}

/*
 * Writes npages contiguous pages; page i gets stamp *stamp + i.  Returns the
 * first block.
 *
 * The pages are not locked when they are claimed.  Another backend may have
 * learnt of one of them from the free space map, before us or from a map that
 * outlived a crash; then those written already are left to the sweep for
 * orphans, and all is written anew elsewhere, under other stamps.
 */
static BlockNumber
write_contiguous(AlexRunWriter *writer, uint16 kind, uint32 npages,
				 FillPage fill, const void *source, uint32 size,
				 uint64 *stamp)
{
	uint32		group = alex_space_pins(writer->index, GROUP_PAGES);
	BlockNumber first;
	uint32		done;

	do
	{
		*stamp = alex_new_stamp();
		first = alex_space_claim_range(writer->index, npages,
									   writer->strategy);

		for (done = 0; done < npages;)
		{
			Buffer		buffers[GROUP_PAGES];
			int			n = Min(npages - done, group);

			CHECK_FOR_INTERRUPTS();

			for (int i = 0; i < n; i++)
			{
				Page		page = group_page(writer, i);

				alex_page_init(page, kind, *stamp + done + i);
				fill(page, *stamp + done + i, done + i, source, size);
				set_hole(page, BLCKSZ);
			}
			if (!lock_free_pages(writer, first + done, n, buffers))
				break;
			write_pages(writer, kind, 0, buffers, n);
			done += n;
		}
	} while (done < npages);

	return first;
}

/*
 * Hands all pages to the operating system.  A buffer that holds another page
 * by now was written when it was evicted, and pages of a run that is not
 * listed yet are not changed by anybody else; so only the buffers that still
 * hold our pages need a look.
 */
static void
flush_written(AlexRunWriter *writer)
{
	if (RelationUsesLocalBuffers(writer->index))
		return;

	/* once, instead of page by page */
	if (!XLogRecPtrIsInvalid(writer->lsn))
		XLogFlush(writer->lsn);

	for (uint64 i = writer->first_written; i < writer->written->npages; i++)
	{
		AlexWrittenPage *page = &writer->written->pages[i];

		CHECK_FOR_INTERRUPTS();
		if (!ReadRecentBuffer(writer->index->rd_node, MAIN_FORKNUM,
							  page->place.block, page->buffer))
			continue;
		LockBuffer(page->buffer, BUFFER_LOCK_SHARE);
		FlushOneBuffer(page->buffer);
		UnlockReleaseBuffer(page->buffer);
	}
}

/*
 * ---------------------------------------------------------------------
 * Leaf pages
 * ---------------------------------------------------------------------
 */

static AlexFence *
add_fence(AlexRunWriter *writer)
{
	if (writer->nfences == writer->max_fences)
	{
		writer->max_fences *= 2;
		writer->fences = repalloc_huge(writer->fences,
									   writer->max_fences *
									   sizeof(AlexFence));
	}
	return &writer->fences[writer->nfences++];
}

/* Packs a page of the first of the entries; returns how many. */
static int
pack_page(AlexRunWriter *writer, const AlexEntry *entries, int nentries)
{
	uint64		stamp = alex_new_stamp();
	Page		page;
	AlexFence  *fence;
	int			packed;

	if (writer->ngroup == GROUP_PAGES)
		write_group(writer);

	page = group_page(writer, writer->ngroup);
	alex_page_init(page, ALEX_PAGE_LEAF, stamp);
	packed = alex_leaf_encode(writer->encoder, page, stamp, entries, nentries);
	if (packed <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not pack a leaf page of index \"%s\"",
						RelationGetRelationName(writer->index)),
				 errdetail("The packed page does not unpack to the entries that were put in.")));
	set_hole(page, alex_leaf_dead_start(packed));

	fence = add_fence(writer);
	fence->key = entries[0].key;
	fence->tid = entries[0].tid;
	fence->stamp = stamp;
	fence->block = InvalidBlockNumber;
	fence->entries = packed;

	writer->group_fences[writer->ngroup++] = writer->nfences - 1;
	writer->last = entries[packed - 1];
	writer->last_adopted = false;
	return packed;
}

/* Packs pending entries: all, or those with enough others behind them. */
static void
pack_pending(AlexRunWriter *writer, bool all)
{
	int			least = all ? 1 : ALEX_LEAF_MAX_ENTRIES;
	int			done = 0;

	while (writer->npending - done >= least)
		done += pack_page(writer, writer->pending + done,
						  writer->npending - done);

	writer->npending -= done;
	memmove(writer->pending, writer->pending + done,
			writer->npending * sizeof(AlexEntry));
}

/* The array of pending entries is full. */
static pg_noinline void
make_room(AlexRunWriter *writer)
{
	if (writer->max_pending == PENDING_MAX)
	{
		pack_pending(writer, false);
		return;
	}
	writer->max_pending = Min(writer->max_pending * 2, PENDING_MAX);
	writer->pending = repalloc(writer->pending,
							   writer->max_pending * sizeof(AlexEntry));
}

/* The run's last entry. */
static AlexEntry
last_entry(AlexRunWriter *writer)
{
	AlexReader	reader = {writer->index, NULL, writer->strategy};
	AlexPageReference reference = ALEX_PAGE_REFERENCE_NONE;
	const AlexFence *fence = &writer->fences[writer->nfences - 1];
	AlexEntry	last;
	int			count;

	if (!writer->last_adopted)
		return writer->last;

	alex_page_open(&reader, fence->block, fence->stamp, ALEX_PAGE_LEAF, 0,
				   true, &reference);
	count = alex_leaf_count(reference.page);
	last.key = alex_leaf_key(reference.page, count - 1);
	last.tid = alex_leaf_tid(reference.page, count - 1);
	alex_page_close(&reference);
	return last;
}

/*
 * ---------------------------------------------------------------------
 * Model tree
 * ---------------------------------------------------------------------
 */

/* A large run has millions of fences; never returns NULL. */
static void *
allocate_huge(size_t size)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, size);
}

static void
fill_model_page(Page page, uint64 stamp, uint32 number, const void *source,
				uint32 size)
{
	alex_model_page(page, stamp, number, source, size);
}

/* The only leaf needs no model: its fence stands in the manifest. */
static void
write_model(AlexRunWriter *writer, AlexRun *run)
{
	AlexModelInfo info;
	void	   *lines;

	if (writer->nfences == 1)
	{
		run->model_block = writer->fences[0].block;
		run->model_stamp = writer->fences[0].stamp;
		return;
	}

	lines = alex_model_train(writer->fences, writer->nfences, allocate_huge,
							 pfree, &info);
	run->model_lines = info.nlines;
	run->model_pages = alex_model_pages(info.nlines);
	run->depth = info.depth;
	run->model_block = write_contiguous(writer, ALEX_PAGE_MODEL,
										run->model_pages, fill_model_page,
										lines, info.nlines,
										&run->model_stamp);
	pfree(lines);
}

/*
 * ---------------------------------------------------------------------
 * Bloom filter
 * ---------------------------------------------------------------------
 */

/* Starts a filter if one is wanted and does not take too much memory. */
static void
begin_bloom(AlexRunWriter *writer, uint64 expected_entries)
{
	Size		size;

	if (alex_bloom_bits <= 0 || writer->part != ALEX_PART_VALUES ||
		expected_entries == 0)
		return;

	writer->bloom_blocks = alex_bloom_blocks(expected_entries,
											 alex_bloom_bits);
	size = (Size) writer->bloom_blocks * ALEX_BLOOM_BLOCK_BYTES;
	if (size > (Size) maintenance_work_mem * 1024)
		return;

	writer->bloom_bits = alex_bloom_bits;
	writer->bloom = MemoryContextAllocExtended(writer->context, size,
											   MCXT_ALLOC_HUGE |
											   MCXT_ALLOC_ZERO);
}

static inline void
add_to_bloom(AlexRunWriter *writer, uint64 key)
{
	uint64		hash;
	uint32		block;

	if (key == writer->bloom_last && writer->bloom_keys > 0)
		return;
	hash = alex_bloom_hash(key);
	block = alex_bloom_block(hash, writer->bloom_blocks);
	alex_bloom_add(writer->bloom + (Size) block * ALEX_BLOOM_BLOCK_BYTES,
				   hash);
	writer->bloom_last = key;
	writer->bloom_keys++;
}

static inline uint32
bloom_pages(const AlexRunWriter *writer)
{
	return (writer->bloom_blocks - 1) / ALEX_BLOOM_PAGE_BLOCKS + 1;
}

/*
 * Is the filter worth its pages?  Not for a single leaf, and not for dense
 * keys, of which few are absent.  Nor if it would be larger than the leaves, as
 * where keys are dense in several places: the leaves themselves are more
 * likely to be in a cache then.  Nor if it was sized for far fewer keys than
 * came, since it lets too many through then, or for far more, since keys with
 * many entries each are likely to be in every run.
 */
static bool
bloom_pays(const AlexRunWriter *writer, const AlexRun *run)
{
	double		bits;

	if (writer->bloom == NULL || run->leaf_pages < 2)
		return false;
	if ((run->max.key - run->min.key) / 8 < run->entries ||
		bloom_pages(writer) > run->leaf_pages)
		return false;

	bits = (double) writer->bloom_blocks * ALEX_BLOOM_BLOCK_BYTES * 8 /
		writer->bloom_keys;
	return bits >= writer->bloom_bits / 2 && bits <= writer->bloom_bits * 4;
}

static void
fill_bloom_page(Page page, uint64 stamp, uint32 number, const void *source,
				uint32 size)
{
	uint32		first = number * ALEX_BLOOM_PAGE_BLOCKS;
	uint32		nblocks = Min(size - first, ALEX_BLOOM_PAGE_BLOCKS);

	memcpy(page + ALEX_LINE_SIZE,
		   (const char *) source + (Size) first * ALEX_BLOOM_BLOCK_BYTES,
		   (Size) nblocks * ALEX_BLOOM_BLOCK_BYTES);
	((AlexPageHeader *) page)->hash = alex_page_hash(page, stamp, BLCKSZ);
}

static void
write_bloom(AlexRunWriter *writer, AlexRun *run)
{
	run->bloom_blocks = writer->bloom_blocks;
	run->bloom_pages = bloom_pages(writer);
	run->bloom_block = write_contiguous(writer, ALEX_PAGE_BLOOM,
										run->bloom_pages, fill_bloom_page,
										writer->bloom, writer->bloom_blocks,
										&run->bloom_stamp);
}

/*
 * ---------------------------------------------------------------------
 * The writer
 * ---------------------------------------------------------------------
 */

AlexRunWriter *
alex_run_writer_begin(Relation index, AlexPart part, uint64 expected_entries,
					  bool bloom)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam run writer",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old_context = MemoryContextSwitchTo(context);
	AlexRunWriter *writer = palloc0(sizeof(AlexRunWriter));

	writer->index = index;
	writer->part = part;
	writer->context = context;
	writer->lsn = InvalidXLogRecPtr;
	if (expected_entries >= BULK_ENTRIES)
		writer->strategy = GetAccessStrategy(BAS_BULKWRITE);

	writer->encoder = palloc(alex_leaf_encoder_size());
	alex_leaf_encoder_init(writer->encoder);

	writer->max_pending = Min(Max(expected_entries, PENDING_MIN), PENDING_MAX);
	writer->pending = palloc(writer->max_pending * sizeof(AlexEntry));
	writer->max_fences = 64;
	writer->fences = palloc(writer->max_fences * sizeof(AlexFence));
	writer->group = palloc(GROUP_PAGES * BLCKSZ);
	writer->written = palloc0(sizeof(AlexWrittenPages));
	writer->written->context = context;

	if (bloom)
		begin_bloom(writer, expected_entries);

	MemoryContextSwitchTo(old_context);
	return writer;
}

void
alex_run_writer_record(AlexRunWriter *writer, AlexWrittenPages *written)
{
	Assert(writer->written->npages == 0);
	writer->written = written;
	writer->first_written = written->npages;
}

bool
alex_run_writer_has_filter(const AlexRunWriter *writer)
{
	return writer->bloom != NULL;
}

int
alex_run_writer_pending(const AlexRunWriter *writer)
{
	return writer->npending;
}

void
alex_run_writer_add(AlexRunWriter *writer, uint64 key, uint64 tid)
{
	AlexEntry  *entry;

	Assert(tid <= ALEX_TID_MAX);
	Assert(writer->npending == 0 ||
		   alex_compare(writer->pending[writer->npending - 1].key,
						writer->pending[writer->npending - 1].tid,
						key, tid) < 0);

	if (unlikely(writer->npending == writer->max_pending))
		make_room(writer);
	entry = &writer->pending[writer->npending++];
	entry->key = key;
	entry->tid = tid;
	writer->entries++;

	if (writer->bloom != NULL)
		add_to_bloom(writer, key);
}

/* Adds the keys of a whole leaf page. */
static void
add_page_to_bloom(AlexRunWriter *writer, const char *page)
{
	int			count = alex_leaf_count(page);
	uint64		keys[ALEX_LEAF_BLOCK];
	uint64		tids[ALEX_LEAF_BLOCK];

	for (int first = 0; first < count; first += ALEX_LEAF_BLOCK)
	{
		int			n = Min(count - first, ALEX_LEAF_BLOCK);

		alex_leaf_unpack(page, first, n, keys, tids);
		for (int i = 0; i < n; i++)
			add_to_bloom(writer, keys[i]);
	}
}

void
alex_run_writer_adopt(AlexRunWriter *writer, const AlexFence *fence,
					  const char *page)
{
	pack_pending(writer, true);

	*add_fence(writer) = *fence;
	writer->entries += fence->entries;
	writer->last_adopted = true;
	if (writer->bloom != NULL)
		add_page_to_bloom(writer, page);
}

uint32
alex_run_writer_cut(AlexRunWriter *writer)
{
	pack_pending(writer, true);
	write_group(writer);
	return writer->nfences;
}

const AlexFence *
alex_run_writer_leaves(AlexRunWriter *writer)
{
	(void) alex_run_writer_cut(writer);
	flush_written(writer);
	return writer->fences;
}

void
alex_run_writer_end(AlexRunWriter *writer)
{
	MemoryContextDelete(writer->context);
}

void
alex_run_writer_finish(AlexRunWriter *writer, AlexRun *run)
{
	MemoryContext old_context = MemoryContextSwitchTo(writer->context);

	pack_pending(writer, true);
	write_group(writer);
	ALEX_FAILPOINT("run-before-model");

	memset(run, 0, sizeof(*run));
	run->part = writer->part;
	run->model_block = InvalidBlockNumber;
	run->bloom_block = InvalidBlockNumber;

	if (writer->nfences > 0)
	{
		run->entries = writer->entries;
		run->leaf_pages = writer->nfences;
		run->min.key = writer->fences[0].key;
		run->min.tid = writer->fences[0].tid;
		run->max = last_entry(writer);
		write_model(writer, run);
		if (bloom_pays(writer, run))
			write_bloom(writer, run);
		ALEX_FAILPOINT("run-before-flush");
		flush_written(writer);
	}

	MemoryContextSwitchTo(old_context);
	alex_run_writer_end(writer);
}

/*
 * Frees pages that were written in vain.  They are no orphans any more when
 * somebody has found them before us, and then carry other stamps.
 */
void
alex_written_pages_free(Relation index, AlexWrittenPages *written)
{
	AlexPagePointer pages[ALEX_RECORD_BLOCKS];

	while (written->npages > 0)
	{
		int			n = 0;

		while (n < lengthof(pages) && written->npages > 0)
			pages[n++] = written->pages[--written->npages].place;
		alex_space_free(index, pages, n);
	}
}
