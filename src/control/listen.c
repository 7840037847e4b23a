/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/listen.h"

#include <stdio.h>
#include <string.h>

struct bound {
    const char *addr;
    char text[160];
};

static void note_bound(const char *addr, const char *bound, void *arg)
{
    struct bound *b = arg;
    if (!strcmp(addr, b->addr))
        snprintf(b->text, sizeof b->text, "%s", bound);
}

struct json_object *listening_show(const struct listening *l, const char *addr)
{
    struct json_object *o = json_object_new_object();
    struct bound b = {.addr = addr};
    l->each(note_bound, &b);
    put_str(o, "addr", addr);
    put_str(o, "bound", b.text);
    put_str(o, "reason", *b.text ? "" : reason_get(l->kind, addr));
    return o;
}

int listening_add(struct verb_run *v, const struct listening *l, struct json_object *record,
                  struct err *e)
{
    const char *addr = verb_param(v, "addr");
    v->changed = !v->existing;
    if (v->existing && *get_str(v->existing, "bound"))
        return 0;
    if (l->start(addr, record, e))
        return -1;
    reason_set(l->kind, addr, NULL);
    if (v->existing || !state_put(l->kind, addr, record, e))
        return 0;
    l->stop(addr, NULL);
    return -1;
}

int listening_remove(struct verb_run *v, const struct listening *l, struct err *e)
{
    const char *addr = verb_param(v, "addr");
    if (*get_str(v->existing, "bound") && l->stop(addr, e))
        return -1;
    return state_del(l->kind, addr, e);
}
