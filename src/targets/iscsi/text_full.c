/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "targets/iscsi/session.h"

/* Text requests in full feature phase (RFC 7143 11.10, 11.11, appendix C). */
enum { REPLY_MAX = 16 << 20 }; /* SendTargets of very many targets */

static void end_exchange(struct iscsi_session *s)
{
    text_free(&s->text_in);
    text_free(&s->text_out);
    s->text_sent = 0;
    s->text_tag = ISCSI_NO_TAG;
}

static bool send_targets(struct iscsi_session *s, const char *value)
{
    const char *own = s->seed.target;
    bool all = !strcmp(value, "All");
    if (s->seed.discovery ? !*value : all) /* appendix C: All is for discovery, "" for normal */
        return text_add(&s->text_out, "SendTargets", "Reject");
    if (s->seed.discovery)
        return portals_send_targets(s, all ? NULL : value, &s->text_out);
    if (*value && strcmp(value, own) != 0)
        return true; /* only the target one is logged in to: nothing to tell */
    return portals_send_targets(s, own, &s->text_out);
}

/* False: the text is malformed, asks twice, or the answer is too long. */
static bool process(struct iscsi_session *s)
{
    struct nego n;
    nego_init(&n);
    n.params = s->seed.params;
    s->text_out.max = REPLY_MAX;
    size_t pos = 0;
    bool asked = false;
    for (;;) {
        const char *key, *value;
        enum text_next next = text_next(&s->text_in, &pos, &key, &value);
        if (next == TEXT_END)
            break;
        bool ok = next == TEXT_PAIR;
        if (ok && !strcmp(key, "SendTargets")) {
            ok = !asked && send_targets(s, value); /* twice would be a lever: 6.2, too */
            asked = true;
        } else if (ok)
            ok = nego_full_key(&n, key, value, &s->text_out) == NEGO_OK;
        if (!ok)
            return false;
    }
    s->seed.params.max_xmit_segment = n.params.max_xmit_segment;
    text_free(&s->text_in);
    return true;
}

/* The next part of the answer; the initiator asks for more with the tag. */
static void respond(struct iscsi_session *s, const struct iscsi_pdu *pdu, bool more_in)
{
    size_t left = s->text_out.len - s->text_sent, max = s->seed.params.max_xmit_segment;
    if (max > ISCSI_RECV_SEGMENT)
        max = ISCSI_RECV_SEGMENT; /* as much as is queued at once, whatever it would take */
    size_t n = left < max ? left : max;
    struct iscsi_pdu reply = {.op = OP_TEXT_RSP, .itt = pdu->itt};
    memcpy(reply.lun, pdu->lun, sizeof reply.lun);
    bool more_out = n < left;
    bool final = !more_in && !more_out && pdu->flags & F_FINAL;
    reply.flags = final ? F_FINAL : more_out ? F_CONTINUE : 0;
    if (!final && s->text_tag == ISCSI_NO_TAG) {
        s->text_tag = s->next_tag;
        s->next_tag = s->next_tag + 1 == ISCSI_NO_TAG ? 0 : s->next_tag + 1;
    }
    reply.w20 = final ? ISCSI_NO_TAG : s->text_tag;
    session_stamp(s, &reply);
    conn_note(s->conn, &reply, n ? s->text_out.p + s->text_sent : NULL, n, NULL);
    s->text_sent += n;
    if (final)
        end_exchange(s);
    else if (!more_out) {
        text_free(&s->text_out);
        s->text_sent = 0;
    }
}

void text_request(struct iscsi_session *s, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    if (pdu->w20 == ISCSI_NO_TAG)
        end_exchange(s); /* a new exchange ends the one before, 11.10.4 */
    bool more_in = pdu->flags & F_CONTINUE;
    bool known = pdu->w20 == ISCSI_NO_TAG || pdu->w20 == s->text_tag;
    bool sending = s->text_sent < s->text_out.len;
    if (!known || (more_in && pdu->flags & F_FINAL) || (sending && pdu->data_len)) {
        session_reject(s, pdu, REJECT_PROTOCOL);
        end_exchange(s);
        return;
    }
    bool ok = text_append(&s->text_in, data, pdu->data_len);
    if (ok && !more_in && !sending)
        ok = process(s);
    if (!ok) {
        session_reject(s, pdu, REJECT_FIELD);
        end_exchange(s);
        return;
    }
    respond(s, pdu, more_in);
}
