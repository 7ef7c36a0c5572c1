# lists.pl
#	  Lists of keys, which are read in groups, and prefetched heap blocks: while
#	  VACUUM removes rows, and when the query is cancelled half way.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('lists', <<'END');
statement_timeout = '60s'
enable_seqscan = off
enable_bitmapscan = off
enable_sort = off
max_parallel_workers_per_gather = 0
effective_io_concurrency = 16
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

# Every third key, none beside another, so that each is an interval.
my $list = 'ARRAY(SELECT i * 30 FROM generate_series(1, 700) i)';
my $keys = "SELECT k FROM t WHERE k = ANY ($list) ORDER BY k";

sub create_table
{
	$node->safe_psql('postgres', <<'END');
CREATE TABLE t (k int, v int, filler text) WITH (autovacuum_enabled = off);
INSERT INTO t SELECT i * 7919 % 2003 * 10, i, repeat('x', 500) FROM generate_series(1, 2002) i;
CREATE INDEX t_k ON t USING alex (k);
VACUUM ANALYZE t;
END
	return;
}

sub session
{
	return open_session($node, @_);
}

# Waits until a session is idle or waits for something; tells which.
sub wait_blocked
{
	my ($name) = @_;
	my $activity = "FROM pg_stat_activity WHERE application_name = '$name'";

	$node->poll_query_until('postgres',
		"SELECT state LIKE 'idle%' OR wait_event_type IN ('BufferPin', 'Extension', 'Lock', 'Timeout') $activity")
	  or die "$name neither ends nor is blocked";
	return $node->safe_psql('postgres',
		"SELECT CASE WHEN state LIKE 'idle%' THEN 'idle' ELSE wait_event_type END $activity");
}

#
# H2: an index-only scan has the entries of a group in hand, those of deleted
# rows among them.  VACUUM must not set the heap's pages all-visible, or let
# others use the TIDs, before the scan has come back for the next group.
#
foreach my $direction ('ASC', 'DESC')
{
	my $title  = "H2, group, $direction";
	my $reader = session('reader');
	my $vacuum = session('vacuum');

	$vacuum->query(q{SET statement_timeout = '15s'});
	create_table();
	like($node->safe_psql('postgres', "EXPLAIN $keys $direction"),
		qr/Index Only Scan (Backward )?using t_k/, "$title: plan");
	my $expected = $node->safe_psql('postgres',
		"SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_sort = on;
		 SELECT k FROM t WHERE k % 30 = 0 AND k BETWEEN 1 AND 21000 AND k % 20 <> 0 ORDER BY k $direction");

	$node->safe_psql('postgres', 'DELETE FROM t WHERE k % 20 = 0');
	$reader->query('BEGIN');
	$reader->query("DECLARE c CURSOR FOR $keys $direction");
	# groups grow up to 64 keys: now a large one is in hand, hardly begun
	my $found = $reader->query('FETCH 43 FROM c');
	$vacuum->query_until(qr/sent/, "\\echo sent\nVACUUM (INDEX_CLEANUP on) t;\n");
	is(wait_blocked('vacuum'), 'Extension', "$title: VACUUM waits for the reader");

	# the place moves with the groups: others need not wait for the scan's end
	$found .= "\n" . $reader->query('FETCH 70 FROM c');
	$node->poll_query_until('postgres',
		"SELECT state LIKE 'idle%' FROM pg_stat_activity WHERE application_name = 'vacuum'");
	$vacuum->query('SELECT 1');
	is($vacuum->{stderr}, '', "$title: not longer than for a group");
	$found .= "\n" . $reader->query('FETCH ALL FROM c');
	is($found, $expected, "$title: no deleted row");
	$reader->query('COMMIT');
	check_index($node, 't_k', $title);
	$_->quit foreach ($reader, $vacuum);
	$node->safe_psql('postgres', 'DROP TABLE t');
}

#
# A query is cancelled in the midst of a group, or of a scan that prefetches,
# and its transaction goes on: VACUUM waits for no place, and gets the cleanup
# lock of every heap page.
#
create_table();
my $sleep = 'CASE WHEN k = 12000 THEN pg_sleep(100)::text END';
foreach my $case (
	[ 'index-only scan of a list', "SELECT k, $sleep FROM t WHERE k = ANY ($list) ORDER BY k", 'Index Only Scan' ],
	[ 'scan of a list', "SELECT k, v, $sleep FROM t WHERE k = ANY ($list) ORDER BY k", 'Index Scan' ],
	[ 'scan that prefetches', "SELECT k, v, $sleep FROM t WHERE k > 0 ORDER BY k", 'Index Scan' ])
{
	my ($name, $sql, $plan) = @$case;
	my $title  = "cancelled $name";
	my $reader = session('reader');

	like($node->safe_psql('postgres', "EXPLAIN $sql"), qr/$plan (Backward )?using t_k/, "$title: plan");
	$reader->query('BEGIN');
	$reader->query('SAVEPOINT before');
	$reader->query_until(qr/begun/, "\\echo begun\n$sql;\n");
	is(wait_blocked('reader'), 'Timeout', "$title: half way");
	$node->safe_psql('postgres',
		q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'reader'});
	$reader->query('ROLLBACK TO before');
	like($reader->{stderr}, qr/canceling statement due to user request/, "$title: it is cancelled");
	$reader->{stderr} = '';
	my ($status, $output, $errors) = $node->psql('postgres', <<'END');
SET statement_timeout = '20s';
DELETE FROM t WHERE v % 11 = 0;
VACUUM (FREEZE, DISABLE_PAGE_SKIPPING, INDEX_CLEANUP on) t;
END
	is($errors, '', "$title: VACUUM does not wait");
	$reader->query_safe('COMMIT');
	$reader->quit;
	$node->safe_psql('postgres', 'INSERT INTO t SELECT k, 11 * k, filler FROM t LIMIT 200');
	check_index($node, 't_k', $title);
}
$node->safe_psql('postgres', 'DROP TABLE t');

#
# What scans of lists find dead is not looked up again, by lists or by others.
#
create_table();
$node->safe_psql('postgres', 'DELETE FROM t WHERE k % 20 = 0');
my $plain = "SELECT sum(v) FROM t WHERE k = ANY ($list)";
my @first = entries_read($node, 't_k', $plain);
my @second = entries_read($node, 't_k', $plain);
is($first[1], 667, 'hints of groups: all rows at first');
is($second[1], 334, 'hints of groups: those found dead are skipped');
is($second[0], $first[0], 'hints of groups: same rows');
is((entries_read($node, 't_k', 'SELECT count(v) FROM t WHERE k > 0 AND k <= 21000'))[1],
	2002 - 333, 'hints of groups: other scans heed them');

unlike(slurp_file($node->logfile), qr/leak/, 'nothing was leaked');
$node->stop;
done_testing();
