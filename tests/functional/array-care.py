# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps arrays well: bitmap, spares, re-add, scrub, repair."""
import os
import time

from orion import Orion, run, wait_for

CHUNK = 65536
DATA = 1 << 20


def array(o, name='a'):
    return o.ctl('array', 'show', name)


def idle(o, name='a'):
    for _ in range(1200):
        a = array(o, name)
        if a['sync_action'] == 'idle' and not a['sync_job']:
            return a
        time.sleep(0.05)
    raise AssertionError('the sync of %s did not end' % name)


def files(o, n):
    names = []
    for i in range(n):
        path = os.path.join(o.dir, 'disk%d' % i)
        with open(path, 'wb') as f:
            f.truncate(16 << 20)
        o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', path)
        names.append(path)
    return names


def rot(path, offset):
    with open(path, 'r+b') as f:
        f.seek(DATA + offset)
        f.write(b'rot' * 100)


def test_an_array_with_bitmap_and_spare_heals_itself():
    with Orion() as o:
        files(o, 3)
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1', '--spares', 'd2',
              '--bitmap', 'internal', '--bitmap-chunk', '64K')
        assert array(o)['bitmap_chunk'] == CHUNK, array(o)
        assert [m['state'] for m in array(o)['members']] == ['in-sync', 'in-sync', 'spare']
        o.ctl('array', 'fail', 'a', 'd0')
        a = idle(o)
        assert a['missing'] == 0, a
        assert sorted(m['device'] for m in a['members'] if m['state'] == 'in-sync') == ['d1', 'd2']


def test_a_member_comes_back_by_the_bitmap_and_not_without():
    with Orion() as o:
        files(o, 2)
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1', '--bitmap', 'internal')
        o.ctl('array', 'remove', 'a', 'd1')
        o.ctl('array', 're-add', 'a', 'd1')
        assert idle(o)['missing'] == 0
        o.ctl('array', 'delete', 'a', '--yes')
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1', '--bitmap', 'none')
        o.ctl('array', 'remove', 'a', 'd1')
        said = o.run('array', 're-add', 'a', 'd1')
        assert said.returncode != 0 and 'bitmap' in said.stderr, said


def slow_array(o):
    """A scrub of it takes a quarter of a minute."""
    paths = files(o, 3)
    o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1,d2', '--sync-rate-max', '1M',
          '--sync-rate-min', '1M')
    rot(paths[1], 8192)
    idle(o)


def ended(o, number):
    def look():
        job = o.ctl('job', 'show', number)
        return job if job['ended'] else None
    return wait_for(look, 60, 'the end of job %s' % number)


def test_long_verbs_answer_202_with_their_job():
    with Orion() as o:
        slow_array(o)
        r = o.change('POST', '/v1/arrays/a/actions/scrub', {})
        assert r.status == 202 and r.headers['Location'] == '/v1/jobs/%d' % r.json['id'], r.body
        assert r.json['kind'] == 'check' and r.json['object'] == 'a', r.json
        o.ctl('array', 'set', 'a', '--sync-rate-max', '0')
        job = ended(o, r.json['id'])
        assert job['state'] == 'done' and job['result']['mismatch'] == 4096, job
        said = o.ctl('array', 'repair', 'a', '--no-wait', json_out=False)
        assert ended(o, said.split()[1])['kind'] == 'repair', said
        o.ctl('array', 'scrub', 'a', '--wait')
        a = array(o)
        assert a['sync_action'] == 'idle' and a['mismatch'] == 0, a
        o.ctl('device', 'add', 'd3', '--type', 'mem', '--size', '16M')
        o.ctl('array', 'set', 'a', '--sync-rate-max', '1M')
        given_up = o.ctl('array', 'scrub', 'a')['id']
        r = o.change('POST', '/v1/arrays/a/actions/replace', {'member': 'd0', 'with': 'd3'})
        assert r.status == 202 and r.json['kind'] == 'rebuild', r.body
        assert ended(o, given_up)['state'] == 'cancelled'
        o.ctl('array', 'set', 'a', '--sync-rate-max', '0')
        assert ended(o, r.json['id'])['state'] == 'done'
        assert 'd3' in [m['device'] for m in idle(o)['members']]
        o.ctl('array', 'remove', 'a', 'd3')
        said = o.run('array', 'add', 'a', 'd0', '--wait')
        assert said.returncode == 0 and array(o)['missing'] == 0, (said, array(o))


def test_a_scrub_goes_on_after_a_restart():
    with Orion() as o:
        slow_array(o)
        number = o.ctl('array', 'scrub', 'a')['id']
        wait_for(lambda: o.ctl('job', 'show', number)['done'] > 1 << 20, 60, 'some of the scrub')
        was = o.ctl('job', 'show', number)
        o.restart()
        now = o.ctl('job', 'show', number)
        assert now['started'] == was['started'], (was, now)
        o.ctl('array', 'set', 'a', '--sync-rate-max', '0')
        job = ended(o, number)
        assert job['state'] == 'done' and job['result']['mismatch'] == 4096, job
        moves = [e['message'] for e in o.ctl('events')['items'] if e['kind'] == 'check-started']
        assert moves and 'at byte 0 ' not in moves[0], moves


def test_scrub_names_the_wrong_of_three_and_repair_mends_it():
    with Orion() as o:
        paths = files(o, 3)
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,d1,d2')
        idle(o)
        rot(paths[1], 8192)
        o.ctl('array', 'scrub', 'a')
        a = idle(o)
        assert a['mismatch'] == 4096, a
        assert [m['wrong'] for m in a['members']] == [0, 1, 0], a
        o.ctl('array', 'repair', 'a')
        idle(o)
        o.ctl('array', 'scrub', 'a')
        assert idle(o)['mismatch'] == 0


def test_raid10_and_arrays_of_arrays_outlive_the_daemon():
    with Orion() as o:
        files(o, 6)
        for name, members in (('l0', 'd0,d1,d2'), ('l1', 'd3,d4,d5')):
            o.ctl('array', 'create', name, '--level', 'raid10', '--members', members)
        o.ctl('array', 'create', 'top', '--level', 'raid0', '--members', 'l0,l1')
        size = array(o, 'top')['size']
        for kill in (False, True):
            o.restart(kill=kill)
            for name in ('l0', 'l1'):
                assert idle(o, name)['missing'] == 0
            top = array(o, 'top')
            assert top['state'] == 'clean' and top['size'] == size, top


def test_a_spare_steps_in_for_who_is_missing_at_start():
    with Orion() as o:
        files(o, 2)
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'd0,missing', '--spares', 'd1')
        assert idle(o)['missing'] == 0


run(test_raid10_and_arrays_of_arrays_outlive_the_daemon,
    test_a_spare_steps_in_for_who_is_missing_at_start,
    test_an_array_with_bitmap_and_spare_heals_itself,
    test_a_member_comes_back_by_the_bitmap_and_not_without,
    test_long_verbs_answer_202_with_their_job, test_a_scrub_goes_on_after_a_restart,
    test_scrub_names_the_wrong_of_three_and_repair_mends_it)
