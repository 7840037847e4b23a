/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "devices.h"

#include <errno.h>

HARNESS_TEST(null_reads_zeroes_and_forgets_writes)
{
    device(&null_driver, "n", "size=1M");
    struct bdev_desc *d = open_device("n", CLAIM_EXCLUSIVE);
    uint8_t buf[4096];
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 8192, buf, sizeof buf, 0), 0);
    check_int(bdev_read(d, 8192, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    check_int(bdev_flush(d), 0);
    bdev_close(&d);
    remove_device("n");
}

HARNESS_TEST(null_has_the_size_and_block_size_asked_for)
{
    device(&null_driver, "n", "size=1T,block_size=4096");
    struct bdev_info info;
    check(bdev_name_info("n", &info));
    check_int(info.size, 1ll << 40);
    check_int(info.block_size, 4096);
    check_int(strcmp(info.type, "null"), 0);
    remove_device("n");
}

HARNESS_TEST(geometry_that_does_not_fit_is_refused_by_field)
{
    struct bdev *b;
    struct err e = {0};
    check_int(try_device(&null_driver, "n", "block_size=1000", &b, &e), -1);
    check_int(strcmp(e.field, "block_size"), 0);
    check_int(try_device(&mem_driver, "n", "size=5000", &b, &e), -1);
    check_int(strcmp(e.field, "size"), 0);
    check(!bdev_find("n"));
}

HARNESS_TEST(mem_keeps_what_was_written)
{
    device(&mem_driver, "m", "size=1M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    uint8_t in[3 * 512], out[3 * 512];
    fill_pattern(in, sizeof in, 3);
    check_int(bdev_write(d, 512 * 7, in, sizeof in, BIO_FUA), 0);
    check_int(bdev_read(d, 512 * 7, out, sizeof out), 0);
    check(!memcmp(in, out, sizeof in));
    check_int(bdev_read(d, 0, out, 512), 0);
    check(is_zero(out, 512));
    check_int(bdev_read(d, 1 << 20, out, 512), -ENXIO);
    bdev_close(&d);
    remove_device("m");
}

HARNESS_TEST(mem_is_known_zero_until_the_first_write)
{
    device(&mem_driver, "m", "size=1M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    struct bdev_info info;
    uint8_t buf[512] = {1};
    bdev_get_info(d, &info);
    check(info.known_zero && info.discard_zeroes && !info.write_cache);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    bdev_get_info(d, &info);
    check(info.known_zero);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    bdev_get_info(d, &info);
    check(!info.known_zero);
    bdev_close(&d);
    remove_device("m");
}

static void read_borrowing(struct bio *bio, struct bdev_desc *d, struct iovec *iov)
{
    bio_init(bio, d, BIO_READ, 8192, iov->iov_len, NULL, NULL);
    bio->flags = BIO_BORROW;
    bio_data(bio, iov, 1);
    check_int(bio_wait(bio), 0);
}

HARNESS_TEST(mem_lends_its_memory_to_who_may_borrow)
{
    device(&mem_driver, "m", "size=1M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    uint8_t in[4096], out[4096] = {0};
    fill_pattern(in, sizeof in, 3);
    check_int(bdev_write(d, 8192, in, sizeof in, 0), 0);
    struct bio bio;
    read_borrowing(&bio, d, &(struct iovec){out, sizeof out});
    check(bio.lent && !memcmp(bio.lent, in, sizeof in));
    check(is_zero(out, sizeof out));
    fill_pattern(in, sizeof in, 4); /* it is the medium that is lent, not a copy */
    check_int(bdev_write(d, 8192, in, sizeof in, 0), 0);
    check(!memcmp(bio.lent, in, sizeof in));
    check_int(bdev_read(d, 8192, out, sizeof out), 0);
    check(!memcmp(out, in, sizeof in));
    bdev_close(&d);
    remove_device("m");
}

HARNESS_TEST(what_lies_between_does_not_borrow_for_others)
{
    device(&mem_driver, "m", "size=1M");
    device(&fault_driver, "f", "on=m");
    struct bdev_desc *d = open_device("f", CLAIM_EXCLUSIVE);
    uint8_t in[4096], out[4096];
    fill_pattern(in, sizeof in, 3);
    check_int(bdev_write(d, 8192, in, sizeof in, 0), 0);
    struct bio bio;
    read_borrowing(&bio, d, &(struct iovec){out, sizeof out});
    check(!bio.lent && !memcmp(out, in, sizeof in));
    read_borrowing(&bio, d, &(struct iovec){out, 100}); /* not whole blocks */
    check(!bio.lent && !memcmp(out, in, 100));
    bdev_close(&d);
    remove_device("f");
    remove_device("m");
}

static void check_run(const struct extent *x, uint64_t length, bool hole)
{
    check_int(x->length, length);
    check_int(x->flags, hole ? EXTENT_HOLE | EXTENT_ZERO : 0);
}

HARNESS_TEST(mem_extents_show_written_pages)
{
    device(&mem_driver, "m", "size=8M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    static uint8_t buf[1 << 20];
    struct extent x[8];
    check_int(get_extents(d, 0, 8 << 20, x, 8), 1);
    check_run(x, 8 << 20, true);
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 1 << 20, buf, sizeof buf, 0), 0);
    check_int(bdev_write(d, (4 << 20) + 512, buf, 512, 0), 0);
    check_int(get_extents(d, 0, 8 << 20, x, 8), 5);
    check_run(&x[0], 1 << 20, true);
    check_run(&x[1], 1 << 20, false);
    check_run(&x[2], 2 << 20, true);
    check_run(&x[3], 4096, false);
    check_run(&x[4], (4 << 20) - 4096, true);
    check_int(get_extents(d, 0, 8 << 20, x, 2), 2);
    bdev_close(&d);
    remove_device("m");
}

HARNESS_TEST(mem_discard_frees_whole_pages_and_zeroes_the_ends)
{
    device(&mem_driver, "m", "size=1M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    static uint8_t buf[64 << 10], out[64 << 10];
    struct extent x[4];
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    check_int(do_op(d, BIO_DISCARD, 512, 12288, 0), 0);
    check_int(bdev_read(d, 0, out, sizeof out), 0);
    check(!memcmp(out, buf, 512));
    check(is_zero(out + 512, 12288));
    check(!memcmp(out + 12800, buf + 12800, sizeof buf - 12800));
    check_int(get_extents(d, 0, sizeof buf, x, 4), 3);
    check_run(&x[0], 4096, false);
    check_run(&x[1], 8192, true);
    check_int(do_op(d, BIO_DISCARD, 20480 + 512, 1024, 0), 0); /* within one page */
    check_int(bdev_read(d, 20480, out, 4096), 0);
    check(!memcmp(out, buf + 20480, 512) && is_zero(out + 512, 1024) &&
          !memcmp(out + 1536, buf + 20480 + 1536, 4096 - 1536));
    bdev_close(&d);
    remove_device("m");
}

HARNESS_TEST(mem_write_zeroes_keeps_pages_only_when_told_to)
{
    device(&mem_driver, "m", "size=1M");
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    static uint8_t buf[64 << 10];
    struct extent x[4];
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 0, 32768, BIO_NO_UNMAP), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 32768, 32768, BIO_FAST_ZERO), 0);
    check_int(get_extents(d, 0, 65536, x, 4), 2);
    check_run(&x[0], 32768, false);
    check_run(&x[1], 32768, true);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    bdev_close(&d);
    remove_device("m");
}

HARNESS_TEST(mem_with_a_tail_of_less_than_a_page_can_be_discarded_whole)
{
    device(&mem_driver, "m", "size=9728"); /* 2 pages and 3 blocks */
    struct bdev_desc *d = open_device("m", CLAIM_EXCLUSIVE);
    uint8_t buf[9728];
    struct extent x[4];
    fill_pattern(buf, sizeof buf, 1);
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    check_int(do_op(d, BIO_DISCARD, 0, 9728, 0), 0);
    check_int(get_extents(d, 0, 9728, x, 4), 1);
    check_run(&x[0], 9728, true);
    check_int(bdev_read(d, 0, buf, sizeof buf), 0);
    check(is_zero(buf, sizeof buf));
    bdev_close(&d);
    remove_device("m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_reads_zeroes_and_forgets_writes),
        cmocka_unit_test(null_has_the_size_and_block_size_asked_for),
        cmocka_unit_test(geometry_that_does_not_fit_is_refused_by_field),
        cmocka_unit_test(mem_keeps_what_was_written),
        cmocka_unit_test(mem_is_known_zero_until_the_first_write),
        cmocka_unit_test(mem_lends_its_memory_to_who_may_borrow),
        cmocka_unit_test(what_lies_between_does_not_borrow_for_others),
        cmocka_unit_test(mem_extents_show_written_pages),
        cmocka_unit_test(mem_discard_frees_whole_pages_and_zeroes_the_ends),
        cmocka_unit_test(mem_write_zeroes_keeps_pages_only_when_told_to),
        cmocka_unit_test(mem_with_a_tail_of_less_than_a_page_can_be_discarded_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
