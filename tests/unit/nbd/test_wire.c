/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "harness.h"

#include <errno.h>

#include "targets/nbd/nbd_wire.h"

enum {
    ALL_FLAGS = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM |
                NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_CACHE | NBD_FLAG_SEND_FAST_ZERO,
    SIZE = 1 << 20,
};

static const struct nbd_limits limits = {.size = SIZE, .max_payload = 64 << 10, .flags = ALL_FLAGS};

struct row {
    struct nbd_request q;
    enum nbd_error want;
};

static void check_rows(const struct nbd_limits *l, const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum nbd_error got = nbd_check_request(l, &rows[i].q);
        if (got != rows[i].want)
            fail_msg("row %zu: %s, expected %s", i, nbd_error_name(got),
                     nbd_error_name(rows[i].want));
    }
}
#define CHECK_ROWS(l, rows) check_rows(l, rows, sizeof rows / sizeof *rows)

#define REQ(t, f, o, n)                                          \
    {                                                            \
        .type = (t), .flags = (f), .offset = (o), .length = (n), \
        .payload = (t) == NBD_CMD_WRITE ? (n) : 0                \
    }

static void good_requests_pass(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {REQ(NBD_CMD_READ, 0, 0, 512), NBD_OK},
        {REQ(NBD_CMD_READ, NBD_CMD_FLAG_FUA, 0, 512), NBD_OK}, /* to be accepted, and ignored */
        {REQ(NBD_CMD_READ, 0, SIZE - 512, 512), NBD_OK},
        {REQ(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 512, 64 << 10), NBD_OK},
        {REQ(NBD_CMD_FLUSH, 0, 0, 0), NBD_OK},
        {REQ(NBD_CMD_FLUSH, NBD_CMD_FLAG_FUA, 0, 0), NBD_OK},
        {REQ(NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, SIZE), NBD_OK},
        {REQ(NBD_CMD_CACHE, 0, 0, SIZE), NBD_OK},
        {REQ(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, 0, SIZE), NBD_OK},
        {REQ(NBD_CMD_DISC, 0xffff, 1, 1), NBD_OK},
    };
    CHECK_ROWS(&limits, rows);
}

static void what_is_out_of_range_gets_the_error_of_its_command(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {REQ(NBD_CMD_READ, 0, SIZE, 512), NBD_EINVAL},
        {REQ(NBD_CMD_READ, 0, SIZE - 512, 1024), NBD_EINVAL},
        {REQ(NBD_CMD_READ, 0, UINT64_MAX - 511, 512), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE, 0, SIZE, 512), NBD_ENOSPC},
        {REQ(NBD_CMD_WRITE, 0, UINT64_MAX - 511, 1024), NBD_ENOSPC},
        {REQ(NBD_CMD_WRITE_ZEROES, 0, SIZE - 512, 1024), NBD_ENOSPC},
        {REQ(NBD_CMD_TRIM, 0, SIZE, 512), NBD_EINVAL},
        {REQ(NBD_CMD_CACHE, 0, SIZE, 512), NBD_EINVAL},
    };
    CHECK_ROWS(&limits, rows);
}

static void lengths_are_checked_and_any_byte_may_be_the_first(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {REQ(NBD_CMD_READ, 0, 1, 512), NBD_OK},
        {REQ(NBD_CMD_READ, 0, SIZE - 1, 1), NBD_OK},
        {REQ(NBD_CMD_WRITE, 0, 0, 100), NBD_OK},
        {REQ(NBD_CMD_TRIM, 0, 256, 513), NBD_OK},
        {REQ(NBD_CMD_READ, 0, 0, 0), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE, 0, 0, 0), NBD_EINVAL},
        {REQ(NBD_CMD_TRIM, 0, 0, 0), NBD_EINVAL},
        {REQ(NBD_CMD_READ, 0, 0, (64 << 10) + 1), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE, 0, 0, (64 << 10) + 512), NBD_EINVAL},
        {REQ(NBD_CMD_FLUSH, 0, 512, 0), NBD_EINVAL},
        {REQ(NBD_CMD_FLUSH, 0, 0, 512), NBD_EINVAL},
    };
    CHECK_ROWS(&limits, rows);
    struct nbd_limits structured = limits;
    structured.mode = NBD_MODE_STRUCTURED;
    static const struct row long_read[] = {
        {REQ(NBD_CMD_READ, 0, 0, (64 << 10) + 1), NBD_EOVERFLOW}};
    CHECK_ROWS(&structured, long_read);
}

static void unknown_commands_and_flags_are_invalid(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {REQ(7, 0, 0, 512), NBD_EINVAL}, /* BLOCK_STATUS was not negotiated */
        {REQ(8, 0, 0, 512), NBD_EINVAL},
        {REQ(0xffff, 0, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_READ, 1 << 2, 0, 512), NBD_EINVAL}, /* DF was not offered */
        {REQ(NBD_CMD_WRITE, NBD_CMD_FLAG_FAST_ZERO, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_TRIM, NBD_CMD_FLAG_NO_HOLE, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_CACHE, 1 << 15, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE_ZEROES, 1 << 3, 0, 512), NBD_EINVAL},
    };
    CHECK_ROWS(&limits, rows);
}

static void what_was_not_offered_is_invalid(void **state)
{
    (void)state;
    static const struct nbd_limits plain = {
        .size = SIZE, .max_payload = SIZE, .flags = NBD_FLAG_HAS_FLAGS};
    static const struct row rows[] = {
        {REQ(NBD_CMD_FLUSH, 0, 0, 0), NBD_EINVAL},
        {REQ(NBD_CMD_TRIM, 0, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_CACHE, 0, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 512), NBD_EINVAL},
        {REQ(NBD_CMD_WRITE, 0, 0, 512), NBD_OK},
    };
    CHECK_ROWS(&plain, rows);
}

static void a_read_only_export_permits_no_change(void **state)
{
    (void)state;
    struct nbd_limits ro = limits;
    ro.flags |= NBD_FLAG_READ_ONLY;
    static const struct row rows[] = {
        {REQ(NBD_CMD_WRITE, 0, 0, 512), NBD_EPERM},
        {REQ(NBD_CMD_WRITE, 0, SIZE, 512), NBD_EPERM},
        {REQ(NBD_CMD_TRIM, 0, 0, 512), NBD_EPERM},
        {REQ(NBD_CMD_WRITE_ZEROES, 0, 0, 512), NBD_EPERM},
        {REQ(NBD_CMD_READ, 0, 0, 512), NBD_OK},
        {REQ(NBD_CMD_FLUSH, 0, 0, 0), NBD_OK},
    };
    CHECK_ROWS(&ro, rows);
}

static void error_classes_become_the_errors_of_the_protocol(void **state)
{
    (void)state;
    static const struct {
        int error;
        struct nbd_request q;
        enum nbd_error want;
    } rows[] = {
        {0, REQ(NBD_CMD_READ, 0, 0, 0), NBD_OK},
        {-EIO, REQ(NBD_CMD_READ, 0, 0, 0), NBD_EIO},
        {-ENODATA, REQ(NBD_CMD_READ, 0, 0, 0), NBD_EIO},
        {-EILSEQ, REQ(NBD_CMD_READ, 0, 0, 0), NBD_EIO},
        {-ETIMEDOUT, REQ(NBD_CMD_READ, 0, 0, 0), NBD_EIO},
        {-EAGAIN, REQ(NBD_CMD_READ, 0, 0, 0), NBD_EIO},
        {-ENODEV, REQ(NBD_CMD_READ, 0, 0, 0), NBD_ESHUTDOWN},
        {-ENOSPC, REQ(NBD_CMD_WRITE, 0, 0, 0), NBD_ENOSPC},
        {-EROFS, REQ(NBD_CMD_WRITE, 0, 0, 0), NBD_EPERM},
        {-EBADE, REQ(NBD_CMD_WRITE, 0, 0, 0), NBD_EPERM},
        {-EINVAL, REQ(NBD_CMD_WRITE, 0, 0, 0), NBD_EINVAL},
        {-ENXIO, REQ(NBD_CMD_WRITE, 0, 0, 0), NBD_ENOSPC},
        {-ENXIO, REQ(NBD_CMD_READ, 0, 0, 0), NBD_EINVAL},
        {-ENOMEM, REQ(NBD_CMD_READ, 0, 0, 0), NBD_ENOMEM},
        {-EOPNOTSUPP, REQ(NBD_CMD_TRIM, 0, 0, 0), NBD_OK},
        {-EOPNOTSUPP, REQ(NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO, 0, 0), NBD_ENOTSUP},
        {-EOPNOTSUPP, REQ(NBD_CMD_WRITE_ZEROES, 0, 0, 0), NBD_EINVAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(nbd_error_name(nbd_error_of(rows[i].error, &rows[i].q)),
                            nbd_error_name(rows[i].want));
}

static void a_request_is_read_field_by_field(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {0x25, 0x60, 0x95, 0x13, 0x00, 0x11, 0x00, 0x06, 1, 2,
                                    3,    4,    5,    6,    7,    8,    0,    0,    0, 1,
                                    0,    0,    2,    0,    0,    0,    0x10, 0};
    struct rd r = rd_make(bytes, sizeof bytes);
    struct nbd_request q;
    assert_true(nbd_parse_request(&r, NBD_MODE_SIMPLE, &q));
    assert_int_equal(q.flags, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_FAST_ZERO);
    assert_int_equal(q.type, NBD_CMD_WRITE_ZEROES);
    assert_true(q.cookie == 0x0102030405060708ull);
    assert_true(q.offset == 0x100000200ull);
    assert_int_equal(q.length, 0x1000);
    for (size_t len = 0; len < sizeof bytes; len++) {
        r = rd_make(bytes, len);
        assert_false(nbd_parse_request(&r, NBD_MODE_SIMPLE, &q));
    }
}

static void an_extended_request_has_64_bits_of_length_and_tells_of_a_payload(void **state)
{
    (void)state;
    uint8_t bytes[NBD_EXTENDED_REQUEST_SIZE];
    struct nbd_request q;
    for (unsigned flags = 0; flags <= NBD_CMD_FLAG_PAYLOAD_LEN; flags += NBD_CMD_FLAG_PAYLOAD_LEN) {
        struct wr w = wr_make(bytes, sizeof bytes);
        wr_be32(&w, NBD_EXTENDED_REQUEST_MAGIC);
        wr_be16(&w, flags);
        wr_be16(&w, NBD_CMD_TRIM);
        wr_be64(&w, 9);
        wr_be64(&w, 1ull << 40);
        wr_be64(&w, 1ull << 41);
        struct rd r = rd_make(bytes, sizeof bytes);
        assert_true(nbd_parse_request(&r, NBD_MODE_EXTENDED, &q));
        assert_true(q.length == 1ull << 41 && q.offset == 1ull << 40 && q.cookie == 9);
        assert_true(q.payload == (flags ? 1ull << 41 : 0));
        r = rd_make(bytes, sizeof bytes);
        assert_false(nbd_parse_request(&r, NBD_MODE_STRUCTURED, &q));
    }
}

#define EXT(t, f, o, n, p)                                                      \
    {                                                                           \
        .type = (t), .flags = (f), .offset = (o), .length = (n), .payload = (p) \
    }

static void what_extended_headers_allow_is_allowed_with_them_only(void **state)
{
    (void)state;
    struct nbd_limits l = limits;
    l.flags |= NBD_FLAG_SEND_DF;
    l.mode = NBD_MODE_EXTENDED;
    l.allocation = true;
    l.size = 1ull << 50;
    enum { PAYLOAD = NBD_CMD_FLAG_PAYLOAD_LEN, STATUS = NBD_CMD_BLOCK_STATUS };
    static const struct row rows[] = {
        {EXT(NBD_CMD_WRITE, PAYLOAD, 0, 512, 512), NBD_OK},
        {EXT(NBD_CMD_WRITE, 0, 0, 0, 0), NBD_EINVAL},
        {EXT(NBD_CMD_READ, PAYLOAD, 0, 512, 512), NBD_EINVAL},
        {EXT(NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, 0), NBD_OK},
        {EXT(NBD_CMD_TRIM, 0, 0, 1ull << 50, 0), NBD_OK},
        {EXT(NBD_CMD_TRIM, 0, 1, 1ull << 50, 0), NBD_EINVAL},
        {EXT(NBD_CMD_WRITE_ZEROES, 0, 1, 1ull << 50, 0), NBD_ENOSPC},
        {EXT(STATUS, 0, 0, 1ull << 50, 0), NBD_OK},
        {EXT(STATUS, NBD_CMD_FLAG_REQ_ONE, 0, 1ull << 50, 0), NBD_OK},
        {EXT(STATUS, 0, 0, 0, 0), NBD_EINVAL},
        {EXT(STATUS, PAYLOAD, 0, 12, 12), NBD_OK},
        {EXT(STATUS, PAYLOAD, 0, 8, 8), NBD_EINVAL},
        {EXT(STATUS, PAYLOAD, 0, 4096, 4096), NBD_EINVAL},
    };
    CHECK_ROWS(&l, rows);
    l.mode = NBD_MODE_STRUCTURED;
    static const struct row before[] = {
        {EXT(STATUS, 0, 0, 512, 0), NBD_OK},
        {EXT(STATUS, PAYLOAD, 0, 512, 0), NBD_EINVAL},
        {EXT(NBD_CMD_WRITE, PAYLOAD, 0, 512, 512), NBD_EINVAL},
    };
    CHECK_ROWS(&l, before);
    l.allocation = false;
    static const struct row without[] = {{EXT(STATUS, 0, 0, 512, 0), NBD_EINVAL}};
    CHECK_ROWS(&l, without);
}

static void the_payload_of_block_status_names_each_context_once(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[16];
        size_t len;
        enum nbd_error want;
    } rows[] = {
        {{0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1}, 12, NBD_OK},
        {{0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 2}, 12, NBD_EINVAL},
        {{0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 1}, 16, NBD_EINVAL},
        {{0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0}, 13, NBD_EINVAL},
        {{0, 0, 1, 0, 0, 0, 2, 0}, 8, NBD_EINVAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct nbd_request q = {.type = NBD_CMD_BLOCK_STATUS};
        struct rd r = rd_make(rows[i].bytes, rows[i].len);
        assert_int_equal(nbd_parse_status_payload(&r, &q), rows[i].want);
        assert_true(rows[i].want || q.length == 0x10000000200ull);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_requests_pass),
        cmocka_unit_test(what_is_out_of_range_gets_the_error_of_its_command),
        cmocka_unit_test(lengths_are_checked_and_any_byte_may_be_the_first),
        cmocka_unit_test(unknown_commands_and_flags_are_invalid),
        cmocka_unit_test(what_was_not_offered_is_invalid),
        cmocka_unit_test(a_read_only_export_permits_no_change),
        cmocka_unit_test(error_classes_become_the_errors_of_the_protocol),
        cmocka_unit_test(a_request_is_read_field_by_field),
        cmocka_unit_test(an_extended_request_has_64_bits_of_length_and_tells_of_a_payload),
        cmocka_unit_test(what_extended_headers_allow_is_allowed_with_them_only),
        cmocka_unit_test(the_payload_of_block_status_names_each_context_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
