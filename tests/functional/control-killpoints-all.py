# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""SIGKILL at every step of every verb of the API, as the tables have them."""
import os

from killpoints import VERBS, Box
from orion import Orion, run

ONLY = os.environ.get('ORION_VERB', '')  # a part of "PUT /v1/arrays/{name}"


def test_every_step_of_every_verb():
    killed = verbs = 0
    with Orion() as o:
        box = Box(o)
        for verb in VERBS:
            if ONLY not in '%s %s' % verb[:2]:
                continue
            after, step = box.run_whole(verb), 1
            while box.kill_at(verb, step, after):
                step += 1
                assert step < 500, (verb, 'never ends')
            assert step > 1, (verb, 'has no step at all')
            print('%s %s: %d steps' % (verb[0], verb[1], step - 1), flush=True)
            verbs, killed = verbs + 1, killed + step - 1
        print('%d verbs, killed at %d steps' % (verbs, killed))
        box.put_back()
        o.start()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
