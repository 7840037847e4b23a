# SPDX-License-Identifier: GPL-2.0-or-later
# labels: uml long
"""Every level with every older superblock version, as raid-old-formats.py has it for a few."""
import os
import runpy

os.environ['ORION_OLD_LEVELS'] = 'all'
runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'raid-old-formats.py'),
               run_name='__main__')
