/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/array_log.h"

#include <string.h>

#include "base/mem.h"
#include "raid/raid.h"

const char *array_log_device(struct json_object *record)
{
    const char *name = get_str(record, "log_device");
    return *name ? name : NULL;
}

void array_log_copy(struct json_object *to, struct json_object *from)
{
    if (get_bool(from, "no_log"))
        put_bool(to, "no_log", true);
    if (array_log_device(from))
        put_str(to, "log_device", array_log_device(from));
}

static const char *device_of(const struct opts *o)
{
    const char *name = opts_is_set(o, "log_device") ? opts_str(o, "log_device") : "";
    return *name ? name : NULL;
}

int array_log_check(const struct opts *o, struct err *e)
{
    const char *device = device_of(o);
    char users[300];
    if (!device)
        return 0;
    if (opts_bool(o, "no_log"))
        return err_set(e, ERR_INVALID, "log_device", "a log device, and no log");
    if (!bdev_find(device))
        return err_set(e, ERR_NOT_FOUND, "log_device", "there is no device %s", device);
    if (device_in_use(device, users, sizeof users))
        return err_set(e, ERR_IN_USE, "log_device", "%s is in use by %s", device, users);
    return 0;
}

static int save(const char *name, bool none, const char *device, struct err *e)
{
    struct json_object *record = NULL;
    json_object_deep_copy(state_get("array", name), &record, NULL);
    json_object_object_del(record, "no_log");
    json_object_object_del(record, "log_device");
    if (none)
        put_bool(record, "no_log", true);
    if (device)
        put_str(record, "log_device", device);
    int rc = state_put("array", name, record, e);
    json_object_put(record);
    return rc;
}

int array_log_set(struct verb_run *v, struct err *e)
{
    const char *name = verb_param(v, "name"), *device = device_of(v->opts);
    autofree struct raid_info *info = xcalloc(1, sizeof *info);
    bool none = opts_bool(v->opts, "no_log"), on = false;
    if (!opts_is_set(v->opts, "log_device") && !opts_is_set(v->opts, "no_log"))
        return 0;
    if (!raid_get(name, info))
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is inactive: %s", name,
                       reason_get("array", name));
    on = !strcmp(info->log, "on");
    if (device && !none && on && !strcmp(device, info->log_device))
        return 0;
    if (!device && (none ? get_bool(state_get("array", name), "no_log") : on && !*info->log_device))
        return 0;
    if (array_log_check(v->opts, e) || raid_set_log(name, none, device, verb_flag(v, "force"), e))
        return -1;
    v->changed = true;
    return save(name, none, device, e);
}
