/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who waits for rows of a stripe and who works on them. All of it on the stripe's reactor. */
#include "raid/stripe.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "raid/plog.h"

static void look_at_all(void *arg);

/* ---- owners */

struct stripe_owner *stripe_owner_new(struct raid_array *a, struct reactor *r)
{
    struct stripe_owner *o = xcalloc_lines(sizeof *o);
    o->a = a;
    o->reactor = r;
    for (unsigned i = 0; i < STRIPE_BUCKETS; i++)
        list_init(&o->bucket[i]);
    list_init(&o->spare_stripes);
    list_init(&o->spare_ops);
    list_init(&o->busy);
    return o;
}

void stripe_owner_free(struct stripe_owner **op)
{
    struct stripe_owner *o = *op;
    struct list *e;
    *op = NULL;
    if (!o)
        return;
    assert(!o->ops && list_empty(&o->busy));
    while ((e = list_pop(&o->spare_stripes)))
        free(list_entry(e, struct stripe, link));
    while ((e = list_pop(&o->spare_ops))) {
        struct stripe_op *one = list_entry(e, struct stripe_op, link);
        iobuf_put(&one->log_buf);
        free(one->log_iov);
        free(one->io);
        free(one);
    }
    iobuf_put(&o->reserve);
    free(o);
}

/* Neighbours stay together for a while, so that a client who goes on wakes one reactor. */
struct stripe_owner *stripe_owner_of(struct raid_array *a, uint64_t stripe)
{
    enum { TOGETHER = 4 };
    return raid456_of(a)->owner[stripe / TOGETHER % reactor_count()];
}

/* ---- stripes that somebody wants something of */

static struct list *bucket_of(struct stripe_owner *o, uint64_t number)
{
    return &o->bucket[(number * 0x9e3779b97f4a7c15ull >> 32) % STRIPE_BUCKETS];
}

static struct stripe *stripe_get(struct stripe_owner *o, uint64_t number)
{
    struct list *bucket = bucket_of(o, number);
    struct stripe *s;
    list_for_each (s, bucket, link)
        if (s->number == number)
            return s;
    struct list *e = list_pop(&o->spare_stripes);
    s = e ? list_entry(e, struct stripe, link) : xcalloc(1, sizeof *s);
    s->number = number;
    list_init(&s->busy);
    list_init(&s->reqs);
    list_init(&s->ops);
    list_add_tail(bucket, &s->link);
    return s;
}

static void stripe_idle(struct stripe_owner *o, struct stripe *s)
{
    if (!list_empty(&s->reqs) || !list_empty(&s->ops) || !list_empty(&s->busy))
        return;
    list_del(&s->link);
    list_add_head(&o->spare_stripes, &s->link);
}

static void look_later(struct stripe_owner *o, struct stripe *s)
{
    if (list_empty(&s->busy))
        list_add_tail(&o->busy, &s->busy);
    if (!reactor_defer_pending(&o->turn))
        reactor_at_turn_end(&o->turn, look_at_all, o);
}

void stripe_submit(struct stripe_owner *o, struct stripe_req *req)
{
    struct stripe *s = stripe_get(o, req->stripe);
    assert(reactor_is_self(o->reactor) && req->lo < req->hi);
    req->next = req->lo;
    req->taken = false;
    req->error = 0;
    list_add_tail(&s->reqs, &req->link);
    look_later(o, s);
}

/* ---- what is worked on together */

bool stripe_touched(const struct raid456 *r, const struct stripe_req *req, unsigned index,
                    uint32_t lo, uint32_t hi, uint32_t *lo_r, uint32_t *hi_r)
{
    uint64_t start = req->bio->offset % r->stripe_bytes, end = start + req->bio->length;
    uint64_t from = (uint64_t)index * r->chunk;
    uint64_t first = start > from ? start - from : 0, last = end > from ? end - from : 0;
    first = first < lo ? lo : first;
    last = last > hi ? hi : last;
    if (first >= last)
        return false;
    *lo_r = (uint32_t)first;
    *hi_r = (uint32_t)last;
    return true;
}

static bool may_join(const struct stripe_req *req, enum stripe_kind kind)
{
    return !req->taken && req->kind == kind && kind == STRIPE_WRITE;
}

struct rows {
    uint32_t lo, hi;
};

/* The rows of `first`, and of all writes that overlap or touch them, and so on. */
static struct rows gather(const struct stripe *s, const struct stripe_req *first, uint32_t limit)
{
    struct rows r = {first->next, first->hi};
    const struct stripe_req *q;
    for (bool grown = true; grown;) {
        grown = false;
        list_for_each (q, &s->reqs, link) {
            if (!may_join(q, first->kind) || q->next > r.hi || q->hi < r.lo)
                continue;
            if (q->next < r.lo || q->hi > r.hi)
                grown = true;
            r.lo = q->next < r.lo ? q->next : r.lo;
            r.hi = q->hi > r.hi ? q->hi : r.hi;
        }
    }
    if (r.hi - r.lo > limit)
        r.hi = r.lo + limit;
    return r;
}

static bool overlaps(struct rows a, struct rows b)
{
    return a.lo < b.hi && b.lo < a.hi;
}

static bool worked_on(const struct stripe *s, struct rows r)
{
    const struct stripe_op *op;
    list_for_each (op, &s->ops, link)
        if (overlaps((struct rows){op->lo, op->hi}, r))
            return true;
    return false;
}

static struct stripe_op *op_get(struct stripe_owner *o)
{
    struct list *e = list_pop(&o->spare_ops);
    unsigned slots = o->a->slots;
    if (e)
        return list_entry(e, struct stripe_op, link);
    struct stripe_op *op = xcalloc(1, sizeof *op + slots * sizeof op->col[0]);
    op->io = xcalloc(1, sizeof *op->io + raid_legs(o->a) * sizeof op->io->leg[0]);
    op->log_iov = xcalloc(slots + 1, sizeof *op->log_iov);
    op->o = o;
    list_init(&op->log_link);
    list_init(&op->link);
    list_init(&op->reqs);
    return op;
}

/* Requests that leave the op before it is done with them stand where they stood. */
static void dissolve(struct stripe_op *op)
{
    struct list *e;
    while ((e = list_pop(&op->reqs))) {
        struct stripe_req *req = list_entry(e, struct stripe_req, link);
        req->taken = false;
        list_add_tail(&op->stripe->reqs, e);
    }
    list_del(&op->link);
    list_add_head(&op->o->spare_ops, &op->link);
}

void stripe_op_shrink(struct stripe_op *op, uint32_t hi)
{
    struct stripe_req *q, *next;
    op->hi = hi;
    list_for_each_safe (q, next, &op->reqs, link) {
        if (q->next < hi)
            continue;
        q->taken = false;
        list_del(&q->link);
        list_add_head(&op->stripe->reqs, &q->link);
    }
}

static bool begin(struct stripe_owner *o, struct stripe *s, struct stripe_req *first,
                  struct rows rows)
{
    struct stripe_op *op = op_get(o);
    struct stripe_req *q, *next;
    unsigned n = 0;
    op->stripe = s;
    op->kind = first->kind;
    op->to = first->kind == STRIPE_FILL ? first->to : NULL;
    op->lo = rows.lo;
    op->hi = rows.hi;
    op->fua = op->named = false;
    op->bad = 0;
    list_add_tail(&s->ops, &op->link);
    list_for_each_safe (q, next, &s->reqs, link) {
        if (q != first && !may_join(q, first->kind))
            continue;
        if (q->next < rows.lo || q->next >= rows.hi)
            continue;
        q->taken = true;
        list_del(&q->link);
        list_add_tail(&op->reqs, &q->link);
        op->fua = op->fua || (q->bio && q->bio->flags & BIO_FUA);
        n++;
    }
    o->ops++;
    if (!stripe_op_start(op)) {
        o->ops--;
        dissolve(op);
        return false;
    }
    if (n > 1)
        __atomic_fetch_add(&o->gathered, n - 1, __ATOMIC_RELAXED);
    return true;
}

/* Starts what can be started. False: no memory; it is looked at again when some work has ended. */
static bool look_at(struct stripe_owner *o, struct stripe *s)
{
    uint32_t limit = o->tight ? STRIPE_RESERVE : STRIPE_ROWS_MAX;
    struct rows blocked = {UINT32_MAX, 0};
    struct stripe_req *q;
    for (bool again = true; again;) {
        again = false;
        list_for_each (q, &s->reqs, link) {
            struct rows r = gather(s, q, limit);
            if (worked_on(s, r) || overlaps(r, blocked)) {
                /* Who comes later does not overtake. */
                blocked.lo = r.lo < blocked.lo ? r.lo : blocked.lo;
                blocked.hi = r.hi > blocked.hi ? r.hi : blocked.hi;
                continue;
            }
            if (!begin(o, s, q, r))
                return false;
            if (o->tight) { /* one at a time */
                o->tight = false;
                return false;
            }
            again = true; /* the list has changed */
            break;
        }
    }
    return true;
}

static void look_at_all(void *arg)
{
    struct stripe_owner *o = arg;
    while (!list_empty(&o->busy)) {
        struct stripe *s = list_first(&o->busy, struct stripe, busy);
        if (!look_at(o, s)) {
            if (!o->ops) {
                o->tight = true;
                look_at(o, s);
                assert(o->ops);
            }
            return; /* the next end goes on */
        }
        list_del(&s->busy);
        stripe_idle(o, s);
    }
}

void stripe_op_retry(struct stripe_op *op)
{
    struct stripe_owner *o = op->o;
    struct stripe *s = op->stripe;
    stripe_op_release(op);
    o->ops--;
    look_later(o, s);
    dissolve(op);
}

/* ---- the end */

static void finish_reqs(struct stripe_op *op, int error)
{
    struct list done = LIST_INIT(done), *e;
    while ((e = list_pop(&op->reqs))) {
        struct stripe_req *req = list_entry(e, struct stripe_req, link);
        req->next = op->hi;
        req->error = error;
        if (error || req->next >= req->hi) {
            list_add_tail(&done, e);
        } else {
            req->taken = false;
            list_add_head(&op->stripe->reqs, e);
        }
    }
    while ((e = list_pop(&done))) {
        struct stripe_req *req = list_entry(e, struct stripe_req, link);
        req->done(req);
    }
}

void stripe_op_end(struct stripe_op *op, int error)
{
    struct stripe_owner *o = op->o;
    struct stripe *s = op->stripe;
    if (op->logged)
        plog_op_end(op);
    stripe_op_release(op);
    list_del(&op->link);
    o->ops--;
    look_later(o, s);
    finish_reqs(op, error);
    list_add_head(&o->spare_ops, &op->link);
}
