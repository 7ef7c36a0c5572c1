#
# Lab::Upkeep
#	  What becomes of an index: deletions and VACUUM, a sliding window, updates,
#	  recovery, memory; and reads in other states than fresh ones.
#
# Copyright (c) 2026, alexam contributors

package Lab::Upkeep;

use strict;
use warnings;

use List::Util qw(max);
use Lab::Reads;
use Lab::Settings;
use Lab::Tables;

our @names = (qw(vacuum window_size churn_size recovery memory));

my @compared = qw(alex btree);

sub index_size
{
	my ($server, $subject) = @_;

	return $server->value("SELECT pg_relation_size('t_${subject}_k')");
}

# VACUUM after a tenth of the rows were deleted: of an index, that is with it
# minus without.
sub vacuum
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});

	return if !$results->is_wanted($where, 'vacuum');
	foreach my $round (1 .. $lab->{settings}{write_rounds})
	{
		my %time;

		foreach my $subject (Lab::Settings::turns($round, @compared, 'none'))
		{
			$server->do("DELETE FROM t_$subject WHERE v % 10 = $round", 'CHECKPOINT');
			$server->settle;
			$time{$subject} = $server->timed("VACUUM (INDEX_CLEANUP ON) t_$subject");
			$server->settle;
		}
		$results->add($where, 'vacuum', 'ms', $_, $time{$_} - $time{none}) foreach (@compared);
	}
	$results->announce($where, 'vacuum');
	return;
}

# Tables with the first rows only, made anew.
sub rebuild
{
	my ($lab, $tables, @subjects) = @_;
	my $server = $lab->{server};

	foreach my $subject (@subjects)
	{
		$server->do("DROP INDEX IF EXISTS t_${subject}_k", "TRUNCATE t_$subject",
			$tables->copy_rows("t_$subject", 'keys', 0, $tables->{rows}));
		$server->do($tables->make_index($subject)) if $subject ne 'none';
		$server->do("VACUUM (ANALYZE) t_$subject");
	}
	$server->settle;
	return;
}

# New rows come, as many old ones go, and VACUUM follows: the index's size, in
# times of a fresh one.
sub window
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $chunk = $tables->{chunk};

	return if !$results->is_wanted($where, 'window_size');
	rebuild($lab, $tables, @compared, 'none');
	foreach my $subject (@compared)
	{
		my $largest = 0;

		foreach my $i (0 .. 9)
		{
			# keys of the old rows come again: what is random stays random
			my ($low, $high) = ($i * $chunk, ($i + 1) * $chunk);
			$server->do(
				"INSERT INTO t_$subject SELECT k + CASE WHEN '$where->{keys}' = 'uniform' "
				  . "THEN 1 ELSE $tables->{rows} END, v + $tables->{rows} FROM t_none "
				  . "WHERE v >= $low AND v < $high",
				"DELETE FROM t_$subject WHERE v >= $low AND v < $high",
				"VACUUM t_$subject");
			$server->settle;
			$largest = max($largest, index_size($server, $subject));
		}
		$server->do("REINDEX INDEX t_${subject}_k");
		$results->add($where, 'window_size', 'x', $subject,
			$largest / index_size($server, $subject));
	}
	$results->announce($where, 'window_size');
	return;
}

# Updates that are not HOT, of all rows in turn and twice, without VACUUM.  An
# index on what is updated keeps them from being HOT.
sub churn
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $part = int($tables->{rows} / 20);

	return if !$results->is_wanted($where, 'churn_size');
	rebuild($lab, $tables, @compared, 'none');
	foreach my $subject (@compared)
	{
		my $largest = 0;

		$server->do("CREATE INDEX t_${subject}_v ON t_$subject (v)");
		foreach my $i (0 .. 39)
		{
			my $low = ($i % 20) * $part;

			$server->do(
				"UPDATE t_$subject SET v = -v - 1 WHERE v >= $low AND v < $low + $part",
				"UPDATE t_$subject SET v = -v - 1 WHERE v < -$low AND v >= -$low - $part");
			$largest = max($largest, index_size($server, $subject));
		}
		$server->settle;
		$server->do("DROP INDEX t_${subject}_v", "VACUUM t_$subject",
			"REINDEX INDEX t_${subject}_k");
		$results->add($where, 'churn_size', 'x', $subject,
			$largest / index_size($server, $subject));
	}
	$results->announce($where, 'churn_size');
	return;
}

# A crash after rows that are in the log only: from the start of the server to
# the first answer by way of the index.
sub recovery
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $rows = $lab->{settings}{recovery_rows};

	return if !$results->is_wanted($where, 'recovery');
	foreach my $round (1 .. $lab->{settings}{write_rounds})
	{
		foreach my $subject (Lab::Settings::turns($round, @compared))
		{
			my $key = 4_000_000_000_000_000_000 + $round;

			$server->do('CHECKPOINT');
			$server->settle;
			$server->do(
				"SET alexam.direct_seal_threshold = 100000000",
				"SET alexam.memtable_entries = 100000000",
				'SET synchronous_commit = on',
				"INSERT INTO t_$subject SELECT ((k::numeric * 7919 + $round) % 1000000000000000000)::bigint, v "
				  . "FROM t_none LIMIT $rows",
				"INSERT INTO t_$subject VALUES ($key, $round)");
			my ($time, $answer) =
			  $server->crash_and_recover("SELECT v FROM t_$subject WHERE k = $key");
			$results->add($where, 'recovery', 'ms', $subject, $time, $answer);
		}
		$results->end_round($where, 'recovery');
	}
	$results->announce($where, 'recovery');
	return;
}

# What has to be in memory for warm probes: the index, and of alex the part of
# its memtable in shared memory.
sub memory
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});

	return if !$results->is_wanted($where, 'memory');
	my $count = $server->value('SELECT count(*) FROM t_none');
	my $memtable = $server->value("SELECT coalesce(memtable_bytes, 0) FROM alex_stats('t_alex_k')");
	foreach my $subject (@compared, 'hash')
	{
		my $bytes = index_size($server, $subject) + ($subject eq 'alex' ? $memtable : 0);

		$results->add($where, 'memory', 'B/row', $subject, $bytes / $count);
	}
	$results->announce($where, 'memory');
	return;
}

# The same reads with a memtable half full, and with eight runs.
sub states
{
	my ($lab, $tables) = @_;
	my ($results, $server) = ($lab->{results}, $lab->{server});
	my %where = %{ $tables->{where} };
	my $entries = $server->value("SELECT current_setting('alexam.memtable_entries')");
	my %settings = (
		half  => [ 'alexam.direct_seal_threshold = 100000000', 1, int($entries / 2) ],
		runs8 => [ 'alexam.direct_seal_threshold = 1000',      7, int($tables->{rows} / 20) ]);

	foreach my $state (qw(half runs8))
	{
		my ($setting, $batches, $rows) = @{ $settings{$state} };

		$where{state} = $state;
		next if !grep { $results->is_wanted(\%where, $_) } @Lab::Reads::state_names;
		rebuild($lab, $tables, @compared, 'none');
		my $step = max(int($tables->{rows} / $rows), 1);
		$server->do('ALTER SYSTEM SET alexam.background_compaction = off',
			'SELECT pg_reload_conf()', 'SELECT pg_sleep(0.5)', "SET $setting");
		foreach my $batch (1 .. $batches)
		{
			$server->do("INSERT INTO t_$_ SELECT k + 3 * $batch, v FROM t_none "
				  . "WHERE v % $step = $batch % $step")
			  foreach (@compared);
		}
		$server->do("ANALYZE t_$_") foreach (@compared);
		Lab::Reads::reads($lab, { %$tables, where => {%where} },
			\@compared, @Lab::Reads::state_names);
		$server->do('ALTER SYSTEM RESET alexam.background_compaction',
			'SELECT pg_reload_conf()', 'RESET alexam.direct_seal_threshold');
	}
	return;
}

sub upkeep
{
	my ($lab, $tables) = @_;

	memory($lab, $tables);
	vacuum($lab, $tables);
	return if $tables->{rows} > $lab->{settings}{upkeep_limit};
	window($lab, $tables);
	churn($lab, $tables);
	return;
}

1;
