#!/usr/bin/perl

# Tests for SOCKS with small tools: socat, ncat, nc, proxychains4, wget,
# openssl s_client, git, apt, and curl with TLS around it all.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl proxy stream stream_ssl/)
	->plan(91);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result';

    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow secure.example.test:* 127.0.0.1:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
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
        socks 4 4a;
        socks_userid alice;
        socks_auth_delay 300ms;
    }

    server {
        listen 127.0.0.1:8083 ssl;
        ssl_certificate secure.crt;
        ssl_certificate_key secure.key;
        socks;
    }
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    server {
        listen 127.0.0.1:8443 ssl;
        listen 127.0.0.1:8084;

        location / {
            return 200 "$scheme $http_host$http_authorization\n";
        }

        location = /big {
        }

        location /project.git/ {
            proxy_pass http://127.0.0.1:8088;
        }
    }

    # what "git update-server-info" makes of a repository is files

    server {
        listen 127.0.0.1:8088;

        location / {
            root %%TESTDIR%%;
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'127.0.0.1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', pattern(5 * 1024 * 1024));
$t->write_file('.gitconfig', <<EOF);
[user]
	name = test
	email = test\@example.test
[init]
	defaultBranch = main
EOF

my $dir = $t->testdir();
my ($tls_port, $sum_port) = (port(8444), port(8085));
my $wrapper = port(8086);

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'secure.example.test' => '127.0.0.1' });
start_daemon($t, \&half_close_daemon, "127.0.0.1:$sum_port");

# a TLS server which is not nginx

$t->run_daemon('openssl', 's_server', '-quiet', '-www',
	'-accept', "127.0.0.1:$tls_port", '-cert', "$dir/secure.crt",
	'-key', "$dir/secure.key");
$t->waitforsocket("127.0.0.1:$tls_port") or die "Can't start s_server\n";

$t->run();

# TLS for clients that have none

$t->run_daemon('socat', "TCP-LISTEN:$wrapper,bind=127.0.0.1,reuseaddr,fork",
	'OPENSSL:127.0.0.1:' . port(8083) . ",cafile=$dir/ca.crt");
$t->waitforsocket("127.0.0.1:$wrapper") or die "Can't start socat\n";
tunnels($t);

###############################################################################

my $host = 'secure.example.test';
my $proxy = port(8080);
my $auth = port(8081);
my $userid = port(8082);
my $plain = port(8084);
my $tls = port(8443);
my $closed = port(8999);

my $data = pattern(5 * 1024 * 1024);
my $request = "GET / HTTP/1.0\x0d\x0aHost: $host\x0d\x0a\x0d\x0a";
my $answer = qr/\x0a\x0d?\x0ahttp $host\n\z/;

my ($r, $command);

# a small answer; much data, and the end of it while an answer is still to
# come; a target that refuses

my @tools = (
	[ 'socat socks4', 4, '127.0.0.1', qr/rejected or failed/,
		qw/ socat -t 10 - /,
		"SOCKS4:127.0.0.1:127.0.0.1:%p,socksport=$proxy" ],
	[ 'socat socks4a', '4a', $host, qr/rejected or failed/,
		qw/ socat -t 10 - /,
		"SOCKS4A:127.0.0.1:$host:%p,socksport=$proxy" ],
	[ 'ncat socks4', '4a', $host, qr/Proxy connection failed/,
		qw/ ncat --proxy-type socks4 --proxy-dns remote --proxy /,
		"127.0.0.1:$proxy", $host, '%p' ],
	[ 'ncat socks5', 5, $host, qr/Connection refused/i,
		qw/ ncat --proxy-type socks5 --proxy-dns remote --proxy /,
		"127.0.0.1:$proxy", $host, '%p' ],
	[ 'nc socks4', 4, '127.0.0.1', qr/rejected/,
		qw/ nc.openbsd -N -X 4 -x /, "127.0.0.1:$proxy",
		'127.0.0.1', '%p' ],
	[ 'nc socks5', 5, $host, qr/Connection refused/i,
		qw/ nc.openbsd -N -X 5 -x /, "127.0.0.1:$proxy", $host,
		'%p' ],
);

for my $case (@tools) {
	my ($name, $version, $target, $re, @command) = @$case;

	$r = client($t, [ to_port($plain, @command) ], in => $request);
	like($r->{out}, $answer, $name) || diag($r->{err});
	is(tunnels($t), "$version connect $target:$plain 200 ok",
		"$name log");

	is_client(client($t, [ to_port($sum_port, @command) ], in => $data),
		summary($data), "$name half close");
	is(tunnels($t), "$version connect $target:$sum_port 200 ok",
		"$name half close log");

	is_failed(client($t, [ to_port($closed, @command) ],
		in => $request), $re, "$name refused");
	is(tunnels($t), "$version connect $target:$closed 502 refused",
		"$name refused log");
}

# userids and passwords

$command = "SOCKS4A:127.0.0.1:$host:$plain,socksport=$userid";

$r = client($t, [ qw/ socat -t 10 - /, "$command,socksuser=alice" ],
	in => $request);
like($r->{out}, $answer, 'socat userid');
is(tunnels($t), "4a connect $host:$plain 200 ok", 'socat userid log');

is_failed(client($t, [ qw/ socat -t 10 - /, "$command,socksuser=mallory" ],
	in => $request), qr/different user-ids|ident/i, 'socat wrong userid');
like(tunnels($t), qr/ 407 auth_failed\z/, 'socat wrong userid log');

for my $case ([ 'password', 'secret' ], [ 'wrong password', 'wrong' ]) {
	my ($name, $password) = @$case;

	$r = client($t, [ qw/ ncat --proxy-type socks5 --proxy-dns remote
		--proxy /, "127.0.0.1:$auth", '--proxy-auth',
		"user:$password", $host, $plain ], in => $request);

	if ($password eq 'secret') {
		like($r->{out}, $answer, "ncat $name");
		is(tunnels($t), "5 connect $host:$plain 200 ok",
			"ncat $name log");

	} else {
		is_failed($r, qr/authentication failed/i, "ncat $name");
		is(tunnels($t), '5 - - 407 auth_failed', "ncat $name log");
	}
}

# proxychains4, with programs which know of no proxy

my @wget = (qw/ wget -q -O - -t 1 -T 10 --no-config
	--ca-certificate=ca.crt /);

for my $case (
	[ 'socks4', "socks4 127.0.0.1 $proxy", '4a' ],
	[ 'socks5', "socks5 127.0.0.1 $proxy", 5 ],
	[ 'socks4 userid', "socks4 127.0.0.1 $userid alice", '4a' ],
	[ 'socks5 password', "socks5 127.0.0.1 $auth user secret", 5 ])
{
	my ($name, $line, $version) = @$case;

	is_client(chained($t, $line, @wget, "https://$host:$tls/"),
		"https $host:$tls\n", "proxychains4 $name");
	is(tunnels($t), "$version connect $host:$tls 200 ok",
		"proxychains4 $name log");
}

is_client(chained($t, "socks4 127.0.0.1 $proxy", @wget,
	"https://127.0.0.1:$tls/"), "https 127.0.0.1:$tls\n",
	'proxychains4 socks4 address');
is(tunnels($t), "4 connect 127.0.0.1:$tls 200 ok",
	'proxychains4 socks4 address log');

isnt(chained($t, "socks5 127.0.0.1 $auth user wrong", @wget,
	"https://$host:$tls/")->{status}, 0, 'proxychains4 wrong password');
is(tunnels($t), '5 - - 407 auth_failed', 'proxychains4 wrong password log');

# a chain of two: the second is behind the first

is_client(chained($t, "socks5 127.0.0.1 $proxy\n"
	. "socks5 127.0.0.1 $auth user secret", @wget,
	"https://$host:$tls/"), "https $host:$tls\n", 'proxychains4 two');
is(join("\n", sort split /\n/, tunnels($t, 2)), join("\n", sort
	"5 connect 127.0.0.1:$auth 200 ok", "5 connect $host:$tls 200 ok"),
	'proxychains4 two log');

$r = chained($t, "socks5 127.0.0.1 $proxy", @wget, "https://$host:$tls/big");
is("$r->{status} " . sha1_hex($r->{out}), '0 ' . sha1_hex($data),
	'proxychains4 download') || diag($r->{err});
is(tunnels($t), "5 connect $host:$tls 200 ok", 'proxychains4 download log');

# openssl s_client, to nginx and to openssl s_server

for my $case ([ 'socks4', '4a' ], [ 'socks5', 5 ]) {
	my ($type, $version) = @$case;

	$r = s_client($t, "$type 127.0.0.1 $proxy", $tls);
	like($r->{out}, qr/\x0a\x0d?\x0ahttps $host\n\z/, "s_client $type")
		|| diag($r->{err});
	is(tunnels($t), "$version connect $host:$tls 200 ok",
		"s_client $type log");

	$r = s_client($t, "$type 127.0.0.1 $proxy", $tls_port);
	like($r->{out}, qr/^HTTP\/1.0 200 ok.*s_server.*<\/HTML>/si,
		"s_client and s_server $type") || diag($r->{err});
	is(tunnels($t), "$version connect $host:$tls_port 200 ok",
		"s_client and s_server $type log");
}

# git: the server's repository, and the commit it starts with

done(client($t, [qw/ git init -q --bare project.git /]));
done(client($t, [qw/ git clone -q project.git first /]));

$t->write_file('first/data', $data);

done(client($t, [qw/ git -C first add data /]));
done(client($t, [qw/ git -C first commit -q -m first /]));
done(client($t, [qw/ git -C first push -q origin HEAD:main /]));
done(client($t, [qw/ git -C project.git update-server-info /]));

for my $case (
	[ 'socks4a', '4a', "socks4a://127.0.0.1:$proxy" ],
	[ 'socks5h', 5, "socks5h://127.0.0.1:$proxy" ],
	[ 'socks5h-password', 5, "socks5h://user:secret\@127.0.0.1:$auth" ])
{
	my ($name, $version, $url) = @$case;

	is_client(git($t, $url, 'clone', '-q',
		"https://$host:$tls/project.git", $name), '', "git $name");
	like(tunnels($t), qr/^(?:$version connect $host:$tls 200 ok\n?)+\z/,
		"git $name log");
	ok(slurp("$dir/$name/data") eq $data, "git $name content");
}

is_failed(git($t, "socks5h://user:wrong\@127.0.0.1:$auth", 'ls-remote',
	"https://$host:$tls/project.git"),
	qr/rejected by the SOCKS5 server/, 'git wrong password');
is(tunnels($t), '5 - - 407 auth_failed', 'git wrong password log');

# apt speaks SOCKS5 itself

for my $case (
	[ 'apt', "socks5h://127.0.0.1:$proxy" ],
	[ 'apt password', "socks5h://user:secret\@127.0.0.1:$auth" ])
{
	my ($name, $url) = @$case;

	unlink "$dir/fetched";

	is(apt_fetch($t, $url, "https://$host:$tls/big")->{status}, 0, $name);
	ok(slurp("$dir/fetched") eq $data, "$name content");
	is(tunnels($t), "5 connect $host:$tls 200 ok", "$name log");
}

isnt(apt_fetch($t, "socks5h://user:wrong\@127.0.0.1:$auth",
	"https://$host:$tls/big")->{status}, 0, 'apt wrong password');
is(tunnels($t), '5 - - 407 auth_failed', 'apt wrong password log');

# all of it in TLS

for my $case ([ 'socks4a', '4a' ], [ 'socks5h', 5 ]) {
	my ($scheme, $version) = @$case;

	$r = client($t, [ qw/ curl -q -sS --cacert ca.crt -x /,
		"$scheme://127.0.0.1:$wrapper", "https://$host:$tls/big" ]);
	is("$r->{status} " . sha1_hex($r->{out}), '0 ' . sha1_hex($data),
		"$scheme in tls") || diag($r->{err});
	is(tunnels($t), "$version connect $host:$tls 200 ok",
		"$scheme in tls log");
}

###############################################################################

sub to_port {
	my ($port, @command) = @_;

	s/%p/$port/ for @command;

	return @command;
}

sub s_client {
	my ($t, $proxy, $port) = @_;

	return chained_in($t, $proxy, $request, qw/ openssl s_client -quiet
		-ign_eof -connect /, "$host:$port", '-servername', $host,
		qw/ -CAfile ca.crt -verify_return_error -verify_hostname /,
		$host);
}

sub chained {
	my ($t, $proxies, @command) = @_;

	return chained_in($t, $proxies, '', @command);
}

sub chained_in {
	my ($t, $proxies, $in, @command) = @_;

	$t->write_file('proxychains.conf', <<EOF);
strict_chain
quiet_mode
proxy_dns
tcp_read_time_out 10000
tcp_connect_time_out 10000
[ProxyList]
$proxies
EOF

	return client($t, [ qw/ proxychains4 -q -f proxychains.conf /,
		@command ], in => $in);
}

sub git {
	my ($t, $proxy, @args) = @_;

	return client($t, [ 'git', '-c', "http.proxy=$proxy", '-c',
		'http.sslCAInfo=' . $t->testdir() . '/ca.crt', @args ],
		env => { GIT_TERMINAL_PROMPT => 0 });
}

sub apt_fetch {
	my ($t, $proxy, $url) = @_;

	my $dir = $t->testdir();

	return client($t, [ '/usr/lib/apt/apt-helper',
		'-o', "Acquire::https::Proxy=$proxy",
		'-o', "Acquire::https::CaInfo=$dir/ca.crt",
		'-o', 'Acquire::Retries=0', '-o', 'APT::Sandbox::User=',
		'download-file', $url, "$dir/fetched" ],
		env => { APT_CONFIG => '/dev/null' });
}

sub done {
	my ($r) = @_;

	die "Can't prepare repository: $r->{err}\n" if $r->{status} ne '0';
}

sub slurp {
	my ($file) = @_;

	open my $fh, '<', $file or return '';
	binmode $fh;
	local $/;
	return scalar <$fh>;
}

###############################################################################
