/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arrays that grow while they are in use: a raid1 by slots, and redundant levels by what their
 * members have gained. Requests are held for as long as superblocks are written, and the array is
 * marked clean before: so a crash in the middle leaves the old array or the new one, and nothing to
 * be resynced but the new part. Order of a larger size, as of md:
 *   - each member's superblock says how much room it has;
 *   - the bitmap is of the new size, with the new part marked;
 *   - the superblocks say the new size, and that it is in sync up to the old one.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/event.h"
#include "raid/bitmap.h"

struct grow_call {
    struct raid_array *a;
    const struct raid_grow *g;
    uint64_t size; /* of the array, for main */
    uint64_t old;  /* bytes that were synced */
    bool changed;
    uint64_t job;
    int rc;
    struct err *e;
};

/* ---- checks. Home, meta_lock held */

static int check_calm(const struct grow_call *c)
{
    struct raid_array *a = c->a;
    bool syncs = a->sync_runs || raid_load(&a->resync_pos) != UINT64_MAX || a->replacement;
    if (raid_load(&a->failed) || raid_in_sync_count(a) < a->slots)
        return err_set(c->e, ERR_UNSUPPORTED, "",
                       "array %s lacks a member: a new one has to take that slot first",
                       a->bdev.name);
    if (syncs)
        return err_set(c->e, ERR_IN_USE, "", "array %s is being synced: wait for its end",
                       a->bdev.name);
    return 0;
}

static uint64_t room_of(const struct raid_member *m)
{
    uint64_t size = m->desc ? bdev_size(m->desc) / 4096 * 4096 : 0;
    uint64_t room = size > m->data_offset ? size - m->data_offset : 0;
    return room > m->data_size ? room : m->data_size;
}

static uint64_t whole_chunks(const struct raid_array *a, uint64_t size)
{
    uint64_t unit = a->chunk ? a->chunk : 4096;
    return size / unit * unit;
}

/* What each member is to give: *size_r. */
static int choose_size(const struct grow_call *c, uint64_t *size_r)
{
    struct raid_array *a = c->a;
    const struct raid_member *m, *least = NULL;
    list_for_each (m, &a->members, link)
        if (m->state != RAID_MEMBER_FAULTY && (!least || room_of(m) < room_of(least)))
            least = m;
    uint64_t now = a->sb.size * MD_SECTOR, most = least ? whole_chunks(a, room_of(least)) : 0;
    *size_r = c->g->size == UINT64_MAX ? (most > now ? most : now) : c->g->size;
    if (*size_r == now)
        return 0;
    if (*size_r < now || whole_chunks(a, *size_r) != *size_r)
        return err_set(c->e, ERR_INVALID, "size",
                       "%llu bytes of each member; expected a multiple of %llu, and at least the "
                       "%llu that it has: an array does not shrink",
                       (unsigned long long)*size_r,
                       (unsigned long long)(a->chunk ? a->chunk : 4096), (unsigned long long)now);
    if (*size_r > most)
        return err_set(c->e, ERR_NO_SPACE, "size", "%s has %llu bytes for data, not %llu",
                       least ? least->device : "nobody", (unsigned long long)most,
                       (unsigned long long)*size_r);
    return 0;
}

static int check_slots(const struct grow_call *c)
{
    struct raid_array *a = c->a;
    const struct raid_member *m;
    unsigned n = c->g->raid_devices, spares = c->g->device_count;
    if (n < a->slots)
        return err_set(c->e, ERR_UNSUPPORTED, "raid_devices",
                       "array %s has %u slots: fewer of them are not in this version", a->bdev.name,
                       a->slots);
    list_for_each (m, &a->members, link)
        spares += m->state == RAID_MEMBER_SPARE;
    if (n > RAID_MEMBERS_MAX || n > a->sb.max_dev)
        return err_set(c->e, ERR_INVALID, "raid_devices", "%u slots; expected at most %u", n,
                       (unsigned)RAID_MEMBERS_MAX);
    if (spares < n - a->slots && !c->g->force)
        return err_set(c->e, ERR_NEEDS_FORCE, "force",
                       "%u new slots and %u spares to fill them: the array would lack members",
                       n - a->slots, spares);
    return 0;
}

static int check(struct grow_call *c)
{
    struct raid_array *a = c->a;
    uint64_t size = 0;
    if ((c->g->raid_devices && check_slots(c)) || (c->g->resize && choose_size(c, &size)))
        return -1;
    bool slots = c->g->raid_devices > a->slots, larger = size > a->sb.size * MD_SECTOR;
    return slots || larger ? check_calm(c) : 0;
}

static void check_home(void *arg)
{
    struct grow_call *c = arg;
    tlock_lock(&c->a->meta_lock);
    c->rc = check(c);
    tlock_unlock(&c->a->meta_lock);
}

/* ---- it grows. Home, quiesced, marked clean, meta_lock held */

static int add_slots(struct grow_call *c)
{
    struct raid_array *a = c->a;
    char object[80];
    unsigned old = a->slots;
    raid_object(a, object);
    a->slots = a->sb.raid_disks = c->g->raid_devices;
    raid_io_renew(a);
    if (raid_meta_write(a))
        return err_set(c->e, ERR_IO, "", "no member could store the superblock");
    event_raise(object, "array-grown", "from %u to %u members", old, a->slots);
    return 0;
}

static int set_size(struct grow_call *c, uint64_t size)
{
    struct raid_array *a = c->a;
    struct raid_member *m;
    uint64_t old = a->sb.size, bytes;
    char object[80];
    raid_object(a, object);
    a->sb.size = size / MD_SECTOR;
    if (!raid_bitmap_fits(a, raid_sync_sectors(&a->sb)) || !a->level->resize(a, &bytes)) {
        a->sb.size = old;
        return err_set(c->e, ERR_UNSUPPORTED, "size", "array %s cannot grow: its %s", a->bdev.name,
                       a->level->level == 10 ? "layout has far copies, which would have to move"
                                             : "members have no room for a larger bitmap");
    }
    a->sb.size = old;
    list_for_each (m, &a->members, link)
        m->data_size = room_of(m);
    if (raid_meta_write(a))
        return err_set(c->e, ERR_IO, "", "no member could store the superblock");
    a->sb.size = size / MD_SECTOR;
    c->old = a->sync_bytes;
    a->member_bytes = size;
    c->size = a->bdev.size = bytes / a->bdev.block_size * a->bdev.block_size;
    a->sync_bytes = a->level->level == 10 ? a->bdev.size : a->member_bytes;
    raid_bitmap_resize(a, c->old);
    raid_store(&a->resync_pos, c->old);
    raid_store(&a->checkpoint, c->old);
    if (raid_meta_write(a))
        return err_set(c->e, ERR_IO, "", "no member could store the superblock");
    event_raise(object, "array-grown", "to %llu bytes, %llu of each member",
                (unsigned long long)a->bdev.size, (unsigned long long)size);
    return 0;
}

static int grow(struct grow_call *c)
{
    struct raid_array *a = c->a;
    uint64_t size = a->sb.size * MD_SECTOR;
    if (check(c) || (c->g->resize && choose_size(c, &size)))
        return -1;
    bool larger = size > a->sb.size * MD_SECTOR;
    if (larger && set_size(c, size))
        return -1;
    bool slots = c->g->raid_devices > a->slots;
    c->changed = larger || slots;
    return slots ? add_slots(c) : 0;
}

static void publish_size(void *arg) /* main */
{
    struct grow_call *c = arg;
    bdev_set_size(&c->a->bdev, c->size);
}

static void grow_home(void *arg)
{
    struct grow_call *c = arg;
    struct raid_array *a = c->a;
    uint64_t before = a->last_job;
    bool rests = raid_rest(a);
    tlock_lock(&a->meta_lock);
    c->rc = rests ? grow(c) : err_set(c->e, ERR_IO, "", "array %s has failed", a->bdev.name);
    raid_publish(a);
    tlock_unlock(&a->meta_lock);
    if (c->size)
        task_call(reactor_main(), publish_size, c);
    bdev_resume(&a->bdev);
    raid_sync_start(a);
    if (a->last_job != before)
        c->job = a->last_job;
}

/* ---- the verb */

static int check_level(const struct grow_call *c)
{
    const struct raid_array *a = c->a;
    if (a->read_only)
        return err_set(c->e, ERR_UNSUPPORTED, "", "array %s is read-only", a->bdev.name);
    if (c->g->raid_devices && a->level->level != 1)
        return err_set(c->e, ERR_UNSUPPORTED, "raid_devices",
                       "array %s is %s: only a raid1 gets more members, others need a reshape",
                       a->bdev.name, a->level->name);
    if (c->g->resize && !a->level->resize)
        return err_set(c->e, ERR_UNSUPPORTED, "size",
                       "array %s is %s: what its members have gained does not lie behind what it "
                       "has, and md does not grow it either",
                       a->bdev.name, a->level->name);
    return 0;
}

static int add_devices(struct grow_call *c)
{
    for (unsigned i = 0; i < c->g->device_count; i++)
        if (raid_add_member(c->a->bdev.name, c->g->devices[i], c->g->force, c->e))
            return -1;
    return 0;
}

int raid_grow(const char *name, const struct raid_grow *g, bool *changed_r, uint64_t *job_r,
              struct err *e)
{
    struct raid_array *a = raid_find(name);
    struct grow_call c = {.a = a, .g = g, .e = e};
    struct raid_grow then = *g;
    if (!a || a->freeing)
        return err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
    if (check_level(&c))
        return -1;
    a->main_tasks++; /* it stays meanwhile */
    task_call(a->home, check_home, &c);
    if (!c.rc)
        c.rc = add_devices(&c);
    then.device_count = 0; /* they are spares by now */
    c.g = &then;
    if (!c.rc)
        task_call(a->home, grow_home, &c);
    a->main_tasks--;
    *changed_r = c.changed || (!c.rc && g->device_count);
    if (job_r)
        *job_r = c.job;
    return c.rc;
}
