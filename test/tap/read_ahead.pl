# read_ahead.pl
#	  Which pages of an index the operating system is asked for ahead of time.
#
# A library loaded into the server (read_ahead.c) writes the calls down.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir;
my $library   = "$directory/read_ahead.so";
my $log       = "$directory/log";
my $fails     = "$directory/fails";

system_or_bail('cc', '-O1', '-shared', '-fPIC', '-o', $library, dirname(__FILE__) . '/read_ahead.c', '-ldl');

my $node = alex_node('read_ahead', <<'END');
max_wal_size = 4GB
statement_timeout = '60s'
enable_seqscan = off
enable_bitmapscan = off
max_parallel_workers_per_gather = 0
min_parallel_index_scan_size = 0
parallel_setup_cost = 0
parallel_tuple_cost = 0
END
$ENV{READ_AHEAD_LOG}   = $log;
$ENV{READ_AHEAD_FAILS} = $fails;
{
	local $ENV{LD_PRELOAD} = $library;
	$node->start;
}

# Keys are scattered over the heap, and over distances of about 1,000,003, so
# that leaf pages have some 1,500 of them.
my $rows = 400_000;
my $step = 1_000_003;
$node->safe_psql('postgres', <<"END");
CREATE EXTENSION alexam;
CREATE TABLE t (k bigint, b bigint);
INSERT INTO t SELECT key, key FROM generate_series(1, $rows) i,
	LATERAL (SELECT i * 7919::bigint % $rows * $step + i * 7907::bigint % 900001) keys (key);
CREATE TABLE wanted (k bigint);
INSERT INTO wanted SELECT k FROM (SELECT k, row_number() OVER (ORDER BY k) AS number FROM t) s WHERE number % 4400 = 17;
CREATE INDEX t_k ON t USING alex (k);
VACUUM (FREEZE, ANALYZE) t;
ANALYZE wanted;
END
my ($leaves, $model) = split(/\|/,
	$node->safe_psql('postgres', "SELECT leaf_pages, model_pages FROM alex_runs('t_k')"));
ok($leaves > 100, "the run has $leaves leaf pages");
my $per_leaf = $step * $rows / $leaves;

# Nobody is known to have touched a page when the server has been started anew.
sub forget
{
	local $ENV{LD_PRELOAD} = $library;
	$node->restart;
	return;
}

# The calls, of t_k, that a statement makes in a new session, as [ first block,
# blocks ].  With "twice" those of its second execution.
sub calls
{
	my ($sql, $twice) = @_;
	my $session = $node->background_psql('postgres');

	my $path = $node->safe_psql('postgres', "SELECT pg_relation_filepath('t_k')");
	$session->query_safe($sql) if $twice;
	unlink($log);
	$session->query_safe($sql);
	$session->quit;
	return if !-e $log;
	return map { / (\d+) (\d+)$/ ? [ $1, $2 ] : die "line $_" } grep { /\/\Q$path\E / } split(/\n/, slurp_file($log));
}

sub blocks
{
	my (@calls) = @_;
	my $sum = 0;

	$sum += $_->[1] foreach @calls;
	return $sum;
}

# Different blocks among them.
sub different
{
	my (@calls) = @_;
	my %seen;

	foreach my $call (@calls)
	{
		$seen{$_} = 1 foreach $call->[0] .. $call->[0] + $call->[1] - 1;
	}
	return scalar(keys %seen);
}

sub between
{
	my ($first, $last) = @_;

	return sprintf('k BETWEEN %d AND %d', $first * $per_leaf, $last * $per_leaf);
}

# A probe asks for the model and for one leaf page, and only if nobody has
# touched them since the server was started.
my $probe = 'SELECT b FROM t WHERE k = ' . $step * 4711;
forget();
is(different(calls($probe)), $model + 1, 'a probe: model and leaf page');
my @calls = calls($probe);
is(scalar(@calls), 0, 'a probe of pages that others have touched: nothing');

# Scans that end early do not look ahead.  (The planner has looked for the end
# of the range.)
forget();
is(different(calls('SELECT b FROM t WHERE k >= ' . $step * 4711 . ' ORDER BY k LIMIT 20')),
	$model + 2, 'LIMIT: model, leaf page and the last one');

# Ranges, forward and backward.  In the second execution no page is asked for
# but as one of those ahead.
foreach my $order ('ASC', 'DESC')
{
	my $all = "SELECT count(k) FROM (SELECT k FROM t WHERE k >= 0 ORDER BY k $order OFFSET 0) s";

	forget();
	@calls = calls($all);
	is(different(@calls), $leaves + $model, "$order: all pages");
	@calls = calls($all, 1);
	is(different(@calls), $leaves - 1, "$order, again: all leaf pages but the first");
	is(blocks(@calls), $leaves - 1, "$order, again: each of them once");
	cmp_ok(scalar(@calls), '<', $leaves / 8, "$order, again: many with one call");

	# the model tells where a short range ends
	@calls = calls("SELECT count(k) FROM (SELECT k FROM t WHERE " . between(50.5, 56.5) . " ORDER BY k $order OFFSET 0) s", 1);
	cmp_ok(blocks(@calls), '>=', 4, "$order: pages of a short range");
	cmp_ok(blocks(@calls), '<=', 8, "$order: no pages beyond a short range");

	# a scan that is not read to its end
	@calls = calls("SELECT count(k) FROM (SELECT k FROM t WHERE k >= 0 ORDER BY k $order LIMIT $rows / 20) s", 1);
	cmp_ok(blocks(@calls), '<=', $leaves / 20 * 4 + 4, "$order: not far beyond what is read");
}

# A list: the pages of all keys of a group, before the first is opened, which
# then is asked for again.
my $list = 'SELECT count(b) FROM t WHERE k = ANY (ARRAY(SELECT k FROM wanted))';
forget();
calls($probe);
@calls = calls($list);
my %asked;
my $together = 0;
my $most     = 0;
foreach my $call (@calls)
{
	if (!$asked{ $call->[0] }++)
	{
		$together++;
		next;
	}
	$most     = $together if $together > $most;
	$together = 0;
}
cmp_ok(different(@calls), '>=', 80, 'a list: the pages of its keys');
cmp_ok(different(@calls), '<=', 92, 'a list: no others');
cmp_ok($most, '>=', 60, 'a list: many together');

# Participants of a parallel scan, which take turns at leaf pages.
forget();
@calls = calls('SET max_parallel_workers_per_gather = 2; SELECT count(k) FROM t WHERE k >= 0');
is(different(@calls), $leaves + $model, 'parallel: all pages');
cmp_ok(scalar(grep { $_->[1] >= 4 } @calls), '>=', $leaves / 64, 'parallel: many with one call');

# Vacuum and compaction read along runs, too.
$node->safe_psql('postgres', 'DELETE FROM t WHERE b % 1000 = 5');
forget();
@calls = calls('VACUUM (INDEX_CLEANUP on) t');
cmp_ok(scalar(grep { $_->[1] >= 16 } @calls), '>=', $leaves / 64, 'VACUUM: many with one call');
$node->safe_psql('postgres', "INSERT INTO t SELECT b + 1, b + 1 FROM t WHERE b % 10 = 3");
forget();
@calls = calls("SELECT alex_compact('t_k')");
cmp_ok(scalar(grep { $_->[1] >= 16 } @calls), '>=', $leaves / 64, 'alex_compact: many with one call');

# Advice that is not taken changes nothing.
my $sum   = 'SELECT count(k), sum(k) FROM t WHERE k >= 0';
my $right = $node->safe_psql('postgres', "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_seqscan = on; $sum");
append_to_file($fails, '');
forget();
is($node->safe_psql('postgres', $sum),  $right, 'all rows, where advice fails');
is($node->safe_psql('postgres', $list), $node->safe_psql('postgres', "SELECT count(*) FROM wanted WHERE k % 1000 <> 5"),
	'a list, where advice fails');
check_index($node, 't_k', 'after all');

$node->stop;
done_testing();
