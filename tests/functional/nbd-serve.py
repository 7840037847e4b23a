# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""What changes while clients are served: devices grow, exports and listeners come and go; and sockets that
somebody else has opened."""
import fcntl
import os
import random
import shutil
import socket
import subprocess
import threading

from nbdwire import EINVAL, ENOSPC, GO, INFO, M, READ, SHUTDOWN, UNKNOWN, WRITE, Raw, nothing_left
from orion import Orion, find, free_port, run, sh, wait_for

BLOCK = 4096


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(('::1', 0))
        return True
    except OSError:
        return False


def size_told(at, name=b'v'):
    """What INFO says."""
    c = Raw(at, None)
    c.hello()
    replies = c.info(name)
    c.s.close()
    return int.from_bytes(replies[0][1][2:10], 'big') if replies[-1][0] == 1 else replies[-1][0]


class Writer(threading.Thread):
    """Writes its number to random blocks of its own part, several at once, until it is told to stop or the server
    ends the connection. `sure`: what stands on the device for sure, by block; `maybe`: what may stand there."""

    def __init__(self, at, part, blocks=64):
        super().__init__()
        self.c, self.part, self.blocks = Raw(at), part, blocks
        self.over, self.error, self.ended = False, None, False
        self.sure, self.maybe, self.acknowledged = {}, {}, 0

    def offset(self, block):
        return (self.part * self.blocks + block) * BLOCK

    def run(self):
        rng = random.Random(self.part)
        number = 0
        try:
            while not self.over:
                picked = rng.sample(range(self.blocks), 16)
                batch = b''
                for block in picked:
                    number += 1
                    self.maybe[block] = number
                    data = number.to_bytes(8, 'big') * (BLOCK // 8)
                    batch += self.c.request(WRITE, self.offset(block), BLOCK, block) + data
                self.c.s.sendall(batch)
                for _ in picked:
                    error, block, _ = self.c.reply()
                    assert not error, error
                    self.sure[block] = self.maybe.pop(block)
                    self.acknowledged += 1
        except (ConnectionError, BrokenPipeError):
            self.ended = True
        except Exception as e:
            self.error = e

    def check(self, c):
        """c: another client, later. Nothing that was acknowledged is lost."""
        assert not self.error, self.error
        for block, number in self.sure.items():
            data = c.read(self.offset(block), BLOCK)
            stands = int.from_bytes(data[:8], 'big')
            assert data == data[:8] * (BLOCK // 8)
            assert stands in (number, self.maybe.get(block)), (block, number, stands)


def write_beside(at, n=4):
    writers = [Writer(at, part) for part in range(n)]
    for w in writers:
        w.start()
    wait_for(lambda: all(w.acknowledged > 50 or w.error for w in writers), 120, 'writes')
    return writers


def test_a_resize_is_told_at_the_next_info_while_clients_go_on():
    with Orion() as o:
        o.mem('d0', size='128M')
        o.ctl('pool', 'create', 'p0', '--devices', 'd0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '16M')
        path = o.nbd('v', 'p0/v0').split('socket=')[1]
        c = Raw(path)
        assert c.size == 16 * M and c.error(READ, 16 * M, 512) == EINVAL
        writers = write_beside(path)
        for size in (32, 64):
            o.ctl('volume', 'resize', 'p0/v0', '--size', '%dM' % size)
            assert size_told(path) == size * M
            c.write((size - 1) * M, b'g' * M) # who is connected has the room too
            assert c.read((size - 1) * M, M) == b'g' * M
            assert c.error(WRITE, size * M, 512, payload=bytes(512)) == ENOSPC
        o.ctl('volume', 'resize', 'p0/v0', '--size', '16M', '--yes')
        assert size_told(path) == 16 * M
        assert c.error(READ, 31 * M, 512) == EINVAL
        assert c.error(WRITE, 31 * M, 512, payload=bytes(512)) == ENOSPC
        more = [w.acknowledged for w in writers]
        wait_for(lambda: all(w.acknowledged > n + 50 or w.error for w, n in zip(writers, more)), 120, 'more writes')
        for w in writers:
            w.over = True
            w.join()
            assert not w.ended
            w.check(c)
        c.s.close()


def test_no_acknowledged_write_is_lost_when_its_export_is_removed():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--path', o.file('disk', 16 * M))
        path = o.nbd('v', 'd0').split('socket=')[1]
        o.fds_mark()
        earlier = []
        for turn in range(2):
            writers = write_beside(path)
            assert 'session' in o.ctl('nbd', 'unexport', 'v', expect=5)
            if turn == 1:
                for s in o.ctl('session', 'list')['items']:
                    o.ctl('session', 'kill', s['id'])
            o.ctl('nbd', 'unexport', 'v', '--disconnect')
            for w in writers: # they were ended; nobody had to end them
                w.join(60)
                assert w.ended and not w.is_alive()
                w.c.s.close()
            assert size_told(path) == UNKNOWN
            o.ctl('nbd', 'export', 'v', '--device', 'd0')
            c = Raw(path)
            for w in writers:
                w.check(c)
            c.s.close()
        nothing_left(o)


def test_exports_and_listeners_come_and_go_beside_those_who_are_served():
    with Orion() as o:
        o.mem('d0', 'd1')
        path = o.nbd('v', 'd0').split('socket=')[1]
        writers = write_beside(path)
        other = os.path.join(o.dir, 'other.sock')
        for turn in range(4):
            o.ctl('nbd', 'export', 'w', '--device', 'd1')
            o.ctl('nbd', 'listen', 'unix:' + other)
            c = Raw(other, 'w')
            stays = Raw(other)
            c.write(0, b'%d' % turn * 512)
            o.ctl('nbd', 'unlisten', 'unix:' + other)
            assert c.read(0, 512) == b'%d' % turn * 512 # connections that stand go on
            o.ctl('nbd', 'unexport', 'w', '--disconnect')
            assert c.closed() and size_told(path, b'w') in (UNKNOWN, SHUTDOWN)
            assert stays.read(60 * M, 512) == bytes(512)
            stays.s.close()
            c.s.close()
        c = Raw(path)
        for w in writers:
            w.over = True
            w.join()
            assert not w.ended
            w.check(c)
        c.s.close()


def test_a_client_in_its_handshake_sees_the_export_go():
    with Orion() as o:
        o.mem('d0')
        path = o.nbd('v', 'd0').split('socket=')[1]
        c = Raw(path, None)
        c.hello()
        assert c.info(b'v')[-1][0] == 1
        o.ctl('nbd', 'unexport', 'v')
        assert c.info(b'v', option=GO)[-1][0] == UNKNOWN
        o.ctl('nbd', 'export', 'v', '--device', 'd0')
        assert c.info(b'v', option=INFO)[-1][0] == 1
        c.go()
        assert c.read(0, 512) == bytes(512)
        c.s.close()


def test_a_change_that_is_refused_turns_nobody_away():
    with Orion() as o:
        o.mem('d0')
        path = o.nbd('v', 'd0').split('socket=')[1]
        stays = Raw(path)
        failed, over, served = [], threading.Event(), []

        def come_and_go():
            try:
                while not over.is_set():
                    c = Raw(path)
                    served.append(c.read(0, 512))
                    c.s.close()
            except Exception as e:
                failed.append(e)
        visitor = threading.Thread(target=come_and_go)
        visitor.start()
        for _ in range(2):
            before = len(served)
            assert 'session' in o.ctl('nbd', 'unexport', 'v', expect=5)
            assert 'session' in o.ctl('nbd', 'set', 'v', '--read-only', expect=5)
            wait_for(lambda: len(served) > before + 2 or failed, what='visitors')
        over.set()
        visitor.join()
        assert not failed, failed
        stays.s.close()
        o.ctl('nbd', 'set', 'v', '--read-only')
        c = Raw(path)
        assert c.flags & 2 and c.read(0, 512) == bytes(512)
        c.s.close()
        o.ctl('nbd', 'unexport', 'v')


def test_new_rules_end_the_sessions_that_they_forbid():
    with Orion() as o:
        o.mem('d0')
        path = o.nbd('v', 'd0').split('socket=')[1]
        port = free_port()
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % port)
        near, far = Raw(path), Raw(port)
        o.ctl('nbd', 'set', 'v', '--allow', 'unix,127.0.0.0/8')
        o.ctl('nbd', 'set', 'v', '--description', 'both stay')
        assert near.read(0, 512) == far.read(0, 512) == bytes(512)
        far.write(0, b'x' * 512)
        o.ctl('nbd', 'set', 'v', '--allow', 'unix')
        assert far.closed()
        assert near.read(0, 512) == b'x' * 512
        assert [s['portal'] for s in o.ctl('session', 'list')['items']] == ['unix:' + path]
        o.ctl('nbd', 'set', 'v', '--allow', '10.0.0.0/8')
        assert near.closed() and not o.ctl('session', 'list')['items']
        far.s.close()
        near.s.close()
        nothing_left(o)


def test_of_two_that_become_the_default_at_once_one_is_refused():
    """The one that has to wait for its last client learns behind it that it came too late."""
    with Orion() as o:
        o.mem('d0', 'd1')
        path = o.nbd('v', 'd0').split('socket=')[1]
        o.ctl('nbd', 'export', 'w', '--device', 'd1')
        c = Raw(path)
        c.s.sendall(b''.join(c.request(READ, 0, M, n) for n in range(16)))
        c.s.shutdown(socket.SHUT_WR) # it is on its way out, and has not read a byte
        answers = []
        late = threading.Thread(
            target=lambda: answers.append(o.run('nbd', 'set', 'v', '--read-only', '--default')))
        late.start()
        wait_for(lambda: o.ctl('nbd', 'show', 'v')['state'] != 'ready' or answers, what='the export to close')
        answers.append(o.run('nbd', 'set', 'w', '--default'))
        try:
            while c.s.recv(M):
                pass
        except ConnectionResetError:
            pass # it took us longer than the server waits
        late.join()
        assert sorted(a.returncode for a in answers) == [0, 5], [(a.returncode, a.stderr) for a in answers]
        exports = {n: o.ctl('nbd', 'show', n) for n in 'vw'}
        assert sum(x['default'] for x in exports.values()) == 1, exports
        assert exports['v']['read_only'] == exports['v']['default'], exports
        o.restart()
        assert {n: o.ctl('nbd', 'show', n)['default'] for n in 'vw'} == {n: x['default'] for n, x in exports.items()}
        c.s.close()


def test_sockets_that_were_handed_over_are_listened_on():
    """As systemd does it; a client that came before the daemon is served."""
    with Orion() as o:
        o.mem('d0')
        path, port = os.path.join(o.dir, 'given.sock'), free_port()
        at = {'unix:' + path: path, '127.0.0.1:%d' % port: port}
        uris = ['nbd+unix:///v?socket=' + path, 'nbd://127.0.0.1:%d/v' % port]
        if has_ipv6():
            at['[::1]:%d' % port] = ('::1', port)
            uris.append('nbd://[::1]:%d/v' % port)
            both = free_port() # as systemd makes them of ListenStream=PORT: whoever has IPv4 may come, too
            at['[::]:%d' % both] = ('::', both)
            uris += ['nbd://[::1]:%d/v' % both, 'nbd://127.0.0.1:%d/v' % both, 'nbd://127.0.0.1:%d/four' % both]
        for addr in at:
            o.ctl('nbd', 'listen', addr)
        o.ctl('nbd', 'export', 'v', '--device', 'd0')
        o.ctl('nbd', 'export', 'four', '--device', 'd0', '--allow', '127.0.0.0/8')
        o.stop()
        given = []
        for where in at.values():
            family = (socket.AF_UNIX if isinstance(where, str) else
                      socket.AF_INET if isinstance(where, int) else socket.AF_INET6)
            s = socket.socket(family)
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, where[0] != '::')
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(('127.0.0.1', where) if isinstance(where, int) else where)
            s.listen(16)
            given.append(s)
        inode = os.stat(path).st_ino
        early = [Raw(where, None) for where in at.values()]
        # The pid is known only after the fork, so a shell puts it into the environment.
        script = 'export LISTEN_PID=$$ LISTEN_FDS=%d; exec "$@"' % len(given)
        fds = [fcntl.fcntl(s, fcntl.F_DUPFD, 100) for s in given] # out of the way of 3, 4 and 5
        for n, fd in enumerate(fds):
            script += ' %d<&%d' % (3 + n, fd)
        with open(o.log_path, 'ab') as log:
            o.proc = subprocess.Popen(
                ['bash', '-c', script, 'sh', find('oriond'), '--foreground', '--config', o.config,
                 '--state-dir', o.state, '--api', 'unix:' + o.api] + o.args,
                stdout=log, stderr=log, env=o.env, pass_fds=fds)
        wait_for(o.ready, what='the daemon')
        for c in early + [Raw(where, None) for where in at.values()]:
            c.hello()
            c.go()
            assert c.read(0, 512) == bytes(512)
            c.s.close()
        if shutil.which('nbdinfo'):
            for uri in uris:
                assert int(sh('nbdinfo', '--size', uri)) == 64 * M
        assert os.stat(path).st_ino == inode
        for fd in fds:
            os.close(fd)
        for s in given:
            s.close()


run(test_a_resize_is_told_at_the_next_info_while_clients_go_on,
    test_no_acknowledged_write_is_lost_when_its_export_is_removed,
    test_exports_and_listeners_come_and_go_beside_those_who_are_served,
    test_a_client_in_its_handshake_sees_the_export_go,
    test_a_change_that_is_refused_turns_nobody_away,
    test_new_rules_end_the_sessions_that_they_forbid,
    test_of_two_that_become_the_default_at_once_one_is_refused,
    test_sockets_that_were_handed_over_are_listened_on)
