# SPDX-License-Identifier: GPL-2.0-or-later
"""What orionctl prints: JSON as REST answers, tables for people."""
import json
import os
import re

from orion import Orion, run, wait_for

IQN = 'iqn.2026-01.com.example:t'


def furnish(o):
    """One of each."""
    o.mem('d0', 'd1', 'd2')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('pool', 'create', 'p', '--devices', 'a0')
    o.ctl('volume', 'create', 'p/v', '--size', '16M')
    o.nbd('x', 'p/v')
    o.iscsi(IQN, 'd2')
    o.ctl('iscsi', 'acl', IQN, 'iqn.2026-01.com.example:i')


SHOWS = (('device', 'd0'), ('array', 'a0'), ('pool', 'p'), ('volume', 'p/v'), ('nbd', 'x'), ('iscsi', IQN))


def columns(o, *verb):
    text = o.ctl(*verb, '--help', json_out=False)
    return set(re.findall(r'^  [* ] (\S+)', text[text.index('Columns'):], re.M))


def test_json_is_what_rest_answers():
    with Orion() as o:
        furnish(o)
        for noun, path in (('device', '/v1/devices'), ('array', '/v1/arrays'), ('pool', '/v1/pools'),
                           ('volume', '/v1/pools/p/volumes'), ('nbd', '/v1/nbd/exports'),
                           ('iscsi', '/v1/iscsi/targets'), ('session', '/v1/sessions'),
                           ('job', '/v1/jobs')):
            # An array goes clean by itself, between two looks too.
            wait_for(lambda: o.ctl(noun, 'list') == o.http('GET', path).json, 60,
                     'orionctl %s list to say what REST says' % noun)
            cli = o.ctl(noun, 'list')
            assert set(cli) == {'items', 'next'} and cli['next'] is None, noun


def test_every_key_is_told_in_the_help():
    with Orion() as o:
        furnish(o)
        for noun, name in SHOWS:
            keys, told = set(o.ctl(noun, 'show', name)), columns(o, noun, 'show')
            told = {k for k in told if '/' not in k} - {'changed', 'notes'}
            assert keys == told, '%s: not told %s, not answered %s' % (noun, keys - told, told - keys)
        for verb in (('status',), ('events',), ('nbd', 'listeners'), ('iscsi', 'portal', 'list')):
            answer = o.ctl(*verb)
            if 'items' in answer:
                answer = answer['items'][0]
            told = {k for k in columns(o, *verb) if '/' not in k} - {'changed'}
            assert set(answer) == told, (verb, set(answer) ^ told)
        lun = o.http('GET', '/v1/iscsi/targets/%s/luns/0' % IQN).json
        assert set(lun) == {'lun', 'device', 'state', 'reason', 'size', 'block_size', 'provisioning',
                            'read_only', 'naa', 'serial'}, lun


def test_sizes_are_bytes_and_times_are_rfc_3339():
    with Orion() as o:
        furnish(o)
        assert o.ctl('device', 'show', 'd0')['size'] == 64 << 20
        assert o.ctl('volume', 'show', 'p/v')['size'] == 16 << 20
        started = o.ctl('status')['started']
        assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)', started), started


def test_tables_are_aligned_and_can_be_cut_down():
    with Orion() as o:
        o.mem('d0')
        o.mem('longer-name', size='1G')
        lines = o.ctl('device', 'list', json_out=False).splitlines()
        assert lines[0].split()[:4] == ['NAME', 'TYPE', 'STATE', 'SIZE'], lines
        assert len({line.index('mem') for line in lines[1:]}) == 1, lines
        text = o.ctl('device', 'list', '--noheadings', '-o', 'name,size', '--units', 'm', json_out=False)
        assert [line.split() for line in text.splitlines()] == [['d0', '64.00'], ['longer-name', '1024.00']]
        text = o.ctl('device', 'show', 'd0', '-o', 'size', '--units=b', json_out=False)
        assert text.split() == ['size', str(64 << 20)], text
        assert o.ctl('device', 'show', 'd0', '-o', 'name') == {'name': 'd0'}
        assert 'UUID' in o.ctl('device', 'list', '-o', '+uuid', json_out=False).splitlines()[0]


def test_options_may_be_joined_or_apart():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--type=mem', '--size=16M')
        o.ctl('device', 'add', 'd1', '--type', 'mem', '--size', '16m')
        assert o.ctl('device', 'show', 'd0')['size'] == o.ctl('device', 'show', 'd1')['size']


def test_a_size_without_a_letter_is_refused_with_a_hint():
    with Orion() as o:
        o.mem('d0', 'd1')
        text = o.ctl('array', 'create', 'a0', '--level', 'raid0', '--members', 'd0,d1', '--chunk', '64',
                     expect=1)
        assert 'chunk' in text and '64K' in text, text
        assert o.ctl('array', 'list')['items'] == []


def test_what_is_taken_but_not_used_is_noted():
    with Orion() as o:
        o.mem('d0', 'd1')
        p = o.run('array', 'create', 'a0', '--level', 'mirror', '--members', 'd0,d1', '--chunk', '64K')
        assert p.returncode == 0 and 'chunk is not used' in p.stderr, p
        assert o.ctl('array', 'show', 'a0')['chunk'] == 0


def test_the_tree_shows_who_stands_on_whom():
    with Orion() as o:
        furnish(o)
        text = o.ctl('tree', json_out=False)
        order = [text.index(word) for word in ('pool p ', 'volume p/v', 'nbd x', 'array a0', 'device d0')]
        assert order == sorted(order), text
        tree = o.ctl('tree')
        assert [n['name'] for n in tree] == ['p', 'd2'], tree
        assert tree[1]['children'][0]['kind'] == 'iscsi', tree
        o.ctl('array', 'fail', 'a0', 'd1')
        text = o.ctl('tree', json_out=False)
        assert 'device d1  faulty mem 64.0 MiB online' in text and 'device (missing)\n' in text, text
        assert not [line for line in text.splitlines() if line != line.rstrip()], text


def test_a_document_is_one_object_and_nothing_behind_it():
    with Orion() as o:
        good = o.ctl('config', 'show', json_out=False)
        path = os.path.join(o.dir, 'file')
        for more, why in ((' \n\t', None), ('x', 'more behind'), (good, 'more behind'), ('\0', 'more behind')):
            with open(path, 'w') as f:
                f.write(good + more)
            p = o.run('plan', path)
            assert (p.returncode == 0) if not why else (p.returncode == 2 and why in p.stderr), (more, p)
        for text, why in (('', 'too early'), ('{"a', 'too early'), ('[]', 'no JSON object'), ('{' * 99, 'JSON')):
            with open(path, 'w') as f:
                f.write(text)
            p = o.run('apply', path)
            assert p.returncode == 2 and why in p.stderr or text.startswith('{{') and p.returncode == 2, (text, p)


def test_config_show_is_json_and_names_everything():
    with Orion() as o:
        furnish(o)
        text = o.ctl('config', 'show', json_out=False)
        json.loads(text)
        for word in ('d0', 'a0', 'p/v', IQN):
            assert '"%s' % word in text or '"%s"' % word.split('/')[-1] in text, (word, text)


def test_versions_are_told_with_and_without_a_daemon():
    with Orion() as o:
        v = o.ctl('version')
        assert v['orionctl'] and v['oriond'] == v['orionctl'], v
        o.stop()
        assert o.ctl('version')['oriond'] is None


def test_events_tell_what_happened():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('array', 'fail', 'a0', 'd1')
        events = o.ctl('events')['items']
        assert any('a0' in e['object'] or 'a0' in e['message'] for e in events), events
        last = events[-1]['id']
        assert o.ctl('events', '--after', last)['items'] == []


def test_nothing_is_in_flight_when_idle():
    with Orion() as o:
        furnish(o)
        assert o.ctl('debug', 'inflight') == {'items': [], 'next': None}


def test_a_new_token_is_printed_on_its_own_line():
    with Orion() as o:
        said = o.ctl('token', 'add', 't', '--role', 'viewer', json_out=False).splitlines()
        assert said[0] == 'token add t: done' and len(said) == 2, said
        answer = o.http('GET', '/v1/devices', headers={'Authorization': 'Bearer ' + said[1]})
        assert answer.status == 200, (said, answer.body)
        again = o.ctl('token', 'add', 't', '--role', 'viewer', json_out=False).splitlines()
        assert again == ['token add t: unchanged'], again


run(*[f for n, f in sorted(globals().items()) if n.startswith('test_')])
