#!/usr/bin/perl
#
# standby.pl
#	  Standbys replay all kinds of changes and answer queries meanwhile.
#
# Hazards: H1 (mapped pages without dead bits), H13 (promotion).
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexDamage;
use AlexStandby;
use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = replicated_node('primary', '');
my $standby = start_standby('standby', $primary, $primary);
my $small = start_standby('small', $primary, $primary, <<'END');
alexam.memtable_memory = 1MB
alexam.max_memtables = 8
END
my $cascaded = start_standby('cascaded', $primary, $standby);
my @standbys = ($standby, $small, $cascaded);

sub on_primary
{
	my ($sql) = @_;

	return $primary->safe_psql('postgres', $sql);
}

sub compare_standbys
{
	my ($table, $name) = @_;

	catch_up($primary, @standbys);
	foreach my $node (@standbys)
	{
		my $where = "$name, on " . $node->name;

		compare_scans($node, $table, $where);
		check_index($node, "${table}_k", $where);
	}
}

#
# Rounds of all kinds of changes
#
make_table($primary, 't', 1000);
my @rounds = (
	[
		'inserts that stay in the log', <<'END'
SET alexam.memtable_entries = 100000;
INSERT INTO t SELECT i, i FROM generate_series(1, 700) i;
END
	],
	[
		'batches packed in WAL', <<'END'
INSERT INTO t SELECT key, key FROM (SELECT nullif(i % 5, 0) * i * 7919 AS key
	FROM generate_series(1, 150) i) keys;
INSERT INTO t SELECT i, i FROM generate_series(1, 150) i;
END
	],
	[
		'direct seals', <<'END'
SET alexam.direct_seal_threshold = 100;
INSERT INTO t SELECT i, i FROM generate_series(20000, 20600) i;
INSERT INTO t SELECT nullif(i, 30), nullif(i, 30) FROM generate_series(1, 400) i;
END
	],
	[
		'seals', <<'END'
INSERT INTO t SELECT i * 31 % 9973, i * 31 % 9973
	FROM generate_series(1, 900) i;
END
	],
	[
		'updates and NULLs', <<'END'
UPDATE t SET k = k + 5, b = b + 5 WHERE k % 10 = 3;
INSERT INTO t SELECT NULL, NULL FROM generate_series(1, 50) i;
END
	],
	[
		'dead bits in log and runs', <<'END'
DELETE FROM t WHERE k % 7 = 0;
DELETE FROM t WHERE k IS NULL AND random() < 0.5;
VACUUM t;
END
	],
	[
		'TIDs used again', <<'END'
INSERT INTO t SELECT 20000 + i, 20000 + i FROM generate_series(1, 800) i;
VACUUM t;
END
	],
	[
		'compaction', <<'END'
SELECT alex_compact('t_k');
SELECT txid_current();
INSERT INTO t SELECT i, i FROM generate_series(1, 500) i;
SELECT alex_compact('t_k');
END
	],
	[
		'removal of retired runs', <<'END'
DELETE FROM t WHERE k BETWEEN 1000 AND 4000;
VACUUM t;
SELECT alex_compact('t_k');
SELECT txid_current();
VACUUM t;
END
	],
	[
		'an empty table', <<'END'
DELETE FROM t;
VACUUM t;
SELECT alex_compact('t_k');
SELECT txid_current();
VACUUM t;
END
	],
	[
		'a rebuild in place', <<'END'
BEGIN;
TRUNCATE t;
INSERT INTO t VALUES (1, 1);
TRUNCATE t;
INSERT INTO t SELECT i * 7919 % 10007, i * 7919 % 10007
	FROM generate_series(1, 600) i;
COMMIT;
END
	]);

foreach my $round (@rounds)
{
	my ($name, $sql) = @$round;

	on_primary($sql);
	compare_standbys('t', $name);
}

my $segment = on_primary('SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
on_primary('INSERT INTO t VALUES (1, 1)');
catch_up($primary, @standbys);
my ($dump, $dump_errors) = run_command(
	[
		'pg_waldump', '--rmgr=custom187', '--bkp-details',
		$primary->data_dir . "/pg_wal/$segment"
	]);
like($dump, qr/for WAL verification/, 'redo of alexam is verified');

#
# A log that does not fit into a standby's arena
#
make_table($primary, 'big', 100);
on_primary(<<'END');
SET wal_consistency_checking = '';
SET alexam.memtable_entries = 1000000;
SET alexam.batch_size = 8000;
INSERT INTO big SELECT i * 7919 % 100003, i * 7919 % 100003
	FROM generate_series(1, 65000) i;
END
catch_up($primary, @standbys);
compare_scans($standby, 'big', 'a large log');
compare_scans($small, 'big', 'a large log, on small');
check_index($small, 'big_k', 'a large log, on small');
is($small->safe_psql('postgres',
		"SELECT memtable_entries, log_entries FROM alex_stats('big_k')"),
	'|65000', 'the small standby has no memtable for a large log');
is($standby->safe_psql('postgres',
		"SELECT memtable_entries, log_entries FROM alex_stats('big_k')"),
	'65000|65000', 'the other standby has one');
on_primary(<<'END');
SET wal_consistency_checking = '';
SET alexam.memtable_entries = 1000000;
DELETE FROM big WHERE k % 3 = 0;
VACUUM big;
INSERT INTO big SELECT i, i FROM generate_series(200000, 201000) i;
END
catch_up($primary, @standbys);
compare_scans($small, 'big', 'a large log with dead entries, on small');

#
# Who watches asks for all indexes that can be read: by the query of the
# README, here and there, with indexes beside them that cannot.
#
my $statistics = <<'END';
SET ROLE watcher;
SELECT i.indexrelid::regclass
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
JOIN pg_am a ON a.oid = c.relam AND a.amname = 'alex',
    alex_stats(i.indexrelid) s
WHERE i.indisvalid AND c.relpersistence = 'p'
ORDER BY 1;
END
make_table($primary, 'twins', 10);
on_primary(<<'END');
CREATE ROLE watcher IN ROLE pg_monitor;
CREATE UNLOGGED TABLE unlogged (k int);
CREATE INDEX unlogged_k ON unlogged USING alex (k);
INSERT INTO twins VALUES (1, 1), (1, 1);
END
$primary->psql('postgres', 'CREATE UNIQUE INDEX CONCURRENTLY twins_invalid ON twins USING alex (k)');
my $temporary = session($primary, 'plain');
$temporary->query_safe('CREATE TEMPORARY TABLE temporary (k int); CREATE INDEX temporary_k ON temporary USING alex (k);');
is(on_primary(q{SELECT count(*) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
	WHERE c.relname IN ('unlogged_k', 'temporary_k') OR c.relname = 'twins_invalid' AND NOT i.indisvalid}),
	'3', 'indexes that cannot be watched');
catch_up($primary, @standbys);
foreach my $node ($primary, @standbys)
{
	my ($status, $output, $errors) = $node->psql('postgres', $statistics);

	is("$output$errors", "t_k\nbig_k\ntwins_k", 'statistics of all indexes, on ' . $node->name);
}
$temporary->quit;
on_primary('DROP TABLE unlogged, twins');

#
# A session of each standby follows the log: entries that are appended, and
# dead ones whose TIDs are used again for other keys
#
make_table($primary, 'follow', 10);
my @followers = map { session($_, 'plain') } @standbys;

# All followers must see this.
sub follow
{
	my ($query, $expected, $name) = @_;

	catch_up($primary, @standbys);
	foreach my $i (0 .. $#followers)
	{
		is(join(',', rows($followers[$i], $query)),
			$expected, "$name, on " . $standbys[$i]->name);
	}
}

follow('SELECT count(*) FROM follow WHERE k BETWEEN 100000 AND 200000',
	'0', 'nothing appended yet');
on_primary('INSERT INTO follow SELECT i, i FROM generate_series(100001, 100100) i');
follow('SELECT count(*) FROM follow WHERE k BETWEEN 100000 AND 200000',
	'100', 'appended entries');
on_primary(<<'END');
DELETE FROM follow WHERE k BETWEEN 100000 AND 200000;
VACUUM follow;
INSERT INTO follow SELECT i, i FROM generate_series(300001, 300080) i;
END
is(on_primary("SELECT log_dead FROM alex_stats('follow_k')"),
	'100', 'dead entries are in the log');
follow('SELECT k FROM follow WHERE k BETWEEN 100000 AND 200000',
	'', 'dead entries of the log');
follow('SELECT count(*) FROM follow WHERE k BETWEEN 300000 AND 400000',
	'80', 'entries after the dead ones');

# The same when the VACUUM that marked them dead failed before it said so, and
# the next one finds nothing left to mark.
on_primary('INSERT INTO follow SELECT i, i FROM generate_series(500001, 500050) i');
follow('SELECT count(*) FROM follow WHERE k BETWEEN 500000 AND 600000',
	'50', 'appended entries, before a VACUUM that fails');
on_primary('DELETE FROM follow WHERE k BETWEEN 500000 AND 600000');
my ($status, $output, $errors) = $primary->psql('postgres',
	"SET alexam.failpoint = 'vacuum-before-epoch';\nVACUUM follow;");
like($errors, qr/failpoint/, 'a VACUUM fails after it marked entries of the log dead');
on_primary(<<'END');
VACUUM follow;
INSERT INTO follow SELECT i, i FROM generate_series(700001, 700040) i;
END
follow('SELECT k FROM follow WHERE k BETWEEN 500000 AND 600000',
	'', 'dead entries of the log, after a VACUUM that failed');
$_->quit foreach @followers;

#
# H1: the standbys' files have leaf pages without the dead bits, and the TIDs
# are used again
#
make_table($primary, 'h1', 1000);
on_primary('CHECKPOINT');
catch_up($primary, @standbys);
my @mapped;
foreach my $node (@standbys)
{
	my $session = session($node, 'plain');

	$node->safe_psql('postgres', 'CHECKPOINT');
	is(join(',', rows($session, 'SELECT count(*) FROM h1 WHERE k >= 0')),
		'1000', 'H1: leaf pages are mapped, on ' . $node->name);
	push(@mapped, $session);
}
on_primary(<<'END');
DELETE FROM h1 WHERE k % 10 = 1;
VACUUM h1;
INSERT INTO h1 SELECT i, i FROM generate_series(50001, 50080) i;
END
is(on_primary("SELECT max(dead) > 80 FROM alex_runs('h1_k') WHERE state = 'live'"),
	't', 'H1: the dead entries are in the run');
catch_up($primary, @standbys);
foreach my $i (0 .. $#mapped)
{
	my $where = 'on ' . $standbys[$i]->name;

	is( join(',',
			rows($mapped[$i],
				'SELECT k FROM h1 WHERE k < 50000 AND b + 0 > 50000 LIMIT 1')),
		'', "H1: no row by a dead entry, $where");
	is( join(',',
			rows($mapped[$i],
				'SELECT ctid FROM h1 WHERE k >= 0 GROUP BY ctid HAVING count(*) > 1 LIMIT 1')),
		'', "H1: no row twice, $where");
	$mapped[$i]->quit;
}
compare_standbys('h1', 'H1');

#
# H1: a leaf page that has dead bits before it is written for the first time is
# half written: the other half, where they all are, is what was there before.
# (There are 32,767 entries on a page of keys that follow each other.)
#
on_primary(<<'END');
CREATE TABLE half (k int) WITH (autovacuum_enabled = off);
INSERT INTO half SELECT generate_series(1, 40000);
CREATE INDEX half_k ON half USING alex (k);
DELETE FROM half WHERE k <= 100;
VACUUM (INDEX_CLEANUP on) half;
INSERT INTO half SELECT 1000000 + i FROM generate_series(1, 100) i;
END
catch_up($primary, @standbys);
{
	my $path = index_path($standby, 'half_k');
	my ($leaf) = pages_of_kind($path, 'leaf');
	my $half = substr(read_page($path, $leaf), 4096);

	is($standby->safe_psql('postgres', 'SELECT min(ctid) FROM half WHERE k > 1000000'),
		'(0,1)', 'H1: TIDs are used again');
	ok($half ne "\0" x 4096, 'H1: dead bits');
	write_bytes($path, $leaf, 4096, "\0" x 4096);
	is($standby->safe_psql('postgres', <<'END'), '', 'H1: no wrong row by a half written page');
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;
SELECT k, ctid FROM half WHERE k BETWEEN 1 AND 100;
END
	write_bytes($path, $leaf, 4096, $half);
}

#
# H13: promotion while a memtable is behind its log.  The sessions are there
# before, with all that they know of the indexes.
#
foreach my $table ('p1', 'p2', 'p3')
{
	make_table($primary, $table, 300);
	on_primary("INSERT INTO $table SELECT 20000 + i, 20000 + i FROM generate_series(1, 50) i");
}
catch_up($primary, @standbys);
my %sessions = map { $_ => session($standby, 'plain') } ('p1', 'p2', 'p3');
foreach my $table (sort keys %sessions)
{
	is(join(',', rows($sessions{$table}, "SELECT count(*) FROM $table WHERE k >= 20000")),
		'50', "H13: the memtable of $table is loaded");
	on_primary("INSERT INTO $table SELECT 30000 + i, 30000 + i FROM generate_series(1, 70) i");
}
# entries of p3 die, too, and their TIDs are used again
on_primary(<<'END');
DELETE FROM p3 WHERE k > 20000 AND k <= 20040;
VACUUM p3;
INSERT INTO p3 SELECT 40000 + i, 40000 + i FROM generate_series(1, 40) i;
END
catch_up($primary, @standbys);
$primary->stop;
$standby->promote;

is(join(',', rows($sessions{p1}, 'SELECT count(*) FROM p1 WHERE k >= 20000')),
	'120', 'H13: a session sees what its memtable lacked');
$sessions{p2}->query_safe('INSERT INTO p2 VALUES (50000, 50000)');
is(join(',', rows($sessions{p2}, 'SELECT count(*) FROM p2 WHERE k >= 20000')),
	'121', 'H13: insert before the first scan');
$standby->safe_psql('postgres', 'INSERT INTO p3 VALUES (50000, 50000)');
is( join(',',
		rows($sessions{p3},
			'SELECT count(*), count(*) FILTER (WHERE b BETWEEN 20000 AND 20040) FROM p3 WHERE k >= 20000')),
	'121|0', 'H13: insert by a new session before the first scan');
$_->quit foreach values %sessions;

foreach my $table ('p1', 'p2', 'p3')
{
	compare_scans($standby, $table, "H13: $table after promotion");
	check_index($standby, "${table}_k", "H13: $table after promotion");
	$standby->safe_psql('postgres', <<"END");
INSERT INTO $table SELECT 60000 + i, 60000 + i FROM generate_series(1, 500) i;
DELETE FROM $table WHERE k % 3 = 0;
VACUUM $table;
SELECT alex_compact('${table}_k');
INSERT INTO $table SELECT 70000 + i, 70000 + i FROM generate_series(1, 300) i;
VACUUM $table;
END
}
foreach my $table ('p1', 'p2', 'p3', 't', 'h1')
{
	compare_scans($standby, $table, "$table after changes on the new primary");
	check_index($standby, "${table}_k", "$table after changes on the new primary");
}
catch_up($standby, $cascaded);
compare_scans($cascaded, 'p3', 'the cascaded standby follows');
check_index($cascaded, 'p3_k', 'the cascaded standby follows');

done_testing();
