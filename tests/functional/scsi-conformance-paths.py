# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""libiscsi's conformance tests of SCSI with two paths, and on a write-protected LUN."""
import re

from conformance import (IQN, PARTS, PATHS, PROTECTED, RAN, THIN, at_once, conformance, mem, portal, run_tests,
                         target)
from orion import Orion, need, run, sh

need('qemu-io')


def test_two_urls():
    conformance('paths', mem, THIN - PATHS, urls=2)


def first_failures(out):
    """Test -> what it said first of a failure."""
    suite = test = ''
    said = {}
    for line in out.splitlines():
        suite = (re.match(r'Suite: (\S+)', line) or [0, suite])[1]
        test = (re.match(r'\s+Test: (\S+)', line) or [0, test])[1]
        if '[FAILED]' in line:
            said.setdefault('%s.%s' % (suite, test), line)
    return said


def test_a_write_protected_lun():
    """What begins with a write fails there, whoever made the LUN: with WRITE PROTECTED, and nothing else
    fails. What the device holds stays as it is."""
    with Orion() as o:
        addr = portal(o)
        disks = {}
        for i, tests in enumerate(PARTS):
            name = 'protected-%d' % i
            mem(o, name)
            disks[tests] = IQN % name, o.nbd(name, name)
            sh('qemu-io', '-f', 'raw', '-c', 'write -P 0x5a 0 100M', disks[tests][1])
            target(o, IQN % name, name, '--read-only')
        o.fds_mark()
        parts = at_once(*[lambda t=t: run_tests(addr, disks[t][0], t) for t in PARTS])
        failed = parts[0][1] | parts[1][1]
        said = first_failures(parts[0][3] + parts[1][3])
        print('        protected: ran %d, refused %d' % (sum(p[0] for p in parts), len(failed)))
        assert sum(p[0] for p in parts) == RAN - 1
        for name in failed - {'Write10.Async'}:  # which does not tell why
            assert re.search('WRITE_PROTECTED|0x2700', said[name]), (name, said[name])
        assert not PROTECTED & (failed | parts[0][2] | parts[1][2])
        for _, uri in disks.values():
            sh('qemu-io', '-f', 'raw', '-c', 'read -P 0x5a 0 100M', uri)


run(test_two_urls, test_a_write_protected_lun)
