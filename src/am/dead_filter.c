/*-------------------------------------------------------------------------
 *
 * dead_filter.c
 *	  Telling most TIDs that VACUUM does not remove without asking it.
 *
 * ambulkdelete is given a callback that says whether a TID is to be removed.
 * VACUUM's searches a sorted array, some twenty steps that no processor
 * foresees, and is asked for each entry, of which it removes a few.  That was
 * two thirds of what ambulkdelete cost here, and cannot be any less by asking.
 *
 * But VACUUM's array is no secret: VacDeadItems is what its callback gets as
 * state, and the exported way to call ambulkdelete with that callback
 * (vac_bulkdel_one_index) tells its address.  So if it is VACUUM that calls,
 * we make a bitmap of the array.  Other callers' callbacks (CREATE INDEX
 * CONCURRENTLY has one) are asked for each TID.
 *
 * The bitmap has a bit for each TID between the first and the last in the
 * array, if that takes no more than FILTER_BITS for each of its TIDs.  If it
 * takes more, as few rows in many are removed, TIDs that are far apart share a
 * bit.  Then those whose bit is not set are not in the array, and the callback
 * is asked about the others.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/dead_filter.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "commands/vacuum.h"
#include "port/pg_bitutils.h"
#include "storage/itemptr.h"
#include "utils/memutils.h"

#include "alex/am.h"

/*
 * At most so many bits for each TID, which so takes 8 bytes more than the 6 of
 * VACUUM's array; at least so many in all.
 */
#define FILTER_BITS				64
#define FILTER_MIN_BITS			1024

struct AlexDeadFilter
{
	int			offset_bits;	/* no offset in the array has more */
	uint64		first;			/* place of the array's first TID */
	uint64		span;			/* and how far from there the last one is */
	uint64		mask;			/* makes the distance from the first one the
								 * number of a bit */
	uint64	   *words;
};

/* VACUUM's callback, once it is known. */
static IndexBulkDeleteCallback vacuum_callback = NULL;

/* What we have it called with to find that out. */
static VacDeadItems nothing_dead;

/*
 * To be called first by ambulkdelete: true if this is the call by which we
 * find out what VACUUM's callback is, and nothing is to be done.
 */
bool
alex_dead_filter_learn(IndexVacuumInfo *info, IndexBulkDeleteCallback callback,
					   void *callback_state)
{
	IndexVacuumInfo quiet = *info;

	if (callback_state == &nothing_dead)
	{
		vacuum_callback = callback;
		return true;
	}
	if (vacuum_callback == NULL)
	{
		quiet.message_level = DEBUG5;
		(void) vac_bulkdel_one_index(&quiet, NULL, &nothing_dead);
	}
	return false;
}

/* How far a TID is from the first one; those before that are far behind it. */
static inline uint64
distance_of(const AlexDeadFilter *filter, uint64 tid)
{
	return ((uint64) ALEX_TID_BLOCK(tid) << filter->offset_bits |
			ALEX_TID_OFFSET(tid)) - filter->first;
}

static inline uint64
tid_of(const ItemPointerData *pointer)
{
	return ALEX_TID(ItemPointerGetBlockNumberNoCheck(pointer),
					ItemPointerGetOffsetNumberNoCheck(pointer));
}

/*
 * The filter for what this callback will call dead; NULL if nothing is known
 * of it, or there is no memory.
 */
AlexDeadFilter *
alex_dead_filter_make(IndexBulkDeleteCallback callback, void *callback_state)
{
	const VacDeadItems *dead = callback_state;
	AlexDeadFilter *filter;
	OffsetNumber offsets = 0;
	uint64		room;
	uint64		nbits;

	if (callback != vacuum_callback || dead->num_items == 0)
		return NULL;

	for (int i = 0; i < dead->num_items; i++)
		offsets |= ItemPointerGetOffsetNumberNoCheck(&dead->items[i]);

	filter = palloc(sizeof(AlexDeadFilter));
	filter->first = 0;
	filter->offset_bits = pg_leftmost_one_pos32(offsets) + 1;
	filter->first = distance_of(filter, tid_of(&dead->items[0]));
	filter->span = distance_of(filter, tid_of(&dead->items[dead->num_items - 1]));

	room = Max((uint64) dead->num_items * FILTER_BITS, FILTER_MIN_BITS);
	nbits = UINT64CONST(1) << pg_leftmost_one_pos64(room);
	while (nbits / 2 > filter->span && nbits > FILTER_MIN_BITS)
		nbits /= 2;
	filter->mask = nbits - 1;

	/* VACUUM has planned for its array, not for this: do without, then */
	filter->words = MemoryContextAllocExtended(CurrentMemoryContext, nbits / 8,
											   MCXT_ALLOC_HUGE |
											   MCXT_ALLOC_NO_OOM |
											   MCXT_ALLOC_ZERO);
	if (filter->words == NULL)
	{
		pfree(filter);
		return NULL;
	}
	for (int i = 0; i < dead->num_items; i++)
	{
		uint64		bit = distance_of(filter, tid_of(&dead->items[i])) &
			filter->mask;

		filter->words[bit / 64] |= UINT64CONST(1) << (bit % 64);
	}
	return filter;
}

/* Is there nothing to be asked about what the filter chooses? */
bool
alex_dead_filter_is_exact(const AlexDeadFilter *filter)
{
	return filter != NULL && filter->span <= filter->mask;
}

/*
 * Puts into which[] the numbers of those TIDs that may be dead, and returns how
 * many these are.  Without a filter any may be.
 */
int
alex_dead_filter_choose(const AlexDeadFilter *filter, const uint64 *tids,
						int ntids, uint16 *which)
{
	int			nchosen = 0;

	for (int i = 0; i < ntids; i++)
	{
		bool		possible = true;

		/* no branches that depend on the TID: the answers come at random */
		if (filter != NULL)
		{
			uint64		distance = distance_of(filter, tids[i]);
			uint64		bit = distance & filter->mask;

			possible = (filter->words[bit / 64] >> (bit % 64) & 1) &
				(distance <= filter->span) &
				(ALEX_TID_OFFSET(tids[i]) >> filter->offset_bits == 0);
		}
		which[nchosen] = i;
		nchosen += possible;
	}
	return nchosen;
}

void
alex_dead_filter_free(AlexDeadFilter *filter)
{
	if (filter == NULL)
		return;
	pfree(filter->words);
	pfree(filter);
}
