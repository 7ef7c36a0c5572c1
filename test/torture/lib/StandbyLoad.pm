# StandbyLoad.pm
#	  Tables, writers and readers of the torture test of standbys.
#
# Writers and readers are psql processes that run scripts made from the
# caller's random numbers.  A key stands in three columns: k has the alex index,
# b a btree index, c none; b and c are generated.
#
# Copyright (c) 2026, alexam contributors

package StandbyLoad;

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;

# Name, type, options of the index, order in which it has the keys, domain of
# the numbers that keys are made of, and how.
my @tables = (
	{ name => 't1', type => 'int8', index => '(k)', domain => 100_000, key => '%s' },
	{ name => 't2', type => 'int8', index => '(k)', unique => 'UNIQUE', domain => 2_000_000_000, key => '%s' },
	{ name => 't3', type => 'int4', index => '(k DESC)', descending => 1, domain => 40, key => '(%s)::int4' },
	{ name => 't4', type => 'timestamp', index => '(k)', domain => 20_000, key => "timestamp '2020-01-01' + (%s) * interval '7 minutes'" });

my @ways = qw(sequential btree plain backward bitmap index-only);

# Rows of a table, about.
use constant ROWS => 2500;

# What the changes of other sessions may do to a statement.
my $acceptable = join('|',
	'deadlock detected',
	'duplicate key value violates',
	'canceling statement due to lock timeout',
	'current transaction is aborted',
	'could not obtain lock',
	'tuple concurrently (updated|deleted)',
	'prepared transaction with identifier .* does not exist',
	'could not serialize access',
	'could not create unique index',
	'savepoint "s" does not exist',
	'there is no transaction in progress',
	'relation .*_k_ccnew.* does not exist');

sub new
{
	my ($class) = @_;

	return bless({ directory => PostgreSQL::Test::Utils::tempdir(), scripts => 0, prepared => 0 }, $class);
}

sub below { return int(rand($_[0])) }
sub pick { return $_[ below(scalar @_) ] }

sub tables { return map { $_->{name} } @tables }
sub indexes { return map { "$_->{name}_k" } @tables }

#
# What the server needs
#
sub setup
{
	my $sql = "SET client_min_messages = error;\nCREATE EXTENSION alexam;\n";

	foreach my $table (@tables)
	{
		my $name = $table->{name};
		my $unique = $table->{unique} // '';
		my $type = $table->{type};

		$sql .= <<"END";
CREATE TABLE $name (k $type, b $type GENERATED ALWAYS AS (k) STORED, c $type GENERATED ALWAYS AS (k) STORED,
	version int DEFAULT 0, filler text DEFAULT repeat('.', 30)) WITH (fillfactor = 80);
CREATE $unique INDEX ${name}_k ON $name USING alex $table->{index};
CREATE INDEX ${name}_b ON $name USING btree (b);
END
		$sql .= insert_sql($table, ROWS, 1) . ";\n";
	}

	# torture_read() reads a table in one of the ways: rows, and digests of their
	# keys and of their keys and places.  It pauses after so many rows.  It is
	# NULL if the way cannot be gone, as with an index that is too new.
	return $sql . <<'END';
CREATE FUNCTION torture_read(relation text, way text, condition text, descending boolean, pause float8)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	key_column text := CASE way WHEN 'sequential' THEN 'c' WHEN 'btree' THEN 'b' ELSE 'k' END;
	is_ordered boolean := way IN ('btree', 'plain', 'backward', 'index-only');
	downwards boolean := descending <> (way = 'backward') AND way <> 'btree';
	query text;
	plan text := '';
	line text;
	current record;
	rows bigint := 0;
	keys numeric := 0;
	places numeric := 0;
	place text;
	last_key text;
	disorder boolean;
BEGIN
	PERFORM set_config('enable_seqscan', (way = 'sequential')::text, true),
		set_config('enable_bitmapscan', (way = 'bitmap')::text, true),
		set_config('enable_indexscan', is_ordered::text, true),
		set_config('enable_indexonlyscan', (way = 'index-only')::text, true),
		set_config('enable_sort', (NOT is_ordered)::text, true);
	place := CASE way WHEN 'index-only' THEN 'NULL::tid' ELSE 'ctid' END;
	query := format('SELECT %I AS key, %s AS place FROM %I WHERE %s', key_column, place, relation,
		replace(condition, 'X', key_column));
	IF is_ordered THEN
		query := query || format(' ORDER BY %I %s', key_column, CASE WHEN downwards THEN 'DESC' ELSE 'ASC' END);
	END IF;

	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		plan := plan || line || E'\n';
	END LOOP;
	IF plan !~ (CASE way
		WHEN 'sequential' THEN '^Seq Scan on ' || relation
		WHEN 'btree' THEN '^Index Scan using ' || relation || '_b '
		WHEN 'plain' THEN '^Index Scan using ' || relation || '_k(_cc\w+)? '
		WHEN 'backward' THEN '^Index Scan Backward using ' || relation || '_k(_cc\w+)? '
		WHEN 'bitmap' THEN 'Bitmap Index Scan on ' || relation || '_k'
		WHEN 'index-only' THEN '^Index Only Scan using ' || relation || '_k(_cc\w+)? ' END)
	THEN
		RETURN NULL;
	END IF;

	IF pause > 0 THEN
		FOR current IN EXECUTE format('SELECT key::text, place::text FROM (%s OFFSET 0) AS q', query) LOOP
			rows := rows + 1;
			keys := keys + coalesce(hashtextextended(current.key, 0), 0);
			places := places + hashtextextended(coalesce(current.key, '') || current.place, 0);
			IF rows = 50 THEN
				PERFORM pg_sleep(pause);
			END IF;
		END LOOP;
	ELSE
		EXECUTE format('SELECT count(*), coalesce(sum(coalesce(hashtextextended(key::text, 0), 0)::numeric), 0),'
			' coalesce(sum(hashtextextended(coalesce(key::text, '''') || place::text, 0)::numeric), 0),'
			' coalesce(bool_or(%s), false)'
			' FROM (SELECT key, place, lag(key) OVER () AS last FROM (%s OFFSET 0) AS q) AS r',
			CASE WHEN NOT is_ordered THEN 'false' WHEN downwards THEN 'last < key' ELSE 'last > key' END, query)
			INTO rows, keys, places, disorder;
		IF disorder THEN
			RAISE EXCEPTION 'torture: % scan of % is not in order', way, relation;
		END IF;
	END IF;
	RETURN format('%s %s %s', rows, keys, CASE way WHEN 'index-only' THEN '-' ELSE places::text END);
END $$;
END
}

# A query for what all tables have, wherever it stands.
sub state_query
{
	return 'SELECT ' . join(" || ' ' || ",
		map { "torture_read('$_->{name}', 'sequential', 'true', false, 0)" } @tables);
}

#
# Writers
#

sub key_sql
{
	my ($table, $number) = @_;

	return sprintf($table->{key}, "($number) % $table->{domain}");
}

# One INSERT of so many rows; keys ascend or are scattered, some are NULL.
sub insert_sql
{
	my ($table, $count, $scattered) = @_;
	my $first = below(1_000_000_000);
	my $step = $table->{unique} ? pick(1, 3, 1_000_003) : $scattered ? 7919 : pick(0, 1);
	my $key = key_sql($table, "$first + i::int8 * $step");

	$key = "CASE WHEN i % 37 > 0 THEN $key END" if rand() < 0.3;
	return "INSERT INTO $table->{name} (k) SELECT $key FROM generate_series(1, $count) AS i";
}

# A condition that a part of the rows meets.
sub some_rows
{
	my ($table, $share) = @_;
	my $digits = below(100);

	return "ctid IN (SELECT ctid FROM $table->{name} WHERE abs(hashtextextended(ctid::text, $digits)) % 1000 < "
	  . int(1000 * $share) . ')';
}

sub range_of_keys
{
	my ($table) = @_;
	my $first = below($table->{domain});
	my $last = $first + below(1 + int($table->{domain} / 10));

	return 'k BETWEEN ' . key_sql($table, $first) . ' AND ' . sprintf($table->{key}, $last);
}

# One change of rows.
sub change_sql
{
	my ($table) = @_;
	my $name = $table->{name};
	my $version = below(1000);
	my $kind = below(12);

	return insert_sql($table, 1, 1) if $kind < 2;
	return insert_sql($table, pick(5, 50, 300), below(2)) if $kind < 5;
	return "UPDATE $name SET version = $version WHERE " . some_rows($table, 0.05) if $kind == 5;
	return "UPDATE $name SET version = $version WHERE " . range_of_keys($table) if $kind == 6;
	return "UPDATE $name SET k = " . key_sql($table, below(1_000_000_000) . ' + version') . ' WHERE ' . some_rows($table, $table->{unique} ? 0.001 : 0.03)
	  if $kind == 7;
	return "DELETE FROM $name WHERE " . range_of_keys($table) if $kind == 8;
	return "DELETE FROM $name WHERE " . some_rows($table, pick(0.02, 0.1)) if $kind == 9;

	# back to the usual size
	return "DELETE FROM $name WHERE (SELECT count(*) FROM $name) > " . ROWS . ' AND ' . some_rows($table, 0.3);
}

# One step of a writer: a statement or a transaction.
sub step_sql
{
	my ($self) = @_;
	my $table = pick(@tables);
	my $name = $table->{name};
	my $kind = below(40);

	return change_sql($table) if $kind < 14;
	return "VACUUM $name" if $kind < 18;
	return "VACUUM (INDEX_CLEANUP on, FREEZE) $name" if $kind == 18;
	return "SELECT alex_compact('${name}_k')" if $kind == 19;
	return 'CHECKPOINT' if $kind == 20;
	return 'SET alexam.memtable_entries = ' . pick(100, 300, 10000) if $kind == 21;
	return 'SET alexam.batch_size = ' . pick(1, 100, 100000) if $kind == 22;
	return 'SET alexam.direct_seal_threshold = ' . pick(100, 1000, 100000) if $kind == 23;
	if ($kind == 24 && $self->{drop_files})
	{
		return pick("REINDEX INDEX ${name}_k", $self->{concurrently} ? "REINDEX INDEX CONCURRENTLY ${name}_k" : (),
			"VACUUM FULL $name", "CLUSTER $name USING ${name}_b",
			"BEGIN; TRUNCATE $name; " . insert_sql($table, ROWS / 2, 1) . '; COMMIT');
	}
	my @changes = map { change_sql(pick(@tables)) } 0 .. below(5);

	splice(@changes, below(@changes + 1), 0, 'SAVEPOINT s', change_sql($table), pick('ROLLBACK TO s', 'RELEASE s'))
	  if below(2);
	if ($kind < 28)
	{
		my $id = "torture_" . ++$self->{prepared};

		return join(";\n", 'BEGIN', @changes, "PREPARE TRANSACTION '$id'",
			pick(map { "$_ PREPARED '$id'" } 'COMMIT', 'COMMIT', 'ROLLBACK'));
	}
	return join(";\n", 'BEGIN ISOLATION LEVEL ' . pick('READ COMMITTED', 'READ COMMITTED', 'SERIALIZABLE'),
		@changes, pick('COMMIT', 'COMMIT', 'COMMIT', 'ROLLBACK'));
}

# Whether writers may use commands that give relations new files.
sub drop_files
{
	my ($self, $may) = @_;

	$self->{drop_files} = $may;
	return;
}

# Whether they may use REINDEX CONCURRENTLY.  That takes no regard of snapshots
# on standbys, with whatever kind of index: these see the new index, in which
# the rows are missing that were deleted before it was begun.
sub concurrently
{
	my ($self, $may) = @_;

	$self->{concurrently} = $may;
	return;
}

# Runs a script in psql.
sub start_script
{
	my ($self, $node, @lines) = @_;
	my $file = "$self->{directory}/script" . ++$self->{scripts};
	my %process = (where => $node->name, output => '', errors => '', file => $file, lines => scalar @lines);

	append_to_file($file, join('', map { "$_;\n" } @lines));
	$process{handle} = IPC::Run::start(
		[ 'psql', '-XqAt', '-v', 'VERBOSITY=terse', '-f', $file, $node->connstr('postgres') ],
		'<', \undef, '>', \$process{output}, '2>', \$process{errors},
		IPC::Run::timeout(900));
	return \%process;
}

sub finish_script
{
	my ($process) = @_;

	$process->{handle}->finish;
	unlink($process->{file});
	return;
}

sub start_writer
{
	my ($self, $node, $steps) = @_;

	return $self->start_script($node, "SET lock_timeout = '3s'",
		'SET client_min_messages = warning', map { $self->step_sql } 1 .. $steps);
}

# Waits for the end of a writer: number of steps, and what went wrong.
sub finish
{
	my ($self, $process) = @_;

	finish_script($process);
	my @complaints = grep { !/$acceptable/ } split(/\n/, $process->{errors});

	return ($process->{lines} - 2, @complaints);
}

#
# Readers
#

# All ways to read one set of rows, in one transaction.  One of them, if that is
# wanted, is slow.
sub read_lines
{
	my ($number, $table, $condition, $pause) = @_;
	my @lines = ('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
	my @slow = $pause ? (pick('plain', 'backward', 'index-only', 'bitmap')) : ();
	my $descending = $table->{descending} ? 'true' : 'false';

	foreach my $way (@slow, sort { $a->[1] <=> $b->[1] } map { [ $_, rand() ] } @ways)
	{
		my ($name, $wait) = ref($way) ? ($way->[0], 0) : ($way, $pause);

		next if $name eq 'bitmap' && $condition eq 'true';
		push(@lines, sprintf(q{SELECT '%d %s %s ' || coalesce(torture_read('%s', '%s', $q$%s$q$, %s, %s), 'none')},
				$number, $table->{name}, $name, $table->{name}, $name, $condition, $descending, $wait));
	}
	return (@lines, 'COMMIT');
}

sub random_condition
{
	my ($table) = @_;
	my $kind = below(6);

	return 'true' if $kind == 0;
	return 'X IS NOT NULL' if $kind == 1;
	return 'X IS NULL' if $kind == 2;
	return 'X IN (' . join(', ', map { key_sql($table, below($table->{domain})) } 1 .. 30) . ')' if $kind == 3;
	my ($first, $last) = sort { $a <=> $b } below($table->{domain}), below($table->{domain});

	return 'X BETWEEN ' . sprintf($table->{key}, $first) . ' AND ' . sprintf($table->{key}, $last);
}

sub start_reader
{
	my ($self, $node, $reads) = @_;
	my @lines;

	foreach my $number (1 .. $reads)
	{
		my $table = pick(@tables);

		push(@lines, read_lines($number, $table, random_condition($table), pick(0, 0.1, 0.5, 1)));
	}
	return $self->start_script($node, @lines);
}

# Reads all tables under several conditions, with nothing else going on.
sub start_comparison
{
	my ($self, $node) = @_;
	my ($number, @lines) = (0);

	foreach my $table (@tables)
	{
		push(@lines, read_lines(++$number, $table, $_, 0))
		  foreach 'true', 'X IS NOT NULL', 'X IS NULL', random_condition($table);
	}
	my $process = $self->start_script($node, @lines);

	$process->{complete} = 1;
	return $process;
}

# Waits for the end of a reader: number of results, number of recovery
# conflicts, and what went wrong.
sub finish_reads
{
	my ($self, $process) = @_;
	my ($results, $conflicts) = (0, 0);
	my (%keys, %places, @complaints);

	finish_script($process);
	foreach my $line (split(/\n/, $process->{errors}))
	{
		if ($line =~ /conflict with recovery/)
		{
			$conflicts++;
		}
		elsif (!($conflicts && $line =~ /current transaction is aborted|connection to server was lost|server closed the connection|terminated abnormally|before or while processing|no transaction in progress|no connection to the server|^(DETAIL|HINT|CONTEXT):/))
		{
			push(@complaints, $line);
		}
	}
	foreach my $line (split(/\n/, $process->{output}))
	{
		my ($number, $table, $way, $rows, $keys, $places) = split(/ /, $line);

		if ($rows eq 'none')
		{
			push(@complaints, "$line: not the plan that was wanted") if $process->{complete};
			next;
		}
		$results++;
		$keys{"$number $table"}{"$rows $keys"} .= " $way";
		$places{"$number $table"}{"$rows $places"} .= " $way" if $places ne '-';
	}
	foreach my $found (\%keys, \%places)
	{
		foreach my $read (sort keys %$found)
		{
			my %digests = %{ $found->{$read} };

			push(@complaints, "read $read: " . join('; ', map { "$_ by$digests{$_}" } sort keys %digests))
			  if keys %digests > 1;
		}
	}
	return ($results, $conflicts, @complaints);
}

1;
