"""Thousands of tunnels with faults; then nginx has to be as it was before.

    warm-up   all front ends; what a worker then has is the measure
    calm      clients and targets that fail in all ways, nginx is left alone
    reload    a reload every few seconds, tunnels go on; then the same with
              worker_shutdown_timeout, which cuts them
    kill      workers get SIGKILL and SIGTERM
    upgrade   USR2, WINCH, QUIT to the old master
    quit      QUIT with live tunnels and worker_shutdown_timeout

After each, all is quiet, and checked: TAP, and the tables at the end.
"""

import asyncio
import collections
import json
import logging
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time

import clients
from nginx import (LIMIT, LISTEN, WORKERS, Nginx, alive, descriptors,
                   listeners, memory)
from plan import FRONTS, Plan
from targets import Wrong

HERE = os.path.dirname(os.path.abspath(__file__))
DIRECTORY = os.path.abspath('build/soak')

CONCURRENT = 250

# pipes that a worker keeps for the next tunnel, NGX_TUNNEL_FREE_PIPES: two
# descriptors each, in http and in stream
FREE_PIPES = 2 * 16 * 2

# what the heap may grow by, kilobytes; ASan keeps what is freed for a while
GROWTH = 6 * 1024
GROWTH_SANITIZED = 32 * 1024


class Soak:
    """One run."""

    def __init__(self, seconds):
        self.seed = int(os.environ.get('SEED') or time.time_ns() % 1000000)
        self.rate = int(os.environ.get('RATE') or 300)
        self.load_time = max(12, seconds - 30)
        self.nginx = Nginx(os.environ['SOAK_NGINX'],
                           os.environ['SOAK_GLOBALS'], DIRECTORY,
                           os.environ.get('EVENTS', ''))
        self.ports = self.nginx.ports
        self.number = 0
        self.tests = 0
        self.bad = 0

        self.lossy = False              # nginx is expected to cut tunnels
        self.reloads = False            # or to close what is no tunnel yet
        self.zones_last = True          # counts in shared memory go on
        self.patience = 60
        self.limit_source = '127.0.0.2'

        self.jobs = set()
        self.open = 0                   # connections that the targets have
        self.reports = {}
        self.waiting = {}
        self.outcomes = collections.defaultdict(collections.Counter)
        self.failures = []
        self.killed = []

    # what clients.py needs

    def outcome(self, front, how):
        self.outcomes[front][how] += 1

    def failed(self, plan, what):
        self.failures.append(f'{what}: {plan}')

        if len(self.failures) <= 20:
            print(f'# {what}: {plan}', flush=True)

    def background(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.jobs.add(task)
        task.add_done_callback(self.jobs.discard)

    def reported(self, line):
        """A line of targets.py."""

        if line == '+':
            self.open += 1
            return

        if line.startswith('!'):
            self.failures.append(f'targets: {line}')
            print(f'# targets: {line}', flush=True)
            return

        self.open -= 1
        _, ident, got, how = line.split(' ', 3)
        ident = int(ident)

        if how.startswith('wrong'):
            self.failures.append(f'target of {ident}: {how}')
            print(f'# target of {ident}: {how}', flush=True)

        if ident in self.waiting:
            self.waiting.pop(ident).set_result((int(got), how))
        elif ident != -1:
            self.reports[ident] = (int(got), how)

    async def received(self, plan):
        """The target of a tunnel that ended in order has all bytes."""

        if plan.ident in self.reports:
            got, how = self.reports.pop(plan.ident)
        else:
            future = asyncio.get_running_loop().create_future()
            self.waiting[plan.ident] = future

            try:
                got, how = await asyncio.wait_for(future, 30)
            except asyncio.TimeoutError:
                raise clients.Failure('the target has not seen the end')
            finally:
                self.waiting.pop(plan.ident, None)

        if got != plan.up or how != 'eof':
            raise clients.Closed(f'the target has got {got} of {plan.up}, '
                                 f'{how}')

    # TAP

    def ok(self, good, name, detail=''):
        self.tests += 1
        self.bad += not good

        print(f'{"ok" if good else "not ok"} {self.tests} - {name}',
              flush=True)

        if detail and not good:
            print('\n'.join('# ' + line for line in str(detail).split('\n')),
                  flush=True)

    # load

    def plan(self, front=None):
        self.number += 1
        return Plan(self.seed, self.number, front)

    async def load(self, seconds):
        """Tunnels at self.rate, until so many seconds are over."""

        start = time.monotonic()
        begun = 0

        while True:
            now = time.monotonic() - start

            if now >= seconds:
                return

            if begun >= now * self.rate or len(self.jobs) >= CONCURRENT:
                await asyncio.sleep(0.01)
                continue

            plan = self.plan()
            begun += len(plan.streams) or 1
            self.background(clients.run(plan, self))
            await asyncio.sleep(0)

    async def ended(self):
        """All jobs have."""

        while self.jobs:
            await asyncio.wait(self.jobs)

    async def until(self, condition, seconds=20):
        """Gives what it says at last; it may be a coroutine."""

        end = time.monotonic() + seconds

        while True:
            value = condition()

            if asyncio.iscoroutine(value):
                value = await value

            if value or time.monotonic() > end:
                return value

            await asyncio.sleep(0.1)

    # checks

    async def get(self, uri):
        reader, writer = await asyncio.open_connection('127.0.0.1',
                                                       self.ports['status'])
        writer.write(b'GET %s HTTP/1.0\r\n\r\n' % uri)
        body = (await reader.read()).split(b'\r\n\r\n', 1)[1]
        writer.close()

        return body

    async def zone(self):
        """Whether the zone has counted each tunnel once, and has none left."""

        status = json.loads(await self.get(b'/tunnels'))
        total = status['total']
        self.last_zone = {
            'table': len(status['tunnels']), 'active': total['active'],
            'connecting': total['connecting'], 'memory': total['memory'],
            'opened': total['opened'], 'ended': sum(total['ended'].values()),
            'nodes': sum(n['active']
                         for n in status['keys'] + status['targets']),
            'negative': [n for n in total if isinstance(total[n], int)
                         and total[n] >= 1 << 63]}

        return (self.last_zone['opened'] == self.last_zone['ended'] > 0
                and not any(v for k, v in self.last_zone.items()
                            if k not in ('opened', 'ended')))

    async def status(self):
        """stub_status, with the connection that asks for it."""

        words = (await self.get(b'/')).split()

        return {'active': int(words[2]), 'accepted': int(words[7]),
                'handled': int(words[8]), 'reading': int(words[11]),
                'writing': int(words[13]), 'waiting': int(words[15])}

    async def counted(self):
        want = {'active': 1, 'reading': 0, 'writing': 1, 'waiting': 0}
        self.last_status = await self.status()

        return (all(self.last_status[k] == v for k, v in want.items())
                and self.last_status['accepted']
                == self.last_status['handled'])

    def measured(self):
        return {pid: (descriptors(pid), memory(pid))
                for pid in self.nginx.workers()}

    def few_descriptors(self):
        """No worker has more than the measure, but for kept pipes."""

        self.last = self.measured()

        for kinds, _ in self.last.values():
            for kind, n in kinds.items():
                if kind == 'pipe':
                    if n > FREE_PIPES:
                        return False
                elif n > self.base_descriptors.get(kind, 0):
                    return False

        return True

    async def quiet(self, phase):
        """Of all there was nothing is left."""

        await self.ended()

        await self.until(lambda: self.open == 0)
        self.ok(self.open == 0, f'{phase}: targets have no connection left',
                f'{self.open} left')

        now = time.monotonic()
        gone = await self.until(lambda: list(
            self.nginx.workers().values()) == [False] * WORKERS)
        self.ok(gone, f'{phase}: {WORKERS} workers, no old ones',
                self.nginx.workers())

        if gone and time.monotonic() - now > 1:
            print(f'# old workers left after {time.monotonic() - now:.1f}s')

        self.as_planned(phase)

    def as_planned(self, phase):
        self.ok(not self.failures, f'{phase}: tunnels as planned',
                f'{len(self.failures)} not')

        if self.failures:
            with open(f'{DIRECTORY}/failures', 'a') as f:
                f.writelines(f'{phase}: {line}\n' for line in self.failures)

        self.failures = []

    async def check(self, phase, status=True):
        """As it was after the warm-up."""

        # first of all, as they leave nothing behind themselves
        await self.limit_conn(phase)
        await self.fresh(phase)

        good = await self.until(self.few_descriptors)
        self.ok(good, f'{phase}: descriptors as before',
                f'{self.last} instead of {self.base_descriptors}')

        bound = GROWTH_SANITIZED if self.nginx.sanitized else GROWTH
        grown = {p: m - self.base_memory for p, (_, m) in self.last.items()}
        self.ok(max(grown.values()) < bound, f'{phase}: memory as before',
                f'grown by {grown} kilobytes')
        print(f'# memory: {self.base_memory} kilobytes, grown by '
              f'{list(grown.values())}; pipes: '
              f'{[k.get("pipe", 0) // 2 for k, _ in self.last.values()]}')

        master = memory(self.nginx.master) - self.base_master
        self.ok(master < bound, f'{phase}: memory of the master',
                f'grown by {master} kilobytes')

        good = await self.until(self.zone)
        self.ok(good, f'{phase}: tunnel_zone', self.last_zone)

        if status:
            good = await self.until(self.counted)
            self.ok(good, f'{phase}: stub_status', self.last_status)

    async def limit_conn(self, phase):
        """Exactly as many tunnels as are allowed: no count has been lost."""

        for front in 'http-limit', 'socks-limit':
            links = []
            error = None

            for i in range(LIMIT + 1):
                plan = self.clean(front)

                try:
                    opener = (clients.http if front == 'http-limit'
                              else clients.socks)
                    links.append(await asyncio.wait_for(
                        opener(plan, self, b''), 20))
                except (ConnectionError, clients.Refused,
                        asyncio.TimeoutError) as e:
                    error = e
                    break

            self.ok(len(links) == LIMIT,
                    f'{phase}: {LIMIT} tunnels at {front}, and no more',
                    f'{len(links)}, {error!r}')

            for link in links:
                link.close()

            # other tunnels of this address come later
            await self.until(lambda: self.open == 0)
            await asyncio.sleep(0.2)

    def clean(self, front):
        """A tunnel that nobody disturbs."""

        plan = self.plan(front)

        for p in [plan] + plan.streams:
            p.target, p.policy, p.abort = 'ok', '', None
            p.mode, p.closer = 'plain', 'T'
            p.up, p.down = p.up % 500000, p.down % 500000
            p.pause, p.read_slowly = 0, False

        return plan

    async def fresh(self, phase):
        """A new tunnel of each front end is complete."""

        before = {f: c['complete'] for f, c in self.outcomes.items()}
        lossy, self.lossy = self.lossy, False
        reloads, self.reloads = self.reloads, False

        for front in FRONTS:
            await clients.run(self.clean(front), self)

        self.lossy, self.reloads = lossy, reloads
        await self.until(lambda: self.open == 0)

        missing = [f for f in FRONTS if f != 'quota'
                   and self.outcomes[f]['complete'] == before.get(f, 0)]
        self.ok(not missing and not self.failures,
                f'{phase}: a tunnel of each front end', missing)
        self.as_planned(phase + ', fresh ones')

    # phases

    async def warm_up(self):
        # what is there only once a tunnel needed it: in each worker
        await self.load(min(6, 2 + self.load_time / 20))
        await self.quiet('warm-up')
        await self.fresh('warm-up')

        for _ in range(3):
            await asyncio.gather(*(clients.run(self.clean(f), self)
                                   for f in FRONTS for _ in range(2)))

        await self.until(lambda: self.open == 0)
        await asyncio.sleep(1)
        await self.until(self.counted)

        all_workers = self.measured().values()
        self.base_descriptors = {
            kind: max(kinds.get(kind, 0) for kinds, _ in all_workers)
            for kind in ('socket', 'file', 'anon_inode')}
        self.base_memory = max(m for _, m in all_workers)
        self.base_master = memory(self.nginx.master)

        print(f'# a worker has {self.base_descriptors}, '
              f'{self.base_memory} kilobytes', flush=True)

    async def calm(self, seconds):
        await self.load(seconds)
        await self.quiet('calm')
        await self.check('calm')

    async def reload(self, seconds):
        """Without a timeout no tunnel is lost, and long ones live on."""

        self.reloads = True
        self.background(self.long_tunnels(seconds))
        await asyncio.gather(self.load(seconds), self.reloader(seconds))
        await self.quiet('reload')
        self.reloads = False
        await self.check('reload')

    async def long_tunnels(self, seconds):
        plans = []

        for front in FRONTS:
            if front not in ('quota', 'udp', 'bind4', 'bind5', 'http-limit',
                             'socks-limit'):
                plan = self.clean(front)
                plan.streams = plan.streams[:1]

                for p in plan.streams or [plan]:
                    p.mode, p.down = 'long', int(seconds * 1000)

                plans.append(plan)

        self.patience += seconds
        await asyncio.gather(*(clients.run(p, self) for p in plans))
        self.patience -= seconds

    async def shutdown_timeout(self, seconds):
        """Tunnels are cut."""

        self.nginx.configure('worker_shutdown_timeout 1s;')
        await self.reloaded()
        self.lossy = self.reloads = True
        await asyncio.gather(self.load(seconds), self.reloader(seconds))
        await self.quiet('shutdown timeout')

        self.nginx.configure()
        await self.reloaded()
        self.lossy = self.reloads = False
        await self.check('shutdown timeout')

    async def reloaded(self):
        """With nobody connected."""

        before = set(self.nginx.workers())
        self.nginx.signal('HUP')
        await self.until(lambda: not before & set(self.nginx.workers())
                         and len(self.nginx.workers()) == WORKERS)

    async def moments(self, name, seconds, longest):
        """Pauses of chance, until so many seconds are over."""

        rng = random.Random(f'{self.seed} {name}')
        end = time.monotonic() + seconds

        while True:
            pause = longest * (0.5 + rng.random() / 2)

            if time.monotonic() + pause > end:
                return

            await asyncio.sleep(pause)
            yield rng

    async def reloader(self, seconds):
        """Until so many seconds are over."""

        n = 0

        async for _ in self.moments('reload', seconds, min(3, seconds / 2.5)):
            before = set(self.nginx.workers())
            self.nginx.signal('HUP')
            n += 1

            fresh = await self.until(lambda: len(
                [p for p, old in self.nginx.workers().items()
                 if p not in before and not old]) == WORKERS)

            if not fresh:
                self.failures.append(f'reload {n}: no new workers')

        print(f'# {n} reloads', flush=True)

    async def kill(self, seconds):
        """SIGKILL and SIGTERM by turns.

        What a worker has in shared memory for its connections when it is
        killed stays there, in nginx itself: stub_status and the counts of
        limit_conn.  So stub_status is left out from here on, and limit_conn
        is asked for another address than that of the load.
        """

        self.lossy = True
        await asyncio.gather(self.load(seconds), self.killer(seconds))
        await self.quiet('kill')
        self.lossy = False
        self.limit_source = '127.0.0.3'
        await self.check('kill', status=False)

        alerts = [line for line in self.nginx.log()
                  if 'exited on signal 9' in line]
        self.ok(all(sum(f'process {pid} ' in a for a in alerts) == 1
                    for pid in self.killed)
                and len(alerts) == len(self.killed),
                f'kill: {len(self.killed)} alerts of SIGKILL', alerts)

    async def killer(self, seconds):
        n = 0

        async for rng in self.moments('kill', seconds, min(2, seconds / 4)):
            workers = [p for p, old in self.nginx.workers().items() if not old]
            pid = rng.choice(sorted(workers))
            name = ('KILL', 'TERM')[n % 2]
            n += 1

            self.nginx.signal(name, pid)

            if name == 'KILL':
                self.killed.append(pid)

            again = await self.until(lambda: len(
                [p for p in self.nginx.workers() if p != pid]) == WORKERS)

            if not again:
                self.failures.append(f'SIG{name} {pid}: no new worker')

        print(f'# {n} workers killed', flush=True)

    async def upgrade(self, seconds):
        """Of the binary, under load; no tunnel is lost.

        The new master has zones of its own, and counts of quotas begin anew.
        """

        self.reloads = True
        self.zones_last = False
        load = asyncio.ensure_future(self.load(seconds))
        old = self.nginx.master

        await asyncio.sleep(0.5)
        self.nginx.signal('USR2')
        good = await self.until(
            lambda: os.path.exists(f'{DIRECTORY}/nginx.pid.oldbin')
            and os.path.exists(f'{DIRECTORY}/nginx.pid'))
        new = self.nginx.pid()
        good = good and new != old and await self.until(
            lambda: len(self.nginx.workers(new)) == WORKERS)
        self.ok(good, 'upgrade: a new master with workers')

        if not good:
            await load
            return

        self.nginx.signal('WINCH')
        await asyncio.sleep(1)
        self.nginx.signal('QUIT')
        self.nginx.master = new

        await load
        await self.ended()
        gone = await self.until(lambda: not alive(old))
        self.ok(gone, 'upgrade: the old master is gone')
        await self.quiet('upgrade')

        self.reloads = False
        self.zones_last = True
        await self.check('upgrade')

    async def quit(self, seconds):
        """Nothing hangs."""

        self.nginx.configure('worker_shutdown_timeout 1s;')
        self.lossy = self.reloads = True
        await self.reloaded()
        load = asyncio.ensure_future(self.load(seconds))
        self.background(self.long_tunnels(30))

        await asyncio.sleep(seconds - 0.5)
        workers = list(self.nginx.workers())
        print(f'# {self.open} tunnels open')
        self.nginx.signal('QUIT')
        gone = await self.until(lambda: not alive(self.nginx.master)
                                and not any(map(alive, workers)))
        self.ok(gone, 'quit: nginx is gone', workers)

        await load
        await self.ended()
        await self.until(lambda: self.open == 0)
        self.ok(self.open == 0, 'quit: targets have no connection left')
        self.as_planned('quit')

    def logs(self):
        """Nothing but the alerts of SIGKILL."""

        bad = [line for line in self.nginx.bad_lines()
               if 'exited on signal 9' not in line]
        self.ok(not bad, 'error.log has no alert',
                '\n'.join(bad[:20]))

        results = collections.Counter()

        for name in 'http.log', 'stream.log':
            for line in self.nginx.log(name):
                results[' '.join(line.split()[4:])] += 1

        # a connection attempt that worker_shutdown_timeout ends
        ended = sum('machine_limit, worker is shutting down' in line
                    for line in self.nginx.log())

        wrong = [k for k in results if 'internal' in k or k[:3] == '500']
        self.ok(not wrong and results['503 machine_limit -'] == ended,
                'no tunnel has the result internal or machine_limit',
                wrong or f'{results["503 machine_limit -"]}, {ended}')

        print('#\n# status, result, and reason, in nginx\'s logs')
        for k, n in results.most_common():
            print(f'# {n:8} {k}')

    def table(self):
        columns = []

        for counter in self.outcomes.values():
            columns += [c for c in counter if c not in columns]

        print('#\n# ' + ''.join(f'{c:>18}' for c in [''] + columns))

        for front in sorted(self.outcomes):
            print(f'# {front:>18}' + ''.join(
                f'{self.outcomes[front][c] or "":>18}' for c in columns))

        tunnels = sum(n for f, c in self.outcomes.items()
                      for n in c.values() if 'connection' not in f)
        print(f'#\n# {tunnels} tunnels, {time.monotonic() - self.start:.0f} '
              f'seconds, SEED={self.seed}')

    async def run(self):
        self.start = time.monotonic()
        print(f'# SEED={self.seed} RATE={self.rate}, nginx '
              f'{".".join(map(str, self.nginx.version))}'
              f'{" with sanitizers" if self.nginx.sanitized else ""}',
              flush=True)

        targets = Targets(self)
        await targets.start()

        try:
            self.ports.update(zip(LISTEN, listeners(len(LISTEN))))
            self.nginx.files()
            self.nginx.configure()
            self.nginx.start()

            t = self.load_time
            await self.warm_up()
            await self.calm(t * 0.33)
            await self.reload(t * 0.25)
            await self.shutdown_timeout(t * 0.12)
            await self.kill(t * 0.22)
            await self.upgrade(max(3, t * 0.05))
            await self.quit(2)
            self.logs()

        finally:
            self.nginx.kill_all()
            targets.stop()

        self.table()
        print(f'1..{self.tests}')

        if self.bad:
            print(f'# {self.bad} failed, see {DIRECTORY}')
            return 1

        shutil.rmtree(DIRECTORY)
        return 0


class Targets:
    """The process of targets.py."""

    def __init__(self, soak):
        self.soak = soak
        self.held = []

    async def start(self):
        soak = self.soak
        read, write = os.pipe()

        listener, closed, full = (socket.socket() for _ in range(3))
        udp, dns = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    for _ in range(2))

        for name, s in ('target', listener), ('closed', closed), (
                'full', full), ('udp', udp), ('dns', dns):
            s.bind(('127.0.0.1', 0))
            soak.ports[name] = s.getsockname()[1]

        for s in udp, dns:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

        listener.listen(2048)
        full.listen(0)

        # two fill it: nobody accepts, and a SYN is not answered any more
        for _ in range(2):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(('127.0.0.1', soak.ports['full']))
            self.held.append(s)

        self.held += [closed, full]

        fds = [s.fileno() for s in (listener, udp, dns)] + [write]
        self.process = subprocess.Popen(
            [sys.executable, f'{HERE}/targets.py'] + [str(f) for f in fds],
            pass_fds=fds)

        for s in listener, udp, dns:
            s.close()
        os.close(write)

        reader = asyncio.StreamReader(limit=1 << 20)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read))
        self.task = asyncio.ensure_future(self.read(reader))

    async def read(self, reader):
        while line := await reader.readline():
            self.soak.reported(line.decode().rstrip('\n'))

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.task.cancel()


def main():
    seconds = int(sys.argv[1])

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))

    shutil.rmtree(DIRECTORY, ignore_errors=True)
    os.mkdir(DIRECTORY)

    # of asyncio, about each write to a connection that has ended
    logging.disable()

    soak = Soak(seconds)

    async def run():
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        for s in signal.SIGINT, signal.SIGTERM:
            loop.add_signal_handler(s, task.cancel)

        # connections that are lost while they are closed
        loop.set_exception_handler(lambda loop, context: problem(soak,
                                                                 context))
        return await soak.run()

    try:
        sys.exit(asyncio.run(run()))
    except asyncio.CancelledError:
        sys.exit('interrupted')


def problem(soak, context):
    e = context.get('exception')

    if not isinstance(e, (OSError, Wrong, clients.Aborted)):
        soak.failures.append(f'{context.get("message")} {e!r}')
        print(f'# {context.get("message")} {e!r}', flush=True)


if __name__ == '__main__':
    main()
