# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""NBD clients of a newer Debian (libnbd 1.22 with extended headers, qemu 10, OpenSSL 3.5) from a root made
for the purpose, against our daemon through a socket in that root."""
import glob
import os
import re
import shutil
import subprocess
import tempfile

from orion import Orion, need, run, sh, skip

M = 1 << 20
PACKAGES = 'libnbd-bin,python3-libnbd,qemu-utils,openssl'
ROOT = None

need('mmdebstrap', 'chroot')
if os.geteuid():
    skip('making a root takes root')


def mirror():
    """The archive that this machine's own apt uses."""
    found = []
    for path in ['/etc/apt/sources.list'] + sorted(glob.glob('/etc/apt/sources.list.d/*')):
        try:
            with open(path, encoding='utf-8') as f:
                text = f.read()
        except OSError:
            continue
        found += re.findall(r'^URIs:\s*(\S+)', text, re.M)
        found += re.findall(r'^deb\s+(?:\[[^]]*\]\s+)?(\S+)', text, re.M)
    for uri in found:
        if 'security' not in uri and re.match('https?://', uri):
            return uri
    skip('no archive in the sources of apt')


def make_root():
    folder = tempfile.mkdtemp(prefix='orion-trixie-')
    root = os.path.join(folder, 'root')
    p = subprocess.run(['mmdebstrap', '--quiet', '--variant=minbase', '--include=' + PACKAGES, 'trixie', root,
                        mirror()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
                       check=False)
    if p.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        skip('the root cannot be made: ' + (p.stdout.strip().splitlines() or ['?'])[-1])
    return folder, root


def inside(*argv, **kw):
    return sh('chroot', ROOT, *argv, **kw)


def script(o, text):
    with open(os.path.join(ROOT, 'tmp/test.py'), 'w', encoding='utf-8') as f:
        f.write('import nbd, os\nM = 1 << 20\nuri = "nbd+unix:///%s?socket=/tmp/s"\n' + text)
    return inside('python3', '/tmp/test.py')


def served(o, size='64M', kind='mem'):
    """Device d0 is exported as v on a socket in the root."""
    if kind == 'mem':
        o.mem('d0', size=size)
    else:
        o.ctl('device', 'add', 'd0', '--path', os.path.join(o.dir, 'disk'), '--size', size)
    o.ctl('nbd', 'listen', 'unix:' + os.path.join(ROOT, 'tmp/s'))
    o.ctl('nbd', 'export', 'v', '--device', 'd0')


def test_extended_headers_are_negotiated_and_carry_everything():
    with Orion() as o:
        served(o)
        out = script(o, '''
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(uri % "v")
assert h.get_extended_headers_negotiated()
assert h.can_block_status_payload()
a = os.urandom(M + 77)
h.pwrite(a, 3, nbd.CMD_FLAG_FUA)
assert h.pread(M + 77, 3) == a
h.zero(M, 2 * M); h.trim(M, 8 * M); h.cache(M, 0); h.flush()
seen = []
def each(context, offset, entries, err):
    seen.extend(entries)
h.block_status_64(64 * M, 0, each)
assert sum(e[0] for e in seen) == 64 * M, seen
seen = []
h.block_status_filter(64 * M, 0, ["base:allocation"], each)
assert sum(e[0] for e in seen) == 64 * M, seen
try:
    h.set_strict_mode(0)
    h.pread(4096, 64 * M)
    raise SystemExit("read beyond the end")
except nbd.Error as e:
    assert e.errno == "EINVAL", e
h.shutdown()
print("good")
''')
        assert 'good' in out, out


def test_64_bit_effects_and_answers():
    with Orion() as o:
        served(o, '64G', 'file')
        out = script(o, '''
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(uri % "v")
h.pwrite(b"x" * 65536, 32 << 30)
h.set_strict_mode(0)
h.zero(32 << 30, 0)
h.trim(32 << 30, 1)
assert h.pread(4, (32 << 30) + 4096) == b"xxxx"
found, at = [], 0
def each(context, offset, entries, err):
    found.extend(entries)
while at < 64 << 30:
    n = len(found)
    h.block_status_64((64 << 30) - at, at, each)
    at += sum(e[0] for e in found[n:])
assert sum(e[0] for e in found if not e[1]) == 65536, found
h.zero(64 << 30, 0)
h.shutdown()
print("good")
''')
        assert 'good' in out, out


def test_its_programs_work():
    with Orion() as o:
        served(o)
        with open(os.path.join(ROOT, 'tmp/image'), 'wb') as f:
            f.write(os.urandom(8 * M) + bytes(56 * M))
        uri = 'nbd+unix:///v?socket=/tmp/s'
        info = inside('nbdinfo', uri)
        assert 'extended' in info, info
        inside('nbdcopy', '/tmp/image', uri)
        inside('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', '/tmp/image', uri)
        inside('nbdcopy', uri, '/tmp/back')
        sh('cmp', os.path.join(ROOT, 'tmp/image'), os.path.join(ROOT, 'tmp/back'))
        inside('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', '/tmp/image', uri)
        inside('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', '/tmp/image', uri)
        assert '"data": true' in inside('qemu-img', 'map', '--output=json', '-f', 'raw', uri)
        out = inside('qemu-io', '-f', 'raw', '-c', 'write -P 5 1M 1M', '-c', 'write -z 2M 1M', '-c', 'flush', '-c',
                     'read -P 5 1M 1M', uri)
        assert 'failed' not in out and 'error' not in out, out


folder, ROOT = make_root()
try:
    run(test_extended_headers_are_negotiated_and_carry_everything,
        test_64_bit_effects_and_answers,
        test_its_programs_work)
finally:
    shutil.rmtree(folder, ignore_errors=True)
