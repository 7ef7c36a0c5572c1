# Model.pm
#	  What rows of a session should exist, kept outside of the server.
#
# A row is known by table and id, and has the number n, from which its key is
# made, and a version.  The session tells what it does, transaction control
# included; nobody else changes its rows.  So at any moment, within and outside
# of a transaction, what it sees of its rows must be what the model has.
#
# Each change leaves the former row in a list, from which rolling back restores
# it.  A prepared transaction's list is set aside with the rows as they will be,
# as its changes are unseen until COMMIT PREPARED.
#
# Copyright (c) 2026, alexam contributors

package Torture::Model;

use strict;
use warnings;

sub new
{
	my ($class) = @_;

	# a change is [table, id, former row, later row], a savepoint is [name,
	# number of changes before it]
	return bless(
		{ rows => {}, changes => [], savepoints => [], prepared => undef },
		$class);
}

# The rows of a table: id => [n, version].
sub rows
{
	my ($self, $table) = @_;

	return $self->{rows}{$table} //= {};
}

# A row comes, changes, or (without $row) goes.
sub set
{
	my ($self, $table, $id, $row) = @_;

	push(@{ $self->{changes} }, [ $table, $id, $self->rows($table)->{$id}, $row ]);
	$self->put($table, $id, $row);
	return;
}

sub put
{
	my ($self, $table, $id, $row) = @_;

	if (defined($row))
	{
		$self->rows($table)->{$id} = $row;
	}
	else
	{
		delete $self->rows($table)->{$id};
	}
	return;
}

sub truncate_table
{
	my ($self, $table) = @_;

	$self->set($table, $_, undef) foreach sort { $a <=> $b } keys %{ $self->rows($table) };
	return;
}

# An unlogged table is empty after a crash.
sub forget
{
	my ($self, $table) = @_;

	$self->{rows}{$table} = {};
	$self->{prepared} = [ grep { $_->[0] ne $table } @{ $self->{prepared} } ]
	  if $self->{prepared};
	return;
}

sub undo
{
	my ($self, $keep) = @_;
	my $changes = $self->{changes};

	while (@$changes > $keep)
	{
		my ($table, $id, $former) = @{ pop(@$changes) };

		$self->put($table, $id, $former);
	}
	return;
}

sub savepoint
{
	my ($self, $name) = @_;

	push(@{ $self->{savepoints} }, [ $name, scalar @{ $self->{changes} } ]);
	return;
}

# Ends the savepoints down to the last one of that name; returns the number of
# changes before that one.
sub leave_savepoint
{
	my ($self, $name) = @_;

	while (my $savepoint = pop(@{ $self->{savepoints} }))
	{
		return $savepoint->[1] if $savepoint->[0] eq $name;
	}
	die "there is no savepoint $name\n";
}

sub release
{
	my ($self, $name) = @_;

	$self->leave_savepoint($name);
	return;
}

# The savepoint itself stays.
sub rollback_to
{
	my ($self, $name) = @_;

	$self->undo($self->leave_savepoint($name));
	$self->savepoint($name);
	return;
}

sub commit
{
	my ($self) = @_;

	$self->{changes} = [];
	$self->{savepoints} = [];
	return;
}

sub rollback
{
	my ($self) = @_;

	$self->undo(0);
	$self->{savepoints} = [];
	return;
}

# The transaction's changes vanish from sight until it is finished.
sub prepare
{
	my ($self) = @_;
	my $changes = [ @{ $self->{changes} } ];

	$self->rollback;
	$self->{prepared} = $changes;
	return;
}

sub commit_prepared
{
	my ($self) = @_;

	foreach my $change (@{ $self->{prepared} })
	{
		my ($table, $id, undef, $row) = @$change;

		$self->put($table, $id, $row);
	}
	$self->{prepared} = undef;
	return;
}

sub rollback_prepared
{
	my ($self) = @_;

	$self->{prepared} = undef;
	return;
}

# Whether a table has changes in the prepared transaction.
sub is_prepared
{
	my ($self, $table) = @_;

	return grep { $_->[0] eq $table } @{ $self->{prepared} // [] };
}

# The tables changed in the current transaction.
sub changed_tables
{
	my ($self) = @_;
	my %tables = map { $_->[0] => 1 } @{ $self->{changes} };

	return sort keys %tables;
}

# The first differences between rows (id => [n, version]) and the model.
sub differences
{
	my ($self, $table, $found) = @_;
	my $rows = $self->rows($table);
	my @complaints;

	foreach my $id (sort { $a <=> $b } keys %$rows)
	{
		my $expected = join('.', map { $_ // 'null' } @{ $rows->{$id} });
		my $actual = $found->{$id} ? join('.', map { $_ // 'null' } @{ $found->{$id} }) : 'missing';

		push(@complaints, "row $id is $actual instead of $expected") if $actual ne $expected;
	}
	foreach my $id (sort { $a <=> $b } keys %$found)
	{
		push(@complaints, "row $id should not exist") if !exists($rows->{$id});
	}
	return @complaints;
}

1;
