/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "volumes/private.h"

/*
 * Finding pools on devices, and taking them over. The text with the highest seqno is the group;
 * what it does not name does not belong to it, whatever its own older text says.
 */

struct scan_pv {
    char device[BDEV_NAME_MAX + 1];
    char pv_id[LVM_ID + 1];
};

struct scan_vg {
    struct lvm_vg *vg; /* of the highest seqno */
    uint32_t crc;
    bool ambiguous; /* two texts of one seqno differ */
};

struct scan {
    struct scan_pv *pv;
    unsigned pv_count;
    struct scan_vg *vg;
    unsigned vg_count;
    char trouble[300]; /* why a device's text is of no use: the first such one */
};

static void scan_free(struct scan *s)
{
    for (unsigned i = 0; i < s->vg_count; i++)
        lvm_vg_free(&s->vg[i].vg);
    free(s->pv);
    free(s->vg);
}

/* ---- texts */

/* Keeps the better of two texts of a group. The texts' times tell nothing: clocks differ. */
static void better(struct scan_vg *have, struct lvm_vg *vg, uint32_t crc)
{
    if (!have->vg || vg->seqno > have->vg->seqno) {
        lvm_vg_free(&have->vg);
        have->vg = vg;
        have->crc = crc;
        have->ambiguous = false;
        return;
    }
    if (vg->seqno == have->vg->seqno && crc != have->crc)
        have->ambiguous = true;
    lvm_vg_free(&vg);
}

struct parse_job {
    const char *text;
    size_t size;
    struct lvm_vg *vg;
    struct err e;
};

static void parse_text(void *arg) /* on a helper thread; one at a time, under the pools' lock */
{
    struct parse_job *j = arg;
    j->vg = lvm_text_parse(j->text, j->size, &j->e);
}

static void scan_text(struct scan *s, const char *device, const char *text, size_t size)
{
    uint32_t crc = lvm_crc(text, size);
    for (unsigned i = 0; i < s->vg_count; i++)
        if (s->vg[i].crc == crc)
            return; /* the same text on another device */
    struct parse_job job = {.text = text, .size = size};
    task_help(parse_text, &job);
    struct lvm_vg *vg = job.vg;
    if (!vg) {
        log_warn("volumes", "device %s: %s", device, job.e.msg);
        if (!*s->trouble)
            snprintf(s->trouble, sizeof s->trouble, "; device %.60s: %.220s", device, job.e.msg);
        return;
    }
    for (unsigned i = 0; i < s->vg_count; i++) {
        if (!strcmp(s->vg[i].vg->id, vg->id)) {
            better(&s->vg[i], vg, crc);
            return;
        }
    }
    s->vg = xrealloc(s->vg, (s->vg_count + 1) * sizeof *s->vg);
    s->vg[s->vg_count++] = (struct scan_vg){.vg = vg, .crc = crc};
}

static void scan_device(struct scan *s, const char *device)
{
    struct bdev_user user = {.label = "pool scan"};
    struct lvm_disk *d = xcalloc(1, sizeof *d);
    d->device = device;
    d->desc = bdev_open_to_look(device, &user, NULL);
    if (d->desc && !lvm_disk_open(d, NULL)) {
        s->pv = xrealloc(s->pv, (s->pv_count + 1) * sizeof *s->pv);
        struct scan_pv *pv = &s->pv[s->pv_count++];
        snprintf(pv->device, sizeof pv->device, "%s", device);
        memcpy(pv->pv_id, d->label.pv_id, sizeof pv->pv_id);
        for (unsigned i = 0; i < d->label.mda_count; i++) {
            size_t size;
            autofree char *text = lvm_disk_text(d, i, &size, NULL);
            if (text)
                scan_text(s, device, text, size);
        }
    }
    bdev_drain_close(&d->desc);
    free(d);
}

struct names {
    char (*v)[BDEV_NAME_MAX + 1];
    unsigned n;
};

/* Like LVM, no volume is looked into: a pool inside a guest's disk is the guest's. */
static void note_name(struct bdev *bdev, void *arg)
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

unsigned pool_free_devices(char (**names_r)[BDEV_NAME_MAX + 1])
{
    struct names names = {0};
    bdev_for_each(note_name, &names);
    *names_r = names.v;
    return names.n;
}

static void scan_all(struct scan *s)
{
    char(*names)[BDEV_NAME_MAX + 1];
    memset(s, 0, sizeof *s);
    unsigned n = pool_free_devices(&names);
    for (unsigned i = 0; i < n; i++)
        scan_device(s, names[i]); /* gone by now: found out by the open */
    free(names);
}

/* ---- groups */

/* Names of the devices of a group in the order of its PVs, "" when absent; how many are there. A PV
 * that is there twice makes *twice_r its second device. */
static unsigned members(const struct scan *s, const struct lvm_vg *vg,
                        const char *device[POOL_DEVICES_MAX], const char **twice_r)
{
    unsigned have = 0;
    *twice_r = NULL;
    for (unsigned i = 0; i < vg->pv_count && i < POOL_DEVICES_MAX; i++) {
        device[i] = "";
        for (unsigned k = 0; k < s->pv_count; k++) {
            if (strcmp(s->pv[k].pv_id, vg->pv[i].id))
                continue;
            if (*device[i])
                *twice_r = s->pv[k].device;
            device[i] = s->pv[k].device;
        }
        have += *device[i] != 0;
    }
    return have;
}

/* Why a found group cannot be imported; `force` overrides what is a matter of judgement. */
static int judge(const struct scan *s, const struct scan_vg *found, bool force, struct err *e)
{
    const struct lvm_vg *vg = found->vg;
    const char *device[POOL_DEVICES_MAX], *twice;
    if (!bdev_name_valid(vg->name))
        return err_set(
            e, ERR_UNSUPPORTED, "pool",
            "the group's name %.60s is not one that a pool can have here: 1 to 32 of A-Z "
            "a-z 0-9 _ . - (vgrename it)",
            vg->name);
    if (pool_find_id(vg->id))
        return err_set(e, ERR_EXISTS, "pool", "a pool with this UUID is here already: a copy");
    if (bdev_find(vg->name) || pool_find(vg->name))
        return err_set(e, ERR_EXISTS, "pool", "the name %s is taken", vg->name);
    if (vg->pv_count > POOL_DEVICES_MAX)
        return err_set(e, ERR_UNSUPPORTED, "pool", "the group has %u devices, the limit is %d",
                       vg->pv_count, POOL_DEVICES_MAX);
    if (lvm_strs_has(&vg->status, "EXPORTED"))
        return err_set(e, ERR_UNSUPPORTED, "pool", "the group is exported (vgimport it)");
    if (found->ambiguous)
        return err_set(e, ERR_UNSUPPORTED, "pool",
                       "its devices carry different descriptions of the same age (seqno %u)",
                       vg->seqno);
    unsigned have = members(s, vg, device, &twice);
    if (twice)
        return err_set(e, ERR_UNSUPPORTED, "pool",
                       "a device of it is there twice, once as %s: remove the copy", twice);
    if (have < vg->pv_count && !force)
        return err_set(e, ERR_NEEDS_FORCE, "pool",
                       "%u of its %u devices are absent: --force imports what is there, with its "
                       "metadata read-only",
                       vg->pv_count - have, vg->pv_count);
    return 0;
}

unsigned pool_scan(struct pool_found **found_r)
{
    struct scan s;
    pools_lock();
    scan_all(&s);
    struct pool_found *out = xcalloc(s.vg_count, sizeof *out);
    for (unsigned i = 0; i < s.vg_count; i++) {
        const struct lvm_vg *vg = s.vg[i].vg;
        const char *device[POOL_DEVICES_MAX], *twice;
        struct err e = {0};
        snprintf(out[i].name, sizeof out[i].name, "%.32s", vg->name);
        lvm_id_format(vg->id, out[i].vg_uuid);
        out[i].uuid = lvm_id_uuid(vg->id);
        out[i].devices = vg->pv_count;
        out[i].have = members(&s, vg, device, &twice);
        out[i].importable = !judge(&s, &s.vg[i], false, &e);
        snprintf(out[i].why, sizeof out[i].why, "%.199s", e.msg);
    }
    unsigned n = s.vg_count;
    scan_free(&s);
    pools_unlock();
    *found_r = out;
    return n;
}

static struct scan_vg *choose(struct scan *s, const struct pool_import *i, struct err *e)
{
    struct scan_vg *hit = NULL;
    char text[UUID_TEXT];
    for (unsigned k = 0; k < s->vg_count; k++) {
        struct uuid uuid = lvm_id_uuid(s->vg[k].vg->id);
        if (i->uuid ? !uuid_equal(&uuid, i->uuid) : strcmp(s->vg[k].vg->name, i->name) != 0)
            continue;
        if (hit) {
            char a[LVM_ID_TEXT], b[LVM_ID_TEXT];
            err_set(e, ERR_INVALID, "pool",
                    "there are two groups named %s: import one of them by its UUID, %s or %s",
                    i->name, lvm_id_format(hit->vg->id, a), lvm_id_format(s->vg[k].vg->id, b));
            return NULL;
        }
        hit = &s->vg[k];
    }
    if (!hit)
        err_set(e, ERR_NOT_FOUND, "pool", "no device that is free carries the pool %.64s%s",
                i->uuid ? uuid_format(i->uuid, text) : i->name, s->trouble);
    return hit;
}

/* ---- taking over */

/* Opens the members for the pool's own use and reads their labels anew. */
static int open_members(struct pool *pool, const struct scan *s, struct err *e)
{
    const char *device[POOL_DEVICES_MAX], *twice;
    members(s, pool->vg, device, &twice);
    for (unsigned i = 0; i < pool->vg->pv_count; i++) {
        if (!*device[i])
            continue;
        struct pool_disk *d = pool->disk[i] = pool_disk_open(device[i], pool->name, e);
        if (!d || lvm_disk_open(&d->d, e))
            return -1;
        const struct lvm_pv *pv = &pool->vg->pv[i];
        uint64_t end =
            pv->pe_start * LVM_SECTOR + (uint64_t)pv->pe_count * pool->vg->extent_size * LVM_SECTOR;
        if (strcmp(d->d.label.pv_id, pv->id))
            return err_set(e, ERR_IN_USE, "pool", "device %s changed meanwhile", d->device);
        if (end > bdev_size(d->d.desc))
            return err_set(
                e, ERR_INVALID, "pool",
                "device %s ends at %llu, its part in the pool at %llu: it was made smaller",
                d->device, (unsigned long long)bdev_size(d->d.desc), (unsigned long long)end);
    }
    return 0;
}

/* How many metadata areas do not have the group's text; bad ones get an empty header in memory, to
 * be written with the next commit. Areas that LVM was told not to use stay so. */
static unsigned stale_areas(struct pool *pool, uint32_t crc)
{
    unsigned stale = 0;
    for (unsigned i = 0; i < pool->vg->pv_count; i++) {
        struct lvm_disk *d = pool->disk[i] ? &pool->disk[i]->d : NULL;
        for (unsigned m = 0; d && m < d->label.mda_count; m++) {
            const struct lvm_area *a = &d->label.mda[m];
            if (d->mda_bad[m] && a->size % LVM_SECTOR == 0 && a->size >= 8 * LVM_SECTOR &&
                a->size < bdev_size(d->desc) && a->offset <= bdev_size(d->desc) - a->size) {
                d->mda[m] = (struct lvm_mda){.start = a->offset, .size = a->size};
                d->mda_ok[m] = true;
            }
            size_t size;
            autofree char *text = d->mda_ok[m] ? lvm_disk_text(d, m, &size, NULL) : NULL;
            stale += d->mda_ok[m] && (!text || lvm_crc(text, size) != crc);
        }
    }
    return stale;
}

static int backup_range(const struct lvm_disk *d, uint64_t offset, uint64_t size,
                        const struct pool_import *i, struct err *e)
{
    enum { STEP = 1 << 20 };
    autofree char *buf = xcalloc(1, STEP);
    for (uint64_t done = 0; done < size; done += STEP) {
        size_t n = size - done < STEP ? size - done : STEP;
        if (lvm_disk_read(d->desc, d->device, offset + done, buf, n, e))
            return -1;
        if (i->backup(d->device, offset + done, buf, n, i->backup_arg))
            return err_set(e, ERR_IO, "", "the metadata of device %s could not be copied aside",
                           d->device);
    }
    return 0;
}

static int backup_all(const struct pool *pool, const struct pool_import *i, struct err *e)
{
    for (unsigned k = 0; i->backup && k < pool->vg->pv_count; k++) {
        const struct lvm_disk *d = pool->disk[k] ? &pool->disk[k]->d : NULL;
        if (d && backup_range(d, 0, LVM_LABEL_SCAN, i, e))
            return -1;
        for (unsigned m = 0; d && m < d->label.mda_count; m++)
            if (d->mda_ok[m] && backup_range(d, d->mda[m].start, d->mda[m].size, i, e))
                return -1;
    }
    return 0;
}

/* What an import changes on the disks, as text; "" = nothing. */
static void list_changes(const struct pool *pool, const struct pool_import *i, unsigned stale,
                         char *out, size_t size)
{
    const struct lvm_vg *vg = pool->vg;
    int n = 0;
    *out = 0;
    if (*pool->why)
        return;
#define ADD(...) (n += snprintf(out + n, n < (int)size ? size - (size_t)n : 0, __VA_ARGS__))
    if (stale)
        ADD("%u metadata areas are brought up to date; ", stale);
    if (i->own && !lvm_strs_has(&vg->tags, "orion"))
        ADD("the group gets the tag \"orion\"; ");
    if (i->own && !lvm_strs_has(&vg->flags, "NOAUTOACTIVATE"))
        ADD("the group gets the flag NOAUTOACTIVATE; ");
    if (i->own && vg->system_id)
        ADD("the group loses its system_id \"%.40s\"; ", vg->system_id);
#undef ADD
    if (n >= 2 && n < (int)size)
        out[n - 2] = 0;
}

/* May the group be changed? The reasons are in the order of how much they hide. */
static void set_why(struct pool *pool, const struct pool_import *i)
{
    unsigned absent = 0;
    for (unsigned k = 0; k < pool->vg->pv_count; k++) {
        absent += !pool->disk[k];
        pool->read_only |= pool->disk[k] && bdev_desc_claim(pool->disk[k]->d.desc) == CLAIM_READ;
    }
    if (absent)
        snprintf(pool->why, sizeof pool->why, "%u of its %u devices are absent", absent,
                 pool->vg->pv_count);
    else if (i->read_only)
        snprintf(pool->why, sizeof pool->why, "it was imported read-only");
    else if (pool->read_only)
        snprintf(pool->why, sizeof pool->why, "a device of it is read-only");
    else if (*pool->vg->read_only_why)
        snprintf(pool->why, sizeof pool->why, "%s", pool->vg->read_only_why);
    else if (pool->vg->system_id && !i->force)
        snprintf(pool->why, sizeof pool->why,
                 "it belongs to the host with the system_id %.80s (import it with --force)",
                 pool->vg->system_id);
    pool->read_only |= *pool->why && !absent;
    pool->read_only |= i->read_only || *pool->vg->read_only_why;
}

static int own(struct pool *pool, const struct pool_import *i, struct err *e)
{
    if (backup_all(pool, i, e))
        return -1;
    struct lvm_vg *next = lvm_vg_clone(pool->vg);
    if (i->own) {
        lvm_strs_add(&next->tags, "orion");
        lvm_strs_add(&next->flags, "NOAUTOACTIVATE");
        free(next->system_id);
        next->system_id = NULL;
    }
    char description[64];
    snprintf(description, sizeof description, "orionctl pool import %s", pool->name);
    return pool_commit(pool, &next, description, e);
}

static int take(struct pool *pool, struct scan *s, struct scan_vg *found,
                const struct pool_import *i, struct err *e)
{
    char changes[300];
    if (open_members(pool, s, e))
        return -1;
    set_why(pool, i);
    list_changes(pool, i, stale_areas(pool, found->crc), changes, sizeof changes);
    if (i->would && i->would_size)
        snprintf(i->would, i->would_size, "%s", changes);
    if (i->dry_run)
        return 0;
    if (*changes && own(pool, i, e))
        return -1;
    if (*pool->why)
        log_warn("volumes", "pool %s cannot be changed: %s", pool->name, pool->why);
    volume_start_all(pool);
    return 0;
}

static int import(struct scan *s, const struct pool_import *i, struct err *e)
{
    struct scan_vg *found = choose(s, i, e);
    if (!found || judge(s, found, i->force, e))
        return -1;
    if (bdev_name_reserve(found->vg->name, "pool", e))
        return -1;
    struct pool *pool = xcalloc(1, sizeof *pool);
    snprintf(pool->name, sizeof pool->name, "%s", found->vg->name);
    list_init(&pool->volumes);
    list_init(&pool->link);
    pool->vg = found->vg;
    found->vg = NULL;
    int rc = take(pool, s, found, i, e);
    if (rc || i->dry_run)
        pool_drop(&pool);
    else
        pool_add(pool);
    return rc;
}

int pool_import(const struct pool_import *i, struct err *e)
{
    struct scan s;
    pools_lock();
    scan_all(&s);
    int rc = import(&s, i, e);
    scan_free(&s);
    pools_unlock();
    return rc;
}
