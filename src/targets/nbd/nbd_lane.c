/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the connections of one reactor share: requests, buffers, and the right to hold memory. */
#include <assert.h>
#include <limits.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "base/mem.h"
#include "targets/nbd/nbd_private.h"

static struct nbd_lane lanes[REACTOR_MAX];

enum { POOL_MAX = 2048, WATCHDOG_US = 250000, WAKE_TRIES = 8 };

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

void nbd_lane_look_for_gone(void *export)
{
    if (reactor_self_index() >= reactor_count())
        return; /* main */
    struct nbd_lane *lane = &lanes[reactor_self_index()];
    struct nbd_conn *c;
    list_for_each (c, &lane->conns, lane_link) {
        if (c->export == export)
            nbd_conn_look(c);
    }
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

/* However many never read their replies, together they leave something to those who do: what one
 * holds must be within a part of what nobody holds, so that who comes gets less the less there is,
 * and never waits for them. `taken`: what all hold. */
static uint64_t fair_part(const struct nbd_lane *lane, uint64_t taken)
{
    return taken < lane->mem_max ? (lane->mem_max - taken) / NBD_MEM_PART : 0;
}

static bool is_fair(const struct nbd_conn *c, uint32_t len, uint64_t taken)
{
    uint64_t want = c->mem + len;
    return want <= NBD_MEM_SHARE || (want <= NBD_MEM_CONN && want <= fair_part(c->lane, taken));
}

/* The one request of a connection may be longer than that, but all of these together leave a
 * quarter of the memory alone. */
static bool fits_alone(const struct nbd_conn *c, uint32_t len, uint64_t taken)
{
    uint64_t most = c->lane->mem_max - c->lane->mem_max / 4;
    if (most < NBD_MAX_PAYLOAD)
        most = c->lane->mem_max;
    return !c->mem && taken + len <= most;
}

bool nbd_mem_fits(const struct nbd_conn *c, uint32_t len)
{
    const struct nbd_lane *lane = c->lane;
    bool in_turn = list_empty(&lane->waiters) || !list_empty(&c->wait_link);
    if (is_fair(c, len, lane->mem))
        return in_turn || !lane->barred || c->mem + len <= NBD_MEM_SHARE;
    return in_turn && fits_alone(c, len, lane->mem);
}

/* Resumes those there is room for. Who asks for little is served before one ahead of him for whom
 * there is none, until that one has waited too long; `tries` such are looked at. */
static void wake(struct nbd_lane *lane, unsigned tries)
{
    uint64_t taken = lane->mem;
    bool in_turn = true;
    struct nbd_conn *c;
    list_for_each (c, &lane->waiters, wait_link) {
        if (is_fair(c, c->need, taken) || (in_turn && fits_alone(c, c->need, taken))) {
            taken += c->need;
            nbd_conn_resume(c);
            continue;
        }
        in_turn = false;
        if (lane->barred || !--tries)
            break;
    }
}

void nbd_lane_wake(struct nbd_lane *lane)
{
    wake(lane, WAKE_TRIES);
}

/* A socket that was full takes more only when much of it is empty: for seconds, where the client or
 * the way to it is slow. Meanwhile only the kernel sees that bytes move. */
static void look_into_socket(struct nbd_conn *c, uint64_t now)
{
    int left;
    if (!c->replies || ioctl(c->fd, SIOCOUTQ, &left))
        return;
    if (c->out_left && left != c->out_left)
        c->progress_ns = now;
    c->out_left = left;
}

/* Holds memory and has moved no byte for so long. That is its own business (a paused machine may
 * sleep for hours) until somebody else needs the memory. */
static bool is_stalled(const struct nbd_conn *c, uint64_t now)
{
    return c->mem && (c->replies || c->load) && now > c->progress_ns + c->lane->stall_ns;
}

/* All at once, so that who waits has waited for one of them only. Those within their share go last:
 * there must be very many of them to be in anybody's way. */
static void drop_stalled(struct nbd_lane *lane, uint64_t now)
{
    struct nbd_conn *c;
    unsigned dropped = 0;
    for (unsigned pass = 0; pass < 2 && !dropped; pass++) {
        list_for_each (c, &lane->conns, lane_link) {
            if (!is_stalled(c, now) || (!pass && c->mem <= NBD_MEM_SHARE))
                continue;
            nbd_conn_close(c, "stalled while it held memory that others wait for");
            dropped++;
        }
    }
}

/* The one who waits first has waited for a while, and there would be room for it but for those who
 * come and go: then nobody is served before it any more. What it cannot have before a slow client,
 * a slow device or one that hangs lets go, holds back nobody else. */
static bool must_bar(const struct nbd_lane *lane, uint64_t now)
{
    const struct nbd_conn *first = list_first(&lane->waiters, struct nbd_conn, wait_link), *c;
    uint64_t stuck = 0;
    if (!first || now < first->blocked_ns + WATCHDOG_US * 1000ull)
        return false;
    list_for_each (c, &lane->conns, lane_link)
        stuck += now > c->gave_ns + WATCHDOG_US * 1000ull ? c->mem : 0;
    return is_fair(first, first->need, stuck) || fits_alone(first, first->need, stuck);
}

static void watch_waiters(void *arg)
{
    struct nbd_lane *lane = arg;
    uint64_t now = clock_ns();
    lane->watchdog_armed = !list_empty(&lane->waiters);
    lane->barred = must_bar(lane, now);
    if (!lane->watchdog_armed)
        return;
    struct nbd_conn *c;
    list_for_each (c, &lane->conns, lane_link)
        look_into_socket(c, now);
    rtimer_arm(&lane->watchdog, WATCHDOG_US, watch_waiters, lane);
    wake(lane, UINT_MAX);
    drop_stalled(lane, now);
}

void nbd_mem_wait(struct nbd_conn *c, uint32_t len)
{
    c->need = len;
    if (list_empty(&c->wait_link))
        list_add_tail(&c->lane->waiters, &c->wait_link);
    if (!c->lane->watchdog_armed)
        rtimer_arm(&c->lane->watchdog, WATCHDOG_US, watch_waiters, c->lane);
    c->lane->watchdog_armed = true;
}

void nbd_req_hold(struct nbd_req *req, uint32_t len)
{
    if (!req->conn->mem)
        req->conn->gave_ns = reactor_now();
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
    req->conn->gave_ns = reactor_now();
    lane->mem -= req->held;
    req->held = 0;
    if (!list_empty(&lane->waiters))
        nbd_lane_wake(lane);
}
