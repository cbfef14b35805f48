"""Clients of each front end."""

import asyncio
import base64
import contextlib
import functools
import socket
import ssl
import struct
import time

import h2
from plan import LIMITS, PAYLOAD
from targets import (Check, Target, Wrong, command, down_key, pattern, reset,
                     send_eof, up_key, PIECE)

USER, PASSWORD = 'user', 'pass'

IP_BIND_ADDRESS_NO_PORT = 24

CODES = {                       # HTTP, SOCKS5, SOCKS4
    'refused': (502, 5, 91),
    'nx': (502, 4, 91),
    'silent': (504, 4, 91),
    'no-answer': (504, 4, 91),
    'denied': (403, 2, 91),
    'nobody': (504, 4, 91),
}

QUOTA = 100000                  # of each key

# a limit is not reached before, seconds; nginx's clock stands still while it
# serves others
LEAST = {'idle': 1.9, 'minrate': 1.9, 'lifetime': 1.9, 'send': 0.6}


class Aborted(Exception):
    """The client has left, as planned."""


@contextlib.contextmanager
def failing(undo, *args):
    """What was not planned undoes what is open."""

    try:
        yield

    except Aborted:
        raise

    except BaseException:
        undo(*args)
        raise


class Refused(Exception):
    """By nginx, with a code."""

    def __init__(self, code):
        super().__init__(f'refused: {code}')
        self.code = code


class Closed(ConnectionError):
    """By nginx, in order but too early."""


class Unanswered(ConnectionError):
    """HTTP: closed by nginx behind a 407, or in HTTP/2 before an answer."""


class Failure(Exception):
    """What must not happen."""


class Link:
    """One connection to nginx."""

    def __init__(self, plan, reader, writer):
        self.plan = plan
        self.reader = reader
        self.writer = writer
        self.step = 0

    @classmethod
    async def open(cls, plan, port, source=None, tls=None, prefix=b''):
        sock = socket.socket()
        sock.setblocking(False)

        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            if plan.policy == 'send' or plan.abort and (
                    plan.abort[0] == 'unread'):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)

            if source:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((source, 0))

            await asyncio.get_running_loop().sock_connect(
                sock, ('127.0.0.1', port))
            reader, writer = await asyncio.open_connection(
                sock=sock, ssl=tls,
                server_hostname='proxy.soak' if tls else None)
        except BaseException:
            sock.close()
            raise

        if prefix:
            writer.write(prefix)

        return cls(plan, reader, writer)

    async def say(self, data, early=b''):
        """A message of the negotiation, in the pieces of the plan.

        What comes behind it comes with its last byte: later, it may meet a
        connection that is refused and closed already.
        """

        plan = self.plan
        self.step += 1

        abort = plan.abort and plan.abort[:2] in (('request', self.step),
                                                  ('reply', self.step))
        if abort and plan.abort[0] == 'request':
            data = data[:int(len(data) * plan.abort[2])]
            early = b''

        if plan.pieces == 'bytes' and data:
            n = min(len(data) - 1, 150)
            pieces = [data[i:i + 1] for i in range(n)] + [data[n:]]
        elif plan.pieces == 'some':
            n = int(len(data) * plan.random)
            pieces = [data[:n], data[n:]]
        else:
            pieces = [data]

        pieces[-1] += early

        for piece in pieces:
            self.writer.write(piece)
            await asyncio.sleep(0)

        await self.writer.drain()

        if abort:
            await asyncio.sleep(plan.random / 50)
            self.abort(plan.rst)
            raise Aborted

    async def exactly(self, n):
        try:
            return await self.reader.readexactly(n)
        except asyncio.IncompleteReadError as e:
            raise Closed(f'{len(e.partial)} of {n} bytes of an answer'
                         ) from None

    async def head(self):
        try:
            head = await self.reader.readuntil(b'\r\n\r\n')
        except asyncio.IncompleteReadError as e:
            raise Closed(f'a head cut after {e.partial[:40]!r}') from None

        return head

    async def read(self, n):
        return await self.reader.read(n)

    async def write(self, data):
        self.writer.write(data)
        await self.writer.drain()

    def eof(self):
        send_eof(self.writer)

    def abort(self, rst):
        if rst:
            reset(self.writer)
        else:
            self.writer.close()

    def close(self):
        self.writer.close()


@functools.lru_cache(None)
def client_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@functools.lru_cache(None)
def h2_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(['h2'])
    return context


def client_hello(name):
    out = ssl.MemoryBIO()
    tls = client_context().wrap_bio(ssl.MemoryBIO(), out,
                                    server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass

    return out.read()


def proxy_header(plan):
    if plan.proxy_v2:
        return (b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c'
                + socket.inet_aton('192.0.2.1')
                + socket.inet_aton('192.0.2.2') + struct.pack('!HH', 1, 2))

    return b'PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n'


def where(plan, env):
    """Host and port that the client asks for."""

    named = {'nx': 'nx.soak', 'denied': 'denied.soak',
             'silent': 'silent.soak'}

    host = named.get(plan.target) or (
        'echo.soak' if plan.by_name and plan.front != 'socks4'
        else '127.0.0.1')

    port = {'refused': 'closed', 'no-answer': 'full'}.get(plan.target,
                                                          'target')
    return host, env.ports[port]


# What these do: open a link, negotiate, give it back.  Each has the bytes
# that are to come right behind the request.


async def http(plan, env, early):
    front = plan.front
    tls = client_context() if front == 'https' else None
    prefix = proxy_header(plan) if front == 'http-pp' else b''
    source = env.limit_source if front == 'http-limit' else None

    link = await Link.open(plan, env.ports[front], source, tls, prefix)

    try:
        fields = f'X-Policy: {plan.policy}\r\n' if plan.policy else ''

        if front == 'http-auth':
            await link.say(http_request(plan, env, fields))
            code = await http_answer(link)

            if code != 407:
                raise Failure(f'{code} instead of 407')

            fields += proxy_authorization()

        try:
            await link.say(http_request(plan, env, fields), early)
            code = await http_answer(link)

        except ConnectionError as e:
            if front == 'http-auth':
                raise Unanswered(repr(e)) from None
            raise

        if code != 200:
            await the_rest(link)
            raise Refused(code)

    except BaseException:
        link.close()
        raise

    return link


def proxy_authorization():
    word = base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()
    return f'Proxy-Authorization: Basic {word}\r\n'


def http_request(plan, env, fields):
    host, port = where(plan, env)

    return (f'CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n'
            f'X-Id: {plan.ident}\r\n{fields}\r\n').encode()


async def http_answer(link):
    """The status; the body only of a connection that goes on."""

    head = await link.head()
    code = int(head.split()[1])

    if code == 407:
        length = int(head.lower().split(b'content-length:')[1].split()[0])
        await link.exactly(length)

    return code


async def the_rest(link):
    """Until nginx closes."""

    rest = b''

    try:
        while True:
            data = await link.read(PIECE)
            if not data:
                return rest
            rest += data
    except ConnectionError:
        return rest


async def socks(plan, env, early):
    front = plan.front
    tls = client_context() if front == 'socks-tls' else None
    prefix = proxy_header(plan) if front == 'socks-pp' else b''
    source = env.limit_source if front == 'socks-limit' else None
    port = {'socks5-auth': 'socks-auth', 'socks-tls': 'socks-tls',
            'socks-pp': 'socks-pp', 'socks-limit': 'socks-limit'
            }.get(front, 'socks')

    link = await Link.open(plan, env.ports[port], source, tls, prefix)

    try:
        host, port = where(plan, env)
        await negotiate(link, plan, 1, host, port, early)
    except ConnectionError:
        link.close()

        if source:
            raise Refused(503)          # limit_conn has no other way here

        raise
    except BaseException:
        link.close()
        raise

    return link


async def negotiate(link, plan, what, host, port, early=b''):
    """CONNECT, BIND, or UDP ASSOCIATE; gives the address in the answer."""

    if plan.front in ('socks4', 'socks4a', 'bind4'):
        user = plan.policy.encode() + b'\0'
        name = b''

        if plan.front == 'socks4a' and host != '127.0.0.1':
            address, name = b'\0\0\0\1', host.encode() + b'\0'
        else:
            address = socket.inet_aton(host)

        await link.say(struct.pack('!BBH', 4, what, port) + address + user
                       + name, early)
        return await socks4_reply(link)

    auth = plan.front == 'socks5-auth'
    await link.say(b'\5\1\2' if auth else b'\5\1\0')
    answer = await link.exactly(2)

    if answer != (b'\5\2' if auth else b'\5\0'):
        raise Failure(f'method {answer!r}')

    if auth:
        user = (plan.policy or USER).encode()
        await link.say(b'\1' + bytes([len(user)]) + user
                       + bytes([len(PASSWORD)]) + PASSWORD.encode())
        answer = await link.exactly(2)

        if answer != b'\1\0':
            raise Failure(f'authentication {answer!r}')

    if host[0].isdigit():
        address = b'\1' + socket.inet_aton(host)
    else:
        address = b'\3' + bytes([len(host)]) + host.encode()

    await link.say(struct.pack('!BBB', 5, what, 0) + address
                   + struct.pack('!H', port), early)
    return await socks5_reply(link)


async def socks4_reply(link):
    reply = await link.exactly(8)

    if reply[0] != 0:
        raise Failure(f'reply {reply!r}')

    if reply[1] != 90:
        await the_rest(link)
        raise Refused(reply[1])

    return socket.inet_ntoa(reply[4:]), int.from_bytes(reply[2:4], 'big')


async def socks5_reply(link):
    reply = await link.exactly(10)

    if reply[:1] != b'\5' or reply[2:4] != b'\0\1':
        raise Failure(f'reply {reply!r}')

    if reply[1] != 0:
        await the_rest(link)
        raise Refused(reply[1])

    return socket.inet_ntoa(reply[4:8]), int.from_bytes(reply[8:], 'big')


async def bind(plan, env, early):
    """The target is in this process, and connects to nginx."""

    link = await Link.open(plan, env.ports['socks'])

    try:
        address = await negotiate(link, plan, 2, '0.0.0.0', 0, early)

        if plan.target == 'ok':
            reader, writer = await asyncio.open_connection(*address)
            env.background(bound(reader, writer, env))

        if plan.abort and plan.abort[0] == 'reply':
            link.abort(plan.rst)
            raise Aborted

        if plan.front == 'bind4':
            await socks4_reply(link)
        else:
            await socks5_reply(link)

    except BaseException:
        link.close()
        raise

    return link


async def bound(reader, writer, env):
    env.reported('+')
    target = Target(reader, writer)
    how = 'cut'

    try:
        how = await target.run()
    finally:
        env.reported(f'- {target.ident} {target.got} {how}')


async def tunnel(plan, env, opener):
    """A tunnel of one of these, from its beginning to its end."""

    first = command(plan.ident, plan)
    early = first if plan.early else b''

    link = await opener(plan, env, early)

    with failing(link.abort, True):
        if plan.target != 'ok':
            raise Failure(f'target {plan.target}, but there is a tunnel')

        return await exchange(link, plan, env, b'' if plan.early else first)


async def passthrough(plan, env):
    """Here the first bytes are those that the target gets as well."""

    host = '.'.join(filter(None, (plan.policy, plan.target, 'soak')))

    if plan.front == 'host':
        preamble = (f'GET / HTTP/1.1\r\nHost: {host}\r\n\r\n').encode()
    else:
        preamble = client_hello(host)

    first = command(plan.ident, plan, preamble)
    prefix = proxy_header(plan) if plan.front == 'sni-pp' else b''

    link = await Link.open(plan, env.ports['pass-pp' if prefix else 'pass'],
                           prefix=prefix)

    with failing(link.abort, True):
        await link.say(preamble, first if plan.early else b'')

        if plan.target != 'ok':
            rest = await the_rest(link)

            if rest and not (len(rest) == 7 and rest[0] == 21
                             and plan.front != 'host'):
                raise Failure(f'a refused connection got {rest[:40]!r}')

            raise Refused(None)

        return await exchange(link, plan, env, b'' if plan.early else first)


async def exchange(link, plan, env, first):
    """The bytes of a tunnel; how it has ended."""

    check = Check(down_key(plan.ident), plan.down)

    async def sender():
        await link.write(first)

        sent = 0

        while sent < plan.up:
            data = pattern(up_key(plan.ident), sent, min(
                plan.up - sent, 1 + int(plan.random * (PIECE - 1))))
            await link.write(data)
            sent += len(data)

            if plan.pause and sent < 200000:
                await asyncio.sleep(plan.pause)

        if plan.closer == 'C':
            link.eof()

    async def receiver():
        if plan.policy == 'send':
            await asyncio.sleep(2.5)

        if plan.abort and plan.abort[0] == 'unread':
            await asyncio.sleep(plan.abort[1])
            return

        while True:
            data = await link.read(1000 if plan.read_slowly else PIECE)

            if not data:
                return

            check(data)

            if plan.read_slowly:
                await asyncio.sleep(0.005)

    tasks = [asyncio.ensure_future(sender()),
             asyncio.ensure_future(receiver())]
    leaves = plan.abort and plan.abort[0] in ('time', 'unread')

    try:
        await asyncio.wait(tasks, timeout=plan.abort[1] if leaves else None,
                           return_when=asyncio.FIRST_EXCEPTION)

        if leaves:
            link.abort(plan.rst)

        else:
            # what has come before an end is looked at as well
            await asyncio.wait(tasks[1:], timeout=20)

    finally:
        for task in tasks:
            task.cancel()
        errors = [e for e in await asyncio.gather(*tasks,
                                                  return_exceptions=True)
                  if isinstance(e, Exception)]

    for e in errors:
        if not isinstance(e, OSError):
            raise e

    if leaves:
        raise Aborted

    cut = errors[0] if errors else None
    took = time.monotonic() - plan.began

    if plan.policy in LIMITS:
        link.abort(False)
        return limited(plan, check.got, took, cut, env)

    if plan.mode in ('reset', 'stall'):
        link.abort(False)
        return 'reset by target'

    if cut:
        raise cut

    if check.got != plan.down:
        raise Closed(f'{check.got} of {plan.down} bytes, then EOF')

    link.close()
    await env.received(plan)

    return 'complete'


def limited(plan, got, took, cut, env):
    """A tunnel that a limit had to end."""

    if not env.lossy:
        if plan.policy == 'payload' and got != PAYLOAD:
            raise Failure(f'relay_max_payload: {got} bytes, {cut!r}')

        if plan.policy == 'send' and got == plan.down:
            raise Failure('relay_send_timeout: all bytes have come')

        if took < LEAST.get(plan.policy, 0):
            raise Failure(f'{plan.policy}: after {took:.3f}s')

        if plan.policy in ('idle', 'minrate', 'lifetime') and (
                got != plan.down):
            raise Failure(f'{plan.policy}: {got} of {plan.down} bytes')

    return 'limited'


async def udp(plan, env):
    """Datagrams; one that is lost is sent again."""

    link = await Link.open(plan, env.ports['socks'])
    loop = asyncio.get_running_loop()

    with failing(link.abort, True), \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        address = await negotiate(link, plan, 3, '0.0.0.0', 0)

        sock.setblocking(False)
        sock.bind(('127.0.0.1', 0))

        port = struct.pack('!H', env.ports['udp'])
        header = (b'\0\0\0\3\x09echo.soak' if plan.by_name
                  else b'\0\0\0\1' + socket.inet_aton('127.0.0.1')) + port

        for i in range(1 + plan.up % 20):
            size = (plan.down + i * 977) % 8000
            data = struct.pack('!II', plan.ident, i) + pattern(
                up_key(plan.ident), i, size)

            for _ in range(10):
                await loop.sock_sendto(sock, header + data, address)

                try:
                    if await datagram(loop, sock, plan, i, data):
                        break
                except asyncio.TimeoutError:
                    pass

                if link.reader.at_eof():
                    raise Closed('association ended')
            else:
                raise Failure(f'datagram {i} of {len(data)} bytes is lost '
                              'again and again')

            if plan.abort and plan.abort[0] in ('time', 'unread') and i > 3:
                link.abort(plan.rst)
                raise Aborted

        if plan.closer == 'C':
            link.eof()
            rest = await the_rest(link)

            if rest:
                raise Failure(f'{rest[:40]!r} on an association')

        link.close()
        return 'complete'


async def datagram(loop, sock, plan, i, data):
    """True if it is the answer, which may be one to an earlier try."""

    answer = await asyncio.wait_for(loop.sock_recv(sock, 65536), 1)

    if answer[:4] != b'\0\0\0\1' or answer[10:14] != b'ECHO':
        raise Wrong(f'datagram {answer[:40]!r}')

    if answer[14:] == data:
        return True

    ident, old = struct.unpack('!II', answer[14:22])

    if ident != plan.ident or old >= i:
        raise Wrong(f'a datagram of {ident}, {old} instead of {i}')

    return False


async def quota(plan, env):
    """One key, and more than it has."""

    got = []

    for n in range(3):
        part = Part(plan, n)
        link = await Link.open(part, env.ports['http-quota'])

        try:
            fields = f'X-Key: {plan.ident}\r\n'
            await link.say(http_request(part, env, fields))
            code = await http_answer(link)

            if code != 200:
                await the_rest(link)
                got.append(-code)
                continue

            first = command(part.ident, part)
            await link.write(first)
            check = Check(down_key(part.ident), part.down)
            got.append(len(first))

            try:
                while True:
                    data = await link.read(PIECE)
                    if not data:
                        break
                    check(data)
                    got[-1] += len(data)
            except ConnectionError:
                pass
        finally:
            link.close()

    if env.lossy or not env.zones_last:
        return 'limited'

    if got[0] < 60000 or got[0] + got[1] != QUOTA or got[2] != -429:
        raise Failure(f'relay_quota {QUOTA}: {got}')

    return 'limited'


class Part:
    """One tunnel of the three of a quota."""

    def __init__(self, plan, n):
        vars(self).update(vars(plan))
        self.ident = plan.ident + n
        self.target, self.mode, self.closer = 'ok', 'plain', 'T'
        self.up, self.down, self.abort = 0, 60000, None
        self.by_name = False


async def http2(plan, env):
    """Several tunnels of one connection."""

    front = plan.front
    tls = h2_context() if front in ('h2', 'h2-auth') else None
    prefix = proxy_header(plan) if front == 'h2-pp' else b''

    link = await Link.open(plan, env.ports[front], None, tls, prefix)
    connection = h2.Connection(link.reader, link.writer, plan)

    async def opener(plan, env, early):
        return await h2_open(connection, plan, env, early)

    tasks = [asyncio.ensure_future(run_one(
                 s, env, functools.partial(tunnel, s, env, opener)))
             for s in plan.streams]

    try:
        await asyncio.wait(tasks, timeout=plan.random if plan.abort else None)

        if plan.abort:
            for s in plan.streams:
                s.left = True

            link.abort(plan.rst)
            connection.stop()
            await asyncio.wait(tasks)
            raise Aborted

        if isinstance(connection.error, AssertionError):
            raise Failure(str(connection.error))

        await connection.close()
        return 'complete'

    finally:
        for task in tasks:
            task.cancel()
        connection.stop()


async def h2_open(connection, plan, env, early):
    try:
        return await h2_request(connection, plan, env, early)
    except h2.GoneAway:
        raise
    except (ConnectionError, ssl.SSLError) as e:
        raise Unanswered(repr(e)) from e


async def h2_request(connection, plan, env, early):
    host, port = where(plan, env)
    headers = [(':method', 'CONNECT'), (':authority', f'{host}:{port}'),
               ('x-id', str(plan.ident))]

    if plan.policy:
        headers.append(('x-policy', plan.policy))

    if plan.front == 'h2-auth':
        stream = connection.stream(plan)
        stream.request(headers)
        code = await stream.status
        stream.close()

        if code != 407:
            raise Failure(f'{code} instead of 407')

        word = proxy_authorization().split(': ', 1)[1].strip()
        headers.append(('proxy-authorization', word))

    stream = connection.stream(plan)

    with failing(stream.close):
        stream.request(headers)

        if plan.abort and plan.abort[0] == 'reply':
            await asyncio.sleep(plan.random / 50)
            stream.abort(plan.rst)
            raise Aborted

        if early:
            await stream.write(early)

        code = await stream.status

        if code != 200:
            raise Refused(code)

    return stream


async def run(plan, env):
    """One plan, and what becomes of it."""

    front = plan.front

    if front.startswith('h2'):
        await run_one(plan, env, lambda: http2(plan, env),
                      name=front + ' connection')
        return

    if front == 'quota':
        job = functools.partial(quota, plan, env)
    elif front == 'udp':
        job = functools.partial(udp, plan, env)
    elif front in ('sni', 'sni-pp', 'host'):
        job = functools.partial(passthrough, plan, env)
    else:
        opener = (http if front.startswith('http')
                  else bind if front.startswith('bind') else socks)
        job = functools.partial(tunnel, plan, env, opener)

    await run_one(plan, env, job)


async def run_one(plan, env, job, name=None):
    """Takes down the outcome; a failure is what no plan accounts for."""

    name = name or plan.front
    how = 'cut'
    plan.began = time.monotonic()

    try:
        how = await asyncio.wait_for(job(), env.patience)

    except Aborted:
        how = 'aborted'

    except asyncio.TimeoutError:
        how = 'FAILED'
        env.failed(plan, f'hung for {env.patience} seconds')

    except Refused as e:
        how = refused(plan, e.code, env)

    except (Wrong, Failure, AssertionError) as e:
        if plan.left and isinstance(e, Failure):
            how = 'aborted'
        else:
            how = 'FAILED'
            env.failed(plan, repr(e))

    except (ConnectionError, TimeoutError, ssl.SSLError, OSError) as e:
        how = lost(plan, e, env)

    env.outcome(name, how)


def refused(plan, code, env):
    """Whether it is the code for this target."""

    if code == 503 and plan.front in ('http-limit', 'socks-limit'):
        return 'limit_conn'

    want = CODES.get(plan.target)

    if want is None and code is not None or want and code is not None and (
            code not in want):
        if env.lossy:
            return 'cut'

        env.failed(plan, f'refused with {code} instead of {want}')
        return 'FAILED'

    return 'refused'


def lost(plan, e, env):
    """A connection that ended before its time."""

    if env.lossy:
        return 'cut'

    if plan.left:
        return 'aborted'

    # a worker that shuts down closes connections that wait for a request, as
    # they do after 407, and sends GOAWAY in HTTP/2: so does stock nginx

    if env.reloads and isinstance(e, (Unanswered, h2.GoneAway)):
        return 'closed by reload'

    env.failed(plan, repr(e))
    return 'FAILED'
