# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client may send is bounded, the bounds are settings, and who exceeds them is told at once."""
import json
import socket

from orion import Orion, run


def put(path, length, body=b''):
    return (b'PUT %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n' % (
        path, length)) + body


def test_a_body_that_says_it_is_too_long_is_refused_unread():
    with Orion() as o:
        o.fds_mark()
        for length in (1 << 40, (1 << 20) + 1):
            answer = o.raw(put(b'/v1/devices/d0', length, b'{"'))
            assert answer.startswith(b'HTTP/1.1 413 ') and b'1048576 bytes' in answer, answer
        # The order of refusals stands: what is not there is told before.
        assert o.raw(put(b'/v1/nothing', 1 << 40)).startswith(b'HTTP/1.1 404 ')
        assert o.raw(put(b'/healthz', 1 << 40)).startswith(b'HTTP/1.1 405 ')
        assert o.http('GET', '/v1/devices').json['items'] == []


def test_a_body_without_length_and_end_is_cut_off():
    with Orion() as o:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(o.api)
            s.sendall(b'PUT /v1/devices/d0 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n')
            sent = 0
            try:
                while sent < 64 << 20:
                    s.sendall(b'10000\r\n' + b'x' * 65536 + b'\r\n')
                    sent += 65536
            except OSError:
                pass
            assert sent < 64 << 20, 'it was read without end'


def test_limits_are_settings():
    with Orion(start=False) as o:
        with open(o.config, 'w') as f:
            json.dump({'api_body_max': '4K', 'api_streams_max': 1, 'api_connections_max': 16, 'api_idle_s': 5}, f)
        o.start()
        assert o.raw(put(b'/v1/devices/d0', 4097)).startswith(b'HTTP/1.1 413 ')
        assert o.http('PUT', '/v1/devices/d0', {'type': 'null', 'size': '1M'}).status == 201
        socks = []
        for want in (b'200', b'503'):
            socks.append(socket.socket(socket.AF_UNIX))
            socks[-1].settimeout(60)
            socks[-1].connect(o.api)
            socks[-1].sendall(b'GET /v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n')
            assert want in socks[-1].recv(4096).split(b'\r\n')[0]
        # Half a request, and nothing more: closed, and not waited for.
        idle = socket.socket(socket.AF_UNIX)
        idle.settimeout(60)
        idle.connect(o.api)
        idle.sendall(b'GET /v1/devices HTTP/1.1\r\nHo')
        assert b'HTTP/1.1 200' not in idle.recv(4096)
        for s in socks + [idle]:
            s.close()


def test_a_limit_out_of_range_is_refused_by_its_name():
    for key, value in (('api_body_max', 1), ('api_body_max', '1G'), ('api_streams_max', 0), ('api_idle_s', 'x')):
        with Orion(start=False) as o:
            with open(o.config, 'w') as f:
                json.dump({key: value}, f)
            try:
                o.start()
            except AssertionError:
                assert key in o.log(), o.log()
            else:
                raise AssertionError('%s was taken' % key)


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
