/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ranges that are not of whole blocks: any byte may be the first or the last. */
#include "testdev.h"

static struct testdev *t;
static struct bdev_desc *d;

enum { B = 4096 };

static void open_dev(void)
{
    testdev_add(t);
    d = testdev_open("t", CLAIM_SHARED_WRITE);
}

/* A device of 4 KiB blocks that has `more` ops besides the basic ones. */
static void up(uint32_t more)
{
    t = testdev_new("t");
    t->bdev.block_size = B;
    t->bdev.native |= more;
    t->bdev.discard_gran = B;
    open_dev();
    memset(t->data, 0xee, TESTDEV_SIZE);
}

static void down(void)
{
    bdev_drain_close(&d);
    bdev_unregister(&t->bdev);
}

static int op(enum bio_op o, uint64_t offset, uint64_t length, unsigned flags)
{
    struct bio bio;
    bio_init(&bio, d, o, offset, length, NULL, NULL);
    bio.flags = (uint8_t)flags;
    return bio_wait(&bio);
}

static int zero(uint64_t offset, uint64_t length, unsigned flags)
{
    return op(BIO_WRITE_ZEROES, offset, length, flags);
}

static void check_zeroed(uint64_t offset, uint64_t length)
{
    for (uint64_t i = 0; i < TESTDEV_SIZE; i++)
        check_int(t->data[i], i >= offset && i < offset + length ? 0 : 0xee);
}

/* Entry i of the driver's log. */
static void check_log(unsigned i, enum bio_op o, uint64_t offset, uint64_t length, unsigned flags)
{
    check(i < t->log_count);
    check_int(t->log[i].op, o);
    check_int(t->log[i].offset, offset);
    check_int(t->log[i].length, length);
    check_int(t->log[i].flags, flags);
}

enum { ZERO = 1u << BIO_WRITE_ZEROES };

HARNESS_TEST(odd_zeroes_use_the_devices_own_way_for_the_blocks_inside)
{
    up(ZERO);
    check_int(zero(100, 3 << 20, 0), 0);
    check_zeroed(100, 3 << 20);
    check_int(t->log_count, 5);
    check_log(0, BIO_WRITE_ZEROES, B, (3 << 20) - B, 0);
    check_log(1, BIO_READ, 0, B, 0);
    check_log(2, BIO_READ, 3 << 20, B, 0);
    check_log(3, BIO_WRITE, 0, B, 0);
    check_log(4, BIO_WRITE, 3 << 20, B, 0);
    down();
}

HARNESS_TEST(zeroes_that_are_odd_at_one_end_touch_one_block_more)
{
    up(ZERO);
    check_int(zero(2 * B, B + 1, 0), 0);
    check_zeroed(2 * B, B + 1);
    check_int(t->log_count, 3);
    check_log(0, BIO_WRITE_ZEROES, 2 * B, B, 0);
    check_log(1, BIO_READ, 3 * B, B, 0);
    memset(t->data, 0xee, TESTDEV_SIZE);
    t->log_count = 0;
    check_int(zero(2 * B - 1, B + 1, 0), 0);
    check_zeroed(2 * B - 1, B + 1);
    check_int(t->log_count, 3);
    check_log(0, BIO_WRITE_ZEROES, 2 * B, B, 0);
    check_log(1, BIO_READ, B, B, 0);
    down();
}

HARNESS_TEST(zeroes_without_a_whole_block_are_one_read_and_one_write)
{
    up(ZERO);
    check_int(zero(B - 10, 20, 0), 0);
    check_zeroed(B - 10, 20);
    check_int(t->log_count, 2);
    check_log(0, BIO_READ, 0, 2 * B, 0);
    check_log(1, BIO_WRITE, 0, 2 * B, 0);
    down();
}

HARNESS_TEST(odd_zeroes_keep_the_limits_of_the_device)
{
    t = testdev_new("t");
    t->bdev.native |= ZERO;
    t->bdev.max_extent_io = 1 << 20;
    t->bdev.boundary = 128 << 10;
    open_dev();
    memset(t->data, 0xee, TESTDEV_SIZE);
    check_int(zero(100, 3 << 20, 0), 0);
    check_zeroed(100, 3 << 20);
    for (unsigned i = 0; i < t->log_count; i++)
        check_int(t->log[i].offset >> 17, (t->log[i].offset + t->log[i].length - 1) >> 17);
    down();
}

HARNESS_TEST(odd_zeroes_are_written_where_the_device_has_or_finds_no_other_way)
{
    for (int late = 0; late < 2; late++) {
        up(late ? ZERO : 0);
        t->fail[BIO_WRITE_ZEROES] = -EOPNOTSUPP;
        check_int(zero(100, 3 << 20, BIO_FUA), 0);
        check_zeroed(100, 3 << 20);
        for (unsigned i = 0; i < t->log_count; i++) {
            if (t->log[i].op == BIO_WRITE)
                check_int(t->log[i].flags, BIO_FUA);
        }
        down();
    }
}

HARNESS_TEST(flags_of_odd_zeroes_reach_the_device)
{
    up(ZERO);
    check_int(zero(100, 2 * B, BIO_FUA | BIO_NO_UNMAP), 0);
    check_log(0, BIO_WRITE_ZEROES, B, B, BIO_FUA | BIO_NO_UNMAP);
    check_log(1, BIO_READ, 0, B, 0);
    check_log(3, BIO_WRITE, 0, B, BIO_FUA);
    check_log(4, BIO_WRITE, 2 * B, B, BIO_FUA);
    down();
}

HARNESS_TEST(fua_of_odd_zeroes_is_one_flush_behind_everything)
{
    t = testdev_new("t");
    t->bdev.native |= ZERO;
    t->bdev.native_fua = false;
    open_dev();
    check_int(zero(100, 3 << 20, BIO_FUA), 0);
    check_int(t->log_count, 6);
    for (unsigned i = 0; i < 5; i++)
        check(t->log[i].op != BIO_FLUSH && !t->log[i].flags);
    check_int(t->log[5].op, BIO_FLUSH);
    t->fail[BIO_FLUSH] = -EIO;
    check_int(zero(100, 3 << 20, BIO_FUA), -EIO);
    down();
}

HARNESS_TEST(fast_zeroes_are_refused_before_anything_is_changed)
{
    up(ZERO);
    check_int(zero(100, 2 * B, BIO_FAST_ZERO), 0);
    check_zeroed(100, 2 * B);
    t->log_count = 0;
    check_int(zero(100, B, BIO_FAST_ZERO), -EOPNOTSUPP); /* no whole block inside */
    check_int(t->log_count, 0);
    memset(t->data, 0xee, TESTDEV_SIZE);
    t->fail[BIO_WRITE_ZEROES] = -EOPNOTSUPP;
    check_int(zero(100, 2 * B, BIO_FAST_ZERO), -EOPNOTSUPP);
    check_int(t->log_count, 1);
    check_zeroed(0, 0);
    down();
    up(0);
    check_int(zero(100, 2 * B, BIO_FAST_ZERO), -EOPNOTSUPP);
    check_int(t->log_count, 0);
    down();
}

HARNESS_TEST(an_error_inside_leaves_the_ends_alone)
{
    up(ZERO);
    t->fail[BIO_WRITE_ZEROES] = -EIO;
    check_int(zero(100, 4 * B, 0), -EIO);
    check_int(t->log_count, 1);
    down();
}

HARNESS_TEST(zeroes_end_when_not_even_writing_is_possible)
{
    for (unsigned native = 0; native < 2; native++) {
        up(native ? ZERO : 0);
        t->fail[BIO_WRITE] = -EOPNOTSUPP;
        check_int(zero(100, 4 * B, 0), -EIO);
        check(!memcmp(t->data, t->data + 1, 99) && t->data[0] == 0xee);
        t->fail[BIO_WRITE_ZEROES] = -EOPNOTSUPP;
        check_int(zero(0, 4 * B, 0), -EIO);
        down();
    }
}

/* Each driver operation is a place where the power may go: what was not asked for stays, what was
 * is old or zero, and success comes only after the last of them. */
HARNESS_TEST(power_cut_anywhere_in_odd_zeroes_harms_nothing_around_them)
{
    uint64_t from = B + 100, length = 5 * B;
    for (unsigned cut = 0;; cut++) {
        up(ZERO);
        t->fail_from = cut + 1;
        int rc = zero(from, length, BIO_FUA);
        for (uint64_t i = 0; i < TESTDEV_SIZE; i++) {
            if (i < from || i >= from + length)
                check_int(t->data[i], 0xee);
            else
                check(!t->data[i] || (rc && t->data[i] == 0xee));
        }
        check(rc == 0 || rc == -EIO);
        check_int(rc == 0, cut >= 5);
        down();
        if (!rc)
            break;
    }
}

static void zero_own_bytes(void *arg)
{
    (void)arg;
    /* Two blocks inside, and neighbours' bytes in the blocks at both ends. */
    for (unsigned i = 0; i < 30; i++) {
        uint64_t at = i * 16 * B, k = reactor_self_index();
        uint8_t v = (uint8_t)(1 + k);
        if (k == 2)
            check_int(zero(at + 100, 3 * B, i % 2 ? BIO_FUA : 0), 0);
        else
            check_int(bdev_write(d, at + (k ? 3 * B + 100 : 99), &v, 1, 0), 0);
    }
}

HARNESS_TEST(neighbours_in_the_blocks_at_the_ends_all_stay)
{
    up(ZERO);
    task_call_all(zero_own_bytes, NULL);
    for (unsigned i = 0; i < 30; i++) {
        const uint8_t *p = t->data + i * 16 * B;
        check_int(p[99], 1);
        check_int(p[3 * B + 100], 2);
        check_int(p[98], 0xee);
        check_int(p[3 * B + 101], 0xee);
        for (unsigned j = 100; j < 3 * B + 100; j++)
            check_int(p[j], 0);
    }
    down();
}

HARNESS_TEST(long_odd_discards_and_questions_are_as_few_as_even_ones)
{
    up(1u << BIO_DISCARD | 1u << BIO_EXTENTS | 1u << BIO_PREFETCH);
    check_int(op(BIO_DISCARD, 100, 3 << 20, 0), 0);
    check_int(t->log_count, 1);
    check_log(0, BIO_DISCARD, B, (3 << 20) - B, 0);
    check_int(op(BIO_PREFETCH, 100, 3 << 20, 0), 0);
    check_log(1, BIO_PREFETCH, 0, (3 << 20) + B, 0);
    struct extent list[2];
    struct bio_extents ext = {.list = list, .max = 2};
    struct bio bio;
    bio_init(&bio, d, BIO_EXTENTS, 100, 3 << 20, NULL, NULL);
    bio.extents = &ext;
    check_int(bio_wait(&bio), 0);
    check_int(list[0].length, 3 << 20);
    check_int(t->log_count, 3);
    down();
}

HARNESS_TEST(byte_ranges_read_modify_and_write_whole_blocks)
{
    t = testdev_new("t");
    t->bdev.block_size = 4096;
    t->bdev.mem_align = 4096;
    open_dev();
    static uint8_t model[1 << 20], buf[1 << 20];
    fill(model, sizeof model, 8);
    memcpy(t->data, model, sizeof model);
    unsigned seed = 7;
    for (int i = 0; i < 300; i++) {
        seed = seed * 1103515245u + 12345u;
        uint64_t at = (seed >> 4) % 900000;
        seed = seed * 1103515245u + 12345u;
        uint64_t n = 1 + (seed >> 8) % (i % 10 ? 9000 : 100000);
        switch (i % 3) {
        case 0:
            fill(buf, n, seed);
            memcpy(model + at, buf, n);
            check_int(bdev_write(d, at, buf, n, i % 2 ? BIO_FUA : 0), 0);
            break;
        case 1:
            memset(model + at, 0, n);
            check_int(zero(at, n, 0), 0);
            break;
        default: check_int(bdev_read(d, at, buf, n), 0); check(!memcmp(buf, model + at, n));
        }
    }
    check(!memcmp(t->data, model, sizeof model));
    for (unsigned i = 0; i < t->log_count && i < TESTDEV_LOG; i++)
        check_int((t->log[i].offset | t->log[i].length) % 4096, 0);
    down();
}

static void write_own_bytes(void *arg)
{
    (void)arg;
    uint8_t v = (uint8_t)(1 + reactor_self_index());
    for (int i = 0; i < 100; i++) {
        uint64_t at = 3u * (unsigned)i + reactor_self_index(); /* neighbours in the same blocks */
        check_int(bdev_write(d, at, &v, 1, 0), 0);
    }
}

HARNESS_TEST(bytes_of_one_block_written_on_several_reactors_all_stay)
{
    up(0);
    task_call_all(write_own_bytes, NULL);
    for (unsigned i = 0; i < 300; i++)
        check_int(t->data[i], 1 + i % 3);
    down();
}

HARNESS_TEST(odd_discard_shrinks_and_odd_extents_are_trimmed)
{
    t = testdev_new("t");
    t->bdev.native |= 1u << BIO_DISCARD | 1u << BIO_EXTENTS;
    t->bdev.discard_gran = 512;
    open_dev();
    memset(t->data, 0xee, TESTDEV_SIZE);
    check_int(op(BIO_DISCARD, 100, 1024, 0), 0);
    check(t->data[511] == 0xee && !t->data[512] && !t->data[1023] && t->data[1024] == 0xee);
    check_int(op(BIO_DISCARD, 2049, 510, 0), 0); /* no whole block: nothing to do */
    check_int(t->log_count, 1);
    struct extent list[2];
    struct bio_extents ext = {.list = list, .max = 2};
    struct bio bio;
    bio_init(&bio, d, BIO_EXTENTS, 700, 1000, NULL, NULL);
    bio.extents = &ext;
    check_int(bio_wait(&bio), 0);
    check_int(ext.count, 1);
    check_int(list[0].length, 1000);
    check_int(list[0].flags, EXTENT_HOLE);
    down();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_zeroes_use_the_devices_own_way_for_the_blocks_inside),
        cmocka_unit_test(zeroes_that_are_odd_at_one_end_touch_one_block_more),
        cmocka_unit_test(zeroes_without_a_whole_block_are_one_read_and_one_write),
        cmocka_unit_test(odd_zeroes_keep_the_limits_of_the_device),
        cmocka_unit_test(odd_zeroes_are_written_where_the_device_has_or_finds_no_other_way),
        cmocka_unit_test(flags_of_odd_zeroes_reach_the_device),
        cmocka_unit_test(fua_of_odd_zeroes_is_one_flush_behind_everything),
        cmocka_unit_test(fast_zeroes_are_refused_before_anything_is_changed),
        cmocka_unit_test(an_error_inside_leaves_the_ends_alone),
        cmocka_unit_test(zeroes_end_when_not_even_writing_is_possible),
        cmocka_unit_test(power_cut_anywhere_in_odd_zeroes_harms_nothing_around_them),
        cmocka_unit_test(neighbours_in_the_blocks_at_the_ends_all_stay),
        cmocka_unit_test(long_odd_discards_and_questions_are_as_few_as_even_ones),
        cmocka_unit_test(byte_ranges_read_modify_and_write_whole_blocks),
        cmocka_unit_test(bytes_of_one_block_written_on_several_reactors_all_stay),
        cmocka_unit_test(odd_discard_shrinks_and_odd_extents_are_trimmed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
