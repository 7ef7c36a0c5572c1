# Random.pm
#	  Pseudo-random numbers that depend on a seed and on nothing else.
#
# Perl's own generator is one for the whole process, and another after an
# upgrade.  Here each user has a stream of its own, named by seed and title, so
# that what one draws does not change what another gets.
#
# Copyright (c) 2026, alexam contributors

package Torture::Random;

use strict;
use warnings;

use constant WORD => 0xffffffff;

# The generator is Marsaglia's xorshift with 128 bits of state.
sub new
{
	my ($class, $seed, $title) = @_;
	my $hash = 0x811c9dc5;
	my @state;

	foreach my $word (0 .. 3)
	{
		foreach my $byte (unpack('C*', "$word/$seed/$title"))
		{
			$hash = (($hash ^ $byte) * 0x01000193) & WORD;
		}
		push(@state, $hash | 1 << $word);
	}
	my $self = bless({ state => \@state }, $class);

	$self->word foreach 1 .. 20;
	return $self;
}

sub word
{
	my ($self) = @_;
	my $state = $self->{state};
	my $t = shift(@$state);
	my $last = $state->[2];

	$t ^= ($t << 11) & WORD;
	$t ^= $t >> 8;
	push(@$state, $last ^ ($last >> 19) ^ $t);
	return $state->[3];
}

# An integer from 0 to $n - 1.
sub below
{
	my ($self, $n) = @_;

	return $self->word % $n;
}

sub between
{
	my ($self, $low, $high) = @_;

	return $low + $self->below($high - $low + 1);
}

# True once in $n times.
sub one_in
{
	my ($self, $n) = @_;

	return $self->below($n) == 0 ? 1 : 0;
}

sub pick
{
	my ($self, @choices) = @_;

	return $choices[ $self->below(scalar @choices) ];
}

# One of pairs [weight, choice].
sub weighted
{
	my ($self, @pairs) = @_;
	my $sum = 0;

	$sum += $_->[0] foreach @pairs;
	my $place = $self->below($sum);
	foreach my $pair (@pairs)
	{
		return $pair->[1] if ($place -= $pair->[0]) < 0;
	}
	die 'unreachable';
}

1;
