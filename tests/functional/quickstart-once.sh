#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The quickstart checks itself with real clients.
for program in nbdcopy qemu-img; do
    command -v $program >/dev/null || { echo "skipped: $program is not installed"; exit 77; }
done
qemu-img --help | grep -q iscsi || { echo "skipped: qemu-img knows no iscsi"; exit 77; }
ORION_QUICKSTART_BUILD=$ORION_BUILD exec "$ORION_SOURCE/quickstart" --once --no-install
