# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""A member that is replaced while it serves, handed over half-way: ours to the kernel (in
user-mode-linux), the kernel's to us."""
from lib import FULL, MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

SIZE = 16 * MIB
LEVELS = (('5', 3),) + ((('1', 2),) if FULL else ())
WAIT = 'while grep -Eq "recovery|resync|DELAYED" /proc/mdstat; do sleep 0.1; done\n'


def disks(which):
    return ' '.join('/dev/ubd' + chr(ord('a') + i) for i in which)


def test_the_kernel_goes_on_with_a_replacement_of_ours():
    for level, n in LEVELS:
        with Lab(*[40] * (n + 1)) as lab:
            data = lab.junk('data', SIZE)
            members = ','.join('d%d' % i for i in range(n))
            lab.tool('create r raid%s %s chunk=64K' % (level, members), 'write r 0 %s' % data)
            # What is beyond the first MiB of data never arrives, and then the process dies.
            held = lab.images[:n] + [lab.images[n] + '@write+write_zeroes:hold:offset=3M-40M']
            lab.tool('assemble r', 'replace r d1 d%d' % n, 'crash', images=held, rc=-9)
            found = lab.examine(n)
            equal(found['Device Role'], 'Replacement device 1', 'role of the new member')
            equal(lab.examine(1)['Device Role'], 'Active device 1', 'role of the old one')
            assert found['Checksum'].endswith('correct'), found
            out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s >&2\n%s'
                          'mdadm --detail /dev/md0\nhead -c %d /dev/md0 | sha256sum\n'
                          'echo check > /sys/block/md0/md/sync_action; %s'
                          'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)\n'
                          'mdadm --stop /dev/md0\n' % (disks(range(n + 1)), WAIT, SIZE, WAIT),
                          'raid1', 'raid456')
            assert lab.sha('data') in out and 'mismatch 0' in out, out
            state = {x.split()[-1]: x.split()[4] for x in out.splitlines() if '/dev/ubd' in x and
                     len(x.split()) >= 6}
            equal(state.get('/dev/ubd' + 'abcd'[n]), 'active', 'the new member in\n' + out)
            equal(state.get('/dev/ubdb'), 'faulty', 'the old one in\n' + out)


def test_we_go_on_with_a_replacement_of_the_kernels():
    for level, n in LEVELS:
        with Lab(*[40] * (n + 1)) as lab:
            lab.junk('data', SIZE)
            lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it '
                    '--assume-clean -l%s -n%d -x1 %s\n'
                    'dd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n'
                    'echo 1 > /proc/sys/dev/raid/speed_limit_min\n'
                    'echo 1 > /proc/sys/dev/raid/speed_limit_max\n'
                    'echo want_replacement > /sys/block/md0/md/dev-ubdb/state\n'
                    'until grep -q "(R)" /proc/mdstat; do sleep 0.1; done\n'
                    'mdadm --stop /dev/md0\n' % (level, n, disks(range(n + 1))), 'raid1', 'raid456')
            equal(lab.examine(n)['Device Role'], 'Replacement device 1', 'what the kernel left')
            said = lab.tool('assemble x', 'wait x', 'info x', 'read x %s' % lab.path('back'))
            assert '1 d%d in-sync' % n in said and ' d1 ' not in said, said
            with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
                equal(b.read(SIZE) == d.read(SIZE), True, 'data')
            which = [i for i in range(n + 1) if i != 1]
            out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s >&2\ncat /proc/mdstat\n'
                          'head -c %d /dev/md0 | sha256sum\n'
                          'echo check > /sys/block/md0/md/sync_action; %s'
                          'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)\n'
                          'mdadm --stop /dev/md0\n' % (disks(which), SIZE, WAIT), 'raid1', 'raid456')
            assert lab.sha('data') in out and 'mismatch 0' in out, out
            assert '[%d/%d]' % (n, n) in out, out


run(test_the_kernel_goes_on_with_a_replacement_of_ours,
    test_we_go_on_with_a_replacement_of_the_kernels)
