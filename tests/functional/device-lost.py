# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that are cut off below the daemon while clients write: a mirror goes on without them, and
nothing that was acknowledged is lost, after a restart either."""
import os
import random
import time

from nbdwire import READ, Raw
from orion import Orion, need, run, sh, wait_for

M = 1 << 20
IQN = 'iqn.2026-11.test:lost'


def mirror(o):
    for n in ('f0', 'f1'):
        o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '64M')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'f0,f1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '16M')
    return o.nbd('v', 'p0/v0')


def test_a_file_cut_off_costs_the_mirror_that_member_only():
    need('nbdcopy')
    with Orion() as o:
        uri = mirror(o)
        data = random.Random(1).randbytes(16 * M)
        with open(o.dir + '/data', 'wb') as f:
            f.write(data)
        sh('nbdcopy', '--flush', o.dir + '/data', uri)
        os.truncate(o.dir + '/f1', 0)
        data = data[8 * M:] + data[:8 * M]
        with open(o.dir + '/data', 'wb') as f:
            f.write(data)
        sh('nbdcopy', '--flush', o.dir + '/data', uri)
        a = o.ctl('array', 'show', 'a0')
        assert a['state'] == 'degraded' and a['members'][0]['state'] == 'in-sync', a
        assert 'become shorter' in o.log() and 'member-failed' in o.log()
        # Long again, with zeroes where data was: it must not be taken for what it was.
        os.truncate(o.dir + '/f1', 64 * M)
        o.restart()
        assert o.ctl('array', 'show', 'a0')['state'] == 'degraded'
        sh('nbdcopy', uri, o.dir + '/back')
        with open(o.dir + '/back', 'rb') as f:
            assert f.read(16 * M) == data


def test_a_file_cut_off_while_nobody_writes_is_noticed_at_the_end():
    with Orion() as o:
        mirror(o)
        time.sleep(0.5)  # marked clean
        os.truncate(o.dir + '/f1', 0)
        o.stop()
        assert 'become shorter' in o.log(), o.log()
        o.start()
        assert o.ctl('array', 'show', 'a0')['state'] == 'degraded'


def test_what_is_served_from_a_failed_device_says_so():
    with Orion() as o:
        for n in range(3):
            o.ctl('device', 'add', 'f%d' % n, '--path', '%s/f%d' % (o.dir, n), '--size', '64M')
        o.ctl('array', 'create', 'a0', '--level', 'raid0', '--members', 'f0,f1')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '16M')
        path = o.nbd('v', 'p0/v0').split('socket=')[1]
        o.ctl('nbd', 'export', 'w', '--device', 'f2')
        o.ctl('iscsi', 'create', IQN)
        luns = {'v': 0, 'w': 1}
        for name, device in (('v', 'p0/v0'), ('w', 'f2')):
            o.ctl('iscsi', 'lun', IQN, luns[name], '--device', device)

        def says(name, state, why):
            x, = [x for x in o.ctl('nbd', 'list')['items'] if x['name'] == name]
            assert x == o.ctl('nbd', 'show', name) and x['state'] == state and why in x['reason'], x
            problems = [p for p in o.ctl('status')['problems'] if 'export ' + name in p]
            assert not problems if state == 'ready' else why in problems[0], problems
            lun = o.ctl('iscsi', 'list')['items'][0]['luns'][luns[name]]
            assert lun['state'] == state and why in lun['reason'], lun
            problems = [p for p in o.ctl('status')['problems'] if 'LUN %d' % luns[name] in p]
            assert not problems if state == 'ready' else why in problems[0] and IQN in problems[0], problems
            ready = 'orion_nbd_export_ready{export="%s"} %d' % (name, state == 'ready')
            assert ready in o.http('GET', '/metrics').body.decode()
        for name in 'vw':
            says(name, 'ready', '')
        for name, file, state, why in (('w', 'f2', 'failed', 'become shorter'), ('v', 'f1', 'failed', 'device f1')):
            os.truncate('%s/%s' % (o.dir, file), 0)
            c = Raw(path, name, 'structured')
            for offset in range(0, 16 * M, M): # both members are met
                c.ask(READ, offset, M)
            c.s.close()
            wait_for(lambda: o.ctl('nbd', 'show', name)['state'] != 'ready', what='the news')
            says(name, state, why)


run(test_a_file_cut_off_costs_the_mirror_that_member_only,
    test_a_file_cut_off_while_nobody_writes_is_noticed_at_the_end,
    test_what_is_served_from_a_failed_device_says_so)
