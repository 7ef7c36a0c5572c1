# parallel.pl
#	  Parallel scans while others insert, delete, seal, compact and VACUUM.
#
# Each participant of a parallel scan has a view of its own.  Here they take
# it, and read their chunks, at moments between which everything that can
# change an index has happened.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby qw(start_standby catch_up);
use AlexTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('parallel', <<'END', allows_streaming => 1);
alexam.memtable_entries = 500
alexam.batch_size = 1
statement_timeout = '120s'
max_worker_processes = 20
max_parallel_workers = 16
max_standby_streaming_delay = -1
wal_keep_size = 4GB
END
$node->start;
$node->backup('base');

# What makes the planner choose parallel scans of the index.
my $settings = <<'END';
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET seq_page_cost = 0;
SET random_page_cost = 0;
SET cpu_tuple_cost = 1;
SET min_parallel_index_scan_size = 0;
SET min_parallel_table_scan_size = 0;
SET max_parallel_workers_per_gather = 3;
END

# gate() is true, but the session that has its own number in test.leader waits
# in it for a file.
$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
CREATE FUNCTION gate(path text) RETURNS bool PARALLEL SAFE LANGUAGE plpgsql AS $$
BEGIN
	IF pg_backend_pid() = current_setting('test.leader')::int THEN
		WHILE (pg_stat_file(path, true)).size IS NULL LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END IF;
	RETURN true;
END $$;
END

# A table of 6,000 rows, some in runs and some in the memtable, and nothing
# left over from an earlier one.
sub create_rows
{
	$node->safe_psql('postgres', <<'END');
DROP TABLE IF EXISTS rows;
CREATE TABLE rows (k bigint, filler text) WITH (parallel_workers = 3);
INSERT INTO rows SELECT i * 7919 % 10007, repeat('x', 50) FROM generate_series(1, 4000) i;
CREATE INDEX rows_k ON rows USING alex (k);
INSERT INTO rows SELECT i * 7919 % 10007, repeat('x', 50) FROM generate_series(4001, 6000) i;
VACUUM ANALYZE rows;
INSERT INTO rows SELECT i * 7919 % 10007, repeat('x', 50) FROM generate_series(6001, 6100) i;
END
	return;
}

# A session in which queries of the table are parallel.
sub parallel_session
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query($settings);
	$session->query(q{SELECT set_config('test.leader', pg_backend_pid()::text, false)});
	return $session;
}

my $workers = q{pg_stat_activity WHERE backend_type = 'parallel worker'};

# All that can happen to entries.
sub change_everything
{
	$node->safe_psql('postgres', <<'END');
INSERT INTO rows SELECT i * 7919 % 10007, 'new' FROM generate_series(7001, 9000) i;
DELETE FROM rows WHERE k % 5 = 0;
UPDATE rows SET k = 10007 - k WHERE k % 7 = 0;
VACUUM rows;
SELECT alex_compact('rows_k');
INSERT INTO rows SELECT i * 7919 % 10007, 'newer' FROM generate_series(9001, 9900) i;
DELETE FROM rows WHERE filler = 'newer' AND k % 2 = 0;
VACUUM rows;
SELECT alex_compact('rows_k');
INSERT INTO rows SELECT i, 'newest' FROM generate_series(1, 300) i;
END
	return;
}

#
# The leader has taken its view and begun its first chunk.  The workers have
# not taken theirs, or have and not got a chunk.  Then everything changes.
#
my $number = 0;
foreach my $point ('parallel-before-view', 'parallel-before-chunk')
{
	my %kinds = (
		'Index Only Scan' => 'count(*), sum(k), sum(hashint8(k)::bigint)',
		'Index Scan' => 'count(*), sum(k), sum(length(filler)), sum(hashint8(k)::bigint)');

	foreach my $kind (sort keys %kinds)
	{
		foreach my $mmap ('on', 'off')
		{
			my $name = "$point, $kind, use_mmap $mmap";
			my ($go, $gate) = map { $node->basedir . "/$_" . $number } ('go', 'gate');
			my $session = parallel_session();
			my $sql = "SELECT $kinds{$kind} FROM rows WHERE k >= 0 AND gate('$gate')";

			$number++;
			create_rows();
			my $expected = $node->safe_psql('postgres',
				"SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT $kinds{$kind} FROM rows");
			like($session->query("EXPLAIN (COSTS OFF) $sql"), qr/Parallel $kind using rows_k/, "$name: plan");

			$session->query("SET alexam.use_mmap = $mmap");
			$session->query("SET alexam.failpoint = '$point\@$go'");
			$session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
			$node->poll_query_until('postgres', "SELECT count(*) = 3 FROM $workers")
			  or die 'no workers';
			$node->poll_query_until('postgres',
				q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'})
			  or die 'the leader does not begin';

			change_everything();
			append_to_file($go, '');
			$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM $workers")
			  or die 'the workers do not end';
			append_to_file($gate, '');
			is($session->query(''), $expected, "$name: each row once");
			$session->quit;
			check_index($node, 'rows_k', $name);
		}
	}
}

#
# A query that is cancelled leaves nothing: no pin, no worker, and nobody for
# whom VACUUM would wait.
#
foreach my $who ('leader', 'worker')
{
	my $session = parallel_session();
	my $pid = $session->query('SELECT pg_backend_pid()');
	my $gate = $node->basedir . '/never';

	create_rows();
	$session->query("SET alexam.failpoint = 'parallel-before-chunk?'");
	$session->query_until(qr/sent/, "\\echo sent\nSELECT count(*) FROM rows WHERE k >= 0 AND gate('$gate');\n");
	$node->poll_query_until('postgres', "SELECT count(*) = 3 FROM $workers")
	  or die 'no workers';
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'})
	  or die 'the leader does not begin';
	$node->safe_psql('postgres', $who eq 'leader' ? "SELECT pg_cancel_backend($pid)" :
		"SELECT pg_terminate_backend(pid) FROM $workers LIMIT 1");
	$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM $workers")
	  or die 'workers are left';
	$session->query("RESET alexam.failpoint");
	$node->safe_psql('postgres', 'DELETE FROM rows WHERE k % 3 = 0; VACUUM (TRUNCATE off) rows');
	is($session->query('SELECT count(*) FROM rows WHERE k >= 0'),
		$node->safe_psql('postgres', 'SELECT count(*) FROM rows'),
		"$who cancelled: the session goes on");
	$session->quit;
	check_index($node, 'rows_k', "$who cancelled");
}

#
# A load that leaves number and sum as they are, against readers that look
# whether that is so, on the primary and on a standby.  Rows get new keys, others
# are deleted and inserted anew.
#
$node->safe_psql('postgres', <<'END');
CREATE TABLE load (id int, k bigint, v int) WITH (parallel_workers = 2);
INSERT INTO load SELECT i, i * 7919 % 10007, i % 100 FROM generate_series(1, 5000) i;
CREATE INDEX load_k ON load USING alex (k);
VACUUM ANALYZE load;
END
my $readers_settings = $settings =~ s/\n/ /gr;
my $right = '(count(*) = 5000 AND sum(v) = 247500 AND sum(hashint4(id)::bigint) = (SELECT sum(hashint4(i)::bigint) FROM generate_series(1, 5000) i))';
my %scripts = (
	'move@6' => <<'END',
\set old random(0, 10006)
\set new random(0, 10006)
UPDATE load SET k = :new + id % 50 WHERE k BETWEEN :old AND :old + 40;
END
	'replace@4' => <<'END',
\set old random(0, 10006)
WITH gone AS (DELETE FROM load WHERE k BETWEEN :old AND :old + 30 RETURNING id, k, v)
INSERT INTO load SELECT id, 10050 - k, v FROM gone;
END
	'rows@4' => "$readers_settings\nSELECT 1 / $right\::int FROM load WHERE k >= 0;\n",
	'only@4' => "$readers_settings\nSELECT 1 / (count(*) = 5000)::int FROM load WHERE k >= 0;\n",
	'order@3' => <<"END",
$readers_settings
SELECT 1 / (count(*) = 5000 AND bool_and(k >= coalesce(before, k)))::int FROM (
	SELECT k, lag(k) OVER () AS before FROM (SELECT k FROM load WHERE k >= 0 AND v >= 0 ORDER BY k OFFSET 0) ordered) rows;
SELECT 1 / (count(*) = 5000 AND bool_and(k <= coalesce(before, k)))::int FROM (
	SELECT k, lag(k) OVER () AS before FROM (SELECT k FROM load WHERE k >= 0 ORDER BY k DESC OFFSET 0) ordered) rows;
END
	'vacuum@1' => "VACUUM (SKIP_LOCKED, TRUNCATE off) load;\n",
	'compact@1' => 'SELECT alex_compact(\'load_k\') FROM (SELECT pg_try_advisory_xact_lock(1) AS got OFFSET 0) AS lock WHERE got;');

foreach my $query ("SELECT 1 / $right\::int FROM load WHERE k >= 0",
	'SELECT count(*) FROM load WHERE k >= 0',
	'SELECT k FROM load WHERE k >= 0 AND v >= 0 ORDER BY k',
	'SELECT k FROM load WHERE k >= 0 ORDER BY k DESC')
{
	like($node->safe_psql('postgres', "$settings EXPLAIN (COSTS OFF) $query"),
		qr/Parallel Index.* using load_k/, "load: plan of $query");
}
my $standby = start_standby('parallel_standby', $node, $node);
catch_up($node, $standby);
my @files;
foreach my $script (grep { /^(rows|only|order)@/ } sort keys %scripts)
{
	my $file = $node->basedir . "/standby_$script";

	$file =~ s/@/_/;
	append_to_file($file, $scripts{$script});
	push(@files, '-f', $file);
}
my $on_standby = '';
my $readers = IPC::Run::start(
	[
		'pgbench', '--no-vacuum', '--client=2', '--transactions=60',
		'-h', $standby->host, '-p', $standby->port, @files, 'postgres'
	],
	'>&', \$on_standby);

$node->pgbench('--no-vacuum --client=6 --transactions=250 --max-tries=50', 0,
	[qr/processed: 1500\/1500/], [qr/^(?!.*aborted)/s], 'load: parallel readers see each row once',
	\%scripts);
$readers->finish;
like($on_standby, qr/processed: 120\/120/, 'load: so do those on a standby')
  or diag($on_standby);
check_index($node, 'load_k', 'load');

$standby->stop;
$node->stop;
unlike(slurp_file($node->logfile) . slurp_file($standby->logfile),
	qr/refcount leak|leak:|still referenced/, 'nothing was left behind');
done_testing();
