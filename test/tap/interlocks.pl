# interlocks.pl
#	  Scans, inserts, seals, compactions and VACUUM at the same time.
#
# Each group of tests is named after the hazard of src/README that it is
# about.  Sessions are brought to the critical moment one by one; nothing
# depends on time.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('interlocks', <<'END');
alexam.memtable_entries = 100
alexam.batch_size = 1
statement_timeout = '60s'
enable_seqscan = off
enable_bitmapscan = off
max_pred_locks_per_transaction = 256
allow_in_place_tablespaces = on
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

sub session
{
	return open_session($node, @_);
}

sub wait_blocked
{
	return what_blocks($node, @_);
}

# All keys in [0, 1000000), in order, through the index and without it.
my $without_index = 'SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off;';

sub same_keys
{
	my ($table, $title) = @_;
	my $sql = "SELECT k FROM $table WHERE k >= 0 AND k < 1000000 ORDER BY k";

	my $expected = $node->safe_psql('postgres', "$without_index $sql");
	foreach my $mmap ('on', 'off')
	{
		is( $node->safe_psql('postgres', "SET alexam.use_mmap = $mmap; $sql"),
			$expected, "$title: right rows, use_mmap $mmap");
	}
	return;
}

# Rows deleted before a cursor was opened, which has entries of theirs in
# hand.  Their heap pages are all others than the one that it keeps pinned.
sub open_cursor_on_dead_rows
{
	my ($session, $table, $mmap, $condition) = @_;

	$condition //= 'k >= 0';
	$node->safe_psql('postgres', "DELETE FROM $table WHERE k % 2 = 0");
	$session->query("SET alexam.use_mmap = $mmap");
	$session->query('BEGIN');
	$session->query("DECLARE c CURSOR FOR SELECT k FROM $table WHERE $condition ORDER BY k");
	# batches grow up to this many: now one of the largest is in hand
	return $session->query('FETCH 45 FROM c');
}

#
# H2: VACUUM under an index-only scan
#
# Keys of a list that are not next to each other are looked up in groups.
my $list = 'k = ANY (ARRAY(SELECT i FROM generate_series(1, 2002) i WHERE i % 5 IN (1, 4)))';
foreach my $case (['run', 'k >= 0'], ['memtable', 'k >= 0'], ['memtable', $list])
{
	my ($place, $condition) = @$case;
	my @left = grep { $_ % 2 && ($condition ne $list || $_ % 5 == 1 || $_ % 5 == 4) } 1 .. 2002;

	foreach my $mmap ('on', 'off')
	{
		my $title = "H2, entries in a $place, $condition, use_mmap $mmap";
		# a group of keys, which needs a mapping, is read in the reader's place
		my $waits =
			$place eq 'memtable' && ($condition ne $list || $mmap eq 'off') ? 'idle'
		  : $mmap eq 'on' ? 'Extension'
		  :                 'BufferPin';
		my $reader = session('reader');
		my $vacuum = session('vacuum');
		my $large  = 'SET alexam.memtable_entries = 100000;';
		my $rows = 'INSERT INTO h2 SELECT i * 7919 % 2003 FROM generate_series(1, 2002) i;';
		my $index = 'CREATE INDEX h2_k ON h2 USING alex (k);';

		$node->safe_psql('postgres', "$large CREATE TABLE h2 (k int);"
			  . ($place eq 'run' ? "$rows $index" : "$index $rows"));
		$vacuum->query_safe($large);
		$vacuum->query_safe('VACUUM ANALYZE h2');
		is($node->safe_psql('postgres', "SELECT runs > 0 FROM alex_stats('h2_k')"),
			$place eq 'run' ? 't' : 'f', "$title: that is where they are");
		like($node->safe_psql('postgres', "EXPLAIN SELECT k FROM h2 WHERE $condition ORDER BY k"),
			qr/Index Only Scan using h2_k/, "$title: plan");

		my $keys = open_cursor_on_dead_rows($reader, 'h2', $mmap, $condition);
		send_statement($vacuum, 'VACUUM (INDEX_CLEANUP on) h2');
		is(wait_blocked('vacuum', 'VACUUM (INDEX_CLEANUP on) h2'), $waits, "$title: what VACUUM does");
		$keys .= "\n" . $reader->query('FETCH ALL FROM c');
		is($keys, join("\n", @left), "$title: no deleted row");
		$reader->query('COMMIT');
		$vacuum->query_safe('SELECT 1');
		same_keys('h2', $title);
		check_index($node, 'h2_k', $title);
		$_->quit foreach ($reader, $vacuum);
		$node->safe_psql('postgres', 'DROP TABLE h2');
	}
}

#
# H2: the same with a run that a compaction has retired since the scan took its
# view.  It has entries of a run and of the memtable, and so a pin on one leaf
# page of the run, which has no dead entries: VACUUM need not wait for it.
#
foreach my $mmap ('on', 'off')
{
	my $title  = "H2, retired run, use_mmap $mmap";
	my $reader = session('reader');
	my $rows   = 20000;

	# keys that are random for the codec, so that there are many leaf pages
	$node->safe_psql('postgres', <<"END");
SET alexam.memtable_entries = 100000;
CREATE TABLE h2 (k bigint) WITH (autovacuum_enabled = off);
INSERT INTO h2 SELECT hashint8extended(i, 0) & ((1::bigint << 60) - 1) FROM generate_series(1, $rows) i;
CREATE INDEX h2_k ON h2 USING alex (k);
INSERT INTO h2 SELECT hashint8extended(i, 1) & ((1::bigint << 60) - 1) FROM generate_series(1, 500) i;
VACUUM ANALYZE h2;
DELETE FROM h2 WHERE k > 1::bigint << 58;
END
	my $left = $node->safe_psql('postgres',
		"$without_index SELECT k FROM h2 ORDER BY k");
	$reader->query("SET alexam.use_mmap = $mmap");
	$reader->query('BEGIN');
	$reader->query('DECLARE c CURSOR FOR SELECT k FROM h2 WHERE k >= 0 ORDER BY k');
	my $keys = $reader->query('FETCH 2 FROM c');

	# the reader must not wait for these, nor they for the reader
	$node->safe_psql('postgres', <<'END');
SET alexam.memtable_entries = 100000;
SELECT alex_compact('h2_k');
VACUUM (INDEX_CLEANUP on) h2;
END
	is($node->safe_psql('postgres', "SELECT count(*) > 0 FROM alex_runs('h2_k') WHERE state = 'retired'"),
		't', "$title: there is one");
	is($node->safe_psql('postgres', "SELECT count(*) FROM h2 WHERE k > 1::bigint << 58"),
		'0', "$title: its rows are gone");
	$keys .= "\n" . $reader->query('FETCH ALL FROM c');
	ok($keys eq $left, "$title: no deleted row");
	$reader->query('COMMIT');
	check_index($node, 'h2_k', $title);
	$reader->quit;
	$node->safe_psql('postgres', 'DROP TABLE h2');
}

#
# H9: pages of a retired run are not used again while a scan follows a manifest
# that lists it as live.  All its entries are written anew, since the keys of
# those that are added lie between them.
#
foreach my $mmap ('on', 'off')
{
	my $title  = "H9, use_mmap $mmap";
	my $reader = session('reader');
	my $query  = 'SELECT k FROM h9 WHERE k >= 0 ORDER BY k';
	my $compact = "SELECT alex_compact('h9_k');";

	$node->safe_psql('postgres', <<'END');
SET alexam.memtable_entries = 100000;
CREATE TABLE h9 (k bigint) WITH (autovacuum_enabled = off);
INSERT INTO h9 SELECT hashint8extended(i, 0) & ((1::bigint << 60) - 1) FROM generate_series(1, 20000) i;
CREATE INDEX h9_k ON h9 USING alex (k);
INSERT INTO h9 SELECT hashint8extended(i, 1) & ((1::bigint << 60) - 1) FROM generate_series(1, 20000) i;
VACUUM ANALYZE h9;
END
	my $run = $node->safe_psql('postgres', "SELECT min(run) FROM alex_runs('h9_k')");
	my $expected = $node->safe_psql('postgres', "$without_index $query");
	$reader->query("SET alexam.use_mmap = $mmap");
	$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$reader->query("DECLARE c CURSOR FOR $query");
	my $keys = $reader->query('FETCH 2 FROM c');

	# retired, perhaps removed, and the pages written over
	foreach my $round (1 .. 3)
	{
		$node->safe_psql('postgres', <<"END");
SET alexam.memtable_entries = 100000;
$compact
SELECT txid_current();
$compact
INSERT INTO h9 SELECT -1 - (hashint8extended(i, $round) & ((1::bigint << 60) - 1)) FROM generate_series(1, 20000) i;
$compact
CHECKPOINT;
END
	}
	is($node->safe_psql('postgres', "SELECT state FROM alex_runs('h9_k') WHERE run = $run"),
		'retired', "$title: the run stays listed");
	$keys .= "\n" . ($reader->query('FETCH ALL FROM c') // '');
	ok($keys eq $expected, "$title: the cursor returns all rows")
	  or diag($reader->{stderr} || 'other rows');
	$reader->{stderr} = '';
	$reader->query('COMMIT');
	$reader->quit;

	$node->safe_psql('postgres', "$compact SELECT txid_current(); $compact");
	is($node->safe_psql('postgres', "SELECT count(*) FROM alex_runs('h9_k') WHERE run = $run"),
		'0', "$title: until the cursor is closed");
	check_index($node, 'h9_k', $title);
	$node->safe_psql('postgres', 'DROP TABLE h9');
}

#
# H2: the same with the keys of a list, looked up in several runs at a time.
# What is in hand is of no single leaf page; VACUUM waits for the reader's place.
#
foreach my $direction ('', ' DESC')
{
	my $title  = "H2, keys of a list$direction";
	my $reader = session('reader');
	my $vacuum = session('vacuum');
	my $list   = 'k = ANY (ARRAY(SELECT i * 10 FROM generate_series(1, 4000) i))';

	$node->safe_psql('postgres', <<'END');
CREATE TABLE h2 (k int) WITH (autovacuum_enabled = off);
INSERT INTO h2 SELECT i * 7919 % 4001 * 10 FROM generate_series(1, 4000) i WHERE i % 3 < 2;
CREATE INDEX h2_k ON h2 USING alex (k);
SET alexam.batch_size = 10000;
SET alexam.direct_seal_threshold = 100;
INSERT INTO h2 SELECT i * 7919 % 4001 * 10 FROM generate_series(1, 4000) i WHERE i % 3 = 2;
VACUUM ANALYZE h2;
DELETE FROM h2 WHERE k % 20 = 0;
END
	is($node->safe_psql('postgres', "SELECT count(*) FROM alex_runs('h2_k') WHERE state = 'live'"),
		2, "$title: two runs");
	my $left = $node->safe_psql('postgres',
		"$without_index SELECT k FROM h2 ORDER BY k$direction");
	$reader->query('BEGIN');
	$reader->query("DECLARE c CURSOR FOR SELECT k FROM h2 WHERE $list ORDER BY k$direction");
	# groups grow up to 64 keys: now one of the largest is in hand
	my $keys = $reader->query('FETCH 45 FROM c');
	send_statement($vacuum, 'VACUUM (INDEX_CLEANUP on) h2');
	is(wait_blocked('vacuum', 'VACUUM (INDEX_CLEANUP on) h2'), 'Extension',
		"$title: VACUUM waits for the reader's place");
	$keys .= "\n" . $reader->query('FETCH ALL FROM c');
	ok($keys eq $left, "$title: no deleted row");
	$reader->query('COMMIT');
	$vacuum->query_safe('SELECT 1');
	check_index($node, 'h2_k', $title);
	$_->quit foreach ($reader, $vacuum);
	$node->safe_psql('postgres', 'DROP TABLE h2');
}

#
# H8: a compaction while VACUUM sets dead bits
# H17: a seal, or a compaction, in a session that VACUUM waits for
#
# Many small runs; the cursor has a leaf page of each pinned, and VACUUM waits
# for the first.  Then somebody inserts until there are so many runs that
# inserters compact.
#
foreach my $hazard ('H8', 'H17')
{
	my $reader   = session('reader');
	my $vacuum   = session('vacuum');
	my $inserter = $hazard eq 'H8' ? session('inserter') : $reader;
	my $table    = lc $hazard;

	$node->safe_psql('postgres', "CREATE TABLE $table (k int); CREATE INDEX ${table}_k ON $table USING alex (k);");
	foreach my $run (1 .. 12)
	{
		$node->safe_psql('postgres',
			"INSERT INTO $table SELECT (i * 100 + $run) * 7919 % 100003 FROM generate_series(1, 100) i");
	}
	$node->safe_psql('postgres', "ANALYZE $table");
	is($node->safe_psql('postgres', "SELECT runs FROM alex_stats('${table}_k')"), 12, "$hazard: many runs");

	open_cursor_on_dead_rows($reader, $table, 'on');
	send_statement($vacuum, "VACUUM (INDEX_CLEANUP on) $table");
	is(wait_blocked('vacuum', "VACUUM (INDEX_CLEANUP on) $table"), 'BufferPin', "$hazard: VACUUM waits for a pin");
	$inserter->query("SET statement_timeout = '10s'");
	foreach my $run (1 .. 10)
	{
		$inserter->query(
			"INSERT INTO $table SELECT (i * 100 + $run + 50) * 7919 % 100003 FROM generate_series(1, 100) i");
	}
	cmp_ok($node->safe_psql('postgres', "SELECT runs FROM alex_stats('${table}_k')"),
		'>', 12, "$hazard: inserts are sealed, but not compacted, meanwhile");
	if ($hazard eq 'H17')
	{
		foreach my $function ('alex_compact', 'alex_check')
		{
			$reader->query("SAVEPOINT a; SELECT $function('${table}_k');");
			like($reader->{stderr}, qr/being used by active queries in this session/,
				"$hazard: $function refuses to wait");
			$reader->{stderr} = '';
			$reader->query('ROLLBACK TO a');
		}
	}
	is(wait_blocked('vacuum', "VACUUM (INDEX_CLEANUP on) $table"), 'BufferPin', "$hazard: VACUUM still waits");
	$reader->query('COMMIT');
	is($reader->{stderr}, '', "$hazard: nothing went wrong");
	$vacuum->query_safe('SELECT 1');

	# the line pointers that VACUUM freed are used again
	$node->safe_psql('postgres', "INSERT INTO $table SELECT 1000000 + i FROM generate_series(1, 3000) i");
	same_keys($table, $hazard);
	check_index($node, "${table}_k", $hazard);
	$node->safe_psql('postgres', "SELECT alex_compact('${table}_k')");
	same_keys($table, "$hazard, compacted");
	check_index($node, "${table}_k", "$hazard, compacted");
	$_->quit foreach ($reader, $vacuum, $hazard eq 'H8' ? $inserter : ());
}

#
# H8: VACUUM marks entries of the log dead while a seal, which has read them, is
# about to list their run
#
{
	my $inserter = session('inserter');
	my $vacuum   = session('vacuum');

	$node->safe_psql('postgres', <<'END');
CREATE TABLE h8_seal (k int) WITH (autovacuum_enabled = off);
CREATE INDEX h8_seal_k ON h8_seal USING alex (k);
INSERT INTO h8_seal SELECT i FROM generate_series(1, 90) i;
DELETE FROM h8_seal WHERE k % 2 = 0;
END
	set_server($node, 'alexam.failpoint', q{'seal-before-install?'}, $inserter);
	send_statement($inserter, 'INSERT INTO h8_seal SELECT i FROM generate_series(101, 120) i');
	is(wait_blocked('inserter', 'INSERT INTO h8_seal SELECT i FROM generate_series(101, 120) i'),
		'Extension', 'H8, seal: the run is written, but not listed');

	# whoever would seal next goes on without, instead of waiting (H17)
	my (undef, undef, $errors) = $node->psql('postgres', <<'END');
SET alexam.failpoint = '';
SET lock_timeout = '5s';
INSERT INTO h8_seal SELECT i FROM generate_series(201, 400) i;
END
	is($errors, '', 'H17: an inserter does not wait for a seal');

	send_statement($vacuum, 'VACUUM (INDEX_CLEANUP on) h8_seal');
	is(wait_blocked('vacuum', 'VACUUM (INDEX_CLEANUP on) h8_seal'), 'Lock', 'H8, seal: VACUUM waits');
	set_server($node, 'alexam.failpoint', q{''});
	$_->query_safe('SELECT 1') foreach ($inserter, $vacuum);

	# the line pointers that VACUUM freed are used again
	$node->safe_psql('postgres', 'INSERT INTO h8_seal SELECT 1000000 + i FROM generate_series(1, 300) i');
	same_keys('h8_seal', 'H8, seal');
	check_index($node, 'h8_seal_k', 'H8, seal');
	$_->quit foreach ($inserter, $vacuum);
}

#
# H19: a mapping that is in use is neither unmapped nor pushed out
#
{
	my $reader = session('reader');

	$node->safe_psql('postgres', <<'END');
CREATE TABLE h19 (k int, filler int);
INSERT INTO h19 SELECT i * 7919 % 5000, 0 FROM generate_series(0, 4999) i;
CREATE INDEX h19_k ON h19 USING alex (k);
CREATE INDEX h19_filler ON h19 USING alex (filler);
DO $$ BEGIN
	FOR i IN 1 .. 80 LOOP
		EXECUTE format('CREATE TABLE h19_%s (k int)', i);
		EXECUTE format('INSERT INTO h19_%s SELECT generate_series(1, 200)', i);
		EXECUTE format('CREATE INDEX ON h19_%s USING alex (k)', i);
	END LOOP;
END $$;
ANALYZE;
END
	$reader->query('BEGIN');
	$reader->query('DECLARE c CURSOR FOR SELECT k, filler FROM h19 WHERE k >= 0 ORDER BY k');
	my $rows = $reader->query('FETCH 10 FROM c');

	foreach my $round (1 .. 3)
	{
		# the invalidations arrive with the reader's next lock
		$node->safe_psql('postgres', <<"END");
INSERT INTO h19 SELECT -i, 0 FROM generate_series(1, 1000) i;
ANALYZE h19;
ALTER TABLE h19 SET (autovacuum_enabled = off);
END
		is( $reader->query(<<"END"), '80', "H19: many other mappings, round $round");
REINDEX INDEX h19_$round\_k_idx;
DO \$\$ DECLARE n int; BEGIN
	FOR i IN 1 .. 80 LOOP
		EXECUTE format('SELECT count(*) FROM h19_%s WHERE k > 0', i) INTO n;
		ASSERT n = 200;
	END LOOP;
END \$\$;
SELECT count(*) FROM generate_series(1, 80);
END
		$rows .= "\n" . $reader->query('FETCH 1000 FROM c');
	}
	$rows .= "\n" . $reader->query('FETCH ALL FROM c');
	is($rows, join("\n", map { "$_|0" } 0 .. 4999), 'H19: the cursor returns all rows');
	$reader->query('COMMIT');
	is($reader->{stderr}, '', 'H19: nothing went wrong');
	$reader->quit;
}

#
# H10: another content under the same relation file
#
is( $node->safe_psql('postgres', <<'END'), "400|20200\n0|\n150|151275\n150|300011325", 'H10: emptied in place');
CREATE TABLE h10 (k int);
CREATE INDEX h10_k ON h10 USING alex (k);
INSERT INTO h10 SELECT i FROM generate_series(1, 250) i;
BEGIN;
TRUNCATE h10;
INSERT INTO h10 SELECT i % 100 + 1 FROM generate_series(1, 400) i;
SELECT count(*), sum(k) FROM h10 WHERE k > 0;
TRUNCATE h10;
SELECT count(*), sum(k) FROM h10 WHERE k > 0;
INSERT INTO h10 SELECT i + 933 FROM generate_series(1, 150) i;
SELECT count(*), sum(k) FROM h10 WHERE k > 0;
TRUNCATE h10;
INSERT INTO h10 SELECT i + 2000000 FROM generate_series(1, 150) i;
SELECT count(*), sum(k) FROM h10 WHERE k > 0;
COMMIT;
END
check_index($node, 'h10_k', 'H10: emptied in place');

# the same when the numbers of the manifest's version and of the generation are
# what they were before
is( $node->safe_psql('postgres', <<'END'), "50|1275\n0|\n40|40820", 'H10: emptied in place, the same numbers');
BEGIN;
CREATE TABLE h10_numbers (k int);
CREATE INDEX h10_numbers_k ON h10_numbers USING alex (k);
INSERT INTO h10_numbers SELECT i FROM generate_series(1, 50) i;
SELECT count(*), sum(k) FROM h10_numbers WHERE k > 0;
TRUNCATE h10_numbers;
SELECT count(*), sum(k) FROM h10_numbers WHERE k > 0;
INSERT INTO h10_numbers SELECT i + 1000 FROM generate_series(1, 40) i;
SELECT count(*), sum(k) FROM h10_numbers WHERE k > 0;
COMMIT;
END
check_index($node, 'h10_numbers_k', 'H10: emptied in place, the same numbers');

my $sum = 'SELECT count(*), sum(k) FROM h10 WHERE k > 0';
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION ''");
$node->safe_psql('postgres', 'CREATE DATABASE moved');
$node->safe_psql('moved', <<"END");
CREATE EXTENSION alexam;
CREATE TABLE h10 (k int);
CREATE INDEX h10_k ON h10 USING alex (k);
INSERT INTO h10 SELECT i FROM generate_series(1, 50) i;
$sum
END
$node->safe_psql('postgres', 'ALTER DATABASE moved SET TABLESPACE elsewhere');
is($node->safe_psql('moved', "INSERT INTO h10 SELECT i FROM generate_series(51, 60) i; $sum"),
	'60|1830', 'H10: database moved away');
$node->safe_psql('postgres', 'ALTER DATABASE moved SET TABLESPACE pg_default');
is($node->safe_psql('moved', $sum), '60|1830', 'H10: database moved back, with more rows');
$node->safe_psql('moved', "SELECT alex_check('h10_k', true)");

# a database dropped and made again with the same numbers
$node->safe_psql('postgres', 'CREATE DATABASE again OID 54321 TEMPLATE moved');
is($node->safe_psql('again', "INSERT INTO h10 SELECT i FROM generate_series(61, 300) i; DELETE FROM h10 WHERE k <= 10; $sum"),
	'290|45095', 'H10: copy of a database');
$node->safe_psql('again', 'VACUUM h10');
$node->safe_psql('postgres', 'DROP DATABASE again');
foreach my $strategy ('wal_log', 'file_copy')
{
	$node->safe_psql('postgres', "CREATE DATABASE again OID 54321 TEMPLATE moved STRATEGY $strategy");
	is($node->safe_psql('again', $sum), '60|1830', "H10: another copy by $strategy");
	$node->safe_psql('again', "INSERT INTO h10 VALUES (1000); SELECT alex_check('h10_k', true)");
	$node->safe_psql('postgres', 'DROP DATABASE again');
}

#
# H7: a scan sees each entry once, wherever seals and compactions put it
#
{
	my $script = $node->basedir . '/h7.sql';
	my $results = '';

	append_to_file($script, <<'END');
\set k random(0, 1999)
UPDATE h7 SET filler = filler + 1 WHERE k = :k;
END
	# with an index on what is updated there are no heap-only tuples
	$node->safe_psql('postgres', <<'END');
CREATE TABLE h7 (k int, filler int);
INSERT INTO h7 SELECT i, 0 FROM generate_series(0, 1999) i;
CREATE INDEX h7_k ON h7 USING alex (k);
CREATE INDEX h7_filler ON h7 USING alex (filler);
VACUUM ANALYZE h7;
END
	my $load = IPC::Run::start(
		[
			'pgbench', '--no-vacuum', '--client=3', '--jobs=1', '--transactions=1500',
			"--file=$script", '--host=' . $node->host, '--port=' . $node->port, 'postgres'
		],
		'>', \$results, '2>', \$results);
	my $reader = session('reader');
	my ($rounds, $wrong) = (0, 0);
	my @ways = (
		'SET enable_bitmapscan = off; SELECT count(*), count(DISTINCT k) FROM h7 WHERE k >= 0;',
		'SET enable_bitmapscan = off; SELECT count(*), count(DISTINCT k) FROM (SELECT k, filler FROM h7 WHERE k >= 0 ORDER BY k DESC OFFSET 0) s;',
		'SET enable_bitmapscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT count(*), count(DISTINCT k) FROM h7 WHERE k >= 0; RESET enable_indexscan; RESET enable_indexonlyscan;');

	while ($load->pumpable)
	{
		$load->pump_nb;
		foreach my $way (@ways)
		{
			my $mmap = $rounds++ % 2 ? 'on' : 'off';
			my $counts = $reader->query("SET alexam.use_mmap = $mmap; $way");

			next if $counts eq '2000|2000';
			$wrong++;
			diag("use_mmap $mmap, $way: $counts");
		}
		$node->safe_psql('postgres', 'VACUUM h7') if $rounds % 10 == 0;
	}
	$load->finish;
	like($results, qr{processed: 4500/4500}, 'H7: the load is done');
	cmp_ok($rounds, '>=', 6, 'H7: enough scans meanwhile');
	is($wrong, 0, 'H7: each scan counts all rows, and each once');
	same_keys('h7', 'H7');
	check_index($node, 'h7_k', 'H7');
	check_index($node, 'h7_filler', 'H7');
	$reader->quit;
}

#
# H4: serializable transactions
#
# Two sessions take turns; what is returned is what the commits say.
sub anomaly
{
	my ($method, $first, $second) = @_;
	my @sessions = (session('one'), session('two'));

	$node->safe_psql('postgres', <<"END");
CREATE TABLE h4 (k int, filler int);
INSERT INTO h4 SELECT i, 0 FROM generate_series(1, 1000) i;
CREATE INDEX h4_k ON h4 USING $method (k);
ANALYZE h4;
END
	foreach my $statement ('BEGIN ISOLATION LEVEL SERIALIZABLE', $first, $second, 'COMMIT')
	{
		foreach my $number (0, 1)
		{
			$sessions[$number]->query($statement =~ s/NUMBER/$number/gr);
		}
	}
	my $outcome = join(', ',
		map { $_->{stderr} =~ /could not serialize/ ? 'fails' : 'commits' } @sessions);
	$_->quit foreach @sessions;
	$node->safe_psql('postgres', 'DROP TABLE h4');
	return $outcome;
}

foreach my $case (
	[ 'write skew', 'SELECT sum(filler) FROM h4 WHERE k BETWEEN 10 AND 11',
		'UPDATE h4 SET filler = 1 WHERE k = 10 + NUMBER' ],
	[ 'phantom', 'SELECT count(*) FROM h4 WHERE k BETWEEN 2000 AND 2010',
		'INSERT INTO h4 VALUES (2005, NUMBER)' ])
{
	my ($title, @statements) = @$case;
	my $alex = anomaly('alex', @statements);

	is($alex, 'commits, fails', "H4: $title");
	is($alex, anomaly('btree', @statements), "H4: $title, as with btree");
}

# An insert that the server has checked for conflicts, but that is not in the
# index yet, while a reader comes and goes.
$node->safe_psql('postgres', <<'END');
CREATE FUNCTION slow_lane(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
	IF current_setting('test.slow', true) = 'on' THEN
		PERFORM pg_advisory_lock_shared(4), pg_advisory_unlock_shared(4);
	END IF;
	RETURN $1;
END $$;
CREATE OPERATOR CLASS slow_ops FOR TYPE int USING alex AS
	OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >,
	FUNCTION 1 slow_lane(int);
CREATE TABLE h4 (k int);
INSERT INTO h4 SELECT generate_series(1, 1000);
CREATE INDEX h4_k ON h4 USING alex (k slow_ops);
ANALYZE h4;
CREATE TABLE other (k int);
END
{
	my $gate   = session('gate');
	my $writer = session('writer');
	my $reader = session('reader');

	$gate->query('SELECT pg_advisory_lock(4)');
	$writer->query("SET test.slow = 'on'; BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM other;");
	send_statement($writer, 'INSERT INTO h4 VALUES (2005)');
	is(wait_blocked('writer', 'INSERT INTO h4 VALUES (2005)'), 'Lock', 'H4: an insert is on its way into the index');
	$reader->query('BEGIN ISOLATION LEVEL SERIALIZABLE');
	is($reader->query('SELECT count(*) FROM h4 WHERE k BETWEEN 2000 AND 2010'), '0', 'H4: a reader misses it');
	$reader->query('INSERT INTO other VALUES (1); COMMIT;');
	is($reader->{stderr}, '', 'H4: the reader commits first');
	$gate->query('SELECT pg_advisory_unlock(4)');
	$writer->query('COMMIT');
	like($writer->{stderr}, qr/could not serialize access/, 'H4: then the insert fails');
	$_->quit foreach ($gate, $writer, $reader);
}

$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
