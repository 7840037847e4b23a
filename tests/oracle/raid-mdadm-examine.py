# SPDX-License-Identifier: GPL-2.0-or-later
"""mdadm and libblkid agree with the superblocks that we write."""
import re

from lib import Lab, call, equal, need, run

need('mdadm', 'blkid')


def check_member(lab, i, level, slots, state='clean'):
    x = lab.examine(i)
    equal(x['Version'], '1.2', 'version')
    equal(x['Raid Level'], level, 'level')
    equal(x['Raid Devices'], str(slots), 'devices')
    equal(x['State'], state, 'state')
    equal(x['Super Offset'], '8 sectors', 'super offset')
    assert x['Checksum'].endswith('- correct'), x
    equal(x['Name'].split()[0], 'orion:r', 'name')
    assert 'linux_raid_member' in call('blkid', '-p', lab.images[i])
    return x


def test_raid1_with_three_copies():
    with Lab(32, 32, 40) as lab:
        lab.tool('create r raid1 d0,d1,d2')
        for i in range(3):
            x = check_member(lab, i, 'raid1', 3)
            equal(x['Device Role'], 'Active device %d' % i, 'role')
            equal(x['Array State'].split()[0], 'AAA', 'array state')
            assert x['Data Offset'] == '2048 sectors' and 'before=1968' in x['Unused Space'], x
        scan = call('mdadm', '--examine', '--scan', *lab.images)
        assert re.search(r'ARRAY /dev/md/r .*metadata=1.2 .*name=orion:r', scan), scan


def test_raid0_with_unequal_members_names_its_layout():
    with Lab(64, 96, 128) as lab:
        lab.tool('create r raid0 d0,d1,d2 chunk=64K')
        for i in range(3):
            x = check_member(lab, i, 'raid0', 3)
            equal(x['Chunk Size'], '64K', 'chunk')
            equal(x['Layout'], 'original', 'layout')
            equal(x['Feature Map'], '0x1000', 'features')


def test_a_missing_member_and_a_failed_one_are_seen():
    with Lab(32, 32, 32) as lab:
        lab.tool('create r raid1 d0,missing,d2')
        equal(check_member(lab, 0, 'raid1', 3)['Array State'].split()[0], 'A.A', 'array state')
        lab.tool('assemble r degraded', 'fail r d2')
        equal(check_member(lab, 0, 'raid1', 3)['Array State'].split()[0], 'A..', 'array state')


def test_in_use_is_active_and_stopped_is_clean():
    with Lab(32, 32) as lab:
        data = lab.junk('data', 4096)
        lab.tool('create r raid1 d0,d1', 'write r 0 %s' % data, 'crash', rc=-9)
        check_member(lab, 0, 'raid1', 2, 'active')
        lab.tool('assemble r', 'wait r')
        check_member(lab, 0, 'raid1', 2, 'clean')


def test_a_half_built_member_says_how_far_it_is():
    with Lab(256, 256) as lab:
        lab.tool('create r raid1 d0,missing', 'write r 0 %s' % lab.junk('data', 1 << 20), 'add r d1')
        features = int(lab.examine(1)['Feature Map'], 16)
        if features & 2:  # the stop came before the end of the rebuild
            assert 'Recovery Offset' in lab.examine(1), lab.examine(1)
        lab.tool('assemble r degraded', 'wait r')
        equal(lab.examine(1)['Feature Map'], '0x0', 'features after the rebuild')
        equal(lab.examine(1)['Array State'].split()[0], 'AA', 'array state')


def test_delete_leaves_no_superblock():
    with Lab(32, 32) as lab:
        lab.tool('create r raid1 d0,d1', 'delete r')
        call('mdadm', '--examine', lab.images[0], rc=1)
        call('blkid', '-p', lab.images[1], rc=2)


run(test_raid1_with_three_copies, test_raid0_with_unequal_members_names_its_layout,
    test_a_missing_member_and_a_failed_one_are_seen, test_in_use_is_active_and_stopped_is_clean,
    test_a_half_built_member_says_how_far_it_is, test_delete_leaves_no_superblock)
