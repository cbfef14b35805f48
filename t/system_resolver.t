#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: names, with what the system knows.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Namespace qw/ net mount /;
use Test::Nginx::Relay;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http/)->plan(20);

bind_file($t, '/etc/resolv.conf', <<'EOF');
# nameserver 127.0.0.52
; nameserver 127.0.0.52
search example
options timeout:1
nameserver	127.0.0.53	# as some write it
EOF

bind_file($t, '/etc/hosts', <<'EOF');
# 127.0.0.2 commented.example
127.0.0.1	localhost
::1		localhost	ip6-localhost

127.0.0.2	hosts.example Alias.Example alias	# 127.0.0.3
127.0.0.2	both.example
not-an-address	wrong.example
169.254.169.254	metadata.example
127.0.0.2	two.example
127.0.0.3	two.example
EOF

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    target_allow *:*;
    target_allow_address 127.0.0.0/8 ::1;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
    }

    # with a resolver there is nothing but the resolver

    server {
        listen 127.0.0.1:8082;
        connect_tunnel;
        resolver 127.0.0.54;
    }

    # other timeout

    server {
        listen 127.0.0.1:8083;
        connect_tunnel;
        target_resolve_timeout 500ms;
    }
}

EOF

my $d = $t->testdir();
my $p = port(8091);

start_daemon($t, \&echo_daemon, "127.0.0.$_:$p", greeting => "from $_")
	for 1 .. 4;
start_daemon($t, \&echo_daemon, "[::1]:$p", greeting => 'from 6');

start_daemon($t, \&dns_daemon, '127.0.0.53:53', log => "$d/dns.log",
	table => {
		'dns.example' => '127.0.0.4',
		'both.example' => '127.0.0.4',
		'six.example' => '::1',
		'silent.example' => 'TIMEOUT',
		'late.example' => '127.0.0.4',
	});

start_daemon($t, \&dns_daemon, '127.0.0.54:53', log => "$d/dns2.log",
	table => { 'hosts.example' => '127.0.0.4' });

start_daemon($t, \&dns_daemon, '127.0.0.52:53', log => "$d/dns3.log",
	table => { '*' => '127.0.0.4' });

$t->waitforfile("$d/$_") for qw/ dns.log dns2.log dns3.log /;
$t->run();

###############################################################################

# hosts

like(tunnel("localhost:$p"), qr/^from [16]$/, 'localhost');
is(tunnel("hosts.example:$p"), 'from 2', 'name');
is(tunnel("HOSTS.example.:$p"), 'from 2', 'name in another spelling');
is(tunnel("alias.example:$p"), 'from 2', 'second name');
is(tunnel("alias:$p"), 'from 2', 'third name');
is(tunnel("both.example:$p"), 'from 2', 'hosts before DNS');
like(tunnel("two.example:$p"), qr/^from [23]$/, 'two addresses');
is(scalar dns_queries($t, 'dns.log'), 0, 'nobody asked');

is(status("metadata.example:$p"), 403, 'address of a name is checked');
is(status("commented.example:$p"), 502, 'comment');
is(status("wrong.example:$p"), 502, 'not an address');

# DNS

is(tunnel("dns.example:$p"), 'from 4', 'name server');
is(tunnel("six.example:$p"), 'from 6', 'name server, IPv6');
is(status("nothing.example:$p"), 502, 'no name');
is(status("dns:$p"), 502, 'no search list');
is(status("silent.example:$p", 8083), 504, 'no answer');
is(scalar dns_queries($t, 'dns3.log'), 0, 'name server in a comment');

# a resolver of the configuration knows no hosts

is(tunnel("hosts.example:$p", 8082), 'from 4', 'resolver');

# files are read anew on reload

$t->write_file('_etc_hosts', "127.0.0.3 hosts.example\n");
my ($old) = workers($t);
$t->reload();
new_worker($t, $old);

is(tunnel("hosts.example:$p"), 'from 3', 'hosts after reload');
is(tunnel("both.example:$p"), 'from 4', 'name gone from hosts');

###############################################################################

sub start {
	my ($target, $proxy) = @_;

	return connect_tunnel(port($proxy || 8080), $target);
}

sub status {
	my ($s, $head) = start(@_);

	return $head =~ /^HTTP\S+ (\d+)/ ? $1 : $head;
}

sub tunnel {
	my ($s, $head) = start(@_);

	return $head =~ / 200 / ? scalar read_n($s, 6) : $head;
}

###############################################################################
