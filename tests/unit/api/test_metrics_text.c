/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "api/metrics_text.h"

static struct metrics m;

static void expect(const char *wanted)
{
    assert_int_equal(m.len, strlen(wanted));
    assert_memory_equal(m.text, wanted, m.len);
    free(m.text);
    m = (struct metrics){0};
}

static void a_family_has_help_and_type(void **state)
{
    (void)state;
    metrics_family(&m, "orion_x_total", "counter", "Things.");
    expect("# HELP orion_x_total Things.\n# TYPE orion_x_total counter\n");
}

static void a_sample_without_labels_has_no_braces(void **state)
{
    (void)state;
    metrics_u64(&m, "x", 18446744073709551615u, NULL);
    expect("x 18446744073709551615\n");
}

static void labels_are_escaped(void **state)
{
    (void)state;
    metrics_u64(&m, "x", 1, "a", "q\"b\\c\nd", "e", "", NULL);
    expect("x{a=\"q\\\"b\\\\c\\nd\",e=\"\"} 1\n");
}

static void a_histogram_is_cumulative_and_ends_with_inf_sum_and_count(void **state)
{
    (void)state;
    uint64_t fine[HIST_BUCKETS] = {0};
    struct metrics_hist h;
    fine[hist_bucket(9000)] = 2;
    fine[hist_bucket(25000)] = 1;
    fine[hist_bucket(20000000000ull)] = 1;
    metrics_fold(&h, fine, 2500000000);
    metrics_histogram(&m, "x", &h, "d", "a\"b", NULL);
    expect("x_bucket{d=\"a\\\"b\",le=\"1e-05\"} 2\nx_bucket{d=\"a\\\"b\",le=\"3e-05\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"0.0001\"} 3\nx_bucket{d=\"a\\\"b\",le=\"0.0003\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"0.001\"} 3\nx_bucket{d=\"a\\\"b\",le=\"0.002\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"0.005\"} 3\nx_bucket{d=\"a\\\"b\",le=\"0.01\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"0.03\"} 3\nx_bucket{d=\"a\\\"b\",le=\"0.1\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"0.3\"} 3\nx_bucket{d=\"a\\\"b\",le=\"1\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"3\"} 3\nx_bucket{d=\"a\\\"b\",le=\"10\"} 3\n"
           "x_bucket{d=\"a\\\"b\",le=\"+Inf\"} 4\nx_sum{d=\"a\\\"b\"} 2.5\n"
           "x_count{d=\"a\\\"b\"} 4\n");
}

static void every_label_of_a_histogram_is_kept_and_none_is_needed(void **state)
{
    (void)state;
    struct metrics_hist h = {.count = 7};
    metrics_histogram(&m, "x", &h, NULL);
    m.text[m.len] = 0;
    assert_non_null(strstr(m.text, "x_bucket{le=\"+Inf\"} 7\nx_sum 0\nx_count 7\n"));
    free(m.text);
    m = (struct metrics){0};
}

static void much_text_has_room(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 50000; i++)
        metrics_u64(&m, "name", i, "label", "value", NULL);
    assert_memory_equal(m.text + m.len - 27, "\nname{label=\"value\"} 49999\n", 27);
    free(m.text);
    m = (struct metrics){0};
}

static void seconds_keep_nine_digits(void **state)
{
    (void)state;
    metrics_double(&m, "x", 1.25, NULL);
    metrics_double(&m, "x", 0.000012345, NULL);
    expect("x 1.25\nx 1.2345e-05\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_has_help_and_type),
        cmocka_unit_test(a_sample_without_labels_has_no_braces),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(a_histogram_is_cumulative_and_ends_with_inf_sum_and_count),
        cmocka_unit_test(every_label_of_a_histogram_is_kept_and_none_is_needed),
        cmocka_unit_test(much_text_has_room),
        cmocka_unit_test(seconds_keep_nine_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
