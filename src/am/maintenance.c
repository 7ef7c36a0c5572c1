/*-------------------------------------------------------------------------
 *
 * maintenance.c
 *	  alex_compact(regclass): maintenance by hand.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/maintenance.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "commands/tablecmds.h"
#include "fmgr.h"
#include "storage/indexfsm.h"
#include "storage/lmgr.h"

#include "alex/am.h"
#include "alex/inspect.h"

PG_FUNCTION_INFO_V1(alex_compact);

/*
 * Seals the log and merges all runs into one.
 *
 * The table is locked as VACUUM locks it.  We must not wait for that lock, or
 * for the maintenance lock, while this session holds a pin on a page of one of the
 * table's indexes, or is there in its reader's place, since VACUUM may hold them
 * and wait for that (hazard H17): hence no open cursor may be using the table.
 */
Datum
alex_compact(PG_FUNCTION_ARGS)
{
	Oid			index_oid = PG_GETARG_OID(0);
	Oid			table_oid;
	Relation	table;
	Relation	index;

	alex_require_preload();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("recovery is in progress"),
				 errhint("An alex index cannot be compacted during recovery.")));

	/* lock the table first, as everybody does */
	table_oid = IndexGetRelation(index_oid, true);
	table = OidIsValid(table_oid) ?
		try_relation_open(table_oid, AccessShareLock) : NULL;
	index = alex_inspect_open(index_oid, RowExclusiveLock, false);
	if (table == NULL || table_oid != IndexGetRelation(index_oid, false))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("could not open parent table of index \"%s\"",
						RelationGetRelationName(index))));
	CheckTableNotInUse(table, "alex_compact");
	LockRelation(table, ShareUpdateExclusiveLock);

	LockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);
	LockPage(index, ALEX_SEAL_LOCK, ExclusiveLock);
	alex_remove_retired(index);
	alex_seal(index, 1);
	alex_compact_all(index);
	alex_sweep(index);
	UnlockPage(index, ALEX_SEAL_LOCK, ExclusiveLock);
	UnlockPage(index, ALEX_MAINTENANCE_LOCK, ExclusiveLock);
	IndexFreeSpaceMapVacuum(index);

	index_close(index, NoLock);
	relation_close(table, NoLock);

	PG_RETURN_VOID();
}
