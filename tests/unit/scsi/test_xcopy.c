/* SPDX-License-Identifier: GPL-2.0-or-later */
/* EXTENDED COPY and RECEIVE COPY RESULTS. */
#include "lab.h"

#include <string.h>

#include "base/buf.h"
#include "drivers/drivers.h"
#include "drivers/fault/fault.h"

struct seg {
    unsigned from, to, blocks;
    uint64_t src, dst;
};

static void naa_of(struct lab *lab, uint8_t naa[8])
{
    struct io *io = CMD(lab, 0x12, 1, 0x83, 1, 0, 0);
    memcpy(naa, io->in + 8, 8);
    expect_good(io);
}

static struct io *xcopy(struct lab *lab, unsigned id, const uint8_t naa[8], const struct seg *seg,
                        unsigned segs)
{
    uint8_t list[512] = {0};
    struct wr w = wr_make(list, sizeof list);
    wr_u8(&w, id);
    wr_u8(&w, 0);
    wr_be16(&w, 32);
    wr_be32(&w, 0);
    wr_be32(&w, segs * 28);
    wr_be32(&w, 0);
    wr_be32(&w, 0xe4000000);
    wr_be32(&w, 0x01030008);
    wr_copy(&w, naa, 8);
    wr_zero(&w, 13);
    wr_be24(&w, 512);
    for (unsigned i = 0; i < segs; i++) {
        wr_be32(&w, 0x02000018);
        wr_be16(&w, seg[i].from);
        wr_be16(&w, seg[i].to);
        wr_be16(&w, 0);
        wr_be16(&w, seg[i].blocks);
        wr_be64(&w, seg[i].src);
        wr_be64(&w, seg[i].dst);
    }
    return OUT(lab, list, w.pos, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, (uint8_t)(w.pos >> 8),
               (uint8_t)w.pos, 0, 0);
}

static void write_numbers(struct lab *lab, unsigned blocks)
{
    for (unsigned i = 0; i < blocks; i++) {
        uint8_t data[512];
        memset(data, (int)i + 1, sizeof data);
        expect_good(OUT(lab, data, 512, 0x2a, 0, 0, 0, 0, (uint8_t)i, 0, 0, 1, 0));
    }
}

static unsigned number_at(struct lab *lab, unsigned lba)
{
    struct io *io = CMD(lab, 0x28, 0, 0, 0, (uint8_t)(lba >> 8), (uint8_t)lba, 0, 0, 1, 0);
    unsigned n = io->in[0] == io->in[511] ? io->in[0] : 999;
    expect_good(io);
    return n;
}

HARNESS_TEST(segments_are_copied_overlapping_or_not)
{
    struct lab *lab = lab_new();
    uint8_t naa[8];
    naa_of(lab, naa);
    write_numbers(lab, 16);
    const struct seg segs[] = {{0, 0, 16, 0, 4000}, {0, 0, 8, 0, 2}};
    expect_good(xcopy(lab, 7, naa, segs, 2));
    for (unsigned i = 0; i < 16; i++)
        check_int(number_at(lab, 4000 + i), i + 1);
    for (unsigned i = 0; i < 8; i++)
        check_int(number_at(lab, 2 + i), i + 1);
    struct io *io = CMD(lab, 0x84, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0);
    check_int(io->in_len, 12);
    check_int(io->in[4], 1);
    check_int(be(io->in + 5, 2), 2);
    check_int(be(io->in + 8, 4), 12);
    expect_good(io);
    expect_field(CMD(lab, 0x84, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0), true, 2, 7);
    lab_end(&lab);
}

HARNESS_TEST(wrong_lists_are_refused)
{
    struct lab *lab = lab_new();
    uint8_t naa[8];
    naa_of(lab, naa);
    expect_sense(xcopy(lab, 1, naa, &(struct seg){0, 1, 1, 0, 8}, 1), SENSE_COPY_UNREACHABLE);
    expect_sense(xcopy(lab, 1, naa, &(struct seg){0, 0, 2, 8191, 8}, 1), SENSE_COPY_ABORTED);
    naa[7] ^= 1;
    expect_sense(xcopy(lab, 1, naa, &(struct seg){0, 0, 1, 0, 8}, 1), SENSE_COPY_UNREACHABLE);
    uint8_t list[16] = {0, 0, 0x01, 0x20};
    expect_sense(OUT(lab, list, 16, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0),
                 SENSE_TOO_MANY_CSCDS);
    list[2] = 0, list[3] = 32;
    expect_sense(OUT(lab, list, 16, 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0),
                 SENSE_PARAMETER_LIST_LENGTH);
    lab_end(&lab);
}

HARNESS_TEST(operating_parameters_and_the_vpd_page_agree)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0);
    struct io *page = CMD(lab, 0x12, 1, 0x8f, 1, 0, 0);
    check_int(io->in_len, 46);
    check_int(be(io->in, 4), io->in_len - 4);
    check_int(be(io->in + 8, 2), be(page->in + 4 + 16 + 12, 2));
    check_int(be(io->in + 12, 4), be(page->in + 4 + 16 + 16, 4));
    check_int(be(page->in + 2, 2), page->in_len - 4);
    check_int(io->in[43], 2);
    check_int(io->in[45], 0xe4);
    expect_good(io);
    expect_good(page);
    lab_end(&lab);
}

static struct io *results(struct lab *lab, unsigned action, unsigned id)
{
    return CMD(lab, 0x84, (uint8_t)action, (uint8_t)id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0);
}

HARNESS_TEST(the_failure_of_a_segment_is_kept)
{
    struct err e = {0};
    struct bdev *fault;
    struct opts *o = opts_new(fault_driver.opts);
    lab_mem("m", LAB_SIZE, 512);
    check_int(opts_put(o, "on", "m", &e), 0);
    check_int(fault_driver.create("f", NULL, o, &fault, &e), 0);
    opts_free(&o);
    check_int(fault_set_rules(fault, "read:error=EIO:offset=1M", &e), 0);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "f"});
    uint8_t naa[8];
    naa_of(lab, naa);
    const struct seg segs[] = {{0, 0, 8, 0, 64}, {0, 0, 8, 2048, 128}, {0, 0, 8, 0, 256}};
    struct io *io = xcopy(lab, 5, naa, segs, 3);
    check_int(be(io->cmd.sense + 8, 4), 1); /* the segment */
    expect_sense(io, SENSE_THIRD_PARTY_FAILURE);
    expect_good(xcopy(lab, 6, naa, segs, 1));

    io = results(lab, 0, 5);
    check_int(io->in[4], 2);
    check_int(be(io->in + 5, 2), 1);
    expect_good(io);
    io = results(lab, 4, 5);
    check_int(be(io->in, 4), io->in_len - 4);
    check_int(io->in[56], SCSI_CHECK_CONDITION);
    check_int(be(io->in + 58, 2), io->in_len - 60);
    check_int(io->in[60 + 2] & 0x0f, 0x0a);
    check_int(be(io->in + 60 + 8, 4), 1);
    check_int(be(io->in + 60 + 12, 2), 0x0d01);
    expect_good(io);
    io = results(lab, 4, 6);
    check_int(io->in_len, 60);
    check_int(io->in[56], SCSI_GOOD);
    expect_good(io);
    io = results(lab, 1, 6);
    check(io->in_len == 4 && be(io->in, 4) == 0);
    expect_good(io);
    expect_field(results(lab, 1, 9), true, 2, 7);
    expect_field(results(lab, 4, 9), true, 2, 7);
    lab_free(&lab);
    bdev_unregister(bdev_find("f"));
    bdev_unregister(bdev_find("m"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_copied_overlapping_or_not),
        cmocka_unit_test(wrong_lists_are_refused),
        cmocka_unit_test(the_failure_of_a_segment_is_kept),
        cmocka_unit_test(operating_parameters_and_the_vpd_page_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
