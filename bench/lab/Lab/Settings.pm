#
# Lab::Settings
#	  How much is measured: sizes, rounds and the keys of the tables.
#
# Copyright (c) 2026, alexam contributors

package Lab::Settings;

use strict;
use warnings;

# rounds: of reads; write_rounds: of workloads that change the tables
my %modes = (
	full => {
		sizes         => [ 100_000, 1_000_000, 10_000_000 ],
		other_size    => 1_000_000,
		probes        => 200_000,
		rounds        => 5,
		write_rounds  => 3,
		build_rounds  => 3,
		upkeep_limit  => 1_000_000,
		mixed_least   => 1_000_000,
		duration      => 3,
		recovery_rows => 1_000_000,
		micro_keys    => 1_000_000,
	},
	quick => {
		sizes         => [ 20_000, 200_000 ],
		other_size    => 50_000,
		probes        => 20_000,
		rounds        => 3,
		write_rounds  => 1,
		build_rounds  => 1,
		upkeep_limit  => 200_000,
		mixed_least   => 200_000,
		duration      => 1,
		recovery_rows => 100_000,
		micro_keys    => 200_000,
	},
	smoke => {
		sizes         => [20_000],
		other_size    => 5_000,
		probes        => 500,
		rounds        => 1,
		write_rounds  => 1,
		build_rounds  => 1,
		upkeep_limit  => 20_000,
		mixed_least   => 0,
		duration      => 1,
		recovery_rows => 10_000,
		micro_keys    => 10_000,
	});

# All workloads run on the first two.
our @main_keys  = qw(sequential uniform);
our @other_keys = qw(lognormal duplicates series devices log);

sub number_of
{
	my ($text) = @_;
	my %factor = ('' => 1, 'k' => 1_000, 'M' => 1_000_000, 'G' => 1_000_000_000);

	$text =~ /^(\d+)([kMG]?)$/ or die "not a number of rows: $text\n";
	return $1 * $factor{$2};
}

# The subjects in their order of a round: each comes first in turn, since what
# is measured first may find caches and the server as another left them.
sub turns
{
	my ($round, @subjects) = @_;
	my $first = @subjects ? $round % @subjects : 0;

	return (@subjects[ $first .. $#subjects ], @subjects[ 0 .. $first - 1 ]);
}

# 10M for 10,000,000
sub show_number
{
	my ($number) = @_;

	return $number / 1_000_000 . 'M' if $number >= 1_000_000;
	return $number / 1_000 . 'k'     if $number >= 1_000;
	return $number;
}

sub from_environment
{
	my $mode = $ENV{SMOKE} ? 'smoke' : $ENV{QUICK} ? 'quick' : 'full';
	my %settings = %{ $modes{$mode} };

	$settings{mode}  = $mode;
	$settings{sizes} = [ map { number_of($_) } split(' ', $ENV{ROWS}) ] if $ENV{ROWS};
	$settings{only}  = $ENV{ONLY} ? qr/$ENV{ONLY}/ : qr//;
	$settings{file}  = $ENV{KEY_FILE};
	$settings{seed}  = 20260101;
	return \%settings;
}

1;
