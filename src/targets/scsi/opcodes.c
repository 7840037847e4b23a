/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/scsi/opcode.h"

#include <assert.h>
#include <string.h>

#define ALWAYS (OP_NO_MEDIUM | OP_LENGTH)
#define ANYWHERE (ALWAYS | OP_NO_UA | OP_NO_LUN | OP_WELL_KNOWN | OP_FREE)
#define READS (OP_RANGE | OP_MOVES | OP_FUA | OP_READS | OP_GATED)
#define PLAIN_WRITES (OP_RANGE | OP_MOVES | OP_WRITES | OP_PARTIAL | OP_GATED)
#define WRITES (PLAIN_WRITES | OP_FUA)
#define SAMES (OP_RANGE | OP_WRITES | OP_EXACT | OP_UNMAP)

/* Usage masks of the usual layouts: byte 1, then LBA, count and group number where SBC-3 has them.
 * The group number may be anything: without the grouping function it means nothing. */
#define B4 0xff, 0xff, 0xff, 0xff
#define USE10(op, b1)                   \
    {                                   \
        op, b1, B4, 0x1f, 0xff, 0xff, 0 \
    }
#define USE12(op, b1)           \
    {                           \
        op, b1, B4, B4, 0x1f, 0 \
    }
#define USE16(op, b1)               \
    {                               \
        op, b1, B4, B4, B4, 0x1f, 0 \
    }

/* PERSISTENT RESERVE IN and OUT: OUT has scope and type, and a longer length. */
#define PR(op, sa, out)                            \
    {                                              \
        op, sa, out, 0, 0, out, out, 0xff, 0xff, 0 \
    }

/* The LBA and count fields of these layouts; NONE: no such field. */
#define NONE 0, 0
#define AT(byte, length) byte, length
#define IN10 AT(2, 4), AT(7, 2)
#define IN12 AT(2, 4), AT(6, 4)
#define IN16 AT(2, 8), AT(10, 4)

enum { NOWHERE = SCSI_DIR_NONE, IN = SCSI_DIR_IN, OUT = SCSI_DIR_OUT };

/*
 * Sorted by opcode, then service action. CDB layouts: SPC-4 and SBC-3, clause "commands". The usage
 * masks leave out what is reserved, obsolete or not supported here: protection fields, ANCHOR,
 * NACA.
 */
/* clang-format off */
static const struct scsi_opcode table[] = {
    {0x00, 6, OP_NO_SA, NOWHERE, OP_WELL_KNOWN | OP_FREE, NONE, NONE, 10,
     NULL, scsi_run_nothing, {0x00}, "TEST UNIT READY"},
    {0x03, 6, OP_NO_SA, IN, ANYWHERE, NONE, AT(4, 1), 10,
     NULL, scsi_run_request_sense, {0x03, 0x01, 0, 0, 0xff}, "REQUEST SENSE"},
    {0x04, 6, OP_NO_SA, NOWHERE, OP_WRITES, NONE, NONE, 60,
     NULL, scsi_run_nothing, {0x04}, "FORMAT UNIT"},
    {0x08, 6, OP_NO_SA, IN, OP_RANGE | OP_MOVES | OP_READS | OP_GATED, AT(1, 3), AT(4, 1), 60,
     scsi_prepare_rw6, scsi_run_read, {0x08, 0x1f, 0xff, 0xff, 0xff}, "READ(6)"},
    {0x0a, 6, OP_NO_SA, OUT, PLAIN_WRITES, AT(1, 3), AT(4, 1), 60,
     scsi_prepare_rw6, scsi_run_write, {0x0a, 0x1f, 0xff, 0xff, 0xff}, "WRITE(6)"},
    {0x12, 6, OP_NO_SA, IN, ANYWHERE, NONE, AT(3, 2), 10,
     scsi_prepare_inquiry, scsi_run_inquiry, {0x12, 0x01, 0xff, 0xff, 0xff}, "INQUIRY"},
    {0x15, 6, OP_NO_SA, OUT, ALWAYS | OP_STANDBY, NONE, AT(4, 1), 10,
     NULL, scsi_run_mode_select, {0x15, 0x11, 0, 0, 0xff}, "MODE SELECT(6)"},
    {0x16, 6, OP_NO_SA, NOWHERE, OP_FREE, NONE, NONE, 10,
     NULL, scsi_run_reserve6, {0x16}, "RESERVE(6)"},
    {0x17, 6, OP_NO_SA, NOWHERE, OP_FREE | OP_RELEASE, NONE, NONE, 10,
     NULL, scsi_run_release6, {0x17}, "RELEASE(6)"},
    {0x1a, 6, OP_NO_SA, IN, ALWAYS | OP_READS | OP_ANY_PATH, NONE, AT(4, 1), 10,
     NULL, scsi_run_mode_sense, {0x1a, 0x08, 0xff, 0xff, 0xff}, "MODE SENSE(6)"},
    {0x1b, 6, OP_NO_SA, NOWHERE, OP_FREE, NONE, NONE, 60,
     scsi_prepare_start_stop, scsi_run_start_stop, {0x1b, 0x01, 0, 0, 0x05}, "START STOP UNIT"},
    {0x1d, 6, OP_NO_SA, NOWHERE, OP_STANDBY, NONE, NONE, 60,
     NULL, scsi_run_send_diagnostic, {0x1d, 0x04}, "SEND DIAGNOSTIC"},
    {0x1e, 6, OP_NO_SA, NOWHERE, OP_FREE, NONE, NONE, 10,
     scsi_prepare_prevent, scsi_run_nothing, {0x1e, 0, 0, 0, 0x01}, "PREVENT ALLOW MEDIUM REMOVAL"},
    {0x25, 10, OP_NO_SA, IN, OP_FREE | OP_STANDBY, NONE, NONE, 10,
     NULL, scsi_run_read_capacity10, {0x25}, "READ CAPACITY(10)"},
    {0x28, 10, OP_NO_SA, IN, READS, IN10, 60,
     NULL, scsi_run_read, USE10(0x28, 0x18), "READ(10)"},
    {0x2a, 10, OP_NO_SA, OUT, WRITES, IN10, 60,
     NULL, scsi_run_write, USE10(0x2a, 0x18), "WRITE(10)"},
    {0x2e, 10, OP_NO_SA, OUT, PLAIN_WRITES, IN10, 60,
     scsi_prepare_write_verify, scsi_run_write_verify, USE10(0x2e, 0x16), "WRITE AND VERIFY(10)"},
    {0x2f, 10, OP_NO_SA, OUT, OP_RANGE | OP_READS, IN10, 60,
     scsi_prepare_verify, scsi_run_verify, USE10(0x2f, 0x16), "VERIFY(10)"},
    {0x34, 10, OP_NO_SA, NOWHERE, OP_RANGE | OP_READS, IN10, 60,
     NULL, scsi_run_prefetch, USE10(0x34, 0x02), "PRE-FETCH(10)"},
    {0x35, 10, OP_NO_SA, NOWHERE, OP_RANGE, IN10, 120,
     NULL, scsi_run_sync, USE10(0x35, 0x02), "SYNCHRONIZE CACHE(10)"},
    {0x37, 10, OP_NO_SA, IN, OP_LENGTH | OP_READS, NONE, AT(7, 2), 10,
     NULL, scsi_run_read_defects, {0x37, 0, 0x1f, 0, 0, 0, 0, 0xff, 0xff}, "READ DEFECT DATA(10)"},
    {0x41, 10, OP_NO_SA, OUT, SAMES, IN10, 120,
     scsi_prepare_write_same, scsi_run_write_same, USE10(0x41, 0x08), "WRITE SAME(10)"},
    {0x42, 10, OP_NO_SA, OUT, OP_LENGTH | OP_LBP, NONE, AT(7, 2), 120,
     NULL, scsi_run_unmap, {0x42, 0, 0, 0, 0, 0, 0x1f, 0xff, 0xff}, "UNMAP"},
    {0x48, 10, 0x01, OUT, OP_LENGTH | OP_WRITES, NONE, AT(7, 2), 65535,
     NULL, scsi_run_sanitize, {0x48, 0xa1, 0, 0, 0, 0, 0, 0xff, 0xff}, "SANITIZE, OVERWRITE"},
    {0x48, 10, 0x02, OUT, OP_LENGTH | OP_WRITES | OP_LBP, NONE, AT(7, 2), 65535,
     NULL, scsi_run_sanitize, {0x48, 0xa2, 0, 0, 0, 0, 0, 0xff, 0xff}, "SANITIZE, BLOCK ERASE"},
    {0x48, 10, 0x1f, OUT, OP_LENGTH, NONE, AT(7, 2), 65535,
     NULL, scsi_run_sanitize, {0x48, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff}, "SANITIZE, EXIT FAILURE MODE"},
    {0x4c, 10, OP_NO_SA, OUT, ALWAYS | OP_STANDBY, NONE, AT(7, 2), 10,
     NULL, scsi_run_log_select, {0x4c, 0x02, 0xff, 0xff, 0, 0, 0, 0xff, 0xff}, "LOG SELECT"},
    {0x4d, 10, OP_NO_SA, IN, ALWAYS | OP_FREE | OP_UNREADY | OP_ANY_PATH, NONE, AT(7, 2), 10,
     NULL, scsi_run_log_sense, {0x4d, 0, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff}, "LOG SENSE"},
    {0x55, 10, OP_NO_SA, OUT, ALWAYS | OP_STANDBY, NONE, AT(7, 2), 10,
     NULL, scsi_run_mode_select, {0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff}, "MODE SELECT(10)"},
    {0x5a, 10, OP_NO_SA, IN, ALWAYS | OP_READS | OP_ANY_PATH, NONE, AT(7, 2), 10,
     NULL, scsi_run_mode_sense, {0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff}, "MODE SENSE(10)"},
    {0x5e, 10, 0x00, IN, OP_LENGTH | OP_UNREADY | OP_FREE | OP_ANY_PATH, NONE, AT(7, 2), 10,
     NULL, scsi_run_pr_in, PR(0x5e, 0x00, 0), "PERSISTENT RESERVE IN, READ KEYS"},
    {0x5e, 10, 0x01, IN, OP_LENGTH | OP_UNREADY | OP_FREE | OP_ANY_PATH, NONE, AT(7, 2), 10,
     NULL, scsi_run_pr_in, PR(0x5e, 0x01, 0), "PERSISTENT RESERVE IN, READ RESERVATION"},
    {0x5e, 10, 0x02, IN, OP_LENGTH | OP_UNREADY | OP_FREE | OP_ANY_PATH, NONE, AT(7, 2), 10,
     NULL, scsi_run_pr_in, PR(0x5e, 0x02, 0), "PERSISTENT RESERVE IN, REPORT CAPABILITIES"},
    {0x5e, 10, 0x03, IN, OP_LENGTH | OP_UNREADY | OP_FREE | OP_ANY_PATH, NONE, AT(7, 2), 10,
     NULL, scsi_run_pr_in, PR(0x5e, 0x03, 0), "PERSISTENT RESERVE IN, READ FULL STATUS"},
    {0x5f, 10, 0x00, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x00, 0xff),
     "PERSISTENT RESERVE OUT, REGISTER"},
    {0x5f, 10, 0x01, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x01, 0xff),
     "PERSISTENT RESERVE OUT, RESERVE"},
    {0x5f, 10, 0x02, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x02, 0xff),
     "PERSISTENT RESERVE OUT, RELEASE"},
    {0x5f, 10, 0x03, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x03, 0xff),
     "PERSISTENT RESERVE OUT, CLEAR"},
    {0x5f, 10, 0x04, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x04, 0xff),
     "PERSISTENT RESERVE OUT, PREEMPT"},
    {0x5f, 10, 0x05, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x05, 0xff),
     "PERSISTENT RESERVE OUT, PREEMPT AND ABORT"},
    {0x5f, 10, 0x06, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x06, 0xff),
     "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY"},
    {0x5f, 10, 0x07, OUT, OP_LENGTH | OP_FREE | OP_ANY_PATH, NONE, AT(5, 4), 30,
     NULL, scsi_run_pr_out, PR(0x5f, 0x07, 0xff),
     "PERSISTENT RESERVE OUT, REGISTER AND MOVE"},
    {0x83, 16, 0x00, OUT, OP_LENGTH, NONE, AT(10, 4), 600,
     NULL, scsi_run_extended_copy, {0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, B4}, "EXTENDED COPY(LID1)"},
    {0x84, 16, 0x00, IN, OP_LENGTH, NONE, AT(10, 4), 10,
     NULL, scsi_run_copy_status, {0x84, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, B4},
     "RECEIVE COPY STATUS(LID1)"},
    {0x84, 16, 0x01, IN, OP_LENGTH, NONE, AT(10, 4), 10,
     NULL, scsi_run_copy_data, {0x84, 0x01, 0xff, 0, 0, 0, 0, 0, 0, 0, B4},
     "RECEIVE COPY DATA(LID1)"},
    {0x84, 16, 0x03, IN, OP_LENGTH, NONE, AT(10, 4), 10,
     NULL, scsi_run_copy_parameters, {0x84, 0x03, 0xff, 0, 0, 0, 0, 0, 0, 0, B4},
     "RECEIVE COPY OPERATING PARAMETERS"},
    {0x84, 16, 0x04, IN, OP_LENGTH, NONE, AT(10, 4), 10,
     NULL, scsi_run_copy_failure, {0x84, 0x04, 0xff, 0, 0, 0, 0, 0, 0, 0, B4},
     "RECEIVE COPY FAILURE DETAILS(LID1)"},
    {0x88, 16, OP_NO_SA, IN, READS, IN16, 60,
     NULL, scsi_run_read, USE16(0x88, 0x18), "READ(16)"},
    {0x89, 16, OP_NO_SA, OUT, OP_RANGE | OP_WRITES | OP_FUA | OP_EXACT, AT(2, 8), AT(13, 1), 60,
     scsi_prepare_caw, scsi_run_caw, {0x89, 0x18, B4, B4, 0, 0, 0, 0xff, 0x1f}, "COMPARE AND WRITE"},
    {0x8a, 16, OP_NO_SA, OUT, WRITES, IN16, 60,
     NULL, scsi_run_write, USE16(0x8a, 0x18), "WRITE(16)"},
    {0x8b, 16, OP_NO_SA, OUT, OP_RANGE | OP_MOVES | OP_WRITES | OP_FUA | OP_GATED, IN16, 60,
     scsi_prepare_orwrite, scsi_run_orwrite, USE16(0x8b, 0x18), "ORWRITE(16)"},
    {0x8e, 16, OP_NO_SA, OUT, PLAIN_WRITES, IN16, 60,
     scsi_prepare_write_verify, scsi_run_write_verify, USE16(0x8e, 0x16), "WRITE AND VERIFY(16)"},
    {0x8f, 16, OP_NO_SA, OUT, OP_RANGE | OP_READS, IN16, 60,
     scsi_prepare_verify, scsi_run_verify, USE16(0x8f, 0x16), "VERIFY(16)"},
    {0x90, 16, OP_NO_SA, NOWHERE, OP_RANGE | OP_READS, IN16, 60,
     NULL, scsi_run_prefetch, USE16(0x90, 0x02), "PRE-FETCH(16)"},
    {0x91, 16, OP_NO_SA, NOWHERE, OP_RANGE, IN16, 120,
     NULL, scsi_run_sync, USE16(0x91, 0x02), "SYNCHRONIZE CACHE(16)"},
    {0x93, 16, OP_NO_SA, OUT, SAMES, IN16, 120,
     scsi_prepare_write_same, scsi_run_write_same, USE16(0x93, 0x09), "WRITE SAME(16)"},
    {0x9e, 16, 0x10, IN, OP_LENGTH | OP_FREE | OP_STANDBY, NONE, AT(10, 4), 10,
     NULL, scsi_run_read_capacity16, {0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, B4}, "READ CAPACITY(16)"},
    {0x9e, 16, 0x12, IN, OP_LENGTH | OP_READS, IN16, 30,
     NULL, scsi_run_get_lba_status, {0x9e, 0x12, B4, B4, B4}, "GET LBA STATUS"},
    {0xa0, 12, OP_NO_SA, IN, ANYWHERE, NONE, AT(6, 4), 10,
     NULL, scsi_run_report_luns, {0xa0, 0, 0xff, 0, 0, 0, B4}, "REPORT LUNS"},
    {0xa3, 12, 0x0a, IN, ALWAYS | OP_FREE | OP_ANY_PATH, NONE, AT(6, 4), 10,
     NULL, scsi_run_report_groups, {0xa3, 0xea, 0, 0, 0, 0, B4}, "REPORT TARGET PORT GROUPS"},
    {0xa3, 12, 0x0c, IN, ALWAYS | OP_UNREADY | OP_READS | OP_ANY_PATH, NONE, AT(6, 4), 10,
     NULL, scsi_run_report_opcodes, {0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, B4},
     "REPORT SUPPORTED OPERATION CODES"},
    {0xa3, 12, 0x0d, IN, ALWAYS | OP_UNREADY | OP_READS | OP_ANY_PATH, NONE, AT(6, 4), 10,
     NULL, scsi_run_report_tmf, {0xa3, 0x0d, 0x80, 0, 0, 0, B4},
     "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS"},
    {0xa4, 12, 0x0a, OUT, ALWAYS | OP_ANY_PATH, NONE, AT(6, 4), 10,
     NULL, scsi_run_set_groups, {0xa4, 0x0a, 0, 0, 0, 0, B4}, "SET TARGET PORT GROUPS"},
    {0xa8, 12, OP_NO_SA, IN, READS, IN12, 60,
     NULL, scsi_run_read, USE12(0xa8, 0x18), "READ(12)"},
    {0xaa, 12, OP_NO_SA, OUT, WRITES, IN12, 60,
     NULL, scsi_run_write, USE12(0xaa, 0x18), "WRITE(12)"},
    {0xae, 12, OP_NO_SA, OUT, PLAIN_WRITES, IN12, 60,
     scsi_prepare_write_verify, scsi_run_write_verify, USE12(0xae, 0x16), "WRITE AND VERIFY(12)"},
    {0xaf, 12, OP_NO_SA, OUT, OP_RANGE | OP_READS, IN12, 60,
     scsi_prepare_verify, scsi_run_verify, USE12(0xaf, 0x16), "VERIFY(12)"},
    {0xb7, 12, OP_NO_SA, IN, OP_LENGTH | OP_READS, NONE, AT(6, 4), 10,
     NULL, scsi_run_read_defects, {0xb7, 0x1f, B4, B4}, "READ DEFECT DATA(12)"},
};
/* clang-format on */

enum { COUNT = sizeof table / sizeof table[0], ABSENT = 0xff };

/* Made from the table once: the first entry of an opcode, and the bits a CDB must not have. */
static uint8_t first[256];
static uint64_t forbidden[COUNT][2];
static bool ready;

static void forbid(unsigned i)
{
    uint8_t bits[16] = {0};
    for (unsigned k = 1; k < table[i].cdb_len; k++)
        bits[k] = (uint8_t)~table[i].usage[k];
    if (table[i].sa != OP_NO_SA)
        bits[1] &= 0xe0;
    memcpy(forbidden[i], bits, sizeof bits);
}

void scsi_opcodes_init(void)
{
    if (ready)
        return;
    ready = true;
    memset(first, ABSENT, sizeof first);
    for (unsigned i = COUNT; i-- > 0;) {
        assert(i == 0 || table[i - 1].opcode <= table[i].opcode);
        assert(table[i].usage[0] == table[i].opcode && table[i].cdb_len <= 16);
        first[table[i].opcode] = (uint8_t)i;
        forbid(i);
    }
}

const struct scsi_opcode *scsi_opcode_find(uint8_t opcode, unsigned sa, bool *has_sa_r)
{
    unsigned i = first[opcode];
    if (has_sa_r)
        *has_sa_r = i != ABSENT && table[i].sa != OP_NO_SA;
    if (i == ABSENT)
        return NULL;
    if (table[i].sa == OP_NO_SA)
        return &table[i];
    for (; i < COUNT && table[i].opcode == opcode; i++)
        if (table[i].sa == sa)
            return &table[i];
    return NULL;
}

const struct scsi_opcode *scsi_opcode_of_cdb(const uint8_t *cdb)
{
    return scsi_opcode_find(cdb[0], cdb[1] & 0x1f, NULL);
}

unsigned scsi_opcode_check(const struct scsi_opcode *op, const uint8_t *cdb)
{
    uint64_t v[2];
    memcpy(v, cdb, sizeof v);
    const uint64_t *f = forbidden[op - table];
    if (!((v[0] & f[0]) | (v[1] & f[1])))
        return 0;
    uint8_t bits[16];
    memcpy(bits, f, sizeof bits);
    unsigned at = 0;
    while (!(cdb[at] & bits[at]))
        at++;
    unsigned wrong = cdb[at] & bits[at];
    return 1 + at * 8 + (31 - (unsigned)__builtin_clz(wrong));
}

const struct scsi_opcode *scsi_opcode_table(unsigned *count_r)
{
    *count_r = COUNT;
    return table;
}

bool scsi_opcode_present(const struct scsi_opcode *op, bool lbp)
{
    return lbp || !(op->flags & OP_LBP);
}

void scsi_opcode_usage(const struct scsi_opcode *op, bool lbp, uint8_t usage_r[16])
{
    memcpy(usage_r, op->usage, sizeof op->usage);
    if (op->flags & OP_UNMAP && !lbp)
        usage_r[1] &= (uint8_t)~0x08;
}
