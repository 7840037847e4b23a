# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""libiscsi's Sanitize.Reset, on LUNs of every kind."""
from conformance import IQN, RESET, at_once, mem, portal, run_tests, target
from orion import Orion, run, wait_for


def slow(o, name, block_size=512):
    """A device on which SANITIZE takes 15 s, for one of its writes does: the test looks for an operation
    that still runs four seconds and a login after its beginning."""
    mem(o, name + '-mem', block_size)
    o.ctl('device', 'add', name, '--type', 'fault', '--on', name + '-mem', '--rules',
          'write+write_zeroes:delay=15s:offset=40M')


def array(level):
    def make(o, name):
        slow(o, name + 'a')
        mem(o, name + 'b')
        o.ctl('array', 'create', name, '--level', level, '--members', '%sa,%sb' % (name, name), '--assume-clean')
    return make



KINDS = {
    'thin': (slow, [], 1),
    'full': (slow, ['--provisioning', 'full'], 1),
    '4k': (lambda o, name: slow(o, name, 4096), [], 1),
    'paths': (slow, [], 2),
    'raid1': (array('raid1'), [], 1),
    'raid0': (array('raid0'), [], 1),
}


def test_a_sanitize_outlives_aborts_and_resets():
    """The tester sleeps for a minute: all kinds at once."""
    with Orion() as o:
        addr = portal(o)

        def one(kind):
            make, options, urls = KINDS[kind]
            iqn = IQN % kind
            make(o, kind)
            target(o, iqn, kind, *options)
            ran, failed, skipped, out = run_tests(addr, iqn, RESET, *['iscsi://%s/%s/0' % (addr, iqn)] * (urls - 1))
            assert ran == 1 and not failed and not skipped, (kind, out)
        at_once(*[lambda k=k: one(k) for k in KINDS])
        wait_for(lambda: all(j['state'] == 'done' for j in o.ctl('job', 'list')['items']), 60, 'the jobs to be done')
        assert len(o.ctl('job', 'list')['items']) == len(KINDS)


run(test_a_sanitize_outlives_aborts_and_resets)
