/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include "targets/stages.h"

static struct stage_book book;
static const uint64_t us = 1000;

static void one(struct io_times t, uint64_t sent, bool failed)
{
    struct stage_request q = {.times = &t,
                              .sent = sent,
                              .op = BIO_WRITE,
                              .length = 4096,
                              .failed = failed,
                              .client = "somebody"};
    stages_count(&book, &q);
}

static struct io_times slow(void)
{
    return (struct io_times){.arrived = 100 * us,
                             .admitted = 110 * us,
                             .received = 140 * us,
                             .submitted = 145 * us,
                             .done = 245 * us};
}

HARNESS_TEST(the_stages_of_a_request_add_up_to_its_time)
{
    struct stage_counters s;
    stages_add(&book, "nbd", "e", "");
    one(slow(), 265 * us, false);
    stages_sum(&book, &s);
    check_int(s.stage[STAGE_RECEIVE].total_ns, 30 * us);
    check_int(s.stage[STAGE_QUEUE].total_ns, 15 * us);
    check_int(s.stage[STAGE_DEVICE].total_ns, 100 * us);
    check_int(s.stage[STAGE_SEND].total_ns, 20 * us);
    check_int(s.op[STAGE_WRITE].total_ns, 165 * us);
    check_int(s.op[STAGE_WRITE].bucket[hist_bucket(165 * us)], 1);
    check_int(s.bytes[STAGE_WRITE], 4096);
    stages_remove(&book);
}

HARNESS_TEST(a_failed_request_moves_no_bytes)
{
    struct stage_counters s;
    stages_add(&book, "nbd", "e", "");
    one(slow(), 265 * us, true);
    stages_sum(&book, &s);
    check_int(s.bytes[STAGE_WRITE], 0);
    check_int(s.errors[STAGE_WRITE], 1);
    stages_remove(&book);
}

HARNESS_TEST(a_request_that_saw_no_device_is_not_counted)
{
    struct stage_counters s;
    stages_add(&book, "nbd", "e", "");
    one((struct io_times){.arrived = 1, .admitted = 1}, 9, true);
    stages_sum(&book, &s);
    check_int(s.errors[STAGE_WRITE], 0);
    stages_remove(&book);
}

static void count_here(void *arg)
{
    (void)arg;
    one(slow(), 265 * us, false);
}

HARNESS_TEST(reactors_are_summed)
{
    struct stage_counters s;
    stages_add(&book, "nbd", "e", "");
    task_call_all(count_here, NULL);
    stages_sum(&book, &s);
    check_int(s.bytes[STAGE_WRITE], (reactor_count() + 1) * 4096);
    stages_remove(&book);
}

HARNESS_TEST(only_requests_over_the_threshold_are_slow)
{
    uint64_t before = stages_slow_total();
    stages_add(&book, "nbd", "e", "");
    stages_slow_ms(1);
    one(slow(), 265 * us, false);
    check_int(stages_slow_total(), before);
    one(slow(), 1300 * us, false);
    check_int(stages_slow_total(), before + 1);
    stages_slow_ms(0);
    one(slow(), 1300 * us, false);
    check_int(stages_slow_total(), before + 1);
    stages_remove(&book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stages_of_a_request_add_up_to_its_time),
        cmocka_unit_test(a_failed_request_moves_no_bytes),
        cmocka_unit_test(a_request_that_saw_no_device_is_not_counted),
        cmocka_unit_test(reactors_are_summed),
        cmocka_unit_test(only_requests_over_the_threshold_are_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
