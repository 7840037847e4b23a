/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/bio.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "block/block_private.h"
#include "reactor/iobuf.h"

static const char *const op_names[BIO_OP_COUNT] = {
    [BIO_READ] = "read",
    [BIO_WRITE] = "write",
    [BIO_FLUSH] = "flush",
    [BIO_DISCARD] = "discard",
    [BIO_WRITE_ZEROES] = "write_zeroes",
    [BIO_EXTENTS] = "extents",
    [BIO_PREFETCH] = "prefetch",
    [BIO_COMPARE_AND_WRITE] = "compare_and_write",
    [BIO_COPY] = "copy",
};

/* Which flags an op may carry. */
static const uint8_t op_flags[BIO_OP_COUNT] = {
    [BIO_READ] = BIO_BORROW,
    [BIO_WRITE] = BIO_FUA | BIO_OWN_ERRORS,
    [BIO_WRITE_ZEROES] = BIO_FUA | BIO_NO_UNMAP | BIO_FAST_ZERO | BIO_OWN_ERRORS,
    [BIO_COMPARE_AND_WRITE] = BIO_FUA,
    [BIO_COPY] = BIO_FUA,
};

const char *bio_op_name(enum bio_op op)
{
    assert(op < BIO_OP_COUNT);
    return op_names[op];
}

void bio_init(struct bio *bio, struct bdev_desc *desc, enum bio_op op, uint64_t offset,
              uint64_t length, bio_done_fn done, void *arg)
{
    memset(bio, 0, sizeof *bio);
    bio->desc = desc;
    bio->op = op;
    bio->offset = offset;
    bio->length = length;
    bio->done = done;
    bio->arg = arg;
    bio->bad_offset = BIO_NO_OFFSET;
}

void bio_data(struct bio *bio, const struct iovec *iov, unsigned iovcnt)
{
    bio->iov = iov;
    bio->iovcnt = iovcnt;
    bio->iov_skip = 0;
}

/* ---- checks */

static bool iov_holds(const struct bio *bio, uint64_t need)
{
    uint64_t have = 0;
    need += bio->iov_skip;
    for (unsigned i = 0; i < bio->iovcnt && have < need; i++)
        have += bio->iov[i].iov_len;
    return have >= need;
}

/* Byte ranges of the other ops are the core's business (xform.c). */
static bool whole_blocks_only(enum bio_op op)
{
    return op == BIO_COMPARE_AND_WRITE || op == BIO_COPY;
}

static int check_range(const struct bio *bio, const struct bdev *b)
{
    uint64_t mask = b->block_size - 1u;
    if (bio->op == BIO_FLUSH)
        return bio->offset || bio->length ? -EINVAL : 0;
    if (!bio->length)
        return -EINVAL;
    if ((bio->offset | bio->length) & mask && whole_blocks_only(bio->op))
        return -EINVAL;
    uint64_t size = __atomic_load_n(&b->core->size, __ATOMIC_RELAXED);
    if (bio->offset > size || bio->length > size - bio->offset)
        return -ENXIO;
    return 0;
}

static int check_bio(const struct bio *bio, const struct bdev *b)
{
    if (bio->op >= BIO_OP_COUNT || bio->flags & ~op_flags[bio->op])
        return -EINVAL;
    int rc = check_range(bio, b);
    if (rc)
        return rc;
    if (bio_has_data(bio->op)) {
        uint64_t need = bio->op == BIO_COMPARE_AND_WRITE ? 2 * bio->length : bio->length;
        if (need > BIO_MAX_DATA || !iov_holds(bio, need))
            return -EINVAL;
    }
    if (bio->op == BIO_EXTENTS && (!bio->extents || !bio->extents->max))
        return -EINVAL;
    if (bio_is_write(bio->op)) {
        if (b->read_only)
            return -EROFS;
        if (bio->desc->claim == CLAIM_READ)
            return -EROFS;
    }
    return 0;
}

/* ---- submission */

void bio_set_t_submit(struct bio *bio)
{
    bio->t_submit = reactor_now();
}

static void refuse(struct bio *bio, int error)
{
    bio->state = BIO_DRIVER;
    bio->core_flags |= BIO_CORE_REFUSED;
    bio_complete(bio, error);
}

void bio_submit(struct bio *bio)
{
    assert(bio->state == BIO_IDLE);
    if (!relaxed_load(&bio->desc->timeout_ms) || !guard_submit(bio))
        bio_submit_now(bio);
}

void bio_submit_now(struct bio *bio)
{
    struct bdev *b = bio->desc->bdev;
    assert(bio->state == BIO_IDLE);
    struct bdev_channel *ch = bdev_channel_get(b);
    struct bdev_channel_core *cc = ch->core;
    bio->ch = ch;
    bio->error = 0;
    bio->bad_offset = BIO_NO_OFFSET;
    bio->lent = NULL;
    bio->pending = 0;
    bio->credits = 0;
    bio->range = NULL;
    bio->xform = NULL;
    bio->core_flags &= BIO_CORE_POOLED | BIO_CORE_OF_RESERVE;
    bio_set_t_submit(bio);
    relaxed_inc(&bio->desc->per[reactor_self_index()].inflight);
    list_add_tail(&cc->inflight, &bio->link);
    cc->active++;

    int rc = check_bio(bio, b);
    if (!rc && __atomic_load_n(&b->core->state, __ATOMIC_RELAXED) != BDEV_LIVE &&
        bio->op != BIO_FLUSH)
        rc = -ENODEV;
    if (!rc)
        rc = channel_ready(ch);
    if (rc) {
        refuse(bio, rc);
        return;
    }
    if (cc->holds) {
        cc->active--;
        list_del(&bio->link);
        list_add_tail(&cc->held, &bio->link);
        bio->state = BIO_HELD;
        return;
    }
    bio_dispatch(bio);
}

void bio_dispatch(struct bio *bio)
{
    struct bdev *b = bio->ch->bdev;
    const struct gate_state *gate = bio->ch->core->gate;
    if (gate && bio->desc->gated && bio->op != BIO_FLUSH &&
        !gate_check(gate, bio->nexus, bio_is_write(bio->op))) {
        refuse(bio, -EBADE);
        return;
    }
    if (bio_is_write(bio->op)) {
        if (!__atomic_load_n(&b->core->written, __ATOMIC_RELAXED))
            __atomic_store_n(&b->core->written, true, __ATOMIC_RELAXED);
        if (!bio->range && xform_is_read_modify_write(bio)) {
            exclusive_enter(bio); /* comes back with the range held */
            return;
        }
        if (!bio->range && !exclusive_take(bio))
            return;
    }
    if (bio->op == BIO_FLUSH && __atomic_load_n(&b->core->write_error, __ATOMIC_RELAXED)) {
        refuse(bio, -EIO); /* a failed flush never turns into a good one by being asked again */
        return;
    }
    if (xform_needed(bio))
        xform_start(bio);
    else
        bio_start(bio);
}

void bio_start(struct bio *bio)
{
    struct bdev_channel *ch = bio->ch;
    if (ch->bdev->fanout && (!list_empty(&ch->core->waiting) || !children_promise(bio))) {
        bio->state = BIO_WAITING;
        list_del(&bio->link);
        list_add_tail(&ch->core->waiting, &bio->link);
        return;
    }
    bio->state = BIO_DRIVER;
    memset(&bio->drv, 0, sizeof bio->drv);
    ch->bdev->ops->submit(ch->bdev, bio);
}

void bio_inner(struct bio *bio, struct bdev_channel *ch, struct xform *x, bio_done_fn done)
{
    bio->ch = ch;
    bio->xform = x;
    bio->done = done;
    bio->error = 0;
    bio->bad_offset = BIO_NO_OFFSET;
    bio->credits = 0;
    bio->pending = 0;
    bio->range = NULL;
    bio->core_flags = BIO_CORE_INNER;
    list_init(&bio->link);
    bio_set_t_submit(bio);
    if (xform_needed(bio)) /* a compare-and-write's one piece may cross a boundary */
        xform_start(bio);
    else
        bio_start(bio);
}

/* ---- completion */

static void latch_write_error(struct bio *bio)
{
    struct bdev *b = bio->ch->bdev;
    if (b->redundant || bio->error == -EOPNOTSUPP || bio->core_flags & BIO_CORE_REFUSED)
        return;
    if (bio->op == BIO_FLUSH || (bio->flags & (BIO_FUA | BIO_OWN_ERRORS)) == BIO_FUA)
        __atomic_store_n(&b->core->write_error, true, __ATOMIC_RELAXED);
}

static void forwarded_back(void *arg)
{
    struct bio *child = arg;
    struct bio *parent = child->parent;
    int error = child->error;
    parent->bad_offset = child->bad_offset;
    bio_child_put(child);
    bio_complete(parent, error);
}

static void finish(void *arg)
{
    struct bio *bio = arg;
    struct bdev_channel *ch = bio->ch;
    struct bdev_channel_core *cc = ch->core;
    if (bio->error == -EOPNOTSUPP && !(bio->core_flags & BIO_CORE_REFUSED) && xform_fallback(bio))
        return;
    if (bio->credits || bio->core_flags & BIO_CORE_RESERVED)
        children_release(bio);
    if (bio->error)
        latch_write_error(bio);
    bio->state = BIO_IDLE;
    if (bio->core_flags & BIO_CORE_INNER) {
        list_del(&bio->link);
        bio->done(bio);
        return;
    }
    list_del(&bio->link);
    if (bio->core_flags & BIO_CORE_FORWARDED) {
        reactor_post(bio->origin, &bio->post, forwarded_back, bio);
    } else {
        stats_count(bio);
        if (bio->range)
            exclusive_give(bio);
        if (bio->buf)
            iobuf_put(&bio->buf);
        release_dec(&bio->desc->per[reactor_self_index()].inflight);
        bio->done(bio); /* the bio may be gone now */
    }
    if (!--cc->active)
        channel_drained(ch);
}

void bio_complete(struct bio *bio, int error)
{
    assert(bio->state == BIO_DRIVER && error <= 0);
    bio->state = BIO_COMPLETING;
    bio->error = error;
    reactor_defer(&bio->defer, finish, bio);
}

/* ---- waiting in tasks */

static void wake_waiter(struct bio *bio)
{
    task_wake(bio->arg);
}

int bio_wait(struct bio *bio)
{
    bio->done = wake_waiter;
    bio->arg = task_self();
    assert(bio->arg);
    bio_submit(bio);
    task_park();
    return bio->error;
}

static int simple(struct bdev_desc *desc, enum bio_op op, uint64_t offset, void *buf, size_t len,
                  unsigned flags)
{
    struct bio bio;
    struct iovec iov = {buf, len};
    bio_init(&bio, desc, op, offset, len, NULL, NULL);
    bio.flags = (uint8_t)flags;
    if (bio_has_data(op))
        bio_data(&bio, &iov, 1);
    return bio_wait(&bio);
}

int bdev_read(struct bdev_desc *desc, uint64_t offset, void *buf, size_t len)
{
    return simple(desc, BIO_READ, offset, buf, len, 0);
}

int bdev_write(struct bdev_desc *desc, uint64_t offset, const void *buf, size_t len, unsigned flags)
{
    return simple(desc, BIO_WRITE, offset, (void *)(uintptr_t)buf, len, flags);
}

int bdev_flush(struct bdev_desc *desc)
{
    return simple(desc, BIO_FLUSH, 0, NULL, 0, 0);
}

/* ---- data */

/* Finds the entry and the place in it of byte `pos` of the array. */
static unsigned seek_iov(const struct bio *bio, uint64_t pos, uint64_t *in_r)
{
    unsigned i = 0;
    while (i < bio->iovcnt && pos >= bio->iov[i].iov_len)
        pos -= bio->iov[i++].iov_len;
    *in_r = pos;
    return i;
}

unsigned bio_iovec(const struct bio *bio, uint64_t from, uint64_t len, struct iovec *out,
                   unsigned max)
{
    uint64_t in;
    unsigned i = seek_iov(bio, bio->iov_skip + from, &in), n = 0;
    for (; len && i < bio->iovcnt; i++, in = 0) {
        uint64_t have = bio->iov[i].iov_len - in;
        if (!have)
            continue;
        if (n == max)
            return 0;
        out[n].iov_base = (char *)bio->iov[i].iov_base + in;
        out[n].iov_len = have < len ? have : len;
        len -= out[n++].iov_len;
    }
    return len ? 0 : n;
}

enum copy_way { COPY_IN, COPY_OUT, COPY_ZERO };

static void copy(const struct bio *bio, uint64_t from, char *flat, size_t len, enum copy_way way)
{
    uint64_t in;
    unsigned i = seek_iov(bio, bio->iov_skip + from, &in);
    for (; len && i < bio->iovcnt; i++, in = 0) {
        size_t n = bio->iov[i].iov_len - in;
        char *p = (char *)bio->iov[i].iov_base + in;
        if (n > len)
            n = len;
        if (way == COPY_ZERO)
            memset(p, 0, n);
        else if (n)
            memcpy(way == COPY_IN ? p : flat, way == COPY_IN ? flat : p, n);
        if (flat)
            flat += n;
        len -= n;
    }
    assert(!len);
}

void bio_copy_in(const struct bio *bio, uint64_t from, const void *src, size_t len)
{
    copy(bio, from, (char *)(uintptr_t)src, len, COPY_IN);
}

void bio_copy_out(const struct bio *bio, uint64_t from, void *dst, size_t len)
{
    copy(bio, from, dst, len, COPY_OUT);
}

void bio_fill_zero(const struct bio *bio, uint64_t from, size_t len)
{
    copy(bio, from, NULL, len, COPY_ZERO);
}
