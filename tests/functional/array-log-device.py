# SPDX-License-Identifier: GPL-2.0-or-later
"""A device of its own for the log of an array: made, shown, planned, moved, missed."""
import json
import os

from orion import Orion, run, wait_for

EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}


def files(o, n):
    for i in range(n):
        o.ctl('device', 'add', 'd%d' % i, '--path', '%s/d%d' % (o.dir, i), '--size', '24M')


def plan(o, doc):
    with open(o.dir + '/doc.json', 'w') as f:
        json.dump(doc, f)
    return o.ctl('plan', o.dir + '/doc.json')


def log_of(o, name='a'):
    shown = o.ctl('array', 'show', name)
    return shown['log'], shown['log_device']


def test_it_is_part_of_the_configuration():
    with Orion() as o:
        files(o, 5)
        o.ctl('array', 'create', 'a', '--level', 'raid5', '--members', 'd0,d1,d2', '--log-device', 'd3')
        assert log_of(o) == ('on', 'd3')
        assert 'array a' in str(o.ctl('device', 'show', 'd3')['users'])
        o.ctl('device', 'remove', 'd3', expect=5)
        shown = o.ctl('config', 'show')
        assert shown['arrays']['a']['log_device'] == 'd3', shown['arrays']['a']
        assert plan(o, shown) == EMPTY, plan(o, shown)
        shown['arrays']['a']['log_device'] = 'd4'
        p = plan(o, shown)
        assert [x['name'] for x in p['change']] == ['a'] and not p['replace'], p
        o.ctl('apply', o.dir + '/doc.json', '--yes')
        assert log_of(o) == ('on', 'd4')
        o.ctl('device', 'remove', 'd3')
        o.restart()
        assert log_of(o) == ('on', 'd4')
        assert o.http('GET', '/v1/system').json['problems'] == []


def test_it_is_moved_while_the_array_runs():
    with Orion() as o:
        files(o, 5)
        o.ctl('array', 'create', 'a', '--level', 'raid6', '--members', 'd0,d1,d2,d3')
        assert log_of(o) == ('on', '')
        for how, want in ((['--log-device', 'd4'], ('on', 'd4')), (['--no-log'], ('it is not wanted', '')),
                          (['--log-device', 'd4'], ('on', 'd4')), (['--log-device', ''], ('on', ''))):
            o.ctl('array', 'set', 'a', *how)
            assert log_of(o) == want, (how, log_of(o))
            assert o.ctl('array', 'set', 'a', *how)['changed'] is False
        o.ctl('array', 'set', 'a', '--log-device', 'd0', expect=5)  # a member
        o.ctl('array', 'set', 'a', '--log-device', 'nope', expect=4)
        o.ctl('array', 'set', 'a', '--no-log')
        o.restart()
        assert log_of(o) == ('it is not wanted', '')
        o.ctl('array', 'set', 'a', '--no-log=false')
        assert log_of(o) == ('on', '')


def test_what_belongs_to_somebody_else_is_refused():
    with Orion() as o:
        files(o, 7)
        o.ctl('array', 'create', 'a', '--level', 'raid5', '--members', 'd0,d1,d2', '--log-device', 'd3')
        o.ctl('array', 'stop', 'a')
        o.ctl('device', 'remove', 'd3')
        o.ctl('device', 'add', 'd3', '--path', o.dir + '/d3')
        assert 'log of a RAID array' in o.ctl('device', 'show', 'd3')['signature']
        o.ctl('array', 'create', 'b', '--level', 'raid1', '--members', 'd3,d4', expect=6)
        o.ctl('array', 'create', 'b', '--level', 'raid5', '--members', 'd4,d5,d6', '--log-device', 'd3',
              expect=6)
        o.ctl('array', 'create', 'b', '--level', 'raid1', '--members', 'd4,d5', '--log-device', 'd6',
              expect=1)
        assert [i['started'] for i in o.ctl('array', 'assemble')['items']] == [True]
        assert log_of(o) == ('on', 'd3')  # by its label: nobody remembered
        o.ctl('array', 'delete', 'a', '--yes')
        o.ctl('array', 'create', 'b', '--level', 'raid5', '--members', 'd4,d5,d6', '--log-device', 'd3')


def wait_setting(o, seconds):
    with open(o.config, 'w') as f:
        json.dump({'array_wait': seconds}, f)


def test_it_is_waited_for_and_missed():
    with Orion() as o:
        files(o, 4)
        o.ctl('array', 'create', 'a', '--level', 'raid5', '--members', 'd0,d1,d2', '--log-device', 'd3')
        o.stop()
        wait_setting(o, 600)
        os.rename(o.dir + '/d3', o.dir + '/away')
        o.start()
        a = o.ctl('array', 'show', 'a')
        assert a['state'] == 'inactive' and 'for its log device d3' in a['reason'], a
        os.rename(o.dir + '/away', o.dir + '/d3')
        wait_for(lambda: o.ctl('array', 'show', 'a')['state'] == 'clean', what='the array')
        assert log_of(o) == ('on', 'd3')
        o.stop()
        wait_setting(o, 1)
        os.rename(o.dir + '/d3', o.dir + '/away')
        o.start()
        wait_for(lambda: o.ctl('array', 'show', 'a')['state'] == 'clean', what='the array without its log')
        assert 'log-missing' in [e['kind'] for e in o.http('GET', '/v1/events').json['items']]


run(test_it_is_part_of_the_configuration, test_it_is_moved_while_the_array_runs,
    test_what_belongs_to_somebody_else_is_refused, test_it_is_waited_for_and_missed)
