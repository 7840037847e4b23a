/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"
#include "targets/scsi/scsi_private.h"

/*
 * Task management runs as a task on the nexus's reactor. With TST 001b every nexus has its own task
 * set, so CLEAR TASK SET is ABORT TASK SET (SAM-5). Resets reach the nexuses of all reactors.
 */
struct tmf {
    struct scsi_nexus *nexus;
    enum scsi_tmf fn;
    struct scsi_lun *unit; /* NULL: all (TARGET RESET) */
    struct scsi_view *view;
    struct scsi_cmd *task;
    void (*done)(enum scsi_tmf_response response, void *arg);
    void *arg;
    enum scsi_tmf_response response;
    bool refused;
};

/* One reactor's part of an abort. */
struct sweep {
    struct scsi_target *target;
    struct scsi_lun *unit;     /* NULL: all */
    struct scsi_nexus *nexus;  /* NULL: all */
    struct scsi_nexus *marked; /* its commands were marked when the request came */
    uint32_t ua;               /* raised on the nexuses reached */
};

/* Calls abort for each command of the task set when `act`; says whether aborted ones are left. */
static bool sweep_task_set(struct scsi_itl *itl, bool act, bool by_another)
{
    bool left = false;
    struct scsi_cmd *c, *tmp;
    list_for_each_safe (c, tmp, &itl->cmds, link) {
        if (act && !c->aborted)
            scsi_abort(c, by_another);
        left = left || c->aborted;
    }
    return left;
}

static bool sweep_local(struct scsi_local *l, const struct sweep *s, bool act)
{
    bool left = false;
    struct scsi_nexus *n;
    list_for_each (n, &l->nexuses, link) {
        if (s->nexus && n != s->nexus)
            continue;
        for (unsigned i = 0; i < n->itls; i++)
            if (n->itl[i] && (!s->unit || n->itl[i]->unit == s->unit))
                left = sweep_task_set(n->itl[i], act && n != s->marked, !s->nexus) || left;
    }
    return left;
}

static void sweep_here(void *arg)
{
    const struct sweep *s = arg;
    struct scsi_local *l = &s->target->local[reactor_self_index()];
    bool left = sweep_local(l, s, true);
    if (s->ua)
        scsi_ua_raise_local(l, s->unit, s->ua, NULL);
    while (left) {
        scsi_wait(l);
        left = sweep_local(l, s, false);
    }
}

void scsi_lun_abort(struct scsi_lun *lun)
{
    struct sweep s = {.target = lun->target, .unit = lun};
    sweep_local(&lun->target->local[reactor_self_index()], &s, true);
}

/* The task may end, and its memory go, while this waits: it is looked for, never followed. */
static bool in_task_set(const struct scsi_itl *itl, const struct scsi_cmd *task)
{
    const struct scsi_cmd *c;
    list_for_each (c, &itl->cmds, link)
        if (c == task && c->aborted)
            return true;
    return false;
}

static void abort_one(struct tmf *t)
{
    struct scsi_nexus *n = t->nexus;
    unsigned i = t->unit->number;
    struct scsi_itl *itl = i < n->itls ? n->itl[i] : NULL;
    while (itl && in_task_set(itl, t->task)) {
        scsi_wait(n->local);
        itl = n->itl[i];
    }
}

/* ---- PREEMPT AND ABORT */

struct preempted {
    struct bdev *bdev;
    const uint64_t *nexus;
    unsigned count;
};

static bool is_preempted(const struct scsi_nexus *n, const struct preempted *p)
{
    for (unsigned i = 0; i < p->count; i++)
        if (p->nexus[i] == n->gate)
            return true;
    return false;
}

/* PERSISTENT RESERVE OUT is left alone: two that abort each other would wait for each other. */
static bool sweep_but_prout(struct scsi_itl *itl, bool act)
{
    bool left = false;
    struct scsi_cmd *c, *tmp;
    list_for_each_safe (c, tmp, &itl->cmds, link) {
        if (c->op->opcode == 0x5f)
            continue;
        if (act && !c->aborted)
            scsi_abort(c, true);
        left = left || c->aborted;
    }
    return left;
}

/* Which target and local to wait in: that of a nexus with commands left; NULL: none are. */
static struct scsi_local *sweep_preempted(const struct preempted *p, bool act)
{
    struct scsi_local *left = NULL;
    unsigned here = reactor_self_index();
    struct scsi_nexus *n;
    list_for_each (n, scsi_nexuses_here(), all)
        for (unsigned i = 0; is_preempted(n, p) && i < n->itls; i++) {
            struct bdev_desc *desc = n->itl[i] ? n->itl[i]->unit->view[here].now.desc : NULL;
            if (desc && bdev_of(desc) == p->bdev && sweep_but_prout(n->itl[i], act))
                left = n->local;
        }
    return left;
}

static void preempt_here(void *arg)
{
    const struct preempted *p = arg;
    struct scsi_local *left = sweep_preempted(p, true);
    while (left) {
        scsi_wait(left);
        left = sweep_preempted(p, false);
    }
}

void scsi_abort_nexuses(struct bdev *bdev, const uint64_t *nexus, unsigned count)
{
    struct preempted p = {bdev, nexus, count};
    task_call_all(preempt_here, &p);
}

/* ---- the functions */

/* Main, the target locked. A reset ends a RESERVE(6) too (SPC-2), and what a reset does to mode
 * parameters. */
static void reset_lun(struct scsi_lun *lun)
{
    scsi_lun_reset_mode(lun);
    if (lun->desc)
        scsi_release6(bdev_of(lun->desc), 0);
}

static void reset_luns(void *arg)
{
    struct tmf *t = arg;
    struct scsi_target *target = t->nexus->target;
    tlock_lock(&target->lock);
    struct scsi_lun *lun;
    list_for_each (lun, &target->luns, link)
        if ((!t->unit || lun == t->unit) && !lun->removed)
            reset_lun(lun);
    tlock_unlock(&target->lock);
}

static void run_tmf(void *arg)
{
    struct tmf *t = arg;
    struct sweep s = {.target = t->nexus->target, .unit = t->unit, .marked = t->nexus};
    switch (t->refused ? SCSI_CLEAR_ACA : t->fn) {
    case SCSI_ABORT_TASK: abort_one(t); break;
    case SCSI_ABORT_TASK_SET:
    case SCSI_CLEAR_TASK_SET:
        s.nexus = t->nexus;
        sweep_here(&s);
        break;
    case SCSI_LOGICAL_UNIT_RESET:
    case SCSI_TARGET_RESET:
        s.ua = UA_LUN_RESET;
        task_call_all(sweep_here, &s);
        task_call(reactor_main(), reset_luns, t);
        break;
    case SCSI_CLEAR_ACA: break;
    }
    struct scsi_local *l = t->nexus->local;
    if (t->view)
        t->view->users--;
    scsi_wake_waiters(l);
    t->done(t->response, t->arg);
    free(t);
}

static void refuse(struct tmf *t, enum scsi_tmf_response response)
{
    t->response = response;
    t->refused = true;
}

static void check_abort_task(struct tmf *t)
{
    struct scsi_itl *itl = scsi_itl_get(t->nexus, t->unit);
    struct scsi_cmd *c;
    list_for_each (c, &itl->cmds, link)
        if (c == t->task) {
            if (!c->aborted)
                scsi_abort(c, false);
            return;
        }
    refuse(t, SCSI_TMF_NO_TASK);
}

/* The nexus's own commands are marked at once: those that come after the request are not meant. */
static void mark(struct tmf *t)
{
    struct sweep s = {.target = t->nexus->target, .unit = t->unit, .nexus = t->nexus};
    if (t->fn == SCSI_CLEAR_ACA)
        refuse(t, SCSI_TMF_UNSUPPORTED);
    else if (t->fn == SCSI_ABORT_TASK)
        check_abort_task(t);
    else
        sweep_local(t->nexus->local, &s, true);
}

void scsi_tmf(struct scsi_nexus *n, enum scsi_tmf fn, const uint8_t lun[8], struct scsi_cmd *task,
              void (*done)(enum scsi_tmf_response response, void *arg), void *arg)
{
    struct tmf *t = xcalloc(1, sizeof *t);
    *t = (struct tmf){.nexus = n, .fn = fn, .task = task, .done = done, .arg = arg};
    if (fn != SCSI_TARGET_RESET) {
        t->unit = scsi_lun_find(n, lun);
        if (!t->unit) {
            refuse(t, SCSI_TMF_NO_LUN);
        } else {
            t->view = &t->unit->view[n->local - n->target->local];
            t->view->users++;
        }
    }
    if (fn == SCSI_TARGET_RESET && n->map) /* it would reach LUNs that are not its own */
        refuse(t, SCSI_TMF_DENIED);
    if (!t->refused)
        mark(t);
    task_start(reactor_self(), "scsi-tmf", run_tmf, t);
}
