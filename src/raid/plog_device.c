/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A device of its own for the log: its label, its life, and the change to another one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "block/event.h"
#include "probe/probe.h"
#include "raid/plog.h"

enum { TAIL = 128 << 10 }; /* where older owners may have left their superblocks */

static bool read_label(struct bdev_desc *desc, struct plog_label *l)
{
    uint8_t bytes[PLOG_BLOCK];
    return bdev_size(desc) >= PLOG_PARTS_AT &&
           !bdev_read(desc, PLOG_LABEL_AT, bytes, sizeof bytes) && plog_label_read(l, bytes);
}

unsigned plog_device_find(const struct uuid *array, char name_r[BDEV_NAME_MAX + 1])
{
    char(*name)[BDEV_NAME_MAX + 1];
    unsigned n = raid_free_devices(&name), found = 0;
    for (unsigned i = 0; i < n; i++) {
        struct bdev_user user = {.label = "a scan for logs of arrays"};
        struct plog_label l;
        struct err e;
        struct bdev_desc *desc = bdev_open_to_look(name[i], &user, &e);
        if (desc && read_label(desc, &l) && uuid_equal(&l.array, array)) {
            memcpy(name_r, name[i], sizeof name[i]);
            found++;
        }
        if (desc)
            bdev_drain_close(&desc);
    }
    free(name);
    return found;
}

/* ---- it goes away */

static void gone(void *arg)
{
    struct plog_device *d = arg;
    struct raid_array *a = d->array;
    struct raid456 *r = a->level_data;
    struct plog *log = r ? raid_load(&r->log) : NULL;
    if (log && plog_device_of(log) == d)
        plog_lost(log);
    /* It may get another one meanwhile. */
    while (r && (log = raid_load(&r->log)) && plog_device_of(log) == d && !plog_is_lost(log))
        task_sleep_us(1000);
    raid_grace();
    bdev_drain_close(&d->desc);
    d->going = false;
    a->main_tasks--;
}

static void device_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    struct plog_device *d = arg;
    (void)desc;
    if (event != BDEV_EVENT_REMOVE || d->closing || d->array->freeing || !d->array->started)
        return;
    d->closing = d->going = true;
    d->array->main_tasks++;
    task_start(reactor_main(), "raid-log-gone", gone, d);
}

/* ---- open and close */

static struct plog_device *open_device(struct raid_array *a, const char *name, struct err *e)
{
    if (raid_check_stack(a, name, "log_device", e))
        return NULL;
    struct plog_device *d = xcalloc(1, sizeof *d);
    struct bdev_user user = {.event = device_event, .arg = d};
    snprintf(user.label, sizeof user.label, "array %s, its log", a->bdev.name);
    snprintf(d->name, sizeof d->name, "%s", name);
    d->array = a;
    d->desc = bdev_open(name, CLAIM_EXCLUSIVE, &user, e);
    if (!d->desc) {
        free(d);
        return NULL;
    }
    struct raid_policy p;
    raid_policy_get(a, &p);
    bdev_set_timeout(d->desc, p.timeout_ms);
    return d;
}

void plog_device_close(struct plog_device **dp, bool erase)
{
    static const uint8_t none[PLOG_BLOCK];
    struct plog_device *d = *dp;
    *dp = NULL;
    if (!d)
        return;
    d->closing = true;
    while (d->going)
        task_sleep_us(1000);
    raid_grace();
    if (d->desc && erase)
        bdev_write(d->desc, PLOG_LABEL_AT, none, sizeof none, BIO_FUA);
    if (d->desc)
        bdev_drain_close(&d->desc);
    free(d);
}

struct plog_device *plog_device_open(struct raid_array *a, const char *name, struct err *e)
{
    struct plog_device *d = open_device(a, name, e);
    struct plog_label l;
    if (!d)
        return NULL;
    bool good = read_label(d->desc, &l) && uuid_equal(&l.array, &a->sb.set_uuid) &&
                l.slots == a->slots && PLOG_PARTS_AT + l.slots * l.length <= bdev_size(d->desc);
    if (!good) {
        err_set(e, ERR_INVALID, "log_device", "%s does not carry the log of this array", name);
        plog_device_close(&d, false);
        return NULL;
    }
    d->length = l.length;
    return d;
}

/* ---- new ones */

static int check_new(struct raid_array *a, struct plog_device *d, bool force, struct err *e)
{
    struct bdev_info info;
    struct plog_label l;
    char what[256] = "";
    bdev_get_info(d->desc, &info);
    if (info.read_only)
        return err_set(e, ERR_INVALID, "log_device", "%s is read-only", d->name);
    if (info.block_size > PLOG_BLOCK)
        return err_set(e, ERR_INVALID, "log_device", "%s has blocks of %u bytes", d->name,
                       info.block_size);
    if (info.size < PLOG_PARTS_AT)
        return err_set(e, ERR_NO_SPACE, "log_device", "the log device is too small");
    d->length = (info.size - PLOG_PARTS_AT) / a->slots / PLOG_BLOCK * PLOG_BLOCK;
    d->length = d->length < PLOG_MOST ? d->length : PLOG_MOST;
    const char *why = plog_missing(a, d);
    if (why)
        return err_set(e, ERR_NO_SPACE, "log_device", "%s", why);
    if (force || info.known_zero)
        return 0;
    if (read_label(d->desc, &l))
        return uuid_equal(&l.array, &a->sb.set_uuid)
                   ? 0
                   : err_set(e, ERR_NEEDS_FORCE, "log_device",
                             "%s carries the log of another array", d->name);
    int found = probe_signature(d->desc, what, sizeof what, e);
    if (found < 0)
        return err_prefix(e, "%s", d->name);
    return found ? err_set(e, ERR_NEEDS_FORCE, "log_device", "%s carries: %s", d->name, what) : 0;
}

static int zero(struct plog_device *d, uint64_t from, uint64_t to)
{
    struct bio bio;
    bio_init(&bio, d->desc, BIO_WRITE_ZEROES, from, to - from, NULL, NULL);
    return bio_wait(&bio);
}

/* Heads that it may have of this array say nothing any more; whoever owned it before, neither. */
static int label(struct raid_array *a, struct plog_device *d)
{
    struct plog_label l = {.array = a->sb.set_uuid, .slots = a->slots, .length = d->length};
    uint8_t bytes[PLOG_BLOCK];
    uint64_t size = bdev_size(d->desc) / PLOG_BLOCK * PLOG_BLOCK;
    int error = zero(d, 0, PLOG_PARTS_AT);
    for (unsigned i = 0; i < a->slots && !error; i++) {
        uint64_t end = PLOG_PARTS_AT + (i + 1) * d->length;
        error = zero(d, end - PLOG_HEADS, end);
    }
    if (!error)
        error =
            zero(d, size - TAIL > PLOG_PARTS_AT && size > TAIL ? size - TAIL : PLOG_PARTS_AT, size);
    plog_label_write(&l, bytes);
    error = error ? error : bdev_write(d->desc, PLOG_LABEL_AT, bytes, sizeof bytes, BIO_FUA);
    return error ? error : bdev_flush(d->desc);
}

struct plog_device *plog_device_make(struct raid_array *a, const char *name, bool force,
                                     struct err *e)
{
    struct plog_device *d = open_device(a, name, e);
    if (!d)
        return NULL;
    int rc = check_new(a, d, force, e), error = rc ? 0 : label(a, d);
    if (error)
        rc = err_set(e, ERR_IO, "log_device", "%s cannot be written: %s", name, strerror(-error));
    if (rc)
        plog_device_close(&d, error != 0);
    return d;
}

/* ---- a running array gets another one */

struct change {
    struct raid_array *a;
    struct plog *log;           /* in: the new one; out: the old one, or who was not taken */
    struct plog_device *device; /* the same */
    bool none, done;
};

/* Nobody writes, and what stands in the old log is on the members: superblocks say so. */
static void change_home(void *arg)
{
    enum { AGAIN_US = 1000 };
    struct change *c = arg;
    struct raid_array *a = c->a;
    struct raid456 *r = raid456_of(a);
    bool rests = raid_rest(a);
    tlock_lock(&a->meta_lock);
    while (r->log && plog_is_failing(r->log)) {
        tlock_unlock(&a->meta_lock); /* whoever puts that on record needs it */
        task_sleep_us(AGAIN_US);
        tlock_lock(&a->meta_lock);
    }
    if (rests && !raid_load(&a->failed)) {
        struct plog *old = r->log;
        struct plog_device *was = a->log_device;
        a->log_device = c->device;
        c->device = was;
        a->no_log = c->none;
        r->no_log = c->none ? "it is not wanted" : NULL;
        raid_store(&r->log, c->log);
        a->logged = c->log != NULL;
        c->log = old;
        c->done = true;
        raid_meta_write(a);
    }
    raid_publish(a);
    tlock_unlock(&a->meta_lock);
    bdev_resume(&a->bdev);
}

static int change_log(struct raid_array *a, bool none, struct plog_device **d, struct err *e)
{
    struct change c = {.a = a, .none = none, .device = *d};
    const char *why = NULL;
    if (!none)
        c.log = plog_new(a, *d, &why);
    if (why)
        return err_set(e, ERR_NO_SPACE, *d ? "log_device" : "no_log", "%s", why);
    task_call(a->home, change_home, &c);
    raid_grace(); /* nobody looks at the old one any more */
    plog_free(&c.log);
    *d = c.device;
    return c.done ? 0 : err_set(e, ERR_IO, "", "array %s has failed", a->bdev.name);
}

int raid_set_log(const char *name, bool none, const char *device, bool force, struct err *e)
{
    struct raid_array *a = raid_find(name);
    struct plog_device *d = NULL;
    if (!a || a->freeing)
        return err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
    if (!a->level->parity || a->read_only)
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is %s: it has no log", name,
                       a->read_only ? "read-only" : a->level->name);
    a->main_tasks++; /* it stays meanwhile */
    int rc = 0;
    if (device)
        rc = (d = plog_device_make(a, device, force, e)) ? 0 : -1;
    if (!rc)
        rc = change_log(a, none, &d, e);
    plog_device_close(&d, true); /* the old one, or the new one */
    if (!rc) {
        char object[80];
        raid_object(a, object);
        event_raise(object, "log-changed", "%s%s",
                    none     ? "there is none: the write hole is open"
                    : device ? "it is on "
                             : "it is on the members",
                    device ? device : "");
    }
    a->main_tasks--;
    return rc;
}
