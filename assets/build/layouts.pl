#!/usr/bin/perl
# layouts.pl LIST SOURCE BUILD NATIVE WORK JOBS: that the structures of LIST have the same size and
# the same offset and size of each field in the guest as in a native 64-bit build of the same source.
# SOURCE is PostgreSQL's tree, BUILD and NATIVE are configured for the guest and for this machine. A
# file of numbers is compiled for this machine, and assertions with these numbers for the guest
# ($PGL_CC). Nothing that was built is executed.
use strict;
use warnings;

my ($list, $source, $build, $native, $work, $jobs) = @ARGV;
mkdir $work or die "layouts.pl: cannot make $work: $!\n";

# Headers together are one unit; a C file, whose structures are its own, is one by itself, and so is
# a header of an extension.
my (%units, @order);
open(my $in, '<', $list) or die "layouts.pl: cannot read $list: $!\n";
while (my $line = <$in>)
{
	next if $line =~ /^#/;
	my ($file, $type, @fields) = split ' ', $line;
	$type =~ s/^(struct|union):/$1 /;
	my $unit = $file =~ m{^src/include/} ? 'headers' : $file;
	push @order, $unit unless $units{$unit};
	push @{ $units{$unit}{types} }, [ $type, @fields ];
	push @{ $units{$unit}{files} }, $file unless grep { $_ eq $file } @{ $units{$unit}{files} };
}
close $in;

my @pids;
for my $job (0 .. $jobs - 1)
{
	my $pid = fork() // die "layouts.pl: cannot fork: $!\n";
	if ($pid == 0)
	{
		for my $n (grep { $_ % $jobs == $job } 0 .. $#order)
		{
			check($n, $units{ $order[$n] });
		}
		exit 0;
	}
	push @pids, $pid;
}
my $failed = 0;
for my $pid (@pids)
{
	waitpid($pid, 0);
	$failed ||= $?;
}
die "layouts.pl: a structure differs from that of a 64-bit server: see above\n" if $failed;

sub check
{
	my ($n, $unit) = @_;
	my @files = @{ $unit->{files} };
	my $head = "#include \"postgres.h\"\n#include <stddef.h>\n" . join('', map { "#include \"$source/$_\"\n" } @files);
	my ($directory) = $files[0] =~ m{^(.*)/};
	my $includes = "-I $build/src/include -I $source/src/include -I $source/$directory";

	my @what;
	for my $type (@{ $unit->{types} })
	{
		my ($name, @fields) = @$type;
		push @what, "sizeof($name)";
		for my $field (@fields)
		{
			my $unsized = $field =~ s/\[\]$//;
			push @what, "offsetof($name, $field)";
			push @what, "sizeof((($name *) 0)->$field)" unless $unsized;
		}
	}

	put("$work/$n.numbers.c",
		"$head const unsigned pgl_layout[] __attribute__((used, section(\".pgl_layout\"))) = {\n" . join(",\n", @what) . "};\n");
	run("gcc -c -w -O0 -I $native/src/include $includes -o $work/$n.o $work/$n.numbers.c");
	run("objcopy -O binary --only-section=.pgl_layout $work/$n.o $work/$n.bin");
	open(my $bin, '<:raw', "$work/$n.bin") or die "layouts.pl: cannot read $work/$n.bin: $!\n";
	local $/;
	my @numbers = unpack 'V*', <$bin>;
	close $bin;
	die "layouts.pl: $files[0]: " . @numbers . " numbers for " . @what . " expressions\n" unless @numbers == @what;

	put("$work/$n.c", $head . join('', map { "_Static_assert($what[$_] == $numbers[$_], \"differs from a 64-bit server\");\n" } 0 .. $#what));
	run("$ENV{PGL_CC} -fsyntax-only -w -ferror-limit=0 $includes $work/$n.c");
}

sub put
{
	my ($path, $text) = @_;
	open(my $out, '>', $path) or die "layouts.pl: cannot write $path: $!\n";
	print $out $text;
	close $out or die "layouts.pl: cannot write $path: $!\n";
}

sub run
{
	my ($command) = @_;
	system($command) == 0 or die "layouts.pl: this failed: $command\n";
}
