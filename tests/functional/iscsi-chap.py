# SPDX-License-Identifier: GPL-2.0-or-later
"""CHAP (RFC 7143 12.1): who has to prove itself does so or stays out, and no secret ever comes out again."""
import base64
import copy
import glob
import hashlib
import json
import os
import stat

from iscsiwire import Initiator, LoginError, pairs
from orion import Orion, need, run, sh, wait_for

need('iscsi-ls', 'iscsi-inq')
IQN = 'iqn.2026-11.test:chap'
NAME = 'iqn.2026-11.test:host'
SECRET, MUTUAL = 'sesame-open-please', 'orion-is-it-indeed'
EMPTY = {'create': [], 'change': [], 'replace': [], 'delete': []}
HASHES = {5: 'md5', 6: 'sha1', 7: 'sha256', 8: 'sha3_256'}


def secret_file(o, name, value):
    path = os.path.join(o.dir, name)
    with open(path, 'w') as f:
        f.write(value + '\n')
    return path


def start(mutual=True):
    o = Orion()
    o.mem('m0')
    o.addr = o.iscsi(IQN, 'm0')
    o.options = ['--chap-user', 'host', '--chap-secret-file', secret_file(o, 'one', SECRET)]
    if mutual:
        o.options += ['--mutual-user', 'orion', '--mutual-secret-file', secret_file(o, 'two', MUTUAL)]
    o.ctl('iscsi', 'acl', IQN, NAME, *o.options)
    o.fds_mark()
    return o


def hexed(b):
    return '0x' + b.hex()


def based(b):
    return '0b' + base64.b64encode(b).decode()


def answer(got, secret, algorithm=None):
    c = got['CHAP_C']
    challenge = bytes.fromhex(c[2:]) if c[:2] == '0x' else base64.b64decode(c[2:])
    h = HASHES[int(algorithm or got['CHAP_A'])]
    return hashlib.new(h, bytes([int(got['CHAP_I'])]) + secret.encode() + challenge).digest()


class Prover(Initiator):
    """One who logs in with CHAP, and may do so wrongly."""

    def __init__(self, addr, target=IQN, algorithms='5', user='host', secret=SECRET, mine=None, spell=hexed,
                 tamper=None, **kw):
        self.algorithms, self.user, self.secret, self.spell = algorithms, user, secret, spell
        self.mine, self.tamper = mine, tamper  # (id, challenge) for the target
        super().__init__(addr, target, name=kw.pop('name', NAME), **kw)

    def login(self):
        p = self.login_pdu(0, 1, self.names() + [('AuthMethod', 'CHAP,None')])
        assert self.got['AuthMethod'] == 'CHAP' and not p.flags & 0x80, (self.got, p)
        self.login_pdu(0, 0, [('CHAP_A', self.algorithms)], transit=False)
        keys = [('CHAP_N', self.user), ('CHAP_R', self.spell(answer(self.got, self.secret)))]
        if self.mine:
            keys += [('CHAP_I', self.mine[0]), ('CHAP_C', self.spell(self.mine[1]))]
        if self.tamper:
            keys = self.tamper(self, keys)
        p = self.login_pdu(0, 1, keys)
        assert p.flags & 0x83 == 0x81, p
        self.answered = dict(pairs(p.data))
        p = self.login_pdu(1, 3, list(self.keys.items()) if self.target else [])
        self.full(p)


def refused(status, addr, *args, kind=Prover, **kw):
    try:
        kind(addr, *args, **kw)
    except LoginError as e:
        assert e.status == status, '%04x, expected %04x' % (e.status, status)
        return
    raise AssertionError('the login was let through, expected %04x' % status)


def test_every_algorithm_lets_the_right_one_in_both_ways():
    with start() as o:
        for number, name in HASHES.items():
            for spell in (hexed, based):
                challenge = os.urandom(24)
                i = Prover(o.addr, algorithms=str(number), mine=(77, challenge), spell=spell)
                assert i.got['CHAP_A'] == str(number)
                proof = hashlib.new(name, b'\x4d' + MUTUAL.encode() + challenge).hexdigest()
                assert i.answered == {'CHAP_N': 'orion', 'CHAP_R': '0x' + proof}, i.answered
                i.ready().logout()
        i = Prover(o.addr, algorithms='5,6,7,8,99')
        assert i.got['CHAP_A'] == '8', 'the strongest'
        i.ready().logout()
        challenges = {Prover(o.addr, algorithms='7', isid=b'\x40\0\x37\0\1' + bytes([n])).got['CHAP_C']
                      for n in range(8)}
        assert len(challenges) == 8


def test_every_failure_is_refused_and_closed():
    with start() as o:
        refused(0x0201, o.addr, secret='sesame-open-pleasd')
        refused(0x0201, o.addr, user='hosT')
        refused(0x0201, o.addr, user='')
        refused(0x0201, o.addr, algorithms='1,2,99')
        refused(0x0202, o.addr, name='iqn.2026-11.test:stranger')
        reflect = lambda i, keys: keys + [('CHAP_I', i.got['CHAP_I']), ('CHAP_C', i.got['CHAP_C'])]
        refused(0x0201, o.addr, tamper=reflect)
        refused(0x0200, o.addr, tamper=lambda i, k: k + [('CHAP_I', '1')])
        refused(0x0200, o.addr, tamper=lambda i, k: k + [('CHAP_I', '256'), ('CHAP_C', '0x1122')])
        refused(0x0200, o.addr, tamper=lambda i, k: k + [('CHAP_I', '1'), ('CHAP_C', '0x' + '11' * 1025)])
        refused(0x0200, o.addr, tamper=lambda i, k: k[:1])
        refused(0x0200, o.addr, tamper=lambda i, k: k[1:])
        refused(0x0200, o.addr, tamper=lambda i, k: k + k[:1])
        refused(0x0200, o.addr, tamper=lambda i, k: k + [('CHAP_A', '5')])
        refused(0x0200, o.addr, tamper=lambda i, k: [k[0], ('CHAP_R', 'no number')])
        refused(0x0201, o.addr, tamper=lambda i, k: [k[0], ('CHAP_R', '0x00')])
        raw = lambda: Initiator(o.addr, IQN, name=NAME, login=False)
        for status, args in ((0x0201, (0, 1, raw().names() + [('AuthMethod', 'None')])),
                             (0x0201, (0, 1, raw().names())),
                             (0x0201, (1, 3, raw().names())),
                             (0x0201, (0, 3, raw().names() + [('AuthMethod', 'None')])),
                             (0x0200, (0, 1, raw().names() + [('CHAP_A', '5')]))):
            i = raw()
            try:
                i.login_pdu(*args)
                raise AssertionError('let through: %s' % (args,))
            except LoginError as e:
                assert e.status == status, '%04x for %s' % (e.status, args)
            assert i.closed()
        i = raw()  # no way round: the next stage before the proof
        i.login_pdu(0, 1, i.names() + [('AuthMethod', 'CHAP')])
        try:
            i.login_pdu(1, 3, [])
            raise AssertionError('let through')
        except LoginError as e:
            assert e.status == 0x0200
        Prover(o.addr).ready().logout()
        # a session that stands is not taken over by one that cannot prove itself
        a = Prover(o.addr).ready()
        refused(0x0201, o.addr, secret='wrong-wrong-wrong')
        assert a.nop(b'here').data == b'here'
        a.logout()


def test_credentials_that_change_during_a_login_end_it():
    """Between the challenge and its answer: neither the old ones nor a mix of both let anybody in."""
    with start() as o:
        third, fourth = secret_file(o, 'three', 'the-third-secret'), secret_file(o, 'four', 'the-fourth-secret')

        def by(*args):
            def change(prover, keys):
                o.ctl('iscsi', *args, json_out=False)
                return keys
            return change

        own = ('acl-set', IQN, NAME)
        refused(0x0201, o.addr, tamper=by(*own, '--chap-secret-file', third))
        refused(0x0201, o.addr)  # that is the old one
        refused(0x0201, o.addr, secret='the-third-secret', mine=('7', bytes(16)),
                tamper=by(*own, '--mutual-secret-file', fourth))
        refused(0x0201, o.addr, secret='the-third-secret', tamper=by(*own, '--chap-user', 'other'))
        refused(0x0201, o.addr, secret='the-third-secret',
                tamper=by(*own, '--chap-user', 'host', '--chap-secret-file', third))
        Prover(o.addr, secret='the-third-secret').ready().close()
        refused(0x0201, o.addr, secret='the-third-secret', tamper=by(*own, '--chap-user', '', '--mutual-user', ''))
        Initiator(o.addr, IQN, name=NAME).ready().close()
        o.ctl('iscsi', 'acl', IQN, NAME + '-2')
        wait_for(lambda: not o.http('GET', '/v1/sessions').json['items'], what='the end')
        o.ctl('iscsi', 'acl-set', IQN, NAME, *o.options)
        refused(0x0202, o.addr, tamper=by('unacl', IQN, NAME))


def test_a_target_without_a_secret_of_its_own_proves_nothing():
    with start(mutual=False) as o:
        refused(0x0201, o.addr, mine=(1, b'12345678'))
        Prover(o.addr).ready().logout()


def test_discovery_is_asked_for_its_own():
    with start() as o:
        Initiator(o.addr).logout()
        o.ctl('iscsi', 'discovery-auth', 'set', '--chap-user', 'finder', '--chap-secret-file',
              secret_file(o, 'three', 'seek-and-you-find'))
        refused(0x0201, o.addr, kind=Initiator)
        refused(0x0201, o.addr, target=None, user='host', secret=SECRET)
        i = Prover(o.addr, target=None, user='finder', secret='seek-and-you-find', algorithms='7')
        assert ('TargetName', IQN) in i.send_targets()
        i.logout()
        Prover(o.addr).ready().logout()
        shown = o.ctl('iscsi', 'discovery-auth', 'show')
        assert shown == {'chap_user': 'finder', 'mutual_user': '', 'chap_secret_ref': '', 'mutual_secret_ref': ''}, shown
        o.stop()
        o.start()
        refused(0x0201, o.addr, kind=Initiator)
        o.ctl('iscsi', 'discovery-auth', 'remove', json_out=False)
        Initiator(o.addr).logout()


def test_libiscsi_logs_in_with_chap():
    with start() as o:
        o.ctl('iscsi', 'unacl', IQN, NAME, json_out=False)
        o.ctl('iscsi', 'acl', IQN, 'iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-inq', *o.options)
        url = 'iscsi://host%%%s@%s/%s/0' % (SECRET, o.addr, IQN)
        assert 'CONNECTED' in sh('iscsi-inq', url)
        both = url + '?target_user=orion&target_password=' + MUTUAL
        assert 'CONNECTED' in sh('iscsi-inq', both)
        for bad in (url.replace(SECRET, 'x' * 14), url.replace('host%', 'hos%'), both + 'x',
                    'iscsi://%s/%s/0' % (o.addr, IQN)):
            out = sh('iscsi-inq', bad, expect=None)
            assert 'CONNECTED' not in out, (bad, out)
        o.ctl('iscsi', 'discovery-auth', 'set', '--chap-user', 'host', '--chap-secret-file',
              os.path.join(o.dir, 'one'))
        o.ctl('iscsi', 'acl', IQN, 'iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-ls')
        assert IQN in sh('iscsi-ls', 'iscsi://host%%%s@%s' % (SECRET, o.addr))
        assert IQN not in sh('iscsi-ls', 'iscsi://' + o.addr, expect=None)


def test_secrets_stay_in_one_place():
    with start() as o:
        Prover(o.addr).ready().logout()
        refused(0x0201, o.addr, secret='sesame-open-pleasd')
        path = '/v1/iscsi/targets/%s/acls/%s' % (IQN, NAME)
        shown = o.http('GET', path).json
        assert shown == {'initiator': NAME, 'chap_user': 'host', 'mutual_user': 'orion', 'lun_map': [],
                         'chap_secret_ref': '', 'mutual_secret_ref': ''}, shown
        told = [o.http('GET', p).body for p in (path, '/v1/iscsi/targets', '/v1/config', '/v1/events',
                                                '/v1/iscsi/targets/%s/acls' % IQN, '/v1/sessions')]
        r = o.http('PUT', path.replace('host', 'more'), {'chap_user': 'x', 'chap_secret': SECRET[:11]})
        assert r.status == 400 and r.json['errors' if 'errors' in r.json else 'detail'], r.body
        told.append(r.body)
        r = o.http('PUT', path.replace('host', 'more'), {'chap_user': 'x', 'chap_secret': SECRET + '\x01'})
        assert r.status == 400, r.body
        told.append(r.body)
        told.append(o.log().encode())
        for body in told:
            assert SECRET[:11].encode() not in body and MUTUAL.encode() not in body, body
        holders = [f for f in glob.glob(o.state + '/**', recursive=True) if os.path.isfile(f) and
                   SECRET.encode() in open(f, 'rb').read()]
        assert holders, 'where is it?'
        for f in holders:
            assert stat.S_IMODE(os.stat(f).st_mode) == 0o600, f
        assert stat.S_IMODE(os.stat(o.state).st_mode) == 0o700


def test_the_same_again_is_no_change_and_another_is_refused():
    with start() as o:
        assert o.ctl('iscsi', 'acl', IQN, NAME, *o.options)['changed'] is False
        assert o.ctl('iscsi', 'acl', IQN, NAME, '--chap-user', 'host', '--mutual-user', 'orion')['changed'] is False
        other = ['--chap-secret-file', secret_file(o, 'new', 'another-secret-now')]
        out = o.ctl('iscsi', 'acl', IQN, NAME, *(o.options + other), expect=5)
        assert 'chap_secret' in out and 'another-secret' not in out, out
        out = o.ctl('iscsi', 'acl', IQN, NAME, '--chap-user', 'else', expect=5)
        assert 'chap_user' in out
        for bad in (['--chap-user', 'u'], ['--chap-secret-file', os.path.join(o.dir, 'one')],
                    ['--chap-user', 'u', '--chap-secret-file', secret_file(o, 'short', 'short')],
                    ['--mutual-user', 'u', '--mutual-secret-file', os.path.join(o.dir, 'two')]):
            o.ctl('iscsi', 'acl', IQN, NAME + '2', *bad, expect=1)
        o.ctl('iscsi', 'acl', IQN, NAME + '2', '--chap-secret', 'visible-to-everyone', expect=2)
        o.ctl('iscsi', 'acl', IQN, NAME + '2', '--chap-user', 'u', '--chap-secret-file', '/nowhere', expect=1)
        # rotation, and it lasts
        o.ctl('iscsi', 'acl-set', IQN, NAME, *other)
        refused(0x0201, o.addr)
        Prover(o.addr, secret='another-secret-now').ready().logout()
        o.kill9()
        o.start()
        Prover(o.addr, secret='another-secret-now', mine=(3, b'abcdefgh')).ready().logout()
        o.ctl('iscsi', 'acl-set', IQN, NAME, '--chap-user', '', '--mutual-user', '')
        Initiator(o.addr, IQN, name=NAME).ready().logout()
        o.ctl('iscsi', 'unacl', IQN, NAME, json_out=False)
        o.ctl('iscsi', 'acl', IQN, NAME)
        o.ctl('iscsi', 'delete', IQN, json_out=False)
        o.ctl('iscsi', 'create', IQN)
        Initiator(o.addr, IQN, name=NAME).logout()


def plan(o, doc):
    path = os.path.join(o.dir, 'doc.json')
    with open(path, 'w') as f:
        json.dump(doc, f)
    return path


def test_credentials_are_part_of_the_configuration_and_secrets_are_only_written():
    """A secret that a document leaves out is kept, the same again is no change, another one changes in place."""
    with start() as o:
        doc = o.ctl('config', 'show')
        assert doc['iscsi']['discovery_auth'] == {}, doc
        acl = doc['iscsi']['targets'][IQN]['acls'][NAME]
        assert acl == {'chap_user': 'host', 'mutual_user': 'orion'}, acl
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        doc['iscsi']['discovery_auth'] = {'chap_user': 'finder', 'chap_secret': 'find-me-if-you-can'}
        acl['chap_secret'] = SECRET
        p = o.ctl('plan', plan(o, doc))
        assert [e['path'] for e in p['create']] == ['/v1/iscsi/discovery-auth'] and not p['change'], p
        o.ctl('apply', plan(o, doc))
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        refused(0x0201, o.addr, None, kind=Initiator)
        Prover(o.addr, None, user='finder', secret='find-me-if-you-can').logout()
        # both change in place, and what is left out stays
        doc['iscsi']['discovery_auth'] = {'chap_user': 'seeker'}
        acl.update(chap_user='guest', chap_secret='another-secret-now')
        p = o.ctl('plan', plan(o, doc))
        assert len(p['change']) == 2 and not p['replace'] and not p['delete'], p
        assert 'another-secret' not in json.dumps(p) and 'find-me' not in json.dumps(p), p
        o.ctl('apply', plan(o, doc))
        Prover(o.addr, None, user='seeker', secret='find-me-if-you-can').logout()
        Prover(o.addr, user='guest', secret='another-secret-now', mine=(3, b'abcdefgh')).ready().logout()
        # a step that fails later puts the old secret back
        bad = copy.deepcopy(doc)
        bad['iscsi']['targets'][IQN]['acls'][NAME]['chap_secret'] = 'not-for-long-at-all'
        bad['nbd'] = {'listeners': {'192.0.2.1:1': {}}}
        o.ctl('apply', '--yes', plan(o, bad), expect=7)
        Prover(o.addr, user='guest', secret='another-secret-now').ready().logout()
        o.restart()
        Prover(o.addr, None, user='seeker', secret='find-me-if-you-can').logout()
        # without the section it is left alone, with an empty one it goes
        del doc['iscsi']['discovery_auth']
        assert o.ctl('plan', plan(o, doc)) == EMPTY
        doc['iscsi']['discovery_auth'] = {}
        assert [e['kind'] for e in o.ctl('plan', plan(o, doc))['delete']] == ['discovery authentication']
        o.ctl('apply', '--yes', plan(o, doc))
        Initiator(o.addr).logout()
        shown = json.dumps(o.ctl('config', 'show'))
        assert 'secret' not in shown, shown
        o.fds_mark()


run(test_every_algorithm_lets_the_right_one_in_both_ways, test_every_failure_is_refused_and_closed,
    test_credentials_that_change_during_a_login_end_it,
    test_a_target_without_a_secret_of_its_own_proves_nothing, test_discovery_is_asked_for_its_own,
    test_libiscsi_logs_in_with_chap, test_secrets_stay_in_one_place,
    test_the_same_again_is_no_change_and_another_is_refused,
    test_credentials_are_part_of_the_configuration_and_secrets_are_only_written)
