/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "targets/iscsi/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "targets/iscsi/conn_private.h"

struct iscsi_conn *conn_new(int fd, const char *portal)
{
    struct iscsi_conn *c = xcalloc(1, sizeof *c);
    c->fd = fd;
    c->max_recv = ISCSI_DEFAULT_SEGMENT;
    c->batch_len = BATCH_MIN;
    c->tx_tail = &c->tx_head;
    struct net_addr a = {.len = sizeof a.ss};
    if (getpeername(fd, (struct sockaddr *)&a.ss, &a.len))
        a.len = 0;
    net_addr_format(&a, c->peer, sizeof c->peer);
    net_addr_of_socket(fd, &a);
    net_addr_format(&a, c->self, sizeof c->self);
    c->local = net_addr_is_local(&a);
    strncpy(c->portal, portal, sizeof c->portal - 1);
    return c;
}

static void watch(struct iscsi_conn *c, unsigned events)
{
    if (c->events == events)
        return;
    c->events = events;
    fdwatch_set(c->watch, events);
}

void conn_watch_read(struct iscsi_conn *c, bool on)
{
    watch(c, on ? c->events | FD_READ : c->events & ~(unsigned)FD_READ);
}

void conn_watch_write(struct iscsi_conn *c, bool on)
{
    watch(c, on ? c->events | FD_WRITE : c->events & ~(unsigned)FD_WRITE);
}

static void on_event(void *arg, unsigned events)
{
    struct iscsi_conn *c = arg;
    if (events & FD_WRITE)
        conn_flush(c);
    if (events & FD_READ && !c->closed && c->events & FD_READ)
        conn_readable(c);
}

void conn_start(struct iscsi_conn *c, const struct conn_ops *ops, void *owner)
{
    c->ops = ops;
    c->owner = owner;
    c->hold &= ~(unsigned)CONN_HOLD_OWNER;
    c->last_rx = c->last_tx = reactor_now();
    bool idle = !c->hold && !c->pending;
    c->events = idle ? FD_READ : 0;
    c->watch = fdwatch_new(c->fd, c->events, on_event, c);
    if (!idle && !c->hold)
        reactor_defer(&c->resume, conn_resume, c);
    if (c->tx_head)
        reactor_at_turn_end(&c->flush, conn_flush, c);
}

void conn_detach(struct iscsi_conn *c)
{
    assert(c->hold && !c->closed);
    reactor_defer_cancel(&c->resume);
    reactor_defer_cancel(&c->flush);
    fdwatch_free(&c->watch);
    c->events = 0;
}

static void shut(struct iscsi_conn *c)
{
    c->closed = true;
    reactor_defer_cancel(&c->resume);
    reactor_defer_cancel(&c->flush);
    if (c->watch)
        fdwatch_free(&c->watch);
    close(c->fd);
    c->fd = -1;
    c->part.item = NULL;
}

static void drop_items(struct iscsi_conn *c)
{
    struct tx_item *item;
    while ((item = c->tx_head)) {
        c->tx_head = item->next;
        item->ops->done(c, item, false);
    }
    c->tx_tail = &c->tx_head;
}

void conn_close(struct iscsi_conn *c)
{
    if (c->closed)
        return;
    shut(c);
    drop_items(c);
}

void conn_free(struct iscsi_conn **c)
{
    if (!*c)
        return;
    conn_close(*c);
    free((*c)->pending);
    free((*c)->rx.own);
    free(*c);
    *c = NULL;
}

void conn_lose(struct iscsi_conn *c, const char *why)
{
    if (c->closed)
        return;
    shut(c);
    c->ops->lost(c, why); /* first: what the items end with must not queue anew */
    drop_items(c);
}

void conn_hold(struct iscsi_conn *c, unsigned why)
{
    c->hold |= why;
    if (c->watch)
        conn_watch_read(c, false);
}

void conn_release(struct iscsi_conn *c, unsigned why)
{
    if (!(c->hold & why))
        return;
    c->hold &= ~why;
    if (!c->hold && !c->closed && !reactor_defer_pending(&c->resume))
        reactor_defer(&c->resume, conn_resume, c);
}
