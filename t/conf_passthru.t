#!/usr/bin/perl

# Tests for conf/passthru.conf, as it is: TLS by name, and the rest.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients;
use Test::Nginx::Namespace qw/ net mount /;
use Test::Nginx::Relay qw/ new_workers /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/stream/)->plan(22);

my $d = $t->testdir();

# the real addresses, which in this network are ours

my %server = (
	'gaukas.wang'		=> '185.199.111.153',
	'google.com'		=> '142.250.72.46',
	'www.google.com'	=> '142.250.72.46',
	'neverssl.com'		=> '34.223.124.45',
);

my %address = reverse %server;
ip("addr add $_/32 dev lo") for sort keys %address;

bind_file($t, '/etc/hosts', "127.0.0.1 localhost\n"
	. "$server{'neverssl.com'} neverssl.com\n");

conf_from($t, '../conf/passthru.conf',
	qr/^load_module [^;]*;\n(?:load_module [^;]*;\n)*/m
				=> "%%TEST_GLOBALS%%\ndaemon off;\n",
	qr/^stream \{\n/m	=> "stream {\n%%TEST_GLOBALS_STREAM%%\n");

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'gaukas', ca => 'ca', san => [ 'gaukas.wang' ]);
make_cert($t, 'google', ca => 'ca', san => [ qw/ google.com www.google.com / ]);

start_daemon($t, \&http_daemon, "$server{'gaukas.wang'}:443", body => 'gaukas',
	ssl_cert => "$d/gaukas.crt", ssl_key => "$d/gaukas.key");
start_daemon($t, \&http_daemon, "$server{'google.com'}:443", body => 'google',
	log => "$d/google", ssl_cert => "$d/google.crt",
	ssl_key => "$d/google.key");
start_daemon($t, \&http_daemon, "$server{'neverssl.com'}:80",
	body => 'neverssl', log => "$d/neverssl");

$t->run();

###############################################################################

# TLS, by name

for my $case (
	[ 'gaukas.wang', 'gaukas' ],
	[ 'google.com', 'google' ],
	[ 'www.google.com', 'google' ],
	[ 'WWW.Google.COM', 'google' ])
{
	my ($name, $body) = @$case;

	is_client(curl($t, "https://$name/"), $body, $name);
	is_client(curl($t, qw/ --tls-max 1.2 /, "https://$name/"), $body,
		"$name, TLS 1.2");
}

# a hello in small records, and in small segments

for my $step (0, 20) {
	my $s = tcp_connect('127.0.0.1:443');
	my $hello = client_hello(sni => 'google.com', fragment => 33);
	send_split($s, $hello, $step ? (step => $step) : ());
	is(read_n($s, 3), "\x16\x03\x03", "hello in records, step $step");
	close $s;
}

# other names, and none

for my $name ('example.com', 'mail.google.com', 'neverssl.com', '') {
	is_failed(client($t, [ qw/ openssl s_client -connect 127.0.0.1:443 /,
		$name eq '' ? '-noservername' : ('-servername', $name) ]),
		qr/alert number 112\b/, "alert for \"$name\"");
}

my $s = tcp_connect('127.0.0.1:443');
write_all($s, client_hello(sni => 'example.com'));
is(join(' ', unpack('H*', scalar read_n($s, 7)), (read_all($s))[1]),
	'15030300020270 EOF', 'alert, and an end');

# other protocols

is_client(curl($t, 'http://neverssl.com:443/page'), 'neverssl', 'HTTP');
ok(wait_log($t, 'neverssl', qr!^GET /page !), 'HTTP request');
is_client(curl($t, 'http://google.com:443/google'), 'neverssl',
	'HTTP, other host');

for my $line ('SSH-2.0-client', 'garbage') {
	$s = tcp_connect('127.0.0.1:443');
	write_all($s, "$line\r\n\r\n");
	ok(wait_log($t, 'neverssl', qr/^\Q$line\E$/), "catch-all: $line");
	close $s;
}

# after a reload

ok(new_workers($t), 'reload');

is_client(curl($t, 'https://gaukas.wang/'), 'gaukas', 'TLS after reload');

###############################################################################

sub curl {
	my ($t, @args) = @_;

	return client($t, [ qw/ curl -sS --cacert ca.crt --max-time 10 /,
		(map { ('--resolve', "$_:443:127.0.0.1") } qw/ gaukas.wang
			google.com www.google.com neverssl.com /), @args ]);
}

###############################################################################
