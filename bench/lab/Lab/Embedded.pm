#
# Lab::Embedded
#	  SQLite, RocksDB and, where it is, DuckDB: the same keys, in the same order, as many rows.
#
# A row through SQL and a heap is not a put into a key-value store.  So there
# are two kinds of figures: of whole rows, and of what the index adds, which is
# the time with it minus the time without, on both sides.
#
# Copyright (c) 2026, alexam contributors

package Lab::Embedded;

use strict;
use warnings;

use File::Path qw(remove_tree);
use Lab::Server;

my @engines = grep { -x "$ENV{WORK}/bin/$_" } qw(sqlite rocksdb duckdb);
my $cache   = 1024;               # megabytes
my $commits = 2000;

# What the drivers report, and the figures to which it belongs.
my %figures = (
	insert     => 'insert',
	commits    => 'singles',
	point_hit  => 'point_hit',
	point_miss => 'point_miss',
	range_1000 => 'range_1000');
my %with_index = (insert => 'insert_index', commits => 'singles_index');

# Microseconds an operation, and the answers, by the driver's names.
sub run_engine
{
	my ($tables, $engine, $index) = @_;
	my $directory = "$tables->{files}/$engine";
	my $files     = $tables->{files};
	my %result;

	remove_tree($directory);
	mkdir($directory) or die "$directory: $!\n";
	my @lines = Lab::Server::run("$ENV{WORK}/bin/$engine", $directory, "$files/keys",
		$tables->{rows}, $tables->{chunk}, min_commits($tables), "$files/hit", "$files/miss",
		"$files/ranges", $cache, $index);
	remove_tree($directory);
	foreach my $line (@lines)
	{
		chomp($line);
		my ($name, $time, $operations, $answer) = split(/\t/, $line);

		$result{$name} = [ 1000 * $time / $operations, $answer ];
	}
	return \%result;
}

sub min_commits
{
	my ($tables) = @_;

	return $tables->{chunk} < $commits ? $tables->{chunk} : $commits;
}

# The sums that the drivers print are the second number of our answers.
sub check_answer
{
	my ($lab, $where, $workload, $engine, $answer) = @_;
	my $expected = $lab->{answers}{$workload};

	die "$where->{keys}/$where->{rows} $workload: $engine answers $answer instead of $expected\n"
	  if defined $expected && $expected ne $answer;
	return;
}

# Before the tables are changed, what the reads must sum up to.
sub note_answers
{
	my ($lab, $tables) = @_;
	my $server = $lab->{server};

	$server->do('SET enable_bitmapscan = off');
	$lab->{answers} = {
		point_hit => $server->value('SELECT coalesce(sum(t.v), 0) FROM hit p JOIN t_btree t ON t.k = p.k'),
		point_miss => 0,
		range_1000 => $server->value(
			'SELECT sum(x.v) FROM ranges s, LATERAL '
			  . '(SELECT v FROM t_btree WHERE k >= s.k ORDER BY k LIMIT 1000) x') };
	return;
}

sub embedded
{
	my ($lab, $tables) = @_;
	my ($results, $where) = ($lab->{results}, $tables->{where});
	my @wanted = grep { $results->is_wanted($where, $_) } (values %figures, values %with_index);
	my $rounds = $tables->{rows} > 2_000_000 ? 1 : $lab->{settings}{write_rounds};

	return if !@wanted;
	foreach my $round (1 .. $rounds)
	{
		foreach my $engine (@engines)
		{
			my $with    = run_engine($tables, $engine, 1);
			my $without = run_engine($tables, $engine, 0);

			foreach my $name (sort keys %figures)
			{
				check_answer($lab, $where, $name, $engine, $with->{$name}[1]);
				$results->add($where, $figures{$name}, 'us', $engine, $with->{$name}[0]);
			}
			foreach my $name (sort keys %with_index)
			{
				$results->add($where, $with_index{$name}, 'us', $engine,
					$with->{$name}[0] - $without->{$name}[0]);
			}
		}
	}
	$results->announce($where, $_) foreach (sort values %figures, sort values %with_index);
	return;
}

1;
