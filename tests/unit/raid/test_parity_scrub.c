/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scrub of raid4, 5 and 6: what does not fit is found, named where that can be, and put right. */
#include "arrays.h"

#include <string.h>

enum { CHUNK = 64 << 10, ROW = 4096, MEMBER = 3 << 20 };

static struct err e;
static uint8_t model[4 * MEMBER], one[ROW];

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

/* All of it written, then stopped. */
static void make(const char *level, unsigned n)
{
    make_members(n, "4M");
    must(create(level, n, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    uint64_t size = bdev_size(d);
    fill_pattern(model, size, n);
    check_int(bdev_write(d, 0, model, size, 0), 0);
    bdev_close(&d);
    stop();
}

/* As when the medium forgets: a part of a row of a member is another one. */
static void rot(unsigned i, uint64_t offset, size_t len)
{
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    check_int(bdev_read(d, DATA + offset, one, len), 0);
    for (size_t k = 0; k < len; k++)
        one[k] = (uint8_t)(one[k] ^ (0x5a + i + k));
    check_int(bdev_write(d, DATA + offset, one, len, 0), 0);
    bdev_close(&d);
}

static struct raid_info scrub(bool repair)
{
    uint64_t job;
    must(raid_scrub("a", repair, &job, &e), &e);
    wait_idle();
    return info_of("a");
}

static void member_rows(unsigned i, uint8_t *out)
{
    member_data(i, 0, out, MEMBER);
}

HARNESS_TEST(what_was_written_fits)
{
    static const char *const levels[] = {"raid4", "raid5", "raid6"};
    for (unsigned i = 0; i < 3; i++) {
        make(levels[i], 5);
        must(assemble(false, &e), &e);
        check_int(scrub(false).mismatch, 0);
        stop();
        remove_members(5);
    }
}

/* Each member in each stripe of a turn: as data, as P, as Q. */
HARNESS_TEST(raid6_names_whoever_is_wrong_and_a_check_changes_nothing)
{
    make("raid6", 5);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned s = 0; s < 5; s++)
            rot(i, s * CHUNK + i * 2 * ROW, 512);
    must(assemble(false, &e), &e);
    for (unsigned pass = 0; pass < 2; pass++) {
        struct raid_info info = scrub(false);
        check_int(info.mismatch, 25 * ROW);
        for (unsigned i = 0; i < 5; i++)
            check_int(info.member[i].wrong, 5);
    }
    check(!array_holds(model));
    stop();
    remove_members(5);
}

HARNESS_TEST(raid6_repair_rewrites_who_is_wrong)
{
    make("raid6", 6);
    for (unsigned i = 0; i < 6; i++)
        rot(i, (i + 3) * CHUNK + 5 * ROW, ROW);
    rot(2, 40 * CHUNK, 1);
    must(assemble(false, &e), &e);
    check_int(scrub(true).mismatch, 7 * ROW);
    check(array_holds(model));
    check_int(scrub(false).mismatch, 0);
    stop();
    remove_members(6);
}

HARNESS_TEST(raid6_with_two_wrong_in_a_row_names_nobody)
{
    static uint8_t before[5][MEMBER], after[MEMBER];
    make("raid6", 5);
    rot(0, 2 * CHUNK, 512);
    rot(1, 2 * CHUNK, 512);
    rot(4, 2 * CHUNK + ROW, 512); /* beside it one is */
    for (unsigned i = 0; i < 5; i++)
        member_rows(i, before[i]);
    must(assemble(false, &e), &e);
    struct raid_info info = scrub(false);
    check_int(info.mismatch, 2 * ROW);
    for (unsigned i = 0; i < 5; i++)
        check_int(info.member[i].wrong, i == 4);
    check_int(scrub(true).mismatch, 2 * ROW);
    check_int(scrub(false).mismatch, 0);
    stop();
    unsigned changed = 0;
    for (unsigned i = 0; i < 5; i++) {
        member_rows(i, after);
        changed += memcmp(before[i], after, MEMBER) != 0;
    }
    check_int(changed, 3); /* both parities of the one row, and d4 */
    remove_members(5);
}

HARNESS_TEST(raid5_repair_rewrites_parity_and_leaves_data)
{
    make("raid5", 4);
    rot(1, 0, ROW);             /* data of stripe 0, whose parity is on d3 */
    rot(2, CHUNK + ROW, ROW);   /* parity of stripe 1 */
    rot(0, 7 * CHUNK + 64, 64); /* parity of stripe 7 */
    must(assemble(false, &e), &e);
    struct raid_info info = scrub(false);
    check_int(info.mismatch, 3 * ROW);
    for (unsigned i = 0; i < 4; i++)
        check_int(info.member[i].wrong, 0);
    scrub(true);
    check_int(scrub(false).mismatch, 0);
    check(!array_holds(model)); /* what is data now is what was read */
    stop();
    rot(1, 0, ROW); /* and back again */
    must(assemble(false, &e), &e);
    check(array_holds(model));
    stop();
    remove_members(4);
}

HARNESS_TEST(around_a_place_that_cannot_be_read_the_rest_is_looked_at)
{
    make("raid6", 5);
    rot(3, 2 * CHUNK + 9 * ROW, 512);
    must(assemble(false, &e), &e);
    rules(1, "read:error=EIO:offset=1179648-1183743:count=2"); /* DATA + 2 * CHUNK */
    check_int(scrub(false).member[3].wrong, 1);
    check(info_of("a").member[1].errors > 0);
    check_int(info_of("a").missing, 0);
    rules(1, "");
    stop();
    remove_members(5);
}

HARNESS_TEST(writes_beside_a_scrub_always_fit)
{
    make("raid6", 5);
    must(assemble(false, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    must(raid_scrub("a", false, NULL, &e), &e);
    unsigned n = 0;
    while (info_of("a").sync_job || n < 50) {
        uint64_t at = n * 7 % 140 * CHUNK + n % 16 * ROW;
        n++;
        fill_pattern(one, ROW, n);
        check_int(bdev_write(d, at, one, ROW, 0), 0);
        memcpy(model + at, one, ROW);
    }
    bdev_close(&d);
    check_int(info_of("a").mismatch, 0);
    check(array_holds(model));
    check_int(scrub(false).mismatch, 0);
    stop();
    remove_members(5);
}

HARNESS_TEST(a_degraded_array_is_not_scrubbed)
{
    make("raid6", 5);
    must(assemble(false, &e), &e);
    must(raid_fail_member("a", "d1", false, &e), &e);
    check_int(raid_scrub("a", false, NULL, &e), -1);
    stop();
    remove_members(5);
}

HARNESS_TEST(with_hardly_any_memory_too)
{
    make("raid6", 5);
    rot(0, 3 * CHUNK + 2 * ROW, 512);
    raid_set_stripe_memory(0);
    must(assemble(false, &e), &e);
    check_int(scrub(true).member[0].wrong, 1);
    check_int(scrub(false).mismatch, 0);
    stop();
    raid_set_stripe_memory(64 << 20);
    remove_members(5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_fits),
        cmocka_unit_test(raid6_names_whoever_is_wrong_and_a_check_changes_nothing),
        cmocka_unit_test(raid6_repair_rewrites_who_is_wrong),
        cmocka_unit_test(raid6_with_two_wrong_in_a_row_names_nobody),
        cmocka_unit_test(raid5_repair_rewrites_parity_and_leaves_data),
        cmocka_unit_test(around_a_place_that_cannot_be_read_the_rest_is_looked_at),
        cmocka_unit_test(writes_beside_a_scrub_always_fit),
        cmocka_unit_test(a_degraded_array_is_not_scrubbed),
        cmocka_unit_test(with_hardly_any_memory_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
