# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages can be shown without complaint."""
import glob
import os
import shutil
import subprocess
import sys

SOURCE = os.environ.get('ORION_SOURCE', '.')
if not shutil.which('man') or not shutil.which('groff'):
    print('skipped: man-db and groff are not installed')
    sys.exit(77)
bad = 0
pages = glob.glob(os.path.join(SOURCE, 'docs', 'man', '*.8'))
for page in pages:
    p = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', page],
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                       env=dict(os.environ, MANROFFSEQ='', LC_ALL='C.UTF-8', MANWIDTH='100'))
    if p.returncode or p.stderr.strip():
        bad += 1
        print('%s: exit %d\n%s' % (page, p.returncode, p.stderr))
print('%d pages' % len(pages))
sys.exit(1 if bad or len(pages) < 2 else 0)
