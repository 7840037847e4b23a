# SPDX-License-Identifier: GPL-2.0-or-later
"""/v1/events as a stream: order, resuming, states, heartbeats, the cap, clients that go."""
import json
import os
import socket
import time

from orion import Orion, run, wait_for


PATIENCE = 60  # seconds: ends a wait for what never comes; nothing is measured with it


class Stream:
    def __init__(self, o, last=None, query='', token=None):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(o.api)
        head = 'GET /v1/events' + query + ' HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n'
        if token:
            head += 'Authorization: Bearer %s\r\n' % token
        if last:
            head += 'Last-Event-ID: %s\r\n' % last
        self.sock.sendall((head + '\r\n').encode())
        self.file = self.sock.makefile('rb')
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().strip()):
            k, v = line.decode().split(': ', 1)
            self.headers[k.lower()] = v
        self.text = b''

    def block(self):
        """The next block of lines, out of the chunks."""
        while b'\n\n' not in self.text:
            size = int(self.file.readline(), 16)
            if not size:
                raise EOFError
            self.text += self.file.read(size)
            self.file.readline()
        one, self.text = self.text.split(b'\n\n', 1)
        return one.decode()

    def event(self, end=None):
        """The next event. Heartbeats go on without end, so the clock decides."""
        end = end or time.monotonic() + PATIENCE
        while time.monotonic() < end:
            fields = dict(line.split(': ', 1) for line in self.block().split('\n') if ': ' in line)
            if 'data' in fields:
                return fields.get('id'), fields['event'], json.loads(fields['data'])
        raise AssertionError('%d s without an event, only heartbeats' % PATIENCE)

    def until(self, fits, what):
        """The first event that fits; fails telling what came instead."""
        end, seen = time.monotonic() + PATIENCE, []
        try:
            while True:
                seen.append(self.event(end))
                if fits(seen[-1][2]):
                    return seen[-1]
        except (AssertionError, OSError, EOFError) as e:
            raise AssertionError('%s did not come (%r); these did:\n%s' % (
                what, e, '\n'.join(map(str, seen)))) from e

    def close(self):
        self.file.close()
        self.sock.close()


def fail_one(o):
    o.ctl('array', 'fail', 'a0', 'd1')


def raid(o):
    o.mem('d0', 'd1')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')


def scrub(o):
    """Three events: it begins, it is done, its job has ended. One that runs already is as good."""
    for _ in range(20):
        o.http('POST', '/v1/arrays/a0/actions/scrub', {}, {'If-Match': '*'})


def test_events_come_as_they_happen_with_states():
    with Orion() as o:
        raid(o)
        s = Stream(o)
        assert s.status == 200 and s.headers['content-type'] == 'text/event-stream', s.headers
        fail_one(o)
        # The event that tells of the failure has the state that it led to, not the one before.
        number, kind, data = s.until(lambda d: d['kind'] == 'member-failed', 'the failure')
        assert kind == data['kind'] and number.endswith('-%d' % data['id'])
        assert data['object'] == 'array a0' and data['new_state'] == 'degraded', data
        assert data['message'] and data['time']
        s.close()


def test_a_stream_goes_on_behind_last_event_id_without_loss_or_repetition():
    with Orion() as o:
        raid(o)
        fail_one(o)
        listed = wait_for(lambda: o.http('GET', '/v1/events').json['items'], PATIENCE)
        s = Stream(o, 'x')
        assert s.event()[1] == 'gap'
        seen = [s.event() for _ in listed]
        assert [e[2]['id'] for e in seen] == [i['id'] for i in listed]
        s.close()
        s = Stream(o, seen[0][0])
        again = [s.event()[2]['id'] for _ in seen[1:]]
        assert again == [e[2]['id'] for e in seen[1:]]
        s.close()
        o.restart()
        s = Stream(o, seen[-1][0])
        assert s.event()[1] == 'gap', 'another run of the daemon numbers anew'
        s.close()


def test_a_stream_takes_the_filters_and_fields_of_the_list():
    with Orion() as o:
        raid(o)
        failed = Stream(o, query='?kind=member-failed&object=array%20a0&fields=kind,new_state')
        assert failed.status == 200
        scrub(o)
        fail_one(o)
        number, kind, data = failed.event()  # all that came before it is left out
        assert kind == 'member-failed' and data == {'kind': 'member-failed', 'new_state': 'degraded'}, data
        wanted = [e for e in o.http('GET', '/v1/events').json['items'] if e['kind'] == 'member-failed'][0]['id']
        assert number.endswith('-%d' % wanted), (number, wanted)
        failed.close()
        for query, first in (('?after=%d' % (wanted - 1), wanted), ('?after=0', 1), ('?after=0&kind=member-failed', wanted)):
            s = Stream(o, query=query)
            assert s.event()[2]['id'] == first, query
            s.close()
        o.fds_mark()
        for query in ('?after=%d' % (2 ** 64 - 1), '?after=%d' % (2 ** 63)):
            assert o.http('GET', '/v1/events' + query).json['items'] == [], query
        for query, field in (('?nonsense=1', 'nonsense'), ('?fields=kind,nonsense', 'fields'), ('?limit=3', 'limit'),
                             ('?cursor=3', 'cursor'), ('?after=x', 'after'), ('?id=x', 'id')):
            r = o.http('GET', '/v1/events' + query, headers={'Accept': 'text/event-stream'})
            assert r.status == 400 and r.json['errors'][0]['field'] == field, (query, r.body)
        o.fds_check()


IQN = 'iqn.2026-01.example:t'


def told(o, *wanted):
    """The events of the list by object and kind, when all that are wanted have come."""
    def all_of_them():
        seen = {(e['object'], e['kind']): e for e in o.http('GET', '/v1/events').json['items']}
        return seen if all(w in seen for w in wanted) else None
    return wait_for(all_of_them, PATIENCE, 'of %s: %s' % (wanted, [
        (e['object'], e['kind']) for e in o.http('GET', '/v1/events').json['items']]))


def test_whatever_is_made_changed_or_deleted_is_an_event_with_its_states_and_who_did_it():
    with Orion() as o:
        o.mem('d0', 'd1', 'd2')
        o.ctl('pool', 'create', 'p', '--devices', 'd0')
        o.ctl('volume', 'create', 'p/v', '--size', '8M')
        o.ctl('volume', 'resize', 'p/v', '--size', '16M')
        listener = 'unix:' + o.dir + '/nbd'
        o.ctl('nbd', 'listen', listener)
        o.ctl('nbd', 'export', 'e', '--device', 'p/v')
        assert not o.ctl('nbd', 'export', 'e', '--device', 'p/v')['changed']
        o.ctl('iscsi', 'create', IQN)
        o.ctl('iscsi', 'lun', IQN, '0', '--device', 'd1')
        o.ctl('iscsi', 'acl', IQN, 'iqn.2026-01.example:i')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd2,missing')
        o.change('PATCH', '/v1/nbd/exports/e', {'description': 'text'})
        o.ctl('token', 'add', 'ci', '--role', 'viewer', '--days', '1')
        for gone in (('iscsi', 'unacl', IQN, 'iqn.2026-01.example:i'), ('iscsi', 'unlun', IQN, '0'), ('iscsi', 'delete', IQN),
                     ('nbd', 'unexport', 'e'), ('nbd', 'unlisten', listener), ('token', 'remove', 'ci'),
                     ('volume', 'delete', 'p/v', '--yes'), ('pool', 'stop', 'p'), ('array', 'delete', 'a0', '--yes'),
                     ('device', 'remove', 'd0')):
            o.ctl(*gone, json_out=False)
        made = [('device d0', 'device', 'online', 'deleted'), ('pool p', 'pool', 'active', 'stopped'),
                ('volume p/v', 'volume', 'active', 'deleted'), ('listener ' + listener, 'listener', 'present', 'deleted'),
                ('export e', 'export', 'ready', 'deleted'), ('target ' + IQN, 'target', 'present', 'deleted'),
                ('LUN %s/0' % IQN, 'lun', 'ready', 'deleted'),
                ('ACL %s/iqn.2026-01.example:i' % IQN, 'acl', 'present', 'deleted'),
                ('array a0', 'array', 'degraded', 'deleted'), ('token ci', 'token', 'present', 'deleted')]
        seen = told(o, *[(thing, kind + '-' + end) for thing, kind, _, end in made])
        for thing, kind, state, end in made:
            first, last = seen[thing, kind + '-created'], seen[thing, kind + '-' + end]
            assert (first['old_state'], first['new_state']) == ('absent', state), first
            assert last['new_state'] == 'absent' and last['old_state'], last
        assert 'by uid:' in seen['volume p/v', 'volume-created']['message']
        assert seen['volume p/v', 'volume-changed']['message'].endswith(': size'), seen
        assert seen['export e', 'export-changed']['message'].endswith(': description'), seen
        kinds = [e['kind'] for e in o.http('GET', '/v1/events').json['items'] if e['object'] == 'export e']
        assert kinds == ['export-created', 'export-changed', 'export-deleted'], kinds


def test_states_that_follow_from_other_things_are_events_too():
    with Orion() as o:
        path = o.file('disk', 16 << 20)
        o.ctl('device', 'add', 'd0', '--path', path)
        o.ctl('nbd', 'export', 'e', '--device', 'd0')
        o.kill9()
        os.rename(path, path + '.away')
        o.start()
        assert o.ctl('nbd', 'show', 'e')['state'] == 'not-ready'
        os.rename(path + '.away', path)
        o.ctl('device', 'add', 'd0', '--path', path)
        seen = told(o, ('device d0', 'device-changed'), ('export e', 'state-changed'))
        for thing, kind, was, now in (('device d0', 'device-changed', 'absent', 'online'), ('export e', 'state-changed', 'not-ready', 'ready')):
            assert (seen[thing, kind]['old_state'], seen[thing, kind]['new_state']) == (was, now), seen[thing, kind]


def test_a_job_is_told_of_when_it_begins_and_ends():
    with Orion() as o:
        raid(o)
        job = 'job %d' % o.http('POST', '/v1/arrays/a0/actions/scrub', {}, {'If-Match': '*'}).json['id']
        seen = told(o, (job, 'job-ended'))
        first, last = seen[job, 'job-started'], seen[job, 'job-ended']
        assert (first['old_state'], first['new_state']) == ('absent', 'running'), first
        assert (last['old_state'], last['new_state']) == ('running', 'done'), last


def test_json_stays_for_who_asks_for_it():
    with Orion() as o:
        for accept in (None, '*/*', 'application/json'):
            r = o.http('GET', '/v1/events', headers={'Accept': accept} if accept else {})
            assert r.headers['Content-Type'] == 'application/json' and 'items' in r.json


def test_streams_have_heartbeats_a_cap_and_room_again_when_clients_go():
    with Orion() as o:
        o.fds_mark()
        streams = [Stream(o) for _ in range(32)]
        assert all(s.status == 200 for s in streams)
        assert streams[0].block().startswith('retry:')
        assert streams[0].block().startswith(':')
        more = Stream(o)
        assert more.status == 503, more.status
        more.close()
        assert o.http('GET', '/v1/system').status == 200
        for s in streams:
            s.close()
        o.fds_check(PATIENCE)
        s = Stream(o)
        assert s.status == 200
        s.close()
        o.fds_check(PATIENCE)


def test_a_reader_that_does_not_read_is_cut_off_and_stops_nobody():
    with Orion() as o:
        o.mem('d0', 'd1', size='2M')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        s = Stream(o)
        scrub(o)
        s.until(lambda d: d['kind'] == 'check-started', 'a first scrub')
        enough = 1024 + 500  # the ring, and what its socket takes
        while not o.http('GET', '/v1/events?after=%d' % enough).json['items']:
            scrub(o)
        read = 0
        try:
            while True:
                s.event()
                read += 1
        except (EOFError, ValueError, OSError):
            pass
        assert 0 < read < enough, read
        s.close()
        other = Stream(o, 'x')
        assert other.event()[1] == 'gap'
        other.close()


def test_a_stream_ends_with_the_token_that_opened_it():
    with Orion() as o:
        tokens = [o.ctl('token', 'add', name, '--role', 'viewer', '--days', '1')['token'] for name in ('gone', 'here')]
        gone, here = [Stream(o, token=t) for t in tokens]
        assert gone.status == here.status == 200
        o.ctl('token', 'remove', 'gone', json_out=False)
        try:
            gone.until(lambda d: d['kind'] == 'token-deleted', 'the end')
            raise RuntimeError('a stream outlives its token')
        except AssertionError as e:
            assert 'EOFError' in str(e) or 'ConnectionReset' in str(e) or 'ValueError' in str(e), e
        here.until(lambda d: d['object'] == 'token gone' and d['kind'] == 'token-deleted', 'the event for others')
        gone.close()
        here.close()


def test_stopping_ends_streams():
    with Orion() as o:
        s = Stream(o)
        o.stop()
        try:
            while True:
                s.block()
        except (EOFError, ValueError, OSError):
            pass
        s.close()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
