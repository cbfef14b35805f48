package Test::Nginx::Namespace;

# Runs a test in namespaces of its own:
#
#   use Test::Nginx::Namespace qw/ net mount /;
#
#   net		a network which has "lo" alone, and it is up
#   mount	mounts that nobody else sees
#
# The test is started once more for that; where it may not be, it fails.
#
#   ip('addr add 192.0.2.1/32 dev lo')
#			runs ip(8), dies if that fails
#   bind_file($t, $path, $content)
#			mounts a file with this content over a path

###############################################################################

use warnings;
use strict;

our @EXPORT = qw/ ip bind_file /;

###############################################################################

use FindBin;

###############################################################################

sub import {
	my ($class, @namespaces) = @_;

	{
		no strict 'refs';

		my $caller = caller;
		*{"${caller}::$_"} = \&$_ for @EXPORT;
	}

	my $want = join ' ', $FindBin::Script, @namespaces;

	if (($ENV{TEST_NGINX_NAMESPACE} || '') ne $want) {
		local $ENV{TEST_NGINX_NAMESPACE} = $want;

		exec 'unshare', ($> ? '-r' : ()), (map { "--$_" } @namespaces),
			'--', $^X, (map { "-I$_" } grep { !ref } @INC),
			"$FindBin::Bin/$FindBin::Script", @ARGV
			or die "Can't run unshare: $!\n";
	}

	ip('link set lo up') if grep { $_ eq 'net' } @namespaces;
}

sub ip {
	my ($command) = @_;

	system('ip', split ' ', $command) == 0 or die "Failed: ip $command\n";
}

sub bind_file {
	my ($t, $path, $content) = @_;

	my $name = $path =~ tr/\//_/r;

	$t->write_file($name, $content);

	system('mount', '--bind', $t->testdir() . "/$name", $path) == 0
		or die "Can't mount over $path\n";
}

###############################################################################

1;

###############################################################################
