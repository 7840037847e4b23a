/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "reactor/reactor.h"

struct carrier {
    struct rpost post;
    struct event ev;
};

static void (*observer)(const struct event *, void *); /* main's */
static void *observer_arg;

void event_observe(void (*fn)(const struct event *ev, void *arg), void *arg)
{
    observer = fn;
    observer_arg = arg;
}

static void deliver(void *arg)
{
    struct carrier *c = arg;
    if (observer)
        observer(&c->ev, observer_arg);
    free(c);
}

void event_raise(const char *object, const char *kind, const char *fmt, ...)
{
    struct carrier *c = xcalloc(1, sizeof *c);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    c->ev.time_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    snprintf(c->ev.object, sizeof c->ev.object, "%s", object);
    snprintf(c->ev.kind, sizeof c->ev.kind, "%s", kind);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->ev.message, sizeof c->ev.message, fmt, ap);
    va_end(ap);
    log_info("event", "%s object=\"%s\" event=%s", c->ev.message, c->ev.object, c->ev.kind);
    reactor_post(reactor_main(), &c->post, deliver, c);
}
