#
# Lab::Roadmap
#	  What the project set out to reach, beside what was measured.
#
# Copyright (c) 2026, alexam contributors

package Lab::Roadmap;

use strict;
use warnings;

use List::Util qw(min);
use Lab::Micro;
use Lab::Results;
use Lab::Settings;

sub find
{
	my ($lab, $keys, $rows, $workload, $state) = @_;

	return $lab->{results}->figure(
		Lab::Results::name_of({ keys => $keys, rows => $rows, state => $state // 'fresh' },
			$workload));
}

sub median
{
	my ($lab, $keys, $rows, $workload, $subject) = @_;

	return Lab::Results::median_of(find($lab, $keys, $rows, $workload), $subject // 'alex');
}

sub peer_ratio
{
	my ($lab, $keys, $rows, $workload, $peer) = @_;
	my $figure = find($lab, $keys, $rows, $workload);

	return $figure ? Lab::Results::ratio($figure, $peer) : undef;
}

# Why a target may be missed.
my %why = (
	whole => q{rows go through SQL, the table and a server's WAL; the index has little part in it},
	index => 'little is left when the time without the index is subtracted, and it differs from run to run',
	point => q{the executor's part and the fetch of the row are most of a probe},
	range => 'each row is fetched from another page of the table',
	commit => 'commits do not wait for the disk here, and in both cases most of the time is not the index\'s',
	batch => q{a transaction's own costs are subtracted, and a row in the memtable costs little more alone},
	recovery => q{the table's own rows are most of the redo, and the server has to start},
	random => 'a random key and the address of its row are 8 bytes of information; pages that merges have freed count, too',
	small => 'the fixed pages of a small index',
	compaction => 'two clients and a worker share two processors',
	large => 'the scan of the table is included',
	filter => 'false positives of filters with 11 bits a key',
	kernel => 'the processor has no vector instructions that are used, or they are slow here');

# A target: its name, what was measured, how it is shown, and how much is
# wanted; less is better if "most" is given, more if "least" is; and why it is
# likely to be missed.
sub row
{
	my ($target, $measured, $unit, %wanted) = @_;
	my $met;

	return if !defined $measured;
	$met = $measured >= $wanted{least} if defined $wanted{least};
	$met = $measured <= $wanted{most}  if defined $wanted{most};
	return {
		target   => $target,
		measured => Lab::Results::show($measured) . $unit,
		wanted   => (defined $wanted{least} ? ">= $wanted{least}" : "<= $wanted{most}") . $unit,
		verdict  => $met ? 'met' : 'not met',
		why      => $met ? undef : $why{ $wanted{why} } };
}

sub rows
{
	my ($lab) = @_;
	my @rows;

	foreach my $rows (sort { $a <=> $b } @{ $lab->{settings}{sizes} })
	{
		my $size  = Lab::Settings::show_number($rows);

		push(@rows,
			row("SQLite, index of sequential insertions, $size",
				peer_ratio($lab, 'sequential', $rows, 'insert_index', 'sqlite'), 'x', least => 10, why => 'index'),
			row("SQLite, index of random insertions, $size",
				peer_ratio($lab, 'uniform', $rows, 'insert_index', 'sqlite'), 'x', least => 2, why => 'index'),
			row("SQLite, whole rows, sequential, $size",
				peer_ratio($lab, 'sequential', $rows, 'insert', 'sqlite'), 'x', least => 10, why => 'whole'),
			row("SQLite, whole rows, random, $size",
				peer_ratio($lab, 'uniform', $rows, 'insert', 'sqlite'), 'x', least => 2, why => 'whole'),
			row("point query, random keys, row fetched, $size",
				median($lab, 'uniform', $rows, 'point_hit'), ' us', most => 1, why => 'point'),
			row("point query, random keys, index only, $size",
				median($lab, 'uniform', $rows, 'index_only'), ' us', most => 1, why => 'point'),
			row("range of 1,000 rows, $size",
				median($lab, 'uniform', $rows, 'range_1000'), ' us', most => 1000, why => 'range'),
			row("1,000 rows a transaction against one, whole rows, $size",
				quotient(median($lab, 'uniform', $rows, 'singles'), median($lab, 'uniform', $rows, 'batches')), 'x', least => 10, why => 'commit'),
			row("1,000 rows a transaction against one, index alone, $size",
				quotient(median($lab, 'uniform', $rows, 'singles_index'), median($lab, 'uniform', $rows, 'batches_index')), 'x', least => 10, why => 'batch'),
			row("crash recovery, " . Lab::Settings::show_number(min($rows, $lab->{settings}{recovery_rows})) . " rows in the log, $size",
				median($lab, 'uniform', $rows, 'recovery'), ' ms', most => 1000, why => 'recovery'),
			row("memory against btree, random keys, $size",
				percentage(peer_ratio($lab, 'uniform', $rows, 'memory', 'btree')), ' %', most => 30, why => 'random'),
			row("memory against btree, sequential keys, $size",
				percentage(peer_ratio($lab, 'sequential', $rows, 'memory', 'btree')), ' %', most => 30, why => 'small'));
		push(@rows,
			row("throughput lost beside compaction, $size",
				median($lab, 'uniform', $rows, 'compaction_cost'), ' %', most => 10, why => 'compaction'));
		next if $rows < 100_000_000;
		push(@rows,
			row("CREATE INDEX on random keys, $size",
				seconds(median($lab, 'uniform', $rows, 'build')), ' s', most => 30, why => 'large'),
			row("point query after that, index only, $size",
				median($lab, 'uniform', $rows, 'index_only'), ' us', most => 2, why => 'point'));
	}
	push(@rows,
		row('absent keys that Bloom filters skip',
			Lab::Micro::number_of($lab, 'Bloom filter, absent keys skipped', ''), ' %', least => 99, why => 'filter'),
		row('vector kernels against scalar ones, unpacking of 44 bits',
			Lab::Micro::gain($lab, 'unpack 44 bits, a number'), 'x', least => 2, why => 'kernel'),
		row('vector kernels against scalar ones, search',
			Lab::Micro::gain($lab, 'count_less, a window'), 'x', least => 2, why => 'kernel'),
		row('vector kernels against scalar ones, Bloom filter',
			Lab::Micro::gain($lab, 'Bloom filter, a test'), 'x', least => 2, why => 'kernel'));
	return @rows;
}

sub quotient
{
	my ($one, $other) = @_;

	return ($one // 0) > 0 && ($other // 0) > 0 ? $one / $other : undef;
}

sub percentage
{
	my ($ratio) = @_;

	return defined $ratio && $ratio > 0 ? 100 / $ratio : undef;
}

sub seconds
{
	my ($milliseconds) = @_;

	return defined $milliseconds ? $milliseconds / 1000 : undef;
}

sub table
{
	my (@rows) = @_;
	my $text = "| target | measured | wanted | |\n|---|---:|---:|---|\n";

	foreach my $row (@rows)
	{
		my $verdict = join(': ', grep { defined } @$row{qw(verdict why)});

		$text .= "| $row->{target} | $row->{measured} | $row->{wanted} | $verdict |\n";
	}
	return $text;
}

1;
