# SPDX-License-Identifier: GPL-2.0-or-later
"""Running libiscsi's conformance tests of SCSI against a recorded floor."""
import re
import threading

from orion import Orion, need, sh

need('iscsi-test-cu')
IQN = 'iqn.2026-11.test:scsi-%s'
RAN = 215

# Two that run at once, each on a LUN of its own, for the tests sleep a lot; and one that needs a device
# on which SANITIZE takes its time (docs/scsi.md).
PARTS = ('SCSI.[A-LN-Q]*,SCSI.M[!u]*',
         'SCSI.[RT-Z]*,SCSI.St*,SCSI.Sanitize.[!R]*,SCSI.Sanitize.Re[!s]*,SCSI.Sanitize.Rese[!t]*,'
         'SCSI.Mu*')  # runs first: MultipathIO.CompareAndWrite takes block 256 to be zero and does not make it so
RESET = 'SCSI.Sanitize.Reset'

# The tests that skip (CUnit counts them as passed), by reason. NEVER is the only one that holds for
# every LUN: what the others leave out is run on some LUN.
NEVER = {'PreventAllow.%s' % t for t in (  # no medium can be removed
    'Simple', 'Eject', 'ITNexusLoss', 'Logout', 'WarmReset', 'ColdReset', 'LUNReset', '2ITNexuses')}
NEVER |= {'StartStopUnit.Simple'}
NEVER |= {'Sanitize.%s' % t for t in ('CryptoErase', 'Readonly', 'Reservations')}  # but for CRYPTO ERASE all is done
NEVER |= {'WriteAtomic16.%s' % t for t in (  # nothing below guarantees it
    'Simple', 'BeyondEol', 'ZeroBlocks', 'WriteProtect', 'DpoFua', 'VPD')}
PATHS = {'MultipathIO.%s' % t for t in ('Simple', 'Reset', 'CompareAndWrite', 'CompareAndWriteAsync')}
PROTECTED = {'ReadOnly.ReadOnlySBC'}
PIECES = {'CompareAndWrite.InvalidDataOutSize', 'WriteSame10.UnmapUnaligned', 'WriteSame16.UnmapUnaligned',
          'WriteSame10.InvalidDataOutSize', 'WriteSame16.InvalidDataOutSize'}
NO_BLOCKS = {'WriteSame10.ZeroBlocks', 'WriteSame16.ZeroBlocks'}
UNMAPS = {'Unmap.Simple', 'Unmap.VPD', 'Unmap.ZeroBlocks', 'WriteSame10.Unmap', 'WriteSame10.UnmapUntilEnd',
          'WriteSame16.Unmap', 'WriteSame16.UnmapUntilEnd', 'GetLBAStatus.UnmapSingle', 'Inquiry.BlockLimits',
          'Sanitize.BlockErase'}
# What writes, and is told WRITE PROTECTED on a LUN that is; the tester wants GOOD all the same.
WRITING = {'%s.%s' % (suite, t) for suite, tests in (
    ('CompareAndWrite', 'DpoFua Miscompare Simple Unwritten'), ('ExtendedCopy', 'Simple ValidTgtDescr'),
    ('GetLBAStatus', 'UnmapSingle'), ('OrWrite', 'DpoFua Simple Verify'),
    ('ProutReserve', 'AccessEA AccessEAAR AccessEARO AccessWE AccessWEAR AccessWERO'),
    ('ReceiveCopyResults', 'CopyStatus'), ('Sanitize', 'BlockErase Overwrite'), ('Unmap', 'Simple'),
    ('Write10', 'Async DpoFua Simple'), ('Write12', 'DpoFua Simple'), ('Write16', 'DpoFua Simple'),
    ('WriteSame10', 'Check Simple Unmap UnmapVPD'), ('WriteSame16', 'Check Simple Unmap UnmapVPD'),
    ('WriteVerify10', 'Dpo Flags Simple'), ('WriteVerify12', 'Dpo Flags Simple'),
    ('WriteVerify16', 'Dpo Flags Simple')
) for t in tests.split()}
THIN = NEVER | NO_BLOCKS | PATHS | PIECES | PROTECTED  # what a thin LUN skips


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


def run_tests(addr, iqn, tests, *more):
    """How many ran, which failed, which skipped, and all that was said."""
    out = sh('iscsi-test-cu', '--dataloss', '--allow-sanitize', '--verbose', '-t', tests,
             'iscsi://%s/%s/0' % (addr, iqn), *more, expect=None, timeout=170)
    counts = re.search(r'tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)', out)
    assert counts, out[-3000:]
    failed, skipped = failures(out)
    assert int(counts.group(4)) == len(failed), (counts.group(0), failed)
    return int(counts.group(2)), failed, skipped, out


def at_once(*calls):
    """Runs the functions in threads; their results, in order."""
    results = [None] * len(calls)

    def run(i):
        try:
            results[i] = calls[i]()
        except BaseException as e:  # the caller raises it
            results[i] = e
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results:
        if isinstance(r, BaseException):
            raise r
    return results


def mem(o, name, block_size=512):
    o.ctl('device', 'add', name, '--type', 'mem', '--size', '100M', '--block-size', block_size)


def target(o, iqn, device, *options):
    o.ctl('iscsi', 'create', iqn)
    o.ctl('iscsi', 'lun', iqn, 0, '--device', device, *options)


def portal(o):
    """A portal, for targets to come."""
    return o.iscsi(IQN % 'none')


def conformance(kind, make, skips, *options, urls=1, wrong=frozenset()):
    """All tests but RESET on LUNs on the devices that make(o, name) makes: none fails but those that
    are wrong, and just these skip."""
    with Orion() as o:
        addr = portal(o)
        run_parts(o, addr, kind, make, skips, options, urls, wrong)


def run_parts(o, addr, kind, make, skips, options, urls, wrong):
    for i in range(len(PARTS)):
        name = '%s-%d' % (kind, i)
        make(o, name)
        target(o, IQN % name, name, *options)
    o.fds_mark()

    def part(i):
        iqn = IQN % ('%s-%d' % (kind, i))
        return run_tests(addr, iqn, PARTS[i], *['iscsi://%s/%s/0' % (addr, iqn)] * (urls - 1))
    parts = at_once(lambda: part(0), lambda: part(1))
    ran = sum(p[0] for p in parts)
    failed, skipped = parts[0][1] | parts[1][1], parts[0][2] | parts[1][2]
    print('        %s: ran %d, failed %s, skipped %d' % (kind, ran, sorted(failed), len(skipped)))
    assert ran == RAN - 1, ran
    assert failed == wrong, (sorted(failed), ''.join(p[3] for p in parts if p[1])[-6000:])
    assert skipped == skips, (sorted(skipped - skips), sorted(skips - skipped))
