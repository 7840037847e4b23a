/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/adopt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/array_log.h"
#include "control/array_policy.h"
#include "probe/probe.h"

/* Adoption: arrays and pools that somebody made, here or elsewhere, and our own at start-up. */

enum { WOULD_MAX = 4096 };

/* ---- copies of what is overwritten */

struct backup {
    char dir[4200];
    const char *device;
    uint64_t offset, len;
    const void *data;
    int rc;
    struct err err;
};

static void backup_sync(void *arg)
{
    struct backup *b = arg;
    b->rc = probe_backup_area(b->dir, b->device, b->offset, b->data, b->len, &b->err);
}

int adopt_backup(const char *device, uint64_t offset, const void *data, uint64_t len, void *arg)
{
    struct err *e = arg;
    autofree struct backup *b = xcalloc(1, sizeof *b);
    snprintf(b->dir, sizeof b->dir, "%s/backup", control.opts.state_dir);
    b->device = device;
    b->offset = offset;
    b->data = data;
    b->len = len;
    task_help(backup_sync, b);
    if (b->rc && e)
        *e = b->err;
    return b->rc;
}

/* ---- names */

static void free_name(const char *wish, char out[RAID_NAME_MAX + 1])
{
    snprintf(out, RAID_NAME_MAX + 1, "%s", wish);
    for (unsigned n = 2; name_is_taken(out) && n < 1000; n++)
        snprintf(out, RAID_NAME_MAX + 1, "%.27s-%u", wish, n);
}

/* ---- arrays */

struct saved_uuid {
    struct uuid uuid;
    char name[RAID_NAME_MAX + 1];
};

static void match_uuid(const char *key, struct json_object *record, void *arg)
{
    struct saved_uuid *s = arg;
    struct uuid u;
    if (uuid_parse(get_str(record, "uuid"), &u) && uuid_equal(&u, &s->uuid))
        snprintf(s->name, sizeof s->name, "%s", strchr(key, '/') + 1);
}

/* The name that the object of this UUID has here, or "". */
static struct saved_uuid saved_name(const char *prefix, const struct uuid *uuid)
{
    struct saved_uuid s = {.uuid = *uuid};
    journal_for_each(control.journal, prefix, match_uuid, &s);
    return s;
}

/* What is asked for, by name or by UUID in any spelling? */
static bool is_asked(const char *wish, const char *name, const char *other_name,
                     const struct uuid *uuid)
{
    struct uuid u;
    return !wish || !strcmp(wish, name) || !strcmp(wish, other_name) ||
           (uuid_parse(wish, &u) && uuid_equal(&u, uuid));
}

/* ---- arrays */

static struct json_object *found_json(const struct raid_found *f, const char *name)
{
    struct json_object *o = json_object_new_object(), *list = json_object_new_array();
    char uuid[UUID_TEXT];
    for (unsigned i = 0; i < f->device_count; i++)
        json_object_array_add(list, json_object_new_string(f->device[i]));
    put_str(o, "name", name);
    put_str(o, "uuid", uuid_format_md(&f->uuid, uuid));
    put_str(o, "level", f->level);
    put_bool(o, "started", false);
    put_str(o, "reason", f->why);
    json_object_object_add(o, "devices", list);
    return o;
}

static int save_array(const char *name, bool read_only, struct err *e)
{
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    raid_get(name, info);
    struct json_object *record = array_record(info);
    if (read_only)
        put_bool(record, "read_only", true);
    reason_set("array", name, NULL);
    int rc = state_put("array", name, record, e);
    json_object_put(record);
    return rc;
}

static int start_array(const struct verb_run *v, const struct raid_found *f, const char *name,
                       struct json_object *item, struct err *e)
{
    autofree char *would = xcalloc(1, WOULD_MAX);
    struct err backup_error = {0};
    struct raid_assemble a = {.name = name,
                              .uuid = f->uuid,
                              .force = verb_flag(v, "force"),
                              .degraded_ok = opts_str(v->opts, "array") != NULL,
                              .read_only = verb_flag(v, "read_only"),
                              .dry_run = verb_flag(v, "dry_run"),
                              .would = would,
                              .would_size = WOULD_MAX,
                              .backup = adopt_backup,
                              .backup_arg = &backup_error};
    int rc = raid_assemble(&a, e);
    put_str(item, "would", would);
    if (!rc && !a.dry_run) {
        rc = save_array(name, a.read_only, e);
        put_bool(item, "started", !rc);
    }
    return rc;
}

/* One found array; -1 only when it was asked for by name. */
static int take_array(const struct verb_run *v, const struct raid_found *f,
                      struct json_object *items, struct err *e)
{
    const char *wish = opts_str(v->opts, "array"), *as = opts_str(v->opts, "as");
    struct saved_uuid own = saved_name("array/", &f->uuid);
    char name[RAID_NAME_MAX + 1];
    if (*own.name)
        strcpy(name, own.name);
    else if (as)
        snprintf(name, sizeof name, "%s", as);
    else
        free_name(f->name, name);
    if (as && strcmp(as, name))
        return err_set(e, ERR_EXISTS, "as", "this array is %s here already", name);
    if (as && !*own.name && name_is_taken(as))
        return err_set(e, ERR_EXISTS, "as", "the name %s is taken", as);
    struct json_object *item = found_json(f, name);
    json_object_array_add(items, item);
    if (!wish && (!f->complete || f->ambiguous))
        return 0; /* `reason` says what is the matter */
    char key[KEY_MAX];
    snprintf(key, sizeof key, "name:%s", name);
    struct key_lock *lock = key_lock(key);
    struct err one = {0};
    int rc = start_array(v, f, name, item, &one);
    key_unlock(&lock);
    if (rc)
        put_str(item, "reason", one.msg);
    if (rc && wish && e)
        *e = one;
    return rc && wish ? -1 : 0;
}

struct json_object *reply_list(struct json_object *items)
{
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "items", items);
    json_object_object_add(o, "next", NULL);
    return o;
}

int array_assemble(struct verb_run *v, struct err *e)
{
    const char *wish = opts_str(v->opts, "array");
    if (opts_str(v->opts, "as") && !wish)
        return err_set(e, ERR_INVALID, "as", "as needs the array that is to get this name");
    struct raid_found *found = NULL;
    unsigned n = raid_scan(&found), matches = 0;
    struct json_object *items = json_object_new_array();
    int rc = 0;
    for (unsigned i = 0; i < n && !rc; i++) {
        if (!is_asked(wish, found[i].name, found[i].set_name, &found[i].uuid))
            continue;
        if (wish && matches++)
            rc = err_set(e, ERR_INVALID, "array", "several arrays are called %s; give the UUID",
                         wish);
        else
            rc = take_array(v, &found[i], items, e);
    }
    free(found);
    if (!rc && wish && !matches)
        rc = err_set(e, ERR_NOT_FOUND, "array", "no array %s was found on unclaimed devices", wish);
    v->reply = reply_list(items);
    return rc;
}

int array_start_saved(const char *name, struct json_object *record, bool degraded_ok, struct err *e)
{
    struct raid_assemble a = {.name = name,
                              .known = true,
                              .degraded_ok = degraded_ok,
                              .read_only = get_bool(record, "read_only"),
                              .no_log = get_bool(record, "no_log"),
                              .log_device = array_log_device(record)};
    if (!uuid_parse(get_str(record, "uuid"), &a.uuid))
        return err_set(e, ERR_INTERNAL, "", "the saved record has no uuid");
    return raid_assemble(&a, e) || array_policy_apply(name, record, e) ? -1 : 0;
}

/* ---- pools */

static int save_pool(const char *name, bool read_only, struct err *e)
{
    struct json_object *record = pool_record(name);
    if (read_only)
        put_bool(record, "read_only", true);
    reason_set("pool", name, NULL);
    int rc = state_put("pool", name, record, e);
    json_object_put(record);
    return rc;
}

static void tell_imported(const char *name, const struct pool_import *i, int rc)
{
    char object[sizeof((struct event){0}.object)];
    snprintf(object, sizeof object, "pool %s", name);
    if (!rc)
        event_raise(object, "pool-imported", "%s",
                    i->read_only ? "read-only" : "to read and write");
}

static int import_pool(const struct verb_run *v, const struct pool_found *f,
                       struct json_object *item, struct err *e)
{
    autofree char *would = xcalloc(1, WOULD_MAX);
    struct err backup_error = {0};
    struct pool_import i = {.uuid = &f->uuid,
                            .read_only = verb_flag(v, "read_only"),
                            .dry_run = verb_flag(v, "dry_run"),
                            .force = verb_flag(v, "force"),
                            .own = true,
                            .would = would,
                            .would_size = WOULD_MAX,
                            .backup = adopt_backup,
                            .backup_arg = &backup_error};
    int rc = pool_import(&i, e);
    put_str(item, "would", would);
    if (!rc && !i.dry_run) {
        rc = save_pool(f->name, i.read_only, e);
        put_bool(item, "imported", !rc);
        tell_imported(f->name, &i, rc);
    }
    return rc;
}

static int take_pool(const struct verb_run *v, const struct pool_found *f,
                     struct json_object *items, struct err *e)
{
    const char *wish = opts_str(v->opts, "pool");
    struct json_object *item = json_object_new_object();
    json_object_array_add(items, item);
    put_str(item, "name", f->name);
    put_str(item, "uuid", f->vg_uuid);
    put_bool(item, "imported", false);
    put_str(item, "reason", f->why);
    if (!wish && !f->importable)
        return 0;
    char key[KEY_MAX];
    snprintf(key, sizeof key, "name:%s", f->name);
    struct key_lock *lock = key_lock(key);
    struct err one = {0};
    int rc = import_pool(v, f, item, &one);
    key_unlock(&lock);
    if (rc)
        put_str(item, "reason", one.msg);
    if (rc && wish && e)
        *e = one;
    return rc && wish ? -1 : 0;
}

int pool_import_verb(struct verb_run *v, struct err *e)
{
    const char *wish = opts_str(v->opts, "pool");
    struct pool_found *found = NULL;
    unsigned n = pool_scan(&found), matches = 0;
    struct json_object *items = json_object_new_array();
    int rc = 0;
    for (unsigned i = 0; i < n && !rc; i++) {
        if (!is_asked(wish, found[i].name, found[i].vg_uuid, &found[i].uuid))
            continue;
        if (wish && matches++)
            rc =
                err_set(e, ERR_INVALID, "pool", "several pools are called %s; give the UUID", wish);
        else
            rc = take_pool(v, &found[i], items, e);
    }
    free(found);
    if (!rc && wish && !matches)
        rc = err_set(e, ERR_NOT_FOUND, "pool", "no pool %s was found on unclaimed devices", wish);
    v->reply = reply_list(items);
    return rc;
}

int pool_start_saved(const char *name, struct json_object *record, struct err *e)
{
    struct uuid uuid;
    if (!uuid_parse(get_str(record, "uuid"), &uuid))
        return err_set(e, ERR_INTERNAL, "", "the saved record of pool %s has no uuid", name);
    struct pool_import i = {.uuid = &uuid, .read_only = get_bool(record, "read_only")};
    return pool_import(&i, e);
}
