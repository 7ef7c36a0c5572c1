/*-------------------------------------------------------------------------
 *
 * handler.c
 *	  The access method handler, and its relation options.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/handler.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "commands/vacuum.h"
#include "nodes/nodes.h"

#include "alex/am.h"

PG_FUNCTION_INFO_V1(alex_handler);

/* There are no relation options: an empty list passes, anything else is an
 * error that reloptions.c words. */
bytea *
alex_options(Datum reloptions, bool validate)
{
	return (bytea *) build_reloptions(reloptions, validate, 0, 0, NULL, 0);
}

Datum
alex_handler(PG_FUNCTION_ARGS)
{
	IndexAmRoutine *routine = makeNode(IndexAmRoutine);

	routine->amstrategies = ALEX_NSTRATEGIES;
	routine->amsupport = ALEX_NPROCS;
	routine->amoptsprocnum = 0;
	routine->amcanorder = true;
	routine->amcanorderbyop = false;
	routine->amcanbackward = true;
	routine->amcanunique = true;
	routine->amcanmulticol = false;
	routine->amoptionalkey = true;
	routine->amsearcharray = true;
	routine->amsearchnulls = true;
	routine->amstorage = false;
	routine->amclusterable = true;
	routine->ampredlocks = false;
	routine->amcanparallel = true;
	routine->amcaninclude = false;
	routine->amusemaintenanceworkmem = false;
	routine->amparallelvacuumoptions =
		VACUUM_OPTION_PARALLEL_BULKDEL | VACUUM_OPTION_PARALLEL_COND_CLEANUP;
	routine->amkeytype = InvalidOid;

	routine->ambuild = alex_build;
	routine->ambuildempty = alex_build_empty;
	routine->aminsert = alex_insert;
	routine->ambulkdelete = alex_bulk_delete;
	routine->amvacuumcleanup = alex_vacuum_cleanup;
	routine->amcanreturn = alex_can_return;
	routine->amcostestimate = alex_cost_estimate;
	routine->amoptions = alex_options;
	routine->amproperty = NULL;
	routine->ambuildphasename = alex_build_phase_name;
	routine->amvalidate = alex_validate;
	routine->amadjustmembers = NULL;
	routine->ambeginscan = alex_begin_scan;
	routine->amrescan = alex_rescan;
	routine->amgettuple = alex_get_tuple;
	routine->amgetbitmap = alex_get_bitmap;
	routine->amendscan = alex_end_scan;
	routine->ammarkpos = alex_mark_position;
	routine->amrestrpos = alex_restore_position;
	routine->amestimateparallelscan = alex_estimate_parallel_scan;
	routine->aminitparallelscan = alex_init_parallel_scan;
	routine->amparallelrescan = alex_parallel_rescan;

	PG_RETURN_POINTER(routine);
}
