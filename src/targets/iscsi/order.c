/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "targets/iscsi/command.h"

/*
 * CmdSN order over several connections (RFC 7143 4.2.2.1). What comes before its turn is held, in
 * order, until the gap before it is filled; immediate PDUs do not wait. The command window bounds
 * how many they are. With one connection nothing is ever held: there a gap cannot be filled.
 *
 * What a connection has brought that is still held when it ends goes with it, and leaves a gap for
 * the initiator to fill (11.14); what has had its turn stays counted.
 */
enum { GAP_LIMIT_S = 30 };

struct held {
    struct list link;
    uint32_t cmdsn;
    struct member *m;  /* NULL: a CmdSN that is used up, with nothing to deliver */
    struct command *c; /* or, NULL: */
    struct iscsi_pdu pdu;
    uint8_t data[];
};

static struct held *first_held(const struct iscsi_session *s)
{
    return list_first(&s->held, struct held, link);
}

static struct held *find(const struct iscsi_session *s, uint32_t cmdsn)
{
    struct held *h;
    list_for_each (h, &s->held, link) {
        if (h->cmdsn == cmdsn)
            return h;
    }
    return NULL;
}

static void deliver(void *arg)
{
    struct iscsi_session *s = arg;
    struct held *h;
    for (;;) {
        tmf_resume(s); /* before what comes after them */
        h = first_held(s);
        if (!h || h->cmdsn != s->seed.exp_cmdsn)
            break;
        list_del(&h->link);
        s->seed.exp_cmdsn++;
        s->gap_at = reactor_now();
        if (h->c)
            command_turn(h->c);
        else if (h->m)
            member_ordered(h->m, &h->pdu, h->data);
        free(h);
    }
}

void order_check(struct iscsi_session *s)
{
    if (!reactor_defer_pending(&s->deliver))
        reactor_defer(&s->deliver, deliver, s);
}

void order_note_gap(struct iscsi_session *s)
{
    if (list_empty(&s->held) && list_empty(&s->parked))
        s->gap_at = reactor_now();
}

bool order_stuck(const struct iscsi_session *s)
{
    bool gap = !list_empty(&s->held) || !list_empty(&s->parked);
    return gap && reactor_now() - s->gap_at >= GAP_LIMIT_S * UINT64_C(1000000000);
}

static enum order out_of_line(struct member *m, uint32_t sn)
{
    struct iscsi_session *s = m->s;
    if (sn_before(sn, s->seed.exp_cmdsn) || sn_before(session_max_cmdsn(s), sn) || find(s, sn))
        return ORDER_NEVER;
    if (sn == s->seed.exp_cmdsn) {
        s->seed.exp_cmdsn++;
        order_check(s);
        return ORDER_NOW;
    }
    if (s->seed.params.max_connections > 1)
        return ORDER_LATER;
    member_fail(m, "a CmdSN was left out"); /* what is missing can never come */
    return ORDER_NEVER;
}

enum order order_of(struct member *m, const struct iscsi_pdu *pdu)
{
    struct iscsi_session *s = m->s;
    if (!list_empty(&s->parked))
        tmf_resume(s); /* what they wait for came just now: they do not reach this one */
    bool next = pdu->w24 == s->seed.exp_cmdsn && !sn_before(session_max_cmdsn(s), pdu->w24);
    if (!next || !list_empty(&s->held) || !list_empty(&s->parked))
        return out_of_line(m, pdu->w24);
    s->seed.exp_cmdsn++;
    return ORDER_NOW;
}

static void insert(struct iscsi_session *s, struct held *h)
{
    order_note_gap(s);
    struct list *at = s->held.prev;
    while (at != &s->held && sn_before(h->cmdsn, list_entry(at, struct held, link)->cmdsn))
        at = at->prev;
    list_add_head(at, &h->link);
    if (h->cmdsn == s->seed.exp_cmdsn)
        order_check(s);
}

static struct held *held_new(uint32_t cmdsn, size_t len)
{
    struct held *h = xcalloc(1, sizeof *h + len);
    h->cmdsn = cmdsn;
    list_init(&h->link);
    return h;
}

void order_hold_command(struct command *c, uint32_t cmdsn)
{
    struct held *h = held_new(cmdsn, 0);
    h->m = c->m;
    h->c = c;
    insert(c->s, h);
}

void order_hold_pdu(struct member *m, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    struct iscsi_session *s = m->s;
    if (sn_before(pdu->w24, s->seed.exp_cmdsn) || find(s, pdu->w24))
        return; /* it came another way, while this was being received */
    struct held *h = held_new(pdu->w24, pdu->data_len);
    h->m = m;
    h->pdu = *pdu;
    if (pdu->data_len)
        memcpy(h->data, data, pdu->data_len);
    insert(s, h);
}

void order_use_up(struct iscsi_session *s, uint32_t cmdsn)
{
    if (!find(s, cmdsn))
        insert(s, held_new(cmdsn, 0));
}

void order_abort(struct command *c)
{
    struct held *h;
    list_for_each (h, &c->s->held, link) {
        if (h->c == c) {
            h->c = NULL;
            h->m = NULL;
        }
    }
}

void order_forget(struct member *m)
{
    struct held *h, *next;
    list_for_each_safe (h, next, &m->s->held, link) {
        if (h->m != m)
            continue;
        list_del(&h->link);
        free(h);
    }
}

void order_end(struct iscsi_session *s)
{
    struct list *h;
    reactor_defer_cancel(&s->deliver);
    while ((h = list_pop(&s->held)))
        free(list_entry(h, struct held, link));
}
