/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/events.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "block/event.h"
#include "block/job.h"
#include "control/jobs.h"
#include "control/shows.h"
#include "raid/raid.h"
#include "targets/nbd/nbd.h"
#include "volumes/volumes.h"

/*
 * What happened, the last CONTROL_EVENTS_MAX of it. Each event gets the state that its object had
 * before and has now, looked up when it comes in: the layers raise what they saw, and need not know
 * what states are called above them.
 */
enum { STATE_TEXT = 24 };
struct kept {
    struct event ev;
    char old_state[STATE_TEXT], new_state[STATE_TEXT];
};
static struct kept *ring;
static uint64_t event_count;       /* the id of the last one */
static struct json_object *states; /* object -> its state when it was last heard of */
static void (*watchers[CONTROL_WATCHERS])(void);

/* "array a0" is kind and name. "" when there is no such object, or it has no states. */
static const char *state_now(const char *object)
{
    const char *space = strchr(object, ' ');
    if (!space)
        return "";
    const char *name = space + 1;
    size_t n = (size_t)(space - object);
    if (!strncmp(object, "array", n)) {
        autofree struct raid_info *info = xcalloc(1, sizeof *info);
        return raid_get(name, info)       ? raid_state_name(info->state)
               : state_get("array", name) ? "inactive"
                                          : "absent";
    }
    if (!strncmp(object, "pool", n)) {
        autofree struct pool_info *info = xcalloc(1, sizeof *info);
        return pool_get(name, info)      ? pool_state_name(info->state)
               : state_get("pool", name) ? "inactive"
                                         : "absent";
    }
    if (!strncmp(object, "job", n))
        return job_state_now(name);
    if (!strncmp(object, "device", n))
        return bdev_find(name) ? "online" : "absent";
    return "";
}

static void keep_event(const struct event *ev, void *arg)
{
    (void)arg;
    struct kept *k = &ring[event_count++ % CONTROL_EVENTS_MAX];
    k->ev = *ev;
    snprintf(k->new_state, sizeof k->new_state, "%s", state_now(ev->object));
    const char *was = get_str(states, ev->object);
    if (!*was && !strcmp(ev->kind, "job-ended"))
        was = job_state_name(JOB_RUNNING); /* it began without an event */
    snprintf(k->old_state, sizeof k->old_state, "%s", was);
    /* Names come and go; what is remembered of them is bounded. */
    if (json_object_object_length(states) > 4096) {
        json_object_put(states);
        states = json_object_new_object();
    }
    if (*k->new_state)
        put_str(states, ev->object, k->new_state);
    for (unsigned i = 0; i < CONTROL_WATCHERS; i++)
        if (watchers[i])
            watchers[i]();
}

void events_init(void)
{
    ring = xcalloc(CONTROL_EVENTS_MAX, sizeof *ring);
    states = json_object_new_object();
    event_observe(keep_event, NULL);
}

void events_fini(void)
{
    event_observe(NULL, NULL);
    free(ring);
    ring = NULL;
    json_object_put(states);
    states = NULL;
}

uint64_t control_events_total(void)
{
    return event_count;
}

uint64_t control_events_first(void)
{
    return event_count > CONTROL_EVENTS_MAX ? event_count - CONTROL_EVENTS_MAX + 1 : 1;
}

void control_events_watch(void (*fn)(void))
{
    unsigned i = 0;
    while (watchers[i])
        i++;
    assert(i < CONTROL_WATCHERS);
    watchers[i] = fn;
}

void control_events_unwatch(void (*fn)(void))
{
    for (unsigned i = 0; i < CONTROL_WATCHERS; i++)
        if (watchers[i] == fn)
            watchers[i] = NULL;
}

struct json_object *control_event(uint64_t id)
{
    if (id < control_events_first() || id > event_count)
        return NULL;
    const struct kept *k = &ring[(id - 1) % CONTROL_EVENTS_MAX];
    struct json_object *o = json_object_new_object();
    put_u64(o, "id", id);
    put_time(o, "time", k->ev.time_ms);
    put_str(o, "object", k->ev.object);
    put_str(o, "kind", k->ev.kind);
    put_str(o, "old_state", k->old_state);
    put_str(o, "new_state", k->new_state);
    put_str(o, "message", k->ev.message);
    return o;
}

LIST(event)
{
    (void)m, (void)e;
    uint64_t id = control_events_first();
    if (opts_is_set(o, "after") && opts_u64(o, "after") >= id)
        id = opts_u64(o, "after") + 1;
    for (; id <= event_count; id++)
        json_object_array_add(items, control_event(id));
    return 0;
}
