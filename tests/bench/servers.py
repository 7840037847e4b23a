# SPDX-License-Identifier: GPL-2.0-or-later
"""What ./run measures: the servers, the load, and how a goal is held against a figure."""
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, '..', 'functional'))
from orion import Orion, find, free_port, wait_for  # noqa: E402

TICK = os.sysconf('SC_CLK_TCK')
IQN = 'iqn.2026-11.local.bench:disk'
GOALS = []  # (text, met)


def goal(text, value, limit):
    GOALS.append(('%-76s %8.2f  goal <= %g' % (text, value, limit), value <= limit))


def goal_least(text, value, limit):
    GOALS.append(('%-76s %8.2f  goal >= %g' % (text, value, limit), value >= limit))


@contextlib.contextmanager
def on_cpu(*cpus):
    """Children that are started inside run on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(cpus) & before or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid):
    with open('/proc/%d/stat' % pid) as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def busy_cpus(seconds=1):
    """CPUs that something runs on while nothing of ours does."""
    def busy():
        with open('/proc/stat') as f:
            v = [int(x) for x in f.readline().split()[1:9]]
        return sum(v) - v[3] - v[4]  # without idle and waiting for disks
    before = busy()
    time.sleep(seconds)
    return (busy() - before) / TICK / seconds


def rss_mb(pid):
    with open('/proc/%d/status' % pid) as f:
        return int(re.search(r'VmRSS:\s*(\d+)', f.read()).group(1)) / 1024


# ---- servers: context managers that give (kind, address for blast, export or IQN, LUN, pid)

@contextlib.contextmanager
def process(argv, ready, socket=None):
    if socket:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)
    with on_cpu(0):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: p.poll() is None and ready(), 20, argv[0])
        time.sleep(0.3)
        yield p
    finally:
        p.kill()
        p.wait()


def on_socket(argv, folder, name, export):
    """A server on a unix socket: argv is made from its path."""
    path = os.path.join(folder, name + '.sock')
    with process(argv(path), lambda: os.path.exists(path), path) as p:
        yield ('nbd', 'unix:' + path, export, 0, p.pid)


@contextlib.contextmanager
def limit(image, folder):
    yield from on_socket(lambda path: [find('bench-limit'), 'unix:' + path, image], folder, 'limit',
                         'x')


@contextlib.contextmanager
def limit_mem(image, folder, *options):
    yield from on_socket(lambda path: [find('bench-limit'), 'unix:' + path] + list(options), folder,
                         'limit-mem', 'x')


@contextlib.contextmanager
def nbdkit(image, folder):
    yield from on_socket(lambda path: ['nbdkit', '-f', '-U', path, 'file', image], folder, 'nbdkit',
                         '')


@contextlib.contextmanager
def qemu_nbd(image, folder, cache='writeback'):
    yield from on_socket(lambda path: ['qemu-nbd', '-f', 'raw', '-k', path, '--cache=' + cache,
                                       '--aio=io_uring', '-e', '16', '-t', image], folder,
                         'qemu', '')


def qemu_nbd_direct(image, folder):
    return qemu_nbd(image, folder, 'none')


def tgtadm(control, *args):
    return subprocess.run(['tgtadm', '-C', str(control), '--lld', 'iscsi'] + list(args),
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


@contextlib.contextmanager
def tgt(image, folder):
    port = free_port()
    control = port % 30000 + 1
    argv = ['tgtd', '-f', '-C', str(control), '--iscsi', 'portal=127.0.0.1:%d' % port]
    with process(argv, lambda: tgtadm(control, '--op', 'show', '--mode', 'target')) as p:
        for args in (['--op', 'new', '--mode', 'target', '--tid', '1', '-T', IQN],
                     ['--op', 'new', '--mode', 'logicalunit', '--tid', '1', '--lun', '1', '-b',
                      image],
                     ['--op', 'bind', '--mode', 'target', '--tid', '1', '-I', 'ALL']):
            if not tgtadm(control, *args):
                raise AssertionError('tgtadm %s failed' % ' '.join(args))
        yield ('iscsi', 'tcp:127.0.0.1:%d' % port, IQN, 1, p.pid)


@contextlib.contextmanager
def daemon(*args, reactors=1, cpus=(0,)):
    """oriond with one reactor, all of it on CPU 0, unless told otherwise."""
    with on_cpu(*cpus):
        o = Orion(*args, reactors=reactors)
    with o:
        yield o


def serve(o, kind, device='disk'):
    """Exports a device; what blast must know."""
    if kind == 'nbd':
        o.nbd(device, device)
        return ('nbd', 'unix:' + os.path.join(o.dir, 'nbd.sock'), device, 0, o.proc.pid)
    return ('iscsi', 'tcp:' + o.iscsi(IQN, device), IQN, 0, o.proc.pid)


@contextlib.contextmanager
def orion_file(kind, image):
    with daemon() as o:
        o.ctl('device', 'add', 'disk', '--path', image)
        yield serve(o, kind)


def orion_nbd(image, folder):
    return orion_file('nbd', image)


def orion_iscsi(image, folder):
    return orion_file('iscsi', image)


def fill(server, size):
    """Writes all of it, so that memory is there: a first touch of a page costs more than a write."""
    seconds = 1
    while blast(server, ['-S', str(size), '-q', '8', '-b', '262144', '-s', '-r', '0'],
                seconds)['MBps'] * 1e6 * seconds < size:
        seconds *= 2


@contextlib.contextmanager
def orion_mem(kind, *args, **where):
    with daemon(*args, **where) as o:
        o.ctl('device', 'add', 'disk', '--type', 'mem', '--size', '1G')
        server = serve(o, kind)
        fill(server, 1 << 30)
        yield server


def listens(port):
    with open('/proc/net/tcp') as f:
        return any(line.split()[1].endswith(':%04X' % port) and line.split()[3] == '0A'
                   for line in f.readlines()[1:])


@contextlib.contextmanager
def limit_tcp(image, folder):
    port = free_port()
    with process([find('bench-limit'), 'tcp:%d' % port], lambda: listens(port)) as p:
        yield ('nbd', 'tcp:127.0.0.1:%d' % port, 'x', 0, p.pid)


SERVERS = {
    'nbd': [('orion', orion_nbd, None), ('limit-file', limit, None), ('nbdkit', nbdkit, 'nbdkit'),
            ('qemu-nbd', qemu_nbd, 'qemu-nbd')],
    'iscsi': [('orion', orion_iscsi, None), ('tgt', tgt, 'tgtd')],
    'device': [('orion', orion_nbd, None), ('nbdkit', nbdkit, 'nbdkit'),
               ('qemu-nbd', qemu_nbd_direct, 'qemu-nbd'), ('orion iscsi', orion_iscsi, None),
               ('tgt', tgt, 'tgtd')],
}


def servers(kind):
    return [(name, make) for name, make, program in SERVERS[kind]
            if not program or shutil.which(program)]


def blast_argv(server, options, seconds):
    kind, addr, name, lun, pid = server
    return ([find('bench-blast'), kind, addr, name] + ([str(lun)] if kind == 'iscsi' else []) +
            options + ['-t', str(seconds), '-p', str(pid)])


def blast(server, options, seconds):
    with on_cpu(1):
        p = subprocess.run(blast_argv(server, options, seconds), stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=120)
    if p.returncode:
        raise AssertionError('blast %s: %s %s' % (server[1], p.stdout, p.stderr))
    return json.loads(p.stdout)


def start_blast(server, options, seconds):
    """The same beside something else; json_of waits for it."""
    with on_cpu(1):
        return subprocess.Popen(blast_argv(server, options, seconds), stdout=subprocess.PIPE,
                                text=True)


def json_of(process):
    out, _ = process.communicate(timeout=120)
    return json.loads(out)


def median(results, what='us_per_op'):
    return statistics.median(r[what] for r in results)
