# SPDX-License-Identifier: GPL-2.0-or-later
"""Events go to a program, to a URL and to the journal; who takes them slowly or not at all stops nobody."""
import http.server
import json
import os
import signal
import socket
import threading

from orion import Orion, run, wait_for

PATIENCE = 60


class Web(http.server.ThreadingHTTPServer):
    """Notes what is posted; answers with the statuses that are asked for, then with 200."""

    def __init__(self, statuses=(), hang=False):
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers['Content-Length']))
                web.tries += 1
                if hang:
                    web.hold.wait(PATIENCE)
                status = web.statuses.pop(0) if web.statuses else 200
                if status == 200:
                    web.events.append(json.loads(body))
                    web.tokens.append(self.headers.get('Authorization'))
                self.send_response(status)
                self.send_header('Content-Length', '0')
                self.end_headers()

            def log_message(self, *_):
                pass

        super().__init__(('127.0.0.1', 0), Handler)
        self.statuses, self.events, self.tokens, self.tries = list(statuses), [], [], 0
        self.hold = threading.Event()
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = 'http://127.0.0.1:%d/hook?from=orion' % self.server_port

    def close(self):
        self.hold.set()
        self.shutdown()
        self.server_close()


def configure(o, **settings):
    with open(o.config, 'w') as f:
        json.dump(settings, f)


def raid(o):
    """Without a resync, whose events would come whenever it ends."""
    o.mem('d0', 'd1', size='16M')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'd0,d1', '--assume-clean')
    o.ctl('array', 'fail', 'a0', 'd1')


def kinds(events):
    return [e['kind'] for e in events]


def test_a_url_gets_every_event_in_order_also_after_failures():
    web = Web([500, 503])
    with Orion(start=False) as o:
        secret = o.file('secret', 0)
        with open(secret, 'w') as f:
            f.write('quite secret\n')
        configure(o, event_url=web.url, event_token='file:' + secret)
        o.start()
        raid(o)
        wait_for(lambda: len(web.events) >= 2, PATIENCE, 'both events')
        listed = o.http('GET', '/v1/events').json['items']
        wait_for(lambda: len(web.events) >= len(listed), PATIENCE, 'all events')
        assert web.events[:len(listed)] == listed, (web.events, listed)
        assert set(web.tokens) == {'Bearer quite secret'} and web.tries >= len(listed) + 2
        assert web.events[-1]['new_state'] == 'degraded'
        wait_for(lambda: 'event_url' not in str(o.ctl('status')['problems']), PATIENCE, 'no trouble')
        assert 'quite secret' not in o.log()
    web.close()


def test_a_program_gets_each_event_on_its_input():
    with Orion(start=False) as o:
        out, program = os.path.join(o.dir, 'out'), o.file('hook', 0)
        with open(program, 'w') as f:
            f.write('#!/bin/sh\nread line\necho "$ORION_EVENT|$ORION_OBJECT|$HOME|$line" >> %s\n' % out)
        os.chmod(program, 0o755)
        configure(o, event_command=program)
        o.start()
        o.fds_mark()
        raid(o)
        read = lambda: open(out).read().splitlines() if os.path.exists(out) else []
        wait_for(lambda: any('member-failed' in line for line in read()), PATIENCE, 'the failure')
        event, thing, home, line = next(x for x in read() if 'member-failed' in x).split('|', 3)
        assert (event, thing, home) == ('member-failed', 'array a0', ''), read()
        assert json.loads(line)['new_state'] == 'degraded'


def test_one_that_hangs_or_fails_stops_nobody_and_is_told():
    web = Web(hang=True)
    with Orion(start=False) as o:
        program = o.file('hook', 0)
        with open(program, 'w') as f:
            f.write('#!/bin/sh\nexit 3\n')
        os.chmod(program, 0o755)
        configure(o, event_url=web.url, event_command=program)
        o.start()
        raid(o)
        wait_for(lambda: web.tries == 1, PATIENCE, 'the first try')
        for i in range(50):
            assert o.http('PUT', '/v1/devices/m%d' % i, {'type': 'null', 'size': '1M'}).status == 201
        assert web.tries == 1
        wait_for(lambda: 'exited with 3' in str(o.ctl('status')['problems']), PATIENCE, 'the trouble')
        assert o.run('status', '--check').returncode == 1
        o.stop()  # ends what is under way
    web.close()


def test_reload_gives_events_to_somebody_else_without_loss():
    first, second = Web(), Web()
    with Orion(start=False) as o:
        configure(o, event_url=first.url)
        o.start()
        raid(o)
        wait_for(lambda: 'array-changed' in kinds(first.events), PATIENCE, 'the first receiver')
        configure(o, event_url=second.url, event_token='file:/nonexistent/token')
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: 'configuration read again' in o.log(), PATIENCE, 'the reload')
        o.ctl('array', 'remove', 'a0', 'd1')
        wait_for(lambda: 'file:/nonexistent/token' in str(o.ctl('status')['problems']), PATIENCE, 'the trouble')
        configure(o, event_url=second.url)
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: 'member-removed' in kinds(second.events), PATIENCE, 'the second receiver')
        # The one that was under way at the reload may come to both.
        assert not set(e['id'] for e in first.events[:-1]) & set(e['id'] for e in second.events)
        assert [e['id'] for e in second.events] == sorted(e['id'] for e in second.events)
        configure(o)
        o.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: not o.ctl('status')['problems'] or 'event_url' not in str(o.ctl('status')['problems']),
                 PATIENCE, 'no trouble')
    first.close()
    second.close()


def test_what_is_no_url_or_reference_is_refused_by_its_name():
    with Orion(start=False) as o:
        for field, value in (('event_url', 'ftp://x'), ('event_token', 'hunter2'), ('event_command', 'x')):
            configure(o, **{field: value})
            try:
                o.start()
            except AssertionError:
                assert field in o.log() and 'hunter2\n' not in o.log(), o.log()
            else:
                raise AssertionError('%s was taken' % field)


def test_the_journal_gets_fields():
    with Orion(start=False) as o:
        path = os.path.join(o.dir, 'journal.sock')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(path)
            s.settimeout(PATIENCE)
            o.env.update(JOURNAL_STREAM='1:1', ORION_TEST_JOURNAL=path)
            o.start(foreground=False)
            raid(o)
            while True:
                fields = dict(line.split('=', 1) for line in s.recv(4096).decode().splitlines())
                if fields['ORION_EVENT'] == 'member-failed':
                    break
        assert fields['ORION_OBJECT'] == 'array a0' and fields['PRIORITY'] == '4', fields
        assert fields['SYSLOG_IDENTIFIER'] == 'oriond' and 'd1 failed' in fields['MESSAGE'], fields
        assert '<6>daemon: ' in o.log()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
