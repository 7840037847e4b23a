/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the core does for a driver that cannot take a bio as it is: split it, bounce its data,
 * emulate FUA by a FLUSH, zeroes by writing, copy by reading and writing, compare-and-write by
 * comparing. A transformation works through the parent's range piece by piece, up to
 * XFORM_WINDOW pieces at a time, as inner bios of the same device, then flushes if it must.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/block_private.h"
#include "reactor/iobuf.h"

enum { XFORM_WINDOW = 4, PIECE_BYTES = 1 << 20 };

enum xform_kind { XFORM_SPLIT, XFORM_BOUNCE, XFORM_ZERO, XFORM_COPY, XFORM_COMPARE };

struct xform;
struct piece {
    struct bio bio;
    struct xform *x;
    struct iobuf *buf;
    struct iovec iov;
    uint64_t from;
    bool busy, second; /* second step: COPY and COMPARE write what was read */
};

struct xform {
    struct bio *parent;
    enum xform_kind kind;
    uint64_t next; /* first byte of the range that is not issued yet */
    unsigned busy;
    int error;
    uint64_t bad;
    bool flush_at_end, flushing;
    uint8_t piece_flags;
    struct piece piece[XFORM_WINDOW];
};

static bool native(const struct bdev *b, enum bio_op op)
{
    return b->native & 1u << op;
}

/* ---- is there anything to do? */

static bool aligned(const struct bio *bio, uint32_t align)
{
    uintptr_t bits = bio->iov_skip;
    for (unsigned i = 0; i < bio->iovcnt; i++)
        bits |= (uintptr_t)bio->iov[i].iov_base | bio->iov[i].iov_len;
    return !(bits & (align - 1));
}

static uint64_t piece_limit(const struct bdev *b, enum bio_op op)
{
    if (bio_has_data(op))
        return b->max_io ? b->max_io : UINT64_MAX;
    return b->max_extent_io ? b->max_extent_io : UINT64_MAX;
}

static bool too_wide(const struct bdev *b, const struct bio *bio)
{
    if (bio->op == BIO_FLUSH)
        return false;
    if (bio->length > piece_limit(b, bio->op))
        return true;
    return b->boundary &&
           bio->offset / b->boundary != (bio->offset + bio->length - 1) / b->boundary;
}

bool xform_needed(const struct bio *bio)
{
    const struct bdev *b = bio->ch->bdev;
    if (!native(b, bio->op) || too_wide(b, bio))
        return true;
    if (bio->flags & BIO_FUA && !b->native_fua)
        return true;
    return b->mem_align > 1 && bio_has_data(bio->op) && !aligned(bio, b->mem_align);
}

/* ---- the engine */

static void pump(struct xform *x);

static void xform_end(struct xform *x)
{
    struct bio *parent = x->parent;
    int error = x->error;
    parent->bad_offset = x->bad;
    free(x);
    parent->xform = NULL;
    bio_complete(parent, error);
}

static void piece_free(struct piece *p)
{
    iobuf_put(&p->buf);
    p->busy = p->second = false;
    p->x->busy--;
}

static void piece_failed(struct piece *p)
{
    struct xform *x = p->x;
    if (!x->error) {
        x->error = p->bio.error;
        x->bad = p->bio.bad_offset;
    }
}

static void flushed(struct bio *bio)
{
    struct piece *p = bio->arg;
    if (bio->error)
        piece_failed(p);
    piece_free(p);
    pump(p->x);
}

static void write_second(struct piece *p);
static bool compare_piece(struct piece *p);

static void piece_done(struct bio *bio)
{
    struct piece *p = bio->arg;
    struct xform *x = p->x;
    if (bio->error) {
        piece_failed(p);
    } else if (x->kind == XFORM_BOUNCE && x->parent->op == BIO_READ) {
        bio_copy_in(x->parent, p->from, p->buf->data, bio->length);
    } else if (x->kind == XFORM_COPY && !p->second) {
        write_second(p);
        return;
    } else if (x->kind == XFORM_COMPARE && !p->second && compare_piece(p)) {
        write_second(p);
        return;
    }
    piece_free(p);
    pump(x);
}

static void write_second(struct piece *p)
{
    struct xform *x = p->x;
    uint64_t length = p->bio.length;
    p->second = true;
    if (x->kind == XFORM_COMPARE)
        bio_copy_out(x->parent, x->parent->length, p->buf->data, length);
    bio_init(&p->bio, x->parent->desc, BIO_WRITE, x->parent->offset + p->from, length, NULL, p);
    p->bio.flags = x->piece_flags & BIO_FUA;
    bio_data(&p->bio, &p->iov, 1);
    bio_inner(&p->bio, x->parent->ch, x, piece_done);
}

/* True: equal. The whole compare-and-write is one piece. */
static bool compare_piece(struct piece *p)
{
    struct xform *x = p->x;
    uint64_t length = p->bio.length;
    struct iobuf *want = iobuf_get(length);
    if (!want) {
        x->error = -EAGAIN;
        return false;
    }
    bio_copy_out(x->parent, 0, want->data, length);
    uint64_t i = 0;
    while (i < length && want->data[i] == p->buf->data[i])
        i++;
    iobuf_put(&want);
    if (i == length)
        return true;
    x->error = -EUCLEAN;
    x->bad = x->parent->offset + i;
    return false;
}

static uint64_t piece_length(const struct xform *x)
{
    const struct bdev *b = x->parent->ch->bdev;
    uint64_t offset = x->parent->offset + x->next;
    uint64_t length = x->parent->length - x->next;
    enum bio_op op = x->kind == XFORM_SPLIT ? (enum bio_op)x->parent->op : BIO_WRITE;
    uint64_t most = piece_limit(b, op);
    if (x->kind != XFORM_SPLIT && most > PIECE_BYTES && x->kind != XFORM_COMPARE)
        most = PIECE_BYTES;
    if (length > most)
        length = most;
    if (b->boundary && offset / b->boundary != (offset + length - 1) / b->boundary)
        length = b->boundary - offset % b->boundary;
    return length;
}

static bool piece_buffer(struct piece *p, uint64_t length)
{
    p->buf = iobuf_get(length);
    if (!p->buf)
        return false;
    p->iov = (struct iovec){p->buf->data, length};
    return true;
}

/* Reads go to the source device as an ordinary bio of its own. */
static void copy_read(struct piece *p, uint64_t length)
{
    struct bio *parent = p->x->parent;
    bio_init(&p->bio, parent->copy_src, BIO_READ, parent->copy_offset + p->from, length, piece_done,
             p);
    bio_data(&p->bio, &p->iov, 1);
    bio_submit(&p->bio);
}

static bool issue(struct xform *x, struct piece *p)
{
    struct bio *parent = x->parent;
    uint64_t length = piece_length(x);
    enum bio_op op = x->kind == XFORM_ZERO      ? BIO_WRITE
                     : x->kind == XFORM_COMPARE ? BIO_READ
                                                : (enum bio_op)parent->op;
    p->from = x->next;
    if (x->kind != XFORM_SPLIT && x->kind != XFORM_ZERO && !piece_buffer(p, length)) {
        if (!x->busy)
            x->error = -EAGAIN;
        return false; /* a piece under way will give its buffer back */
    }
    x->next += length;
    x->busy++;
    p->busy = true;
    if (x->kind == XFORM_COPY) {
        copy_read(p, length);
        return true;
    }
    bio_init(&p->bio, parent->desc, op, parent->offset + p->from, length, NULL, p);
    if (op == parent->op)
        p->bio.flags = x->piece_flags;
    else if (op == BIO_WRITE)
        p->bio.flags = x->piece_flags & BIO_FUA;
    if (x->kind == XFORM_SPLIT) {
        p->bio.iov = parent->iov;
        p->bio.iovcnt = parent->iovcnt;
        p->bio.iov_skip = parent->iov_skip + p->from;
        p->bio.extents = parent->extents;
    } else {
        if (x->kind == XFORM_ZERO)
            p->iov = (struct iovec){(void *)(uintptr_t)iobuf_zeroes(), length};
        else if (op == BIO_WRITE)
            bio_copy_out(parent, p->from, p->buf->data, length);
        bio_data(&p->bio, &p->iov, 1);
    }
    bio_inner(&p->bio, parent->ch, x, piece_done);
    return true;
}

static void flush(struct xform *x)
{
    struct piece *p = &x->piece[0];
    x->flushing = true;
    x->busy++;
    p->busy = true;
    bio_init(&p->bio, x->parent->desc, BIO_FLUSH, 0, 0, NULL, p);
    bio_inner(&p->bio, x->parent->ch, x, flushed);
}

static void restart_as_zero(struct xform *x)
{
    x->kind = XFORM_ZERO;
    x->error = 0;
    x->bad = BIO_NO_OFFSET;
    x->next = 0;
}

/* One EXTENTS answer may end early: the first piece is enough. */
static bool issued_all(const struct xform *x)
{
    return x->next == x->parent->length || (x->parent->op == BIO_EXTENTS && x->next);
}

static void pump(struct xform *x)
{
    for (unsigned i = 0; i < XFORM_WINDOW && !x->error && !issued_all(x); i++)
        if (!x->piece[i].busy && !issue(x, &x->piece[i]))
            break;
    if (x->busy)
        return;
    if (x->error == -EOPNOTSUPP && x->parent->op == BIO_WRITE_ZEROES && x->kind == XFORM_SPLIT &&
        !(x->parent->flags & BIO_FAST_ZERO)) {
        restart_as_zero(x);
        pump(x);
        return;
    }
    if (!x->error && x->flush_at_end && !x->flushing) {
        flush(x);
        return;
    }
    xform_end(x);
}

/* ---- choosing */

/* Ops that need no engine: 0 or an error to end with; 1 = go on. */
static int trivial(struct bio *bio)
{
    const struct bdev *b = bio->ch->bdev;
    if (native(b, bio->op))
        return 1;
    switch (bio->op) {
    case BIO_FLUSH: return b->write_cache ? -EOPNOTSUPP : 0;
    case BIO_PREFETCH: return 0;
    case BIO_DISCARD: return -EOPNOTSUPP;
    case BIO_EXTENTS:
        bio->extents->list[0] = (struct extent){bio->length, 0};
        bio->extents->count = 1;
        return 0;
    case BIO_WRITE_ZEROES:
        if (bio->flags & BIO_FAST_ZERO)
            return -EOPNOTSUPP;
        return native(b, BIO_WRITE) ? 1 : -EOPNOTSUPP;
    case BIO_COMPARE_AND_WRITE:
    case BIO_COPY: return native(b, BIO_WRITE) && native(b, BIO_READ) ? 1 : -EOPNOTSUPP;
    default: return -EOPNOTSUPP;
    }
}

static enum xform_kind kind_of(const struct bio *bio)
{
    const struct bdev *b = bio->ch->bdev;
    if (!native(b, bio->op)) {
        switch (bio->op) {
        case BIO_WRITE_ZEROES: return XFORM_ZERO;
        case BIO_COPY: return XFORM_COPY;
        default: return XFORM_COMPARE;
        }
    }
    if (b->mem_align > 1 && (bio->op == BIO_READ || bio->op == BIO_WRITE) &&
        !aligned(bio, b->mem_align))
        return XFORM_BOUNCE;
    return XFORM_SPLIT;
}

static void start_kind(struct bio *bio, enum xform_kind kind)
{
    const struct bdev *b = bio->ch->bdev;
    struct xform *x = calloc(1, sizeof *x);
    bio->state = BIO_DRIVER;
    if (!x) {
        bio_complete(bio, -EAGAIN);
        return;
    }
    x->parent = bio;
    x->kind = kind;
    x->bad = BIO_NO_OFFSET;
    x->piece_flags = bio->flags;
    if (bio->flags & BIO_FUA && !b->native_fua) {
        x->piece_flags &= (uint8_t)~BIO_FUA;
        x->flush_at_end = b->write_cache;
    }
    for (unsigned i = 0; i < XFORM_WINDOW; i++)
        x->piece[i].x = x;
    bio->xform = x;
    pump(x);
}

void xform_start(struct bio *bio)
{
    int rc = trivial(bio);
    if (rc <= 0) {
        bio->state = BIO_DRIVER;
        bio_complete(bio, rc);
        return;
    }
    start_kind(bio, kind_of(bio));
}

bool xform_fallback(struct bio *bio)
{
    /* The driver said at run time what it could not say before (a file system without
     * FALLOC_FL_ZERO_RANGE): zeroes can be written, the rest is advisory or truly missing. */
    if (bio->op != BIO_WRITE_ZEROES || bio->flags & BIO_FAST_ZERO ||
        bio->core_flags & (BIO_CORE_INNER | BIO_CORE_FORWARDED))
        return false;
    if (bio->credits || bio->core_flags & BIO_CORE_RESERVED)
        children_release(bio);
    bio->error = 0;
    start_kind(bio, XFORM_ZERO);
    return true;
}
