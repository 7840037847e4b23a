/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What raid0, raid1 and raid10 cost: CPU per request at random places, depth 32, one reactor, over
 * members of memory. Each array is compared with a bare device of its size, in turn, in many short
 * rounds, so that both miss the same caches and have the same neighbours. Prints medians of ns a
 * bio, and of what the array adds: 4 KiB all over the array, and 512 bytes within 2 MiB, where
 * little of it is memory.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "drivers/drivers.h"
#include "raid/raid.h"

enum { ROUNDS = 25, MEMBERS = 4 };

static const struct load loads[] = {
    {.op = BIO_READ, .block = 4096, .count = 20000, .repeat = 1},
    {.op = BIO_WRITE, .block = 4096, .count = 20000, .repeat = 1},
    {.op = BIO_READ, .block = 512, .span = 2 << 20, .count = 50000, .repeat = 1},
};

static void memory(const char *name, uint64_t size)
{
    struct opts *o = opts_new(mem_driver.opts);
    struct bdev *b;
    struct err e;
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)size);
    if (opts_put(o, "size", text, &e) || mem_driver.create(name, NULL, o, &b, &e))
        die(&e);
    opts_free(&o);
}

/* No holes are read, no page is met for the first time. Returns the size. */
static uint64_t fill(const char *name)
{
    enum { STEP = 1 << 20 };
    struct bdev_user user = {.label = "bench"};
    struct err e;
    struct bdev_desc *d = bdev_open(name, CLAIM_SHARED_WRITE, &user, &e);
    autofree void *data = xcalloc(1, STEP);
    if (!d)
        die(&e);
    uint64_t size = bdev_size(d);
    for (uint64_t at = 0; at < size; at += STEP)
        bdev_write(d, at, data, size - at < STEP ? size - at : STEP, 0);
    bdev_close(&d);
    return size;
}

static int by_size(const void *a, const void *b)
{
    return *(const double *)a < *(const double *)b ? -1 : 1;
}

static double median(double *all)
{
    qsort(all, ROUNDS, sizeof *all, by_size);
    return all[ROUNDS / 2];
}

static void compare(const char *level, unsigned n, enum raid_bitmap_choice bitmap)
{
    static const char *const members[] = {"m0", "m1", "m2", "m3"};
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = members,
                            .member_count = n,
                            .assume_clean = true,
                            .force = true,
                            .bitmap = bitmap};
    struct err e;
    if (raid_create(&c, &e))
        die(&e);
    memory("bare", fill("a"));
    fill("bare");
    printf("%s of %u%s:", level, n, bitmap == RAID_BITMAP_INTERNAL ? ", bitmap" : "");
    for (unsigned k = 0; k < sizeof loads / sizeof *loads; k++) {
        double bare[ROUNDS], more[ROUNDS];
        for (unsigned i = 0; i < ROUNDS; i++) {
            bare[i] = load_cost("bare", &loads[k]);
            more[i] = load_cost("a", &loads[k]) - bare[i];
        }
        double all = median(bare), extra = median(more);
        printf("%s %s of %u %.0f%+.0f ns (%.2f)", k ? "," : "", bio_op_name(loads[k].op),
               loads[k].block, all, extra, (all + extra) / all);
    }
    printf("\n");
    bdev_unregister(bdev_find("bare"));
    if (raid_stop("a", &e))
        die(&e);
}

static void bench(void *arg)
{
    (void)arg;
    log_set_level(LOG_LEVEL_ERROR);
    for (unsigned i = 0; i < MEMBERS; i++) {
        char name[8];
        snprintf(name, sizeof name, "m%u", i);
        memory(name, 64 << 20);
    }
    compare("raid0", 4, RAID_BITMAP_NONE);
    compare("raid1", 2, RAID_BITMAP_NONE);
    compare("raid1", 2, RAID_BITMAP_INTERNAL);
    compare("raid10", 4, RAID_BITMAP_NONE);
}

int main(void)
{
    return load_main(bench);
}
