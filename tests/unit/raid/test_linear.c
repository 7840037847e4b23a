/* SPDX-License-Identifier: GPL-2.0-or-later */
/* linear: members behind one another. */
#include "arrays.h"

#include <string.h>

enum { MIB = 1 << 20, SIZE = (3 + 5 + 2) * MIB };

static struct err e;
static uint8_t model[SIZE], back[SIZE];

static void make(void)
{
    make_member(0, "4M");
    make_member(1, "6M");
    make_member(2, "3M");
    must(create("jbod", 3, false, &e), &e);
}

static void write_model(struct bdev_desc *d, uint64_t at, size_t len, unsigned seed)
{
    fill_pattern(model + at, len, seed);
    check_int(bdev_write(d, at, model + at, len, 0), 0);
}

HARNESS_TEST(it_is_as_large_as_all_members_and_holds_what_is_written)
{
    make();
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_size(d), SIZE);
    write_model(d, 0, SIZE, 1);
    write_model(d, 3 * MIB - 4096, 5 * MIB + 8192, 2); /* on all three */
    write_model(d, 8 * MIB - 512, 1024, 3);
    check_int(do_op(d, BIO_WRITE_ZEROES, 2 * MIB, 2 * MIB, 0), 0);
    memset(model + 2 * MIB, 0, 2 * MIB);
    check_int(bdev_flush(d), 0);
    check_int(bdev_read(d, 0, back, SIZE), 0);
    check(!memcmp(model, back, SIZE));
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    member_data(1, 0, back, 5 * MIB);
    check(!memcmp(back, model + 3 * MIB, 5 * MIB));
    struct md_super sb = super_of(1);
    check_int(sb.level, -1);
    check_int(sb.chunk, 0);
    must(assemble(false, &e), &e);
    d = open_device("a", CLAIM_READ);
    check_int(bdev_read(d, 0, back, SIZE), 0);
    check(!memcmp(model, back, SIZE));
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(3);
}

HARNESS_TEST(without_a_member_it_does_not_start)
{
    make();
    must(raid_stop("a", &e), &e);
    remove_device("d1");
    remove_device("m1");
    check_int(assemble(true, &e), -1);
    remove_members(3);
}

HARNESS_TEST(an_error_of_a_member_is_the_clients_and_costs_nobody)
{
    make();
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    rules(1, "read:error=EIO");
    check_int(bdev_read(d, 3 * MIB - 4096, back, 8192), -EIO);
    check_int(bdev_read(d, 0, back, MIB), 0);
    rules(1, "");
    check_int(bdev_read(d, 3 * MIB - 4096, back, 8192), 0);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(3);
}

/* Older mdadm rounded members down to whole chunks. */
HARNESS_TEST(a_chunk_size_cuts_the_members)
{
    make();
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < 3; i++) {
        struct md_super sb = super_of(i);
        sb.chunk = 4 * MIB / MD_SECTOR;
        put_super(i, &sb);
    }
    check_int(assemble(false, &e), -1); /* the last has not even one */
    for (unsigned i = 0; i < 3; i++) {
        struct md_super sb = super_of(i);
        sb.chunk = 2 * MIB / MD_SECTOR;
        put_super(i, &sb);
    }
    must(assemble(false, &e), &e);
    check_int(info_of("a").size, (2 + 4 + 2) * MIB);
    must(raid_stop("a", &e), &e);
    remove_members(3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_as_large_as_all_members_and_holds_what_is_written),
        cmocka_unit_test(without_a_member_it_does_not_start),
        cmocka_unit_test(an_error_of_a_member_is_the_clients_and_costs_nobody),
        cmocka_unit_test(a_chunk_size_cuts_the_members),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
