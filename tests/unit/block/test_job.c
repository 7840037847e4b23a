/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "testdev.h"

#include "block/event.h"
#include "block/job.h"

static int count_to_ten(struct job *job, void *arg, struct err *e)
{
    (void)arg;
    (void)e;
    check_int(reactor_self_index(), 1);
    for (unsigned i = 0; i <= 10; i++) {
        if (!job_step(job, i, 10))
            return -1;
        task_sleep_us(500);
    }
    return 0;
}

static unsigned told;
static enum job_state last_state;

static void observe(const struct job_info *info, void *arg)
{
    (void)arg;
    told++;
    last_state = info->state;
}

HARNESS_TEST(job_runs_on_its_reactor_and_reports)
{
    told = 0;
    job_observe(observe, NULL);
    uint64_t id = job_start(reactor_get(1), "count", "ten", true, count_to_ten, NULL);
    check(job_wait(id));
    struct job_info info;
    check(job_get(id, &info));
    check_int(info.state, JOB_DONE);
    check_int(info.done, 10);
    check_int(info.total, 10);
    check(!strcmp(info.kind, "count") && !strcmp(info.object, "ten"));
    check(info.ended_ms >= info.started_ms);
    check_int(told, 2);
    check_int(last_state, JOB_DONE);
    struct err e;
    check(job_cancel(id, &e) == -1);
    check(!job_wait(123456));
    job_observe(NULL, NULL);
}

static int forever(struct job *job, void *arg, struct err *e)
{
    unsigned *steps = arg;
    while (job_step(job, *steps, 0)) {
        __atomic_fetch_add(steps, 1, __ATOMIC_SEQ_CST);
        task_sleep_us(500);
    }
    return err_set(e, ERR_IO, "", "stopped");
}

HARNESS_TEST(job_pauses_and_is_cancelled)
{
    unsigned steps = 0;
    struct err e;
    uint64_t id = job_start(reactor_get(0), "loop", "x", true, forever, &steps);
    until(__atomic_load_n(&steps, __ATOMIC_SEQ_CST));
    check(!job_pause(id, true, &e));
    unsigned at = __atomic_load_n(&steps, __ATOMIC_SEQ_CST);
    task_sleep_us(20000);
    check(__atomic_load_n(&steps, __ATOMIC_SEQ_CST) <= at + 1); /* the one that was under way */
    struct job_info info;
    check(job_get(id, &info));
    check_int(info.state, JOB_PAUSED);
    check(!job_pause(id, false, &e));
    until(__atomic_load_n(&steps, __ATOMIC_SEQ_CST) > at + 1);
    check(!job_cancel(id, &e));
    check(job_wait(id));
    check(job_get(id, &info));
    check_int(info.state, JOB_CANCELLED);
}

static int fails(struct job *job, void *arg, struct err *e)
{
    (void)job;
    (void)arg;
    return err_set(e, ERR_IO, "member", "the disk is gone");
}

static int until_told(struct job *job, void *arg, struct err *e)
{
    (void)job;
    (void)e;
    __atomic_store_n((unsigned *)arg, 1, __ATOMIC_SEQ_CST);
    until(__atomic_load_n((unsigned *)arg, __ATOMIC_SEQ_CST) == 2);
    return 0;
}

HARNESS_TEST(failed_job_keeps_its_error_and_some_cannot_be_cancelled)
{
    struct err e;
    uint64_t id = job_start(reactor_get(0), "fail", "x", false, fails, NULL);
    check(job_wait(id));
    struct job_info info;
    check(job_get(id, &info));
    check_int(info.state, JOB_FAILED);
    check_int(info.err.code, ERR_IO);
    check(!strcmp(info.err.msg, "the disk is gone"));
    unsigned stage = 0;
    id = job_start(reactor_get(1), "wait", "x", false, until_told, &stage);
    until(__atomic_load_n(&stage, __ATOMIC_SEQ_CST));
    check(job_cancel(id, &e) == -1);
    check_int(e.code, ERR_INVALID);
    __atomic_store_n(&stage, 2, __ATOMIC_SEQ_CST);
    check(job_wait(id));
    check(job_get(id, &info));
    check_int(info.state, JOB_DONE);
}

static int gives_way(struct job *job, void *arg, struct err *e)
{
    (void)job;
    (void)arg;
    err_set(e, ERR_NOT_READY, "", "stopped at byte 7");
    return JOB_STOPPED;
}

HARNESS_TEST(a_job_that_gives_way_is_cancelled_and_not_failed)
{
    uint64_t id = job_start(reactor_get(0), "way", "x", true, gives_way, NULL);
    struct job_info info;
    check(job_wait(id));
    check(job_get(id, &info));
    check_int(info.state, JOB_CANCELLED);
    check(!strcmp(info.err.msg, "stopped at byte 7"));
}

static void count_one(const struct job_info *info, void *arg)
{
    (void)info;
    ++*(unsigned *)arg;
}

HARNESS_TEST(a_job_goes_on_under_its_id_after_a_restart)
{
    struct job_info was = {.id = 70000, .kind = "way", .object = "y", .started_ms = 5}, info;
    unsigned left = 0;
    job_interrupted(&was);
    was.id = 70001;
    was.object[0] = 'z';
    job_interrupted(&was);
    job_ids_after(70001);
    check_int(job_start(reactor_get(0), "other", "y", true, gives_way, NULL), 70002);
    check_int(job_start(reactor_get(0), "way", "y", true, gives_way, NULL), 70000);
    check_int(job_start(reactor_get(0), "way", "y", true, gives_way, NULL), 70003);
    check(job_wait(70000) && job_wait(70002) && job_wait(70003));
    check(job_get(70000, &info));
    check_int(info.started_ms, 5);
    job_forget_interrupted(count_one, &left);
    check_int(left, 1); /* the one of z */
}

static int at_once(struct job *job, void *arg, struct err *e)
{
    (void)job;
    (void)arg;
    (void)e;
    return 0;
}

HARNESS_TEST(only_the_last_ended_jobs_are_kept)
{
    uint64_t first = job_start(reactor_get(0), "a", "x", false, at_once, NULL), last = first;
    for (int i = 0; i < 400; i++) {
        last = job_start(reactor_get(0), "a", "x", false, at_once, NULL);
        if (i % 50 == 0)
            task_sleep_us(1000);
    }
    job_wait(last);
    struct job_info info;
    until(!job_get(first, &info));
    check(job_get(last, &info));
}

static unsigned events;

static void on_event(const struct event *ev, void *arg)
{
    (void)arg;
    check(reactor_is_self(reactor_main()));
    check(!strcmp(ev->object, "array a0") && !strcmp(ev->kind, "member-failed"));
    check(!strcmp(ev->message, "d1 failed: 3 errors"));
    events++;
}

static void raise_one(void *arg)
{
    (void)arg;
    event_raise("array a0", "member-failed", "d1 failed: %d errors", 3);
}

HARNESS_TEST(events_reach_main_from_any_reactor)
{
    events = 0;
    event_observe(on_event, NULL);
    task_call_all(raise_one, NULL);
    until(events == 3);
    event_observe(NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(job_runs_on_its_reactor_and_reports),
        cmocka_unit_test(job_pauses_and_is_cancelled),
        cmocka_unit_test(failed_job_keeps_its_error_and_some_cannot_be_cancelled),
        cmocka_unit_test(a_job_that_gives_way_is_cancelled_and_not_failed),
        cmocka_unit_test(a_job_goes_on_under_its_id_after_a_restart),
        cmocka_unit_test(only_the_last_ended_jobs_are_kept),
        cmocka_unit_test(events_reach_main_from_any_reactor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
