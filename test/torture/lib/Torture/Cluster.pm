# Cluster.pm
#	  A server that is started, stopped and killed.
#
# Unlike PostgreSQL::Test::Cluster, which is made for one test script, this has
# its directory where it is told, can be killed at any moment and be looked at
# by several processes.
#
# Copyright (c) 2026, alexam contributors

package Torture::Cluster;

use strict;
use warnings;

use DBI;
use POSIX ();
use Time::HiRes qw(sleep time);

use constant PATIENCE => 120;

# The arguments: directory (made here), bindir of the installation, settings
# (a text), socket (the directory of the server's socket).
sub new
{
	my ($class, %self) = @_;

	$self{data} = "$self{directory}/data";
	$self{log} = "$self{directory}/server.log";
	$self{socket} //= $self{directory};
	$self{port} //= 5432;
	return bless(\%self, $class);
}

sub create
{
	my ($self, @options) = @_;

	$self->run('initdb', '--no-sync', '--auth=trust', '--username=postgres',
		'--encoding=UTF8', '--no-locale', '--data-checksums', @options,
		"--pgdata=$self->{data}");
	$self->configure("$self->{settings}include_if_exists = 'change.conf'\n");
	return;
}

# Replaces settings that stand apart from the others; they are in force after
# a start, or a reload.
sub change
{
	my ($self, $settings) = @_;
	my $path = "$self->{data}/change.conf";

	open(my $file, '>', "$path.new") or die "$path: $!\n";
	print $file $settings;
	close($file) or die "$path: $!\n";
	rename("$path.new", $path) or die "$path: $!\n";
	return;
}

sub reload
{
	my ($self) = @_;
	my $pid = $self->pid;

	return $pid && kill('HUP', $pid);
}

# Adds settings to the configuration file.
sub configure
{
	my ($self, $settings) = @_;

	open(my $file, '>>', "$self->{data}/postgresql.conf") or die "postgresql.conf: $!\n";
	print $file "port = $self->{port}\nlisten_addresses = ''\n",
	  "unix_socket_directories = '$self->{socket}'\n$settings\n";
	close($file) or die "postgresql.conf: $!\n";
	return;
}

# Runs one of the server's programs.
sub run
{
	my ($self, $program, @arguments) = @_;

	my $pid = fork() // die "fork: $!\n";
	if ($pid == 0)
	{
		open(STDOUT, '>>', "$self->{directory}/output") && open(STDERR, '>&', \*STDOUT)
		  && exec("$self->{bindir}/$program", @arguments);
		POSIX::_exit(127);
	}
	waitpid($pid, 0);
	die "$program fails, see $self->{directory}/output and $self->{log}\n" if $? != 0;
	return;
}

# PostgreSQL's own fault: when a transaction that made an unlogged relation is
# rolled back, its init fork is removed at once, its main fork cut to nothing and
# kept until the next checkpoint.  If the server dies before the record of the
# rollback is written, redo makes the init fork anew, and the main fork is in its
# way.  The next start removes it.
my $own_fault = qr{FATAL:  could not create file "[\w/]+": File exists};

sub start
{
	my ($self) = @_;
	my @command = ('pg_ctl', "--pgdata=$self->{data}", "--log=$self->{log}", '--wait',
		'--timeout=' . PATIENCE, '--silent', 'start');
	my (undef, $position) = $self->log_since(0);

	return if eval { $self->run(@command); 1 };
	my $error = $@;
	my ($text) = $self->log_since($position);

	die $error if $text !~ $own_fault;
	$self->{second_starts}++;
	$self->run(@command);
	return;
}

# Waits for the postmaster to recover from the crash of a process by itself.
# False if it meets with that same fault, of which the log from this position
# on tells; then it has ended.
sub recovers
{
	my ($self, $position) = @_;

	$self->wait_until(sub { !$self->pid || $self->try_to_connect },
		'the server does not recover');
	return 1 if $self->pid;
	my ($text) = $self->log_since($position);
	die "the server has ended, see $self->{log}\n" if $text !~ $own_fault;
	$self->{second_starts}++;
	return 0;
}

# Starts the server and kills it a moment later, in the midst of recovery.
sub start_and_kill
{
	my ($self, $seconds) = @_;

	$self->run('pg_ctl', "--pgdata=$self->{data}", "--log=$self->{log}", '--no-wait', '--silent', 'start');
	sleep($seconds);
	$self->wait_until(sub { $self->pid }, 'the server does not start');
	$self->kill_postmaster;
	return;
}

sub stop
{
	my ($self, $mode) = @_;

	$self->run('pg_ctl', "--pgdata=$self->{data}", "--mode=$mode", '--wait',
		'--timeout=' . PATIENCE, '--silent', 'stop');
	return;
}

# The postmaster's process id, if there is one.
sub pid
{
	my ($self) = @_;

	open(my $file, '<', "$self->{data}/postmaster.pid") or return;
	my $pid = <$file>;
	close($file);
	return defined($pid) && $pid =~ /^(\d+)$/ && kill(0, $1) ? $1 : undef;
}

# Kills the postmaster, and waits until its children have noticed: they are
# attached to the shared memory, so that no other can be started before.
sub kill_postmaster
{
	my ($self) = @_;
	my $pid = $self->pid or return;
	my @all = ($pid, $self->children($pid));

	kill('KILL', $pid);
	$self->wait_until(
		sub { !grep { kill(0, $_) } @all },
		'the killed server leaves processes behind');
	return;
}

# The processes that a postmaster has started.
sub children
{
	my ($self, $postmaster) = @_;
	my @children;

	foreach my $file (glob('/proc/[0-9]*/stat'))
	{
		open(my $stat, '<', $file) or next;
		my $line = <$stat>;
		close($stat);
		push(@children, $1) if defined($line) && $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $postmaster;
	}
	return @children;
}

sub wait_until
{
	my ($self, $condition, $complaint) = @_;
	my $end = time() + PATIENCE;

	while (!$condition->())
	{
		die "$complaint\n" if time() > $end;
		sleep(0.01);
	}
	return;
}

# A connection, or undef while the server is starting or stopping.
sub try_to_connect
{
	my ($self) = @_;
	my $handle = DBI->connect("dbi:Pg:dbname=postgres;host=$self->{socket};port=$self->{port}",
		'postgres', '', { RaiseError => 0, PrintError => 0, PrintWarn => 0, AutoCommit => 1 });

	die "no connection: $DBI::errstr\n"
	  if !$handle
	  && $DBI::errstr !~ /the database system is|No such file|Connection refused|server closed|terminat/;
	return $handle;
}

# Connects, waiting until the server accepts connections.
sub connect
{
	my ($self) = @_;
	my $handle;

	$self->wait_until(sub { $handle = $self->try_to_connect }, 'the server accepts no connections');
	$handle->{pg_server_prepare} = 0;
	return $handle;
}

# The part of the server's log after a position, and the position of its end.
sub log_since
{
	my ($self, $position) = @_;

	open(my $file, '<', $self->{log}) or return ('', 0);
	seek($file, $position, 0);
	local $/ = undef;
	my $text = <$file> // '';
	return ($text, $position + length($text));
}

1;
