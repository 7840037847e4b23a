/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resync and rebuild go on after a power cut where they were. A place on the new member that lies
 * before the recorded one is spoilt between the cut and the restart: it is found as it is when
 * nobody has copied it again.
 */
#include "arrays.h"

#include "block/event.h"

enum { STOP_AT = 8 << 20, SPOILT = 64 << 10, OLD = 12 << 20, BLOCK = 4096 };

static struct err e;
static uint8_t in[BLOCK], out[BLOCK];
static unsigned members;

static void begin(unsigned n)
{
    members = n;
    make_members(n, "16M");
    for (unsigned i = 0; i < n; i++)
        fault_record_start(fault_dev(i));
    raid_set_checkpoint_ms(0);
}

static void put_raw(const char *name, uint64_t offset, unsigned pattern)
{
    struct bdev_desc *d = open_device(name, CLAIM_EXCLUSIVE);
    fill_pattern(in, BLOCK, pattern);
    check_int(bdev_write(d, offset, in, BLOCK, BIO_FUA), 0);
    bdev_close(&d);
}

static void check_raw(const char *name, uint64_t offset, unsigned pattern)
{
    struct bdev_desc *d = open_device(name, CLAIM_READ);
    check_int(bdev_read(d, offset, out, BLOCK), 0);
    bdev_close(&d);
    fill_pattern(in, BLOCK, pattern);
    check(!memcmp(in, out, BLOCK));
}

static bool is_sent(unsigned i, uint64_t offset)
{
    for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++) {
        const struct fault_entry *x = fault_record_get(fault_dev(i), k);
        if (x->op == BIO_WRITE && x->offset == offset)
            return true;
    }
    return false;
}

/* What comes to member i from STOP_AT on is held. */
static void hold(unsigned i)
{
    rules(i, "write+write_zeroes:hold:offset=9M-16M");
}

static void wait_held(unsigned i, unsigned n)
{
    for (unsigned k = 0; fault_held(fault_dev(i)) < n; k++) {
        check(k < 12000);
        task_sleep_us(5000);
    }
}

/* The power goes. The last member has a cache, which loses all that was not flushed. */
static void cut(void)
{
    uint64_t at[8];
    for (unsigned i = 0; i < members; i++)
        at[i] = fault_record_now(fault_dev(i));
    for (unsigned i = 0; i < members; i++) {
        device(&mem_driver, name_of("c", i), "size=16M");
        struct bdev_desc *to = open_device(name_of("c", i), CLAIM_EXCLUSIVE);
        check_int(fault_replay(fault_dev(i), at[i],
                               i + 1 < members ? FAULT_CUT_ALL : FAULT_CUT_NONE, 1, to),
                  0);
        bdev_close(&to);
    }
    for (unsigned i = 0; i < members; i++) {
        rules(i, "");
        fault_release(fault_dev(i));
    }
}

/* The array is stopped; the members that it was made of go. */
static void stop(void)
{
    must(raid_stop("a", &e), &e);
    remove_members(members);
}

static void end(void)
{
    for (unsigned i = 0; i < members; i++)
        if (bdev_find(name_of("c", i)))
            remove_device(name_of("c", i));
    raid_set_checkpoint_ms(1000);
}

HARNESS_TEST(a_resync_goes_on_where_it_was)
{
    begin(2);
    put_raw("d1", DATA + OLD, 7);
    must(create("raid1", 2, false, &e), &e);
    hold(1);
    wait_held(1, 1);
    check(info_of("a").sync_saved >= STOP_AT / 2 && info_of("a").sync_saved <= STOP_AT);
    cut();
    stop();
    put_raw("c1", DATA + SPOILT, 9);
    must(assemble(false, &e), &e);
    check(info_of("a").sync_saved >= STOP_AT / 2);
    wait_idle();
    stop();
    check_raw("c1", DATA + SPOILT, 9);
    struct bdev_desc *d = open_device("c1", CLAIM_READ);
    check_int(bdev_read(d, DATA + OLD, out, BLOCK), 0);
    bdev_close(&d);
    memset(in, 0, BLOCK);
    check(!memcmp(in, out, BLOCK)); /* made equal to the first copy */
    end();
}

static void make_degraded(const char *level, unsigned n, enum raid_bitmap_choice bitmap)
{
    const char *names[8];
    for (unsigned i = 0; i < n; i++)
        names[i] = name_of("d", i);
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = names,
                            .member_count = n,
                            .assume_clean = true,
                            .bitmap = bitmap,
                            .bitmap_chunk = bitmap == RAID_BITMAP_INTERNAL ? 64 << 10 : 0,
                            .chunk = 64 << 10};
    must(raid_create(&c, &e), &e);
    must(raid_remove_member("a", name_of("d", n - 1), false, &e), &e);
}

struct async {
    struct bio bio;
    struct iovec iov;
    bool done;
};

static void async_done(struct bio *bio)
{
    ((struct async *)bio->arg)->done = true;
}

static void write_begin(struct async *w, struct bdev_desc *d, uint64_t at, unsigned pattern)
{
    w->done = false;
    fill_pattern(in, BLOCK, pattern);
    w->iov = (struct iovec){in, BLOCK};
    bio_init(&w->bio, d, BIO_WRITE, at, BLOCK, async_done, w);
    bio_data(&w->bio, &w->iov, 1);
    w->bio.flags = BIO_FUA; /* where it is done, it is durable */
    bio_submit(&w->bio);
}

static void write_end(struct async *w)
{
    while (!w->done)
        task_sleep_us(1000);
    check_int(w->bio.error, 0);
}

/* A rebuild is in the middle, and with `writes` one of a client's writes behind it too. */
static void rebuild_cut(const char *level, unsigned n, enum raid_bitmap_choice bitmap, bool writes)
{
    char last[16];
    struct async w;
    snprintf(last, sizeof last, "%s", name_of("c", n - 1));
    begin(n);
    make_degraded(level, n, bitmap);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    hold(n - 1);
    must(raid_add_member("a", name_of("d", n - 1), false, &e), &e);
    wait_held(n - 1, 1);
    check(info_of("a").sync_saved >= STOP_AT / 2);
    if (writes) {
        check_int(bdev_write(d, 0, in, BLOCK, 0), 0); /* in use from here on */
        rules(n - 1, "write+write_zeroes:hold:offset=9M-16M;write:hold:offset=1M-2M");
        write_begin(&w, d, BLOCK, 3);
        while (!is_sent(n - 1, DATA + BLOCK) || !is_sent(0, DATA + BLOCK))
            task_sleep_us(1000);
    }
    cut();
    if (writes)
        write_end(&w);
    bdev_close(&d);
    stop();
    put_raw(last, DATA + SPOILT + (3 << 20), 9);
    must(assemble(true, &e), &e);
    wait_idle();
    check_int(info_of("a").missing, 0);
}

HARNESS_TEST(a_rebuild_goes_on_where_it_was)
{
    rebuild_cut("raid1", 2, RAID_BITMAP_NONE, false);
    stop();
    check_raw("c1", DATA + SPOILT + (3 << 20), 9);
    end();
}

HARNESS_TEST(a_rebuild_of_a_mirror_in_use_goes_on_with_what_the_bitmap_marks)
{
    rebuild_cut("raid1", 2, RAID_BITMAP_INTERNAL, true);
    must(raid_fail_member("a", "c0", false, &e), &e); /* the new one alone */
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    check_int(bdev_read(d, BLOCK, out, BLOCK), 0);
    bdev_close(&d);
    stop();
    check_raw("c1", DATA + SPOILT + (3 << 20), 9);
    check_raw("c1", DATA + BLOCK, 3); /* it was on the old one, and is on both */
    end();
}

HARNESS_TEST(a_rebuild_of_a_mirror_in_use_without_bitmap_begins_anew)
{
    rebuild_cut("raid1", 2, RAID_BITMAP_NONE, true);
    stop();
    struct bdev_desc *d = open_device("c1", CLAIM_READ);
    check_int(bdev_read(d, DATA + SPOILT + (3 << 20), out, BLOCK), 0);
    bdev_close(&d);
    memset(in, 0, BLOCK);
    check(!memcmp(in, out, BLOCK));
    end();
}

HARNESS_TEST(a_rebuild_of_a_raid5_in_use_goes_on_with_what_the_log_says)
{
    rebuild_cut("raid5", 3, RAID_BITMAP_NONE, true);
    struct bdev_desc *d = open_device("a", CLAIM_READ);
    for (unsigned i = 0; i < 2; i++) { /* with all members, and without the first */
        check_int(bdev_read(d, BLOCK, out, BLOCK), 0);
        fill_pattern(in, BLOCK, 3);
        check(!memcmp(in, out, BLOCK));
        if (!i)
            must(raid_fail_member("a", "c0", false, &e), &e);
    }
    bdev_close(&d);
    stop();
    check_raw("c2", DATA + SPOILT + (3 << 20), 9);
    end();
}

/* What the log says of a slot from before a spare took it is not written there again. */
HARNESS_TEST(the_log_does_not_undo_a_rebuild)
{
    struct async w;
    begin(4);
    must(create("raid5", 3, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    rules(0, "write:hold:offset=12M-16M");          /* keeps the array in use all the time */
    write_begin(&w, d, (23 << 20) + (64 << 10), 5); /* a block of d0 */
    wait_held(0, 1);
    for (unsigned version = 1; version <= 2; version++) {
        for (uint64_t at = 0; at < 4; at++) {
            fill_pattern(in, BLOCK, version);
            check_int(bdev_write(d, at * (64 << 10), in, BLOCK, BIO_FUA), 0);
        }
        if (version == 1)
            must(raid_remove_member("a", "d2", false, &e), &e);
    }
    rules(3, "write+write_zeroes:hold:offset=12M-16M"); /* so far and no further */
    must(raid_add_member("a", "d3", false, &e), &e);
    wait_held(3, 1);
    cut();
    write_end(&w);
    bdev_close(&d);
    remove_device("c2");
    wait_idle();
    stop();
    must(assemble(true, &e), &e);
    wait_idle();
    d = open_device("a", CLAIM_READ);
    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t at = 0; at < 4; at++) {
            check_int(bdev_read(d, at * (64 << 10), out, BLOCK), 0);
            fill_pattern(in, BLOCK, 2);
            check(!memcmp(in, out, BLOCK));
        }
        if (!i)
            must(raid_fail_member("a", "c0", false, &e), &e);
    }
    bdev_close(&d);
    stop();
    end();
}

static bool seen_halt;

static void on_event(const struct event *ev, void *arg)
{
    (void)arg;
    seen_halt = seen_halt || !strcmp(ev->kind, "rebuild-halted");
}

HARNESS_TEST(an_unreadable_source_does_not_cost_the_new_member)
{
    event_observe(on_event, NULL);
    begin(2);
    make_degraded("raid1", 2, RAID_BITMAP_NONE);
    rules(0, "read:error=EIO:offset=6M-6200K");
    must(raid_add_member("a", "d1", false, &e), &e);
    for (unsigned i = 0; !seen_halt || info_of("a").sync_job; i++) {
        check(i < 12000);
        task_sleep_us(5000);
    }
    struct raid_info info = info_of("a");
    check_int(info.missing, 0);
    check_int(info.member[1].state, RAID_MEMBER_REBUILDING);
    check_int(info.member[0].state, RAID_MEMBER_IN_SYNC);
    rules(0, "");
    must(raid_stop("a", &e), &e); /* and goes on as soon as somebody tries again */
    must(assemble(true, &e), &e);
    wait_idle();
    check_int(info_of("a").member[1].state, RAID_MEMBER_IN_SYNC);
    must(raid_stop("a", &e), &e);
    remove_members(2);
    event_observe(NULL, NULL);
    raid_set_checkpoint_ms(1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resync_goes_on_where_it_was),
        cmocka_unit_test(a_rebuild_goes_on_where_it_was),
        cmocka_unit_test(a_rebuild_of_a_mirror_in_use_goes_on_with_what_the_bitmap_marks),
        cmocka_unit_test(a_rebuild_of_a_mirror_in_use_without_bitmap_begins_anew),
        cmocka_unit_test(a_rebuild_of_a_raid5_in_use_goes_on_with_what_the_log_says),
        cmocka_unit_test(the_log_does_not_undo_a_rebuild),
        cmocka_unit_test(an_unreadable_source_does_not_cost_the_new_member),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
