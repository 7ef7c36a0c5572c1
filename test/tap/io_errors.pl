# io_errors.pl
#	  Reads and writes of an index's file that fail.
#
# A library loaded into the server (io_errors.c) makes them fail.  What needs
# the block must end with an error that names it, in a server that goes on;
# and when the device works again, all must be as if nothing had been tried.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexDamage;
use AlexTest;
use Errno qw(EIO ENOSPC);
use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $directory = PostgreSQL::Test::Utils::tempdir;
my $library   = "$directory/io_errors.so";
my $rules     = "$directory/rules";
my $last      = 1_000_000;

system_or_bail('cc', '-O1', '-shared', '-fPIC', '-o', $library, dirname(__FILE__) . '/io_errors.c', '-ldl');

my $node = alex_node('io_errors', <<'END');
shared_buffers = 1MB
alexam.memtable_entries = 100
alexam.batch_size = 1
bgwriter_lru_maxpages = 0
checkpoint_timeout = 1h
max_wal_size = 4GB
statement_timeout = '60s'
enable_seqscan = off
enable_bitmapscan = off
END
$ENV{IO_ERRORS} = $rules;

sub start
{
	local $ENV{LD_PRELOAD} = $library;
	$node->start;
	return;
}

start();
$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
CREATE TABLE ballast (k int);
INSERT INTO ballast SELECT i FROM generate_series(1, 100000) i;
CREATE INDEX ballast_k ON ballast (hashint4(k));
VACUUM ANALYZE ballast;
END

# No page of an index of ours is in shared buffers any more, which are small.
sub evict
{
	$node->safe_psql('postgres',
		'CHECKPOINT; SET enable_indexonlyscan = off; SELECT count(k) FROM (SELECT k FROM ballast ORDER BY hashint4(k) LIMIT 3000) s');
	return;
}

# What a statement says while calls fail.  A rule is [ call, errno, file, first
# block, last block ].
sub under_errors
{
	my ($sql, @fail) = @_;

	append_to_file("$rules.new", join('', map { join(' ', @$_) . "\n" } @fail));
	rename("$rules.new", $rules) or die "$rules: $!";
	my ($status, $output, $messages) = $node->psql('postgres', $sql);
	unlink($rules) or die "$rules: $!";
	return $messages;
}

sub file_name
{
	my ($index) = @_;

	return $node->safe_psql('postgres', "SELECT pg_relation_filepath('$index')");
}

# A table whose index has a large run with a model tree, a small one with a
# filter, a manifest with an overflow page, and a log.
sub make_table
{
	my ($table) = @_;
	my $holder = $node->background_psql('postgres');

	$node->safe_psql('postgres', <<"END");
DROP TABLE IF EXISTS $table;
CREATE TABLE $table (k int, b int);
INSERT INTO $table SELECT i * 7919 % 100003, i * 7919 % 100003 FROM generate_series(1, 6000) i;
CREATE INDEX ${table}_k ON $table USING alex (k);
ANALYZE $table;
END
	$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
	$node->safe_psql('postgres',
		join('', map { "INSERT INTO $table SELECT i + $_ * 200000, i + $_ * 200000 FROM generate_series(1, 100) i;\n" } 1 .. 80));
	$holder->query_safe('COMMIT;');
	$holder->quit;
	$node->safe_psql('postgres', <<"END");
SET alexam.memtable_entries = 4000;
INSERT INTO $table SELECT i * 7919 % 100003, i * 7919 % 100003 FROM generate_series(6001, 10050) i;
SET alexam.memtable_entries = 100000;
INSERT INTO $table SELECT -i, -i FROM generate_series(1, 20) i;
DELETE FROM $table WHERE b % 97 = 1;
END
	return;
}

my %reads = (
	'range'      => 'SET enable_indexonlyscan = off; SELECT count(b), sum(k::int8) FROM TABLE WHERE k IS NOT NULL',
	'backward'   => 'SELECT count(k), sum(k::int8) FROM (SELECT k FROM TABLE WHERE k IS NOT NULL ORDER BY k DESC) s',
	'index-only' => 'SELECT count(*), sum(k::int8) FROM TABLE WHERE k IS NOT NULL',
	'bitmap'     => 'SET enable_indexscan = off; SET enable_bitmapscan = on; SELECT count(b), sum(k::int8) FROM TABLE WHERE k IS NOT NULL',
	'probes'     => 'SELECT count(*), sum(x.k::int8) FROM (SELECT DISTINCT b FROM TABLE) s, '
	  . 'LATERAL (SELECT k FROM TABLE WHERE k = s.b OFFSET 0) x');
my %writes = (
	'insert and seal' => 'INSERT INTO TABLE SELECT i, i FROM generate_series(500000, 500150) i',
	'alex_check'      => "SELECT alex_check('TABLE_k', true)",
	'alex_compact'    => "SELECT alex_compact('TABLE_k')",
	'VACUUM'          => 'VACUUM (INDEX_CLEANUP on) TABLE');

sub rows
{
	my ($table) = @_;

	return $node->safe_psql('postgres',
		"SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_seqscan = on; SELECT count(k), sum(k::int8) FROM $table");
}

# All ways to read, and the index itself.
sub same_rows
{
	my ($table, $title) = @_;
	my $right = rows($table);

	foreach my $name (sort keys %reads)
	{
		my $sql = $reads{$name} =~ s/TABLE/$table/gr;
		my ($status, $output, $messages) = $node->psql('postgres', $sql);
		is($messages . $output =~ s/^\n//r, $right, "$title: $name is right");
	}
	check_index($node, "${table}_k", $title);
	return;
}

# Statements that can do without a block of that kind.
my %unharmed = (
	leaf     => [ 'insert and seal' ],
	model    => [ 'insert and seal' ],
	bloom    => [ 'insert and seal', 'range', 'backward', 'index-only', 'bitmap', 'alex_compact' ],
	manifest => [],
	meta     => [],
	log      => []);

#
# Reads.  The log is read by who loads the memtable after a restart.
#
foreach my $kind (sort keys %unharmed)
{
	foreach my $mmap ('on', 'off')
	{
		make_table('r');
		$node->stop, start() if $kind eq 'log';
		my $file = file_name('r_k');

		foreach my $name (sort(keys %reads), sort(keys %writes))
		{
			evict();
			my $block = (reverse pages_of_kind(index_path($node, 'r_k'), $kind))[0];
			my $sql = ($reads{$name} || $writes{$name}) =~ s/TABLE/r/gr;
			my $message = under_errors("SET alexam.use_mmap = $mmap; $sql", [ 'read', EIO, $file, $block, $block ]);
			my $title = "$kind cannot be read, use_mmap $mmap: $name";

			if (grep { $_ eq $name } @{ $unharmed{$kind} })
			{
				is($message, '', $title);
				next;
			}
			my $expected = qr/could not read block $block in file ".*\Q$file\E": Input\/output error/;
			$expected = qr/$expected|could not read block $block of index "r_k" through its memory mapping/ if $mmap eq 'on';
			like($message, qr/ERROR:  ($expected)/, $title);
		}
		same_rows('r', "$kind can be read again, use_mmap $mmap");
	}
}

# REINDEX needs nothing of what it replaces.
make_table('r');
evict();
is(under_errors('REINDEX INDEX r_k', [ 'read', EIO, file_name('r_k'), 0, $last ]), '',
	'REINDEX of an index that cannot be read');
same_rows('r', 'REINDEX of an index that cannot be read');

# A unique index is read by who inserts.
$node->safe_psql('postgres', <<'END');
CREATE TABLE u (k int, b int);
INSERT INTO u SELECT i * 2, i * 2 FROM generate_series(1, 5000) i;
CREATE UNIQUE INDEX u_k ON u USING alex (k);
END
foreach my $mmap ('on', 'off')
{
	evict();
	like(under_errors("SET alexam.use_mmap = $mmap; INSERT INTO u SELECT i, i FROM generate_series(1, 9, 2) i",
			[ 'read', EIO, file_name('u_k'), 1, $last ]),
		qr/ERROR:  could not read block \d+ (in file|of index)/, "a unique index cannot be read, use_mmap $mmap");
}
is($node->safe_psql('postgres', 'INSERT INTO u SELECT i, i FROM generate_series(1, 9, 2) i; SELECT count(*) FROM u'), 5005,
	'a unique index can be read again');
like(($node->psql('postgres', 'INSERT INTO u VALUES (3, 3)'))[2], qr/duplicate key/, 'a unique index can be read again: it is unique');
same_rows('u', 'a unique index can be read again');

#
# Writes: of pages that are new in the file, and of pages that are there.
#
my %message = (EIO() => 'Input/output error', ENOSPC() => 'No space left on device');
my %growth = (
	'long log'    => 'SET alexam.memtable_entries = 100000; INSERT INTO w SELECT i, i FROM generate_series(1, 3000) i',
	'seal'        => 'SET alexam.memtable_entries = 100; INSERT INTO w SELECT i, i FROM generate_series(1, 3000) i',
	'direct seal' => 'SET alexam.direct_seal_threshold = 1000; INSERT INTO w SELECT i, i FROM generate_series(1, 3000) i',
	'merge'       => "SELECT alex_compact('w_k')");

foreach my $name (sort keys %growth)
{
	foreach my $error ($name eq 'seal' || $name eq 'merge' ? EIO : ENOSPC)
	{
		make_table('w');
		# room in the heap, or more to be merged than there are free pages
		$node->safe_psql('postgres', $name eq 'merge'
			? 'INSERT INTO w SELECT i, i FROM generate_series(1, 30000) i'
			: 'INSERT INTO w SELECT NULL, NULL FROM generate_series(1, 3000); DELETE FROM w WHERE k IS NULL; VACUUM (TRUNCATE off) w');
		evict();
		my ($file, $path) = (file_name('w_k'), index_path($node, 'w_k'));
		my $blocks = (-s $path) / 8192;
		my $many = $growth{$name} =~ s/3000/60000/r;

		like(under_errors($many, [ 'write', $error, $file, $blocks, $last ]),
			qr/ERROR:  could not (extend|write block \d+ in) file ".*\Q$file\E": $message{$error}/,
			"$name: the file cannot grow: $message{$error}");
		same_rows('w', "$name, after $message{$error}");

		# dirty pages leave shared buffers, which are small
		$node->safe_psql('postgres', 'DELETE FROM w WHERE b % 89 = 1');
		my $output = under_errors("$growth{$name}; VACUUM (TRUNCATE off) w", [ 'write', $error, $file, 0, $last ]);
		like($output, qr/ERROR:  could not (extend|write block \d+ (in|of)) file ".*\Q$file\E": $message{$error}/,
			"$name: nothing can be written: $message{$error}");
		same_rows('w', "$name, after writes failed with $message{$error}");
		$node->safe_psql('postgres', "$growth{$name}; VACUUM w");
		same_rows('w', "$name, all is written again");
		is((page_counts($node, 'w_k'))[2], 0, "$name: no page is lost");
	}
}
make_table('w');
like(under_errors('CHECKPOINT', [ 'write', EIO, file_name('w_k'), 0, $last ]), qr/checkpoint request failed/, 'a checkpoint fails');
$node->safe_psql('postgres', 'CHECKPOINT');
same_rows('w', 'a checkpoint that failed');

# Builds, in a place of their own.
$node->safe_psql('postgres', <<'END');
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE other LOCATION '';
END
$node->safe_psql('postgres', 'CREATE TABLE built AS SELECT k, k AS b FROM (SELECT hashint4(i) AS k FROM generate_series(1, 60000) i) s; VACUUM built; CHECKPOINT');
foreach my $workers (0, 2)
{
	my $build = "SET max_parallel_maintenance_workers = $workers; SET min_parallel_table_scan_size = 0; "
	  . 'CREATE INDEX built_k ON built USING alex (k) TABLESPACE other';
	foreach my $error (sort keys %message)
	{
		like(under_errors($build, [ 'write', $error, 'pg_tblspc/', 10, $last ]),
			qr/ERROR:  could not (extend|write block \d+ (in|of)) file "pg_tblspc.*": $message{$error}/,
			"build with $workers workers: $message{$error}");
	}
	like(under_errors($build, [ 'allocate', ENOSPC, '/dev/shm/', 0, $last ]),
		qr/ERROR:  could not resize shared memory segment ".*" to \d+ bytes: No space left on device/,
		'no dynamic shared memory for a parallel build') if $workers > 0;
	$node->safe_psql('postgres', 'CHECKPOINT');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname = 'built_k'"), 0,
		"failed builds with $workers workers have left no index");
	my @left = grep { -s $_ } glob($node->data_dir . '/pg_tblspc/*/*/*/*');
	is("@left", '', "failed builds with $workers workers have left no file");
	$node->safe_psql('postgres', $build);
	same_rows('built', "build with $workers workers after all");
	like(under_errors('SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_index_scan_size = 0; '
			. 'SET force_parallel_mode = on; SELECT count(k) FROM built WHERE k > 0',
			[ 'allocate', ENOSPC, '/dev/shm/', 0, $last ]),
		qr/could not resize shared memory segment/, 'no dynamic shared memory for a parallel scan');
	$node->safe_psql('postgres', 'DROP INDEX built_k');
}

$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
