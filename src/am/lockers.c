/*-------------------------------------------------------------------------
 *
 * lockers.c
 *	  Transactions that may be reading what was retired.
 *
 * A retired run stays until nobody can be following a manifest that lists it.
 * The horizon of snapshots says when that is, but any old snapshot in the
 * database holds it back, whatever it is used for.  A worker knows better.
 * Whoever reads an index has locked it, and takes a view of it only then; and
 * keeps the lock until the scan has ended, mostly until its transaction has.
 * So the worker makes a note of who has the index locked, after runs were
 * retired: when all of these transactions are over, the runs can go.  Who
 * comes to lock the index later sees the manifest without them.
 *
 * In other processes there is no note: a session that compacts might have an
 * open cursor of its own on the index.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/lockers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/standby.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "alex/worker.h"

/* What was noted last. */
typedef struct LockersNote
{
	Oid			index;
	/* the next transaction id when it was made */
	FullTransactionId next;
	/* those of the transactions that were not over when last looked at */
	VirtualTransactionId *lockers;
	int			nlockers;
} LockersNote;

static LockersNote note = {.index = InvalidOid};

/* Forgets those that are over. */
static void
strike_out(void)
{
	int			left = 0;

	for (int i = 0; i < note.nlockers; i++)
		if (!VirtualXactLock(note.lockers[i], false))
			note.lockers[left++] = note.lockers[i];
	note.nlockers = left;
}

bool
alex_lockers_note(Relation index, FullTransactionId newest)
{
	LOCKTAG		tag;
	VirtualTransactionId *lockers;

	if (note.index == RelationGetRelid(index))
	{
		if (FullTransactionIdPrecedes(newest, note.next))
			return false;
		strike_out();
		/* who keeps exchanging notes gets to the end of none */
		if (note.nlockers > 0)
			return false;
	}

	/*
	 * A run that is retired from now on gets this safexid or a newer one, and
	 * is not meant.  It must be read before the lock table is.
	 */
	note.index = InvalidOid;
	note.next = ReadNextFullTransactionId();
	if (!FullTransactionIdPrecedes(newest, note.next))
		return false;

	SET_LOCKTAG_RELATION(tag, index->rd_lockInfo.lockRelId.dbId,
						 index->rd_lockInfo.lockRelId.relId);
	lockers = GetLockConflicts(&tag, AccessExclusiveLock, &note.nlockers);
	if (note.lockers != NULL)
		pfree(note.lockers);
	note.lockers = MemoryContextAlloc(TopMemoryContext,
									  sizeof(VirtualTransactionId) *
									  (note.nlockers + 1));
	memcpy(note.lockers, lockers,
		   sizeof(VirtualTransactionId) * note.nlockers);
	pfree(lockers);
	note.index = RelationGetRelid(index);
	return true;
}

/* A transaction id, which is not far from "next", with its epoch. */
static FullTransactionId
with_epoch(TransactionId xid, FullTransactionId next)
{
	int32		distance = (int32) (xid - XidFromFullTransactionId(next));

	return FullTransactionIdFromU64(U64FromFullTransactionId(next) + distance);
}

static FullTransactionId
older(FullTransactionId a, FullTransactionId b)
{
	return FullTransactionIdPrecedes(a, b) ? a : b;
}

/*
 * The oldest snapshot of a standby that lets us know, by its slot or without
 * one, or that the settings ask us to think of; the next transaction id if
 * there is none.
 */
static FullTransactionId
oldest_of_standbys(void)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId oldest = next;
	TransactionId xmin;

	ProcArrayGetReplicationSlotXmin(&xmin, NULL);
	if (TransactionIdIsValid(xmin))
		oldest = older(oldest, with_epoch(xmin, next));

	for (uint32 i = 0; i < ProcGlobal->allProcCount; i++)
	{
		volatile PGPROC *proc = &ProcGlobal->allProcs[i];

		if ((proc->statusFlags & PROC_AFFECTS_ALL_HORIZONS) == 0)
			continue;
		xmin = proc->xmin;
		if (TransactionIdIsValid(xmin))
			oldest = older(oldest, with_epoch(xmin, next));
	}

	if (vacuum_defer_cleanup_age > 0)
	{
		uint64		value = U64FromFullTransactionId(next);

		value -= Min(value, (uint64) vacuum_defer_cleanup_age);
		oldest = older(oldest, FullTransactionIdFromU64(value));
	}
	return oldest;
}

FullTransactionId
alex_lockers_limit(Relation index)
{
	if (note.index != RelationGetRelid(index))
		return InvalidFullTransactionId;
	strike_out();
	if (note.nlockers > 0)
		return InvalidFullTransactionId;
	return older(note.next, oldest_of_standbys());
}
