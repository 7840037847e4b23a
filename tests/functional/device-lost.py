# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that are cut off below the daemon while clients write: a mirror goes on without them, and
nothing that was acknowledged is lost, after a restart either."""
import os
import random
import time

from orion import Orion, need, run, sh

M = 1 << 20


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


run(test_a_file_cut_off_costs_the_mirror_that_member_only,
    test_a_file_cut_off_while_nobody_writes_is_noticed_at_the_end)
