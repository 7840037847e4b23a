# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of the daemon when a disk below it does not answer any more."""
import signal
import subprocess
import time

from orion import Orion, need, run, wait_for


def stuck(o):
    """A mirror with a client whose writes one member never ends."""
    for n in ('f0', 'f1'):
        o.ctl('device', 'add', n, '--path', o.dir + '/' + n, '--size', '32M')
    o.ctl('device', 'add', 'x1', '--type', 'fault', '--on', 'f1', '--rules', 'write:hold:after=40')
    o.ctl('array', 'create', 'a0', '--level', 'raid1', '--members', 'f0,x1')
    with open(o.dir + '/data', 'wb') as f:
        f.write(b'd' * (16 << 20))
    client = subprocess.Popen(['nbdcopy', o.dir + '/data', o.nbd('v', 'a0')],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any(i['age_us'] > 500000 for i in o.ctl('debug', 'inflight')['items']), 20,
             'a request that hangs')
    return client


def test_a_second_signal_ends_a_stop_that_hangs():
    need('nbdcopy')
    with Orion() as o:
        client = stuck(o)
        proc, o.proc = o.proc, None
        try:
            proc.send_signal(signal.SIGTERM)
            proc.send_signal(signal.SIGINT)  # a terminal and a script at once: one wish
            time.sleep(3)
            assert proc.poll() is None, 'it did not try to end in order'
            proc.send_signal(signal.SIGTERM)
            assert proc.wait(5) == 1
            assert 'second signal' in o.log(), o.log()
        finally:
            proc.kill()
            proc.wait()
            client.kill()
            client.wait()
        # As after a power cut: all starts, and the mirror is made to agree.
        o.start()
        assert o.ctl('array', 'show', 'a0')['state'] in ('active', 'clean')


run(test_a_second_signal_ends_a_stop_that_hangs)
