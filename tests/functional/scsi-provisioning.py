# SPDX-License-Identifier: GPL-2.0-or-later
"""What is mapped and what is not, through every kind of stack: GET LBA STATUS, UNMAP, log page 0Ch."""
from iscsiwire import Initiator
from orion import Orion, run

IQN = 'iqn.2026-11.test:provisioning'
MAPPED, DEALLOCATED = 0, 1


def number(data, at, size):
    return int.from_bytes(data[at:at + size], 'big')


def status(i, lun, lba=0):
    """[(blocks, status)] from an LBA on."""
    n = 8 + 16 * 16
    r = i.do(bytes([0x9e, 0x12]) + lba.to_bytes(8, 'big') + n.to_bytes(4, 'big') + bytes(2), read=n, lun=lun)
    assert r.status == 0, r.key
    out = []
    for at in range(8, len(r.data), 16):
        assert number(r.data, at, 8) == lba, r.data
        out.append((number(r.data, at + 8, 4), r.data[at + 12]))
        lba += out[-1][0]
    return out


def unmap(i, lun, lba, blocks):
    data = bytes([0, 22, 0, 16, 0, 0, 0, 0]) + lba.to_bytes(8, 'big') + blocks.to_bytes(4, 'big') + bytes(4)
    r = i.do(bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), write=data, lun=lun)
    assert r.status == 0, r.key


def used(i, lun):
    """Log page 0Ch, in MiB."""
    r = i.do(bytes([0x4d, 0, 0x4c, 0, 0, 0, 0, 1, 0, 0]), read=256, lun=lun)
    assert r.status == 0 and number(r.data, 4, 2) == 2, (r.key, r.data)
    return number(r.data, 8, 4)


def page(i, lun, code):
    return i.do(bytes([0x12, 1, code, 0, 64, 0]), read=64, lun=lun).data


def stacks(o):
    """One device of each kind, 512-byte blocks."""
    o.mem('m0', 'a0', 'a1', 's0', 's1', 'p0')
    o.ctl('device', 'add', 'f0', '--path', o.file('f0', 64 << 20))
    o.ctl('array', 'create', 'mirror', '--level', 'raid1', '--members', 'a0,a1', '--assume-clean')
    o.ctl('array', 'create', 'stripes', '--level', 'raid0', '--members', 's0,s1', '--assume-clean')
    o.ctl('pool', 'create', 'pool', '--devices', 'p0')
    o.ctl('volume', 'create', 'pool/v', '--size', '32M')
    return ['m0', 'f0', 'mirror', 'stripes', 'pool/v']


def test_holes_are_seen_through_every_stack():
    with Orion() as o:
        devices = stacks(o)
        i = Initiator(o.iscsi(IQN, *devices), IQN)
        for lun, name in enumerate(devices):
            i.ready(lun)
            size = number(i.do(bytes([0x25]) + bytes(9), read=8, lun=lun).data, 0, 4) + 1
            limits = page(i, lun, 0xb0)
            assert number(limits, 28, 4) == 8 or name == 'f0', (name, limits)  # its file system's
            assert number(limits, 32, 4) == 1 << 31, (name, limits)
            assert page(i, lun, 0xb2)[5] == 0xe4, name
            assert status(i, lun) == [(size, DEALLOCATED)] and used(i, lun) == 0, (name, status(i, lun))
            assert i.write(2048, b'x' * (4096 * 512), lun=lun).status == 0
            assert status(i, lun) == [(2048, DEALLOCATED), (4096, MAPPED), (size - 6144, DEALLOCATED)], name
            assert status(i, lun, 2051)[0] == (4093, MAPPED), name
            assert used(i, lun) == 2, (name, used(i, lun))
            unmap(i, lun, 4096, 2048)
            assert status(i, lun) == [(2048, DEALLOCATED), (2048, MAPPED), (size - 4096, DEALLOCATED)], name
            assert used(i, lun) == 1 and not any(i.read(4096, 2048, lun=lun).data), name
            unmap(i, lun, 2049, 3)  # less than can be given back: then it may stay, and all around it does
            assert i.read(2048, 1, lun=lun).data == b'x' * 512 == i.read(2052, 1, lun=lun).data, name
            r = i.do(bytes([0x93, 9]) + (2048).to_bytes(8, 'big') + (2048).to_bytes(4, 'big') + bytes(2), lun=lun)
            assert r.status == 0, r.key  # WRITE SAME(16) with UNMAP and NDOB
            assert status(i, lun) == [(size, DEALLOCATED)] and used(i, lun) == 0, (name, status(i, lun))
        i.close()


run(test_holes_are_seen_through_every_stack)
