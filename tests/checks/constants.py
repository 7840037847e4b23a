# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers that docs/api.md repeats are those of the code."""
import os
import re
import sys

ROOT = os.environ['ORION_SOURCE']
WORDS = {'ten': 10}
# a number of the page, and where it stands in the code; the group of each is the number
SAME = [(r'`%s` \((\d+)' % name, 'src/daemon/options.c', r'"%s",[^}]*?\.dflt = "(\d+)M?"' % name)
        for name in ('api_body_max', 'api_connections_max', 'api_streams_max', 'api_idle_s', 'api_handshake_s')]
SAME += [(r'(\d+) levels', 'src/api/api.h', r'API_JSON_DEPTH = (\d+)'),
         (r'(\d+) fields in a query', 'src/api/routes.c', r'QUERY_MAX = (\d+)'),
         (r'(\d+) TLS connections', 'src/api/secure.h', r'SECURE_MAX = (\d+)'),
         (r'the last (\d+) are', 'src/control/events.h', r'CONTROL_EVENTS_MAX = (\d+)'),
         (r'falls (\d+) events behind', 'src/control/events.h', r'CONTROL_EVENTS_MAX = (\d+)'),
         (r'comment comes every (\d+) seconds', 'src/api/stream.h', r'STREAM_BEAT_S = (\d+)'),
         (r'has (\d+) such refusals a minute', 'src/control/audit.h', r'AUDIT_REFUSALS_MAX = (\d+)'),
         (r'After (\w+) wrong tokens in a minute', 'src/api/auth.h', r'AUTH_FAILURES_MAX = (\d+)')]


def numbers(path, pattern):
    with open(os.path.join(ROOT, path)) as f:
        return [WORDS.get(n) or int(n) for n in re.findall(pattern, f.read())]


bad = 0
for page, source, pattern in SAME:
    said, real = numbers('docs/api.md', page), numbers(source, pattern)
    if not said or len(real) != 1 or set(said) != set(real):
        print('docs/api.md, "%s": %s; %s has %s' % (page, said, source, real))
        bad = 1
sys.exit(bad)
