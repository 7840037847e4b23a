/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "control/listen.h"
#include "control/shows.h"
#include "control/start.h"
#include "targets/nbd/nbd.h"

/* NBD. Saved: "listener/ADDR" {"tls", "tls_cert", "tls_key", "tls_ca", "tls_psk_file",
 * "mode", "group"}, each only when it was given, and all for TLS left out when it is off;
 * "export/NAME" {"device", "description", "read_only", "default", "open", "allow"}, the last one
 * left out when there are no rules. */

static int compare_both(const char *what, const char *name, struct json_object *have,
                        struct json_object *want, struct err *e);

/* ---- listeners */

/* The files of TLS are not secrets; what is in them is. */
static const char *const texts[] = {"tls_cert",     "tls_key", "tls_ca",
                                    "tls_psk_file", "mode",    "group"};
enum { TEXTS = sizeof texts / sizeof *texts };

static struct json_object *show_listener(const char *addr)
{
    struct json_object *record = state_get("listener", addr),
                       *o = listening_show(&nbd_listening, addr);
    put_str(o, "tls", *get_str(record, "tls") ? get_str(record, "tls") : "off");
    for (size_t i = 0; i < TEXTS; i++)
        put_str(o, texts[i], get_str(record, texts[i]));
    return o;
}

SHOW(listener)
{
    const char *addr = schema_param(m, "addr");
    return state_get("listener", addr) ? show_listener(addr) : NULL;
}

static void list_listener(const char *key, struct json_object *record, void *arg)
{
    (void)record;
    json_object_array_add(arg, show_listener(strchr(key, '/') + 1));
}

LIST(listener)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "listener/", list_listener, items);
    return 0;
}

static const char *given(struct json_object *record, const char *field)
{
    const char *text = get_str(record, field);
    return *text ? text : NULL;
}

static int listener_start(const char *addr, struct json_object *record, struct err *e)
{
    struct nbd_listen_args args = {.addr = addr,
                                   .tls = given(record, "tls"),
                                   .tls_cert = given(record, "tls_cert"),
                                   .tls_key = given(record, "tls_key"),
                                   .tls_ca = given(record, "tls_ca"),
                                   .tls_psk_file = given(record, "tls_psk_file"),
                                   .mode = given(record, "mode"),
                                   .group = given(record, "group")};
    return nbd_listen(&args, e);
}

const struct listening nbd_listening = {"listener", nbd_listener_for_each, listener_start,
                                        nbd_unlisten};

static struct json_object *listener_record(const struct opts *o)
{
    struct json_object *record = json_object_new_object();
    if (strcmp(opts_str(o, "tls"), "off"))
        put_str(record, "tls", opts_str(o, "tls"));
    for (size_t i = 0; i < TEXTS; i++)
        if (opts_str(o, texts[i]))
            put_str(record, texts[i], opts_str(o, texts[i]));
    return record;
}

static int listen_verb(struct verb_run *v, struct err *e)
{
    const char *addr = verb_param(v, "addr");
    struct json_object *record = listener_record(v->opts), *have = state_get("listener", addr);
    int rc = v->existing ? compare_both("listener", addr, have, record, e) : 0;
    if (!rc)
        rc = listening_add(v, &nbd_listening, record, e);
    json_object_put(record);
    return rc;
}

static int unlisten_verb(struct verb_run *v, struct err *e)
{
    return listening_remove(v, &nbd_listening, e);
}

/* ---- exports */

static struct json_object *show_export(const char *name, struct json_object *record)
{
    struct json_object *o = json_object_new_object();
    struct nbd_export_info info = {0};
    bool here = nbd_export_get(name, &info);
    put_str(o, "name", name);
    put_str(o, "device", get_str(record, "device"));
    put_str(o, "state", info.ready ? "ready" : info.failed ? "failed" : "not-ready");
    put_str(o, "reason", here ? info.why : reason_get("export", name));
    put_u64(o, "size", info.size);
    put_bool(o, "read_only", get_bool(record, "read_only"));
    put_bool(o, "default", get_bool(record, "default"));
    put_bool(o, "open", get_bool(record, "open"));
    struct json_object *allow = json_object_object_get(record, "allow");
    json_object_object_add(o, "allow", allow ? json_object_get(allow) : json_object_new_array());
    put_str(o, "description", get_str(record, "description"));
    put_u64(o, "connections", info.connections);
    return o;
}

SHOW(export)
{
    const char *name = schema_param(m, "name");
    struct json_object *record = state_get("export", name);
    return record ? show_export(name, record) : NULL;
}

static void list_export(const char *key, struct json_object *record, void *arg)
{
    json_object_array_add(arg, show_export(strchr(key, '/') + 1, record));
}

LIST(export)
{
    (void)m, (void)o, (void)e;
    journal_for_each(control.journal, "export/", list_export, items);
    return 0;
}

static int with_args(const char *name, struct json_object *record,
                     int (*fn)(const struct nbd_export_args *args, struct err *e), struct err *e)
{
    struct json_object *allow = json_object_object_get(record, "allow");
    unsigned n = allow ? (unsigned)json_object_array_length(allow) : 0;
    autofree const char **rules = xcalloc(n + 1, sizeof *rules);
    for (unsigned i = 0; i < n; i++)
        rules[i] = json_object_get_string(json_object_array_get_idx(allow, i));
    struct nbd_export_args args = {.name = name,
                                   .device = get_str(record, "device"),
                                   .description = get_str(record, "description"),
                                   .read_only = get_bool(record, "read_only"),
                                   .is_default = get_bool(record, "default"),
                                   .open_access = get_bool(record, "open"),
                                   .allow = rules,
                                   .allow_count = n};
    return fn(&args, e);
}

int export_start(const char *name, struct json_object *record, struct err *e)
{
    return with_args(name, record, nbd_export_add, e);
}

static struct json_object *export_record(const struct opts *o)
{
    struct json_object *record = json_object_new_object();
    put_str(record, "device", opts_str(o, "device"));
    put_str(record, "description", opts_str(o, "description"));
    put_bool(record, "read_only", opts_bool(o, "read_only"));
    put_bool(record, "default", opts_bool(o, "default"));
    put_bool(record, "open", opts_bool(o, "open"));
    unsigned n;
    char *const *rules = opts_list(o, "allow", &n);
    struct json_object *allow = n ? json_object_new_array() : NULL;
    for (unsigned i = 0; i < n; i++)
        json_object_array_add(allow, json_object_new_string(rules[i]));
    if (n)
        json_object_object_add(record, "allow", allow);
    return record;
}

/* ERR_EXISTS naming the first field that is not the same in both records. */
int compare_records(const char *what, const char *name, struct json_object *have,
                    struct json_object *want, struct err *e)
{
    json_object_object_foreach(want, field, value)
    {
        struct json_object *old = NULL;
        json_object_object_get_ex(have, field, &old);
        if (!json_object_equal(old, value))
            return differs(e, what, name, field, old ? json_object_get_string(old) : "not set",
                           json_object_get_string(value));
    }
    return 0;
}

/* The same, and nothing may stand in `have` that is not in `want`. */
static int compare_both(const char *what, const char *name, struct json_object *have,
                        struct json_object *want, struct err *e)
{
    if (compare_records(what, name, have, want, e))
        return -1;
    json_object_object_foreach(have, field, value)
    {
        if (!json_object_object_get_ex(want, field, NULL))
            return differs(e, what, name, field, json_object_get_string(value), "not set");
    }
    return 0;
}

/* A default that another export has already: two of them would leave clients to chance. */
struct other_default {
    const char *name;
    const char *found;
};

static void find_default(const char *key, struct json_object *record, void *arg)
{
    struct other_default *d = arg;
    const char *name = strchr(key, '/') + 1;
    if (get_bool(record, "default") && strcmp(name, d->name))
        d->found = name;
}

int check_device(const char *device, struct err *e)
{
    if (bdev_find(device))
        return 0;
    return err_set(e, ERR_NOT_FOUND, "device", "there is no device, array or volume %s", device);
}

static int check_default(const char *name, const struct opts *o, struct err *e)
{
    struct other_default d = {.name = name};
    if (opts_bool(o, "default"))
        journal_for_each(control.journal, "export/", find_default, &d);
    if (d.found)
        return err_set(e, ERR_EXISTS, "default", "export %s is the default already", d.found);
    return 0;
}

static int check_export(const char *name, const struct opts *o, struct err *e)
{
    if (text_check(name, 255, "name", e))
        return -1;
    return check_default(name, o, e) ? -1 : check_device(opts_str(o, "device"), e);
}

static int export_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    struct json_object *record = export_record(v->opts);
    int rc;
    if (v->existing) {
        v->changed = false;
        rc = compare_both("export", name, state_get("export", name), record, e);
        json_object_put(record);
        return rc;
    }
    rc = check_export(name, v->opts, e);
    if (!rc)
        rc = export_start(name, record, e);
    if (!rc && state_put("export", name, record, e)) {
        struct target_left left;
        nbd_export_remove(name, true, &left, NULL);
        rc = -1;
    }
    json_object_put(record);
    return rc;
}

static int set_export(const char *name, struct json_object *have, struct json_object *want,
                      struct err *e)
{
    if (with_args(name, want, nbd_export_set, e))
        return -1;
    if (!state_put("export", name, want, e))
        return 0;
    if (with_args(name, have, nbd_export_set, NULL))
        log_warn("control", "export %s is not as it is saved", name);
    return -1;
}

static int export_set_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    struct json_object *have = json_object_get(state_get("export", name));
    struct json_object *want = patched(have, v->opts, &v->changed);
    int rc = v->changed ? check_default(name, v->opts, e) : 0;
    if (!rc && v->changed)
        rc = set_export(name, have, want, e);
    json_object_put(have);
    json_object_put(want);
    return rc;
}

static int unexport_verb(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name");
    struct nbd_export_info info;
    struct target_left left = {""};
    if (nbd_export_get(name, &info) &&
        nbd_export_remove(name, verb_flag(v, "disconnect"), &left, e))
        return -1;
    reason_set("export", name, "it was being removed, and that could not be saved");
    if (state_del("export", name, e))
        return -1;
    reply_note(v, left.text);
    return 0;
}

const struct verb_entry nbd_verbs[] = {
    {"nbd", "listen", listen_verb},     {"nbd", "unlisten", unlisten_verb},
    {"nbd", "export", export_verb},     {"nbd", "set", export_set_verb},
    {"nbd", "unexport", unexport_verb}, {NULL, NULL, NULL},
};
