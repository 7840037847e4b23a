/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "text.h"
#include "volumes/alloc.h"

/* pv0 has 24 extents with 5..6 and 10..12 in use: free runs of 5, 3 and 11; pv1 has 15 free. */
static const char text[] = TEXT_VG(
    TEXT_LV("a", TEXT_ID1, TEXT_RW, "segment_count = 1\n", TEXT_SEG(1, 0, 2, TEXT_LINEAR("pv0", 5)))
        TEXT_LV("b", TEXT_ID2, TEXT_RW, "segment_count = 1\n",
                TEXT_SEG(1, 0, 3, TEXT_LINEAR("pv0", 10))));

static const bool both[] = {true, true}, first_only[] = {true, false};

static void expect(const bool *usable, uint32_t count, const struct lvm_piece *after,
                   const struct lvm_piece *want, unsigned want_n)
{
    struct err e = {0};
    unsigned n;
    struct lvm_vg *vg = lvm_text_parse(text, sizeof text, &e);
    assert_non_null(vg);
    struct lvm_piece *got = alloc_extents(vg, usable, count, after, &n, &e);
    assert_non_null(got);
    assert_int_equal(n, want_n);
    assert_memory_equal(got, want, n * sizeof *want);
    free(got);
    lvm_vg_free(&vg);
}

static void the_first_run_that_fits_is_taken(void **state)
{
    (void)state;
    expect(both, 5, NULL, &(struct lvm_piece){0, 0, 5}, 1);
    expect(both, 6, NULL, &(struct lvm_piece){0, 13, 6}, 1);
    expect(both, 12, NULL, &(struct lvm_piece){1, 0, 12}, 1);
}

static void growth_goes_behind_the_volume_when_it_fits(void **state)
{
    (void)state;
    expect(both, 3, &(struct lvm_piece){0, 5, 2}, &(struct lvm_piece){0, 7, 3}, 1);
    expect(both, 4, &(struct lvm_piece){0, 5, 2}, &(struct lvm_piece){0, 0, 4}, 1);
}

static void what_fits_nowhere_takes_the_longest_runs(void **state)
{
    (void)state;
    static const struct lvm_piece want[] = {{1, 0, 15}, {0, 13, 5}};
    expect(both, 20, NULL, want, 2);
    static const struct lvm_piece behind[] = {{0, 13, 11}, {1, 0, 9}};
    expect(both, 20, &(struct lvm_piece){0, 10, 3}, behind, 2);
    static const struct lvm_piece all[] = {{0, 13, 11}, {0, 0, 5}, {0, 7, 3}};
    expect(first_only, 19, NULL, all, 3);
}

static void more_than_there_is_says_what_there_is(void **state)
{
    (void)state;
    struct err e = {0};
    unsigned n;
    struct lvm_vg *vg = lvm_text_parse(text, sizeof text, &e);
    assert_null(alloc_extents(vg, first_only, 20, NULL, &n, &e));
    assert_int_equal(e.code, ERR_NO_SPACE);
    assert_non_null(strstr(e.msg, "76.0 MiB free (19 extents)"));
    assert_int_equal(alloc_free(vg, 0), 19);
    assert_int_equal(alloc_free(vg, 1), 15);
    lvm_vg_free(&vg);
}

/* Allocating and freeing at random never gives an extent twice (the parser checks that too). */
static void random_allocations_never_overlap(void **state)
{
    (void)state;
    struct err e = {0};
    struct lvm_vg *vg = lvm_text_parse(text, sizeof text, &e);
    unsigned seed = 7, made = 0;
    for (unsigned round = 0; round < 400; round++) {
        seed = seed * 1103515245 + 12345;
        unsigned n;
        struct lvm_piece *p = alloc_extents(vg, both, 1 + seed / 65536 % 7, NULL, &n, &e);
        if (!p) {
            lvm_vg_del_lv(vg, &vg->lv[seed / 65536 % vg->lv_count]);
            continue;
        }
        char name[16];
        snprintf(name, sizeof name, "v%u", made++);
        struct lvm_lv *lv = lvm_vg_add_lv(vg, name);
        lvm_id_random(lv->id);
        for (unsigned i = 0; i < n; i++)
            lvm_lv_append(lv, &p[i]);
        free(p);
        struct lvm_vg *copy = lvm_vg_clone(vg);
        size_t size;
        char *out = lvm_text_write(copy, "test", &size, &e); /* which parses it */
        assert_non_null(out);
        free(out);
        lvm_vg_free(&copy);
    }
    assert_true(made > 100);
    lvm_vg_free(&vg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_run_that_fits_is_taken),
        cmocka_unit_test(growth_goes_behind_the_volume_when_it_fits),
        cmocka_unit_test(what_fits_nowhere_takes_the_longest_runs),
        cmocka_unit_test(more_than_there_is_says_what_there_is),
        cmocka_unit_test(random_allocations_never_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
