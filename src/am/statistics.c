/*-------------------------------------------------------------------------
 *
 * statistics.c
 *	  Statistics that know of the rows which came after ANALYZE.
 *
 * Where rows are appended, conditions on the latest of them lie beyond the
 * histogram's last bound, and the planner would expect next to none.  With a
 * btree index it looks up the column's true least and greatest key; it does not
 * ask other access methods.  So for a column that has an alex index it gets a
 * copy of its statistics here in which the histogram reaches as far as the
 * keys of the index do.  It is never made shorter: entries of the index may be
 * dead.
 *
 * The planner asks for statistics of each column that a condition is about,
 * often many times for one plan.  So a command's first look at the manifest and
 * the memtable holds for all that it plans.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/statistics.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_statistic.h"
#include "miscadmin.h"
#include "nodes/pathnodes.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/selfuncs.h"
#include "utils/syscache.h"

#include "alex/am.h"

/* The part of the histogram's outermost bin that makes no difference. */
#define FRACTION_OF_BIN		64

/* What was found out last, each in the place that the index's OID leads to. */
#define REMEMBERED_PLACES	16

typedef struct RememberedStatistics
{
	Oid			index;
	TimestampTz statement;		/* when it began ... */
	CommandId	command;		/* ... and how far the transaction was */
	ItemPointerData place;		/* of the statistics in the catalog */
	HeapTuple	widened;		/* NULL: they are right as they are */
} RememberedStatistics;

static RememberedStatistics remembered[REMEMBERED_PLACES];

static get_relation_stats_hook_type previous_hook = NULL;

/* What the planner knows of the table. */
static RelOptInfo *
find_table(PlannerInfo *root, const RangeTblEntry *table)
{
	for (int i = 1; i < root->simple_rel_array_size; i++)
	{
		if (root->simple_rte_array[i] == table)
			return root->simple_rel_array[i];
	}
	return NULL;
}

/* An alex index that has all rows of the table and this column as its key. */
static IndexOptInfo *
find_index(const RelOptInfo *table, AttrNumber column)
{
	ListCell   *cell;

	foreach(cell, table->indexlist)
	{
		IndexOptInfo *index = lfirst_node(IndexOptInfo, cell);

		if (index->amcostestimate == alex_cost_estimate &&
			index->indexkeys[0] == column && index->indpred == NIL &&
			!index->hypothetical)
			return index;
	}
	return NULL;
}

/*
 * May the user see all statistics of the column?  Rights are those on the table
 * that the query names, which may be an ancestor.  Where it takes more to find
 * out, core is left to decide what the planner may do with the statistics.
 */
static bool
may_read(PlannerInfo *root, Index relid, AttrNumber column)
{
	RangeTblEntry *table = planner_rt_fetch(relid, root);
	Oid			user = OidIsValid(table->checkAsUser) ?
	table->checkAsUser : GetUserId();
	Index		named = relid;

	if (alex_may_hide_rows(root, relid))
		return false;
	while (root->append_rel_array != NULL &&
		   root->append_rel_array[named] != NULL)
	{
		Index		parent = root->append_rel_array[named]->parent_relid;

		/* a UNION ALL is no table */
		if (planner_rt_fetch(parent, root)->rtekind != RTE_RELATION)
			break;
		named = parent;
	}
	table = planner_rt_fetch(named, root);
	return pg_class_aclcheck(table->relid, user, ACL_SELECT) == ACLCHECK_OK ||
		(named == relid &&
		 pg_attribute_aclcheck(table->relid, column, user,
							   ACL_SELECT) == ACLCHECK_OK);
}

static inline int64
lane_of(const AlexCodec *codec, Datum value)
{
	return alex_codec_load(codec, alex_codec_key(codec, value));
}

/*
 * Is an end of the index so far beyond the histogram's that it matters?  ANALYZE
 * takes samples, and hardly ever meets with the ends themselves.  The distances
 * are never negative, and may be more than a bigint holds.
 */
static inline bool
is_beyond(uint64 distance, uint64 bin)
{
	return distance > bin / FRACTION_OF_BIN;
}

/*
 * Widens the histogram's bounds to the ends of the index.  False if they need
 * no change.
 */
static bool
widen_bounds(Relation index, Datum *bounds, int nbounds)
{
	AlexCodec	codec;
	int64		least;
	int64		greatest;
	int64		first;
	int64		last;
	bool		changed = false;

	alex_codec_init(&codec, index);
	if (codec.value == NULL || !alex_estimate_ends(index, &least, &greatest))
		return false;
	first = lane_of(&codec, bounds[0]);
	last = lane_of(&codec, bounds[nbounds - 1]);
	if (least < first &&
		is_beyond((uint64) first - (uint64) least,
				  (uint64) lane_of(&codec, bounds[1]) - (uint64) first))
	{
		bounds[0] = FunctionCall1(codec.value, Int64GetDatum(least));
		changed = true;
	}
	if (greatest > last &&
		is_beyond((uint64) greatest - (uint64) last,
				  (uint64) last -
				  (uint64) lane_of(&codec, bounds[nbounds - 2])))
	{
		bounds[nbounds - 1] = FunctionCall1(codec.value,
											Int64GetDatum(greatest));
		changed = true;
	}
	return changed;
}

/* A copy of the tuple with these values in place of those of its histogram. */
static HeapTuple
replace_histogram(HeapTuple tuple, const AttStatsSlot *histogram)
{
	Form_pg_statistic form = (Form_pg_statistic) GETSTRUCT(tuple);
	const int16 *kinds = &form->stakind1;
	Datum		values[Natts_pg_statistic] = {0};
	bool		nulls[Natts_pg_statistic] = {0};
	bool		replace[Natts_pg_statistic] = {0};
	int			slot = 0;
	int16		length;
	bool		by_value;
	char		alignment;
	Relation	catalog;
	HeapTuple	copy;

	while (kinds[slot] != STATISTIC_KIND_HISTOGRAM)
		slot++;
	Assert(slot < STATISTIC_NUM_SLOTS);

	get_typlenbyvalalign(histogram->valuetype, &length, &by_value, &alignment);
	slot += Anum_pg_statistic_stavalues1 - 1;
	values[slot] = PointerGetDatum(construct_array(histogram->values,
												   histogram->nvalues,
												   histogram->valuetype,
												   length, by_value,
												   alignment));
	replace[slot] = true;

	catalog = table_open(StatisticRelationId, AccessShareLock);
	copy = heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls,
							 replace);
	table_close(catalog, AccessShareLock);
	pfree(DatumGetPointer(values[slot]));
	return copy;
}

/*
 * Are lanes made by a function of C, as by those of the extension?  Others may
 * raise errors or take long, and a histogram may have values of rows that were
 * gone before the index was made.
 */
static bool
lanes_are_simple(Relation index)
{
	RegProcedure lane = index_getprocid(index, 1, ALEX_LANE_PROC);
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(lane));
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	result = ((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId;
	ReleaseSysCache(tuple);
	return result;
}

/* A copy with a wider histogram, or NULL if it is wide enough. */
static HeapTuple
widen_histogram(HeapTuple tuple, const IndexOptInfo *info)
{
	AttStatsSlot histogram;
	HeapTuple	result = NULL;

	if (!get_attstatsslot(&histogram, tuple, STATISTIC_KIND_HISTOGRAM,
						  InvalidOid, ATTSTATSSLOT_VALUES))
		return NULL;

	/* the order of its values must be that of the keys */
	if (histogram.nvalues > 1 &&
		getBaseType(histogram.valuetype) == info->opcintype[0] &&
		get_op_opfamily_strategy(histogram.staop,
								 info->opfamily[0]) == BTLessStrategyNumber)
	{
		/* the planner has a lock on it already */
		Relation	index = index_open(info->indexoid, NoLock);

		if (lanes_are_simple(index) &&
			widen_bounds(index, histogram.values, histogram.nvalues))
			result = replace_histogram(tuple, &histogram);
		index_close(index, NoLock);
	}
	free_attstatsslot(&histogram);
	return result;
}

/*
 * The same, from memory if this command has asked before.  What is remembered is
 * never handed out itself: whoever has it may ask for others meanwhile.
 */
static HeapTuple
recall_histogram(HeapTuple tuple, const IndexOptInfo *info)
{
	RememberedStatistics *place =
	&remembered[info->indexoid % REMEMBERED_PLACES];
	TimestampTz statement = GetCurrentStatementStartTimestamp();
	CommandId	command = GetCurrentCommandId(false);
	HeapTuple	widened;
	MemoryContext old_context;

	if (place->index == info->indexoid && place->statement == statement &&
		place->command == command &&
		ItemPointerEquals(&place->place, &tuple->t_self))
		return place->widened == NULL ? NULL : heap_copytuple(place->widened);

	place->index = InvalidOid;
	if (place->widened != NULL)
		heap_freetuple(place->widened);
	place->widened = NULL;

	widened = widen_histogram(tuple, info);
	if (widened != NULL)
	{
		old_context = MemoryContextSwitchTo(TopMemoryContext);
		place->widened = heap_copytuple(widened);
		MemoryContextSwitchTo(old_context);
	}
	place->statement = statement;
	place->command = command;
	place->place = tuple->t_self;
	place->index = info->indexoid;
	return widened;
}

/*
 * get_relation_stats_hook: false leaves the column to core.
 */
static bool
supply_statistics(PlannerInfo *root, RangeTblEntry *table, AttrNumber column,
				  VariableStatData *variable)
{
	RelOptInfo *relation;
	IndexOptInfo *info;
	HeapTuple	tuple;
	HeapTuple	widened;

	if (previous_hook != NULL && previous_hook(root, table, column, variable))
		return true;

	/* as core does, which has no indexes of a parent and its children */
	if (table->rtekind != RTE_RELATION || table->inh ||
		(relation = find_table(root, table)) == NULL ||
		(info = find_index(relation, column)) == NULL ||
		!may_read(root, relation->relid, column))
		return false;

	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(table->relid),
							Int16GetDatum(column), BoolGetDatum(false));
	if (!HeapTupleIsValid(tuple))
		return false;
	widened = recall_histogram(tuple, info);
	ReleaseSysCache(tuple);
	if (widened == NULL)
		return false;
	variable->statsTuple = widened;
	variable->freefunc = heap_freetuple;
	variable->acl_ok = true;
	return true;
}

void
alex_statistics_init(void)
{
	previous_hook = get_relation_stats_hook;
	get_relation_stats_hook = supply_statistics;
}
