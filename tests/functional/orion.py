# SPDX-License-Identifier: GPL-2.0-or-later
"""Helper of the functional tests and oracles: runs oriond from $ORION_BUILD in a folder of its own.

    from orion import Orion, need, run

    def test_name_says_the_behaviour():
        with Orion() as o:
            o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '64M')

    run(test_name_says_the_behaviour)

Leaving the `with` stops the daemon and fails the test when it did not exit with 0, when a sanitizer
spoke, or when it had more file descriptors open than `fds_mark()` noted.
"""
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse

BUILD = os.environ.get('ORION_BUILD', 'build')
SOURCE = os.environ.get('ORION_SOURCE',
                        os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
FULL = os.environ.get('ORION_FULL') == '1'
MARKS = ('AddressSanitizer', 'LeakSanitizer', 'ThreadSanitizer', 'runtime error:', 'Assertion ')


def skip(reason):
    """Ends the whole test as skipped, visibly."""
    print('skipped: %s' % reason, flush=True)
    sys.exit(77)


def need(*programs):
    """Skips unless all these programs are installed."""
    for p in programs:
        if not shutil.which(p, path=os.environ['PATH'] + ':/usr/sbin:/sbin'):
            skip('%s is not installed' % p)


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def find(program):
    for folder, _, files in os.walk(BUILD):
        if program in files and os.access(os.path.join(folder, program), os.X_OK):
            return os.path.join(folder, program)
    sys.exit('%s is not in %s' % (program, BUILD))


def self_signed(folder, name='localhost'):
    """A certificate that is its own authority, for 127.0.0.1 to 127.0.0.3: (cert, key), paths."""
    cert, key = os.path.join(folder, name + '.pem'), os.path.join(folder, name + '.key')
    sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key,
       '-out', cert, '-subj', '/CN=' + name, '-days', '2', '-addext',
       'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2,IP:127.0.0.3')
    return cert, key


def sh(*argv, expect=0, text=True, **kw):
    """Runs a program; returns its stdout. expect None: any exit code."""
    kw.setdefault('timeout', 120)
    p = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       text=text, **kw)
    if expect is not None and p.returncode != expect:
        raise AssertionError('%s: exit %d, expected %d\n%s\n%s' % (
            ' '.join(str(a) for a in argv), p.returncode, expect, p.stdout, p.stderr))
    return p.stdout


def wait_for(condition, seconds=60, what='a condition'):
    """Polls until condition() is true; returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError('timed out after %d s waiting for %s' % (seconds, what))
        time.sleep(0.02)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__('localhost', timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Result:
    """Answer of Orion.http: .status, .headers, .body (bytes), .json."""

    def __init__(self, r):
        self.status, self.headers, self.body = r.status, r.headers, r.read()

    @property
    def json(self):
        return json.loads(self.body)


class Orion:
    def __init__(self, *args, reactors=2, env=None, start=True):
        self.dir = tempfile.mkdtemp(prefix='orion-test-')
        self.state = os.path.join(self.dir, 'state')
        self.api = os.path.join(self.dir, 'api.sock')
        self.log_path = os.path.join(self.dir, 'stderr')
        self.config = os.path.join(self.dir, 'oriond.json')
        with open(self.config, 'w') as f:
            f.write('{"array_wait": 0}')  # devices that a test takes away do not come back by themselves
        self.args = ['--reactors', str(reactors)] + [str(a) for a in args]
        self.env = dict(os.environ, ASAN_OPTIONS='detect_leaks=1:abort_on_error=0',
                        UBSAN_OPTIONS='print_stacktrace=1:halt_on_error=1',
                        TSAN_OPTIONS='halt_on_error=0:second_deadlock_stack=1', **(env or {}))
        self.proc = None
        self.marked = None
        if start:
            self.start()

    # -- the daemon
    def start(self, ready=60, foreground=True):
        """Starts the daemon and waits until /readyz answers 200."""
        assert self.proc is None
        argv = [find('oriond')] + ['--foreground'] * foreground + ['--config', self.config, '--state-dir', self.state,
                '--api', 'unix:' + self.api] + self.args
        with open(self.log_path, 'ab') as log:
            self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=self.env)
        try:
            wait_for(self.ready, ready, 'the daemon to be ready')
        except AssertionError:
            self.proc.kill()
            self.proc.wait()
            self.proc = None
            raise AssertionError('the daemon did not get ready:\n' + self.log()[-4000:])
        return self

    def ready(self):
        if self.proc.poll() is not None:
            raise AssertionError('the daemon exited with %d' % self.proc.returncode)
        try:
            return self.http('GET', '/readyz').status == 200
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, seconds=60):
        """SIGTERM; the daemon must exit with 0 and without complaints."""
        proc, self.proc = self.proc, None
        if proc is None:
            return
        proc.send_signal(signal.SIGTERM)
        try:
            code = proc.wait(seconds)
        except subprocess.TimeoutExpired:
            proc.send_signal(signal.SIGABRT)
            proc.wait()
            raise AssertionError('the daemon did not stop in %d s:\n%s' % (seconds, self.log()[-4000:]))
        self.check_log()
        if code:
            raise AssertionError('the daemon exited with %d:\n%s' % (code, self.log()[-4000:]))

    def kill9(self):
        self.proc.kill()
        self.proc.wait()
        self.proc = None

    def restart(self, kill=False):
        self.kill9() if kill else self.stop()
        self.start()

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def check_log(self):
        log = self.log()
        for mark in MARKS:
            if mark in log:
                at = log.index(mark)
                raise AssertionError('the daemon complained:\n' + log[max(0, at - 200):at + 6000])

    # -- file descriptors
    def fds(self):
        folder = '/proc/%d/fd' % self.proc.pid
        names = []
        for fd in os.listdir(folder):
            try:
                names.append(os.readlink(os.path.join(folder, fd)))
            except FileNotFoundError:
                pass
        return sorted(names)

    def fds_mark(self):
        """From here on the number of open descriptors must come back to what it is now."""
        self.marked = self.fds()

    def fds_check(self, seconds=60):
        if self.marked is None or self.proc is None:
            return
        try:
            wait_for(lambda: len(self.fds()) <= len(self.marked), seconds, 'descriptors to close')
        except AssertionError:
            raise AssertionError('file descriptors leaked: %d, were %d:\n%s' % (
                len(self.fds()), len(self.marked), '\n'.join(self.fds())))

    # -- talking to it
    def http(self, method, path, body=None, headers=None):
        """One request on the unix socket. A body that is no bytes is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault('Content-Type', 'application/json')
        conn = UnixHTTP(self.api)
        try:
            conn.request(method, path, body, headers)
            return Result(conn.getresponse())
        finally:
            conn.close()

    def raw(self, text):
        """The whole answer to these bytes on the unix socket, after which the server closes."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(self.api)
            s.sendall(text)
            data = b''
            while (more := s.recv(65536)):
                data += more
        return data

    def change(self, method, path, body=None):
        """A change with the ETag that the item has now."""
        item = path.split('/actions/')[0].split('?')[0]
        return self.http(method, path, body, {'If-Match': self.http('GET', item).headers['ETag']})

    def run(self, *args):
        """orionctl with these arguments: the finished process."""
        return subprocess.run([find('orionctl'), '--api', 'unix:' + self.api] + [str(a) for a in args],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                              env=self.env, stdin=subprocess.DEVNULL)

    def ctl(self, *args, json_out=True, expect=0):
        """orionctl: the parsed JSON, or its text with json_out=False. expect != 0: its stderr."""
        p = self.run(*(['--json'] if json_out else []), *args)
        if p.returncode != expect:
            raise AssertionError('orionctl %s: exit %d, expected %d\n%s\n%s\n--- daemon:\n%s' % (
                ' '.join(str(a) for a in args), p.returncode, expect, p.stdout, p.stderr,
                self.log()[-2000:]))
        if expect:
            return p.stderr
        if not json_out:
            return p.stdout
        return json.loads(p.stdout) if p.stdout.strip() else None

    # -- shortcuts
    def file(self, name, size):
        """A sparse file in the test's folder; returns its path."""
        path = os.path.join(self.dir, name)
        with open(path, 'ab') as f:
            f.truncate(size)
        return path

    def mem(self, *names, size='64M'):
        for n in names:
            self.ctl('device', 'add', n, '--type', 'mem', '--size', size)

    def nbd(self, name, device, *options):
        """Exports a device on a unix socket; returns the URI."""
        path = os.path.join(self.dir, 'nbd.sock')
        self.ctl('nbd', 'listen', 'unix:' + path)
        self.ctl('nbd', 'export', name, '--device', device, *options)
        return 'nbd+unix:///%s?socket=%s' % (urllib.parse.quote(name, ''), path)

    def iscsi(self, iqn, *devices):
        """A target on a free loopback port with the devices as LUNs 0...; returns HOST:PORT."""
        addr = '127.0.0.1:%d' % free_port()
        self.ctl('iscsi', 'create', iqn)
        for n, device in enumerate(devices):
            self.ctl('iscsi', 'lun', iqn, n, '--device', device)
        self.ctl('iscsi', 'portal', 'add', addr)
        return addr

    # -- with
    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        try:
            if kind is None:
                self.fds_check()
                self.stop()
            elif self.proc:
                print('--- daemon log:\n' + self.log()[-6000:], flush=True)
                self.kill9()
        finally:
            if self.proc:
                self.kill9()
            if not os.environ.get('ORION_KEEP'):
                shutil.rmtree(self.dir, ignore_errors=True)


def run(*tests):
    """Runs the test functions; prints one line each; exits 0 or 1."""
    wanted = sys.argv[1:]
    failed = 0
    for test in tests:
        name = test.__name__.removeprefix('test_')
        if wanted and name not in wanted:
            continue
        begin = time.monotonic()
        try:
            test()
            print('ok      %s (%.1f s)' % (name, time.monotonic() - begin), flush=True)
        except Exception:
            failed += 1
            print('FAILED  %s\n%s' % (name, traceback.format_exc()), flush=True)
    sys.exit(1 if failed else 0)
