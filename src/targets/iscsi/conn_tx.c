/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "targets/iscsi/conn_private.h"

void conn_queue(struct iscsi_conn *c, struct tx_item *item)
{
    assert(!c->closed);
    item->next = NULL;
    if (!c->tx_head)
        c->last_tx = reactor_now();
    *c->tx_tail = item;
    c->tx_tail = &item->next;
    /* While the socket is full its watch flushes; after a move conn_start does. */
    if (c->watch && !(c->events & FD_WRITE) && !reactor_defer_pending(&c->flush))
        reactor_at_turn_end(&c->flush, conn_flush, c);
}

static uint64_t total(const struct tx_pdu *p)
{
    return (uint64_t)p->head_len + p->data_len + p->tail_len;
}

static void put_digest(uint8_t *out, uint32_t crc)
{
    struct wr w = wr_make(out, ISCSI_DIGEST);
    wr_le32(&w, crc);
}

static uint32_t data_crc(const struct tx_pdu *p)
{
    uint32_t crc = 0;
    uint64_t skip = p->data_off, left = p->data_len;
    for (unsigned i = 0; i < p->datacnt && left; i++) {
        if (skip >= p->data[i].iov_len) {
            skip -= p->data[i].iov_len;
            continue;
        }
        size_t n = p->data[i].iov_len - skip;
        if (n > left)
            n = left;
        crc = crc32c(crc, (const uint8_t *)p->data[i].iov_base + skip, n);
        left -= n;
        skip = 0;
    }
    assert(!left);
    return crc;
}

static void build(struct iscsi_conn *c, struct tx_item *item, struct tx_pdu *p)
{
    p->item = item;
    p->off = item->off;
    p->sn = item->sn;
    p->last = true;
    p->plain = false;
    p->data_len = 0;
    p->data_off = 0;
    p->sent = 0;
    item->ops->build(c, item, p);
    p->head_len = ISCSI_BHS;
    if (c->header_digest && !p->plain) {
        put_digest(p->head + ISCSI_BHS, crc32c(0, p->head, ISCSI_BHS));
        p->head_len += ISCSI_DIGEST;
    }
    unsigned pad = iscsi_pad(p->data_len);
    p->tail_len = (uint8_t)pad;
    memset(p->tail, 0, pad);
    if (c->data_digest && p->data_len && !p->plain) {
        put_digest(p->tail + pad, crc32c(data_crc(p), p->tail, pad));
        p->tail_len += ISCSI_DIGEST;
    }
}

struct gather {
    struct iovec *iov;
    unsigned n;
    uint64_t skip, bytes;
};

/* False when the array is full. */
static bool add(struct gather *g, const void *p, size_t len)
{
    if (g->skip >= len) {
        g->skip -= len;
        return true;
    }
    if (g->n == TX_IOVS)
        return false;
    g->iov[g->n++] = (struct iovec){(char *)(uintptr_t)p + g->skip, len - g->skip};
    g->bytes += len - g->skip;
    g->skip = 0;
    return true;
}

static bool add_pdu(struct gather *g, const struct tx_pdu *p)
{
    g->skip = p->sent;
    if (!add(g, p->head, p->head_len))
        return false;
    uint64_t skip = p->data_off, left = p->data_len;
    for (unsigned i = 0; left; i++) {
        assert(i < p->datacnt);
        if (skip >= p->data[i].iov_len) {
            skip -= p->data[i].iov_len;
            continue;
        }
        size_t n = p->data[i].iov_len - skip;
        if (n > left)
            n = left;
        if (!add(g, (const char *)p->data[i].iov_base + skip, n))
            return false;
        left -= n;
        skip = 0;
    }
    return add(g, p->tail, p->tail_len);
}

/* Fills the batch from the queue; returns the number of PDUs. */
static unsigned collect(struct iscsi_conn *c, struct conn_buffers *b, struct gather *g)
{
    struct tx_item *item = c->tx_head;
    unsigned n = 0;
    bool room = true;
    if (c->part.item) {
        b->pdu[n] = c->part;
        c->part.item = NULL;
        room = add_pdu(g, &b->pdu[n]);
        if (b->pdu[n++].last)
            item = item->next;
    }
    while (item && n < TX_PDUS && room && g->bytes < TX_TURN_BYTES) {
        struct tx_pdu *p = &b->pdu[n];
        build(c, item, p);
        room = add_pdu(g, p);
        n++;
        if (p->last)
            item = item->next;
    }
    return n;
}

static void pop(struct iscsi_conn *c, struct tx_item *item)
{
    assert(c->tx_head == item);
    c->tx_head = item->next;
    if (!c->tx_head)
        c->tx_tail = &c->tx_head;
    item->ops->done(c, item, true);
}

/* `sent` bytes of the batch are out: ends what is complete, rolls back what was not begun. */
static void account(struct iscsi_conn *c, struct conn_buffers *b, unsigned n, uint64_t sent)
{
    unsigned keep = 0; /* PDUs that need no roll-back */
    for (; keep < n; keep++) {
        struct tx_pdu *p = &b->pdu[keep];
        uint64_t left = total(p) - p->sent;
        if (sent < left)
            break;
        sent -= left;
    }
    unsigned complete = keep;
    if (keep < n && (sent || b->pdu[keep].sent)) {
        b->pdu[keep].sent += sent;
        c->part = b->pdu[keep];
        keep++;
    }
    for (unsigned i = n; i-- > keep;) {
        b->pdu[i].item->off = b->pdu[i].off;
        b->pdu[i].item->sn = b->pdu[i].sn;
    }
    for (unsigned i = 0; i < complete && !c->closed; i++) {
        if (b->pdu[i].last)
            pop(c, b->pdu[i].item);
    }
}

void conn_flush(void *arg)
{
    struct iscsi_conn *c = arg;
    if (c->closed)
        return;
    if (c->tx_head) {
        struct conn_buffers *b = conn_buffers();
        struct gather g = {.iov = b->iov};
        unsigned n = collect(c, b, &g);
        struct msghdr msg = {.msg_iov = g.iov, .msg_iovlen = g.n};
        ssize_t sent = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
        int error = sent < 0 ? errno : 0;
        if (sent > 0)
            c->last_tx = clock_ns(); /* once a sendmsg: it is what takes the time */
        account(c, b, n, sent < 0 ? 0 : (uint64_t)sent);
        if (error && error != EAGAIN && error != EINTR) {
            conn_lose(c, strerror(error));
            return;
        }
    }
    if (c->closed)
        return;
    conn_watch_write(c, c->tx_head);
    if (c->hold & CONN_HOLD_BACKLOG && c->notes < NOTES_MAX / 2)
        conn_release(c, CONN_HOLD_BACKLOG);
}

/* ---- control replies */

struct note {
    struct tx_item item;
    struct iscsi_pdu pdu;
    void (*after)(struct iscsi_conn *c);
    bool plain;
    struct iovec iov;
    uint8_t data[];
};

static void note_build(struct iscsi_conn *c, struct tx_item *item, struct tx_pdu *p)
{
    (void)c;
    struct note *n = container_of(item, struct note, item);
    iscsi_pdu_build(&n->pdu, p->head);
    p->plain = n->plain;
    p->data = &n->iov;
    p->datacnt = 1;
    p->data_len = n->pdu.data_len;
}

static void note_done(struct iscsi_conn *c, struct tx_item *item, bool sent)
{
    struct note *n = container_of(item, struct note, item);
    void (*after)(struct iscsi_conn * c) = n->after;
    c->notes--;
    c->note_bytes -= n->pdu.data_len;
    free(n);
    if (sent && after)
        after(c);
}

static const struct tx_ops note_ops = {.build = note_build, .done = note_done};

void conn_note(struct iscsi_conn *c, struct iscsi_pdu *pdu, const void *data, size_t len,
               void (*after)(struct iscsi_conn *c))
{
    struct note *n = xcalloc(1, sizeof *n + len);
    n->item.ops = &note_ops;
    n->pdu = *pdu;
    n->pdu.data_len = (uint32_t)len;
    n->after = after;
    n->plain = !c->header_digest && !c->data_digest;
    n->iov = (struct iovec){n->data, len};
    if (len)
        memcpy(n->data, data, len);
    c->notes++;
    c->note_bytes += len;
    if (c->notes > NOTES_MAX || c->note_bytes > NOTE_BYTES_MAX)
        conn_hold(c, CONN_HOLD_BACKLOG);
    conn_queue(c, &n->item);
}
