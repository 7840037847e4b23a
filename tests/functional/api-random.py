# SPDX-License-Identifier: GPL-2.0-or-later
"""Random and mutated requests: every one is answered, none ends the daemon or leaks; those of who may
only see change nothing, whatever their bytes."""
import json
import os
import random
import re
import socket

from orion import FULL, Orion, UnixHTTP, run

SEED = int(os.environ.get('ORION_SEED', '7'))
ROUNDS = 20000 if FULL else 2500
MUTANTS = 10000 if FULL else 800
IQN = 'iqn.2026-01.com.example:t0'
WORDS = ['d0', 'd1', 'd2', 'a0', 'p0', 'v0', 'e0', IQN, '0', '1', '16384', 'missing', '', '.', '..', '/',
         'x' * 33, 'x' * 300, 'x' * 5000, '%00', '%', 'unix:/', 'unix:' + 'y' * 200, '127.0.0.1', '[::1]:0',
         '1.2.3.4:99999', '\u00e4', '\U0001f600', '-1', '18446744073709551616', 'null', 'raid1', 'p0/v0',
         'p0/', '/v0', 'a/b/c', '1G', '1e9', '0x10', '\n', '\t', "'", '"', '\\', '${x}', '$(x)', 'NaN']
GOOD = {'name': ['d0', 'd1', 'd2', 'a0', 'a1', 'p0', 'p1', 'e0', 'e1', 'm0', 'm1', 'm2', 'm3'],
        'pool': ['p0', 'p1'], 'volume': ['v0', 'v1', 'v2'], 'iqn': [IQN, IQN + 'x'], 'lun': ['0', '1', '7'],
        'initiator': ['iqn.2026-01.com.example:i'], 'id': ['1', '2'], 'addr': ['127.0.0.1:0'],
        'type': ['mem', 'null'], 'size': ['8M', '16M', 8 << 20, '1G'], 'level': ['raid0', 'raid1', '1'],
        'members': [['m0', 'm1'], ['m1', 'm2'], ['m2', 'missing']], 'devices': [['m3'], ['a1'], ['m0', 'm2']],
        'device': ['p0/v0', 'p0/v1', 'm0', 'd2', 'a1'], 'member': ['m0', 'm1', 'd0', 'd1'],
        'chunk': ['64K'], 'extent_size': ['1M'], 'provisioning': ['thin', 'full'], 'alias': ['x'],
        'description': ['y'], 'array': ['a1'], 'as': ['a2'], 'rules': ['x'], 'block_size': [512, 4096]}
SIZES = [0, 1, -1, 511, 512, 4096, 1 << 20, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, 1.5,
         1e300]


def value(rng, depth=0):
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(WORDS)
    if kind == 3:
        return rng.choice(SIZES)
    if kind == 4:
        return rng.choice((True, False, None))
    if kind == 5 and depth < 3:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == 6 and depth < 3:
        return {rng.choice(WORDS): value(rng, depth + 1) for _ in range(rng.randrange(3))}
    return rng.choice(WORDS)


def body(rng, op):
    schema = list(op['requestBody']['content'].values())[0]['schema']
    names = list(schema['properties']) + ['frob']
    out = {n: rng.choice(GOOD[n]) if n in GOOD and rng.random() < 0.8 else
           (rng.random() < 0.5 if rng.random() < 0.7 else value(rng))
           for n in names if n in schema.get('required', []) + ['type', 'size'] or rng.random() < 0.2}
    if rng.random() < 0.7:
        out.pop('frob', None)
    text = json.dumps(out, ensure_ascii=rng.random() < 0.5).encode('utf-8', 'surrogatepass')
    if rng.random() < 0.1:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(3))) + text[at + 1:]
    return text


def quote(rng, word):
    if rng.random() < 0.8:
        return re.sub(rb'[^A-Za-z0-9_.~:-]', lambda m: b'%%%02X' % m[0][0], word.encode()).decode()
    return re.sub(r'[^!-~]', '', word)


def request(rng, doc):
    ops = [(p, m, op) for p, methods in doc['paths'].items() for m, op in methods.items()]
    path, method, op = rng.choice(rng.choice(([o for o in ops if o[1] != 'get'], ops)))
    real = re.sub(r'\{(\w+)\}', lambda m: quote(rng, rng.choice(
        GOOD.get(m[1], WORDS) if rng.random() < 0.8 else WORDS)), path)
    if 'requestBody' not in op and rng.random() < 0.5:
        real += '?' + '&'.join('%s=%s' % (quote(rng, rng.choice(['yes', 'force', 'limit', 'cursor'])),
                                          quote(rng, rng.choice(WORDS + ['true'] * 20)))
                               for _ in range(rng.randrange(3)))
    headers = {}
    if method != 'put' and rng.random() < 0.8:
        headers['If-Match'] = rng.choice(('*', '*', '*', '*', '"x"', '', ',,,', '"' + 'a' * 500))
    data = None
    if 'requestBody' in op:
        data = body(rng, op)
        headers['Content-Type'] = rng.choice(list(op['requestBody']['content']) * 9 + ['text/plain'])
    if rng.random() < 0.02:
        method = rng.choice(('patch', 'options', 'trace', 'frob'))
    return method.upper(), real, data, headers


def safe(method, real, data):
    """Leaves out what would listen on other addresses or touch files outside the test."""
    return not (method == 'PUT' and ('/portals/' in real or '/listeners/' in real)) and \
        not (data and b'path' in data)


def test_every_request_is_answered():
    rng = random.Random(SEED)
    print('seed', SEED, flush=True)
    with Orion() as o:
        doc = build(o)
        c = UnixHTTP(o.api)
        seen = {}
        for i in range(ROUNDS):
            method, real, data, headers = request(rng, doc)
            if not safe(method, real, data):
                continue
            try:
                c.request(method, real, data, headers)
                r = c.getresponse()
                text = r.read()
            except Exception as e:
                raise AssertionError((i, method, real, data, headers)) from e
            seen[r.status] = seen.get(r.status, 0) + 1
            assert r.status < 500 or r.status == 507, (i, method, real, data, r.status, text)
            if r.status >= 400 and r.headers.get('Content-Type') == 'application/problem+json':
                assert json.loads(text)['detail'], (method, real, text)
            if r.getheader('Connection') == 'close':
                c.close()
        c.close()
        print(sorted(seen.items()), flush=True)
        assert len(seen) > 6, seen
        o.restart()


def build(o):
    o.mem('d0', 'd1', 'd2')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('pool', 'create', 'p0', '--devices', 'a0')
    o.ctl('volume', 'create', 'p0/v0', '--size', '8M')
    o.nbd('e0', 'p0/v0')
    o.iscsi(IQN, 'd2')
    return o.http('GET', '/openapi.json').json


def mutated(rng, text):
    out = bytearray(text)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        at = rng.randrange(len(out) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            out[at:at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            out[at:at] = rng.choice((b'\r\n', b'\n', b' ', b':', b'%', b'\x00', b'\xff', b'&', b'=', b'"', b'x' * 9000))
        elif kind == 2:
            del out[at:at + rng.randrange(1, 9)]
        else:
            out[at:at] = out[at // 2:at]
    return bytes(out)


def mutant(rng, doc, token):
    """The bytes of a request. The line with the token is whole: without it the test's own user asks."""
    method, path, data, headers = request(rng, doc)
    if rng.random() < 0.2:
        method, data = 'GET', None
        path = '/v1/events' + rng.choice(('', '?kind=x', '?fields=id', '?after=0', '?limit=1', '?nonsense', '?after=x'))
        headers = {'Accept': 'text/event-stream', 'Last-Event-ID': rng.choice(('', '1-1', 'x', '9' * 40, '-1--1'))}
    if data is not None:
        headers['Content-Length'] = str(len(data) if rng.random() < 0.9 else rng.choice((0, 1, -1, 1 << 70)))
    rest = b'Host: x\r\n' + ''.join('%s: %s\r\n' % h for h in headers.items()).encode() + b'\r\n' + (data or b'')
    line = ('%s %s HTTP/1.1' % (method, path)).encode('utf-8', 'surrogatepass')
    return mutated(rng, line) + b'\r\nAuthorization: Bearer ' + token.encode() + b'\r\n' + mutated(rng, rest)


def everything(o):
    items = ('config', 'system/log', 'devices/d0', 'arrays/a0', 'pools/p0', 'pools/p0/volumes/v0', 'nbd/exports/e0',
             'iscsi/targets/' + IQN)
    seen = {p: o.http('GET', '/v1/' + p).headers['ETag'] for p in items}
    for p in ('config', 'tokens', 'sessions'):
        seen[p + ' whole'] = o.http('GET', '/v1/' + p).json
    seen['jobs'] = [j['id'] for j in o.http('GET', '/v1/jobs').json['items']]
    return seen


def test_who_may_only_see_changes_nothing_by_any_bytes():
    rng = random.Random(SEED)
    with Orion() as o:
        doc = build(o)
        token = o.ctl('token', 'add', 'eye', '--role', 'viewer')['token']
        before, answers = everything(o), {}
        o.fds_mark()
        for _ in range(MUTANTS):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(0.05)  # what is no whole request has no answer to be waited for
                s.connect(o.api)
                try:
                    s.sendall(mutant(rng, doc, token))
                    status = s.recv(12)[9:12]
                except OSError:
                    status = b''
            answers[status] = answers.get(status, 0) + 1
        print(sorted(answers.items()), flush=True)
        assert b'500' not in answers, answers
        o.fds_check()  # all have been looked at
        with open(o.state + '/audit.log') as f:
            refused = [line for line in f if '"who":"token:eye"' in line]
        assert len(refused) > MUTANTS // 50, '%d requests came as far as to a verb' % len(refused)
        after = everything(o)
        assert after == before, [(before[p], after[p]) for p in before if before[p] != after[p]]
        assert o.ctl('audit', 'verify')['good']


run(test_every_request_is_answered, test_who_may_only_see_changes_nothing_by_any_bytes)
