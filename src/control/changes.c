/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/changes.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/jobs.h"
#include "raid/raid.h"
#include "targets/iscsi/iscsi.h"
#include "targets/nbd/nbd.h"
#include "volumes/volumes.h"

enum { OBJECT_TEXT = sizeof((struct event){0}.object), KIND_TEXT = sizeof((struct event){0}.kind) };

/* ---- what a verb did */

/* "target port group iqn.x/2": the object of the call. */
static void object_of(const struct schema_match *m, const struct resource *r, char out[OBJECT_TEXT])
{
    size_t n = (size_t)snprintf(out, OBJECT_TEXT, "%s", r->what);
    for (unsigned i = 0; i < m->count && n < OBJECT_TEXT; i++)
        n += (size_t)snprintf(out + n, OBJECT_TEXT - n, "%c%s", i ? '/' : ' ', m->param[i].value);
}

/* "acl-deleted", "target-port-group-changed" */
static void kind_of(const struct resource *r, const char *what, char out[KIND_TEXT])
{
    snprintf(out, KIND_TEXT, "%s-%s", r->what, what);
    for (char *p = out; *p; p++)
        *p = (char)(*p == ' ' ? '-' : tolower((unsigned char)*p));
}

static const char *state_of(struct json_object *object)
{
    const char *state = object ? get_str(object, "state") : "absent";
    return *state ? state : "present";
}

static bool is_live(const struct resource *r, const char *key)
{
    const char *const *l = r->live;
    while (*l && strcmp(*l, key) != 0)
        l++;
    return *l;
}

/* ": size, alias": what is not as it was, but for counters. */
static void name_fields(const struct resource *r, struct json_object *before,
                        struct json_object *after, char *out, size_t size)
{
    size_t n = 0;
    *out = '\0';
    json_object_object_foreach(after, key, value)
    {
        struct json_object *was = NULL;
        json_object_object_get_ex(before, key, &was);
        if (!is_live(r, key) && !json_object_equal(was, value) && n < size)
            n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : ": ", key);
    }
}

/* What came of it, or NULL when there is nothing to tell. */
static const char *outcome(const struct verb_run *v, const struct resource *r,
                           struct json_object *after)
{
    const struct schema_verb *verb = v->match->verb;
    if (!after)
        return !v->existing ? NULL : !strcmp(verb->name, "stop") ? "stopped" : "deleted";
    if (!v->existing)
        return "created";
    /* A secret is not in the object, so what a PATCH or PUT says of itself counts. */
    char was[CONTROL_ETAG_MAX], is[CONTROL_ETAG_MAX];
    resource_etag(r, v->existing, was);
    resource_etag(r, after, is);
    return !strcmp(verb->method, "POST") && !strcmp(was, is) ? NULL : "changed";
}

void changes_tell(const struct verb_run *v, const struct resource *r, struct json_object *after)
{
    const struct control_who *who = &v->call->who;
    const struct schema_match *m = v->match;
    const char *what = v->changed && !v->job ? outcome(v, r, after) : NULL;
    /* The array itself has told of these, with more than is known here. */
    if (!what || (!strcmp(r->what, "array") && strcmp(what, "changed") != 0))
        return;
    char object[OBJECT_TEXT], kind[KIND_TEXT], fields[160] = "";
    object_of(m, r, object);
    kind_of(r, what, kind);
    if (v->existing && after)
        name_fields(r, v->existing, after, fields, sizeof fields);
    event_raise_change(object, kind, state_of(v->existing), state_of(after),
                       "%s %s by %.60s%s%.60s%s", m->noun->name, m->verb->name,
                       *who->name ? who->name : "oriond", *who->from ? " from " : "", who->from,
                       fields);
}

/* ---- states */

static const char *export_state(const struct nbd_export_info *info)
{
    return info->ready ? "ready" : info->failed ? "failed" : "not-ready";
}

static void lun_now(const char *iqn, char state[STATE_TEXT])
{
    struct iscsi_lun_info info;
    char name[ISCSI_NAME_MAX + 1];
    const char *slash = strrchr(iqn, '/');
    if (!slash || (size_t)(slash - iqn) >= sizeof name)
        return;
    snprintf(name, sizeof name, "%.*s", (int)(slash - iqn), iqn);
    bool there = iscsi_lun_get(name, (unsigned)strtoul(slash + 1, NULL, 10), &info);
    snprintf(state, STATE_TEXT, "%s", !there ? "absent" : info.ready ? "ready" : "not-ready");
}

static const char *stack_now(const char *kind, const char *name)
{
    if (!strcmp(kind, "array")) {
        autofree struct raid_info *info = xcalloc(1, sizeof *info);
        if (raid_get(name, info))
            return raid_state_name(info->state);
    } else {
        autofree struct pool_info *info = xcalloc(1, sizeof *info);
        if (pool_get(name, info))
            return pool_state_name(info->state);
    }
    return state_get(kind, name) ? "inactive" : "absent";
}

static void look_for_shrunk(const char *key, const char *value, void *arg)
{
    (void)value;
    *(bool *)arg |= !strcmp(key, "shrunk");
}

static const char *device_state(const char *name)
{
    struct bdev *b = bdev_find(name);
    bool shrunk = false;
    if (b)
        bdev_attrs(b, look_for_shrunk, &shrunk);
    return !b ? "absent" : shrunk ? "failed" : "online";
}

void changes_state_now(const char *object, char state[STATE_TEXT])
{
    struct nbd_export_info export;
    size_t n = strcspn(object, " ");
    char kind[16];
    snprintf(kind, sizeof kind, "%.*s", (int)n, object);
    const char *name = object + n + (object[n] == ' '), *now = "";
    *state = '\0';
    if (!strcmp(kind, "array") || !strcmp(kind, "pool"))
        now = stack_now(kind, name);
    else if (!strcmp(kind, "job"))
        now = job_state_now(name);
    else if (!strcmp(kind, "device"))
        now = device_state(name);
    else if (!strcmp(kind, "export"))
        now = nbd_export_get(name, &export) ? export_state(&export) : "absent";
    else if (!strcmp(kind, "LUN"))
        lun_now(name, state);
    if (*now)
        snprintf(state, STATE_TEXT, "%s", now);
}

typedef void state_fn(const char *object, const char *state, const char *why);
struct each {
    state_fn *fn;
    const char *iqn;
};

static void tell_state(struct each *each, const char *kind, const char *name, const char *state,
                       const char *why)
{
    char object[OBJECT_TEXT];
    snprintf(object, sizeof object, "%s %s", kind, name);
    each->fn(object, state, why);
}

static void each_array(const struct raid_info *info, void *arg)
{
    tell_state(arg, "array", info->name, raid_state_name(info->state), "");
}

static void each_pool(const struct pool_info *info, void *arg)
{
    tell_state(arg, "pool", info->name, pool_state_name(info->state), "");
}

static void each_export(const struct nbd_export_info *info, void *arg)
{
    tell_state(arg, "export", info->name, export_state(info), info->ready ? "" : info->why);
}

static void each_lun(const struct iscsi_lun_info *info, void *arg)
{
    struct each *each = arg;
    char name[ISCSI_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s/%u", each->iqn, info->lun);
    tell_state(each, "LUN", name, info->ready ? "ready" : "not-ready",
               info->ready ? "" : info->why);
}

static void each_target(const struct iscsi_target_info *info, void *arg)
{
    struct each *each = arg;
    each->iqn = info->iqn;
    iscsi_lun_for_each(info->iqn, each_lun, each);
}

static void each_device(const char *key, struct json_object *record, void *arg)
{
    const char *name = strchr(key, '/') + 1;
    (void)record;
    tell_state(arg, "device", name, device_state(name), reason_get("device", name));
}

void changes_for_each_state(state_fn *fn)
{
    struct each each = {fn, NULL};
    journal_for_each(control.journal, "device/", each_device, &each);
    raid_for_each(each_array, &each);
    pool_for_each(each_pool, &each);
    nbd_export_for_each(each_export, &each);
    iscsi_target_for_each(each_target, &each);
}
