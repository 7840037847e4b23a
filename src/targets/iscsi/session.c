/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

/* A session's beginning and end, and what it says of its end. */
enum {
    SHUTDOWN_WAIT_S = 2,
    LOGOUT_WITHIN_S = 1, /* when we ask for it */
};

uint32_t session_max_cmdsn(const struct iscsi_session *s)
{
    uint32_t room = s->slots < ISCSI_WINDOW ? ISCSI_WINDOW - s->slots : 0;
    return s->seed.exp_cmdsn + room - 1;
}

uint32_t session_tag(struct iscsi_session *s)
{
    uint32_t tag = s->next_tag;
    s->next_tag = tag + 1 == ISCSI_NO_TAG ? 0 : tag + 1;
    return tag;
}

/* ---- the end */

/* Main: nothing of it is elsewhere any more. */
static void check_over(struct iscsi_session *s)
{
    if (s->over && !s->posted)
        s->ended(s);
}

static void end_on_main(void *arg)
{
    struct iscsi_session *s = arg;
    s->over = true;
    check_over(s);
}

static void count_members(struct iscsi_session *s)
{
    uint64_t n = 0;
    const struct member *m;
    list_for_each (m, &s->members, link)
        n++;
    __atomic_store_n(&s->stats.connections, n, __ATOMIC_RELAXED);
}

/* The first connection that is not closed, or NULL. */
static struct member *first_open(struct iscsi_session *s)
{
    struct member *m;
    list_for_each (m, &s->members, link)
        if (!m->closing)
            return m;
    return NULL;
}

void session_member_closes(struct iscsi_session *s)
{
    if (!first_open(s))
        s->closing = true;
}

void session_member_left(struct iscsi_session *s)
{
    count_members(s);
    if (!list_empty(&s->members))
        return;
    if (s->nexus)
        scsi_nexus_free(&s->nexus);
    s->finished = true;
    rtimer_free(&s->timer);
    reactor_post(reactor_main(), &s->post, end_on_main, s);
}

void session_fail(struct iscsi_session *s, const char *why)
{
    struct member *m;
    s->closing = true;
    rtimer_disarm(&s->timer);
    list_for_each (m, &s->members, link) /* they are freed later */
        member_fail(m, why);
}

/* ---- the beginning */

static void make_nexus(struct iscsi_session *s)
{
    char port[ISCSI_NAME_MAX + 32]; /* SAM initiator port name, RFC 7143 4.4.1 */
    const uint8_t *i = s->seed.isid;
    snprintf(port, sizeof port, "%s,i,0x%02x%02x%02x%02x%02x%02x", s->seed.initiator, i[0], i[1],
             i[2], i[3], i[4], i[5]);
    s->nexus = scsi_nexus_new(s->scsi, port, s->seed.tpgt);
    scsi_nexus_map(s->nexus, s->map);
    free(s->map);
    s->map = NULL;
}

static void start_here(void *arg)
{
    struct iscsi_session *s = arg;
    list_init(&s->members);
    list_init(&s->commands);
    list_init(&s->waiting);
    list_init(&s->starved);
    s->begun_at = reactor_now();
    if (s->scsi)
        make_nexus(s);
    member_start(s->first);
    count_members(s);
}

void session_start(struct iscsi_session *s)
{
    assert(s->first->conn->hold && s->ended);
    s->started = true;
    reactor_post(s->home, &s->post, start_here, s);
    if (s->stop_soon)
        session_stop(s, SESSION_DROP);
}

/* ---- stopping it */

static void stop_acked(void *arg)
{
    struct iscsi_session *s = arg;
    s->stop_posted = false;
    s->posted--;
    check_over(s);
}

static void stop_late(void *arg)
{
    session_fail(arg, "the initiator does not read");
}

/* Asynchronous messages, 11.9.1 */
enum async_event { EVENT_REQUEST_LOGOUT = 1, EVENT_DROP_ALL = 3 };

static void tell(struct member *m, enum async_event event, uint32_t parameters,
                 void (*after)(struct iscsi_conn *))
{
    struct iscsi_pdu pdu = {.op = OP_ASYNC, .flags = F_FINAL, .itt = ISCSI_NO_TAG};
    pdu.w36 = (uint32_t)event << 24;
    pdu.w40 = parameters;
    member_stamp(m, &pdu);
    conn_note(m->conn, &pdu, NULL, 0, after);
}

static void dropped(struct iscsi_conn *c)
{
    const struct member *m = c->owner;
    session_fail(m->s, NULL);
}

void session_drop(struct iscsi_session *s)
{
    const struct iscsi_params *p = &s->seed.params;
    struct member *m, *first = first_open(s);
    if (first)
        tell(first, EVENT_DROP_ALL, p->time2wait << 16 | p->time2retain, dropped);
    list_for_each (m, &s->members, link)
        conn_hold(m->conn, CONN_HOLD_OWNER);
    /* Whoever does not read it is not waited for. */
    rtimer_arm(&s->timer, SHUTDOWN_WAIT_S * 1000000u, stop_late, s);
}

static void drop_late(void *arg)
{
    session_drop(arg);
}

static void stop_here(void *arg)
{
    struct iscsi_session *s = arg;
    if (!s->closing)
        session_drop(s);
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

static void ask_here(void *arg)
{
    struct iscsi_session *s = arg;
    struct member *m = s->closing || s->logging_out ? NULL : first_open(s);
    if (m && !m->logging_out) {
        tell(m, EVENT_REQUEST_LOGOUT, LOGOUT_WITHIN_S, NULL);
        rtimer_arm(&s->timer, LOGOUT_WITHIN_S * 1000000u, drop_late, s);
    }
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

static void cut_here(void *arg)
{
    struct iscsi_session *s = arg;
    if (!s->closing)
        session_fail(s, "others want to log in");
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

void session_stop(struct iscsi_session *s, enum session_stop how)
{
    bool ask = how == SESSION_ASK && !s->seed.discovery;
    if (s->over || s->stop_posted || (ask && s->asked))
        return;
    if (!s->started) { /* its connection is still at the door */
        s->stop_soon = true;
        return;
    }
    s->stop_posted = true;
    s->posted++;
    s->asked = s->asked || ask;
    reactor_fn fn = ask ? ask_here : how == SESSION_CUT ? cut_here : stop_here;
    reactor_post(s->home, &s->stop_post, fn, s);
}
