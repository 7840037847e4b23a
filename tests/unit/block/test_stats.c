/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "testdev.h"

static void buckets_are_four_an_octave(void **state)
{
    (void)state;
    assert_int_equal(hist_bucket(0), 0);
    assert_int_equal(hist_bucket(999), 0);
    assert_int_equal(hist_bucket(1000), 1);
    for (uint64_t ns = 1000; ns < 120000000000ull; ns += ns / 37 + 1) {
        unsigned b = hist_bucket(ns);
        assert_true(ns < hist_bound_ns(b));
        assert_true(ns >= hist_bound_ns(b - 1));
    }
    assert_int_equal(hist_bucket(UINT64_MAX / 8), HIST_BUCKETS - 1);
    assert_int_equal(hist_bucket(1000ull << HIST_OCTAVES), HIST_BUCKETS - 1);
    assert_true(hist_bound_ns(HIST_BUCKETS - 2) > 100000000000ull);
    assert_true(hist_bound_ns(HIST_BUCKETS - 1) == UINT64_MAX);
}

static struct bdev_desc *d;

static void write_here(void *arg)
{
    static uint8_t b[4096];
    (void)arg;
    check_int(bdev_write(d, 0, b, sizeof b, 0), 0);
}

HARNESS_TEST(operations_are_counted_over_all_reactors)
{
    struct testdev *t = testdev_new("t");
    testdev_add(t);
    d = testdev_open("t", CLAIM_SHARED_WRITE);
    task_call_all(write_here, NULL);
    uint8_t b[512];
    t->fail[BIO_READ] = -EIO;
    check_int(bdev_read(d, 0, b, 512), -EIO);
    struct op_stats s;
    bdev_op_stats(&t->bdev, BIO_WRITE, &s);
    check_int(s.count, 3);
    check_int(s.bytes, 3 * 4096);
    check_int(s.errors, 0);
    uint64_t sum = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        sum += s.bucket[i];
    check_int(sum, 3);
    bdev_op_stats(&t->bdev, BIO_READ, &s);
    check_int(s.count, 1);
    check_int(s.errors, 1);
    check_int(s.bytes, 0);
    bdev_op_stats(&t->bdev, BIO_FLUSH, &s);
    check_int(s.count, 0);
    bdev_close(&d);
    bdev_unregister(&t->bdev);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_four_an_octave),
        cmocka_unit_test(operations_are_counted_over_all_reactors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
