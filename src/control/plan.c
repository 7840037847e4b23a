/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "control/adopt.h"
#include "control/plan_private.h"

/* The difference between what a document wants and what stands, in an order that works. */

enum { DEPTH_MAX = 64 };

/* ---- what an item stands on */

/* Calls fn with every name that the item's fields mention. */
static void each_reference(const struct item *i, void (*fn)(const char *name, void *arg), void *arg)
{
    static const char *const single[] = {"device", "on", "origin", "pool", "log_device"};
    static const char *const lists[] = {"devices", "members", "spares"};
    for (unsigned k = 0; i->opts && k < sizeof single / sizeof *single; k++) {
        const struct opt *o = opts_find(i->opts->table, single[k]);
        const char *name = o && o->type <= OPT_PATH ? opts_str(i->opts, single[k]) : NULL;
        if (name && *name)
            fn(name, arg);
    }
    for (unsigned k = 0; i->opts && k < 3; k++) {
        const struct opt *o = opts_find(i->opts->table, lists[k]);
        unsigned n = 0;
        char *const *list = o && o->type == OPT_LIST ? opts_list(i->opts, lists[k], &n) : NULL;
        for (unsigned j = 0; j < n; j++)
            if (strcmp(list[j], "missing") != 0)
                fn(list[j], arg);
    }
}

struct walk {
    struct plan *plan;
    struct item_set *set;
    struct item *user;
    unsigned depth;
};

static void visit(struct walk *w, struct item *i);

static void visit_reference(const char *name, void *arg)
{
    struct walk *w = arg;
    struct item *user = w->user, *on = plan_find(w->set->by_name, w->set, name);
    if (on) {
        visit(w, on);
        w->user = user;
        return;
    }
    /* It may stand in a section that the document leaves alone. */
    struct item *stands = plan_find(w->plan->have.by_name, &w->plan->have, name);
    bool kept =
        stands && !w->plan->want.section[stands->parent ? stands->parent->kind : stands->kind];
    if (stands && stands->parent && !kept) {
        struct item *pool = plan_find(w->plan->want.by_path, &w->plan->want, stands->parent->path);
        kept = pool && !(pool->children_named & 1u << stands->kind);
    }
    /* What stands already on something that is not there now is no worse for being written down. */
    bool stands_so = plan_find(w->plan->have.by_path, &w->plan->have, user->path);
    if (kept || stands_so || w->set == &w->plan->have)
        return;
    autofree char *place = plan_place(user);
    autofree char *why = xasprintf("there is no device, array, pool or volume %.80s", name);
    plan_error(w->plan, place, why);
}

/* Puts an item behind all that it stands on. */
static void visit(struct walk *w, struct item *i)
{
    if (i->mark == 2)
        return;
    if (i->mark == 1 || w->depth >= DEPTH_MAX) {
        autofree char *place = plan_place(i);
        plan_error(w->plan, place, i->mark ? "it stands on itself" : "it stands on too much");
        return;
    }
    i->mark = 1;
    w->depth++;
    if (i->parent)
        visit(w, i->parent);
    w->user = i;
    each_reference(i, visit_reference, w);
    w->depth--;
    i->mark = 2;
    w->set->item[w->set->count++] = i;
}

static void order(struct plan *plan, struct item_set *set)
{
    struct walk w = {.plan = plan, .set = set};
    unsigned n = set->count;
    set->item = xcalloc(n + 1, sizeof *set->item);
    set->count = 0;
    for (unsigned k = 0; k < n; k++)
        visit(&w, set->unordered[k]);
    /* One that an error left out stays at its end, so that it is freed. */
    set->count = n;
}

/* ---- comparing */

static struct json_object *field_json(const struct item *i, const struct opt *opt)
{
    struct json_object *v = NULL;
    json_object_object_get_ex(i->fields, opt->name, &v);
    if (!v || (opt->flags & OPT_SECRET))
        return NULL;
    return json_object_get(v);
}

static bool same_list(const struct item *want, const struct item *have, const char *name)
{
    unsigned n, m;
    char *const *a = opts_list(want->opts, name, &n), *const *b = opts_list(have->opts, name, &m);
    bool ordered = want->kind == ITEM_ARRAY && !strcmp(name, "members");
    for (unsigned i = 0; i < n; i++) {
        bool found = false;
        for (unsigned k = 0; k < m && !found; k++)
            found = (!ordered || i == k) && !strcmp(a[i], b[k]);
        if (!found)
            return false;
    }
    return n == m;
}

static const char *text_of(const struct item *i, const struct opt *opt)
{
    const char *s = opts_str(i->opts, opt->name);
    if (s && i->kind == ITEM_ARRAY && !strcmp(opt->name, "level"))
        return array_level_plain(s);
    return s ? s : "";
}

/* A volume's size is in whole extents; the document may say any. */
static uint64_t number_of(const struct item *i, const struct opt *opt, const struct item *pool)
{
    uint64_t v = opts_u64(i->opts, opt->name);
    uint64_t unit = pool && pool->opts ? opts_u64(pool->opts, "extent_size") : 0;
    if (i->kind != ITEM_VOLUME || strcmp(opt->name, "size") || !unit || v > UINT64_MAX - unit)
        return v;
    return (v + unit - 1) / unit * unit;
}

/* What stands on disks tells all that it is; of the rest the saved record has what was set. */
static bool has_home_on_disk(const struct item *i)
{
    return i->kind == ITEM_ARRAY || i->kind == ITEM_POOL || i->kind == ITEM_VOLUME;
}

/* A secret that the document leaves out is kept, and the same again is no change. */
static bool secret_differs(const struct item *want, const struct opt *opt)
{
    return opts_is_set(want->opts, opt->name) &&
           !secret_equal(opts_str(want->opts, opt->name), get_str(item_secrets(want), opt->name));
}

static bool field_differs(const struct item *want, const struct item *have, const struct opt *opt)
{
    if (opt->flags & (OPT_CONSENT | OPT_CLIENT) || !opts_find(have->opts->table, opt->name))
        return false;
    bool set = opts_is_set(want->opts, opt->name), known = opts_is_set(have->opts, opt->name);
    if (opt->flags & OPT_SECRET)
        return secret_differs(want, opt);
    if (has_home_on_disk(want) && !known)
        return false;
    switch (opt->type) {
    case OPT_BOOL:
        if (has_home_on_disk(want) && !set)
            return false;
        return opts_bool(want->opts, opt->name) != opts_bool(have->opts, opt->name);
    case OPT_LIST: return (set || !has_home_on_disk(want)) && !same_list(want, have, opt->name);
    case OPT_STRING:
        if (!strcmp(opt->name, "type")) /* a device's: file when there is a path */
            return set && strcmp(text_of(want, opt), text_of(have, opt)) &&
                   strcmp(text_of(want, opt), "disk");
        return strcmp(text_of(want, opt), text_of(have, opt)) != 0;
    case OPT_SIZE:
    case OPT_UINT:
        return set &&
               (!known || number_of(want, opt, have->parent) != number_of(have, opt, have->parent));
    case OPT_PATH: return strcmp(text_of(want, opt), text_of(have, opt)) != 0;
    default: return (set || opt->dflt) && strcmp(text_of(want, opt), text_of(have, opt)) != 0;
    }
}

static void compare(struct item *want)
{
    struct item *have = want->other;
    if (!want->opts || !have->opts)
        return;
    for (const struct opt *opt = want->opts->table; opt->name; opt++) {
        if (!field_differs(want, have, opt))
            continue;
        struct json_object *o = json_object_new_object();
        put_str(o, "field", opt->name);
        json_object_object_add(o, "have", field_json(have, opt));
        json_object_object_add(o, "want", field_json(want, opt));
        if (!want->differs)
            want->differs = json_object_new_array();
        json_object_array_add(want->differs, o);
    }
}

/* ---- changing in place */

static bool only_field(const struct item *want, const char *field)
{
    return json_object_array_length(want->differs) == 1 &&
           !strcmp(get_str(json_object_array_get_idx(want->differs, 0), "field"), field);
}

/* Devices of the pool that are new; NULL when one that it has is not wanted any more. */
static struct json_object *new_devices(const struct item *want)
{
    unsigned n, m, kept = 0;
    char *const *a = opts_list(want->opts, "devices", &n), *const *b = opts_list(want->other->opts,
                                                                                 "devices", &m);
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < n; i++) {
        bool here = false;
        for (unsigned k = 0; k < m; k++)
            here |= !strcmp(a[i], b[k]);
        kept += here;
        if (!here)
            json_object_array_add(list, json_object_new_string(a[i]));
    }
    if (kept == m)
        return list;
    json_object_put(list);
    return NULL;
}

/* The one device that takes a free slot; NULL when the members differ in another way. */
static const char *new_member(const struct item *want)
{
    unsigned n, m;
    const char *found = NULL;
    char *const *a = opts_list(want->opts, "members", &n), *const *b = opts_list(want->other->opts,
                                                                                 "members", &m);
    for (unsigned i = 0; i < n && n == m; i++) {
        if (!strcmp(a[i], b[i]))
            continue;
        if (found || strcmp(b[i], "missing") != 0)
            return NULL;
        found = a[i];
    }
    return found;
}

static struct json_object *patch_body(const struct item *want)
{
    struct schema_match m;
    if (schema_route("PATCH", want->path, &m, NULL, NULL) || !m.verb->opts)
        return NULL;
    struct json_object *body = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(want->differs); i++) {
        struct json_object *d = json_object_array_get_idx(want->differs, i), *v = NULL;
        const char *field = get_str(d, "field");
        const struct opt *opt = opts_find(m.verb->opts, field);
        if (!opt) {
            json_object_put(body);
            return NULL;
        }
        json_object_object_get_ex(want->fields, field, &v);
        json_object_object_add(body, field, json_object_get(v)); /* null: without it */
    }
    return body;
}

struct json_object *plan_change_body(const struct item *want, const char **method_r, char **path_r)
{
    struct json_object *body = NULL;
    const char *action = NULL;
    if (want->kind == ITEM_VOLUME && only_field(want, "size")) {
        body = json_object_new_object();
        put_u64(body, "size", opts_u64(want->opts, "size"));
        put_bool(body, "yes", true);
        action = "resize";
    } else if (want->kind == ITEM_POOL && only_field(want, "devices")) {
        struct json_object *list = new_devices(want);
        body = list ? json_object_new_object() : NULL;
        if (list)
            json_object_object_add(body, "devices", list);
        action = "extend";
    } else if (want->kind == ITEM_ARRAY && only_field(want, "members")) {
        const char *device = new_member(want);
        body = device ? json_object_new_object() : NULL;
        if (device)
            put_str(body, "device", device);
        action = "add";
    } else if (want->kind == ITEM_GROUP) { /* its PUT sets it, whatever it was */
        *method_r = "PUT";
        *path_r = xstrdup(want->path);
        return json_object_get(want->fields);
    } else {
        body = patch_body(want);
    }
    *method_r = action ? "POST" : "PATCH";
    *path_r = action ? xasprintf("%s/actions/%s", want->path, action) : xstrdup(want->path);
    return body;
}

/* ---- deciding */

static const char *loss_of(const struct item *i)
{
    if (i->kind == ITEM_ARRAY)
        return "the array's superblocks, and with them the data that stands on it";
    if (i->kind == ITEM_POOL)
        return "the pool's description, and with it the data of its volumes";
    if (i->kind == ITEM_VOLUME)
        return "the volume's data";
    if (i->kind == ITEM_DEVICE && !strcmp(get_str(i->fields, "type"), "mem"))
        return "the data in memory";
    return "";
}

struct shaken {
    const struct item_set *set;
    bool yes;
};

static void find_shaken(const char *name, void *arg)
{
    struct shaken *s = arg;
    const struct item *on = plan_find(s->set->by_name, s->set, name);
    s->yes |= on && (on->action == ACT_REPLACE || on->action == ACT_DELETE);
}

/* Something that it stands on is deleted, for good or to be made anew. */
static bool is_shaken(const struct item *i, const struct item_set *set)
{
    struct shaken s = {set, i->parent && i->parent->action >= ACT_REPLACE};
    if (!s.yes)
        each_reference(i, find_shaken, &s);
    return s.yes;
}

static void decide_wanted(struct plan *plan, struct item *i)
{
    i->other = plan_find(plan->have.by_path, &plan->have, i->path);
    if (!i->other) {
        i->action = ACT_CREATE;
        return;
    }
    i->other->other = i;
    compare(i);
    if (i->differs) {
        const char *method;
        autofree char *path = NULL;
        struct json_object *body = plan_change_body(i, &method, &path);
        i->action = body ? ACT_CHANGE : ACT_REPLACE;
        json_object_put(body);
    }
    if (is_shaken(i, &plan->want) || is_shaken(i->other, &plan->have))
        i->action = ACT_REPLACE;
    i->other->action = i->action;
    if (i->action == ACT_REPLACE)
        i->loses = loss_of(i->other);
    if (i->action == ACT_CHANGE && i->kind == ITEM_VOLUME && only_field(i, "size") &&
        opts_u64(i->opts, "size") < opts_u64(i->other->opts, "size"))
        i->loses = "the data behind the new end of the volume";
}

/* What stands and is not named. In order: what it stands on is decided. */
static void decide_standing(struct plan *plan, struct item *i)
{
    const struct item *parent = i->parent ? i->parent->other : NULL;
    bool managed =
        i->parent ? parent && parent->children_named & 1u << i->kind : plan->want.section[i->kind];
    bool goes = i->parent && i->parent->action >= ACT_REPLACE;
    if (managed || goes) {
        i->action = ACT_DELETE;
        i->loses = loss_of(i);
    } else if (is_shaken(i, &plan->have)) {
        autofree char *place = plan_place(i);
        plan_error(plan, place,
                   "it is not in the document and stands on something that would be deleted");
    }
}

static void decide(struct plan *plan)
{
    /* A device that is deleted makes what stands on it be replaced: deletions of things that are
     * not wanted come first, bottom up, then what is wanted, then what is left. */
    for (unsigned k = 0; k < plan->have.count; k++) {
        struct item *i = plan->have.item[k];
        if (!i->parent && plan->want.section[i->kind] &&
            !plan_find(plan->want.by_path, &plan->want, i->path))
            i->action = ACT_DELETE;
    }
    for (unsigned k = 0; k < plan->want.count; k++)
        decide_wanted(plan, plan->want.item[k]);
    for (unsigned k = 0; k < plan->have.count; k++)
        if (!plan->have.item[k]->other)
            decide_standing(plan, plan->have.item[k]);
    for (unsigned k = 0; k < plan->want.count; k++)
        plan->count[plan->want.item[k]->action]++;
    for (unsigned k = 0; k < plan->have.count; k++)
        plan->count[ACT_DELETE] += plan->have.item[k]->action == ACT_DELETE;
}

/* ---- the whole */

/* A file or memory knows its size itself; a document may name it all the same. */
static void add_sizes(struct item_set *set)
{
    for (unsigned k = 0; k < set->count; k++) {
        struct item *i = set->unordered[k];
        struct bdev *b = i->kind == ITEM_DEVICE ? bdev_find(i->name) : NULL;
        if (!b || !i->opts || !opts_find(i->opts->table, "size"))
            continue;
        struct bdev_info info;
        char text[24];
        bdev_info_of(b, &info);
        snprintf(text, sizeof text, "%" PRIu64, info.size);
        opts_put(i->opts, "size", text, NULL);
    }
}

int plan_make(struct json_object *doc, struct plan *plan, struct err *e)
{
    *plan = (struct plan){.errors = json_object_new_array()};
    struct json_object *now = config_json();
    plan_collect(plan, &plan->have, now, true);
    plan_collect(plan, &plan->want, doc, false);
    json_object_put(now);
    add_sizes(&plan->have);
    if (!json_object_array_length(plan->errors)) {
        order(plan, &plan->have);
        order(plan, &plan->want);
    }
    if (!json_object_array_length(plan->errors))
        decide(plan);
    if (!json_object_array_length(plan->errors))
        return 0;
    struct json_object *first = json_object_array_get_idx(plan->errors, 0);
    return err_set(e, ERR_INVALID, get_str(first, "field"), "%s: %s", get_str(first, "field"),
                   get_str(first, "detail"));
}

static void free_set(struct item_set *set)
{
    for (unsigned k = 0; k < set->count; k++) {
        struct item *i = set->unordered[k];
        free(i->name);
        free(i->path);
        json_object_put(i->fields);
        json_object_put(i->differs);
        opts_free(&i->opts);
        free(i);
    }
    free(set->unordered);
    free(set->item);
    json_object_put(set->by_path);
    json_object_put(set->by_name);
}

void plan_free(struct plan *plan)
{
    free_set(&plan->want);
    free_set(&plan->have);
    json_object_put(plan->errors);
    *plan = (struct plan){0};
}

static struct json_object *item_json(const struct item *i)
{
    struct json_object *o = json_object_new_object();
    put_str(o, "kind", item_kind_name(i->kind));
    put_str(o, "name", i->name);
    put_str(o, "path", i->path);
    if (i->action != ACT_DELETE) {
        struct json_object *fields = json_object_new_object();
        for (const struct opt *opt = i->opts->table; opt->name; opt++) {
            struct json_object *v = field_json(i, opt);
            if (v)
                json_object_object_add(fields, opt->name, v);
        }
        json_object_object_add(o, "fields", fields);
    }
    if (i->differs)
        json_object_object_add(o, "differs", json_object_get(i->differs));
    put_str(o, "loses", i->loses);
    return o;
}

struct json_object *plan_json(const struct plan *plan)
{
    static const char *const names[] = {"create", "change", "replace", "delete"};
    struct json_object *o = json_object_new_object(), *list[4];
    for (unsigned k = 0; k < 4; k++) {
        list[k] = json_object_new_array();
        json_object_object_add(o, names[k], list[k]);
    }
    for (unsigned k = 0; k < plan->want.count; k++)
        if (plan->want.item[k]->action)
            json_object_array_add(list[plan->want.item[k]->action - ACT_CREATE],
                                  item_json(plan->want.item[k]));
    for (unsigned k = plan->have.count; k--;)
        if (plan->have.item[k]->action == ACT_DELETE)
            json_object_array_add(list[3], item_json(plan->have.item[k]));
    return o;
}

bool plan_is_empty(const struct plan *plan)
{
    return !(plan->count[ACT_CREATE] + plan->count[ACT_CHANGE] + plan->count[ACT_REPLACE] +
             plan->count[ACT_DELETE]);
}
