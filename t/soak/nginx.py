"""The nginx that is soaked: its configuration, processes, and logs."""

import os
import random
import re
import signal
import socket
import subprocess
import time

WORKERS = 2
LIMIT = 3                       # of limit_conn

LISTEN = ('http', 'http-pp', 'http-auth', 'http-limit', 'http-quota', 'https',
          'h2c', 'h2', 'h2-auth', 'h2-pp', 'status',
          'socks', 'socks-auth', 'socks-pp', 'socks-tls', 'socks-limit',
          'pass', 'pass-pp')

CONF = r'''
%(globals)s
%(user)s
%(main)s

worker_processes %(workers)d;
pid %(dir)s/nginx.pid;
error_log %(dir)s/error.log info;

# for the binary of the upgrade
env ASAN_OPTIONS;
env UBSAN_OPTIONS;

events {
    worker_connections 8192;
    %(events)s
}

http {
    log_format ends '$pid $connection $msec $server_port '
                    '$status $tunnel_result $tunnel_reason';
    access_log %(dir)s/http.log ends;

    client_body_temp_path %(dir)s/body;
    proxy_temp_path %(dir)s/proxy;
    fastcgi_temp_path %(dir)s/fastcgi;
    uwsgi_temp_path %(dir)s/uwsgi;
    scgi_temp_path %(dir)s/scgi;

    tunnel_zone tunnels:4m;
    tunnel_zone_key $http_x_key max=16;
    tunnel_max_connections 100000;
    tunnel_log_interval 1s;
    target_recheck on;

    map $http_x_policy $policy { default $http_x_policy; }
    %(shared)s

    ssl_certificate %(dir)s/soak.crt;
    ssl_certificate_key %(dir)s/soak.key;

    limit_conn_zone $binary_remote_addr zone=connections:1m;
    limit_conn_log_level info;
    relay_quota_zone $http_x_key zone=bytes:10m limit=100000 per=1h;

    server {
        listen 127.0.0.1:%(http)d;
        listen 127.0.0.1:%(https)d ssl;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:%(http-pp)d proxy_protocol;
        connect_tunnel;
        relay_splice on;
    }

    server {
        listen 127.0.0.1:%(http-auth)d;
        listen 127.0.0.1:%(h2-auth)d ssl %(http2)s;
        %(http2_on)s
        auth_basic soak;
        auth_basic_user_file %(dir)s/users;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:%(http-limit)d;
        limit_conn connections %(limit)d;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:%(http-quota)d;
        relay_quota bytes;
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:%(h2c)d %(http2)s;
        listen 127.0.0.1:%(h2)d ssl %(http2)s;
        listen 127.0.0.1:%(h2-pp)d proxy_protocol %(http2)s;
        %(http2_on)s
        connect_tunnel;
    }

    server {
        listen 127.0.0.1:%(status)d;
        access_log off;
        location / { stub_status; }
        location /tunnels { tunnel_status json; }
    }
}

stream {
    log_format ends '$pid $connection $msec $server_port '
                    '$status $tunnel_result $tunnel_reason';
    access_log %(dir)s/stream.log ends;

    tunnel_zone tunnels;
    tunnel_zone_key $socks_user$preread_host max=16;
    target_recheck on;

    # the user of SOCKS, or the first label of a host
    map $socks_user$preread_host $policy {
        ~^([a-z]+)\.[a-z-]+\.soak$ $1;
        default $socks_user;
    }

    # a busy client may take long from one byte to the next
    tunnel_preread_timeout 30s;
    socks_handshake_timeout 30s;

    map $preread_host $route {
        ~^([a-z]+\.)?ok\.soak$ 127.0.0.1:%(target)d;
        refused.soak 127.0.0.1:%(closed)d;
        no-answer.soak 127.0.0.1:%(full)d;
        nx.soak nx.soak:%(target)d;
        silent.soak silent.soak:%(target)d;
        denied.soak denied.soak:%(target)d;
        default reject;
    }
    %(shared)s

    ssl_certificate %(dir)s/soak.crt;
    ssl_certificate_key %(dir)s/soak.key;

    limit_conn_zone $binary_remote_addr zone=sessions:1m;
    limit_conn_log_level info;

    server {
        listen 127.0.0.1:%(socks)d;
        listen 127.0.0.1:%(socks-tls)d ssl;
        socks;
        socks_bind on;
        socks_bind_timeout 3s;
        socks_udp on;
    }

    server {
        listen 127.0.0.1:%(socks-pp)d proxy_protocol;
        socks;
        relay_splice on;
    }

    server {
        listen 127.0.0.1:%(socks-auth)d;
        socks 5;
        socks_auth basic soak %(dir)s/users;
    }

    server {
        listen 127.0.0.1:%(socks-limit)d;
        limit_conn sessions %(limit)d;
        socks;
    }

    server {
        listen 127.0.0.1:%(pass)d;
        tunnel_preread on;
        passthrough $route;
    }

    server {
        listen 127.0.0.1:%(pass-pp)d proxy_protocol;
        tunnel_preread on;
        passthrough $route;
        relay_splice on;
        target_require_tls on;
    }
}
'''

# of http and stream

SHARED = r'''
    resolver 127.0.0.1:%(dns)d valid=1s ipv6=off;

    target_allow *:*;
    target_deny denied.soak:*;
    target_allow_address 127.0.0.0/8;
    target_connect_timeout 2s;
    target_resolve_timeout 2s;

    map $policy $idle { idle 2s; default 10m; }
    map $policy $minrate { minrate 6000000; default off; }
    map $policy $maxrate { maxrate 400k; default off; }
    map $policy $lifetime { lifetime 2s; default off; }
    map $policy $payload { payload 20000; default off; }
    map $policy $send { send 700ms; default off; }

    relay_idle_timeout $idle;
    relay_min_rate $minrate window=1s grace=1s;
    relay_max_rate $maxrate;
    relay_max_lifetime $lifetime;
    relay_max_payload $payload download;
    relay_send_timeout $send;
'''

BAD = re.compile(r'\[(?:alert|emerg|crit)\]|Sanitizer|runtime error'
                 r'|open socket|zero size buf|double free')

# Stock nginx before 1.25, too, where it closes TLS in stream with bytes of the
# client unread: proxy_pass and proxy_timeout do the same.
STOCK = re.compile(r'\[crit\].* SSL_shutdown\(\) failed .*'
                   r'application data after close notify')


def listeners(n):
    """Ports that are free, and that the system gives to no client."""

    ports = []

    while len(ports) < n:
        port = random.randint(10000, 32000)

        with socket.socket() as s:
            try:
                s.bind(('127.0.0.1', port))
            except OSError:
                continue

        if port not in ports:
            ports.append(port)

    return ports


class Nginx:
    """One tree of processes."""

    def __init__(self, binary, globals_, directory, events):
        self.binary = binary
        self.globals = globals_
        self.dir = directory
        self.events = events
        self.ports = {}
        self.main = ''

        out = subprocess.run([binary, '-V'], stderr=subprocess.PIPE,
                             text=True, check=True).stderr

        self.version = tuple(map(int, re.search(
            r'nginx/(\d+)\.(\d+)\.(\d+)', out).groups()))
        self.sanitized = 'fsanitize' in out

        so = '/usr/lib/nginx/modules/ngx_stream_module.so'
        if '--with-stream=dynamic' in out:
            self.globals = f"load_module '{so}'; {self.globals}"

    def configure(self, main=''):
        self.main = main
        newer = self.version >= (1, 25, 1)
        ports = self.ports

        text = CONF % {
            **ports,
            'shared': SHARED % ports,
            'globals': self.globals,
            'user': 'user root;' if os.getuid() == 0 else '',
            'main': main,
            'workers': WORKERS,
            'limit': LIMIT,
            'dir': self.dir,
            'events': self.events,
            'http2': '' if newer else 'http2',
            'http2_on': 'http2 on;' if newer else '',
        }

        with open(f'{self.dir}/nginx.conf', 'w') as f:
            f.write(text)

    def files(self):
        names = ['idle', 'minrate', 'maxrate', 'lifetime', 'payload', 'send',
                 'user']

        with open(f'{self.dir}/users', 'w') as f:
            f.writelines(f'{n}:{{PLAIN}}pass\n' for n in names)

        subprocess.run(['openssl', 'req', '-x509', '-nodes', '-newkey', 'ec',
                        '-pkeyopt', 'ec_paramgen_curve:prime256v1',
                        '-subj', '/CN=proxy.soak', '-days', '30',
                        '-keyout', f'{self.dir}/soak.key',
                        '-out', f'{self.dir}/soak.crt'],
                       check=True, stderr=subprocess.DEVNULL)

    def start(self):
        # it becomes a daemon, as otherwise it takes no USR2
        with open(f'{self.dir}/stderr', 'a') as err:
            subprocess.run([self.binary, '-p', self.dir + '/',
                            '-c', f'{self.dir}/nginx.conf',
                            '-e', f'{self.dir}/error.log'],
                           stdin=subprocess.DEVNULL, stdout=err, stderr=err,
                           check=True)

        self.master = self.pid()

    def pid(self, suffix=''):
        for _ in range(200):
            try:
                with open(f'{self.dir}/nginx.pid{suffix}') as f:
                    return int(f.read())
            except (FileNotFoundError, ValueError):
                time.sleep(0.05)

        raise RuntimeError('no nginx.pid' + suffix)

    def signal(self, name, pid=None):
        os.kill(pid or self.master, getattr(signal, 'SIG' + name))

    def workers(self, master=None):
        """All of them, and whether they are shutting down."""

        found = {}

        for pid, parent, state in processes():
            if parent == (master or self.master) and state != 'Z':
                title = cmdline(pid)
                if 'worker process' in title:
                    found[pid] = 'shutting down' in title

        return found

    def log(self, name='error.log'):
        try:
            with open(f'{self.dir}/{name}', errors='replace') as f:
                yield from f
        except FileNotFoundError:
            pass

    def bad_lines(self):
        return [line.rstrip() for name in ('error.log', 'stderr')
                for line in self.log(name)
                if BAD.search(line) and not STOCK.search(line)]

    def kill_all(self):
        """Of a run that failed."""

        for pid, parent, state in processes():
            title = cmdline(pid)

            if (title.startswith('nginx: master')
                    and f'{self.dir}/nginx.conf' in title):
                for child, up, _ in processes():
                    if up == pid:
                        kill(child)
                kill(pid)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def processes():
    for name in os.listdir('/proc'):
        if name.isdigit():
            try:
                with open(f'/proc/{name}/stat') as f:
                    words = f.read().rsplit(')', 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue

            yield int(name), int(words[1]), words[0]


def cmdline(pid):
    try:
        with open(f'/proc/{pid}/cmdline') as f:
            return f.read().replace('\0', ' ')
    except (FileNotFoundError, ProcessLookupError):
        return ''


def alive(pid):
    return any(p == pid and state != 'Z' for p, _, state in processes())


def descriptors(pid):
    """How many of each kind."""

    kinds = {}

    try:
        for fd in os.listdir(f'/proc/{pid}/fd'):
            try:
                kind = os.readlink(f'/proc/{pid}/fd/{fd}').split(':')[0]
            except FileNotFoundError:
                continue

            if kind not in ('socket', 'pipe', 'anon_inode'):
                kind = 'file'

            kinds[kind] = kinds.get(kind, 0) + 1
    except FileNotFoundError:
        pass

    return kinds


def memory(pid):
    """What the process has for itself, in kilobytes, without shared zones."""

    try:
        with open(f'/proc/{pid}/smaps_rollup') as f:
            for line in f:
                if line.startswith('Anonymous:'):
                    return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        pass

    return 0
