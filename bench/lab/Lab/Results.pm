#
# Lab::Results
#	  All figures: samples by keys, rows, state, workload and subject.
#
# Copyright (c) 2026, alexam contributors

package Lab::Results;

use strict;
use warnings;

use List::Util qw(min max);
use Lab::Settings;

our @subjects = qw(alex btree hash brin none sqlite rocksdb duckdb);

sub new
{
	my ($class, $settings) = @_;

	return bless({ settings => $settings, figures => {}, order => [] }, $class);
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;

	return ($sorted[ int($#sorted / 2) ] + $sorted[ int(@sorted / 2) ]) / 2;
}

sub name_of
{
	my ($where, $workload) = @_;

	return join('/', $where->{keys}, Lab::Settings::show_number($where->{rows}),
		$where->{state} // 'fresh', $workload);
}

sub is_wanted
{
	my ($self, $where, $workload) = @_;

	return name_of($where, $workload) =~ $self->{settings}{only};
}

# Adds a sample.  Answers to the same figure must agree among the subjects.
sub add
{
	my ($self, $where, $workload, $unit, $subject, $sample, $answer) = @_;
	my $name   = name_of($where, $workload);
	my $figure = $self->{figures}{$name};

	if (!$figure)
	{
		$figure = $self->{figures}{$name} = {
			%$where,
			state    => $where->{state} // 'fresh',
			name     => $name,
			workload => $workload,
			unit     => $unit,
			samples  => {} };
		push(@{ $self->{order} }, $name);
	}
	push(@{ $figure->{samples}{$subject} }, $sample);
	if (defined $answer)
	{
		$figure->{answer} //= [ $subject, $answer ];
		die "$name: $subject answers $answer, $figure->{answer}[0] $figure->{answer}[1]\n"
		  if $figure->{answer}[1] ne $answer;
	}
	return;
}

# The next round of a figure may have another answer.
sub end_round
{
	my ($self, $where, $workload) = @_;
	my $figure = $self->{figures}{ name_of($where, $workload) };

	delete $figure->{answer} if $figure;
	return;
}

sub figure
{
	my ($self, $name) = @_;

	return $self->{figures}{$name};
}

sub figures
{
	my ($self) = @_;

	return map { $self->{figures}{$_} } @{ $self->{order} };
}

sub median_of
{
	my ($figure, $subject) = @_;
	my $samples = $figure && $figure->{samples}{$subject};

	return $samples && @$samples ? median(@$samples) : undef;
}

# How many times better alex is than the subject; undef if that says nothing.
sub ratio
{
	my ($figure, $subject) = @_;
	my ($alex, $peer) = (median_of($figure, 'alex'), median_of($figure, $subject));

	return undef if !defined $alex || !defined $peer || $alex <= 0 || $peer <= 0;
	return $figure->{unit} eq 'tps' ? $alex / $peer : $peer / $alex;
}

sub show
{
	my ($number) = @_;

	return '-' if !defined $number;
	return sprintf(abs($number) >= 100 ? '%.0f' : abs($number) >= 10 ? '%.1f' : '%.2f', $number);
}

# One line that says how a figure has come out.
sub announce
{
	my ($self, $where, $workload) = @_;
	my $figure = $self->{figures}{ name_of($where, $workload) } or return;
	my @parts;

	foreach my $subject (@subjects)
	{
		my $median = median_of($figure, $subject);

		next if !defined $median;
		my $ratio = $subject eq 'alex' ? undef : ratio($figure, $subject);
		push(@parts,
			"$subject " . show($median) . (defined $ratio ? ' (' . show($ratio) . ')' : ''));
	}
	printf "%-44s %-6s %s\n", $figure->{name}, $figure->{unit}, join('  ', @parts);
	return;
}

# What measures the figure again.
sub command
{
	my ($self, $figure) = @_;
	my $mode = $self->{settings}{mode};

	return 'make bench ' . ($mode eq 'full' ? '' : uc($mode) . '=1 ')
	  . "ONLY='^$figure->{name}\$'";
}

sub write_csv
{
	my ($self, $path) = @_;

	open(my $file, '>', $path) or die "$path: $!\n";
	print $file
	  "keys,rows,state,workload,subject,unit,median,min,max,rounds,times_better_is_alex,command\n";
	foreach my $figure ($self->figures)
	{
		foreach my $subject (@subjects)
		{
			my $samples = $figure->{samples}{$subject} or next;
			my $ratio   = $subject eq 'alex' ? undef : ratio($figure, $subject);

			printf $file "%s,%d,%s,%s,%s,%s,%.6g,%.6g,%.6g,%d,%s,%s\n",
			  $figure->{keys}, $figure->{rows}, $figure->{state}, $figure->{workload}, $subject,
			  $figure->{unit}, median(@$samples), min(@$samples), max(@$samples),
			  scalar(@$samples), defined $ratio ? sprintf('%.3f', $ratio) : '',
			  $self->command($figure);
		}
	}
	close($file) or die "$path: $!\n";
	return;
}

1;
