#!/usr/bin/perl

# Tests for ngx_http_connect_tunnel_module: the page of tunnel_status, in
# Chromium.

###############################################################################

use warnings;
use strict;

use Test::More;

use IO::Socket::IP qw//;
use JSON::PP qw//;

BEGIN { use FindBin; chdir($FindBin::Bin); }

use lib grep { defined } $ENV{TEST_NGINX_LIB}, 'lib';
use Test::Nginx;
use Test::Nginx::Tunnel;
use Test::Nginx::Browser;

###############################################################################

select STDERR; $| = 1;
select STDOUT; $| = 1;

use constant {
	MANY	=> 230,
	PAGE	=> 200,
};

my $t = Test::Nginx->new()->has(qw/http/)->plan(45);

$t->write_file_expand('nginx.conf', <<'EOF');

%%TEST_GLOBALS%%

daemon off;

worker_processes 2;

events {
}

http {
    %%TEST_GLOBALS_HTTP%%

    access_log off;

    tunnel_zone tunnels:1m;
    tunnel_zone_key $http_x_key;
    tunnel_label "<b>label</b>";

    target_allow *:*;
    target_allow_address 127.0.0.0/8;

    server {
        listen 127.0.0.1:8080;
        connect_tunnel;
        relay_max_lifetime 1h;
        relay_upload_rate 8m;
    }

    server {
        listen 127.0.0.1:8081;
        connect_tunnel;
        tunnel_zone many:1m;
    }

    server {
        listen 127.0.0.1:8082;

        location /status {
            tunnel_status;
            tunnel_control on;
        }

        location /watch {
            tunnel_status;
        }

        location /refused {
            tunnel_status;
            tunnel_control on;

            limit_except GET {
                deny all;
            }
        }

        location /many {
            tunnel_status;
            tunnel_zone many;
        }

        location /empty {
            tunnel_status;
            tunnel_zone empty:64k;
        }
    }
}

EOF

# the browser wants a key, also where it takes no certificate

make_cert($t, 'secure');

my $echo = '127.0.0.1:' . port(8091);
my $key = '<img src=x onerror=problems.push("key")>';

start_daemon($t, \&echo_daemon, port(8091));

$t->run();

###############################################################################

# nothing is open

browser($t, 'empty', sub {
	my ($b) = @_;

	my $p = page($b, '/empty');

	ok(wait_js($p, '!live.hidden'), 'empty');
	is(js($p, 'none.innerText'), 'No tunnels are open.', 'empty, said');
	is(headline($p, 'Open tunnels'), '0', 'empty, headline');
	ok(!js($p, 'tunnels.checkVisibility()'), 'empty, no table');
	is(js($p, 'document.querySelectorAll("#static").length'), 0,
		'empty, nothing static');
	is(problems($p), '', 'empty, no problems');

	$p = page($b, '/empty', static => 1);
	is(js($p, 'document.querySelector("#static .empty").innerText'),
		'No tunnels are open.', 'empty, without scripts');
});

# bytes and rates of a tunnel move

my ($one) = connect_tunnel(port(8080), $echo, headers => [ "X-Key: $key" ]);

browser($t, 'live', sub {
	my ($b) = @_;

	my $p = page($b, '/status');

	ok(wait_js($p, cell('target') . " === '$echo'"), 'tunnel');
	is(js($p, cell('received') . ' + ' . cell('sent')), '0 B0 B',
		'tunnel, no bytes');
	is(js($p, cell('policy')), 'idle 10m, lifetime 1h, up 8 MiB/s',
		'tunnel, policy');
	is(headline($p, 'Open tunnels'), '1', 'tunnel, headline');

	my $sent = 0;

	ok(wait_js($p, moving(), sub {
		write_all($one, pattern(2048));
		$sent += length read_n($one, 2048);
	}), 'rates') || diag(js($p, seen()));

	my $bytes = $sent / 1024 . ' KiB';

	ok(wait_js($p, cell('received') . " === '$bytes' && "
		. cell('sent') . " === '$bytes'"), 'bytes')
		|| diag("$bytes: " . js($p, seen()));
	ok(wait_js($p, cell('rx') . " === '0 B/s'"), 'no rate');

	# what others chose is text

	is(js($p, cell('key')), $key, 'key');
	is(js($p, cell('front')), 'connect <b>label</b>', 'label');
	is(js($p, 'document.querySelectorAll("img, #live b").length'), 0,
		'no markup');

	command($p, 'Network.enable');
	offline($p, JSON::PP::true);
	ok(wait_js($p, '/^No answer since \d\d:\d\d:\d\d/'
		. '.test(lost.innerText)'), 'no answer');
	offline($p, JSON::PP::false);
	ok(wait_js($p, 'lost.hidden'), 'answer again');

	click($p, 'pause');
	is(js($p, 'state.innerText'), 'Paused', 'paused');
	is(problems($p), '', 'no problems');
});

# a kill is asked for twice, and what the server says to it is shown

my ($two) = connect_tunnel(port(8080), $echo);

browser($t, 'kill', sub {
	my ($b) = @_;

	my $p = page($b, '/refused');
	my $id = newest($p);

	click($p, kill_button($id));
	is(js($p, kill_cell($id) . '.textContent'), 'Kill? YesNo',
		'kill, asked');
	click($p, kill_button($id));
	ok(wait_js($p, kill_cell($id) . ".textContent === 'Kill403 Forbidden'"),
		'kill refused') || diag(js($p, seen()));
	like(js($p, 'said.innerText'), qr/\b$id\b.* not ended: 403/,
		'kill refused, said');

	$p = page($b, '/watch');
	newest($p);

	is(js($p, 'tunnels.querySelectorAll("td button").length'), 0,
		'no control, no buttons');
	is(js($p, "fetch('/watch?id=$id', { method: 'DELETE' })"
		. '.then((r) => r.status)'), 403, 'no control, refused');
	is(echo($two), 'hello', 'refused, still open');

	$p = page($b, '/status');
	newest($p);

	click($p, kill_button($id));
	click($p, kill_button($id));
	isnt((read_all($two))[1], 'TIMEOUT', 'kill');
	ok(wait_js($p, kill_cell($id) . ' === undefined'),
		'kill, off the table');
	ok(wait_js($p, '/killed\s+1\b/.test(panels.innerText)'),
		'kill, counted') || diag(js($p, 'panels.innerText'));
	is(problems($p), '', 'kill, no problems');
});

is(echo($one), 'hello', 'kill, no other one');

# sorting, filter, and no more rows than the page takes

my $silent = IO::Socket::IP->new(LocalHost => '127.0.0.1', Listen => 2 * MANY)
	or die "Can't listen: $!\n";
my @many = map { (connect_tunnel(port(8081), $_ % 10 ? '127.0.0.1:'
	. $silent->sockport() : $echo, headers => [ "X-Key: k$_" ]))[0] }
	1 .. MANY;

write_all($many[$_], 'x' x (1000 + $_)) for 10 .. 20;

browser($t, 'many', sub {
	my ($b) = @_;

	my $p = page($b, '/many');

	ok(wait_js($p, 'shown.innerText === "1 to ' . PAGE . ' of ' . MANY
		. '" && ' . rows() . ' === ' . PAGE), 'many tunnels')
		|| diag(js($p, 'shown.innerText'));

	click($p, 'next');
	is(js($p, rows()), MANY - PAGE, 'many tunnels, the rest');

	# what has most bytes first, then the other way

	click($p, head('received') . '.firstChild');
	ok(wait_js($p, cell('key', 0) . ' === "k21" && '
		. cell('key', 10) . ' === "k11"'), 'sorted')
		|| diag(js($p, seen()));
	is(js($p, '[...document.querySelectorAll("[aria-sort]")].map((th) => '
		. 'th.innerText + " " + th.ariaSort).join()'),
		'received descending', 'sorted by one column');

	click($p, head('received') . '.firstChild');
	is(js($p, head('received') . '.ariaSort'), 'ascending',
		'sorted the other way');

	js($p, head('key') . '.firstChild.focus()');
	command($p, 'Input.dispatchKeyEvent', { type => $_, key => 'Enter',
		text => "\r", windowsVirtualKeyCode => 13 })
		for qw/ keyDown keyUp /;
	is(js($p, cell('key', 0) . ' + ' . cell('key', 2)), 'k1k100',
		'sorted by the keyboard');

	js($p, 'filter.focus()');
	command($p, 'Input.insertText', { text => "K2 $echo" });
	is(js($p, 'tunnels.tBodies[0].innerText.match(/\bk\d+/g).join(" ")'),
		'k20 k200 k210 k220 k230', 'filter');
	command($p, 'Input.insertText', { text => 'z' });
	is(js($p, rows() . ' + none.innerText'),
		'0No tunnel matches the filter.', 'filter, nothing');

	js($p, 'filter.value = ""; filter.oninput()');
	width($p, 360);
	cmp_ok(js($p, 'document.documentElement.scrollWidth'), '<=', 360,
		'narrow');
	is(problems($p), '', 'many tunnels, no problems');

	$p = page($b, '/many', static => 1);
	ok(js($p, 'live.hidden'), 'without scripts');
	is(js($p, '[...document.querySelectorAll("#static .tunnels tbody tr")]'
		. '.filter((tr) => tr.checkVisibility()).length'), MANY,
		'without scripts, tunnels');

	width($p, 360);
	cmp_ok(js($p, 'document.documentElement.scrollWidth'), '<=', 360,
		'without scripts, narrow');
});

###############################################################################

sub echo {
	my ($s) = @_;

	write_all($s, 'hello');

	return read_n($s, 5);
}

###############################################################################

# Expressions for what is in the page, where an element's id is its name.

sub cell {
	my ($name, $row) = @_;

	return 'tunnels.tBodies[0].rows[' . ($row || 0) . ']'
		. "?.querySelector('.c-$name').textContent";
}

sub head {
	return "tunnels.tHead.querySelector('.c-$_[0]')";
}

sub rows {
	return 'tunnels.tBodies[0].rows.length';
}

sub kill_cell {
	my ($id) = @_;

	return '[...tunnels.tBodies[0].rows].find((tr) => '
		. "tr.cells[0].textContent === '$id')?.lastChild";
}

sub kill_button {
	return kill_cell(@_) . '.querySelector("button")';
}

sub seen {
	return '[sums, said, tunnels].map((node) => node.innerText).join()';
}

# rates of the tunnel and of all, and a graph which is not flat

sub moving {
	my $rate = '.match(/^[1-9].* KiB\/s$/)';

	return join ' && ', cell('rx') . $rate, cell('tx') . $rate,
		'sums.children[1].children[1].textContent' . $rate,
		'sums.children[2].children[1].textContent' . $rate,
		'new Set(charts.children[1].querySelector(".stroke")'
			. '.getAttribute("d").match(/ [0-9.]+/g)).size > 1';
}

###############################################################################

# A browser for each part, as one is not given much time.

sub browser {
	my ($t, $name, $code) = @_;

	my $b = start_browser($t, 'direct://', $name);
	$code->($b);
	stop_browser($b);
}

# A page that tells what goes wrong in it; static => 1: without scripts.

sub page {
	my ($b, $uri, %opt) = @_;

	my $p = { browser => $b };

	my $target = command($p, 'Target.createTarget',
		{ url => 'about:blank' })->{targetId};
	$p->{session} = command($p, 'Target.attachToTarget',
		{ targetId => $target, flatten => JSON::PP::true })
		->{sessionId};

	command($p, 'Page.enable');
	command($p, 'Page.addScriptToEvaluateOnNewDocument',
		{ source => <<'EOF' });
window.problems = [];
console.error = console.warn = (...what) => problems.push(what.join(' '));
addEventListener('error', (e) => problems.push(e.message || 'error'), true);
addEventListener('unhandledrejection', (e) => problems.push(String(e.reason)));
addEventListener('securitypolicyviolation', (e) =>
    problems.push(e.violatedDirective + ' ' + e.blockedURI));
EOF

	command($p, 'Emulation.setScriptExecutionDisabled',
		{ value => JSON::PP::true }) if $opt{static};
	command($p, 'Page.navigate',
		{ url => 'http://127.0.0.1:' . port(8082) . $uri });

	wait_js($p, "location.pathname === '$uri' "
		. '&& document.readyState === "complete"');

	return $p;
}

sub command {
	my ($p, $method, $params) = @_;

	return Test::Nginx::Browser::answer($p->{browser},
		Test::Nginx::Browser::message($p->{browser}, $method, $params,
			$p->{session}));
}

sub js {
	my ($p, $expression) = @_;

	my $r = command($p, 'Runtime.evaluate', { expression => $expression,
		awaitPromise => JSON::PP::true,
		returnByValue => JSON::PP::true });

	diag("$expression: $r->{exceptionDetails}{exception}{description}")
		if $r->{exceptionDetails};

	return $r->{result}{value};
}

# Waits until an expression is true, and has something done meanwhile.

sub wait_js {
	my ($p, $expression, $code) = @_;

	return wait_for(sub {
		$code->() if $code;
		return js($p, $expression);
	}, 10);
}

sub click {
	my ($p, $node) = @_;

	js($p, "$node.click()");
}

sub headline {
	my ($p, $name) = @_;

	return js($p, '[...sums.children].find((div) => '
		. "div.firstChild.textContent === '$name')"
		. '.children[1].textContent');
}

# The id of the tunnel that was opened last, of two.

sub newest {
	my ($p) = @_;

	wait_js($p, rows() . ' === 2');

	return js($p, cell('id', 1));
}

sub problems {
	my ($p) = @_;

	return js($p, 'problems.join("; ")');
}

sub offline {
	my ($p, $offline) = @_;

	command($p, 'Network.emulateNetworkConditions', {
		offline			=> $offline,
		latency			=> 0,
		downloadThroughput	=> -1,
		uploadThroughput	=> -1,
	});
}

sub width {
	my ($p, $width) = @_;

	command($p, 'Emulation.setDeviceMetricsOverride', {
		width			=> $width,
		height			=> 740,
		deviceScaleFactor	=> 1,
		mobile			=> JSON::PP::true,
	});
}

###############################################################################
