"""HTTP/2 as far as CONNECT needs it: one connection, its streams as links."""

import asyncio
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6
GOAWAY, WINDOW_UPDATE, CONTINUATION = 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8

CANCEL = 8
FRAME_SIZE = 16384

PREFACE = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

# of the static table of HPACK, section 2.3.1 and appendix A of RFC 7541
STATUS = {8: 200, 9: 204, 10: 206, 11: 304, 12: 400, 13: 404, 14: 500}


class StreamReset(ConnectionResetError):
    """RST_STREAM."""


class GoneAway(ConnectionError):
    """GOAWAY, and the stream was not looked at."""


def frame(kind, flags, stream, payload=b''):
    return (struct.pack('!I', len(payload))[1:]
            + struct.pack('!BBI', kind, flags, stream) + payload)


def literal(data):
    assert len(data) < 127
    return bytes([len(data)]) + data


def header_block(headers):
    return b''.join(b'\x10' + literal(k.encode()) + literal(v.encode())
                    for k, v in headers)


def status_of(block):
    """:status is the first field, which nginx has in its static table."""

    while 0x20 <= block[0] < 0x40:      # the size of the table
        block = block[1:]

    if block[0] & 0x80:
        return STATUS[block[0] & 0x7f]

    if block[1] == 3:
        return int(block[2:5])

    raise ValueError(f'unexpected header block {block[:16].hex()}')


class Connection:
    """Of streams."""

    def __init__(self, reader, writer, plan):
        self.reader = reader
        self.writer = writer
        self.plan = plan
        self.streams = {}
        self.next = 1
        self.window = 65535
        self.initial = 65535
        self.room = asyncio.Event()
        self.error = None
        self.goaway = False

        writer.write(PREFACE
                     + frame(SETTINGS, 0, 0, struct.pack('!HI', 4,
                                                         plan.window))
                     + frame(WINDOW_UPDATE, 0, 0, struct.pack('!I', 1 << 30)))

        self.task = asyncio.ensure_future(self.run())

    async def run(self):
        try:
            while True:
                head = await self.reader.readexactly(9)
                size = int.from_bytes(head[:3], 'big')
                kind, flags, stream = struct.unpack('!BBI', head[3:])
                payload = await self.reader.readexactly(size)
                self.handle(kind, flags, stream & 0x7fffffff, payload)

        except asyncio.IncompleteReadError:
            self.fail(ConnectionResetError('connection ended'))
        except (ConnectionError, TimeoutError) as e:
            self.fail(e)
        except Exception as e:
            self.fail(AssertionError(f'HTTP/2: {e!r}'))
            raise

    def handle(self, kind, flags, number, payload):
        stream = self.streams.get(number)

        if kind == SETTINGS:
            if flags & ACK:
                return

            for i in range(0, len(payload), 6):
                what, value = struct.unpack('!HI', payload[i:i + 6])

                if what == 4:
                    for s in self.streams.values():
                        s.window += value - self.initial
                    self.initial = value

            self.writer.write(frame(SETTINGS, ACK, 0))
            self.wake()

        elif kind == PING:
            if not flags & ACK:
                self.writer.write(frame(PING, ACK, 0, payload))

        elif kind == GOAWAY:
            last, code = struct.unpack('!II', payload[:8])
            self.goaway = True

            if code:
                self.fail(AssertionError(f'GOAWAY with the error {code}'))
                return

            for n, s in self.streams.items():
                if n > last:
                    s.fail(GoneAway('GOAWAY'))

        elif kind == WINDOW_UPDATE:
            add = int.from_bytes(payload, 'big')

            if number == 0:
                self.window += add
            elif stream:
                stream.window += add

            self.wake()

        elif stream is None:
            pass

        elif kind == HEADERS:
            assert flags & END_HEADERS and not flags & PADDED

            if not stream.status.done():
                stream.status.set_result(status_of(payload))

            if flags & END_STREAM:
                stream.feed(b'')

        elif kind == DATA:
            assert not flags & PADDED

            if payload:
                stream.feed(payload)
            if flags & END_STREAM:
                stream.feed(b'')

        elif kind == RST_STREAM:
            code = int.from_bytes(payload, 'big')
            stream.fail(StreamReset(f'RST_STREAM {code}'))

    def wake(self):
        self.room.set()
        self.room = asyncio.Event()

    def fail(self, error):
        self.error = error

        for s in self.streams.values():
            s.fail(error)

        self.wake()

    def stream(self, plan):
        if self.error:
            raise self.error
        if self.goaway:
            raise GoneAway('GOAWAY before')

        s = Stream(self, self.next, plan)
        self.streams[self.next] = s
        self.next += 2

        return s

    async def close(self):
        """In order, as far as nginx is still there."""

        try:
            if self.error is None:
                self.writer.write(frame(GOAWAY, 0, 0, bytes(8)))
                await self.writer.drain()
        except ConnectionError:
            pass

        self.stop()

    def stop(self):
        self.task.cancel()
        self.fail(ConnectionResetError('closed by ourselves'))
        self.writer.close()


class Stream:
    """Has what Link of clients.py has."""

    def __init__(self, connection, number, plan):
        self.connection = connection
        self.number = number
        self.plan = plan
        self.window = connection.initial
        self.status = asyncio.get_running_loop().create_future()
        self.pieces = []
        self.fresh = asyncio.Event()
        self.ended = False
        self.error = None
        self.sent_eof = False

    def feed(self, data):
        if data:
            self.pieces.append(data)
        else:
            self.ended = True

        self.fresh.set()

    def fail(self, error):
        if self.error is None:
            self.error = error

        if not self.status.done():
            self.status.set_exception(error)
            self.status.exception()         # taken note of

        self.fresh.set()

    def request(self, headers):
        c = self.connection
        block = header_block(headers)
        cut = max(1, int(len(block) * self.plan.random))

        if self.plan.pieces == 'whole':
            data = frame(HEADERS, END_HEADERS, self.number, block)

        elif self.plan.pieces == 'bytes':
            data = frame(HEADERS, 0, self.number, block[:1])
            data += b''.join(frame(CONTINUATION,
                                   END_HEADERS if i + 1 == len(block) else 0,
                                   self.number, block[i:i + 1])
                             for i in range(1, len(block)))
        else:
            data = (frame(HEADERS, 0, self.number, block[:cut])
                    + frame(CONTINUATION, END_HEADERS, self.number,
                            block[cut:])
                    + frame(PING, 0, 0, bytes(8)))

        c.writer.write(data)

    async def write(self, data):
        c = self.connection

        while data:
            if self.error:
                raise self.error

            # with padding now and then, which counts
            pad = b'\0' * 7 if len(data) % 5 == 0 else b''
            room = min(self.window, c.window, FRAME_SIZE) - len(pad)
            room -= 1 if pad else 0

            if room <= 0:
                await c.room.wait()
                continue

            piece, data = data[:room], data[room:]

            if pad:
                payload = bytes([len(pad)]) + piece + pad
                c.writer.write(frame(DATA, PADDED, self.number, payload))
            else:
                payload = piece
                c.writer.write(frame(DATA, 0, self.number, payload))

            self.window -= len(payload)
            c.window -= len(payload)

            await c.writer.drain()

    async def read(self, n):
        while not self.pieces:
            # nginx may close the connection right behind it
            if self.ended:
                return b''

            if self.error:
                raise self.error

            self.fresh.clear()
            await self.fresh.wait()

        data = b''.join(self.pieces)
        self.pieces = []

        if self.error is None and not self.ended:
            self.connection.writer.write(
                frame(WINDOW_UPDATE, 0, self.number,
                      struct.pack('!I', len(data))))

        return data

    def eof(self):
        if self.error is None and not self.sent_eof:
            self.sent_eof = True
            self.connection.writer.write(
                frame(DATA, END_STREAM, self.number))

    def abort(self, rst):
        if self.error is None and self.connection.error is None:
            self.connection.writer.write(
                frame(RST_STREAM, 0, self.number, struct.pack('!I', CANCEL)))

        self.sent_eof = True
        self.close()

    def close(self):
        self.eof()
        self.connection.streams.pop(self.number, None)
        self.fail(ConnectionResetError('closed by ourselves'))
