/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an array forgives its members, and how much of them a sync takes while clients are there. */
#include "arrays.h"

#include <string.h>

enum { BLOCK = 4096 };

static struct err e;
static uint8_t in[BLOCK], out[BLOCK];

static void make(const char *level, unsigned n, const char *size)
{
    make_members(n, size);
    must(create(level, n, true, &e), &e);
}

static void end(unsigned n)
{
    must(raid_stop("a", &e), &e);
    remove_members(n);
}

static void set(const struct raid_policy *p)
{
    must(raid_set_policy("a", p, NULL, 0, &e), &e);
}

static enum raid_member_state state_of(const char *device)
{
    struct raid_info info = info_of("a");
    for (unsigned i = 0; i < info.member_count; i++)
        if (!strcmp(info.member[i].device, device))
            return info.member[i].state;
    return RAID_MEMBER_MISSING;
}

static void wait_faulty(const char *device)
{
    for (unsigned i = 0; state_of(device) != RAID_MEMBER_FAULTY; i++) {
        check(i < 12000);
        task_sleep_us(5000);
    }
}

static void put(struct bdev_desc *d, uint64_t at, unsigned pattern)
{
    fill_pattern(in, BLOCK, pattern);
    check_int(bdev_write(d, at, in, BLOCK, 0), 0);
}

static void check_block(struct bdev_desc *d, uint64_t at, unsigned pattern)
{
    uint8_t want[BLOCK];
    fill_pattern(want, BLOCK, pattern);
    check_int(bdev_read(d, at, out, BLOCK), 0);
    check(!memcmp(want, out, BLOCK));
}

/* ---- time-outs */

HARNESS_TEST(a_member_that_does_not_answer_fails_and_its_late_write_harms_nobody)
{
    struct raid_policy p;
    raid_policy_defaults(&p);
    p.timeout_ms = 100;
    make("raid1", 2, "4M");
    set(&p);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 1);
    rules(0, "write:hold:offset=1M-4M");
    put(d, BLOCK, 2); /* answered without d0 */
    check_int(state_of("d0"), RAID_MEMBER_FAULTY);
    check_int(fault_held(fault_dev(0)), 1);
    memset(in, 0xee, sizeof in); /* the client's memory is the client's again */
    put(d, 0, 3);
    check_block(d, 0, 3);
    must(raid_remove_member("a", "d0", false, &e), &e); /* without waiting for it */
    check_int(raid_add_member("a", "d0", true, &e), -1);
    check_int(e.code, ERR_IN_USE); /* what was sent to it may still arrive */
    rules(0, "");
    fault_release(fault_dev(0));
    for (unsigned i = 0; raid_add_member("a", "d0", true, &e); i++) {
        check(i < 12000);
        task_sleep_us(5000);
    }
    wait_idle();
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < 2; i++) {
        d = open_device(name_of("d", i), CLAIM_READ);
        check_block(d, DATA, 3);
        check_block(d, DATA + BLOCK, 2);
        bdev_close(&d);
    }
    remove_members(2);
}

static void slow_reader(const char *level, unsigned n)
{
    struct raid_policy p;
    raid_policy_defaults(&p);
    make(level, n, "4M");
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 1);
    /* One member alone gets a time-out. */
    struct raid_member_policy own = {.device = "d0", .has_timeout = true, .timeout_ms = 100};
    must(raid_set_policy("a", &p, &own, 1, &e), &e);
    for (unsigned i = 0; i < n; i++)
        rules(i, i ? "" : "read:hold:offset=1M-4M");
    for (unsigned i = 0; i < 4; i++)
        check_block(d, 0, 1);
    if (fault_held(fault_dev(0)))
        wait_faulty("d0");
    rules(0, "");
    fault_release(fault_dev(0));
    check_int(info_of("a").state == RAID_FAILED, false);
    bdev_close(&d);
    end(n);
}

HARNESS_TEST(a_read_that_hangs_is_answered_by_the_others)
{
    slow_reader("raid1", 2);
    slow_reader("raid5", 3);
    slow_reader("raid6", 5);
    slow_reader("raid10", 4);
}

/* ---- read errors */

static uint64_t corrected_of(const char *device)
{
    struct raid_info info = info_of("a");
    for (unsigned i = 0; i < info.member_count; i++)
        if (!strcmp(info.member[i].device, device))
            return info.member[i].corrected;
    return 0;
}

/* Each time the first member cannot read a place, and the other one can. */
HARNESS_TEST(too_many_corrected_read_errors_cost_the_member)
{
    struct raid_policy p;
    raid_policy_defaults(&p);
    p.read_errors_max = 2;
    make("raid1", 2, "4M");
    set(&p);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    for (unsigned i = 0; i < 3; i++) {
        put(d, i * BLOCK, i);
        rules(0,
              "read:error=EIO:count=2:offset=1M-4M"); /* the read, and the look before the repair */
        while (!fault_rule_hits(fault_dev(0), 0))     /* they are read in turn */
            check_block(d, i * BLOCK, i);
        for (unsigned k = 0; corrected_of("d0") <= i; k++) {
            check(k < 12000);
            task_sleep_us(5000);
        }
        check_int(state_of("d0") == RAID_MEMBER_FAULTY && i < 2, false);
        check_int(corrected_of("d0"), i + 1);
    }
    wait_faulty("d0");
    check_block(d, 0, 0);
    bdev_close(&d);
    end(2);
}

/* ---- pace */

struct client {
    struct bdev_desc *d;
    bool stop, over;
};

static void client_run(void *arg)
{
    struct client *c = arg;
    static uint8_t mine[BLOCK];
    while (!c->stop)
        check_int(bdev_read(c->d, 8 << 20, mine, BLOCK), 0);
    c->over = true;
}

/* The sync of a new member, with a client whose reads take 3 ms each. */
static struct client begin_sync(const struct raid_policy *p)
{
    make("raid1", 2, "64M");
    set(p);
    must(raid_remove_member("a", "d1", false, &e), &e);
    rules(0, "read:delay=3ms:offset=9M-9437184");
    struct client c = {.d = open_device("a", CLAIM_READ)};
    return c;
}

HARNESS_TEST(a_sync_leaves_slow_clients_all_but_the_floor)
{
    struct raid_policy p;
    raid_policy_defaults(&p);
    p.latency_us = 1000; /* which they never meet */
    p.rate_min = 1 << 20;
    struct client c = begin_sync(&p);
    task_start(reactor_get(0), "client", client_run, &c);
    p.rate_max = 8 << 20; /* so that it is not over before anybody looks */
    set(&p);
    must(raid_add_member("a", "d1", true, &e), &e);
    for (unsigned i = 0; info_of("a").sync_limit != 1 << 20; i++) {
        check(i < 12000);
        task_sleep_us(5000);
    }
    check(info_of("a").client_p99 > 1000);
    uint64_t done = info_of("a").sync_done; /* and the floor is kept */
    for (unsigned i = 0; info_of("a").sync_done < done + (1 << 20); i++) {
        check(i < 12000);
        task_sleep_us(5000);
    }
    c.stop = true;
    p.rate_max = 0;
    set(&p);
    wait_idle(); /* nobody is there: full speed */
    while (!c.over)
        task_sleep_us(1000);
    bdev_close(&c.d);
    check_int(info_of("a").missing, 0);
    end(2);
}

HARNESS_TEST(a_sync_that_disturbs_nobody_is_not_held_back)
{
    struct raid_policy p;
    raid_policy_defaults(&p);
    p.latency_us = 60 * 1000 * 1000;
    p.rate_min = 4096; /* at which it would take hours */
    struct client c = begin_sync(&p);
    task_start(reactor_get(0), "client", client_run, &c);
    must(raid_add_member("a", "d1", true, &e), &e);
    wait_idle();
    check_int(info_of("a").missing, 0);
    c.stop = true;
    while (!c.over)
        task_sleep_us(1000);
    bdev_close(&c.d);
    end(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_member_that_does_not_answer_fails_and_its_late_write_harms_nobody),
        cmocka_unit_test(a_read_that_hangs_is_answered_by_the_others),
        cmocka_unit_test(too_many_corrected_read_errors_cost_the_member),
        cmocka_unit_test(a_sync_leaves_slow_clients_all_but_the_floor),
        cmocka_unit_test(a_sync_that_disturbs_nobody_is_not_held_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
