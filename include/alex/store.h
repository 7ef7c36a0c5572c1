/*-------------------------------------------------------------------------
 *
 * store.h
 *	  The store room: the pages of an index's relation file.  Metapage and
 *	  manifest, log pages, free space, the run writer, and the one function
 *	  that hands out sealed pages, mapped or buffered.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/store.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_STORE_H
#define ALEX_STORE_H

#include "postgres.h"

#include "access/transam.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/relfilenode.h"
#include "utils/rel.h"

#include "alex/learned.h"

StaticAssertDecl(BLCKSZ == ALEX_PAGE_SIZE,
				 "alexam supports the default block size only");
StaticAssertDecl(offsetof(PageHeaderData, pd_linp) == 24,
				 "AlexPageHeader begins with the page header");

#define ALEX_MAGIC				0x414C4558	/* "ALEX" */
#define ALEX_FORMAT_VERSION		1
#define ALEX_META_BLOCK			0

/*
 * An index has two key spaces, each with runs and memtable entries of its
 * own: ordinary keys, and NULLs (whose lane is always 0).
 */
typedef enum AlexPart
{
	ALEX_PART_VALUES,
	ALEX_PART_NULLS
} AlexPart;

#define ALEX_PARTS				2

/*
 * ---------------------------------------------------------------------
 * Metapage and manifest
 * ---------------------------------------------------------------------
 */

/* The pages of one generation's log; empty while head is invalid. */
typedef struct AlexLogChain
{
	uint64		generation;		/* 0: there is no such generation */
	uint64		head_stamp;
	uint64		tail_stamp;
	BlockNumber head;
	BlockNumber tail;
	uint32		npages;
	uint32		unused;
} AlexLogChain;

/* A run, as the manifest lists it. */
typedef struct AlexRun
{
	uint64		id;
	uint64		generation;		/* the one it was sealed from; 0 if none */
	uint64		entries;		/* dead ones included */
	uint64		dead;			/* entries with the dead bit, as of the last
								 * VACUUM */
	AlexEntry	min;			/* first and last entry */
	AlexEntry	max;
	uint64		model_stamp;	/* model page i has stamp model_stamp + i; of
								 * the only leaf when model_pages is 0 */
	uint64		bloom_stamp;	/* likewise for Bloom pages */
	FullTransactionId safexid;	/* retired runs: when scans are past it */
	BlockNumber model_block;	/* first model page; the only leaf when
								 * model_pages is 0 */
	uint32		model_pages;
	uint32		model_lines;
	BlockNumber bloom_block;	/* first Bloom page */
	uint32		bloom_pages;
	uint32		bloom_blocks;	/* 512-bit blocks of the filter */
	uint32		leaf_pages;
	uint16		part;			/* AlexPart */
	uint16		flags;
	uint32		depth;			/* of the model tree; 0 without one */
	union
	{
		uint32		dead_pages;	/* live: leaf pages with dead entries only, as
								 * of the last VACUUM */
		uint32		moved_pages;	/* retired: leaf pages that belong to
									 * another run now */
	};
} AlexRun;

#define ALEX_RUN_RETIRED		0x0001	/* not part of new views */
#define ALEX_RUN_MOVED			0x0002	/* retired; all its leaf pages belong
										 * to another run now */
#define ALEX_RUN_MERGING		0x0004	/* live; is being merged slice by slice
										 * with others of its part that have
										 * this flag */
#define ALEX_RUN_SUSPECT		0x0008	/* being merged; most of its entries
										 * are likely to be dead */

StaticAssertDecl(sizeof(AlexLogChain) == 40, "AlexLogChain is on disk");
StaticAssertDecl(sizeof(AlexRun) == 128, "AlexRun is on disk");

/*
 * Metapage (block 0).  Everything but the active chain's tail, page count
 * and (once) head changes only together with manifest_version.
 */
typedef struct AlexMetaPage
{
	AlexPageHeader header;		/* stamp = incarnation, hash = 0 */
	uint32		magic;
	uint32		format_version;
	uint64		incarnation;
	uint64		manifest_version;
	uint64		dead_epoch;		/* counts the VACUUMs that set dead bits in
								 * log pages */
	uint64		next_generation;
	uint64		next_run_id;
	uint32		flags;
	uint32		nruns;			/* listed, retired ones included */
	AlexLogChain active;
	AlexLogChain frozen;
	uint64		overflow_stamp; /* first overflow page of the manifest */
	BlockNumber overflow;
	uint32		noverflow;		/* overflow pages in the chain */
	AlexRun		runs[FLEXIBLE_ARRAY_MEMBER];
} AlexMetaPage;

/* Dead bits were set in leaf pages that may not have reached the file yet. */
#define ALEX_META_UNFLUSHED		0x00000001

/* Overflow page of the manifest. */
typedef struct AlexManifestPage
{
	AlexPageHeader header;
	uint64		next_stamp;
	BlockNumber next;
	uint32		nruns;
	AlexRun		runs[FLEXIBLE_ARRAY_MEMBER];
} AlexManifestPage;

#define ALEX_META_RUNS \
	((BLCKSZ - offsetof(AlexMetaPage, runs)) / sizeof(AlexRun))
#define ALEX_MANIFEST_RUNS \
	((BLCKSZ - offsetof(AlexManifestPage, runs)) / sizeof(AlexRun))

/* Overflow pages, and runs, retired ones included, at most */
#define ALEX_MAX_OVERFLOW		30
#define ALEX_MAX_LISTED_RUNS \
	(ALEX_META_RUNS + ALEX_MAX_OVERFLOW * ALEX_MANIFEST_RUNS)

StaticAssertDecl(offsetof(AlexMetaPage, runs) == 200, "AlexMetaPage is on disk");
StaticAssertDecl(offsetof(AlexManifestPage, runs) == 64,
				 "AlexManifestPage is on disk");

/* A backend-local copy of metapage and manifest, palloc'd in one piece. */
typedef struct AlexManifest
{
	uint64		incarnation;
	uint64		version;		/* manifest_version */
	uint64		dead_epoch;
	uint64		next_generation;
	uint64		next_run_id;
	uint32		flags;
	uint32		noverflow;
	AlexLogChain active;
	AlexLogChain frozen;
	int			nruns;			/* retired ones included */
	AlexRun		runs[FLEXIBLE_ARRAY_MEMBER];
} AlexManifest;

/* meta.c */

/* Fills a fresh metapage with a new incarnation; page is zeroed BLCKSZ. */
extern void alex_meta_init(Page page);

/*
 * Raises ERRCODE_INDEX_CORRUPTED or ERRCODE_FEATURE_NOT_SUPPORTED unless the
 * page is a metapage of this version.  Caller holds a lock on the buffer.
 */
extern void alex_meta_check(Relation index, Page page);

/*
 * Reads metapage and overflow pages under a share lock on the metapage.  The
 * result is palloc'd in the current context.
 */
extern AlexManifest *alex_manifest_read(Relation index);

/*
 * A change of the manifest: begin locks the metapage and all overflow pages
 * exclusively, with room for "extra" more runs; the caller edits the copy
 * (runs may be added at the end or removed, order is kept) and commits it
 * with one WAL record.  commit writes *manifest with version + 1.
 *
 * Log pages may be linked to the active chain until begin returns, but not
 * between begin and end, which hold the metapage.
 */
typedef struct AlexManifestChange
{
	Relation	index;
	AlexManifest *manifest;		/* edit this; has room for "extra" runs */
	Buffer		meta;
	int			noverflow;
	Buffer	   *overflow;
} AlexManifestChange;

typedef enum AlexManifestOperation
{
	ALEX_MANIFEST_FREEZE = 1,	/* active generation becomes frozen */
	ALEX_MANIFEST_INSTALL,		/* new runs come in; if they are those of the
								 * frozen generation, its chain goes */
	ALEX_MANIFEST_COMPACT,		/* runs replaced: new in, old retired */
	ALEX_MANIFEST_REMOVE,		/* retired runs go; resolves conflicts */
	ALEX_MANIFEST_VACUUM,		/* dead counts, dead epoch, flags */
	ALEX_MANIFEST_EXTEND		/* one more overflow page */
} AlexManifestOperation;

extern void alex_manifest_change_begin(Relation index, int extra,
									   AlexManifestChange *change);
extern AlexRun *alex_manifest_add(AlexManifestChange *change,
								  const AlexRun *run);
extern void alex_manifest_delete(AlexManifestChange *change, int which);

/*
 * Writes and logs the edited manifest, in a critical section of its own, and
 * calls "publish" (may be NULL) inside it, after the record is inserted and
 * before any lock is released.  conflict, if valid, is what redo resolves
 * conflicts with: for ALEX_MANIFEST_REMOVE the newest safexid of the runs that
 * go, for new runs the newest transaction that made an entry dead which was
 * left out.  "also" is one further buffer (or
 * InvalidBuffer) that the caller holds exclusively locked; change_also is
 * called on its page in the critical section, and its image is logged with
 * the record (the tail that a freeze closes).  Locks stay held.
 */
extern void alex_manifest_change_commit(AlexManifestChange *change,
										AlexManifestOperation operation,
										FullTransactionId conflict,
										Buffer also,
										void (*change_also) (Page page),
										void (*publish) (AlexManifestChange *change,
														 void *context),
										void *context);
/* Releases the locks, committed or not. */
extern void alex_manifest_change_end(AlexManifestChange *change);
/* Raises the error of a manifest that has no room for one run more. */
extern void alex_manifest_report_full(Relation index,
									  uint32 nruns) pg_attribute_noreturn();

/*
 * ---------------------------------------------------------------------
 * space.c: finding, claiming and freeing pages
 * ---------------------------------------------------------------------
 */

/*
 * Of npages pages of a relation, how many may be kept pinned at a time, at
 * least one: so many that all sessions could do so.
 */
extern int	alex_space_pins(Relation relation, int npages);

/*
 * A page that nobody uses: from the FSM, claimed under a conditional
 * exclusive lock, or new at the end of the file.  Returned pinned and
 * exclusively locked; the caller must initialise, stamp and log it before it
 * lets the lock go.
 */
extern Buffer alex_space_claim(Relation index, BufferAccessStrategy strategy);

/*
 * The same for up to npages pages, at least one, and no more than may be kept
 * pinned; returns how many.  Whoever builds in parallel must not hold a locked
 * page when calling this.
 */
extern int	alex_space_claim_pages(Relation index, int npages,
								   BufferAccessStrategy strategy,
								   Buffer *buffers);

/*
 * npages contiguous pages that nobody uses: free ones, or new ones at the end
 * of the file; returns the first block.  They are not locked: the caller must
 * check, when it has locked one, that it is still free.
 */
extern BlockNumber alex_space_claim_range(Relation index, uint32 npages,
										  BufferAccessStrategy strategy);

/* The stamp of every free page: nobody points at one. */
#define ALEX_FREE_STAMP			1

/* May the page in this exclusively locked buffer be taken? */
extern bool alex_space_is_free(Page page);

typedef struct AlexPagePointer
{
	uint64		stamp;
	BlockNumber block;
} AlexPagePointer;

/*
 * Stamps pages free and enters them in the FSM.  A page that does not carry
 * the stamp is left alone.  Nobody may be able to reach the pages any more.
 */
extern void alex_space_free(Relation index, const AlexPagePointer *pages,
							int npages);

/* A random 64-bit number, never 0. */
extern uint64 alex_new_stamp(void);

/* Initialises page header fields of any kind of page; zeroes the rest. */
extern void alex_page_init(Page page, uint16 kind, uint64 stamp);

/*
 * ---------------------------------------------------------------------
 * log.c: log pages
 * ---------------------------------------------------------------------
 */
typedef struct AlexLogEntry
{
	uint64		key;
	uint64		tid;			/* and flags in the upper bits */
} AlexLogEntry;

#define ALEX_LOG_NULL			(UINT64CONST(1) << 63)	/* a NULL key */
#define ALEX_LOG_DEAD			(UINT64CONST(1) << 62)	/* removed by VACUUM */
#define ALEX_LOG_TID(entry)		((entry)->tid & ALEX_TID_MAX)
#define ALEX_LOG_PART(entry) \
	(((entry)->tid & ALEX_LOG_NULL) ? ALEX_PART_NULLS : ALEX_PART_VALUES)

typedef struct AlexLogPage
{
	AlexPageHeader header;		/* hash = 0 */
	uint64		incarnation;
	uint64		generation;
	uint64		next_stamp;
	BlockNumber next;			/* InvalidBlockNumber at the tail */
	uint16		count;
	uint16		flags;
	uint32		number;			/* of the page in its chain, from 1 */
	uint32		unused;
	AlexLogEntry entries[FLEXIBLE_ARRAY_MEMBER];
} AlexLogPage;

#define ALEX_LOG_CLOSED			0x0001	/* frozen: nothing is added any more */

StaticAssertDecl(sizeof(AlexLogEntry) == 16, "AlexLogEntry is on disk");
StaticAssertDecl(offsetof(AlexLogPage, entries) == 88, "AlexLogPage is on disk");

#define ALEX_LOG_PAGE_ENTRIES \
	((BLCKSZ - offsetof(AlexLogPage, entries)) / sizeof(AlexLogEntry))

/* How far into a generation's chain somebody has read. */
typedef struct AlexLogPosition
{
	uint64		stamp;			/* page; 0: nothing read yet */
	BlockNumber block;
	uint32		number;			/* of the page in its chain */
	uint32		count;			/* entries of that page */
	uint32		unused;
} AlexLogPosition;

/* Entries of the chain up to a position; all pages but the last are full. */
static inline uint64
alex_log_entries_before(const AlexLogPosition *position)
{
	return position->number == 0 ? 0 :
		(uint64) (position->number - 1) * ALEX_LOG_PAGE_ENTRIES + position->count;
}

/*
 * Counts the entries of a chain, dead ones included; looks at its tail page.
 * Returns false, and a smaller count, when that is gone: the chain was sealed.
 */
extern bool alex_log_count(Relation index, const AlexLogChain *chain,
						   uint64 *count);

/*
 * True if the buffer's page is the log page with that stamp.  Caller holds a
 * lock on the buffer.
 */
extern bool alex_log_page_is(Page page, uint64 stamp);

/* Raises an error: this block ought to be a page of the log, and is not. */
extern void alex_log_report_damage(Relation index,
								   BlockNumber block) pg_attribute_noreturn();

/* Puts n entries on a log page and keeps pd_lower true; for append and redo. */
extern void alex_log_page_add(Page page, const AlexLogEntry *entries, int n);

extern void alex_log_page_init(Page page, uint64 stamp, uint64 incarnation,
							   uint64 generation, uint32 number);

/*
 * Locks the tail page of the active generation exclusively and returns it,
 * with room for at least one entry; makes and links a new log page when the
 * tail is full or the chain is empty.  "hint" (may be invalid) is where the
 * caller thinks the tail is, and "recent" the buffer where it was last, or
 * InvalidBuffer.  *linked is set to the chain's new number of
 * pages if a page was added, else to 0.
 */
extern Buffer alex_log_lock_tail(Relation index, AlexLogPosition hint,
								 Buffer recent, uint32 *linked);

/*
 * Reads the entries of a chain that come after *position, in order, calling
 * "take" for each page's new entries (the page is share-locked: copy and
 * return).  Moves *position on.  Returns false when the chain turned out to
 * be gone (its pages freed by a seal): the caller looks at the manifest
 * again.
 */
typedef void (*AlexLogTake) (const AlexLogEntry *entries, int n,
							 void *context);
extern bool alex_log_read(Relation index, const AlexLogChain *chain,
						  AlexLogPosition *position, AlexLogTake take,
						  void *context);

/*
 * For whoever could not read a chain to its end and would begin again: raises
 * an error if that is not because the manifest has changed, but because the
 * chain is broken.
 */
extern void alex_log_check_unbroken(Relation index,
									const AlexManifest *manifest);

/*
 * The pages of a chain that nobody can free or extend meanwhile, palloc'd.
 * Raises ERRCODE_INDEX_CORRUPTED when the chain is broken.
 */
extern AlexPagePointer *alex_log_pages(Relation index,
									   const AlexLogChain *chain,
									   int *npages);

/*
 * ---------------------------------------------------------------------
 * log_pack.c: entries of a batch, packed for WAL
 * ---------------------------------------------------------------------
 */

/* Fewer entries are not worth it. */
#define ALEX_LOG_MIN_PACKED		32

/*
 * Packs entries for one log page.  Returns how many, from the first on, are
 * in *data, which stays valid until the next call; 0 when it is not worth it,
 * or they are not in order.  Those that are packed are of one part.
 */
extern int	alex_log_pack(const AlexLogEntry *entries, int nentries,
						  const char **data, int *size);

/*
 * Unpacks data of unknown origin that ought to be nentries entries.  Returns
 * NULL, or what is wrong with it.
 */
extern const char *alex_log_unpack(const char *data, Size size, int nentries,
								   bool nulls, AlexLogEntry *entries);

/*
 * ---------------------------------------------------------------------
 * mapping.c: read-only mappings of the relation's segment files
 * ---------------------------------------------------------------------
 */
typedef struct AlexMapping
{
	RelFileNode node;
	uint64		incarnation;
	Oid			relid;
	int			references;
	bool		stale;
	int			error;			/* why there was no address, see below */
	int			nsegments;		/* length of segments[] */
	char	  **segments;		/* base address of each segment or NULL */
} AlexMapping;

/*
 * The mapping of the relation's main fork, with one reference taken; NULL
 * when the relation cannot be mapped (temporary, alexam.use_mmap off).
 * Release gives the reference back; may be called at any time, also while
 * memory contexts are reset.
 */
extern AlexMapping *alex_mapping_acquire(Relation index, uint64 incarnation);
extern void alex_mapping_release(AlexMapping *mapping);

/*
 * Maps a segment.  NULL, with the reason in mapping->error, when the file is
 * not there (ENOENT), or when there is no address space for it or its file
 * system cannot map files (ENOMEM, ENODEV).
 */
extern char *alex_mapping_segment(AlexMapping *mapping, uint32 segment);

/* Address of a block, which must lie within the file; NULL as above. */
static inline const char *
alex_mapping_page(AlexMapping *mapping, BlockNumber block)
{
	uint32		segment = block / RELSEG_SIZE;
	char	   *base;

	if (likely(segment < mapping->nsegments && mapping->segments[segment] != NULL))
		base = mapping->segments[segment];
	else
		base = alex_mapping_segment(mapping, segment);
	return base == NULL ? NULL : base + (Size) (block % RELSEG_SIZE) * BLCKSZ;
}

/*
 * Has the operating system read blocks of the file that are about to be
 * touched, without waiting for them.
 */
extern void alex_mapping_will_need(AlexMapping *mapping, BlockNumber block,
								   BlockNumber nblocks);

/*
 * ---------------------------------------------------------------------
 * reader.c: sealed pages, mapped or buffered
 * ---------------------------------------------------------------------
 */

/*
 * birth.c: a number that the database has had since its directory was made, and
 * no other database of the same number ever has.  Raises an error if that cannot
 * be found out.
 */
extern uint64 alex_database_birth_known;	/* 0: not yet */
extern uint64 alex_database_learn_birth(void);

static inline uint64
alex_database_birth(void)
{
	return likely(alex_database_birth_known != 0) ?
		alex_database_birth_known : alex_database_learn_birth();
}

/* Who reads, and how; lives as long as a scan or a maintenance step. */
typedef struct AlexReader
{
	Relation	index;
	AlexMapping *mapping;		/* NULL: through the buffer manager */
	BufferAccessStrategy strategy;
} AlexReader;

/* A sealed page in hand. */
typedef struct AlexPageReference
{
	const char *page;			/* NULL: none */
	Buffer		buffer;			/* pinned, or InvalidBuffer when mapped */
} AlexPageReference;

#define ALEX_PAGE_REFERENCE_NONE	{NULL, InvalidBuffer}

/* Takes a mapping reference where the relation can be mapped. */
extern void alex_reader_init(AlexReader *reader, Relation index,
							 uint64 incarnation);
extern void alex_reader_end(AlexReader *reader);

/*
 * The same for a reader that lives in the current memory context, so that an
 * error cannot leave its mapping referenced.
 */
extern AlexReader *alex_reader_open(Relation index, uint64 incarnation);
extern void alex_reader_close(AlexReader *reader);

/*
 * Hands out the sealed page at "block" that carries "stamp".  Mapped unless
 * "pinned" is asked for or the mapping does not have it; a buffered page is
 * pinned (dead bits cannot change while it is), not locked.  Whatever
 * *reference held before is released.  Raises ERRCODE_INDEX_CORRUPTED when
 * the page is not what was wanted even in the buffer manager.  "run" is for
 * the message.
 */
extern void alex_page_open(AlexReader *reader, BlockNumber block, uint64 stamp,
						   uint16 kind, uint64 run, bool pinned,
						   AlexPageReference *reference);

/*
 * The same for who can do without the page: false when it is not what was
 * wanted, with *reference as it was.
 */
extern bool alex_page_try_open(AlexReader *reader, BlockNumber block,
							   uint64 stamp, uint16 kind,
							   AlexPageReference *reference);

/* Does a sealed page carry the hash of its contents?  Never remembered. */
extern bool alex_page_hash_fits(const char *page);

/* NULL, or what is wrong with a page's header; may be palloc'd. */
extern const char *alex_page_header_fault(const char *page, uint64 stamp,
										  uint16 kind);

static inline void
alex_page_close(AlexPageReference *reference)
{
	if (BufferIsValid(reference->buffer))
		ReleaseBuffer(reference->buffer);
	reference->buffer = InvalidBuffer;
	reference->page = NULL;
}

/* How far a scan has come along a run's leaf pages; see read_ahead.c. */
typedef struct AlexReadAhead
{
	int64		place;			/* the leaf that it has come to */
	int			window;			/* leaves asked for last, or 0 */
	int64		asked;			/* the last one of them */
	int64		trigger;		/* where to ask again */
} AlexReadAhead;

/* Model tree of a run, opened for lookups. */
typedef struct AlexRunReader
{
	AlexReader *reader;
	const AlexRun *run;
	AlexModelSource source;
	AlexPageReference pages[2]; /* of get_page, in turn */
	int			turn;
	AlexLeafShape shape;		/* of the leaf that was searched last */
	AlexReadAhead ahead;
} AlexRunReader;

extern void alex_run_open(AlexRunReader *run_reader, AlexReader *reader,
						  const AlexRun *run);
extern void alex_run_close(AlexRunReader *run_reader);

/* Number of the leaf that holds the first entry >= (key, tid), or the one
 * before it. */
extern uint32 alex_run_find(AlexRunReader *run_reader, uint64 key, uint64 tid);
extern void alex_run_fence(AlexRunReader *run_reader, uint32 number,
						   AlexFence *fence);
/*
 * Begins to fetch what a search for the key will look at on a leaf page,
 * before the page's header has come; see alex_leaf_search_shape.
 */
extern void alex_run_prefetch(AlexRunReader *run_reader, uint32 number,
							  const AlexFence *fence, uint64 key);

/*
 * The same for several keys: the leaves that hold the first entries with
 * them, or those before these, and where these leaves are.  What a search
 * will look at there is being fetched, as by alex_run_prefetch.  The keys are
 * at most ALEX_MODEL_GROUP, and the run is_mapped.
 */
extern bool alex_run_is_mapped(const AlexRunReader *run_reader);
extern void alex_run_find_group(AlexRunReader *run_reader, const uint64 *keys,
								int nkeys, uint32 *numbers,
								AlexFence *places);

/*
 * read_ahead.c: begins at a leaf, and comes to another, which is about to be
 * opened.  If that is a next one in the direction, has the operating system
 * read it, and some that follow, up to the one with the key "edge".
 */
#define ALEX_NO_LEAF			PG_INT32_MIN

static inline void
alex_run_begin_at(AlexRunReader *run_reader, int64 number)
{
	run_reader->ahead.place = number;
	run_reader->ahead.window = 0;
}

extern void alex_run_read_ahead(AlexRunReader *run_reader, uint32 number,
								bool forward, uint64 edge);

/* Only where the leaf is: leaves key and TID of the fence undefined. */
extern void alex_run_place(AlexRunReader *run_reader, uint32 number,
						   AlexFence *fence);

/* Bloom pages hold blocks after a first line for the page header. */
#define ALEX_BLOOM_PAGE_BLOCKS	(BLCKSZ / ALEX_BLOOM_BLOCK_BYTES - 1)

/* False when the Bloom filter proves that the key is not in the run. */
extern bool alex_run_may_contain(AlexRunReader *run_reader, uint64 key);

/* Begins to fetch what that will look at; the run has a filter. */
extern void alex_run_prefetch_filter(AlexRunReader *run_reader, uint64 key);

/*
 * position.c: finds the place that parts "count" entries of the run from those
 * behind them.  Going forward they are counted from "from" on, and *boundary
 * is the entry after them; going backward those before "from" are counted, and
 * *boundary is the first of them.  False when there is no such entry.  Who
 * does so again and again wants no keys beyond the edge.
 */
extern bool alex_run_skip(AlexRunReader *run_reader, AlexEntry from,
						  bool forward, uint64 edge, uint64 count,
						  AlexEntry *boundary);

/*
 * The number of entries, dead ones included, in [low, high): exactly if they
 * are on few leaf pages, else by a sample of these.
 */
extern double alex_run_count(AlexRunReader *run_reader, AlexEntry low,
							 AlexEntry high);

/*
 * ---------------------------------------------------------------------
 * verified.c: pages whose hash was verified
 * ---------------------------------------------------------------------
 */

extern Size alex_verified_shmem_size(void);
extern void alex_verified_shmem_init(void);

/* Are hashes looked at even if alexam.verify_checksums is off? */
extern bool alex_verified_always(void);

/*
 * Pages are known by numbers whose bits from the 15th on are well mixed.
 * Whoever adds one has found the page's hash right; it is forgotten some time.
 */
extern bool alex_verified_contains(uint64 tag);
extern void alex_verified_add(uint64 tag);

/*
 * ---------------------------------------------------------------------
 * run_writer.c: writing a run
 * ---------------------------------------------------------------------
 */
typedef struct AlexRunWriter AlexRunWriter;

/*
 * Entries must be added in order.  finish writes model and Bloom pages,
 * flushes every page of the run to the operating system and describes the
 * run (id, generation and safexid are left to the caller).  A writer that is
 * given up (error) leaves orphan pages for VACUUM to find.  Memory is in the
 * context current at begin.  "bloom" allows a Bloom filter, built if it pays.
 */
extern AlexRunWriter *alex_run_writer_begin(Relation index, AlexPart part,
											uint64 expected_entries,
											bool bloom);
extern void alex_run_writer_add(AlexRunWriter *writer, uint64 key, uint64 tid);

/*
 * Takes over a whole leaf page of another run as it is.  Its contents are
 * needed if the writer has_filter, else "page" may be NULL.
 */
extern void alex_run_writer_adopt(AlexRunWriter *writer,
								  const AlexFence *fence, const char *page);
extern bool alex_run_writer_has_filter(const AlexRunWriter *writer);
/* Entries that are not on a page yet. */
extern int	alex_run_writer_pending(const AlexRunWriter *writer);
extern void alex_run_writer_finish(AlexRunWriter *writer, AlexRun *run);

/*
 * Instead of finish, where a run is the work of several processes: "cut" ends
 * a leaf page after the entry added last, and returns the number of leaf pages
 * so far; "leaves" flushes them all and returns their fences, which one of the
 * processes then gives to a writer of its own, by "adopt"; "end" frees memory.
 */
extern uint32 alex_run_writer_cut(AlexRunWriter *writer);
extern const AlexFence *alex_run_writer_leaves(AlexRunWriter *writer);
extern void alex_run_writer_end(AlexRunWriter *writer);

/* A page that was written, and the buffer that had it then. */
typedef struct AlexWrittenPage
{
	AlexPagePointer place;
	Buffer		buffer;
} AlexWrittenPage;

typedef struct AlexWrittenPages
{
	MemoryContext context;		/* of pages[] */
	AlexWrittenPage *pages;		/* NULL at first */
	uint64		npages;
	uint64		max_pages;
} AlexWrittenPages;

/*
 * Has the writer, which has written none yet, add its pages to a list that
 * outlives an error.  Whoever gives the run up can free them.
 */
extern void alex_run_writer_record(AlexRunWriter *writer,
								   AlexWrittenPages *written);
extern void alex_written_pages_free(Relation index, AlexWrittenPages *written);

#endif							/* ALEX_STORE_H */
