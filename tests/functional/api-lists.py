# SPDX-License-Identifier: GPL-2.0-or-later
"""Lists: filters by any field, pages and chosen fields together; ETags that stay over a restart."""
import urllib.parse

from orion import Orion, run

IQN = 'iqn.2026-01.com.example:t0'
PAGING = {'limit', 'cursor', 'fields'}


def build(o):
    for i in range(4):
        o.ctl('device', 'add', 'd%d' % i, '--path', o.file('f%d' % i, (64 + 8 * (i // 2)) << 20))
    o.mem('m0', 'm1', size='8M')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,missing')
    o.ctl('array', 'create', 'a1', '--level', 'raid1', '--members', 'd1,d2')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('pool', 'create', 'p1', '--devices', 'd3')
    for v in ('p0/v0', 'p0/v1', 'p1/v2'):
        o.ctl('volume', 'create', v, '--size', '8M')
    o.nbd('e0', 'p0/v0', '--read-only')
    o.ctl('nbd', 'export', 'e1', '--device', 'p0/v1', '--description', 'some text')
    o.iscsi(IQN, 'p1/v2', 'a1')
    o.ctl('iscsi', 'acl', IQN, 'iqn.2026-01.com.example:i')
    for t, role in (('t0', 'viewer'), ('t1', 'admin'), ('t2', 'viewer')):
        o.ctl('token', 'add', t, '--role', role)


def lists(o):
    """(path, names of the filters) of every list that there is."""
    for path, methods in o.http('GET', '/openapi.json').json['paths'].items():
        schema = methods.get('get', {}).get('responses', {}).get('200', {}).get('content', {})
        properties = schema.get('application/json', {}).get('schema', {}).get('properties', {})
        if 'items' in properties:
            fields = set(properties['items']['items']['properties'])
            query = {p['name'] for p in methods['get']['parameters'] if p['in'] == 'query'}
            assert PAGING < query, path
            yield path.replace('{iqn}', IQN).replace('{pool}', 'p0'), sorted(query & fields)


def text(value):
    return value if isinstance(value, str) else str(value).lower()


def query(path, /, **fields):
    return path + '?' + urllib.parse.urlencode(fields)


def test_every_list_can_be_filtered_by_every_plain_field():
    with Orion() as o:
        build(o)
        tried = 0
        for path, filters in lists(o):
            whole = o.http('GET', path).json['items']
            if path == '/v1/system/inflight':
                continue
            assert filters, path
            for name in filters:
                for value in {text(i[name]) for i in whole if i.get(name) is not None}:
                    got = o.http('GET', query(path, **{name: value}))
                    assert got.status == 200, (path, name, value, got.body)
                    # What counts on by itself may be another by now: as before, or as after.
                    after = o.http('GET', path).json['items']
                    key = next(iter(whole[0]))
                    wants = [[i[key] for i in all if text(i.get(name)) == value] for all in (whole, after)]
                    assert [i[key] for i in got.json['items']] in wants, (path, name, value, wants)
                    tried += 1
        assert tried > 100, tried


def test_filters_pages_and_fields_go_together():
    with Orion() as o:
        build(o)
        seen, cursor = [], ''
        while cursor is not None:
            extra = {'cursor': cursor} if cursor else {}
            r = o.http('GET', query('/v1/devices', type='file', limit=1, fields='size,name', **extra)).json
            assert len(r['items']) == 1 and set(r['items'][0]) == {'name', 'size'}, r
            seen.append(r['items'][0]['name'])
            cursor = r['next']
        assert seen == ['d0', 'd1', 'd2', 'd3']
        both = o.http('GET', query('/v1/arrays', state='degraded', level='raid1')).json
        assert [i['name'] for i in both['items']] == ['a0'] and both['next'] is None
        # A cursor that does not pass the filter any more still tells where to go on.
        r = o.http('GET', query('/v1/devices', type='mem', cursor='d1', limit=1)).json
        assert [i['name'] for i in r['items']] == ['m0'] and r['next'] == 'm0', r
        assert o.http('GET', query('/v1/devices', size='72M')).json['items'][0]['name'] == 'd2'


def test_what_cannot_be_filtered_by_is_named():
    with Orion() as o:
        o.mem('d0')
        for name, value in (('colour', 'red'), ('users', 'x'), ('size', 'big'), ('read_only', 'maybe')):
            r = o.http('GET', query('/v1/devices', **{name: value}))
            assert r.status == 400 and r.json['errors'][0]['field'] == name, (name, r.body)
        r = o.http('GET', query('/v1/devices', colour='red', size='big'))
        assert [e['field'] for e in r.json['errors']] == ['colour', 'size'], r.body


def test_orionctl_filters_as_rest_does():
    with Orion() as o:
        build(o)
        names = [i['name'] for i in o.ctl('device', 'list', '--type', 'mem')['items']]
        assert names == ['m0', 'm1']
        assert o.ctl('array', 'list', '--state', 'degraded', '-o', 'name', '--noheadings',
                     json_out=False).split() == ['a0']
        assert [i['name'] for i in o.ctl('nbd', 'list', '--read-only')['items']] == ['e0']
        assert [i['name'] for i in o.ctl('volume', 'list', 'p1')['items']] == ['p1/v2']
        assert o.run('device', 'list', '--limit', '1').returncode == 2
        assert '--state' in o.run('array', 'list', '--help').stdout


def etags(o):
    tags = {}
    for path, key, item in (('/v1/devices', 'name', '/v1/devices/%s'), ('/v1/arrays', 'name', '/v1/arrays/%s'),
                            ('/v1/pools', 'name', '/v1/pools/%s'), ('/v1/nbd/exports', 'name', '/v1/nbd/exports/%s'),
                            ('/v1/tokens', 'name', '/v1/tokens/%s'),
                            ('/v1/iscsi/targets', 'iqn', '/v1/iscsi/targets/%s'),
                            ('/v1/iscsi/targets/' + IQN + '/luns', 'lun', '/v1/iscsi/targets/' + IQN + '/luns/%s'),
                            ('/v1/iscsi/targets/' + IQN + '/acls', 'initiator',
                             '/v1/iscsi/targets/' + IQN + '/acls/%s')):
        for i in o.http('GET', path).json['items']:
            name = item % i[key]
            tags[name] = o.http('GET', name).headers['ETag']
    for v in ('p0/volumes/v0', 'p1/volumes/v2'):
        tags[v] = o.http('GET', '/v1/pools/' + v).headers['ETag']
    tags['config'] = o.http('GET', '/v1/config').headers['ETag']
    return tags


def test_an_etag_outlives_a_restart():
    with Orion() as o:
        for i in range(4):
            o.ctl('device', 'add', 'd%d' % i, '--path', o.file('f%d' % i, 64 << 20))
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,missing')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        o.ctl('pool', 'create', 'p1', '--devices', 'd3')
        for v in ('p0/v0', 'p1/v2'):
            o.ctl('volume', 'create', v, '--size', '8M')
        o.nbd('e0', 'p0/v0')
        o.iscsi(IQN, 'p1/v2')
        o.ctl('iscsi', 'acl', IQN, 'iqn.2026-01.com.example:i')
        o.ctl('token', 'add', 't0', '--role', 'viewer')
        o.restart()  # what a device carries is looked up when it is opened
        before = etags(o)
        assert len(before) > 12
        for kill in (False, True):
            o.restart(kill)
            now = etags(o)
            assert now == before, [(k, before[k], now.get(k)) for k in before if before[k] != now.get(k)]


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
