/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/adopt.h"
#include "control/start.h"
#include "targets/iscsi/iscsi.h"
#include "targets/nbd/nbd.h"

/*
 * Start-up: what is saved comes back, by identity and UUID. Nothing is created, nothing formatted.
 * What cannot start keeps its place with the reason, and never stops the others.
 */

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

/* ---- devices, arrays, pools: by repeated passes, since any may stand on any other */

/* Adds the devices that are not there; the number that came. */
static unsigned device_pass(bool last)
{
    struct json_object *records = saved("device/");
    unsigned came = 0;
    json_object_object_foreach(records, name, record)
    {
        struct err e = {0};
        if (bdev_find(name))
            continue;
        if (!device_start(name, record, &e)) {
            reason_set("device", name, NULL);
            came++;
        } else if (last) {
            failed("device", name, &e);
        }
    }
    json_object_put(records);
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
        if (!array_start_saved(name, record, degraded_ok, &e)) {
            reason_set("array", name, NULL);
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

void replay_devices(void)
{
    device_pass(false);
}

void replay_stacks(void)
{
    /* First what is whole; an array with members missing only when nothing whole comes any more. */
    while (array_pass(false, false) + pool_pass(false) + device_pass(false))
        continue;
    while (array_pass(true, false) + pool_pass(false) + device_pass(false))
        continue;
    /* What was being made or deleted when the daemon died is neither missing nor broken. */
    intents_finish();
    device_pass(true);
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
    struct json_object *luns = saved("lun/"), *acls = saved("acl/");
    json_object_object_foreach(luns, name, record)
    {
        struct err e = {0};
        autofree char *iqn = xasprintf("%.*s", (int)strcspn(name, "/"), name);
        if (lun_start(iqn, (unsigned)atoi(strrchr(name, '/') + 1), record, &e))
            failed("lun", name, &e);
    }
    json_object_object_foreach(acls, acl, nothing)
    {
        struct err e = {0};
        autofree char *iqn = xasprintf("%.*s", (int)strcspn(acl, "/"), acl);
        (void)nothing;
        if (iscsi_acl_add(iqn, strchr(acl, '/') + 1, &e))
            failed("acl", acl, &e);
    }
    json_object_put(luns);
    json_object_put(acls);
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

void replay_listeners(void)
{
    struct json_object *listeners = saved("listener/"), *portals = saved("portal/");
    struct err e;
    json_object_object_foreach(listeners, nbd_addr, a)
    {
        (void)a;
        if (nbd_listen(nbd_addr, &e))
            failed("listener", nbd_addr, &e);
    }
    json_object_object_foreach(portals, iscsi_addr, b)
    {
        (void)b;
        if (iscsi_portal_add(iscsi_addr, &e))
            failed("portal", iscsi_addr, &e);
    }
    json_object_put(listeners);
    json_object_put(portals);
}
