# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian kernel under qemu's software emulation, with programs of this machine. README.md has the how.

    with Guest(modules=['ext4'], programs=['mkfs.ext4']) as g:
        print(g.sh('uname -a'))
"""
import base64
import contextlib
import glob
import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

CACHE = os.environ.get('ORION_QEMU_CACHE') or os.path.join(
    os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'orion-qemu')
HOST = '10.0.2.2'  # the host's loopback, as the guest sees it
PATH = os.environ['PATH'] + ':/usr/sbin:/sbin'
# On a loaded machine the guest's clocks fail the tests that the kernel makes of them at boot.
TIME = 'no_timer_check tsc=unstable'

INIT = r'''#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp /run/lock/iscsi /var /mnt /usr/sbin /usr/bin /sbin
/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin LD_LIBRARY_PATH=/lib HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
ln -s /run /var/run; ln -s /run/lock /var/lock
while read -r m; do insmod "$m" || echo "insmod $m failed"; done </modules.list
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo READY >&3
while read -r line <&3; do
    echo "$line" | base64 -d >/tmp/snippet
    sh /tmp/snippet >/tmp/out 2>&1 </dev/null
    rc=$?
    base64 /tmp/out >&3
    echo "END $rc" >&3
done
poweroff -f
'''


def skip(reason):
    print('skipped: %s' % reason, flush=True)
    sys.exit(77)


def packages(names):
    """The folder with these packages' files. They are downloaded once and never installed: a kernel or
    open-iscsi would change the machine that runs the tests."""
    root = os.path.join(CACHE, 'root')
    os.makedirs(root, exist_ok=True)
    for name in names:
        mark = os.path.join(CACHE, name + '.done')
        if os.path.exists(mark):
            continue
        with tempfile.TemporaryDirectory(dir=CACHE) as d:
            p = subprocess.run(['apt-get', 'download', name], cwd=d, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            debs = glob.glob(d + '/*.deb')
            if p.returncode or not debs:
                skip('package %s cannot be downloaded: %s' % (name, (p.stdout.strip().split('\n') or [''])[-1]))
            subprocess.run(['dpkg-deb', '-x', debs[0], root], check=True)
        with open(mark, 'w'):
            pass
    return root


def kernel_package():
    out = subprocess.run(['apt-cache', 'depends', 'linux-image-amd64'], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True).stdout
    m = re.search(r'Depends: (linux-image-[0-9]\S*)', out)
    if not m:
        skip('apt knows no package linux-image-amd64')
    return m.group(1)


def module_order(base, version, wanted):
    """The files of the modules and of what they depend on, in the order to load them."""
    deps, order = {}, []
    if not os.path.exists(os.path.join(base, 'modules.dep')):
        subprocess.run(['depmod', '-b', os.path.dirname(os.path.dirname(os.path.dirname(base))), version],
                       check=True, env=dict(os.environ, PATH=PATH))
    with open(os.path.join(base, 'modules.dep')) as f:
        for line in f:
            module, needs = line.split(':')
            deps[module] = needs.split()
    by_name = {re.sub(r'\.ko(\.\w+)?$', '', os.path.basename(m)).replace('-', '_'): m for m in deps}

    def add(module):
        for d in reversed(deps[module]):
            add(d)
        if module not in order:
            order.append(module)

    for w in wanted:
        if w.replace('-', '_') in by_name:  # else it is built in
            add(by_name[w.replace('-', '_')])
    return order


class Archive:
    """An initramfs in cpio's newc format."""

    def __init__(self):
        self.parts, self.seen = [], set()

    def entry(self, name, mode, data=b''):
        if name in self.seen:
            return
        self.seen.add(name)
        head = '070701%08X%08X' % (len(self.seen), mode) + '%08X' * 11 % (
            0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out = head.encode() + name.encode() + b'\0'
        self.parts.append(out + bytes(-len(out) % 4) + data + bytes(-len(data) % 4))

    def folders(self, name):
        parts = name.split('/')[:-1]
        for i in range(len(parts)):
            self.entry('/'.join(parts[:i + 1]), 0o40755)

    def file(self, name, data, mode=0o755):
        name = name.lstrip('/')
        self.folders(name)
        self.entry(name, 0o100000 | mode, data)

    def copy(self, name, path, mode=0o755):
        with open(path, 'rb') as f:
            self.file(name, f.read(), mode)

    def write(self, path):
        self.entry('dev', 0o40755)
        self.entry('TRAILER!!!', 0)
        with gzip.open(path, 'wb', 1) as f:
            f.write(b''.join(self.parts))


class Guest:
    def __init__(self, modules=(), programs=(), extra=(), files=None, memory=512):
        """modules: kernel modules by name. programs: names of programs of this machine or of the packages
        `extra`. files: {path: text}."""
        for p in ('qemu-system-x86_64', 'busybox', 'depmod', 'apt-get', 'dpkg-deb'):
            if not shutil.which(p, path=PATH):
                skip('%s is not installed' % p)
        if b'not a dynamic' not in subprocess.run(['ldd', shutil.which('busybox', path=PATH)],
                                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout:
            skip('busybox is not the static one')
        os.makedirs(CACHE, exist_ok=True)
        package = kernel_package()
        self.root = packages([package, *extra])
        version = package.removeprefix('linux-image-')
        self.dir = tempfile.mkdtemp(prefix='orion-qemu-')
        self.console = os.path.join(self.dir, 'console')
        self.build(version, modules, programs, files or {})
        self.boot(os.path.join(self.root, 'boot/vmlinuz-' + version), memory)

    # -- making it
    def program(self, archive, name):
        where = [os.path.join(self.root, d) for d in ('sbin', 'bin', 'usr/sbin', 'usr/bin')]
        path = shutil.which(name, path=':'.join(where) + ':' + PATH)
        if not path:
            skip('%s is not installed' % name)
        archive.copy('sbin/' + name, os.path.realpath(path))
        env = dict(os.environ, LD_LIBRARY_PATH=':'.join(
            glob.glob(self.root + '/usr/lib/*-linux-gnu*') + glob.glob(self.root + '/lib/*-linux-gnu*')))
        out = subprocess.run(['ldd', os.path.realpath(path)], env=env, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True).stdout
        assert 'not found' not in out, out
        for lib in re.findall(r'(/\S+) \(0x', out):
            loader = os.path.basename(lib).startswith('ld-linux')
            archive.copy('lib64/' + os.path.basename(lib) if loader else 'lib/' + os.path.basename(lib),
                         os.path.realpath(lib))

    def build(self, version, modules, programs, files):
        a = Archive()
        a.file('init', INIT.encode())
        a.copy('bin/busybox', os.path.realpath(shutil.which('busybox', path=PATH)))
        base = os.path.join(self.root, 'lib/modules', version)
        order = module_order(base, version, ['virtio_pci', 'virtio_net', *modules])
        for m in order:
            a.copy('modules/' + os.path.basename(m), os.path.join(base, m), 0o644)
        a.file('modules.list', ''.join('/modules/%s\n' % os.path.basename(m) for m in order).encode(), 0o644)
        a.file('etc/passwd', b'root:x:0:0::/root:/bin/sh\n', 0o644)
        for p in programs:
            self.program(a, p)
        for name, content in files.items():
            a.file(name, content.encode(), 0o600)
        a.write(os.path.join(self.dir, 'initrd'))

    def boot(self, kernel, memory):
        """Twice, if need be: a loaded machine may disturb the guest's clocks so that its kernel hangs."""
        for patience in (120, 240):
            self.start(kernel, memory)
            self.sock.settimeout(patience)
            try:
                while self.lines.readline().strip() != 'READY':
                    assert self.proc.poll() is None, self.say()
                return
            except socket.timeout:
                said = self.say()
                self.halt()
        raise AssertionError('the guest did not boot in 240 s\n' + said)

    def start(self, kernel, memory):
        port = os.path.join(self.dir, 'port')
        self.proc = subprocess.Popen(
            ['qemu-system-x86_64', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-machine', 'q35', '-smp', '1',
             '-m', str(memory), '-nodefaults', '-display', 'none', '-no-reboot', '-kernel', kernel,
             '-initrd', os.path.join(self.dir, 'initrd'), '-append', 'console=ttyS0 panic=-1 loglevel=5 ' + TIME,
             '-serial', 'file:' + self.console, '-chardev', 'socket,id=p,server=on,wait=off,path=' + port,
             '-serial', 'chardev:p', '-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n,romfile='],
            stdin=subprocess.DEVNULL, stdout=open(os.path.join(self.dir, 'qemu'), 'wb'), stderr=subprocess.STDOUT)
        end = time.monotonic() + 60
        while not os.path.exists(port):
            assert self.proc.poll() is None and time.monotonic() < end, self.say()
            time.sleep(0.02)
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(port)
        self.lines = self.sock.makefile('r')

    def halt(self):
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        self.sock.close()
        with contextlib.suppress(FileNotFoundError):  # qemu takes it away when it ends by itself
            os.remove(os.path.join(self.dir, 'port'))

    def say(self):
        out = ''
        for name in ('qemu', 'console'):
            if os.path.exists(os.path.join(self.dir, name)):
                with open(os.path.join(self.dir, name), errors='replace') as f:
                    out += f.read()[-4000:]
        return out

    # -- using it
    def send(self, snippet):
        """Starts a snippet of shell; the next one waits for its end."""
        self.sock.sendall(base64.b64encode(snippet.encode()) + b'\n')

    def end(self, timeout=300, rc=0):
        """Waits for the snippet's end; returns what it printed. rc None: any exit code."""
        self.sock.settimeout(timeout)
        data = ''
        try:
            while True:
                line = self.lines.readline()
                assert line, 'the guest is gone\n' + self.say()
                if line.startswith('END '):
                    break
                data += line
        except socket.timeout:
            raise AssertionError('the snippet did not end in %d s\n%s' % (timeout, self.say()))
        out = base64.b64decode(data).decode(errors='replace')
        if rc is not None and int(line.split()[1]) != rc:
            raise AssertionError('in the guest: exit %s\n%s\n%s' % (line.split()[1], out, self.say()))
        return out

    def sh(self, snippet, timeout=300, rc=0):
        self.send(snippet)
        return self.end(timeout, rc)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        self.halt()
        if kind and not os.environ.get('ORION_KEEP'):
            print('--- the guest\n' + self.say(), flush=True)
        shutil.rmtree(self.dir, ignore_errors=True)
