# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL while clients write over NBD and iSCSI to a volume on a mirror, whole or degraded: after the
restart all that was acknowledged and flushed is there, no block is torn, and the copies agree."""
import os
import random
import socket
import struct
import threading
import time

from iscsiwire import Initiator
from orion import FULL, Orion, run, wait_for

SEED = int(os.environ.get('ORION_SEED', '20261122'))
ROUNDS = 30 if FULL else 5
M = 1 << 20
BLOCK, BLOCKS = 4096, 256
DATA_OFFSET = M  # of members of this size
IQN = 'iqn.2026-01.com.example:t'


def block(base, number, generation):
    return (struct.pack('<QQQ', base, number, generation) * (BLOCK // 24 + 1))[:BLOCK]


class Nbd:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(60)
        self.s.connect(path)
        self.take(18)
        self.s.sendall(struct.pack('>I8sII', 3, b'IHAVEOPT', 1, 1) + b'v')
        self.take(10)

    def take(self, n):
        out = b''
        while len(out) < n:
            part = self.s.recv(n - len(out))
            if not part:
                raise EOFError
            out += part
        return out

    def do(self, kind, offset=0, length=0, data=b'', flags=0):
        self.s.sendall(struct.pack('>IHHQQI', 0x25609513, flags, kind, 0, offset, length) + data)
        _, error, _ = struct.unpack('>IIQ', self.take(16))
        assert error == 0, error
        return self.take(length) if kind == 0 else b''

    def write(self, offset, data, fua):
        self.do(1, offset, len(data), data, 1 if fua else 0)

    def flush(self):
        self.do(3)


class Iscsi:
    def __init__(self, addr, port):
        self.c = Initiator(addr, IQN, isid=b'\x40\0\x37\0\0' + bytes([port])).ready()

    def write(self, offset, data, fua):
        cdb = struct.pack('>BBIBHB', 0x2a, 8 if fua else 0, offset // 512, 0, len(data) // 512, 0)
        r = self.c.do(cdb, write=data)
        assert r.status == 0, r.sense

    def flush(self):
        assert self.c.do(struct.pack('>BBIBHB', 0x35, 0, 0, 0, 0, 0)).status == 0


class Writer(threading.Thread):
    """Writes blocks that tell who they are; knows the generation of each that must be there at
    least, and that may be there at most."""

    def __init__(self, client, base, before):
        super().__init__(daemon=True)
        self.client, self.base, self.error = client, base, None
        self.issued = list(before.flushed if before else [0] * BLOCKS)
        self.flushed = list(self.issued)
        self.generation = before.generation if before else 0
        self.rng = random.Random(SEED + base + self.generation)

    def run(self):
        acked = list(self.flushed)
        try:
            while True:
                first = self.rng.randrange(BLOCKS)
                which = range(first, min(first + self.rng.choice((1, 1, 4, 16)), BLOCKS))
                self.generation += 1
                for n in which:
                    self.issued[n] = self.generation
                fua = self.rng.random() < 0.1
                self.client.write(self.base + first * BLOCK,
                                  b''.join(block(self.base, n, self.generation) for n in which), fua)
                for n in which:
                    acked[n] = self.generation
                    if fua:
                        self.flushed[n] = self.generation
                if self.rng.random() < 0.15:
                    self.client.flush()
                    self.flushed = list(acked)
        except (OSError, EOFError):
            pass  # the cut
        except Exception as e:
            self.error = e

    def check(self, data):
        if self.error:
            raise self.error
        for n in range(BLOCKS):
            here = data[n * BLOCK:(n + 1) * BLOCK]
            generation = struct.unpack('<Q', here[16:24])[0]
            assert here == block(self.base, n, generation) or here == bytes(BLOCK), \
                'block %d at %d is torn' % (n, self.base)
            assert self.flushed[n] <= generation <= self.issued[n], (
                'block %d at %d' % (n, self.base), generation, self.flushed[n], self.issued[n])
            self.flushed[n] = generation  # it is what the next cut must find


def whole(o):
    a = o.http('GET', '/v1/arrays/a0').json
    return a['missing'] == 0 and a['sync_action'] == 'idle'


def heal(o):
    for m in o.ctl('array', 'show', 'a0')['members']:
        if m['state'] == 'faulty':
            o.ctl('array', 'remove', 'a0', m['device'])
    have = [m['device'] for m in o.ctl('array', 'show', 'a0')['members']]
    for n in ('f0', 'f1'):
        if n not in have:
            o.ctl('array', 'add', 'a0', n, '--force')
    wait_for(lambda: whole(o), 60, 'both copies')


def test_what_was_flushed_survives_cuts_and_the_copies_agree():
    rng = random.Random(SEED)
    print('seed', SEED, flush=True)
    with Orion() as o:
        for n in ('f0', 'f1'):
            o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '32M')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'f0,f1')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
        path = o.nbd('v', 'p0/v0').split('socket=')[1]
        addr = o.iscsi(IQN, 'p0/v0')
        writers, count = [None] * 4, 0
        for turn in range(ROUNDS):
            writers = [Writer(Nbd(path) if i % 2 else Iscsi(addr, i + 1), i * 2 * M, w)
                       for i, w in enumerate(writers)]
            for w in writers:
                w.start()
            time.sleep(rng.uniform(0.05, 0.4))
            if turn % 3 == 1:
                o.ctl('array', 'fail', 'a0', rng.choice(('f0', 'f1')))
                time.sleep(rng.uniform(0.05, 0.4))
            o.kill9()
            for w in writers:
                w.join()
            o.start()
            for again in range(2):  # as found, and after the resync
                c = Nbd(path)
                for w in writers:
                    w.check(c.do(0, w.base, BLOCK * BLOCKS))
                c.s.close()
                if not again:
                    heal(o)
            count += sum(g > 0 for w in writers for g in w.flushed)
        assert count > 100, 'hardly anything was flushed'
        assert o.http('GET', '/v1/system').json['problems'] == []
        o.stop()
        with open(o.dir + '/f0', 'rb') as a, open(o.dir + '/f1', 'rb') as b:
            a.seek(DATA_OFFSET), b.seek(DATA_OFFSET)
            assert a.read() == b.read(), 'the copies differ'


run(test_what_was_flushed_survives_cuts_and_the_copies_agree)
