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

static struct conn_buffers *buffers[REACTOR_MAX]; /* each is touched by its reactor only */

struct conn_buffers *conn_buffers(void)
{
    struct conn_buffers **b = &buffers[reactor_self_index()];
    if (!*b)
        *b = xcalloc(1, sizeof **b);
    return *b;
}

void conn_buffers_free(void)
{
    for (unsigned i = 0; i < REACTOR_MAX; i++) {
        free(buffers[i]);
        buffers[i] = NULL;
    }
}

void conn_rx_to(struct iscsi_conn *c, uint8_t *dst, size_t room)
{
    c->rx.place = PLACE_THERE;
    c->rx.dst = dst;
    c->rx.take = c->rx.pdu.data_len < room ? c->rx.pdu.data_len : (uint32_t)room;
}

void conn_rx_skip(struct iscsi_conn *c)
{
    c->rx.place = PLACE_SKIP;
    c->rx.take = 0;
}

void conn_rx_abandon(struct iscsi_conn *c)
{
    struct conn_rx *rx = &c->rx;
    if (rx->state != RX_DATA || rx->place != PLACE_THERE)
        return;
    rx->place = PLACE_SKIP;
    rx->skip += rx->take;
    rx->take = 0;
    rx->dst = NULL;
}

static size_t head_len(const struct iscsi_conn *c, const uint8_t *head)
{
    return ISCSI_BHS + head[4] * 4u + (c->header_digest ? ISCSI_DIGEST : 0);
}

static size_t gather(struct conn_rx *rx, size_t want, const uint8_t *p, size_t len)
{
    size_t n = want - rx->have < len ? want - rx->have : len;
    memcpy(rx->head + rx->have, p, n);
    rx->have += (unsigned)n;
    return n;
}

/* The whole header, in place when the bytes hold all of it; NULL when some are still to come. */
static const uint8_t *take_head(struct iscsi_conn *c, const uint8_t *p, size_t len, size_t *used_r)
{
    struct conn_rx *rx = &c->rx;
    if (!rx->have && len >= ISCSI_BHS && len >= head_len(c, p)) {
        *used_r = head_len(c, p);
        return p;
    }
    *used_r = 0;
    if (rx->have < ISCSI_BHS)
        *used_r = gather(rx, ISCSI_BHS, p, len);
    if (rx->have < ISCSI_BHS)
        return NULL;
    size_t want = head_len(c, rx->head);
    *used_r += gather(rx, want, p + *used_r, len - *used_r);
    return rx->have == want ? rx->head : NULL;
}

static bool digest_ok(const uint8_t *wire, uint32_t crc)
{
    struct rd r = rd_make(wire, ISCSI_DIGEST);
    return rd_le32(&r) == crc; /* least significant byte first: RFC 7143 appendix A.4's examples */
}

/* A header stands; asks the owner where its data goes. */
static void begin(struct iscsi_conn *c, const uint8_t *head)
{
    struct conn_rx *rx = &c->rx;
    iscsi_pdu_parse(&rx->pdu, head);
    size_t len = ISCSI_BHS + (size_t)rx->pdu.ahs_len;
    if (c->header_digest && !digest_ok(head + len, crc32c(0, head, len))) {
        conn_lose(c, "header digest is wrong");
        return;
    }
    if (rx->pdu.data_len > c->max_recv) {
        conn_lose(c, "data segment is longer than MaxRecvDataSegmentLength");
        return;
    }
    rx->have = 0;
    rx->state = RX_DATA;
    rx->place = PLACE_COLLECT;
    rx->dst = NULL;
    rx->take = rx->pdu.data_len;
    rx->crc = 0;
    bool digest = c->data_digest && rx->pdu.data_len;
    rx->digest_len = digest ? ISCSI_DIGEST : 0;
    c->ops->begin(c, &rx->pdu, head + ISCSI_BHS);
    rx->pdu.cdb = NULL;
    rx->skip = rx->pdu.data_len - rx->take + iscsi_pad(rx->pdu.data_len);
}

static void finish(struct iscsi_conn *c, const uint8_t *data)
{
    struct conn_rx *rx = &c->rx;
    bool bad = c->data_digest && rx->pdu.data_len && !digest_ok(rx->digest, rx->crc);
    rx->state = RX_HEAD;
    if (!bad)
        c->ops->end(c, &rx->pdu, data);
    else if (c->ops->bad_data)
        c->ops->bad_data(c, &rx->pdu);
    else
        conn_lose(c, "data digest is wrong");
    if (rx->own) {
        free(rx->own);
        rx->own = NULL;
    }
}

static void crc_add(struct iscsi_conn *c, const uint8_t *p, size_t len)
{
    if (c->data_digest)
        c->rx.crc = crc32c(c->rx.crc, p, len);
}

/* The collected segment lies whole in the bytes: no copy. */
static size_t data_in_place(struct iscsi_conn *c, const uint8_t *p)
{
    struct conn_rx *rx = &c->rx;
    size_t n = rx->take + rx->skip;
    crc_add(c, p, n);
    memcpy(rx->digest, p + n, rx->digest_len);
    finish(c, rx->take ? p : NULL);
    return n + rx->digest_len;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t take_data(struct iscsi_conn *c, const uint8_t *p, size_t len)
{
    struct conn_rx *rx = &c->rx;
    if (rx->place == PLACE_COLLECT && !rx->own) {
        if (len >= rx->take + rx->skip + rx->digest_len)
            return data_in_place(c, p);
        rx->own = xcalloc(1, rx->take);
        rx->dst = rx->own;
    }
    size_t n = min_size(rx->take, len), used = n;
    if (n) {
        memcpy(rx->dst, p, n);
        crc_add(c, p, n);
        rx->dst += n;
        rx->take -= (uint32_t)n;
    }
    n = min_size(rx->skip, len - used);
    crc_add(c, p + used, n);
    rx->skip -= (uint32_t)n;
    used += n;
    if (rx->take || rx->skip)
        return used;
    n = min_size(rx->digest_len, len - used);
    memcpy(rx->digest + ISCSI_DIGEST - rx->digest_len, p + used, n);
    rx->digest_len -= (uint32_t)n;
    used += n;
    if (!rx->digest_len)
        finish(c, rx->own);
    return used;
}

/* Returns what was used: less than len only when the connection is held or closed. */
static size_t eat(struct iscsi_conn *c, const uint8_t *p, size_t len)
{
    size_t at = 0;
    while (!c->closed) {
        size_t used = 0;
        if (c->rx.state == RX_HEAD) {
            if (at == len || (c->hold && !c->rx.have))
                break;
            const uint8_t *head = take_head(c, p + at, len - at, &used);
            if (head)
                begin(c, head);
        } else {
            bool whole = !c->rx.take && !c->rx.skip && !c->rx.digest_len;
            if (at == len && !whole)
                break;
            used = take_data(c, p + at, len - at);
        }
        at += used;
    }
    return at;
}

static void keep(struct iscsi_conn *c, const uint8_t *p, size_t len)
{
    assert(!c->pending && len);
    c->pending = xcalloc(1, len);
    memcpy(c->pending, p, len);
    c->pending_len = len;
}

void conn_input(struct iscsi_conn *c, const uint8_t *p, size_t len)
{
    size_t used = eat(c, p, len);
    if (!c->closed && used < len)
        keep(c, p + used, len - used);
}

void conn_resume(void *arg)
{
    struct iscsi_conn *c = arg;
    if (c->closed || c->hold)
        return;
    uint8_t *p = c->pending;
    c->pending = NULL;
    if (p)
        conn_input(c, p, c->pending_len);
    free(p);
    if (!c->closed && !c->hold && c->watch)
        conn_watch_read(c, true);
}

/* Is large data still to come? It goes straight to its place; what follows it lands in the batch.
 */
static size_t direct_len(const struct conn_rx *rx)
{
    return rx->state == RX_DATA && rx->dst && rx->take >= DIRECT_MIN ? rx->take : 0;
}

static ssize_t receive(struct iscsi_conn *c, uint8_t *batch, size_t direct)
{
    if (!direct)
        return recv(c->fd, batch, c->batch_len, MSG_DONTWAIT);
    struct iovec iov[] = {{c->rx.dst, direct}, {batch, BATCH_MIN}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
    return recvmsg(c->fd, &msg, MSG_DONTWAIT);
}

/* Many small PDUs: more at a time. Large data: little, for what is in the batch is copied. */
static void adapt(struct iscsi_conn *c, size_t len)
{
    if (direct_len(&c->rx))
        c->batch_len = BATCH_MIN;
    else if (len == c->batch_len && len < BATCH_SIZE)
        c->batch_len *= 2;
}

static void data_arrived(struct iscsi_conn *c, size_t len)
{
    crc_add(c, c->rx.dst, len);
    c->rx.dst += len;
    c->rx.take -= (uint32_t)len;
}

void conn_readable(struct iscsi_conn *c)
{
    struct conn_buffers *b = conn_buffers();
    size_t direct = direct_len(&c->rx);
    ssize_t n = receive(c, b->batch, direct);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            conn_lose(c, strerror(errno));
        return;
    }
    if (!n) {
        conn_lose(c, "closed by the peer");
        return;
    }
    c->last_rx = reactor_now();
    size_t len = (size_t)n, there = min_size(direct, len);
    if (there)
        data_arrived(c, there);
    conn_input(c, b->batch, len - there);
    if (!c->closed)
        adapt(c, direct ? 0 : len);
}
