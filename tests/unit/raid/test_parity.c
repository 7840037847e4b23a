/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Layouts and arithmetic of raid4, 5 and 6 against the definitions, written out the slow way. */
#include "harness.h"

#include <string.h>

#include "raid/parity.h"

enum { LEN = 512, MOST = 12 };

static const uint32_t raid5_layouts[] = {0, 1, 2, 3, 4, 5};
static const uint32_t raid6_layouts[] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 19, 20};

static _Alignas(PARITY_ALIGN) uint8_t data[MOST][LEN], copy[MOST][LEN], other[MOST][LEN];

static uint8_t times(uint8_t a, uint8_t b)
{
    unsigned r = 0, x = a;
    for (; b; b >>= 1, x = x << 1 ^ (x & 0x80 ? 0x11d : 0))
        if (b & 1)
            r ^= x;
    return (uint8_t)r;
}

static uint8_t power(unsigned k)
{
    return k ? times(2, power(k - 1)) : 1;
}

/* As md counts: from the slot behind Q, data only; all slots from 0 in the DDF layouts. */
static unsigned power_at(const struct parity_map *m, uint32_t layout, unsigned slot)
{
    unsigned k = 0;
    if (layout >= 8 && layout <= 10)
        return slot;
    for (unsigned i = (m->q + 1u) % m->slots; i != slot; i = (i + 1) % m->slots)
        k += i != m->p && i != m->q;
    return k;
}

static void fill(uint8_t d[MOST][LEN], unsigned seed)
{
    uint64_t x = 88172645463325252ull + seed;
    for (unsigned i = 0; i < MOST; i++)
        for (unsigned k = 0; k < LEN; k++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            d[i][k] = (uint8_t)x;
        }
}

static void pointers(uint8_t d[MOST][LEN], uint8_t *block[PARITY_SLOTS_MAX])
{
    for (unsigned i = 0; i < MOST; i++)
        block[i] = d[i];
}

static void slow_parity(const struct parity_map *m, uint32_t layout, uint8_t d[MOST][LEN])
{
    for (unsigned k = 0; k < LEN; k++) {
        uint8_t p = 0, q = 0;
        for (unsigned i = 0; i < m->data; i++) {
            unsigned slot = m->slot_of[i];
            p ^= d[slot][k];
            if (m->parities == 2)
                q ^= times(power(power_at(m, layout, slot)), d[slot][k]);
        }
        d[m->p][k] = p;
        if (m->parities == 2)
            d[m->q][k] = q;
    }
}

typedef void (*each_fn)(const struct parity_map *m, uint32_t layout, uint64_t stripe);

static void each(each_fn fn)
{
    struct parity_geometry g;
    struct parity_map m;
    for (int32_t level = 5; level <= 6; level++) {
        const uint32_t *list = level == 5 ? raid5_layouts : raid6_layouts;
        unsigned n = level == 5 ? 6 : 14;
        for (unsigned i = 0; i < n; i++)
            for (unsigned slots = level == 5 ? 2 : 4; slots <= 9; slots++) {
                check(parity_geometry_init(&g, level, list[i], slots));
                for (uint64_t s = 0; s < 2 * slots; s++) {
                    parity_map_init(&m, &g, s);
                    fn(&m, list[i], s);
                }
            }
    }
}

static void all_slots_once(const struct parity_map *m, uint32_t layout, uint64_t stripe)
{
    (void)layout, (void)stripe;
    uint64_t seen = 1ull << m->p;
    if (m->parities == 2)
        seen |= 1ull << m->q;
    for (unsigned d = 0; d < m->data; d++)
        seen |= 1ull << m->slot_of[d];
    assert_int_equal(seen, (1ull << m->slots) - 1);
}

static void test_each_slot_is_used_once(void **state)
{
    (void)state;
    each(all_slots_once);
}

/* Rows as the documentation of mdadm and the kernel draw them. */
static void expect_row(int32_t level, uint32_t layout, unsigned slots, uint64_t stripe,
                       const char *row)
{
    struct parity_geometry g;
    struct parity_map m;
    char got[16] = "";
    assert_true(parity_geometry_init(&g, level, layout, slots));
    parity_map_init(&m, &g, stripe);
    got[m.p] = 'P';
    if (m.parities == 2)
        got[m.q] = 'Q';
    for (unsigned d = 0; d < m.data; d++)
        got[m.slot_of[d]] = (char)('0' + d);
    assert_string_equal(got, row);
}

static void test_layouts_are_as_drawn(void **state)
{
    (void)state;
    expect_row(5, LAYOUT_LEFT_SYMMETRIC, 4, 0, "012P");
    expect_row(5, LAYOUT_LEFT_SYMMETRIC, 4, 1, "12P0");
    expect_row(5, LAYOUT_LEFT_ASYMMETRIC, 4, 1, "01P2");
    expect_row(5, LAYOUT_RIGHT_ASYMMETRIC, 4, 1, "0P12");
    expect_row(5, LAYOUT_RIGHT_SYMMETRIC, 4, 1, "2P01");
    expect_row(5, LAYOUT_PARITY_FIRST, 4, 3, "P012");
    expect_row(4, 0, 4, 3, "012P");
    expect_row(6, LAYOUT_LEFT_SYMMETRIC, 5, 0, "Q012P");
    expect_row(6, LAYOUT_LEFT_SYMMETRIC, 5, 1, "012PQ");
    expect_row(6, LAYOUT_LEFT_ASYMMETRIC, 5, 2, "01PQ2");
    expect_row(6, LAYOUT_RIGHT_SYMMETRIC, 5, 1, "2PQ01");
    expect_row(6, LAYOUT_PARITY_LAST, 5, 7, "012PQ");
    expect_row(6, LAYOUT_DDF_N_CONTINUE, 5, 1, "12QP0");
    expect_row(6, LAYOUT_LEFT_SYMMETRIC_6, 5, 1, "12P0Q");
}

static void generated(const struct parity_map *m, uint32_t layout, uint64_t stripe)
{
    uint8_t *block[PARITY_SLOTS_MAX];
    fill(data, (unsigned)stripe);
    memcpy(copy, data, sizeof data);
    pointers(data, block);
    parity_generate(m, block, LEN);
    slow_parity(m, layout, copy);
    assert_memory_equal(data, copy, sizeof data);
}

static void test_parity_is_what_md_defines(void **state)
{
    (void)state;
    each(generated);
}

static void updated(const struct parity_map *m, uint32_t layout, uint64_t stripe)
{
    uint8_t *before[PARITY_SLOTS_MAX], *after[PARITY_SLOTS_MAX];
    for (unsigned k = 1; k < 1u << m->data && k < 8; k++) {
        uint64_t changed = 0;
        fill(data, (unsigned)stripe);
        slow_parity(m, layout, data);
        memcpy(copy, data, sizeof data);
        for (unsigned d = 0; d < m->data; d++)
            if (k >> d & 1) {
                memset(copy[m->slot_of[d]], (int)(k + d), LEN);
                changed |= 1ull << m->slot_of[d];
            }
        memcpy(other, copy, sizeof copy);
        slow_parity(m, layout, other);
        pointers(data, before);
        pointers(copy, after);
        parity_update(m, changed, before, after, LEN);
        assert_memory_equal(copy, other, sizeof copy);
    }
}

static void test_an_update_gives_the_same_parity(void **state)
{
    (void)state;
    each(updated);
}

static void recovered(const struct parity_map *m, uint32_t layout, uint64_t stripe)
{
    uint8_t *block[PARITY_SLOTS_MAX];
    fill(data, (unsigned)stripe);
    slow_parity(m, layout, data);
    for (unsigned a = 0; a < m->slots; a++)
        for (unsigned b = a; b < m->slots; b++) {
            uint64_t lost = 1ull << a | 1ull << b;
            if (b > a && m->parities < 2) {
                assert_int_equal(parity_needs(m, lost), 0);
                continue;
            }
            memcpy(copy, data, sizeof data);
            uint64_t need = parity_needs(m, lost);
            assert_int_equal(need & lost, 0);
            for (unsigned i = 0; i < m->slots; i++)
                if (!(need >> i & 1))
                    memset(copy[i], 0xee, LEN);
            pointers(copy, block);
            assert_true(parity_recover(m, lost, block, LEN));
            assert_memory_equal(copy[a], data[a], LEN);
            assert_memory_equal(copy[b], data[b], LEN);
        }
}

static void test_any_lost_members_are_recovered(void **state)
{
    (void)state;
    each(recovered);
}

static void test_what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct parity_geometry g;
    assert_false(parity_geometry_init(&g, 5, 6, 4));
    assert_false(parity_geometry_init(&g, 5, LAYOUT_DDF_N_RESTART, 4));
    assert_false(parity_geometry_init(&g, 6, 2, 3));
    assert_false(parity_geometry_init(&g, 5, 2, 1));
    assert_false(parity_geometry_init(&g, 1, 0, 4));
    assert_false(parity_geometry_init(&g, 6, 2, 65));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_slot_is_used_once),
        cmocka_unit_test(test_layouts_are_as_drawn),
        cmocka_unit_test(test_parity_is_what_md_defines),
        cmocka_unit_test(test_an_update_gives_the_same_parity),
        cmocka_unit_test(test_any_lost_members_are_recovered),
        cmocka_unit_test(test_what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
