# SPDX-License-Identifier: GPL-2.0-or-later
"""The OpenAPI document says what the API does."""
import re

from orion import Orion, run

IQN = 'iqn.2026-01.com.example:t0'


def build(o):
    o.mem('d0', 'd1', 'd2')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
    o.nbd('e0', 'p0/v0')
    o.iscsi(IQN, 'd2')
    o.ctl('iscsi', 'acl', IQN, 'iqn.2026-01.com.example:i')


def resolve(doc, node):
    while '$ref' in node:
        assert node['$ref'].startswith('#/'), node
        for part in node['$ref'][2:].split('/'):
            doc_node = doc if part == node['$ref'][2:].split('/')[0] else doc_node
            doc_node = doc_node[part]
        node = doc_node
    return node


def test_the_document_is_whole():
    with Orion() as o:
        doc = o.http('GET', '/openapi.json').json
        assert doc['openapi'].startswith('3.1') and doc['info']['title'] and doc['info']['version']
        ids = []
        for path, methods in doc['paths'].items():
            assert path.startswith('/'), path
            for method, op in methods.items():
                assert method in ('get', 'put', 'patch', 'post', 'delete'), method
                ids.append(op['operationId'])
                assert re.fullmatch('[A-Za-z]+', op['operationId']), op['operationId']
                named = [p['name'] for p in op['parameters'] if p['in'] == 'path']
                assert named == re.findall(r'\{(\w+)\}', path), (path, named)
                assert op['summary'] and op['responses']['default'], path
                for r in op['responses'].values():
                    assert resolve(doc, r)['description']
        assert len(ids) == len(set(ids)), sorted(ids)


def test_every_answer_has_the_fields_of_the_document_and_no_others():
    with Orion() as o:
        build(o)
        doc = o.http('GET', '/openapi.json').json
        o.ctl('token', 'add', 't0', '--role', 'viewer')
        values = {'iqn': IQN, 'pool': 'p0', 'volume': 'v0', 'initiator': 'iqn.2026-01.com.example:i',
                  'lun': '0', 'group': '1'}
        names = {'/v1/devices/': 'd0', '/v1/arrays/': 'a0', '/v1/pools/': 'p0', '/v1/nbd/exports/': 'e0',
                 '/v1/tokens/': 't0'}
        seen = 0
        for path, methods in doc['paths'].items():
            if 'get' not in methods or path == '/v1/config' or '{id}' in path or '{addr}' in path:
                continue
            real = re.sub(r'\{(\w+)\}', lambda m: values.get(m[1]) or names[path[:m.start()]], path)
            r = o.http('GET', real)
            assert r.status == 200, (real, r.body)
            schema = methods['get']['responses']['200']['content']['application/json']['schema']
            items = [r.json]
            if 'items' in schema['properties']:
                items = r.json['items']
                schema = schema['properties']['items']['items']
            known = set(schema['properties'])
            for item in items:
                seen += 1
                assert set(item) <= known, (path, set(item) - known)
        assert seen > 12, seen


def test_paths_answer_as_the_document_says():
    with Orion() as o:
        doc = o.http('GET', '/openapi.json').json
        for path, methods in doc['paths'].items():
            real = re.sub(r'\{\w+\}', 'x1', path)
            for method in ('GET', 'PUT', 'PATCH', 'POST', 'DELETE'):
                status = o.http(method, real).status
                if method.lower() in methods:
                    assert status != 405, (method, real, status)
                else:
                    # Two patterns may fit one path: a name may be called "actions".
                    assert status in (404, 405), (method, real, status)


run(test_the_document_is_whole, test_every_answer_has_the_fields_of_the_document_and_no_others,
    test_paths_answer_as_the_document_says)
