# SPDX-License-Identifier: GPL-2.0-or-later
"""orionctl speaks TLS to a daemon on another machine: who is trusted, who is known, and events."""
import json
import os
import signal
import subprocess

from orion import Orion, find, free_port, need, run, sh, wait_for

need('openssl')
EC = ('ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes')


class Remote(Orion):
    """A daemon that is reached over TLS only by what these tests run."""

    def __init__(self, ca=False, **more):
        super().__init__(start=False)
        self.certificates()
        self.port = free_port()
        config = {'tls_cert': self.p('server.pem'), 'tls_key': self.p('server.key'), **more}
        if ca:
            config['tls_ca'] = self.p('ca.pem')
        with open(self.config, 'w') as f:
            json.dump(config, f)
        self.args += ['--api', '127.0.0.1:%d' % self.port]
        self.start()
        self.token = self.p('token')
        with open(self.token, 'w') as f:
            f.write(self.ctl('token', 'add', 'ci', '--role', 'operator')['token'] + '\n')

    def p(self, name):
        return os.path.join(self.dir, name)

    def certificates(self):
        for name, subject in (('ca', '/CN=test ca'), ('other', '/CN=another ca')):
            sh('openssl', 'req', '-x509', '-newkey', *EC, '-keyout', self.p(name + '.key'), '-out',
               self.p(name + '.pem'), '-subj', subject, '-days', '2')
        for name, names in (('server', 'IP:127.0.0.1,DNS:localhost'), ('robot', 'DNS:robot')):
            sh('openssl', 'req', '-newkey', *EC, '-keyout', self.p(name + '.key'), '-out', self.p(name + '.csr'),
               '-subj', '/CN=' + name, '-addext', 'subjectAltName=' + names)
            sh('openssl', 'x509', '-req', '-in', self.p(name + '.csr'), '-CA', self.p('ca.pem'), '-CAkey',
               self.p('ca.key'), '-CAcreateserial', '-days', '2', '-copy_extensions', 'copy', '-out',
               self.p(name + '.pem'))

    def remote(self, *args, host='127.0.0.1', env=None, ca='ca.pem', token=True, code=0, text='', api=True):
        """orionctl over TLS; returns its stdout."""
        argv = [find('orionctl')]
        argv += ['--api', '%s:%d' % (host, self.port)] if api else []
        argv += ['--ca', self.p(ca)] if ca else []
        argv += ['--token-file', self.token] if token else []
        p = subprocess.run(argv + [str(a) for a in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           text=True, timeout=120, env=dict(self.env, **(env or {})))
        assert p.returncode == code and text in p.stderr, (args, p.returncode, p.stdout, p.stderr)
        return p.stdout


def a_token_over_tls_does_all_that_its_role_may(o):
    o.remote('device', 'add', 'd0', '--type', 'mem', '--size', '64M')
    o.remote('pool', 'create', 'p0', '--devices', 'd0')
    assert json.loads(o.remote('--json', 'device', 'list', '--type', 'mem'))['items'][0]['name'] == 'd0'
    assert 'd0' in o.remote('tree') and 'ready' in o.remote('status')
    o.remote('pool', 'delete', 'p0', '--yes', code=8, text='operator')
    o.remote('device', 'list', token=False, code=8, text='token')
    o.remote('device', 'show', 'd9', code=4)


def who_is_not_trusted_gets_nothing(o):
    o.remote('device', 'list', ca='other.pem', code=3, text='not to be trusted')
    o.remote('device', 'list', ca=None, code=3, text='not to be trusted')
    o.remote('device', 'list', host='localhost')
    # A name that leads there and is not in the certificate.
    o.remote('device', 'list', host='127.1', code=3, text='not to be trusted')
    o.remote('device', 'list', ca='missing.pem', code=2, text='missing.pem')
    o.remote('device', 'list', '--cert', o.p('robot.pem'), code=2, text='go together')
    o.remote('device', 'list', token=False, env={'ORION_TOKEN_FILE': o.p('nothing')}, code=2, text='nothing')
    log = o.log()
    with open(o.token) as f:
        assert f.read().strip() not in log


def test_over_tls():
    with Remote() as o:
        a_token_over_tls_does_all_that_its_role_may(o)
        who_is_not_trusted_gets_nothing(o)
        environment_and_file_say_where_and_who(o)


def test_a_certificate_says_who_we_are():
    with Remote(ca=True, viewers=['cert:robot']) as o:
        own = ('--cert', o.p('robot.pem'), '--key', o.p('robot.key'))
        o.remote('device', 'list', *own, token=False)
        o.remote('device', 'add', 'd0', '--type', 'mem', '--size', '1M', *own, token=False, code=8, text='viewer')
        o.remote('device', 'list', token=False, code=3)


def environment_and_file_say_where_and_who(o):
    env = {'ORION_API': 'https://localhost:%d' % o.port, 'ORION_CA': o.p('ca.pem'),
           'ORION_TOKEN_FILE': o.token}
    o.remote('device', 'list', env=env, api=False, ca=None, token=False)
    with open(o.token) as f:
        secret = f.read().strip()
    env = {'ORION_API': env['ORION_API'], 'ORION_CA': env['ORION_CA'], 'ORION_TOKEN': secret}
    o.remote('device', 'list', env=env, api=False, ca=None, token=False)
    os.mkdir(o.p('orion'))
    env = {'XDG_CONFIG_HOME': o.dir}
    with open(o.p('orion/orionctl.json'), 'w') as f:
        json.dump({'api': 'localhost:%d' % o.port, 'ca': o.p('ca.pem'), 'token_file': o.token}, f)
    o.remote('device', 'list', env=env, api=False, ca=None, token=False)
    # What is nearer wins: the environment over the file, an option over both.
    o.remote('device', 'list', env=dict(env, ORION_API='127.0.0.1:1'), api=False, ca=None, token=False, code=3)
    o.remote('device', 'list', env=dict(env, ORION_API='127.0.0.1:1'), ca=None, token=False)
    with open(o.p('orion/orionctl.json'), 'w') as f:
        json.dump({'url': 'x'}, f)
    o.remote('device', 'list', env=env, api=False, ca=None, token=False, code=2, text='token_file')


def follow(o, *args):
    return subprocess.Popen([find('orionctl'), '--api', '127.0.0.1:%d' % o.port, '--ca', o.p('ca.pem'), '--token-file',
                             o.token, '--json', 'events', '--follow', *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=o.env)


def until(p, kind):
    """The next event of this kind: others come between."""
    while True:
        event = json.loads(p.stdout.readline())
        if event['kind'] == kind:
            return event


def test_events_are_followed_without_loss_over_a_restart():
    with Remote() as o:
        o.mem('d0', 'd1', size='16M')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
        p = follow(o)
        only = follow(o, '--kind', 'member-failed')
        until(p, 'array-created')
        wait_for(lambda: len([s for s in o.fds() if 'socket' in s]) > 0)
        o.ctl('array', 'fail', 'a0', 'd1')
        event = until(p, 'member-failed')
        assert event['new_state'] == 'degraded', event
        assert json.loads(only.stdout.readline())['kind'] == 'member-failed'
        only.send_signal(signal.SIGTERM)
        only.communicate(timeout=60)
        o.stop()
        rest, err = p.communicate(timeout=60)
        assert p.returncode == 3 and b'cannot reach' in err, (p.returncode, err)
        kinds = [json.loads(line)['kind'] for line in rest.splitlines()]
        assert 'array-created' not in kinds, kinds
        o.start()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
