/* SPDX-License-Identifier: GPL-2.0-or-later */
/* raid10: where copies stand, failures, resync, rebuild, scrub. */
#include "arrays.h"

#include <string.h>

#include "raid/raid10.h"

static struct err e;
static uint8_t in[64 << 10], out[64 << 10];

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static void fill(unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    for (uint64_t at = 0; at < bdev_size(d); at += sizeof in) {
        fill_pattern(in, sizeof in, seed + (unsigned)(at / sizeof in));
        check_int(bdev_write(d, at, in, sizeof in, 0), 0);
    }
    bdev_close(&d);
}

static bool filled(unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    bool same = true;
    for (uint64_t at = 0; at < bdev_size(d) && same; at += sizeof in) {
        fill_pattern(in, sizeof in, seed + (unsigned)(at / sizeof in));
        check_int(bdev_read(d, at, out, sizeof out), 0);
        same = !memcmp(in, out, sizeof in);
    }
    bdev_close(&d);
    return same;
}

static struct raid10_geometry geometry(unsigned slots, uint32_t layout, uint64_t chunks)
{
    struct raid10_geometry g;
    static struct md_super sb;
    sb.level = 10;
    sb.raid_disks = slots;
    sb.layout = layout;
    sb.chunk = 128;
    sb.size = chunks * 128;
    check(raid10_geometry_init(&g, &sb));
    return g;
}

/* Each byte of the array has its copies on different members, nobody's place is given twice, and
 * each place knows what it holds. */
static void check_layout(unsigned slots, uint32_t layout)
{
    enum { CHUNKS = 24 };
    static bool used[8][CHUNKS];
    struct raid10_geometry g = geometry(slots, layout, CHUNKS);
    struct raid10_copy copy[RAID10_COPIES_MAX];
    memset(used, 0, sizeof used);
    check(g.size && g.size <= slots * CHUNKS * g.chunk / g.copies);
    for (uint64_t at = 512; at < g.size; at += g.chunk) {
        uint64_t slots_seen = 0;
        raid10_copies(&g, at, copy);
        for (unsigned i = 0; i < g.copies; i++) {
            uint64_t row = copy[i].offset / g.chunk;
            check(row < CHUNKS && !used[copy[i].slot][row]);
            check(!(slots_seen >> copy[i].slot & 1));
            used[copy[i].slot][row] = true;
            slots_seen |= 1ull << copy[i].slot;
            check_int(raid10_virtual(&g, copy[i].slot, copy[i].offset), at);
        }
    }
}

static void layouts_keep_copies_apart(void **state)
{
    (void)state;
    for (unsigned slots = 2; slots <= 6; slots++) {
        check_layout(slots, 0x102);
        check_layout(slots, 0x201);
        check_layout(slots, 0x10201);
        if (slots >= 3)
            check_layout(slots, 0x103);
        if (slots >= 4)
            check_layout(slots, 0x202);
    }
}

static void layouts_that_cannot_be_are_refused(void **state)
{
    static const uint32_t bad[] = {0x101, 0x20102, 0x40201, 0x303, 0x100};
    struct raid10_geometry g;
    static struct md_super sb = {.level = 10, .raid_disks = 4, .chunk = 128, .size = 1280};
    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        sb.layout = bad[i];
        check(!raid10_geometry_init(&g, &sb));
    }
}

HARNESS_TEST(four_and_three_members_hold_what_was_written_and_what_is_read_after_a_loss)
{
    for (unsigned n = 3; n <= 4; n++) {
        make_members(n, "4M");
        must(create("raid10", n, true, &e), &e);
        check_int(info_of("a").size, n * (3u << 20) / 2);
        fill(1);
        must(raid_fail_member("a", "d1", false, &e), &e);
        check(filled(1));
        check_int(raid_fail_member("a", "d0", false, &e), -1); /* it has the other copies */
        fill(2);
        make_member(n, "4M");
        must(raid_add_member("a", name_of("d", n), false, &e), &e);
        wait_idle();
        check_int(info_of("a").missing, 0);
        must(raid_fail_member("a", "d0", false, &e), &e);
        check(filled(2)); /* from what was rebuilt */
        stop();
        remove_members(n + 1);
    }
}

static void make_layout(unsigned n, const char *layout, uint64_t bitmap_chunk)
{
    const char *members[RAID_MEMBERS_MAX];
    make_members(n, "4M");
    for (unsigned i = 0; i < n; i++)
        members[i] = name_of("d", i);
    struct raid_create c = {.name = "a",
                            .level = "raid10",
                            .members = members,
                            .member_count = n,
                            .layout = layout,
                            .chunk = 64 << 10,
                            .assume_clean = true,
                            .bitmap = bitmap_chunk ? RAID_BITMAP_INTERNAL : RAID_BITMAP_NONE,
                            .bitmap_chunk = bitmap_chunk};
    must(raid_create(&c, &e), &e);
    check(!strcmp(info_of("a").layout, layout));
}

HARNESS_TEST(every_layout_can_be_made_and_lives)
{
    static const struct {
        const char *layout;
        unsigned slots;
    } rows[] = {{"n2", 5}, {"n3", 4}, {"f2", 2}, {"f2", 3},
                {"f2", 5}, {"f3", 4}, {"o2", 3}, {"o2", 4}};
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        unsigned n = rows[i].slots;
        make_layout(n, rows[i].layout, 0);
        fill(i);
        must(raid_fail_member("a", "d1", false, &e), &e);
        check(filled(i));
        fill(i + 100);
        make_member(n, "4M");
        must(raid_add_member("a", name_of("d", n), false, &e), &e);
        wait_idle();
        must(raid_scrub("a", false, NULL, &e), &e);
        wait_idle();
        check_int(info_of("a").mismatch, 0);
        stop();
        must(assemble(false, &e), &e);
        check(filled(i + 100));
        stop();
        remove_members(n + 1);
    }
}

HARNESS_TEST(layouts_that_cannot_be_are_not_made)
{
    static const char *const bad[] = {"n1", "f4", "x2", "n", "2", "f2x", ""};
    make_members(3, "4M");
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *members[] = {"d0", "d1", "d2"};
        struct raid_create c = {.name = "a",
                                .level = "raid10",
                                .members = members,
                                .member_count = 3,
                                .layout = bad[i]};
        check_int(raid_create(&c, &e), -1);
        check(!strcmp(e.field, "layout"));
        c.level = "raid5";
        c.layout = "n2";
        check_int(raid_create(&c, &e), -1);
    }
    remove_members(3);
}

/* d1 lacks a write; and rots elsewhere, so that a test can tell what has been copied. */
HARNESS_TEST(who_comes_back_gets_what_the_bitmap_says)
{
    static const char *const layouts[] = {"n2", "f2", "o2"};
    static uint8_t rotten[4096];
    memset(rotten, 0xaa, sizeof rotten);
    for (unsigned i = 0; i < 3; i++) {
        make_layout(3, layouts[i], 64 << 10);
        fill(1);
        stop(); /* no bits */
        must(assemble(false, &e), &e);
        must(raid_remove_member("a", "d1", false, &e), &e);
        struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
        for (unsigned k = 0; k < 6; k++) { /* on each member */
            fill_pattern(in, sizeof in, 500 + k);
            check_int(bdev_write(d, k * sizeof in, in, sizeof in, 0), 0);
        }
        bdev_close(&d);
        d = open_device("d1", CLAIM_EXCLUSIVE);
        check_int(bdev_write(d, DATA + 20 * sizeof in, rotten, sizeof rotten, 0), 0);
        bdev_close(&d);
        must(raid_readd_member("a", "d1", &e), &e);
        wait_idle();
        check_int(info_of("a").missing, 0);
        must(raid_scrub("a", false, NULL, &e), &e);
        wait_idle();
        check_int(info_of("a").mismatch, sizeof rotten); /* what was not marked, and no more */
        stop();
        member_data(1, 20 * sizeof in, out, sizeof rotten);
        check(!memcmp(out, rotten, sizeof rotten));
        remove_members(3);
    }
}

HARNESS_TEST(half_of_the_members_may_go_if_they_are_no_pair)
{
    make_members(4, "4M");
    must(create("raid10", 4, true, &e), &e);
    fill(3);
    must(raid_fail_member("a", "d0", false, &e), &e);
    must(raid_fail_member("a", "d3", false, &e), &e);
    check(filled(3));
    fill(4);
    stop();
    must(assemble(true, &e), &e);
    check(filled(4));
    stop();
    remove_members(4);
}

HARNESS_TEST(a_dirty_array_is_made_to_agree)
{
    make_members(4, "4M");
    must(create("raid10", 4, true, &e), &e);
    fill(5);
    stop();
    for (unsigned i = 0; i < 4; i++) {
        struct md_super sb = super_of(i);
        sb.resync_offset = 0;
        put_super(i, &sb);
    }
    struct bdev_desc *d = open_device("d3", CLAIM_EXCLUSIVE);
    memset(out, 0x77, sizeof out);
    check_int(bdev_write(d, DATA + (2 << 20), out, 4096, 0), 0);
    bdev_close(&d);
    must(assemble(false, &e), &e);
    wait_idle();
    must(raid_scrub("a", false, NULL, &e), &e);
    wait_idle();
    check_int(info_of("a").mismatch, 0);
    check(filled(5));
    stop();
    remove_members(4);
}

HARNESS_TEST(scrub_finds_and_repair_mends)
{
    make_members(4, "4M");
    must(create("raid10", 4, true, &e), &e);
    fill(6);
    stop();
    struct bdev_desc *d = open_device("d1", CLAIM_EXCLUSIVE);
    memset(out, 0x77, sizeof out);
    check_int(bdev_write(d, DATA + (1 << 20), out, 512, 0), 0);
    bdev_close(&d);
    must(assemble(false, &e), &e);
    must(raid_scrub("a", true, NULL, &e), &e);
    wait_idle();
    check_int(info_of("a").mismatch, 4096);
    must(raid_scrub("a", false, NULL, &e), &e);
    wait_idle();
    check_int(info_of("a").mismatch, 0);
    check(filled(6));
    stop();
    remove_members(4);
}

HARNESS_TEST(a_read_error_is_mended_from_the_other_copy)
{
    make_members(4, "4M");
    must(create("raid10", 4, true, &e), &e);
    fill(7);
    rules(0, "read:error=EIO:offset=1048576:count=2");
    for (unsigned i = 0; i < 4; i++)
        check(filled(7)); /* both copies are read in turn */
    for (unsigned i = 0; i < 400 && !info_of("a").member[0].corrected; i++)
        task_sleep_us(5000);
    check_int(info_of("a").member[0].corrected, 1);
    check_int(info_of("a").missing, 0);
    rules(0, "");
    stop();
    remove_members(4);
}

HARNESS_TEST(a_flush_that_the_last_copy_fails_is_an_error)
{
    make_members(4, "4M");
    must(create("raid10", 4, true, &e), &e);
    must(raid_fail_member("a", "d0", false, &e), &e);
    fill(8);
    rules(1, "flush:error=EIO");
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check(bdev_flush(d) != 0);
    rules(1, "");
    bdev_close(&d);
    stop();
    remove_members(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_keep_copies_apart),
        cmocka_unit_test(layouts_that_cannot_be_are_refused),
        cmocka_unit_test(
            four_and_three_members_hold_what_was_written_and_what_is_read_after_a_loss),
        cmocka_unit_test(every_layout_can_be_made_and_lives),
        cmocka_unit_test(layouts_that_cannot_be_are_not_made),
        cmocka_unit_test(who_comes_back_gets_what_the_bitmap_says),
        cmocka_unit_test(half_of_the_members_may_go_if_they_are_no_pair),
        cmocka_unit_test(a_dirty_array_is_made_to_agree),
        cmocka_unit_test(scrub_finds_and_repair_mends),
        cmocka_unit_test(a_read_error_is_mended_from_the_other_copy),
        cmocka_unit_test(a_flush_that_the_last_copy_fails_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
