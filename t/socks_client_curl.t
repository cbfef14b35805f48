#!/usr/bin/perl

# Tests for SOCKS with curl.

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

my $t = Test::Nginx->new()->has(qw/http http_ssl proxy stream/)->plan(136);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
    worker_connections 1024;
}

stream {
    %%TEST_GLOBALS_STREAM%%

    log_format tunnel '$socks_version $socks_command $tunnel_target '
                      '$status $tunnel_result';
    log_format user '$socks_user';

    access_log %%TESTDIR%%/tunnel.log tunnel;
    access_log %%TESTDIR%%/user.log user;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow *:*;
    target_deny denied.example.test:*;
    target_allow_address 127.0.0.1 ::1;

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

        socks 5;
    }

    server {
        listen 127.0.0.1:8083;

        socks 4 4a;
        socks_userid alice ~^b;
        socks_auth_delay 300ms;
    }
}

http {
    %%TEST_GLOBALS_HTTP%%

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    server {
        listen 127.0.0.1:8443 ssl;
        listen [::1]:%%PORT_8443%% ssl;
        listen 127.0.0.1:8085;

        location / {
            return 200 "$scheme $http_host$http_authorization\n";
        }

        location /n/ {
            return 200 "$uri\n";
        }

        location = /big {
        }

        location = /upload {
            client_max_body_size 20m;
            client_body_in_file_only on;

            proxy_pass http://127.0.0.1:8086;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header X-File $request_body_file;
        }
    }

    server {
        listen 127.0.0.1:8086;
        return 200 $http_x_file;
    }

    # behind the first proxy, a second one

    server {
        listen 127.0.0.1:8087;

        resolver 127.0.0.1:%%PORT_8980_UDP%%;

        target_allow *:*;
        target_allow_address 127.0.0.1;
        connect_tunnel;
    }
}

EOF

my $dir = $t->testdir();

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'127.0.0.1', '::1' ]);

$t->write_file('users', "user:{PLAIN}secret\n"
	. 'apr:' . hashed('-apr1', 'secret') . "\n"
	. 'sha:' . hashed('-6', 'secret') . "\n"
	. "x\@y:{PLAIN}p s\@t/%\n"
	. 'u' x 255 . ':{PLAIN}' . 'p' x 255 . "\n");
$t->write_file('big', pattern(50 * 1024 * 1024));
$t->write_file('small', pattern(10 * 1024 * 1024, 7));

start_ftpd($t, port(8021), 'passive');

$t->write_file('ftp/file', pattern(1024 * 1024, 3));

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => {
		'secure.example.test' => '127.0.0.1',
		'plain.example.test' => '127.0.0.1',
		'six.example.test' => '::1',
		'denied.example.test' => '127.0.0.1',
		'inside.example.test' => '127.0.0.2',
	});

$t->run();

###############################################################################

my $secure = 'secure.example.test:' . port(8443);
my $plain = 'plain.example.test:' . port(8085);
my $ip = '127.0.0.1:' . port(8443);

my $socks = '127.0.0.1:' . port(8080);
my $auth = '127.0.0.1:' . port(8081);
my $only5 = '127.0.0.1:' . port(8082);
my $only4 = '127.0.0.1:' . port(8083);

# each version, and who resolves the name

my @local = ('--resolve', "$secure:127.0.0.1");

for my $case (
	[ 'socks4', 4, $ip, '--socks4', @local ],
	[ 'socks4a', '4a', $secure, '--socks4a' ],
	[ 'socks5', 5, $ip, '--socks5', @local ],
	[ 'socks5-hostname', 5, $secure, '--socks5-hostname' ])
{
	my ($name, $version, $target, $option, @args) = @$case;

	is_client(curl($t, $option, $socks, @args, "https://$secure/"),
		"https $secure\n", $name);
	is(tunnels($t), "$version connect $target 200 ok", "$name log");
}

for my $case (
	[ 'socks4', 4, "127.0.0.1:" . port(8085) ],
	[ 'socks4a', '4a', $plain ],
	[ 'socks5', 5, "127.0.0.1:" . port(8085) ],
	[ 'socks5h', 5, $plain ])
{
	my ($scheme, $version, $target) = @$case;

	my @args = ('-x', "$scheme://$socks");
	push @args, '--resolve', "$plain:127.0.0.1" if $target ne $plain;

	is_client(curl($t, @args, "http://$plain/"), "http $plain\n",
		"$scheme url");
	is(tunnels($t), "$version connect $target 200 ok",
		"$scheme url log");
}

# addresses that are given as such

for my $case ([ 'socks4', 4 ], [ 'socks4a', '4a?' ], [ 'socks5', 5 ],
	[ 'socks5h', 5 ])
{
	my ($scheme, $version) = @$case;

	is_client(curl($t, '-x', "$scheme://$socks", "https://$ip/"),
		"https $ip\n", "$scheme ipv4");
	like(tunnels($t), qr/^$version connect \Q$ip\E 200 ok\z/,
		"$scheme ipv4 log");
}

my $ip6 = '[::1]:' . port(8443);
my $socks6 = '[::1]:' . port(8080);

for my $scheme (qw/ socks5 socks5h /) {
	is_client(curl($t, '-x', "$scheme://$socks", "https://$ip6/"),
		"https $ip6\n", "$scheme ipv6");
	is(tunnels($t), "5 connect $ip6 200 ok", "$scheme ipv6 log");
}

is_client(curl($t, '-x', "socks5h://$socks6", "https://$ip6/"),
	"https $ip6\n", 'ipv6 proxy and target');
is(tunnels($t), "5 connect $ip6 200 ok", 'ipv6 proxy and target log');

# BND.ADDR is of another family than the request's

my $six = 'six.example.test:' . port(8443);
is_client(curl($t, '-k', '-x', "socks5h://$socks", "https://$six/"),
	"https $six\n", 'socks5h name of an ipv6 address');
is(tunnels($t), "5 connect $six 200 ok",
	'socks5h name of an ipv6 address log');

is_client(curl($t, '-k', '-x', "socks4a://$socks", "https://$six/"),
	"https $six\n", 'socks4a name of an ipv6 address');
is(tunnels($t), "4a connect $six 200 ok",
	'socks4a name of an ipv6 address log');

# connections

is_client(curl($t, '-x', "socks5h://$socks", "https://$secure/n/1",
	"https://$secure/n/2"), "/n/1\n/n/2\n", 'two requests');
is(tunnels($t), "5 connect $secure 200 ok", 'two requests in one tunnel');

for my $case ([ 'socks4a', '4a' ], [ 'socks5h', 5 ]) {
	my ($scheme, $version) = @$case;

	my $r = curl($t, '-x', "$scheme://$socks", '-Z',
		'--parallel-immediate', '--parallel-max', 20,
		"https://$secure/n/[1-20]");
	is($r->{status} . ' '
		. join(' ', sort { $a <=> $b } $r->{out} =~ /(\d+)/g),
		join(' ', 0, 1 .. 20), "$scheme tunnels at once");
	is(tunnels($t, 20), join("\n",
		("$version connect $secure 200 ok") x 20),
		"$scheme tunnels at once log");
}

# through this proxy to another one

is_client(curl($t, '--preproxy', "socks5h://$socks", '-x',
	'http://127.0.0.1:' . port(8087), "https://$secure/"),
	"https $secure\n", 'proxy behind it');
is(tunnels($t), '5 connect 127.0.0.1:' . port(8087) . ' 200 ok',
	'proxy behind it log');

# passwords

for my $case (
	[ 'password', 'user', '-U', 'user:secret', '-x', "socks5h://$auth" ],
	[ 'password in the url', 'user', '-x',
		"socks5h://user:secret\@$auth" ],
	[ 'password alone offered', 'user', '--socks5-basic', '-U',
		'user:secret', '-x', "socks5h://$auth" ],
	[ 'password that is hashed', 'apr', '-U', 'apr:secret', '-x',
		"socks5h://$auth" ],
	[ 'password that is hashed long', 'sha', '-U', 'sha:secret', '-x',
		"socks5h://$auth" ],
	[ 'odd password', 'x@y', '-x',
		"socks5h://x%40y:p%20s%40t%2F%25\@$auth" ],
	[ 'longest password', 'u' x 255, '-U', 'u' x 255 . ':' . 'p' x 255,
		'-x', "socks5h://$auth" ])
{
	my ($name, $user, @args) = @$case;

	is_client(curl($t, @args, "https://$secure/"), "https $secure\n",
		$name);
	is(tunnels($t), "5 connect $secure 200 ok", "$name log");
	is((log_lines($t, 'user.log'))[-1], $user, "$name user");
}

for my $case (
	[ 'wrong password', 'user', '-U', 'user:wrong' ],
	[ 'wrong password, alone offered', 'user', '--socks5-basic', '-U',
		'user:wrong' ],
	[ 'unknown user', 'nobody', '-U', 'nobody:secret' ])
{
	my ($name, $user, @args) = @$case;

	is_refused(curl($t, '-x', "socks5h://$auth", @args,
		"https://$secure/"), qr/rejected by the SOCKS5 server \(1 1\)/,
		$name);
	is(tunnels($t), '5 - - 407 auth_failed', "$name log");
	is((log_lines($t, 'user.log'))[-1], $user, "$name user");
}

is_refused(curl($t, '-x', "socks5h://$auth", "https://$secure/"),
	qr/No authentication method was acceptable/, 'no password');
is(tunnels($t), '5 - - 407 auth_failed', 'no password log');

# the server wants none

is_client(curl($t, '-x', "socks5h://$socks", '-U', 'user:wrong',
	"https://$secure/"), "https $secure\n", 'password that nobody wants');
is(tunnels($t), "5 connect $secure 200 ok", 'password that nobody wants log');

# a userid is no password

is_refused(curl($t, '-x', "socks4a://$auth", '-U', 'user:secret',
	"https://$secure/"), qr/different user-ids/, 'socks4 password');
like(tunnels($t), qr/ 407 auth_failed\z/, 'socks4 password log');

for my $user (qw/ alice bob /) {
	is_client(curl($t, '-x', "socks4a://$user\@$only4",
		"https://$secure/"), "https $secure\n", "userid $user");
	is(tunnels($t), "4a connect $secure 200 ok", "userid $user log");
	is((log_lines($t, 'user.log'))[-1], $user, "userid $user user");
}

is_refused(curl($t, '-x', "socks4://mallory\@$only4", "https://$ip/"),
	qr/different user-ids/, 'wrong userid');
like(tunnels($t), qr/ 407 auth_failed\z/, 'wrong userid log');

# versions that are not served

is_refused(curl($t, '-x', "socks4://$only5", "https://$ip/"),
	qr/\(91\), request rejected or failed/, 'socks4 where only socks5');
like(tunnels($t), qr/ 505 bad_version\z/, 'socks4 where only socks5 log');

is_refused(curl($t, '-x', "socks5h://$only4", "https://$secure/"),
	qr/No authentication method was acceptable/,
	'socks5 where only socks4');
like(tunnels($t), qr/ 505 bad_version\z/, 'socks5 where only socks4 log');

# no SOCKS

isnt(curl($t, '-x', "http://$socks", "https://$secure/")->{status}, 0,
	'http');
is(tunnels($t), '- - - 505 bad_version', 'http log');

# much data

my $sum = sha1_hex(pattern(10 * 1024 * 1024, 7));
my $big = sha1_hex(pattern(50 * 1024 * 1024));

for my $case ([ 'socks4a', '4a' ], [ 'socks5h', 5 ]) {
	my ($scheme, $version) = @$case;

	my $r = curl($t, '-x', "$scheme://$socks", '-T', 'small',
		"https://$secure/upload");
	is(file_sum($r->{out}), $sum, "$scheme upload");
	is(tunnels($t), "$version connect $secure 200 ok",
		"$scheme upload log");

	$r = curl($t, '-x', "$scheme://$socks", "https://$secure/big");
	is("$r->{status} " . sha1_hex($r->{out}), "0 $big",
		"$scheme download");
	is(tunnels($t), "$version connect $secure 200 ok",
		"$scheme download log");
}

# FTP: a tunnel for the control connection, and one for the data

my $ftp = 'plain.example.test:' . port(8021);

my $r = curl($t, '-x', "socks5h://$socks", "ftp://$ftp/file");
is("$r->{status} " . sha1_hex($r->{out}),
	'0 ' . sha1_hex(pattern(1024 * 1024, 3)), 'ftp') || diag($r->{err});
like(ftp_tunnels($t, $ftp), qr/^5 connect $ftp 200 ok\n5 connect \S+ 200 ok\z/,
	'ftp log');

$r = curl($t, '-x', "socks4a://$socks", '-T', 'small', "ftp://$ftp/copy");
is($r->{status} . ' ' . file_sum("$dir/ftp/copy"), "0 $sum", 'ftp upload')
	|| diag($r->{err});
like(ftp_tunnels($t, $ftp), qr/^4a connect $ftp 200 ok\n4a? connect \S+ 200 ok\z/,
	'ftp upload log');

# refused targets

my $denied = 'denied.example.test:' . port(8443);
my $inside = 'inside.example.test:' . port(8443);
my $closed = 'secure.example.test:' . port(8999);
my $nowhere = 'nowhere.example.test:443';

for my $case (
	[ 'denied name', $denied, 2, '403 denied_name' ],
	[ 'denied address', $inside, 2, '403 denied_address' ],
	[ 'refused', $closed, 5, '502 refused' ],
	[ 'no such name', $nowhere, 4, '502 resolve_failed' ])
{
	my ($name, $target, $code, $result) = @$case;

	is_refused(curl($t, '-x', "socks5h://$socks", "https://$target/"),
		qr/(?:Can't|cannot) complete SOCKS5 connection to \S+ \($code\)/,
		$name);
	is(tunnels($t), "5 connect $target $result", "$name log");

	is_refused(curl($t, '-x', "socks4a://$socks", "https://$target/"),
		qr/\(91\), request rejected or failed/, "socks4a $name");
	is(tunnels($t), "4a connect $target $result", "socks4a $name log");
}

###############################################################################

sub curl {
	my ($t, @args) = @_;

	return client($t, [ 'curl', '-q', '-sS', '--cacert',
		$t->testdir() . '/ca.crt', @args ]);
}

# curl fails in the exchange with the proxy, and tells its code

sub is_refused {
	my ($r, $re, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is_failed($r, $re, $name);
	is($r->{status}, 97, "$name exit status");
}

# In the order in which they were asked for.

sub ftp_tunnels {
	my ($t, $ftp) = @_;

	return join "\n", sort { ($b =~ /$ftp /) <=> ($a =~ /$ftp /) }
		split /\n/, tunnels($t, 2);
}

sub hashed {
	my ($method, $password) = @_;

	my $hash = `openssl passwd $method '$password'`;
	chomp $hash;
	die "Can't hash a password\n" unless length $hash;

	return $hash;
}

sub file_sum {
	my ($file) = @_;

	return "no file: $file" unless -f $file;
	return Digest::SHA->new(1)->addfile($file)->hexdigest();
}

###############################################################################
