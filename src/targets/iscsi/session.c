/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/session.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "reactor/task.h"

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
        n += !m->closing;
    __atomic_store_n(&s->stats.connections, n, __ATOMIC_RELAXED);
}

void session_member_closes(struct iscsi_session *s)
{
    count_members(s);
    if (!s->stats.connections)
        s->closing = true;
}

static void start_waiting(struct iscsi_session *s);

void session_member_left(struct iscsi_session *s)
{
    if (!list_empty(&s->members)) {
        start_waiting(s);
        logout_check(s);
        return;
    }
    order_end(s);
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
    list_init(&s->held);
    list_init(&s->parked);
    list_init(&s->answering);
    s->begun_at = reactor_now();
    if (s->scsi)
        make_nexus(s);
    list_add_tail(&s->members, &s->first->link);
    count_members(s);
    member_start(s->first);
}

void session_start(struct iscsi_session *s)
{
    assert(s->first->conn->hold && s->ended);
    s->started = true;
    reactor_post(s->home, &s->post, start_here, s);
    if (s->stop_soon)
        session_stop(s, SESSION_DROP);
}

/* ---- further connections */

static void join_late(void *arg)
{
    member_fail(arg, "the connection before it does not end");
}

/* Those whose predecessor is gone. */
static void start_waiting(struct iscsi_session *s)
{
    struct member *m, *before;
    list_for_each (m, &s->members, link) {
        bool free = m->waits && !m->closing;
        for (before = list_first(&s->members, struct member, link); free && before != m;
             before = list_entry(before->link.next, struct member, link))
            free = before->cid != m->cid;
        if (free)
            member_start(m);
    }
}

static enum login_status seat(struct iscsi_session *s, struct member *m)
{
    enum { JOIN_WAIT_S = 10 };
    struct member *t;
    unsigned others = 0;
    bool replaces = false;
    if (s->finished || s->closing || s->logout_by)
        return LOGIN_NO_SESSION;
    list_for_each (t, &s->members, link) {
        others += !t->closing && t->cid != m->cid;
        replaces = replaces || t->cid == m->cid;
    }
    if (member_count() > member_limit() && !replaces)
        return LOGIN_NO_RESOURCES;
    if (others >= s->seed.params.max_connections)
        return LOGIN_TOO_MANY_CONNECTIONS;
    list_add_tail(&s->members, &m->link);
    m->waits = true; /* so that the session does not end meanwhile */
    rtimer_arm(&m->timer, JOIN_WAIT_S * 1000000u, join_late, m);
    list_for_each (t, &s->members, link)
        if (t != m && t->cid == m->cid)
            member_fail(t, "it is logged in anew");
    count_members(s);
    start_waiting(s);
    return LOGIN_SUCCESS;
}

static void join_acked(void *arg)
{
    struct session_join *j = arg;
    struct iscsi_session *s = j->s;
    j->done(j);
    s->posted--;
    check_over(s);
}

static void join_here(void *arg)
{
    struct session_join *j = arg;
    j->status = seat(j->s, j->m);
    reactor_post(reactor_main(), &j->post, join_acked, j);
}

void session_join(struct session_join *j)
{
    assert(j->m->conn->hold && j->s->started);
    j->s->posted++;
    j->s->joined = true;
    reactor_post(j->s->home, &j->post, join_here, j);
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
enum async_event { EVENT_REQUEST_LOGOUT = 1, EVENT_DROP_ONE = 2, EVENT_DROP_ALL = 3 };

static void tell(struct member *m, enum async_event event, uint16_t first, uint32_t others,
                 void (*after)(struct iscsi_conn *))
{
    struct iscsi_pdu pdu = {.op = OP_ASYNC, .flags = F_FINAL, .itt = ISCSI_NO_TAG};
    pdu.w36 = (uint32_t)event << 24 | first;
    pdu.w40 = others;
    member_stamp(m, &pdu);
    conn_note(m->conn, &pdu, NULL, 0, after);
}

static void dropped(struct iscsi_conn *c)
{
    const struct member *m = c->owner;
    session_fail(m->s, NULL);
}

/* The first connection that something can be said on, or NULL. */
static struct member *speaker(struct iscsi_session *s)
{
    struct member *m;
    list_for_each (m, &s->members, link)
        if (!m->closing && !m->waits)
            return m;
    return NULL;
}

/* All connections are to be dropped: tells it on one, then does it. */
static void drop(void *arg)
{
    struct iscsi_session *s = arg;
    const struct iscsi_params *p = &s->seed.params;
    struct member *m, *first = speaker(s);
    if (!first) {
        session_fail(s, NULL);
        return;
    }
    tell(first, EVENT_DROP_ALL, 0, p->time2wait << 16 | p->time2retain, dropped);
    list_for_each (m, &s->members, link)
        if (!m->closing)
            conn_hold(m->conn, CONN_HOLD_OWNER);
    /* Whoever does not read it is not waited for. */
    rtimer_arm(&s->timer, SHUTDOWN_WAIT_S * 1000000u, stop_late, s);
}

static void stop_here(void *arg)
{
    struct iscsi_session *s = arg;
    if (!s->closing)
        drop(s);
    reactor_post(reactor_main(), &s->stop_post, stop_acked, s);
}

/* The message is for the connection that it comes by, so each gets it. */
static void ask_here(void *arg)
{
    struct iscsi_session *s = arg;
    struct member *m;
    bool ask = !s->closing && !s->logout_by;
    list_for_each (m, &s->members, link)
        if (ask && !m->closing && !m->waits && !m->logging_out)
            tell(m, EVENT_REQUEST_LOGOUT, 0, LOGOUT_WITHIN_S, NULL);
    if (ask)
        rtimer_arm(&s->timer, LOGOUT_WITHIN_S * 1000000u, drop, s);
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

/* ---- a portal that goes, and with it those who came by it */

struct portal_leave {
    struct iscsi_session *s;
    const char *portal;
    bool any, all, open; /* of its connections */
};

static void part_late(void *arg)
{
    member_fail(arg, "its portal is removed");
}

static void parted(struct iscsi_conn *c)
{
    part_late(c->owner);
}

static void part_told(void *arg)
{
    struct member *m = arg;
    const struct iscsi_params *p = &m->s->seed.params;
    conn_hold(m->conn, CONN_HOLD_OWNER);
    rtimer_arm(&m->timer, SHUTDOWN_WAIT_S * 1000000u, part_late, m);
    tell(m, EVENT_DROP_ONE, m->cid, p->time2wait << 16 | p->time2retain, parted);
}

static void part(struct member *m)
{
    if (m->closing || m->parting)
        return;
    m->parting = true;
    if (m->waits) { /* nothing can be said on it yet */
        part_late(m);
        return;
    }
    if (!m->logging_out)
        tell(m, EVENT_REQUEST_LOGOUT, 0, LOGOUT_WITHIN_S, NULL);
    rtimer_arm(&m->timer, LOGOUT_WITHIN_S * 1000000u, part_told, m);
}

static void leave_portal_here(void *arg)
{
    struct portal_leave *l = arg;
    struct member *m;
    l->all = true;
    l->any = l->s->finished; /* main is about to hear of it */
    list_for_each (m, &l->s->members, link) {
        bool its = !strcmp(m->conn->portal, l->portal);
        l->any = l->any || its;
        l->open = l->open || (its && !m->closing);
        l->all = l->all && (its || m->closing);
    }
    list_for_each (m, &l->s->members, link)
        if (l->any && !l->all && !strcmp(m->conn->portal, l->portal))
            part(m);
}

enum session_by session_leave_portal(struct iscsi_session *s, const char *portal)
{
    struct portal_leave l = {.s = s, .portal = portal};
    if (!s->joined) {
        l.any = l.all = !strcmp(s->portal, portal);
        l.open = __atomic_load_n(&s->stats.connections, __ATOMIC_RELAXED);
    } else {
        s->posted++;
        task_call(s->home, leave_portal_here, &l);
        s->posted--;
    }
    if (l.any && l.all)
        session_stop(s, SESSION_ASK);
    check_over(s);
    if (!l.any)
        return SESSION_NONE;
    return l.open ? SESSION_OPEN : SESSION_CLOSED;
}

/* ---- a LUN that goes */

static void cut_orphans_here(void *arg)
{
    struct iscsi_session *s = arg;
    struct member *m;
    list_for_each (m, &s->members, link) {
        if (!m->closing && commands_orphaned(m))
            member_fail(m, "it does not take the replies of a LUN that is removed");
    }
}

void session_cut_orphans(struct iscsi_session *s)
{
    s->posted++;
    task_call(s->home, cut_orphans_here, s);
    s->posted--;
    check_over(s);
}
