/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <unistd.h>

HARNESS_TEST(sleep_takes_its_time)
{
    uint64_t t0 = clock_ns();
    task_sleep_us(30000);
    check(clock_ns() - t0 >= 24000000);
}

HARNESS_TEST(wake_before_park_is_not_lost_and_counts)
{
    task_wake(task_self());
    task_wake(task_self());
    task_park();
    task_park();
    uint64_t t0 = clock_ns();
    task_sleep_us(20000); /* a third one would end this at once */
    check(clock_ns() - t0 >= 14000000);
}

static unsigned seen_index;

static void where(void *arg)
{
    (void)arg;
    check(task_in());
    task_sleep_us(1000);
    seen_index = reactor_self_index();
}

HARNESS_TEST(call_runs_on_the_other_reactor_and_waits)
{
    task_call(reactor_get(1), where, NULL);
    check_int(seen_index, 1);
    check_int(reactor_self_index(), 2);
}

static unsigned all;

static void count(void *arg)
{
    (void)arg;
    __atomic_fetch_add(&all, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(call_all_reaches_every_reactor)
{
    all = 0;
    task_call_all(count, NULL);
    check_int(all, 3);
}

static void block(void *arg)
{
    check(!task_in());
    usleep(10000);
    *(int *)arg = 42;
}

HARNESS_TEST(help_waits_for_a_blocking_call_without_blocking_the_loop)
{
    int v = 0;
    struct reactor_stats s0, s1;
    reactor_get_stats(reactor_main(), &s0);
    task_help(block, &v);
    reactor_get_stats(reactor_main(), &s1);
    check_int(v, 42);
    check(s1.turns > s0.turns);
}

static struct tlock lock;
static char trace[32];
static unsigned traced;
static struct twait joined;

static void locker(void *arg)
{
    tlock_lock(&lock);
    trace[traced++] = *(char *)arg;
    task_sleep_us(500);
    trace[traced++] = *(char *)arg;
    tlock_unlock(&lock);
    twait_done(&joined);
}

HARNESS_TEST(lock_is_exclusive_and_fifo)
{
    tlock_init(&lock);
    traced = 0;
    char a[] = "a", b[] = "b", c[] = "c";
    joined = (struct twait)TWAIT(3);
    task_start(reactor_main(), "a", locker, a);
    task_start(reactor_main(), "b", locker, b);
    task_start(reactor_main(), "c", locker, c);
    twait_all(&joined);
    check(traced == 6 && !__builtin_memcmp(trace, "aabbcc", 6));
    check(!lock.owner);
}

HARNESS_TEST(wait_for_nothing_returns_at_once)
{
    struct twait w = TWAIT(1);
    twait_done(&w);
    twait_all(&w);
    uint64_t t0 = clock_ns();
    task_sleep_us(20000); /* no wake is left over */
    check(clock_ns() - t0 >= 14000000);
}

static void storm(void *arg)
{
    for (int i = 0; i < 200; i++)
        task_wake(arg);
}

HARNESS_TEST(wakes_from_many_threads_are_all_counted)
{
    struct task *self = task_self();
    for (int round = 0; round < 20; round++) {
        helper_run(storm, NULL, self);
        helper_run(storm, NULL, self);
        for (int i = 0; i < 400; i++)
            task_park();
    }
}

static void deep(void *arg)
{
    volatile char room[100 * 1024];
    room[0] = 1;
    room[sizeof room - 1] = 2;
    *(int *)arg += room[0] + room[sizeof room - 1];
    twait_done(&joined);
}

HARNESS_TEST(hundreds_of_tasks_reuse_stacks)
{
    int sum = 0;
    for (int i = 0; i < 10; i++) {
        joined = (struct twait)TWAIT(50);
        for (int k = 0; k < 50; k++)
            task_start(reactor_main(), "deep", deep, &sum);
        twait_all(&joined);
    }
    check_int(sum, 1500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sleep_takes_its_time),
        cmocka_unit_test(wake_before_park_is_not_lost_and_counts),
        cmocka_unit_test(call_runs_on_the_other_reactor_and_waits),
        cmocka_unit_test(call_all_reaches_every_reactor),
        cmocka_unit_test(help_waits_for_a_blocking_call_without_blocking_the_loop),
        cmocka_unit_test(lock_is_exclusive_and_fifo),
        cmocka_unit_test(wait_for_nothing_returns_at_once),
        cmocka_unit_test(wakes_from_many_threads_are_all_counted),
        cmocka_unit_test(hundreds_of_tasks_reuse_stacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
