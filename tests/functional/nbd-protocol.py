# SPDX-License-Identifier: GPL-2.0-or-later
"""What doc/proto.md demands of a server and no well-behaved client asks for: clause by clause, byte by byte."""
import os
import struct

from nbdwire import (ABORT, ACK, DISC, EINVAL, EOVERFLOW, EXPORT_NAME, EXTENDED, FLUSH, FUA, GO, INFO, INVALID, K, LIST,
                     LIST_CONTEXT, M, META, PAYLOAD, POLICY, READ, REP_INFO, SERVER, SET_CONTEXT, STARTTLS, STATUS,
                     STRUCTURED, TLS_REQD, TOO_BIG, TRIM, UNKNOWN, UNSUP, WRITE, CONTEXT, Raw, make_certificates, text)
from orion import Orion, free_port, run


def served(o, *options):
    o.mem('d0')
    return o.nbd('v', 'd0', *options).split('socket=')[1]


def shaking(at, flags=3):
    c = Raw(at, None)
    c.hello(flags)
    return c


def last(replies):
    return replies[-1][0]


def test_options_out_of_the_ordinary():
    with Orion() as o:
        path = served(o, '--description', 'words')
        c = shaking(path)
        for number in (0, 4, 12, 99, 0xffffffff): # 4 was PEEK_EXPORT
            assert last(c.ask_option(number)) == UNSUP
            assert last(c.ask_option(number, bytes(3000))) == UNSUP
            assert last(c.ask_option(number, bytes(20000))) == UNSUP
        for number in (LIST, STRUCTURED, EXTENDED):
            assert last(c.ask_option(number, b'x')) == INVALID
        for number in (INFO, GO, LIST_CONTEXT, LIST, STARTTLS, STRUCTURED):
            assert last(c.ask_option(number, bytes(100000))) == TOO_BIG
        for data in (b'', b'\0\0', text(b'v'), text(b'v') + b'\0\1', text(b'v') + b'\0\0x', b'\xff' * 10,
                     text(b'x' * 5000) + b'\0\0'):
            assert last(c.ask_option(INFO, data)) == INVALID, data
        for name in (b'w', b'v\0', b'V', b'x' * 4096, b'\xff\xfe'):
            assert last(c.info(name)) == UNKNOWN, name
        replies = c.info(b'v', 3, 9, 2, 77, 1, 0) # unknown items are ignored, and the rest told once
        kinds = [struct.unpack('>H', d[:2])[0] for k, d in replies if k == REP_INFO]
        assert sorted(kinds) == [0, 1, 2, 3] and last(replies) == ACK, replies
        least, preferred, most = [struct.unpack('>III', d[2:]) for k, d in replies if d[:2] == b'\0\3'][0]
        assert (least, most) == (1, 32 * M) and preferred >= 512 and preferred & (preferred - 1) == 0
        assert c.ask_option(LIST) == [(SERVER, text(b'v') + b'words'), (ACK, b'')]
        assert c.info(b'v', 2) == c.info(b'v', 2) # without anything in between it is the same
        assert c.ask_option(ABORT, b'with data') == [(ACK, b'')] and c.closed()
        c.s.close()


def test_flags_of_the_client():
    with Orion() as o:
        path = served(o)
        for flags in (4, 1 << 31, 7, 0xffffffff):
            c = shaking(path, flags)
            assert c.closed()
            c.s.close()
        for flags in (0, 1, 2, 3): # with EXPORT_NAME the zeroes depend on the flag, with GO there are none
            c = shaking(path, flags)
            c.s.sendall(c.option(EXPORT_NAME, b'v'))
            assert c.recv(10)[:8] == struct.pack('>Q', 64 * M)
            if not flags & 2:
                assert c.recv(124) == bytes(124)
            assert c.read(0, 512) == bytes(512)
            c.s.close()
            c = shaking(path, flags)
            c.go()
            assert c.read(0, 512) == bytes(512)
            c.s.close()


def test_contexts():
    with Orion() as o:
        path = served(o)
        c = shaking(path)
        assert last(c.set_context(b'v', CONTEXT)) == INVALID # structured replies come first
        assert last(c.set_context(b'v', CONTEXT, option=LIST_CONTEXT)) == INVALID
        assert c.ask_option(STRUCTURED) == [(ACK, b'')]
        assert c.set_context(b'v', option=LIST_CONTEXT) == [(META, bytes(4) + CONTEXT), (ACK, b'')]
        for queries in ((b'base:',), (CONTEXT,), (b'x-a:b', CONTEXT, b'base:'), (CONTEXT, CONTEXT)):
            assert c.set_context(b'v', *queries, option=LIST_CONTEXT) == [(META, bytes(4) + CONTEXT), (ACK, b'')]
        for queries in ((b'base:other',), (b'x-a:',), (b'qemu:dirty-bitmap:b',)):
            assert c.set_context(b'v', *queries, option=LIST_CONTEXT) == [(ACK, b'')], queries
            assert c.set_context(b'v', *queries) == [(ACK, b'')], queries
        assert c.set_context(b'v') == [(ACK, b'')] and c.set_context(b'v', b'base:') == [(ACK, b'')]
        assert len(c.set_context(b'v', CONTEXT, CONTEXT)) == 2 # selected once
        assert last(c.set_context(b'w', CONTEXT)) == UNKNOWN
        assert last(c.ask_option(SET_CONTEXT, text(b'v') + struct.pack('>II', 1, 99) + b'base:')) == INVALID
        assert last(c.ask_option(SET_CONTEXT, text(b'v') + struct.pack('>I', 0xffffffff))) == INVALID
        for spoil in ((b'w', CONTEXT), (b'v', b'x' * 9000), (b'v', b'nocolon')):
            assert last(c.set_context(b'v', CONTEXT)) == ACK
            assert last(c.set_context(*spoil)) in (UNKNOWN, TOO_BIG, INVALID)
        c.mode = 'simple' # already negotiated
        c.go()
        c.mode = 'structured'
        assert c.error(STATUS, 0, 4096) == EINVAL # the last SET failed, so none is set
        c.s.close()


def test_modes_are_entered_once_and_extended_is_the_last():
    with Orion() as o:
        path = served(o)
        c = shaking(path)
        assert last(c.ask_option(STRUCTURED)) == ACK and last(c.ask_option(STRUCTURED)) == INVALID
        assert last(c.ask_option(EXTENDED)) == ACK and last(c.ask_option(EXTENDED)) == INVALID
        assert last(c.ask_option(STRUCTURED)) == 1 << 31 | 10
        flags = struct.unpack('>H', c.info(b'v')[0][1][10:12])[0]
        assert flags & 1 << 7 and not flags & 1 << 12 # no context set, no payload for it
        assert last(c.set_context(b'v', CONTEXT)) == ACK
        assert struct.unpack('>H', c.info(b'v')[0][1][10:12])[0] & 1 << 12
        c.s.sendall(c.option(EXPORT_NAME, b'v'))
        assert c.closed()
        c.s.close()
        c = shaking(path)
        assert not struct.unpack('>H', c.info(b'v')[0][1][10:12])[0] & 1 << 7 # DF is of structured replies
        c.s.close()


def test_requests_out_of_the_ordinary():
    with Orion() as o:
        path = served(o)
        for mode in ('simple', 'structured', 'extended'):
            c = Raw(path, mode=mode, context=mode != 'simple')
            payload = PAYLOAD if mode == 'extended' else 0
            assert c.error(99) == EINVAL and c.error(8, 0, 4096) == EINVAL and c.error(0xffff) == EINVAL
            for kind in (FLUSH, READ, WRITE, TRIM): # FUA is valid for all commands
                data = bytes(512) if kind == WRITE else b''
                c.s.sendall(c.request(kind, 0, 0 if kind == FLUSH else 512, 5,
                                      FUA | (payload if kind == WRITE else 0)) + data)
                if mode == 'simple':
                    assert c.reply(512 if kind == READ else 0)[:2] == (0, 5)
                else:
                    c.chunks(5)
            assert c.error(READ, 0, 32 * M + 1) == (EINVAL if mode == 'simple' else EOVERFLOW)
            assert c.error(READ, (1 << 64) - 512, 512) == EINVAL
            assert c.error(FLUSH, 0, 512) == EINVAL and c.error(FLUSH, 512) == EINVAL
            for bit in range(16):
                if bit not in (0, 5):
                    assert c.error(FLUSH, flags=1 << bit) == EINVAL, bit
            if mode == 'extended':
                assert c.error(TRIM, 0, 512, PAYLOAD, bytes(512)) == EINVAL
            else:
                assert c.error(TRIM, 0, 512, PAYLOAD) == EINVAL
            # Cookies are the client's: any, and the same one twice.
            for cookie in (0, (1 << 64) - 1, 7, 7):
                c.s.sendall(c.request(READ, 0, 512, cookie))
                assert c.reply(512)[1] == cookie if mode == 'simple' else c.chunks(cookie)
            # DISC is answered by the end, and what was asked before it is answered.
            c.s.sendall(c.request(READ, 0, 64 * K, 1) + c.request(DISC))
            assert c.reply(64 * K)[0] == 0 if mode == 'simple' else c.chunks(1)
            assert c.closed()
            c.s.close()


def test_structured_replies_only_where_they_are_due():
    with Orion() as o:
        path = served(o)
        c = Raw(path, mode='structured', context=True)
        assert c.ask(WRITE, 0, 512, 0, bytes(512)) == [] # simple: it carries nothing
        (kind, data), = c.ask(READ, 0, 512)
        assert kind == 1 and data == struct.pack('>Q', 0) + bytes(512)
        assert c.descriptors(c.ask(STATUS, 0, 64 * M))
        assert c.error(READ, 64 * M, 512) == EINVAL # an ERROR chunk, never a simple reply
        c.s.close()


def test_a_payload_beyond_the_longest_ends_the_connection_after_what_was_asked():
    with Orion() as o:
        c = Raw(served(o), mode='extended')
        c.s.sendall(c.request(READ, 0, 512, 1) + c.request(WRITE, 0, 1 << 60, 2, PAYLOAD) + bytes(1000))
        assert c.chunks(1)[0][1][8:] == bytes(512)
        assert c.closed()
        c.s.close()


def test_exports_for_tls_only():
    with Orion() as o:
        make_certificates(o.dir)
        o.mem('d0')
        o.ctl('nbd', 'export', 'v', '--device', 'd0')
        o.ctl('nbd', 'export', 't', '--device', 'd0', '--allow', 'tls:alice')
        port, clear = free_port(), free_port()
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % port, '--tls', 'allowed', '--tls-cert', os.path.join(o.dir, 'server.pem'),
              '--tls-key', os.path.join(o.dir, 'server-key.pem'))
        o.ctl('nbd', 'listen', '127.0.0.1:%d' % clear)
        c = shaking(port)
        assert last(c.info(b't')) == last(c.info(b't', option=GO)) == TLS_REQD
        assert last(c.ask_option(STRUCTURED)) == ACK
        assert last(c.set_context(b't', CONTEXT)) == POLICY # TLS_REQD is for INFO and GO
        assert c.ask_option(LIST) == [(SERVER, text(b'v')), (ACK, b'')]
        assert last(c.info(b'v')) == ACK
        c.s.sendall(c.option(EXPORT_NAME, b't'))
        assert c.closed()
        c.s.close()
        c = shaking(port, 2) # does not know fixed newstyle
        assert last(c.ask_option(STARTTLS)) == POLICY and last(c.info(b't')) == POLICY
        c.s.close()
        c = shaking(clear) # there is no TLS to ask for
        assert last(c.info(b't')) == POLICY and last(c.ask_option(STARTTLS)) == POLICY
        c.s.close()


run(test_options_out_of_the_ordinary,
    test_flags_of_the_client,
    test_contexts,
    test_modes_are_entered_once_and_extended_is_the_last,
    test_requests_out_of_the_ordinary,
    test_structured_replies_only_where_they_are_due,
    test_a_payload_beyond_the_longest_ends_the_connection_after_what_was_asked,
    test_exports_for_tls_only)
