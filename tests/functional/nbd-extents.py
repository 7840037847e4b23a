# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""What is where on an export (block status, holes in reads), any byte as a boundary, and extended headers:
through libnbd, nbdinfo, nbdcopy and qemu-img, and byte by byte."""
import json
import os
import random
import struct
import sys

from nbdwire import (CACHE, EINVAL, ENOSPC, EOVERFLOW, FLUSH, FUA, K, M, PAYLOAD, READ, REQ_ONE, STATUS, TRIM, WRITE,
                     ZERO, Raw)
from orion import Orion, need, run, sh, skip

try:
    import nbd
except ImportError:
    if os.environ.get('ORION_PYTHON') or not os.access('/usr/bin/python3', os.X_OK):
        skip('python3-libnbd is not installed')
    os.environ['ORION_PYTHON'] = 'system'
    os.execv('/usr/bin/python3', ['/usr/bin/python3', '-B'] + sys.argv)

need('nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io')
HOLE, DATA = 3, 0


def connect(uri, *contexts, strict=True, structured=True):
    h = nbd.NBD()
    if not strict:
        h.set_strict_mode(0)
    h.set_request_structured_replies(structured)
    for c in contexts:
        h.add_meta_context(c)
    h.connect_uri(uri)
    return h


def uri_of(o, name):
    return 'nbd+unix:///%s?socket=%s' % (name, os.path.join(o.dir, 'nbd.sock'))


def fails(errno_name, fn, *args):
    try:
        fn(*args)
    except nbd.Error as e:
        assert e.errno == errno_name, '%s%r: %s (%s), expected %s' % (fn.__name__, args, e.errno, e.string,
                                                                      errno_name)
        return
    raise AssertionError('%s%r: no error, expected %s' % (fn.__name__, args, errno_name))


def status(h, length, offset, flags=0):
    """[(length, flags), ...] of one reply."""
    found = []

    def each(context, at, entries, error):
        assert context == 'base:allocation' and at == offset, (context, at)
        found.extend(zip(entries[0::2], entries[1::2]))
    h.block_status(length, offset, each, flags)
    return found


def spotted(o, name='d0', size=64 * M):
    """Data at 1M-2M, 8M-8M+64K and in the last 4K."""
    h = connect(o.nbd('v', name))
    h.pwrite(os.urandom(M), M)
    h.pwrite(os.urandom(64 * K), 8 * M)
    h.pwrite(os.urandom(4 * K), size - 4 * K)
    h.shutdown()


MAP = [(M, HOLE), (M, DATA), (6 * M, HOLE), (64 * K, DATA), (56 * M - 68 * K, HOLE), (4 * K, DATA)]


def test_block_status_tells_data_from_holes():
    for kind in ('mem', 'file'):
        with Orion() as o:
            if kind == 'mem':
                o.mem('d0')
            else:
                o.ctl('device', 'add', 'd0', '--path', os.path.join(o.dir, 'disk'), '--size', '64M')
            spotted(o)
            h = connect(uri_of(o, 'v'), 'base:allocation')
            assert h.can_meta_context('base:allocation')
            assert status(h, 64 * M, 0) == MAP, status(h, 64 * M, 0)
            one = nbd.CMD_FLAG_REQ_ONE
            assert status(h, 64 * M, 0, one) == [(M, HOLE)]
            assert status(h, 4 * K, M + 100, one) == [(4 * K, DATA)]
            assert status(h, 64 * M - 3, 3, one) == [(M - 3, HOLE)]
            assert status(h, 7, M - 3) == [(3, HOLE), (4, DATA)]
            fails('EINVAL', status, h, 4 * K, 64 * M)
            h.trim(M, M)
            assert status(h, 4 * M, 0) == [(4 * M, HOLE)]
            h.pwrite(b'x' * M, M)
            h.zero(M - 200, M + 100) # odd: a hole all the same, but for the blocks at its ends
            block = status(h, 4 * M, 0)[1][0]
            assert block <= 64 * K, block
            assert status(h, 4 * M, 0) == [(M, HOLE), (block, DATA), (M - 2 * block, HOLE), (block, DATA),
                                           (2 * M, HOLE)], status(h, 4 * M, 0)
            assert h.pread(M, M) == b'x' * 100 + bytes(M - 200) + b'x' * 100
            h.zero(M, M, nbd.CMD_FLAG_NO_HOLE)
            assert h.pread(M, M) == bytes(M)
            assert sum(n for n, _ in status(h, 3 * M, 0)) == 3 * M # whether these are holes may differ
            h.shutdown()


def test_block_status_is_an_error_without_its_context():
    with Orion() as o:
        o.mem('d0')
        uri = o.nbd('v', 'd0')
        for h in (connect(uri, strict=False), connect(uri, 'x-none:such', strict=False),
                  connect(uri, 'base:allocation', strict=False, structured=False)):
            assert not h.can_meta_context('base:allocation')
            fails('EINVAL', status, h, 4096, 0)
            assert h.pread(512, 0) == bytes(512)
            h.shutdown()


def test_a_long_read_tells_holes_instead_of_sending_them():
    with Orion() as o:
        o.mem('d0')
        spotted(o)
        uri = uri_of(o, 'v')
        plain = connect(uri, structured=False)
        h = connect(uri)

        def chunks(length, offset, flags=0):
            seen = []
            data = h.pread_structured(length, offset, lambda buf, at, kind, err: seen.append((at, len(buf), kind)),
                                      flags)
            assert data == plain.pread(length, offset)
            return sorted(seen)
        hole, plenty = nbd.READ_HOLE, nbd.READ_DATA
        assert chunks(M, 3 * M) == [(3 * M, M, hole)]
        assert chunks(3 * M, 0) == [(0, M, hole), (M, M, plenty), (2 * M, M, hole)]
        assert chunks(3 * M, 0, nbd.CMD_FLAG_DF) == [(0, 3 * M, plenty)]
        assert chunks(M, M) == [(M, M, plenty)]
        assert chunks(512, 0) == [(0, 512, plenty)] # not worth asking
        # What was known to be data is not told as a hole, and the other way round.
        h.trim(M, M)
        chunks(M, M)
        h.pwrite(b'x' * 64 * K, 3 * M + 1)
        assert h.pread(M, 3 * M) == plain.pread(M, 3 * M)
        h.shutdown()
        plain.shutdown()


def test_any_byte_may_be_a_boundary():
    """Against a model, on devices of 512 and 4096 bytes a block, on several connections at once."""
    rng = random.Random(7)
    for block in ('512', '4096'):
        with Orion() as o:
            o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '4M', '--block-size', block)
            uri = o.nbd('v', 'd0')
            hs = [connect(uri), connect(uri, structured=False)]
            model = bytearray(4 * M)
            for _ in range(600):
                h = rng.choice(hs)
                at = rng.randrange(4 * M)
                n = min(rng.choice((1, 3, 511, 513, 4095, 5000, 70001)), 4 * M - at)
                what = rng.randrange(5)
                if what < 2:
                    model[at:at + n] = data = rng.randbytes(n)
                    h.pwrite(data, at, rng.choice((0, nbd.CMD_FLAG_FUA)))
                elif what == 2:
                    model[at:at + n] = bytes(n)
                    h.zero(n, at, rng.choice((0, nbd.CMD_FLAG_NO_HOLE)))
                elif what == 3:
                    h.cache(n, at)
                    h.flush()
                else:
                    assert h.pread(n, at) == model[at:at + n], (at, n)
            assert hs[0].pread(4 * M, 0) == model
            fails('ENOTSUP', hs[0].zero, 100, 0, nbd.CMD_FLAG_FAST_ZERO) # not faster than by writing
            hs[0].zero(3 * M, 1, nbd.CMD_FLAG_FAST_ZERO) # the blocks inside are, and they are the most
            model[1:3 * M + 1] = bytes(3 * M)
            assert hs[0].pread(4 * M, 0) == model
            # A trim of odd bounds touches nothing beyond them.
            hs[0].trim(9000, 100)
            got = hs[0].pread(4 * M, 0)
            assert got[:100] == model[:100] and got[9100:] == model[9100:]
            for h in hs:
                h.shutdown()


def test_parallel_odd_writes_into_one_block_lose_nothing():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--type', 'mem', '--size', '1M', '--block-size', '4096')
        uri = o.nbd('v', 'd0')
        hs = [connect(uri) for _ in range(4)]
        for turn in range(20):
            bufs = []
            for i in range(256): # 16 bytes each of one block, all under way together
                b = nbd.Buffer.from_bytearray(bytearray([(i + turn) & 255] * 16))
                bufs.append(b)
                hs[i % 4].aio_pwrite(b, i * 16)
            for h in hs:
                while h.aio_in_flight():
                    h.poll(1000)
                    while h.aio_in_flight() and h.aio_peek_command_completed():
                        assert h.aio_command_completed(h.aio_peek_command_completed())
            want = b''.join(bytes([(i + turn) & 255] * 16) for i in range(256))
            assert hs[0].pread(4096, 0) == want
        for h in hs:
            h.shutdown()


def test_nbdinfo_nbdcopy_and_qemu_see_the_same_map():
    with Orion() as o:
        o.mem('d0')
        spotted(o)
        uri = uri_of(o, 'v')
        got = [(e['length'], e['type']) for e in json.loads(sh('nbdinfo', '--map', '--json', uri))]
        assert got == MAP, got
        assert 'hole,zero' in sh('nbdinfo', '--map', uri)
        totals = sh('nbdinfo', '--map', '--totals', uri)
        assert '98.3%' in totals, totals
        info = json.loads(sh('nbdinfo', '--json', uri))['exports'][0]
        assert info['contexts'] == ['base:allocation'] and info['can_df'], info
        qemu = json.loads(sh('qemu-img', 'map', '--output=json', '-f', 'raw', uri))
        assert [(e['length'], 0 if e['data'] else 3) for e in qemu] == MAP, qemu
        image = os.path.join(o.dir, 'image')
        sh('nbdcopy', uri, image)
        assert os.stat(image).st_blocks * 512 < 2 * M
        sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri)
        o.mem('d1')
        o.ctl('nbd', 'export', 'w', '--device', 'd1')
        sh('nbdcopy', '--destination-is-zero', uri, uri_of(o, 'w'))
        sh('nbdcopy', image, uri_of(o, 'w'))
        sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri, uri_of(o, 'w'))
        sh('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', uri, uri_of(o, 'w'))
        got = [(e['length'], e['type']) for e in json.loads(sh('nbdinfo', '--map', '--json', uri_of(o, 'w')))]
        assert got == MAP, got


def test_errors_come_with_words_and_their_place():
    with Orion() as o:
        o.mem('m')
        o.ctl('device', 'add', 'f', '--type', 'fault', '--on', 'm', '--rules', 'read:error=EIO:offset=8192-12287')
        h = connect(o.nbd('v', 'f'), 'base:allocation')
        h.pwrite(os.urandom(64 * K), 0) # where nothing was written, nothing is read
        places = []

        def chunk(buf, at, kind, err):
            if kind == nbd.READ_ERROR:
                places.append(at)
        fails('EIO', h.pread_structured, 64 * K, 0, chunk)
        assert places == [8192], places
        assert len(h.pread(4096, 0)) == 4096
        h.shutdown()


# ---- extended headers, by hand: libnbd 1.14 has none

def test_extended_headers_carry_every_command():
    with Orion() as o:
        o.mem('d0')
        spotted(o)
        c = Raw(os.path.join(o.dir, 'nbd.sock'), mode='extended', context=True)
        assert c.flags & 1 << 12 and c.flags & 1 << 7 and c.size == 64 * M
        data = os.urandom(5000)
        assert c.ask(WRITE, 5, 5000, PAYLOAD | FUA, data) == [(0, b'')]
        assert c.ask(READ, 5, 5000) == [(1, struct.pack('>Q', 5) + data)]
        assert c.ask(READ, 16 * M, M) == [(2, struct.pack('>QI', 16 * M, M))]
        for kind in (FLUSH,):
            assert c.ask(kind) == [(0, b'')]
        for kind in (CACHE, TRIM, ZERO):
            assert c.ask(kind, 20 * M, M) == [(0, b'')]
        c.s.close()


def walk(c, offset, end, flags=0):
    """All descriptors from offset to end: an answer may stop early."""
    found = []
    while offset < end:
        for n, state in c.descriptors(c.ask(STATUS, offset, end - offset, flags)):
            offset += n
            if found and found[-1][1] == state:
                n += found.pop()[0]
            found.append((n, state))
    return found


def test_extended_block_status_goes_beyond_32_bits_and_takes_a_payload():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--path', os.path.join(o.dir, 'big'), '--size', '4T')
        h = connect(o.nbd('v', 'd0'))
        h.pwrite(b'x' * 65536, 3 << 40)
        h.shutdown()
        c = Raw(os.path.join(o.dir, 'nbd.sock'), mode='extended', context=True)
        want = [(3 << 40, 3), (65536, 0), ((1 << 40) - 65536, 3)]
        assert walk(c, 0, 4 << 40) == want, walk(c, 0, 4 << 40)
        assert walk(c, 0, 4 << 40, REQ_ONE) == want
        (n, state), = c.descriptors(c.ask(STATUS, 0, 4 << 40, REQ_ONE))
        assert n > 1 << 32 and state == 3, n
        ids = struct.pack('>QI', 4 << 40, c.context)
        assert c.descriptors(c.ask(STATUS, 0, 12, PAYLOAD, ids)) == c.descriptors(c.ask(STATUS, 0, 4 << 40))
        assert c.error(STATUS, 0, 12, PAYLOAD, struct.pack('>QI', 4096, 77)) == EINVAL
        assert c.error(STATUS, 0, 8, PAYLOAD, struct.pack('>Q', 4096)) == EINVAL
        assert c.error(STATUS, 0, 16, PAYLOAD, ids + ids[-4:]) == EINVAL
        assert c.error(STATUS, 0, 12, PAYLOAD, struct.pack('>QI', 5 << 40, c.context)) == EINVAL
        assert c.error(STATUS, 0, 100000, PAYLOAD, bytes(100000)) == EINVAL
        assert c.ask(TRIM, 0, 3 << 40) == [(0, b'')]
        assert c.ask(ZERO, 0, 4 << 40) == [(0, b'')]
        assert walk(c, 0, 4 << 40) == [(4 << 40, 3)]
        c.s.close()


def test_a_terabyte_of_nothing_is_one_answer():
    T = 1 << 40
    with Orion() as o:
        path = os.path.join(o.dir, 'big')
        o.ctl('device', 'add', 'd0', '--path', path, '--size', '1T')
        h = connect(o.nbd('v', 'd0'), 'base:allocation')
        most = (1 << 32) - 512
        for length in (most, most + 511): # 32 bits of length: no question can be longer
            assert status(h, length, 0) == status(h, length, 0, nbd.CMD_FLAG_REQ_ONE) == [(length, HOLE)]
        h.pwrite(b'x' * 64 * K, T // 2)
        h.pwrite(b'x' * 64 * K, T // 2 + 128 * K)
        h.flush()
        want = [(T // 2, HOLE), (64 * K, DATA), (64 * K, HOLE), (64 * K, DATA), (T // 2 - 192 * K, HOLE)]
        assert status(h, most, T // 2 - M) == [(M, HOLE)] + want[1:4] + [(most - M - 192 * K, HOLE)]
        h.shutdown()
        c = Raw(os.path.join(o.dir, 'nbd.sock'), mode='extended', context=True)
        assert c.descriptors(c.ask(STATUS, 0, T)) == want
        assert c.descriptors(c.ask(STATUS, 0, T, REQ_ONE)) == want[:1]
        assert c.descriptors(c.ask(STATUS, T // 2, T // 2, REQ_ONE)) == want[1:2]
        assert c.descriptors(c.ask(STATUS, 1, T - 3)) == [(T // 2 - 1, HOLE)] + want[1:4] + [
            (T // 2 - 192 * K - 2, HOLE)]
        c.s.close()
        # Many pieces: an answer has an end, and goes on where it ended.
        with open(path, 'r+b') as f:
            for i in range(1500):
                f.seek(i * M)
                f.write(b'x')
        c = Raw(os.path.join(o.dir, 'nbd.sock'), mode='extended', context=True)
        found = walk(c, 0, 1500 * M)
        assert len(found) == 3000 and len(c.descriptors(c.ask(STATUS, 0, T))) <= 512, len(found)
        assert len(c.descriptors(c.ask(STATUS, 0, T, REQ_ONE))) == 1
        c.s.close()


def test_extended_mistakes_get_their_errors_and_the_connection_goes_on():
    with Orion() as o:
        o.mem('d0')
        o.nbd('v', 'd0')
        c = Raw(os.path.join(o.dir, 'nbd.sock'), mode='extended')
        assert c.error(STATUS, 0, 4096) == EINVAL # the context was not set
        assert c.error(WRITE, 0, 0, PAYLOAD) == EINVAL
        assert c.ask(WRITE, 0, 512, 0, bytes(512)) == [(0, b'')] # as qemu does it, without the flag
        assert c.error(READ, 0, 512, PAYLOAD, bytes(512)) == EINVAL
        assert c.error(FLUSH, 0, 4, PAYLOAD, bytes(4)) == EINVAL
        assert c.error(77, 0, 70000, PAYLOAD, bytes(70000)) == EINVAL
        assert c.error(READ, 0, 33 * M) == EOVERFLOW
        assert c.error(READ, 0, 1 << 63) == EINVAL
        assert c.error(ZERO, 1 << 63, 1 << 63) == ENOSPC
        assert c.error(WRITE, 64 * M, 512, PAYLOAD, bytes(512)) == ENOSPC
        assert c.ask(READ, 0, 3) == [(1, struct.pack('>Q', 0) + bytes(3))]
        c.s.close()


run(test_block_status_tells_data_from_holes,
    test_block_status_is_an_error_without_its_context,
    test_a_long_read_tells_holes_instead_of_sending_them,
    test_any_byte_may_be_a_boundary,
    test_parallel_odd_writes_into_one_block_lose_nothing,
    test_nbdinfo_nbdcopy_and_qemu_see_the_same_map,
    test_errors_come_with_words_and_their_place,
    test_extended_headers_carry_every_command,
    test_extended_block_status_goes_beyond_32_bits_and_takes_a_payload,
    test_a_terabyte_of_nothing_is_one_answer,
    test_extended_mistakes_get_their_errors_and_the_connection_goes_on)
