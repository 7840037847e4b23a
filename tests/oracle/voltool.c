/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pools and volumes on files, without the daemon, for comparisons with LVM's own tools. Each
 * argument is one command; the first that fails ends the program with status 1.
 *
 *     voltool 'device d0 a.img' 'create p d0' 'volume p v 10M' 'write p/v data.bin' 'stop p'
 *
 *   device NAME PATH                    create POOL DEVICE... [extent=1M] [force]
 *   import POOL [own] [force] [ro] [dry]    extend POOL DEVICE...    stop POOL    destroy POOL
 *   volume POOL VOL SIZE    resize POOL VOL SIZE    delete POOL VOL
 *   write VOLUME FILE       read VOLUME FILE     show     mem NAME SIZE    bench DEVICE
 *   grow POOL
 *   fault NAME DEVICE       record FAULT             cuts FAULT BEFORE FOLDER: an image of each
 * moment
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/size.h"
#include "drivers/drivers.h"
#include "drivers/fault/fault.h"
#include "reactor/task.h"
#include "volumes/volumes.h"

enum { WORDS = 70, CHUNK = 1 << 20 };

static int count, status = 0;
static char **commands;

static int make_device(const struct driver *driver, const char *name, const char *key,
                       const char *value, struct err *e)
{
    struct opts *o = opts_new(driver->opts);
    struct bdev *bdev;
    int rc = opts_put(o, key, value, e);
    if (!rc)
        rc = driver->create(name, NULL, o, &bdev, e);
    opts_free(&o);
    return rc;
}

static int cmd_create(char **w, unsigned n, struct err *e)
{
    const char *devices[WORDS];
    struct pool_create c = {.name = w[1], .devices = devices};
    for (unsigned i = 2; i < n; i++) {
        if (!strncmp(w[i], "extent=", 7))
            size_parse(w[i] + 7, &c.extent_size);
        else if (!strcmp(w[i], "force"))
            c.force = true;
        else
            devices[c.device_count++] = w[i];
    }
    return pool_create(&c, e);
}

static int cmd_import(char **w, unsigned n, struct err *e)
{
    char would[300] = "";
    struct pool_import i = {.name = w[1], .would = would, .would_size = sizeof would};
    for (unsigned k = 2; k < n; k++) {
        i.own |= !strcmp(w[k], "own");
        i.force |= !strcmp(w[k], "force");
        i.read_only |= !strcmp(w[k], "ro");
        i.dry_run |= !strcmp(w[k], "dry");
    }
    int rc = pool_import(&i, e);
    if (*would)
        printf("would: %s\n", would);
    return rc;
}

static void show_volume(const struct volume_info *v, void *arg)
{
    (void)arg;
    printf("volume %s %llu %s %s %s%s\n", v->name, (unsigned long long)v->size, v->kind, v->lv_uuid,
           v->active ? "active" : "inactive: ", v->why);
}

static void show_pool(const struct pool_info *p, void *arg)
{
    (void)arg;
    printf("pool %s %s seqno %llu size %llu free %llu devices %u\n", p->name,
           pool_state_name(p->state), (unsigned long long)p->seqno, (unsigned long long)p->size,
           (unsigned long long)p->free, p->device_count);
}

static int cmd_copy(const char *volume, const char *path, bool write, struct err *e)
{
    struct bdev_user user = {.label = "voltool"};
    struct bdev_desc *d = bdev_open(volume, write ? CLAIM_SHARED_WRITE : CLAIM_READ, &user, e);
    FILE *f = d ? fopen(path, write ? "r" : "w") : NULL;
    if (!f) {
        bdev_close(&d);
        return err_set(e, ERR_IO, "", "%s or %s cannot be opened", volume, path);
    }
    autofree char *buf = xcalloc(1, CHUNK);
    int rc = 0;
    for (uint64_t at = 0; at < bdev_size(d) && !rc; at += CHUNK) {
        size_t len = bdev_size(d) - at < CHUNK ? bdev_size(d) - at : CHUNK;
        if (write) {
            size_t got = fread(buf, 1, len, f);
            if (!got)
                break;
            rc = bdev_write(d, at, buf, (got + 4095) / 4096 * 4096, 0);
        } else {
            rc = bdev_read(d, at, buf, len);
            if (fwrite(buf, 1, len, f) != len)
                rc = -1;
        }
    }
    if (!rc && write)
        rc = bdev_flush(d);
    if (fclose(f))
        rc = -1;
    bdev_drain_close(&d);
    return rc ? err_set(e, ERR_IO, "", "copying %s failed: %d", volume, rc) : 0;
}

/* ---- what a layer costs: 4 KiB reads at depth 32 on one I/O reactor */
enum { DEPTH = 32, TOTAL = 2000000 };
struct bench {
    struct bdev_desc *desc;
    struct bio bio[DEPTH];
    struct iovec iov[DEPTH];
    unsigned started, done;
    uint64_t t0, ns;
    struct task *task;
};

static uint64_t cpu_ns(void) /* of this thread: other programs do not count */
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void bench_next(struct bio *bio)
{
    struct bench *b = bio->arg;
    if (++b->done == TOTAL) {
        b->ns = cpu_ns() - b->t0;
        task_wake(b->task);
    }
    if (b->started < TOTAL) {
        b->started++;
        unsigned i = (unsigned)(bio - b->bio);
        bio_init(bio, b->desc, BIO_READ, b->started * 4096ull % (1 << 20), 4096, bench_next, b);
        bio_data(bio, &b->iov[i], 1);
        bio_submit(bio);
    }
}

static void bench_run(void *arg)
{
    struct bench *b = arg;
    b->task = task_self();
    b->t0 = cpu_ns();
    b->done = b->started = 0;
    for (unsigned i = 0; i < DEPTH; i++) {
        b->started++;
        b->iov[i] = (struct iovec){aligned_alloc(4096, 4096), 4096};
        bio_init(&b->bio[i], b->desc, BIO_READ, i * 4096, 4096, bench_next, b);
        bio_data(&b->bio[i], &b->iov[i], 1);
        bio_submit(&b->bio[i]);
    }
    task_park();
    for (unsigned i = 0; i < DEPTH; i++)
        free(b->iov[i].iov_base);
}

static int cmd_bench(const char *device, struct err *e)
{
    struct bdev_user user = {.label = "voltool"};
    autofree struct bench *b = xcalloc(1, sizeof *b);
    b->desc = bdev_open(device, CLAIM_READ, &user, e);
    if (!b->desc)
        return -1;
    for (unsigned round = 0; round < 5; round++) {
        task_call(reactor_get(0), bench_run, b);
        printf("bench %s: %.1f ns of CPU a read\n", device, (double)b->ns / TOTAL);
    }
    bdev_drain_close(&b->desc);
    return 0;
}

/* ---- power cuts: what a recorded device would hold after each event, as images */
static int copy_file(const char *from, const char *to, struct err *e)
{
    char *buf = xcalloc(1, CHUNK);
    FILE *in = fopen(from, "r"), *out = fopen(to, "w");
    bool good = in && out;
    for (size_t n; good && (n = fread(buf, 1, CHUNK, in)) > 0;)
        good = fwrite(buf, 1, n, out) == n;
    if (in)
        fclose(in);
    if (out && fclose(out))
        good = false;
    free(buf);
    return good ? 0 : err_set(e, ERR_IO, "", "cannot copy %s to %s", from, to);
}

static int cut(struct bdev *fault, uint64_t at, unsigned how, const char *before,
               const char *folder, struct err *e)
{
    struct bdev_user user = {.label = "voltool"};
    enum fault_cut cut = how < 2 ? how : FAULT_CUT_CHANCE;
    char path[500];
    snprintf(path, sizeof path, "%s/%03u-%u.img", folder, (unsigned)at, how);
    if (copy_file(before, path, e) || make_device(&file_driver, "cut", "path", path, e))
        return -1;
    struct bdev_desc *d = bdev_open("cut", CLAIM_EXCLUSIVE, &user, e);
    int rc = fault_replay(fault, at, cut, at * 10 + how + 1, d);
    if (!rc)
        rc = bdev_flush(d);
    bdev_drain_close(&d);
    bdev_unregister(bdev_find("cut"));
    return rc ? err_set(e, ERR_IO, "", "replay failed: %d", rc) : 0;
}

static int cmd_cuts(char **w, struct err *e)
{
    struct bdev *fault = bdev_find(w[1]);
    for (uint64_t at = 0; at <= fault_record_now(fault); at++)
        for (unsigned how = 0; how < 4; how++)
            if (cut(fault, at, how, w[2], w[3], e))
                return -1;
    return 0;
}

static int sized(char **w, int (*fn)(const char *, const char *, uint64_t, struct err *),
                 struct err *e)
{
    uint64_t size;
    if (!size_parse(w[3], &size))
        return err_set(e, ERR_INVALID, "size", "%s is not a size", w[3]);
    return fn(w[1], w[2], size, e);
}

static int run(char **w, unsigned n, struct err *e)
{
    const char *c = w[0];
    bool changed;
    if (!strcmp(c, "device") && n == 3)
        return make_device(&file_driver, w[1], "path", w[2], e);
    if (!strcmp(c, "mem") && n == 3)
        return make_device(&mem_driver, w[1], "size", w[2], e);
    if (!strcmp(c, "create") && n >= 3)
        return cmd_create(w, n, e);
    if (!strcmp(c, "import") && n >= 2)
        return cmd_import(w, n, e);
    if (!strcmp(c, "extend") && n >= 3)
        return pool_extend(w[1], (const char *const *)w + 2, n - 2, false, e);
    if (!strcmp(c, "grow") && n == 2)
        return pool_grow(w[1], &changed, e);
    if (!strcmp(c, "stop") && n == 2)
        return pool_stop(w[1], e);
    if (!strcmp(c, "destroy") && n == 2)
        return pool_delete(w[1], e);
    if (!strcmp(c, "volume") && n == 4)
        return sized(w, volume_create, e);
    if (!strcmp(c, "resize") && n == 4)
        return sized(w, volume_resize, e);
    if (!strcmp(c, "delete") && n == 3)
        return volume_delete(w[1], w[2], e);
    if ((!strcmp(c, "write") || !strcmp(c, "read")) && n == 3)
        return cmd_copy(w[1], w[2], *c == 'w', e);
    if (!strcmp(c, "fault") && n == 3)
        return make_device(&fault_driver, w[1], "on", w[2], e);
    if (!strcmp(c, "record") && n == 2)
        return fault_record_start(bdev_find(w[1])), 0;
    if (!strcmp(c, "cuts") && n == 4)
        return fault_record_stop(bdev_find(w[1])), cmd_cuts(w, e);
    if (!strcmp(c, "bench") && n == 2)
        return cmd_bench(w[1], e);
    if (strcmp(c, "show"))
        return err_set(e, ERR_INVALID, "", "unknown command");
    pool_for_each(show_pool, NULL);
    volume_for_each(NULL, show_volume, NULL);
    return 0;
}

static void stop_all(const struct pool_info *p, void *arg)
{
    char(*names)[POOL_NAME_MAX + 1] = arg;
    while (**names)
        names++;
    strcpy(*names, p->name);
}

static void note_device(struct bdev *bdev, void *arg)
{
    struct bdev **first = arg;
    if (!*first)
        *first = bdev;
}

static void clean_up(void)
{
    char names[16][POOL_NAME_MAX + 1] = {{0}};
    struct err e;
    pool_for_each(stop_all, names);
    for (unsigned i = 0; *names[i]; i++)
        if (pool_stop(names[i], &e))
            fprintf(stderr, "stop %s: %s\n", names[i], e.msg);
    for (;;) {
        struct bdev *first = NULL;
        bdev_for_each(note_device, &first);
        if (!first)
            return;
        bdev_unregister(first);
    }
}

static void all(void *arg)
{
    (void)arg;
    for (int i = 0; i < count && !status; i++) {
        char *w[WORDS], *save = NULL, *line = xstrdup(commands[i]);
        unsigned n = 0;
        struct err e = {0};
        for (char *t = strtok_r(line, " ", &save); t && n < WORDS; t = strtok_r(NULL, " ", &save))
            w[n++] = t;
        if (n && run(w, n, &e)) {
            fprintf(stderr, "%s: %s: %s\n", commands[i], err_code_name(e.code), e.msg);
            status = 1;
        }
        free(line);
    }
    clean_up();
    reactors_quit();
}

int main(int argc, char **argv)
{
    struct reactor_opts opts = {.count = 1};
    struct err e;
    count = argc - 1;
    commands = argv + 1;
    if (reactors_start(&opts, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    task_start(reactor_main(), "voltool", all, NULL);
    reactors_run();
    reactors_stop();
    return status;
}
