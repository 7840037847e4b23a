/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PERSISTENT RESERVE OUT (SPC-4). The parameters are checked on the nexus's reactor; the change is
 * one function on a private copy of the gate's state, then the record of what must outlive a loss
 * of power is made durable, then all reactors take the new state, and then the others are told.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "block/gate.h"
#include "targets/scsi/scsi_private.h"

enum { /* service actions */
       REGISTER,
       RESERVE,
       RELEASE,
       CLEAR,
       PREEMPT,
       PREEMPT_AND_ABORT,
       REGISTER_AND_IGNORE,
       REGISTER_AND_MOVE,
};
enum { LIST_LEN = 24, BIT_SPEC_I_PT = 0x08, BIT_ALL_TG_PT = 0x04, BIT_APTPL = 0x01 };
enum { MOVE_UNREG = 0x02, REGISTRANTS_MAX = 1024, OTHERS_MAX = 256 };

struct pr {
    struct scsi_cmd *cmd;
    uint64_t self;
    unsigned action;
    enum gate_type type;
    uint64_t key, sa_key;
    bool spec_i_pt, all_tg_pt, aptpl, unreg;
    uint64_t others[OTHERS_MAX]; /* nexuses that SPEC_I_PT registers; of a MOVE: whom to. Referred
                                  * to, as `siblings` are */
    unsigned other_count;
    uint64_t siblings[16]; /* ALL_TG_PT: this initiator through the other target ports */
    unsigned sibling_count;
    struct uuid device;
    bool was_durable;
    /* what came of it */
    enum sense_code code; /* with -EINVAL */
    unsigned field;       /* in the parameter list */
    struct scsi_notice *notices;
    unsigned notice_count;
};

/* ---- the state's list, sorted by nexus */

static struct gate_registrant *find(const struct gate_state *s, uint64_t nexus)
{
    for (unsigned i = 0; i < s->count; i++)
        if (s->reg[i].nexus == nexus)
            return &s->reg[i];
    return NULL;
}

static int put(struct gate_state *s, uint64_t nexus, uint64_t key, bool all_tg_pt)
{
    struct gate_registrant *r = find(s, nexus);
    if (!r) {
        if (s->count >= REGISTRANTS_MAX)
            return -ENOSPC;
        unsigned at = 0;
        s->reg = xrealloc(s->reg, (s->count + 1) * sizeof *s->reg);
        while (at < s->count && s->reg[at].nexus < nexus)
            at++;
        memmove(s->reg + at + 1, s->reg + at, (s->count - at) * sizeof *s->reg);
        s->count++;
        r = &s->reg[at];
        r->nexus = nexus;
    }
    r->key = key;
    r->all_tg_pt = all_tg_pt;
    return 0;
}

static void drop(struct gate_state *s, uint64_t nexus)
{
    struct gate_registrant *r = find(s, nexus);
    if (!r)
        return;
    unsigned at = (unsigned)(r - s->reg);
    s->count--;
    memmove(r, r + 1, (s->count - at) * sizeof *r);
}

static void end_reservation(struct gate_state *s)
{
    s->type = GATE_NONE;
    s->holder = 0;
}

/* ---- outcomes */

static void note(struct pr *p, uint64_t nexus, uint32_t ua)
{
    if (nexus == p->self)
        return;
    p->notices = xrealloc(p->notices, (p->notice_count + 1) * sizeof *p->notices);
    p->notices[p->notice_count++] = (struct scsi_notice){nexus, ua};
}

static void note_all(struct pr *p, const struct gate_state *s, uint32_t ua)
{
    for (unsigned i = 0; i < s->count; i++)
        note(p, s->reg[i].nexus, ua);
}

static int invalid(struct pr *p, unsigned field)
{
    p->code = SENSE_INVALID_FIELD_IN_PARAMETERS;
    p->field = field;
    return -EINVAL;
}

/* ---- REGISTER, REGISTER AND IGNORE EXISTING KEY */

/* Types that others have a part in: they are told when the reservation ends. */
static bool is_shared(enum gate_type type)
{
    return type >= GATE_WRITE_EXCLUSIVE_REGISTRANTS && type <= GATE_EXCLUSIVE_ACCESS_ALL;
}

static void unregister(struct pr *p, struct gate_state *s, uint64_t nexus)
{
    bool held = gate_is_held_by(s, nexus);
    enum gate_type type = s->type;
    drop(s, nexus);
    if (!held)
        return;
    if (gate_every_registrant_holds(s) && s->count) { /* the others hold it still */
        s->holder = s->reg[0].nexus;
        return;
    }
    end_reservation(s);
    if (is_shared(type))
        note_all(p, s, UA_RESERVATIONS_RELEASED);
}

static int do_register(struct pr *p, struct gate_state *s)
{
    const struct gate_registrant *own = find(s, p->self);
    bool ignore = p->action == REGISTER_AND_IGNORE;
    if (!ignore && (own ? own->key != p->key : p->key != 0))
        return -EBADE;
    if (p->spec_i_pt && (own || ignore))
        return invalid(p, 20);
    if (!own && !p->sa_key && !p->spec_i_pt)
        return -EALREADY;
    s->generation++;
    s->durable = p->aptpl;
    if (!p->sa_key) {
        bool all = own && own->all_tg_pt;
        unregister(p, s, p->self);
        for (unsigned i = 0; all && i < p->sibling_count; i++)
            unregister(p, s, p->siblings[i]);
        return 0;
    }
    int rc = put(s, p->self, p->sa_key, p->all_tg_pt);
    for (unsigned i = 0; p->all_tg_pt && i < p->sibling_count && !rc; i++)
        rc = put(s, p->siblings[i], p->sa_key, true);
    for (unsigned i = 0; i < p->other_count && !rc; i++)
        rc = put(s, p->others[i], p->sa_key, p->all_tg_pt);
    return rc;
}

/* ---- RESERVE, RELEASE, CLEAR */

static int do_reserve(struct pr *p, struct gate_state *s)
{
    if (s->type != GATE_NONE)
        return gate_is_held_by(s, p->self) && s->type == p->type ? -EALREADY : -EBADE;
    s->type = p->type;
    s->holder = p->self;
    return 0;
}

static int do_release(struct pr *p, struct gate_state *s)
{
    if (!gate_is_held_by(s, p->self))
        return -EALREADY;
    if (s->type != p->type) {
        p->code = SENSE_INVALID_RELEASE;
        return -EINVAL;
    }
    if (is_shared(s->type))
        note_all(p, s, UA_RESERVATIONS_RELEASED);
    end_reservation(s);
    return 0;
}

static int do_clear(struct pr *p, struct gate_state *s)
{
    note_all(p, s, UA_RESERVATIONS_PREEMPTED);
    end_reservation(s);
    s->count = 0;
    s->generation++;
    return 0;
}

/* ---- PREEMPT */

/* Takes the registrations with the key (all: whatever the key), but the nexus's own. */
static unsigned evict(struct pr *p, struct gate_state *s, bool all)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->count;) {
        uint64_t nexus = s->reg[i].nexus;
        bool match = all || s->reg[i].key == p->sa_key;
        n += match;
        if (!match || nexus == p->self) {
            i++;
            continue;
        }
        drop(s, nexus);
        note(p, nexus, UA_REGISTRATIONS_PREEMPTED);
    }
    return n;
}

static void take_over(struct pr *p, struct gate_state *s)
{
    enum gate_type old = s->type;
    s->type = p->type;
    s->holder = p->self;
    if (old != p->type)
        note_all(p, s, UA_RESERVATIONS_RELEASED);
}

static int do_preempt(struct pr *p, struct gate_state *s)
{
    const struct gate_registrant *holder = find(s, s->holder);
    bool all_hold = gate_every_registrant_holds(s);
    if (!p->sa_key && !all_hold)
        return invalid(p, 8);
    if (s->type != GATE_NONE && all_hold && !p->sa_key) {
        evict(p, s, true);
        take_over(p, s);
    } else if (s->type != GATE_NONE && !all_hold && holder && holder->key == p->sa_key) {
        evict(p, s, false);
        take_over(p, s);
    } else {
        if (!evict(p, s, false))
            return -EBADE;
        if (all_hold && !find(s, s->holder))
            s->holder = p->self;
    }
    s->generation++;
    return 0;
}

/* ---- REGISTER AND MOVE */

static int do_move(struct pr *p, struct gate_state *s)
{
    if (s->type == GATE_NONE || gate_every_registrant_holds(s) || s->holder != p->self)
        return -EBADE;
    if (!p->sa_key)
        return invalid(p, 8);
    if (p->others[0] == p->self)
        return invalid(p, 24);
    int rc = put(s, p->others[0], p->sa_key, false);
    if (rc)
        return rc;
    s->holder = p->others[0];
    s->durable = p->aptpl;
    if (p->unreg)
        drop(s, p->self);
    s->generation++;
    return 0;
}

/* ---- one change; -EALREADY: well, with nothing to change */

static int change(struct gate_state *s, void *arg)
{
    static int (*const actions[])(struct pr *, struct gate_state *) = {
        [REGISTER] = do_register,
        [RESERVE] = do_reserve,
        [RELEASE] = do_release,
        [CLEAR] = do_clear,
        [PREEMPT] = do_preempt,
        [PREEMPT_AND_ABORT] = do_preempt,
        [REGISTER_AND_IGNORE] = do_register,
        [REGISTER_AND_MOVE] = do_move,
    };
    struct pr *p = arg;
    if (s->type == GATE_RESERVE6)
        return -EBADE;
    p->was_durable = s->durable;
    if (p->action != REGISTER && p->action != REGISTER_AND_IGNORE) {
        const struct gate_registrant *own = find(s, p->self);
        if (!own || own->key != p->key)
            return -EBADE;
    }
    return actions[p->action](p, s);
}

static int persist(struct gate_state *s, void *arg)
{
    struct pr *p = arg;
    if (!s->count)
        s->durable = false;
    if (s->durable)
        return scsi_pr_save(&p->device, s);
    return p->was_durable ? scsi_pr_forget(&p->device) : 0;
}

/* ---- the task */

static void set_outcome(struct pr *p, int rc)
{
    if (rc == -EBADE)
        p->cmd->status = SCSI_RESERVATION_CONFLICT;
    else if (rc == -EINVAL && p->code == SENSE_INVALID_FIELD_IN_PARAMETERS)
        scsi_set_field(p->cmd, false, p->field, 7);
    else if (rc == -EINVAL)
        scsi_set_code(p->cmd, p->code);
    else if (rc == -ENOSPC)
        scsi_set_code(p->cmd, SENSE_NO_REGISTRATION_ROOM);
    else if (rc && rc != -EALREADY) /* the record could not be written: nothing has changed */
        scsi_set_code(p->cmd, SENSE_INTERNAL_FAILURE);
}

static void pr_free(struct pr *p)
{
    for (unsigned i = 0; i < p->other_count; i++)
        gate_nexus_put(p->others[i]);
    for (unsigned i = 0; i < p->sibling_count; i++)
        gate_nexus_put(p->siblings[i]);
    free(p->notices);
    free(p);
}

static void abort_preempted(struct pr *p, struct bdev *bdev)
{
    uint64_t *nexus = xcalloc(p->notice_count + 1, sizeof *nexus);
    unsigned n = 0;
    for (unsigned i = 0; i < p->notice_count; i++)
        if (p->notices[i].ua == UA_REGISTRATIONS_PREEMPTED)
            nexus[n++] = p->notices[i].nexus;
    if (n)
        scsi_abort_nexuses(bdev, nexus, n);
    free(nexus);
}

static void pr_task(void *arg)
{
    struct pr *p = arg;
    struct scsi_cmd *cmd = p->cmd;
    struct bdev *bdev = bdev_of(cmd->view->now.desc);
    struct bdev_info info;
    bdev_get_info(cmd->view->now.desc, &info);
    p->device = info.uuid;
    int rc = gate_change(bdev, change, persist, p);
    set_outcome(p, rc);
    if (!rc) {
        if (p->action == PREEMPT_AND_ABORT)
            abort_preempted(p, bdev);
        scsi_notify(bdev, p->notices, p->notice_count);
    }
    pr_free(p);
    scsi_end(cmd);
}

/* ---- parameters */

static bool fail_at(struct scsi_cmd *cmd, unsigned byte)
{
    scsi_fail_parameter(cmd, byte, 7);
    return false;
}

/* A TransportID (SPC-4) of an iSCSI initiator port, format 01b: the name with its ISID. The form
 * without ISID names no nexus, and is refused. -1: refused. */
static bool transport_id(struct scsi_cmd *cmd, struct rd *r, unsigned port, uint64_t *nexus_r)
{
    unsigned at = (unsigned)r->pos;
    unsigned format = rd_u8(r);
    rd_skip(r, 1);
    unsigned length = rd_be16(r);
    const uint8_t *text = rd_bytes(r, length);
    if (!text || length < 20 || length % 4 || !memchr(text, 0, length))
        return fail_at(cmd, at + 2);
    const char *initiator = (const char *)text;
    if (format != 0x45 || !strstr(initiator, ",i,0x") || strlen(initiator) > 255)
        return fail_at(cmd, at);
    char name[SCSI_NEXUS_NAME];
    scsi_nexus_name(cmd->nexus->target->name, port, initiator, name);
    *nexus_r = gate_nexus(name);
    return true;
}

/* SPEC_I_PT: the length of the list, then TransportIDs, of ports that shall be registered too. */
static bool parse_others(struct pr *p, struct rd *r)
{
    uint32_t length = rd_be32(r);
    if (!rd_ok(r) || length != rd_left(r))
        return fail_at(p->cmd, LIST_LEN);
    while (rd_left(r)) {
        if (p->other_count == OTHERS_MAX)
            return fail_at(p->cmd, (unsigned)r->pos);
        size_t start = r->pos;
        for (unsigned port = 1; port <= SCSI_GROUP_MAX && p->other_count < OTHERS_MAX; port++) {
            bool meant = p->all_tg_pt ? scsi_port_exists(port) : port == p->cmd->nexus->tpgt;
            rd_seek(r, start);
            if (meant && !transport_id(p->cmd, r, port, &p->others[p->other_count++]))
                return false;
        }
    }
    return true;
}

static bool parse_move(struct pr *p, struct rd *r)
{
    rd_skip(r, 1);
    unsigned flags = rd_u8(r), port = rd_be16(r);
    uint32_t length = rd_be32(r);
    p->unreg = flags & MOVE_UNREG;
    p->aptpl = flags & BIT_APTPL;
    if (!rd_ok(r) || length != rd_left(r) || length < LIST_LEN) {
        scsi_fail(p->cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    if (!scsi_port_exists(port))
        return fail_at(p->cmd, 18);
    p->other_count = 1;
    return transport_id(p->cmd, r, port, &p->others[0]);
}

static bool parse(struct pr *p)
{
    struct scsi_cmd *cmd = p->cmd;
    if (cmd->length < LIST_LEN) { /* without any data there is no buffer either */
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    struct rd r = rd_make(cmd->buf->data, cmd->length);
    p->key = rd_be64(&r);
    p->sa_key = rd_be64(&r);
    if (p->action == REGISTER_AND_MOVE)
        return parse_move(p, &r);
    rd_skip(&r, 4);
    unsigned flags = rd_u8(&r);
    rd_skip(&r, 3);
    if (p->action == REGISTER || p->action == REGISTER_AND_IGNORE) {
        p->spec_i_pt = flags & BIT_SPEC_I_PT;
        p->all_tg_pt = flags & BIT_ALL_TG_PT;
        p->aptpl = flags & BIT_APTPL;
    }
    if (!p->spec_i_pt && cmd->length != LIST_LEN) {
        scsi_fail(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    return !p->spec_i_pt || p->action == REGISTER_AND_IGNORE || parse_others(p, &r);
}

/* Scope 0 (LUN) and the six types, where these fields mean something. */
static bool check_scope_and_type(struct pr *p)
{
    unsigned scope = p->cmd->cdb[2] >> 4, type = p->cmd->cdb[2] & 0x0f;
    p->type = (enum gate_type)type;
    if (p->action != RESERVE && p->action != RELEASE && p->action != PREEMPT &&
        p->action != PREEMPT_AND_ABORT)
        return true;
    bool known = type == GATE_WRITE_EXCLUSIVE || type == GATE_EXCLUSIVE_ACCESS ||
                 (type >= GATE_WRITE_EXCLUSIVE_REGISTRANTS && type <= GATE_EXCLUSIVE_ACCESS_ALL);
    if (!scope && known)
        return true;
    scsi_fail_field(p->cmd, 2, scope ? 7 : 3);
    return false;
}

static void find_siblings(struct pr *p)
{
    const struct scsi_nexus *n = p->cmd->nexus;
    char name[SCSI_NEXUS_NAME];
    for (unsigned port = 1; port <= SCSI_GROUP_MAX; port++) {
        if (port == n->tpgt || !scsi_port_exists(port))
            continue;
        scsi_nexus_name(n->target->name, port, n->initiator, name);
        p->siblings[p->sibling_count++] = gate_nexus(name);
    }
}

void scsi_run_pr_out(struct scsi_cmd *cmd)
{
    struct pr *p = xcalloc(1, sizeof *p);
    p->cmd = cmd;
    p->self = cmd->nexus->gate;
    p->action = cmd->op->sa;
    if (!check_scope_and_type(p) || !parse(p)) {
        pr_free(p);
        return;
    }
    if (p->aptpl && !scsi_has_store()) { /* as PTPL_C says */
        scsi_fail_parameter(cmd, p->action == REGISTER_AND_MOVE ? 17 : 20, 0);
        pr_free(p);
        return;
    }
    find_siblings(p);
    task_start(reactor_self(), "scsi-pr-out", pr_task, p);
}
