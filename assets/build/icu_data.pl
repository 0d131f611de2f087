#!/usr/bin/perl
# Writes those items of ICU's data as files that the server uses: icu_data.pl ARCHIVE DIRECTORY.
#
# The archive begins with a header, whose length its first two bytes have. Then comes the number of
# items, for each the offsets of its name and of its data from the end of the header, in the order
# of both, and the names. All numbers are little-endian; an item ends where the next one begins.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Path qw(make_path);

# Collations; words, at which names get capitals; the English names of locales, which PostgreSQL
# has as comments; and what relates locales to each other.
my @wanted = (
	qr{^coll/},
	qr{^brkitr/(?:\w+\.res|(?:char|title|word\w*)\.brk)$},
	qr{^(?:lang|region)/(?:en|pool|res_index|root)\.res$},
	qr{^(?:keyTypeData|langInfo|metadata|pool|res_index|root|supplementalData|timezoneTypes)\.res$});

my ($archive, $directory) = @ARGV;
open(my $in, '<:raw', $archive) or die "cannot open $archive: $!\n";
my $data = do { local $/; <$in> };
my $base = unpack('v', $data);
my $count = unpack('V', substr($data, $base, 4));
my @offsets = unpack('V*', substr($data, $base + 4, 8 * $count));
my $found = 0;
for my $i (0 .. $count - 1)
{
	my $name = unpack('Z*', substr($data, $base + $offsets[ 2 * $i ], 256));
	my $begin = $base + $offsets[ 2 * $i + 1 ];
	my $end = $i + 1 < $count ? $base + $offsets[ 2 * $i + 3 ] : length($data);
	my ($item) = $name =~ m{^icudt\w+/(.+)$} or die "$archive: $name is not below icudt\n";
	next unless grep { $item =~ $_ } @wanted;
	make_path(dirname("$directory/$name"));
	open(my $out, '>:raw', "$directory/$name") or die "cannot write $directory/$name: $!\n";
	print $out substr($data, $begin, $end - $begin);
	close($out) or die "cannot write $directory/$name: $!\n";
	$found++;
}
die "$archive: only $found of the wanted items are in it\n" if $found < 200;
