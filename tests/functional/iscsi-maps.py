# SPDX-License-Identifier: GPL-2.0-or-later
"""Each initiator its own LUNs: what it sees, under which numbers, and what it hears when that changes."""
import json
import os

from iscsiwire import TMF_RSP, Initiator, LoginError, read10
from orion import Orion, run

IQN = 'iqn.2026-11.test:maps'
HOST, OTHER = 'iqn.2026-11.test:host', 'iqn.2026-11.test:other'
EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}
LUNS_CHANGED, NO_LUN = (6, 0x3f, 0x0e), (5, 0x25, 0)
TUR = bytes(6)


def start():
    """Four LUNs of 1, 2, 3 and 4 MiB."""
    o = Orion()
    o.addr = o.iscsi(IQN)
    for n in range(4):
        o.ctl('device', 'add', 'm%d' % n, '--type', 'mem', '--size', '%dM' % (n + 1))
        o.ctl('iscsi', 'lun', IQN, n, '--device', 'm%d' % n)
    o.fds_mark()
    return o


def luns(i):
    data = i.do(bytes([0xa0]) + bytes(7) + b'\x02\0' + bytes(2), read=512).data
    return [data[at + 1] for at in range(8, 8 + int.from_bytes(data[:4], 'big'), 8)]


def size(i, lun):
    """MiB of the LUN; None: there is none."""
    r = i.do(bytes([0x25]) + bytes(9), read=8, lun=lun)
    return (int.from_bytes(r.data[:4], 'big') + 1) // 2048 if r.data else None


def qualifier(i, lun):
    return i.do(bytes([0x12, 0, 0, 0, 96, 0]), read=96, lun=lun).data[0] >> 5


def sizes(i):
    return {n: size(i, n) for n in luns(i)}


def drain(i, *numbers):
    for n in numbers:
        i.ready(n)


def plan(o, doc):
    path = os.path.join(o.dir, 'doc.json')
    with open(path, 'w') as f:
        json.dump(doc, f)
    return path


def test_an_initiator_sees_only_its_luns_under_its_numbers():
    with start() as o:
        acl = o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '7=0,2-3=1,0=3')
        assert acl['lun_map'] == ['0=3', '2-3=1', '7=0'], acl
        assert o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '0=3,2-3=1,7=0')['changed'] is False
        o.ctl('iscsi', 'acl', IQN, HOST, expect=5)
        o.ctl('iscsi', 'acl', IQN, OTHER)
        i, j = Initiator(o.addr, IQN, name=HOST), Initiator(o.addr, IQN, name=OTHER)
        assert luns(i) == [0, 2, 3, 7] and luns(j) == [0, 1, 2, 3]
        drain(i, 0, 2, 3, 7), drain(j, 0, 1, 2, 3)
        assert sizes(i) == {0: 4, 2: 2, 3: 3, 7: 1} and sizes(j) == {0: 1, 1: 2, 2: 3, 3: 4}
        assert [qualifier(i, n) for n in (0, 1, 7, 8)] == [0, 3, 0, 3]
        assert i.do(TUR, lun=1).key == NO_LUN and i.do(read10(0, 1), read=512, lun=1).key == NO_LUN
        # the same blocks behind both numbers
        assert j.write(0, b'm' * 512, lun=3).status == 0
        assert i.read(0, 1, lun=0).data == b'm' * 512
        # task management goes by the initiator's numbers, and does not reach beyond its LUNs
        for function, lun, response in ((5, 1, 2), (5, 7, 0), (6, 0, 6), (7, 0, 6)):
            i.tmf(function, lun)
            p = i.status(i.recv())
            assert p.op == TMF_RSP and p.head[2] == response, (function, lun, p)
        assert j.do(TUR, lun=0).key == (6, 0x29, 3) and j.do(TUR, lun=1).status == 0
        for bad in ('0', '0=1,0=2', '0-3=5,2=1', '5=x', '3-1=0', '00=1', '0=16384', '16000-16383=16000,16383=1'):
            o.ctl('iscsi', 'acl', IQN, 'iqn.2026-11.test:bad', '--lun-map', bad, expect=1)
        i.close(), j.close()


def test_a_map_changes_under_a_session_and_it_is_told():
    with start() as o:
        o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '0=0,1=1')
        o.ctl('iscsi', 'acl', IQN, OTHER)
        i, j = Initiator(o.addr, IQN, name=HOST), Initiator(o.addr, IQN, name=OTHER)
        drain(i, 0, 1), drain(j, 0)
        o.ctl('iscsi', 'acl-set', IQN, HOST, '--lun-map', '0=0,1=2,5=3')
        assert i.do(TUR, lun=0).key == LUNS_CHANGED and i.do(TUR, lun=0).status == 0
        assert j.do(TUR, lun=0).status == 0, 'another initiator was told'
        assert i.do(TUR, lun=1).key == (6, 0x29, 0) and i.do(TUR, lun=1).key == LUNS_CHANGED
        assert luns(i) == [0, 1, 5]
        drain(i, 1, 5)
        assert sizes(i) == {0: 1, 1: 3, 5: 4}
        # secrets and the map are changed apart from one another
        secret = os.path.join(o.dir, 'secret')
        with open(secret, 'w') as f:
            f.write('a-long-enough-secret')
        o.ctl('iscsi', 'acl-set', IQN, HOST, '--chap-user', 'u', '--chap-secret-file', secret)
        assert o.ctl('iscsi', 'show', IQN) and i.do(TUR, lun=0).status == 0
        assert [a['lun_map'] for a in o.http('GET', '/v1/iscsi/targets/%s/acls' % IQN).json['items']] == [
            ['0=0', '1=2', '5=3'], []]
        o.ctl('iscsi', 'acl-set', IQN, HOST, '--lun-map', '', '--chap-user', '')
        assert i.do(TUR, lun=0).key == LUNS_CHANGED and luns(i) == [0, 1, 2, 3]
        # a LUN that goes is gone for those who mapped it; a new one under its number comes
        o.ctl('iscsi', 'acl-set', IQN, HOST, '--lun-map', '9=3')
        drain(i, 9)
        o.ctl('iscsi', 'unlun', IQN, 3, '--disconnect', json_out=False)
        assert luns(i) == [] and i.do(TUR, lun=9).key == NO_LUN
        o.ctl('iscsi', 'lun', IQN, 3, '--device', 'm0')
        drain(i, 9)
        assert sizes(i) == {9: 1}
        i.close(), j.close()


def test_what_changes_during_a_login_counts():
    with start() as o:
        secret = os.path.join(o.dir, 'secret')
        with open(secret, 'w') as f:
            f.write('a-long-enough-secret')
        o.ctl('iscsi', 'acl', IQN, OTHER)

        def login(change):
            """The status it comes to, or the initiator."""
            i = Initiator(o.addr, IQN, name=HOST, login=False)
            i.login_pdu(0, 1, i.names() + [('AuthMethod', 'None')])
            change()
            try:
                i.full(i.login_pdu(1, 3, list(i.keys.items())))
            except LoginError as e:
                i.close()
                return e.status
            return i

        def unacl():
            o.ctl('iscsi', 'unacl', IQN, HOST, json_out=False)

        def chap():
            o.ctl('iscsi', 'acl-set', IQN, HOST, '--chap-user', 'u', '--chap-secret-file', secret)

        o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '5=2')
        assert login(unacl) == 0x0202
        o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '5=2')
        assert login(chap) == 0x0201
        o.ctl('iscsi', 'acl-set', IQN, HOST, '--chap-user', '')
        i = login(lambda: o.ctl('iscsi', 'acl-set', IQN, HOST, '--lun-map', '6=1'))
        assert luns(i) == [6]
        i.close()


def test_an_entry_made_anew_has_no_map_of_the_one_before():
    with start() as o:
        o.ctl('iscsi', 'acl', IQN, OTHER)
        o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '5=2')
        i = Initiator(o.addr, IQN, name=HOST).ready(5)
        assert luns(i) == [5]
        o.ctl('iscsi', 'unacl', IQN, HOST, '--disconnect', json_out=False)
        assert i.closed()
        o.ctl('iscsi', 'acl', IQN, HOST)
        i = Initiator(o.addr, IQN, name=HOST)
        assert luns(i) == [0, 1, 2, 3]
        i.close()


def test_maps_outlive_restarts_and_are_part_of_the_configuration():
    with start() as o:
        o.ctl('iscsi', 'acl', IQN, HOST, '--lun-map', '4=2')
        for kill in (False, True):
            o.restart(kill=kill)
            i = Initiator(o.addr, IQN, name=HOST)
            assert luns(i) == [4], luns(i)
            drain(i, 4)
            assert sizes(i) == {4: 3}
            i.close()
        doc = o.ctl('config', 'show')
        acls = doc['iscsi']['targets'][IQN]['acls']
        assert acls == {HOST: {'lun_map': ['4=2']}}, acls
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        acls[HOST]['lun_map'] = ['4=2', '0=1']
        p = o.ctl('plan', plan(o, doc))
        assert [e['name'] for e in p['change']] == ['%s/%s' % (IQN, HOST)] and not p['replace'], p
        i = Initiator(o.addr, IQN, name=HOST).ready(4)
        o.ctl('apply', plan(o, doc))
        assert i.do(TUR, lun=4).key == LUNS_CHANGED and luns(i) == [0, 4]
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        del acls[HOST]['lun_map']
        o.ctl('apply', plan(o, doc))
        assert luns(i) == [0, 1, 2, 3] and o.ctl('plan', plan(o, doc)) == EMPTY
        i.close()
        o.fds_mark()


run(test_an_initiator_sees_only_its_luns_under_its_numbers, test_a_map_changes_under_a_session_and_it_is_told,
    test_what_changes_during_a_login_counts, test_an_entry_made_anew_has_no_map_of_the_one_before,
    test_maps_outlive_restarts_and_are_part_of_the_configuration)
