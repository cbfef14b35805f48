"""Targets of the tunnels: TCP, UDP, and the name server, in a process of
their own.

What a tunnel is to do stands in its first bytes, behind whatever a front end
needs to see first (a ClientHello, the head of a request):

    SOAK id up down mode closer prelen crc\\n

up and down are bytes of a pattern, which either side checks, each by its
offset.  Whatever a connection has seen is reported through a pipe, one line
each: "+" when it was accepted, "- id received how" when it has ended.
"""

import asyncio
import logging
import os
import random
import resource
import signal
import socket
import struct
import sys
import zlib

PERIOD = 1000003                # a prime, so that no buffer size divides it
PIECE = 65536
HEAD = 8192                     # the command is within so many bytes

_bytes = random.Random(1).randbytes(PERIOD)
_bytes += _bytes[:PIECE]


def pattern(key, offset, n):
    """At most PIECE bytes."""

    start = (key * 7919 + offset) % PERIOD
    return _bytes[start:start + n]


def up_key(ident):
    return 2 * ident


def down_key(ident):
    return 2 * ident + 1


class Wrong(Exception):
    """A byte that is wrong, lost, or surplus."""


class Check:
    """Bytes as they come, of which there are to be so many."""

    def __init__(self, key, total):
        self.key = key
        self.total = total
        self.got = 0

    def __call__(self, data):
        for i in range(0, len(data), PIECE):
            piece = data[i:i + PIECE]

            if self.got + len(piece) > self.total:
                raise Wrong(f'surplus after {self.got} of {self.total}: '
                            f'{piece[:40]!r}')

            if piece != pattern(self.key, self.got, len(piece)):
                raise Wrong(f'wrong byte within {len(piece)} after '
                            f'{self.got} of {self.total}')

            self.got += len(piece)


def command(ident, plan, preamble=b''):
    return b'SOAK %d %d %d %s %s %d %08x\n' % (
        ident, plan.up, plan.down, plan.mode.encode(), plan.closer.encode(),
        len(preamble), zlib.crc32(preamble))


def reset(writer):
    """RST instead of FIN; what is not sent yet is dropped."""

    try:
        sock = writer.get_extra_info('socket')

        if sock is not None and sock.fileno() != -1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack('ii', 1, 0))

        writer.transport.abort()

    except AttributeError:
        pass                    # TLS of Python, when it has ended


def send_eof(writer):
    try:
        writer.write_eof()
    except OSError as e:
        # ENOTCONN is not among the errors of connections to Python
        raise ConnectionResetError(*e.args) from None


async def send_pattern(writer, key, total, pause=0, piece=PIECE):
    sent = 0

    while sent < total:
        data = pattern(key, sent, min(piece, total - sent))
        writer.write(data)
        sent += len(data)
        await writer.drain()

        if pause:
            await asyncio.sleep(pause)


class Target:
    """One connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.ident = -1
        self.got = 0

    async def run(self):
        """How it has ended: eof, reset, cut, none, or wrong."""

        try:
            return await self.serve()

        except Wrong as e:
            return f'wrong {e}'

        except (ConnectionError, TimeoutError):
            return 'reset'

        finally:
            self.writer.transport.abort()

    async def serve(self):
        head = b''

        while True:
            start = head.find(b'SOAK ')
            end = head.find(b'\n', start)

            if start >= 0 and end >= 0:
                break

            if len(head) > HEAD:
                raise Wrong(f'no command in {head[:80]!r}')

            data = await self.reader.read(4096)

            if not data:
                return 'none'

            head += data

        words = head[start:end].split()
        ident, up, down = map(int, words[1:4])
        mode, closer = words[4].decode(), words[5].decode()

        self.ident = ident

        if (start != int(words[6])
                or zlib.crc32(head[:start]) != int(words[7], 16)):
            raise Wrong(f'{start} bytes before the command, not those '
                        f'{int(words[6])} that were sent')

        self.check = Check(up_key(ident), up)
        self.feed(head[end + 1:])

        if mode == 'stall':
            await asyncio.sleep(1.5)
            reset(self.writer)
            return 'cut'

        if mode == 'reset':
            # somewhere in the middle
            sender = asyncio.ensure_future(self.send(down // 2))
            try:
                await asyncio.wait_for(self.receive(up // 2), 2)
            except asyncio.TimeoutError:
                pass
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            reset(self.writer)
            return 'cut'

        if mode == 'updown':
            await self.receive(up)

        if mode == 'fin':
            await self.send(down)
            send_eof(self.writer)
            await self.receive(None)
            return 'eof'

        pause, piece = {
            'drip': (0.02, max(down // 30, 1)),
            'long': (0.1, 100),
        }.get(mode, (0, PIECE))

        until = None if closer == 'C' else up
        slow = 0.01 if mode == 'slow' else 0

        sender = asyncio.ensure_future(self.send(down, pause, piece))
        receiver = asyncio.ensure_future(self.receive(until, slow))

        try:
            await asyncio.gather(sender, receiver)

            # with closer N, nobody does: a limit is to end the tunnel
            if closer != 'N':
                send_eof(self.writer)

            await self.receive(None)
            return 'eof'

        finally:
            for task in sender, receiver:
                task.cancel()

            await asyncio.gather(sender, receiver, return_exceptions=True)

    async def send(self, total, pause=0, piece=PIECE):
        await send_pattern(self.writer, down_key(self.ident), total, pause,
                           piece)

    async def receive(self, until, slow=0):
        """Until so many bytes are there, or EOF."""

        while until is None or self.check.got < until:
            data = await self.reader.read(512 if slow else PIECE)

            if not data:
                return

            self.feed(data)

            if slow:
                await asyncio.sleep(slow)

    def feed(self, data):
        try:
            self.check(data)
        finally:
            self.got = self.check.got


class Names(asyncio.DatagramProtocol):
    """nx*: no such name; silent*: no answer; all others are 127.0.0.1."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        end = data.index(0, 12)
        question = data[12:end + 5]
        name = question[1:].lower()
        kind = struct.unpack('!H', question[-4:-2])[0]

        if b'silent' in name:
            return

        missing = b'nx' in name
        answers = 0 if missing or kind != 1 else 1

        head = data[:2] + struct.pack('!HHHHH', 0x8183 if missing else 0x8180,
                                      1, answers, 0, 0)
        record = struct.pack('!HHHIH4s', 0xc00c, 1, 1, 1, 4,
                             socket.inet_aton('127.0.0.1'))

        self.transport.sendto(head + question + record * answers, addr)


class Datagrams(asyncio.DatagramProtocol):
    """Each comes back, behind a mark."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(b'ECHO' + data, addr)


async def serve(listener, udp, dns, report):
    loop = asyncio.get_running_loop()

    async def accepted(reader, writer):
        report('+')
        target = Target(reader, writer)
        how = 'cut'

        try:
            how = await target.run()
        finally:
            report(f'- {target.ident} {target.got} {how}')

    def problem(loop, context):
        # a connection that was reset while it was closed
        e = context.get('exception')

        if not isinstance(e, (ConnectionError, TimeoutError)):
            report(f'! {context.get("message")} {e!r}')

    loop.set_exception_handler(problem)
    logging.disable()

    server = await asyncio.start_server(accepted, sock=listener, backlog=2048)
    await loop.create_datagram_endpoint(Datagrams, sock=udp)
    await loop.create_datagram_endpoint(Names, sock=dns)

    async with server:
        await server.serve_forever()


def main():
    """targets.py FD FD FD FD: listener, UDP, DNS, pipe."""

    fds = [int(a) for a in sys.argv[1:5]]
    listener, udp, dns = (socket.socket(fileno=fd) for fd in fds[:3])
    pipe = fds[3]

    signal.signal(signal.SIGINT, signal.SIG_IGN)

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))

    def report(line):
        os.write(pipe, (line.replace('\n', ' ')[:400] + '\n').encode())

    asyncio.run(serve(listener, udp, dns, report))


if __name__ == '__main__':
    main()
