# SPDX-License-Identifier: GPL-2.0-or-later
"""raid5 and raid6 through the daemon: made by the CLI, served over NBD, killed, degraded, rebuilt."""
import os
import time

from orion import Orion, need, run, sh, skip

need('fio', 'nbdcopy')
if 'nbd' not in sh('fio', '--enghelp'):
    skip('fio has no nbd engine')

MIB = 1 << 20


def files(o, n, mib=40, first=0):
    for i in range(first, first + n):
        path = os.path.join(o.dir, 'disk%d' % i)
        with open(path, 'wb') as f:
            f.truncate(mib * MIB)
        o.ctl('device', 'add', 'd%d' % i, '--type', 'file', '--path', path)


def names(n):
    return ','.join('d%d' % i for i in range(n))


def idle(o):
    for _ in range(600):
        a = o.ctl('array', 'show', 'a')
        if a['sync_action'] == 'idle' and not a['sync_job']:
            return a
        time.sleep(0.05)
    raise AssertionError('the sync did not end')


def fio(uri, *more):
    sh('fio', '--name=x', '--ioengine=nbd', '--uri=' + uri, '--rw=randwrite', '--bsrange=4k-256k',
       '--bs_unaligned=0', '--iodepth=16', '--size=32m', '--io_size=16m', '--verify=crc32c',
       '--verify_fatal=1', '--randseed=7', '--output-format=terse', *more)


def test_a_parity_array_says_what_it_is():
    with Orion() as o:
        files(o, 5)
        o.ctl('array', 'create', 'a', '--level', 'raid6', '--members', names(5), '--chunk', '64K')
        a = idle(o)
        assert (a['level'], a['layout'], a['log'], a['chunk']) == ('raid6', 'left-symmetric', 'on',
                                                                  65536), a
        said = o.http('GET', '/metrics').body.decode()
        for series in ('stripe_writes_total{array="a",kind="modify"}', 'gathered_writes_total{array="a"}',
                       'log_size_bytes{array="a"}', 'log_used_bytes{array="a"}',
                       'sync_rate_bytes{array="a"}', 'sync_limit_bytes{array="a"}',
                       'member_corrected_total{array="a",device="d4"}',
                       'member_requests_total{array="a",device="d4",op="write"}'):
            assert 'orion_array_' + series in said, series
        o.ctl('array', 'fail', 'a', 'd0')
        o.ctl('array', 'fail', 'a', 'd1')
        o.ctl('array', 'fail', 'a', 'd2', expect=6)  # needs --force
        o.restart()
        assert o.ctl('array', 'show', 'a')['state'] == 'degraded'


def test_no_log_is_asked_for_and_kept():
    with Orion() as o:
        files(o, 3)
        o.ctl('array', 'create', 'a', '--level', '5', '--members', names(3), '--no-log')
        assert o.ctl('array', 'show', 'a')['log'] == 'it is not wanted'
        o.restart()
        assert o.ctl('array', 'show', 'a')['log'] == 'it is not wanted'


def test_verify_is_clean_with_two_disks_failed_spares_rebuilt_and_two_kills():
    with Orion(start=False) as o:
        with open(o.config, 'w') as f:
            f.write('{"stripe_memory": "512K"}')
        o.start()
        files(o, 8)
        o.ctl('array', 'create', 'a', '--level', 'raid6', '--members', names(6), '--chunk', '64K')
        uri = o.nbd('vol', 'a')
        fio(uri, '--do_verify=0')
        o.restart(kill=True)
        idle(o)
        fio(uri, '--verify_only=1')
        o.ctl('array', 'fail', 'a', 'd1')
        o.ctl('array', 'fail', 'a', 'd4')
        fio(uri, '--verify_only=1')
        fio(uri, '--do_verify=0')
        o.restart(kill=True)
        fio(uri, '--verify_only=1')
        for spare in ('d6', 'd7'):
            o.ctl('array', 'add', 'a', spare)
        assert idle(o)['missing'] == 0
        fio(uri, '--verify_only=1')
        assert 'orion_array_stripe_memory_bytes{array="a"} 0\n' in o.http('GET', '/metrics').body.decode()


run(test_a_parity_array_says_what_it_is, test_no_log_is_asked_for_and_kept,
    test_verify_is_clean_with_two_disks_failed_spares_rebuilt_and_two_kills)
