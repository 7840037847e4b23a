# SPDX-License-Identifier: GPL-2.0-or-later
# labels: tsan
"""oriond's command line, configuration file, signals; one clear line when it cannot start."""
import ctypes
import json
import os
import signal
import socket
import stat
import struct
import subprocess

from orion import SOURCE, Orion, find, free_port, need, run, self_signed, wait_for


def oriond(*args, **kw):
    return subprocess.run([find('oriond')] + [str(a) for a in args], capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, **kw)


def refused(p, code, *words):
    """It ended with the code and said so in one line, which is returned without its time."""
    assert p.returncode == code, p
    lines = [t for t in p.stderr.splitlines() if t and 'WARNING' not in t]
    assert len(lines) == 1, p.stderr
    for w in words:
        assert w in lines[0], (w, lines)
    return lines[0].split(': ', 1)[1]


def config(o, text):
    with open(o.config, 'w') as f:
        f.write(text)
    return o.config


def test_version_and_help():
    assert oriond('--version').stdout.startswith('oriond ')
    p = oriond('--help')
    assert p.returncode == 0 and '--state-dir' in p.stdout, p


def test_wrong_usage_is_exit_2():
    for args in (('--frob',), ('x',), ('--reactors', '99'), ('--reactors', 'x'), ('--log-level', 'loud'),
                 ('--state-dir', 'relative'), ('--config',)):
        p = oriond(*args)
        assert p.returncode == 2 and p.stderr, (args, p)


def test_a_configuration_is_checked():
    with Orion(start=False) as o:
        good = ('{}', '{"log": "debug", "reactors": 1}', '{ // comment\n "metrics": "127.0.0.1:9", '
                '/* another */ "api": ["unix:/run/orion/api.sock"]}')
        for text in good:
            p = oriond('--check-config', '--config', config(o, text))
            assert p.returncode == 0, (text, p)
        for text, word in (('{"frob": 1}', 'frob'), ('{"log": "loud"}', 'debug'), ('{"reactors": "2"}',
                           'number'), ('{"api": "unix:/x"}', 'array'), ('[]', 'object'), ('{', 'byte'),
                           ('', 'byte')):
            refused(oriond('--check-config', '--config', config(o, text)), 1, o.config, word)
        refused(oriond('--check-config', '--config', '/nonexistent/x'), 1, '/nonexistent/x')


def test_what_a_start_refuses_the_check_refuses_by_the_same_words():
    need('openssl')
    with Orion(start=False) as o:
        cert, key = self_signed(o.dir)
        tcp = ['127.0.0.1:%d' % free_port()]
        for settings, words in (
                ({'api': tcp}, ('TLS',)),
                ({'api': tcp, 'tls_cert': cert}, ('TLS',)),
                ({'tls_cert': cert}, ('tls_key',)),
                ({'api': tcp, 'tls_cert': o.dir + '/none', 'tls_key': key}, ('/none',)),
                ({'api': tcp, 'tls_cert': cert, 'tls_key': o.dir + '/none'}, ('/none',)),
                ({'tls_cert': cert, 'tls_key': key, 'tls_ca': o.dir + '/none'}, ('/none',)),
                ({'api': ['127.0.0.1']}, ('port',)),
                ({'api': ['unix:relative']}, ('absolute',)),
                ({'api': ['unix:' + '/x' * 70]}, ('107',)),
                ({'metrics': '0.0.0.0:9100'}, ('metrics', 'loopback')),
                ({'metrics': 'unix:/run/x'}, ('metrics',)),
                ({'metrics': '127.0.0.1:99999'}, ('65535',)),
                ({'viewers': ['bob']}, ('viewers', 'bob', 'user:NAME')),
                ({'admins': ['user:']}, ('admins', 'user:NAME')),
                ({'operators': ['cert:' + 'x' * 99]}, ('operators', 'characters')),
                ({'event_url': 'ftp://x'}, ('event_url',)),
                ({'event_url': 'https://user:hunter2@host/x'}, ('event_url', 'event_token')),
                ({'event_url': 'ftp://:hunter2@host'}, ('event_url',)),
                ({'event_token': 'x'}, ('event_token',))):
            config(o, json.dumps(settings))
            checked = oriond('--check-config', '--config', o.config)
            told = refused(checked, 1, *words)
            started = oriond('--foreground', '--config', o.config, '--state-dir', o.state)
            assert refused(started, 1, *words) == told
            assert 'hunter2' not in started.stderr + checked.stderr, (started, checked)


def test_text_behind_the_settings_is_refused():
    with Orion(start=False) as o:
        for text in ('{} {}', '{"log": "info"}]', '{}\n"x"', '{}\0'):
            refused(oriond('--check-config', '--config', config(o, text)), 1, o.config, 'after')
        good = {'event_url': 'https://host:1/x@y?mail=a@b'}
        for text in (json.dumps(good), '{}\n', '{} // end', '{} // end\n\n', '{}\n/* the\nend */\n', '{}/* x */ \n// y\n'):
            assert oriond('--check-config', '--config', config(o, text)).returncode == 0, text


def test_who_is_not_known_to_the_machine_bars_no_start():
    with Orion(start=False) as o:
        config(o, '{"viewers": ["user:no-such-user", "group:no-such-group"], "operators": ["cert:x"]}')
        p = oriond('--check-config', '--config', o.config)
        assert p.returncode == 0 and 'user no-such-user' in p.stderr and 'group no-such-group' in p.stderr, p
        o.start()
        assert 'user no-such-user' in o.log() and 'group no-such-group' in o.log()
        config(o, '{"viewers": ["bob"]}')
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: "viewers has 'bob'" in o.log())


def test_the_sample_loads_as_it_is():
    p = oriond('--check-config', '--config', os.path.join(SOURCE, 'etc', 'oriond.json'))
    assert p.returncode == 0, p


def test_the_command_line_wins_over_the_file():
    with Orion(start=False, reactors=1) as o:
        config(o, '{"reactors": 3, "log": "debug"}')
        o.start()
        assert o.http('GET', '/v1/system').json['reactors'] == 1
        assert ' debug ' in o.log()


def test_a_second_daemon_on_the_state_is_refused():
    with Orion() as o:
        refused(oriond('--state-dir', o.state, '--api', 'unix:%s/other' % o.dir), 1, 'in use')
        assert o.http('GET', '/readyz').status == 200


def test_a_live_socket_is_refused_and_a_stale_one_replaced():
    with Orion() as o:
        refused(oriond('--state-dir', o.dir + '/s2', '--api', 'unix:' + o.api), 1, o.api)
        assert o.http('GET', '/readyz').status == 200
        o.restart(kill=True)
        assert o.http('GET', '/readyz').status == 200


def test_a_busy_port_is_told():
    with Orion(start=False) as o, socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        s.listen()
        port = s.getsockname()[1]
        refused(oriond('--state-dir', o.state, '--api', 'unix:' + o.api, '--metrics',
                       '127.0.0.1:%d' % port), 1, str(port), 'in use')


def test_the_api_is_not_served_on_tcp():
    with Orion(start=False) as o:
        refused(oriond('--state-dir', o.state, '--api', '127.0.0.1:%d' % free_port()), 1, 'TLS')


def test_a_folder_that_cannot_be_made_is_told():
    with Orion(start=False) as o:
        path = o.file('plain', 1)
        refused(oriond('--state-dir', path + '/sub', '--api', 'unix:' + o.api), 1, path)


def test_the_state_is_private_and_its_folders_are_made():
    with Orion(start=False) as o:
        o.state = o.dir + '/a/b/c'
        o.start()
        assert stat.S_IMODE(os.stat(o.state).st_mode) == 0o700
        for name in os.listdir(o.state):
            assert stat.S_IMODE(os.stat(os.path.join(o.state, name)).st_mode) & 0o77 == 0, name


def test_hup_reads_the_log_level_again():
    with Orion() as o:
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: 'log level info' in o.log())
        config(o, '{"log": "debug"}')
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: 'log level debug' in o.log())
        config(o, '{"log": ')
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: 'stays as it was' in o.log())
        assert o.http('GET', '/readyz').status == 200


def without_io_uring():
    """Has the kernel refuse io_uring_setup(2), as containers do: seccomp(2) with a BPF program that
    compares the number of the system call, and answers EPERM."""
    libc = ctypes.CDLL(None)
    code = struct.pack('HBBI' * 4, 0x20, 0, 0, 0, 0x15, 0, 1, 425, 0x06, 0, 0, 0x50000 | 1,
                       0x06, 0, 0, 0x7fff0000)
    program = ctypes.create_string_buffer(code, len(code))
    filters = struct.pack('HxxxxxxQ', 4, ctypes.addressof(program))
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, filters, 0, 0) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def test_without_io_uring_it_says_so_in_one_line():
    with Orion(start=False) as o:
        p = oriond('--foreground', '--state-dir', o.state, '--api', 'unix:' + o.api,
                   preexec_fn=without_io_uring)
        refused(p, 1, 'io_uring is not available')


def test_int_ends_it_in_order():
    with Orion() as o:
        o.mem('d0')
        o.proc.send_signal(signal.SIGINT)
        assert o.proc.wait(30) == 0
        o.proc = None
        assert not os.path.exists(o.api)
        o.start()
        assert o.ctl('device', 'show', 'd0')['state'] == 'online'


run(test_version_and_help, test_wrong_usage_is_exit_2, test_a_configuration_is_checked,
    test_what_a_start_refuses_the_check_refuses_by_the_same_words,
    test_text_behind_the_settings_is_refused, test_who_is_not_known_to_the_machine_bars_no_start,
    test_the_sample_loads_as_it_is, test_the_command_line_wins_over_the_file,
    test_a_second_daemon_on_the_state_is_refused,
    test_a_live_socket_is_refused_and_a_stale_one_replaced, test_a_busy_port_is_told,
    test_the_api_is_not_served_on_tcp, test_a_folder_that_cannot_be_made_is_told,
    test_the_state_is_private_and_its_folders_are_made, test_hup_reads_the_log_level_again,
    test_int_ends_it_in_order, test_without_io_uring_it_says_so_in_one_line)
