# SPDX-License-Identifier: GPL-2.0-or-later
"""Initiators that people use: libiscsi's tools and its conformance tests of iSCSI, qemu."""
import os
import re

from orion import Orion, need, run, sh

need('iscsi-ls', 'iscsi-inq', 'iscsi-readcapacity16', 'iscsi-test-cu', 'iscsi-perf', 'qemu-img')
IQN = 'iqn.2026-11.test:clients'

# iscsi-test-cu's family ALL.iSCSI*: tests run and failed. SKIPPED lines count as passed there.
FLOOR = {'ran': 15, 'failed': 0}


def start(size='64M'):
    o = Orion()
    o.mem('m0', 'm1', size=size)
    o.addr = o.iscsi(IQN, 'm0', 'm1')
    o.fds_mark()
    return o


def url(o, lun=0):
    return 'iscsi://%s/%s/%d' % (o.addr, IQN, lun)


def test_discovery_and_facts():
    with start() as o:
        out = sh('iscsi-ls', '-s', 'iscsi://' + o.addr)
        assert 'Target:%s Portal:%s,1' % (IQN, o.addr) in out, out
        assert out.count('DIRECT_ACCESS') == 2, out
        assert 'CONNECTED' in sh('iscsi-inq', url(o))
        out = sh('iscsi-readcapacity16', url(o, 1))
        assert 'Total size:%d' % (64 << 20) in out, out


def test_an_absent_target_or_lun_is_said_so():
    with start() as o:
        for bad in ('iscsi://%s/iqn.2026-11.test:absent/0' % o.addr, url(o, 7)):
            out = sh('iscsi-readcapacity16', bad, expect=None)
            assert 'Total size' not in out, out


def test_qemu_img_copies_there_and_back():
    with start() as o:
        a, b = os.path.join(o.dir, 'a'), os.path.join(o.dir, 'b')
        with open(a, 'wb') as f:
            f.write(os.urandom(5 << 20) + bytes(3 << 20) + os.urandom(56 << 20))
        sh('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', a, url(o))
        sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', a, url(o))
        sh('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', url(o), b)
        with open(a, 'rb') as f, open(b, 'rb') as g:
            assert f.read() == g.read()


def test_iscsi_perf_runs():
    with start() as o:
        out = sh('iscsi-perf', '-t', '2', '-m', '32', '-b', '8', '-r', url(o))
        assert re.search(r'iops average \d+', out), out


def test_libiscsi_conformance_of_iscsi():
    with start() as o:
        out = sh('iscsi-test-cu', '--dataloss', '--normal', '-t', 'ALL.iSCSI*', url(o), expect=None)
        counts = re.search(r'tests\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)', out)
        assert counts, out
        got = {'ran': int(counts.group(2)), 'failed': int(counts.group(4))}
        print('        iscsi-test-cu ALL.iSCSI*: %s, %d lines SKIPPED' % (got, out.count('SKIPPED')))
        assert got['ran'] >= FLOOR['ran'] and got['failed'] <= FLOOR['failed'], out


run(test_discovery_and_facts, test_an_absent_target_or_lun_is_said_so, test_qemu_img_copies_there_and_back,
    test_iscsi_perf_runs, test_libiscsi_conformance_of_iscsi)
