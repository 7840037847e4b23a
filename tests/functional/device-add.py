# SPDX-License-Identifier: GPL-2.0-or-later
"""What `device add` does to files and block nodes, and what it never does."""
import fcntl
import hashlib
import os
import re
import resource
import struct
import subprocess

from orion import Orion, need, run, sh


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def refused(o, code, words, *args):
    err = o.ctl('device', 'add', *args, expect=code)
    assert re.search(words, err), '%s: expected "%s" in: %s' % (args, words, err)


def test_a_missing_file_is_made_sparse_only_with_a_size():
    with Orion() as o:
        path = os.path.join(o.dir, 'new')
        refused(o, 4, 'does not exist', 'd0', '--path', path)
        assert not os.path.exists(path)
        d = o.ctl('device', 'add', 'd0', '--path', path, '--size', '64M')
        assert d['type'] == 'file' and d['size'] == 64 << 20 and d['state'] == 'online', d
        st = os.stat(path)
        assert st.st_size == 64 << 20 and st.st_blocks < 100 and st.st_mode & 0o777 == 0o600
        again = o.ctl('device', 'add', 'd0', '--path', path, '--size', '64M')
        assert again['changed'] is False, again
        o.ctl('device', 'remove', 'd0')
        assert os.stat(path).st_size == 64 << 20


def test_no_file_is_made_where_the_kernel_shows_itself_or_a_folder_is_missing():
    with Orion() as o:
        for path in ('/dev/orion-x', '/proc/orion-x', '/sys/orion-x', '/sys/kernel/../../dev/orion-x',
                     os.path.join(o.dir, 'missing', 'x')):
            refused(o, 1, 'folder|no file is made', 'd0', '--path', path, '--size', '1M')
            assert not os.path.exists(path), path
        assert o.ctl('device', 'list')['items'] == []


def test_existing_data_is_never_touched():
    with Orion() as o:
        path = os.path.join(o.dir, 'data')
        with open(path, 'wb') as f:
            f.write(os.urandom(1 << 20))
        before = digest(path)
        refused(o, 1, '1048576 bytes long', 'd0', '--path', path, '--size', '2M')
        o.ctl('device', 'add', 'd0', '--path', path)
        o.ctl('device', 'remove', 'd0')
        o.ctl('device', 'add', 'd0', '--path', path, '--size', '1M')
        o.ctl('device', 'remove', 'd0')
        assert digest(path) == before and os.stat(path).st_size == 1 << 20


def test_a_signature_is_reported_and_not_refused():
    need('mkfs.ext4')
    with Orion() as o:
        path = o.file('fs', 32 << 20)
        sh('mkfs.ext4', '-q', '-L', 'mine', path, env=dict(os.environ, PATH='/usr/sbin:/sbin:' +
                                                          os.environ['PATH']))
        before = digest(path)
        d = o.ctl('device', 'add', 'd0', '--path', path)
        assert 'ext4' in d['signature'] and 'LABEL=mine' in d['signature'], d
        o.ctl('device', 'remove', 'd0')
        assert digest(path) == before


def test_two_paths_of_one_file_are_one_device():
    with Orion() as o:
        path = o.file('disk', 8 << 20)
        os.link(path, path + '.hard')
        os.symlink(path, path + '.soft')
        o.ctl('device', 'add', 'd0', '--path', path)
        for other in (path + '.hard', path + '.soft'):
            refused(o, 5, 'd0|in use', 'd1', '--path', other)
        o.ctl('device', 'remove', 'd0')
        o.ctl('device', 'add', 'd1', '--path', path + '.soft')


def test_the_files_of_the_state_are_refused():
    with Orion() as o:
        for i in range(10):
            o.mem('m%d' % i)
        journal = os.path.join(o.state, 'journal.1')
        assert os.path.getsize(journal) > 512
        os.link(journal, os.path.join(o.dir, 'link'))
        for path in (journal, os.path.join(o.dir, 'link')):
            refused(o, 5, 'own state', 'd0', '--path', path)


def test_a_file_made_for_a_device_that_cannot_be_saved_is_gone():
    with Orion() as o:
        for i in range(30):
            o.mem('m%d' % i)
        # A limit of the size of files stands for a full file system.
        size = os.path.getsize(os.path.join(o.state, 'journal.1'))
        assert size > 4096
        was = resource.prlimit(o.proc.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        path = os.path.join(o.dir, 'new')
        refused(o, 1, 'cannot save', 'd0', '--path', path, '--size', '4K')
        assert not os.path.exists(path)
        resource.prlimit(o.proc.pid, resource.RLIMIT_FSIZE, was)
        o.ctl('device', 'add', 'd0', '--path', path, '--size', '1M')


def test_a_file_that_another_program_has_locked_is_refused():
    with Orion() as o:
        path = o.file('disk', 8 << 20)
        with open(path, 'r+b') as f:
            fcntl.lockf(f, fcntl.LOCK_EX)
            refused(o, 5, 'in use', 'd0', '--path', path)
        o.ctl('device', 'add', 'd0', '--path', path)
        # And the other way round: struct flock of fcntl(2).
        with open(path, 'r+b') as f:
            try:
                fcntl.fcntl(f, fcntl.F_SETLK, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))
                raise AssertionError('the file is not locked')
            except OSError:
                pass


def test_the_disk_of_the_root_file_system_is_refused():
    if os.geteuid():
        print('skipped: not root')
        return
    st = os.stat('/')
    link = '/sys/dev/block/%d:%d' % (os.major(st.st_dev), os.minor(st.st_dev))
    if not os.path.exists(link):
        print('skipped: / is on no block node')
        return
    node = '/dev/' + os.path.basename(os.path.realpath(link))
    with Orion() as o:
        refused(o, 5, 'is mounted on', 'd0', '--path', node)
        refused(o, 5, 'is mounted on', 'd0', '--path', node, '--read-only')


def test_a_loop_device_works_and_is_held():
    if os.geteuid():
        print('skipped: not root')
        return
    with Orion() as o:
        image = o.file('image', 16 << 20)
        try:
            node = sh('losetup', '-f', '--show', image).strip()
        except (AssertionError, FileNotFoundError) as e:
            print('skipped: no loop device: %s' % str(e).splitlines()[0])
            return
        try:
            refused(o, 5, 'loop', 'd1', '--path', image)
            d = o.ctl('device', 'add', 'd0', '--path', node)
            assert d['size'] == 16 << 20 and d['attributes']['node'] == 'true', d
            try:
                os.close(os.open(node, os.O_RDWR | os.O_EXCL))
                raise AssertionError('the node is not held')
            except OSError:
                pass
            o.ctl('device', 'remove', 'd0')
            os.close(os.open(node, os.O_RDWR | os.O_EXCL))
        finally:
            subprocess.run(['losetup', '-d', node], check=True)


def test_a_file_that_is_another_one_after_a_restart_is_not_taken():
    with Orion() as o:
        path = o.file('disk', 8 << 20)
        o.ctl('device', 'add', 'd0', '--path', path)
        o.stop()
        os.rename(path, path + '.old')
        o.file('disk', 8 << 20)
        o.start()
        d = o.ctl('device', 'show', 'd0')
        assert d['state'] == 'absent' and 'another' in d['reason'], d
        o.stop()
        os.unlink(path)
        o.start()
        assert o.ctl('device', 'show', 'd0')['state'] == 'absent'
        assert not os.path.exists(path), 'a start made a file'
        o.stop()
        os.rename(path + '.old', path)
        o.start()
        assert o.ctl('device', 'show', 'd0')['state'] == 'online'


def test_the_part_of_a_block_at_the_end_of_a_file_is_told_of():
    with Orion() as o:
        path = o.file('odd', (8 << 20) + 1000)
        d = o.ctl('device', 'add', 'd0', '--path', path)
        assert d['state'] == 'online' and d['size'] == (8 << 20) + 512, d
        assert '488 bytes' in d['reason'] and d['attributes']['unserved_tail'] == '488', d
        assert o.ctl('device', 'show', 'd0')['reason'] == d['reason']
        o.stop()
        os.truncate(path, (8 << 20) + 1024)
        o.start()
        d = o.ctl('device', 'show', 'd0')
        assert d['size'] == (8 << 20) + 1024 and not d['reason'] and 'unserved_tail' not in d['attributes'], d


run(test_a_missing_file_is_made_sparse_only_with_a_size,
    test_no_file_is_made_where_the_kernel_shows_itself_or_a_folder_is_missing,
    test_existing_data_is_never_touched,
    test_a_signature_is_reported_and_not_refused,
    test_two_paths_of_one_file_are_one_device,
    test_the_files_of_the_state_are_refused,
    test_a_file_made_for_a_device_that_cannot_be_saved_is_gone,
    test_a_file_that_another_program_has_locked_is_refused,
    test_the_disk_of_the_root_file_system_is_refused,
    test_a_loop_device_works_and_is_held,
    test_a_file_that_is_another_one_after_a_restart_is_not_taken,
    test_the_part_of_a_block_at_the_end_of_a_file_is_told_of)
