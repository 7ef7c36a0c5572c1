# packed_log.pl
#	  Batches in the log, which WAL has in packed form: what they cost, and
#	  recovery from them, damaged records included.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

# Without images of pages, recovery depends on the records alone.
my $node = alex_node('packed_log', <<'END');
full_page_writes = off
alexam.memtable_entries = 1000000
END
$node->start;
create_test_table($node);

sub on_node
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Kills the server, and has it recover.
sub recover
{
	my ($name) = @_;

	$node->stop('immediate');
	$node->start;
	compare_scans($node, 't', $name);
	check_index($node, 't_k', $name);
	return;
}

# Batches of all sizes around the limits, of keys that ascend, that do not, that
# are equal, and of NULLs; with the memtable loaded and not.
my $batches = 0;
foreach my $size (1, 31, 32, 33, 505, 506, 507, 1300)
{
	foreach my $key ('i', 'i * 7919 % 10007', '42', 'NULL', 'CASE WHEN i % 2 = 0 THEN -i END',
		'hashint8extended(i, 0)', 'CASE i % 3 WHEN 0 THEN -9223372036854775808 WHEN 1 THEN 9223372036854775807 ELSE i END')
	{
		on_node("INSERT INTO t SELECT i, $key, $key FROM generate_series(1::bigint, $size) i");
		on_node('SET enable_seqscan = off; SELECT count(*) FROM t WHERE k = 42') if $batches++ == 20;
	}
}
recover('batches of all kinds');
on_node('DELETE FROM t WHERE id % 3 = 0; VACUUM t;');
on_node('INSERT INTO t SELECT i, i, i FROM generate_series(1, 2000) i');
recover('batches between dead entries');

# What a batch costs in WAL, an entry, beside the heap's.
sub wal_of
{
	my ($table, $key) = @_;
	my $before = on_node('SELECT pg_current_wal_insert_lsn()');

	on_node("INSERT INTO $table SELECT $key FROM generate_series(1, 20000) i");
	return on_node("SELECT pg_current_wal_insert_lsn() - '$before'");
}

on_node(<<'END');
CREATE TABLE plain (k bigint);
CREATE TABLE random (k bigint);
CREATE INDEX random_k ON random USING alex (k);
CREATE TABLE sequential (k bigint);
CREATE INDEX sequential_k ON sequential USING alex (k);
CREATE TABLE nulls (k bigint);
CREATE INDEX nulls_k ON nulls USING alex (k);
END
my $plain = wal_of('plain', 'i');
my %limits = (
	random => [ 'hashint8extended(i, 0)', 11 ],
	sequential => [ 'i', 1 ],
	nulls => [ 'NULL', 1 ]);
foreach my $table (sort keys %limits)
{
	my ($key, $limit) = @{ $limits{$table} };

	cmp_ok((wal_of($table, $key) - $plain) / 20000, '<', $limit, "bytes of WAL an entry: $table");
}

#
# A damaged record whose checksum is right all the same
#

my @crc_table = map { my $crc = $_; $crc = $crc & 1 ? $crc >> 1 ^ 0x82F63B78 : $crc >> 1 foreach 1 .. 8; $crc } 0 .. 255;

# CRC-32C, as WAL records have it
sub crc
{
	my ($bytes) = @_;
	my $crc = 0xFFFFFFFF;

	$crc = $crc >> 8 ^ $crc_table[ ($crc ^ $_) & 0xFF ] foreach unpack('C*', $bytes);
	return $crc ^ 0xFFFFFFFF;
}

# Packed records, each as (segment file, offset in it, length), that do not go
# over the end of a WAL page.
sub packed_records
{
	my ($start, $end) = @_;
	my $directory = $node->data_dir . '/pg_wal';
	my ($output) = run_command(
		[ 'pg_waldump', '--rmgr=custom187', "--path=$directory", "--start=$start", "--end=$end" ]);
	my @records;

	foreach my $line (split(/\n/, $output))
	{
		next unless $line =~ m{len \(rec/tot\):\s*\d+/\s*(\d+),.* lsn: 0/([0-9A-F]+),.* \(?70\)?};
		my ($length, $place) = ($1, hex($2));

		push(@records, [ sprintf('%s/%08X%08X%08X', $directory, 1, 0, $place >> 24), $place & 0xFFFFFF, $length ])
		  if $place % 8192 + $length <= 8192;
	}
	return @records;
}

sub patch_file
{
	my ($file, $offset, $bytes) = @_;

	open(my $handle, '+<:raw', $file) or die "$file: $!";
	seek($handle, $offset, 0);
	print $handle $bytes;
	close($handle) or die "$file: $!";
	return;
}

on_node('INSERT INTO t SELECT i, i, i FROM generate_series(1, 50) i');
on_node('CHECKPOINT');
my $start = on_node('SELECT pg_current_wal_insert_lsn()');
on_node("INSERT INTO t SELECT i, i * 7919 % 10007, i * 7919 % 10007 FROM generate_series($_, $_ + 99) i")
  foreach (1 .. 20);
my $end = on_node('SELECT pg_current_wal_insert_lsn()');
my $rows = on_node('SELECT count(*), sum(k) FROM t');

$node->stop('immediate');
my @records = packed_records($start, $end);
cmp_ok(scalar(@records), '>', 5, 'there are packed records');
my ($file, $offset, $length) = @{ $records[3] };
open(my $handle, '<:raw', $file) or die "$file: $!";
seek($handle, $offset, 0);
read($handle, my $record, $length);
close($handle);
is(unpack('L', substr($record, 20, 4)), crc(substr($record, 24) . substr($record, 0, 20)), 'the checksum is understood');

# The packed entries are a leaf's bytes from 48 on, and come before the main
# data of six bytes: first, count, part.
my $count = unpack('S', substr($record, $length - 4, 2));
my $packed = index($record, pack('SCC', $count, 1, 0)) - 12;

cmp_ok($packed, '>', 24, 'the packed entries are found');
foreach my $case (
	[ 'number of entries', $packed + 12, pack('S', $count + 1) ],
	[ 'number of entries in the record', $length - 4, pack('S', $count - 1) ],
	[ 'layout', $packed + 14, "\x09" ],
	[ 'flags', $packed + 15, "\x01" ],
	[ 'header of the keys', $packed + 16, "\xFF" x 4 ],
	[ 'headers', $packed + 16, "\xFF" x 30 ],
	[ 'keys', $packed + 80, "\xFF" x 30 ])
{
	my ($name, $at, $bytes) = @$case;
	my $damaged = $record;
	my $log_size = -s $node->logfile;

	substr($damaged, $at, length($bytes)) = $bytes;
	substr($damaged, 20, 4) = pack('L', crc(substr($damaged, 24) . substr($damaged, 0, 20)));
	patch_file($file, $offset, $damaged);
	is($node->start(fail_ok => 1), 0, "damaged $name: the server does not start");
	like(slurp_file($node->logfile, $log_size), qr/PANIC:  packed entries of an alex log page are damaged: /,
		"damaged $name: recovery says why");
}
patch_file($file, $offset, $record);
$node->start;
is(on_node('SELECT count(*), sum(k) FROM t'), $rows, 'repaired: all is recovered');
compare_scans($node, 't', 'repaired');
check_index($node, 't_k', 'repaired');

$node->stop;
done_testing();
