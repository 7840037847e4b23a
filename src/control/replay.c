/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/adopt.h"
#include "control/iscsi_acl.h"
#include "control/listen.h"
#include "control/start.h"

/*
 * Start-up: what is saved comes back, by identity and UUID. Nothing is created, nothing formatted.
 * What cannot start keeps its place with the reason, and never stops the others.
 */

enum { BUSY_WAIT_MS = 5000, BUSY_STEP_MS = 50 };

static void failed(const char *kind, const char *name, const struct err *e)
{
    char object[96];
    if (!strcmp(reason_get(kind, name), e->msg))
        return; /* told already */
    reason_set(kind, name, e->msg);
    snprintf(object, sizeof object, "%s %.80s", kind, name);
    if (e->code == ERR_NOT_READY)
        event_raise(object, "array-waiting", "%s %s", object, e->msg);
    else
        event_raise(object, "not-started", "%s did not start: %s", object, e->msg);
}

/* The saved records of a kind, in order: callbacks that wait must not walk the journal itself. */
struct collected {
    struct json_object *records;
};

static void collect(const char *key, struct json_object *record, void *arg)
{
    json_object_object_add(arg, strchr(key, '/') + 1, json_object_get(record));
}

static struct json_object *saved(const char *prefix)
{
    struct json_object *o = json_object_new_object();
    journal_for_each(control.journal, prefix, collect, o);
    return o;
}

static void tell(const char *kind, const char *name)
{
    char text[120];
    snprintf(text, sizeof text, "%s %.90s", kind, name);
    progress(text);
}

/* ---- devices, arrays, pools: by repeated passes, since any may stand on any other */

struct stackable {
    const char *kind;
    bool (*here)(const char *name);
    int (*start)(const char *name, struct json_object *record, struct err *e);
    void (*note)(const char *name); /* once it is here; may be NULL */
};

static bool pool_here(const char *name)
{
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    return pool_get(name, info);
}

static bool bdev_here(const char *name)
{
    return bdev_find(name);
}

static int start_whole(const char *name, struct json_object *record, struct err *e)
{
    return log_awaited(record, e) ? -1 : array_start_saved(name, record, false, e);
}

static int start_degraded(const char *name, struct json_object *record, struct err *e)
{
    return members_awaited(record, e) ? -1 : array_start_saved(name, record, true, e);
}

static const struct stackable devices = {"device", bdev_here, device_start, NULL};
static const struct stackable pools = {"pool", pool_here, pool_start_saved, NULL};
static const struct stackable whole_arrays = {"array", bdev_here, start_whole, array_note};
static const struct stackable any_arrays = {"array", bdev_here, start_degraded, array_note};

/* Under its lock, since members are awaited while verbs run. True when it came. */
static bool try_one(const struct stackable *s, const char *name, struct err *e)
{
    char key[KEY_MAX];
    snprintf(key, sizeof key, "name:%s", name);
    struct key_lock *lock = key_lock(key);
    struct json_object *record = json_object_get(state_get(s->kind, name));
    bool came = record && !s->here(name) && !s->start(name, record, e);
    if (came) {
        reason_set(s->kind, name, NULL);
        if (s->note)
            s->note(name);
    }
    json_object_put(record);
    key_unlock(&lock);
    return came;
}

/* Tries all that are not there; how many came. *busy_r (may be NULL): how many are in use by
 * somebody. */
static unsigned pass(const struct stackable *s, bool last, unsigned *busy_r)
{
    char prefix[KEY_MAX];
    unsigned came = 0, busy = 0;
    snprintf(prefix, sizeof prefix, "%s/", s->kind);
    struct json_object *records = saved(prefix);
    json_object_object_foreach(records, name, record)
    {
        struct err e = {0};
        (void)record;
        if (s->here(name))
            continue;
        tell(s->kind, name);
        if (try_one(s, name, &e))
            came++;
        else if (last && *e.msg)
            failed(s->kind, name, &e);
        busy += e.code == ERR_IN_USE;
    }
    json_object_put(records);
    if (busy_r)
        *busy_r = busy;
    return came;
}

/* After a SIGKILL the kernel lets go of the dead daemon's files only when its io_uring is torn
 * down, a moment after the process is gone: devices in use get some seconds. */
void replay_devices(void)
{
    unsigned busy = 0;
    pass(&devices, false, &busy);
    for (unsigned i = 0; busy && i < BUSY_WAIT_MS / BUSY_STEP_MS; i++) {
        task_sleep_us(BUSY_STEP_MS * 1000);
        pass(&devices, false, &busy);
    }
}

/* First what is whole; an array with members missing only when nothing whole comes any more. */
void replay_passes(void)
{
    while (pass(&whole_arrays, false, NULL) + pass(&pools, false, NULL) +
           pass(&devices, false, NULL))
        continue;
    while (pass(&any_arrays, false, NULL) + pass(&pools, false, NULL) + pass(&devices, false, NULL))
        continue;
}

void replay_arrays_last(void)
{
    pass(&any_arrays, true, NULL);
}

void replay_stacks(void)
{
    replay_passes();
    /* What was being made or deleted when the daemon died is neither missing nor broken. */
    intents_finish();
    pass(&devices, true, NULL);
    pass(&any_arrays, true, NULL);
    pass(&pools, true, NULL);
}

/* ---- targets, then listeners */

static void start_exports(void)
{
    struct json_object *records = saved("export/");
    json_object_object_foreach(records, name, record)
    {
        struct err e = {0};
        if (export_start(name, record, &e))
            failed("export", name, &e);
    }
    json_object_put(records);
}

static void start_target_parts(void)
{
    struct json_object *luns = saved("lun/"), *acls = saved("acl/"), *groups = saved("alua/");
    json_object_object_foreach(luns, name, record)
    {
        struct err e = {0};
        autofree char *iqn = xasprintf("%.*s", (int)strcspn(name, "/"), name);
        if (lun_start(iqn, (unsigned)atoi(strrchr(name, '/') + 1), record, &e))
            failed("lun", name, &e);
    }
    json_object_object_foreach(acls, acl, users)
    {
        struct err e = {0};
        if (acl_start(acl, users, &e))
            failed("acl", acl, &e);
    }
    json_object_object_foreach(groups, group, state)
    {
        struct err e = {0};
        if (alua_start(group, state, &e))
            failed("alua", group, &e);
    }
    json_object_put(luns);
    json_object_put(acls);
    json_object_put(groups);
    struct err e = {0};
    if (discovery_start(&e))
        failed("discovery-auth", "iscsi", &e);
}

void replay_targets(void)
{
    struct json_object *targets = saved("target/");
    json_object_object_foreach(targets, iqn, record)
    {
        struct err e = {0};
        if (target_start(iqn, record, &e))
            failed("target", iqn, &e);
    }
    json_object_put(targets);
    start_target_parts();
    start_exports();
}

static void start_listening(const struct listening *l)
{
    char prefix[KEY_MAX];
    snprintf(prefix, sizeof prefix, "%s/", l->kind);
    struct json_object *records = saved(prefix);
    json_object_object_foreach(records, addr, record)
    {
        struct err e = {0};
        if (l->start(addr, record, &e))
            failed(l->kind, addr, &e);
    }
    json_object_put(records);
}

void replay_listeners(void)
{
    start_listening(&nbd_listening);
    start_listening(&iscsi_listening);
}
