#
# Lab::Report
#	  The report: tables of ratios, the roadmap, all figures.
#
# Copyright (c) 2026, alexam contributors

package Lab::Report;

use strict;
use warnings;

use List::Util qw(max min);
use Lab::Results;
use Lab::Roadmap;
use Lab::Settings;

my %titles = (
	build         => 'CREATE INDEX',
	size          => 'size of the index',
	point_hit     => 'point query, row fetched',
	point_zipf    => 'the same, by Zipf\'s law',
	point_miss    => 'point query, absent key',
	index_only    => 'point query, index only',
	range_10      => '10 rows in order',
	range_1000    => '1,000 rows in order',
	last_100      => '100 rows, backward',
	range_wide    => 'one wide range',
	count_all     => 'count of all, index only',
	in_list       => '= ANY of 10,000 keys',
	insert        => 'INSERT ... SELECT, whole row',
	insert_index  => 'INSERT ... SELECT, index alone',
	insert_row_wal => 'INSERT ... SELECT, WAL of a row',
	insert_wal    => 'INSERT ... SELECT, WAL of the index',
	copy          => 'COPY, whole row',
	copy_index    => 'COPY, index alone',
	copy_row_wal  => 'COPY, WAL of a row',
	copy_wal      => 'COPY, WAL of the index',
	batches       => 'transactions of 1,000 rows, whole row',
	batches_index => 'transactions of 1,000 rows, index alone',
	singles       => 'transactions of one row, whole row',
	singles_index => 'transactions of one row, index alone',
	vacuum        => 'VACUUM after deleting 10 %, index alone',
	window_size   => 'sliding window: largest size / fresh size',
	churn_size    => 'updates without VACUUM: largest size / fresh size',
	recovery      => 'crash recovery and first answer, rows in the log',
	memory        => 'memory for warm probes',
	compaction_cost  => 'throughput lost beside compaction',
	compaction_share => 'share of that time with compaction at work',
	mixed50_1     => '50 % reads, 50 % insertions, 1 client',
	mixed50_2     => '50 % reads, 50 % insertions, 2 clients',
	mixed50_8     => '50 % reads, 50 % insertions, 8 clients',
	mixed95_1     => '95 % reads, 5 % insertions, 1 client',
	mixed95_2     => '95 % reads, 5 % insertions, 2 clients',
	mixed95_8     => '95 % reads, 5 % insertions, 8 clients');

my %states = (
	fresh => 'fresh index',
	half  => 'memtable half full',
	runs8 => 'eight runs');

my @peers = grep { $_ ne 'alex' } @Lab::Results::subjects;

my $preface = <<'END';
All subjects were measured in one run, on the same rows in the same order, taking turns. A
ratio says how many times better alex is (less time, less space, more transactions a second);
below 1, the peer is better. Medians; least, greatest and number of rounds are in results.csv.
A figure whose answers differ between the subjects would have ended the run.

*Whole row* is a row through SQL into a table with the index; *index alone* is that minus the
same on a table without any index. Transactions of one row and of 1,000 are those of a
procedure: a client would spend more on each message than the server on the row. SQLite, RocksDB
and DuckDB (where it is installed) are embedded: no server, no protocol, no concurrent sessions. There, a row is inserted through their own interface, into a table by its
number and an index by its key; their point queries find the index entry, then the row, as ours
do. No commit waits for the disk, except DuckDB's, which cannot do otherwise.
END

sub table
{
	my ($figures) = @_;
	my @used = grep {
		my $peer = $_;
		grep { defined Lab::Results::median_of($_, $peer) } @$figures
	} @peers;
	my $text = '| workload | unit | alex | ' . join(' | ', @used) . " |\n";

	$text .= '|---|---|' . ('---:|' x (1 + @used)) . "\n";
	foreach my $figure (@$figures)
	{
		my @cells;

		foreach my $peer (@used)
		{
			my $median = Lab::Results::median_of($figure, $peer);
			my $ratio  = Lab::Results::ratio($figure, $peer);

			push(@cells, !defined $median ? ''
				: !defined $ratio ? Lab::Results::show($median)
				: Lab::Results::show($median) . ' (**' . Lab::Results::show($ratio) . '**)');
		}
		$text .= sprintf("| %s | %s | %s | %s |\n", $titles{ $figure->{workload} },
			$figure->{unit}, Lab::Results::show(Lab::Results::median_of($figure, 'alex')),
			join(' | ', @cells));
	}
	return $text;
}

sub sections
{
	my ($results) = @_;
	my (%groups, @order);

	foreach my $figure ($results->figures)
	{
		my $title = "$figure->{keys} keys, " . Lab::Settings::show_number($figure->{rows})
		  . " rows, $states{ $figure->{state} }";

		push(@order, $title) if !$groups{$title};
		push(@{ $groups{$title} }, $figure);
	}
	return map { [ $_, $groups{$_} ] } @order;
}

# Why btree may be ahead, by workload.
my @reasons = (
	[ qr/^(range_|last_)/ => 'most of it is fetching rows; several runs, or runs and the memtable, are merged while they are read' ],
	[ qr/^(point_|index_only|in_list)/ => 'each run that may have the key is looked into' ],
	[ qr/^(insert|copy|batches|singles)/ => "a statement's fixed costs, of which alex has more, among them opening the index and its log" ],
	[ qr/^vacuum$/ => 'runs with deleted entries are written anew, and a small index has its fixed costs' ],
	[ qr/^memory$|_size$/ => 'a merged run is written before the runs it replaces are freed, and a small index is mostly pages that every index has' ],
	[ qr/^mixed/ => 'clients, sessions and compaction share the processors' ],
	[ qr/^recovery$/ => 'starting the server is most of it' ]);

# Whether the samples of the two lie apart.
sub is_clear
{
	my ($figure, $peer) = @_;
	my ($ours, $theirs) = @{ $figure->{samples} }{ 'alex', $peer };

	return max(@$ours) < min(@$theirs) || min(@$ours) > max(@$theirs);
}

# Where alex is behind btree and by how much, gathered by the reason why.
sub losses
{
	my ($results) = @_;
	my (%lines, @order);

	foreach my $figure ($results->figures)
	{
		my $ratio = Lab::Results::ratio($figure, 'btree');

		next if !defined $ratio || $ratio >= 0.97;
		my ($reason) = map { $_->[1] } grep { $figure->{workload} =~ $_->[0] } @reasons;
		$reason //= 'not known';
		push(@order, $reason) if !$lines{$reason};
		push(@{ $lines{$reason} }, sprintf("  - %s: %s of btree%s\n", $figure->{name},
			Lab::Results::show($ratio),
			is_clear($figure, 'btree') ? '' : ', rounds of both overlap'));
	}
	return map { ("- Why: $_\n", @{ $lines{$_} }) } @order;
}

sub report
{
	my ($lab, $out, $plots, $seconds) = @_;
	my $results = $lab->{results};
	my @losses  = losses($results);
	my @roadmap = Lab::Roadmap::rows($lab);

	open(my $file, '>', "$out/report.md") or die "$out/report.md: $!\n";
	printf $file "# alex against its peers\n\n%s\nMode %s, %d s, %s, shared_buffers %s, huge pages %s.\n",
	  $preface, $lab->{settings}{mode}, $seconds,
	  $lab->{server}->value("SELECT split_part(version(), ' on ', 1)"),
	  map { $lab->{server}->value("SHOW $_") } qw(shared_buffers huge_pages);
	print $file "\n## Roadmap\n\n", Lab::Roadmap::table(@roadmap) if @roadmap;
	print $file "\n## Where btree is ahead\n\n", @losses ? @losses : "Nowhere in this run.\n";
	print $file "\n## $_->[0]\n\n", table($_->[1]) foreach (sections($results));
	print $file "\n## Plots\n" if @$plots;
	print $file "\n$_->[1]:\n\n![$_->[1]]($_->[0])\n" foreach (@$plots);
	print $file "\n## The learned room by itself (`make bench-micro`)\n\n```\n",
	  (map { s/^# //r } @{ $lab->{micro} }), "```\n"
	  if $lab->{micro};
	print $file "\n## Commands\n\nEach figure can be repeated by its name, which is in results.csv:\n"
	  . "`make bench ONLY='^uniform/1M/fresh/point_hit\$'`.\n";
	close($file) or die "$out/report.md: $!\n";

	print "\n";
	foreach my $row (@roadmap)
	{
		printf "%-58s %-12s %-10s %s\n", @$row{qw(target measured wanted verdict)};
	}
	return;
}

1;
