# SPDX-License-Identifier: GPL-2.0-or-later
"""NBD listeners: TCP over IPv4 and IPv6, unix sockets, several at once, and what is in their way."""
import grp
import os
import socket
import stat
import subprocess

from orion import Orion, free_port, need, run, sh, skip

need('nbdinfo')


def size_of(uri):
    return int(sh('nbdinfo', '--size', uri))


def refused(uri):
    """nbdinfo must fail."""
    sh('nbdinfo', '--size', uri, expect=1)


def test_several_listeners_serve_the_same_export():
    with Orion() as o:
        o.mem('d0', size='32M')
        port, unix = free_port(), os.path.join(o.dir, 'a.sock')
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % port)
        o.ctl('nbd', 'listen', 'unix:' + unix)
        o.nbd('v', 'd0') # a third one
        uris = ['nbd://127.0.0.1:%d/v' % port, 'nbd+unix:///v?socket=' + unix]
        for uri in uris:
            assert size_of(uri) == 32 << 20
        o.restart()
        for uri in uris:
            assert size_of(uri) == 32 << 20
        o.ctl('nbd', 'unlisten', '127.0.0.1:%d' % port)
        refused(uris[0])
        o.ctl('nbd', 'unlisten', 'unix:' + unix)
        assert not os.path.exists(unix)


def test_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(('::1', 0))
    except OSError:
        skip('there is no IPv6 loopback here')
    with Orion() as o:
        o.mem('d0', size='32M')
        port = free_port()
        o.ctl('nbd', 'listen', '[::1]:%d' % port)
        o.ctl('nbd', 'export', 'v', '--device', 'd0')
        assert size_of('nbd://[::1]:%d/v' % port) == 32 << 20


def test_what_is_in_the_way_is_told():
    with Orion() as o:
        with socket.socket() as s:
            s.bind(('127.0.0.1', 0))
            s.listen()
            assert 'in use' in o.ctl('nbd', 'listen', '127.0.0.1:%d' % s.getsockname()[1], expect=5)
        path = os.path.join(o.dir, 'x.sock')
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.listen()
            assert 'another process' in o.ctl('nbd', 'listen', 'unix:' + path, expect=5)
        o.ctl('nbd', 'listen', 'unix:' + path) # now it is stale
        file = os.path.join(o.dir, 'file')
        with open(file, 'w') as f:
            f.write('kept')
        o.ctl('nbd', 'listen', 'unix:' + file, expect=5)
        with open(file) as f:
            assert f.read() == 'kept'
        o.ctl('nbd', 'listen', '127.0.0.1:99999', expect=1)
        o.ctl('nbd', 'listen', 'unix:relative', expect=1)
        o.ctl('nbd', 'unlisten', '127.0.0.1:1', expect=4)


def test_a_socket_left_by_a_killed_daemon_is_replaced():
    with Orion() as o:
        o.mem('d0', size='32M')
        uri = o.nbd('v', 'd0')
        o.restart(kill=True)
        assert size_of(uri) == 32 << 20


def test_mode_and_group_of_a_unix_socket():
    with Orion() as o:
        o.mem('d0', size='32M')
        o.nbd('v', 'd0')
        path = os.path.join(o.dir, 'g.sock')
        addr = 'unix:' + path

        def is_now(mode, gid):
            st = os.stat(path)
            assert (stat.S_IMODE(st.st_mode), st.st_gid) == (mode, gid), st
            assert size_of('nbd+unix:///v?socket=' + path) == 32 << 20
        for options, why in ((('--mode', '660'), 'mode is'), (('--mode', '0668'), 'mode is'),
                             (('--mode', '1777'), 'mode is'), (('--group', 'no such group'), 'group is')):
            assert why in o.ctl('nbd', 'listen', addr, *options, expect=1)
            assert not os.path.exists(path)
        assert 'unix' in o.ctl('nbd', 'listen', '127.0.0.1:%d' % free_port(), '--mode', '0660', expect=1)
        o.ctl('nbd', 'listen', addr)
        is_now(0o700, os.getegid())
        o.ctl('nbd', 'unlisten', addr)
        gid = os.getegid() if os.geteuid() else 1
        told = o.ctl('nbd', 'listen', addr, '--mode', '0660', '--group', grp.getgrgid(gid).gr_name)
        assert (told['mode'], told['group']) == ('0660', grp.getgrgid(gid).gr_name), told
        is_now(0o660, gid)
        o.ctl('nbd', 'listen', addr, '--mode', '0600', expect=5)
        o.restart(kill=True)
        is_now(0o660, gid)
        if os.geteuid():
            return # only root can be somebody else
        os.chmod(o.dir, 0o711)
        for groups, expected in (([], 1), ([gid], 0)):
            p = subprocess.run(['nbdinfo', '--size', 'nbd+unix:///v?socket=' + path], user=65534, group=65534,
                               extra_groups=groups, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
            assert p.returncode == expected, p


run(test_several_listeners_serve_the_same_export,
    test_what_is_in_the_way_is_told,
    test_a_socket_left_by_a_killed_daemon_is_replaced,
    test_mode_and_group_of_a_unix_socket,
    test_ipv6)
