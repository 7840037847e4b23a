/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/hooks.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/secret.h"
#include "control/control.h"
#include "control/events.h"
#include "daemon/deliver.h"
#include "reactor/task.h"

/* A hook is a task that goes through control's ring at its own pace. Main's. */
struct hook {
    const char *name;
    char *command, *url, *ca, *token;
    uint64_t next; /* id of the event to deliver next */
    unsigned tries;
    bool running, stopping;
    struct task *parked;
    struct delivery delivery;
};
static struct hook hooks[] = {{.name = "event_command", .next = 1, .delivery.fd = -1},
                              {.name = "event_url", .next = 1, .delivery.fd = -1}};
enum { HOOKS = 2, PAUSE_STEP_US = 100 * 1000, PAUSE_MAX_S = 60 };

static bool wanted(const struct hook *h)
{
    return h->command || h->url;
}

/* ---- one event */

static const char *member(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    json_object_object_get_ex(o, key, &v);
    return v ? json_object_get_string(v) : "";
}

static bool deliver(struct hook *h)
{
    struct json_object *ev = control_event(h->next);
    struct delivery *d = &h->delivery;
    d->command = h->command;
    d->url = h->url;
    d->ca = h->ca;
    d->token = h->token;
    d->object = member(ev, "object");
    d->kind = member(ev, "kind");
    d->text =
        json_object_to_json_string_ext(ev, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    task_help(deliver_run, d);
    json_object_put(ev);
    return !*d->why;
}

/* Events that were overtaken, or given up: somebody has to look at the list. */
static void lost(const struct hook *h, uint64_t count)
{
    log_warn("event", "%s: %" PRIu64 " events were left out: %s", h->name, count,
             *h->delivery.why ? h->delivery.why : "they came faster than they were taken");
}

static void pause_before_retry(struct hook *h)
{
    unsigned seconds = h->tries < 6 ? 1u << (h->tries - 1) : PAUSE_MAX_S;
    for (unsigned i = 0; i < seconds * (1000000 / PAUSE_STEP_US) && !h->stopping; i++)
        task_sleep_us(PAUSE_STEP_US);
}

static void try_one(struct hook *h)
{
    if (h->next < control_events_first()) {
        lost(h, control_events_first() - h->next);
        h->next = control_events_first();
    }
    if (deliver(h)) {
        control_trouble("hook", h->name, NULL);
        h->tries = 0;
        h->next++;
    } else if (!h->stopping && ++h->tries < HOOK_TRIES) {
        log_every(60, LOG_LEVEL_WARN, "event", "%s: %s", h->name, h->delivery.why);
        control_trouble("hook", h->name, h->delivery.why);
        pause_before_retry(h);
    } else if (!h->stopping) {
        lost(h, 1);
        h->tries = 0;
        h->next++;
    }
}

/* ---- the task */

static void hook_task(void *arg)
{
    struct hook *h = arg;
    while (!h->stopping) {
        if (h->next <= control_events_total()) {
            try_one(h);
            continue;
        }
        h->parked = task_self();
        task_park();
    }
    free(h->command);
    free(h->url);
    free(h->ca);
    free(h->token);
    h->command = h->url = h->ca = h->token = NULL;
    control_trouble("hook", h->name, NULL);
    h->running = false;
}

static void wake(struct hook *h)
{
    struct task *t = h->parked;
    h->parked = NULL;
    if (t)
        task_wake(t);
}

static void on_event(void)
{
    for (unsigned i = 0; i < HOOKS; i++)
        wake(&hooks[i]);
}

static void end(struct hook *h)
{
    if (!h->running)
        return;
    h->stopping = true;
    wake(h);
    deliver_abort(&h->delivery);
    while (h->running)
        task_sleep_us(1000);
}

static void begin(struct hook *h)
{
    if (!wanted(h))
        return;
    pthread_mutex_init(&h->delivery.lock, NULL);
    h->delivery.aborted = false;
    h->stopping = false;
    h->running = true;
    h->tries = 0;
    task_start(reactor_main(), "event hook", hook_task, h);
}

/* ---- settings */

static bool same(const char *a, const char *b)
{
    return !strcmp(a ? a : "", b ? b : "");
}

static char *copy(const char *text)
{
    return text && *text ? xstrdup(text) : NULL;
}

static struct hooks_opts next_opts; /* copies */
static bool setting, again, watching;

static void apply(struct hook *h, const char *command, const char *url)
{
    struct hook next = {.command = copy(command), .url = copy(url)};
    next.ca = copy(url ? next_opts.ca : NULL);
    next.token = copy(url ? next_opts.token : NULL);
    bool change = !same(h->command, next.command) || !same(h->url, next.url) ||
                  !same(h->ca, next.ca) || !same(h->token, next.token);
    if (change)
        end(h);
    struct hook *drop = change ? h : &next;
    free(drop->command);
    free(drop->url);
    free(drop->ca);
    free(drop->token);
    if (!change)
        return;
    h->command = next.command;
    h->url = next.url;
    h->ca = next.ca;
    h->token = next.token;
    begin(h);
}

static void set_task(void *arg)
{
    (void)arg;
    do {
        again = false;
        apply(&hooks[0], next_opts.command, NULL);
        apply(&hooks[1], NULL, next_opts.url);
    } while (again);
    setting = false;
}

static void keep(const char **slot, const char *value)
{
    free((void *)(uintptr_t)*slot);
    *slot = copy(value);
}

void hooks_set(const struct hooks_opts *opts)
{
    keep(&next_opts.command, opts->command);
    keep(&next_opts.url, opts->url);
    keep(&next_opts.ca, opts->ca);
    keep(&next_opts.token, opts->token);
    if (!watching)
        control_events_watch(on_event);
    watching = again = true;
    if (!setting)
        task_start(reactor_main(), "event hooks", set_task, NULL);
    setting = true;
}

void hooks_stop(void)
{
    if (watching)
        control_events_unwatch(on_event);
    watching = false;
    while (setting)
        task_sleep_us(1000);
    for (unsigned i = 0; i < HOOKS; i++)
        end(&hooks[i]);
    keep(&next_opts.command, NULL);
    keep(&next_opts.url, NULL);
    keep(&next_opts.ca, NULL);
    keep(&next_opts.token, NULL);
}
