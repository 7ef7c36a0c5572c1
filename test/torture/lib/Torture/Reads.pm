# Reads.pm
#	  Random queries, answered three times: through the alex index on column a,
#	  the btree index on b, and, for column c, without an index on the key.
#
# The three are parts of one statement, so that they have one snapshot whatever
# the isolation level and whatever other sessions do.
#
# Copyright (c) 2026, alexam contributors

package Torture::Reads;

use strict;
use warnings;

use Torture::Tables qw(column_key predicate FIRST_REGULAR);

# Ways to read: settings that are switched off, and the plan of a condition on
# column a.
our %ways = (
	index => [ [qw(seqscan bitmapscan indexonlyscan sort)], qr/Index Scan (Backward )?using \w+_a\b/ ],
	only => [ [qw(seqscan bitmapscan sort)], qr/Index Only Scan (Backward )?using \w+_a\b/ ],
	bitmap => [ [qw(seqscan indexscan indexonlyscan)], qr/Bitmap Index Scan on \w+_a\b/ ],
	any => [ [], qr// ]);

# The value of a number, as it is compared with the key.
sub value
{
	my ($table, $n) = @_;

	return column_key($table, "torture_$table->{type}($n)");
}

sub draw_value
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $rows = $session->{model}->rows($table->{name});

	# often one that exists
	if ($random->one_in(2) && %$rows)
	{
		my @ids = sort { $a <=> $b } keys %$rows;
		my $n = $rows->{ $random->pick(@ids) }[0];

		return value($table, $n) if defined($n);
	}
	return value($table, $random->one_in(8) ? $random->below(FIRST_REGULAR)
		: FIRST_REGULAR + $random->below($table->{domain}));
}

sub draw_array
{
	my ($session, $table) = @_;
	my @values = map { draw_value($session, $table) } 1 .. $session->{random}->pick(1, 3, 8, 40);

	# a NULL of the right type
	push(@values, "nullif($values[0], $values[0])") if $session->{random}->one_in(5);

	return 'ARRAY[' . join(', ', @values) . ']';
}

# A condition with K for the key.
sub draw_condition
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $one = draw_value($session, $table);
	my $other = draw_value($session, $table);
	my $operator = $random->pick('<', '<=', '=', '>=', '>');

	return $random->weighted(
		[ 4, "K = $one" ],
		[ 2, "K $operator $one" ],
		[ 5, "K BETWEEN least($one, $other) AND greatest($one, $other)" ],
		[ 1, "K > least($one, $other) AND K < greatest($one, $other)" ],
		[ 3, 'K = ANY (' . draw_array($session, $table) . ')' ],
		[ 1, "K $operator ANY (" . draw_array($session, $table) . ')' ],
		[ 1, 'K = ANY (' . draw_array($session, $table) . ") AND K $operator $one" ],
		[ 1, 'K IS NULL' ],
		[ 1, 'K IS NOT NULL' ]);
}

# The queries: each returns SQL with X for the column, K for the key, P for the
# index's predicate, of one column "item"; and the ways that it can be answered
# in.  Rows are told by id, number and version, and come in any order.
sub draw_query
{
	my ($session, $table) = @_;
	my $random = $session->{random};
	my $condition = draw_condition($session, $table);
	my $shown = $table->{shown} =~ s/X/K/r;
	my $only = $table->{expression} eq 'X' && $table->{form} ne 'partial' ? 'only' : 'index';
	my $direction = $random->pick('ASC', 'DESC');
	my $limit = $random->one_in(2) ? ' LIMIT ' . $random->pick(1, 3, 20, 300) . ' OFFSET ' . $random->pick(0, 0, 5) : '';
	my $row = "(id, n, version)::text";
	my $order = draw_order($session, $table);
	my ($least, $greatest) = map {
		$table->{type} =~ /bool|macaddr/ ? 'count(K)' : $table->{shown} =~ s/X/$_(K)/r
	} 'min', 'max';
	my $few = 'id % 5 = ' . $random->below(5);

	return $random->weighted(
		[ 6, [ 'rows', "SELECT $row AS item FROM t WHERE $condition AND P", 'index', 'bitmap', 'any' ] ],
		[ 3, [ 'bitmap and', "SELECT $row AS item FROM t WHERE (($condition) OR (" . draw_condition($session, $table) . ')) AND P', 'bitmap', 'any' ] ],
		[ 3, [ 'keys', "SELECT ($shown)::text AS item FROM t WHERE $condition AND P", $only ] ],
		[ 2, [ 'count', "SELECT count(K)::text || count(*) AS item FROM t WHERE $condition AND P", $only, 'index', 'bitmap' ] ],
		[ 4, [ 'order', "SELECT coalesce(($shown)::text, 'null') AS item FROM t WHERE P ORDER BY K $order$limit", $only, 'index' ] ],
		[ 4, [ 'ordered range', "SELECT coalesce(($shown)::text, 'null') AS item FROM t WHERE $condition AND P ORDER BY K $order$limit", $only, 'index', 'bitmap' ] ],
		[ 2, [ 'whole rows in order', "SELECT item FROM (SELECT $row AS item FROM t WHERE P ORDER BY K $order OFFSET 0) AS o", 'index' ] ],
		[ 2, [ 'extremes', "SELECT concat((SELECT $least FROM t WHERE $condition AND P), ' ', (SELECT $greatest FROM t WHERE P)) AS item", 'index', $only ] ],
		[ 2, [ 'probes', "SELECT g.m || ' ' || probe.found AS item FROM (VALUES " . join(', ', map { "($_, " . draw_value($session, $table) . ')' } 1 .. 12) . ") AS g (m, v), LATERAL (SELECT count(*) AS found FROM t WHERE K = g.v AND P) AS probe", 'index', $only, 'bitmap' ] ],
		[ 1, [ 'merge join', "SELECT count(*) || ' ' || coalesce(sum(x.version * 31 + y.version), 0) AS item FROM (SELECT K AS k, version FROM t WHERE $few AND P ORDER BY 1) AS x JOIN (SELECT K AS k, version FROM t WHERE $few AND P ORDER BY 1) AS y USING (k)", 'index' ] ],
		[ 1, [ 'semijoin', "SELECT $row AS item FROM t WHERE K IN (SELECT v FROM (VALUES " . join(', ', map { '(' . draw_value($session, $table) . ')' } 1 .. 5) . ') AS list (v)) AND P', 'index', 'any' ] ]);
}

# The index's own order or its reverse, for a plan without a sort; or any.
sub draw_order
{
	my ($session, $table) = @_;
	my $descending = $table->{order} =~ /DESC/;
	my $nulls_first = $table->{order} =~ /NULLS (FIRST|LAST)/ ? $1 eq 'FIRST' : $descending;
	my $reverse = $session->{random}->one_in(2);

	return $session->{random}->pick('ASC', 'DESC NULLS LAST') if $session->{random}->one_in(8);
	return ($descending xor $reverse) ? ($nulls_first xor $reverse) ? 'DESC NULLS FIRST' : 'DESC NULLS LAST'
	  : ($nulls_first xor $reverse) ? 'ASC NULLS FIRST' : 'ASC NULLS LAST';
}

# The query for one of the columns.
sub for_column
{
	my ($table, $query, $column) = @_;
	my $key = column_key($table, $column);
	my $predicate = predicate($table, $column);

	$query =~ s/\bFROM t\b/FROM $table->{name}/g;
	$query =~ s/\bK\b/$key/g;
	$query =~ s/\bP\b/$predicate/g;
	return $query;
}

# Lets the planner use one way to read, and parallel plans, or not.
sub permit
{
	my ($session, $way, $parallel) = @_;

	return $session->run(sprintf("SELECT torture_permit('{%s}', %s)",
			join(',', @{ $ways{$way}[0] }), $parallel ? 'true' : 'false'));
}

# The statement that compares: all the same, details where they are not.
sub comparison
{
	my ($table, $title, $query) = @_;
	my $ordered = $title =~ /^order/;
	my $items = $ordered ? 'array_agg(item)' : 'array_agg(item ORDER BY item)';
	my @parts = map {
		"$_->[0] AS MATERIALIZED (SELECT coalesce($items, '{}') AS items FROM (" . for_column($table, $query, $_->[1]) . ') AS q)'
	} [ alex => 'a' ], [ btree => 'b' ], [ plain => 'c' ];

	return 'WITH ' . join(', ', @parts)
	  . ' SELECT alex.items = plain.items, btree.items = plain.items, cardinality(plain.items),'
	  . ' CASE WHEN alex.items <> plain.items OR btree.items <> plain.items'
	  . " THEN concat('alex ', cardinality(alex.items), ' ', alex.items[1:200], ' btree ', cardinality(btree.items), ' ', btree.items[1:200], ' plain ', cardinality(plain.items), ' ', plain.items[1:200])"
	  . ' END FROM alex, btree, plain';
}

sub compare
{
	my ($session, $table) = @_;
	my ($title, $query, @ways) = @{ draw_query($session, $table) };
	my $way = $session->{random}->pick(@ways);
	my $statement = comparison($table, $title, $query);

	permit($session, $way, $session->{random}->one_in(4)) or return;
	my $rows = $session->run($statement) or return;
	my ($alex, $btree, $count, $details) = @{ $rows->[0] };

	if (!$alex || !$btree)
	{
		my $plan = $session->run("EXPLAIN (COSTS OFF) $statement");

		$session->note(join("\n", map { $_->[0] } @{ $plan // [] }));
		$session->fault("$table->{name}, $title by $way: " . (!$alex ? 'alex' : 'btree') . " differs: $statement: $details");
	}
	$session->{counts}{"compared: $title"}++;
	$session->{counts}{'rows compared'} += $count;
	return;
}

1;
