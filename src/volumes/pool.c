/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/size.h"
#include "block/event.h"
#include "volumes/alloc.h"
#include "volumes/private.h"

static struct list pools = LIST_INIT(pools);
static struct tlock lock;
static bool lock_ready;

void pools_lock(void)
{
    if (!lock_ready)
        tlock_init(&lock);
    lock_ready = true;
    tlock_lock(&lock);
}

void pools_unlock(void)
{
    tlock_unlock(&lock);
}

struct pool *pool_find(const char *name)
{
    struct pool *p;
    list_for_each (p, &pools, link) {
        if (!strcmp(p->name, name))
            return p;
    }
    return NULL;
}

struct pool *pool_find_id(const char *id)
{
    struct pool *p;
    list_for_each (p, &pools, link) {
        if (!strcmp(p->vg->id, id))
            return p;
    }
    return NULL;
}

int pool_find_or(const char *name, struct pool **pool_r, struct err *e)
{
    *pool_r = pool_find(name);
    return *pool_r ? 0 : err_set(e, ERR_NOT_FOUND, "pool", "there is no pool %s", name);
}

int pool_writable(const struct pool *pool, struct err *e)
{
    if (!*pool->why)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "pool", "pool %s cannot be changed: %s", pool->name,
                   pool->why);
}

uint64_t pool_extent(const struct pool *pool)
{
    return (uint64_t)pool->vg->extent_size * LVM_SECTOR;
}

void pool_add(struct pool *pool)
{
    list_add_tail(&pools, &pool->link);
}

void pool_drop(struct pool **pp)
{
    struct pool *pool = *pp;
    *pp = NULL;
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++)
        pool_disk_close(&pool->disk[i]);
    list_del(&pool->link);
    bdev_name_release(pool->name);
    lvm_vg_free(&pool->vg);
    lvm_proof_free(&pool->proof);
    free(pool);
}

static unsigned areas(const struct pool_disk *disk)
{
    unsigned n = 0;
    for (unsigned m = 0; disk && m < disk->d.label.mda_count; m++)
        n += disk->d.mda_ok[m];
    return n;
}

static bool has_area(const struct pool *pool)
{
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++)
        if (areas(pool->disk[i]))
            return true;
    return false;
}

static void tell_lost_areas(const struct pool *pool, const unsigned before[POOL_DEVICES_MAX])
{
    char object[96];
    snprintf(object, sizeof object, "pool %s", pool->name);
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++)
        if (areas(pool->disk[i]) < before[i])
            event_raise(object, "metadata-failed",
                        "device %s of pool %s did not take new metadata: its copy is out of use",
                        pool->disk[i]->device, pool->name);
}

struct text_job {
    const struct lvm_vg *vg;
    const char *description;
    struct lvm_proof **proof;
    char *text;
    size_t size;
    struct err *e;
};

static void build_text(void *arg)
{
    struct text_job *j = arg;
    j->text = lvm_text_rewrite(j->vg, j->description, j->proof, &j->size, j->e);
}

int pool_commit(struct pool *pool, struct lvm_vg **next, const char *description, struct err *e)
{
    struct lvm_disk *disks[POOL_DEVICES_MAX] = {0};
    unsigned before[POOL_DEVICES_MAX];
    struct lvm_vg *vg = *next;
    *next = NULL;
    vg->seqno = pool->vg->seqno + 1;
    /* A thousand volumes are some ms of work: not on main. */
    struct text_job job = {.vg = vg, .description = description, .proof = &pool->proof, .e = e};
    task_help(build_text, &job);
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++) {
        disks[i] = pool->disk[i] ? &pool->disk[i]->d : NULL;
        before[i] = areas(pool->disk[i]);
    }
    int rc = job.text ? lvm_disk_commit(disks, POOL_DEVICES_MAX, job.text, job.size, e) : -1;
    free(job.text);
    tell_lost_areas(pool, before);
    if (rc) {
        lvm_vg_free(&vg);
        if (!has_area(pool))
            snprintf(pool->why, sizeof pool->why,
                     "its metadata could not be written; stop it and import it again");
        return -1;
    }
    lvm_vg_free(&pool->vg);
    pool->vg = vg;
    return 0;
}

/* ---- devices that go away */

/* What stands on the device goes with it; the pool stays, to be stopped or looked at. */
static void lose_device(struct pool *pool, unsigned i)
{
    struct pool_disk *disk = pool->disk[i];
    snprintf(pool->why, sizeof pool->why, "its device %s is gone", disk->device);
    char object[96];
    snprintf(object, sizeof object, "pool %s", pool->name);
    autofree char *device = xstrdup(disk->device);
    for (;;) {
        struct volume *v, *on = NULL;
        list_for_each (v, &pool->volumes, link) {
            if (volume_stands_on(v, disk->d.desc))
                on = v;
        }
        if (!on)
            break;
        volume_stop(on);
    }
    pool_disk_close(&pool->disk[i]);
    /* Now: who hears it looks at the pool's state. */
    event_raise(object, "device-gone", "device %s of pool %s is gone", device, pool->name);
}

static bool lose_one(void)
{
    struct pool *p;
    list_for_each (p, &pools, link) {
        for (unsigned i = 0; i < POOL_DEVICES_MAX; i++) {
            if (p->disk[i] && p->disk[i]->removing) {
                lose_device(p, i);
                return true;
            }
        }
    }
    return false;
}

/* Looks at all: the disk that the event was about may be closed by now, and its pool was perhaps
 * not in the list yet when the event came. */
static void check_removed(void *arg)
{
    (void)arg;
    pools_lock();
    while (lose_one())
        continue;
    pools_unlock();
}

/* ---- devices that grow */

static void tell_gain(struct pool *pool, unsigned i)
{
    char object[96], gain[16];
    pool->disk[i]->resized = false;
    if (!pool_gain(pool, i))
        return;
    snprintf(object, sizeof object, "pool %s", pool->name);
    event_raise(object, "device-grown", "device %s has gained %s: pool grow takes it",
                pool->disk[i]->device, size_format(pool_gain(pool, i), gain));
}

static void check_resized(void *arg)
{
    struct pool *p;
    (void)arg;
    pools_lock();
    list_for_each (p, &pools, link)
        for (unsigned i = 0; i < p->vg->pv_count; i++)
            if (p->disk[i] && p->disk[i]->resized)
                tell_gain(p, i);
    pools_unlock();
}

static void on_event(struct bdev_desc *desc, enum bdev_event event, void *arg)
{
    struct pool_disk *disk = arg; /* lives as long as desc is open */
    (void)desc;
    if (event == BDEV_EVENT_REMOVE) {
        disk->removing = true;
        task_start(reactor_main(), "pool device gone", check_removed, NULL);
    } else if (event == BDEV_EVENT_RESIZE) {
        disk->resized = true;
        task_start(reactor_main(), "pool device resized", check_resized, NULL);
    }
}

/* One that stands on a volume of the pool would wait for itself. */
static int check_stack(const char *device, const struct pool *pool, struct err *e)
{
    const struct volume *v;
    if (!pool)
        return 0;
    list_for_each (v, &pool->volumes, link)
        if (bdev_stands_on(device, &v->bdev))
            return err_set(e, ERR_INVALID, "devices", "%s stands on pool %s itself", device,
                           pool->name);
    return 0;
}

struct pool_disk *pool_disk_open(const char *device, const char *pool, struct err *e)
{
    struct bdev_info info;
    if (!bdev_name_info(device, &info)) {
        err_set(e, ERR_NOT_FOUND, "devices", "there is no device %s", device);
        return NULL;
    }
    if (check_stack(device, pool_find(pool), e))
        return NULL;
    struct pool_disk *disk = xcalloc(1, sizeof *disk);
    struct bdev_user user = {.event = on_event, .arg = disk};
    snprintf(user.label, sizeof user.label, "pool %s", pool);
    snprintf(disk->device, sizeof disk->device, "%s", device);
    disk->d.device = disk->device;
    disk->d.desc = bdev_open(device, info.read_only ? CLAIM_READ : CLAIM_EXCLUSIVE, &user, e);
    if (!disk->d.desc) {
        free(disk);
        return NULL;
    }
    return disk;
}

void pool_disk_close(struct pool_disk **disk)
{
    if (!*disk)
        return;
    bdev_drain_close(&(*disk)->d.desc);
    free(*disk);
    *disk = NULL;
}

/* ---- what stands here */
const char *pool_state_name(enum pool_state s)
{
    static const char *const names[] = {"active", "read-only", "partial"};
    return names[s];
}

static void fill_device(const struct pool *pool, unsigned i, struct pool_device_info *d)
{
    const struct lvm_pv *pv = &pool->vg->pv[i];
    if (pool->disk[i])
        snprintf(d->device, sizeof d->device, "%s", pool->disk[i]->device);
    lvm_id_format(pv->id, d->pv_uuid);
    d->size = pv->pe_count * pool_extent(pool);
    d->free = alloc_free(pool->vg, i) * pool_extent(pool);
    d->gain = pool_gain(pool, i);
}

static void fill_pool(const struct pool *pool, struct pool_info *info)
{
    const struct lvm_vg *vg = pool->vg;
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "%s", pool->name);
    lvm_id_format(vg->id, info->vg_uuid);
    info->uuid = lvm_id_uuid(vg->id);
    info->state = *pool->why ? POOL_READ_ONLY : POOL_ACTIVE;
    info->seqno = vg->seqno;
    info->extent_size = pool_extent(pool);
    info->device_count = vg->pv_count;
    for (unsigned i = 0; i < vg->lv_count; i++)
        info->volume_count += lvm_lv_visible(&vg->lv[i]);
    for (unsigned i = 0; i < vg->pv_count; i++) {
        fill_device(pool, i, &info->device[i]);
        info->size += info->device[i].size;
        info->free += info->device[i].free;
        if (!pool->disk[i])
            info->state = POOL_PARTIAL;
    }
}

bool pool_get(const char *name, struct pool_info *info_r)
{
    struct pool *p = pool_find(name);
    if (p)
        fill_pool(p, info_r);
    return p;
}

void pool_for_each(void (*fn)(const struct pool_info *info, void *arg), void *arg)
{
    struct pool *p, *tmp;
    autofree struct pool_info *info = xcalloc(1, sizeof *info);
    list_for_each_safe (p, tmp, &pools, link) {
        fill_pool(p, info);
        fn(info, arg);
    }
}

static void fill_volume(const struct pool *pool, const struct lvm_lv *lv, struct volume_info *info)
{
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "%s/%.32s", pool->name, lv->name);
    lvm_id_format(lv->id, info->lv_uuid);
    info->uuid = lvm_id_uuid(lv->id);
    info->size = lv->extents * pool_extent(pool);
    snprintf(info->kind, sizeof info->kind, "%s", volume_kind(lv));
    info->active = volume_find(pool, lv->name);
    if (!info->active && !volume_inactive(pool, lv, info->why, sizeof info->why))
        snprintf(info->why, sizeof info->why, "its device could not be made; see the log");
}

bool volume_get(const char *name, struct volume_info *info_r)
{
    const char *slash = strchr(name, '/');
    char pool_name[POOL_NAME_MAX + 1];
    if (!slash || slash - name > POOL_NAME_MAX)
        return false;
    snprintf(pool_name, sizeof pool_name, "%.*s", (int)(slash - name), name);
    struct pool *pool = pool_find(pool_name);
    struct lvm_lv *lv = pool ? lvm_vg_lv(pool->vg, slash + 1) : NULL;
    if (!lv || !lvm_lv_visible(lv))
        return false;
    fill_volume(pool, lv, info_r);
    return true;
}

void volume_for_each(const char *pool, void (*fn)(const struct volume_info *info, void *arg),
                     void *arg)
{
    struct pool *p, *tmp;
    list_for_each_safe (p, tmp, &pools, link) {
        if (pool && strcmp(pool, p->name))
            continue;
        for (unsigned i = 0; i < p->vg->lv_count; i++) {
            struct volume_info info;
            if (!lvm_lv_visible(&p->vg->lv[i]))
                continue;
            fill_volume(p, &p->vg->lv[i], &info);
            fn(&info, arg);
        }
    }
}
