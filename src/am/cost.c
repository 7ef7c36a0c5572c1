/*-------------------------------------------------------------------------
 *
 * cost.c
 *	  What a scan costs, for the planner.
 *
 * Pages, tuples and selectivity are estimated as for every access method.
 * What is ours is the price of finding where to start.  A btree descends
 * through the buffer manager and compares its way through each page; we
 * compute a position and touch a few cache lines, for each run that may hold
 * the key, and the memtable.
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
#include "access/stratnum.h"
#include "alex/am.h"
#include "catalog/pg_statistic.h"
#include "nodes/pathnodes.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
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
 * All clauses of an index of one column are boundary conditions, so that the
 * number of entries visited is what genericcostestimate() makes of their
 * selectivity.
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

	genericcostestimate(root, path, loop_count, &costs);

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
	*pages = costs.numIndexPages;
}
