/*-------------------------------------------------------------------------
 *
 * inspect.c
 *	  Opening the index that an inspection function was asked about.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/inspect/inspect.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"
#include "alex/am.h"
#include "alex/inspect.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/rel.h"

static bool
is_alex_index(Relation relation)
{
	return relation->rd_rel->relkind == RELKIND_INDEX &&
		relation->rd_indam->ambuild == alex_build;
}

Relation
alex_inspect_open(Oid relid, LOCKMODE lockmode, bool monitors)
{
	Relation	relation;

	alex_require_preload();

	relation = relation_open(relid, lockmode);

	if (!is_alex_index(relation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not an alex index",
						RelationGetRelationName(relation)),
				 relation->rd_rel->relkind == RELKIND_PARTITIONED_INDEX ?
				 errhint("Name the indexes of its partitions instead.") : 0));

	if (!pg_class_ownercheck(relid, GetUserId()) &&
		!(monitors && has_privs_of_role(GetUserId(), ROLE_PG_STAT_SCAN_TABLES)))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_INDEX,
					   RelationGetRelationName(relation));

	if (RELATION_IS_OTHER_TEMP(relation))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access temporary indexes of other sessions")));

	if (!relation->rd_index->indisvalid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("index \"%s\" is not valid",
						RelationGetRelationName(relation))));

	if (!RelationIsPermanent(relation) && RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot access temporary or unlogged relations during recovery")));

	/* what this transaction has inserted belongs to what is looked at */
	if (alex_pending_total > 0)
		alex_pending_flush_for_scan(relation, NULL);

	return relation;
}
