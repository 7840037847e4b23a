/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lab.h"

#include <errno.h>
#include <string.h>

#include "drivers/drivers.h"
#include "drivers/fault/fault.h"

enum { CURRENT = 0, CHANGEABLE = 0x40, DEFAULT = 0x80, SAVED = 0xc0 };

static struct io *sense6(struct lab *lab, unsigned page_and_pc)
{
    return CMD(lab, 0x1a, 0x08, (uint8_t)page_and_pc, 0, 255, 0);
}

static unsigned page_byte(struct lab *lab, unsigned page_and_pc, unsigned byte)
{
    struct io *io = sense6(lab, page_and_pc);
    unsigned v = io->in[4 + byte];
    expect_good(io);
    return v;
}

/* MODE SELECT(6) of the control page. */
static struct io *set_control(struct lab *lab, unsigned d_sense, unsigned swp)
{
    uint8_t list[16] = {
        0, 0, 0, 0, 0x0a, 10, (uint8_t)(0x22 | d_sense << 2), 0x10, (uint8_t)(swp << 3), 0x40};
    return OUT(lab, list, sizeof list, 0x15, 0x10, 0, 0, 16, 0);
}

HARNESS_TEST(all_pages_come_in_order)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x1a, 0, 0x3f, 0, 255, 0);
    check_int(io->in_len, 4u + 8 + 12 + 20 + 12 + 12);
    check_int(io->in[0], io->in_len - 1);
    check_int(io->in[2], 0x10);
    check_int(io->in[3], 8);
    check_int(be(io->in + 4, 4), LAB_SIZE / 512);
    check_int(be(io->in + 9, 3), 512);
    check_int(io->in[12], 0x01);
    check_int(io->in[24], 0x08);
    check_int(io->in[44], 0x0a);
    check_int(io->in[56], 0x1c);
    expect_good(io);
    io = CMD(lab, 0x1a, 8, 0x3f, 0xff, 255, 0);
    check_int(io->in_len, 4u + 12 + 20 + 12 + 12 + 24);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(ten_byte_form_has_long_block_descriptors)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x5a, 0x10, 0x0a, 0, 0, 0, 0, 0, 255, 0);
    check_int(io->in_len, 8u + 16 + 12);
    check_int(be(io->in, 2), io->in_len - 2);
    check_int(io->in[4], 1);
    check_int(be(io->in + 6, 2), 16);
    check_int(be(io->in + 12, 4), LAB_SIZE / 512);
    check_int(be(io->in + 20, 4), 512);
    expect_good(io);
    io = CMD(lab, 0x5a, 0x08, 0x08, 0, 0, 0, 0, 0, 10, 0);
    check_int(io->in_len, 10);
    check_int(be(io->in, 2), 26);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(what_does_not_exist_is_refused)
{
    struct lab *lab = lab_new();
    expect_field(sense6(lab, 0x02), true, 2, 5);
    expect_field(CMD(lab, 0x1a, 8, 0x0a, 1, 255, 0), true, 3, 7);
    expect_sense(sense6(lab, SAVED | 0x0a), SENSE_NO_SAVED_PARAMETERS);
    lab_end(&lab);
}

HARNESS_TEST(control_page_tells_what_changes)
{
    struct lab *lab = lab_new();
    check_int(page_byte(lab, CURRENT | 0x0a, 2), 0x22);
    check_int(page_byte(lab, CURRENT | 0x0a, 3), 0x10);
    check_int(page_byte(lab, CHANGEABLE | 0x0a, 2), 0x04);
    check_int(page_byte(lab, CHANGEABLE | 0x0a, 4), 0x08);
    check_int(page_byte(lab, DEFAULT | 0x0a, 4), 0);
    lab_end(&lab);
}

HARNESS_TEST(swp_protects_until_it_is_cleared)
{
    struct lab *lab = lab_new();
    uint8_t zero[512] = {0};
    expect_good(set_control(lab, 0, 1));
    check_int(page_byte(lab, CURRENT | 0x0a, 4), 0x08);
    check_int(page_byte(lab, DEFAULT | 0x0a, 4), 0);
    expect_sense(OUT(lab, zero, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0), SENSE_WRITE_PROTECTED);
    struct io *io = sense6(lab, 0x3f);
    check_int(io->in[2], 0x90);
    expect_good(io);
    expect_good(CMD(lab, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    expect_good(set_control(lab, 0, 0));
    expect_good(OUT(lab, zero, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    lab_end(&lab);
}

HARNESS_TEST(d_sense_gives_descriptor_format)
{
    struct lab *lab = lab_new();
    expect_good(set_control(lab, 1, 0));
    struct io *io = CMD(lab, 0x28, 0, 0xff, 0, 0, 0, 0, 0, 1, 0);
    check_int(io->cmd.sense[0], 0x72);
    check_int(io->cmd.sense_len, 20);
    expect_sense(io, SENSE_LBA_OUT_OF_RANGE);
    expect_good(set_control(lab, 0, 0));
    io = CMD(lab, 0x28, 0, 0xff, 0, 0, 0, 0, 0, 1, 0);
    check_int(io->cmd.sense[0], 0xf0);
    expect_sense(io, SENSE_LBA_OUT_OF_RANGE);
    lab_end(&lab);
}

HARNESS_TEST(other_nexuses_learn_of_a_change)
{
    struct lab *lab = lab_new();
    struct scsi_nexus *other = lab_login(lab, 1, "iqn.2026-11.lab:o,i,0x1");
    const uint8_t tur[6] = {0};
    enum sense_code want[] = {SENSE_POWER_ON, SENSE_NONE, SENSE_MODE_CHANGED, SENSE_NONE};
    for (unsigned i = 0; i < 4; i++) {
        if (i == 2)
            expect_good(set_control(lab, 0, 1));
        struct io *io = io_new(other, 1, 0, tur, 6);
        io_start(io);
        io_wait(io);
        check_int(io_code(io), want[i]);
        io_free(&io);
    }
    expect_good(CMD(lab, 0, 0, 0, 0, 0, 0));
    lab_logout(&other, 1);
    lab_end(&lab);
}

HARNESS_TEST(what_cannot_change_is_refused_and_pointed_at)
{
    struct lab *lab = lab_new();
    uint8_t l[16] = {0, 0, 0, 0, 0x0a, 10, 0x22, 0x10, 0, 0x40};
    uint8_t cdb[6] = {0x15, 0x10, 0, 0, 16, 0};
    expect_good(lab_out(lab, cdb, 6, l, 16));
    l[7] = 0x00; /* QAM */
    expect_field(lab_out(lab, cdb, 6, l, 16), false, 7, 4);
    l[7] = 0x10;
    l[5] = 12;
    expect_field(lab_out(lab, cdb, 6, l, 16), false, 5, 7);
    l[5] = 10;
    l[4] = 0x02;
    expect_field(lab_out(lab, cdb, 6, l, 16), false, 4, 6);
    l[4] = 0x0a;
    l[1] = 1;
    expect_field(lab_out(lab, cdb, 6, l, 16), false, 1, 7);
    l[1] = 0;
    l[3] = 7;
    expect_field(lab_out(lab, cdb, 6, l, 16), false, 3, 7);
    l[3] = 0;
    cdb[4] = 15;
    expect_sense(lab_out(lab, cdb, 6, l, 15), SENSE_PARAMETER_LIST_LENGTH);
    cdb[4] = 2;
    expect_sense(lab_out(lab, cdb, 6, l, 2), SENSE_PARAMETER_LIST_LENGTH);
    cdb[4] = 0;
    expect_good(lab_out(lab, cdb, 6, NULL, 0));
    cdb[1] = 0x11; /* SP */
    expect_field(lab_out(lab, cdb, 6, NULL, 0), true, 1, 0);
    cdb[1] = 0; /* PF */
    expect_field(lab_out(lab, cdb, 6, NULL, 0), true, 1, 4);
    lab_end(&lab);
}

HARNESS_TEST(block_descriptors_must_tell_what_is)
{
    struct lab *lab = lab_new();
    uint8_t l[8 + 8 + 12] = {0, 0, 0, 0, 0, 0,    0,  8,    0,    0, 0,
                             0, 0, 0, 2, 0, 0x0a, 10, 0x22, 0x10, 0, 0x40};
    uint8_t cdb[10] = {0x55, 0x10, 0, 0, 0, 0, 0, 0, sizeof l, 0};
    expect_good(lab_out(lab, cdb, 10, l, sizeof l));
    l[14] = 16;
    expect_field(lab_out(lab, cdb, 10, l, sizeof l), false, 13, 7);
    l[14] = 2;
    l[11] = 1;
    expect_field(lab_out(lab, cdb, 10, l, sizeof l), false, 8, 7);
    lab_end(&lab);
}

/* ---- the cache */

HARNESS_TEST(without_a_volatile_cache_wce_is_zero_and_stays)
{
    struct lab *lab = lab_new();
    check_int(page_byte(lab, CURRENT | 0x08, 2), 0);
    check_int(page_byte(lab, CHANGEABLE | 0x08, 2), 0);
    uint8_t l[24] = {0, 0, 0, 0, 0x08, 18, 0x04};
    expect_field(OUT(lab, l, 24, 0x15, 0x10, 0, 0, 24, 0), false, 6, 2);
    lab_end(&lab);
}

/* mem with a cache that it only claims to have, and a fault device that records what comes. */
static struct bdev *cached(struct lab **lab_r)
{
    struct err e = {0};
    struct bdev *b;
    lab_mem("m", LAB_SIZE, 512);
    bdev_find("m")->write_cache = true;
    struct opts *o = opts_new(fault_driver.opts);
    check_int(opts_put(o, "on", "m", &e), 0);
    check_int(fault_driver.create("f", NULL, o, &b, &e), 0);
    opts_free(&o);
    *lab_r = lab_with(&(struct scsi_lun_args){.device = "f"});
    fault_record_start(b);
    return b;
}

static void cached_end(struct lab **lab)
{
    lab_free(lab);
    bdev_unregister(bdev_find("f"));
    bdev_unregister(bdev_find("m"));
}

/* MODE SELECT(6) of the caching page; `how`: PF, SP. */
static struct io *set_wce(struct lab *lab, unsigned how, unsigned wce)
{
    uint8_t l[24] = {0, 0, 0, 0, 0x08, 18, (uint8_t)wce};
    return OUT(lab, l, 24, 0x15, (uint8_t)how, 0, 0, 24, 0);
}

HARNESS_TEST(without_wce_every_write_is_durable)
{
    struct lab *lab;
    struct bdev *f = cached(&lab);
    uint8_t zero[512] = {0};
    check_int(page_byte(lab, CURRENT | 0x08, 2), 0x04);
    check_int(page_byte(lab, CHANGEABLE | 0x08, 2), 0x04);
    expect_good(OUT(lab, zero, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    expect_good(OUT(lab, zero, 512, 0x2a, 8, 0, 0, 0, 0, 0, 0, 1, 0)); /* FUA */
    expect_good(set_wce(lab, 0x10, 0));
    check_int(page_byte(lab, CURRENT | 0x08, 2), 0);
    check_int(page_byte(lab, DEFAULT | 0x08, 2), 0x04);
    expect_good(OUT(lab, zero, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    check_int(fault_record_count(f), 4);
    check_int(fault_record_get(f, 0)->flags & BIO_FUA, 0);
    check_int(fault_record_get(f, 1)->flags & BIO_FUA, BIO_FUA);
    check_int(fault_record_get(f, 2)->op, BIO_FLUSH); /* of what was written before */
    check_int(fault_record_get(f, 3)->flags & BIO_FUA, BIO_FUA);
    expect_good(CMD(lab, 0x28, 8, 0, 0, 0, 0, 0, 0, 1, 0)); /* a read with FUA flushes first */
    check_int(fault_record_count(f), 5);
    check_int(fault_record_get(f, 4)->op, BIO_FLUSH);
    cached_end(&lab);
}

/* What it wrote may be in the cache when MODE SELECT has written that out already. */
HARNESS_TEST(a_write_under_way_when_wce_goes_is_durable_when_it_ends)
{
    struct lab *lab;
    struct bdev *f = cached(&lab);
    uint8_t zero[512] = {0};
    const uint8_t cdb[10] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};
    struct err e;
    check_int(fault_set_rules(f, "write:hold", &e), 0);
    struct io *io = io_new(lab->nexus, 0, 0, cdb, sizeof cdb);
    io->out = zero;
    io->out_len = sizeof zero;
    io_start(io);
    check_int(fault_record_get(f, 0)->flags & BIO_FUA, 0);
    expect_good(set_wce(lab, 0x10, 0));
    check_int(fault_record_count(f), 2);
    fault_release(f);
    io_wait(io);
    check_int(fault_record_count(f), 3);
    check_int(fault_record_get(f, 2)->op, BIO_FLUSH);
    expect_good(io);
    cached_end(&lab);
}

HARNESS_TEST(a_cache_that_cannot_be_written_out_is_told)
{
    struct lab *lab;
    struct bdev *f = cached(&lab);
    struct err e;
    check_int(fault_set_rules(f, "flush:error=EIO", &e), 0);
    expect_sense(set_wce(lab, 0x10, 0), SENSE_WRITE_ERROR);
    check_int(fault_set_rules(f, "", &e), 0);
    check_int(page_byte(lab, CURRENT | 0x08, 2), 0);
    cached_end(&lab);
}

static int nothing_kept(const char *kind, const struct uuid *id, uint8_t **data_r, size_t *len_r)
{
    (void)kind, (void)id, (void)data_r, (void)len_r;
    return -ENOENT;
}

static int take_any(const char *kind, const struct uuid *id, const void *data, size_t len)
{
    (void)kind, (void)id, (void)data, (void)len;
    return 0;
}

static int forget_any(const char *kind, const struct uuid *id)
{
    (void)kind, (void)id;
    return 0;
}

HARNESS_TEST(a_reset_that_clears_wce_writes_the_cache_out)
{
    static const struct scsi_store keep = {nothing_kept, take_any, forget_any, nothing_kept};
    struct lab *lab;
    scsi_set_store(&keep);
    struct bdev *f = cached(&lab);
    expect_good(set_wce(lab, 0x11, 0)); /* saved */
    expect_good(set_wce(lab, 0x10, 0x04));
    unsigned before = fault_record_count(f);
    check_int(lab_tmf(lab->nexus, 0, SCSI_LOGICAL_UNIT_RESET, 0, NULL), SCSI_TMF_COMPLETE);
    check_int(fault_record_count(f), before + 1);
    check_int(fault_record_get(f, before)->op, BIO_FLUSH);
    cached_end(&lab);
    scsi_set_store(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_pages_come_in_order),
        cmocka_unit_test(ten_byte_form_has_long_block_descriptors),
        cmocka_unit_test(what_does_not_exist_is_refused),
        cmocka_unit_test(control_page_tells_what_changes),
        cmocka_unit_test(swp_protects_until_it_is_cleared),
        cmocka_unit_test(d_sense_gives_descriptor_format),
        cmocka_unit_test(other_nexuses_learn_of_a_change),
        cmocka_unit_test(what_cannot_change_is_refused_and_pointed_at),
        cmocka_unit_test(block_descriptors_must_tell_what_is),
        cmocka_unit_test(without_a_volatile_cache_wce_is_zero_and_stays),
        cmocka_unit_test(without_wce_every_write_is_durable),
        cmocka_unit_test(a_write_under_way_when_wce_goes_is_durable_when_it_ends),
        cmocka_unit_test(a_cache_that_cannot_be_written_out_is_told),
        cmocka_unit_test(a_reset_that_clears_wce_writes_the_cache_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
