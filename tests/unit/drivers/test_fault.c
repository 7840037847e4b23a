/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices.h"

#include <errno.h>

#include "drivers/fault/fault.h"

/* "m" of memory with fault device "f" on it, opened. */
static struct bdev *fault_bdev;
static struct bdev_desc *setup(const char *rules)
{
    struct err e = {0};
    device(&mem_driver, "m", "size=1M");
    fault_bdev = device(&fault_driver, "f", "on=m");
    if (fault_set_rules(fault_bdev, rules, &e))
        fprintf(stderr, "%s\n", e.msg);
    return open_device("f", CLAIM_EXCLUSIVE);
}

static void teardown(struct bdev_desc *d)
{
    bdev_close(&d);
    remove_device("f");
    remove_device("m");
}

HARNESS_TEST(without_rules_everything_passes)
{
    struct bdev_desc *d = setup("");
    uint8_t in[4096], out[4096];
    struct extent x[4];
    fill_pattern(in, sizeof in, 1);
    check_int(bdev_write(d, 4096, in, sizeof in, BIO_FUA), 0);
    check_int(bdev_read(d, 4096, out, sizeof out), 0);
    check(!memcmp(in, out, sizeof in));
    check_int(bdev_flush(d), 0);
    check_int(get_extents(d, 0, 1 << 20, x, 4), 3);
    check_int(do_op(d, BIO_DISCARD, 4096, 4096, 0), 0);
    check_int(bdev_read(d, 4096, out, sizeof out), 0);
    check(is_zero(out, sizeof out));
    teardown(d);
}

HARNESS_TEST(it_claims_the_device_below)
{
    struct bdev_desc *d = setup("");
    struct bdev_user user = {.label = "test"};
    struct err e = {0};
    check(!bdev_open("m", CLAIM_READ, &user, &e));
    check_int(e.code, ERR_IN_USE);
    check(strstr(e.msg, "fault device f"));
    teardown(d);
}

HARNESS_TEST(an_error_hits_its_op_and_range_and_tells_the_first_bad_byte)
{
    struct bdev_desc *d = setup("read:error=ENODATA:offset=8192-8703");
    uint8_t buf[16384] = {0};
    struct iovec iov = {buf, sizeof buf};
    struct bio bio;
    check_int(bdev_read(d, 0, buf, 8192), 0);
    check_int(bdev_read(d, 8704, buf, 512), 0);
    check_int(bdev_write(d, 8192, buf, 512, 0), 0);
    bio_init(&bio, d, BIO_READ, 4096, sizeof buf, NULL, NULL);
    bio_data(&bio, &iov, 1);
    check_int(bio_wait(&bio), -ENODATA);
    check_int(bio.bad_offset, 8192);
    check_int(fault_rule_hits(fault_bdev, 0), 1);
    teardown(d);
}

HARNESS_TEST(after_every_and_count_choose_requests)
{
    struct bdev_desc *d = setup("write:error=EIO:after=2:every=3:count=2");
    uint8_t buf[512] = {0};
    char seen[16] = "";
    for (int i = 0; i < 14; i++)
        strcat(seen, bdev_write(d, 0, buf, sizeof buf, 0) ? "x" : ".");
    check_int(strcmp(seen, "....x..x......"), 0);
    teardown(d);
}

static void chances(struct bdev_desc *d, char seen[101])
{
    uint8_t buf[512] = {0};
    for (int i = 0; i < 100; i++)
        seen[i] = bdev_read(d, 0, buf, sizeof buf) ? 'x' : '.';
    seen[100] = 0;
}

HARNESS_TEST(probability_is_the_same_for_the_same_seed)
{
    struct bdev_desc *d = setup("read:error=EIO:probability=0.3:seed=7");
    char a[101], b[101], c[101];
    chances(d, a);
    check_int(fault_set_rules(fault_bdev, "read:error=EIO:probability=0.3:seed=7", NULL), 0);
    chances(d, b);
    check_int(fault_set_rules(fault_bdev, "read:error=EIO:probability=0.3:seed=8", NULL), 0);
    chances(d, c);
    check(!strcmp(a, b) && strcmp(a, c));
    unsigned hits = (unsigned)fault_rule_hits(fault_bdev, 0);
    check(hits > 10 && hits < 60);
    teardown(d);
}

HARNESS_TEST(a_delay_delays)
{
    struct bdev_desc *d = setup("flush:delay=20ms");
    uint64_t t = clock_ns();
    check_int(bdev_flush(d), 0);
    check(clock_ns() - t >= 15000000); /* the loop's clock has ticks of 4 ms */
    teardown(d);
}

HARNESS_TEST(a_dropped_write_ends_well_and_is_lost)
{
    struct bdev_desc *d = setup("write:drop:count=1");
    uint8_t buf[512];
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    teardown(d);
}

HARNESS_TEST(a_torn_write_leaves_its_first_part)
{
    struct bdev_desc *d = setup("write:torn=1500:error=EIO");
    uint8_t in[4096], out[4096];
    fill_pattern(in, sizeof in, 1);
    check_int(bdev_write(d, 0, in, sizeof in, 0), -EIO);
    check_int(bdev_read(d, 0, out, sizeof out), 0);
    check(!memcmp(in, out, 1024) && is_zero(out + 1024, 4096 - 1024));
    teardown(d);
}

struct later {
    struct bio bio;
    struct iovec iov;
    uint8_t buf[512];
    bool done;
    struct twait *wait;
};

static void later_done(struct bio *bio)
{
    struct later *l = bio->arg;
    l->done = true;
    twait_done(l->wait);
}

HARNESS_TEST(held_requests_wait_for_the_release)
{
    struct bdev_desc *d = setup("write:hold");
    struct twait wait = TWAIT(2);
    struct later l[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        l[i].iov = (struct iovec){l[i].buf, 512};
        l[i].wait = &wait;
        bio_init(&l[i].bio, d, BIO_WRITE, 512 * i, 512, later_done, &l[i]);
        bio_data(&l[i].bio, &l[i].iov, 1);
        bio_submit(&l[i].bio);
    }
    until(fault_held(fault_bdev) == 2);
    check(!l[0].done && !l[1].done);
    check_int(bdev_read(d, 0, l[0].buf, 0x200), 0);
    fault_release(fault_bdev);
    twait_all(&wait);
    check(l[0].done && l[1].done);
    check_int(fault_held(fault_bdev), 0);
    teardown(d);
}

HARNESS_TEST(wrong_rules_are_refused_and_the_old_ones_stay)
{
    struct bdev_desc *d = setup("read:error=EIO");
    static const char *const wrong[] = {
        "reed:error=EIO",
        "read",
        "read:error=EPERM",
        "read:offset=1-0:drop",
        "read:delay=10",
        "read:every=0:drop",
        "read:probability=1.5:drop",
        "read:drop=yes",
        "read:error=EIO:offset=",
        "read:count=9999999999999999999:drop",
        "::",
    };
    uint8_t buf[512];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct err e = {0};
        if (!fault_set_rules(fault_bdev, wrong[i], &e))
            fprintf(stderr, "taken: %s\n", wrong[i]);
        check_int(e.code, ERR_INVALID);
        check_int(strcmp(e.field, "rules"), 0);
    }
    check_int(bdev_read(d, 0, buf, sizeof buf), -EIO);
    teardown(d);
}

HARNESS_TEST(a_wrong_rule_makes_no_device)
{
    struct err e = {0};
    struct bdev *b;
    device(&mem_driver, "m", "size=1M");
    check_int(try_device(&fault_driver, "f", "on=m,rules=read", &b, &e), -1);
    check_int(try_device(&fault_driver, "f", "on=nothing", &b, &e), -1);
    check_int(e.code, ERR_NOT_FOUND);
    remove_device("m"); /* not left open */
}

HARNESS_TEST(the_record_has_writes_and_flushes_in_order_with_data)
{
    struct bdev_desc *d = setup("flush:drop:after=1");
    uint8_t buf[1024];
    fault_record_start(fault_bdev);
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 512, buf, 1024, BIO_FUA), 0);
    check_int(bdev_read(d, 512, buf, 512), 0);
    check_int(bdev_flush(d), 0);
    check_int(do_op(d, BIO_DISCARD, 4096, 8192, 0), 0);
    check_int(bdev_flush(d), 0);
    fault_record_stop(fault_bdev);
    check_int(bdev_write(d, 0, buf, 512, 0), 0);

    check_int(fault_record_count(fault_bdev), 4);
    check_int(fault_record_now(fault_bdev), 8);
    const struct fault_entry *x = fault_record_get(fault_bdev, 0);
    check(x->op == BIO_WRITE && x->flags == BIO_FUA && x->offset == 512 && x->length == 1024);
    check(!memcmp(x->data, buf, 1024));
    check(x->submitted == 1 && x->completed == 2 && !x->error);
    x = fault_record_get(fault_bdev, 1);
    check(x->op == BIO_FLUSH && !x->dropped && x->submitted == 3);
    x = fault_record_get(fault_bdev, 2);
    check(x->op == BIO_DISCARD && x->offset == 4096 && !x->data);
    check(fault_record_get(fault_bdev, 3)->dropped);
    teardown(d);
}

/* The first byte of each of the blocks 0..3 after a replay to a fresh device. */
static void replayed(uint64_t at, enum fault_cut cut, uint64_t seed, char out[5])
{
    device(&mem_driver, "r", "size=1M");
    struct bdev_desc *to = open_device("r", CLAIM_EXCLUSIVE);
    check_int(fault_replay(fault_bdev, at, cut, seed, to), 0);
    for (unsigned i = 0; i < 4; i++) {
        char block[512];
        check_int(bdev_read(to, 512 * i, block, sizeof block), 0);
        out[i] = block[0] ? block[0] : '-';
    }
    out[4] = 0;
    bdev_close(&to);
    remove_device("r");
}

static void put_block(struct bdev_desc *d, unsigned i, char c, unsigned flags)
{
    char block[512];
    memset(block, c, sizeof block);
    check_int(bdev_write(d, 512 * i, block, sizeof block, flags), 0);
}

HARNESS_TEST(a_power_cut_keeps_what_was_flushed_and_loses_the_rest)
{
    struct bdev_desc *d = setup("flush:drop:after=1");
    char got[5];
    fault_record_start(fault_bdev);
    put_block(d, 0, 'a', 0);       /* events 1, 2 */
    check_int(bdev_flush(d), 0);   /* 3, 4 */
    put_block(d, 1, 'b', 0);       /* 5, 6 */
    put_block(d, 2, 'c', BIO_FUA); /* 7, 8 */
    check_int(bdev_flush(d), 0);   /* 9, 10: a lie */
    put_block(d, 0, 'd', 0);       /* 11, 12 */

    replayed(0, FAULT_CUT_ALL, 0, got);
    check_int(strcmp(got, "----"), 0);
    replayed(3, FAULT_CUT_NONE, 0, got);
    check_int(strcmp(got, "----"), 0);
    replayed(4, FAULT_CUT_NONE, 0, got);
    check_int(strcmp(got, "a---"), 0);
    replayed(7, FAULT_CUT_NONE, 0, got);
    check_int(strcmp(got, "a---"), 0);
    replayed(12, FAULT_CUT_NONE, 0, got);
    check_int(strcmp(got, "a-c-"), 0);
    replayed(12, FAULT_CUT_ALL, 0, got);
    check_int(strcmp(got, "dbc-"), 0);
    teardown(d);
}

HARNESS_TEST(a_power_cut_by_chance_never_loses_durable_writes)
{
    struct bdev_desc *d = setup("");
    unsigned with = 0, without = 0;
    fault_record_start(fault_bdev);
    put_block(d, 0, 'a', 0);
    check_int(bdev_flush(d), 0);
    put_block(d, 1, 'b', 0);
    put_block(d, 2, 'c', BIO_FUA);
    for (uint64_t seed = 0; seed < 40; seed++) {
        char got[5];
        replayed(fault_record_now(fault_bdev), FAULT_CUT_CHANCE, seed, got);
        check(got[0] == 'a' && got[2] == 'c' && got[3] == '-');
        with += got[1] == 'b';
        without += got[1] == '-';
    }
    check(with > 5 && without > 5);
    teardown(d);
}

HARNESS_TEST(it_goes_when_the_device_below_goes)
{
    device(&mem_driver, "m", "size=1M");
    device(&fault_driver, "f", "on=m");
    remove_device("m"); /* returns when f has closed it */
    check(!bdev_find("f"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_rules_everything_passes),
        cmocka_unit_test(it_claims_the_device_below),
        cmocka_unit_test(an_error_hits_its_op_and_range_and_tells_the_first_bad_byte),
        cmocka_unit_test(after_every_and_count_choose_requests),
        cmocka_unit_test(probability_is_the_same_for_the_same_seed),
        cmocka_unit_test(a_delay_delays),
        cmocka_unit_test(a_dropped_write_ends_well_and_is_lost),
        cmocka_unit_test(a_torn_write_leaves_its_first_part),
        cmocka_unit_test(held_requests_wait_for_the_release),
        cmocka_unit_test(wrong_rules_are_refused_and_the_old_ones_stay),
        cmocka_unit_test(a_wrong_rule_makes_no_device),
        cmocka_unit_test(the_record_has_writes_and_flushes_in_order_with_data),
        cmocka_unit_test(a_power_cut_keeps_what_was_flushed_and_loses_the_rest),
        cmocka_unit_test(a_power_cut_by_chance_never_loses_durable_writes),
        cmocka_unit_test(it_goes_when_the_device_below_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
