/*-------------------------------------------------------------------------
 *
 * readers.c
 *	  Readers that VACUUM waits for, without pins.
 *
 * Some scans hold TIDs that must not be reused until their caller has looked
 * at the heap: index-only scans, whose caller trusts the visibility map, and
 * scans under a non-MVCC snapshot, which would take a new tuple for the old
 * one.  A pin on the leaf page makes VACUUM wait; but a mapped page has no
 * buffer to pin without giving up what the mapping saves, and an entry of the
 * memtable has no page at all.
 *
 * So each backend has a place here: a counter that is odd while the backend
 * is inside an index, which index, and on which leaf page, if it is one.  The
 * backend enters, with a full barrier, before it reads dead bits or the
 * memtable, and moves (the counter grows by two) when it has done with the TIDs
 * it read and is about to read others.  VACUUM, after dead bits have reached
 * the file and entries have left the memtable, waits until each counter that was
 * odd has changed: who enters or moves after that reads what VACUUM has left.
 *
 * As for a pin, VACUUM does not wait for a backend on a leaf page of which it
 * has removed nothing.  Many a scan never comes back for the entry after its
 * last one, and stays until its query has ended.  The page is written before the
 * counter changes, and read after the counter.  So VACUUM sees it, or a later
 * one, or the backend sees the dead bits; and a later one is written only when
 * the TIDs of the one before have been done with.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/memtable/readers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "alex/memtable.h"

typedef struct AlexReaderPlace
{
	pg_atomic_uint64 counter;	/* odd: inside */
	pg_atomic_uint64 index;		/* database and relation file, or 0 */
	pg_atomic_uint64 block;		/* of the leaf page, or ALEX_READER_ANYWHERE */
	char		padding[PG_CACHE_LINE_SIZE - 3 * sizeof(pg_atomic_uint64)];
} AlexReaderPlace;

static AlexReaderPlace *places;
static int	depth = 0;			/* how often this backend is inside */

/*
 * Where the outermost of several scans that are inside is; nowhere in particular
 * once it has left.  A uniqueness check beside a cursor, say, is over soon, and
 * the cursor must not be taken to be anywhere after that.
 */
static uint64 outermost_index;
static uint64 outermost_block;
static bool outermost_has_left; /* before others that are inside still */

/* Every process that can run a query has a number below this. */
static int
number_of_places(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

Size
alex_readers_shmem_size(void)
{
	return add_size(PG_CACHE_LINE_SIZE,
					mul_size(number_of_places(), sizeof(AlexReaderPlace)));
}

void
alex_readers_shmem_init(void)
{
	bool		found;
	char	   *base;

	base = ShmemInitStruct("alexam readers", alex_readers_shmem_size(), &found);
	places = (AlexReaderPlace *) CACHELINEALIGN(base);
	if (!found)
	{
		for (int i = 0; i < number_of_places(); i++)
		{
			pg_atomic_init_u64(&places[i].counter, 0);
			pg_atomic_init_u64(&places[i].index, 0);
			pg_atomic_init_u64(&places[i].block, ALEX_READER_ANYWHERE);
		}
	}
}

static uint64
index_number(Relation index)
{
	return ((uint64) index->rd_node.dbNode << 32) | index->rd_node.relNode;
}

/* A backend that ends while inside must not be waited for. */
static void
leave_at_exit(int code, Datum argument)
{
	depth = 1;
	alex_readers_leave(true);
}

/* Returns whether this is the outermost one that is inside. */
static bool
enter(Relation index, BlockNumber block)
{
	AlexReaderPlace *place = &places[MyProc->pgprocno];
	static bool registered = false;

	if (!registered)
	{
		before_shmem_exit(leave_at_exit, (Datum) 0);
		registered = true;
	}

	if (depth++ > 0)
	{
		if (depth == 2 && !outermost_has_left)
		{
			outermost_index = pg_atomic_read_u64(&place->index);
			outermost_block = pg_atomic_read_u64(&place->block);
		}
		if (pg_atomic_read_u64(&place->index) != index_number(index))
			pg_atomic_write_u64(&place->index, 0);
		pg_atomic_write_u64(&place->block, ALEX_READER_ANYWHERE);
	}
	else
	{
		uint64		counter = pg_atomic_read_u64(&place->counter);

		pg_atomic_write_u64(&place->index, index_number(index));
		pg_atomic_write_u64(&place->block, block);
		/* a full barrier, like the one below */
		pg_atomic_fetch_add_u64(&place->counter, 1 + (counter & 1));
		return true;
	}

	/* what we read from the memtable must come after this is seen */
	pg_memory_barrier();
	return false;
}

bool
alex_readers_enter(Relation index)
{
	return enter(index, ALEX_READER_ANYWHERE);
}

bool
alex_readers_try_enter(Relation index, BlockNumber block)
{
	if (depth > 0)
		return false;
	return enter(index, block);
}

bool
alex_readers_are_inside(void)
{
	return depth > 0;
}

void
alex_readers_move(BlockNumber block)
{
	AlexReaderPlace *place = &places[MyProc->pgprocno];

	Assert(depth > 0);

	/*
	 * Others of our scans are inside, too, and may not have done.  We are the
	 * outermost one, and will be on that page when they have left.
	 */
	if (depth > 1)
	{
		outermost_block = block;
		return;
	}
	/* the heap was looked at before; for a read barrier see below */
	pg_read_barrier();
	pg_atomic_write_u64(&place->block, block);
	/* a full barrier */
	pg_atomic_fetch_add_u64(&place->counter, 2);
}

void
alex_readers_leave(bool outermost)
{
	AlexReaderPlace *place = &places[MyProc->pgprocno];
	uint64		counter;

	if (depth == 0)
		return;
	depth--;
	/*
	 * All that was read must have been read before this is seen.  Read
	 * barriers keep later stores back, too, on every platform: they are
	 * acquire fences.
	 */
	pg_read_barrier();
	outermost_has_left = depth > 0 && (outermost_has_left || outermost);
	if (depth > 0 && outermost)
	{
		outermost_index = 0;
		outermost_block = ALEX_READER_ANYWHERE;
	}
	else if (depth == 1)
	{
		/* VACUUM may be waiting for the counter, for the sake of that one */
		pg_atomic_write_u64(&place->block, outermost_block);
		pg_write_barrier();
		pg_atomic_write_u64(&place->index, outermost_index);
	}
	if (depth > 0)
		return;
	counter = pg_atomic_read_u64(&place->counter);
	if (counter & 1)
		pg_atomic_write_u64(&place->counter, counter + 1);
}

/* May whoever is at the place have TIDs of one of the blocks of the index? */
static bool
is_concerned(AlexReaderPlace *place, uint64 number, const uint8 *blocks,
			 BlockNumber nblocks)
{
	uint64		inside = pg_atomic_read_u64(&place->index);
	uint64		block;

	if (inside != 0 && inside != number)
		return false;
	pg_read_barrier();
	block = pg_atomic_read_u64(&place->block);
	return blocks == NULL || block >= nblocks ||
		(blocks[block / 8] >> (block % 8) & 1) != 0;
}

void
alex_readers_wait(Relation index, const uint8 *blocks, BlockNumber nblocks)
{
	uint64		number = index_number(index);

	pg_memory_barrier();

	for (int i = 0; i < number_of_places(); i++)
	{
		uint64		counter = pg_atomic_read_u64(&places[i].counter);

		if (i == MyProc->pgprocno || (counter & 1) == 0)
			continue;

		/* the page is told before the counter changes: read it after that */
		pg_read_barrier();
		while (is_concerned(&places[i], number, blocks, nblocks) &&
			   pg_atomic_read_u64(&places[i].counter) == counter)
		{
			CHECK_FOR_INTERRUPTS();
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 1L, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
		}
	}
}
