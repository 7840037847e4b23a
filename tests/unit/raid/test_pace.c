/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The controller of background work, fed with latencies by hand: no clock, no array, no chance. */
#include "harness.h"

#include <string.h>

#include "raid/raid_private.h"

enum {
    MIB = 1 << 20,
    FLOOR = 4 * MIB,
    TARGET_US = 20 * 1000,
    LOOK_NS = 100 * 1000 * 1000,
    US = 1000
};

static struct raid_policy policy(uint64_t most)
{
    return (struct raid_policy){.latency_us = TARGET_US, .rate_min = FLOOR, .rate_max = most};
}

/* A sync that may go at `speed` goes as fast as its limit lets it. */
static uint64_t going(const struct raid_pace *p, uint64_t speed)
{
    return p->limit && p->limit < speed ? p->limit : speed;
}

static void alone_it_goes_as_fast_as_it_can(void **state)
{
    struct raid_pace p = {0};
    struct raid_policy all = policy(0), some = policy(64 * MIB);
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        raid_pace_adapt(&p, &all, 0, 500 * MIB);
        assert_int_equal(p.limit, 0);
    }
    assert_int_equal(raid_pace_due_ns(&p, 8 * MIB), 0);
    raid_pace_adapt(&p, &some, 0, 500 * MIB);
    assert_int_equal(p.limit, 64 * MIB);
}

static void above_the_target_it_halves_down_to_the_floor_and_stays(void **state)
{
    struct raid_pace p = {0};
    struct raid_policy all = policy(0);
    uint64_t want = 512 * MIB;
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        raid_pace_adapt(&p, &all, TARGET_US + 1, going(&p, 512 * MIB));
        want = want / 2 > FLOOR ? want / 2 : FLOOR;
        assert_int_equal(p.limit, want);
    }
    assert_int_equal(p.limit, FLOOR);
}

/* A limit that the sync does not reach is no limit: half of what it really does counts. */
static void half_of_what_it_does_not_of_what_it_may(void **state)
{
    struct raid_pace p = {.limit = 1000 * MIB};
    struct raid_policy all = policy(0);
    (void)state;
    raid_pace_adapt(&p, &all, TARGET_US + 1, 100 * MIB);
    assert_int_equal(p.limit, 50 * MIB);
}

static void at_the_target_it_grows_by_a_quarter_up_to_the_ceiling(void **state)
{
    struct raid_pace p = {.limit = FLOOR};
    struct raid_policy some = policy(100 * MIB);
    uint64_t before = FLOOR;
    (void)state;
    for (unsigned i = 0; i < 40; i++) {
        raid_pace_adapt(&p, &some, TARGET_US, going(&p, 512 * MIB));
        assert_true(p.limit == before + before / 4 + MIB || p.limit == 100 * MIB);
        assert_true(p.limit >= before);
        before = p.limit;
    }
    assert_int_equal(p.limit, 100 * MIB);
}

static void clients_that_pause_are_not_gone_at_once(void **state)
{
    struct raid_pace p = {0};
    struct raid_policy all = policy(0);
    (void)state;
    raid_pace_adapt(&p, &all, TARGET_US * 2, 100 * MIB);
    for (unsigned i = 0; i < 4; i++) {
        raid_pace_adapt(&p, &all, 0, 50 * MIB);
        assert_int_equal(p.limit, 50 * MIB);
    }
    raid_pace_adapt(&p, &all, 0, 50 * MIB);
    assert_int_equal(p.limit, 0);
    /* One who comes back is not taken for another pause. */
    raid_pace_adapt(&p, &all, TARGET_US * 2, 100 * MIB);
    raid_pace_adapt(&p, &all, 0, 50 * MIB);
    assert_int_equal(p.limit, 50 * MIB);
}

/* Clients whose latency grows with the rate of the sync: above 40 MiB/s it is too much for them. It
 * settles there: most looks find them content, it neither starves nor runs away. */
static void it_settles_where_clients_are_content(void **state)
{
    enum { PER_MIB_US = TARGET_US / 40, LOOKS = 2000 };
    struct raid_pace p = {0};
    struct raid_policy all = policy(0);
    uint64_t least = UINT64_MAX, most = 0, sum = 0;
    unsigned content = 0;
    (void)state;
    for (unsigned i = 0; i < LOOKS; i++) {
        uint64_t rate = going(&p, 512 * MIB), p99 = rate / MIB * PER_MIB_US + 1;
        raid_pace_adapt(&p, &all, p99, rate);
        if (i < 100)
            continue;
        content += p99 <= TARGET_US;
        least = rate < least ? rate : least;
        most = rate > most ? rate : most;
        sum += rate;
    }
    assert_true(content * 3 >= (LOOKS - 100) * 2);
    assert_true(least >= 20 * MIB && most <= 52 * MIB);
    assert_true(sum / (LOOKS - 100) >= 28 * MIB);
}

static void a_step_takes_as_long_as_the_limit_says(void **state)
{
    struct raid_pace p = {.limit = 8 * MIB};
    (void)state;
    assert_int_equal(raid_pace_due_ns(&p, 8 * MIB), 1000 * 1000 * 1000);
    assert_int_equal(raid_pace_due_ns(&p, MIB), 125 * 1000 * 1000);
}

/* ---- what a look sees */

static void a_look_sees_what_ended_since_the_last_one(void **state)
{
    struct raid_pace p = {0};
    uint64_t now[HIST_BUCKETS] = {0};
    (void)state;
    now[hist_bucket(100 * US)] = 1000;
    uint64_t fast = raid_pace_p99(&p, now, false, LOOK_NS);
    assert_true(fast >= 100 && fast < 1000);
    /* 1 in 100 may be slow, 2 may not; those of the last look do not count again. */
    now[hist_bucket(100 * US)] += 99;
    now[hist_bucket(50000 * US)] += 1;
    assert_int_equal(raid_pace_p99(&p, now, false, LOOK_NS), fast);
    now[hist_bucket(100 * US)] += 98;
    now[hist_bucket(50000 * US)] += 2;
    assert_true(raid_pace_p99(&p, now, false, LOOK_NS) >= 50000);
    assert_int_equal(raid_pace_p99(&p, now, false, LOOK_NS), 0);
}

static void who_waits_and_gets_nothing_counts_as_slow(void **state)
{
    struct raid_pace p = {0};
    uint64_t none[HIST_BUCKETS] = {0};
    (void)state;
    assert_int_equal(raid_pace_p99(&p, none, true, LOOK_NS), LOOK_NS / 1000);
    assert_int_equal(raid_pace_p99(&p, none, false, LOOK_NS), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_it_goes_as_fast_as_it_can),
        cmocka_unit_test(above_the_target_it_halves_down_to_the_floor_and_stays),
        cmocka_unit_test(half_of_what_it_does_not_of_what_it_may),
        cmocka_unit_test(at_the_target_it_grows_by_a_quarter_up_to_the_ceiling),
        cmocka_unit_test(clients_that_pause_are_not_gone_at_once),
        cmocka_unit_test(it_settles_where_clients_are_content),
        cmocka_unit_test(a_step_takes_as_long_as_the_limit_says),
        cmocka_unit_test(a_look_sees_what_ended_since_the_last_one),
        cmocka_unit_test(who_waits_and_gets_nothing_counts_as_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
