#
# Lab::Micro
#	  The micro-benchmarks of the learned room ("make bench-micro").
#
# Copyright (c) 2026, alexam contributors

package Lab::Micro;

use strict;
use warnings;

use Lab::Results;
use Lab::Server;

our $name = 'micro';

# Vector instructions, from the least on.
my @sets = qw(avx2 avx512);

sub measure
{
	my ($lab) = @_;
	my $keys  = $lab->{settings}{micro_keys};
	my $where = { keys => 'learned', rows => $keys };

	return if !$lab->{results}->is_wanted($where, $name);
	printf "== micro-benchmarks\n";
	$lab->{micro} = [ grep { /^#/ } Lab::Server::run("$ENV{WORK}/bin/micro", $keys) ];
	return;
}

# A line's number: what was measured, and how.
sub number_of
{
	my ($lab, $what, $how) = @_;

	foreach my $line (@{ $lab->{micro} // [] })
	{
		return $1 if $line =~ /^# \Q$what\E\s+\Q$how\E\s+([0-9.]+) (?:ns|%)$/;
	}
	return undef;
}

# How many times faster a kernel is than its scalar twin, with the best
# instructions that this processor has; undef if it has none.
sub gain
{
	my ($lab, $kernel) = @_;
	my $scalar = number_of($lab, "kernel: $kernel", 'scalar');
	my ($best) = grep { defined } map { number_of($lab, "kernel: $kernel", $_) } reverse @sets;

	return defined $scalar && $best ? $scalar / $best : undef;
}

1;
