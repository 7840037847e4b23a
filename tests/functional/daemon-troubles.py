# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong around the daemon stands in `status --check`: its folder, saving its state, its records, a file cut short."""
import json
import os
import resource

from orion import Orion, need, run, sh, wait_for


def problems(o):
    return '\n'.join(o.ctl('status')['problems'])


def test_a_state_folder_that_others_may_use_is_told():
    with Orion() as o:
        assert o.run('status', '--check').returncode == 0
        o.stop()
        os.chmod(o.state, 0o777)
        o.start()
        assert '0777' in problems(o) and '0777' in o.log(), problems(o)
        assert o.run('status', '--check').returncode == 1
        os.chmod(o.state, 0o700)
        o.restart()
        assert not problems(o)


def test_a_state_that_cannot_be_saved_is_told_until_it_can():
    with Orion() as o:
        o.mem('d0')
        # No file may grow: what a full disk is to the daemon. Its log goes on in what it has.
        resource.prlimit(o.proc.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        assert o.run('device', 'add', 'd1', '--type', 'mem', '--size', '1M').returncode == 1
        assert 'cannot be saved' in problems(o), problems(o)
        assert o.run('status', '--check').returncode == 1
        resource.prlimit(o.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        o.mem('d1')
        assert not problems(o), problems(o)


def test_records_that_are_lost_are_told_and_counted():
    with Orion() as o:
        o.mem('d0')
        resource.prlimit(o.proc.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        for _ in range(3):
            assert o.http('DELETE', '/v1/devices/d0', headers={'If-Match': '"0"'}).status == 412
        assert 'writing audit.log' in problems(o), problems(o)
        assert [e['kind'] for e in o.ctl('events')['items']].count('audit-lost') == 1
        resource.prlimit(o.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        o.mem('d1')
        assert not problems(o), problems(o)
        with open(os.path.join(o.state, 'audit.log')) as f:
            records = [json.loads(line.split(' ', 1)[1]) for line in f]
        assert [r.get('lost', 0) for r in records] == [0, 3], records
        assert o.ctl('audit', 'verify')['good']


def test_a_file_that_was_cut_short_is_no_healthy_device():
    need('qemu-io')
    with Orion() as o:
        path = o.file('f0', 16 << 20)
        o.ctl('device', 'add', 'd0', '--path', path)
        uri = o.nbd('e0', 'd0')
        os.truncate(path, 4 << 20)
        sh('qemu-io', '-f', 'raw', '-c', 'write -f 8M 64k', uri, expect=None)
        shown = wait_for(lambda: (lambda d: d if d['state'] == 'failed' else None)(o.ctl('device', 'show', 'd0')),
                         what='the state failed')
        assert 'shorter' in shown['reason'] and shown['attributes']['shrunk'] == 'true', shown
        assert 'd0' in problems(o) and o.run('status', '--check').returncode == 1
        assert 'shorter' in o.ctl('explain', 'd0', json_out=False)


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
