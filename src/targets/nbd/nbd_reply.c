/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replies: queued as their bios complete, sent at the end of the turn, many by one sendmsg. A
 * header is made when it is sent; after a short send it is made again from the request, so nothing
 * of it is kept.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "targets/nbd/nbd_private.h"

static void send_all(void *arg)
{
    struct nbd_lane *lane = arg;
    struct list *l;
    while ((l = list_pop(&lane->flush))) {
        struct nbd_conn *c = list_entry(l, struct nbd_conn, flush_link);
        nbd_reply_send(c);
        nbd_conn_settle(c);
    }
}

/* ---- what a reply consists of */

static bool is_simple(const struct nbd_req *req)
{
    if (req->conn->limits.mode != NBD_MODE_STRUCTURED)
        return req->conn->limits.mode == NBD_MODE_SIMPLE;
    /* "MAY use either a simple reply or a structured reply to all other requests"; "SHOULD prefer
     * sending errors via a structured reply" */
    return !req->error && req->wire.type != NBD_CMD_READ && req->wire.type != NBD_CMD_BLOCK_STATUS;
}

static unsigned chunk_count(const struct nbd_req *req)
{
    return req->map && req->wire.type == NBD_CMD_READ && !req->error ? req->map->count : 1;
}

/* "Structured reply chunk message", or its extended form; `len` bytes of payload follow. */
static void put_chunk(struct wr *w, const struct nbd_req *req, enum nbd_reply_type type, bool last,
                      uint64_t len)
{
    bool extended = req->conn->limits.mode == NBD_MODE_EXTENDED;
    wr_be32(w, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
    wr_be16(w, last ? NBD_REPLY_FLAG_DONE : 0);
    wr_be16(w, type);
    wr_be64(w, req->wire.cookie);
    if (extended)
        wr_be64(w, req->wire.offset);
    wr_be(w, len, extended ? 8 : 4);
}

static void put_error(struct wr *w, const struct nbd_req *req)
{
    const char *text = nbd_error_text((enum nbd_error)req->error);
    size_t len = strlen(text);
    const struct nbd_request *q = &req->wire;
    bool at = q->type != NBD_CMD_FLUSH && req->bad_offset >= q->offset &&
              req->bad_offset < q->offset + q->length; /* also false for BIO_NO_OFFSET */
    put_chunk(w, req, at ? NBD_REPLY_TYPE_ERROR_OFFSET : NBD_REPLY_TYPE_ERROR, true,
              6 + len + (at ? 8 : 0));
    wr_be32(w, req->error);
    wr_be16(w, len);
    wr_copy(w, text, len);
    if (at)
        wr_be64(w, req->bad_offset);
}

static struct iovec put_status(struct wr *w, const struct nbd_req *req)
{
    bool wide = req->conn->limits.mode == NBD_MODE_EXTENDED;
    unsigned count = req->map->count;
    size_t len = count * (wide ? 16u : 8u);
    put_chunk(w, req, wide ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS, true,
              len + (wide ? 8 : 4));
    wr_be32(w, NBD_CONTEXT_ALLOCATION_ID);
    if (wide)
        wr_be32(w, count);
    return (struct iovec){req->map->list, len};
}

/* A piece of a READ; without a map it is all data. */
static struct iovec put_read(struct wr *w, const struct nbd_req *req, unsigned i)
{
    struct extent piece = {.length = req->wire.length};
    uint64_t at = 0;
    for (unsigned j = 0; req->map && j <= i; j++) {
        at += j ? piece.length : 0;
        piece = req->map->list[j];
    }
    bool last = i + 1 == chunk_count(req);
    if (piece.flags) {
        put_chunk(w, req, NBD_REPLY_TYPE_OFFSET_HOLE, last, 12);
        wr_be64(w, req->wire.offset + at);
        wr_be32(w, piece.length);
        return (struct iovec){NULL, 0};
    }
    put_chunk(w, req, NBD_REPLY_TYPE_OFFSET_DATA, last, piece.length + 8);
    wr_be64(w, req->wire.offset + at);
    return (struct iovec){(uint8_t *)req->iov.iov_base + at, piece.length};
}

/* Writes the header of piece i of a reply, at most NBD_HEAD_MAX bytes; returns its data. */
static struct iovec put_piece(const struct nbd_req *req, unsigned i, uint8_t *head,
                              size_t *head_len_r)
{
    struct iovec data = {NULL, 0};
    struct wr w = wr_make(head, NBD_HEAD_MAX);
    if (is_simple(req)) { /* "Simple reply message" */
        wr_be32(&w, NBD_SIMPLE_REPLY_MAGIC);
        wr_be32(&w, req->error);
        wr_be64(&w, req->wire.cookie);
        if (req->wire.type == NBD_CMD_READ && !req->error)
            data = req->iov;
    } else if (req->error) {
        put_error(&w, req);
    } else if (req->wire.type == NBD_CMD_READ) {
        data = put_read(&w, req, i);
    } else if (req->wire.type == NBD_CMD_BLOCK_STATUS) {
        data = put_status(&w, req);
    } else {
        put_chunk(&w, req, NBD_REPLY_TYPE_NONE, true, 0);
    }
    assert(wr_ok(&w));
    *head_len_r = w.pos;
    return data;
}

static uint32_t reply_len(const struct nbd_req *req)
{
    uint8_t head[NBD_HEAD_MAX];
    size_t head_len, sum = 0;
    if (is_simple(req))
        return NBD_SIMPLE_REPLY_SIZE +
               (req->wire.type == NBD_CMD_READ && !req->error ? (uint32_t)req->wire.length : 0);
    for (unsigned i = 0; i < chunk_count(req); i++) {
        sum += put_piece(req, i, head, &head_len).iov_len;
        sum += head_len;
    }
    return (uint32_t)sum;
}

/* ---- the queue */

void nbd_reply_queue(struct nbd_req *req, enum nbd_error error)
{
    struct nbd_conn *c = req->conn;
    struct nbd_lane *lane = c->lane;
    req->error = error;
    if (error) {
        nbd_req_unhold(req);
        iobuf_put(&req->buf);
    }
    req->reply_len = reply_len(req);
    req->next = NULL;
    req->times.done = reactor_now();
    *c->replies_end = req;
    c->replies_end = &req->next;
    if (c->watching & FD_WRITE || !list_empty(&c->flush_link))
        return; /* goes out with what waits already */
    list_add_tail(&lane->flush, &c->flush_link);
    if (!reactor_defer_pending(&lane->hook))
        reactor_at_turn_end(&lane->hook, send_all, lane);
}

/* Adds `len` bytes at p, less the first *skip; neighbours in memory become one entry. */
static unsigned add_iov(struct iovec *iov, unsigned n, uint8_t *p, size_t len, size_t *skip)
{
    size_t cut = *skip < len ? *skip : len;
    *skip -= cut;
    len -= cut;
    if (!len)
        return n;
    p += cut;
    if (n && (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == p) {
        iov[n - 1].iov_len += len;
        return n;
    }
    iov[n] = (struct iovec){p, len};
    return n + 1;
}

/* What goes out by one call. */
struct gathering {
    struct nbd_lane *lane;
    unsigned iovs;
    size_t heads; /* bytes */
    size_t skip;  /* bytes of the first reply that are out already */
    size_t total;
};

/* Adds a reply, as much of it as there is room for; false: there was not enough. */
static bool add_reply(struct gathering *g, const struct nbd_req *req)
{
    size_t head_len;
    for (unsigned i = 0, n = chunk_count(req); i < n; i++) {
        if (g->heads + NBD_HEAD_MAX > NBD_SEND_HEADS || g->iovs + 2 > NBD_SEND_IOV)
            return false;
        uint8_t *head = g->lane->heads + g->heads;
        struct iovec data = put_piece(req, i, head, &head_len);
        g->heads += head_len;
        g->iovs = add_iov(g->lane->iov, g->iovs, head, head_len, &g->skip);
        g->iovs = add_iov(g->lane->iov, g->iovs, data.iov_base, data.iov_len, &g->skip);
        g->total += head_len + data.iov_len;
    }
    return true;
}

static unsigned gather(struct nbd_conn *c, size_t *total_r)
{
    struct gathering g = {.lane = c->lane, .skip = c->sent};
    unsigned replies = 0;
    struct nbd_req *req = c->replies;
    while (req && replies++ < NBD_SEND_REPLIES && add_reply(&g, req))
        req = req->next;
    *total_r = g.total - c->sent;
    return g.iovs;
}

static void drop_first(struct nbd_conn *c)
{
    struct nbd_req *req = c->replies;
    c->replies = req->next;
    if (!c->replies)
        c->replies_end = &c->replies;
    nbd_req_free(req);
}

static void count(const struct nbd_req *req, uint64_t sent)
{
    const struct nbd_request *q = &req->wire;
    enum bio_op op = nbd_bio_op(q->type);
    if (op == BIO_OP_COUNT)
        return; /* the client may name any type: what is no command is not counted */
    stages_count(&req->conn->export->stages, &(struct stage_request){
                                                 .times = &req->times,
                                                 .sent = sent,
                                                 .op = op,
                                                 .offset = q->offset,
                                                 .length = q->length,
                                                 .failed = req->error != NBD_OK,
                                                 .client = req->conn->peer,
                                             });
}

static void sent_bytes(struct nbd_conn *c, size_t n)
{
    c->sent += n;
    c->progress_ns = clock_ns(); /* once a sendmsg: it is what takes the time */
    while (c->replies && c->sent >= c->replies->reply_len) {
        c->sent -= c->replies->reply_len;
        count(c->replies, c->progress_ns);
        drop_first(c);
    }
}

/* TLS wants one piece; what does not go out now comes again, and then must be the same: it is, for
 * it is made from the same queue. */
static ssize_t send_tls(struct nbd_conn *c, unsigned n)
{
    struct nbd_lane *lane = c->lane;
    size_t len = 0;
    lane->clear = lane->clear ? lane->clear : xcalloc(1, NBD_TLS_CHUNK);
    for (unsigned i = 0; i < n && len < NBD_TLS_CHUNK; i++) {
        size_t part = lane->iov[i].iov_len;
        part = part < NBD_TLS_CHUNK - len ? part : NBD_TLS_CHUNK - len;
        memcpy(lane->clear + len, lane->iov[i].iov_base, part);
        len += part;
    }
    return tls_write(c->tls, lane->clear, len);
}

void nbd_reply_send(struct nbd_conn *c)
{
    bool full = false;
    while (c->replies && !full) {
        size_t total;
        struct msghdr msg = {.msg_iovlen = gather(c, &total)};
        msg.msg_iov = c->lane->iov;
        if (c->tls && total > NBD_TLS_CHUNK)
            total = NBD_TLS_CHUNK;
        ssize_t n = c->tls ? send_tls(c, (unsigned)msg.msg_iovlen)
                           : sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            nbd_conn_close(c, errno == EPIPE || errno == ECONNRESET ? NULL : strerror(errno));
            return;
        }
        full = n < 0 || (size_t)n < total;
        if (n > 0)
            sent_bytes(c, (size_t)n);
    }
    nbd_conn_watch(c, (c->watching & FD_READ) | (full ? FD_WRITE : 0u));
    if (c->blocked && list_empty(&c->wait_link))
        nbd_conn_resume(c);
}

void nbd_reply_drop_all(struct nbd_conn *c)
{
    while (c->replies)
        drop_first(c);
    c->sent = 0;
}
