/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "volumes/alloc.h"
#include "volumes/private.h"

/* Making, resizing and deleting volumes. Each verb changes a copy of the group, commits it, and
 * then the devices; what gets smaller is taken from users before the commit, what gets larger is
 * given after it. */

enum { ERASE = 1 << 20 }; /* at both ends of new space, where it cannot all be zeroed at once */

static void usable_pvs(const struct pool *pool, bool usable[POOL_DEVICES_MAX])
{
    for (unsigned i = 0; i < pool->vg->pv_count; i++)
        usable[i] = pool->disk[i] && lvm_strs_has(&pool->vg->pv[i].status, "ALLOCATABLE");
}

/* ---- what new space holds */
static int zero(struct bdev_desc *desc, uint64_t offset, uint64_t length, unsigned flags)
{
    struct bio bio;
    bio_init(&bio, desc, BIO_WRITE_ZEROES, offset, length, NULL, NULL);
    bio.flags = (uint8_t)flags;
    return bio_wait(&bio);
}

static int zero_ends(const struct pool *pool, const struct lvm_piece *piece, bool first, bool last)
{
    uint64_t extent = pool_extent(pool), length = piece->len * extent;
    uint64_t at = pool->vg->pv[piece->pv].pe_start * LVM_SECTOR + piece->pe * extent;
    uint64_t erase = length < ERASE ? length : ERASE;
    struct bdev_desc *desc = pool->disk[piece->pv]->d.desc;
    int rc = first ? zero(desc, at, erase, 0) : 0;
    if (!rc && last)
        rc = zero(desc, at + length - erase, erase, 0);
    return rc;
}

/*
 * Space that was used before shows what stood there. Where the devices zero fast (files, thin and
 * flash devices that unmap to zeroes) all of it is zeroed; elsewhere the first and the last MiB, so
 * that no old file system, partition table or RAID member is taken for the new volume's own. The
 * space is in no volume yet, so a failure leaves nothing behind. 1: all is zero; 0: the ends are.
 */
static int clean_space(const struct pool *pool, const struct lvm_piece *piece, unsigned n,
                       struct err *e)
{
    bool all = true;
    int rc = 0;
    uint64_t extent = pool_extent(pool);
    for (unsigned i = 0; i < n && !rc; i++) {
        uint64_t at = pool->vg->pv[piece[i].pv].pe_start * LVM_SECTOR + piece[i].pe * extent;
        rc = zero(pool->disk[piece[i].pv]->d.desc, at, piece[i].len * extent, BIO_FAST_ZERO);
        if (rc == -EOPNOTSUPP) {
            all = false;
            rc = zero_ends(pool, &piece[i], i == 0, i == n - 1);
        }
    }
    if (rc)
        return err_set(e, ERR_IO, "", "pool %s: new space cannot be erased: %s", pool->name,
                       strerror(-rc));
    return all;
}

/* ---- create */
static int check_new(const struct pool *pool, const char *volume, struct err *e)
{
    const char *why;
    if (!bdev_name_valid(volume))
        return err_set(e, ERR_INVALID, "name",
                       "\"%s\" is not a name: expected 1 to 32 of A-Z a-z 0-9 _ . -", volume);
    if (!lvm_lv_name_ok(volume, &why))
        return err_set(e, ERR_INVALID, "name", "a volume cannot be named %s: %s", volume, why);
    if (lvm_vg_lv(pool->vg, volume))
        return err_set(e, ERR_EXISTS, "name", "pool %s has a volume %s already", pool->name,
                       volume);
    /* A PV's key in the text ("pv0") and a volume's name are told apart by name only. */
    for (unsigned i = 0; i < pool->vg->pv_count; i++)
        if (!strcmp(pool->vg->pv[i].key, volume))
            return err_set(e, ERR_INVALID, "name", "the name %s is one of the metadata's own",
                           volume);
    if (pool->vg->max_lv && pool->vg->lv_count >= pool->vg->max_lv)
        return err_set(e, ERR_NO_SPACE, "name", "pool %s is limited to %u volumes", pool->name,
                       pool->vg->max_lv);
    return 0;
}

static int extents_of(const struct pool *pool, uint64_t size, uint32_t *extents_r, struct err *e)
{
    uint64_t extent = pool_extent(pool), n = size / extent + (size % extent != 0);
    if (!n)
        return err_set(e, ERR_INVALID, "size", "the size must be at least 1 byte");
    if (n > UINT32_MAX)
        return err_set(e, ERR_INVALID, "size", "the size is more than %u extents of the pool",
                       UINT32_MAX);
    *extents_r = (uint32_t)n;
    return 0;
}

static void describe(struct lvm_lv *lv)
{
    struct utsname u;
    lvm_id_random(lv->id);
    lvm_strs_add(&lv->status, "READ");
    lvm_strs_add(&lv->status, "WRITE");
    lvm_strs_add(&lv->status, "VISIBLE");
    lv->creation_time = (uint64_t)time(NULL);
    lv->creation_host = xstrdup(uname(&u) ? "unknown" : u.nodename);
}

static int create(struct pool *pool, const char *volume, uint64_t size, struct err *e)
{
    bool usable[POOL_DEVICES_MAX];
    uint32_t extents;
    unsigned n;
    if (pool_writable(pool, e) || check_new(pool, volume, e) || extents_of(pool, size, &extents, e))
        return -1;
    usable_pvs(pool, usable);
    autofree struct lvm_piece *piece = alloc_extents(pool->vg, usable, extents, NULL, &n, e);
    if (!piece)
        return -1;
    int zeroed = clean_space(pool, piece, n, e);
    if (zeroed < 0)
        return -1;
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    struct lvm_lv *lv = lvm_vg_add_lv(next, volume);
    describe(lv);
    for (unsigned i = 0; i < n; i++)
        lvm_lv_append(lv, &piece[i]);
    char description[120];
    snprintf(description, sizeof description, "orionctl volume create %s/%s", pool->name, volume);
    if (pool_commit(pool, &next, description, e))
        return -1;
    return volume_start(pool, lvm_vg_lv(pool->vg, volume), zeroed, e);
}

int volume_create(const char *pool, const char *volume, uint64_t size, struct err *e)
{
    struct pool *p;
    pools_lock();
    int rc = pool_find_or(pool, &p, e);
    if (!rc)
        rc = create(p, volume, size, e);
    pools_unlock();
    return rc;
}

/* ---- resize and delete */
static int find_lv(struct pool *pool, const char *volume, struct lvm_lv **lv_r, struct err *e)
{
    struct lvm_lv *lv = lvm_vg_lv(pool->vg, volume);
    if (!lv || !lvm_lv_visible(lv))
        return err_set(e, ERR_NOT_FOUND, "name", "pool %s has no volume %s", pool->name, volume);
    if (lv->cow)
        return err_set(e, ERR_UNSUPPORTED, "name",
                       "volume %s/%s is a snapshot: LVM made it, and LVM's own tools change it",
                       pool->name, volume);
    if (lv->referenced)
        return err_set(e, ERR_IN_USE, "name", "another volume of pool %s stands on %s", pool->name,
                       volume);
    *lv_r = lv;
    return 0;
}

static int find_plain(struct pool *pool, const char *volume, struct lvm_lv **lv_r, struct err *e)
{
    if (find_lv(pool, volume, lv_r, e))
        return -1;
    if (!strcmp(volume_kind(*lv_r), "linear"))
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "name",
                   "volume %s/%s is %s: LVM made it, and LVM's own tools "
                   "change it",
                   pool->name, volume, volume_kind(*lv_r));
}

static int grow(struct pool *pool, struct lvm_lv *lv, uint32_t extents, struct err *e)
{
    bool usable[POOL_DEVICES_MAX];
    unsigned n;
    usable_pvs(pool, usable);
    const struct lvm_seg *last = &lv->seg[lv->seg_count - 1];
    autofree struct lvm_piece *piece =
        alloc_extents(pool->vg, usable, extents - lv->extents, last->piece, &n, e);
    if (!piece)
        return -1;
    int zeroed = clean_space(pool, piece, n, e);
    if (zeroed < 0)
        return -1;
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    autofree char *name = xstrdup(lv->name);
    struct lvm_lv *grown = lvm_vg_lv(next, name);
    for (unsigned i = 0; i < n; i++)
        lvm_lv_append(grown, &piece[i]);
    char description[120];
    snprintf(description, sizeof description, "orionctl volume resize %s/%s", pool->name, name);
    if (pool_commit(pool, &next, description, e))
        return -1;
    struct volume *v = volume_find(pool, name);
    if (v) {
        v->bdev.known_zero &= zeroed;
        volume_remap(v, lvm_vg_lv(pool->vg, name));
        bdev_set_size(&v->bdev, extents * pool_extent(pool));
    }
    return 0;
}

static int shrink(struct pool *pool, struct lvm_lv *lv, uint32_t extents, struct err *e)
{
    uint64_t extent = pool_extent(pool), old = lv->extents * extent;
    autofree char *name = xstrdup(lv->name);
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    bool cut = lvm_lv_cut(lvm_vg_lv(next, name), extents);
    assert(cut); /* linear: it can be cut anywhere */
    struct volume *v = volume_find(pool, name);
    if (v)
        bdev_set_size(&v->bdev, extents * extent);
    char description[120];
    snprintf(description, sizeof description, "orionctl volume resize %s/%s", pool->name, name);
    if (pool_commit(pool, &next, description, e)) {
        if (v)
            bdev_set_size(&v->bdev, old);
        return -1;
    }
    if (v)
        volume_remap(v, lvm_vg_lv(pool->vg, name));
    return 0;
}

static int resize(struct pool *pool, const char *volume, uint64_t size, struct err *e)
{
    struct lvm_lv *lv;
    uint32_t extents;
    if (find_plain(pool, volume, &lv, e) || pool_writable(pool, e) ||
        extents_of(pool, size, &extents, e))
        return -1;
    if (extents == lv->extents)
        return 0;
    return extents > lv->extents ? grow(pool, lv, extents, e) : shrink(pool, lv, extents, e);
}

int volume_resize(const char *pool, const char *volume, uint64_t size, struct err *e)
{
    struct pool *p;
    pools_lock();
    int rc = pool_find_or(pool, &p, e);
    if (!rc)
        rc = resize(p, volume, size, e);
    pools_unlock();
    return rc;
}

static bool all_plain(const struct lvm_lv *lv)
{
    for (unsigned i = 0; i < lv->seg_count; i++)
        if (!lv->seg[i].plain)
            return false;
    return true;
}

static int delete (struct pool *pool, const char *volume, struct err *e)
{
    struct lvm_lv *lv;
    char users[200];
    if (find_lv(pool, volume, &lv, e) || pool_writable(pool, e))
        return -1;
    if (!all_plain(lv)) /* its hidden parts go with it: LVM knows which */
        return find_plain(pool, volume, &lv, e);
    struct volume *v = volume_find(pool, volume);
    if (v && bdev_users(&v->bdev, users, sizeof users))
        return err_set(e, ERR_IN_USE, "name", "volume %s is in use by %s", v->bdev.name, users);
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    lvm_vg_del_lv(next, lvm_vg_lv(next, volume));
    if (v)
        volume_stop(v);
    char description[120];
    snprintf(description, sizeof description, "orionctl volume delete %s/%s", pool->name, volume);
    if (!pool_commit(pool, &next, description, e))
        return 0;
    struct err again;
    if (v && volume_start(pool, lvm_vg_lv(pool->vg, volume), false, &again))
        log_warn("volumes", "%s/%s stays inactive: %s", pool->name, volume, again.msg);
    return -1;
}

int volume_delete(const char *pool, const char *volume, struct err *e)
{
    struct pool *p;
    pools_lock();
    int rc = pool_find_or(pool, &p, e);
    if (!rc)
        rc = delete (p, volume, e);
    pools_unlock();
    return rc;
}
