#!/usr/bin/perl

# Tests for ngx_stream_connect_tunnel_module: a proxy for whatever host a
# client names in its ClientHello, what that may not reach, and what the client
# is told when it does not get there.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Relay;
use Test::Nginx::Socks qw/ ends /;
use Test::Nginx::Namespace qw/ net /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream/)->has_daemon('openssl');

use constant {
	UNRECOGNIZED	=> '15030300020270 EOF',
	INTERNAL	=> '15030300020250 EOF',
};

# addresses of the whole world, so that nothing else denies them

ip("addr add 9.9.9.$_/32 dev lo") for 9 .. 13;
ip('-6 addr add 2620:fe::9/128 dev lo nodad');

my $d = $t->testdir();

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$remote_port:$server_port $status '
                      '$tunnel_result $tunnel_reason '
                      '$tunnel_target $tunnel_address $tunnel_sni '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;
    target_resolve_timeout 700ms;
    target_connect_timeout 700ms;

    tunnel_preread on;
    tunnel_preread_timeout 300ms;

    relay_quota_zone $server_port zone=spent:1m limit=10 per=1h;

    # all by default; once more for HTTP

    server {
        listen 9.9.9.10:443;
        passthrough $preread_host:443;
    }

    server {
        listen 9.9.9.10:80;
        target_allow *:80;
        passthrough $preread_host:80;
    }

    # and another port, which is not allowed by default

    server {
        listen 9.9.9.10:8443;
        passthrough $preread_host:444;
    }

    # names

    server {
        listen 9.9.9.10:8081;
        target_allow *.sites.example:443 .both.example:443
                     ~^re[0-9]\.example:443$;
        target_deny bad.sites.example:* *.bad.both.example:443;
        passthrough $preread_host:443;
    }

    server {
        listen 9.9.9.10:8082;
        target_deny .sites.example:*;
        passthrough $preread_host:443;
    }

    # addresses

    server {
        listen 9.9.9.10:8083;
        target_allow_address 127.0.0.0/8;
        target_deny_address 127.0.0.2 9.9.9.9;
        passthrough $preread_host:443;
    }

    server {
        listen 9.9.9.10:8084;
        target_deny name.example:*;
        target_dry_run on;
        passthrough $preread_host:443;
    }

    # limits

    server {
        listen 9.9.9.10:8085;
        relay_quota spent;
        passthrough $preread_host:443;
    }

    server {
        listen 9.9.9.10:8086;
        relay_max_payload x$preread_alpn;
        passthrough $preread_host:443;
    }

    # literal targets that are not there

    server {
        listen 9.9.9.10:8087;
        passthrough 9.9.9.11:443;
    }

    server {
        listen 9.9.9.10:8088;
        tunnel_preread off;
        passthrough 9.9.9.11:443;
    }

    server {
        listen 9.9.9.10:8089;
        target_deny_address 9.9.9.9;
        passthrough 9.9.9.9:443;
    }

    # a part of this nginx, and not a proxy

    server {
        listen 9.9.9.9:444;
        listen [2620:fe::9]:443;
        return "own";
    }
}

EOF

make_cert($t, 'tls.example');

# names that are not what they seem to be

my %private = (
	a10	=> '10.0.0.1',
	a172	=> '172.16.1.1',
	a192	=> '192.168.1.1',
	a127	=> '127.0.0.1',
	a1272	=> '127.255.255.254',
	a0	=> '0.0.0.0',
	a169	=> '169.254.169.254',
	a100	=> '100.64.0.1',
	a192002	=> '192.0.2.1',
	a224	=> '224.0.0.1',
	a240	=> '240.0.0.1',
	a255	=> '255.255.255.255',
	six1	=> '::1',
	six0	=> '::',
	sixula	=> 'fd00::1',
	sixll	=> 'fe80::1',
	sixmc	=> 'ff02::1',
	sixm4	=> '::ffff:10.0.0.1',
	sixm127	=> '::ffff:127.0.0.1',
	six64	=> '64:ff9b::7f00:1',
	sixto4	=> '2002:7f00:1::1',
	sixc4	=> '::127.0.0.1',
	twice	=> [ '10.0.0.1', '::1' ],
	own	=> '9.9.9.10',
	own6	=> '2620:fe::9',
	ownall	=> [ '9.9.9.10', '2620:fe::9', '127.0.0.1' ],
);

my @sites = qw/ good.sites bad.sites a.b.sites sites evilsites both a.both
	a.bad.both bad.both re1 rex xre1 name other good.sites.example.evil /;

my $open = [ '9.9.9.9' ];
my $full = full_backlog('9.9.9.12:443');

start_daemon($t, \&echo_daemon, '9.9.9.9:443', greeting => 'there:');
start_daemon($t, \&echo_daemon, '9.9.9.9:80', greeting => 'there:');
start_daemon($t, \&echo_daemon, '127.0.0.1:443', greeting => 'local:');
start_daemon($t, \&echo_daemon, '127.0.0.2:443', greeting => 'local:');
start_daemon($t, \&echo_daemon, '9.9.9.13:443',
	ssl_cert => "$d/tls.example.crt", ssl_key => "$d/tls.example.key");
start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		(map { ("$_.example" => $private{$_}) } keys %private),
		(map { ("$_.example" => $open) } @sites),
		'mixed.example' => [ '10.0.0.1', '9.9.9.9' ],
		'second.example' => '127.0.0.2',
		'dead.example' => '9.9.9.11',
		'tls.example' => '9.9.9.13',
		'full.example' => '9.9.9.12',
		'lost.example' => '8.8.8.8',
		'silent.example' => 'TIMEOUT',
		'failing.example' => 'SERVFAIL',
	});

$t->waitforfile("$d/dns.log");

# what is there, by server

my @good = (
	[ 443, 'name' ], [ 443, 'NAME' ], [ 443, 'other' ], [ 443, 'mixed' ],
	[ 8081, 'good.sites' ], [ 8081, 'a.b.sites' ], [ 8081, 'both' ],
	[ 8081, 'a.both' ], [ 8081, 'bad.both' ], [ 8081, 're1' ],
	[ 8082, 'other' ],
	[ 8083, 'a127', 'local' ],
	[ 8084, 'name' ],
);

# and what is not

my @name = ('403 denied_name', UNRECOGNIZED);
my @address = ('403 denied_address', UNRECOGNIZED);

my @bad = (
	(map { [ 443, $_, @address ] } sort keys %private),
	(map { [ 8443, $_, @name ] } 'name', 'a127', 'nosuch'),

	(map { [ 8081, $_, @name ] } qw/ sites bad.sites evilsites a.bad.both
		rex xre1 name nosuch good.sites.example.evil /),
	(map { [ 8082, $_, @name ] } qw/ sites good.sites a.b.sites /),

	[ 8083, 'second', @address ],
	[ 8083, 'name', @address ],
	[ 8083, 'a10', @address ],
	[ 8083, 'own', @address ],
	[ 8089, 'name', @address ],

	# a rule that is only tried does not open what is closed

	[ 8084, 'a127', @address ],

	[ 443, 'dead', '502 refused', INTERNAL ],
	[ 443, 'full', '504 connect_timeout', INTERNAL ],
	[ 443, 'lost', '502 unreachable', INTERNAL ],
	[ 443, 'nosuch', '502 resolve_failed', INTERNAL ],
	[ 443, 'failing', '502 resolve_failed', INTERNAL ],
	[ 443, 'silent', '504 resolve_timeout', INTERNAL ],
	[ 8085, 'name', '429 client_limit', INTERNAL ],
	[ 8086, 'name', '500 internal', INTERNAL ],
	[ 8087, 'name', '502 refused', INTERNAL ],
	[ 8088, 'name', '502 refused', 'EOF|RESET' ],
);

$t->plan(3 * @good + 2 * @bad + 46);
$t->run();

###############################################################################

my ($pid) = workers($t);

for my $case (@good) {
	my ($port, $host, $who) = (@$case, 'there');

	my $name = "$port, $host";
	my $bytes = client_hello(sni => "$host.example");
	my $size = length "$who:$bytes";
	my $s = session($t, "9.9.9.10:$port");

	write_all($s, $bytes);
	ok(read_n($s, $size) eq "$who:$bytes", $name);
	half_close($s);
	is(ends($s), 'EOF', "$name, end");

	my $address = $who eq 'there' ? '9.9.9.9' : '127.0.0.1';
	is(session_log($t, $s), '200 ok completed ' . lc $host
		. ".example:443 $address:443 " . lc $host . '.example '
		. length($bytes) . " $size", "$name, logged");
}

# what is spent, is for this one

my $s = session($t, '9.9.9.10:8085');
write_all($s, client_hello(sni => 'name.example'));
read_all($s);
close $s;
like(session_log($t, $s), qr/^200 ok quota /, 'quota');

my @sessions;

for my $case (@bad) {
	my ($port, $host, $result, $end) = @$case;

	my $s = session($t, "9.9.9.10:$port");
	write_all($s, client_hello(sni => "$host.example"));
	push @sessions, [ $s, $result, $end, "$port, $host" ];
}

for (@sessions) {
	my ($s, undef, $end, $name) = @$_;

	like(ends($s), qr/^(?:$end)\z/, $name);
	close $s;
}

for (@sessions) {
	my ($s, $result, undef, $name) = @$_;

	like(session_log($t, $s), qr/^$result - /, "$name, logged");
}

# nothing of these went to the wrong place

is(join(' ', grep { !wait_log($t, 'error.log', qr/\[error\].*\Q"$_.example\E/
	. qr/:443" failed: denied_address, address /, 1) } sort keys %private),
	'', 'denied ones are logged');
ok(wait_log($t, 'error.log', qr/\[error\].*"a10\.example:443" failed: /
	. qr/denied_address, address 10\.0\.0\.1:443/), 'address logged');
ok(wait_log($t, 'error.log', qr/\[error\].*"own\.example:443" failed: /
	. qr/denied_address, .*own listening address/), 'own address logged');
ok(wait_log($t, 'error.log', qr/\[error\].*"rex\.example:443" failed: /
	. qr/denied_name/), 'name logged');
ok(wait_log($t, 'error.log', qr/\[warn\].*"name\.example:443" would be /
	. qr/denied by/), 'dry run logged');

# no name, or an address

for my $sni (undef, '9.9.9.9', '10.0.0.1', '2620:fe::9', '::1') {
	my $name = defined $sni ? $sni : 'no name';

	$s = session($t, '9.9.9.10:443');
	write_all($s, client_hello(defined $sni ? (sni => $sni) : ()));
	is(ends($s), UNRECOGNIZED, $name);
	close $s;
	like(session_log($t, $s), qr/^403 rejected - - - - - -$/,
		"$name, logged");
}

# those who speak HTTP are told nothing

for my $case ([ 'name.example', 'there:', '200 ok' ],
	[ '9.9.9.9', 'there:', '200 ok' ],
	[ 'a127.example', '', '403 denied_address' ],
	[ '127.0.0.1', '', '403 denied_address' ],
	[ '9.9.9.10', '', '403 denied_address' ],
	[ '[::1]', '', '403 denied_address' ],
	[ 'nosuch.example', '', '502 resolve_failed' ],
	[ 'dead.example', '', '502 refused' ])
{
	my ($host, $answer, $result) = @$case;
	my $request = "GET / HTTP/1.1\x0d\x0aHost: $host\x0d\x0a\x0d\x0a";

	$s = session($t, '9.9.9.10:80');
	write_all($s, $request);
	half_close($s);

	my ($got, $end) = read_all($s);
	is($got, $answer . ($answer && $request), "HTTP, $host");
	isnt($end, 'TIMEOUT', "HTTP, $host, end");
	like(session_log($t, $s), qr/^$result /, "HTTP, $host, logged");
}

# real clients

like(s_client('tls.example', '-connect', '9.9.9.10:443', '-CAfile',
	"$d/tls.example.crt", '-verify_hostname', 'tls.example'),
	qr/Verification: OK/, 'openssl');
like(s_client('a127.example'), qr/tlsv1 unrecognized name/,
	'openssl, denied');
like(s_client('dead.example'), qr/alert internal error/,
	'openssl, refused');
like(s_client('nosuch.example'), qr/alert internal error/,
	'openssl, unknown name');
like(s_client('name.example', '-connect', '9.9.9.10:8087'),
	qr/alert internal error/, 'openssl, target is not there');

is((workers($t))[0], $pid, 'worker lives');

###############################################################################

sub s_client {
	my ($name, @options) = @_;

	@options = ('-connect', '9.9.9.10:443') unless @options;

	return scalar `timeout 8 openssl s_client @options \\
		-servername $name </dev/null 2>&1`;
}

###############################################################################
