/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Spares: who steps in, and what is said of it. */
#include "arrays.h"

static struct err e;

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static unsigned in_sync(const struct raid_info *info)
{
    unsigned n = 0;
    for (unsigned i = 0; i < info->member_count; i++)
        n += info->member[i].state == RAID_MEMBER_IN_SYNC;
    return n;
}

/* Whoever waits for "idle" and then stops the array must not meet the moment between two rebuilds,
 * in which superblocks are written: the second one would not be done. */
HARNESS_TEST(an_array_is_not_idle_while_a_spare_is_about_to_step_in)
{
    make_members(6, "4M");
    must(create("raid6", 4, true, &e), &e);
    must(raid_fail_member("a", "d0", false, &e), &e);
    must(raid_fail_member("a", "d2", false, &e), &e);
    for (unsigned i = 0; i < 6; i++)
        rules(i, "write:delay=10ms:offset=4096-8191");
    must(raid_add_member("a", "d4", false, &e), &e);
    must(raid_add_member("a", "d5", false, &e), &e);
    for (struct raid_info info = info_of("a"); in_sync(&info) < 4; info = info_of("a")) {
        check_int(info.sync, RAID_SYNC_RECOVER);
        task_sleep_us(500);
    }
    stop();
    remove_members(6);
}

static const char *in_slot(const struct raid_info *info, int slot)
{
    for (unsigned i = 0; i < info->member_count; i++)
        if (info->member[i].slot == slot)
            return info->member[i].device;
    return "";
}

/* Two devices of one number are one entry in the superblocks: the member would be a spare there. */
HARNESS_TEST(a_spare_that_was_removed_takes_nobodys_number)
{
    make_members(4, "4M");
    must(create("raid1", 2, true, &e), &e);
    must(raid_add_member("a", "d2", false, &e), &e);
    must(raid_remove_member("a", "d2", false, &e), &e);
    must(raid_add_member("a", "d3", false, &e), &e);
    must(raid_fail_member("a", "d0", false, &e), &e);
    wait_idle();
    stop();
    check(super_of(2).dev_number != super_of(3).dev_number);
    must(assemble(true, &e), &e);
    struct raid_info info = info_of("a");
    check(!strcmp(in_slot(&info, 0), "d3"));
    check(!strcmp(in_slot(&info, -1), "")); /* it was sent away */
    stop();
    remove_members(4);
}

/* As earlier versions left it. */
HARNESS_TEST(a_spare_with_the_number_of_a_member_stays_out)
{
    make_members(3, "4M");
    must(create("raid1", 2, true, &e), &e);
    must(raid_add_member("a", "d2", false, &e), &e);
    stop();
    struct md_super sb = super_of(2);
    sb.dev_number = 0;
    sb.role[0] = MD_ROLE_SPARE;
    put_super(2, &sb);
    must(assemble(true, &e), &e);
    struct raid_info info = info_of("a");
    check_int(in_sync(&info), 2);
    check(!strcmp(in_slot(&info, -1), ""));
    must(raid_add_member("a", "d2", false, &e), &e); /* which gives it another one */
    stop();
    struct md_super first = super_of(0), new = super_of(2);
    check_int(md_super_role(&first), 0);
    check(new.dev_number != 0 && md_super_role(&new) == MD_ROLE_SPARE);
    remove_members(3);
}

/* Whoever stops flushing because the first members need none would lose what a later one caches. */
HARNESS_TEST(an_array_that_members_may_join_is_always_to_be_flushed)
{
    struct bdev_info info;
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    check(bdev_name_info("d0", &info) && !info.write_cache);
    check(bdev_name_info("a", &info) && info.write_cache);
    stop();
    remove_members(2);
    make_members(2, "4M");
    must(create("raid0", 2, true, &e), &e);
    check(bdev_name_info("a", &info) && !info.write_cache);
    stop();
    remove_members(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spare_that_was_removed_takes_nobodys_number),
        cmocka_unit_test(a_spare_with_the_number_of_a_member_stays_out),
        cmocka_unit_test(an_array_that_members_may_join_is_always_to_be_flushed),
        cmocka_unit_test(an_array_is_not_idle_while_a_spare_is_about_to_step_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
