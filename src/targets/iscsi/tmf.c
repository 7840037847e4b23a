/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
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

struct pending {
    struct member *m;
    uint32_t itt;
    bool cold;                       /* the sessions go too, */
    char target[ISCSI_NAME_MAX + 1]; /* of this one */
    struct rpost post;
};

/* On main: TARGET COLD RESET ends all sessions of the target, this one as well (11.5.1). */
static void drop_sessions(void *arg)
{
    struct pending *p = arg;
    struct iscsi_target *t = registry_find(p->target);
    if (t)
        front_drop(t);
    free(p);
}

static void done(enum scsi_tmf_response response, void *arg)
{
    static const uint8_t map[] = {
        [SCSI_TMF_COMPLETE] = TMF_COMPLETE, [SCSI_TMF_NO_TASK] = TMF_NO_TASK,
        [SCSI_TMF_NO_LUN] = TMF_NO_LUN,     [SCSI_TMF_UNSUPPORTED] = TMF_NOT_SUPPORTED,
        [SCSI_TMF_DENIED] = TMF_DENIED,
    };
    struct pending *p = arg;
    struct member *m = p->m;
    if (!m->closing)
        respond(m, p->itt, map[response]);
    if (p->cold && response == SCSI_TMF_COMPLETE)
        reactor_post(reactor_main(), &p->post, drop_sessions, p);
    else
        free(p);
    m->tmfs--;
    member_check_end(m);
}

static void start(struct member *m, const struct iscsi_pdu *pdu, enum scsi_tmf fn,
                  struct scsi_cmd *task)
{
    struct pending *p = xcalloc(1, sizeof *p);
    p->m = m;
    p->itt = pdu->itt;
    p->cold = (pdu->flags & 0x7f) == TMF_TARGET_COLD_RESET;
    memcpy(p->target, m->s->seed.target, sizeof p->target);
    m->tmfs++;
    scsi_tmf(m->s->nexus, fn, pdu->lun, task, done, p);
}

static void abort_task(struct member *m, const struct iscsi_pdu *pdu)
{
    struct scsi_cmd *cmd = command_to_abort(m->s, pdu->w20);
    if (!cmd || memcmp(cmd->lun, pdu->lun, sizeof cmd->lun) != 0)
        respond(m, pdu->itt, TMF_NO_TASK); /* never seen, or its response is on its way */
    else
        start(m, pdu, SCSI_ABORT_TASK, cmd);
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
    case TMF_ABORT_TASK_SET: start(m, pdu, SCSI_ABORT_TASK_SET, NULL); break;
    case TMF_CLEAR_ACA: start(m, pdu, SCSI_CLEAR_ACA, NULL); break;
    case TMF_CLEAR_TASK_SET: start(m, pdu, SCSI_CLEAR_TASK_SET, NULL); break;
    case TMF_LOGICAL_UNIT_RESET: start(m, pdu, SCSI_LOGICAL_UNIT_RESET, NULL); break;
    case TMF_TARGET_COLD_RESET:
    case TMF_TARGET_WARM_RESET: start(m, pdu, SCSI_TARGET_RESET, NULL); break;
    case TMF_TASK_REASSIGN: respond(m, pdu->itt, TMF_NO_REASSIGNMENT); break;
    default: respond(m, pdu->itt, TMF_NOT_SUPPORTED); break;
    }
}
