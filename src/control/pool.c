/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "control/adopt.h"
#include "control/shows.h"
#include "volumes/volumes.h"

/* Pools: the saved record is {"uuid", "last"}; name, sizes and volumes stand in the VG's text.
 * "last" is what it was made of when it was last whole, for `config show` while it is not. */

static struct json_object *devices_json(const struct pool_info *info)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < info->device_count; i++) {
        struct json_object *o = json_object_new_object();
        put_str(o, "device", info->device[i].device);
        put_str(o, "uuid", info->device[i].pv_uuid);
        put_u64(o, "size", info->device[i].size);
        put_u64(o, "free", info->device[i].free);
        put_u64(o, "gain", info->device[i].gain);
        json_object_array_add(list, o);
    }
    return list;
}

static struct json_object *show_pool(const char *name)
{
    struct json_object *o = json_object_new_object();
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    put_str(o, "name", name);
    if (!pool_get(name, info)) {
        put_str(o, "state", "inactive");
        put_str(o, "reason", reason_get("pool", name));
        put_u64(o, "volume_count", 0);
        return o;
    }
    put_str(o, "state", pool_state_name(info->state));
    put_str(o, "reason", "");
    put_u64(o, "size", info->size);
    put_u64(o, "free", info->free);
    put_u64(o, "extent_size", info->extent_size);
    put_str(o, "uuid", info->vg_uuid);
    put_u64(o, "seqno", info->seqno);
    put_u64(o, "volume_count", info->volume_count);
    json_object_object_add(o, "devices", devices_json(info));
    return o;
}

SHOW(pool)
{
    const char *name = schema_param(m, "name");
    return state_get("pool", name) ? show_pool(name) : NULL;
}

static void list_one(const char *key, struct json_object *record, void *arg)
{
    (void)record;
    json_object_array_add(arg, show_pool(strchr(key, '/') + 1));
}

LIST(pool)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "pool/", list_one, items);
    return 0;
}

/* NULL: a device of it is absent. */
static struct json_object *live_config(const struct pool_info *info)
{
    struct json_object *devices = json_object_new_array();
    bool whole = true;
    for (unsigned i = 0; i < info->device_count; i++) {
        whole &= *info->device[i].device != 0;
        json_object_array_add(devices, json_object_new_string(info->device[i].device));
    }
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "devices", devices);
    put_u64(o, "extent_size", info->extent_size);
    if (whole)
        return o;
    json_object_put(o);
    return NULL;
}

struct json_object *pool_config(const char *name, struct json_object *record)
{
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    struct json_object *o = pool_get(name, info) ? live_config(info) : NULL, *last = NULL;
    if (!o && json_object_object_get_ex(record, "last", &last))
        json_object_deep_copy(last, &o, NULL);
    return o ? o : json_object_new_object();
}

struct json_object *pool_record(const char *name)
{
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    struct json_object *record = json_object_new_object();
    char uuid[UUID_TEXT];
    if (!pool_get(name, info))
        return record;
    put_str(record, "uuid", uuid_format(&info->uuid, uuid));
    struct json_object *last = live_config(info);
    if (last)
        json_object_object_add(record, "last", last);
    return record;
}

/* ---- create */

/* Borrowed names from a JSON array; the array of pointers is the caller's. */
static const char **names_of(struct json_object *facts, unsigned *n_r)
{
    struct json_object *list = NULL;
    json_object_object_get_ex(facts, "devices", &list);
    *n_r = (unsigned)json_object_array_length(list);
    const char **names = xcalloc(*n_r + 1, sizeof *names);
    for (unsigned i = 0; i < *n_r; i++)
        names[i] = json_object_get_string(json_object_array_get_idx(list, i));
    return names;
}

int pool_create_as(const char *name, struct json_object *facts, bool force, struct err *e)
{
    unsigned n;
    autofree const char **devices = names_of(facts, &n);
    struct pool_create c = {.name = name,
                            .devices = devices,
                            .device_count = n,
                            .extent_size = get_u64(facts, "extent_size"),
                            .force = force};
    return pool_create(&c, e);
}

static int check_devices(const struct opts *o, struct err *e)
{
    unsigned n;
    char *const *devices = opts_list(o, "devices", &n);
    for (unsigned i = 0; i < n; i++) {
        char users[300];
        if (!bdev_find(devices[i]))
            return err_set(e, ERR_NOT_FOUND, "devices", "there is no device or array %s",
                           devices[i]);
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(devices[i], devices[k]))
                return err_set(e, ERR_INVALID, "devices", "%s is named twice", devices[i]);
        if (device_in_use(devices[i], users, sizeof users))
            return err_set(e, ERR_IN_USE, "devices", "%s is in use by %s", devices[i], users);
    }
    return 0;
}

static int compare(const struct opts *o, const struct pool_info *info, struct err *e)
{
    unsigned n, found = 0;
    char *const *devices = opts_list(o, "devices", &n);
    for (unsigned i = 0; i < n; i++) {
        bool here = false;
        for (unsigned k = 0; k < info->device_count; k++)
            here |= !strcmp(devices[i], info->device[k].device);
        if (!here)
            return err_set(e, ERR_EXISTS, "devices", "pool %s exists without device %s", info->name,
                           devices[i]);
        found++;
    }
    if (found != info->device_count)
        return err_set(e, ERR_EXISTS, "devices", "pool %s exists with %u devices, not %u",
                       info->name, info->device_count, n);
    if (opts_is_set(o, "extent_size") && opts_u64(o, "extent_size") != info->extent_size)
        return err_set(e, ERR_EXISTS, "extent_size",
                       "pool %s exists with extent_size %" PRIu64 ", not %" PRIu64, info->name,
                       info->extent_size, opts_u64(o, "extent_size"));
    return 0;
}

static int create_new(const struct opts *o, const char *name, struct err *e)
{
    unsigned n;
    char *const *devices = opts_list(o, "devices", &n);
    if (check_devices(o, e) ||
        (!opts_bool(o, "force") && check_signatures((const char *const *)devices, n, "devices", e)))
        return -1;
    struct json_object *facts = json_object_new_object(), *list = json_object_new_array();
    for (unsigned i = 0; i < n; i++)
        json_object_array_add(list, json_object_new_string(devices[i]));
    json_object_object_add(facts, "devices", list);
    put_u64(facts, "extent_size", opts_is_set(o, "extent_size") ? opts_u64(o, "extent_size") : 0);
    uint64_t intent = intent_open("pool-create", name, json_object_get(facts), e);
    int rc = intent ? pool_create_as(name, facts, opts_bool(o, "force"), e) : -1;
    json_object_put(facts);
    if (rc) {
        if (intent)
            intent_close(intent, NULL);
        return -1;
    }
    struct json_object *record = pool_record(name);
    rc = state_end_intent(intent, "pool", name, record, e);
    json_object_put(record);
    if (rc)
        pool_delete(name, NULL); /* one that nobody knows of may not hold its devices */
    return rc;
}

static int pool_create_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    if (state_get("pool", name)) {
        v->changed = false;
        if (!pool_get(name, info))
            return err_set(e, ERR_EXISTS, "name", "pool %s exists and is inactive: %s", name,
                           reason_get("pool", name));
        return compare(v->opts, info, e);
    }
    if (!bdev_name_valid(name))
        return err_set(e, ERR_INVALID, "name",
                       "name is '%.40s'; expected a letter or digit, then letters, digits, '_', "
                       "'.', '-', at most 32 in all",
                       name);
    if (name_is_taken(name))
        return err_set(e, ERR_EXISTS, "name", "the name %s is taken", name);
    return create_new(v->opts, name, e);
}

static int is_active(const char *name, struct err *e)
{
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    if (pool_get(name, info))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "", "pool %s is inactive: %s", name,
                   reason_get("pool", name));
}

static int pool_extend_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    unsigned n;
    char *const *devices = opts_list(v->opts, "devices", &n);
    if (is_active(name, e) || check_devices(v->opts, e) ||
        (!verb_flag(v, "force") && check_signatures((const char *const *)devices, n, "devices", e)))
        return -1;
    struct json_object *facts = json_object_new_object(), *list = json_object_new_array();
    for (unsigned i = 0; i < n; i++)
        json_object_array_add(list, json_object_new_string(devices[i]));
    json_object_object_add(facts, "devices", list);
    uint64_t intent = intent_open("pool-extend", name, facts, e);
    if (!intent)
        return -1;
    if (pool_extend(name, (const char *const *)devices, n, verb_flag(v, "force"), e)) {
        intent_close(intent, NULL);
        return -1;
    }
    struct json_object *record = pool_record(name);
    struct err unsaved;
    /* It is done all the same: what is saved only stands in while the pool is not there. */
    if (state_end_intent(intent, "pool", name, record, &unsaved))
        log_warn("control", "pool %s: %s", name, unsaved.msg);
    json_object_put(record);
    return 0;
}

/* One commit of the group's text: no intent. What is saved of a pool has no sizes. */
static int pool_grow_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    return is_active(name, e) || pool_grow(name, &v->changed, e) ? -1 : 0;
}

/* ---- the end of a pool */

struct users_of {
    char text[400];
};

static void note_volume_users(const struct volume_info *info, void *arg)
{
    struct users_of *u = arg;
    char users[200];
    size_t n = strlen(u->text);
    if (n < 300 && device_in_use(info->name, users, sizeof users))
        snprintf(u->text + n, sizeof u->text - n, "%s%s by %s", n ? "; " : "", info->name, users);
}

static int refuse_used(const char *name, struct err *e)
{
    struct users_of u = {""};
    volume_for_each(name, note_volume_users, &u);
    if (*u.text)
        return err_set(e, ERR_IN_USE, "", "pool %s is in use: %s", name, u.text);
    return 0;
}

static int pool_stop_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    if (pool_get(name, info) && (refuse_used(name, e) || pool_stop(name, e)))
        return -1;
    reason_set("pool", name, "it was stopped, and that could not be saved");
    return state_del("pool", name, e);
}

static int pool_delete_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    bool active = pool_get(name, info);
    if (active && info->volume_count)
        return err_set(e, ERR_IN_USE, "", "pool %s has %u volumes; delete them first", name,
                       info->volume_count);
    if (need_yes(v, "the pool's description is erased", e))
        return -1;
    struct json_object *facts = json_object_new_object();
    struct uuid uuid = {0};
    uuid_parse(get_str(state_get("pool", name), "uuid"), &uuid);
    put_str(facts, "uuid", get_str(state_get("pool", name), "uuid"));
    uint64_t intent = intent_open("pool-delete", name, facts, e);
    if (!intent)
        return -1;
    if (active ? pool_delete(name, e) : pool_erase(&uuid, e)) {
        intent_close(intent, NULL);
        return -1;
    }
    return state_end_intent(intent, "pool", name, NULL, e);
}

const struct verb_entry pool_verbs[] = {
    {"pool", "create", pool_create_verb},
    {"pool", "import", pool_import_verb},
    {"pool", "extend", pool_extend_verb},
    {"pool", "grow", pool_grow_verb},
    {"pool", "stop", pool_stop_verb},
    {"pool", "delete", pool_delete_verb},
    {NULL, NULL, NULL},
};
