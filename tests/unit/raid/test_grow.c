/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arrays that grow: by members, and by what their members have gained. */
#include "arrays.h"

#include <linux/types.h>

#include <linux/raid/md_p.h>

enum { K = 1024, MIB = 1 << 20 };

static struct err e;
static uint8_t want[4 * 6 * MIB], out[MIB];
static uint64_t size;

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static void fill(uint64_t from, uint64_t to, unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(want + from, to - from, seed);
    check_int(bdev_write(d, from, want + from, to - from, 0), 0);
    bdev_close(&d);
}

static int make(const char *level, unsigned n, enum raid_bitmap_choice bitmap)
{
    const char *members[RAID_MEMBERS_MAX];
    for (unsigned i = 0; i < n; i++)
        members[i] = name_of("d", i);
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = members,
                            .member_count = n,
                            .assume_clean = true,
                            .bitmap = bitmap,
                            .bitmap_chunk = bitmap == RAID_BITMAP_INTERNAL ? 64 * K : 0,
                            .chunk = 64 * K};
    return raid_create(&c, &e);
}

static uint64_t size_now(void)
{
    struct bdev_info i;
    check(bdev_name_info("a", &i));
    return i.size;
}

/* Onto a larger device with the same contents. */
static void enlarge(unsigned i)
{
    static uint8_t all[4 * MIB];
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_READ);
    check_int(bdev_read(d, 0, all, sizeof all), 0);
    bdev_close(&d);
    remove_device(name_of("d", i));
    remove_device(name_of("m", i));
    make_member(i, "7M");
    d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    check_int(bdev_write(d, 0, all, sizeof all, 0), 0);
    memset(all, (int)i + 1, MIB); /* what stands behind it differs */
    for (unsigned k = 4; k < 7; k++)
        check_int(bdev_write(d, (uint64_t)k * MIB, all, MIB, 0), 0);
    bdev_close(&d);
}

static int grow_to(uint64_t bytes, bool *changed_r)
{
    struct raid_grow g = {.resize = true, .size = bytes};
    return raid_grow("a", &g, changed_r, NULL, &e);
}

static const struct {
    const char *level;
    unsigned n, data; /* members' worth of data; raid10: of halves */
    enum raid_bitmap_choice bitmap;
} rows[] = {
    {"raid1", 2, 2, RAID_BITMAP_NONE},      {"raid1", 3, 2, RAID_BITMAP_INTERNAL},
    {"raid10", 3, 3, RAID_BITMAP_INTERNAL}, {"raid5", 3, 4, RAID_BITMAP_NONE},
    {"raid6", 4, 4, RAID_BITMAP_INTERNAL},
};
#define for_each_row(r) for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++)

HARNESS_TEST(what_members_have_gained_is_taken_and_resynced)
{
    for_each_row(r)
    {
        bool changed;
        uint64_t job = 0;
        make_members(rows[r].n, "4M");
        must(make(rows[r].level, rows[r].n, rows[r].bitmap), &e);
        size = size_now();
        check_int(size, rows[r].data * 3 * MIB / 2);
        fill(0, size, 5);
        stop();
        for (unsigned i = 0; i < rows[r].n; i++)
            enlarge(i);
        must(assemble(false, &e), &e);
        must(grow_to(3 * MIB, &changed), &e);
        check(!changed);
        check_int(grow_to(2 * MIB, &changed), -1);
        check_int(grow_to(7 * MIB, &changed), -1);
        check_int(e.code, ERR_NO_SPACE);
        struct raid_grow g = {.resize = true, .size = UINT64_MAX};
        must(raid_grow("a", &g, &changed, &job, &e), &e);
        check(changed && job);
        check_int(size_now(), 2 * size);
        fill(size, 2 * size, 9);
        wait_idle();
        size *= 2;
        check(array_holds(want));
        must(raid_scrub("a", false, NULL, &e), &e);
        wait_idle();
        check_int(info_of("a").mismatch, 0);
        stop();
        for (unsigned i = 0; i < rows[r].n; i++)
            check(super_of(i).size == 6 * MIB / 512 && super_of(i).resync_offset == MD_CLEAN);
        must(assemble(false, &e), &e);
        check_int(size_now(), size);
        check(array_holds(want));
        stop();
        remove_members(rows[r].n);
    }
}

static void put_bitmap(unsigned i, const uint8_t *bytes, size_t len)
{
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    check_int(bdev_write(d, 8 * K, bytes, len, 0), 0);
    bdev_close(&d);
}

/* The last member's superblock is of the time before. */
HARNESS_TEST(a_crash_between_superblocks_leaves_the_new_array)
{
    for_each_row(r)
    {
        unsigned n = rows[r].n;
        bool changed;
        make_members(n, "4M");
        must(make(rows[r].level, n, rows[r].bitmap), &e);
        size = size_now();
        fill(0, size, 5);
        stop();
        for (unsigned i = 0; i < n; i++)
            enlarge(i);
        must(assemble(false, &e), &e);
        fault_record_start(fault_dev(n - 1));
        must(grow_to(6 * MIB, &changed), &e);
        fault_record_stop(fault_dev(n - 1));
        struct md_super before, sb = {0};
        uint8_t bitmap[4 * K] = {0};
        bool found = false;
        for (unsigned k = 0; k < fault_record_count(fault_dev(n - 1)); k++) {
            const struct fault_entry *x = fault_record_get(fault_dev(n - 1), k);
            if (x->op == BIO_WRITE && x->offset == 8 * K)
                memcpy(bitmap, x->data, sizeof bitmap);
            if (x->op != BIO_WRITE || x->offset != MD_SUPER_OFFSET)
                continue;
            before = sb;
            must(md_super_read(&sb, x->data, &e), &e);
            if (sb.size == 6 * MIB / 512) {
                found = true;
                break;
            }
        }
        check(found && before.size == 3 * MIB / 512 && before.data_size == 6 * MIB / 512);
        check(before.resync_offset == MD_CLEAN);
        uint64_t events = sb.events;
        wait_idle();
        stop();
        for (unsigned i = 0; i + 1 < n; i++) { /* as they were when the power went */
            struct md_super mine = super_of(i);
            mine.events = events;
            mine.resync_offset = sb.resync_offset;
            put_super(i, &mine);
            if (rows[r].bitmap == RAID_BITMAP_INTERNAL)
                put_bitmap(i, bitmap, sizeof bitmap);
        }
        put_super(n - 1, &before);
        if (rows[r].bitmap == RAID_BITMAP_INTERNAL)
            put_bitmap(n - 1, bitmap, sizeof bitmap);
        struct bdev_desc *d = open_device(name_of("d", n - 1), CLAIM_EXCLUSIVE);
        memset(out, 0x77, sizeof out); /* not yet synced */
        check_int(bdev_write(d, 6 * MIB, out, MIB, 0), 0);
        bdev_close(&d);
        must(assemble(false, &e), &e);
        check_int(size_now(), 2 * size);
        wait_idle();
        check_int(info_of("a").missing, 0);
        must(raid_scrub("a", false, NULL, &e), &e);
        wait_idle();
        check_int(info_of("a").mismatch, 0);
        stop();
        remove_members(n);
    }
}

HARNESS_TEST(a_raid1_gets_more_members)
{
    bool changed;
    make_members(5, "4M");
    must(make("raid1", 2, RAID_BITMAP_INTERNAL), &e);
    size = size_now();
    fill(0, size, 5);
    const char *devices[] = {"d2", "d3"};
    struct raid_grow g = {.raid_devices = 4, .devices = devices, .device_count = 1};
    check_int(raid_grow("a", &g, &changed, NULL, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    check_int(info_of("a").member_count, 2);
    g.device_count = 2;
    uint64_t job = 0;
    must(raid_grow("a", &g, &changed, &job, &e), &e);
    check(changed && job);
    fill(MIB, 2 * MIB, 8);
    wait_idle();
    check_int(info_of("a").slots, 4);
    check_int(info_of("a").missing, 0);
    g.raid_devices = 3;
    g.device_count = 0;
    check_int(raid_grow("a", &g, &changed, NULL, &e), -1);
    check_int(e.code, ERR_UNSUPPORTED);
    stop();
    for (unsigned i = 0; i < 4; i++) {
        check_int(super_of(i).raid_disks, 4);
        for (unsigned k = 0; k < 3; k++) {
            member_data(i, (uint64_t)k * MIB, out, MIB);
            check(!memcmp(out, want + (uint64_t)k * MIB, MIB));
        }
    }
    must(assemble(false, &e), &e);
    check_int(info_of("a").missing, 0);
    must(raid_fail_member("a", "d0", false, &e), &e);
    must(raid_fail_member("a", "d1", false, &e), &e);
    check(array_holds(want));
    stop();
    remove_members(5);
}

/* One member knows of three slots, the other still of two. */
HARNESS_TEST(a_crash_while_slots_are_added_is_no_other_array)
{
    bool changed;
    make_members(3, "4M");
    must(make("raid1", 2, RAID_BITMAP_NONE), &e);
    size = size_now();
    fill(0, size, 5);
    wait_state(RAID_CLEAN);
    struct raid_grow g = {.raid_devices = 3, .force = true};
    must(raid_grow("a", &g, &changed, NULL, &e), &e);
    stop();
    struct md_super old = super_of(1), sb = super_of(0);
    old.raid_disks = 2;
    old.events = sb.events - 1;
    put_super(1, &old);
    must(assemble(true, &e), &e);
    check_int(info_of("a").slots, 3);
    check_int(info_of("a").missing, 1);
    check(array_holds(want));
    must(raid_add_member("a", "d2", true, &e), &e);
    wait_idle();
    check_int(info_of("a").missing, 0);
    stop();
    remove_members(3);
}

HARNESS_TEST(what_cannot_grow_is_refused)
{
    static const char *const levels[] = {"raid0", "linear"};
    bool changed;
    for (unsigned i = 0; i < 2; i++) {
        make_members(2, "4M");
        must(make(levels[i], 2, RAID_BITMAP_NONE), &e);
        check_int(grow_to(UINT64_MAX, &changed), -1);
        check_int(e.code, ERR_UNSUPPORTED);
        check(strstr(e.msg, "md does not"));
        stop();
        remove_members(2);
    }
    make_members(4, "4M");
    must(make("raid5", 3, RAID_BITMAP_NONE), &e);
    struct raid_grow g = {.raid_devices = 4};
    check_int(raid_grow("a", &g, &changed, NULL, &e), -1);
    check(strstr(e.msg, "reshape"));
    must(raid_fail_member("a", "d0", false, &e), &e);
    stop();
    remove_members(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_members_have_gained_is_taken_and_resynced),
        cmocka_unit_test(a_crash_between_superblocks_leaves_the_new_array),
        cmocka_unit_test(a_raid1_gets_more_members),
        cmocka_unit_test(a_crash_while_slots_are_added_is_no_other_array),
        cmocka_unit_test(what_cannot_grow_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
