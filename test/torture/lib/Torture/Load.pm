# Load.pm
#	  The load: what a session does next.
#
# Copyright (c) 2026, alexam contributors

package Torture::Load;

use strict;
use warnings;

use parent -norequire, 'Torture::Session';

use Torture::Cursors;
use Torture::Maintenance;
use Torture::Reads;
use Torture::Session;
use Torture::Writes;
use Time::HiRes qw(time);

# How often what is done, in a transaction and outside; a "profile" multiplies
# these by kind of step.
my @writes = (
	[ 6, \&Torture::Writes::insert_one ],
	[ 5, \&Torture::Writes::insert_few ],
	[ 3, \&Torture::Writes::insert_copy ],
	[ 2, \&Torture::Writes::insert_select ],
	[ 5, \&Torture::Writes::update_version ],
	[ 5, \&Torture::Writes::update_key ],
	[ 5, \&Torture::Writes::update_range ],
	[ 3, \&Torture::Writes::delete_range ],
	[ 5, \&Torture::Writes::delete_some ],
	[ 3, \&Torture::Writes::upsert ],
	[ 5, \&Torture::Writes::change_shared ],
	[ 1, \&Torture::Writes::lock_shared ]);
my @maintenance = (
	[ 8, \&Torture::Maintenance::vacuum ],
	[ 1, \&Torture::Maintenance::vacuum_full ],
	[ 3, \&Torture::Maintenance::reindex ],
	[ 2, \&Torture::Maintenance::replace ],
	[ 1, \&Torture::Maintenance::cluster ],
	[ 3, \&Torture::Maintenance::compact ],
	[ 6, \&Torture::Maintenance::check ],
	[ 1, \&Torture::Maintenance::statistics ],
	[ 1, \&Torture::Maintenance::move ],
	[ 1, \&Torture::Maintenance::checkpoint ],
	[ 1, \&Torture::Maintenance::analyze ]);

# Settings that a session may change at any time, with their values.
my %settings = (
	'alexam.use_mmap' => [qw(on on off)],
	'alexam.memtable_entries' => [ 100, 300, 2000, 500000 ],
	'alexam.batch_size' => [ 1, 7, 100, 1000000 ],
	'alexam.batch_memory' => [ '64kB', '64kB', '1MB' ],
	'alexam.direct_seal_threshold' => [ 1, 20, 100, 100000 ],
	'alexam.bloom_bits' => [ 0, 2, 11 ],
	'work_mem' => [ '64kB', '4MB' ],
	'maintenance_work_mem' => [ '1MB', '64MB' ],
	'max_parallel_maintenance_workers' => [ 0, 2 ],
	'effective_io_concurrency' => [ 0, 1, 16 ],
	'debug_discard_caches' => [ (0) x 30 ],
	'plan_cache_mode' => [qw(auto force_generic_plan force_custom_plan)]);

# Points at which an operation of the access method may fail.
our @failpoints = qw(append-after-page log-before-link flush-before-entries flush-after-entries
  seal-after-freeze seal-before-install seal-after-install
  direct-seal-before-install direct-seal-after-install
  run-before-model run-before-flush build-before-install
  compact-before-install compact-after-install compact-before-safexid
  remove-before-free sweep-before-wait
  vacuum-before-epoch vacuum-before-flush vacuum-before-barrier vacuum-after-barrier
  unique-before-heap unique-before-append);

# One step.  Tables are those that the session may write, or any.
sub step
{
	my ($self) = @_;
	my $random = $self->{random};
	my $weights = $self->{profile};
	my @tables = grep { !$_->{temporary} || $self->may_use_temporary } @{ $self->{tables} };
	my $table = $random->pick(@tables);
	my @writable = grep { $_->{owner} == 0 || $_->{owner} == $self->{number} } @tables;
	my $mine = $random->pick(@writable);

	$self->{counts}{steps}++;
	if (%{ $self->{cursors} } && $random->one_in(3))
	{
		return Torture::Cursors::fetch($self);
	}
	return $self->step_within($table, $mine) if $self->{transaction};
	return $self->step_beside_prepared($table) if $self->{gid};
	return $self->disarm if $self->{armed} && $random->one_in(8);

	my $what = $random->weighted(
		[ 20 * $weights->{write}, 'write' ],
		[ 20 * $weights->{read}, 'read' ],
		[ 15 * $weights->{transaction}, 'begin' ],
		[ 7 * $weights->{maintain}, 'maintain' ],
		[ 4 * $weights->{read}, 'model' ],
		[ 1 * $weights->{maintain}, 'truncate' ],
		[ $weights->{fail}, 'arm' ],
		[ 3, 'shuffle' ]);

	return $random->weighted(@writes)->($self, $mine) if $what eq 'write';
	return Torture::Reads::compare($self, $table) if $what eq 'read';
	return $self->compare_model($mine) if $what eq 'model';
	return $self->shuffle if $what eq 'shuffle';
	return $self->arm($random->pick(@failpoints)) if $what eq 'arm';
	return $self->begin($random->pick('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'))
	  if $what eq 'begin';
	if ($what eq 'truncate')
	{
		my @own = grep { $_->{owner} == $self->{number} } @{ $self->{tables} };

		return Torture::Maintenance::truncate_own($self, $random->pick(@own));
	}
	return $random->weighted(@maintenance)->($self, $table);
}

# Temporary tables and two-phase commit do not go together: a transaction has
# one or the other.
sub may_use_temporary
{
	my ($self) = @_;

	return 1 if !$self->{transaction};
	return $self->{transaction}{temporary} //= $self->{random}->one_in(4);
}

# One within a transaction.
sub step_within
{
	my ($self, $table, $mine) = @_;
	my $random = $self->{random};
	my $weights = $self->{profile};
	my $transaction = $self->{transaction};
	my @savepoints = @{ $transaction->{savepoints} };
	my $what = $random->weighted(
		[ 30 * $weights->{write}, 'write' ],
		[ 20 * $weights->{read}, 'read' ],
		[ 4 * $weights->{read}, 'model' ],
		[ 6, 'savepoint' ],
		[ 3, 'release' ],
		[ 4, 'rollback to' ],
		[ $transaction->{isolation} ne 'READ COMMITTED' ? 4 * $weights->{read} : 0, 'cursor' ],
		[ 1 * $weights->{maintain}, 'rebuild' ],
		[ 1 * $weights->{maintain}, 'truncate' ],
		[ 7, 'commit' ],
		[ 3, 'rollback' ],
		[ $transaction->{held} || $transaction->{temporary} ? 0 : 2, 'prepare' ],
		[ 1, 'shuffle' ]);

	return $random->weighted(@writes)->($self, $mine) if $what eq 'write';
	return Torture::Reads::compare($self, $table) if $what eq 'read';
	return $self->compare_model($mine) if $what eq 'model';
	return $self->savepoint if $what eq 'savepoint';
	return $self->shuffle if $what eq 'shuffle';
	return Torture::Cursors::open_cursor($self, $table) if $what eq 'cursor';
	return Torture::Maintenance::rebuild_within($self, $mine) if $what eq 'rebuild';
	return Torture::Maintenance::truncate_and_back($self, $mine) if $what eq 'truncate';
	return $self->commit if $what eq 'commit';
	return $self->rollback if $what eq 'rollback';
	return $self->prepare if $what eq 'prepare';
	return if !@savepoints;
	return $self->release($random->pick(@savepoints)) if $what eq 'release';
	return $self->rollback_to($random->pick(@savepoints));
}

# One while a transaction of the session is prepared: no changes, which would
# wait for it.
sub step_beside_prepared
{
	my ($self, $table) = @_;
	my $what = $self->{random}->weighted(
		[ 3, 'read' ],
		[ 1, 'vacuum' ],
		[ 1, 'check' ],
		[ 1, 'compact' ],
		[ 3, 'finish' ]);

	return Torture::Reads::compare($self, $table) if $what eq 'read';
	return Torture::Maintenance::vacuum($self, $table) if $what eq 'vacuum';
	return Torture::Maintenance::check($self, $table) if $what eq 'check';
	return Torture::Maintenance::compact($self, $table) if $what eq 'compact';
	return $self->finish_prepared;
}

# Another value for some setting.
sub shuffle
{
	my ($self) = @_;
	my $name = $self->{random}->pick(sort keys %settings);
	my $value = $self->{random}->pick(@{ $settings{$name} });

	return $self->run("SET $name = '$value'");
}

# Steps for so many seconds.
sub work
{
	my ($self, $seconds) = @_;
	my $end = time() + $seconds;

	$self->step while time() < $end;
	return;
}

# The session's rows of all tables are those of the model, also when they are
# looked for through the alex index.
sub verify
{
	my ($self) = @_;

	foreach my $table (@{ $self->{tables} })
	{
		next if $table->{owner} != 0 && $table->{owner} != $self->{number};
		$self->compare_model($table) || $self->fault("$table->{name} cannot be read: $self->{last_error}");
	}
	return;
}

# Every table has its indexes again, unless somebody's transaction is in the way.
sub clear_up
{
	my ($self) = @_;

	Torture::Maintenance::clear_up($self, $_) foreach @{ $self->{tables} };
	return;
}

# What has been counted, as text.
sub tally
{
	my ($self) = @_;

	return join(';', map { "$_=$self->{counts}{$_}" } sort keys %{ $self->{counts} });
}

1;
