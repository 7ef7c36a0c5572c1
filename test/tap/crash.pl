# crash.pl
#	  Errors and crashes between any two steps of seal, compaction, VACUUM and
#	  CREATE INDEX.
#
# The setting alexam.failpoint makes a session fail at a named point: with an
# error ("name") or with a panic of the server ("name!").  After each failure
# the index must answer as before, must go on working, and must not have lost
# pages for good.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('crash', <<'END');
alexam.memtable_entries = 200
alexam.batch_size = 1
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

sub delete_some
{
	my ($which) = @_;

	$rows -= $node->safe_psql('postgres',
		"WITH gone AS (DELETE FROM t WHERE id % 5 = $which % 5 RETURNING 1) SELECT count(*) FROM gone");
	return;
}

# Runs SQL that reaches a failpoint; checks that it did.
sub fail_at
{
	my ($failpoint, $sql, $name) = @_;
	my $log_size = -s $node->logfile;
	my ($status, $output, $errors) = $node->psql('postgres',
		"SET alexam.failpoint = '$failpoint';\n$sql");

	if ($failpoint =~ /!/)
	{
		if ($errors !~ /connection to server was lost/)
		{
			fail("$name: the server crashes");
			die "the failpoint is not reached: $errors";
		}
		wait_for_crash($node);
		$node->start;
		$failpoint =~ s/!//;
		like(slurp_file($node->logfile, $log_size), qr/PANIC:  failpoint "$failpoint" reached/, "$name: the server crashes");
	}
	else
	{
		like($errors, qr/failpoint "$failpoint" reached/, "$name: an error is raised");
	}
	return;
}

# Nothing is lost, nothing is there twice.
sub check_all
{
	my ($name) = @_;

	compare_scans($node, 't', $name);
	is($node->safe_psql('postgres', 'SELECT count(*) FROM t'), $rows, "$name: what was committed is there");
	check_index($node, 't_k', $name);
	return;
}

# The index goes on working, TIDs are used again, and no page is lost.
sub go_on
{
	my ($name) = @_;

	$node->safe_psql('postgres', 'VACUUM t');
	insert(300);
	is((page_counts($node, 't_k'))[2], 0, "$name: VACUUM finds all orphans");
	$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
	check_all("$name, and work goes on");
	return;
}

# Where to fail, what leads there, and what to do before.  A VACUUM before the
# one that fails makes redo set dead bits by itself instead of restoring images
# of the pages.
my $seal = sub { return fill_query(1200) };
my $compact = sub { return q{SELECT alex_compact('t_k')} };
my $vacuum = sub { return 'VACUUM t' };
my @cases = (
	[ 'seal-after-freeze', $seal ],
	[ 'run-before-model', $seal ],
	[ 'run-before-flush', $seal ],
	[ 'seal-before-install', $seal ],
	[ 'seal-after-install', $seal ],
	[ 'run-before-model', $compact ],
	[ 'run-before-flush', $compact ],
	[ 'compact-before-install', $compact ],
	[ 'compact-before-safexid', $compact ],
	[ 'compact-after-install', $compact ],
	[ 'remove-before-free', $compact, q{SELECT alex_compact('t_k')} ],
	[ 'remove-before-free', $vacuum, q{SELECT alex_compact('t_k')} ],
	[ 'vacuum-before-epoch', $vacuum, 'VACUUM t' ],
	[ 'vacuum-before-flush', $vacuum, 'VACUUM t' ],
	[ 'vacuum-before-barrier', $vacuum, 'VACUUM t' ],
	[ 'vacuum-after-barrier', $vacuum, 'VACUUM t' ],
	[ 'build-before-install', sub { return 'REINDEX INDEX t_k' } ]);

insert(2000);
my $round = 0;
foreach my $case (@cases)
{
	my ($failpoint, $statement, $before) = @$case;

	foreach my $how ('', '!')
	{
		my $sql = $statement->();
		my $name = "H11: $failpoint$how in " . ($sql =~ /^SELECT fill/ ? 'INSERT' : $sql);

		insert(450);
		delete_some($round++) if $sql eq 'VACUUM t';
		$node->safe_psql('postgres', $before) if defined $before;
		delete_some($round++);
		fail_at($failpoint . $how, $sql, $name);
		check_all($name);
		go_on($name);
	}
}

# H11: runs were retired, but not told until when they must stay listed, and no
# other compaction comes.  The first VACUUM finds that out, a later one removes
# them.
foreach my $how ('error', 'crash')
{
	my $name = "H11: $how at compact-before-safexid, and nothing else to compact";
	my $retired = q{SELECT count(*) > 0 FROM alex_runs('r_k') WHERE state = 'retired'};

	$node->safe_psql('postgres', <<'END');
CREATE TABLE r (k int);
CREATE INDEX r_k ON r USING alex (k);
INSERT INTO r SELECT i FROM generate_series(1, 300) i;
INSERT INTO r SELECT i FROM generate_series(1, 300) i;
END
	if ($how eq 'error')
	{
		fail_at('compact-before-safexid', q{SELECT alex_compact('r_k')}, $name);
	}
	else
	{
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = $session->query('SELECT pg_backend_pid()');

		$session->query_until(qr/sent/,
			"\\echo sent\nSET alexam.failpoint = 'compact-before-safexid?'; SELECT alex_compact('r_k');\n");
		$node->poll_query_until('postgres',
			"SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid")
		  or die "$name: the failpoint is not reached";
		# a commit after what it has written saves that from the crash
		$node->safe_psql('postgres', 'CREATE TABLE saved ()');
		$node->stop('immediate');
		$node->start;
		eval { $session->quit };
	}
	is($node->safe_psql('postgres', $retired), 't', "$name: there are retired runs");
	foreach my $round (1 .. 3)
	{
		$node->safe_psql('postgres', 'VACUUM r');
		$node->safe_psql('postgres', 'SELECT txid_current()');
	}
	is($node->safe_psql('postgres', $retired), 'f', "$name: VACUUM removes them");
	check_index($node, 'r_k', $name);
	$node->safe_psql('postgres', 'DROP TABLE r');
}

# H15: an error between the log record and the memtable's change must not let
# anybody see the one without the other.
foreach my $how ('', '!')
{
	my $name = "H15: append-before-memtable$how";

	fail_at('append-before-memtable!', fill_query(10), $name) if $how eq '!';
	if ($how eq '')
	{
		my $log_size = -s $node->logfile;
		my ($status, $output, $errors) = $node->psql('postgres',
			"SET alexam.failpoint = 'append-before-memtable';\n" . fill_query(10));

		if (unlike($errors, qr/ERROR:  failpoint/, "$name: not just an error"))
		{
			wait_for_crash($node);
			$node->start;
		}
		like(slurp_file($node->logfile, $log_size), qr/PANIC:  failpoint "append-before-memtable" reached/,
			"$name: the error becomes a crash");
	}
	check_all($name);
	go_on($name);
}

# H15: an error in a session that loads the memtable, or its end, ends the
# loading; whoever waits for it then loads.
foreach my $how ('', '?')
{
	my $name = "H15: load-before-ready$how";
	my $count = "SET enable_seqscan = off; SELECT count(*) FROM t WHERE k >= 0";

	insert(20);
	$node->restart;
	my $loader = $node->background_psql('postgres', on_error_stop => 0);
	if ($how eq '')
	{
		$loader->query("SET alexam.failpoint = 'load-before-ready'; $count");
		like($loader->{stderr}, qr/failpoint "load-before-ready" reached/, "$name: an error is raised");
		$loader->{stderr} = '';
	}
	else
	{
		my $pid = $loader->query('SELECT pg_backend_pid()');

		$loader->query_until(qr/sent/, "\\echo sent\nSET alexam.failpoint = 'load-before-ready?'; $count;\n");
		$node->poll_query_until('postgres',
			"SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid")
		  or die "$name: the session does not load";
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 60000)");
	}
	my ($status, $output, $errors) = $node->psql('postgres', "SET statement_timeout = '30s'; $count");
	is($errors, '', "$name: another session need not wait for it")
	  or die 'the memtable cannot be loaded any more';
	eval { $loader->quit };
	check_all($name);
}

# H12: entries of a transaction that aborts stay until VACUUM removes them with
# their rows.
sub live_entries
{
	return $node->safe_psql('postgres', q{SELECT entries - dead + log_entries - log_dead FROM alex_stats('t_k')});
}

$node->safe_psql('postgres', 'VACUUM t');
is(live_entries(), $rows, 'H12: an entry for each row');
$node->safe_psql('postgres', 'BEGIN; ' . fill_query(700) . '; ROLLBACK');
$node->safe_psql('postgres', q{SELECT alex_compact('t_k')});
$node->safe_psql('postgres', 'BEGIN; SAVEPOINT s; ' . fill_query(100) . '; ROLLBACK TO s; COMMIT');
# but for those of equal keys, which a seal or a merge looks at more closely
my $entries = live_entries();
ok($entries > $rows + 750 && $entries <= $rows + 800,
	"H12: entries of aborted transactions are there, in a run and in the log ($entries for $rows rows)");
check_all('H12: before VACUUM');
$node->safe_psql('postgres', 'VACUUM t');
is(live_entries(), $rows, 'H12: VACUUM has removed them');
insert(800);
check_all('H12: their TIDs are used again');

$node->stop;
done_testing();
