/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "targets/iscsi/session.h"

/* A connection of a session: what comes by it, and its end. */
enum {
    TICK_US = 5000000,
    PING_AFTER_S = 20,     /* of silence */
    ANSWER_WITHIN_S = 60,  /* of the ping, or of the last byte that moved either way */
    DEAD_AFTER_S = 40,     /* of not reading what we send; discovery: of silence */
    DISCOVERY_LIFE_S = 60, /* whatever is asked: who may be anybody does not stay */
    REJECT_WAIT_S = 2,
};

void member_stamp_next(struct member *m, struct iscsi_pdu *pdu)
{
    pdu->w24 = m->statsn;
    pdu->w28 = m->s->seed.exp_cmdsn;
    pdu->w32 = session_max_cmdsn(m->s);
}

void member_stamp(struct member *m, struct iscsi_pdu *pdu)
{
    member_stamp_next(m, pdu);
    m->statsn++;
}

static void reject(struct member *m, const struct iscsi_pdu *pdu, enum iscsi_reject why,
                   void (*after)(struct iscsi_conn *))
{
    struct iscsi_pdu bad = *pdu;
    bad.ahs_len = 0;
    uint8_t copy[ISCSI_BHS];
    iscsi_pdu_build(&bad, copy);
    struct iscsi_pdu reply = {.op = OP_REJECT, .flags = F_FINAL, .b2 = why, .itt = ISCSI_NO_TAG};
    member_stamp(m, &reply);
    log_every(10, LOG_LEVEL_WARN, "iscsi", "rejected a PDU peer=%s opcode=0x%02x reason=0x%02x",
              m->conn->peer, pdu->op, why);
    conn_note(m->conn, &reply, copy, sizeof copy, after);
}

void member_reject(struct member *m, const struct iscsi_pdu *pdu, enum iscsi_reject why)
{
    reject(m, pdu, why, NULL);
}

/* ---- NOP */

void member_ping(struct member *m)
{
    struct iscsi_pdu pdu = {.op = OP_NOP_IN, .flags = F_FINAL, .itt = ISCSI_NO_TAG};
    pdu.w20 = session_tag(m->s);
    member_stamp_next(m, &pdu);
    m->pinged_at = reactor_now();
    conn_note(m->conn, &pdu, NULL, 0, NULL);
}

static void nop_out(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    if (pdu->itt == ISCSI_NO_TAG)
        return; /* the answer to a ping, or a sign of life: arriving was all it had to do */
    struct iscsi_pdu reply = {
        .op = OP_NOP_IN, .flags = F_FINAL, .itt = pdu->itt, .w20 = ISCSI_NO_TAG};
    memcpy(reply.lun, pdu->lun, sizeof reply.lun);
    member_stamp(m, &reply);
    uint32_t max = m->max_xmit;
    conn_note(m->conn, &reply, data, pdu->data_len < max ? pdu->data_len : max, NULL);
}

static uint64_t since(uint64_t then)
{
    uint64_t now = reactor_now();
    return now > then ? (now - then) / 1000000000u : 0; /* of a byte just sent: a later clock */
}

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Why the initiator is to be let go, or NULL. Whoever reads what we send is alive, however slowly.
 */
static const char *dead(const struct member *m)
{
    const struct iscsi_conn *c = m->conn;
    if (c->tx_head && since(c->last_tx) >= DEAD_AFTER_S)
        return "the initiator does not read";
    uint64_t moved = later(c->last_rx, c->last_tx);
    if (m->pinged_at && since(later(moved, m->pinged_at)) >= ANSWER_WITHIN_S)
        return "the initiator is silent";
    if (!m->s->seed.discovery)
        return NULL;
    if (since(moved) >= DEAD_AFTER_S)
        return "nothing more was asked";
    return since(m->s->begun_at) >= DISCOVERY_LIFE_S ? "discovery took too long" : NULL;
}

static void tick(void *arg)
{
    struct member *m = arg;
    const char *why = dead(m);
    if (why) {
        member_fail(m, why);
        return;
    }
    if (order_stuck(m->s)) {
        session_fail(m->s, "a CmdSN was left out");
        return;
    }
    if (since(m->conn->last_rx) < PING_AFTER_S)
        m->pinged_at = 0;
    else if (!m->pinged_at && !m->s->seed.discovery && !(m->conn->hold & CONN_HOLD_OWNER))
        member_ping(m);
    rtimer_arm(&m->timer, TICK_US, tick, m);
}

/* ---- PDUs */

/* Where there are other connections, somebody may wait for it. */
static void note_acked(struct member *m, uint32_t exp_statsn)
{
    if (!sn_before(m->acked, exp_statsn) || sn_before(m->statsn, exp_statsn))
        return;
    m->acked = exp_statsn;
    if (!list_empty(&m->s->answering))
        tmf_acked(m->s);
}

static void drop_rx(struct member *m)
{
    m->rx_drop = true;
    if (!m->closing)
        conn_rx_skip(m->conn);
}

static void on_begin(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *ahs)
{
    struct member *m = c->owner;
    m->rx_drop = m->rx_later = false;
    m->rx = NULL;
    if (m->s->seed.params.max_connections > 1)
        note_acked(m, pdu->w28);
    if (pdu->op == OP_SCSI_CMD && m->s->nexus) {
        command_begin(m, pdu, ahs);
        return;
    }
    if (pdu->op == OP_DATA_OUT && m->s->nexus) {
        data_out_begin(m, pdu);
        return;
    }
    bool ordered = pdu->op == OP_NOP_OUT || pdu->op == OP_TMF_REQ || pdu->op == OP_TEXT_REQ ||
                   pdu->op == OP_LOGOUT_REQ;
    if (!ordered || pdu->immediate)
        return;
    enum order order = order_of(m, pdu);
    m->rx_later = order == ORDER_LATER;
    if (order == ORDER_NEVER)
        drop_rx(m);
}

void member_ordered(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    switch (pdu->op) {
    case OP_NOP_OUT: nop_out(m, pdu, data); return;
    case OP_TEXT_REQ: text_request(m, pdu, data); return;
    case OP_LOGOUT_REQ: logout_request(m, pdu); return;
    default: break;
    }
    if (m->s->nexus)
        tmf_request(m, pdu);
    else
        member_reject(m, pdu, REJECT_UNSUPPORTED);
}

static void on_end(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    struct member *m = c->owner;
    if (m->rx_drop)
        return;
    if (m->rx_later) {
        order_hold_pdu(m, pdu, data);
        return;
    }
    switch (pdu->op) {
    case OP_NOP_OUT:
    case OP_TEXT_REQ:
    case OP_LOGOUT_REQ:
    case OP_TMF_REQ: member_ordered(m, pdu, data); return;
    case OP_SNACK: member_reject(m, pdu, REJECT_SNACK); return;
    case OP_LOGIN_REQ: member_reject(m, pdu, REJECT_PROTOCOL); return;
    default: break;
    }
    if (m->s->nexus && pdu->op == OP_SCSI_CMD)
        command_end(m, pdu);
    else if (m->s->nexus && pdu->op == OP_DATA_OUT)
        data_out_end(m, pdu);
    else
        member_reject(m, pdu, REJECT_UNSUPPORTED);
}

static void on_lost(struct iscsi_conn *c, const char *why)
{
    member_fail(c->owner, why);
}

static void rejected(struct iscsi_conn *c)
{
    member_fail(c->owner, NULL);
}

static void rejected_late(void *arg)
{
    member_fail(arg, "the initiator does not read");
}

/* Told, as 7.8 demands; then session recovery, for with ErrorRecoveryLevel 0 what was lost with the
 * PDU cannot be asked for again. */
static void on_bad_data(struct iscsi_conn *c, const struct iscsi_pdu *pdu)
{
    struct member *m = c->owner;
    conn_hold(c, CONN_HOLD_OWNER);
    rtimer_arm(&m->timer, REJECT_WAIT_S * 1000000u, rejected_late, m);
    reject(m, pdu, REJECT_DATA_DIGEST, rejected);
}

static const struct conn_ops member_ops = {
    .begin = on_begin, .end = on_end, .bad_data = on_bad_data, .lost = on_lost};

/* ---- beginning and end */

static unsigned count, limit = ISCSI_CONNECTIONS_DEFAULT; /* atomic */

unsigned member_count(void)
{
    return __atomic_load_n(&count, __ATOMIC_RELAXED);
}

unsigned member_limit(void)
{
    return __atomic_load_n(&limit, __ATOMIC_RELAXED);
}

void iscsi_set_limit(unsigned connections)
{
    __atomic_store_n(&limit, connections, __ATOMIC_RELAXED);
}

struct member *member_new(struct iscsi_session *s, struct iscsi_conn *conn)
{
    struct member *m = xcalloc(1, sizeof *m);
    __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
    m->s = s;
    m->conn = conn;
    m->text_tag = ISCSI_NO_TAG;
    list_init(&m->link);
    return m;
}

void member_free(struct member **m)
{
    if (!*m)
        return;
    list_del(&(*m)->link);
    conn_free(&(*m)->conn);
    text_free(&(*m)->text_in);
    text_free(&(*m)->text_out);
    text_free(&(*m)->login_text);
    rtimer_free(&(*m)->timer);
    __atomic_fetch_sub(&count, 1, __ATOMIC_RELAXED);
    free(*m);
    *m = NULL;
}

/* What came with the last login response: the session knows the window (11.13.3). */
static void say_welcome(struct member *m)
{
    uint32_t statsn = m->login.w24;
    member_stamp_next(m, &m->login);
    m->login.w24 = statsn;
    conn_note(m->conn, &m->login, m->login_text.p, m->login_text.len, NULL);
    text_free(&m->login_text);
}

void member_start(struct member *m)
{
    m->waits = false;
    m->acked = m->statsn;
    if (m->login.op == OP_LOGIN_RSP)
        say_welcome(m); /* before there are digests */
    m->conn->max_recv = ISCSI_RECV_SEGMENT;
    m->conn->header_digest = m->header_digest;
    m->conn->data_digest = m->data_digest;
    rtimer_arm(&m->timer, TICK_US, tick, m);
    conn_start(m->conn, &member_ops, m);
}

static void finish(void *arg)
{
    struct member *m = arg;
    struct iscsi_session *s = m->s;
    assert(!m->live && !m->tmfs);
    member_free(&m);
    session_member_left(s);
}

void member_check_end(struct member *m)
{
    if (m->in_commands || m->live || m->tmfs)
        return;
    if (!m->closing)
        logout_check(m->s);
    else if (!reactor_defer_pending(&m->end))
        reactor_defer(&m->end, finish, m);
}

void member_give_up(struct member *m)
{
    order_forget(m);
    tmf_forget(m);
    commands_drop(m);
}

void member_fail(struct member *m, const char *why)
{
    if (m->closing)
        return;
    if (why)
        log_info("iscsi", "connection ended: %s initiator=%s peer=%s target=%s", why,
                 m->s->seed.initiator, m->conn->peer, m->s->seed.target);
    m->closing = true;
    session_member_closes(m->s);
    rtimer_disarm(&m->timer);
    conn_close(m->conn);
    member_give_up(m);
    tmf_acked(m->s);
    member_check_end(m);
    if (m->s->logout_by == m)
        session_fail(m->s, NULL);
}
