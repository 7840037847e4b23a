/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "targets/iscsi/session.h"

/* Text requests in full feature phase (RFC 7143 11.10, 11.11, appendix C). */
enum { REPLY_MAX = 16 << 20 }; /* SendTargets of very many targets */

static void end_exchange(struct member *m)
{
    text_free(&m->text_in);
    text_free(&m->text_out);
    m->text_sent = 0;
    m->text_tag = ISCSI_NO_TAG;
}

static bool send_targets(struct member *m, const char *value)
{
    const char *own = m->s->seed.target;
    bool all = !strcmp(value, "All");
    if (m->s->seed.discovery ? !*value : all) /* appendix C: All is for discovery, "" for normal */
        return text_add(&m->text_out, "SendTargets", "Reject");
    if (m->s->seed.discovery)
        return portals_send_targets(m->s, m->conn, all ? NULL : value, &m->text_out);
    if (*value && strcmp(value, own) != 0)
        return true; /* only the target one is logged in to: nothing to tell */
    return portals_send_targets(m->s, m->conn, own, &m->text_out);
}

/* False: the text is malformed, asks twice, or the answer is too long. */
static bool process(struct member *m)
{
    struct nego n;
    nego_init(&n);
    n.params = m->s->seed.params;
    n.params.max_xmit_segment = m->max_xmit;
    m->text_out.max = REPLY_MAX;
    size_t pos = 0;
    bool asked = false;
    for (;;) {
        const char *key, *value;
        enum text_next next = text_next(&m->text_in, &pos, &key, &value);
        if (next == TEXT_END)
            break;
        bool ok = next == TEXT_PAIR;
        if (ok && !strcmp(key, "SendTargets")) {
            ok = !asked && send_targets(m, value); /* twice would be a lever: 6.2, too */
            asked = true;
        } else if (ok)
            ok = nego_full_key(&n, key, value, &m->text_out) == NEGO_OK;
        if (!ok)
            return false;
    }
    m->max_xmit = n.params.max_xmit_segment;
    text_free(&m->text_in);
    return true;
}

/* The next part of the answer; the initiator asks for more with the tag. */
static void respond(struct member *m, const struct iscsi_pdu *pdu, bool more_in)
{
    size_t left = m->text_out.len - m->text_sent, max = m->max_xmit;
    if (max > ISCSI_RECV_SEGMENT)
        max = ISCSI_RECV_SEGMENT; /* as much as is queued at once, whatever it would take */
    size_t n = left < max ? left : max;
    struct iscsi_pdu reply = {.op = OP_TEXT_RSP, .itt = pdu->itt};
    memcpy(reply.lun, pdu->lun, sizeof reply.lun);
    bool more_out = n < left;
    bool final = !more_in && !more_out && pdu->flags & F_FINAL;
    reply.flags = final ? F_FINAL : more_out ? F_CONTINUE : 0;
    if (!final && m->text_tag == ISCSI_NO_TAG) {
        m->text_tag = session_tag(m->s);
    }
    reply.w20 = final ? ISCSI_NO_TAG : m->text_tag;
    member_stamp(m, &reply);
    conn_note(m->conn, &reply, n ? m->text_out.p + m->text_sent : NULL, n, NULL);
    m->text_sent += n;
    if (final)
        end_exchange(m);
    else if (!more_out) {
        text_free(&m->text_out);
        m->text_sent = 0;
    }
}

void text_request(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    if (pdu->w20 == ISCSI_NO_TAG)
        end_exchange(m); /* a new exchange ends the one before, 11.10.4 */
    bool more_in = pdu->flags & F_CONTINUE;
    bool known = pdu->w20 == ISCSI_NO_TAG || pdu->w20 == m->text_tag;
    bool sending = m->text_sent < m->text_out.len;
    if (!known || (more_in && pdu->flags & F_FINAL) || (sending && pdu->data_len)) {
        member_reject(m, pdu, REJECT_PROTOCOL);
        end_exchange(m);
        return;
    }
    bool ok = text_append(&m->text_in, data, pdu->data_len);
    if (ok && !more_in && !sending)
        ok = process(m);
    if (!ok) {
        member_reject(m, pdu, REJECT_FIELD);
        end_exchange(m);
        return;
    }
    respond(m, pdu, more_in);
}
