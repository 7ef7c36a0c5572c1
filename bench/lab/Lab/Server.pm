#
# Lab::Server
#	  The PostgreSQL server: one connection, statements with their times, and
#	  stopping and starting.
#
# Copyright (c) 2026, alexam contributors

package Lab::Server;

use strict;
use warnings;

use DBI;
use IO::Select;
use Time::HiRes qw(time sleep);

# Plans of probes are nested loops over the index in question.
my %always = (
	enable_hashjoin  => 'off',
	enable_mergejoin => 'off',
	enable_material  => 'off',
	enable_memoize   => 'off',
	enable_seqscan   => 'off',
	enable_sort      => 'on');

sub new
{
	my ($class) = @_;
	my $self = bless({}, $class);

	$self->connect;
	return $self;
}

sub connect
{
	my ($self) = @_;

	$self->{db} = DBI->connect("dbi:Pg:host=$ENV{PGHOST};port=$ENV{PGPORT};dbname=postgres",
		'postgres', '', { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
	$self->{db}->do("SET $_ = '$always{$_}'") foreach (sort keys %always);
	return;
}

sub do
{
	my ($self, @statements) = @_;

	$self->{db}->do($_) foreach (@statements);
	return;
}

# The first column of the first row.
sub value
{
	my ($self, $query) = @_;

	return ($self->{db}->selectrow_array($query))[0];
}

sub column
{
	my ($self, $query) = @_;

	return $self->{db}->selectcol_arrayref($query);
}

# Milliseconds, and the first row joined by commas.
sub timed_query
{
	my ($self, $query) = @_;
	my $start = time;
	my @row   = $self->{db}->selectrow_array($query);

	return (1000 * (time - $start), join(',', map { $_ // '' } @row));
}

sub timed
{
	my ($self, @statements) = @_;
	my $start = time;

	$self->{db}->do($_) foreach (@statements);
	return 1000 * (time - $start);
}

sub wal_position
{
	my ($self) = @_;

	return $self->value("SELECT pg_current_wal_insert_lsn() - '0/0'");
}

# How many workers of alex are at work, or were a moment ago.  They wait for
# more for a while before they go.
sub workers
{
	my ($self) = @_;

	return $self->value(
		"SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'alexam%worker%' "
		  . "AND (state IS DISTINCT FROM 'idle' OR state_change > clock_timestamp() - interval '0.1 s')");
}

# Waits until no worker of alex has anything to do.
sub settle
{
	my ($self) = @_;
	my ($quiet, $before) = (0, '');

	foreach my $attempt (1 .. 10_000)
	{
		my $now = $self->wal_position;

		$quiet = $now eq $before && $self->workers == 0 ? $quiet + 1 : 0;
		return if $quiet == 3;
		$before = $now;
		sleep(0.02 * 3**$quiet);
	}
	die "the server does not come to rest\n";
}

# Run a program; its output.
sub run
{
	return run_beside(undef, @_);
}

# Run a program; its output.  What it says of errors matters if it fails.  The
# function, if one is given, is called now and then while nothing is printed.
sub run_beside
{
	my ($meanwhile, @command) = @_;
	my $errors = "$ENV{WORK}/run/errors";

	open(my $stderr, '>&', \*STDERR) or die "standard error: $!\n";
	open(STDERR, '>', $errors) or die "$errors: $!\n";
	my $started = open(my $pipe, '-|', @command);
	open(STDERR, '>&', $stderr) or die "standard error: $!\n";
	die "$command[0]: $!\n" if !$started;
	my $select = IO::Select->new($pipe);
	my $output = '';
	while ($select->can_read(0.2) ? sysread($pipe, $output, 65536, length($output)) : 1)
	{
		$meanwhile->() if $meanwhile;
	}
	my @lines = split(/^/m, $output);
	if (!close($pipe))
	{
		open(my $file, '<', $errors);
		die "@command fails\n", <$file>;
	}
	return @lines;
}

sub control
{
	my ($self, @arguments) = @_;

	system("$ENV{BINDIR}/pg_ctl", '--silent', '--wait', "--pgdata=$ENV{WORK}/data",
		"--log=$ENV{WORK}/server.log", @arguments) == 0
	  or die "pg_ctl @arguments fails\n";
	return;
}

# Milliseconds from the start of a server that crashed to the first answer.
sub crash_and_recover
{
	my ($self, $query) = @_;

	$self->{db}->disconnect;
	$self->control('--mode=immediate', 'stop');
	my $start = time;
	$self->control('start');
	$self->connect;
	my $answer = $self->value($query);
	return (1000 * (time - $start), $answer);
}

1;
