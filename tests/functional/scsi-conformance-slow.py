# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""The conformance test of SANITIZE that wants to see it run for a while."""
from conformance import IQN, run_tests
from orion import Orion, run


def test_a_sanitize_operation_goes_on_through_resets():
    with Orion() as o:
        o.mem('m0', size='100M')
        o.ctl('device', 'add', 'f0', '--type', 'fault', '--on', 'm0', '--rules', 'write:delay=120ms')
        addr = o.iscsi(IQN)
        o.ctl('iscsi', 'lun', IQN, 0, '--device', 'f0', '--provisioning', 'full')
        ran, failed, skipped = run_tests(addr, 'SCSI.Sanitize.Reset')
        assert ran == 1 and not failed and not skipped, (ran, failed, skipped)


run(test_a_sanitize_operation_goes_on_through_resets)
