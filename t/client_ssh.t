#!/usr/bin/perl

# Tests for CONNECT tunnels with ssh, through several of its ProxyCommands.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients qw/ :DEFAULT start_sshd ssh /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http auth_basic/)->plan(40);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request $status $tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    target_allow ssh.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8081;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }
}

EOF

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('password', "user:secret\n");
$t->write_file('data', pattern(5 * 1024 * 1024));

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'ssh.example.test' => '127.0.0.1' });

start_sshd($t, port(8022));

$t->run();

###############################################################################

my $dir = $t->testdir();
my $target = 'ssh.example.test:' . port(8022);
my $connect = qr/CONNECT $target HTTP\/1\.[01]/;

my $open = port(8080);
my $auth = port(8081);
my $data = pattern(5 * 1024 * 1024);

my %command = (
	nc		=> "nc -X connect -x 127.0.0.1:$open %h %p",
	ncat		=> "ncat --proxy-type http "
				. "--proxy 127.0.0.1:$open %h %p",
	socat		=> 'socat - PROXY:127.0.0.1:%h:%p,'
				. "proxyport=$open",
	corkscrew	=> "corkscrew 127.0.0.1 $open %h %p",
);

for my $name (sort keys %command) {
	my $command = $command{$name};

	is_client(ssh($t, $command, 'echo', 'SEE-THIS'), "SEE-THIS\n",
		"$name command");
	like(tunnels($t), qr/^$connect 200 ok$/, "$name command log");

	# both directions at once

	my $r = ssh($t, $command, 'cat', { in => $data });
	ok($r->{status} eq '0' && $r->{out} eq $data, "$name data")
		|| diag("status $r->{status}, " . length($r->{out})
			. " bytes, $r->{err}");
	like(tunnels($t), qr/^$connect 200 ok$/, "$name data log");

	unlink "$dir/copy", "$dir/copy2";

	$r = ssh_copy($t, $command, 'scp', 'data',
		"ssh.example.test:$dir/copy");
	is_client($r, '', "$name scp");
	like(tunnels($t), qr/^$connect 200 ok$/, "$name scp log");

	$t->write_file('sftp.batch', "get $dir/copy copy2\n");
	ssh_copy($t, $command, 'sftp', '-b', 'sftp.batch', 'ssh.example.test');
	ok(slurp("$dir/copy2") eq $data, "$name sftp of what scp sent");
	tunnels($t);
}

# passwords

# ncat sends its password when it is asked for it

is_client(ssh($t, "ncat --proxy 127.0.0.1:$auth --proxy-type http "
	. '--proxy-auth user:secret %h %p', 'echo', 'SEE-THIS'), "SEE-THIS\n",
	'ncat password');
like(tunnels($t, 2), qr/^$connect 407 -\n$connect 200 ok$/,
	'ncat password log');

is_client(ssh($t, "socat - PROXY:127.0.0.1:%h:%p,proxyport=$auth,"
	. 'proxyauth=user:secret', 'echo', 'SEE-THIS'), "SEE-THIS\n",
	'socat password');
like(tunnels($t), qr/^$connect 200 ok$/, 'socat password log');

is_client(ssh($t, "corkscrew 127.0.0.1 $auth %h %p $dir/password",
	'echo', 'SEE-THIS'), "SEE-THIS\n", 'corkscrew password');
like(tunnels($t), qr/^$connect 200 ok$/, 'corkscrew password log');

is_failed(ssh($t, "corkscrew 127.0.0.1 $auth %h %p", 'echo', 'SEE-THIS'),
	qr/Proxy Authentication Required/, 'corkscrew no password');
like(tunnels($t), qr/^$connect 407 -$/, 'corkscrew no password log');

is_failed(ssh($t, "socat - PROXY:127.0.0.1:%h:%p,proxyport=$auth,"
	. 'proxyauth=user:wrong', 'echo', 'SEE-THIS'),
	qr/Proxy Authentication Required/, 'socat wrong password');
like(tunnels($t), qr/^$connect 407 -$/, 'socat wrong password log');

# refused

is_failed(ssh($t, "nc -X connect -x 127.0.0.1:$open %h " . port(8999),
	'echo', 'SEE-THIS'), qr/502 Bad Gateway/, 'nc refused');
like(tunnels($t), qr/ 502 refused$/, 'nc refused log');

###############################################################################

sub ssh_copy {
	my ($t, $proxy, $program, @args) = @_;

	return client($t, [ $program, '-q', '-F', 'ssh_config', '-o',
		"ProxyCommand=$proxy", @args ]);
}

sub slurp {
	my ($file) = @_;

	open my $fh, '<', $file or return '';
	binmode $fh;
	local $/;
	return scalar <$fh>;
}

###############################################################################
