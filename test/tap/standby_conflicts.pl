#!/usr/bin/perl
#
# standby_conflicts.pl
#	  Scans of a standby that are under way while the primary seals, compacts
#	  and vacuums.  They return the rows of their snapshot, or end with a
#	  recovery conflict.
#
# Hazards: H2 (index-only scans), H9 (recycling under a scan).
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby;
use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = replicated_node('primary', 'alexam.batch_size = 1');
my $standby = start_standby('standby', $primary, $primary);

sub on_primary
{
	my ($sql) = @_;

	return $primary->safe_psql('postgres', $sql);
}

sub configure_standby
{
	my ($feedback, $delay) = @_;

	$standby->append_conf('postgresql.conf',
		"hot_standby_feedback = $feedback\nmax_standby_streaming_delay = $delay");
	$standby->reload;
	$primary->poll_query_until('postgres', <<"END", $feedback eq 'on' ? 't' : 'f')
SELECT backend_xmin IS NOT NULL FROM pg_stat_replication
WHERE application_name = 'standby'
END
	  or die "feedback does not go $feedback";
}

# A session with a cursor in a transaction: what the cursor has to deliver,
# and what it has delivered so far.
sub open_cursor
{
	my ($path, $table, $order, $number) = @_;
	my %cursor = (session => session($standby, $path), path => "$path $order");
	my $query = "SELECT k FROM $table WHERE k >= 0 ORDER BY k $order";
	my $plan = $path eq 'plain' ? 'Index Scan' : 'Index Only Scan';

	$cursor{session}->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
	$cursor{expected} = [
		rows($cursor{session},
			"SELECT key FROM (SELECT k + 0 AS key FROM $table OFFSET 0) AS keys WHERE key >= 0")
	];
	@{ $cursor{expected} } = sort { $order eq 'DESC' ? $b <=> $a : $a <=> $b } @{ $cursor{expected} };
	$cursor{session}->query_safe("EXPLAIN (COSTS OFF) $query") =~ /^$plan .*using ${table}_k/
	  or die "not an $plan";
	$cursor{session}->query_safe("DECLARE c CURSOR FOR $query");
	$cursor{fetched} = [ rows($cursor{session}, "FETCH $number FROM c") ];
	return \%cursor;
}

# Fetches the rest.  True if the cursor delivers the rows of its snapshot; 0
# if the query, or its connection, fell to a conflict and that is allowed.
sub finish_cursor
{
	my ($cursor, $name, $conflict_allowed) = @_;
	my $session = $cursor->{session};
	my $timeout = $session->{timeout};

	$timeout->start;
	my $rest = eval { $session->query('FETCH ALL FROM c') };
	my $errors = $session->{stderr};

	if ($timeout->is_expired)
	{
		$session->{run}->kill_kill;
		die "$name: the cursor neither delivers rows nor fails";
	}
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	if ($conflict_allowed && (!defined $rest || $errors ne ''))
	{
		like($errors, qr/conflict with recovery/, "$name: recovery conflict");
		eval { $session->quit };
		return 0;
	}
	is($errors, '', "$name: no error");
	is_deeply([ @{ $cursor->{fetched} }, split(/\n/, $rest || '') ],
		$cursor->{expected}, "$name: rows of the snapshot");
	$session->quit;
	return 1;
}

# Waits until redo waits for somebody's pin, or has replayed everything.
sub wait_for_redo
{
	my $lsn = on_primary('SELECT pg_current_wal_flush_lsn()');

	$standby->poll_query_until('postgres', <<"END") or die 'redo is stuck';
SELECT pg_last_wal_replay_lsn() >= '$lsn' OR EXISTS
	(SELECT FROM pg_stat_activity
	WHERE backend_type = 'startup' AND wait_event_type = 'BufferPin')
END
}

#
# Cursors across inserts, seals, compaction, VACUUM and reuse of pages
#
foreach my $feedback ('on', 'off')
{
	my ($cursor, $conflicts) = (0, 0);

	configure_standby($feedback, $feedback eq 'on' ? '-1' : '0');
	make_table($primary, "c_$feedback", 1500);
	on_primary("INSERT INTO c_$feedback SELECT i, i FROM generate_series(1, 150) i");
	catch_up($primary, $standby);

	my @cursors = map { open_cursor($_->[0], "c_$feedback", $_->[1], $_->[2]) } (
		[ 'plain', '', 20 ],
		[ 'plain', 'DESC', 130 ],
		[ 'plain', '', 1400 ],
		[ 'index-only', '', 3 ],
		[ 'index-only', 'DESC', 400 ]);

	on_primary(<<"END");
INSERT INTO c_$feedback SELECT i * 3, i * 3 FROM generate_series(1, 500) i;
SELECT alex_compact('c_${feedback}_k');
DELETE FROM c_$feedback WHERE k % 5 = 2;
VACUUM c_$feedback;
INSERT INTO c_$feedback SELECT 60000 + i, 60000 + i FROM generate_series(1, 700) i;
SELECT alex_compact('c_${feedback}_k');
SELECT txid_current();
VACUUM c_$feedback;
INSERT INTO c_$feedback SELECT 70000 + i, 70000 + i FROM generate_series(1, 700) i;
END

	# an index-only cursor's pin may have to go before everything is replayed
	wait_for_redo();
	foreach my $cursor (@cursors)
	{
		finish_cursor($cursor, "$cursor->{path} cursor, feedback $feedback", $feedback eq 'off')
		  or $conflicts++;
	}
	is($conflicts > 0 ? 'some' : 'none', $feedback eq 'off' ? 'some' : 'none',
		"conflicts with feedback $feedback");
	catch_up($primary, $standby);
	compare_scans($standby, "c_$feedback", "after cursors with feedback $feedback");
	check_index($standby, "c_${feedback}_k", "after cursors with feedback $feedback");
}

#
# H9: pages of retired runs are used again under a plain cursor.  No heap
# tuple dies, so nothing but the record that removes the runs can conflict.
#
make_table($primary, 'h9', 3000);
my $h9_run = on_primary("SELECT run FROM alex_runs('h9_k')");
catch_up($primary, $standby);
my $h9 = open_cursor('plain', 'h9', '', 1);
on_primary(<<'END');
INSERT INTO h9 SELECT i, i FROM generate_series(1, 300) i;
SELECT alex_compact('h9_k');
SELECT txid_current();
SELECT alex_compact('h9_k');
INSERT INTO h9 SELECT i, i FROM generate_series(1, 3000) i;
SELECT alex_compact('h9_k');
END
is(on_primary("SELECT count(*) FROM alex_runs('h9_k') WHERE run = $h9_run"),
	'0', 'H9: the run was removed');
catch_up($primary, $standby);
# what redo has done to the pages shows in the mapped file once it is written
on_primary('CHECKPOINT');
catch_up($primary, $standby);
$standby->safe_psql('postgres', 'CHECKPOINT');
finish_cursor($h9, 'H9: pages used again under a cursor', 1);

#
# H2: an index-only scan has TIDs of rolled back rows in hand.  VACUUM removes
# them and makes their heap page all-visible.  No snapshot conflicts with that,
# nor does a pin on their heap page, where the scan has not come yet.  (Batches have
# 4, 16 and then 64 entries: after 25 rows the scan holds those from 21 on.)
#
sub make_h2_table
{
	my ($table) = @_;

	on_primary(<<"END");
SET alexam.memtable_entries = 10000;
CREATE TABLE $table (k int8, b int8);
CREATE INDEX ${table}_k ON $table USING alex (k);
CREATE INDEX ${table}_b ON $table USING btree (b);
INSERT INTO $table SELECT i, i FROM generate_series(1, 30) i;
INSERT INTO $table SELECT i, i FROM generate_series(1001, 1500) i;
VACUUM $table;
BEGIN;
INSERT INTO $table SELECT i, i FROM generate_series(31, 60) i;
ROLLBACK;
INSERT INTO $table SELECT i, i FROM generate_series(61, 100) i;
ANALYZE $table;
END
}

# VACUUM the table and see what is left of the cursor.
sub vacuum_under_cursor
{
	my ($table, $cursor, $name, $conflict_allowed) = @_;

	on_primary("VACUUM $table");
	is( on_primary("SELECT relallvisible = relpages FROM pg_class WHERE relname = '$table'"),
		't', "$name: heap pages are all-visible");
	wait_for_redo();
	my $finished = finish_cursor($cursor, $name, $conflict_allowed);
	catch_up($primary, $standby);
	compare_scans($standby, $table, $name);
	return $finished;
}

foreach my $delay ('-1', '0')
{
	my $table = $delay eq '0' ? 'h2_cancel' : 'h2_wait';

	configure_standby('off', $delay);
	make_h2_table($table);
	on_primary("SELECT alex_compact('${table}_k')");
	is(on_primary("SELECT entries FROM alex_stats('${table}_k')"),
		'600', 'H2: rolled back entries are in a run');
	catch_up($primary, $standby);
	my $finished = vacuum_under_cursor($table, open_cursor('index-only', $table, '', 25),
		"H2: run, delay $delay", $delay eq '0');
	is($finished, $delay eq '0' ? 0 : 1, "H2: who waits with delay $delay");
}

# The same with entries of the log, which nothing pins.
make_h2_table('h2_log');
is(on_primary("SELECT log_entries FROM alex_stats('h2_log_k')"),
	'600', 'H2: rolled back entries are in the log');
catch_up($primary, $standby);
vacuum_under_cursor('h2_log', open_cursor('index-only', 'h2_log', '', 25),
	'H2: log', 0);

done_testing();
