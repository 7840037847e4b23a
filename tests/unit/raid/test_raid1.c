/* SPDX-License-Identifier: GPL-2.0-or-later */
/* raid1 over fault and memory devices: order of writes, failures, resync, rebuild. */
#include "arrays.h"

#include "block/event.h"

static struct err e;
static uint8_t in[64 << 10], out[64 << 10];

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static void put(struct bdev_desc *d, uint64_t offset, size_t len, unsigned seed)
{
    fill_pattern(in, len, seed);
    check_int(bdev_write(d, offset, in, len, 0), 0);
}

static bool holds(unsigned member, uint64_t offset, size_t len, unsigned seed)
{
    fill_pattern(in, len, seed);
    member_data(member, offset, out, len);
    return !memcmp(in, out, len);
}

HARNESS_TEST(all_copies_have_what_was_written)
{
    make_members(3, "4M");
    must(create("raid1", 3, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_size(d), 3 << 20);
    put(d, 4096, 8192, 1);
    check_int(bdev_flush(d), 0);
    bdev_close(&d);
    stop();
    for (unsigned i = 0; i < 3; i++)
        check(holds(i, 4096, 8192, 1));
    remove_members(3);
}

HARNESS_TEST(members_known_to_be_zero_need_no_resync)
{
    device(&mem_driver, "m0", "size=4M");
    device(&mem_driver, "m1", "size=4M");
    static const char *const members[] = {"m0", "m1"};
    struct raid_create c = {.name = "a", .level = "mirror", .members = members, .member_count = 2};
    must(raid_create(&c, &e), &e);
    struct raid_info info = info_of("a");
    check_int(info.state, RAID_CLEAN);
    check_int(info.sync, RAID_SYNC_IDLE);
    struct bdev_info b;
    check(bdev_name_info("a", &b) && b.known_zero && b.discard_gran);
    stop();
    remove_device("m0");
    remove_device("m1");
}

HARNESS_TEST(unknown_members_are_made_to_agree)
{
    make_members(2, "4M");
    struct bdev_desc *d = open_device("d0", CLAIM_EXCLUSIVE);
    put(d, DATA + 12345 * 512 % (3 << 20), 4096, 9);
    bdev_close(&d);
    must(create("raid1", 2, false, &e), &e);
    wait_idle();
    wait_state(RAID_CLEAN);
    stop();
    check(holds(1, 12345 * 512 % (3 << 20), 4096, 9));
    check(super_of(0).resync_offset == MD_CLEAN);
    remove_members(2);
}

/* Index of the first recorded write at or above / below the data. */
static const struct fault_entry *find(unsigned dev, bool data, unsigned from, unsigned *at_r)
{
    for (unsigned i = from; i < fault_record_count(fault_dev(dev)); i++) {
        const struct fault_entry *x = fault_record_get(fault_dev(dev), i);
        if (x->op == BIO_WRITE && (x->offset >= DATA) == data) {
            *at_r = i;
            return x;
        }
    }
    return NULL;
}

HARNESS_TEST(marked_active_on_disk_before_the_first_write_and_clean_after_a_flush)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fault_record_start(fault_dev(0));
    put(d, 0, 4096, 1);
    check_int(info_of("a").state, RAID_ACTIVE);
    wait_state(RAID_CLEAN);
    fault_record_stop(fault_dev(0));
    unsigned at, data_at;
    struct md_super sb;
    const struct fault_entry *mark = find(0, false, 0, &at);
    const struct fault_entry *data = find(0, true, 0, &data_at);
    must(md_super_read(&sb, mark->data, &e), &e);
    check_int(sb.resync_offset, 0);
    check(mark->flags & BIO_FUA || at < data_at);
    check(mark->completed < data->submitted);
    const struct fault_entry *clean = find(0, false, data_at, &at);
    must(md_super_read(&sb, clean->data, &e), &e);
    check(sb.resync_offset == MD_CLEAN);
    bool flushed = false;
    for (unsigned i = data_at + 1; i < at; i++) {
        const struct fault_entry *x = fault_record_get(fault_dev(0), i);
        flushed = flushed || (x->op == BIO_FLUSH && x->completed < clean->submitted);
    }
    check(flushed);
    bdev_close(&d);
    stop();
    remove_members(2);
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

static void async_write(struct async *w, struct bdev_desc *d, uint64_t offset, size_t len)
{
    w->done = false;
    w->iov = (struct iovec){in, len};
    bio_init(&w->bio, d, BIO_WRITE, offset, len, async_done, w);
    bio_data(&w->bio, &w->iov, 1);
    bio_submit(&w->bio);
}

static void wait_held(unsigned dev, unsigned n)
{
    for (unsigned i = 0; i < 1000 && fault_held(fault_dev(dev)) != n; i++)
        task_sleep_us(1000);
    check_int(fault_held(fault_dev(dev)), n);
}

HARNESS_TEST(a_write_is_acknowledged_after_the_survivor_knows_who_missed_it)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 4096, 1);
    uint64_t before = info_of("a").events;
    rules(1, "write:error=EIO:offset=1M-4M");
    rules(0, "write:hold:offset=4096-8191");
    struct async w;
    async_write(&w, d, 0, 4096);
    for (int round = 0; round < 2; round++) {
        wait_held(0, 1);
        task_sleep_us(20 * 1000);
        check(!w.done);
        fault_release(fault_dev(0));
    }
    for (unsigned i = 0; i < 1000 && !w.done; i++)
        task_sleep_us(1000);
    check(w.done);
    check_int(w.bio.error, 0);
    rules(0, "");
    rules(1, "");
    struct raid_info info = info_of("a");
    check_int(info.state, RAID_DEGRADED);
    check_int(info.missing, 1);
    check(info.events >= before + 2);
    bdev_close(&d);
    stop();
    struct md_super survivor = super_of(0), lost = super_of(1);
    check_int(survivor.role[lost.dev_number], MD_ROLE_FAULTY);
    check(lost.events + 1 < survivor.events); /* nobody takes it for fresh */
    must(assemble(true, &e), &e);
    info = info_of("a");
    check_int(info.missing, 1);
    check(!strcmp(info.member[0].device, "d0"));
    stop();
    remove_members(2);
}

HARNESS_TEST(an_incomplete_array_starts_only_when_allowed)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    must(raid_fail_member("a", "d0", false, &e), &e);
    stop();
    check_int(assemble(false, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    must(assemble(true, &e), &e);
    check_int(info_of("a").state, RAID_DEGRADED);
    stop();
    remove_members(2);
}

HARNESS_TEST(errors_of_the_last_copy_go_up)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(raid_fail_member("a", "d1", false, &e), 0);
    check_int(raid_fail_member("a", "d0", false, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    rules(0, "write:error=ENOSPC:offset=1M-4M:count=1; read:error=EIO:count=1; flush:error=EIO");
    check_int(bdev_write(d, 0, in, 4096, 0), -ENOSPC);
    check_int(bdev_read(d, 0, out, 4096), -EIO);
    check_int(bdev_write(d, 0, in, 4096, 0), 0);
    check_int(bdev_flush(d), -EIO);
    check_int(info_of("a").state, RAID_DEGRADED);
    rules(0, "");
    bdev_close(&d);
    stop();
    remove_members(2);
}

HARNESS_TEST(a_read_error_is_answered_by_another_copy_and_repaired)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 8192, 4096, 3);
    rules(0, "read:error=ENODATA:offset=1056768-1060863:count=2");
    uint64_t corrected = 0;
    for (unsigned i = 0; !fault_rule_hits(fault_dev(0), 0); i++) {
        check(i < 4);
        check_int(bdev_read(d, 8192, out, 4096), 0);
        check(!memcmp(in, out, 4096));
    }
    for (unsigned i = 0; i < 500 && !corrected; i++) {
        corrected = info_of("a").member[0].corrected;
        task_sleep_us(1000);
    }
    check_int(corrected, 1);
    check_int(info_of("a").missing, 0);
    bdev_close(&d);
    stop();
    remove_members(2);
}

HARNESS_TEST(a_failed_flush_costs_the_member_not_the_client)
{
    make_members(3, "4M");
    must(create("raid1", 3, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 4096, 1);
    rules(2, "flush:error=EIO");
    check_int(bdev_flush(d), 0);
    rules(2, "");
    check_int(info_of("a").missing, 1);
    check_int(bdev_flush(d), 0);
    bdev_close(&d);
    stop();
    check_int(super_of(0).role[2], MD_ROLE_FAULTY);
    remove_members(3);
}

HARNESS_TEST(a_new_member_is_filled_and_counts_when_it_is_whole)
{
    make_members(3, "8M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    for (unsigned i = 0; i < 7; i++)
        put(d, i << 20, 64 << 10, i);
    must(raid_fail_member("a", "d1", false, &e), &e);
    must(raid_remove_member("a", "d1", false, &e), &e);
    rules(2, "write+write_zeroes:hold:offset=3M-4M");
    must(raid_add_member("a", "d2", false, &e), &e);
    until(fault_held(fault_dev(2)));
    check_int(info_of("a").sync, RAID_SYNC_RECOVER);
    put(d, 6 << 20, 4096, 77); /* during the rebuild, and ahead of it */
    rules(2, "");
    fault_release(fault_dev(2));
    wait_idle();
    check_int(info_of("a").missing, 0);
    bdev_close(&d);
    stop();
    check(holds(2, 0, 64 << 10, 0));
    check(holds(2, 5 << 20, 64 << 10, 5));
    check(holds(2, 6 << 20, 4096, 77));
    check_int(super_of(2).features & 2, 0);
    remove_device("d1"); /* the old member: stale */
    must(assemble(false, &e), &e);
    stop();
    remove_members(3);
}

HARNESS_TEST(a_half_filled_member_is_not_trusted_after_a_restart_and_goes_on)
{
    make_members(3, "8M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 64 << 10, 1);
    put(d, 6 << 20, 64 << 10, 2);
    bdev_close(&d);
    must(raid_fail_member("a", "d1", false, &e), &e);
    rules(2, "write+write_zeroes:delay=100ms:offset=1M-8M");
    must(raid_add_member("a", "d2", false, &e), &e);
    until(info_of("a").sync_done);
    stop();
    struct md_super sb = super_of(2);
    check(sb.features & 2);
    check(sb.recovery_offset > 0 && sb.recovery_offset < sb.size);
    check_int(sb.role[sb.dev_number], 1);
    remove_device("d1");
    must(assemble(true, &e), &e);
    check_int(info_of("a").member[1].state, RAID_MEMBER_REBUILDING);
    rules(2, "");
    wait_idle();
    check_int(info_of("a").missing, 0);
    stop();
    check(holds(2, 0, 64 << 10, 1));
    check(holds(2, 6 << 20, 64 << 10, 2));
    remove_members(3);
}

HARNESS_TEST(a_spare_takes_over_by_itself)
{
    make_members(3, "4M");
    must(create("raid1", 2, true, &e), &e);
    must(raid_add_member("a", "d2", false, &e), &e);
    check_int(info_of("a").member[2].state, RAID_MEMBER_SPARE);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 4096, 5);
    rules(0, "write:error=EIO:offset=1M-4M");
    put(d, 4096, 4096, 6);
    rules(0, "");
    wait_state(RAID_CLEAN);
    check_int(info_of("a").missing, 0);
    bdev_close(&d);
    stop();
    check(holds(2, 0, 4096, 5));
    check(holds(2, 4096, 4096, 6));
    remove_members(3);
}

HARNESS_TEST(a_device_that_goes_away_is_let_go)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 4096, 5);
    remove_device("d1");
    put(d, 4096, 4096, 6);
    check_int(info_of("a").state, RAID_DEGRADED);
    bdev_close(&d);
    stop();
    check(holds(0, 4096, 4096, 6));
    remove_members(2);
}

struct storm {
    struct bdev_desc *d;
    unsigned seed;
};

static void storm_run(void *arg)
{
    struct storm *s = arg;
    static uint8_t junk[REACTOR_MAX][16384];
    uint8_t *mine = junk[reactor_self_index()];
    uint64_t x = 88172645463325252ull + reactor_self_index();
    for (unsigned i = 0; i < 300; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        fill_pattern(mine, 16384, (unsigned)x);
        check_int(bdev_write(s->d, x % 8 * 4096, mine, 4096 * (1 + (x >> 8) % 4), 0), 0);
    }
}

HARNESS_TEST(overlapping_writes_leave_equal_copies)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct storm s = {.d = open_device("a", CLAIM_SHARED_WRITE)};
    rules(0, "write:delay=20us:probability=0.3");
    rules(1, "write:delay=20us:probability=0.3:seed=5");
    task_call_all(storm_run, &s);
    rules(0, "");
    rules(1, "");
    bdev_close(&s.d);
    stop();
    member_data(0, 0, in, sizeof in);
    member_data(1, 0, out, sizeof out);
    check(!memcmp(in, out, sizeof in));
    remove_members(2);
}

struct worker {
    struct bdev_desc *d;
    bool stop, ended; /* atomic */
};

static void worker_run(void *arg)
{
    struct worker *w = arg;
    static uint8_t junk[REACTOR_MAX][16384];
    uint8_t *mine = junk[reactor_self_index()];
    uint64_t x = 88172645463325252ull + reactor_self_index();
    while (!__atomic_load_n(&w->stop, __ATOMIC_SEQ_CST)) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        fill_pattern(mine, 16384, (unsigned)x);
        uint64_t at = x % 700 * 4096;
        check_int(bdev_write(w->d, at, mine, 4096 * (1 + (x >> 16) % 4), 0), 0);
        if (x % 16 == 0)
            check_int(bdev_flush(w->d), 0);
        if (x % 5 == 0)
            check_int(bdev_read(w->d, 704 * 4096, mine, 4096), 0); /* where nobody writes */
    }
    __atomic_store_n(&w->ended, true, __ATOMIC_SEQ_CST);
}

static void wait_members(unsigned missing)
{
    struct raid_info info;
    for (unsigned i = 0; i < 4000; i++) {
        info = info_of("a");
        if (info.missing == missing && info.sync == RAID_SYNC_IDLE && !info.sync_job)
            return;
        task_sleep_us(2000);
    }
    check(!"the members did not settle");
}

HARNESS_TEST(clients_notice_nothing_of_failures_and_rebuilds)
{
    make_members(4, "4M");
    must(create("raid1", 3, true, &e), &e);
    struct worker w[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        w[i].d = open_device("a", CLAIM_SHARED_WRITE);
        task_start(reactor_get(i), "worker", worker_run, &w[i]);
    }
    for (unsigned round = 0; round < 3; round++) {
        task_sleep_us(5000);
        rules(1, "write:error=EIO:offset=1M-4M");
        wait_members(1);
        rules(1, "");
        must(raid_remove_member("a", "d1", false, &e), &e);
        must(raid_add_member("a", "d3", false, &e), &e);
        wait_members(0);
        rules(0, "flush:error=EIO");
        wait_members(1);
        rules(0, "");
        must(raid_remove_member("a", "d0", false, &e), &e);
        must(raid_add_member("a", "d1", true, &e), &e);
        wait_members(0);
        must(raid_fail_member("a", "d3", false, &e), &e);
        must(raid_remove_member("a", "d3", false, &e), &e);
        must(raid_add_member("a", "d0", true, &e), &e);
        wait_members(0);
    }
    for (unsigned i = 0; i < 2; i++) {
        __atomic_store_n(&w[i].stop, true, __ATOMIC_SEQ_CST);
        while (!__atomic_load_n(&w[i].ended, __ATOMIC_SEQ_CST))
            task_sleep_us(1000);
        bdev_drain_close(&w[i].d);
    }
    stop();
    static uint8_t copy[3][3 << 20];
    for (unsigned i = 0; i < 3; i++)
        member_data(i, 0, copy[i], sizeof copy[i]);
    check(!memcmp(copy[0], copy[1], sizeof copy[0]));
    check(!memcmp(copy[0], copy[2], sizeof copy[0]));
    remove_members(4);
}

/* Rebuilds d0 and d1 as a power cut would have left them, on fresh devices of the same names. */
static void cut_power(uint64_t at0, uint64_t at1, enum fault_cut cut)
{
    device(&mem_driver, "c0", "size=4M");
    device(&mem_driver, "c1", "size=4M");
    for (unsigned i = 0; i < 2; i++) {
        struct bdev_desc *to = open_device(name_of("c", i), CLAIM_EXCLUSIVE);
        check_int(fault_replay(fault_dev(i), i ? at1 : at0, cut, 1, to), 0);
        bdev_close(&to);
    }
}

static void count_resyncs(const struct event *ev, void *arg)
{
    if (!strcmp(ev->kind, "resync-started"))
        ++*(unsigned *)arg;
}

HARNESS_TEST(what_was_flushed_survives_a_power_cut_and_copies_agree_again)
{
    unsigned resyncs = 0;
    make_members(2, "4M");
    fault_record_start(fault_dev(0));
    fault_record_start(fault_dev(1));
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 4096, 1);
    check_int(bdev_flush(d), 0);
    put(d, 8192, 4096, 2); /* never flushed */
    uint64_t at0 = fault_record_now(fault_dev(0)), at1 = fault_record_now(fault_dev(1));
    cut_power(at0, at1, FAULT_CUT_NONE);
    bdev_close(&d);
    stop();
    remove_members(2);
    event_observe(count_resyncs, &resyncs);
    must(assemble(false, &e), &e);
    d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_read(d, 0, out, 4096), 0);
    fill_pattern(in, 4096, 1);
    check(!memcmp(in, out, 4096));
    wait_idle();
    check_int(resyncs, 1); /* by its event: it may be over before anybody looks */
    event_observe(NULL, NULL);
    bdev_close(&d);
    stop();
    remove_device("c0");
    remove_device("c1");
}

HARNESS_TEST(a_dirty_array_is_read_from_one_leg_until_it_agrees)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    stop();
    for (unsigned i = 0; i < 2; i++) { /* different data, marked in use */
        struct md_super sb = super_of(i);
        sb.resync_offset = 0;
        put_super(i, &sb);
        struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
        put(d, DATA + (2 << 20), 4096, 10 + i);
        bdev_close(&d);
    }
    rules(1, "write+write_zeroes:delay=20ms:offset=1M-4M");
    must(assemble(false, &e), &e);
    check_int(info_of("a").sync, RAID_SYNC_RESYNC);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    fill_pattern(in, 4096, 10);
    for (unsigned i = 0; i < 8; i++) {
        check_int(bdev_read(d, 2 << 20, out, 4096), 0);
        check(!memcmp(in, out, 4096));
    }
    rules(1, "");
    wait_idle();
    bdev_close(&d);
    stop();
    check(holds(1, 2 << 20, 4096, 10));
    remove_members(2);
}

HARNESS_TEST(a_stopped_resync_goes_on_where_it_was)
{
    make_members(2, "8M");
    struct bdev_desc *d = open_device("d0", CLAIM_EXCLUSIVE);
    for (unsigned i = 1; i < 8; i++)
        put(d, i << 20, 4096, i);
    bdev_close(&d);
    rules(1, "write:delay=100ms:offset=1M-8M");
    must(create("raid1", 2, false, &e), &e);
    until(info_of("a").sync_done);
    stop();
    struct md_super sb = super_of(0);
    check(sb.resync_offset > 0 && sb.resync_offset < sb.size);
    check_int(super_of(1).resync_offset, sb.resync_offset);
    rules(1, "");
    must(assemble(false, &e), &e);
    wait_idle();
    stop();
    for (unsigned i = 1; i < 8; i++)
        check(holds(1, (i - 1) << 20, 4096, i));
    check(super_of(0).resync_offset == MD_CLEAN);
    remove_members(2);
}

HARNESS_TEST(zeroes_and_discards_reach_all_copies)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 64 << 10, 1);
    check_int(do_op(d, BIO_DISCARD, 0, 8192, 0), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 8192, 8192, BIO_FUA | BIO_NO_UNMAP), 0);
    check_int(do_op(d, BIO_WRITE_ZEROES, 16384, 8192, BIO_FAST_ZERO), -EOPNOTSUPP);
    struct extent x[8];
    check(get_extents(d, 0, 1 << 20, x, 8) >= 1);
    check(x[0].flags & EXTENT_ZERO && x[0].length >= 8192);
    bdev_close(&d);
    stop();
    for (unsigned i = 0; i < 2; i++) {
        member_data(i, 0, out, 64 << 10);
        check(is_zero(out, 16384));
        check(!is_zero(out + 16384, 4096));
    }
    remove_members(2);
}

HARNESS_TEST(members_with_4k_blocks_make_an_array_of_4k_blocks)
{
    device(&mem_driver, "m0", "size=4M");
    device(&mem_driver, "m1", "size=4M,block_size=4096");
    static const char *const members[] = {"m0", "m1"};
    struct raid_create c = {.name = "a", .level = "1", .members = members, .member_count = 2};
    must(raid_create(&c, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_block_size(d), 4096);
    put(d, 8192, 4096, 3);
    check_int(bdev_read(d, 8192, out, 4096), 0);
    check(!memcmp(in, out, 4096));
    bdev_close(&d);
    stop();
    must(assemble(false, &e), &e);
    stop();
    remove_device("m0");
    remove_device("m1");
}

HARNESS_TEST(a_used_array_is_not_stopped)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(raid_stop("a", &e), -1);
    check_int(e.code, ERR_IN_USE);
    bdev_close(&d);
    must(raid_delete("a", &e), &e);
    struct raid_found *f;
    check_int(raid_scan(&f), 0);
    free(f);
    remove_members(2);
}

HARNESS_TEST(shutdown_leaves_the_disks_clean)
{
    make_members(2, "4M");
    must(create("raid1", 2, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    put(d, 0, 4096, 1);
    bdev_close(&d);
    raid_shutdown_all();
    check_int(info_of("a").state, RAID_CLEAN);
    stop();
    remove_members(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_copies_have_what_was_written),
        cmocka_unit_test(members_known_to_be_zero_need_no_resync),
        cmocka_unit_test(unknown_members_are_made_to_agree),
        cmocka_unit_test(marked_active_on_disk_before_the_first_write_and_clean_after_a_flush),
        cmocka_unit_test(a_write_is_acknowledged_after_the_survivor_knows_who_missed_it),
        cmocka_unit_test(an_incomplete_array_starts_only_when_allowed),
        cmocka_unit_test(errors_of_the_last_copy_go_up),
        cmocka_unit_test(a_read_error_is_answered_by_another_copy_and_repaired),
        cmocka_unit_test(a_failed_flush_costs_the_member_not_the_client),
        cmocka_unit_test(a_new_member_is_filled_and_counts_when_it_is_whole),
        cmocka_unit_test(a_half_filled_member_is_not_trusted_after_a_restart_and_goes_on),
        cmocka_unit_test(a_spare_takes_over_by_itself),
        cmocka_unit_test(a_device_that_goes_away_is_let_go),
        cmocka_unit_test(overlapping_writes_leave_equal_copies),
        cmocka_unit_test(clients_notice_nothing_of_failures_and_rebuilds),
        cmocka_unit_test(what_was_flushed_survives_a_power_cut_and_copies_agree_again),
        cmocka_unit_test(a_dirty_array_is_read_from_one_leg_until_it_agrees),
        cmocka_unit_test(a_stopped_resync_goes_on_where_it_was),
        cmocka_unit_test(zeroes_and_discards_reach_all_copies),
        cmocka_unit_test(members_with_4k_blocks_make_an_array_of_4k_blocks),
        cmocka_unit_test(a_used_array_is_not_stopped),
        cmocka_unit_test(shutdown_leaves_the_disks_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
