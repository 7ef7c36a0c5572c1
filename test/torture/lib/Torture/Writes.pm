# Writes.pm
#	  Random changes of rows.
#
# Each function takes a session and a table, changes some of the session's own
# rows, and knows beforehand which ones and how.  Where rows are found through
# the key, the statement returns their ids: one that was not found, or should
# not have been, is a fault.
#
# Copyright (c) 2026, alexam contributors

package Torture::Writes;

use strict;
use warnings;

use Torture::Tables qw(column_key predicate first_id last_id FIRST_REGULAR);

# Rows of its own that a session keeps in a table, about.
use constant ROWS => 400;

# A violation of the unique index.
my $duplicate = qr/^23505 /;

# Draws the number of a new row; undef is for a NULL key.  In a table with a
# unique index each session has numbers of its own, and those of session 0 are
# for rows of session 0.
sub draw_number
{
	my ($session, $table, $owner) = @_;
	my $random = $session->{random};

	return if $random->one_in(12);
	if ($table->{form} eq 'unique')
	{
		my $stride = $table->{sessions} + 1;

		return 100 + $owner + $stride * $random->below(int($table->{domain} / $stride) + 40);
	}
	return $random->below(FIRST_REGULAR) if $random->one_in(10);
	if ($random->one_in(3))
	{
		# ascending, as time goes
		my $next = \$session->{ascending}{ $table->{name} };

		$$next = (($$next // 0) + $random->below(3)) % $table->{domain};
		return FIRST_REGULAR + $$next;
	}
	return FIRST_REGULAR + $random->below($table->{domain});
}

sub literal { return $_[0] // 'NULL' }

sub next_id { return $_[0]->{next_id}++ }

sub next_version { return ++$_[0]->{version} }

# Numbers that rows of a table already have; a unique index refuses them.
sub taken
{
	my ($session, $table) = @_;
	my $rows = $session->{model}->rows($table->{name});

	return { map { defined($_->[0]) ? ($_->[0] => 1) : () } values %$rows };
}

# New rows [id, n, version] for one INSERT, and whether it must fail.
sub draw_rows
{
	my ($session, $table, $count) = @_;
	my $taken = $table->{form} eq 'unique' ? taken($session, $table) : {};
	my $conflicts = 0;
	my @rows;

	# mostly no duplicates: one spoils the whole statement
	my $bold = $session->{random}->one_in(8);
	foreach (1 .. $count)
	{
		my $n = draw_number($session, $table, $session->{number});

		if ($table->{form} eq 'unique' && defined($n))
		{
			next if $taken->{$n} && !$bold;
			$conflicts++ if $taken->{$n};
			$taken->{$n} = 1;
		}
		push(@rows, [ next_id($session), $n, next_version($session) ]);
	}
	return (\@rows, $conflicts);
}

# Inserts rows in some way, and checks that it fails if and only if it must.
sub insert_rows
{
	my ($session, $table, $rows, $conflicts, $insert) = @_;
	my @changes = map { [ $table->{name}, $_->[0], [ $_->[1], $_->[2] ] ] } @$rows;

	return if !@$rows;
	$session->{last_error} = '';
	my $done = $insert->(\@changes, may => $conflicts ? $duplicate : undef);
	$session->fault("$table->{name}: a duplicate key got in") if $done && $conflicts;
	return;
}

sub values_list
{
	my ($rows) = @_;

	return join(', ', map { '(' . join(', ', map { literal($_) } @$_) . ')' } @$rows);
}

sub insert_some
{
	my ($session, $table, $count) = @_;
	my ($rows, $conflicts) = draw_rows($session, $table, $count);

	return insert_rows($session, $table, $rows, $conflicts,
		sub { $session->change("INSERT INTO $table->{name} (id, n, version) VALUES " . values_list($rows), @_) });
}

sub insert_one { return insert_some(@_, 1) }

sub insert_few { return insert_some(@_, $_[0]->{random}->between(2, 30)) }

sub insert_copy
{
	my ($session, $table) = @_;
	my ($rows, $conflicts) = draw_rows($session, $table, $session->{random}->between(5, 200));
	my @lines = map { join("\t", map { $_ // '\N' } @$_) . "\n" } @$rows;

	return insert_rows($session, $table, $rows, $conflicts,
		sub { $session->copy("COPY $table->{name} (id, n, version) FROM STDIN", \@lines, @_) });
}

# So many rows that they become a run of their own, with numbers in a row.
sub insert_select
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $count = $random->between(50, 300);
	my $stride = $table->{form} eq 'unique' ? $table->{sessions} + 1 : $random->pick(0, 1, 1, 7);
	my $first = $table->{form} eq 'unique'
	  ? 200_000 + $session->{number} + $stride * $session->{next_id} % 700_000 * 2
	  : FIRST_REGULAR + $random->below($table->{domain});
	my $taken = $table->{form} eq 'unique' ? taken($session, $table) : {};
	my $version = next_version($session);
	my @rows = map { [ next_id($session), $first + $stride * $_, $version ] } 0 .. $count - 1;

	return if grep { $taken->{ $_->[1] } } @rows;
	return insert_rows($session, $table, \@rows, 0,
		sub {
			$session->change("INSERT INTO $table->{name} (id, n, version)"
				  . " SELECT $rows[0][0] + i, $first + $stride * i, $version FROM generate_series(0, $count - 1) AS i",
				@_);
		});
}

# Some of the session's row ids of a table, in any order.
sub draw_ids
{
	my ($session, $table, $count) = @_;
	my $rows = $session->{model}->rows($table->{name});
	my @ids = sort { $a <=> $b } keys %$rows;
	my @drawn;

	push(@drawn, splice(@ids, $session->{random}->below(scalar @ids), 1))
	  while @ids && $count-- > 0;
	return @drawn;
}

sub id_list
{
	return 'id = ANY (ARRAY[' . join(', ', @_) . ']::int8[])';
}

# Changes that leave the keys alone, so that there may be no new entries.
sub update_version
{
	my ($session, $table) = @_;
	my @ids = draw_ids($session, $table, $session->{random}->between(1, 12)) or return;
	my $version = next_version($session);
	my $rows = $session->{model}->rows($table->{name});

	$session->change("UPDATE $table->{name} SET version = $version WHERE " . id_list(@ids),
		[ map { [ $table->{name}, $_, [ $rows->{$_}[0], $version ] ] } @ids ]);
	return;
}

# A new key for some rows.
sub update_key
{
	my ($session, $table) = @_;
	my $unique = $table->{form} eq 'unique';
	my @ids = draw_ids($session, $table, $unique ? 1 : $session->{random}->between(1, 30)) or return;
	my $n = draw_number($session, $table, $session->{number});
	my $version = next_version($session);
	my $rows = $session->{model}->rows($table->{name});
	my $conflicts = $unique && defined($n)
	  && grep { $_ != $ids[0] && defined($rows->{$_}[0]) && $rows->{$_}[0] == $n } keys %$rows;
	my $done = $session->change(
		"UPDATE $table->{name} SET n = " . literal($n) . ", version = $version WHERE " . id_list(@ids),
		[ map { [ $table->{name}, $_, [ $n, $version ] ] } @ids ],
		may => $conflicts ? $duplicate : undef);

	$session->fault("$table->{name}: a duplicate key got in") if $done && $conflicts;
	return;
}

# A condition on the alex column that holds for the session's rows with numbers
# in a range, and these rows' ids.
sub draw_range
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $rows = $session->{model}->rows($table->{name});
	my ($some) = draw_ids($session, $table, 1) or return;
	my $low = $rows->{$some}[0] // FIRST_REGULAR;
	my $high = $low < FIRST_REGULAR || $random->one_in(2) ? $low : $low + $random->below(1 + int($table->{domain} / 20));
	my ($first, $last) = map { column_key($table, "torture_$table->{type}($_)") } $low, $high;
	my $key = column_key($table, 'a');
	my @ids = grep {
		defined($rows->{$_}[0]) && $rows->{$_}[0] >= $low && $rows->{$_}[0] <= $high
		  && ($table->{form} ne 'partial' || $rows->{$_}[0] % 3 != 0)
	} sort { $a <=> $b } keys %$rows;

	my $condition = sprintf('%s BETWEEN least(%s, %s) AND greatest(%s, %s) AND n BETWEEN %d AND %d AND id BETWEEN %d AND %d AND %s',
		$key, $first, $last, $first, $last, $low, $high,
		first_id($session->{number}), last_id($session->{number}), predicate($table, 'a'));
	return ($condition, @ids);
}

# The statement must have found exactly these rows.
sub compare_ids
{
	my ($session, $table, $rows, @ids) = @_;
	my $found = join(' ', sort { $a <=> $b } map { $_->[0] } @$rows);

	$session->fault("$table->{name}: rows found through the key are \"$found\" instead of \"@ids\"")
	  if $found ne "@ids";
	return;
}

sub prefer_index
{
	my ($session) = @_;

	return $session->run("SELECT torture_permit('{seqscan,sort}', false)");
}

sub update_range
{
	my ($session, $table) = @_;
	my ($condition, @ids) = draw_range($session, $table) or return;
	my $rows = $session->{model}->rows($table->{name});
	my $version = next_version($session);
	my $shift = $table->{form} eq 'unique' ? 0 : $session->{random}->pick(0, 3, 50);
	my @changes = map { [ $table->{name}, $_, [ $rows->{$_}[0] + $shift, $version ] ] } @ids;

	prefer_index($session) or return;
	my $found = $session->change("UPDATE $table->{name} SET n = n + $shift, version = $version WHERE $condition RETURNING id", \@changes)
	  or return;
	return compare_ids($session, $table, $found, @ids);
}

sub delete_range
{
	my ($session, $table) = @_;
	my ($condition, @ids) = draw_range($session, $table) or return;

	prefer_index($session) or return;
	my $found = $session->change("DELETE FROM $table->{name} WHERE $condition RETURNING id",
		[ map { [ $table->{name}, $_, undef ] } @ids ])
	  or return;
	return compare_ids($session, $table, $found, @ids);
}

sub delete_some
{
	my ($session, $table) = @_;
	my $rows = $session->{model}->rows($table->{name});
	my $much = keys %$rows > ROWS;
	my @ids = draw_ids($session, $table, $much ? keys(%$rows) / 2 : $session->{random}->between(1, 20)) or return;

	$session->change("DELETE FROM $table->{name} WHERE " . id_list(@ids),
		[ map { [ $table->{name}, $_, undef ] } @ids ]);
	return;
}

# INSERT ... ON CONFLICT on the id, which a btree index arbitrates; PostgreSQL 15
# has no such thing for tables with other unique indexes.
sub upsert
{
	my ($session, $table) = @_;

	return insert_few($session, $table) if $table->{form} eq 'unique';
	my @old = draw_ids($session, $table, $session->{random}->between(0, 10));
	my ($new) = draw_rows($session, $table, $session->{random}->between(1, 10));
	my $model = $session->{model}->rows($table->{name});
	my $version = next_version($session);
	my $n = draw_number($session, $table, $session->{number});
	my $update = $session->{random}->one_in(2);
	my @rows = (@$new, map { [ $_, $n, $version ] } @old);
	my @changes = map { [ $table->{name}, $_->[0], [ $_->[1], $_->[2] ] ] } $update ? @rows : @$new;

	$session->change("INSERT INTO $table->{name} (id, n, version) VALUES " . values_list(\@rows)
		  . ' ON CONFLICT (id) DO ' . ($update ? 'UPDATE SET n = excluded.n, version = excluded.version' : 'NOTHING'),
		\@changes);
	return;
}

# Rows of session 0, which all sessions change: nobody knows what they will be.
sub change_shared
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $id = $random->below(40);
	my $n = literal(draw_number($session, $table, 0));
	my $version = next_version($session);
	my %options = (may => qr/^(23505|23P01) /);

	return if $table->{owner};
	my $statement = $random->pick(
		"INSERT INTO $table->{name} (id, n, version) VALUES ($id, $n, $version)",
		"UPDATE $table->{name} SET n = $n, version = $version WHERE id BETWEEN $id AND $id + " . $random->below(4),
		"DELETE FROM $table->{name} WHERE id BETWEEN $id AND $id + " . $random->below(6));
	$statement .= ' ON CONFLICT (id) DO UPDATE SET n = excluded.n, version = excluded.version'
	  if $statement =~ /^INSERT/ && $table->{form} ne 'unique';
	$session->run($statement, %options);
	return;
}

# SELECT ... FOR UPDATE of what was found through the alex index: rows may have
# changed meanwhile, and are then looked at again.
sub lock_shared
{
	my ($session, $table) = @_;
	my $n = literal(draw_number($session, $table, 0));
	my $key = column_key($table, 'a');

	prefer_index($session) or return;
	$session->run("SELECT id FROM $table->{name} WHERE $key = "
		  . column_key($table, "torture_$table->{type}($n)") . ' AND ' . predicate($table, 'a')
		  . ' AND id < 40 FOR UPDATE');
	return;
}

1;
