# direct_seal.pl
#	  Large batches that become runs without the log: errors and crashes
#	  between any two steps, and several sessions beside VACUUM.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('direct_seal', <<'END');
alexam.direct_seal_threshold = 300
wal_consistency_checking = 'alexam'
END
$node->start;
create_test_table($node);

my $rows = 0;

sub insert
{
	my ($count) = @_;

	$node->safe_psql('postgres', fill_query($count));
	$rows += $count;
	return;
}

sub stats
{
	my ($columns) = @_;

	return $node->safe_psql('postgres', "SELECT $columns FROM alex_stats('t_k')");
}

# Nothing is lost, nothing is there twice (alex_check finds TIDs with two entries).
sub check_all
{
	my ($name) = @_;

	compare_scans($node, 't', $name);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $rows, "$name: what was committed is there");
	check_index($node, 't_k', $name);
	return;
}

sub go_on
{
	my ($name) = @_;

	$node->safe_psql('postgres', 'VACUUM t');
	insert(330);
	is((page_counts($node, 't_k'))[2], 0, "$name: VACUUM finds all orphans");
	check_all("$name, and work goes on");
	return;
}

insert(900);
is(stats('runs > 0, log_entries'), 't|0', 'a large batch becomes runs');
insert(250);
is(stats('log_entries'), 250, 'a smaller one goes to the log');
check_all('both');

# H11: an error and a crash at each step.
foreach my $failpoint ('run-before-model', 'run-before-flush', 'direct-seal-before-install', 'direct-seal-after-install')
{
	my $name = "H11: $failpoint";
	my ($status, $output, $errors) =
	  $node->psql('postgres', "SET alexam.failpoint = '$failpoint';\n" . fill_query(800));

	like($errors, qr/failpoint "$failpoint" reached/, "$name: an error is raised");
	check_all($name);
	go_on($name);

	my $log_size = -s $node->logfile;

	$node->psql('postgres', "SET alexam.failpoint = '$failpoint!';\n" . fill_query(800));
	wait_for_crash($node);
	$node->start;
	like(slurp_file($node->logfile, $log_size), qr/PANIC:  failpoint "$failpoint" reached/, "$name!: the server crashes");
	check_all("$name!");
	go_on("$name!");
}

# H18: the flush fails within a subtransaction that did not insert the entries.
# They must all be there when the transaction commits, and only once; whether
# they had become a run before the error, or were in the log in part.
# Entries that come in order are not copied for the flush.
my $in_order = 'INSERT INTO t SELECT 1000000 + i, 1000000 + i, 1000000 + i FROM generate_series(1, 1200) i';
foreach my $case (
	[ 'direct-seal-before-install', 300 ], [ 'direct-seal-after-install', 300 ],
	[ 'flush-before-entries', 1000000 ], [ 'append-after-page', 1000000 ], [ 'flush-after-entries', 1000000 ],
	[ 'direct-seal-before-install', 300, 'in order' ],
	[ 'flush-before-entries', 1000000, 'in order' ], [ 'append-after-page', 1000000, 'in order' ],
	[ 'flush-after-entries', 1000000, 'in order' ])
{
	my ($failpoint, $threshold, $order) = @$case;
	my $name = join(', ', "H18: $failpoint", $order // ());
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("SET alexam.direct_seal_threshold = $threshold");
	$session->query_safe('SET enable_seqscan = off');
	$session->query_safe('BEGIN');
	$session->query_safe($order ? $in_order : fill_query(1200));
	$session->query_safe('SAVEPOINT s');
	$session->query_safe("SET LOCAL alexam.failpoint = '$failpoint'");
	$session->query('SELECT count(*) FROM t WHERE k = 1');
	like($session->{stderr}, qr/failpoint "$failpoint" reached/, "$name: the flush fails");
	$session->{stderr} = '';
	$session->query_safe('ROLLBACK TO s');
	is($session->query_safe(q{SELECT count(*) FROM pg_locks WHERE locktype = 'page'}), 0, "$name: no page stays locked");
	$session->query_safe('COMMIT');
	$session->quit;
	$rows += 1200;
	check_all($name);
	go_on($name);
}

# A session waits in the midst of its direct seal, its run written but not
# listed.  Meanwhile another one seals directly, and VACUUM marks dead entries
# without waiting for it; but it must not take the pages for orphans.
$node->safe_psql('postgres', 'DELETE FROM t WHERE id % 7 = 0');
$rows = $node->safe_psql('postgres', 'SELECT count(*) FROM t');
set_server($node, 'alexam.failpoint', q{'direct-seal-before-install?'});
my $writer = $node->background_psql('postgres');
$writer->query_until(qr/begun/, "\\echo begun\n" . fill_query(1500) . ";\n");
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Extension' AND backend_type = 'client backend'})
  or die 'the failpoint is not reached';

my $runs = stats('runs');
my $log_entries = stats('log_entries');
$node->safe_psql('postgres', "SET alexam.failpoint = '';\n" . fill_query(700));
$rows += 700;
is(stats("runs - $runs > 0, log_entries - $log_entries"), 't|0', 'two sessions seal directly at once');

my $vacuum = $node->background_psql('postgres');
$vacuum->query_until(qr/begun/, "\\echo begun\nVACUUM t;\n");
my $waiting = q{SELECT count(*) FROM pg_locks WHERE locktype = 'page' AND page = 2 AND NOT granted};
$node->poll_query_until('postgres',
	"SELECT ($waiting) = 1 OR EXISTS (SELECT FROM pg_stat_activity WHERE query = 'VACUUM t;' AND state = 'idle')")
  or die 'VACUUM neither waits nor ends';
is($node->safe_psql('postgres', $waiting), 1, 'the sweep waits for the session that seals directly');
is($node->safe_psql('postgres', 'SELECT phase, index_vacuum_count FROM pg_stat_progress_vacuum'),
	'cleaning up indexes|1', 'VACUUM has set dead bits without waiting');
$node->safe_psql('postgres', "SET alexam.failpoint = '';\n" . fill_query(600));
$rows += 600;
is(stats("log_entries - $log_entries"), 600, 'a batch that cannot be sealed now goes to the log');

set_server($node, 'alexam.failpoint', q{''});
$writer->quit;
$vacuum->quit;
$rows += 1500;
check_all('the sweep has left the run in the making alone');
go_on('after the sweep');

# Under load: several sessions seal directly, errors and rolled back
# transactions leave orphans and dead entries, VACUUM runs all the time.
$node->safe_psql('postgres', 'CREATE SEQUENCE ids START 10000000 INCREMENT 5000');
my $script = $node->basedir . '/writer.sql';
append_to_file($script, <<'END');
\set fate random(1, 6)
SELECT nextval('ids') AS first \gset
BEGIN;
SELECT fill(:first, :first + 400);
\if :fate = 1
ROLLBACK;
\else
DELETE FROM t WHERE k = :fate;
COMMIT;
\endif
END
my $vacuums = $node->basedir . '/vacuum.sql';
append_to_file($vacuums, "VACUUM t;\n");
my @jobs = map { my ($file, $clients) = @$_; my ($out, $err) = ('', '');
	IPC::Run::start([ 'pgbench', '-n', '-T', 5, '-c', $clients, '-f', $file, $node->connstr('postgres') ], '>', \$out, '2>', \$err) }
  ([ $script, 4 ], [ $vacuums, 1 ]);
my @results = map { $_->finish } @jobs;
is(scalar(grep { $_ } @results), 2, 'sessions that seal directly, and VACUUM, beside each other');
$rows = $node->safe_psql('postgres', 'SELECT count(*) FROM t');
check_all('after that');
go_on('after that');

$node->stop;
done_testing();
