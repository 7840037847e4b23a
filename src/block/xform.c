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

enum xform_kind {
    XFORM_SPLIT,   /* as it is, in pieces */
    XFORM_BOUNCE,  /* through a buffer of ours, for the data's alignment */
    XFORM_BYTES,   /* the range is not of whole blocks: read, modify, write */
    XFORM_ZERO,    /* zeroes are written */
    XFORM_COPY,    /* read there, write here */
    XFORM_COMPARE, /* read, compare, write */
};

struct xform;
struct piece {
    struct bio bio;
    struct xform *x;
    struct iobuf *buf;
    struct iovec iov;
    bool busy, second; /* second step: what was read, and changed, is written */
};

/* Offsets are the device's; the range is the parent's, rounded to blocks for XFORM_BYTES. */
struct xform {
    struct bio *parent;
    enum xform_kind kind;
    uint64_t begin, next, end; /* `next`: first byte that is not issued yet */
    uint64_t inside, outside;  /* [inside, outside): whole blocks that were zeroed first */
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

/* The range is not made of whole blocks. */
static bool odd(const struct bio *bio)
{
    return (bio->offset | bio->length) & (bio->ch->bdev->block_size - 1u);
}

static uint64_t piece_limit(const struct bdev *b, enum bio_op op)
{
    if (bio_has_data(op))
        return b->max_io ? b->max_io : UINT64_MAX;
    if (op == BIO_EXTENTS)
        return UINT64_MAX; /* the answer may end where the driver thinks that it is enough */
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
    if (!native(b, bio->op) || too_wide(b, bio) || odd(bio))
        return true;
    if (bio->flags & BIO_FUA && !b->native_fua)
        return true;
    return b->mem_align > 1 && bio_has_data(bio->op) && !aligned(bio, b->mem_align);
}

bool xform_is_read_modify_write(const struct bio *bio)
{
    if (bio->op == BIO_COMPARE_AND_WRITE)
        return !native(bio->ch->bdev, bio->op);
    return (bio->op == BIO_WRITE || bio->op == BIO_WRITE_ZEROES) && odd(bio);
}

/* The whole blocks in a range: [*from_r, *to_r), or an empty one. */
static void whole_blocks(const struct bio *bio, uint64_t *from_r, uint64_t *to_r)
{
    uint64_t mask = bio->ch->bdev->block_size - 1u;
    *from_r = (bio->offset + mask) & ~mask;
    *to_r = (bio->offset + bio->length) & ~mask;
    if (*to_r < *from_r)
        *to_r = *from_r;
}

/* ---- the engine */

static void pump(struct xform *x);

static void xform_end(struct xform *x)
{
    struct bio *parent = x->parent;
    int error = x->error;
    parent->bad_offset = x->bad;
    /* What was made of other operations has no other way left: it would begin again, for ever, and
     * with the ends rounded outwards. Only the native pieces of a split may still be written. */
    if (error == -EOPNOTSUPP && parent->op == BIO_WRITE_ZEROES && x->kind != XFORM_SPLIT &&
        !(parent->flags & BIO_FAST_ZERO))
        error = -EIO;
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

/* Of the steps that stand for themselves: the zeroes inside, the flush. */
static void step_done(struct bio *bio)
{
    struct piece *p = bio->arg;
    if (bio->error)
        piece_failed(p);
    piece_free(p);
    pump(p->x);
}

/* ---- what is read first, then written */

static void piece_done(struct bio *bio);

/* The part of the parent's range that lies in a piece: [*from_r, *to_r) in device offsets. */
static void overlap(const struct piece *p, uint64_t *from_r, uint64_t *to_r)
{
    const struct bio *parent = p->x->parent;
    uint64_t end = parent->offset + parent->length, piece_end = p->bio.offset + p->bio.length;
    *from_r = p->bio.offset > parent->offset ? p->bio.offset : parent->offset;
    *to_r = piece_end < end ? piece_end : end;
}

/* Puts the parent's data, or its zeroes, into the piece's buffer. */
static void fill_piece(struct piece *p)
{
    const struct bio *parent = p->x->parent;
    uint64_t from, to;
    overlap(p, &from, &to);
    uint8_t *at = p->buf->data + (from - p->bio.offset);
    if (parent->op == BIO_WRITE_ZEROES)
        memset(at, 0, to - from);
    else
        bio_copy_out(parent, from - parent->offset, at, to - from);
}

static void write_piece(struct piece *p)
{
    struct xform *x = p->x;
    p->second = true;
    bio_init(&p->bio, x->parent->desc, BIO_WRITE, p->bio.offset, p->bio.length, NULL, p);
    p->bio.flags = x->piece_flags & (BIO_FUA | BIO_OWN_ERRORS);
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
    if (i < length) {
        x->error = -EUCLEAN;
        x->bad = x->parent->offset + i;
        return false;
    }
    bio_copy_out(x->parent, length, p->buf->data, length);
    return true;
}

/* After the first step of a piece went well: is there a second one? */
static bool wants_second(struct piece *p)
{
    const struct xform *x = p->x;
    if (p->second)
        return false;
    switch (x->kind) {
    case XFORM_COPY: return true;
    case XFORM_COMPARE: return compare_piece(p);
    case XFORM_BYTES:
        if (p->bio.op != BIO_READ || x->parent->op == BIO_READ)
            return false;
        fill_piece(p);
        return true;
    default: return false;
    }
}

/* The answer is about whole blocks; the question was not. */
static void trim_extents(const struct xform *x)
{
    const struct bio *parent = x->parent;
    struct bio_extents *ext = parent->extents;
    uint64_t left = parent->length;
    ext->list[0].length -= parent->offset - x->begin;
    for (unsigned i = 0; i < ext->count; i++) {
        if (ext->list[i].length >= left) {
            ext->list[i].length = left;
            ext->count = i + 1;
        }
        left -= ext->list[i].length;
    }
}

static void piece_done(struct bio *bio)
{
    struct piece *p = bio->arg;
    struct xform *x = p->x;
    if (bio->error) {
        piece_failed(p);
    } else if (wants_second(p)) {
        /* A copy was read at the source's offset. */
        if (x->kind == XFORM_COPY)
            p->bio.offset = x->parent->offset + (p->bio.offset - x->parent->copy_offset);
        write_piece(p);
        return;
    } else if (p->buf && x->parent->op == BIO_READ) {
        uint64_t from, to;
        overlap(p, &from, &to);
        bio_copy_in(x->parent, from - x->parent->offset, p->buf->data + (from - p->bio.offset),
                    to - from);
    } else if (x->parent->op == BIO_EXTENTS) {
        trim_extents(x);
    }
    piece_free(p);
    pump(x);
}

/* ---- issuing */

/* Hands on an odd range as one of whole blocks; what limits the device has, that one meets. */
static bool rounds_only(const struct xform *x)
{
    enum bio_op op = x->parent->op;
    return x->kind == XFORM_BYTES && !bio_has_data(op) && op != BIO_WRITE_ZEROES;
}

static uint64_t piece_length(const struct xform *x)
{
    const struct bdev *b = x->parent->ch->bdev;
    uint64_t length = x->end - x->next;
    if (x->next < x->inside && x->outside > x->inside)
        length = x->inside - x->next;
    if (x->kind == XFORM_COMPARE || rounds_only(x))
        return length; /* one piece; a comparison is all or nothing */
    enum bio_op op = x->kind == XFORM_SPLIT ? (enum bio_op)x->parent->op : BIO_WRITE;
    uint64_t most = piece_limit(b, op);
    if (x->kind != XFORM_SPLIT && most > PIECE_BYTES)
        most = PIECE_BYTES;
    if (length > most)
        length = most;
    if (b->boundary && x->next / b->boundary != (x->next + length - 1) / b->boundary)
        length = b->boundary - x->next % b->boundary;
    return length;
}

/* What the first step of a piece does. */
static enum bio_op piece_op(const struct piece *p, uint64_t offset, uint64_t length)
{
    const struct bio *parent = p->x->parent;
    switch (p->x->kind) {
    case XFORM_ZERO: return BIO_WRITE;
    case XFORM_COMPARE:
    case XFORM_COPY: return BIO_READ;
    case XFORM_BYTES:
        if (parent->op != BIO_WRITE && parent->op != BIO_WRITE_ZEROES)
            return parent->op;
        return offset >= parent->offset && offset + length <= parent->offset + parent->length
                   ? BIO_WRITE
                   : BIO_READ; /* blocks at its ends keep what is not covered */
    default: return parent->op;
    }
}

static bool needs_buffer(const struct xform *x)
{
    return x->kind != XFORM_SPLIT && x->kind != XFORM_ZERO && !rounds_only(x);
}

static void attach_data(struct piece *p, enum bio_op op, uint64_t length)
{
    const struct xform *x = p->x;
    const struct bio *parent = x->parent;
    p->bio.extents = parent->extents;
    if (rounds_only(x))
        return;
    if (x->kind == XFORM_SPLIT) {
        p->bio.iov = parent->iov;
        p->bio.iovcnt = parent->iovcnt;
        p->bio.iov_skip = parent->iov_skip + (p->bio.offset - parent->offset);
        return;
    }
    if (x->kind == XFORM_ZERO)
        p->iov = (struct iovec){(void *)(uintptr_t)iobuf_zeroes(), length};
    else if (op == BIO_WRITE)
        fill_piece(p);
    bio_data(&p->bio, &p->iov, 1);
}

static bool issue(struct xform *x, struct piece *p)
{
    struct bio *parent = x->parent;
    uint64_t offset = x->next, length = piece_length(x);
    enum bio_op op = piece_op(p, offset, length);
    if (needs_buffer(x)) {
        p->buf = iobuf_get(length);
        if (!p->buf) {
            if (!x->busy)
                x->error = -EAGAIN;
            return false; /* a piece under way will give its buffer back */
        }
        p->iov = (struct iovec){p->buf->data, length};
    }
    x->next += length;
    if (x->next == x->inside)
        x->next = x->outside;
    x->busy++;
    p->busy = true;
    if (x->kind == XFORM_COPY) { /* an ordinary bio to the source */
        uint64_t from = parent->copy_offset + (offset - parent->offset);
        bio_init(&p->bio, parent->copy_src, BIO_READ, from, length, piece_done, p);
        bio_data(&p->bio, &p->iov, 1);
        bio_submit(&p->bio);
        return true;
    }
    bio_init(&p->bio, parent->desc, op, offset, length, NULL, p);
    if (op == parent->op)
        p->bio.flags = x->piece_flags;
    else if (op == BIO_WRITE)
        p->bio.flags = x->piece_flags & (BIO_FUA | BIO_OWN_ERRORS);
    attach_data(p, op, length);
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
    bio_inner(&p->bio, x->parent->ch, x, step_done);
}

/* Zeroes over an odd range: first the whole blocks inside, by the best way that the device has;
 * their ends follow when that went well, so a fast zero that is refused has changed nothing. */
static void zero_inside(struct xform *x)
{
    struct piece *p = &x->piece[0];
    whole_blocks(x->parent, &x->inside, &x->outside);
    if (x->outside == x->inside)
        return;
    if (x->next == x->inside)
        x->next = x->outside;
    x->busy++;
    p->busy = true;
    bio_init(&p->bio, x->parent->desc, BIO_WRITE_ZEROES, x->inside, x->outside - x->inside, NULL,
             p);
    p->bio.flags = x->piece_flags;
    bio_inner(&p->bio, x->parent->ch, x, step_done);
}

/* One EXTENTS answer may end early: the first piece is enough. */
static bool issued_all(const struct xform *x)
{
    return x->next == x->end || (x->parent->op == BIO_EXTENTS && x->next != x->begin);
}

static void pump(struct xform *x)
{
    for (unsigned i = 0; i < XFORM_WINDOW && !x->error && !issued_all(x); i++)
        if (!x->piece[i].busy && !issue(x, &x->piece[i]))
            break;
    if (x->busy)
        return;
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
    if (odd(bio))
        return XFORM_BYTES;
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

/* Whole blocks: outwards, but a discard inwards, for it must not touch what it was not asked to. */
static void set_range(struct xform *x)
{
    const struct bio *parent = x->parent;
    uint64_t mask = parent->ch->bdev->block_size - 1u;
    x->begin = parent->offset;
    x->end = x->begin + parent->length;
    if (parent->op == BIO_DISCARD) {
        whole_blocks(parent, &x->begin, &x->end);
    } else if (parent->op != BIO_FLUSH) {
        x->begin &= ~mask;
        x->end = (x->end + mask) & ~mask;
    }
    x->next = x->begin;
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
    set_range(x);
    x->bad = BIO_NO_OFFSET;
    x->piece_flags = bio->flags & (uint8_t)~BIO_BORROW;
    if (bio->flags & BIO_FUA && !b->native_fua) {
        x->piece_flags &= (uint8_t)~BIO_FUA;
        x->flush_at_end = b->write_cache;
    }
    for (unsigned i = 0; i < XFORM_WINDOW; i++)
        x->piece[i].x = x;
    bio->xform = x;
    if (kind == XFORM_BYTES && bio->op == BIO_WRITE_ZEROES)
        zero_inside(x);
    if (!x->busy)
        pump(x);
}

/* Blocks covered in part are read and written, as for a write: without a whole block inside,
 * zeroing is never the faster way. */
static bool never_fast(const struct bio *bio)
{
    uint64_t from, to;
    if (bio->op != BIO_WRITE_ZEROES || !(bio->flags & BIO_FAST_ZERO))
        return false;
    whole_blocks(bio, &from, &to);
    return from == to;
}

void xform_start(struct bio *bio)
{
    int rc = never_fast(bio) ? -EOPNOTSUPP : trivial(bio);
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
        bio->core_flags & BIO_CORE_FORWARDED)
        return false;
    if (bio->credits || bio->core_flags & BIO_CORE_RESERVED)
        children_release(bio);
    bio->error = 0;
    start_kind(bio, XFORM_ZERO);
    return true;
}
