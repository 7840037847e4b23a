/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "raid/copies.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "block/event.h"
#include "raid/bad.h"
#include "reactor/iobuf.h"

enum {
    REPAIR_STEP = 4096, /* and copying, where a window cannot be read as a whole */
};

void raid_copies_properties(struct raid_array *a)
{
    struct bdev *b = &a->bdev;
    bool extents = true, zeroes = true;
    uint64_t gran = 0;
    for (unsigned i = 0; i < a->slots; i++) {
        struct bdev_info info;
        if (!a->slot[i])
            continue;
        bdev_get_info(a->slot[i]->desc, &info);
        extents = extents && info.ops & 1u << BIO_EXTENTS;
        zeroes = zeroes && info.discard_gran && info.discard_zeroes;
        gran = info.discard_gran > gran ? info.discard_gran : gran;
    }
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | 1u << BIO_WRITE_ZEROES;
    if (extents)
        b->native |= 1u << BIO_EXTENTS;
    /* Only where discarded ranges read as zeroes on every member: else the copies would differ. */
    if (zeroes) {
        b->native |= 1u << BIO_DISCARD;
        b->discard_gran = gran;
        b->discard_zeroes = true;
    }
}

/* ---- reads. bio->drv.u[0]: slots that were tried; u[1]: slots that could not read */

static void leg_failed(struct bio *bio, struct raid_member *m, int error)
{
    raid_count(&m->errors);
    if (raid_medium_error(error))
        bio->drv.u[1] |= 1ull << m->slot;
    else if (!m->array->read_only)
        raid_report(m, error);
}

static bool read_next(struct raid_array *a, struct bio *bio);
static bool put_together(struct raid_array *a, struct bio *bio);

static void read_done(struct bio *child)
{
    struct bio *bio = child->parent;
    struct raid_member *m = child->arg;
    struct raid_array *a = m->array;
    int error = child->error;
    if (error && child->bad_offset != BIO_NO_OFFSET && child->bad_offset >= child->offset)
        bio->bad_offset = bio->offset + (child->bad_offset - child->offset);
    bio_child_put(child);
    if (error && error != -EOPNOTSUPP && error != -ENOMEM) {
        leg_failed(bio, m, error);
        if (read_next(a, bio) || put_together(a, bio))
            return;
    } else if (!error && bio->drv.u[1] && bio->op == BIO_READ) {
        raid_want_repair(a, bio->drv.u[1], bio->offset, bio->length);
    }
    if (!error)
        bio->bad_offset = BIO_NO_OFFSET;
    bio_complete(bio, error);
}

static bool read_next(struct raid_array *a, struct bio *bio)
{
    uint64_t offset;
    struct raid_member *m = a->level->pick(a, bio, &offset);
    if (!m)
        return false;
    struct bio *c = bio_child(bio, m->desc);
    bio->drv.u[0] |= 1ull << m->slot;
    bio_child_range(c, 0, bio->length, offset + m->data_offset);
    c->done = read_done;
    c->arg = m;
    bio_submit(c);
    return true;
}

void raid_copies_read(struct raid_array *a, struct bio *bio)
{
    if (!read_next(a, bio) && !put_together(a, bio))
        bio_complete(bio, -EIO);
}

/* ---- making copies agree */

void raid_copies_add(struct raid_copies *c, struct raid_member *m, uint64_t offset)
{
    if (!m || !raid_takes_writes(m) || (c->n && c->m[c->n - 1] == m))
        return;
    c->m[c->n] = m;
    c->offset[c->n++] = offset;
}

/* From whichever can, but `not`. Of copies that may differ each sector has to be the same one's
 * each time, the first one's that can: those of longer pieces are the first one's, or nobody's. */
static int read_any(struct raid_copies *c, const struct raid_member * not, uint64_t at, void *buf,
                    size_t len, struct raid_member **from_r)
{
    bool only_first = c->differ && c->n && len > c->m[0]->array->bdev.block_size, tried = false;
    for (unsigned i = 0; i < c->n; i++) {
        struct raid_member *m = c->m[i];
        if (m == not || (only_first && tried))
            continue;
        tried = tried || raid_in_sync(m);
        if (!raid_good_at(m, c->offset[i] + at, len))
            continue;
        int error = bdev_read(m->desc, m->data_offset + c->offset[i] + at, buf, len);
        if (!error) {
            *from_r = m;
            return 0;
        }
        raid_count(&m->errors);
        if (!raid_medium_error(error) && error != -ENOMEM && !m->array->read_only)
            raid_report(m, error);
    }
    return -EIO;
}

/* ---- reads that no member can serve alone */

struct patchwork {
    struct list link; /* a->reads */
    struct raid_array *array;
    struct bio *bio;
    struct reactor *origin;
    struct rpost post;
    int error;
};

static void patchwork_back(void *arg) /* origin */
{
    struct patchwork *w = arg;
    struct bio *bio = w->bio;
    int error = w->error;
    if (!error && bio->drv.u[1]) /* slots that could not read all of it */
        raid_want_repair(w->array, bio->drv.u[1], bio->offset, bio->length);
    free(w);
    bio_complete(bio, error);
}

/* In steps of `step` from the array's start. */
static int put_part(struct patchwork *w, struct raid_copies *c, struct iobuf *buf, uint64_t from,
                    uint64_t to, uint64_t step)
{
    struct bio *bio = w->bio;
    struct raid_member *m;
    int error = 0;
    for (uint64_t at = from, n; at < to && !error; at += n) {
        n = step - (bio->offset + at) % step;
        n = to - at < n ? to - at : n;
        error = read_any(c, NULL, at, buf->data, n, &m);
        if (!error)
            bio_copy_in(bio, at, buf->data, n);
        else if (step > w->array->bdev.block_size)
            error = put_part(w, c, buf, at, at + n, w->array->bdev.block_size);
        else
            bio->bad_offset = bio->offset + at;
    }
    return error;
}

static void patch(struct patchwork *w, struct iobuf *buf)
{
    struct raid_copies *c = xcalloc(1, sizeof *c);
    w->bio->bad_offset = BIO_NO_OFFSET;
    w->array->level->copies(w->array, w->bio->offset, c);
    c->differ = raid_unsynced(w->array, w->bio->offset, w->bio->length);
    w->error = buf ? put_part(w, c, buf, 0, w->bio->length, REPAIR_STEP) : -ENOMEM;
    free(c);
}

static void read_task(void *arg)
{
    struct raid_array *a = arg;
    struct iobuf *buf = iobuf_get(REPAIR_STEP);
    struct list *e;
    while ((e = list_pop(&a->reads))) {
        struct patchwork *w = list_entry(e, struct patchwork, link);
        patch(w, buf);
        reactor_post(w->origin, &w->post, patchwork_back, w);
    }
    iobuf_put(&buf);
    raid_task_end(a, &a->read_runs);
}

static void read_arrived(void *arg) /* home */
{
    struct patchwork *w = arg;
    list_add_tail(&w->array->reads, &w->link);
    raid_task(w->array, &w->array->read_runs, "raid-read", read_task);
}

/* One of which each copy lacks another part: false, if there is only one. */
static bool put_together(struct raid_array *a, struct bio *bio)
{
    struct patchwork *w =
        bio->op == BIO_READ && raid_in_sync_count(a) > 1 ? malloc(sizeof *w) : NULL;
    if (!w)
        return false;
    *w = (struct patchwork){.array = a, .bio = bio, .origin = reactor_self()};
    list_init(&w->link);
    reactor_post(a->home, &w->post, read_arrived, w);
    return true;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* What is zero stays unallocated where that costs nothing, so that copies of sparse members are
 * sparse. Who has gone meanwhile is closed, or about to be. */
static int write_to(struct raid_member *m, uint64_t offset, const void *buf, size_t len)
{
    struct bdev_info info;
    struct bio bio;
    int error;
    if (!raid_takes_writes(m))
        return -ENODEV;
    bdev_get_info(m->desc, &info);
    if (info.discard_gran && info.discard_zeroes && all_zero(buf, len)) {
        bio_init(&bio, m->desc, BIO_WRITE_ZEROES, m->data_offset + offset, len, NULL, NULL);
        error = bio_wait(&bio);
    } else {
        error = bdev_write(m->desc, m->data_offset + offset, buf, len, 0);
    }
    return raid_bad_written(m, offset, len, error);
}

static int copy_part(struct raid_copies *c, struct raid_member *to, uint64_t at, struct iobuf *buf,
                     size_t len)
{
    struct raid_member *from;
    if (to && !raid_takes_writes(to))
        return -ENODEV;
    if (read_any(c, to, at, buf->data, len, &from))
        return -EIO;
    for (unsigned i = 0; i < c->n; i++) {
        struct raid_member *m = c->m[i];
        if (m == from || (to && m != to) || !raid_takes_writes(m))
            continue;
        int error = write_to(m, c->offset[i] + at, buf->data, len);
        if (to && error)
            return error;
    }
    return 0;
}

/* -EIO for parts only: smaller steps keep what is around a bad place. */
static int copy_in_steps(struct raid_copies *c, struct raid_member *to, uint64_t from,
                         uint64_t length, struct iobuf *buf, uint64_t step)
{
    uint64_t block = c->n ? c->m[0]->array->bdev.block_size : step;
    int rc = 0;
    for (uint64_t at = from, n; at < from + length && (!rc || rc == -EIO); at += n) {
        n = from + length - at < step ? from + length - at : step;
        int one = copy_part(c, to, at, buf, n);
        if (one == -EIO && c->differ && step > block)
            one = copy_in_steps(c, to, at, n, buf, block);
        rc = one ? one : rc;
    }
    return rc;
}

int raid_copies_sync(struct raid_array *a, struct raid_copies *c, struct raid_member *to,
                     uint64_t length)
{
    struct iobuf *buf = iobuf_get(length);
    (void)a;
    if (!buf)
        return -ENOMEM;
    c->differ = !to;
    int rc = copy_part(c, to, 0, buf, length);
    if (rc == -EIO && (!to || raid_takes_writes(to)))
        rc = copy_in_steps(c, to, 0, length, buf, REPAIR_STEP);
    iobuf_put(&buf);
    return rc;
}

/* ---- repair */

/* Written, then read back: a place that stays unreadable is a reason to go. */
static void repair_block(struct raid_array *a, struct raid_copies *c, unsigned i, uint64_t at,
                         struct iobuf *buf, size_t len)
{
    struct raid_member *m = c->m[i], *from;
    uint64_t offset = c->offset[i] + at;
    bool listed = raid_bad_at(m, offset, len);
    if (!listed && !bdev_read(m->desc, m->data_offset + offset, buf->data, len))
        return; /* readable by now */
    if (read_any(c, m, at, buf->data, len, &from) || write_to(m, offset, buf->data, len) ||
        !raid_takes_writes(m))
        return;
    int error = bdev_read(m->desc, m->data_offset + offset, buf->data, len);
    if (error) {
        raid_bad_written(m, offset, len, error);
        return;
    }
    if (listed) /* that it is on the list no more has been told, or still is */
        return;
    char object[80];
    raid_object(a, object);
    event_raise(object, "read-error-corrected", "member %s: %zu bytes at %llu rewritten from %s",
                m->device, len, (unsigned long long)(m->data_offset + offset), from->device);
    raid_corrected(a, m);
}

void raid_copies_repair(struct raid_array *a, struct raid_copies *c, unsigned i, uint64_t length)
{
    struct iobuf *buf = iobuf_get(REPAIR_STEP);
    struct raid_member *m = c->m[i];
    for (uint64_t at = 0; buf && at < length && !c->differ; at += REPAIR_STEP)
        if (raid_in_sync(m) && !raid_load(&m->report))
            repair_block(a, c, i, at, buf, length - at < REPAIR_STEP ? length - at : REPAIR_STEP);
    iobuf_put(&buf);
}

/* ---- scrub */

static int get_copies(struct raid_array *a, struct raid_copies *c, uint64_t offset, uint64_t length)
{
    int rc = 0;
    for (unsigned i = 0; i < c->n; i++) {
        struct raid_member *m = c->m[i];
        c->unread[i] = true;
        c->buf[i] = iobuf_get(length);
        if (!c->buf[i])
            return -ENOMEM;
        if (!raid_in_sync(m))
            continue;
        bool listed = raid_bad_at(m, c->offset[i], length);
        int error =
            listed ? -EIO
                   : bdev_read(m->desc, m->data_offset + c->offset[i], c->buf[i]->data, length);
        c->unread[i] = error;
        if (!error)
            continue;
        if (!listed)
            raid_count(&m->errors);
        raid_want_repair(a, 1ull << m->slot, offset, length);
        rc = -EIO;
    }
    return rc;
}

/* The copy that most others are equal to; *votes_r: how many have it. */
static unsigned most_common(const struct raid_copies *c, uint64_t at, size_t len, unsigned *votes_r)
{
    unsigned best = 0;
    *votes_r = 0;
    for (unsigned i = 0; i < c->n; i++) {
        unsigned votes = 0;
        for (unsigned k = 0; k < c->n && !c->unread[i]; k++)
            votes += !c->unread[k] && !memcmp(c->buf[i]->data + at, c->buf[k]->data + at, len);
        if (votes > *votes_r) {
            best = i;
            *votes_r = votes;
        }
    }
    return best;
}

static void check_block(struct raid_array *a, const struct raid_copies *c, uint64_t offset,
                        uint64_t at, size_t len, struct raid_check *check)
{
    unsigned votes, best = most_common(c, at, len, &votes), have = 0;
    for (unsigned i = 0; i < c->n; i++)
        have += !c->unread[i];
    if (votes == have)
        return;
    bool known = votes > have / 2;
    if (!known)
        raid_check_tell(a, check, offset + at, len, NULL);
    for (unsigned i = 0; i < c->n; i++) {
        if (c->unread[i] || !memcmp(c->buf[i]->data + at, c->buf[best]->data + at, len))
            continue;
        if (known)
            raid_check_tell(a, check, offset + at, len, c->m[i]);
        if (check->repair)
            write_to(c->m[i], c->offset[i] + at, c->buf[best]->data + at, len);
    }
}

int raid_copies_check(struct raid_array *a, struct raid_copies *c, uint64_t offset, uint64_t length,
                      struct raid_check *check)
{
    int rc = get_copies(a, c, offset, length);
    bool same = true;
    for (unsigned i = 0; i < c->n && rc != -ENOMEM; i++)
        same = same && !c->unread[i] && !memcmp(c->buf[0]->data, c->buf[i]->data, length);
    for (uint64_t at = 0; !same && rc != -ENOMEM && at < length; at += REPAIR_STEP)
        check_block(a, c, offset, at, length - at < REPAIR_STEP ? length - at : REPAIR_STEP, check);
    for (unsigned i = 0; i < c->n; i++)
        iobuf_put(&c->buf[i]);
    return rc;
}
