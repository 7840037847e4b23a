# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may use the API: root, oriond's own user, the group orion. Others get 403."""
import grp
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


run(test_strangers_may_do_nothing, *([test_the_group_orion_may_do_everything] if has_group() else []))
