#!/usr/bin/perl
#
# vacuum.pl
#	  The filter by which VACUUM tells what it removes: nothing that is removed
#	  may stay, nothing else may go, and nearly nobody may be asked.
#
# Rows are deleted in patterns that make the filter's bitmap exact, make TIDs
# share its bits, or let it end before the table does.  VACUUM says how many
# entries it asked about.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $rows = 200_000;
my $node = alex_node('vacuum', '');
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

sub sql
{
	my ($sql) = @_;

	return $node->safe_psql('postgres', $sql);
}

# Returns how many entries of each index were asked about, all passes together.
sub vacuum
{
	my ($settings) = @_;
	my %asked = (v_id => 0, v_r => 0);
	my ($status, $output, $messages) = $node->psql('postgres',
		"$settings SET client_min_messages = debug1; VACUUM (INDEX_CLEANUP ON) v");

	is($status, 0, 'VACUUM');
	$asked{$1} += $2
	  while $messages =~ /VACUUM of index "(\w+)" asked about (\d+) of \d+ entries/g;
	return \%asked;
}

# name, what is deleted, the most that may be asked about, settings
my @patterns = (
	[ 'a tenth',             'hashint8(id) % 10 = 0',                   0 ],
	[ 'nothing but one row', "id = $rows / 2",                          0 ],
	[ 'the oldest',          "id < $rows / 10",                         0 ],
	[ 'the newest',          "id > $rows - $rows / 10",                 0 ],
	[ 'the first offset',    "ctid::text LIKE '%,1)'",                  0 ],
	[ 'both ends',           "id IN (1, $rows)",                        $rows / 100 ],
	[ 'few in many',         'id % 5003 = 7',                           $rows / 10 ],
	[ 'all',                 'true',                                    0 ],
	[ 'several passes',      'id % 2 = 0',                              0,
		"SET maintenance_work_mem = '1MB';" ]);

foreach my $pattern (@patterns)
{
	my ($name, $condition, $limit, $settings) = @$pattern;

	# r and the log's entries in another order than the table's
	my $count = $settings ? 2 * $rows : $rows;
	sql(<<"END");
CREATE TABLE v (id int8, r int8);
INSERT INTO v SELECT i, hashint8extended(i, 0) FROM generate_series(1, $count - 100) i;
CREATE INDEX v_id ON v USING alex (id);
CREATE INDEX v_r ON v USING alex (r);
INSERT INTO v SELECT i, hashint8extended(i, 0) FROM generate_series($count - 99, $count) i;
DELETE FROM v WHERE $condition;
END
	my $asked = vacuum($settings // '');
	foreach my $index ('v_id', 'v_r')
	{
		cmp_ok($asked->{$index}, '<=', $limit, "$name: questions about $index");
		check_index($node, $index, "$name, $index");
	}
	# rows that take the places of the removed ones must not be found by their keys
	sql('INSERT INTO v SELECT -id, -r FROM v LIMIT 1000; INSERT INTO v VALUES (0, 0)');
	foreach my $index ('v_id', 'v_r')
	{
		my $column = substr($index, 2);
		my $query = "SELECT count(*), sum(id), sum(hashint8(r)) FROM (SELECT * FROM v WHERE $column >= -9223372036854775807 ORDER BY $column) v";
		my ($found) = entries_read($node, $index, $query);
		is($found, sql('SELECT count(*), sum(id), sum(hashint8(r)) FROM v'), "$name: rows by $index");
		check_index($node, $index, "$name, new rows, $index");
	}
	sql('DROP TABLE v');
}

#
# The callback of CREATE INDEX CONCURRENTLY is not VACUUM's, and wants to see
# every TID; VACUUM's is known to this session by then.
#
sql(<<'END');
CREATE TABLE v (id int8);
INSERT INTO v SELECT generate_series(1, 10000);
CREATE INDEX v_id ON v USING alex (id);
DELETE FROM v WHERE id % 3 = 0;
END
my ($status) = $node->psql('postgres',
	"VACUUM (INDEX_CLEANUP ON) v;\nCREATE INDEX CONCURRENTLY v_more ON v USING alex (id);\n");
is($status, 0, 'VACUUM and CREATE INDEX CONCURRENTLY in one session');
check_index($node, 'v_more', 'built concurrently');

# workers of a parallel VACUUM find the callback out for themselves
sql(<<'END');
CREATE INDEX v_third ON v USING alex ((id / 2));
DELETE FROM v WHERE id % 3 = 1;
SET min_parallel_index_scan_size = 0;
VACUUM (PARALLEL 2, INDEX_CLEANUP ON) v;
END
check_index($node, $_, "$_ after a parallel VACUUM") foreach ('v_id', 'v_more', 'v_third');

$node->stop;
done_testing();
