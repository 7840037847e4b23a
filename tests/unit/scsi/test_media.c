/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ORWRITE, SANITIZE, FORMAT UNIT, READ DEFECT DATA, LOG SENSE and LOG SELECT. */
#include "lab.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

static void fill(struct lab *lab, unsigned lba, uint8_t byte)
{
    uint8_t data[512];
    memset(data, byte, sizeof data);
    expect_good(OUT(lab, data, 512, 0x2a, 0, 0, 0, (uint8_t)(lba >> 8), (uint8_t)lba, 0, 0, 1, 0));
}

static void expect_fill(struct lab *lab, unsigned lba, uint8_t byte)
{
    struct io *io = CMD(lab, 0x28, 0, 0, 0, (uint8_t)(lba >> 8), (uint8_t)lba, 0, 0, 1, 0);
    check_int(io->in_len, 512);
    for (unsigned i = 0; i < 512; i++)
        check_int(io->in[i], byte);
    expect_good(io);
}

HARNESS_TEST(orwrite_ors)
{
    struct lab *lab = lab_new();
    uint8_t data[1024];
    memset(data, 0xf0, sizeof data);
    fill(lab, 4, 0x0c);
    expect_good(OUT(lab, data, 1024, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0));
    expect_fill(lab, 4, 0xfc);
    expect_fill(lab, 5, 0xf0);
    expect_good(CMD(lab, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0));
    expect_sense(OUT(lab, data, 512, 0x8b, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 1, 0, 0),
                 SENSE_LBA_OUT_OF_RANGE);
    lab_end(&lab);
}

HARNESS_TEST(block_erase_zeroes_everything)
{
    struct lab *lab = lab_new();
    fill(lab, 0, 0x55);
    fill(lab, 8191, 0x55);
    expect_good(CMD(lab, 0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0));
    expect_fill(lab, 0, 0);
    expect_fill(lab, 8191, 0);
    expect_field(CMD(lab, 0x48, 3, 0, 0, 0, 0, 0, 0, 0, 0), true, 1, 4); /* crypto erase */
    lab_end(&lab);
}

static struct io *overwrite(struct lab *lab, unsigned immed, unsigned flags, unsigned length)
{
    uint8_t list[6] = {(uint8_t)flags, 0, 0, (uint8_t)length, 0xa5, 0x5a};
    return OUT(lab, list, 6, 0x48, (uint8_t)(immed | 1), 0, 0, 0, 0, 0, 0, 6, 0);
}

HARNESS_TEST(overwrite_puts_the_pattern_inverted_between)
{
    struct lab *lab = lab_new();
    expect_good(overwrite(lab, 0, 0x80 | 2, 2));
    struct io *io = CMD(lab, 0x28, 0, 0, 0, 0x1f, 0xff, 0, 0, 1, 0);
    check_int(io->in[0], 0x5a);
    check_int(io->in[511], 0xa5);
    expect_good(io);
    expect_field(overwrite(lab, 0, 0, 2), false, 0, 4);
    expect_field(overwrite(lab, 0, 0x21, 2), false, 0, 6);
    expect_field(overwrite(lab, 0, 1, 3), false, 2, 7);
    lab_end(&lab);
}

HARNESS_TEST(a_lun_being_sanitized_is_not_ready_and_tells_how_far_it_is)
{
    struct lab *lab = lab_new();
    expect_good(overwrite(lab, 0x80, 0x1f, 2));
    struct io *io = CMD(lab, 0, 0, 0, 0, 0, 0);
    check_int(io_code(io), SENSE_SANITIZING);
    check_int(io->cmd.sense[15], 0x80);
    io_free(&io);
    expect_sense(overwrite(lab, 0x80, 1, 2), SENSE_SANITIZING);
    check_int(lab_tmf(lab->nexus, 0, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_LUN_RESET);
    expect_sense(CMD(lab, 0, 0, 0, 0, 0, 0), SENSE_SANITIZING);
    io = CMD(lab, 3, 0, 0, 0, 18, 0);
    check_int(io->in[2], 2);
    check_int(be(io->in + 12, 2), 0x041b);
    check_int(io->in[15], 0x80);
    expect_good(io);
    expect_good(CMD(lab, 0x12, 0, 0, 0, 36, 0));
    for (;;) {
        io = CMD(lab, 0, 0, 0, 0, 0, 0);
        bool good = io->cmd.status == SCSI_GOOD;
        io_free(&io);
        if (good)
            break;
        task_sleep_us(1000);
    }
    expect_good(CMD(lab, 0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0));
    lab_end(&lab);
}

HARNESS_TEST(defect_lists_are_empty)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x37, 0, 0x18, 0, 0, 0, 0, 0, 255, 0);
    check_int(be(io->in, 4), 0x00180000);
    check_int(io->in_len, 4);
    expect_good(io);
    io = CMD(lab, 0xb7, 0x18, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0);
    check_int(io->in_len, 8);
    check_int(io->in[1], 0x18);
    check_int(be(io->in + 4, 4), 0);
    expect_good(io);
    expect_field(CMD(lab, 0x37, 0, 0x1a, 0, 0, 0, 0, 0, 255, 0), true, 2, 2);
    lab_end(&lab);
}

HARNESS_TEST(format_without_data_changes_nothing)
{
    struct lab *lab = lab_new();
    fill(lab, 1, 0x77);
    expect_good(CMD(lab, 4, 0, 0, 0, 0, 0));
    expect_fill(lab, 1, 0x77);
    expect_field(CMD(lab, 4, 0x10, 0, 0, 0, 0), true, 1, 4);
    lab_end(&lab);
}

HARNESS_TEST(each_log_page_that_is_listed_is_there)
{
    struct lab *lab = lab_new();
    struct io *list = CMD(lab, 0x4d, 0, 0x40, 0, 0, 0, 0, 1, 0, 0);
    check_int(be(list->in + 2, 2), list->in_len - 4);
    for (unsigned i = 4; i < list->in_len; i++) {
        struct io *io = CMD(lab, 0x4d, 0, 0x40 | list->in[i], 0, 0, 0, 0, 1, 0, 0);
        check_int(io->in[0] & 0x3f, list->in[i]);
        check_int(be(io->in + 2, 2), io->in_len - 4);
        expect_good(io);
    }
    check_int(list->in_len, 4 + 6);
    expect_good(list);
    expect_field(CMD(lab, 0x4d, 0, 0x7e, 0, 0, 0, 0, 1, 0, 0), true, 2, 5);
    expect_good(CMD(lab, 0x4c, 2, 0x40, 0, 0, 0, 0, 0, 0, 0));
    lab_end(&lab);
}

HARNESS_TEST(a_full_lun_reports_all_blocks_as_mapped)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(
        &(struct scsi_lun_args){.device = "m", .thin = false, .thin_given = true, .label = "lab"});
    struct io *io = CMD(lab, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0);
    check_int(io->in_len, 24);
    check_int(io->in[20], 0);
    expect_good(io);
    lab_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orwrite_ors),
        cmocka_unit_test(block_erase_zeroes_everything),
        cmocka_unit_test(overwrite_puts_the_pattern_inverted_between),
        cmocka_unit_test(a_lun_being_sanitized_is_not_ready_and_tells_how_far_it_is),
        cmocka_unit_test(defect_lists_are_empty),
        cmocka_unit_test(format_without_data_changes_nothing),
        cmocka_unit_test(each_log_page_that_is_listed_is_there),
        cmocka_unit_test(a_full_lun_reports_all_blocks_as_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
