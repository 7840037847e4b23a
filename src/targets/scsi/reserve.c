/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reservations as all commands meet them, and RESERVE(6)/RELEASE(6) (SPC-2). The state lives in the
 * gate of the block device (block/gate.h), so every protocol and every target that serves the
 * device is bound by it; PERSISTENT RESERVE is in prin.c and prout.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

/* ---- the check */

bool scsi_reserved(const struct scsi_cmd *cmd, const struct scsi_opcode *op)
{
    const struct scsi_facts *f = &cmd->view->now;
    struct bdev *bdev = bdev_of(f->desc);
    bool write = !(op->flags & OP_READS);
    /* RESERVE(6) lets through what answers in whatever state, and RELEASE(6) (SPC-2, "commands that
     * are allowed"). */
    unsigned free = gate_type(bdev) == GATE_RESERVE6 ? OP_NO_UA | OP_RELEASE : OP_FREE;
    if (op->flags & free)
        return false;
    if (f->sanitize) /* this LUN's own doing that the gate is closed */
        return !gate_reservation_allows(bdev, cmd->nexus->gate, write);
    return !gate_allows(bdev, cmd->nexus->gate, write);
}

bool scsi_may_write(struct scsi_cmd *cmd)
{
    if (gate_allows(bdev_of(cmd->view->now.desc), cmd->nexus->gate, true))
        return true;
    return scsi_refuse_status(cmd, SCSI_RESERVATION_CONFLICT);
}

/* ---- names */

void scsi_nexus_name(const char *target, unsigned port, const char *initiator,
                     char out[SCSI_NEXUS_NAME])
{
    snprintf(out, SCSI_NEXUS_NAME, "%s,t,0x%04x %s", target, port, initiator);
    text_lower(out);
}

bool scsi_nexus_name_split(char name[SCSI_NEXUS_NAME], const char **target_r, unsigned *port_r,
                           const char **initiator_r)
{
    char *space = strchr(name, ' ');
    char *port = space ? space - strlen(",t,0x0000") : NULL;
    if (!port || port <= name || strncmp(port, ",t,0x", 5))
        return false;
    *port_r = (unsigned)strtoul(port + 5, NULL, 16);
    *port = 0;
    *target_r = name;
    *initiator_r = space + 1;
    return true;
}

/* ---- telling the others */

struct notify {
    struct bdev *bdev;
    const struct scsi_notice *list;
    unsigned count;
};

static void notify_nexus(const struct scsi_nexus *n, const struct notify *y, uint32_t ua)
{
    unsigned here = reactor_self_index();
    for (unsigned i = 0; i < n->itls; i++) {
        struct bdev_desc *desc = n->itl[i] ? n->itl[i]->unit->view[here].now.desc : NULL;
        if (desc && bdev_of(desc) == y->bdev)
            n->itl[i]->ua |= ua;
    }
}

static void notify_here(void *arg)
{
    const struct notify *y = arg;
    const struct scsi_nexus *n;
    list_for_each (n, scsi_nexuses_here(), all)
        for (unsigned i = 0; i < y->count; i++)
            if (y->list[i].nexus == n->gate)
                notify_nexus(n, y, y->list[i].ua);
}

void scsi_notify(struct bdev *bdev, const struct scsi_notice *list, unsigned count)
{
    struct notify y = {bdev, list, count};
    if (count)
        task_call_all(notify_here, &y);
}

/* ---- RESERVE(6), RELEASE(6). Who has a part in a persistent reservation is answered, and nothing
 * is done (SPC-4, CRH). */

struct reserve6 {
    struct scsi_cmd *cmd;
    uint64_t nexus;
};

/* Where anybody is registered: GOOD and no change for who holds the persistent reservation, or has
 * a part in it; a conflict for the others, registered or not (SPC-4, "exceptions to SPC-2 RESERVE
 * and RELEASE behavior"; SPC-2). */
static int beside_registrations(const struct gate_state *s, uint64_t nexus)
{
    bool shared =
        s->type == GATE_WRITE_EXCLUSIVE_REGISTRANTS || s->type == GATE_EXCLUSIVE_ACCESS_REGISTRANTS;
    bool part = gate_is_held_by(s, nexus) || (shared && gate_is_registered(s, nexus));
    return part ? -EALREADY : -EBADE;
}

/* -EALREADY: well, and there is nothing to change. */
static int take6(struct gate_state *s, void *arg)
{
    const struct reserve6 *r = arg;
    if (s->count)
        return beside_registrations(s, r->nexus);
    if (s->type == GATE_RESERVE6)
        return s->holder == r->nexus ? -EALREADY : -EBADE;
    s->type = GATE_RESERVE6;
    s->holder = r->nexus;
    return 0;
}

static int drop6(struct gate_state *s, void *arg)
{
    const struct reserve6 *r = arg;
    if (s->count && r->nexus)
        return beside_registrations(s, r->nexus);
    if (s->type != GATE_RESERVE6 || (r->nexus && s->holder != r->nexus))
        return -EALREADY;
    s->type = GATE_NONE;
    s->holder = 0;
    return 0;
}

void scsi_release6(struct bdev *bdev, uint64_t nexus)
{
    struct reserve6 r = {.nexus = nexus};
    if (gate_type(bdev) == GATE_RESERVE6)
        gate_change(bdev, drop6, NULL, &r);
}

static void run_change6(struct scsi_cmd *cmd, gate_change_fn fn)
{
    struct reserve6 r = {cmd, cmd->nexus->gate};
    int rc = gate_change(bdev_of(cmd->view->now.desc), fn, NULL, &r);
    if (rc == -EBADE)
        cmd->status = SCSI_RESERVATION_CONFLICT;
    scsi_end(cmd);
}

static void reserve_task(void *arg)
{
    struct scsi_cmd *cmd = arg;
    cmd->itl->reserved = true;
    run_change6(cmd, take6);
}

static void release_task(void *arg)
{
    run_change6(arg, drop6);
}

void scsi_run_reserve6(struct scsi_cmd *cmd)
{
    task_start(reactor_self(), "scsi-reserve", reserve_task, cmd);
}

void scsi_run_release6(struct scsi_cmd *cmd)
{
    task_start(reactor_self(), "scsi-release", release_task, cmd);
}

/* A RESERVE(6) does not outlive its nexus. The device may be gone by the time main looks. */
struct lost {
    uint64_t nexus;
    char device[BDEV_NAME_MAX + 1];
};

static void lost_task(void *arg)
{
    struct lost *l = arg;
    struct bdev_user user = {.label = "the end of a reservation"};
    struct err e;
    struct bdev_desc *desc = bdev_open(l->device, CLAIM_READ, &user, &e);
    if (desc) {
        scsi_release6(bdev_of(desc), l->nexus);
        bdev_drain_close(&desc);
    }
    free(l);
}

void scsi_nexus_lost(struct scsi_nexus *n)
{
    for (unsigned i = 0; i < n->itls; i++) {
        if (!n->itl[i] || !n->itl[i]->reserved)
            continue;
        struct lost *l = xcalloc(1, sizeof *l);
        l->nexus = n->gate;
        snprintf(l->device, sizeof l->device, "%s", n->itl[i]->unit->device);
        task_start(reactor_main(), "scsi-lost", lost_task, l);
    }
}
