/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "volumes/private.h"

/*
 * A volume's requests go to the pool's devices: one child and one addition for a request within one
 * linear part, which is nearly all of them. Others walk over their pieces with at most FANOUT
 * children at a time, each of which goes on to the next piece when it is done.
 */
enum { FANOUT = 4 };

struct vmap_leg {
    struct bdev_desc *desc;
    uint64_t base; /* where the part's stripe begins on the device */
};

struct vmap_part {
    uint64_t start, end;
    struct bdev_desc *desc; /* linear: device offset = volume offset + shift (mod 2^64) */
    uint64_t shift;
    uint64_t stripe; /* bytes; 0 = linear */
    unsigned legs;
    struct vmap_leg *leg;
};

struct vmap {
    unsigned parts, devices;
    struct bdev_desc *device[POOL_DEVICES_MAX]; /* each once */
    struct vmap_part part[];
};

static struct volume *to_volume(struct bdev *bdev)
{
    return container_of(bdev, struct volume, bdev);
}

/* ---- the data path */
static const struct vmap_part *part_at(const struct vmap *m, uint64_t offset)
{
    unsigned lo = 0, hi = m->parts;
    while (hi - lo > 1) {
        unsigned mid = (lo + hi) / 2;
        if (m->part[mid].start <= offset)
            lo = mid;
        else
            hi = mid;
    }
    assert(offset < m->part[lo].end);
    return &m->part[lo];
}

/* Points a child at the piece of the parent that begins at `from`; returns where the next begins.
 */
static uint64_t aim(const struct vmap *m, struct bio *bio, struct bio *child, uint64_t from)
{
    uint64_t at = bio->offset + from, left = bio->length - from;
    const struct vmap_part *p = part_at(m, at);
    uint64_t offset = at + p->shift, room = p->end - at;
    struct bdev_desc *desc = p->desc;
    if (p->stripe) {
        uint64_t in = at - p->start, chunk = in / p->stripe, rest = in % p->stripe;
        const struct vmap_leg *leg = &p->leg[chunk % p->legs];
        desc = leg->desc;
        offset = leg->base + chunk / p->legs * p->stripe + rest;
        room = p->stripe - rest;
    }
    if (room > left)
        room = left;
    child->desc = desc;
    bio_child_range(child, from, room, offset);
    return from + room;
}

/* Some device of the volume discards, perhaps not this one: discarding is advice. */
static void forgive(struct bio *child)
{
    if (child->op == BIO_DISCARD && child->error == -EOPNOTSUPP)
        child->error = 0;
}

static void piece_done(struct bio *child)
{
    struct bio *bio = child->parent;
    forgive(child);
    if (!child->error && !bio->error && bio->drv.u[0] < bio->length) {
        bio->drv.u[0] = aim(to_volume(bio->ch->bdev)->map, bio, child, bio->drv.u[0]);
        bio_submit(child);
        return;
    }
    bio_child_done(child);
}

static void flush_done(struct bio *child)
{
    struct bio *bio = child->parent;
    const struct vmap *m = to_volume(bio->ch->bdev)->map;
    if (!child->error && !bio->error && bio->drv.u[0] < m->devices) {
        child->desc = m->device[bio->drv.u[0]++];
        bio_submit(child);
        return;
    }
    bio_child_done(child);
}

static void submit_flush(const struct vmap *m, struct bio *bio)
{
    struct bio *child[FANOUT];
    unsigned n = 0;
    for (; n < FANOUT && n < m->devices; n++) {
        child[n] = bio_child(bio, m->device[n]);
        child[n]->done = flush_done;
    }
    bio->drv.u[0] = n;
    bio->pending = n;
    for (unsigned i = 0; i < n; i++)
        bio_submit(child[i]);
}

static void submit_pieces(const struct vmap *m, struct bio *bio)
{
    struct bio *child[FANOUT];
    unsigned n = 0;
    uint64_t from = 0;
    while (n < FANOUT && from < bio->length) {
        child[n] = bio_child(bio, m->device[0]);
        child[n]->done = piece_done;
        from = aim(m, bio, child[n++], from);
        if (bio->op == BIO_EXTENTS) /* may end early, and its list is one child's */
            from = bio->length;
    }
    bio->drv.u[0] = from;
    bio->pending = n;
    for (unsigned i = 0; i < n; i++)
        bio_submit(child[i]);
}

static void submit(struct bdev *bdev, struct bio *bio)
{
    const struct vmap *m = to_volume(bdev)->map;
    if (bio->op == BIO_FLUSH) {
        submit_flush(m, bio);
        return;
    }
    const struct vmap_part *p = m->parts == 1 ? m->part : part_at(m, bio->offset);
    if (p->stripe || bio->length > p->end - bio->offset || bio->op == BIO_DISCARD) {
        submit_pieces(m, bio);
        return;
    }
    struct bio *child = bio_child(bio, p->desc);
    child->offset += p->shift;
    bio->pending = 1;
    bio_submit(child);
}

/* ---- the map */
static void map_free(struct vmap **pm)
{
    struct vmap *m = *pm;
    *pm = NULL;
    for (unsigned i = 0; m && i < m->parts; i++)
        free(m->part[i].leg);
    free(m);
}

static void map_device(struct vmap *m, struct bdev_desc *desc)
{
    for (unsigned i = 0; i < m->devices; i++)
        if (m->device[i] == desc)
            return;
    m->device[m->devices++] = desc;
}

static struct vmap *map_new(const struct pool *pool, const struct lvm_lv *lv)
{
    uint64_t extent = pool_extent(pool);
    struct vmap *m = xcalloc(1, sizeof *m + lv->seg_count * sizeof *m->part);
    m->parts = lv->seg_count;
    for (unsigned i = 0; i < lv->seg_count; i++) {
        const struct lvm_seg *seg = &lv->seg[i];
        struct vmap_part *p = &m->part[i];
        p->start = seg->start * extent;
        p->end = p->start + seg->count * extent;
        p->legs = seg->piece_count;
        p->leg = xcalloc(p->legs, sizeof *p->leg);
        for (unsigned k = 0; k < p->legs; k++) {
            const struct lvm_piece *piece = &seg->piece[k];
            p->leg[k].desc = pool->disk[piece->pv]->d.desc;
            p->leg[k].base = pool->vg->pv[piece->pv].pe_start * LVM_SECTOR + piece->pe * extent;
            map_device(m, p->leg[k].desc);
        }
        p->desc = p->leg[0].desc;
        p->shift = p->leg[0].base - p->start;
        p->stripe = p->legs > 1 ? (uint64_t)seg->stripe_size * LVM_SECTOR : 0;
    }
    return m;
}

void volume_remap(struct volume *v, const struct lvm_lv *lv)
{
    struct vmap *old = v->map;
    bdev_quiesce(&v->bdev);
    v->map = map_new(v->pool, lv);
    bdev_resume(&v->bdev);
    map_free(&old);
}

bool volume_stands_on(const struct volume *v, const struct bdev_desc *desc)
{
    for (unsigned i = 0; i < v->map->devices; i++)
        if (v->map->device[i] == desc)
            return true;
    return false;
}

/* ---- the device */
static void destroy(struct bdev *bdev)
{
    struct volume *v = to_volume(bdev);
    map_free(&v->map);
    free(v);
}

static void attrs(struct bdev *bdev, void (*fn)(const char *key, const char *value, void *arg),
                  void *arg)
{
    const struct volume *v = to_volume(bdev);
    char text[24];
    fn("pool", v->pool->name, arg);
    snprintf(text, sizeof text, "%u", v->map->parts);
    fn("segments", text, arg);
    snprintf(text, sizeof text, "%u", v->map->devices);
    fn("devices", text, arg);
}

static bool failed(const struct bdev *bdev, char *why, size_t size)
{
    const struct vmap *m = container_of(bdev, struct volume, bdev)->map;
    for (unsigned i = 0; i < m->devices; i++)
        if (bdev_failed(bdev_of(m->device[i]), why, size))
            return true;
    return false;
}

/* All of the pool's: it may grow onto each. */
static void below(struct bdev *bdev, void (*fn)(const char *name, void *arg), void *arg)
{
    const struct pool *pool = to_volume(bdev)->pool;
    for (unsigned i = 0; i < POOL_DEVICES_MAX; i++)
        if (pool->disk[i])
            fn(pool->disk[i]->device, arg);
}

static const struct bdev_ops ops = {.type = "volume",
                                    .submit = submit,
                                    .destroy = destroy,
                                    .attrs = attrs,
                                    .below = below,
                                    .failed = failed};

const char *volume_kind(const struct lvm_lv *lv)
{
    if (lv->cow)
        return "snapshot";
    for (unsigned i = 0; i < lv->seg_count; i++) {
        if (!lv->seg[i].plain)
            return strcmp(lv->seg[i].type, "striped") ? lv->seg[i].type : "stacked";
        if (lv->seg[i].piece_count > 1)
            return "striped";
    }
    return "linear";
}

static bool segment_unfit(const struct pool *pool, const struct lvm_seg *seg, char *why,
                          size_t size)
{
    if (!seg->plain) {
        snprintf(why, size, "it has a segment of type %s, which is carried but not run here",
                 strcmp(seg->type, "striped") ? seg->type : "striped over volumes");
        return true;
    }
    if (seg->piece_count > 1 && pool_extent(pool) % ((uint64_t)seg->stripe_size * LVM_SECTOR)) {
        snprintf(why, size, "its stripe size does not divide the extent size");
        return true;
    }
    for (unsigned i = 0; i < seg->piece_count; i++) {
        unsigned pv = seg->piece[i].pv;
        if (!pool->disk[pv]) {
            snprintf(why, size, "device %s of the pool is absent",
                     pool->vg->pv[pv].device ? pool->vg->pv[pv].device : pool->vg->pv[pv].key);
            return true;
        }
    }
    return false;
}

bool volume_inactive(const struct pool *pool, const struct lvm_lv *lv, char *why, size_t size)
{
    if (!bdev_name_valid(lv->name)) {
        snprintf(why, size, "its name is not one that a device can have here");
        return true;
    }
    if (lv->cow) {
        snprintf(why, size, "it is a snapshot, which is carried but not run here");
        return true;
    }
    if (lv->referenced) {
        snprintf(why, size, "another volume stands on it");
        return true;
    }
    if (lvm_strs_has(&lv->status, "PVMOVE") || lvm_strs_has(&lv->status, "LOCKED")) {
        snprintf(why, size, "LVM is moving it (pvmove)");
        return true;
    }
    for (unsigned i = 0; i < lv->seg_count; i++)
        if (segment_unfit(pool, &lv->seg[i], why, size))
            return true;
    return false;
}

/* What a volume can do and wants is what its pool's devices can and want together: the same for all
 * volumes, so that growing onto another device changes nothing. */
static void properties(struct bdev *b, const struct pool *pool)
{
    b->block_size = 512;
    b->discard_zeroes = true;
    for (unsigned i = 0; i < pool->vg->pv_count; i++) {
        struct bdev_info info;
        if (!pool->disk[i])
            continue;
        bdev_get_info(pool->disk[i]->d.desc, &info);
#define MAX_OF(field, from)   \
    if (b->field < info.from) \
    b->field = info.from
        MAX_OF(block_size, block_size);
        MAX_OF(phys_block, phys_block);
        MAX_OF(mem_align, mem_align);
        MAX_OF(opt_io, opt_io);
        MAX_OF(discard_gran, discard_gran);
#undef MAX_OF
        b->discard_zeroes &= info.discard_zeroes;
        b->write_cache |= info.write_cache;
        b->rotational |= info.rotational;
        b->read_only |= info.read_only;
    }
    b->discard_zeroes &= b->discard_gran != 0;
    b->native = 1u << BIO_READ | 1u << BIO_WRITE | 1u << BIO_FLUSH | 1u << BIO_WRITE_ZEROES |
                1u << BIO_EXTENTS | 1u << BIO_PREFETCH;
    if (b->discard_gran)
        b->native |= 1u << BIO_DISCARD;
    b->native_fua = true;
    b->fanout = FANOUT;
}

void volume_refresh(struct pool *pool)
{
    struct volume *v;
    struct bdev now = {0};
    properties(&now, pool);
    list_for_each (v, &pool->volumes, link) {
        v->bdev.write_cache |= now.write_cache;
        v->bdev.rotational |= now.rotational;
        v->bdev.discard_zeroes &= now.discard_zeroes;
    }
}

int volume_start(struct pool *pool, const struct lvm_lv *lv, bool known_zero, struct err *e)
{
    struct volume *v = xcalloc(1, sizeof *v);
    struct bdev *b = &v->bdev;
    snprintf(b->name, sizeof b->name, "%s/%.32s", pool->name, lv->name);
    b->uuid = lvm_id_uuid(lv->id);
    b->ops = &ops;
    b->size = lv->extents * pool_extent(pool);
    properties(b, pool);
    b->read_only |= pool->read_only || !lvm_strs_has(&lv->status, "WRITE");
    b->known_zero = known_zero;
    v->pool = pool;
    v->map = map_new(pool, lv);
    if (bdev_register(b, e)) {
        destroy(b);
        return -1;
    }
    list_add_tail(&pool->volumes, &v->link);
    return 0;
}

void volume_start_all(struct pool *pool)
{
    for (unsigned i = 0; i < pool->vg->lv_count; i++) {
        const struct lvm_lv *lv = &pool->vg->lv[i];
        char why[160];
        struct err e;
        if (!lvm_lv_visible(lv))
            continue;
        if (volume_inactive(pool, lv, why, sizeof why))
            log_warn("volumes", "%s/%s is not active: %s", pool->name, lv->name, why);
        else if (volume_start(pool, lv, false, &e))
            log_warn("volumes", "%s/%s is not active: %s", pool->name, lv->name, e.msg);
    }
}

void volume_stop(struct volume *v)
{
    list_del(&v->link);
    bdev_unregister(&v->bdev);
}

struct volume *volume_find(const struct pool *pool, const char *lv)
{
    struct volume *v;
    list_for_each (v, &pool->volumes, link) {
        const char *slash = strchr(v->bdev.name, '/');
        if (slash && !strcmp(slash + 1, lv))
            return v;
    }
    return NULL;
}
