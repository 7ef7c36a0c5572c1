# AlexTest.pm
#	  What the TAP tests of alexam share.
#
# The tests compare an alex index with a btree index and with sequential
# scans.  By convention a table under test has two columns of equal contents:
# k has the alex index, b the btree index.
#
# Copyright (c) 2026, alexam contributors

package AlexTest;

use strict;
use warnings;

use Exporter qw(import);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(alex_node create_test_table fill_query wait_for_crash
  wait_for_restart set_server open_session send_statement what_blocks check_index
  compare_scans page_counts entries_read
  RUNS_TO_MERGE);

# So many runs of like size are merged (TIER_FANOUT of am/policy.c).
use constant RUNS_TO_MERGE => 8;

# A new cluster with alexam preloaded, not started yet.  $conf is added to
# postgresql.conf, %init goes to PostgreSQL::Test::Cluster's init().
sub alex_node
{
	my ($name, $conf, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$init{extra} = [
		'--data-checksums', '--no-locale', '--encoding=UTF8',
		@{ $init{extra} || [] }
	];
	$node->init(%init);
	$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'alexam'
shared_buffers = 32MB
max_connections = 30
autovacuum = off
jit = off
alexam.background_compaction = off
log_statement = none
$conf
END
	return $node;
}

# Table t with both indexes, and fill(first, last), which inserts a row for
# each of these ids.  Its keys are scattered, some equal, some NULL.
sub create_test_table
{
	my ($node) = @_;

	$node->safe_psql('postgres', <<'END');
CREATE EXTENSION alexam;
CREATE TABLE t (id int, k bigint, b bigint);
CREATE INDEX t_k ON t USING alex (k);
CREATE INDEX t_b ON t (b);
CREATE FUNCTION fill(first int, last int) RETURNS void
AS $$INSERT INTO t SELECT i, key, key
	FROM generate_series(first, last) AS i,
		LATERAL (SELECT CASE WHEN i % 50 > 0 THEN (i * 7919::bigint) % 10007 END AS key) AS keys$$
LANGUAGE sql;
END
	return;
}

# A call of fill() for that many more rows, in a script with one such table.
my $next_id = 1;

sub fill_query
{
	my ($count) = @_;
	my $first = $next_id;

	$next_id += $count;
	return "SELECT fill($first, " . ($next_id - 1) . ')';
}

# A backend crashed: waits until the server, which does not restart by itself
# (restart_after_crash is off), is gone, so that it can be started again.
sub wait_for_crash
{
	my ($node) = @_;

	foreach (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		if (!-e $node->data_dir . '/postmaster.pid')
		{
			$node->_update_pid(0);
			return;
		}
		usleep(50_000);
	}
	BAIL_OUT('the server survives the crash of a backend');
}

# A backend crashed: waits until the server, which does restart by itself
# (restart_after_crash is on), takes connections again.
sub wait_for_restart
{
	my ($node) = @_;

	foreach (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return
		  if IPC::Run::run([ 'pg_isready', '--quiet', '--host', $node->host, '--port', $node->port ]);
		usleep(50_000);
	}
	BAIL_OUT('the server does not come back');
}

# Changes a setting of the server, and waits until sessions that begin later
# have it, and so those given; a signal to reload takes its time.
sub set_server
{
	my ($node, $name, $value, @sessions) = @_;
	my $query    = "SELECT current_setting('$name') = $value";
	my $attempts = 100 * $PostgreSQL::Test::Utils::timeout_default;

	$node->safe_psql('postgres', "ALTER SYSTEM SET $name = $value");
	$node->reload;
	$node->poll_query_until('postgres', $query) or die "$name does not change";
	foreach my $session (@sessions)
	{
		while ($session->query($query) ne 't')
		{
			die "$name does not change in a session" if --$attempts == 0;
			usleep(10_000);
		}
	}
	return;
}

# A session that goes on after errors.
sub open_session
{
	my ($node, $name, $database) = @_;
	my $session = $node->background_psql($database // 'postgres', on_error_stop => 0);

	$session->query("SET application_name = '$name'");
	return $session;
}

# Sends a statement without waiting for it.
sub send_statement
{
	my ($session, $sql) = @_;
	return $session->query_until(qr/sent/, "\\echo sent\n$sql;\n");
}

# Waits until that statement of a session is blocked or over; tells by what.
sub what_blocks
{
	my ($node, $name, $sql) = @_;
	my $activity = "FROM pg_stat_activity WHERE application_name = '$name' AND query = '$sql;'";

	$node->poll_query_until('postgres',
		"SELECT state LIKE 'idle%' OR wait_event_type IN ('BufferPin', 'Extension', 'Lock') $activity")
	  or die "$name neither ends nor is blocked";
	return $node->safe_psql('postgres',
		"SELECT CASE WHEN state LIKE 'idle%' THEN 'idle' ELSE wait_event_type END $activity");
}

# alex_check() must find nothing wrong, and no row missing from the index.
sub check_index
{
	my ($node, $index, $name, $database) = @_;
	my ($status, $output, $errors) =
	  $node->psql($database || 'postgres', "SELECT alex_check('$index', true)");

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($errors, '', "$name: alex_check") if $status != 0;
	return pass("$name: alex_check");
}

# The result of a query, and the entries that its scan of an index delivers.
sub entries_read
{
	my ($where, $index, $query, $more) = @_;

	$more //= '';
	my $output = $where->safe_psql('postgres', <<"END");
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; $more
BEGIN;
EXPLAIN (COSTS OFF) $query;
\\echo ==
$query;
\\echo ==
SELECT pg_stat_get_xact_tuples_returned('$index'::regclass);
COMMIT;
END
	my ($plan, $result, $number) = split(/\n?==\n/, $output);

	$plan =~ /Scan (Backward )?using $index / or die "the plan is not a scan of $index: $plan";
	return ($result, $number);
}

# The number of pages of an index: all, free ones, and orphans (which nothing
# refers to and which are not free).  alex_check() tells the debugger so.
sub page_counts
{
	my ($node, $index) = @_;
	my ($status, $output, $errors) = $node->psql('postgres',
		"SET client_min_messages = debug1; SELECT alex_check('$index')");

	$errors =~ /has (\d+) pages, (\d+) of them free and (\d+) orphans/
	  or die "alex_check does not say how many pages there are: $errors";
	return ($1, $2, $3);
}

# Ways to read a table: name, planner settings that are off, what the plan must
# say, column to read, order, and what is compared: rows in index order as (key,
# TID), or keys alone.
my @ways = (
	[ 'sequential', 'indexscan indexonlyscan bitmapscan', 'Seq Scan', 'k', 'k, ctid', 'rows' ],
	[ 'btree', 'seqscan indexonlyscan bitmapscan', 'Index Scan using \S+_b ', 'b', 'b', 'rows' ],
	[ 'forward', 'seqscan indexonlyscan bitmapscan', 'Index Scan using \S+_k ', 'k', 'k', 'rows' ],
	[ 'backward', 'seqscan indexonlyscan bitmapscan', 'Index Scan Backward using \S+_k ', 'k', 'k DESC', 'rows' ],
	[ 'bitmap', 'seqscan indexscan indexonlyscan', 'Bitmap Index Scan on \S+_k', 'k', 'k, ctid', 'rows' ],
	[ 'sequential', 'indexscan indexonlyscan bitmapscan', 'Seq Scan', 'k', 'k', 'keys' ],
	[ 'index-only', 'seqscan indexscan bitmapscan', 'Index Only Scan using \S+_k ', 'k', 'k', 'keys' ]);

# The SQL of one of these ways.
sub way_query
{
	my ($table, $column, $order, $what) = @_;
	my $text = $what eq 'rows' ? "$column || '\@' || ctid" : "$column\::text";
	my $direction = $order =~ /DESC/ ? 'DESC' : 'ASC';

	my $rows = "SELECT $column, ctid FROM $table WHERE $column IS NOT NULL";

	# no bitmap of all rows is considered where the index could sort them
	$rows = "SELECT * FROM ($rows OFFSET 0) AS unordered" if $order =~ /ctid/;

	return <<"END";
SELECT count(*), md5(string_agg(item, ' ' ORDER BY number $direction))
FROM (SELECT $text AS item, row_number() OVER () AS number
	FROM ($rows ORDER BY $order OFFSET 0) AS ordered) AS items
END
}

# One test: all ways to read the table through its alex index (TABLE_k on
# column k), a btree index (TABLE_b on column b) and without an index find the
# same rows in the same order, and so do probes for each key.  Column b must
# hold what k holds.  Returns the number of rows.
sub compare_scans
{
	my ($node, $table, $name, $database) = @_;
	my $script = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n";
	my %results;
	my @complaints;

	foreach my $way (@ways)
	{
		my ($title, $off, $plan, $column, $order, $what) = @$way;
		my $query = way_query($table, $column, $order, $what);

		$script .= "SAVEPOINT way;\n";
		$script .= "SET LOCAL enable_$_ = off;\n" foreach split(/ /, $off);
		$script .= "EXPLAIN (COSTS OFF) $query;\n\\echo == $title $what\n$query;\n\\echo ==\n";
		$script .= "ROLLBACK TO way;\n";
	}
	$script .= <<"END";
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
\\echo == probes
SELECT (SELECT count(k) FROM $table), coalesce(sum(found), 0), coalesce(sum(correct), 0)
FROM (SELECT DISTINCT b AS key FROM $table WHERE b IS NOT NULL) AS keys,
	LATERAL (SELECT count(*) AS found, count(*) FILTER (WHERE b = key) AS correct
		FROM $table WHERE k = key) AS probe;
\\echo == nulls
SELECT (SELECT count(*) FROM $table WHERE k IS NULL), (SELECT count(*) FROM $table WHERE b IS NULL);
END

	my ($status, $output, $errors) = $node->psql($database || 'postgres', $script);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	push(@complaints, $errors) if $errors ne '';

	foreach my $way (@ways)
	{
		my ($title, $off, $plan, $column, $order, $what) = @$way;

		if ($output !~ s/^(.*?)^== \Q$title $what\E\n(\d+)\|(\S*)\n==\n//ms)
		{
			push(@complaints, "no result of $title $what");
			next;
		}
		my ($explained, $count, $digest) = ($1, $2, $3);

		push(@complaints, "$title $what: the plan is $explained") if $explained !~ /$plan/;
		$results{$what} = "$count $digest" if $title eq 'sequential';
		push(@complaints, "$title $what: $count rows, digest $digest instead of $results{$what}")
		  if "$count $digest" ne $results{$what};
	}
	push(@complaints, "probes: $output")
	  if $output !~ /^== probes\n(\d+)\|(\d+)\|(\d+)\n/m || $1 != $2 || $1 != $3;
	push(@complaints, "NULLs: $output")
	  if $output !~ /^== nulls\n(\d+)\|(\d+)$/m || $1 != $2;

	ok(@complaints == 0, "$name: all scans agree") || diag(join("\n", @complaints));
	return ($results{rows} || '') =~ /^(\d+)/ ? $1 : undef;
}

1;
