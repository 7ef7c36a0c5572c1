# Tables.pm
#	  The tables of the torture tests.
#
# A row's key is a function of its number n, and stands in three columns: a has
# the alex index, b a btree index, c none.  They are generated columns, so that
# they cannot come to differ whatever way a row is made in.  The functions
# map the first numbers to the edges of the type, and the others from
# FIRST_REGULAR on to ascending values, so that a range of numbers is a range of
# keys.
#
# Row ids tell the session that owns the row: session s has the ids from
# s * OWNER_IDS on.  Those of session 0 belong to nobody, and all change them.
# A private table is used by all, but changed only by one session.
#
# Copyright (c) 2026, alexam contributors

package Torture::Tables;

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(draw_tables create_tables column_key predicate first_id last_id
  index_sql table_sql FIRST_REGULAR OWNER_IDS);

use constant {
	FIRST_REGULAR => 20,
	OWNER_IDS => 1_000_000_000,
};

# Types: edges, the value of another number n, what of a value is the same for
# values that are equal (X stands for the column), an expression to index.
my %kinds = (
	int2 => {
		edges => '{-32768,-32767,-1,0,1,32766,32767}',
		regular => '(n % 60000 - 30000)::int2',
		few => 1,
	},
	int4 => {
		edges => '{-2147483648,-2147483647,-1,0,1,2147483646,2147483647}',
		regular => '(n - 50000) * 37',
		expression => '(X::int8 * -3)',
		unique => 1,
	},
	int8 => {
		edges => '{-9223372036854775808,-9223372036854775807,-1,0,1,9007199254740992,9007199254740993,9223372036854775806,9223372036854775807}',
		regular => '(n - 50000) * 1234567890123',
		expression => '(X / 3)',
		unique => 1,
	},
	oid => { edges => '{0,1,2147483647,2147483648,4294967295}', regular => '(n::int8 * 40000)::oid' },
	float4 => {
		edges => '{-Infinity,-3.4028235e38,-1e-45,-0,0,1e-45,3.4028235e38,Infinity,NaN}',
		regular => '(n / 8.0)::float4',
		shown => 'X + 0',
	},
	float8 => {
		edges => '{-Infinity,-1.7976931348623157e308,-5e-324,-0,0,5e-324,9007199254740993,Infinity,NaN}',
		regular => '(n - 50000) / 7.0::float8',
		expression => '(-X)',
		shown => 'X + 0',
		unique => 1,
	},
	date => {
		edges => '{-infinity,4714-11-24 BC,0001-01-01,1999-12-31,5874897-12-31,infinity}',
		regular => "date '2000-01-01' + n",
		unique => 1,
	},
	time => { edges => '{00:00,00:00:00.000001,23:59:59.999999,24:00:00}', regular => "time '00:00' + n * interval '800 milliseconds'", few => 1 },
	timestamp => {
		edges => '{-infinity,4714-11-24 00:00:00 BC,1999-12-31 23:59:59.999999,294276-12-31 23:59:59.999999,infinity}',
		regular => "timestamp '2000-01-01' + n * interval '17 minutes'",
		unique => 1,
	},
	timestamptz => {
		edges => '{-infinity,4714-11-24 00:00:00+00 BC,1999-12-31 23:59:59.999999+00,294276-12-31 23:59:59.999999+00,infinity}',
		regular => 'to_timestamp(n * 1000.001::float8)',
		expression => "((X AT TIME ZONE 'UTC')::date)",
		unique => 1,
	},
	bool => { edges => '{f,t}', regular => '(n >= 1000)', few => 1 },
	pg_lsn => { edges => '{0/0,0/1,0/FFFFFFFF,FFFFFFFF/FFFFFFFF}', regular => "pg_lsn '1/0' + n::numeric * 5000000000" },
	macaddr => { edges => '{00:00:00:00:00:00,7f:ff:ff:ff:ff:ff,ff:ff:ff:ff:ff:ff}', regular => "lpad(to_hex(n), 12, '0')::macaddr" });

sub first_id { return $_[0] * OWNER_IDS }
sub last_id { return ($_[0] + 1) * OWNER_IDS - 1 }

# Draws tables: so many that are everybody's, and for each session a private one
# and a temporary one.  Of unlogged and temporary ones a crash leaves nothing.
sub draw_tables
{
	my ($random, $shared, $sessions, %options) = @_;
	my @forms = ('plain', 'unique', 'partial', 'expression');
	my @tables;

	foreach my $number (1 .. $shared + 2 * $sessions)
	{
		my $form = $number <= 4 ? $forms[ $number - 1 ] : $random->pick(@forms, 'plain');
		my @names = sort grep {
			$form eq 'expression' || $form eq 'unique' ? $kinds{$_}{$form} : 1
		} keys %kinds;
		my $kind = $random->pick(@names);
		my $temporary = $number > $shared + $sessions;
		my $unlogged = $options{unlogged} && $number > 1 && $random->one_in(6);

		push(
			@tables,
			{
				name => "t$number",
				owner => $number > $shared ? 1 + ($number - $shared - 1) % $sessions : 0,
				type => $kind,
				form => $form,
				domain => $kinds{$kind}{few} ? 2000 : $random->pick(60, 3000, 100_000),
				order => $random->pick('', '', 'DESC', 'NULLS FIRST', 'DESC NULLS LAST'),
				temporary => $temporary,
				unlogged => $unlogged || $temporary,
				fillfactor => $random->pick(100, 70, 30),
				sessions => $sessions,
				shown => $kinds{$kind}{shown} // 'X',
				expression => $form eq 'expression' ? $kinds{$kind}{expression} : 'X',
			});
	}
	return @tables;
}

# What the index on a column has, as SQL.
sub column_key
{
	my ($table, $column) = @_;

	return $table->{expression} =~ s/X/$column/r;
}

# The predicate of a partial index, as the planner knows it; for column c in a
# form from which it cannot prove anything, lest it use the index.
sub predicate
{
	my ($table, $column) = @_;

	return 'true' if $table->{form} ne 'partial';
	return $column eq 'c' ? '(coalesce(n, 0) + 0) % 3 <> 0' : 'coalesce(n, 0) % 3 <> 0';
}

# CREATE INDEX for column a or b, under the index's usual name or another.
sub index_sql
{
	my ($table, $column, $name, $concurrently) = @_;
	my $method = $column eq 'a' ? 'alex' : 'btree';
	my $unique = $table->{form} eq 'unique' && $column eq 'a' ? 'UNIQUE ' : '';
	my $where = $table->{form} eq 'partial' ? ' WHERE ' . predicate($table, $column) : '';

	$name //= "$table->{name}_$column";
	return "CREATE ${unique}INDEX " . ($concurrently ? 'CONCURRENTLY ' : '')
	  . "$name ON $table->{name} USING $method (" . column_key($table, $column) . " $table->{order})$where";
}

# The statements that make a table and its indexes.
sub table_sql
{
	my ($table) = @_;
	my $key = "GENERATED ALWAYS AS (torture_$table->{type}(n)) STORED";
	my $persistence = $table->{temporary} ? 'TEMPORARY ' : $table->{unlogged} ? 'UNLOGGED ' : '';

	return (
		"CREATE ${persistence}TABLE $table->{name} (id int8, n int, version int, filler text DEFAULT repeat('.', 20), "
		  . join(', ', map { "$_ $table->{type} $key" } qw(a b c))
		  . ") WITH (fillfactor = $table->{fillfactor})",
		"CREATE UNIQUE INDEX $table->{name}_id ON $table->{name} (id)",
		index_sql($table, 'a'),
		index_sql($table, 'b'));
}

# Makes everything in an empty database.
sub create_tables
{
	my ($handle, @tables) = @_;
	my @statements = ('SET client_min_messages = error', 'CREATE EXTENSION alexam',
		"CREATE TABLESPACE elsewhere LOCATION ''", <<'END');
CREATE FUNCTION torture_permit(off text[], parallel bool) RETURNS void LANGUAGE sql AS $$
	SELECT set_config('enable_' || way, CASE WHEN way = ANY (off) THEN 'off' ELSE 'on' END, false)
	FROM unnest('{seqscan,indexscan,indexonlyscan,bitmapscan,sort}'::text[]) AS way;
	SELECT set_config(name, CASE WHEN parallel THEN value ELSE usual END, false)
	FROM (VALUES ('max_parallel_workers_per_gather', '2', '0'),
			('parallel_setup_cost', '0', '1000'),
			('parallel_tuple_cost', '0', '0.1'),
			('min_parallel_table_scan_size', '0', '8MB'),
			('min_parallel_index_scan_size', '0', '512kB')) AS settings (name, value, usual);
$$
END

	foreach my $kind (sort keys %kinds)
	{
		my $last = FIRST_REGULAR - 1;

		push(@statements,
			"CREATE FUNCTION torture_$kind(n int) RETURNS $kind IMMUTABLE PARALLEL SAFE LANGUAGE sql AS \$\$"
			  . " SELECT CASE WHEN n <= $last THEN ('$kinds{$kind}{edges}'::${kind}[])"
			  . "[1 + n % cardinality('$kinds{$kind}{edges}'::${kind}[])]"
			  . " ELSE ($kinds{$kind}{regular})::$kind END \$\$");
	}
	push(@statements, table_sql($_)) foreach grep { !$_->{temporary} } @tables;
	foreach my $statement (@statements)
	{
		$handle->do($statement) // die "$statement: " . $handle->errstr . "\n";
	}
	return;
}

1;
