/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/session.h"

enum { LOGOUT_SESSION = 0, LOGOUT_CONNECTION = 1, LOGOUT_RECOVERY = 2 }; /* 11.14.1 */
enum { LOGOUT_CLOSED = 0, LOGOUT_NO_CID = 1, LOGOUT_NO_RECOVERY = 2 };   /* 11.15.1 */

static void logged_out(struct iscsi_conn *c)
{
    struct member *m = c->owner;
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

void logout_request(struct member *m, const struct iscsi_pdu *pdu)
{
    m->logout = *pdu;
    unsigned reason = pdu->flags & 0x7f;
    if (reason == LOGOUT_CONNECTION && pdu->w20 >> 16 != m->cid) {
        logout_reply(m, LOGOUT_NO_CID, NULL);
    } else if (reason == LOGOUT_RECOVERY) {
        logout_reply(m, LOGOUT_NO_RECOVERY, NULL);
    } else if (reason > LOGOUT_RECOVERY) {
        member_reject(m, pdu, REJECT_FIELD);
    } else {
        /* What runs is answered first; what still lacks data will not get it. */
        m->logging_out = true;
        conn_hold(m->conn, CONN_HOLD_OWNER);
        commands_drop(m);
        member_check_end(m);
    }
}

void logout_check(struct member *m)
{
    if (!m->logging_out)
        return;
    m->logging_out = false;
    logout_reply(m, LOGOUT_CLOSED, logged_out);
}
