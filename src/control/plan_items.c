/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/plan_private.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "control/adopt.h"
#include "control/iscsi_acl.h"

/* From a document to items: each object of the configuration with its path and its fields. */

static const struct {
    const char *name, *path, *group, *section;
    enum item_kind parent; /* ITEM_KINDS: none */
} kinds[ITEM_KINDS] = {
    [ITEM_DEVICE] = {"device", "/v1/devices/{a}", NULL, "devices", ITEM_KINDS},
    [ITEM_ARRAY] = {"array", "/v1/arrays/{a}", NULL, "arrays", ITEM_KINDS},
    [ITEM_POOL] = {"pool", "/v1/pools/{a}", NULL, "pools", ITEM_KINDS},
    [ITEM_VOLUME] = {"volume", "/v1/pools/{a}/volumes/{b}", NULL, "volumes", ITEM_POOL},
    [ITEM_EXPORT] = {"nbd export", "/v1/nbd/exports/{a}", "nbd", "exports", ITEM_KINDS},
    [ITEM_TARGET] = {"iscsi target", "/v1/iscsi/targets/{a}", "iscsi", "targets", ITEM_KINDS},
    [ITEM_LUN] = {"lun", "/v1/iscsi/targets/{a}/luns/{b}", NULL, "luns", ITEM_TARGET},
    [ITEM_ACL] = {"acl", "/v1/iscsi/targets/{a}/acls/{b}", NULL, "acls", ITEM_TARGET},
    [ITEM_GROUP] = {"target port group", "/v1/iscsi/targets/{a}/groups/{b}", NULL, "groups",
                    ITEM_TARGET},
    [ITEM_LISTENER] = {"nbd listener", "/v1/nbd/listeners/{a}", "nbd", "listeners", ITEM_KINDS},
    [ITEM_DISCOVERY] = {"discovery authentication", "/v1/iscsi/discovery-auth", "iscsi",
                        "discovery_auth", ITEM_KINDS},
    [ITEM_PORTAL] = {"iscsi portal", "/v1/iscsi/portals/{a}", "iscsi", "portals", ITEM_KINDS},
};

const char *item_kind_name(enum item_kind kind)
{
    return kinds[kind].name;
}

struct json_object *item_secrets(const struct item *i)
{
    return i->kind == ITEM_ACL         ? secrets_of("acl", i->name)
           : i->kind == ITEM_DISCOVERY ? secrets_of("discovery-auth", i->name)
                                       : NULL;
}

struct collect {
    struct plan *plan;
    struct item_set *set;
    bool have; /* what stands is not checked for errors */
};

void plan_error(struct plan *plan, const char *field, const char *detail)
{
    if (json_object_array_length(plan->errors) >= 32)
        return;
    struct json_object *o = json_object_new_object();
    put_str(o, "field", field);
    put_str(o, "detail", detail);
    json_object_array_add(plan->errors, o);
}

struct item *plan_find(struct json_object *map, const struct item_set *set, const char *key)
{
    struct json_object *v = NULL;
    if (!json_object_object_get_ex(map, key, &v))
        return NULL;
    return set->unordered[json_object_get_int(v)];
}

struct names {
    const char *a, *b;
};

static const char *name_value(const char *param, void *arg)
{
    const struct names *n = arg;
    return *param == 'a' ? n->a : n->b;
}

static const char *own_name(const struct item *i)
{
    return i->parent ? i->name + strlen(i->parent->name) + 1 : i->name;
}

/* Where an item stands in its document, for messages: "pools.p0.volumes.v0". malloc'ed. */
char *plan_place(const struct item *i)
{
    const char *group = kinds[i->kind].group;
    if (i->kind == ITEM_DISCOVERY)
        return xasprintf("%s.%s", group, kinds[i->kind].section);
    if (!i->parent)
        return xasprintf("%s%s%s.%s", group ? group : "", group ? "." : "", kinds[i->kind].section,
                         i->name);
    autofree char *above = plan_place(i->parent);
    return xasprintf("%s.%s.%s", above, kinds[i->kind].section, own_name(i));
}

/* Checks the fields by the table of the verb that would create the item. */
static void parse_fields(struct collect *c, struct item *i)
{
    struct control_call call = {0};
    struct err e = {0};
    autofree char *place = plan_place(i);
    if (schema_route("PUT", i->path, &call.match, NULL, &e)) {
        plan_error(c->plan, place, "this name is not possible");
        return;
    }
    control_opts_json(&call, i->fields, &e);
    for (size_t k = 0; call.errors && !c->have && k < json_object_array_length(call.errors); k++) {
        struct json_object *one = json_object_array_get_idx(call.errors, k);
        autofree char *field = xasprintf("%s.%s", place, get_str(one, "field"));
        plan_error(c->plan, field, get_str(one, "detail"));
    }
    i->opts = call.opts;
    const char *level = i->kind == ITEM_ARRAY && i->opts ? opts_str(i->opts, "level") : NULL;
    if (level && array_nested_level(level))
        plan_error(c->plan, place,
                   "a document names nested arrays one by one, as config show does");
    json_object_put(call.errors);
}

static void keep_item(struct item_set *set, struct item *i)
{
    if (set->count == set->room) {
        set->room = set->room ? set->room * 2 : 64;
        set->unordered = xrealloc(set->unordered, set->room * sizeof *set->unordered);
    }
    json_object_object_add(set->by_path, i->path, json_object_new_int((int)set->count));
    if (i->kind == ITEM_DEVICE || i->kind == ITEM_ARRAY || i->kind == ITEM_POOL ||
        i->kind == ITEM_VOLUME)
        json_object_object_add(set->by_name, i->name, json_object_new_int((int)set->count));
    set->unordered[set->count++] = i;
}

static void add_section(struct collect *c, enum item_kind kind, struct item *parent,
                        struct json_object *section);

/* The fields without the sections of children, which are items themselves. */
static struct json_object *bare_fields(struct item *i, struct json_object *o)
{
    struct json_object *bare = json_object_new_object();
    json_object_object_foreach(o, key, value)
    {
        bool child = false;
        for (unsigned k = 0; k < ITEM_KINDS; k++)
            child |= kinds[k].parent == i->kind && !strcmp(kinds[k].section, key);
        if (!child)
            json_object_object_add(bare, key, json_object_get(value));
    }
    return bare;
}

static void add_item(struct collect *c, enum item_kind kind, struct item *parent, const char *name,
                     struct json_object *fields)
{
    struct item *i = xcalloc(1, sizeof *i);
    struct names n = {parent ? parent->name : name, name};
    i->kind = kind;
    i->parent = parent;
    i->loses = "";
    i->name = parent ? xasprintf("%s/%s", parent->name, name) : xstrdup(name);
    if (kind == ITEM_TARGET || kind == ITEM_ACL) /* as schema_route has them */
        text_lower(i->name);
    if (parent)
        n.b = own_name(i);
    else
        n.a = i->name;
    i->path = schema_expand(kinds[kind].path, name_value, &n);
    i->fields = bare_fields(i, fields);
    if (!c->have && json_object_object_get_ex(c->set->by_name, i->name, NULL) &&
        kind <= ITEM_VOLUME) {
        autofree char *place = plan_place(i);
        plan_error(c->plan, place, "the name stands for something else too");
    }
    parse_fields(c, i);
    keep_item(c->set, i);
    for (unsigned k = 0; k < ITEM_KINDS; k++) {
        struct json_object *section = NULL;
        if (kinds[k].parent != kind ||
            !json_object_object_get_ex(fields, kinds[k].section, &section))
            continue;
        i->children_named |= 1u << k;
        add_section(c, k, i, section);
    }
}

static void add_names(struct collect *c, enum item_kind kind, struct item *parent,
                      struct json_object *list)
{
    struct json_object *empty = json_object_new_object();
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *v = json_object_array_get_idx(list, i);
        if (json_object_is_type(v, json_type_string) && json_object_get_string_len(v))
            add_item(c, kind, parent, json_object_get_string(v), empty);
        else
            plan_error(c->plan, kinds[kind].section, "an entry is no name");
    }
    json_object_put(empty);
}

static void add_section(struct collect *c, enum item_kind kind, struct item *parent,
                        struct json_object *section)
{
    if (json_object_is_type(section, json_type_array)) {
        add_names(c, kind, parent, section); /* things that have no fields */
        return;
    }
    if (!json_object_is_type(section, json_type_object)) {
        plan_error(c->plan, kinds[kind].section, "expected an object: names and their fields");
        return;
    }
    if (kind == ITEM_DISCOVERY) { /* the section is the object; an empty one: there is none */
        if (json_object_object_length(section))
            add_item(c, kind, NULL, "iscsi", section);
        return;
    }
    json_object_object_foreach(section, name, fields)
    {
        if (*name && json_object_is_type(fields, json_type_object))
            add_item(c, kind, parent, name, fields);
        else
            plan_error(c->plan, kinds[kind].section, "expected an object behind each name");
    }
}

/* False: no section of this name in this group. */
static bool find_section(const char *group, const char *name, enum item_kind *kind_r)
{
    for (unsigned k = 0; k < ITEM_KINDS; k++) {
        const char *g = kinds[k].group;
        if (kinds[k].parent != ITEM_KINDS || strcmp(g ? g : "", group) ||
            strcmp(kinds[k].section, name))
            continue;
        *kind_r = k;
        return true;
    }
    return false;
}

static void add_group(struct collect *c, const char *group, struct json_object *o)
{
    json_object_object_foreach(o, name, section)
    {
        enum item_kind kind;
        bool is_group = !*group && (!strcmp(name, "nbd") || !strcmp(name, "iscsi"));
        if (is_group && json_object_is_type(section, json_type_object)) {
            add_group(c, name, section);
        } else if (find_section(group, name, &kind)) {
            c->set->section[kind] = true;
            add_section(c, kind, NULL, section);
        } else {
            autofree char *field = xasprintf("%s%s%s", group, *group ? "." : "", name);
            plan_error(c->plan, field,
                       "unknown section; expected devices, arrays, pools, nbd (exports, listeners) "
                       "or iscsi (targets, portals, discovery_auth)");
        }
    }
}

void plan_collect(struct plan *plan, struct item_set *set, struct json_object *doc, bool have)
{
    struct collect c = {.plan = plan, .set = set, .have = have};
    set->by_path = json_object_new_object();
    set->by_name = json_object_new_object();
    add_group(&c, "", doc);
}
