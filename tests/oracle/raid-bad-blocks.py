# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml long
"""Lists of bad blocks, in both directions: the kernel's are honoured by us, ours by the kernel."""
from lib import MIB, Lab, call, equal, need, need_uml, run

need('mdadm')
need_uml()

MAKE = 'set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it --assume-clean '
FILL = '\ndd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n'
STOP = '\nmdadm --stop /dev/md0\n'
ROWS = (('raid1', 2, '-l1 -n2', 'raid1'), ('raid5', 3, '-l5 -n3 -c64', 'raid456'),
        ('raid10', 3, '-l10 -n3 -c64', 'raid10'))


def devs(n):
    return ' '.join('/dev/ubd' + 'abcd'[i] for i in range(n))


def offset(lab, i):
    return int(lab.examine(i)['Data Offset'].split()[0]) * 512


def listed(lab, i):
    """[(sector, sectors)] of a member's list as mdadm reads it."""
    out = call('mdadm', '--examine-badblocks', lab.images[i])
    rows = [line.split() for line in out.splitlines() if ' for ' in line]
    return [(int(r[0]), int(r[2])) for r in rows]


def same(lab, size):
    with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
        equal(b.read(size) == d.read(size), True, 'what was read is what was written')


def test_what_the_kernel_listed_is_not_read():
    for level, n, how, module in ROWS:
        with Lab(*[24] * n) as lab:
            lab.junk('data', 8 * MIB)
            lab.uml(MAKE + how + ' ' + devs(n) + FILL + STOP, module)
            first = offset(lab, 0) // 512
            lab.uml('set -e; mdadm --assemble /dev/md0 %s\n' % devs(n) +
                    'echo "%d 64" > /sys/block/md0/md/dev-ubda/bad_blocks\n' % (first + 256) +
                    'dd if=/mnt/data of=/dev/md0 bs=1M count=1 seek=7 skip=7 conv=fsync,notrunc' + STOP,
                    module)
            equal(listed(lab, 0), [(first + 256, 64)], 'the list of %s' % level)
            lab.poke(0, (first + 256) * 512, b'junk' * 8192)
            said = lab.tool('assemble x', 'read x %s' % lab.path('back'), 'info x')
            assert 'missing=0' in said, said
            same(lab, 8 * MIB)
            equal(listed(lab, 0), [(first + 256, 64)], 'the list of %s afterwards' % level)
            # Written anew by us, it is empty, and the kernel reads what stands there.
            lab.junk('data', 8 * MIB)
            lab.tool('assemble x', 'write x 0 %s' % lab.path('data'))
            equal(listed(lab, 0), [], 'the list of %s after a write' % level)
            out = lab.uml('set -e; mdadm --assemble /dev/md0 %s 2>&1; cat /proc/mdstat\n' % devs(n) +
                          'head -c 8M /dev/md0 | sha256sum\necho check > /sys/block/md0/md/sync_action\n'
                          'mdadm --wait /dev/md0 || true\necho mismatch $(cat /sys/block/md0/md/mismatch_cnt)'
                          + STOP, module)
            assert lab.sha('data') in out and 'U' * n in out and 'mismatch 0' in out, out


def test_the_kernel_honours_what_we_listed():
    for level, n, how, module in ROWS:
        with Lab(*[24] * n) as lab:
            lab.junk('data', 8 * MIB)
            lab.uml(MAKE + how + ' ' + devs(n) + FILL + STOP, module)
            first = offset(lab, 1)
            lab.junk('data', 8 * MIB)
            failing = '%s@write:error=EIO:offset=%d-%d' % (lab.images[1], first + MIB, first + MIB + 65535)
            said = lab.tool('assemble x', 'write x 0 %s' % lab.path('data'), 'info x',
                            images=[failing if i == 1 else lab.images[i] for i in range(n)])
            assert 'missing=0' in said, said
            rows = listed(lab, 1)
            assert rows and all(first + MIB < (s + c) * 512 and s * 512 < first + MIB + 65536 for s, c in rows), \
                (level, rows)
            out = lab.uml('set -e; mdadm --assemble /dev/md0 %s 2>&1; cat /proc/mdstat\n' % devs(n) +
                          'cat /sys/block/md0/md/dev-ubdb/bad_blocks | sed "s/^/bad /"\n'
                          'head -c 8M /dev/md0 | sha256sum' + STOP, module)
            assert lab.sha('data') in out and 'U' * n in out and 'bad ' in out, (level, out)
            got = [tuple(map(int, x.split()[1:])) for x in out.splitlines() if x.startswith('bad ')]
            equal(sum(c for _, c in got), sum(c for _, c in rows), 'what the kernel knows of %s' % level)


def test_a_member_that_joins_keeps_a_list_too():
    with Lab(24, 24, 24) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 /dev/ubda /dev/ubdb' + FILL + STOP, images=lab.images[:2])
        first = offset(lab, 0) // 512
        lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb\n'
                'echo "%d 8" > /sys/block/md0/md/dev-ubda/bad_blocks\n' % (first + 512) +
                'dd if=/mnt/data of=/dev/md0 bs=1M count=1 seek=7 skip=7 conv=fsync,notrunc' + STOP,
                images=lab.images[:2])
        lab.tool('assemble x', 'remove x d1', 'add x d2 force', 'wait x')
        assert listed(lab, 0) and listed(lab, 2), (listed(lab, 0), listed(lab, 2))
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb 2>&1; cat /proc/mdstat\n'
                      'dd if=/dev/md0 of=/dev/null bs=4k skip=64 count=1 2>&1 || echo it is lost\n'
                      'dd if=/dev/md0 bs=1M skip=1 count=7 2>/dev/null | sha256sum\n'
                      'dd if=/mnt/data bs=1M skip=1 count=7 2>/dev/null | sha256sum' + STOP,
                      images=[lab.images[0], lab.images[2]])
        assert '[UU]' in out and 'it is lost' in out, out
        sums = [x.split()[0] for x in out.splitlines() if x.endswith('  -')]
        equal(sums[0], sums[1], 'the rest')


run(test_what_the_kernel_listed_is_not_read, test_the_kernel_honours_what_we_listed,
    test_a_member_that_joins_keeps_a_list_too)
