/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Do data and parity fit, and if not, who is wrong?
 *
 * With one parity nobody can tell. With two, one wrong block of a row is found by supposing in turn
 * that each is it: computed from the others, it must make both parities right. Rows differ in at
 * least three blocks if both have parities that fit, so at most one supposition can hold; two wrong
 * blocks in one row make none hold, or a wrong one only if all of its bytes agree by chance.
 */
#include "raid/stripe.h"

#include <string.h>

static _Alignas(PARITY_ALIGN) __thread uint8_t scratch[3][STRIPE_BLOCK];

static void blocks_at(const struct stripe_op *op, uint32_t at, uint8_t *block[])
{
    for (unsigned i = 0; i < op->map.slots; i++)
        block[i] = op->col[i].old + at;
}

static bool same(const uint8_t *a, const uint8_t *b)
{
    return !memcmp(a, b, STRIPE_BLOCK);
}

/* Would all fit if `slot` held what follows from the others? That is in scratch[0] then. */
static bool suppose(const struct stripe_op *op, unsigned slot, uint8_t *const block[])
{
    uint8_t *other[PARITY_SLOTS_MAX];
    memcpy(other, block, op->map.slots * sizeof *other);
    other[slot] = scratch[0];
    if (!parity_recover(&op->map, 1ull << slot, other, STRIPE_BLOCK))
        return false;
    const uint8_t *p = other[op->map.p], *q = other[op->map.q];
    other[op->map.p] = scratch[1];
    other[op->map.q] = scratch[2];
    parity_generate(&op->map, other, STRIPE_BLOCK);
    return same(p, scratch[1]) && same(q, scratch[2]);
}

static int who_is_wrong(const struct stripe_op *op, uint32_t at)
{
    uint8_t *block[PARITY_SLOTS_MAX];
    blocks_at(op, at, block);
    for (unsigned i = 0; i < op->map.slots && op->map.parities == 2; i++)
        if (suppose(op, i, block))
            return (int)i;
    return -1;
}

static bool fits(const struct stripe_op *op, uint32_t at)
{
    const struct stripe_col *p = &op->col[op->map.p];
    const struct stripe_col *q = op->map.parities == 2 ? &op->col[op->map.q] : p;
    return same(p->old + at, p->now + at) && same(q->old + at, q->now + at);
}

/* What was read stands in memory of our own: the right block goes there, and parity that fits. */
static void mend(struct stripe_op *op, uint32_t at, int slot, uint64_t *writes)
{
    uint8_t *now[PARITY_SLOTS_MAX];
    if (slot < 0) {
        *writes |= 1ull << op->map.p | (op->map.parities == 2 ? 1ull << op->map.q : 0);
        return;
    }
    *writes |= 1ull << slot;
    if (!parity_is_data(&op->map, (unsigned)slot))
        return; /* computed already */
    memcpy(op->col[slot].now + at, scratch[0], STRIPE_BLOCK);
    for (unsigned i = 0; i < op->map.slots; i++)
        now[i] = op->col[i].now + at;
    parity_generate(&op->map, now, STRIPE_BLOCK);
}

void stripe_op_check(struct stripe_op *op)
{
    const struct stripe_req *req = list_first(&op->reqs, struct stripe_req, link);
    uint64_t writes = 0;
    for (uint32_t row = op->lo; row < op->hi; row += STRIPE_BLOCK) {
        uint8_t *verdict = &req->verdict[(row - req->lo) / STRIPE_BLOCK];
        if (fits(op, row - op->lo))
            continue; /* what was said of it before it was mended stays */
        int slot = who_is_wrong(op, row - op->lo);
        *verdict = slot < 0 ? STRIPE_DIFFERS : (uint8_t)(STRIPE_WRONG + slot);
        if (req->mend)
            mend(op, row - op->lo, slot, &writes);
    }
    op->writes = writes;
}
