/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How fast background work may go. With nobody else there, as fast as it can. While clients are
 * served, their latency decides: ten times a second the 99th percentile since the last look is
 * compared with the target; above it the rate is halved, but never below the floor, below it the
 * rate grows by a quarter. Requests that wait and do not end count as slow.
 */
#include <string.h>

#include "raid/raid_private.h"

enum {
    LOOK_NS = 100 * 1000 * 1000,
    IDLE_LOOKS = 5, /* without clients, before they are taken for gone */
    NAP_US = 10 * 1000,
    GROW_MIN = 1 << 20, /* bytes a second */
    RATE_NS = 1000 * 1000 * 1000,
};

static const enum bio_op client_ops[] = {BIO_READ, BIO_WRITE, BIO_WRITE_ZEROES, BIO_FLUSH};

/* Requests of clients that have ended, by their latency. */
static uint64_t ended(const struct raid_array *a, uint64_t bucket[HIST_BUCKETS])
{
    uint64_t n = 0;
    memset(bucket, 0, HIST_BUCKETS * sizeof *bucket);
    for (unsigned i = 0; i < sizeof client_ops / sizeof *client_ops; i++) {
        struct op_stats s;
        bdev_op_stats((struct bdev *)(uintptr_t)&a->bdev, client_ops[i], &s);
        n += s.count;
        for (unsigned k = 0; k < HIST_BUCKETS; k++)
            bucket[k] += s.bucket[k];
    }
    return n;
}

static bool anybody_waits(const struct raid_array *a)
{
    for (unsigned i = 0; i <= reactor_count(); i++)
        if (__atomic_load_n(&a->chan[i].writes, __ATOMIC_RELAXED))
            return true;
    return false;
}

uint64_t raid_pace_p99(struct raid_pace *p, const uint64_t now[HIST_BUCKETS], bool waiting,
                       uint64_t took_ns)
{
    uint64_t all = 0, seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        all += now[i] - p->bucket[i];
    unsigned at = 0;
    for (; at < HIST_BUCKETS - 1; at++) {
        seen += now[at] - p->bucket[at];
        if (seen * 100 >= all * 99)
            break;
    }
    memcpy(p->bucket, now, sizeof p->bucket);
    if (!all)
        return waiting ? took_ns / 1000 : 0;
    uint64_t ns = hist_bound_ns(at);
    return ns == UINT64_MAX ? took_ns / 1000 : (ns + 999) / 1000;
}

void raid_pace_adapt(struct raid_pace *p, const struct raid_policy *policy, uint64_t p99,
                     uint64_t rate)
{
    p->idle = p99 ? 0 : p->idle + 1;
    if (p->idle >= IDLE_LOOKS) {
        p->limit = 0;
    } else if (p99 > policy->latency_us) {
        uint64_t from = p->limit && p->limit < rate ? p->limit : rate;
        p->limit = from / 2 > policy->rate_min ? from / 2 : policy->rate_min;
    } else if (p99 && p->limit) {
        p->limit += p->limit / 4 + GROW_MIN;
    }
    if (policy->rate_max && (!p->limit || p->limit > policy->rate_max))
        p->limit = policy->rate_max;
}

static void look(struct raid_array *a, struct raid_pace *p)
{
    struct raid_policy policy;
    uint64_t now = clock_ns(), took = now - p->looked;
    raid_policy_get(a, &policy);
    uint64_t bucket[HIST_BUCKETS];
    ended(a, bucket);
    uint64_t p99 = raid_pace_p99(p, bucket, anybody_waits(a), took);
    uint64_t rate = (uint64_t)((double)p->bytes * 1e9 / (double)took);
    raid_pace_adapt(p, &policy, p99, rate);
    p->looked = now;
    p->bytes = 0;
    raid_store(&a->client_p99, p99);
    raid_store(&a->sync_limit, p->limit);
}

void raid_pace_begin(struct raid_array *a, struct raid_pace *p)
{
    struct raid_policy policy;
    raid_policy_get(a, &policy);
    memset(p, 0, sizeof *p);
    p->limit = policy.rate_max;
    p->began = p->looked = p->rated = clock_ns();
    ended(a, p->bucket);
    raid_store(&a->sync_rate, 0);
    raid_store(&a->sync_limit, p->limit);
}

void raid_pace_end(struct raid_array *a)
{
    raid_store(&a->sync_rate, 0);
    raid_store(&a->sync_limit, 0);
}

static void measure(struct raid_array *a, struct raid_pace *p, uint64_t bytes)
{
    uint64_t now = clock_ns(), took = now - p->rated;
    p->bytes += bytes;
    p->rated_bytes += bytes;
    if (took < RATE_NS / 4)
        return;
    raid_store(&a->sync_rate, (uint64_t)((double)p->rated_bytes * 1e9 / (double)took));
    if (took >= RATE_NS) {
        p->rated = now;
        p->rated_bytes = 0;
    }
}

uint64_t raid_pace_due_ns(const struct raid_pace *p, uint64_t bytes)
{
    return p->limit ? (uint64_t)((double)bytes * 1e9 / (double)p->limit) : 0;
}

void raid_pace_give_way(struct raid_array *a, struct raid_pace *p, uint64_t bytes)
{
    measure(a, p, bytes);
    task_yield();
    for (;;) {
        uint64_t now = clock_ns();
        if (now - p->looked >= LOOK_NS)
            look(a, p);
        uint64_t due = raid_pace_due_ns(p, bytes);
        if (a->stopping || now - p->began >= due)
            break;
        uint64_t us = (due - (now - p->began)) / 1000 + 1;
        task_sleep_us(us < NAP_US ? us : NAP_US);
    }
    p->began = clock_ns();
}
