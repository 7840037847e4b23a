#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# LVM's own tools (without the kernel's driver) agree with the metadata that we write, change it, and
# make groups of their own, and we agree with what they wrote.
# labels: lvm
set -u
skip() { echo "SKIP: $*"; exit 77; }
fail() { echo "FAIL: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || skip "loop devices want root"
for tool in pvck vgck vgs losetup blkid cmp; do
    command -v $tool >/dev/null || skip "$tool is not installed"
done
vt=$ORION_BUILD/tests/oracle/voltool
work=$(mktemp -d)
loops=()
finish() {
    for l in "${loops[@]}"; do losetup -d "$l"; done
    rm -rf "$work"
}
trap finish EXIT

for n in a b c; do truncate -s 64M "$work/$n.img"; done
head -c 30M /dev/urandom >"$work/data"

# Loop devices live for as long as LVM works; our side uses the files themselves.
attach() {
    loops=()
    for n in "$@"; do
        loops+=("$(losetup -f --show "$work/$n.img")") || skip "no loop device is free"
    done
}
detach() {
    for l in "${loops[@]}"; do losetup -d "$l"; done
    loops=()
}
# Runs an LVM command on the attached devices only; fails on any warning but those about the absent driver.
lvm_() {
    local filter='' out rc
    for l in "${loops[@]}"; do filter+="\"a|^$l\$|\","; done
    out=$(LVM_SUPPRESS_FD_WARNINGS=1 "$1" --driverloaded n \
        --config "devices{use_devicesfile=0 global_filter=[$filter\"r|.*|\"]} backup{backup=0 archive=0}" \
        "${@:2}" 2>&1)
    rc=$?
    out=$(grep -v 'Activation disabled\|not zeroed\|NOT backed up' <<<"$out")
    [ $rc = 0 ] || fail "$*: status $rc: $out"
    ! grep -qi 'warning\|error\|repair\|mismatch\|inconsisten' <<<"$out" || fail "$*: $out"
    echo "$out"
}
report() { # VALUES COMMAND...: what a reporting command prints, its blanks made one
    local want=$1 got
    shift
    got=$(lvm_ "$@" --noheadings --units b --nosuffix | xargs) || exit 1
    [ "$got" = "$want" ] || fail "$*: got '$got', expected '$want'"
}
ours() { # COMMANDS: on the images a, b, c
    "$vt" "device d0 $work/a.img" "device d1 $work/b.img" "device d2 $work/c.img" "$@" || fail "voltool $*"
}

echo '== what we write, LVM reads'
ours 'create p d0 d1' 'volume p v 30M' 'volume p w 50M' "write p/v $work/data" 'resize p v 40M' \
    'volume p x 5M' 'delete p x'
attach a b
lvm_ vgck p
for l in "${loops[@]}"; do
    lvm_ pvck "$l" >/dev/null
    lvm_ pvck --dump headers "$l" | grep -q 'pv_header_extension.flags 1' || fail "pvck: no PV_EXT_USED"
    lvm_ pvck --dump metadata "$l" | grep -q 'seqno = 6' || fail "pvck: seqno"
    [ "$(blkid -p -s TYPE -o value "$l")" = LVM2_member ] || fail "blkid: $(blkid -p "$l")"
done
report 'p 2 2 orion 4194304 6' vgs -o vg_name,pv_count,lv_count,vg_tags,vg_extent_size,vg_seqno p
report 'v 41943040 linear w 54525952 linear' lvs -o lv_name,lv_size,segtype -O lv_name p
report '62914560 62914560' pvs -o pv_size
lvm_ vgs --noheadings -o vg_autoactivation p | grep -q enabled && fail "autoactivation is on"

echo '== what LVM changes, we read'
detach
attach a b c
lvm_ vgextend p "${loops[2]}" >/dev/null
lvm_ lvextend -L +8M p/v >/dev/null
lvm_ lvrename p w ww >/dev/null
lvm_ lvcreate -an -y -Zn -Wn -n z -L 20M p >/dev/null
lvm_ lvcreate -an -y -Zn -Wn -n s -i 2 -I 64k -L 8M p >/dev/null
detach
ours 'import p' 'show' "read p/v $work/back" >"$work/show"
grep -q '^volume p/v 50331648 linear .* active$' "$work/show" || fail "$(cat "$work/show")"
grep -q '^volume p/ww 54525952 linear .* active$' "$work/show" || fail "$(cat "$work/show")"
grep -q '^volume p/s 8388608 striped .* active$' "$work/show" || fail "$(cat "$work/show")"
grep -q ' devices 3$' "$work/show" || fail "$(cat "$work/show")"
cmp -n $((30 << 20)) "$work/data" "$work/back" || fail "data of p/v"

echo '== and change further, around the ring of texts'
script=('import p' 'volume p r 4M')
for i in $(seq 450); do script+=("resize p r $((i % 2 ? 8 : 4))M"); done
ours "${script[@]}"
attach a b c
lvm_ vgck p
seqno=$(lvm_ vgs --noheadings -o vg_seqno p | tr -d ' ')
[ "$seqno" -gt 455 ] || fail "seqno $seqno"
lvm_ lvremove -f p/r >/dev/null
detach
ours 'import p' "read p/v $work/back"
cmp -n $((30 << 20)) "$work/data" "$work/back" || fail "data of p/v after 450 changes"

echo '== we take what devices have gained, and LVM has nothing to say against it'
detach
truncate -s 96M "$work/a.img"
truncate -s 81M "$work/b.img"
ours 'import p' 'grow p' 'resize p v 100M' show >"$work/show"
grep -q '^volume p/v 104857600 linear .* active$' "$work/show" || fail "$(cat "$work/show")"
attach a b c
lvm_ vgck p
for l in "${loops[@]}"; do lvm_ pvck "$l" >/dev/null; done
report '96468992 100663296 83886080 84934656 62914560 67108864' \
    pvs -o pv_size,dev_size -O -pv_size
for n in 0:100663296 1:84934656 2:67108864; do # the labels, which pvs does not look at
    lvm_ pvck --dump headers "${loops[${n%:*}]}" | grep -q "pv_header.device_size ${n#*:}\$" ||
        fail "pvck: device_size of ${loops[${n%:*}]}"
done
for l in "${loops[@]}"; do # it agrees with pvresize, which finds nothing to do
    lvm_ pvresize "$l" >/dev/null
done
report '96468992 100663296 83886080 84934656 62914560 67108864' \
    pvs -o pv_size,dev_size -O -pv_size
detach
ours 'import p' 'grow p' "read p/v $work/back"
cmp -n $((30 << 20)) "$work/data" "$work/back" || fail "data of p/v in the grown pool"

echo '== a deleted pool is gone for LVM'
ours 'import p' 'delete p v' 'delete p ww' 'delete p z' 'delete p s' 'destroy p'
attach a b c
report '' pvs

echo '== a group of LVM itself: its bytes are where LVM says'
lvm_ vgcreate -s 1M lv "${loops[@]}" >/dev/null
for v in one:7 hole:3 two:60; do
    lvm_ lvcreate -an -y -Zn -Wn -n "${v%:*}" -L "${v#*:}M" lv >/dev/null
done
lvm_ lvremove -f lv/hole >/dev/null
lvm_ lvextend -L 80M lv/one >/dev/null
>"$work/want"
number=0
while read -r dev start; do # the extents of "one", one a line
    head -c 1M /dev/urandom >"$work/mib"
    dd if="$work/mib" of="$dev" bs=1M seek=$((start + 1)) conv=notrunc status=none
    cat "$work/mib" >>"$work/want"
    number=$((number + 1))
done < <(lvm_ lvs --noheadings -o seg_pe_ranges lv/one | tr ' ' '\n' | grep . |
    while IFS=: read -r dev range; do
        for e in $(seq "${range%-*}" "${range#*-}"); do echo "$dev $e"; done
    done)
[ $number = 80 ] || fail "$number extents of lv/one"
sync
detach
ours 'import lv own' "read lv/one $work/back" 'volume lv ours 9M'
cmp "$work/want" "$work/back" || fail "bytes of lv/one"
attach a b c
lvm_ vgck lv
report 'orion 3' vgs -o vg_tags,lv_count lv
lvm_ vgs --noheadings -o vg_autoactivation lv | grep -q enabled && fail "autoactivation is on"

echo '== unusual layouts: two, none and unused metadata areas, a boot area, data elsewhere'
lvm_ vgremove -f lv >/dev/null
lvm_ pvremove -y "${loops[@]}" >/dev/null
lvm_ pvcreate --pvmetadatacopies 2 --metadatasize 300k --dataalignment 3M "${loops[0]}" >/dev/null
lvm_ pvcreate --pvmetadatacopies 0 --bootloaderareasize 2M "${loops[1]}" >/dev/null
lvm_ pvcreate "${loops[2]}" >/dev/null
lvm_ vgcreate --vgmetadatacopies 2 -s 2M odd "${loops[@]}" >/dev/null
lvm_ lvcreate -an -y -Zn -Wn -n v -L 90M odd >/dev/null
used=$(lvm_ pvs --noheadings -o pv_mda_used_count | xargs)
detach
ours 'import odd own' 'volume odd w 20M' "write odd/v $work/data" "read odd/v $work/back"
cmp -n $((30 << 20)) "$work/data" "$work/back" || fail "bytes of odd/v"
attach a b c
lvm_ vgck odd
report 'odd 2 orion' vgs -o vg_name,lv_count,vg_tags odd
[ "$(lvm_ pvs --noheadings -o pv_mda_used_count | xargs)" = "$used" ] || fail "metadata areas in use changed"
lvm_ pvs --noheadings --units b --nosuffix -o ba_size | grep -q 2097152 || fail "the boot area is lost"
for l in "${loops[@]}"; do lvm_ pvck "$l" >/dev/null; done

echo '== a metadata area behind the data: pvresize moves it, and then we see what it made of it'
detach
truncate -s 128M "$work/a.img"
"$vt" "device d0 $work/a.img" "device d1 $work/b.img" "device d2 $work/c.img" 'import odd' 'grow odd' \
    2>"$work/said" && fail "grown over a metadata area"
grep -q pvresize "$work/said" || fail "$(cat "$work/said")"
attach a b c
lvm_ vgck odd
lvm_ pvresize "${loops[0]}" >/dev/null
detach
ours 'import odd' 'grow odd' "read odd/v $work/back"
cmp -n $((30 << 20)) "$work/data" "$work/back" || fail "bytes of odd/v after pvresize"
attach a b c
lvm_ vgck odd
exit 0
