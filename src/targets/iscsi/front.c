/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/crypto.h>

#include "base/log.h"
#include "base/mem.h"
#include "reactor/task.h"
#include "targets/iscsi/registry.h"
#include "targets/linger.h"

/*
 * The front door, on main: connections log in here, then leave for their session's reactor with all
 * they have received and not sent. The list of sessions is kept here as well.
 *
 * Whoever can connect can be a visitor, and where discovery asks for no proof, in a discovery
 * session: together they are VISITORS_MAX at most.
 */
enum { VISITORS_MAX = 256, LOGIN_DEADLINE_US = 10000000 };

struct visitor {
    struct list link;
    struct iscsi_conn *conn;
    struct login login;
    struct login_reply reply; /* the last one, while `waiting` */
    struct iscsi_target *target;
    bool waiting;                  /* for an old session of the same initiator port to end */
    bool leaving;                  /* freed or moved at the next occasion */
    struct iscsi_session *session; /* to move to */
    bool joins;                    /* a session that there is, with: */
    struct session_join join;
    struct rtimer deadline;
    struct rdefer leave;
};

static struct list visitors = LIST_INIT(visitors); /* the oldest first */
static unsigned visitor_count;
static struct list away =
    LIST_INIT(away); /* those whose connection is with the session they join */
static bool shut;    /* nobody is to come in any more */
static struct list sessions = LIST_INIT(sessions);
static unsigned load[REACTOR_MAX]; /* sessions a reactor */
static uint16_t last_tsih;
static struct list enders = LIST_INIT(enders);

/* ---- sessions */

struct ender {
    struct list link;
    struct task *task;
    struct rtimer timer;
};

static void end_waiting(struct ender *e)
{
    list_del(&e->link);
    task_wake(e->task);
}

static void wait_is_over(void *arg)
{
    struct ender *e = arg;
    if (!list_empty(&e->link)) /* else it is awake */
        end_waiting(e);
}

bool front_wait_end(uint64_t until)
{
    struct ender e = {.task = task_self()};
    uint64_t now = reactor_now();
    if (until && now >= until)
        return false;
    list_add_tail(&enders, &e.link);
    if (until)
        rtimer_arm(&e.timer, (until - now) / 1000 + 1, wait_is_over, &e);
    task_park();
    rtimer_free(&e.timer);
    return true;
}

static uint64_t until_after(uint64_t wait_us)
{
    return wait_us ? reactor_now() + linger_us(wait_us) * 1000 : 0;
}

void front_sessions(void (*fn)(const struct iscsi_session *s, void *arg), void *arg)
{
    struct iscsi_session *s, *next;
    list_for_each_safe (s, next, &sessions, link)
        fn(s, arg);
}

struct iscsi_session *front_find(uint64_t id)
{
    struct iscsi_session *s;
    list_for_each (s, &sessions, link) {
        if (s->id == id)
            return s;
    }
    return NULL;
}

void front_drop(const struct iscsi_target *t)
{
    struct iscsi_session *s, *next;
    list_for_each_safe (s, next, &sessions, link) {
        if (s->arg == t)
            session_stop(s, SESSION_DROP);
    }
}

bool front_matches(const struct front_which *w, const struct iscsi_session *s)
{
    return (!w->target || s->arg == w->target) &&
           (!w->initiator || !strcasecmp(s->seed.initiator, w->initiator));
}

/* The list is in the order of ids. NULL: there is none. */
static struct iscsi_session *session_after(uint64_t id)
{
    struct iscsi_session *s;
    list_for_each (s, &sessions, link) {
        if (s->id > id)
            return s;
    }
    return NULL;
}

bool front_stop(const struct front_which *w, uint64_t wait_us)
{
    struct iscsi_session *s;
    uint64_t until = until_after(wait_us),
             last = 0; /* who comes after it may come, and is not meant */
    list_for_each (s, &sessions, link)
        last = s->id;
    for (;;) {
        bool any = false;
        list_for_each (s, &sessions, link) {
            if (!front_matches(w, s) || s->id > last)
                continue;
            any = true;
            session_stop(s, SESSION_ASK);
        }
        if (!any)
            return true;
        if (!front_wait_end(until))
            return false;
    }
}

/* Nobody comes by it any more. A session may end whenever this waits. */
void front_leave_portal(const char *portal)
{
    enum { LOOK_US = 10000 };
    uint64_t until = until_after(FRONT_CUT_US),
             last = 0; /* who comes after it comes by a portal that is added anew */
    if (!list_empty(&sessions))
        last = list_entry(sessions.prev, struct iscsi_session, link)->id;
    enum session_by by = SESSION_OPEN;
    while (by == SESSION_OPEN || (by == SESSION_CLOSED && reactor_now() < until)) {
        struct iscsi_session *s;
        by = SESSION_NONE;
        for (uint64_t id = 0; (s = session_after(id)) && s->id <= last;) {
            id = s->id;
            enum session_by its = s->started ? session_leave_portal(s, portal) : SESSION_NONE;
            by = its > by ? its : by;
        }
        if (by != SESSION_NONE)
            task_sleep_us(LOOK_US);
    }
}

void front_cut_orphans(const struct iscsi_target *t)
{
    struct iscsi_session *s;
    for (uint64_t id = 0; (s = session_after(id));) {
        id = s->id;
        if (s->started && s->arg == t)
            session_cut_orphans(s);
    }
}

static struct iscsi_session *by_tsih(uint16_t tsih)
{
    struct iscsi_session *s;
    list_for_each (s, &sessions, link) {
        if (s->seed.tsih == tsih)
            return s;
    }
    return NULL;
}

/* Not that of a target of the same name that was deleted, and whose device has not answered. */
static bool same_port(const struct iscsi_session *s, const struct login *l)
{
    return s->arg == registry_find(l->nego.target) && !s->seed.discovery &&
           s->seed.tpgt == l->tpgt && !strcasecmp(s->seed.initiator, l->nego.initiator) &&
           !memcmp(s->seed.isid, l->isid, sizeof l->isid) &&
           !strcasecmp(s->seed.target, l->nego.target);
}

/* A session with the same initiator port, target and portal group: it is reinstated, 6.3.5. */
static struct iscsi_session *predecessor(const struct login *l)
{
    struct iscsi_session *s;
    if (l->nego.discovery)
        return NULL;
    list_for_each (s, &sessions, link) {
        if (same_port(s, l))
            return s;
    }
    return NULL;
}

static uint16_t new_tsih(void)
{
    do
        last_tsih++;
    while (!last_tsih || by_tsih(last_tsih));
    return last_tsih;
}

static struct reactor *least_loaded(void)
{
    unsigned best = 0;
    for (unsigned i = 1; i < reactor_count(); i++) {
        if (load[i] < load[best])
            best = i;
    }
    return reactor_get(best);
}

static uint64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void log_session(const struct iscsi_session *s, const char *what)
{
    log_write(s->seed.discovery ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, "iscsi",
              "%s initiator=%s target=%s peer=%s id=%llu", what, s->seed.initiator, s->seed.target,
              s->peer, (unsigned long long)s->id);
}

static void complete_waiting(void);

static void on_session_end(struct iscsi_session *s)
{
    struct iscsi_target *t = s->arg;
    list_del(&s->link);
    load[reactor_index(s->home)]--;
    if (t)
        t->sessions--;
    log_session(s, "session ended");
    free(s);
    struct ender *e;
    while ((e = list_first(&enders, struct ender, link)))
        end_waiting(e);
    complete_waiting();
}

static struct iscsi_session *new_session(struct visitor *v)
{
    const struct login *l = &v->login;
    struct iscsi_session *s = xcalloc(1, sizeof *s);
    struct session_seed *seed = &s->seed;
    snprintf(seed->initiator, sizeof seed->initiator, "%s", l->nego.initiator);
    snprintf(seed->target, sizeof seed->target, "%s", v->target ? v->target->iqn : "");
    memcpy(seed->isid, l->isid, sizeof seed->isid);
    seed->tsih = new_tsih();
    seed->cid = l->cid;
    seed->tpgt = l->tpgt;
    seed->discovery = l->nego.discovery;
    seed->exp_cmdsn = l->cmdsn;
    seed->params = l->nego.params;
    s->id = target_next_session_id();
    s->since_ms = wall_ms();
    s->home = seed->discovery ? reactor_main() : least_loaded();
    s->scsi = v->target ? v->target->scsi : NULL;
    s->ended = on_session_end;
    s->arg = v->target;
    memcpy(s->peer, v->conn->peer, sizeof s->peer);
    memcpy(s->portal, v->conn->portal, sizeof s->portal);
    s->local = v->conn->local;
    list_add_tail(&sessions, &s->link);
    load[reactor_index(s->home)]++;
    if (v->target)
        v->target->sessions++;
    log_session(s, "session began");
    return s;
}

/* ---- visitors */

static void visitor_free(struct visitor *v)
{
    list_del(&v->link);
    visitor_count--;
    reactor_defer_cancel(&v->leave);
    rtimer_free(&v->deadline);
    text_free(&v->reply.text);
    login_free(&v->login);
    conn_free(&v->conn);
    free(v);
}

/* Takes the connection along. */
static struct member *new_member(struct visitor *v, struct iscsi_session *s)
{
    const struct login *l = &v->login;
    struct member *m = member_new(s, v->conn);
    m->cid = l->cid;
    m->statsn = l->statsn;
    m->max_xmit = l->nego.params.max_xmit_segment;
    m->header_digest = l->nego.params.header_digest;
    m->data_digest = l->nego.params.data_digest;
    v->conn = NULL;
    return m;
}

static bool join(struct visitor *v);

/* Not within the connection's callbacks any more: it goes, to its session or for good. */
static void leave(void *arg)
{
    struct visitor *v = arg;
    struct iscsi_session *s = v->session;
    if (v->joins && !v->conn->closed && join(v))
        return;
    bool barred = s && v->target && !registry_permits(v->target, s->seed.initiator, s->local);
    if (barred) /* in between: without an entry there is no map either, and all LUNs would show */
        conn_close(v->conn);
    if (s && !v->conn->closed) {
        struct iscsi_acl *acl = v->target ? acl_find(v->target, s->seed.initiator) : NULL;
        conn_detach(v->conn);
        s->first = new_member(v, s);
        /* As it is now: who changes it from here on reaches the session. */
        s->map = acl ? scsi_map_copy(acl->map) : NULL;
        session_start(s);
    } else if (s) { /* lost or barred in between */
        v->session = NULL;
        on_session_end(s);
    }
    visitor_free(v);
}

static void leave_soon(struct visitor *v)
{
    if (v->leaving)
        return;
    v->leaving = true;
    reactor_defer(&v->leave, leave, v);
}

static void dismiss(struct visitor *v, const char *why)
{
    log_every(10, LOG_LEVEL_INFO, "iscsi", "login ended: %s peer=%s initiator=%s", why,
              v->conn->peer, v->login.nego.initiator);
    conn_close(v->conn);
    leave_soon(v);
}

static void on_deadline(void *arg)
{
    dismiss(arg, "it took longer than 10 s");
}

static void after_refusal(struct iscsi_conn *c)
{
    dismiss(c->owner, "refused");
}

static void send_reply(struct visitor *v, void (*after)(struct iscsi_conn *c))
{
    conn_note(v->conn, &v->reply.head, v->reply.text.p, v->reply.text.len, after);
    text_free(&v->reply.text);
}

static void refuse(struct visitor *v)
{
    log_every(1, LOG_LEVEL_WARN, "iscsi",
              "login refused status=0x%04x peer=%s initiator=%s target=%s", v->reply.status,
              v->conn->peer, v->login.nego.initiator, v->login.nego.target);
    conn_hold(v->conn, CONN_HOLD_OWNER);
    send_reply(v, after_refusal);
}

/* The access list may have changed since the machine asked: what it is now counts, and what was
 * proved must be what is to be proved now. */
static enum login_status ask_again(const struct visitor *v)
{
    const struct login *l = &v->login;
    const struct iscsi_target *t = v->target;
    struct iscsi_auth auth = {0};
    if (!l->nego.discovery && (registry_find(l->nego.target) != t || t->removing))
        return LOGIN_REMOVED;
    if (t && !registry_permits(t, l->nego.initiator, v->conn->local))
        return LOGIN_FORBIDDEN;
    auth_needed(t, l->nego.initiator, &auth);
    bool proven = auth_same(&auth, &l->auth) && (!*auth.user || l->chap.state == CHAP_PASSED);
    OPENSSL_cleanse(&auth, sizeof auth);
    return proven ? LOGIN_SUCCESS : LOGIN_AUTH_FAILED;
}

/* Those that are through, and about to become members of a session. */
static unsigned promised(void)
{
    unsigned n = 0;
    const struct visitor *v;
    list_for_each (v, &visitors, link)
        n += v->session || v->joins;
    return n;
}

/* The login machine is done: makes room among the sessions, then answers and goes. */
static void complete(struct visitor *v)
{
    const struct login *l = &v->login;
    enum login_status status = ask_again(v);
    struct iscsi_session *old = predecessor(l);
    if (!status && !l->tsih && !old && promised() + member_count() >= member_limit())
        status = LOGIN_NO_RESOURCES;
    if (status) {
        login_refuse(&v->reply, status);
        v->waiting = false;
        refuse(v);
        return;
    }
    if (l->tsih) {
        v->joins = true;
        leave_soon(v);
        return;
    }
    v->waiting = old;
    if (old) {
        session_stop(old, SESSION_DROP);
        return;
    }
    v->session = new_session(v);
    login_set_tsih(&v->reply, v->session->seed.tsih);
    send_reply(v, NULL);
    leave_soon(v);
}

/* ---- further connections of a session: it has the last word */

static const struct conn_ops front_ops;

static void turn_away(struct visitor *v, enum login_status status)
{
    v->joins = v->leaving = false;
    login_refuse(&v->reply, status);
    refuse(v);
}

static void joined(struct session_join *j)
{
    struct visitor *v = container_of(j, struct visitor, join);
    list_del(&v->link);
    list_add_tail(&visitors, &v->link);
    if (j->status) {
        v->reply.head = j->m->login;
        v->conn = j->m->conn;
        j->m->conn = NULL;
        member_free(&j->m);
    }
    if (!j->status || shut) {
        visitor_free(v);
        return;
    }
    conn_start(v->conn, &front_ops, v);
    rtimer_arm(&v->deadline, LOGIN_DEADLINE_US, on_deadline, v);
    turn_away(v, j->status);
}

static bool may_join(const struct iscsi_session *s, const struct login *l)
{
    return s && s->started && same_port(s, l);
}

/* True: it is away, or has been refused. */
static bool join(struct visitor *v)
{
    struct iscsi_session *s = by_tsih(v->login.tsih);
    enum login_status status = ask_again(v);
    if (status || !may_join(s, &v->login)) {
        turn_away(v, status ? status : LOGIN_NO_SESSION);
        return true;
    }
    rtimer_disarm(&v->deadline);
    conn_detach(v->conn);
    list_del(&v->link);
    list_add_tail(&away, &v->link);
    v->join = (struct session_join){.s = s, .m = new_member(v, s), .done = joined};
    v->join.m->login = v->reply.head;
    v->join.m->login_text = v->reply.text;
    v->reply.text = (struct text){0};
    session_join(&v->join);
    return true;
}

static void complete_waiting(void)
{
    struct visitor *v, *next;
    list_for_each_safe (v, next, &visitors, link) {
        if (v->waiting && !v->leaving)
            complete(v);
    }
}

/* ---- the login machine's questions */

static enum login_status permit_tsih(const struct login *l)
{
    const struct iscsi_session *s = l->tsih ? by_tsih(l->tsih) : NULL;
    if (!l->tsih)
        return LOGIN_SUCCESS;
    if (!may_join(s, l))
        return LOGIN_NO_SESSION;
    bool only = s->seed.params.max_connections == 1 && s->seed.cid != l->cid;
    return only ? LOGIN_TOO_MANY_CONNECTIONS : LOGIN_SUCCESS;
}

static enum login_status permit(const struct login *l, struct login_offer *offer_r,
                                struct iscsi_auth *auth_r, void *arg)
{
    struct visitor *v = arg;
    if (l->nego.discovery) {
        auth_needed(NULL, l->nego.initiator, auth_r);
        return l->tsih ? LOGIN_NO_SESSION : LOGIN_SUCCESS;
    }
    struct iscsi_target *t = registry_find(l->nego.target);
    if (!t)
        return LOGIN_NOT_FOUND;
    if (t->removing)
        return LOGIN_REMOVED;
    if (!registry_permits(t, l->nego.initiator, v->conn->local))
        return LOGIN_FORBIDDEN;
    v->target = t;
    *offer_r = (struct login_offer){t->alias, t->max_connections};
    auth_needed(t, l->nego.initiator, auth_r);
    return permit_tsih(l);
}

/* ---- the connection's events */

static void on_begin(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *ahs)
{
    struct visitor *v = c->owner;
    (void)ahs;
    if (pdu->op != OP_LOGIN_REQ || pdu->ahs_len)
        dismiss(v, "not a login request");
}

static void on_end(struct iscsi_conn *c, const struct iscsi_pdu *pdu, const uint8_t *data)
{
    struct visitor *v = c->owner;
    switch (login_request(&v->login, pdu, data, &v->reply)) {
    case LOGIN_MORE: send_reply(v, NULL); break;
    case LOGIN_FAILED: refuse(v); break;
    case LOGIN_DONE:
        conn_hold(c, CONN_HOLD_OWNER);
        complete(v);
        break;
    }
}

static void on_lost(struct iscsi_conn *c, const char *why)
{
    dismiss(c->owner, why);
}

static const struct conn_ops front_ops = {.begin = on_begin, .end = on_end, .lost = on_lost};

static unsigned discoveries(struct iscsi_session **oldest_r)
{
    unsigned n = 0;
    struct iscsi_session *s;
    list_for_each (s, &sessions, link) {
        if (!s->seed.discovery || !s->started || s->cut) /* not started: still a visitor */
            continue;
        if (!n++)
            *oldest_r = s;
    }
    return n;
}

/* Discovery goes first: it is soon asked for again. */
static void make_room(void)
{
    struct iscsi_session *session = NULL;
    if (visitor_count + discoveries(&session) < VISITORS_MAX)
        return;
    struct visitor *oldest = session ? NULL : list_first(&visitors, struct visitor, link);
    if (!session && !oldest) /* all are about to be through */
        return;
    log_every(10, LOG_LEVEL_WARN, "iscsi", "too many logins at once: the oldest is dropped peer=%s",
              session ? session->peer : oldest->conn->peer);
    if (session) {
        session->cut = true;
        session_stop(session, SESSION_CUT);
    } else if (oldest->session) { /* it is through, and on its way */
        leave(oldest);
    } else {
        visitor_free(oldest);
    }
}

void front_accept(int fd, const char *portal, uint16_t group)
{
    make_room();
    shut = false;
    struct visitor *v = xcalloc(1, sizeof *v);
    v->conn = conn_new(fd, portal);
    struct login_env env = {.permit = permit, .arg = v};
    login_init(&v->login, &env, group);
    list_add_tail(&visitors, &v->link);
    visitor_count++;
    rtimer_arm(&v->deadline, LOGIN_DEADLINE_US, on_deadline, v);
    conn_start(v->conn, &front_ops, v);
}

void front_close(const char *portal)
{
    struct visitor *v, *next;
    shut = !portal;
    list_for_each_safe (v, next, &visitors, link) {
        if (portal && strcmp(v->conn->portal, portal) != 0)
            continue;
        if (v->session)
            leave(v);
        else
            visitor_free(v);
    }
}
