# lock_table.pl
#	  A lock table that is full.
#
# Whatever a statement needs a lock for, it must fail with a clear error when
# there is no room for it, and be done again later.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('lock_table', <<'END');
max_locks_per_transaction = 10
max_connections = 15
max_pred_locks_per_transaction = 10
alexam.memtable_entries = 100
alexam.batch_size = 1
alexam.direct_seal_threshold = 2000
statement_timeout = '60s'
END
$node->start;
create_test_table($node);
$node->safe_psql('postgres', fill_query(3000));
$node->safe_psql('postgres', <<'END');
CREATE TABLE u (k bigint, b bigint);
CREATE UNIQUE INDEX u_k ON u USING alex (k);
CREATE INDEX u_b ON u (b);
CREATE TABLE p (k bigint, b bigint) PARTITION BY HASH (k);
DO $$ BEGIN
	FOR i IN 0 .. 29 LOOP
		EXECUTE format('CREATE TABLE p_%s PARTITION OF p FOR VALUES WITH (MODULUS 30, REMAINDER %s)', i, i);
		EXECUTE format('CREATE INDEX p_%s_k ON p_%s USING alex (k)', i, i);
		EXECUTE format('CREATE INDEX p_%s_b ON p_%s (b)', i, i);
	END LOOP;
END $$;
END

# Advisory locks of a session take all the room that there is, but for a
# number of locks.
my $holder = $node->background_psql('postgres', on_error_stop => 0);

sub leave_room
{
	my ($room) = @_;

	$holder->query('SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 1000000) i');
	die 'the lock table does not become full' unless $holder->{stderr} =~ /out of shared memory/;
	$holder->{stderr} = '';
	$holder->query_safe("SELECT count(pg_advisory_unlock(i)) FROM generate_series(1, $room) i") if $room > 0;
	return;
}

my @statements = (
	[ 'INSERT and seal',  sub { fill_query(300) } ],
	[ 'direct seal',      sub { fill_query(3000) } ],
	[ 'rolled back',      sub { 'BEGIN; SAVEPOINT a; ' . fill_query(300) . '; ROLLBACK TO a; ' . fill_query(150) . '; COMMIT' } ],
	[ 'unique',           sub { 'INSERT INTO u SELECT i, i FROM (SELECT coalesce(max(b), 0) AS m FROM u) s, generate_series(m + 1, m + 300) i' } ],
	[ 'partitions',       sub { 'INSERT INTO p SELECT i, i FROM generate_series(1, 5000) i' } ],
	[ 'scan',             sub { 'SET enable_seqscan = off; SELECT count(*) FROM t WHERE k > 0' } ],
	[ 'scan, serializable', sub { 'BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off; SELECT count(*) FROM t WHERE k > 0; ' . fill_query(2) . '; COMMIT' } ],
	[ 'VACUUM',           sub { 'VACUUM (INDEX_CLEANUP on) t' } ],
	[ 'alex_compact',     sub { q{SELECT alex_compact('t_k')} } ],
	[ 'alex_check',       sub { q{SELECT alex_check('t_k', true)} } ],
	[ 'REINDEX',          sub { 'REINDEX INDEX t_k' } ],
	[ 'CREATE INDEX',     sub { 'BEGIN; CREATE INDEX ON t USING alex (id); ROLLBACK' } ]);
my %failed;

foreach my $room (0 .. 3, 5)
{
	# a connection needs locks, too
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	foreach my $statement (@statements)
	{
		my ($name, $sql) = @$statement;

		leave_room($room);
		$session->query($sql->());
		my $errors = $session->{stderr};
		$session->{stderr} = '';
		$session->query('ROLLBACK; RESET ALL');
		$session->{stderr} = '';
		$failed{$name}++ if $errors =~ /ERROR/;
		like($errors, qr/^(psql:\S+ ERROR:  out of shared memory\n.*HINT:  You might need to increase max_.*)?$/s,
			"$name, room for $room locks");
	}
	$holder->query_safe('SELECT pg_advisory_unlock_all()');
	$session->quit;
	compare_scans($node, $_, "after room for $room locks, $_") foreach ('t', 'u', 'p_7');
	check_index($node, "${_}_k", "after room for $room locks, $_") foreach ('t', 'u', 'p_7');
}
ok($failed{ $_->[0] }, "$_->[0]: has failed") foreach @statements;

$holder->quit;
foreach my $statement (@statements)
{
	my ($status, $output, $errors) = $node->psql('postgres', $statement->[1]->());
	is($errors, '', "$statement->[0]: there is room");
}
$node->safe_psql('postgres', 'VACUUM t, u, p');
is((page_counts($node, "${_}_k"))[2], 0, "no page of $_ is lost") foreach ('t', 'u', 'p_7');
compare_scans($node, $_, "in the end, $_") foreach ('t', 'u', 'p_7');
check_index($node, "${_}_k", "in the end, $_") foreach ('t', 'u', 'p_7');
$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
