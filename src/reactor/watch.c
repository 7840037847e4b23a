/* SPDX-License-Identifier: GPL-2.0-or-later */
/* fd watches and timers: thin covers over libevent that belong to the calling thread's reactor. */
#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "reactor/reactor_private.h"

struct fdwatch {
    struct event ev;
    struct reactor *home;
    unsigned events;
    fdwatch_fn fn;
    void *arg;
};

static void on_fd(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    struct fdwatch *w = arg;
    unsigned events = (what & EV_READ ? FD_READ : 0u) | (what & EV_WRITE ? FD_WRITE : 0u);
    w->fn(w->arg, events); /* may free w */
}

static void apply(struct fdwatch *w, int fd)
{
    short what = EV_PERSIST;
    what |= w->events & FD_READ ? EV_READ : 0;
    what |= w->events & FD_WRITE ? EV_WRITE : 0;
    int rc = event_assign(&w->ev, w->home->base, fd, what, on_fd, w);
    if (w->events)
        rc |= event_add(&w->ev, NULL);
    assert(!rc);
}

struct fdwatch *fdwatch_new(int fd, unsigned events, fdwatch_fn fn, void *arg)
{
    struct fdwatch *w = xcalloc(1, sizeof *w);
    w->home = reactor_self();
    w->events = events;
    w->fn = fn;
    w->arg = arg;
    apply(w, fd);
    return w;
}

void fdwatch_set(struct fdwatch *w, unsigned events)
{
    assert(w->home == this_reactor);
    if (w->events == events)
        return;
    if (w->events)
        event_del(&w->ev);
    w->events = events;
    apply(w, event_get_fd(&w->ev));
}

void fdwatch_free(struct fdwatch **wp)
{
    struct fdwatch *w = *wp;
    if (!w)
        return;
    assert(w->home == this_reactor);
    if (w->events)
        event_del(&w->ev); /* also takes it off the list of those active in this turn */
    free(w);
    *wp = NULL;
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct rtimer *t = arg;
    t->fn(t->arg); /* may free t */
}

void rtimer_arm(struct rtimer *t, uint64_t delay_us, reactor_fn fn, void *arg)
{
    t->fn = fn;
    t->arg = arg;
    if (!t->ev)
        t->ev = evtimer_new(reactor_self()->base, on_timer, t);
    struct timeval tv = {.tv_sec = (time_t)(delay_us / 1000000),
                         .tv_usec = (suseconds_t)(delay_us % 1000000)};
    evtimer_add((struct event *)t->ev, &tv);
}

void rtimer_disarm(struct rtimer *t)
{
    if (t->ev)
        evtimer_del((struct event *)t->ev);
}

void rtimer_free(struct rtimer *t)
{
    if (t->ev)
        event_free(t->ev);
    t->ev = NULL;
}
