# crash_load.pl
#	  Crashes at arbitrary moments of a concurrent load.
#
# Several sessions insert, update, delete, roll back, VACUUM, compact, rebuild
# and read; then the server is stopped at once, or one of its backends is
# killed.  The moments come from a pseudo-random sequence.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexTest;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

use constant CYCLES => 10;

my $node = alex_node('crash_load', <<'END');
alexam.memtable_entries = 300
wal_level = replica
max_wal_size = 1GB
END
$node->start;
create_test_table($node);
$node->safe_psql('postgres', 'SELECT fill(1, 10000)');
srand(20261122);

# pgbench scripts: their weights, and whether the sessions that work run them
# or the one that does maintenance.  A read through the alex index and one
# through the btree index must agree at any moment.
my %scripts = (
	write => [ 'work', 12, <<'END' ],
\set first random(1, 1000000)
\set old random(0, 10006)
\set new random(0, 10006)
SELECT fill(:first, :first + 40);
UPDATE t SET k = :new, b = :new WHERE b = :old;
DELETE FROM t WHERE b BETWEEN :old + 1 AND :old + 30;
END
	rollback => [ 'work', 2, <<'END' ],
\set first random(1, 1000000)
BEGIN;
SELECT fill(:first, :first + 100);
SAVEPOINT half;
SELECT fill(:first, :first + 100);
ROLLBACK TO half;
DELETE FROM t WHERE id BETWEEN :first AND :first + 50;
ROLLBACK;
END
	read => [ 'work', 6, <<'END' ],
\set low random(0, 10006)
SELECT 1 / (counts.alex = counts.btree)::int
FROM (SELECT (SELECT count(b) FROM t WHERE k BETWEEN :low AND :low + 200) AS alex,
		(SELECT count(k) FROM t WHERE b BETWEEN :low AND :low + 200) AS btree) AS counts;
END
	vacuum => [ 'maintain', 2, "VACUUM (TRUNCATE off) t;\n" ],
	compact => [ 'maintain', 1, "SELECT alex_compact('t_k');\n" ],
	reindex => [ 'maintain', 1, "REINDEX INDEX t_k;\n" ],
	checkpoint => [ 'maintain', 1, "CHECKPOINT;\n" ]);
my $sessions = q{pg_stat_activity
	WHERE application_name = 'load' AND backend_type = 'client backend'};
my %files;
foreach my $name (sort keys %scripts)
{
	my ($who, $weight, $script) = @{ $scripts{$name} };
	my $file = $node->basedir . "/$name.sql";

	append_to_file($file, $script);
	push(@{ $files{$who} }, '-f', "$file\@$weight");
}

# Starts the load of so many sessions.
sub start_load
{
	my ($who, $clients, $seed, $output) = @_;

	local $ENV{PGAPPNAME} = 'load';
	return IPC::Run::start(
		[
			'pgbench', '--no-vacuum', "--client=$clients", '--time=60',
			'--max-tries=10', "--random-seed=$seed",
			'-h', $node->host, '-p', $node->port, @{ $files{$who} }, 'postgres'
		],
		'>&', $output);
}

foreach my $cycle (1 .. CYCLES)
{
	my $kill = $cycle % 3 == 0;
	my $name = "cycle $cycle, " . ($kill ? 'a backend killed' : 'immediate stop');
	my $output = '';
	my $seed = int(rand(1e9));
	my @load = (
		start_load('work', 4, $seed, \$output),
		start_load('maintain', 1, $seed, \$output));
	my $moment = 300_000 + int(rand(700_000));
	my $victim = rand();

	# all of them are there; those that meet an error have gone
	while ($node->safe_psql('postgres', "SELECT count(*) FROM $sessions") < 5)
	{
		foreach my $load (@load)
		{
			$load->pump_nb;
			next if $load->pumpable;
			fail("$name: the load goes on");
			die $output;
		}
		usleep(10_000);
	}
	usleep($moment);
	if ($kill)
	{
		my @pids = split(/\n/,
			$node->safe_psql('postgres', "SELECT pid FROM $sessions ORDER BY pid"));

		is(kill('KILL', $pids[ $victim * @pids ]), 1, "$name: killed");
		wait_for_crash($node);
	}
	else
	{
		$node->stop('immediate');
	}
	$_->finish foreach @load;
	unlike($output, qr/ERROR:/, "$name: no error but the end of the server");

	# redo of some cycles is verified block by block
	$node->append_conf('postgresql.conf',
		"wal_consistency_checking = '" . ($cycle % 2 ? 'alexam' : '') . "'");
	$node->start;
	cmp_ok(compare_scans($node, 't', $name), '>', 0, "$name: there are rows");
	check_index($node, 't_k', $name);

	next if $cycle % 2;
	$node->safe_psql('postgres', 'VACUUM t');
	is((page_counts($node, 't_k'))[2], 0, "$name: VACUUM finds all orphans");
	$node->safe_psql('postgres', 'SELECT fill(1, 2000)');
	compare_scans($node, 't', "$name, after VACUUM");
	check_index($node, 't_k', "$name, after VACUUM");
}

$node->stop;
done_testing();
