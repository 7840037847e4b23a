# SPDX-License-Identifier: GPL-2.0-or-later
"""libiscsi's conformance tests of SCSI against a recorded floor, on LUNs of each kind."""
import re

from orion import Orion, need, run, sh

need('iscsi-test-cu')
IQN = 'iqn.2026-11.test:scsi'

# CUnit counts a skipped test as passed, so the skipped ones have a ceiling. The one that fails expects
# the first descriptor of GET LBA STATUS at another LBA than it asked for where a physical block has
# several logical ones: see docs/scsi.md.
KNOWN = {'GetLBAStatus.UnmapSingle'}
RAN = 215
SKIPS = {'thin': 76, 'full': 92, '4k': 81}


def failures(out):
    """The names of the tests with failed assertions, and of those that say SKIPPED."""
    suite = test = ''
    failed, skipped = set(), set()
    for line in out.splitlines():
        suite = (re.match(r'Suite: (\S+)', line) or [0, suite])[1]
        test = (re.match(r'\s+Test: (\S+)', line) or [0, test])[1]
        if re.match(r'\s+\d+\. test_', line):
            failed.add('%s.%s' % (suite, test))
        elif re.search(r'^(?!.*passed).*\[SKIPP(ED|ING)\]', line) and test:
            skipped.add('%s.%s' % (suite, test))
        if 'passed' in line:
            test = ''  # the end of a suite says SKIPPED once more
    return failed, skipped - failed


def conformance(o, addr, kind, known=frozenset()):
    out = sh('iscsi-test-cu', '--dataloss', '--verbose', '-t', 'SCSI.*',
             'iscsi://%s/%s/0' % (addr, IQN), expect=None)
    counts = re.search(r'tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)', out)
    assert counts, out[-3000:]
    failed, skipped = failures(out)
    print('        %s: ran %s, failed %s, skipped %d' % (kind, counts.group(2), sorted(failed),
                                                        len(skipped)))
    assert int(counts.group(2)) >= RAN, counts.group(0)
    assert int(counts.group(4)) == len(failed), (counts.group(0), failed)
    assert failed <= known, failed
    assert len(skipped) <= SKIPS[kind], sorted(skipped)


def test_a_thin_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        addr = o.iscsi(IQN, 'm0')
        o.fds_mark()
        conformance(o, addr, 'thin', KNOWN)


def test_a_full_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        addr = o.iscsi(IQN)
        o.ctl('iscsi', 'lun', IQN, 0, '--device', 'm0', '--provisioning', 'full')
        o.fds_mark()
        conformance(o, addr, 'full')


def test_a_lun_of_4_kib_blocks():
    with Orion() as o:
        o.ctl('device', 'add', 'm0', '--type', 'mem', '--size', '100M', '--block-size', '4096')
        addr = o.iscsi(IQN, 'm0')
        o.fds_mark()
        conformance(o, addr, '4k')


run(test_a_thin_lun, test_a_full_lun, test_a_lun_of_4_kib_blocks)
