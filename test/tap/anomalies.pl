#!/usr/bin/perl
#
# anomalies.pl
#	  Serializable transactions come to the same end with an alex index as with
#	  a btree index.
#
# The specs of the isolation tests have a few permutations each.  Here the steps
# of these are put into other orders, and each is run with either index, with
# queries planned in several ways, and with seals in between.  SEED and
# ORDERS (how many orders of each permutation are tried) may be set.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use AlexIsolation;
use AlexTest;
use File::Basename;
use List::Util;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{SEED} // 1;
my $orders = $ENV{ORDERS} // 4;
my $specs = dirname(__FILE__) . '/../../specs';

note("seed $seed");
srand($seed);

my $node = alex_node('anomalies', <<'END');
max_prepared_transactions = 10
END
$node->start;
isolation_databases(
	$node,
	{
		alex => 'CREATE SCHEMA e; CREATE EXTENSION alexam SCHEMA e',
		btree => 'CREATE SCHEMA e; CREATE FUNCTION e.alex_compact(regclass) RETURNS void BEGIN ATOMIC END'
	});

# A random order of the steps of a permutation: those of a session stay in their
# order, and the last step, if it is a session's that looks at the end, last.
# Steps that seal come and go.
sub reorder
{
	my ($session_of, @steps) = @_;
	my @end = ($session_of->{ $steps[-1] } eq 'other') ? pop(@steps) : ();
	my %queues;
	my @order;

	push(@{ $queues{ $session_of->{$_} } }, $_) foreach grep { $session_of->{$_} ne 'other' } @steps;
	while (my @left = sort grep { @{ $queues{$_} } } keys %queues)
	{
		push(@order, 'seal') if rand() < 0.15;
		push(@order, shift(@{ $queues{ $left[ rand(@left) ] } }));
	}
	return join(' ', @order, @end);
}

my $permutations = 0;
foreach my $name (qw(write-skew read-only-anomaly phantoms unique-skew))
{
	my $text = slurp_file("$specs/$name.spec");
	my @permutations = $text =~ /^permutation +(.*)$/mg;
	my (%session_of, $session);

	foreach my $line (split(/\n/, $text))
	{
		$session = $1 if $line =~ /^session (\w+)/;
		$session_of{$1} = $session if $line =~ /^step (\w+)/;
	}
	$text =~ s/^permutation.*\n//mg;
	$text =~ s/^\s*CREATE EXTENSION.*\n/\tSET search_path = public;\n/mg;

	foreach my $way ('index', 'bitmap', 'parallel')
	{
		# who waits to be serializable must not be told to go on before others do
		my %chosen = map { $_ => 1 }
		  map { my @steps = split(/ /, $_); map { reorder(\%session_of, @steps) } 1 .. $orders }
		  grep { !/defer/ } @permutations;
		my $alex_text = $text . join('', map { "permutation $_\n" } sort keys %chosen);
		my $btree_text = $alex_text =~ s/USING alex/USING btree/gr;

		plan_by($node, $way,
			{
				search_path => 'public, e',
				lock_timeout => 300,
				'alexam.use_mmap' => rand() < 0.5 ? 'on' : 'off',
				'alexam.memtable_entries' => rand() < 0.5 ? 100 : 10000
			});
		my ($btree, $alex, $tries) = compare_outcomes($node, $name, $btree_text, $alex_text);
		my $failures = () = $btree =~ /could not serialize access/g;

		$permutations += scalar keys %chosen;
		cmp_ok($failures, '>', 0, "$name ($way): there are serialization failures")
		  || diag(substr($alex, 0, 2000));
		ok($alex eq $btree, "$name ($way): as with btree") || diag(difference($btree, $alex));
		note(scalar(keys %chosen) . " permutations, $failures serialization failures, $tries tries");
	}
}
note("$permutations permutations");
$node->stop;
done_testing();
