# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""The demonstration of docs/raid.md: six disks, RAID 6, over NBD, under load the whole time.

Two disks fail, the daemon is killed, two spares are filled, the daemon is killed again meanwhile, one
more disk rots and is named by the scrub, and repaired. fio and a client of our own, who writes through
all of it, find each byte that was acknowledged.
"""
import os
import random
import threading
import time

from orion import Orion, need, run, sh, skip, wait_for

need('fio', 'mdadm')
if 'nbd' not in sh('fio', '--enghelp'):
    skip('fio has no nbd engine')
try:
    import nbd
except ImportError:
    skip('python3-libnbd is not installed')

MIB = 1 << 20
DISK = 96 * MIB
FIO, OURS = 128 * MIB, 64 * MIB  # the first bytes of the array are fio's, the next ours
BLOCK = 4096


def step(text):
    print('   ', text, flush=True)


class Client(threading.Thread):
    """Writes one random block after another and connects again whenever the daemon has gone."""

    def __init__(self, uri):
        super().__init__(daemon=True)
        self.uri, self.random = uri, random.Random(7)
        self.version = [0] * (OURS // BLOCK)
        self.count = self.broken = 0
        self.over, self.error, self.handle = False, None, None

    def connect(self):
        def once():
            try:
                h = nbd.NBD()
                h.connect_uri(self.uri)
                return h
            except nbd.Error:
                return None
        self.handle = wait_for(once, 120, 'a connection')

    @staticmethod
    def block(n, version):
        return (b'%016d%016d' % (n, version)) * (BLOCK // 32) if version else bytes(BLOCK)

    def look(self, n, *allowed):
        data = bytes(self.handle.pread(BLOCK, FIO + n * BLOCK))
        for version in allowed:
            if data == self.block(n, version):
                return version
        raise AssertionError('block %d holds %r, expected version %s' % (n, data[:32], allowed))

    def one(self):
        n = self.random.randrange(len(self.version))
        old, new = self.version[n], self.count + 1
        try:
            self.handle.pwrite(self.block(n, new), FIO + n * BLOCK)
            self.version[n] = new
        except nbd.Error:  # it was done or not
            self.broken += 1
            self.connect()
            self.version[n] = self.look(n, old, new)
        self.count += 1

    def run(self):
        try:
            self.connect()
            while not self.over:
                self.one()
        except Exception as e:
            self.error = e

    def alive(self):
        """It has written something since."""
        before = self.count
        wait_for(lambda: self.error or self.count > before + 20, 120, 'the client to write')
        if self.error:
            raise self.error

    def end(self):
        self.over = True
        self.join(120)
        if self.error:
            raise self.error

    def verify(self):
        self.connect()
        for n, version in enumerate(self.version):
            self.look(n, version)


def fio(uri, *more):
    sh('fio', '--name=x', '--ioengine=nbd', '--uri=' + uri, '--rw=randwrite', '--bsrange=4k-512k',
       '--iodepth=16', '--size=%d' % FIO, '--io_size=%d' % FIO, '--verify=crc32c', '--verify_fatal=1',
       '--randseed=11', '--output-format=terse', *more, timeout=600)


def array(o):
    return o.ctl('array', 'show', 'a')


def idle(o):
    def quiet():
        a = array(o)
        return a if a['sync_action'] == 'idle' and not a['sync_job'] else None
    return wait_for(quiet, 600, 'the array to be idle')


def rot(path, offset):
    with open(path, 'r+b') as f:
        f.seek(offset)
        f.write(os.urandom(512))


def test_verify_is_clean_after_all_that_may_happen():
    with Orion() as o:
        disks = [o.file('disk%d' % i, DISK) for i in range(8)]
        for i, path in enumerate(disks):
            o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', path)
        step('six disks, RAID 6, bitmap, over NBD')
        o.ctl('array', 'create', 'a', '--level', 'raid6', '--members', 'd0,d1,d2,d3,d4,d5', '--chunk',
              '64K', '--bitmap', 'internal', '--bitmap-chunk', '1M')
        uri = o.nbd('vol', 'a')
        client = Client(uri)
        client.start()
        fio(uri, '--verify_only=0')
        step('two disks fail, and the daemon is killed under load')
        o.ctl('array', 'fail', 'a', 'd1')
        client.alive()
        o.ctl('array', 'fail', 'a', 'd4')
        client.alive()
        o.restart(kill=True)
        client.alive()
        fio(uri, '--verify_only=1')
        step('two spares are filled, and the daemon is killed meanwhile')
        o.ctl('array', 'add', 'a', 'd6')
        o.ctl('array', 'add', 'a', 'd7')
        client.alive()
        o.restart(kill=True)
        client.alive()
        assert idle(o)['missing'] == 0, array(o)
        client.end()
        step('%d blocks were written, %d connections lost' % (client.count, client.broken))
        client.verify()
        fio(uri, '--verify_only=1')
        step('one more disk rots: the scrub names it, the repair mends it')
        rot(disks[2], array(o)['data_offset'] + 5 * MIB)
        o.ctl('array', 'scrub', 'a')
        a = idle(o)
        wrong = {m['device']: m['wrong'] for m in a['members'] if m['wrong']}
        assert list(wrong) == ['d2'], a
        o.ctl('array', 'repair', 'a')
        idle(o)
        o.ctl('array', 'scrub', 'a')
        a = idle(o)
        assert not a['mismatch'] and not [m for m in a['members'] if m['wrong']], a
        client.verify()
        fio(uri, '--verify_only=1')
        o.stop()
        step('at rest the disks are plain md')
        for i in (0, 2, 3, 5, 6, 7):
            said = sh('mdadm', '--examine', disks[i])
            assert 'raid6' in said and 'State : clean' in said and 'AAAAAA' in said, said


run(test_verify_is_clean_after_all_that_may_happen)
