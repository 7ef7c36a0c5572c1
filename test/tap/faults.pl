# faults.pl
#	  A library that is not loaded, damaged pages, files that were cut off.
#
# Whatever the index's file holds, the server must go on, and an answer must
# be right or an error that says what is wrong.
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

my $settings = <<'END';
alexam.memtable_entries = 100
alexam.batch_size = 1
autovacuum = off
statement_timeout = '10s'
enable_seqscan = off
enable_bitmapscan = off
END

# What a damaged page is to look like.  Each kind of damage gets a table of
# its own: the kind of page, what is done to its bytes (nothing: all become
# zero; else an offset and a bit), and what a query says about it.
my $sealed = qr/is damaged at block BLOCK\b/;
my $log    = qr/block BLOCK of index "\w+" is not the log page that was expected|is damaged at block BLOCK\b/;
my $meta   = qr/has no valid metapage.*Block 0 is not/s;
my %damages = (
	leaf_zero         => [ 'leaf', [],                $sealed ],
	leaf_body         => [ 'leaf', [ 1000, 3 ],       $sealed ],
	leaf_end          => [ 'leaf', [ 5000, 0 ],       $sealed ],
	leaf_number       => [ 'leaf', [ 48, 0 ],         $sealed ],
	leaf_stamp        => [ 'leaf', [ 24, 7 ],         $sealed ],
	leaf_hash         => [ 'leaf', [ 39, 1 ],         $sealed ],
	leaf_kind         => [ 'leaf', [ 40, 0 ],         $sealed ],
	leaf_version      => [ 'leaf', [ 42, 1 ],         $sealed ],
	model_zero        => [ 'model', [],               $sealed ],
	model_body        => [ 'model', [ 70, 4 ],        $sealed ],
	model_end         => [ 'model', [ 8191, 7 ],      $sealed ],
	model_stamp       => [ 'model', [ 31, 6 ],        $sealed ],
	bloom_zero        => [ 'bloom', [],               $sealed ],
	bloom_body        => [ 'bloom', [ 100, 2 ],       $sealed ],
	bloom_stamp       => [ 'bloom', [ 25, 2 ],        $sealed ],
	log_zero          => [ 'log', [],                 $log ],
	log_stamp         => [ 'log', [ 28, 2 ],          $log ],
	log_kind          => [ 'log', [ 41, 2 ],          $log ],
	log_generation    => [ 'log', [ 56, 4 ],          $log ],
	log_count         => [ 'log', [ 77, 7 ],          $log ],
	manifest_zero     => [ 'manifest', [],            qr/manifest page at block BLOCK .* is damaged/ ],
	manifest_stamp    => [ 'manifest', [ 29, 1 ],     qr/manifest page at block BLOCK .* is damaged/ ],
	manifest_nruns    => [ 'manifest', [ 60, 6 ],     qr/manifest page at block BLOCK .* is damaged/ ],
	meta_zero         => [ 'meta', [],                $meta ],
	meta_magic        => [ 'meta', [ 48, 5 ],         $meta ],
	meta_kind         => [ 'meta', [ 40, 2 ],         $meta ],
	meta_stamp        => [ 'meta', [ 24, 0 ],         qr/metapage of index "\w+" is damaged/ ],
	meta_nruns        => [ 'meta', [ 101, 7 ],        qr/metapage of index "\w+" is damaged/ ],
	meta_noverflow    => [ 'meta', [ 199, 5 ],        qr/metapage of index "\w+" is damaged/ ],
	meta_version      => [ 'meta', [ 52, 1 ],
		qr/has format version 3, but the alexam library supports version 1 only.*HINT:  Please REINDEX it/s ]);

# A scan of everything, and a probe for each key, which looks at the filters.
my @queries = (
	'SELECT count(*), sum(k::int8) FROM TABLE WHERE k >= 0',
	'SELECT count(*), sum(x.k::int8) FROM (SELECT DISTINCT b FROM TABLE) s, '
	  . 'LATERAL (SELECT k FROM TABLE WHERE k = s.b OFFSET 0) x');

sub query
{
	my ($node, $table, $number, $options) = @_;
	my $sql = $queries[$number] =~ s/TABLE/$table/gr;
	my ($status, $output, $errors) = $node->psql('postgres', "$options; $sql");
	return ($output, $errors);
}

sub expected
{
	my ($node, $table) = @_;
	return $node->safe_psql('postgres',
		"SET enable_indexscan = off; SET enable_indexonlyscan = off; SELECT count(*), sum(k::int8) FROM $table");
}

# A table whose index has a large run with a model tree, a small one with a
# filter, and a log.
sub make_table
{
	my ($node, $table) = @_;

	$node->safe_psql('postgres', <<"END");
CREATE TABLE $table (k int, b int);
INSERT INTO $table SELECT i * 7919 % 100003, i * 7919 % 100003 FROM generate_series(1, 6000) i;
CREATE INDEX ${table}_k ON $table USING alex (k);
SET alexam.memtable_entries = 4000;
INSERT INTO $table SELECT i * 7919 % 100003, i * 7919 % 100003 FROM generate_series(6001, 10050) i;
ANALYZE $table;
END
	return;
}

# An old snapshot keeps so many runs listed that the manifest needs a page of
# its own.
sub make_overflow
{
	my ($node, @tables) = @_;
	my $holder = $node->background_psql('postgres');

	$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1;');
	foreach my $table (@tables)
	{
		$node->safe_psql('postgres',
			join('', map { "INSERT INTO $table SELECT i, i FROM generate_series(1, 100) i;\n" } 1 .. 80));
	}
	$holder->query_safe('COMMIT;');
	$holder->quit;
	return;
}

sub damage
{
	my ($path, $kind, $where) = @_;
	my ($block) = reverse pages_of_kind($path, $kind);

	die "$path has no $kind page" unless defined $block;
	if (@$where)
	{
		flip_bit($path, $block, @$where);
	}
	else
	{
		zero_page($path, $block);
	}
	return $block;
}

# One damaged index: queries, the verification, writes, and healing.
sub check_damaged
{
	my ($node, $table, $block, $right, $pattern, $title) = @_;
	my $regex = qr/$pattern/;
	$regex = $pattern =~ s/BLOCK/$block/gr;
	$regex = qr/$regex|invalid page in block $block of relation/s;

	foreach my $mmap ('on', 'off')
	{
		my $seen = 0;
		foreach my $number (0 .. $#queries)
		{
			my ($output, $errors) = query($node, $table, $number, "SET alexam.use_mmap = $mmap");

			if ($errors =~ $regex)
			{
				$seen++;
			}
			elsif ($errors ne '' || $output ne $right)
			{
				fail("$title, use_mmap $mmap: query $number is right or says why not");
				diag("got $output $errors instead of $right");
			}
		}
		ok($seen > 0, "$title, use_mmap $mmap: the damage is reported");
	}

	my ($status, $output, $errors) =
	  $node->psql('postgres', "SELECT alex_check('${table}_k', true)");
	like($errors, $regex, "$title: alex_check says the same");

	# these may fail or not, but they must end
	foreach my $sql (
		"INSERT INTO $table SELECT i, i FROM generate_series(1, 150) i",
		"VACUUM $table",
		"SELECT alex_compact('${table}_k')")
	{
		($status, $output, $errors) = $node->psql('postgres', "$sql");
		unlike($errors, qr/timeout|terminat|PANIC|TRAP/, "$title: $sql ends");
	}

	$node->safe_psql('postgres', "REINDEX INDEX ${table}_k");
	check_index($node, "${table}_k", "$title: REINDEX heals");
	($output) = query($node, $table, 0, 'SELECT');
	is($output =~ s/^\n//r, expected($node, $table), "$title: right after REINDEX");
	return;
}

sub check_damages
{
	my ($checksums) = @_;
	my $node = alex_node("checksums_$checksums", $settings);
	my (%block, %right);

	command_ok([ 'pg_checksums', '--disable', '-D', $node->data_dir ], 'data checksums are disabled')
	  if $checksums eq 'off';
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION alexam');
	make_table($node, $_) foreach sort keys %damages;
	make_overflow($node, grep { /^manifest/ } sort keys %damages);

	my %path = map { $_ => index_path($node, "${_}_k") } keys %damages;
	$right{$_} = expected($node, $_) foreach keys %damages;
	$node->stop;
	foreach my $name (keys %damages)
	{
		$block{$name} = damage($path{$name}, @{ $damages{$name} }[ 0, 1 ]);
	}
	$node->start;

	my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
	foreach my $name (sort keys %damages)
	{
		check_damaged($node, $name, $block{$name}, $right{$name},
			$damages{$name}[2], "checksums $checksums, $name");
	}
	$node->stop;
	unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/,
		"checksums $checksums: no backend has crashed");
	return;
}

check_damages($_) foreach ('on', 'off');

# The rest needs one server.

my $node = alex_node('faults', $settings);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

# The file is damaged, but shared buffers hold the page as it was.
make_table($node, $_) foreach ('file_zero', 'file_body');
foreach my $table ('file_zero', 'file_body')
{
	my $path  = index_path($node, "${table}_k");
	my $right = expected($node, $table);
	my @blocks;

	foreach my $number (0 .. $#queries)
	{
		my ($output, $errors) = query($node, $table, $number, 'SET alexam.use_mmap = off');
		is("$output$errors", $right, "$table: query $number is right through shared buffers");
	}
	foreach my $kind ('leaf', 'model', 'bloom')
	{
		push @blocks, damage($path, $kind, $table eq 'file_zero' ? [] : [ 100, 2 ]);
	}
	my $any = join('|', @blocks);
	foreach my $number (0 .. $#queries)
	{
		my ($output, $errors) = query($node, $table, $number, 'SET alexam.use_mmap = on');
		is("$output$errors", $right, "$table: query $number takes the page from shared buffers");
	}
	my ($status, $output, $errors) = $node->psql('postgres', "SELECT alex_check('${table}_k')");
	like($errors, qr/is damaged at block ($any)\b.*the mapped file shows another page than shared buffers/s,
		"$table: alex_check sees what the file holds");
}

# H20: the file is cut off under a session that has mapped it.  Statements
# that are planned already know the manifest, and fault; others read it.
make_table($node, 'cut');
my $path  = index_path($node, 'cut_k');
my $right = expected($node, 'cut');
copy($path, "$path.saved") or die "$path.saved: $!";
my $sql  = 'SELECT count(*), sum(k::int8) FROM cut WHERE k >= 0;';
my $scan = 'EXECUTE scan;';
my ($status, $output, $errors) = $node->psql(
	'postgres', <<"END", on_error_stop => 0);
CREATE FUNCTION attempt() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM count(*) FROM cut WHERE k >= 0;
	RETURN 'no error';
EXCEPTION WHEN io_error THEN
	RETURN SQLERRM;
END \$\$;
SET plan_cache_mode = force_generic_plan;
PREPARE scan AS $sql
$scan
SELECT attempt();
\\! truncate -s 8192 '$path'
$scan
$scan
$scan
SELECT attempt(), attempt(), attempt();
BEGIN;
SAVEPOINT a;
$scan
ROLLBACK TO a;
$scan
ROLLBACK TO a;
SELECT 'alive';
COMMIT;
$sql
\\! cat '$path.saved' > '$path'
$scan
END
my $message = qr/could not read block \d+ of index "cut_k" through its memory mapping/;
my $count = () = $errors =~ /ERROR:  $message/g;
is($count, 5, 'H20: each fault is an error');
$count = () = $errors =~ /The file ".*" is too short, or reading it failed/g;
is($count, 5, 'H20: with the name of the file');
like($output, qr/^\Q$right\E\nno error\n$message\|$message\|$message\nalive\n\Q$right\E$/,
	'H20: faults are caught, and the session goes on');
like($errors, qr/manifest of index "cut_k" is damaged.*is impossible in a file of 1 blocks/s,
	'H20: who reads the manifest sees that the file is too short');
check_index($node, 'cut_k', 'H20: the file is back');

# The file is gone.
make_table($node, 'gone');
$path  = index_path($node, 'gone_k');
$right = expected($node, 'gone');
$node->stop;
rename($path, "$path.saved") or die "$path: $!";
$node->start;
foreach my $mmap ('on', 'off')
{
	($output, $errors) = query($node, 'gone', 0, "SET alexam.use_mmap = $mmap");
	like($errors, qr/could not open file ".*": No such file/, "missing file, use_mmap $mmap");
}
$node->safe_psql('postgres', 'REINDEX INDEX gone_k');
($output) = query($node, 'gone', 0, 'SELECT');
is($output =~ s/^\n//r, $right, 'missing file: REINDEX heals');

# The library is not loaded.
make_table($node, 'plain');
$right = expected($node, 'plain');
$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->start;
foreach my $sql (
	$sql =~ s/cut/plain/r,
	'INSERT INTO plain VALUES (1, 1)',
	'VACUUM (INDEX_CLEANUP on) plain',
	'REINDEX INDEX plain_k',
	'CREATE INDEX ON plain USING alex (b)',
	"SELECT alex_check('plain_k')",
	"SELECT alex_compact('plain_k')",
	"SELECT * FROM alex_stats('plain_k')")
{
	($status, $output, $errors) = $node->psql('postgres', $sql);
	like($errors,
		qr/ERROR:  alexam must be loaded via shared_preload_libraries\nHINT:  Add alexam to shared_preload_libraries and restart the server/,
		"library not loaded: $sql");
}
$node->safe_psql('postgres', 'DROP INDEX cut_k');
$node->safe_psql('postgres', 'CREATE TABLE other (k int); INSERT INTO other VALUES (1)');

# It comes back: all is as it was.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'alexam'");
$node->restart;
($output) = query($node, 'plain', 0, 'SELECT');
is($output =~ s/^\n//r, $right, 'library loaded again');
check_index($node, 'plain_k', 'library loaded again');

# A crash cannot be recovered from without it.
$node->safe_psql('postgres', 'INSERT INTO plain SELECT i, i FROM generate_series(1, 150) i');
$right = expected($node, 'plain');
$node->stop('immediate');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
is($node->start(fail_ok => 1), 0, 'no recovery without the library');
like(slurp_file($node->logfile),
	qr/resource manager with ID 187 not registered\n.*HINT:  Include the extension module that implements this resource manager in shared_preload_libraries/,
	'no recovery without the library: the log says why');
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "'alexam'");
$node->start;
($output) = query($node, 'plain', 0, 'SELECT');
is($output =~ s/^\n//r, $right, 'recovery with the library');

# Getting rid of it.
$node->adjust_conf('postgresql.conf', 'shared_preload_libraries', "''");
$node->restart;
$node->safe_psql('postgres', 'DROP EXTENSION alexam CASCADE; INSERT INTO plain VALUES (1, 1)');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE c.relname LIKE '%\\_k'"),
	0, 'DROP EXTENSION without the library takes its indexes along');
($status, $output, $errors) = $node->psql('postgres', 'CREATE EXTENSION alexam; CREATE INDEX ON plain USING alex (k)');
like($errors, qr/alexam must be loaded via shared_preload_libraries/, 'CREATE INDEX without the library');
$node->stop;

done_testing();
