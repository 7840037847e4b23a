# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGHUP: roles, log level and TLS files are read anew, and nobody is cut off by it."""
import http.client
import json
import os
import signal
import ssl

from iscsiwire import Initiator
from orion import Orion, free_port, need, run, sh, wait_for

need('openssl')
IQN = 'iqn.2026-11.test:reload'


class Box(Orion):
    def __init__(self):
        super().__init__(start=False)
        self.port = free_port()
        self.authority()
        self.certificate('server', 'first')
        self.certificate('robot', 'robot')
        self.settings(viewers=['cert:robot'])
        self.args += ['--api', '127.0.0.1:%d' % self.port]
        self.start()

    def p(self, name):
        return os.path.join(self.dir, name)

    def authority(self):
        sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
           self.p('ca.key'), '-out', self.p('ca.pem'), '-subj', '/CN=test ca', '-days', '2')

    def certificate(self, file, name):
        sh('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
           self.p('new.key'), '-out', self.p('new.csr'), '-subj', '/CN=' + name, '-addext',
           'subjectAltName=IP:127.0.0.1')
        sh('openssl', 'x509', '-req', '-in', self.p('new.csr'), '-CA', self.p('ca.pem'), '-CAkey', self.p('ca.key'),
           '-CAcreateserial', '-copy_extensions', 'copy', '-days', '2', '-out', self.p('new.pem'))
        os.rename(self.p('new.key'), self.p(file + '.key'))
        os.rename(self.p('new.pem'), self.p(file + '.pem'))

    def settings(self, text=None, **more):
        with open(self.config, 'w') as f:
            f.write(text or json.dumps(dict(more, tls_cert=self.p('server.pem'), tls_key=self.p('server.key'),
                                            tls_ca=self.p('ca.pem'))))

    def reload(self):
        said = self.log().count('configuration')
        self.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count('configuration') > said, what='the reload')

    def client(self):
        context = ssl.create_default_context(cafile=self.p('ca.pem'))
        context.load_cert_chain(self.p('robot.pem'), self.p('robot.key'))
        c = http.client.HTTPSConnection('127.0.0.1', self.port, context=context, timeout=60)
        c.connect()
        return c


def ask(c, method, path, body=None):
    c.request(method, path, json.dumps(body) if body else None, {'Content-Type': 'application/json'})
    r = c.getresponse()
    r.read()
    return r.status


def name_of(c):
    return dict(x[0] for x in c.sock.getpeercert()['subject'])['commonName']


def test_reload_changes_roles_level_and_certificates_and_cuts_nobody_off():
    with Box() as o:
        o.mem('m0')
        session = Initiator(o.iscsi(IQN, 'm0'), IQN)
        session.ready()
        old = o.client()
        body = {'type': 'null', 'size': '1M'}
        assert ask(old, 'GET', '/v1/devices') == 200 and ask(old, 'PUT', '/v1/devices/n0', body) == 403
        o.settings(operators=['cert:robot'], log='debug')
        o.certificate('server', 'second')
        o.reload()
        assert ask(old, 'PUT', '/v1/devices/n0', body) == 201, 'the role holds for who is connected, too'
        assert o.ctl('log-level', 'show')['level'] == 'debug'
        new = o.client()
        assert (name_of(old), name_of(new)) == ('first', 'second')
        o.settings('{"operators": 7}')
        o.reload()
        assert 'stays as it was' in o.log() and ask(new, 'PUT', '/v1/devices/n1', body) == 201
        o.settings()
        o.reload()
        assert ask(old, 'GET', '/v1/devices') == 401 and ask(new, 'GET', '/v1/devices') == 401
        session.ready()
        assert len(o.ctl('session', 'list')['items']) == 1
        session.logout()
        old.close()
        new.close()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
