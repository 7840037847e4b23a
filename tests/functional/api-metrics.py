# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""/metrics and its read-only listener."""
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

from nbdwire import Raw
from orion import Orion, find, free_port, need, run, sh, wait_for


def build(o):
    o.mem('d0', 'd1', 'd2', 'quote')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
    uri = o.nbd('e"\\0', 'p0/v0')
    o.iscsi('iqn.2026-01.com.example:t0', 'd2')
    return uri


def samples(text):
    out = {}
    for line in text.splitlines():
        if line and line[0] != '#':
            key, value = line.rsplit(' ', 1)
            assert key not in out, key
            out[key] = float(value)
    return out


def test_promtool_finds_nothing_to_say():
    need('promtool')
    with Orion() as o:
        for filled in (False, True):
            if filled:
                build(o)
            p = subprocess.run(['promtool', 'check', 'metrics'], input=o.http('GET', '/metrics').body,
                               capture_output=True)
            assert p.returncode == 0 and not p.stdout + p.stderr, p


def test_series_exist_with_zeros_from_the_start():
    with Orion() as o:
        o.mem('d0')
        s = samples(o.http('GET', '/metrics').body.decode())
        for op in ('read', 'write', 'flush', 'discard', 'write_zeroes'):
            assert s['orion_io_bytes_total{device="d0",op="%s"}' % op] >= 0
            buckets = [k for k in s if k.startswith('orion_io_duration_seconds_bucket{device="d0",op="%s"'
                                                    % op)]
            assert len(buckets) == 15, buckets
        assert s['orion_io_bytes_total{device="d0",op="write"}'] == 0


def test_io_is_counted_and_timed():
    need('nbdcopy', 'dd')
    with Orion() as o:
        uri = build(o)
        sh('dd', 'if=/dev/zero', 'of=%s/data' % o.dir, 'bs=1M', 'count=4')
        sh('nbdcopy', o.dir + '/data', uri)
        text = o.http('GET', '/metrics').body.decode()
        s = samples(text)
        done = s['orion_io_duration_seconds_count{device="p0/v0",op="write"}'] + \
            s['orion_io_duration_seconds_count{device="p0/v0",op="write_zeroes"}']
        assert done > 0, text
        name = 'orion_io_duration_seconds_bucket{device="a0",op="write",le="%s"}'
        row = [s[name % le] for le in ('1e-05', '0.001', '1', '10', '+Inf')]
        assert row == sorted(row) and row[-1] == \
            s['orion_io_duration_seconds_count{device="a0",op="write"}'], row


def stage_sums(s, protocol, export):
    return {stage: s['orion_io_stage_seconds_sum{protocol="%s",export="%s",stage="%s"%s}' % (
        protocol, export, stage, ',lun="0"' if protocol == 'iscsi' else '')]
        for stage in ('receive', 'queue', 'device', 'send')}


def test_the_stages_of_an_export_add_up_to_its_time():
    need('nbdcopy', 'dd')
    with Orion() as o:
        o.mem('d0')
        uri = o.nbd('e', 'd0')
        sh('dd', 'if=/dev/urandom', 'of=%s/data' % o.dir, 'bs=1M', 'count=4')
        sh('nbdcopy', o.dir + '/data', uri)
        s = samples(o.http('GET', '/metrics').body.decode())
        name = 'orion_export_duration_seconds_%s{protocol="nbd",export="e",op="%s"}'
        assert s['orion_export_bytes_total{protocol="nbd",export="e",op="write"}'] == 4 << 20
        total = sum(s[name % ('sum', op)] for op in ('read', 'write', 'other'))
        count = sum(s[name % ('count', op)] for op in ('read', 'write', 'other'))
        stages = stage_sums(s, 'nbd', 'e')
        assert abs(sum(stages.values()) - total) < 1e-6 and total > 0, (stages, total)
        assert count == s['orion_io_stage_seconds_count{protocol="nbd",export="e",stage="send"}']


def test_a_slow_device_shows_as_device_and_in_the_log():
    need('nbdinfo', 'qemu-io')
    with Orion('--slow-io-ms', 50) as o:
        o.mem('d0')
        o.ctl('device', 'add', 'f0', '--type', 'fault', '--on', 'd0', '--rules',
              'write:delay=120ms')
        uri = o.nbd('e', 'f0')
        sh('qemu-io', '-f', 'raw', '-c', 'write 0 4096', uri)
        s = samples(o.http('GET', '/metrics').body.decode())
        stages = stage_sums(s, 'nbd', 'e')
        assert stages['device'] > 0.1 and stages['device'] > 0.9 * sum(stages.values()), stages
        assert s['orion_slow_requests_total'] == 1
        line = [t for t in o.log().splitlines() if 'slow request' in t]
        assert len(line) == 1 and 'op=write offset=0 length=4096' in line[0], line
        assert float(re.search(r'device_ms=([0-9.]+)', line[0]).group(1)) > 100, line
        assert 'object=e' in line[0]


def test_iscsi_luns_are_exports_and_initiators_clients():
    need('iscsi-perf')
    iqn = 'iqn.2026-01.com.example:t0'
    with Orion() as o:
        o.mem('d0')
        addr = o.iscsi(iqn, 'd0')
        p = subprocess.Popen(['iscsi-perf', '-i', 'iqn.2026-01.com.example:host', '-m', '4', '-b',
                              '8', 'iscsi://%s/%s/0' % (addr, iqn)],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            def read():
                s = samples(o.http('GET', '/metrics').body.decode())
                key = 'orion_client_requests_total{protocol="iscsi",' \
                      'client="iqn.2026-01.com.example:host",op="read"}'
                return s.get(key, 0) > 100 and s
            s = wait_for(read, 20)
        finally:
            p.kill()
            p.wait()
        stages = stage_sums(s, 'iscsi', iqn)
        assert stages['device'] > 0, stages
        assert s['orion_export_duration_seconds_count{protocol="iscsi",export="%s",op="read",'
                 'lun="0"}' % iqn] > 100


def test_each_client_has_series_until_there_are_63():
    with Orion() as o:
        o.mem('d0')
        o.ctl('nbd', 'export', 'e', '--device', 'd0')
        port = int(o.ctl('nbd', 'listen', '127.0.0.1:0')['bound'].rsplit(':', 1)[1])
        path = 'unix:' + os.path.join(o.dir, 'nbd')
        o.ctl('nbd', 'listen', path)
        clients = [Raw(path[5:], 'e')]
        for i in range(2, 72):
            clients.append(Raw(('127.0.0.1', port), 'e', source=('127.0.0.%d' % i, 0)))
        clients[1].write(0, bytes(4096))
        s = samples(o.http('GET', '/metrics').body.decode())
        assert s['orion_sessions{protocol="nbd"}'] == 71 and s['orion_sessions{protocol="iscsi"}'] == 0
        rows = {k: v for k, v in s.items() if k.startswith('orion_client_sessions')}
        assert len(rows) == 64 and sum(rows.values()) == 71, rows
        assert rows['orion_client_sessions{protocol="any",client="other"}'] == 8, rows
        assert rows['orion_client_sessions{protocol="nbd",client="unix"}'] == 1, rows
        key = 'orion_client_%s_total{protocol="nbd",client="127.0.0.2",op="write"}'
        assert (s[key % 'requests'], s[key % 'bytes']) == (1, 4096)
        for c in clients:
            c.s.close()


def test_the_log_of_slow_requests_has_one_line_a_second():
    with Orion('--slow-io-ms', 10) as o:
        o.mem('d0')
        o.ctl('device', 'add', 'f0', '--type', 'fault', '--on', 'd0', '--rules', 'write:delay=20ms')
        path = 'unix:' + os.path.join(o.dir, 'nbd')
        o.ctl('nbd', 'listen', path)
        o.ctl('nbd', 'export', 'e', '--device', 'f0')
        begin, c = time.monotonic(), Raw(path[5:], 'e')
        for i in range(40):
            c.write(0, bytes(4096))
        slow = wait_for(lambda: samples(o.http('GET', '/metrics').body.decode())['orion_slow_requests_total'] == 40, 60)
        lines = [t for t in o.log().splitlines() if 'slow request' in t]
        assert slow and 1 <= len(lines) <= time.monotonic() - begin + 2, lines
        c.s.close()


def test_states_are_enums():
    with Orion() as o:
        build(o)
        for name, label in (('orion_array_state{array="a0",', 6), ('orion_pool_state{pool="p0",', 3),
                            ('orion_array_member_state{array="a0",device="d1",', 4)):
            row = {k: v for k, v in samples(o.http('GET', '/metrics').body.decode()).items()
                   if k.startswith(name)}
            assert len(row) == label and sum(row.values()) == 1, row


def test_the_listener_serves_four_paths_and_nothing_else():
    need('curl')
    port = free_port()
    with Orion('--metrics', '127.0.0.1:%d' % port) as o:
        build(o)
        base = 'http://127.0.0.1:%d' % port
        text = sh('curl', '-sf', base + '/metrics')
        assert re.search(r'^orion_build_info\{version="', text, re.M)
        assert 'orion_sessions{protocol="nbd"} 0' in text
        for path in ('/healthz', '/readyz', '/openapi.json'):
            assert urllib.request.urlopen(base + path, timeout=10).status == 200
        for path in ('/v1/devices', '/v1/config', '/'):
            try:
                urllib.request.urlopen(base + path, timeout=10)
                raise AssertionError(path)
            except urllib.error.HTTPError as e:
                assert e.code == 404, (path, e.code)
        request = urllib.request.Request(base + '/v1/devices/x', b'{"type":"mem"}', method='PUT')
        try:
            urllib.request.urlopen(request, timeout=10)
            raise AssertionError('PUT')
        except urllib.error.HTTPError as e:
            assert e.code == 404, e.code


def test_the_listener_is_refused_beyond_loopback():
    with Orion(start=False) as o:
        for addr in ('0.0.0.0:0', '[::]:0', 'unix:/tmp/x'):
            p = subprocess.run([find('oriond'), '--state-dir', o.state, '--api', 'unix:' + o.api,
                                '--metrics', addr], capture_output=True, text=True, timeout=30)
            assert p.returncode == 1 and 'loopback' in p.stderr, p
            assert len([t for t in p.stderr.splitlines() if ' error ' in t]) == 1, p.stderr


run(test_promtool_finds_nothing_to_say, test_series_exist_with_zeros_from_the_start,
    test_io_is_counted_and_timed, test_the_stages_of_an_export_add_up_to_its_time,
    test_a_slow_device_shows_as_device_and_in_the_log,
    test_iscsi_luns_are_exports_and_initiators_clients, test_states_are_enums,
    test_each_client_has_series_until_there_are_63, test_the_log_of_slow_requests_has_one_line_a_second,
    test_the_listener_serves_four_paths_and_nothing_else,
    test_the_listener_is_refused_beyond_loopback)
