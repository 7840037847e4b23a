# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL at every step of every verb: afterwards the daemon stands before the verb or behind it."""
import os
import shutil

from orion import Orion, run

IQN = 'iqn.2026-01.org.example:k'


def build(o):
    for i in range(6):
        o.ctl('device', 'add', 'd%d' % i, '--path', o.file('f%d' % i, 64 << 20))
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
    o.ctl('volume', 'create', 'p0/v1', '--size', '8M')
    o.ctl('nbd', 'export', 'e0', '--device', 'p0/v0')
    o.ctl('iscsi', 'create', IQN)
    o.ctl('iscsi', 'lun', IQN, '0', '--device', 'p0/v0')
    o.ctl('pool', 'create', 'p1', '--devices', 'd5')


VERBS = [
    ('device', 'remove', 'd4'),
    ('device', 'add', 'm0', '--type', 'mem', '--size', '1M'),
    ('array', 'create', 'a1', '--level', 'raid1', '--members', 'd2,d3'),
    ('array', 'fail', 'a0', 'd1'),
    ('pool', 'create', 'p2', '--devices', 'd4'),
    ('pool', 'delete', 'p1', '--yes'),
    ('pool', 'stop', 'p1'),
    ('volume', 'create', 'p0/v2', '--size', '8M'),
    ('volume', 'resize', 'p0/v1', '--size', '12M'),
    ('volume', 'delete', 'p0/v1', '--yes'),
    ('nbd', 'export', 'e1', '--device', 'p0/v1'),
    ('nbd', 'unexport', 'e0'),
    ('iscsi', 'create', IQN + '2'),
    ('iscsi', 'lun', IQN, '1', '--device', 'p0/v1'),
    ('iscsi', 'unlun', IQN, '0'),
    ('iscsi', 'delete', IQN),
    ('token', 'add', 'ci', '--role', 'viewer'),
]


def seen(o):
    config = o.http('GET', '/v1/config').json
    states = [o.http('GET', p).json['items'] for p in ('/v1/tokens',)]
    return config, [i['name'] for items in states for i in items]


def copy_of(o, folder):
    """The state and the disks as they are, with the holes kept."""
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    os.system('cp -a --sparse=always %s/state %s/f? %s/' % (o.dir, o.dir, folder))


def put_back(o, folder):
    shutil.rmtree(o.state)
    os.system('cp -a --sparse=always %s/state %s/' % (folder, o.dir))
    for name in os.listdir(folder):
        if name.startswith('f'):  # the same inode: it is the identity of the device
            os.system('cp --sparse=always --no-preserve=all %s/%s %s/%s' % (folder, name, o.dir, name))


def test_a_daemon_that_dies_at_a_step_comes_back_before_or_behind_the_verb():
    with Orion() as o:
        build(o)
        before = seen(o)
        o.stop()
        folder = os.path.join(o.dir, 'kept')
        copy_of(o, folder)
        killed = 0
        for verb in VERBS:
            ends = []
            for step in range(1, 40):
                put_back(o, folder)
                o.env['ORION_TEST_KILL_AT'] = str(step)
                o.start()
                p = o.run(*verb)
                o.env.pop('ORION_TEST_KILL_AT')
                if p.returncode == 0:
                    after = seen(o)
                    o.kill9()
                    break
                o.proc.wait(20)
                assert o.proc.returncode == -9, (verb, step, o.proc.returncode, p.stderr)
                killed += 1
                o.proc = None
                o.start()
                ends.append((step, seen(o)))
                problems = o.ctl('status')['problems']
                assert not [x for x in problems if 'a0' not in x], (verb, step, problems)
                o.kill9()
            else:
                raise AssertionError('%s never ended' % (verb,))
            for step, state in ends:
                assert state in (before, after), (verb, step, state, before, after)
            assert ends, verb
        print('%d verbs, killed at %d steps' % (len(VERBS), killed))
        put_back(o, folder)
        o.start()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
