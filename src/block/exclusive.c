/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exclusive mode: while a device has compare-and-write (emulated) in use, every write takes its
 * byte range, so that no plain write slips between the compare and the write. The mode is entered
 * by quiescing all channels (writes that took no range have ended then) and left when it has not
 * been used for a while; devices that never see such a command never pay for it.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"
#include "block/block_private.h"

static const uint64_t LINGER_NS = 10000000000u;

static void granted(void *arg)
{
    bio_dispatch(arg);
}

static bool take(struct bio *bio)
{
    struct range_req *req = calloc(1, sizeof *req);
    if (!req) {
        bio->state = BIO_DRIVER;
        bio_complete(bio, -EAGAIN);
        return false;
    }
    bio->range = req;
    bio->state = BIO_WAITING;
    /* Whole blocks: two byte ranges in one block exclude one another. */
    uint64_t mask = bio->ch->bdev->block_size - 1u;
    uint64_t begin = bio->offset & ~mask, end = (bio->offset + bio->length + mask) & ~mask;
    return range_acquire(bio->ch->bdev->core->ranges, req, begin, end - begin, granted, bio);
}

/* ---- leaving */

static void turn_off(void *arg)
{
    struct bdev *bdev = arg;
    struct bdev_core *core = bdev->core;
    tlock_lock(&core->excl_lock);
    bdev_quiesce(bdev);
    __atomic_store_n(&core->exclusive, false, __ATOMIC_RELEASE);
    __atomic_store_n(&core->excl_leaving, false, __ATOMIC_RELEASE);
    bdev_resume(bdev);
    tlock_unlock(&core->excl_lock);
}

static void maybe_leave(struct bio *bio)
{
    struct bdev_core *core = bio->ch->bdev->core;
    uint64_t used = __atomic_load_n(&core->excl_used_ns, __ATOMIC_RELAXED);
    if (bio->t_submit < used + LINGER_NS)
        return;
    if (!__atomic_exchange_n(&core->excl_leaving, true, __ATOMIC_ACQ_REL))
        task_start(reactor_get(0), "exclusive-off", turn_off, bio->ch->bdev);
}

bool exclusive_take(struct bio *bio)
{
    if (!__atomic_load_n(&bio->ch->bdev->core->exclusive, __ATOMIC_ACQUIRE))
        return true;
    maybe_leave(bio);
    return take(bio);
}

void exclusive_give(struct bio *bio)
{
    range_release(bio->ch->bdev->core->ranges, bio->range);
    free(bio->range);
    bio->range = NULL;
}

/* ---- entering */

static void turn_on(void *arg)
{
    struct bdev *bdev = arg;
    struct bdev_core *core = bdev->core;
    tlock_lock(&core->excl_lock);
    if (!__atomic_load_n(&core->exclusive, __ATOMIC_ACQUIRE)) {
        bdev_quiesce(bdev);
        __atomic_store_n(&core->exclusive, true, __ATOMIC_RELEASE);
        bdev_resume(bdev);
    }
    tlock_unlock(&core->excl_lock);
}

static void enter_task(void *arg)
{
    struct bio *bio = arg;
    struct bdev *bdev = bio->ch->bdev;
    task_call(reactor_get(0), turn_on, bdev);
    struct bdev_channel_core *cc = bio->ch->core;
    if (cc->holds) { /* somebody else quiesced meanwhile: resume dispatches it */
        list_del(&bio->link);
        list_add_tail(&cc->held, &bio->link);
        return;
    }
    cc->active++;
    if (take(bio))
        bio_dispatch(bio);
}

void exclusive_enter(struct bio *bio)
{
    struct bdev_core *core = bio->ch->bdev->core;
    __atomic_store_n(&core->excl_used_ns, bio->t_submit, __ATOMIC_RELAXED);
    if (__atomic_load_n(&core->exclusive, __ATOMIC_ACQUIRE)) {
        if (take(bio))
            bio_dispatch(bio);
        return;
    }
    /* The quiesce must not wait for the bio that asks for it. */
    bio->state = BIO_HELD;
    if (!--bio->ch->core->active)
        channel_drained(bio->ch);
    task_start(reactor_self(), "exclusive", enter_task, bio);
}
