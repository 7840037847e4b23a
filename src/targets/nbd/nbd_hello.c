/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Connections in their handshake: sockets, deadline and cap around nbd_handshake.c. On main. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "targets/nbd/nbd_private.h"

enum { INPUT_FIRST = 512 };

struct hello {
    struct list link; /* in order of arrival */
    int fd;
    bool local;
    char peer[128], portal[128];
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

/* Frees all but the socket. */
static void hello_free(struct hello *h)
{
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
        ssize_t n = send(h->fd, h->out.p + h->out_pos, h->out.len - h->out_pos,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
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

/* From the hand-over on, the descriptor belongs to another thread: the watch goes first. */
static void move_on(struct hello *h, struct rd *in)
{
    fdwatch_free(&h->watch);
    nbd_server_enter(h->fd, h->peer, h->portal, &h->hs.chosen, in->p + in->pos, rd_left(in));
    hello_free(h);
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
        if (!sent && h->verdict == NBD_HANDSHAKE_GO) {
            /* It has not read what it asked for before GO, which the protocol demands of it. */
            hello_close(h);
            return;
        }
        if (!sent || h->verdict == NBD_HANDSHAKE_NEED)
            break;
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
    ssize_t n = recv(h->fd, h->in + h->in_len, h->in_cap - h->in_len, MSG_DONTWAIT);
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
    if (h->out.len) {
        if (events & FD_WRITE)
            advance(h);
    } else if (events & FD_READ) {
        receive(h);
    }
}

static uint32_t find(void *arg, const char *name, size_t len, struct nbd_view *view_r,
                     char why[160])
{
    struct hello *h = arg;
    uint32_t error = nbd_export_choose(name, len, h->local, view_r, why);
    if (error)
        log_every(1, LOG_LEVEL_INFO, "nbd", "refused: %s peer=%s export=%.*s", why, h->peer,
                  len < 64 ? (int)len : 64, name);
    return error;
}

static void list(void *arg, void (*each)(const char *name, const char *description, void *ctx),
                 void *ctx)
{
    struct hello *h = arg;
    nbd_export_list(h->local, each, ctx);
}

static const struct nbd_handshake_ops ops = {.find = find, .list = list};

void nbd_hello_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    (void)arg;
    if (hello_count >= NBD_HELLO_MAX)
        hello_close(list_first(&hellos, struct hello, link));
    struct net_addr here;
    net_addr_of_socket(fd, &here);
    struct hello *h = xcalloc(1, sizeof *h);
    h->fd = fd;
    h->local = net_addr_is_local(&here);
    net_peer_format(fd, peer, h->peer, sizeof h->peer);
    net_addr_format(net_listener_addr(l), h->portal, sizeof h->portal);
    list_add_tail(&hellos, &h->link);
    hello_count++;
    h->watch = fdwatch_new(fd, FD_READ, on_socket, h);
    rtimer_arm(&h->deadline, NBD_HELLO_DEADLINE_S * 1000000ull, on_deadline, h);
    nbd_handshake_begin(&h->hs, &ops, h, NBD_TLS_OFF, &h->out);
    h->verdict = NBD_HANDSHAKE_NEED;
    advance(h);
}

void nbd_hello_close_all(void)
{
    while (!list_empty(&hellos))
        hello_close(list_first(&hellos, struct hello, link));
}
