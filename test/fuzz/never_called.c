/*-------------------------------------------------------------------------
 *
 * never_called.c
 *	  Functions of the server that the code under test refers to, but that no
 *	  target calls.
 *
 * Copyright (c) 2026, alexam contributors
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

/* weak, as one target or another has a stand-in for some of them */
#define NEVER_CALLED(name) \
extern void name(void) __attribute__((weak)); \
void \
name(void) \
{ \
	abort(); \
}

NEVER_CALLED(AllocSetContextCreateInternal)
NEVER_CALLED(ConditionalLockBuffer)
NEVER_CALLED(FreeSpaceMapVacuumRange)
NEVER_CALLED(GetFreeIndexPage)
NEVER_CALLED(GetRecordedFreeSpace)
NEVER_CALLED(LockRelationForExtension)
NEVER_CALLED(MemoryContextAllocZero)
NEVER_CALLED(MemoryContextDelete)
NEVER_CALLED(MemoryContextRegisterResetCallback)
NEVER_CALLED(ProcessInterrupts)
NEVER_CALLED(ReadNextFullTransactionId)
NEVER_CALLED(RecordFreeIndexPage)
NEVER_CALLED(RecordUsedIndexPage)
NEVER_CALLED(RegisterCustomRmgr)
NEVER_CALLED(ResolveRecoveryConflictWithSnapshotFullXid)
NEVER_CALLED(UnlockRelationForExtension)
NEVER_CALLED(XLogBeginInsert)
NEVER_CALLED(XLogEnsureRecordSpace)
NEVER_CALLED(XLogInsert)
NEVER_CALLED(XLogRegisterBuffer)
NEVER_CALLED(XLogRegisterData)
NEVER_CALLED(alex_failpoint)
NEVER_CALLED(alex_mapping_release)
NEVER_CALLED(alex_mapping_segment)
NEVER_CALLED(alex_mapping_will_need)
NEVER_CALLED(mask_page_lsn_and_checksum)
NEVER_CALLED(mask_unused_space)
NEVER_CALLED(pg_strong_random)
NEVER_CALLED(pgstat_assoc_relation)
