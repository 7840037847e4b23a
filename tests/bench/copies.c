/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What raid0, raid1 and raid10 cost: CPU per 4 KiB request at random places, depth 32, one reactor,
 * over memory members and bare. Prints ns a bio and the ratio to the bare member.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "block/bdev_driver.h"
#include "drivers/drivers.h"
#include "raid/raid.h"
#include "reactor/task.h"

enum { DEPTH = 32, ROUNDS = 100000, REPEAT = 5, BLOCK = 4096, MEMBERS = 5 };

struct slot {
    struct bio bio;
    struct iovec iov;
    struct run *run;
    uint8_t data[BLOCK];
};

struct run {
    struct slot slot[DEPTH];
    struct bdev_desc *desc;
    unsigned left, out;
    uint64_t seed;
    struct task *task;
    enum bio_op op;
    uint64_t blocks;
};

static void die(const struct err *e)
{
    fprintf(stderr, "copies: %s\n", e->msg);
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
    bio_init(&s->bio, r->desc, r->op, (r->seed >> 33) % r->blocks * BLOCK, BLOCK, done, s);
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
static enum bio_op op;

static void measure(void *arg)
{
    struct bdev_desc *desc = arg;
    struct run *r = xcalloc(1, sizeof *r);
    best = 1e9;
    for (int repeat = 0; repeat < REPEAT; repeat++) {
        r->desc = desc;
        r->op = op;
        r->blocks = bdev_size(desc) / BLOCK;
        r->left = ROUNDS;
        r->out = DEPTH;
        r->task = task_self();
        uint64_t t0 = cpu_ns();
        for (unsigned i = 0; i < DEPTH; i++) {
            r->slot[i].run = r;
            r->slot[i].iov = (struct iovec){r->slot[i].data, BLOCK};
            next(&r->slot[i]);
        }
        task_park();
        double ns = (double)(cpu_ns() - t0) / ROUNDS;
        if (ns < best)
            best = ns;
    }
    free(r);
}

static double look(const char *name, enum bio_op what)
{
    struct bdev_desc *d = open_dev(name);
    op = what;
    task_call(reactor_get(0), measure, d);
    bdev_close(&d);
    return best;
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
    double w = look("a", BIO_WRITE), r = look("a", BIO_READ); /* no holes are read */
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
    look("m0", BIO_WRITE); /* its pages are there */
    double read = look("m0", BIO_READ), write = look("m0", BIO_WRITE);
    printf("memory: read %.0f ns, write %.0f ns\n", read, write);
    compare("raid0", 4, RAID_BITMAP_NONE, read, write);
    compare("raid1", 2, RAID_BITMAP_NONE, read, write);
    compare("raid1", 2, RAID_BITMAP_INTERNAL, read, write);
    compare("raid10", 4, RAID_BITMAP_NONE, read, write);
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
