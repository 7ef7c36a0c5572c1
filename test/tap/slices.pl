# slices.pl
#	  Runs are merged slice by slice: what the index answers between the slices,
#	  what is left when one fails, and that the file does not need room for a
#	  second copy.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = alex_node('slices', <<'END');
alexam.compaction_cost_delay = 0
alexam.direct_seal_threshold = 1000
wal_consistency_checking = 'alexam'
END
$node->start;
create_test_table($node);

# Wide keys at random, a few of them equal.
$node->safe_psql('postgres', <<'END');
CREATE OR REPLACE FUNCTION fill(first int, last int) RETURNS void
AS $$INSERT INTO t SELECT i, key, key
	FROM generate_series(first, last) AS i,
		LATERAL (SELECT hashint8extended(i / 2 * 2, 1) AS key) AS keys$$
LANGUAGE sql;
-- so that no update is HOT
CREATE INDEX t_id ON t (id);
END

my $workers = q{FROM pg_stat_activity WHERE backend_type = 'alexam compaction worker'};
my $next_id = 1;

sub stat_of
{
	my ($name) = @_;

	return $node->safe_psql('postgres', "SELECT $name FROM alex_stats('t_k')");
}

sub size
{
	return $node->safe_psql('postgres', q{SELECT pg_relation_size('t_k') / 8192});
}

# Pages of an index built anew, which must not disturb the one under test.
sub fresh_size
{
	return $node->safe_psql('postgres', <<'END');
BEGIN;
CREATE INDEX fresh ON t USING alex (k);
SELECT pg_relation_size('fresh') / 8192;
ROLLBACK;
END
}

# So many runs of like size that lie over each other.
sub add_runs
{
	my ($count, $entries) = @_;

	foreach (1 .. $count)
	{
		my $last = $next_id + ($entries // 20000) - 1;

		$node->safe_psql('postgres', "SELECT fill($next_id, $last)");
		$next_id = $last + 1;
	}
	return;
}

# Nothing but the rows of the last add_runs(), in an index with a file of its own.
sub start_over
{
	my ($count, $entries) = @_;

	$node->safe_psql('postgres', 'TRUNCATE t');
	add_runs($count, $entries);
	return;
}

# VACUUM merges slices until too much is retired.  What it retires can go when
# another transaction id has been taken.
sub vacuum
{
	$node->safe_psql('postgres', 'SELECT txid_current()');
	$node->safe_psql('postgres', 'VACUUM t');
	return;
}

sub check_all
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	compare_scans($node, 't', $name);
	check_index($node, 't_k', $name);
	is((page_counts($node, 't_k'))[2], 0, "$name: no orphans");
	return;
}

# Merges what has begun; dies if that does not come to an end.
sub finish
{
	foreach (1 .. 50)
	{
		vacuum();
		return if stat_of('runs') == 1 && stat_of('retired_runs') == 0;
	}
	return;
}

#
# From slice to slice.
#
start_over(RUNS_TO_MERGE, 10000);
my $most = my $before = size();
my $steps = 0;
my $in_between = 0;
while (stat_of('runs') > 1 && $steps++ < 40)
{
	# the rows change meanwhile
	my $which = $steps % 40;

	vacuum();
	$in_between++ if stat_of('runs') > 1;
	check_all("after slices, $steps") if $steps <= 3;
	$node->safe_psql('postgres', "DELETE FROM t WHERE id % 200 = $which; UPDATE t SET id = -id WHERE id % 211 = $which")
	  if $steps <= 10;
	$most = size() if size() > $most;
}
is(stat_of('runs'), 1, "runs are merged in the end, by $steps VACUUMs");
cmp_ok($in_between, '>=', 2, 'not by one');
cmp_ok($most, '<', 1.6 * $before, "the file has no room for a second copy (of $before pages)");
is(stat_of('bloom_pages'), 0, 'the largest run has no filter');
finish();
check_all('merged');
is($node->safe_psql('postgres', q{SELECT alex_duplicates_dropped()}), 0, 'no entry is there twice')
  if $node->safe_psql('postgres', q{SELECT count(*) FROM pg_proc WHERE proname = 'alex_duplicates_dropped'}) == 1;

# The same with smaller runs, beside a larger one: there is a filter in the end.
add_runs(RUNS_TO_MERGE, 5000);
cmp_ok(stat_of('bloom_pages'), '>', 0, 'small runs have filters');
vacuum();
my $filters = q{SELECT count(*) FILTER (WHERE bloom_pages > 0), count(*) FROM alex_runs('t_k') WHERE state = 'live'};
like($node->safe_psql('postgres', $filters), qr/^0\|([3-9]|10)$/, 'not while they are merged');
vacuum() foreach 1 .. 10;
is($node->safe_psql('postgres', $filters), '1|2', 'but when they have been merged');
check_all('beside a larger run');

#
# A dead entry begins a leaf page; the row's TID has come to another row with the
# same key.  The page must not be taken over behind the live entry.  Ascending
# entries are 32,767 on a page, and the last rows of the table come last in a
# page of it, so that their line pointers are used again in the same order.
#
my $first = 32767 * 9 + 1;
$node->safe_psql('postgres', "TRUNCATE t");
$node->safe_psql('postgres', <<"END");
INSERT INTO t
	SELECT i, i * 10, i * 10 FROM generate_series(1, $first + 1000) AS i
		WHERE i NOT BETWEEN $first - 10 AND $first
	UNION ALL SELECT 0, 100000000, 100000000
	UNION ALL SELECT $first, $first * 10, $first * 10
	UNION ALL SELECT i, i * 10, i * 10 FROM generate_series($first - 10, $first - 1) AS i;
END
my $place = $node->safe_psql('postgres', "SELECT ctid FROM t WHERE id = $first");
$node->safe_psql('postgres', <<"END");
DELETE FROM t WHERE id BETWEEN $first - 10 AND $first;
VACUUM (INDEX_CLEANUP ON) t;
INSERT INTO t
	SELECT $first, $first * 10, $first * 10
	UNION ALL SELECT 0, $first * 10 - 5, $first * 10 - 5
	UNION ALL SELECT i, 10000000 + i * 10, 10000000 + i * 10 FROM generate_series(1, 110000) AS i;
END
$node->safe_psql('postgres',
	"INSERT INTO t SELECT i, $_ * 10000000 + i * 10, $_ * 10000000 + i * 10 FROM generate_series(1, 110000) AS i")
  foreach 2 .. RUNS_TO_MERGE - 1;
is($node->safe_psql('postgres', "SELECT ctid FROM t WHERE id = $first"), $place,
	'a row has the key and the TID of one that is dead');
is(stat_of('runs'), RUNS_TO_MERGE, 'in another run');
finish();
check_all('a dead entry and a live one that are equal');

#
# A scan from before the slices goes on, and merging pauses for it.
#
start_over(RUNS_TO_MERGE, 10000);
my $reader = $node->background_psql('postgres');
$reader->query_safe(<<'END');
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;
BEGIN ISOLATION LEVEL REPEATABLE READ;
DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k;
CREATE TEMP TABLE seen (n serial, k bigint);
END
my $number = $reader->query_safe('SELECT count(*) FROM t');
$before = size();
my $fetch = q{DO $$
DECLARE c refcursor := 'c'; key bigint;
BEGIN
	FOR i IN 1 .. 5000 LOOP
		FETCH c INTO key;
		EXIT WHEN NOT FOUND;
		INSERT INTO seen (k) VALUES (key);
	END LOOP;
END$$};
foreach (1 .. 6)
{
	$reader->query_safe($fetch);
	vacuum();
}
cmp_ok(size(), '<', 1.6 * $before, 'a long snapshot: merging pauses before the file has doubled');
cmp_ok(stat_of('runs'), '>', 1, 'a long snapshot: merging is not done');
check_index($node, 't_k', 'a long snapshot');
$reader->query_safe($fetch) foreach 1 .. 12;
is( $reader->query_safe('SELECT count(*), count(*) FILTER (WHERE k < before) FROM (SELECT k, lag(k) OVER (ORDER BY n) AS before FROM seen) AS s'),
	"$number|0", 'a long snapshot: the scan finds every row, in order');
$reader->query_safe('ROLLBACK');
$reader->quit;
finish();
is(stat_of('runs'), 1, 'a long snapshot: merging goes on after it');
check_all('a long snapshot');

#
# Errors and crashes at each step (hazard H11).
#
foreach my $failpoint ('run-before-model', 'run-before-flush', 'compact-before-rest',
	'compact-before-install', 'compact-before-safexid', 'compact-after-install',
	'remove-before-free')
{
	foreach my $crash ('', '!')
	{
		my $name = $crash ? "crash at $failpoint" : "error at $failpoint";

		start_over(RUNS_TO_MERGE, 8000);
		vacuum();
		$node->safe_psql('postgres', 'SELECT txid_current(); DELETE FROM t WHERE id % 100 = 7');
		my $rows = $node->safe_psql('postgres', 'SELECT count(*) FROM t');
		my ($status, $output, $errors) = $node->psql('postgres',
			"SET alexam.failpoint = '$failpoint$crash';\nVACUUM t");
		if ($crash)
		{
			wait_for_crash($node);
			$node->start;
		}
		else
		{
			like($errors, qr/failpoint "$failpoint" reached/, $name);
		}
		is(compare_scans($node, 't', $name), $rows, "$name: all rows are there");
		finish();
		is(stat_of('runs'), 1, "$name: merging goes on");
		check_index($node, 't_k', "$name, and merging goes on");
		is((page_counts($node, 't_k'))[2], 0, "$name: no orphans");
	}
}

#
# Workers.  One that fails between two runs frees the pages of all of them.
#
sub at_rest
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), "$name: workers go");
}

start_over(RUNS_TO_MERGE - 1, 10000);
set_server($node, 'alexam.failpoint', q{'compact-before-install'});
my $offset = -s $node->logfile;
set_server($node, 'alexam.background_compaction', q{'on'});
add_runs(1, 10000);
ok($node->wait_for_log(qr/failpoint "compact-before-install" reached/, $offset), 'a worker fails');
set_server($node, 'alexam.background_compaction', q{'off'});
at_rest('after a failure');
is((page_counts($node, 't_k'))[2], 0, 'a worker that fails frees what it wrote');
set_server($node, 'alexam.failpoint', q{''});

# It does not need transactions of others to get rid of what is retired.
set_server($node, 'alexam.background_compaction', q{'on'});
start_over(RUNS_TO_MERGE, 10000);
ok($node->poll_query_until('postgres', q{SELECT runs = 1 AND retired_runs = 0 FROM alex_stats('t_k')}),
	'in a quiet server a worker gets to the end');
check_all('merged by a worker');

# Runs made within a transaction replace rows that are dead when it has ended, and
# not before: then it asks again.
start_over(3);
$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
my $writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN; UPDATE t SET id = -id;
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SELECT count(*) FROM t WHERE k < 0});
usleep(1_000_000);
$node->poll_query_until('postgres', "SELECT count(*) = 0 $workers AND state = 'active'")
  or die 'a worker does not come to an end';
cmp_ok(stat_of('runs'), '>', 1, 'within the transaction nothing can be merged away');
$writer->query_safe('COMMIT');
$writer->quit;
ok($node->poll_query_until('postgres', q{SELECT runs = 1 AND retired_runs = 0 FROM alex_stats('t_k')}),
	'after its commit the old run goes');

#
# The size of the file against that of a fresh index.  Random keys throughout.
# On a busy machine workers may come late; they are waited for, also those that
# have been asked for and are not there yet.
#
sub wait_idle
{
	foreach my $look (1 .. 4)
	{
		$node->poll_query_until('postgres', "SELECT count(*) = 0 $workers AND state = 'active'")
		  or die 'a worker does not come to an end';
		usleep(50_000);
	}
	return;
}

start_over(6);
$node->safe_psql('postgres', q{REINDEX INDEX t_k; VACUUM t});
my $fresh = fresh_size();
$most = 0;
foreach my $round (1 .. 4)
{
	foreach my $part (0 .. 19)
	{
		$node->safe_psql('postgres', "UPDATE t SET id = -id WHERE id % 20 IN ($part, -$part)");
		wait_idle();
		$most = size() if size() > $most;
	}
}
cmp_ok($most, '<=', 2.2 * $fresh, "updates without VACUUM: $most pages, a fresh index $fresh");
check_all('updates without VACUUM');

start_over(3);
$node->safe_psql('postgres', 'REINDEX INDEX t_k; VACUUM t');
$fresh = fresh_size();
$most = 0;
foreach my $round (1 .. 8)
{
	$node->safe_psql('postgres', 'UPDATE t SET id = -id');
	wait_idle();
	$most = size() if size() > $most;
}
cmp_ok($most, '<=', 3.5 * $fresh,
	"updates of all rows in a loop: $most pages, a fresh index $fresh");
check_all('updates of all rows in a loop');

# A run most of which is dead is rewritten in slices, too, and what of it has
# been looked at is not looked at again.
start_over(4);
$node->safe_psql('postgres', 'REINDEX INDEX t_k; VACUUM t');
set_server($node, 'alexam.log_compaction_min_duration', q{'0'});
my $log_position = -s $node->logfile;
$node->safe_psql('postgres', 'UPDATE t SET id = -id WHERE id % 7 <> 0');
$node->poll_query_until('postgres', q{SELECT entries = 80000 AND retired_runs = 0 FROM alex_stats('t_k')})
  or die 'dead entries stay';
wait_idle();
set_server($node, 'alexam.log_compaction_min_duration', q{'-1'});
my @merges = slurp_file($node->logfile, $log_position) =~ /"public\.t_k": (.*?), \d+ entries/g;
is("$merges[0], $merges[1]", '1 runs into 2, 2 runs into 1', 'a run most of which is dead goes in two slices');
check_all('a run most of which is dead');

# The run with the old versions may have the higher number: if it was rewritten
# after the new ones had come.
start_over(4);
$node->safe_psql('postgres', 'REINDEX INDEX t_k; VACUUM t; DELETE FROM t WHERE id % 5 = 0');
$writer = $node->background_psql('postgres');
$writer->query_safe(q{BEGIN; UPDATE t SET id = -id WHERE id % 2 = 0;
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SELECT count(*) FROM t WHERE k < 0});
vacuum();
wait_idle();
my $numbers = q{SELECT string_agg((entries / 1000)::text, ' ' ORDER BY run) FROM alex_runs('t_k') WHERE state = 'live'};
like($node->safe_psql('postgres', $numbers), qr/^32 (6|7)\d$/, 'a run that was rewritten after another came');
$writer->query_safe('COMMIT');
$writer->quit;
ok($node->poll_query_until('postgres', q{SELECT runs = 1 FROM alex_stats('t_k')}),
	'has the older versions, and they go');
check_all('a run that was rewritten after another came');

start_over(4, 50000);
$node->safe_psql('postgres', 'REINDEX INDEX t_k; VACUUM t');
$fresh = fresh_size();
$most = 0;
foreach my $step (1 .. 10)
{
	add_runs(1, 50000);
	$node->safe_psql('postgres', "DELETE FROM t WHERE id < $next_id - 200000");
	$most = size() if size() > $most;
	$node->safe_psql('postgres', 'VACUUM t');
	foreach (1 .. 100)
	{
		last if stat_of('retired_runs') == 0 && stat_of('dead') < 25000;
		usleep(50_000);
	}
	$most = size() if size() > $most;
}
cmp_ok($most, '<=', 1.75 * $fresh, "sliding window: $most pages, a fresh index $fresh");
check_all('sliding window');

# Late arrivals, again and again: pages are rewritten around them, and do not
# become emptier each time.
start_over(3);
set_server($node, 'alexam.background_compaction', q{'off'});
$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
foreach my $round (1 .. 40)
{
	$node->safe_psql('postgres', <<"END");
SET alexam.memtable_entries = 100;
INSERT INTO t SELECT 1, key, key
FROM generate_series(0, 149) AS i,
	LATERAL (SELECT (i % 10 - 5) * 1000000000000000000 + hashint8extended($round * 1000 + i, 2) % 1000000000 AS key) AS keys;
END
	$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
}
$fresh = fresh_size();
my $live = $node->safe_psql('postgres', q{SELECT sum(leaf_pages) FROM alex_runs('t_k') WHERE state = 'live'});
cmp_ok($live, '<=', 1.25 * $fresh, "late arrivals: $live leaf pages, a fresh index $fresh pages");
check_all('late arrivals');

$node->stop;
done_testing();
