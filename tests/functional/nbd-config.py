# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that listeners and exports are made with comes back from `config show`, makes the same again in
another daemon, survives a restart, and differs in the plan when it is not the same."""
import copy
import json
import os

from nbdwire import INFO, INVALID, POLICY, TLS_REQD, UNKNOWN, Raw, make_certificates
from orion import Orion, free_port, need, run

need('openssl')
EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}


def document(folder):
    """One of each, with every option that there is."""
    def file(name):
        return os.path.join(folder, name)
    make_certificates(folder)
    cert = {'tls_cert': file('server.pem'), 'tls_key': file('server-key.pem')}
    return {
        'devices': {name: {'type': 'mem', 'size': '1M'} for name in ('d0', 'd1', 'd2', 'd3')},
        'nbd': {
            'exports': {
                'plain': {'device': 'd0'},
                'told': {'device': 'd1', 'description': 'zw\u00f6lf "W\u00f6rter"', 'read_only': True, 'default': True},
                'open': {'device': 'd2', 'open': True},
                'few': {'device': 'd3', 'allow': ['10.0.0.0/8', '2001:db8::/32', 'tls:alice', 'tls:*', 'unix']},
            },
            'listeners': {
                '127.0.0.1:%d' % free_port(): {},
                '127.0.0.2:%d' % free_port(): dict(cert, tls='allowed'),
                '127.0.0.3:%d' % free_port(): dict(cert, tls='required', tls_ca=file('ca.pem')),
                '127.0.0.4:%d' % free_port(): {'tls': 'required', 'tls_psk_file': file('keys.psk')},
                'unix:' + file('n.sock'): {},
                'unix:' + file('m.sock'): {'mode': '0660', 'group': str(os.getgid())},
            },
        },
    }


def save(o, doc):
    path = os.path.join(o.dir, 'doc.json')
    with open(path, 'w') as f:
        json.dump(doc, f)
    return path


def plan(o, doc):
    return o.ctl('plan', save(o, doc))


def things(o):
    """What listeners and exports say of themselves."""
    return o.ctl('nbd', 'list')['items'], o.ctl('nbd', 'listeners')['items']


def test_what_is_shown_makes_the_same_again():
    with Orion() as o:
        doc = document(o.dir)
        o.ctl('apply', save(o, doc))
        shown, stands = o.ctl('config', 'show'), things(o)
        assert shown['nbd']['listeners'] == doc['nbd']['listeners'], shown['nbd']
        for name, export in doc['nbd']['exports'].items():
            have = shown['nbd']['exports'][name]
            assert {k: have[k] for k in export} == export, have
        assert plan(o, shown) == EMPTY and plan(o, doc) == EMPTY
        o.restart()
        assert o.ctl('config', 'show') == shown and things(o) == stands
        assert plan(o, shown) == EMPTY
        o.stop()
        with Orion() as other:
            other.ctl('apply', save(other, shown))
            assert other.ctl('config', 'show') == shown and things(other) == stands
        o.start()


def test_what_was_applied_is_what_clients_meet():
    with Orion() as o:
        doc = document(o.dir)
        o.ctl('apply', save(o, doc))
        c = Raw(os.path.join(o.dir, 'n.sock'), None)
        c.hello()
        replies = c.info(b'', 1, 2)
        assert [r[1][2:] for r in replies[1:3]] == [b'told', doc['nbd']['exports']['told']['description'].encode()]
        assert c.info(b'few')[-1][0] == 1 # by a unix socket
        c.s.close()
        for n, want in ((1, POLICY), (2, TLS_REQD), (3, TLS_REQD), (4, TLS_REQD)):
            port = [int(a.split(':')[1]) for a in doc['nbd']['listeners'] if a.startswith('127.0.0.%d' % n)][0]
            c = Raw(('127.0.0.%d' % n, port), None)
            c.hello()
            assert c.info(b'few', option=INFO)[-1][0] == want
            c.s.close()


def test_every_field_that_differs_is_in_the_plan():
    with Orion() as o:
        doc = document(o.dir)
        o.ctl('apply', save(o, doc))
        for kind, fields in (('exports', {'description': 'other', 'read_only': None, 'default': None, 'open': None,
                                          'allow': ['tls:bob'], 'device': 'd0'}),
                             ('listeners', {'tls': 'off', 'tls_cert': '/x', 'tls_key': '/x', 'tls_ca': '/x',
                                            'tls_psk_file': '/x', 'mode': '0600', 'group': '7'})):
            for name, have in doc['nbd'][kind].items():
                for field in set(have) & set(fields):
                    if have[field] == fields[field]:
                        continue
                    other = copy.deepcopy(doc)
                    entry = other['nbd'][kind][name]
                    entry[field] = not entry[field] if fields[field] is None else fields[field]
                    p = plan(o, other)
                    found = [d['field'] for e in p['change'] + p['replace'] if e['name'] == name for d in e['differs']]
                    assert found == [field], (name, field, p)
        assert plan(o, doc) == EMPTY


def test_a_listener_without_its_files_tells_why_and_keeps_its_options():
    with Orion() as o:
        doc = document(o.dir)
        o.ctl('apply', save(o, doc))
        os.rename(os.path.join(o.dir, 'server.pem'), os.path.join(o.dir, 'away'))
        o.restart()
        shown = o.ctl('config', 'show')
        assert shown['nbd']['listeners'] == doc['nbd']['listeners']
        bad = [x for x in o.ctl('nbd', 'listeners')['items'] if x['reason']]
        assert len(bad) == 2 and all('server.pem' in x['reason'] and x['bound'] == '' for x in bad), bad
        os.rename(os.path.join(o.dir, 'away'), os.path.join(o.dir, 'server.pem'))
        o.restart()
        assert not [x for x in o.ctl('nbd', 'listeners')['items'] if x['reason']]


def test_names_and_descriptions_are_text():
    with Orion() as o:
        o.mem('d0')
        o.nbd('zw\u00f6lf \u20ac', 'd0', '--description', '\U0001f40b')
        for name in ('%FF', 'a%C3', '%C0%AF', '%ED%A0%80', 'a%0Ab', '%1B%5B2J', '%C2%85', '%7F'):
            for method, body in (('PUT', {'device': 'd0'}), ('GET', None), ('DELETE', None)):
                r = o.http(method, '/v1/nbd/exports/' + name, body, {'If-Match': '*'})
                assert r.status == 400 and r.json['errors'][0]['field'] == 'name', (method, name, r.body)
        for description in ('a\nb', '\x1b[2J', '\x85'):
            r = o.http('PUT', '/v1/nbd/exports/w', {'device': 'd0', 'description': description})
            assert r.status == 400 and r.json['errors'][0]['field'] == 'description', r.body
        c = Raw(os.path.join(o.dir, 'nbd.sock'), None)
        c.hello()
        for name in (b'\xff\xfe', b'a\nb\x1b[2J', b'\xed\xa0\x80"', b'a\0b', 20 * b'\xe2\x82\xac' + b'0123'):
            assert c.info(name)[-1][0] == UNKNOWN
            assert c.set_context(name)[-1][0] == INVALID # there are no structured replies yet
        c.s.close()
        with open(o.log_path, 'rb') as f:
            assert all(b >= 32 or b == 10 for b in f.read().decode().encode()) # UTF-8, line by line
        for path in ('/v1/nbd/exports', '/v1/sessions', '/metrics'):
            o.http('GET', path).body.decode()


run(test_what_is_shown_makes_the_same_again,
    test_what_was_applied_is_what_clients_meet,
    test_every_field_that_differs_is_in_the_plan,
    test_names_and_descriptions_are_text,
    test_a_listener_without_its_files_tells_why_and_keeps_its_options)
