# compaction.pl
#	  Compaction in the background: the launcher, its workers, and whoever
#	  stands in their way.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = alex_node('compaction', <<'END');
alexam.background_compaction = on
alexam.compaction_cost_delay = 0
alexam.log_compaction_min_duration = 0
alexam.memtable_entries = 500
deadlock_timeout = 100ms
restart_after_crash = on
END
$node->start;
create_test_table($node);

my $workers = q{FROM pg_stat_activity WHERE backend_type = 'alexam compaction worker'};
my $next_id = 1;

# Adds so many runs of 500 entries or a few more.
sub add_runs
{
	my ($count, $database) = @_;

	foreach (1 .. $count)
	{
		$node->safe_psql($database || 'postgres', "SELECT fill($next_id, $next_id + 549)");
		$next_id += 550;
	}
	return;
}

sub counter
{
	my ($name, $index, $database) = @_;

	return $node->safe_psql($database || 'postgres', "SELECT $name FROM alex_stats('$index')");
}

# Waits until an index has been compacted more than $before times.
sub wait_compacted
{
	my ($name, $before, $index, $database) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($database || 'postgres',
			"SELECT compactions > $before FROM alex_stats('$index')"), $name);
}

# After a failure the worker waits for a while, longer each time; then there
# is a next time, which does not fail.
sub wait_served
{
	my ($name, $database) = @_;
	my $before = counter('compactions', 't_k', $database);

	add_runs(RUNS_TO_MERGE + 1, $database);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_compacted("$name: served again", $before, 't_k', $database);
}

# Waits for a worker that is at it, and returns its process number.
sub wait_worker
{
	$node->poll_query_until('postgres', "SELECT count(*) = 1 $workers AND state = 'active' AND wait_event = 'Extension'")
	  or die 'no worker waits at the failpoint';
	return $node->safe_psql('postgres', "SELECT pid $workers");
}

# Makes a worker stop in the middle of a compaction of t_k, as will others until
# release_workers().  There are few runs, lest inserters compact.
sub stopped_worker
{
	my ($failpoint, $database) = @_;

	$node->safe_psql($database || 'postgres', q{SELECT alex_compact('t_k')});
	set_server($node, 'alexam.failpoint', "'$failpoint?'");
	add_runs(RUNS_TO_MERGE + 1, $database);
	return wait_worker();
}

sub release_workers
{
	set_server($node, 'alexam.failpoint', q{''});
	return;
}

# For sessions that do not stop there.
use constant NO_FAILPOINT => '-c alexam.failpoint=none';

sub workers_gone
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until('postgres', "SELECT count(*) = 0 $workers"), $name);
}

# Everything is still there, and nothing else.
sub check_table
{
	my ($name, $database) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	compare_scans($node, 't', $name, $database);
	check_index($node, 't_k', $name, $database);
	return;
}

#
# A worker comes, works and goes.
#
add_runs(RUNS_TO_MERGE + 1);
wait_compacted('a worker compacts', 0, 't_k');
ok($node->poll_query_until('postgres', q{SELECT runs < } . RUNS_TO_MERGE . q{ FROM alex_stats('t_k')}),
	'there are fewer runs');
is(counter('entries_sealed', 't_k'), counter('entries', 't_k'), 'entries that were sealed are counted');
cmp_ok(counter('entries_rewritten', 't_k'), '>', 0, 'and those that were rewritten');
check_table('compacted');
workers_gone('the worker exits when there is nothing more to do');
like(slurp_file($node->logfile),
	qr/compaction of alex index "public\.t_k": \d+ runs into 1, \d+ entries, \d+ of them rewritten, 0 dropped, \d+ pages written, \d+ bytes of WAL, \d+ ms/,
	'it is logged');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'alexam%' AND state = 'active'}),
	0, 'nobody pretends to be at work');

#
# The switch.
#
set_server($node, 'alexam.background_compaction', q{'off'});
my $before = counter('compactions', 't_k');
add_runs(6);
usleep(1_000_000);
is(counter('compactions', 't_k'), $before, 'off: nothing is compacted');
is($node->safe_psql('postgres', "SELECT count(*) $workers"), 0, 'off: there is no worker');
add_runs(8);
cmp_ok(counter('runs', 't_k'), '<=', 13, 'off: inserters keep the number of runs down');
set_server($node, 'alexam.background_compaction', q{'on'});
$before = counter('compactions', 't_k');
add_runs(RUNS_TO_MERGE);
wait_compacted('on again', $before, 't_k');

stopped_worker('compact-before-install');
set_server($node, 'alexam.background_compaction', q{'off'});
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) $workers");
workers_gone('switched off while it works');
release_workers();
set_server($node, 'alexam.background_compaction', q{'on'});
check_table('switched off');
wait_served('switched on');

#
# Cancelled: nothing is lost, and what was written in vain is freed at once.
# The worker goes on to serve others, and tries this index again later.
#
foreach my $failpoint ('compact-before-install', 'compact-before-safexid', 'compact-after-install')
{
	my $pid = stopped_worker($failpoint);

	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 $workers AND state = 'active'");
	release_workers();
	is((page_counts($node, 't_k'))[2], 0, "cancelled at $failpoint: no orphans");
	check_table("cancelled at $failpoint");
	wait_served("cancelled at $failpoint");
}
like(slurp_file($node->logfile), qr/CONTEXT:.*compaction of index with OID \d+/, 'the error is logged with its context');

# An error, likewise.
$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
set_server($node, 'alexam.failpoint', q{'compact-before-install'});
$before = counter('compactions', 't_k');
my $offset = -s $node->logfile;
add_runs(RUNS_TO_MERGE + 1);
ok($node->wait_for_log(qr/failpoint "compact-before-install" reached/, $offset), 'an error in a worker');
set_server($node, 'alexam.failpoint', q{''});
is((page_counts($node, 't_k'))[2], 0, 'an error: no orphans');
wait_compacted('an error: tried again', $before, 't_k');
check_table('an error');

#
# Nobody waits for a worker that takes its time.
#
foreach my $statement (
	'VACUUM t',
	'VACUUM (FULL) t',
	'REINDEX INDEX t_k',
	'REINDEX INDEX CONCURRENTLY t_k',
	'ALTER TABLE t ALTER id TYPE bigint',
	q{SELECT alex_compact('t_k')},
	'DROP INDEX t_k; CREATE INDEX t_k ON t USING alex (k)',
	'DROP INDEX CONCURRENTLY t_k',
	'TRUNCATE t')
{
	$node->safe_psql('postgres', 'CREATE INDEX IF NOT EXISTS t_k ON t USING alex (k)');
	stopped_worker('compact-before-install');
	my $start = time;
	local $ENV{PGOPTIONS} = NO_FAILPOINT;

	# psql sends each statement of its own
	my ($status, $output, $errors) = $node->psql('postgres', "SET statement_timeout = '20s';\n" . $statement =~ s/; /;\n/r);
	is($errors, '', "$statement while a worker is at it");
	cmp_ok(time - $start, '<', 15, "$statement does not wait for long");
	delete $ENV{PGOPTIONS};
	release_workers();
	next if $statement =~ /DROP INDEX CONC/;
	check_table($statement);
	wait_served($statement);
}

# These do not even have to stop it.
$before = counter('compactions', 't_k');
my $pid = stopped_worker('compact-before-install');
$ENV{PGOPTIONS} = NO_FAILPOINT;
foreach my $statement ('ANALYZE t', 'CREATE INDEX t_c ON t (k)', 'DELETE FROM t WHERE id % 10 = 0')
{
	is(($node->psql('postgres', $statement))[0], 0, "$statement beside a worker");
}
is($node->safe_psql('postgres', "SELECT pid $workers"), $pid, 'the worker is still there');
$node->safe_psql('postgres', "DROP INDEX t_c; SELECT pg_terminate_backend($pid)");
workers_gone('terminated');
delete $ENV{PGOPTIONS};
release_workers();
add_runs(2);
wait_compacted('another run, another request', $before, 't_k');
check_table('terminated');

#
# Databases: two at a time, and what must not wait for a worker.
#
foreach my $database ('one', 'two', 'other')
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, <<'END');
CREATE EXTENSION alexam;
CREATE TABLE t (id int, k bigint, b bigint);
CREATE INDEX t_k ON t USING alex (k);
CREATE INDEX t_b ON t (b);
CREATE FUNCTION fill(first int, last int) RETURNS void
AS $$INSERT INTO t SELECT i, i * 7919::bigint % 10007, i * 7919::bigint % 10007
	FROM generate_series(first, last) AS i$$
LANGUAGE sql;
END
}
set_server($node, 'alexam.max_compaction_workers', q{'2'});
add_runs(RUNS_TO_MERGE + 1, 'one');
add_runs(RUNS_TO_MERGE + 1, 'two');
wait_compacted("compacted in database $_", 0, 't_k', $_) foreach 'one', 'two';
check_table("database $_", $_) foreach 'one', 'two';

# One that always has something to do does not keep the only worker from others.
set_server($node, 'alexam.max_compaction_workers', q{'1'});
workers_gone('before a busy database');
my $busy = open_session($node, 'busy', 'one');
$busy->query_safe('CREATE TABLE enough (x int)');
send_statement($busy, <<'END');
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM enough) LOOP
		PERFORM fill(1000000, 1000549);
		COMMIT;
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$
END
wait_compacted('the busy one has the worker', counter('compactions', 't_k', 'one'), 't_k', 'one');
my $compactions = counter('compactions', 't_k', 'two');
add_runs(RUNS_TO_MERGE + 1, 'two');
wait_compacted('the other one has its turn', $compactions, 't_k', 'two');
is($node->safe_psql('postgres', q{SELECT state FROM pg_stat_activity WHERE application_name = 'busy'}),
	'active', 'while the first is busy');
wait_compacted('and then the first again', counter('compactions', 't_k', 'one'), 't_k', 'one');
$node->safe_psql('one', 'INSERT INTO enough VALUES (1)');
$busy->quit;

# When its turn is over, it goes behind all that wait, however old its other
# requests are; and who waits does not lose its place by asking again.
workers_gone('before several turns');
stopped_worker('compact-before-install', 'one');
$offset = -s $node->logfile;
foreach my $request (
	[ 'one', 'third', RUNS_TO_MERGE + 1 ],
	[ 'two', 'first', RUNS_TO_MERGE + 1 ],
	[ 'other', 'second', RUNS_TO_MERGE + 1 ],
	[ 'two', 'first', 1 ])
{
	my ($database, $place, $runs) = @$request;

	$node->safe_psql($database, "CREATE TABLE IF NOT EXISTS $place (k bigint);
		CREATE INDEX IF NOT EXISTS ${place}_k ON $place USING alex (k);\n"
		  . "INSERT INTO $place SELECT i * 7919::bigint % 10007 FROM generate_series(1, 550) AS i;\n" x $runs);
}

# longer than a turn (TURN_MS of am/worker.c)
$node->poll_query_until('postgres', "SELECT now() - backend_start > interval '6 s' $workers")
  or die 'the worker has gone';
release_workers();
wait_compacted("the $$_[0] one has its turn", 0, "$$_[0]_k", $$_[1])
  foreach [ 'first', 'two' ], [ 'second', 'other' ], [ 'third', 'one' ];
my %seen;
is(join(' ', grep { !$seen{$_}++ } slurp_file($node->logfile, $offset) =~ /compaction of alex index "public\.(first|second|third)_k"/g),
	'first second third', 'one after the other');
set_server($node, 'alexam.max_compaction_workers', q{'2'});
check_table("database $_", $_) foreach 'one', 'two';

foreach my $statement (
	'CREATE DATABASE three TEMPLATE one',
	'ALTER DATABASE one RENAME TO four',
	'DROP DATABASE two')
{
	my $database = $statement =~ /two/ ? 'two' : 'one';

	workers_gone("before $statement");
	stopped_worker('compact-before-install', $database);
	my ($status, $output, $errors) = $node->psql('postgres', $statement);
	is($errors, '', "$statement while a worker is connected");
	release_workers();
}
check_table('a copy', 'three');
check_table('renamed', 'four');
workers_gone('no worker is left of a dropped database');

#
# Many indexes at once.
#
$node->safe_psql('postgres', <<'END');
CREATE TABLE parted (k bigint) PARTITION BY HASH (k);
SELECT format('CREATE TABLE part_%s PARTITION OF parted FOR VALUES WITH (MODULUS 20, REMAINDER %s)', i, i)
FROM generate_series(0, 19) AS i \gexec
CREATE INDEX ON parted USING alex (k);
END
foreach my $round (1 .. RUNS_TO_MERGE + 2)
{
	$node->safe_psql('postgres',
		"INSERT INTO parted SELECT i::bigint * 48271 % 1000003 FROM generate_series($round * 20000, $round * 20000 + 19999) AS i");
}
ok( $node->poll_query_until('postgres', <<'END'), 'all indexes of a partitioned table are compacted');
SELECT bool_and((SELECT compactions > 0 FROM alex_stats(('part_' || i || '_k_idx')::regclass)))
FROM generate_series(0, 19) AS i
END
is($node->safe_psql('postgres', "SELECT alex_check(('part_' || i || '_k_idx')::regclass, true) FROM generate_series(0, 19) AS i") =~ s/\s//gr,
	'', 'all of them are sound');

#
# Range scans make for fewer runs that overlap.
#
my $overlapping = <<'END';
SELECT max((SELECT count(*) FROM alex_runs('ranges_k') AS other
		WHERE other.state = 'live' AND other.part = run.part
		AND run.first_lane BETWEEN other.first_lane AND other.last_lane))
FROM alex_runs('ranges_k') AS run WHERE state = 'live'
END
$node->safe_psql('postgres', 'CREATE TABLE ranges (k int); CREATE INDEX ranges_k ON ranges USING alex (k)');
my $start = 0;
foreach my $size (40000, 40000, 10000, 10000, 10000, 2000, 2000, 2000, 600)
{
	$node->safe_psql('postgres', "SET alexam.memtable_entries = $size;
		INSERT INTO ranges SELECT i::bigint * 7919 % 1000003 FROM generate_series($start, $start + $size - 1) AS i");
	$start += $size;
}
$node->safe_psql('postgres', 'VACUUM ranges');
is($node->safe_psql('postgres', $overlapping), 9, 'without range scans, runs of many sizes stay');
$before = counter('compactions', 'ranges_k');
$node->safe_psql('postgres', 'SET enable_seqscan = off;' . 'SELECT count(*) FROM ranges WHERE k BETWEEN 1 AND 100;' x 20);
$node->safe_psql('postgres', "INSERT INTO ranges SELECT i::bigint * 7919 % 1000003 FROM generate_series($start, $start + 600) AS i");
wait_compacted('with range scans, more is due', $before, 'ranges_k');
ok($node->poll_query_until('postgres', "SELECT ($overlapping) <= 4"), 'at most four runs overlap then');
check_index($node, 'ranges_k', 'range scans');

#
# The worker crashes, and the server with it.
#
foreach my $how ('KILL', 'compact-before-install!', 'compact-before-safexid!')
{
	$offset = -s $node->logfile;
	if ($how eq 'KILL')
	{
		$pid = stopped_worker('compact-before-install');
		kill('KILL', $pid);
	}
	else
	{
		set_server($node, 'alexam.failpoint', "'$how'");
		$node->psql('postgres', "SELECT fill($next_id, $next_id + 549)") foreach 1 .. RUNS_TO_MERGE + 2;
	}
	ok($node->wait_for_log(qr/all server processes terminated; reinitializing/, $offset), "$how: the server restarts");
	wait_for_restart($node);
	set_server($node, 'alexam.failpoint', q{''});
	check_table($how);
	add_runs(RUNS_TO_MERGE + 1);
	wait_compacted("$how: there are workers again", 0, 't_k');
}

#
# ALTER COLUMN TYPE gives the file to another index if the table need not be
# written anew; runs of that one are merged, too.
#
$node->safe_psql('postgres', <<'END');
CREATE TABLE kept (k timestamp(3)) WITH (autovacuum_enabled = off);
CREATE INDEX kept_k ON kept USING alex (k);
END
my $kept_runs = "SET alexam.batch_size = 10000; SET alexam.direct_seal_threshold = 100;\n"
  . ("INSERT INTO kept SELECT '2020-01-01'::timestamp + random() * interval '1 year' FROM generate_series(1, 600);\n" x RUNS_TO_MERGE);
$node->safe_psql('postgres', $kept_runs);
wait_compacted('before ALTER COLUMN TYPE', 0, 'kept_k');
my $kept_file = $node->safe_psql('postgres', q{SELECT 'kept_k'::regclass::oid, pg_relation_filenode('kept_k')});
$node->safe_psql('postgres', 'ALTER TABLE kept ALTER k TYPE timestamp(6)');
my $file = $node->safe_psql('postgres', q{SELECT 'kept_k'::regclass::oid, pg_relation_filenode('kept_k')});
ok($file ne $kept_file && (split(/\|/, $file))[1] eq (split(/\|/, $kept_file))[1],
	'ALTER COLUMN TYPE: another index, the same file');
my $kept_compactions = counter('compactions', 'kept_k');
$node->safe_psql('postgres', $kept_runs);
wait_compacted('after ALTER COLUMN TYPE', $kept_compactions, 'kept_k');

#
# With everybody else at work.
#
my %scripts = (
	write => "\\set first random(1, 1000000)\nSELECT fill(:first, :first + 200);\nDELETE FROM t WHERE b BETWEEN :first % 10000 AND :first % 10000 + 100;\n",
	read => "\\set low random(0, 10006)\nSELECT 1 / (counts.alex = counts.btree)::int FROM (SELECT (SELECT count(b) FROM t WHERE k BETWEEN :low AND :low + 200) AS alex, (SELECT count(k) FROM t WHERE b BETWEEN :low AND :low + 200) AS btree) AS counts;\n",
	vacuum => "VACUUM (TRUNCATE off) t;\n\\sleep 300 ms\n",
	reindex => "\\sleep 700 ms\nREINDEX INDEX t_k;\n");
my @load;
my $output = '';
$offset = -s $node->logfile;
foreach my $name (sort keys %scripts)
{
	my $file = $node->basedir . "/$name.sql";

	append_to_file($file, $scripts{$name});
	push(@load, IPC::Run::start(
			[ 'pgbench', '--no-vacuum', '--client=1', '--time=8', '-h', $node->host, '-p', $node->port, '-f', $file, 'postgres' ],
			'>&', \$output));
}
$_->finish foreach @load;
unlike($output, qr/ERROR:/, 'under load: no errors');
like(slurp_file($node->logfile, $offset), qr/compaction of alex index "public\.t_k"/, 'under load: workers compact');
check_table('under load');
$node->safe_psql('postgres', 'VACUUM t');
is((page_counts($node, 't_k'))[2], 0, 'under load: no orphans');

$node->stop;
done_testing();
