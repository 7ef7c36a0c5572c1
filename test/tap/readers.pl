# readers.pl
#	  For whom VACUUM waits: scans without pins that may hold TIDs of leaf pages
#	  in which it has set dead bits, and no others.
#
# Each table has keys in no order on some 20 leaf pages of one run, or keys that
# follow each other on three.  A cursor has read rows of it, and is kept open.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = alex_node('readers', <<'END');
statement_timeout = '60s'
enable_seqscan = off
enable_bitmapscan = off
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION alexam');

my $vacuum = 'VACUUM (INDEX_CLEANUP on) t';
my $without_index =
  'SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off;';

# Every other row is deleted of those whose numbers (from 0) in the order of keys
# are in a range.  Returns the keys that are left, in order.
sub create_table
{
	my ($first, $last, $keys) = @_;

	$keys //= 'SELECT hashint8extended(i, 0) & ((1::bigint << 60) - 1) FROM generate_series(1, 20000) i';
	$node->safe_psql('postgres', <<"END");
DROP TABLE IF EXISTS t;
CREATE TABLE t (k bigint) WITH (autovacuum_enabled = off);
INSERT INTO t $keys;
CREATE INDEX t_k ON t USING alex (k);
VACUUM ANALYZE t;
END
	cmp_ok($node->safe_psql('postgres', "SELECT leaf_pages FROM alex_runs('t_k')"),
		'>', 2, 'a run of several leaf pages');
	my @all = split(/\n/, $node->safe_psql('postgres', "$without_index SELECT k FROM t ORDER BY k"));
	my @dead = map { $all[$_] } grep { $_ >= $first && $_ <= $last && $_ % 2 } 0 .. $#all;
	$node->safe_psql('postgres', 'DELETE FROM t WHERE k IN (' . join(', ', @dead) . ')');
	my %dead = map { $_ => 1 } @dead;
	return [ grep { !$dead{$_} } @all ];
}

# A session with a cursor from which so many rows have been fetched
sub open_cursor
{
	my ($query, $count) = @_;
	my $session = open_session($node, 'reader');

	$session->query('BEGIN');
	$session->query("DECLARE c CURSOR FOR $query");
	return ($session, $session->query("FETCH $count FROM c"));
}

#
# The cursor is on a leaf page; VACUUM removes entries of it, or of others.
#
# A page of keys that follow each other has 32,767 entries, so the cursor has come
# to the second page with a batch that it read there, and no later one.
#
my $sequence = 'SELECT i FROM generate_series(1, 70000) i';
my $query = 'SELECT k FROM t WHERE k >= 0 ORDER BY k';

foreach my $case (
	[ 'of the first page', 0, 300, 10, 'Extension' ],
	[ 'of other pages', 10000, 12000, 10, 'idle' ],
	[ 'of a page that it has left', 0, 300, 3000, 'idle' ],
	[ 'of a page that it has come to', 32767, 32900, 32770, 'Extension', $sequence ])
{
	my ($title, $first, $last, $count, $expected, $source) = @$case;
	my $left = create_table($first, $last, $source);

	like($node->safe_psql('postgres', "EXPLAIN $query"), qr/Index Only Scan using t_k/, "$title: plan");
	my ($reader, $keys) = open_cursor($query, $count);
	my $session = open_session($node, 'vacuum');
	send_statement($session, $vacuum);
	is(what_blocks($node, 'vacuum', $vacuum), $expected, "entries $title: what VACUUM does");
	$keys .= "\n" . $reader->query('FETCH ALL FROM c');
	ok($keys eq join("\n", @$left), "entries $title: no deleted row");
	$reader->query('COMMIT');
	$session->query_safe('SELECT 1');
	check_index($node, 't_k', "entries $title");
	$_->quit foreach ($reader, $session);
}

#
# A VACUUM that is cancelled while it waits leaves the waiting to the next one,
# which finds nothing to be removed on the page.
#
{
	my $left = create_table(0, 300);
	my ($reader, $keys) = open_cursor($query, 10);
	my $session = open_session($node, 'vacuum');

	send_statement($session, $vacuum);
	is(what_blocks($node, 'vacuum', $vacuum), 'Extension', 'VACUUM waits');
	$node->safe_psql('postgres',
		"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'vacuum'");
	$node->poll_query_until('postgres',
		"SELECT state LIKE 'idle%' FROM pg_stat_activity WHERE application_name = 'vacuum'");
	$session->query('SELECT 1');
	like($session->{stderr}, qr/canceling statement/, 'and is cancelled');
	$session->{stderr} = '';

	send_statement($session, $vacuum);
	is(what_blocks($node, 'vacuum', $vacuum), 'Extension', 'the next one waits, too');
	$keys .= "\n" . $reader->query('FETCH ALL FROM c');
	ok($keys eq join("\n", @$left), 'no deleted row after a cancelled VACUUM');
	$reader->query('COMMIT');
	$session->query_safe('SELECT 1');
	check_index($node, 't_k', 'a cancelled VACUUM');
	$_->quit foreach ($reader, $session);
}

#
# A cursor that fails in a subtransaction stays until it is closed, but VACUUM
# must not wait for it; no more than for the pins of such a cursor.
#
foreach my $list ('', ' AND k = ANY (ARRAY(SELECT k FROM t ORDER BY k LIMIT 60))')
{
	my $title = 'a failed cursor' . ($list ne '' ? ', list' : '');
	my $left = create_table(0, 300);
	my ($reader, $keys) =
	  open_cursor("SELECT k FROM t WHERE k >= 0$list AND 1 / (k - $$left[20]) > -1 ORDER BY k", 2);
	my $session = open_session($node, 'vacuum');

	is($keys, "$$left[0]\n$$left[1]", "$title: rows");
	$reader->query('SAVEPOINT s');
	$reader->query('FETCH 100 FROM c');
	like($reader->{stderr}, qr/division by zero/, "$title: error");
	$reader->{stderr} = '';
	$reader->query('ROLLBACK TO s');
	send_statement($session, $vacuum);
	is(what_blocks($node, 'vacuum', $vacuum), 'idle', "$title: VACUUM does not wait");

	# and other scans of the transaction have the place
	is($reader->query("SELECT count(*) FROM t WHERE k >= 0"), scalar(@$left), "$title: other scans");
	$reader->query('COMMIT');
	$reader->quit;
	$session->query_safe('SELECT 1');
	$session->quit;
	check_index($node, 't_k', $title);
}

#
# A session with a cursor on one table checks uniqueness in another.  After that
# it is where the cursor is, and nowhere else.
#
{
	my $left = create_table(0, 300);
	$node->safe_psql('postgres', <<'END');
SET client_min_messages = error;
CREATE TABLE u (k int);
CREATE UNIQUE INDEX u_k ON u USING alex (k);
INSERT INTO u VALUES (7);
CREATE TABLE other (k int) WITH (autovacuum_enabled = off);
INSERT INTO other SELECT generate_series(1, 1000);
CREATE INDEX other_k ON other USING alex (k);
DELETE FROM other WHERE k <= 500;
END
	my ($reader, $keys) = open_cursor($query, 10);
	my $session = open_session($node, 'vacuum');

	$reader->query('SAVEPOINT s');
	$reader->query('INSERT INTO u VALUES (7)');
	like($reader->{stderr}, qr/duplicate key/, 'a uniqueness check beside a cursor');
	$reader->{stderr} = '';
	$reader->query('ROLLBACK TO s');
	send_statement($session, 'VACUUM (INDEX_CLEANUP on) other');
	is(what_blocks($node, 'vacuum', 'VACUUM (INDEX_CLEANUP on) other'),
		'idle', 'VACUUM of another table does not wait');
	send_statement($session, $vacuum);
	is(what_blocks($node, 'vacuum', $vacuum), 'Extension', 'VACUUM of the table does');
	$keys .= "\n" . $reader->query('FETCH ALL FROM c');
	ok($keys eq join("\n", @$left), 'no deleted row beside a uniqueness check');
	$reader->query('COMMIT');
	$session->query_safe('SELECT 1');
	check_index($node, 't_k', 'a uniqueness check beside a cursor');
	$_->quit foreach ($reader, $session);
}

#
# Somebody touches the file that tells databases apart: sessions that have looked
# before, and after, see the same.
#
{
	my $oid = $node->safe_psql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'postgres'});
	my $file = $node->data_dir . "/base/$oid/PG_VERSION";

	$node->safe_psql('postgres', <<'END');
DROP TABLE t;
CREATE TABLE t (k int);
CREATE INDEX t_k ON t USING alex (k);
INSERT INTO t VALUES (1);
END
	my $old = open_session($node, 'old');
	my $count = 'SELECT count(*) FROM t WHERE k > 0';

	$old->query_safe('INSERT INTO t VALUES (2)');
	is($old->query_safe($count), 2, 'a session that has looked');
	utime(1000000000, 1000000000, $file) or die "$file: $!";
	my $new = open_session($node, 'new');
	foreach my $rows (3 .. 8)
	{
		($rows % 2 ? $new : $old)->query_safe("INSERT INTO t VALUES ($rows)");
		is($_->query_safe($count), $rows, "$rows rows after the file was touched") foreach ($old, $new);
	}
	check_index($node, 't_k', 'the file was touched');
	$_->quit foreach ($old, $new);
}

$node->stop;
done_testing();
