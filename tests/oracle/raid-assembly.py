# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml long
"""Who takes part, of disks that the kernel made: the freshest decides, nobody's twin and no foreigner."""
import shutil

from lib import MIB, Lab, equal, need, need_uml, run

need('mdadm')
need_uml()

MAKE = 'set -e; mdadm --create /dev/md0 --run --metadata=1.2 --homehost=host --name=it --assume-clean '
FILL = '\ndd if=/mnt/%s of=/dev/md0 bs=1M conv=fsync,notrunc\n'
STOP = '\nmdadm --stop /dev/md0\n'


def check_reads(lab, name, size, *how):
    lab.tool(' '.join(('assemble x',) + how), 'wait x', 'read x %s' % lab.path('back'))
    with open(lab.path('back'), 'rb') as b, open(lab.path(name), 'rb') as d:
        equal(b.read(size) == d.read(size), True, 'what is read is %s' % name)


def went_on(lab, i, name):
    """The kernel runs the array on this member alone, and writes."""
    lab.uml('set -e; mdadm --assemble --run /dev/md0 /dev/ubda' + FILL % name + STOP, images=[lab.images[i]])


def test_the_freshest_wins_and_the_stale_one_comes_back_by_the_bitmap():
    with Lab(24, 24, 24) as lab:
        lab.junk('old', 8 * MIB)
        lab.junk('new', 4 * MIB)
        lab.uml(MAKE + '-l1 -n3 --bitmap=internal --bitmap-chunk=64 /dev/ubd[abc]' + FILL % 'old' + STOP)
        lab.uml('set -e; mdadm --assemble --run /dev/md0 /dev/ubda /dev/ubdb' + FILL % 'new' + STOP,
                images=lab.images[1:])
        lab.poke(0, (1 + 20) * MIB, b'rot.' * 128)  # nobody wrote there: not copied
        check_reads(lab, 'new', 4 * MIB, 'degraded')
        said = lab.tool('assemble x', 'wait x', 'info x')
        assert 'missing=0' in said and '0 d0 in-sync' in said, said
        equal(lab.peek(0, MIB, 8 * MIB) == lab.peek(1, MIB, 8 * MIB), True, 'the copies')
        equal(lab.peek(0, 21 * MIB, 512), b'rot.' * 128, 'what was not marked')


def test_a_stale_member_without_a_bitmap_is_left_out():
    with Lab(24, 24) as lab:
        lab.junk('old', 8 * MIB)
        lab.junk('new', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --bitmap=none /dev/ubda /dev/ubdb' + FILL % 'old' + STOP)
        went_on(lab, 1, 'new')
        assert '1/2 complete=0' in lab.tool('scan')
        said = lab.tool('assemble x', rc=1)
        assert 'missing or out of date' in said, said
        check_reads(lab, 'new', 8 * MIB, 'degraded')


def test_half_of_an_array_starts_only_when_told():
    for how, n, module in (('-l5 -n3 -c64', 3, 'raid456'), ('-l10 -n4 -c64', 4, 'raid10')):
        with Lab(*[24] * n) as lab:
            lab.junk('data', 8 * MIB)
            devs = ' '.join('/dev/ubd' + 'abcd'[i] for i in range(n))
            lab.uml(MAKE + how + ' ' + devs + FILL % 'data' + STOP, module)
            lab.blank(1, 24)
            assert '%d/%d complete=0 startable=1' % (n - 1, n) in lab.tool('scan')
            lab.tool('assemble x', rc=1)
            check_reads(lab, 'data', 8 * MIB, 'degraded')
            lab.blank(0, 24)  # and now too much is gone: the copy, or the second of three
            assert 'startable=0' in lab.tool('scan')
            lab.tool('assemble x degraded', rc=1)


def test_halves_that_each_went_on_are_not_put_together():
    with Lab(24, 24) as lab:
        lab.junk('one', 8 * MIB)
        lab.junk('two', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 --bitmap=none /dev/ubda /dev/ubdb' + FILL % 'one' + STOP)
        went_on(lab, 0, 'one')
        went_on(lab, 1, 'two')
        before = [lab.peek(i, 4096, 4096) for i in range(2)]
        lab.tool('assemble x degraded', rc=1)
        assert 'ambiguous=1' in lab.tool('scan')
        equal([lab.peek(i, 4096, 4096) for i in range(2)], before, 'the superblocks')


def test_a_twin_is_never_taken():
    with Lab(24, 24, 24) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 /dev/ubda /dev/ubdb' + FILL % 'data' + STOP, images=lab.images[:2])
        shutil.copy(lab.images[1], lab.images[2])
        before = [lab.peek(i, 4096, 4096) for i in range(3)]
        said = lab.tool('scan')
        assert 'ambiguous=1' in said and 'copy of the other' in said, said
        lab.tool('assemble x degraded', rc=1)
        equal([lab.peek(i, 4096, 4096) for i in range(3)], before, 'the superblocks')


def test_a_foreign_member_of_the_same_name_is_never_taken():
    with Lab(24, 24, 24, 24) as lab:
        lab.junk('data', 8 * MIB)
        lab.junk('other', 8 * MIB)
        lab.uml(MAKE + '-l1 -n2 /dev/ubda /dev/ubdb' + FILL % 'data' + STOP, images=lab.images[:2])
        lab.uml(MAKE + '-l1 -n2 /dev/ubda /dev/ubdb' + FILL % 'other' + STOP, images=lab.images[2:])
        shutil.copy(lab.images[3], lab.images[1])  # the second member is of the other array
        two = lab.images[:2]
        said = lab.tool('scan', images=two)
        equal(said.count('1/2 complete=0 startable=1'), 2, 'the number of halves in %s' % said)
        said = lab.tool('assemble x degraded', 'info x', images=two)
        assert 'missing=1' in said and '0 d0 in-sync' in said and ' d1 ' not in said, said


def test_dirty_and_degraded_needs_force():
    with Lab(24, 24, 24) as lab:
        lab.junk('data', 8 * MIB)
        lab.uml(MAKE + '-l5 -n3 -c64 /dev/ubd[abc]' + FILL % 'data' + 'crash', 'raid456')
        equal(lab.examine(0)['State'], 'active', 'state')
        lab.blank(2, 24)
        said = lab.tool('assemble x degraded', rc=1)
        assert 'may be lost' in said, said
        said = lab.tool('assemble x degraded force', 'info x')
        assert 'missing=1' in said, said


run(test_the_freshest_wins_and_the_stale_one_comes_back_by_the_bitmap,
    test_a_stale_member_without_a_bitmap_is_left_out, test_half_of_an_array_starts_only_when_told,
    test_halves_that_each_went_on_are_not_put_together, test_a_twin_is_never_taken,
    test_a_foreign_member_of_the_same_name_is_never_taken, test_dirty_and_degraded_needs_force)
