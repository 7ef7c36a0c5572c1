#
# Lab::Plots
#	  Pictures of the results, by gnuplot: one message a plot.
#
# Copyright (c) 2026, alexam contributors

package Lab::Plots;

use strict;
use warnings;

use Lab::Mixed;
use Lab::Results;
use Lab::Settings;

my %color = (
	alex    => '#c0392b',
	btree   => '#2c3e50',
	hash    => '#7f8c8d',
	brin    => '#b7950b',
	sqlite  => '#2471a3',
	rocksdb => '#1e8449',
	duckdb  => '#8e44ad');

my $head = <<'END';
set terminal svg size 720,430 font "sans-serif,13" background "white"
set border 3 lc rgb "#555555"
set tics nomirror
set grid ytics lc rgb "#dddddd" lw 1
set key outside right top
END

sub draw
{
	my ($path, $script) = @_;

	open(my $pipe, '|-', 'gnuplot') or die "gnuplot: $!\n";
	print $pipe $head, "set output '$path'\n", $script;
	close($pipe) or die "gnuplot fails on $path\n";
	return;
}

# A line a subject: pairs of x and y.  Draws nothing, and returns undef, if
# there is not enough for a line.
sub lines
{
	my ($path, $title, $x, $y, $options, $series) = @_;
	my (@blocks, @parts);

	foreach my $subject (@Lab::Results::subjects)
	{
		my $points = $series->{$subject} or next;

		next if @$points < 2;
		push(@blocks, "\$$subject << END\n" . join('', map { "$_->[0] $_->[1]\n" } @$points) . "END\n");
		push(@parts,
			"\$$subject using 1:2 with linespoints lw 2.5 pt 7 ps 0.7 lc rgb '$color{$subject}' title '$subject'");
	}
	return undef if !@parts;
	draw($path, "set title '$title'\nset xlabel '$x'\nset ylabel '$y'\n$options\n"
		  . join('', @blocks) . 'plot ' . join(', ', @parts) . "\n");
	return $path;
}

# Bars in groups: rows of a label and a number a subject.
sub bars
{
	my ($path, $title, $y, $options, $subjects, $groups) = @_;
	my $data = '';
	my @parts;

	return undef if !@$groups;
	foreach my $group (@$groups)
	{
		$data .= join(' ', map { defined $_ ? $_ : '?' } @$group) . "\n";
	}
	foreach my $i (0 .. $#$subjects)
	{
		my $subject = $subjects->[$i];

		push(@parts, '$data using ' . ($i + 2)
			  . ":xtic(1) with histograms lc rgb '$color{$subject}' title '$subject'");
	}
	draw($path, <<END);
set title '$title'
set ylabel '$y'
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.9 border -1
set datafile missing '?'
set xtics rotate by -20
$options
\$data << EOD
${data}EOD
plot @{[ join(', ', @parts) ]}
END
	return $path;
}

# Medians of one workload by the tables' sizes.
sub by_rows
{
	my ($lab, $keys, $workload, @subjects) = @_;
	my %series;

	foreach my $rows (sort { $a <=> $b } @{ $lab->{settings}{sizes} })
	{
		my $figure = $lab->{results}->figure(
			Lab::Results::name_of({ keys => $keys, rows => $rows }, $workload));

		foreach my $subject (@subjects)
		{
			my $median = Lab::Results::median_of($figure, $subject);

			push(@{ $series{$subject} }, [ $rows, $median ]) if defined $median && $median > 0;
		}
	}
	return \%series;
}

# The figures of a workload for each kind of keys at one size.
sub by_keys
{
	my ($lab, $rows, $workload, @subjects) = @_;
	my @groups;

	foreach my $figure ($lab->{results}->figures)
	{
		next if $figure->{workload} ne $workload || $figure->{rows} != $rows;
		next if $figure->{state} ne 'fresh';
		push(@groups,
			[ $figure->{keys}, map { Lab::Results::median_of($figure, $_) } @subjects ]);
	}
	return \@groups;
}

sub by_clients
{
	my ($lab, $keys, $rows, $script) = @_;
	my %series;

	foreach my $clients (@Lab::Mixed::clients)
	{
		my $figure = $lab->{results}->figure(
			Lab::Results::name_of({ keys => $keys, rows => $rows }, "${script}_$clients"));

		foreach my $subject (qw(alex btree))
		{
			my $median = Lab::Results::median_of($figure, $subject);

			push(@{ $series{$subject} }, [ $clients, $median ]) if defined $median;
		}
	}
	return \%series;
}

# Draws what there are figures for; pairs of file and caption.
sub plots
{
	my ($lab, $out) = @_;
	my $settings = $lab->{settings};
	my $largest  = (sort { $a <=> $b } @{ $settings->{sizes} })[-1];
	my $size     = Lab::Settings::show_number($settings->{other_size});
	my $log      = "set logscale xy\nset format x '10^{%T}'";
	my @plots;
	my $keep = sub {
		my ($path, $caption) = @_;
		push(@plots, [ $path =~ s/.*\///r, $caption ]) if defined $path;
	};

	foreach my $keys (@Lab::Settings::main_keys)
	{
		$keep->(
			lines("$out/probe-$keys.svg", "A row by its key, $keys keys", 'rows',
				'microseconds a probe', $log,
				by_rows($lab, $keys, 'point_hit', qw(alex btree hash sqlite rocksdb duckdb))),
			"Time of a point query that fetches the row, $keys keys");
		$keep->(
			lines("$out/insert-$keys.svg", "What the index adds to an insertion, $keys keys",
				'rows', 'microseconds a row', $log,
				by_rows($lab, $keys, 'insert_index', qw(alex btree hash sqlite rocksdb duckdb))),
			"Time of maintaining the index in bulk insertions, $keys keys");
		$keep->(
			lines("$out/clients-$keys.svg", "Half reads, half insertions, $keys keys", 'clients',
				'transactions a second', "set yrange [0:*]\nset xtics (1, 2, 8)",
				by_clients($lab, $keys, $largest, 'mixed50')),
			"pgbench, half point queries and half insertions, $keys keys");
	}
	$keep->(
		bars("$out/size.svg", "Size of an index on $size rows", 'bytes a row', 'set yrange [0:*]',
			[qw(alex btree hash)],
			by_keys($lab, $settings->{other_size}, 'size', qw(alex btree hash))),
		'Size of the index by kind of keys');
	$keep->(
		bars("$out/wal.svg", "WAL of the index, $size rows", 'bytes a row', 'set logscale y',
			[qw(alex btree)],
			by_keys($lab, $settings->{other_size}, 'insert_wal', qw(alex btree))),
		'WAL that maintaining the index writes in bulk insertions');
	return @plots;
}

1;
