/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where holes are: for BLOCK_STATUS, and for READs, whose holes are told rather than sent. That a
 * place has data may be remembered, for it does no harm when it is not true any more; that a place
 * has none is asked for each time.
 */
#include <errno.h>
#include <stdlib.h>

#include "targets/nbd/nbd_private.h"

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

static void ask_the_rest(struct nbd_req *req, bio_done_fn done)
{
    struct nbd_conn *c = req->conn;
    struct nbd_map *m = req->map;
    m->asks++;
    m->x = (struct bio_extents){.list = m->list + m->count, .max = m->max - m->count};
    bio_init(&req->bio, c->desc, BIO_EXTENTS, req->wire.offset + m->known,
             range_to_ask(req) - m->known, done, req);
    req->bio.extents = &m->x;
    req->bio.nexus = c->nexus;
    relaxed_inc(&c->inflight, 1);
    bio_submit(&req->bio);
}

static unsigned most_extents(const struct nbd_req *req)
{
    if (req->wire.type == NBD_CMD_READ)
        return NBD_READ_EXTENTS;
    /* The second tells that the first has ended. */
    return req->wire.flags & NBD_CMD_FLAG_REQ_ONE ? 2 : NBD_STATUS_EXTENTS;
}

int nbd_map_ask(struct nbd_req *req, bio_done_fn done)
{
    unsigned max = most_extents(req);
    struct nbd_map *m = malloc(sizeof *m + max * sizeof(struct extent));
    if (!m)
        return -ENOMEM;
    *m = (struct nbd_map){.max = max};
    req->map = m;
    ask_the_rest(req, done);
    return 0;
}

/* Joins neighbours of the same kind, and ends with `length`. */
static void tidy(struct nbd_map *m, unsigned count, uint64_t length)
{
    unsigned n = 0;
    m->known = 0;
    for (unsigned i = 0; i < count && m->known < length; i++) {
        struct extent e = m->list[i];
        if (e.length > length - m->known)
            e.length = length - m->known;
        m->known += e.length;
        if (n && m->list[n - 1].flags == e.flags)
            m->list[n - 1].length += e.length;
        else if (e.length)
            m->list[n++] = e;
    }
    m->count = n;
}

bool nbd_map_more(struct nbd_req *req)
{
    struct nbd_map *m = req->map;
    bool read = req->wire.type == NBD_CMD_READ;
    uint64_t before = m->known;
    for (unsigned i = 0; read && i < m->x.count; i++)
        m->x.list[i].flags &= EXTENT_ZERO; /* what reads as zeroes need not be a hole */
    tidy(m, m->count + m->x.count, range_to_ask(req));
    if (m->known >= req->wire.length || m->known == before || m->count == m->max ||
        m->asks >= (read ? NBD_READ_ASKS : NBD_STATUS_ASKS) ||
        (req->wire.flags & NBD_CMD_FLAG_REQ_ONE && m->count > 1))
        return false;
    ask_the_rest(req, req->bio.done);
    return true;
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
    struct nbd_map *m = req->map;
    uint64_t length = req->wire.length;
    if (error || !m->count || (!m->list[0].flags && m->list[0].length >= length)) {
        if (!error && m->count)
            note_data(c, req);
        forget(req);
        return false;
    }
    c->map_pause = c->map_wait = 0;
    tidy(m, m->count, length);
    if (m->known < length && m->list[m->count - 1].flags && m->count < m->max) {
        m->list[m->count++] = (struct extent){length - m->known, 0};
    } else if (m->known < length) { /* what is not known is read */
        m->list[m->count - 1].length += length - m->known;
        m->list[m->count - 1].flags = 0;
    }
    return m->count == 1 && m->list[0].flags;
}

void nbd_map_status(struct nbd_req *req)
{
    struct nbd_map *m = req->map;
    bool wide = req->conn->limits.mode == NBD_MODE_EXTENDED;
    tidy(m, m->count, req->wire.length);
    if (req->wire.flags & NBD_CMD_FLAG_REQ_ONE)
        m->count = 1;
    /* In place: what the wire wants is never longer than what it is made of. */
    _Static_assert(sizeof(struct extent) >= 16, "a 64-bit descriptor fits over an extent");
    struct wr w = wr_make(m->list, m->count * (wide ? 16u : 8u));
    for (unsigned i = 0; i < m->count; i++) {
        struct extent e = m->list[i];
        uint64_t state = (e.flags & EXTENT_HOLE ? NBD_STATE_HOLE : 0u) |
                         (e.flags & EXTENT_ZERO ? NBD_STATE_ZERO : 0u);
        wr_be(&w, e.length, wide ? 8 : 4);
        wr_be(&w, state, wide ? 8 : 4);
    }
}
