# pending.pl
#	  Entries that wait in the backend until they are flushed: other sessions,
#	  failures, crashes.
#
# Tests are named after the hazards of src/README that they are about.  What a
# single session can see of all this is in sql/pending.sql.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('pending', <<'END');
alexam.memtable_entries = 1000
max_prepared_transactions = 5
allow_in_place_tablespaces = on
statement_timeout = '60s'
wal_consistency_checking = 'alexam'
END
$node->start;
$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
CREATE TABLESPACE elsewhere LOCATION '';
-- looks for rows through the index, which flushes
CREATE FUNCTION look(tablename text) RETURNS bigint LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s WHERE k < 1000000', tablename) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION insert_row(tablename text, key int, denominator int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %s VALUES (%s, %s)', tablename, key, key);
	RETURN 1 / denominator;
END $$;
END

# A session that goes on after errors.
sub session
{
	my ($name) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query("SET application_name = '$name'");
	return $session;
}

# What a session complains about while it runs something.
sub complaints
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->query($sql);
	my $errors = $session->{stderr};
	$session->{stderr} = '';
	return $errors;
}

# Sends a statement without waiting for it, and waits until it is blocked.
sub send_blocked
{
	my ($session, $name, $sql) = @_;

	my $blocked = "SELECT bool_or(wait_event_type IN ('Lock', 'Extension')) FROM pg_stat_activity WHERE application_name = '$name'";
	my $before = $node->safe_psql('postgres', 'SELECT clock_timestamp()');

	$session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
	$node->poll_query_until('postgres', <<"END");
SELECT ($blocked) OR EXISTS (SELECT FROM pg_stat_activity
	WHERE application_name = '$name' AND state LIKE 'idle%' AND query_start > '$before')
END
	if ($node->safe_psql('postgres', $blocked) ne 't')
	{
		fail("$name waits: $sql");
		die "$name is not blocked";
	}
	return;
}

# Table with both indexes and some rows.
sub make_table
{
	my ($table, $rows) = @_;

	$node->safe_psql('postgres', <<"END");
DROP TABLE IF EXISTS $table;
CREATE TABLE $table (k bigint, b bigint);
CREATE INDEX ${table}_k ON $table USING alex (k);
CREATE INDEX ${table}_b ON $table (b);
INSERT INTO $table SELECT i * 7919 % 1009, i * 7919 % 1009 FROM generate_series(1, $rows) i;
END
	return;
}

sub insert_sql
{
	my ($table, $key, $count) = @_;
	return "INSERT INTO $table SELECT $key + i / 1000, $key + i / 1000 FROM generate_series(1, $count) i";
}

sub check_all
{
	my ($table, $rows, $name) = @_;

	compare_scans($node, $table, $name);
	is($node->safe_psql('postgres', "SELECT count(*) FROM $table"), $rows, "$name: number of rows");
	check_index($node, "${table}_k", $name);
	return;
}

# How many of these TIDs are in use.
sub count_used
{
	my ($table, @tids) = @_;
	my $list = join(',', map { "'$_'" } @tids);

	return $node->safe_psql('postgres', "SELECT count(*) FROM $table WHERE ctid = ANY (ARRAY[$list]::tid[])");
}

#
# H3: rows of a rolled-back subtransaction are vacuumed and their TIDs used
# again by another session before the transaction commits.
# H12: the same if their entries have been flushed.
#
foreach my $case (
	[ 'H3: another key', 6, 'ROLLBACK TO s' ],
	[ 'H3: the same key', 5, 'ROLLBACK TO s' ],
	[ 'H3: released inside', 6, 'SAVEPOINT inner_one; INSERT INTO h3 VALUES (5, 5); RELEASE inner_one; ROLLBACK TO s' ],
	[ 'H3: after an error', 5, 'SAVEPOINT inner_one; SELECT 1 / 0; ROLLBACK TO s' ],
	[ 'H12: in the log', 6, q{SELECT look('h3'); ROLLBACK TO s} ],
	[ 'H12: in runs', 5, q{SET alexam.direct_seal_threshold = 10; SELECT look('h3'); ROLLBACK TO s} ],
	[ 'H12: in the log, all of it rolled back', 5, q{SELECT look('h3'); ROLLBACK; BEGIN} ])
{
	my ($name, $key, $rollback) = @$case;
	my $session = session('inserter');

	make_table('h3', 300);
	$session->query('BEGIN; INSERT INTO h3 VALUES (7, 7); SAVEPOINT s');
	my @tids = split(/\n/, $session->query(insert_sql('h3', 5, 100) . ' RETURNING ctid'));
	$session->query($rollback);
	$session->query('INSERT INTO h3 VALUES (8, 8)');
	my $rows = $rollback =~ /ROLLBACK;/ ? 1 : 2;
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on, TRUNCATE off) h3');
	$node->safe_psql('postgres', insert_sql('h3', $key, 110));
	is(count_used('h3', @tids), 100, "$name: the TIDs are used again");
	$session->query('INSERT INTO h3 VALUES (9, 9)');
	$session->query('COMMIT');
	check_all('h3', 300 + $rows + 1 + 110, $name);
	$node->safe_psql('postgres', q{SELECT alex_compact('h3_k')});
	check_all('h3', 300 + $rows + 1 + 110, "$name, compacted");
	$session->quit;
}

#
# H6: commands of other sessions that give the index another file, or take it
# away, wait for the end of the transaction.
#
foreach my $sql (
	'ALTER INDEX h6_k SET TABLESPACE elsewhere',
	'REINDEX INDEX h6_k',
	'REINDEX INDEX CONCURRENTLY h6_k',
	'REINDEX TABLE h6',
	'DROP INDEX h6_k',
	'DROP INDEX CONCURRENTLY h6_k',
	'CREATE INDEX CONCURRENTLY h6_k2 ON h6 USING alex (k)',
	'ALTER TABLE h6 SET TABLESPACE elsewhere',
	'CLUSTER h6 USING h6_b',
	'VACUUM FULL h6')
{
	my $name = "H6: $sql";
	my $inserter = session('inserter');
	my $other = session('other');

	make_table('h6', 300);
	$inserter->query('BEGIN');
	$inserter->query(insert_sql('h6', 5, 100));
	$inserter->query('SAVEPOINT s');
	$inserter->query(insert_sql('h6', 6, 100));
	$inserter->query('ROLLBACK TO s');
	$other->query('SET maintenance_work_mem = \'2MB\'');
	send_blocked($other, 'other', $sql);
	$inserter->query('SAVEPOINT s');
	$inserter->query(insert_sql('h6', 7, 100));
	$inserter->query('RELEASE s');
	is(complaints($inserter, 'COMMIT'), '', "$name waits until the end of the transaction");
	is(complaints($other, 'SELECT 1'), '', "$name is done then");
	$node->safe_psql('postgres', 'CREATE INDEX h6_k ON h6 USING alex (k)') if $sql =~ /DROP/;
	$node->safe_psql('postgres', 'DROP INDEX h6_k; ALTER INDEX h6_k2 RENAME TO h6_k') if $sql =~ /CREATE/;
	check_all('h6', 500, $name);
	$_->quit foreach ($inserter, $other);
}

# H6: the lock stays when the cursor that has inserted the rows fails.
{
	my $name = 'H6: a cursor that fails';
	my $inserter = session('inserter');
	my $other = session('other');

	make_table('h6', 300);
	$inserter->query(q{BEGIN; DECLARE c CURSOR FOR SELECT insert_row('h6', i, 10 - i) FROM generate_series(1, 10) i});
	$inserter->query('FETCH 5 FROM c; SAVEPOINT s');
	like(complaints($inserter, 'FETCH ALL FROM c'), qr/division by zero/, "$name: error");
	$inserter->query('ROLLBACK TO s');
	send_blocked($other, 'other', 'ALTER INDEX h6_k SET TABLESPACE elsewhere');
	is(complaints($inserter, 'COMMIT'), '', "$name: others wait");
	is(complaints($other, 'SELECT 1'), '', "$name: and go on");
	check_all('h6', 305, $name);
	$_->quit foreach ($inserter, $other);
}

#
# H16: a speculative tuple, in which another session's insertion is noticed
# after the entry has been made, is killed; its TID is used again.
#
{
	my $name = 'H16';
	my $inserter = session('inserter');
	my $blocker = session('blocker');

	make_table('h16', 300);
	# The constraint's index comes after h16_k; when the key is computed for
	# the second time, that is for the entry, it waits.
	$node->safe_psql('postgres', <<'END');
CREATE FUNCTION slow(i bigint) RETURNS bigint IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('test.calls', (current_setting('test.calls')::int + 1)::text, false);
	IF current_setting('test.calls') = '2' THEN
		PERFORM pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1);
	END IF;
	RETURN i;
END $$;
ALTER DATABASE postgres SET test.calls = 10;
SET test.calls = 10;
DELETE FROM h16 a USING h16 b WHERE a.k = b.k AND a.ctid > b.ctid;
CREATE UNIQUE INDEX h16_unique ON h16 (slow(b));
END
	$inserter->query('SET test.calls = 0; SET alexam.batch_size = 1000');
	$blocker->query('SET test.calls = 10; SELECT pg_advisory_lock(1)');
	$inserter->query('BEGIN');
	send_blocked($inserter, 'inserter', 'INSERT INTO h16 VALUES (5000, 5000) ON CONFLICT DO NOTHING');
	$blocker->query('INSERT INTO h16 VALUES (5000, 5000)');
	$blocker->query('SELECT pg_advisory_unlock(1)');
	is($inserter->query('SELECT count(*) FROM h16 WHERE b = 5000'), 1, "$name: the conflict is noticed");
	my $rows = $node->safe_psql('postgres', 'SELECT count(*) FROM h16');
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on, TRUNCATE off) h16');
	$node->safe_psql('postgres', 'INSERT INTO h16 SELECT i, i FROM generate_series(6000, 6200) i');
	$inserter->query('INSERT INTO h16 VALUES (5001, 5001)');
	$inserter->query('COMMIT');
	check_all('h16', $rows + 202, $name);
	is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT count(*) FROM h16 WHERE k = 5000'),
		1, "$name: one row of that key");
	$_->quit foreach ($inserter, $blocker);
	$node->safe_psql('postgres', 'DROP TABLE h16');
}

#
# H18: a flush fails, in a subtransaction, at each point, with entries of the
# transaction and of the subtransaction in several batches, some of them
# NULLs.  All goes on, and in the end nothing is lost and nothing is twice.
#
my %threshold = ('log' => 1000000, 'run' => 10);

sub h18_rows
{
	my ($table, $key, $count) = @_;
	return "INSERT INTO $table SELECT k, k FROM (SELECT nullif(($key + i * 7919) % 1009, 13) AS k FROM generate_series(1, $count) i) n";
}

foreach my $case (
	[ 'flush-before-entries', 'log' ],
	[ 'flush-after-entries', 'log' ],
	[ 'log-before-link', 'log' ],
	[ 'seal-after-freeze', 'log' ],
	[ 'seal-before-install', 'log' ],
	[ 'seal-after-install', 'log' ],
	[ 'run-before-flush', 'run' ],
	[ 'direct-seal-before-install', 'run' ],
	[ 'direct-seal-after-install', 'run' ],
	[ 'flush-before-entries', 'run' ],
	[ 'flush-after-entries', 'run' ])
{
	my ($failpoint, $where) = @$case;

	foreach my $how ('caught', 'savepoint', 'cancelled')
	{
		my $name = "H18: $failpoint, into a $where, $how";
		my $session = session('inserter');

		next if $how eq 'cancelled' && $failpoint eq 'log-before-link';
		make_table($_, 300) foreach ('h18', 'h18_other');
		$session->query("SET alexam.direct_seal_threshold = $threshold{$where}; BEGIN");
		$session->query(h18_rows($_, 0, 600)) foreach ('h18', 'h18_other');
		# let others be in the midst of the log, too
		$node->safe_psql('postgres', h18_rows($_, 17, 50)) foreach ('h18', 'h18_other');
		my $failing = h18_rows('h18', 1, 400) . ';' . h18_rows('h18_other', 1, 400) . ';';

		if ($how eq 'caught')
		{
			is(complaints($session, <<"END"), '', "$name: the error is caught");
DO \$\$
DECLARE
	reached int := 0;
BEGIN
	PERFORM set_config('alexam.failpoint', '$failpoint', true);
	FOR attempt IN 1..3 LOOP
		BEGIN
			$failing
			PERFORM look('h18'), look('h18_other');
			RAISE division_by_zero;
		EXCEPTION
			WHEN internal_error THEN
				reached := reached + 1;
			WHEN division_by_zero THEN
				NULL;
		END;
	END LOOP;
	IF reached = 0 THEN
		RAISE 'failpoint not reached';
	END IF;
	PERFORM set_config('alexam.failpoint', '', true);
END \$\$
END
		}
		elsif ($how eq 'savepoint')
		{
			$session->query("SAVEPOINT s; $failing SAVEPOINT t");
			$session->query(h18_rows('h18', 3, 40));
			like(complaints($session, "SET alexam.failpoint = '$failpoint'; COMMENT ON TABLE h18 IS 'flushed'"),
				qr/failpoint "$failpoint" reached/, "$name: error");
			$session->query('ROLLBACK TO t');
			like(complaints($session, "SET alexam.failpoint = '$failpoint'; SELECT look('h18_other')"),
				qr/failpoint "$failpoint" reached/, "$name: error again")
			  if $where eq 'run' || $failpoint =~ /flush/;
			$session->query('ROLLBACK TO s');
		}
		else
		{
			$session->query("SAVEPOINT s; SET alexam.failpoint = '$failpoint?'; $failing");
			send_blocked($session, 'inserter', q{SELECT look('h18')});
			$node->safe_psql('postgres',
				q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'inserter'});
			like(complaints($session, 'ROLLBACK TO s'), qr/canceling statement/, "$name: it is cancelled");
		}
		$session->query("SET alexam.failpoint = ''");
		$session->query(h18_rows($_, 2, 60)) foreach ('h18', 'h18_other');
		is(complaints($session, 'COMMIT'), '', "$name: the transaction commits");
		check_all($_, 300 + 600 + 50 + 60, "$name, $_") foreach ('h18', 'h18_other');
		$session->quit;
	}
}

# At commit the transaction fails as a whole, and the next one works.
foreach my $failpoint ('flush-before-entries', 'flush-after-entries', 'direct-seal-after-install')
{
	my $name = "H18: $failpoint at commit";
	my $session = session('inserter');

	make_table('h18', 300);
	$session->query("SET alexam.direct_seal_threshold = 10; SET alexam.failpoint = '$failpoint'; BEGIN");
	$session->query(h18_rows('h18', 0, 600));
	like(complaints($session, 'COMMIT'), qr/failpoint "$failpoint" reached/, "$name: error");
	$session->query("SET alexam.failpoint = ''; BEGIN");
	$session->query(h18_rows('h18', 1, 50));
	is(complaints($session, 'COMMIT'), '', "$name: the next transaction");
	check_all('h18', 350, $name);
	$node->safe_psql('postgres', 'VACUUM h18; ' . h18_rows('h18', 5, 600));
	check_all('h18', 950, "$name, and after VACUUM");
	is((page_counts($node, 'h18_k'))[2], 0, "$name: no orphans");
	$session->quit;
}

#
# H21: nothing is flushed in a transaction that has failed.
#
{
	my $name = 'H21';
	my $session = session('inserter');

	make_table('h21', 300);
	$session->query('BEGIN; ' . insert_sql('h21', 5, 100));
	$session->query('SAVEPOINT s; ' . insert_sql('h21', 6, 100));
	like(complaints($session, 'SELECT 1 / 0'), qr/division by zero/, "$name: the transaction has failed");
	foreach my $sql ('REINDEX INDEX h21_k', 'ALTER TABLE h21 SET UNLOGGED', 'SAVEPOINT t', q{SELECT look('h21')}, "COMMENT ON TABLE h21 IS ''", 'FETCH ALL FROM c')
	{
		like(complaints($session, $sql), qr/current transaction is aborted/, "$name: $sql is refused");
	}
	is(complaints($session, 'ROLLBACK TO s'), '', "$name: ROLLBACK TO");
	is($session->query(q{SELECT look('h21')}), 400, "$name: the rows of the transaction are there");
	$session->query('SAVEPOINT t; ' . insert_sql('h21', 7, 100));
	$session->query('SELECT 1 / 0');
	is(complaints($session, 'ROLLBACK TO s'), '', "$name: ROLLBACK TO an outer savepoint");
	is(complaints($session, 'COMMIT'), '', "$name: COMMIT");
	check_all('h21', 400, $name);
	foreach my $end ('ROLLBACK', 'COMMIT', 'ROLLBACK AND CHAIN', 'PREPARE TRANSACTION \'h21\'')
	{
		$session->query('BEGIN; ' . insert_sql('h21', 6, 100));
		$session->query('SELECT 1 / 0');
		is(complaints($session, $end), '', "$name: $end of a failed transaction");
		$session->query('ROLLBACK');
	}
	check_all('h21', 400, "$name, rolled back");
	$session->quit;
}

#
# Prepared transactions, and crashes.  Nobody restarts the server after a
# crash but this test.
#
foreach my $threshold (values %threshold)
{
	my $name = "PREPARE TRANSACTION, direct_seal_threshold $threshold";
	my $rows = 300;

	make_table('prepared', $rows);
	foreach my $end ('COMMIT', 'ROLLBACK')
	{
		$node->safe_psql('postgres', "SET alexam.direct_seal_threshold = $threshold; BEGIN; "
			  . insert_sql('prepared', 5, 200) . '; SAVEPOINT s; ' . insert_sql('prepared', 6, 100)
			  . '; ROLLBACK TO s; ' . insert_sql('prepared', 7, 100) . "; PREPARE TRANSACTION '$end'");
		is( $node->safe_psql('postgres',
				q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'prepared_k'::regclass AND mode = 'RowExclusiveLock'}),
			't', "$name: it keeps the lock on the index");
	}
	check_all('prepared', $rows, "$name: not seen");
	$node->stop('immediate');
	$node->start;
	check_all('prepared', $rows, "$name: not seen after a crash");
	$node->safe_psql('postgres', q{COMMIT PREPARED 'COMMIT'});
	check_all('prepared', $rows + 300, "$name: committed");
	$node->safe_psql('postgres', q{ROLLBACK PREPARED 'ROLLBACK'});
	$node->safe_psql('postgres', 'VACUUM prepared; ' . insert_sql('prepared', 8, 300));
	check_all('prepared', $rows + 600, "$name: rolled back, and the TIDs used again");
}

# H11: a crash at each step of a flush, before commit
foreach my $case (
	[ 'flush-before-entries', 'log' ],
	[ 'flush-after-entries', 'log' ],
	[ 'log-before-link', 'log' ],
	[ 'append-before-memtable', 'log' ],
	[ 'direct-seal-before-install', 'run' ],
	[ 'direct-seal-after-install', 'run' ],
	[ 'flush-after-entries', 'run' ])
{
	my ($failpoint, $where) = @$case;
	my $name = "H11: crash at $failpoint, into a $where";
	my $log_size = -s $node->logfile;

	make_table('crashed', 300);
	$node->psql('postgres', "SET alexam.direct_seal_threshold = $threshold{$where}; BEGIN; "
		  . h18_rows('crashed', 0, 700) . "; SET alexam.failpoint = '$failpoint!'; COMMIT");
	wait_for_crash($node);
	$node->start;
	like(slurp_file($node->logfile, $log_size), qr/PANIC:  failpoint "$failpoint" reached/, "$name: the server crashes");
	check_all('crashed', 300, $name);
	$node->safe_psql('postgres', 'VACUUM crashed; ' . h18_rows('crashed', 1, 700));
	check_all('crashed', 1000, "$name, and work goes on");
	is((page_counts($node, 'crashed_k'))[2], 0, "$name: no orphans");
}

#
# Several sessions make runs while VACUUM, whose sweep looks for pages that
# nothing refers to, goes on.
#
{
	my $name = 'direct seals and VACUUM';
	my $script = $node->basedir . '/direct.sql';
	my ($output, $errors) = ('', '');

	make_table('many', 300);
	append_to_file($script, <<'END');
\set key random(1, 1000000)
BEGIN;
INSERT INTO many SELECT key, key FROM (SELECT nullif((:key + i * 7919) % 1009, 13) AS key FROM generate_series(1, 60) i) n;
SAVEPOINT s;
INSERT INTO many SELECT :key, :key FROM generate_series(1, 30) i;
SELECT look('many') % 1;
ROLLBACK TO s;
INSERT INTO many VALUES (:key, :key);
COMMIT;
END
	my $pgbench = IPC::Run::start(
		[ 'pgbench', '-n', '-c', '4', '-t', '60', '-f', $script, '-d', $node->connstr('postgres') ],
		'<', \undef, '>', \$output, '2>', \$errors,
		init => sub { $ENV{PGOPTIONS} = '-c alexam.direct_seal_threshold=20' });
	my $vacuums = 0;

	while ($pgbench->pumpable)
	{
		$pgbench->pump_nb;
		$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) many');
		$vacuums++;
	}
	ok($pgbench->finish, "$name: pgbench") || diag($errors);
	note("$vacuums times VACUUM");
	check_all('many', 300 + 4 * 60 * 61, $name);
	$node->safe_psql('postgres', 'VACUUM (INDEX_CLEANUP on) many');
	is((page_counts($node, 'many_k'))[2], 0, "$name: no orphans");
	check_all('many', 300 + 4 * 60 * 61, "$name, VACUUM once more");
}

# A procedure that rolls back releases the plan of its own CALL, and if that has
# been deallocated, it is gone when the hooks come back from it.
{
	my $name = 'a CALL whose plan is freed while it runs';
	my $script = $node->basedir . '/call.sql';

	$node->safe_psql('postgres', <<'END');
CREATE TABLE called (k int);
CREATE INDEX called_k ON called USING alex (k);
CREATE PROCEDURE forget() LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO called VALUES (1), (2);
	DEALLOCATE ALL;
	ROLLBACK;
	INSERT INTO called VALUES (3), (4);
END $$;
END
	append_to_file($script, "CALL forget();\n");
	$node->command_ok(
		[ 'pgbench', '-n', '-M', 'prepared', '-t', '1', '-f', $script, '-d', $node->connstr('postgres') ],
		$name);
	is($node->safe_psql('postgres', "SELECT look('called')"), 2, "$name: rows");
	check_index($node, 'called_k', $name);
}

$node->stop;
done_testing();
