/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/shows.h"
#include "control/start.h"
#include "volumes/volumes.h"

/* Volumes: nothing of them is saved here. Each of their verbs is one commit of the VG's text, which
 * happens whole or not at all, so that they need no intent. */

static void full_name(const struct schema_match *m, char out[BDEV_NAME_MAX + 1])
{
    snprintf(out, BDEV_NAME_MAX + 1, "%.32s/%.32s", schema_param(m, "pool"),
             schema_param(m, "volume"));
}

static struct json_object *show_volume(const struct volume_info *info)
{
    struct json_object *o = json_object_new_object();
    autofree char *pool = xasprintf("%.*s", (int)strcspn(info->name, "/"), info->name);
    put_str(o, "name", info->name);
    put_str(o, "pool", pool);
    put_str(o, "state", info->active ? "active" : "inactive");
    put_str(o, "reason", info->active ? "" : info->why);
    put_str(o, "kind", info->kind);
    put_u64(o, "size", info->size);
    put_str(o, "uuid", info->lv_uuid);
    json_object_object_add(o, "users", users_json(info->name));
    return o;
}

SHOW(volume)
{
    char name[BDEV_NAME_MAX + 1];
    struct volume_info info;
    if (strlen(schema_param(m, "pool")) > 32 || strlen(schema_param(m, "volume")) > 32)
        return NULL;
    full_name(m, name);
    return volume_get(name, &info) ? show_volume(&info) : NULL;
}

static void list_one(const struct volume_info *info, void *arg)
{
    json_object_array_add(arg, show_volume(info));
}

LIST(volume)
{
    const char *pool = schema_param(m, "pool");
    if (!pool && opts_find(o->table, "pool"))
        pool = opts_str(o, "pool");
    if (pool && !state_get("pool", pool))
        return err_set(e, ERR_NOT_FOUND, "pool", "there is no pool %.64s", pool);
    volume_for_each(pool, list_one, items);
    return 0;
}

int need_pool(const struct schema_match *m, struct err *e)
{
    const char *pool = schema_param(m, "pool");
    if (state_get("pool", pool))
        return 0;
    return err_set(e, ERR_NOT_FOUND, "pool", "there is no pool %.64s", pool);
}

static int round_up(const char *pool, uint64_t *size, struct err *e)
{
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    if (!pool_get(pool, info))
        return err_set(e, ERR_UNSUPPORTED, "pool", "pool %s is inactive: %s", pool,
                       reason_get("pool", pool));
    uint64_t unit = info->extent_size;
    if (*size > UINT64_MAX - unit)
        return err_set(e, ERR_INVALID, "size", "size is too large");
    *size = (*size + unit - 1) / unit * unit;
    return 0;
}

static int volume_create_verb(struct verb_run *v, struct err *e)
{
    const char *pool = verb_param(v, "pool"), *volume = verb_param(v, "volume");
    uint64_t size = opts_u64(v->opts, "size");
    if (!bdev_name_valid(volume))
        return err_set(e, ERR_INVALID, "name",
                       "volume is '%.40s'; expected a letter or digit, then letters, digits, '_', "
                       "'.', '-', at most 32 in all",
                       volume);
    if (round_up(pool, &size, e))
        return -1;
    if (!v->existing)
        return volume_create(pool, volume, size, e);
    v->changed = false;
    uint64_t have = get_u64(v->existing, "size");
    if (have != size)
        return err_set(e, ERR_EXISTS, "size",
                       "volume %s/%s exists with size %" PRIu64 ", not %" PRIu64, pool, volume,
                       have, size);
    return 0;
}

static int volume_resize_verb(struct verb_run *v, struct err *e)
{
    const char *pool = verb_param(v, "pool"), *volume = verb_param(v, "volume");
    uint64_t size = opts_u64(v->opts, "size"), have = get_u64(v->existing, "size");
    if (!opts_is_set(v->opts, "size"))
        size = have; /* a patch need not name it */
    if (round_up(pool, &size, e))
        return -1;
    if (size == have) {
        v->changed = false;
        return 0;
    }
    if (size < have && need_yes(v, "a smaller size cuts data off", e))
        return -1;
    if (volume_resize(pool, volume, size, e))
        return -1;
    luns_note_size(get_str(v->existing, "name"));
    return 0;
}

static int volume_delete_verb(struct verb_run *v, struct err *e)
{
    const char *pool = verb_param(v, "pool"), *volume = verb_param(v, "volume");
    char name[BDEV_NAME_MAX + 1], users[300];
    full_name(v->match, name);
    if (device_in_use(name, users, sizeof users))
        return err_set(e, ERR_IN_USE, "", "volume %s is in use by %s", name, users);
    if (need_yes(v, "the volume's data is lost", e))
        return -1;
    return volume_delete(pool, volume, e);
}

const struct verb_entry volume_verbs[] = {
    {"volume", "create", volume_create_verb},
    {"volume", "resize", volume_resize_verb},
    {"volume", "patch", volume_resize_verb},
    {"volume", "delete", volume_delete_verb},
    {NULL, NULL, NULL},
};
