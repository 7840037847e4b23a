/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
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
        net_addr_plain(&peer);
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

/* ---- who may connect to a unix socket */

struct access {
    bool set_mode, set_group;
    mode_t mode;
    gid_t group;
};

struct group_search {
    const char *name;
    gid_t gid;
    bool found;
};

static void search_group(void *arg) /* on a helper thread: it may ask a server */
{
    enum { ROOM = 256 << 10 };
    struct group_search *s = arg;
    struct group group, *found = NULL;
    autofree char *room = xcalloc(1, ROOM);
    s->found = !getgrnam_r(s->name, &group, room, ROOM, &found) && found;
    s->gid = s->found ? group.gr_gid : 0;
}

static int parse_group(const char *text, struct access *a, struct err *e)
{
    size_t len = strlen(text);
    struct group_search s = {.name = text};
    a->set_group = true;
    if (len && len < 10 && strspn(text, "0123456789") == len) {
        a->group = (gid_t)strtoul(text, NULL, 10);
        return 0;
    }
    task_help(search_group, &s);
    a->group = s.gid;
    return s.found ? 0
                   : err_set(e, ERR_INVALID, "group",
                             "group is '%.60s'; there is none of that name", text);
}

static int parse_access(const struct net_unix_access *from, const struct net_addr *addr,
                        struct access *a_r, struct err *e)
{
    *a_r = (struct access){.mode = 0};
    if (!from || (!from->mode && !from->group))
        return 0;
    if (!net_addr_is_unix(addr))
        return err_set(e, ERR_INVALID, from->mode ? "mode" : "group", "%s is for unix sockets only",
                       from->mode ? "mode" : "group");
    if (from->mode) {
        if (strlen(from->mode) != 4 || *from->mode != '0' || strspn(from->mode, "01234567") != 4)
            return err_set(e, ERR_INVALID, "mode",
                           "mode is '%.20s'; expected 0 and three octal digits, as 0660",
                           from->mode);
        a_r->set_mode = true;
        a_r->mode = (mode_t)strtoul(from->mode, NULL, 8);
    }
    return from->group ? parse_group(from->group, a_r, e) : 0;
}

/* Nobody can connect yet: the socket does not listen. The file is held by a descriptor, so that it
 * is this very file, whoever may write to the folder. */
static int set_access(const struct net_addr *addr, const struct access *a, struct err *e)
{
    const struct sockaddr_un *sun = (const void *)&addr->ss;
    char self[40];
    struct stat st;
    if (!a->set_mode && !a->set_group)
        return 0;
    autoclose int fd = open(sun->sun_path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || !S_ISSOCK(st.st_mode))
        return err_set(e, ERR_IO, "addr", "%s is not there any more", sun->sun_path);
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (a->set_group && fchownat(fd, "", (uid_t)-1, a->group, AT_EMPTY_PATH))
        return err_set(e, errno == EPERM ? ERR_DENIED : ERR_IO, "group",
                       "cannot give %s to this group: %s", sun->sun_path, strerror(errno));
    if (a->set_mode && chmod(self, a->mode))
        return err_set(e, ERR_IO, "mode", "cannot set the mode of %s: %s", sun->sun_path,
                       strerror(errno));
    return 0;
}

static int listen_on(int fd, const struct net_addr *addr, const char *text, const char *field,
                     const struct access *a, struct err *e)
{
    if (bind(fd, (const struct sockaddr *)&addr->ss, addr->len))
        return bind_error(text, field, errno, e);
    int rc = net_addr_is_unix(addr) ? set_access(addr, a, e) : 0;
    if (!rc && listen(fd, BACKLOG))
        rc = bind_error(text, field, errno, e);
    if (rc && net_addr_is_unix(addr))
        unlink(((const struct sockaddr_un *)&addr->ss)->sun_path);
    return rc;
}

static int bind_new(const struct net_addr *a, const char *text, const char *field,
                    const struct access *access, struct err *e)
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
    if (listen_on(fd, a, text, field, access, e)) {
        close(fd);
        return -1;
    }
    return fd;
}

struct net_listener *net_listen(const char *text, unsigned default_port, const char *field,
                                net_accept_fn fn, void *arg, struct err *e)
{
    return net_listen_unix(text, default_port, field, NULL, fn, arg, e);
}

struct net_listener *net_listen_unix(const char *text, unsigned default_port, const char *field,
                                     const struct net_unix_access *access, net_accept_fn fn,
                                     void *arg, struct err *e)
{
    struct net_addr addr;
    struct access a;
    if (net_addr_parse(text, default_port, field, &addr, e) || parse_access(access, &addr, &a, e))
        return NULL;
    int fd = net_inherit_take(&addr);
    bool inherited = fd >= 0;
    if (!inherited)
        fd = bind_new(&addr, text, field, &a, e);
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
