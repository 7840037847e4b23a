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
    reason_set(kind, name, e->msg);
    snprintf(object, sizeof object, "%s %.80s", kind, name);
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

/* Adds the devices that are not there; the number that came. *busy_r (may be NULL): how many are in
 * use by somebody. */
static unsigned device_pass(bool last, unsigned *busy_r)
{
    struct json_object *records = saved("device/");
    unsigned came = 0, busy = 0;
    json_object_object_foreach(records, name, record)
    {
        struct err e = {0};
        if (bdev_find(name))
            continue;
        tell("device", name);
        if (!device_start(name, record, &e)) {
            reason_set("device", name, NULL);
            came++;
            continue;
        }
        busy += e.code == ERR_IN_USE;
        if (last)
            failed("device", name, &e);
    }
    json_object_put(records);
    if (busy_r)
        *busy_r = busy;
    return came;
}

static unsigned array_pass(bool degraded_ok, bool last)
{
    struct json_object *records = saved("array/");
    unsigned came = 0;
    json_object_object_foreach(records, name, record)
    {
        struct err e = {0};
        if (bdev_find(name))
            continue;
        tell("array", name);
        if (!array_start_saved(name, record, degraded_ok, &e)) {
            reason_set("array", name, NULL);
            array_note(name);
            came++;
        } else if (last) {
            failed("array", name, &e);
        }
    }
    json_object_put(records);
    return came;
}

static unsigned pool_pass(bool last)
{
    struct json_object *records = saved("pool/");
    unsigned came = 0;
    json_object_object_foreach(records, name, record)
    {
        autofree struct pool_info *info = xcalloc(1, sizeof *info);
        struct err e = {0};
        if (pool_get(name, info))
            continue;
        tell("pool", name);
        if (!pool_start_saved(name, record, &e)) {
            reason_set("pool", name, NULL);
            came++;
        } else if (last) {
            failed("pool", name, &e);
        }
    }
    json_object_put(records);
    return came;
}

/* After a SIGKILL the kernel lets go of the dead daemon's files only when its io_uring is torn
 * down, a moment after the process is gone: devices in use get some seconds. */
void replay_devices(void)
{
    unsigned busy = 0;
    device_pass(false, &busy);
    for (unsigned i = 0; busy && i < BUSY_WAIT_MS / BUSY_STEP_MS; i++) {
        task_sleep_us(BUSY_STEP_MS * 1000);
        device_pass(false, &busy);
    }
}

void replay_stacks(void)
{
    /* First what is whole; an array with members missing only when nothing whole comes any more. */
    while (array_pass(false, false) + pool_pass(false) + device_pass(false, NULL))
        continue;
    while (array_pass(true, false) + pool_pass(false) + device_pass(false, NULL))
        continue;
    /* What was being made or deleted when the daemon died is neither missing nor broken. */
    intents_finish();
    device_pass(true, NULL);
    array_pass(true, true);
    pool_pass(true);
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
