/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asymmetric logical unit access (SPC-4): every target port is a target port group of its own, with
 * the same number; a group has one state for all LUNs of the target. Nothing here is slower through
 * one port than through another: the states are what hosts and the administrator agree on.
 */
#include <string.h>

#include "base/log.h"
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

bool scsi_alua_parse(const char *name, enum scsi_alua *state_r)
{
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!strcmp(names[i], name)) {
            *state_r = (enum scsi_alua)i;
            return true;
        }
    return false;
}

/* ---- what a state forbids. In standby what is no access to the medium must be served (SPC-4), and
 * READ CAPACITY may be: hosts that find a path would take it for one to a disk of no size. */

bool scsi_alua_refuses(struct scsi_cmd *cmd, const struct scsi_opcode *op)
{
    enum scsi_alua state = scsi_alua_of(cmd->nexus->target, cmd->nexus->tpgt);
    unsigned free = OP_NO_UA | OP_ANY_PATH | (state == SCSI_ALUA_STANDBY ? OP_STANDBY : 0);
    if (state <= SCSI_ALUA_NON_OPTIMIZED || op->flags & free)
        return false;
    scsi_refuse(cmd, state == SCSI_ALUA_STANDBY ? SENSE_PORT_STANDBY : SENSE_PORT_UNAVAILABLE);
    return true;
}

/* ---- REPORT TARGET PORT GROUPS */

void scsi_run_report_groups(struct scsi_cmd *cmd)
{
    const struct scsi_target *t = cmd->nexus->target;
    unsigned format = cmd->cdb[1] & 0xe0;
    if (format > EXTENDED) {
        scsi_fail_field(cmd, 1, 7);
        return;
    }
    size_t room = 8 + (size_t)SCSI_GROUP_MAX * 12;
    uint8_t *p = scsi_reply_room(cmd, room);
    if (!p)
        return;
    struct wr w = wr_make(p, room), head = wr_make(p, 4);
    wr_be32(&w, 0);
    if (format)
        wr_be32(&w, 0x10000000);
    for (unsigned g = 1; g <= SCSI_GROUP_MAX; g++) {
        if (!scsi_port_exists(g))
            continue;
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

/* ---- changing: saved first, then it takes effect, then the hosts are told. On main, so that
 * states are saved in the order in which they take effect. */

static scsi_alua_keeper keep;

void scsi_set_alua_keeper(scsi_alua_keeper keeper)
{
    keep = keeper;
}

struct told {
    struct scsi_target *target;
    const struct scsi_nexus *except;
};

static void tell_here(void *arg)
{
    const struct told *d = arg;
    scsi_ua_raise_local(&d->target->local[reactor_self_index()], NULL, UA_ALUA_CHANGED, d->except);
}

static bool set_state(struct scsi_target *t, const struct scsi_group *g)
{
    enum scsi_alua before = scsi_alua_of(t, g->group);
    __atomic_store_n(&t->alua_status[g->group], g->by_host ? STATUS_EXPLICIT : STATUS_IMPLICIT,
                     __ATOMIC_RELAXED);
    __atomic_store_n(&t->alua[g->group], (uint8_t)g->state, __ATOMIC_RELAXED);
    return before != g->state;
}

static int change(struct scsi_target *t, const struct scsi_group *groups, unsigned count,
                  const struct scsi_nexus *by, struct err *e)
{
    bool changed = false;
    tlock_lock(&t->lock);
    int rc = keep ? keep(t->name, groups, count, e) : 0;
    for (unsigned i = 0; !rc && i < count; i++)
        changed = set_state(t, &groups[i]) || changed;
    struct told d = {t, by};
    if (changed)
        task_call_all(tell_here, &d);
    tlock_unlock(&t->lock);
    return rc;
}

static int check_group(unsigned group, struct err *e)
{
    if (group && group <= SCSI_GROUP_MAX)
        return 0;
    return err_set(e, ERR_INVALID, "group", "group is %u; expected 1 to %d", group, SCSI_GROUP_MAX);
}

int scsi_alua_set(struct scsi_target *t, const struct scsi_group *group, struct err *e)
{
    return check_group(group->group, e) || change(t, group, 1, NULL, e) ? -1 : 0;
}

void scsi_alua_restore(struct scsi_target *t, const struct scsi_group *group)
{
    if (!check_group(group->group, NULL))
        set_state(t, group);
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
        if (!scsi_port_exists(group)) {
            scsi_fail_parameter(cmd, at + 2, 7);
            return false;
        }
    }
    return true;
}

/* One entry a group; of a group that is named twice the last descriptor holds. */
static unsigned collect_groups(struct scsi_cmd *cmd, struct scsi_group groups[SCSI_GROUP_MAX])
{
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    unsigned count = 0;
    rd_skip(&r, DESCRIPTOR_LEN);
    while (rd_left(&r)) {
        unsigned state = rd_u8(&r) & 0x0f, at = 0;
        rd_skip(&r, 1);
        unsigned group = rd_be16(&r);
        while (at < count && groups[at].group != group)
            at++;
        groups[at] =
            (struct scsi_group){.group = group, .state = (enum scsi_alua)state, .by_host = true};
        count += at == count;
    }
    return count;
}

static void set_on_main(void *arg)
{
    struct scsi_cmd *cmd = arg;
    struct scsi_group groups[SCSI_GROUP_MAX];
    struct err e;
    unsigned count = collect_groups(cmd, groups);
    if (change(cmd->nexus->target, groups, count, cmd->nexus, &e)) {
        log_warn("scsi", "%s: SET TARGET PORT GROUPS: %s", cmd->nexus->target->name, e.msg);
        scsi_set_code(cmd, SENSE_SET_GROUPS_FAILED);
    }
}

static void set_task(void *arg)
{
    task_call(reactor_main(), set_on_main, arg);
    scsi_end(arg);
}

void scsi_run_set_groups(struct scsi_cmd *cmd)
{
    if (!cmd->length)
        scsi_good(cmd);
    else if (check_groups(cmd))
        task_start(reactor_self(), "scsi-alua", set_task, cmd);
}
