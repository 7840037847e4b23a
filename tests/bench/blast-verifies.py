# SPDX-License-Identifier: GPL-2.0-or-later
"""The load generator works, and what it writes through Orion it reads back."""
import json
import os
import subprocess

from orion import Orion, find, run, sh, wait_for

IQN = 'iqn.2026-11.local.bench:smoke'


def verified(*argv):
    """Half reads, half writes of a pattern, checked; the device held zeroes before."""
    out = json.loads(sh(find('bench-blast'), *argv, '-v', '-r', '50', '-t', '1'))
    assert out['iops'] > 0 and out['errors'] == 0 and out['bad'] == 0, out


def test_blast_against_the_limit():
    with Orion(start=False) as o:
        path = os.path.join(o.dir, 'limit.sock')
        p = subprocess.Popen([find('bench-limit'), 'unix:' + path, o.file('image', 16 << 20)])
        try:
            wait_for(lambda: os.path.exists(path), 10, 'the socket')
            verified('nbd', 'unix:' + path, 'x')
        finally:
            p.kill()
            p.wait()


def test_blast_over_nbd():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--path', os.path.join(o.dir, 'disk'), '--size', '16M')
        o.nbd('x', 'd0')
        path = 'unix:' + os.path.join(o.dir, 'nbd.sock')
        verified('nbd', path, 'x', '-c', '4')
        verified('nbd', path, 'x', '-b', '262144', '-q', '8')


def test_blast_over_memory_that_is_lent():
    with Orion() as o:
        o.ctl('device', 'add', 'm0', '--type', 'mem', '--size', '16M')
        o.nbd('m', 'm0')
        addr = 'tcp:' + o.iscsi(IQN, 'm0')
        verified('nbd', 'unix:' + os.path.join(o.dir, 'nbd.sock'), 'm', '-c', '4')
        verified('iscsi', addr, IQN, '0', '-b', '262144', '-q', '8')


def test_blast_over_iscsi():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--path', os.path.join(o.dir, 'disk'), '--size', '16M')
        addr = 'tcp:' + o.iscsi(IQN, 'd0')
        verified('iscsi', addr, IQN, '0', '-c', '4')
        verified('iscsi', addr, IQN, '0', '-b', '262144', '-q', '8')


run(test_blast_against_the_limit, test_blast_over_nbd, test_blast_over_memory_that_is_lent,
    test_blast_over_iscsi)
