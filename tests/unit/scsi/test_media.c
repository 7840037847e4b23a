/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ORWRITE, SANITIZE, FORMAT UNIT, READ DEFECT DATA, LOG SENSE and LOG SELECT. */
#include "lab.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "block/gate.h"
#include "drivers/drivers.h"
#include "drivers/fault/fault.h"

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

/* ---- SANITIZE and what outlives it */

static struct {
    uint8_t data[8192];
    size_t len;
    bool there;
} kept;

static int keep_load(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r)
{
    (void)id;
    if (!kept.there || strcmp(kind, "sanitize"))
        return -ENOENT;
    *data_r = xcalloc(1, kept.len);
    memcpy(*data_r, kept.data, kept.len);
    *len_r = kept.len;
    return 0;
}

static int keep_save(const char *kind, const struct uuid *id, const void *data, size_t len)
{
    (void)id;
    check(len <= sizeof kept.data);
    if (strcmp(kind, "sanitize"))
        return 0;
    memcpy(kept.data, data, len);
    kept.len = len;
    kept.there = true;
    return 0;
}

static int keep_forget(const char *kind, const struct uuid *id)
{
    (void)id;
    kept.there = kept.there && strcmp(kind, "sanitize");
    return 0;
}

static const struct scsi_store keep = {keep_load, keep_save, keep_forget, keep_load};

static void until_good(struct lab *lab)
{
    for (;;) {
        struct io *io = CMD(lab, 0, 0, 0, 0, 0, 0);
        bool good = io->cmd.status == SCSI_GOOD;
        io_free(&io);
        if (good)
            return;
        task_sleep_us(1000);
    }
}

static int read_as_other(void)
{
    uint8_t b[512];
    struct iovec iov = {b, sizeof b};
    struct bdev_user user = {.label = "a test"};
    struct err e;
    struct bio bio;
    struct bdev_desc *desc = bdev_open("m", CLAIM_SHARED_WRITE, &user, &e);
    bio_init(&bio, desc, BIO_READ, 0, sizeof b, NULL, NULL);
    bio_data(&bio, &iov, 1);
    bio.nexus = gate_nexus("another");
    int rc = bio_wait(&bio);
    bdev_close(&desc);
    return rc;
}

/* As after a loss of power: the record is there, and the device is registered anew. */
HARNESS_TEST(a_sanitize_cut_off_begins_anew_and_nobody_comes_before_it)
{
    scsi_set_store(&keep);
    struct lab *lab = lab_new();
    fill(lab, 7, 0x55);
    expect_good(overwrite(lab, 0x80, 0x1f, 2));
    check(kept.there);
    uint8_t record[sizeof kept.data];
    size_t len = kept.len;
    memcpy(record, kept.data, len);
    until_good(lab);
    check(!kept.there);
    check_int(read_as_other(), 0);
    fill(lab, 7, 0x55);
    lab_end(&lab);

    keep_save("sanitize", NULL, record, len);
    lab_mem("m", LAB_SIZE, 512);
    check_int(read_as_other(), -EBADE); /* no LUN is there yet */
    lab = lab_with(&(struct scsi_lun_args){.lun = 0, .device = "m", .label = "lab"});
    until_good(lab);
    check(!kept.there);
    check_int(read_as_other(), 0);
    struct io *io = CMD(lab, 0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0);
    check_int(io->in[0], 0xa5);
    expect_good(io);
    lab_end(&lab);
    scsi_set_store(NULL);
}

HARNESS_TEST(a_damaged_record_of_sanitize_lets_nobody_in)
{
    scsi_set_store(&keep);
    keep_save("sanitize", NULL, "nonsense, nonsense", 18);
    struct lab *lab = lab_new();
    struct io *io;
    do {
        io = CMD(lab, 0, 0, 0, 0, 0, 0);
        check_int(io->cmd.status, SCSI_CHECK_CONDITION);
        bool failed = io_code(io) == SENSE_SANITIZE_FAILED;
        io_free(&io);
        if (failed)
            break;
        task_sleep_us(1000);
    } while (true);
    check_int(read_as_other(), -EBADE);
    expect_good(overwrite(lab, 0, 1, 2));
    check_int(read_as_other(), 0);
    lab_end(&lab);
    scsi_set_store(NULL);
}

HARNESS_TEST(the_self_test_reads_the_first_block)
{
    struct err e = {0};
    struct bdev *fault;
    struct opts *o = opts_new(fault_driver.opts);
    lab_mem("m", LAB_SIZE, 512);
    check_int(opts_put(o, "on", "m", &e), 0);
    check_int(fault_driver.create("f", NULL, o, &fault, &e), 0);
    opts_free(&o);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "f"});
    expect_good(CMD(lab, 0x1d, 0x04, 0, 0, 0, 0));
    check_int(fault_set_rules(fault, "read:error=EIO", &e), 0);
    expect_good(CMD(lab, 0x1d, 0, 0, 0, 0, 0));
    expect_sense(CMD(lab, 0x1d, 0x04, 0, 0, 0, 0), SENSE_SELF_TEST_FAILED);
    expect_field(CMD(lab, 0x1d, 0x14, 0, 0, 0, 0), true, 1, 4);
    lab_free(&lab);
    bdev_unregister(bdev_find("f"));
    bdev_unregister(bdev_find("m"));
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
    check_int(list->in_len, 4 + 7);
    expect_good(list);
    expect_field(CMD(lab, 0x4d, 0, 0x7e, 0, 0, 0, 0, 1, 0, 0), true, 2, 5);
    expect_good(CMD(lab, 0x4c, 2, 0x40, 0, 0, 0, 0, 0, 0, 0));
    lab_end(&lab);
}

HARNESS_TEST(log_page_0c_tells_what_is_in_use)
{
    struct lab *lab = lab_new();
    uint8_t one[512] = {1};
    struct io *page = CMD(lab, 0x12, 1, 0xb2, 0, 64, 0);
    check_int(page->in[4], 11); /* 1 MiB in blocks */
    expect_good(page);
    static const struct {
        unsigned lba, blocks, sets;
    } steps[] = {{0, 0, 0}, {8, 8, 1}, {2048, 2048, 2}, {0, 8192 - 1, 4}};
    for (unsigned i = 0; i < 4; i++) {
        if (steps[i].blocks)
            expect_good(OUT(lab, one, 512, 0x41, 0, 0, 0, (uint8_t)(steps[i].lba >> 8), 0, 0,
                            (uint8_t)(steps[i].blocks >> 8), (uint8_t)steps[i].blocks, 0));
        struct io *io = CMD(lab, 0x4d, 0, 0x4c, 0, 0, 0, 0, 1, 0, 0);
        check_int(io->in_len, 4 + 12);
        check_int(be(io->in + 4, 4), 0x00020308);
        check_int(be(io->in + 8, 4), steps[i].sets);
        check_int(io->in[12], 1);
        expect_good(io);
    }
    lab_end(&lab);
}

HARNESS_TEST(a_full_lun_has_no_log_page_of_provisioning)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .thin_given = true});
    expect_field(CMD(lab, 0x4d, 0, 0x4c, 0, 0, 0, 0, 1, 0, 0), true, 2, 5);
    struct io *io = CMD(lab, 0x4d, 0, 0x40, 0xff, 0, 0, 0, 1, 0, 0);
    check_int(io->in_len, 4 + 6 * 2 + 2);
    expect_good(io);
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
        cmocka_unit_test(a_sanitize_cut_off_begins_anew_and_nobody_comes_before_it),
        cmocka_unit_test(a_damaged_record_of_sanitize_lets_nobody_in),
        cmocka_unit_test(the_self_test_reads_the_first_block),
        cmocka_unit_test(defect_lists_are_empty),
        cmocka_unit_test(format_without_data_changes_nothing),
        cmocka_unit_test(each_log_page_that_is_listed_is_there),
        cmocka_unit_test(log_page_0c_tells_what_is_in_use),
        cmocka_unit_test(a_full_lun_has_no_log_page_of_provisioning),
        cmocka_unit_test(a_full_lun_reports_all_blocks_as_mapped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
