#!/usr/bin/perl
#
# copies.pl
#	  Indexes that are copied or moved as files, or filled without WAL:
#	  databases made of a template, tablespaces, unlogged tables, wal_level
#	  minimal, truncation by logical replication.
#
# Hazard: H10 (what is cached for a relation file outlives it), H6 (TRUNCATE
# by logical replication).
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby;
use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = replicated_node('primary', <<'END', allows_streaming => 'logical');
allow_in_place_tablespaces = on
END
my $standby = start_standby('standby', $primary, $primary);

# Compares a table of a database, on both nodes.
sub compare
{
	my ($database, $table, $name) = @_;

	catch_up($primary, $standby);
	foreach my $node ($primary, $standby)
	{
		my $where = "$name, on " . $node->name;

		compare_scans($node, $table, $where, $database);
		check_index($node, "${table}_k", $where, $database);
	}
}

# Runs with and without dead entries, and a log.
my $fill = <<'END';
CREATE TABLE t (k int8, b int8);
INSERT INTO t SELECT i, i FROM generate_series(1, 500) i;
CREATE INDEX t_k ON t USING alex (k);
CREATE INDEX t_b ON t USING btree (b);
INSERT INTO t SELECT 1000 + i, 1000 + i FROM generate_series(1, 350) i;
DELETE FROM t WHERE k % 10 = 0;
VACUUM ANALYZE t;
SELECT alex_compact('t_k');
SET alexam.memtable_entries = 10000;
INSERT INTO t SELECT 2000 + i, 2000 + i FROM generate_series(1, 100) i;
END

$primary->safe_psql('postgres', 'CREATE TABLESPACE elsewhere LOCATION \'\'');

#
# Databases made of a template, by both strategies
#
$primary->safe_psql('postgres', 'CREATE DATABASE origin');
$primary->safe_psql('origin', "CREATE EXTENSION alexam;\n$fill");
compare('origin', 't', 'the template');
foreach my $strategy ('wal_log', 'file_copy')
{
	my $database = "by_$strategy";

	$primary->safe_psql('postgres',
		"CREATE DATABASE $database TEMPLATE origin STRATEGY $strategy");
	compare($database, 't', "copy by $strategy");
	$primary->safe_psql($database, <<'END');
INSERT INTO t SELECT 3000 + i, 3000 + i FROM generate_series(1, 70) i;
DELETE FROM t WHERE k % 7 = 0;
VACUUM t;
INSERT INTO t SELECT 4000 + i, 4000 + i FROM generate_series(1, 150) i;
END
	compare($database, 't', "copy by $strategy after changes");
}
compare('origin', 't', 'the template after the copies changed');

#
# H10: a database is dropped, and made anew with its number and of its template.
# Everything in its files is as it was, but what shared memory knows is of rows
# that were deleted, and of entries that were appended, in the first one.
#
$primary->safe_psql('postgres', 'CREATE DATABASE model');
$primary->safe_psql('model', <<'END');
CREATE EXTENSION alexam;
CREATE TABLE run (k int, b int) WITH (autovacuum_enabled = off);
INSERT INTO run SELECT i, i FROM generate_series(1, 5000) i;
CREATE INDEX run_k ON run USING alex (k);
CREATE INDEX run_b ON run USING btree (b);
CREATE TABLE log (k int, b int) WITH (autovacuum_enabled = off);
CREATE INDEX log_k ON log USING alex (k);
CREATE INDEX log_b ON log USING btree (b);
INSERT INTO log SELECT i, i FROM generate_series(1, 50) i;
ANALYZE;
END
foreach my $strategy ('wal_log', 'file_copy')
{
	my $create = "CREATE DATABASE namesake OID 54321 TEMPLATE model STRATEGY $strategy";
	my $plain = 'SET enable_seqscan = off; SET enable_bitmapscan = off;';

	$primary->safe_psql('postgres', $create);
	$primary->safe_psql('namesake', "$plain SELECT count(*) FROM log WHERE k > 0");
	# hints, and entries that leave the memtable
	$primary->safe_psql('namesake', "$plain DELETE FROM run WHERE k <= 10; DELETE FROM log WHERE k <= 10;");
	is($primary->safe_psql('namesake',
			"$plain SELECT count(*) FROM run WHERE k <= 20; SELECT count(*) FROM log WHERE k > 0;"),
		"10\n40", "H10: the first namesake, $strategy");
	$primary->safe_psql('namesake', 'INSERT INTO log SELECT i, i FROM generate_series(101, 110) i');
	compare('namesake', 'log', "H10: the first namesake, $strategy");

	$primary->safe_psql('postgres', 'DROP DATABASE namesake');
	$primary->safe_psql('postgres', $create);
	is($primary->safe_psql('namesake',
			"$plain SELECT count(*) FROM run WHERE k <= 20; SELECT count(*) FROM log WHERE k > 0;"),
		"20\n50", "H10: the second namesake, $strategy");
	# more entries than the first one's log had, and others
	$primary->safe_psql('namesake', 'INSERT INTO log SELECT i, i FROM generate_series(201, 230) i');
	compare('namesake', $_, "H10: the second namesake, $strategy") foreach ('run', 'log');
	$primary->safe_psql('postgres', 'DROP DATABASE namesake');
}

#
# H10: a database is moved away, written and moved back.  What memory holds
# of its first stay must not answer, whoever comes first.
#
my %first = (
	scan => 'SELECT 1',
	insert => 'INSERT INTO t VALUES (5000, 5000)',
	vacuum => 'DELETE FROM t WHERE k IN (2004, 2005, 2006); VACUUM t');

foreach my $first (sort keys %first)
{
	my $database = "moved_$first";

	$primary->safe_psql('postgres',
		"CREATE DATABASE $database TEMPLATE origin STRATEGY file_copy");
	compare($database, 't', "H10: before the move, $first first");
	is($primary->safe_psql($database,
			"SELECT memtable_entries FROM alex_stats('t_k')"),
		'100', 'H10: entries are in the memtable');
	$primary->safe_psql('postgres',
		"ALTER DATABASE $database SET TABLESPACE elsewhere");
	# dead entries, but none appended: the end of the log stays where it is
	$primary->safe_psql($database, <<'END');
DELETE FROM t WHERE k BETWEEN 2010 AND 2060;
VACUUM t;
END
	$primary->safe_psql('postgres',
		"ALTER DATABASE $database SET TABLESPACE pg_default");
	# the memtable that the index had there before is none of its own
	is($primary->safe_psql($database,
			"SELECT alex_check('t_k'), memtable_entries IS NULL FROM alex_stats('t_k')"),
		'|t', "H10: after the move, $first first");
	$primary->safe_psql($database, $first{$first});
	is( $primary->safe_psql($database,
			"SET enable_seqscan = off; SET enable_bitmapscan = off;
			SELECT count(*) FROM t WHERE k BETWEEN 2000 AND 3000"),
		$first eq 'vacuum' ? '46' : '49',
		"H10: after the move, $first first");
	# the TIDs of the dead entries are used again
	$primary->safe_psql($database,
		'INSERT INTO t SELECT 6000 + i, 6000 + i FROM generate_series(1, 40) i');
	compare($database, 't', "H10: after the move, $first first");

	# and now with a log that went on
	$primary->safe_psql('postgres',
		"ALTER DATABASE $database SET TABLESPACE elsewhere");
	$primary->safe_psql($database,
		'INSERT INTO t SELECT 7000 + i, 7000 + i FROM generate_series(1, 300) i');
	$primary->safe_psql('postgres',
		"ALTER DATABASE $database SET TABLESPACE pg_default");
	$primary->safe_psql($database, $first{$first});
	compare($database, 't', "H10: after the second move, $first first");
}

#
# An index is moved by itself
#
make_table($primary, 'i', 500);
$primary->safe_psql('postgres', 'INSERT INTO i SELECT i, i FROM generate_series(1, 90) i');
foreach my $tablespace ('elsewhere', 'pg_default')
{
	compare('postgres', 'i', "index before it goes to $tablespace");
	$primary->safe_psql('postgres', "ALTER INDEX i_k SET TABLESPACE $tablespace");
	compare('postgres', 'i', "index in $tablespace");
	$primary->safe_psql('postgres', <<'END');
DELETE FROM i WHERE k % 9 = 1;
VACUUM i;
INSERT INTO i SELECT i, i FROM generate_series(1, 60) i;
END
}
$primary->safe_psql('postgres', <<'END');
BEGIN;
INSERT INTO i VALUES (100000, 100000);
ALTER INDEX i_k SET TABLESPACE elsewhere;
INSERT INTO i VALUES (100001, 100001);
ROLLBACK;
INSERT INTO i VALUES (100002, 100002);
END
compare('postgres', 'i', 'a move was rolled back');

#
# wal_level = minimal: what is built in the transaction that made the table
# is not logged; unlogged tables are empty after a crash
#
my $subscriber = alex_node('subscriber', <<'END', allows_streaming => 0);
alexam.memtable_entries = 200
END
foreach my $threshold ('0', '1GB')
{
	my $table = "m$threshold";

	$subscriber->append_conf('postgresql.conf', "wal_skip_threshold = $threshold");
	$subscriber->start;
	$subscriber->safe_psql('postgres', 'CREATE EXTENSION IF NOT EXISTS alexam');
	$subscriber->safe_psql('postgres', <<"END");
BEGIN;
CREATE TABLE $table (k int8, b int8);
INSERT INTO $table SELECT i, i FROM generate_series(1, 500) i;
CREATE INDEX ${table}_k ON $table USING alex (k);
CREATE INDEX ${table}_b ON $table USING btree (b);
INSERT INTO $table SELECT 1000 + i, 1000 + i FROM generate_series(1, 450) i;
COMMIT;
CREATE UNLOGGED TABLE u$table (k int8, b int8);
CREATE INDEX u${table}_k ON u$table USING alex (k);
CREATE INDEX u${table}_b ON u$table USING btree (b);
INSERT INTO u$table SELECT i, i FROM generate_series(1, 450) i;
END
	compare_scans($subscriber, $table, "not logged, threshold $threshold");
	compare_scans($subscriber, "u$table", "unlogged table");
	$subscriber->safe_psql('postgres', <<"END");
BEGIN;
TRUNCATE $table;
INSERT INTO $table SELECT i * 3, i * 3 FROM generate_series(1, 700) i;
COMMIT;
END
	$subscriber->stop('immediate');
	$subscriber->start;
	is(compare_scans($subscriber, $table, "after a crash, threshold $threshold"),
		700, 'rows after a crash');
	check_index($subscriber, "${table}_k", "after a crash, threshold $threshold");
	$subscriber->safe_psql('postgres',
		"INSERT INTO u$table SELECT i, i FROM generate_series(1, 250) i");
	is(compare_scans($subscriber, "u$table", 'unlogged table after a crash'),
		250, 'rows of the unlogged table');
	check_index($subscriber, "u${table}_k", 'unlogged table after a crash');
	$subscriber->stop;
}

#
# Logical replication applies inserts and TRUNCATE; the second TRUNCATE of a
# transaction happens in place (H6, H10)
#
$primary->safe_psql('postgres', <<'END');
CREATE TABLE l (k int8, b int8);
CREATE PUBLICATION l FOR TABLE l;
END
$subscriber->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 5");
$subscriber->start;
$subscriber->safe_psql('postgres', <<'END');
CREATE TABLE l (k int8, b int8);
CREATE INDEX l_k ON l USING alex (k);
CREATE INDEX l_b ON l USING btree (b);
END
my $connection = $primary->connstr('postgres');
$subscriber->safe_psql('postgres',
	"CREATE SUBSCRIPTION l CONNECTION \$\$$connection\$\$ PUBLICATION l WITH (disable_on_error = on)");
$subscriber->wait_for_subscription_sync($primary, 'l');
my $reader = session($subscriber, 'plain');

foreach my $sql (
	'INSERT INTO l SELECT i, i FROM generate_series(1, 500) i',
	'BEGIN; TRUNCATE l; INSERT INTO l SELECT i * 2, i * 2 FROM generate_series(1, 350) i;
	TRUNCATE l; INSERT INTO l SELECT i * 3, i * 3 FROM generate_series(1, 120) i; COMMIT',
	'BEGIN; INSERT INTO l VALUES (-1, -1); TRUNCATE l; INSERT INTO l VALUES (-2, -2);
	TRUNCATE l; INSERT INTO l SELECT i * 5, i * 5 FROM generate_series(1, 330) i; COMMIT',
	'INSERT INTO l SELECT i, i FROM generate_series(1, 500) i')
{
	$primary->safe_psql('postgres', $sql);
	wait_for_apply($primary, $subscriber, 'l');
	my $count = $primary->safe_psql('postgres', 'SELECT count(*), sum(k) FROM l');
	is(join(',', rows($reader, 'SELECT count(*), sum(k) FROM l WHERE k > -10')),
		$count, 'rows applied');
	compare_scans($subscriber, 'l', 'logical replication');
	check_index($subscriber, 'l_k', 'logical replication');
}
$reader->quit;

done_testing();
