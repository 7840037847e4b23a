# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Who may do what: tokens, roles, certificates over TLS, failures; and the record of it all."""
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import time

from orion import Orion, UnixHTTP, Result, free_port, run, sh, wait_for


def token(o, name, role, days=1):
    return o.http('PUT', '/v1/tokens/' + name, {'role': role, 'days': days}).json['token']


def ask(o, secret, method, path, body=None, match=None):
    headers = {'Authorization': 'Bearer ' + secret}
    if match:
        headers['If-Match'] = match
    return o.http(method, path, body, headers)


def records(o):
    with open(os.path.join(o.state, 'audit.log')) as f:
        return [json.loads(line.split(' ', 1)[1]) for line in f]


def test_a_role_may_what_its_table_says():
    with Orion() as o:
        mem = {'type': 'mem', 'size': '64M'}
        viewer, operator, admin = [token(o, r, r) for r in ('viewer', 'operator', 'admin')]
        assert ask(o, viewer, 'GET', '/v1/devices').status == 200
        assert ask(o, viewer, 'POST', '/v1/config/actions/plan', {'config': {}}).status == 200
        r = ask(o, viewer, 'PUT', '/v1/devices/d0', mem)
        assert r.status == 403 and r.json['code'] == 'denied' and 'operator' in r.json['detail'], r.body
        assert ask(o, viewer, 'GET', '/v1/tokens').status == 403
        assert ask(o, operator, 'PUT', '/v1/devices/d0', mem).status == 201
        assert ask(o, operator, 'PUT', '/v1/pools/p0', {'devices': ['d0']}).status == 201
        assert ask(o, operator, 'PUT', '/v1/pools/p0/volumes/v0', {'size': '8M'}).status == 201
        path = '/v1/pools/p0/volumes/v0'
        assert ask(o, operator, 'DELETE', path + '?yes=true', match='*').status == 403
        assert ask(o, operator, 'PUT', '/v1/tokens/more', {'role': 'admin'}).status == 403
        assert ask(o, admin, 'DELETE', path + '?yes=true', match='*').status == 204
        assert ask(o, admin, 'PUT', '/v1/tokens/more', {'role': 'viewer'}).status == 201


def test_a_token_is_told_once_hashed_at_rest_and_can_be_revoked():
    with Orion() as o:
        made = o.ctl('token', 'add', 'ci', '--role', 'viewer', '--days', '2')
        secret = made['token']
        assert ask(o, secret, 'GET', '/v1/system').status == 200
        again = o.ctl('token', 'add', 'ci', '--role', 'viewer')
        assert again['changed'] is False and not again.get('token')
        o.ctl('token', 'add', 'ci', '--role', 'admin', expect=5)
        assert o.ctl('token', 'add', 'ci', '--role', 'viewer', '--days', '2')['changed'] is False
        assert 'days 2, not 3' in o.ctl('token', 'add', 'ci', '--role', 'viewer', '--days', '3', expect=5)
        r = o.http('PUT', '/v1/tokens/ci', {'role': 'viewer', 'days': 3})
        assert r.status == 409 and r.json['errors'][0]['field'] == 'days', r.body
        assert 'token' not in o.http('GET', '/v1/tokens/ci').json
        for folder, _, files in os.walk(o.state):
            for name in files:
                with open(os.path.join(folder, name), 'rb') as f:
                    assert secret.rsplit('_', 1)[1].encode() not in f.read(), name
        assert secret not in o.log()
        o.restart(kill=True)
        assert ask(o, secret, 'GET', '/v1/system').status == 200
        o.ctl('token', 'remove', 'ci')
        r = ask(o, secret, 'GET', '/v1/system')
        assert r.status == 401 and r.headers['WWW-Authenticate'] == 'Bearer'


def test_wrong_tokens_are_refused_and_soon_not_even_looked_at():
    with Orion() as o:
        good = token(o, 'ci', 'viewer')
        wrong = good[:-1] + ('0' if good[-1] != '0' else '1')
        status = [ask(o, wrong, 'GET', '/v1/system').status for _ in range(14)]
        assert status[:10] == [401] * 10 and status[10:] == [429] * 4, status
        assert ask(o, good, 'GET', '/v1/system').status == 429
        assert o.http('GET', '/v1/system').status == 200, 'who needs no token is not concerned'
        for odd in ('', 'orion_', 'orion__', 'orion_ci_', 'x' * 5000, 'orion_%s_0' % ('a' * 40)):
            assert ask(o, odd, 'GET', '/v1/system').status in (401, 429, 431), odd


def test_who_has_no_role_is_soon_not_even_recorded():
    with Orion(start=False) as o:
        p, port = with_tls(o)
        s = Secure(p, port)
        status = [s.http('GET', '/v1/system').status for _ in range(14)]
        assert status == [401] * 10 + [429] * 4, status
        good = token(o, 'ci', 'viewer')
        assert s.http('GET', '/v1/system', headers={'Authorization': 'Bearer ' + good}).status == 200
        got = records(o)
        assert [r['verb'] for r in got] == ['GET'] * 10 + ['token add'] and got[-1]['left_out'] == 4, got
        o.mem('d0')
        assert 'left_out' not in records(o)[-1]


def test_every_change_and_refusal_is_on_record():
    with Orion() as o:
        viewer = token(o, 'eye', 'viewer')
        o.http('PUT', '/v1/devices/d0', {'type': 'mem', 'size': '1M'})
        ask(o, viewer, 'DELETE', '/v1/devices/d0', match='*')
        ask(o, 'orion_eye_00', 'DELETE', '/v1/devices/d0', match='*')
        o.http('DELETE', '/v1/devices/d0', headers={'If-Match': '"0"'})
        o.change('DELETE', '/v1/devices/d0')
        o.http('GET', '/v1/devices')
        assert ask(o, viewer, 'GET', '/v1/tokens').status == 403
        got = [(r['who'], r['verb'], r['result']) for r in records(o)]
        me = 'uid:%d' % os.getuid()
        assert got == [(me, 'token add', 'done'), (me, 'device add', 'done'),
                       ('token:eye', 'device remove', 'denied'), (me, 'DELETE', 'denied'),
                       (me, 'device remove', 'precondition-failed'),
                       (me, 'device remove', 'done'), ('token:eye', 'token list', 'denied')], got
        add, gone = records(o)[1], records(o)[5]
        assert add['fields'] == {'type': 'mem', 'size': 1 << 20} and not add['before']
        assert add['after'] and add['after'] == gone['before'] and not gone['after']
        assert 'pid=' in add['from'] and add['path'] == '/v1/devices/d0' and add['time']


def test_a_changed_record_breaks_the_chain_and_a_restart_does_not():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.restart(kill=True)
        o.mem('d2')
        seen = o.ctl('audit', 'verify')
        assert seen['good'] and seen['records'] == seen['last'] == 3, seen
        path = os.path.join(o.state, 'audit.log')
        shutil.copy(path, path + '.good')
        with open(path) as f:
            text = f.read()
        for broken in (text.replace('/v1/devices/d1', '/v1/devices/dX'), text.split('\n', 1)[1] + text[:0],
                       '\n'.join(text.split('\n')[::2]), text.rsplit('\n', 2)[0] + '\n'):
            with open(path, 'r+') as f:
                f.truncate(0)
                f.write(broken)
            r = o.http('GET', '/v1/audit/verify').json
            bad = not r['good'] or r['first'] != 1
            assert bad, (r, broken)
        assert o.run('audit', 'verify').returncode == 1
        shutil.copy(path + '.good', path)
        assert o.ctl('audit', 'verify')['good']


def chained(texts):
    """Lines of a log that is whole in itself."""
    before, out = '0' * 64, ''
    for text in texts:
        before = hashlib.sha256((before + '\n' + text).encode()).hexdigest()
        out += '%s %s\n' % (before, text)
    return out


def test_what_is_done_to_the_record_while_the_daemon_is_down_is_found_out():
    with Orion() as o:
        o.mem('d0', 'd1', 'd2')
        path = os.path.join(o.state, 'audit.log')

        def marked():
            with open(os.path.join(o.state, 'journal.1')) as f:
                return '"audit/last":{"seq":3,' in f.read()

        wait_for(marked, what='the state to say how far the log was written')
        o.kill9()
        with open(path) as f:
            text = f.read()
        texts = [line.split(' ', 1)[1] for line in text.splitlines()]
        forged = [t.replace('/v1/devices/d1', '/v1/devices/dX') for t in texts]
        more = forged + [texts[-1].replace('"seq":3', '"seq":4')]
        states = os.path.join(o.dir, 'before')
        shutil.copytree(o.state, states)
        for wrong, word in ((text.rsplit('\n', 2)[0] + '\n', 'cut off'), ('', 'cut off'),
                            (chained(forged), 'not what was written'), (chained(more), 'not what was written')):
            shutil.rmtree(o.state)
            shutil.copytree(states, o.state)
            with open(path, 'w') as f:
                f.write(wrong)
            o.start()
            assert word in str(o.ctl('status')['problems']), (word, o.ctl('status'))
            assert not o.http('GET', '/v1/audit/verify').json['good'], wrong
            o.mem('d3')
            r = o.http('GET', '/v1/audit/verify').json
            assert not r['good'] and r['reason'] and o.run('audit', 'verify').returncode == 1, r
            o.restart()
            assert not o.http('GET', '/v1/audit/verify').json['good'], 'nor does a restart heal it'
            o.stop()
        shutil.rmtree(o.state)
        shutil.copytree(states, o.state)
        o.start()
        assert o.ctl('audit', 'verify')['good'] and not o.ctl('status')['problems']


def test_rotation_keeps_the_chain():
    with Orion() as o:
        o.mem('d0')
        last = o.ctl('audit', 'verify')['last']
        o.stop()
        os.rename(os.path.join(o.state, 'audit.log'), os.path.join(o.state, 'audit.%d' % last))
        o.start()
        o.mem('d1')
        seen = o.ctl('audit', 'verify')
        assert seen['good'] and seen['files'] == 2 and seen['last'] == last + 1, seen


def test_refusals_alone_rotate_the_record():
    with Orion() as o:
        o.stop()
        # A record of nearly 8 MiB, as refusals would leave it in a while.
        before, path = '0' * 64, os.path.join(o.state, 'audit.log')
        with open(path, 'w') as f:
            for seq in range(1, 1047):
                text = json.dumps({'seq': seq, 'pad': 'x' * 7930}, separators=(',', ':'))
                before = hashlib.sha256((before + '\n' + text).encode()).hexdigest()
                f.write('%s %s\n' % (before, text))
        o.start()
        long = '/v1/' + 'x' * 200
        for _ in range(9):
            assert ask(o, 'orion_eye_00', 'GET', long).status == 401
        seen = o.ctl('audit', 'verify')
        assert seen['good'] and seen['records'] == 1055, seen
        assert os.path.getsize(path) < 8 << 20 and seen['files'] == 2, (os.path.getsize(path), seen)


def certificates(o):
    """A CA, a server's certificate and one of the client 'robot', as files in the test's folder."""
    p = lambda name: os.path.join(o.dir, name)
    sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
       '-keyout', p('ca.key'), '-out', p('ca.pem'), '-days', '2', '-subj', '/CN=test ca')
    for name, ext in (('localhost', 'subjectAltName=DNS:localhost,IP:127.0.0.1'), ('robot', 'basicConstraints=CA:FALSE')):
        sh('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
           '-keyout', p(name + '.key'), '-out', p(name + '.csr'), '-subj', '/CN=' + name)
        with open(p('ext'), 'w') as f:
            f.write(ext + '\n')
        sh('openssl', 'x509', '-req', '-in', p(name + '.csr'), '-CA', p('ca.pem'), '-CAkey', p('ca.key'),
           '-CAcreateserial', '-days', '2', '-extfile', p('ext'), '-out', p(name + '.pem'))
    return p


class Secure:
    def __init__(self, p, port, cert=None):
        self.context = ssl.create_default_context(cafile=p('ca.pem'))
        if cert:
            self.context.load_cert_chain(p(cert + '.pem'), p(cert + '.key'))
        self.port = port

    def http(self, method, path, body=None, headers=None):
        import http.client
        c = http.client.HTTPSConnection('localhost', self.port, context=self.context, timeout=20)
        try:
            c.request(method, path, json.dumps(body) if body else None,
                      dict(headers or {}, **({'Content-Type': 'application/json'} if body else {})))
            return Result(c.getresponse())
        finally:
            c.close()


def with_tls(o, ca=False, **more):
    p = certificates(o)
    config = {'tls_cert': p('localhost.pem'), 'tls_key': p('localhost.key'), **more}
    if ca:
        config['tls_ca'] = p('ca.pem')
    with open(o.config, 'w') as f:
        json.dump(config, f)
    port = free_port()
    o.args += ['--api', '127.0.0.1:%d' % port]
    o.start()
    return p, port


def test_tcp_needs_tls_and_a_token():
    with Orion(start=False) as o:
        p, port = with_tls(o)
        o.fds_mark()
        s = Secure(p, port)
        r = s.http('GET', '/v1/devices')
        assert r.status == 401 and r.headers['WWW-Authenticate'] == 'Bearer', (r.status, r.body)
        secret = {'Authorization': 'Bearer ' + token(o, 'far', 'operator')}
        assert s.http('PUT', '/v1/devices/d0', {'type': 'mem', 'size': '1M'}, secret).status == 201
        many = s.http('GET', '/openapi.json', headers=secret)
        assert many.status == 200 and len(many.json['paths']) > 20
        assert records(o)[-1]['who'] == 'token:far' and '127.0.0.1' in records(o)[-1]['from']
        with socket.create_connection(('127.0.0.1', port), timeout=10) as plain:
            plain.sendall(b'GET /v1/devices HTTP/1.1\r\nHost: x\r\n\r\n')
            try:
                assert b'200 OK' not in plain.recv(4096)
            except ConnectionResetError:
                pass
        o.fds_check()


def test_a_client_certificate_has_the_role_of_its_name():
    with Orion(start=False) as o:
        p, port = with_tls(o, ca=True, operators=['cert:robot'])
        s = Secure(p, port, 'robot')
        assert s.http('PUT', '/v1/devices/d0', {'type': 'mem', 'size': '1M'}).status == 201
        assert records(o)[-1]['who'] == 'cert:robot'
        assert s.http('GET', '/v1/tokens').status == 403
        stranger = Secure(p, port, 'localhost').http('GET', '/v1/devices')
        assert stranger.status == 401, stranger.body
        try:
            Secure(p, port).http('GET', '/v1/devices')
            raise AssertionError('a client without a certificate was served')
        except (ssl.SSLError, ConnectionError, OSError):
            pass


def test_tcp_without_tls_is_refused():
    with Orion(start=False) as o:
        o.args += ['--api', '127.0.0.1:%d' % free_port()]
        try:
            o.start(5)
            raise AssertionError('the API was served in clear')
        except AssertionError as e:
            assert 'TLS' in str(e) or 'exited' in str(e), e
        assert 'only with TLS' in o.log()
        o.proc = None


def test_the_log_level_changes_at_run_time():
    with Orion() as o:
        assert o.ctl('log-level', 'show')['level'] == 'info'
        assert o.ctl('log-level', 'set', 'debug')['changed'] is True
        assert o.ctl('log-level', 'show')['level'] == 'debug'
        o.ctl('log-level', 'set', 'chatty', expect=1)


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
