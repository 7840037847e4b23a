# SPDX-License-Identifier: GPL-2.0-or-later
"""SIGKILL at some steps of the verbs that write most; control-killpoints-all has every step of every verb."""
from killpoints import VERBS, Box
from orion import Orion, run

SAMPLE = [('PUT', '/v1/arrays/{name}', 3), ('PUT', '/v1/pools/{name}', 4), ('DELETE', '/v1/arrays/{name}', 4)]


def test_a_daemon_that_dies_at_a_step_comes_back_before_or_behind_the_verb():
    with Orion() as o:
        box = Box(o)
        for method, path, step in SAMPLE:
            verb = next(v for v in VERBS if v[:2] == (method, path))
            assert box.kill_at(verb, step, box.run_whole(verb)), (verb, step, 'it has fewer steps')
        box.put_back()
        o.start()


run(*[v for k, v in sorted(globals().items()) if k.startswith('test_')])
