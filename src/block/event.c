/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

/* What is lost is an error, what is about to be or has been mended a warning. */
static enum log_level level_of(const char *kind)
{
    static const char *const errors[] = {"array-failed",      "flush-failed",    "state-damaged",
                                         "device-failed",     "metadata-failed", "rebuild-halted",
                                         "resync-unreadable", "audit-lost"};
    static const char *const warnings[] = {
        "member-failed", "member-timeout",       "device-gone",       "array-unclean",
        "mismatch",      "not-started",          "array-waiting",     "intent-dropped",
        "log-lost",      "read-error-corrected", "lun-thin-threshold"};
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(kind, errors[i]))
            return LOG_LEVEL_ERROR;
    for (unsigned i = 0; i < sizeof warnings / sizeof *warnings; i++)
        if (!strcmp(kind, warnings[i]))
            return LOG_LEVEL_WARN;
    return LOG_LEVEL_INFO;
}

static void raise_event(const char *object, const char *kind, const char *old_state,
                        const char *new_state, const char *fmt, va_list ap)
{
    struct carrier *c = xcalloc(1, sizeof *c);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    c->ev.time_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    snprintf(c->ev.object, sizeof c->ev.object, "%s", object);
    snprintf(c->ev.kind, sizeof c->ev.kind, "%s", kind);
    snprintf(c->ev.old_state, sizeof c->ev.old_state, "%s", old_state);
    snprintf(c->ev.new_state, sizeof c->ev.new_state, "%s", new_state);
    vsnprintf(c->ev.message, sizeof c->ev.message, fmt, ap);
    const struct log_field fields[] = {
        {"ORION_OBJECT", c->ev.object}, {"ORION_EVENT", c->ev.kind}, {NULL, NULL}};
    log_fields(level_of(kind), "event", fields, c->ev.message);
    reactor_post(reactor_main(), &c->post, deliver, c);
}

void event_raise(const char *object, const char *kind, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    raise_event(object, kind, "", "", fmt, ap);
    va_end(ap);
}

void event_raise_change(const char *object, const char *kind, const char *old_state,
                        const char *new_state, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    raise_event(object, kind, old_state, new_state, fmt, ap);
    va_end(ap);
}
