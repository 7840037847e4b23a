/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of commands against what REPORT SUPPORTED OPERATION CODES says, and against itself. */
#include "lab.h"

#include <string.h>

#include "targets/scsi/opcode.h"

static struct io *report(struct lab *lab, unsigned options, unsigned opcode, unsigned sa)
{
    return CMD(lab, 0xa3, 0x0c, (uint8_t)options, (uint8_t)opcode, (uint8_t)(sa >> 8), (uint8_t)sa,
               0, 0, 0xff, 0xff, 0, 0);
}

HARNESS_TEST(all_commands_are_listed_once)
{
    struct lab *lab = lab_new();
    unsigned n;
    const struct scsi_opcode *op = scsi_opcode_table(&n);
    struct io *io = report(lab, 0, 0, 0);
    check_int(io->cmd.status, SCSI_GOOD);
    check_int(be(io->in, 4), n * 8);
    check_int(io->in_len, 4 + n * 8);
    for (unsigned i = 0; i < n; i++, op++) {
        const uint8_t *d = io->in + 4 + i * 8;
        check_int(d[0], op->opcode);
        check_int(be(d + 2, 2), op->sa == OP_NO_SA ? 0 : op->sa);
        check_int(d[5], op->sa == OP_NO_SA ? 0 : 1);
        check_int(be(d + 6, 2), op->cdb_len);
    }
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(timeouts_are_given_when_asked_for)
{
    struct lab *lab = lab_new();
    unsigned n;
    scsi_opcode_table(&n);
    struct io *io = report(lab, 0x80, 0, 0);
    check_int(io->in_len, 4 + n * 20);
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *d = io->in + 4 + i * 20;
        check(d[5] & 0x02);
        check_int(be(d + 8, 2), 10);
        check(be(d + 16, 4) > 0);
    }
    expect_good(io);
    io = report(lab, 0x81, 0x28, 0);
    check_int(io->in[1], 0x83);
    check_int(io->in_len, 4 + 10 + 12);
    expect_good(io);
    lab_end(&lab);
}

HARNESS_TEST(one_command_is_reported_with_its_mask)
{
    struct lab *lab = lab_new();
    unsigned n;
    const struct scsi_opcode *op = scsi_opcode_table(&n);
    for (unsigned i = 0; i < n; i++, op++) {
        bool sa = op->sa != OP_NO_SA;
        struct io *io = report(lab, sa ? 2 : 1, op->opcode, sa ? op->sa : 0);
        check_int(io->in[1], 3);
        check_int(be(io->in + 2, 2), op->cdb_len);
        check(!memcmp(io->in + 4, op->usage, op->cdb_len));
        expect_good(io);
        expect_field(report(lab, sa ? 1 : 2, op->opcode, 0), true, 2, 2);
        io = report(lab, 3, op->opcode, sa ? op->sa : 0);
        check_int(io->in[1], 3);
        expect_good(io);
        io = report(lab, 0x83, op->opcode, sa ? op->sa : 0);
        check_int(io->in[1], 0x83);
        check_int(io->in_len, 4u + op->cdb_len + 12);
        check_int(be(io->in + 4 + op->cdb_len + 8, 4), op->timeout);
        expect_good(io);
    }
    struct io *io = report(lab, 1, 0xff, 0);
    check_int(io->in[1], 1);
    check_int(io->in_len, 4);
    expect_good(io);
    io = report(lab, 2, 0x9e, 0x1f);
    check_int(io->in[1], 1);
    expect_good(io);
    expect_field(report(lab, 5, 0x28, 0), true, 2, 2);
    lab_end(&lab);
}

/* Every bit outside the mask is refused, and the sense data points at it. */
HARNESS_TEST(bits_outside_the_usage_mask_are_refused)
{
    struct lab *lab = lab_new();
    unsigned n;
    const struct scsi_opcode *op = scsi_opcode_table(&n);
    for (unsigned i = 0; i < n; i++, op++) {
        for (unsigned byte = 1; byte < op->cdb_len; byte++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                uint8_t cdb[16] = {op->opcode, op->sa == OP_NO_SA ? 0 : (uint8_t)op->sa};
                bool is_sa = byte == 1 && bit < 5 && op->sa != OP_NO_SA;
                if (op->usage[byte] & 1u << bit || is_sa)
                    continue;
                cdb[byte] |= (uint8_t)(1u << bit);
                expect_field(lab_cmd(lab, cdb, op->cdb_len), true, byte, bit);
            }
        }
    }
    lab_end(&lab);
}

HARNESS_TEST(an_opcode_or_a_service_action_outside_the_table_is_invalid)
{
    struct lab *lab = lab_new();
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        uint8_t cdb[16] = {(uint8_t)opcode, 0x1f};
        bool has_sa;
        if (!scsi_opcode_find((uint8_t)opcode, 0x1f, &has_sa))
            expect_sense(lab_cmd(lab, cdb, 16),
                         has_sa ? SENSE_INVALID_FIELD_IN_CDB : SENSE_INVALID_OPCODE);
    }
    lab_end(&lab);
}

HARNESS_TEST(a_cdb_cut_short_is_invalid)
{
    struct lab *lab = lab_new();
    const uint8_t cdb[16] = {0x88};
    expect_sense(lab_cmd(lab, cdb, 10), SENSE_INVALID_OPCODE);
    expect_sense(lab_cmd(lab, cdb, 0), SENSE_INVALID_OPCODE);
    lab_end(&lab);
}

HARNESS_TEST(a_full_lun_has_no_unmap)
{
    lab_mem("m", LAB_SIZE, 512);
    struct lab *lab = lab_with(&(struct scsi_lun_args){.device = "m", .thin_given = true});
    unsigned n;
    scsi_opcode_table(&n);
    struct io *io = report(lab, 0, 0, 0);
    check_int(be(io->in, 4), (n - 2) * 8); /* UNMAP, SANITIZE BLOCK ERASE */
    expect_good(io);
    io = report(lab, 1, 0x93, 0);
    check_int(io->in[4 + 1], 0x01);
    expect_good(io);
    io = report(lab, 1, 0x42, 0);
    check_int(io->in[1], 1);
    expect_good(io);
    lab_end(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_commands_are_listed_once),
        cmocka_unit_test(timeouts_are_given_when_asked_for),
        cmocka_unit_test(one_command_is_reported_with_its_mask),
        cmocka_unit_test(bits_outside_the_usage_mask_are_refused),
        cmocka_unit_test(an_opcode_or_a_service_action_outside_the_table_is_invalid),
        cmocka_unit_test(a_cdb_cut_short_is_invalid),
        cmocka_unit_test(a_full_lun_has_no_unmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
