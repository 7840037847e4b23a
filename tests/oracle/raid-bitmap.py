# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""Bitmaps that we make: mdadm reads them, the kernel resyncs and takes members back by them."""
import re
import shutil
import subprocess

from lib import MIB, Lab, call, equal, need, need_uml, run

need('mdadm')

WAIT = '\nmdadm --wait /dev/md0 || true\n'
STOP = '\nmdadm --stop /dev/md0\n'


def examine_bitmap(lab, i):
    """mdadm wants a block device for it; None where there are no loop devices."""
    p = subprocess.run(['losetup', '--find', '--show', '--read-only', lab.images[i]], text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    if p.returncode or not shutil.which('losetup'):
        return None
    loop = p.stdout.strip()
    try:
        return call('mdadm', '--examine-bitmap', loop)
    finally:
        subprocess.run(['losetup', '--detach', loop], check=True)


def after_a_crash(lab):
    lab.junk('data', 2 * MIB)
    lab.tool('create x raid1 d0,d1 clean bitmap=64K', 'write x 4M %s' % lab.path('data'), 'flush x',
             'crash', rc=-9)


def test_mdadm_reads_it():
    with Lab(40, 40) as lab:
        after_a_crash(lab)
        equal(lab.examine(0)['Internal Bitmap'], '8 sectors from superblock', 'place')
        said = examine_bitmap(lab, 0)
        if said is None:
            print('     without loop devices mdadm --examine-bitmap was not asked', flush=True)
            return
        assert 'Version : 4' in said and 'Chunksize : 64 KB' in said, said
        bits = re.search(r'Bitmap : (\d+) bits \(chunks\), (\d+) dirty', said)
        equal(bits.groups(), ('624', '32'), 'bits')
        equal(lab.examine(0)['Events'], re.search(r'Events : (\d+)', said)[1], 'events')


def test_the_kernel_resyncs_what_is_marked_and_no_more():
    need_uml()
    with Lab(40, 40) as lab:
        after_a_crash(lab)
        lab.poke(1, MIB + 5 * MIB, b'torn' * 128)
        lab.poke(1, MIB + 20 * MIB, b'torn' * 128)
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb 2>&1' + WAIT +
                      'cat /proc/mdstat; dmesg | grep -i bitmap || true' + STOP)
        assert 'bitmap:' in out and 'out of date' not in out, out
        equal(lab.peek(1, 5 * MIB, 2 * MIB) == lab.peek(0, 5 * MIB, 2 * MIB), True, 'marked')
        equal(lab.peek(1, 21 * MIB, 512), b'torn' * 128, 'not marked')


def test_the_kernel_takes_a_member_back_by_it():
    need_uml()
    with Lab(40, 40) as lab:
        lab.junk('data', 2 * MIB)
        lab.tool('create x raid1 d0,d1 clean bitmap=64K', 'remove x d1',
                 'write x 4M %s' % lab.path('data'))
        lab.poke(1, MIB + 20 * MIB, b'rot.' * 128)
        out = lab.uml('set -e; mdadm --assemble --run /dev/md0 /dev/ubda 2>&1\n'
                      'mdadm /dev/md0 --re-add /dev/ubdb 2>&1' + WAIT + 'cat /proc/mdstat' + STOP)
        assert '[2/2] [UU]' in out, out
        equal(lab.peek(1, 5 * MIB, 2 * MIB) == lab.peek(0, 5 * MIB, 2 * MIB), True, 'written meanwhile')
        equal(lab.peek(1, 21 * MIB, 512), b'rot.' * 128, 'not copied')


def test_we_take_back_whom_the_kernel_has_lost():
    need_uml()
    with Lab(40, 40) as lab:
        lab.junk('data', 2 * MIB)
        lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it -l1 '
                '-n2 --bitmap=internal --bitmap-chunk=64 --assume-clean /dev/ubda /dev/ubdb\n'
                'mdadm /dev/md0 --fail /dev/ubdb --remove /dev/ubdb\n'
                'dd if=/mnt/data of=/dev/md0 bs=1M seek=4 conv=fsync,notrunc' + STOP)
        lab.poke(1, MIB + 20 * MIB, b'rot.' * 128)
        lab.tool('assemble x degraded', 'wait x')
        equal(lab.peek(1, 5 * MIB, 2 * MIB) == lab.peek(0, 5 * MIB, 2 * MIB), True, 'written meanwhile')
        equal(lab.peek(1, 21 * MIB, 512), b'rot.' * 128, 'not copied')
        assert 'it raid1 2/2 complete=1' in lab.tool('scan')


run(test_mdadm_reads_it, test_the_kernel_resyncs_what_is_marked_and_no_more,
    test_the_kernel_takes_a_member_back_by_it, test_we_take_back_whom_the_kernel_has_lost)
