# SPDX-License-Identifier: GPL-2.0-or-later
"""What is mapped and what is not, through every kind of stack: GET LBA STATUS, UNMAP, log page 0Ch."""
from iscsiwire import Initiator
from orion import Orion, run, wait_for

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


def select(i, page, lun=0, save=False):
    r = i.do(bytes([0x55, 0x10 | save, 0, 0, 0, 0, 0, 0, 8 + len(page), 0]), write=bytes(8) + page, lun=lun)
    assert r.status == 0, (r.key, r.sense)


def set_threshold(i, mib, **kw):
    select(i, bytes([0x5c, 2, 0, 20]) + bytes(12) + bytes([0x81, 2, 0, 0]) + mib.to_bytes(4, 'big'), **kw)


def notify(i, on, **kw):
    """LBPERE."""
    select(i, bytes([1, 10, 0, 0, 0, 0, 0, 0x80 * on, 0, 0, 0, 0]), **kw)


def attention(i, lun=0):
    r = i.do(bytes(6), lun=lun)
    return r.key and (r.key, r.sense)


def told(i, lun=0):
    """The next attention, which is of the threshold."""
    key, sense = wait_for(lambda: attention(i, lun), what='the unit attention')
    assert key == (6, 0x38, 7) and sense[0] == 0xf0 and number(sense, 3, 4) == 16, (key, sense)


def is_over(addr):
    """Does who comes now learn of it?"""
    i = Initiator(addr, IQN, isid=b'\x40\0\x37\0\0\x63')
    assert attention(i)[0] == (6, 0x29, 0)
    over = attention(i)
    i.close()
    assert over is None or over[0] == (6, 0x38, 7), over
    return over is not None


def test_a_threshold_is_told_to_all_sessions_once_and_again_after_unmap():
    with Orion() as o:
        o.ctl('device', 'add', 'f0', '--path', o.file('f0', 64 << 20))
        addr = o.iscsi(IQN, 'f0')
        a, b = (Initiator(addr, IQN, isid=b'\x40\0\x37\0\0' + bytes([n])).ready() for n in (1, 2))
        set_threshold(a, 4)
        assert attention(b)[0] == (6, 0x2a, 1) and attention(b) is None
        for _ in range(2):
            assert a.write(0, b'x' * (5 << 20)).status == 0
            told(a)
            told(b)
            assert is_over(addr) and attention(a) is None and attention(b) is None
            unmap(b, 0, 0, 5 << 11)
            wait_for(lambda: not is_over(addr), what='less to be seen')
            assert attention(a) is None and attention(b) is None
        events = [e for e in o.ctl('events')['items'] if e['kind'] == 'lun-thin-threshold']
        assert [e['object'] for e in events] == ['LUN %s/0' % IQN] * 2, events
        for i in (a, b):
            i.close()


def test_a_saved_threshold_outlives_a_restart_and_so_does_its_silence():
    with Orion() as o:
        for name in ('f0', 'f1'):
            o.ctl('device', 'add', name, '--path', o.file(name, 64 << 20))
        addr = o.iscsi(IQN, 'f0', 'f1')
        i = Initiator(addr, IQN)
        for lun in (1, 0):
            i.ready(lun)
            notify(i, lun == 0, lun=lun, save=True)
            set_threshold(i, 2, lun=lun, save=True)
            assert i.write(0, b'x' * (3 << 20), lun=lun).status == 0
        told(i)
        assert attention(i, 1) is None
        i.close()
        o.restart(kill=True)
        i = Initiator(addr, IQN)
        for lun in (0, 1):
            page = i.do(bytes([0x1a, 8, 0xdc, 2, 64, 0]), read=64, lun=lun)
            while page.key:
                assert page.key[0] == 6, page.key
                page = i.do(bytes([0x1a, 8, 0xdc, 2, 64, 0]), read=64, lun=lun)
            assert page.data[4 + 16] == 0x81 and number(page.data, 4 + 20, 4) == 2, (lun, page.data)
        wait_for(lambda: is_over(addr), what='the threshold to be seen')
        assert attention(i, 1) is None
        i.close()


def test_every_kind_of_stack_has_a_threshold():
    with Orion() as o:
        devices = stacks(o)
        i = Initiator(o.iscsi(IQN, *devices), IQN)
        for lun in range(len(devices)):
            i.ready(lun)
            set_threshold(i, 2, lun=lun)
            assert i.write(0, b'x' * (2 << 20), lun=lun).status == 0
        for lun in range(len(devices)):
            told(i, lun)
        i.close()


run(test_holes_are_seen_through_every_stack, test_every_kind_of_stack_has_a_threshold,
    test_a_threshold_is_told_to_all_sessions_once_and_again_after_unmap,
    test_a_saved_threshold_outlives_a_restart_and_so_does_its_silence)
