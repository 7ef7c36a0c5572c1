/*-------------------------------------------------------------------------
 *
 * cost.c
 *	  What a scan costs, for the planner.
 *
 * How many entries a scan would read is counted in the index itself, where
 * its conditions compare the key with constants (estimate.c).  Else it is
 * estimated from the statistics, as for every access method.
 *
 * Ours is also the price of finding where to start.  A btree descends through
 * the buffer manager and compares its way through each page; we compute a
 * position and touch a few cache lines, for each run that may hold the key,
 * and the memtable.
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/cost.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "alex/am.h"
#include "catalog/pg_statistic.h"
#include "nodes/pathnodes.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"
#include "utils/syscache.h"

/*
 * The price of a cache line that a probe has to wait for, in units of
 * cpu_operator_cost.  nbtree counts 50 for each page of its descent and one
 * for each comparison, about 175 for a table of ten million rows.  We measure
 * a sixth of nbtree's time for such a probe, with its five to six lines.
 */
#define LINE_COST				6.0

/* Lines of a leaf page that a probe touches: header, model, key, TID. */
#define LEAF_LINES				3.0

/* Lines of a node of the memtable's tree, and its fanout. */
#define MEMTABLE_NODE_LINES		3.0
#define MEMTABLE_FANOUT			256.0

/*
 * Core takes no more from the number of index pages than how many workers a
 * parallel scan should have, by what it takes to read btree's pages.  It is
 * not pages that take the time, but entries, of which ours have many more; so
 * it is told how many pages of this many entries it would be.
 */
#define ENTRIES_PER_PAGE		366.0

/* What the clauses ask for. */
typedef struct ProbeKind
{
	bool		equality;		/* one key at a time: Bloom filters help */
	bool		nulls;			/* IS NULL */
} ProbeKind;

/* What stands between a probe and its first entry. */
typedef struct ProbeCost
{
	double		lines;			/* cache lines touched, on average */
	double		sources;		/* runs and memtables that overlap */
} ProbeCost;

static Oid
clause_operator(const Expr *clause)
{
	if (IsA(clause, OpExpr))
		return ((const OpExpr *) clause)->opno;
	if (IsA(clause, ScalarArrayOpExpr))
		return ((const ScalarArrayOpExpr *) clause)->opno;
	return InvalidOid;
}

static ProbeKind
classify_probe(const IndexPath *path)
{
	ProbeKind	kind = {false, false};
	ListCell   *clause_cell;

	foreach(clause_cell, path->indexclauses)
	{
		IndexClause *index_clause = lfirst_node(IndexClause, clause_cell);
		ListCell   *qual_cell;

		foreach(qual_cell, index_clause->indexquals)
		{
			Expr	   *clause = lfirst_node(RestrictInfo, qual_cell)->clause;
			Oid			operator = clause_operator(clause);

			if (OidIsValid(operator))
			{
				if (get_op_opfamily_strategy(operator,
											 path->indexinfo->opfamily[0]) ==
					BTEqualStrategyNumber)
					kind.equality = true;
			}
			else if (IsA(clause, NullTest) &&
					 ((NullTest *) clause)->nulltesttype == IS_NULL)
				kind.nulls = true;
		}
	}

	return kind;
}

/* Is this a run that such a scan reads? */
static bool
run_is_read(const AlexRun *run, ProbeKind kind)
{
	return (run->flags & ALEX_RUN_RETIRED) == 0 &&
		run->part == (kind.nulls ? ALEX_PART_NULLS : ALEX_PART_VALUES);
}

/*
 * A probe looks into the runs whose key range covers it.  Assume that probes
 * spread evenly over all keys: then a run is met as often as its share of the
 * range says, so that many runs side by side cost no more than one.
 *
 * A Bloom filter turns away all probes for one key but those that find it.
 */
static void
add_runs(const AlexManifest *manifest, ProbeKind kind, ProbeCost *cost)
{
	uint64		min = PG_UINT64_MAX;
	uint64		max = 0;
	double		most_lines = 0;
	bool		filtered = false;

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];

		if (run_is_read(run, kind))
		{
			min = Min(min, run->min.key);
			max = Max(max, run->max.key);
		}
	}

	for (int i = 0; i < manifest->nruns; i++)
	{
		const AlexRun *run = &manifest->runs[i];
		double		lines = run->depth + LEAF_LINES;
		double		share;

		if (!run_is_read(run, kind))
			continue;

		share = ((double) (run->max.key - run->min.key) + 1.0) /
			((double) (max - min) + 1.0);
		cost->sources += share;
		most_lines = Max(most_lines, lines);
		if (kind.equality && run->bloom_pages > 0)
		{
			filtered = true;
			lines = 1.0;
		}
		cost->lines += share * lines;
	}

	if (filtered)
		cost->lines += most_lines;
}

/*
 * The log's entries are in the memtable, or else few.  A frozen generation
 * has a tree of its own.
 */
static void
add_memtable(const AlexLogChain *chain, ProbeCost *cost)
{
	double		nentries = (double) chain->npages * ALEX_LOG_PAGE_ENTRIES;
	double		height;

	if (chain->npages == 0)
		return;

	height = Max(ceil(log(nentries) / log(MEMTABLE_FANOUT)), 1.0);
	cost->lines += height * MEMTABLE_NODE_LINES;
	cost->sources += 1.0;
}

/*
 * The manifest tells how many places a probe has to look into.  Reading it
 * costs a shared buffer hit, as for nbtree, whose metapage the planner reads
 * to learn the height of the tree.
 */
static ProbeCost
estimate_probe(const IndexPath *path, ProbeKind kind)
{
	const IndexOptInfo *info = path->indexinfo;
	ProbeCost	cost = {0.0, 0.0};

	if (info->hypothetical)
	{
		cost.lines = LEAF_LINES + 1.0;
		cost.sources = 1.0;
	}
	else
	{
		/* the planner has a lock on it already */
		Relation	index = index_open(info->indexoid, NoLock);
		AlexManifest *manifest = alex_manifest_read(index);

		add_runs(manifest, kind, &cost);
		add_memtable(&manifest->active, &cost);
		add_memtable(&manifest->frozen, &cost);
		pfree(manifest);
		index_close(index, NoLock);
	}

	return cost;
}

/* Looks up a column's statistics, through a hook if there is one. */
static void
find_statistics(PlannerInfo *root, const IndexOptInfo *info,
				VariableStatData *statistics)
{
	AttrNumber	column = info->indexkeys[0];
	bool		hooked;
	Oid			relid;
	bool		inherited;

	memset(statistics, 0, sizeof(VariableStatData));

	if (column != 0)
	{
		RangeTblEntry *entry = planner_rt_fetch(info->rel->relid, root);

		Assert(entry->rtekind == RTE_RELATION);
		relid = entry->relid;
		inherited = entry->inh;
		hooked = get_relation_stats_hook != NULL &&
			get_relation_stats_hook(root, entry, column, statistics);
	}
	else
	{
		/* an expression: ANALYZE keeps statistics for the index's column */
		column = 1;
		relid = info->indexoid;
		inherited = false;
		hooked = get_index_stats_hook != NULL &&
			get_index_stats_hook(root, relid, column, statistics);
	}

	if (!hooked)
	{
		statistics->statsTuple =
			SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relid),
							Int16GetDatum(column), BoolGetDatum(inherited));
		statistics->freefunc = ReleaseSysCache;
	}
	else if (HeapTupleIsValid(statistics->statsTuple) &&
			 statistics->freefunc == NULL)
		elog(ERROR, "no function provided to release variable stats with");
}

/*
 * How well the heap's order follows the index's, from -1 to 1; 0 if nobody
 * knows.
 */
static double
estimate_correlation(PlannerInfo *root, const IndexOptInfo *info)
{
	VariableStatData statistics;
	double		correlation = 0.0;

	find_statistics(root, info, &statistics);

	if (HeapTupleIsValid(statistics.statsTuple))
	{
		Oid			less = get_opfamily_member(info->opfamily[0],
											   info->opcintype[0],
											   info->opcintype[0],
											   BTLessStrategyNumber);
		AttStatsSlot slot;

		if (OidIsValid(less) &&
			get_attstatsslot(&slot, statistics.statsTuple,
							 STATISTIC_KIND_CORRELATION, less,
							 ATTSTATSSLOT_NUMBERS))
		{
			Assert(slot.nnumbers == 1);
			correlation = slot.numbers[0];
			if (info->reverse_sort[0])
				correlation = -correlation;
			free_attstatsslot(&slot);
		}
	}

	ReleaseVariableStats(statistics);

	return correlation;
}

/*
 * Makes a scan key of a clause, if its argument can be known now: what is a
 * constant, or would be one if the statement were executed at once.
 */
static bool
clause_scan_key(PlannerInfo *root, const IndexOptInfo *info, Expr *clause,
				ScanKey key)
{
	Oid			operator = clause_operator(clause);
	Node	   *argument;
	Const	   *constant;
	int			strategy;
	Oid			left_type;

	memset(key, 0, sizeof(ScanKeyData));
	key->sk_attno = 1;
	if (IsA(clause, NullTest))
	{
		key->sk_flags = SK_ISNULL |
			(((NullTest *) clause)->nulltesttype == IS_NULL ?
			 SK_SEARCHNULL : SK_SEARCHNOTNULL);
		return true;
	}
	if (!OidIsValid(operator))
		return false;

	if (IsA(clause, ScalarArrayOpExpr))
	{
		key->sk_flags = SK_SEARCHARRAY;
		key->sk_collation = ((ScalarArrayOpExpr *) clause)->inputcollid;
		argument = lsecond(((ScalarArrayOpExpr *) clause)->args);
	}
	else
	{
		key->sk_collation = ((OpExpr *) clause)->inputcollid;
		argument = get_rightop(clause);
	}
	if (!IsA(argument, Const))
		argument = estimate_expression_value(root, argument);
	if (!IsA(argument, Const))
		return false;

	constant = (Const *) argument;
	if (constant->constisnull)
		key->sk_flags |= SK_ISNULL;
	key->sk_argument = constant->constvalue;
	get_op_opfamily_properties(operator, info->opfamily[0], false, &strategy,
							   &left_type, &key->sk_subtype);
	key->sk_strategy = strategy;
	return true;
}

/*
 * Row security may belong to an ancestor of the table, if it is that which the
 * query names, and a security barrier to a view whose query is planned inside
 * of another one.
 */
bool
alex_may_hide_rows(struct PlannerInfo *root, unsigned int relid)
{
	while (relid != 0)
	{
		RangeTblEntry *entry = planner_rt_fetch(relid, root);
		AppendRelInfo *parent = root->append_rel_array == NULL ? NULL :
		root->append_rel_array[relid];

		if (entry->securityQuals != NIL || entry->security_barrier)
			return true;
		relid = parent == NULL ? 0 : parent->parent_relid;
	}

	while ((root = root->parent_root) != NULL)
	{
		ListCell   *cell;

		foreach(cell, root->parse->rtable)
		{
			if (lfirst_node(RangeTblEntry, cell)->security_barrier)
				return true;
		}
	}
	return false;
}

/*
 * Counts the entries that all scans of the path read together, one for each
 * element of its arrays; *nscans is set to what core takes for their number.
 * False when they cannot be counted.
 */
static bool
count_entries(PlannerInfo *root, const IndexPath *path, double *entries,
			  double *nscans)
{
	const IndexOptInfo *info = path->indexinfo;
	List	   *quals = get_quals_from_indexclauses(path->indexclauses);
	ScanKey		keys;
	int			nkeys = 0;
	ListCell   *cell;
	Relation	index;
	bool		counted;

	if (info->hypothetical || !alex_is_preloaded())
		return false;

	/* EXPLAIN must not count rows for those who may not see them */
	if (alex_may_hide_rows(root, info->rel->relid))
		return false;

	*nscans = 1;
	keys = palloc(list_length(quals) * sizeof(ScanKeyData));
	foreach(cell, quals)
	{
		Expr	   *clause = lfirst_node(RestrictInfo, cell)->clause;

		if (!clause_scan_key(root, info, clause, &keys[nkeys++]))
			return false;
		if (IsA(clause, ScalarArrayOpExpr))
		{
			Node	   *array = lsecond(((ScalarArrayOpExpr *) clause)->args);

			*nscans *= Max(estimate_array_length(array), 1);
		}
	}

	/* the planner has a lock on it already */
	index = index_open(info->indexoid, NoLock);
	counted = alex_estimate_entries(index, keys, nkeys, entries);
	index_close(index, NoLock);
	pfree(keys);
	return counted;
}

/*
 * Core multiplies what it gets for one element of an array by the number of
 * elements.  Its own estimate of that number is what the statistics say, in
 * whose place we put the entries that were counted.
 */
void
alex_cost_estimate(struct PlannerInfo *root, struct IndexPath *path,
				   double loop_count, Cost *startup_cost, Cost *total_cost,
				   Selectivity *selectivity, double *correlation,
				   double *pages)
{
	GenericCosts costs = {0};
	ProbeKind	kind = classify_probe(path);
	ProbeCost	probe = estimate_probe(path, kind);
	Cost		probe_cost = probe.lines * LINE_COST * cpu_operator_cost;
	double		entries;
	double		nscans;
	bool		counted = count_entries(root, path, &entries, &nscans);

	if (counted)
		costs.numIndexTuples = Max(entries / nscans, 1.0);
	genericcostestimate(root, path, loop_count, &costs);
	if (counted && path->indexinfo->rel->tuples > 0)
		costs.indexSelectivity = Min(entries / path->indexinfo->rel->tuples, 1.0);

	/*
	 * A run's leaf pages are written in the order of their keys, and so a
	 * range is read in the file's order from where it begins in each source.
	 */
	if (costs.num_sa_scans == 1 && loop_count == 1 &&
		costs.numIndexPages > ceil(probe.sources))
	{
		double		sequential_cost;

		get_tablespace_page_costs(path->indexinfo->reltablespace, NULL,
								  &sequential_cost);
		if (sequential_cost < costs.spc_random_page_cost)
			costs.indexTotalCost -=
				(costs.numIndexPages - ceil(probe.sources)) *
				(costs.spc_random_page_cost - sequential_cost);
	}

	/* each element of an array is looked for; the first before any result */
	costs.indexStartupCost += probe_cost;
	costs.indexTotalCost += costs.num_sa_scans * probe_cost;

	/* entries from several sources have to be merged */
	if (!kind.equality && probe.sources > 1.0)
		costs.indexTotalCost += costs.num_sa_scans * costs.numIndexTuples *
			log2(probe.sources) * cpu_operator_cost;

	*startup_cost = costs.indexStartupCost;
	*total_cost = costs.indexTotalCost;
	*selectivity = costs.indexSelectivity;
	*correlation = estimate_correlation(root, path->indexinfo);
	*pages = Max(costs.numIndexPages,
				 ceil(costs.num_sa_scans * costs.numIndexTuples /
					  ENTRIES_PER_PAGE));
}
