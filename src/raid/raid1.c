/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * raid1, any number of copies. A write holds its byte range until all legs are done, so that two
 * overlapping writes reach all members in one order; resync, rebuild and repair hold theirs the
 * same way.
 */
#include <errno.h>
#include <string.h>

#include "block/event.h"
#include "raid/raid_private.h"
#include "reactor/iobuf.h"

enum {
    WRITE_MAX = 1 << 20, /* longer ones are split: a range spans few regions */
    EXTENT_MAX = 64 << 20,
    COPY_STEP = 64 << 10, /* where a window cannot be read as a whole */
    REPAIR_STEP = 4096,
};

static void properties(struct raid_array *a)
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

static int raid1_setup(struct raid_array *a, struct err *e)
{
    (void)e;
    a->ranges = range_map_new();
    a->bdev.size = a->member_bytes / a->bdev.block_size * a->bdev.block_size;
    a->bdev.fanout = a->slots;
    a->bdev.max_io = WRITE_MAX;
    a->bdev.max_extent_io = EXTENT_MAX;
    a->bdev.native_fua = true;
    properties(a);
    return 0;
}

static void raid1_teardown(struct raid_array *a)
{
    if (a->ranges)
        range_map_free(&a->ranges);
}

/* ---- reads. bio->drv.u[0]: slots that were tried; u[1]: slots that could not read */

static struct raid_member *readable(struct raid_array *a, unsigned slot, uint64_t tried)
{
    struct raid_member *m = tried >> slot & 1 ? NULL : raid_load(&a->slot[slot]);
    return m && raid_in_sync(m) ? m : NULL;
}

/* The first leg alone where the copies may differ; else the one whose last read ended here; else in
 * turn. */
static struct raid_member *pick(struct raid_array *a, const struct bio *bio)
{
    struct raid_chan *ch = &a->chan[reactor_self_index()];
    uint64_t tried = bio->drv.u[0];
    bool any = !(bio->offset + bio->length > raid_load(&a->resync_pos));
    struct raid_member *m = NULL;
    for (unsigned i = 0; any && i < a->slots; i++)
        if (ch->read_end[i] == bio->offset && (m = readable(a, i, tried)))
            return m;
    unsigned first = any ? ch->next_read++ % a->slots : 0;
    for (unsigned i = 0; i < a->slots && !m; i++)
        m = readable(a, (first + i) % a->slots, tried);
    return m;
}

static void read_done(struct bio *child);

static void read_leg(struct raid_array *a, struct bio *bio, struct raid_member *m)
{
    struct bio *c = bio_child(bio, m->desc);
    bio->drv.u[0] |= 1ull << m->slot;
    a->chan[reactor_self_index()].read_end[m->slot] = bio->offset + bio->length;
    bio_child_range(c, 0, bio->length, bio->offset + m->data_offset);
    c->done = read_done;
    c->arg = m;
    bio_submit(c);
}

static void leg_failed(struct bio *bio, struct raid_member *m, int error)
{
    raid_count(&m->errors);
    if (error == -EIO || error == -ENODATA || error == -EILSEQ)
        bio->drv.u[1] |= 1ull << m->slot;
    else if (!m->array->read_only)
        raid_report(m, error);
}

static void read_done(struct bio *child)
{
    struct bio *bio = child->parent;
    struct raid_member *m = child->arg, *other;
    struct raid_array *a = m->array;
    int error = child->error;
    if (error && child->bad_offset != BIO_NO_OFFSET && child->bad_offset >= child->offset)
        bio->bad_offset = bio->offset + (child->bad_offset - child->offset);
    bio_child_put(child);
    if (error && error != -EOPNOTSUPP && error != -ENOMEM) {
        leg_failed(bio, m, error);
        if ((other = pick(a, bio))) {
            read_leg(a, bio, other);
            return;
        }
    } else if (!error && bio->drv.u[1] && bio->op == BIO_READ) {
        raid_want_repair(a, bio->drv.u[1], bio->offset, bio->length);
    }
    if (!error)
        bio->bad_offset = BIO_NO_OFFSET;
    bio_complete(bio, error);
}

static void raid1_read(struct raid_array *a, struct bio *bio)
{
    struct raid_member *m = pick(a, bio);
    if (m)
        read_leg(a, bio, m);
    else
        bio_complete(bio, -EIO);
}

/* ---- writes */

static void range_had(void *arg)
{
    raid_io_submit(arg);
}

static void raid1_write(struct raid_array *a, struct bio *bio)
{
    if (bio->flags & BIO_FAST_ZERO) { /* one leg might, another not */
        raid_write_end(a, bio, -EOPNOTSUPP);
        return;
    }
    struct raid_io *io = raid_io_get(a, bio);
    if (!io)
        return;
    io->ranged = true;
    if (range_acquire(a->ranges, &io->range, bio->offset, bio->length, range_had, io))
        raid_io_submit(io);
}

/* ---- in tasks on home: making copies agree */

/* From whichever member in sync can, but `not`. In order of slots: where copies may differ that is
 * the leg that clients read. */
static int read_any(struct raid_array *a, const struct raid_member * not, uint64_t skip,
                    uint64_t offset, void *buf, size_t len, struct raid_member **from_r)
{
    for (unsigned i = 0; i < a->slots; i++) {
        struct raid_member *m = readable(a, i, skip);
        if (!m || m == not )
            continue;
        if (!bdev_read(m->desc, m->data_offset + offset, buf, len)) {
            *from_r = m;
            return 0;
        }
        raid_count(&m->errors);
    }
    return -EIO;
}

static bool all_zero(const uint8_t *p, size_t len)
{
    return !p[0] && !memcmp(p, p + 1, len - 1);
}

/* What is zero stays unallocated where that costs nothing, so that copies of sparse members are
 * sparse. */
static int write_to(struct raid_member *m, uint64_t offset, const void *buf, size_t len)
{
    struct bdev_info info;
    struct bio bio;
    int error;
    bdev_get_info(m->desc, &info);
    if (info.discard_gran && info.discard_zeroes && all_zero(buf, len)) {
        bio_init(&bio, m->desc, BIO_WRITE_ZEROES, m->data_offset + offset, len, NULL, NULL);
        error = bio_wait(&bio);
    } else {
        error = bdev_write(m->desc, m->data_offset + offset, buf, len, 0);
    }
    if (error)
        raid_report(m, error);
    return error;
}

static int copy_part(struct raid_array *a, struct raid_member *to, uint64_t offset,
                     struct iobuf *buf, size_t len)
{
    struct raid_member *from;
    if (read_any(a, to, 0, offset, buf->data, len, &from))
        return -EIO;
    if (to)
        return raid_takes_writes(to) ? write_to(to, offset, buf->data, len) : -ENODEV;
    for (unsigned i = 0; i < a->slots; i++) {
        struct raid_member *m = raid_load(&a->slot[i]);
        if (m && m != from && raid_takes_writes(m))
            write_to(m, offset, buf->data, len);
    }
    return 0;
}

/* -EIO for parts only: a smaller step keeps what is around a bad place. */
static int copy_window(struct raid_array *a, struct raid_member *to, uint64_t offset,
                       uint64_t length, struct iobuf *buf)
{
    int rc = copy_part(a, to, offset, buf, length);
    if (rc != -EIO || (to && !raid_takes_writes(to)))
        return rc;
    rc = 0;
    for (uint64_t at = 0; at < length;) {
        size_t step = length - at < COPY_STEP ? length - at : COPY_STEP;
        int one = copy_part(a, to, offset + at, buf, step);
        if (one && one != -EIO)
            return one;
        rc = one ? one : rc;
        at += step;
    }
    return rc;
}

static int raid1_sync_window(struct raid_array *a, struct raid_member *to, uint64_t offset,
                             uint64_t length)
{
    struct iobuf *buf = iobuf_get(length);
    struct range_req range;
    if (!buf)
        return -ENOMEM;
    range_acquire_wait(a->ranges, &range, offset, length);
    int rc = copy_window(a, to, offset, length, buf);
    range_release(a->ranges, &range);
    iobuf_put(&buf);
    return rc;
}

/* Written, then read back: a place that stays unreadable is a reason to go. */
static void repair_member(struct raid_array *a, struct raid_member *m, uint64_t offset,
                          struct iobuf *buf, size_t len)
{
    struct raid_member *from;
    if (!bdev_read(m->desc, m->data_offset + offset, buf->data, len))
        return; /* readable by now */
    if (read_any(a, m, 0, offset, buf->data, len, &from) || write_to(m, offset, buf->data, len))
        return;
    int error = bdev_read(m->desc, m->data_offset + offset, buf->data, len);
    if (error) {
        raid_report(m, error);
        return;
    }
    raid_count(&m->corrected);
    char object[80];
    raid_object(a, object);
    event_raise(object, "read-error-corrected", "member %s: %zu bytes at %llu rewritten from %s",
                m->device, len, (unsigned long long)(m->data_offset + offset), from->device);
}

static void raid1_repair(struct raid_array *a, uint64_t slots, uint64_t offset, uint64_t length)
{
    struct iobuf *buf = iobuf_get(REPAIR_STEP);
    struct range_req range;
    if (!buf)
        return;
    range_acquire_wait(a->ranges, &range, offset, length);
    for (unsigned i = 0; i < a->slots; i++) {
        for (uint64_t at = 0; slots >> i & 1 && at < length; at += REPAIR_STEP) {
            struct raid_member *m = readable(a, i, 0);
            size_t step = length - at < REPAIR_STEP ? length - at : REPAIR_STEP;
            if (m && !m->report)
                repair_member(a, m, offset + at, buf, step);
        }
    }
    range_release(a->ranges, &range);
    iobuf_put(&buf);
}

/* ---- scrub */

struct copies {
    unsigned n;
    struct raid_member *m[RAID_MEMBERS_MAX];
    struct iobuf *buf[RAID_MEMBERS_MAX];
    bool unread[RAID_MEMBERS_MAX];
};

static int get_copies(struct raid_array *a, struct copies *c, uint64_t offset, uint64_t length)
{
    int rc = 0;
    for (unsigned i = 0; i < a->slots; i++) {
        struct raid_member *m = readable(a, i, 0);
        if (!m)
            continue;
        struct iobuf *buf = iobuf_get(length);
        if (!buf)
            return -ENOMEM;
        c->m[c->n] = m;
        c->buf[c->n++] = buf;
        int error = bdev_read(m->desc, m->data_offset + offset, buf->data, length);
        if (!error)
            continue;
        raid_count(&m->errors);
        c->unread[c->n - 1] = true;
        raid_want_repair(a, 1ull << i, offset, length);
        rc = -EIO;
    }
    return rc;
}

/* The copy that most others are equal to; *votes_r: how many have it. */
static unsigned most_common(const struct copies *c, uint64_t at, size_t len, unsigned *votes_r)
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

static void check_block(struct raid_array *a, const struct copies *c, uint64_t offset, uint64_t at,
                        size_t len, struct raid_check *check)
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
            write_to(c->m[i], offset + at, c->buf[best]->data + at, len);
    }
}

static int raid1_check_window(struct raid_array *a, uint64_t offset, uint64_t length,
                              struct raid_check *check)
{
    struct copies c = {0};
    struct range_req range;
    range_acquire_wait(a->ranges, &range, offset, length);
    int rc = get_copies(a, &c, offset, length);
    bool same = true;
    for (unsigned i = 0; i < c.n; i++)
        same = same && !c.unread[i] && !memcmp(c.buf[0]->data, c.buf[i]->data, length);
    for (uint64_t at = 0; !same && rc != -ENOMEM && at < length; at += REPAIR_STEP)
        check_block(a, &c, offset, at, length - at < REPAIR_STEP ? length - at : REPAIR_STEP,
                    check);
    range_release(a->ranges, &range);
    for (unsigned i = 0; i < c.n; i++)
        iobuf_put(&c.buf[i]);
    return rc;
}

static bool raid1_can_run(const struct md_super *sb, uint64_t in_sync)
{
    (void)sb;
    return in_sync != 0;
}

const struct raid_level raid1_level = {
    .level = 1,
    .name = "raid1",
    .redundant = true,
    .min_slots = 2,
    .can_run = raid1_can_run,
    .setup = raid1_setup,
    .teardown = raid1_teardown,
    .read = raid1_read,
    .write = raid1_write,
    .flush = raid_flush_all,
    .sync_window = raid1_sync_window,
    .check_window = raid1_check_window,
    .repair = raid1_repair,
};
