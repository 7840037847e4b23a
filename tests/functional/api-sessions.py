# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Sessions, jobs and events as the API shows them; what a session stands on is in use."""
import socket
import struct

from orion import Orion, run, wait_for


def connect(o, name):
    """A client that has attached the export by NBD_OPT_GO and stays."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(o.dir + '/nbd.sock')
    assert s.recv(18, socket.MSG_WAITALL)[:8] == b'NBDMAGIC'
    s.sendall(struct.pack('>I', 3))
    data = struct.pack('>I', len(name)) + name.encode() + struct.pack('>H', 0)
    s.sendall(b'IHAVEOPT' + struct.pack('>II', 7, len(data)) + data)
    while True:
        _, _, kind, length = struct.unpack('>QIII', s.recv(20, socket.MSG_WAITALL))
        s.recv(length, socket.MSG_WAITALL)
        if kind == 1:
            return s
        assert kind == 3, kind


def test_a_session_is_listed_and_killed():
    with Orion() as o:
        o.mem('d0')
        o.nbd('e0', 'd0')
        o.fds_mark()
        with connect(o, 'e0') as s:
            one = wait_for(lambda: o.ctl('session', 'list')['items'])[0]
            assert one['protocol'] == 'nbd' and one['object'] == 'e0', one
            path = '/v1/sessions/%d' % one['id']
            assert o.http('DELETE', path).status == 428
            assert o.change('DELETE', path).status == 204
            assert s.recv(1) == b''
        assert wait_for(lambda: o.ctl('session', 'list')['items'] == [])
        assert o.http('GET', path).status == 404


def test_what_a_session_uses_is_not_taken_away():
    with Orion() as o:
        o.mem('d0')
        o.nbd('e0', 'd0')
        with connect(o, 'e0') as s:
            wait_for(lambda: o.ctl('session', 'list')['items'])
            text = o.ctl('nbd', 'unexport', 'e0', expect=5)
            assert 'e0' in text and 'session' in text, text
            assert 'e0' in o.ctl('device', 'remove', 'd0', expect=5)
            o.ctl('nbd', 'unexport', 'e0', '--disconnect')
            assert s.recv(1) == b''
        o.ctl('device', 'remove', 'd0')


def test_a_client_that_left_does_not_count():
    with Orion() as o:
        o.mem('d0')
        o.nbd('e0', 'd0')
        connect(o, 'e0').close()
        o.ctl('nbd', 'unexport', 'e0')


def test_events_have_numbers_and_tell_what_happened():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('array', 'fail', 'a0', 'd1')
        events = wait_for(lambda: [e for e in o.http('GET', '/v1/events').json['items']
                                   if 'd1' in e['message']])
        ids = [e['id'] for e in o.http('GET', '/v1/events').json['items']]
        assert ids == sorted(set(ids)) and events[0]['object'] == 'array a0', events
        rest = o.http('GET', '/v1/events?after=%d' % ids[-2]).json['items']
        assert [e['id'] for e in rest] == ids[-1:], rest
        assert 'degraded' in ' '.join(o.http('GET', '/v1/system').json['problems'])


def test_a_rebuild_is_a_job():
    with Orion() as o:
        o.mem('d0', 'd1', 'd2')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('array', 'fail', 'a0', 'd1')
        o.ctl('array', 'remove', 'a0', 'd1')
        o.ctl('array', 'add', 'a0', 'd2')
        job = wait_for(lambda: o.ctl('job', 'list')['items'])[-1]
        assert job['object'] == 'a0' or 'a0' in job['object'], job
        wait_for(lambda: o.ctl('job', 'show', job['id'])['state'] == 'done', 30)
        assert wait_for(lambda: o.ctl('array', 'show', 'a0')['missing'] == 0)


run(test_a_session_is_listed_and_killed, test_what_a_session_uses_is_not_taken_away,
    test_a_client_that_left_does_not_count, test_events_have_numbers_and_tell_what_happened,
    test_a_rebuild_is_a_job)
