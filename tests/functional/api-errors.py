# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Every wrong request gets its own answer, problem+json, and changes nothing."""
import http.client
import json
import socket

from orion import Orion, UnixHTTP, run

JSON = {'Content-Type': 'application/json'}
NAME100 = 'n' * 100

# (method, path, body, status, code, field of the first error or None, a word of its text)
WRONG = [
    ('GET', '/', None, 404, 'not-found', None, 'openapi'),
    ('GET', '/v1', None, 404, 'not-found', None, 'openapi'),
    ('GET', '/v2/devices', None, 404, 'not-found', None, 'openapi'),
    ('GET', '/v1/devices/', None, 404, 'not-found', None, ''),
    ('GET', '/v1/devices/nope', None, 404, 'not-found', None, 'nope'),
    ('GET', '/v1/devices/%zz', None, 404, 'not-found', None, ''),
    ('GET', '/v1/devices/a%00b', None, 404, 'not-found', None, ''),
    ('PATCH', '/v1/devices', None, 405, 'unsupported', None, 'GET'),
    ('DELETE', '/v1/devices', None, 405, 'unsupported', None, 'GET'),
    ('POST', '/healthz', None, 405, 'unsupported', None, 'GET'),
    ('GET', '/v1/devices?limit=0', None, 400, 'invalid', 'limit', 'from 1'),
    ('GET', '/v1/devices?limit=x', None, 400, 'invalid', 'limit', 'number'),
    ('GET', '/v1/devices?cursor=zz', None, 400, 'invalid', 'cursor', 'zz'),
    ('GET', '/v1/devices?frob=1', None, 400, 'invalid', 'frob', 'limit'),
    ('GET', '/v1/devices?%=1', None, 400, 'invalid', None, 'malformed'),
    ('PUT', '/v1/devices/dx', {}, 400, 'invalid', 'type', 'missing'),
    ('PUT', '/v1/devices/dx', {'type': 'tape'}, 400, 'invalid', 'type', 'mem'),
    ('PUT', '/v1/devices/dx', {'type': 'mem', 'frob': 1}, 400, 'invalid', 'frob', 'unknown'),
    ('PUT', '/v1/devices/dx', {'type': 'mem', 'size': True}, 400, 'invalid', 'size', 'number'),
    ('PUT', '/v1/devices/dx', {'type': 'mem', 'size': -1}, 400, 'invalid', 'size', 'negative'),
    ('PUT', '/v1/devices/dx', {'type': 'mem', 'size': 1.5}, 400, 'invalid', 'size', 'number'),
    ('PUT', '/v1/devices/dx', {'type': 'mem', 'size': 'ten'}, 400, 'invalid', 'size', '10G'),
    ('PUT', '/v1/devices/dx', {'type': 'mem', 'size': None}, 400, 'invalid', 'size', 'number'),
    ('PUT', '/v1/devices/dx', {'type': 7}, 400, 'invalid', 'type', 'string'),
    ('PUT', '/v1/devices/dx', {'path': 'relative'}, 400, 'invalid', 'path', 'absolute'),
    ('PUT', '/v1/devices/dx', {'path': '/tmp/\u0000x'}, 400, 'invalid', 'path', 'NUL'),
    ('PUT', '/v1/devices/dx', {'path': '/nonexistent/file'}, None, None, None, '/nonexistent'),
    ('PUT', '/v1/devices/' + NAME100, {'type': 'mem', 'size': '1M'}, 400, 'invalid', 'name', '32'),
    ('PUT', '/v1/devices/-x', {'type': 'mem', 'size': '1M'}, 400, 'invalid', 'name', 'letter'),
    ('PUT', '/v1/devices/a0', {'type': 'mem', 'size': '1M'}, 409, 'exists', 'name', 'a0'),
    ('PUT', '/v1/devices/d0', {'type': 'mem', 'size': '32M'}, 409, 'exists', 'size', 'd0'),
    ('PUT', '/v1/devices/d0', {'type': 'null'}, 409, 'exists', 'type', 'mem'),
    ('PUT', '/v1/arrays/a1', {}, 400, 'invalid', 'level', 'missing'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid7', 'members': ['d0']}, 400, 'invalid', 'level', 'raid1'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid1', 'members': 'd0'}, 400, 'invalid', 'members', 'array'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid1', 'members': []}, 400, 'invalid', 'members', 'entries'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid1', 'members': [3]}, 400, 'invalid', 'members', 'string'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid1', 'members': ['d2', 'd2']}, 400, 'invalid', 'members',
     'twice'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid1', 'members': ['d2', 'zz']}, 404, 'not-found', 'members',
     'zz'),
    ('PUT', '/v1/arrays/a1', {'level': 'raid1', 'members': ['d2', 'd0']}, 409, 'in-use', 'members',
     'a0'),
    ('PUT', '/v1/arrays/d2', {'level': 'raid1', 'members': ['d2', 'd3']}, 409, 'exists', 'name', 'd2'),
    ('PUT', '/v1/arrays/a0', {'level': 'raid0', 'members': ['d0', 'd1']}, 409, 'exists', 'level', 'a0'),
    ('PUT', '/v1/arrays/a0', {'level': 'raid1', 'members': ['d1', 'd0']}, 409, 'exists', 'members', ''),
    ('PUT', '/v1/pools/p1', {'devices': ['a0']}, 409, 'in-use', 'devices', 'p0'),
    ('PUT', '/v1/pools/p1', {'devices': ['d2'], 'extent_size': '3M'}, None, None, 'extent_size', ''),
    ('PUT', '/v1/pools/p0', {'devices': ['d2']}, 409, 'exists', 'devices', 'd2'),
    ('PUT', '/v1/pools/zz/volumes/v', {'size': '8M'}, 404, 'not-found', 'pool', 'zz'),
    ('PUT', '/v1/pools/p0/volumes/v0', {'size': '16M'}, 409, 'exists', 'size', 'p0/v0'),
    ('PUT', '/v1/pools/p0/volumes/v9', {'size': '900G'}, None, None, None, ''),
    ('PUT', '/v1/pools/p0/volumes/v9', {'size': '0'}, 400, 'invalid', 'size', ''),
    ('PUT', '/v1/pools/p0/volumes/%2e%2e', {'size': '8M'}, 400, 'invalid', 'name', ''),
    ('PUT', '/v1/nbd/exports/e1', {'device': 'zz'}, 404, 'not-found', 'device', 'zz'),
    ('PUT', '/v1/nbd/exports/e1', {}, 400, 'invalid', 'device', 'missing'),
    ('PUT', '/v1/nbd/exports/e0', {'device': 'p0/v1'}, 409, 'exists', 'device', 'p0/v0'),
    ('PUT', '/v1/nbd/exports/e0', {'device': 'p0/v0', 'read_only': True}, 409, 'exists', 'read_only',
     ''),
    ('PUT', '/v1/nbd/exports/' + 'e' * 300, {'device': 'd2'}, 400, 'invalid', 'name', '255'),
    ('PUT', '/v1/nbd/listeners/nonsense%3Aport', {}, 400, 'invalid', None, ''),
    ('PUT', '/v1/iscsi/targets/notaniqn', {}, 400, 'invalid', 'iqn', ''),
    ('PUT', '/v1/iscsi/targets/iqn.2026-01.com.example:t0/luns/x', {'device': 'd2'}, 400, 'invalid',
     'lun', '16383'),
    ('PUT', '/v1/iscsi/targets/iqn.2026-01.com.example:zz/luns/0', {'device': 'd2'}, 404, 'not-found',
     'iqn', 'zz'),
    ('PUT', '/v1/iscsi/targets/iqn.2026-01.com.example:t0/luns/0', {'device': 'd2'}, 409, 'exists',
     'device', 'p0/v1'),
    ('DELETE', '/v1/devices/d2', None, 428, 'precondition-required', 'If-Match', 'ETag'),
    ('POST', '/v1/arrays/a0/actions/stop', {}, 428, 'precondition-required', 'If-Match', 'ETag'),
    ('POST', '/v1/arrays/zz/actions/stop', {}, 404, 'not-found', None, 'zz'),
    ('DELETE', '/v1/sessions/99', None, 404, 'not-found', None, '99'),
    ('DELETE', '/v1/sessions/-1', None, 404, 'not-found', None, ''),
    ('GET', '/v1/jobs/99999999999999999999999', None, 404, 'not-found', None, ''),
]

# With the right If-Match: what is refused after it.
REFUSED = [
    ('DELETE', '/v1/devices/d0', None, 409, 'in-use', None, 'a0'),
    ('POST', '/v1/arrays/a0/actions/stop', {}, 409, 'in-use', None, 'p0'),
    ('DELETE', '/v1/arrays/a0?yes=true', None, 409, 'in-use', None, 'p0'),
    ('PATCH', '/v1/arrays/a0', {'sync_rate_max': 10 ** 25}, 400, 'invalid', 'sync_rate_max', 'too large'),
    ('POST', '/v1/arrays/a0/actions/fail', {}, 400, 'invalid', 'member', 'missing'),
    ('POST', '/v1/arrays/a0/actions/fail', {'member': 'zz'}, None, None, 'member', 'zz'),
    ('POST', '/v1/pools/p0/actions/stop', {}, 409, 'in-use', None, 'e0'),
    ('DELETE', '/v1/pools/p0', None, 409, 'in-use', None, 'volumes'),
    ('DELETE', '/v1/pools/p0/volumes/v2', None, 409, 'needs-yes', 'yes', '--yes'),
    ('DELETE', '/v1/pools/p0/volumes/v0?yes=true', None, 409, 'in-use', None, 'e0'),
    ('POST', '/v1/pools/p0/volumes/v2/actions/resize', {'size': '4M'}, 409, 'needs-yes', 'yes', ''),
    ('DELETE', '/v1/pools/p0/volumes/v2?no=true', None, 400, 'invalid', 'no', 'yes'),
    ('DELETE', '/v1/pools/p0/volumes/v2?yes=maybe', None, 400, 'invalid', 'yes', 'true'),
]


def build(o):
    o.mem('d0', 'd1', 'd2', 'd3')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    for v in ('v0', 'v1', 'v2'):
        o.ctl('volume', 'create', 'p0/' + v, '--size', '8M')
    o.nbd('e0', 'p0/v0')
    o.iscsi('iqn.2026-01.com.example:t0', 'p0/v1')


def check(row, answer):
    method, path, _, status, code, field, word = row
    assert answer.headers['Content-Type'] == 'application/problem+json', (row, answer.body)
    p = answer.json
    assert answer.status == p['status'], row
    assert status in (None, answer.status), (row, p)
    assert 400 <= answer.status < 500 or answer.status == 507, (row, p)
    assert code in (None, p['code']), (row, p)
    assert p['type'] == 'urn:orion:error:' + p['code'] and p['title'] and p['detail'], p
    assert word in p['detail'], (row, p)
    if field is not None:
        assert p['errors'] and p['errors'][0]['field'] == field, (row, p)


def test_each_wrong_request_has_its_answer_and_changes_nothing():
    with Orion() as o:
        build(o)
        before = o.http('GET', '/v1/config').body
        for row in WRONG:
            check(row, o.http(*row[:3]))
        for row in REFUSED:
            check(row, o.change(*row[:3]))
        assert o.http('GET', '/v1/config').body == before
        o.restart()
        after = json.loads(o.http('GET', '/v1/config').body)
        assert after['nbd'] == json.loads(before)['nbd']


def test_all_wrong_fields_are_named_at_once():
    with Orion() as o:
        p = o.http('PUT', '/v1/arrays/a', {'level': 'x', 'members': 1, 'frob': 2, 'chunk': 'y'}).json
        assert [e['field'] for e in p['errors']] == ['level', 'members', 'frob', 'chunk'], p


def test_405_says_what_is_allowed():
    with Orion() as o:
        o.mem('d0')
        allow = o.http('POST', '/v1/devices/d0').headers['Allow']
        assert set(allow.split(', ')) == {'PUT', 'GET', 'DELETE'}, allow


def test_bodies_that_are_no_json_objects():
    with Orion() as o:
        for body in (b'{', b'[]', b'"x"', b'{} {}', b'{"type":"mem",}', b"{'type':'mem'}", b'nul',
                     b'{"a":' * 40 + b'1' + b'}' * 40, b'{"type":"\xff"}'):
            r = o.http('PUT', '/v1/devices/d', body, JSON)
            assert r.status == 400 and 'body' in r.json['detail'], (body, r.body)
        r = o.http('PUT', '/v1/devices/d', b'{}', {'Content-Type': 'text/plain'})
        assert r.status == 415, r.body
        r = o.http('GET', '/v1/devices', b'{}', JSON)
        assert r.status == 400, r.body
        assert o.http('GET', '/v1/devices').json == {'items': [], 'next': None}


def test_broken_http_does_no_harm():
    with Orion() as o:
        o.fds_mark()
        for text in (b'\r\n\r\n', b'GET\r\n\r\n', b'\x00' * 2000, b'GET /v1/devices HTTP/9.9\r\n\r\n',
                     b'PUT /v1/devices/x HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n',
                     b'PUT /v1/devices/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{',
                     b'GET /' + b'a' * 70000 + b' HTTP/1.1\r\n\r\n'):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(2)
                s.connect(o.api)
                try:
                    s.sendall(text)
                    s.shutdown(socket.SHUT_WR)
                    s.recv(4096)
                except OSError:
                    pass
        assert o.http('GET', '/healthz').status == 200


def test_a_head_that_may_be_read_in_two_ways_is_refused():
    with Orion() as o:
        put = b'PUT /v1/devices/x HTTP/1.1\r\nHost: x\r\n'
        for text, word in ((b'GET /v1/system HTTP/1.1\r\n\r\n', 'Host'),
                           (b'GET /v1/events HTTP/1.1\r\nAccept: text/event-stream\r\n\r\n', 'Host'),
                           (b'GET /v1/system HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n', 'Host'),
                           (put + b'Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x', 'Content-Length'),
                           (put + b'Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
                            'Content-Length')):
            head, body = o.raw(text).split(b'\r\n\r\n', 1)
            assert head.startswith(b'HTTP/1.1 400 ') and b'application/problem+json' in head, (text, head)
            p = json.loads(body)
            assert p['title'] == 'Bad Request' and word in p['detail'], p
        assert o.raw(b'GET /v1/system HTTP/1.0\r\n\r\n').startswith(b'HTTP/1.1 200 ')


def test_titles_are_the_phrases_of_http():
    with Orion() as o:
        wrong = {'Authorization': 'Bearer x'}
        for _ in range(10):
            assert o.http('GET', '/v1/system', headers=wrong).json['title'] == 'Unauthorized'
        assert o.http('GET', '/v1/system', headers=wrong).json['title'] == 'Too Many Requests'
        assert o.http('GET', '/v1/devices/x').json['title'] == 'Not Found'


def test_one_connection_serves_many_requests():
    with Orion() as o:
        c = UnixHTTP(o.api)
        for i in range(50):
            c.request('PUT', '/v1/devices/d%d' % i, b'{"type":"null","size":"1M"}', JSON)
            r = c.getresponse()
            assert r.status == 201, r.read()
            r.read()
        c.request('HEAD', '/v1/devices/d0')
        r = c.getresponse()
        assert r.status == 200 and not r.read() and r.headers['ETag']
        c.close()
        items = o.http('GET', '/v1/devices').json['items']
        assert [i['name'] for i in items] == ['d%d' % i for i in range(50)]


def test_a_client_that_leaves_in_the_middle_does_no_harm():
    with Orion() as o:
        o.fds_mark()
        for i in range(20):
            c = UnixHTTP(o.api)
            c.request('PUT', '/v1/devices/x%d' % i, b'{"type":"mem","size":"1M"}', JSON)
            c.close()
        names = [i['name'] for i in o.http('GET', '/v1/devices').json['items']]
        assert len(names) == len(set(names))


run(test_each_wrong_request_has_its_answer_and_changes_nothing,
    test_all_wrong_fields_are_named_at_once, test_405_says_what_is_allowed,
    test_bodies_that_are_no_json_objects, test_broken_http_does_no_harm,
    test_a_head_that_may_be_read_in_two_ways_is_refused, test_titles_are_the_phrases_of_http,
    test_one_connection_serves_many_requests, test_a_client_that_leaves_in_the_middle_does_no_harm)
