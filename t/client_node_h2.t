#!/usr/bin/perl

# Tests for CONNECT over HTTP/2 with Node's http2.

###############################################################################

use warnings;
use strict;

use Digest::SHA qw/ sha1_hex /;
use JSON::PP qw/ decode_json encode_json /;
use Test::More;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::H2 qw/ h2_conf /;
use Test::Nginx::Clients qw/ :DEFAULT node /;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

my $t = Test::Nginx->new()->has(qw/http http_ssl http_v2 auth_basic rewrite/)
	->plan(50);

my $conf = <<'EOF';

%%TEST_GLOBALS%%

daemon off;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    log_format tunnel '$http_x_id|$connection|$server_protocol $http2 '
                      '$request $status $tunnel_result $tunnel_reason '
                      '$tunnel_bytes_received $tunnel_bytes_sent';
    access_log %%TESTDIR%%/tunnel.log tunnel;

    resolver 127.0.0.1:%%PORT_8980_UDP%%;

    ssl_certificate secure.crt;
    ssl_certificate_key secure.key;

    target_allow secure.example.test:*;
    target_allow_address 127.0.0.1;

    server {
        LISTEN 127.0.0.1:8080;
        connect_tunnel;
    }

    server {
        LISTEN 127.0.0.1:8081 ssl;
        connect_tunnel;

        location = /page {
            return 200 "page\n";
        }
    }

    server {
        LISTEN 127.0.0.1:8082 ssl;
        auth_basic proxy;
        auth_basic_user_file users;

        connect_tunnel;
    }

    server {
        LISTEN 127.0.0.1:8083 ssl;
        keepalive_requests 3;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:8443 ssl;
        access_log off;

        location / {
            return 200 "$scheme $http_host$uri\n";
        }

        location = /big {
        }
    }
}

EOF

$t->write_file_expand('nginx.conf', h2_conf($t, $conf));

make_cert($t, 'ca', cn => 'test CA', is_ca => 1);
make_cert($t, 'secure', ca => 'ca', san => [ 'secure.example.test',
	'127.0.0.1' ]);

$t->write_file('users', "user:{PLAIN}secret\n");
$t->write_file('big', pattern(5 * 1024 * 1024));

my $d = $t->testdir();

start_daemon($t, \&dns_daemon, port(8980, udp => 1),
	table => { 'secure.example.test' => '127.0.0.1' });
start_daemon($t, \&echo_daemon, port(8091));
start_daemon($t, \&half_close_daemon, port(8092));
start_daemon($t, \&fin_first_daemon, port(8093), report => "$d/fin_first");
start_daemon($t, \&sink_daemon, port(8094), greeting => 'hello',
	report => "$d/sink");
start_daemon($t, \&reset_daemon, port(8095), greeting => 'hello');
start_daemon($t, \&slow_daemon, port(8096), bytes => 100000, chunk => 10,
	delay => 0.05);

our @ports = (8080 .. 8083, 8091 .. 8096, 8443, 8999);
port($_) for @ports;

# Each script has this in front, is given the ports, and tells what it saw, as
# JSON.

our $common = <<'EOF';
const http2 = require('http2'), https = require('https');
const crypto = require('crypto');
const { once } = require('events');

const port = JSON.parse(process.argv[2]);
const host = 'secure.example.test';
const told = {};

const connect = (n, scheme = 'https') => {
    const session = http2.connect(`${scheme}://127.0.0.1:${port[n]}`);
    session.on('error', (e) => { told.error = e.message; });
    return session;
};

// the stream, once its status is there
const tunnel = async (session, id, target, headers = {}) => {
    const authority = port[target] ? `${host}:${port[target]}` : target;
    const stream = session.request({ ':method': 'CONNECT',
        ':authority': authority, 'x-id': id, ...headers },
        { endStream: false });
    stream.on('error', () => {});
    [ stream.head ] = await once(stream, 'response');
    stream.status = stream.head[':status'];
    return stream;
};

const text = async (stream) => {
    const parts = [];
    for await (const part of stream)
        parts.push(part);
    return Buffer.concat(parts).toString('latin1');
};

const some = async (stream, n) => {
    let bytes = '';
    while (bytes.length < n) {
        const part = stream.read();
        if (part)
            bytes += part.toString('latin1');
        else
            await once(stream, 'readable');
    }
    return bytes;
};

const echo = async (stream, bytes) => {
    stream.write(bytes);
    return await some(stream, bytes.length);
};

// an error is no hindrance
const closed = (stream) => new Promise((resolve) => {
    if (stream.closed && stream.destroyed)
        resolve();
    stream.once('close', resolve);
});

const get = (stream, path) => new Promise((resolve, reject) => {
    https.get({ host, port: port[8443], path, agent: false,
        socket: stream, servername: host },
        (r) => text(r).then(resolve, reject)).on('error', reject);
});

const sha1 = (bytes) =>
    crypto.createHash('sha1').update(bytes, 'latin1').digest('hex');

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// the event does not always come
const finish = (session) => {
    session.close();
    return Promise.race([ closed(session), pause(1000) ]);
};

const main = (f) => f().catch((e) => { told.thrown = e.stack; }).then(() => {
    console.log(JSON.stringify(told));
    process.exit(0);
});
EOF

$t->run();

###############################################################################

my $name = 'secure.example.test';

# many at once, and ordinary requests beside them

my $r = script($t, 'several', <<'EOF');
main(async () => {
    const session = connect(8081);
    const all = [];

    for (let n = 0; n < 30; n++)
        all.push(tunnel(session, `several ${n}`, 8443)
            .then((stream) => get(stream, `/${n}`)));

    const page = session.request({ ':path': '/page' });
    const [ head ] = await once(page, 'response');
    told.page = head[':status'] + ' ' + await text(page);

    told.bodies = await Promise.all(all);
    told.sums = await Promise.all([ 1, 2, 3 ].map((n) =>
        tunnel(session, `big ${n}`, 8443)
            .then((stream) => get(stream, '/big')).then(sha1)));

    told.alpn = session.alpnProtocol;
    told.extended = session.remoteSettings.enableConnectProtocol;

    await finish(session);
});
EOF

is(join('', @{$r->{bodies} || []}), join('', map {
	"https $name:" . port(8443) . "/$_\n" } 0 .. 29), 'TLS in streams');
is($r->{page}, "200 page\n", 'ordinary request');
is(join(' ', @{$r->{sums} || []}),
	join(' ', (sha1_hex(pattern(5 * 1024 * 1024))) x 3), 'bulk');
is($r->{alpn}, 'h2', 'ALPN');
ok(!$r->{extended}, 'no extended CONNECT');

my @lines = lines($t, 'several \d+', 30);
is(scalar(grep { m!^HTTP/2\.0 h2 CONNECT \S+ HTTP/2\.0 200 ok \S+ \d+ \d+\z! }
	@lines), 30, 'all logged');
is(connections($t, '(?:several|big) \d+'), 1, 'one connection');

# half close

$r = script($t, 'half', <<'EOF');
main(async () => {
    const session = connect(8081);
    const bulk = Buffer.alloc(3000000, 'abcdefg');

    let stream = await tunnel(session, 'client', 8092);
    stream.end(bulk);
    told.client = await text(stream);
    await closed(stream);
    told.code = stream.rstCode;

    stream = await tunnel(session, 'target', 8093);
    told.greeting = await text(stream);
    stream.end(bulk);
    await closed(stream);

    stream = await tunnel(session, 'empty', 8092);
    stream.end();
    told.empty = await text(stream);

    // before there is the tunnel
    stream = session.request({ ':method': 'CONNECT', 'x-id': 'early',
        ':authority': `${host}:${port[8092]}` }, { endStream: false });
    stream.end('early');
    told.early = await text(stream);

    const all = await Promise.all([ 1, 2, 3 ].map((n) =>
        tunnel(session, `echo ${n}`, 8091)));
    told.echo = await Promise.all(all.map((stream) => {
        stream.end(bulk);
        return text(stream).then(sha1);
    }));

    await finish(session);
});
EOF

my $bulk = 'abcdefg' x 428571 . 'abc';

is($r->{client}, summary($bulk), 'client ends first');
is($r->{code}, 0, 'client ends first, no error');
is(line($t, 'client'), '200 ok completed 3000000 ' . length summary($bulk),
	'client ends first, logged');

is($r->{greeting}, "FIN-FIRST\n", 'target ends first');
ok(wait_log($t, 'fin_first', summary($bulk) =~ s/\n//r),
	'data after the end of the target');
is(line($t, 'target'), '200 ok completed 3000000 10',
	'target ends first, logged');

is($r->{empty}, summary(''), 'end without data');
is($r->{early}, summary('early'), 'data before the tunnel');
is(line($t, 'early'), '200 ok completed 5 ' . length summary('early'),
	'data before the tunnel, logged');
is(join(' ', @{$r->{echo} || []}), join(' ', (sha1_hex($bulk)) x 3),
	'both ways, three at once');

# resets

$r = script($t, 'reset', <<'EOF');
main(async () => {
    const session = connect(8081);
    const other = await tunnel(session, 'other', 8091);

    // END_STREAM is in front of it
    let stream = await tunnel(session, 'cancel', 8096);
    told.some = (await some(stream, 10)).length;
    stream.close(http2.constants.NGHTTP2_CANCEL);
    await closed(stream);

    stream = await tunnel(session, 'reset', 8095);
    stream.resume();
    stream.write('x');
    await closed(stream);
    told.reset = stream.rstCode;

    // in the midst of much
    stream = await tunnel(session, 'bulk', 8091);
    stream.write(Buffer.alloc(3000000));
    await once(stream, 'data');
    stream.destroy();
    await closed(stream);

    told.other = await echo(other, 'still here');

    // with all of the connection
    const last = await tunnel(session, 'last', 8094);
    await some(last, 5);
    session.destroy();
});
EOF

is($r->{some}, 10, 'before CANCEL');
like(line($t, 'cancel'), qr/^200 ok client_closed 0 \d+\z/, 'CANCEL');
is($r->{reset}, 10, 'reset of the target is CONNECT_ERROR');
is(line($t, 'reset'), '200 ok target_reset 1 5',
	'reset of the target, logged');
like(line($t, 'bulk'), qr/^200 ok client_reset \d+ \d+\z/, 'CANCEL of much');
ok(wait_log($t, 'sink', qr/^0 \S+ RESET/), 'end passed to the target');
is($r->{other}, 'still here', 'another stream goes on');
like(line($t, 'last'), qr/^200 ok client_(?:reset|closed) 0 5\z/,
	'end of the connection');
like(line($t, 'other'), qr/^200 ok client_(?:reset|closed) 10 10\z/,
	'end of the connection, another stream');
is(connections($t, 'cancel|reset|bulk|last|other'), 1,
	'all on one connection');

# refusals do not end the connection

$r = script($t, 'refused', <<'EOF');
main(async () => {
    const session = connect(8081);

    for (const [ id, target ] of [ [ 'denied', 'denied.example.test:443' ],
        [ 'refused', 8999 ], [ 'bad', 'secure.example.test' ] ])
    {
        const stream = await tunnel(session, id, target);
        const body = await text(stream);
        told[id] = `${stream.status} ${stream.head['proxy-status']} `
            + (body.length > 0);
        stream.close();
    }

    const stream = await tunnel(session, 'after', 8091);
    told.after = await echo(stream, 'after');
    stream.end();
    await text(stream);

    await finish(session);
});
EOF

like($r->{denied}, qr/^403 .*error=http_request_denied.* true$/, 'denied');
is(line($t, 'denied'), '403 denied_name - - -', 'denied, logged');
like($r->{refused}, qr/^502 .*error=connection_refused.* true$/, 'refused');
is(line($t, 'refused'), '502 refused - - -', 'refused, logged');
like($r->{bad}, qr/^400 /, 'no port');
is($r->{after}, 'after', 'tunnel after that');
is(line($t, 'after'), '200 ok completed 5 5', 'tunnel after that, logged');
is(connections($t, 'denied|refused|bad|after'), 1, 'on the same connection');

# passwords

$r = script($t, 'password', <<'EOF');
main(async () => {
    const session = connect(8082);
    const password = (s) => ({ 'proxy-authorization':
        'Basic ' + Buffer.from(s).toString('base64') });

    const none = await tunnel(session, 'none', 8443);
    told.none = `${none.status} ${none.head['proxy-authenticate']}`;
    none.close();

    const wrong = await tunnel(session, 'wrong', 8443,
        password('user:wrong'));
    told.wrong = wrong.status;
    wrong.close();

    told.right = await get(await tunnel(session, 'right', 8443,
        password('user:secret')), '/');

    await finish(session);
});
EOF

is($r->{none}, '407 Basic realm="proxy"', 'password asked for');
is(line($t, 'none'), '407 - - - -', 'password asked for, logged');
is($r->{wrong}, 407, 'wrong password');
is($r->{right}, "https $name:" . port(8443) . "/\n", 'password');
like(line($t, 'right'), qr/^200 ok /, 'password, logged');
is(connections($t, 'none|wrong|right'), 1, 'password on the same connection');

# GOAWAY

$r = script($t, 'goaway', <<'EOF');
main(async () => {
    let session = connect(8083);
    const goaway = once(session, 'goaway');
    const streams = [];

    for (let n = 0; n < 3; n++)
        streams.push(await tunnel(session, `limit ${n}`, 8091));

    told.code = (await Promise.race([ goaway, pause(5000) ]) || [])[0];
    told.after = await Promise.all(streams.map((stream, n) =>
        echo(stream, `after ${n}`)));

    streams.forEach((stream) => { stream.end(); stream.resume(); });
    await Promise.all(streams.map(closed));

    session = connect(8081);
    const stream = await tunnel(session, 'goaway', 8091);
    session.goaway(0);
    told.own = await echo(stream, 'goaway');
    stream.end();
    told.end = await text(stream);
    session.close();
});
EOF

is($r->{code}, 0, 'GOAWAY of the server');
is(join(' ', @{$r->{after} || []}), 'after 0 after 1 after 2',
	'GOAWAY of the server, tunnels go on');
is(scalar(grep { / 200 ok completed 7 7\z/ } lines($t, 'limit \d', 3)), 3,
	'GOAWAY of the server, logged');
is("$r->{own} $r->{end}", 'goaway ', 'GOAWAY of the client');
is(line($t, 'goaway'), '200 ok completed 6 6', 'GOAWAY of the client, logged');

# without TLS; and HTTP/1.1 where HTTP/2 is

$r = script($t, 'plain', <<'EOF');
main(async () => {
    const session = connect(8080, 'http');
    told.plain = await get(await tunnel(session, 'plain', 8443), '/plain');

    const request = https.request({ host: '127.0.0.1', port: port[8081],
        method: 'CONNECT', path: `${host}:${port[8443]}`, agent: false,
        headers: { 'x-id': 'old' } });
    request.end();
    const [ head, socket ] = await once(request, 'connect');
    told.old = `${head.statusCode} ${await get(socket, '/old')}`;
});
EOF

is($r->{plain}, "https $name:" . port(8443) . "/plain\n", 'plain');
like((lines($t, 'plain'))[0], qr!^HTTP/2\.0 h2c CONNECT \S+ HTTP/2\.0 200 ok !,
	'plain, logged');
is($r->{old}, "200 https $name:" . port(8443) . "/old\n", 'HTTP/1.1');
like((lines($t, 'old'))[0], qr!^HTTP/1\.1 -? ?CONNECT \S+ HTTP/1\.1 200 ok !,
	'HTTP/1.1, logged');

###############################################################################

sub script {
	my ($t, $script, $text) = @_;

	$t->write_file("$script.js", $common . $text);

	my $r = node($t, $script, encode_json({
		map { $_ => port($_) } @ports }));
	my $told = eval { decode_json($r->{out}) } || { thrown => $@ };

	diag("$script: status $r->{status}, $r->{out}$r->{err}")
		if $r->{status} ne '0' || $r->{err} ne '' || $told->{thrown};

	return $told;
}

# What the log has of those with such a name.

sub lines {
	my ($t, $id, $count) = @_;

	wait_log($t, 'tunnel.log', qr/^(?:$id)\|/, 4, $count);

	return map { (split /\|/)[2] } logged($t, $id);
}

sub line {
	my ($t, $id) = @_;

	return join "\n", map { s/^.* HTTP\/\S+ //r } lines($t, $id);
}

# How many these were of.

sub connections {
	my ($t, $id) = @_;

	my %seen = map { (split /\|/)[1] => 1 } logged($t, $id);

	return scalar keys %seen;
}

sub logged {
	my ($t, $id) = @_;

	return grep { /^(?:$id)\|/ } log_lines($t, 'tunnel.log');
}

###############################################################################
