# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of ./run about the data path: CPU per request, beside peers and beside bare sockets."""
import contextlib
import json
import os
import signal
import statistics
import subprocess
import time

from orion import free_port, sh
from servers import (blast, cpu_seconds, daemon, fill, goal, goal_least, json_of, limit_mem,
                     limit_tcp, median, on_cpu, orion_mem, rss_mb, serve, servers, start_blast)

READ_4K, WRITE_4K = '4K random read, depth 32', '4K random write, depth 32'
READ_256K, WRITE_256K = '256K read, depth 8', '256K write, depth 8'
FOUR, ONE = '4K 70/30, depth 32, four connections', '4K random read, depth 1'
LOADS = {
    READ_4K: ['-q', '32'],
    WRITE_4K: ['-q', '32', '-r', '0'],
    READ_256K: ['-q', '8', '-b', '262144', '-s'],
    WRITE_256K: ['-q', '8', '-b', '262144', '-s', '-r', '0'],
    FOUR: ['-q', '32', '-c', '4', '-r', '70'],
    ONE: ['-q', '1'],
}
# CPU per request beside whom, and at most how many times theirs.
BESIDE = {
    ('nbd', READ_4K): [('nbdkit', 0.8), ('limit-file', 1.35)],
    ('nbd', WRITE_4K): [('nbdkit', 0.9), ('limit-file', 1.35)],
    ('nbd', READ_256K): [('nbdkit', 0.75)],
    ('nbd', WRITE_256K): [('nbdkit', 0.75)],
    ('nbd', FOUR): [('nbdkit', 0.7)],
    ('iscsi', READ_4K): [('tgt', 0.35)],
    ('iscsi', WRITE_4K): [('tgt', 0.35)],
    ('iscsi', READ_256K): [('tgt', 0.5)],
    ('iscsi', WRITE_256K): [('tgt', 0.5)],
}
MEMORY = {READ_4K: 1.35, WRITE_4K: 1.35, READ_256K: {'nbd': 1.3, 'iscsi': 1.35},
          WRITE_256K: {'nbd': 1.3, 'iscsi': 1.35}}


def rounds(args, makers, loads):
    """Servers in turn, round by round: {(load, server): [what blast says]}. The bare socket serves
    one connection only."""
    results = {}
    for _ in range(args.rounds):
        for name, make in makers:
            with make() as server:
                for label in loads:
                    if label != FOUR or not name.startswith('limit'):
                        results.setdefault((label, name), []).append(
                            blast(server, LOADS[label], args.seconds))
    return results


def table(kind, results, makers, loads):
    for label in loads:
        print('\n%s, %s' % (kind, label))
        ours = median(results[label, makers[0][0]])
        for name, _ in makers:
            rs = results.get((label, name))
            if rs:
                print('  %-11s %8.2f us/op %9.0f IOPS %8.1f MB/s  p99 %7.1f us   orion/this %5.2f' % (
                    name, median(rs), median(rs, 'iops'), median(rs, 'MBps'), median(rs, 'p99us'),
                    ours / median(rs)), flush=True)


def part_beside(kind, args, image, folder):
    makers = [(name, lambda make=make: make(image, folder)) for name, make in servers(kind)]
    results = rounds(args, makers, args.loads)
    table(kind, results, makers, args.loads)
    for label in args.loads:
        for peer, most in BESIDE.get((kind, label), []):
            if (label, peer) in results:
                goal('%s, %s: CPU per request, orion / %s' % (kind, label, peer),
                     median(results[label, 'orion']) / median(results[label, peer]), most)


# ---- over memory

def part_mem(kind, args, image, folder):
    bare = limit_mem if kind == 'nbd' else limit_tcp
    makers = [('orion', lambda: orion_mem(kind)), ('limit', lambda: bare(image, folder))]
    loads = [label for label in args.loads if label != FOUR]
    results = rounds(args, makers, loads)
    table(kind + ' over memory', results, makers, loads)
    for label in loads:
        most = MEMORY.get(label)
        if most:
            goal('%s over memory, %s: CPU per request, orion / bare socket' % (kind, label),
                 median(results[label, 'orion']) / median(results[label, 'limit']),
                 most if isinstance(most, float) else most[kind])
    two_reactors(kind, args)
    if kind == 'iscsi':
        digests(args, loads)
    elif ONE in loads:
        depth_one(args, folder)


def two_reactors(kind, args):
    one, two = [], []
    for _ in range(args.rounds):
        for results, where in ((one, {}), (two, {'reactors': 2, 'cpus': (0, 1)})):
            with orion_mem(kind, **where) as server:
                results.append(blast(server, ['-q', '32', '-c', '4'], args.seconds))
    print('\n%s over memory, four connections: one reactor %.2f us/op, two %.2f' % (
        kind, median(one), median(two)))
    goal('%s, four connections: CPU per request, two reactors / one' % kind,
         median(two) / median(one), 1.15)


def digests(args, loads):
    results = {}
    for _ in range(args.rounds):
        with orion_mem('iscsi') as server:
            for label in loads:
                for extra in ((), ('-D',)):
                    results.setdefault((label, extra), []).append(
                        blast(server, LOADS[label] + list(extra), args.seconds))
    for label in loads:
        without, crc = median(results[label, ()]), median(results[label, ('-D',)])
        print('iscsi over memory, %s: %.2f us/op, with digests %.2f' % (label, without, crc))
        if label != ONE:
            goal('iscsi over memory, %s: with digests / without' % label, crc / without, 1.25)


def depth_one(args, folder):
    """Half of the time of such a request is both sides' waking up: -w is a client that is awake."""
    bare = (('limit', ()), ('limit, epoll', ('-e',)), ('limit, spin', ('-w',)))
    makers = [(name, lambda o=options: limit_mem(None, folder, *o)) for name, options in bare]
    makers += [('orion', lambda: orion_mem('nbd')),
               ('orion, spin', lambda: orion_mem('nbd', '--spin-us', 50))]
    results, idle = {}, 0
    for _ in range(args.rounds):
        for name, make in makers:
            with make() as server:
                for awake in ((), ('-w',)):
                    results.setdefault((name, awake), []).append(
                        blast(server, ['-q', '1'] + list(awake), args.seconds))
                before = cpu_seconds(server[4])
                time.sleep(1)
                if 'spin' in name and 'orion' in name:
                    idle = max(idle, (cpu_seconds(server[4]) - before) * 100)
    print('\nnbd over memory, 4K, depth 1: IOPS (CPU of the server), client asleep between, or awake')
    for name, _ in makers:
        print('  %-13s' % name, '   '.join('%7.0f (%3.0f %%)' % (
            median(results[name, awake], 'iops'), median(results[name, awake], 'server_cpu') * 100)
            for awake in ((), ('-w',))))
    def iops(name, *awake):
        return median(results[name, awake], 'iops')
    goal_least('nbd, depth 1: IOPS, orion / bare socket', iops('orion') / iops('limit'), 1)
    goal_least('nbd, depth 1: IOPS, orion / bare socket that waits by epoll',
               iops('orion') / iops('limit, epoll'), 1)
    goal_least('nbd, depth 1, --spin-us 50, client awake: IOPS, with spin / without',
               iops('orion, spin', '-w') / iops('orion', '-w'), 2)
    goal('nbd, --spin-us 50, idle: per cent of a CPU', idle, 1)


# ---- a node with O_DIRECT

@contextlib.contextmanager
def node(folder):
    """A loop device with direct I/O over a file on the disk below; the file where there is none."""
    path = os.path.join(folder, 'node.img')
    sh('fio', '--name=fill', '--filename=' + path, '--rw=write', '--bs=1M', '--size=1G',
       '--end_fsync=1')
    p = subprocess.run(['losetup', '--find', '--show', '--direct-io=on', path],
                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    loop = p.stdout.strip()
    try:
        yield loop or path
    finally:
        if loop:
            sh('losetup', '-d', loop)


def fio_figure(path, options, seconds):
    rw, size = ('write' if '-r' in options else 'read'), '256k' if '-b' in options else '4k'
    out = sh('fio', '--name=own', '--filename=' + path, '--rw=' + ('' if '-s' in options else 'rand') +
             rw, '--bs=' + size, '--iodepth=' + options[1], '--ioengine=io_uring', '--direct=1',
             '--time_based', '--runtime=%d' % seconds, '--size=1G', '--output-format=json')
    return json.loads(out[out.index('{'):])['jobs'][0][rw]['iops']


def part_device(args, image, folder):
    loads = [label for label in args.loads if label not in (FOUR, ONE)]
    with node(folder) as path:
        makers = [(name, lambda make=make: make(path, folder)) for name, make in servers('device')]
        results = rounds(args, makers, loads)
        table('device %s' % path, results, makers, loads)
        for label in loads:
            print('device alone (fio, O_DIRECT, io_uring), %s: %.0f IOPS' % (
                label, fio_figure(path, LOADS[label], args.seconds)))


# ---- who shares a reactor

def part_neighbours(args, image, folder):
    for kind in ('nbd', 'iscsi'):
        with orion_mem(kind) as server:
            load = start_blast(server, LOADS[READ_4K], args.seconds * args.rounds + 3)
            time.sleep(1)
            rs = [blast(server, ['-q', '1'], args.seconds) for _ in range(args.rounds)]
            json_of(load)
            print('\n%s, depth 1 beside a client at depth 32: p50 %.0f us, p99 %.0f us' % (
                kind, median(rs, 'p50us'), median(rs, 'p99us')))
            goal('%s, depth 1 beside a saturating client: p99, us' % kind, median(rs, 'p99us'), 1000)
        with daemon() as o:
            o.ctl('device', 'add', 'disk', '--type', 'mem', '--size', '64M')
            server = serve(o, kind)
            fill(server, 64 << 20)
            before = rss_mb(server[4])
            many = start_blast(server, ['-q', '1', '-c', '1000'], 2)
            time.sleep(2)
            os.kill(many.pid, signal.SIGSTOP)  # they are all there, have read, and ask for nothing
            time.sleep(1)
            grown = rss_mb(server[4]) - before
            os.kill(many.pid, signal.SIGCONT)
            json_of(many)
        print('%s, 1,000 connections that have read and are idle: %.1f MB' % (kind, grown))
        goal('%s, 1,000 idle connections: MB' % kind, grown, 20)


# ---- layers and TLS

ARRAYS = [('raid0', 4, READ_4K, 1.25), ('raid10', 4, READ_4K, 1.25), ('raid1', 2, WRITE_4K, 1.8)]


def part_layers(args, image, folder):
    """What an array costs through NBD, over members of memory. Bare and arrays have one size."""
    results = {}
    with daemon() as o:
        o.ctl('device', 'add', 'bare', '--type', 'mem', '--size', '256M')
        bare = serve(o, 'nbd', 'bare')
        made = [('bare', bare)]
        for level, members, _, _ in ARRAYS:
            names = ['%s-m%d' % (level, n) for n in range(members)]
            share = 256 // (members if level == 'raid0' else members // 2)
            for name in names:
                o.ctl('device', 'add', name, '--type', 'mem', '--size', '%dM' % (share + 2))
            o.ctl('array', 'create', level, '--level', level, '--members', ','.join(names),
                  '--assume-clean', '--bitmap', 'none')
            made.append((level, serve(o, 'nbd', level)))
        size = ['-S', str(250 << 20)]
        for _, server in made:
            fill(server, 250 << 20)
        for _ in range(args.rounds):
            for name, server in made:
                for label in (READ_4K, WRITE_4K):
                    results.setdefault((name, label), []).append(
                        blast(server, size + LOADS[label], args.seconds))
    print()
    for name, _ in made:
        print('nbd over memory, %-7s' % name, ', '.join('%s %.2f us/op (%.2f)' % (
            label, median(results[name, label]),
            median(results[name, label]) / median(results['bare', label]))
            for label in (READ_4K, WRITE_4K)))
    for level, _, label, most in ARRAYS:
        goal('nbd over memory, %s: CPU per request, %s / bare member' % (label, level),
             median(results[level, label]) / median(results['bare', label]), most)


def part_tls(args, image, folder):
    """4 KiB reads by nbdcopy over TCP, in the clear and with TLS: CPU of the server for each. The
    client is the slower one, so that few requests share a system call of the server."""
    size, keys = 256 << 20, os.path.join(folder, 'keys.psk')
    with open(keys, 'w') as f:
        f.write('bench:' + '5a' * 32 + '\n')
    with daemon() as o:
        o.ctl('device', 'add', 'disk', '--type', 'mem', '--size', str(size))
        fill(serve(o, 'nbd'), size)
        ports = free_port(), free_port()
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % ports[0])
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % ports[1], '--tls', 'required', '--tls-psk-file', keys)
        ways = {'in the clear': 'nbd://localhost:%d/disk' % ports[0],
                'with TLS': 'nbds://bench@localhost:%d/disk?tls-psk-file=%s' % (ports[1], keys)}
        cost = {}
        for _ in range(args.rounds):
            for what, uri in ways.items():
                before, t = cpu_seconds(o.proc.pid), time.monotonic()
                with on_cpu(1):
                    sh('nbdcopy', '--connections=1', '--requests=64', '--request-size=4096', uri,
                       'null:')
                requests = size // 4096
                cost.setdefault(what, []).append(
                    ((cpu_seconds(o.proc.pid) - before) * 1e6 / requests,
                     requests / (time.monotonic() - t)))
    print()
    for what in ways:
        print('nbd over TCP, 4K reads by nbdcopy, %-12s %6.2f us/op %8.0f IOPS' % (
            what, *(statistics.median(x[i] for x in cost[what]) for i in (0, 1))))
