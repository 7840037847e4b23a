/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "volumes/private.h"

struct names {
    char (*v)[BDEV_NAME_MAX + 1];
    unsigned n;
};

static void note_free(struct bdev *bdev, void *arg)
{
    struct names *names = arg;
    struct bdev_info info;
    char users[2];
    bdev_info_of(bdev, &info);
    if (!strcmp(info.type, "volume") || bdev_users(bdev, users, sizeof users))
        return;
    names->v = xrealloc(names->v, (names->n + 1) * sizeof *names->v);
    snprintf(names->v[names->n++], sizeof *names->v, "%s", bdev_name(bdev));
}

/* Whose PV it is: by the UUID of the group, or by its name; a PV of no group has none of either. */
struct owner {
    const struct uuid *uuid;
    const char *name;
};

static bool is_owner(const struct owner *o, const struct lvm_vg *vg)
{
    struct uuid own = lvm_id_uuid(vg->id);
    return o->uuid ? uuid_equal(&own, o->uuid) : !strcmp(vg->name, o->name);
}

static bool belongs(struct lvm_disk *d, const struct owner *o)
{
    struct err e;
    bool hit = false, any = false;
    if (lvm_disk_open(d, &e))
        return false;
    for (unsigned i = 0; i < d->label.mda_count && !hit; i++) {
        size_t size;
        autofree char *text = d->mda_ok[i] ? lvm_disk_text(d, i, &size, &e) : NULL;
        struct lvm_vg *vg = text ? lvm_text_parse(text, size, &e) : NULL;
        any = any || vg || e.code != ERR_NOT_FOUND;
        hit = vg && is_owner(o, vg);
        lvm_vg_free(&vg);
    }
    return hit || (!o->uuid && !any);
}

static int erase(const char *device, const struct owner *o, struct err *e)
{
    struct err ignored;
    struct pool_disk *disk = pool_disk_open(device, "erased", &ignored);
    int rc = disk && belongs(&disk->d, o) ? lvm_disk_wipe(&disk->d, e) : 0;
    if (disk)
        pool_disk_close(&disk);
    return rc;
}

int pool_erase(const struct uuid *uuid, struct err *e)
{
    struct names names = {0};
    struct owner owner = {.uuid = uuid};
    int rc = 0;
    pools_lock();
    bdev_for_each(note_free, &names);
    for (unsigned i = 0; i < names.n; i++)
        if (erase(names.v[i], &owner, rc ? NULL : e))
            rc = -1;
    free(names.v);
    pools_unlock();
    return rc;
}

int pool_erase_device(const char *device, const char *name, struct err *e)
{
    struct owner owner = {.name = name};
    pools_lock();
    int rc = erase(device, &owner, e);
    pools_unlock();
    return rc;
}
