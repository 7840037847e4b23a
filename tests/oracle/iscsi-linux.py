# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""The Linux initiator (open-iscsi, iscsi_tcp) against us: CHAP, digests, a file system, a daemon that dies."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../functional'))

from qemu.guest import HOST, Guest  # noqa: E402
from orion import Orion, free_port, run, sh, wait_for  # noqa: E402

IQN = 'iqn.2026-11.test:linux'
NAME = 'iqn.2026-11.test:guest'
SECRETS = ('guests-own-secret', 'targets-own-secret')
MODULES = ['crc32c_generic', 'crc32c_intel', 'sd_mod', 'iscsi_tcp', 'ext4']
PROGRAMS = ['iscsid', 'iscsiadm', 'mkfs.ext4']
TOOLS = ['sg_inq', 'sg_vpd', 'sg_opcodes', 'sg_turs', 'sg_luns', 'sg_readcap', 'sg_persist', 'sg_compare_and_write',
         'sg_modes', 'sg_wr_mode', 'sg_logs']
PACKAGES = ['open-iscsi', 'libopeniscsiusr', 'libisns0']
FILES = {'/etc/iscsi/initiatorname.iscsi': 'InitiatorName=%s\n' % NAME,
         '/etc/iscsi/iscsid.conf': 'node.startup = manual\nnode.session.timeo.replacement_timeout = 120\n'
                                   'node.session.initial_login_retry_max = 8\n'
                                   'node.conn[0].timeo.noop_out_interval = 5\n'
                                   'node.conn[0].timeo.noop_out_timeout = 5\n'}


def target(o):
    """A LUN on a file, so that its bytes outlive the daemon. Returns the port."""
    o.ctl('device', 'add', 'd0', '--path', o.file('d0.img', 96 << 20))
    addr = o.iscsi(IQN, 'd0')
    paths = []
    for i, secret in enumerate(SECRETS):
        paths.append(os.path.join(o.dir, 'secret%d' % i))
        with open(paths[i], 'w') as f:
            f.write(secret)
    o.ctl('iscsi', 'acl', IQN, NAME, '--chap-user', 'guest', '--chap-secret-file', paths[0],
          '--mutual-user', 'orion', '--mutual-secret-file', paths[1])
    return int(addr.rsplit(':', 1)[1])


class Host:
    """The guest's side of a session. SendTargets tells the host's loopback, so the record is made by hand."""

    def __init__(self, g, port):
        self.g = g
        self.node = 'iscsiadm -m node -T %s -p %s:%d' % (IQN, HOST, port)
        g.sh('iscsid; %s -o new' % self.node)

    def set(self, **values):
        for name, value in values.items():
            name = name.replace('__', '.').replace('conn0', 'conn[0]')
            self.g.sh("%s -o update -n 'node.%s' -v '%s'" % (self.node, name, value))

    def chap(self, algorithms, secrets=SECRETS):
        self.set(session__auth__authmethod='CHAP', session__auth__username='guest',
                 session__auth__password=secrets[0], session__auth__username_in='orion',
                 session__auth__password_in=secrets[1], session__auth__chap_algs=algorithms)

    def login(self, disk='sda'):
        self.g.sh(self.node + ' --login')
        return self.g.sh('for i in $(seq 100); do [ -b /dev/' + disk + ' ] && exit 0; sleep 0.1; done; exit 1')

    def logout(self):
        self.g.sh(self.node + ' --logout')


def tools(g):
    """sg3-utils, through the kernel."""
    assert 'ORION' in g.sh('sg_inq /dev/sda').upper()
    assert 'naa' in g.sh('sg_vpd -p di /dev/sda').lower()
    assert 'Read(10)' in g.sh('sg_opcodes /dev/sda')
    g.sh('sg_turs /dev/sda && sg_luns /dev/sda && sg_readcap -l /dev/sda')
    g.sh('sg_persist -o -G -S 0xabc /dev/sda && sg_persist -o -R -K 0xabc -T 1 /dev/sda')
    assert 'Write Exclusive' in g.sh('sg_persist -i -r /dev/sda')
    g.sh('sg_persist -o -C -K 0xabc /dev/sda')
    g.sh('dd if=/dev/sda of=/tmp/old bs=512 count=1; dd if=/dev/urandom of=/tmp/new bs=512 count=1; '
         'cat /tmp/old /tmp/new >/tmp/both; sg_compare_and_write -i /tmp/both -l 0 -n 1 -x 1024 /dev/sda && '
         'dd if=/dev/sda bs=512 count=1 iflag=direct | cmp - /tmp/new')
    print('        sg3-utils', flush=True)


def threshold(g):
    """sg3-utils know the pages; the kernel takes the unit attention, tells of it and repeats the command."""
    page = '5c,02,00,14' + ',00' * 12 + ',%s,02,00,00,00,00,00,01'
    shown = g.sh('sg_modes -p 0x1c,2 /dev/sda')
    assert 'provisioning' in shown.lower(), shown
    assert 'Used LBA mapping' in g.sh('sg_logs -p 0xc /dev/sda')
    g.sh('dd if=/dev/urandom of=/dev/sda bs=64k count=32 oflag=direct 2>/dev/null')
    told = 'dmesg | grep -c "thin provisioning soft threshold" || true'
    assert g.sh(told).strip() == '0'
    g.sh('sg_wr_mode -p 0x1c,2 -c %s /dev/sda' % page % '81')
    g.sh('for i in $(seq 300); do dd if=/dev/sda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null || exit 1; '
         'dmesg | grep -q "thin provisioning soft threshold" && exit 0; sleep 0.2; done; exit 1')
    g.sh('for i in $(seq 8); do dd if=/dev/sda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; sleep 0.2; done')
    assert g.sh(told).strip() == '1'
    g.sh('sg_wr_mode -p 0x1c,2 -c %s /dev/sda' % page % '01')
    print('        a threshold of used space', flush=True)


def written(o):
    return sum(s['written_bytes'] for s in o.http('GET', '/v1/sessions').json['items'] if s['object'] == IQN)


def test_discovery_chap_and_digests():
    with Orion() as o:
        port = target(o)
        with Guest(MODULES, PROGRAMS + TOOLS, PACKAGES, FILES) as g:
            h = Host(g, port)
            found = g.sh('iscsiadm -m discovery -t sendtargets -p %s:%d' % (HOST, port))
            assert IQN in found, found
            assert 'authorization' in g.sh(h.node + ' --login', rc=None), 'let in without CHAP'
            h.chap('SHA256', ('guests-other-secret', SECRETS[1]))
            assert 'authorization' in g.sh(h.node + ' --login', rc=None), 'let in with a wrong secret'
            h.chap('SHA256', (SECRETS[0], 'not-the-targets-one'))
            out = g.sh(h.node + ' --login', rc=None)
            assert 'successful' not in out, 'it believed a target that did not prove itself: ' + out
            for algorithm, digest in (('MD5', 'None'), ('SHA1', 'CRC32C'), ('SHA256', 'None'),
                                      ('SHA3-256', 'CRC32C')):
                h.chap(algorithm)
                h.set(conn0__iscsi__HeaderDigest=digest, conn0__iscsi__DataDigest=digest)
                h.login()
                shown = g.sh('iscsiadm -m session -P 2')
                assert 'HeaderDigest: ' + digest in shown and 'DataDigest: ' + digest in shown, shown
                g.sh('dd if=/dev/urandom of=/tmp/r bs=64k count=64; '
                     'dd if=/tmp/r of=/dev/sda bs=64k oflag=direct conv=fsync; '
                     'dd if=/dev/sda of=/tmp/s bs=64k count=64 iflag=direct; cmp /tmp/r /tmp/s')
                print('        %s, digests %s' % (algorithm, digest), flush=True)
                if algorithm == 'SHA3-256':
                    tools(g)
                    threshold(g)
                h.logout()


def test_a_file_system_survives_the_death_of_the_daemon():
    """mkfs, files written with fsync while the daemon is killed and started again, then read from afar."""
    with Orion() as o:
        port = target(o)
        with Guest(MODULES, PROGRAMS, PACKAGES, FILES) as g:
            h = Host(g, port)
            h.chap('SHA3-256')
            h.set(conn0__iscsi__HeaderDigest='CRC32C', conn0__iscsi__DataDigest='CRC32C')
            h.login()
            g.sh('mkfs.ext4 -q /dev/sda && mount /dev/sda /mnt')
            g.send('set -e; for i in $(seq 48); do dd if=/dev/urandom of=/tmp/f bs=64k count=16 2>/dev/null; '
                   'dd if=/tmp/f of=/mnt/f$i bs=64k conv=fsync 2>/dev/null; '
                   'echo "$(md5sum </tmp/f | cut -c1-32)  /mnt/f$i" >>/tmp/sums; done')
            for _ in range(2):
                wait_for(lambda: written(o) > 4 << 20, 60, 'the guest to write')
                o.kill9()
                time.sleep(1)
                o.start()
            wait_for(lambda: written(o) > 4 << 20, 60, 'the guest to write again')
            g.end(timeout=240)
            print('        ' + g.sh('grep -c . /tmp/sums').strip() + ' files written', flush=True)
            wait_for(lambda: 'LOGGED_IN' in g.sh('cat /sys/class/iscsi_session/session*/state'), 30, 'the session')
            g.sh('umount /mnt')
            h.logout()
            h.login()
            g.sh('echo 3 >/proc/sys/vm/drop_caches; mount -o ro /dev/sda /mnt && md5sum -c /tmp/sums && umount /mnt')
            h.logout()
        o.stop()
        sh('e2fsck', '-fn', os.path.join(o.dir, 'd0.img'), env=dict(os.environ, PATH=os.environ['PATH'] + ':/sbin:/usr/sbin'))


def test_copies_access_states_and_an_orderly_stop():
    """fio verifies; sg_xcopy, sg_rtpg, sg_stpg, sg_opcodes, sg_vpd; LUN maps; a stop that asks for a logout under I/O."""
    with Orion() as o:
        port = target(o)
        o.ctl('device', 'add', 'd1', '--path', o.file('d1.img', 32 << 20))
        o.ctl('iscsi', 'lun', IQN, 1, '--device', 'd1')
        programs = PROGRAMS + ['fio', 'sg_xcopy', 'sg_rtpg', 'sg_stpg', 'sg_opcodes', 'sg_vpd', 'sg_luns', 'sg_turs']
        with Guest(MODULES, programs, PACKAGES, FILES, memory=768) as g:
            h = Host(g, port)
            h.chap('SHA256')
            h.login('sdb')
            g.sh('fio --name=v --filename=/dev/sda --rw=randwrite --bs=4k --size=16m --direct=1 --ioengine=psync '
                 '--thread --verify=crc32c --do_verify=1 --verify_fatal=1', timeout=600)
            print('        fio verified', flush=True)
            g.sh('mkdir -p /dev/block; for d in sda sdb; do ln -s ../$d /dev/block/$(cat /sys/block/$d/dev); done; '
                 'dd if=/dev/urandom of=/dev/sda bs=64k count=64 oflag=direct 2>/dev/null; '
                 'sg_xcopy if=/dev/sda of=/dev/sdb bs=512 count=8192 && '
                 'dd if=/dev/sda bs=64k count=64 iflag=direct 2>/dev/null | md5sum >/tmp/a; '
                 'dd if=/dev/sdb bs=64k count=64 iflag=direct 2>/dev/null | md5sum >/tmp/b; cmp /tmp/a /tmp/b')
            assert 'active/optimized' in g.sh('sg_rtpg -d /dev/sda')
            o.ctl('iscsi', 'alua', IQN, 1, '--state', 'non-optimized')
            assert 'active/non optimized' in g.sh('sg_turs /dev/sda; sg_rtpg -d /dev/sda')  # it hears first
            g.sh('sg_stpg --tp=1 --state=0 /dev/sda')
            group = o.ctl('iscsi', 'groups', IQN)['items'][0]
            assert (group['state'], group['set_by']) == ('optimized', 'host'), group
            assert 'Read(10)' in g.sh('sg_opcodes -R /dev/sda')
            for page in ('sv', 'sn', 'di', 'ei', 'mpp', 'sp', 'bl', 'bdc', 'lbpv'):
                g.sh('sg_vpd -p %s /dev/sda' % page)
            print('        sg_xcopy, sg_rtpg, sg_stpg, sg_opcodes, sg_vpd', flush=True)
            o.ctl('iscsi', 'acl-set', IQN, NAME, '--lun-map', '0=0,5=1')
            luns = g.sh('sg_luns /dev/sda')
            assert '0005000000000000' in luns and '0001000000000000' not in luns, luns
            o.ctl('iscsi', 'acl-set', IQN, NAME, '--lun-map', '')
            g.send('set -e; for i in $(seq 0 23); do dd if=/dev/urandom of=/tmp/f bs=64k count=16 2>/dev/null; '
                   'dd if=/tmp/f of=/dev/sda bs=64k seek=$((i*16)) oflag=direct 2>/dev/null; '
                   'md5sum </tmp/f >>/tmp/sums; done')
            start = written(o)
            wait_for(lambda: written(o) > start + (4 << 20), 120, 'the guest to write')
            o.stop()
            o.start()
            g.end(timeout=300)
            g.sh('for i in $(seq 0 23); do dd if=/dev/sda bs=64k skip=$((i*16)) count=16 iflag=direct 2>/dev/null | '
                 'md5sum; done >/tmp/again; cmp /tmp/sums /tmp/again')
            print('        stopped and started under I/O', flush=True)
            h.logout()


def test_two_paths_one_of_them_cut():
    """dm-multipath over two portal groups: writes go on by the other path, and every byte is there."""
    with Orion() as o:
        ports = [target(o), free_port()]
        o.ctl('iscsi', 'portal', 'add', '127.0.0.1:%d' % ports[1], '--group', '2')
        with Guest(MODULES + ['dm_multipath', 'dm_round_robin'], PROGRAMS + ['dmsetup'], PACKAGES, FILES) as g:
            for port, disk in zip(ports, ('sda', 'sdb')):
                h = Host(g, port)
                h.chap('SHA256')
                h.set(session__timeo__replacement_timeout='4')
                h.login(disk)
            g.sh('dmsetup --noudevsync create mp --table "0 $(cat /sys/block/sda/size) multipath 1 queue_if_no_path '
                 '0 1 1 round-robin 0 2 1 $(cat /sys/block/sda/dev) 4 $(cat /sys/block/sdb/dev) 4"')
            g.send('set -e; for i in $(seq 0 39); do dd if=/dev/urandom of=/tmp/f bs=64k count=16 2>/dev/null; '
                   'dd if=/tmp/f of=/dev/dm-0 bs=64k seek=$((i*16)) oflag=direct 2>/dev/null; '
                   'md5sum </tmp/f >>/tmp/sums; done')
            both = lambda: [s for s in o.http('GET', '/v1/sessions').json['items'] if s['written_bytes'] > 1 << 20]
            wait_for(lambda: len(both()) == 2, 60, 'writes by both paths')
            o.ctl('iscsi', 'portal', 'remove', '127.0.0.1:%d' % ports[0], json_out=False)
            g.end(timeout=180)
            status = g.sh('dmsetup status mp')
            assert ' F ' in status and ' A ' in status, status
            g.sh('for i in $(seq 0 39); do dd if=/dev/dm-0 bs=64k skip=$((i*16)) count=16 iflag=direct 2>/dev/null | '
                 'md5sum; done >/tmp/again; cmp /tmp/sums /tmp/again')
            assert [s['portal'] for s in both()] == ['127.0.0.1:%d' % ports[1]], both()


run(test_discovery_chap_and_digests, test_a_file_system_survives_the_death_of_the_daemon,
    test_copies_access_states_and_an_orderly_stop,
    test_two_paths_one_of_them_cut)
