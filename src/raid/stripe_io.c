/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Work on rows of a stripe: the reads, the arithmetic, the writes. stripe_plan.c says which. */
#include "raid/plog.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "raid/bad.h"

size_t stripe_memory = 64 << 20;

void raid_set_stripe_memory(size_t bytes)
{
    raid_store(&stripe_memory, bytes);
}

static void start_reads(struct stripe_op *op);
static void op_compute(struct stripe_op *op);

/* ---- memory */

static void take_memory(struct stripe_owner *o, size_t bytes)
{
    __atomic_store_n(&o->memory, o->memory + bytes, __ATOMIC_RELAXED);
    if (o->memory > o->memory_most)
        __atomic_store_n(&o->memory_most, o->memory, __ATOMIC_RELAXED);
}

static uint8_t *col_buffer(struct stripe_op *op, struct stripe_col *c)
{
    struct stripe_owner *o = op->o;
    if (o->tight) {
        if (!o->reserve)
            o->reserve = iobuf_get((size_t)2 * op->map.slots * STRIPE_RESERVE);
        assert(stripe_op_rows(op) <= STRIPE_RESERVE);
        return o->reserve ? o->reserve->data + (size_t)STRIPE_RESERVE * op->reserved++ : NULL;
    }
    bool fits = o->memory + stripe_op_rows(op) <= raid_load(&stripe_memory);
    struct iobuf *b = fits ? iobuf_get(stripe_op_rows(op)) : NULL;
    if (!b)
        return NULL;
    c->buf[c->bufs++] = b;
    op->memory += b->size;
    take_memory(o, b->size);
    return b->data;
}

void stripe_op_release(struct stripe_op *op)
{
    for (unsigned i = 0; i < op->map.slots; i++) {
        struct stripe_col *c = &op->col[i];
        while (c->bufs)
            iobuf_put(&c->buf[--c->bufs]);
        c->old = c->now = NULL;
    }
    __atomic_store_n(&op->o->memory, op->o->memory - op->memory, __ATOMIC_RELAXED);
    op->memory = 0;
    op->reserved = 0;
}

/* The clients' own memory, where one of them covers all rows of a block in one piece. */
static uint8_t *direct(struct stripe_op *op, unsigned slot)
{
    const struct raid456 *r = raid456_of(op->o->a);
    const struct stripe_req *q, *only = NULL;
    unsigned index = 0;
    uint32_t lo, hi;
    struct iovec v;
    while (op->map.slot_of[index] != slot)
        index++;
    list_for_each (q, &op->reqs, link) {
        if (!stripe_touched(r, q, index, op->lo, op->hi, &lo, &hi))
            continue;
        if (only || lo != op->lo || hi != op->hi)
            return NULL;
        only = q;
    }
    if (!only)
        return NULL;
    if (only->bio->op == BIO_WRITE_ZEROES)
        return stripe_op_rows(op) <= iobuf_zeroes_size ? (uint8_t *)(uintptr_t)iobuf_zeroes()
                                                       : NULL;
    uint64_t from = (uint64_t)index * r->chunk + op->lo - only->bio->offset % r->stripe_bytes;
    if (bio_iovec(only->bio, from, stripe_op_rows(op), &v, 1) != 1 ||
        (uintptr_t)v.iov_base % PARITY_ALIGN)
        return NULL;
    return v.iov_base;
}

/* Where the old rows go. */
static bool old_memory(struct stripe_op *op, struct stripe_col *c)
{
    uint64_t bit = 1ull << c->slot;
    bool wanted = op->reads & bit || (op->lost & bit && parity_is_data(&op->map, c->slot));
    if (!wanted)
        return true;
    if (op->kind == STRIPE_READ && c->whole)
        c->old = direct(op, c->slot);
    if (!c->old)
        c->old = col_buffer(op, c);
    return c->old;
}

/* Where the new rows are; those of clients may be there already. */
static bool now_memory(struct stripe_op *op, struct stripe_col *c)
{
    uint64_t bit = 1ull << c->slot;
    bool data = parity_is_data(&op->map, c->slot);
    if (op->kind == STRIPE_READ)
        return true;
    if (!data && !op->copy) {
        if (op->writes & bit)
            c->now = col_buffer(op, c);
        return !(op->writes & bit) || c->now;
    }
    if (op->touched & bit) {
        if (c->whole)
            c->now = direct(op, c->slot);
        if (!c->now && !op->modify && c->old && !c->whole)
            c->now = c->old; /* changed in place */
        if (!c->now)
            c->now = col_buffer(op, c);
        return c->now;
    }
    c->now = c->old;
    return true;
}

static bool get_memory(struct stripe_op *op)
{
    for (unsigned i = 0; i < op->map.slots; i++)
        if (!old_memory(op, &op->col[i]) || !now_memory(op, &op->col[i])) {
            stripe_op_release(op);
            return false;
        }
    return true;
}

/* ---- start */

static void end_later(void *arg)
{
    struct stripe_op *op = arg;
    stripe_op_end(op, op->error);
}

static void fail(struct stripe_op *op, int error)
{
    op->error = error;
    reactor_defer(&op->defer, end_later, op);
}

/* What is not a whole healthy stripe is copied to the log, and has to fit there. */
static void fit_log(struct stripe_op *op)
{
    struct raid_array *a = op->o->a;
    if (op->kind != STRIPE_WRITE || !raid456_of(a)->log)
        return;
    uint32_t most = plog_rows(a);
    bool whole = (unsigned)__builtin_popcountll(op->whole) == op->map.data &&
                 raid_in_sync_count(a) == a->slots && !stripe_op_listed(op);
    if (whole || stripe_op_rows(op) <= most)
        return;
    stripe_op_shrink(op, op->lo + most);
    stripe_op_touch(op);
}

static bool shrink(struct stripe_op *op)
{
    uint32_t step = stripe_op_rows(op) > STRIPE_BLOCK ? STRIPE_BLOCK : op->o->a->bdev.block_size;
    uint32_t next = (op->lo / step + 1) * step;
    if (op->kind == STRIPE_CHECK || next >= op->hi)
        return false;
    stripe_op_shrink(op, next);
    return true;
}

/* Blocks that are bad on several members, but not in the same rows. */
static bool shrink_to_listed(struct stripe_op *op)
{
    return stripe_op_listed(op) && shrink(op);
}

/* Its parity may be wrong: only what cannot be read follows from it, and not what lies beside. */
static bool unsynced(const struct stripe_op *op)
{
    return raid_unsynced(op->o->a, stripe_op_offset(op, op->lo), stripe_op_rows(op));
}

bool stripe_op_start(struct stripe_op *op)
{
    struct raid456 *r = raid456_of(op->o->a);
    parity_map_init(&op->map, &r->geometry, op->stripe->number);
    stripe_op_touch(op);
    fit_log(op);
    if (!op->touched && (op->kind == STRIPE_READ || op->kind == STRIPE_WRITE)) {
        fail(op, 0); /* rows between those that a request touches */
        return true;
    }
    if (unsynced(op) && shrink_to_listed(op))
        return stripe_op_start(op);
    bool planned = stripe_op_plan(op);
    if (!planned && shrink_to_listed(op))
        return stripe_op_start(op);
    if (!planned) {
        fail(op, -EIO);
        return true;
    }
    if (!get_memory(op))
        return false;
    start_reads(op);
    return true;
}

/* A member could not be read: again without it. */
static void start_again(struct stripe_op *op)
{
    stripe_op_release(op);
    if (unsynced(op) && shrink(op))
        op->bad = 0; /* perhaps not here */
    stripe_op_touch(op);
    if (!op->touched && (op->kind == STRIPE_READ || op->kind == STRIPE_WRITE))
        fail(op, 0);
    else if (!stripe_op_plan(op))
        fail(op, -EIO);
    else if (!get_memory(op))
        stripe_op_retry(op); /* in its turn */
    else
        start_reads(op);
}

/* ---- reads */

static void note_unreadable(struct stripe_op *op, struct stripe_col *c, int error)
{
    struct raid_array *a = op->o->a;
    op->bad |= 1ull << c->slot;
    raid_count(&c->m->errors);
    if (raid_medium_error(error) && unsynced(op))
        return; /* once it is synced */
    if (raid_medium_error(error))
        raid_want_repair(a, 1ull << c->slot, stripe_op_offset(op, op->lo), stripe_op_rows(op));
    else if (!a->read_only)
        raid_report(c->m, error);
}

static void reads_done(struct stripe_op *op)
{
    uint64_t bad = op->bad;
    for (unsigned i = 0; i < op->map.slots; i++)
        if (op->reads >> i & 1 && op->col[i].bio.error)
            note_unreadable(op, &op->col[i], op->col[i].bio.error);
    if (op->bad != bad)
        start_again(op);
    else
        op_compute(op);
}

static void read_done(struct bio *bio)
{
    struct stripe_col *c = bio->arg;
    if (!--c->op->pending)
        reads_done(c->op);
}

static void nothing_read(void *arg)
{
    op_compute(arg);
}

static void start_reads(struct stripe_op *op)
{
    op->pending = (unsigned)__builtin_popcountll(op->reads);
    if (!op->pending) {
        reactor_defer(&op->defer, nothing_read, op);
        return;
    }
    for (unsigned i = 0; i < op->map.slots; i++) {
        struct stripe_col *c = &op->col[i];
        if (!(op->reads >> i & 1))
            continue;
        c->iov = (struct iovec){c->old, stripe_op_rows(op)};
        bio_init(&c->bio, c->m->desc, BIO_READ, c->m->data_offset + stripe_op_offset(op, op->lo),
                 stripe_op_rows(op), read_done, c);
        bio_data(&c->bio, &c->iov, 1);
        bio_submit(&c->bio);
    }
}

/* ---- arithmetic */

/* Between clients and a block: `take` writes their data into it, else it is given to them. */
static void exchange(struct stripe_op *op, unsigned index, uint8_t *block, bool take)
{
    const struct raid456 *r = raid456_of(op->o->a);
    const struct stripe_req *q;
    uint32_t lo, hi;
    list_for_each (q, &op->reqs, link) {
        if (!stripe_touched(r, q, index, op->lo, op->hi, &lo, &hi))
            continue;
        uint64_t from = (uint64_t)index * r->chunk + lo - q->bio->offset % r->stripe_bytes;
        uint8_t *at = block + (lo - op->lo);
        if (!take)
            bio_copy_in(q->bio, from, at, hi - lo);
        else if (q->bio->op == BIO_WRITE_ZEROES)
            memset(at, 0, hi - lo);
        else
            bio_copy_out(q->bio, from, at, hi - lo);
    }
}

static bool is_own(const struct stripe_op *op, const struct stripe_col *c, const uint8_t *block)
{
    const uint8_t *reserve = op->reserved ? op->o->reserve->data : NULL;
    for (unsigned i = 0; i < c->bufs; i++)
        if (c->buf[i]->data == block)
            return true;
    return reserve && block >= reserve && block < reserve + op->o->reserve->size;
}

static void take_writes(struct stripe_op *op)
{
    for (unsigned d = 0; d < op->map.data; d++) {
        struct stripe_col *c = &op->col[op->map.slot_of[d]];
        if (!(op->touched >> c->slot & 1) || !is_own(op, c, c->now))
            continue;
        if (c->now != c->old && c->old && !c->whole)
            memcpy(c->now, c->old, stripe_op_rows(op));
        exchange(op, d, c->now, true);
    }
}

static void give_reads(struct stripe_op *op)
{
    for (unsigned d = 0; d < op->map.data; d++) {
        struct stripe_col *c = &op->col[op->map.slot_of[d]];
        if (op->touched >> c->slot & 1 && is_own(op, c, c->old))
            exchange(op, d, c->old, false);
    }
    stripe_op_end(op, 0);
}

static void start_writes(struct stripe_op *op);

void stripe_op_logged(struct stripe_op *op)
{
    start_writes(op);
}

static void op_compute(struct stripe_op *op)
{
    uint8_t *old[PARITY_SLOTS_MAX], *now[PARITY_SLOTS_MAX];
    size_t len = stripe_op_rows(op);
    for (unsigned i = 0; i < op->map.slots; i++)
        old[i] = op->col[i].old;
    if (op->lost)
        parity_recover(&op->map, op->lost, old, len);
    if (op->kind == STRIPE_READ) {
        give_reads(op);
        return;
    }
    if (op->kind == STRIPE_WRITE)
        take_writes(op);
    for (unsigned i = 0; i < op->map.slots; i++)
        now[i] = op->col[i].now;
    if (op->modify)
        parity_update(&op->map, op->touched, old, now, len);
    else if (!op->copy)
        parity_generate(&op->map, now, len);
    if (op->kind == STRIPE_CHECK)
        stripe_op_check(op);
    if (op->kind == STRIPE_WRITE && raid456_of(op->o->a)->log && !raid_load(&op->o->a->failed))
        plog_write(op);
    else
        start_writes(op);
}

/* ---- writes */

static void writes_ended(struct raid_io *io, int error)
{
    struct stripe_op *op = (struct stripe_op *)io->bio;
    stripe_op_end(op, error);
}

static void maintenance_done(struct stripe_op *op)
{
    int error = 0;
    for (unsigned i = 0; i < op->io->legs; i++) {
        const struct raid_leg *leg = &op->io->leg[i];
        if (leg->m->bad && (leg->error || raid_bad_at(leg->m, leg->offset, leg->length))) {
            raid_io_faulty(op->io);
            return;
        }
    }
    for (unsigned i = 0; i < op->io->legs; i++) {
        const struct raid_leg *leg = &op->io->leg[i];
        if (!leg->error)
            continue;
        raid_report(leg->m, leg->error);
        error = op->kind == STRIPE_FILL ? leg->error : 0;
    }
    stripe_op_end(op, error);
}

static void writes_done(struct stripe_op *op)
{
    struct raid_array *a = op->o->a;
    bool failed = raid_load(&a->unrecorded) != 0 || raid_load(&a->failed) ||
                  (op->named && raid_in_sync_count(a) < a->slots);
    if (op->kind != STRIPE_WRITE) {
        maintenance_done(op);
        return;
    }
    plog_written(op);
    for (unsigned i = 0; i < op->io->legs && !failed; i++) {
        const struct raid_leg *leg = &op->io->leg[i];
        failed = leg->error || raid_bad_at(leg->m, leg->offset, leg->length);
    }
    if (failed)
        raid_io_faulty(op->io); /* not acknowledged before the survivors' superblocks know */
    else
        stripe_op_end(op, 0);
}

static void write_done(struct bio *bio)
{
    struct raid_leg *leg = bio->arg;
    struct stripe_op *op = (struct stripe_op *)leg->io->bio;
    leg->error = bio->error;
    if (!--op->pending)
        writes_done(op);
}

static void add_leg(struct stripe_op *op, const struct stripe_col *c, struct raid_member *m,
                    struct bio *bio, struct iovec *iov)
{
    struct raid_io *io = op->io;
    struct raid_leg *leg = &io->leg[io->legs++];
    bool part = op->touched >> c->slot & 1;
    uint32_t lo = part ? c->lo : op->lo, hi = part ? c->hi : op->hi;
    *leg = (struct raid_leg){
        .io = io, .m = m, .offset = stripe_op_offset(op, lo), .length = hi - lo, .data = iov};
    *iov = (struct iovec){c->now + (lo - op->lo), hi - lo};
    bio_init(bio, m->desc, BIO_WRITE, m->data_offset + stripe_op_offset(op, lo), hi - lo,
             write_done, leg);
    bio_data(bio, iov, 1);
    bio->flags = (op->fua ? BIO_FUA : 0) | (m->bad ? BIO_OWN_ERRORS : 0);
}

static bool worth_writing(const struct stripe_op *op, const struct stripe_col *c)
{
    if (!(op->writes >> c->slot & 1))
        return false;
    return op->kind != STRIPE_RESYNC || !c->old || memcmp(c->old, c->now, stripe_op_rows(op)) != 0;
}

static void start_writes(struct stripe_op *op)
{
    struct raid_array *a = op->o->a;
    struct raid_io *io = op->io;
    struct raid_member *second = op->kind == STRIPE_FILL ? NULL : raid_second(a);
    uint64_t picked = 0;
    bool both = false;
    io->array = a;
    io->bio = (struct bio *)op; /* nobody else looks at it: `ended` is set */
    io->ended = writes_ended;
    io->origin = reactor_self();
    io->legs = 0;
    if (op->kind == STRIPE_WRITE && raid_load(&a->failed)) {
        fail(op, -EIO);
        return;
    }
    for (unsigned i = 0; i < op->map.slots; i++) {
        struct raid_member *m = op->kind == STRIPE_FILL ? op->to : raid_load(&a->slot[i]);
        struct stripe_col *c = &op->col[i];
        if (!worth_writing(op, c))
            continue;
        if (m && m != second && raid_takes_writes(m)) {
            add_leg(op, c, m, &c->bio, &c->iov);
            picked |= 1ull << i;
        }
        if (second && second->slot == (int)i) {
            add_leg(op, c, second, &op->second, &op->second_iov);
            both = true;
        }
    }
    op->pending = io->legs;
    if (!op->pending) {
        if (op->kind == STRIPE_WRITE || op->kind == STRIPE_FILL)
            fail(op, op->kind == STRIPE_FILL ? -ENODEV : -EIO);
        else
            fail(op, 0);
        return;
    }
    for (unsigned i = 0; i < op->map.slots; i++)
        if (picked >> i & 1)
            bio_submit(&op->col[i].bio);
    if (both)
        bio_submit(&op->second);
}
