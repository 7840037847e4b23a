/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What raid0, raid1 and raid10 cost: CPU per 4 KiB request at random places, depth 32, one reactor,
 * over memory members and bare. Prints ns a bio and the ratio to the bare member.
 */
#include "load.h"

#include <stdio.h>

#include "drivers/drivers.h"
#include "raid/raid.h"

enum { ROUNDS = 100000, BLOCK = 4096, MEMBERS = 5 };

static double cost(const char *name, enum bio_op op)
{
    return load_cost(name, op, BLOCK, ROUNDS);
}

static void compare(const char *level, unsigned n, enum raid_bitmap_choice bitmap, double read,
                    double write)
{
    static const char *const members[] = {"m1", "m2", "m3", "m4"};
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
    double w = cost("a", BIO_WRITE), r = cost("a", BIO_READ); /* no holes are read */
    printf("%s of %u%s: read %.0f ns (%.2f), write %.0f ns (%.2f)\n", level, n,
           bitmap == RAID_BITMAP_INTERNAL ? ", bitmap" : "", r, r / read, w, w / write);
    if (raid_stop("a", &e))
        die(&e);
}

static void bench(void *arg)
{
    struct err e;
    (void)arg;
    for (unsigned i = 0; i < MEMBERS; i++) {
        struct opts *o = opts_new(mem_driver.opts);
        struct bdev *b;
        char name[8];
        snprintf(name, sizeof name, "m%u", i);
        if (opts_put(o, "size", "64M", &e) || mem_driver.create(name, NULL, o, &b, &e))
            die(&e);
        opts_free(&o);
    }
    cost("m0", BIO_WRITE); /* its pages are there */
    double read = cost("m0", BIO_READ), write = cost("m0", BIO_WRITE);
    printf("memory: read %.0f ns, write %.0f ns\n", read, write);
    compare("raid0", 4, RAID_BITMAP_NONE, read, write);
    compare("raid1", 2, RAID_BITMAP_NONE, read, write);
    compare("raid1", 2, RAID_BITMAP_INTERNAL, read, write);
    compare("raid10", 4, RAID_BITMAP_NONE, read, write);
}

int main(void)
{
    return load_main(bench);
}
