/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs arrays on image files without the daemon:
 *
 *   raidtool IMAGE... -- "COMMAND ARG..." ...
 *
 * The images are devices d0, d1, ...; after an '@' an image may have rules of the fault driver.
 * Commands run one after another; the first that fails ends it
 * with its message and status 1. Arrays that run at the end are stopped.
 *
 *   create NAME LEVEL MEMBERS [clean] [force] [chunk=SIZE] [bitmap=CHUNK] [layout=L]      scan
 *   assemble NAME [degraded] [readonly] [dry] [force] [known]   info NAME
 *   write NAME OFFSET FILE     read NAME FILE                   flush NAME
 *   fail NAME MEMBER [force]   remove NAME MEMBER   add NAME MEMBER   re-add NAME MEMBER
 *   wait NAME                  stop NAME            delete NAME
 *   until NAME SIZE            so much of a sync is recorded
 *   replace NAME MEMBER [DEVICE]
 *   grow NAME [size=SIZE|max] [devices=N] [DEVICE...]
 *   scrub NAME [repair]        waits for its end and tells what it found
 *   crash                      ends the process as SIGKILL would
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/size.h"
#include "drivers/drivers.h"
#include "raid/raid.h"
#include "reactor/task.h"

enum { WORDS = 8, STEP = 1 << 20 };

static char **args;
static int result;

static int fail(struct err *e, const char *what)
{
    return err_set(e, ERR_IO, "", "%s", what);
}

static int add_faults(unsigned n, const char *rules, struct err *e)
{
    struct opts *o = opts_new(fault_driver.opts);
    char name[16], on[16];
    struct bdev *b;
    snprintf(name, sizeof name, "d%u", n);
    snprintf(on, sizeof on, "f%u", n);
    int rc = opts_put(o, "on", on, e) || opts_put(o, "rules", rules, e) ||
             fault_driver.create(name, NULL, o, &b, e);
    opts_free(&o);
    return rc ? -1 : 0;
}

static int add_device(unsigned n, char *path, struct err *e)
{
    struct opts *o = opts_new(file_driver.opts);
    char name[16], *rules = strchr(path, '@');
    if (rules)
        *rules++ = 0;
    char *full = realpath(path, NULL);
    struct bdev *b;
    snprintf(name, sizeof name, "%c%u", rules ? 'f' : 'd', n);
    int rc = !full || opts_put(o, "path", full, e) || file_driver.create(name, NULL, o, &b, e);
    if (!full)
        err_set(e, ERR_NOT_FOUND, "", "no file %s", path);
    opts_free(&o);
    free(full);
    if (!rc && rules)
        rc = add_faults(n, rules, e);
    return rc ? -1 : 0;
}

static bool has(char **w, const char *word)
{
    for (unsigned i = 0; i < WORDS && w[i]; i++)
        if (!strcmp(w[i], word))
            return true;
    return false;
}

static int do_create(char **w, struct err *e)
{
    const char *members[RAID_MEMBERS_MAX];
    struct raid_create c = {.name = w[1],
                            .level = w[2],
                            .members = members,
                            .assume_clean = has(w, "clean"),
                            .force = has(w, "force"),
                            .homehost = "orion"};
    char *save = NULL;
    for (char *m = strtok_r(w[3], ",", &save); m; m = strtok_r(NULL, ",", &save))
        members[c.member_count++] = m;
    for (unsigned i = 4; i < WORDS && w[i]; i++)
        if (!strncmp(w[i], "chunk=", 6))
            assert(size_parse(w[i] + 6, &c.chunk));
        else if (!strncmp(w[i], "layout=", 7))
            c.layout = w[i] + 7;
        else if (!strncmp(w[i], "bitmap=", 7))
            assert(size_parse(w[i] + 7, &c.bitmap_chunk));
    if (c.bitmap_chunk)
        c.bitmap = RAID_BITMAP_INTERNAL;
    return raid_create(&c, e);
}

static int do_scan(char **w, struct err *e)
{
    struct raid_found *f;
    (void)w, (void)e;
    unsigned n = raid_scan(&f);
    for (unsigned i = 0; i < n; i++)
        printf("%s %s %u/%u complete=%d startable=%d ambiguous=%d resync=%d why=%s\n", f[i].name,
               f[i].level, f[i].have, f[i].slots, f[i].complete, f[i].startable, f[i].ambiguous,
               f[i].needs_resync, f[i].why);
    free(f);
    return 0;
}

static int do_assemble(char **w, struct err *e)
{
    struct raid_found *f;
    char would[512] = "";
    unsigned n = raid_scan(&f);
    if (!n)
        return fail(e, "no array found");
    struct raid_assemble r = {.name = w[1],
                              .uuid = f[0].uuid,
                              .degraded_ok = has(w, "degraded"),
                              .read_only = has(w, "readonly"),
                              .force = has(w, "force"),
                              .known = has(w, "known"),
                              .dry_run = has(w, "dry"),
                              .would = would,
                              .would_size = sizeof would};
    free(f);
    int rc = raid_assemble(&r, e);
    if (r.dry_run && !rc)
        printf("%s\n", would);
    return rc;
}

static int do_info(char **w, struct err *e)
{
    struct raid_info i;
    if (!raid_get(w[1], &i))
        return fail(e, "no such array");
    printf("%s %s state=%s sync=%s size=%" PRIu64 " missing=%u events=%" PRIu64 "\n", i.name,
           i.level, raid_state_name(i.state), raid_sync_name(i.sync), i.size, i.missing, i.events);
    if (*i.reason)
        printf("  read-only: %s\n", i.reason);
    for (unsigned k = 0; k < i.member_count; k++)
        printf("  %d %s %s\n", i.member[k].slot, i.member[k].device,
               raid_member_state_name(i.member[k].state));
    return 0;
}

static struct bdev_desc *open_array(const char *name, enum bdev_claim claim, struct err *e)
{
    struct bdev_user user = {.label = "raidtool"};
    return bdev_open(name, claim, &user, e);
}

static int do_write(char **w, struct err *e)
{
    uint64_t at;
    struct bdev_desc *d = open_array(w[1], CLAIM_SHARED_WRITE, e);
    autofree uint8_t *buf = xcalloc(1, STEP);
    autoclose int fd = open(w[3], O_RDONLY | O_CLOEXEC);
    if (!d || fd < 0 || !size_parse(w[2], &at))
        return d ? fail(e, "cannot read the file") : -1;
    ssize_t n;
    int rc = 0;
    while (!rc && (n = read(fd, buf, STEP)) > 0) {
        rc = bdev_write(d, at, buf, (size_t)n, 0);
        at += (uint64_t)n;
    }
    bdev_close(&d);
    return rc ? fail(e, strerror(-rc)) : 0;
}

static int do_read(char **w, struct err *e)
{
    struct bdev_desc *d = open_array(w[1], CLAIM_READ, e);
    autofree uint8_t *buf = xcalloc(1, STEP);
    autoclose int fd = open(w[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!d || fd < 0)
        return d ? fail(e, "cannot write the file") : -1;
    int rc = 0;
    for (uint64_t at = 0; !rc && at < bdev_size(d); at += STEP) {
        size_t n = bdev_size(d) - at < STEP ? bdev_size(d) - at : STEP;
        rc = bdev_read(d, at, buf, n);
        if (!rc && write(fd, buf, n) != (ssize_t)n)
            rc = -ENOSPC;
    }
    bdev_close(&d);
    return rc ? fail(e, strerror(-rc)) : 0;
}

static int do_flush(char **w, struct err *e)
{
    struct bdev_desc *d = open_array(w[1], CLAIM_SHARED_WRITE, e);
    if (!d)
        return -1;
    int rc = bdev_flush(d);
    bdev_close(&d);
    return rc ? fail(e, strerror(-rc)) : 0;
}

static int do_fail(char **w, struct err *e)
{
    return raid_fail_member(w[1], w[2], has(w, "force"), e);
}

static int do_remove(char **w, struct err *e)
{
    return raid_remove_member(w[1], w[2], false, e);
}

static int do_add(char **w, struct err *e)
{
    return raid_add_member(w[1], w[2], has(w, "force"), e);
}

static int do_replace(char **w, struct err *e)
{
    return raid_replace_member(w[1], w[2], w[3], false, NULL, e);
}

static int do_readd(char **w, struct err *e)
{
    return raid_readd_member(w[1], w[2], e);
}

static int do_wait(char **w, struct err *e)
{
    struct raid_info i;
    do {
        task_sleep_us(20 * 1000);
        if (!raid_get(w[1], &i))
            return fail(e, "no such array");
    } while (i.sync != RAID_SYNC_IDLE || i.sync_job);
    return 0;
}

static int do_until(char **w, struct err *e)
{
    enum { TRIES = 6000 };
    struct raid_info i;
    uint64_t size;
    if (!size_parse(w[2], &size))
        return fail(e, "that is no size");
    for (unsigned k = 0; k < TRIES; k++) {
        if (!raid_get(w[1], &i))
            return fail(e, "no such array");
        if (i.sync_saved >= size)
            return 0;
        task_sleep_us(10 * 1000);
    }
    return fail(e, "the sync did not get there");
}

static int do_grow(char **w, struct err *e)
{
    const char *devices[WORDS];
    struct raid_grow g = {.devices = devices};
    bool changed;
    for (unsigned i = 2; i < WORDS && w[i]; i++)
        if (!strcmp(w[i], "size=max"))
            g.size = UINT64_MAX;
        else if (!strncmp(w[i], "size=", 5))
            assert(size_parse(w[i] + 5, &g.size));
        else if (!strncmp(w[i], "devices=", 8))
            g.raid_devices = (unsigned)atoi(w[i] + 8);
        else
            devices[g.device_count++] = w[i];
    g.resize = g.size;
    return raid_grow(w[1], &g, &changed, NULL, e);
}

static int do_scrub(char **w, struct err *e)
{
    struct raid_info i;
    if (raid_scrub(w[1], has(w, "repair"), NULL, e) || do_wait(w, e) || !raid_get(w[1], &i))
        return -1;
    printf("mismatch=%" PRIu64 " wrong=", i.mismatch);
    for (unsigned k = 0; k < i.member_count; k++)
        printf("%s%" PRIu64, k ? "," : "", i.member[k].wrong);
    printf("\n");
    return 0;
}

static int do_stop(char **w, struct err *e)
{
    return raid_stop(w[1], e);
}

static int do_delete(char **w, struct err *e)
{
    return raid_delete(w[1], e);
}

static int do_crash(char **w, struct err *e)
{
    (void)w, (void)e;
    fflush(NULL);
    return kill(getpid(), SIGKILL);
}

static const struct {
    const char *name;
    unsigned words;
    int (*fn)(char **w, struct err *e);
} commands[] = {
    {"create", 4, do_create}, {"scan", 1, do_scan},       {"assemble", 2, do_assemble},
    {"info", 2, do_info},     {"write", 4, do_write},     {"read", 3, do_read},
    {"flush", 2, do_flush},   {"fail", 3, do_fail},       {"remove", 3, do_remove},
    {"add", 3, do_add},       {"wait", 2, do_wait},       {"stop", 2, do_stop},
    {"delete", 2, do_delete}, {"crash", 1, do_crash},     {"re-add", 3, do_readd},
    {"scrub", 2, do_scrub},   {"replace", 3, do_replace}, {"until", 3, do_until},
    {"grow", 2, do_grow},
};

static int command(const char *text, struct err *e)
{
    autofree char *copy = xstrdup(text);
    char *w[WORDS + 1] = {0}, *save = NULL;
    unsigned n = 0;
    for (char *t = strtok_r(copy, " ", &save); t && n < WORDS; t = strtok_r(NULL, " ", &save))
        w[n++] = t;
    for (unsigned i = 0; n && i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(w[0], commands[i].name) && n >= commands[i].words)
            return commands[i].fn(w, e);
    return fail(e, "unknown command, or too few words");
}

static void stop_one(const struct raid_info *info, void *arg)
{
    memcpy(arg, info->name, sizeof info->name);
}

static void remove_device(unsigned n)
{
    char name[16];
    snprintf(name, sizeof name, "d%u", n);
    struct bdev *b = bdev_find(name);
    if (b)
        bdev_unregister(b);
    name[0] = 'f';
    if ((b = bdev_find(name)))
        bdev_unregister(b);
}

static void run(void *arg)
{
    struct err e = {0};
    unsigned images = 0;
    (void)arg;
    raid_set_checkpoint_ms(0);
    for (; !result && args[0] && strcmp(args[0], "--"); args++)
        result = add_device(images++, args[0], &e) ? 1 : 0;
    for (args += !result && args[0]; !result && args[0]; args++) {
        if (command(args[0], &e)) {
            fprintf(stderr, "raidtool: %s: %s\n", args[0], e.msg);
            result = 1;
        }
    }
    for (char name[RAID_NAME_MAX + 1] = "";; name[0] = 0) {
        raid_for_each(stop_one, name);
        if (!name[0] || raid_stop(name, &e))
            break;
    }
    for (unsigned i = 0; i < images; i++)
        remove_device(i);
    reactors_quit();
}

int main(int argc, char **argv)
{
    struct err e;
    struct reactor_opts opts = {.count = 2};
    if (argc < 2) {
        fprintf(stderr, "usage: raidtool IMAGE... -- \"COMMAND ARG...\" ...\n");
        return 2;
    }
    args = argv + 1;
    if (reactors_start(&opts, &e)) {
        fprintf(stderr, "raidtool: %s\n", e.msg);
        return 1;
    }
    task_start(reactor_main(), "raidtool", run, NULL);
    reactors_run();
    reactors_stop();
    return result;
}
