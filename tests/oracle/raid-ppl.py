# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""Partial parity logs as the kernel writes them: worked off when adopted, and handed back without."""
import os
import shutil
import struct

from lib import MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

SIZE = 24
CHUNK = 64 << 10
MAKE = '''set -e
mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it -l5 -n3 -c64 \
    --consistency-policy=ppl --assume-clean /dev/ubda /dev/ubdb /dev/ubdc
echo repair > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true
dd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc 2>/dev/null
'''
STOP = '\nmdadm --stop /dev/md0\n'
WRITE = '''
echo 60 > /sys/block/md0/md/safe_mode_delay
for i in $(seq 40); do
    dd if=/dev/urandom of=/dev/md0 bs=4k count=$((i % 3 + 1)) seek=$((i * 241)) oflag=direct conv=notrunc 2>/dev/null
done
crash
'''


def entries_of(image):
    """Where the log begins, and of its newest header: (array sector, bytes of partial parity, of data)."""
    with open(image, 'rb') as f:
        disk = f.read(4 * MIB)
    offset, size = struct.unpack_from('<hH', disk, 4096 + 96)
    at, end, newest = 4096 + offset * 512, 4096 + (offset + size) * 512, None
    while at + 4096 <= end:
        generation, n = struct.unpack_from('<QI', disk, at + 520)
        if disk[at:at + 512] != b'\xff' * 512 or (newest and generation < newest[0]):
            break
        found = [struct.unpack_from('<QIIII', disk, at + 536 + 24 * i) for i in range(n)]
        newest = generation, [(e[0], e[1], e[2]) for e in found]
        at += 4096 + sum(e[1] for e in found)
    assert newest, 'no partial parity log'
    return 4096 + offset * 512, newest[1]


def crashed(lab):
    """What the array holds, and for each disk where its log says that parity may not fit."""
    lab.junk('data', 30 * MIB)
    lab.uml(MAKE + WRITE, 'raid456')
    lab.tool('assemble x readonly', 'read x ' + lab.path('truth'))
    logs = [entries_of(p) for p in lab.images]
    assert sum(len(e) for _, e in logs) >= 3, logs
    return logs


def tear(lab, logs):
    """The power went before parity was written."""
    for i, (_, entries) in enumerate(logs):
        offset = struct.unpack('<Q', lab.peek(i, 4096 + 128, 8))[0] * 512
        for first, parity, data in entries:
            at = first * 512
            rows = parity or data // 2
            lab.poke(i, offset + at // (2 * CHUNK) * CHUNK + at % CHUNK, os.urandom(rows))


def differing(lab, logs):
    """Blocks that read otherwise than before the crash, and were not being written."""
    writing = set()
    for _, entries in logs:
        for first, parity, data in entries:
            rows, n = (parity, data // parity) if parity else (data // 2, 2)
            for k in range(n):
                at = first * 512 + k * CHUNK
                writing.update(range(at // 4096, (at + rows + 4095) // 4096))
    with open(lab.path('truth'), 'rb') as a, open(lab.path('back'), 'rb') as b:
        want, got = a.read(), b.read()
    equal(len(got), len(want), 'the size')
    return [i for i in range(len(want) // 4096)
            if i not in writing and want[i * 4096:i * 4096 + 4096] != got[i * 4096:i * 4096 + 4096]]


def copies(lab, without):
    out = []
    for i, p in enumerate(lab.images):
        if i != without:
            shutil.copy(p, p + '-copy')
            out.append(p + '-copy')
    return out


def lost_too(lab, logs):
    """The log stands for a disk that went with the power."""
    for without in range(3):
        said = lab.tool('assemble x degraded', 'info x', 'read x ' + lab.path('back'),
                        images=copies(lab, without))
        assert 'missing=1' in said, said
        equal(differing(lab, logs), [], 'without disk %d: blocks that nobody wrote' % without)
    # Without its log such an array is no more than any other that is dirty and degraded.
    bad = 0
    for without in range(3):
        left = copies(lab, without)
        for p, log in zip(left, [log for i, log in enumerate(logs) if i != without]):
            with open(p, 'r+b') as f:
                f.seek(log[0])
                f.write(b'\0' * 4096)
        assert 'partial parity log' in lab.tool('assemble x degraded', images=left, rc=1)
        lab.tool('assemble x degraded force', 'read x ' + lab.path('back'), images=left)
        bad += len(differing(lab, logs))
    assert bad, 'nothing would have been lost: the test shows nothing'


def test_a_dirty_array_is_adopted_and_handed_back():
    with Lab(*[SIZE] * 3) as lab:
        logs = crashed(lab)
        tear(lab, logs)
        lost_too(lab, logs)
        before = [lab.peek(i, 0, SIZE * MIB) for i in range(3)]
        lab.tool('assemble x dry')
        equal([lab.peek(i, 0, SIZE * MIB) for i in range(3)] == before, True, 'the disks')
        lab.tool('assemble x', 'wait x', 'read x ' + lab.path('back'), 'write x 1M ' + lab.path('data'))
        equal(differing(lab, [(0, [])] * 3), [], 'blocks that changed')
        assert 'ppl' not in lab.examine(0).get('Consistency Policy', ''), lab.examine(0)
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb /dev/ubdc 2>&1\n'
                      'cat /proc/mdstat /sys/block/md0/md/consistency_policy\n'
                      'dd if=/dev/md0 bs=1M skip=1 count=30 2>/dev/null | sha256sum\n'
                      'echo check > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true\n'
                      'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)' + STOP, 'raid456')
        assert '[3/3] [UUU]' in out and 'resync' in out and 'mismatch 0' in out, out
        assert lab.sha('data') in out, out


def test_a_clean_array_stays_as_it_is_until_it_is_written():
    with Lab(*[SIZE] * 3) as lab:
        lab.junk('data', 30 * MIB)
        lab.uml(MAKE + STOP, 'raid456')
        before = [lab.peek(i, 0, 4 * MIB) for i in range(3)]
        lab.tool('assemble x', 'read x ' + lab.path('back'))
        equal([lab.peek(i, 0, 4 * MIB) for i in range(3)] == before, True, 'the disks')
        with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
            want = d.read()
            equal(b.read(len(want)) == want, True, 'what was read')
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb /dev/ubdc 2>&1\n'
                      'cat /sys/block/md0/md/consistency_policy; head -c 30M /dev/md0 | sha256sum' +
                      STOP, 'raid456')
        assert 'ppl' in out and lab.sha('data') in out, out
        lab.tool('assemble x', 'write x 2M ' + lab.path('data'), 'read x ' + lab.path('back'))
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb /dev/ubdc 2>&1\n'
                      'cat /proc/mdstat\n'
                      'dd if=/dev/md0 bs=1M skip=2 count=30 2>/dev/null | sha256sum' + STOP, 'raid456')
        assert '[3/3] [UUU]' in out and lab.sha('data') in out, out


run(test_a_dirty_array_is_adopted_and_handed_back,
    test_a_clean_array_stays_as_it_is_until_it_is_written)
