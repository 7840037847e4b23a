/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "targets/iscsi/command.h"
#include "targets/scsi/sense.h"

/* Conditions of the transport, RFC 7143 11.4.7.2, as sense codes (0xKKAAQQ). */
enum {
    SENSE_UNEXPECTED_UNSOLICITED = 0x0b0c0c,
    SENSE_INCORRECT_AMOUNT = 0x0b0c0d,
    FAULT_BUSY = 1,                /* no condition: out of memory */
    SENSE_PROTOCOL_CRC = 0x0b4705, /* also: a data PDU is missing or out of order, 7.9 */
};

enum { IMMEDIATE_MAX = 64 }; /* immediate commands in flight a session */

/* The transport ends the command: a condition of its own. What data-out still comes is dropped. */
static void fail(struct command *c, unsigned code)
{
    if (c->held) {
        c->fault = c->fault ? c->fault : code;
        c->want = 0;
        return;
    }
    if (c->cmd.finished)
        return;
    struct sense sense = {.code = (enum sense_code)code};
    c->cmd.finished = true;
    c->cmd.status = SCSI_CHECK_CONDITION;
    c->cmd.sense_len = sense_format(&sense, false, c->cmd.sense, sizeof c->cmd.sense);
    c->cmd.dir = SCSI_DIR_NONE;
    c->cmd.length = 0;
    c->want = 0;
}

/* Its data-out goes nowhere any more. */
static void stop_gathering(struct command *c)
{
    list_del(&c->wait);
    if (!c->receiving)
        return;
    c->receiving = false; /* aborted by another in the middle of a PDU */
    c->m->rx = NULL;
    c->m->rx_drop = true;
    conn_rx_abandon(c->m->conn);
}

static void be_busy(struct command *c)
{
    c->cmd.finished = true;
    c->cmd.status = SCSI_BUSY;
    c->want = 0;
}

void command_give_up(struct command *c)
{
    stop_gathering(c);
    if (!c->tx_queued) {
        command_free(c);
        return;
    }
    if (!c->given_up)
        command_forget(c);
    c->given_up = true;
    c->state = COMMAND_REPLIES;
}

static void run(struct command *c)
{
    c->state = COMMAND_RUNS;
    list_del(&c->wait);
    if (!c->cmd.finished) {
        c->cmd.times.received = reactor_now();
        scsi_cmd_execute(&c->cmd, c->want);
        return;
    }
    scsi_cmd_end(&c->cmd); /* out of the task set: nothing can abort it any more */
    c->ended = true;
    command_reply(c);
}

static void on_done(struct scsi_cmd *cmd)
{
    struct command *c = cmd->arg;
    if (c->m->closing || (cmd->aborted && cmd->status != SCSI_TASK_ABORTED)) {
        command_give_up(c);
        return;
    }
    if (cmd->aborted)
        stop_gathering(c);
    command_reply(c);
}

/* ---- data-out */

static void solicit(struct command *c)
{
    uint32_t max_r2t = c->s->seed.params.max_r2t, burst = c->s->seed.params.max_burst;
    if (max_r2t > R2T_MAX)
        max_r2t = R2T_MAX;
    bool more = false;
    while (c->r2t_off < c->want && c->r2t_next - c->r2t_head < max_r2t) {
        uint32_t left = c->want - c->r2t_off;
        struct r2t *r = &c->r2t[c->r2t_next++ % R2T_MAX];
        r->tag = session_tag(c->s);
        r->off = c->r2t_off;
        r->len = left < burst ? left : burst;
        c->r2t_off += r->len;
        more = true;
    }
    if (more)
        command_queue_r2t(c);
}

/* Data or memory has come: goes on as far as it can. */
static void advance(struct command *c)
{
    if (c->held || c->receiving || c->unsolicited || c->cmd.aborted)
        return;
    if (!c->cmd.finished) {
        if (!c->admitted)
            return;
        if (c->off < c->want) {
            solicit(c);
            return;
        }
    }
    run(c);
}

void command_admitted(struct command *c)
{
    c->cmd.times.admitted = reactor_now();
    if (c->want && !c->cmd.finished) {
        uint8_t *room = scsi_cmd_buffer(&c->cmd);
        uint32_t have = c->off < c->want ? c->off : c->want;
        if (!room) {
            be_busy(c);
        } else if (c->early) {
            memcpy(room, c->early->data, have);
            iobuf_put(&c->early);
        }
        c->base = room;
    }
    advance(c);
}

/* Room for what the initiator sends without being asked. */
static void find_room(struct command *c)
{
    uint32_t burst = c->s->seed.params.first_burst;
    if (c->admitted) {
        c->base = scsi_cmd_buffer(&c->cmd);
    } else {
        c->early = iobuf_get(c->want < burst ? c->want : burst);
        c->base = c->early ? c->early->data : NULL;
    }
    if (!c->base)
        be_busy(c);
}

/* Receives the PDU's data segment, which begins at byte c->off of the command's data. */
static void receive(struct command *c, uint32_t len)
{
    c->receiving = true;
    c->m->rx = c;
    if (c->off >= c->want)
        conn_rx_skip(c->m->conn);
    else if (len)
        conn_rx_to(c->m->conn, c->base + c->off, c->want - c->off);
}

static void received(struct command *c, uint32_t len)
{
    c->receiving = false;
    c->m->rx = NULL;
    c->off += len;
}

/* ---- arrival */

static bool fill(struct command *c, const struct iscsi_pdu *pdu, const uint8_t *ahs)
{
    static const uint8_t attributes[] = {SCSI_SIMPLE, SCSI_SIMPLE, SCSI_ORDERED, SCSI_HEAD_OF_QUEUE,
                                         SCSI_ACA};
    const uint8_t *ext;
    size_t ext_len;
    unsigned attr = pdu->flags & F_CMD_ATTR;
    if (attr >= sizeof attributes || !iscsi_ahs_cdb(ahs, pdu->ahs_len, &ext, &ext_len) ||
        ext_len > SCSI_CDB_MAX - 16)
        return false;
    struct scsi_cmd *cmd = &c->cmd;
    cmd->nexus = c->s->nexus;
    memcpy(cmd->lun, pdu->lun, sizeof cmd->lun);
    memcpy(cmd->cdb, pdu->cdb, 16);
    if (ext_len)
        memcpy(cmd->cdb + 16, ext, ext_len);
    cmd->cdb_len = 16 + (unsigned)ext_len;
    cmd->attr = attributes[attr];
    cmd->expected = pdu->w20;
    cmd->may_borrow = !c->m->conn->data_digest;
    cmd->done = on_done;
    cmd->arg = c;
    c->itt = pdu->itt;
    c->expected = pdu->w20;
    c->read = pdu->flags & F_CMD_READ;
    c->write = pdu->flags & F_CMD_WRITE;
    return true;
}

/* What the initiator may send unasked, and does. */
static void check_unsolicited(struct command *c, const struct iscsi_pdu *pdu)
{
    const struct iscsi_params *p = &c->s->seed.params;
    c->unsolicited = c->write && !(pdu->flags & F_FINAL);
    if (c->read && c->write)
        fail(c, SENSE_INVALID_FIELD_IN_CDB); /* no command here moves data both ways */
    bool too_much = pdu->data_len > p->first_burst || pdu->data_len > c->expected;
    if (pdu->data_len && (!c->write || !p->immediate_data || too_much))
        fail(c, SENSE_UNEXPECTED_UNSOLICITED);
    if (c->unsolicited && p->initial_r2t) {
        c->unsolicited = false;
        fail(c, SENSE_UNEXPECTED_UNSOLICITED);
    }
}

static struct command *accept_command(struct member *m, const struct iscsi_pdu *pdu,
                                      const uint8_t *ahs, bool held)
{
    struct iscsi_session *s = m->s;
    if (pdu->itt == ISCSI_NO_TAG || command_lookup(s, pdu->itt)) {
        member_reject(m, pdu, REJECT_PROTOCOL);
        return NULL;
    }
    if (pdu->immediate && s->immediates >= IMMEDIATE_MAX) {
        member_reject(m, pdu, REJECT_IMMEDIATE);
        return NULL;
    }
    struct command *c = command_get(m);
    if (!c) {
        member_fail(m, "out of memory");
        return NULL;
    }
    if (!fill(c, pdu, ahs)) {
        m->live--;
        member_reject(m, pdu, REJECT_FIELD);
        command_discard(c);
        return NULL;
    }
    c->immediate = pdu->immediate;
    c->in_window = !pdu->immediate && !held;
    c->held = c->ended = held;
    s->immediates += c->immediate;
    s->slots += c->in_window;
    command_enlist(c);
    __atomic_store_n(&s->stats.inflight, s->stats.inflight + 1, __ATOMIC_RELAXED);
    return c;
}

static uint32_t lesser(uint64_t a, uint32_t b)
{
    return a < b ? (uint32_t)a : b;
}

/* The device server learns of it. */
static void decode(struct command *c)
{
    c->cmd.times.arrived = c->cmd.times.admitted = reactor_now();
    scsi_cmd_begin(&c->cmd);
    if (c->cmd.finished)
        return;
    c->charge = c->cmd.memory;
    if (c->cmd.dir == SCSI_DIR_OUT && c->write)
        c->want = lesser(c->cmd.length, c->expected);
}

/* All that can be said against it is said: memory for it. `unasked`: data comes without R2T. */
static void settle(struct command *c, bool unasked)
{
    if (c->cmd.dir == SCSI_DIR_OUT && c->cmd.length && !c->write)
        fail(c, SENSE_INVALID_FIELD_IN_CDB); /* its data can never come */
    if (c->cmd.finished)
        c->charge = 0;
    command_admit(c);
    if (c->want && (c->admitted || unasked))
        find_room(c);
}

/* Before its turn nothing is known of it but what the transport is told: what comes unasked is set
 * aside. */
static void hold(struct command *c, const struct iscsi_pdu *pdu)
{
    c->want = c->write ? lesser(c->expected, c->s->seed.params.first_burst) : 0;
    check_unsolicited(c, pdu);
    if (!pdu->data_len && !c->unsolicited)
        c->want = 0;
    if (c->want) {
        c->early = iobuf_get(c->want);
        c->base = c->early ? c->early->data : NULL;
        if (!c->base)
            fail(c, FAULT_BUSY);
    }
    order_hold_command(c, pdu->w24);
}

void command_begin(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *ahs)
{
    enum order order = pdu->immediate ? ORDER_NOW : order_of(m, pdu);
    bool held = order == ORDER_LATER;
    struct command *c = order == ORDER_NEVER ? NULL : accept_command(m, pdu, ahs, held);
    if (!c) {
        m->rx_drop = true;
        if (!m->closing)
            conn_rx_skip(m->conn);
        if (!m->closing && held) /* it was refused */
            order_use_up(m->s, pdu->w24);
        return;
    }
    if (held) {
        hold(c, pdu);
    } else {
        decode(c);
        check_unsolicited(c, pdu);
        settle(c, pdu->data_len || c->unsolicited);
    }
    c->r2t_off = c->write ? pdu->data_len : 0;
    receive(c, pdu->data_len);
}

void command_turn(struct command *c)
{
    c->held = c->ended = false;
    c->in_window = true;
    c->s->slots++;
    c->want = 0;
    decode(c);
    if (c->fault == FAULT_BUSY && !c->cmd.finished)
        be_busy(c);
    else if (c->fault)
        fail(c, c->fault);
    settle(c, false);
    advance(c);
    commands_feed(c->s);
}

void command_end(struct member *m, const struct iscsi_pdu *pdu)
{
    struct command *c = m->rx;
    received(c, pdu->data_len);
    advance(c);
    commands_feed(m->s);
}

/* ---- Data-Out */

/* Unsolicited data follows the immediate data without a gap, up to FirstBurstLength. */
static bool check_unasked(struct command *c, const struct iscsi_pdu *pdu)
{
    uint64_t end = (uint64_t)pdu->w40 + pdu->data_len;
    if (!c->unsolicited || end > c->s->seed.params.first_burst || end > c->expected) {
        fail(c, SENSE_UNEXPECTED_UNSOLICITED);
        return false;
    }
    return true;
}

/* The oldest R2T outstanding is the one that is being answered. */
static bool check_asked(struct command *c, const struct iscsi_pdu *pdu)
{
    const struct r2t *r = &c->r2t[c->r2t_head % R2T_MAX];
    if (c->r2t_head == c->r2t_next || pdu->w20 != r->tag) {
        fail(c, SENSE_UNEXPECTED_UNSOLICITED);
        return false;
    }
    uint64_t end = (uint64_t)pdu->w40 + pdu->data_len, burst_end = (uint64_t)r->off + r->len;
    bool final = pdu->flags & F_FINAL;
    if (end > burst_end || final != (end == burst_end)) {
        fail(c, SENSE_INCORRECT_AMOUNT);
        return false;
    }
    return true;
}

void data_out_begin(struct member *m, const struct iscsi_pdu *pdu)
{
    struct command *c = command_lookup(m->s, pdu->itt);
    bool lost = !c || c->m != m || c->state != COMMAND_GATHERS || !c->write;
    if (lost || c->cmd.aborted) { /* its command was aborted or refused: late data is dropped */
        m->rx_drop = true;
        conn_rx_skip(m->conn);
        return;
    }
    bool asked = pdu->w20 != ISCSI_NO_TAG;
    bool ok = asked ? check_asked(c, pdu) : check_unasked(c, pdu);
    if (ok && (pdu->w36 != c->data_sn || pdu->w40 != c->off))
        fail(c, SENSE_PROTOCOL_CRC);
    receive(c, pdu->data_len);
}

void data_out_end(struct member *m, const struct iscsi_pdu *pdu)
{
    struct command *c = m->rx;
    received(c, pdu->data_len);
    bool asked = pdu->w20 != ISCSI_NO_TAG, final = pdu->flags & F_FINAL;
    c->data_sn = final ? 0 : c->data_sn + 1;
    if (asked && final && c->r2t_head != c->r2t_next)
        c->r2t_head++;
    if (!asked) {
        c->r2t_off = c->off;
        if (final)
            c->unsolicited = false;
    }
    if (c->cmd.aborted) /* meanwhile: done comes, or came */
        return;
    advance(c);
    commands_feed(m->s);
}

/* ---- giving up */

void commands_drop(struct member *m)
{
    struct command *c, *next;
    m->in_commands = true;
    list_for_each_safe (c, next, &m->s->commands, link) {
        bool gathers = c->m == m && c->state == COMMAND_GATHERS;
        if (gathers && !c->cmd.aborted) /* of an aborted one, done is to come */
            command_give_up(c);
    }
    m->in_commands = false;
}

bool commands_orphaned(const struct member *m)
{
    const struct command *c;
    list_for_each (c, &m->s->commands, link) {
        if (c->m == m && c->tx_queued && !c->ended && scsi_cmd_is_orphan(&c->cmd))
            return true;
    }
    return false;
}

struct scsi_cmd *command_to_abort(struct iscsi_session *s, uint32_t itt)
{
    struct command *c = command_lookup(s, itt);
    bool late = !c || c->held || c->state == COMMAND_REPLIES || c->cmd.finished;
    return late ? NULL : &c->cmd;
}
