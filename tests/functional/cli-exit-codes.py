# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""orionctl's exit codes, as scripts rely on them."""
import os
import subprocess
import time

from orion import Orion, find, run


def plain(*args):
    env = {k: v for k, v in os.environ.items() if k not in ('ORION_API', 'XDG_RUNTIME_DIR')}
    return subprocess.run([find('orionctl')] + list(args), capture_output=True, text=True, env=env)


def test_0_when_done_and_1_when_refused():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '16M', expect=0)
        text = o.ctl('device', 'add', 'd1', '--type', 'mem', '--size', '1', expect=1)
        assert 'size' in text and 'expected' in text, text
        text = o.ctl('device', 'add', 'd1', '--type', 'tape', expect=1)
        assert 'tape' in text and 'mem' in text, text


def test_2_for_usage_with_a_near_miss():
    for args in ((), ('arry', 'list'), ('array', 'lst'), ('array', 'show'), ('array', 'list', '--frce'),
                 ('volume', 'create', 'p/v', '--size', 'ten'), ('volume', 'create', 'p/v')):
        p = plain(*args)
        assert p.returncode == 2, (args, p.returncode, p.stderr)
        assert p.stderr and not p.stdout, args
    assert "'array'" in plain('arry', 'list').stderr
    assert "'list'" in plain('array', 'lst').stderr
    assert "'--members'" in plain('array', 'create', 'a', '--member', 'x').stderr


def test_3_without_a_daemon():
    p = plain('--api', 'unix:/nonexistent/api.sock', 'status')
    assert p.returncode == 3 and '/nonexistent/api.sock' in p.stderr, p


def test_4_when_not_found():
    with Orion() as o:
        for args in (('device', 'show', 'x'), ('device', 'remove', 'x'), ('array', 'show', 'x'),
                     ('array', 'delete', 'x', '--yes'), ('pool', 'show', 'x'), ('job', 'show', '9'),
                     ('volume', 'delete', 'x/y', '--yes'), ('nbd', 'unexport', 'x'),
                     ('iscsi', 'delete', 'iqn.2026-01.com.example:x'), ('session', 'kill', '9')):
            o.ctl(*args, expect=4)


def test_5_on_conflict_or_in_use():
    with Orion() as o:
        o.mem('d0', 'd1')
        text = o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '32M', expect=5)
        assert 'size' in text, text
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        text = o.ctl('device', 'remove', 'd0', expect=5)
        assert 'a0' in text, text
        o.ctl('nbd', 'export', 'x', '--device', 'a0')
        assert 'x' in o.ctl('array', 'stop', 'a0', expect=5)


def test_6_without_consent():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        assert '--yes' in o.ctl('array', 'delete', 'a0', expect=6)
        o.ctl('array', 'fail', 'a0', 'd0')
        assert '--force' in o.ctl('array', 'fail', 'a0', 'd1', expect=6)
        o.ctl('pool', 'create', 'p', '--devices', 'a0')
        o.ctl('volume', 'create', 'p/v', '--size', '8M')
        assert '--yes' in o.ctl('volume', 'delete', 'p/v', expect=6)
        assert '--yes' in o.ctl('volume', 'resize', 'p/v', '--size', '4M', expect=6)
        o.ctl('volume', 'delete', 'p/v', '--yes')


def test_7_when_a_job_failed():
    with Orion() as o:
        o.file('f0', 256 << 20)
        o.file('f1', 256 << 20)
        for n in '01':
            path = os.path.join(o.dir, 'f' + n)
            with open(path, 'r+b') as f:
                f.write(b'x')
            o.ctl('device', 'add', 'd' + n, '--path', path)
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1', '--force')
        jobs = [j for j in o.ctl('job', 'list')['items'] if j['kind'] == 'resync']
        assert jobs, 'no resync of members that are not known to be zero'
        o.ctl('array', 'stop', 'a0')
        job = o.ctl('job', 'show', jobs[0]['id'])
        if job['state'] == 'done':
            return  # it was faster than the stop
        assert job['state'] in ('cancelled', 'failed'), job
        o.ctl('job', 'wait', job['id'], expect=7)


def test_status_is_0_while_ready_and_1_with_check_when_something_is_wrong():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('status', '--check')
        o.ctl('array', 'fail', 'a0', 'd0')
        o.ctl('status')
        p = o.run('status', '--check')
        assert p.returncode == 1 and 'a0' in p.stdout, p


def test_create_again_is_0_and_unchanged():
    with Orion() as o:
        first = o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '64M')
        again = o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '64M')
        assert first['changed'] is True and again['changed'] is False, (first, again)
        assert first['uuid'] == again['uuid']


def test_no_prompt_is_ever_waited_for():
    with Orion() as o:
        o.mem('d0')
        begin = time.monotonic()
        o.ctl('pool', 'create', 'p', '--devices', 'd0')
        o.ctl('pool', 'delete', 'p', expect=6)
        assert time.monotonic() - begin < 20


run(*[f for n, f in sorted(globals().items()) if n.startswith('test_')])
