#!/usr/bin/perl

# Tests for conf/port443.conf, as it is but for where its files are: one port
# for a web site, proxies, ssh, other servers, and the rest.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT start_sshd /;
use Test::Nginx::Namespace qw/ net mount /;
use Test::Nginx::Relay qw/ echo new_workers /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	SERVER	=> '9.9.9.1',		# of the whole world
	SERVER6	=> '2620:fe::1',
	FOREIGN	=> '9.9.9.9',		# another server
	INSIDE	=> '192.168.1.7',	# a client in our own network
	OUTSIDE	=> '198.51.100.7',
};

my $t = Test::Nginx->new()
	->has(qw/http http_ssl http_realip auth_basic stream stream_realip/)
	->plan(66);

my $d = $t->testdir();

ip("addr add $_/32 dev lo") for SERVER, FOREIGN, INSIDE, OUTSIDE;
ip('-6 addr add ' . SERVER6 . '/128 dev lo nodad');

bind_file($t, '/etc/hosts', "127.0.0.1 localhost\n"
	. join '', map { "$_->[0] $_->[1].example.net\n" }
	[ FOREIGN, 'www' ], [ SERVER, 'own' ], [ '10.0.0.5', 'private' ],
	[ FOREIGN, 'closed' ]);

# the foreign server has the same port, and what nginx listens on is denied

conf_from($t, '../conf/port443.conf',
	qr/^load_module [^;]*;\n(?:load_module [^;]*;\n)*/m
				=> "%%TEST_GLOBALS%%\ndaemon off;\n",
	qr/^(?:user|pid|error_log) [^;]*;\n/m	=> '',
	qr/^http \{\n/m		=> "http {\n%%TEST_GLOBALS_HTTP%%\n",
	qr/^stream \{\n/m	=> "stream {\n%%TEST_GLOBALS_STREAM%%\n",
	qr/\blisten 443;/	=> 'listen ' . SERVER . ':443;',
	qr/\blisten \[::\]:443;/	=> 'listen [' . SERVER6 . ']:443;',
	qr!/run/port443/!	=> '%%TESTDIR%%/',
	qr!/var/log/nginx/!	=> '%%TESTDIR%%/log-',
	qr!/var/www/html\b!	=> '%%TESTDIR%%/html');

mkdir "$d/html";
$t->write_file('html/index.html', "the web site\n");
$t->write_file('html/big', pattern(5000000));
$t->write_file('proxy.htpasswd', "user:{PLAIN}secret\n");

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, $_, ca => 'ca')
	for qw/ www.example.org proxy.example.org www.example.net /;

start_daemon($t, \&http_daemon, FOREIGN . ':443', log => "$d/foreign",
	body => "the foreign server\n",
	ssl_cert => "$d/www.example.net.crt",
	ssl_key => "$d/www.example.net.key");
start_daemon($t, \&echo_daemon, '127.0.0.1:1194');
start_sshd($t, 22);

$t->write_file('known_hosts', '[' . SERVER . ']:443 '
	. $t->read_file('host.pub'));

$t->run();

###############################################################################

my $site = "the web site\n";
my $foreign = "the foreign server\n";

# TLS, and what the web site knows of its client

for my $client (INSIDE, OUTSIDE) {
	is_client(curl($t, $client, 'https://www.example.org/?' . $client),
		$site, "web site, $client");
	ok(wait_log($t, 'log-access.log',
		qr/^\Q$client\E - .*"GET \/\?\Q$client\E /),
		"web site knows $client");
}

is_client(curl($t, SERVER6, 'https://www.example.org/'), $site,
	'web site, IPv6');
ok(wait_log($t, 'log-access.log', qr/^\Q${\SERVER6}\E - /),
	'web site knows IPv6 client');

is_front($t, OUTSIDE . " tls www.example.org site unix:$d/site.sock "
	. '200 ok', 'web site log');

my $r = curl($t, OUTSIDE, 'https://www.example.org/big');
ok($r->{out} eq pattern(5000000), 'much of the web site');

# TLS 1.2, and a hello of several segments with two key shares

is_client(curl($t, OUTSIDE, qw/ --tls-max 1.2 /,
	'https://www.example.org/'), $site, 'web site, TLS 1.2');

# others are known by name, and see no header in front of the TLS

is_client(curl($t, OUTSIDE, 'https://www.example.net/name'), $foreign,
	'foreign server');
ok(wait_log($t, 'foreign', qr!^GET /name !), 'request of foreign server');
is_front($t, OUTSIDE . ' tls www.example.net www.example.net:443 '
	. FOREIGN . ':443 200 ok', 'foreign server log');

# or are not known

for my $case (
	[ 'www.example.com', '403 denied_name', 'www.example.com:443' ],
	[ 'site', '403 denied_name', 'site:443' ],
	[ 'example.net.evil.test', '403 denied_name',
		'example.net.evil.test:443' ],
	[ 'private.example.net', '403 denied_address',
		'private.example.net:443' ],
	[ 'own.example.net', '403 denied_address', 'own.example.net:443' ],
	[ '', '403 rejected', ':443' ])
{
	my ($name, $result, $route) = @$case;

	my $r = client($t, [ 'openssl', 's_client', '-connect',
		SERVER . ':443', '-bind', OUTSIDE . ':0', $name eq ''
		? '-noservername' : ('-servername', $name) ]);

	is_failed($r, qr/alert number 112\b/, "alert for \"$name\"");
	is_front($t, OUTSIDE . ' tls ' . ($name || '-') . " $route - $result",
		"alert for \"$name\" log");
}

# CONNECT in the clear, within our network

$r = curl($t, INSIDE, '-x', 'http://' . SERVER . ':443',
	'https://www.example.net/connect');
is_client($r, $foreign, 'CONNECT');
ok(wait_log($t, 'log-access.log',
	qr/^\Q${\INSIDE}\E - .*"CONNECT www\.example\.net:443 .*" 200 /),
	'CONNECT log');
is_front($t, INSIDE . " http www.example.net proxy "
	. "unix:$d/proxy.sock 200 ok", 'CONNECT front log');

is_failed(curl($t, OUTSIDE, '-x', 'http://' . SERVER . ':443',
	'https://www.example.net/'), qr/403/, 'CONNECT from outside');
ok(wait_log($t, 'log-access.log',
	qr/^\Q${\OUTSIDE}\E - .*"CONNECT www\.example\.net:443 .*" 403 /),
	'CONNECT from outside log');

is_failed(curl($t, INSIDE, '-x', 'http://' . SERVER . ':443',
	'https://private.example.net/'), qr/403/, 'CONNECT to private address');

# CONNECT within TLS, for who has a password

my @proxy = qw! -x https://proxy.example.org:443 --proxy-cacert ca.crt !;

is_client(curl($t, OUTSIDE, @proxy, qw/ -U user:secret /,
	'https://www.example.net/'), $foreign, 'CONNECT within TLS');
ok(wait_log($t, 'log-access.log',
	qr/^\Q${\OUTSIDE}\E - user .*"CONNECT www\.example\.net:443 .*" 200 /),
	'CONNECT within TLS log');
is_failed(curl($t, OUTSIDE, @proxy, qw/ -U user:wrong /,
	'https://www.example.net/'), qr/407/, 'wrong password');
is_failed(curl($t, INSIDE, @proxy, 'https://www.example.net/'), qr/407/,
	'no password');

# HTTP

is_client(curl($t, OUTSIDE, '-w', '%{http_code} %{redirect_url}',
	'-o', '/dev/null', 'http://www.example.org:443/path?a=b'),
	'301 https://www.example.org/path?a=b', 'HTTP');
ok(wait_log($t, 'log-access.log',
	qr/^\Q${\OUTSIDE}\E - .*"GET \/path\?a=b .*" 301 /), 'HTTP log');

# a proxy is not behind an ordinary request

my $s = tcp_connect(SERVER . ':443');
write_all($s, "GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n");
like(scalar read_head($s), qr/^HTTP\/1\.1 301 /, 'GET');
write_all($s, connect_request('www.example.net:443'));
like(scalar read_all($s), qr/^HTTP\/1\.1 (?:400|405) /m,
	'no CONNECT behind GET');

# SOCKS

for my $option (qw/ --socks5-hostname --socks4a /) {
	my $protocol = $option =~ /5/ ? 'socks5' : 'socks4';
	my $line = INSIDE . ($option =~ /5/ ? ' 5' : ' 4a')
		. ' www.example.net:443 ' . FOREIGN . ':443 200 ok ';

	is_client(curl($t, INSIDE, $option, SERVER . ':443',
		"https://www.example.net/$protocol"), $foreign, $protocol);
	ok(wait_log($t, 'foreign', qr!^GET /$protocol !),
		"$protocol request");
	is_front($t, INSIDE . " $protocol - socks "
		. "unix:$d/socks.sock 200 ok", "$protocol log");
	ok(wait_log($t, 'log-socks.log', qr/^\S+ \Q$line\E/),
		"$protocol, log of the server");
	is_failed(curl($t, OUTSIDE, $option, SERVER . ':443',
		'https://www.example.net/'), qr/./, "$protocol from outside");
	ok(wait_log($t, 'error.log',
		qr/forbidden by rule.* client: \Q${\OUTSIDE}\E, .*socks\.sock/,
		undef, $option =~ /5/ ? 1 : 2),
		"$protocol from outside is forbidden");
}

# ssh, and a client that waits

is_client(ssh_client($t, 'echo', 'SEE-THIS'), "SEE-THIS\n", 'ssh');
is_front($t, OUTSIDE . ' ssh - sshd 127.0.0.1:22 200 ok',
	'ssh log');

my $data = pattern(3000000);
$r = ssh_client($t, 'cat', { in => $data });
ok($r->{out} eq $data, 'ssh data');

$s = tcp_connect(SERVER . ':443');
like(scalar read_n($s, 8), qr/^SSH-2\.0-$/, 'silence is for sshd');
close $s;

# the rest

$s = tcp_connect(SERVER . ':443');
is(echo($s, "\0\x0e8garbage"), "\0\x0e8garbage", 'the rest');
is(echo($s, pattern(100000)), pattern(100000), 'more of it');
half_close($s);
is((read_all($s))[1], 'EOF', 'the rest ends');
is_front($t, SERVER . ' unknown - other 127.0.0.1:1194 200 ok',
	'the rest log');

# all of them once more, behind a reload, with a connection from before

$s = tcp_connect(SERVER . ':443');
is(echo($s, "\0\x0e8before"), "\0\x0e8before", 'before reload');

ok(new_workers($t), 'reload');

is_client(curl($t, OUTSIDE, 'https://www.example.org/'), $site,
	'web site after reload');
is_client(curl($t, OUTSIDE, 'https://www.example.net/'), $foreign,
	'foreign server after reload');
is_client(curl($t, INSIDE, '-x', 'http://' . SERVER . ':443',
	'https://www.example.net/'), $foreign, 'CONNECT after reload');
is_client(curl($t, INSIDE, '--socks5-hostname', SERVER . ':443',
	'https://www.example.net/'), $foreign, 'SOCKS after reload');
is_client(ssh_client($t, 'echo', 'SEE-THIS'), "SEE-THIS\n",
	'ssh after reload');

is(echo($s, 'and after'), 'and after', 'connection of before');
close $s;

###############################################################################

sub curl {
	my ($t, $from, @args) = @_;

	my $server = $from =~ /:/ ? '[' . SERVER6 . ']' : SERVER;

	return client($t, [ 'curl', '-sS', '--interface', $from,
		'--cacert', 'ca.crt', '--noproxy', '', '--max-time', 10,
		(map { ('--resolve', "$_:443:$server") }
			qw/ www.example.org proxy.example.org /),
		(grep { $_ eq '-x' || /^--socks/ } @args) ? ()
			: ('--resolve', "www.example.net:443:$server"),
		@args ]);
}

sub ssh_client {
	my ($t, @command) = @_;

	my $opt = ref $command[-1] ? pop @command : {};

	return client($t, [ 'ssh', '-F', 'ssh_config', '-b', OUTSIDE,
		'-p', 443, SERVER, @command ], %$opt);
}

# A line of the log, without the time, and without how it ended.

sub is_front {
	my ($t, $line, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;

	my $ok = wait_log($t, 'log-port443.log', qr/^\S+ \Q$line\E \S+ \S+ \S+$/);

	ok($ok, $name) or diag(join "\n", "no $line",
		log_lines($t, 'log-port443.log'));
}

###############################################################################
