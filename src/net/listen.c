/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "net/net_private.h"
#include "reactor/task.h"

/* Connections taken in one go before main looks at something else; and the rest after trouble. */
enum { ACCEPT_BATCH = 32, PAUSE_US = 100000, BACKLOG = 1024 };

struct net_listener { /* main's */
    int fd;
    struct net_addr addr;
    char *text;
    bool inherited;
    bool in_accept, closed; /* closed from within fn: freed when fn has returned */
    struct stat file;       /* of a unix socket: only this very file is unlinked */
    struct fdwatch *watch;
    struct rtimer pause;
    net_accept_fn fn;
    void *arg;
};

static void listener_destroy(struct net_listener *l)
{
    free(l->text);
    free(l);
}

static void resume(void *arg)
{
    struct net_listener *l = arg;
    fdwatch_set(l->watch, FD_READ);
}

static void pause_after(struct net_listener *l, int error)
{
    log_every(10, LOG_LEVEL_WARN, "net", "cannot accept: %s listener=%s", strerror(error), l->text);
    fdwatch_set(l->watch, 0);
    rtimer_arm(&l->pause, PAUSE_US, resume, l);
}

/* Replies go at once; a host that lost its power is found out after two minutes, so that its
 * session does not stay for ever. */
static void set_tcp(int fd)
{
    int one = 1, idle = 60, interval = 10, count = 6;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static void on_acceptable(void *arg, unsigned events)
{
    (void)events;
    struct net_listener *l = arg;
    l->in_accept = true;
    for (unsigned i = 0; i < ACCEPT_BATCH && !l->closed; i++) {
        struct net_addr peer = {.len = sizeof peer.ss};
        int fd =
            accept4(l->fd, (struct sockaddr *)&peer.ss, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno != EAGAIN)
                pause_after(l, errno);
            break;
        }
        if (!net_addr_is_unix(&l->addr))
            set_tcp(fd);
        l->fn(fd, &peer, l, l->arg);
    }
    l->in_accept = false;
    if (l->closed)
        listener_destroy(l);
}

/* A socket file that nobody listens on is left over from a process that was killed. */
static int clear_stale(const struct net_addr *a, const char *field, struct err *e)
{
    const struct sockaddr_un *sun = (const void *)&a->ss;
    struct stat st;
    if (lstat(sun->sun_path, &st))
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return err_set(e, ERR_IN_USE, field, "%s exists and is not a socket", sun->sun_path);
    autoclose int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return err_set(e, ERR_IO, field, "cannot make a socket: %s", strerror(errno));
    if (!connect(probe, (const struct sockaddr *)&a->ss, a->len) || errno == EAGAIN)
        return err_set(e, ERR_IN_USE, field, "another process listens on %s", sun->sun_path);
    if (errno != ECONNREFUSED)
        return err_set(e, ERR_IO, field, "cannot tell whether %s is in use: %s", sun->sun_path,
                       strerror(errno));
    if (unlink(sun->sun_path) && errno != ENOENT)
        return err_set(e, ERR_IO, field, "cannot replace %s: %s", sun->sun_path, strerror(errno));
    return 0;
}

static int bind_error(const char *text, const char *field, int error, struct err *e)
{
    enum err_code code = error == EADDRINUSE                         ? ERR_IN_USE
                         : error == EACCES || error == EPERM         ? ERR_DENIED
                         : error == EADDRNOTAVAIL || error == ENOENT ? ERR_INVALID
                                                                     : ERR_IO;
    return err_set(e, code, field, "cannot listen on %s: %s", text, strerror(error));
}

static int bind_new(const struct net_addr *a, const char *text, const char *field, struct err *e)
{
    if (net_addr_is_unix(a) && clear_stale(a, field, e))
        return -1;
    int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return bind_error(text, field, errno, e);
    int one = 1;
    if (!net_addr_is_unix(a))
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ss.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)&a->ss, a->len) || listen(fd, BACKLOG)) {
        int error = errno;
        close(fd);
        return bind_error(text, field, error, e);
    }
    return fd;
}

struct net_listener *net_listen(const char *text, unsigned default_port, const char *field,
                                net_accept_fn fn, void *arg, struct err *e)
{
    struct net_addr addr;
    if (net_addr_parse(text, default_port, field, &addr, e))
        return NULL;
    int fd = net_inherit_take(&addr);
    bool inherited = fd >= 0;
    if (!inherited)
        fd = bind_new(&addr, text, field, e);
    if (fd < 0)
        return NULL;
    struct net_listener *l = xcalloc(1, sizeof *l);
    l->fd = fd;
    l->inherited = inherited;
    l->text = xstrdup(text);
    l->fn = fn;
    l->arg = arg;
    net_addr_of_socket(fd, &l->addr);
    if (net_addr_is_unix(&l->addr))
        lstat(((const struct sockaddr_un *)&l->addr.ss)->sun_path, &l->file);
    l->watch = fdwatch_new(fd, FD_READ, on_acceptable, l);
    return l;
}

static void unlink_socket(const struct net_listener *l)
{
    const struct sockaddr_un *sun = (const void *)&l->addr.ss;
    struct stat now;
    if (!lstat(sun->sun_path, &now) && now.st_ino == l->file.st_ino && now.st_dev == l->file.st_dev)
        unlink(sun->sun_path);
}

void net_unlisten(struct net_listener **lp)
{
    struct net_listener *l = *lp;
    *lp = NULL;
    if (!l)
        return;
    fdwatch_free(&l->watch);
    rtimer_free(&l->pause);
    if (net_addr_is_unix(&l->addr) && !l->inherited)
        unlink_socket(l);
    close(l->fd);
    l->closed = true;
    if (!l->in_accept)
        listener_destroy(l);
}

const struct net_addr *net_listener_addr(const struct net_listener *l)
{
    return &l->addr;
}

const char *net_listener_text(const struct net_listener *l)
{
    return l->text;
}

int net_listener_fd(const struct net_listener *l)
{
    return l->fd;
}
