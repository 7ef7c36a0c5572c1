/*-------------------------------------------------------------------------
 *
 * rmgr.h
 *	  What the files of the resource manager share.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/wal/rmgr.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef ALEX_RMGR_H
#define ALEX_RMGR_H

#include "postgres.h"

#include "access/xlogreader.h"
#include "lib/stringinfo.h"

#define ALEX_RMGR_NAME			"alexam"

/* desc.c */
extern void alex_desc(StringInfo buf, XLogReaderState *record);
extern Size alex_record_size(uint8 info);
extern const char *alex_identify(uint8 info);

#endif							/* ALEX_RMGR_H */
