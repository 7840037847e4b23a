# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""Arrays of superblock versions 0.90, 1.0 and 1.1, made by mdadm: read in all levels, never written."""
import hashlib
import os
import struct

from lib import MIB, Lab, call, equal, need, need_uml, run

need('mdadm')
need_uml()

SIZE = 9  # MiB of a disk; with 37 KiB more, so that the places at the end differ
LEVELS = {'linear': 3, '0': 3, '1': 2, '4': 3, '5': 3, '6': 4, '10': 4}
FULL = os.environ.get('ORION_OLD_LEVELS') == 'all'
MODULES = ('linear', 'raid0', 'raid1', 'raid10', 'raid456')

MAKE = '''
set -e
for v in %(versions)s; do for l in %(levels)s; do
    case $l in 1) n=2 ;; 6|10) n=4 ;; *) n=3 ;; esac
    disks=$(echo /dev/ubda /dev/ubdb /dev/ubdc /dev/ubdd | cut -d' ' -f1-$n)
    for d in $disks; do dd if=/dev/zero of=$d bs=1M conv=notrunc 2>/dev/null || true; done
    case $l in linear) how= ;; 0) how=-c64; [ $v != 0.90 ] || continue ;; 1) how=--assume-clean ;; *) how='-c64 --assume-clean' ;; esac
    mdadm --create /dev/md0 --run --metadata=$v -l$l -n$n $how $disks 2>&1
    dd if=/mnt/data of=/dev/md0 bs=64K conv=fsync 2>/dev/null || true
    case $l in 4|5|6) echo repair > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true ;; esac
    echo size $v $l $(blockdev --getsize64 /dev/md0)
    blockdev --flushbufs /dev/md0
    mdadm --stop /dev/md0 2>&1
    for d in $disks; do cat $d > /mnt/$v-$l-${d#/dev/ubd}; done
done; done
'''


def hashes(paths):
    out = []
    for p in paths:
        with open(p, 'rb') as f:
            out.append(hashlib.sha256(f.read()).hexdigest())
    return out


def grow(lab):
    for p in lab.images:
        with open(p, 'r+b') as f:
            f.truncate(SIZE * MIB + (37 << 10))


def check(lab, images, size, *how):
    """What the array of these images reads as, and that they stay as they are."""
    before = hashes(images)
    back = lab.path('back')
    said = lab.tool(' '.join(('assemble x',) + how), 'info x', 'read x ' + back, 'stop x', images=images)
    with open(back, 'rb') as b, open(lab.path('data'), 'rb') as d:
        equal(b.read() == d.read(size), True, '%s: what was read is what was written' % images)
    assert 'state=read-only' in said and 'only version 1.2 is written' in said, said
    equal(hashes(images) == before, True, '%s: the disks' % images)


def others(images, without):
    return [p for i, p in enumerate(images) if i not in without]


def swap_words(path):
    """The superblock of version 0.90 as a machine of the other byte order writes it."""
    size = os.path.getsize(path)
    at = size // 65536 * 65536 - 65536
    with open(path, 'r+b') as f:
        f.seek(at)
        words = list(struct.unpack('<1024I', f.read(4096)))
        assert words[0] == 0xa92b4efc
        for i in (39, 41, 44):  # what has 64 bits
            words[i], words[i + 1] = words[i + 1], words[i]
        f.seek(at)
        f.write(struct.pack('>1024I', *words))


def nothing_changes(lab, images):
    """Neither verbs nor failures."""
    before = hashes(images)
    bad = ['%s@read:error=EIO:offset=0-64K' % images[0]] + images[1:]
    for what in ('fail x d1', 'remove x d1', 'add x d1', 'delete x', 'scrub x repair',
                 'write x 0 %s' % lab.path('data')):
        lab.tool('assemble x', what, images=images, rc=1)
    said = lab.tool('assemble x', 'read x ' + lab.path('back'), 'scrub x', 'info x', images=bad)
    with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
        equal(b.read(9 * MIB) == d.read(9 * MIB), True, 'what was read around the bad place')
    assert '0 d0 in-sync' in said, said
    equal(hashes(images) == before, True, 'the disks')


def leftovers(lab, old):
    """Of an older array, on the disks of a newer one."""
    ends = [open(p, 'rb').read()[-192 << 10:] for p in old]
    new = lab.images[:2]
    for i in range(2):
        lab.blank(i, SIZE)
    grow(lab)
    lab.tool('create x 1 d0,d1 clean', 'write x 0 ' + lab.junk('few', 4 * MIB), images=new)
    for i in range(2):
        lab.poke(i, SIZE * MIB + (37 << 10) - len(ends[i]), ends[i])
    said = lab.tool('scan', images=new)
    equal(said.count('ambiguous=1'), 2, 'arrays of two superblocks')
    before = hashes(new)
    said = lab.tool('assemble x', images=new, rc=1)
    assert 'two md superblocks, of version 1.2 and of version 0.90' in said, said
    equal(hashes(new) == before, True, 'the disks')
    # Its own machine, or who is told to, goes on; a client may have written such bytes.
    for how in ('known', 'force'):
        said = lab.tool('assemble x ' + how, 'info x', 'read x ' + lab.path('back'), images=new)
        assert 'state=clean' in said, said
    with open(lab.path('back'), 'rb') as b:
        equal(hashlib.sha256(b.read(4 * MIB)).hexdigest(), lab.sha('few'), 'what was read')
    for p in new:
        call('mdadm', '--zero-superblock', '--metadata=0.90', '--force', p)
    assert 'ambiguous=0' in lab.tool('scan', images=new)


def test_what_each_version_reads_as():
    levels = list(LEVELS) if FULL else ['1', '5']
    with Lab(*[SIZE] * 4) as lab:
        grow(lab)
        lab.junk('data', 4 * (SIZE + 1) * MIB)
        out = lab.uml(MAKE % {'versions': '0.90 1.0 1.1', 'levels': ' '.join(levels)}, *MODULES)
        for line in out.splitlines():
            if not line.startswith('size '):
                continue
            _, version, level, size = line.split()
            n = LEVELS[level]
            images = [lab.path('%s-%s-%s' % (version, level, 'abcd'[i])) for i in range(n)]
            check(lab, images, int(size))
            if level not in ('linear', '0'):
                lab.tool('assemble x', images=others(images, {1}), rc=1)
                check(lab, others(images, {1}), int(size), 'degraded')
            if level == '6':
                check(lab, others(images, {0, 3}), int(size), 'degraded')
            if version == '0.90' and level != '1':
                for p in images:
                    swap_words(p)
                check(lab, images, int(size))
        # mdadm makes no raid0 of version 0.90 any more.
        equal(out.count('size '), 3 * len(levels) - FULL, 'arrays')
        nothing_changes(lab, [lab.path('1.0-5-' + c) for c in 'abc'])
        leftovers(lab, [lab.path('0.90-1-' + c) for c in 'ab'])


def test_content_that_looks_like_a_disk_of_its_own():
    need('mke2fs', 'sfdisk')
    for version in ('0.90', '1.0') if FULL else ('0.90',):
        for kind in ('filesystem', 'partitions') if FULL else ('partitions',):
            with Lab(SIZE, SIZE) as lab:
                grow(lab)
                with open(lab.path('data'), 'wb') as f:
                    f.truncate(8 * MIB)
                if kind == 'filesystem':
                    call('mke2fs', '-q', '-F', '-t', 'ext4', lab.path('data'))
                else:
                    call('sh', '-c', 'echo "label: gpt\n,,L" | sfdisk -q ' + lab.path('data'))
                out = lab.uml(MAKE % {'versions': version, 'levels': '1'}, *MODULES)
                size = int(out.split('size ')[1].split()[2])
                assert ' raid1 2/2 complete=1 startable=1 ambiguous=0' in lab.tool('scan')
                before = hashes(lab.images)
                lab.tool('assemble x', 'read x ' + lab.path('back'))
                with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
                    got = b.read()
                    equal(len(got), size, 'size')
                    equal(got[:8 * MIB] == d.read(), True, 'the %s' % kind)
                lab.tool('create y raid1 d0,d1', rc=1)
                equal(hashes(lab.images) == before, True, 'the disks')


run(test_what_each_version_reads_as, test_content_that_looks_like_a_disk_of_its_own)
