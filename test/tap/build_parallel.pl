# build_parallel.pl
#	  Parallel builds: their workers come, come late, do not come, fail, are
#	  cancelled, and crash.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = alex_node('main', <<'END', allows_streaming => 1);
max_parallel_maintenance_workers = 2
maintenance_work_mem = 4MB
restart_after_crash = off
END
$node->start;
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;

$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
CREATE TABLE t (id bigint, k bigint, one bigint) WITH (parallel_workers = 2);
INSERT INTO t SELECT i, (i * 7919) % 1000003, 1 FROM generate_series(1, 200000) AS i;
VACUUM ANALYZE t;
CREATE FUNCTION unsafe(bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE PARALLEL UNSAFE
	AS 'BEGIN RETURN $1 + 1; END';
END

# Temporary files that nobody has removed.
sub temporary_files
{
	return join(' ', glob($node->data_dir . '/base/pgsql_tmp/*'));
}

# Status, number of workers ('' if none were asked for) and errors of a
# command.
sub run_build
{
	my ($command, $settings) = @_;
	my ($status, $output, $errors) = $node->psql('postgres',
		"SET client_min_messages = debug1; " . ($settings || '') . "; $command");
	my ($workers) = $errors =~ /with (\d+) parallel workers$/m;

	return ($status, $workers // '', $errors);
}

# Does a query say true within so many seconds?
sub wait_for
{
	my ($query, $seconds) = @_;

	for (my $i = 0; $i < 10 * $seconds; $i++)
	{
		return 1 if $node->safe_psql('postgres', $query) eq 't';
		usleep(100_000);
	}
	return 0;
}

my ($status, $workers, $errors);

# workers
($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (k)');
is("$status $workers", '0 2', 'a build has two workers');
check_index($node, 't_k', 'built by all');
is(temporary_files(), '', 'no temporary files are left');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(k), sum(k) FROM t WHERE k >= 0'),
	$node->safe_psql('postgres', 'SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SELECT count(k), sum(k) FROM t'),
	'a standby has the index');
($status, $workers) = run_build('REINDEX INDEX t_k');
is("$status $workers", '0 2', 'REINDEX has them, too');
check_index($node, 't_k', 'rebuilt');
($status, $workers) = run_build('REINDEX INDEX CONCURRENTLY t_k');
is("$status $workers", '0 2', 'REINDEX CONCURRENTLY has them, too');
check_index($node, 't_k', 'rebuilt concurrently');
$node->safe_psql('postgres', 'DROP INDEX t_k');

($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (k)',
	'SET max_parallel_maintenance_workers = 0');
is("$status $workers", '0 ', 'none if they are not allowed');
$node->safe_psql('postgres', 'DROP INDEX t_k');
($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (unsafe(k))');
is("$status $workers", '0 ', 'none for an expression that is not parallel safe');
$node->safe_psql('postgres', 'DROP INDEX t_k');
($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (k)',
	'SET max_parallel_workers = 0');
is("$status $workers", '0 ', 'a build without workers when there are none left');
check_index($node, 't_k', 'built alone');
$node->safe_psql('postgres', 'DROP INDEX t_k');

($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (k)',
	'SET max_parallel_workers = 1');
is("$status $workers", '0 1', 'a build with one worker when there is one left');
check_index($node, 't_k', 'built by two');
$node->safe_psql('postgres', 'DROP INDEX t_k');

# a table that is large enough for workers without being told
$node->safe_psql('postgres', 'ALTER TABLE t RESET (parallel_workers)');
my $ample = 'SET maintenance_work_mem = 200000; SET min_parallel_table_scan_size =';
my $blocks = $node->safe_psql('postgres', "SELECT pg_relation_size('t') / 8192");
foreach my $case ([ int($blocks / 8), 2 ], [ int($blocks / 8) + 1, '' ])
{
	my ($size, $expected) = @$case;

	($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (k)', "$ample $size");
	is("$status $workers", "0 $expected", "'$expected' workers for $blocks blocks if $size are a few");
	$node->safe_psql('postgres', 'DROP INDEX t_k');
}
$node->safe_psql('postgres', 'ALTER TABLE t SET (parallel_workers = 2)');

# H26: many participants extend a new index at the same time
foreach (1 .. 3)
{
	($status, $workers, $errors) = run_build('CREATE INDEX t_k ON t USING alex (k)');
	is($status, 0, 'H26: all extend the index') or diag($errors);
	check_index($node, 't_k', 'H26');
	$node->safe_psql('postgres', 'DROP INDEX t_k');
}

# H27: two live rows, in what are different items of different participants but
# for their equal keys; dead rows that a snapshot sees.  Each participant waits
# when it has packed an item.
my $reader = $node->background_psql('postgres');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t');
$node->safe_psql('postgres', 'DELETE FROM t WHERE id NOT IN (1, 75000)');
my $release = PostgreSQL::Test::Utils::tempdir() . '/release';
my $builder = $node->background_psql('postgres', on_error_stop => 0);
$builder->query_until(qr/started/, <<"END");
SET alexam.failpoint = 'parallel-build-item\@$release';
\\echo started
CREATE UNIQUE INDEX t_one ON t USING alex (one);
END
$node->poll_query_until('postgres',
	"SELECT count(*) = 3 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%CREATE UNIQUE INDEX t_one%' AND pid <> pg_backend_pid()")
  or die 'the participants do not pack an item each';
append_to_file($release, 'go');
$builder->query('SELECT 1');
like($builder->{stderr}, qr/could not create unique index "t_one"/,
	'H27: a duplicate in the range of another participant is found');
$builder->quit;
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname = 't_one'"),
	0, 'H27: no unique index of duplicates');
$reader->query_safe('COMMIT');
$reader->quit;
$node->safe_psql('postgres', <<'END');
TRUNCATE t;
INSERT INTO t SELECT i, (i * 7919) % 1000003, 1 FROM generate_series(1, 200000) AS i;
END

# a participant fails: in either phase, and a worker before it begins
foreach my $failpoint (qw(parallel-build-start parallel-build-after-scan parallel-build-item))
{
	($status, $workers, $errors) = run_build('CREATE INDEX t_k ON t USING alex (k)',
		"SET alexam.failpoint = '$failpoint'");
	like($errors, qr/failpoint "$failpoint" reached/, "fails at $failpoint");
	is(temporary_files(), '', "no temporary files after failing at $failpoint");
}

# workers wait; then one of them is terminated, or the leader is cancelled
foreach my $victim ('parallel worker', 'client backend')
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_until(qr/started/, <<'END');
SET alexam.failpoint = 'parallel-build-start?';
\echo started
CREATE INDEX t_k ON t USING alex (k);
END
	$node->poll_query_until('postgres',
		"SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND wait_event_type = 'Extension'")
	  or die 'no workers wait at the failpoint';
	my $function = $victim eq 'parallel worker' ? 'pg_terminate_backend' : 'pg_cancel_backend';
	$node->safe_psql('postgres', <<"END");
SELECT $function(min(pid)) FROM pg_stat_activity
	WHERE backend_type = '$victim' AND query LIKE '%CREATE INDEX t_k%' AND pid <> pg_backend_pid();
END
	$node->poll_query_until('postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'")
	  or die 'workers do not end';
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname = 't_k'"),
		0, "no index after the end of a $victim");
	is(temporary_files(), '', "no temporary files after the end of a $victim");
	$session->quit;
}

# workers come when all is done
my $signal = PostgreSQL::Test::Utils::tempdir() . '/go';
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/started/, <<"END");
SET alexam.failpoint = 'parallel-build-start\@$signal';
\\echo started
CREATE INDEX t_k ON t USING alex (k);
END
$node->poll_query_until('postgres',
	"SELECT tuples_done = 200000 AND tuples_total = 200000 FROM pg_stat_progress_create_index")
  or die 'the leader does not do all by itself';
append_to_file($signal, 'go');
$session->query_safe('SELECT 1');
$session->quit;
check_index($node, 't_k', 'with workers that come late');
$node->safe_psql('postgres', 'DROP INDEX t_k');

# in the end, progress is complete, whoever did the last of the work
$session = $node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/started/, <<"END");
SET alexam.failpoint = 'build-before-install\@$signal.2';
\\echo started
CREATE INDEX t_k ON t USING alex (k);
END
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND query LIKE '%CREATE INDEX t_k%' AND pid <> pg_backend_pid()")
  or die 'the build does not reach its end';
is($node->safe_psql('postgres',
		'SELECT blocks_done = blocks_total, blocks_done > 0, tuples_done, tuples_total FROM pg_stat_progress_create_index'),
	't|t|200000|200000', 'progress is complete');
append_to_file("$signal.2", 'go');
$session->query_safe('SELECT 1');
$session->quit;
$node->safe_psql('postgres', 'DROP INDEX t_k');

# H28: the leader fails while it has the extension lock, for which workers wait.
# What a worker has locked then is a matter of chance, so this is done several
# times, and not at the leader's first pages; nor is it certain that workers come.
my $nwaited = 0;
foreach my $attempt (1 .. 10)
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $waits   = q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'extend' AND NOT granted};

	$session->query_until(qr/started/, <<'END');
SET alexam.failpoint = '+extend-by-group?';
\echo started
CREATE INDEX t_k ON t USING alex (k);
END
	$nwaited += wait_for($waits, 5);
	$node->safe_psql('postgres',
		q{SELECT pg_cancel_backend(pid) FROM pg_locks WHERE locktype = 'extend' AND granted});
	if (!wait_for(q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'}, 30))
	{
		$node->stop('immediate');
		BAIL_OUT('H28: a parallel build hangs');
	}
	$session->quit;
	# all the same, if the leader came too late for a share
	$node->safe_psql('postgres', 'DROP INDEX IF EXISTS t_k');
}
cmp_ok($nwaited, '>', 0, 'H28: workers end although the leader fails with the extension lock');

# a worker crashes
$node->psql('postgres', "SET alexam.failpoint = 'parallel-build-item!'; CREATE INDEX t_k ON t USING alex (k)");
wait_for_crash($node);
$node->start;
is(temporary_files(), '', 'no temporary files after a crash');
# without WAL for the new index
$node->wait_for_catchup($standby);
$standby->stop;
$node->append_conf('postgresql.conf', "wal_level = minimal\nmax_wal_senders = 0");
$node->restart;
($status, $workers) = run_build('CREATE INDEX t_k ON t USING alex (k)');
is("$status $workers", '0 2', 'a build with wal_level = minimal');
$node->stop('immediate');
$node->start;
check_index($node, 't_k', 'after a crash with wal_level = minimal');

done_testing();
