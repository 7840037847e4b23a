/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "base/text.h"

static size_t flaw(const char *text)
{
    return text_flaw(text, strlen(text));
}

static void text_of_any_script_has_no_flaw(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "plain ~",
                                       "\xc3\xa4",
                                       "\xc2\xa0",
                                       "\xe2\x82\xac",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(flaw(good[i]), strlen(good[i]));
}

static void what_is_no_utf_8_is_found(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "\x80",
        "\xbf",
        "\xc3",
        "\xc3(",
        "\xe2\x82",
        "\xe2(\xa1",
        "\xf0\x9f\x98", /* cut short */
        "\xc0\xaf",
        "\xc1\xbf",
        "\xe0\x9f\xbf",
        "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80",
        "\xed\xbf\xbf", /* surrogates */
        "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80",
        "\xfe",
        "\xff", /* too large */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[16] = "ok";
        strcat(text, wrong[i]);
        assert_int_equal(flaw(text), 2);
    }
}

static void control_characters_are_found(void **state)
{
    (void)state;
    assert_int_equal(flaw("a\nb"), 1);
    assert_int_equal(flaw("a\x1b[2J"), 1);
    assert_int_equal(flaw("ab\x7f"), 2);
    assert_int_equal(flaw("\xc2\x85"), 0); /* NEL, of C1 */
    assert_int_equal(text_flaw("a\0b", 3), 1);
}

static void a_check_names_field_and_byte(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(text_check("four", 4, "name", &e), 0);
    assert_int_equal(text_check("fiver", 4, "name", &e), -1);
    assert_non_null(strstr(e.msg, "5 bytes"));
    assert_int_equal(text_check("a\xff", 4, "name", &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.field, "name");
    assert_non_null(strstr(e.msg, "byte 1"));
}

static void what_is_shown_is_text_and_cut_between_characters(void **state)
{
    (void)state;
    char out[6];
    assert_string_equal(text_show("a\n\xff\0z", 5, out, sizeof out), "a???z");
    assert_string_equal(text_show("abc\xe2\x82\xac", 6, out, sizeof out), "abc");
    assert_string_equal(text_show("ab\xe2\x82\xac", 5, out, sizeof out), "ab\xe2\x82\xac");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_any_script_has_no_flaw),
        cmocka_unit_test(what_is_no_utf_8_is_found),
        cmocka_unit_test(control_characters_are_found),
        cmocka_unit_test(a_check_names_field_and_byte),
        cmocka_unit_test(what_is_shown_is_text_and_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
