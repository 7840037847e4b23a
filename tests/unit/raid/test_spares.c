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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_array_is_not_idle_while_a_spare_is_about_to_step_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
