/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "targets/iscsi/text.h"

static struct text of(const void *p, size_t len)
{
    struct text t = {0};
    assert_true(text_append(&t, p, len));
    return t;
}

static enum text_next first(const void *p, size_t len)
{
    struct text t = of(p, len);
    size_t pos = 0;
    const char *key, *value;
    enum text_next r = text_next(&t, &pos, &key, &value);
    text_free(&t);
    return r;
}
#define FIRST(literal) first(literal, sizeof literal - 1)

static void pairs_come_in_order(void **state)
{
    (void)state;
    static const char in[] = "One=1\0Two=a=b\0Three=\0";
    struct text t = of(in, sizeof in - 1);
    size_t pos = 0;
    const char *key, *value;
    assert_int_equal(text_next(&t, &pos, &key, &value), TEXT_PAIR);
    assert_string_equal(key, "One");
    assert_string_equal(value, "1");
    assert_int_equal(text_next(&t, &pos, &key, &value), TEXT_PAIR);
    assert_string_equal(key, "Two");
    assert_string_equal(value, "a=b");
    assert_int_equal(text_next(&t, &pos, &key, &value), TEXT_PAIR);
    assert_string_equal(value, "");
    assert_int_equal(text_next(&t, &pos, &key, &value), TEXT_END);
    text_free(&t);
}

static void padding_zeroes_are_passed_over(void **state)
{
    (void)state;
    assert_int_equal(FIRST("\0\0\0"), TEXT_END);
    assert_int_equal(FIRST("\0A=b\0"), TEXT_PAIR);
    assert_int_equal(FIRST(""), TEXT_END);
}

static void malformed_pairs_are_refused(void **state)
{
    (void)state;
    assert_int_equal(FIRST("no equals\0"), TEXT_BAD);
    assert_int_equal(FIRST("=value\0"), TEXT_BAD);
    assert_int_equal(FIRST("sp ace=1\0"), TEXT_BAD);
    assert_int_equal(FIRST("unended=1"), TEXT_BAD);
    assert_int_equal(FIRST("\xff=1\0"), TEXT_BAD);
}

static void keys_and_values_have_their_longest(void **state)
{
    (void)state;
    char key[80];
    memset(key, 'k', sizeof key);
    memcpy(key + 63, "=v", 3);
    assert_int_equal(first(key, 66), TEXT_PAIR);
    memset(key, 'k', sizeof key);
    memcpy(key + 64, "=v", 3);
    assert_int_equal(first(key, 67), TEXT_BAD);
    char *value = test_calloc(1, TEXT_VALUE_MAX + 8);
    memset(value, 'v', TEXT_VALUE_MAX + 4);
    memcpy(value, "k=", 2);
    value[TEXT_VALUE_MAX + 2] = 0;
    assert_int_equal(first(value, TEXT_VALUE_MAX + 3), TEXT_PAIR);
    value[TEXT_VALUE_MAX + 2] = 'v';
    value[TEXT_VALUE_MAX + 3] = 0;
    assert_int_equal(first(value, TEXT_VALUE_MAX + 4), TEXT_BAD);
    test_free(value);
}

static void a_text_is_capped(void **state)
{
    (void)state;
    struct text t = {0};
    char part[1024] = {0};
    for (int i = 0; i < 64; i++)
        assert_true(text_append(&t, part, sizeof part));
    assert_false(text_append(&t, part, 1));
    assert_int_equal(t.len, TEXT_TOTAL_MAX);
    text_free(&t);
    t.max = 8;
    assert_true(text_add(&t, "Key", "%u", 123u));
    assert_false(text_add(&t, "K", "%s", "v"));
    text_free(&t);
}

static void numbers_are_decimal_or_hex(void **state)
{
    (void)state;
    unsigned n;
    assert_true(text_number("0", &n) && n == 0);
    assert_true(text_number("262144", &n) && n == 262144);
    assert_true(text_number("0x40000", &n) && n == 262144);
    assert_true(text_number("0XfF", &n) && n == 255);
    const char *bad[] = {"",   "-1", "+1", " 1",          "1 ",          "1k",
                         "0x", "ff", "1.", "99999999999", "0x1ffffffff", "4294967296"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(text_number(bad[i], &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_come_in_order),
        cmocka_unit_test(padding_zeroes_are_passed_over),
        cmocka_unit_test(malformed_pairs_are_refused),
        cmocka_unit_test(keys_and_values_have_their_longest),
        cmocka_unit_test(a_text_is_capped),
        cmocka_unit_test(numbers_are_decimal_or_hex),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
