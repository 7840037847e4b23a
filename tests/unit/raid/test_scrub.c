/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scrub of copies, and members that come back. */
#include "arrays.h"

#include <string.h>

#include "block/event.h"

enum { CHUNK = 64 << 10, PLACE = 20 * 4096 };

static struct err e;
static uint8_t in[4096], out[4096];

static void make(unsigned n, bool bitmap)
{
    const char *members[RAID_MEMBERS_MAX];
    make_members(n, "4M");
    for (unsigned i = 0; i < n; i++)
        members[i] = name_of("d", i);
    struct raid_create c = {.name = "a",
                            .level = "raid1",
                            .members = members,
                            .member_count = n,
                            .assume_clean = true,
                            .bitmap = bitmap ? RAID_BITMAP_INTERNAL : RAID_BITMAP_NONE,
                            .bitmap_chunk = bitmap ? CHUNK : 0};
    must(raid_create(&c, &e), &e);
}

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static void put(uint64_t offset, unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(in, sizeof in, seed);
    check_int(bdev_write(d, offset, in, sizeof in, 0), 0);
    bdev_close(&d);
}

static bool holds(unsigned i, uint64_t offset, unsigned seed)
{
    fill_pattern(in, sizeof in, seed);
    member_data(i, offset, out, sizeof out);
    return !memcmp(in, out, sizeof in);
}

static void rot(unsigned i, uint64_t offset, size_t len)
{
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    memset(out, 0xaa, sizeof out);
    check_int(bdev_write(d, DATA + offset, out, len, 0), 0);
    bdev_close(&d);
}

/* An array of n copies of a pattern, one of which has rotted. */
static void rotten(unsigned n, unsigned which)
{
    make(n, false);
    put(PLACE, 7);
    stop();
    rot(which, PLACE, 512);
    must(assemble(false, &e), &e);
}

static struct raid_info scrub(bool repair)
{
    uint64_t job;
    must(raid_scrub("a", repair, &job, &e), &e);
    wait_idle();
    return info_of("a");
}

HARNESS_TEST(equal_copies_fit)
{
    make(2, false);
    put(PLACE, 1);
    check_int(scrub(false).mismatch, 0);
    stop();
    remove_members(2);
}

HARNESS_TEST(two_copies_tell_the_place_and_change_nothing)
{
    rotten(2, 1);
    struct raid_info info = scrub(false);
    check_int(info.mismatch, 4096);
    check_int(info.member[0].wrong + info.member[1].wrong, 0);
    stop();
    check(holds(0, PLACE, 7) && !holds(1, PLACE, 7));
    remove_members(2);
}

HARNESS_TEST(of_three_copies_the_one_that_is_wrong_is_named)
{
    rotten(3, 0); /* also when clients read it */
    struct raid_info info = scrub(false);
    check_int(info.member[0].wrong, 1);
    check_int(info.member[1].wrong + info.member[2].wrong, 0);
    stop();
    check(!holds(0, PLACE, 7));
    remove_members(3);
}

HARNESS_TEST(repair_takes_what_most_copies_say)
{
    rotten(3, 0);
    check_int(scrub(true).mismatch, 4096);
    check_int(scrub(false).mismatch, 0);
    stop();
    for (unsigned i = 0; i < 3; i++)
        check(holds(i, PLACE, 7));
    remove_members(3);
}

HARNESS_TEST(repair_of_two_copies_takes_the_first)
{
    rotten(2, 1);
    check_int(scrub(true).mismatch, 4096);
    stop();
    check(holds(1, PLACE, 7));
    remove_members(2);
}

HARNESS_TEST(a_degraded_array_or_raid0_is_not_scrubbed)
{
    make(2, false);
    must(raid_fail_member("a", "d1", false, &e), &e);
    check_int(raid_scrub("a", false, NULL, &e), -1);
    stop();
    remove_members(2);
    make_members(2, "4M");
    must(create("raid0", 2, false, &e), &e);
    check_int(raid_scrub("a", false, NULL, &e), -1);
    stop();
    remove_members(2);
}

HARNESS_TEST(what_scrub_cannot_read_is_rewritten)
{
    make(2, false);
    put(PLACE, 7);
    rules(1, "read:error=EIO:offset=1130496:count=2"); /* DATA + PLACE */
    scrub(false);
    for (unsigned i = 0; i < 400 && !info_of("a").member[1].corrected; i++)
        task_sleep_us(5000);
    check_int(info_of("a").member[1].corrected, 1);
    check_int(info_of("a").missing, 0);
    rules(1, "");
    stop();
    remove_members(2);
}

/* ---- members that come back */

/* d1 lacks a write to chunk 3; and rots in chunk 9, where nobody wrote, so that a test can tell
 * what has been copied. */
static void gone_and_written(void)
{
    make(2, true);
    put(9 * CHUNK, 9);
    put(3 * CHUNK, 1);
    stop(); /* no bits */
    must(assemble(false, &e), &e);
    must(raid_remove_member("a", "d1", false, &e), &e);
    put(3 * CHUNK, 2);
    rot(1, 9 * CHUNK, 4096);
}

HARNESS_TEST(who_comes_back_gets_what_was_written_meanwhile_and_no_more)
{
    gone_and_written();
    must(raid_readd_member("a", "d1", &e), &e);
    wait_idle();
    check_int(info_of("a").missing, 0);
    check_int(info_of("a").member[1].state, RAID_MEMBER_IN_SYNC);
    stop();
    check(holds(1, 3 * CHUNK, 2));
    check(!holds(1, 9 * CHUNK, 9));
    check_int(super_of(1).features & 0x82, 0);
    remove_members(2);
}

HARNESS_TEST(who_was_away_when_bits_were_cleared_does_not_come_back)
{
    make(3, true);
    make_member(3, "4M");
    put(0, 1);
    must(raid_remove_member("a", "d2", false, &e), &e);
    put(3 * CHUNK, 2);
    must(raid_add_member("a", "d3", false, &e), &e);
    wait_idle();
    must(raid_remove_member("a", "d0", false, &e), &e);
    check_int(raid_readd_member("a", "d2", &e), -1); /* its slot is taken */
    stop();
    remove_members(4);
}

HARNESS_TEST(who_went_on_alone_does_not_come_back)
{
    gone_and_written();
    struct md_super sb = super_of(1);
    sb.role[0] = MD_ROLE_FAULTY;
    put_super(1, &sb);
    check_int(raid_readd_member("a", "d1", &e), -1);
    check(strstr(e.msg, "without the others"));
    stop();
    remove_members(2);
}

HARNESS_TEST(who_is_older_than_the_last_cleared_bit_does_not_come_back)
{
    gone_and_written();
    struct md_super sb = super_of(1);
    sb.events = 1;
    put_super(1, &sb);
    check_int(raid_readd_member("a", "d1", &e), -1);
    check(strstr(e.msg, "forgotten"));
    stop();
    remove_members(2);
}

HARNESS_TEST(without_a_bitmap_nobody_comes_back)
{
    make(2, false);
    must(raid_remove_member("a", "d1", false, &e), &e);
    check_int(raid_readd_member("a", "d1", &e), -1);
    check(strstr(e.msg, "bitmap"));
    must(raid_add_member("a", "d1", false, &e), &e);
    wait_idle();
    stop();
    remove_members(2);
}

HARNESS_TEST(assembly_takes_a_stale_member_back_by_the_bitmap)
{
    gone_and_written();
    stop();
    must(assemble(true, &e), &e);
    wait_idle();
    check_int(info_of("a").missing, 0);
    stop();
    check(holds(1, 3 * CHUNK, 2));
    check(!holds(1, 9 * CHUNK, 9));
    remove_members(2);
}

static void wait_held(unsigned i)
{
    for (unsigned n = 0; n < 12000 && !fault_held(fault_dev(i)); n++)
        task_sleep_us(5000);
    check(fault_held(fault_dev(i)));
}

HARNESS_TEST(a_member_may_be_removed_while_it_is_about_to_be_put_right)
{
    uint64_t job;
    rotten(3, 1);
    rules(2, "read:hold:offset=1M-2M:count=1");
    must(raid_scrub("a", true, &job, &e), &e);
    wait_held(2); /* what the others have is known by now */
    must(raid_remove_member("a", "d1", false, &e), &e);
    fault_release(fault_dev(2));
    wait_idle();
    check_int(info_of("a").state, RAID_DEGRADED);
    stop();
    check(!holds(1, PLACE, 7)); /* it is no member any more: left alone */
    remove_members(3);
}

HARNESS_TEST(a_member_may_be_removed_while_a_read_error_of_its_is_mended)
{
    make(2, false);
    put(PLACE, 7);
    rules(0, "read:error=EIO:offset=1M-2M:count=2");
    rules(1, "read:hold:offset=1M-2M:after=1:count=1"); /* the client's is answered */
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    check_int(bdev_read(d, PLACE, out, sizeof out), 0); /* the first one comes to d0 */
    bdev_close(&d);
    wait_held(1);
    must(raid_remove_member("a", "d0", false, &e), &e);
    fault_release(fault_dev(1));
    stop();
    check(holds(1, PLACE, 7));
    remove_members(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_copies_fit),
        cmocka_unit_test(two_copies_tell_the_place_and_change_nothing),
        cmocka_unit_test(of_three_copies_the_one_that_is_wrong_is_named),
        cmocka_unit_test(repair_takes_what_most_copies_say),
        cmocka_unit_test(repair_of_two_copies_takes_the_first),
        cmocka_unit_test(a_degraded_array_or_raid0_is_not_scrubbed),
        cmocka_unit_test(what_scrub_cannot_read_is_rewritten),
        cmocka_unit_test(who_comes_back_gets_what_was_written_meanwhile_and_no_more),
        cmocka_unit_test(who_was_away_when_bits_were_cleared_does_not_come_back),
        cmocka_unit_test(who_went_on_alone_does_not_come_back),
        cmocka_unit_test(who_is_older_than_the_last_cleared_bit_does_not_come_back),
        cmocka_unit_test(without_a_bitmap_nobody_comes_back),
        cmocka_unit_test(a_member_may_be_removed_while_it_is_about_to_be_put_right),
        cmocka_unit_test(a_member_may_be_removed_while_a_read_error_of_its_is_mended),
        cmocka_unit_test(assembly_takes_a_stale_member_back_by_the_bitmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
