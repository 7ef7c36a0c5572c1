#!/usr/bin/perl
#
# lockers.pl
#	  What a worker has merged is freed when nobody can be reading it any more,
#	  and not when every old snapshot is gone.
#
# Hazard: H9 (recycling under a scan).
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby;
use AlexTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $primary = replicated_node('primary', <<'END');
alexam.background_compaction = on
alexam.compaction_cost_delay = 0
alexam.direct_seal_threshold = 1000
max_prepared_transactions = 2
wal_consistency_checking = 'alexam'
END
my $next_id = 1;

$primary->safe_psql('postgres', <<'END');
CREATE TABLE t (id int, k bigint, b bigint);
CREATE INDEX t_k ON t USING alex (k);
CREATE INDEX t_b ON t (b);
CREATE TABLE other (a int);
CREATE TABLE u (k bigint);
CREATE INDEX u_k ON u USING alex (k);
CREATE TABLE parted (a int) PARTITION BY RANGE (a);
SELECT format('CREATE TABLE part_%s PARTITION OF parted FOR VALUES FROM (%s) TO (%s)', i, i, i + 1)
FROM generate_series(1, 40) AS i \gexec
END

# Adds runs of random keys to both indexes, as many as are merged at once.
sub add_runs
{
	foreach (1 .. RUNS_TO_MERGE)
	{
		my $last = $next_id + 1199;

		$primary->safe_psql('postgres', <<"END");
INSERT INTO t SELECT i, key, key FROM generate_series($next_id, $last) AS i,
	LATERAL (SELECT hashint8extended(i, 1) AS key) AS keys;
INSERT INTO u SELECT hashint8extended(i, 1) FROM generate_series($next_id, $last) AS i;
END
		$next_id = $last + 1;
	}
	return;
}

# The same, and they are merged.
sub merge
{
	add_runs();
	return $primary->poll_query_until('postgres',
		q{SELECT count(*) = 0 FROM alex_runs('t_k') WHERE state = 'live' AND entries = 1200})
	  || die 'runs are not merged';
}

# An index of one run, in a file of its own.
sub start_over
{
	$primary->safe_psql('postgres', 'TRUNCATE t, u');
	merge();
	freed('start');
	return;
}

# Everything that was retired is freed.
sub freed
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($primary->poll_query_until('postgres',
			q{SELECT t.retired_runs + u.retired_runs = 0 FROM alex_stats('t_k') AS t, alex_stats('u_k') AS u}),
		"$name: old runs are freed");
}

# A worker has had the time to free it, and has not.
sub kept
{
	my ($name) = @_;

	usleep(1_500_000);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return cmp_ok($primary->safe_psql('postgres', q{SELECT retired_runs FROM alex_stats('t_k')}),
		'>', 0, "$name: old runs are kept");
}

# Is there a snapshot older than what was retired last?
sub horizon_is_old
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($primary->safe_psql('postgres', <<'END'), 't', "$name: the horizon is old");
SELECT max(age(backend_xmin)) >= 8 FROM pg_stat_activity
END
}

sub set_server_of
{
	my ($where, $line) = @_;

	$where->append_conf('postgresql.conf', $line);
	$where->reload;
	return;
}

# A session that has a cursor on t_k open, from which the first rows were read;
# and what all rows of it are.
sub open_cursor
{
	my ($where, @before) = @_;
	my $session = session($where, 'plain');
	my @expected = split(/\n/, $where->safe_psql('postgres', 'SELECT k FROM t ORDER BY k + 0'));

	$session->query_safe($_) foreach 'BEGIN', @before;
	$session->query_safe('DECLARE c CURSOR FOR SELECT k FROM t ORDER BY k');
	my @rows = rows($session, 'FETCH 10 FROM c');
	return { session => $session, rows => \@rows, expected => \@expected };
}

sub read_on
{
	my ($cursor, $name) = @_;

	push @{ $cursor->{rows} }, rows($cursor->{session}, 'FETCH ALL FROM c');
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is_deeply($cursor->{rows}, $cursor->{expected}, "$name: the cursor finds every row, in order");
	$cursor->{session}->query_safe('COMMIT');
	$cursor->{session}->quit;
	return;
}

#
# Who has nothing to do with the index does not matter.
#
start_over();
my $old = $primary->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current(); SELECT count(*) FROM other');
merge();
horizon_is_old('a transaction of others');
freed('a transaction of others');
compare_scans($primary, 't', 'a transaction of others');
check_index($primary, 't_k', 'a transaction of others');

# Nor do those who come later, though there is somebody at any time; with two
# indexes that are to be looked after.
my $pgbench = '';
my $script = $primary->basedir . '/read.sql';
append_to_file($script, <<'END');
BEGIN;
SELECT count(*) FROM t WHERE k = 1;
SELECT count(*) FROM u WHERE k = 1;
\sleep 500 ms
COMMIT;
END
my $readers = IPC::Run::start(
	[
		'pgbench', '--no-vacuum', '--client=4', '--time=300', "--file=$script",
		'--host', $primary->host, '--port', $primary->port, 'postgres'
	],
	'>', \$pgbench, '2>&1');
$primary->poll_query_until('postgres', q{SELECT count(*) >= 4 FROM pg_stat_activity WHERE state = 'idle in transaction'})
  or die 'nobody reads';
merge();
horizon_is_old('and others that read');
freed('and others that read');
$readers->signal('INT');
$readers->finish;
unlike($pgbench, qr/ERROR/, 'those that read see no error');
$old->query_safe('COMMIT');
$old->quit;

#
# Who may be reading does.  The worker that takes its note has taken one before.
# Locks are in the lock table, or where each backend has its own first ones.
#
foreach my $locks ('its own', 'many')
{
	my $name = "a cursor, $locks locks";

	start_over();
	my $cursor = open_cursor($primary, $locks eq 'many' ? 'SELECT count(*) FROM parted' : ());
	merge();
	kept($name);
	$primary->safe_psql('postgres', 'INSERT INTO t SELECT 0, i, i FROM generate_series(1, 20000) AS i');
	read_on($cursor, $name);
	merge();
	freed("after $name");
	check_index($primary, 't_k', "after $name");
}

# The worker waits for one transaction, more is retired, and only then is that
# transaction over.  A larger run beside lets merging go on.
start_over();
$primary->safe_psql('postgres',
	'INSERT INTO t SELECT 0, key, key FROM generate_series(1, 300000) AS i, LATERAL (SELECT hashint8extended(i, 2) AS key) AS keys');
my $first = session($primary, 'plain');
$first->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t WHERE k < 0');
merge();
kept('the first to read');
my $second = open_cursor($primary);
merge();
my $retired = q{SELECT retired_runs FROM alex_stats('t_k')};
my $both = $primary->safe_psql('postgres', $retired);
$first->query_safe('COMMIT');
$first->quit;
ok($primary->poll_query_until('postgres', "SELECT ($retired) < $both"), 'the first has read: old runs are freed');
kept('the second to read');
$primary->safe_psql('postgres', 'INSERT INTO t SELECT 0, i, i FROM generate_series(1, 20000) AS i');
read_on($second, 'the second to read');
merge();
freed('after the second to read');

# A prepared transaction has locks, and no snapshot.
start_over();
$primary->safe_psql('postgres', q{BEGIN; INSERT INTO t VALUES (0, 1, 1); PREPARE TRANSACTION 'p'});
merge();
kept('a prepared transaction');
$primary->safe_psql('postgres', q{COMMIT PREPARED 'p'});
merge();
freed('after a prepared transaction');

#
# Where there is a standby, who only reads other tables does not matter either,
# but who writes does: all snapshots of the standby are as old.
#
my $standby = start_standby('standby', $primary, $primary);
$primary->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_stat_replication') or die 'no standby';
start_over();
$old = $primary->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM other');
merge();
horizon_is_old('others that read, and a standby');
freed('others that read, and a standby');
$old->query_safe('SELECT txid_current()');
merge();
kept('others that write, and a standby');
$old->query_safe('COMMIT');
$old->quit;
freed('after others that write');

# A standby that is away cannot be known of.  When it comes back, its readers have
# to give way, even if it has not heard of the transaction ids that have been given
# out.
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = 0');
$standby->reload;
my $connection = $standby->safe_psql('postgres', 'SHOW primary_conninfo');
start_over();
my $reader = session($primary, 'plain');
$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t WHERE k < 0');
merge();
kept('a reader');
catch_up($primary, $standby);
my $cursor = open_cursor($standby);
set_server_of($standby, q{primary_conninfo = ''});
$primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication') or die 'the standby stays';
my @silent;
foreach my $query (q{SELECT 1}, q{SELECT alex_compact('t_k')})
{
	$primary->safe_psql('postgres', $query);
	push(@silent, $primary->background_psql('postgres'));
	$silent[-1]->query_safe('BEGIN; SELECT txid_current()');
}
$reader->query_safe('COMMIT');
$reader->quit;
freed('a standby that is away');
$primary->safe_psql('postgres', 'INSERT INTO t SELECT 0, i, i FROM generate_series(1, 20000) AS i');
set_server_of($standby, "primary_conninfo = '" . $connection =~ s/'/''/gr . "'");
catch_up($primary, $standby);
eval { $cursor->{session}->query('FETCH ALL FROM c') };
like($cursor->{session}{stderr}, qr/conflict with recovery/, 'a standby that was away: its reader gives way');
eval { $cursor->{session}->quit };
foreach (@silent)
{
	$_->query_safe('COMMIT');
	$_->quit;
}
$standby->append_conf('postgresql.conf', 'max_standby_streaming_delay = -1');

#
# A standby that asks for it is waited for, with or without a slot; and so are
# all that vacuum_defer_cleanup_age asks for.
#
foreach my $slot ('', 'slot')
{
	my $name = $slot ? 'a standby with a slot' : 'a standby';

	$primary->safe_psql('postgres', q{SELECT pg_create_physical_replication_slot('slot')}) if $slot;
	$standby->append_conf('postgresql.conf', "primary_slot_name = '$slot'\nhot_standby_feedback = on");
	$standby->restart;
	start_over();
	catch_up($primary, $standby);
	my $cursor = open_cursor($standby);
	my $xmin = $slot ? q{SELECT xmin FROM pg_replication_slots} : q{SELECT backend_xmin FROM pg_stat_replication};
	$primary->poll_query_until('postgres', "SELECT age(($xmin)) IS NOT NULL") or die 'no feedback';
	$primary->safe_psql('postgres', 'SELECT txid_current()') foreach 1 .. 3;
	$primary->poll_query_until('postgres', "SELECT age(($xmin)) >= 3") or die 'the standby lets go';

	merge();
	kept($name);
	read_on($cursor, $name);
	merge();
	freed("after $name");

	# what it asked for without a slot is over when it is gone
	next if $slot;
	$cursor = open_cursor($standby);
	$primary->safe_psql('postgres', 'SELECT txid_current()') foreach 1 .. 3;
	$primary->poll_query_until('postgres', "SELECT age(($xmin)) >= 3") or die 'the standby lets go';
	$old = $primary->background_psql('postgres');
	$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM other');
	$standby->stop('immediate');
	eval { $cursor->{session}->quit };
	$primary->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_replication') or die 'the standby stays';
	merge();
	freed('a standby that is gone');
	$old->query_safe('COMMIT');
	$old->quit;
	$standby->start;
}
$standby->stop;
$primary->safe_psql('postgres', q{SELECT pg_drop_replication_slot('slot')});

start_over();
set_server($primary, 'vacuum_defer_cleanup_age', q{'1000000'});
merge();
kept('vacuum_defer_cleanup_age');
set_server($primary, 'vacuum_defer_cleanup_age', q{'0'});
merge();
freed('after vacuum_defer_cleanup_age');
check_index($primary, 't_k', 'in the end');

$primary->stop;
done_testing();
