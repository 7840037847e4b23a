# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrays as a whole: spares that are shared, members replaced, and what the configuration says."""
import json
import os
import subprocess

from iscsiwire import Initiator
from nbdwire import Raw
from orion import Orion, find, run, wait_for

EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}


def files(o, n, mib=16):
    for i in range(n):
        o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', o.file('disk%d' % i, mib << 20))


def create(o, name, level, members, *options):
    return o.ctl('array', 'create', name, '--level', level, '--members', members, *options)


def array(o, name):
    return o.ctl('array', 'show', name)


def devices(a, *states):
    return sorted(m['device'] for m in a['members'] if m['state'] in states)


def whole(o, name):
    def look():
        a = array(o, name)
        return a['missing'] == 0 and a['sync_action'] == 'idle' and not a['sync_job']
    wait_for(look, 60, 'array %s to be whole' % name)
    return array(o, name)


def plan(o, doc):
    path = os.path.join(o.dir, 'doc.json')
    with open(path, 'w') as f:
        json.dump(doc, f)
    return o.ctl('plan', path)


def test_a_spare_serves_all_arrays_of_its_group():
    with Orion() as o:
        files(o, 7)
        create(o, 'a', 'raid1', 'd0,d1', '--spares', 'd4,d5', '--spare-group', 'g')
        create(o, 'b', 'raid5', 'd2,d3,d6')
        o.ctl('array', 'fail', 'b', 'd2')
        assert array(o, 'b')['missing'] == 1
        o.ctl('array', 'set', 'b', '--spare-group', 'g')
        b = whole(o, 'b')
        assert len(set(devices(b, 'in-sync')) & {'d4', 'd5'}) == 1, b
        left = devices(array(o, 'a'), 'spare')
        assert len(left) == 1, array(o, 'a')
        # Also after a restart, and for one that is missing at start.
        o.ctl('array', 'remove', 'b', 'd2')
        o.stop()
        os.remove(os.path.join(o.dir, 'disk6'))
        o.start()
        b = whole(o, 'b')
        assert left[0] in devices(b, 'in-sync'), b
        assert not devices(array(o, 'a'), 'spare') and array(o, 'a')['spare_group'] == 'g'


def test_a_spare_of_another_group_or_too_small_stays():
    with Orion() as o:
        files(o, 5, 32)
        o.ctl('device', 'add', 's', '--type', 'file', '--path', o.file('small', 16 << 20))
        o.ctl('device', 'add', 't', '--type', 'file', '--path', o.file('tiny', 16 << 20))
        create(o, 'a', 'raid1', 's,d0', '--spares', 't', '--spare-group', 'g')
        create(o, 'b', 'raid1', 'd1,d2', '--spare-group', 'g')
        create(o, 'c', 'raid1', 'd3,missing', '--spare-group', 'h')
        o.ctl('array', 'fail', 'b', 'd1')
        o.ctl('array', 'set', 'c', '--spares', 'd4')  # what fits goes where it is told
        whole(o, 'c')
        assert devices(array(o, 'a'), 'spare') == ['t'], array(o, 'a')
        assert array(o, 'b')['missing'] == 1


def test_the_configuration_has_all_that_makes_an_array():
    with Orion() as o:
        files(o, 8)
        create(o, 'a', 'raid5', 'd0,d1,d2', '--spares', 'd3', '--no-log', '--bitmap', 'internal',
               '--bitmap-chunk', '64K', '--chunk', '64K', '--spare-group', 'g')
        create(o, 'b', 'raid0', 'd4,d5')
        shown = o.ctl('config', 'show')
        a = shown['arrays']['a']
        want = {'level': 'raid5', 'members': ['d0', 'd1', 'd2'], 'chunk': 65536, 'spares': ['d3'],
                'bitmap': 'internal', 'bitmap_chunk': 65536, 'no_log': True, 'spare_group': 'g'}
        assert {k: a.get(k) for k in want} == want, a
        assert plan(o, shown) == EMPTY, plan(o, shown)
        shown['arrays']['a']['spares'] = ['d6', 'd7']
        shown['arrays']['a']['spare_group'] = 'other'
        del shown['arrays']['a']['no_log']
        p = plan(o, shown)
        assert [x['name'] for x in p['change']] == ['a'] and not p['replace'], p
        path = os.path.join(o.dir, 'doc.json')
        subprocess.run([find('orionctl'), '--api', 'unix:' + o.api, 'apply', path, '--yes'], check=True)
        assert devices(array(o, 'a'), 'spare') == ['d6', 'd7'], array(o, 'a')
        assert array(o, 'a')['spare_group'] == 'other'
        o.restart()
        assert o.ctl('config', 'show')['arrays']['a']['no_log'] is True


def test_an_array_that_cannot_start_stays_in_the_configuration():
    with Orion() as o:
        files(o, 4)
        create(o, 'a', 'raid0', 'd0,d1', '--chunk', '64K')
        create(o, 'b', 'raid1', 'd2,d3')
        shown = o.ctl('config', 'show')
        o.stop()
        os.rename(os.path.join(o.dir, 'disk1'), os.path.join(o.dir, 'away'))
        o.start()
        assert array(o, 'a')['state'] == 'inactive'
        assert o.ctl('config', 'show')['arrays'] == shown['arrays']
        assert plan(o, shown) == EMPTY, plan(o, shown)


def test_nothing_is_put_below_itself():
    with Orion() as o:
        o.mem('d0', 'd1', 'd2', 'd3')
        o.mem('e', size='512M')
        create(o, 'a', 'raid5', 'd0,d1,d2,d3', '--chunk', '64K')

        def refused(device):
            for verb in (('add', 'a', device, '--force'), ('replace', 'a', 'd0', device, '--force'),
                         ('set', 'a', '--log-device', device, '--force')):
                said = o.ctl('array', *verb, expect=1)
                assert 'stands on array a itself' in said, said
        refused('a')
        o.ctl('device', 'add', 'f', '--type', 'fault', '--on', 'a')
        create(o, 'b', 'raid0', 'f,e', '--chunk', '64K')
        refused('b')
        o.ctl('pool', 'create', 'p', '--devices', 'b')
        o.ctl('volume', 'create', 'p/v', '--size', '100M')
        refused('p/v')
        said = o.ctl('pool', 'extend', 'p', '--devices', 'p/v', '--force', expect=1)
        assert 'stands on pool p itself' in said, said
        assert devices(array(o, 'a'), 'in-sync') == ['d0', 'd1', 'd2', 'd3']


def test_raid50_and_raid60_are_made_and_go_as_one():
    with Orion() as o:
        files(o, 9)
        options = ('--groups', '2', '--chunk', '64K', '--spares', 'd8')
        create(o, 'n', 'raid60', 'd0,d1,d2,d3,d4,d5,d6,d7', *options)
        assert {x['name']: x['level'] for x in o.ctl('array', 'list')['items']} == {
            'n': 'raid0', 'n-0': 'raid6', 'n-1': 'raid6'}
        assert array(o, 'n')['chunk'] == 131072 and array(o, 'n-1')['spare_group'] == 'n'
        create(o, 'n', 'raid60', 'd0,d1,d2,d3,d4,d5,d6,d7', *options)  # the same again is no change
        shown = o.ctl('config', 'show')
        assert plan(o, shown) == EMPTY, plan(o, shown)
        # The spare of the one part serves the other.
        o.ctl('array', 'fail', 'n-1', 'd5')
        assert 'd8' in devices(whole(o, 'n-1'), 'in-sync')
        o.restart(kill=True)
        assert array(o, 'n')['state'] == 'clean' and array(o, 'n-0')['missing'] == 0
        assert o.run('array', 'delete', 'n-0', '--yes').returncode != 0
        o.ctl('array', 'delete', 'n', '--yes')
        assert o.ctl('array', 'list')['items'] == []
        # What cannot be made leaves nothing behind.
        said = o.run('array', 'create', 'n', '--level', '50', '--members', 'd0,d1,d2,d3,d4,nope')
        assert said.returncode != 0 and 'nope' in said.stderr, said
        assert o.ctl('array', 'list')['items'] == []
        said = o.run('array', 'create', 'n', '--level', '50', '--members', 'd0,d1,d2,d3,d4')
        assert said.returncode != 0 and 'groups' in said.stderr, said
        create(o, 'n', 'raid50', 'd0,d1,d2,d3,d4,d5', '--force')
        o.ctl('array', 'stop', 'n')
        assert o.ctl('array', 'list')['items'] == []


def test_a_member_is_replaced_while_it_serves():
    with Orion() as o:
        files(o, 5)
        create(o, 'a', 'raid6', 'd0,d1,d2,d3')
        said = o.run('array', 'replace', 'a', 'd1')
        assert said.returncode == 4 and 'no spare' in said.stderr, said
        said = o.run('array', 'replace', 'a', 'd1', 'd4', '--with', 'd3')
        assert said.returncode == 2 and 'NEW and --with' in said.stderr, said
        o.ctl('array', 'replace', 'a', 'd1', 'd4')
        wait_for(lambda: not o.ctl('device', 'show', 'd1')['users'], 60, 'd1 to be free')
        a = whole(o, 'a')
        assert [m['device'] for m in a['members']] == ['d0', 'd4', 'd2', 'd3'], a
        o.ctl('array', 'replace', 'a', 'd4', '--with', 'd1')
        wait_for(lambda: not o.ctl('device', 'show', 'd4')['users'], 60, 'd4 to be free')
        assert [m['device'] for m in whole(o, 'a')['members']] == ['d0', 'd1', 'd2', 'd3']
        o.ctl('array', 'fail', 'a', 'd0')
        o.restart(kill=True)
        assert array(o, 'a')['missing'] == 1


IQN = 'iqn.2026-11.test:array'


def capacity(i):
    """Bytes, as READ CAPACITY (10) and (16) say."""
    r = i.do(bytes([0x25]), read=8)
    s = i.do(bytes([0x9e, 0x10]) + bytes(11) + bytes([32]), read=32)
    last, block = int.from_bytes(s.data[:8], 'big'), int.from_bytes(s.data[8:12], 'big')
    assert r.data == last.to_bytes(4, 'big') + block.to_bytes(4, 'big'), (r.data, s.data)
    return (last + 1) * block


class Clients:
    """Of NBD and iSCSI, who came before an array grew."""

    def __init__(self, o, addr):
        self.o, self.addr, self.path = o, addr, os.path.join(o.dir, 'nbd.sock')
        self.nbd, self.iscsi = Raw(self.path, 'x'), Initiator(addr, IQN).ready()
        self.other = Initiator(addr, IQN, isid=b'\x40\0\x37\0\0\2').ready()
        self.size = self.nbd.size
        assert capacity(self.iscsi) == self.size

    def see(self, size):
        """Each nexus is told once, by the first command that may; NBD has no way to tell."""
        beyond = self.size // 512
        for i in self.iscsi, self.other:
            told = []
            wait_for(lambda: told.append(i.do(bytes(6)).key) or told[-1], 60, 'a unit attention')
            assert told[-1] == (6, 0x2a, 9), told
            assert capacity(i) == size and i.do(bytes(6)).status == 0
        assert self.iscsi.write(beyond, b'new!' * 128).status == 0
        assert self.other.read(beyond, 1).data == b'new!' * 128
        assert self.other.read(size // 512 - 1, 1).status == 0
        r = self.other.read(size // 512, 1)
        assert r.key == (5, 0x21, 0), r.key
        new = Raw(self.path, 'x')
        assert new.size == size and new.read(self.size, 512) == b'new!' * 128
        lun, = self.o.ctl('iscsi', 'show', IQN)['luns']
        assert lun['size'] == size and lun['state'] == 'ready', lun
        for c in self.iscsi, self.other:
            c.close()
        self.nbd.s.close()
        new.s.close()


def test_an_array_grows_while_it_is_served():
    with Orion() as o:
        files(o, 3)
        create(o, 'a', 'raid1', 'd0,d1')
        size = array(o, 'a')['size']
        o.nbd('x', 'a')
        addr = o.iscsi(IQN, 'a')
        said = o.run('array', 'grow', 'a', '--raid-devices', '3')
        assert said.returncode != 0 and 'spares' in said.stderr, said
        o.ctl('array', 'grow', 'a', '--raid-devices', '3', '--devices', 'd2')
        a = whole(o, 'a')
        assert a['slots'] == 3 and devices(a, 'in-sync') == ['d0', 'd1', 'd2'], a
        assert o.ctl('array', 'grow', 'a', '--raid-devices', '3', '--devices', 'd2')['slots'] == 3
        assert o.run('array', 'grow', 'a', '--raid-devices', '2').returncode != 0
        o.stop()
        for i in range(3):
            os.truncate(os.path.join(o.dir, 'disk%d' % i), 24 << 20)
        o.start()
        assert array(o, 'a')['size'] == size and array(o, 'a')['slots'] == 3
        clients = Clients(o, addr)
        o.ctl('array', 'grow', 'a', '--size', 'max')
        assert whole(o, 'a')['size'] == size + (8 << 20), array(o, 'a')
        clients.see(size + (8 << 20))
        doc = o.ctl('config', 'show')
        assert plan(o, doc)['delete'] == plan(o, doc)['change'] == plan(o, doc)['create'] == []
        o.kill9()
        for i in range(3):
            os.rename(os.path.join(o.dir, 'disk%d' % i), os.path.join(o.dir, 'away%d' % i))
        o.start()
        lun, = o.ctl('iscsi', 'show', IQN)['luns']  # what an absent array is told as
        assert lun['state'] == 'not-ready' and lun['size'] == size + (8 << 20), lun
        o.stop()
        for i in range(3):
            os.rename(os.path.join(o.dir, 'away%d' % i), os.path.join(o.dir, 'disk%d' % i))
        o.start()
        assert whole(o, 'a')['size'] == size + (8 << 20) and array(o, 'a')['slots'] == 3


def test_a_pool_takes_what_its_array_has_gained():
    with Orion() as o:
        files(o, 2)
        create(o, 'a', 'raid1', 'd0,d1')
        o.ctl('pool', 'create', 'p', '--devices', 'a', '--extent-size', '1M')
        o.ctl('volume', 'create', 'p/v', '--size', '4M')
        before = o.ctl('pool', 'show', 'p')
        assert not o.ctl('pool', 'grow', 'p')['changed']
        assert o.ctl('pool', 'show', 'p')['seqno'] == before['seqno']
        o.stop()
        for i in range(2):
            os.truncate(os.path.join(o.dir, 'disk%d' % i), 24 << 20)
        o.start()
        o.ctl('array', 'grow', 'a', '--size', 'max')
        pool = o.ctl('pool', 'show', 'p')
        assert pool['size'] == before['size'] and pool['devices'][0]['gain'] == 8 << 20, pool
        wait_for(lambda: 'device-grown' in [e['kind'] for e in o.http('GET', '/v1/events').json['items']],
                 what='word of the gain')
        doc = o.ctl('config', 'show')  # a pool's size is in no document
        assert plan(o, doc)['delete'] == plan(o, doc)['change'] == plan(o, doc)['create'] == []
        assert o.http('POST', '/v1/pools/p/actions/grow', {}).status == 428
        pool = o.ctl('pool', 'grow', 'p')
        assert pool['changed'] and pool['size'] == before['size'] + (8 << 20), pool
        assert pool['devices'][0]['gain'] == 0 and pool['seqno'] > before['seqno'], pool
        o.ctl('volume', 'resize', 'p/v', '--size', str(pool['size']))
        with open(os.path.join(o.state, 'audit.log')) as log:
            assert 'pool grow' in log.read()
        o.restart(kill=True)
        assert o.ctl('pool', 'show', 'p')['size'] == pool['size']
        assert o.ctl('volume', 'show', 'p/v')['size'] == pool['size']


run(test_a_pool_takes_what_its_array_has_gained, test_an_array_grows_while_it_is_served, test_raid50_and_raid60_are_made_and_go_as_one, test_a_spare_serves_all_arrays_of_its_group,
    test_a_spare_of_another_group_or_too_small_stays,
    test_the_configuration_has_all_that_makes_an_array,
    test_an_array_that_cannot_start_stays_in_the_configuration,
    test_a_member_is_replaced_while_it_serves, test_nothing_is_put_below_itself)
