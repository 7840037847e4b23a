/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a layer costs: CPU per 512-byte read at depth 32 on one reactor, over the null device bare
 * and through pass-through layers stacked on it. Prints ns a bio and the difference a layer makes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "block/bdev_driver.h"
#include "drivers/drivers.h"
#include "reactor/task.h"

enum { DEPTH = 32, ROUNDS = 3000000, LAYERS = 3, REPEAT = 5 };

struct pass {
    struct bdev bdev;
    struct bdev_desc *below;
};

struct slot {
    struct bio bio;
    struct iovec iov;
    struct run *run;
    uint8_t data[512];
};

struct run {
    struct slot slot[DEPTH];
    struct bdev_desc *desc;
    unsigned left, out;
    uint64_t seed;
    struct task *task;
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

static void die(const struct err *e)
{
    fprintf(stderr, "layers: %s\n", e->msg);
    exit(1);
}

static struct bdev_desc *open_dev(const char *name)
{
    struct bdev_user user = {.label = "bench"};
    struct err e;
    struct bdev_desc *d = bdev_open(name, CLAIM_SHARED_WRITE, &user, &e);
    if (!d)
        die(&e);
    return d;
}

static void next(struct slot *s);

static void done(struct bio *bio)
{
    struct slot *s = bio->arg;
    struct run *r = s->run;
    if (r->left)
        next(s);
    else if (!--r->out)
        task_wake(r->task);
}

static void next(struct slot *s)
{
    struct run *r = s->run;
    r->left--;
    r->seed = r->seed * 6364136223846793005u + 1;
    bio_init(&s->bio, r->desc, BIO_READ, (r->seed >> 33) % 1000000 * 512, 512, done, s);
    bio_data(&s->bio, &s->iov, 1);
    bio_submit(&s->bio);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double best;

static void measure(void *arg)
{
    struct bdev_desc *desc = arg;
    struct run *r = xcalloc(1, sizeof *r);
    best = 1e9;
    for (int repeat = 0; repeat < REPEAT; repeat++) {
        r->desc = desc;
        r->left = ROUNDS;
        r->out = DEPTH;
        r->task = task_self();
        uint64_t t0 = cpu_ns();
        for (unsigned i = 0; i < DEPTH; i++) {
            r->slot[i].run = r;
            r->slot[i].iov = (struct iovec){r->slot[i].data, 512};
            next(&r->slot[i]);
        }
        task_park();
        double ns = (double)(cpu_ns() - t0) / ROUNDS;
        if (ns < best)
            best = ns;
    }
    free(r);
}

static void bench(void *arg)
{
    (void)arg;
    struct err e;
    struct opts *o = opts_new(null_driver.opts);
    struct bdev *null;
    if (opts_put(o, "size", "1G", &e) || null_driver.create("l0", NULL, o, &null, &e))
        die(&e);
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
        struct bdev_desc *d = open_dev(name);
        task_call(reactor_get(0), measure, d);
        printf("%d layers over null: %.0f ns a bio", i, best);
        printf(i ? ", %+.0f ns\n" : "\n", best - before);
        before = best;
        bdev_close(&d);
    }
    opts_free(&o);
    fflush(stdout);
    _exit(0);
}

int main(void)
{
    struct err e;
    struct reactor_opts opts = {.count = 1};
    if (reactors_start(&opts, &e))
        die(&e);
    task_start(reactor_main(), "bench", bench, NULL);
    reactors_run();
    return 0;
}
