/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid4, raid5 and raid6 as levels: geometry, reads of what is there, and resync, rebuild and
 * repair by the stripe engine.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "block/event.h"
#include "raid/bad.h"
#include "raid/plog.h"

/* ---- life */

static bool raid456_can_run(const struct md_super *sb, uint64_t in_sync)
{
    unsigned lost = sb->raid_disks - (unsigned)__builtin_popcountll(in_sync);
    return lost <= (sb->level == 6 ? 2u : 1u);
}

static int raid456_setup(struct raid_array *a, struct err *e)
{
    struct raid456 *r = xcalloc(1, sizeof *r);
    struct bdev *b = &a->bdev;
    a->level_data = r;
    if (!parity_geometry_init(&r->geometry, a->level->level, a->sb.layout, a->slots))
        return err_set(e, ERR_UNSUPPORTED, "", "%s of %u members with layout %u is not known",
                       a->level->name, a->slots, a->sb.layout);
    r->chunk = (uint32_t)a->chunk;
    r->stripe_bytes = a->chunk * r->geometry.data;
    a->member_bytes = a->member_bytes / a->chunk * a->chunk;
    for (unsigned i = 0; i < reactor_count(); i++)
        r->owner[i] = stripe_owner_new(a, reactor_get(i));
    if (a->no_log)
        r->no_log = "it is not wanted";
    else if (!a->read_only)
        r->log = plog_new(a, a->log_device, &r->no_log);
    a->logged = r->log != NULL;
    b->size = a->member_bytes * r->geometry.data;
    b->boundary = r->stripe_bytes;
    b->opt_io = (uint32_t)r->stripe_bytes;
    b->fanout = raid_legs(a);
    b->native_fua = true;
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | 1u << BIO_WRITE_ZEROES;
    return 0;
}

static void raid456_teardown(struct raid_array *a)
{
    struct raid456 *r = raid456_of(a);
    if (!r)
        return;
    for (unsigned i = 0; i < REACTOR_MAX; i++)
        stripe_owner_free(&r->owner[i]);
    plog_free(&r->log);
    free(r);
    a->level_data = NULL;
}

/* ---- client I/O by the engine. The request lives in the bio: drv.p[0] */

static struct reactor *raid456_owner(struct raid_array *a, const struct bio *bio)
{
    return stripe_owner_of(a, bio->offset / raid456_of(a)->stripe_bytes)->reactor;
}

static void bio_worked(struct stripe_req *req)
{
    struct raid_array *a = req->arg;
    struct bio *bio = req->bio;
    int error = req->error;
    free(req);
    if (bio->op == BIO_READ)
        bio_complete(bio, error);
    else
        raid_write_end(a, bio, error);
}

/* The rows between the first and the last that a bio touches. */
static void rows_of_bio(const struct raid456 *r, const struct bio *bio, struct stripe_req *req)
{
    uint64_t start = bio->offset % r->stripe_bytes, end = start + bio->length;
    bool one = start / r->chunk == (end - 1) / r->chunk;
    req->stripe = bio->offset / r->stripe_bytes;
    req->lo = one ? (uint32_t)(start % r->chunk) : 0;
    req->hi = one ? (uint32_t)((end - 1) % r->chunk) + 1 : r->chunk;
}

static void work_on(struct raid_array *a, struct bio *bio, enum stripe_kind kind)
{
    struct stripe_req *req = calloc(1, sizeof *req);
    if (!req) {
        if (kind == STRIPE_READ)
            bio_complete(bio, -ENOMEM);
        else
            raid_write_end(a, bio, -ENOMEM);
        return;
    }
    req->kind = kind;
    req->bio = bio;
    req->done = bio_worked;
    req->arg = a;
    rows_of_bio(raid456_of(a), bio, req);
    stripe_submit(stripe_owner_of(a, req->stripe), req);
}

static void raid456_write(struct raid_array *a, struct bio *bio)
{
    if (bio->flags & BIO_FAST_ZERO)
        raid_write_end(a, bio, -EOPNOTSUPP);
    else
        work_on(a, bio, STRIPE_WRITE);
}

/* ---- reads: straight from the members as long as these can */

static void read_here(struct bdev *bdev, struct bio *bio)
{
    work_on(container_of(bdev, struct raid_array, bdev), bio, STRIPE_READ);
}

static void read_by_engine(struct raid_array *a, struct bio *bio)
{
    bio_forward(bio, raid456_owner(a, bio), read_here);
}

static void read_done(struct bio *child)
{
    struct bio *bio = child->parent;
    struct raid_array *a = child->arg;
    bool failed = child->error;
    bio_child_put(child);
    bio->drv.u[0] = bio->drv.u[0] || failed;
    if (--bio->pending)
        return;
    if (bio->drv.u[0])
        read_by_engine(a, bio); /* which finds out who it was */
    else
        bio_complete(bio, 0);
}

struct piece {
    struct raid_member *m;
    uint64_t from, length, offset;
};

/* The members' parts of a read; 0: one of them cannot be read. */
static unsigned cut(struct raid_array *a, const struct bio *bio, struct piece *piece)
{
    const struct raid456 *r = raid456_of(a);
    struct parity_map map;
    uint64_t stripe = bio->offset / r->stripe_bytes, at = bio->offset % r->stripe_bytes;
    unsigned n = 0;
    parity_map_init(&map, &r->geometry, stripe);
    for (uint64_t done = 0; done < bio->length; n++) {
        struct piece *p = &piece[n];
        uint64_t row = (at + done) % r->chunk, left = bio->length - done;
        p->m = raid_load(&a->slot[map.slot_of[(at + done) / r->chunk]]);
        p->from = done;
        p->length = left < r->chunk - row ? left : r->chunk - row;
        if (!p->m || !raid_good_at(p->m, stripe * r->chunk + row, p->length))
            return 0;
        p->offset = p->m->data_offset + stripe * r->chunk + row;
        done += p->length;
    }
    return n;
}

static void raid456_read(struct raid_array *a, struct bio *bio)
{
    struct piece piece[PARITY_SLOTS_MAX];
    if (raid_load(&a->failed)) {
        bio_complete(bio, -EIO);
        return;
    }
    unsigned n = cut(a, bio, piece);
    if (!n) {
        read_by_engine(a, bio);
        return;
    }
    bio->pending = n;
    bio->drv.u[0] = 0;
    for (unsigned i = 0; i < n; i++) {
        struct bio *c = bio_child(bio, piece[i].m->desc);
        bio_child_range(c, piece[i].from, piece[i].length, piece[i].offset);
        c->done = read_done;
        c->arg = a;
        bio_submit(c);
    }
}

/* ---- resync, rebuild, repair: in tasks on home */

struct errand {
    struct stripe_req req;
    struct raid_array *a;
    struct twait *wait;
    struct rpost post;
};

static void errand_back(void *arg) /* home */
{
    struct errand *w = arg;
    twait_done(w->wait);
}

static void errand_done(struct stripe_req *req)
{
    struct errand *w = req->arg;
    reactor_post(w->a->home, &w->post, errand_back, w);
}

static void errand_arrived(void *arg)
{
    struct errand *w = arg;
    stripe_submit(stripe_owner_of(w->a, w->req.stripe), &w->req);
}

static unsigned stripes_in(const struct raid_array *a, uint64_t offset, uint64_t length)
{
    const struct raid456 *r = raid456_of((struct raid_array *)a);
    return (unsigned)((offset + length - 1) / r->chunk - offset / r->chunk + 1);
}

/* Work as in `what` on [offset, offset + length) of the members' data, all stripes at once; `all`
 * has room for them, or is NULL. The first error; -EIO last. */
static int work_on_range(struct raid_array *a, const struct stripe_req *what, uint64_t offset,
                         uint64_t length, struct errand *all)
{
    const struct raid456 *r = raid456_of(a);
    uint64_t first = offset / r->chunk;
    unsigned n = stripes_in(a, offset, length);
    autofree struct errand *own = all ? NULL : calloc(n, sizeof *all);
    struct twait wait = TWAIT(n);
    int error = 0;
    all = all ? all : own;
    if (!all)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        struct errand *w = &all[i];
        uint64_t from = (first + i) * r->chunk, end = offset + length;
        w->a = a;
        w->wait = &wait;
        w->req = *what;
        w->req.stripe = first + i;
        w->req.lo = (uint32_t)(offset > from ? offset - from : 0);
        w->req.hi = end - from < r->chunk ? (uint32_t)(end - from) : r->chunk;
        w->req.verdict =
            what->verdict ? what->verdict + (from + w->req.lo - offset) / STRIPE_BLOCK : NULL;
        w->req.done = errand_done;
        w->req.arg = w;
        reactor_post(stripe_owner_of(a, first + i)->reactor, &w->post, errand_arrived, w);
    }
    twait_all(&wait);
    for (unsigned i = 0; i < n; i++)
        if (all[i].req.error && (!error || error == -EIO))
            error = all[i].req.error;
    return error;
}

static int fill(struct raid_array *a, struct raid_member *to, uint64_t offset, uint64_t length)
{
    struct stripe_req what = {.kind = STRIPE_FILL, .to = to};
    return work_on_range(a, &what, offset, length, NULL);
}

static int raid456_sync_window(struct raid_array *a, struct raid_member *to, uint64_t offset,
                               uint64_t length)
{
    struct stripe_req what = {.kind = STRIPE_RESYNC};
    return to ? fill(a, to, offset, length) : work_on_range(a, &what, offset, length, NULL);
}

/* A stripe that could not be read as a whole: around the bad place it is looked at all the same. */
static int check_in_steps(struct raid_array *a, const struct stripe_req *what, uint64_t offset,
                          const struct stripe_req *failed)
{
    const struct raid456 *r = raid456_of(a);
    int rc = 0;
    for (uint32_t row = failed->lo; row < failed->hi && (!rc || rc == -EIO); row += STRIPE_BLOCK) {
        struct stripe_req one = *what;
        uint64_t at = failed->stripe * r->chunk + row;
        one.verdict = what->verdict + (at - offset) / STRIPE_BLOCK;
        int error = work_on_range(a, &one, at, STRIPE_BLOCK, NULL);
        rc = error ? error : rc;
    }
    return rc;
}

static void tell(struct raid_array *a, struct raid_check *check, uint64_t offset, uint64_t length,
                 const uint8_t *verdict)
{
    for (uint64_t at = 0; at < length; at += STRIPE_BLOCK) {
        uint8_t v = verdict[at / STRIPE_BLOCK];
        const struct raid_member *m =
            v >= STRIPE_WRONG ? raid_load(&a->slot[v - STRIPE_WRONG]) : NULL;
        if (v != STRIPE_FITS)
            raid_check_tell(a, check, offset + at, STRIPE_BLOCK, m);
    }
}

static int raid456_check_window(struct raid_array *a, uint64_t offset, uint64_t length,
                                struct raid_check *check)
{
    unsigned n = stripes_in(a, offset, length);
    autofree uint8_t *verdict = calloc(length / STRIPE_BLOCK, 1);
    autofree struct errand *all = calloc(n, sizeof *all);
    struct stripe_req what = {.kind = STRIPE_CHECK, .verdict = verdict, .mend = check->repair};
    if (!all || !verdict)
        return -ENOMEM;
    int rc = work_on_range(a, &what, offset, length, all);
    if (rc == -EIO) {
        rc = 0;
        for (unsigned i = 0; i < n && (!rc || rc == -EIO); i++) {
            int error = all[i].req.error ? check_in_steps(a, &what, offset, &all[i].req) : 0;
            rc = error ? error : rc;
        }
    }
    tell(a, check, offset, length, verdict);
    return rc;
}

/* Written, then read back: a place that stays unreadable is a reason to go. */
static void repair_member(struct raid_array *a, struct raid_member *m, uint64_t offset,
                          uint64_t length)
{
    struct iobuf *buf = iobuf_get(length);
    if (!buf)
        return;
    bool listed = raid_bad_at(m, offset, length);
    if ((listed || bdev_read(m->desc, m->data_offset + offset, buf->data, length)) &&
        !fill(a, m, offset, length) && raid_takes_writes(m)) {
        int error = bdev_read(m->desc, m->data_offset + offset, buf->data, length);
        if (error) {
            raid_bad_written(m, offset, length, error);
        } else if (!listed) { /* else that it is no more has been told */
            char object[80];
            raid_object(a, object);
            event_raise(object, "read-error-corrected",
                        "member %s: %llu bytes at %llu rewritten from the others", m->device,
                        (unsigned long long)length, (unsigned long long)(m->data_offset + offset));
            raid_corrected(a, m);
        }
    }
    iobuf_put(&buf);
}

static void raid456_repair(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length)
{
    enum { STEP = 4096 };
    bool fits = !raid_unsynced(a, offset, length);
    for (unsigned i = 0; i < a->slots && fits; i++)
        for (uint64_t at = 0; slots >> i & 1 && at < length; at += STEP) {
            struct raid_member *m = raid_load(&a->slot[i]);
            if (m && raid_in_sync(m) && !raid_load(&m->report))
                repair_member(a, m, offset + at, length - at < STEP ? length - at : STEP);
        }
}

static bool raid456_resize(struct raid_array *a, uint64_t *size_r)
{
    *size_r = a->sb.size * MD_SECTOR / a->chunk * a->chunk * raid456_of(a)->geometry.data;
    return true;
}

static void raid456_log(const struct raid_array *a, char *out, size_t size)
{
    const struct raid456 *r = a->level_data;
    const char *text = !r ? "" : r->log ? "on" : r->no_log ? r->no_log : "read-only";
    if (r && r->log && plog_is_lost(r->log))
        text = "its device has failed";
    snprintf(out, size, "%s", text);
}

static int raid456_accepts(struct raid_array *a, const struct raid_member *m, struct err *e)
{
    return plog_fits(a, m) ? 0
                           : err_set(e, ERR_NO_SPACE, "device",
                                     "%s has no room for the log before its data, which begins at "
                                     "byte %llu",
                                     m->device, (unsigned long long)m->data_offset);
}

static void raid456_counters(const struct raid_array *a, struct raid_info *info)
{
    const struct raid456 *r = a->level_data;
    memset(info->writes, 0, sizeof info->writes);
    info->gathered = info->memory = info->memory_most = 0;
    for (unsigned i = 0; i < reactor_count(); i++) {
        for (unsigned k = 0; k < RAID_WAYS; k++)
            info->writes[k] += __atomic_load_n(&r->owner[i]->way[k], __ATOMIC_RELAXED);
        info->gathered += __atomic_load_n(&r->owner[i]->gathered, __ATOMIC_RELAXED);
        info->memory += __atomic_load_n(&r->owner[i]->memory, __ATOMIC_RELAXED);
        info->memory_most += __atomic_load_n(&r->owner[i]->memory_most, __ATOMIC_RELAXED);
    }
    plog_fill(a, &info->log_used, &info->log_size);
}

#define RAID456(number)                              \
    const struct raid_level raid##number##_level = { \
        .level = number,                             \
        .name = "raid" #number,                      \
        .redundant = true,                           \
        .parity = true,                              \
        .min_slots = (number) == 6 ? 4 : 3,          \
        .can_run = raid456_can_run,                  \
        .setup = raid456_setup,                      \
        .teardown = raid456_teardown,                \
        .owner = raid456_owner,                      \
        .read = raid456_read,                        \
        .write = raid456_write,                      \
        .resize = raid456_resize,                    \
        .flush = raid_flush_all,                     \
        .before_super = plog_before_super,           \
        .settle = plog_settle,                       \
        .replay = plog_replay,                       \
        .log = raid456_log,                          \
        .accepts = raid456_accepts,                  \
        .counters = raid456_counters,                \
        .sync_window = raid456_sync_window,          \
        .check_window = raid456_check_window,        \
        .repair = raid456_repair,                    \
    }

RAID456(4);
RAID456(5);
RAID456(6);
