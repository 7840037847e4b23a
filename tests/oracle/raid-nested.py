# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml long
"""raid50 and raid60: ours read by the kernel and by GRUB, the kernel's by us."""
from lib import MIB, Lab, call, need, need_uml, run

need('mdadm')

STOP = '\nmdadm --stop /dev/md0; mdadm --stop /dev/md1; mdadm --stop /dev/md2\n'
ROWS = (('raid5', 6, '-l5'), ('raid6', 8, '-l6'))


def devs(first, last):
    return ' '.join('/dev/ubd' + 'abcdefgh'[i] for i in range(first, last))


def same(lab, size):
    with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
        assert b.read(size) == d.read(size), 'what was read is not what was written'


def make(lab, level, n):
    """x and y of half the members each, z over both; full of data."""
    half = n // 2
    lab.junk('data', 40 * MIB)
    names = ['d%d' % i for i in range(n)]
    lab.tool('create x %s %s clean chunk=64K' % (level, ','.join(names[:half])),
             'create y %s %s clean chunk=64K' % (level, ','.join(names[half:])),
             'create z raid0 x,y chunk=128K', 'write z 0 %s' % lab.path('data'))


def test_the_kernel_reads_ours_with_a_member_missing_in_each_part():
    need_uml()
    for level, n, _ in ROWS:
        with Lab(*[24] * n) as lab:
            make(lab, level, n)
            for first in (0, 1):
                out = lab.uml('set -e; mdadm --assemble --run /dev/md1 %s 2>&1\n' % devs(first, n // 2) +
                              'mdadm --assemble --run /dev/md2 %s 2>&1\n' % devs(n // 2, n - first) +
                              'mdadm --assemble /dev/md0 /dev/md1 /dev/md2 2>&1; cat /proc/mdstat\n'
                              'head -c 40M /dev/md0 | sha256sum' + STOP, 'raid456', 'raid0')
                assert lab.sha('data') in out, (level, out)


def test_grub_reads_ours():
    need('grub-fstest')
    for level, n, _ in ROWS:
        with Lab(*[24] * n) as lab:
            make(lab, level, n)
            with open(lab.path('data'), 'rb') as f:
                parts = f.read()
            # Each part by itself: of the whole, what the raid0 puts there behind its own head.
            for part in range(2):
                images = lab.images[part * n // 2:(part + 1) * n // 2]
                out = call('mdadm', '--examine', '--export', images[0])
                uuid = [x[8:].replace(':', '') for x in out.splitlines() if x.startswith('MD_UUID=')][0]
                with open(lab.path('piece'), 'wb') as f:
                    f.write(parts[part * 131072:(part + 1) * 131072])
                where = '(mduuid/%s)%d+256' % (uuid, MIB // 512)
                call('grub-fstest', '-c', str(len(images)), *images, 'cmp', where, lab.path('piece'))


def test_we_run_what_the_kernel_nested():
    need_uml()
    for _, n, how in ROWS:
        with Lab(*[24] * n) as lab:
            lab.junk('data', 40 * MIB)
            make_one = 'mdadm --create /dev/md%d --run --metadata=1.2 --homehost=host --name=p%d ' + how + \
                ' -n%d -c64 --assume-clean %s\n'
            lab.uml('set -e; ' + make_one % (1, 1, n // 2, devs(0, n // 2)) +
                    make_one % (2, 2, n // 2, devs(n // 2, n)) +
                    'mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it -l0 -n2 -c128 '
                    '/dev/md1 /dev/md2\ndd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc' + STOP,
                    'raid456', 'raid0')
            lab.tool('assemble p', 'assemble q', 'assemble z', 'read z %s' % lab.path('back'))
            same(lab, 40 * MIB)
            lab.junk('data', 40 * MIB)
            lab.tool('assemble p', 'assemble q', 'assemble z', 'fail p d1', 'write z 0 %s' % lab.path('data'),
                     'remove p d1', 'add p d1 force', 'wait p')
            out = lab.uml('set -e; mdadm --assemble /dev/md1 %s 2>&1\n' % devs(0, n // 2) +
                          'mdadm --assemble /dev/md2 %s 2>&1\n' % devs(n // 2, n) +
                          'mdadm --assemble /dev/md0 /dev/md1 /dev/md2 2>&1; cat /proc/mdstat\n'
                          'head -c 40M /dev/md0 | sha256sum\necho check > /sys/block/md1/md/sync_action\n'
                          'mdadm --wait /dev/md1 || true\necho mismatch $(cat /sys/block/md1/md/mismatch_cnt)'
                          + STOP, 'raid456', 'raid0')
            assert lab.sha('data') in out and 'mismatch 0' in out, out


run(test_the_kernel_reads_ours_with_a_member_missing_in_each_part, test_grub_reads_ours,
    test_we_run_what_the_kernel_nested)
