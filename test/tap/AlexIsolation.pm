# AlexIsolation.pm
#	  Isolation specs run with btree and with alex indexes.
#
# A node has two databases, btree and alex.  What isolationtester makes of two
# versions of a spec there must be the same.
#
# Copyright (c) 2026, alexam contributors

package AlexIsolation;

use strict;
use warnings;

use Exporter qw(import);
use File::Basename;
use IPC::Run;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(isolation_databases plan_by compare_outcomes difference);

# The ways to plan: settings of both databases.
our %ways = (
	default => {},
	index => { enable_seqscan => 'off', enable_bitmapscan => 'off' },
	bitmap => {
		enable_seqscan => 'off',
		enable_indexscan => 'off',
		enable_indexonlyscan => 'off'
	},
	parallel => {
		enable_seqscan => 'off',
		enable_bitmapscan => 'off',
		parallel_setup_cost => 0,
		parallel_tuple_cost => 0,
		min_parallel_index_scan_size => 0,
		min_parallel_table_scan_size => 0,
		force_parallel_mode => 'on'
	});

my $directory = PostgreSQL::Test::Utils::tempdir();

sub isolation_databases
{
	my ($node, $sql) = @_;

	foreach my $flavour ('btree', 'alex')
	{
		$node->safe_psql('postgres', "CREATE DATABASE $flavour");
		$node->safe_psql($flavour, $sql->{$flavour});
	}
}

# Has new sessions of both databases plan in one of the ways.
sub plan_by
{
	my ($node, $way, $more) = @_;
	my %settings = (%{ $ways{$way} }, %{ $more || {} });

	foreach my $flavour ('btree', 'alex')
	{
		$node->safe_psql('postgres', join('', "ALTER DATABASE $flavour RESET ALL;",
			map { "ALTER DATABASE $flavour SET $_ = $settings{$_};" } sort keys %settings));
	}
}

# What isolationtester makes of a spec.  Whatever a spec that was broken off
# has left is removed before.
sub outcome
{
	my ($node, $flavour, $name, $text) = @_;
	my $isolationtester = dirname($ENV{PG_REGRESS}) . '/../isolation/isolationtester';
	my ($output, $errors) = ('', '');

	local $ENV{PGAPPNAME} = "$name/$flavour";
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	$node->safe_psql($flavour, <<'SQL');
SET client_min_messages = error;
DROP SCHEMA IF EXISTS public, reindex_schema CASCADE;
CREATE SCHEMA public;
GRANT ALL ON SCHEMA public TO public;
SQL
	IPC::Run::run([ $isolationtester, "dbname=$flavour" ],
		'<', \$text, '>', \$output, '2>', \$errors, IPC::Run::timer(900));

	# steps are shown as they are in the spec
	$output =~ s/ USING (alex|btree)//g;
	return $output . $errors;
}

# The outcomes of both versions of a spec, and the number of tries: some
# outcomes are a matter of luck, with either access method.
sub compare_outcomes
{
	my ($node, $name, $btree_text, $alex_text) = @_;
	my ($btree, $alex);

	foreach my $try (1 .. 3)
	{
		$btree = outcome($node, 'btree', $name, $btree_text);
		$alex = outcome($node, 'alex', $name, $alex_text);
		return ($btree, $alex, $try) if $alex eq $btree || $try == 3;
	}
}

# What diff says of two outcomes.
sub difference
{
	my @outcomes = @_;
	my @files = ("$directory/btree", "$directory/alex");
	my $output = '';

	append_to_file($files[$_], $outcomes[$_]) foreach (0, 1);
	IPC::Run::run([ 'diff', '-u', @files ], '>', \$output);
	unlink(@files);
	return substr($output, 0, 20_000);
}

1;
