/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "client/client.h"

static int parse(const char *text, struct client_reply *r)
{
    struct err e;
    return client_parse(text, strlen(text), r, &e);
}

static void status_headers_and_body_are_found(void **state)
{
    (void)state;
    struct client_reply r;
    assert_int_equal(parse("HTTP/1.1 201 Created\r\nETag: \"5\"\r\nlocation:/v1/x\r\n"
                           "Content-Length: 2\r\n\r\n{}trailing",
                           &r),
                     0);
    assert_int_equal(r.status, 201);
    assert_string_equal(r.etag, "\"5\"");
    assert_string_equal(r.location, "/v1/x");
    assert_string_equal(r.body, "{}");
    client_reply_clear(&r);
}

static void chunks_are_joined(void **state)
{
    (void)state;
    struct client_reply r;
    assert_int_equal(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                           "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
                           &r),
                     0);
    assert_string_equal(r.body, "abc0123456789");
    assert_int_equal(r.len, 13);
    client_reply_clear(&r);
}

static void a_body_without_length_ends_with_the_connection(void **state)
{
    (void)state;
    struct client_reply r;
    assert_int_equal(parse("HTTP/1.0 200 OK\r\n\r\nall of it", &r), 0);
    assert_string_equal(r.body, "all of it");
    client_reply_clear(&r);
}

static void what_is_cut_off_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nab\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n"};
    struct client_reply r;
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!parse(wrong[i], &r))
            fail_msg("taken: %s", wrong[i]);
}

static void no_daemon_is_told_from_no_permission(void **state)
{
    (void)state;
    struct client_reply r;
    struct err e;
    struct client_peer p = {.addr = "unix:/nonexistent/x"};
    struct client_request q = {.peer = &p, .method = "GET", .path = "/"};
    assert_int_equal(client_send(&q, &r, &e), -1);
    assert_int_equal(e.code, ERR_IO);
    assert_non_null(strstr(e.msg, "/nonexistent/x"));
    p.addr = "nonsense";
    assert_int_equal(client_send(&q, &r, &e), -1);
    assert_int_equal(e.code, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_headers_and_body_are_found),
        cmocka_unit_test(chunks_are_joined),
        cmocka_unit_test(a_body_without_length_ends_with_the_connection),
        cmocka_unit_test(what_is_cut_off_is_refused),
        cmocka_unit_test(no_daemon_is_told_from_no_permission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
