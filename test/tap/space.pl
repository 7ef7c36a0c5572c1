# space.pl
#	  A full disk, a small memtable arena, builds with little memory, and few
#	  shared buffers.
#
# A limit on the size of files serves as the full disk.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexDamage;
use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('space', <<'END', extra => ['--wal-segsize=1']);
alexam.memtable_memory = 1MB
alexam.batch_size = 1
alexam.max_memtables = 8
min_wal_size = 2MB
max_wal_size = 100MB
fsync = off
statement_timeout = '60s'
enable_seqscan = off
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

my $without_index = 'SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off;';

# The same counts and sums through the index and without it.
sub same_rows
{
	my ($table, $title) = @_;
	my $sql = "SELECT count(*), sum(k), count(k), min(k), max(k) FROM $table";
	my $wide = "$sql WHERE k IS NULL OR k IS NOT NULL";
	my $narrow = "$sql WHERE k BETWEEN 1000 AND 2000000000";

	foreach my $query ($wide, $narrow)
	{
		my $expected = $node->safe_psql('postgres', "$without_index $query");
		my ($status, $output, $errors) = $node->psql('postgres', $query);
		is("$output$errors", $expected, "$title: right rows");
	}
	return;
}

#
# Full disk.  No file may become larger than it was.
#

# Restarts the server with a limit on the size of files, in bytes.
sub restart_with_limit
{
	my ($limit) = @_;

	$node->stop;
	system_or_bail('bash', '-c', 'ulimit -S -f ' . int($limit / 1024) . "; exec pg_ctl --wait --silent start --pgdata='"
		  . $node->data_dir . "' --log='" . $node->logfile . "'");
	$node->_update_pid(1);
	return;
}

# Under the limit, a statement says that there is no space.
sub no_space
{
	my ($sql, $title) = @_;
	my ($status, $output, $errors) = $node->psql('postgres', $sql);

	like($errors, qr/ERROR:  could not (extend|write block \d+ in) file ".*": (wrote only \d+ of \d+ bytes|File too large)/,
		"$title: no space");
	return;
}

# Heaps are made first, with free space in them, and not touched but in place.
$node->safe_psql('postgres', <<'END');
CREATE TABLE built (k bigint);
INSERT INTO built SELECT hashint8extended(i, 0) FROM generate_series(1, 200000) i;
CREATE TABLE inserted (k bigint);
INSERT INTO inserted SELECT i FROM generate_series(1, 100000) i;
DELETE FROM inserted;
VACUUM (TRUNCATE off) inserted;
CREATE INDEX inserted_k ON inserted USING alex (k);
CREATE TABLE sealed (k bigint, filler int);
INSERT INTO sealed SELECT i, 0 FROM generate_series(1, 70000) i;
DELETE FROM sealed;
VACUUM (TRUNCATE off) sealed;
CREATE INDEX sealed_k ON sealed USING alex (k);
SET alexam.memtable_entries = 1000000;
SET alexam.batch_size = 1;
INSERT INTO sealed SELECT hashint8extended(i, 1), 0 FROM generate_series(1, 65000) i;
END
$node->safe_psql('postgres', <<'END');
CREATE TABLE merged (k bigint);
CREATE INDEX merged_k ON merged USING alex (k);
END
foreach my $run (1 .. 3)
{
	$node->safe_psql('postgres', <<"END");
SET alexam.memtable_entries = 30000;
INSERT INTO merged SELECT hashint8extended(i, $run) FROM generate_series(1, 30000) i;
END
}
$node->safe_psql('postgres', 'DELETE FROM merged WHERE k % 3 = 0');
$node->safe_psql('postgres', 'VACUUM (FREEZE, TRUNCATE off) built');
$node->safe_psql('postgres', 'CHECKPOINT');

# Each statement needs more than the file of its index may have.
my $limit = 16384 + -s index_path($node, 'sealed_k');
my %fails = (
	'CREATE INDEX built_k ON built USING alex (k)' => 'build',
	'SET alexam.memtable_entries = 1000000; INSERT INTO inserted SELECT generate_series(1, 100000)' => 'insert',
	'SET alexam.memtable_entries = 100; INSERT INTO sealed SELECT i, 0 FROM generate_series(1, 600) i' => 'seal',
	"SELECT alex_compact('merged_k')" => 'compaction',
	'VACUUM (INDEX_CLEANUP on, TRUNCATE off) merged' => 'VACUUM');

restart_with_limit($limit);
foreach my $round (1, 2)
{
	foreach my $sql (sort keys %fails)
	{
		no_space($sql, "full disk, $fails{$sql}, round $round");
	}
	same_rows($_, "full disk, $_, round $round") foreach ('inserted', 'sealed', 'merged');
}
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname = 'built_k'"), 0,
	'full disk: the build has left nothing');

# The shutdown could not write all pages, either.
$node->stop('immediate');
$node->start;
same_rows($_, "disk after recovery, $_") foreach ('inserted', 'sealed', 'merged');
foreach my $sql (sort keys %fails)
{
	my ($status, $output, $errors) = $node->psql('postgres', $sql);
	is($errors, '', "no limit any more: $fails{$sql}");
}
foreach my $table ('built', 'inserted', 'sealed', 'merged')
{
	same_rows($table, "no limit any more, $table");
	$node->safe_psql('postgres', "VACUUM $table");
	check_index($node, "${table}_k", "no limit any more, $table");
}
$node->safe_psql('postgres', 'DROP TABLE built, inserted, sealed, merged');

#
# A full arena.  The logs of four indexes are several times what fits, so they
# are sealed early; but that of the first cannot be, as long as a VACUUM that
# waits in its midst holds the locks.  Scans read a copy of it.
#
my @large = map { "large_$_" } 1 .. 4;
foreach my $table (@large)
{
	$node->safe_psql('postgres', "CREATE TABLE $table (k int); CREATE INDEX ${table}_k ON $table USING alex (k);");
}
$node->safe_psql('postgres', 'INSERT INTO large_1 VALUES (0); DELETE FROM large_1;');
my $vacuum = $node->background_psql('postgres', on_error_stop => 0);
$vacuum->query_safe("SET statement_timeout = 0; SET alexam.failpoint = 'vacuum-before-epoch?'");
$vacuum->query_until(qr/started/, "\\echo started\nVACUUM large_1;\n");
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'page' AND page = 1 AND granted")
  or die 'VACUUM does not come to the failpoint';
foreach my $round (1 .. 4)
{
	foreach my $table (@large)
	{
		my ($status, $output, $errors) = $node->psql('postgres', <<"END");
SET alexam.memtable_entries = 10000000;
INSERT INTO $table SELECT nullif(hashint4(i), 0) FROM generate_series($round * 100000, $round * 100000 + 14999) i;
INSERT INTO $table VALUES (NULL);
DELETE FROM $table WHERE k % 10 = $round;
END
		is($errors, '', "full arena: insert into $table, round $round");
	}
	same_rows($_, "full arena, $_, round $round") foreach @large;
}
is($node->safe_psql('postgres', "SELECT log_entries FROM alex_stats('large_1_k')"),
	60005, 'full arena: all is in the log that cannot be sealed');
foreach my $table (@large[1 .. 3])
{
	my ($log, $all) = split(/\|/, $node->safe_psql('postgres',
		"SELECT log_entries, log_entries + entries FROM alex_stats('${table}_k')"));

	cmp_ok($log, '<', 30000, "full arena, $table: the log was sealed early");
	is($all, 60004, "full arena, $table: nothing is lost by that");
}
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'VACUUM large_1%'");
$vacuum->quit;
cmp_ok($node->safe_psql('postgres',
		join(' + ', map { "coalesce((SELECT memtable_bytes FROM alex_stats('${_}_k')), 0)" } @large) =~ s/^/SELECT /r),
	'<=', 1024 * 1024, 'full arena: memtables are not larger');
foreach my $table (@large)
{
	# the log must not be sealed here
	$node->safe_psql('postgres', "SET alexam.memtable_entries = 10000000; VACUUM $table");
	same_rows($table, "full arena, $table, VACUUM");
	check_index($node, "${table}_k", "full arena, $table, VACUUM");
	$node->safe_psql('postgres', "SELECT alex_compact('${table}_k')");
	same_rows($table, "full arena, $table, compacted");
}
$node->safe_psql('postgres', "DROP TABLE $_") foreach @large;

#
# More indexes than places for memtables
#
$node->safe_psql('postgres', <<'END');
DO $$ BEGIN
	FOR i IN 1 .. 30 LOOP
		EXECUTE format('CREATE TABLE many_%s (k int)', i);
		EXECUTE format('CREATE INDEX ON many_%s USING alex (k)', i);
	END LOOP;
END $$;
END
is( $node->safe_psql('postgres', <<'END'), '', 'many indexes: each has its own rows');
DO $$ DECLARE n bigint; s bigint;
BEGIN
	FOR round IN 1 .. 5 LOOP
		FOR i IN 1 .. 30 LOOP
			EXECUTE format('INSERT INTO many_%s SELECT %s + j * 100 FROM generate_series(1, 50) j', i, i);
		END LOOP;
		FOR i IN 1 .. 30 LOOP
			EXECUTE format('SELECT count(*), sum(k) FROM many_%s WHERE k > 0', i) INTO n, s;
			ASSERT n = round * 50 AND s = round * (50 * i + 127500), format('%s %s %s %s', round, i, n, s);
		END LOOP;
		COMMIT;
	END LOOP;
END $$;
END
check_index($node, "many_${_}_k_idx", "many indexes, $_") foreach (1, 15, 30);

#
# A build that does not fit into memory
#
my $digest = 'SELECT count(*), sum(k), md5(string_agg(k::text, \',\' ORDER BY k)) FROM (SELECT k FROM spilled WHERE k > 0 ORDER BY k LIMIT 50000) s';
$node->safe_psql('postgres', <<'END');
CREATE TABLE spilled (k bigint);
INSERT INTO spilled SELECT hashint8extended(i, 0) FROM generate_series(1, 500000) i;
SET maintenance_work_mem = '1MB';
SET log_temp_files = 0;
CREATE INDEX spilled_k ON spilled USING alex (k);
ANALYZE spilled;
END
like(slurp_file($node->logfile), qr/temporary file: .*\n.*CREATE INDEX spilled_k/, 'build with little memory: it uses temporary files');
is($node->safe_psql('postgres', "SELECT runs, entries, log_entries FROM alex_stats('spilled_k')"), '1|500000|0',
	'build with little memory: one run');
is($node->safe_psql('postgres', $digest), $node->safe_psql('postgres', "$without_index $digest"),
	'build with little memory: same order');
same_rows('spilled', 'build with little memory');
check_index($node, 'spilled_k', 'build with little memory');

#
# The least shared buffers that the server starts with: 16 pages.  What btree
# can do with them, alex can.  (With the least WAL btree cannot, either: core
# pins 32 pages of a small new file to log them.)
#
$node->safe_psql('postgres', 'DROP TABLE spilled');
$node->append_conf('postgresql.conf', <<'END');
shared_buffers = 128kB
wal_level = replica
enable_seqscan = on
END
$node->restart;
is($node->safe_psql('postgres', 'SHOW shared_buffers'), '128kB', '16 buffers');
$node->safe_psql('postgres', 'CREATE TABLE few (k bigint, b bigint)');
foreach my $step (
	'CREATE INDEX few_k ON few USING alex (k)',
	'CREATE INDEX few_b ON few (b)',
	'SET alexam.memtable_entries = 5000; INSERT INTO few SELECT hashint4(i), hashint4(i) FROM generate_series(1, 9000) i',
	'SET alexam.memtable_entries = 5000; UPDATE few SET k = k + 1, b = b + 1 WHERE k % 2 = 0',
	'INSERT INTO few SELECT hashint8extended(i, 0), hashint8extended(i, 0) FROM generate_series(1, 150000) i',
	'INSERT INTO few SELECT NULL, NULL FROM generate_series(1, 3000) i',
	'DELETE FROM few WHERE k % 3 = 0',
	'VACUUM few',
	'SET alexam.direct_seal_threshold = 1000; INSERT INTO few SELECT k + 1, k + 1 FROM few WHERE k % 5 = 0',
	q{SELECT alex_compact('few_k')},
	'VACUUM few',
	'REINDEX INDEX few_k',
	'DELETE FROM few WHERE k % 7 = 0',
	'VACUUM few',
	'SET alexam.memtable_entries = 5000; INSERT INTO few SELECT i, i FROM generate_series(1, 30000) i')
{
	my ($status, $output, $errors) = $node->psql('postgres', $step);

	is($errors, '', "16 buffers: $step");
}
compare_scans($node, 'few', '16 buffers');
check_index($node, 'few_k', '16 buffers');
$node->stop('immediate');
$node->start;
compare_scans($node, 'few', '16 buffers, recovery');
check_index($node, 'few_k', '16 buffers, recovery');

$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
