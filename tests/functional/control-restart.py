# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""A restart brings everything back; what cannot start says why and stops nobody."""
import glob
import json
import os
import re

from orion import FULL, Orion, need, run, sh, wait_for

IQN = 'iqn.2026-01.com.example:t0'


def build(o):
    for n in ('f0', 'f1', 'f2', 'f3'):
        o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '64M')
    o.ctl('device', 'add', 'n0', '--type', 'null', '--size', '16M')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'f0,f1')
    o.ctl('array', 'create', 'a1', '--level', 'raid0', '--members', 'f2,f3', '--chunk', '64K')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0,a1')
    o.ctl('volume', 'create', 'p0/v0', '--size', '40M')
    o.ctl('volume', 'create', 'p0/v1', '--size', '8M')
    uri = o.nbd('e0', 'p0/v0', '--default')
    o.iscsi(IQN, 'p0/v1', 'n0')
    o.ctl('iscsi', 'acl', IQN, 'iqn.2026-01.com.example:i')
    return uri


def shown(o):
    """All that must be the same after a restart."""
    out = [o.http('GET', '/v1/config').body]
    for path, keys in (('devices', ('name', 'uuid', 'size', 'identity')), ('arrays', ('name', 'uuid', 'size')),
                       ('pools', ('name', 'uuid', 'size', 'free')), ('volumes', ('name', 'uuid', 'size')),
                       ('iscsi/targets', ('iqn', 'luns', 'acls'))):
        for item in o.http('GET', '/v1/' + path).json['items']:
            out.append([item[k] for k in keys])
    return out


def test_everything_is_there_again():
    need('nbdcopy')
    with Orion() as o:
        uri = build(o)
        data = os.urandom(40 << 20)
        with open(o.dir + '/data', 'wb') as f:
            f.write(data)
        sh('nbdcopy', o.dir + '/data', uri)
        before = shown(o)
        for kill in (False, True, False):
            o.restart(kill=kill)
            assert shown(o) == before
            assert o.http('GET', '/v1/system').json['problems'] == []
            sh('nbdcopy', uri, o.dir + '/back')
            with open(o.dir + '/back', 'rb') as f:
                assert f.read() == data


def test_a_clean_stop_leaves_arrays_clean():
    need('mdadm')
    with Orion() as o:
        build(o)
        o.stop()
        text = sh('mdadm', '--examine', o.dir + '/f0')
        assert 'State : clean' in text, text
        o.start()


def test_an_absent_file_does_not_stop_the_others():
    with Orion() as o:
        build(o)
        o.stop()
        os.rename(o.dir + '/f2', o.dir + '/away')
        o.start()
        f2 = o.ctl('device', 'show', 'f2')
        assert f2['state'] == 'absent' and 'f2' in f2['reason'], f2
        assert not os.path.exists(o.dir + '/f2')
        a1 = o.ctl('array', 'show', 'a1')
        assert a1['state'] == 'inactive' and a1['reason'], a1
        assert o.ctl('array', 'show', 'a0')['state'] == 'clean'
        lun = o.http('GET', '/v1/iscsi/targets/%s/luns/1' % IQN).json
        assert lun['state'] == 'ready' and lun['device'] == 'n0'
        problems = ' '.join(o.http('GET', '/v1/system').json['problems'])
        assert 'device f2' in problems and 'array a1' in problems, problems
        kinds = [(e['object'], e['kind']) for e in o.http('GET', '/v1/events').json['items']]
        assert ('device f2', 'not-started') in kinds, kinds
        o.stop()
        os.rename(o.dir + '/away', o.dir + '/f2')
        o.start()
        assert o.http('GET', '/v1/system').json['problems'] == []


def test_a_mirror_with_one_leg_missing_starts_degraded():
    with Orion() as o:
        build(o)
        o.stop()
        os.rename(o.dir + '/f1', o.dir + '/away')
        o.start()
        a0 = o.ctl('array', 'show', 'a0')
        assert a0['state'] == 'degraded' and a0['missing'] == 1, a0
        assert o.ctl('nbd', 'show', 'e0')['state'] == 'ready'


def settings(o, wait):
    with open(o.config, 'w') as f:
        json.dump({'array_wait': wait}, f)


def mirror(o):
    """A volume on a mirror of two files, served."""
    for n in '12':
        o.ctl('device', 'add', 'f' + n, '--path', o.dir + '/f' + n, '--size', '16M')
    o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'f1,f2')
    o.ctl('pool', 'create', 'p', '--devices', 'a')
    o.ctl('volume', 'create', 'p/v', '--size', '4M')
    o.nbd('e', 'p/v')


def test_half_a_mirror_waits_and_takes_who_comes():
    with Orion() as o:
        mirror(o)
        for n in '34':
            o.ctl('device', 'add', 'f' + n, '--path', o.dir + '/f' + n, '--size', '16M')
        o.ctl('array', 'create', 'other', '--level', 'raid1', '--members', 'f3,f4')
        o.stop()
        settings(o, 600)
        os.rename(o.dir + '/f1', o.dir + '/away')
        o.start()
        a = o.ctl('array', 'show', 'a')
        assert a['state'] == 'inactive' and re.match(r'waits until \S+Z for its member f1$', a['reason']), a
        assert o.ctl('array', 'show', 'other')['state'] == 'clean'
        assert o.ctl('nbd', 'show', 'e')['state'] == 'not-ready'
        assert a['reason'] in ' '.join(o.http('GET', '/v1/system').json['problems'])
        seen = [(e['object'], e['kind']) for e in o.http('GET', '/v1/events').json['items']]
        assert ('array a', 'array-waiting') in seen and ('array a', 'not-started') not in seen, seen
        o.restart()  # a stop waits for nobody
        os.rename(o.dir + '/away', o.dir + '/f1')
        wait_for(lambda: o.ctl('nbd', 'show', 'e')['state'] == 'ready', what='the export')
        a = o.ctl('array', 'show', 'a')
        assert a['missing'] == 0 and a['reason'] == '' and a['sync_action'] == 'idle', a
        assert o.http('GET', '/v1/system').json['problems'] == []


def test_half_a_mirror_starts_degraded_when_nobody_comes():
    with Orion() as o:
        mirror(o)
        o.stop()
        os.rename(o.dir + '/f1', o.dir + '/away')
        settings(o, 1)
        o.start()
        wait_for(lambda: o.ctl('nbd', 'show', 'e')['state'] == 'ready', what='the export')
        a = o.ctl('array', 'show', 'a')
        assert a['state'] == 'degraded' and a['missing'] == 1, a
        o.ctl('volume', 'create', 'p/w', '--size', '4M')  # writes without f1
        settings(o, 600)
        o.restart()  # it is known by now that f1 is lost
        a = o.ctl('array', 'show', 'a')
        assert a['state'] == 'degraded' and a['missing'] == 1, a
        os.rename(o.dir + '/away', o.dir + '/f1')
        o.restart()
        a = o.ctl('array', 'show', 'a')
        assert a['missing'] == 1, a  # it is stale, and not taken for a member in sync


def test_who_asks_for_a_waiting_array_gets_it_at_once():
    with Orion() as o:
        mirror(o)
        o.stop()
        os.rename(o.dir + '/f1', o.dir + '/away')
        settings(o, 600)
        o.start()
        o.ctl('array', 'assemble', 'a')
        assert o.ctl('array', 'show', 'a')['missing'] == 1
        wait_for(lambda: o.ctl('nbd', 'show', 'e')['state'] == 'ready', what='the export')


def test_another_file_under_the_path_is_refused():
    with Orion() as o:
        o.ctl('device', 'add', 'f', '--path', o.dir + '/f', '--size', '16M')
        o.stop()
        os.rename(o.dir + '/f', o.dir + '/old')
        o.file('f', 16 << 20)
        o.start()
        f = o.ctl('device', 'show', 'f')
        assert f['state'] == 'absent' and 'another' in f['reason'], f


def test_what_was_stopped_or_deleted_stays_away():
    with Orion() as o:
        build(o)
        o.ctl('nbd', 'unexport', 'e0')
        o.ctl('iscsi', 'delete', IQN)
        o.ctl('volume', 'delete', 'p0/v0', '--yes')
        o.ctl('pool', 'stop', 'p0')
        o.ctl('array', 'stop', 'a1')
        before = shown(o)
        o.restart()
        assert shown(o) == before
        assert [a['name'] for a in o.ctl('array', 'list')['items']] == ['a0']
        assert o.ctl('pool', 'list')['items'] == []
        o.ctl('array', 'assemble', 'a1')
        o.ctl('pool', 'import', 'p0')
        assert [v['name'] for v in o.ctl('volume', 'list')['items']] == ['p0/v1']
        o.restart()
        assert o.http('GET', '/v1/system').json['problems'] == []


def test_a_stack_on_volumes_comes_back():
    with Orion() as o:
        for n in ('0', '1'):
            o.ctl('device', 'add', 'f' + n, '--path', o.dir + '/f' + n, '--size', '64M')
            o.ctl('pool', 'create', 'low' + n, '--devices', 'f' + n)
            o.ctl('volume', 'create', 'low%s/v' % n, '--size', '48M')
        o.ctl('array', 'create', 'a', '--level', 'raid1', '--members', 'low0/v,low1/v')
        o.ctl('pool', 'create', 'high', '--devices', 'a')
        o.ctl('volume', 'create', 'high/v', '--size', '16M')
        o.nbd('e', 'high/v')
        before = shown(o)
        for kill in (False, True):
            o.restart(kill=kill)
            assert o.http('GET', '/v1/system').json['problems'] == []
            assert shown(o) == before
            assert o.ctl('nbd', 'show', 'e')['state'] == 'ready'


def test_an_absent_device_can_be_added_again():
    with Orion() as o:
        o.ctl('device', 'add', 'f', '--path', o.dir + '/f', '--size', '16M')
        o.ctl('nbd', 'export', 'e', '--device', 'f')
        o.stop()
        os.rename(o.dir + '/f', o.dir + '/away')
        o.start()
        assert o.ctl('nbd', 'show', 'e')['state'] == 'not-ready'
        os.rename(o.dir + '/away', o.dir + '/f')
        assert o.ctl('device', 'add', 'f', '--path', o.dir + '/f')['changed'] is True
        assert o.ctl('device', 'show', 'f')['state'] == 'online'
        wait_for(lambda: o.ctl('nbd', 'show', 'e')['state'] == 'ready')
        assert o.http('GET', '/v1/system').json['problems'] == []


def test_a_lun_keeps_its_identity_and_size_while_its_device_is_absent():
    with Orion() as o:
        o.ctl('device', 'add', 'f', '--path', o.dir + '/f', '--size', '64M')
        o.ctl('pool', 'create', 'p', '--devices', 'f')
        o.ctl('volume', 'create', 'p/v', '--size', '8M')
        o.iscsi(IQN, 'p/v')
        o.ctl('volume', 'resize', 'p/v', '--size', '12M')
        path = '/v1/iscsi/targets/%s/luns/0' % IQN
        before = o.http('GET', path).json
        o.stop()
        os.rename(o.dir + '/f', o.dir + '/away')
        o.start()
        after = o.http('GET', path).json
        assert after['state'] == 'not-ready' and after['reason'], after
        for key in ('size', 'block_size', 'naa', 'serial', 'device', 'provisioning'):
            assert before[key] == after[key], (key, before, after)
        assert before['size'] == 12 << 20


def test_an_inactive_array_can_be_deleted():
    with Orion() as o:
        build(o)
        for name in ('e0',):
            o.ctl('nbd', 'unexport', name)
        o.ctl('iscsi', 'delete', IQN)
        o.ctl('volume', 'delete', 'p0/v0', '--yes')
        o.ctl('volume', 'delete', 'p0/v1', '--yes')
        o.ctl('pool', 'delete', 'p0', '--yes')
        o.stop()
        os.rename(o.dir + '/f2', o.dir + '/away')
        o.start()
        assert o.ctl('array', 'show', 'a1')['state'] == 'inactive'
        o.ctl('array', 'delete', 'a1', '--yes')
        o.ctl('pool', 'create', 'p1', '--devices', 'f3')  # nothing is left on it


def journal(o):
    return max(glob.glob(o.state + '/journal.*'), key=os.path.getmtime)


def test_a_torn_last_line_is_dropped():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.stop()
        with open(journal(o), 'rb+') as f:
            lines = f.read().splitlines(True)
            d1, = [n for n, line in enumerate(lines) if b'"device/d1"' in line]
            f.truncate(len(b''.join(lines[:d1 + 1])) - 7)
        o.start()
        assert [d['name'] for d in o.ctl('device', 'list')['items']] == ['d0']
        o.mem('d2')
        o.restart()
        assert [d['name'] for d in o.ctl('device', 'list')['items']] == ['d0', 'd2']


def test_damage_in_the_middle_is_set_aside_and_told():
    with Orion() as o:
        o.mem('d0', 'd1', 'd2')
        o.stop()
        name = journal(o)
        lines = open(name, 'rb').read().splitlines(True)
        lines[2] = lines[2].replace(b'"mem"', b'"nem"')
        open(name, 'wb').write(b''.join(lines))
        o.start()
        assert [d['name'] for d in o.ctl('device', 'list')['items']] == ['d0']
        assert os.path.exists(name + '.damaged')
        assert any('damaged' in p for p in o.http('GET', '/v1/system').json['problems'])
        o.mem('d9')
        o.restart()
        assert [d['name'] for d in o.ctl('device', 'list')['items']] == ['d0', 'd9']


def test_a_newer_format_is_refused_untouched():
    with Orion() as o:
        o.mem('d0')
        o.stop()
        name = glob.glob(o.state + '/snapshot.*')[0]
        head = b'{"format":2,"kind":"snapshot","generation":1}'
        whole = open(name, 'rb').read().split(b'\n', 1)[1]
        open(name, 'wb').write(b'%08x %s\n' % (crc32c(head), head) + whole)
        files = {f: open(f, 'rb').read() for f in glob.glob(o.state + '/*')}
        try:
            o.start()
            raise AssertionError('it started')
        except AssertionError as e:
            assert 'exited with 1' in str(e) or 'did not get ready' in str(e), e
        o.proc = None
        assert 'format 2' in o.log(), o.log()
        assert files == {f: open(f, 'rb').read() for f in glob.glob(o.state + '/*')}


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def does_not_start(o, words):
    """It refuses to start, says so, and leaves the state as it is."""
    before = {f: os.path.isfile(f) and open(f, 'rb').read() for f in glob.glob(o.state + '/*')}
    try:
        o.start()
        started = True
    except AssertionError:
        started = False
    assert not started
    assert words in o.log(), o.log()
    assert before == {f: os.path.isfile(f) and open(f, 'rb').read() for f in glob.glob(o.state + '/*')}


def test_a_journal_that_lost_its_snapshot_is_never_taken_for_an_empty_state():
    with Orion() as o:
        o.mem('d0')
        o.stop()
        snapshot, = glob.glob(o.state + '/snapshot.*')
        kept = open(snapshot, 'rb').read()
        os.unlink(snapshot)
        does_not_start(o, 'no snapshot')
        open(snapshot, 'wb').write(kept)
        o.start()
        assert [d['name'] for d in o.ctl('device', 'list')['items']] == ['d0']


def test_a_first_start_that_was_cut_off_starts_again():
    with Orion(start=False) as o:
        os.mkdir(o.state, 0o700)
        open(o.state + '/journal.1', 'wb').write(b'01234567 {"for')
        o.start()
        o.mem('d0')


def test_a_fifo_in_the_state_does_not_hold_the_start_up():
    with Orion() as o:
        o.mem('d0')
        o.stop()
        snapshot, = glob.glob(o.state + '/snapshot.*')
        os.unlink(snapshot)
        os.mkfifo(snapshot)
        does_not_start(o, 'no good generation')


def test_many_changes_stay():
    with Orion() as o:
        o.mem('d0')
        o.ctl('iscsi', 'create', IQN)
        count = 2000 if FULL else 300
        for i in range(count):
            r = o.http('PUT', '/v1/iscsi/targets/%s/luns/%d' % (IQN, i), {'device': 'd0'})
            assert r.status == 201, r.body
        before = shown(o)
        o.restart(kill=True)
        assert shown(o) == before
        assert wait_for(lambda: len(o.http('GET', '/v1/iscsi/targets/' + IQN).json['luns']) == count)


run(test_everything_is_there_again, test_a_clean_stop_leaves_arrays_clean,
    test_an_absent_file_does_not_stop_the_others,
    test_a_mirror_with_one_leg_missing_starts_degraded,
    test_half_a_mirror_waits_and_takes_who_comes, test_half_a_mirror_starts_degraded_when_nobody_comes,
    test_who_asks_for_a_waiting_array_gets_it_at_once,
    test_another_file_under_the_path_is_refused, test_what_was_stopped_or_deleted_stays_away,
    test_a_stack_on_volumes_comes_back, test_an_absent_device_can_be_added_again,
    test_a_lun_keeps_its_identity_and_size_while_its_device_is_absent,
    test_an_inactive_array_can_be_deleted,
    test_a_torn_last_line_is_dropped, test_damage_in_the_middle_is_set_aside_and_told,
    test_a_newer_format_is_refused_untouched,
    test_a_journal_that_lost_its_snapshot_is_never_taken_for_an_empty_state,
    test_a_first_start_that_was_cut_off_starts_again,
    test_a_fifo_in_the_state_does_not_hold_the_start_up, test_many_changes_stay)
