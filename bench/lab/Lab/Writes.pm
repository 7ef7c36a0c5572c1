#
# Lab::Writes
#	  Insertions: what they cost with an index, and what the index costs, which
#	  is the time (or the WAL) with it minus that of a table without any.
#
# Copyright (c) 2026, alexam contributors

package Lab::Writes;

use strict;
use warnings;

use List::Util qw(min);
use Lab::Results;
use Lab::Settings;
use Lab::Tables;

our @names = (
	qw(insert insert_index insert_wal copy copy_index copy_wal batches batches_index singles
	  singles_index));

# Each load: a function that makes the statements, and how many rows of a chunk.
my %loads = (
	insert => sub {
		my ($tables, $subject) = @_;
		return ("INSERT INTO t_$subject SELECT * FROM chunk");
	},
	copy => sub {
		my ($tables, $subject) = @_;
		return ("COPY t_$subject FROM '$tables->{files}/chunk.text'");
	});

sub prepare_chunk
{
	my ($lab, $tables, $count) = @_;
	my $server = $lab->{server};
	my $first  = $tables->take_chunk($count);

	$server->do('DROP TABLE IF EXISTS chunk', 'CREATE TABLE chunk (k bigint, v bigint)',
		$tables->copy_rows('chunk', 'keys', $first, $count),
		"COPY chunk TO '$tables->{files}/chunk.text'");
	return;
}

# Subtracts the table without index, round by round, from each subject.
sub add_maintenance
{
	my ($results, $where, $workload, $name, $unit) = @_;
	my $figure = $results->figure(Lab::Results::name_of($where, $workload));
	my $none   = $figure->{samples}{none};

	foreach my $subject (@Lab::Tables::indexed)
	{
		my $samples = $figure->{samples}{$subject} or next;

		$results->add($where, $name, $unit, $subject, $samples->[$_] - $none->[$_])
		  foreach (0 .. $#$samples);
	}
	$results->announce($where, $name);
	return;
}

sub bulk
{
	my ($lab, $tables, $load) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $rows = $tables->{chunk};

	return if !grep { $results->is_wanted($where, $_) } ($load, "${load}_index", "${load}_wal");
	foreach my $round (1 .. $lab->{settings}{write_rounds})
	{
		prepare_chunk($lab, $tables, $rows);
		foreach my $subject (Lab::Settings::turns($round, @Lab::Tables::all))
		{
			$server->do('CHECKPOINT');
			$server->settle;
			my $wal  = $server->wal_position;
			my $time = $server->timed($loads{$load}->($tables, $subject));
			$server->settle;
			$wal = $server->wal_position - $wal;
			$results->add($where, $load,           'us',  $subject, 1000 * $time / $rows);
			$results->add($where, "${load}_row_wal", 'B',   $subject, $wal / $rows);
		}
	}
	$results->announce($where, $load);
	add_maintenance($results, $where, $load,           "${load}_index", 'us');
	add_maintenance($results, $where, "${load}_row_wal", "${load}_wal",   'B');
	return;
}

# A procedure that inserts a chunk, so many rows a transaction.  In the server,
# since one row's way from the client takes longer than its insertion.
sub make_procedure
{
	my ($server, $subject) = @_;

	$server->do(<<"END");
CREATE OR REPLACE PROCEDURE insert_chunk(first bigint, size bigint) LANGUAGE plpgsql AS \$\$
BEGIN
	FOR low IN first .. (SELECT max(v) FROM chunk) BY size LOOP
		INSERT INTO t_$subject SELECT k, v FROM chunk WHERE v >= low AND v < low + size;
		COMMIT;
	END LOOP;
END \$\$
END
	return;
}

# Transactions of "size" rows.
sub transactions
{
	my ($lab, $tables, $workload, $size) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $rows = int(min($tables->{chunk} / 2, 20 * $size + 20_000));

	$rows -= $rows % $size;
	return if !grep { $results->is_wanted($where, $_) } ($workload, "${workload}_index");
	$server->do('SET plan_cache_mode = force_generic_plan');
	foreach my $round (1 .. $lab->{settings}{write_rounds})
	{
		prepare_chunk($lab, $tables, $rows);
		$server->do('CREATE INDEX chunk_v ON chunk (v)', 'ANALYZE chunk');
		my $first = $server->value('SELECT min(v) FROM chunk');

		foreach my $subject (Lab::Settings::turns($round, @Lab::Tables::all))
		{
			make_procedure($server, $subject);
			$server->do('CHECKPOINT');
			$server->settle;
			my $time = $server->timed("CALL insert_chunk($first, $size)");
			$results->add($where, $workload, 'us', $subject, 1000 * $time / $rows);
		}
	}
	$server->do('RESET plan_cache_mode', 'DROP PROCEDURE insert_chunk');
	$server->settle;
	$results->announce($where, $workload);
	add_maintenance($results, $where, $workload, "${workload}_index", 'us');
	return;
}

# All tables must have the same rows, by way of their indexes.
sub check_tables
{
	my ($lab, $tables) = @_;
	my $server = $lab->{server};
	my $expected = $server->value('SELECT count(v) || $$,$$ || sum(v) FROM t_none');

	foreach my $subject (qw(alex btree))
	{
		my $found = $server->value(
			"SELECT count(v) || ',' || sum(v) FROM t_$subject WHERE k >= 0");
		die "t_$subject has $found instead of $expected\n" if $found ne $expected;
	}
	return;
}

sub writes
{
	my ($lab, $tables) = @_;

	bulk($lab, $tables, $_) foreach (qw(insert copy));
	transactions($lab, $tables, 'batches', 1000);
	transactions($lab, $tables, 'singles', 1);
	check_tables($lab, $tables);
	return;
}

1;
