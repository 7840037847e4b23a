/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum {
    TICK_US = 5000000,
    PING_AFTER_S = 20,     /* of silence */
    ANSWER_WITHIN_S = 60,  /* of the ping, or of the last byte that moved either way */
    DEAD_AFTER_S = 40,     /* of not reading what we send; discovery: of silence */
    DISCOVERY_LIFE_S = 60, /* whatever is asked: who may be anybody does not stay */
    SHUTDOWN_WAIT_S = 2,
    LOGOUT_WITHIN_S = 1, /* when we ask for it */
};

enum { LOGOUT_SESSION = 0, LOGOUT_CONNECTION = 1, LOGOUT_RECOVERY = 2 };
enum { LOGOUT_CLOSED = 0, LOGOUT_NO_CID = 1, LOGOUT_NO_RECOVERY = 2 };

uint32_t session_max_cmdsn(const struct iscsi_session *s)
{
    uint32_t room = s->slots < ISCSI_WINDOW ? ISCSI_WINDOW - s->slots : 0;
    return s->seed.exp_cmdsn + room - 1;
}

void session_stamp_next(struct iscsi_session *s, struct iscsi_pdu *pdu)
{
    pdu->w24 = s->seed.statsn;
    pdu->w28 = s->seed.exp_cmdsn;
    pdu->w32 = session_max_cmdsn(s);
}

void session_stamp(struct iscsi_session *s, struct iscsi_pdu *pdu)
{
    session_stamp_next(s, pdu);
    s->seed.statsn++;
}

bool session_take_sn(struct iscsi_session *s, const struct iscsi_pdu *pdu)
{
    if (pdu->immediate)
        return true;
    if (pdu->w24 == s->seed.exp_cmdsn && !sn_before(session_max_cmdsn(s), pdu->w24)) {
        s->seed.exp_cmdsn++;
        return true;
    }
    bool gap = sn_before(s->seed.exp_cmdsn, pdu->w24) && !sn_before(session_max_cmdsn(s), pdu->w24);
    if (gap) /* on one connection what is missing can never come: 4.2.2.1 */
        session_fail(s, "a CmdSN was left out");
    return false;
}

static void reject(struct iscsi_session *s, const struct iscsi_pdu *pdu, enum iscsi_reject why,
                   void (*after)(struct iscsi_conn *))
{
    struct iscsi_pdu bad = *pdu;
    bad.ahs_len = 0;
    uint8_t copy[ISCSI_BHS];
    iscsi_pdu_build(&bad, copy);
    struct iscsi_pdu reply = {.op = OP_REJECT, .flags = F_FINAL, .b2 = why, .itt = ISCSI_NO_TAG};
    session_stamp(s, &reply);
    log_every(10, LOG_LEVEL_WARN, "iscsi", "rejected a PDU peer=%s opcode=0x%02x reason=0x%02x",
              s->peer, pdu->op, why);
    conn_note(s->conn, &reply, copy, sizeof copy, after);
}

void session_reject(struct iscsi_session *s, const struct iscsi_pdu *pdu, enum iscsi_reject why)
{
    reject(s, pdu, why, NULL);
}

/* ---- NOP */

static void ping(struct iscsi_session *s)
{
    struct iscsi_pdu pdu = {.op = OP_NOP_IN, .flags = F_FINAL, .itt = ISCSI_NO_TAG};
    pdu.w20 = s->next_tag;
    s->next_tag = s->next_tag + 1 == ISCSI_NO_TAG ? 0 : s->next_tag + 1;
    session_stamp_next(s, &pdu);
    s->pinged_at = reactor_now();
    conn_note(s->conn, &pdu, NULL, 0, NULL);
}

static void nop_out(struct iscsi_session *s, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    if (pdu->itt == ISCSI_NO_TAG)
        return; /* the answer to a ping, or a sign of life: arriving was all it had to do */
    struct iscsi_pdu reply = {
        .op = OP_NOP_IN, .flags = F_FINAL, .itt = pdu->itt, .w20 = ISCSI_NO_TAG};
    memcpy(reply.lun, pdu->lun, sizeof reply.lun);
    session_stamp(s, &reply);
    uint32_t max = s->seed.params.max_xmit_segment;
    conn_note(s->conn, &reply, data, pdu->data_len < max ? pdu->data_len : max, NULL);
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
static const char *dead(const struct iscsi_session *s)
{
    const struct iscsi_conn *c = s->conn;
    if (c->tx_head && since(c->last_tx) >= DEAD_AFTER_S)
        return "the initiator does not read";
    uint64_t moved = later(c->last_rx, c->last_tx);
    if (s->pinged_at && since(later(moved, s->pinged_at)) >= ANSWER_WITHIN_S)
        return "the initiator is silent";
    if (!s->seed.discovery)
        return NULL;
    if (since(moved) >= DEAD_AFTER_S)
        return "nothing more was asked";
    return since(s->begun_at) >= DISCOVERY_LIFE_S ? "discovery took too long" : NULL;
}

static void tick(void *arg)
{
    struct iscsi_session *s = arg;
    const char *why = dead(s);
    if (why) {
        session_fail(s, why);
        return;
    }
    if (since(s->conn->last_rx) < PING_AFTER_S)
        s->pinged_at = 0;
    else if (!s->pinged_at && !s->seed.discovery && !s->logging_out)
        ping(s);
    rtimer_arm(&s->timer, TICK_US, tick, s);
}

/* ---- logout */

static void logged_out(struct iscsi_conn *c)
{
    session_fail(c->owner, NULL);
}

static void logout_reply(struct iscsi_session *s, uint8_t response,
                         void (*after)(struct iscsi_conn *))
{
    struct iscsi_pdu reply = {.op = OP_LOGOUT_RSP, .flags = F_FINAL, .b2 = response};
    reply.itt = s->logout.itt;
    session_stamp(s, &reply);
    reply.w40 = s->seed.params.time2wait << 16 | s->seed.params.time2retain;
    conn_note(s->conn, &reply, NULL, 0, after);
}

static void logout_request(struct iscsi_session *s, const struct iscsi_pdu *pdu)
{
    s->logout = *pdu;
    unsigned reason = pdu->flags & 0x7f;
    if (reason == LOGOUT_CONNECTION && pdu->w20 >> 16 != s->seed.cid) {
        logout_reply(s, LOGOUT_NO_CID, NULL);
    } else if (reason == LOGOUT_RECOVERY) {
        logout_reply(s, LOGOUT_NO_RECOVERY, NULL);
    } else if (reason > LOGOUT_RECOVERY) {
        session_reject(s, pdu, REJECT_FIELD);
    } else {
        /* What runs is answered first; what still lacks data will not get it. */
        s->logging_out = true;
        conn_hold(s->conn, CONN_HOLD_OWNER);
        commands_drop(s);
        session_check_end(s);
    }
}

/* ---- PDUs */

static void on_begin(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *ahs)
{
    struct iscsi_session *s = c->owner;
    s->rx_drop = false;
    s->rx = NULL;
    if (pdu->op == OP_SCSI_CMD && s->nexus) {
        command_begin(s, pdu, ahs);
        return;
    }
    if (pdu->op == OP_DATA_OUT && s->nexus) {
        data_out_begin(s, pdu);
        return;
    }
    bool ordered = pdu->op == OP_NOP_OUT || pdu->op == OP_TMF_REQ || pdu->op == OP_TEXT_REQ ||
                   pdu->op == OP_LOGOUT_REQ;
    if (ordered && !session_take_sn(s, pdu)) {
        s->rx_drop = true;
        if (!s->closing)
            conn_rx_skip(c);
    }
}

static void on_end(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    struct iscsi_session *s = c->owner;
    if (s->rx_drop)
        return;
    switch (pdu->op) {
    case OP_NOP_OUT: nop_out(s, pdu, data); return;
    case OP_TEXT_REQ: text_request(s, pdu, data); return;
    case OP_LOGOUT_REQ: logout_request(s, pdu); return;
    case OP_SNACK: session_reject(s, pdu, REJECT_SNACK); return;
    case OP_LOGIN_REQ: session_reject(s, pdu, REJECT_PROTOCOL); return;
    default: break;
    }
    if (s->nexus && pdu->op == OP_SCSI_CMD)
        command_end(s, pdu);
    else if (s->nexus && pdu->op == OP_DATA_OUT)
        data_out_end(s, pdu);
    else if (s->nexus && pdu->op == OP_TMF_REQ)
        tmf_request(s, pdu);
    else
        session_reject(s, pdu, REJECT_UNSUPPORTED);
}

/* ---- beginning and end */

static void end_on_main(void *arg)
{
    struct iscsi_session *s = arg;
    s->over = true;
    if (!s->stop_posted)
        s->ended(s);
}

static void finish(void *arg)
{
    struct iscsi_session *s = arg;
    assert(!s->live && !s->tmfs);
    if (s->nexus)
        scsi_nexus_free(&s->nexus);
    conn_free(&s->conn);
    text_free(&s->text_in);
    text_free(&s->text_out);
    rtimer_free(&s->timer);
    reactor_post(reactor_main(), &s->post, end_on_main, s);
}

void session_check_end(struct iscsi_session *s)
{
    if (s->in_commands || s->live || s->tmfs)
        return;
    if (s->closing && s->conn && !reactor_defer_pending(&s->end))
        reactor_defer(&s->end, finish, s);
    if (!s->closing && s->logging_out) {
        s->logging_out = false;
        logout_reply(s, LOGOUT_CLOSED, logged_out);
    }
}

void session_fail(struct iscsi_session *s, const char *why)
{
    if (s->closing)
        return;
    if (why)
        log_info("iscsi", "connection ended: %s initiator=%s peer=%s target=%s", why,
                 s->seed.initiator, s->peer, s->seed.target);
    s->closing = true;
    rtimer_disarm(&s->timer);
    conn_close(s->conn);
    commands_drop(s);
    session_check_end(s);
}

static void on_lost(struct iscsi_conn *c, const char *why)
{
    session_fail(c->owner, why);
}

static void stop_late(void *arg)
{
    session_fail(arg, "the initiator does not read");
}

/* Told, as 7.8 demands; then session recovery, for with ErrorRecoveryLevel 0 what was lost with the
 * PDU cannot be asked for again. */
static void on_bad_data(struct iscsi_conn *c, const struct iscsi_pdu *pdu)
{
    struct iscsi_session *s = c->owner;
    conn_hold(c, CONN_HOLD_OWNER);
    rtimer_arm(&s->timer, SHUTDOWN_WAIT_S * 1000000u, stop_late, s);
    reject(s, pdu, REJECT_DATA_DIGEST, logged_out);
}

static const struct conn_ops session_ops = {
    .begin = on_begin, .end = on_end, .bad_data = on_bad_data, .lost = on_lost};

static void start_here(void *arg)
{
    struct iscsi_session *s = arg;
    list_init(&s->commands);
    list_init(&s->waiting);
    list_init(&s->starved);
    s->text_tag = ISCSI_NO_TAG;
    s->begun_at = reactor_now();
    if (s->scsi) {
        char port[ISCSI_NAME_MAX + 32]; /* SAM initiator port name, RFC 7143 4.4.1 */
        const uint8_t *i = s->seed.isid;
        snprintf(port, sizeof port, "%s,i,0x%02x%02x%02x%02x%02x%02x", s->seed.initiator, i[0],
                 i[1], i[2], i[3], i[4], i[5]);
        s->nexus = scsi_nexus_new(s->scsi, port, s->seed.tpgt);
        scsi_nexus_map(s->nexus, s->map);
        free(s->map);
        s->map = NULL;
    }
    s->conn->max_recv = ISCSI_RECV_SEGMENT;
    s->conn->header_digest = s->seed.params.header_digest;
    s->conn->data_digest = s->seed.params.data_digest;
    rtimer_arm(&s->timer, TICK_US, tick, s);
    conn_start(s->conn, &session_ops, s);
}

void session_start(struct iscsi_session *s)
{
    assert(s->conn->hold && s->ended);
    s->started = true;
    reactor_post(s->home, &s->post, start_here, s);
}

static void stop_acked(void *arg)
{
    struct iscsi_session *s = arg;
    s->stop_posted = false;
    if (s->over)
        s->ended(s);
}

/* Asynchronous messages, 11.9.1 */
enum async_event { EVENT_REQUEST_LOGOUT = 1, EVENT_DROP_ALL = 3 };

static void tell(struct iscsi_session *s, enum async_event event, uint32_t parameters,
                 void (*after)(struct iscsi_conn *))
{
    struct iscsi_pdu pdu = {.op = OP_ASYNC, .flags = F_FINAL, .itt = ISCSI_NO_TAG};
    pdu.w36 = (uint32_t)event << 24;
    pdu.w40 = parameters;
    session_stamp(s, &pdu);
    conn_note(s->conn, &pdu, NULL, 0, after);
}

/* All connections are to be dropped: tells it, then does it. */
static void drop(void *arg)
{
    struct iscsi_session *s = arg;
    tell(s, EVENT_DROP_ALL, s->seed.params.time2wait << 16 | s->seed.params.time2retain,
         logged_out);
    conn_hold(s->conn, CONN_HOLD_OWNER);
    /* Whoever does not read it is not waited for. */
    rtimer_arm(&s->timer, SHUTDOWN_WAIT_S * 1000000u, stop_late, s);
}

static void stop_here(void *arg)
{
    struct iscsi_session *s = arg;
    if (s->conn && !s->closing)
        drop(s);
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

static void ask_here(void *arg)
{
    struct iscsi_session *s = arg;
    if (s->conn && !s->closing && !s->logging_out) {
        tell(s, EVENT_REQUEST_LOGOUT, LOGOUT_WITHIN_S, NULL);
        rtimer_arm(&s->timer, LOGOUT_WITHIN_S * 1000000u, drop, s);
    }
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

static void cut_here(void *arg)
{
    struct iscsi_session *s = arg;
    if (s->conn)
        session_fail(s, "others want to log in");
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

void session_stop(struct iscsi_session *s, enum session_stop how)
{
    bool ask = how == SESSION_ASK && !s->seed.discovery;
    if (s->over || s->stop_posted || (ask && s->asked))
        return;
    s->stop_posted = true;
    s->asked = s->asked || ask;
    reactor_fn fn = ask ? ask_here : how == SESSION_CUT ? cut_here : stop_here;
    reactor_post(s->home, &s->stop_post, fn, s);
}
