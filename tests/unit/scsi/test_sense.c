/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <errno.h>
#include <string.h>

#include "targets/scsi/scsi.h"
#include "targets/scsi/sense.h"

static void fixed_format_carries_key_codes_and_information(void **state)
{
    (void)state;
    struct sense s = {.code = SENSE_READ_ERROR, .has_info = true, .info = 0x01020304};
    uint8_t out[32];
    static const uint8_t want[18] = {0xf0, 0, 3, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0};
    assert_int_equal(sense_format(&s, false, out, sizeof out), 18);
    assert_memory_equal(out, want, 18);
}

static void fixed_format_leaves_out_an_lba_that_does_not_fit(void **state)
{
    (void)state;
    struct sense s = {.code = SENSE_READ_ERROR, .has_info = true, .info = 1ull << 32};
    uint8_t out[32];
    sense_format(&s, false, out, sizeof out);
    assert_int_equal(out[0], 0x70);
    assert_int_equal(out[3] | out[4] | out[5] | out[6], 0);
}

static void fixed_format_points_at_the_field(void **state)
{
    (void)state;
    struct sense s = {.code = SENSE_INVALID_FIELD_IN_CDB,
                      .has_field = true,
                      .field_in_cdb = true,
                      .bit = 7,
                      .field = 1};
    uint8_t out[32];
    sense_format(&s, false, out, sizeof out);
    assert_int_equal(out[15], 0xcf);
    assert_int_equal(out[17], 1);
    s.field_in_cdb = false;
    s.bit = 0xff;
    sense_format(&s, false, out, sizeof out);
    assert_int_equal(out[15], 0x80);
}

static void descriptor_format_has_what_is_known(void **state)
{
    (void)state;
    struct sense s = {.code = SENSE_LBA_OUT_OF_RANGE, .has_info = true, .info = 0x123456789a};
    uint8_t out[32];
    static const uint8_t want[20] = {0x72, 5, 0x21, 0, 0, 0,    0,    12,   0,    10,
                                     0x80, 0, 0,    0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a};
    assert_int_equal(sense_format(&s, true, out, sizeof out), 20);
    assert_memory_equal(out, want, 20);
    s = (struct sense){.code = SENSE_INVALID_FIELD_IN_PARAMETERS, .has_field = true, .field = 9};
    assert_int_equal(sense_format(&s, true, out, sizeof out), 16);
    assert_int_equal(out[7], 8);
    assert_int_equal(out[8], 2);
    assert_int_equal(out[12], 0x88);
    assert_int_equal(out[14], 9);
}

static void a_buffer_too_small_is_never_overrun(void **state)
{
    (void)state;
    struct sense s = {.code = SENSE_READ_ERROR};
    uint8_t out[32];
    memset(out, 0xee, sizeof out);
    assert_true(sense_format(&s, false, out, 8) <= 8);
    assert_int_equal(out[8], 0xee);
}

static void each_class_has_its_sense(void **state)
{
    (void)state;
    static const struct {
        int error;
        bool write;
        uint8_t status;
        enum sense_code code;
    } rows[] = {
        {-EIO, false, 0x02, 0x031100},
        {-EIO, true, 0x02, 0x030c00},
        {-ENODATA, false, 0x02, 0x031100},
        {-EILSEQ, false, 0x02, 0x031000},
        {-ENODEV, true, 0x02, 0x020401},
        {-ENOSPC, true, 0x02, 0x072707},
        {-EROFS, true, 0x02, 0x072700},
        {-EUCLEAN, true, 0x02, 0x0e1d00},
        {-EBADE, true, 0x18, 0},
        {-EAGAIN, true, 0x08, 0},
        {-EINVAL, true, 0x02, 0x044400},
        {-ENXIO, false, 0x02, 0x052100},
        {-ETIMEDOUT, false, 0x02, 0x0b0801},
        {-EOPNOTSUPP, true, 0x02, 0x052000},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum sense_code code = SENSE_NONE;
        assert_int_equal(sense_of_errno(rows[i].error, rows[i].write, &code), rows[i].status);
        assert_int_equal(code, rows[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_format_carries_key_codes_and_information),
        cmocka_unit_test(fixed_format_leaves_out_an_lba_that_does_not_fit),
        cmocka_unit_test(fixed_format_points_at_the_field),
        cmocka_unit_test(descriptor_format_has_what_is_known),
        cmocka_unit_test(a_buffer_too_small_is_never_overrun),
        cmocka_unit_test(each_class_has_its_sense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
