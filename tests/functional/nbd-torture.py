# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Clients that vanish in mid-request, send halves and rubbish, never read, or come by the hundred: each costs
its own connection, nobody else notices, and no descriptor, session, request or memory is left behind."""
import random
import resource
import signal
import struct
import time

from nbdwire import (ABORT, ABUSES, ACK, GO, INFO, LIST, M, READ, SHUTDOWN, Raw, Witness, negotiation_rubbish,
                     nothing_left, rss, sanitized)
from orion import Orion, run


def server(o):
    o.mem('d0', size='256M')
    path = o.nbd('v', 'd0').split('socket=')[1]
    o.fds_mark()
    return path


class Silence:
    """Clients that do not get on with their handshake: the server ends them after ten seconds. They wait while
    other tests run."""

    def __init__(self):
        self.o = Orion()
        path = server(self.o)
        self.begin = time.monotonic()
        self.clients = []
        for said in (b'', b'\0\0', struct.pack('>I', 3), struct.pack('>I', 3) + Raw.option(LIST),
                     struct.pack('>I', 3) + Raw.option(GO, bytes(100))[:50]):
            c = Raw(path, None)
            c.s.sendall(said)
            self.clients.append(c)


silence = None


def test_silent_handshakes_begin():
    global silence
    silence = Silence()


def test_silent_handshakes_have_ended():
    s = silence or Silence()
    with s.o as o:
        for c in s.clients:
            assert c.recv(18) == b'NBDMAGICIHAVEOPT\0\3'
            while not c.closed(): # what it had asked for was answered
                pass
            c.s.close()
        assert time.monotonic() - s.begin > 9.5
        nothing_left(o)


def test_clients_killed_in_mid_request():
    rng = random.Random(7)
    with Orion() as o:
        path = server(o)
        witnesses = [Witness(path, 128 * M), Witness(path, 130 * M)]
        for w in witnesses:
            w.start()
        for i in range(320):
            c = Raw(path)
            ABUSES[i % len(ABUSES)](c, rng)
            c.reset()
        for w in witnesses:
            w.end()
        nothing_left(o)
        assert sanitized() or rss(o) < 640 * 1024, rss(o) # data held for all is 512 MiB at most


def test_handshakes_broken_off_at_every_byte():
    rng = random.Random(8)
    with Orion() as o:
        path = server(o)
        whole = struct.pack('>I', 3) + Raw.option(LIST) + Raw.option(GO, struct.pack('>I', 1) + b'v\0\0')
        for n in range(len(whole) + 1):
            c = Raw(path, None)
            c.s.sendall(whole[:n])
            c.reset()
        for _ in range(100):
            c = Raw(path, None)
            try:
                c.s.sendall(negotiation_rubbish(rng))
            except ConnectionError:
                pass # it was found out at the first byte
            c.s.close()
        for junk in (b'GET / HTTP/1.1\r\n\r\n', bytes(64), b'\xff' * 64, struct.pack('>I', 3) + bytes(64)):
            c = Raw(path, None)
            c.s.sendall(junk)
            c.recv(18)
            assert c.closed(), junk
            c.s.close()
        nothing_left(o)


def test_readers_that_never_read():
    with Orion() as o:
        path = server(o)
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
        w.end()
        # at most 16 MiB of data for each of them, whatever they asked for
        assert sanitized() or rss(o) < 8 * 17 * 1024 + 300 * 1024, rss(o)
        for c in deaf:
            c.reset()
        nothing_left(o)


def test_forty_that_never_read_drive_nobody_away_and_hold_nobody_back():
    """What they hold is a part of what is left: a client beside them gets long requests served while all of them
    are still there, and none of them is dropped for that."""
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--type', 'file', '--path', o.file('image', 256 * M))
        path = o.nbd('v', 'd0').split('socket=')[1]
        o.fds_mark()
        deaf = [Raw(path) for _ in range(40)]
        for c in deaf:
            c.s.setblocking(False)
            batch = b''.join(c.request(READ, 0, M, n) for n in range(64))
            try:
                c.s.sendall(batch)
            except BlockingIOError:
                pass
        honest = [Raw(path), Raw(path)] # one on each reactor
        for n in range(20):
            for c in honest:
                c.write(n * M, bytes([n + 1]) * M)
                assert c.read(n * M, M) == bytes([n + 1]) * M
        assert len(o.ctl('session', 'list')['items']) == 42
        assert 'stalled' not in o.log()
        for c in deaf:
            c.reset()
        for c in honest:
            c.s.close()
        nothing_left(o)


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def test_a_crowd_at_the_door_drops_the_oldest_not_the_newcomer():
    raise_limit()
    with Orion() as o:
        path = server(o)
        crowd = [Raw(path, None) for _ in range(600)]
        late = Raw(path)
        assert late.read(0, 4096) == bytes(4096)
        crowd[0].recv(18)
        assert crowd[0].closed()
        for c in crowd[-64:]: # those who came last may still speak
            c.hello()
            c.go()
        assert len(o.ctl('session', 'list')['items']) == 65
        for c in crowd + [late]:
            c.s.close()
        nothing_left(o)


def test_a_thousand_idle_connections_cost_little():
    raise_limit()
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
        nothing_left(o)


def test_a_shutdown_answers_what_was_asked():
    with Orion() as o:
        path = server(o)
        c, early = Raw(path), Raw(path, None)
        early.hello()
        assert early.info()[-1][0] == ACK
        c.write(0, b'z' * 65536)
        c.s.sendall(b''.join(c.request(READ, 0, 65536, n) for n in range(100)))
        o.proc.send_signal(signal.SIGTERM)
        while early.info()[-1][0] == ACK: # as long as c does not read, it is not over
            pass
        for option in (INFO, GO):
            assert early.info(option=option)[-1][0] == SHUTDOWN
        assert early.ask_option(LIST)[-1][0] == SHUTDOWN
        assert early.ask_option(ABORT) == [(ACK, b'')]
        assert early.closed()
        for _ in range(100):
            error, _, data = c.reply(65536)
            assert not error and data == b'z' * 65536
        assert c.closed()
        o.stop()


run(test_silent_handshakes_begin,
    test_clients_killed_in_mid_request,
    test_handshakes_broken_off_at_every_byte,
    test_readers_that_never_read,
    test_forty_that_never_read_drive_nobody_away_and_hold_nobody_back,
    test_a_crowd_at_the_door_drops_the_oldest_not_the_newcomer,
    test_a_thousand_idle_connections_cost_little,
    test_a_shutdown_answers_what_was_asked,
    test_silent_handshakes_have_ended)
