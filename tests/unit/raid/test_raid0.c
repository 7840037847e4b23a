/* SPDX-License-Identifier: GPL-2.0-or-later */
/* raid0: where each byte lies, zones of unequal members, errors. */
#include "arrays.h"

static struct err e;

enum { CHUNK = 64 << 10 };

/* The rule of md's raid0, told a second time, row by row: row r has a chunk of each member that is
 * higher than r. In the original layout chunk c of the array is on the (c mod members of the row)th
 * of them, in the alternate one c counts from the first row that has the same members. */
static void where(const unsigned *chunks, unsigned n, bool alternate, uint64_t want,
                  unsigned *dev_r, uint64_t *row_r)
{
    uint64_t row_start = 0, zone_start = 0;
    unsigned before = 0;
    for (uint64_t row = 0;; row++) {
        unsigned tall[8], k = 0;
        for (unsigned i = 0; i < n; i++)
            if (chunks[i] > row)
                tall[k++] = i;
        check(k);
        if (k != before)
            zone_start = row_start;
        if (want < row_start + k) {
            *dev_r = tall[(want - (alternate ? zone_start : 0)) % k];
            *row_r = row;
            return;
        }
        row_start += k;
        before = k;
    }
}

static void compare_layout(const unsigned *mib, unsigned n, uint32_t layout)
{
    unsigned chunks[8], total = 0;
    char size[16];
    for (unsigned i = 0; i < n; i++) {
        snprintf(size, sizeof size, "%uM", mib[i]);
        make_member(i, size);
    }
    must(create("raid0", n, true, &e), &e);
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < n; i++) {
        struct md_super sb = super_of(i);
        check_int(sb.features, 0x1000);
        sb.layout = layout;
        put_super(i, &sb);
        chunks[i] = (unsigned)(sb.data_size * 512 / CHUNK);
        total += chunks[i];
    }
    must(assemble(false, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_size(d), (uint64_t)total * CHUNK);
    for (unsigned c = 0; c < total; c++) {
        uint64_t mark[64] = {c + 1};
        check_int(bdev_write(d, (uint64_t)c * CHUNK + 512, mark, 512, 0), 0);
    }
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    for (unsigned c = 0; c < total; c++) {
        unsigned dev;
        uint64_t row, got[64];
        where(chunks, n, layout == MD_RAID0_ALTERNATE, c, &dev, &row);
        member_data(dev, row * CHUNK + 512, got, 512);
        check_int(got[0], c + 1);
    }
    remove_members(n);
}

HARNESS_TEST(equal_members_are_striped_in_turn)
{
    compare_layout((unsigned[]){2, 2, 2}, 3, MD_RAID0_ORIGINAL);
}

HARNESS_TEST(unequal_members_have_zones_in_the_original_layout)
{
    compare_layout((unsigned[]){2, 4, 3}, 3, MD_RAID0_ORIGINAL);
}

HARNESS_TEST(unequal_members_have_zones_in_the_alternate_layout)
{
    compare_layout((unsigned[]){2, 4, 3, 3}, 4, MD_RAID0_ALTERNATE);
}

HARNESS_TEST(long_requests_cross_chunks_and_zones)
{
    make_member(0, "2M");
    make_member(1, "4M");
    must(create("raid0", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    uint64_t size = bdev_size(d);
    uint8_t *in = malloc(size), *out = malloc(size);
    fill_pattern(in, size, 4);
    check_int(bdev_write(d, 512, in, size - 1024, BIO_FUA), 0);
    check_int(bdev_read(d, 512, out, size - 1024), 0);
    check(!memcmp(in, out, size - 1024));
    check_int(bdev_flush(d), 0);
    check_int(do_op(d, BIO_DISCARD, CHUNK, size - 2 * CHUNK, 0), 0);
    check_int(bdev_read(d, CHUNK, out, CHUNK), 0);
    check(is_zero(out, CHUNK));
    free(in);
    free(out);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(2);
}

HARNESS_TEST(errors_go_up_and_nobody_is_kicked)
{
    make_members(2, "4M");
    must(create("raid0", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    uint8_t buf[4096] = {0};
    rules(1, "write:error=ENOSPC; flush:error=EIO:count=1");
    check_int(bdev_write(d, 0, buf, sizeof buf, 0), 0);
    check_int(bdev_write(d, CHUNK, buf, sizeof buf, 0), -ENOSPC);
    check_int(bdev_flush(d), -EIO);
    check_int(bdev_flush(d), -EIO); /* never good again by asking again */
    rules(1, "");
    check_int(info_of("a").state, RAID_CLEAN);
    check_int(raid_fail_member("a", "d0", false, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(2);
}

static void borrow(struct bio *bio, struct bdev_desc *d, uint64_t offset, struct iovec *iov)
{
    bio_init(bio, d, BIO_READ, offset, iov->iov_len, NULL, NULL);
    bio->flags = BIO_BORROW;
    bio_data(bio, iov, 1);
    check_int(bio_wait(bio), 0);
}

/* An array right on memory, which lends; fault devices do not pass that on. */
static struct bdev_desc *lender(const char *level, const uint8_t *in, size_t len)
{
    const char *members[] = {"m0", "m1"};
    struct raid_create c = {
        .name = "a", .level = level, .members = members, .member_count = 2, .chunk = CHUNK};
    device(&mem_driver, "m0", "size=4M");
    device(&mem_driver, "m1", "size=4M");
    must(raid_create(&c, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_write(d, 0, in, len, 0), 0);
    return d;
}

HARNESS_TEST(what_members_lend_is_lent_on)
{
    static const char *const levels[] = {"raid0", "linear"};
    static uint8_t in[4 * CHUNK], out[4096];
    struct bio bio;
    struct iovec iov = {out, sizeof out};
    fill_pattern(in, sizeof in, 6);
    for (unsigned i = 0; i < 2; i++) {
        struct bdev_desc *d = lender(levels[i], in, sizeof in);
        for (unsigned k = 0; k < 4; k++) {
            borrow(&bio, d, k * CHUNK + 8192, &iov);
            check(bio.lent && !memcmp(bio.lent, in + k * CHUNK + 8192, sizeof out));
        }
        check(is_zero(out, sizeof out));
        bdev_close(&d);
        must(raid_stop("a", &e), &e);
        remove_members(2);
    }
}

HARNESS_TEST(what_lies_on_two_members_is_copied)
{
    static uint8_t in[2 * CHUNK], out[4096];
    struct bio bio;
    struct iovec iov = {out, sizeof out};
    fill_pattern(in, sizeof in, 7);
    struct bdev_desc *d = lender("raid0", in, sizeof in);
    borrow(&bio, d, CHUNK - 2048, &iov);
    check(!bio.lent && !memcmp(out, in + CHUNK - 2048, sizeof out));
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(2);
}

HARNESS_TEST(a_member_with_a_time_out_is_copied_from)
{
    static uint8_t in[CHUNK], out[4096];
    struct bio bio;
    struct iovec iov = {out, sizeof out};
    struct raid_policy p;
    fill_pattern(in, sizeof in, 8);
    struct bdev_desc *d = lender("raid0", in, sizeof in);
    raid_policy_defaults(&p);
    p.timeout_ms = 60 * 1000;
    must(raid_set_policy("a", &p, NULL, 0, &e), &e);
    borrow(&bio, d, 8192, &iov);
    check(!bio.lent && !memcmp(out, in + 8192, sizeof out));
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(2);
}

static bool gone; /* main's */

static void unregister(void *arg)
{
    bdev_unregister(bdev_find(arg));
    gone = true;
}

HARNESS_TEST(memory_that_was_lent_stays_until_the_array_is_closed)
{
    static uint8_t in[CHUNK], out[4096];
    struct bio bio;
    struct iovec iov = {out, sizeof out};
    fill_pattern(in, sizeof in, 9);
    struct bdev_desc *d = lender("raid0", in, sizeof in);
    borrow(&bio, d, 8192, &iov);
    check(bio.lent);
    check_int(raid_remove_member("a", "m0", true, &e), -1);
    check_int(e.code, ERR_IN_USE);
    gone = false;
    task_start(reactor_main(), "unregister", unregister, (void *)(uintptr_t) "m0");
    until(info_of("a").state == RAID_FAILED);
    task_sleep_us(20 * 1000); /* it would be unmapped by now */
    check(!gone && !memcmp(bio.lent, in + 8192, sizeof out));
    bdev_close(&d);
    until(gone);
    must(raid_stop("a", &e), &e);
    remove_members(2);
}

HARNESS_TEST(without_a_member_it_does_not_start)
{
    make_members(2, "4M");
    must(create("raid0", 2, true, &e), &e);
    must(raid_stop("a", &e), &e);
    remove_device("d1");
    remove_device("m1");
    check_int(assemble(true, &e), -1);
    check_int(e.code, ERR_UNSUPPORTED);
    check(strstr(e.msg, "missing"));
    remove_members(2);
}

HARNESS_TEST(zones_without_a_layout_are_refused)
{
    make_member(0, "2M");
    make_member(1, "4M");
    must(create("raid0", 2, true, &e), &e);
    must(raid_stop("a", &e), &e);
    for (unsigned i = 0; i < 2; i++) {
        struct md_super sb = super_of(i);
        sb.features = 0;
        sb.layout = 0;
        put_super(i, &sb);
    }
    check_int(assemble(false, &e), -1);
    check(strstr(e.msg, "layout"));
    remove_members(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_members_are_striped_in_turn),
        cmocka_unit_test(unequal_members_have_zones_in_the_original_layout),
        cmocka_unit_test(unequal_members_have_zones_in_the_alternate_layout),
        cmocka_unit_test(long_requests_cross_chunks_and_zones),
        cmocka_unit_test(errors_go_up_and_nobody_is_kicked),
        cmocka_unit_test(what_members_lend_is_lent_on),
        cmocka_unit_test(what_lies_on_two_members_is_copied),
        cmocka_unit_test(a_member_with_a_time_out_is_copied_from),
        cmocka_unit_test(memory_that_was_lent_stays_until_the_array_is_closed),
        cmocka_unit_test(without_a_member_it_does_not_start),
        cmocka_unit_test(zones_without_a_layout_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
