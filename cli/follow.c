/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `orionctl events --follow`: what was, then what comes, as the daemon tells of it. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "base/mem.h"
#include "client/client.h"
#include "output.h"
#include "tools.h"

struct follow {
    const struct command *c;
    uint64_t last;     /* id of the last event that was looked at */
    char last_id[256]; /* of the stream; "": none came yet */
    bool listed;       /* what was before the stream is printed */
    int rc;
};

/* The filters of the list hold for the stream, where the daemon knows none. */
static bool passes(const struct follow *f, struct json_object *ev)
{
    for (unsigned i = 0; i < f->c->option_count; i++) {
        const struct opt *o = f->c->option[i].opt;
        if (o->flags & OPT_FILTER && strcmp(json_text(ev, o->name), f->c->option[i].value))
            return false;
    }
    return true;
}

static uint64_t id_of(struct json_object *ev)
{
    struct json_object *id;
    return json_object_object_get_ex(ev, "id", &id) ? (uint64_t)json_object_get_int64(id) : 0;
}

static void look(struct follow *f, struct json_object *ev)
{
    uint64_t id = id_of(ev);
    if (id && id <= f->last)
        return; /* it was in the list */
    if (passes(f, ev))
        output_row(f->c, ev);
    if (id)
        f->last = id;
}

/* The stream stands: nothing is lost between the list and it. */
static void on_ready(void *arg)
{
    struct follow *f = arg;
    struct json_object *items;
    if (f->listed)
        return;
    autofree char *path = xasprintf("/v1/events?after=%" PRIu64, f->last);
    f->rc = api_list(path, false, &items);
    for (size_t i = 0; !f->rc && i < json_object_array_length(items); i++)
        look(f, json_object_array_get_idx(items, i));
    json_object_put(items);
    f->listed = true;
    fflush(stdout);
}

static bool on_event(const struct client_event *ev, void *arg)
{
    struct follow *f = arg;
    struct json_object *o = json_tokener_parse(ev->data);
    if (f->rc || !o)
        return false;
    if (!strcmp(ev->kind, "gap"))
        f->last = 0; /* another run of the daemon counts anew */
    else
        look(f, o);
    if (*ev->id)
        snprintf(f->last_id, sizeof f->last_id, "%s", ev->id);
    json_object_put(o);
    return !fflush(stdout);
}

int follow_run(const struct command *c)
{
    const char *after = command_option(c, "after");
    struct follow f = {.c = c, .last = after ? strtoull(after, NULL, 10) : 0};
    struct client_follower follower = {on_ready, on_event, &f};
    for (;;) {
        int rc = api_follow("/v1/events", *f.last_id ? f.last_id : NULL, &follower);
        if (rc || f.rc)
            return rc ? rc : f.rc;
        if (ferror(stdout))
            return EXIT_REFUSED;
        sleep(1); /* as `retry` of the stream says */
    }
}
