# SPDX-License-Identifier: GPL-2.0-or-later
"""What the pages link to within the repository is there."""
import os
import re
import sys

SOURCE = os.environ.get('ORION_SOURCE', '.')
broken, links = [], 0
for top in ('.', 'docs', 'tests/oracle/uml', 'tests/bench'):
    folder = os.path.join(SOURCE, top)
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if not name.endswith('.md'):
            continue
        with open(os.path.join(folder, name)) as f:
            text = re.sub(r'```.*?```', '', f.read(), flags=re.S)
        for target in re.findall(r'\]\(([^)#\s]+)', text):
            if '://' in target:
                continue
            links += 1
            if not os.path.exists(os.path.join(folder, target)):
                broken.append('%s/%s: %s is not there' % (top, name, target))
print('\n'.join(broken) or '%d links' % links)
sys.exit(1 if broken or not links else 0)
