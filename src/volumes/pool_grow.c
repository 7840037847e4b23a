/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pool takes what its devices have gained, as LVM's pvresize does: one commit of a text with the
 * new sizes, which happens whole or not at all, then the sizes in the devices' labels. Nobody reads
 * those of a device that is in a group (LVM leaves them as they were made), so a power cut before
 * them costs nothing, and the next growth writes them.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/size.h"
#include "block/event.h"
#include "volumes/private.h"

/* Where a metadata area behind the data ends; 0: there is none. pvresize moves it, we do not. */
static uint64_t area_behind(const struct pool *pool, unsigned i)
{
    const struct lvm_label *l = &pool->disk[i]->d.label;
    uint64_t end = 0;
    for (unsigned m = 0; m < l->mda_count; m++)
        if (l->mda[m].offset >= pool->vg->pv[i].pe_start * LVM_SECTOR)
            end = l->mda[m].offset + l->mda[m].size;
    return end;
}

/* How many extents its size has room for. */
static uint32_t room(const struct pool *pool, unsigned i)
{
    uint64_t size = bdev_size(pool->disk[i]->d.desc);
    uint64_t start = pool->vg->pv[i].pe_start * LVM_SECTOR;
    uint64_t extents = size > start ? (size - start) / pool_extent(pool) : 0;
    return extents > UINT32_MAX ? UINT32_MAX : (uint32_t)extents;
}

uint64_t pool_gain(const struct pool *pool, unsigned i)
{
    if (!pool->disk[i] || area_behind(pool, i))
        return 0;
    uint32_t has = pool->vg->pv[i].pe_count, could = room(pool, i);
    return could > has ? (could - has) * pool_extent(pool) : 0;
}

/* Extents decide: LVM's pvresize does not always write the whole size of a device (2.03.16). */
static int check_device(const struct pool *pool, unsigned i, struct err *e)
{
    const struct lvm_pv *pv = &pool->vg->pv[i];
    uint64_t size = bdev_size(pool->disk[i]->d.desc), was = pv->dev_size * LVM_SECTOR;
    uint64_t behind = area_behind(pool, i);
    if (size < was || room(pool, i) < pv->pe_count)
        return err_set(e, ERR_INVALID, "pool",
                       "device %s has %llu bytes, and had %llu: a pool does not shrink",
                       pool->disk[i]->device, (unsigned long long)size, (unsigned long long)was);
    if (behind && size >= behind + pool_extent(pool))
        return err_set(e, ERR_UNSUPPORTED, "pool",
                       "device %s has a metadata area behind its data: LVM's pvresize moves it",
                       pool->disk[i]->device);
    return 0;
}

static int commit(struct pool *pool, struct err *e)
{
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    char description[64];
    for (unsigned i = 0; i < next->pv_count; i++) {
        if (!pool_gain(pool, i))
            continue;
        next->pv[i].dev_size = bdev_size(pool->disk[i]->d.desc) / LVM_SECTOR;
        next->pv[i].pe_count = room(pool, i);
    }
    snprintf(description, sizeof description, "orionctl pool grow %s", pool->name);
    return pool_commit(pool, &next, description, e);
}

/* True when one was written. */
static bool write_labels(struct pool *pool)
{
    bool written = false;
    for (unsigned i = 0; i < pool->vg->pv_count; i++) {
        struct lvm_disk *d = &pool->disk[i]->d;
        struct err why;
        if (d->label.device_size == bdev_size(d->desc))
            continue;
        if (lvm_disk_resize(d, &why))
            log_warn("volumes", "the label keeps the former size: %s", why.msg);
        else
            written = true;
    }
    return written;
}

static int grow(struct pool *pool, bool *changed_r, struct err *e)
{
    char object[96], gained[16];
    uint64_t gain = 0;
    if (pool_writable(pool, e))
        return -1;
    for (unsigned i = 0; i < pool->vg->pv_count; i++) {
        if (check_device(pool, i, e))
            return -1;
        gain += pool_gain(pool, i);
    }
    if (gain && commit(pool, e))
        return -1;
    *changed_r = write_labels(pool) || gain;
    if (!gain)
        return 0;
    snprintf(object, sizeof object, "pool %s", pool->name);
    event_raise(object, "pool-grown", "its devices had gained %s", size_format(gain, gained));
    return 0;
}

int pool_grow(const char *name, bool *changed_r, struct err *e)
{
    struct pool *pool;
    *changed_r = false;
    pools_lock();
    int rc = pool_find_or(name, &pool, e);
    if (!rc)
        rc = grow(pool, changed_r, e);
    pools_unlock();
    return rc;
}
