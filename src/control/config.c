/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/adopt.h"

/*
 * `config show`: the whole configuration, gathered from every fact's home: {"devices": {NAME:
 * fields},
 * ...}. The fields are those that the verbs which make the objects take. Generated, never read back
 * by the daemon itself.
 */

static void keep_set(struct json_object *o, const char *field, struct json_object *v)
{
    bool unset = !v ||
                 (json_object_is_type(v, json_type_string) && !json_object_get_string_len(v)) ||
                 (json_object_is_type(v, json_type_boolean) && !json_object_get_boolean(v));
    if (!unset)
        json_object_object_add(o, field, json_object_get(v));
}

static struct json_object *member(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    if (o)
        json_object_object_get_ex(o, key, &v);
    return v;
}

/* Options of devices are saved as text, whatever their type in a request is. */
static void put_saved(struct json_object *o, const struct opt *opt, const char *name,
                      const char *text)
{
    switch (opt ? opt->type : OPT_STRING) {
    case OPT_BOOL:
        if (!strcmp(text, "true"))
            put_bool(o, name, true);
        break;
    case OPT_SIZE:
    case OPT_UINT: put_u64(o, name, strtoull(text, NULL, 10)); break;
    default: put_str(o, name, text);
    }
}

static void add_device(const char *key, struct json_object *record, void *arg)
{
    struct json_object *o = json_object_new_object(), *options = member(record, "options");
    struct schema_match m;
    const struct opt *table =
        schema_route("PUT", "/v1/devices/x", &m, NULL, NULL) ? NULL : m.verb->opts;
    put_str(o, "type", get_str(record, "type"));
    json_object_object_foreach(options, name, value)
    {
        put_saved(o, opts_find(table, name), name, json_object_get_string(value));
    }
    json_object_object_add(arg, strchr(key, '/') + 1, o);
}

static void add_array(const char *key, struct json_object *record, void *arg)
{
    const char *name = strchr(key, '/') + 1;
    json_object_object_add(arg, name, array_config(name, record));
}

static void add_volume(const struct volume_info *info, void *arg)
{
    struct json_object *o = json_object_new_object();
    put_u64(o, "size", info->size);
    json_object_object_add(arg, strchr(info->name, '/') + 1, o);
}

/* One that is not here has volumes, of which nobody knows at the moment: no section of them. */
static void add_pool(const char *key, struct json_object *record, void *arg)
{
    const char *name = strchr(key, '/') + 1;
    struct json_object *o = pool_config(name, record);
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    if (pool_get(name, info)) {
        struct json_object *volumes = json_object_new_object();
        volume_for_each(name, add_volume, volumes);
        json_object_object_add(o, "volumes", volumes);
    }
    json_object_object_add(arg, name, o);
}

/* The fields of a saved record that the verb which made the object takes; never a secret. */
static struct json_object *fields_of(const char *path, struct json_object *record)
{
    struct json_object *o = json_object_new_object();
    struct schema_match m;
    const struct opt *t = schema_route("PUT", path, &m, NULL, NULL) ? NULL : m.verb->opts;
    for (; t && t->name; t++)
        if (!(t->flags & (OPT_SECRET | OPT_CONSENT | OPT_CLIENT)))
            keep_set(o, t->name, member(record, t->name));
    return o;
}

static void add_export(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strchr(key, '/') + 1, fields_of("/v1/nbd/exports/x", record));
}

static void add_listener(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strchr(key, '/') + 1, fields_of("/v1/nbd/listeners/x", record));
}

static void add_portal(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strchr(key, '/') + 1, fields_of("/v1/iscsi/portals/x", record));
}

static void add_lun(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strrchr(key, '/') + 1,
                           fields_of("/v1/iscsi/targets/x/luns/0", record));
}

static void add_acl(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strrchr(key, '/') + 1,
                           fields_of("/v1/iscsi/targets/x/acls/x", record));
}

static void add_group(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strrchr(key, '/') + 1,
                           fields_of("/v1/iscsi/targets/x/groups/1", record));
}

static void add_target(const char *key, struct json_object *record, void *arg)
{
    const char *iqn = strchr(key, '/') + 1;
    char prefix[KEY_MAX];
    struct json_object *o = fields_of("/v1/iscsi/targets/x", record),
                       *luns = json_object_new_object(), *acls = json_object_new_object(),
                       *groups = json_object_new_object();
    state_key(prefix, "lun", iqn, "");
    journal_for_each(control.journal, prefix, add_lun, luns);
    state_key(prefix, "acl", iqn, "");
    journal_for_each(control.journal, prefix, add_acl, acls);
    json_object_object_add(o, "luns", luns);
    state_key(prefix, "alua", iqn, "");
    journal_for_each(control.journal, prefix, add_group, groups);
    json_object_object_add(o, "acls", acls);
    json_object_object_add(o, "groups", groups);
    json_object_object_add(arg, iqn, o);
}

static struct json_object *group(struct json_object *o, const char *name, struct json_object *value)
{
    json_object_object_add(o, name, value);
    return value;
}

struct json_object *config_json(void)
{
    struct journal *j = control.journal;
    struct json_object *o = json_object_new_object();
    journal_for_each(j, "device/", add_device, group(o, "devices", json_object_new_object()));
    journal_for_each(j, "array/", add_array, group(o, "arrays", json_object_new_object()));
    journal_for_each(j, "pool/", add_pool, group(o, "pools", json_object_new_object()));
    struct json_object *nbd = group(o, "nbd", json_object_new_object());
    journal_for_each(j, "export/", add_export, group(nbd, "exports", json_object_new_object()));
    journal_for_each(j, "listener/", add_listener,
                     group(nbd, "listeners", json_object_new_object()));
    struct json_object *iscsi = group(o, "iscsi", json_object_new_object());
    journal_for_each(j, "target/", add_target, group(iscsi, "targets", json_object_new_object()));
    journal_for_each(j, "portal/", add_portal, group(iscsi, "portals", json_object_new_object()));
    group(iscsi, "discovery_auth",
          fields_of("/v1/iscsi/discovery-auth", state_get("discovery-auth", "iscsi")));
    return o;
}
