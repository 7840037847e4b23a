# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""NBD over TLS: certificates and pre-shared keys, what is refused, who may use what, and real clients."""
import json
import os
import socket
import ssl
import struct
import time
import warnings

from orion import Orion, free_port, need, run, sh, wait_for

need('openssl', 'nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io')

M = 1 << 20
PSK = 'alice:' + '5a' * 32 + '\n'


def make_certificates(folder):
    """A CA, a server's certificate for localhost, and clients alice and mallory; and keys.psk."""
    def openssl(*argv):
        sh('openssl', *argv, cwd=folder)

    def ca(name):
        openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', name + '-key.pem', '-out',
                name + '.pem', '-subj', '/CN=the CA', '-days', '2')

    def signed(name, cn, by, ext):
        openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', name + '-key.pem', '-out',
                name + '.csr', '-subj', '/CN=' + cn)
        with open(os.path.join(folder, name + '.ext'), 'w') as f:
            f.write(ext)
        openssl('x509', '-req', '-in', name + '.csr', '-CA', by + '.pem', '-CAkey', by + '-key.pem',
                '-CAcreateserial', '-out', name + '.pem', '-days', '2', '-extfile', name + '.ext')

    server = 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n'
    ca('ca')
    ca('otherca')
    signed('server', 'localhost', 'ca', server)
    signed('alice', 'alice', 'ca', 'extendedKeyUsage=clientAuth\n')
    signed('bob', 'bob', 'ca', 'extendedKeyUsage=clientAuth\n')
    signed('mallory', 'alice', 'otherca', 'extendedKeyUsage=clientAuth\n')
    # The names that libnbd and qemu look for in a folder.
    for who in ('alice', 'bob', 'mallory'):
        d = os.path.join(folder, 'd-' + who)
        os.mkdir(d)
        os.symlink('../ca.pem', os.path.join(d, 'ca-cert.pem'))
        os.symlink('../%s.pem' % who, os.path.join(d, 'client-cert.pem'))
        os.symlink('../%s-key.pem' % who, os.path.join(d, 'client-key.pem'))
    d = os.path.join(folder, 'd-none')
    os.mkdir(d)
    os.symlink('../ca.pem', os.path.join(d, 'ca-cert.pem'))
    with open(os.path.join(folder, 'keys.psk'), 'w') as f:
        f.write(PSK)
    os.chmod(os.path.join(folder, 'keys.psk'), 0o600)


class Server(Orion):
    """With certificates made, device d0 exported as v, and a listener with the given TLS options."""

    def __init__(self, *options, **kw):
        super().__init__(**kw)
        make_certificates(self.dir)
        self.mem('d0')
        self.ctl('nbd', 'export', 'v', '--device', 'd0')
        self.port = free_port()
        self.listen(self.port, *options)

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


class Certified(Server):
    def __init__(self, mode, *more, ca=False):
        Orion.__init__(self)
        make_certificates(self.dir)
        self.mem('d0')
        self.ctl('nbd', 'export', 'v', '--device', 'd0')
        self.port = free_port()
        self.listen(self.port, '--tls', mode, *self.cert(*(('--tls-ca', self.path('ca.pem')) if ca else ())),
                    *more)


def size_of(uri):
    return int(sh('nbdinfo', '--size', uri))


def refused(uri):
    sh('nbdinfo', '--size', uri, expect=1)


def test_allowed_serves_with_and_without():
    with Certified('allowed') as o:
        assert size_of(o.uri()) == 64 * M
        assert size_of(o.plain()) == 64 * M
        out = sh('nbdinfo', o.uri())
        assert 'TLS' in out, out
        o.restart()
        assert size_of(o.uri()) == 64 * M


def test_required_refuses_who_does_not_encrypt():
    with Certified('required') as o:
        assert size_of(o.uri()) == 64 * M
        refused(o.plain())
        sh('nbdinfo', '--list', o.plain(), expect=1)
        assert '"v"' in sh('nbdinfo', '--list', o.uri())


def test_off_does_not_speak_tls():
    with Server() as o:
        refused(o.uri())
        assert size_of(o.plain()) == 64 * M


def test_clients_need_a_certificate_when_authorities_are_given():
    with Certified('required', ca=True) as o:
        assert size_of(o.uri('alice')) == 64 * M
        refused(o.uri('none'))
        refused(o.uri('mallory'))


def test_pre_shared_keys_alone_and_beside_certificates():
    with Server() as o:
        port, o.port = o.port, free_port()
        o.listen(o.port, '--tls', 'required', '--tls-psk-file', o.path('keys.psk'))
        assert size_of(o.psk()) == 64 * M
        refused(o.psk('eve'))
        refused(o.uri())
        o.port = free_port()
        o.listen(o.port, '--tls', 'required', *o.cert('--tls-psk-file', o.path('keys.psk')))
        assert size_of(o.psk()) == 64 * M
        assert size_of(o.uri()) == 64 * M


def test_rules_allow_by_name_and_by_address():
    with Certified('allowed', ca=True) as o:
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
    with Certified('required') as o:
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
    with Certified('required', ca=True) as o:
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


def starttls(port):
    s = socket.create_connection(('127.0.0.1', port))
    s.settimeout(30)
    assert s.recv(18, socket.MSG_WAITALL) == b'NBDMAGICIHAVEOPT\0\3'
    s.sendall(struct.pack('>I', 3))
    return s


STARTTLS = b'IHAVEOPT' + struct.pack('>II', 5, 0)
GO_V = b'IHAVEOPT' + struct.pack('>II', 7, 7) + struct.pack('>I', 1) + b'v\0\0'


def context(o, version=None):
    c = ssl.create_default_context(cafile=o.path('ca.pem'))
    c.check_hostname = False
    if version:
        c.minimum_version = c.maximum_version = version
    return c


def test_what_comes_in_the_clear_behind_starttls_is_not_believed():
    with Certified('allowed') as o:
        s = starttls(o.port)
        s.sendall(STARTTLS + GO_V)
        data = s.recv(20, socket.MSG_WAITALL)
        assert struct.unpack('>QIII', data)[2] == 1, data
        try:
            assert s.recv(1) == b''
        except ConnectionResetError:
            pass


def test_versions_and_bytes_in_pieces():
    with Certified('required') as o:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            s = starttls(o.port)
            s.sendall(STARTTLS)
            s.recv(20, socket.MSG_WAITALL)
            t = context(o, version).wrap_socket(s)
            for byte in GO_V: # each in a record of its own
                t.sendall(bytes([byte]))
            data = b''
            while len(data) < 20 + 12 + 20:
                data += t.recv(4096)
            for i in range(4): # a request, byte by byte, then two in one record
                request = struct.pack('>IHHQQI', 0x25609513, 0, 0, i, i * 4096, 4096)
                if i < 2:
                    for byte in request:
                        t.sendall(bytes([byte]))
                else:
                    t.sendall(request * 2)
                want = (1 if i < 2 else 2) * (16 + 4096)
                data = b''
                while len(data) < want:
                    data += t.recv(65536)
                assert len(data) == want
            t.close()
        s = starttls(o.port)
        s.sendall(STARTTLS)
        s.recv(20, socket.MSG_WAITALL)
        old = context(o)
        warnings.simplefilter('ignore')
        try:
            old.minimum_version = ssl.TLSVersion.TLSv1
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.wrap_socket(s)
            raise AssertionError('TLS 1.1 was taken')
        except (ssl.SSLError, ConnectionError):
            pass


def test_who_breaks_off_leaves_nothing_behind():
    """In the middle of a handshake, with rubbish, in the middle of a request, without a goodbye."""
    with Certified('required') as o:
        assert size_of(o.uri()) == 64 * M
        o.fds_mark()
        for i in range(120):
            s = starttls(o.port)
            s.sendall(STARTTLS)
            s.recv(20, socket.MSG_WAITALL)
            if i % 4 == 0:
                s.sendall(os.urandom(300))
            elif i % 4 == 1:
                s.sendall(b'\x16\x03\x01\x02\x00\x01')
            elif i % 4 == 2:
                t = context(o).wrap_socket(s)
                t.sendall(GO_V)
                t.recv(1)
                t.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, 1, 0, 65536) + bytes(30000))
                t.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, 1, 0, M)[:i % 28])
                t.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
                t.close()
            s.close()
        assert size_of(o.uri()) == 64 * M
        wait_for(lambda: not o.ctl('session', 'list')['items'], what='the sessions to end')


def test_a_client_that_does_not_read_is_served_when_it_does():
    """More replies than sockets hold, so that encrypted pieces are cut and go on later."""
    with Certified('required') as o:
        s = starttls(o.port)
        s.sendall(STARTTLS)
        s.recv(20, socket.MSG_WAITALL)
        t = context(o).wrap_socket(s)
        t.sendall(GO_V)
        got = b''
        while len(got) < 52:
            got += t.recv(52 - len(got))

        def read(n):
            data = bytearray()
            while len(data) < n:
                part = t.recv(min(65536, n - len(data)))
                assert part
                data += part
            return bytes(data)
        data = os.urandom(M)
        t.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 1, 7, 4096, M) + data)
        assert read(16) == struct.pack('>IIQ', 0x67446698, 0, 7)
        for i in range(40):
            t.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, i, 4096, M - i))
        time.sleep(0.5)
        seen = set()
        for _ in range(40):
            magic, error, i = struct.unpack('>IIQ', read(16))
            assert (magic, error) == (0x67446698, 0)
            assert read(M - i) == data[:M - i]
            seen.add(i)
        assert len(seen) == 40
        t.close()


def test_files_that_are_wrong_are_named():
    with Server() as o:
        port = free_port()
        addr = '127.0.0.1:%d' % port

        def wrong(why, *options):
            out = o.ctl('nbd', 'listen', addr, *options, expect=1)
            assert why in out, out
        wrong('TLS needs', '--tls', 'required')
        wrong('go together', '--tls', 'required', '--tls-cert', o.path('server.pem'))
        wrong('certificate in ' + o.path('nope'), '--tls', 'required', '--tls-cert', o.path('nope'), '--tls-key',
              o.path('server-key.pem'))
        wrong('mismatch', '--tls', 'required', '--tls-cert', o.path('server.pem'), '--tls-key',
              o.path('alice-key.pem'))
        wrong('line 1', '--tls', 'required', '--tls-psk-file', o.path('server.pem'))
        wrong('tls is off', *o.cert())
        o.listen(port, '--tls', 'required', *o.cert())
        o.ctl('nbd', 'listen', addr, '--tls', 'allowed', *o.cert(), expect=5)
        o.ctl('nbd', 'listen', addr, expect=5)
        o.ctl('nbd', 'listen', addr, '--tls', 'required', *o.cert())


def test_a_new_certificate_is_taken_without_a_restart():
    with Certified('required') as o:
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
    try:
        import nbd
    except ImportError:
        return
    with Certified('required', ca=True) as o:
        h = nbd.NBD()
        h.set_uri_allow_local_file(True)
        h.connect_uri(o.uri('alice'))
        sessions = o.ctl('session', 'list')['items']
        assert sessions[0]['client'] == 'alice', sessions
        h.shutdown()


run(test_allowed_serves_with_and_without,
    test_required_refuses_who_does_not_encrypt,
    test_off_does_not_speak_tls,
    test_clients_need_a_certificate_when_authorities_are_given,
    test_pre_shared_keys_alone_and_beside_certificates,
    test_rules_allow_by_name_and_by_address,
    test_data_goes_both_ways_through_tls,
    test_qemu_speaks_it_too,
    test_what_comes_in_the_clear_behind_starttls_is_not_believed,
    test_versions_and_bytes_in_pieces,
    test_who_breaks_off_leaves_nothing_behind,
    test_a_client_that_does_not_read_is_served_when_it_does,
    test_files_that_are_wrong_are_named,
    test_a_new_certificate_is_taken_without_a_restart,
    test_the_session_tells_who_it_is)
