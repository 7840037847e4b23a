# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""ETag and If-Match, idempotent creation, pages."""
from orion import Orion, run

IQN = 'iqn.2026-01.com.example:t'


def etag(o, path):
    return o.http('GET', path).headers['ETag']


def test_an_etag_is_strong_and_changes_with_the_object():
    with Orion() as o:
        o.mem('d0', 'd1')
        first = etag(o, '/v1/devices/d0')
        assert first.startswith('"') and first.endswith('"') and len(first) > 10
        assert first == etag(o, '/v1/devices/d0') != etag(o, '/v1/devices/d1')
        o.ctl('pool', 'create', 'p0', '--devices', 'd0')
        o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
        before = etag(o, '/v1/pools/p0/volumes/v0')
        o.ctl('volume', 'resize', 'p0/v0', '--size', '12M')
        assert before != etag(o, '/v1/pools/p0/volumes/v0')


def test_an_etag_does_not_follow_counters_and_users():
    with Orion() as o:
        o.mem('d0')
        before = etag(o, '/v1/devices/d0')
        o.nbd('e0', 'd0')
        assert o.http('GET', '/v1/devices/d0').json['users']
        assert before == etag(o, '/v1/devices/d0')


def test_a_stale_or_foreign_etag_is_412_and_changes_nothing():
    with Orion() as o:
        o.mem('d0')
        for tag in ('"0"', 'W/' + etag(o, '/v1/devices/d0'), '', '"a", "b"'):
            r = o.http('DELETE', '/v1/devices/d0', headers={'If-Match': tag})
            assert r.status == 412 and r.json['code'] == 'precondition-failed', (tag, r.body)
        tags = '"0", %s' % etag(o, '/v1/devices/d0')
        assert o.http('DELETE', '/v1/devices/d0', headers={'If-Match': tags}).status == 204
        assert o.http('GET', '/v1/devices/d0').status == 404
        r = o.http('DELETE', '/v1/devices/d0', headers={'If-Match': tags})
        assert r.status == 404, r.body


def test_star_matches_what_exists():
    with Orion() as o:
        o.mem('d0')
        assert o.http('DELETE', '/v1/devices/d0', headers={'If-Match': '*'}).status == 204


def test_if_none_match_is_304():
    with Orion() as o:
        o.mem('d0')
        for path in ('/v1/devices/d0', '/v1/system', '/v1/config', '/v1/system/log'):
            tag = etag(o, path)
            for given in (tag, '*', '"0", ' + tag, 'W/' + tag):
                r = o.http('GET', path, headers={'If-None-Match': given})
                assert r.status == 304 and not r.body, (path, given, r.status, r.body)
            assert o.http('GET', path, headers={'If-None-Match': '"0"'}).status == 200
            assert o.http('GET', path, headers={'If-None-Match': tag[1:-1]}).status == 200


def test_if_none_match_star_makes_only_what_is_not_there():
    with Orion() as o:
        body, star = {'type': 'mem', 'size': '16M'}, {'If-None-Match': '*'}
        assert o.http('PUT', '/v1/devices/d0', body, star).status == 201
        r = o.http('PUT', '/v1/devices/d0', body, star)
        assert r.status == 412 and r.json['errors'][0]['field'] == 'If-None-Match', r.body


def test_a_put_that_changes_what_is_there_needs_the_etag():
    with Orion() as o:
        o.iscsi(IQN)
        chap = lambda user: {'chap_user': user, 'chap_secret': 'twelve bytes and more'}
        group = '/v1/iscsi/targets/%s/groups/1' % IQN
        for path, first, second in ((group, {'state': 'standby'}, {'state': 'unavailable'}),
                                    ('/v1/iscsi/discovery-auth', chap('one'), chap('two'))):
            assert o.http('PUT', path, first).json['changed'] is True
            assert o.http('PUT', path, first).json['changed'] is False
            stale = etag(o, path)
            r = o.http('PUT', path, second)
            assert r.status == 428 and r.json['code'] == 'precondition-required', r.body
            assert etag(o, path) == stale
            assert o.http('PUT', path, second, {'If-Match': stale}).json['changed'] is True
            assert o.http('PUT', path, first, {'If-Match': stale}).status == 412
        # A person at a terminal has not seen a version of it.
        assert o.ctl('iscsi', 'alua', IQN, '1', '--state', 'standby')['state'] == 'standby'


def test_a_missing_parent_is_told_before_a_wrong_field():
    with Orion() as o:
        target = '/v1/iscsi/targets/%s' % IQN
        for path in ('/v1/pools/zz/volumes/v', target + '/luns/0', target + '/luns/x', target + '/acls/' + IQN,
                     target + '/groups/x'):
            for headers in ({}, {'If-Match': '"0"'}):
                r = o.http('PUT', path, {'nonsense': 1}, headers)
                assert r.status == 404 and r.json['code'] == 'not-found', (path, r.body)
        r = o.http('POST', '/v1/pools/zz/volumes/v/actions/resize', {'size': 'x'})
        assert r.status == 404 and 'pool zz' in r.json['detail'], r.body


def test_put_again_changes_nothing():
    with Orion() as o:
        body = {'type': 'mem', 'size': '16M'}
        first = o.http('PUT', '/v1/devices/d0', body)
        assert first.status == 201 and first.json['changed'] is True
        assert first.headers['Location'] == '/v1/devices/d0'
        again = o.http('PUT', '/v1/devices/d0', dict(body, size=16 << 20))
        assert again.status == 200 and again.json['changed'] is False, again.body
        assert first.headers['ETag'] == again.headers['ETag'] == etag(o, '/v1/devices/d0')
        o.mem('m0', 'm1')
        rows = [('/v1/arrays/a0', {'level': 'mirror', 'members': ['m0', 'm1']}),
                ('/v1/pools/p0', {'devices': ['a0']}),
                ('/v1/pools/p0/volumes/v0', {'size': '5M'}),
                ('/v1/nbd/exports/e0', {'device': 'p0/v0', 'description': 'x'}),
                ('/v1/nbd/listeners/127.0.0.1:0', {}),
                ('/v1/iscsi/targets/iqn.2026-01.com.example:t', {'alias': 'y'}),
                ('/v1/iscsi/targets/iqn.2026-01.com.example:t/luns/0', {'device': 'p0/v0'}),
                ('/v1/iscsi/targets/iqn.2026-01.com.example:t/acls/iqn.2026-01.com.example:i', {}),
                ('/v1/iscsi/portals/127.0.0.1:0', {})]
        for path, body in rows:
            r = o.http('PUT', path, body)
            assert r.status == 201 and r.json['changed'] is True, (path, r.body)
        for path, body in rows:
            r = o.http('PUT', path, body)
            assert r.status == 200 and r.json['changed'] is False, (path, r.body)


def test_lists_come_in_pages():
    with Orion() as o:
        for i in range(7):
            o.http('PUT', '/v1/devices/d%d' % i, {'type': 'null', 'size': '1M'})
        names, query = [], '?limit=3'
        for pages in range(1, 9):
            r = o.http('GET', '/v1/devices' + query).json
            assert len(r['items']) <= 3
            names += [i['name'] for i in r['items']]
            if r['next'] is None:
                break
            query = '?limit=3&cursor=' + r['next']
        assert names == ['d%d' % i for i in range(7)] and pages == 3, (names, pages)


def test_a_list_gives_only_the_fields_that_are_asked_for():
    with Orion() as o:
        o.mem('d0', 'd1')
        items = o.http('GET', '/v1/devices?fields=name,type').json['items']
        assert items == [{'name': 'd0', 'type': 'mem'}, {'name': 'd1', 'type': 'mem'}], items
        r = o.http('GET', '/v1/devices?fields=name,colour')
        assert r.status == 400 and r.json['errors'][0]['field'] == 'fields', r.body


run(test_a_list_gives_only_the_fields_that_are_asked_for,
    test_an_etag_is_strong_and_changes_with_the_object,
    test_an_etag_does_not_follow_counters_and_users,
    test_a_stale_or_foreign_etag_is_412_and_changes_nothing, test_star_matches_what_exists,
    test_if_none_match_is_304, test_if_none_match_star_makes_only_what_is_not_there,
    test_a_put_that_changes_what_is_there_needs_the_etag, test_a_missing_parent_is_told_before_a_wrong_field,
    test_put_again_changes_nothing, test_lists_come_in_pages)
