/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Channels: a device's queue and counters on one reactor; quiesce and resume. */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "block/block_private.h"

struct drainer {
    struct list link;
    struct task *task;
};

struct bdev_channel *bdev_channel_get(struct bdev *bdev)
{
    struct bdev_channel **slot = &bdev->core->channel[reactor_self_index()];
    if (*slot)
        return *slot;
    struct bdev_channel *ch = xcalloc_lines(sizeof *ch);
    ch->bdev = bdev;
    ch->core = xcalloc_lines(sizeof *ch->core);
    list_init(&ch->core->inflight);
    list_init(&ch->core->held);
    list_init(&ch->core->waiting);
    list_init(&ch->core->drainers);
    ch->core->gate = __atomic_load_n(&bdev->core->gate, __ATOMIC_ACQUIRE);
    children_channel_init(ch);
    __atomic_store_n(slot, ch, __ATOMIC_RELEASE);
    return ch;
}

int channel_ready(struct bdev_channel *ch)
{
    if (ch->core->ready)
        return 0;
    int rc = 0;
    if (ch->bdev->ops->channel_init)
        rc = ch->bdev->ops->channel_init(ch->bdev, ch);
    ch->core->ready = !rc;
    return rc;
}

void channel_drained(struct bdev_channel *ch)
{
    struct list *l;
    while ((l = list_pop(&ch->core->drainers)))
        task_wake(list_entry(l, struct drainer, link)->task);
}

static void hold(void *arg)
{
    struct bdev_channel *ch = bdev_channel_get(arg);
    ch->core->holds++;
    while (ch->core->active) {
        struct drainer d = {.task = task_self()};
        list_add_tail(&ch->core->drainers, &d.link);
        task_park();
    }
}

static void release(void *arg)
{
    struct bdev_channel *ch = bdev_channel_get(arg);
    struct bdev_channel_core *cc = ch->core;
    assert(cc->holds);
    if (--cc->holds)
        return;
    struct list held = LIST_INIT(held);
    list_splice_tail(&held, &cc->held);
    struct list *l;
    while ((l = list_pop(&held))) {
        struct bio *bio = list_entry(l, struct bio, link);
        list_add_tail(&cc->inflight, &bio->link);
        cc->active++;
        bio_dispatch(bio);
    }
}

void bdev_quiesce(struct bdev *bdev)
{
    task_call_all(hold, bdev);
}

void bdev_resume(struct bdev *bdev)
{
    task_call_all(release, bdev);
}

static void channel_free(void *arg)
{
    struct bdev *bdev = arg;
    struct bdev_channel **slot = &bdev->core->channel[reactor_self_index()];
    struct bdev_channel *ch = *slot;
    if (!ch)
        return;
    assert(list_empty(&ch->core->inflight) && list_empty(&ch->core->held));
    if (ch->core->ready && bdev->ops->channel_fini)
        bdev->ops->channel_fini(bdev, ch);
    children_channel_fini(ch);
    for (unsigned i = 0; i < BIO_OP_COUNT; i++)
        free(ch->core->ops[i].bucket);
    free(ch->core);
    free(ch);
    __atomic_store_n(slot, NULL, __ATOMIC_RELEASE);
}

void channels_free(struct bdev *bdev)
{
    task_call_all(channel_free, bdev);
}
