# full_manifest.pl
#	  A snapshot keeps retired runs listed until the manifest has no room for
#	  more: nothing fails, and pages are not lost; and when the snapshot is gone,
#	  so are the runs.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('full_manifest', <<'END');
alexam.memtable_entries = 100
alexam.direct_seal_threshold = 50
fsync = off
END
$node->start;
$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
CREATE TABLE t (k bigint, b bigint);
CREATE INDEX t_k ON t USING alex (k);
CREATE INDEX t_b ON t (b);
CREATE SEQUENCE round;
-- keys above all others, keys among them, and NULLs: three runs
CREATE PROCEDURE fill(number int) LANGUAGE sql BEGIN ATOMIC
	INSERT INTO t SELECT key, key FROM (SELECT nextval('round') AS round) AS r,
		LATERAL (SELECT CASE WHEN i % 5 = 0 THEN NULL WHEN i % 3 = 0 THEN i * 7 ELSE round * 1000 + i END AS key
			FROM generate_series(1, number) i OFFSET 0) AS keys;
END;
CALL fill(100);
END

sub listed
{
	return $node->safe_psql('postgres', q{SELECT runs + retired_runs FROM alex_stats('t_k')});
}

my $reader = open_session($node, 'reader');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SET enable_seqscan = off;');
is($reader->query_safe('SELECT count(*) FROM t WHERE k > 0'), '80', 'a snapshot');

# Inserters make runs, and merge them, until there are many; then VACUUM's seals
# go on.
$node->safe_psql('postgres', 'CALL fill(120);' x 600);
cmp_ok(listed(), '>=', 1024, 'many runs');
cmp_ok(listed(), '<', 1100, 'but not more than inserters make');

my $rounds = 0;
$node->safe_psql('postgres', "CALL fill(45);\nCALL fill(45);\nCALL fill(45);\nVACUUM t;\n" x 20)
  while (listed() < 1947 && $rounds++ < 40);
cmp_ok(listed(), '>=', 1947, 'the manifest is nearly full');

# nothing fails
foreach my $round (1 .. 5)
{
	is($node->psql('postgres', "CALL fill(45); CALL fill(120);"), 0, "insert $round");
	is($node->psql('postgres', 'VACUUM t'), 0, "VACUUM $round");
}
is((page_counts($node, 't_k'))[2], 0, 'no page is lost');

# a compaction by hand writes nothing that has no place there
my ($failed, $output);
foreach my $round (1 .. 9)
{
	$failed = $node->psql('postgres', q{SELECT alex_compact('t_k')}, stderr => \$output);
	last if $failed;
}
isnt($failed, 0, 'the manifest is full');
like($output, qr/has too many runs.*End long-running transactions/s, 'and alex_compact says so');
is((page_counts($node, 't_k'))[2], 0, 'no page is lost in vain');
is($node->psql('postgres', "CALL fill(120); VACUUM t"), 0, 'insert and VACUUM all the same');
compare_scans($node, 't', 'with a full manifest');
check_index($node, 't_k', 'with a full manifest');
is($reader->query_safe('SELECT count(*) FROM t WHERE k > 0'), '80', 'what the snapshot sees');

# the next VACUUM finds room, though it has something to seal
$reader->query_safe('COMMIT');
$node->safe_psql('postgres', 'SELECT txid_current(); VACUUM t; SELECT txid_current(); VACUUM t');
cmp_ok(listed(), '<', 100, 'the runs are gone');
compare_scans($node, 't', 'after that');
check_index($node, 't_k', 'after that');
$reader->quit;

done_testing();
