# SPDX-License-Identifier: GPL-2.0-or-later
"""An NBD client of the wire (doc/proto.md of the NBD project), for tests that need to misbehave or to look
closely, and certificates for its TLS."""
import os
import random
import shutil
import socket
import ssl
import struct
import tempfile
import threading
import time

from orion import find, sh, wait_for

K, M = 1 << 10, 1 << 20
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)
FUA, NO_HOLE, DF, REQ_ONE, FAST_ZERO, PAYLOAD = 1, 2, 4, 8, 16, 32
EXPORT_NAME, ABORT, LIST, STARTTLS, INFO, GO = 1, 2, 3, 5, 6, 7
STRUCTURED, LIST_CONTEXT, SET_CONTEXT, EXTENDED = 8, 9, 10, 11
ACK, SERVER, REP_INFO, META = 1, 2, 3, 4
UNSUP, POLICY, INVALID, TLS_REQD, UNKNOWN, SHUTDOWN, TOO_BIG = (1 << 31 | n for n in (1, 2, 3, 5, 6, 7, 9))
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = 1, 5, 22, 28, 75, 95, 108
CONTEXT = b'base:allocation'


def text(s):
    return struct.pack('>I', len(s)) + s


class Raw:
    """A client that can be stopped at any byte. `at`: the path of a unix socket, a TCP port of loopback, or
    (host, port)."""

    def __init__(self, at, name='v', mode='simple', context=False, flags=3, tls=None, source=None):
        self.mode, self.context = mode, None
        if not isinstance(at, str):
            self.s = socket.create_connection(('127.0.0.1', at) if isinstance(at, int) else at, 60, source)
        else:
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(60)
            self.s.connect(at)
        if name is not None:
            self.hello(flags)
            if tls:
                self.start_tls(tls)
            self.go(name.encode(), context)

    def recv(self, n):
        data = bytearray()
        while len(data) < n:
            part = self.s.recv(min(n - len(data), M))
            if not part:
                raise ConnectionError('closed')
            data += part
        return bytes(data)

    # -- handshake
    def hello(self, flags=3):
        assert self.recv(18) == b'NBDMAGICIHAVEOPT\0\3'
        self.s.sendall(struct.pack('>I', flags))

    def start_tls(self, context):
        assert self.ask_option(STARTTLS) == [(ACK, b'')]
        self.s = context.wrap_socket(self.s)

    @staticmethod
    def option(number, data=b''):
        return b'IHAVEOPT' + struct.pack('>II', number, len(data)) + data

    def ask_option(self, number, data=b''):
        """The replies to an option: (type, data), the last one an ACK or an error."""
        self.s.sendall(self.option(number, data))
        return self.option_replies(number)

    def option_replies(self, number):
        replies = []
        while True:
            magic, option, kind, length = struct.unpack('>QIII', self.recv(20))
            assert (magic, option) == (0x3e889045565a9, number), (hex(magic), option)
            replies.append((kind, self.recv(length)))
            if kind == ACK or kind >> 31:
                return replies

    def info(self, name=b'v', *items, option=INFO):
        return self.ask_option(option, text(name) + struct.pack('>%dH' % (len(items) + 1), len(items), *items))

    def set_context(self, name=b'v', *queries, option=SET_CONTEXT):
        data = text(name) + struct.pack('>I', len(queries)) + b''.join(text(q) for q in queries)
        return self.ask_option(option, data)

    def go(self, name=b'v', context=False):
        if self.mode != 'simple':
            assert self.ask_option(EXTENDED if self.mode == 'extended' else STRUCTURED) == [(ACK, b'')]
        if context:
            (kind, found), end = self.set_context(name, CONTEXT)
            assert (kind, end) == (META, (ACK, b'')) and found[4:] == CONTEXT
            self.context, = struct.unpack('>I', found[:4])
        replies = self.info(name, option=GO)
        assert replies[-1] == (ACK, b''), replies
        self.size, self.flags = struct.unpack('>QH', replies[0][1][2:12])

    # -- transmission
    def request(self, kind, offset=0, length=0, cookie=0, flags=0):
        if self.mode == 'extended':
            return struct.pack('>IHHQQQ', 0x21e41c71, flags, kind, cookie, offset, length)
        return struct.pack('>IHHQQI', 0x25609513, flags, kind, cookie, offset, length)

    def reply(self, length=0):
        """A simple reply: (error, cookie, data)."""
        magic, error, cookie = struct.unpack('>IIQ', self.recv(16))
        assert magic == 0x67446698, hex(magic)
        return error, cookie, self.recv(length) if not error else b''

    def chunks(self, cookie, offset=0):
        """All chunks of a structured or extended reply: (type, payload). A simple one that is allowed: []."""
        found = []
        while True:
            magic, = struct.unpack('>I', self.recv(4))
            if self.mode == 'extended':
                assert magic == 0x6e8a278c, hex(magic)
                done, kind, c, at, n = struct.unpack('>HHQQQ', self.recv(28))
                assert at == offset, at
            elif magic == 0x67446698:
                error, c = struct.unpack('>IQ', self.recv(12))
                assert (error, c, found) == (0, cookie, []), (error, c)
                return []
            else:
                assert magic == 0x668e33ef, hex(magic)
                done, kind, c, n = struct.unpack('>HHQI', self.recv(16))
            assert c == cookie, c
            found.append((kind, self.recv(n)))
            if done & 1:
                return found

    def ask(self, kind, offset=0, length=0, flags=0, payload=b'', cookie=99):
        self.s.sendall(self.request(kind, offset, length, cookie, flags) + payload)
        return self.chunks(cookie, offset)

    def error(self, kind, offset=0, length=0, flags=0, payload=b''):
        """The error that a request gets."""
        self.s.sendall(self.request(kind, offset, length, 98, flags) + payload)
        if self.mode == 'simple':
            code, cookie, _ = self.reply()
            assert cookie == 98 and code
            return code
        (kind, data), = self.chunks(98, offset)
        assert kind == 32769, kind
        code, n = struct.unpack('>IH', data[:6])
        assert n and len(data) == 6 + n
        return code

    def read(self, offset, length):
        self.s.sendall(self.request(READ, offset, length))
        error, _, data = self.reply(length)
        assert not error, error
        return data

    def write(self, offset, data):
        self.s.sendall(self.request(WRITE, offset, len(data)) + data)
        assert self.reply()[0] == 0

    def descriptors(self, chunks):
        """[(length, state), ...] of a BLOCK_STATUS."""
        (kind, data), = chunks
        if self.mode == 'extended':
            assert kind == 6, kind
            context, count = struct.unpack('>II', data[:8])
            assert context == self.context and len(data) == 8 + 16 * count
            return [struct.unpack('>QQ', data[8 + 16 * i:24 + 16 * i]) for i in range(count)]
        assert kind == 5 and struct.unpack('>I', data[:4])[0] == self.context
        return [struct.unpack('>II', data[i:i + 8]) for i in range(4, len(data), 8)]

    # -- the end
    def reset(self):
        """Closes without a goodbye, unread data and all."""
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.s.close()

    def closed(self, seconds=60):
        self.s.settimeout(seconds)
        try:
            return self.s.recv(1) == b''
        except ConnectionResetError:
            return True


class Witness(threading.Thread):
    """A well-behaved client beside the bad ones: all it reads is what it wrote."""

    def __init__(self, at, base):
        super().__init__()
        self.c, self.base = Raw(at), base
        self.over, self.error, self.took = False, None, []

    def run(self):
        rng = random.Random(self.base)
        try:
            while not self.over:
                size = rng.choice((512, 4096, 65536))
                offset = self.base + rng.randrange(M // size) * size
                data = rng.randbytes(size)
                begin = time.monotonic()
                self.c.write(offset, data)
                assert self.c.read(offset, size) == data
                self.took.append(time.monotonic() - begin)
                time.sleep(0.001)
        except Exception as e:
            self.error = e

    def end(self):
        """Every request of it was answered, and rightly. The time that a write and a read took: (median, p99)."""
        wait_for(lambda: len(self.took) > 100 or self.error, 120, 'the well-behaved client to be served')
        self.over = True
        self.join()
        if self.error:
            raise self.error
        self.c.s.close()
        took = sorted(self.took)
        return took[len(took) // 2], took[len(took) * 99 // 100]


# ---- how a client may go: each takes one in transmission, and leaves its end to the caller

def half_a_header(c, rng):
    c.s.sendall(c.request(READ, 0, 4096)[:rng.randrange(1, 28)])


def half_a_payload(c, rng):
    size = rng.choice((4096, M))
    c.s.sendall(c.request(WRITE, 32 * M, size) + bytes(rng.randrange(size)))


def reads_under_way(c, rng):
    c.s.sendall(b''.join(c.request(READ, n * 65536, 65536, n) for n in range(64)))


def half_a_reply(c, rng):
    c.s.sendall(c.request(READ, 0, 4 * M))
    c.recv(rng.randrange(1, M))


def rubbish(c, rng):
    c.s.sendall(rng.randbytes(100))


def writes_and_a_goodbye(c, rng):
    """The goodbye overtakes the replies."""
    at = 64 * M + rng.randrange(256) * 65536
    c.s.sendall(b''.join(c.request(WRITE, at, 4096) + bytes(4096) for _ in range(16)) + c.request(DISC))


def odd_writes_into_one_block(c, rng):
    c.s.sendall(b''.join(c.request(WRITE, 96 * M + n, 1) + b'x' for n in range(64)) + c.request(ZERO, 96 * M + 1, 9999))


def reads_never_taken(c, rng):
    c.s.setblocking(False)
    try:
        for n in range(100):
            c.s.send(c.request(READ, 0, M, n))
    except BlockingIOError:
        pass # the server has stopped reading too


ABUSES = (half_a_header, half_a_payload, reads_under_way, half_a_reply, rubbish, writes_and_a_goodbye,
          odd_writes_into_one_block, reads_never_taken)


def negotiation_rubbish(rng):
    """What somebody who speaks another protocol, or none, sends after the greeting."""
    flags = struct.pack('>I', 3)
    return rng.choice((
        b'GET / HTTP/1.1\r\n\r\n', bytes(64), b'\xff' * 64, flags + bytes(64), rng.randbytes(200),
        flags + Raw.option(rng.getrandbits(32), rng.randbytes(rng.randrange(300))) + rng.randbytes(40),
        flags + b'IHAVEOPT' + struct.pack('>II', GO, 0xffffffff) + bytes(5000),
        flags + Raw.option(GO, struct.pack('>I', 0xfffffff0) + b'v\0\0') + bytes(16),
        flags + Raw.option(SET_CONTEXT, rng.randbytes(60)) + bytes(16)))


def nothing_left(o):
    """No session, no bio under way, no descriptor: waits until that is so."""
    wait_for(lambda: not o.ctl('session', 'list')['items'], 60, 'all sessions to end')
    wait_for(lambda: not o.ctl('debug', 'inflight')['items'], 60, 'all bios to end')
    o.fds_check()


def sanitized():
    """A sanitizer's shadow makes figures of memory meaningless."""
    with open(find('oriond'), 'rb') as f:
        program = f.read()
    return b'__asan_init' in program or b'__tsan_init' in program


def rss(o):
    """The daemon's memory, in KiB."""
    with open('/proc/%d/status' % o.proc.pid) as f:
        return [int(line.split()[1]) for line in f if line.startswith('VmRSS')][0]


# ---- certificates

_made = None


def make_certificates(folder):
    """In `folder`: a CA, a server's certificate for localhost, and clients alice, bob and mallory, whose CA is
    another one; keys.psk; and folders d-WHO with the names that libnbd and qemu look for."""
    global _made
    if not _made:
        _made = tempfile.TemporaryDirectory(prefix='orion-certificates-')
        _generate(_made.name)
    shutil.copytree(_made.name, folder, symlinks=True, dirs_exist_ok=True)


def _generate(folder):
    def openssl(*argv):
        sh('openssl', *argv, cwd=folder)

    key = ('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes')

    def ca(name):
        openssl('req', '-x509', *key, '-keyout', name + '-key.pem', '-out', name + '.pem', '-subj', '/CN=the CA',
                '-days', '2')

    def signed(name, cn, by, ext):
        openssl('req', *key, '-keyout', name + '-key.pem', '-out', name + '.csr', '-subj', '/CN=' + cn)
        with open(os.path.join(folder, name + '.ext'), 'w') as f:
            f.write(ext)
        openssl('x509', '-req', '-in', name + '.csr', '-CA', by + '.pem', '-CAkey', by + '-key.pem',
                '-CAcreateserial', '-out', name + '.pem', '-days', '2', '-extfile', name + '.ext')

    ca('ca')
    ca('otherca')
    signed('server', 'localhost', 'ca', 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n')
    for who, by in (('alice', 'ca'), ('bob', 'ca'), ('mallory', 'otherca')):
        signed(who, 'alice' if who == 'mallory' else who, by, 'extendedKeyUsage=clientAuth\n')
    for who in ('alice', 'bob', 'mallory', 'none'):
        d = os.path.join(folder, 'd-' + who)
        os.mkdir(d)
        os.symlink('../ca.pem', os.path.join(d, 'ca-cert.pem'))
        if who != 'none':
            os.symlink('../%s.pem' % who, os.path.join(d, 'client-cert.pem'))
            os.symlink('../%s-key.pem' % who, os.path.join(d, 'client-key.pem'))
    path = os.path.join(folder, 'keys.psk')
    with open(path, 'w') as f:
        f.write('alice:' + '5a' * 32 + '\n')
    os.chmod(path, 0o600)


def tls_context(folder, version=None):
    c = ssl.create_default_context(cafile=os.path.join(folder, 'ca.pem'))
    c.check_hostname = False
    if version:
        c.minimum_version = c.maximum_version = version
    return c
