# SPDX-License-Identifier: GPL-2.0-or-later
"""PATCH: some fields of an object change, by a merge patch with If-Match; the same again is nothing."""
import json

from orion import Orion, run

IQN = 'iqn.2026-01.com.example:t'
EXPORT, TARGET, VOLUME = '/v1/nbd/exports/e0', '/v1/iscsi/targets/' + IQN, '/v1/pools/p0/volumes/v0'
ACL = TARGET + '/acls/iqn.2026-01.com.example:i'
DISCOVERY = '/v1/iscsi/discovery-auth'


def build(o):
    o.ctl('device', 'add', 'd0', '--path', o.file('f0', 64 << 20))
    o.mem('d1')
    o.ctl('pool', 'create', 'p0', '--devices', 'd0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
    o.ctl('iscsi', 'create', IQN, '--alias', 'first')
    assert o.http('PUT', ACL, {'chap_user': 'me', 'chap_secret': 'twelve bytes'}).status == 201
    return o.nbd('e0', 'd1', '--description', 'text', '--allow', 'unix,10.0.0.0/8')


def patch(o, path, body, tag=None):
    tag = tag or o.http('GET', path).headers['ETag']
    return o.http('PATCH', path, json.dumps(body), {'Content-Type': 'application/merge-patch+json',
                                                    'If-Match': tag})


# Path, patch, field and what GET shows of it afterwards.
CHANGES = [
    (EXPORT, {'description': 'other'}, 'description', 'other'),
    (EXPORT, {'description': None}, 'description', ''),
    (EXPORT, {'allow': ['unix']}, 'allow', ['unix']),
    (EXPORT, {'allow': None}, 'allow', []),
    (EXPORT, {'open': True, 'default': True}, 'default', True),
    (EXPORT, {'read_only': True}, 'read_only', True),
    (EXPORT, {'read_only': None, 'default': None}, 'read_only', False),
    (TARGET, {'alias': 'second', 'open': True}, 'alias', 'second'),
    (TARGET, {'alias': None}, 'alias', ''),
    (VOLUME, {'size': '12M'}, 'size', 12 << 20),
    (VOLUME, {'size': 8 << 20, 'yes': True}, 'size', 8 << 20),
    (ACL, {'chap_user': 'you'}, 'chap_user', 'you'),
    (ACL, {'chap_user': None}, 'chap_user', ''),
    (DISCOVERY, {'chap_user': 'd', 'chap_secret': 'twelve bytes too'}, 'chap_user', 'd'),
    (DISCOVERY, {'chap_user': None}, 'chap_user', ''),
    ('/v1/system/log', {'level': 'debug'}, 'level', 'debug'),
]


def test_what_is_named_changes_and_the_same_again_is_nothing():
    with Orion() as o:
        build(o)
        for path, body, field, value in CHANGES:
            before = o.http('GET', path)
            r = patch(o, path, body)
            assert r.status == 200 and r.json['changed'] is True, (path, body, r.status, r.body)
            now = o.http('GET', path)
            assert now.json[field] == value, (path, body, now.json)
            assert r.headers['ETag'] == now.headers['ETag'] != before.headers['ETag'], (path, body)
            others = set(before.json) - set(body) - {field}
            assert {k: now.json[k] for k in others} == {k: before.json[k] for k in others}, (path, body)
            for same in (body, {}):
                r = patch(o, path, same)
                assert r.status == 200 and r.json['changed'] is False, (path, same, r.body)
        shown = o.ctl('config', 'show')
        o.restart()
        assert o.ctl('config', 'show') == shown


def test_a_patch_needs_the_etag_of_what_it_changes():
    with Orion() as o:
        build(o)
        for path in {c[0] for c in CHANGES}:
            before = o.http('GET', path).json
            assert o.http('PATCH', path, {}).status == 428, path
            r = patch(o, path, {}, '"0"')
            assert r.status == 412 and r.json['code'] == 'precondition-failed', r.body
            assert o.http('GET', path).json == before
        assert patch(o, EXPORT + 'x', {}, '*').status == 404
        assert o.http('PATCH', '/v1/devices/d0', {}).status == 405


def test_every_wrong_field_is_named_and_nothing_changes():
    with Orion() as o:
        build(o)
        before = o.http('GET', EXPORT).json
        r = patch(o, EXPORT, {'description': 'x', 'open': 'maybe', 'colour': 1, 'allow': [1]})
        assert r.status == 400 and {e['field'] for e in r.json['errors']} == {'open', 'colour', 'allow'}
        r = patch(o, EXPORT, {'description': 'x', 'allow': ['nonsense']})
        assert r.status == 400 and r.json['errors'][0]['field'] == 'allow', r.body
        assert patch(o, EXPORT, {'device': 'd0'}).status == 400
        assert patch(o, VOLUME, {'size': None}).json['errors'][0]['field'] == 'size'
        assert patch(o, VOLUME, {'size': '4M'}).json['code'] == 'needs-yes'
        r = o.http('PATCH', EXPORT, '{}', {'Content-Type': 'text/plain', 'If-Match': '*'})
        assert r.status == 415, r.body
        o.ctl('nbd', 'export', 'e1', '--device', 'd1', '--default')
        assert patch(o, EXPORT, {'default': True}).status == 409
        now = o.http('GET', EXPORT).json
        assert now == before, (before, now)


def test_orionctl_sets_and_plan_changes_in_place():
    with Orion() as o:
        build(o)
        assert o.ctl('nbd', 'set', 'e0', '--description', 'new', '--allow', '')['allow'] == []
        assert o.ctl('nbd', 'set', 'e0', '--description', 'new')['changed'] is False
        assert o.ctl('iscsi', 'set', IQN, '--alias', 'third')['alias'] == 'third'
        doc = o.ctl('config', 'show')
        del doc['nbd']['exports']['e0']['description']
        doc['nbd']['exports']['e0']['allow'] = ['unix']
        doc['iscsi']['targets'][IQN]['open'] = True
        path = o.file('doc.json', 0)
        with open(path, 'w') as f:
            json.dump(doc, f)
        plan = o.ctl('plan', path)
        assert sorted(s['name'] for s in plan['change']) == ['e0', IQN], plan
        assert not plan['replace'] and not plan['delete'], plan
        assert o.ctl('apply', path)['state'] == 'done'
        assert o.ctl('plan', path)['change'] == []


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
