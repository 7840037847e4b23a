# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml
"""Arrays that the kernel and mdadm made (in user-mode-linux) are assembled by us, byte for byte."""
import struct

from lib import MIB, Lab, call, equal, need, need_uml, run

need('mdadm')
need_uml()

MAKE = 'set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it '
FILL = '\ndd if=/mnt/data of=/dev/md0 bs=1M conv=fsync,notrunc\n'
WAIT = '\nmdadm --wait /dev/md0 || true\n'
STOP = '\nmdadm --stop /dev/md0\n'


def array_size(lab):
    return int(lab.tool('assemble x degraded readonly', 'info x').split('size=')[1].split()[0])


def check_reads(lab, size, *how):
    lab.tool(' '.join(('assemble x',) + how), 'read x %s' % lab.path('back'))
    with open(lab.path('back'), 'rb') as b, open(lab.path('data'), 'rb') as d:
        got, want = b.read(size), d.read(size)
    equal(len(got), size, 'the length')
    equal(got == want, True, 'what was read is what was written')


def test_raid0_with_equal_and_unequal_members():
    for sizes, chunk in (((40, 40, 40), 512), ((40, 64, 48), 64)):
        with Lab(*sizes) as lab:
            size = 40 * len(sizes) * MIB
            lab.junk('data', size + sum(sizes) * MIB)
            out = lab.uml(MAKE + '-l0 -n3 -c%d /dev/ubda /dev/ubdb /dev/ubdc\n'
                          'dd if=/mnt/data of=/dev/md0 bs=64K || true\n'
                          'blockdev --flushbufs /dev/md0; echo size $(blockdev --getsize64 /dev/md0)' %
                          chunk + STOP)
            size = int(out.split('size ')[1].split()[0])
            equal(array_size(lab), size, 'size')
            before = [lab.peek(i, 4096, 4096) for i in range(3)]
            check_reads(lab, size)
            equal([lab.peek(i, 4096, 4096) for i in range(3)], before, 'superblocks after reading')
            assert 'it raid0 3/3 complete=1 startable=1' in lab.tool('scan')


def test_raid1_with_two_and_three_copies():
    for n in (2, 3):
        with Lab(*[40] * n) as lab:
            lab.junk('data', 30 * MIB)
            devs = ' '.join('/dev/ubd' + 'abc'[i] for i in range(n))
            lab.uml(MAKE + '-l1 -n%d %s' % (n, devs) + FILL + WAIT + STOP)
            before = [lab.peek(i, 4096, 4096) for i in range(n)]
            check_reads(lab, 30 * MIB)
            equal([lab.peek(i, 4096, 4096) for i in range(n)], before, 'superblocks after reading')


def test_degraded_in_each_way():
    with Lab(40, 40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --assume-clean /dev/ubda /dev/ubdb\nmdadm /dev/md0 --fail /dev/ubda' +
                FILL + STOP, images=lab.images[:2])
        lab.tool('assemble x', rc=1)  # not without being told
        check_reads(lab, 8 * MIB, 'degraded')
        equal(lab.tool('scan').split('why=')[1].strip(),
              '1 of 2 members are missing or out of date', 'why')
        # Filled up by us, given back to the kernel.
        lab.tool('assemble x degraded', 'add x d2', 'wait x')
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb /dev/ubdc 2>&1\n'
                      'cat /proc/mdstat; head -c 8M /dev/md0 | sha256sum\n'
                      'echo check > /sys/block/md0/md/sync_action' + WAIT +
                      'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)' + STOP)
        assert '[2/2] [UU]' in out and lab.sha('data') in out and 'mismatch 0' in out, out


def test_dirty_by_a_power_cut_is_resynced():
    with Lab(40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --assume-clean /dev/ubda /dev/ubdb' + FILL + 'crash')
        equal(lab.examine(0)['State'], 'active', 'state')
        lab.poke(1, (1 + 20) * MIB, b'torn' * 128)
        assert 'resync=1' in lab.tool('scan')
        check_reads(lab, 8 * MIB)
        lab.tool('assemble x', 'wait x')
        equal(lab.peek(0, MIB, 39 * MIB) == lab.peek(1, MIB, 39 * MIB), True, 'the copies')
        equal(lab.examine(0)['State'], 'clean', 'state')


def test_a_dirty_array_is_resynced_by_the_kernels_bitmap():
    with Lab(40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --bitmap=internal --bitmap-chunk=64 --assume-clean /dev/ubda /dev/ubdb' +
                STOP)  # which clears the bits that mdadm sets
        lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb' + FILL + 'crash')
        equal(lab.examine(0)['State'], 'active', 'state')
        lab.poke(1, MIB + 4 * MIB, b'torn' * 128)   # where the bitmap says that writes were under way
        lab.poke(1, MIB + 20 * MIB, b'torn' * 128)  # where it says nothing
        lab.tool('assemble x', 'wait x')
        equal(lab.peek(1, MIB, 8 * MIB) == lab.peek(0, MIB, 8 * MIB), True, 'what was marked')
        equal(lab.peek(1, 21 * MIB, 512), b'torn' * 128, 'what was not')


def test_a_bitmap_is_kept_for_the_kernel():
    with Lab(40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --bitmap=internal --bitmap-chunk=64 --assume-clean /dev/ubda /dev/ubdb' +
                FILL + WAIT + STOP)
        equal(lab.examine(0)['Internal Bitmap'], '8 sectors from superblock', 'bitmap')
        check_reads(lab, 8 * MIB)
        # We write, the power goes, and one leg has more than the other.
        lab.tool('assemble x', 'write x 0 %s' % lab.path('data'), 'flush x', 'crash', rc=-9)
        lab.poke(1, MIB + 4 * MIB, b'torn' * 128)
        lab.poke(1, MIB + 20 * MIB, b'torn' * 128)
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb 2>&1' + WAIT +
                      'head -c 8M /dev/md0 | sha256sum\ndmesg | grep -i bitmap || true' + STOP)
        assert lab.sha('data') in out and 'out of date' not in out, out
        equal(lab.peek(1, MIB, 8 * MIB) == lab.peek(0, MIB, 8 * MIB), True, 'what was marked')
        equal(lab.peek(1, 21 * MIB, 512), b'torn' * 128, 'what was not')


def test_a_new_member_of_a_bitmapped_array_has_the_bitmap():
    with Lab(40, 40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --bitmap=internal --assume-clean /dev/ubda /dev/ubdb' + FILL + WAIT +
                STOP, images=lab.images[:2])
        lab.tool('assemble x', 'fail x d0', 'remove x d0', 'add x d2', 'wait x')
        equal(lab.peek(2, 8192, 4), b'bitm', 'the bitmap of the new member')
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb 2>&1; cat /proc/mdstat\n'
                      'head -c 8M /dev/md0 | sha256sum; echo check > /sys/block/md0/md/sync_action' +
                      WAIT + 'echo mismatch $(cat /sys/block/md0/md/mismatch_cnt)' + STOP,
                      images=[lab.images[2], lab.images[1]])
        assert '[2/2] [UU]' in out and 'bitmap:' in out and 'mismatch 0' in out, out
        assert lab.sha('data') in out, out


def test_a_stale_member_is_left_out():
    with Lab(40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --assume-clean /dev/ubda /dev/ubdb' + STOP)
        lab.uml('set -e; mdadm --assemble --run /dev/md0 /dev/ubda' + FILL + STOP,
                images=lab.images[:1])
        assert 'it raid1 1/2 complete=0 startable=1' in lab.tool('scan')
        check_reads(lab, 8 * MIB, 'degraded')


def test_a_spare_of_mdadm_steps_in():
    with Lab(40, 40, 40) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 -x1 --assume-clean /dev/ubda /dev/ubdb /dev/ubdc' + FILL + STOP)
        said = lab.tool('assemble x', 'info x', 'fail x d0', 'wait x', 'info x')
        assert '-1 d2 spare' in said and '0 d2 in-sync' in said, said
        out = lab.uml('set -e; mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb /dev/ubdc 2>&1\n'
                      'cat /proc/mdstat; head -c 8M /dev/md0 | sha256sum' + STOP)
        assert '[2/2] [UU]' in out and 'ubda' not in out.split('md0 : ')[1], out
        assert lab.sha('data') in out, out


def test_what_we_cannot_run_is_refused_untouched():
    """A power cut in the middle of a reshape, and a journal device."""
    with Lab(40, 40, 40, 40) as lab:
        lab.uml(MAKE + '-l5 -n3 -x1 --assume-clean /dev/ubda /dev/ubdb /dev/ubdc /dev/ubdd\n'
                'echo 300 > /sys/block/md0/md/sync_speed_max\n'
                'mdadm --grow /dev/md0 --raid-devices=4 2>&1\n'
                'for i in $(seq 100); do sleep 0.1; [ $(cat /sys/block/md0/md/reshape_position) = none ]'
                ' || break; done\ncat /sys/block/md0/md/reshape_position; crash', 'raid456')
        before = [lab.peek(i, 0, 40 * MIB) for i in range(4)]
        for how in ('', ' readonly', ' force'):
            said = lab.tool('assemble x' + how, rc=1)
            assert 'reshaped from raid5 of 3 to raid5 of 4 members' in said, said
        assert 'startable=0' in lab.tool('scan')
        equal([lab.peek(i, 0, 40 * MIB) for i in range(4)] == before, True, 'the disks')
        for i in range(4):
            lab.blank(i, 40)
        lab.uml(MAKE + '-l5 -n3 --assume-clean --write-journal /dev/ubdd /dev/ubda /dev/ubdb /dev/ubdc' +
                STOP, 'raid456')
        assert 'journal' in lab.tool('assemble x', rc=1)


def test_padding_in_use_is_refused_as_the_kernel_does():
    with Lab(40, 40) as lab:
        lab.uml(MAKE + '-l1 -n2 --assume-clean /dev/ubda /dev/ubdb' + STOP)
        for i in range(2):
            sb = bytearray(lab.peek(i, 4096, 4096))
            sb[240] = 1
            struct.pack_into('<I', sb, 216, 0)
            total = sum(struct.unpack_from('<128I', sb, 0))
            struct.pack_into('<I', sb, 216, ((total & 0xffffffff) + (total >> 32)) & 0xffffffff)
            lab.poke(i, 4096, sb)
        assert 'correct' in call('mdadm', '--examine', lab.images[0])  # mdadm sees nothing
        lab.tool('assemble x', rc=1)
        lab.uml('mdadm --assemble /dev/md0 /dev/ubda /dev/ubdb', rc=1)


run(test_raid0_with_equal_and_unequal_members, test_raid1_with_two_and_three_copies,
    test_degraded_in_each_way, test_dirty_by_a_power_cut_is_resynced,
    test_a_dirty_array_is_resynced_by_the_kernels_bitmap, test_a_bitmap_is_kept_for_the_kernel,
    test_a_new_member_of_a_bitmapped_array_has_the_bitmap, test_a_stale_member_is_left_out,
    test_a_spare_of_mdadm_steps_in,
    test_what_we_cannot_run_is_refused_untouched, test_padding_in_use_is_refused_as_the_kernel_does)
