/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What work on rows of a stripe reads and writes.
 *
 * A write reads as little as makes the new parity known: nothing when all rows are new, the data
 * that stays (reconstruct), or what changes and the old parity (modify). With members missing, what
 * they hold is recovered first where neither does.
 */
#include "raid/bad.h"
#include "raid/stripe.h"

/* ---- who can be read, who is written */

static bool slot_readable(const struct stripe_op *op, unsigned slot, const struct raid_member *m)
{
    if (!m || op->bad >> slot & 1 || (op->kind == STRIPE_FILL && m == op->to))
        return false;
    unsigned state = raid_load(&m->state);
    return (state == RAID_MEMBER_IN_SYNC ||
            (state == RAID_MEMBER_REBUILDING &&
             stripe_op_offset(op, op->hi) <= raid_load(&m->rebuilt))) &&
           !raid_bad_at(m, stripe_op_offset(op, op->lo), stripe_op_rows(op));
}

bool stripe_op_listed(const struct stripe_op *op)
{
    bool any = false;
    for (unsigned i = 0; i < op->map.slots && !any; i++) {
        const struct raid_member *m = raid_load(&op->o->a->slot[i]);
        any = m && raid_bad_at(m, stripe_op_offset(op, op->lo), stripe_op_rows(op));
    }
    return any;
}

struct masks {
    uint64_t data, parity;
    uint64_t readable, writable;
};

/* Whom it may read is what it reads: the slot may have passed to somebody else a moment later. */
static struct masks look_at_slots(struct stripe_op *op)
{
    const struct raid_member *second = raid_second(op->o->a);
    struct masks k = {.writable = second ? 1ull << second->slot : 0};
    for (unsigned i = 0; i < op->map.slots; i++) {
        struct raid_member *m = raid_load(&op->o->a->slot[i]);
        uint64_t bit = 1ull << i;
        *(parity_is_data(&op->map, i) ? &k.data : &k.parity) |= bit;
        k.readable |= slot_readable(op, i, m) ? bit : 0;
        op->col[i].m = m;
        k.writable |= m && raid_takes_writes(m) ? bit : 0;
    }
    return k;
}

/* ---- which rows clients touch */

static void touch_col(struct stripe_op *op, unsigned index)
{
    const struct raid456 *r = raid456_of(op->o->a);
    struct stripe_col *c = &op->col[op->map.slot_of[index]];
    const struct stripe_req *q;
    uint32_t lo, hi, reached = op->lo;
    c->lo = c->hi = op->lo;
    list_for_each (q, &op->reqs, link) {
        if (!stripe_touched(r, q, index, op->lo, op->hi, &lo, &hi))
            continue;
        bool none = c->lo == c->hi;
        c->lo = none || lo < c->lo ? lo : c->lo;
        c->hi = none || hi > c->hi ? hi : c->hi;
    }
    for (bool further = c->lo < c->hi; further;) {
        further = false;
        list_for_each (q, &op->reqs, link)
            if (stripe_touched(r, q, index, op->lo, op->hi, &lo, &hi) && lo <= reached &&
                hi > reached) {
                reached = hi;
                further = true;
            }
    }
    c->whole = reached == op->hi;
}

void stripe_op_touch(struct stripe_op *op)
{
    op->touched = op->whole = 0;
    for (unsigned i = 0; i < op->map.slots; i++) {
        struct stripe_col *c = &op->col[i];
        c->op = op;
        c->slot = i;
        c->lo = c->hi = op->lo;
        c->whole = false;
        c->bufs = 0;
        c->old = c->now = NULL;
    }
    if (op->kind != STRIPE_READ && op->kind != STRIPE_WRITE)
        return;
    for (unsigned d = 0; d < op->map.data; d++) {
        unsigned slot = op->map.slot_of[d];
        touch_col(op, d);
        if (op->col[slot].lo < op->col[slot].hi)
            op->touched |= 1ull << slot;
        if (op->col[slot].whole)
            op->whole |= 1ull << slot;
    }
}

/* ---- plans: false when too much is missing */

static bool plan_recovery(struct stripe_op *op, const struct masks *k)
{
    op->lost = (k->data | k->parity) & ~k->readable;
    op->reads = parity_needs(&op->map, op->lost);
    return op->reads || !(op->lost & k->data);
}

static bool plan_read(struct stripe_op *op, const struct masks *k)
{
    op->writes = op->lost = 0;
    op->reads = op->touched;
    if (!(op->touched & ~k->readable))
        return true;
    if (!plan_recovery(op, k))
        return false;
    op->reads |= op->touched & k->readable;
    return true;
}

static void count_way(struct stripe_op *op, enum raid_way way)
{
    __atomic_fetch_add(&op->o->way[way], 1, __ATOMIC_RELAXED);
}

static bool plan_write(struct stripe_op *op, const struct masks *k)
{
    uint64_t parity = k->parity & k->writable;
    uint64_t stay = k->data & ~op->whole, change = op->touched | parity;
    bool can_rebuild = !(stay & ~k->readable), can_modify = parity && !(change & ~k->readable);
    bool doubtful = stripe_op_offset(op, op->hi) > raid_load(&op->o->a->resync_pos);
    op->writes = (op->touched & k->writable) | parity;
    op->lost = 0;
    op->modify = false;
    if (!op->writes)
        return false;
    if (!parity) { /* nothing depends on anything */
        op->reads = op->touched & ~op->whole;
        return !(op->touched & ~k->readable & ~(op->whole & k->writable));
    }
    if (can_rebuild &&
        (!can_modify || doubtful || __builtin_popcountll(stay) <= __builtin_popcountll(change))) {
        op->reads = stay;
        count_way(op, stay ? RAID_WAY_RECONSTRUCT : RAID_WAY_FULL);
        return true;
    }
    if (can_modify) {
        op->reads = change;
        op->modify = true;
        count_way(op, RAID_WAY_MODIFY);
        return true;
    }
    count_way(op, RAID_WAY_RECOVER);
    return plan_recovery(op, k);
}

static bool plan_resync(struct stripe_op *op, const struct masks *k)
{
    op->writes = k->parity & k->writable;
    op->lost = 0;
    op->reads = k->data;
    if (k->data & ~k->readable && !plan_recovery(op, k))
        return false;
    op->reads |= k->parity & k->readable;
    return true;
}

static bool plan_fill(struct stripe_op *op, const struct masks *k)
{
    op->writes = 1ull << op->to->slot;
    op->copy = op->writes & k->readable; /* one that is replaced still has it all */
    if (!op->copy)
        return plan_recovery(op, k);
    op->reads = op->writes;
    op->lost = 0;
    return true;
}

/* What is on a list of bad blocks is to be written again, once the work is as small as that. */
static void mend_listed(const struct stripe_op *op)
{
    uint64_t at = stripe_op_offset(op, op->lo);
    for (unsigned i = 0; i < op->map.slots && stripe_op_rows(op) <= STRIPE_BLOCK; i++) {
        const struct raid_member *m = raid_load(&op->o->a->slot[i]);
        if (m && raid_bad_at(m, at, stripe_op_rows(op)))
            raid_want_repair(op->o->a, 1ull << i, at, stripe_op_rows(op));
    }
}

/* Nobody may be missing: else nothing is redundant, or too little to tell who is wrong. */
static bool plan_check(struct stripe_op *op, const struct masks *k)
{
    mend_listed(op);
    op->writes = k->parity;
    op->lost = 0;
    op->reads = k->data | k->parity;
    return !(op->reads & ~k->readable);
}

bool stripe_op_plan(struct stripe_op *op)
{
    struct masks k = look_at_slots(op);
    op->modify = op->copy = false;
    switch (op->kind) {
    case STRIPE_READ: return plan_read(op, &k);
    case STRIPE_WRITE: return plan_write(op, &k);
    case STRIPE_RESYNC: return plan_resync(op, &k);
    case STRIPE_CHECK: return plan_check(op, &k);
    default: return plan_fill(op, &k);
    }
}
