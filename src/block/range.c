/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/range.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"
#include "reactor/task.h"

enum { SHARDS = 16, REGION_SHIFT = 20 };

/* A part stands in one shard, held or waiting. Each shard has one short lock; none is taken while
 * another is held. A request takes its shards in ascending order, so that two requests never wait
 * for each other. */
struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct list held, waiting;
};

struct range_map {
    struct shard shard[SHARDS];
};

struct range_map *range_map_new(void)
{
    struct range_map *m = aligned_alloc(64, sizeof *m);
    if (!m)
        abort();
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&m->shard[i].lock, NULL);
        list_init(&m->shard[i].held);
        list_init(&m->shard[i].waiting);
    }
    return m;
}

void range_map_free(struct range_map **mp)
{
    struct range_map *m = *mp;
    if (!m)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert(list_empty(&m->shard[i].held) && list_empty(&m->shard[i].waiting));
        pthread_mutex_destroy(&m->shard[i].lock);
    }
    free(m);
    *mp = NULL;
}

static bool overlap(const struct range_req *a, const struct range_req *b)
{
    return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

static struct range_part *part_of(struct range_req *req, unsigned i)
{
    return req->many ? &req->many[i] : &req->part[i];
}

/* Bit mask of the shards that a range touches. */
static unsigned shards_of(const struct range_req *req)
{
    uint64_t first = req->offset >> REGION_SHIFT;
    uint64_t last = (req->offset + req->length - 1) >> REGION_SHIFT;
    if (last - first >= SHARDS - 1)
        return (1u << SHARDS) - 1;
    unsigned mask = 0;
    for (uint64_t r = first; r <= last; r++)
        mask |= 1u << (r % SHARDS);
    return mask;
}

static unsigned nth_shard(unsigned mask, unsigned n)
{
    while (n--)
        mask &= mask - 1;
    return (unsigned)__builtin_ctz(mask);
}

/* Caller holds the shard's lock. `before`: stop there in the waiting list, NULL = look at all. */
static bool blocked(const struct shard *s, const struct range_req *req,
                    const struct range_part *before)
{
    struct range_part *p;
    list_for_each (p, &s->held, link) {
        if (overlap(p->req, req))
            return true;
    }
    list_for_each (p, &s->waiting, link) {
        if (p == before)
            break;
        if (overlap(p->req, req))
            return true; /* first come, first served */
    }
    return false;
}

/* Goes on taking shards; true when all are held. */
static bool advance(struct range_map *m, struct range_req *req)
{
    unsigned mask = shards_of(req);
    while (req->next_part < req->parts) {
        struct shard *s = &m->shard[nth_shard(mask, req->next_part)];
        struct range_part *p = part_of(req, req->next_part);
        p->req = req;
        pthread_mutex_lock(&s->lock);
        p->held = !blocked(s, req, NULL);
        list_add_tail(p->held ? &s->held : &s->waiting, &p->link);
        bool held = p->held;
        if (held)
            req->next_part++;
        pthread_mutex_unlock(&s->lock);
        if (!held)
            return false;
    }
    return true;
}

bool range_acquire(struct range_map *m, struct range_req *req, uint64_t offset, uint64_t length,
                   reactor_fn granted, void *arg)
{
    assert(length);
    req->map = m;
    req->offset = offset;
    req->length = length;
    req->granted = granted;
    req->arg = arg;
    req->home = reactor_self();
    req->next_part = 0;
    req->parts = (unsigned)__builtin_popcount(shards_of(req));
    req->many = req->parts > RANGE_INLINE ? xcalloc(req->parts, sizeof *req->many) : NULL;
    return advance(m, req);
}

static void resume(void *arg)
{
    struct range_req *req = arg;
    if (advance(req->map, req))
        req->granted(req->arg);
}

void range_release(struct range_map *m, struct range_req *req)
{
    unsigned mask = shards_of(req);
    assert(req->next_part == req->parts);
    for (unsigned i = 0; i < req->parts; i++) {
        struct shard *s = &m->shard[nth_shard(mask, i)];
        pthread_mutex_lock(&s->lock);
        list_del(&part_of(req, i)->link);
        struct range_part *p, *tmp;
        list_for_each_safe (p, tmp, &s->waiting, link) {
            if (blocked(s, p->req, p))
                continue;
            list_del(&p->link);
            list_add_tail(&s->held, &p->link);
            p->held = true;
            p->req->next_part++;
            reactor_post(p->req->home, &p->req->post, resume, p->req);
        }
        pthread_mutex_unlock(&s->lock);
    }
    free(req->many);
    req->many = NULL;
}

static void wake(void *arg)
{
    task_wake(arg);
}

void range_acquire_wait(struct range_map *m, struct range_req *req, uint64_t offset,
                        uint64_t length)
{
    if (!range_acquire(m, req, offset, length, wake, task_self()))
        task_park();
}
