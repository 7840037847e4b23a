# SPDX-License-Identifier: GPL-2.0-or-later
"""A storm of initiators that vanish in the middle of everything, many at once (thousands in --full): those beside
them are served with their own data, and nothing is left behind."""
import os
import random
import re
import socket
import struct
import threading

from iscsiwire import (DATA_OUT, NO_TAG, NOP_OUT, R2T, SCSI_CMD, TEXT, Initiator, LoginError, read10, write10)
from orion import FULL, Orion, run, wait_for

IQN = 'iqn.2026-11.test:storm'
THREADS = 8
COUNT = 6000 if FULL else 160
USED = 'orion_buffer_bytes{state="used"}'


class Beside(threading.Thread):
    """One who behaves: writes, reads, compares, as long as the storm lasts. Somebody may reset its LUN."""

    def __init__(self, o, n):
        super().__init__()
        self.i = Initiator(o.addr, IQN, name='iqn.2026-11.test:beside%d' % n, timeout=60).ready()
        self.lba, self.done, self.failed, self.rounds = 40000 + 1000 * n, False, None, 0

    def sure(self, what):
        for _ in range(1000):
            r = what()
            if r.status == 0:
                return r
            assert r.status == 0x40 or r.key[0] == 6, (r.status, r.key)  # TASK ABORTED, or a unit attention
        raise AssertionError('nothing but resets')

    def run(self):
        try:
            while not self.done:
                data = os.urandom(32768)
                self.sure(lambda: self.i.write(self.lba, data))
                assert self.sure(lambda: self.i.read(self.lba, 64)).data == data, 'another\'s data'
                self.rounds += 1
        except Exception as e:
            self.failed = e

    def end(self):
        self.done = True
        self.join()
        if self.failed:
            raise self.failed
        self.i.logout()
        self.i.close()


def reset(i):
    """The connection goes by RST, with what lies in its buffers."""
    i.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    i.close()


def login(o, rng, name, **kw):
    digest = rng.choice(('None', 'None', 'CRC32C'))
    return Initiator(o.addr, IQN, name=name, timeout=60, DataDigest=digest, HeaderDigest=digest,
                     InitialR2T=rng.choice(('Yes', 'No')), **kw)


def in_flight(o, rng, name):
    i = login(o, rng, name)
    for _ in range(rng.randrange(1, 20)):
        if rng.random() < .5:
            i.command(read10(rng.randrange(30000), 128), read=65536)
        else:
            i.command(write10(rng.randrange(30000), 64), write=b'd' * 32768)
    return i


def half(o, rng, name):
    i = login(o, rng, name)
    words = struct.pack('>III', 65536, i.sn(), i.exp_statsn) + write10(0, 128).ljust(16, b'\0')
    i.send(SCSI_CMD, 0xa1, itt=9, raw=words, data=b'h' * 65536, cut=rng.randrange(1, 65000))
    return i


def withheld(o, rng, name):
    """R2Ts are answered with the half of what they ask for, or not at all."""
    i = login(o, rng, name, MaxBurstLength='65536')
    tags = [i.command(write10(0, 512), write=b'', expected=262144, flags=0xa1) for _ in range(4)]
    for _ in range(rng.randrange(4)):
        p = i.recv()
        while p.op != R2T:
            p = i.recv()
        i.send(DATA_OUT, 0x80, itt=p.itt, words=(p.w20, 0, 0, 0, 0, p.w40), data=b'w' * p.w44,
               cut=rng.randrange(48, 60000))
        if rng.random() < .5:
            break
    return i if tags else None


def never_reads(o, rng, name):
    i = login(o, rng, name)
    i.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(40):
        i.command(read10(0, 1024), read=524288)
    i.send(NOP_OUT, 0x80, itt=7, words=(NO_TAG, i.cmdsn, 0), data=b'f' * 4096, immediate=True)
    return i


def rubbish(o, rng, name):
    i = Initiator(o.addr, IQN, name=name, timeout=60, login=rng.random() < .5)
    junk = bytearray(rng.randbytes(rng.randrange(1, 3000)))
    if len(junk) > 48:
        junk[0], junk[4] = rng.choice((0, 1, 2, 4, 5, 6, 0x41, 0x43, 0x10, 0x3f)), 0
        junk[5:8] = rng.choice((b'\0\0\0', b'\0\0\x30', b'\0\x04\0'))
    i.sock.sendall(junk)
    return i


def same_port(o, rng, name):
    """All of them are one initiator port: each takes the session of the last."""
    i = login(o, rng, 'iqn.2026-11.test:one')
    for _ in range(8):
        i.command(read10(0, 128), read=65536)
    return i


def resets(o, rng, name):
    i = login(o, rng, name)
    for function in (5, 2, 5):
        i.command(write10(0, 64), write=b'', expected=32768, flags=0xa1)
        i.tmf(function)
    if rng.random() < .5:
        while i.recv().op != 0x22:
            pass
    return i


def text(o, rng, name):
    i = login(o, rng, name)
    i.send(TEXT, 0x40, itt=3, words=(NO_TAG, i.sn(), 0), data=b'SendTargets=' + b'x' * rng.randrange(4000))
    return i


ABUSES = (in_flight, half, withheld, never_reads, rubbish, same_port, resets, text)


def storm(o, count):
    failed = []

    def work(k):
        rng = random.Random(k)
        for n in range(k, count, THREADS):
            try:
                reset(ABUSES[n // THREADS % len(ABUSES)](o, rng, 'iqn.2026-11.test:storm%d' % k))
            except (ConnectionError, EOFError, LoginError):
                pass  # thrown out, by itself or by another
            except Exception as e:
                failed.append(e)
                return
    threads = [threading.Thread(target=work, args=(k,)) for k in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


def metric(o, name):
    text = o.http('GET', '/metrics').body.decode()
    return sum(float(v) for v in re.findall(r'^%s(?:{[^}]*})? (\S+)$' % re.escape(name), text, re.M))


def sessions(o):
    return [s for s in o.http('GET', '/v1/sessions').json['items'] if s['protocol'] == 'iscsi']


def test_a_storm_leaves_nothing_behind():
    with Orion() as o:
        o.mem('m0', size='64M')
        o.addr = o.iscsi(IQN, 'm0')
        o.fds_mark()
        used = metric(o, USED)
        beside = [Beside(o, n) for n in range(2)]
        for b in beside:
            b.start()
        memory = []
        for _ in range(3):
            storm(o, COUNT // 3)
            wait_for(lambda: len(sessions(o)) == len(beside), what='the sessions to end')
            memory.append(int(metric(o, 'process_resident_memory_bytes')) >> 20)
        for b in beside:
            b.end()
        wait_for(lambda: not sessions(o), what='the last sessions to end')
        assert metric(o, 'orion_device_inflight_requests') == 0
        assert not o.http('GET', '/v1/system/inflight').json['items']
        assert metric(o, USED) == used, 'buffers were not given back'
        print('        %d connections; beside them %s rounds; memory in MiB %s' % (
            COUNT, [b.rounds for b in beside], memory), flush=True)
        assert all(b.rounds for b in beside)
        with open('/proc/%d/maps' % o.proc.pid) as f:
            sanitized = 'libasan' in f.read()  # which keeps what was freed
        assert sanitized or memory[2] < memory[1] + 64, memory


run(test_a_storm_leaves_nothing_behind)
