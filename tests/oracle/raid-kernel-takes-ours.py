# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""The kernel's md code (in user-mode-linux) assembles our arrays, and reads the bytes that we wrote."""
from lib import MIB, Lab, call, equal, need, need_uml, run

need('mdadm')
need_uml()


def disks(n):
    return ' '.join('/dev/ubd' + chr(ord('a') + i) for i in range(n))


def kernel_reads(lab, n, size, extra='', skip_mib=0):
    """sha256 of so many bytes of the array as the kernel reads them, and what all of it printed."""
    out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s >&2\n'
                  'cat /proc/mdstat >&2; tail -c +%d /dev/md0 | head -c %d | sha256sum\n%s\n'
                  'dmesg | grep md/ >&2 || true; mdadm --stop /dev/md0 >&2' %
                  (disks(n), skip_mib * MIB + 1, size, extra))
    lines = out.splitlines()
    sums = [x.split()[0] for x in lines if x.endswith('  -')]
    equal(len(sums), 1, 'the number of sums in %s' % out)
    return sums[0], out


CHECK = ('echo check > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true\n'
         'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)')


def test_raid1_with_two_and_three_copies():
    for n in (2, 3):
        with Lab(*[40] * n) as lab:
            data = lab.junk('data', 32 << 20)
            lab.tool('create r raid1 %s' % ','.join('d%d' % i for i in range(n)),
                     'write r 0 %s' % data)
            got, out = kernel_reads(lab, n, 32 << 20, CHECK)
            equal(got, lab.sha('data'), 'sum')
            assert '[%d/%d]' % (n, n) in out and 'mismatch 0' in out, out


def test_raid0_with_equal_and_unequal_members():
    for sizes in ((40, 40, 40), (40, 64, 48)):
        with Lab(*sizes) as lab:
            lab.tool('create r raid0 d0,d1,d2 chunk=64K')
            size = int(lab.tool('assemble r', 'info r').split('size=')[1].split()[0])
            data = lab.junk('data', size)
            lab.tool('assemble r', 'write r 0 %s' % data)
            got, out = kernel_reads(lab, 3, size, 'echo size $(blockdev --getsize64 /dev/md0)')
            assert 'size %d' % size in out, out
            equal(got, lab.sha('data'), 'sum')


def test_degraded_raid1_and_never_the_failed_member():
    with Lab(40, 40) as lab:
        old, new = lab.junk('old', 8 << 20), lab.junk('new', 8 << 20)
        lab.tool('create r raid1 d0,d1', 'write r 0 %s' % old, 'fail r d0', 'write r 0 %s' % new)
        got, out = kernel_reads(lab, 2, 8 << 20)
        equal(got, lab.sha('new'), 'sum')
        assert '[2/1] [_U]' in out, out


def test_the_kernel_resyncs_what_we_left_in_use():
    with Lab(40, 40) as lab:
        data = lab.junk('data', 8 << 20)
        lab.tool('create r raid1 d0,d1', 'write r 0 %s' % data, 'flush r', 'crash', rc=-9)
        lab.poke(1, (1 << 20) + (20 << 20), b'torn' * 128)  # a write that reached one leg only
        got, out = kernel_reads(lab, 2, 8 << 20, 'mdadm --wait /dev/md0 || true\n' + CHECK)
        equal(got, lab.sha('data'), 'sum')
        assert 'not clean -- starting background' in out and 'mismatch 0' in out, out


def test_the_kernel_finishes_our_rebuild_and_does_not_trust_it():
    with Lab(300, 300) as lab:
        lab.junk('data', 4 << 20)
        lab.tool('create r raid1 d0,missing', 'write r 0 %s' % lab.junk('bulk', 280 << 20),
                 'write r 280M %s' % lab.path('data'))
        lab.tool('assemble r degraded', 'add r d1')
        if not int(lab.examine(1)['Feature Map'], 16) & 2:
            raise AssertionError('the rebuild was over before the stop')
        got, out = kernel_reads(lab, 2, 4 << 20, 'mdadm --wait /dev/md0 || true\n' + CHECK,
                                280)
        equal(got, lab.sha('data'), 'sum')
        assert '1 drive (out of 2) and 1 rebuilding' in out and 'mismatch 0' in out, out
        equal(lab.peek(1, (281 << 20), 4 << 20), lab.peek(0, (281 << 20), 4 << 20), 'the copy')


def test_there_and_back():
    with Lab(40, 40) as lab:
        ours, theirs = lab.junk('ours', 8 << 20), lab.junk('theirs', 4 << 20)
        lab.tool('create r raid1 d0,d1', 'write r 0 %s' % ours)
        lab.uml('set -e; mdadm --assemble /dev/md0 %s; dd if=/mnt/theirs of=/dev/md0 bs=1M '
                'conv=fsync,notrunc; mdadm --stop /dev/md0' % disks(2))
        lab.tool('assemble r', 'read r %s' % lab.path('back'))
        with open(lab.path('back'), 'rb') as b, open(ours, 'rb') as o, open(theirs, 'rb') as t:
            got, want, head = b.read(8 << 20), o.read(), t.read()
        equal(got == head + want[4 << 20:], True, 'the data')
        assert call('mdadm', '--examine', lab.images[0]).count('clean')


run(test_raid1_with_two_and_three_copies, test_raid0_with_equal_and_unequal_members,
    test_degraded_raid1_and_never_the_failed_member, test_the_kernel_resyncs_what_we_left_in_use,
    test_the_kernel_finishes_our_rebuild_and_does_not_trust_it, test_there_and_back)
