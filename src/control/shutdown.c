/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/log.h"
#include "control/private.h"
#include "raid/raid.h"
#include "volumes/volumes.h"

/* The orderly end: flush, mark clean, release. */

static void collect_name(const char *key, struct json_object *record, void *arg)
{
    (void)record;
    json_object_object_add(arg, strchr(key, '/') + 1, NULL);
}

static void collect_pool(const struct pool_info *info, void *arg)
{
    json_object_object_add(arg, info->name, NULL);
}

static void collect_array(const struct raid_info *info, void *arg)
{
    json_object_object_add(arg, info->name, NULL);
}

static void collect_volume(const struct volume_info *info, void *arg)
{
    json_object_object_add(arg, info->name, NULL);
}

/* What clients wrote and never flushed is not owed to them, and is kept all the same. */
static void flush_device(const char *name)
{
    struct bdev_user user = {.label = "shutdown"};
    struct err e;
    struct bdev_desc *desc = bdev_find(name) ? bdev_open(name, CLAIM_READ, &user, &e) : NULL;
    if (!desc)
        return;
    int error = bdev_flush(desc);
    if (error)
        log_error("control", "the flush of %s failed: %s", name, strerror(-error));
    bdev_drain_close(&desc);
}

static bool is_used(const char *name)
{
    char users[16];
    struct bdev *b = bdev_find(name);
    return b && bdev_users(b, users, sizeof users);
}

/* Calls fn for each name; true when it did something for one of them. Takes the names. */
static bool for_names(struct json_object *names, bool (*fn)(const char *name))
{
    bool any = false;
    json_object_object_foreach(names, name, nothing)
    {
        (void)nothing;
        any |= fn(name);
    }
    json_object_put(names);
    return any;
}

static bool flush_volume(const char *name)
{
    flush_device(name);
    return false;
}

static bool end_pool(const char *name)
{
    struct err e;
    return !pool_stop(name, &e); /* refused while something stands on it */
}

static bool end_array(const char *name)
{
    struct err e;
    return !is_used(name) && !raid_stop(name, &e);
}

static bool end_device(const char *name)
{
    if (!bdev_find(name) || is_used(name))
        return false;
    flush_device(name);
    bdev_unregister(bdev_find(name));
    return true;
}

/* From the top of every stack down, by passes: a pool may stand on arrays, an array on volumes. */
void close_stacks(void)
{
    struct json_object *names = json_object_new_object();
    volume_for_each(NULL, collect_volume, names);
    for_names(names, flush_volume);
    for (bool any = true; any || bdev_abandoned();) {
        if (!any)
            task_sleep_us(20 * 1000); /* a device has not answered yet */
        struct json_object *pools = json_object_new_object(), *arrays = json_object_new_object(),
                           *devices = json_object_new_object();
        pool_for_each(collect_pool, pools);
        any = for_names(pools, end_pool);
        raid_for_each(collect_array, arrays);
        any |= for_names(arrays, end_array);
        journal_for_each(control.journal, "device/", collect_name, devices);
        any |= for_names(devices, end_device);
    }
    raid_shutdown_all(); /* those that could not be stopped */
}
