/*-------------------------------------------------------------------------
 *
 * estimate.c
 *	  How many entries a scan would read, for the planner.
 *
 * A run's model tells where a key would be, and its fences how many entries
 * each leaf page has.  So the number of entries between two keys is known
 * nearly exactly, at the price of a probe for each end.  The conditions become
 * intervals as they do for a scan, and what is counted are all entries in
 * them, whoever may see their rows: that is what a scan has to read.
 *
 * Also, where the keys begin and end, for the statistics (statistics.c).
 *
 * Copyright (c) 2026, alexam contributors
 *
 * src/am/estimate.c
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relscan.h"
#include "utils/snapmgr.h"

#include "alex/scan.h"

/* Of more intervals than this only so many, spread over them, are looked at. */
#define COUNTED_INTERVALS		32

/* Leaves out what VACUUM has removed, which is spread evenly, for all we know. */
static double
live_entries(AlexScanRun *run, double entries)
{
	const AlexRun *listed = run->run;

	return listed->entries == 0 ? 0 :
		entries * (double) (listed->entries - listed->dead) /
		(double) listed->entries;
}

/* The entries of a run in the current interval. */
static double
count_run(AlexScan *state, AlexScanRun *run)
{
	const AlexRun *listed = run->run;
	AlexEntry	low = {state->low, ALEX_TID_BEFORE_ALL};
	AlexEntry	high = {state->high, ALEX_TID_AFTER_ALL};

	if (listed->part != state->part || listed->max.key < low.key ||
		listed->min.key > high.key)
		return 0;
	if (low.key <= listed->min.key && high.key >= listed->max.key)
		return live_entries(run, (double) listed->entries);

	alex_scan_run_open(state, run);
	if (low.key == high.key && !alex_run_may_contain(&run->reader, low.key))
		return 0;
	return live_entries(run, alex_run_count(&run->reader, low, high));
}

/* Those of a generation of the log. */
static double
count_generation(AlexScan *state, const AlexLogChain *chain, bool *known)
{
	AlexEntry	low = {state->low, ALEX_TID_BEFORE_ALL};
	AlexEntry	high = {state->high, ALEX_TID_AFTER_ALL};
	double		entries;

	if (chain->generation == 0 || chain->npages == 0 ||
		state->view.memtable_empty)
		return 0;
	if (!alex_view_count(state->local, state->index, &state->view,
						 chain->generation, state->part, low, high, &entries))
	{
		*known = false;
		return 0;
	}
	return entries;
}

static double
count_interval(AlexScan *state, int interval, bool *known)
{
	const AlexManifest *manifest = state->view.manifest;
	double		entries = 0;

	alex_scan_load_interval(state, interval);
	for (int i = 0; i < state->nruns; i++)
		entries += count_run(state, &state->runs[i]);
	entries += count_generation(state, &manifest->active, known);
	entries += count_generation(state, &manifest->frozen, known);
	return entries;
}

/*
 * Nothing is loaded for this.  The entries of a log whose memtable is not
 * there cannot be counted; they are left to the statistics if they matter.
 */
bool
alex_estimate_entries(Relation index, ScanKey keys, int nkeys, double *entries)
{
	IndexScanDesc scan;
	AlexScan   *state;
	int			nintervals;
	int			ncounted;
	bool		known = true;
	double		in_runs = 0;
	double		in_log;

	/* a snapshot, beside the lock, keeps the pages of runs from reuse */
	if (!ActiveSnapshotSet())
		return false;

	scan = alex_begin_scan(index, nkeys, 0);
	state = scan->opaque;
	memcpy(scan->keyData, keys, nkeys * sizeof(ScanKeyData));
	alex_scan_keys_prepare(state);
	alex_scan_glance(state);

	*entries = 0;
	nintervals = alex_scan_intervals(state);
	ncounted = Min(nintervals, COUNTED_INTERVALS);
	for (int i = 0; i < ncounted; i++)
		*entries += count_interval(state,
								   (int) ((int64) nintervals * i / ncounted),
								   &known);
	if (ncounted > 0)
		*entries *= (double) nintervals / ncounted;

	for (int i = 0; i < state->nruns; i++)
		in_runs += (double) state->runs[i].run->entries;
	in_log = ((double) state->view.manifest->active.npages +
			  state->view.manifest->frozen.npages) * ALEX_LOG_PAGE_ENTRIES;
	alex_end_scan(scan);

	if (known)
		return true;
	/* assume that the log's keys are spread like those of the runs */
	if (in_runs < in_log)
		return false;
	*entries *= 1 + in_log / in_runs;
	return true;
}

/* Widens the ends by those of the memtable's part of a generation. */
static void
widen_by_generation(AlexScan *state, const AlexLogChain *chain, int64 *least,
					int64 *greatest)
{
	AlexEntry	first;
	AlexEntry	last;
	int64		lanes[2];

	if (chain->generation == 0 || chain->npages == 0 ||
		!alex_view_ends(state->local, state->index, &state->view,
						chain->generation, ALEX_PART_VALUES, &first, &last))
		return;
	lanes[0] = alex_codec_load(&state->codec, first.key);
	lanes[1] = alex_codec_load(&state->codec, last.key);
	*least = Min(*least, Min(lanes[0], lanes[1]));
	*greatest = Max(*greatest, Max(lanes[0], lanes[1]));
}

/*
 * Nothing is known of a log that is not in memory, and what a transaction has
 * collected but not written is not looked at.  A run of which entries are dead
 * may begin with these, where what is old is deleted, and then its least key
 * says nothing.  Its greatest one is believed.
 */
bool
alex_estimate_ends(Relation index, int64 *least, int64 *greatest)
{
	IndexScanDesc scan;
	AlexScan   *state;

	/* see alex_estimate_entries */
	if (!ActiveSnapshotSet())
		return false;

	*least = PG_INT64_MAX;
	*greatest = PG_INT64_MIN;
	scan = alex_begin_scan(index, 0, 0);
	state = scan->opaque;
	alex_scan_glance(state);
	for (int i = 0; i < state->nruns; i++)
	{
		const AlexRun *run = state->runs[i].run;
		int64		lanes[2];

		if (run->part != ALEX_PART_VALUES)
			continue;
		lanes[0] = alex_codec_load(&state->codec, run->min.key);
		lanes[1] = alex_codec_load(&state->codec, run->max.key);
		*greatest = Max(*greatest, Max(lanes[0], lanes[1]));
		if (run->dead == 0)
			*least = Min(*least, Min(lanes[0], lanes[1]));
	}
	widen_by_generation(state, &state->view.manifest->active, least, greatest);
	widen_by_generation(state, &state->view.manifest->frozen, least, greatest);
	alex_end_scan(scan);
	return true;
}
