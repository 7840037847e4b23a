# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""Linux's own NBD driver with nbd-client against us: several connections, a file system made, used, trimmed and checked, and a daemon that dies in between."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../functional'))

from qemu.guest import HOST, Guest  # noqa: E402
from orion import Orion, free_port, run, sh, wait_for  # noqa: E402

M = 1 << 20
MODULES = ['nbd', 'crc32c_generic', 'ext4']
PROGRAMS = ['nbd-client', 'mkfs.ext4', 'fsck.ext4', 'blockdev']


def served(o, size=96 * M):
    o.ctl('device', 'add', 'd0', '--path', o.file('d0.img', size))
    port = free_port()
    o.ctl('nbd', 'listen', '127.0.0.1:%d' % port)
    o.ctl('nbd', 'export', 'v', '--device', 'd0')
    return port


def check_image(o):
    o.stop()
    sh('e2fsck', '-fn', os.path.join(o.dir, 'd0.img'), env=dict(os.environ, PATH=os.environ['PATH'] + ':/sbin'))


def test_a_file_system_on_four_connections():
    with Orion() as o:
        port = served(o)
        with Guest(MODULES, PROGRAMS) as g:
            g.sh('nbd-client %s %d /dev/nbd0 -N v -C 4' % (HOST, port))
            assert int(g.sh('blockdev --getsize64 /dev/nbd0')) == 96 * M
            sessions = o.ctl('session', 'list')['items']
            assert len(sessions) == 4, sessions
            g.sh('mkfs.ext4 -q /dev/nbd0 && mount -o discard /dev/nbd0 /mnt')
            g.sh('for i in $(seq 12); do dd if=/dev/urandom of=/mnt/f$i bs=1M count=4 conv=fsync 2>/dev/null; done; '
                 'md5sum /mnt/f* >/tmp/sums; rm /mnt/f1 /mnt/f2; sed -i "/f1$/d;/f2$/d" /tmp/sums; umount /mnt')
            g.sh('echo 3 >/proc/sys/vm/drop_caches; fsck.ext4 -fn /dev/nbd0')
            g.sh('nbd-client -d /dev/nbd0')
            wait_for(lambda: not o.ctl('session', 'list')['items'], what='the sessions to end')
            g.sh('nbd-client %s %d /dev/nbd0 -N v -R' % (HOST, port))
            g.sh('blockdev --getro /dev/nbd0 && mount -o ro,noload /dev/nbd0 /mnt && md5sum -c /tmp/sums && umount /mnt')
            g.sh('nbd-client -d /dev/nbd0')
        check_image(o)


def test_who_connects_again_after_the_daemon_died_finds_what_it_wrote():
    """By hand: nbd-client's -persist ends with the first connection on kernels of today."""
    with Orion() as o:
        port = served(o)
        with Guest(MODULES, PROGRAMS) as g:
            connect = 'nbd-client %s %d /dev/nbd0 -N v' % (HOST, port)
            write = 'dd if=/tmp/r of=/dev/nbd0 bs=64k seek=%d oflag=direct conv=fsync'
            read = 'dd if=/dev/nbd0 bs=64k skip=%d count=64 iflag=direct | cmp - /tmp/r'
            g.sh('%s; dd if=/dev/urandom of=/tmp/r bs=64k count=64; %s' % (connect, write % 0))
            for turn in range(2):
                o.kill9()
                o.start()
                g.sh('nbd-client -d /dev/nbd0; sleep 1; %s && %s' % (connect, read % (64 * turn)))
                g.sh(write % (64 * (turn + 1)))
            g.sh(read % 128)
            g.sh('nbd-client -d /dev/nbd0')


run(test_a_file_system_on_four_connections,
    test_who_connects_again_after_the_daemon_died_finds_what_it_wrote)
