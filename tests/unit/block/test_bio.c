/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The contract of a bio, clause by clause. */
#include "testdev.h"

#include "base/mem.h"

static struct testdev *t;
static struct bdev_desc *d;

static void open_dev(void)
{
    testdev_add(t);
    d = testdev_open("t", CLAIM_SHARED_WRITE);
}

static void up(void)
{
    t = testdev_new("t");
    open_dev();
}

static void down(void)
{
    bdev_drain_close(&d);
    bdev_unregister(&t->bdev);
}

static int op(enum bio_op o, uint64_t offset, uint64_t length, unsigned flags, void *buf,
              size_t size)
{
    struct bio bio;
    struct iovec iov = {buf, size};
    bio_init(&bio, d, o, offset, length, NULL, NULL);
    bio.flags = (uint8_t)flags;
    bio_data(&bio, &iov, buf ? 1 : 0);
    return bio_wait(&bio);
}

HARNESS_TEST(written_data_is_read_back)
{
    up();
    static uint8_t a[8192], b[8192];
    fill(a, sizeof a, 1);
    check_int(bdev_write(d, 4096, a, sizeof a, BIO_FUA), 0);
    check_int(bdev_read(d, 4096, b, sizeof b), 0);
    check(!memcmp(a, b, sizeof a));
    check_int(bdev_flush(d), 0);
    check_int(t->log[0].flags, BIO_FUA); /* native: handed on */
    down();
}

HARNESS_TEST(wrong_requests_never_reach_the_driver)
{
    up();
    static uint8_t b[4096];
    check_int(op(BIO_COMPARE_AND_WRITE, 1, 512, 0, b, sizeof b), -EINVAL);
    check_int(op(BIO_READ, 0, 0, 0, b, sizeof b), -EINVAL);
    check_int(op(BIO_READ, 0, 1024, 0, b, 512), -EINVAL); /* data too short */
    check_int(op(BIO_READ, 0, 512, BIO_FUA, b, sizeof b), -EINVAL);
    check_int(op(BIO_FLUSH, 512, 0, 0, NULL, 0), -EINVAL);
    check_int(op(BIO_READ, TESTDEV_SIZE, 512, 0, b, sizeof b), -ENXIO);
    check_int(op(BIO_READ, TESTDEV_SIZE - 512, 1024, 0, b, sizeof b), -ENXIO);
    check_int(op(BIO_WRITE, UINT64_MAX - 511, 512, BIO_FUA, b, sizeof b), -ENXIO);
    check_int(op((enum bio_op)99, 0, 512, 0, b, sizeof b), -EINVAL);
    check_int(op(BIO_DISCARD, 0, 512, 0, NULL, 0), -EOPNOTSUPP);
    check_int(t->log_count, 0);
    struct bdev_info i;
    bdev_get_info(d, &i);
    check(!i.write_error); /* the submitter's mistakes say nothing about the device */
    down();
}

HARNESS_TEST(read_claim_cannot_write)
{
    up();
    struct bdev_desc *r = testdev_open("t", CLAIM_READ);
    static uint8_t b[512];
    check_int(bdev_write(r, 0, b, 512, 0), -EROFS);
    check_int(bdev_read(r, 0, b, 512), 0);
    bdev_close(&r);
    down();
}

struct reentry {
    bool in_submit, reentered, done;
    struct task *task;
};

static void note_reentry(struct bio *bio)
{
    struct reentry *r = bio->arg;
    check(!r->done); /* exactly once */
    r->done = true;
    r->reentered = r->in_submit;
    task_wake(r->task);
}

HARNESS_TEST(completion_never_reenters_the_submitter)
{
    up();
    static uint8_t b[512];
    struct iovec iov = {b, sizeof b};
    for (int bad = 0; bad < 2; bad++) {
        struct reentry r = {.task = task_self()};
        struct bio bio;
        bio_init(&bio, d, BIO_READ, bad ? TESTDEV_SIZE : 0, 512, note_reentry, &r);
        bio_data(&bio, &iov, 1);
        r.in_submit = true;
        bio_submit(&bio);
        r.in_submit = false;
        check(!r.done);
        task_park();
        check(r.done && !r.reentered);
    }
    down();
}

HARNESS_TEST(fua_is_emulated_by_a_flush)
{
    t = testdev_new("t");
    t->bdev.native_fua = false;
    open_dev();
    static uint8_t b[512];
    check_int(bdev_write(d, 0, b, 512, BIO_FUA), 0);
    check_int(t->log_count, 2);
    check_int(t->log[0].op, BIO_WRITE);
    check_int(t->log[0].flags, 0);
    check_int(t->log[1].op, BIO_FLUSH);
    t->fail[BIO_FLUSH] = -EIO;
    check_int(bdev_write(d, 0, b, 512, BIO_FUA), -EIO);
    down();
}

HARNESS_TEST(fua_costs_nothing_without_a_write_cache)
{
    t = testdev_new("t");
    t->bdev.native_fua = false;
    t->bdev.write_cache = false;
    t->bdev.native = 1u << BIO_READ | 1u << BIO_WRITE;
    open_dev();
    static uint8_t b[512];
    check_int(bdev_write(d, 0, b, 512, BIO_FUA), 0);
    check_int(t->log_count, 1);
    check_int(bdev_flush(d), 0); /* nothing to flush */
    check_int(t->log_count, 1);
    down();
}

HARNESS_TEST(failed_flush_is_never_retried_to_success)
{
    up();
    t->fail[BIO_FLUSH] = -EIO;
    check_int(bdev_flush(d), -EIO);
    t->fail[BIO_FLUSH] = 0;
    check_int(bdev_flush(d), -EIO);
    check_int(bdev_flush(d), -EIO);
    struct bdev_info i;
    bdev_get_info(d, &i);
    check(i.write_error);
    bdev_close(&d);
    d = testdev_open("t", CLAIM_SHARED_WRITE); /* reopened: a new start */
    check_int(bdev_flush(d), 0);
    down();
}

HARNESS_TEST(failed_fua_latches_too)
{
    up();
    static uint8_t b[512];
    t->fail[BIO_WRITE] = -EIO;
    check_int(bdev_write(d, 0, b, 512, 0), -EIO);
    check_int(bdev_flush(d), 0); /* a plain write's error was told to its writer */
    check_int(bdev_write(d, 0, b, 512, BIO_FUA | BIO_OWN_ERRORS), -EIO);
    check_int(bdev_flush(d), 0); /* nor that of one that its writer answers for */
    check_int(bdev_write(d, 0, b, 512, BIO_FUA), -EIO);
    check_int(bdev_flush(d), -EIO);
    down();
}

HARNESS_TEST(redundant_devices_judge_for_themselves)
{
    t = testdev_new("t");
    t->bdev.redundant = true;
    open_dev();
    t->fail[BIO_FLUSH] = -EIO;
    check_int(bdev_flush(d), -EIO);
    t->fail[BIO_FLUSH] = 0;
    check_int(bdev_flush(d), 0);
    down();
}

HARNESS_TEST(long_and_crossing_requests_are_split)
{
    t = testdev_new("t");
    t->bdev.max_io = 4096;
    t->bdev.boundary = 8192;
    open_dev();
    static uint8_t a[64 * 1024], b[64 * 1024];
    fill(a, sizeof a, 3);
    check_int(bdev_write(d, 512, a, sizeof a, 0), 0);
    for (unsigned i = 0; i < t->log_count; i++) {
        check(t->log[i].length <= 4096);
        check_int(t->log[i].offset / 8192, (t->log[i].offset + t->log[i].length - 1) / 8192);
    }
    check(t->log_count >= 16);
    check(!memcmp(t->data + 512, a, sizeof a));
    check_int(bdev_read(d, 512, b, sizeof b), 0);
    check(!memcmp(a, b, sizeof a));
    down();
}

HARNESS_TEST(error_of_a_piece_ends_the_whole_with_its_place)
{
    t = testdev_new("t");
    t->bdev.max_io = 4096;
    open_dev();
    static uint8_t b[16384];
    t->fail[BIO_READ] = -ENODATA;
    check_int(bdev_read(d, 0, b, sizeof b), -ENODATA);
    down();
}

HARNESS_TEST(misaligned_data_is_bounced)
{
    t = testdev_new("t");
    t->bdev.mem_align = 4096;
    open_dev();
    uint8_t *raw = aligned_alloc(4096, 5 << 20);
    uint8_t *a = raw + 3, *b = raw + (2 << 20) + 5;
    fill(a, 1536 << 10, 9);
    check_int(bdev_write(d, 0, a, 1536 << 10, 0), 0); /* more than one piece */
    check(t->log_count >= 2);
    check(!memcmp(t->data, a, 1536 << 10));
    check_int(bdev_read(d, 0, b, 1536 << 10), 0);
    check(!memcmp(a, b, 1536 << 10));
    t->log_count = 0;
    check_int(bdev_read(d, 0, raw, 4096), 0);
    check_int(t->log_count, 1); /* aligned: as it is */
    free(raw);
    down();
}

HARNESS_TEST(zeroes_are_written_where_there_is_no_better_way)
{
    up();
    memset(t->data, 0xee, TESTDEV_SIZE);
    check_int(op(BIO_WRITE_ZEROES, 512, 3 << 20, BIO_FUA, NULL, 0), 0);
    check(t->data[511] == 0xee && t->data[512 + (3 << 20)] == 0xee);
    for (size_t i = 512; i < 512 + (3 << 20); i++)
        check(!t->data[i]);
    check_int(t->log[0].op, BIO_WRITE);
    check_int(t->log[0].flags, BIO_FUA);
    check_int(op(BIO_WRITE_ZEROES, 0, 512, BIO_FAST_ZERO, NULL, 0), -EOPNOTSUPP);
    down();
}

HARNESS_TEST(driver_may_find_out_late_that_it_cannot_zero)
{
    t = testdev_new("t");
    t->bdev.native |= 1u << BIO_WRITE_ZEROES;
    t->bdev.max_extent_io = 1 << 20;
    open_dev();
    t->fail[BIO_WRITE_ZEROES] = -EOPNOTSUPP;
    for (unsigned long_one = 0; long_one < 2; long_one++) {
        uint64_t length = long_one ? 3 << 20 : 4096;
        memset(t->data, 0xee, TESTDEV_SIZE);
        check_int(op(BIO_WRITE_ZEROES, 0, length, 0, NULL, 0), 0);
        check(!t->data[0] && !t->data[length - 1] && t->data[length] == 0xee);
    }
    check_int(op(BIO_WRITE_ZEROES, 0, 512, BIO_FAST_ZERO, NULL, 0), -EOPNOTSUPP);
    down();
}

HARNESS_TEST(extents_default_to_allocated)
{
    up();
    struct extent list[2];
    struct bio_extents ext = {.list = list, .max = 2};
    struct bio bio;
    bio_init(&bio, d, BIO_EXTENTS, 0, 65536, NULL, NULL);
    bio.extents = &ext;
    check_int(bio_wait(&bio), 0);
    check_int(ext.count, 1);
    check_int(list[0].length, 65536);
    check_int(list[0].flags, 0);
    check_int(op(BIO_PREFETCH, 0, 4096, 0, NULL, 0), 0);
    down();
}

HARNESS_TEST(compare_and_write_writes_only_on_a_match)
{
    up();
    static uint8_t b[2048];
    memset(b, 0, 1024);
    fill(b + 1024, 1024, 4);
    check_int(op(BIO_COMPARE_AND_WRITE, 4096, 1024, BIO_FUA, b, sizeof b), 0);
    check(!memcmp(t->data + 4096, b + 1024, 1024));
    struct bio bio;
    struct iovec iov = {b, sizeof b};
    b[700] ^= 1; /* compares with zeroes and differs at once: find the first place */
    memcpy(b, t->data + 4096, 1024);
    b[700] ^= 1;
    bio_init(&bio, d, BIO_COMPARE_AND_WRITE, 4096, 1024, NULL, NULL);
    bio_data(&bio, &iov, 1);
    check_int(bio_wait(&bio), -EUCLEAN);
    check_int(bio.bad_offset, 4096 + 700);
    down();
}

HARNESS_TEST(compare_and_write_over_a_boundary_is_all_or_nothing)
{
    t = testdev_new("t");
    t->bdev.boundary = 4096;
    t->bdev.max_io = 2048;
    open_dev();
    static uint8_t b[16384];
    fill(b + 8192, 8192, 4);
    t->data[2048 + 8191] = 1; /* differs in the last piece only */
    check_int(op(BIO_COMPARE_AND_WRITE, 2048, 8192, 0, b, sizeof b), -EUCLEAN);
    check(!t->data[2048]);
    b[8191] = 1;
    check_int(op(BIO_COMPARE_AND_WRITE, 2048, 8192, 0, b, sizeof b), 0);
    check(!memcmp(t->data + 2048, b + 8192, 8192));
    down();
}

static unsigned incremented;

static void increment_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++) {
        for (;;) {
            uint64_t buf[128] = {0};
            check_int(bdev_read(d, 0, buf, 512), 0);
            buf[64] = buf[0] + 1;
            struct iovec iov = {buf, sizeof buf};
            struct bio bio;
            bio_init(&bio, d, BIO_COMPARE_AND_WRITE, 0, 512, NULL, NULL);
            bio_data(&bio, &iov, 1);
            int rc = bio_wait(&bio);
            if (!rc)
                break;
            check_int(rc, -EUCLEAN);
        }
        __atomic_fetch_add(&incremented, 1, __ATOMIC_SEQ_CST);
    }
}

HARNESS_TEST(compare_and_write_is_atomic_over_reactors)
{
    up();
    incremented = 0;
    task_call_all(increment_many, NULL);
    check_int(incremented, 150);
    check_int(*(uint64_t *)t->data, 150);
    down();
}

HARNESS_TEST(copy_moves_data_between_devices)
{
    up();
    struct testdev *s = testdev_new("src");
    testdev_add(s);
    struct bdev_desc *from = testdev_open("src", CLAIM_READ);
    fill(s->data, TESTDEV_SIZE, 5);
    struct bio bio;
    bio_init(&bio, d, BIO_COPY, 1 << 20, 2 << 20, NULL, NULL);
    bio.copy_src = from;
    bio.copy_offset = 512;
    check_int(bio_wait(&bio), 0);
    check(!memcmp(t->data + (1 << 20), s->data + 512, 2 << 20));
    bdev_close(&from);
    bdev_unregister(&s->bdev);
    down();
}

HARNESS_TEST(iovec_helpers_see_through_skips_and_splits)
{
    uint8_t x[10], y[10], z[10], flat[30];
    struct iovec iov[4] = {{x, 10}, {y, 0}, {y, 10}, {z, 10}}, out[4];
    fill(flat, sizeof flat, 2);
    struct bio bio = {.iov = iov, .iovcnt = 4, .iov_skip = 5, .length = 20};
    bio_copy_in(&bio, 0, flat, 20);
    check(!memcmp(x + 5, flat, 5) && !memcmp(y, flat + 5, 10) && !memcmp(z, flat + 15, 5));
    uint8_t back[7];
    bio_copy_out(&bio, 4, back, 7);
    check(!memcmp(back, flat + 4, 7));
    check_int(bio_iovec(&bio, 4, 12, out, 4), 3);
    check(out[0].iov_base == x + 9 && out[0].iov_len == 1);
    check(out[1].iov_base == y && out[1].iov_len == 10);
    check(out[2].iov_base == z && out[2].iov_len == 1);
    check_int(bio_iovec(&bio, 4, 12, out, 2), 0);
    bio_fill_zero(&bio, 5, 10);
    for (int i = 0; i < 10; i++)
        check(!y[i]);
}

HARNESS_TEST(fresh_device_is_known_zero_until_written)
{
    t = testdev_new("t");
    t->bdev.known_zero = true;
    open_dev();
    struct bdev_info i;
    static uint8_t b[512];
    check_int(bdev_read(d, 0, b, 512), 0);
    bdev_get_info(d, &i);
    check(i.known_zero);
    check_int(bdev_write(d, 0, b, 512, 0), 0);
    bdev_get_info(d, &i);
    check(!i.known_zero);
    down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_data_is_read_back),
        cmocka_unit_test(wrong_requests_never_reach_the_driver),
        cmocka_unit_test(read_claim_cannot_write),
        cmocka_unit_test(completion_never_reenters_the_submitter),
        cmocka_unit_test(fua_is_emulated_by_a_flush),
        cmocka_unit_test(fua_costs_nothing_without_a_write_cache),
        cmocka_unit_test(failed_flush_is_never_retried_to_success),
        cmocka_unit_test(failed_fua_latches_too),
        cmocka_unit_test(redundant_devices_judge_for_themselves),
        cmocka_unit_test(long_and_crossing_requests_are_split),
        cmocka_unit_test(error_of_a_piece_ends_the_whole_with_its_place),
        cmocka_unit_test(misaligned_data_is_bounced),
        cmocka_unit_test(zeroes_are_written_where_there_is_no_better_way),
        cmocka_unit_test(driver_may_find_out_late_that_it_cannot_zero),
        cmocka_unit_test(extents_default_to_allocated),
        cmocka_unit_test(compare_and_write_writes_only_on_a_match),
        cmocka_unit_test(compare_and_write_over_a_boundary_is_all_or_nothing),
        cmocka_unit_test(compare_and_write_is_atomic_over_reactors),
        cmocka_unit_test(copy_moves_data_between_devices),
        cmocka_unit_test(iovec_helpers_see_through_skips_and_splits),
        cmocka_unit_test(fresh_device_is_known_zero_until_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
