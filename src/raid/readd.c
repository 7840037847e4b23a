/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A member that comes back. The bitmap knows which chunks have been written since it left, if no
 * bit has been cleared since: then only these are copied. Until they are, its superblock says that
 * it is being recovered by the bitmap (feature 0x80), which the kernel understands, too.
 */
#include <errno.h>
#include <linux/types.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/mem.h"
#include "block/event.h"
#include "raid/bad.h"
#include "raid/bitmap.h"

struct comeback {
    struct raid_array *a;
    struct raid_member *m;
    int rc;
    struct err *e;
};

static int read_super(struct raid_array *a, struct raid_member *m, struct err *e)
{
    autofree uint8_t *bytes = xcalloc(1, MD_SUPER_SIZE);
    struct bdev_info info;
    bdev_get_info(m->desc, &info);
    int error = bdev_read(m->desc, MD_SUPER_OFFSET, bytes, MD_SUPER_SIZE);
    if (error)
        return err_set(e, ERR_IO, "device", "%s cannot be read: %s", m->device, strerror(-error));
    if (md_super_read(&m->sb, bytes, e) || !uuid_equal(&m->sb.set_uuid, &a->bdev.uuid) ||
        md_super_role(&m->sb) >= a->slots)
        return err_set(e, ERR_INVALID, "device", "%s was no member of array %s", m->device,
                       a->bdev.name);
    if (info.read_only)
        return err_set(e, ERR_INVALID, "device", "%s is read-only", m->device);
    m->data_offset = m->sb.data_offset * MD_SECTOR;
    m->data_size = m->sb.data_size * MD_SECTOR;
    return md_super_usable(&m->sb, info.size, e) || raid_bad_load(m, e) ? -1 : 0;
}

/* It never went on alone: those that are here it still takes for members. */
static bool trusts_us(const struct raid_array *a, const struct md_super *sb)
{
    for (unsigned i = 0; i < a->slots; i++) {
        const struct raid_member *m = raid_load(&a->slot[i]);
        uint32_t number = m ? m->sb.dev_number : 0;
        if (m && raid_in_sync(m) && number < sb->max_dev && sb->role[number] != i &&
            sb->role[number] == MD_ROLE_FAULTY)
            return false;
    }
    return true;
}

static int check_past(struct raid_array *a, const struct raid_member *m, struct err *e)
{
    const struct md_super *sb = &m->sb;
    const struct raid_member *other;
    unsigned slot = md_super_role(sb);
    const char *why = NULL;
    list_for_each (other, &a->members, link)
        if (other->sb.dev_number == sb->dev_number)
            why = "its number has been given to another member";
    if (!a->bitmap)
        why = "the array has no bitmap, so that nobody knows what it lacks";
    else if (raid_load(&a->slot[slot]))
        why = "its slot is taken";
    else if (sb->size != a->sb.size || sb->level != a->sb.level || sb->ctime != a->sb.ctime ||
             sb->layout != a->sb.layout || sb->chunk != a->sb.chunk)
        why = "it is of an array of another shape";
    else if (sb->features & MD_FEATURE_RECOVERY_OFFSET)
        why = "it was not in sync";
    else if (sb->events < a->bitmap->head.events_cleared)
        why = "it has been away for too long: the bitmap has forgotten writes that it lacks";
    else if (sb->events > a->sb.events || !trusts_us(a, sb))
        why = "it went on without the others";
    if (!why)
        return 0;
    return err_set(e, ERR_UNSUPPORTED, "device",
                   "%s cannot come back by the bitmap: %s. Add it as a new member", m->device, why);
}

/* Meta_lock held. */
static int take_back(struct raid_array *a, struct raid_member *m, struct err *e)
{
    if (raid_load(&a->failed))
        return err_set(e, ERR_UNSUPPORTED, "", "array %s has failed", a->bdev.name);
    if (check_past(a, m, e) || raid_bitmap_place(a, m, e))
        return -1;
    int error = raid_bitmap_store_all(a, m);
    if (error)
        return err_set(e, ERR_IO, "device", "%s: %s", m->device, strerror(-error));
    m->slot = (int)md_super_role(&m->sb);
    m->rebuilt = m->checkpoint = 0;
    m->by_bitmap = true;
    raid_store(&a->era, a->era + 1);
    m->era = a->era;
    m->state = RAID_MEMBER_REBUILDING;
    list_add_tail(&a->members, &m->link);
    if (raid_meta_write(a) || m->state != RAID_MEMBER_REBUILDING) {
        list_del(&m->link);
        list_add_tail(&a->gone, &m->link);
        return err_set(e, ERR_IO, "device", "the superblock of %s could not be written", m->device);
    }
    raid_store(&a->slot[m->slot], m); /* from here on it gets what is written */
    return 0;
}

static void take_back_home(void *arg)
{
    struct comeback *c = arg;
    tlock_lock(&c->a->meta_lock);
    c->rc = take_back(c->a, c->m, c->e);
    tlock_unlock(&c->a->meta_lock);
    raid_publish(c->a);
    raid_sync_start(c->a);
}

static int come_back(struct raid_array *a, const char *device, struct err *e)
{
    struct comeback c = {.a = a, .e = e};
    char object[80];
    c.m = raid_member_open(a, device, CLAIM_EXCLUSIVE, e);
    if (!c.m)
        return -1;
    c.rc = read_super(a, c.m, e);
    if (!c.rc)
        task_call(a->home, take_back_home, &c);
    if (c.rc) {
        raid_member_close(c.m);
        if (list_empty(&c.m->link))
            raid_member_free(&c.m);
        return -1;
    }
    raid_object(a, object);
    event_raise(object, "member-readded", "%s is back in slot %d; %llu of %llu chunks are copied",
                device, c.m->slot, (unsigned long long)raid_load(&a->bitmap->dirty),
                (unsigned long long)a->bitmap->chunks);
    return 0;
}

int raid_readd_member(const char *name, const char *device, struct err *e)
{
    struct raid_array *a = raid_find(name);
    if (!a || a->freeing)
        return err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
    if (!a->level->redundant || a->read_only)
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is %s: members cannot come back", name,
                       a->read_only ? "read-only" : a->level->name);
    a->main_tasks++;
    int rc = come_back(a, device, e);
    a->main_tasks--;
    return rc;
}
