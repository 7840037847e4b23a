/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device of its own for the log of the write hole; what power cuts make of it: test_cuts.c. */
#include "arrays.h"

enum { LOG = 3, ALL = 4, BLOCK = 64 << 10 };

static struct err e;
static uint8_t data[BLOCK], back[BLOCK];

static int create_on(const char *name, unsigned first, const char *log, bool force)
{
    const char *members[] = {name_of("d", first), name_of("d", first + 1), name_of("d", first + 2)};
    struct raid_create c = {.name = name,
                            .level = "raid5",
                            .members = members,
                            .member_count = 3,
                            .chunk = 64 << 10,
                            .assume_clean = true,
                            .force = force,
                            .log_device = log};
    return raid_create(&c, &e);
}

static void make(void)
{
    make_members(ALL, "4M");
    must(create_on("a", 0, "d3", false), &e);
}

static void write_some(unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(data, BLOCK, seed);
    check_int(bdev_write(d, 4096, data, BLOCK, 0), 0);
    bdev_close(&d);
}

static void check_some(void)
{
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    check_int(bdev_read(d, 4096, back, BLOCK), 0);
    check(!memcmp(back, data, BLOCK));
    bdev_close(&d);
}

/* As after a power cut at rest: nothing was under way, and the superblocks do not know. */
static void stop_dirty(void)
{
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < LOG; i++) {
        if (!bdev_find(name_of("d", i)))
            continue;
        struct md_super sb = super_of(i);
        sb.resync_offset = 0;
        put_super(i, &sb);
    }
}

static unsigned writes_to_log(void)
{
    unsigned n = 0;
    for (unsigned k = 0; k < fault_record_count(fault_dev(LOG)); k++)
        n += fault_record_get(fault_dev(LOG), k)->op == BIO_WRITE;
    return n;
}

HARNESS_TEST(it_takes_the_log_and_the_members_gaps_stay_as_they_are)
{
    static uint8_t gap[DATA - (160 << 10)];
    make();
    check(!strcmp(info_of("a").log, "on"));
    check(!strcmp(info_of("a").log_device, "d3"));
    fault_record_start(fault_dev(LOG));
    write_some(1);
    check(writes_to_log() >= 2); /* heads, records */
    must(raid_stop("a", &e), &e);
    struct bdev_desc *d = open_device("d0", CLAIM_READ);
    check_int(bdev_read(d, 160 << 10, gap, sizeof gap), 0);
    for (unsigned i = 0; i < sizeof gap; i++)
        check_int(gap[i], 0);
    bdev_close(&d);
    must(assemble(false, &e), &e); /* found by its label */
    check(!strcmp(info_of("a").log_device, "d3"));
    check_some();
    must(raid_delete("a", &e), &e); /* and the label goes with the array */
    must(create_on("a", 0, "d3", false), &e);
    must(raid_stop("a", &e), &e);
    remove_members(ALL);
}

HARNESS_TEST(without_it_what_is_dirty_and_degraded_needs_force)
{
    make();
    write_some(2);
    stop_dirty();
    remove_device("d1");
    remove_device("m1");
    struct raid_assemble r = {.name = "a", .uuid = only_uuid(), .degraded_ok = true};
    must(raid_assemble(&r, &e), &e); /* its log says that nothing is missing */
    check_some();
    stop_dirty();
    remove_device("d3");
    remove_device("m3");
    r.log_device = "d3";
    check_int(raid_assemble(&r, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    r.force = true;
    must(raid_assemble(&r, &e), &e);
    check(!strcmp(info_of("a").log, "on")); /* on the members */
    check(!*info_of("a").log_device);
    must(raid_stop("a", &e), &e);
    remove_members(ALL);
}

HARNESS_TEST(the_log_of_another_array_is_refused)
{
    make();
    must(raid_stop("a", &e), &e);
    for (unsigned i = 4; i < 7; i++)
        make_member(i, "4M");
    check_int(create_on("b", 4, "d3", false), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    check(strstr(e.msg, "log of another array"));
    check(!strcmp(e.field, "log_device"));
    must(create_on("b", 4, "d3", true), &e);
    must(raid_stop("b", &e), &e);
    for (unsigned i = 4; i < 7; i++) {
        remove_device(name_of("d", i));
        remove_device(name_of("m", i));
    }
    must(assemble(false, &e), &e); /* whose log is gone */
    check(!*info_of("a").log_device);
    must(raid_stop("a", &e), &e);
    remove_members(ALL);
}

HARNESS_TEST(two_of_them_are_one_too_many)
{
    static uint8_t all[4 << 20];
    make();
    must(raid_stop("a", &e), &e);
    make_member(4, "4M");
    struct bdev_desc *from = open_device("d3", CLAIM_READ),
                     *to = open_device("d4", CLAIM_EXCLUSIVE);
    check_int(bdev_read(from, 0, all, sizeof all), 0);
    check_int(bdev_write(to, 0, all, sizeof all, 0), 0);
    bdev_close(&from), bdev_close(&to);
    check_int(assemble(false, &e), -1);
    check(strstr(e.msg, "2 devices carry the log"));
    remove_members(5);
}

/* The array goes on; what stands on the device is void, even when it answers again. */
HARNESS_TEST(when_it_fails_the_array_goes_on_without)
{
    make();
    write_some(3);
    rules(LOG, "write:error=EIO");
    write_some(4);
    for (unsigned i = 0; i < 12000 && !strcmp(info_of("a").log, "on"); i++)
        task_sleep_us(5000);
    check(!strcmp(info_of("a").log, "its device has failed"));
    check_int(info_of("a").missing, 0);
    write_some(5);
    check_some();
    rules(LOG, "");
    write_some(6);
    stop_dirty();
    remove_device("d1");
    remove_device("m1");
    struct raid_assemble r = {.name = "a", .uuid = only_uuid(), .degraded_ok = true};
    check_int(raid_assemble(&r, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    r.force = true;
    must(raid_assemble(&r, &e), &e);
    check_some();
    check(!strcmp(info_of("a").log, "on")); /* it takes it again, from the start */
    must(raid_stop("a", &e), &e);
    remove_members(ALL);
}

/* The members' time-out is its own, too. */
HARNESS_TEST(when_it_hangs_the_array_goes_on_without)
{
    struct raid_policy p;
    char users[8];
    raid_policy_defaults(&p);
    p.timeout_ms = 100;
    make();
    must(raid_set_policy("a", &p, NULL, 0, &e), &e);
    write_some(3);
    rules(LOG, "write:hold");
    write_some(4);
    check(!strcmp(info_of("a").log, "its device has failed"));
    check_int(info_of("a").missing, 0);
    check_some();
    must(raid_set_log("a", true, NULL, false, &e), &e); /* it is let go, but not free yet */
    check(bdev_users(fault_dev(LOG), users, sizeof users));
    write_some(5);
    check_some();
    rules(LOG, "");
    fault_release(fault_dev(LOG));
    while (bdev_users(fault_dev(LOG), users, sizeof users))
        task_sleep_us(1000);
    must(raid_set_log("a", false, "d3", false, &e), &e);
    rules(LOG, "write:hold");
    write_some(6); /* one that is given later, too */
    check(!strcmp(info_of("a").log, "its device has failed"));
    fault_release(fault_dev(LOG));
    must(raid_stop("a", &e), &e);
    while (bdev_users(fault_dev(LOG), users, sizeof users))
        task_sleep_us(1000);
    remove_members(ALL);
}

HARNESS_TEST(it_is_changed_while_the_array_runs)
{
    make();
    make_member(4, "4M");
    write_some(7);
    must(raid_set_log("a", false, "d4", false, &e), &e);
    check(!strcmp(info_of("a").log_device, "d4"));
    write_some(8);
    must(raid_set_log("a", true, NULL, false, &e), &e);
    check(!strcmp(info_of("a").log, "it is not wanted"));
    check(!*info_of("a").log_device);
    write_some(9);
    must(raid_set_log("a", false, "d3", false, &e), &e); /* whose label went */
    write_some(10);
    must(raid_set_log("a", false, NULL, false, &e), &e);
    check(!strcmp(info_of("a").log, "on"));
    check_some();
    check_int(raid_set_log("a", false, "d0", false, &e), -1); /* a member */
    check(!strcmp(info_of("a").log, "on"));
    must(raid_stop("a", &e), &e);
    remove_members(5);
}

HARNESS_TEST(one_that_is_pulled_is_let_go)
{
    make();
    write_some(11);
    remove_device("d3"); /* waits until nobody has it open */
    check(!strcmp(info_of("a").log, "its device has failed"));
    write_some(12);
    check_some();
    must(raid_stop("a", &e), &e);
    remove_device("m3");
    remove_members(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_takes_the_log_and_the_members_gaps_stay_as_they_are),
        cmocka_unit_test(without_it_what_is_dirty_and_degraded_needs_force),
        cmocka_unit_test(the_log_of_another_array_is_refused),
        cmocka_unit_test(two_of_them_are_one_too_many),
        cmocka_unit_test(when_it_fails_the_array_goes_on_without),
        cmocka_unit_test(when_it_hangs_the_array_goes_on_without),
        cmocka_unit_test(it_is_changed_while_the_array_runs),
        cmocka_unit_test(one_that_is_pulled_is_let_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
