# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrays and pools are carried away, come back under other names, and are looked at without a write."""
import hashlib
import json
import os
import struct

from orion import Orion, need, run, sh


def digest(o, *names):
    h = hashlib.sha256()
    for n in names:
        with open(o.dir + '/' + n, 'rb') as f:
            h.update(f.read())
    return h.hexdigest()


def build(o):
    for n in ('f0', 'f1'):
        o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '48M')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'f0,f1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '8M')


def carry_away(o):
    o.ctl('pool', 'stop', 'p0')
    o.ctl('array', 'stop', 'a0')
    for n in ('f0', 'f1'):
        o.ctl('device', 'remove', n)


def add(o, *pairs):
    for name, path in pairs:
        o.ctl('device', 'add', name, '--path', o.dir + '/' + path)


def test_a_stack_comes_back_on_devices_of_other_names():
    with Orion() as o:
        build(o)
        uuid = o.ctl('array', 'show', 'a0')['uuid']
        carry_away(o)
        add(o, ('x', 'f1'), ('y', 'f0'))
        assert 'linux_raid_member' in o.ctl('device', 'show', 'x')['signature']
        found = o.ctl('array', 'assemble')['items']
        assert [(a['name'], a['started'], a['uuid']) for a in found] == [('a0', True, uuid)], found
        assert o.ctl('pool', 'import')['items'][0]['imported'] is True
        assert o.ctl('volume', 'show', 'p0/v0')['state'] == 'active'
        o.restart()
        assert o.http('GET', '/v1/system').json['problems'] == []
        assert o.ctl('volume', 'show', 'p0/v0')['size'] == 8 << 20


def test_an_adopted_array_may_get_another_name():
    with Orion() as o:
        build(o)
        uuid = o.ctl('array', 'show', 'a0')['uuid']
        carry_away(o)
        add(o, ('f0', 'f0'), ('f1', 'f1'))
        o.mem('taken')
        o.ctl('array', 'assemble', 'a0', '--as', 'taken', expect=5)
        o.ctl('array', 'assemble', 'nope', expect=4)
        o.ctl('array', 'assemble', uuid, '--as', 'other')
        o.restart()
        assert o.ctl('array', 'show', 'other')['uuid'] == uuid


def test_a_taken_name_gets_a_number():
    with Orion() as o:
        build(o)
        carry_away(o)
        add(o, ('f0', 'f0'), ('f1', 'f1'))
        o.mem('a0')
        assert o.ctl('array', 'assemble')['items'][0]['name'] == 'a0-2'


def test_a_dry_run_writes_nothing():
    with Orion() as o:
        build(o)
        carry_away(o)
        add(o, ('f0', 'f0'), ('f1', 'f1'))
        before = digest(o, 'f0', 'f1')
        item = o.ctl('array', 'assemble', '--dry-run')['items'][0]
        assert item['started'] is False and item['would'], item
        assert o.ctl('array', 'list')['items'] == []
        assert digest(o, 'f0', 'f1') == before


def as_version_1_0(path):
    """The superblock to the end, where version 1.0 has it."""
    with open(path, 'r+b') as f:
        f.seek(4096)
        sb = bytearray(f.read(4096))
        at = (os.path.getsize(path) // 512 - 16) // 8 * 8
        start, = struct.unpack_from('<Q', sb, 128)
        struct.pack_into('<QQ', sb, 136, at - start, at)  # the room for data, the superblock's place
        struct.pack_into('<Q', sb, 80, at - start)        # what is used of it
        struct.pack_into('<I', sb, 216, 0)
        devices, = struct.unpack_from('<I', sb, 220)
        total = sum(struct.unpack_from('<%dI' % (64 + devices // 2), sb, 0))
        struct.pack_into('<I', sb, 216, ((total & 0xffffffff) + (total >> 32)) & 0xffffffff)
        f.seek(4096)
        f.write(b'\0' * 4096)
        f.seek(at * 512)
        f.write(sb)


def test_an_array_of_an_older_format_is_read_only_and_says_why():
    with Orion() as o:
        build(o)
        carry_away(o)
        for n in ('f0', 'f1'):
            as_version_1_0(o.dir + '/' + n)
        before = digest(o, 'f0', 'f1')
        add(o, ('f0', 'f0'), ('f1', 'f1'))
        assert 'linux_raid_member' in o.ctl('device', 'show', 'f0')['signature']
        item, = o.ctl('array', 'assemble', 'a0', '--dry-run')['items']
        assert 'only version 1.2 is written' in item['would'], item
        item, = o.ctl('array', 'assemble')['items']
        assert item['started'], item
        for _ in range(2):
            shown = o.ctl('array', 'show', 'a0')
            assert shown['state'] == 'read-only', shown
            assert 'superblocks have version 1.0' in shown['reason'], shown
            assert shown['missing'] == 0, shown
            o.ctl('array', 'fail', 'a0', 'f0', expect=1)
            o.ctl('array', 'delete', 'a0', '--yes', expect=1)
            with open(o.dir + '/doc.json', 'w') as f:
                json.dump(o.ctl('config', 'show'), f)
            plan = o.ctl('plan', o.dir + '/doc.json')
            assert not plan['create'] and not plan['change'] and not plan['delete'], plan
            o.ctl('array', 'set', 'a0', '--sync-latency', '30')  # of the daemon, not of the disks
            o.restart()
        o.ctl('array', 'stop', 'a0')
        assert digest(o, 'f0', 'f1') == before


def test_a_read_only_array_writes_nothing_and_stays_so():
    with Orion() as o:
        build(o)
        carry_away(o)
        add(o, ('f0', 'f0'), ('f1', 'f1'))
        before = digest(o, 'f0', 'f1')
        o.ctl('array', 'assemble', 'a0', '--read-only')
        assert o.ctl('array', 'show', 'a0')['state'] == 'read-only'
        o.ctl('pool', 'import', 'p0', '--read-only')
        o.restart()
        assert o.ctl('array', 'show', 'a0')['state'] == 'read-only'
        assert o.http('GET', '/v1/system').json['problems'] == []
        o.stop()
        assert digest(o, 'f0', 'f1') == before
        o.start()


def test_an_incomplete_array_is_told_and_not_started_by_itself():
    with Orion() as o:
        build(o)
        carry_away(o)
        add(o, ('f0', 'f0'))
        item = o.ctl('array', 'assemble')['items'][0]
        assert item['started'] is False and item['reason'], item
        o.ctl('array', 'assemble', 'a0')
        assert o.ctl('array', 'show', 'a0')['state'] == 'degraded'


def test_what_is_overwritten_is_copied_first():
    need('mdadm', 'truncate')
    with Orion() as o:
        build(o)
        carry_away(o)
        add(o, ('f0', 'f0'), ('f1', 'f1'))
        o.ctl('array', 'assemble')
        folder = o.state + '/backup'
        assert os.path.isdir(folder) and len(os.listdir(folder)) >= 2, os.listdir(o.state)
        assert 'Magic : a92b4efc' in sh('mdadm', '--examine', o.dir + '/f0')


run(test_a_stack_comes_back_on_devices_of_other_names, test_an_adopted_array_may_get_another_name,
    test_a_taken_name_gets_a_number, test_a_dry_run_writes_nothing,
    test_an_array_of_an_older_format_is_read_only_and_says_why,
    test_a_read_only_array_writes_nothing_and_stays_so,
    test_an_incomplete_array_is_told_and_not_started_by_itself,
    test_what_is_overwritten_is_copied_first)
