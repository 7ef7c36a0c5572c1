# TorturePath.pm
#	  Lets a program of the torture tests use PostgreSQL::Test::Cluster.
#
# Used before any of PostgreSQL's modules, which look at their environment when
# they are loaded.  Options: bindir of an installation, directory to work in,
# seed, seconds; socket and port, which others take, are not needed.
#
# Copyright (c) 2026, alexam contributors

package TorturePath;

use strict;
use warnings;

use Cwd qw(abs_path);
use Exporter qw(import);
use File::Basename;
use File::Path qw(make_path);
use Getopt::Long;

our @EXPORT = qw(%options);
our %options;

BEGIN
{
	%options = (seed => 1, seconds => 50);
	GetOptions(\%options, 'seed=i', 'seconds=i', 'bindir=s', 'directory=s', 'socket=s', 'port=i')
	  && $options{bindir} && $options{directory}
	  or die "usage: $0 --bindir=DIR --directory=DIR [--seed=N] [--seconds=N]\n";
	my $pgxs = `$options{bindir}/pg_config --pgxs`;
	my $sources = dirname(dirname($pgxs));
	my $directory = "$options{directory}/" . basename($0);

	make_path($directory);
	$ENV{PATH} = "$options{bindir}:$ENV{PATH}";
	$ENV{PG_REGRESS} = "$sources/test/regress/pg_regress";
	$ENV{TESTDIR} = $directory;
	$ENV{TESTDATADIR} = "$directory/tmp_check";
	$ENV{TESTLOGDIR} = "$directory/tmp_check/log";
	$ENV{PGPORT} = 65432;
	unshift(@INC, "$sources/test/perl", abs_path(dirname(__FILE__) . '/../../tap'));
}

1;
