# SPDX-License-Identifier: GPL-2.0-or-later
"""A sync goes on where it was after SIGKILL and after an orderly stop, under the number of its job."""
import os
import re

from orion import Orion, run, wait_for

SIZE = 24 << 20


def slow_member(o, i):
    path = os.path.join(o.dir, 'disk%d' % i)
    with open(path, 'wb') as f:
        f.write(b'old' * 1000)
        f.truncate(SIZE)
    o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', path)
    o.ctl('device', 'add', 'f%d' % i, '--type', 'fault', '--on', 'd%d' % i, '--rules',
          'write+write_zeroes:delay=150ms:offset=1M-%d' % (SIZE - 1))


def began(o):
    """Where each sync of this daemon began."""
    said = [e['message'] for e in o.http('GET', '/v1/events').json['items']
            if e['kind'] == 'resync-started']
    return [int(re.match(r'at byte (\d+)', m).group(1)) for m in said]


def test_a_resync_goes_on_where_it_was():
    with Orion() as o:
        for i in range(2):
            slow_member(o, i)
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'f0,f1')
        assert began(o) == [0]
        saved = 0
        for kill in (True, False):
            a = wait_for(lambda: [a for a in [o.ctl('array', 'show', 'a')]
                                  if a['sync_saved'] > saved][0:1], what='a checkpoint')[0]
            saved, job = a['sync_saved'], a['sync_job'] or job
            o.restart(kill=kill)
            assert began(o)[0] >= saved, (began(o), saved)
            j = o.ctl('job', 'show', str(job))
            assert (j['kind'], j['object']) == ('resync', 'a') and j['state'] != 'failed', j
            assert j['done'] >= saved, j


run(test_a_resync_goes_on_where_it_was)
