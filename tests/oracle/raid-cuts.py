# SPDX-License-Identifier: GPL-2.0-or-later
"""What power cuts leave of our arrays, in other eyes: mdadm takes every superblock for sound; with
ORION_FULL=1 the kernel (in user-mode-linux) finds an ordinary dirty array, resyncs it, and has all that
was flushed."""
import collections
import os
import struct
import subprocess

from lib import FULL, Lab, call, equal, need, need_uml, run

need('mdadm')
PROGRAM = os.path.join(os.environ.get('ORION_BUILD', 'build'), 'tests/unit/raid/unit-raid-cuts')
CUTS = 60 if FULL else 30
KERNEL = 6  # of these


def cut(row, lab):
    """{cut: [images of members]} of so many cuts, and the array's slots."""
    env = dict(os.environ, ORION_CUTS=str(CUTS), ORION_CUTS_IMAGES=lab.dir)
    p = subprocess.run([PROGRAM, row], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, check=False, timeout=500)
    equal(p.returncode, 0, p.stdout)
    cuts = collections.defaultdict(list)
    for name in sorted(os.listdir(lab.dir)):
        n, _, what = name.partition('-')
        if what.isdigit():
            cuts[int(n)].append(lab.path(name))
    assert cuts, 'no cut was where nobody was missing'
    return cuts


def members(images):
    """Those that carry a superblock, which must be sound and of one array."""
    good, uuids = [], set()
    for path in images:
        with open(path, 'rb') as f:
            f.seek(4096)
            if f.read(4) != struct.pack('<I', 0xa92b4efc):
                continue
        said = call('mdadm', '--examine', path)
        assert '- correct' in said, said
        uuids.add(said.split('Array UUID : ')[1].split()[0])
        good.append(path)
    equal(len(uuids), 1, 'the number of arrays')
    return good


def must(lab, n):
    with open(lab.path('%d-must' % n)) as f:
        return [tuple(map(int, line.split())) for line in f]


def kernel(lab, n, images, redundant):
    """The kernel's view: nothing mismatches after its resync, and what must be there is."""
    disks = ' '.join('/dev/ubd' + chr(ord('a') + i) for i in range(len(images)))
    out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s >&2 || { dmesg | tail -20; exit 1; }\n'
                  'mdadm --wait /dev/md0 || true\n'
                  'if [ -e /sys/block/md0/md/sync_action ]; then\n'
                  'echo check > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true\n'
                  'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt); fi\n'
                  'cat /dev/md0 > /mnt/content; mdadm --stop /dev/md0 >&2' % disks,
                  'raid0', 'raid1', 'raid10', 'raid456', images=images)
    assert not redundant or 'mismatch 0' in out, out
    with open(lab.path('content'), 'rb') as f:
        content = f.read()
    for sector, word in must(lab, n):
        equal(struct.unpack_from('<Q', content, sector * 512)[0], word, 'sector %d' % sector)


def look(row):
    with Lab() as lab:
        for at, (n, images) in enumerate(sorted(cut(row, lab).items())):
            good = members(images)
            if FULL and at < KERNEL:
                kernel(lab, n, good, row != 'raid0')


def test_mirrors():
    look('raid1-bitmap')
    if FULL:
        look('raid10')


def test_parity():
    look('raid6-bitmap')
    if FULL:
        look('raid5')


if FULL:
    need_uml()
run(test_mirrors, test_parity)
