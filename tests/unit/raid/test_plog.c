/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of the write hole under power cuts. Writes are held on the members' way at each step:
 * when the log is written, when data and parity are. From what a volatile cache may have left at
 * that moment, with a member lost too, the array is assembled; each sector must hold a version that
 * is no older than what was flushed, and parity must fit.
 */
#include "arrays.h"

#include "base/log.h"
#include "raid/parity.h"
#include "raid/plog.h"

enum { CHUNK = 4096, BLOCKS = 24, STEPS = 20, MOST = 6, WORDS = CHUNK / 4 };

struct moment {
    uint64_t at[MOST];
    uint32_t flushed[BLOCKS], latest[BLOCKS];
};

static struct err e;
static struct moment moments[STEPS * 8];
static unsigned moment_count, slots, parities, used;
static uint32_t flushed[BLOCKS], latest[BLOCKS], bytes[BLOCKS][WORDS];
static bool gone[MOST]; /* before the history begins */

static void note(void)
{
    check(moment_count < sizeof moments / sizeof *moments);
    struct moment *m = &moments[moment_count++];
    for (unsigned i = 0; i < slots; i++)
        m->at[i] = gone[i] ? 0 : fault_record_now(fault_dev(i));
    memcpy(m->flushed, flushed, sizeof flushed);
    memcpy(m->latest, latest, sizeof latest);
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

static unsigned held(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < slots; i++)
        n += gone[i] ? 0 : fault_held(fault_dev(i));
    return n;
}

static void hold(const char *text)
{
    for (unsigned i = 0; i < slots; i++)
        if (!gone[i])
            rules(i, text);
}

/* One write, noting what stands on its way each time that everything waits. */
static void stamp(struct bdev_desc *d, unsigned block, unsigned n, uint32_t version, bool fua)
{
    struct async w = {.done = false};
    for (unsigned b = block; b < block + n; b++) {
        latest[b] = version;
        for (unsigned i = 0; i < WORDS; i++)
            bytes[b][i] = version;
    }
    w.iov = (struct iovec){bytes[block], n * CHUNK};
    bio_init(&w.bio, d, BIO_WRITE, block * CHUNK, n * CHUNK, async_done, &w);
    bio_data(&w.bio, &w.iov, 1);
    w.bio.flags = fua ? BIO_FUA : 0;
    bio_submit(&w.bio);
    while (!w.done) {
        unsigned before = held();
        task_sleep_us(1500);
        if (!before || held() != before)
            continue;
        note();
        for (unsigned i = 0; i < slots; i++)
            if (!gone[i])
                fault_release(fault_dev(i));
    }
    check_int(w.bio.error, 0);
    for (unsigned b = block; b < block + n && fua; b++)
        flushed[b] = version;
}

static void history(bool whole_stripes)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    unsigned data = slots - parities;
    check_int(bdev_write(d, 0, bytes, CHUNK, 0), 0); /* in use from here on */
    hold("write:hold:offset=160K-4M");
    for (uint32_t s = 1; s <= STEPS; s++) {
        unsigned n = s % 5 == 0 ? 2 : s % 7 == 0 ? data : 1, block = s * 5 % (used - data);
        if (n == data && whole_stripes)
            block = block / data * data;
        else if (n == data)
            n = 1;
        stamp(d, block, n, s, s % 6 == 0);
        if (s % 9 == 0) {
            check_int(bdev_flush(d), 0);
            memcpy(flushed, latest, sizeof flushed);
            note();
        }
    }
    hold("");
    bdev_close(&d);
}

/* ---- after the cut */

static void cut(const struct moment *m, enum fault_cut how, uint64_t seed, int lost)
{
    for (unsigned i = 0; i < slots; i++) {
        if (gone[i] || (int)i == lost)
            continue;
        device(&mem_driver, name_of("c", i), "size=4M");
        struct bdev_desc *to = open_device(name_of("c", i), CLAIM_EXCLUSIVE);
        check_int(fault_replay(fault_dev(i), m->at[i], how, seed + i, to), 0);
        bdev_close(&to);
    }
}

static void check_blocks(struct bdev_desc *d, const struct moment *m)
{
    static uint32_t got[WORDS];
    for (unsigned b = 0; b < used; b++) {
        check_int(bdev_read(d, b * CHUNK, got, CHUNK), 0);
        for (unsigned k = 0; k < WORDS; k++) {
            uint32_t v = got[k / 128 * 128];
            if (got[k] != v || v < m->flushed[b] || v > m->latest[b])
                fprintf(stderr, "block %u word %u: %u, of %u to %u, moment %td\n", b, k, got[k],
                        m->flushed[b], m->latest[b], m - moments);
            check(got[k] == v && v >= m->flushed[b] && v <= m->latest[b]);
        }
    }
}

/* What the members hold fits, when all of them are there. */
static void check_parity(int32_t level)
{
    struct parity_geometry g;
    struct parity_map map;
    static _Alignas(PARITY_ALIGN) uint8_t block[MOST][CHUNK], want[2][CHUNK];
    parity_geometry_init(&g, level, LAYOUT_LEFT_SYMMETRIC, slots);
    for (uint64_t s = 0; s < BLOCKS; s++) {
        uint8_t *p[PARITY_SLOTS_MAX] = {0};
        parity_map_init(&map, &g, s);
        for (unsigned i = 0; i < slots; i++) {
            struct bdev_desc *d = open_device(name_of("c", i), CLAIM_READ);
            check_int(bdev_read(d, DATA + s * CHUNK, block[i], CHUNK), 0);
            bdev_close(&d);
            p[i] = block[i];
        }
        p[map.p] = want[0];
        if (map.parities == 2)
            p[map.q] = want[1];
        parity_generate(&map, p, CHUNK);
        check(!memcmp(want[0], block[map.p], CHUNK));
        check(map.parities < 2 || !memcmp(want[1], block[map.q], CHUNK));
    }
}

static void restart(const struct moment *m, int32_t level, int lost)
{
    struct raid_assemble r = {.name = "b", .uuid = only_uuid(), .degraded_ok = true};
    bool whole = lost < 0;
    must(raid_assemble(&r, &e), &e);
    struct bdev_desc *d = open_device("b", CLAIM_READ);
    check_blocks(d, m);
    while (info_of("b").sync != RAID_SYNC_IDLE || info_of("b").sync_job)
        task_sleep_us(500);
    check_blocks(d, m);
    bdev_close(&d);
    must(raid_stop("b", &e), &e);
    for (unsigned i = 0; i < slots; i++)
        whole = whole && !gone[i];
    if (whole)
        check_parity(level);
    for (unsigned i = 0; i < slots; i++)
        if (!gone[i] && (int)i != lost)
            remove_device(name_of("c", i));
}

static void cuts(const char *level, unsigned n, unsigned missing, bool lose)
{
    static char names[MOST][8];
    const char *members[MOST];
    int32_t number;
    check(md_level_parse(level, &number));
    slots = n;
    parities = number == 6 ? 2 : 1;
    used = BLOCKS;
    moment_count = 0;
    memset(flushed, 0, sizeof flushed);
    memset(latest, 0, sizeof latest);
    memset(bytes, 0, sizeof bytes);
    make_members(n, "4M");
    for (unsigned i = 0; i < n; i++) {
        gone[i] = false;
        snprintf(names[i], sizeof names[i], "d%u", i);
        members[i] = names[i];
        fault_record_start(fault_dev(i));
    }
    struct raid_create c = {
        .name = "a", .level = level, .members = members, .member_count = n, .chunk = CHUNK};
    must(raid_create(&c, &e), &e);
    check(!strcmp(info_of("a").log, "on"));
    for (unsigned i = 0; i < missing; i++) {
        must(raid_fail_member("a", name_of("d", 1 + 2 * i), false, &e), &e);
        gone[1 + 2 * i] = true;
    }
    history(!lose);
    must(raid_stop("a", &e), &e);
    struct bdev_desc *keep[MOST];
    for (unsigned i = 0; i < n; i++)
        keep[i] = open_device(name_of("d", i), CLAIM_READ);
    log_set_level(LOG_LEVEL_WARN);
    for (unsigned i = 0; i < moment_count; i++) {
        for (uint64_t seed = 0; seed < 2; seed++) {
            int lost = lose ? (int)((i + seed) % n) : -1;
            cut(&moments[i], seed ? FAULT_CUT_CHANCE : FAULT_CUT_NONE, 1000 * seed + i, lost);
            restart(&moments[i], number, lost);
        }
    }
    log_set_level(LOG_LEVEL_INFO);
    for (unsigned i = 0; i < n; i++)
        bdev_close(&keep[i]);
    remove_members(n);
}

HARNESS_TEST(raid5_whole_survives_cuts)
{
    cuts("raid5", 4, 0, false);
}

HARNESS_TEST(raid5_degraded_survives_cuts)
{
    cuts("raid5", 4, 1, false);
}

HARNESS_TEST(raid5_that_loses_a_member_with_the_power_survives)
{
    cuts("raid5", 4, 0, true);
}

HARNESS_TEST(raid6_whole_survives_cuts)
{
    cuts("raid6", 5, 0, false);
}

HARNESS_TEST(raid6_that_loses_a_member_with_the_power_survives)
{
    cuts("raid6", 5, 0, true);
}

HARNESS_TEST(raid6_degraded_survives_cuts)
{
    cuts("raid6", 5, 1, false);
    cuts("raid6", 6, 2, false);
}

/* ---- a record that fails */

static bool data_written(unsigned i)
{
    bool any = false;
    for (unsigned k = 0; k < fault_record_count(fault_dev(i)); k++)
        any = any || fault_record_get(fault_dev(i), k)->offset >= DATA;
    return any;
}

/* Else it is a member again after a power cut, with parity that does not fit. */
HARNESS_TEST(what_could_not_be_logged_waits_until_superblocks_know)
{
    struct async w = {.done = false};
    make_members(3, "4M");
    must(create("raid5", 3, true, &e), &e);
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    check_int(bdev_write(d, 0, bytes, CHUNK, 0), 0); /* in use from here on; d2 has P */
    fault_record_start(fault_dev(0));
    rules(2, "write:error=EIO:offset=163840-1040383");
    rules(0, "write:hold:offset=4096-8191");
    w.iov = (struct iovec){bytes, CHUNK};
    bio_init(&w.bio, d, BIO_WRITE, 0, CHUNK, async_done, &w);
    bio_data(&w.bio, &w.iov, 1);
    bio_submit(&w.bio);
    while (!fault_held(fault_dev(0)))
        task_sleep_us(500);
    check(!data_written(0));
    rules(0, "");
    fault_release(fault_dev(0));
    while (!w.done)
        task_sleep_us(500);
    check_int(w.bio.error, 0);
    check(data_written(0));
    check_int(info_of("a").missing, 1);
    bdev_close(&d);
    must(raid_stop("a", &e), &e);
    remove_members(3);
}

/* ---- bytes */

static void test_heads_and_records_come_back(void **state)
{
    (void)state;
    static uint8_t block[PLOG_BLOCK];
    struct plog_head h = {.sequence = 7,
                          .array = uuid_random(),
                          .epoch = uuid_random(),
                          .before_events = 1,
                          .before_utime = 2,
                          .next_events = 3,
                          .next_utime = 4,
                          .length = 20 * PLOG_BLOCK,
                          .rings = 3,
                          .synced = true},
                     h2;
    plog_head_write(&h, block);
    assert_true(plog_head_read(&h2, block));
    static uint8_t again[PLOG_BLOCK];
    plog_head_write(&h2, again);
    assert_memory_equal(block, again, sizeof block);
    assert_int_equal(h2.length, h.length);
    assert_true(h2.synced);
    struct plog_record r = {.epoch = uuid_random(),
                            .sequence = 9,
                            .tail = 5,
                            .stripe = 11,
                            .lo = 512,
                            .hi = 4096,
                            .slots = 1ull << 63 | 2,
                            .payload = 1024,
                            .payload_sum = 77},
                       r2;
    r.row[1][0] = 512, r.row[1][1] = 1024, r.row[63][0] = 3584, r.row[63][1] = 4096;
    plog_record_write(&r, block);
    assert_true(plog_record_read(&r2, block));
    plog_record_write(&r2, again);
    assert_memory_equal(block, again, sizeof block);
    assert_int_equal(r2.row[63][0], 3584);
    assert_false(plog_head_read(&h2, block));
    for (unsigned i = 0; i < 200; i += 7) {
        block[i] ^= 4;
        assert_false(plog_record_read(&r2, block));
        block[i] ^= 4;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heads_and_records_come_back),
        cmocka_unit_test(raid5_whole_survives_cuts),
        cmocka_unit_test(raid5_degraded_survives_cuts),
        cmocka_unit_test(raid5_that_loses_a_member_with_the_power_survives),
        cmocka_unit_test(raid6_whole_survives_cuts),
        cmocka_unit_test(raid6_that_loses_a_member_with_the_power_survives),
        cmocka_unit_test(raid6_degraded_survives_cuts),
        cmocka_unit_test(what_could_not_be_logged_waits_until_superblocks_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
