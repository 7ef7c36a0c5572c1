#!/usr/bin/perl
#
# recovery.pl
#	  Archive recovery to points in the midst of things, base backups under
#	  load, pg_rewind.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexStandby;
use AlexTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = replicated_node('primary', '', has_archiving => 1);

sub on_primary
{
	my ($sql) = @_;

	return $primary->safe_psql('postgres', $sql);
}

# What changes an index and its table in every way.
sub churn
{
	my ($node, $table, $from) = @_;

	$node->safe_psql('postgres', <<"END");
INSERT INTO $table SELECT $from + i, $from + i FROM generate_series(1, 500) i;
DELETE FROM $table WHERE k % 5 = 1;
VACUUM $table;
INSERT INTO $table SELECT $from + i, $from + i FROM generate_series(1, 150) i;
SELECT alex_compact('${table}_k');
SELECT txid_current();
VACUUM $table;
INSERT INTO $table SELECT $from + i, $from + i FROM generate_series(1, 120) i;
END
}

#
# Recovery to a named point or an LSN: the steps between which a crash would
# leave the index are taken one by one
#
my %points;

# From now on a recovery to this point must find what the table has now.
sub mark_point
{
	my ($name, $by_lsn) = @_;
	my $digest = on_primary('SELECT count(*), sum(k), sum(hashint8(k)) FROM r');
	my $target =
	  $by_lsn
	  ? "recovery_target_lsn = '" . on_primary('SELECT pg_current_wal_insert_lsn()') . "'"
	  : "recovery_target_name = '$name'";

	on_primary("SELECT pg_create_restore_point('$name')");
	$points{$name} = [ $target, $digest ];
}

# Has the step end with an error at a failpoint.
sub stop_at
{
	my ($failpoint, $sql) = @_;
	my ($status, $output, $errors) =
	  $primary->psql('postgres', "SET alexam.failpoint = '$failpoint';\n$sql");

	like($errors, qr/failpoint "$failpoint" reached/, "stopped at $failpoint");
}

make_table($primary, 'r', 600);
on_primary('SET alexam.memtable_entries = 10000;
	INSERT INTO r SELECT 20000 + i, 20000 + i FROM generate_series(1, 260) i');
mark_point('log', 1);
stop_at('seal-after-freeze', "SELECT alex_compact('r_k')");
mark_point('frozen', 0);
stop_at('seal-before-install', "SELECT alex_compact('r_k')");
on_primary('SET alexam.memtable_entries = 10000;
	DELETE FROM r WHERE k % 10 = 3; VACUUM r;
	INSERT INTO r SELECT 30000 + i, 30000 + i FROM generate_series(1, 60) i');
mark_point('vacuumed', 1);
stop_at('compact-after-install', "SELECT alex_compact('r_k')");
mark_point('compacted', 0);
churn($primary, 'r', 40000);
mark_point('end', 0);
my $last = on_primary('SELECT pg_walfile_name(pg_current_wal_lsn())');
on_primary('DROP TABLE r; SELECT pg_switch_wal()');
$primary->poll_query_until('postgres',
	"SELECT last_archived_wal >= '$last' FROM pg_stat_archiver")
  or die 'WAL is not archived';

foreach my $name (sort keys %points)
{
	my ($target, $digest) = @{ $points{$name} };
	my $node = PostgreSQL::Test::Cluster->new("at_$name");

	$node->init_from_backup($primary, 'base', has_restoring => 1);
	$node->append_conf('postgresql.conf', <<"END");
$target
recovery_target_action = pause
recovery_target_timeline = current
archive_mode = off
END
	$node->start;
	$node->poll_query_until('postgres', "SELECT pg_get_wal_replay_pause_state() = 'paused'")
	  or die 'recovery does not come to its target';
	is($node->safe_psql('postgres', 'SELECT count(*), sum(k), sum(hashint8(k)) FROM r'),
		$digest, "recovered to $name");
	compare_scans($node, 'r', "recovered to $name");
	check_index($node, 'r_k', "recovered to $name");
	$node->promote;
	compare_scans($node, 'r', "promoted at $name");
	churn($node, 'r', 50000);
	compare_scans($node, 'r', "changed after recovery to $name");
	check_index($node, 'r_k', "changed after recovery to $name");
	$node->stop;
}

#
# A base backup under load is consistent
#
make_table($primary, 'l', 3000);
on_primary('CREATE SEQUENCE s');
my $script = <<'END';
\set key random(1, 100000)
INSERT INTO l SELECT :key + i, :key + i FROM generate_series(1, 20) i;
DELETE FROM l WHERE k BETWEEN :key - 40 AND :key;
END
my $upkeep = <<'END';
VACUUM l;
SELECT alex_compact('l_k');
END
my $directory = PostgreSQL::Test::Utils::tempdir();
append_to_file("$directory/load.sql", $script);
append_to_file("$directory/upkeep.sql", $upkeep);
my $output = '';
my $load = IPC::Run::start(
	[
		'pgbench', '-n', '-c', '3', '-T', '60',
		'-f', "$directory/load.sql\@30",
		'-f', "$directory/upkeep.sql\@1",
		$primary->connstr('postgres')
	],
	'>', \$output, '2>', \$output);
$primary->poll_query_until('postgres', 'SELECT count(*) > 0 FROM l WHERE k > 50000')
  or die 'there is no load';
$primary->backup('under_load');
IPC::Run::kill_kill($load);

my $copy = PostgreSQL::Test::Cluster->new('copy');
$copy->init_from_backup($primary, 'under_load');
$copy->append_conf('postgresql.conf', 'archive_mode = off');
$copy->start;
compare_scans($copy, 'l', 'base backup under load');
check_index($copy, 'l_k', 'base backup under load');
churn($copy, 'l', 200000);
compare_scans($copy, 'l', 'base backup after changes');
check_index($copy, 'l_k', 'base backup after changes');
$copy->stop;

#
# pg_rewind: both sides change the same index after the promotion
#
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'under_load', has_streaming => 1);
$standby->append_conf('postgresql.conf', 'archive_mode = off');
$standby->start;
catch_up($primary, $standby);
$standby->promote;
# pg_rewind learns of the new timeline from the control file
$standby->safe_psql('postgres', 'CHECKPOINT');
on_primary('INSERT INTO l SELECT 300000 + i, 300000 + i FROM generate_series(1, 100) i');
churn($primary, 'l', 300000);
churn($standby, 'l', 400000);
$primary->stop;
my $configuration = slurp_file($primary->data_dir . '/postgresql.conf');
command_ok(
	[
		'pg_rewind', '--no-sync',
		'--target-pgdata', $primary->data_dir,
		'--source-server', $standby->connstr('postgres')
	],
	'pg_rewind');
unlink($primary->data_dir . '/postgresql.conf');
append_to_file($primary->data_dir . '/postgresql.conf', $configuration);
$primary->enable_streaming($standby);
$primary->start;
catch_up($standby, $primary);
is( $primary->safe_psql('postgres', 'SELECT count(*), sum(k) FROM l'),
	$standby->safe_psql('postgres', 'SELECT count(*), sum(k) FROM l'),
	'the rewound server follows');
foreach my $node ($primary, $standby)
{
	compare_scans($node, 'l', 'after pg_rewind, on ' . $node->name);
	check_index($node, 'l_k', 'after pg_rewind, on ' . $node->name);
}
churn($standby, 'l', 500000);
catch_up($standby, $primary);
compare_scans($primary, 'l', 'changes after pg_rewind');
check_index($primary, 'l_k', 'changes after pg_rewind');

done_testing();
