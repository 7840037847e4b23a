# SPDX-License-Identifier: GPL-2.0-or-later
"""Reservations that outlive a loss of power bind whoever comes first after it."""
import subprocess
import threading

from iscsiwire import Initiator
from orion import Orion, need, run, wait_for

need('qemu-io')
IQN = 'iqn.2026-11.test:power'
KEY = (7).to_bytes(8, 'big')
EXCLUSIVE_ACCESS = 3


def pr_out(i, action, kind=0, key=bytes(8), new=bytes(8), aptpl=0):
    cdb = bytes([0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0])
    r = i.do(cdb, write=key + new + bytes([0, 0, 0, 0, aptpl, 0, 0, 0]))
    assert r.status == 0, (action, r.status, r.key)


class Writer(threading.Thread):
    """Connects and writes in a loop, whether or not there is a daemon."""

    def __init__(self, uri):
        super().__init__()
        self.uri, self.ended, self.tries, self.written = uri, False, 0, 0

    def write(self):
        p = subprocess.run(['qemu-io', '-f', 'raw', '-c', 'write -P 0xbb 0 4k', self.uri], timeout=60,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return 'wrote 4096/4096' in p.stdout, p.stdout

    def run(self):
        while not self.ended:
            self.written += self.write()[0]
            self.tries += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join()


def reserve(o, addr):
    i = Initiator(addr, IQN).ready()
    pr_out(i, 0, new=KEY, aptpl=1)
    pr_out(i, 1, EXCLUSIVE_ACCESS, key=KEY)
    return i


def settle(w):
    """What was under way when it was called has ended."""
    before = w.tries
    wait_for(lambda: w.tries > before + 1, 60, 'the writer')


def test_no_writer_slips_in_after_a_kill():
    with Orion() as o:
        o.ctl('device', 'add', 'f0', '--path', o.file('f0', 64 << 20))
        addr = o.iscsi(IQN, 'f0')
        with Writer(o.nbd('f0', 'f0')) as w:
            wait_for(lambda: w.written, 60, 'a first write')
            i = reserve(o, addr)
            settle(w)
            written = w.written
            for _ in range(2):
                o.restart(kill=True)
                settle(w)
                said = w.write()[1]
                assert 'not permitted' in said, said
            assert w.written == written
            i = Initiator(addr, IQN).ready()
            pr_out(i, 3, key=KEY)  # CLEAR
            wait_for(lambda: w.written > written, 60, 'writes after the reservation')
            i.close()


def test_a_reservation_binds_without_its_lun():
    with Orion() as o:
        o.ctl('device', 'add', 'f0', '--path', o.file('f0', 64 << 20))
        addr = o.iscsi(IQN, 'f0')
        w = Writer(o.nbd('f0', 'f0'))
        reserve(o, addr).close()
        o.ctl('iscsi', 'unlun', IQN, 0, '--disconnect')
        o.restart(kill=True)
        said = w.write()[1]
        assert 'not permitted' in said, said
        o.ctl('nbd', 'export', 'r', '--device', 'f0', '--read-only')
        p = subprocess.run(['qemu-io', '-r', '-f', 'raw', '-c', 'read 0 4k', w.uri.replace('f0', 'r', 1)],
                           timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert 'not permitted' in p.stdout, 'exclusive access is for readers, too: ' + p.stdout
        o.ctl('iscsi', 'lun', IQN, 0, '--device', 'f0')
        i = Initiator(addr, IQN).ready()
        pr_out(i, 3, key=KEY)
        assert w.write()[0]
        i.close()


def test_a_sanitize_cut_off_holds_until_it_is_redone():
    with Orion() as o:
        o.mem('m0')
        o.ctl('device', 'add', 'f0', '--type', 'fault', '--on', 'm0', '--rules', 'write:hold:offset=40M')
        addr = o.iscsi(IQN, 'f0')
        w = Writer(o.nbd('f0', 'f0'))
        assert w.write()[0]
        i = Initiator(addr, IQN).ready()
        r = i.do(bytes([0x48, 0x81, 0, 0, 0, 0, 0, 0, 5, 0]), write=bytes([1, 0, 0, 1, 0x5a]))  # IMMED
        assert r.status == 0, r.key
        for _ in range(2):
            wait_for(lambda: 'not permitted' in w.write()[1], 60, 'the gate to close')
            i = Initiator(addr, IQN)
            assert [i.do(bytes(6)).key for _ in range(2)] == [(6, 0x29, 0), (2, 0x04, 0x1b)]
            o.restart(kill=True)
            said = w.write()[1]
            assert 'not permitted' in said, said
        o.kill9()  # the write is held for ever


run(test_no_writer_slips_in_after_a_kill, test_a_reservation_binds_without_its_lun,
    test_a_sanitize_cut_off_holds_until_it_is_redone)
