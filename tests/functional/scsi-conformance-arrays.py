# SPDX-License-Identifier: GPL-2.0-or-later
# labels: long
"""libiscsi's conformance tests of SCSI on arrays."""
from conformance import THIN, conformance, mem
from orion import run


def array(level):
    def make(o, name):
        mem(o, name + 'a')
        mem(o, name + 'b')
        o.ctl('array', 'create', name, '--level', level, '--members', '%sa,%sb' % (name, name), '--assume-clean')
    return make


def test_raid1():
    conformance('raid1', array('raid1'), THIN)


def test_raid0():
    conformance('raid0', array('raid0'), THIN)


run(test_raid1, test_raid0)
