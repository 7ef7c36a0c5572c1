/*-------------------------------------------------------------------------
 *
 * codec.c
 *	  What an index's operator class and options say about its keys.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/codec.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "alex/am.h"
#include "catalog/pg_index.h"

/*
 * The functions' lookup data belongs to the relcache entry, which keeps it
 * for as long as the index is open.
 */
void
alex_codec_init(AlexCodec *codec, Relation index)
{
	Form_pg_attribute column = TupleDescAttr(RelationGetDescr(index), 0);
	int16		option = index->rd_indoption[0];

	codec->lane = index_getprocinfo(index, 1, ALEX_LANE_PROC);
	codec->value = NULL;
	if (OidIsValid(index_getprocid(index, 1, ALEX_VALUE_PROC)))
		codec->value = index_getprocinfo(index, 1, ALEX_VALUE_PROC);
	codec->lane_is_value = codec->lane->fn_addr == alex_lane_int8;
	codec->value_is_lane = codec->value != NULL &&
		codec->value->fn_addr == alex_value_int8;
	codec->collation = index->rd_indcollation[0];
	codec->descending = (option & INDOPTION_DESC) != 0;
	codec->nulls_first = (option & INDOPTION_NULLS_FIRST) != 0;
	codec->typlen = column->attlen;
	codec->typbyval = column->attbyval;
}
