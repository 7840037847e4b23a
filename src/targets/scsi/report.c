/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a LUN is and can: READ CAPACITY, REPORT LUNS, the two REPORT SUPPORTED; and START STOP UNIT.
 */
#include "targets/scsi/scsi_private.h"

/* TEST UNIT READY: the checks were it. PREVENT ALLOW MEDIUM REMOVAL: nothing can be removed. */
void scsi_run_nothing(struct scsi_cmd *cmd)
{
    scsi_good(cmd);
}

/* Starting disturbs nobody, so only the other way is subject to reservations (SPC-4, "allowed
 * commands"); the same for PREVENT. */
bool scsi_prepare_start_stop(struct scsi_cmd *cmd)
{
    return cmd->cdb[4] & 0x01 || scsi_may_write(cmd);
}

bool scsi_prepare_prevent(struct scsi_cmd *cmd)
{
    return !(cmd->cdb[4] & 0x01) || scsi_may_write(cmd);
}

/* A virtual disk has no motor, and the one that stops it must not take it from the others: stopping
 * writes the cache out (unless NO_FLUSH), and the LUN stays ready. */
void scsi_run_start_stop(struct scsi_cmd *cmd)
{
    bool start = cmd->cdb[4] & 0x01, no_flush = cmd->cdb[4] & 0x04;
    if (start || no_flush) {
        scsi_good(cmd);
        return;
    }
    scsi_bio(cmd, BIO_FLUSH, 0, 0);
    scsi_submit(cmd, scsi_good);
}

/* ---- READ CAPACITY (SBC-3) */

void scsi_run_read_capacity10(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    cmd->length = 8;
    uint8_t *p = scsi_reply_room(cmd, 8);
    if (!p)
        return;
    struct wr w = wr_make(p, 8);
    uint64_t last = f->blocks - 1;
    wr_be32(&w, last > UINT32_MAX ? UINT32_MAX : last);
    wr_be32(&w, f->block_size);
    scsi_reply(cmd, w.pos);
}

void scsi_run_read_capacity16(struct scsi_cmd *cmd)
{
    const struct scsi_facts *f = &cmd->view->now;
    uint8_t *p = scsi_reply_room(cmd, 32);
    if (!p)
        return;
    struct wr w = wr_make(p, 32);
    wr_be64(&w, f->blocks - 1);
    wr_be32(&w, f->block_size);
    wr_u8(&w, 0); /* no protection information */
    wr_u8(&w, f->phys_shift);
    wr_be16(&w,
            (f->lbp ? 0x8000u : 0) | (f->lbp && f->lbprz ? 0x4000u : 0)); /* lowest aligned: 0 */
    wr_zero(&w, 16);
    scsi_reply(cmd, w.pos);
}

/* ---- REPORT LUNS (SPC-4) */

enum { REPORT_LUNS_HEADER = 8, LUN_LEN = 8 };
enum { SELECT_ADDRESSED = 0, SELECT_WELL_KNOWN = 1, SELECT_ALL = 2 };

static void forget_luns_changed(struct scsi_nexus *n)
{
    n->remapped = false;
    for (unsigned i = 0; i < n->itls; i++)
        if (n->itl[i])
            n->itl[i]->ua &= ~(uint32_t)UA_LUNS_CHANGED;
}

void scsi_run_report_luns(struct scsi_cmd *cmd)
{
    unsigned select = cmd->cdb[2], limit = scsi_lun_limit(cmd->nexus);
    if (select > SELECT_ALL) {
        scsi_fail_field(cmd, 2, 7);
        return;
    }
    size_t room = REPORT_LUNS_HEADER + ((size_t)limit + 1) * LUN_LEN;
    uint8_t *p = scsi_reply_room(cmd, room);
    if (!p)
        return;
    struct wr w = wr_make(p, room);
    wr_zero(&w, REPORT_LUNS_HEADER);
    if (select != SELECT_ADDRESSED)
        wr_be64(&w, 0xc101000000000000);
    for (unsigned i = 0; i < limit && select != SELECT_WELL_KNOWN; i++)
        if (scsi_lun_at(cmd->nexus, i))
            scsi_lun_address(i, &w);
    struct wr head = wr_make(p, 4);
    wr_be32(&head, w.pos - REPORT_LUNS_HEADER);
    forget_luns_changed(cmd->nexus);
    scsi_reply(cmd, w.pos);
}

/* ---- REPORT SUPPORTED OPERATION CODES (SPC-4) */

enum { OPCODES_ROOM = 4096, RCTD = 0x80 };

static void put_timeouts(struct wr *w, const struct scsi_opcode *op)
{
    wr_be16(w, 10);
    wr_u8(w, 0);
    wr_u8(w, 0);
    wr_be32(w, 0); /* nominal: not said */
    wr_be32(w, op->timeout);
}

static void report_all(struct scsi_cmd *cmd, struct wr *w, bool rctd)
{
    unsigned n;
    const struct scsi_opcode *op = scsi_opcode_table(&n);
    uint8_t *length = wr_room(w, 4);
    for (unsigned i = 0; i < n; i++, op++) {
        if (!scsi_opcode_present(op, cmd->view->now.lbp))
            continue;
        bool sa = op->sa != OP_NO_SA;
        wr_u8(w, op->opcode);
        wr_u8(w, 0);
        wr_be16(w, sa ? op->sa : 0);
        wr_u8(w, 0);
        wr_u8(w, (rctd ? 0x02 : 0) | (sa ? 0x01 : 0)); /* CTDP, SERVACTV */
        wr_be16(w, op->cdb_len);
        if (rctd)
            put_timeouts(w, op);
    }
    struct wr l = wr_make(length, 4);
    wr_be32(&l, w->pos - 4);
}

static void report_one(struct scsi_cmd *cmd, struct wr *w, const struct scsi_opcode *op, bool rctd)
{
    bool lbp = cmd->view->now.lbp;
    if (op && !scsi_opcode_present(op, lbp))
        op = NULL;
    wr_u8(w, 0);
    wr_u8(w, op ? (rctd ? 0x83 : 0x03) : 0x01); /* SUPPORT: 011b by the standard, 001b not */
    wr_be16(w, op ? op->cdb_len : 0);
    if (!op)
        return;
    uint8_t usage[16];
    scsi_opcode_usage(op, lbp, usage);
    wr_copy(w, usage, op->cdb_len);
    if (rctd)
        put_timeouts(w, op);
}

/* Reporting options: 1 an opcode that has no service actions, 2 one that has, 3 whichever. */
void scsi_run_report_opcodes(struct scsi_cmd *cmd)
{
    unsigned options = cmd->cdb[2] & 0x07;
    unsigned sa = (unsigned)cdb_be(cmd, 4, 2);
    bool rctd = cmd->cdb[2] & RCTD, has_sa = false;
    const struct scsi_opcode *op = scsi_opcode_find(cmd->cdb[3], sa, &has_sa);
    bool known = op || has_sa;
    if (options > 3 || (known && ((options == 1 && has_sa) || (options == 2 && !has_sa)))) {
        scsi_fail_field(cmd, 2, 2);
        return;
    }
    if (options == 3 && !has_sa && sa)
        op = NULL;
    uint8_t *p = scsi_reply_room(cmd, OPCODES_ROOM);
    if (!p)
        return;
    struct wr w = wr_make(p, OPCODES_ROOM);
    if (options == 0)
        report_all(cmd, &w, rctd);
    else
        report_one(cmd, &w, op, rctd);
    scsi_reply(cmd, w.pos);
}

/* Byte 0: abort task, abort task set, clear task set, LUN reset, target reset. REPD asks for
 * the long form, whose time-outs are not given (TMFTMOV 0). */
void scsi_run_report_tmf(struct scsi_cmd *cmd)
{
    bool repd = cmd->cdb[2] & 0x80;
    uint8_t *p = scsi_reply_room(cmd, 16);
    if (!p)
        return;
    struct wr w = wr_make(p, 16);
    wr_u8(&w, 0x80 | 0x40 | 0x10 | 0x08 | 0x02);
    wr_be16(&w, 0);
    wr_u8(&w, repd ? 12 : 0);
    if (repd)
        wr_zero(&w, 12);
    scsi_reply(cmd, w.pos);
}
