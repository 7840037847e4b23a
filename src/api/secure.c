/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/secure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "reactor/reactor.h"

enum { CHUNK = 16 << 10 };

struct half { /* bytes on their way in one direction */
    char data[CHUNK];
    size_t len, at;
    bool end; /* no more will come */
};

struct secure {
    struct list link;
    int fd, inner; /* the client; our end of the pair, -1 until the handshake is done */
    int handed;    /* libmicrohttpd's end: its number tells the connection */
    struct tls *tls;
    struct fdwatch *watch, *inner_watch;
    struct rtimer timer;
    struct net_addr peer;
    char from[NET_ADDR_TEXT], place[NET_PLACE_TEXT];
    bool trusted;        /* somebody known has asked something */
    uint64_t moved;      /* ns: when bytes did */
    struct half in, out; /* from the client, to the client */
};

static struct tls_server *server;
static void (*clear_fn)(int fd, const struct net_addr *peer);
static struct list conns = LIST_INIT(conns);
static unsigned count, trusted_count, patience_s = 10;

int secure_setup(const struct tls_config *files, void (*clear)(int fd, const struct net_addr *peer),
                 struct err *e)
{
    clear_fn = clear;
    if (!server)
        server = tls_server_new(files, e);
    return server ? 0 : -1;
}

static void drop(struct secure *s)
{
    list_del(&s->link);
    count--;
    trusted_count -= s->trusted;
    fdwatch_free(&s->watch);
    fdwatch_free(&s->inner_watch);
    rtimer_free(&s->timer);
    tls_close(&s->tls);
    close(s->fd);
    if (s->inner >= 0)
        close(s->inner);
    free(s);
}

void secure_close_all(void)
{
    struct secure *s, *tmp;
    list_for_each_safe (s, tmp, &conns, link)
        drop(s);
    tls_server_free(&server);
}

struct secure *secure_find(int inner_fd)
{
    struct secure *s;
    list_for_each (s, &conns, link)
        if (s->inner >= 0 && s->handed == inner_fd)
            return s;
    return NULL;
}

void secure_peer(const struct secure *s, const char **from_r, const char **place_r,
                 const char **cert_r)
{
    *from_r = s->from;
    *place_r = s->place;
    *cert_r = tls_identity(s->tls);
}

void secure_trust(struct secure *s)
{
    trusted_count += !s->trusted;
    s->trusted = true;
    rtimer_disarm(&s->timer);
}

void secure_patience(unsigned seconds)
{
    patience_s = seconds;
}

void secure_forget(int inner_fd)
{
    struct secure *s;
    list_for_each (s, &conns, link)
        if (s->handed == inner_fd)
            s->handed = -1;
}

/* ---- moving bytes. Each step returns whether it moved any; -1: the connection is over. */

static int read_client(struct secure *s)
{
    if (s->in.len || s->in.end)
        return 0;
    ssize_t n = tls_read(s->tls, s->in.data, CHUNK);
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    s->in.end = !n;
    s->in.len = (size_t)n;
    s->in.at = 0;
    if (!n)
        shutdown(s->inner, SHUT_WR);
    return 1;
}

static int write_inner(struct secure *s)
{
    if (!s->in.len)
        return 0;
    ssize_t n = send(s->inner, s->in.data + s->in.at, s->in.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    s->in.at += (size_t)n;
    s->in.len -= (size_t)n;
    return 1;
}

static int read_inner(struct secure *s)
{
    if (s->out.len || s->out.end)
        return 0;
    ssize_t n = recv(s->inner, s->out.data, CHUNK, MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    s->out.end = !n;
    s->out.len = (size_t)n;
    s->out.at = 0;
    return 1;
}

static int write_client(struct secure *s)
{
    if (!s->out.len)
        return s->out.end ? -1 : 0; /* all is sent, and nothing more comes */
    ssize_t n = tls_write(s->tls, s->out.data + s->out.at, s->out.len);
    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    s->out.at += (size_t)n;
    s->out.len -= (size_t)n;
    return 1;
}

static void pump(struct secure *s)
{
    s->moved = clock_ns();
    static int (*const steps[])(struct secure *) = {read_client, write_inner, read_inner,
                                                    write_client};
    for (bool moved = true; moved;) {
        moved = false;
        for (unsigned i = 0; i < 4; i++) {
            int rc = steps[i](s);
            if (rc < 0) {
                drop(s);
                return;
            }
            moved |= rc > 0;
        }
    }
    fdwatch_set(s->watch, (s->in.len || s->in.end ? 0 : FD_READ) | (s->out.len ? FD_WRITE : 0));
    fdwatch_set(s->inner_watch,
                (s->out.len || s->out.end ? 0 : FD_READ) | (s->in.len ? FD_WRITE : 0));
}

static void on_bytes(void *arg, unsigned events)
{
    (void)events;
    pump(arg);
}

/* ---- the handshake */

static void on_late(void *arg)
{
    drop(arg);
}

static void begin(struct secure *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair)) {
        drop(s);
        return;
    }
    rtimer_arm(&s->timer, patience_s * 1000000ull, on_late, s);
    s->inner = pair[0];
    secure_forget(pair[1]);
    s->handed = pair[1];
    s->inner_watch = fdwatch_new(s->inner, FD_READ, on_bytes, s);
    clear_fn(pair[1], &s->peer);
    pump(s);
}

static void on_socket(void *arg, unsigned events)
{
    struct secure *s = arg;
    char why[160];
    if (s->inner >= 0) {
        on_bytes(s, events);
        return;
    }
    int want = tls_handshake(s->tls, why, sizeof why);
    if (want < 0) {
        log_every(10, LOG_LEVEL_WARN, "api", "no TLS with %s: %s", s->from, why);
        drop(s);
    } else if (want) {
        fdwatch_set(s->watch, (unsigned)want);
    } else {
        begin(s);
    }
}

/* ---- room for a newcomer */

static unsigned strangers_of(const char *place)
{
    struct secure *s;
    unsigned n = 0;
    list_for_each (s, &conns, link)
        n += !s->trusted && !strcmp(s->place, place);
    return n;
}

/* The oldest of the place that most strangers come from: a crowd treads on its own feet only. */
static struct secure *crowded(void)
{
    struct secure *s, *worst = NULL;
    unsigned most = 0;
    list_for_each (s, &conns, link) {
        unsigned n = s->trusted ? 0 : strangers_of(s->place);
        if (n > most) {
            most = n;
            worst = s;
        }
    }
    return worst;
}

static struct secure *quietest(void)
{
    struct secure *s, *found = NULL;
    list_for_each (s, &conns, link)
        if (s->trusted && (!found || s->moved < found->moved))
            found = s;
    return found;
}

/* Those who are known keep a share for those who have yet to show who they are. */
enum { SECURE_TRUSTED_MAX = SECURE_MAX / 4 * 3 };

static void make_room(void)
{
    if (count < SECURE_MAX)
        return;
    struct secure *s = trusted_count > SECURE_TRUSTED_MAX ? quietest() : crowded();
    log_every(10, LOG_LEVEL_WARN, "api", "%u TLS connections at once: one of %s is dropped", count,
              s->place);
    drop(s);
}

void secure_accept(int fd, const struct net_addr *peer, struct net_listener *l, void *arg)
{
    (void)l, (void)arg;
    struct tls *tls = server ? tls_accept(server, fd) : NULL;
    if (!tls) {
        close(fd);
        return;
    }
    make_room();
    struct secure *s = xcalloc(1, sizeof *s);
    s->fd = fd;
    s->inner = s->handed = -1;
    s->tls = tls;
    s->peer = *peer;
    s->moved = clock_ns();
    net_addr_format(peer, s->from, sizeof s->from);
    net_addr_place(peer, s->place);
    list_add_tail(&conns, &s->link);
    count++;
    s->watch = fdwatch_new(fd, FD_READ, on_socket, s);
    rtimer_arm(&s->timer, patience_s * 1000000ull, on_late, s);
}
