# terminated.pl
#	  Sessions that are terminated in the midst of what they do.
#
# With alexam.failpoint = 'name?' a session waits at that point; then it gets
# pg_terminate_backend(), or pg_cancel_backend() where cancel.pl does not.  All
# must go on as if the statement had failed.  Points at which interrupts are
# held off are not waited at: there a session ends only with the server.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = alex_node('terminated', "alexam.memtable_entries = 200\nalexam.direct_seal_threshold = 400");
$node->start;
create_test_table($node);
my $started = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
$node->safe_psql('postgres', fill_query(3000));

# Failpoint, and what leads to it.
my $insert  = 'INSERT';
my $compact = q{SELECT alex_compact('t_k')};
my @cases   = (
	[ 'flush-before-entries',       $insert ],
	[ 'flush-after-entries',        $insert ],
	[ 'append-after-page',          $insert ],
	[ 'seal-after-freeze',          $compact ],
	[ 'seal-before-install',        $compact ],
	[ 'seal-after-install',         $compact ],
	[ 'run-before-model',           $compact ],
	[ 'run-before-flush',           $compact ],
	[ 'direct-seal-before-install', 'LARGE' ],
	[ 'direct-seal-after-install',  'LARGE' ],
	[ 'compact-before-install',     $compact ],
	[ 'compact-after-install',      $compact ],
	[ 'compact-before-safexid',     $compact ],
	[ 'remove-before-free',         'VACUUM t' ],
	[ 'vacuum-before-epoch',        'VACUUM t' ],
	[ 'vacuum-before-flush',        'VACUUM t' ],
	[ 'vacuum-before-barrier',      'VACUUM t' ],
	[ 'vacuum-after-barrier',       'VACUUM t' ],
	[ 'sweep-before-wait',          'VACUUM t' ],
	[ 'build-before-install',       'REINDEX INDEX t_k' ]);

sub waiting_pid
{
	my ($application) = @_;

	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE application_name = '$application' AND wait_event_type = 'Extension'");
}

my $reached = 0;
my $round   = 0;
foreach my $how ('terminate', 'cancel')
{
	foreach my $case (@cases)
	{
		my ($failpoint, $sql) = @$case;
		my $name = "$how at $failpoint";
		my $application = 'doomed_' . ++$round;
		my $pid = '';

		$node->safe_psql('postgres', fill_query(300));
		$node->safe_psql('postgres', "DELETE FROM t WHERE id % 20 = $round % 20");
		# a log to be sealed; runs that were retired before the last transaction
		$node->safe_psql('postgres', 'SET alexam.memtable_entries = 100000; ' . fill_query(150))
		  if $failpoint =~ /^seal/;
		$node->safe_psql('postgres', "$compact; " . fill_query(1)) if $failpoint =~ /^remove/;
		# pages of a run that has never been listed
		$node->psql('postgres', "SET alexam.failpoint = 'run-before-flush'; $compact") if $failpoint =~ /^sweep/;
		$sql = fill_query(150) if $sql eq 'INSERT';
		$sql = fill_query(900) if $sql eq 'LARGE';

		my $session = $node->background_psql('postgres', on_error_stop => 0);
		$session->query_safe("SET application_name = '$application'; SET alexam.failpoint = '$failpoint?'");
		$session->query_until(qr/started/, "\\echo started\n$sql;\n");
		foreach (1 .. 50)
		{
			$pid = waiting_pid($application);
			last if $pid ne '' || $node->safe_psql('postgres',
				"SELECT state FROM pg_stat_activity WHERE application_name = '$application'") eq 'idle';
			usleep(100_000);
		}
		if ($pid ne '')
		{
			$reached++;
			$node->safe_psql('postgres', "SELECT pg_${how}_backend($pid)");
			$node->poll_query_until('postgres', $how eq 'terminate'
				? "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"
				: "SELECT state ~ 'idle' FROM pg_stat_activity WHERE pid = $pid")
			  or die "$name: the session does not end";
		}
		else
		{
			fail("$name: nothing waits there");
		}
		eval { $session->quit };

		my $rows = compare_scans($node, 't', $name);
		check_index($node, 't_k', $name);
		cmp_ok($rows, '>', 1000, "$name: there are rows");
	}
}
is($reached, 2 * @cases, 'all failpoints were reached');

# The sweep waits for a direct seal, whose pages look like orphans.
foreach my $how ('terminate', 'cancel')
{
	my $name   = "$how while the sweep waits for a direct seal";
	my $writer = $node->background_psql('postgres', on_error_stop => 0);
	my $vacuum = $node->background_psql('postgres', on_error_stop => 0);

	$writer->query_safe("SET application_name = 'writer_$how'; SET alexam.failpoint = 'direct-seal-before-install?'");
	$writer->query_until(qr/started/, "\\echo started\n" . fill_query(900) . ";\n");
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'writer_$how' AND wait_event_type = 'Extension'")
	  or die "$name: no direct seal waits";
	$vacuum->query_safe("SET application_name = 'vacuum_$how'");
	$vacuum->query_until(qr/started/, "\\echo started\nVACUUM (INDEX_CLEANUP on) t;\n");
	ok($node->poll_query_until('postgres',
			"SELECT count(*) = 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
			  . "WHERE application_name = 'vacuum_$how' AND locktype = 'page' AND page = 2 AND NOT granted"),
		"$name: it waits");
	my $pid = $node->safe_psql('postgres',
		"SELECT pg_${how}_backend(pid), pid FROM pg_stat_activity WHERE application_name = 'vacuum_$how'") =~ s/.*\|//r;
	$node->poll_query_until('postgres', $how eq 'terminate'
		? "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid"
		: "SELECT state ~ 'idle' FROM pg_stat_activity WHERE pid = $pid")
	  or die "$name: the session does not end";
	eval { $vacuum->quit };
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer_$how'");
	eval { $writer->quit };
	compare_scans($node, 't', $name);
	check_index($node, 't_k', $name);
}
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $started, 'the server has not gone down');
$node->safe_psql('postgres', 'VACUUM t');
is((page_counts($node, 't_k'))[2], 0, 'no page is lost');
$node->stop;
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP:|PANIC/, 'no backend has crashed');

done_testing();
