/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/crowd.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/mem.h"

struct visitor { /* is libmicrohttpd's socket context */
    struct list link;
    int fd; /* libmicrohttpd's; open as long as the visitor is there */
    bool busy;
};

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
        list_add_tail(&c->idle, &v->link);
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
    struct visitor *v =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    if (v->busy == busy)
        return;
    v->busy = busy;
    list_del(&v->link);
    if (!busy)
        list_add_tail(&c->idle, &v->link);
}

bool crowd_drop_one(struct crowd *c)
{
    if (list_empty(&c->idle))
        return false;
    struct visitor *v = list_first(&c->idle, struct visitor, link);
    log_every(10, LOG_LEVEL_WARN, "api",
              "%u connections at once: the one that was idle longest is dropped", c->count);
    shutdown(v->fd, SHUT_RDWR);
    list_del(&v->link);
    v->busy = true; /* nobody drops it twice */
    return true;
}
