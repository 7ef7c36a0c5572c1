/*-------------------------------------------------------------------------
 *
 * reader.c
 *	  Sealed pages, mapped or buffered, and lookups in a run.
 *
 * alex_page_open is the one function that hands out sealed pages.  Whoever
 * asks knows the stamp of the page, which is compared each time, and each
 * page's hash is computed when it is first touched.  A mapped page that fails
 * either test is read through the buffer manager instead: in recovery the
 * file may lag behind shared buffers, or a page may be seen while it is being
 * written.  Only if the buffered page is wrong too is the index damaged.
 *
 * Which pages were verified is remembered by stamp, in a table in shared
 * memory that may forget (verified.c).  A stamp is unique, but copies of a page
 * are not: CREATE DATABASE and SET TABLESPACE copy whole files, and shared
 * buffers may hold a good copy of a page that is damaged on disk.  So what is
 * remembered is the stamp together with the relation file and with the way
 * the page was read.  In recovery every backend has a table of its own, since
 * a page that one of them found whole in the file need not have been so when
 * another took its view.
 *
 * alexam.verify_checksums = off saves the hash, but only where it is not what
 * tells whole pages from half written ones: pages that were replayed, and not
 * flushed before their run was listed, may be read in the file while they are
 * on their way there.  That is so in recovery and, after promotion, up to the
 * next checkpoint.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/store/reader.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xlog.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"

#include "alex/am.h"
#include "alex/store.h"

/* Slots of the backend's tables, as powers of two. */
#define LOCAL_BITS				15
#define MODEL_BITS				10

StaticAssertDecl(ALEX_BLOOM_BLOCK_BYTES == ALEX_LINE_SIZE,
				 "a Bloom block is one line");

static uint64 verified_local[1 << LOCAL_BITS];

/*
 * Model trees of which this backend has seen every page in the mapping, so
 * that opening a run for a single probe does not look at all of them again.
 */
static uint64 verified_models[1 << MODEL_BITS];

/* Are hashes to be looked at? */
static inline bool
must_verify(void)
{
	return likely(alex_verify_checksums) || alex_verified_always();
}

/*
 * What stands for a verified page: a number that mixes stamp, relation file,
 * the birth of its database, and way of access.  Odd, so that an empty slot stands for none; the upper
 * bits serve as slot number.
 *
 * Stamps of a run's model and Bloom pages follow each other.  So the way of
 * access must not turn just the low bits: one page read through the mapping
 * would stand for its neighbour in a buffer.
 */
static inline uint64
page_tag(Relation index, uint64 stamp, bool mapped)
{
	const RelFileNode *node = &index->rd_node;
	uint64		salt;

	salt = ((((uint64) node->dbNode << 32) | node->relNode) ^
			alex_database_birth()) * UINT64CONST(0xD6E8FEB86659FD93) +
		node->spcNode * UINT64CONST(0xA0761D6478BD642F);
	if (mapped)
		salt ^= UINT64CONST(0x8EBC6AF09C88C6E3);

	return ((stamp ^ salt) * UINT64CONST(0x9E3779B97F4A7C15)) | 1;
}

/*
 * Is the page in this block known to be verified?  A backend remembers blocks
 * of its own in a small table, which mostly stays in its caches; the table
 * shared by all spares a new backend the verification of what others have
 * seen, but not in recovery, when pages may be half written.
 */
static inline bool
tag_is_verified(uint64 tag, BlockNumber block)
{
	uint64	   *local = &verified_local[block & ((1 << LOCAL_BITS) - 1)];

	if (likely(*local == tag))
		return true;
	if (RecoveryInProgress() || !alex_verified_contains(tag))
		return false;
	*local = tag;
	return true;
}

static void
remember_tag(uint64 tag, BlockNumber block)
{
	verified_local[block & ((1 << LOCAL_BITS) - 1)] = tag;
	if (!RecoveryInProgress())
		alex_verified_add(tag);
}

bool
alex_page_hash_fits(const char *page)
{
	const AlexPageHeader *header = alex_page_header(page);

	if (header->kind == ALEX_PAGE_LEAF)
	{
		int			count = alex_leaf_count(page);

		/* the count says how far the hash reaches: it must make sense */
		return count >= 1 && count <= ALEX_LEAF_MAX_ENTRIES &&
			alex_leaf_hash(page) == header->hash;
	}
	return alex_page_hash(page, header->stamp, BLCKSZ) == header->hash;
}

/* The hash fits, and this is not known yet. */
static pg_noinline bool
verify_page(const char *page, BlockNumber block, uint64 tag)
{
	if (!alex_page_hash_fits(page))
		return false;
	remember_tag(tag, block);
	return true;
}

static inline bool
page_header_fits(const char *page, uint64 stamp, uint16 kind)
{
	const AlexPageHeader *header = alex_page_header(page);

	return header->stamp == stamp && header->kind == kind &&
		header->version == ALEX_SEALED_VERSION;
}

static inline bool
page_contents_fit(Relation index, const char *page, BlockNumber block,
				  uint64 stamp, uint16 kind, bool mapped)
{
	uint64		tag;

	if (!must_verify())
		return true;
	tag = page_tag(index, stamp, mapped);
	return likely(tag_is_verified(tag, block)) ||
		verify_page(page, block, tag);
}

/*
 * Mapped pages are about to be touched.  Unless somebody is known to have
 * touched the first, they may have to be read; see read_ahead.c.
 */
static inline void
expect_pages(AlexReader *reader, BlockNumber block, uint64 stamp,
			 BlockNumber npages)
{
	if (must_verify() &&
		!tag_is_verified(page_tag(reader->index, stamp, true), block))
		alex_mapping_will_need(reader->mapping, block, npages);
}

/*
 * The hash does not cover dead bits.  A leaf page may have got some before it
 * is written for the first time, on a standby say, and while half of it is
 * written, the other half is what was in that block before.  (Pages that are
 * read from their buffers are whole; but dead bits may be being set there.)
 */
static bool
dead_bits_fit(const char *page, uint16 kind)
{
	return kind != ALEX_PAGE_LEAF ||
		alex_leaf_count_dead_bits(page) == alex_leaf_dead_count(page);
}

/* A mapped page that is not known to be verified, or NULL as below. */
static pg_noinline const char *
touch_page(AlexReader *reader, const char *page, BlockNumber block,
		   uint64 stamp, uint16 kind)
{
	alex_mapping_will_need(reader->mapping, block, 1);
	if (page_header_fits(page, stamp, kind) && dead_bits_fit(page, kind) &&
		verify_page(page, block, page_tag(reader->index, stamp, true)))
		return page;
	return NULL;
}

/* The page as the mapping shows it, or NULL if that is not what is wanted. */
static pg_attribute_always_inline const char *
mapped_page(AlexReader *reader, BlockNumber block, uint64 stamp, uint16 kind)
{
	const char *page = alex_mapping_page(reader->mapping, block);

	if (unlikely(page == NULL))
		return NULL;
	if (must_verify() &&
		unlikely(!tag_is_verified(page_tag(reader->index, stamp, true), block)))
		return touch_page(reader, page, block, stamp, kind);
	return likely(page_header_fits(page, stamp, kind)) ? page : NULL;
}

/* Counts a mapped page as the buffer manager counts a hit. */
static inline void
count_hit(Relation index)
{
	pgstat_count_buffer_read(index);
	pgstat_count_buffer_hit(index);
	pgBufferUsage.shared_blks_hit++;
	if (VacuumCostActive)
		VacuumCostBalance += VacuumCostPageHit;
}

static void pg_attribute_noreturn()
report_damage(Relation index, BlockNumber block, uint64 run, const char *fault)
{
	ereport(ERROR,
			(errcode(ERRCODE_INDEX_CORRUPTED),
			 errmsg("index \"%s\" is damaged at block %u",
					RelationGetRelationName(index), block),
			 errdetail("Run %llu: %s.", (unsigned long long) run, fault),
			 errhint("Please REINDEX it.")));
}

const char *
alex_page_header_fault(const char *page, uint64 stamp, uint16 kind)
{
	const AlexPageHeader *header = alex_page_header(page);

	if (PageIsNew((Page) page))
		return "the page is all zeros";
	if (header->stamp != stamp)
		return psprintf("the page has stamp %016llX instead of %016llX",
						(unsigned long long) header->stamp,
						(unsigned long long) stamp);
	if (header->kind != kind)
		return psprintf("the page is of kind %04X instead of %04X",
						header->kind, kind);
	if (header->version != ALEX_SEALED_VERSION)
		return psprintf("the page has format version %u", header->version);
	return NULL;
}

/* NULL, or what is wrong with a page read through the buffer manager. */
static const char *
page_fault(Relation index, Page page, BlockNumber block, uint64 stamp,
		   uint16 kind)
{
	const char *fault = alex_page_header_fault(page, stamp, kind);

	if (fault != NULL)
		return fault;
	if (!page_contents_fit(index, page, block, stamp, kind, false))
		return "the page does not fit its checksum";
	return NULL;
}

/* Returns what is wrong with the page, having let go of it; NULL if nothing. */
static const char *
open_buffered(AlexReader *reader, BlockNumber block, uint64 stamp, uint16 kind,
			  AlexPageReference *reference)
{
	Buffer		buffer;
	const char *fault;

	/* to the buffer manager this number means a new page */
	if (block == InvalidBlockNumber)
		return "the block number is invalid";

	buffer = ReadBufferExtended(reader->index, MAIN_FORKNUM, block, RBM_NORMAL,
								reader->strategy);

	/*
	 * The lock is for the header and the hash only.  Afterwards the pin is
	 * enough: the page is immutable but for its dead bits, and these change
	 * under a cleanup lock.
	 */
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	fault = page_fault(reader->index, BufferGetPage(buffer), block, stamp,
					   kind);
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (fault != NULL)
	{
		ReleaseBuffer(buffer);
		return fault;
	}

	alex_page_close(reference);
	reference->buffer = buffer;
	reference->page = BufferGetPage(buffer);
	return NULL;
}

void
alex_reader_init(AlexReader *reader, Relation index, uint64 incarnation)
{
	reader->index = index;
	reader->mapping = alex_mapping_acquire(index, incarnation);
	reader->strategy = NULL;
}

void
alex_reader_end(AlexReader *reader)
{
	if (reader->mapping != NULL)
		alex_mapping_release(reader->mapping);
	reader->mapping = NULL;
}

/* The reader's context goes: in the ordinary way, or with a transaction. */
static void
release_reader(void *argument)
{
	alex_reader_end(argument);
}

AlexReader *
alex_reader_open(Relation index, uint64 incarnation)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "alexam reader",
												  ALLOCSET_SMALL_SIZES);
	AlexReader *reader = MemoryContextAllocZero(context, sizeof(AlexReader));
	MemoryContextCallback *callback = MemoryContextAlloc(context,
														 sizeof(MemoryContextCallback));

	alex_reader_init(reader, index, incarnation);
	callback->func = release_reader;
	callback->arg = reader;
	MemoryContextRegisterResetCallback(context, callback);

	return reader;
}

void
alex_reader_close(AlexReader *reader)
{
	MemoryContextDelete(GetMemoryChunkContext(reader));
}

static pg_attribute_always_inline const char *
open_page(AlexReader *reader, BlockNumber block, uint64 stamp, uint16 kind,
		  bool pinned, AlexPageReference *reference)
{
	if (!pinned && likely(reader->mapping != NULL))
	{
		const char *page = mapped_page(reader, block, stamp, kind);

		if (likely(page != NULL))
		{
			count_hit(reader->index);
			alex_page_close(reference);
			reference->page = page;
			return NULL;
		}
	}

	/* A page that is in hand already need not be looked up again. */
	if (BufferIsValid(reference->buffer) &&
		BufferGetBlockNumber(reference->buffer) == block &&
		page_header_fits(reference->page, stamp, kind))
		return NULL;

	return open_buffered(reader, block, stamp, kind, reference);
}

void
alex_page_open(AlexReader *reader, BlockNumber block, uint64 stamp,
			   uint16 kind, uint64 run, bool pinned,
			   AlexPageReference *reference)
{
	const char *fault = open_page(reader, block, stamp, kind, pinned,
								  reference);

	if (unlikely(fault != NULL))
		report_damage(reader->index, block, run, fault);
}

bool
alex_page_try_open(AlexReader *reader, BlockNumber block, uint64 stamp,
				   uint16 kind, AlexPageReference *reference)
{
	return open_page(reader, block, stamp, kind, false, reference) == NULL;
}

/*
 * A page of the model tree, for a source that is not mapped.  Of the two
 * references one always holds the page returned last, and the other one is
 * replaced, so that a page stays valid until the next call but one.
 */
static const void *
get_model_page(void *context, uint32 number)
{
	AlexRunReader *run_reader = (AlexRunReader *) context;
	const AlexRun *run = run_reader->run;
	BlockNumber block = run->model_block + number;
	AlexPageReference *reference = &run_reader->pages[run_reader->turn];

	if (number >= run->model_pages)
		report_damage(run_reader->reader->index, run->model_block, run->id,
					  "the model tree leads outside its pages");

	if (reference->page != NULL &&
		alex_page_header(reference->page)->stamp == run->model_stamp + number)
		return reference->page;

	run_reader->turn = 1 - run_reader->turn;
	reference = &run_reader->pages[run_reader->turn];
	alex_page_open(run_reader->reader, block, run->model_stamp + number,
				   ALEX_PAGE_MODEL, run->id, false, reference);
	return reference->page;
}

/* A tree with another number of fences would lead to wrong leaf pages. */
static void
check_fence_count(AlexRunReader *run_reader)
{
	const AlexRun *run = run_reader->run;

	if (alex_model_nfences(&run_reader->source) != run->leaf_pages)
		report_damage(run_reader->reader->index, run->model_block, run->id,
					  "the model tree does not have as many fences as the run has leaf pages");
}

/*
 * Address of the first of the run's model pages if all of them lie in a row
 * in the mapping and are what they should be there, else NULL.
 */
static const char *
map_model(AlexReader *reader, const AlexRun *run, uint64 tag)
{
	const char *first;
	bool		known = verified_models[tag >> (64 - MODEL_BITS)] == tag;

	if (run->model_block / RELSEG_SIZE !=
		(run->model_block + run->model_pages - 1) / RELSEG_SIZE)
		return NULL;

	first = alex_mapping_page(reader->mapping, run->model_block);
	if (first == NULL)
		return NULL;
	/* else all of it will be looked at now */
	if (unlikely(!known))
		expect_pages(reader, run->model_block, run->model_stamp,
					 run->model_pages);
	if (!page_header_fits(first, run->model_stamp, ALEX_PAGE_MODEL))
		return NULL;
	if (likely(known))
		return first;

	for (uint32 i = 0; i < run->model_pages; i++)
	{
		BlockNumber block = run->model_block + i;
		uint64		stamp = run->model_stamp + i;
		const char *page = first + (Size) i * BLCKSZ;

		CHECK_FOR_INTERRUPTS();
		if (!page_header_fits(page, stamp, ALEX_PAGE_MODEL) ||
			!page_contents_fit(reader->index, page, block, stamp,
							   ALEX_PAGE_MODEL, true))
			return NULL;
	}
	return first;
}

void
alex_run_open(AlexRunReader *run_reader, AlexReader *reader,
			  const AlexRun *run)
{
	const AlexPageReference none = ALEX_PAGE_REFERENCE_NONE;
	uint64		tag;
	uint64	   *verified;

	run_reader->reader = reader;
	run_reader->run = run;
	run_reader->source.nlines = run->model_lines;
	run_reader->source.first_page = NULL;
	run_reader->source.get_page = get_model_page;
	run_reader->source.context = run_reader;
	run_reader->pages[0] = none;
	run_reader->pages[1] = none;
	run_reader->turn = 0;
	memset(&run_reader->shape, 0, sizeof(AlexLeafShape));
	alex_run_begin_at(run_reader, ALEX_NO_LEAF);

	/* The only leaf's fence stands in the manifest. */
	if (run->model_pages == 0)
		return;

	if (likely(reader->mapping != NULL))
	{
		/* What was found without checksums does not count with them. */
		tag = page_tag(reader->index, run->model_stamp, true);
		if (!must_verify())
			tag = ~tag;
		verified = &verified_models[tag >> (64 - MODEL_BITS)];

		run_reader->source.first_page = map_model(reader, run, tag);
		if (likely(run_reader->source.first_page != NULL && *verified == tag))
			return;
		check_fence_count(run_reader);
		if (run_reader->source.first_page != NULL)
			*verified = tag;
	}
	else
		check_fence_count(run_reader);
}

void
alex_run_close(AlexRunReader *run_reader)
{
	alex_page_close(&run_reader->pages[0]);
	alex_page_close(&run_reader->pages[1]);
	run_reader->source.first_page = NULL;
}

uint32
alex_run_find(AlexRunReader *run_reader, uint64 key, uint64 tid)
{
	if (run_reader->run->model_pages == 0)
		return 0;

	/* the root's page; those of the other nodes and fences go uncounted */
	if (likely(run_reader->source.first_page != NULL))
		count_hit(run_reader->reader->index);
	return alex_model_find(&run_reader->source, key, tid);
}

void
alex_run_place(AlexRunReader *run_reader, uint32 number, AlexFence *fence)
{
	if (likely(run_reader->run->model_pages > 0))
		alex_model_place(&run_reader->source, number, fence);
	else
		alex_run_fence(run_reader, number, fence);
}

void
alex_run_prefetch(AlexRunReader *run_reader, uint32 number,
				  const AlexFence *fence, uint64 key)
{
	const char *page;

	if (run_reader->source.first_page == NULL)
		return;
	page = alex_mapping_page(run_reader->reader->mapping, fence->block);
	if (page != NULL)
		alex_leaf_prefetch(page, &run_reader->shape, fence->entries,
						   alex_model_fraction(&run_reader->source, number,
											   key));
}

bool
alex_run_is_mapped(const AlexRunReader *run_reader)
{
	return run_reader->source.first_page != NULL ||
		(run_reader->run->model_pages == 0 &&
		 run_reader->reader->mapping != NULL);
}

void
alex_run_find_group(AlexRunReader *run_reader, const uint64 *keys, int nkeys,
					uint32 *numbers, AlexFence *places)
{
	if (run_reader->run->model_pages > 0)
	{
		count_hit(run_reader->reader->index);
		alex_model_find_group(&run_reader->source, keys, nkeys, numbers);
	}
	else
		memset(numbers, 0, nkeys * sizeof(uint32));
	for (int i = 0; i < nkeys; i++)
	{
		alex_run_place(run_reader, numbers[i], &places[i]);
		if (i == 0 || numbers[i] != numbers[i - 1])
			expect_pages(run_reader->reader, places[i].block,
						 places[i].stamp, 1);
		alex_run_prefetch(run_reader, numbers[i], &places[i], keys[i]);
	}
}

void
alex_run_fence(AlexRunReader *run_reader, uint32 number, AlexFence *fence)
{
	const AlexRun *run = run_reader->run;

	if (run->model_pages > 0)
	{
		alex_model_fence(&run_reader->source, number, fence);
		return;
	}

	fence->key = run->min.key;
	fence->tid = run->min.tid;
	fence->stamp = run->model_stamp;
	fence->block = run->model_block;
	fence->entries = (uint32) run->entries;
}

/* Where a key's block of the run's Bloom filter is. */
typedef struct FilterPlace
{
	uint64		hash;
	uint32		page;			/* of the filter */
	Size		offset;			/* on that page */
} FilterPlace;

static inline void
find_filter_block(AlexRunReader *run_reader, uint64 key, FilterPlace *place)
{
	const AlexRun *run = run_reader->run;
	uint32		block;

	place->hash = alex_bloom_hash(key);
	block = alex_bloom_block(place->hash, run->bloom_blocks);
	place->page = block / ALEX_BLOOM_PAGE_BLOCKS;
	place->offset = (Size) (block % ALEX_BLOOM_PAGE_BLOCKS + 1) *
		ALEX_BLOOM_BLOCK_BYTES;
	if (place->page >= run->bloom_pages)
		report_damage(run_reader->reader->index, run->bloom_block, run->id,
					  "the Bloom filter has more blocks than its pages hold");
}

/* The page header and the filter's block are two cache lines. */
static inline void
prefetch_filter_block(AlexRunReader *run_reader, const FilterPlace *place,
					  bool header)
{
#ifdef __GNUC__
	const char *page;

	if (unlikely(run_reader->reader->mapping == NULL))
		return;
	page = alex_mapping_page(run_reader->reader->mapping,
							 run_reader->run->bloom_block + place->page);
	if (page == NULL)
		return;
	if (header)
		__builtin_prefetch(page);
	__builtin_prefetch(page + place->offset);
#endif
}

void
alex_run_prefetch_filter(AlexRunReader *run_reader, uint64 key)
{
	FilterPlace place;

	find_filter_block(run_reader, key, &place);
	prefetch_filter_block(run_reader, &place, true);
}

bool
alex_run_may_contain(AlexRunReader *run_reader, uint64 key)
{
	AlexReader *reader = run_reader->reader;
	const AlexRun *run = run_reader->run;
	AlexPageReference reference = ALEX_PAGE_REFERENCE_NONE;
	FilterPlace place;
	bool		result;

	if (run->bloom_pages == 0)
		return true;

	find_filter_block(run_reader, key, &place);
	/* let it come while the header is waited for */
	prefetch_filter_block(run_reader, &place, false);
	alex_page_open(reader, run->bloom_block + place.page,
				   run->bloom_stamp + place.page, ALEX_PAGE_BLOOM, run->id,
				   false, &reference);
	result = alex_bloom_test(reference.page + place.offset, place.hash);
	alex_page_close(&reference);
	return result;
}
