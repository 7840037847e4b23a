/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lab.h"

#include <string.h>

#include "base/buf.h"

enum { LAST = LAB_SIZE / 512 };

static void fill(struct lab *lab, unsigned lba, unsigned blocks, int byte)
{
    uint8_t one[512];
    memset(one, byte, sizeof one);
    expect_good(OUT(lab, one, 512, 0x41, 0, 0, 0, (uint8_t)(lba >> 8), (uint8_t)lba, 0,
                    (uint8_t)(blocks >> 8), (uint8_t)blocks, 0));
}

/* The byte that all of these blocks are made of, or -1. */
static int content(struct lab *lab, unsigned lba, unsigned blocks)
{
    struct io *io = CMD(lab, 0x28, 0, 0, 0, (uint8_t)(lba >> 8), (uint8_t)lba, 0,
                        (uint8_t)(blocks >> 8), (uint8_t)blocks, 0);
    check_int(io->in_len, blocks * 512);
    int c = io->in[0];
    for (size_t i = 0; i < io->in_len; i++)
        if (io->in[i] != c)
            c = -1;
    expect_good(io);
    return c;
}

struct range {
    uint64_t lba;
    unsigned blocks;
};

static struct io *unmap(struct lab *lab, const struct range *r, unsigned n)
{
    static uint8_t list[8 + 300 * 16];
    struct wr w = wr_make(list, sizeof list);
    wr_be16(&w, 6 + n * 16);
    wr_be16(&w, n * 16);
    wr_be32(&w, 0);
    for (unsigned i = 0; i < n; i++) {
        wr_be64(&w, r[i].lba);
        wr_be32(&w, r[i].blocks);
        wr_be32(&w, 0);
    }
    return OUT(lab, list, w.pos, 0x42, 0, 0, 0, 0, 0, 0, (uint8_t)(w.pos >> 8), (uint8_t)w.pos, 0);
}

/* ---- UNMAP */

HARNESS_TEST(unmapped_blocks_read_as_zeroes)
{
    struct lab *lab = lab_new();
    fill(lab, 0, 256, 0xaa);
    expect_good(unmap(lab, (struct range[]){{8, 16}, {40, 1}, {100, 0}, {64, 64}}, 4));
    check_int(content(lab, 0, 8), 0xaa);
    check_int(content(lab, 8, 16), 0);
    check_int(content(lab, 24, 16), 0xaa);
    check_int(content(lab, 40, 1), 0);
    check_int(content(lab, 41, 23), 0xaa);
    check_int(content(lab, 64, 64), 0);
    check_int(content(lab, 128, 128), 0xaa);
    lab_end(&lab);
}

HARNESS_TEST(unmap_checks_everything_before_it_does_anything)
{
    struct lab *lab = lab_new();
    fill(lab, 0, 8, 0xaa);
    expect_sense(unmap(lab, (struct range[]){{0, 8}, {LAST - 1, 2}}, 2), SENSE_LBA_OUT_OF_RANGE);
    expect_sense(unmap(lab, (struct range[]){{0, 8}, {UINT64_MAX, 1}}, 2), SENSE_LBA_OUT_OF_RANGE);
    check_int(content(lab, 0, 8), 0xaa);
    expect_good(unmap(lab, (struct range[]){{LAST, 0}}, 1));
    lab_end(&lab);
}

HARNESS_TEST(unmap_keeps_to_its_limits)
{
    lab_mem("m", 1ull << 30, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m"});
    struct range many[257] = {{0, 0}};
    expect_good(unmap(lab, many, 256));
    expect_field(unmap(lab, many, 257), false, 2, 7);
    expect_good(unmap(lab, (struct range[]){{0, 1 << 20}}, 1));
    expect_field(unmap(lab, (struct range[]){{0, 1 << 20}, {0, 1}}, 2), false, 8 + 16 + 8, 7);
    lab_end(&lab);
}

HARNESS_TEST(unmap_lists_cut_short)
{
    struct lab *lab = lab_new();
    uint8_t list[24] = {0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8};
    uint8_t cdb[10] = {0x42};
    fill(lab, 0, 8, 0xaa);
    expect_good(lab_out(lab, cdb, 10, NULL, 0));
    cdb[8] = 7;
    expect_sense(lab_out(lab, cdb, 10, list, 7), SENSE_PARAMETER_LIST_LENGTH);
    cdb[8] = 23; /* the descriptor is not whole */
    expect_good(lab_out(lab, cdb, 10, list, 23));
    check_int(content(lab, 0, 8), 0xaa);
    cdb[8] = 24;
    expect_sense(lab_out(lab, cdb, 10, list, 20), SENSE_INFORMATION_UNIT);
    check_int(content(lab, 0, 8), 0xaa);
    expect_good(lab_out(lab, cdb, 10, list, 24));
    check_int(content(lab, 0, 8), 0);
    lab_end(&lab);
}

HARNESS_TEST(a_full_lun_refuses_unmap)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .thin_given = true});
    uint8_t zero[512] = {0};
    expect_sense(unmap(lab, (struct range[]){{0, 8}}, 1), SENSE_INVALID_OPCODE);
    expect_field(OUT(lab, zero, 512, 0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0), true, 1, 3);
    expect_good(OUT(lab, zero, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0));
    lab_end(&lab);
}

/* ---- WRITE SAME */

HARNESS_TEST(write_same_repeats_the_block)
{
    struct lab *lab = lab_new();
    fill(lab, 3, 5000, 0x5a);
    check_int(content(lab, 3, 5000), 0x5a);
    check_int(content(lab, 0, 3), 0);
    check_int(content(lab, 5003, 10), 0);
    uint8_t block[512];
    for (unsigned i = 0; i < 512; i++)
        block[i] = (uint8_t)i;
    expect_good(OUT(lab, block, 512, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 3, 0, 0));
    for (unsigned i = 10; i < 13; i++) {
        struct io *io = CMD(lab, 0x28, 0, 0, 0, 0, (uint8_t)i, 0, 0, 1, 0);
        check(!memcmp(io->in, block, 512));
        expect_good(io);
    }
    lab_end(&lab);
}

HARNESS_TEST(write_same_without_data_zeroes)
{
    struct lab *lab = lab_new();
    fill(lab, 0, 64, 0x5a);
    struct io *io = CMD(lab, 0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0);
    check_int(io->cmd.dir, SCSI_DIR_NONE);
    expect_good(io);
    expect_good(CMD(lab, 0x93, 0x09, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 8, 0, 0));
    check_int(content(lab, 0, 8), 0x5a);
    check_int(content(lab, 8, 8), 0);
    check_int(content(lab, 16, 16), 0x5a);
    check_int(content(lab, 32, 8), 0);
    lab_end(&lab);
}

HARNESS_TEST(write_same_refuses_what_it_cannot_do)
{
    lab_mem("m", 64 << 20, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m"});
    uint8_t b[1024] = {1};
    expect_field(OUT(lab, b, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0), true, 7, 7);
    expect_field(OUT(lab, b, 512, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0), true, 10, 7);
    expect_good(OUT(lab, b, 512, 0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0));
    expect_field(OUT(lab, b, 512, 0x93, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0), true, 1,
                 4);
    expect_field(OUT(lab, b, 1024, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0), true, 7, 7);
    expect_field(OUT(lab, b, 100, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0), true, 7, 7);
    expect_sense(OUT(lab, b, 512, 0x41, 0, 0, 1, 0xff, 0xff, 0, 0, 2, 0), SENSE_LBA_OUT_OF_RANGE);
    lab_end(&lab);
}

/* 0 blocks: up to the last one, as far as the limit goes. */
HARNESS_TEST(write_same_of_no_blocks_goes_to_the_end_of_a_full_lun)
{
    lab_mem("m", 64 << 20, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .thin_given = true});
    uint8_t b[512];
    memset(b, 0x3c, sizeof b);
    struct io *io = CMD(lab, 0x12, 1, 0xb0, 0, 64, 0);
    check_int(io->in[4], 0); /* WSNZ */
    expect_good(io);
    expect_good(OUT(lab, b, 512, 0x41, 0, 0, 1, 0xff, 0xf0, 0, 0, 0, 0));
    check_int(content(lab, 0xffef, 1), 0);
    io = CMD(lab, 0x28, 0, 0, 1, 0xff, 0xf0, 0, 0, 16, 0);
    check(io->in[0] == 0x3c && io->in[16 * 512 - 1] == 0x3c);
    expect_good(io);
    expect_field(OUT(lab, b, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0), true, 7, 7); /* too many */
    expect_good(OUT(lab, b, 512, 0x41, 0, 0, 1, 0, 1, 0, 0, 0, 0));              /* 65535 */
    expect_sense(OUT(lab, b, 512, 0x41, 0, 0, 2, 0, 0, 0, 0, 0, 0), SENSE_LBA_OUT_OF_RANGE);
    lab_end(&lab);
}

/* ---- GET LBA STATUS */

/* SBC-3: whatever the size of a physical block, the first descriptor begins at the LBA asked for.
 */
HARNESS_TEST(lba_status_begins_where_it_was_asked_for)
{
    struct lab *lab = lab_new();
    fill(lab, 0, 264, 0xaa);
    expect_good(unmap(lab, (struct range[]){{0, 64}}, 1));
    for (unsigned lba = 60; lba < 68; lba++) {
        struct io *io = CMD(lab, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, (uint8_t)lba, 0, 0, 0, 24, 0, 0);
        check_int(be(io->in + 12, 4), lba);
        check_int(be(io->in + 16, 4), lba < 64 ? 64 - lba : 264 - lba);
        check_int(io->in[20], lba < 64);
        expect_good(io);
    }
    lab_end(&lab);
}

HARNESS_TEST(lba_status_tells_mapped_from_deallocated)
{
    struct lab *lab = lab_new();
    fill(lab, 16, 16, 0xaa);
    struct io *io = CMD(lab, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 1, 0, 0, 0);
    check_int(io->in_len, 8u + 3 * 16);
    check_int(be(io->in, 4), io->in_len - 4);
    static const struct {
        unsigned lba, blocks, status;
    } want[] = {{4, 12, 1}, {16, 16, 0}, {32, LAST - 32, 1}};
    for (unsigned i = 0; i < 3; i++) {
        const uint8_t *d = io->in + 8 + i * 16;
        check_int(be(d + 4, 4), want[i].lba);
        check_int(be(d + 8, 4), want[i].blocks);
        check_int(d[12], want[i].status);
    }
    expect_good(io);
    expect_sense(CMD(lab, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 24, 0, 0),
                 SENSE_LBA_OUT_OF_RANGE);
    lab_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unmapped_blocks_read_as_zeroes),
        cmocka_unit_test(unmap_checks_everything_before_it_does_anything),
        cmocka_unit_test(unmap_keeps_to_its_limits),
        cmocka_unit_test(unmap_lists_cut_short),
        cmocka_unit_test(a_full_lun_refuses_unmap),
        cmocka_unit_test(write_same_repeats_the_block),
        cmocka_unit_test(write_same_without_data_zeroes),
        cmocka_unit_test(write_same_refuses_what_it_cannot_do),
        cmocka_unit_test(write_same_of_no_blocks_goes_to_the_end_of_a_full_lun),
        cmocka_unit_test(lba_status_begins_where_it_was_asked_for),
        cmocka_unit_test(lba_status_tells_mapped_from_deallocated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
