#!/usr/bin/perl
#
# dead_entries.pl
#	  Entries whose rows are dead before VACUUM comes: hints that let scans
#	  pass over them, and seals and merges that leave them out.
#
# How many entries a scan delivers is how many heap tuples it makes its caller
# look at.  What btree needs for the same query is the measure.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby;
use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('dead_entries', "alexam.memtable_entries = 100000\n");
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');
my $settings = 'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off;';

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

#
# A queue: the first row comes after many dead ones.  The alex index is on k,
# the btree index on b.
#
foreach my $place ('memtable', 'run')
{
	sql(<<'END');
CREATE TABLE q (k int8, b int8);
CREATE INDEX q_k ON q USING alex (k);
CREATE INDEX q_b ON q USING btree (b);
INSERT INTO q SELECT i, i FROM generate_series(1, 20000) i;
END
	sql("SELECT alex_compact('q_k')") if $place eq 'run';
	is(sql("SELECT runs FROM alex_stats('q_k')"),
		$place eq 'run' ? 1 : 0, "$place: where the entries are");
	# what is left at both ends, and a few in between
	sql('DELETE FROM q WHERE (k > 2 AND k < 9000) OR (k > 9003 AND k <= 19990)');
	sql('DELETE FROM q WHERE k <= 2 OR k > 19997');

	my %queries = (
		'first row'      => [ 'SELECT %s, ctid FROM q ORDER BY %s LIMIT 1',               '9000' ],
		'last row'       => [ 'SELECT %s, ctid FROM q ORDER BY %s DESC LIMIT 1',          '19997' ],
		'range'          => [ 'SELECT %s, ctid FROM q WHERE %s > 9001 ORDER BY %s LIMIT 3', '9002' ],
		'range backward' => [ 'SELECT %s, ctid FROM q WHERE %s < 19000 ORDER BY %s DESC LIMIT 3', '9003' ],
		'index-only'     => [ 'SELECT %s FROM q WHERE %s > 10 AND %s < 19992', '9000' ],
		'one dead key'   => [ 'SELECT %s, ctid FROM q WHERE %s = 777',                    '' ]);

	my $first_cost = 0;
	foreach my $name ('one dead key', 'first row', 'last row', 'range', 'range backward', 'index-only')
	{
		my ($query, $expected) = @{ $queries{$name} };
		my (%once, %again);

		foreach my $column ('k', 'b')
		{
			my $this = $query;
			$this =~ s/%s/$column/g;
			($once{$column}, my $number) = entries_read($node, "q_$column", $this);
			$first_cost = $number if $column eq 'k' && $name eq 'first row';
			$again{$column} = [ entries_read($node, "q_$column", $this) ];
			is_deeply($again{$column}[0], $once{$column}, "$place, $name: $column again");
		}
		is($once{k}, $once{b}, "$place, $name: rows");
		like($once{k}, qr/^\Q$expected\E/, "$place, $name: these");
		cmp_ok($again{k}[1], '<=', $again{b}[1], "$place, $name: entries read again, $again{b}[1] by btree");
	}
	cmp_ok($first_cost, '>', 8000, "$place: there were dead rows on the way");
	check_index($node, 'q_k', $place);
	compare_scans($node, 'q', $place);

	# with a cursor open that keeps a batch in hand
	my $cursor = session($node, 'plain');
	$cursor->query_safe('BEGIN');
	$cursor->query_safe('DECLARE c SCROLL CURSOR FOR SELECT k FROM q WHERE k > 100 ORDER BY k');
	is($cursor->query_safe('FETCH 2 FROM c'), "9000\n9001", "$place: a cursor");
	sql('DELETE FROM q WHERE k = 9002');
	is($cursor->query_safe('FETCH 2 FROM c'), "9002\n9003", "$place: rows of its snapshot");
	is($cursor->query_safe('FETCH BACKWARD 4 FROM c'), "9002\n9001\n9000", "$place: backward");
	$cursor->query_safe('COMMIT');
	$cursor->quit;

	# without a memory of them, after a restart, the dead are found once more
	$node->restart;
	is((entries_read($node, 'q_k', 'SELECT k FROM q ORDER BY k LIMIT 1'))[0],
		'9000', "$place: after a restart");
	is((entries_read($node, 'q_k', 'SELECT k, ctid FROM q ORDER BY k LIMIT 1'))[1],
		'1', "$place: after a restart, again");
	sql('VACUUM q');
	check_index($node, 'q_k', "$place, after VACUUM");
	compare_scans($node, 'q', "$place, after VACUUM");
	sql('DROP TABLE q');
}

# The same row updated over and over
sql(<<'END');
CREATE TABLE u (k int8, b int8, v int8);
CREATE INDEX u_k ON u USING alex (k);
CREATE INDEX u_b ON u USING btree (b);
CREATE INDEX u_v ON u USING btree (v);
INSERT INTO u SELECT i, i, i FROM generate_series(1, 100) i;
END
foreach my $round (1 .. 3)
{
	sql('UPDATE u SET v = v + 1000 WHERE k = 50;' x 200);
	my ($row, $number) = entries_read($node, 'u_k', 'SELECT k, ctid FROM u WHERE k = 50');
	is((entries_read($node, 'u_k', 'SELECT k, ctid FROM u WHERE k = 50'))[1],
		'1', "one key updated, round $round");
	sql("SELECT alex_compact('u_k')") if $round == 2;
}
compare_scans($node, 'u', 'one key updated');

# An update of a unique key visits the versions before it no more than once.
foreach my $place ('memtable', 'run')
{
	sql(<<"END");
CREATE TABLE uk (k int8, b int8, v int8);
CREATE UNIQUE INDEX uk_k ON uk USING alex (k);
CREATE INDEX uk_v ON uk USING btree (v);
INSERT INTO uk SELECT i, i, 0 FROM generate_series(1, 10) i;
END
	sql("SELECT alex_compact('uk_k')") if $place eq 'run';
	sql('UPDATE uk SET v = v + 1 WHERE k = 5;' x 100);
	my $visited = sql(<<'END');
BEGIN;
UPDATE uk SET v = v + 1 WHERE k = 5;
SELECT pg_stat_get_xact_blocks_fetched('uk'::regclass) < 20;
COMMIT;
END
	is($visited, 't', "unique key updated, $place: few visits to the heap");
	is((entries_read($node, 'uk_k', 'SELECT k, ctid FROM uk WHERE k = 5'))[1] <= 3 ? 'few' : 'many',
		'few', "unique key updated, $place: entries read");
	sql('DROP TABLE uk');
}

#
# Hazard H23: a hint for an entry of the memtable is applied after VACUUM has
# removed the entry and its TID was given to a row with the same key.
#
sql(<<'END');
CREATE TABLE h23 (k int8, b int8, filler text);
ALTER TABLE h23 ALTER filler SET STORAGE plain;
CREATE INDEX h23_k ON h23 USING alex (k);
CREATE INDEX h23_b ON h23 USING btree (b);
INSERT INTO h23 SELECT i, i, repeat('x', 3000) FROM generate_series(1, 6) i;
DELETE FROM h23 WHERE k <= 2;
END
my $reader = session($node, 'plain');
$reader->query_safe('BEGIN');
$reader->query_safe('DECLARE c CURSOR FOR SELECT k, ctid FROM h23 ORDER BY k');
is($reader->query_safe('FETCH 1 FROM c'), '3|(1,1)', 'H23: dead rows were passed');
sql('VACUUM h23');
is(sql("INSERT INTO h23 VALUES (1, 1, repeat('x', 3000)) RETURNING ctid"),
	'(0,1)', 'H23: the TID is used again');
$reader->query_safe('COMMIT');
$reader->quit;
is(sql("$settings SELECT k, ctid FROM h23 WHERE k < 3"), '1|(0,1)', 'H23: the new row is found');
compare_scans($node, 'h23', 'H23');
check_index($node, 'h23_k', 'H23');

#
# Hints are of one index only, also where a copy of the database has the same
# pages; and when there are too many for the table, none is seen in the place
# of another.
#
$node->append_conf('postgresql.conf', "alexam.hint_memory = '64kB'");
$node->restart;
sql(<<'END');
CREATE TABLE h (k int8, b int8);
INSERT INTO h SELECT i::int8 * 7919 % 300007, i::int8 * 7919 % 300007 FROM generate_series(1, 300000) i;
CREATE INDEX h_k ON h USING alex (k);
END
sql('CREATE DATABASE copy TEMPLATE postgres');
sql('DELETE FROM h WHERE k < 5000');
my $count = 'SELECT count(b), sum(b) FROM h WHERE k >= 0 AND k < 20000';
my ($left, $read) = entries_read($node, 'h_k', $count);
is((entries_read($node, 'h_k', $count))[1], $read - 5000 + 1, 'many hints: a few are remembered');
# a hint of its own makes scans look for others
$node->safe_psql('copy', "DELETE FROM h WHERE k = 15000; $settings SELECT count(b) FROM h WHERE k = 15000");
is($node->safe_psql('copy', "$settings $count"), '19998|199975000', 'a copy of the database has none of them');
$node->safe_psql('copy', "VACUUM h");
sql('DELETE FROM h WHERE (k & 8) <> 0');
$count = 'SELECT count(b), sum(b) FROM h WHERE k >= 0';
my $expected = sql("SET enable_indexscan = off; SET enable_bitmapscan = off; $count");
is((entries_read($node, 'h_k', $count))[0], $expected, "too many hints: rows, $_ time") foreach ('first', 'second', 'third');
sql('DROP TABLE h');
$node->append_conf('postgresql.conf', "alexam.hint_memory = '4MB'");
$node->restart;

#
# Seals and merges leave out what is dead
#
sql(<<'END');
CREATE TABLE d (k int8, b int8, v int8);
INSERT INTO d SELECT i * 7919 % 20011, i * 7919 % 20011, 0 FROM generate_series(1, 20000) i;
CREATE INDEX d_k ON d USING alex (k);
CREATE INDEX d_b ON d USING btree (b);
CREATE INDEX d_v ON d USING btree (v);
END
my $fresh = sql("SELECT leaf_pages FROM alex_runs('d_k')");

sub live_entries
{
	return sql(q(SELECT sum(entries) FROM alex_runs('d_k') WHERE state = 'live'));
}

sql('UPDATE d SET v = v + 1') foreach (1 .. 4);
sql("SELECT alex_compact('d_k')");
is(live_entries(), '20000', 'old versions in log and run');
sql('UPDATE d SET v = v + 1') foreach (1 .. 4);
sql('UPDATE d SET k = k + 100000, b = b + 100000 WHERE k < 5000');
# only a scan can tell that these are dead, since their keys are different
entries_read($node, 'd_k', 'SELECT count(v) FROM d WHERE k < 5000');
sql("SELECT alex_compact('d_k')");
is(live_entries(), '20000', 'old keys in log and run, found by a scan');
check_index($node, 'd_k', 'versions dropped');
compare_scans($node, 'd', 'versions dropped');

# what somebody still sees stays
my $old = session($node, 'plain');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $before = $old->query_safe('SELECT count(v), sum(k) FROM d WHERE k >= 0');
sql('UPDATE d SET v = v + 1') foreach (1 .. 2);
sql('DELETE FROM d WHERE k % 3 = 0');
sql("SELECT alex_compact('d_k')");
is($old->query_safe('SELECT count(v), sum(k) FROM d WHERE k >= 0'), $before, 'an old snapshot sees its rows');
$old->query_safe('COMMIT');
$old->quit;
compare_scans($node, 'd', 'after an old snapshot');

# rows of transactions that were rolled back
sql('BEGIN; UPDATE d SET v = v + 1; ROLLBACK;');
sql('INSERT INTO d VALUES (-1, -1, 0)');
entries_read($node, 'd_k', 'SELECT count(v) FROM d WHERE k >= 0');
sql("SELECT alex_compact('d_k')");
is(live_entries(), sql('SELECT count(*) FROM d'), 'rolled back versions, and rows that were deleted');
check_index($node, 'd_k', 'rolled back versions');
compare_scans($node, 'd', 'rolled back versions');

# Rows updated a few at a time, over and over, without VACUUM: the background
# workers keep the file within four times the size of a fresh index: the log,
# a run, and another one that is to replace it.
$node->append_conf('postgresql.conf', 'alexam.background_compaction = on');
$node->reload;
sql(<<'END');
CREATE TABLE churn (id int4, k int8, b int8, v int8);
INSERT INTO churn SELECT i, hashint8extended(i, 0), hashint8extended(i, 0), 0 FROM generate_series(1, 50000) i;
CREATE INDEX churn_k ON churn USING alex (k);
CREATE INDEX churn_b ON churn USING btree (b);
CREATE INDEX churn_v ON churn USING btree (v);
CREATE PROCEDURE churn() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..250 LOOP
		UPDATE churn SET v = v + 1 WHERE id % 250 = i * 7 % 250;
		COMMIT;
		PERFORM pg_sleep(0.005);
	END LOOP;
END;
$$;
END
my $fresh_size = sql("SELECT pg_relation_size('churn_k')");
foreach my $round (1 .. 6)
{
	sql('CALL churn()');
	ok($node->poll_query_until("postgres",
			"SELECT sum(entries) < 80000 FROM alex_runs('churn_k') WHERE state = 'live'"),
		"churn, round $round: old versions go");
}
my $size = sql("SELECT pg_relation_size('churn_k')");
cmp_ok($size, '<', 4 * $fresh_size, "churn: size of the file, $size after $fresh_size");
check_index($node, 'churn_k', 'churn');
compare_scans($node, 'churn', 'churn');
sql('DROP TABLE churn');

# Many duplicates, all alive, do not make a merge visit the heap for each.
sql(<<'END');
CREATE TABLE dup (k int8, b int8, filler text);
CREATE INDEX dup_k ON dup USING alex (k);
INSERT INTO dup SELECT i % 10, 0, repeat('x', 400) FROM generate_series(1, 10000) i;
END
my $visited = sql(<<'END');
BEGIN;
SELECT '' FROM alex_compact('dup_k');
SELECT pg_stat_get_xact_blocks_fetched('dup'::regclass) < 400;
COMMIT;
END
like($visited, qr/t$/, 'duplicates: only a sample is looked at');

done_testing();
