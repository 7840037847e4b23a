# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Everyone on the machine may connect to the API and to the metrics, and everyone on the net to the
API over TLS: whoever opens many connections and says nothing, or half a request, or one byte after
the other, keeps nobody else out."""
import json
import socket
import ssl
import time

from orion import Orion, free_port, run, self_signed, wait_for

CROWD = 1500
HALF = b'GET /v1/devices HTTP/1.1\r\nHost: x\r\nX: '


def crowd(connect, count=CROWD):
    """Connections, every other one with half a request."""
    out = []
    for i in range(count):
        s = connect()
        try:
            if i % 2:
                s.send(HALF)
        except OSError:
            pass
        out.append(s)
    return out


def unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)

    def connected():
        try:
            s.connect(path)
            return True
        except BlockingIOError:  # the backlog is full; the daemon comes to it
            return False
    wait_for(connected, 20, 'room in the backlog')
    return s


def test_an_idle_crowd_does_not_keep_the_administrator_out():
    with Orion() as o:
        o.fds_mark()
        kept = crowd(lambda: unix(o.api))
        o.mem('d0')
        assert o.ctl('device', 'show', 'd0')['name'] == 'd0'
        # Those who came last are still there.
        kept[-2].sendall(b'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
        assert kept[-2].recv(15) == b'HTTP/1.1 200 OK'
        for s in kept:
            s.close()


def test_an_idle_crowd_does_not_keep_prometheus_out():
    port = free_port()
    with Orion('--metrics', '127.0.0.1:%d' % port) as o:
        kept = crowd(lambda: socket.create_connection(('127.0.0.1', port), 20))
        s = socket.create_connection(('127.0.0.1', port), 20)
        s.sendall(b'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
        assert s.recv(15) == b'HTTP/1.1 200 OK'
        s.close()
        wait_for(lambda: len(o.fds()) < 700, 5, 'the oldest to be dropped')
        for s in kept:
            s.close()


class Tls:
    """The API over TLS, with an admin's token."""

    def __init__(self, o, **settings):
        self.port = free_port()
        cert, key = self_signed(o.dir)
        with open(o.config, 'w') as f:
            json.dump({'tls_cert': cert, 'tls_key': key, **settings}, f)
        o.args += ['--api', '127.0.0.1:%d' % self.port]
        o.start()
        self.context = ssl.create_default_context(cafile=cert)
        token = o.ctl('token', 'add', 'ci', '--role', 'admin', '--days', '1')['token']
        self.ask = b'GET /v1/system HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n' % token.encode()

    def silent(self, source):
        return socket.create_connection(('127.0.0.1', self.port), 60, (source, 0))

    def open(self, source):
        return self.context.wrap_socket(self.silent(source), server_hostname='127.0.0.1')

    def served(self, s):
        s.sendall(self.ask)
        head = b''
        while b'\r\n\r\n' not in head:
            more = s.recv(4096)
            assert more, 'the connection was closed: %r' % head
            head += more
        assert head.startswith(b'HTTP/1.1 200 '), head
        length = int(head.lower().split(b'content-length: ')[1].split(b'\r')[0])
        rest = length - len(head.split(b'\r\n\r\n', 1)[1])
        while rest:
            rest -= len(s.recv(rest))


def ended(s):
    """The other side has closed it; not waiting."""
    s.settimeout(0)
    try:
        return not s.recv(4096)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def trickled(s):
    """Sends one byte more; true when the other side has closed it."""
    try:
        s.settimeout(60)
        s.send(b'x')
        time.sleep(0.1)
    except OSError:
        return True
    return ended(s)


def test_strangers_over_tls_crowd_out_nobody_else():
    with Orion(start=False) as o:
        tls = Tls(o, api_handshake_s=300)
        late, kept = tls.open('127.0.0.1'), tls.open('127.0.0.3')
        tls.served(kept)
        strangers = []
        for i in range(300):  # more than there is room for, and most of them through the handshake
            try:
                strangers.append(tls.open('127.0.0.2') if i < 270 else tls.silent('127.0.0.2'))
                strangers[-1].send(HALF if i < 270 else b'')
            except OSError:
                pass  # it made room for another
        # Who came before them and has said nothing yet, who is known, and who comes now.
        for s in (late, kept, tls.open('127.0.0.1'), tls.open('127.0.0.2')):
            tls.served(s)
            s.close()
        for s in strangers:
            s.close()


def test_who_says_nothing_over_tls_is_cut_off_and_who_is_known_stays():
    with Orion(start=False) as o:
        tls = Tls(o, api_handshake_s=4)
        known = tls.open('127.0.0.1')
        tls.served(known)
        silent, slow = tls.silent('127.0.0.1'), tls.open('127.0.0.1')
        slow.send(b'GET /v1/system HTTP/1.1\r\nHost: x\r\nX: ')
        wait_for(lambda: trickled(slow), 60, 'the end of a request that comes byte by byte')
        wait_for(lambda: ended(silent), 60, 'the end of who begins no handshake')
        tls.served(known)
        for s in (known, silent, slow):
            s.close()


def test_a_request_that_trickles_is_cut_off():
    with Orion(start=False) as o:
        with open(o.config, 'w') as f:
            json.dump({'api_idle_s': 3}, f)
        o.start()
        head, body = unix(o.api), unix(o.api)
        head.sendall(b'GET /v1/devices HTTP/1.1\r\nX: ')
        body.sendall(b'PUT /v1/devices/d0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n')
        wait_for(lambda: all([trickled(head), trickled(body)]), 60, 'both to be closed')
        for s in (head, body):
            s.close()
        assert o.ctl('device', 'list')['items'] == []


run(test_strangers_over_tls_crowd_out_nobody_else,
    test_who_says_nothing_over_tls_is_cut_off_and_who_is_known_stays, test_a_request_that_trickles_is_cut_off,
    test_an_idle_crowd_does_not_keep_the_administrator_out,
    test_an_idle_crowd_does_not_keep_prometheus_out)
