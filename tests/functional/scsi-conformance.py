# SPDX-License-Identifier: GPL-2.0-or-later
"""libiscsi's conformance tests of SCSI on one LUN."""
from conformance import IQN, conformance
from orion import Orion, run


def test_a_thin_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'thin', o.iscsi(IQN), '--device', 'm0')


run(test_a_thin_lun)
