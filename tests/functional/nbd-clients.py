# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""Real NBD clients against the daemon: nbdinfo, nbdcopy, qemu-img, qemu-io, fio, and libnbd from Python
for every command, flag and error."""
import json
import os
import subprocess
import sys

from orion import Orion, need, run, sh, skip, wait_for

try:
    import nbd
except ImportError:
    # libnbd's module belongs to the system's Python.
    if os.environ.get('ORION_PYTHON') or not os.access('/usr/bin/python3', os.X_OK):
        skip('python3-libnbd is not installed')
    os.environ['ORION_PYTHON'] = 'system'
    os.execv('/usr/bin/python3', ['/usr/bin/python3', '-B'] + sys.argv)

need('nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'fio')
if 'nbd' not in sh('fio', '--enghelp'):
    skip('fio has no nbd engine')

M = 1 << 20


def connect(uri, strict=True):
    h = nbd.NBD()
    if not strict:
        h.set_strict_mode(0)
    h.connect_uri(uri)
    return h


def fails(errno_name, fn, *args):
    """fn must fail with this error, and the connection must survive it."""
    try:
        fn(*args)
    except nbd.Error as e:
        if e.errno != errno_name:
            raise AssertionError('%s%r: %s (%s), expected %s' % (
                fn.__name__, args, e.errno, e.string, errno_name))
        return
    raise AssertionError('%s%r: no error, expected %s' % (fn.__name__, args, errno_name))


def noise(path, size):
    with open(path, 'wb') as f:
        for _ in range(size // M):
            f.write(os.urandom(M))


def test_nbdinfo_tells_what_the_export_can():
    with Orion() as o:
        o.mem('d0', 'd1')
        uri = o.nbd('vol', 'd0', '--description', 'some words')
        o.ctl('nbd', 'export', 'ro', '--device', 'd1', '--read-only')
        info = json.loads(sh('nbdinfo', '--json', uri))['exports'][0]
        assert info['export-size'] == 64 * M, info
        assert info['description'] == 'some words', info
        for able in ('flush', 'fua', 'multi_conn', 'trim', 'zero', 'fast_zero', 'cache'):
            assert info['can_' + able], able
        assert not info['is_read_only'] and info['block_size_minimum'] == 1, info
        assert info['block_size_maximum'] == 32 * M, info
        names = [x['export-name'] for x in json.loads(sh('nbdinfo', '--json', '--list', uri))['exports']]
        assert names == ['vol', 'ro'], names
        ro = json.loads(sh('nbdinfo', '--json', uri.replace('/vol', '/ro')))['exports'][0]
        assert ro['is_read_only'], ro
        assert sh('nbdinfo', '--size', uri).strip() == str(64 * M)


def test_the_empty_name_is_the_default_export():
    with Orion() as o:
        o.mem('d0', 'd1', size='32M')
        uri = o.nbd('a', 'd0')
        empty = uri.replace('///a?', '///?')
        assert connect(empty).get_size() == 32 * M
        o.ctl('nbd', 'export', 'b', '--device', 'd1')
        fails('ENOENT', connect, empty)
        o.ctl('nbd', 'unexport', 'b')
        o.ctl('nbd', 'export', 'b', '--device', 'd1', '--default')
        h = nbd.NBD()
        h.set_full_info(True)
        h.connect_uri(empty)
        assert h.get_canonical_export_name() == 'b'
        fails('ENOENT', connect, uri.replace('///a?', '///nope?'))


def test_a_device_that_is_exported_is_in_use():
    with Orion() as o:
        o.mem('d0')
        uri = o.nbd('a', 'd0')
        assert 'nbd export a' in o.ctl('device', 'remove', 'd0', expect=5)
        h = connect(uri)
        h.shutdown()
        o.ctl('nbd', 'unexport', 'a') # the client said goodbye: it does not count
        o.ctl('device', 'remove', 'd0')


def test_nbdcopy_copies_both_ways():
    with Orion() as o:
        image, back = os.path.join(o.dir, 'image'), os.path.join(o.dir, 'back')
        noise(image, 48 * M)
        o.mem('d0', size='48M')
        uri = o.nbd('v', 'd0')
        sh('nbdcopy', '--flush', image, uri)
        sh('nbdcopy', '--connections=4', '--requests=32', uri, back)
        sh('cmp', image, back)
        # and through one synchronous connection, with another request size
        os.unlink(back)
        sh('nbdcopy', '--synchronous', '--request-size=%d' % (4 * M), uri, back)
        sh('cmp', image, back)


def test_qemu_converts_compares_and_checks():
    with Orion() as o:
        image, q = os.path.join(o.dir, 'image'), os.path.join(o.dir, 'q.qcow2')
        noise(image, 32 * M)
        o.mem('d0', size='32M')
        uri = o.nbd('v', 'd0')
        sh('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', image, uri)
        sh('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, uri)
        sh('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-m', '8', '-W', uri, q)
        sh('qemu-img', 'compare', '-f', 'raw', '-F', 'qcow2', uri, q)
        out = sh('qemu-io', '-f', 'raw', '-c', 'write -P 5 64k 128k', '-c', 'write -z 96k 8k',
                 '-c', 'write -f -P 6 1M 4k', '-c', 'discard 2M 1M', '-c', 'flush',
                 '-c', 'read -P 5 64k 32k', '-c', 'read -P 0 96k 8k', '-c', 'read -P 6 1M 4k', uri)
        assert 'failed' not in out and 'error' not in out, out


def test_fio_verifies_what_it_wrote():
    with Orion() as o:
        o.mem('d0', size='32M')
        uri = o.nbd('v', 'd0')
        sh('fio', '--name=v', '--ioengine=nbd', '--uri=' + uri, '--rw=randrw', '--bs=4k', '--iodepth=32',
           '--size=32M', '--verify=crc32c', '--verify_fatal=1', '--time_based=0', '--io_size=24M',
           cwd=o.dir)


def test_every_command_does_what_it_says():
    with Orion() as o:
        o.mem('d0')
        h = connect(o.nbd('v', 'd0'))
        a, b = os.urandom(64 * 1024), os.urandom(4096)
        h.pwrite(a, 0)
        h.pwrite(b, 8192, nbd.CMD_FLAG_FUA)
        assert h.pread(65536, 0) == a[:8192] + b + a[12288:]
        h.zero(4096, 0)
        h.zero(4096, 4096, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
        h.zero(4096, 16384, nbd.CMD_FLAG_FAST_ZERO)
        h.trim(4096, 20480, nbd.CMD_FLAG_FUA)
        assert h.pread(8192, 0) == bytes(8192)
        assert h.pread(4096, 16384) == bytes(4096)
        h.cache(65536, 0)
        h.flush()
        big = os.urandom(32 * M)
        h.pwrite(big, M)
        assert h.pread(32 * M, M) == big
        h.shutdown()


def test_every_mistake_gets_its_error_and_the_connection_goes_on():
    with Orion() as o:
        o.mem('d0')
        uri = o.nbd('v', 'd0')
        o.ctl('nbd', 'export', 'ro', '--device', 'd0', '--read-only')
        size = 64 * M
        h = connect(uri, strict=False)
        fails('EINVAL', h.pread, 4096, size)
        fails('EINVAL', h.pread, 4096, size - 512)
        fails('ENOSPC', h.pwrite, bytes(4096), size)
        fails('ENOSPC', h.pwrite, bytes(4096), size - 2048)
        fails('ENOSPC', h.zero, 4096, size)
        fails('EINVAL', h.trim, 4096, size)
        fails('EINVAL', h.pread, 512, 0, 1 << 9)
        fails('EINVAL', h.pwrite, bytes(512), 0, nbd.CMD_FLAG_FAST_ZERO)
        fails('EINVAL', h.pwrite, bytes(512), 0, nbd.CMD_FLAG_DF)
        fails('EINVAL', h.pread, 512, 0, nbd.CMD_FLAG_REQ_ONE)
        fails('EOVERFLOW', h.pread, 33 * M, 0)
        fails('EINVAL', h.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
        fails('EINVAL', h.pwrite, bytes(33 * M), 0)
        h.pwrite(b'y' * 512, 0)
        assert h.pread(512, 0) == b'y' * 512
        r = connect(uri.replace('///v?', '///ro?'), strict=False)
        fails('EPERM', r.pwrite, bytes(512), 0)
        fails('EPERM', r.zero, 512, 0)
        fails('EPERM', r.trim, 512, 0)
        assert r.pread(512, 0) == b'y' * 512
        h.shutdown()
        r.shutdown()


def test_errors_of_the_device_reach_the_client():
    with Orion() as o:
        o.mem('m')
        o.ctl('device', 'add', 'f', '--type', 'fault', '--on', 'm', '--rules',
              'read:error=EIO:offset=4096-8191;write:error=ENOSPC:offset=8192-12287')
        h = connect(o.nbd('v', 'f'))
        fails('EIO', h.pread, 4096, 4096)
        fails('ENOSPC', h.pwrite, bytes(4096), 8192)
        assert h.pread(4096, 0) == bytes(4096)
        h.shutdown()


def test_sessions_are_listed_refuse_a_removal_and_can_be_killed():
    with Orion() as o:
        o.mem('d0')
        h = connect(o.nbd('v', 'd0'))
        h.pread(4096, 0)
        sessions = o.ctl('session', 'list')['items']
        assert len(sessions) == 1 and sessions[0]['protocol'] == 'nbd', sessions
        assert 'session' in o.ctl('nbd', 'unexport', 'v', expect=5)
        o.ctl('session', 'kill', sessions[0]['id'])
        try:
            h.pread(4096, 0)
            raise AssertionError('the killed session still reads')
        except nbd.Error:
            pass
        wait_for(lambda: not o.ctl('session', 'list')['items'], what='the session to be gone')
        o.ctl('nbd', 'unexport', 'v')


def test_qemu_that_reconnects_comes_back_to_the_same_data():
    with Orion() as o:
        o.ctl('device', 'add', 'd0', '--path', o.file('disk', 16 * M))
        o.nbd('v', 'd0')
        p = subprocess.Popen(['qemu-io', '--image-opts', 'driver=nbd,export=v,reconnect-delay=60,server.type=unix,'
                              'server.path=' + os.path.join(o.dir, 'nbd.sock')], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def command(text, until):
            p.stdin.write(text + '\n')
            p.stdin.flush()
            seen = ''
            while until not in seen:
                line = p.stdout.readline()
                assert line, seen
                seen += line
            assert 'failed' not in seen and 'error' not in seen, seen
        command('write -f -P 9 1M 1M', 'wrote')
        for _ in range(2):
            o.restart(kill=True)
            command('read -P 9 1M 1M', 'read')
            command('write -f -P 8 4M 64k', 'wrote')
        p.stdin.close()
        p.stdout.read()
        assert p.wait(30) == 0
        p.stdout.close()


def test_a_flush_on_one_connection_covers_writes_on_another():
    """CAN_MULTI_CONN: what was acknowledged on any connection is in the file after a flush on one."""
    with Orion(reactors=2) as o:
        path = o.file('disk', 16 * M)
        o.ctl('device', 'add', 'd0', '--path', path)
        uri = o.nbd('v', 'd0')
        hs = [connect(uri) for _ in range(4)]
        data = [os.urandom(65536) for _ in hs]
        for i, h in enumerate(hs):
            h.pwrite(data[i], i * 65536)
        hs[0].flush()
        o.kill9()
        with open(path, 'rb') as f:
            for d in data:
                assert f.read(65536) == d
        o.start()
        h = connect(uri) # the listener and the export are there again
        assert h.pread(65536, 65536) == data[1]
        h.shutdown()


run(test_nbdinfo_tells_what_the_export_can,
    test_the_empty_name_is_the_default_export,
    test_a_device_that_is_exported_is_in_use,
    test_nbdcopy_copies_both_ways,
    test_qemu_converts_compares_and_checks,
    test_fio_verifies_what_it_wrote,
    test_every_command_does_what_it_says,
    test_every_mistake_gets_its_error_and_the_connection_goes_on,
    test_errors_of_the_device_reach_the_client,
    test_sessions_are_listed_refuse_a_removal_and_can_be_killed,
    test_qemu_that_reconnects_comes_back_to_the_same_data,
    test_a_flush_on_one_connection_covers_writes_on_another)
