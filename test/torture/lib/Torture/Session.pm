# Session.pm
#	  One session of a torture test: its connection, its log, its transactions,
#	  and what it makes of errors.
#
# Errors that concurrency brings about end a transaction, and the model follows.
# Any other is a fault, unless whoever sent the statement says that it may come.
# The end of the connection is for the caller to deal with; "doubt" then says
# what was on its way.
#
# Copyright (c) 2026, alexam contributors

package Torture::Session;

use strict;
use warnings;

use Time::HiRes qw(time);
use Torture::Model;
use Torture::Random;
use Torture::Tables qw(first_id last_id table_sql);

# serialization failure, deadlock, lock not available; undefined table, as a
# private one may be dropped and made again
my %concurrency = map { $_ => 1 } qw(40001 40P01 55P03 42P01);
my $lost = qr/server closed the connection|terminating connection|no connection to the server
	|could not (send|receive)|connection.*(lost|failed|refused)|the database system is|SSL SYSCALL/x;

# Arguments: number (from 1), seed, cluster, tables, log (a file), lock_timeout.
sub new
{
	my ($class, %self) = @_;
	my $self = bless(\%self, $class);

	$self->{tables} = [ grep { !$_->{temporary} || $_->{owner} == $self->{number} } @{ $self->{tables} } ];
	$self->{random} = Torture::Random->new($self{seed}, "session $self{number}");
	$self->{model} = Torture::Model->new;
	$self->{next_id} = first_id($self{number}) + 1;
	$self->{version} = 0;
	$self->{transactions} = 0;
	$self->{counts} = {};
	$self->open_log;
	return $self;
}

# A new log; the one before is kept.
sub open_log
{
	my ($self) = @_;

	rename($self->{log}, "$self->{log}.before");
	open($self->{file}, '>', $self->{log}) or die "$self->{log}: $!\n";
	$self->{file}->autoflush(1);
	return;
}

sub note
{
	my ($self, $text) = @_;

	$text = substr($text, 0, 2000) . ' ...' if length($text) > 2000;
	printf { $self->{file} } "%.3f %s\n", time(), $text;
	return;
}

# Something is not as it must be.
sub fault
{
	my ($self, $text) = @_;

	$self->note("FAULT: $text");
	die "session $self->{number}: $text\n";
}

# The session has locks under which others cannot even read a table.
sub takes_exclusive_lock
{
	my ($self) = @_;

	$self->{transaction}{exclusive} = 1 if $self->{transaction};
	return;
}

sub connect
{
	my ($self) = @_;

	$self->{handle} = $self->{cluster}->connect;
	$self->{transaction} = undef;
	$self->{cursors} = {};
	$self->{armed} = 0;
	foreach my $setting ("application_name = 'session $self->{number}'", "lock_timeout = '$self->{lock_timeout}'",
		"statement_timeout = '120s'", "deadlock_timeout = '50ms'", 'client_min_messages = error',
		"timezone = 'UTC'")
	{
		$self->run("SET $setting");
	}
	foreach my $table (grep { $_->{temporary} } @{ $self->{tables} })
	{
		$self->run($_) foreach table_sql($table);
	}
	return;
}

sub is_lost
{
	my ($error) = @_;

	return $error =~ /^lost: /;
}

# Runs a statement; returns the rows (as an array), or nothing after an error
# that may come.  "may" is a pattern of further such errors, "what" tells
# what a lost connection leaves in doubt.
sub run
{
	my ($self, $statement, %options) = @_;
	my $handle = $self->{handle};
	my $begun = time();
	my $rows = [];

	$self->note("$statement;");
	$self->{doubt} = $options{doubt} // '';
	$self->{counts}{statements}++;

	my $result = $handle->prepare($statement, { pg_direct => 1 });
	my $good = $result && defined($result->execute);
	$rows = $result->fetchall_arrayref if $good && $result->{NUM_OF_FIELDS};
	if ($good && !$handle->err)
	{
		$self->note(sprintf("  ok, %d rows, %.0f ms", scalar @$rows, 1000 * (time() - $begun)));
		$self->{doubt} = '';
		return $rows;
	}
	return $self->failed($statement, $handle->state // '', $handle->errstr // '', $options{may});
}

sub failed
{
	my ($self, $statement, $state, $message, $may) = @_;

	$message =~ s/\s*\n\s*/ /g;
	$self->note("  $state $message");
	die "lost: $message\n" if $message =~ $lost || !$self->{handle}->ping;
	$self->{doubt} = '';
	$self->fault("$statement: $state $message")
	  if !$concurrency{$state} && (!defined($may) || "$state $message" !~ $may)
	  && $message !~ /failpoint ".*" reached/;
	$self->{counts}{ $message =~ /failpoint/ ? 'failpoints' : "error $state" }++;
	$self->{last_error} = "$state $message";
	$self->recover if $self->{transaction};
	return;
}

# The transaction has failed: go back to a savepoint, or give up.
sub recover
{
	my ($self) = @_;
	my @savepoints = @{ $self->{transaction}{savepoints} };

	if (@savepoints && $self->{last_error} !~ /^40001/ && $self->{random}->one_in(2))
	{
		$self->rollback_to($self->{random}->pick(@savepoints));
	}
	else
	{
		$self->rollback;
	}
	return;
}

# Runs a statement that changes rows: [table, id, new row] each.
sub change
{
	my ($self, $statement, $changes, %options) = @_;

	$self->{attempt} = $changes;
	my $rows = $self->run($statement, doubt => $self->{transaction} ? '' : 'statement', %options)
	  or return;

	$self->apply($changes);
	return $rows;
}

# These changes have been made.
sub apply
{
	my ($self, $changes) = @_;

	$self->{model}->set($_->[0], $_->[1], $_->[2]) foreach @$changes;
	$self->{counts}{changes} += @$changes;
	if (!$self->{transaction})
	{
		$self->{model}->commit;
		$self->{counts}{commits}++;
	}
	return;
}

# COPY FROM STDIN of these lines, otherwise like change().
sub copy
{
	my ($self, $statement, $lines, $changes, %options) = @_;
	my $handle = $self->{handle};

	$self->{attempt} = $changes;
	$self->note("$statement; -- " . join('', map { s/\n/; /r =~ s/\t/,/gr } @$lines));
	$self->{doubt} = $self->{transaction} ? '' : 'statement';
	$self->{counts}{statements}++;

	my $good = defined($handle->do($statement));
	foreach my $line (@$lines)
	{
		$good &&= $handle->pg_putcopydata($line);
	}
	$good &&= $handle->pg_putcopyend;
	return $self->failed($statement, $handle->state // '', $handle->errstr // '', $options{may})
	  if !$good;
	$self->note('  ok');
	$self->{doubt} = '';
	$self->apply($changes);
	return 1;
}

sub begin
{
	my ($self, $isolation) = @_;

	$self->run("BEGIN ISOLATION LEVEL $isolation") or return;
	$self->{transaction} = { isolation => $isolation, savepoints => [], cursors => {} };
	return;
}

# COMMIT may fail, and is a rollback then.
sub end_by
{
	my ($self, $statement, $doubt) = @_;

	# a failure needs no ROLLBACK
	$self->{transaction} = undef;
	my $done = $self->run($statement, doubt => $doubt);

	delete $self->{cursors}{$_} foreach grep { !$self->{cursors}{$_}{hold} } keys %{ $self->{cursors} };
	return $done;
}

sub commit
{
	my ($self) = @_;

	if ($self->end_by('COMMIT', 'commit'))
	{
		$self->{model}->commit;
		$self->{counts}{commits}++;
	}
	else
	{
		$self->{model}->rollback;
		delete $self->{cursors}{$_} foreach grep { $self->{cursors}{$_}{fresh} } keys %{ $self->{cursors} };
	}
	delete $_->{fresh} foreach values %{ $self->{cursors} };
	return;
}

sub rollback
{
	my ($self) = @_;

	$self->end_by('ROLLBACK', '');
	$self->{model}->rollback;
	delete $self->{cursors}{$_} foreach grep { $self->{cursors}{$_}{fresh} } keys %{ $self->{cursors} };
	$self->{counts}{rollbacks}++;
	return;
}

# Two-phase commit; the session goes on reading before it is finished.
sub prepare
{
	my ($self) = @_;
	my $gid = "session $self->{number}, " . ++$self->{transactions};

	$self->{next_gid} = $gid;
	$self->{gid_exclusive} = $self->{transaction}{exclusive};
	if ($self->end_by("PREPARE TRANSACTION '$gid'", 'prepare'))
	{
		$self->{gid} = $gid;
		$self->{model}->prepare;
		$self->{counts}{prepared}++;
	}
	else
	{
		$self->{model}->rollback;
	}
	return;
}

sub finish_prepared
{
	my ($self) = @_;
	my $how = $self->{random}->one_in(3) ? 'ROLLBACK' : 'COMMIT';

	$self->run("$how PREPARED '$self->{gid}'", doubt => lc("$how prepared")) or return;
	$self->prepared_is_over($how);
	return;
}

sub prepared_is_over
{
	my ($self, $how) = @_;

	$how eq 'COMMIT' ? $self->{model}->commit_prepared : $self->{model}->rollback_prepared;
	$self->{gid} = undef;
	return;
}

sub savepoint
{
	my ($self) = @_;
	my $savepoints = $self->{transaction}{savepoints};
	my $name = 's' . (1 + @$savepoints);

	$self->run("SAVEPOINT $name") or return;
	push(@$savepoints, $name);
	$self->{model}->savepoint($name);
	return;
}

sub rollback_to
{
	my ($self, $name) = @_;
	my $savepoints = $self->{transaction}{savepoints};

	$self->run("ROLLBACK TO $name") or return;
	pop(@$savepoints) while $savepoints->[-1] ne $name;
	$self->{model}->rollback_to($name);
	# cursors of the subtransaction are gone; forget all of the transaction
	delete $self->{cursors}{$_} foreach grep { !$self->{cursors}{$_}{hold} || $self->{cursors}{$_}{fresh} } keys %{ $self->{cursors} };
	$self->{counts}{'subtransactions rolled back'}++;
	return;
}

sub release
{
	my ($self, $name) = @_;
	my $savepoints = $self->{transaction}{savepoints};

	$self->run("RELEASE $name") or return;
	while (1)
	{
		last if pop(@$savepoints) eq $name;
	}
	$self->{model}->release($name);
	return;
}

# The session's rows of a table, as the server has them.
sub rows_found
{
	my ($self, $table) = @_;
	my $rows = $self->run(sprintf('SELECT id, n, version FROM %s WHERE id BETWEEN %d AND %d',
			$table->{name}, first_id($self->{number}), last_id($self->{number})))
	  or return;
	my %found;

	foreach my $row (@$rows)
	{
		my ($id, $n, $version) = @$row;

		$self->fault("$table->{name}: row $id is there twice") if $found{$id};
		$found{$id} = [ $n, $version ];
	}
	return \%found;
}

# The session's rows must be those of the model.
sub compare_model
{
	my ($self, $table) = @_;
	my $found = $self->rows_found($table) or return 0;
	my @complaints = $self->{model}->differences($table->{name}, $found);

	$self->fault("$table->{name}: " . join('; ', grep { defined } @complaints[ 0 .. 9 ])) if @complaints;
	$self->{counts}{'model comparisons'}++;
	return 1;
}

# From now on, outside of a transaction, the session fails at a point within
# the access method; or no longer.
sub arm
{
	my ($self, $failpoint) = @_;

	$self->run("SET alexam.failpoint = '$failpoint'");
	$self->{armed} = 1;
	return;
}

sub disarm
{
	my ($self) = @_;

	$self->run('RESET alexam.failpoint');
	$self->{armed} = 0;
	return;
}

# Ends whatever is open.
sub finish
{
	my ($self) = @_;

	if ($self->{transaction})
	{
		$self->{random}->one_in(3) ? $self->rollback : $self->commit;
	}
	$self->finish_prepared while $self->{gid};
	$self->disarm if $self->{armed};
	return;
}

# After a crash: connects again, and finds out what has become of the
# transaction.  One that is prepared and keeps others from reading a table is
# finished at once.
sub reconnect
{
	my ($self) = @_;
	my $model = $self->{model};
	my $doubt = $self->{in_doubt} = $self->{doubt} // '';

	$self->{gid} = $self->{next_gid} if $doubt eq 'prepare';
	$self->open_log;
	$self->note("after a crash, with \"$doubt\" in doubt");
	$self->connect;
	$model->rollback if $doubt !~ /^(commit|prepare)$/;
	$self->resolve_prepared($doubt) if $self->{gid};
	$self->finish_prepared if $self->{gid} && $self->{gid_exclusive};
	return;
}

# Then: what has become of a transaction, or statement, on its way to commit.
# Versions tell its rows from earlier ones.  It is there as a whole, or verify()
# will find that it is not.
sub resolve
{
	my ($self) = @_;
	my $model = $self->{model};
	my $doubt = $self->{in_doubt};

	if ($doubt eq 'commit' || $doubt eq 'statement')
	{
		if ($doubt eq 'statement')
		{
			$model->set(@$_) foreach @{ $self->{attempt} };
		}
		my $happened = 1;
		foreach my $table (grep { !$_->{unlogged} } @{ $self->{tables} })
		{
			next if !grep { $_ eq $table->{name} } $model->changed_tables;
			my $found = $self->rows_found($table)
			  // $self->fault("$table->{name} cannot be read: $self->{last_error}");
			$happened = 0 if $model->differences($table->{name}, $found);
		}
		$happened ? $model->commit : $model->rollback;
		$self->{counts}{ 'in doubt: ' . ($happened ? 'committed' : 'aborted') }++;
	}
	$model->forget($_->{name}) foreach grep { $_->{unlogged} } @{ $self->{tables} };
	return;
}

# A prepared transaction is there, unless it was about to come or to go.
sub resolve_prepared
{
	my ($self, $doubt) = @_;
	my $model = $self->{model};
	my $there = @{ $self->run("SELECT 1 FROM pg_prepared_xacts WHERE gid = '$self->{gid}'") };

	if ($doubt eq 'prepare')
	{
		$there ? $model->prepare : $model->rollback;
		$self->{gid} = undef if !$there;
	}
	elsif (!$there)
	{
		$self->fault("prepared transaction \"$self->{gid}\" is gone") if $doubt !~ /^(commit|rollback) prepared/;
		$self->prepared_is_over($doubt eq 'commit prepared' ? 'COMMIT' : 'ROLLBACK');
	}
	$self->{counts}{'prepared transactions in a crash'}++;
	return;
}

1;
