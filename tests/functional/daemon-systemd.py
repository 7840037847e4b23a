# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon below systemd: notification, watchdog, sockets that are handed over, the unit files."""
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

from orion import SOURCE, Orion, find, need, run, sh, skip, wait_for


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder):
        self.path = os.path.join(folder, 'notify')
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.setblocking(False)
        self.got = []

    def lines(self):
        try:
            while True:
                self.got += self.sock.recv(4096).decode().split('\n')
        except BlockingIOError:
            return self.got


def with_manager(test, **env):
    folder = tempfile.mkdtemp(prefix='orion-notify-')
    manager = Manager(folder)
    try:
        with Orion(env=dict(env, NOTIFY_SOCKET=manager.path)) as o:
            test(o, manager)
    finally:
        manager.sock.close()
        shutil.rmtree(folder)


def test_ready_comes_when_the_api_answers_and_stopping_at_the_end():
    def check(o, manager):
        wait_for(lambda: 'READY=1' in manager.lines(), what='READY=1')
        o.ctl('status')
        assert 'STOPPING=1' not in manager.lines()
        o.stop()
        assert 'STOPPING=1' in manager.lines()
    with_manager(check)


def test_the_watchdog_is_fed_in_time():
    def check(o, manager):
        wait_for(lambda: manager.lines().count('WATCHDOG=1') >= 3, 10, 'three pings')
    with_manager(check, WATCHDOG_USEC='2000000')


def test_a_stopped_daemon_does_not_feed_the_watchdog():
    def check(o, manager):
        wait_for(lambda: 'WATCHDOG=1' in manager.lines(), what='a ping')
        o.proc.send_signal(19)  # SIGSTOP
        time.sleep(0.2)
        before = manager.lines().count('WATCHDOG=1')
        time.sleep(1.5)
        after = manager.lines().count('WATCHDOG=1')
        o.proc.send_signal(18)  # SIGCONT
        assert before == after, (before, after)
    with_manager(check, WATCHDOG_USEC='1000000')


def test_the_api_socket_can_be_handed_over():
    o = Orion(start=False)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(o.api)
    listener.listen(16)

    # The pid is known only after the fork, so a shell puts it into the environment.
    script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&%d' % listener.fileno()
    inode = os.stat(o.api).st_ino
    with open(o.log_path, 'ab') as log:
        o.proc = subprocess.Popen(
            ['bash', '-c', script, 'sh', find('oriond'), '--foreground', '--config', o.config,
             '--state-dir', o.state, '--api', 'unix:' + o.api] + o.args,
            stdout=log, stderr=log, env=o.env, pass_fds=(listener.fileno(),))
    with o:
        wait_for(o.ready, what='the daemon on the socket it was given')
        assert os.stat(o.api).st_ino == inode, 'the socket was made anew'
        o.stop()
        assert os.path.exists(o.api), 'a socket that was handed over is not ours to remove'
    listener.close()


def test_the_journal_gets_priorities_instead_of_times():
    with Orion(start=False, env={'JOURNAL_STREAM': '1:1'}) as o:
        with open(o.log_path, 'ab') as log:
            o.proc = subprocess.Popen([find('oriond'), '--config', o.config, '--state-dir', o.state,
                                       '--api', 'unix:' + o.api], stderr=log, env=o.env)
        wait_for(o.ready, what='the daemon')
        assert re.search(r'^<6>daemon: oriond \S+ is ready', o.log(), re.M), o.log()


def test_the_unit_files_are_sound():
    need('systemd-analyze')
    folder = tempfile.mkdtemp(prefix='orion-units-')
    try:
        for name in ('oriond.service', 'oriond.socket'):
            with open(os.path.join(SOURCE, 'systemd', name)) as f:
                text = f.read().replace('/usr/sbin/oriond', '/bin/true')
            # The manual pages are not installed while this runs.
            text = re.sub(r'^Documentation=.*\n', '', text, flags=re.M)
            with open(os.path.join(folder, name), 'w') as f:
                f.write(text)
        p = subprocess.run(['systemd-analyze', 'verify', folder + '/oriond.service', folder + '/oriond.socket'],
                           capture_output=True, text=True)
        if 'Failed to' in p.stderr and 'bus' in p.stderr:
            skip('systemd-analyze does not work here')
        mine = [line for line in p.stderr.splitlines() if 'oriond' in line]
        assert not mine, mine
    finally:
        shutil.rmtree(folder)


def test_the_sample_configuration_is_good():
    text = sh(find('oriond'), '--config', os.path.join(SOURCE, 'etc', 'oriond.json'), '--check-config')
    assert 'good' in text, text


run(*[f for n, f in sorted(globals().items()) if n.startswith('test_')])
