# SPDX-License-Identifier: GPL-2.0-or-later
"""Running libiscsi's conformance tests of SCSI against a recorded floor."""
import re

from orion import need, sh

need('iscsi-test-cu')
IQN = 'iqn.2026-11.test:scsi'

# CUnit counts a skipped test as passed, so the skipped ones have a ceiling; their reasons are in
# docs/scsi.md. Sanitize.Reset wants to see an operation run for four seconds: memory is too fast for it.
FAST = {'Sanitize.Reset'}
# These write half a kilobyte to LUNs of any block size (the tester's constant), and a piece of a block is
# refused.
ACCESS = {'ProutReserve.Access' + t for t in ('EA', 'WE', 'EARO', 'WERO', 'EAAR', 'WEAR')}
RAN = 215
SKIPS = {'thin': 30, 'full': 40, '4k': 30, 'two URLs': 26, 'raid1': 40, 'raid0': 40}


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


def run_tests(addr, family, *more, dataloss=True):
    flags = ['--dataloss', '--allow-sanitize'] if dataloss else []
    out = sh('iscsi-test-cu', *flags, '--verbose', '-t', family,
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
    assert failed <= FAST | (ACCESS if kind == '4k' else set()), failed
    assert len(skipped) <= SKIPS[kind], sorted(skipped)
