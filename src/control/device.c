/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "control/scan.h"
#include "control/shows.h"
#include "probe/probe.h"

/*
 * Devices. The saved record: {"type", "uuid", "options": {name: text}, "identity", "by_id"}. What
 * the file or node itself knows (its size) is not saved.
 */

/* What was found on a device when it was opened: name -> text. */
static struct json_object *signatures;

static const struct driver *driver_of(const char *type)
{
    for (const struct driver *const *d = control.opts.drivers; *d; d++)
        if (!strcmp((*d)->name, type))
            return *d;
    return NULL;
}

/* ---- what stands at a path; on a helper thread */
struct look {
    const char *path;
    struct probe_identity id;
    bool exists;
    bool own_state; /* a file that holds this daemon's state, under whatever path */
    int rc;
    struct err err;
};

static bool is_own_state(const struct stat *st)
{
    DIR *d = opendir(control.opts.state_dir);
    bool found = false;
    struct stat own;
    for (struct dirent *entry; !found && d && (entry = readdir(d));)
        found =
            (!strncmp(entry->d_name, "journal.", 8) || !strncmp(entry->d_name, "snapshot.", 9)) &&
            !fstatat(dirfd(d), entry->d_name, &own, AT_SYMLINK_NOFOLLOW) &&
            own.st_dev == st->st_dev && own.st_ino == st->st_ino;
    if (d)
        closedir(d);
    return found;
}

static void look_sync(void *arg)
{
    struct look *l = arg;
    struct stat st;
    l->exists = !stat(l->path, &st);
    l->own_state = l->exists && is_own_state(&st);
    l->rc = l->exists ? probe_identity(l->path, &l->id, &l->err) : 0;
}

static int look_at(const char *path, struct look *l, struct err *e)
{
    *l = (struct look){.path = path};
    task_help(look_sync, l);
    if (l->rc && e)
        *e = l->err;
    return l->rc;
}

struct find {
    const char *key;
    char path[600];
    bool found;
};

static void find_sync(void *arg)
{
    struct find *f = arg;
    f->found = probe_find(f->key, f->path, sizeof f->path);
}

/* ---- options as text */

static char *option_text(const struct opts *o, const struct opt *opt)
{
    switch (opt->type) {
    case OPT_SIZE:
    case OPT_UINT:
        if (!opts_is_set(o, opt->name) && !opt->dflt)
            return NULL;
        return xasprintf("%llu", (unsigned long long)opts_u64(o, opt->name));
    case OPT_BOOL: return xstrdup(opts_bool(o, opt->name) ? "true" : "false");
    case OPT_LIST: {
        unsigned n;
        char *const *v = opts_list(o, opt->name, &n);
        char *text = n ? xstrdup(v[0]) : NULL;
        for (unsigned i = 1; i < n; i++) {
            char *longer = xasprintf("%s,%s", text, v[i]);
            free(text);
            text = longer;
        }
        return text;
    }
    default: return xstrdup(opts_str(o, opt->name));
    }
}

/* A file's or node's size is its own business; a memory device's is configuration. */
static bool is_saved(const struct opts *o, const struct opt *opt)
{
    if (!strcmp(opt->name, "type") || opt->flags & OPT_CONSENT)
        return false;
    bool has_path = opts_find(o->table, "path") && opts_str(o, "path");
    return strcmp(opt->name, "size") || !has_path;
}

static struct json_object *options_json(const struct opts *o)
{
    struct json_object *out = json_object_new_object();
    for (const struct opt *opt = o->table; opt->name; opt++) {
        autofree char *text = is_saved(o, opt) ? option_text(o, opt) : NULL;
        if (text)
            put_str(out, opt->name, text);
    }
    return out;
}

static struct opts *driver_opts(const struct driver *d, struct json_object *options, struct err *e)
{
    struct opts *o = opts_new(d->opts);
    json_object_object_foreach(options, name, value)
    {
        if (opts_put(o, name, json_object_get_string(value), e)) {
            opts_free(&o);
            return NULL;
        }
    }
    return o;
}

/* ---- show */

static void add_attr(const char *key, const char *value, void *arg)
{
    put_str(arg, key, value);
}

static const char shrunk_reason[] =
    "its file has become shorter; remove it, or make the file whole and restart";

static void show_live(struct json_object *o, struct bdev *b)
{
    struct bdev_info info;
    bdev_info_of(b, &info);
    put_u64(o, "size", info.size);
    put_u64(o, "block_size", info.block_size);
    put_u64(o, "physical_block_size", info.phys_block);
    put_bool(o, "read_only", info.read_only);
    put_bool(o, "write_cache", info.write_cache);
    put_bool(o, "write_error", info.write_error);
    put_bool(o, "discard", info.discard_gran != 0);
    struct json_object *attributes = json_object_new_object();
    bdev_attrs(b, add_attr, attributes);
    json_object_object_add(o, "attributes", attributes);
    const char *tail = get_str(attributes, "unserved_tail");
    if (*get_str(attributes, "shrunk")) {
        put_str(o, "state", "failed");
        put_str(o, "reason", shrunk_reason);
    } else if (*tail) {
        char text[120];
        snprintf(text, sizeof text,
                 "the last %s bytes of its file are not served: they are no whole block of %u",
                 tail, info.block_size);
        put_str(o, "reason", text);
    }
}

static struct json_object *show_record(const char *name, struct json_object *record)
{
    struct json_object *o = json_object_new_object(), *options = NULL;
    struct bdev *b = bdev_find(name);
    json_object_object_get_ex(record, "options", &options);
    put_str(o, "name", name);
    put_str(o, "type", get_str(record, "type"));
    put_str(o, "state", b ? "online" : "absent");
    put_str(o, "reason", b ? "" : reason_get("device", name));
    put_str(o, "path", get_str(options, "path"));
    put_str(o, "uuid", get_str(record, "uuid"));
    put_str(o, "identity", get_str(record, "identity"));
    put_str(o, "by_id", get_str(record, "by_id"));
    if (b)
        show_live(o, b);
    put_str(o, "signature", get_str(signatures, name));
    json_object_object_add(o, "users", users_json(name));
    return o;
}

SHOW(device)
{
    const char *name = schema_param(m, "name");
    struct json_object *record = state_get("device", name);
    return record ? show_record(name, record) : NULL;
}

static void list_one(const char *key, struct json_object *record, void *arg)
{
    json_object_array_add(arg, show_record(strchr(key, '/') + 1, record));
}

LIST(device)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "device/", list_one, items);
    return 0;
}

/* ---- start: by `add` and by start-up */

static void note_signature(const char *name)
{
    struct bdev_user user = {.label = "probe"};
    struct err e;
    char what[400] = "";
    if (!signatures)
        signatures = json_object_new_object();
    json_object_object_del(signatures, name);
    struct bdev_desc *desc = bdev_open_to_look(name, &user, &e);
    if (desc && probe_signature(desc, what, sizeof what, &e) == 1)
        put_str(signatures, name, what);
    bdev_drain_close(&desc);
}

static int check_signature(const char *device, const char *field, struct err *e)
{
    struct bdev_user user = {.label = "probe"};
    struct bdev_info info;
    char what[300] = "";
    if (!bdev_name_info(device, &info) || info.known_zero)
        return 0;
    struct bdev_desc *desc = bdev_open_to_look(device, &user, e);
    if (!desc)
        return -1;
    int found = probe_signature(desc, what, sizeof what, e);
    bdev_drain_close(&desc);
    if (found <= 0)
        return found;
    return err_set(e, ERR_NEEDS_FORCE, field, "%s carries %s; --force overwrites it", device, what);
}

int check_signatures(const char *const *devices, unsigned n, const char *field, struct err *e)
{
    for (unsigned i = 0; i < n; i++)
        if (check_signature(devices[i], field, e))
            return -1;
    return 0;
}

/* The device that is saved must be the one that is found: its identity wins over its path. */
static int locate(struct json_object *record, struct json_object *options, struct err *e)
{
    const char *path = get_str(options, "path"), *key = get_str(record, "identity");
    if (!*path)
        return 0;
    struct look l;
    struct err ignored;
    bool readable = !look_at(path, &l, &ignored) && l.exists;
    if (readable && (!*key || !strcmp(key, l.id.key)))
        return 0;
    if (*key) {
        autofree struct find *f = xcalloc(1, sizeof *f);
        f->key = key;
        task_help(find_sync, f);
        if (f->found) {
            put_str(options, "path", f->path);
            return 0;
        }
    }
    if (!l.exists)
        return err_set(e, ERR_NOT_FOUND, "path", "%s is not there", path);
    if (!readable)
        return err_set(e, ERR_IO, "path", "%s cannot be looked at: %s", path, ignored.msg);
    return err_set(e, ERR_EXISTS, "path", "%s is another device now (%s, expected %s)", path,
                   *l.id.key ? l.id.key : "without identity", key);
}

int device_start(const char *name, struct json_object *record, struct err *e)
{
    const struct driver *d = driver_of(get_str(record, "type"));
    if (!d)
        return err_set(e, ERR_UNSUPPORTED, "type", "there is no driver %s",
                       get_str(record, "type"));
    struct json_object *saved = NULL, *options = NULL;
    json_object_object_get_ex(record, "options", &saved);
    if (!saved || json_object_deep_copy(saved, &options, NULL))
        return err_set(e, ERR_INTERNAL, "", "the saved record has no options");
    struct uuid uuid = {0};
    uuid_parse(get_str(record, "uuid"), &uuid);
    struct bdev *b = NULL;
    int rc = locate(record, options, e);
    struct opts *o = rc ? NULL : driver_opts(d, options, e);
    if (o && !opts_check(o, e))
        rc = d->create(name, &uuid, o, &b, e);
    else
        rc = -1;
    opts_free(&o);
    json_object_put(options);
    if (!rc)
        note_signature(name);
    return rc;
}

int device_end(struct bdev *b, struct err *e)
{
    char users[300];
    if (device_in_use(bdev_name(b), users, sizeof users))
        return err_set(e, ERR_IN_USE, "", "%s is in use by %s", bdev_name(b), users);
    bdev_unregister(b);
    return 0;
}

/* ---- add */

static const char *wanted_type(const struct opts *o)
{
    const char *type = opts_str(o, "type");
    return !type || !strcmp(type, "disk") ? "file" : type;
}

/* Is what is asked for what stands there? */
static int compare(const struct verb_run *v, const char *name, struct json_object *record,
                   struct err *e)
{
    const struct opts *o = v->opts;
    struct json_object *options = NULL;
    json_object_object_get_ex(record, "options", &options);
    if (strcmp(wanted_type(o), get_str(record, "type")))
        return differs(e, "device", name, "type", get_str(record, "type"), wanted_type(o));
    for (const struct opt *opt = o->table; opt->name; opt++) {
        if (!is_saved(o, opt))
            continue;
        autofree char *want = option_text(o, opt);
        const char *have = get_str(options, opt->name);
        if (strcmp(want ? want : "", have))
            return differs(e, "device", name, opt->name, *have ? have : "not set",
                           want ? want : "not set");
    }
    struct bdev *b = bdev_find(name);
    if (opts_find(o->table, "size") && opts_is_set(o, "size") && b) {
        struct bdev_info info;
        bdev_info_of(b, &info);
        if (info.size != opts_u64(o, "size"))
            return err_set(e, ERR_EXISTS, "size", "device %s exists with size %llu, not %llu", name,
                           (unsigned long long)info.size, (unsigned long long)opts_u64(o, "size"));
    }
    return 0;
}

struct same_identity {
    const char *key;
    char name[BDEV_NAME_MAX + 1];
};

static void find_identity(const char *key, struct json_object *record, void *arg)
{
    struct same_identity *s = arg;
    if (*s->key && !strcmp(get_str(record, "identity"), s->key))
        snprintf(s->name, sizeof s->name, "%s", strchr(key, '/') + 1);
}

static int refuse_twice(const char *path, const char *key, struct err *e)
{
    struct same_identity s = {.key = key};
    journal_for_each(control.journal, "device/", find_identity, &s);
    if (*s.name)
        return err_set(e, ERR_EXISTS, "path", "%s is device %s already", path, s.name);
    return 0;
}

static struct json_object *new_record(const struct opts *o, const struct uuid *uuid)
{
    struct json_object *record = json_object_new_object();
    char text[UUID_TEXT];
    put_str(record, "type", wanted_type(o));
    put_str(record, "uuid", uuid_format(uuid, text));
    json_object_object_add(record, "options", options_json(o));
    return record;
}

/* The driver's own options, for its create. */
static struct opts *only_driver(const struct driver *d, const struct opts *o, struct err *e)
{
    struct opts *out = opts_new(d->opts);
    for (const struct opt *opt = d->opts; opt->name; opt++) {
        autofree char *text = opts_is_set(o, opt->name) ? option_text(o, opt) : NULL;
        if (text && opts_put(out, opt->name, text, e)) {
            opts_free(&out);
            return NULL;
        }
    }
    return out;
}

static int create_device(const char *name, const struct opts *o, struct json_object *record,
                         struct err *e)
{
    const struct driver *d = driver_of(wanted_type(o));
    struct uuid uuid = {0};
    struct bdev *b = NULL;
    uuid_parse(get_str(record, "uuid"), &uuid);
    struct opts *own = only_driver(d, o, e);
    int rc = own ? d->create(name, &uuid, own, &b, e) : -1;
    opts_free(&own);
    return rc;
}

static void unlink_sync(void *path)
{
    (void)unlink(path);
}

/* `made`: the path was not there before, and is not after a failure. */
static int save_new(const char *name, const char *path, bool made, struct json_object *record,
                    struct err *e)
{
    struct look l;
    if (path && !look_at(path, &l, NULL) && l.exists) {
        put_str(record, "identity", l.id.key);
        put_str(record, "by_id", l.id.by_id);
    }
    note_signature(name);
    if (!state_put("device", name, record, e))
        return 0;
    bdev_unregister(bdev_find(name));
    if (made) {
        autofree char *copy = xstrdup(path);
        task_help(unlink_sync, copy);
    }
    return -1;
}

/* What stands so already is left alone; what is saved and absent gets another try. */
static int add_again(struct verb_run *v, const char *name, struct json_object *record,
                     struct err *e)
{
    v->changed = false;
    if (compare(v, name, record, e))
        return -1;
    if (bdev_find(name))
        return 0;
    json_object_get(record); /* starting waits */
    int rc = device_start(name, record, e);
    json_object_put(record);
    if (rc)
        return -1;
    reason_set("device", name, NULL);
    v->changed = true;
    return 0;
}

static int device_add(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    struct json_object *record = state_get("device", name);
    if (record)
        return add_again(v, name, record, e);
    if (!bdev_name_valid(name))
        return err_set(e, ERR_INVALID, "name",
                       "name is '%.40s'; expected a letter or digit, then letters, digits, '_', "
                       "'.', '-', at most 32 in all",
                       name);
    if (name_is_taken(name))
        return err_set(e, ERR_EXISTS, "name", "the name %s is taken", name);
    const char *path = opts_find(v->opts->table, "path") ? opts_str(v->opts, "path") : NULL;
    struct look l;
    if (path && (look_at(path, &l, e) || (l.exists && refuse_twice(path, l.id.key, e))))
        return -1;
    if (path && l.own_state)
        return err_set(e, ERR_IN_USE, "path", "%s is a file of this daemon's own state", path);
    struct uuid uuid = uuid_random();
    record = new_record(v->opts, &uuid);
    int rc = create_device(name, v->opts, record, e);
    if (!rc)
        rc = save_new(name, path, path && !l.exists, record, e);
    json_object_put(record);
    return rc;
}

static int device_remove(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    struct bdev *b = bdev_find(name);
    char users[300];
    if (device_in_use(name, users, sizeof users))
        return err_set(e, ERR_IN_USE, "", "device %s is in use by %s", name, users);
    if (b && device_end(b, e))
        return -1;
    reason_set("device", name, "it was being removed, and that could not be saved");
    return state_del("device", name, e);
}

const struct verb_entry device_verbs[] = {
    {"device", "add", device_add},
    {"device", "remove", device_remove},
    {"device", "scan", device_scan},
    {NULL, NULL, NULL},
};
