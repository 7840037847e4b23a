/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/err.h"
#include "base/list.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/size.h"
#include "base/uuid.h"

/* ---- buf */
static void reading_past_the_end_gives_zero_and_stays_bad(void **state)
{
    (void)state;
    const uint8_t bytes[] = {1, 2, 3};
    struct rd r = rd_make(bytes, sizeof bytes);
    assert_int_equal(rd_be16(&r), 0x0102);
    assert_int_equal(rd_be32(&r), 0);
    assert_false(rd_ok(&r));
    assert_int_equal(rd_u8(&r), 0); /* though one byte would be there */
    assert_int_equal(rd_left(&r), 0);
}

static void a_huge_length_does_not_wrap_around(void **state)
{
    (void)state;
    const uint8_t bytes[] = {1, 2, 3};
    struct rd r = rd_make(bytes, sizeof bytes);
    rd_skip(&r, 1);
    assert_null(rd_bytes(&r, SIZE_MAX));
    assert_false(rd_ok(&r));
}

static void both_byte_orders_are_read_as_written(void **state)
{
    (void)state;
    uint8_t room[30];
    struct wr w = wr_make(room, sizeof room);
    wr_u8(&w, 0xab);
    wr_be24(&w, 0x123456);
    wr_le32(&w, 0xdeadbeef);
    wr_be64(&w, 0x0102030405060708);
    wr_le64(&w, 0x1122334455667788);
    assert_true(wr_ok(&w));
    assert_int_equal(room[1], 0x12);
    assert_int_equal(room[4], 0xef);
    struct rd r = rd_make(room, w.pos);
    assert_int_equal(rd_u8(&r), 0xab);
    assert_int_equal(rd_be24(&r), 0x123456);
    assert_int_equal(rd_le32(&r), 0xdeadbeef);
    assert_true(rd_be64(&r) == 0x0102030405060708);
    assert_true(rd_le64(&r) == 0x1122334455667788);
    assert_true(rd_ok(&r));
    assert_int_equal(rd_left(&r), 0);
}

static void writing_past_the_end_leaves_memory_alone(void **state)
{
    (void)state;
    uint8_t room[4] = {9, 9, 9, 9};
    struct wr w = wr_make(room, 3);
    wr_be32(&w, 0);
    assert_false(wr_ok(&w));
    assert_int_equal(room[0], 9);
    assert_int_equal(room[3], 9);
    wr_u8(&w, 1); /* would fit, but the cursor is bad */
    assert_int_equal(room[0], 9);
}

static void copy_of_missing_bytes_zeroes_the_target(void **state)
{
    (void)state;
    uint8_t out[4] = {7, 7, 7, 7};
    struct rd r = rd_make("ab", 2);
    rd_copy(&r, out, 4);
    assert_int_equal(out[0] | out[1] | out[2] | out[3], 0);
}

/* ---- crc32c: RFC 3720 appendix B.4 */
static void crc32c_matches_the_vectors_of_rfc_3720(void **state)
{
    (void)state;
    uint8_t data[32] = {0};
    assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
    memset(data, 0xff, 32);
    assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
}

static void crc32c_goes_on_in_pieces(void **state)
{
    (void)state;
    const char *text = "123456789";
    assert_int_equal(crc32c(0, text, 9), 0xe3069283);
    assert_int_equal(crc32c(crc32c(0, text, 4), text + 4, 5), 0xe3069283);
}

/* ---- size */
static void sizes_are_read_as_people_write_them(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"512", 512},
        {"10G", 10ull << 30},
        {"10GiB", 10ull << 30},
        {"10gb", 10ull << 30},
        {"4k", 4096},
        {"1T", 1ull << 40},
        {"100B", 100},
        {"18446744073709551615", UINT64_MAX},
    };
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t v = 1;
        if (!size_parse(good[i].text, &v) || v != good[i].bytes)
            fail_msg("%s gave %llu", good[i].text, (unsigned long long)v);
    }
}

static void wrong_and_overflowing_sizes_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "G",
                                        "-1",
                                        "+1",
                                        " 1",
                                        "1 G",
                                        "1.5G",
                                        "1GG",
                                        "0x10",
                                        "1Gi",
                                        "18446744073709551616",
                                        "99999999T"};
    uint64_t v;
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (size_parse(wrong[i], &v))
            fail_msg("'%s' was taken", wrong[i]);
}

static void sizes_are_shown_with_three_digits(void **state)
{
    (void)state;
    char out[16];
    assert_string_equal(size_format(1023, out), "1023 B");
    assert_string_equal(size_format(1536, out), "1.50 KiB");
    assert_string_equal(size_format(10ull << 30, out), "10.0 GiB");
    assert_string_equal(size_format(UINT64_MAX, out), "16.0 EiB");
}

/* ---- uuid */
static void both_forms_of_a_uuid_are_one(void **state)
{
    (void)state;
    struct uuid a, b;
    char text[UUID_TEXT];
    assert_true(uuid_parse("00112233-4455-6677-8899-aabbccddeeff", &a));
    assert_true(uuid_parse("00112233:44556677:8899AABB:CCDDEEFF", &b));
    assert_true(uuid_equal(&a, &b));
    assert_string_equal(uuid_format(&a, text), "00112233-4455-6677-8899-aabbccddeeff");
    assert_string_equal(uuid_format_md(&a, text), "00112233:44556677:8899aabb:ccddeeff");
}

static void a_uuid_of_the_wrong_length_is_refused(void **state)
{
    (void)state;
    struct uuid u = {{1}};
    assert_false(uuid_parse("", &u));
    assert_false(uuid_parse("0011", &u));
    assert_false(uuid_parse("00112233445566778899aabbccddeeff0", &u));
    assert_false(uuid_parse("0011223344556677889_aabbccddeeff", &u));
    assert_int_equal(u.b[0], 1);
}

static void random_uuids_are_of_version_4_and_differ(void **state)
{
    (void)state;
    struct uuid a = uuid_random(), b = uuid_random();
    assert_false(uuid_equal(&a, &b));
    assert_int_equal(a.b[6] >> 4, 4);
    assert_int_equal(a.b[8] >> 6, 2);
}

/* ---- list */
struct item {
    int n;
    struct list link;
};

static void entries_may_be_removed_while_a_list_is_walked(void **state)
{
    (void)state;
    struct list head = LIST_INIT(head);
    struct item item[5], *i, *tmp;
    for (int n = 0; n < 5; n++) {
        item[n].n = n;
        list_add_tail(&head, &item[n].link);
    }
    list_for_each_safe (i, tmp, &head, link)
        if (i->n % 2)
            list_del(&i->link);
    int sum = 0, count = 0;
    list_for_each (i, &head, link)
        sum += i->n, count++;
    assert_int_equal(count, 3);
    assert_int_equal(sum, 6);
    list_del(&item[1].link); /* a second removal does nothing */
    assert_ptr_equal(list_pop(&head), &item[0].link);
}

static void splice_moves_all_and_empties_the_source(void **state)
{
    (void)state;
    struct list a = LIST_INIT(a), b = LIST_INIT(b);
    struct item item[3] = {{.n = 0}, {.n = 1}, {.n = 2}};
    list_add_tail(&a, &item[0].link);
    list_add_tail(&b, &item[1].link);
    list_add_tail(&b, &item[2].link);
    list_splice_tail(&a, &b);
    assert_true(list_empty(&b));
    for (int n = 0; n < 3; n++)
        assert_ptr_equal(list_pop(&a), &item[n].link);
    assert_null(list_pop(&a));
}

/* ---- err */
static void each_error_has_one_name_and_exit_code(void **state)
{
    (void)state;
    for (int i = 1; i < ERR_CODE_COUNT; i++) {
        assert_int_equal(err_code_of_name(err_code_name(i)), i);
        assert_in_range(err_code_http(i), 400, 599);
        assert_in_range(err_code_exit(i), 1, 8);
    }
    assert_int_equal(err_code_of_name("no such"), ERR_INTERNAL);
}

static void a_prefix_keeps_code_and_field(void **state)
{
    (void)state;
    struct err e;
    assert_int_equal(err_set(&e, ERR_IN_USE, "name", "%s is busy", "a0"), -1);
    assert_int_equal(err_prefix(&e, "array %s", "a0"), -1);
    assert_int_equal(e.code, ERR_IN_USE);
    assert_string_equal(e.field, "name");
    assert_string_equal(e.msg, "array a0: a0 is busy");
    assert_int_equal(err_set(NULL, ERR_IO, "", "nobody listens"), -1);
}

static void a_message_may_quote_the_one_before(void **state)
{
    (void)state;
    struct err e;
    err_set(&e, ERR_IO, "", "first");
    err_set(&e, ERR_IO, "", "then: %s", e.msg);
    assert_string_equal(e.msg, "then: first");
}

/* ---- log */
static char *logged(void (*fn)(void))
{
    static char text[4096];
    char path[] = "/tmp/orion-log-XXXXXX";
    int fd = mkstemp(path), saved = dup(STDERR_FILENO);
    unlink(path);
    dup2(fd, STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    close(fd);
    close(saved);
    return text;
}

static void write_two_lines(void)
{
    log_warn("test", "one\ntwo \033[1m key=%d", 5);
    log_debug("test", "not shown");
}

static void a_log_message_is_one_line_whatever_is_in_it(void **state)
{
    (void)state;
    char *text = logged(write_two_lines);
    assert_non_null(strstr(text, " warn test: one?two ?[1m key=5\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void write_to_the_journal(void)
{
    log_set_journal(true);
    log_error("test", "bad");
    log_set_journal(false);
}

static void the_journal_gets_a_priority_instead_of_a_time(void **state)
{
    (void)state;
    assert_string_equal(logged(write_to_the_journal), "<3>test: bad\n");
}

static void write_many(void)
{
    for (int i = 0; i < 100; i++)
        log_every(1000, LOG_LEVEL_WARN, "test", "again");
}

static void a_rate_limited_line_comes_once(void **state)
{
    (void)state;
    char *text = logged(write_many);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void secrets_are_equal_as_a_whole(void **state)
{
    (void)state;
    assert_true(secret_equal("", "") && secret_equal("sesame", "sesame"));
    assert_false(secret_equal("sesame", "sesamE") || secret_equal("sesame", "sesame ") ||
                 secret_equal("sesame", "sesam") || secret_equal("", "s"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_past_the_end_gives_zero_and_stays_bad),
        cmocka_unit_test(a_huge_length_does_not_wrap_around),
        cmocka_unit_test(both_byte_orders_are_read_as_written),
        cmocka_unit_test(writing_past_the_end_leaves_memory_alone),
        cmocka_unit_test(copy_of_missing_bytes_zeroes_the_target),
        cmocka_unit_test(crc32c_matches_the_vectors_of_rfc_3720),
        cmocka_unit_test(crc32c_goes_on_in_pieces),
        cmocka_unit_test(sizes_are_read_as_people_write_them),
        cmocka_unit_test(wrong_and_overflowing_sizes_are_refused),
        cmocka_unit_test(sizes_are_shown_with_three_digits),
        cmocka_unit_test(both_forms_of_a_uuid_are_one),
        cmocka_unit_test(a_uuid_of_the_wrong_length_is_refused),
        cmocka_unit_test(random_uuids_are_of_version_4_and_differ),
        cmocka_unit_test(entries_may_be_removed_while_a_list_is_walked),
        cmocka_unit_test(splice_moves_all_and_empties_the_source),
        cmocka_unit_test(each_error_has_one_name_and_exit_code),
        cmocka_unit_test(a_prefix_keeps_code_and_field),
        cmocka_unit_test(a_message_may_quote_the_one_before),
        cmocka_unit_test(a_log_message_is_one_line_whatever_is_in_it),
        cmocka_unit_test(the_journal_gets_a_priority_instead_of_a_time),
        cmocka_unit_test(a_rate_limited_line_comes_once),
        cmocka_unit_test(secrets_are_equal_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
