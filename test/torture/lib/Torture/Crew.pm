# Crew.pm
#	  Several sessions, each in a process of its own, and whoever directs them.
#
# The director sends commands through pipes, one a line: the name of a method
# of the session and its arguments.  The answer is "ok" with what the method
# returned, "lost" if the connection ended, or "fault" with a text.
#
# Copyright (c) 2026, alexam contributors

package Torture::Crew;

use strict;
use warnings;

use IO::Handle;
use IO::Select;
use Time::HiRes qw(time);

# Starts a process for each session; to be called before there is any
# connection, which the processes would share.
sub new
{
	my ($class, @sessions) = @_;
	my $self = bless({ members => [] }, $class);

	foreach my $session (@sessions)
	{
		pipe(my $command_in, my $command_out) or die "pipe: $!\n";
		pipe(my $answer_in, my $answer_out) or die "pipe: $!\n";
		$_->autoflush(1) foreach $command_out, $answer_out;

		my $pid = fork() // die "fork: $!\n";
		if ($pid == 0)
		{
			close($_) foreach $command_out, $answer_in,
			  map { $_->{to}, $_->{from} } @{ $self->{members} };
			$SIG{INT} = $SIG{TERM} = 'DEFAULT';
			eval { serve($session, $command_in, $answer_out) };
			print STDERR $@ if $@;
			require POSIX;
			POSIX::_exit(0);
		}
		close($command_in);
		close($answer_out);
		push(@{ $self->{members} },
			{ session => $session, pid => $pid, to => $command_out, from => $answer_in, busy => 0 });
	}
	return $self;
}

# What a session's process does.
sub serve
{
	my ($session, $in, $out) = @_;

	while (defined(my $line = <$in>))
	{
		my ($method, @arguments) = split(' ', $line);
		last if $method eq 'quit';
		my $result = eval { $session->$method(@arguments) };
		my $error = $@;

		chomp($error);
		$error =~ s/\n/ /g;
		print $out $error eq '' ? 'ok ' . (defined($result) && !ref($result) ? $result : '')
		  : Torture::Session::is_lost($error) ? 'lost'
		  : "fault $error", "\n";
	}
	return;
}

sub members { return @{ $_[0]->{members} } }

sub tell
{
	my ($self, $member, $command) = @_;

	$member->{busy} = 1;
	print { $member->{to} } "$command\n";
	return;
}

# Waits for answers of these members, for a time or forever; returns those who
# have answered, with "answer" set.
sub answers
{
	my ($self, $patience, @members) = @_;
	my %by_handle = map { fileno($_->{from}) => $_ } @members;
	my $select = IO::Select->new(map { $_->{from} } @members);
	my @answered;

	foreach my $handle ($select->can_read($patience))
	{
		my $member = $by_handle{ fileno($handle) };
		my $answer = <$handle> // "fault the session's process has died\n";

		chomp($answer);
		$member->{answer} = $answer;
		$member->{busy} = 0;
		die "$1\n" if $answer =~ /^fault (.*)/;
		push(@answered, $member);
	}
	return @answered;
}

# Waits until nobody is busy.
sub settle
{
	my ($self, $patience) = @_;
	my $end = time() + $patience;

	while (my @busy = grep { $_->{busy} } $self->members)
	{
		die 'no answer from session ' . join(', ', map { $_->{session}{number} } @busy) . "\n"
		  if time() > $end;
		$self->answers($end - time(), @busy);
	}
	return;
}

# All do this at the same time; returns their answers.
sub all
{
	my ($self, $command, $patience) = @_;

	$self->tell($_, $command) foreach $self->members;
	$self->settle($patience // 300);
	return map { $_->{answer} } $self->members;
}

# The first does this.
sub one
{
	my ($self, $command) = @_;

	$self->tell($self->{members}[0], $command);
	return $self->settle(300);
}

sub dismiss
{
	my ($self) = @_;

	# some may have ended already
	local $SIG{PIPE} = 'IGNORE';
	foreach my $member ($self->members)
	{
		kill('TERM', $member->{pid}) if $member->{busy};
		print { $member->{to} } "quit\n";
		close($member->{to});
		waitpid($member->{pid}, 0);
	}
	return;
}

1;
