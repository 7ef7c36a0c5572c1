# Maintenance.pm
#	  Everything that rewrites, cleans, moves or verifies an index.
#
# Indexes are replaced by one session at a time, under an advisory lock of the
# table, so that what a failed CREATE INDEX CONCURRENTLY leaves behind can be
# told from one in progress.  Rewriting ALTER TABLE and TRUNCATE, after which
# older snapshots miss rows, are committed for private tables only.
#
# Copyright (c) 2026, alexam contributors

package Torture::Maintenance;

use strict;
use warnings;

use Torture::Reads;
use Torture::Tables qw(index_sql table_sql);
use Torture::Writes;

# The index, or the table, is being replaced by another session.
my $gone = qr/^(42P01|42704|55006|55000) |could not open relation with OID/;

# Does something while no other session replaces indexes of this table.
sub with_lock
{
	my ($session, $table, $action) = @_;
	my $number = substr($table->{name}, 1);
	my $rows = $session->run("SELECT pg_try_advisory_lock(4711, $number)") or return;

	return if !$rows->[0][0];
	$action->() if clear_up($session, $table);
	$session->run("SELECT pg_advisory_unlock(4711, $number)");
	return;
}

# Removes what a failed or killed session has left of the table's indexes, and
# makes those that are missing; returns whether that was possible.
sub clear_up
{
	my ($session, $table) = @_;
	my $rows = $session->run("SELECT indexrelid::regclass FROM pg_index"
		  . " WHERE indrelid = '$table->{name}'::regclass AND NOT (indisvalid AND indisready)")
	  or return 0;
	my @statements = map { "DROP INDEX IF EXISTS $_->[0]" } @$rows;

	foreach my $column ('a', 'b')
	{
		my $name = "$table->{name}_$column";
		my $found = $session->run("SELECT (SELECT indexrelid::regclass FROM pg_index WHERE indisvalid AND indisready"
			  . " AND indexrelid = to_regclass('$name')), to_regclass('${name}_new')") or return 0;
		my ($old, $new) = @{ $found->[0] };

		push(@statements, "ALTER INDEX $new RENAME TO $name") if !$old && $new;
		push(@statements, "DROP INDEX IF EXISTS $new") if $old && $new;
		push(@statements, index_sql($table, $column)) if !$old && !$new;
	}
	foreach my $statement (@statements)
	{
		$session->run($statement, may => qr/$gone|^42P07 /) or return 0;
	}
	return 1;
}

sub vacuum
{
	my ($session, $table) = @_;
	my $how = $session->{random}->pick('', '', '(INDEX_CLEANUP ON, TRUNCATE off)', '(FREEZE)',
		'(ANALYZE)', '(DISABLE_PAGE_SKIPPING)', '(PARALLEL 2)');

	return $session->run("VACUUM $how $table->{name}");
}

sub vacuum_full { return $_[0]->run("VACUUM FULL $_[1]{name}") }

sub reindex
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $concurrently = $random->one_in(2) ? 'CONCURRENTLY ' : '';
	my $options = $random->one_in(4) ? '(TABLESPACE ' . $random->pick('elsewhere', 'pg_default') . ') ' : '';
	my $what = $random->one_in(4) ? "TABLE $concurrently$table->{name}" : "INDEX $concurrently$table->{name}_a";

	return with_lock($session, $table, sub { $session->run("REINDEX $options$what", may => $gone) });
}

# A second index, which takes the place of the first.
sub replace
{
	my ($session, $table) = @_;
	my $name = "$table->{name}_a";
	my $concurrently = $session->{random}->one_in(3) ? '' : 'CONCURRENTLY ';

	return with_lock($session, $table,
		sub {
			foreach my $statement (
				index_sql($table, 'a', "${name}_new", $concurrently),
				"DROP INDEX $concurrently$name",
				"ALTER INDEX ${name}_new RENAME TO $name")
			{
				$session->run($statement, may => $gone) or return;
			}
		});
}

sub cluster
{
	my ($session, $table) = @_;
	my $index = $table->{form} eq 'partial' ? 'id' : $session->{random}->pick('id', 'b');

	return with_lock($session, $table,
		sub { $session->run("CLUSTER $table->{name} USING $table->{name}_$index", may => $gone) });
}

sub compact { return $_[0]->run("SELECT alex_compact('$_[1]{name}_a')", may => $gone) }

sub check
{
	my ($session, $table) = @_;

	return with_lock($session, $table,
		sub {
			$session->run("SELECT alex_check('$table->{name}_a', true)", may => $gone) or return;
			$session->{counts}{alex_check}++;
		});
}

sub statistics
{
	my ($session, $table) = @_;

	return $session->run("SELECT (alex_stats('$table->{name}_a')).*, (SELECT count(*) FROM alex_runs('$table->{name}_a'))",
		may => $gone);
}

sub move
{
	my ($session, $table) = @_;
	my $what = $session->{random}->one_in(3) ? "TABLE $table->{name}" : "INDEX $table->{name}_a";

	return with_lock($session, $table,
		sub { $session->run("ALTER $what SET TABLESPACE " . $session->{random}->pick('elsewhere', 'pg_default'), may => $gone) });
}

sub checkpoint { return $_[0]->run('CHECKPOINT') }

sub analyze { return $_[0]->run("ANALYZE $_[1]{name}") }

# In a transaction: commands that give index or table another file, with
# entries of the transaction waiting to be written.
sub rebuild_within
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $name = $table->{name};
	my $private = $table->{owner} == $session->{number};
	my $action = $random->weighted(
		[ 3, [ "REINDEX INDEX ${name}_a" ] ],
		[ 2, [ "DROP INDEX ${name}_a", index_sql($table, 'a') ] ],
		[ 2, [ "ALTER INDEX ${name}_a SET TABLESPACE " . $random->pick('elsewhere', 'pg_default') ] ],
		[ 1, [ "CLUSTER $name USING ${name}_id" ] ],
		[ $private ? 3 : 0, [ "ALTER TABLE $name ALTER filler TYPE text USING filler || ''" ] ],
		[ $private ? 2 : 0, undef ]);

	return recreate($session, $table) if !$action;
	$session->takes_exclusive_lock;
	foreach my $statement (@$action)
	{
		$session->run($statement, may => $gone) or return;
	}
	return;
}

sub truncate_own
{
	my ($session, $table) = @_;

	$session->takes_exclusive_lock;
	return $session->change("TRUNCATE $table->{name}",
		[ map { [ $table->{name}, $_, undef ] } sort { $a <=> $b } keys %{ $session->{model}->rows($table->{name}) } ],
		may => $gone);
}

# DROP TABLE, and the same table anew.
sub recreate
{
	my ($session, $table) = @_;
	my @changes = map { [ $table->{name}, $_, undef ] }
	  sort { $a <=> $b } keys %{ $session->{model}->rows($table->{name}) };

	$session->takes_exclusive_lock;
	$session->change("DROP TABLE $table->{name}", \@changes, may => $gone) or return;
	my $transaction = $session->{transaction};

	foreach my $statement (table_sql($table))
	{
		$session->run($statement) and next;

		# without the table there is nothing that could go on
		$session->rollback if $session->{transaction} && $session->{transaction} == $transaction;
		return;
	}
	return;
}

# TRUNCATE in a subtransaction that is rolled back after some changes.
sub truncate_and_back
{
	my ($session, $table) = @_;
	my $depth = @{ $session->{transaction}{savepoints} };

	$session->savepoint;
	return if !$session->{transaction} || @{ $session->{transaction}{savepoints} } <= $depth;
	my $savepoint = $session->{transaction}{savepoints}[-1];
	my $transaction = $session->{transaction};

	foreach my $action (\&truncate_own, \&Torture::Writes::insert_few, \&Torture::Reads::compare)
	{
		$action->($session, $table);

		# an error may have ended the transaction, or taken it back further
		return if !$session->{transaction} || $session->{transaction} != $transaction
		  || @{ $session->{transaction}{savepoints} } <= $depth;
	}
	$session->rollback_to($savepoint);
	return;
}

1;
