# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml long
"""Arrays that we have grown are taken by the kernel, and those that it has grown by us."""
import os

from lib import MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

WAIT = '\nmdadm --wait /dev/md0 || true\n'
STOP = '\nmdadm --stop /dev/md0\n'
CHECK = 'echo check > /sys/block/md0/md/sync_action' + WAIT + \
        'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)'
ROWS = (('raid1', 2, 'raid1', 'bitmap=64K'), ('raid5', 3, 'raid456', 'chunk=64K'),
        ('raid6', 4, 'raid456', 'chunk=64K bitmap=64K'), ('raid10', 4, 'raid10', 'chunk=64K bitmap=64K'))


def devs(n):
    return ' '.join('/dev/ubd' + 'abcd'[i] for i in range(n))


def names(n):
    return ','.join('d%d' % i for i in range(n))


def enlarge(lab, mib):
    for image in lab.images:
        os.truncate(image, mib * MIB)


def kernel(lab, n, module, size):
    out = lab.uml('set -e; mdadm --assemble /dev/md0 %s 2>&1; cat /proc/mdstat\n' % devs(n) +
                  'echo size $(blockdev --getsize64 /dev/md0)\n' + WAIT +
                  'head -c %d /dev/md0 | sha256sum\n' % size + CHECK +
                  '\ndmesg | grep -i bitmap || true' + STOP, module)
    assert 'mismatch 0' in out and 'out of date' not in out, out
    return out


def test_the_kernel_takes_what_we_have_grown():
    for level, n, module, how in ROWS:
        with Lab(*[24] * n) as lab:
            lab.tool('create x %s %s clean %s' % (level, names(n), how))
            enlarge(lab, 40)
            said = lab.tool('assemble x', 'info x', 'grow x size=max', 'info x', 'wait x', 'stop x',
                            'assemble x', 'info x')
            sizes = [int(part.split()[0]) for part in said.split('size=')[1:]]
            assert sizes[1] > sizes[0] and sizes[2] == sizes[1], said
            lab.junk('data', sizes[1])
            lab.tool('assemble x', 'write x 0 %s' % lab.path('data'))
            out = kernel(lab, n, module, sizes[1])
            assert 'size %d' % sizes[1] in out and lab.sha('data') in out and 'U' * n in out, out


def test_the_kernel_finishes_what_we_were_growing():
    for level, n, module, how in ROWS:
        with Lab(*[24] * n) as lab:
            lab.junk('data', 8 * MIB)
            lab.tool('create x %s %s clean %s' % (level, names(n), how), 'write x 0 %s' % lab.path('data'))
            enlarge(lab, 300)
            for i in range(n):
                lab.poke(i, 200 * MIB, bytes([i]) * MIB)
            lab.tool('assemble x', 'grow x size=max', 'crash', rc=-9)
            out = kernel(lab, n, module, 8 * MIB)
            assert lab.sha('data') in out and 'U' * n in out, out


def test_the_kernel_takes_the_members_that_we_have_added():
    with Lab(24, 24, 24) as lab:
        lab.junk('data', 8 * MIB)
        lab.tool('create x raid1 d0,d1 clean bitmap=64K', 'write x 0 %s' % lab.path('data'),
                 'grow x devices=3 d2', 'wait x', 'info x')
        out = kernel(lab, 3, 'raid1', 8 * MIB)
        assert '[3/3] [UUU]' in out and lab.sha('data') in out, out
        lab.uml('set -e; mdadm --assemble --run /dev/md0 /dev/ubda 2>&1\nhead -c 8M /dev/md0 | sha256sum > sum'
                + STOP, images=[lab.images[2]])
        with open(lab.path('sum'), encoding='ascii') as f:
            equal(f.read().split()[0], lab.sha('data'), 'the new member alone')


def test_we_take_what_the_kernel_has_grown():
    with Lab(24, 24, 24) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it -l1 -n2 '
                '--bitmap=internal --assume-clean /dev/ubda /dev/ubdb\n'
                'dd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n'
                'mdadm --grow /dev/md0 --raid-devices=3 --add /dev/ubdc' + WAIT + STOP)
        said = lab.tool('assemble x', 'info x', 'read x %s' % lab.path('back'))
        assert 'missing=0' in said and '2 d2 in-sync' in said, said
        enlarge(lab, 40)
        lab.uml('set -e; mdadm --assemble --update=devicesize /dev/md0 /dev/ubda /dev/ubdb /dev/ubdc\n'
                'mdadm --grow /dev/md0 --size=max --bitmap=none || true; mdadm --grow /dev/md0 --size=max'
                + WAIT + STOP)
        said = lab.tool('assemble x', 'info x')
        assert int(said.split('size=')[1].split()[0]) > 30 * MIB and 'missing=0' in said, said


run(test_the_kernel_takes_what_we_have_grown, test_the_kernel_finishes_what_we_were_growing,
    test_the_kernel_takes_the_members_that_we_have_added, test_we_take_what_the_kernel_has_grown)
