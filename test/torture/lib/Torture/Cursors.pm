# Cursors.pm
#	  Cursors over an alex index, read forward and backward in any strides.
#
# What a cursor must return is read beforehand, without the index, under the
# same snapshot; so they are opened under REPEATABLE READ and SERIALIZABLE
# only.  Rows with equal keys may come in any order, but in the same one each
# time.  The session's own changes after that must not be seen.
#
# Copyright (c) 2026, alexam contributors

package Torture::Cursors;

use strict;
use warnings;

use Torture::Reads;

sub open_cursor
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $transaction = $session->{transaction};
	my $order = Torture::Reads::draw_order($session, $table);
	my $condition = $random->one_in(2) ? 'true' : Torture::Reads::draw_condition($session, $table);
	my $shown = $table->{shown} =~ s/X/K/r;
	my $query = "SELECT coalesce(($shown)::text, 'null'), id FROM t WHERE $condition AND P ORDER BY K $order";
	my $hold = $random->one_in(4);
	my $scroll = $random->one_in(3) ? '' : 'SCROLL ';
	my $name = 'cursor' . ++$session->{ncursors};

	Torture::Reads::permit($session, 'any') or return;
	my $rows = $session->run(Torture::Reads::for_column($table, $query, 'c')) or return;

	Torture::Reads::permit($session, $random->pick('index', 'only')) or return;
	$transaction->{held} = 1 if $hold;
	$session->run("DECLARE $name ${scroll}CURSOR " . ($hold ? 'WITH HOLD ' : '') . 'FOR '
		  . Torture::Reads::for_column($table, $query, 'a'))
	  or return;
	$session->{cursors}{$name} = {
		keys => [ map { $_->[0] } @$rows ],
		ids => [],
		position => 0,
		scroll => $scroll ne '',
		hold => $hold,
		fresh => 1,
	};
	$session->{counts}{cursors}++;
	return;
}

# Reads some rows of some open cursor.
sub fetch
{
	my ($session) = @_;
	my $random = $session->{random};
	my $name = $random->pick(sort keys %{ $session->{cursors} });
	my $cursor = $session->{cursors}{$name};
	my $total = @{ $cursor->{keys} };
	my $step = $cursor->{scroll} && $random->one_in(2) ? -1 : 1;
	my $stride = $random->pick(1, 2, 7, 100, 1000);
	my @expected;

	if ($random->one_in(10))
	{
		delete $session->{cursors}{$name};
		return $session->run("CLOSE $name");
	}

	# positions run from 0, before the first row, to total + 1
	my $position = $cursor->{position};
	foreach (1 .. $stride)
	{
		last if $step < 0 ? $position <= 0 : $position > $total;
		$position += $step;
		push(@expected, $position) if $position >= 1 && $position <= $total;
	}
	my $rows = $session->run('FETCH ' . ($step < 0 ? 'BACKWARD' : 'FORWARD') . " $stride FROM $name")
	  or return;
	$cursor->{position} = $position;

	$session->fault(sprintf('%s returns %d rows instead of %d', $name, scalar @$rows, scalar @expected))
	  if @$rows != @expected;
	foreach my $row (@$rows)
	{
		my ($key, $id) = @$row;
		my $place = shift(@expected) - 1;
		my $known = $cursor->{ids}[$place] //= $id;

		$session->fault("$name, row $place: key $key instead of $cursor->{keys}[$place]")
		  if $key ne $cursor->{keys}[$place];
		$session->fault("$name, row $place: id $id, formerly $known") if $id != $known;
	}
	$session->{counts}{'rows fetched'} += @$rows;
	return;
}

1;
