#
# Lab::Reads
#	  Builds and reads: CREATE INDEX, size, probes, ranges.
#
# Copyright (c) 2026, alexam contributors

package Lab::Reads;

use strict;
use warnings;

use List::Util qw(min);
use Lab::Settings;

my $probes = 'SELECT count(t.v), sum(t.v) FROM %s p JOIN t_%s t ON t.k = p.k';

# Summing up keys: among rows with equal ones, a limit may choose any.
my $ordered = <<'END';
SELECT count(x.v), sum(x.k) FROM (SELECT k FROM ranges LIMIT %d) s,
	LATERAL (SELECT k, v FROM t_%s WHERE k %s s.k ORDER BY k %s LIMIT %d) x
END

# Subjects that can, unit, number of operations (of which the unit is one), and
# the query, in which SUBJECT is to be replaced.
sub reads_of
{
	my ($tables) = @_;
	my $n      = $tables->{probes};
	my $list   = min($n, 10_000);
	my $width  = min(1_000_000, int($tables->{rows} / 2));
	my @sorted = qw(alex btree);
	my @probed = qw(alex btree hash);
	my $probe  = sub { sprintf($probes, $_[0], 'SUBJECT') };
	my $some   = sub { sprintf($ordered, $_[0], 'SUBJECT', @_[ 1 .. 3 ]) };

	return (
		[ 'point_hit',  'us', $n, \@probed, $probe->('hit') ],
		[ 'point_zipf', 'us', $n, \@probed, $probe->('zipf') ],
		[ 'point_miss', 'us', $n, \@probed, $probe->('miss') ],
		[ 'index_only', 'us', $n, \@sorted,
			'SELECT count(t.k), bit_xor(t.k) FROM hit p JOIN t_SUBJECT t ON t.k = p.k' ],
		[ 'range_10',   'us', 200, \@sorted, $some->(200, '>=', 'ASC', 10) ],
		[ 'range_1000', 'us', 200, \@sorted, $some->(200, '>=', 'ASC', 1000) ],
		[ 'last_100',   'us', 200, \@sorted, $some->(200, '<=', 'DESC', 100) ],
		[ 'range_wide', 'ms', 1, [ qw(alex btree brin none) ],
			"SELECT count(v), sum(v) FROM t_SUBJECT WHERE k BETWEEN LOW AND HIGH", $width ],
		[ 'count_all', 'ms', 1, \@sorted,
			'SELECT count(k) FROM t_SUBJECT WHERE k >= 0' ],
		[ 'in_list', 'us', $list, \@sorted,
			"SELECT count(v), sum(v) FROM t_SUBJECT WHERE k = ANY(ARRAY(SELECT k FROM hit LIMIT $list))"
		]);
}

our @names = (qw(build size point_hit point_zipf point_miss index_only range_10 range_1000
	  last_100 range_wide count_all in_list));

# What the figures of states other than a fresh index consist of.
our @state_names = (qw(point_hit point_miss index_only range_1000 last_100));

sub build
{
	my ($lab, $tables) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});
	my $rounds = $results->is_wanted($where, 'build') ? $lab->{settings}{build_rounds} : 1;

	foreach my $round (1 .. $rounds)
	{
		foreach my $subject (Lab::Settings::turns($round, @Lab::Tables::indexed))
		{
			$server->do("DROP INDEX IF EXISTS t_${subject}_k");
			my $time = $server->timed($tables->make_index($subject));
			$results->add($where, 'build', 'ms', $subject, $time);
		}
	}
	foreach my $subject (@Lab::Tables::indexed)
	{
		my $size = $server->value("SELECT pg_relation_size('t_${subject}_k')");
		$results->add($where, 'size', 'B/row', $subject, $size / $tables->{rows});
	}
	$tables->tidy;
	$results->announce($where, $_) foreach (qw(build size));
	return;
}

# A BRIN index is read by bitmaps only, the others by ordinary scans.
sub set_plans
{
	my ($server, $subject) = @_;
	my $bitmap = $subject eq 'brin' ? 'on' : 'off';

	$server->do("SET enable_bitmapscan = $bitmap");
	return;
}

sub range_bounds
{
	my ($server, $width) = @_;
	my $low = $server->value('SELECT k FROM t_btree ORDER BY k OFFSET '
		  . "(SELECT (count(*) - $width) / 2 FROM t_none) LIMIT 1");
	my $high = $server->value(
		"SELECT max(k) FROM (SELECT k FROM t_btree WHERE k >= $low ORDER BY k LIMIT $width) s");

	return ($low, $high);
}

# Of the subjects given, those that can; of the workloads, those given.
sub reads
{
	my ($lab, $tables, $present, @wanted) = @_;
	my ($results, $where, $server) = ($lab->{results}, $tables->{where}, $lab->{server});

	foreach my $read (reads_of($tables))
	{
		my ($workload, $unit, $operations, $subjects, $query, $width) = @$read;
		my $factor = $unit eq 'us' ? 1000 : 1;

		next if !grep { $_ eq $workload } @wanted;
		next if !$results->is_wanted($where, $workload);
		next if $workload eq 'in_list' && $where->{keys} eq 'duplicates';
		if ($width)
		{
			my ($low, $high) = range_bounds($server, $width);
			$query =~ s/LOW/$low/;
			$query =~ s/HIGH/$high/;
		}
		# the first round is for the caches
		foreach my $round (0 .. $lab->{settings}{rounds})
		{
			foreach my $subject (Lab::Settings::turns($round, @$subjects))
			{
				next if !grep { $_ eq $subject } @$present;
				set_plans($server, $subject);
				my ($time, $answer) = $server->timed_query($query =~ s/SUBJECT/$subject/gr);
				$results->add($where, $workload, $unit, $subject,
					$factor * $time / $operations, $answer)
				  if $round > 0;
			}
		}
		$results->end_round($where, $workload);
		$results->announce($where, $workload);
	}
	return;
}

1;
