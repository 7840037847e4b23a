/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Members that keep lists of bad blocks, as those that Linux has made do. */
#include "arrays.h"

#include <linux/types.h>

#include <linux/raid/md_p.h>

#include "base/buf.h"

enum {
    LIST_AT = 32, /* sectors from the superblock */
    LIST = 4096,
    MEMBER = 3 << 20,
    K = 1024,
};

static struct err e;
static uint8_t want[4 * MEMBER], junk[64 * K];
static uint64_t size;

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

struct bad {
    uint64_t offset, length; /* bytes of data */
};

/* The member is free: it has a list from now on, and what stands at these places is junk. */
static void keep_list(unsigned i, const struct bad *bad, unsigned n)
{
    uint8_t list[LIST];
    struct wr w = wr_make(list, sizeof list);
    struct md_super sb = super_of(i);
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
    memset(list, 0xff, sizeof list);
    memset(junk, 0xee, sizeof junk);
    for (unsigned k = 0; k < n; k++) {
        wr_le64(&w, (DATA + bad[k].offset) / 512 << 10 | bad[k].length / 512);
        check_int(bdev_write(d, DATA + bad[k].offset, junk, bad[k].length, 0), 0);
    }
    check_int(bdev_write(d, MD_SUPER_OFFSET + LIST_AT * 512, list, sizeof list, 0), 0);
    bdev_close(&d);
    sb.bblog_offset = LIST_AT;
    sb.bblog_size = LIST / 512;
    if (n)
        sb.features |= MD_FEATURE_BAD_BLOCKS;
    put_super(i, &sb);
}

/* Sectors on the list that stands on a free member. */
static uint64_t listed(unsigned i)
{
    struct md_super sb = super_of(i);
    uint8_t list[LIST];
    struct rd r = rd_make(list, sizeof list);
    uint64_t sum = 0;
    if (!(sb.features & MD_FEATURE_BAD_BLOCKS))
        return 0;
    struct bdev_desc *d = open_device(name_of("d", i), CLAIM_READ);
    check_int(bdev_read(d, (sb.super_offset + (uint64_t)sb.bblog_offset) * 512, list, sizeof list),
              0);
    bdev_close(&d);
    for (uint64_t v = rd_le64(&r); v != UINT64_MAX && !r.bad; v = rd_le64(&r))
        sum += v & 1023;
    return sum;
}

/* An array full of data, stopped, whose members keep empty lists. */
static void make(const char *level, unsigned n)
{
    make_members(n, "4M");
    must(create(level, n, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    size = bdev_size(d);
    fill_pattern(want, size, 7);
    check_int(bdev_write(d, 0, want, size, 0), 0);
    bdev_close(&d);
    stop();
    for (unsigned i = 0; i < n; i++)
        keep_list(i, NULL, 0);
}

static void change(uint64_t offset, size_t len, unsigned seed)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(want + offset, len, seed);
    check_int(bdev_write(d, offset, want + offset, len, seed % 2 ? BIO_FUA : 0), 0);
    check_int(bdev_flush(d), 0);
    bdev_close(&d);
}

static uint64_t bad_of(unsigned slot)
{
    struct raid_info info = info_of("a");
    for (unsigned i = 0; i < info.member_count; i++)
        if (info.member[i].slot == (int)slot)
            return info.member[i].bad;
    return UINT64_MAX;
}

static const struct {
    const char *level;
    unsigned n;
} rows[] = {{"raid1", 2}, {"raid10", 3}, {"raid5", 3}, {"raid6", 4}};
#define for_each_row(r) for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++)

HARNESS_TEST(what_is_on_a_list_is_not_read)
{
    static const struct bad bad[] = {{0, 4 * K}, {200 * K, 512}, {1 << 20, 64 * K}};
    for_each_row(r)
    {
        make(rows[r].level, rows[r].n);
        keep_list(0, bad, 3);
        must(assemble(false, &e), &e);
        check_int(bad_of(0), 8 + 1 + 128);
        for (unsigned i = 0; i < 3; i++)
            check(array_holds(want));
        check_int(info_of("a").missing, 0);
        stop();
        check_int(listed(0), 8 + 1 + 128);
        remove_members(rows[r].n);
    }
}

/* No member has the whole of a long request, but each place has one that has it. */
HARNESS_TEST(what_no_member_has_whole_is_put_together)
{
    static const struct bad one[] = {{8 * K, 512}, {96 * K, 32 * K}}, two[] = {{9 * K, 3 * K}};
    for_each_row(r)
    {
        make(rows[r].level, rows[r].n);
        keep_list(0, one, 2);
        keep_list(1, two, 1);
        must(assemble(false, &e), &e);
        check(array_holds(want));
        stop();
        remove_members(rows[r].n);
    }
}

static void read_at(uint64_t at, size_t len)
{
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    check_int(bdev_read(d, at, junk, len), 0);
    check(!memcmp(junk, want + at, len));
    bdev_close(&d);
}

/* After a crash copies differ until the resync comes by: what a client reads of one stays, however
 * long its requests are. The first one has a bad block beside it. */
HARNESS_TEST(what_was_read_of_copies_that_differ_stays)
{
    static const struct bad bad[] = {{4 * K, 512}};
    for (unsigned r = 0; r < 2; r++) {
        make(rows[r].level, rows[r].n);
        keep_list(0, bad, 1);
        for (unsigned i = 0; i < rows[r].n; i++) {
            struct md_super sb = super_of(i);
            sb.resync_offset = 0;
            put_super(i, &sb);
        }
        struct bdev_desc *d = open_device("d1", CLAIM_EXCLUSIVE);
        check_int(bdev_write(d, DATA + 8 * K, junk, 512, 0), 0);
        check_int(bdev_write(d, DATA + 4 * K + 512, junk, 512, 0), 0);
        bdev_close(&d);
        rules(1, "write:hold:offset=1M-4M");
        must(assemble(false, &e), &e);
        until(fault_held(fault_dev(1)));
        read_at(8 * K, 4 * K);
        read_at(4 * K + 512, 512);
        read_at(0, 64 * K);
        rules(1, "");
        fault_release(fault_dev(1));
        wait_idle();
        check(array_holds(want));
        stop();
        remove_members(rows[r].n);
    }
}

HARNESS_TEST(a_write_that_succeeds_takes_a_place_off_the_list)
{
    static const struct bad bad[] = {{0, 64 * K}, {512 * K, 4 * K}};
    for_each_row(r)
    {
        make(rows[r].level, rows[r].n);
        for (unsigned i = 0; i < rows[r].n; i++)
            if (i == 1)
                keep_list(i, bad, 2);
        must(assemble(false, &e), &e);
        for (uint64_t at = 0; at < size; at += 64 * K)
            change(at, size - at < 64 * K ? size - at : 64 * K, (unsigned)(at / K));
        check_int(bad_of(1), 0);
        check(array_holds(want));
        stop();
        check_int(listed(1), 0);
        rules(0, "read:error=EIO:offset=1M-4M"); /* the others have to do */
        must(assemble(false, &e), &e);
        check(array_holds(want));
        rules(0, "");
        stop();
        remove_members(rows[r].n);
    }
}

/* Had the member list and superblock with its mark when the write was acknowledged? */
static bool told(unsigned i, uint64_t acked)
{
    bool list = false, mark = false;
    for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++) {
        const struct fault_entry *x = fault_record_get(fault_dev(i), k);
        struct md_super sb;
        if (x->op != BIO_WRITE || x->error || !x->completed || x->completed > acked)
            continue;
        list = list || (x->offset == MD_SUPER_OFFSET + LIST_AT * 512 && x->flags & BIO_FUA);
        if (x->offset == MD_SUPER_OFFSET && !md_super_read(&sb, x->data, &e))
            mark = mark || (list && sb.features & MD_FEATURE_BAD_BLOCKS);
    }
    return mark;
}

HARNESS_TEST(a_write_that_fails_is_recorded_before_it_is_acknowledged)
{
    for_each_row(r)
    {
        make(rows[r].level, rows[r].n);
        must(assemble(false, &e), &e);
        rules(1, "write:error=EIO:offset=1048576-1114111"); /* the first chunk */
        fault_record_start(fault_dev(1));
        uint64_t acked = 0;
        for (uint64_t at = 0; at < 512 * K; at += 4 * K) {
            change(at, 4 * K, (unsigned)(at / K / 4));
            acked = acked || !bad_of(1) ? acked : fault_record_now(fault_dev(1));
        }
        check_int(info_of("a").missing, 0);
        check(bad_of(1));
        check(array_holds(want));
        fault_record_stop(fault_dev(1));
        check(told(1, acked));
        stop();
        check(listed(1));
        rules(1, "read:error=EIO:offset=1048576-1114111");
        must(assemble(false, &e), &e);
        check(array_holds(want));
        rules(1, "");
        stop();
        remove_members(rows[r].n);
    }
}

HARNESS_TEST(a_write_over_bad_places_of_two_members_succeeds)
{
    for_each_row(r)
    {
        make(rows[r].level, rows[r].n);
        must(assemble(false, &e), &e);
        rules(0, "write:error=EIO:offset=1052672-1056767"); /* 4 KiB from the start of data */
        rules(1, "write:error=EIO:offset=1064960-1069055"); /* 16 KiB */
        change(0, 128 * K, 3);
        check_int(info_of("a").missing, 0);
        check(bad_of(0) == 8 && bad_of(1) == 8);
        check(array_holds(want));
        change(0, 128 * K, 4); /* they are on the lists by now */
        change(512, 96 * K, 5);
        check_int(info_of("a").missing, 0);
        check(bad_of(0) == 8 && bad_of(1) == 8);
        check(array_holds(want));
        stop();
        rules(0, "");
        rules(1, "");
        remove_members(rows[r].n);
    }
}

HARNESS_TEST(a_repair_empties_the_list)
{
    static const struct bad bad[] = {{0, 4 * K}, {300 * K, 12 * K}};
    for_each_row(r)
    {
        make(rows[r].level, rows[r].n);
        keep_list(1, bad, 2);
        must(assemble(false, &e), &e);
        must(raid_scrub("a", true, NULL, &e), &e);
        wait_idle();
        for (unsigned i = 0; i < 12000 && bad_of(1); i++)
            task_sleep_us(5000);
        check_int(bad_of(1), 0);
        check(array_holds(want));
        stop();
        remove_members(rows[r].n);
    }
}

HARNESS_TEST(what_nobody_has_is_bad_on_the_new_member_too)
{
    static const struct bad bad[] = {{256 * K, 4 * K}};
    for_each_row(r)
    {
        unsigned n = rows[r].n;
        if (!strcmp(rows[r].level, "raid6"))
            continue;
        make(rows[r].level, n);
        keep_list(0, bad, 1);
        make_member(n, "4M");
        must(assemble(false, &e), &e);
        must(raid_remove_member("a", "d1", true, &e), &e);
        must(raid_add_member("a", name_of("d", n), true, &e), &e);
        wait_idle();
        check_int(info_of("a").missing, 0);
        bool shared = strcmp(rows[r].level, "raid10") != 0 || bad_of(1);
        check(!shared || bad_of(1) == 8);
        check_int(bad_of(0), 8);
        struct bdev_desc *d = open_device("a", CLAIM_READ);
        unsigned lost = 0;
        for (uint64_t at = 0; at < size; at += 4 * K) {
            int error = bdev_read(d, at, junk, 4 * K);
            check(error == -EIO || (!error && !memcmp(junk, want + at, 4 * K)));
            lost += error == -EIO;
        }
        bdev_close(&d);
        check(lost <= 2 && (lost || !shared));
        stop();
        remove_members(n + 1);
    }
}

HARNESS_TEST(with_a_full_list_the_member_goes)
{
    struct bad bad[512];
    for (unsigned i = 0; i < 512; i++)
        bad[i] = (struct bad){i * 1024, 512};
    make("raid1", 2);
    keep_list(1, bad, 512);
    must(assemble(false, &e), &e);
    check_int(bad_of(1), 512);
    rules(1, "write:error=EIO:offset=2M-4M");
    change(1536 * K, 4 * K, 3);
    check_int(info_of("a").missing, 1);
    check(array_holds(want));
    rules(1, "");
    stop();
    remove_members(2);
}

HARNESS_TEST(a_list_that_cannot_be_is_refused)
{
    make("raid1", 2);
    struct md_super sb = super_of(1);
    sb.features |= MD_FEATURE_BAD_BLOCKS;
    sb.bblog_offset = DATA / 512;
    put_super(1, &sb);
    check_int(assemble(true, &e), -1);
    sb.bblog_offset = LIST_AT;
    put_super(1, &sb);
    struct bdev_desc *d = open_device("d1", CLAIM_EXCLUSIVE);
    memset(junk, 0, LIST); /* entries of no length */
    check_int(bdev_write(d, MD_SUPER_OFFSET + LIST_AT * 512, junk, LIST, 0), 0);
    bdev_close(&d);
    check_int(assemble(false, &e), -1);
    check(strstr(e.msg, "bad blocks"));
    remove_members(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_on_a_list_is_not_read),
        cmocka_unit_test(what_no_member_has_whole_is_put_together),
        cmocka_unit_test(what_was_read_of_copies_that_differ_stays),
        cmocka_unit_test(a_write_that_succeeds_takes_a_place_off_the_list),
        cmocka_unit_test(a_write_that_fails_is_recorded_before_it_is_acknowledged),
        cmocka_unit_test(a_write_over_bad_places_of_two_members_succeeds),
        cmocka_unit_test(a_repair_empties_the_list),
        cmocka_unit_test(what_nobody_has_is_bad_on_the_new_member_too),
        cmocka_unit_test(with_a_full_list_the_member_goes),
        cmocka_unit_test(a_list_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
