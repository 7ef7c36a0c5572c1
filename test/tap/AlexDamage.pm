# AlexDamage.pm
#	  Looking at the pages of an index's file, and damaging them.
#
# Copyright (c) 2026, alexam contributors

package AlexDamage;

use strict;
use warnings;

use Exporter qw(import);
use Fcntl qw(SEEK_SET);

our @EXPORT = qw(index_path read_page write_page pages_of_kind flip_bit
  zero_page write_bytes);

use constant PAGE_SIZE => 8192;

# Page kinds, and where a page says its kind.
my %kinds = (
	meta     => 0xA101,
	manifest => 0xA102,
	log      => 0xA103,
	leaf     => 0xA104,
	model    => 0xA105,
	bloom    => 0xA106,
	free     => 0xA107);
use constant KIND_OFFSET => 40;

sub index_path
{
	my ($node, $index) = @_;
	return $node->data_dir . '/'
	  . $node->safe_psql('postgres', "SELECT pg_relation_filepath('$index')");
}

sub read_page
{
	my ($path, $block) = @_;
	my $page;

	open(my $file, '<:raw', $path) or die "$path: $!";
	sysseek($file, $block * PAGE_SIZE, SEEK_SET) or die "$path: $!";
	sysread($file, $page, PAGE_SIZE) == PAGE_SIZE or die "$path: short read";
	close($file);
	return $page;
}

sub write_bytes
{
	my ($path, $block, $offset, $bytes) = @_;

	open(my $file, '+<:raw', $path) or die "$path: $!";
	sysseek($file, $block * PAGE_SIZE + $offset, SEEK_SET) or die "$path: $!";
	syswrite($file, $bytes) == length($bytes) or die "$path: $!";
	close($file) or die "$path: $!";
	return;
}

sub write_page
{
	my ($path, $block, $page) = @_;
	return write_bytes($path, $block, 0, $page);
}

sub zero_page
{
	my ($path, $block) = @_;
	return write_page($path, $block, "\0" x PAGE_SIZE);
}

sub flip_bit
{
	my ($path, $block, $offset, $bit) = @_;
	my $page = read_page($path, $block);

	vec($page, $offset * 8 + $bit, 1) ^= 1;
	return write_page($path, $block, $page);
}

# The blocks whose pages are of that kind, in order.
sub pages_of_kind
{
	my ($path, $kind) = @_;
	my @blocks;

	foreach my $block (0 .. (-s $path) / PAGE_SIZE - 1)
	{
		my $is = unpack('v', substr(read_page($path, $block), KIND_OFFSET, 2));
		push @blocks, $block if $is == $kinds{$kind};
	}
	return @blocks;
}

1;
