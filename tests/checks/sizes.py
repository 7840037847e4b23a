# SPDX-License-Identifier: GPL-2.0-or-later
"""How long functions and files are: the 90th percentile of functions at most 56 lines, files 1,000."""
import os
import sys

SOURCE = os.environ.get('ORION_SOURCE', '.')
FUNCTION_P90, FILE_MAX = 56, 1000
functions, errors = [], []

for top in ('src', 'cli'):
    for folder, _, names in os.walk(os.path.join(SOURCE, top)):
        for name in sorted(names):
            if not name.endswith(('.c', '.h')):
                continue
            path = os.path.relpath(os.path.join(folder, name), SOURCE)
            with open(os.path.join(folder, name), errors='replace') as f:
                lines = f.read().split('\n')
            if len(lines) > FILE_MAX:
                errors.append('%s has %d lines, at most %d are allowed' % (path, len(lines), FILE_MAX))
            begin = None
            # By .clang-format a function's braces stand alone in the first column.
            for number, text in enumerate(lines, 1):
                if text == '{':
                    begin = number
                elif text == '}' and begin:
                    functions.append((number - begin - 1, '%s:%d' % (path, begin)))
                    begin = None
functions.sort()
if not functions:
    sys.exit('no functions found in ' + SOURCE)
p90 = functions[len(functions) * 9 // 10][0]
print('%d functions, half have at most %d lines, 90 %% at most %d; the longest:' % (
    len(functions), functions[len(functions) // 2][0], p90))
for length, where in functions[-5:]:
    print('  %4d  %s' % (length, where))
if p90 > FUNCTION_P90:
    errors.append('the 90th percentile of function length is %d, at most %d is allowed' % (p90, FUNCTION_P90))
print('\n'.join(errors))
sys.exit(1 if errors else 0)
