/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replies: queued as their bios complete, sent at the end of the turn, many by one sendmsg. A
 * header is made when it is sent; after a short send it is made again from the request, so nothing
 * of it is kept.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

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

void nbd_reply_queue(struct nbd_req *req, enum nbd_error error)
{
    struct nbd_conn *c = req->conn;
    struct nbd_lane *lane = c->lane;
    req->error = error;
    if (error) {
        nbd_req_unhold(req);
        iobuf_put(&req->buf);
    }
    req->next = NULL;
    *c->replies_end = req;
    c->replies_end = &req->next;
    if (c->watching & FD_WRITE || !list_empty(&c->flush_link))
        return; /* goes out with what waits already */
    list_add_tail(&lane->flush, &c->flush_link);
    if (!reactor_defer_pending(&lane->hook))
        reactor_at_turn_end(&lane->hook, send_all, lane);
}

static size_t data_size(const struct nbd_req *req)
{
    return req->wire.type == NBD_CMD_READ && !req->error ? req->wire.length : 0;
}

static size_t reply_size(const struct nbd_req *req)
{
    return NBD_SIMPLE_REPLY_SIZE + data_size(req);
}

/* "Simple reply message" */
static void write_header(const struct nbd_req *req, uint8_t *head)
{
    struct wr w = wr_make(head, NBD_SIMPLE_REPLY_SIZE);
    wr_be32(&w, NBD_SIMPLE_REPLY_MAGIC);
    wr_be32(&w, req->error);
    wr_be64(&w, req->wire.cookie);
}

/* Adds `len` bytes at p, less the first *skip; neighbours in memory become one entry. */
static unsigned add_iov(struct iovec *iov, unsigned n, uint8_t *p, size_t len, size_t *skip)
{
    size_t cut = *skip < len ? *skip : len;
    *skip -= cut;
    p += cut;
    len -= cut;
    if (!len)
        return n;
    if (n && (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == p) {
        iov[n - 1].iov_len += len;
        return n;
    }
    iov[n] = (struct iovec){p, len};
    return n + 1;
}

static unsigned gather(struct nbd_conn *c, size_t *total_r)
{
    struct nbd_lane *lane = c->lane;
    unsigned n = 0, replies = 0;
    size_t skip = c->sent;
    *total_r = 0;
    for (struct nbd_req *req = c->replies; req && replies < NBD_SEND_REPLIES; req = req->next) {
        uint8_t *head = lane->heads[replies++];
        write_header(req, head);
        n = add_iov(lane->iov, n, head, NBD_SIMPLE_REPLY_SIZE, &skip);
        if (data_size(req))
            n = add_iov(lane->iov, n, req->buf->data, data_size(req), &skip);
        *total_r += reply_size(req);
    }
    *total_r -= c->sent;
    return n;
}

static void drop_first(struct nbd_conn *c)
{
    struct nbd_req *req = c->replies;
    c->replies = req->next;
    if (!c->replies)
        c->replies_end = &c->replies;
    nbd_req_free(req);
}

static void sent_bytes(struct nbd_conn *c, size_t n)
{
    c->sent += n;
    c->progress_ns = reactor_now();
    while (c->replies && c->sent >= reply_size(c->replies)) {
        c->sent -= reply_size(c->replies);
        drop_first(c);
    }
}

void nbd_reply_send(struct nbd_conn *c)
{
    bool full = false;
    while (c->replies && !full) {
        size_t total;
        struct msghdr msg = {.msg_iovlen = gather(c, &total)};
        msg.msg_iov = c->lane->iov;
        ssize_t n = sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
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
