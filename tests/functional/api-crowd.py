# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Everyone on the machine may connect to the API and to the metrics: whoever opens many connections
and says nothing, or half a request, keeps nobody else out."""
import socket

from orion import Orion, free_port, run, wait_for

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


run(test_an_idle_crowd_does_not_keep_the_administrator_out,
    test_an_idle_crowd_does_not_keep_prometheus_out)
