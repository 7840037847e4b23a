/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/events.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "block/event.h"
#include "control/changes.h"
#include "control/shows.h"

/*
 * What happened, the last CONTROL_EVENTS_MAX of it. Each event gets the state that its object had
 * before and has now, looked up when it comes in unless it brings them: the layers raise what they
 * saw, and need not know what states are called above them. Behind each event all states are
 * compared with those that are remembered, since one change brings others: an export whose device
 * went is not ready.
 */
enum { STATES_MAX = 65536, LOOK_US = 100000 };
struct kept {
    struct event ev;
    char old_state[STATE_TEXT], new_state[STATE_TEXT];
};
static bool looking;
static struct kept *ring;
static uint64_t event_count;       /* the id of the last one */
static struct json_object *states; /* object -> its state when it was last heard of */
static void (*watchers[CONTROL_WATCHERS])(void);

static void remember(const char *object, const char *state)
{
    /* Names come and go; what is remembered of them is bounded. */
    if (json_object_object_length(states) > STATES_MAX) {
        json_object_put(states);
        states = json_object_new_object();
    }
    if (!strcmp(state, "absent"))
        json_object_object_del(states, object);
    else if (*state)
        put_str(states, object, state);
}

/* ---- states that change without an event of their own */

/* An array goes from clean to active and back with every burst of writes. */
static bool same_state(const char *a, const char *b)
{
    const char *was = !strcmp(a, "active") ? "clean" : a, *is = !strcmp(b, "active") ? "clean" : b;
    return !strcmp(was, is);
}

static void compare(const char *object, const char *state, const char *why)
{
    const char *was = get_str(states, object);
    if (*was && !same_state(was, state))
        event_raise_change(object, "state-changed", was, state, "from %s to %s%s%s", was, state,
                           *why ? ": " : "", why);
    put_str(states, object, state); /* absent, too: it is saved, and may come back */
}

static void look(void *arg)
{
    (void)arg;
    task_sleep_us(LOOK_US); /* much happens at once */
    looking = false;
    if (control.phase == CONTROL_READY)
        changes_for_each_state(compare);
    control.running--;
}

static void look_soon(void)
{
    if (looking || control.phase != CONTROL_READY)
        return;
    looking = true;
    control.running++; /* a stop waits for it */
    task_start(reactor_main(), "states", look, NULL);
}

void events_start(void)
{
    changes_for_each_state(compare);
}

/* ---- the ring */

static void keep_event(const struct event *ev, void *arg)
{
    (void)arg;
    struct kept *k = &ring[event_count++ % CONTROL_EVENTS_MAX];
    k->ev = *ev;
    if (*ev->new_state)
        snprintf(k->new_state, sizeof k->new_state, "%s", ev->new_state);
    else
        changes_state_now(ev->object, k->new_state);
    const char *was = *ev->old_state ? ev->old_state : get_str(states, ev->object);
    if (!*was && !strcmp(ev->kind, "array-created"))
        was = "absent";
    snprintf(k->old_state, sizeof k->old_state, "%s", was);
    remember(ev->object, k->new_state);
    look_soon();
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
    uint64_t after = opts_is_set(o, "after") ? opts_u64(o, "after") : 0;
    if (after >= event_count)
        return 0;
    if (after >= id)
        id = after + 1;
    for (; id <= event_count; id++)
        json_object_array_add(items, control_event(id));
    return 0;
}
