# SPDX-License-Identifier: GPL-2.0-or-later
"""How an array syncs and what it forgives its members: set, shown, kept, planned, in effect."""
import json
import os

from orion import Orion, run, wait_for

FIELDS = ('sync_latency', 'sync_rate_min', 'sync_rate_max', 'member_timeout', 'read_errors_max',
          'member_options')


def policy(o):
    a = o.ctl('array', 'show', 'a')
    return {f: a[f] for f in FIELDS}


def test_a_policy_is_set_kept_and_planned():
    with Orion() as o:
        for i in range(2):
            o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', o.file('disk%d' % i, 8 << 20))
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1', '--sync-rate-min', '1M')
        want = dict(zip(FIELDS, (20, 1 << 20, 0, 0, 20, [])))
        assert policy(o) == want, policy(o)
        o.ctl('array', 'set', 'a', '--member-timeout', '5000', '--read-errors-max', '7',
              '--member-options', 'd1:timeout=900,d1:read_errors_max=3')
        want.update(member_timeout=5000, read_errors_max=7,
                    member_options=['d1:timeout=900', 'd1:read_errors_max=3'])
        assert policy(o) == want, policy(o)
        said = o.ctl('array', 'set', 'a', '--member-options', 'd1:speed=9', expect=1)
        assert 'DEVICE:timeout=MS' in said, said
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1',
              '--read-errors-max', '8', expect=5)
        r = o.change('PATCH', '/v1/arrays/a', {'sync_latency': 50, 'member_options': None})
        assert r.status == 200, r.body
        want.update(sync_latency=50, member_options=[])
        for kill in (True, False):
            o.restart(kill=kill)
            assert policy(o) == want, policy(o)
        doc = o.ctl('config', 'show')
        assert doc['arrays']['a']['sync_latency'] == 50, doc
        doc['arrays']['a']['sync_latency'] = 60
        path = os.path.join(o.dir, 'doc')
        with open(path, 'w') as f:
            json.dump(doc, f)
        o.ctl('config', 'apply', path, '--yes')
        wait_for(lambda: policy(o)['sync_latency'] == 60, what='the new latency')


def test_a_member_that_hangs_is_given_up():
    with Orion() as o:
        for i in range(2):
            o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', o.file('disk%d' % i, 8 << 20))
        o.ctl('device', 'add', 'f', '--type', 'fault', '--on', 'd1', '--rules',
              'write:delay=2s:count=1:offset=1M-8M')
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,f', '--member-timeout', '200')
        o.ctl('pool', 'create', 'p', '--devices', 'a')  # writes to it
        wait_for(lambda: o.ctl('array', 'show', 'a')['missing'] == 1, what='the member to go')
        said = [e['message'] for e in o.http('GET', '/v1/events').json['items']
                if e['kind'] == 'member-failed']
        assert said and 'did not answer in time' in said[0], said


run(test_a_policy_is_set_kept_and_planned, test_a_member_that_hangs_is_given_up)
