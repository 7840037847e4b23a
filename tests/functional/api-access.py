# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may use the API: root, oriond's own user, the group orion. Others get 403."""
import grp
import json
import os
import pwd
import subprocess

from orion import Orion, run, skip

ASK = r'''
import http.client, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % tuple(sys.argv[2:4])).encode())
data = b''
while True:
    more = s.recv(65536)
    if not more:
        break
    data += more
print(data.split()[1].decode())
'''


def status_as(o, uid, gid, groups, method, path):
    def drop():
        os.setgroups(groups)
        os.setgid(gid)
        os.setuid(uid)

    p = subprocess.run(['/usr/bin/python3', '-c', ASK, o.api, method, path], capture_output=True, text=True,
                       preexec_fn=drop, timeout=30)
    assert p.returncode == 0, p
    return int(p.stdout)


def test_strangers_may_do_nothing():
    if os.geteuid():
        skip('needs root to become someone else')
    nobody = pwd.getpwnam('nobody')
    with Orion() as o:
        os.chmod(o.dir, 0o755)
        o.mem('d0')
        for method, path in (('GET', '/v1/devices'), ('DELETE', '/v1/devices/d0'), ('GET', '/metrics'),
                             ('GET', '/healthz'), ('GET', '/nothing')):
            assert status_as(o, nobody.pw_uid, nobody.pw_gid, [], method, path) == 403, (method, path)
        assert status_as(o, 0, 0, [], 'GET', '/v1/devices') == 200
        assert o.http('GET', '/v1/devices/d0').status == 200


CROWD = r'''
import os, socket, sys
for uid in range(30000, 30040):
    if not os.fork():
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[1])
        s.sendall(b'GET /v1/devices HTTP/1.1\r\nHost: x\r\n\r\n' * 4)
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
        os._exit(0)
    os.wait()
'''


def test_strangers_do_not_fill_the_record():
    if os.geteuid():
        skip('needs root to become someone else')
    nobody = pwd.getpwnam('nobody')
    with Orion() as o:
        os.chmod(o.dir, 0o755)
        status = [status_as(o, nobody.pw_uid, nobody.pw_gid, [], 'GET', '/v1/devices') for _ in range(12)]
        assert status == [403] * 10 + [429] * 2, status
        # Many, none of whom asks often.
        subprocess.run(['/usr/bin/python3', '-c', CROWD, o.api], check=True, timeout=120, stdout=subprocess.DEVNULL)
        o.mem('d0')
        seen = o.ctl('audit', 'verify')
        with open(os.path.join(o.state, 'audit.log')) as f:
            left = sum(json.loads(line.split(' ', 1)[1]).get('left_out', 0) for line in f)
        # A slow machine takes more than the minute, and records as many in the next one.
        assert seen['good'] and seen['records'] < 150, seen
        assert seen['records'] + left == 12 + 160 + 1, (seen, left)


def test_the_group_orion_may_do_everything():
    if os.geteuid():
        skip('needs root to become someone else')
    gid = grp.getgrnam('orion').gr_gid
    nobody = pwd.getpwnam('nobody')
    with Orion() as o:
        os.chmod(o.dir, 0o755)
        assert status_as(o, nobody.pw_uid, nobody.pw_gid, [gid], 'GET', '/v1/devices') == 200
        assert status_as(o, nobody.pw_uid, gid, [], 'GET', '/v1/devices') == 200


def has_group():
    try:
        return grp.getgrnam('orion')
    except KeyError:
        print('skipped: the_group_orion_may_do_everything: there is no group orion here', flush=True)
        return None


run(test_strangers_may_do_nothing, test_strangers_do_not_fill_the_record, *([test_the_group_orion_may_do_everything] if has_group() else []))
