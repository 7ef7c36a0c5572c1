#!/usr/bin/perl
#
# lab.pl
#	  Runs the workloads of the bench lab; started by run, which sees to the
#	  server and the environment.
#
# Copyright (c) 2026, alexam contributors

use strict;
use warnings;

use List::Util qw(max);
use Time::HiRes qw(time);

use Lab::Compaction;
use Lab::Embedded;
use Lab::Micro;
use Lab::Mixed;
use Lab::Plots;
use Lab::Reads;
use Lab::Report;
use Lab::Results;
use Lab::Server;
use Lab::Settings;
use Lab::Tables;
use Lab::Upkeep;
use Lab::Writes;

$| = 1;
my $begin    = time;
my $settings = Lab::Settings::from_environment();
my $lab      = {
	settings => $settings,
	results  => Lab::Results->new($settings),
	server   => Lab::Server->new };

my $largest = max(@{ $settings->{sizes} });

# Everything, or what is measured of keys other than the main ones.
my @everything =
  (@Lab::Reads::names, @Lab::Writes::names, @Lab::Upkeep::names, @Lab::Mixed::names,
	@Lab::Compaction::names);
my @less = (@Lab::Reads::names, grep { /^insert/ } @Lab::Writes::names);

sub is_any_wanted
{
	my ($where, @names) = @_;

	return grep { $lab->{results}->is_wanted($where, $_) } @names;
}

sub states_of
{
	my ($where) = @_;

	return map { { %$where, state => $_ } } qw(half runs8);
}

sub measure
{
	my ($where, $all) = @_;
	my @subjects = @Lab::Tables::all;

	return
	  if !is_any_wanted($where, $all ? @everything : @less)
	  && !($all && grep { is_any_wanted($_, @Lab::Reads::state_names) } states_of($where));

	printf "== %s, %s rows (%d s so far)\n", $where->{keys},
	  Lab::Settings::show_number($where->{rows}), time - $begin;
	my $tables = Lab::Tables->new($lab, $where);

	Lab::Reads::build($lab, $tables);
	Lab::Reads::reads($lab, $tables, \@subjects, @Lab::Reads::names);
	Lab::Embedded::note_answers($lab, $tables) if $all;
	if ($all)
	{
		Lab::Writes::writes($lab, $tables);
		Lab::Embedded::embedded($lab, $tables);
		Lab::Mixed::mixed($lab, $tables) if $where->{rows} >= $settings->{mixed_least};
		Lab::Upkeep::recovery($lab, $tables);
		Lab::Upkeep::upkeep($lab, $tables);
		Lab::Upkeep::states($lab, $tables);
		Lab::Compaction::compaction($lab, $tables)
		  if $where->{keys} eq 'uniform' && $where->{rows} == $largest;
	}
	else
	{
		Lab::Writes::bulk($lab, $tables, 'insert');
		Lab::Writes::check_tables($lab, $tables);
	}
	$tables->drop_tables;
	return;
}

Lab::Micro::measure($lab);
$lab->{server}->do('CREATE EXTENSION alexam');
foreach my $rows (sort { $a <=> $b } @{ $settings->{sizes} })
{
	measure({ keys => $_, rows => $rows }, 1) foreach (@Lab::Settings::main_keys);
}
measure({ keys => $_, rows => $settings->{other_size} }, 0) foreach (@Lab::Settings::other_keys);
measure({ keys => 'file', rows => $largest }, 0) if $settings->{file};

die "ONLY selects no figure\n" if !$lab->{results}->figures && !$lab->{micro};
my $out = "$ENV{WORK}/out";
$lab->{results}->write_csv("$out/results.csv");
my @plots = Lab::Plots::plots($lab, $out);
Lab::Report::report($lab, $out, \@plots, time - $begin);
