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
 * is released, at those that are older still: first come, first served, and a thousand waiters for
 * one block are a chain in which each is looked at once, not a thousand times.
 *
 * A shard's parts are a treap by offset (each node's rank is a hash of its number, so that it is
 * balanced whatever comes), which knows of each branch how far it reaches and how old it is: those
 * that overlap nothing, or are too young, cost nothing. */
struct shard {
    _Alignas(64) pthread_mutex_t lock;
    struct range_part *root;
    uint64_t arrivals, steps;
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
        m->shard[i].root = NULL;
        m->shard[i].arrivals = m->shard[i].steps = 0;
    }
    return m;
}

void range_map_free(struct range_map **mp)
{
    struct range_map *m = *mp;
    if (!m)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        assert(!m->shard[i].root);
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

/* ---- the tree of a shard; the caller holds its lock */

static uint64_t end_of(const struct range_req *req)
{
    return req->offset + req->length;
}

static bool is_left_of(const struct range_part *a, const struct range_part *b)
{
    return a->req->offset != b->req->offset ? a->req->offset < b->req->offset : a->seq < b->seq;
}

static uint64_t rank(const struct range_part *p)
{
    uint64_t x = p->seq * 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93ull;
    return x ^ x >> 32;
}

static void sum_up(struct range_part *p)
{
    struct range_part *const child[] = {p->left, p->right};
    p->max_end = end_of(p->req);
    p->min_seq = p->max_seq = p->seq;
    for (unsigned i = 0; i < 2; i++) {
        if (!child[i])
            continue;
        p->max_end = child[i]->max_end > p->max_end ? child[i]->max_end : p->max_end;
        p->min_seq = child[i]->min_seq < p->min_seq ? child[i]->min_seq : p->min_seq;
        p->max_seq = child[i]->max_seq > p->max_seq ? child[i]->max_seq : p->max_seq;
    }
}

static void split(struct range_part *t, const struct range_part *at, struct range_part **left_r,
                  struct range_part **right_r)
{
    if (!t) {
        *left_r = *right_r = NULL;
        return;
    }
    if (is_left_of(t, at)) {
        split(t->right, at, &t->right, right_r);
        *left_r = t;
    } else {
        split(t->left, at, left_r, &t->left);
        *right_r = t;
    }
    sum_up(t);
}

static struct range_part *join(struct range_part *left, struct range_part *right)
{
    if (!left || !right)
        return left ? left : right;
    struct range_part *top = rank(left) > rank(right) ? left : right;
    if (top == left)
        left->right = join(left->right, right);
    else
        right->left = join(left, right->left);
    sum_up(top);
    return top;
}

static void insert(struct range_part **t, struct range_part *p)
{
    if (*t && rank(*t) > rank(p)) {
        insert(is_left_of(p, *t) ? &(*t)->left : &(*t)->right, p);
    } else {
        split(*t, p, &p->left, &p->right);
        *t = p;
    }
    sum_up(*t);
}

static void take_out(struct range_part **t, struct range_part *p)
{
    if (*t == p) {
        *t = join(p->left, p->right);
        return;
    }
    take_out(is_left_of(p, *t) ? &(*t)->left : &(*t)->right, p);
    sum_up(*t);
}

/* The youngest part below t that overlaps req, arrived before `before`, and is younger than best.
 */
static struct range_part *youngest(struct shard *s, struct range_part *t,
                                   const struct range_req *req, uint64_t before,
                                   struct range_part *best)
{
    if (!t || t->max_end <= req->offset || t->min_seq >= before ||
        (best && t->max_seq <= best->seq))
        return best;
    s->steps++;
    if (t->req->offset >= end_of(req)) /* as are all to the right of it */
        return youngest(s, t->left, req, before, best);
    if (overlap(t->req, req) && t->seq < before && (!best || t->seq > best->seq))
        best = t;
    bool right_first = t->right && (!t->left || t->right->max_seq > t->left->max_seq);
    best = youngest(s, right_first ? t->right : t->left, req, before, best);
    return youngest(s, right_first ? t->left : t->right, req, before, best);
}

/* True: nobody that arrived before `before` is in the part's way. Else it follows. */
static bool is_free(struct shard *s, struct range_part *p, uint64_t before)
{
    struct range_part *first = youngest(s, s->root, p->req, before, NULL);
    if (first)
        list_add_tail(&first->followers, &p->follow);
    return !first;
}

/* ---- */

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
        p->seq = s->arrivals++;
        bool held = is_free(s, p, p->seq);
        insert(&s->root, p);
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
        take_out(&s->root, mine);
        while ((l = list_pop(&mine->followers))) {
            struct range_part *p = list_entry(l, struct range_part, follow);
            if (!is_free(s, p, mine->seq))
                continue;
            p->req->next_part++;
            reactor_post(p->req->home, &p->req->post, resume, p->req);
        }
        pthread_mutex_unlock(&s->lock);
    }
    free(req->many);
    req->many = NULL;
}

uint64_t range_steps(struct range_map *m)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < SHARDS; i++) {
        pthread_mutex_lock(&m->shard[i].lock);
        sum += m->shard[i].steps;
        pthread_mutex_unlock(&m->shard[i].lock);
    }
    return sum;
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
