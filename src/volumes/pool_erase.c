/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "volumes/private.h"

/* Whose PV it is: by the UUID of the group, or by its name; a PV of no group has none of either. */
struct owner {
    const struct uuid *uuid;
    const char *name;
};

static bool is_owner(const struct owner *o, const struct lvm_vg *vg)
{
    struct uuid own = lvm_id_uuid(vg->id);
    if (vg->lv_count) /* neither a creation nor a deletion leaves volumes: this is something else */
        return false;
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
    char(*names)[BDEV_NAME_MAX + 1];
    struct owner owner = {.uuid = uuid};
    int rc = 0;
    pools_lock();
    unsigned n = pool_free_devices(&names);
    for (unsigned i = 0; i < n; i++)
        if (erase(names[i], &owner, rc ? NULL : e))
            rc = -1;
    free(names);
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
