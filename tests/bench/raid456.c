/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid5 4+1 and raid6 4+2 beside raid0 of 4, over memory members, one reactor: sequential writes of
 * whole stripes, small random writes, reads with a member missing, rebuild. Figures are of CPU
 * time of the whole process, medians of five, so that a busy neighbour does not show.
 *
 * With a folder as argument: over files there, by O_DIRECT, what the log costs in throughput. With
 * --reactors N: a request's CPU when N reactors share one array and its load; to be compared with
 * --reactors 1 of the same minutes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "drivers/drivers.h"
#include "raid/raid.h"
#include "reactor/iobuf.h"
#include "reactor/task.h"

enum { CHUNK = 64 << 10, DATA = 4, STRIPE = CHUNK * DATA, DEPTH = 8, REPEAT = 5 };

static const uint64_t member_size = 128 << 20;
static const char *folder; /* NULL: memory */
static unsigned reactors = 1;
static bool several; /* what they share is asked for */

struct slot {
    struct bio bio;
    struct iovec iov;
    struct run *run;
};

struct run {
    struct slot slot[DEPTH];
    struct iobuf *buf[DEPTH];
    struct bdev_desc *desc;
    enum bio_op op;
    uint64_t length, at, span, seed, left;
    unsigned out;
    bool random;
    struct task *task;
};

static void die(const struct err *e)
{
    fprintf(stderr, "raid456: %s\n", e->msg);
    exit(1);
}

/* What counts: time where there are disks to wait for. */
static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(folder ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void next(struct slot *s);

static void done(struct bio *bio)
{
    struct slot *s = bio->arg;
    struct run *r = s->run;
    if (bio->error) {
        fprintf(stderr, "raid456: %s\n", strerror(-bio->error));
        exit(1);
    }
    if (r->left)
        next(s);
    else if (!--r->out)
        task_wake(r->task);
}

static void next(struct slot *s)
{
    struct run *r = s->run;
    uint64_t at = r->at;
    r->left--;
    r->at = (r->at + r->length) % r->span;
    if (r->random) {
        r->seed = r->seed * 6364136223846793005u + 1;
        at = (r->seed >> 33) % (r->span / r->length) * r->length;
    }
    bio_init(&s->bio, r->desc, r->op, at, r->length, done, s);
    bio_data(&s->bio, &s->iov, 1);
    bio_submit(&s->bio);
}

/* Each reactor its own; not main. */
static void measure(void *arg)
{
    struct run *all = arg, *r = &all[reactor_self_index()];
    if (reactor_self_index() >= reactors)
        return;
    r->task = task_self();
    r->out = DEPTH;
    for (unsigned i = 0; i < DEPTH; i++) {
        r->slot[i].run = r;
        r->buf[i] = iobuf_get(r->length);
        memset(r->buf[i]->data, (int)i + 1, r->length);
        r->slot[i].iov = (struct iovec){r->buf[i]->data, r->length};
    }
    for (unsigned i = 0; i < DEPTH; i++)
        next(&r->slot[i]);
    task_park();
    for (unsigned i = 0; i < DEPTH; i++)
        iobuf_put(&r->buf[i]);
}

static int by_size(const void *a, const void *b)
{
    return *(const double *)a < *(const double *)b ? -1 : 1;
}

/* Seconds of CPU for `count` requests. */
static double load(enum bio_op op, uint64_t length, uint64_t count, bool random)
{
    struct bdev_user user = {.label = "bench"};
    struct err e;
    double took[REPEAT];
    struct run *all = xcalloc(reactors, sizeof *all);
    struct bdev_desc *desc = bdev_open("a", CLAIM_SHARED_WRITE, &user, &e);
    if (!desc)
        die(&e);
    for (unsigned i = 0; i < REPEAT; i++) {
        double before = cpu_s();
        for (unsigned k = 0; k < reactors; k++) {
            struct run *r = &all[k];
            r->desc = desc;
            r->op = op;
            r->length = length;
            r->random = random;
            r->seed += k;
            r->span = (bdev_size(desc) / length) * length;
            r->at = r->at ? r->at : r->span / reactors / length * k * length;
            r->left = count / reactors;
        }
        task_call_all(measure, all);
        took[i] = cpu_s() - before;
    }
    qsort(took, REPEAT, sizeof *took, by_size);
    bdev_drain_close(&desc);
    free(all);
    return took[REPEAT / 2];
}

static void make(const char *level, unsigned n, bool no_log)
{
    static char names[8][4];
    const char *members[8];
    struct bdev *b;
    struct err e;
    for (unsigned i = 0; i < n; i++) {
        const struct driver *driver = folder ? &file_driver : &mem_driver;
        struct opts *o = opts_new(driver->opts);
        char size[32], path[300];
        snprintf(names[i], sizeof names[i], "m%u", i);
        snprintf(size, sizeof size, "%llu", (unsigned long long)member_size);
        members[i] = names[i];
        snprintf(path, sizeof path, "%s/raid456-m%u", folder ? folder : "", i);
        if (opts_put(o, "size", size, &e) || (folder && opts_put(o, "path", path, &e)) ||
            driver->create(names[i], NULL, o, &b, &e))
            die(&e);
        opts_free(&o);
    }
    struct raid_create c = {.name = "a",
                            .level = level,
                            .members = members,
                            .member_count = n,
                            .chunk = CHUNK,
                            .no_log = no_log};
    if (raid_create(&c, &e))
        die(&e);
    load(BIO_WRITE, STRIPE, 4 * member_size / STRIPE - 64, false); /* memory is there */
}

static void unmake(unsigned n)
{
    struct err e;
    if (raid_stop("a", &e))
        die(&e);
    for (unsigned i = 0; i < n; i++) {
        char name[4];
        snprintf(name, sizeof name, "m%u", i);
        bdev_unregister(bdev_find(name));
        if (folder) {
            char path[300];
            snprintf(path, sizeof path, "%s/raid456-m%u", folder, i);
            unlink(path);
        }
    }
}

static double whole_stripes(void)
{
    enum { COUNT = 4096 };
    return (double)COUNT * STRIPE / load(BIO_WRITE, STRIPE, COUNT, false) / 1e9;
}

static double small_writes(void)
{
    enum { COUNT = 50000 };
    return load(BIO_WRITE, 4096, COUNT, true) / COUNT * 1e6;
}

static double reads(void)
{
    enum { COUNT = 4096 };
    return (double)COUNT * STRIPE / load(BIO_READ, STRIPE, COUNT, false) / 1e9;
}

static double rebuild(void)
{
    struct err e;
    struct raid_info info;
    if (raid_remove_member("a", "m1", false, &e))
        die(&e);
    double before = cpu_s();
    if (raid_add_member("a", "m1", true, &e))
        die(&e);
    do {
        task_sleep_us(500);
        raid_get("a", &info);
    } while (info.sync != RAID_SYNC_IDLE || info.missing);
    return (double)info.size / (cpu_s() - before) / 1e9;
}

static void parity(const char *level, unsigned n, double raid0)
{
    struct err e;
    for (int no_log = 0; no_log < 2; no_log++) {
        make(level, n, no_log);
        double whole = whole_stripes();
        printf("%s 4+%u%s: whole stripes %.2f GB/s (%.0f %% of raid0), 4K random writes %.2f us\n",
               level, n - DATA, no_log ? ", no log" : "", whole, 100 * whole / raid0,
               small_writes());
        if (no_log) {
            double healthy = reads();
            if (raid_fail_member("a", "m1", false, &e))
                die(&e);
            double degraded = reads();
            printf("%s 4+%u: reads %.2f GB/s, one member missing %.2f GB/s (%.0f %%)\n", level,
                   n - DATA, healthy, degraded, 100 * degraded / healthy);
            printf("%s 4+%u: rebuild %.2f GB/s of array data\n", level, n - DATA, rebuild());
        }
        unmake(n);
    }
}

static void on_disk(void)
{
    enum { SMALL = 1000, WHOLE = 800 };
    for (int no_log = 0; no_log < 2; no_log++) {
        make("raid5", DATA + 1, no_log);
        double small = SMALL / load(BIO_WRITE, 4096, SMALL, true);
        double whole = WHOLE * (double)STRIPE / load(BIO_WRITE, STRIPE, WHOLE, false) / 1e6;
        printf("raid5 4+1%s: 4K random writes at depth %d %.0f a second, whole stripes %.0f MB/s\n",
               no_log ? ", no log" : "", DEPTH, small, whole);
        unmake(DATA + 1);
    }
}

static double small_reads(void)
{
    enum { COUNT = 200000 };
    return load(BIO_READ, 4096, COUNT, true) / COUNT * 1e6;
}

static void shared(const char *level, unsigned n)
{
    make(level, n, false);
    double small = small_writes(), whole = 1e3 / (whole_stripes() * 1e9 / STRIPE) * 1e3;
    printf(
        "%s, %u reactors: 4K random writes %.2f us, reads %.2f us, whole stripes %.1f us of CPU\n",
        level, reactors, small, small_reads(), whole);
    unmake(n);
}

static void bench(void *arg)
{
    (void)arg;
    log_set_level(LOG_LEVEL_ERROR);
    if (several) {
        shared("raid5", DATA + 1);
        shared("raid6", DATA + 2);
        shared("raid1", 2);
        reactors_quit();
        return;
    }
    if (folder) {
        on_disk();
        reactors_quit();
        return;
    }
    make("raid0", DATA, false);
    double raid0 = whole_stripes();
    printf("all per second of CPU\nraid0 of 4: whole stripes %.2f GB/s, reads %.2f GB/s\n", raid0,
           reads());
    unmake(DATA);
    parity("raid5", DATA + 1, raid0);
    parity("raid6", DATA + 2, raid0);
    reactors_quit();
}

int main(int argc, char **argv)
{
    struct err e;
    several = argc > 2 && !strcmp(argv[1], "--reactors");
    if (several)
        reactors = (unsigned)strtoul(argv[2], NULL, 10);
    folder = argc > 1 && !several ? argv[1] : NULL;
    struct reactor_opts opts = {.count = reactors};
    if (reactors_start(&opts, &e))
        die(&e);
    task_start(reactor_main(), "bench", bench, NULL);
    reactors_run();
    reactors_stop();
    return 0;
}
