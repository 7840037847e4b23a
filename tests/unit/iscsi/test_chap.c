/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "targets/iscsi/chap.h"

static void digests_are_those_of_other_libraries(void **state)
{
    /* By Python's hashlib, over id 0x2a, "a secret of it" and the bytes 0 to 15. */
    static const struct {
        unsigned algorithm;
        const char *digest;
    } rows[] = {
        {5, "bfd218172f5977577dc0ef3c882415b1"},
        {6, "64cf43647b8944892af1b055c9a5f73a0fdc9d0a"},
        {7, "bed1b2cb5de6eb9fa6186cedbcf32e919c70f2f5b7806342acb956e339653b93"},
        {8, "37027b97031f1866d736cb2a769f6dbf80d0f80bcb3abea18ce3e3fbc2b55ba3"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint8_t challenge[16], digest[CHAP_DIGEST_MAX];
        char text[2 * CHAP_DIGEST_MAX + 1] = "";
        for (unsigned b = 0; b < sizeof challenge; b++)
            challenge[b] = (uint8_t)b;
        assert_true(chap_digest(rows[i].algorithm, 0x2a, "a secret of it", challenge,
                                sizeof challenge, digest));
        for (size_t b = 0; b < chap_digest_len(rows[i].algorithm); b++)
            snprintf(text + 2 * b, 3, "%02x", digest[b]);
        assert_string_equal(text, rows[i].digest);
    }
    assert_int_equal(chap_digest_len(1), 0);
}

static void binary_values_are_hex_or_base64(void **state)
{
    uint8_t out[8];
    (void)state;
    assert_int_equal(chap_binary("0xDEadbeef", out, 8), 4);
    assert_memory_equal(out, "\xde\xad\xbe\xef", 4);
    assert_int_equal(chap_binary("0x123", out, 8), 2);
    assert_memory_equal(out, "\x01\x23", 2);
    assert_int_equal(chap_binary("0b3q2+7w==", out, 8), 4);
    assert_memory_equal(out, "\xde\xad\xbe\xef", 4);
    assert_int_equal(chap_binary("0BAQID", out, 8), 3);
    assert_memory_equal(out, "\1\2\3", 3);
    assert_int_equal(chap_binary("0bAQI=", out, 8), 2);
    static const char *const bad[] = {"",
                                      "12",
                                      "0",
                                      "0x",
                                      "0xgg",
                                      "0y11",
                                      "0bAQI",
                                      "0bA=ID",
                                      "0b====",
                                      "0b****",
                                      "0x112233445566778899"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(chap_binary(bad[i], out, 8), -1);
}

static void credentials_that_cannot_be_are_refused_by_field(void **state)
{
    static const struct {
        struct iscsi_auth auth;
        const char *field;
    } rows[] = {
        {{.user = "u"}, "chap_secret"},
        {{.secret = "123456789012"}, "chap_user"},
        {{.user = "u", .secret = "12345678901"}, "chap_secret"},
        {{"u", "123456789012", "m", ""}, "mutual_secret"},
        {{"u", "123456789012", "", "abcdefghijkl"}, "mutual_user"},
        {{"", "", "m", "abcdefghijkl"}, "mutual_user"},
        {{"u", "123456789012", "m", "123456789012"}, "mutual_secret"},
    };
    (void)state;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {0};
        assert_int_equal(iscsi_auth_check(&rows[i].auth, &e), -1);
        assert_string_equal(e.field, rows[i].field);
        assert_null(strstr(e.msg, "1234")); /* no secret in a message */
    }
    assert_int_equal(iscsi_auth_check(&(struct iscsi_auth){0}, NULL), 0);
    struct iscsi_auth both = {"u", "123456789012", "m", "abcdefghijkl"};
    assert_int_equal(iscsi_auth_check(&both, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests_are_those_of_other_libraries),
        cmocka_unit_test(binary_values_are_hex_or_base64),
        cmocka_unit_test(credentials_that_cannot_be_are_refused_by_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
