/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/session.h"

/*
 * Logout (RFC 7143 11.14) of a session, or of one of its connections by itself or by another one.
 * What runs is answered first; what still lacks data will not get it.
 */
enum { LOGOUT_SESSION = 0, LOGOUT_CONNECTION = 1, LOGOUT_RECOVERY = 2 }; /* 11.14.1 */
enum { LOGOUT_CLOSED = 0, LOGOUT_NO_CID = 1, LOGOUT_NO_RECOVERY = 2 };   /* 11.15.1 */

static void logged_out(struct iscsi_conn *c)
{
    struct member *m = c->owner;
    if (m->s->logout_by == m)
        session_fail(m->s, NULL);
    else
        member_fail(m, NULL);
}

static void logout_reply(struct member *m, uint8_t response, void (*after)(struct iscsi_conn *))
{
    const struct iscsi_params *p = &m->s->seed.params;
    struct iscsi_pdu reply = {.op = OP_LOGOUT_RSP, .flags = F_FINAL, .b2 = response};
    reply.itt = m->logout.itt;
    member_stamp(m, &reply);
    reply.w40 = p->time2wait << 16 | p->time2retain;
    conn_note(m->conn, &reply, NULL, 0, after);
}

static uint16_t named_cid(const struct member *m)
{
    return (uint16_t)(m->logout.w20 >> 16);
}

/* No more is taken from it. */
static void quiesce(struct member *m)
{
    m->leaving = true;
    if (m->closing)
        return;
    if (m->waits) {
        member_fail(m, "logged out");
        return;
    }
    conn_hold(m->conn, CONN_HOLD_OWNER);
    member_give_up(m);
}

/* Those that go by `m`'s wish; false: there is none. */
static bool quiesce_named(struct member *m)
{
    struct member *t;
    bool any = false;
    list_for_each (t, &m->s->members, link) {
        if (m->s->logout_by == m || t->cid == named_cid(m)) {
            any = true;
            quiesce(t);
        }
    }
    return any;
}

void logout_request(struct member *m, const struct iscsi_pdu *pdu)
{
    unsigned reason = pdu->flags & 0x7f;
    if (reason > LOGOUT_RECOVERY || m->logging_out) {
        member_reject(m, pdu, m->logging_out ? REJECT_PROTOCOL : REJECT_FIELD);
        return;
    }
    m->logout = *pdu;
    if (reason == LOGOUT_RECOVERY) {
        logout_reply(m, LOGOUT_NO_RECOVERY, NULL);
        return;
    }
    if (reason == LOGOUT_SESSION)
        m->s->logout_by = m;
    if (!quiesce_named(m)) {
        logout_reply(m, LOGOUT_NO_CID, NULL);
        return;
    }
    m->logging_out = m->s->logouts = true;
    logout_check(m->s);
}

static bool is_idle(const struct member *m)
{
    return !m->live && !m->tmfs && !m->in_commands;
}

/* Has what `m` asked for come to pass, but for its own closing? */
static bool is_through(const struct member *m)
{
    bool whole = m->s->logout_by == m;
    const struct member *t;
    list_for_each (t, &m->s->members, link) {
        bool meant = t->leaving && (whole || t->cid == named_cid(m));
        if (meant && (!is_idle(t) || (t != m && !whole)))
            return false;
    }
    return true;
}

/* Those that others log out go without a word. */
static void close_idle(struct iscsi_session *s)
{
    struct member *t;
    list_for_each (t, &s->members, link) {
        bool itself = t->logging_out && named_cid(t) == t->cid;
        if (t->leaving && !itself && is_idle(t))
            member_fail(t, NULL);
    }
}

void logout_check(struct iscsi_session *s)
{
    struct member *m;
    if (!s->logouts || s->closing)
        return;
    if (!s->logout_by)
        close_idle(s);
    list_for_each (m, &s->members, link) {
        if (!m->logging_out || m->logged_out || m->closing || !is_through(m))
            continue;
        bool itself = s->logout_by == m || named_cid(m) == m->cid;
        m->logged_out = itself;
        m->logging_out = itself; /* of another one: it may ask for more */
        logout_reply(m, LOGOUT_CLOSED, itself ? logged_out : NULL);
    }
}
