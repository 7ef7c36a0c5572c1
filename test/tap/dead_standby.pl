#!/usr/bin/perl
#
# dead_standby.pl
#	  Entries whose rows are dead, on a standby: hints are neither set nor
#	  heeded there, and what the primary leaves out when it writes a run is not
#	  missed by a snapshot that sees it.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby;
use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = replicated_node('primary', '');
my $standby = start_standby('standby', $node, $node);

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

#
# The rows fit one page with room to spare: nothing of the heap is pruned, and
# no other record conflicts.
#
sql(<<'END');
CREATE TABLE s (k int8, b int8, v int8);
CREATE INDEX s_k ON s USING alex (k);
CREATE INDEX s_b ON s USING btree (b);
CREATE INDEX s_v ON s USING btree (v);
INSERT INTO s SELECT i, i, 0 FROM generate_series(1, 20) i;
INSERT INTO s SELECT i, i, 0 FROM generate_series(101, 120) i;
DELETE FROM s WHERE k > 100;
END
foreach my $place ('log', 'run')
{
	sql('REINDEX INDEX s_k') if $place eq 'run';
	entries_read($node, 's_k', 'SELECT count(v) FROM s WHERE k > 0');
	catch_up($node, $standby);
	my ($rows, $number) = entries_read($standby, 's_k', 'SELECT k, v FROM s WHERE k > 0 ORDER BY k');
	is((entries_read($standby, 's_k', 'SELECT k, v FROM s WHERE k > 0 ORDER BY k'))[1],
		$number, "standby, $place: no hints");
	is((entries_read($node, 's_k', 'SELECT k, v FROM s WHERE k > 0 ORDER BY k'))[0],
		$rows, "standby, $place: rows");
}

my $conflicts = 0;
foreach my $delay ('-1', '0')
{
	foreach my $place ('seal', 'merge')
	{
		my $title = "$place, max_standby_streaming_delay $delay";

		$standby->append_conf('postgresql.conf',
			"hot_standby_feedback = off\nmax_standby_streaming_delay = $delay");
		$standby->reload;
		sql('TRUNCATE s; INSERT INTO s SELECT i, i, 0 FROM generate_series(1, 20) i');
		sql("SELECT alex_compact('s_k')") if $place eq 'merge';
		sql('UPDATE s SET v = v + 1');
		catch_up($node, $standby);

		my $reader = session($standby, 'plain');
		$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
		my $before = $reader->query_safe('SELECT k, v FROM s WHERE k > 0 ORDER BY k');
		is(scalar(split(/\n/, $before)), 20, "$title: rows of the snapshot");

		sql('UPDATE s SET v = v + 1') foreach (1 .. 2);
		sql("SELECT alex_compact('s_k')");
		is(sql("SELECT sum(entries) FROM alex_runs('s_k') WHERE state = 'live'"),
			'20', "$title: old versions are dropped");
		# only a transaction that has logged something waits for the flush
		sql(q{SELECT pg_logical_emit_message(true, 'flush', '')});
		my $lsn = sql('SELECT pg_current_wal_flush_lsn()');

		if ($delay eq '0')
		{
			$standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$lsn'")
			  or die 'redo is stuck';
			my $after = eval { $reader->query('SELECT k, v FROM s WHERE k > 0 ORDER BY k') };
			is($after || '', '', "$title: no rows");
			eval { $reader->quit };
			ok( $standby->poll_query_until('postgres',
					"SELECT confl_snapshot > $conflicts FROM pg_stat_database_conflicts WHERE datname = 'postgres'"),
				"$title: the transaction is cancelled");
			$conflicts++;
		}
		else
		{
			$standby->poll_query_until('postgres', <<"END") or die 'redo neither waits nor ends';
SELECT pg_last_wal_replay_lsn() >= '$lsn' OR EXISTS (SELECT FROM pg_stat_activity
	WHERE backend_type = 'startup' AND wait_event = 'RecoveryConflictSnapshot')
END
			is($reader->query_safe('SELECT k, v FROM s WHERE k > 0 ORDER BY k'),
				$before, "$title: redo waits");
			$reader->query_safe('COMMIT');
			$reader->quit;
		}
		catch_up($node, $standby);
		compare_scans($standby, 's', $title);
	}
}

done_testing();
