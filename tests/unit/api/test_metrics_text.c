/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "api/metrics_text.h"

static char *text;
static size_t len;
static FILE *f;

static void begin(void)
{
    f = open_memstream(&text, &len);
}

static void expect(const char *wanted)
{
    fclose(f);
    assert_string_equal(text, wanted);
    free(text);
}

static void a_family_has_help_and_type(void **state)
{
    (void)state;
    begin();
    metrics_family(f, "orion_x_total", "counter", "Things.");
    expect("# HELP orion_x_total Things.\n# TYPE orion_x_total counter\n");
}

static void a_sample_without_labels_has_no_braces(void **state)
{
    (void)state;
    begin();
    metrics_u64(f, "x", 18446744073709551615u, NULL);
    expect("x 18446744073709551615\n");
}

static void labels_are_escaped(void **state)
{
    (void)state;
    begin();
    metrics_u64(f, "x", 1, "a", "q\"b\\c\nd", "e", "", NULL);
    expect("x{a=\"q\\\"b\\\\c\\nd\",e=\"\"} 1\n");
}

static void a_bucket_ends_with_its_bound(void **state)
{
    (void)state;
    begin();
    metrics_bucket(f, "x_bucket", "+Inf", 2, "device", "d", NULL);
    metrics_bucket(f, "x_bucket", "0.1", 2, NULL);
    expect("x_bucket{device=\"d\",le=\"+Inf\"} 2\nx_bucket{le=\"0.1\"} 2\n");
}

static void seconds_keep_nine_digits(void **state)
{
    (void)state;
    begin();
    metrics_double(f, "x", 1.25, NULL);
    metrics_double(f, "x", 0.000012345, NULL);
    expect("x 1.25\nx 1.2345e-05\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_has_help_and_type),
        cmocka_unit_test(a_sample_without_labels_has_no_braces),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(a_bucket_ends_with_its_bound),
        cmocka_unit_test(seconds_keep_nine_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
