# SPDX-License-Identifier: GPL-2.0-or-later
"""A target of a thousand LUNs: one more is added at the price of the first, and disturbs nobody."""
import os
import tempfile
import time

from iscsiwire import Initiator
from orion import Orion, run

IQN = 'iqn.2026-11.test:many'
if os.access('/dev/shm', os.W_OK):
    tempfile.tempdir = '/dev/shm'  # what counts is what we take, not the disk's fsync
COUNT = 1000


def lun(n):
    """SAM's flat space addressing beyond 255."""
    return bytes([0x40 | n >> 8, n & 255]) + bytes(6) if n > 255 else bytes([0, n]) + bytes(6)


def add(o, n):
    begin = time.monotonic()
    r = o.http('PUT', '/v1/iscsi/targets/%s/luns/%d' % (IQN, n), {'device': 'd%d' % n})
    assert r.status == 201, r.body
    return (time.monotonic() - begin) * 1000


def login_and_list(addr):
    """Milliseconds of the login, and of REPORT LUNS to its end; the LUNs."""
    begin = time.monotonic()
    i = Initiator(addr, IQN, isid=b'\x40\0\x37\0\0\7')
    logged_in = time.monotonic()
    size = 8 + 8 * (COUNT + 32)
    cdb = bytes([0xa0]) + bytes(5) + size.to_bytes(4, 'big') + bytes(2)
    r = i.do(cdb, read=size)
    end = time.monotonic()
    assert r.status == 0, r.key
    n = int.from_bytes(r.data[:4], 'big')
    luns = [r.data[8 + at:16 + at] for at in range(0, n, 8)]
    i.logout()
    return (logged_in - begin) * 1000, (end - logged_in) * 1000, luns


def test_a_thousand_luns():
    with Orion() as o:
        for n in range(COUNT + 21):
            assert o.http('PUT', '/v1/devices/d%d' % n, {'type': 'mem', 'size': '1M'}).status == 201
        addr = o.iscsi(IQN)
        first = [add(o, n) for n in range(COUNT)]
        i = Initiator(addr, IQN).ready()
        i.write(0, b'k' * 512)
        last = [add(o, COUNT + n) for n in range(21)]
        r = i.read(0, 1)  # told once of the new LUNs, and nothing else changed
        assert r.key == (6, 0x3f, 0x0e) or r.data == b'k' * 512, r.key
        assert i.read(0, 1).data == b'k' * 512
        login, report, luns = login_and_list(addr)
        assert sorted(luns) == sorted(lun(n) for n in range(COUNT + 21)), len(luns)
        print('        adding a LUN: the first ten %.1f ms, after a thousand %.1f ms; '
              'login %.1f ms, REPORT LUNS %.1f ms' % (sorted(first[:10])[5], sorted(last)[10], login, report),
              flush=True)
        i.logout()
        begin = time.monotonic()
        o.stop()
        o.start()
        _, _, luns = login_and_list(addr)
        assert len(luns) == COUNT + 21, len(luns)
        print('        stop and start again: %.1f s' % (time.monotonic() - begin), flush=True)
        o.fds_mark()


run(test_a_thousand_luns)
