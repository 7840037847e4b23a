/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/apply.h"

/*
 * An apply that the daemon died in. How far it came is not written down step by step: what is left
 * is what a new plan of its document finds, and the steps that are not left were done.
 */
int apply_save(uint64_t id, const char *config, const struct steps *s, struct err *e)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    struct json_object *o = json_object_new_object(), *steps = json_object_new_array();
    for (unsigned k = 0; k < s->count; k++)
        json_object_array_add(steps, json_object_new_string(s->step[k].text));
    put_str(o, "config", config);
    json_object_object_add(o, "steps", steps);
    int rc = state_put("apply", text, o, e);
    json_object_put(o);
    return rc;
}

static int plan_left(struct json_object *saved, struct steps *left, struct err *e)
{
    struct plan plan = {0};
    struct json_object *doc = json_tokener_parse(get_str(saved, "config"));
    int rc = plan_make(doc, &plan, e);
    if (!rc)
        steps_make(left, &plan);
    plan_free(&plan);
    json_object_put(doc);
    return rc;
}

static struct json_object *texts_of(const struct steps *s)
{
    struct json_object *list = json_object_new_array();
    for (unsigned k = 0; k < s->count; k++)
        json_object_array_add(list, json_object_new_string(s->step[k].text));
    return list;
}

/* The steps that are not left. */
static struct json_object *texts_but(struct json_object *steps, const struct steps *left)
{
    struct json_object *list = json_object_new_array(), *names = json_object_new_object();
    for (unsigned k = 0; k < left->count; k++)
        put_bool(names, left->step[k].text, true);
    for (size_t k = 0; k < json_object_array_length(steps); k++) {
        struct json_object *text = json_object_array_get_idx(steps, k);
        if (!json_object_object_get_ex(names, json_object_get_string(text), NULL))
            json_object_array_add(list, json_object_get(text));
    }
    json_object_put(names);
    return list;
}

void apply_cut_off(const char *id, struct json_object *record)
{
    struct json_object *saved = state_get("apply", id), *steps = NULL;
    struct steps left = {0};
    struct err e = {.msg = ""};
    if (!saved) {
        put_str(record, "error", "oriond ended before the first step; apply it again");
        return;
    }
    json_object_object_get_ex(saved, "steps", &steps);
    if (plan_left(saved, &left, &e)) {
        autofree char *why =
            xasprintf("oriond ended while it ran, and what is left cannot be planned: %s", e.msg);
        put_str(record, "error", why);
        return;
    }
    struct json_object *done = texts_but(steps, &left), *result = json_object_new_object();
    autofree char *why =
        xasprintf("oriond ended while it ran: %zu of %zu steps are done; apply it again to go on",
                  json_object_array_length(done), json_object_array_length(steps));
    put_u64(record, "done", json_object_array_length(done));
    put_u64(record, "total", json_object_array_length(steps));
    put_str(record, "error", why);
    json_object_object_add(result, "done", done);
    json_object_object_add(result, "left", texts_of(&left));
    json_object_object_add(record, "result", result);
    steps_free(&left);
}
