# SPDX-License-Identifier: GPL-2.0-or-later
"""Who includes whom: the rooms of src/ know only the rooms below them, and few files know the loop."""
import os
import re
import sys

SOURCE = os.environ.get('ORION_SOURCE', '.')
BELOW = {
    'base': [],
    'client': ['base'],
    'reactor': ['base'],
    'net': ['base', 'reactor'],
    'block': ['base', 'reactor'],
    'probe': ['base', 'reactor', 'block'],
}
for room in ('drivers', 'raid', 'volumes', 'targets'):
    BELOW[room] = ['base', 'reactor', 'net', 'block', 'probe']
BELOW['control'] = ['base', 'reactor', 'net', 'block', 'probe', 'drivers', 'raid', 'volumes', 'targets']
BELOW['api'] = BELOW['control'] + ['control']
BELOW['daemon'] = BELOW['api'] + ['api', 'client']
ROOMS = set(BELOW)
# Folders within a room that stand on their own, and the siblings they may know.
APART = {'drivers': {}, 'targets': {'iscsi': ['scsi']}}
SYSTEM = [
    (re.compile(r'event2?/|event\.h'), ['src/reactor/']),
    (re.compile(r'liburing'), ['src/reactor/', 'src/drivers/']),
    (re.compile(r'microhttpd'), ['src/api/']),
]
errors = []


def bad(path, line, text):
    errors.append('%s:%d: %s' % (path, line, text))


def check_own(path, line, room, included):
    """An include of the room by its own name."""
    mine, theirs = path.split('/')[2:-1], included.split('/')[1:-1]
    if room not in APART or not mine or not theirs or mine[0] == theirs[0]:
        return
    if theirs[0] not in APART[room].get(mine[0], []):
        bad(path, line, '%s/%s must not know %s/%s' % (room, mine[0], room, theirs[0]))


def check(path):
    parts = path.split('/')
    room = parts[1] if parts[0] == 'src' else 'cli'
    allowed = BELOW[room] if room != 'cli' else ['base', 'client']
    with open(os.path.join(SOURCE, path), errors='replace') as f:
        for number, text in enumerate(f, 1):
            m = re.match(r'\s*#\s*include\s*([<"])([^">]+)', text)
            if not m:
                continue
            name = m.group(2)
            for pattern, folders in SYSTEM:
                if pattern.match(name) and not any(path.startswith(x) for x in folders):
                    bad(path, number, '<%s> belongs to %s only' % (name, ', '.join(folders)))
            other = name.split('/')[0]
            if m.group(1) != '"' or other not in ROOMS:
                continue
            if other != room and other not in allowed:
                bad(path, number, '%s must not know %s' % (room, other))
            if other != room and name.endswith('_private.h'):
                bad(path, number, '%s is private to %s' % (name, other))
            if other == room:
                check_own(path, number, room, name)


def check_links(path):
    """The link list of a room says the same."""
    with open(os.path.join(SOURCE, path)) as f:
        for m in re.finditer(r'orion_room\(\s*(\w+)(.*?)\)', f.read(), re.S):
            rooms = re.search(r'\bROOMS\b([^A-Z]*)', m.group(2))
            for other in rooms.group(1).split() if rooms else []:
                if m.group(1) in BELOW and other in ROOMS and other not in BELOW[m.group(1)]:
                    bad(path, 1, '%s must not link %s' % (m.group(1), other))


files = 0
for top in ('src', 'cli'):
    for folder, _, names in os.walk(os.path.join(SOURCE, top)):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), SOURCE)
            if name.endswith(('.c', '.h')):
                check(path)
                files += 1
            elif name == 'CMakeLists.txt' and path != 'src/CMakeLists.txt':
                check_links(path)
print('\n'.join(errors) or '%d files keep to their rooms' % files)
sys.exit(1 if errors or not files else 0)
