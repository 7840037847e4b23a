# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""libiscsi's conformance tests of SCSI on LUNs of every other kind."""
from conformance import IQN, conformance, run_tests
from orion import Orion, run

READING = ('ReadOnly', 'Inquiry', 'Mandatory', 'ModeSense6', 'Prefetch10', 'Prefetch16', 'PrinReadKeys', 'PrinReportCapabilities',
           'ProutRegister', 'ProutClear', 'ProutPreempt', 'Read6', 'Read10', 'Read12', 'Read16', 'ReadCapacity10',
           'ReadCapacity16', 'ReadDefectData10', 'ReadDefectData12', 'ReportSupportedOpcodes', 'Reserve6',
           'TestUnitReady', 'Verify10', 'Verify12', 'Verify16')


def array(o, level):
    o.mem('x0', size='120M')
    o.mem('x1', size='120M')
    o.ctl('array', 'create', 'm0', '--level', level, '--members', 'x0,x1', '--assume-clean')


def test_a_full_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'full', o.iscsi(IQN), '--device', 'm0', '--provisioning', 'full')


def test_a_lun_of_4_kib_blocks():
    with Orion() as o:
        o.ctl('device', 'add', 'm0', '--type', 'mem', '--size', '100M', '--block-size', '4096')
        conformance(o, '4k', o.iscsi(IQN), '--device', 'm0')


def test_a_write_protected_lun():
    """What needs to write cannot pass there: these families do not."""
    with Orion() as o:
        o.mem('m0', size='100M')
        addr = o.iscsi(IQN)
        o.ctl('iscsi', 'lun', IQN, 0, '--device', 'm0', '--read-only')
        for family in READING:
            ran, failed, _ = run_tests(addr, 'SCSI.%s.*' % family)
            assert ran and not failed, (family, ran, failed)


def test_two_urls():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'two URLs', o.iscsi(IQN), '--device', 'm0')


def test_arrays():
    for level in 'raid1', 'raid0':
        with Orion() as o:
            array(o, level)
            conformance(o, level, o.iscsi(IQN), '--device', 'm0')


run(test_a_full_lun, test_a_lun_of_4_kib_blocks, test_a_write_protected_lun, test_two_urls, test_arrays)
