# SPDX-License-Identifier: GPL-2.0-or-later
"""raid4, raid5 and raid6 in both directions: mdadm and GRUB read ours from plain files, the kernel
(in user-mode-linux) assembles and checks ours, and we run what the kernel made, byte for byte."""
from lib import FULL, MIB, Lab, call, equal, need, need_uml, run

need('mdadm', 'grub-fstest')
need_uml()

CHECK = ('echo check > /sys/block/md0/md/sync_action; mdadm --wait /dev/md0 || true\n'
         'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)\n')
STOP = 'mdadm --stop /dev/md0\n'


def disks(which):
    return ' '.join('/dev/ubd' + chr(ord('a') + i) for i in which)


def members(n):
    return ','.join('d%d' % i for i in range(n))


def ours(lab, level, n, size):
    """An array of ours: the data in one piece, then changed in many small ones."""
    data = lab.junk('data', size)
    commands = ['create r %s %s chunk=64K' % (level, members(n)), 'write r 0 %s' % data]
    with open(data, 'r+b') as f:
        for k in range(24):
            at = (k * 977 * 4096 + k * 512) % (size - 65536)
            piece = lab.junk('piece%d' % k, 512 * (1 + k * 5 % 128))
            with open(piece, 'rb') as p:
                f.seek(at)
                f.write(p.read())
            commands.append('write r %d %s' % (at, piece))
    lab.tool(*commands)
    return data


def kernel_reads(lab, which, size, extra):
    out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s >&2\ncat /proc/mdstat >&2\n'
                  'head -c %d /dev/md0 | sha256sum\n%s%s' % (disks(which), size, extra, STOP),
                  'raid456')
    return [x.split()[0] for x in out.splitlines() if x.endswith('  -')][0], out


def test_mdadm_takes_what_we_write():
    for level, n, layout in (('raid5', 4, 'left-symmetric'), ('raid6', 5, 'left-symmetric')):
        with Lab(*[40] * n) as lab:
            ours(lab, level, n, 8 * MIB)
            found = lab.examine(0)
            equal(found['Raid Level'], level, 'level')
            equal(found['Layout'], layout, 'layout')
            equal(found['Chunk Size'], '64K', 'chunk')
            equal(found['State'], 'clean', 'state')
            assert found['Checksum'].endswith('correct'), found


def test_grub_reads_ours_with_members_missing():
    for level, n, sets in (('raid5', 4, ([0, 1, 2, 3], [1, 2, 3], [0, 2, 3], [0, 1, 2])),
                           ('raid6', 5, ([0, 1, 2, 3, 4], [0, 2, 3, 4], [2, 3, 4], [0, 2, 4]))):
        with Lab(*[40] * n) as lab:
            data = ours(lab, level, n, 24 * MIB)
            text = call('mdadm', '--examine', '--export', lab.images[0])
            uuid = [x[8:].replace(':', '') for x in text.splitlines() if x.startswith('MD_UUID=')][0]
            for which in sets:
                images = [lab.images[i] for i in which]
                call('grub-fstest', '-c', str(len(images)), *images, 'cmp',
                     '(mduuid/%s)0+%d' % (uuid, 24 * MIB // 512), data)


def test_the_kernel_takes_ours_and_finds_parity_right():
    for level, n in (('raid5', 4), ('raid6', 5), ('raid4', 3)):
        with Lab(*[40] * n) as lab:
            ours(lab, level, n, 32 * MIB)
            got, out = kernel_reads(lab, range(n), 32 * MIB, CHECK)
            equal(got, lab.sha('data'), 'sum')
            assert '[%d/%d]' % (n, n) in out and 'mismatch 0' in out, out


def test_the_kernel_takes_ours_degraded_and_after_our_rebuild():
    for level, n, lost in (('raid5', 4, (1,)), ('raid6', 5, (0, 3))):
        with Lab(*[40] * (n + len(lost))) as lab:
            size = 24 * MIB
            lab.junk('data', size)
            fails = ['fail r d%d' % i for i in lost]
            lab.tool('create r %s %s chunk=64K' % (level, members(n)), *fails,
                     'write r 0 %s' % lab.path('data'))
            got, out = kernel_reads(lab, [i for i in range(n) if i not in lost], size, '')
            equal(got, lab.sha('data'), 'sum of the degraded array')
            lab.tool('assemble r degraded', *['add r d%d' % (n + i) for i in range(len(lost))],
                     'wait r')
            which = [i for i in range(n + len(lost)) if i not in lost]
            got, out = kernel_reads(lab, which, size, CHECK)
            equal(got, lab.sha('data'), 'sum after the rebuild')
            assert '[%d/%d]' % (n, n) in out and 'mismatch 0' in out, out


def test_we_run_what_the_kernel_made():
    cases = (('5', 4, 'right-asymmetric'), ('6', 6, 'ddf-N-continue'), ('4', 3, ''))
    if FULL:
        cases += (('5', 4, 'left-symmetric'), ('5', 3, 'parity-first'), ('6', 5, 'left-symmetric'),
                  ('6', 5, 'left-asymmetric'), ('6', 5, 'right-symmetric-6'))
    for level, n, layout in cases:
        with Lab(*[40] * n) as lab:
            size = 24 * MIB
            lab.junk('data', size)
            lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it '
                    '-l%s -n%d -c64 %s %s\nmdadm --wait /dev/md0 || true\n'
                    'dd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n%s' %
                    (level, n, '--layout=' + layout if layout else '', disks(range(n)), STOP),
                    'raid456')
            before = [lab.peek(i, 4096, 4096) for i in range(n)]
            lab.tool('assemble x', 'read x %s' % lab.path('back'))
            back_is_data(lab, size, 'whole, %s' % layout)
            equal([lab.peek(i, 4096, 4096) for i in range(n)], before, 'superblocks after reading')
            # Without one member, without two; then we write, and the kernel reads that.
            for gone in range(1, 3 if level == '6' else 2):
                lab.tool('assemble x degraded', 'read x %s' % lab.path('back'),
                         images=lab.images[gone:])
                back_is_data(lab, size, '%d gone, %s' % (gone, layout))
            piece = lab.junk('piece', 3 * MIB + 4096)
            lab.tool('assemble x', 'write x 5M %s' % piece)
            with open(lab.path('data'), 'r+b') as f, open(piece, 'rb') as p:
                f.seek(5 * MIB)
                f.write(p.read())
            got, out = kernel_reads(lab, range(n), size, CHECK)
            equal(got, lab.sha('data'), 'sum of %s' % layout)
            assert 'mismatch 0' in out, out


def test_scrub_of_what_the_kernel_made_names_and_mends():
    for level, n, named in (('6', 5, True), ('5', 3, False)):
        with Lab(*[40] * n) as lab:
            size = 8 * MIB
            lab.junk('data', size)
            lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it '
                    '--assume-clean -l%s -n%d -c64 %s\n'
                    'dd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n%s' %
                    (level, n, disks(range(n)), STOP), 'raid456')
            begin = int(lab.examine(2)['Data Offset'].split()[0]) * 512
            at = begin + 6 * 65536 + 8192  # of stripe 6, which raid5 has the parity of here
            lab.poke(2, at, bytes(b ^ 0x55 for b in lab.peek(2, at, 512)))
            wrong = ','.join('1' if named and i == 2 else '0' for i in range(n))
            said = lab.tool('assemble x', 'scrub x', 'scrub x repair', 'scrub x')
            equal(said.split('\n')[:3], ['mismatch=4096 wrong=' + wrong] * 2 +
                  ['mismatch=0 wrong=' + ','.join('0' * n)], 'what scrub says')
            got, out = kernel_reads(lab, range(n), size, CHECK)
            equal(got, lab.sha('data'), 'sum after the repair')
            assert 'mismatch 0' in out, out


def back_is_data(lab, size, what):
    with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
        equal(b.read(size) == d.read(size), True, what)


def test_dirty_and_degraded_needs_force():
    with Lab(40, 40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml('set -e; mdadm --create /dev/md0 --run --metadata=1.2 --name=it -l5 -n3 -c64 '
                '--assume-clean %s\ndd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\ncrash' %
                disks(range(3)), 'raid456')
        said = lab.tool('assemble x degraded', images=lab.images[1:], rc=1)
        assert 'in use when it went down' in said, said
        lab.tool('assemble x', 'wait x', 'read x %s' % lab.path('back'))
        back_is_data(lab, 8 * MIB, 'after a resync')
        got, out = kernel_reads(lab, range(3), 8 * MIB, CHECK)
        assert 'mismatch 0' in out, out


def test_a_crash_and_a_lost_member_at_once():
    for level, n in (('raid5', 4), ('raid6', 5)):
        for lost in range(n):
            with Lab(*[40] * n) as lab:
                lab.junk('data', 8 * MIB)
                piece = lab.junk('piece', 4096)
                lab.tool('create r %s %s chunk=64K' % (level, members(n)),
                         'write r 0 %s' % lab.path('data'), 'flush r', 'write r 20M %s' % piece,
                         'crash', rc=-9)
                images = [x for i, x in enumerate(lab.images) if i != lost]
                lab.tool('assemble r degraded', 'read r %s' % lab.path('back'), images=images)
                back_is_data(lab, 8 * MIB, '%s without %d' % (level, lost))


def test_the_kernel_runs_what_we_left_in_use_and_our_log_is_void_then():
    for ends in (STOP, 'crash'):
        with Lab(40, 40, 40) as lab:
            size = 8 * MIB
            lab.junk('data', size)
            theirs = lab.junk('theirs', 3 * MIB)
            lab.tool('create r raid5 d0,d1,d2 chunk=64K', 'write r 0 %s' % lab.path('data'),
                     'flush r', 'crash', rc=-9)
            out = lab.uml('set -e; mdadm --assemble --run /dev/md0 %s 2>&1\n'
                          'head -c %d /dev/md0 | sha256sum\nmdadm --wait /dev/md0 || true\n%s'
                          'echo 0 > /sys/block/md0/md/safe_mode_delay\n'  # stays in use
                          'dd if=/mnt/theirs of=/dev/md0 bs=1M seek=2 conv=fsync,notrunc\n%s' %
                          (disks(range(3)), size, CHECK, ends), 'raid456')
            assert lab.sha('data') in out and 'mismatch 0' in out, out
            with open(lab.path('data'), 'r+b') as f, open(theirs, 'rb') as t:
                f.seek(2 * MIB)
                f.write(t.read())
            if ends == 'crash':
                said = lab.tool('assemble r degraded', images=lab.images[1:], rc=1)
                assert 'somebody else has run the array' in said, said
            lab.tool('assemble r', 'wait r', 'read r %s' % lab.path('back'))
            back_is_data(lab, size, 'what the kernel wrote')
            got, out = kernel_reads(lab, range(3), size, CHECK)
            assert 'mismatch 0' in out, out


run(test_a_crash_and_a_lost_member_at_once,
    test_the_kernel_runs_what_we_left_in_use_and_our_log_is_void_then, test_mdadm_takes_what_we_write, test_grub_reads_ours_with_members_missing,
    test_the_kernel_takes_ours_and_finds_parity_right,
    test_the_kernel_takes_ours_degraded_and_after_our_rebuild, test_we_run_what_the_kernel_made,
    test_dirty_and_degraded_needs_force, test_scrub_of_what_the_kernel_made_names_and_mends)
