# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL at the steps of verbs: each record that is saved and each write that a disk gets is one.

Afterwards the daemon stands before the verb or behind it, and the verb asked for again ends behind it.
VERBS has every verb of the API that changes anything: one that is missing fails the test."""
import os
import shutil
import urllib.parse

IQN, HOST = 'iqn.2026-01.org.example:k', 'iqn.2026-01.org.example:h'
SECRET = {'chap_user': 'u', 'chap_secret': 'twelve bytes or more'}
SIZE = 64 << 20


def t(more=''):
    return '/v1/iscsi/targets/' + IQN + more


VERBS = [
    ('PUT', '/v1/devices/{name}', '/v1/devices/m0', {'type': 'mem', 'size': '1M'}),
    ('DELETE', '/v1/devices/{name}', '/v1/devices/d9', None),
    ('PUT', '/v1/arrays/{name}', '/v1/arrays/a9', {'level': 'raid1', 'members': ['d2', 'd3']}),
    ('DELETE', '/v1/arrays/{name}', '/v1/arrays/a1?yes=true', None),
    ('PATCH', '/v1/arrays/{name}', '/v1/arrays/a0', {'read_errors_max': 9}),
    ('POST', '/v1/arrays/actions/assemble', '/v1/arrays/actions/assemble', {'array': 'a2'}),
    ('POST', '/v1/arrays/{name}/actions/stop', '/v1/arrays/a1/actions/stop', None),
    ('POST', '/v1/arrays/{name}/actions/fail', '/v1/arrays/a0/actions/fail', {'member': 'd1'}),
    ('POST', '/v1/arrays/{name}/actions/add', '/v1/arrays/a0/actions/add', {'device': 'd2'}),
    ('POST', '/v1/arrays/{name}/actions/remove', '/v1/arrays/a0/actions/remove', {'member': 'd1'}),
    ('PUT', '/v1/pools/{name}', '/v1/pools/p9', {'devices': ['d9']}),
    ('DELETE', '/v1/pools/{name}', '/v1/pools/p1?yes=true', None),
    ('POST', '/v1/pools/actions/import', '/v1/pools/actions/import', {'pool': 'p2'}),
    ('POST', '/v1/pools/{name}/actions/extend', '/v1/pools/p0/actions/extend', {'devices': ['d9']}),
    ('POST', '/v1/pools/{name}/actions/stop', '/v1/pools/p1/actions/stop', None),
    ('PUT', '/v1/pools/{pool}/volumes/{volume}', '/v1/pools/p0/volumes/v9', {'size': '8M'}),
    ('PATCH', '/v1/pools/{pool}/volumes/{volume}', '/v1/pools/p0/volumes/v1', {'size': '12M'}),
    ('DELETE', '/v1/pools/{pool}/volumes/{volume}', '/v1/pools/p0/volumes/v1?yes=true', None),
    ('POST', '/v1/pools/{pool}/volumes/{volume}/actions/resize', '/v1/pools/p0/volumes/v1/actions/resize',
     {'size': '16M'}),
    ('PUT', '/v1/nbd/listeners/{addr}', '/v1/nbd/listeners/127.0.0.1:0', {}),
    ('DELETE', '/v1/nbd/listeners/{addr}', '/v1/nbd/listeners/{socket}', None),
    ('PUT', '/v1/nbd/exports/{name}', '/v1/nbd/exports/e9', {'device': 'p0/v1'}),
    ('PATCH', '/v1/nbd/exports/{name}', '/v1/nbd/exports/e0', {'description': 'x', 'open': True}),
    ('DELETE', '/v1/nbd/exports/{name}', '/v1/nbd/exports/e0', None),
    ('PUT', '/v1/iscsi/portals/{addr}', '/v1/iscsi/portals/127.0.0.1:0', {}),
    ('DELETE', '/v1/iscsi/portals/{addr}', '/v1/iscsi/portals/{iscsi}', None),
    ('PUT', '/v1/iscsi/targets/{iqn}', t('9'), {'alias': 'x'}),
    ('PATCH', '/v1/iscsi/targets/{iqn}', t(), {'alias': 'x'}),
    ('DELETE', '/v1/iscsi/targets/{iqn}', t(), None),
    ('PUT', '/v1/iscsi/targets/{iqn}/luns/{lun}', t('/luns/9'), {'device': 'p0/v1'}),
    ('DELETE', '/v1/iscsi/targets/{iqn}/luns/{lun}', t('/luns/0'), None),
    ('PUT', '/v1/iscsi/targets/{iqn}/acls/{initiator}', t('/acls/%s9' % HOST), SECRET),
    ('PATCH', '/v1/iscsi/targets/{iqn}/acls/{initiator}', t('/acls/' + HOST), SECRET),
    ('DELETE', '/v1/iscsi/targets/{iqn}/acls/{initiator}', t('/acls/' + HOST), None),
    ('POST', '/v1/iscsi/targets/{iqn}/acls/{initiator}/actions/set', t('/acls/%s/actions/set' % HOST), SECRET),
    ('PUT', '/v1/iscsi/targets/{iqn}/groups/{group}', t('/groups/1'), {'state': 'standby'}),
    ('DELETE', '/v1/iscsi/targets/{iqn}/groups/{group}', t('/groups/2'), None),
    ('PUT', '/v1/iscsi/discovery-auth', '/v1/iscsi/discovery-auth', SECRET),
    ('PATCH', '/v1/iscsi/discovery-auth', '/v1/iscsi/discovery-auth', SECRET),
    ('DELETE', '/v1/iscsi/discovery-auth', '/v1/iscsi/discovery-auth', None),
    ('PUT', '/v1/tokens/{name}', '/v1/tokens/t9', {'role': 'viewer'}),
    ('DELETE', '/v1/tokens/{name}', '/v1/tokens/t0', None),
]
# What changes nothing that is kept, or is made of the verbs above.
OTHERS = {
    'POST /v1/devices/actions/scan': 'reads', 'POST /v1/config/actions/plan': 'reads',
    'POST /v1/config/actions/apply': 'a job of the verbs above; each of its steps is one of them',
    'DELETE /v1/sessions/{id}': 'not kept', 'POST /v1/jobs/{id}/actions/cancel': 'not kept',
    'PATCH /v1/system/log': 'not kept', 'POST /v1/system/log/actions/set': 'not kept',
    'POST /v1/arrays/{name}/actions/scrub': 'a job that changes nothing',
    'POST /v1/arrays/{name}/actions/repair': 'a job; what it writes is tested by oracle/raid-parity',
    'POST /v1/arrays/{name}/actions/re-add': 'needs a device that went and came: functional/array-care',
    'POST /v1/arrays/{name}/actions/grow': 'devices are spares first; cut short: unit/raid/grow, oracle/raid-grow',
    'POST /v1/pools/{name}/actions/grow': 'needs a device that grew; cut short: unit/volumes/cuts, oracle/volumes-lvm',
    'POST /v1/arrays/{name}/actions/replace': 'a job; cut short it goes on: functional/array-life',
}


def missing(o):
    """Verbs of the tables that are told of nowhere here."""
    known = {'%s %s' % v[:2] for v in VERBS} | set(OTHERS)
    for path, methods in o.http('GET', '/openapi.json').json['paths'].items():
        yield from ('%s %s' % (m.upper(), path) for m in methods if m != 'get' and
                    '%s %s' % (m.upper(), path) not in known)


class Box:
    """A daemon with something of everything, and its state and disks as they are before each verb."""

    def __init__(self, o):
        self.o = o
        for i in range(12):
            o.ctl('device', 'add', 'd%d' % i, '--path', o.file('f%02d' % i, SIZE))
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        o.ctl('array', 'create', 'a1', '--level', 'raid1', '--members', 'd4,d5')
        o.ctl('array', 'create', 'a2', '--level', 'raid1', '--members', 'd6,d7')
        o.ctl('array', 'stop', 'a2')
        o.ctl('pool', 'create', 'p0', '--devices', 'a0')
        o.ctl('pool', 'create', 'p1', '--devices', 'd8')
        o.ctl('pool', 'create', 'p2', '--devices', 'd10')
        o.ctl('pool', 'stop', 'p2')
        for v in ('p0/v0', 'p0/v1'):
            o.ctl('volume', 'create', v, '--size', '8M')
        o.nbd('e0', 'p0/v0')
        self.iscsi = 'unix:' + os.path.join(o.dir, 'iscsi.sock')
        o.ctl('iscsi', 'portal', 'add', self.iscsi, '--group', '2')
        o.ctl('iscsi', 'create', IQN)
        o.ctl('iscsi', 'lun', IQN, '0', '--device', 'p0/v0')
        o.ctl('iscsi', 'acl', IQN, HOST)
        o.ctl('iscsi', 'alua', IQN, '2', '--state', 'standby')
        assert o.http('PUT', '/v1/iscsi/discovery-auth', dict(SECRET, chap_user='before')).status < 300
        o.ctl('token', 'add', 't0', '--role', 'viewer')
        assert not list(missing(o)), 'no kill points are tried of ' + ', '.join(missing(o))
        self.before = self.seen()
        o.stop()
        self.folder = os.path.join(o.dir, 'kept')
        os.makedirs(self.folder)
        os.system('cp -a --sparse=always %s/state %s/f?? %s/' % (o.dir, o.dir, self.folder))

    def put_back(self):
        shutil.rmtree(self.o.state)
        os.system('cp -a --sparse=always %s/state %s/' % (self.folder, self.o.dir))
        for name in os.listdir(self.folder):
            if name.startswith('f'):  # the same inode: it is the identity of the device
                os.system('cp --sparse=always --no-preserve=all %s/%s %s/%s' % (
                    self.folder, name, self.o.dir, name))

    def seen(self):
        """All that a person has set, and how many there are of what."""
        tokens = [i['name'] for i in self.o.http('GET', '/v1/tokens').json['items']]
        system = self.o.http('GET', '/v1/system').json
        counts = {k: v for k, v in system['counts'].items() if k != 'sessions'}
        return self.o.http('GET', '/v1/config').json, tokens, counts

    def ask(self, verb):
        """The status of the verb, None when the daemon died of it."""
        method, _, path, body = verb
        quote = lambda a: urllib.parse.quote(a, '')
        path = path.replace('{socket}', quote('unix:%s/nbd.sock' % self.o.dir)).replace(
            '{iscsi}', quote(self.iscsi))
        try:
            r = self.o.http(method, path, body, {'If-Match': '*'} if method != 'PUT' else {})
            if method == 'PUT' and r.status == 428:  # of what is there: a change, as orionctl does it
                r = self.o.http(method, path, body, {'If-Match': '*'})
            return r.status
        except OSError:
            return None
        except Exception as e:  # http.client's own ways to say that the other side has gone
            if type(e).__module__ == 'http.client':
                return None
            raise

    def start(self, kill_at=0):
        self.o.env['ORION_TEST_KILL_AT'] = str(kill_at)
        self.o.start()
        self.o.env.pop('ORION_TEST_KILL_AT')

    def run_whole(self, verb):
        """What stands behind the verb."""
        self.put_back()
        self.start()
        status = self.ask(verb)
        assert status in (200, 201, 202, 204), (verb, status, self.o.log()[-2000:])
        after = self.seen()
        self.o.kill9()
        return after

    def kill_at(self, verb, step, after):
        """False: the verb has fewer steps."""
        self.put_back()
        self.start(step)
        if self.ask(verb) is not None:
            self.o.kill9()
            return False
        self.o.proc.wait(60)
        assert self.o.proc.returncode == -9, (verb, step, self.o.proc.returncode, self.o.log()[-3000:])
        self.o.proc = None
        self.o.start()
        now = self.seen()
        assert now in (self.before, after), (verb, step, now, self.before, after)
        self.ask(verb)  # again: it is done, or was done and is refused
        now = self.seen()
        assert now == after, (verb, step, 'again', now, after)
        self.o.kill9()
        return True
