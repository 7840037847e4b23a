# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands of docs/walkthrough.md do what it says, by orionctl and by curl alike."""
import json
import os
import re

from orion import SOURCE, Orion, find, free_port, need, run, sh

PREPARE = """set -eu; cd "$1"
orionctl() { "$2" --api "unix:$3" "$@"; }
api() { curl -sS --fail-with-body --unix-socket "$3" -H 'Content-Type: application/json' "$@"; }
"""


def page():
    with open(os.path.join(SOURCE, 'docs', 'walkthrough.md')) as f:
        return f.read()


def rows(title):
    """Of each row of the section's table: what the step is, and the commands of both columns."""
    section = page().split('## %s\n' % title)[1].split('\n## ')[0]
    for line in section.split('\n'):
        if not line.startswith('|') or line.startswith(('| step', '|---')):
            continue
        cells = re.split(r'(?<!\\)\|', line)[1:4]
        left, right = [[c.replace('\\|', '|') for c in re.findall('`([^`]+)`', cell)
                        if re.match(r'(orionctl|api|jq|etag=)\b', c)] for cell in cells[1:]]
        yield cells[0].strip(), left, right


class Shell:
    """The page's commands, with this test's folder, socket and port in the place of the page's."""

    def __init__(self, o):
        self.o, self.port, self.etag = o, free_port(), ''

    def fit(self, text):
        text = text.replace('/srv/', self.o.dir + '/')
        return re.sub(r'127\.0\.0\.1(?!:)', '127.0.0.1:%d' % self.port, text)

    def do(self, command, expect=0):
        prepare = PREPARE.replace('"$2"', find('orionctl')).replace('$3', self.o.api)
        return sh('bash', '-c', prepare + "etag='%s'\n" % self.etag + self.fit(command), 'bash', self.o.dir,
                  expect=expect)


def both():
    """Two daemons: for the left column and for the right one."""
    return Orion(), Orion()


def without_paths(o):
    text = json.dumps(o.ctl('config', 'show'), sort_keys=True)
    return re.sub(r'127\.0\.0\.1:[0-9]+', 'ADDR', text.replace(o.dir, 'DIR'))


def test_one_step_after_the_other():
    need('curl')
    left, right = both()
    with left, right:
        shells = Shell(left), Shell(right)
        steps = list(rows('One step after the other'))
        assert len(steps) > 8, steps
        for what, *columns in steps:
            for shell, commands in zip(shells, columns):
                assert commands, what
                for command in commands:
                    shell.do(command)
            assert without_paths(left) == without_paths(right), what
        assert left.ctl('volume', 'list')['items'] == []


def test_all_at_once():
    need('curl', 'jq')
    left, right = both()
    box = re.search(r"^    cat > box.json <<'END'\n(.*?)^    END", page(), re.M | re.S).group(1)
    with left, right:
        shells = Shell(left), Shell(right)
        for shell in shells:
            with open(os.path.join(shell.o.dir, 'box.json'), 'w') as f:
                f.write(shell.fit(box))
        steps = list(rows('All at once'))
        assert [len(s[1]) for s in steps] == [1, 1, 1, 2, 1], steps
        for what, by_ctl, by_api in steps:
            if what == 'in the background':  # something is left for it to do
                left.ctl('nbd', 'unexport', 'v0')
                said = shells[0].do(by_ctl[0])
                shells[0].do(by_ctl[1].replace('7', said.split()[1]))
                continue
            shells[0].do(by_ctl[0], expect=10 if '--detailed' in by_ctl[0] else 0)
            shells[1].etag = right.http('GET', '/v1/config').headers['ETag']
            for command in by_api:
                said = shells[1].do(command)
                if 'apply' in command:
                    right.ctl('job', 'wait', json.loads(said)['id'])
            if what == 'do it':
                assert without_paths(left) == without_paths(right)
        for shell in shells:
            assert shell.do('orionctl --json plan box.json') == shell.do('echo {} > e; orionctl --json plan e')


run(test_one_step_after_the_other, test_all_at_once)
