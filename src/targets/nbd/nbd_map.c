/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where holes are: for BLOCK_STATUS, and for READs, whose holes are told rather than sent. That a
 * place has data may be remembered, for it does no harm when it is not true any more; that a place
 * has none is asked for each time.
 */
#include <errno.h>
#include <stdlib.h>

#include "targets/nbd/nbd_private.h"

static const uint32_t whole = EXTENT_HOLE | EXTENT_ZERO;

bool nbd_map_wanted(const struct nbd_req *req)
{
    struct nbd_conn *c = req->conn;
    const struct nbd_request *q = &req->wire;
    if (c->limits.mode < NBD_MODE_STRUCTURED || q->length < NBD_HOLE_MIN ||
        q->flags & NBD_CMD_FLAG_DF)
        return false;
    if (q->offset >= c->data_from && q->offset + q->length <= c->data_to)
        return false;
    if (c->map_wait) {
        c->map_wait--;
        return false;
    }
    return true;
}

static uint64_t range_to_ask(const struct nbd_req *req)
{
    const struct nbd_request *q = &req->wire;
    uint64_t left = req->conn->limits.size - q->offset;
    if (q->type != NBD_CMD_READ)
        return q->length;
    return left < NBD_HOLE_AHEAD ? left : NBD_HOLE_AHEAD;
}

int nbd_map_ask(struct nbd_req *req, bio_done_fn done)
{
    struct nbd_conn *c = req->conn;
    unsigned max = req->wire.type == NBD_CMD_READ ? NBD_READ_EXTENTS : NBD_STATUS_EXTENTS;
    req->map = malloc(sizeof *req->map + max * sizeof(struct extent));
    if (!req->map)
        return -ENOMEM;
    req->map->x = (struct bio_extents){.list = req->map->list, .max = max};
    bio_init(&req->bio, c->desc, BIO_EXTENTS, req->wire.offset, range_to_ask(req), done, req);
    req->bio.extents = &req->map->x;
    req->bio.nexus = c->nexus;
    relaxed_inc(&c->inflight, 1);
    bio_submit(&req->bio);
    return 0;
}

/* Joins neighbours that differ in no flag of `mask`, and ends with `length`. Returns the sum. */
static uint64_t tidy(struct bio_extents *x, uint64_t length, uint32_t mask)
{
    unsigned n = 0;
    uint64_t sum = 0;
    for (unsigned i = 0; i < x->count && sum < length; i++) {
        struct extent e = x->list[i];
        e.flags &= mask;
        if (e.length > length - sum)
            e.length = length - sum;
        sum += e.length;
        if (n && x->list[n - 1].flags == e.flags)
            x->list[n - 1].length += e.length;
        else if (e.length)
            x->list[n++] = e;
    }
    x->count = n;
    return sum;
}

/* Nothing but data, as far as the range goes: for how far beyond it? */
static void note_data(struct nbd_conn *c, const struct nbd_req *req)
{
    c->data_from = req->wire.offset;
    c->data_to = req->wire.offset + req->map->list[0].length;
    c->map_pause = c->map_pause ? c->map_pause * 2 : 1;
    if (c->map_pause > NBD_HOLE_PAUSE)
        c->map_pause = NBD_HOLE_PAUSE;
    c->map_wait = c->map_pause;
}

static void forget(struct nbd_req *req)
{
    free(req->map);
    req->map = NULL;
}

bool nbd_map_read(struct nbd_req *req, int error)
{
    struct nbd_conn *c = req->conn;
    struct bio_extents *x = &req->map->x;
    uint64_t length = req->wire.length;
    if (!error)
        tidy(x, UINT64_MAX, EXTENT_ZERO);
    if (error || !x->count || (!x->list[0].flags && x->list[0].length >= length)) {
        if (!error && x->count)
            note_data(c, req);
        forget(req);
        return false;
    }
    c->map_pause = c->map_wait = 0;
    uint64_t known = tidy(x, length, EXTENT_ZERO);
    if (known < length && x->list[x->count - 1].flags && x->count < x->max)
        x->list[x->count++] = (struct extent){length - known, 0};
    else if (known < length) { /* what is not known is read */
        x->list[x->count - 1].length += length - known;
        x->list[x->count - 1].flags = 0;
    }
    return x->count == 1 && x->list[0].flags;
}

void nbd_map_status(struct nbd_req *req)
{
    struct bio_extents *x = &req->map->x;
    bool wide = req->conn->limits.mode == NBD_MODE_EXTENDED;
    tidy(x, req->wire.length, whole);
    if (req->wire.flags & NBD_CMD_FLAG_REQ_ONE)
        x->count = 1;
    /* In place: what the wire wants is never longer than what it is made of. */
    _Static_assert(sizeof(struct extent) >= 16, "a 64-bit descriptor fits over an extent");
    struct wr w = wr_make(x->list, x->count * (wide ? 16u : 8u));
    for (unsigned i = 0; i < x->count; i++) {
        struct extent e = x->list[i];
        uint64_t state = (e.flags & EXTENT_HOLE ? NBD_STATE_HOLE : 0u) |
                         (e.flags & EXTENT_ZERO ? NBD_STATE_ZERO : 0u);
        wr_be(&w, e.length, wide ? 8 : 4);
        wr_be(&w, state, wide ? 8 : 4);
    }
}
