# SPDX-License-Identifier: GPL-2.0-or-later
"""A configuration that uses every noun and every option comes back from config show as it was given.

The options are those of the OpenAPI document, which is made from the tables: a new one that is not told
here, or does not come back, fails the test."""
import json
import os

from orion import Orion, need, run, sh

need('openssl')
IQN, HOST = 'iqn.2026-01.org.example:t0', 'iqn.2026-01.org.example:host'
EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}
# Not part of an object: consent, how it is made (the parts of a raid50 are arrays of their own), what is
# only written.
NOT_SHOWN = {'force', 'yes', 'disconnect', 'assume_clean', 'groups', 'chap_secret', 'mutual_secret'}
# Of the other half of what excludes itself, or shown in another object here.
FORMS = {'size': 'a file knows its own', 'type': 'shown always'}


def p(o, name):
    return os.path.join(o.dir, name)


def document(o):
    """Path of the table -> objects; each option stands in one of them at least."""
    f = lambda n, size=96: o.file('f%d' % n, size << 20)
    for n, secret in (('one', 'sesame-open-please'), ('two', 'another-sesame-opens')):
        with open(p(o, n), 'w') as out:
            out.write(secret)
    sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
       p(o, 'key'), '-out', p(o, 'cert'), '-subj', '/CN=x', '-days', '2')
    with open(p(o, 'psk'), 'w') as out:
        out.write('alice:' + '5f' * 32 + '\n')
    refs = {'chap_user': 'host', 'chap_secret_ref': 'file:' + p(o, 'one'), 'mutual_user': 'box',
            'mutual_secret_ref': 'file:' + p(o, 'two')}
    devices = {'d%d' % i: {'type': 'file', 'path': f(i)} for i in range(16)}
    devices.update({
        'buffered': {'path': f(20), 'buffered': True}, 'ro': {'path': f(21), 'read_only': True},
        'm0': {'type': 'mem', 'size': '64M', 'block_size': 4096},
        'x0': {'type': 'fault', 'on': 'm0', 'rules': 'read:error=EIO:offset=4096-8191'}})
    arrays = {
        'a0': {'level': 'raid1', 'members': ['d0', 'd1'], 'spares': ['d2'], 'bitmap': 'internal',
               'bitmap_chunk': '64K', 'spare_group': 'g', 'member_options': ['d0:timeout=500']},
        'a1': {'level': 'raid5', 'members': ['d3', 'd4', 'd5'], 'chunk': '64K', 'no_log': True,
               'member_timeout': 30, 'read_errors_max': 7, 'sync_latency': 20, 'sync_rate_min': '1M',
               'sync_rate_max': '1G'},
        'a2': {'level': 'raid10', 'members': ['d7', 'd8', 'd9'], 'layout': 'o2'},
        'a3': {'level': 'raid5', 'members': ['d10', 'd11', 'd12'], 'log_device': 'd13'}}
    return {
        'devices': devices, 'arrays': arrays,
        'pools': {'p0': {'devices': ['a0', 'd6'], 'extent_size': '1M', 'volumes': {'v0': {'size': '8M'}}}},
        'nbd': {'exports': {'e0': {'device': 'p0/v0', 'description': 'text', 'read_only': True, 'default': True,
                                   'open': True, 'allow': ['unix', '10.0.0.0/8']}},
                'listeners': {'unix:' + p(o, 'nbd.sock'): {'tls': 'allowed', 'tls_cert': p(o, 'cert'),
                                                           'tls_key': p(o, 'key'), 'tls_ca': p(o, 'cert'),
                                                           'tls_psk_file': p(o, 'psk'), 'mode': '0660',
                                                           'group': str(os.getegid())}}},
        'iscsi': {'portals': {'127.0.0.1:0': {'group': 2}}, 'discovery_auth': refs,
                  'targets': {IQN: {'alias': 'box', 'open': True, 'max_connections': 4,
                                    'luns': {'0': {'device': 'a1', 'provisioning': 'full', 'read_only': True}},
                                    'acls': {HOST: dict(refs, lun_map=['5=0'])},
                                    'groups': {'2': {'state': 'standby'}}}}}}


SECTIONS = {'/v1/devices/{name}': ['devices'], '/v1/arrays/{name}': ['arrays'], '/v1/pools/{name}': ['pools'],
            '/v1/pools/{pool}/volumes/{volume}': ['pools', '*', 'volumes'],
            '/v1/nbd/exports/{name}': ['nbd', 'exports'], '/v1/nbd/listeners/{addr}': ['nbd', 'listeners'],
            '/v1/iscsi/portals/{addr}': ['iscsi', 'portals'], '/v1/iscsi/targets/{iqn}': ['iscsi', 'targets'],
            '/v1/iscsi/targets/{iqn}/luns/{lun}': ['iscsi', 'targets', '*', 'luns'],
            '/v1/iscsi/targets/{iqn}/acls/{initiator}': ['iscsi', 'targets', '*', 'acls'],
            '/v1/iscsi/targets/{iqn}/groups/{group}': ['iscsi', 'targets', '*', 'groups'],
            '/v1/iscsi/discovery-auth': None}
NO_CONFIGURATION = {'/v1/tokens/{name}': 'who may do what is no configuration to be copied'}


def objects(doc, path):
    if SECTIONS[path] is None:
        return {'': doc['iscsi']['discovery_auth']}
    found = [('', doc)]
    for key in SECTIONS[path]:
        found = [(n + '/' + k, v[k]) for n, v in found for k in ([key] if key != '*' else v)]
    return {n + '/' + k: v for n, section in found for k, v in section.items()}


def uncovered(o, doc):
    """Options of the tables that no object of the document has."""
    for path, methods in o.http('GET', '/openapi.json').json['paths'].items():
        if 'put' not in methods or path in NO_CONFIGURATION:
            continue
        assert path in SECTIONS, '%s makes something that no section of a configuration has' % path
        schema = methods['put']['requestBody']['content']['application/json']['schema']
        used = set().union(*(v for v in objects(doc, path).values()))
        yield from ('%s %s' % (path, n) for n in schema['properties'] if n not in used | NOT_SHOWN)


def number(v):
    units = {'K': 10, 'M': 20, 'G': 30}
    return int(v[:-1]) << units[v[-1]] if isinstance(v, str) and v[:-1].isdigit() and v[-1] in units else \
        int(v) if isinstance(v, str) and v.isdigit() else v


def lost(doc, shown):
    """Fields that config show does not print, or prints otherwise."""
    for path in SECTIONS:
        have = objects(shown, path)
        for name, fields in objects(doc, path).items():
            for k, v in fields.items():
                if isinstance(v, dict):
                    continue  # a section of its own
                got = have[name].get(k)
                if number(got) != number(v):
                    yield '%s %s.%s: %r became %r' % (path, name, k, v, got)


def save(o, doc):
    with open(p(o, 'doc.json'), 'w') as f:
        json.dump(doc, f)
    return p(o, 'doc.json')


def test_every_option_of_every_noun_comes_back():
    with Orion() as o:
        doc = document(o)
        assert not list(uncovered(o, doc)), list(uncovered(o, doc))
        o.ctl('apply', save(o, doc))
        shown = o.ctl('config', 'show')
        assert not list(lost(doc, shown)), '\n'.join(lost(doc, shown))
        assert o.ctl('plan', save(o, shown)) == EMPTY, o.ctl('plan', save(o, shown))
        assert o.ctl('plan', save(o, doc)) == EMPTY, o.ctl('plan', save(o, doc))
        o.restart()
        again = o.ctl('config', 'show')
        for d in (shown, again):  # what was in memory has gone with the daemon
            d['devices'].pop('m0'), d['devices'].pop('x0')
        assert again == shown, (shown, again)


def test_names_that_look_like_values_stay_names():
    with Orion() as o:
        doc = {'devices': {'true': {'type': 'mem', 'size': '64M'}, 'false': {'type': 'fault', 'on': 'true'},
                           '7': {'type': 'mem', 'size': 67108864, 'block_size': 4096},
                           'null': {'type': 'fault', 'on': '7'}},
               'pools': {'42': {'devices': ['false'], 'volumes': {'1.5': {'size': '8M'}, 'true': {'size': '8M'}}}},
               'nbd': {'exports': {'true': {'device': '42/true', 'description': 'false'}, '0': {'device': 'null'}}}}
        o.ctl('apply', save(o, doc))
        shown = o.ctl('config', 'show')
        assert shown['devices']['false']['on'] == 'true' and shown['devices']['null']['on'] == '7', shown
        assert shown['devices']['true']['size'] == 64 << 20 and shown['devices']['7']['block_size'] == 4096, shown
        assert shown['nbd']['exports']['true']['description'] == 'false', shown
        assert o.ctl('plan', save(o, shown)) == EMPTY and o.ctl('plan', save(o, doc)) == EMPTY
    with Orion() as o:  # and makes the same again
        o.ctl('apply', save(o, shown))
        assert o.ctl('config', 'show') == shown


def test_what_is_not_here_is_shown_as_it_was():
    with Orion() as o:
        for i in range(3):
            o.ctl('device', 'add', 'd%d' % i, '--path', o.file('f%d' % i, 64 << 20))
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0', '--extent-size', '1M')
        o.ctl('pool', 'extend', 'p0', '--devices', 'd2')
        o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
        o.ctl('nbd', 'export', 'e0', '--device', 'p0/v0')
        before = o.ctl('config', 'show')
        o.stop()
        for i in range(3):
            os.rename(p(o, 'f%d' % i), p(o, 'away%d' % i))
        o.start()
        shown = o.ctl('config', 'show')
        del before['pools']['p0']['volumes']
        assert shown == before, (before, shown)
        assert o.ctl('plan', save(o, shown)) == EMPTY, o.ctl('plan', save(o, shown))
        plan = o.ctl('plan', save(o, {'pools': {}}))
        assert 'p0' in [d['name'] for d in plan['delete']], plan


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
