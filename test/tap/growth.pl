# growth.pl
#	  An index whose number of entries does not grow needs a file that does
#	  not grow either, whatever happens to it: every page comes back.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('growth', <<'END');
alexam.memtable_entries = 500
alexam.batch_size = 1
wal_level = logical
END
$node->start;
create_test_table($node);

my $first_id = 1;
my $next_id = 1;

# What replaces the oldest rows by as many new ones.
sub replace_query
{
	my ($count) = @_;
	my ($first, $next) = ($next_id, $next_id + $count);

	$first_id += $count;
	$next_id = $next;
	return "SELECT fill($first, $next - 1);\nDELETE FROM t WHERE id < $first_id;\n";
}

# The sizes, in pages, of the last third of these rounds must not exceed those
# of the earlier ones.
sub check_sizes
{
	my ($name, @sizes) = @_;
	my $most = int(@sizes * 2 / 3);
	my $early = (sort { $b <=> $a } @sizes[ 0 .. $most - 1 ])[0];
	my $late = (sort { $b <=> $a } @sizes[ $most .. $#sizes ])[0];

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	cmp_ok($late, '<=', $early, "$name: the file does not keep growing (@sizes)");
	return;
}

# Wide keys with Bloom filters, since those want contiguous pages.
$node->safe_psql('postgres', <<'END');
CREATE OR REPLACE FUNCTION fill(first int, last int) RETURNS void
AS $$INSERT INTO t SELECT i, key, key
	FROM generate_series(first, last) AS i,
		LATERAL (SELECT hashint8extended(i, 1) AS key) AS keys$$
LANGUAGE sql;
END
$node->safe_psql('postgres', 'SELECT fill(1, 20000); VACUUM t');
$next_id = 20001;

# Plain work.
my @sizes;
foreach my $round (1 .. 30)
{
	$node->safe_psql('postgres', replace_query(3000));
	$node->safe_psql('postgres', 'VACUUM t');
	push(@sizes, (page_counts($node, 't_k'))[0]);
}
check_sizes('insert, delete, VACUUM', @sizes);
compare_scans($node, 't', 'insert, delete, VACUUM');

# Compaction by hand, whether or not there is much to do.
@sizes = ();
foreach my $round (1 .. 20)
{
	$node->safe_psql('postgres', replace_query(1000));
	$node->safe_psql('postgres', q{VACUUM t; SELECT alex_compact('t_k')});
	push(@sizes, (page_counts($node, 't_k'))[0]);
}
check_sizes('compaction', @sizes);

# A sliding window over keys that ascend: pages that are wholly dead leave, and
# the others stay as they are.
sub slide_query
{
	my ($step) = @_;
	my ($first, $next, $keep) = map { 20000 * $_ } $step, $step + 1, $step - 15;

	return <<"END";
INSERT INTO w SELECT i, key, key
FROM generate_series($first, $next - 1) AS i,
	LATERAL (SELECT i * 1000000007::bigint + hashint8extended(i, 1) % 10000000 AS key) AS keys;
DELETE FROM w WHERE id < $keep;
END
}

$node->safe_psql('postgres', 'CREATE TABLE w (id int, k bigint, b bigint);');
$node->safe_psql('postgres', slide_query($_)) foreach 0 .. 15;
$node->safe_psql('postgres', 'CREATE INDEX w_k ON w USING alex (k); CREATE INDEX w_b ON w (b);');
my $counters = q{SELECT entries_sealed, entries_rewritten FROM alex_stats('w_k')};
my ($sealed, $rewritten) = split(/\|/, $node->safe_psql('postgres', $counters));
@sizes = ();
foreach my $step (16 .. 56)
{
	$node->safe_psql('postgres', "SET alexam.batch_size = 100000; SET alexam.direct_seal_threshold = 1000;\n" . slide_query($step));
	$node->safe_psql('postgres', 'VACUUM w');
	push(@sizes, (page_counts($node, 'w_k'))[0]);
}
compare_scans($node, 'w', 'sliding window');
check_index($node, 'w_k', 'sliding window');
my ($sealed_now, $rewritten_now) = split(/\|/, $node->safe_psql('postgres', $counters));
$node->safe_psql('postgres', 'REINDEX INDEX w_k');
my ($fresh) = page_counts($node, 'w_k');
cmp_ok((sort { $b <=> $a } @sizes)[0], '<=', 1.5 * $fresh, "sliding window: at most half more than the $fresh pages of a fresh index (@sizes)");
cmp_ok($rewritten_now - $rewritten, '<=', ($sealed_now - $sealed) / 10,
	'sliding window: next to no entries are rewritten');

# Failures at every step that leaves pages behind (hazard H11).
my $compact = q{SELECT alex_compact('t_k')};
foreach my $case (
	[ 'run-before-model', '' ],
	[ 'run-before-flush', $compact ],
	[ 'seal-before-install', '' ],
	[ 'seal-after-install', '' ],
	[ 'compact-before-install', $compact ],
	[ 'remove-before-free', $compact ])
{
	my ($failpoint, $sql) = @$case;

	@sizes = ();
	foreach my $round (1 .. 10)
	{
		my $query = replace_query(1000);

		$node->safe_psql('postgres', $compact) if $failpoint eq 'remove-before-free';
		$node->safe_psql('postgres', $query) if $sql ne '';
		my ($status, $output, $errors) = $node->psql('postgres',
			"SET alexam.failpoint = '$failpoint';\n" . ($sql eq '' ? $query : $sql));
		like($errors, qr/failpoint "$failpoint" reached/, "$failpoint, round $round") if $round == 1;
		$node->safe_psql('postgres', $query) if $sql eq '';
		$node->safe_psql('postgres', 'VACUUM t');
		push(@sizes, (page_counts($node, 't_k'))[0]);
	}
	check_sizes("H11: failures at $failpoint", @sizes);
}

# A logical slot that nobody reads, and a snapshot in another database, keep no
# run: neither can lead to a reader of this table.
{
	my $name = 'H22: a slot and another database';
	my $other = $node->background_psql('template1');

	$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('stalled', 'pgoutput')");
	$other->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
	$node->safe_psql('postgres', replace_query(2000));
	$node->safe_psql('postgres', "SELECT alex_compact('t_k')");
	$node->safe_psql('postgres', 'SELECT txid_current()');
	$node->safe_psql('postgres', 'VACUUM t');
	is( $node->safe_psql('postgres', "SELECT count(*) FROM alex_runs('t_k') WHERE state = 'retired'"),
		0, "$name: no retired runs");
	$other->query_safe('COMMIT');
	$other->quit;
	$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('stalled')");
}

# A session whose horizon another one's snapshot held back, the last time that
# it was computed.  No transaction id is given since, so that the horizon is not
# computed anew by itself.
{
	my $name = 'H22: a horizon of old';
	my $old = $node->background_psql('postgres');
	my $compacting = $node->background_psql('postgres');
	my $retired = "SELECT count(*) > 0 FROM alex_runs('t_k') WHERE state = 'retired'";

	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class');
	$node->safe_psql('postgres', replace_query(2000));
	$compacting->query_safe($compact);
	$compacting->query_safe('SELECT txid_current()');
	$compacting->query_safe($compact);
	is($node->safe_psql('postgres', $retired), 't', "$name: runs that a snapshot may need");
	$old->query_safe('COMMIT');
	$compacting->query_safe($compact);
	is($node->safe_psql('postgres', $retired), 'f', "$name: they are gone with the snapshot");
	$_->quit foreach ($old, $compacting);
}
compare_scans($node, 't', 'after all that');
check_index($node, 't_k', 'after all that');

$node->stop;
done_testing();
