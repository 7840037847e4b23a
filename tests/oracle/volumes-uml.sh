#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The kernel's own device mapper, in user-mode-linux: it activates our group and reads our bytes, we
# read what it wrote, and a group with thin volumes and snapshots survives our changes.
# labels: uml lvm
set -u
fail() { echo "FAIL: $*" >&2; exit 1; }
uml=$ORION_SOURCE/tests/oracle/uml/run
vt=$ORION_BUILD/tests/oracle/voltool
"$uml" --probe || exit 77
command -v vgchange >/dev/null || { echo "SKIP: lvm2 is not installed"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

config='activation{udev_sync=0 udev_rules=0 verify_udev_operations=1} devices{use_devicesfile=0 scan=["/dev"]} backup{backup=0 archive=0} global{use_lvmpolld=0}'
guest() { # SNIPPET: with our two images as ubda, ubdb, and $work as the current folder
    "$uml" --disk "$work/a.img" --disk "$work/b.img" --module dm-mod --module dm-thin-pool \
        --module dm-snapshot --work "$work" --timeout 100 "
        set -e
        export LVM_SUPPRESS_FD_WARNINGS=1 DM_DISABLE_UDEV=1
        lv() { local c=\$1; shift; \$c --config '$config' \"\$@\"; }
        $1" || fail "guest: status $?"
}
ours() { "$vt" "device d0 $work/a.img" "device d1 $work/b.img" "$@" || fail "voltool $*"; }
sum() { sha256sum <"$1" | cut -d' ' -f1; }

truncate -s 64M "$work/a.img" "$work/b.img"
head -c 48M /dev/urandom >"$work/data"

echo '== the kernel reads what we wrote, on two devices'
ours 'create p d0 d1' 'volume p v 8M' 'volume p gap 4M' 'resize p v 48M' 'delete p gap' \
    "write p/v $work/data"
guest '
    lv vgck p
    lv vgchange -ay p
    sha256sum </dev/mapper/p-v | cut -d" " -f1 >sum.v
    dd if=/dev/urandom of=/dev/mapper/p-v bs=1M seek=8 count=10 conv=notrunc status=none
    sha256sum </dev/mapper/p-v | cut -d" " -f1 >sum.v2
    lv lvcreate -y -n k -L 20M p
    dd if=/dev/urandom of=/dev/mapper/p-k bs=1M count=20 status=none || true
    sha256sum </dev/mapper/p-k | cut -d" " -f1 >sum.k
    sync
    lv vgchange -an p' >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
[ "$(cat "$work/sum.v")" = "$(sum "$work/data")" ] || fail "the kernel reads other bytes of p/v"

echo '== we read what the kernel wrote'
ours 'import p' "read p/v $work/v" "read p/k $work/k"
[ "$(cat "$work/sum.v2")" = "$(sum "$work/v")" ] || fail "bytes of p/v"
[ "$(cat "$work/sum.k")" = "$(sum "$work/k")" ] || fail "bytes of p/k"

echo '== a group of the kernel: linear, striped, thin, snapshot'
truncate -s 0 "$work/a.img" "$work/b.img"
truncate -s 64M "$work/a.img" "$work/b.img"
guest '
    lv vgcreate -s 1M lv /dev/ubda /dev/ubdb
    lv lvcreate -y -n lin -L 20M lv
    lv lvcreate -y -n str -i 2 -I 64k -L 16M lv
    lv lvcreate -y --type thin-pool -n tp -L 24M lv
    lv lvcreate -y -V 40M --thinpool tp -n thin lv
    lv lvcreate -y -n org -L 10M lv
    for v in lin str thin org; do
        dd if=/dev/urandom of=/dev/mapper/lv-$v bs=1M count=8 conv=notrunc status=none
    done
    lv lvcreate -y -s -n snap -L 4M lv/org
    dd if=/dev/urandom of=/dev/mapper/lv-org bs=1M count=1 conv=notrunc status=none
    sync
    for v in lin str thin org snap; do
        sha256sum </dev/mapper/lv-$v | cut -d" " -f1 >sum.$v
    done
    lv vgchange -an lv' >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
truncate -s 96M "$work/b.img"
ours 'import lv own' 'grow lv' 'show' "read lv/lin $work/lin" "read lv/str $work/str" 'volume lv new 12M' \
    'resize lv lin 30M' >"$work/show" || { cat "$work/show"; exit 1; }
cat "$work/show"
for v in lin str; do
    [ "$(cat "$work/sum.$v")" = "$(sum "$work/$v")" ] || fail "bytes of lv/$v"
done
for v in tp thin org snap; do
    grep -q "^volume lv/$v .* inactive: " "$work/show" || fail "lv/$v is not carried as inactive"
done

echo '== and the kernel still has all of it after our changes'
guest '
    lv vgck lv
    [ $(lv pvs --noheadings --units m --nosuffix -o pv_size /dev/ubdb) = 95.00 ]
    lv vgchange -ay lv
    for v in str thin org snap; do
        sha256sum </dev/mapper/lv-$v | cut -d" " -f1 >now.$v
    done
    head -c 20M /dev/mapper/lv-lin | sha256sum | cut -d" " -f1 >now.lin
    [ $(blockdev --getsize64 /dev/mapper/lv-new) = 12582912 ]
    lv vgchange -an lv' >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
for v in lin str thin org snap; do
    cmp -s "$work/sum.$v" "$work/now.$v" || fail "lv/$v changed"
done
exit 0
