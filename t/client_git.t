#!/usr/bin/perl

# Tests for CONNECT tunnels with git, and an https server of git's own.

###############################################################################

use warnings;
use strict;

use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Clients;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl auth_basic proxy/)->plan(24);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$request $status $tunnel_result';

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate git.crt;
    ssl_certificate_key git.key;

    target_allow git.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        listen 127.0.0.1:8080;
        listen 127.0.0.1:8081 ssl;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8082;
        access_log %%TESTDIR%%/tunnel.log tunnel;

        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;

        client_max_body_size 20m;

        location / {
            proxy_pass http://127.0.0.1:8083;
        }
    }
}

EOF

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'git', ca => 'ca', san => [ 'git.example.test', '127.0.0.1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");

start_daemon($t, \&dns_daemon, '127.0.0.1:' . port(8980, udp => 1),
	table => { 'git.example.test' => '127.0.0.1' });
start_daemon($t, \&git_daemon, '127.0.0.1:' . port(8083), $t->testdir());

$t->run();

###############################################################################

my $dir = $t->testdir();
my $server = 'git.example.test:' . port(8443);
my $connect = "CONNECT $server HTTP/1.1";

my $http = 'http://127.0.0.1:' . port(8080);
my $https = 'https://127.0.0.1:' . port(8081);
my $password = 'http://user:secret@127.0.0.1:' . port(8082);
my $wrong = 'http://user:wrong@127.0.0.1:' . port(8082);

$t->write_file('.gitconfig', <<EOF);
[user]
	name = test
	email = test\@example.test
[init]
	defaultBranch = main
[http]
	sslCAInfo = $dir/ca.crt
	proxySSLCAInfo = $dir/ca.crt
EOF

# the server's repository, and the commit it starts with

done(client($t, [qw/ git init -q --bare project.git /]));
done(client($t, [qw/ git -C project.git config http.receivepack true /]));
done(client($t, [qw/ git clone -q project.git first /]));

$t->write_file('first/data', pattern(5 * 1024 * 1024));

done(client($t, [qw/ git -C first add data /]));
done(client($t, [qw/ git -C first commit -q -m first /]));
done(client($t, [qw/ git -C first push -q origin HEAD:main /]));

# clone

for my $case ([ 'http', $http ], [ 'https', $https ]) {
	my ($name, $proxy) = @$case;

	is_client(git($t, $proxy, 'clone', '-q', "https://$server/project.git",
		$name), '', "$name clone");
	is(tunnels($t), "$connect 200 ok", "$name clone log");
	ok(slurp("$dir/$name/data") eq pattern(5 * 1024 * 1024),
		"$name clone content");
}

is_client(git($t, $http, 'clone', '-q', '--depth', 1,
	"https://$server/project.git", 'shallow'), '', 'shallow clone');
is(tunnels($t), "$connect 200 ok", 'shallow clone log');

# push of much, and fetch of it

$t->write_file('http/more', pattern(6 * 1024 * 1024, 11));

done(client($t, [qw/ git -C http add more /]));
done(client($t, [qw/ git -C http commit -q -m more /]));

my $commit = client($t, [qw/ git -C http rev-parse HEAD /])->{out};

is_client(git($t, $http, qw/ -C http push -q origin HEAD:main /), '', 'push');
is(tunnels($t), "$connect 200 ok", 'push log');
is_client(client($t, [qw/ git -C project.git rev-parse main /]), $commit,
	'push arrived');

is_client(git($t, $https, qw/ -C https pull -q /), '', 'pull');
is(tunnels($t), "$connect 200 ok", 'pull log');
ok(slurp("$dir/https/more") eq pattern(6 * 1024 * 1024, 11), 'pull content');

# git asks libcurl for any authentication, and the first answer is a 407

is_client(git($t, $password, 'ls-remote', "https://$server/project.git",
	'main'), substr($commit, 0, 40) . "\trefs/heads/main\n", 'password');
is(tunnels($t, 2), "$connect 407 -\n$connect 200 ok", 'password log');

is_client(git($t, $password, '-c', 'http.proxyAuthMethod=basic', 'ls-remote',
	"https://$server/project.git", 'main'),
	substr($commit, 0, 40) . "\trefs/heads/main\n", 'basic password');
is(tunnels($t), "$connect 200 ok", 'basic password log');

is_failed(git($t, $wrong, 'ls-remote', "https://$server/project.git"),
	qr/\b407\b/, 'wrong password');
like(tunnels($t, 2), qr!^$connect 407 -(\n$connect 407 -)+\z!,
	'wrong password log');

# refused

my $closed = 'git.example.test:' . port(8999);
is_failed(git($t, $http, 'clone', "https://$closed/project.git", 'none'),
	qr/\b502\b/, 'refused');
is(tunnels($t), "CONNECT $closed HTTP/1.1 502 refused", 'refused log');

is_failed(git($t, $http, 'clone', 'https://denied.example.test/', 'none'),
	qr/\b403\b/, 'denied');
is(tunnels($t), 'CONNECT denied.example.test:443 HTTP/1.1 403 denied_name',
	'denied log');

###############################################################################

sub git {
	my ($t, $proxy, @args) = @_;

	return client($t, [ 'git', '-c', "http.proxy=$proxy", @args ],
		env => { GIT_TERMINAL_PROMPT => 0 });
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

# Runs "git http-backend", a CGI program, one request at a time.

sub git_daemon {
	my ($listener, $dir) = @_;

	local $SIG{PIPE} = 'IGNORE';

	while (1) {
		my $s = $listener->accept() or next;

		my ($head, $state) = read_head($s);
		next if $state ne 'OK';

		my $size = $head =~ /^Content-Length: *(\d+)/mi ? $1 : 0;
		my $body = $size ? read_n($s, $size) : '';

		write_all($s, cgi($dir, $head, $body));
		close $s;
	}
}

sub cgi {
	my ($dir, $head, $body) = @_;

	my ($method, $path, $query)
		= $head =~ m!^(\S+) ([^?\s]+)(?:\?(\S*))? HTTP/!
		or return "HTTP/1.0 400 Bad Request\x0d\x0a\x0d\x0a";

	my %header = $head =~ /^([\w-]+): *(.*?)\x0d$/mg;

	open my $fh, '>', "$dir/cgi.in" or die "Can't write: $!\n";
	binmode $fh;
	print $fh $body;
	close $fh;

	local %ENV = (
		PATH			=> $ENV{PATH},
		HOME			=> $dir,
		GIT_PROJECT_ROOT	=> $dir,
		GIT_HTTP_EXPORT_ALL	=> 1,
		REQUEST_METHOD		=> $method,
		PATH_INFO		=> $path,
		QUERY_STRING		=> defined $query ? $query : '',
		CONTENT_LENGTH		=> length $body,
		CONTENT_TYPE		=> $header{'Content-Type'} || '',
		HTTP_CONTENT_ENCODING	=>
			$header{'Content-Encoding'} || '',
		GIT_PROTOCOL		=> $header{'Git-Protocol'} || '',
	);

	my $out = do {
		local $/;
		scalar `git http-backend < '$dir/cgi.in' 2>> '$dir/cgi.err'`;
	};

	my $status = $out =~ s/^Status: *(.*?)\x0d?\x0a//mi ? $1 : '200 OK';

	return "HTTP/1.0 $status\x0d\x0a$out";
}

###############################################################################
