/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lab.h"

#include <string.h>

/* ---- INQUIRY */

HARNESS_TEST(inquiry_tells_a_disk_of_spc_4)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x12, 0, 0, 0x02, 0, 0);
    check_int(io->in_len, 96);
    check_int(io->in[0], 0);
    check_int(io->in[2], 6);
    check_int(io->in[3] & 0x0f, 2);
    check_int(io->in[4], 96 - 5);
    check_int(io->in[7] & 0x02, 2);
    check(!memcmp(io->in + 8, "ORION   VIRTUAL-DISK    ", 24));
    check_int(be(io->in + 58, 2), 0x00a0);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(inquiry_is_cut_to_the_allocation_length)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x12, 0, 0, 0, 5, 0);
    check_int(io->in_len, 5);
    expect_good(io);
    io = CMD(lab, 0x12, 0, 0, 0, 0, 0);
    check_int(io->in_len, 0);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(inquiry_refuses_a_page_without_evpd_and_unknown_pages)
{
    struct lab *lab = lab_new();
    expect_field(CMD(lab, 0x12, 0, 0x80, 0, 255, 0), true, 2, 7);
    expect_field(CMD(lab, 0x12, 1, 0xc7, 0, 255, 0), true, 2, 7);
    lab_end(&lab);
}

HARNESS_TEST(vpd_page_00_lists_the_pages_and_each_is_there)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x12, 1, 0, 0, 255, 0);
    static const uint8_t want[] = {0,    0,    0,    12,   0x00, 0x80, 0x83, 0x86,
                                   0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0xb4};
    check_int(io->in_len, sizeof want);
    check(!memcmp(io->in, want, sizeof want));
    for (unsigned i = 4; i < sizeof want; i++) {
        struct io *page = CMD(lab, 0x12, 1, want[i], 4, 0, 0);
        check_int(page->in[1], want[i]);
        check_int(page->in_len, 4 + be(page->in + 2, 2));
        expect_good(page);
    }
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(identification_derives_from_the_identity)
{
    struct uuid id;
    check(uuid_parse("00112233-4455-6677-8899-aabbccddeeff", &id));
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "none", .identity = id});
    struct io *io = CMD(lab, 0x12, 1, 0x80, 0, 255, 0);
    check_int(io->in_len, 36);
    check(!memcmp(io->in + 4, "00112233445566778899aabbccddeeff", 32));
    expect_good(io);
    io = CMD(lab, 0x12, 1, 0x83, 4, 0, 0);
    const uint8_t *p = io->in + 4, *end = io->in + io->in_len;
    unsigned seen = 0;
    for (; p < end; p += 4 + p[3]) {
        check_int(p[3] % 4, 0);
        seen |= 1u << (p[1] & 0x0f);
        if ((p[1] & 0x3f) == 3) { /* NAA of the LUN */
            static const uint8_t naa[] = {0x38, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88};
            check_int(p[3], 8);
            check(!memcmp(p + 4, naa, 8));
        }
        if ((p[1] & 0x3f) == 0x18) {
            check_int(p[0], 0x53);
            check_int(p[1], 0x98);
            check(!strcmp((const char *)p + 4, "iqn.2026-11.lab:t,t,0x0001"));
        }
        if ((p[1] & 0x3f) == 0x14)
            check_int(be(p + 4, 4), 1);
    }
    check(p == end);
    check_int(seen, 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 8);
    expect_good(io);
    lab_free(&lab);
}

HARNESS_TEST(block_limits_are_those_enforced)
{
    lab_mem("m", 4 * LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m"});
    struct io *io = CMD(lab, 0x12, 1, 0xb0, 0, 255, 0);
    check_int(io->in_len, 64);
    check_int(io->in[4], 1);
    check_int(io->in[5], 255);
    check_int(be(io->in + 6, 2), 1);
    check_int(be(io->in + 8, 4), 16384);
    check_int(be(io->in + 20, 4), 1 << 20);
    check_int(be(io->in + 24, 4), 256);
    check_int(be(io->in + 28, 4), 8);
    check_int(be(io->in + 32, 4), 0x80000000u);
    check_int(be(io->in + 40, 4), 65535);
    expect_good(io);
    expect_field(CMD(lab, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x01, 0, 0), true, 10, 7);
    lab_end(&lab);
}

HARNESS_TEST(provisioning_page_says_thin_or_full)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x12, 1, 0xb2, 0, 255, 0);
    check_int(io->in_len, 8);
    check_int(io->in[5], 0xe4);
    check_int(io->in[6], 2);
    expect_good(io);
    lab_end(&lab);
    lab_mem("m", LAB_SIZE, 512);
    lab = lab_with(&(struct scsi_lun_args){.device = "m", .thin_given = true});
    io = CMD(lab, 0x12, 1, 0xb2, 0, 255, 0);
    check_int(io->in[5], 0);
    check_int(io->in[6], 0);
    expect_good(io);
    io = CMD(lab, 0x12, 1, 0xb0, 0, 255, 0);
    check_int(be(io->in + 20, 4), 0);
    expect_good(io);
    lab_end(&lab);
}

/* ---- LUNs that are not there, and the well-known one */

static struct io *at(struct lab *lab, const uint8_t lun[8], const void *cdb, unsigned len)
{
    struct io *io = io_new(lab->nexus, 0, 0, cdb, len);
    memcpy(io->cmd.lun, lun, 8);
    io_start(io);
    io_wait(io);
    return io;
}

static const uint8_t inquiry[6] = {0x12, 0, 0, 0, 255, 0}, test_unit_ready[6] = {0};
static const uint8_t report_luns[12] = {0xa0, 0, 2, 0, 0, 0, 0, 0, 1, 0};
static const uint8_t request_sense[6] = {0x03, 0, 0, 0, 252};

HARNESS_TEST(where_no_lun_is_inquiry_says_so)
{
    struct lab *lab = lab_new();
    static const uint8_t none[8] = {0, 5};
    struct io *io = at(lab, none, inquiry, 6);
    check_int(io->in[0], 0x7f);
    expect_good(io);
    expect_sense(at(lab, none, test_unit_ready, 6), SENSE_NO_SUCH_LUN);
    io = at(lab, none, request_sense, 6);
    check_int(io->in[2], 5);
    check_int(io->in[12], 0x25);
    expect_good(io);
    io = at(lab, none, report_luns, 12);
    check_int(be(io->in, 4), 16);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(lun_addresses_of_other_shapes_name_no_lun)
{
    struct lab *lab = lab_new();
    static const uint8_t bad[][8] = {
        {0, 0, 1},    /* a second level */
        {0x80, 0},    /* logical unit addressing */
        {0xc1, 0x02}, /* another well-known LUN */
        {0x01, 0},    /* bus 1 */
        {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect_sense(at(lab, bad[i], test_unit_ready, 6), SENSE_NO_SUCH_LUN);
    static const uint8_t flat[8] = {0x40, 0};
    expect_good(at(lab, flat, test_unit_ready, 6));
    lab_end(&lab);
}

HARNESS_TEST(the_well_known_lun_reports_luns)
{
    struct lab *lab = lab_new();
    static const uint8_t known[8] = {0xc1, 0x01};
    static const uint8_t read10[10] = {0x28}, page83[6] = {0x12, 1, 0x83, 0, 255},
                         pageb0[6] = {0x12, 1, 0xb0, 0, 255};
    struct io *io = at(lab, known, inquiry, 6);
    check_int(io->in[0], 0x1e);
    expect_good(io);
    expect_good(at(lab, known, test_unit_ready, 6));
    expect_good(at(lab, known, report_luns, 12));
    expect_good(at(lab, known, page83, 6));
    expect_field(at(lab, known, pageb0, 6), true, 2, 7);
    expect_sense(at(lab, known, read10, 10), SENSE_INVALID_OPCODE);
    lab_end(&lab);
}

HARNESS_TEST(report_luns_selects)
{
    struct lab *lab = lab_new();
    struct err e;
    lab_mem("n", LAB_SIZE, 512);
    check_int(scsi_lun_add(lab->target, &(struct scsi_lun_args){.lun = 300, .device = "n"}, &e), 0);
    struct io *io = CMD(lab, 0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0);
    static const uint8_t want[24] = {0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0x2c};
    check_int(io->in_len, 24);
    check(!memcmp(io->in, want, 24));
    expect_good(io);
    io = CMD(lab, 0xa0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0);
    check_int(io->in_len, 16);
    check_int(be(io->in + 8, 2), 0xc101);
    expect_good(io);
    io = CMD(lab, 0xa0, 0, 2, 0, 0, 0, 0, 0, 0, 20, 0, 0);
    check_int(io->in_len, 20);
    check_int(be(io->in, 4), 24);
    expect_good(io);
    expect_field(CMD(lab, 0xa0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0), true, 2, 7);
    lab_free(&lab);
    bdev_unregister(bdev_find("m"));
    bdev_unregister(bdev_find("n"));
}

/* ---- the rest */

HARNESS_TEST(request_sense_answers_in_both_formats)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x03, 0, 0, 0, 252, 0);
    check_int(io->in_len, 18);
    check_int(io->in[0], 0x70);
    expect_good(io);
    io = CMD(lab, 0x03, 1, 0, 0, 252, 0);
    check_int(io->in_len, 8);
    check_int(io->in[0], 0x72);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(task_management_functions_are_reported)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0);
    check_int(io->in_len, 4);
    check_int(io->in[0], 0xda);
    expect_good(io);
    io = CMD(lab, 0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 255, 0, 0);
    check_int(io->in_len, 16);
    check_int(io->in[3], 12);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(start_stop_leaves_the_lun_ready)
{
    struct lab *lab = lab_new();
    expect_good(CMD(lab, 0x1b, 1, 0, 0, 0, 0));
    expect_good(CMD(lab, 0x1b, 0, 0, 0, 1, 0));
    expect_good(CMD(lab, 0x00, 0, 0, 0, 0, 0));
    expect_field(CMD(lab, 0x1b, 0, 0, 0, 2, 0), true, 4, 1);
    expect_field(CMD(lab, 0x1b, 0, 0, 0, 0x30, 0), true, 4, 5);
    lab_end(&lab);
}

HARNESS_TEST(prevent_allow_is_accepted)
{
    struct lab *lab = lab_new();
    expect_good(CMD(lab, 0x1e, 0, 0, 0, 1, 0));
    expect_good(CMD(lab, 0x1e, 0, 0, 0, 0, 0));
    expect_field(CMD(lab, 0x1e, 0, 0, 0, 2, 0), true, 4, 1);
    lab_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inquiry_tells_a_disk_of_spc_4),
        cmocka_unit_test(inquiry_is_cut_to_the_allocation_length),
        cmocka_unit_test(inquiry_refuses_a_page_without_evpd_and_unknown_pages),
        cmocka_unit_test(vpd_page_00_lists_the_pages_and_each_is_there),
        cmocka_unit_test(identification_derives_from_the_identity),
        cmocka_unit_test(block_limits_are_those_enforced),
        cmocka_unit_test(provisioning_page_says_thin_or_full),
        cmocka_unit_test(where_no_lun_is_inquiry_says_so),
        cmocka_unit_test(lun_addresses_of_other_shapes_name_no_lun),
        cmocka_unit_test(the_well_known_lun_reports_luns),
        cmocka_unit_test(report_luns_selects),
        cmocka_unit_test(request_sense_answers_in_both_formats),
        cmocka_unit_test(task_management_functions_are_reported),
        cmocka_unit_test(start_stop_leaves_the_lun_ready),
        cmocka_unit_test(prevent_allow_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
