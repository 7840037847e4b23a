#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# GRUB's own reader of LVM and ext4 finds a file in a volume that is in pieces on two devices.
# labels: lvm
set -u
skip() { echo "SKIP: $*"; exit 77; }
fail() { echo "FAIL: $*" >&2; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
command -v grub-fstest >/dev/null || skip "grub-fstest (grub-common) is not installed"
command -v mkfs.ext4 >/dev/null || skip "mkfs.ext4 (e2fsprogs) is not installed"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"
head -c 3M /dev/urandom >"$work/root/hello"
truncate -s 24M "$work/fs" "$work/a.img" "$work/b.img"
mkfs.ext4 -q -d "$work/root" "$work/fs" || fail "mkfs.ext4"
"$ORION_BUILD/tests/oracle/voltool" "device a $work/a.img" "device b $work/b.img" \
    'create p a b extent=1M' 'volume p gap 5M' 'volume p v 8M' 'volume p w 3M' 'resize p v 30M' \
    "write p/v $work/fs" 'delete p w' show || fail voltool
disks=(-c 2 "$work/a.img" "$work/b.img")
grub-fstest "${disks[@]}" ls | grep -q 'lvm/p-v' || fail "GRUB does not list the volume"
grub-fstest "${disks[@]}" cmp '(lvm/p-v)/hello' "$work/root/hello" || fail "the file differs"
head -c 3M /dev/urandom >"$work/other"
grub-fstest "${disks[@]}" cmp '(lvm/p-v)/hello' "$work/other" >/dev/null 2>&1 && fail "cmp cannot fail"
exit 0
