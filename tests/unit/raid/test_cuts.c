/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Power cuts of a raid1: after each acknowledged step of a history, with one member failing
 * half-way, the disks are what a volatile cache may have left of them; the array is assembled from
 * that, and each sector must hold a version that is no older than what was flushed.
 */
#include "arrays.h"

#include "base/log.h"

enum { STEPS = 48, BLOCKS = 8, SIZE = 4096, SECTORS = SIZE / 512, FAILS_AT = 30 };

struct moment {
    uint64_t at[2];
    uint32_t flushed[BLOCKS], tried[BLOCKS];
};

static struct err e;
static struct moment moments[4096];
static unsigned moment_count;

/* By block, the version that has been acknowledged as durable, the one acknowledged, and the one
 * submitted. */
static uint32_t flushed[BLOCKS], written[BLOCKS], tried[BLOCKS];
static bool over;

/* In this order: what is durable now is so at any later moment, which the disks may see one after
 * the other. */
static void note(void)
{
    struct moment *m = &moments[moment_count];
    if (++moment_count == sizeof moments / sizeof *moments)
        moment_count--;
    memcpy(m->flushed, flushed, sizeof flushed);
    for (unsigned i = 0; i < 2; i++)
        m->at[i] = fault_record_now(fault_dev(i));
    memcpy(m->tried, tried, sizeof tried);
}

/* Moments between acknowledgements: superblocks half written, one leg ahead of the other. */
static void sample(void *arg)
{
    (void)arg;
    while (!over) {
        note();
        task_sleep_us(1000);
    }
    over = false;
}

static void step(struct bdev_desc *d, uint32_t s)
{
    uint32_t buf[SIZE / 4];
    unsigned block = s % BLOCKS;
    bool fua = s % 7 == 0;
    for (unsigned i = 0; i < SIZE / 4; i++)
        buf[i] = s;
    tried[block] = s;
    check_int(bdev_write(d, (uint64_t)block * SIZE, buf, SIZE, fua ? BIO_FUA : 0), 0);
    written[block] = s;
    if (fua)
        flushed[block] = s;
    note();
    if (s % 3)
        return;
    check_int(bdev_flush(d), 0);
    memcpy(flushed, written, sizeof flushed);
    note();
}

static void history(void)
{
    struct bdev_desc *d = open_device("a", CLAIM_SHARED_WRITE);
    task_start(reactor_main(), "sample", sample, NULL);
    rules(0, "write:delay=1500us:probability=0.5:seed=3");
    rules(1, "write:delay=1500us:probability=0.5:seed=4");
    for (uint32_t s = 1; s <= STEPS; s++) {
        if (s == FAILS_AT) { /* the one that would be believed, and the other is slow to know */
            rules(0, "write:error=EIO:offset=1M-4M");
            rules(1, "write:delay=5ms:offset=4K-8191");
        }
        step(d, s);
        if (s % 16 == 0)
            wait_state(s < FAILS_AT ? RAID_CLEAN : RAID_DEGRADED);
    }
    for (over = true; over;)
        task_sleep_us(1000);
    bdev_close(&d);
}

static void cut(const struct moment *m, enum fault_cut how, uint64_t seed)
{
    for (unsigned i = 0; i < 2; i++) {
        device(&mem_driver, name_of("c", i), "size=4M");
        struct bdev_desc *to = open_device(name_of("c", i), CLAIM_EXCLUSIVE);
        check_int(fault_replay(fault_dev(i), m->at[i], how, seed + i, to), 0);
        bdev_close(&to);
    }
}

static void check_block(struct bdev_desc *d, const struct moment *m, unsigned block)
{
    uint32_t got[SIZE / 4];
    check_int(bdev_read(d, (uint64_t)block * SIZE, got, SIZE), 0);
    for (unsigned k = 0; k < SECTORS; k++) {
        uint32_t v = got[k * 128];
        for (unsigned i = 0; i < 128; i++)
            check_int(got[k * 128 + i], v);
        check(v >= m->flushed[block] && v <= m->tried[block]);
        check(!v || v % BLOCKS == block);
    }
}

static void check_copies(void)
{
    static uint8_t data[2][BLOCKS * SIZE];
    for (unsigned i = 0; i < 2; i++) {
        struct bdev_desc *d = open_device(name_of("c", i), CLAIM_READ);
        check_int(bdev_read(d, DATA, data[i], sizeof data[i]), 0);
        bdev_close(&d);
    }
    check(!memcmp(data[0], data[1], sizeof data[0]));
}

static void restart(const struct moment *m)
{
    struct raid_assemble r = {.name = "b", .uuid = only_uuid(), .degraded_ok = true};
    must(raid_assemble(&r, &e), &e);
    bool whole = !info_of("b").missing;
    struct bdev_desc *d = open_device("b", CLAIM_READ);
    for (unsigned i = 0; i < BLOCKS; i++)
        check_block(d, m, i);
    while (info_of("b").sync != RAID_SYNC_IDLE || info_of("b").sync_job)
        task_sleep_us(500);
    for (unsigned i = 0; i < BLOCKS; i++)
        check_block(d, m, i);
    bdev_close(&d);
    must(raid_stop("b", &e), &e);
    if (whole)
        check_copies();
    remove_device("c0");
    remove_device("c1");
}

HARNESS_TEST(what_was_flushed_is_there_after_any_cut)
{
    make_members(2, "4M");
    fault_record_start(fault_dev(0));
    fault_record_start(fault_dev(1));
    must(create("raid1", 2, true, &e), &e);
    history();
    must(raid_stop("a", &e), &e);
    /* Held, so that a scan finds only what the cuts left. */
    struct bdev_desc *hold[2] = {open_device("d0", CLAIM_READ), open_device("d1", CLAIM_READ)};
    uint64_t seeds = getenv("ORION_FULL") ? 25 : 2;
    log_set_level(LOG_LEVEL_WARN);
    for (unsigned i = 0; i < moment_count; i++) {
        cut(&moments[i], FAULT_CUT_NONE, 0);
        restart(&moments[i]);
        for (uint64_t seed = 1; seed <= seeds; seed++) {
            cut(&moments[i], FAULT_CUT_CHANCE, 1000 * seed + i);
            restart(&moments[i]);
        }
    }
    log_set_level(LOG_LEVEL_INFO);
    printf("%u moments, %u cuts\n", moment_count, moment_count * (unsigned)(seeds + 1));
    bdev_close(&hold[0]);
    bdev_close(&hold[1]);
    remove_members(2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_was_flushed_is_there_after_any_cut)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
