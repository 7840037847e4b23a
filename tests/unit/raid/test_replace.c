/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A member is replaced while it serves. */
#include "arrays.h"

#include <linux/types.h>
#include <string.h>

#include <linux/raid/md_p.h>

enum { MODEL = 12 << 20, ROW = 4096 };

static struct err e;
static uint8_t model[MODEL], one[ROW];

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

/* n members, all written, and one device more: dn. */
static void make(const char *level, unsigned n)
{
    make_members(n + 1, "4M");
    must(create(level, n, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(model, bdev_size(d), n);
    check_int(bdev_write(d, 0, model, bdev_size(d), 0), 0);
    bdev_close(&d);
}

static void write_one(struct bdev_desc *d, unsigned i)
{
    uint64_t at = i * 7919ull % (bdev_size(d) / ROW) * ROW;
    fill_pattern(one, ROW, i);
    check_int(bdev_write(d, at, one, ROW, 0), 0);
    memcpy(model + at, one, ROW);
}

static int state_of(const char *device)
{
    struct raid_info info = info_of("a");
    for (unsigned i = 0; i < info.member_count; i++)
        if (!strcmp(info.member[i].device, device))
            return (int)info.member[i].state;
    return -1;
}

static bool is_free(const char *device)
{
    char users[64];
    return !bdev_users(bdev_find(device), users, sizeof users);
}

static void wait_free(const char *device)
{
    for (unsigned i = 0; i < 12000 && !is_free(device); i++)
        task_sleep_us(5000);
    check(is_free(device));
}

static void wait_held(unsigned i)
{
    for (unsigned k = 0; k < 12000 && !fault_held(fault_dev(i)); k++)
        task_sleep_us(5000);
    check(fault_held(fault_dev(i)) > 0);
}

static void let_go(unsigned i)
{
    rules(i, "");
    fault_release(fault_dev(i));
}

/* Everything below the first MiB of data is copied, the rest waits. */
static void begin_and_hold(unsigned n)
{
    rules(n, "write+write_zeroes:hold:offset=2M-4M");
    must(raid_replace_member("a", "d1", name_of("d", n), false, NULL, &e), &e);
    wait_held(n);
    check_int(state_of("d1"), RAID_MEMBER_IN_SYNC);
    check_int(state_of(name_of("d", n)), RAID_MEMBER_REPLACING);
    check_int(info_of("a").missing, 0);
}

static void life(const char *level, unsigned n)
{
    make(level, n);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    must(raid_replace_member("a", "d1", name_of("d", n), false, NULL, &e), &e);
    for (unsigned i = 0; i < 200 || info_of("a").sync != RAID_SYNC_IDLE; i++)
        write_one(d, i);
    wait_free("d1");
    check_int(info_of("a").missing, 0);
    check_int(state_of(name_of("d", n)), RAID_MEMBER_IN_SYNC);
    check_int(state_of("d1"), -1);
    for (unsigned i = 0; i < 50; i++)
        write_one(d, i * 31);
    bdev_close(&d);
    wait_idle(); /* its job ends a moment later */
    must(raid_scrub("a", false, NULL, &e), &e);
    wait_idle();
    check_int(info_of("a").mismatch, 0);
    must(raid_fail_member("a", "d0", false, &e), &e); /* so that the new one is read */
    check(array_holds(model));
    stop();
    struct md_super sb = super_of(n);
    check_int(md_super_role(&sb), 1);
    check_int(sb.features & (MD_FEATURE_REPLACEMENT | MD_FEATURE_RECOVERY_OFFSET), 0);
    must(assemble(true, &e), &e); /* d1 is here, and stays out */
    check_int(state_of("d1"), -1);
    check(array_holds(model));
    stop();
    remove_members(n + 1);
}

HARNESS_TEST(raid1_replaces_while_it_is_written)
{
    life("raid1", 2);
    life("raid1", 3);
}

HARNESS_TEST(raid10_replaces_while_it_is_written)
{
    life("raid10", 3);
}

HARNESS_TEST(parity_levels_replace_while_they_are_written)
{
    life("raid4", 3);
    life("raid5", 3);
    life("raid6", 4);
}

HARNESS_TEST(a_spare_of_the_array_can_be_told_to)
{
    make("raid5", 3);
    check_int(raid_replace_member("a", "d1", NULL, false, NULL, &e), -1);
    check_int(e.code, ERR_NOT_FOUND);
    must(raid_add_member("a", "d3", false, &e), &e);
    must(raid_replace_member("a", "d1", NULL, false, NULL, &e), &e);
    wait_free("d1");
    check_int(state_of("d3"), RAID_MEMBER_IN_SYNC);
    check(array_holds(model));
    stop();
    remove_members(4);
}

HARNESS_TEST(meanwhile_both_have_the_role_on_disk)
{
    make("raid5", 3);
    fault_record_start(fault_dev(3));
    begin_and_hold(3);
    struct md_super sb;
    bool any = false;
    for (unsigned i = 0; i < fault_record_count(fault_dev(3)); i++) {
        const struct fault_entry *entry = fault_record_get(fault_dev(3), i);
        if (entry->op != BIO_WRITE || entry->offset != MD_SUPER_OFFSET)
            continue;
        any = true;
        must(md_super_read(&sb, entry->data, &e), &e);
    }
    fault_record_stop(fault_dev(3));
    check(any);
    check_int(md_super_role(&sb), 1);
    check_int(sb.role[1], 1);
    check_int(sb.features & MD_FEATURE_REPLACEMENT, MD_FEATURE_REPLACEMENT);
    check_int(sb.features & MD_FEATURE_RECOVERY_OFFSET, MD_FEATURE_RECOVERY_OFFSET);
    let_go(3);
    wait_free("d1");
    stop();
    remove_members(4);
}

/* Nothing is lost, and the slot goes on as before. */
static void new_one_fails(const char *level, unsigned n)
{
    make(level, n);
    begin_and_hold(n);
    rules(n, "write:error=EIO");
    fault_release(fault_dev(n));
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    for (unsigned i = 0; i < 300; i++)
        write_one(d, i);
    bdev_close(&d);
    wait_idle();
    check_int(state_of(name_of("d", n)), RAID_MEMBER_FAULTY);
    check_int(state_of("d1"), RAID_MEMBER_IN_SYNC);
    check_int(info_of("a").missing, 0);
    check(array_holds(model));
    stop();
    remove_members(n + 1);
}

HARNESS_TEST(a_new_one_that_fails_costs_nothing)
{
    new_one_fails("raid1", 2);
    new_one_fails("raid5", 3);
}

/* The new one goes on with what it has. */
static void old_one_fails(const char *level, unsigned n)
{
    make(level, n);
    begin_and_hold(n);
    must(raid_fail_member("a", "d1", false, &e), &e);
    check_int(info_of("a").missing, 0);
    check_int(state_of(name_of("d", n)), RAID_MEMBER_REBUILDING);
    let_go(n);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    for (unsigned i = 0; i < 300; i++)
        write_one(d, i);
    bdev_close(&d);
    wait_idle();
    check_int(state_of(name_of("d", n)), RAID_MEMBER_IN_SYNC);
    check_int(info_of("a").state == RAID_CLEAN || info_of("a").state == RAID_ACTIVE, 1);
    must(raid_fail_member("a", "d0", false, &e), &e);
    check(array_holds(model));
    stop();
    remove_members(n + 1);
}

HARNESS_TEST(when_the_old_one_fails_the_new_one_is_rebuilt_from_the_others)
{
    old_one_fails("raid1", 3);
    old_one_fails("raid10", 4);
    old_one_fails("raid5", 3);
    old_one_fails("raid6", 4);
}

HARNESS_TEST(what_the_old_one_cannot_read_comes_from_the_others)
{
    make("raid5", 3);
    rules(1, "read:error=EIO:offset=1500K-1501K");
    must(raid_replace_member("a", "d1", "d3", false, NULL, &e), &e);
    for (unsigned i = 0; i < 12000 && state_of("d3") != RAID_MEMBER_IN_SYNC; i++)
        task_sleep_us(5000);
    check_int(state_of("d3"), RAID_MEMBER_IN_SYNC);
    check_int(info_of("a").missing, 0);
    check(array_holds(model));
    wait_idle();
    rules(1, "");
    stop();
    remove_members(4);
}

static bool removed;

static void remove_it(void *arg)
{
    struct err mine;
    must(raid_remove_member("a", arg, false, &mine), &mine);
    removed = true;
}

HARNESS_TEST(removing_the_new_one_takes_it_back)
{
    static char name[] = "d2";
    make("raid1", 2);
    begin_and_hold(2);
    removed = false;
    task_start(reactor_main(), "remove", remove_it, name);
    for (unsigned i = 0; i < 12000 && state_of(name) == RAID_MEMBER_REPLACING; i++)
        task_sleep_us(5000);
    let_go(2);
    for (unsigned i = 0; i < 12000 && !removed; i++)
        task_sleep_us(5000);
    check(removed && is_free(name));
    wait_idle();
    check_int(state_of("d1"), RAID_MEMBER_IN_SYNC);
    check_int(state_of(name), -1);
    check(array_holds(model));
    stop();
    remove_members(3);
}

HARNESS_TEST(one_at_a_time_and_of_members_in_sync_only)
{
    make("raid5", 3);
    make_member(4, "4M");
    begin_and_hold(3);
    check_int(raid_replace_member("a", "d0", "d4", false, NULL, &e), -1);
    check_int(e.code, ERR_IN_USE);
    check(is_free("d4"));
    check_int(raid_scrub("a", false, NULL, &e), -1);
    let_go(3);
    wait_free("d1");
    must(raid_fail_member("a", "d0", false, &e), &e);
    check_int(raid_replace_member("a", "d2", "d4", false, NULL, &e), -1);
    check_int(raid_replace_member("a", "d0", "d4", false, NULL, &e), -1);
    check_int(raid_replace_member("a", "d9", "d4", false, NULL, &e), -1);
    check(is_free("d4"));
    stop();
    remove_members(5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raid1_replaces_while_it_is_written),
        cmocka_unit_test(raid10_replaces_while_it_is_written),
        cmocka_unit_test(parity_levels_replace_while_they_are_written),
        cmocka_unit_test(a_spare_of_the_array_can_be_told_to),
        cmocka_unit_test(meanwhile_both_have_the_role_on_disk),
        cmocka_unit_test(a_new_one_that_fails_costs_nothing),
        cmocka_unit_test(when_the_old_one_fails_the_new_one_is_rebuilt_from_the_others),
        cmocka_unit_test(what_the_old_one_cannot_read_comes_from_the_others),
        cmocka_unit_test(removing_the_new_one_takes_it_back),
        cmocka_unit_test(one_at_a_time_and_of_members_in_sync_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
