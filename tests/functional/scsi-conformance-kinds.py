# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""libiscsi's conformance tests of SCSI on LUNs of other kinds."""
import os

from conformance import NO_BLOCKS, PIECES, PROTECTED, THIN, UNMAPS, WRITING, conformance, mem
from orion import run


def test_a_full_lun():
    conformance('full', mem, (THIN | UNMAPS) - NO_BLOCKS, '--provisioning', 'full')


def test_a_lun_of_4_kib_blocks():
    conformance('4k', lambda o, name: mem(o, name, 4096), THIN)


def test_several_blocks_in_a_physical_one():
    """GetLBAStatus.UnmapSingle is wrong there (docs/scsi.md); unit/scsi/provisioning has its claim right."""
    def make(o, name):
        path = os.path.join(o.dir, name)
        with open(path, 'wb') as f:
            f.truncate(100 << 20)
        o.ctl('device', 'add', name, '--type', 'file', '--path', path)
    conformance('file', make, THIN - PIECES, wrong={'GetLBAStatus.UnmapSingle'})


def test_a_write_protected_lun():
    """All that does not write passes there; what does is refused, and the tester takes no refusal."""
    conformance('protected', mem, THIN - PROTECTED, '--read-only', wrong=WRITING)


run(test_a_full_lun, test_a_lun_of_4_kib_blocks, test_several_blocks_in_a_physical_one,
    test_a_write_protected_lun)
