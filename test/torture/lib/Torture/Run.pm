# Run.pm
#	  What the programs of the torture tests share: options, a cluster with
#	  drawn settings, a crew, verification, and the report of a fault.
#
# Copyright (c) 2026, alexam contributors

package Torture::Run;

use strict;
use warnings;

use Cwd qw(abs_path);
use File::Path qw(make_path remove_tree);
use Getopt::Long;
use List::Util qw(sum0);
use Time::HiRes qw(time);
use Torture::Cluster;
use Torture::Crew;
use Torture::Load;
use Torture::Random;
use Torture::Tables qw(draw_tables create_tables);

sub options
{
	my %options = (seconds => 45, sessions => 4, seed => 1, cycles => 0);

	GetOptions(\%options, 'seed=i', 'seconds=i', 'sessions=i', 'cycles=i', 'bindir=s',
		'directory=s', 'socket=s', 'port=i', 'failpoint=s')
	  && $options{bindir} && $options{directory}
	  or die "usage: $0 --bindir=DIR --directory=DIR [--seed=N] [--seconds=N] [--cycles=N] [--sessions=N]\n";
	make_path($options{directory});
	$options{directory} = abs_path($options{directory});
	return %options;
}

# Settings of the server, as text: those that all tests need, and drawn ones.
sub draw_settings
{
	my ($random) = @_;
	my %settings = (
		shared_preload_libraries => "'alexam'",
		fsync => 'off',
		full_page_writes => 'on',
		wal_level => 'replica',
		max_wal_size => '1GB',
		max_connections => 30,
		max_prepared_transactions => 20,
		allow_in_place_tablespaces => 'on',
		jit => 'off',
		log_line_prefix => "'%m [%p] %q%a '",
		log_checkpoints => 'off',
		log_min_messages => 'warning',
		log_min_error_statement => 'panic',
		max_worker_processes => 12,
		autovacuum_naptime => '1s',
		shared_buffers => $random->pick('2MB', '8MB', '64MB'),
		autovacuum => $random->pick('on', 'off', 'off'),
		'alexam.memtable_memory' => $random->pick('1MB', '2MB', '64MB'),
		'alexam.memtable_entries' => $random->pick(100, 300, 1000, 20000),
		'alexam.max_memtables' => $random->pick(8, 1024),
		'alexam.hint_memory' => $random->pick('64kB', '4MB'),
		'alexam.background_compaction' => $random->pick('on', 'off'),
		'alexam.compaction_cost_delay' => $random->pick(0, '2ms'),
		'alexam.batch_size' => $random->pick(1, 50, 1000000),
		'alexam.direct_seal_threshold' => $random->pick(10, 100, 100000),
		'alexam.use_mmap' => $random->pick('on', 'on', 'off'));

	return join('', map { "$_ = $settings{$_}\n" } sort keys %settings);
}

# A cluster in a directory of its own, its tables, and its sessions, not
# connected yet.
sub prepare
{
	my ($class, %options) = @_;
	my $random = Torture::Random->new($options{seed}, 'cluster');
	my $self = bless({ %options, random => $random }, $class);

	remove_tree($options{directory});
	make_path($options{directory});
	$self->{cluster} = Torture::Cluster->new(
		directory => $options{directory},
		bindir => $options{bindir},
		socket => $options{socket} // $options{directory},
		port => $options{port} // 5432,
		settings => draw_settings($random) . ($options{settings} // ''));
	$self->{tables} = [ draw_tables($random, 4, $options{sessions}, unlogged => 1) ];

	my @sessions = map {
		Torture::Load->new(
			number => $_,
			seed => $options{seed},
			cluster => $self->{cluster},
			tables => $self->{tables},
			profile => $options{profile},
			lock_timeout => $options{lock_timeout} // '2s',
			log => "$options{directory}/session-$_.log")
	} 1 .. $options{sessions};
	$self->{crew} = Torture::Crew->new(@sessions);

	$self->{cluster}->create;
	$self->{cluster}->change($options{cycle_settings} // '');
	$self->{cluster}->start;
	my $handle = $self->{cluster}->connect;
	create_tables($handle, @{ $self->{tables} });
	$self->{handle} = $handle;
	return $self;
}

# One query of the director, which must not fail.
sub query
{
	my ($self, $statement) = @_;

	return $self->{handle}->selectall_arrayref($statement)
	  // die "$statement: " . $self->{handle}->errstr . "\n";
}

# While nobody else works: what each session has is what its model says, and
# every index is sound and answers as the table does.
sub verify
{
	my ($self) = @_;

	$self->{crew}->one('clear_up');
	$self->{crew}->all('verify');
	foreach my $table (grep { !$_->{temporary} } @{ $self->{tables} })
	{
		# one that could not be made again yet
		my $rows = $self->query("SELECT 1 FROM pg_index WHERE indexrelid = to_regclass('$table->{name}_a') AND indisvalid");

		next if !@$rows;
		$self->query("SELECT alex_check('$table->{name}_a', true)");
		$self->{counts}{alex_check}++;
		die "$table->{name}: scans of the whole table differ: " . join(' ', @$_) . "\n"
		  foreach whole_table($self, $table);
	}
	return;
}

# The table in the order of the key by alex, by btree and without index.
sub whole_table
{
	my ($self, $table) = @_;
	my $query = "SELECT (id, n, version)::text AS item FROM t WHERE P ORDER BY K";

	$self->query("SELECT torture_permit('{seqscan,sort}', false)");
	my $row = $self->query(Torture::Reads::comparison($table, 'rows', $query))->[0];
	return $row->[0] && $row->[1] ? () : $row;
}

# Each way to read must really be the one that it is called.
sub check_plans
{
	my ($self) = @_;

	foreach my $table (grep { $_->{expression} eq 'X' && $_->{type} ne 'bool' && !$_->{temporary} } @{ $self->{tables} })
	{
		foreach my $way ('index', 'only', 'bitmap')
		{
			my ($off, $pattern) = @{ $Torture::Reads::ways{$way} };
			my $item = $way eq 'only' ? 'a' : 'id';
			my $query = Torture::Reads::for_column($table,
				"SELECT $item FROM t WHERE K = torture_$table->{type}(50) AND P", 'a');

			$self->query("SELECT torture_permit('{" . join(',', @$off) . "}', false)");
			my $plan = join("\n", map { $_->[0] } @{ $self->query("EXPLAIN (COSTS OFF) $query") });
			die "$query by $way: the plan is $plan\n" if $plan !~ $pattern;
		}
	}
	return;
}

# Adds up what the sessions have counted.
sub count
{
	my ($self) = @_;
	my %sum;

	foreach my $answer ($self->{crew}->all('tally'))
	{
		$answer =~ s/^ok //;
		foreach my $item (split(/;/, $answer))
		{
			my ($name, $number) = split(/=/, $item);

			$sum{$name} += $number;
		}
	}
	$sum{$_} += $self->{counts}{$_} foreach keys %{ $self->{counts} };
	return %sum;
}

# A fault: what a person needs to look into it.
sub report
{
	my ($self, $error) = @_;

	print "FAULT with seed $self->{seed}: $error\n";
	foreach my $session (map { $_->{session} } $self->{crew}->members)
	{
		show_end($session->{log});
	}
	show_end($self->{cluster}{log});
	print "kept: $self->{directory}\n";
	return;
}

# What was done, in a few lines.
sub summary
{
	my ($title, %sum) = @_;
	my $line = "$title:";

	foreach my $item (map { "$sum{$_} $_" } sort keys %sum)
	{
		if (length($line) + length($item) > 90)
		{
			print "$line\n";
			$line = '   ';
		}
		$line .= " $item;";
	}
	print "$line\n";
	return;
}

# The last lines of a log, as far as they can be read.
sub show_end
{
	my ($path) = @_;
	my @lines;

	print "-- end of $path\n";
	open(my $file, '<', $path) or return;
	while (my $line = <$file>)
	{
		chomp($line);
		push(@lines, length($line) > 400 ? substr($line, 0, 400) . ' ...' : $line);
		shift(@lines) if @lines > 25;
	}
	close($file);
	print map { "$_\n" } @lines;
	return;
}

# Ends processes and server; the directory stays.
sub close_down
{
	my ($self) = @_;

	$self->{crew}->dismiss;
	$self->{handle}->disconnect if $self->{handle};
	$self->{cluster}->stop('immediate') if $self->{cluster}->pid;
	return;
}

1;
