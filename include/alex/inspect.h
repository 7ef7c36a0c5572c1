/*-------------------------------------------------------------------------
 *
 * inspect.h
 *	  The inspection room: statistics and verification of an index.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * include/alex/inspect.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_INSPECT_H
#define ALEX_INSPECT_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/relcache.h"

/*
 * Opens and locks a relation that a user named.  Raises an error unless it is
 * a valid alex index that this session can read and this user owns.  With
 * "monitors", members of pg_stat_scan_tables need not own it: for what tells
 * nothing of the data but how much there is.
 */
extern Relation alex_inspect_open(Oid relid, LOCKMODE lockmode, bool monitors);

#endif							/* ALEX_INSPECT_H */
