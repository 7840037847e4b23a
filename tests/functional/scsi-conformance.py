# SPDX-License-Identifier: GPL-2.0-or-later
"""libiscsi's conformance tests of SCSI on one LUN."""
from conformance import THIN, conformance, mem
from orion import run


def test_a_thin_lun():
    conformance('thin', mem, THIN)


run(test_a_thin_lun)
