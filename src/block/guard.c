/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Time-outs. Nothing can take a request back from a driver; who does not want to wait for it for
 * ever must not lend it memory. So a bio on a desc with a time-out is answered by a bio of ours, on
 * data of ours. When the time is over, the submitter gets -ETIMEDOUT, as does whatever else it has
 * under way there or sends later; our bio ends when it ends, and until then the desc, and with it
 * the claim, stays: nobody can write to the device what a late write would then undo.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/block_private.h"
#include "reactor/iobuf.h"

enum { TICK_US = 50 * 1000, DRAIN_US = 20 * 1000 };

struct guard {
    struct list link;  /* the reactor's list */
    struct bio bio;    /* ours */
    struct bio *outer; /* the submitter's; NULL once it was told */
    struct iobuf *buf;
    struct iovec iov;
    struct bio_extents extents;
    uint64_t deadline; /* reactor_now() */
};

static __thread struct {
    struct list list;
    struct rtimer timer;
    bool ready, armed;
} guards;

static void guards_end(void *arg)
{
    (void)arg;
    rtimer_free(&guards.timer);
    guards.ready = false;
}

static void guards_begin(void)
{
    if (guards.ready)
        return;
    memset(&guards, 0, sizeof guards);
    list_init(&guards.list);
    reactor_at_exit(guards_end, NULL);
    guards.ready = true;
}

/* ---- answers */

static void answer(struct bio *outer, int error)
{
    release_dec(&outer->desc->per[reactor_self_index()].guarded);
    outer->error = error;
    outer->state = BIO_IDLE;
    if (outer->buf)
        iobuf_put(&outer->buf);
    outer->done(outer); /* the bio may be gone now */
}

static void answer_timeout(void *arg)
{
    answer(arg, -ETIMEDOUT);
}

static void answer_later(struct bio *outer)
{
    outer->state = BIO_COMPLETING;
    reactor_defer(&outer->defer, answer_timeout, outer);
}

static void take_result(struct guard *g)
{
    struct bio *outer = g->outer;
    outer->bad_offset = g->bio.bad_offset;
    if (g->bio.error)
        return;
    if (outer->op == BIO_READ)
        bio_copy_in(outer, 0, g->buf->data, outer->length);
    if (outer->op == BIO_EXTENTS) {
        outer->extents->count = g->extents.count;
        memcpy(outer->extents->list, g->extents.list, g->extents.count * sizeof *g->extents.list);
    }
}

static void guard_free(struct guard *g)
{
    iobuf_put(&g->buf);
    free(g->extents.list);
    free(g);
}

static void inner_done(struct bio *bio)
{
    struct guard *g = bio->arg;
    struct bio *outer = g->outer;
    int error = bio->error;
    list_del(&g->link);
    if (outer)
        take_result(g);
    guard_free(g);
    if (outer)
        answer(outer, error);
}

/* ---- the clock */

static void tick(void *arg);

static void arm(void)
{
    if (guards.armed || list_empty(&guards.list))
        return;
    guards.armed = true;
    rtimer_arm(&guards.timer, TICK_US, tick, NULL);
}

static void give_up(struct guard *g)
{
    struct bdev_desc *d = g->bio.desc;
    struct bio *outer = g->outer;
    if (!__atomic_exchange_n(&d->timed_out, true, __ATOMIC_ACQ_REL))
        log_warn("block", "%s does not answer %s: a %s at byte %llu takes more than %u ms",
                 d->bdev->name, d->user.label, bio_op_name((enum bio_op)g->bio.op),
                 (unsigned long long)g->bio.offset, relaxed_load(&d->timeout_ms));
    g->outer = NULL;
    answer_later(outer);
}

static void tick(void *arg)
{
    struct guard *g;
    uint64_t now = reactor_now();
    (void)arg;
    guards.armed = false;
    list_for_each (g, &guards.list, link)
        if (g->outer && (now >= g->deadline || relaxed_load(&g->bio.desc->timed_out)))
            give_up(g);
    arm();
}

/* ---- requests */

static bool borrow(struct guard *g, const struct bio *outer)
{
    if (bio_has_data((enum bio_op)outer->op)) {
        g->buf = iobuf_get(outer->length);
        if (!g->buf)
            return false;
        g->iov = (struct iovec){g->buf->data, outer->length};
        bio_data(&g->bio, &g->iov, 1);
        if (outer->op == BIO_WRITE)
            bio_copy_out(outer, 0, g->buf->data, outer->length);
    }
    if (outer->op == BIO_EXTENTS) {
        g->extents.max = outer->extents->max;
        g->extents.list = calloc(g->extents.max, sizeof *g->extents.list);
        g->bio.extents = &g->extents;
        return g->extents.list;
    }
    return true;
}

static bool data_is_there(const struct bio *bio)
{
    uint64_t have = 0;
    for (unsigned i = 0; i < bio->iovcnt; i++)
        have += bio->iov[i].iov_len;
    return bio->length <= BIO_MAX_DATA && have >= bio->iov_skip + bio->length;
}

/* What the core refuses, or splits into several steps of its own, goes its usual way. */
static bool can_guard(const struct bio *bio)
{
    switch (bio->op) {
    case BIO_READ:
    case BIO_WRITE: return bio->length && data_is_there(bio);
    case BIO_EXTENTS: return bio->extents && bio->extents->max;
    case BIO_FLUSH:
    case BIO_DISCARD:
    case BIO_WRITE_ZEROES: return true;
    default: return false;
    }
}

bool guard_submit(struct bio *bio)
{
    struct bdev_desc *d = bio->desc;
    struct guard *g = can_guard(bio) ? calloc(1, sizeof *g) : NULL;
    if (!g)
        return false;
    guards_begin();
    bio_init(&g->bio, d, (enum bio_op)bio->op, bio->offset, bio->length, inner_done, g);
    if (!borrow(g, bio)) {
        guard_free(g); /* without memory it waits as long as it takes */
        return false;
    }
    g->bio.flags = bio->flags & (uint8_t)~BIO_BORROW; /* its data is copied from ours */
    g->bio.nexus = bio->nexus;
    g->outer = bio;
    g->deadline = reactor_now() + relaxed_load(&d->timeout_ms) * 1000000ull;
    bio->error = 0;
    bio->bad_offset = BIO_NO_OFFSET;
    bio->lent = NULL;
    bio->state = BIO_WAITING;
    bio_set_t_submit(bio);
    relaxed_inc(&d->per[reactor_self_index()].guarded);
    if (__atomic_load_n(&d->timed_out, __ATOMIC_ACQUIRE)) {
        guard_free(g);
        answer_later(bio);
        return true;
    }
    list_add_tail(&guards.list, &g->link);
    arm();
    bio_submit_now(&g->bio);
    return true;
}

/* ---- the desc */

void bdev_set_timeout(struct bdev_desc *desc, uint32_t ms)
{
    __atomic_store_n(&desc->timeout_ms, ms, __ATOMIC_RELAXED);
}

static unsigned abandoned; /* main's */

unsigned bdev_abandoned(void)
{
    return abandoned;
}

static void drain(void *arg)
{
    struct bdev_desc *d = arg;
    while (bdev_desc_inflight(d))
        task_sleep_us(DRAIN_US);
    log_info("block", "%s has answered at last", d->bdev->name);
    bdev_close(&d);
    abandoned--;
}

bool guard_abandon(struct bdev_desc *d)
{
    if (!__atomic_load_n(&d->timed_out, __ATOMIC_ACQUIRE))
        return false;
    for (unsigned r = 0; r <= reactor_count(); r++)
        if (__atomic_load_n(&d->per[r].guarded, __ATOMIC_ACQUIRE))
            return false;
    bdev_mark_unanswered(d);
    d->user.event = NULL;
    abandoned++;
    task_start(reactor_main(), "drain", drain, d);
    return true;
}
