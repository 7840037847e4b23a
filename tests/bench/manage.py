# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of ./run about everything but the data path: public tools, idling, REST."""
import json
import os
import re
import shutil
import statistics
import subprocess
import time

from orion import Orion
from servers import (IQN, cpu_seconds, daemon, goal, json_of, median, on_cpu, rss_mb, serve, servers,
                     start_blast)


def tool_commands(server, seconds):
    """(tool, argv, function of its output and seconds that gives requests)."""
    kind, addr, name, lun, _ = server
    if kind == 'nbd':
        uri = 'nbd+unix:///%s?socket=%s' % (name, addr[5:])
        yield ('fio', ['fio', '--name=b', '--ioengine=nbd', '--uri=' + uri, '--rw=randread',
                       '--bs=4k', '--iodepth=32', '--time_based', '--runtime=%d' % seconds,
                       '--output-format=json'],
               lambda out, _: json.loads(out[out.index('{'):])['jobs'][0]['read']['total_ios'])
        yield ('qemu-img', ['qemu-img', 'bench', '-f', 'raw', '-c', '200000', '-d', '32', '-s',
                            '4096', '-S', '8192', uri], lambda out, _: 200000)
    else:
        yield ('iscsi-perf', ['timeout', '-s', 'INT', str(seconds), 'iscsi-perf', '-r', '-m', '32',
                              '-b', '8', 'iscsi://%s/%s/%d' % (addr[4:], name, lun)],
               lambda out, spent: float(re.findall(r'iops average (\d+)', out)[-1]) * spent)


def part_tools(args, image, folder):
    print('\npublic tools, 4K reads, depth 32 (the tool itself is often what is measured)')
    for kind in ('nbd', 'iscsi'):
        for name, make in servers(kind):
            if name == 'limit-file':
                continue
            with make(image, folder) as server:
                for tool, argv, count in tool_commands(server, args.seconds):
                    if not shutil.which(argv[4] if argv[0] == 'timeout' else argv[0]):
                        continue
                    before, t = cpu_seconds(server[4]), time.monotonic()
                    with on_cpu(1):
                        p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                           text=True, timeout=120)
                    spent = time.monotonic() - t
                    cpu = cpu_seconds(server[4]) - before
                    try:
                        n = count(p.stdout, spent)
                    except (ValueError, IndexError, KeyError):
                        print('  %-10s %-9s failed: %s' % (tool, name, p.stdout[-200:]))
                        continue
                    print('  %-10s %-9s %9.0f IOPS %8.2f us/op' % (
                        tool, name, n / spent, cpu * 1e6 / n), flush=True)


def quickstart_objects(o):
    """The configuration of ./quickstart: four files, two raid1, a pool, two volumes, both exports."""
    for n in range(4):
        o.ctl('device', 'add', 'disk%d' % n, '--path', os.path.join(o.dir, 'disk%d' % n), '--size',
              '1G')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'disk0,disk1')
    o.ctl('array', 'create', 'a1', '--level', 'raid1', '--members', 'disk2,disk3')
    o.ctl('pool', 'create', 'pool', '--devices', 'a0,a1')
    for v in ('one', 'two'):
        o.ctl('volume', 'create', 'pool/' + v, '--size', '500M')
    o.nbd('one', 'pool/one')
    o.iscsi(IQN, 'pool/two')


def part_idle(args, image, folder):
    with Orion() as o:
        quickstart_objects(o)
        time.sleep(3)
        before, t = cpu_seconds(o.proc.pid), time.monotonic()
        time.sleep(max(20, args.seconds))
        used = (cpu_seconds(o.proc.pid) - before) / (time.monotonic() - t) * 100
        rss = rss_mb(o.proc.pid)
    print('\nidle, the configuration of ./quickstart: %.2f %% CPU, %.1f MB resident' % (used, rss))
    goal('idle: per cent of a CPU', used, 1)
    goal('idle: MB resident', rss, 50)


def timed(o, method, path, body=None, expect=200):
    t = time.monotonic()
    status = o.http(method, path, body).status
    assert status == expect, (path, status)
    return (time.monotonic() - t) * 1000


def percentile(xs, part):
    xs = sorted(xs)
    return xs[min(len(xs) - 1, int(len(xs) * part))]


def many_volumes(o, image, objects):
    """Volumes and their exports, and an export `disk` to load; ms that each of them took."""
    o.ctl('device', 'add', 'disk', '--path', image)
    o.ctl('device', 'add', 'big', '--path', os.path.join(o.dir, 'big'), '--size', '5G')
    o.ctl('pool', 'create', 'p', '--devices', 'big')
    server = serve(o, 'nbd')
    return server, [timed(o, 'PUT', '/v1/pools/p/volumes/v%d' % n, {'size': '4M'}, 201) +
                    timed(o, 'PUT', '/v1/nbd/exports/v%d' % n, {'device': 'p/v%d' % n}, 201)
                    for n in range(objects)]


def part_scrape(args, image, folder):
    """What a scrape of 1,000 volumes every second does to the latency of reads."""
    with daemon(cpus=(0, 1)) as o:
        server, _ = many_volumes(o, image, 1000)
        results = {False: [], True: []}
        for _ in range(args.rounds):
            for scraped in (False, True):
                load = start_blast(server, ['-q', '32'], max(3, args.seconds))
                while load.poll() is None:
                    time.sleep(1)
                    if scraped:
                        o.http('GET', '/metrics')
                results[scraped].append(json_of(load))
    quiet, scraped = results[False], results[True]
    print('\n4K reads at depth 32: p99 %.0f us, p99.9 %.0f us; with a scrape of 1,000 volumes every '
          'second %.0f and %.0f' % (median(quiet, 'p99us'), median(quiet, 'p999us'),
                                    median(scraped, 'p99us'), median(scraped, 'p999us')))
    goal('scrape of 1,000 volumes every second: p99 of reads, with / without',
         median(scraped, 'p99us') / median(quiet, 'p99us'), 1.05)


def part_rest(args, image, folder):
    """1,000 volumes and their exports, while another export is read as fast as it goes."""
    objects, paths = 1000, ['/v1/devices', '/v1/devices/disk', '/v1/volumes', '/v1/arrays',
                            '/v1/nbd/exports', '/v1/nbd/exports/v500', '/v1/sessions', '/v1/jobs',
                            '/v1/system', '/v1/config', '/metrics', '/healthz']
    with daemon() as o:
        server, export = many_volumes(o, image, objects)
        print('\ncreate a volume and export it, %d times: median %.1f ms, the last hundred %.1f ms, '
              'p99 %.1f ms' % (objects, statistics.median(export), statistics.median(export[-100:]),
                               percentile(export, 0.99)))
        goal('create to export of a volume: p99, ms', percentile(export, 0.99), 50)
        busy = 'orion_reactor_busy_seconds_total{reactor="main"} '
        seen = []
        for _ in range(12):
            text = o.http('GET', '/metrics').body.decode()
            seen.append(float(text[text.index(busy) + len(busy):].split('\n', 1)[0]) * 1000)
        scrape = [b - a for a, b in zip(seen, seen[1:])]
        print('scrape of %d volumes and exports, %.1f MB: main busy for %.1f ms (median), worst '
              '%.1f' % (objects, len(text) / 1e6, statistics.median(scrape), max(scrape)))
        goal('scrape of 1,000 volumes: main busy, ms', statistics.median(scrape), 50)
        load = start_blast(server, ['-q', '128', '-c', '4'], 12)
        time.sleep(1)
        took = {p: [] for p in paths}
        end = time.monotonic() + 10
        while time.monotonic() < end:
            for p in paths:
                took[p].append(timed(o, 'GET', p))
        print('REST with %d objects while the data path is saturated (%.0f IOPS):' % (
            objects, json_of(load)['iops']))
        for p in paths:
            print('  %-22s %4d reads, median %6.1f ms, p99 %6.1f ms' % (
                p, len(took[p]), statistics.median(took[p]), percentile(took[p], 0.99)))
        worst = max(percentile(xs, 0.99) for xs in took.values())
        goal('REST read under load, the slowest path: p99, ms', worst, 100)
        o.stop()
        t = time.monotonic()
        o.start()
        spent = time.monotonic() - t
        print('start with %d volumes and exports: %.2f s' % (objects, spent))
        goal('start with 1,000 volumes, s', spent, 2)
