/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "base/opts.h"

static const struct opt table[] = {
    {"level", OPT_ENUM, OPT_REQUIRED, .choices = "raid0|raid1|mirror", .help = "level"},
    {"chunk", OPT_SIZE, .min = 4096, .max = 1 << 20, .dflt = "512K", .help = "chunk"},
    {"count", OPT_UINT, .min = 1, .max = 10, .dflt = "3", .help = "count"},
    {"read_only", OPT_BOOL, .help = "read only"},
    {"name", OPT_NAME, .help = "name"},
    {"device", OPT_NAME, .max = 2, .help = "device"},
    {"path", OPT_PATH, .help = "path"},
    {"text", OPT_STRING, .max = 8, .help = "text"},
    {"members", OPT_LIST, .min = 1, .max = 3, .help = "members"},
    {.name = NULL},
};

static int setup(void **state)
{
    *state = opts_new(table);
    return 0;
}

static int teardown(void **state)
{
    struct opts *o = *state;
    opts_free(&o);
    assert_null(o);
    opts_free(&o); /* NULL is fine */
    return 0;
}

/* The error must name the field and contain what was expected. */
static void refused(struct opts *o, const char *name, const char *text, const char *expected)
{
    struct err e = {0};
    if (!opts_put(o, name, text, &e))
        fail_msg("%s took '%s'", name, text);
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.field, name);
    if (!strstr(e.msg, expected))
        fail_msg("'%s' does not tell '%s'", e.msg, expected);
}

static void taken(struct opts *o, const char *name, const char *text)
{
    struct err e = {0};
    if (opts_put(o, name, text, &e))
        fail_msg("%s=%s: %s", name, text, e.msg);
}

static void defaults_stand_but_are_not_set(void **state)
{
    struct opts *o = *state;
    assert_int_equal(opts_u64(o, "chunk"), 512 << 10);
    assert_int_equal(opts_u64(o, "count"), 3);
    assert_false(opts_bool(o, "read_only"));
    assert_null(opts_str(o, "text"));
    assert_false(opts_is_set(o, "chunk"));
    taken(o, "chunk", "512K");
    assert_true(opts_is_set(o, "chunk"));
}

static void a_size_without_a_letter_gets_a_hint(void **state)
{
    refused(*state, "chunk", "64", "did you mean 64K?");
    refused(*state, "chunk", "2M", "4.00 KiB to 1.00 MiB");
    refused(*state, "chunk", "lots", "expected a size");
    assert_int_equal(opts_u64(*state, "chunk"), 512 << 10);
}

static void numbers_keep_to_their_range(void **state)
{
    taken(*state, "count", "10");
    refused(*state, "count", "0", "1 to 10");
    refused(*state, "count", "11", "1 to 10");
    refused(*state, "count", "-1", "1 to 10");
    refused(*state, "count", "1x", "1 to 10");
    refused(*state, "count", "99999999999999999999999", "1 to 10");
    assert_int_equal(opts_u64(*state, "count"), 10);
}

static void truth_has_several_spellings(void **state)
{
    taken(*state, "read_only", "yes");
    assert_true(opts_bool(*state, "read_only"));
    taken(*state, "read_only", "0");
    assert_false(opts_bool(*state, "read_only"));
    refused(*state, "read_only", "maybe", "true or false");
}

static void a_choice_is_matched_whole(void **state)
{
    taken(*state, "level", "mirror");
    assert_string_equal(opts_str(*state, "level"), "mirror");
    refused(*state, "level", "raid", "one of raid0|raid1|mirror");
    refused(*state, "level", "raid10", "one of");
    refused(*state, "level", "", "one of");
    refused(*state, "level", "raid0|raid1", "one of");
}

static void names_keep_to_their_alphabet(void **state)
{
    taken(*state, "name", "a0_b.c-d");
    taken(*state, "name", "01234567890123456789012345678901");
    refused(*state, "name", "012345678901234567890123456789012", "at most 32");
    refused(*state, "name", "", "a name");
    refused(*state, "name", "-a", "a name");
    refused(*state, "name", "a b", "a name");
    refused(*state, "name", "p/v", "a name");
    taken(*state, "device", "p/v");
    taken(*state, "device", "a0");
    refused(*state, "device", "p/v/w", "POOL/VOLUME");
    refused(*state, "device", "p/", "POOL/VOLUME");
}

static void text_is_bounded_and_has_no_control_characters(void **state)
{
    taken(*state, "text", "12345678");
    refused(*state, "text", "123456789", "9 bytes long");
    refused(*state, "text", "a\nb", "control");
    refused(*state, "path", "etc/x", "absolute");
}

static void lists_come_as_text_or_as_an_array(void **state)
{
    struct err e;
    unsigned n;
    taken(*state, "members", "a,b,missing");
    char *const *v = opts_list(*state, "members", &n);
    assert_int_equal(n, 3);
    assert_string_equal(v[2], "missing");
    const char *const other[] = {"x"};
    assert_int_equal(opts_put_list(*state, "members", other, 1, &e), 0);
    v = opts_list(*state, "members", &n);
    assert_int_equal(n, 1);
    assert_string_equal(v[0], "x");
    refused(*state, "members", "a,b,c,d", "expected 1 to 3");
    refused(*state, "members", "a,,b", "empty");
    refused(*state, "members", "", "expected 1 to 3");
    assert_int_equal(opts_put_list(*state, "count", other, 1, &e), -1);
}

static void an_unknown_field_lists_the_known_ones(void **state)
{
    refused(*state, "chunks", "1", "level, chunk, count");
}

static void a_missing_required_field_is_named(void **state)
{
    struct err e;
    assert_int_equal(opts_check(*state, &e), -1);
    assert_string_equal(e.field, "level");
    taken(*state, "level", "raid1");
    assert_int_equal(opts_check(*state, &e), 0);
}

static void garbage_is_shown_short_and_printable(void **state)
{
    struct err e;
    char text[300];
    memset(text, 'x', sizeof text - 1);
    text[0] = '\033';
    text[sizeof text - 1] = 0;
    assert_int_equal(opts_put(*state, "count", text, &e), -1);
    assert_null(strchr(e.msg, '\033'));
    assert_in_range(strlen(e.msg), 1, 150);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(defaults_stand_but_are_not_set),
        TEST(a_size_without_a_letter_gets_a_hint),
        TEST(numbers_keep_to_their_range),
        TEST(truth_has_several_spellings),
        TEST(a_choice_is_matched_whole),
        TEST(names_keep_to_their_alphabet),
        TEST(text_is_bounded_and_has_no_control_characters),
        TEST(lists_come_as_text_or_as_an_array),
        TEST(an_unknown_field_lists_the_known_ones),
        TEST(a_missing_required_field_is_named),
        TEST(garbage_is_shown_short_and_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
