/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "reactor/task.h"

enum { BLOCK_MAX = 4096 };

struct slot {
    struct bio bio;
    struct iovec iov;
    struct run *run;
    uint8_t data[BLOCK_MAX];
};

struct run {
    struct slot slot[LOAD_DEPTH];
    struct bdev_desc *desc;
    struct load load;
    unsigned left, out;
    uint64_t seed, blocks;
    struct task *task;
    double best;
};

void die(const struct err *e)
{
    fprintf(stderr, "%s\n", e->msg);
    exit(1);
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
    uint32_t block = r->load.block;
    bio_init(&s->bio, r->desc, r->load.op, (r->seed >> 33) % r->blocks * block, block, done, s);
    bio_data(&s->bio, &s->iov, 1);
    bio_submit(&s->bio);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void measure(void *arg)
{
    struct run *r = arg;
    for (int repeat = 0; repeat < (int)r->load.repeat; repeat++) {
        r->left = r->load.count;
        r->out = LOAD_DEPTH;
        r->task = task_self();
        uint64_t t0 = cpu_ns();
        for (unsigned i = 0; i < LOAD_DEPTH; i++) {
            r->slot[i].run = r;
            r->slot[i].iov = (struct iovec){r->slot[i].data, r->load.block};
            next(&r->slot[i]);
        }
        task_park();
        double ns = (double)(cpu_ns() - t0) / r->load.count;
        if (!repeat || ns < r->best)
            r->best = ns;
    }
}

double load_cost(const char *device, const struct load *l)
{
    struct bdev_user user = {.label = "bench"};
    struct err e;
    struct run *r = xcalloc(1, sizeof *r);
    r->desc = bdev_open(device, CLAIM_SHARED_WRITE, &user, &e);
    if (!r->desc)
        die(&e);
    r->load = *l;
    r->blocks = (l->span ? l->span : bdev_size(r->desc)) / l->block;
    task_call(reactor_get(0), measure, r);
    double best = r->best;
    bdev_close(&r->desc);
    free(r);
    return best;
}

struct entry {
    void (*fn)(void *unused);
};

static void run_and_exit(void *arg)
{
    ((struct entry *)arg)->fn(NULL);
    fflush(stdout);
    _exit(0);
}

int load_main(void (*fn)(void *unused))
{
    struct err e;
    struct reactor_opts opts = {.count = 1};
    struct entry entry = {fn};
    if (reactors_start(&opts, &e))
        die(&e);
    task_start(reactor_main(), "bench", run_and_exit, &entry);
    reactors_run();
    return 0;
}
