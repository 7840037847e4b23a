# SPDX-License-Identifier: GPL-2.0-or-later
"""Every source file says its licence, and none holds a promise instead of code."""
import os
import re
import sys

SOURCE = os.environ.get('ORION_SOURCE', '.')
SKIP = ('.git', '.check', '.quickstart', 'corpus', '__pycache__')
LICENCE = 'SPDX-License-Identifier: GPL-2.0-or-later'
# Put together from pieces, so that this file does not find itself.
PROMISES = re.compile(r'\b(' + '|'.join(['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK', 'st' + 'ub']) +
                      r')\b|not (yet )?' + r'implemented', re.I)
errors = []
files = 0


def is_script(path):
    with open(path, 'rb') as f:
        return f.read(2) == b'#!'


for folder, folders, names in os.walk(SOURCE):
    folders[:] = [d for d in folders if d not in SKIP and
                  not os.path.exists(os.path.join(folder, d, 'CMakeCache.txt'))]
    for name in names:
        full = os.path.join(folder, name)
        path = os.path.relpath(full, SOURCE)
        if not os.path.isfile(full) or os.path.islink(full):
            continue
        if not (name.endswith(('.c', '.h', '.py', '.sh')) or ('.' not in name and is_script(full))):
            continue
        files += 1
        with open(full, errors='replace') as f:
            lines = f.read().split('\n')
        if LICENCE not in '\n'.join(lines[:4]):
            errors.append('%s: its first lines do not say "%s"' % (path, LICENCE))
        for number, text in enumerate(lines, 1):
            m = PROMISES.search(text)
            if m and m.group(0).upper() != 'XX' + 'XX':
                errors.append('%s:%d: "%s"' % (path, number, m.group(0)))
print('\n'.join(errors) or '%d files' % files)
sys.exit(1 if errors or not files else 0)
