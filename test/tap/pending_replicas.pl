# pending_replicas.pl
#	  Entries that wait in the backend: what standbys see of them, and logical
#	  replication, whose worker collects them, too.
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
max_prepared_transactions = 5
logical_decoding_work_mem = 64kB
END
my $standby = start_standby('standby', $primary, $primary);

sub check_both
{
	my ($name, @tables) = @_;

	catch_up($primary, $standby);
	foreach my $table (@tables)
	{
		foreach my $node ($primary, $standby)
		{
			my $title = "$name, $table, " . $node->name;

			compare_scans($node, $table, $title);
			check_index($node, "${table}_k", $title);
		}
		is($standby->safe_psql('postgres', "SELECT count(*), sum(k), count(k) FROM $table"),
			$primary->safe_psql('postgres', "SELECT count(*), sum(k), count(k) FROM $table"), "$name, $table: same rows");
	}
	return;
}

#
# Batches that go to the log and to runs, on a standby.  The server compares
# each page that it replays with the primary's (wal_consistency_checking).
#
make_table($primary, $_, 300) foreach ('logged', 'sealed');
my $reader = session($standby, 'index-only');

foreach my $round (1, 2)
{
	my $session = $primary->background_psql('postgres');
	my %threshold = (logged => 1000000, sealed => 10);

	catch_up($primary, $standby);
	foreach my $table (sort keys %threshold)
	{
		my $name = "round $round, $table";
		my $insert = "INSERT INTO $table SELECT CASE WHEN i % 40 > 0 THEN i * 31 % 5003 END AS k, i FROM generate_series";
		my $before = join(',', rows($reader, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(k), sum(k) FROM $table WHERE k >= 0"));

		$session->query_safe("SET enable_seqscan = off; SET alexam.direct_seal_threshold = $threshold{$table}; BEGIN");
		$session->query_safe("$insert(1, 100 * $round) i; UPDATE $table SET b = k; SAVEPOINT s; $insert(1, 50) i");
		$session->query_safe("SELECT count(*) FROM $table WHERE k >= 0; ROLLBACK TO s; $insert(1, 100) i; UPDATE $table SET b = k");
		$session->query_safe("SELECT count(*) FROM $table WHERE k >= 0");
		catch_up($primary, $standby);
		is(join(',', rows($reader, "SELECT count(k), sum(k) FROM $table WHERE k >= 0")),
			$before, "$name: flushed, not committed");
		$session->query_safe($round % 2 ? 'COMMIT' : "PREPARE TRANSACTION '$table'");
		$primary->safe_psql('postgres', "VACUUM (INDEX_CLEANUP on) $table");
		is(join(',', rows($reader, "SELECT count(k), sum(k) FROM $table WHERE k >= 0")),
			$before, "$name: the snapshot stays");
		$reader->query_safe('COMMIT');
		check_both($name, $table);
		$primary->safe_psql('postgres', "COMMIT PREPARED '$table'") if $round % 2 == 0;
		$primary->safe_psql('postgres', "DELETE FROM $table WHERE k % 7 = $round; VACUUM (INDEX_CLEANUP on) $table");
		check_both("$name, the end", $table);
	}
	$session->quit;
}
$reader->quit;

# An error in the midst of a flush, then a promotion; the new primary goes on.
foreach my $failpoint ('direct-seal-before-install', 'flush-after-entries')
{
	my ($status, $output, $errors) = $primary->psql('postgres', <<"END");
BEGIN;
SET LOCAL alexam.direct_seal_threshold = 10;
INSERT INTO sealed SELECT i, i FROM generate_series(1, 300) i;
SET alexam.failpoint = '$failpoint';
COMMIT;
END
	like($errors, qr/failpoint "$failpoint" reached/, "$failpoint: error");
	check_both($failpoint, 'sealed');
}
$standby->promote;
$standby->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no promotion';
foreach my $table ('logged', 'sealed')
{
	$standby->safe_psql('postgres', <<"END");
SET alexam.direct_seal_threshold = 100;
BEGIN;
INSERT INTO $table SELECT i, i FROM generate_series(1, 90) i;
SELECT count(*) FROM $table;
INSERT INTO $table SELECT i, i FROM generate_series(1, 300) i;
COMMIT;
VACUUM (INDEX_CLEANUP on) $table;
END
	compare_scans($standby, $table, "$table after promotion");
	check_index($standby, "${table}_k", "$table after promotion");
	is((page_counts($standby, "${table}_k"))[2], 0, "$table after promotion: no orphans");
}

#
# Logical replication: the rows of a transaction, large ones streamed while it
# goes on, with a trigger that looks through the index.  The first TRUNCATE of
# a transaction gives the index another file; the second is done in place
# (H6).
#
$primary->safe_psql('postgres', <<'END');
CREATE TABLE l (id int PRIMARY KEY, k int8, b int8);
CREATE PUBLICATION l FOR TABLE l;
END
$standby->safe_psql('postgres', <<'END');
CREATE TABLE l (id int PRIMARY KEY, k int8, b int8);
CREATE INDEX l_k ON l USING alex (k);
CREATE INDEX l_b ON l USING btree (b);
CREATE FUNCTION through(method text) RETURNS bigint LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
	result bigint;
BEGIN
	PERFORM set_config('enable_seqscan', (method = 'table')::text, true),
		set_config('enable_indexscan', (method = 'index')::text, true),
		set_config('enable_bitmapscan', 'off', true);
	EXECUTE 'SELECT count(*) FROM l WHERE k BETWEEN 0 AND 100' INTO result;
	RETURN result;
END $$;
CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN
	IF NEW.id % 97 = 0 AND through('index') <> through('table') THEN
		RAISE 'the index differs from the table';
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER look AFTER INSERT OR UPDATE ON l FOR EACH ROW EXECUTE FUNCTION look();
ALTER TABLE l ENABLE ALWAYS TRIGGER look;
END
my $connection = $primary->connstr('postgres');
$standby->safe_psql('postgres',
	"CREATE SUBSCRIPTION l CONNECTION \$\$$connection\$\$ PUBLICATION l WITH (streaming = on, disable_on_error = on)");
$standby->wait_for_subscription_sync($primary, 'l');

my $rows = 'SELECT i, CASE WHEN i % 40 > 0 THEN i * 31 % 5003 END, CASE WHEN i % 40 > 0 THEN i * 31 % 5003 END FROM generate_series';
foreach my $threshold (1000000, 10)
{
	# as a setting for the worker, from its next start on
	$standby->safe_psql('postgres', "ALTER SYSTEM SET alexam.direct_seal_threshold = $threshold; SELECT pg_reload_conf()");
	$standby->safe_psql('postgres', 'ALTER SUBSCRIPTION l DISABLE');
	$standby->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'logical replication worker'})
	  or die 'the worker does not stop';
	$standby->safe_psql('postgres', 'ALTER SUBSCRIPTION l ENABLE');

	foreach my $case (
		[ 'rows', "INSERT INTO l $rows(1, 500) i" ],
		[ 'one transaction of all kinds', "INSERT INTO l $rows(1001, 1300) i; UPDATE l SET k = k + 1, b = b + 1 WHERE id % 3 = 0;
			DELETE FROM l WHERE id % 5 = 0; UPDATE l SET k = NULL, b = NULL WHERE id % 11 = 0; INSERT INTO l $rows(2001, 2200) i" ],
		[ 'a subtransaction that is rolled back', "INSERT INTO l $rows(3001, 3100) i; SAVEPOINT s; INSERT INTO l $rows(3101, 3200) i;
			DELETE FROM l; ROLLBACK TO s; INSERT INTO l $rows(3201, 3300) i" ],
		[ 'streamed', "INSERT INTO l $rows(10001, 13000) i; SAVEPOINT s; INSERT INTO l $rows(13001, 16000) i; ROLLBACK TO s;
			SAVEPOINT t; INSERT INTO l $rows(16001, 16100) i; RELEASE t; UPDATE l SET k = k + 1, b = b + 1 WHERE id % 7 = 0" ],
		[ 'TRUNCATE', "INSERT INTO l $rows(20001, 20100) i; TRUNCATE l; INSERT INTO l $rows(1, 400) i" ],
		[ 'TRUNCATE first', "TRUNCATE l; INSERT INTO l $rows(101, 500) i" ],
		[ 'TRUNCATE twice', "INSERT INTO l $rows(20001, 20100) i; TRUNCATE l; INSERT INTO l $rows(20201, 20600) i;
			TRUNCATE l; INSERT INTO l $rows(1, 300) i" ],
		[ 'TRUNCATE in a subtransaction', "INSERT INTO l $rows(20001, 20100) i; SAVEPOINT s; TRUNCATE l; INSERT INTO l $rows(101, 300) i;
			RELEASE s; SAVEPOINT s; DELETE FROM l WHERE id < 200; TRUNCATE l; ROLLBACK TO s; INSERT INTO l $rows(301, 600) i" ])
	{
		my ($name, $sql) = @$case;

		$name = "logical replication, direct_seal_threshold $threshold: $name";
		$primary->safe_psql('postgres', "BEGIN; $sql; COMMIT");
		wait_for_apply($primary, $standby, 'l');
		is($standby->safe_psql('postgres', 'SELECT count(*), sum(k), count(k), sum(b) FROM l'),
			$primary->safe_psql('postgres', 'SELECT count(*), sum(k), count(k), sum(b) FROM l'), "$name: same rows");
		compare_scans($standby, 'l', $name);
		check_index($standby, 'l_k', $name);
	}
	$primary->safe_psql('postgres', 'DELETE FROM l');
	wait_for_apply($primary, $standby, 'l');
	$standby->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) l');
}

#
# H4: a change of a row that a session of the subscriber is inserting waits for
# that, although the index that identifies the row is of alex, and unique.
#
$primary->safe_psql('postgres', <<'END');
CREATE TABLE identity (k int8 PRIMARY KEY, v int);
INSERT INTO identity VALUES (7, 0), (8, 0);
CREATE PUBLICATION identity FOR TABLE identity;
END
$standby->safe_psql('postgres', <<'END');
CREATE TABLE identity (k int8 NOT NULL, v int);
SET client_min_messages = error;
CREATE UNIQUE INDEX identity_k ON identity USING alex (k);
ALTER TABLE identity REPLICA IDENTITY USING INDEX identity_k;
END
$standby->safe_psql('postgres',
	"CREATE SUBSCRIPTION identity CONNECTION \$\$$connection\$\$ PUBLICATION identity WITH (copy_data = off)");
my $inserter = $standby->background_psql('postgres');
$inserter->query_safe('BEGIN; INSERT INTO identity SELECT k, 1 FROM generate_series(7, 8) k;');
$primary->safe_psql('postgres', 'DELETE FROM identity WHERE k = 7; UPDATE identity SET v = 2 WHERE k = 8');
ok($standby->poll_query_until('postgres',
		q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'logical replication worker' AND wait_event_type = 'Lock'}),
	'H4: logical replication waits for a row in progress');
$inserter->query_safe('COMMIT');
$inserter->quit;
wait_for_apply($primary, $standby, 'identity');
is($standby->safe_psql('postgres', 'SELECT k, v FROM identity ORDER BY k'), '8|2', 'H4: and changes it');
check_index($standby, 'identity_k', 'H4: replica identity');

$standby->stop;
$primary->stop;
done_testing();
