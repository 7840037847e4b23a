# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""A client that misbehaves costs its own connection only: a second one works on all the while."""
import os
import random
import socket
import struct
import threading
import time

from iscsiwire import (DATA_IN, DATA_OUT, LOGOUT, NO_TAG, NOP_OUT, R2T, SCSI_CMD, SCSI_RSP, Initiator, crc32c, read10, text,
                       write10)
from orion import FULL, Orion, run, wait_for

IQN = 'iqn.2026-11.test:torture'


class Witness:
    """Another initiator: what it wrote stays, and it is answered soon."""

    def __init__(self, o):
        self.i = Initiator(o.addr, IQN, name='iqn.2026-11.test:witness', timeout=10).ready()
        self.data = os.urandom(65536)
        assert self.i.write(100000, self.data).status == 0

    def check(self):
        assert self.i.read(100000, 128).data == self.data
        assert self.i.nop(b'alive').data == b'alive'

    def leave(self):
        self.check()
        self.i.logout()
        self.i.close()


def start():
    o = Orion()
    o.mem('m0', size='64M')
    o.addr = o.iscsi(IQN, 'm0')
    o.fds_mark()
    return o


def dial(o):
    host, port = o.addr.rsplit(':', 1)
    s = socket.create_connection((host, int(port)), 20)
    return s


def sessions(o):
    return [s for s in o.http('GET', '/v1/sessions').json['items'] if s['protocol'] == 'iscsi']


def gone(o, witness_sessions=1):
    wait_for(lambda: len(sessions(o)) == witness_sessions, 15, 'the sessions to end')


def test_disconnects_in_mid_command():
    with start() as o:
        w = Witness(o)
        for n in range(40 if FULL else 15):
            i = Initiator(o.addr, IQN).ready()
            for k in range(n % 9):
                i.command(read10(0, 256), read=131072)
                i.command(write10(2000, 64), write=b'd' * 32768, unsolicited=bool(k & 1))
            if n % 3 == 0:
                reset(i)
            else:
                i.close()
            w.check()
        gone(o)
        w.leave()


def reset(i):
    i.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    i.close()


def test_a_reset_with_replies_queued():
    """What a reset drops from the queue lets others go on, and these have nowhere to answer to."""
    with start() as o:
        w = Witness(o)
        for reads, logout in ((2, True), (5, False)):
            i = Initiator(o.addr, IQN).ready()
            for _ in range(reads):
                i.command(read10(0, 16384), read=8 << 20)
            if logout:
                i.send(LOGOUT, 0x80, itt=i.tag(), words=(i.cid << 16, i.cmdsn, i.exp_statsn), immediate=True)
            else:  # it waits for memory
                i.command(write10(0, 16384), write=b'', expected=8 << 20, flags=0x80 | 0x20 | 1)
            time.sleep(0.3)
            reset(i)
            gone(o)
            w.check()
        w.leave()


def test_half_pdus():
    with start() as o:
        w = Witness(o)
        for cut in (1, 20, 47, 48, 49, 50, 500, 4000):
            i = Initiator(o.addr, IQN).ready()
            i.send(SCSI_CMD, 0xa1, itt=9, raw=struct.pack('>III', 4096, i.cmdsn, 0) +
                   write10(0, 8).ljust(16, b'\0'), data=b'h' * 4096, cut=cut)
            i.close()
            s = dial(o)
            s.sendall((b'\x43\x87' + bytes(46))[:min(cut, 48)])
            s.close()
            w.check()
        i = Initiator(o.addr, IQN).ready()  # one byte at a time is slow, not wrong
        whole = struct.pack('>BBHI', 0x40, 0x80, 0, 4) + bytes(8) + struct.pack('>IIII', 5, NO_TAG, i.cmdsn,
                                                                              0) + bytes(16) + b'slow'
        for b in whole:
            i.sock.sendall(bytes([b]))
        assert i.recv().data == b'slow'
        i.logout()
        i.close()
        gone(o)
        w.leave()


def test_a_reset_by_another_in_the_middle_of_data():
    """LOGICAL UNIT RESET while a data segment is half here: what still comes of it goes nowhere."""
    with start() as o:
        other = Initiator(o.addr, IQN, name='iqn.2026-11.test:other').ready()
        for digest in ('None', 'CRC32C'):
            for immediate in (True, False):
                i = Initiator(o.addr, IQN, MaxBurstLength='65536', HeaderDigest=digest, DataDigest=digest).ready()
                data, itt = b'h' * 65536, i.tag()
                body = data + (crc32c(data) if i.data_digest else b'')
                head = struct.pack('>III', len(data), i.sn(), i.exp_statsn) + write10(0, 128).ljust(16, b'\0')
                i.send(SCSI_CMD, 0xa1, itt=itt, raw=head, data=data if immediate else b'', cut=30000)
                if not immediate:
                    r2t = i.recv()
                    assert r2t.op == R2T and r2t.w44 == 65536, r2t
                    i.send(DATA_OUT, 0x80, itt=itt, words=(r2t.w20, 0, i.exp_statsn, 0, 0, 0), data=data, cut=30000)
                sent = 30000 - (52 if i.header_digest else 48)
                mine = lambda: [s for s in sessions(o) if s['client'] == i.name and s['inflight']]
                wait_for(mine, what='the command to be there')
                other.tmf(5)
                assert other.recv().head[2] == 0
                i.sock.sendall(body[sent:])
                r = i.reply(itt)
                assert r.status == 0x40 and r.key is None, 'TASK ABORTED: TAS is 1'
                assert i.do(bytes(6)).key == (6, 0x29, 3)
                assert i.ready().read(0, 128).data == bytes(65536)
                other.ready()
                i.logout()
                i.close()
        other.logout()


def test_garbage():
    rng = random.Random(4711)
    with start() as o:
        w = Witness(o)
        for n in range(200 if FULL else 60):
            s = dial(o)
            s.sendall(rng.randbytes(rng.randrange(1, 3000)))
            s.close()
            i = Initiator(o.addr, IQN, DataDigest=rng.choice(('None', 'CRC32C')))
            junk = bytearray(rng.randbytes(rng.randrange(48, 2000)))
            junk[0] = rng.choice((0, 1, 2, 4, 5, 6, 0x41, 0x10, 0x3f))
            junk[4] = rng.choice((0, 0, 1, 255))
            junk[5:8] = rng.choice((b'\0\0\0', b'\0\0\x30', b'\0\x04\0', b'\xff\xff\xff'))
            if n & 1:  # a CmdSN that is in order
                junk[24:28] = struct.pack('>I', i.cmdsn)
            try:
                i.sock.sendall(junk)
            except ConnectionError:
                pass
            i.close()
        w.check()
        gone(o)
        w.leave()


def test_a_client_that_never_reads():
    with start() as o:
        w = Witness(o)
        i = Initiator(o.addr, IQN).ready()
        i.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        i.sock.settimeout(1)
        before = resident(o)
        try:
            for _ in range(3000):
                if (i.max_cmdsn - i.cmdsn) & 0xffffffff < 1 << 31:
                    i.command(read10(0, 1024), read=524288)
                i.send(NOP_OUT, 0x80, itt=i.tag(), words=(NO_TAG, i.cmdsn, 0), data=b'f' * 8192, immediate=True)
        except (socket.timeout, BlockingIOError):
            pass
        w.check()
        grown = resident(o) - before
        assert grown < 200 << 20, 'it made the daemon grow by %d MiB' % (grown >> 20)
        i.close()
        gone(o)
        w.leave()


def resident(o):
    with open('/proc/%d/statm' % o.proc.pid) as f:
        return int(f.read().split()[1]) * 4096


def test_data_that_never_comes():
    """All commands of the window wait for data, with more memory asked for than a session may hold."""
    with start() as o:
        w = Witness(o)
        i = Initiator(o.addr, IQN, MaxBurstLength='1048576').ready()
        before = resident(o)
        for n in range(100):
            i.command(write10(0, 8192), write=b'', expected=4 << 20, flags=0x80 | 0x20 | 1)
        w.check()
        assert resident(o) - before < 300 << 20
        # memory goes to the first; as these finish, the others get theirs
        i.close()
        gone(o)
        i = Initiator(o.addr, IQN).ready()
        data = os.urandom(4 << 20)
        tags = [i.command(write10(0, 8192), write=data) for _ in range(20)]
        left = set(tags)
        while left:
            p = i.recv()
            if p.op == R2T:
                i.data_out(p.itt, p.w20, p.head[8:16], p.w40, data[p.w40:p.w40 + p.w44], 65536)
            else:
                assert p.itt in left and p.head[3] == 0, p
                left.remove(p.itt)
        assert i.read(0, 8192, read=4 << 20).data == data
        i.logout()
        i.close()
        w.leave()


def test_a_lun_goes_while_its_replies_are_not_read():
    """Its connection goes, for a byte from time to time would hold the LUN for days."""
    with start() as o:
        o.mem('m1')
        o.ctl('iscsi', 'lun', IQN, 1, '--device', 'm1')
        w = Witness(o)
        i = Initiator(o.addr, IQN).ready().ready(1)
        for _ in range(24):
            i.command(read10(0, 2048), read=1 << 20, lun=1)
        first = i.recv()
        assert first.op == DATA_IN
        over = threading.Event()

        def trickle():
            try:
                while not over.wait(0.1) and i.sock.recv(65536):
                    pass
            except OSError:
                pass
        reader = threading.Thread(target=trickle)
        reader.start()
        o.ctl('iscsi', 'unlun', IQN, 1, '--disconnect', json_out=False)
        over.set()
        reader.join()
        assert i.closed()
        i.close()
        w.i.ready()
        w.leave()


def test_a_lun_goes_while_data_is_owed():
    """Unasked data and asked data that never come hold up nobody: their commands are aborted."""
    with start() as o:
        o.mem('m1')
        o.ctl('iscsi', 'lun', IQN, 1, '--device', 'm1')
        w = Witness(o)
        i = Initiator(o.addr, IQN).ready().ready(1)
        asked = i.command(write10(0, 2048), lun=1, write=b'', expected=1 << 20, flags=0x80 | 0x20 | 1)
        assert i.recv().op == R2T
        unasked = i.command(write10(0, 8), lun=1, write=b'', expected=4096, flags=0x20 | 1)
        half = i.tag()
        i.send(SCSI_CMD, 0xa1, bytes([0, 1]) + bytes(6), half, raw=struct.pack('>III', 8192, i.sn(), i.exp_statsn) +
               write10(0, 16).ljust(16, b'\0'), data=bytes(8192), cut=1000)
        o.ctl('iscsi', 'unlun', IQN, 1, '--disconnect', json_out=False)
        left = {asked, unasked, half}
        i.sock.sendall(bytes(8192 + 48 - 1000))
        while left:
            p = i.status(i.recv())
            if p.op == R2T:
                continue
            assert p.op == SCSI_RSP and p.head[3] == 0x40, p  # TASK ABORTED
            left.remove(p.itt)
        assert i.do(bytes(6), lun=1).key == (5, 0x25, 0)
        assert i.ready().write(0, b'x' * 512).status == 0
        i.logout()
        i.close()
        w.i.ready()
        w.leave()
        o.ctl('device', 'remove', 'm1', json_out=False)


def test_logins_that_stay_away():
    with start() as o:
        w = Witness(o)
        begin = time.monotonic()
        idle = [dial(o) for _ in range(300)]
        late = Initiator(o.addr, IQN).ready()  # the newcomer gets in, the oldest were dropped
        late.logout()
        late.close()
        dropped = 0
        for s in idle[:44]:
            s.settimeout(60)
            try:
                dropped += s.recv(1) == b''
            except ConnectionError:
                dropped += 1
        assert dropped == 44, dropped
        s = idle[-1]
        s.settimeout(60)
        assert s.recv(1) == b'' and 8 < time.monotonic() - begin, 'the deadline is 10 s'
        for s in idle:
            s.close()
        w.leave()


def test_discoveries_that_stay_make_room():
    """Discovery sessions and logins share one limit; the oldest discovery goes first."""
    with start() as o:
        w = Witness(o)
        found = [Initiator(o.addr, timeout=60) for _ in range(250)]
        idle = [dial(o) for _ in range(12)]  # 262 with these
        try:
            wait_for(lambda: not found[0].nop(b'busy'), 30, 'its end')  # silence is no reason
        except (EOFError, ConnectionError):
            pass
        assert all(i.closed() for i in found[1:6])
        found[-1].nop(b'still here')
        late = Initiator(o.addr, IQN).ready()
        late.logout()
        w.leave()
        for s in found + idle + [late]:
            s.close()
        wait_for(lambda: not sessions(o), what='the end of the discoveries')


def test_removal_under_load():
    with start() as o:
        i = Initiator(o.addr, IQN).ready()
        o.ctl('iscsi', 'delete', IQN, expect=5)
        for _ in range(20):
            i.command(read10(0, 256), read=131072)
        o.ctl('iscsi', 'delete', IQN, '--disconnect', json_out=False)
        assert i.closed()
        i.close()
        o.ctl('device', 'remove', 'm0', json_out=False)


def test_the_daemon_stops_with_sessions_open():
    with start() as o:
        idle, busy = Initiator(o.addr, IQN).ready(), Initiator(o.addr, IQN, name='iqn.2026-11.test:busy').ready()
        discovery, halfway = Initiator(o.addr), dial(o)
        busy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(60):
            busy.command(read10(0, 1024), read=524288)  # and never reads
        o.marked = None
        o.stop()
        assert idle.closed() and discovery.closed()
        for s in (idle, busy, discovery, halfway):
            s.close()


def test_text_without_end():
    with start() as o:
        w = Witness(o)
        i = Initiator(o.addr, IQN, login=False)
        part = text([('X-filler', 'x' * 200)]) * 30
        try:
            for _ in range(40):
                i.login_pdu(1, 3, part, transit=False, more=True)
            raise AssertionError('240 KiB of text were taken')
        except Exception as e:
            assert '0200' in str(e), e
        i.close()
        w.leave()


run(test_disconnects_in_mid_command, test_a_reset_with_replies_queued, test_half_pdus,
    test_a_reset_by_another_in_the_middle_of_data,
    test_garbage, test_a_client_that_never_reads, test_data_that_never_comes,
    test_a_lun_goes_while_its_replies_are_not_read, test_a_lun_goes_while_data_is_owed, test_logins_that_stay_away,
    test_discoveries_that_stay_make_room,
    test_removal_under_load, test_the_daemon_stops_with_sessions_open, test_text_without_end)
