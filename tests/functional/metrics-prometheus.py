# SPDX-License-Identifier: GPL-2.0-or-later
"""Prometheus itself scrapes oriond; the shipped rules and dashboard speak of series that exist."""
import json
import os
import re
import subprocess
import urllib.parse
import urllib.request

from orion import SOURCE, Orion, free_port, need, run, self_signed, sh, wait_for

ETC = os.path.join(SOURCE, 'etc')
RULES = os.path.join(ETC, 'prometheus', 'orion.rules.yml')


def test_the_rules_are_good_and_their_unit_tests_pass():
    need('promtool')
    sh('promtool', 'check', 'rules', RULES)
    out = sh('promtool', 'test', 'rules', os.path.join(ETC, 'prometheus', 'orion.test.yml'))
    assert 'SUCCESS' in out, out
    with open(RULES) as f:
        alerts = re.findall(r'alert: (\w+)', f.read())
    with open(os.path.join(ETC, 'prometheus', 'orion.test.yml')) as f:
        tests = f.read()
    for alert in alerts:
        assert re.search('alertname: %s\\n +exp_alerts' % alert, tests), 'no test raises ' + alert


class Prometheus:
    """Scrapes a daemon twice a second with the shipped rules."""

    def __init__(self, o, target, *jobs):
        self.base = 'http://127.0.0.1:%d' % free_port()
        config = os.path.join(o.dir, 'prometheus.yml')
        with open(config, 'w') as f:
            json.dump({'global': {'scrape_interval': '500ms', 'scrape_timeout': '500ms',
                                  'evaluation_interval': '500ms'}, 'rule_files': [RULES],
                       'scrape_configs': [{'job_name': 'orion',
                                           'static_configs': [{'targets': [target]}]}, *jobs]}, f)
        self.log = open(os.path.join(o.dir, 'prometheus.log'), 'w')
        self.proc = subprocess.Popen(
            ['prometheus', '--config.file=' + config, '--web.listen-address=' + self.base[7:],
             '--storage.tsdb.path=' + os.path.join(o.dir, 'tsdb'), '--log.level=warn'],
            stdout=self.log, stderr=self.log, cwd=o.dir)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.proc.terminate()
        self.proc.wait(20)
        self.log.close()

    def get(self, path):
        try:
            with urllib.request.urlopen(self.base + path, timeout=10) as r:
                return json.load(r)['data']
        except OSError:
            return None

    def value(self, expr):
        found = self.get('/api/v1/query?' + urllib.parse.urlencode({'query': expr}))
        return float(found['result'][0]['value'][1]) if found and found['result'] else None


def over_tls(o):
    """A daemon on 127.0.0.2 too, by TLS, and the job that docs/metrics.md shows for it."""
    addr, token = '127.0.0.2:%d' % free_port(), os.path.join(o.dir, 'token')
    cert, key = self_signed(o.dir)
    with open(o.config, 'w') as f:
        json.dump({'tls_cert': cert, 'tls_key': key}, f)
    o.args += ['--api', addr]
    o.start()
    with open(token, 'w') as f:
        f.write(o.ctl('token', 'add', 'prometheus', '--role', 'viewer')['token'])
    return {'job_name': 'far', 'scheme': 'https', 'tls_config': {'ca_file': cert},
            'authorization': {'credentials_file': token}, 'static_configs': [{'targets': [addr]}]}


def used_names(text):
    return set(re.findall(r'\b((?:orion|process)_[a-z_]+)\b', text))


def test_a_real_prometheus_scrapes_and_the_rules_and_panels_find_their_series():
    need('prometheus', 'nbdcopy', 'dd', 'openssl')
    port = free_port()
    with Orion('--metrics', '127.0.0.1:%d' % port, start=False) as o:
        far = over_tls(o)
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
        uri = o.nbd('e', 'p0/v0')
        with Prometheus(o, '127.0.0.1:%d' % port, far) as p:
            wait_for(lambda: p.value('up{job="orion"}') == 1, 60, 'a first scrape')
            wait_for(lambda: p.value('up{job="far"}') == 1, 60, 'a first scrape over TLS')
            assert p.value('orion_build_info{job="far"}') == 1
            sh('dd', 'if=/dev/urandom', 'of=%s/data' % o.dir, 'bs=1M', 'count=8')
            sh('nbdcopy', o.dir + '/data', uri)
            wait_for(lambda: p.value('sum(orion_io_stage_seconds_count{export="e",stage="device"})'),
                     60, 'the stages of the export')
            wait_for(lambda: p.value('orion_export_bytes_total{export="e",op="write",job="orion"}') == 8 << 20)
            for group in p.get('/api/v1/rules')['groups']:
                for rule in group['rules']:
                    assert rule['health'] in ('ok', 'unknown'), rule
            o.ctl('array', 'fail', 'a0', 'd1', '--yes')
            wait_for(lambda: p.value('ALERTS{alertname="OrionArrayDegraded"}'), 60, 'the alert')
            names = set(p.get('/api/v1/label/__name__/values'))
            with open(RULES) as f, open(os.path.join(ETC, 'grafana', 'orion.json')) as g:
                used = used_names(f.read()) | used_names(g.read())
            used = {re.sub('^orion_client_.*', 'orion_sessions', n) for n in used}  # of a session
            assert not used - names, sorted(used - names)
            assert len(used) > 20


def test_every_panel_of_the_dashboard_is_a_query_that_prometheus_understands():
    need('promtool')
    with open(os.path.join(ETC, 'grafana', 'orion.json')) as f:
        dashboard = json.load(f)
    exprs = [t['expr'] for p in dashboard['panels'] for t in p.get('targets', [])]
    assert len(exprs) > 15
    rules = {'groups': [{'name': 'g', 'rules': [
        {'record': 'x', 'expr': e.replace('$__rate_interval', '1m')} for e in exprs]}]}
    p = subprocess.run(['promtool', 'check', 'rules', '/dev/stdin'], input=json.dumps(rules),
                       capture_output=True, text=True)
    assert p.returncode == 0 or 'duplicate' in p.stdout + p.stderr, p
    assert 'could not parse' not in p.stdout + p.stderr, p


def test_the_page_of_the_series_lists_each():
    with open(os.path.join(SOURCE, 'docs', 'metrics.md')) as f:
        page = used_names(f.read())
    with Orion() as o:
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        text = o.http('GET', '/metrics').body.decode()
    there = set(re.findall(r'^# TYPE (\S+) ', text, re.M))
    assert page == there, (sorted(page - there), sorted(there - page))


run(test_the_rules_are_good_and_their_unit_tests_pass,
    test_a_real_prometheus_scrapes_and_the_rules_and_panels_find_their_series,
    test_every_panel_of_the_dashboard_is_a_query_that_prometheus_understands,
    test_the_page_of_the_series_lists_each)
