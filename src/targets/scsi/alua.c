/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asymmetric logical unit access (SPC-4): every target port is a target port group of its own, with
 * the same number; a group has one state for all LUNs of the target. Nothing here is slower through
 * one port than through another: the states are what hosts and the administrator agree on.
 */
#include <stdio.h>

#include "base/mem.h"
#include "targets/scsi/scsi_private.h"

enum { STATUS_NONE, STATUS_EXPLICIT, STATUS_IMPLICIT };
enum { EXTENDED = 0x20, DESCRIPTOR_LEN = 4, SUPPORTED = 0x0f }; /* U_SUP S_SUP AN_SUP AO_SUP */

enum scsi_alua scsi_alua_of(const struct scsi_target *t, unsigned group)
{
    return (enum scsi_alua)__atomic_load_n(&t->alua[group & SCSI_GROUP_MAX], __ATOMIC_RELAXED);
}

static const char *const names[] = {
    [SCSI_ALUA_OPTIMIZED] = "optimized",
    [SCSI_ALUA_NON_OPTIMIZED] = "non-optimized",
    [SCSI_ALUA_STANDBY] = "standby",
    [SCSI_ALUA_UNAVAILABLE] = "unavailable",
};

const char *scsi_alua_name(enum scsi_alua state)
{
    return names[state];
}

/* ---- what a state forbids */

bool scsi_alua_refuses(struct scsi_cmd *cmd, const struct scsi_opcode *op)
{
    enum scsi_alua state = scsi_alua_of(cmd->nexus->target, cmd->nexus->tpgt);
    if (state <= SCSI_ALUA_NON_OPTIMIZED || op->flags & (OP_NO_UA | OP_ANY_PATH))
        return false;
    scsi_refuse(cmd, state == SCSI_ALUA_STANDBY ? SENSE_PORT_STANDBY : SENSE_PORT_UNAVAILABLE);
    return true;
}

/* ---- REPORT TARGET PORT GROUPS */

void scsi_run_report_groups(struct scsi_cmd *cmd)
{
    const struct scsi_target *t = cmd->nexus->target;
    unsigned format = cmd->cdb[1] & 0xe0, groups = scsi_port_count();
    if (format > EXTENDED) {
        scsi_fail_field(cmd, 1, 7);
        return;
    }
    size_t room = 8 + (size_t)groups * 12;
    uint8_t *p = scsi_reply_room(cmd, room);
    if (!p)
        return;
    struct wr w = wr_make(p, room), head = wr_make(p, 4);
    wr_be32(&w, 0);
    if (format)
        wr_be32(&w, 0x10000000);
    for (unsigned g = 1; g <= groups; g++) {
        wr_u8(&w, scsi_alua_of(t, g));
        wr_u8(&w, SUPPORTED);
        wr_be16(&w, g);
        wr_u8(&w, 0);
        wr_u8(&w, __atomic_load_n(&t->alua_status[g & SCSI_GROUP_MAX], __ATOMIC_RELAXED));
        wr_u8(&w, 0);
        wr_u8(&w, 1);
        wr_be16(&w, 0);
        wr_be16(&w, g);
    }
    wr_be32(&head, w.pos - 4);
    scsi_reply(cmd, w.pos);
}

/* ---- changing */

struct told {
    struct scsi_target *target;
    const struct scsi_nexus *except;
};

static void tell_here(void *arg)
{
    const struct told *d = arg;
    scsi_ua_raise_local(&d->target->local[reactor_self_index()], NULL, UA_ALUA_CHANGED, d->except);
}

static bool set_state(struct scsi_target *t, unsigned group, enum scsi_alua state, unsigned status)
{
    if (scsi_alua_of(t, group) == state)
        return false;
    __atomic_store_n(&t->alua_status[group], (uint8_t)status, __ATOMIC_RELAXED);
    __atomic_store_n(&t->alua[group], (uint8_t)state, __ATOMIC_RELAXED);
    return true;
}

int scsi_alua_set(struct scsi_target *t, unsigned group, enum scsi_alua state, struct err *e)
{
    if (!group || group > scsi_port_count())
        return err_set(e, ERR_INVALID, "group",
                       "there is no target port group %u: expected 1 to %u", group,
                       scsi_port_count());
    struct told d = {t, NULL};
    if (set_state(t, group, state, STATUS_IMPLICIT))
        task_call_all(tell_here, &d);
    return 0;
}

/* ---- SET TARGET PORT GROUPS: 4 reserved bytes, then descriptors of state and group */

static bool check_groups(struct scsi_cmd *cmd)
{
    if (cmd->length < DESCRIPTOR_LEN || cmd->length % DESCRIPTOR_LEN) {
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    rd_skip(&r, DESCRIPTOR_LEN);
    while (rd_left(&r)) {
        unsigned at = (unsigned)r.pos, state = rd_u8(&r) & 0x0f;
        rd_skip(&r, 1);
        unsigned group = rd_be16(&r);
        if (state > SCSI_ALUA_UNAVAILABLE) {
            scsi_fail_parameter(cmd, at, 3);
            return false;
        }
        if (!group || group > scsi_port_count()) {
            scsi_fail_parameter(cmd, at + 2, 7);
            return false;
        }
    }
    return true;
}

static void set_task(void *arg)
{
    struct scsi_cmd *cmd = arg;
    struct told d = {cmd->nexus->target, cmd->nexus};
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    bool changed = false;
    rd_skip(&r, DESCRIPTOR_LEN);
    while (rd_left(&r)) {
        unsigned state = rd_u8(&r) & 0x0f;
        rd_skip(&r, 1);
        changed =
            set_state(d.target, rd_be16(&r), (enum scsi_alua)state, STATUS_EXPLICIT) || changed;
    }
    if (changed)
        task_call_all(tell_here, &d);
    scsi_end(cmd);
}

void scsi_run_set_groups(struct scsi_cmd *cmd)
{
    if (!cmd->length)
        scsi_good(cmd);
    else if (check_groups(cmd))
        task_start(reactor_self(), "scsi-alua", set_task, cmd);
}
