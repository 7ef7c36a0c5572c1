#
# Lab::Mixed
#	  pgbench: reads and insertions at once, by several clients.
#
# Copyright (c) 2026, alexam contributors

package Lab::Mixed;

use strict;
use warnings;

use Lab::Results;
use Lab::Server;
use Lab::Settings;

our @clients = (1, 2, 8);
our @names;

# How many of a hundred transactions read.
my @shares = (50, 95);

foreach my $reads (@shares)
{
	push(@names, "mixed${reads}_$_") foreach (@clients);
}

# The script for a subject, made from the one in bench/pgbench.
sub script_for
{
	my ($tables, $subject) = @_;
	my $path = "$tables->{files}/mixed.$subject.sql";

	open(my $in, '<', "$ENV{WORK}/pgbench/mixed.sql") or die "mixed.sql: $!\n";
	open(my $out, '>', $path) or die "$path: $!\n";
	while (my $line = <$in>)
	{
		print $out $line =~ s/SUBJECT/$subject/gr;
	}
	close($in);
	close($out) or die "$path: $!\n";
	return $path;
}

# Of these many clients; the function, if one is given, is called meanwhile.
sub transactions_per_second
{
	my ($lab, $tables, $reads, $subject, $clients, $meanwhile) = @_;
	my @lines = Lab::Server::run_beside(
		$meanwhile, "$ENV{BINDIR}/pgbench", '--no-vacuum', '--protocol=prepared',
		"--client=$clients", '--jobs=' . ($clients > 1 ? 2 : 1),
		"--time=$lab->{settings}{duration}", '--random-seed=1',
		"--define=reads=$reads", "--define=rows=$tables->{rows}",
		'--define=uniform=' . ($tables->{where}{keys} eq 'uniform' ? 1 : 0),
		'--file=' . script_for($tables, $subject), 'postgres');

	foreach my $line (@lines)
	{
		return $1 if $line =~ /^tps = ([0-9.]+)/;
	}
	die "pgbench says nothing of transactions per second\n";
}

sub mixed
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});

	foreach my $reads (@shares)
	{
		foreach my $clients (@clients)
		{
			my $workload = "mixed${reads}_$clients";

			next if !$results->is_wanted($where, $workload);
			foreach my $round (1 .. $lab->{settings}{write_rounds})
			{
				foreach my $subject (Lab::Settings::turns($round, qw(alex btree)))
				{
					$server->do('DROP SEQUENCE IF EXISTS next_key',
						'CREATE SEQUENCE next_key START '
						  . $server->value("SELECT max(k) + 1 FROM t_$subject WHERE k >= 0"))
					  if $where->{keys} eq 'sequential';
					$server->do('CHECKPOINT');
					$server->settle;
					$results->add($where, $workload, 'tps', $subject,
						transactions_per_second($lab, $tables, $reads, $subject, $clients));
				}
			}
			$results->announce($where, $workload);
		}
	}
	$server->do('DROP SEQUENCE IF EXISTS next_key');
	return;
}

1;
