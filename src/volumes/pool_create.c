/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/size.h"
#include "block/event.h"
#include "probe/probe.h"
#include "volumes/private.h"

/* Making pools, adding devices to them, letting them go. */

enum { EXTENT_DEFAULT = 4 << 20, EXTENT_MIN = 4096 };

static int check_device(const struct pool_disk *disk, uint64_t extent, bool force, struct err *e)
{
    uint64_t need = LVM_DEFAULT_DATA_START + extent, size = bdev_size(disk->d.desc);
    char what[256], text[16];
    if (bdev_desc_claim(disk->d.desc) == CLAIM_READ)
        return err_set(e, ERR_INVALID, "devices", "device %s is read-only", disk->device);
    if (size < need || size < 2 * LVM_DEFAULT_DATA_START)
        return err_set(e, ERR_INVALID, "devices",
                       "device %s is too small: 1 MiB of metadata and at least one extent make %s",
                       disk->device, size_format(need, text));
    int found = probe_signature(disk->d.desc, what, sizeof what, e);
    if (found < 0)
        return err_prefix(e, "device %s", disk->device);
    if (found && !force)
        return err_set(e, ERR_NEEDS_FORCE, "devices",
                       "device %s carries %s: --force makes it part of the pool and erases that",
                       disk->device, what);
    return 0;
}

/* LVM refuses groups whose devices differ in the block size: a file system on a volume that grew
 * onto the larger one would not mount any more. */
static int check_blocks(const struct pool *pool, unsigned n, struct err *e)
{
    const struct pool_disk *first = NULL;
    for (unsigned i = 0; i < n; i++) {
        const struct pool_disk *d = pool->disk[i];
        if (!d)
            continue;
        if (!first)
            first = d;
        if (bdev_block_size(d->d.desc) != bdev_block_size(first->d.desc))
            return err_set(e, ERR_INVALID, "devices",
                           "device %s has blocks of %u bytes, device %s of %u: a pool's devices "
                           "must be alike",
                           d->device, bdev_block_size(d->d.desc), first->device,
                           bdev_block_size(first->d.desc));
    }
    return 0;
}

/* Opens devices into pool->disk[from..]; all or none. */
static int open_devices(struct pool *pool, unsigned from, const char *const *devices, unsigned n,
                        uint64_t extent, bool force, struct err *e)
{
    for (unsigned i = 0; i < n; i++) {
        for (unsigned k = 0; k < i; k++)
            if (!strcmp(devices[i], devices[k]))
                return err_set(e, ERR_INVALID, "devices", "device %s is named twice", devices[i]);
        struct pool_disk *d = pool_disk_open(devices[i], pool->name, e);
        pool->disk[from + i] = d;
        if (!d || check_device(d, extent, force, e))
            return -1;
    }
    return check_blocks(pool, from + n, e);
}

static void close_devices(struct pool *pool, unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        pool_disk_close(&pool->disk[from + i]);
}

static void take_path(const char *key, const char *value, void *arg)
{
    char **path = arg;
    if (!strcmp(key, "path") && !*path)
        *path = xstrdup(value);
}

/* Describes an opened device in the group and in its own label. Its path is a hint for people. */
static void describe(struct lvm_vg *vg, struct pool_disk *disk)
{
    struct lvm_label *l = &disk->d.label;
    uint64_t size = bdev_size(disk->d.desc), extent = (uint64_t)vg->extent_size * LVM_SECTOR;
    uint64_t extents = (size - LVM_DEFAULT_DATA_START) / extent;
    *l = (struct lvm_label){.sector = 1, .device_size = size, .ext_flags = LVM_PV_USED};
    lvm_id_random(l->pv_id);
    l->data_count = l->mda_count = 1;
    l->data[0] = (struct lvm_area){LVM_DEFAULT_DATA_START, 0};
    l->mda[0] =
        (struct lvm_area){LVM_DEFAULT_MDA_START, LVM_DEFAULT_DATA_START - LVM_DEFAULT_MDA_START};
    struct lvm_pv *pv = lvm_vg_add_pv(vg, l->pv_id);
    bdev_attrs(bdev_of(disk->d.desc), take_path, &pv->device);
    if (!pv->device)
        pv->device = xstrdup(disk->device);
    lvm_strs_add(&pv->status, "ALLOCATABLE");
    pv->dev_size = size / LVM_SECTOR;
    pv->pe_start = LVM_DEFAULT_DATA_START / LVM_SECTOR;
    pv->pe_count = extents > UINT32_MAX ? UINT32_MAX : (uint32_t)extents;
}

static int format_devices(struct pool *pool, unsigned from, unsigned n, struct err *e)
{
    for (unsigned i = from; i < from + n; i++)
        if (lvm_disk_format(&pool->disk[i]->d, e))
            return -1;
    return 0;
}

/* After a failed verb: devices that got our label must not look like parts of a pool. */
static void wipe_devices(struct pool *pool, unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++)
        lvm_disk_wipe(&pool->disk[i]->d, NULL);
}

static struct lvm_vg *new_group(const char *name, uint64_t extent)
{
    struct lvm_vg *vg = xcalloc(1, sizeof *vg);
    vg->name = xstrdup(name);
    vg->extra = xstrdup("");
    lvm_id_random(vg->id);
    vg->extent_size = (uint32_t)(extent / LVM_SECTOR);
    lvm_strs_add(&vg->status, "RESIZEABLE");
    lvm_strs_add(&vg->status, "READ");
    lvm_strs_add(&vg->status, "WRITE");
    lvm_strs_add(&vg->flags, "NOAUTOACTIVATE");
    lvm_strs_add(&vg->tags, "orion");
    return vg;
}

static int create(struct pool *pool, const struct pool_create *c, uint64_t extent, struct err *e)
{
    if (open_devices(pool, 0, c->devices, c->device_count, extent, c->force, e))
        return -1;
    pool->vg = new_group(c->name, extent);
    struct lvm_vg *next = new_group(c->name, extent);
    memcpy(next->id, pool->vg->id, sizeof next->id);
    for (unsigned i = 0; i < c->device_count; i++)
        describe(next, pool->disk[i]);
    if (!format_devices(pool, 0, c->device_count, e)) {
        char description[64];
        snprintf(description, sizeof description, "orionctl pool create %s", c->name);
        if (!pool_commit(pool, &next, description, e))
            return 0;
    }
    lvm_vg_free(&next);
    wipe_devices(pool, 0, c->device_count);
    return -1;
}

int pool_create(const struct pool_create *c, struct err *e)
{
    uint64_t extent = c->extent_size ? c->extent_size : EXTENT_DEFAULT;
    if (!bdev_name_valid(c->name))
        return err_set(e, ERR_INVALID, "name",
                       "\"%s\" is not a name: expected 1 to 32 of A-Z a-z 0-9 _ . -", c->name);
    if (!c->device_count || c->device_count > POOL_DEVICES_MAX)
        return err_set(e, ERR_INVALID, "devices", "%u devices were given, expected 1 to %d",
                       c->device_count, POOL_DEVICES_MAX);
    if (extent < EXTENT_MIN || extent & (extent - 1) || extent > 1ull << 32)
        return err_set(e, ERR_INVALID, "extent_size",
                       "the extent size must be a power of two from 4 KiB to 4 GiB");
    pools_lock();
    if (bdev_name_reserve(c->name, "pool", e)) {
        pools_unlock();
        return -1;
    }
    struct pool *pool = xcalloc(1, sizeof *pool);
    snprintf(pool->name, sizeof pool->name, "%s", c->name);
    list_init(&pool->volumes);
    list_init(&pool->link);
    int rc = create(pool, c, extent, e);
    if (rc)
        pool_drop(&pool);
    else
        pool_add(pool);
    pools_unlock();
    return rc;
}

/* ---- extend */
static int extend(struct pool *pool, const char *const *devices, unsigned n, bool force,
                  struct err *e)
{
    unsigned from = pool->vg->pv_count;
    if (pool_writable(pool, e))
        return -1;
    if (!n || from + n > POOL_DEVICES_MAX || (pool->vg->max_pv && from + n > pool->vg->max_pv))
        return err_set(e, ERR_INVALID, "devices",
                       "pool %s has %u devices, %u more were given, and %u is the limit",
                       pool->name, from, n,
                       pool->vg->max_pv ? pool->vg->max_pv : (unsigned)POOL_DEVICES_MAX);
    if (!lvm_strs_has(&pool->vg->status, "RESIZEABLE"))
        return err_set(e, ERR_UNSUPPORTED, "pool", "pool %s is not resizeable (vgchange -x y)",
                       pool->name);
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    int rc = open_devices(pool, from, devices, n, pool_extent(pool), force, e);
    if (!rc) {
        for (unsigned i = 0; i < n; i++)
            describe(next, pool->disk[from + i]);
        char description[64];
        snprintf(description, sizeof description, "orionctl pool extend %s", pool->name);
        rc = format_devices(pool, from, n, e);
        if (!rc)
            rc = pool_commit(pool, &next, description, e);
        if (rc)
            wipe_devices(pool, from, n);
        else
            volume_refresh(pool);
    }
    if (rc)
        close_devices(pool, from, n);
    lvm_vg_free(&next);
    return rc;
}

int pool_extend(const char *name, const char *const *devices, unsigned n, bool force, struct err *e)
{
    struct pool *pool;
    pools_lock();
    int rc = pool_find_or(name, &pool, e);
    if (!rc)
        rc = extend(pool, devices, n, force, e);
    pools_unlock();
    return rc;
}

/* ---- stop and delete */
static int stop_volumes(struct pool *pool, struct err *e)
{
    struct volume *v, *tmp;
    list_for_each (v, &pool->volumes, link) {
        char users[200];
        if (bdev_users(&v->bdev, users, sizeof users))
            return err_set(e, ERR_IN_USE, "pool", "volume %s is in use by %s", v->bdev.name, users);
    }
    list_for_each_safe (v, tmp, &pool->volumes, link)
        volume_stop(v);
    return 0;
}

/* A device that cannot be flushed is let go all the same: nothing here can make it better. Whoever
 * wrote without flushing is told that it may be lost. */
static void flush_disks(const struct pool *pool)
{
    char object[96];
    snprintf(object, sizeof object, "pool %s", pool->name);
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++)
        if (pool->disk[i] && bdev_flush(pool->disk[i]->d.desc))
            event_raise(object, "flush-failed",
                        "device %s could not be flushed when pool %s was stopped",
                        pool->disk[i]->device, pool->name);
}

int pool_stop(const char *name, struct err *e)
{
    struct pool *pool;
    pools_lock();
    int rc = pool_find_or(name, &pool, e);
    if (!rc)
        rc = stop_volumes(pool, e);
    if (!rc) {
        flush_disks(pool);
        pool_drop(&pool);
    }
    pools_unlock();
    return rc;
}

static int delete (struct pool *pool, struct err *e)
{
    int rc = 0;
    if (pool_writable(pool, e))
        return -1;
    if (pool->vg->lv_count)
        return err_set(e, ERR_IN_USE, "pool",
                       "pool %s has %u volumes, such as %s: delete them first", pool->name,
                       pool->vg->lv_count, pool->vg->lv[0].name);
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++)
        if (pool->disk[i] && lvm_disk_wipe(&pool->disk[i]->d, rc ? NULL : e))
            rc = -1;
    if (rc) /* it stays, to be deleted again */
        return err_prefix(e, "pool %s is not erased from all its devices", pool->name);
    pool_drop(&pool);
    return 0;
}

int pool_delete(const char *name, struct err *e)
{
    struct pool *pool;
    pools_lock();
    int rc = pool_find_or(name, &pool, e);
    if (!rc)
        rc = delete (pool, e);
    pools_unlock();
    return rc;
}
