package Test::Nginx::Clients;

# Programs as clients of a proxy.  Each runs with an environment of its own,
# the test directory as its home, and a limit of time.
#
#   client($t, [ command ], %opt)
#				runs a program; what came of it as a hash of
#				status (124: no end in time, 127: no such
#				program), out, err, name.  in => what it reads,
#				open => 1 to keep that from ending, timeout,
#				env => { }, dir
#   is_client($r, $out, $name)	a test: it succeeded and wrote this
#   is_failed($r, $re, $name)	a test: it failed and said so
#   tunnels($t, $n)		what was added to tunnel.log since the last
#				call, once it is n lines (1)

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/ client is_client is_failed tunnels /;

###############################################################################

use POSIX qw//;
use Test::More qw//;

use Test::Nginx qw/ log_in log_out /;
use Test::Nginx::Tunnel qw/ log_lines wait_for /;

###############################################################################

use constant {
	TIMEOUT		=> 20,
	LOG_TIMEOUT	=> 3,
	SHOWN		=> 2000,	# of what a failed client said
};

my %seen;

###############################################################################

sub client {
	my ($t, $command, %opt) = @_;

	my $dir = $t->testdir();
	my $name = $command->[0];

	$t->write_file('client.in', defined $opt{in} ? $opt{in} : '');

	# not fork() and exec() alone: a client may have children

	my @command = ('timeout', '-k', 2, $opt{timeout} || TIMEOUT,
		@$command);

	log_out("@command");

	my ($keep, $input);

	if ($opt{open}) {
		pipe($input, $keep) or die "Can't create pipe: $!\n";
		syswrite $keep, $opt{in};

	} else {
		open $input, '<', "$dir/client.in"
			or die "Can't open client.in: $!\n";
	}

	my $pid = fork();
	die "Can't fork: $!\n" unless defined $pid;

	if ($pid == 0) {
		%ENV = environment($dir, %{$opt{env} || {}});

		chdir($opt{dir} || $dir)
			and open(STDIN, '<&', $input)
			and open(STDOUT, '>', "$dir/client.out")
			and open(STDERR, '>', "$dir/client.err")
			and exec { $command[0] } @command;

		POSIX::_exit(126);
	}

	waitpid($pid, 0);

	my $r = {
		name	=> $name,
		status	=> $? & 127 ? 'signal ' . ($? & 127) : $? >> 8,
		out	=> $t->read_file('client.out'),
		err	=> $t->read_file('client.err'),
	};

	log_in($r->{out});
	log_in($r->{err});

	return $r;
}

# Nothing of the user's: no proxy, no CA, no configuration.

sub environment {
	my ($dir, %env) = @_;

	return (
		HOME	=> $dir,
		LANG	=> 'C.UTF-8',
		PATH	=> "$ENV{PATH}:/usr/sbin:/sbin",
		TMPDIR	=> $dir,
		USER	=> scalar getpwuid($>),
		%env
	);
}

sub is_client {
	my ($r, $out, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $ok = $r->{status} eq '0' && $r->{out} eq $out;

	return Test::More::ok($ok, $name) || explain_client($r, $out);
}

sub is_failed {
	my ($r, $re, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	# neither 124 to 127 of timeout(1) nor a signal is an answer

	my $ok = $r->{status} =~ /^\d+\z/ && $r->{status} > 0
		&& ($r->{status} < 124 || $r->{status} > 127)
		&& "$r->{out}$r->{err}" =~ $re;

	return Test::More::ok($ok, $name) || explain_client($r, $re);
}

sub explain_client {
	my ($r, $expected) = @_;

	Test::More::diag("$r->{name} is not installed, see scripts/packages")
		if $r->{status} eq '127';
	Test::More::diag("$r->{name} did not end in time")
		if $r->{status} eq '124';

	Test::More::diag("$r->{name}: status $r->{status}");
	Test::More::diag("$_->[0]: " . shown($_->[1])) for
		[ expected => $expected ],
		[ out => $r->{out} ],
		[ err => $r->{err} ];

	return 0;
}

# The end of it, where errors are told.

sub shown {
	my ($text) = @_;

	return $text if length $text <= SHOWN;
	return length($text) . ' bytes, ending in ' . substr($text, -SHOWN());
}

sub tunnels {
	my ($t, $count) = @_;

	my $file = $t->testdir() . '/tunnel.log';
	my $from = $seen{$file} || 0;
	my @lines;

	wait_for(sub {
		@lines = log_lines($t, 'tunnel.log');
		return @lines >= $from + ($count || 1);
	}, LOG_TIMEOUT);

	$seen{$file} = @lines;

	return join "\n", @lines[$from .. $#lines];
}

###############################################################################

1;

###############################################################################
