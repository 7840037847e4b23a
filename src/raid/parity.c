/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "raid/parity.h"

#include <isa-l.h>
#include <string.h>

/* ---- geometry */

static const struct {
    uint32_t layout;
    const char *name;
    bool raid5;
} layouts[] = {
    {LAYOUT_LEFT_ASYMMETRIC, "left-asymmetric", true},
    {LAYOUT_RIGHT_ASYMMETRIC, "right-asymmetric", true},
    {LAYOUT_LEFT_SYMMETRIC, "left-symmetric", true},
    {LAYOUT_RIGHT_SYMMETRIC, "right-symmetric", true},
    {LAYOUT_PARITY_FIRST, "parity-first", true},
    {LAYOUT_PARITY_LAST, "parity-last", true},
    {LAYOUT_DDF_ZERO_RESTART, "ddf-zero-restart", false},
    {LAYOUT_DDF_N_RESTART, "ddf-N-restart", false},
    {LAYOUT_DDF_N_CONTINUE, "ddf-N-continue", false},
    {LAYOUT_LEFT_ASYMMETRIC_6, "left-asymmetric-6", false},
    {LAYOUT_RIGHT_ASYMMETRIC_6, "right-asymmetric-6", false},
    {LAYOUT_LEFT_SYMMETRIC_6, "left-symmetric-6", false},
    {LAYOUT_RIGHT_SYMMETRIC_6, "right-symmetric-6", false},
    {LAYOUT_PARITY_FIRST_6, "parity-first-6", false},
};

const char *parity_layout_name(int32_t level, uint32_t layout)
{
    for (unsigned i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].layout == layout && (level == 6 || (level == 5 && layouts[i].raid5)))
            return layouts[i].name;
    return NULL;
}

bool parity_geometry_init(struct parity_geometry *g, int32_t level, uint32_t layout, unsigned slots)
{
    g->level = level;
    g->layout = layout;
    g->slots = slots;
    g->parities = level == 6 ? 2 : 1;
    if (level == 4)
        g->layout = LAYOUT_PARITY_LAST; /* the kernel pays no heed to a raid4's layout */
    if (level < 4 || level > 6 || slots > PARITY_SLOTS_MAX || slots < (level == 6 ? 4u : 2u) ||
        (level != 4 && !parity_layout_name(level, layout)))
        return false;
    g->data = slots - g->parities;
    return true;
}

/* The rotations that raid5 has, over `n` slots; the parity's slot and where data begins. */
static unsigned rotate5(uint32_t layout, unsigned n, unsigned turn, bool *symmetric_r)
{
    *symmetric_r = layout == LAYOUT_LEFT_SYMMETRIC || layout == LAYOUT_RIGHT_SYMMETRIC;
    switch (layout) {
    case LAYOUT_LEFT_ASYMMETRIC:
    case LAYOUT_LEFT_SYMMETRIC: return n - 1 - turn;
    case LAYOUT_RIGHT_ASYMMETRIC:
    case LAYOUT_RIGHT_SYMMETRIC: return turn;
    case LAYOUT_PARITY_FIRST: return 0;
    default: return n - 1;
    }
}

static void map5(struct parity_map *m, uint32_t layout, unsigned n, uint64_t stripe)
{
    bool symmetric;
    m->p = (uint8_t)rotate5(layout, n, (unsigned)(stripe % n), &symmetric);
    for (unsigned d = 0; d < m->data; d++)
        m->slot_of[d] = (uint8_t)(symmetric ? (m->p + 1 + d) % n : d + (d >= m->p));
}

static void fill6(struct parity_map *m, unsigned p, unsigned q, bool symmetric)
{
    unsigned n = m->slots, next = 0;
    m->p = (uint8_t)p;
    m->q = (uint8_t)q;
    if (symmetric && (p + 1) % n == q)
        next = (q + 1) % n;
    else if (symmetric)
        next = (p + 1) % n; /* Q stands before P */
    for (unsigned d = 0; d < m->data; next = (next + 1) % n)
        if (next != p && next != q)
            m->slot_of[d++] = (uint8_t)next;
}

static void map6(struct parity_map *m, uint32_t layout, uint64_t stripe)
{
    unsigned n = m->slots, turn = (unsigned)(stripe % n), left = n - 1 - turn;
    unsigned next = (unsigned)((stripe + 1) % n);
    switch (layout) {
    case LAYOUT_LEFT_ASYMMETRIC: fill6(m, left, (left + 1) % n, false); return;
    case LAYOUT_RIGHT_ASYMMETRIC:
    case LAYOUT_DDF_ZERO_RESTART: fill6(m, turn, (turn + 1) % n, false); return;
    case LAYOUT_LEFT_SYMMETRIC: fill6(m, left, (left + 1) % n, true); return;
    case LAYOUT_RIGHT_SYMMETRIC: fill6(m, turn, (turn + 1) % n, true); return;
    case LAYOUT_PARITY_FIRST: fill6(m, 0, 1, false); return;
    case LAYOUT_PARITY_LAST: fill6(m, n - 2, n - 1, false); return;
    case LAYOUT_DDF_N_RESTART: fill6(m, n - 1 - next, (n - next) % n, false); return;
    case LAYOUT_DDF_N_CONTINUE: fill6(m, left, (left + n - 1) % n, true); return;
    default: map5(m, layout - LAYOUT_LEFT_ASYMMETRIC_6, n - 1, stripe); m->q = (uint8_t)(n - 1);
    }
}

static bool is_ddf(uint32_t layout)
{
    return layout >= LAYOUT_DDF_ZERO_RESTART && layout <= LAYOUT_DDF_N_CONTINUE;
}

void parity_map_init(struct parity_map *m, const struct parity_geometry *g, uint64_t stripe)
{
    m->slots = g->slots;
    m->data = g->data;
    m->parities = g->parities;
    m->plain = !is_ddf(g->layout) || g->level != 6;
    if (g->level == 6) {
        map6(m, g->layout, stripe);
    } else {
        m->q = UINT8_MAX;
        map5(m, g->layout, g->slots, stripe);
    }
    unsigned from = m->parities == 2 && m->plain ? (m->q + 1u) % m->slots : 0, n = 0;
    for (unsigned i = 0; i < m->slots; i++) {
        unsigned slot = (from + i) % m->slots;
        if (!parity_is_data(m, slot))
            continue;
        m->power[slot] = (uint8_t)(m->plain ? n : slot);
        m->order[n++] = (uint8_t)slot;
    }
}

/* ---- arithmetic */

enum { SOURCES = PARITY_SLOTS_MAX + 2 };

static uint8_t power_of_g(unsigned k)
{
    uint8_t v = 1;
    while (k--)
        v = gf_mul(v, 2);
    return v;
}

/* A sum of blocks times factors. */
struct sum {
    unsigned n;
    bool factors; /* one is not 1 */
    uint8_t factor[SOURCES];
    uint8_t *block[SOURCES + 1];
};

static void sum_add(struct sum *s, uint8_t *block, uint8_t factor)
{
    if (!factor)
        return;
    s->factor[s->n] = factor;
    s->block[s->n++] = block;
    s->factors = s->factors || factor != 1;
}

static void sum_to(struct sum *s, uint8_t *to, size_t len)
{
    uint8_t tables[32 * SOURCES];
    if (s->n == 1 && !s->factors) {
        memmove(to, s->block[0], len);
    } else if (!s->factors && s->n) {
        s->block[s->n] = to;
        xor_gen((int)s->n + 1, (int)len, (void **)s->block);
    } else if (s->n) {
        ec_init_tables((int)s->n, 1, s->factor, tables);
        ec_encode_data((int)len, (int)s->n, 1, tables, s->block, &to);
    } else {
        memset(to, 0, len);
    }
}

static void make_p(const struct parity_map *m, uint8_t *const block[], uint8_t *to, size_t len)
{
    struct sum s = {0};
    for (unsigned i = 0; i < m->data; i++)
        sum_add(&s, block[m->order[i]], 1);
    sum_to(&s, to, len);
}

static void make_q(const struct parity_map *m, uint8_t *const block[], uint8_t *to, size_t len)
{
    struct sum s = {0};
    for (unsigned i = 0; i < m->data; i++)
        sum_add(&s, block[m->order[i]], power_of_g(m->power[m->order[i]]));
    sum_to(&s, to, len);
}

void parity_generate(const struct parity_map *m, uint8_t *const block[], size_t len)
{
    uint8_t *p = block[m->p], *q = m->parities == 2 ? block[m->q] : NULL;
    if (p && q && m->plain) {
        void *all[SOURCES];
        for (unsigned i = 0; i < m->data; i++)
            all[i] = block[m->order[i]];
        all[m->data] = p;
        all[m->data + 1] = q;
        pq_gen((int)m->data + 2, (int)len, all);
        return;
    }
    if (p)
        make_p(m, block, p, len);
    if (q)
        make_q(m, block, q, len);
}

void parity_update(const struct parity_map *m, uint64_t changed, uint8_t *const before[],
                   uint8_t *const after[], size_t len)
{
    struct sum p = {0}, q = {0};
    for (unsigned slot = 0; slot < m->slots; slot++) {
        if (!(changed >> slot & 1))
            continue;
        struct sum difference = {0};
        sum_add(&difference, before[slot], 1);
        sum_add(&difference, after[slot], 1);
        sum_to(&difference, before[slot], len);
        sum_add(&p, before[slot], 1);
        sum_add(&q, before[slot], power_of_g(m->power[slot]));
    }
    if (after[m->p]) {
        sum_add(&p, before[m->p], 1);
        sum_to(&p, after[m->p], len);
    }
    if (m->parities == 2 && after[m->q]) {
        sum_add(&q, before[m->q], 1);
        sum_to(&q, after[m->q], len);
    }
}

/* ---- recovery */

struct losses {
    unsigned n; /* data slots */
    uint8_t slot[2];
    bool p, q; /* lost, or not there at all */
};

static bool count_losses(const struct parity_map *m, uint64_t lost, struct losses *l)
{
    *l = (struct losses){.p = lost >> m->p & 1, .q = m->parities < 2 || lost >> m->q & 1};
    if (m->slots < 64 && lost >> m->slots)
        return false;
    if ((unsigned)__builtin_popcountll(lost) > m->parities)
        return false;
    for (unsigned i = 0; i < m->data; i++)
        if (lost >> m->order[i] & 1)
            l->slot[l->n++] = m->order[i];
    return true;
}

uint64_t parity_needs(const struct parity_map *m, uint64_t lost)
{
    struct losses l;
    uint64_t need = 0;
    if (!count_losses(m, lost, &l))
        return 0;
    for (unsigned i = 0; i < m->data; i++)
        if (!(lost >> m->order[i] & 1))
            need |= 1ull << m->order[i];
    if (l.n && !l.p)
        need |= 1ull << m->p;
    if ((l.n == 1 && l.p) || l.n == 2)
        need |= 1ull << m->q;
    return need;
}

/* One data block by Q: D = (Q + sum of g^k D_k) / g^u. */
static void one_by_q(const struct parity_map *m, unsigned u, uint8_t *const block[], size_t len)
{
    uint8_t inverse = gf_inv(power_of_g(m->power[u]));
    struct sum s = {0};
    for (unsigned i = 0; i < m->data; i++)
        if (m->order[i] != u)
            sum_add(&s, block[m->order[i]], gf_mul(inverse, power_of_g(m->power[m->order[i]])));
    sum_add(&s, block[m->q], inverse);
    sum_to(&s, block[u], len);
}

static void one_by_p(const struct parity_map *m, unsigned u, uint8_t *const block[], size_t len)
{
    struct sum s = {0};
    for (unsigned i = 0; i < m->data; i++)
        if (m->order[i] != u)
            sum_add(&s, block[m->order[i]], 1);
    sum_add(&s, block[m->p], 1);
    sum_to(&s, block[u], len);
}

/* Two: with A = g^a, B = g^b, D_a = (B P + Q + sum of (B + g^k) D_k) / (A + B); D_b by P then. */
static void two(const struct parity_map *m, unsigned a, unsigned b, uint8_t *const block[],
                size_t len)
{
    uint8_t ga = power_of_g(m->power[a]), gb = power_of_g(m->power[b]);
    uint8_t inverse = gf_inv(ga ^ gb);
    struct sum s = {0};
    for (unsigned i = 0; i < m->data; i++) {
        unsigned slot = m->order[i];
        if (slot != a && slot != b)
            sum_add(&s, block[slot], gf_mul(inverse, (uint8_t)(gb ^ power_of_g(m->power[slot]))));
    }
    sum_add(&s, block[m->p], gf_mul(inverse, gb));
    sum_add(&s, block[m->q], inverse);
    sum_to(&s, block[a], len);
    one_by_p(m, b, block, len);
}

bool parity_recover(const struct parity_map *m, uint64_t lost, uint8_t *const block[], size_t len)
{
    struct losses l;
    if (!count_losses(m, lost, &l))
        return false;
    if (l.n == 2)
        two(m, l.slot[0], l.slot[1], block, len);
    else if (l.n && !l.p)
        one_by_p(m, l.slot[0], block, len);
    else if (l.n)
        one_by_q(m, l.slot[0], block, len);
    if (l.p && block[m->p])
        make_p(m, block, block[m->p], len);
    if (m->parities == 2 && l.q && block[m->q])
        make_q(m, block, block[m->q], len);
    return true;
}
