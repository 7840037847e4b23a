# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""Thousands of clients that misbehave, in the clear and through TLS, many at once, and as many connections as
there may be: the well-behaved beside them are served, and nothing is left behind."""
import os
import random
import resource
import ssl
import threading

from nbdwire import (ABUSES, STARTTLS, M, Raw, Witness, make_certificates, negotiation_rubbish, nothing_left, rss,
                     sanitized, tls_context)
from orion import Orion, free_port, need, run, wait_for

need('openssl')
CONNECTIONS_MOST = 16384


def served():
    o = Orion()
    o.mem('d0', size='256M')
    o.path = o.nbd('v', 'd0').split('socket=')[1]
    return o


def crowd(count, abuse):
    """abuse(number, rng) by eight threads; fails when one of them does."""
    failed = []

    def work(k):
        rng = random.Random(k)
        try:
            for i in range(k, count, 8):
                abuse(i, rng)
        except Exception as e:
            failed.append(e)
    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


def beside(o, count, abuse):
    """The abuse beside two who are well-behaved, twice: what is left of memory does not grow with the number."""
    o.fds_mark()
    witnesses = [Witness(o.path, 128 * M), Witness(o.path, 130 * M)]
    for w in witnesses:
        w.start()
    memory = []
    for _ in range(3):
        crowd(count // 3, abuse)
        wait_for(lambda: len(o.ctl('session', 'list')['items']) <= 2, what='the killed to be gone')
        memory.append(rss(o))
    for w in witnesses:
        median, p99 = w.end()
        print('        beside it: %d writes and reads, median %.2f ms, p99 %.2f ms' % (
            len(w.took), median * 1000, p99 * 1000))
    nothing_left(o)
    print('        memory in MiB:', [m >> 10 for m in memory])
    assert sanitized() or memory[2] < memory[1] + 32 * 1024, memory


def test_thousands_killed_in_mid_request():
    with served() as o:
        def abuse(i, rng):
            c = Raw(o.path)
            try:
                ABUSES[i % len(ABUSES)](c, rng)
            except ConnectionError:
                pass # its rubbish was found out
            c.reset()
        beside(o, 6000, abuse)


def test_thousands_of_handshakes_that_lead_nowhere():
    with served() as o:
        def abuse(i, rng):
            c = Raw(o.path, None)
            try:
                c.s.sendall(negotiation_rubbish(rng))
                if i % 3 == 0:
                    c.recv(rng.randrange(1, 19)) # no more is sure to come
            except ConnectionError:
                pass
            c.s.close()
        beside(o, 9000, abuse)


def test_thousands_of_tls_handshakes_cut_anywhere():
    with served() as o:
        make_certificates(o.dir)
        port = free_port()
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % port, '--tls', 'required', '--tls-cert', os.path.join(o.dir, 'server.pem'),
              '--tls-key', os.path.join(o.dir, 'server-key.pem'))
        context = tls_context(o.dir)

        def abuse(i, rng):
            c = Raw(port, None)
            c.hello()
            assert c.ask_option(STARTTLS) == [(1, b'')]
            given, made = ssl.MemoryBIO(), ssl.MemoryBIO()
            t = context.wrap_bio(given, made)
            left = rng.randrange(4000) # bytes of ours until we break off
            try:
                while left > 0:
                    try:
                        t.do_handshake()
                        t.write(c.option(rng.choice((3, 6, 7)), rng.randbytes(rng.randrange(200))))
                    except ssl.SSLWantReadError:
                        pass
                    out = made.read()
                    c.s.sendall(out[:left])
                    left -= max(len(out), 1000)
                    if out and left > 0:
                        given.write(c.s.recv(rng.choice((100, 65536))))
            except (ConnectionError, ssl.SSLError):
                pass
            if i % 2:
                c.reset()
            c.s.close()
        beside(o, 1500, abuse)


def test_as_many_connections_as_there_may_be():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS_MOST + 600:
        print('        left out: only %d open files are allowed' % hard)
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with served() as o:
        o.fds_mark()
        crowded = [Raw(o.path) for _ in range(CONNECTIONS_MOST)]
        for _ in range(3):
            c = Raw(o.path)
            assert c.closed() # one too many
            c.s.close()
        assert crowded[0].read(0, 4096) == crowded[-1].read(0, 4096) == bytes(4096)
        crowded.pop().s.close()
        wait_for(lambda: o.ctl('nbd', 'show', 'v')['connections'] < CONNECTIONS_MOST, what='a place')
        c = Raw(o.path)
        assert c.read(0, 4096) == bytes(4096)
        for c in crowded + [c]:
            c.s.close()
        nothing_left(o)


run(test_thousands_killed_in_mid_request,
    test_thousands_of_handshakes_that_lead_nowhere,
    test_thousands_of_tls_handshakes_cut_anywhere,
    test_as_many_connections_as_there_may_be)
