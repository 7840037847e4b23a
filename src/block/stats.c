/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "block/block_private.h"

enum { MAX_LISTED = 4096 };

uint64_t hist_bound_ns(unsigned bucket)
{
    if (!bucket)
        return 1000;
    if (bucket >= HIST_BUCKETS - 1)
        return UINT64_MAX;
    unsigned octave = (bucket - 1) / 4, within = (bucket - 1) % 4;
    return ((uint64_t)(5 + within) << octave) * 250;
}

void stats_count(struct bio *bio)
{
    if (bio->op >= BIO_OP_COUNT)
        return;
    struct op_counters *c = &bio->ch->core->ops[bio->op];
    relaxed_inc(&c->count);
    if (bio->error) {
        relaxed_inc(&c->errors);
    } else {
        relaxed_add(&c->bytes, bio->length);
    }
    uint64_t ns = reactor_now() - bio->t_submit;
    relaxed_add(&c->total_ns, ns);
    uint64_t *bucket = c->bucket;
    if (!bucket) {
        bucket = calloc_lines(HIST_BUCKETS * sizeof *bucket);
        __atomic_store_n(&c->bucket, bucket, __ATOMIC_RELEASE);
    }
    if (bucket)
        relaxed_inc(&bucket[hist_bucket(ns)]);
}

void bdev_op_stats(struct bdev *bdev, enum bio_op op, struct op_stats *s)
{
    memset(s, 0, sizeof *s);
    for (unsigned r = 0; r <= reactor_count(); r++) {
        struct bdev_channel *ch = __atomic_load_n(&bdev->core->channel[r], __ATOMIC_ACQUIRE);
        if (!ch)
            continue;
        const struct op_counters *c = &ch->core->ops[op];
        s->count += relaxed_load(&c->count);
        s->bytes += relaxed_load(&c->bytes);
        s->errors += relaxed_load(&c->errors);
        s->total_ns += relaxed_load(&c->total_ns);
        const uint64_t *bucket = __atomic_load_n(&c->bucket, __ATOMIC_ACQUIRE);
        for (unsigned i = 0; bucket && i < HIST_BUCKETS; i++)
            s->bucket[i] += relaxed_load(&bucket[i]);
    }
}

uint64_t bdev_inflight(struct bdev *bdev)
{
    uint64_t n = 0;
    struct bdev_desc *d;
    list_for_each (d, &bdev->core->descs, link) {
        for (unsigned r = 0; r <= reactor_count(); r++)
            n += relaxed_load(&d->per[r].inflight);
    }
    return n;
}

/* ---- what is in flight */

struct listing {
    struct bdev *bdev;
    struct inflight_info *info;
    unsigned count; /* atomic */
};

static void list_one(struct listing *l, const struct bio *bio, uint64_t now)
{
    static const char *const where[] = {"submitting", "waiting", "held", "driver", "completing"};
    unsigned i = __atomic_fetch_add(&l->count, 1, __ATOMIC_RELAXED);
    if (i >= MAX_LISTED)
        return;
    struct inflight_info *info = &l->info[i];
    memcpy(info->device, l->bdev->name, sizeof info->device);
    info->op = bio->op;
    info->offset = bio->offset;
    info->length = bio->length;
    info->age_us = now > bio->t_submit ? (now - bio->t_submit) / 1000 : 0;
    info->reactor = reactor_self_index();
    info->where = where[bio->state];
}

static void list_here(void *arg)
{
    struct listing *l = arg;
    struct bdev_channel *ch = l->bdev->core->channel[reactor_self_index()];
    if (!ch)
        return;
    uint64_t now = reactor_now();
    struct list *const lists[] = {&ch->core->inflight, &ch->core->held, &ch->core->waiting};
    for (unsigned i = 0; i < 3; i++) {
        struct bio *bio;
        list_for_each (bio, lists[i], link)
            list_one(l, bio, now);
    }
}

static void list_device(struct bdev *bdev, void *arg)
{
    struct listing *l = arg;
    l->bdev = bdev;
    task_call_all(list_here, l);
}

void bdev_inflight_list(void (*fn)(const struct inflight_info *info, void *arg), void *arg)
{
    struct listing l = {.info = xcalloc(MAX_LISTED, sizeof *l.info)};
    bdev_for_each(list_device, &l);
    for (unsigned i = 0; i < l.count && i < MAX_LISTED; i++)
        fn(&l.info[i], arg);
    free(l.info);
}
