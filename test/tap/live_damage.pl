# live_damage.pl
#	  Files that are damaged under a running server, and memory that runs out.
#
# Pages that were verified before are trusted, and with verify_checksums = off
# all are; then a damaged page may give a wrong answer, but it must not bring a
# backend down, and with it the server.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexDamage;
use AlexTest;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('live_damage', <<'END');
alexam.batch_size = 1
alexam.memtable_entries = 2000
statement_timeout = '20s'
enable_seqscan = off
enable_bitmapscan = off
full_page_writes = off
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

my $seed = $ENV{ALEX_SEED} || 1;
note("seed $seed");
srand($seed);

# Tables whose keys and TIDs are packed in different ways, each with a large
# run, small ones with filters, and a log.
my %keys = (
	sequential => 'i',
	random     => 'hashint8extended(i, 0)',
	late       => 'CASE WHEN i % 37 = 0 THEN i * 1000 ELSE i END',
	few        => 'i % 5');
foreach my $table (sort keys %keys)
{
	my $deferred = $keys{$table};

	$node->safe_psql('postgres', <<"END");
CREATE TABLE $table (k bigint);
INSERT INTO $table SELECT $deferred FROM generate_series(1, 30000) i;
INSERT INTO $table SELECT NULL FROM generate_series(1, 300) i;
DELETE FROM $table WHERE ctid::text LIKE '%7)';
VACUUM $table;
CREATE INDEX ${table}_k ON $table USING alex (k);
INSERT INTO $table SELECT $deferred + 7 FROM generate_series(1, 5500) i;
CHECKPOINT;
END
}

sub still_up
{
	my ($title) = @_;

	is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started,
		"$title: the server has not gone down");
	return;
}

# Reads in every way; what they say does not matter.
sub read_all
{
	my ($table) = @_;
	my $complaints = '';

	foreach my $options ('SET alexam.use_mmap = on', 'SET alexam.use_mmap = off')
	{
		foreach my $checksums ('on', 'off')
		{
			my ($status, $output, $errors) = $node->psql('postgres', <<"END", on_error_stop => 0);
$options; SET alexam.verify_checksums = $checksums;
SELECT count(*), sum(k) FROM $table WHERE k > -1;
SELECT count(*) FROM (SELECT k FROM $table WHERE k IS NULL OFFSET 0) s;
SELECT k FROM $table ORDER BY k DESC LIMIT 10;
SELECT count(*) FROM generate_series(1, 30000, 97) i, LATERAL (SELECT k FROM $table WHERE k = i OFFSET 0) s;
SELECT count(*) FROM $table WHERE k IN (1, 5, 100, 2000, 30007);
END
			$complaints .= $errors
			  if $errors =~ /server closed|terminat|timeout|PANIC|TRAP/;
			$node->connect_ok('dbname=postgres', 'connect again') if $complaints ne '';
		}
	}
	is($complaints, '', "$table: backends live on");
	return;
}

# Each table's file is damaged in a dozen places at a time, behind the server's
# back; its checksums are off for that, as core's would find everything first.
$node->stop;
command_ok([ 'pg_checksums', '--disable', '-D', $node->data_dir ], 'data checksums are disabled');
$node->start;
$started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');

# TIDs with no rows a block, and keys with too many bits and exceptions.
$node->safe_psql('postgres', <<'END');
CREATE TABLE regular (k bigint);
INSERT INTO regular SELECT generate_series(1, 30000);
CREATE INDEX regular_k ON regular USING alex (k);
CHECKPOINT;
END
foreach my $damage ('rows', 'width')
{
	my $path    = index_path($node, 'regular_k');
	my $damaged = 0;

	read_all('regular');
	foreach my $block (pages_of_kind($path, 'leaf'))
	{
		my $page    = read_page($path, $block);
		my $where   = 64;
		my $segment = unpack('C', substr($page, 62, 1)) == 1;
		my $descriptor;

		# the headers of the key column and of that of the TIDs
		foreach (1, 2)
		{
			$descriptor = unpack('V', substr($page, $where, 4));
			last if $damage eq 'width';
			$where += 4 + ($descriptor >> 13 & 15) + ($descriptor >> 17 & 15) + ($descriptor >> 21 & 15 ? 2 : 0);
		}
		next if !$segment || ($damage eq 'rows' && $descriptor >> 25 != 0);
		write_bytes($path, $block, $where, $damage eq 'rows' ? "\0\0" : pack('V', $descriptor | 0x7F | 15 << 21));
		$damaged++;
	}
	cmp_ok($damaged, '>', 0, "no $damage: pages were damaged");
	read_all('regular');
	still_up("no $damage");
	$node->safe_psql('postgres', 'REINDEX INDEX regular_k; CHECKPOINT');
}

foreach my $table (sort keys %keys)
{
	my $path = index_path($node, "${table}_k");

	read_all($table);
	$node->safe_psql('postgres', 'CHECKPOINT');
	copy($path, "$path.saved") or die "$path.saved: $!";
	foreach my $round (1 .. 6)
	{
		my $blocks = (-s $path) / 8192;

		foreach my $number (1 .. 12)
		{
			# headers of columns stand behind the page's first line
			my $block  = 1 + int(rand($blocks - 1));
			my $offset = rand() < 0.6 ? 48 + int(rand(160)) : 48 + int(rand(8140));
			my $length = 1 + int(rand(4));

			write_bytes($path, $block, $offset,
				join('', map { chr(rand() < 0.4 ? 0 : rand() < 0.4 ? 255 : int(rand(256))) } 1 .. $length));
		}
		read_all($table);
	}
	still_up("$table damaged");

	my ($status, $output, $errors) = $node->psql('postgres', "SELECT alex_check('${table}_k')");
	like($errors, qr/is damaged|not the log page|manifest/, "$table: alex_check sees damage");
	$node->safe_psql('postgres', "REINDEX INDEX ${table}_k");
	check_index($node, "${table}_k", "$table: REINDEX heals");
}

# A file cut off in its middle, and made whole again.
my $path = index_path($node, 'random_k');
$node->safe_psql('postgres', 'CHECKPOINT');
my $right = $node->safe_psql('postgres', 'SELECT count(*), sum(k) FROM random WHERE k > 0');
copy($path, "$path.saved") or die "$path.saved: $!";
truncate($path, 8192 * int((-s $path) / 8192 / 2)) or die "$path: $!";
foreach my $sql (
	'SELECT count(*), sum(k) FROM random WHERE k > 0',
	'INSERT INTO random SELECT generate_series(1, 3000)',
	'VACUUM random', q{SELECT alex_compact('random_k')}, q{SELECT alex_check('random_k')})
{
	my ($status, $output, $errors) = $node->psql('postgres', $sql);

	unlike($errors, qr/server closed|terminat|timeout|PANIC|TRAP/, "cut off: $sql: an error at most");
}
still_up('cut off');
$node->safe_psql('postgres', 'REINDEX INDEX random_k');
check_index($node, 'random_k', 'cut off: REINDEX heals');

# A file that is gone, but that a session has open: only its mapping tells.
$path = index_path($node, 'random_k');
my $session = open_session($node, 'open file');
$session->query_safe(q{SET alexam.use_mmap = off; SELECT alex_check('random_k'); SET alexam.use_mmap = on;});
rename($path, "$path.away") or die "$path: $!";
$session->query(q{SELECT alex_check('random_k')});
like($session->{stderr}, qr/is damaged.*the page is not in the mapped file/s, 'gone file: alex_check sees it');
rename("$path.away", $path) or die "$path: $!";
$session->{stderr} = '';
$session->query(q{SELECT alex_check('random_k')});
is($session->{stderr}, '', 'gone file: alex_check sees that it is there again');
$session->quit;

#
# No memory.  The server starts with so little address space that segments of
# 1 GB cannot be mapped, and that large batches cannot be had.
#
$node->stop;
system_or_bail('bash', '-c', 'ulimit -S -v 700000; exec pg_ctl --wait --silent start --pgdata="'
	  . $node->data_dir . '" --log="' . $node->logfile . '"');
$node->_update_pid(1);
$started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
$right = $node->safe_psql('postgres',
	'SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT count(*), sum(k) FROM random WHERE k > 0');
is($node->safe_psql('postgres', 'SELECT count(*), sum(k) FROM random WHERE k > 0'),
	$right, 'no address space: pages that cannot be mapped are read through shared buffers');
check_index($node, $_, "no address space, $_") foreach ('random_k', 'regular_k');
my ($status, $output, $errors) = $node->psql('postgres', <<'END', on_error_stop => 0);
SET statement_timeout = 0;
SET alexam.batch_size = 100000000;
SET alexam.batch_memory = '4GB';
SET alexam.direct_seal_threshold = 100000000;
CREATE TABLE large (k bigint);
CREATE INDEX large_k ON large USING alex (k);
INSERT INTO large SELECT i FROM generate_series(1, 500) i;
BEGIN;
SAVEPOINT a;
SELECT repeat('x', 500000000)::text || repeat('y', 500000000)::text IS NULL;
ROLLBACK TO a;
INSERT INTO large SELECT i FROM generate_series(1, 500) i;
COMMIT;
SELECT count(*) FROM large WHERE k > 0;
END
like($errors, qr/ERROR:  (out of memory|invalid memory alloc)/, 'no memory: an error');
like($output, qr/^1000$/m, 'no memory: the session goes on');
($status, $output, $errors) = $node->psql('postgres', <<'END', on_error_stop => 0);
SET maintenance_work_mem = '2GB';
SET alexam.batch_size = 100000000;
SET alexam.batch_memory = '4GB';
SET alexam.direct_seal_threshold = 100000000;
CREATE INDEX large_2 ON large USING alex (k);
SELECT alex_compact('large_k');
END
unlike($errors, qr/server closed|terminat|PANIC|TRAP/, 'no memory: builds and compactions fail at most');
still_up('no memory');
$node->stop;
$node->start;
check_index($node, 'large_k', 'memory again');
is($node->safe_psql('postgres', 'SELECT count(*) FROM large WHERE k > 0'), 1000, 'memory again: all rows');

$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
