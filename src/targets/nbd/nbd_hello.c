/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections in their handshake: sockets, deadline and cap around nbd_handshake.c. On main. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "targets/nbd/nbd_private.h"

enum { INPUT_FIRST = 512, GRACE_US = 200000, GRACE_STEP_US = 5000 };

struct hello {
    struct list link; /* in order of arrival */
    int fd;
    const struct nbd_portal *from; /* NULL: it is gone */
    bool local;
    struct net_addr addr;
    char peer[128], portal[128];
    struct tls *tls;
    bool shaking;  /* in the handshake of TLS */
    bool tls_more; /* what TLS has received may not all have been taken */
    struct fdwatch *watch;
    struct rtimer deadline;
    struct nbd_handshake hs;
    uint8_t *in;
    size_t in_len, in_cap;
    struct nbd_out out;
    size_t out_pos;
    enum nbd_verdict verdict; /* GO or CLOSE: what to do when the output is sent */
};

static struct list hellos = LIST_INIT(hellos);
static unsigned hello_count;
static struct hello *busy; /* whose event is served; NULL when that has freed it */

/* Frees all but the socket. */
static void hello_free(struct hello *h)
{
    if (busy == h)
        busy = NULL;
    list_del(&h->link);
    hello_count--;
    fdwatch_free(&h->watch);
    rtimer_free(&h->deadline);
    nbd_out_free(&h->out);
    free(h->in);
    free(h);
}

static void hello_close(struct hello *h)
{
    tls_close(&h->tls);
    close(h->fd);
    hello_free(h);
}

static void on_deadline(void *arg)
{
    struct hello *h = arg;
    log_every(10, LOG_LEVEL_WARN, "nbd", "handshake took too long peer=%s", h->peer);
    hello_close(h);
}

/* Returns 1 when all is out, 0 when the socket is full, -1 when it is broken. */
static int send_output(struct hello *h)
{
    while (h->out_pos < h->out.len) {
        const uint8_t *p = h->out.p + h->out_pos;
        size_t len = h->out.len - h->out_pos;
        ssize_t n =
            h->tls ? tls_write(h->tls, p, len) : send(h->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        h->out_pos += (size_t)n;
    }
    nbd_out_free(&h->out);
    h->out_pos = 0;
    return 1;
}

static struct nbd_client client_of(const struct hello *h)
{
    return (struct nbd_client){.local = h->local,
                               .peer = h->addr,
                               .identity = h->tls ? tls_identity(h->tls) : "",
                               .offered_tls = nbd_handshake_offers_tls(&h->hs)};
}

/* From the hand-over on, the descriptor belongs to another thread: the watch goes first. */
static void move_on(struct hello *h, struct rd *in)
{
    fdwatch_free(&h->watch);
    struct nbd_client who = client_of(h);
    nbd_server_enter(h->fd, h->tls, &who, h->peer, h->portal, &h->hs.chosen, in->p + in->pos,
                     rd_left(in));
    hello_free(h);
}

static void shake(struct hello *h)
{
    char why[200];
    int events = tls_handshake(h->tls, why, sizeof why);
    if (events < 0) {
        log_every(10, LOG_LEVEL_WARN, "nbd", "no TLS: %s peer=%s", why, h->peer);
        hello_close(h);
        return;
    }
    if (events) {
        fdwatch_set(h->watch, (unsigned)events);
        return;
    }
    log_debug("nbd", "speaks TLS version=%s identity=%s peer=%s", tls_version(h->tls),
              tls_identity(h->tls), h->peer);
    h->shaking = false;
    h->tls_more = true; /* the first option may have come with the end of the handshake */
    nbd_handshake_encrypted(&h->hs);
    h->verdict = NBD_HANDSHAKE_NEED;
    fdwatch_set(h->watch, FD_READ);
}

/* STARTTLS was acknowledged. What came behind it in the clear may be anybody's. */
static void start_tls(struct hello *h, const struct rd *in)
{
    h->tls = rd_left(in) || !h->from ? NULL : tls_accept(h->from->tls, h->fd);
    if (!h->tls) {
        hello_close(h);
        return;
    }
    h->in_len = 0;
    h->shaking = true;
    shake(h);
}

/* Answers what has come, one message at a time, and no further than the client reads the answers.
 */
static void advance(struct hello *h)
{
    struct rd in = rd_make(h->in, h->in_len);
    for (;;) {
        int sent = send_output(h);
        if (sent < 0 || (sent && h->verdict == NBD_HANDSHAKE_CLOSE)) {
            hello_close(h);
            return;
        }
        if (!sent && (h->verdict == NBD_HANDSHAKE_GO || h->verdict == NBD_HANDSHAKE_TLS)) {
            /* It has not read what it asked for before, which the protocol demands of it. */
            hello_close(h);
            return;
        }
        if (!sent || h->verdict == NBD_HANDSHAKE_NEED)
            break;
        if (h->verdict == NBD_HANDSHAKE_TLS) {
            start_tls(h, &in);
            return;
        }
        if (h->verdict == NBD_HANDSHAKE_GO) {
            move_on(h, &in);
            return;
        }
        h->verdict = nbd_handshake_step(&h->hs, &in, &h->out);
    }
    h->in_len -= in.pos;
    if (h->in_len)
        memmove(h->in, h->in + in.pos, h->in_len);
    fdwatch_set(h->watch, h->out.len ? FD_WRITE : FD_READ);
}

static void receive(struct hello *h)
{
    if (h->in_len == h->in_cap) {
        h->in_cap = h->in_cap ? NBD_HANDSHAKE_INPUT : INPUT_FIRST;
        h->in = xrealloc(h->in, h->in_cap);
    }
    size_t room = h->in_cap - h->in_len;
    ssize_t n = h->tls ? tls_read(h->tls, h->in + h->in_len, room)
                       : recv(h->fd, h->in + h->in_len, room, MSG_DONTWAIT);
    h->tls_more = h->tls && n == (ssize_t)room;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hello_close(h);
        return;
    }
    h->in_len += (size_t)n;
    h->verdict = NBD_HANDSHAKE_TAKEN;
    advance(h);
}

static void on_socket(void *arg, unsigned events)
{
    struct hello *h = arg;
    busy = h;
    if (h->shaking)
        shake(h);
    else if (h->out.len && events & FD_WRITE)
        advance(h);
    else if (!h->out.len && events & FD_READ)
        receive(h);
    /* For what TLS has received already, the socket need not become readable. */
    while (busy && h->tls_more && !h->shaking && !h->out.len)
        receive(h);
    busy = NULL;
}

static uint32_t find(void *arg, const char *name, size_t len, struct nbd_view *view_r,
                     char why[160])
{
    struct hello *h = arg;
    struct nbd_client client = client_of(h);
    uint32_t error = nbd_export_choose(name, len, &client, view_r, why);
    char shown[64];
    if (error)
        log_every(1, LOG_LEVEL_INFO, "nbd", "refused: %s peer=%s export=\"%s\"", why, h->peer,
                  text_show(name, len, shown, sizeof shown));
    return error;
}

static void list(void *arg, void (*each)(const char *name, const char *description, void *ctx),
                 void *ctx)
{
    struct nbd_client client = client_of(arg);
    nbd_export_list(&client, each, ctx);
}

static const struct nbd_handshake_ops ops = {.find = find, .list = list};

void nbd_hello_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    const struct nbd_portal *portal = arg;
    if (hello_count >= NBD_HELLO_MAX)
        hello_close(list_first(&hellos, struct hello, link));
    struct net_addr here;
    net_addr_of_socket(fd, &here);
    struct hello *h = xcalloc(1, sizeof *h);
    h->fd = fd;
    h->from = portal;
    h->addr = *peer;
    h->local = net_addr_is_local(&here);
    net_peer_format(fd, peer, h->peer, sizeof h->peer);
    net_addr_format(net_listener_addr(l), h->portal, sizeof h->portal);
    list_add_tail(&hellos, &h->link);
    hello_count++;
    h->watch = fdwatch_new(fd, FD_READ, on_socket, h);
    rtimer_arm(&h->deadline, NBD_HELLO_DEADLINE_S * 1000000ull, on_deadline, h);
    nbd_handshake_begin(&h->hs, &ops, h, portal->tls_mode, &h->out);
    h->verdict = NBD_HANDSHAKE_NEED;
    advance(h);
}

void nbd_hello_forget(const struct nbd_portal *portal)
{
    struct hello *h;
    list_for_each (h, &hellos, link) {
        if (h->from == portal)
            h->from = NULL;
    }
}

void nbd_hello_shutting_down(void)
{
    struct hello *h;
    list_for_each (h, &hellos, link)
        h->hs.shutting_down = true;
}

void nbd_hello_close_all(void)
{
    for (unsigned waited = 0; hello_count && waited < GRACE_US; waited += GRACE_STEP_US)
        task_sleep_us(GRACE_STEP_US);
    while (!list_empty(&hellos))
        hello_close(list_first(&hellos, struct hello, link));
}
