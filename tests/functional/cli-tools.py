# SPDX-License-Identifier: GPL-2.0-or-later
"""What orionctl makes for people: status, top, explain, completion, support-bundle, --watch."""
import fcntl
import json
import os
import pty
import re
import select
import stat
import struct
import subprocess
import termios
import time

from orion import SOURCE, Orion, find, need, run, sh, wait_for


def degrade(o):
    o.mem('d0', 'd1')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1')
    o.ctl('array', 'fail', 'a0', 'd1', '--yes')


def on_terminal(o, *args, seconds=4, columns=None, screens=None):
    """What the command shows on a terminal; it is ended when it does not end by itself, or has
    drawn so many screens."""
    pid, fd = pty.fork()
    if not pid and columns:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, columns, 0, 0))
    if not pid:
        os.environ.update(TERM='xterm')
        os.environ.pop('NO_COLOR', None)
        os.execv(find('orionctl'), ['orionctl', '--api', 'unix:' + o.api] + list(args))
    out, end = b'', time.monotonic() + seconds
    while time.monotonic() < end and (not screens or out.count(b'\033[H') < screens):
        if select.select([fd], [], [], 0.1)[0]:
            try:
                out += os.read(fd, 65536)
            except OSError:
                break
    os.close(fd)
    try:
        os.kill(pid, 15)
    except ProcessLookupError:
        pass
    os.waitpid(pid, 0)
    return out.decode()


def test_status_tells_what_is_wrong_first_and_check_exits_1():
    with Orion() as o:
        text = o.ctl('status', json_out=False)
        assert 'nothing is wrong' in text and '0 arrays' in text, text
        assert o.run('status', '--check').returncode == 0
        degrade(o)
        p = o.run('status', '--check')
        assert p.returncode == 1 and p.stdout.startswith('PROBLEM array a0 is degraded'), p.stdout
        assert '\033' not in p.stdout


def test_colours_are_for_terminals():
    with Orion() as o:
        degrade(o)
        assert '\033[33mdegraded\033[0m' in on_terminal(o, 'array', 'list')
        assert '\033' not in o.ctl('array', 'list', json_out=False)


def test_explain_tells_why_and_what_to_do():
    with Orion() as o:
        degrade(o)
        text = o.ctl('explain', 'a0', json_out=False)
        assert text.startswith('array a0 is degraded'), text
        assert 'next: ' in text and 'orionctl array add a0' in text, text
        assert 'd1: faulty' in text and 'lately:' in text, text
        assert o.ctl('--json', 'explain', 'd0', json_out=True)[0]['name'] == 'd0'
        assert 'nothing is named nope' in o.ctl('explain', 'nope', expect=4)


def test_top_shows_exports_devices_and_clients():
    need('nbdcopy', 'dd')
    with Orion() as o:
        o.mem('d0')
        uri = o.nbd('e', 'd0')
        sh('dd', 'if=/dev/urandom', 'of=%s/data' % o.dir, 'bs=1M', 'count=16')
        p = subprocess.Popen([find('orionctl'), '--api', 'unix:' + o.api, 'top', '--interval', '2'],
                             stdout=subprocess.PIPE, text=True)
        time.sleep(0.5)
        sh('nbdcopy', o.dir + '/data', uri)
        out, _ = p.communicate(timeout=20)
        assert p.returncode == 0
        rows = {r.split()[-1]: r.split() for r in out.splitlines() if r.split()}
        assert float(rows['e'][1]) > 0 and len(rows['e']) >= 11, out
        assert float(rows['d0'][1]) > 0, out
        assert 'RECEIVE' in out and 'CLIENT' in out


def test_top_fits_a_narrow_terminal_and_speaks_json():
    with Orion() as o:
        o.mem('d0')
        uri = o.nbd('an-export-with-a-rather-long-name-of-its-own', 'd0')
        sh('qemu-io', '-f', 'raw', '-c', 'write 0 1M', uri)
        lines = on_terminal(o, 'top', '--count', '1', columns=80, seconds=60).replace('\r', '').split('\n')
        shown = [re.sub(r'\033\[[0-9;]*[A-Za-z]', '', line) for line in lines]
        assert any(line.endswith('of-its-own') for line in shown), shown
        assert max(len(line) for line in shown) <= 80, shown
        looks = [json.loads(x) for x in o.run('--json', 'top', '--count', '2').stdout.splitlines()]
        assert len(looks) == 2, looks
        assert [e['name'] for e in looks[0]['exports']] == ['an-export-with-a-rather-long-name-of-its-own']
        assert set(looks[0]['exports'][0]['stage_seconds']) == {'receive', 'queue', 'device', 'send'}, looks
        assert [d['name'] for d in looks[0]['devices']] == ['d0'] and 'main' in looks[0]['reactors_busy'], looks


def test_who_fills_a_member_is_told_and_nothing_else_is_asked_for():
    with Orion() as o:
        o.mem('d0', 'd1', 'd2')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,missing', '--sync-rate-max', '4M',
              '--sync-rate-min', '4M')
        o.ctl('array', 'add', 'a0', 'd1')
        wait_for(lambda: 'd1 is being filled' in o.run('status').stdout, what='the rebuild in status')
        text = o.ctl('explain', 'a0', json_out=False)
        number = o.ctl('array', 'show', 'a0')['sync_job']
        assert 'next: wait for it: orionctl job wait %d' % number in text and 'orionctl array add' not in text, text
        o.ctl('array', 'stop', 'a0')
        ends = [e for e in o.ctl('events')['items'] if e['kind'] == 'job-ended']
        assert ends[-1]['object'] == 'job %d' % number, ends
        assert (ends[-1]['old_state'], ends[-1]['new_state']) == ('running', 'cancelled'), ends
        assert 'rebuild of a0 is cancelled: stopped at byte' in ends[-1]['message'], ends


def test_what_needs_no_daemon_needs_no_settings():
    with Orion() as o:
        os.mkdir(os.path.join(o.dir, 'orion'))
        with open(os.path.join(o.dir, 'orion', 'orionctl.json'), 'w') as f:
            f.write('{broken')
        o.env['XDG_CONFIG_HOME'] = o.dir
        assert o.run('status').returncode == 2
        for words in (['version'], ['--version'], ['completion', 'bash'], ['--help'], ['array', '--help']):
            said = o.run(*words)
            assert said.returncode == 0 and said.stdout, said


def test_what_there_is_one_of_is_shown_without_a_verb():
    with Orion() as o:
        assert o.ctl('log-level') == {'level': 'info'}, o.ctl('log-level')
        assert o.ctl('config') == o.ctl('config', 'show')
        assert o.run('array').returncode == 2


def test_watch_does_it_again_and_only_what_reads():
    with Orion() as o:
        shown = on_terminal(o, 'device', 'list', '--watch', '1', seconds=60, screens=3)
        assert shown.count('\033[H') >= 3, shown
        shown = on_terminal(o, 'status', '--watch', '--noheadings', seconds=60, screens=2)
        assert shown.count('\033[H') >= 2 and 'nothing is wrong' in shown, shown
        p = o.run('device', 'add', 'x', '--type', 'mem', '--size', '1M', '--watch', '1')
        assert p.returncode == 2 and 'only read' in p.stderr
        assert not o.ctl('device', 'list')['items']


DRIVE = '''
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_orionctl
printf '%s\\n' "${COMPREPLY[@]}"
'''


def complete(o, script, *words):
    env = dict(os.environ, ORION_API='unix:' + o.api,
               PATH=os.path.dirname(find('orionctl')) + ':' + os.environ['PATH'])
    p = subprocess.run(['bash', '-c', DRIVE, 'bash', script, 'orionctl'] + list(words),
                       capture_output=True, text=True, env=env, timeout=30)
    assert p.returncode == 0 and not p.stderr, p
    return p.stdout.split()


def test_bash_completes_nouns_verbs_options_choices_and_names():
    need('bash')
    with Orion() as o:
        o.mem('alpha', 'beta')
        script = os.path.join(o.dir, 'completion')
        with open(script, 'w') as f:
            f.write(o.ctl('completion', 'bash', json_out=False))
        sh('bash', '-n', script)
        assert complete(o, script, 'dev') == ['device']
        assert {'device', 'array', 'top', 'explain'} <= set(complete(o, script, ''))
        assert {'list', 'add', 'remove'} <= set(complete(o, script, 'device', ''))
        assert '--size' in complete(o, script, 'device', 'add', 'x', '--s')
        assert '--json' in complete(o, script, 'device', 'list', '--j')
        assert complete(o, script, 'device', 'show', 'al') == ['alpha']
        o.ctl('nbd', 'export', 'offered', '--device', 'alpha')
        o.ctl('iscsi', 'create', 'iqn.2026-01.org.example:t')
        assert complete(o, script, 'nbd', 'unexport', 'o') == ['offered']
        assert complete(o, script, 'iscsi', 'lun', 'iqn') == ['iqn.2026-01.org.example:t']
        assert set(complete(o, script, 'iscsi', 'portal', '')) >= {'add', 'remove'}
        assert 'raid1' in complete(o, script, 'array', 'create', 'a', '--level', '')
        assert complete(o, script, 'completion', '') == ['bash', 'zsh']
        zsh = o.ctl('completion', 'zsh', json_out=False)
        assert zsh.startswith('#compdef orionctl') and 'bashcompinit' in zsh
        assert o.run('completion', 'fish').returncode == 2


COVER = """source "$1"; while read -r -a words; do
    COMP_WORDS=("${words[@]}"); last=$((${#words[@]} - 1)); COMP_CWORD=$last
    [[ ${words[last]} == @ ]] && COMP_WORDS[last]=''
    _orionctl; echo "${COMPREPLY[@]}"; done"""


def commands(o):
    """Every command that the help has: its words, and the options that it tells."""
    nouns = re.findall(r'^  (\S+) +\S.*\n {10}(.*)$', o.run('--help').stdout, re.M)
    assert len(nouns) > 15, nouns
    for noun, verbs in nouns:
        for verb in verbs.split(', '):
            words = [noun] + verb.split()
            text = o.run(*words, '--help').stdout
            yield words, re.findall(r'^  (--[a-z-]+)', text.split('Columns for -o')[0], re.M)


def test_completion_and_the_manual_know_every_command_and_option():
    need('bash')
    with Orion() as o:
        script = os.path.join(o.dir, 'completion')
        with open(script, 'w') as f:
            f.write(o.ctl('completion', 'bash', json_out=False))
        with open(os.path.join(SOURCE, 'docs', 'man', 'orionctl.8')) as f:
            manual = f.read().replace('\\-', '-')
        asked, wanted = [], []
        for words, options in commands(o):
            assert re.search(r'^\.B orionctl %s\b' % ' '.join(words), manual, re.M), words
            for k, word in enumerate(words):
                asked.append(['orionctl'] + words[:k] + ['@'])
                wanted.append({word})
            asked.append(['orionctl'] + words + ['--'])
            wanted.append(set(options))
        said = sh('bash', '-c', COVER, 'bash', script, input='\n'.join(map(' '.join, asked)) + '\n')
        lines = said.split('\n')[:-1]
        assert len(lines) == len(asked) > 150, (len(lines), len(asked))
        for line, words, want in zip(lines, asked, wanted):
            assert want <= set(line.split()), (words, want - set(line.split()))


def test_the_support_bundle_has_the_facts_and_no_secrets():
    with Orion() as o:
        degrade(o)
        path = os.path.join(o.dir, 'bundle.json')
        assert o.ctl('support-bundle', path, json_out=False).strip() == path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        with open(path) as f:
            bundle = json.load(f)
        assert bundle['/v1/system']['problems'] and bundle['/v1/arrays'][0]['name'] == 'a0'
        assert 'orion_array_state' in bundle['metrics'] and bundle['host']['kernel']
        assert bundle['/v1/events'] and '/v1/config' in bundle
        assert not re.search(r'"(password|secret|token)[^"]*": "(?!\(left out\))[^"]+"',
                             json.dumps(bundle))
        assert o.run('support-bundle', path).returncode == 1  # never overwrites


def test_the_support_bundle_may_go_to_standard_output():
    with Orion() as o:
        bundle = json.loads(o.ctl('support-bundle', '-', json_out=False))
        assert bundle['/v1/system']['state'] == 'ready' and not os.path.exists('-')


def test_a_job_that_is_waited_for_shows_progress_on_a_terminal():
    with Orion() as o:
        o.mem('d0', 'd1')
        o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1', '--assume-clean',
              '--sync-rate-max', '32M', '--sync-rate-min', '32M')
        shown = on_terminal(o, 'array', 'scrub', 'a0', '--wait', seconds=60)
        assert re.search(r'check a0 \[#*\.*\] +[0-9]+%', shown), shown
        said = o.run('job', 'wait', o.ctl('job', 'list')['items'][-1]['id'])
        assert '%' not in said.stderr and '\r' not in said.stderr, said


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
