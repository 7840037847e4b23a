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
 * for each other.
 *
 * Who waits follows the youngest of those before it that it overlaps, and looks again when that one
 * is released: first come, first served, and a thousand waiters for one block are a chain in which
 * each is looked at once, not a thousand times. */
struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct list parts; /* in order of arrival */
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
        list_init(&m->shard[i].parts);
    }
    return m;
}

void range_map_free(struct range_map **mp)
{
    struct range_map *m = *mp;
    if (!m)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert(list_empty(&m->shard[i].parts));
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

/* Caller holds the shard's lock. True: nobody before this part is in its way. Else it follows. */
static bool is_free(const struct shard *s, struct range_part *p)
{
    for (struct list *l = p->link.prev; l != &s->parts; l = l->prev) {
        struct range_part *before = list_entry(l, struct range_part, link);
        if (overlap(before->req, p->req)) {
            list_add_tail(&before->followers, &p->follow);
            return false;
        }
    }
    return true;
}

/* Goes on taking shards; true when all are held. */
static bool advance(struct range_map *m, struct range_req *req)
{
    unsigned mask = shards_of(req);
    while (req->next_part < req->parts) {
        struct shard *s = &m->shard[nth_shard(mask, req->next_part)];
        struct range_part *p = part_of(req, req->next_part);
        p->req = req;
        list_init(&p->followers);
        pthread_mutex_lock(&s->lock);
        list_add_tail(&s->parts, &p->link);
        bool held = is_free(s, p);
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
        struct range_part *mine = part_of(req, i);
        struct list *l;
        pthread_mutex_lock(&s->lock);
        list_del(&mine->link);
        while ((l = list_pop(&mine->followers))) {
            struct range_part *p = list_entry(l, struct range_part, follow);
            if (!is_free(s, p))
                continue;
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
