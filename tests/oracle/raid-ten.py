# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""raid10 in both directions: near, far and offset copies of the kernel, and of ours."""
from lib import FULL, MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

WAIT = '\nmdadm --wait /dev/md0 || true\n'
STOP = '\nmdadm --stop /dev/md0\n'
DEVS = ['/dev/ubd' + c for c in 'abcd']


def test_what_the_kernel_wrote_is_read_in_each_layout():
    more = (('n2', 4), ('f2', 4), ('n3', 4)) if FULL else ()
    for layout, n in (('n2', 3), ('f2', 3), ('o2', 3)) + more:
        with Lab(*[24] * n) as lab:
            lab.junk('data', 20 * MIB)
            out = lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host '
                          '--name=it -l10 -n%d -p%s -c64 --assume-clean %s\n' %
                          (n, layout, ' '.join(DEVS[:n])) +
                          'dd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n'
                          'echo size $(blockdev --getsize64 /dev/md0)' + STOP, 'raid10')
            size = int(out.split('size ')[1].split()[0])
            said = lab.tool('assemble x', 'info x', 'read x %s' % lab.path('back'))
            equal(int(said.split('size=')[1].split()[0]), size, 'size of ' + layout)
            with open(lab.path('back'), 'rb') as f:
                back = f.read()
            with open(lab.path('data'), 'rb') as f:
                data = f.read()
            equal(back[:20 * MIB] == data, True, 'data in %s of %d' % (layout, n))
            # Degraded, written by us, filled up by us; the kernel finds no mismatch.
            lab.junk('more', 6 * MIB)
            lab.tool('assemble x', 'remove x d1', 'write x 1M %s' % lab.path('more'), 'add x d1 force',
                     'wait x')
            out = lab.uml('set -e; mdadm --assemble /dev/md0 %s 2>&1; cat /proc/mdstat\n' %
                          ' '.join(DEVS[:n]) +
                          'dd if=/dev/md0 bs=1M skip=1 count=6 2>/dev/null | sha256sum\n'
                          'echo check > /sys/block/md0/md/sync_action' + WAIT +
                          'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)' + STOP, 'raid10')
            assert 'U' * n in out and 'mismatch 0' in out and lab.sha('more') in out, (layout, n, out)


def test_the_kernel_takes_ours():
    for n, layout, named in ((4, 'n2', '2 near-copies'), (3, 'f2', '2 far-copies'),
                             (3, 'o2', '2 offset-copies')):
        with Lab(*[24] * n) as lab:
            lab.junk('data', 20 * MIB)
            lab.tool('create x raid10 %s clean chunk=64K bitmap=64K layout=%s' %
                     (','.join('d%d' % i for i in range(n)), layout),
                     'write x 0 %s' % lab.path('data'))
            out = lab.uml('set -e; mdadm --assemble /dev/md0 %s 2>&1; cat /proc/mdstat\n' %
                          ' '.join(DEVS[:n]) + 'head -c 20M /dev/md0 | sha256sum\n'
                          'echo check > /sys/block/md0/md/sync_action' + WAIT +
                          'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)\n'
                          'dmesg | grep -i bitmap || true' + STOP, 'raid10')
            assert lab.sha('data') in out and named in out and 'mismatch 0' in out, out
            assert 'bitmap:' in out and 'out of date' not in out, out


def test_a_member_comes_back_by_the_bitmap_here_and_there():
    for layout, n in (('n2', 3),):
        with Lab(*[24] * n) as lab:
            lab.junk('data', 2 * MIB)
            members = ','.join('d%d' % i for i in range(n))
            lab.tool('create x raid10 %s clean chunk=64K layout=%s bitmap=64K' % (members, layout), 'remove x d1',
                     'write x 4M %s' % lab.path('data'))
            lab.poke(1, 15 * MIB, b'rot.' * 128)  # nobody wrote there
            rest = ' '.join(d for i, d in enumerate(DEVS[:n]) if i != 1)
            out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s 2>&1\n' % rest +
                          'mdadm /dev/md0 --re-add /dev/ubdb 2>&1' + WAIT + 'cat /proc/mdstat\n'
                          'dd if=/dev/md0 bs=1M skip=4 count=2 2>/dev/null | sha256sum' + STOP, 'raid10')
            assert 'U' * n in out and lab.sha('data') in out, (layout, n, out)
            equal(lab.peek(1, 15 * MIB, 512), b'rot.' * 128, 'not copied by the kernel')
            # The kernel writes without it, and we take it back.
            lab.junk('data', 2 * MIB)
            lab.uml('set -e; mdadm --assemble --run /dev/md0 %s 2>&1\n' % rest +
                    'dd if=/mnt/data of=/dev/md0 bs=1M seek=8 conv=fsync,notrunc' + STOP, 'raid10')
            said = lab.tool('assemble x degraded', 'wait x', 'info x')
            assert 'missing=0' in said and '1 d1 in-sync' in said, said
            equal(lab.peek(1, 15 * MIB, 512), b'rot.' * 128, 'not copied by us')
            lab.poke(1, 15 * MIB, bytes(512))
            said = lab.tool('assemble x', 'scrub x')
            assert 'mismatch=0' in said, (layout, n, said)


run(test_what_the_kernel_wrote_is_read_in_each_layout, test_the_kernel_takes_ours,
    test_a_member_comes_back_by_the_bitmap_here_and_there)
