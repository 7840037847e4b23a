/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log at work. Each reactor fills its rings of all members from the start; when one is full, it
 * waits until what was logged is written, flushes the members, and begins at the start again:
 * records say from which one on they count. The first block of a ring is for one without rows that
 * says so before any is written over: of a record that the power tears, enough may be there to
 * damage some of the older ones, and not what makes them void.
 */
#include "raid/plog.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "block/event.h"
#include "raid/md_super.h"

struct part; /* of one reactor */

struct flush {
    struct bio bio;
    struct part *part;
    struct raid_member *m;
};

struct part {
    _Alignas(64) struct plog *log;
    unsigned index;
    uint64_t sequence, tail;
    uint64_t used[PARITY_SLOTS_MAX]; /* bytes of the ring on that slot */
    unsigned live;                   /* records whose rows are not yet on the members */
    bool flushing;
    unsigned writing; /* atomic; records whose rows are on their way */
    bool held;        /* until a failure is on record */
    bool reported;    /* one that home has yet to look at */
    struct rtimer timer;
    unsigned pending;
    struct list waiting; /* ops without room, by log_link */
    struct flush *flush; /* by slot */
    struct iobuf *turn;  /* the record in the first block */
    struct iovec turn_iov;
};

struct plog {
    struct raid_array *a;
    struct plog_device *device; /* NULL: on the members */
    bool broken; /* atomic; the device has failed: nothing is written to it any more */
    bool lost;   /* atomic; and superblocks say so, in a way */
    struct rpost post;
    uint64_t length, ring, room; /* a ring but for its first block */
    uint32_t rings;
    /* home; the epoch changes only while nobody writes */
    struct uuid epoch;
    uint64_t heads;
    bool active;
    struct part part[REACTOR_MAX];
};

/* ---- room */

uint64_t plog_room(const struct raid_array *a, const struct raid_member *m)
{
    uint64_t from = PLOG_FIRST, end = m->data_offset / PLOG_BLOCK * PLOG_BLOCK;
    int64_t bitmap = MD_SUPER_OFFSET + (int64_t)m->sb.bitmap_offset * MD_SECTOR + MD_BITMAP_ROOM;
    int64_t bad = MD_SUPER_OFFSET + ((int64_t)m->sb.bblog_offset + m->sb.bblog_size) * MD_SECTOR;
    if (a->sb.bitmap_offset && bitmap > (int64_t)from)
        from = (uint64_t)bitmap;
    if (m->sb.bblog_size && bad > (int64_t)from)
        from = (uint64_t)bad;
    from = (from + PLOG_BLOCK - 1) / PLOG_BLOCK * PLOG_BLOCK;
    if (m->data_offset % PLOG_BLOCK || end < from + PLOG_HEADS)
        return 0;
    return end - from < PLOG_MOST ? end - from : PLOG_MOST;
}

static uint32_t rows_of_ring(uint64_t ring, unsigned slots)
{
    uint64_t room = ring < 2 * PLOG_BLOCK ? 0 : ring - 2 * PLOG_BLOCK;
    uint64_t rows = room / slots / PLOG_BLOCK * PLOG_BLOCK;
    return rows < STRIPE_ROWS_MAX ? (uint32_t)rows : STRIPE_ROWS_MAX;
}

static uint64_t ring_size(const struct raid_array *a, const struct plog_device *d)
{
    uint64_t length = d ? d->length : PLOG_MOST;
    const struct raid_member *m;
    list_for_each (m, &a->members, link) {
        uint64_t room = d ? length : plog_room(a, m);
        length = room < length ? room : length;
    }
    uint64_t ring = length < PLOG_HEADS ? 0 : (length - PLOG_HEADS) / reactor_count();
    return ring / PLOG_BLOCK * PLOG_BLOCK;
}

const char *plog_missing(const struct raid_array *a, const struct plog_device *d)
{
    if (rows_of_ring(ring_size(a, d), a->slots))
        return NULL;
    return d ? "the log device is too small"
             : "there is no room for the log before the data of the members";
}

uint64_t plog_end(const struct raid_member *m, const struct plog_device *d,
                  struct bdev_desc **desc_r)
{
    *desc_r = d ? d->desc : m->desc;
    return d ? PLOG_PARTS_AT + ((uint64_t)m->slot + 1) * d->length : m->data_offset;
}

bool plog_is_lost(const struct plog *l)
{
    return raid_load(&l->lost);
}

bool plog_is_failing(const struct plog *l)
{
    return raid_load(&l->broken) && !raid_load(&l->lost);
}

struct plog_device *plog_device_of(const struct plog *l)
{
    return l->device;
}

struct plog *plog_new(struct raid_array *a, struct plog_device *d, const char **why_r)
{
    uint64_t ring = ring_size(a, d);
    *why_r = plog_missing(a, d);
    if (*why_r)
        return NULL;
    struct plog *l = aligned_alloc(_Alignof(struct plog), sizeof *l);
    if (!l)
        abort();
    memset(l, 0, sizeof *l);
    l->a = a;
    l->device = d;
    l->ring = ring;
    l->room = ring - PLOG_BLOCK;
    l->rings = reactor_count();
    l->length = ring * l->rings + PLOG_HEADS;
    l->heads = plog_last_head(a);
    for (unsigned i = 0; i < l->rings; i++) {
        struct part *p = &l->part[i];
        p->log = l;
        p->index = i;
        list_init(&p->waiting);
        p->flush = xcalloc(a->slots, sizeof *p->flush);
        p->turn = iobuf_get(PLOG_BLOCK);
        if (!p->turn)
            abort();
        p->turn_iov = (struct iovec){p->turn->data, PLOG_BLOCK};
    }
    return l;
}

void plog_free(struct plog **lp)
{
    struct plog *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    for (unsigned i = 0; i < l->rings; i++) {
        free(l->part[i].flush);
        iobuf_put(&l->part[i].turn);
    }
    free(l);
}

bool plog_fits(const struct raid_array *a, const struct raid_member *m)
{
    const struct raid456 *r = a->level_data;
    return !r || !r->log || r->log->device || plog_room(a, m) >= r->log->length;
}

void plog_fill(const struct raid_array *a, uint64_t *used_r, uint64_t *size_r)
{
    const struct raid456 *r = a->level_data;
    *used_r = *size_r = 0;
    if (!r || !r->log)
        return;
    for (unsigned i = 0; i < r->log->rings; i++)
        for (unsigned k = 0; k < a->slots; k++)
            *used_r += __atomic_load_n(&r->log->part[i].used[k], __ATOMIC_RELAXED);
    *size_r = r->log->room * r->log->rings * a->slots;
}

uint32_t plog_rows(const struct raid_array *a)
{
    const struct raid456 *r = a->level_data;
    return rows_of_ring(r->log->ring, a->slots);
}

/* ---- heads */

struct head_write {
    struct bio bio;
    struct iovec iov;
    struct twait *wait;
    struct raid_member *m;
};

static void head_written(struct bio *bio)
{
    struct head_write *w = bio->arg;
    twait_done(w->wait);
}

static unsigned submit_heads(struct plog *l, struct head_write *w, struct iobuf *buf,
                             struct twait *wait)
{
    struct raid_array *a = l->a;
    struct raid_member *m;
    unsigned n = 0;
    list_for_each (m, &a->members, link) {
        struct bdev_desc *desc;
        if (m->state == RAID_MEMBER_FAULTY || !m->desc || !plog_fits(a, m) ||
            (l->device && (m->slot < 0 || m->replaces)))
            continue;
        struct head_write *one = &w[n++];
        uint64_t at = plog_end(m, l->device, &desc) - PLOG_HEADS + l->heads % 2 * PLOG_BLOCK;
        one->m = m;
        one->wait = wait;
        one->iov = (struct iovec){buf->data, PLOG_BLOCK};
        bio_init(&one->bio, desc, BIO_WRITE, at, PLOG_BLOCK, head_written, one);
        bio_data(&one->bio, &one->iov, 1);
        one->bio.flags = BIO_FUA;
    }
    wait->pending = n;
    for (unsigned i = 0; i < n; i++)
        bio_submit(&w[i].bio);
    return n;
}

/* From the start of the rings: what stands there is void. */
static void start_over(struct part *p)
{
    p->tail = p->sequence;
    for (unsigned i = 0; i < p->log->a->slots; i++)
        __atomic_store_n(&p->used[i], 0, __ATOMIC_RELAXED);
}

static void new_epoch(struct plog *l)
{
    l->epoch = uuid_random();
    for (unsigned i = 0; i < l->rings; i++) {
        struct part *p = &l->part[i];
        assert(!p->live && list_empty(&p->waiting));
        start_over(p);
    }
}

void plog_before_super(struct raid_array *a, uint64_t before_events, uint64_t before_utime)
{
    struct raid456 *r = a->level_data;
    struct plog *l = r ? r->log : NULL;
    struct raid_member *m;
    struct twait wait = TWAIT(0);
    unsigned most = 0;
    if (!l || raid_load(&l->broken))
        return;
    if (a->active && !l->active)
        new_epoch(l);
    l->active = a->active;
    l->heads++;
    struct plog_head h = {.sequence = l->heads,
                          .array = a->bdev.uuid,
                          .epoch = l->epoch,
                          .before_events = before_events,
                          .before_utime = before_utime,
                          .next_events = a->sb.events,
                          .next_utime = a->sb.utime,
                          .length = l->length,
                          .rings = l->rings,
                          .synced = raid_load(&a->resync_pos) == UINT64_MAX,
                          .synced_to = raid_load(&a->checkpoint)};
    list_for_each (m, &a->members, link)
        if (m->slot >= 0 && raid_takes_writes(m))
            h.joined[m->slot] = m->era;
    struct iobuf *buf = iobuf_get(PLOG_BLOCK);
    if (!buf)
        abort(); /* 4 KiB, as for superblocks */
    plog_head_write(&h, buf->data);
    list_for_each (m, &a->members, link)
        most++;
    struct head_write *w = xcalloc(most, sizeof *w);
    unsigned n = submit_heads(l, w, buf, &wait);
    twait_all(&wait);
    for (unsigned i = 0; i < n; i++)
        if (w[i].bio.error && l->device)
            plog_lost(l);
        else if (w[i].bio.error)
            raid_report(w[i].m, w[i].bio.error);
    iobuf_put(&buf);
    free(w);
}

/* ---- records */

static struct part *part_of(struct stripe_op *op)
{
    return &raid456_of(op->o->a)->log->part[reactor_index(op->o->reactor)];
}

/* Also one that is being rebuilt: what it has by then is not copied again after a crash. */
static struct raid_member *taker(const struct stripe_op *op, unsigned slot)
{
    struct raid_member *m = raid_load(&op->o->a->slot[slot]);
    return m && raid_takes_writes(m) ? m : NULL;
}

/* Who has it: where nobody has parity, nothing can be wrong. Of two the one that has been here for
 * longer: if it went from one to the other and back, and who has the newer records is lost, the
 * older ones would be taken for what was last. */
static struct raid_member *holder(const struct stripe_op *op, unsigned *slot_r)
{
    struct raid_member *p = taker(op, op->map.p);
    struct raid_member *q = op->map.parities == 2 ? taker(op, op->map.q) : NULL;
    bool second = q && (!p || q->era < p->era);
    struct raid_member *m = second ? q : p;
    *slot_r = second ? op->map.q : op->map.p;
    return m && plog_fits(op->o->a, m) ? m : NULL;
}

static bool healthy(const struct stripe_op *op)
{
    for (unsigned i = 0; i < op->map.slots; i++) {
        const struct raid_member *m = taker(op, i);
        if (!m || !raid_in_sync(m) || raid_load(&m->unproven))
            return false;
    }
    return !stripe_op_listed(op);
}

/* What the record says and the rows behind it; their count of bytes. */
static uint32_t describe(struct stripe_op *op, struct plog_record *rec)
{
    struct iovec *v = op->log_iov;
    unsigned n = 1;
    rec->stripe = op->stripe->number;
    rec->lo = op->lo;
    rec->hi = op->hi;
    rec->whole = (unsigned)__builtin_popcountll(op->whole) == op->map.data && healthy(op);
    for (unsigned i = 0; i < op->map.slots && !rec->whole; i++) {
        struct stripe_col *c = &op->col[i];
        if (!(op->writes >> i & 1) || !taker(op, i))
            continue;
        bool part = op->touched >> i & 1;
        uint32_t lo = part ? c->lo : op->lo, hi = part ? c->hi : op->hi;
        rec->slots |= 1ull << i;
        rec->row[i][0] = lo;
        rec->row[i][1] = hi;
        v[n] = (struct iovec){c->now + (lo - op->lo), hi - lo};
        rec->payload_sum = crc32c(rec->payload_sum, v[n].iov_base, v[n].iov_len);
        rec->payload += hi - lo;
        n++;
    }
    op->log_iovs = n;
    return rec->payload;
}

static void go_on(struct part *p);
static void turn(struct part *p);

static void report(struct part *p, struct raid_member *m, int error)
{
    raid_report(m, error);
    p->reported = true;
}

static void log_failed(struct part *p, struct raid_member *m, int error)
{
    if (p->log->device)
        plog_lost(p->log);
    else
        report(p, m, error);
}

/* What could not be logged must not reach a member before superblocks say who is out, or that what
 * stands on the device is void. */
static void logged(struct bio *bio)
{
    struct stripe_op *op = bio->arg;
    struct part *p = part_of(op);
    if (bio->error)
        log_failed(p, op->log_member, bio->error);
    if (!bio->error || raid_load(&p->log->a->failed)) {
        stripe_op_logged(op);
        return;
    }
    plog_written(op);
    op->logged = false;
    p->live--;
    list_add_tail(&p->waiting, &op->log_link);
    go_on(p);
}

/* Where the part's ring on that member is. */
static uint64_t ring_of(const struct part *p, const struct raid_member *m,
                        struct bdev_desc **desc_r)
{
    const struct plog *l = p->log;
    return plog_end(m, l->device, desc_r) - l->length + p->index * l->ring;
}

static uint64_t blocks(uint64_t bytes)
{
    return (bytes + PLOG_BLOCK - 1) / PLOG_BLOCK * PLOG_BLOCK;
}

static void look_again(void *arg)
{
    struct part *p = arg;
    rtimer_free(&p->timer);
    p->held = false;
    if (p->flushing)
        turn(p);
    else
        go_on(p);
}

static bool any_reported(const struct raid_array *a)
{
    bool any = false;
    for (unsigned i = 0; i < a->slots; i++) {
        const struct raid_member *m = raid_load(&a->slot[i]);
        any = any || (m && raid_load(&m->report));
    }
    return any;
}

/* A member that has failed and whom superblocks still name would be a member again after a crash,
 * and lack what a record does not have of it, or has for the others. */
static bool must_wait(struct part *p)
{
    enum { AGAIN_US = 500 };
    struct raid_array *a = p->log->a;
    p->reported = p->reported && any_reported(a); /* first: then it is unrecorded */
    if ((!p->reported && !raid_load(&a->unrecorded)) || raid_load(&a->failed))
        return false;
    if (!p->held)
        rtimer_arm(&p->timer, AGAIN_US, look_again, p);
    p->held = true;
    return true;
}

/* False: no room in the ring, or not yet. */
static bool log_it(struct part *p, struct stripe_op *op)
{
    struct plog *l = p->log;
    struct plog_record rec = {
        .epoch = l->epoch, .sequence = p->sequence, .tail = p->tail, .era = raid_load(&l->a->era)};
    unsigned slot;
    struct raid_member *m = holder(op, &slot);
    uint32_t payload = m ? describe(op, &rec) : 0;
    if (must_wait(p)) /* only now: who was left out above is out on disk, too */
        return false;
    if (!m || raid_load(&l->lost)) {
        stripe_op_logged(op);
        return true;
    }
    uint64_t size = PLOG_BLOCK + blocks(payload);
    if (size > l->room) { /* planned as a whole stripe; a member has gone meanwhile */
        stripe_op_retry(op);
        return true;
    }
    if (p->used[slot] + size > l->room)
        return false;
    if (!op->log_buf)
        op->log_buf = iobuf_get(PLOG_BLOCK);
    if (!op->log_buf)
        return false;
    plog_record_write(&rec, op->log_buf->data);
    op->log_iov[0] = (struct iovec){op->log_buf->data, PLOG_BLOCK};
    struct bdev_desc *desc;
    uint64_t at = ring_of(p, m, &desc) + PLOG_BLOCK + p->used[slot];
    __atomic_store_n(&p->used[slot], p->used[slot] + size, __ATOMIC_RELAXED);
    p->sequence++;
    p->live++;
    op->logged = op->writing = true;
    __atomic_fetch_add(&p->writing, 1, __ATOMIC_SEQ_CST);
    op->named = rec.whole;
    op->log_member = m;
    bio_init(&op->log_bio, desc, BIO_WRITE, at, PLOG_BLOCK + rec.payload, logged, op);
    bio_data(&op->log_bio, op->log_iov, op->log_iovs);
    op->log_bio.flags = BIO_FUA;
    bio_submit(&op->log_bio);
    return true;
}

/* ---- a full ring */

static void make_room(struct part *p);

static void go_on(struct part *p)
{
    while (!list_empty(&p->waiting)) {
        struct stripe_op *op = list_first(&p->waiting, struct stripe_op, log_link);
        list_del(&op->log_link);
        if (!log_it(p, op)) {
            list_add_head(&p->waiting, &op->log_link);
            break;
        }
    }
    make_room(p);
}

/* The writes themselves will find out. */
static void give_up(struct part *p)
{
    p->flushing = false;
    while (!list_empty(&p->waiting)) {
        struct stripe_op *op = list_first(&p->waiting, struct stripe_op, log_link);
        list_del(&op->log_link);
        stripe_op_logged(op);
    }
}

static void turned(struct bio *bio)
{
    struct flush *f = bio->arg;
    struct part *p = f->part;
    if (bio->error)
        log_failed(p, f->m, bio->error);
    if (--p->pending)
        return;
    p->flushing = false;
    go_on(p);
}

/* On all members, for who is there after a crash: each knows that what it had logged is void. */
static unsigned prepare_turn(struct part *p)
{
    struct plog *l = p->log;
    struct plog_record rec = {.epoch = l->epoch,
                              .sequence = p->sequence,
                              .tail = p->tail,
                              .hi = PLOG_BLOCK,
                              .era = raid_load(&l->a->era)};
    unsigned n = 0;
    plog_record_write(&rec, p->turn->data);
    for (unsigned i = 0; i < l->a->slots; i++) {
        struct raid_member *m = raid_load(&l->a->slot[i]);
        struct flush *f = &p->flush[n];
        struct bdev_desc *desc;
        if (!m || !raid_takes_writes(m) || !plog_fits(l->a, m))
            continue;
        f->part = p;
        f->m = m;
        uint64_t at = ring_of(p, m, &desc);
        bio_init(&f->bio, desc, BIO_WRITE, at, PLOG_BLOCK, turned, f);
        bio_data(&f->bio, &p->turn_iov, 1);
        f->bio.flags = BIO_FUA;
        n++;
    }
    return n;
}

/* All is on the members. Who could not flush is not one any more before what it lost is void. */
static void turn(struct part *p)
{
    const struct plog *l = p->log;
    if (must_wait(p))
        return;
    if (raid_load(&l->a->failed)) {
        give_up(p);
        return;
    }
    start_over(p);
    unsigned n = raid_load(&l->broken) ? 0 : prepare_turn(p);
    p->pending = n;
    for (unsigned i = 0; i < n; i++)
        bio_submit(&p->flush[i].bio);
    if (!n) {
        p->flushing = false;
        go_on(p);
    }
}

static void flushed(struct bio *bio)
{
    struct flush *f = bio->arg;
    struct part *p = f->part;
    if (bio->error)
        report(p, f->m, bio->error);
    if (!--p->pending)
        turn(p);
}

static void make_room(struct part *p)
{
    struct raid_array *a = p->log->a;
    unsigned n = 0;
    if (list_empty(&p->waiting) || p->live || p->flushing || p->held)
        return;
    p->flushing = true;
    for (unsigned i = 0; i < a->slots; i++) {
        struct raid_member *m = raid_load(&a->slot[i]);
        if (!m || !raid_takes_writes(m))
            continue;
        p->flush[n].part = p;
        p->flush[n].m = m;
        bio_init(&p->flush[n].bio, m->desc, BIO_FLUSH, 0, 0, flushed, &p->flush[n]);
        n++;
    }
    p->pending = n;
    for (unsigned i = 0; i < n; i++)
        bio_submit(&p->flush[i].bio);
    if (!n)
        give_up(p);
}

/* ---- its device fails */

static void lost_task(void *arg)
{
    struct raid_array *a = arg;
    struct raid456 *r = a->level_data;
    char object[80];
    tlock_lock(&a->meta_lock);
    if (!raid_load(&a->failed)) /* whose events the heads do not know: they are void */
        raid_meta_write(a);
    a->logged = false;
    raid_store(&r->log->lost, true);
    __atomic_fetch_sub(&a->unrecorded, 1, __ATOMIC_SEQ_CST);
    tlock_unlock(&a->meta_lock);
    raid_publish(a);
    raid_object(a, object);
    event_raise(object, "log-failed", "its log device %s has failed: the write hole is open",
                r->log->device->name);
    raid_task_end(a, &a->log_runs);
}

static void lost_arrived(void *arg) /* home */
{
    struct plog *l = arg;
    raid_task(l->a, &l->a->log_runs, "raid-log-lost", lost_task);
}

void plog_lost(struct plog *l)
{
    __atomic_fetch_add(&l->a->unrecorded, 1,
                       __ATOMIC_SEQ_CST); /* first: nothing goes on meanwhile */
    if (__atomic_exchange_n(&l->broken, true, __ATOMIC_SEQ_CST))
        __atomic_fetch_sub(&l->a->unrecorded, 1, __ATOMIC_SEQ_CST);
    else
        reactor_post(l->a->home, &l->post, lost_arrived, l);
}

void plog_write(struct stripe_op *op)
{
    struct part *p = part_of(op);
    if (p->flushing || !list_empty(&p->waiting) || !log_it(p, op)) {
        list_add_tail(&p->waiting, &op->log_link);
        make_room(p);
    }
}

void plog_written(struct stripe_op *op)
{
    if (op->writing)
        __atomic_fetch_sub(&part_of(op)->writing, 1, __ATOMIC_SEQ_CST);
    op->writing = false;
}

void plog_settle(struct raid_array *a)
{
    enum { STEP_US = 200, MOST_US = 1000 * 1000 }; /* who hangs holds nobody up for longer */
    const struct raid456 *r = a->level_data;
    for (unsigned us = 0; r && r->log && us < MOST_US; us += STEP_US) {
        unsigned n = 0;
        for (unsigned i = 0; i < r->log->rings; i++)
            n += __atomic_load_n(&r->log->part[i].writing, __ATOMIC_SEQ_CST);
        if (!n)
            return;
        task_sleep_us(STEP_US);
    }
}

void plog_op_end(struct stripe_op *op)
{
    struct part *p = part_of(op);
    plog_written(op);
    op->logged = false;
    p->live--;
    make_room(p);
}
