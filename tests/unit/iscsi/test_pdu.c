/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <string.h>

#include "targets/iscsi/pdu.h"

static void header_fields_are_where_the_rfc_puts_them(void **state)
{
    (void)state;
    /* A SCSI Command, RFC 7143 11.3: W bit, SIMPLE, 8 KiB immediate data, LUN 3, WRITE(10). */
    const uint8_t bhs[ISCSI_BHS] = {
        0x41, 0xa1, 0,    0,    2, 0x00, 0x20, 0x00, 0, 3, 0, 0, 0, 0, 0, 0, /* LUN */
        0xde, 0xad, 0xbe, 0xef, 0, 0,    0x40, 0,    0, 0, 1, 2, 0, 0, 3, 4, /* itt, edtl, sns */
        0x2a, 0,    0,    0,    0, 9,    0,    0,    8, 0, 0, 0, 0, 0, 0, 5};
    struct iscsi_pdu p;
    iscsi_pdu_parse(&p, bhs);
    assert_int_equal(p.op, OP_SCSI_CMD);
    assert_true(p.immediate);
    assert_int_equal(p.flags, F_FINAL | F_CMD_WRITE | 1);
    assert_int_equal(p.ahs_len, 8);
    assert_int_equal(p.data_len, 8192);
    assert_int_equal(p.lun[1], 3);
    assert_int_equal(p.itt, 0xdeadbeef);
    assert_int_equal(p.w20, 0x4000);
    assert_int_equal(p.w24, 0x102);
    assert_int_equal(p.w28, 0x304);
    assert_int_equal(p.cdb[0], 0x2a);
    assert_int_equal(p.w44, 5);
}

static void building_undoes_parsing(void **state)
{
    (void)state;
    uint8_t in[ISCSI_BHS], out[ISCSI_BHS];
    for (unsigned i = 0; i < sizeof in; i++)
        in[i] = (uint8_t)(i * 37 + 5);
    in[0] &= 0x7f; /* reserved bit */
    in[4] = 0;     /* no additional headers */
    struct iscsi_pdu p;
    iscsi_pdu_parse(&p, in);
    iscsi_pdu_build(&p, out);
    assert_memory_equal(in, out, sizeof in);
}

static void serial_numbers_wrap(void **state)
{
    (void)state;
    assert_true(sn_before(1, 2));
    assert_false(sn_before(2, 2));
    assert_true(sn_before(0xffffffff, 0));
    assert_false(sn_before(0, 0xffffffff));
}

static void an_extended_cdb_is_found(void **state)
{
    (void)state;
    const uint8_t ahs[] = {0, 5,  2, 0, 0, 0, 0, 9, /* bidirectional read length */
                           0, 17, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    const uint8_t *cdb;
    size_t len;
    assert_true(iscsi_ahs_cdb(ahs, sizeof ahs, &cdb, &len));
    assert_int_equal(len, 16);
    assert_int_equal(cdb[0], 1);
    assert_int_equal(cdb[15], 16);
    assert_true(iscsi_ahs_cdb(ahs, 0, &cdb, &len));
    assert_null(cdb);
}

static void malformed_additional_headers_are_refused(void **state)
{
    (void)state;
    const uint8_t *cdb;
    size_t len;
    const uint8_t too_long[] = {0, 200, 1, 0, 0, 0, 0, 0}, unknown[] = {0, 1, 9, 0},
                  empty[] = {0, 0, 1, 0}, cut[] = {0, 1};
    assert_false(iscsi_ahs_cdb(too_long, sizeof too_long, &cdb, &len));
    assert_false(iscsi_ahs_cdb(unknown, sizeof unknown, &cdb, &len));
    assert_false(iscsi_ahs_cdb(empty, sizeof empty, &cdb, &len));
    assert_false(iscsi_ahs_cdb(cut, sizeof cut, &cdb, &len));
}

static void padding_fills_to_four(void **state)
{
    (void)state;
    const unsigned pad[] = {0, 3, 2, 1, 0};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(iscsi_pad(i), pad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_fields_are_where_the_rfc_puts_them),
        cmocka_unit_test(building_undoes_parsing),
        cmocka_unit_test(serial_numbers_wrap),
        cmocka_unit_test(an_extended_cdb_is_found),
        cmocka_unit_test(malformed_additional_headers_are_refused),
        cmocka_unit_test(padding_fills_to_four),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
