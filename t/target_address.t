#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: what addresses may be connected to.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my @denied = qw/
	0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254
	169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1
	192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1
	224.0.0.1 240.0.0.1 255.255.255.255
	:: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::127.0.0.1
	64:ff9b::7f00:1 64:ff9b::a00:1 64:ff9b:1::1 2002:7f00:1::1
	2001:0:1:2:3:4:80ff:fffe 100::1 2001:2::1 2001:10::1 2001:db8::1
	fc00::1 fd00::1 fe80::1 fec0::1 ff02::1 3fff::1 5f00::1
/;

my $t = Test::Nginx->new()->has(qw/http/)->plan(2 * @denied + 35);

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver 127.0.0.1:%%PORT_8980_UDP%% valid=1s;

    target_allow *:*;
    target_connect_timeout 1s;

    log_format tunnel '$tunnel_target $status $tunnel_result $tunnel_address '
                      '$http_x_id';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    # the default

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    # some opened

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;
        target_allow_address 127.0.0.2 127.1.0.0/16;
    }

    # denied wins over allowed

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;
        target_allow_address 127.0.0.0/8;
        target_deny_address 127.0.0.3 ::ffff:127.0.0.4;
    }

    # allowed ones out of all

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;
        target_allow_address 127.0.0.2;
        target_deny_address all;
    }

    # "private" wins

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;
        target_allow_address all;
        target_deny_address private;
    }

    server {
        listen 127.0.0.1:8086;
        connect_tunnel;
        target_allow_address private;
    }

    server {
        listen 127.0.0.1:8087;
        connect_tunnel;
        target_allow_address all;
    }

    server {
        listen 127.0.0.1:8088;
        connect_tunnel;
        target_allow_address 127.0.0.0/24;
        target_deny_address 127.0.0.3 10.0.0.0/8;
        target_dry_run on;
    }

    # a location's list in place of the server's

    server {
        listen 127.0.0.1:8089;
        target_allow_address 127.0.0.0/8;

        location / {
            connect_tunnel;
            target_allow_address 127.0.0.2;
        }
    }
}

EOF

my $d = $t->testdir();
my $p = port(8091);

start_daemon($t, \&sink_daemon, "127.0.0.$_:$p", greeting => "from $_",
	report => "$d/sink") for 1 .. 4;
start_daemon($t, \&sink_daemon, "[::1]:$p", greeting => 'from 6',
	report => "$d/sink");

start_daemon($t, \&dns_daemon, port(8980, udp => 1), log => "$d/dns.log",
	table => {
		(map { name($_) => $_ } @denied),
		'mixed.example' => [ '127.0.0.1', '127.0.0.2', '::1' ],
		'two.example' => '127.0.0.2',
		'three.example' => '127.0.0.3',
		'alias.example' => { CNAME => 'three.example' },
		'changes.example' => { turns => [
			{ A => [ '127.0.0.2' ], ttl => 1 },
			{ A => [ '127.0.0.3' ], ttl => 1 }
		] },
		'quick.example' => { turns => [
			map { { A => [ "127.0.0.$_" ], ttl => 0 } }
				map { (2, 3) } 1 .. 50
		] },
	});

$t->waitforfile("$d/dns.log");
$t->run();

###############################################################################

# literals and names: no connection is made

for my $addr (@denied) {
	my $host = $addr =~ /:/ ? "[$addr]" : $addr;

	is(refused($t, 8080, "$host:$p"), '403 denied_address -',
		"denied $addr");
	is(refused($t, 8080, name($addr) . ":$p"), '403 denied_address -',
		"denied name of $addr");
}

is(join(', ', log_lines($t, 'sink')), '', 'no connection to a denied address');

like(head(8080, "127.0.0.1:$p"),
	qr/^Proxy-Status: .*destination_ip_prohibited/m, 'told to the client');
ok(wait_log($t, 'error.log', qr/\[error\].*"127.0.0.1:$p" failed: /
	. qr/denied_address, address 127.0.0.1:$p, 127.0.0.0\/8/),
	'address and rule logged');

# opened

is(tunnel(8082, "127.0.0.2:$p"), 'from 2', 'address allowed');
is(tunnel(8082, "[::ffff:127.0.0.2]:$p"), 'from 2', 'mapped address allowed');
is(tunnel(8082, "two.example:$p"), 'from 2', 'address of a name allowed');
is(refused($t, 8082, "127.0.0.3:$p"), '403 denied_address -',
	'other address still denied');
is(refused($t, 8082, "127.1.2.3:$p"), '502 refused -', 'block allowed');

# only one of the addresses

is(tunnel(8082, "mixed.example:$p"), 'from 2', 'allowed one of addresses');
ok(wait_log($t, 'tunnel.log', qr/^mixed\S+ 200 ok 127.0.0.2:$p /),
	'address of the tunnel');

# deny wins

is(tunnel(8083, "127.0.0.2:$p"), 'from 2', 'not denied');
is(refused($t, 8083, "127.0.0.3:$p"), '403 denied_address -', 'deny wins');
is(refused($t, 8083, "[::ffff:127.0.0.3]:$p"), '403 denied_address -',
	'mapped address denied');
is(refused($t, 8083, "127.0.0.4:$p"), '403 denied_address -',
	'denied by a mapped address');
is(refused($t, 8083, "three.example:$p"), '403 denied_address -',
	'denied by name');
is(refused($t, 8083, "alias.example:$p"), '403 denied_address -',
	'denied by alias');
ok(wait_log($t, 'error.log', qr/"alias.example:$p" failed: /
	. qr/denied_address, .*target_deny_address 127.0.0.3/), 'rule logged');

is(tunnel(8084, "127.0.0.2:$p"), 'from 2', 'allowed out of all');
is(refused($t, 8084, "127.0.0.3:$p"), '403 denied_address -', 'all denied');
is(refused($t, 8085, "127.0.0.2:$p"), '403 denied_address -',
	'private denied');
is(tunnel(8086, "127.0.0.2:$p"), 'from 2', 'private allowed');
is(tunnel(8086, "[::1]:$p"), 'from 6', 'private allowed, IPv6');
is(tunnel(8087, "127.0.0.2:$p"), 'from 2', 'all allowed');
is(tunnel(8087, "[::1]:$p"), 'from 6', 'all allowed, IPv6');
is(tunnel(8089, "127.0.0.2:$p"), 'from 2', 'list of a location');
is(refused($t, 8089, "127.0.0.3:$p"), '403 denied_address -',
	'list of the server replaced');

# a dry run tries the rules that are set, the default stays

is(tunnel(8088, "127.0.0.2:$p"), 'from 2', 'dry run, allowed');
is(tunnel(8088, "127.0.0.3:$p"), 'from 3', 'dry run, denied');
ok(wait_log($t, 'error.log', qr/\[warn\].*address 127.0.0.3:$p would be /
	. qr/denied by "target_deny_address 127.0.0.3"/), 'dry run logged');
is(refused($t, 8088, "127.1.0.1:$p"), '403 denied_address -',
	'dry run, denied by default');
is(refused($t, 8088, "10.0.0.1:$p"), '403 denied_address -',
	'dry run, denied by a rule and by default');

# the answer that was checked is the one that is used

is(tunnel(8082, "changes.example:$p"), 'from 2', 'name before it changes');
ok(wait_for(sub { head(8082, "changes.example:$p") =~ / 403 / }),
	'name after it has changed');

my %seen;
$seen{tunnel(8082, "quick.example:$p")}++ for 1 .. 20;
ok(!grep({ !/^(?:from 2|)$/ } keys %seen), 'name that always changes');

ok(!grep({ / 200 / && !/ 127\.0\.0\.2:/ }
	grep { /^(?:changes|quick)/ } log_lines($t, 'tunnel.log')),
	'no tunnel to an address of a later answer');

###############################################################################

sub name {
	my ($addr) = @_;

	return ($addr =~ tr/:./-/r) . '.denied.example';
}

sub head {
	my ($proxy, $target) = @_;

	return (connect_tunnel(port($proxy), $target))[1];
}

# What the target says, nothing where there is no tunnel.

sub tunnel {
	my ($proxy, $target) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target);

	return $head =~ / 200 / ? read_n($s, 6) : '';
}

# Status, result and address as they are logged.

sub refused {
	my ($t, $proxy, $target) = @_;

	our $id++;

	connect_tunnel(port($proxy), $target, headers => [ "X-Id: id$id" ]);

	my $line = wait_log($t, 'tunnel.log', qr/ id$id$/);
	return $line =~ /^\S+ (.*) \S+$/ ? $1 : '';
}

###############################################################################
