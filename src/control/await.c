/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrays that lack members at start-up wait for them: a device that is saved and absent may come a
 * little later than the others, and whoever went on without it may be the older half. An array
 * waits for who served when it was last here, for so long as the setting array_wait says; all else
 * is served meanwhile. Whoever does not come was lost: the array starts degraded.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "control/array_log.h"
#include "control/private.h"

enum { STEP_MS = 100, LOOK_STEPS = 5 };

static uint64_t until_ms; /* of reactor_now(), by wall_until for people; 0: nobody is waited for */
static uint64_t wall_until;

static bool may_come(const char *device)
{
    if (!until_ms || bdev_find(device))
        return false;
    return strchr(device, '/') || state_get("device", device) || state_get("array", device);
}

/* The device of its log: without it the array could start, and whole, but its log would be gone. */
static const char *awaited_log(struct json_object *record)
{
    const char *device = array_log_device(record);
    return device && may_come(device) ? device : NULL;
}

/* The first of the members that served last and is awaited, or NULL. */
static const char *awaited(struct json_object *record)
{
    struct json_object *last = NULL, *members = NULL;
    if (!json_object_object_get_ex(record, "last", &last) ||
        !json_object_object_get_ex(last, "members", &members))
        return NULL;
    for (size_t i = 0; i < json_object_array_length(members); i++) {
        const char *one = json_object_get_string(json_object_array_get_idx(members, i));
        if (one && may_come(one)) /* a slot that was empty is "missing" */
            return one;
    }
    return NULL;
}

static bool tell(const char *what, const char *device, struct err *e)
{
    if (!device)
        return false;
    struct json_object *o = json_object_new_object();
    put_time(o, "until", wall_until);
    err_set(e, ERR_NOT_READY, "", "waits until %s for its %s %s", get_str(o, "until"), what,
            device);
    json_object_put(o);
    return true;
}

bool log_awaited(struct json_object *record, struct err *e)
{
    return tell("log device", awaited_log(record), e);
}

bool members_awaited(struct json_object *record, struct err *e)
{
    return tell("member", awaited(record), e) || log_awaited(record, e);
}

static void look(const char *key, struct json_object *record, void *arg)
{
    *(bool *)arg |= !bdev_find(strchr(key, '/') + 1) && (awaited(record) || awaited_log(record));
}

static bool anybody_waits(void)
{
    bool waits = false;
    journal_for_each(control.journal, "array/", look, &waits);
    return waits;
}

/* What stands on an array comes behind it, also when a person started that. */
static void await(void *arg)
{
    (void)arg;
    for (unsigned i = 1; control.phase == CONTROL_READY && until_ms; i++) {
        task_sleep_us(STEP_MS * 1000);
        bool over = reactor_now() / 1000000 >= until_ms || !anybody_waits();
        if (control.phase != CONTROL_READY || (!over && i % LOOK_STEPS))
            continue;
        if (over)
            until_ms = 0;
        replay_passes();
        if (over)
            replay_arrays_last();
    }
    control.running--;
}

void await_begin(void)
{
    uint64_t wait_ms = control.opts.array_wait_s * 1000ull;
    until_ms = wait_ms ? reactor_now() / 1000000 + wait_ms : 0;
    wall_until = (uint64_t)time(NULL) * 1000 + wait_ms;
}

void await_go_on(void)
{
    if (!anybody_waits()) {
        until_ms = 0;
        return;
    }
    control.running++; /* a stop waits for it */
    task_start(reactor_main(), "await members", await, NULL);
}
