#
# Lab::Tables
#	  Files of keys, and the tables of a set of keys: t_SUBJECT (k, v), all with
#	  the same rows, v being the row's number in the order of insertion.
#
# Copyright (c) 2026, alexam contributors

package Lab::Tables;

use strict;
use warnings;

use List::Util qw(max min);
use Lab::Server;

our @indexed = qw(alex btree hash brin);
our @all     = (@indexed, 'none');

sub new
{
	my ($class, $lab, $where) = @_;
	my $self = describe($class, $lab, $where);

	$self->make_files;
	$self->make_tables;
	return $self;
}

sub describe
{
	my ($class, $lab, $where) = @_;
	my $settings = $lab->{settings};
	my $rows     = $where->{rows};

	return bless(
		{
			lab    => $lab,
			server => $lab->{server},
			where  => $where,
			files  => "$ENV{WORK}/run",
			rows   => $rows,
			# what later rounds insert
			chunk  => max(int($rows / 10), 1000),
			# of INSERT, of COPY, and of transactions of both sizes, half of one each
			chunks => 3 * $settings->{write_rounds},
			next   => $rows,
			# where each key has a thousandth of all rows, so many rows are enough
			probes => $where->{keys} eq 'duplicates'
			? max(int(min($settings->{probes}, $rows) / 1000), 10)
			: min($settings->{probes}, $rows),
		}, $class);
}

sub keys_program
{
	Lab::Server::run("$ENV{WORK}/bin/keys", @_);
	return;
}

sub make_files
{
	my ($self) = @_;
	my ($settings, $files, $rows) = ($self->{lab}{settings}, $self->{files}, $self->{rows});
	my $kind = $self->{where}{keys};
	my $seed = $settings->{seed};

	$kind = "file:$settings->{file}" if $kind eq 'file';
	my $total = $rows + $self->{chunk} * $self->{chunks};
	keys_program('make', $kind, $total, $seed, "$files/keys");
	foreach my $how (qw(hit zipf miss))
	{
		keys_program('probes', $how, "$files/keys", $rows, $self->{probes}, ++$seed, "$files/$how");
	}
	keys_program('probes', 'hit', "$files/keys", $rows, 200, ++$seed, "$files/ranges");
	return;
}

sub copy_rows
{
	my ($self, $table, $file, $first, $count) = @_;

	return "COPY $table FROM PROGRAM '$ENV{WORK}/bin/keys text $self->{files}/$file $first $count'";
}

sub make_tables
{
	my ($self) = @_;
	my $server = $self->{server};

	$server->do('DROP TABLE IF EXISTS ' . join(', ', map { "t_$_" } @all),
		'DROP TABLE IF EXISTS hit, zipf, miss, ranges');
	foreach my $table ((map { "t_$_" } @all), qw(hit zipf miss ranges))
	{
		$server->do("CREATE TABLE $table (k bigint, v bigint)");
	}
	$server->do($self->copy_rows('t_none', 'keys', 0, $self->{rows}));
	foreach my $subject (@indexed)
	{
		$server->do("INSERT INTO t_$subject SELECT * FROM t_none");
	}
	$server->do($self->copy_rows($_, $_, 0, $self->{probes})) foreach (qw(hit zipf miss));
	$server->do($self->copy_rows('ranges', 'ranges', 0, 200));
	$self->tidy;
	return;
}

sub tidy
{
	my ($self) = @_;

	$self->{server}->do("VACUUM (ANALYZE) $_")
	  foreach ((map { "t_$_" } @all), qw(hit zipf miss ranges));
	$self->{server}->do('CHECKPOINT');
	$self->{server}->settle;
	return;
}

sub drop_tables
{
	my ($self) = @_;

	$self->{server}->do('DROP TABLE ' . join(', ', map { "t_$_" } @all));
	$self->{server}->do('DROP TABLE hit, zipf, miss, ranges');
	return;
}

sub make_index
{
	my ($self, $subject) = @_;

	return "CREATE INDEX t_${subject}_k ON t_$subject USING $subject (k)";
}

# The place of the next rows of the file to be inserted.
sub take_chunk
{
	my ($self, $count) = @_;
	my $first = $self->{next};

	$self->{next} += $count;
	return $first;
}

1;
