/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the connections of one reactor share: requests, buffers, and the right to hold memory. */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "targets/nbd/nbd_private.h"

static struct nbd_lane lanes[REACTOR_MAX];

enum { POOL_MAX = 2048, WATCHDOG_US = 1000000 };

/* ---- lanes and requests */

struct nbd_lane *nbd_lane_get(unsigned reactor)
{
    return &lanes[reactor];
}

void nbd_lane_init(unsigned reactor, uint64_t mem_max)
{
    struct nbd_lane *lane = &lanes[reactor];
    *lane = (struct nbd_lane){
        .index = reactor, .mem_max = mem_max, .stall_ns = NBD_STALL_S * 1000000000ull};
    lane->iov = xcalloc(NBD_SEND_IOV, sizeof *lane->iov);
    lane->heads = xcalloc(1, NBD_SEND_HEADS);
    list_init(&lane->conns);
    list_init(&lane->flush);
    list_init(&lane->waiters);
}

void nbd_lane_fini(void *unused)
{
    (void)unused;
    struct nbd_lane *lane = &lanes[reactor_self_index()];
    assert(list_empty(&lane->conns) && !lane->mem);
    while (lane->free_reqs) {
        struct nbd_req *req = lane->free_reqs;
        lane->free_reqs = req->next;
        free(req);
    }
    lane->free_count = 0;
    for (unsigned i = 0; i < NBD_BATCH_SLOTS; i++)
        iobuf_put(&lane->batch[i]);
    rtimer_free(&lane->watchdog);
    reactor_defer_cancel(&lane->hook);
    free(lane->clear);
    free(lane->heads);
    free(lane->iov);
    lane->clear = NULL;
    lane->heads = NULL;
    lane->iov = NULL;
}

struct nbd_req *nbd_req_new(struct nbd_conn *c)
{
    struct nbd_lane *lane = c->lane;
    struct nbd_req *req = lane->free_reqs;
    if (req) {
        lane->free_reqs = req->next;
        lane->free_count--;
    } else {
        req = calloc(1, sizeof *req);
        if (!req) {
            nbd_conn_close(c, "out of memory");
            return NULL;
        }
    }
    req->conn = c;
    req->buf = NULL;
    req->map = NULL;
    req->bad_offset = BIO_NO_OFFSET;
    req->next = NULL;
    req->held = 0;
    req->error = NBD_OK;
    req->times = (struct io_times){0};
    c->depth++;
    return req;
}

void nbd_req_free(struct nbd_req *req)
{
    struct nbd_lane *lane = req->conn->lane;
    nbd_req_unhold(req);
    iobuf_put(&req->buf);
    free(req->map);
    req->map = NULL;
    req->conn->depth--;
    if (lane->free_count >= POOL_MAX) {
        free(req);
        return;
    }
    req->next = lane->free_reqs;
    lane->free_reqs = req;
    lane->free_count++;
}

/* ---- memory */

bool nbd_mem_fits(const struct nbd_conn *c, uint32_t len)
{
    const struct nbd_lane *lane = c->lane;
    if (c->mem + len <= NBD_MEM_SHARE)
        return true;
    if (c->mem && c->mem + len > NBD_MEM_CONN)
        return false;
    return lane->mem + len <= lane->mem_max;
}

void nbd_lane_wake(struct nbd_lane *lane)
{
    uint64_t promised = 0;
    struct nbd_conn *c;
    list_for_each (c, &lane->waiters, wait_link) {
        if (lane->mem + promised + c->need > lane->mem_max)
            break;
        promised += c->need;
        nbd_conn_resume(c);
    }
}

/* Holds memory and moves no byte. That is its own business (a paused machine may sleep for hours)
 * until somebody else needs the memory. */
static bool is_stalled(const struct nbd_conn *c, uint64_t now)
{
    return (c->replies || c->load) && now > c->progress_ns + c->lane->stall_ns;
}

static bool somebody_is_starved(const struct nbd_lane *lane, uint64_t now)
{
    const struct nbd_conn *c;
    list_for_each (c, &lane->waiters, wait_link) {
        if (!is_stalled(c, now))
            return true;
    }
    return false;
}

static void drop_stalled(void *arg)
{
    struct nbd_lane *lane = arg;
    struct nbd_conn *c;
    uint64_t now = clock_ns();
    lane->watchdog_armed = !list_empty(&lane->waiters);
    if (!lane->watchdog_armed)
        return;
    rtimer_arm(&lane->watchdog, WATCHDOG_US, drop_stalled, lane);
    nbd_lane_wake(lane);
    if (!somebody_is_starved(lane, now))
        return;
    list_for_each (c, &lane->conns, lane_link) {
        if (is_stalled(c, now)) {
            nbd_conn_close(c, "stalled while it held memory that others wait for");
            return; /* one at a time: it may have been enough */
        }
    }
}

void nbd_mem_wait(struct nbd_conn *c, uint32_t len)
{
    c->need = len;
    if (list_empty(&c->wait_link))
        list_add_tail(&c->lane->waiters, &c->wait_link);
    if (!c->lane->watchdog_armed)
        rtimer_arm(&c->lane->watchdog, WATCHDOG_US, drop_stalled, c->lane);
    c->lane->watchdog_armed = true;
}

void nbd_req_hold(struct nbd_req *req, uint32_t len)
{
    req->held = len;
    req->conn->mem += len;
    req->conn->lane->mem += len;
}

void nbd_req_unhold(struct nbd_req *req)
{
    struct nbd_lane *lane = req->conn->lane;
    if (!req->held)
        return;
    req->conn->mem -= req->held;
    lane->mem -= req->held;
    req->held = 0;
    if (!list_empty(&lane->waiters))
        nbd_lane_wake(lane);
}
