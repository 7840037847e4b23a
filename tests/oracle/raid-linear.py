# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""linear and the layouts of raid10 that we make: the kernel reads them, and we read the kernel's
linear. (GRUB knows no linear.)"""
from lib import MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

DEVS = ['/dev/ubd' + c for c in 'abcdef']


def test_linear_both_ways():
    with Lab(24, 40, 30, 24, 40) as lab:
        size = 80 * MIB
        data, theirs = lab.junk('data', size), lab.junk('theirs', 50 * MIB)
        lab.tool('create r linear d0,d1,d2', 'write r 0 %s' % data)
        equal(lab.examine(1)['Raid Level'], 'linear', 'level')
        out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s >&2\nhead -c %d /dev/md0 | sha256sum\n'
                      'echo size $(blockdev --getsize64 /dev/md0)\nmdadm --stop /dev/md0\n'
                      'mdadm --create /dev/md1 --run --metadata=1.2 --homehost=host --name=it -llinear '
                      '-n2 %s\ndd if=/mnt/theirs of=/dev/md1 bs=1M conv=fsync,notrunc\n'
                      'echo other $(blockdev --getsize64 /dev/md1)\nmdadm --stop /dev/md1\n' %
                      (' '.join(DEVS[:3]), size, ' '.join(DEVS[3:5])), 'linear')
        assert lab.sha('data') in out, out
        said = lab.tool('assemble r', 'info r', images=lab.images[:3])
        equal(int(said.split('size=')[1].split()[0]), int(out.split('size ')[1].split()[0]), 'size')
        said = lab.tool('assemble x', 'info x', 'read x %s' % lab.path('back'), images=lab.images[3:])
        equal(int(said.split('size=')[1].split()[0]), int(out.split('other ')[1].split()[0]), 'size')
        with open(lab.path('back'), 'rb') as b, open(theirs, 'rb') as t:
            equal(b.read(50 * MIB) == t.read(), True, 'what the kernel wrote')


def test_the_kernel_takes_the_layouts_that_we_make():
    with Lab(*[24] * 6) as lab:
        lab.junk('data', 20 * MIB)
        snippet, said = 'set -e\n', (('f2', 'far'), ('o2', 'offset'))
        for k, (layout, _) in enumerate(said):
            members = [3 * k + i for i in range(3)]
            lab.tool('create r raid10 d0,d1,d2 clean chunk=64K bitmap=64K layout=%s' % layout,
                     'write r 0 %s' % lab.path('data'), images=[lab.images[i] for i in members])
            equal(lab.examine(3 * k)['Layout'], '%s=2' % said[k][1], 'layout by mdadm')
            snippet += ('mdadm --assemble /dev/md%d %s 2>&1; cat /proc/mdstat\n'
                        'head -c 20M /dev/md%d | sha256sum\n'
                        'echo check > /sys/block/md%d/md/sync_action; mdadm --wait /dev/md%d || true\n'
                        'echo mismatch $(cat /sys/block/md%d/md/mismatch_cnt)\nmdadm --stop /dev/md%d\n' %
                        (k, ' '.join(DEVS[i] for i in members), k, k, k, k, k))
        out = lab.uml(snippet, 'raid10')
        equal(out.count(lab.sha('data')), 2, 'sums in\n' + out)
        equal(out.count('mismatch 0'), 2, 'checks in\n' + out)
        assert '2 far-copies' in out and '2 offset-copies' in out, out


run(test_linear_both_ways, test_the_kernel_takes_the_layouts_that_we_make)
