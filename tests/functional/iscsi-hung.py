# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""A device hangs, and an administrator gets out: what is removed is gone for everybody, at once."""
from iscsiwire import Initiator, read10
from nbdwire import READ, Raw
from orion import Orion, free_port, run, wait_for

IQN = 'iqn.2026-11.test:hung'
HANGS = 'read:delay=60s:offset=8M-9M'  # nothing but time brings its answers
HUNG = (8 << 20) // 512
WAITED = 'not answered yet, and in use until then: device %s (%d request'


def hangs(o, name):
    o.mem(name + 'm', name + 'w')
    o.ctl('device', 'add', name, '--type', 'fault', '--on', name + 'm', '--rules', HANGS)


def users(o, name):
    return ' '.join(o.ctl('device', 'show', name)['users'])


def notes(o, *verb):
    return ' '.join((o.ctl(*verb) or {}).get('notes', []))


def iscsi(o):
    """Target, LUN and portal with an initiator each, whose read hangs."""
    hangs(o, 'd')
    hangs(o, 'l')
    addr = o.iscsi(IQN, 'd', 'dw')
    o.iscsi(IQN + '2', 'l', 'lw')
    by = Initiator(addr, IQN).ready()
    by.command(read10(HUNG, 8), read=4096)
    unlun = Initiator(addr, IQN + '2').ready()
    unlun.ready(1)
    unlun.command(read10(HUNG, 8), read=4096)
    return addr, by, unlun


def nbd(o):
    hangs(o, 'e')
    o.nbd('x', 'e')
    c = Raw(o.dir + '/nbd.sock', 'x')
    c.s.sendall(c.request(READ, 8 << 20, 4096))
    return c


def removed(o, addr, by, unlun, client):
    assert WAITED % ('l', 1) in notes(o, 'iscsi', 'unlun', IQN + '2', 0, '--disconnect')
    assert unlun.read(0, 1, lun=1).status is not None  # 3F/0E or data: the others go on
    assert 'device l has not answered' in o.ctl('iscsi', 'lun', IQN + '2', 0, '--device', 'lw', expect=5)
    o.ctl('iscsi', 'portal', 'remove', addr)
    assert by.closed() and unlun.closed()
    assert WAITED % ('d', 1) in notes(o, 'iscsi', 'delete', IQN, '--disconnect')
    assert users(o, 'dw') == '' and '(no answer yet)' in users(o, 'd'), (users(o, 'dw'), users(o, 'd'))
    assert WAITED % ('e', 1) in notes(o, 'nbd', 'unexport', 'x', '--disconnect')
    assert client.closed()


def test_what_hangs_is_removed_and_its_names_serve_again():
    with Orion() as o:
        addr, by, unlun = iscsi(o)
        client = nbd(o)
        removed(o, addr, by, unlun, client)
        again = o.iscsi(IQN, 'dw')
        i = Initiator(again, IQN).ready()  # the same initiator port
        assert i.read(0, 8).status == 0
        o.ctl('nbd', 'export', 'x', '--device', 'ew')
        assert Raw(o.dir + '/nbd.sock', 'x').read(0, 512) == bytes(512)
        o.ctl('device', 'remove', 'd', expect=5)
        wait_for(lambda: not any(users(o, d) for d in 'dle'), 120, 'the devices to answer')
        for d in 'dle':
            o.ctl('device', 'remove', d)
        o.ctl('iscsi', 'lun', IQN + '2', 0, '--device', 'lw')


run(test_what_hangs_is_removed_and_its_names_serve_again)
