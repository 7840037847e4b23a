/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What power cuts by chance have found, one test each: the moment, and what the caches kept, are
 * those that it takes.
 */
#include "powercut.h"

enum { CHUNK = 64 << 10, BLOCK = 4096, ALL = -1 };

static struct err e;
static struct pc_life life, next;
static struct uuid uuid;
static unsigned slots;
static uint8_t in[4 * CHUNK], out[BLOCK];

/* ---- before the cut: array "a" on d0, d1, ... */

static void begin(const char *level, unsigned n, unsigned spares, bool bitmap)
{
    const char *names[PC_MEMBERS];
    slots = n;
    pc_life_begin(&life, "d", n + spares);
    for (unsigned i = 0; i < n + spares; i++) {
        life.base[i].data = calloc(1, PC_SIZE);
        check(life.base[i].data);
    }
    pc_power_on(&life);
    for (unsigned i = 0; i < n; i++)
        names[i] = name_of("d", i);
    uuid = uuid_random();
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = names,
                            .member_count = n,
                            .chunk = CHUNK,
                            .bitmap = bitmap ? RAID_BITMAP_INTERNAL : RAID_BITMAP_NONE,
                            .bitmap_chunk = 256 << 10,
                            .uuid = &uuid};
    must(raid_create(&c, &e), &e);
}

static void put(const char *array, uint64_t offset, size_t len, unsigned version, unsigned flags)
{
    struct bdev_desc *d = open_device(array, CLAIM_SHARED_WRITE);
    fill_pattern(in, len, version);
    check_int(bdev_write(d, offset, in, len, flags), 0);
    bdev_close(&d);
}

static void drop(unsigned i)
{
    must(raid_fail_member("a", name_of("d", i), false, &e), &e);
}

static void come_back(unsigned i)
{
    must(raid_remove_member("a", name_of("d", i), false, &e), &e);
    must(raid_readd_member("a", name_of("d", i), &e), &e);
    wait_idle();
}

/* Else it is marked clean after a while, and its log is void: then there is nothing to test. */
static bool ticks; /* atomic */
static unsigned tickers;

static void ticker(void *arg)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    static uint8_t zero[BLOCK];
    (void)arg;
    while (__atomic_load_n(&ticks, __ATOMIC_SEQ_CST)) {
        check_int(bdev_write(d, bdev_size(d) - BLOCK, zero, BLOCK, 0), 0);
        task_sleep_us(20 * 1000);
    }
    bdev_close(&d);
    __atomic_sub_fetch(&tickers, 1, __ATOMIC_SEQ_CST);
}

static void tick(bool on)
{
    __atomic_store_n(&ticks, on, __ATOMIC_SEQ_CST);
    if (on) {
        __atomic_add_fetch(&tickers, 1, __ATOMIC_SEQ_CST);
        task_start(reactor_self(), "ticker", ticker, NULL);
    }
    while (!on && __atomic_load_n(&tickers, __ATOMIC_SEQ_CST))
        task_sleep_us(1000);
}

/* Writes and other verbs that somebody holds up. */
static unsigned busy; /* atomic */

static void aside(reactor_fn fn)
{
    __atomic_add_fetch(&busy, 1, __ATOMIC_SEQ_CST);
    task_start(reactor_self(), "aside", fn, NULL);
}

static struct bdev *device_of(const char *kind, unsigned i)
{
    return bdev_find(name_of(kind, i));
}

static void hold(const char *kind, unsigned i, const char *text)
{
    check_int(fault_set_rules(device_of(kind, i), text, &e), 0);
}

static void wait_done(void)
{
    for (unsigned k = 0; __atomic_load_n(&busy, __ATOMIC_SEQ_CST); k++) {
        check(k < 60000);
        task_sleep_us(1000);
    }
}

static void aside_ends(const char *kind)
{
    for (unsigned i = 0; i < life.members; i++) {
        hold(kind, i, "");
        fault_release(device_of(kind, i));
    }
    wait_done();
}

static void wait_held(const char *kind, unsigned i)
{
    for (unsigned k = 0; !fault_held(device_of(kind, i)); k++) {
        check(k < 60000);
        task_sleep_us(1000);
    }
}

/* Members but those in `held` have answered all that they were sent. */
static void wait_others(const char *kind, uint64_t held)
{
    for (unsigned i = 0; i < slots; i++) {
        struct bdev *dev = device_of(kind, i);
        for (unsigned k = 0; k < fault_record_count(dev) && !(held >> i & 1); k++)
            while (!__atomic_load_n(&fault_record_get(dev, k)->completed, __ATOMIC_ACQUIRE))
                task_sleep_us(1000);
    }
}

/* ---- after it: array "b" on c0, c1, ... */

/* Of `from`, whose array is stopped by now. The caches of the members in `kept` have kept all,
 * those of the others nothing. */
static void power_off_and_on(struct pc_life *from, struct pc_life *to, const char *kind,
                             uint64_t at, uint64_t kept, int lost)
{
    struct pc_cut c = {.at = at};
    pc_hold(from);
    for (unsigned i = 0; i < from->members; i++) {
        c.whole[i] = calloc(from->record[i].n + 1, 1);
        check(c.whole[i]);
        memset(c.whole[i], kept >> i & 1, from->record[i].n);
    }
    pc_life_begin(to, kind, from->members);
    pc_build(from, &c, to->base);
    for (unsigned i = 0; i < from->members; i++)
        free(c.whole[i]);
    if (lost >= 0) {
        free(to->base[lost].data);
        to->base[lost] = (struct pc_image){0};
    }
    pc_power_on(to);
}

static void start(void)
{
    struct raid_assemble r = {.name = "b", .uuid = uuid, .degraded_ok = true};
    must(raid_assemble(&r, &e), &e);
}

static void cut(uint64_t at, uint64_t kept, int lost)
{
    must(raid_stop("a", &e), &e);
    power_off_and_on(&life, &next, "c", at, kept, lost);
    start();
}

static void settle(void)
{
    for (unsigned i = 0, idle = 0; idle < 4; i++) {
        struct raid_info info = info_of("b");
        idle = info.sync == RAID_SYNC_IDLE && !info.sync_job ? idle + 1 : 0;
        check(i < 60000);
        task_sleep_us(1000);
    }
}

static void check_block(uint64_t offset, unsigned version)
{
    struct bdev_desc *d = open_device("b", CLAIM_READ);
    check_int(bdev_read(d, offset, out, BLOCK), 0);
    bdev_close(&d);
    fill_pattern(in, BLOCK, version);
    check(!memcmp(in, out, BLOCK));
}

static void check_fits(uint64_t absent)
{
    settle();
    must(raid_stop("b", &e), &e);
    if (!pc_check_members("c", next.members, absent))
        fprintf(stderr, "%s\n", pc_why);
    check(!pc_why[0]);
}

static void end(void)
{
    if (bdev_find("b"))
        must(raid_stop("b", &e), &e);
    pc_life_end(&next);
    pc_life_end(&life);
}

/* ---- superblocks */

static uint64_t events_of(const struct fault_entry *x)
{
    struct md_super sb;
    return x->op == BIO_WRITE && x->offset == MD_SUPER_OFFSET && !md_super_read(&sb, x->data, &e)
               ? sb.events
               : 0;
}

static uint64_t durable_events(const struct pc_life *l, unsigned m, uint64_t at, uint64_t first)
{
    for (unsigned i = 0; i < l->record[m].n; i++) {
        const struct fault_entry *x = &l->record[m].entry[i];
        if (events_of(x) && x->completed && x->completed < at)
            first = events_of(x);
    }
    return first;
}

/* At no moment is one two events behind another. `was`: the events that they began with. */
static void check_close(const struct pc_life *l, const uint64_t *was)
{
    unsigned seen = 0;
    for (unsigned m = 0; m < slots; m++)
        for (unsigned i = 0; i < l->record[m].n; i++) {
            const struct fault_entry *x = &l->record[m].entry[i];
            for (unsigned k = 0; k < slots && events_of(x); k++)
                check(durable_events(l, k, x->submitted, was[k]) + 1 >= events_of(x));
            seen += events_of(x) != 0;
        }
    check(seen > 2);
}

static void write_once(void *arg)
{
    (void)arg;
    put("a", 0, BLOCK, 1, 0);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(who_was_left_one_event_behind_is_brought_up_before_the_next_superblocks)
{
    begin("raid1", 2, 0, false);
    hold("d", 1, "write:hold:offset=4096-8191");
    aside(write_once);
    wait_held("d", 1);
    wait_others("d", 1 << 1);
    uint64_t at = pc_now(&life), was[2];
    aside_ends("d");
    cut(at, 0, ALL);
    for (unsigned i = 0; i < 2; i++) {
        struct md_super sb;
        must(md_super_read(&sb, next.base[i].data + MD_SUPER_OFFSET, &e), &e);
        was[i] = sb.events;
    }
    check_int(was[0], was[1] + 1);
    settle();
    put("b", 0, BLOCK, 2, 0);
    must(raid_stop("b", &e), &e);
    pc_hold(&next);
    check_close(&next, was);
    end();
}

static uint64_t last_events(const char *kind, unsigned i)
{
    struct bdev *dev = device_of(kind, i);
    uint64_t last = 0;
    for (unsigned k = 0; k < fault_record_count(dev); k++) {
        const struct fault_entry *x = fault_record_get(dev, k);
        last = x->completed && events_of(x) ? events_of(x) : last;
    }
    return last;
}

/* Kernels before 6.8 take whom its own superblock calls a member, unless it is two events behind.
 */
HARNESS_TEST(who_was_ahead_and_is_lost_falls_two_events_behind)
{
    begin("raid1", 2, 0, false);
    hold("d", 1, "write:hold:offset=4096-8191");
    aside(write_once);
    wait_held("d", 1);
    wait_others("d", 1 << 1);
    uint64_t at = pc_now(&life), ahead = last_events("d", 0);
    aside_ends("d");
    cut(at, 0, 0);
    put("b", 0, BLOCK, 2, 0);
    check(last_events("c", 1) > ahead + 1);
    end();
}

/* ---- copies */

HARNESS_TEST(a_raid10_that_lacks_a_member_agrees_where_it_has_two_copies)
{
    begin("raid10", 4, 0, false);
    drop(0);
    put("a", CHUNK, BLOCK, 1, 0); /* of d2 and d3 */
    cut(pc_now(&life), 1 << 2, ALL);
    check_fits(1 << 0);
    end();
}

/* ---- parity and the log. Stripe 0 of raid5 has P on the last member; of raid6 on the last, Q on
 * the first */

/* What the log only names must not be lost with a cache once the member's part is missing. */
HARNESS_TEST(survivors_are_flushed_before_superblocks_say_that_one_has_failed)
{
    begin("raid5", 3, 0, false);
    put("a", 0, 2 * CHUNK, 1, 0);
    uint64_t from = pc_now(&life);
    drop(2);
    must(raid_stop("a", &e), &e);
    pc_hold(&life);
    for (unsigned m = 0; m < 2; m++) {
        bool flushed = false, told = false;
        for (unsigned i = 0; i < life.record[m].n && !told; i++) {
            const struct fault_entry *x = &life.record[m].entry[i];
            told = x->submitted > from && events_of(x);
            flushed = flushed || (x->op == BIO_FLUSH && x->submitted > from);
        }
        check(told && flushed);
    }
    pc_life_end(&life);
}

HARNESS_TEST(what_a_member_had_logged_before_it_left_is_void_when_it_is_back)
{
    begin("raid5", 3, 0, true);
    tick(true);
    put("a", 0, BLOCK, 1, BIO_FUA); /* logged by d2, which has P */
    drop(2);
    put("a", 0, BLOCK, 2, BIO_FUA);
    come_back(2);
    uint64_t at = pc_now(&life);
    tick(false);
    cut(at, 7, ALL);
    check_block(0, 2);
    check_fits(0);
    end();
}

HARNESS_TEST(a_raid6_logs_where_the_older_records_are)
{
    begin("raid6", 5, 0, true);
    tick(true);
    drop(4);
    put("a", 0, BLOCK, 1, BIO_FUA); /* logged by d0, which has Q */
    come_back(4);
    put("a", 0, BLOCK, 2, BIO_FUA);
    uint64_t at = pc_now(&life);
    tick(false);
    cut(at, 31, 4);
    check_block(0, 2);
    end();
}

static void start_aside(void *arg)
{
    (void)arg;
    start();
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

/* The log begins anew after a crash, and the power goes again before all members know. */
HARNESS_TEST(a_head_of_the_log_that_not_all_members_have_leaves_the_one_before)
{
    struct pc_life last;
    begin("raid5", 3, 0, false);
    put("a", 0, BLOCK, 1, BIO_FUA);
    uint64_t at = pc_now(&life);
    must(raid_stop("a", &e), &e);
    power_off_and_on(&life, &next, "c", at, 7, ALL);
    hold("c", 1, "write:hold:offset=1040384-1048575");
    hold("c", 2, "write:hold:offset=1040384-1048575");
    aside(start_aside);
    wait_held("c", 1);
    wait_held("c", 2);
    wait_others("c", 1 << 1 | 1 << 2);
    at = next.clock;
    aside_ends("c");
    must(raid_stop("b", &e), &e);
    power_off_and_on(&next, &last, "e", at, 1, 1);
    start();
    check_block(0, 1);
    must(raid_stop("b", &e), &e);
    pc_life_end(&last);
    end();
}

static void write_stripe(void *arg)
{
    (void)arg;
    put("a", 0, 3 * CHUNK, 1, 0);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(a_raid6_that_lost_data_has_both_parities_fit_each_other)
{
    begin("raid6", 5, 0, false);
    put("a", 6 * CHUNK, BLOCK, 1, 0); /* in use from here on */
    hold("d", 0, "write:hold:offset=1048576-2097151");
    aside(write_stripe);
    wait_held("d", 0);
    wait_others("d", 1 << 0);
    uint64_t at = pc_now(&life);
    aside_ends("d");
    cut(at, 31 & ~1, 1);
    check_fits(1 << 1);
    end();
}

/* ---- what is logged, and when */

/* Of the log's records that members have got since: the longest. */
static uint64_t longest_record(uint64_t since)
{
    uint64_t most = 0;
    for (unsigned m = 0; m < life.members; m++)
        for (unsigned i = 0; i < fault_record_count(fault_dev(m)); i++) {
            const struct fault_entry *x = fault_record_get(fault_dev(m), i);
            if (x->op == BIO_WRITE && x->submitted > since && x->offset >= 160 << 10 &&
                x->offset < DATA - 2 * BLOCK && x->length > most)
                most = x->length;
        }
    return most;
}

static bool superblock_since(unsigned m, uint64_t since)
{
    bool any = false;
    for (unsigned i = 0; i < fault_record_count(fault_dev(m)); i++) {
        const struct fault_entry *x = fault_record_get(fault_dev(m), i);
        any = any || (x->submitted > since && events_of(x));
    }
    return any;
}

static unsigned victim;

static void fail_it(void *arg)
{
    (void)arg;
    drop(victim);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

static void write_second_stripe(void *arg)
{
    (void)arg;
    put("a", 3 * CHUNK, BLOCK, 1, 0); /* of d0; d1 has P */
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(nothing_is_logged_between_a_failure_and_its_being_on_disk)
{
    begin("raid5", 3, 0, false);
    put("a", 0, BLOCK, 1, 0);
    hold("d", 0, "write:hold:offset=4096-8191");
    hold("d", 1, "write:hold:offset=4096-8191");
    victim = 2;
    aside(fail_it);
    wait_held("d", 0);
    wait_held("d", 1);
    uint64_t from = pc_now(&life);
    aside(write_second_stripe);
    task_sleep_us(30 * 1000);
    check_int(longest_record(from), 0);
    aside_ends("d");
    check(longest_record(from));
    must(raid_stop("a", &e), &e);
    pc_life_end(&life);
}

HARNESS_TEST(a_failure_is_on_disk_once_what_the_member_logged_is_written)
{
    enum { PATIENCE_MS = 1000 }; /* and no longer */
    begin("raid5", 3, 0, false);
    put("a", 0, BLOCK, 1, 0);
    hold("d", 0, "write:hold:offset=1048576-2097151");
    aside(write_second_stripe);
    wait_held("d", 0);
    uint64_t from = pc_now(&life), began = clock_ns();
    victim = 1;
    aside(fail_it);
    task_sleep_us(30 * 1000);
    bool told = superblock_since(0, from);
    check(!told || clock_ns() - began > PATIENCE_MS * 1000000ull);
    aside_ends("d");
    check(superblock_since(0, from));
    must(raid_stop("a", &e), &e);
    pc_life_end(&life);
}

static void add_the_spare(void *arg)
{
    (void)arg;
    must(raid_add_member("a", name_of("d", slots), true, &e), &e);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(who_was_about_to_join_has_lost_nothing_of_the_log)
{
    begin("raid6", 5, 1, false);
    drop(1);
    drop(2);
    put("a", 0, BLOCK, 1, BIO_FUA);
    tick(true);
    hold("d", 5, "write:hold:offset=4096-8191:after=1"); /* after the one of a spare */
    aside(add_the_spare);
    wait_held("d", 5);
    wait_others("d", 0);
    uint64_t at = pc_now(&life);
    aside_ends("d");
    tick(false);
    wait_idle();
    cut(at, 31, ALL);
    check_block(0, 1);
    end();
}

static void write_first_stripe(void *arg)
{
    (void)arg;
    put("a", 0, 2 * CHUNK, 1, 0);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

HARNESS_TEST(a_stripe_is_only_named_when_superblocks_say_that_its_members_are_whole)
{
    begin("raid5", 3, 1, false);
    drop(2);
    put("a", 0, BLOCK, 1, 0);
    hold("d", 3, "write+write_zeroes:hold:offset=2097152-2359295"); /* the last window */
    tick(true);
    aside(add_the_spare);
    wait_held("d", 3);
    for (unsigned i = 0; i < 4; i++)
        hold("d", i, i == 2 ? "" : "write:hold:offset=4096-8191");
    fault_release(fault_dev(3));
    wait_held("d", 0);
    tick(false); /* and it stays in use: no other superblock is written meanwhile */
    uint64_t from = pc_now(&life);
    aside(write_first_stripe);
    wait_done();
    check(longest_record(from) > 2 * CHUNK);
    aside_ends("d");
    wait_idle();
    must(raid_stop("a", &e), &e);
    pc_life_end(&life);
}

/* ---- a ring of the log begins at its start again */

enum { RECORD = 3 * BLOCK };  /* the length of a record */
static uint64_t first_record; /* where; of d2 */
static bool rounds;           /* atomic */

/* The last write there: of a record with rows, or (with `any`) of the one before, too. */
static const struct fault_entry *written_at(uint64_t offset, bool any, uint64_t since, unsigned *k)
{
    for (*k = fault_record_count(fault_dev(2)); (*k)--;) {
        const struct fault_entry *x = fault_record_get(fault_dev(2), *k);
        if (x->op == BIO_WRITE && x->submitted > since &&
            (x->offset == offset || (any && x->offset == offset - BLOCK)))
            return x;
    }
    return NULL;
}

static void go_round(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 60 && __atomic_load_n(&rounds, __ATOMIC_SEQ_CST); i++)
        put("a", 2 * BLOCK, 12 * BLOCK, 3 + i, 0);
    __atomic_sub_fetch(&busy, 1, __ATOMIC_SEQ_CST);
}

/* Two versions of a block are the first records that d2 has. */
static uint64_t begin_round(void)
{
    begin("raid5", 3, 0, false);
    wait_idle();
    unsigned k = fault_record_count(fault_dev(2));
    put("a", 0, BLOCK, 1, BIO_FUA);
    while (fault_record_get(fault_dev(2), k)->length != RECORD)
        k++;
    first_record = fault_record_get(fault_dev(2), k)->offset;
    uint64_t from = pc_now(&life);
    put("a", 0, BLOCK, 2, BIO_FUA);
    __atomic_store_n(&rounds, true, __ATOMIC_SEQ_CST);
    return from;
}

static void end_round(void)
{
    __atomic_store_n(&rounds, false, __ATOMIC_SEQ_CST);
    aside_ends("d");
    must(raid_stop("a", &e), &e);
}

/* The first one of the next round, of which the power leaves all but the header and what follows
 * it: the older version of the block. False: the array was marked clean meanwhile. */
static bool tear_the_first(int lost)
{
    char text[80];
    unsigned k;
    uint64_t from = begin_round();
    snprintf(text, sizeof text, "write:hold:offset=%llu", (unsigned long long)first_record);
    hold("d", 2, text);
    aside(go_round);
    wait_held("d", 2);
    uint64_t at = pc_now(&life);
    bool stayed = !superblock_since(0, from);
    end_round();
    pc_hold(&life);
    check(written_at(first_record, false, from, &k)->submitted <= at);
    struct fault_entry *x = &life.record[2].entry[k];
    x->offset += RECORD, x->data += RECORD, x->length -= RECORD, x->torn -= RECORD;
    power_off_and_on(&life, &next, "c", at, 7, lost);
    start();
    if (stayed)
        check_block(0, 2);
    check_fits(lost < 0 ? 0 : 1ull << lost);
    end();
    return stayed;
}

HARNESS_TEST(a_torn_record_at_the_start_of_a_ring_brings_no_older_ones_back)
{
    for (int lost = ALL; lost < 2; lost += 2)
        for (unsigned tries = 1; !tear_the_first(lost); tries++)
            check(tries < 20);
}

static bool fail_to_flush(void)
{
    unsigned k;
    uint64_t from = begin_round();
    hold("d", 0, "flush:delay=20ms:error=EIO"); /* the last to answer */
    for (unsigned i = 1; i < 3; i++)
        hold("d", i, "write:hold:offset=4096-8191");
    aside(go_round);
    wait_held("d", 1);
    task_sleep_us(30 * 1000);
    check(!written_at(first_record, true, from, &k));
    end_round();
    bool turned = written_at(first_record, true, from, &k);
    pc_life_end(&life);
    return turned;
}

HARNESS_TEST(who_cannot_flush_is_out_before_the_log_forgets)
{
    for (unsigned tries = 1; !fail_to_flush(); tries++)
        check(tries < 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_was_left_one_event_behind_is_brought_up_before_the_next_superblocks),
        cmocka_unit_test(who_was_ahead_and_is_lost_falls_two_events_behind),
        cmocka_unit_test(a_raid10_that_lacks_a_member_agrees_where_it_has_two_copies),
        cmocka_unit_test(survivors_are_flushed_before_superblocks_say_that_one_has_failed),
        cmocka_unit_test(what_a_member_had_logged_before_it_left_is_void_when_it_is_back),
        cmocka_unit_test(a_raid6_logs_where_the_older_records_are),
        cmocka_unit_test(a_head_of_the_log_that_not_all_members_have_leaves_the_one_before),
        cmocka_unit_test(a_raid6_that_lost_data_has_both_parities_fit_each_other),
        cmocka_unit_test(nothing_is_logged_between_a_failure_and_its_being_on_disk),
        cmocka_unit_test(a_failure_is_on_disk_once_what_the_member_logged_is_written),
        cmocka_unit_test(who_was_about_to_join_has_lost_nothing_of_the_log),
        cmocka_unit_test(a_stripe_is_only_named_when_superblocks_say_that_its_members_are_whole),
        cmocka_unit_test(a_torn_record_at_the_start_of_a_ring_brings_no_older_ones_back),
        cmocka_unit_test(who_cannot_flush_is_out_before_the_log_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
