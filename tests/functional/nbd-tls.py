# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""NBD over TLS: certificates and pre-shared keys, what is refused, who may use what, and real clients."""
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import warnings

from nbdwire import GO, M, READ, STARTTLS, WRITE, Raw, make_certificates, nothing_left, tls_context
from orion import Orion, free_port, need, run, sh, wait_for

need('openssl', 'nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io')


class Server(Orion):
    """With certificates made, device d0 exported as v, and a listener with these TLS options."""

    def __init__(self, mode='off', *more, ca=False):
        super().__init__()
        make_certificates(self.dir)
        self.mem('d0')
        self.ctl('nbd', 'export', 'v', '--device', 'd0')
        self.port = free_port()
        authorities = ('--tls-ca', self.path('ca.pem')) if ca else ()
        self.listen(self.port, *(() if mode == 'off' else ('--tls', mode, *self.cert(*authorities), *more)))

    def path(self, name):
        return os.path.join(self.dir, name)

    def listen(self, port, *options):
        self.ctl('nbd', 'listen', '127.0.0.1:%d' % port, *options)

    def cert(self, *more):
        return ('--tls-cert', self.path('server.pem'), '--tls-key', self.path('server-key.pem')) + more

    def uri(self, who='none', export='v'):
        return 'nbds://localhost:%d/%s?tls-certificates=%s' % (self.port, export, self.path('d-' + who))

    def plain(self, export='v'):
        return 'nbd://localhost:%d/%s' % (self.port, export)

    def psk(self, user='alice'):
        return 'nbds://%s@localhost:%d/v?tls-psk-file=%s' % (user, self.port, self.path('keys.psk'))


def size_of(uri):
    return int(sh('nbdinfo', '--size', uri))


def refused(uri):
    sh('nbdinfo', '--size', uri, expect=1)


def test_allowed_serves_with_and_without():
    with Server('allowed') as o:
        assert size_of(o.uri()) == 64 * M
        assert size_of(o.plain()) == 64 * M
        out = sh('nbdinfo', o.uri())
        assert 'TLS' in out, out
        o.restart()
        assert size_of(o.uri()) == 64 * M


def test_required_refuses_who_does_not_encrypt():
    with Server('required') as o:
        assert size_of(o.uri()) == 64 * M
        refused(o.plain())
        sh('nbdinfo', '--list', o.plain(), expect=1)
        assert '"v"' in sh('nbdinfo', '--list', o.uri())


def test_off_does_not_speak_tls():
    with Server() as o:
        refused(o.uri())
        assert size_of(o.plain()) == 64 * M


def test_clients_need_a_certificate_when_authorities_are_given():
    with Server('required', ca=True) as o:
        assert size_of(o.uri('alice')) == 64 * M
        refused(o.uri('none'))
        refused(o.uri('mallory'))


def test_pre_shared_keys_alone_and_beside_certificates():
    with Server() as o:
        o.port = free_port()
        o.listen(o.port, '--tls', 'required', '--tls-psk-file', o.path('keys.psk'))
        assert size_of(o.psk()) == 64 * M
        refused(o.psk('eve'))
        refused(o.uri())
        o.port = free_port()
        o.listen(o.port, '--tls', 'required', *o.cert('--tls-psk-file', o.path('keys.psk')))
        assert size_of(o.psk()) == 64 * M
        assert size_of(o.uri()) == 64 * M


def alice_says(o, *options):
    """What openssl's client, who calls itself alice, has for GO to an export that is for alice only."""
    c, path = started(o), o.path('relay.sock')
    with socket.socket(socket.AF_UNIX) as relay:
        relay.bind(path)
        relay.listen()
        client = subprocess.Popen(['openssl', 's_client', '-unix', path, '-quiet', '-tls1_3', *options],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        there = relay.accept()[0]

    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    ways = [threading.Thread(target=pump, args=w) for w in ((there, c.s), (c.s, there))]
    for w in ways:
        w.start()
    client.stdin.write(Raw.option(GO, b'\0\0\0\1a\0\0'))
    client.stdin.flush()
    os.set_blocking(client.stdout.fileno(), False)
    answer = wait_for(lambda: client.stdout.read() or client.poll() is not None, what='an answer')
    client.kill()
    client.communicate()
    for s in (c.s, there): # a close alone wakes nobody who waits for bytes
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass # the other side was faster
    for w in ways:
        w.join()
    c.s.close(), there.close()
    os.unlink(path)
    return answer if isinstance(answer, bytes) else b''


def test_a_name_without_its_key_is_no_name():
    with Server() as o:
        o.port = free_port()
        o.listen(o.port, '--tls', 'required', *o.cert('--tls-psk-file', o.path('keys.psk')))
        o.ctl('nbd', 'export', 'a', '--device', 'd0', '--allow', 'tls:alice')
        other = ('-ciphersuites', 'TLS_AES_256_GCM_SHA384')  # its hash is not that of the key
        refused = b'\x80\0\0'
        assert refused in alice_says(o)
        assert refused in alice_says(o, '-psk_identity', 'alice', '-psk', '00' * 32, *other)
        with open(o.path('keys.psk')) as f:
            key = dict(line.strip().split(':') for line in f)['alice']
        assert refused not in alice_says(o, '-psk_identity', 'alice', '-psk', key)


def test_rules_allow_by_name_and_by_address():
    with Server('allowed', ca=True) as o:
        for name, rule in (('a', 'tls:alice'), ('b', 'tls:bob,10.0.0.0/8'), ('any', 'tls:*'),
                           ('net', '127.0.0.0/8'), ('far', '192.0.2.1,2001:db8::/32,unix')):
            o.ctl('nbd', 'export', name, '--device', 'd0', '--allow', rule)
        assert size_of(o.uri('alice', 'a')) == 64 * M
        refused(o.uri('alice', 'b'))
        refused(o.uri('bob', 'a'))
        assert size_of(o.uri('bob', 'b')) == 64 * M
        assert size_of(o.uri('bob', 'any')) == 64 * M
        refused(o.plain('any'))
        assert size_of(o.plain('net')) == 64 * M
        refused(o.plain('far'))
        names = [x['export-name'] for x in json.loads(sh('nbdinfo', '--json', '--list', o.plain()))['exports']]
        assert names == ['v', 'net'], names
        unix = o.path('u.sock')
        o.ctl('nbd', 'listen', 'unix:' + unix)
        assert size_of('nbd+unix:///far?socket=' + unix) == 64 * M
        o.restart() # the rules are saved
        refused(o.uri('alice', 'b'))
        assert o.ctl('nbd', 'show', 'b')['allow'] == ['tls:bob', '10.0.0.0/8']
        for wrong in ('10.0.0.0/33', 'host.example', 'tls:', '10.0.0', '::1/129', '1.2.3.4/'):
            assert 'expected ADDRESS' in o.ctl('nbd', 'export', 'w', '--device', 'd0', '--allow', wrong,
                                               expect=1)


def test_data_goes_both_ways_through_tls():
    with Server('required') as o:
        image, back = o.path('image'), o.path('back')
        with open(image, 'wb') as f:
            f.write(os.urandom(64 * M))
        sh('nbdcopy', '--flush', image, o.uri())
        sh('nbdcopy', '--connections=4', '--requests=32', o.uri(), back)
        sh('cmp', image, back)
        os.unlink(back)
        sh('nbdcopy', '--synchronous', '--request-size=%d' % (8 * M), o.uri(), back)
        sh('cmp', image, back)


def test_qemu_speaks_it_too():
    with Server('required', ca=True) as o:
        image = o.path('image')
        with open(image, 'wb') as f:
            f.write(os.urandom(8 * M) + bytes(56 * M))
        tls = ('--object', 'tls-creds-x509,id=t,endpoint=client,dir=' + o.path('d-alice'))
        target = 'driver=nbd,host=localhost,port=%d,export=v,tls-creds=t' % o.port
        sh('qemu-img', 'convert', *tls, '-n', '--target-image-opts', '-f', 'raw', image,
           'driver=raw,file.driver=nbd,file.host=localhost,file.port=%d,file.export=v,file.tls-creds=t' % o.port)
        sh('qemu-img', 'compare', *tls, '--image-opts', 'driver=raw,file.filename=' + image,
           'driver=raw,file.driver=nbd,file.host=localhost,file.port=%d,file.export=v,file.tls-creds=t' % o.port)
        out = sh('qemu-io', *tls, '--image-opts', target, '-c', 'write -P 7 1M 1M', '-c', 'flush',
                 '-c', 'read -P 7 1M 1M')
        assert 'failed' not in out and 'error' not in out, out


def shaken(o, version=None):
    """A client in transmission, through TLS."""
    return Raw(o.port, tls=tls_context(o.dir, version))


def started(o):
    """One that has had its STARTTLS acknowledged."""
    c = Raw(o.port, None)
    c.hello()
    assert c.ask_option(STARTTLS) == [(1, b'')]
    return c


def test_what_comes_in_the_clear_behind_starttls_is_not_believed():
    with Server('allowed') as o:
        c = Raw(o.port, None)
        c.hello()
        c.s.sendall(c.option(STARTTLS) + c.option(GO, b'\0\0\0\1v\0\0'))
        assert c.option_replies(STARTTLS) == [(1, b'')]
        assert c.closed()
        c.s.close()


def test_versions_and_bytes_in_pieces():
    with Server('required') as o:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            c = started(o)
            c.s = tls_context(o.dir, version).wrap_socket(c.s)
            for byte in c.option(GO, b'\0\0\0\1v\0\0'): # each in a record of its own
                c.s.sendall(bytes([byte]))
            assert c.option_replies(GO)[-1] == (1, b'')
            for i in range(2): # a request, byte by byte, then two in one record
                for byte in c.request(READ, i * 4096, 4096, i):
                    c.s.sendall(bytes([byte]))
                assert c.reply(4096) == (0, i, bytes(4096))
            c.s.sendall(c.request(READ, 0, 4096, 7) * 2)
            for _ in range(2):
                assert c.reply(4096) == (0, 7, bytes(4096))
            c.s.close()
        c = started(o)
        old = tls_context(o.dir)
        warnings.simplefilter('ignore')
        try:
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.wrap_socket(c.s)
            raise AssertionError('TLS 1.1 was taken')
        except (ssl.SSLError, ConnectionError):
            pass
        c.s.close()


def client_hello(o):
    """The first flight of a handshake."""
    bio, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        tls_context(o.dir).wrap_bio(bio, out).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def test_who_breaks_off_leaves_nothing_behind():
    """Anywhere in a handshake, with rubbish, in the middle of a request, without a goodbye."""
    with Server('required') as o:
        assert size_of(o.uri()) == 64 * M
        o.fds_mark()
        hello = client_hello(o)
        for n in range(0, len(hello) + 1, 1 + len(hello) // 40): # the same flight, up to any byte
            c = started(o)
            c.s.sendall(hello[:n])
            if n % 2:
                c.reset()
            c.s.close()
        for i in range(40):
            c = started(o)
            if i % 4 == 0:
                c.s.sendall(os.urandom(300))
            elif i % 4 == 1:
                c.s.sendall(b'\x16\x03\x01\x02\x00\x01')
            elif i % 4 == 2: # it came through, and its last records are cut
                c.s = tls_context(o.dir).wrap_socket(c.s)
                c.go()
                c.s.sendall(c.request(WRITE, 0, 65536) + bytes(30000))
                c.s.sendall(c.request(READ, 0, M)[:i % 28])
                c.reset()
            c.s.close()
        assert size_of(o.uri()) == 64 * M
        nothing_left(o)


def test_a_client_that_does_not_read_is_served_when_it_does():
    """More replies than sockets hold, so that encrypted pieces are cut and go on later."""
    with Server('required') as o:
        c = shaken(o)
        data = os.urandom(M)
        c.write(4096, data)
        for i in range(40):
            c.s.sendall(c.request(READ, 4096, M - i, i))
        time.sleep(0.5)
        seen = set()
        for _ in range(40):
            error, i, _ = c.reply()
            assert not error and c.recv(M - i) == data[:M - i]
            seen.add(i)
        assert len(seen) == 40
        c.s.close()


def test_files_that_are_wrong_are_named():
    with Server() as o:
        port = free_port()
        addr = '127.0.0.1:%d' % port

        def wrong(why, *options):
            out = o.ctl('nbd', 'listen', addr, *options, expect=1)
            assert why in out, out
        wrong('TLS needs', '--tls', 'required')
        wrong('go together', '--tls', 'required', '--tls-cert', o.path('server.pem'))
        wrong('cannot open ' + o.path('nope'), '--tls', 'required', '--tls-cert', o.path('nope'), '--tls-key',
              o.path('server-key.pem'))
        wrong('certificate in ' + o.path('keys.psk'), '--tls', 'required', '--tls-cert', o.path('keys.psk'),
              '--tls-key', o.path('server-key.pem'))
        wrong('mismatch', '--tls', 'required', '--tls-cert', o.path('server.pem'), '--tls-key',
              o.path('alice-key.pem'))
        wrong('line 1', '--tls', 'required', '--tls-psk-file', o.path('server.pem'))
        wrong('tls is off', *o.cert())
        o.listen(port, '--tls', 'required', *o.cert())
        o.ctl('nbd', 'listen', addr, '--tls', 'allowed', *o.cert(), expect=5)
        o.ctl('nbd', 'listen', addr, expect=5)
        o.ctl('nbd', 'listen', addr, '--tls', 'required', *o.cert())


def test_only_regular_files_of_a_sane_length_are_read():
    with Server() as o:
        addr = '127.0.0.1:%d' % free_port()
        os.mkfifo(o.path('fifo')) # nobody will ever write to it
        with open(o.path('long'), 'wb') as f:
            f.truncate(2 * M)
        options = {'tls_cert': o.path('server.pem'), 'tls_key': o.path('server-key.pem'), 'tls_ca': o.path('ca.pem')}
        for field in ('tls_cert', 'tls_key', 'tls_ca', 'tls_psk_file'):
            for file, why in ((o.path('fifo'), 'not a regular file'), ('/dev/zero', 'not a regular file'),
                              (o.dir, 'not a regular file'), (o.path('long'), 'longer than')):
                given = {'tls': 'required', **(options if field != 'tls_psk_file' else {}), field: file}
                r = o.http('PUT', '/v1/nbd/listeners/' + addr, given)
                assert r.status == 400 and r.json['errors'][0]['field'] == field and why in r.json['detail'], (
                    field, file, r.body)
        for line in (b'bob\0:00112233\n', b'bob:0011\x002233\n', b'b\xffb:00112233\n', b'bob:' + b'00' * 65 + b'\n'):
            with open(o.path('bad.psk'), 'wb') as f:
                f.write(b'# a comment\nalice:00112233\r\n' + line)
            out = o.ctl('nbd', 'listen', addr, '--tls', 'required', '--tls-psk-file', o.path('bad.psk'), expect=1)
            assert 'line 3' in out, out


def test_a_new_certificate_is_taken_without_a_restart():
    with Server('required') as o:
        assert size_of(o.uri()) == 64 * M
        for name in ('server.pem', 'server-key.pem'):
            with open(o.path(name)) as f:
                good = f.read()
            with open(o.path(name), 'w') as f:
                f.write('rubbish')
            os.utime(o.path(name), (1, 1))
            assert size_of(o.uri()) == 64 * M # the old one serves on
            with open(o.path(name), 'w') as f:
                f.write(good)
        sh('openssl', 'x509', '-req', '-in', o.path('server.csr'), '-CA', o.path('ca.pem'), '-CAkey',
           o.path('ca-key.pem'), '-CAcreateserial', '-out', o.path('server.pem'), '-days', '2', '-set_serial', '77',
           '-extfile', o.path('server.ext'))
        os.utime(o.path('server.pem'), (2, 2))
        assert size_of(o.uri()) == 64 * M
        wait_for(lambda: 'read anew' in o.log(), what='the log to tell of it')


def test_the_session_tells_who_it_is():
    with Server('required', ca=True) as o:
        alice = tls_context(o.dir)
        alice.load_cert_chain(o.path('alice.pem'), o.path('alice-key.pem'))
        c = Raw(o.port, tls=alice)
        session, = o.ctl('session', 'list')['items']
        assert session['client'] == 'alice', session
        c.s.close()


run(test_allowed_serves_with_and_without,
    test_required_refuses_who_does_not_encrypt,
    test_off_does_not_speak_tls,
    test_clients_need_a_certificate_when_authorities_are_given,
    test_pre_shared_keys_alone_and_beside_certificates,
    test_a_name_without_its_key_is_no_name,
    test_rules_allow_by_name_and_by_address,
    test_data_goes_both_ways_through_tls,
    test_qemu_speaks_it_too,
    test_what_comes_in_the_clear_behind_starttls_is_not_believed,
    test_versions_and_bytes_in_pieces,
    test_who_breaks_off_leaves_nothing_behind,
    test_a_client_that_does_not_read_is_served_when_it_does,
    test_files_that_are_wrong_are_named,
    test_only_regular_files_of_a_sane_length_are_read,
    test_a_new_certificate_is_taken_without_a_restart,
    test_the_session_tells_who_it_is)
