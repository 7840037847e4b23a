/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/crowd.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"
#include "reactor/reactor.h"

struct visitor { /* is libmicrohttpd's socket context */
    struct list link;
    int fd; /* libmicrohttpd's; open as long as the visitor is there */
    bool busy;
    uint64_t since; /* ns: idle, or sending a request */
};

/* The list is in the order of `since`. */
static void wait_anew(struct crowd *c, struct visitor *v)
{
    v->since = clock_ns();
    list_add_tail(&c->idle, &v->link);
}

static struct visitor *visitor_of(struct MHD_Connection *connection)
{
    return MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void dismiss(struct visitor *v)
{
    shutdown(v->fd, SHUT_RDWR);
    list_del(&v->link);
    v->busy = true; /* nobody drops it twice */
}

void crowd_init(struct crowd *c)
{
    list_init(&c->idle);
    c->count = 0;
}

void crowd_notify(void *crowd, struct MHD_Connection *connection, void **context,
                  enum MHD_ConnectionNotificationCode what)
{
    struct crowd *c = crowd;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        struct visitor *v = xcalloc(1, sizeof *v);
        v->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        wait_anew(c, v);
        c->count++;
        *context = v;
        return;
    }
    struct visitor *v = *context;
    *context = NULL;
    list_del(&v->link);
    c->count--;
    free(v);
}

void crowd_busy(struct crowd *c, struct MHD_Connection *connection, bool busy)
{
    struct visitor *v = visitor_of(connection);
    if (v->busy == busy)
        return;
    v->busy = busy;
    list_del(&v->link);
    if (!busy)
        wait_anew(c, v);
}

void crowd_head(struct crowd *c, struct MHD_Connection *connection)
{
    struct visitor *v = visitor_of(connection);
    if (v->busy)
        return;
    list_del(&v->link);
    wait_anew(c, v);
}

uint64_t crowd_expire(struct crowd *c, unsigned patience_s)
{
    uint64_t now = clock_ns(), patience = patience_s * 1000000000ull;
    struct visitor *v;
    while ((v = list_first(&c->idle, struct visitor, link)) && now - v->since >= patience)
        dismiss(v);
    return v ? (v->since + patience - now) / 1000 + 1 : 0;
}

bool crowd_drop_one(struct crowd *c)
{
    if (list_empty(&c->idle))
        return false;
    struct visitor *v = list_first(&c->idle, struct visitor, link);
    log_every(10, LOG_LEVEL_WARN, "api",
              "%u connections at once: the one that was idle longest is dropped", c->count);
    dismiss(v);
    return true;
}
