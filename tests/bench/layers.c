/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a layer costs: CPU per 512-byte read at depth 32 on one reactor, over the null device bare
 * and through pass-through layers stacked on it. Prints ns a bio and the difference a layer makes.
 */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "drivers/drivers.h"

enum { ROUNDS = 3000000, LAYERS = 3 };

struct pass {
    struct bdev bdev;
    struct bdev_desc *below;
};

static void pass_submit(struct bdev *bdev, struct bio *bio)
{
    struct pass *p = container_of(bdev, struct pass, bdev);
    struct bio *child = bio_child(bio, p->below);
    bio->pending = 1;
    bio_submit(child);
}

static void pass_destroy(struct bdev *bdev)
{
    free(container_of(bdev, struct pass, bdev));
}

static const struct bdev_ops pass_ops = {
    .type = "pass", .submit = pass_submit, .destroy = pass_destroy};

static struct bdev_desc *open_dev(const char *name)
{
    struct bdev_user user = {.label = "bench"};
    struct err e;
    struct bdev_desc *d = bdev_open(name, CLAIM_SHARED_WRITE, &user, &e);
    if (!d)
        die(&e);
    return d;
}

static void bench(void *arg)
{
    (void)arg;
    struct err e;
    struct opts *o = opts_new(null_driver.opts);
    struct bdev *null;
    if (opts_put(o, "size", "1G", &e) || null_driver.create("l0", NULL, o, &null, &e))
        die(&e);
    struct load load = {.op = BIO_READ, .block = 512, .count = ROUNDS, .repeat = 5};
    double before = 0;
    for (int i = 0; i <= LAYERS; i++) {
        char name[8], below[8];
        snprintf(name, sizeof name, "l%d", i);
        snprintf(below, sizeof below, "l%d", i - 1);
        if (i) {
            struct pass *p = xcalloc(1, sizeof *p);
            snprintf(p->bdev.name, sizeof p->bdev.name, "%s", name);
            p->bdev.ops = &pass_ops;
            p->bdev.size = 1 << 30;
            p->bdev.block_size = 512;
            p->bdev.native = 1u << BIO_READ | 1u << BIO_WRITE;
            p->bdev.fanout = 1;
            p->below = open_dev(below);
            if (bdev_register(&p->bdev, &e))
                die(&e);
        }
        double best = load_cost(name, &load);
        printf("%d layers over null: %.0f ns a bio", i, best);
        printf(i ? ", %+.0f ns\n" : "\n", best - before);
        before = best;
    }
    opts_free(&o);
}

int main(void)
{
    return load_main(bench);
}
