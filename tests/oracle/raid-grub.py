# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB's own md code reads our arrays from plain files, with members missing too."""
from lib import Lab, call, equal, need, run

need('mdadm', 'grub-fstest')


def uuid(lab, i=0):
    out = call('mdadm', '--examine', '--export', lab.images[i])
    return [x[8:].replace(':', '') for x in out.splitlines() if x.startswith('MD_UUID=')][0]


def grub_reads(lab, members, at, size, data):
    images = [lab.images[i] for i in members]
    where = '(mduuid/%s)%d+%d' % (uuid(lab, members[0]), at // 512, size // 512)
    call('grub-fstest', '-c', str(len(images)), *images, 'cmp', where, data)


def test_raid1_whole_and_by_each_single_copy():
    with Lab(40, 40, 40) as lab:
        data = lab.junk('data', 20 << 20)
        lab.tool('create r raid1 d0,d1,d2', 'write r 1M %s' % data)
        for members in ([0, 1, 2], [0], [1], [2]):
            grub_reads(lab, members, 1 << 20, 20 << 20, data)
        other = lab.junk('other', 20 << 20)
        try:
            grub_reads(lab, [0], 1 << 20, 20 << 20, other)
        except AssertionError:
            return
        raise AssertionError('the comparison compares nothing')


def test_raid0_over_equal_members():
    with Lab(40, 40, 40) as lab:
        data = lab.junk('data', 60 << 20)
        lab.tool('create r raid0 d0,d1,d2 chunk=32K', 'write r 64K %s' % data)
        grub_reads(lab, [0, 1, 2], 64 << 10, 60 << 20, data)


def test_a_failed_copy_is_not_used():
    with Lab(40, 40) as lab:
        old, new = lab.junk('old', 4 << 20), lab.junk('new', 4 << 20)
        lab.tool('create r raid1 d0,d1', 'write r 0 %s' % old, 'fail r d0', 'write r 0 %s' % new)
        grub_reads(lab, [1], 0, 4 << 20, new)
        equal(lab.examine(1)['Array State'].split()[0], '.A', 'array state')


run(test_raid1_whole_and_by_each_single_copy, test_raid0_over_equal_members,
    test_a_failed_copy_is_not_used)
