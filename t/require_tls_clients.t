#!/usr/bin/perl

# Tests for target_require_tls with clients: those that speak TLS do not notice
# it, and those that do not, or say another name, reach nobody.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT node ssh start_sshd chromium /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl stream stream_ssl map/)
	->plan(97);

my $d = $t->testdir();

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 1024;
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$tunnel_target $tunnel_result $tunnel_reason '
                      '$tunnel_sni $tunnel_bytes_received';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow *.example.test:* 127.0.0.1:* [::1]:*;
    target_allow_address 127.0.0.1 ::1;
    target_require_tls sni;
    tunnel_preread_timeout 1s;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    # any name

    server {
        listen 127.0.0.1:8082;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
        target_require_tls on;
    }

    # the targets

    server {
        listen 127.0.0.1:8443 ssl;
        listen [::1]:%%PORT_8443%% ssl;

        location / {
            return 200 "$scheme $http_host $ssl_server_name\n";
        }

        location /page/ {
            root %%TESTDIR%%;
        }

        location /git/ {
            alias %%TESTDIR%%/;
        }

        location = /big {
            root %%TESTDIR%%;
        }
    }
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$tunnel_target $tunnel_result $tunnel_reason '
                      '$tunnel_sni $tunnel_bytes_received';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *.example.test:* 127.0.0.1:* [::1]:*;
    target_allow_address 127.0.0.1 ::1;
    target_require_tls sni;
    tunnel_preread_timeout 1s;

    server {
        listen 127.0.0.1:8083;
        socks;
    }

    # transparent: the name is the target, unless it is one that is a front

    map $preread_host $backend {
        front.example.test  secure.example.test;
        default             $preread_host;
    }

    server {
        listen 127.0.0.1:8084;
        tunnel_preread on;
        passthrough $backend:%%PORT_8443%%;
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'other.example.test', 'front.example.test', 'www.example.test',
	'127.0.0.1', '::1' ]);

$t->write_file('big', pattern(10 * 1024 * 1024));

mkdir "$d/page" or die "Can't create page: $!\n";
$t->write_file('page/index.html', <<'EOF');
<!DOCTYPE html><p id="p">loading</p><script>
fetch('/').then((r) => r.text()).then((text) => {
    document.getElementById('p').textContent = 'got ' + text.trim();
});
</script>
EOF

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { map { ("$_.example.test" => '127.0.0.1') }
		qw/ secure other front www plain ssh mail / });

# what is not TLS: these tell what they got, and two speak first

pattern(1);
start_daemon($t, \&sink_daemon, port(8091), report => "$d/target");
start_daemon($t, \&sink_daemon, port(8092), report => "$d/target",
	greeting => "SSH-2.0-OpenSSH_9.2\x0d\x0a");
start_daemon($t, \&sink_daemon, port(8093), report => "$d/target",
	greeting => "220 mail.example.test ESMTP\x0d\x0a");

$t->write_file('tls.py', <<'EOF');
import http.client, ssl, sys

proxy, host, port, name = sys.argv[1:]

context = ssl.create_default_context(cafile='ca.crt')
connection = http.client.HTTPConnection('127.0.0.1', int(proxy), timeout=10)
connection.set_tunnel(host, int(port))
connection.connect()

try:
    connection.sock = context.wrap_socket(connection.sock,
                                          server_hostname=name)
except (ssl.SSLError, OSError) as error:
    sys.exit(f'failed: {error}')

connection.request('GET', '/')
print(connection.getresponse().read().decode(), end='')
EOF

$t->write_file('tls.js', <<'EOF');
const http = require('http'), https = require('https');

const [ , , proxy, host, port, servername ] = process.argv;
const fail = (error) => {
    console.error(`failed: ${error.code} ${error.message}`);
    process.exit(1);
};

http.request({ host: '127.0.0.1', port: proxy, method: 'CONNECT',
    path: `${host}:${port}` })
    .on('connect', (response, socket) => {
        https.get({ socket, agent: false, servername, host, port, path: '/',
            createConnection: () => require('tls').connect({ socket,
                servername, ALPNProtocols: [ 'http/1.1' ] }),
        }, (r) => r.pipe(process.stdout)).on('error', fail);
    }).on('error', fail).end();
EOF

$t->run();

###############################################################################

my $name = 'secure.example.test';
my $port = port(8443);
my $secure = "$name:$port";
my $big = sha1_hex(pattern(10 * 1024 * 1024));

my %way = (
	http	=> 'http://127.0.0.1:' . port(8080),
	https	=> 'https://127.0.0.1:' . port(8081),
	socks5h	=> 'socks5h://127.0.0.1:' . port(8083),
	socks4a	=> 'socks4a://127.0.0.1:' . port(8083),
);

# curl: TLS of all kinds

for my $way (sort keys %way) {
	my @proxy = ('-x', $way{$way});

	is_client(curl($t, @proxy, "https://$secure/"),
		"https $secure $name\n", "curl, $way");
	is(seen($t), "$secure ok completed $name", "curl, $way, log");

	my $r = curl($t, @proxy, "https://$secure/big");
	is("$r->{status} " . sha1_hex($r->{out}), "0 $big",
		"curl, $way, download");
	is(seen($t), "$secure ok completed $name",
		"curl, $way, download, log");

	# domain fronting: the tunnel is for one name, TLS for another

	is_failed(curl($t, @proxy, '--connect-to', "::$secure",
		"https://other.example.test:$port/"),
		qr/unrecognized.name/i, "curl, $way, another name");
	is(seen($t), "$secure ok sni_mismatch other.example.test",
		"curl, $way, another name, log");

	# no TLS at all

	my $plain = 'plain.example.test:' . port(8091);

	is_failed(curl($t, @proxy, '-p', "http://$plain/"), qr/curl: \(\d+\)/,
		"curl, $way, plain text");
	is(seen($t), "$plain ok not_tls - 0", "curl, $way, plain text, log");
	is(target($t), '0 EOF', "curl, $way, plain text, target");
}

# addresses

for my $literal ("127.0.0.1:$port", "[::1]:$port") {
	is_client(curl($t, '-x', $way{http}, "https://$literal/"),
		"https $literal \n", "curl, $literal");
	is(seen($t), "$literal ok completed -", "curl, $literal, log");
}

is_failed(curl($t, '-x', $way{http}, '--connect-to', "::127.0.0.1:$port",
	"https://$secure/"), qr/unrecognized.name/i, 'curl, address and name');
is(seen($t), "127.0.0.1:$port ok sni_mismatch $name",
	'curl, address and name, log');

is_client(curl($t, qw/ --tls-max 1.2 --http1.1 -x /, $way{http},
	"https://$secure/"), "https $secure $name\n", 'curl, TLS 1.2');
seen($t);

# passthrough, whose name is the target: others are for the rules

my @direct = ('--connect-to', '::127.0.0.1:' . port(8084));

is_client(curl($t, @direct, "https://$secure/"), "https $secure $name\n",
	'curl, passthrough');
is(seen($t), "$secure ok completed $name", 'curl, passthrough, log');
is_failed(curl($t, @direct, "https://front.example.test:$port/"),
	qr/unrecognized.name/i, 'curl, passthrough, another name');
is(seen($t), "$secure ok sni_mismatch front.example.test",
	'curl, passthrough, another name, log');
is_failed(curl($t, @direct, "http://$secure/"), qr/curl: \(\d+\)/,
	'curl, passthrough, plain text');
is(seen($t), "$secure ok not_tls - 0", 'curl, passthrough, plain text, log');

# openssl

my $request = "GET / HTTP/1.0\x0d\x0aHost: $secure\x0d\x0a\x0d\x0a";

like(s_client($t, 8080, '-servername', $name)->{out},
	qr/https \Q$secure $name\E\n/, 'openssl');
is(seen($t), "$secure ok completed $name", 'openssl, log');
like(s_client($t, 8080, '-servername', 'SECURE.example.TEST')->{out},
	qr/https \Q$secure\E /, 'openssl, upper case');
is(seen($t), "$secure ok completed $name", 'openssl, upper case, log');

for my $case ([ 'other.example.test', '-servername', 'other.example.test' ],
	[ '-', '-noservername' ])
{
	my ($sni, @args) = @$case;

	is_failed(s_client($t, 8080, @args), qr/unrecognized name/i,
		"openssl, @args");
	is(seen($t), "$secure ok sni_mismatch $sni", "openssl, @args, log");

	like(s_client($t, 8082, @args)->{out}, qr/https \Q$secure\E /,
		"openssl, on, @args");
	is(seen($t), "$secure ok completed $sni", "openssl, on, @args, log");
}

# Python, Node

for my $case (
	[ python => sub { client($_[0], [ 'python3', 'tls.py', @_[1 .. $#_] ]) } ],
	[ node => sub { node($_[0], 'tls', @_[1 .. $#_]) } ],
) {
	my ($what, $run) = @$case;

	is_client($run->($t, port(8080), $name, $port, $name),
		"https $secure $name\n", $what);
	is(seen($t), "$secure ok completed $name", "$what, log");

	is_failed($run->($t, port(8080), $name, $port, 'other.example.test'),
		qr/unrecognized.name/i, "$what, another name");
	is(seen($t), "$secure ok sni_mismatch other.example.test",
		"$what, another name, log");
}

# git

$t->write_file('.gitconfig', <<EOF);
[user]
	name = test
	email = test\@example.test
[http]
	sslCAInfo = $d/ca.crt
EOF

done(client($t, [qw/ git init -q first /]));
$t->write_file('first/data', pattern(100000));
done(client($t, [qw/ git -C first add data /]));
done(client($t, [qw/ git -C first commit -q -m first /]));
done(client($t, [qw/ git clone -q --bare first project.git /]));
done(client($t, [qw/ git -C project.git update-server-info /]));

for my $way ('http', 'socks5h') {
	is_client(client($t, [ 'git', '-c', "http.proxy=$way{$way}", 'clone',
		'-q', "https://$secure/git/project.git", $way ]), '',
		"git, $way");
	like(seen($t), qr/^\Q$secure ok completed $name\E$/, "git, $way, log");
	ok($t->read_file("$way/data") eq pattern(100000),
		"git, $way, content");
}

# ssh, and what waits for a server to speak

for my $case (
	[ 'socat', 'socat - PROXY:127.0.0.1:%h:%p,proxyport=' . port(8080) ],
	[ 'ncat', 'ncat --proxy-type http --proxy 127.0.0.1:' . port(8080)
		. ' %h %p' ],
	[ 'ncat, SOCKS', 'ncat --proxy-type socks5 --proxy 127.0.0.1:'
		. port(8083) . ' --proxy-dns remote %h %p' ],
) {
	my ($what, $command) = @$case;

	my $r = client($t, [ 'ssh', '-F', '/dev/null', '-o', 'BatchMode=yes',
		'-o', "ProxyCommand=$command", '-p', port(8092),
		'ssh.example.test', 'true' ]);

	is($r->{status}, 255, "ssh by $what");
	unlike($r->{err}, qr/host key|authentic/i,
		"ssh by $what, not a word of the server");
	like(seen($t), qr/ ok not_tls - 0$/, "ssh by $what, log");
	is(target($t), '0 EOF', "ssh by $what, target");
}

my $r = client($t, [ 'socat', '-u', 'PROXY:127.0.0.1:mail.example.test:'
	. port(8093) . ',proxyport=' . port(8080), '-' ]);
is("$r->{status} $r->{out}", '0 ', 'a server that speaks first is not heard');
is(seen($t), 'mail.example.test:' . port(8093) . ' ok not_tls - 0',
	'a server that speaks first, log');
is(target($t), '0 EOF', 'a server that speaks first, target');

# Chromium, with what it has in its ClientHello

for my $case ([ http => 'http://127.0.0.1:' . port(8080) ],
	[ socks5 => 'socks5://127.0.0.1:' . port(8083) ])
{
	my ($what, $proxy) = @$case;

	$r = client($t, [ chromium($t, $proxy, $what),
		'--virtual-time-budget=10000', '--dump-dom',
		"https://www.example.test:$port/page/" ], timeout => 30);

	like($r->{out}, qr!<p id="p">got https www\.example\.test:$port !,
		"chromium, $what") || diag(substr $r->{err}, -2000);

	# what it asks for on its own account is not looked at

	my $at = "www.example.test:$port";
	my @lines = grep { /^\Q$at\E / } split /\n/, tunnels($t);
	ok(@lines && !(grep { !/ ok \w+ www\.example\.test / || / not_tls / }
		@lines), "chromium, $what, log") || diag(@lines);
}

# a page without TLS, for which SOCKS is the same tunnel

my $from = () = log_lines($t, 'tunnel.log');
my $targets = () = log_lines($t, 'target');

$r = client($t, [ chromium($t, 'socks5://127.0.0.1:' . port(8083), 'plain'),
	'--dump-dom', 'http://plain.example.test:' . port(8091) . '/' ],
	timeout => 30);
like($r->{out} . $r->{err}, qr/ERR_(?:EMPTY_RESPONSE|CONNECTION_\w+)/,
	'chromium, plain text') || diag($r->{out}, substr $r->{err}, -2000);

wait_log($t, 'target', qr/./, undef, $targets + 1);
my @got = log_lines($t, 'target');
is(join(' ', grep { !/^0 / } @got[$targets .. $#got]), '',
	'chromium, plain text, no byte for the target');
cmp_ok(@got - $targets, '>=', 1, 'which it has been connected to');

###############################################################################

sub curl {
	my ($t, @args) = @_;

	my $ca = $t->testdir() . '/ca.crt';

	return client($t, [ qw/ curl -q -sS --max-time 15 --cacert /, $ca,
		'--proxy-cacert', $ca, @args ]);
}

sub s_client {
	my ($t, $proxy, @args) = @_;

	return client($t, [ qw/ openssl s_client -quiet -ign_eof /,
		'-proxy', '127.0.0.1:' . port($proxy), '-connect', $secure,
		qw/ -CAfile ca.crt -verify_return_error /, @args ],
		in => $request);
}

sub done {
	my ($r) = @_;

	die "$r->{name}: $r->{err}\n" if $r->{status} ne '0';
}

# What is logged, without the bytes of those that were let through, whoever
# has closed them.

sub seen {
	my ($t, $n) = @_;

	return join "\n", map { s/ sni_mismatch \S+\K 0\z//r
			=~ s/ (?:completed|\w+_closed) (\S+) [1-9]\d*\z/ completed $1/r }
		split /\n/, tunnels($t, $n);
}

# What the last target got: bytes, and the end.

sub target {
	my ($t) = @_;

	our $targets;

	my $line = wait_log($t, 'target', qr/./, undef, ++$targets) || '';

	return $line =~ s/ \w+ (?:EOF|RESET)/ EOF/r;
}

###############################################################################
