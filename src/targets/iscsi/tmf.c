/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "targets/iscsi/command.h"
#include "targets/iscsi/registry.h"

enum iscsi_tmf { /* 11.5.1 */
                 TMF_ABORT_TASK = 1,
                 TMF_ABORT_TASK_SET = 2,
                 TMF_CLEAR_ACA = 3,
                 TMF_CLEAR_TASK_SET = 4,
                 TMF_LOGICAL_UNIT_RESET = 5,
                 TMF_TARGET_WARM_RESET = 6,
                 TMF_TARGET_COLD_RESET = 7,
                 TMF_TASK_REASSIGN = 8,
};

enum iscsi_tmf_response { /* 11.6.1 */
                          TMF_COMPLETE = 0,
                          TMF_NO_TASK = 1,
                          TMF_NO_LUN = 2,
                          TMF_NO_REASSIGNMENT = 4,
                          TMF_NOT_SUPPORTED = 5,
                          TMF_DENIED = 6, /* function authorization failed */
                          TMF_REJECTED = 255,
};

static void respond(struct member *m, uint32_t itt, enum iscsi_tmf_response response)
{
    struct iscsi_pdu reply = {.op = OP_TMF_RSP, .flags = F_FINAL, .b2 = (uint8_t)response};
    reply.itt = itt;
    member_stamp(m, &reply);
    conn_note(m->conn, &reply, NULL, 0, NULL);
}

/*
 * One that reaches several tasks waits, before it begins, for all that the initiator sent before it
 * on other connections, and afterwards, before it is answered, until the initiator has what it was
 * sent on these (4.2.3.3: no reply of a task comes after the answer that it was aborted).
 */
struct pending {
    struct list link; /* of the session's parked or answering ones */
    struct member *m;
    uint32_t itt, cmdsn;
    uint8_t lun[8];
    enum scsi_tmf fn;
    enum iscsi_tmf_response response;
    bool cold;                       /* the sessions go too, */
    char target[ISCSI_NAME_MAX + 1]; /* of this one, */
    const struct scsi_target *scsi;  /* unless another has its name by now */
    struct rpost post;
    struct awaited {
        struct member *m; /* NULL: it is there, or will not be */
        uint32_t statsn;
    } awaited[ISCSI_CONNECTIONS_MAX];
};

/* On main: TARGET COLD RESET ends all sessions of the target, this one as well (11.5.1). */
static void drop_sessions(void *arg)
{
    struct pending *p = arg;
    struct iscsi_target *t = registry_find(p->target);
    if (t && t->scsi == p->scsi)
        front_drop(t);
    free(p);
}

static void answer(struct pending *p)
{
    struct member *m = p->m;
    list_del(&p->link);
    if (!m->closing)
        respond(m, p->itt, p->response);
    if (p->cold && p->response == TMF_COMPLETE)
        reactor_post(reactor_main(), &p->post, drop_sessions, p);
    else
        free(p);
    m->tmfs--;
    member_check_end(m);
}

/* Is there something that the initiator has not confirmed on another connection? */
static bool await_replies(struct pending *p)
{
    unsigned n = 0;
    struct member *t;
    list_for_each (t, &p->m->s->members, link) {
        if (t == p->m || t->closing || t->waits || !sn_before(t->acked, t->statsn))
            continue;
        if (n == ISCSI_CONNECTIONS_MAX)
            break;
        p->awaited[n++] = (struct awaited){t, t->statsn};
        member_ping(t);
    }
    return n;
}

static bool is_answerable(struct pending *p)
{
    bool all = true;
    for (unsigned i = 0; i < ISCSI_CONNECTIONS_MAX; i++) {
        struct awaited *a = &p->awaited[i];
        if (a->m && (a->m->closing || !sn_before(a->m->acked, a->statsn)))
            a->m = NULL;
        all = all && !a->m;
    }
    return all;
}

static struct pending *first_answerable(struct iscsi_session *s)
{
    struct pending *p;
    list_for_each (p, &s->answering, link) {
        if (p->m->closing || is_answerable(p))
            return p;
    }
    return NULL;
}

/* An answer may end a connection that is logged out, and that others: the list is looked at anew.
 */
void tmf_acked(struct iscsi_session *s)
{
    struct pending *p;
    while ((p = first_answerable(s)))
        answer(p);
}

static void done(enum scsi_tmf_response response, void *arg)
{
    static const uint8_t map[] = {
        [SCSI_TMF_COMPLETE] = TMF_COMPLETE, [SCSI_TMF_NO_TASK] = TMF_NO_TASK,
        [SCSI_TMF_NO_LUN] = TMF_NO_LUN,     [SCSI_TMF_UNSUPPORTED] = TMF_NOT_SUPPORTED,
        [SCSI_TMF_DENIED] = TMF_DENIED,
    };
    struct pending *p = arg;
    p->response = map[response];
    if (p->fn != SCSI_ABORT_TASK && !p->m->closing && await_replies(p))
        list_add_tail(&p->m->s->answering, &p->link);
    else
        answer(p);
}

static struct pending *pend(struct member *m, const struct iscsi_pdu *pdu, enum scsi_tmf fn)
{
    struct pending *p = xcalloc(1, sizeof *p);
    list_init(&p->link);
    p->m = m;
    p->itt = pdu->itt;
    p->cmdsn = pdu->w24;
    p->fn = fn;
    memcpy(p->lun, pdu->lun, sizeof p->lun);
    p->cold = (pdu->flags & 0x7f) == TMF_TARGET_COLD_RESET;
    memcpy(p->target, m->s->seed.target, sizeof p->target);
    p->scsi = m->s->scsi;
    m->tmfs++;
    return p;
}

static void start(struct member *m, const struct iscsi_pdu *pdu, enum scsi_tmf fn)
{
    struct iscsi_session *s = m->s;
    struct pending *p = pend(m, pdu, fn);
    bool early = pdu->immediate && sn_before(s->seed.exp_cmdsn, pdu->w24) &&
                 !sn_before(session_max_cmdsn(s) + 1, pdu->w24);
    if (early && s->seed.params.max_connections > 1) {
        order_note_gap(s);
        list_add_tail(&s->parked, &p->link);
    } else {
        scsi_tmf(s->nexus, fn, p->lun, NULL, done, p);
    }
}

static struct pending *first_due(struct iscsi_session *s)
{
    struct pending *p;
    list_for_each (p, &s->parked, link) {
        if (!sn_before(s->seed.exp_cmdsn, p->cmdsn))
            return p;
    }
    return NULL;
}

void tmf_resume(struct iscsi_session *s)
{
    struct pending *p;
    while ((p = first_due(s))) {
        list_del(&p->link);
        scsi_tmf(s->nexus, p->fn, p->lun, NULL, done, p);
    }
}

void tmf_forget(struct member *m)
{
    struct pending *p, *next;
    list_for_each_safe (p, next, &m->s->parked, link) {
        if (p->m != m)
            continue;
        list_del(&p->link);
        m->tmfs--;
        free(p);
    }
}

/* RefCmdSN names a command that has not come, on whatever connection: it counts as received. */
static bool is_to_come(const struct iscsi_session *s, const struct iscsi_pdu *pdu)
{
    uint32_t ref = pdu->w32;
    return s->seed.params.max_connections > 1 && !sn_before(ref, s->seed.exp_cmdsn) &&
           !sn_before(session_max_cmdsn(s), ref) && sn_before(ref, pdu->w24);
}

/* 11.5.1 */
static void abort_task(struct member *m, const struct iscsi_pdu *pdu)
{
    struct iscsi_session *s = m->s;
    struct command *held = command_lookup(s, pdu->w20);
    if (held && held->held && !memcmp(held->cmd.lun, pdu->lun, sizeof pdu->lun)) {
        order_abort(held);
        command_give_up(held);
        respond(m, pdu->itt, TMF_COMPLETE);
        return;
    }
    struct scsi_cmd *cmd = command_to_abort(s, pdu->w20);
    if (cmd && !memcmp(cmd->lun, pdu->lun, sizeof cmd->lun)) {
        scsi_tmf(s->nexus, SCSI_ABORT_TASK, pdu->lun, cmd, done, pend(m, pdu, SCSI_ABORT_TASK));
    } else if (!held && is_to_come(s, pdu)) {
        order_use_up(s, pdu->w32);
        respond(m, pdu->itt, TMF_COMPLETE);
    } else {
        respond(m, pdu->itt, TMF_NO_TASK); /* never seen, or its response is on its way */
    }
}

void tmf_request(struct member *m, const struct iscsi_pdu *pdu)
{
    enum { TMFS_MAX = 32 };
    if (m->tmfs >= TMFS_MAX) {
        respond(m, pdu->itt, TMF_REJECTED);
        return;
    }
    switch (pdu->flags & 0x7f) {
    case TMF_ABORT_TASK: abort_task(m, pdu); break;
    case TMF_ABORT_TASK_SET: start(m, pdu, SCSI_ABORT_TASK_SET); break;
    case TMF_CLEAR_ACA: start(m, pdu, SCSI_CLEAR_ACA); break;
    case TMF_CLEAR_TASK_SET: start(m, pdu, SCSI_CLEAR_TASK_SET); break;
    case TMF_LOGICAL_UNIT_RESET: start(m, pdu, SCSI_LOGICAL_UNIT_RESET); break;
    case TMF_TARGET_COLD_RESET:
    case TMF_TARGET_WARM_RESET: start(m, pdu, SCSI_TARGET_RESET); break;
    case TMF_TASK_REASSIGN: respond(m, pdu->itt, TMF_NO_REASSIGNMENT); break;
    default: respond(m, pdu->itt, TMF_NOT_SUPPORTED); break;
    }
}
