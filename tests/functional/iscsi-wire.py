# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""iSCSI as RFC 7143 has it, PDU by PDU."""
import contextlib
import itertools
import json
import os
import socket
import struct
import subprocess
import time

from iscsiwire import (ASYNC, DATA_IN, DATA_OUT, LOGIN, NO_TAG, NOP_IN, R2T, REJECT, SCSI_CMD, SCSI_RSP, SNACK,
                       TEXT, TEXT_RSP, TMF_RSP, Initiator, LoginError, crc32c, pairs, read10, text, write10)
from orion import Orion, find, free_port, run, wait_for

IQN = 'iqn.2026-11.test:wire-disk'


def start(size='64M'):
    o = Orion()
    o.mem('m0', size=size)
    o.addr = o.iscsi(IQN, 'm0')
    o.fds_mark()
    return o


def refused(addr, status, *args, **kw):
    try:
        Initiator(addr, *args, **kw)
    except LoginError as e:
        assert e.status == status, '%04x, expected %04x' % (e.status, status)
        return
    raise AssertionError('the login was let through, expected %04x' % status)


def test_every_way_of_sending_data_writes_the_same():
    """InitialR2T x ImmediateData x digests x bursts: data is whole, R2Ts and sequences keep their bounds."""
    with start() as o:
        n = 0
        for r2t, imm, digest, burst in itertools.product(('Yes', 'No'), ('Yes', 'No'),
                                                         ('None', 'CRC32C'), (4096, 65536)):
            i = Initiator(o.addr, IQN, InitialR2T=r2t, ImmediateData=imm, HeaderDigest=digest,
                          DataDigest=digest, FirstBurstLength=str(burst), MaxBurstLength='65536',
                          MaxRecvDataSegmentLength='8192').ready()
            assert (i.got['InitialR2T'], i.got['ImmediateData']) == (r2t, imm), i.got
            assert i.got['DataDigest'] == digest
            for size in (512, 4096, 8192 + 512, 204800):
                data = os.urandom(size)
                w = i.write(n * 400, data)
                assert w.status == 0 and not w.residual, (r2t, imm, size, w.status, w.key)
                unasked = 0
                if imm == 'Yes':
                    unasked = min(size, burst, i.peer_max)
                if r2t == 'No':
                    unasked = min(size, burst)
                assert sum(x[1] for x in w.r2ts) == size - unasked, (size, unasked, w.r2ts)
                assert all(length <= 65536 for _, length in w.r2ts), w.r2ts
                r = i.read(n * 400, size // 512)
                assert r.data == data, 'data differs'
                check_data_in(r, size, 8192, 65536)
            n += 1
            i.logout()
            assert i.closed()


def check_data_in(r, size, segment, burst):
    assert [p[0] for p in r.data_pdus] == list(range(len(r.data_pdus))), 'DataSN'
    at = 0
    for _, offset, length, flags in r.data_pdus:
        assert offset == at and length <= segment
        at += length
        ends = at % burst == 0 or at == size
        assert bool(flags & 0x80) == ends, 'F bit at %d' % at
        assert bool(flags & 1) == (at == size), 'S bit at %d' % at
    assert at == size


def test_residuals_are_exact():
    with start() as o:
        i = Initiator(o.addr, IQN).ready()
        assert i.write(0, b'a' * 1024).status == 0
        r = i.read(0, 1, read=10240)
        assert (r.underflow, r.overflow, r.residual, len(r.data)) == (True, False, 10240 - 512, 512)
        r = i.read(0, 2, read=512)
        assert (r.underflow, r.overflow, r.residual, len(r.data)) == (False, True, 512, 512)
        r = i.read(0, 1, read=200)
        assert (r.overflow, r.residual, r.data) == (True, 312, b'a' * 200)
        r = i.do(read10(0, 1), read=0)
        assert (r.overflow, r.residual, r.data) == (True, 512, b'')
        w = i.do(write10(0, 1), write=b'b' * 1024)
        assert (w.status, w.underflow, w.residual) == (0, True, 512), (w.status, w.key, w.residual)
        assert i.read(0, 2).data == b'b' * 512 + b'a' * 512
        t = i.do(bytes(6), read=100)
        assert (t.status, t.underflow, t.residual) == (0, True, 100)
        both = i.command(read10(0, 1), read=512, flags=0x80 | 0x60 | 1)
        assert i.reply(both).key == (5, 0x24, 0)
        for flags, length in ((0x80, 0), (0x80, 512), (0x80 | 0x40, 512)):  # it can bring no data
            r = i.reply(i.command(write10(0, 1), expected=length, flags=flags | 1))
            assert (r.status, r.key) == (2, (5, 0x24, 0)), (flags, length, r.status, r.key)
        w = i.reply(i.command(write10(0, 1), expected=0, flags=0x80 | 0x20 | 1))
        assert (w.status, w.overflow, w.residual) == (0, True, 512), (w.status, w.key, w.residual)
        assert i.read(0, 2).data == b'b' * 512 + b'a' * 512
        i.logout()


def test_logins_are_refused_with_the_right_status():
    with start() as o:
        o.ctl('iscsi', 'create', 'iqn.2026-11.test:listed')
        o.ctl('iscsi', 'acl', 'iqn.2026-11.test:listed', 'iqn.2026-11.test:friend')
        refused(o.addr, 0x0203, 'iqn.2026-11.test:nowhere')
        refused(o.addr, 0x0202, 'iqn.2026-11.test:listed')
        Initiator(o.addr, 'iqn.2026-11.test:listed', name='iqn.2026-11.test:friend').logout()
        raw = lambda **kw: Initiator(o.addr, IQN, login=False, **kw)
        cases = [
            (0x0207, (0, 1, [('SessionType', 'Normal')]), {}),
            (0x0207, (0, 1, [('InitiatorName', 'iqn.a:b')]), {}),
            (0x0209, (0, 1, [('InitiatorName', 'iqn.a:b'), ('SessionType', 'Odd')]), {}),
            (0x0201, (0, 1, raw().names() + [('AuthMethod', 'CHAP,SRP')]), {}),
            (0x0205, (0, 1, raw().names()), {'version_min': 1}),
            (0x0200, (1, 0, raw().names()), {}),
            (0x0200, (1, 2, raw().names()), {}),
            (0x0200, (0, 1, raw().names()), {'more': True}),
            (0x0200, (0, 1, b'no equals sign\0'), {}),
            (0x0200, (0, 1, b'InitiatorName=iqn.a:b'), {}),
            (0x0200, (1, 3, raw().names() + [('MaxBurstLength', '512'), ('MaxBurstLength', '512')]), {}),
        ]
        for status, args, kw in cases:
            i = raw()
            try:
                i.login_pdu(*args, **kw)
                raise AssertionError('%s was let through' % (args,))
            except LoginError as e:
                assert e.status == status, '%04x for %s, expected %04x' % (e.status, args, status)
            assert i.closed()
            i.close()
        i = raw()
        i.tsih = 0x1234
        try:
            i.login_pdu(0, 1, i.names())
            raise AssertionError('an unknown TSIH was let through')
        except LoginError as e:
            assert e.status == 0x020a


def test_keys_are_negotiated_by_their_rules():
    with start() as o:
        i = Initiator(o.addr, IQN, login=False)
        p = i.login_pdu(1, 1, i.names() + [
            ('MaxConnections', '8'), ('MaxBurstLength', '16777215'), ('FirstBurstLength', '0x200'),
            ('DefaultTime2Wait', '5'), ('DefaultTime2Retain', '30'), ('MaxOutstandingR2T', '65535'),
            ('ErrorRecoveryLevel', '2'), ('DataPDUInOrder', 'No'), ('DataSequenceInOrder', 'Maybe'),
            ('HeaderDigest', 'X-other,CRC32C,None'), ('DataDigest', 'None,CRC32C'), ('OFMarker', 'Yes'),
            ('X-test.key', '1'), ('TargetAlias', 'mine')], transit=False)
        assert not p.flags & 0x80
        got = i.got
        assert got['TargetPortalGroupTag'] == '1'
        assert got['MaxConnections'] == '1' and got['FirstBurstLength'] == '512'
        assert got['DefaultTime2Wait'] == '5' and got['DefaultTime2Retain'] == '0'
        assert got['ErrorRecoveryLevel'] == '0' and got['DataPDUInOrder'] == 'Yes'
        assert got['DataSequenceInOrder'] == 'Reject' and got['OFMarker'] == 'No'
        assert got['HeaderDigest'] == 'CRC32C' and got['DataDigest'] == 'None'
        assert got['X-test.key'] == 'NotUnderstood' and got['TargetAlias'] == 'Reject'
        assert int(got['MaxBurstLength']) <= 16777215 and int(got['MaxOutstandingR2T']) >= 1
        p = i.login_pdu(1, 3, [])
        assert p.flags & 0x83 == 0x83
        i.full(p)
        i.ready().logout()
        i = Initiator(o.addr, IQN, login=False)
        p = i.login_pdu(1, 1, i.names() + [('FirstBurstLength', '131072'), ('MaxBurstLength', '65536'),
                                           ('MaxRecvDataSegmentLength', '100')], transit=False)
        got = pairs(p.data)
        assert ('FirstBurstLength', '65536') in got and ('MaxBurstLength', '65536') in got, got  # 13.14
        assert [v for k, v in got if k == 'MaxRecvDataSegmentLength'] == ['Reject'], got
        assert pairs(i.login_pdu(1, 3, []).data) == [('MaxRecvDataSegmentLength', '262144')]
        i.close()


def test_names_have_one_spelling():
    with start() as o:
        for bad in ('iqn.bad', 'iqn.2026-13.test:x', 'eui.123', 'naa.12345678', 'disk'):
            assert 'iSCSI name' in o.ctl('iscsi', 'create', bad, expect=1)
            assert 'iSCSI name' in o.ctl('iscsi', 'acl', IQN, bad, expect=1)
        o.ctl('iscsi', 'create', 'EUI.02004567A425678D')
        assert o.ctl('iscsi', 'show', 'eui.02004567A425678d')['iqn'] == 'eui.02004567a425678d'
        o.ctl('iscsi', 'acl', IQN.upper(), 'IQN.2026-11.Test:Host')
        assert o.ctl('iscsi', 'show', IQN)['acls'] == ['iqn.2026-11.test:host']
        i = Initiator(o.addr, IQN.upper(), name='iqn.2026-11.TEST:host').ready()
        assert [(s['client'], s['object']) for s in sessions(o)] == [('iqn.2026-11.test:host', IQN)]
        i.logout()
        i.close()
        doc = o.ctl('config', 'show')
        doc['iscsi']['targets'][IQN.upper()] = doc['iscsi']['targets'].pop(IQN)
        path = os.path.join(o.dir, 'doc.json')
        with open(path, 'w') as f:
            json.dump(doc, f)
        assert o.ctl('plan', path) == {'create': [], 'change': [], 'replace': [], 'delete': []}


def test_text_may_span_pdus():
    with start() as o:
        i = Initiator(o.addr, IQN, login=False)
        whole = text(i.names() + [('MaxRecvDataSegmentLength', '4096')])
        for at in range(0, len(whole) - 7, 7):
            p = i.login_pdu(1, 3, whole[at:at + 7], transit=False, more=True)
            assert not p.data and not p.flags & 0xc0
        p = i.login_pdu(1, 3, whole[(len(whole) - 1) // 7 * 7 - (0 if (len(whole) - 1) % 7 else 0):]
                        if len(whole) % 7 else whole[-7:])
        i.full(p)
        i.ready().logout()


def test_discovery_lists_what_the_initiator_may_have():
    with start() as o:
        for n in range(120):
            assert o.http('PUT', '/v1/iscsi/targets/iqn.2026-11.test:many-%03d' % n, {}).status == 201
        o.ctl('iscsi', 'acl', 'iqn.2026-11.test:many-007', 'iqn.2026-11.test:bond')
        i = Initiator(o.addr, MaxRecvDataSegmentLength='512')
        names = [v for k, v in i.send_targets() if k == 'TargetName']
        assert len(names) == 120 and 'iqn.2026-11.test:many-007' not in names, len(names)
        assert i.send_targets(IQN) == [('TargetName', IQN), ('TargetAddress', o.addr + ',1')]
        assert i.send_targets('iqn.2026-11.test:many-007') == []
        p = i.text(text([('SendTargets', 'All')] * 2))  # a lever, 120 targets for every 16 bytes
        assert p.op == REJECT and p.head[2] == 9 and len(p.data) == 48, p
        p = i.nop(b'ping')
        assert p.data == b'ping'
        i.logout()
        n = Initiator(o.addr, IQN).ready()
        assert n.send_targets('') == [('TargetName', IQN), ('TargetAddress', o.addr + ',1')]
        assert n.send_targets('All') == [('SendTargets', 'Reject')]
        assert n.send_targets('iqn.2026-11.test:many-001') == []
        n.logout()


def test_a_second_login_of_the_same_port_takes_over():
    with start() as o:
        a = Initiator(o.addr, IQN).ready()
        b = Initiator(o.addr, IQN).ready()
        assert a.closed()
        assert b.tsih and b.nop(b'here').data == b'here'
        c = Initiator(o.addr, IQN, isid=b'\x40\0\x37\0\0\2').ready()
        assert b.nop().op == NOP_IN and len(sessions(o)) == 2
        d = Initiator(o.addr, IQN, login=False)
        d.tsih, d.cid = b.tsih, 9
        try:
            d.login_pdu(0, 1, d.names())
            raise AssertionError('a second connection was let in')
        except LoginError as e:
            assert e.status == 0x0206
        e = Initiator(o.addr, IQN, login=False).join(b, b.cid)  # the same connection again: the session goes on
        assert b.closed() and e.tsih == b.tsih and e.do(bytes(6)).status == 0
        e.logout()
        c.logout()


def sessions(o):
    return [s for s in o.http('GET', '/v1/sessions').json['items'] if s['protocol'] == 'iscsi']


def test_the_command_window_holds():
    with start() as o:
        i = Initiator(o.addr, IQN).ready()
        room = (i.max_cmdsn - i.cmdsn + 1) & 0xffffffff
        assert 16 <= room <= 4096, room
        for sn in (i.max_cmdsn + 1, i.cmdsn - 1):  # outside: silence
            i.send(SCSI_CMD, 0x81, itt=i.tag(), raw=struct.pack('>III', 0, sn & 0xffffffff, i.exp_statsn) + bytes(16))
        i.sock.settimeout(0.3)
        try:
            raise AssertionError('answered outside the window: %s' % i.recv())
        except socket.timeout:
            pass
        i.sock.settimeout(20)
        assert i.nop().exp == i.cmdsn
        # writes whose data is withheld fill the window; MaxCmdSN never moves back, and opens again
        tags = [i.command(write10(0, 8), write=b'x' * 4096, unsolicited=False) for _ in range(room)]
        asked = [i.recv() for _ in tags]
        assert all(p.op == R2T for p in asked)
        assert (i.max_cmdsn - i.cmdsn) & 0xffffffff == 0xffffffff, 'the window is not closed'
        for p in asked:
            i.data_out(p.itt, p.w20, p.head[8:16], 0, b'x' * 4096)
        done = {i.recv().itt for _ in tags}
        assert done == set(tags)
        assert i.nop().max - i.cmdsn + 1 == room
        i.logout()


def test_bad_pdus_are_answered_and_the_session_goes_on():
    with start() as o:
        i = Initiator(o.addr, IQN).ready()
        for op, reason in ((SNACK, 3), (0x1f, 5), (LOGIN, 4)):
            i.send(op, 0x80, itt=i.tag(), words=(NO_TAG, i.cmdsn, i.exp_statsn), immediate=True)
            p = i.status(i.recv())
            assert p.op == REJECT and p.head[2] == reason and p.data[0] & 0x3f == op, p
        itt = i.command(write10(0, 8), write=b'y' * 4096, unsolicited=False)
        asked = i.recv()
        assert asked.op == R2T
        i.send(SCSI_CMD, 0x81, itt=itt, raw=struct.pack('>III', 0, i.sn(), i.exp_statsn) + bytes(16))
        p = i.status(i.recv())
        assert p.op == REJECT and p.head[2] == 4, 'the same tag twice'
        i.send(DATA_OUT, 0x80, asked.head[8:16], itt, (asked.w20, 0, i.exp_statsn, 0, 5, 0), data=b'z' * 4096)
        r = i.reply(itt)
        assert r.status == 2 and r.key == (0xb, 0x47, 5), 'a wrong DataSN'
        i.send(DATA_OUT, 0x80, asked.head[8:16], 0x7777, (1, 0, i.exp_statsn, 0, 0, 0), data=b'z' * 512)
        assert i.nop(b'still').data == b'still'
        assert i.read(0, 8).data == bytes(4096), 'nothing was written'
        i.logout()


def test_too_much_or_unexpected_data_is_refused():
    with start() as o:
        i = Initiator(o.addr, IQN, ImmediateData='No', InitialR2T='Yes').ready()
        i.got['ImmediateData'] = 'Yes'
        r = i.write(0, b'q' * 4096)
        assert r.key == (0xb, 0x0c, 0x0c), r.key
        i.got['ImmediateData'] = 'No'
        assert i.write(0, b'q' * 4096).status == 0
        i.logout()
        i = Initiator(o.addr, IQN, FirstBurstLength='4096').ready()
        i.got['FirstBurstLength'] = '8192'
        assert i.write(0, b'r' * 8192).key == (0xb, 0x0c, 0x0c)
        i.got['FirstBurstLength'] = '4096'
        assert i.read(0, 8).data == b'q' * 4096
        i.logout()


def test_task_management_takes_effect():
    with start() as o:
        i = Initiator(o.addr, IQN).ready()
        itt = i.command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
        asked = i.recv()
        i.tmf(1, ref=itt)
        p = i.status(i.recv())
        assert p.op == TMF_RSP and p.head[2] == 0, p
        i.data_out(itt, asked.w20, asked.head[8:16], 0, b'x' * 4096)  # late: dropped
        assert i.read(0, 8).data == bytes(4096)
        i.tmf(1, ref=0x5555)
        assert i.status(i.recv()).head[2] == 1
        i.tmf(5, lun=9)
        assert i.status(i.recv()).head[2] == 2
        i.tmf(8)
        assert i.status(i.recv()).head[2] == 4
        i.tmf(99)
        assert i.status(i.recv()).head[2] == 5
        tags = [i.command(write10(0, 8), write=b'x' * 4096, unsolicited=False) for _ in range(4)]
        assert all(i.recv().op == R2T for _ in tags)
        other = Initiator(o.addr, IQN, isid=b'\x40\0\x37\0\0\2').ready()
        i.tmf(5)
        p = i.status(i.recv())
        assert p.op == TMF_RSP and p.head[2] == 0, p
        assert other.do(bytes(6)).key[0] == 6, 'the other initiator learns of the reset'
        i.ready()
        assert i.read(0, 8).data == bytes(4096)
        i.logout()
        other.logout()


def test_a_cold_reset_ends_every_session_of_the_target():
    with start() as o:
        o.ctl('iscsi', 'create', 'iqn.2026-11.test:other')
        i = Initiator(o.addr, IQN).ready()
        j = Initiator(o.addr, IQN, isid=b'\x40\0\x37\0\0\2').ready()
        other = Initiator(o.addr, 'iqn.2026-11.test:other')
        tags = [j.command(write10(0, 8), write=b'x' * 4096, unsolicited=False) for _ in range(4)]
        assert all(j.recv().op == R2T for _ in tags)
        i.tmf(7)
        p = i.status(i.recv())
        assert p.op == TMF_RSP and p.head[2] == 0, p
        told = [j.reply(t) for t in tags]
        assert all(r.status == 0x40 for r in told), 'TASK ABORTED: TAS is 1'
        for who in (i, j):
            p = who.recv()
            assert p.op == ASYNC and p.head[36] == 3, p
            assert who.closed()
        assert other.nop(b'here').data == b'here'
        other.logout()
        again = Initiator(o.addr, IQN)
        assert again.do(bytes(6)).key[0] == 6
        again.ready()
        assert again.read(0, 8).data == bytes(4096)
        again.logout()


def test_portals_of_several_groups():
    with start() as o:
        ports = [o.addr]
        for group in (1, 2):
            addr = '127.0.0.1:%d' % free_port()
            assert o.ctl('iscsi', 'portal', 'add', addr, '--group', group)['group'] == group
            ports.append(addr)
        o.ctl('iscsi', 'portal', 'add', ports[2], '--group', '3', expect=5)
        o.ctl('iscsi', 'portal', 'add', ports[2], '--group', '16', expect=1)
        i = Initiator(ports[1])
        assert i.send_targets(IQN) == [('TargetName', IQN)] + [
            ('TargetAddress', '%s,%d' % p) for p in zip(ports, (1, 1, 2))]
        i.logout()
        one, two = Initiator(ports[0], IQN).ready(), Initiator(ports[2], IQN).ready()
        assert (one.got['TargetPortalGroupTag'], two.got['TargetPortalGroupTag']) == ('1', '2')
        # one initiator port may have a session with each group; within a group it takes over
        again = Initiator(ports[1], IQN).ready()
        assert one.closed() and two.nop(b'here').data == b'here' and len(sessions(o)) == 2
        # relative target port in VPD 83h
        for who, port in ((again, 1), (two, 2)):
            page = who.do(bytes([0x12, 1, 0x83, 0, 255, 0]), read=255).data
            assert bytes([0x94, 0, 4, 0, 0, 0, port]) in page, page.hex()
        o.stop()
        o.start()
        assert [p['group'] for p in o.ctl('iscsi', 'portal', 'list')['items']] == [1, 1, 2]
        o.fds_mark()


@contextlib.contextmanager
def ending(o, polite, rude, *args):
    """Both are asked to log out by what orionctl does; the rude one is dropped, then that is done."""
    with subprocess.Popen([find('orionctl'), '--api', 'unix:' + o.api, *args]) as p:
        begin = time.monotonic()
        for i in (polite, rude):
            a = i.recv()
            assert a.op == ASYNC and a.head[36] == 1 and a.head[42:44] == b'\0\x01', a
            try:
                assert i is rude or i.logout().head[2] == 0
            except (EOFError, ConnectionError):  # this machine was too slow
                assert time.monotonic() - begin > 0.9
        assert polite.closed()
        yield
        a = rude.recv()
        assert a.op == ASYNC and a.head[36] == 3 and rude.closed(), a
        assert p.wait(60) == 0


def test_sessions_of_one_initiator_and_the_end_of_their_portal():
    """Several sessions, on different reactors, by two groups; those of a portal that goes are asked to go."""
    with start() as o:
        two = '127.0.0.1:%d' % free_port()
        o.ctl('iscsi', 'portal', 'add', two, '--group', '2')
        all_of_them = [Initiator(a, IQN, isid=b'\x40\0\x37\0\0' + bytes([n])).ready()
                       for a in (o.addr, two) for n in (1, 2)]
        assert len({i.tsih for i in all_of_them}) == 4
        assert {s['reactor'] for s in sessions(o)} == {0, 1}, sessions(o)
        for n, i in enumerate(all_of_them):
            assert i.write(8 * n, bytes([n]) * 4096).status == 0
        for n in range(4):
            assert all_of_them[3 - n].read(8 * n, 8).data == bytes([n]) * 4096
        halfway = Initiator(two, IQN, login=False)
        halfway.login_pdu(0, 1, halfway.names() + [('AuthMethod', 'None')])
        with ending(o, all_of_them[2], all_of_them[3], 'iscsi', 'portal', 'remove', two):
            assert halfway.closed()
        for i in all_of_them[:2]:
            assert i.nop(b'here').data == b'here'
        assert len(sessions(o)) == 2, sessions(o)
        try:
            Initiator(two, IQN)
            raise AssertionError('the portal still answers')
        except ConnectionRefusedError:
            pass
        d = Initiator(o.addr)
        assert [v for k, v in d.send_targets() if k == 'TargetAddress'] == [o.addr + ',1']
        d.logout()
        rtpg = all_of_them[0].do(bytes([0xa3, 0x0a]) + bytes(6) + b'\xff\0' + bytes(2), read=255).data
        assert len(rtpg) == 4 + 2 * 12, 'a group stays'
        o.ctl('iscsi', 'portal', 'add', two, '--group', '2')
        again = Initiator(two, IQN, isid=b'\x40\0\x37\0\0\1').ready()
        for i in all_of_them + [again, d, halfway]:
            i.close()
        o.ctl('iscsi', 'portal', 'remove', two, json_out=False)
        o.fds_mark()


def test_a_wrong_digest_ends_the_connection():
    with start() as o:
        for header in (True, False):
            i = Initiator(o.addr, IQN, HeaderDigest='CRC32C', DataDigest='CRC32C').ready()
            head = struct.pack('>BBHI', 0x40, 0x80, 0, 4) + bytes(8) + struct.pack('>III', 5, NO_TAG, i.cmdsn)
            head = head.ljust(48, b'\0')
            i.sock.sendall(head + (b'oops' if header else crc32c(head)) + b'ping' + b'oops')
            if not header:  # told first, RFC 7143 7.8
                p = i.recv()
                assert p.op == REJECT and p.head[2] == 2 and p.data == head, p
            assert i.closed()
        i = Initiator(o.addr, IQN, DataDigest='CRC32C').ready()
        before = i.read(0, 8).data
        i.data_digest, data = False, b'w' * 4096  # the digest is left to the test
        i.send(SCSI_CMD, 0xa1, itt=i.tag(), raw=struct.pack('>III', 4096, i.sn(), i.exp_statsn) +
               write10(0, 8).ljust(16, b'\0'), data=data)
        i.sock.sendall(b'oops')
        i.data_digest = True
        assert i.recv().op == REJECT and i.closed()
        i = Initiator(o.addr, IQN).ready()
        assert i.read(0, 8).data == before, 'what came damaged was written'
        i.logout()
        i.close()
        wait_for(lambda: not sessions(o), what='the end')


def test_the_segment_length_may_change_later():
    with start() as o:
        i = Initiator(o.addr, IQN, MaxRecvDataSegmentLength='65536').ready()
        i.write(0, os.urandom(65536))
        assert len(i.read(0, 128).data_pdus) == 1
        p = i.text(text([('MaxRecvDataSegmentLength', '4096'), ('MaxBurstLength', '512'), ('X-a', 'b')]))
        assert p.op == TEXT_RSP and dict(pairs(p.data)) == {'MaxBurstLength': 'Reject', 'X-a': 'NotUnderstood'}
        assert len(i.read(0, 128).data_pdus) == 16
        i.logout()


def test_text_requests_may_span_pdus_too():
    with start() as o:
        i = Initiator(o.addr)
        whole = text([('SendTargets', 'All')])
        itt = i.tag()
        p = i.text(whole[:5], itt, flags=0x40)
        assert p.op == TEXT_RSP and not p.data and not p.flags & 0xc0 and p.w20 != NO_TAG
        p = i.text(whole[5:], itt, ttt=p.w20)
        assert p.flags & 0x80 and ('TargetName', IQN) in pairs(p.data)
        i.logout()


def test_ipv6_portals_serve():
    with start() as o:
        try:
            with socket.socket(socket.AF_INET6) as s:
                s.bind(('::1', 0))
                port = s.getsockname()[1]
        except OSError:
            print('        no IPv6 here: not tested')
            return
        o.ctl('iscsi', 'portal', 'add', '[::1]:%d' % port)
        o.fds_mark()
        i = Initiator('::1:%d' % port)
        addresses = [v for k, v in i.send_targets() if k == 'TargetAddress']
        assert '[::1]:%d,1' % port in addresses and o.addr + ',1' in addresses, addresses
        i.logout()
        Initiator('::1:%d' % port, IQN).ready().logout()


def test_a_slow_reader_gets_every_byte():
    """The socket fills up in the middle of PDUs; what is sent later is whole and in order."""
    with start() as o:
        for digest in ('None', 'CRC32C'):
            i = Initiator(o.addr, IQN, MaxRecvDataSegmentLength='2048', DataDigest=digest, HeaderDigest=digest,
                          MaxBurstLength='65536').ready()
            i.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            size, count = (262144, 24) if digest == 'None' else (131072, 4)
            data = os.urandom(size)
            assert i.write(0, data).status == 0
            tags = [i.command(read10(0, size // 512), read=size) for _ in range(count)]
            time.sleep(0.3)
            got = {t: bytearray() for t in tags}
            left = set(tags)
            while left:
                p = i.recv()
                assert p.op == DATA_IN and p.w40 == len(got[p.itt]), p
                got[p.itt] += p.data
                if p.flags & 1:
                    left.remove(p.itt)
            assert all(bytes(v) == data for v in got.values())
            i.logout()


def test_sessions_are_listed_and_killed():
    with start() as o:
        i = Initiator(o.addr, IQN).ready()
        i.write(0, bytes(8192))
        i.read(0, 8)
        s = wait_for(lambda: sessions(o), 5, 'the session')[0]
        assert s['client'] == i.name and s['object'] == IQN, s
        o.ctl('session', 'kill', s['id'], json_out=False)
        p = i.recv()
        assert p.op == ASYNC and p.head[36] == 3, p
        assert p.head[40:44] == bytes([0, 2, 0, 0]), 'Time2Wait and Time2Retain as agreed'
        assert i.closed() and not sessions(o)


def test_initiators_are_asked_to_log_out_before_a_target_goes():
    with start() as o:
        polite, rude = (Initiator(o.addr, IQN, name='iqn.2026-11.test:' + n).ready() for n in ('polite', 'rude'))
        o.ctl('iscsi', 'delete', IQN, expect=5)
        with ending(o, polite, rude, 'iscsi', 'delete', IQN, '--disconnect'):
            pass
        refused(o.addr, 0x0203, IQN)
        rude.close(), polite.close()


def test_who_goes_off_the_list_is_asked_to_log_out():
    with start() as o:
        one, other = 'iqn.2026-11.test:one', 'iqn.2026-11.test:other'
        o.ctl('iscsi', 'acl', IQN, one)
        o.ctl('iscsi', 'acl', IQN, other)
        polite, rude = (Initiator(o.addr, IQN, name=one, isid=b'\x40\0\x37\0\0' + bytes([n])).ready()
                        for n in (1, 2))
        stays = Initiator(o.addr, IQN, name=other).ready()
        assert one in o.ctl('iscsi', 'unacl', IQN, one, expect=5)
        assert polite.nop(b'here').data == b'here'
        with ending(o, polite, rude, 'iscsi', 'unacl', IQN, one, '--disconnect'):
            refused(o.addr, 0x0202, IQN, name=one)
        refused(o.addr, 0x0202, IQN, name=one)
        assert stays.nop(b'here').data == b'here' and len(sessions(o)) == 1
        stays.logout()
        for i in (polite, rude, stays):
            i.close()
        wait_for(lambda: not sessions(o), what='the end')
        o.ctl('iscsi', 'unacl', IQN, other, json_out=False)  # nobody is there


run(test_every_way_of_sending_data_writes_the_same, test_residuals_are_exact,
    test_logins_are_refused_with_the_right_status, test_keys_are_negotiated_by_their_rules, test_names_have_one_spelling,
    test_text_may_span_pdus, test_discovery_lists_what_the_initiator_may_have,
    test_a_second_login_of_the_same_port_takes_over, test_the_command_window_holds,
    test_bad_pdus_are_answered_and_the_session_goes_on, test_too_much_or_unexpected_data_is_refused,
    test_task_management_takes_effect, test_a_wrong_digest_ends_the_connection,
    test_a_cold_reset_ends_every_session_of_the_target, test_portals_of_several_groups,
    test_sessions_of_one_initiator_and_the_end_of_their_portal,
    test_the_segment_length_may_change_later, test_text_requests_may_span_pdus_too, test_ipv6_portals_serve,
    test_a_slow_reader_gets_every_byte, test_sessions_are_listed_and_killed,
    test_initiators_are_asked_to_log_out_before_a_target_goes, test_who_goes_off_the_list_is_asked_to_log_out)
