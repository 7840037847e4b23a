/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tree.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "api.h"
#include "base/mem.h"
#include "base/size.h"
#include "output.h"

/*
 * The tree is drawn from the top: pools with what serves their volumes, and below them what they
 * stand on; then arrays and devices that no pool uses. A node is a JSON object {"kind", "name",
 * "info", "children"}, so that --json prints the same.
 */
struct world {
    struct json_object *devices, *arrays, *pools, *volumes, *exports, *targets;
};

static struct json_object *node(const char *kind, const char *name, const char *info)
{
    struct json_object *n = json_object_new_object();
    json_object_object_add(n, "kind", json_object_new_string(kind));
    json_object_object_add(n, "name", json_object_new_string(name));
    json_object_object_add(n, "info", json_object_new_string(info));
    json_object_object_add(n, "children", json_object_new_array());
    return n;
}

static void adopt(struct json_object *parent, struct json_object *child)
{
    struct json_object *list;
    json_object_object_get_ex(parent, "children", &list);
    json_object_array_add(list, child);
}

#define for_items(i, item, list)                                \
    for (size_t i = 0; i < json_object_array_length(list); i++) \
        for (struct json_object *item = json_object_array_get_idx(list, i); item; item = NULL)

static struct json_object *by_name(struct json_object *list, const char *name)
{
    for_items (n_o, o, list) {
        if (!strcmp(json_text(o, "name"), name))
            return o;
    }
    return NULL;
}

static const char *size_of(struct json_object *o, char out[16])
{
    struct json_object *v;
    return json_object_object_get_ex(o, "size", &v)
               ? size_format((uint64_t)json_object_get_int64(v), out)
               : strcpy(out, "");
}

/* What serves `device` goes below `parent`. */
static void add_services(const struct world *w, struct json_object *parent, const char *device)
{
    struct json_object *luns;
    for_items (n_x, x, w->exports) {
        if (!strcmp(json_text(x, "device"), device))
            adopt(parent, node("nbd", json_text(x, "name"), json_text(x, "state")));
    }
    for_items (n_t, t, w->targets) {
        if (!json_object_object_get_ex(t, "luns", &luns))
            continue;
        for_items (n_l, l, luns) {
            autofree char *name = xasprintf("%s lun %s", json_text(t, "iqn"), json_text(l, "lun"));
            if (!strcmp(json_text(l, "device"), device))
                adopt(parent, node("iscsi", name, json_text(l, "state")));
        }
    }
}

static struct json_object *device_node(const struct world *w, const char *name);

static void add_members(const struct world *w, struct json_object *parent, struct json_object *of,
                        const char *key)
{
    struct json_object *list;
    if (!json_object_object_get_ex(of, key, &list))
        return;
    for_items (n_m, m, list) {
        const char *device = json_text(m, "device"), *state = json_text(m, "state");
        if (!*device) {
            adopt(parent, node("device", "(missing)", ""));
            continue;
        }
        struct json_object *n = device_node(w, device);
        autofree char *info =
            xasprintf("%s%s%s", state, *json_text(n, "info") ? " " : "", json_text(n, "info"));
        if (*state && strcmp(state, "in-sync"))
            json_object_object_add(n, "info", json_object_new_string(info));
        adopt(parent, n);
    }
}

/* A device, array or volume by name, with what it stands on. */
static struct json_object *device_node(const struct world *w, const char *name)
{
    char size[16];
    struct json_object *array = by_name(w->arrays, name);
    if (array) {
        autofree char *info = xasprintf("%s %s %s", json_text(array, "level"), size_of(array, size),
                                        json_text(array, "state"));
        struct json_object *n = node("array", name, info);
        add_services(w, n, name);
        add_members(w, n, array, "members");
        return n;
    }
    struct json_object *device = by_name(w->devices, name);
    autofree char *info =
        device ? xasprintf("%s %s %s%s%s", json_text(device, "type"), size_of(device, size),
                           json_text(device, "state"), *json_text(device, "path") ? " " : "",
                           json_text(device, "path"))
               : xstrdup("");
    struct json_object *n = node(strchr(name, '/') ? "volume" : "device", name, info);
    add_services(w, n, name);
    return n;
}

static struct json_object *pool_node(const struct world *w, struct json_object *pool)
{
    char size[16];
    autofree char *info = xasprintf("%s %s", size_of(pool, size), json_text(pool, "state"));
    struct json_object *n = node("pool", json_text(pool, "name"), info);
    for_items (n_v, v, w->volumes) {
        if (strcmp(json_text(v, "pool"), json_text(pool, "name")))
            continue;
        autofree char *about = xasprintf("%s %s", size_of(v, size), json_text(v, "state"));
        struct json_object *volume = node("volume", json_text(v, "name"), about);
        add_services(w, volume, json_text(v, "name"));
        adopt(n, volume);
    }
    add_members(w, n, pool, "devices");
    return n;
}

static bool uses(struct json_object *list, const char *key, const char *device)
{
    struct json_object *members;
    for_items (n_o, o, list) {
        if (!json_object_object_get_ex(o, key, &members))
            continue;
        for_items (n_m, m, members) {
            if (!strcmp(json_text(m, "device"), device))
                return true;
        }
    }
    return false;
}

static struct json_object *build(const struct world *w)
{
    struct json_object *root = node("", "", "");
    for_items (n_p, p, w->pools) {
        adopt(root, pool_node(w, p));
    }
    struct json_object *const lists[] = {w->arrays, w->devices};
    for (unsigned i = 0; i < 2; i++) {
        for_items (n_d, d, lists[i]) {
            const char *name = json_text(d, "name");
            if (!uses(w->pools, "devices", name) && !uses(w->arrays, "members", name))
                adopt(root, device_node(w, name));
        }
    }
    return root;
}

static void draw(struct json_object *n, const char *indent)
{
    struct json_object *children;
    json_object_object_get_ex(n, "children", &children);
    size_t count = json_object_array_length(children);
    for (size_t i = 0; i < count; i++) {
        struct json_object *c = json_object_array_get_idx(children, i);
        bool last = i + 1 == count, top = !*json_text(n, "kind");
        const char *info = json_text(c, "info");
        printf("%s%s%s %s%s%s\n", indent,
               top    ? ""
               : last ? "└─ "
                      : "├─ ",
               json_text(c, "kind"), json_text(c, "name"), *info ? "  " : "", info);
        autofree char *more = xasprintf("%s%s", indent, top ? "" : last ? "   " : "│  ");
        draw(c, more);
    }
}

int tree_run(const struct command *c)
{
    struct world w = {0};
    const struct {
        const char *path;
        struct json_object **list;
    } gets[] = {
        {"/v1/devices", &w.devices},     {"/v1/arrays", &w.arrays},
        {"/v1/pools", &w.pools},         {"/v1/volumes", &w.volumes},
        {"/v1/nbd/exports", &w.exports}, {"/v1/iscsi/targets", &w.targets},
    };
    int rc = 0;
    for (unsigned i = 0; i < sizeof gets / sizeof *gets && !rc; i++)
        rc = api_list(gets[i].path, false, gets[i].list);
    if (!rc) {
        struct json_object *root = build(&w), *children;
        json_object_object_get_ex(root, "children", &children);
        if (c->json)
            output_json(children);
        else
            draw(root, "");
        json_object_put(root);
    }
    for (unsigned i = 0; i < sizeof gets / sizeof *gets; i++)
        json_object_put(*gets[i].list);
    return rc;
}
