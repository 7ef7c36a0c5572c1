# segments.pl
#	  Files of an index that are missing, empty or too short.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexDamage;
use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $settings = <<'END';
alexam.memtable_entries = 1000
alexam.batch_size = 1
max_wal_size = 4GB
statement_timeout = '120s'
END
my $node = alex_node('segments', $settings);
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

my %statements = (
	scan    => 'SELECT count(*), sum(k::int8) FROM TABLE WHERE k > -1000000',
	probes  => 'SELECT count(x.k) FROM (SELECT DISTINCT b FROM TABLE) s, LATERAL (SELECT k FROM TABLE WHERE k = s.b OFFSET 0) x',
	insert  => 'INSERT INTO TABLE SELECT i, i FROM generate_series(900000, 903000) i',
	check   => "SELECT alex_check('TABLE_k', true)",
	compact => "SELECT alex_compact('TABLE_k')",
	vacuum  => 'VACUUM (INDEX_CLEANUP on, TRUNCATE off) TABLE');

sub make_table
{
	my ($table) = @_;

	$node->safe_psql('postgres', <<"END");
CREATE TABLE $table (k int, b int);
INSERT INTO $table SELECT i * 7919 % 100003, i * 7919 % 100003 FROM generate_series(1, 6000) i;
CREATE INDEX ${table}_k ON $table USING alex (k);
CREATE INDEX ${table}_b ON $table (b);
INSERT INTO $table SELECT i * 7919 % 100003, i * 7919 % 100003 FROM generate_series(6001, 10050) i;
DELETE FROM $table WHERE b % 97 = 1;
ANALYZE $table;
CHECKPOINT;
END
	return;
}

# Every statement fails with such an error, where the file is mapped and where
# it is not, but for those that may be right without what is missing.
sub all_fail
{
	my ($table, $pattern, $title, $harmless) = @_;

	foreach my $mmap ('on', 'off')
	{
		foreach my $name (sort keys %statements)
		{
			my $sql = $statements{$name} =~ s/TABLE/$table/gr;
			my ($status, $output, $errors) = $node->psql('postgres',
				"SET enable_seqscan = off; SET enable_bitmapscan = off; SET alexam.use_mmap = $mmap; $sql");

			next if $errors eq '' && $harmless && $name =~ $harmless;
			like($errors, qr/ERROR:  .*$pattern/s, "$title, use_mmap $mmap: $name");
		}
	}
	return;
}

sub all_is_well
{
	my ($table, $title) = @_;

	compare_scans($node, $table, $title);
	check_index($node, "${table}_k", $title);
	foreach my $name ('insert', 'vacuum', 'compact')
	{
		$node->safe_psql('postgres', $statements{$name} =~ s/TABLE/$table/gr);
	}
	compare_scans($node, $table, "$title, and goes on");
	check_index($node, "${table}_k", "$title, and goes on");
	return;
}

# The only file: moved away, emptied, or cut off in the midst of it, while the
# server is stopped or running.  What is in shared buffers while it runs is
# right.
my %only_file = (
	moved_stopped   => qr/could not open file ".*": No such file or directory/,
	moved_running   => qr/could not open file ".*": No such file or directory/,
	emptied_stopped => qr/could not read block 0 in file ".*": read only 0 of 8192 bytes/,
	emptied_running => qr/manifest of index "emptied_running_k" is damaged.*impossible in a file of 0 blocks/s,
	cut_stopped     => qr/manifest of index "cut_stopped_k" is damaged.*impossible in a file of 3 blocks/s,
	cut_running     => qr/manifest of index "cut_running_k" is damaged.*impossible in a file of 3 blocks/s);

foreach my $table (sort keys %only_file)
{
	my ($how, $state) = split(/_/, $table);
	my $title = "$how, $state server";

	make_table($table);
	my $path = index_path($node, "${table}_k");
	$node->stop if $state eq 'stopped';
	rename($path, "$path.saved") or die "$path: $!";
	system_or_bail("head -c " . ($how eq 'cut' ? 3 * 8192 + 100 : 0) . " '$path.saved' > '$path'")
	  if $how ne 'moved';
	$node->start if $state eq 'stopped';
	all_fail($table, $only_file{$table}, $title);
	rename("$path.saved", $path) or die "$path: $!";
	$node->restart;
	compare_scans($node, $table, "$title, the file is back");
	check_index($node, "${table}_k", "$title, the file is back");

	# without the file
	unlink($path) or die "$path: $!";
	$node->safe_psql('postgres', "REINDEX INDEX ${table}_k");
	all_is_well($table, "$title, after REINDEX");
}

# The second gigabyte.  A file with a hole grows at its end, as long as
# nothing says that there are free pages in the hole.
my $segment = 131072;
make_table('large');
my $path = index_path($node, 'large_k');
$node->stop;
unlink("${path}_fsm");
truncate($path, $segment * 8192) or die "$path: $!";
$node->start;
$node->safe_psql('postgres', 'INSERT INTO large SELECT i, i FROM generate_series(200000, 230000) i');
cmp_ok(-s "$path.1", '>', 8192, 'there is a second segment');
compare_scans($node, 'large', 'two segments');

foreach my $how ('moved', 'emptied', 'cut')
{
	foreach my $state ($how eq 'moved' ? ('stopped', 'running') : 'running')
	{
		my $title = "second segment $how, $state server";
		my $blocks = $segment + ($how eq 'cut' ? 1 : 0);

		$node->stop if $state eq 'stopped';
		rename("$path.1", "$path.saved") or die "$path.1: $!";
		system_or_bail("head -c " . ($how eq 'cut' ? 8192 : 0) . " '$path.saved' > '$path.1'")
		  if $how ne 'moved';
		$node->start if $state eq 'stopped';
		all_fail('large', qr/manifest of index "large_k" is damaged.*impossible in a file of $blocks blocks/s, $title);
		rename("$path.saved", "$path.1") or die "$path.1: $!";
		$node->restart;
		compare_scans($node, 'large', "$title, it is back");
	}
}
all_is_well('large', 'second segment');

$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
