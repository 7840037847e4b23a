/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transmission: bytes to requests to bios. One receive takes many requests into the lane's batch
 * buffer; a payload up to NBD_SMALL is used where it lies when the device takes any address, else
 * copied once; a longer one goes straight into its own buffer, with the batch buffer behind it.
 */
#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "targets/nbd/nbd_private.h"

/* May the request at the head begin now? If not, arranges for another try. */
static bool admit(struct nbd_conn *c, uint32_t data)
{
    if (c->turn_stamp != reactor_now()) { /* a new turn of the reactor */
        c->turn_stamp = reactor_now();
        c->turn_requests = 0;
        c->turn_bytes = 0;
    }
    if (c->depth >= NBD_DEPTH)
        return false; /* a reply that goes out resumes */
    if (c->turn_requests >= NBD_TURN_REQUESTS || c->turn_bytes >= NBD_TURN_BYTES) {
        nbd_conn_resume(c); /* next turn */
        return false;
    }
    if (data && !nbd_mem_fits(c, data)) {
        if (!c->mem)
            nbd_mem_wait(c, data);
        return false; /* else one of its own replies resumes it */
    }
    list_del(&c->wait_link);
    c->turn_requests++;
    c->turn_bytes += data;
    return true;
}

/* ---- requests to bios */

static void on_bio_done(struct bio *bio);

enum bio_op nbd_bio_op(unsigned type)
{
    switch (type) {
    case NBD_CMD_READ: return BIO_READ;
    case NBD_CMD_WRITE: return BIO_WRITE;
    case NBD_CMD_FLUSH: return BIO_FLUSH;
    case NBD_CMD_TRIM: return BIO_DISCARD;
    case NBD_CMD_CACHE: return BIO_PREFETCH;
    case NBD_CMD_WRITE_ZEROES: return BIO_WRITE_ZEROES;
    case NBD_CMD_BLOCK_STATUS: return BIO_EXTENTS;
    default: return BIO_OP_COUNT;
    }
}

static void submit(struct nbd_req *req)
{
    struct nbd_conn *c = req->conn;
    const struct nbd_request *q = &req->wire;
    bio_init(&req->bio, c->desc, nbd_bio_op(q->type), q->offset, q->length, on_bio_done, req);
    req->bio.nexus = c->nexus;
    if (q->type == NBD_CMD_WRITE || q->type == NBD_CMD_WRITE_ZEROES)
        req->bio.flags = (uint8_t)((q->flags & NBD_CMD_FLAG_FUA ? BIO_FUA : 0) |
                                   (q->flags & NBD_CMD_FLAG_NO_HOLE ? BIO_NO_UNMAP : 0) |
                                   (q->flags & NBD_CMD_FLAG_FAST_ZERO ? BIO_FAST_ZERO : 0));
    if (q->type == NBD_CMD_READ) {
        bio_data(&req->bio, &req->iov, 1);
        req->bio.buf = iobuf_ref(req->buf);
        if (!c->tls) /* a record that did not go out whole must come again as it was */
            req->bio.flags = BIO_BORROW;
    } else if (q->type == NBD_CMD_WRITE) {
        bio_data(&req->bio, &req->iov, 1);
        req->bio.buf = req->buf;
        req->buf = NULL;
    }
    relaxed_inc(&c->inflight, 1);
    bio_submit(&req->bio);
}

static void count_done(struct nbd_conn *c, const struct nbd_request *q)
{
    if (q->type == NBD_CMD_READ) {
        relaxed_inc(&c->reads, 1);
        relaxed_inc(&c->read_bytes, q->length);
    } else if (q->type == NBD_CMD_WRITE) {
        relaxed_inc(&c->writes, 1);
        relaxed_inc(&c->written_bytes, q->length);
    }
}

/* What a bio has ended for: false when nobody waits for it any more. */
static bool bio_ended(struct nbd_req *req)
{
    struct nbd_conn *c = req->conn;
    relaxed_inc(&c->inflight, -1u);
    if (c->state != NBD_CONN_CLOSED)
        return true;
    nbd_req_free(req);
    nbd_conn_settle(c);
    return false;
}

static void on_map_done(struct bio *bio)
{
    struct nbd_req *req = bio->arg;
    int error = bio->error;
    if (!bio_ended(req) || (!error && nbd_map_more(req)))
        return;
    if (!nbd_map_read(req, error)) {
        submit(req);
        return;
    }
    nbd_req_unhold(req);
    iobuf_put(&req->buf);
    count_done(req->conn, &req->wire);
    nbd_reply_queue(req, NBD_OK);
}

static void on_status_done(struct bio *bio)
{
    struct nbd_req *req = bio->arg;
    enum nbd_error error = nbd_error_of(bio->error, &req->wire);
    req->bad_offset = bio->bad_offset;
    if (!bio_ended(req) || (!error && nbd_map_more(req)))
        return;
    if (!error)
        nbd_map_status(req);
    nbd_reply_queue(req, error);
}

/* A READ or BLOCK_STATUS that wants to know where holes are. */
static void ask(struct nbd_req *req)
{
    if (!nbd_map_ask(req, req->wire.type == NBD_CMD_READ ? on_map_done : on_status_done))
        return;
    if (req->wire.type == NBD_CMD_READ)
        submit(req);
    else
        nbd_reply_queue(req, NBD_ENOMEM);
}

static void start(struct nbd_req *req)
{
    req->times.received = req->times.submitted = reactor_now();
    if (req->wire.type == NBD_CMD_BLOCK_STATUS ||
        (req->wire.type == NBD_CMD_READ && nbd_map_wanted(req)))
        ask(req);
    else
        submit(req);
}

static void on_bio_done(struct bio *bio)
{
    struct nbd_req *req = bio->arg;
    struct nbd_conn *c = req->conn;
    relaxed_inc(&c->inflight, -1u);
    enum nbd_error error = nbd_error_of(bio->error, &req->wire);
    req->bad_offset = bio->bad_offset;
    if (bio->op == BIO_DISCARD && !error && req->wire.flags & NBD_CMD_FLAG_FUA) {
        /* A discard has no FUA of its own: a flush behind it makes it durable. */
        bio_init(bio, c->desc, BIO_FLUSH, 0, 0, on_bio_done, req);
        bio->nexus = c->nexus;
        relaxed_inc(&c->inflight, 1);
        bio_submit(bio);
        return;
    }
    if (!error)
        count_done(c, &req->wire);
    if (req->wire.type == NBD_CMD_WRITE)
        nbd_req_unhold(req);
    if (bio->lent) { /* c->desc stays open until the reply is out */
        req->iov.iov_base = (void *)(uintptr_t)bio->lent;
        iobuf_put(&req->buf);
        nbd_req_unhold(req); /* what waits for its client is not ours */
    }
    if (c->state == NBD_CONN_CLOSED) {
        nbd_req_free(req);
        nbd_conn_settle(c);
        return;
    }
    nbd_reply_queue(req, error);
}

/* ---- bytes to requests */

/* The payload of a BLOCK_STATUS is the range, and what is asked for. */
static enum nbd_error take_status_payload(struct nbd_req *req)
{
    struct rd r = rd_make(req->buf->data, req->wire.payload);
    enum nbd_error error = nbd_parse_status_payload(&r, &req->wire);
    iobuf_put(&req->buf);
    req->conn->limits.size = bdev_size(req->conn->desc); /* it may have been resized since GO */
    return error ? error : nbd_check_range(&req->conn->limits, &req->wire);
}

static void load_finished(struct nbd_conn *c)
{
    struct nbd_req *req = c->load;
    c->load = NULL;
    if (!c->load_skip && req->wire.type == NBD_CMD_BLOCK_STATUS)
        req->error = take_status_payload(req);
    if (req->error)
        nbd_reply_queue(req, (enum nbd_error)req->error);
    else
        start(req);
}

/* Waits for the payload. Where no buffer can be had, it is skipped. */
static void begin_load(struct nbd_conn *c, struct nbd_req *req)
{
    c->load = req;
    c->load_left = req->wire.payload;
    c->load_skip = req->error != NBD_OK;
    c->large = !c->load_skip && req->wire.payload > NBD_SMALL;
    if (c->load_skip)
        return;
    req->buf = iobuf_get(req->wire.payload);
    if (!req->buf) {
        req->error = NBD_ENOMEM;
        c->load_skip = true;
        return;
    }
    req->iov = (struct iovec){req->buf->data, req->wire.payload};
}

/* A WRITE whose payload is all there, in a batch buffer that may be lent. */
static bool lend(struct nbd_conn *c, struct nbd_req *req, const uint8_t *p, size_t len,
                 struct iobuf *batch)
{
    if (!batch || !c->lend || req->error || len < req->wire.payload ||
        req->wire.type != NBD_CMD_WRITE)
        return false;
    req->buf = iobuf_ref(batch);
    /* The bio only reads it; iovec has no const. */
    req->iov = (struct iovec){(void *)(uintptr_t)p, req->wire.length};
    c->large = req->wire.length > NBD_SMALL;
    start(req);
    return true;
}

/* Takes from the `len` bytes at p what belongs to the payload under way. */
static size_t take_payload(struct nbd_conn *c, const uint8_t *p, size_t len)
{
    size_t n = len < c->load_left ? len : (size_t)c->load_left;
    if (!c->load_skip)
        memcpy(c->load->buf->data + (c->load->wire.payload - c->load_left), p, n);
    c->load_left -= n;
    if (!c->load_left)
        load_finished(c);
    return n;
}

static enum nbd_error check(struct nbd_conn *c, const struct nbd_request *q)
{
    enum nbd_error error = nbd_check_request(&c->limits, q);
    if (error && c->limits.size != bdev_size(c->desc)) {
        c->limits.size = bdev_size(c->desc); /* it was resized since GO */
        error = nbd_check_request(&c->limits, q);
    }
    return error;
}

/* Memory that a request takes while it is served. */
static uint32_t data_held(const struct nbd_request *q, enum nbd_error error)
{
    if (error)
        return 0;
    if (q->type == NBD_CMD_READ || q->type == NBD_CMD_WRITE)
        return (uint32_t)q->length;
    return q->type == NBD_CMD_BLOCK_STATUS ? NBD_STATUS_EXTENTS * sizeof(struct extent) : 0;
}

/* Begins the request q, whose header was taken. `p` and `len`: what follows it. Returns how much of
 * that was taken. */
static size_t begin(struct nbd_conn *c, const struct nbd_request *q, enum nbd_error error,
                    const uint8_t *p, size_t len, struct iobuf *batch)
{
    struct nbd_req *req = nbd_req_new(c);
    if (!req)
        return 0;
    req->wire = *q;
    req->error = error;
    req->times.admitted = reactor_now();
    req->times.arrived = c->blocked_ns ? c->blocked_ns : req->times.admitted;
    c->blocked_ns = 0;
    uint32_t data = data_held(q, error);
    if (data)
        nbd_req_hold(req, data);
    if (q->payload) {
        if (lend(c, req, p, len, batch))
            return (size_t)q->payload;
        begin_load(c, req);
        return 0;
    }
    if (q->type == NBD_CMD_READ && !error) {
        req->buf = iobuf_get(q->length);
        error = req->buf ? NBD_OK : NBD_ENOMEM;
        if (req->buf)
            req->iov = (struct iovec){req->buf->data, q->length};
    }
    c->large = false;
    if (error)
        nbd_reply_queue(req, error);
    else
        start(req);
    return 0;
}

/* Takes a request's header, and a payload that can be lent, from the bytes at p. The header's bytes
 * are kept in c->head when it is not whole or must wait (c->blocked). Returns how much was taken.
 */
static size_t take_request(struct nbd_conn *c, const uint8_t *p, size_t len, struct iobuf *batch)
{
    const unsigned size = c->head_size;
    size_t used = size;
    const uint8_t *head = p;
    if (c->head_len || len < size) {
        used = size - c->head_len;
        used = len < used ? len : used;
        memcpy(c->head + c->head_len, p, used);
        c->head_len += (unsigned)used;
        if (c->head_len < size)
            return used;
        head = c->head;
    }
    struct nbd_request q;
    struct rd r = rd_make(head, size);
    if (!nbd_parse_request(&r, (enum nbd_mode)c->limits.mode, &q)) {
        nbd_conn_close(c, "sent something that is not a request");
        return len;
    }
    /* "SHOULD initiate hard disconnect if a client sets the NBD_CMD_FLAG_PAYLOAD_LEN flag and uses
     * a length larger than [the] maximum payload length": 64 bits of it would never end. */
    if (c->limits.mode == NBD_MODE_EXTENDED && q.flags & NBD_CMD_FLAG_PAYLOAD_LEN &&
        q.length > c->limits.max_payload) {
        log_every(1, LOG_LEVEL_WARN, "nbd", "a payload of %llu bytes is too long session=%llu",
                  (unsigned long long)q.length, (unsigned long long)c->id);
        nbd_conn_leave(c);
        return len;
    }
    if (q.type == NBD_CMD_DISC) {
        nbd_conn_leave(c);
        return len;
    }
    enum nbd_error error = check(c, &q);
    if (!admit(c, data_held(&q, error))) {
        if (head == p)
            memcpy(c->head, p, size);
        c->head_len = size;
        c->blocked = true;
        if (!c->blocked_ns)
            c->blocked_ns = reactor_now();
        return used;
    }
    c->head_len = 0;
    return used + begin(c, &q, error, p + used, len - used, batch);
}

/* Takes all it may from `len` bytes at p and returns how much that was. */
static size_t consume(struct nbd_conn *c, const uint8_t *p, size_t len, struct iobuf *batch)
{
    size_t pos = 0;
    /* A header that waited in c->head is tried again even when no byte follows it. */
    bool retry = c->head_len == c->head_size;
    while ((pos < len || retry) && !c->blocked && c->state == NBD_CONN_OPEN) {
        if (c->load)
            pos += take_payload(c, p + pos, len - pos);
        else
            pos += take_request(c, p + pos, len - pos, batch);
        retry = false;
    }
    return pos;
}

/* Keeps what came behind a request that is blocked. */
static void stash(struct nbd_conn *c, const uint8_t *p, size_t len)
{
    assert(!c->stash);
    c->stash = malloc(len);
    if (!c->stash) {
        nbd_conn_close(c, "out of memory");
        return;
    }
    memcpy(c->stash, p, len);
    c->stash_pos = 0;
    c->stash_len = len;
    c->want = c->want / 2 < NBD_RECV_MIN ? NBD_RECV_MIN : c->want / 2;
}

static void stash_drop(struct nbd_conn *c)
{
    free(c->stash);
    c->stash = NULL;
    c->stash_pos = c->stash_len = 0;
}

/* ---- the socket */

/* A batch buffer that no bio uses; *lendable_r tells whether it may be lent. */
static struct iobuf *batch_get(struct nbd_lane *lane, bool *lendable_r)
{
    unsigned i = 0;
    while (i < NBD_BATCH_SLOTS - 1 && lane->batch[i] &&
           __atomic_load_n(&lane->batch[i]->refs, __ATOMIC_ACQUIRE) != 1)
        i++;
    if (!lane->batch[i])
        lane->batch[i] = iobuf_get(NBD_BATCH);
    *lendable_r = i < NBD_BATCH_SLOTS - 1;
    return lane->batch[i];
}

static ssize_t read_tls(struct nbd_conn *c, const struct iovec *iov, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++) {
        ssize_t got = tls_read(c->tls, iov[i].iov_base, iov[i].iov_len);
        if (got <= 0) {
            c->tls_more = false;
            return sum ? (ssize_t)sum : got;
        }
        sum += (size_t)got;
        c->tls_more = (size_t)got == iov[i].iov_len;
        if (!c->tls_more)
            break;
    }
    return (ssize_t)sum;
}

static ssize_t receive_into(struct nbd_conn *c, uint8_t *batch, size_t want)
{
    struct iovec iov[2];
    int n = 0;
    if (c->load && !c->load_skip)
        iov[n++] = (struct iovec){c->load->buf->data + (c->load->wire.payload - c->load_left),
                                  c->load_left};
    iov[n++] = (struct iovec){batch, want};
    ssize_t got = c->tls ? read_tls(c, iov, n) : readv(c->fd, iov, n);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return -1;
    if (got < 0) {
        nbd_conn_close(c, errno == ECONNRESET ? NULL : strerror(errno));
        return -1;
    }
    if (got == 0) {
        nbd_conn_leave(c); /* it may still read: what it asked for is answered */
        return -1;
    }
    return got;
}

/* One receive, everything in it. */
static void receive(struct nbd_conn *c)
{
    bool lendable;
    struct iobuf *batch = batch_get(c->lane, &lendable);
    if (!batch) {
        nbd_conn_close(c, "out of memory");
        return;
    }
    /* Behind a long payload come a header and the next payload, which is to be received directly.
     * While memory is short, what may have to be stashed is kept short too. */
    bool brief = c->large || !list_empty(&c->lane->waiters);
    size_t want = brief ? NBD_RECV_MIN : c->want;
    ssize_t got = receive_into(c, batch->data, want);
    if (got < 0)
        return;
    c->progress_ns = reactor_now();
    size_t len = (size_t)got;
    if (c->load && !c->load_skip) {
        size_t direct = len < c->load_left ? len : (size_t)c->load_left;
        c->load_left -= direct;
        len -= direct;
        if (!c->load_left)
            load_finished(c);
    }
    if (!brief && len == want && c->want < NBD_BATCH)
        c->want *= 2;
    else if (len < c->want / 8 && c->want > NBD_RECV_MIN)
        c->want /= 2;
    size_t taken = consume(c, batch->data, len, lendable ? batch : NULL);
    if (c->state == NBD_CONN_OPEN && taken < len)
        stash(c, batch->data + taken, len - taken);
}

void nbd_conn_watch(struct nbd_conn *c, unsigned events)
{
    if (events == c->watching)
        return;
    c->watching = events;
    fdwatch_set(c->watch, events);
}

/* Reads on while nothing is blocked; what is blocked is resumed by whoever unblocks it. For the one
 * turn until a resume that is under way, the watch is not worth two system calls. */
static void watch_reads(struct nbd_conn *c)
{
    bool read = c->state == NBD_CONN_OPEN && !c->last_call && (!c->blocked || c->resume_pending);
    nbd_conn_watch(c, (c->watching & FD_WRITE) | (read ? FD_READ : 0u));
    if (read && c->tls_more)
        nbd_conn_resume(c);
}

static void on_socket(void *arg, unsigned events)
{
    struct nbd_conn *c = arg;
    if (events & FD_WRITE)
        nbd_reply_send(c);
    if (events & FD_READ && c->state == NBD_CONN_OPEN && !c->blocked)
        receive(c);
    if (c->state == NBD_CONN_OPEN)
        watch_reads(c);
    nbd_conn_settle(c);
}

static void resume(void *arg)
{
    struct nbd_conn *c = arg;
    c->resume_pending = false;
    if (c->state == NBD_CONN_OPEN && c->blocked) {
        const uint8_t *rest = c->stash ? c->stash + c->stash_pos : c->head;
        c->blocked = false;
        c->stash_pos += consume(c, rest, c->stash_len - c->stash_pos, NULL);
        if (c->stash_pos == c->stash_len)
            stash_drop(c);
        if (c->last_call && !c->blocked)
            nbd_conn_leave(c);
    }
    if (c->state == NBD_CONN_OPEN && !c->blocked && !c->last_call && c->tls_more)
        receive(c);
    if (c->state == NBD_CONN_OPEN)
        watch_reads(c);
    nbd_conn_settle(c);
}

/* Tries the blocked request again in the next turn, after others had theirs. */
void nbd_conn_resume(struct nbd_conn *c)
{
    if (c->resume_pending)
        return;
    c->resume_pending = true;
    reactor_post(reactor_self(), &c->resume_post, resume, c);
}

/* ---- beginning and end */

void nbd_conn_start(void *conn)
{
    struct nbd_conn *c = conn;
    c->lane = nbd_lane_get(c->reactor);
    c->replies_end = &c->replies;
    c->head_size = nbd_request_size((enum nbd_mode)c->limits.mode);
    c->want = NBD_RECV_MIN;
    c->progress_ns = reactor_now();
    list_init(&c->flush_link);
    list_init(&c->wait_link);
    list_add_tail(&c->lane->conns, &c->lane_link);
    c->watching = FD_READ;
    c->watch = fdwatch_new(c->fd, FD_READ, on_socket, c);
    if (c->stash_len) { /* the client did not wait for the end of the handshake */
        c->blocked = true;
        watch_reads(c);
        nbd_conn_resume(c);
    }
    c->tls_more = c->tls && tls_pending(c->tls);
    if (c->tls_more)
        nbd_conn_resume(c);
}

/* What was received and not begun is forgotten. */
static void stop_reading(struct nbd_conn *c)
{
    if (c->load) {
        nbd_req_free(c->load);
        c->load = NULL;
    }
    c->blocked = false;
    if (!list_empty(&c->wait_link)) {
        list_del(&c->wait_link);
        nbd_lane_wake(c->lane);
    }
    stash_drop(c);
}

static void leave_timeout(void *arg)
{
    struct nbd_conn *c = arg;
    nbd_conn_close(c, "did not take its replies in time");
    nbd_conn_settle(c);
}

void nbd_conn_leave(struct nbd_conn *c)
{
    if (c->state != NBD_CONN_OPEN)
        return;
    relaxed_put(&c->state, NBD_CONN_LEAVING);
    stop_reading(c);
    nbd_conn_watch(c, c->watching & FD_WRITE);
    rtimer_arm(&c->timer, NBD_LEAVE_DEADLINE_S * 1000000ull, leave_timeout, c);
}

void nbd_conn_stop(void *conn)
{
    struct nbd_conn *c = conn;
    if (c->state == NBD_CONN_CLOSED)
        return; /* perhaps gone already: main waits for this post before it frees */
    if (c->state == NBD_CONN_OPEN) {
        /* Last call: requests that have arrived are still served. */
        c->last_call = true;
        rtimer_arm(&c->timer, NBD_LEAVE_DEADLINE_S * 1000000ull, leave_timeout, c);
        c->want = NBD_BATCH;
        if (!c->blocked)
            receive(c);
        if (c->blocked)
            watch_reads(c);
        else
            nbd_conn_leave(c);
    }
    nbd_conn_settle(c);
}

void nbd_conn_look(struct nbd_conn *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    if (c->state != NBD_CONN_OPEN || poll(&p, 1, 0) <= 0)
        return;
    if (p.revents & (POLLHUP | POLLERR))
        nbd_conn_close(c, NULL);
    else
        relaxed_put(&c->hung_up, true); /* it may still read */
}

void nbd_conn_close(struct nbd_conn *c, const char *why)
{
    if (c->state == NBD_CONN_CLOSED)
        return;
    if (why)
        log_every(1, LOG_LEVEL_WARN, "nbd", "closing a connection: %s session=%llu peer=%s", why,
                  (unsigned long long)c->id, c->peer);
    if (c->state == NBD_CONN_OPEN)
        stop_reading(c);
    relaxed_put(&c->state, NBD_CONN_CLOSED);
    nbd_reply_drop_all(c);
    list_del(&c->flush_link);
    fdwatch_free(&c->watch);
    rtimer_free(&c->timer);
    tls_close(&c->tls);
    close(c->fd);
    /* Whoever called may hold c: the end is reported from a later turn. */
    nbd_conn_resume(c);
}

void nbd_conn_settle(struct nbd_conn *c)
{
    if (c->state == NBD_CONN_LEAVING && !c->inflight && !c->replies)
        nbd_conn_close(c, NULL);
    if (c->state != NBD_CONN_CLOSED || c->inflight || c->resume_pending || c->gone)
        return;
    assert(!c->depth && !c->mem);
    c->gone = true;
    list_del(&c->lane_link);
    reactor_post(reactor_main(), &c->gone_post, nbd_server_gone, c);
}
