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
 * A standby knows nothing of these locks.  Its queries are waited for as far as
 * they are made known, and must else give way to the record that takes the runs
 * out of the manifest.  While a transaction that is older than the retirement
 * is running, that would be all its queries, also those that have come since.
 * So where there are standbys, that transaction is waited for, too.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/lockers.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/standby.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "alex/am.h"
#include "alex/worker.h"

/* What was noted last of an index. */
typedef struct LockersNote
{
	Oid			index;
	RelFileNode node;
	/* the next transaction id when it was made */
	FullTransactionId next;
	/* those of the transactions that were not over when last looked at */
	VirtualTransactionId *lockers;
	int			nlockers;
} LockersNote;

/* Each index's is in the place that its OID leads to. */
#define NOTES					64
static LockersNote notes[NOTES];

static LockersNote *
note_place(Relation index)
{
	return &notes[RelationGetRelid(index) % NOTES];
}

/* Forgets those that are over.  Is there nobody left? */
static bool
strike_out(LockersNote *note)
{
	int			left = 0;

	for (int i = 0; i < note->nlockers; i++)
		if (!VirtualXactLock(note->lockers[i], false))
			note->lockers[left++] = note->lockers[i];
	note->nlockers = left;
	return left == 0;
}

static void
forget(LockersNote *note)
{
	VirtualTransactionId *lockers = note->lockers;

	memset(note, 0, sizeof(*note));
	if (lockers != NULL)
		pfree(lockers);
}

bool
alex_lockers_note(Relation index)
{
	LockersNote *note = note_place(index);
	FullTransactionId oldest;
	FullTransactionId newest;
	LOCKTAG		tag;
	VirtualTransactionId *lockers;

	alex_retired_range(index, &oldest, &newest);
	if (!FullTransactionIdIsValid(newest))
	{
		if (note->index == RelationGetRelid(index))
			forget(note);
		return false;
	}

	/* who keeps exchanging notes that are good for something ends none */
	if (note->index == RelationGetRelid(index) &&
		FullTransactionIdPrecedes(oldest, note->next) &&
		(FullTransactionIdPrecedes(newest, note->next) || !strike_out(note)))
		return false;
	forget(note);

	/*
	 * A run that is retired from now on gets this safexid or a newer one, and
	 * is not meant.  It must be read before the lock table is.
	 */
	note->next = ReadNextFullTransactionId();
	if (!FullTransactionIdPrecedes(oldest, note->next))
		return false;

	SET_LOCKTAG_RELATION(tag, index->rd_lockInfo.lockRelId.dbId,
						 index->rd_lockInfo.lockRelId.relId);
	lockers = GetLockConflicts(&tag, AccessExclusiveLock, &note->nlockers);
	note->lockers = MemoryContextAlloc(TopMemoryContext,
									   sizeof(VirtualTransactionId) *
									   (note->nlockers + 1));
	memcpy(note->lockers, lockers,
		   sizeof(VirtualTransactionId) * note->nlockers);
	pfree(lockers);
	note->node = index->rd_node;
	note->index = RelationGetRelid(index);
	return true;
}

bool
alex_lockers_watch(void)
{
	bool		any = false;

	for (int i = 0; i < NOTES; i++)
	{
		if (!OidIsValid(notes[i].index) || notes[i].nlockers == 0)
			continue;
		if (strike_out(&notes[i]))
			alex_request_again(notes[i].node);
		any = true;
	}
	return any;
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
 * Is a standby following, or might one, from a slot or an archive?  One that is
 * away and has neither is not known of; its readers are safe all the same, see
 * redo_manifest(), but may have to give way without need.
 */
static bool
has_standbys(void)
{
	if (XLogArchivingActive())
		return true;
	for (int i = 0; i < max_wal_senders; i++)
		if (((volatile WalSnd *) &WalSndCtl->walsnds[i])->pid != 0)
			return true;
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];

		if (slot->in_use && SlotIsPhysical(slot))
			return true;
	}
	return false;
}

/*
 * The oldest snapshot of a standby that lets us know, by its slot or without
 * one, or a transaction that all its snapshots know as running; the next
 * transaction id if there is none.
 */
static FullTransactionId
limit_of_standbys(void)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId limit;
	TransactionId xmin;

	if (!has_standbys())
		return next;

	limit = older(next, with_epoch(GetOldestActiveTransactionId(), next));
	ProcArrayGetReplicationSlotXmin(&xmin, NULL);
	if (TransactionIdIsValid(xmin))
		limit = older(limit, with_epoch(xmin, next));
	for (int i = 0; i < max_wal_senders; i++)
	{
		pid_t		pid = ((volatile WalSnd *) &WalSndCtl->walsnds[i])->pid;
		volatile PGPROC *proc = pid == 0 ? NULL : BackendPidGetProc(pid);

		xmin = proc == NULL ? InvalidTransactionId : proc->xmin;
		if (TransactionIdIsValid(xmin))
			limit = older(limit, with_epoch(xmin, next));
	}
	return limit;
}

FullTransactionId
alex_lockers_limit(Relation index)
{
	LockersNote *note = note_place(index);

	if (note->index != RelationGetRelid(index) || !strike_out(note) ||
		vacuum_defer_cleanup_age > 0)
		return InvalidFullTransactionId;
	return older(note->next, limit_of_standbys());
}
