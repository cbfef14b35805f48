"""What each tunnel is to do.  It follows from the seed and the number of the
tunnel alone, so that a run can be repeated."""

import random

# front ends, and how often each

FRONTS = {
    'http': 12, 'http-pp': 4, 'http-auth': 5, 'http-limit': 6, 'https': 7,
    'h2c': 3, 'h2': 3, 'h2-auth': 2, 'h2-pp': 1,
    'socks4': 5, 'socks4a': 5, 'socks5': 8, 'socks5-auth': 6, 'socks-pp': 3,
    'socks-tls': 3, 'socks-limit': 6,
    'bind4': 2, 'bind5': 3, 'udp': 4,
    'sni': 7, 'sni-pp': 2, 'host': 5,
    'quota': 1,
}

# where the end of one direction can be sent alone; Python's TLS cannot

HALF_CLOSE = set(FRONTS) - {'https', 'socks-tls'}

# where a client can name a policy: by a header, a user, or a host

POLICIES = {
    'http', 'http-pp', 'http-auth', 'https', 'h2c', 'h2', 'h2-auth', 'h2-pp',
    'socks4', 'socks4a', 'socks5-auth', 'sni', 'sni-pp', 'host',
}

# limits that end a tunnel, and one that does not

LIMITS = ('idle', 'minrate', 'lifetime', 'payload', 'send')

PAYLOAD = 20000

STREAMS = 16                    # numbers that a connection of HTTP/2 has


def pick(rng, table):
    return rng.choices(list(table), list(table.values()))[0]


class Plan:
    """One tunnel, or one connection of HTTP/2 with several."""

    def __init__(self, seed, number, front=None, stream=None):
        rng = random.Random(f'{seed}:{number}:{stream}')

        self.ident = number * STREAMS + (stream or 0)
        self.number = number
        self.front = front or pick(rng, FRONTS)
        self.streams = []
        self.left = False               # of HTTP/2: the connection was

        self.goal(rng)
        self.abort_how(rng, stream)

        # pieces that the request comes in, and what comes behind it at once
        self.pieces = pick(rng, {'whole': 80, 'bytes': 10, 'some': 10})
        self.early = pick(rng, {0: 75, 1: 25})
        self.pause = pick(rng, {0: 85, 0.005: 15})
        self.by_name = rng.random() < 0.3
        self.read_slowly = rng.random() < 0.05 and self.down < 200000
        self.proxy_v2 = rng.random() < 0.5
        self.window = rng.choice((1000, 65535, 1 << 20))
        self.random = rng.random()

        if self.front.startswith('h2') and stream is None:
            self.streams = [Plan(seed, number, self.front, i + 1)
                            for i in range(rng.randint(1, 8))]

        if self.streams and self.window == 1000:
            # a round trip for each thousand
            for s in self.streams:
                if s.policy != 'send':
                    s.down = min(s.down, 50000)

    def goal(self, rng):
        """Target, limit, and how much."""

        front = self.front

        self.target = 'ok'
        self.policy = ''
        self.mode = pick(rng, {'plain': 60, 'updown': 12, 'fin': 5, 'drip': 3,
                               'slow': 4, 'reset': 6, 'stall': 2})
        self.closer = rng.choice('CT')

        top = pick(rng, {2000: 62, 65536: 28, 500000: 8, 3000000: 2})
        self.up = rng.randint(0, top)
        self.down = rng.randint(0, top)

        if self.mode == 'slow':
            self.up %= 20000

        elif self.mode == 'stall':
            self.up += rng.choice((0, 500000, 8000000))

        elif self.mode == 'fin' and front not in HALF_CLOSE:
            self.mode = 'plain'

        if front not in HALF_CLOSE:
            self.closer = 'T'

        elif self.mode == 'fin':
            self.closer = 'C'

        if front in ('bind4', 'bind5'):
            self.target = pick(rng, {'ok': 92, 'nobody': 8})

        elif front not in ('udp', 'quota', 'http-limit', 'socks-limit'):
            self.target = pick(rng, {'ok': 80, 'refused': 8, 'nx': 5,
                                     'denied': 4, 'silent': 1,
                                     'no-answer': 2})

            # SOCKS4 has no names
            if self.target in ('nx', 'silent', 'denied') and front == 'socks4':
                self.target = 'refused'

        if (front in POLICIES and self.target == 'ok'
                and rng.random() < 0.15):
            self.policy = pick(rng, {'idle': 3, 'minrate': 3, 'lifetime': 3,
                                     'payload': 4, 'maxrate': 4, 'send': 1})
            self.mode = 'plain'

            if self.policy == 'payload':
                # what is still sent when the tunnel ends may cost the
                # client what it has not read yet
                self.down = PAYLOAD + rng.randint(1, 30000)
                self.up = 0

            elif self.policy == 'send':
                # more than all the sockets between them hold
                self.down = 16000000

            elif self.policy == 'maxrate':
                self.up %= 200000
                self.down %= 200000

            if self.policy in LIMITS:
                self.closer = 'N'

                if self.policy != 'send':
                    self.up %= 2000

                if self.policy not in ('send', 'payload'):
                    self.down %= 20000

    def abort_how(self, rng, stream):
        """Where the client leaves, if it does."""

        self.abort = None
        self.rst = rng.random() < 0.5

        how = pick(rng, {'no': 74, 'request': 8, 'reply': 5, 'time': 11,
                         'unread': 2})

        if how == 'request' and stream is None:
            # a part of the message with this number
            self.abort = ('request', rng.randint(1, 3), rng.random())

        elif how == 'reply':
            self.abort = ('reply', rng.randint(1, 3))

        elif how == 'time':
            self.abort = ('time', rng.random() ** 2)

        elif how == 'unread':
            # nothing is read of much
            self.abort = ('unread', 0.3 + rng.random())

            if not self.policy:
                self.down = 4000000

        if self.policy == 'send':
            self.abort = None

    def __str__(self):
        return ' '.join(f'{k}={v}' for k, v in vars(self).items()
                        if k != 'streams')
