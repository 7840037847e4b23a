/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "targets/iscsi/command.h"

/* The slot of the window is free as soon as the initiator can learn so: with the PDU that carries
 * status. */
static void leave_window(struct command *c)
{
    if (!c->in_window)
        return;
    c->in_window = false;
    c->s->slots--;
}

static void done(struct iscsi_conn *conn, struct tx_item *item, bool sent)
{
    struct command *c = container_of(item, struct command, tx);
    c->tx_queued = false;
    c->cmd.sent = sent ? conn->last_tx : 0;
    command_free(c);
}

/* ---- Data-In, 11.7: sequences of MaxBurstLength, PDUs of what the initiator takes, status in the
 * last */

static void build_data_in(struct iscsi_conn *conn, struct tx_item *item, struct tx_pdu *p)
{
    (void)conn;
    struct command *c = container_of(item, struct command, tx);
    uint32_t len = c->in_len - item->off;
    uint32_t max_burst = c->s->seed.params.max_burst, burst = max_burst - item->off % max_burst;
    if (len > burst)
        len = burst;
    if (len > c->m->max_xmit)
        len = c->m->max_xmit;
    p->last = item->off + len == c->in_len;
    if (p->last)
        leave_window(c);
    struct iscsi_pdu pdu = {.op = OP_DATA_IN, .data_len = len, .itt = c->itt};
    pdu.w20 = ISCSI_NO_TAG;
    member_stamp_next(c->m, &pdu);
    pdu.w24 = 0;
    pdu.flags = p->last || len == burst ? F_FINAL : 0;
    pdu.w36 = item->sn;
    pdu.w40 = item->off;
    if (p->last) {
        pdu.flags |= F_DATA_STATUS | c->rsp_flags;
        pdu.b3 = c->cmd.status;
        pdu.w24 = c->statsn;
        pdu.w44 = c->residual;
    }
    iscsi_pdu_build(&pdu, p->head);
    p->data = c->cmd.data;
    p->datacnt = c->cmd.datacnt;
    p->data_off = item->off;
    p->data_len = len;
    item->off += len;
    item->sn++;
}

static const struct tx_ops data_in_tx = {.build = build_data_in, .done = done};

/* ---- SCSI Response, 11.4 */

static void build_response(struct iscsi_conn *conn, struct tx_item *item, struct tx_pdu *p)
{
    (void)conn;
    struct command *c = container_of(item, struct command, tx);
    leave_window(c);
    struct iscsi_pdu pdu = {.op = OP_SCSI_RSP, .flags = F_FINAL | c->rsp_flags, .itt = c->itt};
    pdu.b3 = c->cmd.status;
    pdu.data_len = (uint32_t)c->sense_iov.iov_len;
    member_stamp_next(c->m, &pdu);
    pdu.w24 = c->statsn;
    pdu.w36 = c->r2t_next; /* ExpDataSN: how many R2T and Data-In PDUs there were */
    pdu.w44 = c->residual;
    iscsi_pdu_build(&pdu, p->head);
    p->data = &c->sense_iov;
    p->datacnt = 1;
    p->data_len = pdu.data_len;
}

static const struct tx_ops response_tx = {.build = build_response, .done = done};

/* ---- R2T, 11.8 */

static void build_r2t(struct iscsi_conn *conn, struct tx_item *item, struct tx_pdu *p)
{
    (void)conn;
    struct command *c = container_of(item, struct command, tx);
    const struct r2t *r = &c->r2t[item->sn % R2T_MAX];
    struct iscsi_pdu pdu = {.op = OP_R2T, .flags = F_FINAL, .itt = c->itt};
    memcpy(pdu.lun, c->cmd.lun, sizeof pdu.lun);
    pdu.w20 = r->tag;
    member_stamp_next(c->m, &pdu);
    pdu.w36 = item->sn;
    pdu.w40 = r->off;
    pdu.w44 = r->len;
    iscsi_pdu_build(&pdu, p->head);
    item->sn++;
    p->last = item->sn == c->r2t_next;
}

static void r2t_done(struct iscsi_conn *conn, struct tx_item *item, bool sent)
{
    struct command *c = container_of(item, struct command, tx);
    c->tx_queued = false;
    if (c->given_up && c->state == COMMAND_REPLIES)
        command_free(c);
    else if (c->reply_next && sent)
        command_reply(c);
    else if (c->reply_next)
        command_free(c);
    else if (sent && !c->given_up && item->sn != c->r2t_next)
        command_queue_r2t(c); /* more was asked for while the last was under way */
    (void)conn;
}

const struct tx_ops r2t_tx = {.build = build_r2t, .done = r2t_done};

void command_queue_r2t(struct command *c)
{
    if (c->tx_queued)
        return;
    c->tx_queued = true;
    c->tx.ops = &r2t_tx;
    conn_queue(c->m->conn, &c->tx);
}

/* ---- status */

/* Residuals, 11.4.5: what the command wanted to move against what the initiator expected. */
static void set_residual(struct command *c, uint64_t length)
{
    struct scsi_cmd *cmd = &c->cmd;
    bool in = cmd->dir == SCSI_DIR_IN, out = cmd->dir == SCSI_DIR_OUT;
    uint32_t window = (in && c->read) || (out && c->write) ? c->expected : 0;
    if (!in && !out) /* nothing moved */
        window = c->expected;
    uint64_t residual = length > window ? length - window : window - length;
    if (length > window)
        c->rsp_flags = F_RSP_OVERFLOW;
    else if (residual)
        c->rsp_flags = F_RSP_UNDERFLOW;
    c->residual = residual > UINT32_MAX ? UINT32_MAX : (uint32_t)residual;
    c->in_len = in && cmd->status == SCSI_GOOD ? (uint32_t)(length < window ? length : window) : 0;
}

static void set_sense(struct command *c)
{
    c->sense_iov = (struct iovec){c->sense, 0};
    if (!c->cmd.sense_len)
        return;
    struct wr w = wr_make(c->sense, sizeof c->sense);
    wr_be16(&w, c->cmd.sense_len);
    wr_copy(&w, c->cmd.sense, c->cmd.sense_len);
    assert(wr_ok(&w));
    c->sense_iov.iov_len = w.pos;
}

static void count(struct command *c)
{
    struct session_stats *st = &c->s->stats;
    bool out = c->cmd.dir == SCSI_DIR_OUT;
    if (!out && !c->in_len)
        return;
    uint64_t *ops = out ? &st->writes : &st->reads;
    uint64_t *bytes = out ? &st->written_bytes : &st->read_bytes;
    __atomic_store_n(ops, *ops + 1, __ATOMIC_RELAXED);
    __atomic_store_n(bytes, *bytes + (out ? c->want : c->in_len), __ATOMIC_RELAXED);
}

void command_reply(struct command *c)
{
    if (c->tx_queued) { /* an R2T of a command that failed is still queued: it goes first */
        c->reply_next = true;
        return;
    }
    c->state = COMMAND_REPLIES;
    set_residual(c, c->cmd.length);
    set_sense(c);
    count(c);
    c->statsn = c->m->statsn++;
    c->tx.off = c->tx.sn = 0;
    c->tx.ops = c->in_len ? &data_in_tx : &response_tx;
    c->tx_queued = true;
    conn_queue(c->m->conn, &c->tx);
}
