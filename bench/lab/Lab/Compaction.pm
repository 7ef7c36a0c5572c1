#
# Lab::Compaction
#	  What compaction in the background takes from those who use the table.
#
# Copyright (c) 2026, alexam contributors

package Lab::Compaction;

use strict;
use warnings;

use List::Util qw(max sum0);
use Lab::Mixed;
use Lab::Upkeep;

our @names = qw(compaction_cost compaction_share);

my $batches = 8;
my $clients = 2;

sub set_compaction
{
	my ($server, $state) = @_;

	$server->do("ALTER SYSTEM SET alexam.background_compaction = $state",
		'SELECT pg_reload_conf()', 'SELECT pg_sleep(0.5)');
	return;
}

# Runs for the compaction to merge, of which the last one asks for it.
sub add_run
{
	my ($tables, $number) = @_;
	my $step = 20;

	$tables->{server}->do("INSERT INTO t_alex SELECT k + 3 * $number, v FROM t_none "
		  . "WHERE v % $step = $number % $step");
	return;
}

# Throughput beside compaction is compared with the mean of those before and
# after it, since fewer runs are faster to read.
sub compaction
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $run = sub { Lab::Mixed::transactions_per_second($lab, $tables, 50, 'alex', $clients, @_) };

	return if !grep { $results->is_wanted($where, $_) } @names;
	Lab::Upkeep::rebuild($lab, $tables, qw(alex none));
	$server->do('SET alexam.direct_seal_threshold = 1000');
	foreach my $round (1 .. $lab->{settings}{write_rounds})
	{
		my @busy;
		my $first = ($round - 1) * $batches;

		set_compaction($server, 'off');
		add_run($tables, $first + $_) foreach (1 .. $batches - 1);
		$server->settle;
		my $before = $run->();

		set_compaction($server, 'on');
		add_run($tables, $first + $batches);
		my $beside = $run->(sub { push(@busy, $server->workers > 0 ? 1 : 0) });
		$server->settle;
		my $after = $run->();

		$results->add($where, 'compaction_cost', '%', 'alex',
			100 * (1 - 2 * $beside / ($before + $after)));
		$results->add($where, 'compaction_share', '%', 'alex',
			100 * sum0(@busy) / max(scalar(@busy), 1));
	}
	$server->do('RESET alexam.direct_seal_threshold',
		'ALTER SYSTEM RESET alexam.background_compaction', 'SELECT pg_reload_conf()');
	$results->announce($where, $_) foreach (@names);
	return;
}

1;
