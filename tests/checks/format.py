# SPDX-License-Identifier: GPL-2.0-or-later
"""clang-format 14 would change nothing."""
import os
import re
import shutil
import subprocess
import sys

SOURCE = os.environ.get('ORION_SOURCE', '.')
program = shutil.which('clang-format-14') or shutil.which('clang-format')
version = subprocess.run([program, '--version'], capture_output=True, text=True).stdout if program else ''
if not re.search(r'version 14\.', version):
    print('skipped: clang-format 14 is not installed')
    sys.exit(77)
files = []
for top in ('src', 'cli', 'tests'):
    for folder, _, names in os.walk(os.path.join(SOURCE, top)):
        files += [os.path.join(folder, n) for n in names if n.endswith(('.c', '.h'))]
p = subprocess.run([program, '--dry-run', '-Werror', '--ferror-limit=1'] + sorted(files), cwd=SOURCE,
                   capture_output=True, text=True)
wrong = sorted(set(re.findall(r'^(\S+?):\d+:\d+: error', p.stderr, re.M)))
for path in wrong:
    print('%s: run clang-format -i' % os.path.relpath(path, SOURCE))
print('%d files, %d to be formatted' % (len(files), len(wrong)))
sys.exit(1 if wrong or p.returncode else 0)
