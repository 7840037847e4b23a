/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lab.h"

#include <string.h>

#include "base/mem.h"
#include "drivers/drivers.h"
#include "drivers/fault/fault.h"

static uint8_t *pattern(size_t n, unsigned seed)
{
    uint8_t *p = xcalloc(1, n);
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 13 + i / 512 + seed);
    return p;
}

/* CDBs of one kind in their lengths: 6, 10, 12, 16. */
static unsigned rw_cdb(uint8_t cdb[16], uint8_t opcode, uint64_t lba, unsigned blocks)
{
    memset(cdb, 0, 16);
    cdb[0] = opcode;
    switch (opcode >> 5) {
    case 0:
        cdb[1] = (uint8_t)(lba >> 16 & 0x1f);
        cdb[2] = (uint8_t)(lba >> 8);
        cdb[3] = (uint8_t)lba;
        cdb[4] = (uint8_t)blocks;
        return 6;
    case 4:
        for (unsigned i = 0; i < 8; i++)
            cdb[2 + i] = (uint8_t)(lba >> (56 - 8 * i));
        for (unsigned i = 0; i < 4; i++)
            cdb[10 + i] = (uint8_t)(blocks >> (24 - 8 * i));
        return 16;
    default:
        for (unsigned i = 0; i < 4; i++)
            cdb[2 + i] = (uint8_t)(lba >> (24 - 8 * i));
        if (opcode >> 5 == 5) {
            for (unsigned i = 0; i < 4; i++)
                cdb[6 + i] = (uint8_t)(blocks >> (24 - 8 * i));
            return 12;
        }
        cdb[7] = (uint8_t)(blocks >> 8);
        cdb[8] = (uint8_t)blocks;
        return 10;
    }
}

static struct io *rw(struct lab *lab, uint8_t opcode, uint64_t lba, unsigned blocks,
                     const void *data, size_t n)
{
    uint8_t cdb[16];
    unsigned len = rw_cdb(cdb, opcode, lba, blocks);
    return lab_out(lab, cdb, len, data, n);
}

static void expect_blocks(struct lab *lab, uint64_t lba, unsigned blocks, const void *want)
{
    struct io *io = rw(lab, 0x88, lba, blocks, NULL, 0);
    check_int(io->in_len, blocks * 512);
    check(!memcmp(io->in, want, io->in_len));
    expect_good(io);
}

enum { LAST = LAB_SIZE / 512 };

/* ---- READ CAPACITY */

HARNESS_TEST(read_capacity_tells_size_and_provisioning)
{
    struct lab *lab = lab_new();
    struct io *io = CMD(lab, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    check_int(io->in_len, 8);
    check_int(be(io->in, 4), LAST - 1);
    check_int(be(io->in + 4, 4), 512);
    expect_good(io);
    io = CMD(lab, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    check_int(io->in_len, 32);
    check_int(be(io->in + 4, 4), LAST - 1);
    check_int(be(io->in + 8, 4), 512);
    check_int(io->in[13], 0); /* memory: a physical block is a logical one */
    check_int(io->in[14], 0xc0);
    expect_good(io);
    io = CMD(lab, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0);
    check_int(io->in_len, 15);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(four_kibibyte_blocks_are_counted_as_such)
{
    lab_mem("m", LAB_SIZE, 4096);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m"});
    struct io *io = CMD(lab, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    check_int(be(io->in, 4), LAB_SIZE / 4096 - 1);
    check_int(be(io->in + 4, 4), 4096);
    expect_good(io);
    uint8_t *p = pattern(8192, 3);
    expect_good(rw(lab, 0x2a, 1, 2, p, 8192));
    io = rw(lab, 0x28, 1, 2, NULL, 0);
    check_int(io->in_len, 8192);
    check(!memcmp(io->in, p, 8192));
    expect_good(io);
    expect_sense(rw(lab, 0x28, LAB_SIZE / 4096, 1, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    free(p);
    lab_end(&lab);
}

/* ---- READ, WRITE */

HARNESS_TEST(what_is_written_is_read_in_every_cdb_length)
{
    struct lab *lab = lab_new();
    static const uint8_t writes[] = {0x0a, 0x2a, 0xaa, 0x8a}, reads[] = {0x08, 0x28, 0xa8, 0x88};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t *p = pattern(8 * 512, i);
        expect_good(rw(lab, writes[i], 10 * i, 8, p, 8 * 512));
        for (unsigned k = 0; k < 4; k++) {
            struct io *io = rw(lab, reads[k], 10 * i, 8, NULL, 0);
            check_int(io->in_len, 8 * 512);
            check(!memcmp(io->in, p, io->in_len));
            expect_good(io);
        }
        free(p);
    }
    lab_end(&lab);
}

HARNESS_TEST(six_byte_commands_take_zero_as_256)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(256 * 512, 9);
    expect_good(rw(lab, 0x0a, 1, 0, p, 256 * 512));
    struct io *io = rw(lab, 0x08, 1, 0, NULL, 0);
    check_int(io->in_len, 256 * 512);
    check(!memcmp(io->in, p, io->in_len));
    expect_good(io);
    free(p);
    lab_end(&lab);
}

HARNESS_TEST(zero_blocks_move_nothing)
{
    struct lab *lab = lab_new();
    static const uint8_t all[] = {0x28, 0xa8, 0x88, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x2f, 0x35};
    for (unsigned i = 0; i < sizeof all; i++) {
        expect_good(rw(lab, all[i], 0, 0, NULL, 0));
        expect_good(rw(lab, all[i], LAST, 0, NULL, 0));
        expect_sense(rw(lab, all[i], LAST + 1, 0, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    }
    lab_end(&lab);
}

HARNESS_TEST(beyond_the_end_names_the_first_bad_lba)
{
    struct lab *lab = lab_new();
    struct io *io = rw(lab, 0x28, LAST - 1, 2, NULL, 0);
    check_int(io->cmd.sense[0], 0xf0);
    check_int(be(io->cmd.sense + 3, 4), LAST);
    expect_sense(io, SENSE_LBA_OUT_OF_RANGE);
    expect_sense(rw(lab, 0x88, UINT64_MAX, 2, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    expect_sense(rw(lab, 0x88, UINT64_MAX - 1, 1, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    expect_sense(rw(lab, 0x08, 0x1fffff, 1, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    uint8_t zero[1024] = {0};
    expect_sense(rw(lab, 0x2a, LAST - 1, 2, zero, 1024), SENSE_LBA_OUT_OF_RANGE);
    lab_end(&lab);
}

HARNESS_TEST(protection_fields_are_refused)
{
    struct lab *lab = lab_new();
    for (unsigned v = 1; v < 8; v++) {
        uint8_t cdb[10] = {0x28, (uint8_t)(v << 5), 0, 0, 0, 0, 0, 0, 1};
        struct io *io = lab_cmd(lab, cdb, 10);
        check_int(io->cmd.sense[17], 1);
        expect_sense(io, SENSE_INVALID_FIELD_IN_CDB);
    }
    lab_end(&lab);
}

HARNESS_TEST(a_piece_of_a_block_leaves_the_rest_of_the_block)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(1024, 1), *old = pattern(1024, 7), want[1024];
    static const uint8_t writes[] = {0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e};
    memcpy(want, p, 600);
    memcpy(want + 600, old + 600, 424);
    for (unsigned i = 0; i < sizeof writes; i++) {
        expect_good(rw(lab, 0x2a, 10 * i, 2, old, 1024));
        struct io *io = rw(lab, writes[i], 10 * i, 2, p, 600);
        check_int(io->cmd.length, 1024); /* for the residual */
        expect_good(io);
        expect_blocks(lab, 10 * i, 2, want);
    }
    free(old);
    free(p);
    lab_end(&lab);
}

HARNESS_TEST(fewer_blocks_than_the_command_moves_are_written)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(1024, 1), zero[512] = {0};
    static const uint8_t writes[] = {0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e};
    for (unsigned i = 0; i < sizeof writes; i++) {
        struct io *io = rw(lab, writes[i], 10 * i, 2, p, 512);
        check_int(io->cmd.length, 1024);
        expect_good(io);
        expect_blocks(lab, 10 * i, 1, p);
        expect_blocks(lab, 10 * i + 1, 1, zero);
        expect_good(rw(lab, writes[i], 10 * i + 1, 1, NULL, 0));
        expect_blocks(lab, 10 * i + 1, 1, zero);
    }
    free(p);
    lab_end(&lab);
}

HARNESS_TEST(more_data_than_the_command_moves_is_left_aside)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(1024, 1), zero[512] = {0};
    expect_good(rw(lab, 0x2a, 0, 1, p, 1024));
    expect_blocks(lab, 0, 1, p);
    expect_blocks(lab, 1, 1, zero);
    free(p);
    lab_end(&lab);
}

HARNESS_TEST(fua_and_dpo_are_accepted)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(512, 5);
    expect_good(OUT(lab, p, 512, 0x2a, 0x18, 0, 0, 0, 7, 0, 0, 1, 0));
    struct io *io = CMD(lab, 0x28, 0x18, 0, 0, 0, 7, 0, 0, 1, 0);
    check(!memcmp(io->in, p, 512));
    expect_good(io);
    free(p);
    lab_end(&lab);
}

HARNESS_TEST(a_command_given_up_before_execute_leaves_nothing)
{
    struct lab *lab = lab_new();
    const uint8_t cdb[10] = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1};
    struct io *io = io_new(lab->nexus, 0, 0, cdb, 10);
    io_begin(io);
    io->done = true;
    io_wait(io);
    io_free(&io);
    lab_end(&lab);
}

/* ---- write protection */

HARNESS_TEST(a_read_only_lun_refuses_writes)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .read_only = true});
    uint8_t zero[1024] = {0};
    static const uint8_t writes[] = {0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x41, 0x93};
    for (unsigned i = 0; i < sizeof writes; i++)
        expect_sense(rw(lab, writes[i], 0, 1, zero, 512), SENSE_WRITE_PROTECTED);
    expect_sense(OUT(lab, zero, 1024, 0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0),
                 SENSE_WRITE_PROTECTED);
    expect_good(OUT(lab, zero, 8, 0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0));
    uint8_t list[24] = {0, 22, 0, 16};
    expect_good(OUT(lab, list, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0));
    list[19] = 1; /* one block */
    expect_sense(OUT(lab, list, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0), SENSE_WRITE_PROTECTED);
    /* No blocks are none to protect, but they must be on the medium. WRITE(6) means 256 by 0. */
    for (unsigned i = 1; i < sizeof writes - 2; i++) {
        expect_good(rw(lab, writes[i], 0, 0, NULL, 0));
        expect_sense(rw(lab, writes[i], LAB_SIZE / 512 + 1, 0, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    }
    expect_good(rw(lab, 0x28, 0, 1, NULL, 0));
    struct io *io = CMD(lab, 0x1a, 8, 0x3f, 0, 255, 0);
    check_int(io->in[2] & 0x80, 0x80);
    expect_good(io);
    lab_end(&lab);
}

/* ---- VERIFY, WRITE AND VERIFY */

HARNESS_TEST(verify_compares_when_asked)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(4 * 512, 2);
    static const uint8_t verifies[] = {0x2f, 0xaf, 0x8f};
    expect_good(rw(lab, 0x2a, 100, 4, p, 4 * 512));
    for (unsigned i = 0; i < 3; i++) {
        uint8_t cdb[16];
        unsigned len = rw_cdb(cdb, verifies[i], 100, 4);
        p[700] ^= 1;
        expect_good(lab_cmd(lab, cdb, len)); /* BYTCHK 0: nothing is compared */
        cdb[1] = 1 << 1;
        struct io *io = lab_out(lab, cdb, len, p, 4 * 512);
        check_int(be(io->cmd.sense + 3, 4), 101);
        expect_sense(io, SENSE_MISCOMPARE);
        p[700] ^= 1;
        expect_good(lab_out(lab, cdb, len, p, 4 * 512));
        cdb[1] = 2 << 1;
        expect_field(lab_out(lab, cdb, len, p, 4 * 512), true, 1, 2);
        cdb[1] = 3 << 1;
        expect_sense(lab_out(lab, cdb, len, p, 512), SENSE_MISCOMPARE);
    }
    free(p);
    lab_end(&lab);
}

/* The transport lets in as many as there is memory for. */
HARNESS_TEST(commands_tell_what_memory_they_take)
{
    static const struct {
        uint8_t cdb[16];
        uint64_t data, memory;
    } cases[] = {
        {{0x28, 0, 0, 0, 0, 0, 0, 0, 8}, 0, 4096},                       /* READ */
        {{0x2f, 0, 0, 0, 0, 0, 0, 0, 8}, 0, 4096},                       /* VERIFY */
        {{0x2f, 0, 0, 0, 0, 0, 0, 0x20}, 0, 1 << 20},                    /* more */
        {{0x2e, 0, 0, 0, 0, 0, 0, 0, 8}, 4096, 2 * 4096},                /* WRITE AND */
        {{0x41, 0, 0, 0, 0, 0, 0, 0x10, 0}, 512, (1 << 20) + 512},       /* WRITE SAME */
        {{0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10}, 0, 0},           /* NDOB */
        {{0x8b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8}, 4096, 3 * 4096}, /* ORWRITE */
        {{0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 0, 8 * 16386}, /* no data */
        {{0xa0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 0, 8 * 16386},
    };
    static const uint8_t zero[4096];
    struct lab *lab = lab_new();
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct io *io = io_new(lab->nexus, 0, 0, cases[i].cdb, 16);
        io->out = zero;
        io->out_len = cases[i].data;
        io_start(io);
        io_wait(io);
        check_int(io->cmd.memory, cases[i].memory);
        expect_good(io);
    }
    lab_end(&lab);
}

HARNESS_TEST(verify_works_through_long_ranges)
{
    struct lab *lab = lab_new();
    uint8_t one[512];
    memset(one, 0x77, sizeof one);
    expect_good(rw(lab, 0x93, 0, LAST, one, 512));
    uint8_t cdb[16];
    unsigned len = rw_cdb(cdb, 0x8f, 0, LAST);
    cdb[1] = 3 << 1;
    expect_good(lab_out(lab, cdb, len, one, 512));
    expect_good(rw(lab, 0x8f, 0, LAST, NULL, 0));
    expect_good(rw(lab, 0x8a, LAST - 1, 1, (uint8_t[512]){1}, 512));
    struct io *io = lab_out(lab, cdb, len, one, 512);
    check_int(be(io->cmd.sense + 3, 4), LAST - 1);
    expect_sense(io, SENSE_MISCOMPARE);
    lab_end(&lab);
}

HARNESS_TEST(write_and_verify_writes)
{
    struct lab *lab = lab_new();
    static const uint8_t all[] = {0x2e, 0xae, 0x8e};
    for (unsigned i = 0; i < 3; i++) {
        uint8_t *p = pattern(3 * 512, i), cdb[16];
        unsigned len = rw_cdb(cdb, all[i], 50, 3);
        cdb[1] = i == 1 ? 2 : 0;
        expect_good(lab_out(lab, cdb, len, p, 3 * 512));
        expect_blocks(lab, 50, 3, p);
        cdb[1] = 2 << 1;
        expect_field(lab_out(lab, cdb, len, p, 3 * 512), true, 1, 2);
        free(p);
    }
    lab_end(&lab);
}

/* ---- COMPARE AND WRITE */

HARNESS_TEST(compare_and_write_writes_only_what_compares)
{
    struct lab *lab = lab_new();
    uint8_t *p = pattern(4 * 512, 7), zero[1024] = {0};
    uint8_t cdb[16] = {0x89, 0, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0};
    memset(p, 0, 1024);
    expect_good(lab_out(lab, cdb, 16, p, 4 * 512));
    expect_blocks(lab, 20, 2, p + 1024);
    struct io *io = lab_out(lab, cdb, 16, p, 4 * 512);
    check_int(io->cmd.sense[0], 0xf0);
    unsigned first = 0;
    while (!p[1024 + first])
        first++;
    check_int(be(io->cmd.sense + 3, 4), first);
    expect_sense(io, SENSE_MISCOMPARE);
    memcpy(p, p + 1024, 1024);
    p[1023] ^= 1;
    io = lab_out(lab, cdb, 16, p, 4 * 512);
    check_int(be(io->cmd.sense + 3, 4), 1023);
    expect_sense(io, SENSE_MISCOMPARE);
    expect_field(lab_out(lab, cdb, 16, p, 1024), true, 13, 7);
    expect_field(lab_out(lab, cdb, 16, p, 1536), true, 13, 7);
    cdb[13] = 1;
    expect_field(lab_out(lab, cdb, 16, p, 4 * 512), true, 13, 7); /* too much */
    cdb[13] = 0;
    expect_good(lab_out(lab, cdb, 16, NULL, 0));
    (void)zero;
    free(p);
    lab_end(&lab);
}

/* ---- SYNCHRONIZE CACHE, PRE-FETCH */

HARNESS_TEST(synchronize_cache_and_prefetch_check_their_range)
{
    struct lab *lab = lab_new();
    static const uint8_t all[] = {0x35, 0x91, 0x34, 0x90};
    for (unsigned i = 0; i < 4; i++) {
        uint8_t cdb[16];
        unsigned len = rw_cdb(cdb, all[i], 0, 16);
        expect_good(lab_cmd(lab, cdb, len));
        cdb[1] = 2; /* IMMED */
        expect_good(lab_cmd(lab, cdb, len));
        expect_good(rw(lab, all[i], 5, 0, NULL, 0));
        expect_sense(rw(lab, all[i], LAST, 1, NULL, 0), SENSE_LBA_OUT_OF_RANGE);
    }
    lab_end(&lab);
}

/* ---- errors of the device */

static struct lab *faulty(const char *rules)
{
    struct err e = {0};
    struct bdev *b;
    lab_mem("m", LAB_SIZE, 512);
    struct opts *o = opts_new(fault_driver.opts);
    check_int(opts_put(o, "on", "m", &e), 0);
    check_int(fault_driver.create("f", NULL, o, &b, &e), 0);
    opts_free(&o);
    check_int(fault_set_rules(b, rules, &e), 0);
    return lab_with(&(struct scsi_lun_args){.device = "f"});
}

static void faulty_end(struct lab **lab)
{
    lab_free(lab);
    bdev_unregister(bdev_find("f"));
    bdev_unregister(bdev_find("m"));
}

HARNESS_TEST(a_medium_error_names_the_bad_lba)
{
    struct lab *lab = faulty("read:error=EIO:offset=5120-5631; write:error=EIO:offset=10240-10751");
    struct io *io = rw(lab, 0x28, 8, 8, NULL, 0);
    check_int(io->cmd.length, 0);
    check_int(io->cmd.sense[0], 0xf0);
    check_int(be(io->cmd.sense + 3, 4), 10);
    expect_sense(io, SENSE_READ_ERROR);
    uint8_t zero[8 * 512] = {0};
    io = rw(lab, 0x2a, 16, 8, zero, sizeof zero);
    check_int(be(io->cmd.sense + 3, 4), 20);
    expect_sense(io, SENSE_WRITE_ERROR);
    faulty_end(&lab);
}

HARNESS_TEST(errors_of_each_step_end_the_command)
{
    uint8_t zero[1024] = {0}, cdb[16];
    struct lab *lab = faulty("read:error=EIO");
    unsigned len = rw_cdb(cdb, 0x8f, 0, 8);
    expect_sense(lab_cmd(lab, cdb, len), SENSE_READ_ERROR);
    expect_sense(rw(lab, 0x2e, 0, 1, zero, 512), SENSE_READ_ERROR);
    faulty_end(&lab);
    lab = faulty("write:error=ENOSPC; flush:error=EIO; discard:error=EIO");
    memset(zero, 1, 512);
    expect_sense(rw(lab, 0x93, 0, 8, zero, 512), SENSE_NO_SPACE);
    expect_sense(rw(lab, 0x2e, 0, 1, zero, 512), SENSE_NO_SPACE);
    expect_sense(rw(lab, 0x35, 0, 0, NULL, 0), SENSE_WRITE_ERROR);
    faulty_end(&lab);
    lab = faulty("write:error=EAGAIN");
    expect_status(rw(lab, 0x2a, 0, 1, zero, 512), SCSI_BUSY);
    faulty_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_capacity_tells_size_and_provisioning),
        cmocka_unit_test(four_kibibyte_blocks_are_counted_as_such),
        cmocka_unit_test(what_is_written_is_read_in_every_cdb_length),
        cmocka_unit_test(six_byte_commands_take_zero_as_256),
        cmocka_unit_test(zero_blocks_move_nothing),
        cmocka_unit_test(beyond_the_end_names_the_first_bad_lba),
        cmocka_unit_test(protection_fields_are_refused),
        cmocka_unit_test(a_piece_of_a_block_leaves_the_rest_of_the_block),
        cmocka_unit_test(fewer_blocks_than_the_command_moves_are_written),
        cmocka_unit_test(more_data_than_the_command_moves_is_left_aside),
        cmocka_unit_test(fua_and_dpo_are_accepted),
        cmocka_unit_test(a_command_given_up_before_execute_leaves_nothing),
        cmocka_unit_test(a_read_only_lun_refuses_writes),
        cmocka_unit_test(verify_compares_when_asked),
        cmocka_unit_test(commands_tell_what_memory_they_take),
        cmocka_unit_test(verify_works_through_long_ranges),
        cmocka_unit_test(write_and_verify_writes),
        cmocka_unit_test(compare_and_write_writes_only_what_compares),
        cmocka_unit_test(synchronize_cache_and_prefetch_check_their_range),
        cmocka_unit_test(a_medium_error_names_the_bad_lba),
        cmocka_unit_test(errors_of_each_step_end_the_command),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
