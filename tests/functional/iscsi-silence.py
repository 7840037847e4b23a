# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""Initiators that fall silent are asked whether they live, and let go when they do not answer."""
import time

from iscsiwire import NO_TAG, NOP_IN, NOP_OUT, Initiator
from orion import Orion, run

IQN = 'iqn.2026-11.test:silence'


def test_a_silent_initiator_is_pinged_then_dropped():
    with Orion() as o:
        o.mem('m0')
        addr = o.iscsi(IQN, 'm0')
        o.fds_mark()
        i = Initiator(addr, IQN, timeout=150).ready()
        begin = time.monotonic()
        p = i.recv()
        assert p.op == NOP_IN and p.itt == NO_TAG and p.w20 != NO_TAG, p
        assert time.monotonic() - begin > 15
        i.send(NOP_OUT, 0x80, itt=NO_TAG, words=(p.w20, i.cmdsn, i.exp_statsn), immediate=True)
        assert i.read(0, 8).status == 0
        begin = time.monotonic()
        assert i.recv().op == NOP_IN
        assert i.closed() and time.monotonic() - begin > 75
        i.close()


def test_discovery_does_not_last():
    """However much is asked."""
    with Orion() as o:
        addr = o.iscsi(IQN)
        i = Initiator(addr, timeout=150)
        begin = time.monotonic()
        try:
            while time.monotonic() - begin < 150:
                i.nop(b'more')
                time.sleep(1)
        except (EOFError, ConnectionError):
            pass
        assert 50 < time.monotonic() - begin < 150
        i.close()


def test_a_gap_that_stays_ends_the_session():
    with Orion() as o:
        o.mem('m0')
        addr = o.iscsi(IQN, 'm0')
        o.ctl('iscsi', 'set', IQN, '--max-connections', 2)
        o.fds_mark()
        a = Initiator(addr, IQN, timeout=150, MaxConnections='2').ready()
        b = Initiator(addr, IQN, login=False, timeout=150).join(a, 2)
        a.sn()
        begin = time.monotonic()
        b.command(bytes(6))
        b.nop()
        assert a.closed() and b.closed() and time.monotonic() - begin > 25
        a.close(), b.close()


run(test_a_gap_that_stays_ends_the_session, test_a_silent_initiator_is_pinged_then_dropped, test_discovery_does_not_last)
