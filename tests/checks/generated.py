# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages that are made from the tables are those that the tables make."""
import os
import subprocess
import sys

SOURCE, BUILD = os.environ.get('ORION_SOURCE', '.'), os.environ.get('ORION_BUILD', 'build')
stale = []
for kind, path in (('md', 'docs/reference.md'), ('man', 'docs/man/orionctl.8')):
    made = subprocess.run([os.path.join(BUILD, 'cli', 'orion-reference'), kind], check=True,
                          capture_output=True).stdout
    try:
        with open(os.path.join(SOURCE, path), 'rb') as f:
            same = f.read() == made
    except FileNotFoundError:
        same = False
    if not same:
        stale.append('%s is stale: cmake --build %s --target reference' % (path, BUILD))
print('\n'.join(stale) or 'fresh')
sys.exit(1 if stale else 0)
