# SPDX-License-Identifier: GPL-2.0-or-later
"""libiscsi's conformance tests of SCSI against a recorded floor: one LUN, and with ORION_FULL=1 all kinds."""
import re

from orion import FULL, Orion, need, run, sh

need('iscsi-test-cu')
IQN = 'iqn.2026-11.test:scsi'

# CUnit counts a skipped test as passed, so the skipped ones have a ceiling; their reasons are in
# docs/scsi.md. Sanitize.Reset wants to see an operation run for four seconds: memory is too fast for
# that, so it has a LUN of its own, on a slow device.
FAST = {'Sanitize.Reset'}
# These write half a kilobyte to LUNs of any block size (the tester's constant), and a piece of a block is
# refused.
HALF_KILOBYTE = {'ProutReserve.Access' + t for t in ('EA', 'WE', 'EARO', 'WERO', 'EAAR', 'WEAR')}
RAN = 215
SKIPS = {'thin': 30, 'full': 40, '4k': 30, 'two URLs': 27, 'write-protected': 230, 'raid1': 40, 'raid0': 40}


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


def run_tests(addr, family, *more):
    out = sh('iscsi-test-cu', '--dataloss', '--allow-sanitize', '--verbose', '-t', family,
             'iscsi://%s/%s/0' % (addr, IQN), *more, expect=None)
    counts = re.search(r'tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)', out)
    assert counts, out[-3000:]
    failed, skipped = failures(out)
    assert int(counts.group(4)) == len(failed), (counts.group(0), failed)
    return int(counts.group(2)), failed, skipped


def conformance(o, kind, addr, *lun):
    o.ctl('iscsi', 'lun', IQN, 0, *lun)
    o.fds_mark()
    url = ['iscsi://%s/%s/0' % (addr, IQN)] if kind == 'two URLs' else []
    ran, failed, skipped = run_tests(addr, 'SCSI.*', *url)
    print('        %s: ran %d, failed %s, skipped %d' % (kind, ran, sorted(failed), len(skipped)))
    assert ran >= RAN, ran
    assert failed <= FAST | (HALF_KILOBYTE if kind == '4k' else set()), failed
    assert len(skipped) <= SKIPS[kind], sorted(skipped)


def array(o, level):
    o.mem('x0', size='120M')
    o.mem('x1', size='120M')
    o.ctl('array', 'create', 'm0', '--level', level, '--members', 'x0,x1', '--assume-clean')


def test_a_thin_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'thin', o.iscsi(IQN), '--device', 'm0')


def test_a_full_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'full', o.iscsi(IQN), '--device', 'm0', '--provisioning', 'full')


def test_a_lun_of_4_kib_blocks():
    with Orion() as o:
        o.ctl('device', 'add', 'm0', '--type', 'mem', '--size', '100M', '--block-size', '4096')
        conformance(o, '4k', o.iscsi(IQN), '--device', 'm0')


def test_a_write_protected_lun():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'write-protected', o.iscsi(IQN), '--device', 'm0', '--read-only')


def test_two_urls():
    with Orion() as o:
        o.mem('m0', size='100M')
        conformance(o, 'two URLs', o.iscsi(IQN), '--device', 'm0')


def test_arrays():
    for level in 'raid1', 'raid0':
        with Orion() as o:
            array(o, level)
            conformance(o, level, o.iscsi(IQN), '--device', 'm0')


def test_a_sanitize_operation_goes_on_through_resets():
    with Orion() as o:
        o.mem('m0', size='100M')
        o.ctl('device', 'add', 'f0', '--type', 'fault', '--on', 'm0', '--rules', 'write:delay=120ms')
        addr = o.iscsi(IQN)
        o.ctl('iscsi', 'lun', IQN, 0, '--device', 'f0', '--provisioning', 'full')
        ran, failed, skipped = run_tests(addr, 'SCSI.Sanitize.Reset')
        assert ran == 1 and not failed and not skipped, (ran, failed, skipped)


tests = [test_a_thin_lun]
if FULL:
    tests += [test_a_full_lun, test_a_lun_of_4_kib_blocks, test_a_write_protected_lun, test_two_urls,
              test_arrays, test_a_sanitize_operation_goes_on_through_resets]
run(*tests)
