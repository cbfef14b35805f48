#!/usr/bin/perl

# Tests for SOCKS with FTP in active mode, whose data connections come in
# through BIND: curl under Dante's socksify, and Python's ftplib.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT start_ftpd /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $python = '/usr/bin/python3';

my $t = Test::Nginx->new()->has(qw/stream/)->plan(38);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result $tunnel_reason';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    target_allow *:*;
    target_allow_address 127.0.0.1 127.0.0.2 ::1;

    socks_bind on;
    socks_bind_timeout 5s;

    server {
        listen 127.0.0.1:8080;
        listen [::1]:%%PORT_8080%%;
        socks;
    }

    server {
        listen 127.0.0.1:8081;
        socks;
        socks_auth basic proxy users;
        socks_auth_delay 300ms;
    }

    server {
        listen 127.0.0.1:8082;
        socks;
        socks_bind_address 127.0.0.2;
    }

    server {
        listen 127.0.0.1:8083;
        socks;
        socks_bind off;
    }
}

EOF

my $dir = $t->testdir();
my $port = port(8021);

start_ftpd($t, $port, 'active');

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('ftp/file', pattern(5 * 1024 * 1024, 3));
$t->write_file('small', pattern(1024 * 1024, 7));

# ftplib, whose connections are a SOCKS proxy's.  A BIND is for the address
# that is given, or the server's.

$t->write_file('ftp.py', <<'EOF');
import ftplib, hashlib, socket, struct, sys

version, proxy_host, proxy_port, user, host, port, peer, *files = sys.argv[1:]

CONNECT, BIND = 1, 2

def read(s, n):
    data = b''
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            raise OSError('the proxy has closed')
        data += part
    return data

def packed(host):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    return socket.inet_pton(family, host)

def reply(s):
    if version == '4':
        _, code, port, ip = struct.unpack('>BBH4s', read(s, 8))
    else:
        _, code, _, kind = read(s, 4)
        ip = read(s, 4 if kind == 1 else 16)
        port, = struct.unpack('>H', read(s, 2))

    if code not in (0, 90):
        raise OSError(f'refused: {code}')

    family = socket.AF_INET if len(ip) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, ip), port

def request(command, host, port):
    s = socket.create_connection((proxy_host, int(proxy_port)), 10)
    ip = packed(host)

    if version == '4':
        s.sendall(struct.pack('>BBH4s', 4, command, port, ip) + b'me\0')
    else:
        s.sendall(b'\5\1\2' if user else b'\5\1\0')
        if read(s, 2)[1] == 2:
            name, password = user.encode().split(b':')
            s.sendall(b'\1' + bytes([len(name)]) + name
                      + bytes([len(password)]) + password)
            if read(s, 2) != b'\1\0':
                raise OSError('wrong password')

        s.sendall(bytes([5, command, 0, 1 if len(ip) == 4 else 4]) + ip
                  + struct.pack('>H', port))

    return s, reply(s)

class Listener:
    def __init__(self, s):
        self.s = s

    def accept(self):
        address = reply(self.s)
        s, self.s = self.s, None
        return s, address

    def __enter__(self):
        return self

    def __exit__(self, *args):
        if self.s:
            self.s.close()

class FTP(ftplib.FTP):
    def connect_through(self):
        self.host, self.af = host, (socket.AF_INET6 if ':' in host
                                    else socket.AF_INET)
        self.timeout = 10
        self.sock, _ = request(CONNECT, host, int(port))
        self.file = self.sock.makefile('r', encoding=self.encoding)
        self.welcome = self.getresp()

    def makeport(self):
        s, bound = request(BIND, peer or host, int(port))
        print('bound to', bound[0])
        if self.af == socket.AF_INET:
            self.sendport(*bound)
        else:
            self.sendeprt(*bound)
        return Listener(s)

ftp = FTP()
ftp.connect_through()
ftp.login()
ftp.set_pasv(False)

for name in files:
    if name.startswith('+'):
        with open(name[1:], 'rb') as f:
            print(ftp.storbinary('STOR ' + name[1:], f))
    else:
        sha = hashlib.sha1()
        ftp.retrbinary('RETR ' + name, sha.update)
        print(sha.hexdigest())

print(ftp.quit())
EOF

$t->run();

###############################################################################

my $open = port(8080);
my $auth = port(8081);
my $other = port(8082);
my $off = port(8083);

my $sum = sha1_hex(pattern(5 * 1024 * 1024, 3));
my $small = sha1_hex(pattern(1024 * 1024, 7));

my $r;

# curl knows of no BIND; socksify does what its bind() and accept() are

my $socksify = find('socksify');
my $accept4 = $socksify && accept4();

SKIP: {

skip 'no socksify, see scripts/packages', 17 unless $socksify;

for my $case (
	[ 'socks4', 4, 'socks_v4', $open ],
	[ 'socks5', 5, 'socks_v5', $open ],
	[ 'socks5 password', 5, 'socks_v5', $auth,
		SOCKS_USERNAME => 'user', SOCKS_PASSWORD => 'secret' ])
{
	my ($name, $version, $protocol, $proxy, %env) = @$case;
	my $bind = qr/$version bind \S+ 200 ok completed/;
	my $log = qr/^$version connect 127\.0\.0\.1:$port 200 ok \w+$/m;

	$r = socksify($t, $protocol, $proxy, \%env,
		"ftp://127.0.0.1:$port/file");
	my $lines = tunnels($t, 2);
	like($lines, $log, "curl $name control log");

	SKIP: {

	skip $accept4, 4 if $accept4 && not_accepted($r);

	is("$r->{status} " . sha1_hex($r->{out}), "0 $sum", "curl $name")
		|| diag($r->{err});
	is(() = $lines =~ /^$bind$/mg, 1, "curl $name data log")
		|| diag($lines);

	unlink "$dir/ftp/copy";

	$r = socksify($t, $protocol, $proxy, \%env, '-T', 'small',
		"ftp://127.0.0.1:$port/copy");
	is("$r->{status} " . file_sum("$dir/ftp/copy"), "0 $small",
		"curl $name upload") || diag($r->{err});

	$lines = tunnels($t, 2);
	is(() = $lines =~ /^$bind$/mg, 1, "curl $name upload data log")
		|| diag($lines);

	}
}

is_failed(socksify($t, 'socks_v5', $auth, { SOCKS_USERNAME => 'user',
	SOCKS_PASSWORD => 'wrong' }, "ftp://127.0.0.1:$port/file"), qr/./,
	'curl wrong password');
like(tunnels($t), qr/^5 - - 407 auth_failed -$/m, 'curl wrong password log');

}

# ftplib: several transfers, both ways

for my $case (
	[ 'socks4', 4, '127.0.0.1', $open, '' ],
	[ 'socks5', 5, '127.0.0.1', $open, '' ],
	[ 'socks5 password', 5, '127.0.0.1', $auth, 'user:secret' ],
	[ 'socks5 ipv6', 5, '::1', $open, '' ],
	[ 'socks5 bind address', 5, '127.0.0.1', $other, '' ])
{
	my ($name, $version, $host, $proxy, $user) = @$case;

	my $bound = $proxy eq $other ? '127.0.0.2' : $host;
	my $target = ($host =~ /:/ ? "[$host]" : $host) . ":$port";

	unlink "$dir/ftp/small";

	is_client(ftplib($t, $version, $host, $proxy, $user, $host, $port, '',
		qw/ file +small small /),
		"bound to $bound\n$sum\n"
		. "bound to $bound\n226 Transfer complete.\n"
		. "bound to $bound\n$small\n221 Goodbye.\n", "ftplib $name");

	my @lines = split /\n/, tunnels($t, 4);

	is(join("\n", sort map { s/ \w+$//r } @lines), join("\n",
		("$version bind $target 200 ok") x 3,
		"$version connect $target 200 ok"), "ftplib $name log");
	is(scalar(grep { / bind .* completed$/ } @lines), 3,
		"ftplib $name log of the end");
}

# the server is not who was to come; nobody comes; no BIND

$r = ftplib($t, 5, '127.0.0.1', $open, '', '127.0.0.1', $port, '127.0.0.2',
	'file');
is_failed($r, qr/refused: 2$/m, 'ftplib another peer');
like(tunnels($t, 2), qr/^5 bind 127\.0\.0\.2:$port 403 denied_address -$/m,
	'ftplib another peer log');

$r = ftplib($t, 5, '127.0.0.1', $off, '', '127.0.0.1', $port, '', 'file');
is_failed($r, qr/refused: 7$/m, 'ftplib bind off');
like(tunnels($t, 2), qr/^5 bind \S+ 501 unsupported_command -$/m,
	'ftplib bind off log');

# the server connects, and has nothing to send

$r = ftplib($t, 5, '127.0.0.1', $open, '', '127.0.0.1', $port, '',
	'nothing');
is_failed($r, qr/550 /, 'ftplib no such file');
like(tunnels($t, 2), qr/^5 bind 127\.0\.0\.1:$port 200 ok \w+$/m,
	'ftplib no such file log');

###############################################################################

sub socksify {
	my ($t, $protocol, $proxy, $env, @args) = @_;

	my $method = %$env ? 'method: username' : 'method: none';

	$t->write_file('socksify.conf', <<EOF);
logoutput: stderr
debug: 0
route {
    from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = $proxy
    command: connect bind
    proxyprotocol: $protocol
    $method
}
EOF

	return client($t, [ qw/ socksify curl -q -sS -P - /, @args ], env => {
		SOCKS_CONF => $t->testdir() . '/socksify.conf',
		SOCKS_AUTOADD_LANROUTES => 'no',
		%$env
	});
}

# A curl that calls accept4(), for which Dante has nothing, accepts from a
# socket that does not listen, but is the connection to the proxy.

sub accept4 {
	my %calls;

	for (`socksify ldd \$(command -v curl)`) {
		my ($name, $path) = / (?:^\s* | \s)
			(lib(?:curl|dsocks)d?\.so\S*) \s => \s (\S+) /x
			or next;

		open my $fh, '<', $path or die "Can't open $path: $!\n";
		local $/;
		$calls{$name =~ /curl/ ? 'curl' : 'dante'}
			= <$fh> =~ /\0accept4\0/;
	}

	return $calls{curl} && exists $calls{dante} && !$calls{dante}
		&& 'curl calls accept4(), which socksify has not';
}

sub not_accepted {
	my ($r) = @_;

	return $r->{status} eq '10'
		&& $r->{err} =~ /accept.*server connect: Invalid argument/;
}

sub find {
	my ($program) = @_;

	return scalar grep { -x "$_/$program" } split /:/, $ENV{PATH};
}

sub ftplib {
	my ($t, @args) = @_;

	return client($t, [ $python, 'ftp.py', @args ]);
}

sub file_sum {
	my ($file) = @_;

	return "no file: $file" unless -f $file;
	return Digest::SHA->new(1)->addfile($file)->hexdigest();
}

###############################################################################
