# SPDX-License-Identifier: GPL-2.0-or-later
"""Helper of the RAID oracles: images, raidtool, mdadm, grub-fstest, user-mode-linux."""
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

BUILD = os.environ.get('ORION_BUILD', 'build')
HERE = os.path.dirname(os.path.abspath(__file__))
RAIDTOOL = os.path.join(BUILD, 'tests/oracle/raidtool')
os.environ['PATH'] += ':/usr/sbin:/sbin'
MIB = 1 << 20
FULL = os.environ.get('ORION_FULL') == '1'  # ./check --full


def skip(reason):
    print('skipped: %s' % reason, flush=True)
    sys.exit(77)


def need(*programs):
    for p in programs:
        if not shutil.which(p):
            skip('%s is not installed' % p)


def need_uml():
    rc = subprocess.run([HERE + '/uml/run', '--probe'], check=False).returncode
    if rc == 77:
        skip('user-mode-linux does not run here')
    assert rc == 0, 'the probe of user-mode-linux ended with %d' % rc


class Lab:
    """A folder with images a, b, c, ... of given sizes in MiB."""

    def __init__(self, *mib):
        self.dir = tempfile.mkdtemp(prefix='orion-raid-')
        self.images = []
        for i, size in enumerate(mib):
            self.images.append(os.path.join(self.dir, chr(ord('a') + i)))
            self.blank(i, size)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        shutil.rmtree(self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def blank(self, i, mib):
        with open(self.images[i], 'wb') as f:
            f.truncate(mib * MIB)

    def junk(self, name, size):
        """A file of random bytes; its path."""
        with open(self.path(name), 'wb') as f:
            f.write(os.urandom(size))
        return self.path(name)

    def tool(self, *commands, images=None, rc=0):
        """Runs raidtool; returns what it printed (stderr on failure)."""
        p = subprocess.run([RAIDTOOL, *(self.images if images is None else images), '--', *commands],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                           timeout=120)
        if p.returncode != rc:
            raise AssertionError('raidtool %s: status %d, expected %d\n%s%s' %
                                 (commands, p.returncode, rc, p.stdout, p.stderr))
        return p.stdout if rc == 0 else p.stderr

    def uml(self, snippet, *modules, images=None, rc=0):
        """Runs a snippet in user-mode-linux with the images as ubda, ubdb, ... and /mnt = the folder."""
        cmd = [HERE + '/uml/run', '--work', self.dir, '--timeout', '100']
        for i in self.images if images is None else images:
            cmd += ['--disk', i]
        for m in modules or ('raid0', 'raid1'):
            cmd += ['--module', m]
        p = subprocess.run(cmd + [snippet], stdout=subprocess.PIPE, text=True, check=False,
                           timeout=150)
        if p.returncode != rc:
            raise AssertionError('user-mode-linux: status %d, expected %d\n%s\n%s' %
                                 (p.returncode, rc, snippet, p.stdout))
        return p.stdout

    def examine(self, i):
        """mdadm --examine of an image as {field: value}."""
        out = call('mdadm', '--examine', self.images[i])
        return dict(map(str.strip, line.split(' : ', 1)) for line in out.splitlines() if ' : ' in line)

    def sha(self, name):
        with open(self.path(name), 'rb') as f:
            return hashlib.sha256(f.read()).hexdigest()

    def poke(self, i, offset, data):
        with open(self.images[i], 'r+b') as f:
            f.seek(offset)
            f.write(data)

    def peek(self, i, offset, length):
        with open(self.images[i], 'rb') as f:
            f.seek(offset)
            return f.read(length)


def call(*cmd, rc=0):
    p = subprocess.run(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                       timeout=120)
    if p.returncode != rc:
        raise AssertionError('%s: status %d, expected %d\n%s' % (cmd, p.returncode, rc, p.stdout))
    return p.stdout


def equal(got, want, what):
    if got != want:
        raise AssertionError('%s is %r, expected %r' % (what, got, want))


def run(*tests):
    failed = 0
    for t in tests:
        begin = time.monotonic()
        try:
            t()
            print('ok   %s (%.1f s)' % (t.__name__, time.monotonic() - begin), flush=True)
        except Exception:
            failed += 1
            traceback.print_exc()
            print('FAIL %s' % t.__name__, flush=True)
    sys.exit(1 if failed else 0)
