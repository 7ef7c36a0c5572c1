# unique.pl
#	  Unique indexes under concurrent writers.
#
# First each interlock by itself: a session is stopped at the critical moment
# until the others have done what must not harm it.  Then many writers of few
# keys at once, with seals, compaction and VACUUM beside them.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('unique', <<'END');
alexam.memtable_entries = 100
alexam.direct_seal_threshold = 150
statement_timeout = '120s'
client_min_messages = error
wal_level = logical
max_wal_senders = 4
max_replication_slots = 4
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

my $barrier = PostgreSQL::Test::Utils::tempdir() . '/go';

sub session
{
	return open_session($node, @_);
}

# Waits until that statement of a session waits for something or is over.
sub wait_stopped
{
	my ($name, $sql) = @_;
	my $activity = "FROM pg_stat_activity WHERE application_name = '$name' AND query = '$sql;'";

	$node->poll_query_until('postgres',
		"SELECT state LIKE 'idle%' OR wait_event IN ('AlexUniqueKey', 'transactionid', 'Extension') $activity")
	  or die "$name neither ends nor waits";
	return $node->safe_psql('postgres',
		"SELECT CASE WHEN state LIKE 'idle%' THEN 'idle' ELSE wait_event END $activity");
}

# Sends a statement to a session that is to stop at a failpoint, and waits
# until it is there: it is active, and waits for nothing that the server knows.
sub send_to_failpoint
{
	my ($session, $name, $failpoint, $sql) = @_;

	unlink($barrier);
	$session->query("SET alexam.failpoint = '$failpoint\@$barrier'");
	send_statement($session, $sql);
	$node->poll_query_until('postgres',
		"SELECT state = 'active' AND wait_event = 'Extension' "
		  . "FROM pg_stat_activity WHERE application_name = '$name' AND query = '$sql;'")
	  or die "$name does not come to $failpoint";
	return;
}

sub release
{
	append_to_file($barrier, '');
	return;
}

# Waits for the end of a session's statement; its error, if any.
sub result_of
{
	my ($session) = @_;

	$session->query('SELECT 1');
	my $error = $session->{stderr};
	$session->{stderr} = '';
	return $error =~ /ERROR:  (.*)/ ? $1 : '';
}

my $duplicate = qr/duplicate key value violates unique constraint "u_k"/;

sub create_table
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CREATE TABLE u (k int, v int); CREATE UNIQUE INDEX u_k ON u USING alex (k);");
	return map { session($_) } qw(one two vacuum);
}

sub drop_table
{
	my ($title, @sessions) = @_;

	is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT k) FROM u'), 0, "$title: no key twice");
	check_index($node, 'u_k', $title);
	$_->quit foreach (@sessions);
	$node->safe_psql('postgres', 'DROP TABLE u');
	return;
}

#
# H4: a second inserter between the first one's look and its entry, whether
# that goes to the log or waits
#
foreach my $begin ('', 'BEGIN')
{
	my $title = 'H4, ' . ($begin ? 'the entry waits' : 'the entry is logged at once');
	my ($one, $two, $vacuum) = create_table();

	$one->query($begin) if $begin;
	send_to_failpoint($one, 'one', 'unique-before-append', 'INSERT INTO u VALUES (1, 1)');
	send_statement($two, 'INSERT INTO u VALUES (1, 2)');
	is(wait_stopped('two', 'INSERT INTO u VALUES (1, 2)'), 'AlexUniqueKey', "$title: the key is locked");
	release();
	if ($begin)
	{
		is(result_of($one), '', "$title: the first inserter succeeds");
		is(wait_stopped('two', 'INSERT INTO u VALUES (1, 2)'), 'transactionid', "$title: the second waits for its end");
		is($node->safe_psql('postgres', "SELECT log_entries FROM alex_stats('u_k')"), 0, "$title: there is no entry yet");
		$one->query('COMMIT');
	}
	else
	{
		is(result_of($one), '', "$title: the first inserter succeeds");
	}
	like(result_of($two), $duplicate, "$title: the second fails");
	drop_table($title, $one, $two, $vacuum);
}

#
# H2: the TID of an entry in hand becomes another row's before the heap is
# looked at
#
foreach my $place ('memtable', 'run')
{
	my $title = "H2, entry in the $place";
	my ($one, $two, $vacuum) = create_table();

	$node->safe_psql('postgres', 'INSERT INTO u VALUES (1, 1), (2, 2), (3, 3)');
	$node->safe_psql('postgres', "SELECT alex_compact('u_k')") if $place eq 'run';
	$node->safe_psql('postgres', 'DELETE FROM u WHERE k = 2');
	my $tid = '(0,2)';

	send_to_failpoint($one, 'one', 'unique-before-heap', 'INSERT INTO u VALUES (2, 4)');
	send_statement($vacuum, 'VACUUM (INDEX_CLEANUP on) u');
	is(wait_stopped('vacuum', 'VACUUM (INDEX_CLEANUP on) u'), 'Extension', "$title: VACUUM waits");
	$node->safe_psql('postgres', 'INSERT INTO u VALUES (5, 5)');
	release();
	is(result_of($one), '', "$title: no row has the key");
	result_of($vacuum);
	is($node->safe_psql('postgres', "INSERT INTO u VALUES (6, 6) RETURNING ctid"), $tid, "$title: the TID can be used again");
	drop_table($title, $one, $two, $vacuum);
}

#
# H3: a subtransaction is rolled back, and its row's TID is another row's
# before its claim of the key is gone
#
{
	my $title = 'H3';
	my ($one, $two, $vacuum) = create_table();

	$node->safe_psql('postgres', 'INSERT INTO u VALUES (1, 1)');
	$one->query('BEGIN; INSERT INTO u VALUES (10, 1); SAVEPOINT s;');
	$one->query('INSERT INTO u VALUES (2, 2)');
	send_to_failpoint($one, 'one', 'drop-before-claims', 'ROLLBACK TO s');
	$vacuum->query('VACUUM (INDEX_CLEANUP on) u');
	is($node->safe_psql('postgres', "INSERT INTO u VALUES (5, 5) RETURNING ctid"), '(0,3)', "$title: the TID is used again");
	send_statement($two, 'INSERT INTO u VALUES (2, 6)');
	is(wait_stopped('two', 'INSERT INTO u VALUES (2, 6)'), 'idle', "$title: nothing to wait for");
	is(result_of($two), '', "$title: no row has the key");
	release();
	result_of($one);
	$one->query('COMMIT');
	is($node->safe_psql('postgres', 'SELECT string_agg(k::text, \' \' ORDER BY k) FROM u'), '1 2 5 10', "$title: rows");
	drop_table($title, $one, $two, $vacuum);
}

#
# Claims outlive neither their transaction nor their session, and who gets no
# place for them does without.
#
{
	my $title = 'claims';
	my ($one, $two, $vacuum) = create_table();
	my @sessions = map { session("claimer $_") } (1 .. 12);

	foreach my $i (0 .. 11)
	{
		$sessions[$i]->query("BEGIN; INSERT INTO u SELECT $i * 1000 + j FROM generate_series(1, 40) j; SAVEPOINT s;");
		$sessions[$i]->query("INSERT INTO u SELECT $i * 1000 + j FROM generate_series(41, 60) j; ROLLBACK TO s;");
	}
	send_statement($two, 'INSERT INTO u VALUES (11040, 1)');
	is(wait_stopped('two', 'INSERT INTO u VALUES (11040, 1)'), 'transactionid', "$title: an entry without a place for its claim");
	send_statement($one, 'INSERT INTO u VALUES (7040, 1)');
	is(wait_stopped('one', 'INSERT INTO u VALUES (7040, 1)'), 'transactionid', "$title: an entry with one");
	$sessions[11]->query('COMMIT');
	$sessions[7]->quit;
	like(result_of($two), $duplicate, "$title: after the commit of its transaction");
	is(result_of($one), '', "$title: after the end of its session");
	send_statement($two, 'INSERT INTO u SELECT generate_series(41, 60)');
	is(wait_stopped('two', 'INSERT INTO u SELECT generate_series(41, 60)'), 'idle', "$title: what was rolled back is free");
	is(result_of($two), '', "$title: and can be inserted");
	$sessions[$_]->query($_ % 2 ? 'ROLLBACK' : 'COMMIT') foreach (0 .. 6, 8 .. 10);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM u'), 6 * 40 + 40 + 1 + 20, "$title: rows");
	$sessions[$_]->quit foreach (0 .. 6, 8 .. 11);

	# places are given back, else none would be left soon
	$one->query('BEGIN; INSERT INTO u VALUES (50000, 1), (50001, 1); ROLLBACK;') foreach (1 .. 10);
	$one->query('BEGIN; INSERT INTO u VALUES (50000, 1), (50001, 1); COMMIT;') foreach (1 .. 10);
	my $log_entries = "SELECT log_entries FROM alex_stats('u_k')";
	my $before = $node->safe_psql('postgres', $log_entries);
	$one->query('BEGIN; INSERT INTO u VALUES (50002, 1), (50003, 1);');
	is($node->safe_psql('postgres', $log_entries), $before, "$title: there are free places again");
	$one->query('COMMIT');
	drop_table($title, $one, $two, $vacuum);
}

#
# Rows inserted while CREATE UNIQUE INDEX CONCURRENTLY is at work: an old
# transaction makes it wait between its two looks at the table.
#
foreach my $key (100, 2)
{
	my $title = "CONCURRENTLY, key $key";
	my ($one, $two, $vacuum) = create_table();
	my $sql = 'CREATE UNIQUE INDEX CONCURRENTLY u_v ON u USING alex (v)';

	$node->safe_psql('postgres', 'INSERT INTO u SELECT i, i FROM generate_series(1, 50) i');
	$one->query('BEGIN; INSERT INTO u VALUES (60, 60);');
	send_statement($two, $sql);
	$node->poll_query_until('postgres',
		"SELECT wait_event = 'virtualxid' FROM pg_stat_activity WHERE application_name = 'two' AND query = '$sql;'");
	$one->query("INSERT INTO u VALUES (61, $key)");
	$one->query('COMMIT');
	my $error = result_of($two);
	if ($key == 2)
	{
		is($error, 'could not create unique index "u_v"', "$title: duplicate found");
		is($node->safe_psql('postgres', "SELECT indisvalid FROM pg_index WHERE indexrelid = 'u_v'::regclass"), 'f', "$title: invalid");
	}
	else
	{
		is($error, '', "$title: built");
		check_index($node, 'u_v', $title);
	}
	drop_table($title, $one, $two, $vacuum);
}

# A row that it finds missing from the index is deleted, and another one with
# its key inserted, before it has been added.
{
	my $title = 'CONCURRENTLY, row deleted meanwhile';
	my ($one, $two, $vacuum) = create_table();
	my $three = session('three');
	my $sql = 'CREATE UNIQUE INDEX CONCURRENTLY u_v ON u USING alex (v)';
	my $phase = 'SELECT phase LIKE \'%s\' FROM pg_stat_progress_create_index';

	unlink($barrier);
	$node->safe_psql('postgres', 'INSERT INTO u SELECT i, i FROM generate_series(1, 50) i');
	$two->query("SET alexam.failpoint = 'vacuum-before-epoch\@$barrier'");
	$one->query('BEGIN; INSERT INTO u VALUES (60, 60);');
	send_statement($two, $sql);
	$node->poll_query_until('postgres', sprintf($phase, 'waiting for writers before build'));
	$three->query('BEGIN; INSERT INTO u VALUES (61, 61);');
	$one->query('COMMIT');
	$node->poll_query_until('postgres', sprintf($phase, 'waiting for writers before validation'));
	$three->query('COMMIT');
	$node->poll_query_until('postgres', sprintf($phase, 'index validation: scanning index'));
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'u_v'::regclass AND locktype = 'page' AND page = 1");
	$node->safe_psql('postgres', 'DELETE FROM u WHERE v = 61');
	$node->safe_psql('postgres', 'INSERT INTO u VALUES (62, 61)');
	release();
	is(result_of($two), '', "$title: built");
	check_index($node, 'u_v', $title);
	is($node->safe_psql('postgres', 'SET enable_seqscan = off; SELECT k FROM u WHERE v = 61'), 62, "$title: the other row is there");
	$three->quit;
	drop_table($title, $one, $two, $vacuum);
}

#
# A unique alex index as replica identity, on either side
#
{
	my $title = 'logical replication';
	my $connection = $node->connstr . ' dbname=postgres';
	my $table = 'CREATE TABLE copied (k int NOT NULL, v int); CREATE UNIQUE INDEX copied_k ON copied USING alex (k); '
	  . 'ALTER TABLE copied REPLICA IDENTITY USING INDEX copied_k;';
	my $rows = 'SELECT count(*), sum(k), sum(v) FROM copied';

	$node->safe_psql('postgres', 'CREATE DATABASE other');
	$node->safe_psql('other', "CREATE EXTENSION alexam; $table");
	$node->safe_psql('postgres', "$table CREATE PUBLICATION copies FOR TABLE copied");
	$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('copies', 'pgoutput')");
	$node->safe_psql('other', "CREATE SUBSCRIPTION copies CONNECTION '$connection' PUBLICATION copies WITH (create_slot = false, copy_data = false)");
	$node->safe_psql('postgres', <<'END');
INSERT INTO copied SELECT i, i FROM generate_series(1, 500) i;
BEGIN;
INSERT INTO copied SELECT i, i FROM generate_series(501, 700) i;
UPDATE copied SET v = -v WHERE k > 400;
UPDATE copied SET k = k + 10000 WHERE k % 3 = 0;
DELETE FROM copied WHERE k % 7 = 0;
COMMIT;
END
	$node->wait_for_catchup('copies');
	is($node->safe_psql('other', $rows), $node->safe_psql('postgres', $rows), "$title: same rows");
	check_index($node, 'copied_k', $title, 'other');
	is($node->safe_psql('other', 'SELECT count(*) - count(DISTINCT k) FROM copied'), 0, "$title: no key twice");
	$node->safe_psql('other', 'DROP SUBSCRIPTION copies');
	$node->safe_psql('postgres', 'DROP PUBLICATION copies; DROP TABLE copied');
}

#
# Many writers of few keys
#
$node->safe_psql('postgres', <<'END');
CREATE TABLE u (k int, v int);
CREATE UNIQUE INDEX u_k ON u USING alex (k);
CREATE TABLE outcomes (inserted int, refused int);
-- Inserts keys in order, so that nobody waits for each other in a circle.
CREATE FUNCTION add(first int, step int, n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	inserted int := 0;
	refused int := 0;
BEGIN
	FOR i IN 0 .. n - 1 LOOP
		BEGIN
			INSERT INTO u VALUES (first + i * step, pg_backend_pid());
			inserted := inserted + 1;
			IF i % 5 = 4 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION
			WHEN unique_violation THEN
				refused := refused + 1;
			WHEN division_by_zero THEN
				inserted := inserted - 1;
		END;
	END LOOP;
	INSERT INTO outcomes VALUES (inserted, refused);
END $$;
CREATE FUNCTION move(key int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	UPDATE u SET k = key + 300 WHERE k = key;
EXCEPTION WHEN unique_violation THEN
	DELETE FROM u WHERE k = key;
END $$;
END

my %scripts = (
	'one@4' => <<'END',
\set first random(1, 40)
SELECT add(:first, 1, 1);
END
	'many@4' => <<'END',
\set first random(1, 40)
\set step random(1, 7)
\set n random(2, 30)
BEGIN;
SELECT add(:first, :step, :n);
COMMIT;
END
	'undone@3' => <<'END',
\set first random(1, 40)
\set step random(1, 7)
BEGIN;
SELECT add(:first, :step, 20);
ROLLBACK;
END
	'remove@4' => <<'END',
\set first random(1, 40)
DELETE FROM u WHERE k IN (SELECT k FROM u WHERE k BETWEEN :first AND :first + 30 ORDER BY k FOR UPDATE SKIP LOCKED);
END
	'move@3' => <<'END',
\set key random(1, 40)
SELECT move(:key);
END
	'fill@1' => <<'END',
\set first random(0, 1000000)
INSERT INTO u SELECT 1000000000 + :first * 200 + i, 0 FROM generate_series(1, 160) i WHERE NOT EXISTS (SELECT FROM u WHERE k = 1000000000 + :first * 200 + i) LIMIT 160;
END
	'compact@1' => 'SELECT alex_compact(\'u_k\') FROM (SELECT pg_try_advisory_xact_lock(1) AS got OFFSET 0) AS lock WHERE got;',
	'vacuum@1' => "VACUUM (INDEX_CLEANUP on, SKIP_LOCKED) u;\n");

# What stops a writer but must not, apart from the waits that end in a deadlock
# because two transactions meet in the heap and in the index.
$node->pgbench('--no-vacuum --client=8 --jobs=2 --transactions=700 --max-tries=50', 0,
	[qr/processed: 5600\/5600/], [qr/^(?!.*aborted)/s], 'eight writers of few keys',
	{ map { $_ => $scripts{$_} } keys %scripts });

is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT k) FROM u'), 0, 'eight writers: no key twice');
is($node->safe_psql('postgres', 'SELECT sum(inserted) > 500 AND sum(refused) > 500 FROM outcomes'), 't',
	'eight writers: many were inserted and many refused');
check_index($node, 'u_k', 'eight writers');
is( $node->safe_psql('postgres', 'SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM u WHERE k IS NOT NULL'),
	$node->safe_psql('postgres', 'SELECT count(*) FROM u'),
	'eight writers: all rows through the index');

$node->stop;
done_testing();
