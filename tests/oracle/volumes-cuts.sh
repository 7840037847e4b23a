#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# LVM's own reader, on a device whose power went at each moment of a volume's creation, with all of the
# write cache lost, none of it, and by chance: it finds the group with the volume or without, and
# nothing to complain about.
# labels: lvm
set -u
skip() { echo "SKIP: $*"; exit 77; }
fail() { echo "FAIL: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || skip "loop devices want root"
for tool in vgck lvs losetup; do
    command -v $tool >/dev/null || skip "$tool is not installed"
done
vt=$ORION_BUILD/tests/oracle/voltool
work=$(mktemp -d)
loop=
trap '[ -z "$loop" ] || losetup -d "$loop"; rm -rf "$work"' EXIT
mkdir "$work/cut"
truncate -s 4M "$work/a.img"
"$vt" "device a $work/a.img" 'create p a extent=512K' 'volume p v 1M' || fail create
cp "$work/a.img" "$work/before.img"
"$vt" "device a $work/a.img" 'fault f a' 'import p' 'record f' 'volume p new 1M' \
    "cuts f $work/before.img $work/cut" || fail record

lvm_() {
    LVM_SUPPRESS_FD_WARNINGS=1 "$1" --driverloaded n \
        --config "devices{use_devicesfile=0 global_filter=[\"a|^$loop\$|\",\"r|.*|\"]}" "${@:2}" 2>&1 |
        grep -v 'Activation disabled' | xargs
    return "${PIPESTATUS[0]}"
}
without=0 with=0
for image in "$work"/cut/*.img; do
    loop=$(losetup -f --show "$image") || skip "no loop device is free"
    out=$(lvm_ vgck p) && [ -z "$out" ] || fail "vgck on $(basename "$image"): $out"
    out=$(lvm_ lvs --noheadings -o lv_name p) || fail "lvs on $(basename "$image"): $out"
    losetup -d "$loop"
    loop=
    case $out in
    v) without=$((without + 1)) ;;
    'v new' | 'new v') with=$((with + 1)) ;;
    *) fail "lvs on $(basename "$image") gives '$out'" ;;
    esac
done
echo "$without cuts without the volume, $with with it"
[ $without -ge 8 ] && [ $with -ge 2 ] || fail "too few cuts of one kind"
exit 0
