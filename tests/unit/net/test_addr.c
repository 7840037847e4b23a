/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <netinet/in.h>
#include <string.h>

#include "net/net.h"

static const char *parse(const char *text, unsigned port, char out[NET_ADDR_TEXT])
{
    struct net_addr a;
    struct err e;
    if (net_addr_parse(text, port, "addr", &a, &e))
        return "refused";
    return net_addr_format(&a, out, NET_ADDR_TEXT);
}

#define parses_to(text, port, want)                        \
    do {                                                   \
        char out[NET_ADDR_TEXT];                           \
        assert_string_equal(parse(text, port, out), want); \
    } while (0)

static void every_form_of_an_address_is_understood(void **state)
{
    (void)state;
    parses_to("127.0.0.1:3260", 0, "127.0.0.1:3260");
    parses_to("127.0.0.1", 10809, "127.0.0.1:10809");
    parses_to("[::1]:99", 0, "[::1]:99");
    parses_to("[::1]", 3260, "[::1]:3260");
    parses_to("0.0.0.0:0", 0, "0.0.0.0:0");
    parses_to("unix:/run/x.sock", 0, "unix:/run/x.sock");
}

static void what_is_no_address_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",      ":1",      "127.0.0.1:",   "127.0.0.1:x", "127.0.0.1:65536",
        "[::1",  "[::1]x",  "::1:80",       "[]:1",        "unix:relative",
        "unix:", "1.2.3.4", "127.0.0.1:-1", "a b:1",       "127.0.0.1:123456",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        parses_to(wrong[i], 0, "refused");
}

static void a_refusal_names_the_field_and_what_was_expected(void **state)
{
    (void)state;
    struct net_addr a;
    struct err e;
    assert_int_equal(net_addr_parse("127.0.0.1", 0, "portal", &a, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
    assert_string_equal(e.field, "portal");
    assert_non_null(strstr(e.msg, "HOST:PORT"));
}

static void a_socket_path_may_be_107_bytes_long_and_no_longer(void **state)
{
    (void)state;
    char text[130] = "unix:/";
    memset(text + 6, 'a', 106);
    parses_to(text, 0, text);
    text[112] = 'b';
    parses_to(text, 0, "refused");
}

static bool local(const char *text)
{
    struct net_addr a;
    assert_int_equal(net_addr_parse(text, 1, "addr", &a, NULL), 0);
    return net_addr_is_local(&a);
}

static void only_loopback_and_unix_are_local(void **state)
{
    (void)state;
    assert_true(local("127.0.0.1"));
    assert_true(local("127.8.9.1"));
    assert_true(local("[::1]"));
    assert_true(local("unix:/a"));
    assert_false(local("0.0.0.0"));
    assert_false(local("[::]"));
    assert_false(local("10.0.0.1"));
    assert_false(local("[fe80::1]"));
}

static void an_unnamed_unix_peer_is_printed_bare(void **state)
{
    (void)state;
    struct net_addr a = {.ss.ss_family = AF_UNIX, .len = sizeof(sa_family_t)};
    char out[NET_ADDR_TEXT];
    assert_string_equal(net_addr_format(&a, out, sizeof out), "unix:");
}

HARNESS_TEST(a_name_is_resolved_in_a_task)
{
    char out[NET_ADDR_TEXT];
    const char *got = parse("localhost:80", 0, out);
    check(!strcmp(got, "127.0.0.1:80") || !strcmp(got, "[::1]:80"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_an_address_is_understood),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_refusal_names_the_field_and_what_was_expected),
        cmocka_unit_test(a_socket_path_may_be_107_bytes_long_and_no_longer),
        cmocka_unit_test(only_loopback_and_unix_are_local),
        cmocka_unit_test(an_unnamed_unix_peer_is_printed_bare),
        cmocka_unit_test(a_name_is_resolved_in_a_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
