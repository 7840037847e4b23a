/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The registry: names, opens and claims, removal, size. Main's, all of it. */
#include "block/bdev.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "block/block_private.h"

struct reserved {
    struct list link;
    char name[BDEV_NAME_MAX + 1];
    char what[32];
};

enum { HASH_SIZE = 1024 };

static struct list devices = LIST_INIT(devices);
static struct list by_name[HASH_SIZE], by_uuid[HASH_SIZE]; /* NULL links: not used yet */
static struct list reserved_names = LIST_INIT(reserved_names);
static struct list watches = LIST_INIT(watches);

/* ---- names */

bool bdev_name_valid(const char *name)
{
    size_t n = strlen(name);
    if (!n || n > 32 || !isalnum((unsigned char)name[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)name[i]) && !strchr("_.-", name[i]))
            return false;
    return true;
}

static bool full_name_valid(const char *name)
{
    const char *slash = strchr(name, '/');
    if (!slash)
        return bdev_name_valid(name);
    char pool[BDEV_NAME_MAX + 1];
    if ((size_t)(slash - name) >= sizeof pool)
        return false;
    memcpy(pool, name, (size_t)(slash - name));
    pool[slash - name] = 0;
    return bdev_name_valid(pool) && bdev_name_valid(slash + 1);
}

static struct reserved *find_reserved(const char *name)
{
    struct reserved *r;
    list_for_each (r, &reserved_names, link) {
        if (!strcmp(r->name, name))
            return r;
    }
    return NULL;
}

static struct list *bucket(struct list *table, const void *key, size_t size)
{
    struct list *b = &table[crc32c(0, key, size) % HASH_SIZE];
    if (!b->next)
        list_init(b);
    return b;
}

static struct list *name_bucket(const char *name)
{
    return bucket(by_name, name, strlen(name));
}

static struct list *uuid_bucket(const struct uuid *uuid)
{
    return bucket(by_uuid, uuid->b, sizeof uuid->b);
}

struct bdev *bdev_find(const char *name)
{
    struct list *b = name_bucket(name);
    struct bdev_core *c;
    list_for_each (c, b, name_link) {
        if (!strcmp(c->bdev->name, name))
            return c->bdev;
    }
    return NULL;
}

struct bdev *bdev_find_uuid(const struct uuid *uuid)
{
    struct list *b = uuid_bucket(uuid);
    struct bdev_core *c;
    list_for_each (c, b, uuid_link) {
        if (uuid_equal(&c->bdev->uuid, uuid))
            return c->bdev;
    }
    return NULL;
}

static int name_free(const char *name, struct err *e)
{
    if (!full_name_valid(name))
        return err_set(e, ERR_INVALID, "name",
                       "\"%s\" is not a name: expected 1 to 32 of A-Z a-z 0-9 _ . - beginning "
                       "with a letter or digit",
                       name);
    struct bdev *b = bdev_find(name);
    if (b)
        return err_set(e, ERR_EXISTS, "name", "the name %s is taken by a %s device", name,
                       b->ops->type);
    struct reserved *r = find_reserved(name);
    if (r)
        return err_set(e, ERR_EXISTS, "name", "the name %s is taken by a %s", name, r->what);
    return 0;
}

int bdev_name_reserve(const char *name, const char *what, struct err *e)
{
    if (name_free(name, e))
        return -1;
    struct reserved *r = xcalloc(1, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    snprintf(r->what, sizeof r->what, "%s", what);
    list_add_tail(&reserved_names, &r->link);
    return 0;
}

void bdev_name_release(const char *name)
{
    struct reserved *r = find_reserved(name);
    if (!r)
        return;
    list_del(&r->link);
    free(r);
}

void bdev_rename(struct bdev *bdev, const char *name)
{
    assert(!name_free(name, NULL));
    snprintf(bdev->name, sizeof bdev->name, "%s", name);
    list_del(&bdev->core->name_link);
    list_add_tail(name_bucket(name), &bdev->core->name_link);
}

/* ---- registration */

static void check_geometry(const struct bdev *b)
{
    assert(b->ops && b->ops->submit && b->ops->type);
    assert(b->block_size >= 512 && b->block_size <= 4096 && !(b->block_size & (b->block_size - 1)));
    assert(b->size % b->block_size == 0);
    assert(!(b->mem_align & (b->mem_align - 1)) && b->mem_align <= 4096);
    assert(!b->max_io || b->max_io % b->block_size == 0);
    assert(!b->boundary || b->boundary % b->block_size == 0);
}

static void tell_watches(struct bdev *bdev, bool added)
{
    struct bdev_watch *w, *tmp;
    list_for_each_safe (w, tmp, &watches, link)
        w->fn(bdev, added, w->arg);
}

int bdev_register(struct bdev *bdev, struct err *e)
{
    assert(reactor_is_self(reactor_main()));
    check_geometry(bdev);
    if (name_free(bdev->name, e))
        return -1;
    struct bdev_core *c = xcalloc(1, sizeof *c);
    c->bdev = bdev;
    c->size = bdev->size;
    list_init(&c->descs);
    c->ranges = range_map_new();
    tlock_init(&c->excl_lock);
    tlock_init(&c->gate_lock);
    bdev->core = c;
    gate_preset(bdev);
    list_add_tail(&devices, &c->link);
    list_add_tail(name_bucket(bdev->name), &c->name_link);
    list_add_tail(uuid_bucket(&bdev->uuid), &c->uuid_link);
    tell_watches(bdev, true);
    return 0;
}

static void post_event(struct bdev_desc *d, enum bdev_event ev);

void bdev_unregister(struct bdev *bdev)
{
    struct bdev_core *c = bdev->core;
    assert(reactor_is_self(reactor_main()) && task_in());
    assert(c->state == BDEV_LIVE);
    __atomic_store_n(&c->state, BDEV_REMOVING, __ATOMIC_RELEASE);
    tell_watches(bdev, false);
    struct bdev_desc *d;
    list_for_each (d, &c->descs, link)
        post_event(d, BDEV_EVENT_REMOVE);
    while (!list_empty(&c->descs)) {
        c->unregister_task = task_self();
        task_park();
    }
    /* Nobody can submit any more; what the closers left (nothing, by contract) has drained. */
    channels_free(bdev);
    list_del(&c->link);
    list_del(&c->name_link);
    list_del(&c->uuid_link);
    gate_free(c);
    range_map_free(&c->ranges);
    bdev->ops->destroy(bdev);
    free(c);
}

void bdev_watch(struct bdev_watch *w)
{
    list_add_tail(&watches, &w->link);
}

void bdev_unwatch(struct bdev_watch *w)
{
    list_del(&w->link);
}

/* ---- opens and claims */

static bool conflicts(enum bdev_claim a, enum bdev_claim b)
{
    return a == CLAIM_EXCLUSIVE || b == CLAIM_EXCLUSIVE;
}

struct bdev_desc *bdev_open(const char *name, enum bdev_claim claim, const struct bdev_user *user,
                            struct err *e)
{
    assert(reactor_is_self(reactor_main()));
    struct bdev *b = bdev_find(name);
    if (!b) {
        err_set(e, ERR_NOT_FOUND, "device", "there is no device %s", name);
        return NULL;
    }
    if (b->core->state != BDEV_LIVE) {
        err_set(e, ERR_IN_USE, "device", "the device %s is being removed", name);
        return NULL;
    }
    struct bdev_desc *d;
    list_for_each (d, &b->core->descs, link) {
        if (conflicts(d->claim, claim)) {
            err_set(e, ERR_IN_USE, "device", "the device %s is in use by %s", name, d->user.label);
            return NULL;
        }
    }
    if (claim != CLAIM_READ && b->read_only) {
        err_set(e, ERR_INVALID, "device", "the device %s is read-only", name);
        return NULL;
    }
    if (list_empty(&b->core->descs))
        __atomic_store_n(&b->core->write_error, false, __ATOMIC_RELAXED);
    d = aligned_alloc(64, (sizeof *d + 63) / 64 * 64);
    if (!d)
        abort();
    memset(d, 0, sizeof *d);
    d->bdev = b;
    d->claim = claim;
    d->user = *user;
    d->gated = user->gated || claim == CLAIM_SHARED_WRITE;
    list_add_tail(&b->core->descs, &d->link);
    return d;
}

static uint32_t look_timeout_ms = 30 * 1000;

void bdev_set_look_timeout_ms(uint32_t ms)
{
    look_timeout_ms = ms;
}

struct bdev_desc *bdev_open_to_look(const char *name, const struct bdev_user *user, struct err *e)
{
    struct bdev_desc *d = bdev_open(name, CLAIM_READ, user, e);
    if (d)
        bdev_set_timeout(d, look_timeout_ms);
    return d;
}

uint64_t bdev_desc_inflight(const struct bdev_desc *d)
{
    uint64_t n = 0;
    for (unsigned r = 0; r <= reactor_count(); r++)
        n += __atomic_load_n(&d->per[r].inflight, __ATOMIC_ACQUIRE);
    return n;
}

void bdev_mark_unanswered(struct bdev_desc *d)
{
    static const char tail[] = " (no answer yet)";
    size_t room = sizeof d->user.label - sizeof tail, n = strlen(d->user.label);
    if (n >= sizeof tail && !strcmp(d->user.label + n - (sizeof tail - 1), tail))
        return;
    memcpy(d->user.label + (n < room ? n : room), tail, sizeof tail);
}

void bdev_close(struct bdev_desc **dp)
{
    struct bdev_desc *d = *dp;
    if (!d)
        return;
    assert(reactor_is_self(reactor_main()) && !bdev_desc_inflight(d));
    struct bdev_core *c = d->bdev->core;
    list_del(&d->link);
    *dp = NULL;
    d->closed = true;
    if (!d->event_posted)
        free(d); /* else the event's delivery does */
    if (list_empty(&c->descs) && c->unregister_task) {
        struct task *t = c->unregister_task;
        c->unregister_task = NULL;
        task_wake(t);
    }
}

void bdev_drain_close(struct bdev_desc **dp)
{
    while (*dp && bdev_desc_inflight(*dp)) {
        if (guard_abandon(*dp)) {
            *dp = NULL;
            return;
        }
        task_sleep_us(300);
    }
    bdev_close(dp);
}

static void deliver_events(void *arg)
{
    struct bdev_desc *d = arg;
    d->event_posted = false;
    for (unsigned ev = 0; ev < 2 && !d->closed; ev++) {
        if (!(d->events & 1u << ev))
            continue;
        d->events &= ~(1u << ev);
        d->event_posted = true; /* keeps d over a close in the callback */
        if (d->user.event)
            d->user.event(d, ev, d->user.arg);
        d->event_posted = false;
    }
    if (d->closed)
        free(d);
}

static void post_event(struct bdev_desc *d, enum bdev_event ev)
{
    d->events |= 1u << ev;
    if (d->event_posted)
        return;
    d->event_posted = true;
    reactor_post(reactor_main(), &d->event_post, deliver_events, d);
}

/* ---- size */

void bdev_set_size(struct bdev *bdev, uint64_t size)
{
    struct bdev_core *c = bdev->core;
    assert(reactor_is_self(reactor_main()) && task_in() && size % bdev->block_size == 0);
    bool shrink = size < c->size;
    if (shrink)
        bdev_quiesce(bdev);
    __atomic_store_n(&c->size, size, __ATOMIC_RELEASE);
    bdev->size = size;
    if (shrink)
        bdev_resume(bdev);
    struct bdev_desc *d;
    list_for_each (d, &c->descs, link)
        post_event(d, BDEV_EVENT_RESIZE);
}

/* ---- facts */

static bool can(const struct bdev *b, enum bio_op op)
{
    bool writes = b->native & 1u << BIO_WRITE && !b->read_only;
    if (b->native & 1u << op)
        return !(b->read_only && bio_is_write(op));
    switch (op) {
    case BIO_FLUSH: return !b->write_cache;
    case BIO_PREFETCH:
    case BIO_EXTENTS: return true;
    case BIO_WRITE_ZEROES:
    case BIO_COMPARE_AND_WRITE:
    case BIO_COPY: return writes;
    default: return false;
    }
}

void bdev_info_of(const struct bdev *b, struct bdev_info *i)
{
    memset(i, 0, sizeof *i);
    snprintf(i->name, sizeof i->name, "%s", b->name);
    snprintf(i->type, sizeof i->type, "%s", b->ops->type);
    i->uuid = b->uuid;
    i->size = __atomic_load_n(&b->core->size, __ATOMIC_RELAXED);
    i->block_size = b->block_size;
    i->phys_block = b->phys_block ? b->phys_block : b->block_size;
    i->opt_io = b->opt_io;
    i->mem_align = b->mem_align;
    i->discard_gran = b->discard_gran;
    i->discard_zeroes = b->discard_zeroes;
    i->write_cache = b->write_cache;
    i->read_only = b->read_only;
    i->rotational = b->rotational;
    i->write_error = __atomic_load_n(&b->core->write_error, __ATOMIC_RELAXED);
    i->known_zero = b->known_zero && !__atomic_load_n(&b->core->written, __ATOMIC_RELAXED);
    for (unsigned op = 0; op < BIO_OP_COUNT; op++)
        if (can(b, op))
            i->ops |= 1u << op;
}

void bdev_get_info(const struct bdev_desc *desc, struct bdev_info *info_r)
{
    bdev_info_of(desc->bdev, info_r);
}

bool bdev_name_info(const char *name, struct bdev_info *info_r)
{
    struct bdev *b = bdev_find(name);
    if (b)
        bdev_info_of(b, info_r);
    return b;
}

uint64_t bdev_size(const struct bdev_desc *desc)
{
    return __atomic_load_n(&desc->bdev->core->size, __ATOMIC_RELAXED);
}

uint32_t bdev_block_size(const struct bdev_desc *desc)
{
    return desc->bdev->block_size;
}

struct bdev *bdev_of(const struct bdev_desc *desc)
{
    return desc->bdev;
}

enum bdev_claim bdev_desc_claim(const struct bdev_desc *desc)
{
    return desc->claim;
}

const char *bdev_name(const struct bdev *bdev)
{
    return bdev->name;
}

bool bdev_users(const struct bdev *bdev, char *out, size_t size)
{
    size_t n = 0;
    if (size)
        out[0] = 0;
    struct bdev_desc *d;
    list_for_each (d, &bdev->core->descs, link) {
        if (n < size)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", d->user.label);
    }
    return !list_empty(&bdev->core->descs);
}

void bdev_for_each(void (*fn)(struct bdev *bdev, void *arg), void *arg)
{
    struct bdev_core *c, *tmp;
    list_for_each_safe (c, tmp, &devices, link)
        fn(c->bdev, arg);
}

bool bdev_refresh(struct bdev *bdev)
{
    assert(task_in());
    return !bdev->ops->refresh || bdev->ops->refresh(bdev);
}

void bdev_attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                void *arg)
{
    if (bdev->ops->attrs)
        bdev->ops->attrs(bdev, fn, arg);
}

struct stack {
    const struct bdev *lower;
    bool found;
};

static void look_below(const char *name, void *arg)
{
    struct stack *s = arg;
    struct bdev *b = s->found ? NULL : bdev_find(name);
    if (b && b == s->lower)
        s->found = true;
    else if (b && b->ops->below)
        b->ops->below(b, look_below, s);
}

bool bdev_stands_on(const char *name, const struct bdev *lower)
{
    struct stack s = {.lower = lower};
    look_below(name, &s);
    return s.found;
}

bool bdev_failed(const struct bdev *bdev, char *why, size_t size)
{
    return bdev->ops->failed && bdev->ops->failed(bdev, why, size);
}
