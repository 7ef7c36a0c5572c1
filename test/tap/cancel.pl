# cancel.pl
#	  Cancelling seal, compaction, VACUUM and CREATE INDEX half way.
#
# With alexam.failpoint = 'name?' a session waits at that point for being
# cancelled.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('cancel', "alexam.memtable_entries = 200\nalexam.batch_size = 1");
$node->start;
create_test_table($node);

sub insert
{
	my ($count) = @_;

	$node->safe_psql('postgres', fill_query($count));
	return;
}

# The index works, and no page is lost.
sub go_on
{
	my ($name) = @_;

	insert(300);
	$node->safe_psql('postgres', 'VACUUM t');
	is((page_counts($node, 't_k'))[2], 0, "$name: VACUUM finds all orphans");
	$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
	compare_scans($node, 't', $name);
	check_index($node, 't_k', $name);
	return;
}

insert(5000);

# Cancellation in the middle: nothing is left locked, and all can be done
# again.
foreach my $case (
	[ 'seal-after-freeze', fill_query(1200) ],
	[ 'seal-before-install', q{SELECT alex_compact('t_k')} ],
	[ 'compact-before-install', q{SELECT alex_compact('t_k')} ],
	[ 'build-before-install', 'CREATE INDEX t_k2 ON t USING alex (k)' ],
	[ 'build-before-install', 'REINDEX INDEX t_k' ])
{
	my ($failpoint, $sql) = @$case;
	my $name = "cancelled at $failpoint in " . ($sql =~ /^SELECT fill/ ? 'INSERT' : $sql);
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	insert(500);
	$session->query_safe("SET alexam.failpoint = '$failpoint?'");
	$session->query_safe('BEGIN');
	$session->query_safe('SAVEPOINT before');
	$session->query_until(qr/begun/, "\\echo begun\n$sql;\n");
	$node->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension'})
	  or die "$name: the failpoint is not reached";
	$node->safe_psql('postgres',
		q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Extension'});
	$session->query('ROLLBACK TO before');
	like($session->{stderr}, qr/canceling statement due to user request/, "$name: it is cancelled");
	$session->{stderr} = '';
	is($session->query_safe(q{SELECT count(*) FROM pg_locks WHERE locktype = 'page'}),
		0, "$name: no page stays locked");

	# the index is free for others before the transaction ends
	insert(300);
	$node->safe_psql('postgres', 'SET statement_timeout = 60000; VACUUM t') if $sql !~ /INDEX/;
	$session->query_safe('COMMIT');
	$session->quit;
	go_on($name);
}

# The same without knowing where.
foreach my $timeout (1, 2, 4, 8, 16, 32)
{
	foreach my $sql ('CREATE INDEX t_k3 ON t USING alex (k)', q{SELECT alex_compact('t_k')},
		'VACUUM t', 'REINDEX INDEX t_k')
	{
		$node->psql('postgres', "SET statement_timeout = $timeout;\n$sql");
	}
	$node->safe_psql('postgres', 'DROP INDEX IF EXISTS t_k3');
	insert(100);
}
go_on('statement_timeout anywhere');

# H1: a VACUUM is cancelled when it has set dead bits but not written them to
# the file; the next one sees the bits in shared buffers, and must write them
# before it lets the TIDs be used for other keys.
$node->safe_psql('postgres', <<'END');
CREATE TABLE reused (k bigint, b bigint);
CREATE INDEX reused_b ON reused (b);
INSERT INTO reused SELECT i, i FROM generate_series(1, 5000) AS i;
CREATE INDEX reused_k ON reused USING alex (k);
VACUUM reused;
CHECKPOINT;
DELETE FROM reused WHERE k % 2 = 0;
END
my ($status, $output, $errors) = $node->psql('postgres', <<'END');
SET alexam.failpoint = 'vacuum-before-flush';
VACUUM (INDEX_CLEANUP ON) reused;
END
like($errors, qr/failpoint/, 'H1: VACUUM fails between setting dead bits and writing them');
$node->safe_psql('postgres', <<'END');
SET alexam.use_mmap = off;
VACUUM (INDEX_CLEANUP ON) reused;
INSERT INTO reused SELECT 100000 + i, 100000 + i FROM generate_series(1, 2500) AS i;
END
cmp_ok($node->safe_psql('postgres', 'SELECT pg_relation_size(\'reused\') / 8192'),
	'<=', 30, 'H1: the TIDs are used again');
is( $node->safe_psql('postgres', <<'END'), '2500|0', 'H1: no row of another key comes out');
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(*), count(*) FILTER (WHERE b > 5000) FROM reused WHERE k BETWEEN 1 AND 5000;
END
compare_scans($node, 'reused', 'H1');
check_index($node, 'reused_k', 'H1');

# A compaction that fails again and again leaves no more pages each time: VACUUM
# looks for orphans before it compacts, and a session frees what it has written
# in vain before it tries again.
$node->safe_psql('postgres', <<'END');
CREATE TABLE again (k bigint) WITH (autovacuum_enabled = off);
CREATE INDEX again_k ON again USING alex (k);
END
my $run = 'INSERT INTO again SELECT (random() * 1e15)::bigint FROM generate_series(1, 3000);';
my $settings = 'SET alexam.batch_size = 10000; SET alexam.direct_seal_threshold = 100;';

# The statement, so many times in one session, fails when it compacts.
sub fail_to_compact
{
	my ($sql, $times) = @_;
	my ($ret, $out, $errors) = $node->psql('postgres',
		"$settings\nSET alexam.failpoint = 'compact-before-install';\n" . "$sql\n" x $times,
		on_error_stop => 0);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(scalar(() = $errors =~ /failpoint/g), $times, "$sql: compaction fails");
	return (page_counts($node, 'again_k'))[2];
}

$node->safe_psql('postgres', $settings . $run x 9);
my $once = fail_to_compact('VACUUM again;', 1);
cmp_ok($once, '>', 10, 'VACUUM: pages are left');
cmp_ok(fail_to_compact('VACUUM again;', 1), '<', $once * 1.5, "VACUUM: no more each time ($_)")
  foreach (2 .. 4);

$node->safe_psql('postgres', $settings . $run x 3);
my $before = (page_counts($node, 'again_k'))[2];
$once = fail_to_compact($run, 1) - $before;
cmp_ok($once, '>', 10, 'INSERT: pages are left');
$before = (page_counts($node, 'again_k'))[2];
cmp_ok(fail_to_compact($run, 4) - $before, '<', $once * 2, 'INSERT: no more each time');
$before = (page_counts($node, 'again_k'))[2];
my $compact = q{SELECT alex_compact('again_k');};
$once = fail_to_compact($compact, 1) - $before;
cmp_ok($once, '>', 10, 'alex_compact: pages are left');
$before = (page_counts($node, 'again_k'))[2];
cmp_ok(fail_to_compact($compact, 4) - $before, '<', $once * 2, 'alex_compact: no more each time');
$node->safe_psql('postgres', 'VACUUM again');
is((page_counts($node, 'again_k'))[2], 0, 'VACUUM finds all orphans');
check_index($node, 'again_k', 'failed compactions');

# If that was in the copy for a tablespace to which the index is not moved in
# the end, the pages are not those of the file that it has.
$node->safe_psql('postgres', <<'END');
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE elsewhere LOCATION '';
CREATE TABLE moved (k bigint) WITH (autovacuum_enabled = off);
CREATE INDEX moved_k ON moved USING alex (k);
END
$node->safe_psql('postgres', $settings . $run =~ s/again/moved/r) foreach (1 .. 3);
($status, $output, $errors) = $node->psql('postgres', <<'END', on_error_stop => 0);
BEGIN;
ALTER INDEX moved_k SET TABLESPACE elsewhere;
SAVEPOINT before;
SET LOCAL alexam.failpoint = 'compact-before-install';
SELECT alex_compact('moved_k');
ROLLBACK;
SELECT alex_compact('moved_k');
END
is(scalar(() = $errors =~ /ERROR/g), 1, 'a compaction that fails in a copy that goes');
like($errors, qr/failpoint/, 'at the failpoint');
check_index($node, 'moved_k', 'without the copy');

$node->stop;
done_testing();
