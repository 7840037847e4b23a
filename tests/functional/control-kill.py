# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL in the middle of a verb: after a restart it has happened whole or not at all."""
import http.client
import os
import random
import threading
import time

from orion import FULL, Orion, need, run, sh, wait_for

SEED = int(os.environ.get('ORION_SEED', '20261122'))
ROUNDS = 40 if FULL else 8


def verbs(o):
    """(request, its undoing, the list and name that tell whether it happened)"""
    return [
        (('PUT', '/v1/arrays/a9', {'level': 'raid1', 'members': ['f0', 'f1']}),
         ('DELETE', '/v1/arrays/a9?yes=true'), ('/v1/arrays', 'a9')),
        (('PUT', '/v1/pools/p9', {'devices': ['f2', 'f3']}), ('DELETE', '/v1/pools/p9?yes=true'),
         ('/v1/pools', 'p9')),
        (('PUT', '/v1/pools/p0/volumes/v9', {'size': '8M'}),
         ('DELETE', '/v1/pools/p0/volumes/v9?yes=true'), ('/v1/volumes', 'p0/v9')),
        (('PUT', '/v1/devices/f9', {'path': o.dir + '/f9', 'size': '16M'}), ('DELETE', '/v1/devices/f9'),
         ('/v1/devices', 'f9')),
        (('PUT', '/v1/nbd/exports/e9', {'device': 'p0/v0'}), ('DELETE', '/v1/nbd/exports/e9'),
         ('/v1/nbd/exports', 'e9')),
        (('PUT', '/v1/iscsi/targets/iqn.2026-01.com.example:t/luns/9', {'device': 'p0/v0'}),
         ('DELETE', '/v1/iscsi/targets/iqn.2026-01.com.example:t/luns/9'),
         ('/v1/iscsi/targets/iqn.2026-01.com.example:t/luns', 9)),
    ]


def names(o, path):
    return [i.get('name', i.get('lun')) for i in o.http('GET', path).json['items']]


def send_and_kill(o, request, delay, change):
    """Sends the request and kills the daemon `delay` later; the answer's status, or None."""
    answer = []

    def send():
        try:
            answer.append((o.change if change else o.http)(*request).status)
        except (OSError, http.client.HTTPException):
            pass

    t = threading.Thread(target=send)
    t.start()
    time.sleep(delay)
    o.kill9()
    t.join()
    return answer[0] if answer else None


def check_whole(o, before, path, name, answered, wanted):
    """Nothing half-done: no intent is open, the object is whole or absent, all else as it was."""
    system = o.http('GET', '/v1/system').json
    assert system['problems'] == [], (path, name, system, o.log()[-3000:])
    here = name in names(o, path)
    if answered in (200, 201, 204):
        assert here == wanted, (path, name, answered, o.log()[-3000:])
    config = o.http('GET', '/v1/config').json
    assert config['pools']['p0']['devices'] == before['pools']['p0']['devices']
    assert config['nbd']['exports']['e0'] == before['nbd']['exports']['e0']
    for line in open(max((os.path.join(o.state, f) for f in os.listdir(o.state) if f.startswith('journal.')),
                         key=os.path.getmtime)):
        pass
    assert '"intent' not in line or '"del"' in line, line
    return here


def test_every_verb_happens_whole_or_not_at_all():
    rng = random.Random(SEED)
    print('seed', SEED, flush=True)
    with Orion() as o:
        for n in ('f0', 'f1', 'f2', 'f3', 'g0'):
            o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '32M')
        o.ctl('pool', 'create', 'p0', '--devices', 'g0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
        o.ctl('iscsi', 'create', 'iqn.2026-01.com.example:t')
        o.nbd('e0', 'p0/v0')
        before = o.http('GET', '/v1/config').json
        outcomes = set()
        for _ in range(ROUNDS):
            for do, undo, (path, name) in verbs(o):
                delay = rng.choice((0.001, 0.002, 0.003, 0.005, 0.008)) * rng.uniform(0.5, 2)
                answered = send_and_kill(o, do, delay, False)
                o.start()
                if check_whole(o, before, path, name, answered, True):
                    outcomes.add('done')
                    answered = send_and_kill(o, undo, delay * 1.5, True)
                    o.start()
                    if check_whole(o, before, path, name, answered, False):
                        outcomes.add('kept')
                        r = o.change(*undo)
                        assert r.status == 204, (undo, r.body)
                else:
                    outcomes.add('not done')
                # What is free again can be used without force: nothing was left behind.
                r = o.http(*do)
                assert r.status in (200, 201), (do, r.body, o.log()[-3000:])
                r = o.change(*undo)
                assert r.status == 204, (undo, r.body)
        assert outcomes >= {'done', 'not done'}, outcomes


def member_states(o):
    a = o.http('GET', '/v1/arrays/a0').json
    return a['state'], [(m['device'], m['state']) for m in a['members']]


def heal(o):
    """Brings the array back to two members, whatever stands; its data is what it was."""
    for m in o.http('GET', '/v1/arrays/a0').json['members']:
        if m['state'] == 'faulty':
            r = o.change('POST', '/v1/arrays/a0/actions/remove', {'member': m['device']})
            assert r.status == 200, r.body
    have = [m['device'] for m in o.http('GET', '/v1/arrays/a0').json['members'] if m['device']]
    for n in ('f0', 'f1'):
        if n not in have:
            r = o.change('POST', '/v1/arrays/a0/actions/add', {'device': n, 'force': True})
            assert r.status == 200, r.body

    def whole():
        return o.http('GET', '/v1/arrays/a0').json['missing'] == 0 and \
            o.http('GET', '/v1/arrays/a0').json['sync_action'] == 'idle'
    wait_for(whole, 60, 'the rebuild')


def restart(o, answered, what):
    o.start()
    problems = [p for p in o.http('GET', '/v1/system').json['problems'] if 'degraded' not in p]
    assert not problems, (what, answered, problems, o.log()[-3000:])


def test_verbs_on_what_runs_leave_it_running_or_done():
    need('nbdcopy')
    rng = random.Random(SEED + 1)
    with Orion() as o:
        for n in ('f0', 'f1'):
            o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '24M')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'f0,f1')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '4M')
        data = rng.randbytes(4 << 20)
        with open(o.dir + '/data', 'wb') as f:
            f.write(data)
        uri = o.nbd('e0', 'p0/v0')
        sh('nbdcopy', '--flush', o.dir + '/data', uri)
        size = 4 << 20
        for _ in range(ROUNDS):
            for what in ('resize', 'fail', 'stop'):
                delay = rng.choice((0.001, 0.002, 0.004, 0.008)) * rng.uniform(0.5, 2)
                if what == 'resize':
                    size += 4 << 20 if size < 16 << 20 else 0
                    answered = send_and_kill(
                        o, ('POST', '/v1/pools/p0/volumes/v0/actions/resize', {'size': size}), delay, True)
                    restart(o, answered, what)
                    now = o.http('GET', '/v1/pools/p0/volumes/v0').json['size']
                    assert now == size or (answered != 200 and now == size - (4 << 20)), (now, size)
                    size = now
                elif what == 'fail':
                    answered = send_and_kill(
                        o, ('POST', '/v1/arrays/a0/actions/fail', {'member': rng.choice(('f0', 'f1'))}),
                        delay, True)
                    restart(o, answered, what)
                    assert (answered != 200) or member_states(o)[0] == 'degraded', member_states(o)
                    heal(o)
                else:
                    o.change('DELETE', '/v1/nbd/exports/e0?disconnect=true')
                    answered = send_and_kill(o, ('POST', '/v1/pools/p0/actions/stop', {}), delay, True)
                    restart(o, answered, what)
                    if not names(o, '/v1/pools'):
                        assert o.http('POST', '/v1/pools/actions/import', {'pool': 'p0'}).status == 200
                    r = o.http('PUT', '/v1/nbd/exports/e0', {'device': 'p0/v0'})
                    assert r.status == 201, r.body
                sh('nbdcopy', uri, o.dir + '/back')
                with open(o.dir + '/back', 'rb') as f:
                    assert f.read(4 << 20) == data, what


run(test_every_verb_happens_whole_or_not_at_all, test_verbs_on_what_runs_leave_it_running_or_done)
