# neighbours.pl
#	  A damaged page next to a good one, whose stamp is the next number.
#
# That a page was verified is remembered by its stamp and by the way it was
# read.  Stamps of the pages of a Bloom filter follow each other.  A page that
# somebody has found whole in the file must not vouch for the damaged one beside
# it when that is read through shared buffers, as pages are which do not look
# right in the file.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexDamage;
use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('neighbours', <<'END');
alexam.direct_seal_threshold = 1000
alexam.background_compaction = off
enable_seqscan = off
enable_bitmapscan = off
END

# core's own checksums would find everything first
command_ok([ 'pg_checksums', '--disable', '-D', $node->data_dir ], 'data checksums are disabled');
$node->start;
$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
-- for how many keys a probe finds damage
CREATE FUNCTION damaged(source regclass, target regclass) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	damaged int := 0;
	key bigint;
BEGIN
	FOR key IN EXECUTE format('SELECT k FROM %s', source) LOOP
		BEGIN
			EXECUTE format('SELECT 1 FROM %s WHERE k = %s', target, key);
		EXCEPTION WHEN index_corrupted THEN
			damaged := damaged + 1;
		END;
	END LOOP;
	RETURN damaged;
END $$;
END

# The numbers of the indexes' files are an even and an odd one.
my @tables;
foreach my $parity (0, 1)
{
	for (my $try = 0; ; $try++)
	{
		my $table = "t_${parity}_$try";

		die 'no relation file has a number of that parity' if $try > 20;
		$node->safe_psql('postgres', <<"END");
CREATE TABLE $table (k bigint);
INSERT INTO $table SELECT hashint8extended(i, 0) FROM generate_series(1, 20000) i;
CREATE INDEX ${table}_k ON $table USING alex (k);
INSERT INTO $table SELECT hashint8extended(i, 0) FROM generate_series(20001, 35000) i;
CREATE TABLE ${table}_keys AS SELECT hashint8extended(i, 0) AS k FROM generate_series(20001, 35000, 100) i;
END
		my $number = $node->safe_psql('postgres', "SELECT relfilenode::bigint % 2 FROM pg_class WHERE relname = '${table}_k'");
		next if $number != $parity;
		push @tables, $table;
		last;
	}
}

foreach my $table (@tables)
{
	my $path = index_path($node, "${table}_k");
	my @blocks;

	$node->safe_psql('postgres', 'CHECKPOINT');
	@blocks = pages_of_kind($path, 'bloom');
	cmp_ok(scalar(@blocks), '>=', 3, "$table: the filter has several pages");
	foreach my $block (@blocks)
	{
		$node->stop;
		flip_bit($path, $block, 100, 2);
		$node->start;

		# the first pass verifies all other pages, too
		my $first  = $node->safe_psql('postgres', "SELECT damaged('${table}_keys', '$table')");
		my $second = $node->safe_psql('postgres', "SELECT damaged('${table}_keys', '$table')");

		cmp_ok($first, '>', 0, "$table: damage at block $block is found");
		is($second, $first, "$table: and found again");
		$node->stop;
		flip_bit($path, $block, 100, 2);
		$node->start;
	}
	is($node->safe_psql('postgres', "SELECT damaged('${table}_keys', '$table')"), 0, "$table: whole again");
}
$node->stop;

done_testing();
