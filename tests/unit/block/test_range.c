/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "testdev.h"

#include "block/range.h"

static char order[64];
static unsigned ordered;

static void note(void *arg)
{
    order[ordered++] = *(char *)arg;
}

HARNESS_TEST(overlapping_ranges_wait_in_order_and_others_do_not)
{
    struct range_map *m = range_map_new();
    struct range_req a, b, c, far;
    char nb = 'b', nc = 'c';
    ordered = 0;
    check(range_acquire(m, &a, 0, 4096, note, NULL));
    check(!range_acquire(m, &b, 512, 512, note, &nb));
    check(!range_acquire(m, &c, 0, 1024, note, &nc));
    check(range_acquire(m, &far, 4096, 4096, note, NULL)); /* touching is not overlapping */
    range_release(m, &a);
    until(ordered == 1);
    check(order[0] == 'b');
    range_release(m, &b);
    until(ordered == 2);
    check(order[1] == 'c');
    range_release(m, &c);
    range_release(m, &far);
    range_map_free(&m);
    check(!m);
}

HARNESS_TEST(newcomer_does_not_overtake_a_waiter)
{
    struct range_map *m = range_map_new();
    struct range_req a, b, c;
    char nb = 'b', nc = 'c';
    ordered = 0;
    check(range_acquire(m, &a, 0, 1024, note, NULL));
    check(!range_acquire(m, &b, 512, 1024, note, &nb));
    check(!range_acquire(m, &c, 1024, 512, note, &nc)); /* free, but b came first */
    range_release(m, &a);
    until(ordered == 1);
    check(order[0] == 'b');
    range_release(m, &b);
    until(ordered == 2);
    check(order[1] == 'c');
    range_release(m, &c);
    range_map_free(&m);
}

HARNESS_TEST(wide_ranges_exclude_narrow_ones_everywhere)
{
    struct range_map *m = range_map_new();
    struct range_req wide, narrow[4];
    char n = 'n';
    ordered = 0;
    check(range_acquire(m, &wide, 0, 1ull << 40, note, NULL));
    for (unsigned i = 0; i < 4; i++)
        check(!range_acquire(m, &narrow[i], (uint64_t)i * 300 << 20, 512, note, &n));
    range_release(m, &wide);
    until(ordered == 4);
    for (unsigned i = 0; i < 4; i++)
        range_release(m, &narrow[i]);
    range_map_free(&m);
}

/* ---- a crowd */

enum { CROWD = 50000 };

static struct crowd {
    struct range_map *map;
    struct range_req req[CROWD];
    unsigned next;
} crowd;

static void pass_on(void *arg)
{
    struct range_req *r = arg;
    check(r == &crowd.req[crowd.next]); /* in order of arrival */
    crowd.next++;
    range_release(crowd.map, r);
}

/* Were each looked at whenever one leaves, this would take hours. */
HARNESS_TEST(thousands_wait_for_one_block_each_in_turn)
{
    crowd.map = range_map_new();
    crowd.next = 0;
    struct range_req first;
    check(range_acquire(crowd.map, &first, 0, 4096, note, NULL));
    for (unsigned i = 0; i < CROWD; i++)
        check(!range_acquire(crowd.map, &crowd.req[i], 0, 4096, pass_on, &crowd.req[i]));
    range_release(crowd.map, &first);
    until(crowd.next == CROWD);
    range_map_free(&crowd.map);
}

/* ---- a wide one, and many narrow ones that do not overlap one another */

enum { MANY = 1024, NARROW = 1024 };

static unsigned granted;

static void count_grant(void *arg)
{
    (void)arg;
    granted++;
}

HARNESS_TEST(narrow_waiters_behind_a_wide_one_cost_little_and_come_in_order)
{
    static struct range_req narrow[MANY];
    struct range_req wide, next, far;
    struct range_map *m = range_map_new();
    granted = 0;
    check(range_acquire(m, &far, 16 << 20, 512, note, NULL)); /* of the same shard */
    check(range_acquire(m, &wide, 0, 1 << 20, note, NULL));
    for (unsigned i = 0; i < MANY; i++) /* in no order of their places */
        check(!range_acquire(m, &narrow[i], (uint64_t)(i * 389 % MANY) * NARROW, NARROW,
                             count_grant, NULL));
    check(!range_acquire(m, &next, 0, 1 << 20, count_grant, NULL));
    check(range_steps(m) < MANY * 40); /* a walk along those before it would be MANY * MANY / 2 */
    uint64_t before = range_steps(m);
    range_release(m, &wide);
    check(range_steps(m) - before < MANY * 4);
    until(granted == MANY); /* and not the next wide one, which overlaps them */
    before = range_steps(m);
    for (unsigned i = 0; i < MANY; i++)
        range_release(m, &narrow[i]);
    check(range_steps(m) - before < MANY * 40);
    until(granted == MANY + 1);
    range_release(m, &next);
    range_release(m, &far);
    range_map_free(&m);
}

/* ---- several reactors */

static struct range_map *shared;
static uint8_t cells[64];
static unsigned done;

/* Each task takes random ranges of cells, some of them over many regions, and checks that nobody
 * else is in them. */
static void contend(void *arg)
{
    (void)arg;
    unsigned seed = 1 + reactor_self_index();
    for (int i = 0; i < 400; i++) {
        seed = seed * 1103515245u + 12345u;
        unsigned first = (seed >> 16) % 60, n = 1 + (seed >> 8) % 4;
        struct range_req r;
        range_acquire_wait(shared, &r, (uint64_t)first << 18, (uint64_t)n << 18);
        for (unsigned k = first; k < first + n; k++)
            check(!__atomic_exchange_n(&cells[k], 1, __ATOMIC_SEQ_CST));
        if (i % 3 == 0)
            task_yield();
        for (unsigned k = first; k < first + n; k++)
            check(__atomic_exchange_n(&cells[k], 0, __ATOMIC_SEQ_CST));
        range_release(shared, &r);
    }
    __atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(exclusion_holds_over_reactors)
{
    shared = range_map_new();
    done = 0;
    task_call_all(contend, NULL);
    check_int(done, 3);
    range_map_free(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlapping_ranges_wait_in_order_and_others_do_not),
        cmocka_unit_test(newcomer_does_not_overtake_a_waiter),
        cmocka_unit_test(wide_ranges_exclude_narrow_ones_everywhere),
        cmocka_unit_test(thousands_wait_for_one_block_each_in_turn),
        cmocka_unit_test(narrow_waiters_behind_a_wide_one_cost_little_and_come_in_order),
        cmocka_unit_test(exclusion_holds_over_reactors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
