# SPDX-License-Identifier: GPL-2.0-or-later
"""Block devices of the machine that grow or go while the daemon has them."""
import os

from orion import Orion, need, run, sh, skip, wait_for

need('losetup', 'mkfs.ext4')


def loop(path):
    try:
        return sh('losetup', '--find', '--show', path).strip()
    except AssertionError as e:
        skip('no loop devices here: %s' % e)


def event_kinds(o):
    return [e['kind'] for e in o.ctl('events')['items']]


def test_a_node_that_grows_is_seen_at_once():
    with Orion() as o:
        path = os.path.join(o.dir, 'disk')
        with open(path, 'wb') as f:
            f.truncate(64 << 20)
        node = loop(path)
        try:
            o.ctl('device', 'add', 'd0', '--path', node)
            os.truncate(path, 96 << 20)
            sh('losetup', '--set-capacity', node)
            wait_for(lambda: o.ctl('device', 'show', 'd0')['size'] == 96 << 20, what='the new size')
            assert 'device-resized' in event_kinds(o)
            o.ctl('device', 'remove', 'd0')
        finally:
            sh('losetup', '--detach', node)


def test_scan_tells_of_disks_added_or_not_and_what_is_on_them():
    with Orion() as o:
        path = os.path.join(o.dir, 'disk')
        with open(path, 'wb') as f:
            f.truncate(64 << 20)
        sh('mkfs.ext4', '-q', path)
        node = loop(path)
        try:
            def seen():
                return [d for d in o.ctl('device', 'scan')['items'] if d['path'] == node][0]
            assert seen()['size'] == 64 << 20 and 'ext4' in seen()['signature'], seen()
            assert seen()['device'] == ''
            o.ctl('device', 'add', 'd0', '--path', node)
            assert seen()['device'] == 'd0' and seen()['in_use'] == '', seen()
            o.ctl('device', 'remove', 'd0')
        finally:
            sh('losetup', '--detach', node)


run(test_scan_tells_of_disks_added_or_not_and_what_is_on_them,
    test_a_node_that_grows_is_seen_at_once)
