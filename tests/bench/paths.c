/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bench-paths FILE [buffered]: what 4 KiB requests to the file driver cost on one reactor, by op
 * and depth: IOPS and CPU (of the whole process, the ring's workers included) per request. FILE is
 * made with 256 MiB when it is missing, and its content is overwritten.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "drivers/drivers.h"
#include "reactor/iobuf.h"
#include "reactor/task.h"

enum { BLOCK = 4096, DEPTH_MAX = 32, SECONDS = 2 };

static const char *path, *buffered = "false";
static struct bdev_desc *desc;

struct slot {
    struct bio bio;
    struct iovec iov;
    struct iobuf *buf;
    struct run *run;
};

struct run {
    enum bio_op op;
    unsigned depth, busy;
    uint64_t end, done, random;
    struct task *task;
    struct slot slot[DEPTH_MAX];
};

static void again(struct bio *bio);

static void send_one(struct slot *s)
{
    struct run *r = s->run;
    r->random = r->random * 6364136223846793005u + 1442695040888963407u;
    uint64_t block = (r->random >> 33) % (bdev_size(desc) / BLOCK);
    bio_init(&s->bio, desc, r->op, block * BLOCK, BLOCK, again, s);
    bio_data(&s->bio, &s->iov, 1);
    bio_submit(&s->bio);
}

static void again(struct bio *bio)
{
    struct slot *s = bio->arg;
    if (bio->error) {
        fprintf(stderr, "%s failed: %s\n", bio_op_name(bio->op), strerror(-bio->error));
        exit(2);
    }
    s->run->done++;
    if (reactor_now() < s->run->end)
        send_one(s);
    else if (!--s->run->busy)
        task_wake(s->run->task);
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* On an I/O reactor, in a task. */
static void measure(void *arg)
{
    struct run *r = arg;
    r->task = task_self();
    r->end = clock_ns() + SECONDS * 1000000000ull;
    r->busy = r->depth;
    for (unsigned i = 0; i < r->depth; i++) {
        struct slot *s = &r->slot[i];
        s->run = r;
        s->buf = iobuf_get(BLOCK);
        memset(s->buf->data, (int)i + 1, BLOCK);
        s->iov = (struct iovec){s->buf->data, BLOCK};
        send_one(s);
    }
    task_park();
    for (unsigned i = 0; i < r->depth; i++)
        iobuf_put(&r->slot[i].buf);
}

static void one(enum bio_op op, unsigned depth)
{
    struct run *r = xcalloc(1, sizeof *r);
    r->op = op;
    r->depth = depth;
    double cpu = cpu_seconds();
    uint64_t t = clock_ns();
    task_call(reactor_get(0), measure, r);
    double seconds = (double)(clock_ns() - t) / 1e9;
    printf("%-6s depth %2u  %9.0f IOPS  %6.2f us CPU/op\n", bio_op_name(op), depth,
           (double)r->done / seconds, (cpu_seconds() - cpu) * 1e6 / (double)r->done);
    fflush(stdout);
    free(r);
}

/* Blocks that were never written are answered without the medium: all are written first. */
static void fill(void)
{
    uint8_t *p = xcalloc(1, 1 << 20);
    memset(p, 0x5a, 1 << 20);
    for (uint64_t at = 0; at + (1 << 20) <= bdev_size(desc); at += 1 << 20)
        if (bdev_write(desc, at, p, 1 << 20, 0))
            exit(2);
    free(p);
}

static void body(void *arg)
{
    (void)arg;
    struct opts *o = opts_new(file_driver.opts);
    struct bdev *b;
    struct err e = {0};
    struct bdev_user user = {.label = "bench"};
    if (opts_put(o, "path", path, &e) || opts_put(o, "buffered", buffered, &e) ||
        (access(path, F_OK) && opts_put(o, "size", "256M", &e)) ||
        file_driver.create("disk", NULL, o, &b, &e) ||
        !(desc = bdev_open("disk", CLAIM_EXCLUSIVE, &user, &e))) {
        fprintf(stderr, "%s\n", e.msg);
        exit(2);
    }
    fill();
    for (unsigned depth = 1; depth <= DEPTH_MAX; depth *= DEPTH_MAX) {
        one(BIO_READ, depth);
        one(BIO_WRITE, depth);
    }
    bdev_drain_close(&desc);
    bdev_unregister(b);
    opts_free(&o);
    reactors_quit();
}

int main(int argc, char **argv)
{
    struct err e;
    struct reactor_opts opts = {.count = 1};
    if (argc < 2) {
        fprintf(stderr, "usage: bench-paths FILE [buffered]\n");
        return 2;
    }
    path = argv[1];
    buffered = argc > 2 && !strcmp(argv[2], "buffered") ? "true" : "false";
    if (reactors_start(&opts, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 2;
    }
    task_start(reactor_main(), "bench", body, NULL);
    reactors_run();
    reactors_stop();
    return 0;
}
