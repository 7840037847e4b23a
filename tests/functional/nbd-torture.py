# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Clients that vanish in mid-request, send halves and rubbish, never read, or come by the hundred: each
costs its own connection, nobody else notices, and no descriptor or session is left behind."""
import random
import resource
import signal
import socket
import struct
import threading
import time

from orion import FULL, Orion, find, run, wait_for

M = 1 << 20
READ, WRITE, DISC, FLUSH = 0, 1, 2, 3


def sanitized():
    """A sanitizer's shadow makes figures of memory meaningless."""
    with open(find('oriond'), 'rb') as f:
        program = f.read()
    return b'__asan_init' in program or b'__tsan_init' in program


class Raw:
    """A client that can be stopped at any byte."""

    def __init__(self, path, name='v'):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)
        if name is not None:
            self.go(name.encode())

    def recv(self, n):
        data = b''
        while len(data) < n:
            part = self.s.recv(n - len(data))
            if not part:
                raise ConnectionError('closed')
            data += part
        return data

    def go(self, name):
        assert self.recv(18) == b'NBDMAGICIHAVEOPT\0\3'
        self.s.sendall(struct.pack('>I', 3) + self.option(7, struct.pack('>I', len(name)) + name + b'\0\0'))
        while True:
            _, _, kind, length = struct.unpack('>QIII', self.recv(20))
            self.recv(length)
            assert not kind >> 31, hex(kind)
            if kind == 1:
                return

    @staticmethod
    def option(number, data=b''):
        return b'IHAVEOPT' + struct.pack('>II', number, len(data)) + data

    @staticmethod
    def request(kind, offset=0, length=0, cookie=0, flags=0):
        return struct.pack('>IHHQQI', 0x25609513, flags, kind, cookie, offset, length)

    def reply(self, length=0):
        magic, error, cookie = struct.unpack('>IIQ', self.recv(16))
        assert magic == 0x67446698
        return error, cookie, self.recv(length) if not error else b''

    def read(self, offset, length):
        self.s.sendall(self.request(READ, offset, length))
        error, _, data = self.reply(length)
        assert not error, error
        return data

    def write(self, offset, data):
        self.s.sendall(self.request(WRITE, offset, len(data)) + data)
        assert self.reply()[0] == 0

    def reset(self):
        """Closes without a goodbye, unread data and all."""
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.s.close()

    def closed(self, seconds=30):
        self.s.settimeout(seconds)
        try:
            return self.s.recv(1) == b''
        except ConnectionResetError:
            return True


class Witness(threading.Thread):
    """A well-behaved client beside the bad ones: all it reads is what it wrote."""

    def __init__(self, path, base):
        super().__init__()
        self.c, self.base = Raw(path), base
        self.over, self.error, self.slowest, self.count = False, None, 0, 0

    def run(self):
        rng = random.Random(self.base)
        try:
            while not self.over:
                size = rng.choice((512, 4096, 65536))
                offset = self.base + rng.randrange(M // size) * size
                data = rng.randbytes(size)
                begin = time.monotonic()
                self.c.write(offset, data)
                assert self.c.read(offset, size) == data
                self.slowest = max(self.slowest, time.monotonic() - begin)
                self.count += 1
                time.sleep(0.001)
        except Exception as e:
            self.error = e

    def end(self):
        self.over = True
        self.join()
        if self.error:
            raise self.error
        assert self.count > 20, self.count
        self.c.s.close()


def server(o, *fault):
    o.mem('d0', size='256M')
    return o.nbd('v', 'd0').split('socket=')[1]


def no_session_left(o):
    wait_for(lambda: not o.ctl('session', 'list')['items'], 20, 'all sessions to end')


def test_clients_killed_in_mid_request():
    rng = random.Random(7)
    with Orion() as o:
        path = server(o)
        o.fds_mark()
        witnesses = [Witness(path, 128 * M), Witness(path, 130 * M)]
        for w in witnesses:
            w.start()
        for i in range(3000 if FULL else 600):
            c = Raw(path)
            kind = i % 6
            if kind == 0: # half a header
                c.s.sendall(c.request(READ, 0, 4096)[:rng.randrange(1, 28)])
            elif kind == 1: # half a payload, small or long
                size = rng.choice((4096, M))
                c.s.sendall(c.request(WRITE, 0, size) + bytes(rng.randrange(size)))
            elif kind == 2: # many reads under way
                c.s.sendall(b''.join(c.request(READ, n * 65536, 65536, n) for n in range(64)))
            elif kind == 3: # in the middle of a reply
                c.s.sendall(c.request(READ, 0, 4 * M))
                c.recv(rng.randrange(1, M))
            elif kind == 4: # rubbish
                c.s.sendall(rng.randbytes(100))
            else: # writes, and a goodbye that overtakes the replies
                at = 64 * M + i // 6 * 65536 # its own place: overlapping writes would be a race of clients
                c.s.sendall(b''.join(c.request(WRITE, at, 4096) + bytes(4096) for _ in range(16)) +
                            c.request(DISC))
            c.reset()
        for w in witnesses:
            w.end()
        no_session_left(o)
        o.fds_check()


def test_handshakes_broken_off_at_every_byte():
    with Orion() as o:
        path = server(o)
        o.fds_mark()
        whole = struct.pack('>I', 3) + Raw.option(3) + Raw.option(7, struct.pack('>I', 1) + b'v\0\0')
        for n in range(len(whole) + 1):
            c = Raw(path, None)
            c.s.sendall(whole[:n])
            c.reset()
        for junk in (b'GET / HTTP/1.1\r\n\r\n', bytes(64), b'\xff' * 64, struct.pack('>I', 3) + bytes(64)):
            c = Raw(path, None)
            c.s.sendall(junk)
            c.recv(18)
            assert c.closed(), junk
            c.s.close()
        no_session_left(o)
        o.fds_check()


def test_readers_that_never_read():
    with Orion() as o:
        path = server(o)
        o.fds_mark()
        deaf = [Raw(path) for _ in range(8)]
        for c in deaf:
            c.s.setblocking(False)
            batch = b''.join(c.request(READ, 0, M, n) for n in range(1000))
            try:
                while True:
                    c.s.send(batch)
            except BlockingIOError:
                pass # the server has stopped reading too
        w = Witness(path, 128 * M)
        w.start()
        wait_for(lambda: w.count > 100 or w.error, 60, 'the well-behaved client to be served')
        w.end()
        with open('/proc/%d/status' % o.proc.pid) as f:
            rss = [int(line.split()[1]) for line in f if line.startswith('VmRSS')][0]
        # at most 16 MiB of data for each of them, whatever they asked for
        assert sanitized() or rss < 8 * 17 * 1024 + 300 * 1024, rss
        for c in deaf:
            c.reset()
        no_session_left(o)
        o.fds_check()


def test_a_silent_handshake_ends_after_ten_seconds():
    with Orion() as o:
        path = server(o)
        begin = time.monotonic()
        c = Raw(path, None)
        c.recv(18)
        c.s.sendall(b'\0\0')
        assert c.closed(20)
        assert 9 < time.monotonic() - begin < 15, time.monotonic() - begin
        c.s.close()


def test_a_crowd_at_the_door_drops_the_oldest_not_the_newcomer():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Orion() as o:
        path = server(o)
        crowd = [Raw(path, None) for _ in range(600)]
        late = Raw(path)
        assert late.read(0, 4096) == bytes(4096)
        crowd[0].recv(18)
        assert crowd[0].closed()
        # at least 256 of those who came last may still speak
        for c in crowd[-256:]:
            c.go(b'v')
        assert len(o.ctl('session', 'list')['items']) == 257
        for c in crowd + [late]:
            c.s.close()
        no_session_left(o)


def test_a_thousand_idle_connections_cost_little():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def rss(o):
        with open('/proc/%d/status' % o.proc.pid) as f:
            return [int(line.split()[1]) for line in f if line.startswith('VmRSS')][0]

    with Orion() as o:
        path = server(o)
        Raw(path).read(0, M)
        before = rss(o)
        idle = [Raw(path) for _ in range(1000)]
        for c in idle[::100]:
            c.read(0, 4096)
        cost = rss(o) - before
        assert sanitized() or cost < 20 * 1024, cost
        for c in idle:
            c.s.close()
        no_session_left(o)


def test_a_shutdown_answers_what_was_asked():
    with Orion() as o:
        path = server(o)
        c = Raw(path)
        c.write(0, b'z' * 65536)
        c.s.sendall(b''.join(c.request(READ, 0, 65536, n) for n in range(100)))
        o.proc.send_signal(signal.SIGTERM)
        for _ in range(100):
            error, _, data = c.reply(65536)
            assert not error and data == b'z' * 65536
        assert c.closed()
        o.stop()


run(test_clients_killed_in_mid_request,
    test_handshakes_broken_off_at_every_byte,
    test_readers_that_never_read,
    test_a_silent_handshake_ends_after_ten_seconds,
    test_a_crowd_at_the_door_drops_the_oldest_not_the_newcomer,
    test_a_thousand_idle_connections_cost_little,
    test_a_shutdown_answers_what_was_asked)
