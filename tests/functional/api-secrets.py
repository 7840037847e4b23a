# SPDX-License-Identifier: GPL-2.0-or-later
"""Secrets that stand elsewhere: only the reference is kept, shown and told; a missing one bars the way."""
import glob
import json
import os
import signal

from orion import Orion, free_port, need, run, sh, wait_for

need('iscsi-inq', 'openssl')
IQN = 'iqn.2026-11.test:secret'
NAME = 'iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-inq'
SECRET, OTHER = 'sesame-open-please', 'another-sesame-opens'


def put(o, name, text):
    path = os.path.join(o.dir, name)
    with open(path, 'w') as f:
        f.write(text + '\n')
    return path


def gets_in(o, secret=SECRET):
    url = 'iscsi://host%%%s@%s/%s/0' % (secret, o.addr, IQN)
    return 'CONNECTED' in sh('iscsi-inq', url, expect=None)


def start(o):
    o.mem('m0')
    o.addr = o.iscsi(IQN, 'm0')


def told(o):
    """Everything that the daemon tells, and all that it has on disk."""
    text = o.log() + json.dumps([o.ctl('config', 'show'), o.ctl('status'), o.ctl('iscsi', 'list'),
                                 o.http('GET', '/v1/iscsi/targets/%s/acls' % IQN).json,
                                 o.http('GET', '/v1/events').json])
    for path in glob.glob(o.state + '/*'):
        if os.path.isfile(path):
            with open(path, errors='replace') as f:
                text += f.read()
    return text


def acl(o, *options, **kw):
    return o.ctl('iscsi', 'acl', IQN, NAME, *options, **kw)


def test_a_reference_lets_in_and_only_it_is_told():
    with Orion() as o:
        start(o)
        ref = 'file:' + put(o, 'one', SECRET)
        made = acl(o, '--chap-user', 'host', '--chap-secret-ref', ref)
        assert made['chap_secret_ref'] == ref and made['changed']
        assert acl(o, '--chap-user', 'host', '--chap-secret-ref', ref)['changed'] is False
        assert gets_in(o) and not gets_in(o, OTHER)
        shown = o.ctl('config', 'show')
        assert shown['iscsi']['targets'][IQN]['acls'][NAME] == {'chap_user': 'host', 'chap_secret_ref': ref}
        plan = o.ctl('plan', put(o, 'doc', json.dumps(shown)))
        assert not any(plan.values()), plan
        assert SECRET not in told(o)
        # Another secret in the file counts from the next reload on; a secret itself takes its place.
        put(o, 'one', OTHER)
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: gets_in(o, OTHER), what='the new secret')
        o.ctl('iscsi', 'acl-set', IQN, NAME, '--chap-secret-file', put(o, 'two', SECRET))
        assert gets_in(o) and o.ctl('config', 'show')['iscsi']['targets'][IQN]['acls'][NAME] == {
            'chap_user': 'host'}


def test_a_reference_that_leads_nowhere_is_named_and_bars_the_way():
    with Orion() as o:
        start(o)
        missing = 'file:' + os.path.join(o.dir, 'nothing')
        for ref, word in ((missing, 'No such file'), ('credential:chap', 'credentials'), ('hunter2hunter2', 'expected'),
                          ('credential:../x', 'expected'), ('file:' + o.dir, 'directory')):
            r = o.http('PUT', '/v1/iscsi/targets/%s/acls/%s' % (IQN, NAME), {'chap_user': 'host', 'chap_secret_ref': ref})
            error = r.json['errors'][0]
            assert r.status in (400, 404, 500) and error['field'] == 'chap_secret_ref', (ref, r.body)
            assert ref.split(':')[-1] in error['detail'] and word in error['detail'], error
        assert o.ctl('iscsi', 'list')['items'][0]['acls'] == []
        both = put(o, 'one', SECRET)
        err = acl(o, '--chap-user', 'host', '--chap-secret-ref', 'file:' + both, '--chap-secret-file', both, expect=1)
        assert 'do not go together' in err, err


def test_what_cannot_be_read_at_start_up_bars_the_way_until_it_can():
    with Orion() as o:
        o.ctl('device', 'add', 'm0', '--path', o.file('f0', 16 << 20))
        o.addr = o.iscsi(IQN, 'm0')
        path = put(o, 'one', SECRET)
        acl(o, '--chap-user', 'host', '--chap-secret-ref', 'file:' + path)
        o.stop()
        os.rename(path, path + '.away')
        o.start()
        assert any(path in p for p in o.ctl('status')['problems']), o.ctl('status')
        assert o.ctl('iscsi', 'list')['items'][0]['acls'] == [NAME]
        assert not gets_in(o) and not gets_in(o, '')
        os.rename(path + '.away', path)
        acl(o, '--chap-user', 'host', '--chap-secret-ref', 'file:' + path)
        assert gets_in(o) and not o.ctl('status')['problems']


def test_credentials_of_systemd_are_references_too():
    with Orion(start=False) as o:
        folder = os.path.join(o.dir, 'credentials')
        os.mkdir(folder)
        put(o, 'credentials/chap', SECRET)
        sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout',
           folder + '/key', '-out', folder + '/cert', '-subj', '/CN=x', '-days', '2')
        put(o, 'credentials/psk', 'alice:' + '5f' * 32)
        with open(o.config, 'w') as f:
            json.dump({'tls_cert': 'credential:cert', 'tls_key': 'credential:key'}, f)
        o.args += ['--api', '127.0.0.1:%d' % free_port()]
        o.env['CREDENTIALS_DIRECTORY'] = folder
        o.start()
        start(o)
        acl(o, '--chap-user', 'host', '--chap-secret-ref', 'credential:chap')
        assert gets_in(o)
        addr = '127.0.0.1:%d' % free_port()
        o.ctl('nbd', 'listen', addr, '--tls', 'required', '--tls-cert', 'credential:cert', '--tls-key',
              'credential:key', '--tls-psk-file', 'credential:psk')
        shown = o.ctl('config', 'show')
        assert shown['nbd']['listeners'][addr]['tls_key'] == 'credential:key', shown
        assert SECRET not in told(o)
        err = o.ctl('nbd', 'listen', 'unix:' + o.dir + '/n', '--tls', 'required', '--tls-cert', 'credential:cert',
                    '--tls-key', 'credential:other', expect=1)
        assert 'credentials/other' in err, err


def test_a_secret_in_a_document_is_on_no_record():
    with Orion() as o:
        user = {'chap_user': 'dd', 'chap_secret': 'plaintextsecret1'}
        doc = put(o, 'doc', json.dumps({'iscsi': {'discovery_auth': user}}))
        wrong = put(o, 'wrong', json.dumps({'iscsi': {'discovery_auth': {**user, 'nonsense': 1}}}))
        o.run('plan', doc)
        assert o.run('apply', wrong).returncode
        assert o.run('apply', doc).returncode == 0
        files = glob.glob(o.state + '/audit.*')
        assert files
        text = o.log()
        for path in files:
            with open(path) as f:
                text += f.read()
        assert 'sha256:' in text and user['chap_secret'] not in text, text


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
