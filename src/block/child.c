/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Children of bios. Each reactor keeps a pool of free bios that grows as needed. A bio is handed to
 * a driver only when `fanout` children are promised to it: free in the pool and not promised to
 * others. When memory is out, the channel's own reserve serves one parent at a time, so that each
 * layer of a stack always makes progress; the others wait in order.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "block/block_private.h"

enum { POOL_STEP = 32 };

static __thread struct {
    struct bio *free; /* linked through `parent` */
    unsigned count, promised;
    bool registered;
} pool;

static void pool_free(void *arg)
{
    (void)arg;
    assert(!pool.promised);
    while (pool.free) {
        struct bio *b = pool.free;
        pool.free = b->parent;
        free(b);
    }
    pool.count = 0;
    pool.registered = false;
}

static bool pool_grow(unsigned want)
{
    if (!pool.registered) {
        reactor_at_exit(pool_free, NULL);
        pool.registered = true;
    }
    while (pool.count - pool.promised < want) {
        for (unsigned i = 0; i < POOL_STEP; i++) {
            struct bio *b = malloc(sizeof *b);
            if (!b)
                return pool.count - pool.promised >= want;
            b->parent = pool.free;
            pool.free = b;
            pool.count++;
        }
    }
    return true;
}

void children_channel_init(struct bdev_channel *ch)
{
    if (ch->bdev->fanout)
        ch->core->reserve = xcalloc(ch->bdev->fanout, sizeof(struct bio));
}

void children_channel_fini(struct bdev_channel *ch)
{
    free(ch->core->reserve);
    ch->core->reserve = NULL;
}

static void renew_reserve(void *arg)
{
    struct bdev *bdev = arg;
    struct bdev_channel *ch = bdev->core->channel[reactor_self_index()];
    if (!ch)
        return;
    assert(!ch->core->reserve_lent && list_empty(&ch->core->waiting));
    children_channel_fini(ch);
    children_channel_init(ch);
}

void bdev_set_fanout(struct bdev *bdev, unsigned fanout)
{
    bdev->fanout = fanout;
    task_call_all(renew_reserve, bdev);
}

bool children_promise(struct bio *bio)
{
    struct bdev_channel *ch = bio->ch;
    unsigned want = ch->bdev->fanout;
    if (pool_grow(want)) {
        pool.promised += want;
        bio->credits = want;
        return true;
    }
    if (ch->core->reserve_lent)
        return false;
    ch->core->reserve_lent = true;
    ch->core->reserve_used = 0;
    bio->core_flags |= BIO_CORE_RESERVED;
    bio->credits = want;
    return true;
}

static void serve_waiting(struct bdev_channel *ch)
{
    struct list *waiting = &ch->core->waiting;
    while (!list_empty(waiting)) {
        struct bio *next = list_first(waiting, struct bio, link);
        if (!children_promise(next))
            return;
        list_del(&next->link);
        if (!(next->core_flags & (BIO_CORE_INNER | BIO_CORE_FORWARDED)))
            list_add_tail(&ch->core->inflight, &next->link);
        next->state = BIO_DRIVER;
        for (unsigned i = 0; i < 6; i++)
            next->drv.u[i] = 0;
        ch->bdev->ops->submit(ch->bdev, next);
    }
}

void children_release(struct bio *bio)
{
    struct bdev_channel *ch = bio->ch;
    if (bio->core_flags & BIO_CORE_RESERVED) {
        ch->core->reserve_lent = false;
        bio->core_flags &= (uint8_t)~BIO_CORE_RESERVED;
    } else {
        pool.promised -= bio->credits;
    }
    bio->credits = 0;
    serve_waiting(ch);
}

struct bio *bio_child(struct bio *parent, struct bdev_desc *to)
{
    assert(parent->credits);
    parent->credits--;
    struct bio *c;
    uint8_t flags;
    if (parent->core_flags & BIO_CORE_RESERVED) {
        struct bdev_channel_core *cc = parent->ch->core;
        /* Children of the one parent that has the reserve: find a free one. */
        unsigned i = 0;
        while (cc->reserve[i].parent)
            i++;
        assert(i < parent->ch->bdev->fanout);
        c = &cc->reserve[i];
        flags = BIO_CORE_OF_RESERVE;
    } else {
        c = pool.free;
        pool.free = c->parent;
        pool.count--;
        pool.promised--;
        flags = BIO_CORE_POOLED;
    }
    bio_init(c, to, parent->op, parent->offset, parent->length, bio_child_done, NULL);
    c->flags = parent->flags & (uint8_t)~BIO_BORROW; /* the layer between wants the data */
    c->iov = parent->iov;
    c->iovcnt = parent->iovcnt;
    c->iov_skip = parent->iov_skip;
    c->extents = parent->extents;
    if (parent->op == BIO_COPY) {
        c->copy_src = parent->copy_src;
        c->copy_offset = parent->copy_offset;
    }
    c->parent = parent;
    c->core_flags = flags;
    return c;
}

void bio_child_range(struct bio *child, uint64_t from, uint64_t length, uint64_t offset)
{
    struct bio *parent = child->parent;
    child->from = from;
    child->length = length;
    child->offset = offset;
    child->iov_skip = parent->iov_skip + from;
    if (child->op == BIO_COPY)
        child->copy_offset = parent->copy_offset + from;
}

void bio_child_put(struct bio *child)
{
    struct bio *parent = child->parent;
    assert(child->state == BIO_IDLE);
    parent->credits++;
    if (child->core_flags & BIO_CORE_OF_RESERVE) {
        child->parent = NULL;
        return;
    }
    assert(child->core_flags & BIO_CORE_POOLED);
    child->parent = pool.free;
    pool.free = child;
    pool.count++;
    pool.promised++; /* the parent may want it again */
}

void bio_child_done(struct bio *child)
{
    struct bio *parent = child->parent;
    if (child->error && !parent->error) {
        parent->error = child->error;
        if (child->bad_offset != BIO_NO_OFFSET)
            parent->bad_offset = parent->offset + child->from + (child->bad_offset - child->offset);
    }
    bio_child_put(child);
    assert(parent->pending);
    if (!--parent->pending)
        bio_complete(parent, parent->error);
}

/* ---- forwarding */

static void forwarded(void *arg)
{
    struct bio *child = arg;
    void (*run)(struct bdev *, struct bio *) = (void (*)(struct bdev *, struct bio *))child->arg;
    struct bdev *b = child->parent->ch->bdev;
    child->ch = bdev_channel_get(b);
    child->ch->core->active++;
    list_add_tail(&child->ch->core->inflight, &child->link);
    bio_set_t_submit(child);
    int rc = channel_ready(child->ch);
    child->state = BIO_DRIVER;
    child->core_flags |= BIO_CORE_FORWARDED;
    if (rc || !children_promise(child)) {
        bio_complete(child, rc ? rc : -EAGAIN);
        return;
    }
    run(b, child);
}

void bio_forward(struct bio *bio, struct reactor *owner,
                 void (*run)(struct bdev *bdev, struct bio *child))
{
    if (reactor_is_self(owner)) {
        run(bio->ch->bdev, bio);
        return;
    }
    struct bio *child = bio_child(bio, bio->desc);
    child->origin = reactor_self();
    child->nexus = bio->nexus;
    child->arg = (void *)(uintptr_t)run;
    reactor_post(owner, &child->post, forwarded, child);
}
