# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Access states of target port groups (ALUA): set by administrator and host, kept, told, and what they forbid."""
import json
import os
import struct

from iscsiwire import Initiator
from orion import Orion, free_port, run

IQN = 'iqn.2026-11.test:access'
EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}
ALUA_CHANGED, STANDBY, UNAVAILABLE = (6, 0x2a, 6), (2, 4, 0x0b), (2, 4, 0x0c)
TUR = bytes(6)


def start():
    """Portal groups 1 and 3."""
    o = Orion()
    o.mem('m0', size='16M')
    o.addr = [o.iscsi(IQN, 'm0'), '127.0.0.1:%d' % free_port()]
    o.ctl('iscsi', 'portal', 'add', o.addr[1], '--group', '3')
    o.fds_mark()
    return o


def both(o):
    return [Initiator(a, IQN).ready() for a in o.addr]


def close(*initiators):
    for i in initiators:
        i.close()


def report(i, extended=False):
    """{group: (state, status, ports)} as REPORT TARGET PORT GROUPS says."""
    cdb = bytes([0xa3, 0x2a if extended else 0x0a]) + bytes(4) + struct.pack('>I', 1024) + bytes(2)
    data = i.do(cdb, read=1024).data
    length = int.from_bytes(data[:4], 'big')
    assert length == len(data) - 4, (length, len(data))
    at, out = 8 if extended else 4, {}
    while at < len(data):
        state, _, group, _, status, _, count = struct.unpack('>BBHBBBB', data[at:at + 8])
        ports = [struct.unpack('>I', data[at + 8 + 4 * k:at + 12 + 4 * k])[0] for k in range(count)]
        out[group] = (state & 15, status, ports)
        at += 8 + 4 * count
    return out


def set_groups(i, *states):
    body = bytes(4) + b''.join(struct.pack('>BBH', state, 0, group) for group, state in states)
    return i.do(bytes([0xa4, 0x0a]) + bytes(4) + struct.pack('>I', len(body)) + bytes(2), write=body)


def shown(o):
    return {g['group']: (g['state'], g['set_by'], g['portals']) for g in o.ctl('iscsi', 'groups', IQN)['items']}


def plan(o, doc):
    path = os.path.join(o.dir, 'doc.json')
    with open(path, 'w') as f:
        json.dump(doc, f)
    return path


def test_the_administrator_sets_states_and_hosts_are_told():
    with start() as o:
        one, three = both(o)
        assert report(one) == {1: (0, 0, [1]), 3: (0, 0, [3])} == report(three, extended=True), report(one)
        g = o.ctl('iscsi', 'alua', IQN, '3', '--state', 'standby')
        assert (g['state'], g['set_by'], g['changed']) == ('standby', 'administrator', True), g
        assert o.ctl('iscsi', 'alua', IQN, '3', '--state', 'standby')['changed'] is False
        assert one.do(TUR).key == ALUA_CHANGED and one.do(TUR).status == 0
        assert three.do(TUR).key == ALUA_CHANGED and three.do(TUR).key == STANDBY
        assert three.read(0, 1).key == STANDBY and one.read(0, 1).status == 0
        assert report(three) == {1: (0, 0, [1]), 3: (2, 2, [3])}
        o.ctl('iscsi', 'alua', IQN, '3', '--state', 'unavailable')
        assert three.do(TUR).key == ALUA_CHANGED and three.do(TUR).key == UNAVAILABLE
        o.ctl('iscsi', 'unalua', IQN, '3', json_out=False)
        assert three.do(TUR).key == ALUA_CHANGED and three.read(0, 1).status == 0
        assert shown(o) == {1: ('optimized', '', [o.addr[0]]), 3: ('optimized', '', [o.addr[1]])}, shown(o)
        o.ctl('iscsi', 'alua', IQN, '16', '--state', 'standby', expect=1)
        o.ctl('iscsi', 'alua', IQN, 'x', '--state', 'standby', expect=1)
        o.ctl('iscsi', 'alua', 'iqn.2026-11.test:none', '1', '--state', 'standby', expect=4)
        o.ctl('iscsi', 'alua', IQN, '1', '--state', 'fast', expect=1)
        events = o.http('GET', '/v1/events').json['items']
        told = [e for e in events if e['kind'] == 'access-state']
        assert len(told) == 3 and 'standby' in told[0]['message'], told
        close(one, three)


def test_a_host_sets_states_and_they_are_kept():
    with start() as o:
        one, three = both(o)
        assert set_groups(one, (1, 1), (3, 2)).status == 0
        assert one.do(TUR).status == 0 and three.do(TUR).key == ALUA_CHANGED
        assert report(one) == {1: (1, 1, [1]), 3: (2, 1, [3])}
        assert shown(o)[3][:2] == ('standby', 'host'), shown(o)
        assert set_groups(one, (2, 0)).key == (5, 0x26, 0)
        o.ctl('iscsi', 'alua', IQN, '5', '--state', 'unavailable')  # a group that is still to come
        for kill in (False, True):
            o.restart(kill=kill)
            one, three = Initiator(o.addr[0], IQN).ready(), Initiator(o.addr[1], IQN)
            assert report(one) == {1: (1, 1, [1]), 3: (2, 1, [3])}, report(one)
            assert three.do(TUR).key == (6, 0x29, 0) and three.do(TUR).key == STANDBY
        addr = '127.0.0.1:%d' % free_port()
        o.ctl('iscsi', 'portal', 'add', addr, '--group', '5')
        five = Initiator(addr, IQN)
        assert five.do(TUR).key == (6, 0x29, 0) and five.do(TUR).key == UNAVAILABLE
        assert report(five)[5] == (3, 2, [5])
        o.fds_mark()


def test_states_are_part_of_the_configuration():
    with start() as o:
        o.ctl('iscsi', 'alua', IQN, '3', '--state', 'standby')
        doc = o.ctl('config', 'show')
        target = doc['iscsi']['targets'][IQN]
        assert target['groups'] == {'3': {'state': 'standby'}}, target
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        target['groups'] = {'3': {'state': 'non-optimized'}, '1': {'state': 'optimized'}}
        p = o.ctl('plan', plan(o, doc))
        assert [e['name'] for e in p['change']] == [IQN + '/3'] and [e['name'] for e in p['create']] == [IQN + '/1'], p
        o.ctl('apply', plan(o, doc))
        assert {k: v[0] for k, v in shown(o).items()} == {1: 'optimized', 3: 'non-optimized'}
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        target['groups'] = {}
        o.ctl('apply', '--yes', plan(o, doc))
        assert {v[:2] for v in shown(o).values()} == {('optimized', '')}, shown(o)
        o.ctl('iscsi', 'alua', IQN, '3', '--state', 'standby')
        said = o.run('iscsi', 'delete', IQN)
        assert said.returncode == 0 and '1 target port groups: 3' in said.stderr, said
        o.ctl('iscsi', 'create', IQN)
        assert {v[:2] for v in shown(o).values()} == {('optimized', '')}, 'a new target has the old one\'s states'


def prout(i, action, key, new, flags=0):
    """PERSISTENT RESERVE OUT, of the type Write Exclusive."""
    return i.do(bytes([0x5f, action, 1, 0, 0]) + struct.pack('>IB', 24, 0),
                write=struct.pack('>QQIBBH', key, new, 0, flags, 0, 0))


def test_identification_and_reservations_know_the_groups():
    """VPD 83h and 88h, and a registration for all target ports at once."""
    with start() as o:
        one, three = both(o)
        for who, port in ((one, 1), (three, 3)):
            page = who.do(bytes([0x12, 1, 0x83, 0, 255, 0]), read=255).data
            assert bytes([0x94, 0, 4, 0, 0, 0, port]) in page, page.hex()  # relative target port
            assert bytes([0x95, 0, 4, 0, 0, 0, port]) in page, page.hex()  # target port group
        ports = one.do(bytes([0x12, 1, 0x88, 2, 0, 0]), read=512).data
        assert [n for n in range(1, 16) if (',t,0x%04x' % n).encode() in ports] == [1, 3], ports
        assert prout(one, 0, 0, 0xabc, flags=4).status == 0  # REGISTER with ALL_TG_PT
        keys = one.do(bytes([0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0]), read=256).data
        assert int.from_bytes(keys[4:8], 'big') == 16 and keys[8:24] == struct.pack('>QQ', 0xabc, 0xabc), keys.hex()
        full = one.do(bytes([0x5e, 3, 0, 0, 0, 0, 0, 2, 0, 0]), read=512).data[8:]
        listed = []
        while full:  # READ FULL STATUS: the relative target port of each
            listed.append(int.from_bytes(full[18:20], 'big'))
            full = full[24 + int.from_bytes(full[20:24], 'big'):]
        assert sorted(listed) == [1, 3], listed
        assert prout(three, 1, 0xabc, 0).status == 0, 'the registration by the other port does not hold'
        assert one.write(0, b'x' * 512).status == 0x18 and three.write(0, b'x' * 512).status == 0
        assert prout(three, 2, 0xabc, 0).status == 0 and one.write(0, b'x' * 512).status == 0
        close(one, three)


run(test_the_administrator_sets_states_and_hosts_are_told, test_a_host_sets_states_and_they_are_kept,
    test_states_are_part_of_the_configuration, test_identification_and_reservations_know_the_groups)
