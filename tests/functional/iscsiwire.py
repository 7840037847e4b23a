# SPDX-License-Identifier: GPL-2.0-or-later
"""An iSCSI initiator of the wire (RFC 7143), for tests that need to misbehave or to look closely."""
import socket
import struct

NOP_OUT, SCSI_CMD, TMF, LOGIN, TEXT, DATA_OUT, LOGOUT, SNACK = 0, 1, 2, 3, 4, 5, 6, 0x10
NOP_IN, SCSI_RSP, TMF_RSP, LOGIN_RSP, TEXT_RSP, DATA_IN, LOGOUT_RSP = 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26
R2T, ASYNC, REJECT = 0x31, 0x32, 0x3f
NO_TAG = 0xffffffff

_TABLE = []
for _i in range(256):
    _c = _i
    for _ in range(8):
        _c = _c >> 1 ^ (0x82f63b78 if _c & 1 else 0)
    _TABLE.append(_c)


def crc32c(data):
    c = 0xffffffff
    for b in data:
        c = c >> 8 ^ _TABLE[(c ^ b) & 0xff]
    return struct.pack('<I', c ^ 0xffffffff)


def text(pairs):
    return b''.join(('%s=%s' % p).encode() + b'\0' for p in pairs)


def pairs(data):
    return [tuple(line.split('=', 1)) for line in data.decode().split('\0') if line]


class Pdu:
    def __init__(self, head, data):
        self.head, self.data = head, data
        self.op, self.flags = head[0] & 0x3f, head[1]
        self.itt, self.w20, self.sn, self.exp, self.max, self.w36, self.w40, self.w44 = \
            struct.unpack('>8I', head[16:48])

    def __repr__(self):
        return 'Pdu(op=0x%02x flags=0x%02x head=%s data=%d)' % (
            self.op, self.flags, self.head.hex(), len(self.data))


class Reply:
    """What a SCSI command came to."""

    def __init__(self):
        self.status, self.data, self.sense = None, b'', b''
        self.overflow = self.underflow = False
        self.residual = 0
        self.data_pdus, self.r2ts = [], []

    @property
    def key(self):
        """(sense key, asc, ascq)"""
        s = self.sense
        if not s:
            return None
        return (s[2] & 15, s[12], s[13]) if s[0] & 0x7e == 0x70 else (s[1] & 15, s[2], s[3])


class LoginError(Exception):
    def __init__(self, pdu):
        super().__init__('login status %02x%02x' % (pdu.head[36], pdu.head[37]))
        self.status = pdu.head[36] << 8 | pdu.head[37]


DEFAULTS = {'HeaderDigest': 'None', 'DataDigest': 'None', 'InitialR2T': 'No', 'ImmediateData': 'Yes',
            'MaxRecvDataSegmentLength': '65536', 'FirstBurstLength': '65536', 'MaxBurstLength': '262144',
            'MaxOutstandingR2T': '4', 'MaxConnections': '1', 'ErrorRecoveryLevel': '0',
            'DefaultTime2Wait': '2', 'DefaultTime2Retain': '0'}


class Initiator:
    def __init__(self, addr, target=None, name='iqn.2026-11.test:wire', isid=b'\x40\0\x37\0\0\1',
                 login=True, timeout=20, **keys):
        host, port = addr.rsplit(':', 1)
        self.sock = socket.create_connection((host, int(port)), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.target, self.name, self.isid = target, name, isid
        self.cmdsn, self.exp_statsn, self.max_cmdsn, self.itt = 1, 0, 1, 0
        self.tsih, self.cid = 0, 1
        self.first, self.next_sn = None, None
        self.header_digest = self.data_digest = False
        self.got = {}
        self.keys = dict(DEFAULTS, **keys)
        self.peer_max = 8192
        if login:
            self.login()

    # -- PDUs
    def send(self, op, flags, lun=bytes(8), itt=0, words=(), data=b'', immediate=False, raw=None,
             cut=None):
        head = struct.pack('>BBHB', op | (0x40 if immediate else 0), flags, 0, 0)
        head += len(data).to_bytes(3, 'big') + lun + struct.pack('>I', itt)
        head += raw if raw is not None else b''.join(struct.pack('>I', w) for w in words)
        head = head.ljust(48, b'\0')
        out = head + (crc32c(head) if self.header_digest else b'')
        if data:
            body = data + bytes(-len(data) % 4)
            out += body + (crc32c(body) if self.data_digest else b'')
        self.sock.sendall(out[:cut] if cut is not None else out)

    def exactly(self, n):
        out = bytearray()
        while len(out) < n:
            more = self.sock.recv(n - len(out))
            if not more:
                raise EOFError('the target closed the connection')
            out += more
        return bytes(out)

    def recv(self):
        head = self.exactly(48)
        if self.header_digest:
            assert self.exactly(4) == crc32c(head), 'header digest'
        n = int.from_bytes(head[5:8], 'big')
        body = self.exactly(n + -n % 4)
        if self.data_digest and n:
            assert self.exactly(4) == crc32c(body), 'data digest'
        p = Pdu(head, body[:n])
        if (p.max - self.max_cmdsn) & 0xffffffff < 1 << 31:
            self.max_cmdsn = p.max
        return p

    def closed(self):
        """Has the target closed? Waits for it."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        self.sock.close()

    # -- login
    def login_pdu(self, csg, nsg, keys, transit=True, more=False, version_min=0):
        data = keys if isinstance(keys, bytes) else text(keys)
        head = struct.pack('>BBBBB', 0x43, (0x80 if transit else 0) | (0x40 if more else 0) | csg << 2 | nsg,
                           0, version_min, 0) + len(data).to_bytes(3, 'big')
        head += self.isid + struct.pack('>HIHHII', self.tsih, 7, self.cid, 0, self.cmdsn, self.exp_statsn)
        self.sock.sendall(head.ljust(48, b'\0') + data + bytes(-len(data) % 4))
        p = self.recv()
        assert p.op == LOGIN_RSP, p
        self.exp_statsn = p.sn + 1 & 0xffffffff
        if p.head[36]:
            raise LoginError(p)
        for k, v in pairs(p.data):
            self.got[k] = v
        return p

    def join(self, first, cid):
        """Logs in to the session of another Initiator, as a further connection or in the place of one."""
        self.tsih, self.cid, self.isid, self.first = first.tsih, cid, first.isid, first
        self.cmdsn = first.cmdsn
        own = ('HeaderDigest', 'DataDigest', 'MaxRecvDataSegmentLength')
        self.login_pdu(0, 1, self.names() + [('AuthMethod', 'None')])
        p = self.login_pdu(1, 3, [(k, self.keys[k]) for k in own])
        assert p.flags & 0x83 == 0x83, p
        for k, v in first.got.items():
            if k not in own:
                self.got[k] = v
        self.full(p)
        return self

    def names(self):
        out = [('InitiatorName', self.name)]
        if self.target:
            return out + [('TargetName', self.target), ('SessionType', 'Normal')]
        return out + [('SessionType', 'Discovery')]

    def login(self):
        self.login_pdu(0, 1, self.names() + [('AuthMethod', 'None')])
        keys = self.keys if self.target else {k: self.keys[k] for k in
                                              ('HeaderDigest', 'DataDigest', 'MaxRecvDataSegmentLength')}
        p = self.login_pdu(1, 3, list(keys.items()))
        assert p.flags & 0x83 == 0x83, p
        self.full(p)

    def full(self, p):
        self.tsih = int.from_bytes(p.head[14:16], 'big')
        self.max_cmdsn = p.max
        self.peer_max = int(self.got.get('MaxRecvDataSegmentLength', 8192))
        self.header_digest = self.got.get('HeaderDigest') == 'CRC32C'
        self.data_digest = self.got.get('DataDigest') == 'CRC32C'

    # -- full feature
    def tag(self):
        if self.first:
            return self.first.tag()
        self.itt += 1
        return self.itt

    def sn(self):
        """The next CmdSN, which the session's connections share; next_sn goes before it once."""
        if self.next_sn is not None:
            sn, self.next_sn = self.next_sn, None
            return sn
        if self.first:
            return self.first.sn()
        self.cmdsn = self.cmdsn + 1 & 0xffffffff
        return self.cmdsn - 1 & 0xffffffff

    def exp_cmdsn(self):
        return self.first.exp_cmdsn() if self.first else self.cmdsn

    def status(self, p):
        self.exp_statsn = p.sn + 1 & 0xffffffff
        return p

    def nop(self, data=b'', immediate=True):
        itt = self.tag()
        self.send(NOP_OUT, 0x80, itt=itt, words=(NO_TAG, self.exp_cmdsn() if immediate else self.sn(),
                                                 self.exp_statsn), data=data, immediate=immediate)
        p = self.status(self.recv())
        assert p.op == NOP_IN and p.itt == itt, p
        return p

    def text(self, data, itt=None, ttt=NO_TAG, flags=0x80):
        self.send(TEXT, flags, itt=itt or self.tag(), words=(ttt, self.sn(), self.exp_statsn), data=data)
        return self.status(self.recv())

    def send_targets(self, what='All'):
        out, ttt, data, itt = b'', NO_TAG, text([('SendTargets', what)]), self.tag()
        while True:
            p = self.text(data, itt, ttt)
            out += p.data
            if p.flags & 0x80:
                return pairs(out)
            ttt, data = p.w20, b''

    def logout(self, reason=0, cid=None):
        itt = self.tag()
        self.send(LOGOUT, 0x80 | reason, itt=itt, words=((self.cid if cid is None else cid) << 16, self.exp_cmdsn(),
                                                         self.exp_statsn), immediate=True)
        while True:
            p = self.recv()
            if p.op == LOGOUT_RSP:
                assert p.itt == itt
                return p

    def tmf(self, function, lun=0, ref=NO_TAG, ref_sn=0):
        itt = self.tag()
        self.send(TMF, 0x80 | function, bytes([0, lun]) + bytes(6), itt,
                  (ref, self.exp_cmdsn(), self.exp_statsn, ref_sn), immediate=True)
        return itt

    def command(self, cdb, read=0, write=None, lun=0, unsolicited=True, attr=1, itt=None, flags=None,
                expected=None):
        """Sends a command with as much data as it may; returns its tag."""
        itt = itt or self.tag()
        length = len(write) if write is not None else read
        expected = length if expected is None else expected
        f = 0x80 | attr | (0x40 if read else 0) | (0x20 if write is not None else 0)
        lun = bytes([0, lun]) + bytes(6)
        imm, rest = b'', b''
        burst = int(self.got.get('FirstBurstLength', 65536))
        if write and unsolicited:
            if self.got.get('ImmediateData') == 'Yes':
                imm = write[:min(burst, self.peer_max)]
            if self.got.get('InitialR2T') == 'No':
                rest = write[len(imm):burst]
        if rest:
            f &= 0x7f
        if flags is not None:
            f = flags
        self.send(SCSI_CMD, f, lun, itt, raw=struct.pack('>III', expected, self.sn(), self.exp_statsn) +
                  cdb.ljust(16, b'\0'), data=imm)
        self.data_out(itt, NO_TAG, lun, len(imm), rest)
        return itt

    def data_out(self, itt, ttt, lun, offset, data, size=None):
        sn = 0
        size = size or min(self.peer_max, 8192)
        while data:
            part, data = data[:size], data[size:]
            self.send(DATA_OUT, 0 if data else 0x80, lun, itt,
                      (ttt, 0, self.exp_statsn, 0, sn, offset), data=part)
            sn, offset = sn + 1, offset + len(part)

    def reply(self, itt, write=b''):
        """Waits for a command's status, answering its R2Ts."""
        r = Reply()
        data = {}
        while True:
            p = self.recv()
            if p.op == R2T and p.itt == itt:
                r.r2ts.append((p.w40, p.w44))
                self.data_out(itt, p.w20, p.head[8:16], p.w40, write[p.w40:p.w40 + p.w44])
                continue
            if p.op == NOP_IN and p.itt == NO_TAG:
                continue
            assert p.itt == itt and p.op in (DATA_IN, SCSI_RSP), p
            if p.op == DATA_IN:
                r.data_pdus.append((p.w36, p.w40, len(p.data), p.flags))
                data[p.w40] = p.data
                if not p.flags & 1:
                    continue
            elif p.data:
                r.sense = p.data[2:2 + int.from_bytes(p.data[:2], 'big')]
            self.status(p)
            r.status, r.residual = p.head[3], p.w44
            r.overflow, r.underflow = bool(p.flags & 4), bool(p.flags & 2)
            r.data = b''.join(data[k] for k in sorted(data))
            return r

    def do(self, cdb, read=0, write=None, **kw):
        return self.reply(self.command(cdb, read, write, **kw), write or b'')

    def read(self, lba, blocks, **kw):
        return self.do(read10(lba, blocks), read=kw.pop('read', blocks * 512), **kw)

    def write(self, lba, data, **kw):
        return self.do(write10(lba, len(data) // 512), write=data, **kw)

    def ready(self, lun=0):
        """Takes the unit attentions."""
        for _ in range(10):
            if self.do(bytes(6), lun=lun).status == 0:
                return self
        raise AssertionError('the LUN does not get ready')


def read10(lba, blocks):
    return struct.pack('>BBIBHB', 0x28, 0, lba, 0, blocks, 0)


def write10(lba, blocks):
    return struct.pack('>BBIBHB', 0x2a, 0, lba, 0, blocks, 0)
