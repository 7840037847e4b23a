# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml long
"""A sync that was cut off goes on where it was: ours on the kernel, the kernel's here. What is spoilt
before that place stays spoilt, since nobody copies it again."""

import struct

from lib import MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

WAIT = '\nmdadm --wait /dev/md0 || true\n'
STOP = '\nmdadm --stop /dev/md0\n'
TORN, OLD = b'torn' * 128, b'old.' * 128
HOLD = '@write+write_zeroes:hold:offset=21M-64M'
# The kernel's sync, slowly, until some of it is recorded.
SLOW = 'echo 4000 > /proc/sys/dev/raid/speed_limit_max; echo 4000 > /proc/sys/dev/raid/speed_limit_min\n'
SOME = '''
i=0; while [ $i -lt 400 ]; do
  set -- $(cat /sys/block/md0/md/sync_completed); [ "$1" != none ] && [ "$1" -gt 16000 ] && break
  i=$((i+1)); sleep 0.1
done; echo stands at $1
'''


def resync_offset(lab):
    """In sectors; mdadm does not show it."""
    return struct.unpack('<Q', lab.peek(0, 4096 + 208, 8))[0]


def check(lab):
    equal(lab.peek(1, 3 * MIB, 512), TORN, 'what was done before')
    equal(lab.peek(1, 36 * MIB, 512), lab.peek(0, 36 * MIB, 512), 'what was not')


def test_the_kernel_goes_on_with_our_resync():
    with Lab(40, 40) as lab:
        lab.poke(1, 36 * MIB, OLD)
        lab.tool('create x raid1 d0,d1 force', 'until x 16M', 'crash', rc=-9,
                 images=[lab.images[0], lab.images[1] + HOLD])
        assert 32768 <= resync_offset(lab) <= 40960, resync_offset(lab)
        lab.poke(1, 3 * MIB, TORN)
        lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb 2>&1' + WAIT + STOP)
        check(lab)


def test_the_kernel_goes_on_with_our_rebuild():
    with Lab(40, 40) as lab:
        lab.poke(1, 36 * MIB, OLD)
        lab.tool('create x raid1 d0,missing force', 'add x d1 force', 'until x 16M', 'crash', rc=-9,
                 images=[lab.images[0], lab.images[1] + HOLD])
        assert int(lab.examine(1)['Recovery Offset'].split()[0]) >= 32768, lab.examine(1)
        lab.poke(1, 3 * MIB, TORN)
        out = lab.uml('set -e; mdadm --assemble --run /dev/md0 /dev/ubda /dev/ubdb 2>&1' + WAIT +
                      'cat /proc/mdstat' + STOP)
        assert '[2/2] [UU]' in out, out
        check(lab)


def test_we_go_on_with_the_kernels_resync():
    with Lab(40, 40) as lab:
        lab.poke(1, 36 * MIB, OLD)
        lab.uml('set -e; ' + SLOW + 'mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host '
                '--name=it -l1 -n2 /dev/ubda /dev/ubdb' + SOME + STOP)
        assert 16000 <= resync_offset(lab) < 35 * 2048, resync_offset(lab)
        lab.poke(1, 3 * MIB, TORN)
        lab.tool('assemble x', 'wait x')
        check(lab)
        equal(lab.examine(0)['State'], 'clean', 'state')


def test_we_go_on_with_the_kernels_rebuild():
    with Lab(40, 40) as lab:
        lab.poke(1, 36 * MIB, OLD)
        lab.uml('set -e; ' + SLOW + 'mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host '
                '--name=it -l1 -n2 /dev/ubda missing\nmdadm /dev/md0 --add /dev/ubdb' + SOME + STOP)
        assert int(lab.examine(1)['Recovery Offset'].split()[0]) >= 16000, lab.examine(1)
        lab.poke(1, 3 * MIB, TORN)
        lab.tool('assemble x degraded', 'wait x')
        check(lab)
        assert 'it raid1 2/2 complete=1' in lab.tool('scan')


run(test_the_kernel_goes_on_with_our_resync, test_the_kernel_goes_on_with_our_rebuild,
    test_we_go_on_with_the_kernels_resync, test_we_go_on_with_the_kernels_rebuild)
