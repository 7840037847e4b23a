# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Several connections in one iSCSI session (RFC 7143 4.2.2, 6.3.4, 11.14)."""
import os
import random
import select
import signal
import socket
import struct
import threading

from iscsiwire import (ASYNC, LOGOUT, LOGOUT_RSP, NO_TAG, NOP_IN, NOP_OUT, R2T, REJECT, SCSI_RSP, TMF_RSP, Initiator,
                       LoginError, read10, text, write10)
from orion import FULL, Orion, free_port, run, wait_for

IQN = 'iqn.2026-11.test:connections'
ORDERED = 2


def configure(o, settings):
    with open(o.config, 'w') as f:
        f.write(settings)


def start(connections=4, settings='{}'):
    o = Orion(start=False)
    configure(o, settings)
    o.start()
    o.mem('m0', size='64M')
    o.addr = o.iscsi(IQN, 'm0')
    o.ctl('iscsi', 'set', IQN, '--max-connections', connections)
    o.fds_mark()
    return o


def session(o, n=2, digests='None', **kw):
    """n connections of one session, with CIDs from 1."""
    both = {'HeaderDigest': digests, 'DataDigest': digests}
    a = Initiator(o.addr, IQN, MaxConnections='8', **both, **kw).ready()
    return [a] + [Initiator(o.addr, IQN, login=False, **both).join(a, cid) for cid in range(2, n + 1)]


def sessions(o):
    return [s for s in o.http('GET', '/v1/sessions').json['items'] if s['protocol'] == 'iscsi']


def connections(o, n):
    wait_for(lambda: [s['connections'] for s in sessions(o)] == ([n] if n else []), what='%d connections' % n)


def silent(*initiators):
    """Nothing is there for them: whatever they are to get was sent before the answer to a NOP."""
    for i in initiators:
        i.nop()


def refused(status, do):
    try:
        do()
    except LoginError as e:
        assert e.status == status, '%04x, expected %04x' % (e.status, status)
        return
    raise AssertionError('the login was let through, expected %04x' % status)


def test_one_unless_the_target_is_told_otherwise():
    with start(1) as o:
        joiner = lambda: Initiator(o.addr, IQN, login=False)
        a = Initiator(o.addr, IQN, MaxConnections='8').ready()
        assert a.got['MaxConnections'] == '1'
        refused(0x0206, lambda: joiner().join(a, 2))
        a.logout()
        o.ctl('iscsi', 'set', IQN, '--max-connections', 9, expect=1)
        o.ctl('iscsi', 'set', IQN, '--max-connections', 3)
        shown = o.http('GET', '/v1/iscsi/targets/' + IQN).json
        assert shown['max_connections'] == 3, shown
        assert o.ctl('config', 'show')['iscsi']['targets'][IQN]['max_connections'] == 3
        a, b, c = session(o, 3)
        assert a.got['MaxConnections'] == '3' and b.tsih == a.tsih
        connections(o, 3)
        refused(0x0206, lambda: joiner().join(a, 4))
        stranger = joiner()
        stranger.tsih = a.tsih + 1
        refused(0x020a, lambda: stranger.login_pdu(0, 1, stranger.names()))
        other = Initiator(o.addr, IQN, login=False, name='iqn.2026-11.test:other')
        refused(0x020a, lambda: other.join(a, 2))
        c.logout(1)
        connections(o, 2)
        d = joiner()
        d.tsih, d.cid, d.isid, d.cmdsn = a.tsih, 7, a.isid, a.cmdsn
        p = d.login_pdu(0, 1, d.names() + [('AuthMethod', 'None')])
        assert (p.exp - p.max) & 0xffffffff == 2, 'the window is not known yet, and that is said'
        p = d.login_pdu(1, 3, [('InitialR2T', 'No'), ('MaxConnections', '8'), ('MaxBurstLength', '512')])
        assert set(d.got[k] for k in ('InitialR2T', 'MaxConnections', 'MaxBurstLength')) == {'Irrelevant'}, d.got
        assert p.exp == a.cmdsn and p.max == a.nop().max, 'ExpCmdSN and MaxCmdSN are the session\'s'
        discovery = Initiator(o.addr)
        discovery.logout()
        a.logout()
        assert all(i.closed() for i in (a, b, d))
        connections(o, 0)
        for i in (a, b, c, d, joiner()):
            i.close()


def scattered(rng, members, count, step):
    """count steps with CmdSNs in order, each on some connection; those of a connection in order, else mixed."""
    lanes = {m: [] for m in members}
    base = members[0].cmdsn
    for n in range(count):
        lanes[rng.choice(members)].append(n)
    members[0].cmdsn = base + count & 0xffffffff
    sent = {}
    while any(lanes.values()):
        m = rng.choice([m for m in members if lanes[m]])
        for n in lanes[m][:rng.randrange(1, 9)]:
            lanes[m].remove(n)
            m.next_sn = base + n & 0xffffffff
            sent[n] = m, step(m, n)
    return sent


def collect(sent, writes):
    """Answers R2Ts, each by its connection; statuses and data by step."""
    due = {m: {} for m, _ in sent.values()}
    for n, (m, tag) in sent.items():
        due[m][tag] = n
    status, data = {}, {}
    while any(due.values()):
        ready = select.select([m.sock for m in due if due[m]], [], [], 60)[0]
        assert ready, 'no answer to %s' % due
        for m in [m for m in due if m.sock in ready]:
            p = m.recv()
            assert p.itt in due[m], 'a PDU of another connection: %s' % p
            n = due[m][p.itt]
            if p.op == R2T:
                m.data_out(p.itt, p.w20, p.head[8:16], p.w40, writes[n][p.w40:p.w40 + p.w44])
                continue
            data[n] = data.get(n, b'') + p.data
            if p.op == SCSI_RSP or p.flags & 1:
                status[n] = m.status(p).head[3]
                del due[m][p.itt]
    return status, data


def test_commands_run_in_the_order_of_their_numbers():
    """Writes to the same blocks, each followed by a read of them, mixed over three connections."""
    rng = random.Random(7143)
    cases = (('Yes', 'No', 'None'), ('No', 'No', 'None'), ('Yes', 'Yes', 'CRC32C'))
    with start() as o:
        for immediate, r2t, digests in cases:
            members = session(o, 3, digests, ImmediateData=immediate, InitialR2T=r2t, FirstBurstLength='16384')
            for turn in range(4 if FULL else 2):
                size = rng.choice((512, 8192, 24576, 65536)) if digests == 'None' else 4096
                writes = {n: rng.randbytes(size) for n in range(0, 40, 2)}

                def step(m, n):
                    if n in writes:
                        return m.command(write10(0, size // 512), write=writes[n], attr=ORDERED)
                    return m.command(read10(0, size // 512), read=size, attr=ORDERED)

                sent = scattered(rng, members, 40, step)
                status, data = collect(sent, writes)
                assert set(status.values()) == {0}, status
                for n in range(1, 40, 2):
                    assert data[n] == writes[n - 1], 'the read %d does not see the write before it' % n
            connections(o, 3)
            members[1].logout()
            assert all(m.closed() for m in members)
            for m in members:
                m.close()


def test_what_is_early_waits_and_immediate_does_not():
    with start() as o:
        a, b = session(o)
        gap = a.sn()
        late = b.command(read10(0, 1), read=512)
        held = b.tag()
        b.send(NOP_OUT, 0x80, itt=held, words=(NO_TAG, b.sn(), b.exp_statsn), data=b'in line')
        p = b.nop(b'now')
        assert p.data == b'now' and p.exp == gap, 'the immediate one is answered, the others wait'
        b.next_sn = gap + 1
        b.command(write10(0, 1), write=b'2' * 512)  # its number is there already: ignored
        silent(a, b)
        a.next_sn = gap
        assert a.write(0, b'1' * 512).status == 0
        got = {p.itt: b.status(p).data for p in (b.recv(), b.recv())}
        assert got == {late: b'1' * 512, held: b'in line'}, got
        assert a.nop().exp == a.cmdsn
        # a held command's data is checked as it comes, and told at its turn
        gap = a.sn()
        wrong = b.command(write10(0, 8), write=b'w' * 4096, expected=512)
        both = b.command(write10(1, 1), write=b'w' * 512, flags=0x80 | 0x40 | 0x20 | 1)
        odd = b.command(bytes([0x3f]), read=512)
        silent(b)
        a.next_sn = gap
        assert a.write(1, b'3' * 512).status == 0
        assert [b.reply(t).key for t in (wrong, both, odd)] == [(0xb, 0x0c, 0x0c), (5, 0x24, 0), (5, 0x20, 0)]
        assert a.read(0, 2).data == b'1' * 512 + b'3' * 512
        # in the middle of a held command's data its turn comes
        gap = a.sn()
        data = os.urandom(32768)
        sn, itt = b.sn(), b.tag()
        head = struct.pack('>III', 65536, sn, b.exp_statsn) + write10(0, 128).ljust(16, b'\0')
        b.send(1, 0xa1, itt=itt, raw=head, data=data, cut=20000)
        a.next_sn = gap
        tag = a.command(read10(100, 1), read=512)
        assert a.reply(tag).status == 0
        assert a.do(bytes(6)).status == 0
        b.sock.sendall(data[20000 - 48:])
        assert b.reply(itt, data * 2).status == 0
        assert a.read(0, 128).data == data * 2
        a.logout()
        a.close(), b.close()


def test_a_connection_goes_and_comes_back():
    with start() as o:
        a, b = session(o)
        tag = b.command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
        assert b.recv().op == R2T
        a.data_out(tag, 0, bytes(8), 0, b'y' * 4096)  # on the wrong connection: dropped
        b.close()
        connections(o, 1)
        assert a.nop().exp == a.cmdsn, 'its CmdSN stays used'
        assert a.read(0, 8).data == bytes(4096)
        b = Initiator(o.addr, IQN, login=False).join(a, 2)
        assert b.write(0, b'z' * 4096).status == 0 and a.read(0, 8).data == b'z' * 4096, 'no unit attention'
        # reinstated while it stands: its tasks go without a word
        tag = b.command(write10(0, 8), write=b'q' * 4096, unsolicited=False)
        assert b.recv().op == R2T
        again = Initiator(o.addr, IQN, login=False).join(a, 2)
        assert b.closed()
        again.data_out(tag, 0, bytes(8), 0, b'q' * 4096)
        assert again.read(0, 8).data == b'z' * 4096
        connections(o, 2)
        # what was held goes with its connection and leaves a gap, which is filled
        gap = a.sn()
        again.command(write10(0, 8), write=b'h' * 4096)
        silent(again)
        again.close()
        connections(o, 1)
        a.next_sn = gap
        assert a.do(bytes(6)).status == 0
        assert a.nop().exp == gap + 1
        a.next_sn = gap + 1
        assert a.write(0, b'i' * 4096).status == 0 and a.read(0, 8).data == b'i' * 4096
        a.close()
        b.close()
        connections(o, 0)
        refused(0x020a, lambda: Initiator(o.addr, IQN, login=False).join(a, 2))


def test_logout_of_connections_and_sessions():
    with start() as o:
        a, b, c = session(o, 3)
        assert a.logout(1, cid=9).head[2] == 1, 'there is no such connection'
        assert a.logout(2, cid=2).head[2] == 2, 'no recovery'
        tag = b.command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
        assert b.recv().op == R2T
        assert a.logout(1, cid=2).head[2] == 0 and b.closed(), 'by another connection'
        connections(o, 2)
        b.close()
        assert a.do(bytes(6)).status == 0 and c.do(bytes(6)).status == 0
        assert c.logout(1).head[2] == 0 and c.closed(), 'by itself'
        connections(o, 1)
        c = Initiator(o.addr, IQN, login=False).join(a, 3)
        tag = a.command(read10(0, 2048), read=1 << 20)
        p = c.logout()
        assert p.op == LOGOUT_RSP and p.head[2] == 0
        assert len(a.reply(tag).data) == 1 << 20, 'what ran was answered first'
        assert a.closed() and c.closed()
        connections(o, 0)
        # one by one: the session ends with the last
        a, b = session(o)
        assert b.logout(1, cid=1).head[2] == 0 and a.closed()
        assert b.do(bytes(6)).status == 0
        assert b.logout(1).head[2] == 0 and b.closed()
        connections(o, 0)
        # asked by the target: each of them
        a, b = session(o)
        o.ctl('session', 'kill', sessions(o)[0]['id'], json_out=False)
        p = a.recv()
        assert p.op == ASYNC and p.head[36] == 3, p
        assert a.closed() and b.closed()
        connections(o, 0)


def test_task_management_over_connections():
    with start() as o:
        a, b = session(o)
        tag = a.command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
        assert a.recv().op == R2T
        b.tmf(1, ref=tag)
        assert b.status(b.recv()).head[2] == 0, 'a task of the other connection'
        silent(a)
        # a number that never comes is used up by its ABORT TASK; one that is held, too
        gap = a.sn()
        late = b.command(read10(0, 1), read=512)
        b.tmf(1, ref=a.tag(), ref_sn=gap)
        assert b.status(b.recv()).head[2] == 0
        assert b.reply(late).status == 0
        gap = a.sn()
        late = b.command(write10(0, 1), write=b'x' * 512)
        a.tmf(1, ref=late)
        assert a.status(a.recv()).head[2] == 0
        a.next_sn = gap
        assert a.read(0, 1).data == bytes(512)
        assert a.nop().exp == a.cmdsn
        a.tmf(1, ref=a.tag(), ref_sn=gap)
        assert a.status(a.recv()).head[2] == 1, 'it has come and gone'
        # a reset waits for what was sent before it
        gap = a.sn()
        itt = b.tmf(5)
        silent(b)
        a.next_sn = gap
        a.command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
        p = b.status(b.recv())
        assert p.op == TMF_RSP and p.itt == itt and p.head[2] == 0, p
        assert a.recv().op == R2T
        assert a.do(bytes(6)).key == (6, 0x29, 3)
        assert a.read(0, 8).data == bytes(4096), 'it was aborted'
        # and, before it is answered, for what the initiator has not confirmed elsewhere
        itt = b.tmf(5)
        p = a.recv()
        assert p.op == NOP_IN and p.itt == NO_TAG and p.w20 != NO_TAG, p
        silent(b)
        a.send(NOP_OUT, 0x80, itt=NO_TAG, words=(p.w20, a.cmdsn, p.sn), immediate=True)
        p = b.status(b.recv())
        assert p.op == TMF_RSP and p.itt == itt and p.head[2] == 0, p
        a.logout()
        a.close(), b.close()


def say(i, op, flags, words, itt=NO_TAG):
    i.send(op, flags, itt=itt, words=words, immediate=True)


def past_pings(i):
    while True:
        p = i.recv()
        if p.op != NOP_IN or p.itt != NO_TAG:
            return p


def test_a_connection_that_ends_while_functions_are_answered():
    """Two functions wait for replies to be confirmed; the answer to the first ends its connection, which was all
    that the second waited for, too."""
    with start() as o:
        a, b, c = session(o, 3)
        old_b, old_c = b.exp_statsn, c.exp_statsn
        b.nop(), c.nop()
        new_c, b.exp_statsn, c.exp_statsn = c.exp_statsn, old_b, old_c
        b.tmf(2)
        assert c.recv().op == NOP_IN
        itt = a.tmf(2)
        assert c.recv().op == NOP_IN
        logout = a.tag()
        say(c, LOGOUT, 0x81, (b.cid << 16, a.cmdsn, old_c), logout)
        say(c, NOP_OUT, 0x80, (NO_TAG, a.cmdsn, new_c))
        p = past_pings(a)
        assert p.op == TMF_RSP and p.itt == itt and p.head[2] == 0, p
        assert past_pings(c).itt == logout and b.closed()
        a.status(p)
        connections(o, 2)
        assert a.do(bytes(6)).status == 0
        a.logout()
        for i in (a, b, c):
            i.close()


def test_a_function_does_not_reach_what_comes_after_it():
    """What it waits for and what comes after it arrive in one piece."""
    with start() as o:
        a, b = session(o)
        gap = a.sn()
        itt = b.tmf(2)
        silent(b)
        sock, out = a.sock, []

        class Piece:
            def sendall(self, data):
                out.append(data)

        a.sock, a.next_sn = Piece(), gap
        before = a.tag()
        a.send(NOP_OUT, 0x80, itt=before, words=(NO_TAG, a.sn(), a.exp_statsn))
        after = a.command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
        a.sock = sock
        sock.sendall(b''.join(out))
        got = {p.op: p for p in (past_pings(a), past_pings(a))}
        assert a.status(got[NOP_IN]).itt == before and got[R2T].itt == after, got
        say(a, NOP_OUT, 0x80, (NO_TAG, a.cmdsn, a.exp_statsn))
        p = b.status(b.recv())
        assert p.op == TMF_RSP and p.itt == itt and p.head[2] == 0, p
        a.data_out(after, got[R2T].w20, bytes(8), 0, b'x' * 4096)
        assert a.reply(after).status == 0
        assert a.read(0, 8).data == b'x' * 4096
        a.logout()
        a.close(), b.close()


def test_a_portal_goes_with_the_connections_that_came_by_it():
    with start() as o:
        for leads in (False, True):  # does the first connection come by it?
            other = '127.0.0.1:%d' % free_port()
            o.ctl('iscsi', 'portal', 'add', other)
            a = Initiator(other if leads else o.addr, IQN, MaxConnections='8').ready()
            join = lambda addr, cid: Initiator(addr, IQN, login=False).join(a, cid)
            b, c, d = join(other, 2), join(other, 3), join(o.addr, 4)
            gone, stay = ([a, b, c], [d]) if leads else ([b, c], [a, d])
            busy = gone[1].command(write10(0, 8), write=b'x' * 4096, unsolicited=False)
            assert gone[1].recv().op == R2T
            done = threading.Thread(target=o.ctl, args=('iscsi', 'portal', 'remove', other), kwargs={'json_out': False})
            done.start()
            for i in gone:
                p = i.status(i.recv())
                assert p.op == ASYNC and p.head[36] == 1, p
            try:  # one does as it is asked, if it gets to it within the second
                assert gone[0].logout(1).head[2] == 0
            except (EOFError, ConnectionError):
                pass
            p = past_pings(gone[1])
            assert p.op == ASYNC and p.head[36] == 2 and p.head[39] == gone[1].cid, p
            assert all(i.closed() for i in gone)
            done.join()
            connections(o, len(stay))
            for i in stay:
                assert i.write(0, b'y' * 4096).status == 0 and i.nop().exp == a.cmdsn
            stay[0].logout()
            for i in gone + stay:
                i.close()
            connections(o, 0)


def test_connections_have_a_limit_in_all():
    with start(settings='{"iscsi_connections_max": 3}') as o:
        again = lambda name: Initiator(o.addr, IQN, name='iqn.2026-11.test:' + name)
        discover = lambda: Initiator(o.addr)
        a = Initiator(o.addr, IQN, MaxConnections='8').ready()
        b = Initiator(o.addr, IQN, login=False).join(a, 2)
        c = again('c')
        refused(0x0302, lambda: again('d'))
        refused(0x0302, lambda: Initiator(o.addr, IQN, login=False).join(a, 3))
        refused(0x0302, discover)
        # whoever takes its own place needs no room
        b2 = Initiator(o.addr, IQN, login=False).join(a, 2)
        c2 = again('c').ready()
        assert b.closed() and c.closed() and a.do(bytes(6)).status == 0 and b2.do(bytes(6)).status == 0
        c2.logout()

        def served():
            try:
                return discover()
            except LoginError as e:
                assert e.status == 0x0302
        i = wait_for(served, what='room')
        i.logout()
        # another limit is read anew, and whoever is in stays
        configure(o, '{"iscsi_connections_max": 1}')
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: 'configuration' in o.log(), what='the reload')
        refused(0x0302, lambda: again('d'))
        assert a.do(bytes(6)).status == 0 and b2.do(bytes(6)).status == 0
        a.logout()
        for i in (a, b, b2, c, c2, i):
            i.close()
        connections(o, 0)


def storm(o, rng, seconds_of):
    """Commands on all connections, one of which dies at any moment; what was answered stands."""
    members = session(o, 3, MaxRecvDataSegmentLength='8192')
    sure = {}
    for turn in range(seconds_of):
        victim = rng.choice(members[1:])
        size = rng.choice((512, 8192, 65536))
        writes = {n: rng.randbytes(size) for n in range(24)}
        step = lambda m, n: m.command(write10(n * 128, size // 512), write=writes[n], unsolicited=bool(n % 3))
        sent = scattered(rng, members, 24, step)
        if rng.randrange(2):
            victim.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        cid = victim.cid
        if rng.randrange(3):
            victim.close()
            new = Initiator(o.addr, IQN, login=False).join(members[0], cid)
        else:
            new = Initiator(o.addr, IQN, login=False).join(members[0], cid)
            victim.closed()
            victim.close()
        members[members.index(victim)] = new
        # what the victim had sent and nobody took is a gap: it is used up
        base, exp = members[0].cmdsn - 24, None
        for n, (m, tag) in sorted(sent.items()):
            if m is victim:
                new.tmf(1, ref=tag, ref_sn=base + n)
                p = new.status(new.recv())
                assert p.op == TMF_RSP and p.head[2] in (0, 1), p
        rest = {n: (m, tag) for n, (m, tag) in sent.items() if m is not victim}
        status, _ = collect(rest, writes)
        assert set(status.values()) <= {0}, status
        sure.update({n: writes[n] for n in rest})
        for n, data in sure.items():
            m = rng.choice(members)
            if n in rest:
                assert m.read(n * 128, len(data) // 512).data == data, 'write %d is lost' % n
        assert members[0].nop().exp == members[0].cmdsn, 'a gap stayed'
    members[0].logout()
    for m in members:
        m.close()


def test_connections_that_die_lose_nothing_of_the_others():
    rng = random.Random(4711)
    with start() as o:
        storm(o, rng, 60 if FULL else 12)
        connections(o, 0)
        for cut in (1, 47, 48, 60, 3000):  # in the middle of a PDU that is held
            a, b = session(o)
            a.sn()
            b.send(1, 0xa1, itt=b.tag(), raw=struct.pack('>III', 4096, b.sn(), 0) + write10(0, 8).ljust(16, b'\0'),
                   data=b'h' * 4096, cut=cut)
            b.close()
            connections(o, 1)
            a.close()
            connections(o, 0)


run(test_one_unless_the_target_is_told_otherwise, test_commands_run_in_the_order_of_their_numbers,
    test_what_is_early_waits_and_immediate_does_not, test_a_connection_goes_and_comes_back,
    test_logout_of_connections_and_sessions, test_task_management_over_connections,
    test_a_connection_that_ends_while_functions_are_answered, test_a_function_does_not_reach_what_comes_after_it,
    test_a_portal_goes_with_the_connections_that_came_by_it, test_connections_have_a_limit_in_all,
    test_connections_that_die_lose_nothing_of_the_others)
