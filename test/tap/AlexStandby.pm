# AlexStandby.pm
#	  What the tests of replication share.
#
# Copyright (c) 2026, alexam contributors

package AlexStandby;

use strict;
use warnings;

use AlexTest;
use Exporter qw(import);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(replicated_node start_standby catch_up wait_for_apply
  make_table session rows);

# A running primary whose page changes the standbys compare with their own,
# with a backup "base".  Pages leave shared buffers only when a test wants it.
# ("all" does not include resource managers that are loaded later.)
sub replicated_node
{
	my ($name, $conf, %init) = @_;
	my $node = alex_node($name, <<"END", allows_streaming => 1, %init);
wal_consistency_checking = 'all, alexam'
alexam.memtable_entries = 200
bgwriter_lru_maxpages = 0
checkpoint_timeout = 1h
max_wal_size = 4GB
wal_keep_size = 4GB
wal_receiver_status_interval = 1s
max_standby_streaming_delay = -1
hot_standby_feedback = off
$conf
END

	$node->start;
	$node->backup('base');
	$node->safe_psql('postgres', 'CREATE EXTENSION alexam');
	return $node;
}

# A standby, made of the primary's backup, of one of the nodes, with its own
# additional settings.
sub start_standby
{
	my ($name, $primary, $of, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init_from_backup($primary, 'base', has_streaming => 1);
	$node->enable_streaming($of) if $of != $primary;
	$node->append_conf('postgresql.conf', $conf) if $conf;
	$node->start;
	return $node;
}

# Waits until all of the primary's WAL has been replayed on the standbys.  The
# switch makes sure that all of it is sent, whether a transaction waits or not.
sub catch_up
{
	my ($primary, @standbys) = @_;
	my $lsn = $primary->safe_psql('postgres', 'SELECT pg_switch_wal()');

	foreach my $node (@standbys)
	{
		$node->poll_query_until('postgres',
			"SELECT pg_last_wal_replay_lsn() >= '$lsn'")
		  or die $node->name . ' does not catch up';
	}
}

# Waits until a subscription, which is disabled by an error, has applied all
# that was committed.
sub wait_for_apply
{
	my ($publisher, $subscriber, $subscription) = @_;
	my $lsn = $publisher->lsn('write');

	foreach (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return
		  if $publisher->safe_psql('postgres',
			"SELECT replay_lsn >= '$lsn' FROM pg_stat_replication WHERE application_name = '$subscription'") eq 't';
		if ($subscriber->safe_psql('postgres',
				"SELECT subenabled FROM pg_subscription WHERE subname = '$subscription'") ne 't')
		{
			my @errors = slurp_file($subscriber->logfile) =~ /ERROR:  (.*)/g;

			die "subscription $subscription fails: " . ($errors[-1] // 'see the server log');
		}
		usleep(100_000);
	}
	die "subscription $subscription does not catch up";
}

# A table with rows of scattered keys, an alex index on k and a btree index
# on b.
sub make_table
{
	my ($node, $table, $rows) = @_;

	$node->safe_psql('postgres', <<"END");
CREATE TABLE $table (k int8, b int8);
INSERT INTO $table SELECT i * 7919 % 10007, i * 7919 % 10007
	FROM generate_series(1, $rows) i;
CREATE INDEX ${table}_k ON $table USING alex (k);
CREATE INDEX ${table}_b ON $table USING btree (b);
VACUUM (ANALYZE) $table;
END
}

# A session in which the planner has no choice: "plain" index scans or
# "index-only" ones.
sub session
{
	my ($node, $path) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe(
		'SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off');
	$session->query_safe('SET enable_indexonlyscan = off') if $path eq 'plain';
	return $session;
}

# What a session's query returns, as a list.
sub rows
{
	my ($session, $query) = @_;

	return split(/\n/, $session->query_safe($query));
}

1;
