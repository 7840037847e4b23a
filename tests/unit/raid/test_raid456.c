/* SPDX-License-Identifier: GPL-2.0-or-later */
/* raid4, 5 and 6 against a plain array of bytes: healthy, degraded, rebuilt, in every layout. */
#include "arrays.h"

#include "raid/parity.h"

enum { CHUNK = 64 << 10, MEMBER = 3 << 20, MODEL = 12 << 20, BLOCK = 512 };

static struct err e;
static uint8_t model[MODEL], buf[MODEL], back[MODEL];
static uint64_t seed = 88172645463325252ull;

static uint64_t chance(uint64_t below)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed % below;
}

static void stop(void)
{
    must(raid_stop("a", &e), &e);
}

static void write_model(struct bdev_desc *d, uint64_t at, size_t len)
{
    fill_pattern(buf, len, (unsigned)chance(1 << 20));
    check_int(bdev_write(d, at, buf, len, 0), 0);
    memcpy(model + at, buf, len);
}

static void check_range(struct bdev_desc *d, uint64_t at, size_t len)
{
    memset(back, 0xee, len);
    check_int(bdev_read(d, at, back, len), 0);
    check(!memcmp(back, model + at, len));
}

static void check_model(struct bdev_desc *d)
{
    uint64_t size = bdev_size(d);
    for (uint64_t at = 0; at < size; at += 1 << 20)
        check_range(d, at, size - at < 1 << 20 ? size - at : 1 << 20);
}

/* Writes of any size anywhere; zeroes too. */
static void scribble(struct bdev_desc *d, unsigned times)
{
    uint64_t blocks = bdev_size(d) / BLOCK;
    for (unsigned i = 0; i < times; i++) {
        static const unsigned sizes[] = {1, 8, 16, 128, 130, 512, 700};
        uint64_t n = 1 + chance(sizes[chance(7)]), at = chance(blocks - n);
        if (chance(8)) {
            write_model(d, at * BLOCK, n * BLOCK);
        } else {
            check_int(do_op(d, BIO_WRITE_ZEROES, at * BLOCK, n * BLOCK, 0), 0);
            memset(model + at * BLOCK, 0, n * BLOCK);
        }
        n = 1 + chance(200);
        at = chance(blocks - n);
        check_range(d, at * BLOCK, n * BLOCK);
    }
}

/* Parity on the stopped members, by the arithmetic that test_parity.c proves. */
static void check_parity(int32_t level, uint32_t layout, unsigned slots)
{
    struct parity_geometry g;
    struct parity_map map;
    static _Alignas(PARITY_ALIGN) uint8_t block[8][CHUNK], want[2][CHUNK];
    struct bdev_desc *d[8];
    check(parity_geometry_init(&g, level, layout, slots));
    for (unsigned i = 0; i < slots; i++)
        d[i] = open_device(name_of("d", i), CLAIM_READ);
    for (uint64_t s = 0; s < MEMBER / CHUNK; s++) {
        uint8_t *p[PARITY_SLOTS_MAX] = {0};
        parity_map_init(&map, &g, s);
        for (unsigned i = 0; i < slots; i++) {
            check_int(bdev_read(d[i], DATA + s * CHUNK, block[i], CHUNK), 0);
            p[i] = block[i];
        }
        p[map.p] = want[0];
        if (map.parities == 2)
            p[map.q] = want[1];
        parity_generate(&map, p, CHUNK);
        check(!memcmp(want[0], block[map.p], CHUNK));
        check(map.parities < 2 || !memcmp(want[1], block[map.q], CHUNK));
    }
    for (unsigned i = 0; i < slots; i++)
        bdev_close(&d[i]);
}

/* On fresh members, all zero, every layout is in order. */
static void make(const char *level, uint32_t layout, unsigned slots)
{
    make_members(slots, "4M");
    must(create(level, slots, true, &e), &e);
    memset(model, 0, sizeof model);
    if (layout == LAYOUT_LEFT_SYMMETRIC)
        return;
    stop();
    for (unsigned i = 0; i < slots; i++) {
        struct md_super sb = super_of(i);
        sb.layout = layout;
        put_super(i, &sb);
    }
    must(assemble(false, &e), &e);
}

static int32_t number_of(const char *level)
{
    int32_t n;
    check(md_level_parse(level, &n));
    return n;
}

static void life(const char *level, uint32_t layout, unsigned slots)
{
    unsigned losses = !strcmp(level, "raid6") ? 2 : 1, at = (unsigned)chance(slots);
    make(level, layout, slots);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_size(d), (uint64_t)MEMBER * (slots - losses));
    scribble(d, 40);
    check_model(d);
    for (unsigned i = 0; i < losses; i++) {
        must(raid_fail_member("a", name_of("d", (at + i) % slots), false, &e), &e);
        check_int(info_of("a").state, RAID_DEGRADED);
        check_model(d);
        scribble(d, 30);
        check_model(d);
    }
    check_int(raid_fail_member("a", name_of("d", (at + losses) % slots), false, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    for (unsigned i = 0; i < losses; i++) {
        const char *name = name_of("d", (at + i) % slots);
        must(raid_remove_member("a", name, false, &e), &e);
        must(raid_add_member("a", name, true, &e), &e);
        scribble(d, 20);
        wait_idle();
        check_int(info_of("a").missing, losses - 1 - i);
        check_model(d);
    }
    scribble(d, 20);
    check_model(d);
    bdev_close(&d);
    stop();
    /* Slots may have changed hands; what the disks hold is one array all the same. */
    must(assemble(false, &e), &e);
    d = open_device("a", CLAIM_READ);
    check_model(d);
    bdev_close(&d);
    stop();
    if (losses == 1)
        check_parity(number_of(level), layout, slots);
    remove_members(slots);
}

HARNESS_TEST(raid5_lives_in_every_layout)
{
    for (uint32_t layout = 0; layout <= 5; layout++)
        life("raid5", layout, 4);
    life("raid5", LAYOUT_LEFT_SYMMETRIC, 3);
    life("raid5", LAYOUT_LEFT_SYMMETRIC, 5);
}

HARNESS_TEST(raid4_lives)
{
    life("raid4", 0, 4);
}

HARNESS_TEST(raid6_lives_in_every_layout)
{
    static const uint32_t layouts[] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 18, 19, 20};
    for (unsigned i = 0; i < sizeof layouts / sizeof *layouts; i++)
        life("raid6", layouts[i], 5);
    life("raid6", LAYOUT_LEFT_SYMMETRIC, 4);
    life("raid6", LAYOUT_LEFT_SYMMETRIC, 6);
}

HARNESS_TEST(parity_fits_after_healthy_writes)
{
    make("raid6", LAYOUT_LEFT_SYMMETRIC, 6);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    scribble(d, 200);
    bdev_close(&d);
    stop();
    check_parity(6, LAYOUT_LEFT_SYMMETRIC, 6);
    remove_members(6);
}

HARNESS_TEST(a_first_resync_makes_parity_fit)
{
    make_members(4, "4M");
    for (unsigned i = 0; i < 4; i++) {
        struct bdev_desc *d = open_device(name_of("d", i), CLAIM_EXCLUSIVE);
        fill_pattern(buf, MEMBER, i);
        check_int(bdev_write(d, DATA, buf, MEMBER, 0), 0);
        bdev_close(&d);
    }
    must(create("raid5", 4, false, &e), &e);
    wait_idle();
    wait_state(RAID_CLEAN);
    stop();
    check_parity(5, LAYOUT_LEFT_SYMMETRIC, 4);
    remove_members(4);
}

/* ---- how many requests reach the members */

static void count(unsigned slots, unsigned *reads, unsigned *writes, unsigned *other)
{
    *reads = *writes = *other = 0;
    for (unsigned i = 0; i < slots; i++) {
        *reads += (unsigned)fault_rule_hits(fault_dev(i), 0);
        *writes += (unsigned)fault_rule_hits(fault_dev(i), 1);
        *other += (unsigned)fault_rule_hits(fault_dev(i), 2);
    }
}

static void start_count(unsigned slots)
{
    for (unsigned i = 0; i < slots; i++)
        rules(i, "read:delay=1us:offset=1M-4M; write:delay=1us:offset=1M-4M; "
                 "write+flush:delay=1us");
}

struct async {
    struct bio bio;
    struct iovec iov;
    struct twait *wait;
};

static void async_done(struct bio *bio)
{
    twait_done(((struct async *)bio->arg)->wait);
}

struct burst {
    struct bdev_desc *d;
    unsigned n;
    uint64_t at, step;
    size_t len;
};

static void burst_run(void *arg)
{
    static struct async all[64];
    const struct burst *b = arg;
    struct twait wait = TWAIT(b->n);
    for (unsigned i = 0; i < b->n; i++) {
        uint64_t to = b->at + i * b->step;
        fill_pattern(model + to, b->len, (unsigned)chance(1000));
        all[i].wait = &wait;
        all[i].iov = (struct iovec){model + to, b->len};
        bio_init(&all[i].bio, b->d, BIO_WRITE, to, b->len, async_done, &all[i]);
        bio_data(&all[i].bio, &all[i].iov, 1);
    }
    for (unsigned i = 0; i < b->n; i++)
        bio_submit(&all[i].bio);
    twait_all(&wait);
    for (unsigned i = 0; i < b->n; i++)
        check_int(all[i].bio.error, 0);
}

/* Writes `n` pieces at once, on the reactor that has the first stripes: in one turn. */
static void write_at_once(struct bdev_desc *d, unsigned n, uint64_t at, size_t len, uint64_t step)
{
    struct burst b = {d, n, at, step, len};
    task_call(reactor_get(0), burst_run, &b);
}

static void count_writes(const char *level, unsigned slots, unsigned data, unsigned each)
{
    unsigned reads, writes, other;
    make(level, LAYOUT_LEFT_SYMMETRIC, slots);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    write_model(d, 0, 4096); /* marks it in use */
    start_count(slots);
    write_at_once(d, 1, 8192, 4096, 0);
    count(slots, &reads, &writes, &other);
    check_int(reads, each);
    check_int(writes, each);
    check_int(other, 1); /* the log */
    /* 32 of them, each to a row of its own. */
    start_count(slots);
    write_at_once(d, 32, 0, 4096, (uint64_t)CHUNK * data + 8192);
    count(slots, &reads, &writes, &other);
    check_int(reads, 32 * each);
    check_int(writes, 32 * each);
    check(other <= 32 + 2 * slots); /* and flushes where its rings were full */
    /* 16 adjacent ones are one, and whole stripes read nothing, in one piece or in many. */
    start_count(slots);
    write_at_once(d, 16, 0, 4096, 4096);
    count(slots, &reads, &writes, &other);
    check_int(reads, each);
    check_int(writes, each);
    start_count(slots);
    write_at_once(d, 1, (uint64_t)CHUNK * data, CHUNK * data, 0);
    write_at_once(d, data * 4, (uint64_t)CHUNK * data * 2, CHUNK / 4, CHUNK / 4);
    count(slots, &reads, &writes, &other);
    check_int(reads, 0);
    check_int(writes, 2 * slots);
    for (unsigned i = 0; i < slots; i++)
        rules(i, "");
    check_model(d);
    bdev_close(&d);
    stop();
    check_parity(number_of(level), LAYOUT_LEFT_SYMMETRIC, slots);
    remove_members(slots);
}

HARNESS_TEST(raid5_reads_two_and_writes_two)
{
    count_writes("raid5", 5, 4, 2);
}

HARNESS_TEST(raid6_reads_three_and_writes_three)
{
    count_writes("raid6", 6, 4, 3);
}

/* ---- failures */

HARNESS_TEST(a_read_error_is_answered_from_parity_and_repaired)
{
    make("raid5", LAYOUT_LEFT_SYMMETRIC, 4);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    scribble(d, 20);
    rules(0, "read:error=ENODATA:offset=1052672-1056767:count=3");
    check_range(d, 0, CHUNK * 3);
    uint64_t corrected = 0;
    for (unsigned i = 0; i < 500 && !corrected; i++) {
        corrected = info_of("a").member[0].corrected;
        task_sleep_us(1000);
    }
    rules(0, "");
    check_int(corrected, 1);
    check_int(info_of("a").missing, 0);
    check_model(d);
    bdev_close(&d);
    stop();
    check_parity(5, LAYOUT_LEFT_SYMMETRIC, 4);
    remove_members(4);
}

HARNESS_TEST(members_that_fail_writes_go_and_nothing_is_lost)
{
    make("raid6", LAYOUT_LEFT_SYMMETRIC, 5);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    scribble(d, 10);
    rules(1, "write:error=EIO:offset=1M-4M");
    scribble(d, 20);
    check_int(info_of("a").missing, 1);
    rules(4, "write:error=EIO:offset=1M-4M:after=5");
    scribble(d, 40);
    check_int(info_of("a").missing, 2);
    check_model(d);
    rules(0, "write:error=EIO:offset=1M-4M:after=5");
    int error = 0;
    for (unsigned i = 0; i < 50 && !error; i++)
        error = bdev_write(d, i * CHUNK, buf, CHUNK, 0);
    check(error);
    check_int(info_of("a").state, RAID_FAILED);
    check_int(bdev_read(d, 0, back, 4096), -EIO);
    check_int(bdev_write(d, 0, back, 4096, 0), -EIO);
    bdev_close(&d);
    stop();
    check_int(super_of(2).role[super_of(1).dev_number], MD_ROLE_FAULTY);
    remove_members(5);
}

static bool held_up; /* atomic */

static void write_aside(void *arg)
{
    bdev_write(arg, 2 * CHUNK, buf, BLOCK, 0);
    __atomic_store_n(&held_up, false, __ATOMIC_SEQ_CST);
}

/* The last writes may be lost with the cache that did not flush: who has failed before stays a
 * member, since the others may not stand for it. */
HARNESS_TEST(superblocks_stay_as_they_are_when_a_survivor_cannot_flush)
{
    make_members(3, "4M");
    must(create("raid5", 3, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    write_model(d, 0, 2 * CHUNK);
    rules(2, "write:hold:offset=1M-4M"); /* in use until this one ends */
    __atomic_store_n(&held_up, true, __ATOMIC_SEQ_CST);
    task_start(reactor_self(), "aside", write_aside, d);
    until(fault_held(fault_dev(2)));
    rules(0, "flush:error=EIO");
    raid_fail_member("a", "d2", false, &e);
    wait_state(RAID_FAILED);
    rules(2, "");
    fault_release(fault_dev(2));
    until(!__atomic_load_n(&held_up, __ATOMIC_SEQ_CST));
    bdev_close(&d);
    rules(0, "");
    raid_stop("a", &e);
    for (unsigned i = 0; i < 2; i++)
        check_int(super_of(i).role[2], 2);
    must(assemble(false, &e), &e);
    check_int(info_of("a").missing, 0);
    d = open_device("a", CLAIM_READ);
    check_range(d, 0, 2 * CHUNK);
    bdev_close(&d);
    wait_idle();
    stop();
    remove_members(3);
}

HARNESS_TEST(dirty_and_degraded_is_refused_unless_forced)
{
    make("raid5", LAYOUT_LEFT_SYMMETRIC, 3);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    write_model(d, 0, 4096);
    bdev_close(&d);
    stop();
    for (unsigned i = 0; i < 3; i++) {
        struct md_super sb = super_of(i);
        sb.resync_offset = 0;
        sb.utime++; /* somebody else ran it: our log says nothing */
        put_super(i, &sb);
    }
    remove_device("d1");
    remove_device("m1");
    check_int(assemble(true, &e), -1);
    check_int(e.code, ERR_NEEDS_FORCE);
    struct raid_assemble r = {.name = "a", .uuid = only_uuid(), .force = true};
    must(raid_assemble(&r, &e), &e);
    d = open_device("a", CLAIM_READ);
    check_model(d);
    bdev_close(&d);
    stop();
    remove_members(3);
}

/* ---- many at once */

struct storm {
    struct bdev_desc *d;
};

static void storm_run(void *arg)
{
    struct storm *s = arg;
    static uint8_t junk[REACTOR_MAX][65536];
    uint8_t *mine = junk[reactor_self_index()];
    uint64_t x = 88172645463325252ull + reactor_self_index();
    for (unsigned i = 0; i < 300; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        fill_pattern(mine, 65536, (unsigned)x);
        check_int(
            bdev_write(s->d, x % 64 * 4096, mine, 4096 * (1 + (x >> 8) % 16), x & 64 ? BIO_FUA : 0),
            0);
        check_int(bdev_read(s->d, (8 << 20) + x % 64 * 4096, mine, 4096), 0);
    }
}

HARNESS_TEST(overlapping_writes_leave_fitting_parity)
{
    make("raid6", LAYOUT_LEFT_SYMMETRIC, 5);
    struct storm s = {.d = open_device("a", CLAIM_SHARED_WRITE)};
    rules(0, "write:delay=20us:probability=0.3");
    rules(1, "read:delay=20us:probability=0.3:seed=5");
    task_call_all(storm_run, &s);
    must(raid_fail_member("a", "d2", false, &e), &e);
    task_call_all(storm_run, &s);
    must(raid_remove_member("a", "d2", false, &e), &e);
    must(raid_add_member("a", "d2", true, &e), &e);
    task_call_all(storm_run, &s);
    rules(0, "");
    rules(1, "");
    wait_idle();
    bdev_close(&s.d);
    stop();
    check_parity(6, LAYOUT_LEFT_SYMMETRIC, 5);
    remove_members(5);
}

HARNESS_TEST(little_memory_and_none_slow_it_down_and_break_nothing)
{
    static const size_t limits[] = {0, 4096, 256 << 10};
    for (unsigned i = 0; i < 3; i++) {
        raid_set_stripe_memory(limits[i]);
        life("raid6", LAYOUT_LEFT_SYMMETRIC, 5);
        make("raid5", LAYOUT_LEFT_SYMMETRIC, 4);
        struct storm s = {.d = open_device("a", CLAIM_SHARED_WRITE)};
        task_call_all(storm_run, &s);
        check(info_of("a").memory_most <= limits[i] * reactor_count());
        check_int(info_of("a").memory, 0);
        bdev_close(&s.d);
        stop();
        check_parity(5, LAYOUT_LEFT_SYMMETRIC, 4);
        remove_members(4);
    }
    raid_set_stripe_memory(64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parity_fits_after_healthy_writes),
        cmocka_unit_test(raid5_lives_in_every_layout),
        cmocka_unit_test(raid4_lives),
        cmocka_unit_test(raid6_lives_in_every_layout),
        cmocka_unit_test(a_first_resync_makes_parity_fit),
        cmocka_unit_test(raid5_reads_two_and_writes_two),
        cmocka_unit_test(raid6_reads_three_and_writes_three),
        cmocka_unit_test(a_read_error_is_answered_from_parity_and_repaired),
        cmocka_unit_test(members_that_fail_writes_go_and_nothing_is_lost),
        cmocka_unit_test(superblocks_stay_as_they_are_when_a_survivor_cannot_flush),
        cmocka_unit_test(dirty_and_degraded_is_refused_unless_forced),
        cmocka_unit_test(overlapping_writes_leave_fitting_parity),
        cmocka_unit_test(little_memory_and_none_slow_it_down_and_break_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
