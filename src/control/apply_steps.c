/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/apply.h"

static struct step *add_step(struct steps *a, const char *what, const struct item *i)
{
    if (a->count == a->room) {
        a->room = a->room ? a->room * 2 : 64;
        a->step = xrealloc(a->step, a->room * sizeof *a->step);
    }
    struct step *s = &a->step[a->count++];
    *s = (struct step){.text = xasprintf("%s %s %s", what, item_kind_name(i->kind), i->name)};
    return s;
}

static const struct opt *table_of(const char *method, const char *path)
{
    struct schema_match m;
    return schema_route(method, path, &m, NULL, NULL) ? NULL : m.verb->opts;
}

/* Whatever consent the verb knows: it was asked for once, for the whole. */
static struct json_object *consent(const char *path)
{
    const struct opt *t = table_of("DELETE", path);
    struct json_object *o = json_object_new_object();
    if (t && opts_find(t, "yes"))
        put_bool(o, "yes", true);
    return o;
}

/* A secret that the document does not tell stays as it is. */
static void keep_secrets(const struct item *i, struct json_object *body)
{
    struct json_object *saved = item_secrets(i);
    if (!saved)
        return;
    json_object_object_foreach(saved, field, value)
    {
        const char *user = strcmp(field, "chap_secret") ? "mutual_user" : "chap_user";
        if (*get_str(body, user) && !json_object_object_get_ex(body, field, NULL))
            json_object_object_add(body, field, json_object_get(value));
    }
}

static struct json_object *fields_of(const struct steps *a, const struct item *i)
{
    struct json_object *body = json_object_new_object();
    json_object_object_foreach(i->fields, key, value)
    {
        json_object_object_add(body, key, json_object_get(value));
    }
    keep_secrets(i, body);
    const struct opt *t = table_of("PUT", i->path);
    if (a->force && t && opts_find(t, "force"))
        put_bool(body, "force", true);
    return body;
}

static void add_delete(struct steps *a, const struct item *i)
{
    struct step *s = add_step(a, "delete", i);
    s->method = "DELETE";
    s->path = xstrdup(i->path);
    s->body = consent(i->path);
    if (*i->loses)
        return;
    s->undo_method = "PUT";
    s->undo_path = xstrdup(i->path);
    s->undo_body = fields_of(a, i);
}

static void add_create(struct steps *a, const struct item *i)
{
    struct step *s = add_step(a, "create", i);
    s->method = "PUT";
    s->path = xstrdup(i->path);
    s->body = fields_of(a, i);
    s->undo_method = "DELETE";
    s->undo_path = xstrdup(i->path);
    s->undo_body = consent(i->path);
}

/* The fields as they were: for a change that has no more to it than its fields. */
static struct json_object *old_fields(const struct item *i)
{
    struct json_object *o = json_object_new_object();
    for (size_t k = 0; k < json_object_array_length(i->differs); k++) {
        struct json_object *d = json_object_array_get_idx(i->differs, k), *have = NULL;
        const char *field = get_str(d, "field");
        json_object_object_get_ex(d, "have", &have);
        if (opts_find(i->opts->table, field)->flags & OPT_SECRET)
            json_object_object_get_ex(item_secrets(i), field, &have);
        json_object_object_add(o, field, json_object_get(have)); /* null: there was none */
    }
    return o;
}

/* ---- what is given up first */

static struct json_object *kept_spares(const struct item *i)
{
    unsigned n, m, kept = 0;
    char *const *want = opts_list(i->opts, "spares", &n), *const *have = opts_list(i->other->opts,
                                                                                   "spares", &m);
    struct json_object *list = json_object_new_array();
    for (unsigned k = 0; k < m; k++) {
        bool stays = false;
        for (unsigned j = 0; j < n && !stays; j++)
            stays = !strcmp(have[k], want[j]);
        if (stays)
            json_object_array_add(list, json_object_new_string(have[k]));
        kept += stays;
    }
    if (kept < m)
        return list;
    json_object_put(list);
    return NULL;
}

/* The one field by which a change in place frees what others may want, with the value that does no
 * more than that; NULL: none. The caller's. */
static struct json_object *given_up(const struct item *i, const char **field_r)
{
    if (i->kind == ITEM_EXPORT && opts_bool(i->other->opts, "default") &&
        !opts_bool(i->opts, "default")) {
        *field_r = "default";
        return json_object_new_boolean(false);
    }
    *field_r = "spares";
    return i->kind == ITEM_ARRAY ? kept_spares(i) : NULL;
}

static bool shrinks(const struct item *i)
{
    return i->kind == ITEM_VOLUME && opts_u64(i->opts, "size") < opts_u64(i->other->opts, "size");
}

static void finish_change(struct step *s, const struct item *i)
{
    if (!strcmp(s->method, "POST"))
        return;
    s->undo_method = s->method;
    s->undo_path = xstrdup(i->path);
    s->undo_body = old_fields(i);
}

/* True: there is no more to the change. */
static bool add_giving_up(struct steps *a, const struct item *i)
{
    const char *method, *field;
    autofree char *path = NULL;
    if (shrinks(i)) {
        struct step *s = add_step(a, "change", i);
        s->body = plan_change_body(i, &s->method, &s->path);
        finish_change(s, i);
        return true;
    }
    struct json_object *value = given_up(i, &field), *whole = NULL, *want = NULL;
    if (!value)
        return false;
    whole = plan_change_body(i, &method, &path);
    json_object_object_get_ex(whole, field, &want);
    bool all = json_object_object_length(whole) == 1 && json_object_equal(want, value);
    struct step *s = add_step(a, "change", i);
    s->method = s->undo_method = "PATCH";
    s->path = xstrdup(i->path);
    s->undo_path = xstrdup(i->path);
    s->body = json_object_new_object();
    json_object_object_add(s->body, field, value);
    s->undo_body = old_fields(i);
    json_object_object_foreach(whole, key, unused)
    {
        (void)unused;
        if (strcmp(key, field) != 0)
            json_object_object_del(s->undo_body, key);
    }
    json_object_put(whole);
    return all;
}

/* What was given up before this is given back after this is undone. */
static void add_change(struct steps *a, const struct item *i)
{
    const char *field;
    struct json_object *value = given_up(i, &field);
    struct step *s = add_step(a, "change", i);
    s->body = plan_change_body(i, &s->method, &s->path);
    finish_change(s, i);
    if (value && s->undo_body)
        json_object_object_add(s->undo_body, field, json_object_get(value));
    json_object_put(value);
}

/* ---- the order */

/* Storage that is made, or grows, may need the place of what goes. */
static bool needs_place(const struct plan *p)
{
    for (unsigned k = 0; k < p->want.count; k++) {
        const struct item *i = p->want.item[k];
        bool more = i->action == ACT_CREATE || i->action == ACT_REPLACE ||
                    (i->action == ACT_CHANGE && !shrinks(i));
        if (i->kind <= ITEM_VOLUME && more)
            return true;
    }
    return false;
}

static void add_deletes(struct steps *a, const struct plan *p, bool data_last)
{
    for (unsigned k = p->have.count; k--;) {
        const struct item *i = p->have.item[k];
        bool late = data_last && i->kind <= ITEM_VOLUME;
        if (i->action == ACT_REPLACE || (i->action == ACT_DELETE && !late))
            add_delete(a, i);
    }
}

static void add_wanted(struct steps *a, const struct plan *p, const bool *done)
{
    for (unsigned k = 0; k < p->want.count; k++) {
        const struct item *i = p->want.item[k];
        if (i->action == ACT_CREATE || i->action == ACT_REPLACE)
            add_create(a, i);
        else if (i->action == ACT_CHANGE && !done[k])
            add_change(a, i);
    }
}

void steps_make(struct steps *a, const struct plan *p)
{
    bool data_last = !needs_place(p);
    autofree bool *done = xcalloc(p->want.count + 1, sizeof *done);
    add_deletes(a, p, data_last);
    for (unsigned k = 0; k < p->want.count; k++)
        if (p->want.item[k]->action == ACT_CHANGE)
            done[k] = add_giving_up(a, p->want.item[k]);
    add_wanted(a, p, done);
    for (unsigned k = p->have.count; data_last && k--;)
        if (p->have.item[k]->action == ACT_DELETE && p->have.item[k]->kind <= ITEM_VOLUME)
            add_delete(a, p->have.item[k]);
}

void steps_free(struct steps *a)
{
    for (unsigned k = 0; k < a->count; k++) {
        free(a->step[k].path);
        free(a->step[k].undo_path);
        free(a->step[k].text);
        json_object_put(a->step[k].body);
        json_object_put(a->step[k].undo_body);
    }
    free(a->step);
    *a = (struct steps){0};
}
