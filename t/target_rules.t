#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: what target_allow and target_deny let pass.

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

my $t = Test::Nginx->new()->has(qw/http rewrite/)->plan(65);

port(8980, udp => 1);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    resolver 127.0.0.1:%%PORT_8980_UDP%% ipv6=off;

    target_allow_address 127.0.0.0/8;

    # the default

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    # every type of pattern

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;

        target_allow name.example:%%PORT_8091%%
                     *.sub.example:%%PORT_8091%%
                     .both.example:%%PORT_8091%%
                     127.0.0.1:%%PORT_8091%%
                     [::1]:%%PORT_8091%%
                     ~^regex\d+\.example:%%PORT_8091%%$
                     ~*^CASE\.example:%%PORT_8091%%$
                     ~^UPPER\.example:%%PORT_8091%%$;
        target_allow more.example:*;
    }

    # all but some

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;

        target_allow *:*;
        target_deny  deny.example:* *.deny.example:1-65535;
        target_deny  ~*^.+\.evil\.example:;
        target_deny  *:%%PORT_8092%%;
        target_deny  127.0.0.2:*;
    }

    # ranges

    server {
        listen 127.0.0.1:8084;
        connect_tunnel;

        target_allow *:8000-9000 *:443;
        target_deny  *:1-7999 *:9001-65535;
    }

    # a list of one level takes the place of the outer one

    server {
        listen 127.0.0.1:8085;
        connect_tunnel;

        target_allow server.example:*;
        target_deny  denied.example:*;

        location / {
            connect_tunnel;
            target_allow location.example:* denied.example:*;
        }
    }

    server {
        listen 127.0.0.1:8086;

        target_allow server.example:*;

        location / {
            connect_tunnel;
        }
    }

    server {
        listen 127.0.0.1:8087;

        target_allow *:*;

        location / {
            connect_tunnel;
            target_deny denied.example:*;

            if ($http_x_if) {
                set $unused 1;
            }
        }
    }

    # denied in the log only

    server {
        listen 127.0.0.1:8088;
        connect_tunnel;

        target_allow allow.example:*;
        target_deny  deny.example:*;
        target_dry_run on;
    }

    server {
        listen 127.0.0.1:8099;
        connect_tunnel;

        target_deny  deny.example:*;
        target_dry_run on;
    }

    # targets of the configuration: only rules that are set bind them

    server {
        listen 127.0.0.1:8089;
        connect_tunnel 127.0.0.1:8091;
    }

    server {
        listen 127.0.0.1:8090;
        connect_tunnel 127.0.0.1:8091;
        target_deny deny.example:*;
    }
}

EOF

my $log = 'error.log';

start_daemon($t, \&echo_daemon, port(8091), greeting => 'hello');
start_daemon($t, \&echo_daemon, port(8092));
start_daemon($t, \&dns_daemon, port(8980, udp => 1),
	table => { '*' => '127.0.0.1' }, log => $t->testdir() . '/dns.log');

$t->waitforfile($t->testdir() . '/dns.log');
$t->run();

###############################################################################

my ($p, $p2) = (port(8091), port(8092));

# without a rule port 443 is allowed, whoever is there

is(status(8080, "name.example:$p"), 403, 'default, other port');
is(status(8080, 'name.example:80'), 403, 'default, port 80');
is(status(8080, 'name.example:443'), 502, 'default, port 443');
is(scalar dns_queries($t, 'dns.log'), 1, 'denied name not resolved');

# types

is(status(8082, "name.example:$p"), 200, 'name');
is(status(8082, "NAME.Example:$p"), 200, 'name in upper case');
is(status(8082, "name.example.:$p"), 200, 'name with a trailing dot');
is(status(8082, "name.example:0$p"), 200, 'port with a leading zero');
is(status(8082, "name.example:$p2"), 403, 'name, other port');
is(status(8082, "a.name.example:$p"), 403, 'subdomain of a name');
is(status(8082, "xname.example:$p"), 403, 'longer name');
is(status(8082, "name.example.com:$p"), 403, 'name as a prefix');

is(status(8082, "a.sub.example:$p"), 200, 'subdomain');
is(status(8082, "a.b.SUB.example:$p"), 200, 'subdomain of a subdomain');
is(status(8082, "sub.example:$p"), 403, 'domain of subdomains');
is(status(8082, "xsub.example:$p"), 403, 'domain with a longer label');

is(status(8082, "both.example:$p"), 200, 'domain');
is(status(8082, "a.both.example:$p"), 200, 'subdomain of a domain');
is(status(8082, "aboth.example:$p"), 403, 'longer label of a domain');

is(status(8082, "127.0.0.1:$p"), 200, 'address');
is(status(8082, "127.0.0.2:$p"), 403, 'other address');
is(refused($t, 8082, "[0:0:0:0:0:0:0:1]:$p", "[::1]:$p"), 'denied_address',
	'IPv6 address, by its canonical form');
is(refused($t, 8082, "[::2]:$p"), 'denied_name', 'other IPv6 address');

is(status(8082, "regex1.example:$p"), 200, 'regex');
is(status(8082, "REGEX22.example:$p"), 200, 'regex on the canonical name');
is(status(8082, "regex.example:$p"), 403, 'regex does not match');
is(status(8082, "aregex1.example:$p"), 403, 'anchored regex');
is(status(8082, "case.example:$p"), 200, 'regex without case');
is(status(8082, "upper.example:$p"), 403, 'regex with case');

is(status(8082, "more.example:$p"), 200, 'second directive');
like(tunnel(8082, "more.example:$p"), qr/ 200 .*hello$/s, 'tunnel');

# an address in another spelling is not another name

is(status(8083, "127.0.0.2:$p"), 403, 'denied address');
is(status(8083, "$_:$p"), 400, "address as $_")
	for qw/ 127.2 0x7f000002 0x7f.0.0.2 017700000002 2130706434 0177.0.0.2
		127.0.0.02 127.0.0.2.. /;
is(status(8083, "127.0.0.2.:$p"), 403, 'denied address with a dot');

# deny wins

is(status(8083, "name.example:$p"), 200, 'all allowed');
is(status(8083, "deny.example:$p"), 403, 'deny');
is(status(8083, "DENY.example.:$p"), 403, 'deny, other spelling');
is(status(8083, "a.deny.example:$p"), 403, 'deny subdomain');
is(status(8083, "a.evil.example:$p"), 403, 'deny regex');
is(status(8083, "name.example:$p2"), 403, 'deny port');

# ranges

is(status(8084, "name.example:$p"), 200, 'port in a range');
is(refused($t, 8084, 'name.example:7999'), 'denied_name', 'below a range');
is(refused($t, 8084, 'name.example:9001'), 'denied_name', 'above a range');
is(refused($t, 8084, 'name.example:443'), 'denied_name', 'range denied');

# inheritance

is(status(8085, "location.example:$p"), 200, 'list of a location');
is(status(8085, "server.example:$p"), 403, 'list of the server replaced');
is(status(8085, "denied.example:$p"), 403, 'other list inherited');
is(status(8086, "server.example:$p"), 200, 'list of the server inherited');
is(status(8087, "denied.example:$p", headers => [ 'X-If: 1' ]), 403,
	'inherited into "if"');

# logged

my $rule = 'target_deny deny.example:*';

ok(wait_log($t, $log, qr/\[error\].*\Q"deny.example:$p" failed: denied_name, /
	. qr/\Q$rule/), 'rule logged');

# dry run

is(status(8088, "allow.example:$p"), 200, 'dry run, allowed');
is(status(8088, "deny.example:$p"), 200, 'dry run, denied');
ok(wait_log($t, $log, qr/\[warn\].*\Q"deny.example:$p" would be denied by /
	. qr/\Q"$rule"/), 'dry run logged');

# the default is not tried, and a rule that is does not open more

is(status(8099, "name.example:$p"), 403, 'dry run, denied by default');
is(status(8099, "deny.example:$p"), 403, 'dry run, denied by both');
is(status(8099, 'deny.example:443'), 502, 'dry run, denied by the rule');

# targets of the configuration

is(status(8089, 'name.example:1'), 200, 'target of the configuration');
is(status(8090, 'deny.example:1'), 403, 'denied by what was asked for');

###############################################################################

sub tunnel {
	my ($proxy, $target, %opt) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target, %opt);

	return $head . ($head =~ / 200 / ? read_n($s, 5) : '');
}

sub status {
	my ($proxy, $target, %opt) = @_;

	my ($s, $head) = connect_tunnel(port($proxy), $target, %opt);

	return $head =~ /^HTTP\S+ (\d+)/ ? $1 : $head;
}

# The result as it is logged.

sub refused {
	my ($t, $proxy, $target, $canonical) = @_;

	$canonical = $target unless defined $canonical;

	status($proxy, $target);

	my $line = wait_log($t, 'error.log',
		qr/tunnel to "\Q$canonical\E" failed/);
	return ($line || '') =~ /failed: (\w+)/ ? $1 : '';
}

###############################################################################
