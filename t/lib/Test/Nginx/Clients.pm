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
#
# On request
#
#   node($t, $script, @args)	runs $script.js with the packages of node/;
#				it trusts ca.crt
#   start_sshd($t, $port)	an ssh server for the one who runs the test
#   ssh($t, $proxy, @command)	runs a command there, on ssh.example.test, by
#				this ProxyCommand; { } behind it: options of
#				client()
#   chromium($t, $proxy, $name)	the command of a headless one which trusts
#				secure.key, with a profile of that name
#   start_udp_echo($t, $addr)	returns every datagram
#   curl_refused()		the status of a curl whose CONNECT is refused
#   start_ftpd($t, $port, $mode)
#				an FTP server of the directory ftp, on
#				127.0.0.1 and ::1; mode "active" or "passive"
#				is the only one it has

###############################################################################

use warnings;
use strict;

use base qw/ Exporter /;

our @EXPORT = qw/ client is_client is_failed tunnels /;
our @EXPORT_OK = qw/ node start_sshd ssh chromium start_udp_echo start_ftpd
	curl_refused /;

###############################################################################

use Cwd qw/ abs_path /;
use Digest::SHA qw/ sha256 /;
use Fcntl qw/ LOCK_EX LOCK_NB /;
use File::Copy qw/ copy /;
use File::Path qw/ make_path /;
use IO::Socket::IP qw//;
use MIME::Base64 qw/ encode_base64 /;
use POSIX qw//;
use Test::More qw//;

use Test::Nginx qw/ log_in log_out /;
use Test::Nginx::Tunnel qw/ log_lines wait_for /;

###############################################################################

use constant {
	TIMEOUT		=> 20,
	LOG_TIMEOUT	=> 3,
	NPM_TIMEOUT	=> 60,
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

sub node {
	my ($t, $script, @args) = @_;

	return client($t, [ 'node', "$script.js", @args ], env => {
		NODE_EXTRA_CA_CERTS	=> $t->testdir() . '/ca.crt',
		NODE_PATH		=> node_modules(),
	});
}

# Installed once, and again when node/ says something new.

sub node_modules {
	make_path('../build/node');

	my $dir = abs_path('../build/node');
	my $modules = "$dir/node_modules";

	open my $lock, '>>', "$dir/lock"
		or die "Can't create $dir/lock: $!\n";
	wait_for(sub { flock($lock, LOCK_EX | LOCK_NB) }, NPM_TIMEOUT + 10)
		or die "Can't lock $dir/lock: $!\n";

	return $modules if -e "$dir/installed"
		&& contents('node/package-lock.json')
			eq contents("$dir/installed");

	copy("node/$_", "$dir/$_") or die "Can't copy $_: $!\n"
		for qw/ package.json package-lock.json /;

	my $npm = 'timeout ' . NPM_TIMEOUT
		. ' npm install --no-audit --no-fund';
	my $out = `cd '$dir' && $npm 2>&1`;
	die "npm install failed, see scripts/packages: $out\n" if $?;

	copy('node/package-lock.json', "$dir/installed")
		or die "Can't create $dir/installed: $!\n";

	return $modules;
}

sub contents {
	my ($file) = @_;

	open my $fh, '<', $file or die "Can't open $file: $!\n";
	local $/;
	return scalar <$fh>;
}

###############################################################################

sub start_sshd {
	my ($t, $port) = @_;

	my $dir = $t->testdir();
	my $user = getpwuid($>);

	for my $name (qw/ host user /) {
		my $r = client($t, [ 'ssh-keygen', '-q', '-t', 'ed25519',
			'-N', '', '-f', "$dir/$name" ]);
		die "Can't create key: $r->{err}\n" if $r->{status} ne '0';
	}

	$t->write_file('authorized_keys', $t->read_file('user.pub'));
	$t->write_file('known_hosts',
		"[ssh.example.test]:$port " . $t->read_file('host.pub'));

	$t->write_file('sshd_config', <<EOF);
ListenAddress 127.0.0.1:$port
HostKey $dir/host
PidFile $dir/sshd.pid
AuthorizedKeysFile $dir/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
Subsystem sftp internal-sftp
EOF

	$t->write_file('ssh_config', <<EOF);
Host *
Port $port
User $user
IdentityFile $dir/user
IdentitiesOnly yes
UserKnownHostsFile $dir/known_hosts
GlobalKnownHostsFile /dev/null
StrictHostKeyChecking yes
BatchMode yes
EOF

	# the package's service makes it when it starts

	mkdir '/run/sshd', 0755 if $> == 0;

	$t->run_daemon('/usr/sbin/sshd', '-D', '-E', "$dir/sshd.log",
		'-f', "$dir/sshd_config");
	$t->waitforsocket("127.0.0.1:$port")
		or die "Can't start sshd\n" . $t->read_file('sshd.log');
}

sub ssh {
	my ($t, $proxy, @command) = @_;

	my $opt = ref $command[-1] ? pop @command : {};

	return client($t, [ 'ssh', '-F', 'ssh_config', '-o',
		"ProxyCommand=$proxy", 'ssh.example.test', @command ], %$opt);
}

###############################################################################

sub chromium {
	my ($t, $proxy, $name) = @_;

	# certificates of this key alone are accepted, the rest is checked

	my $dir = $t->testdir();
	my $key = `openssl pkey -in '$dir/secure.key' -pubout -outform DER`;
	my $hash = encode_base64(sha256($key), '');

	return (qw/ chromium --headless --no-sandbox --disable-gpu
		--disable-quic --no-first-run --disable-background-networking
		--disable-component-update --disable-sync
		--disable-dev-shm-usage /,
		"--ignore-certificate-errors-spki-list=$hash",
		"--user-data-dir=$dir/profile-$name",
		"--proxy-server=$proxy");
}

###############################################################################

# Since 8.20 that is a failure to connect, before one to receive.

sub curl_refused {
	my ($major, $minor) = `curl -q --version` =~ /^curl (\d+)\.(\d+)/
		or return 'no curl';

	return $major > 8 || $major == 8 && $minor >= 20 ? 7 : 56;
}

###############################################################################

sub start_udp_echo {
	my ($t, $addr) = @_;

	my ($host, $port) = $addr =~ /^(?:\[?(.*?)\]?:)?(\d+)\z/
		or die "bad address \"$addr\"\n";

	my $s = IO::Socket::IP->new(
		Proto => 'udp',
		LocalHost => defined $host ? $host : '127.0.0.1',
		LocalPort => $port
	)
		|| die "Can't bind to $addr: $!\n";

	$t->run_daemon(\&udp_echo, $s);
	close $s;
}

sub udp_echo {
	my ($s) = @_;

	while (1) {
		my $peer = recv($s, my $bytes, 65536, 0);
		send($s, $bytes, 0, $peer) if defined $peer;
	}
}

###############################################################################

# Debian's python, with Debian's pyftpdlib

sub start_ftpd {
	my ($t, $port, $mode) = @_;

	my $dir = $t->testdir();

	$t->write_file('ftpd.py', <<'EOF');
import logging, sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer

_, port, folder, mode = sys.argv

class Handler(FTPHandler):
    authorizer = DummyAuthorizer()
    permit_foreign_addresses = True
    timeout = 30

    def refuse(self, line):
        self.respond(f'502 {mode} mode only.')

for command in (('PASV', 'EPSV') if mode == 'active' else ('PORT', 'EPRT')):
    setattr(Handler, f'ftp_{command}', Handler.refuse)

logging.disable()

Handler.authorizer.add_anonymous(folder, perm='elradfmw')

# all servers are served

servers = [FTPServer((host, int(port)), Handler)
           for host in ('::1', '127.0.0.1')]
servers[0].serve_forever()
EOF

	mkdir "$dir/ftp" or die "Can't create ftp: $!\n";

	# its helpers warn, too

	$t->run_daemon('/usr/bin/python3', '-W', 'ignore', "$dir/ftpd.py",
		$port, "$dir/ftp", $mode);
	$t->waitforsocket("127.0.0.1:$port")
		or die "Can't start ftpd, see scripts/packages\n";
}

###############################################################################

1;

###############################################################################
