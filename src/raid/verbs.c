/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an administrator does to a running array. */
#include <errno.h>
#include <linux/types.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <linux/raid/md_p.h>

#include "base/mem.h"
#include "block/event.h"
#include "block/job.h"
#include "probe/probe.h"
#include "raid/bad.h"
#include "raid/bitmap.h"

static struct raid_array *find(const char *name, struct err *e)
{
    struct raid_array *a = raid_find(name);
    if (!a || a->freeing) {
        err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
        return NULL;
    }
    return a;
}

/* ---- stop, delete, shut down */

static void no_more_jobs(void *arg) /* home */
{
    struct raid_array *a = arg;
    a->stopping = true;
}

static void jobs_again(void *arg) /* home */
{
    struct raid_array *a = arg;
    a->stopping = false;
}

/* The job ends at its next step, with its cursor in resync_pos or rebuilt. */
static void end_sync(struct raid_array *a)
{
    task_call(a->home, no_more_jobs, a);
    uint64_t id = raid_load(&a->sync_job);
    struct err e;
    if (id && !job_cancel(id, &e))
        job_wait(id);
}

static int stop(const char *name, bool wipe, struct err *e)
{
    struct raid_array *a = find(name, e);
    char users[256];
    if (!a)
        return -1;
    if (bdev_users(&a->bdev, users, sizeof users))
        return err_set(e, ERR_IN_USE, "", "array %s is used by %s", name, users);
    a->freeing = true; /* a second stop finds nothing */
    end_sync(a);
    a->wipe = wipe;
    char object[80];
    raid_object(a, object);
    bdev_unregister(&a->bdev); /* frees the array: marks it clean and releases the members */
    event_raise_change(object, wipe ? "array-deleted" : "array-stopped", "", "absent", "%s",
                       wipe ? "its superblocks are erased" : "its members are free");
    return 0;
}

int raid_stop(const char *name, struct err *e)
{
    return stop(name, false, e);
}

int raid_delete(const char *name, struct err *e)
{
    struct raid_array *a = find(name, e);
    if (!a)
        return -1;
    if (a->read_only)
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is read-only (%s): it can be stopped",
                       name, a->reason);
    return stop(name, true, e);
}

struct quiet {
    struct raid_array *a;
    bool clean;
};

static void make_clean(void *arg) /* home */
{
    struct quiet *q = arg;
    q->clean = raid_make_clean(q->a, true);
}

static void shut_down(struct raid_array *a)
{
    enum { TRIES = 50 };
    struct quiet q = {.a = a};
    a->main_tasks++; /* it stays meanwhile */
    end_sync(a);
    for (unsigned i = 0; i < TRIES && !q.clean; i++) {
        if (i)
            task_sleep_us(20 * 1000); /* the last acknowledged write may still be winding up */
        task_call(a->home, make_clean, &q);
    }
    task_call(a->home, jobs_again, a); /* not undone by a shutdown that does not come */
    a->main_tasks--;
}

struct names {
    char (*name)[BDEV_NAME_MAX + 1];
    unsigned n;
};

static void collect(struct raid_array *a, void *arg)
{
    struct names *all = arg;
    all->name = xrealloc(all->name, (all->n + 1) * sizeof *all->name);
    memcpy(all->name[all->n++], a->bdev.name, sizeof *all->name);
}

void raid_shutdown_all(void)
{
    struct names all = {0};
    raid_list_for_each(collect, &all);
    for (unsigned i = 0; i < all.n; i++) {
        struct raid_array *a = find(all.name[i], NULL);
        if (a)
            shut_down(a);
    }
    free(all.name);
}

/* ---- members */

struct change {
    struct raid_array *a;
    struct raid_member *m;
    const char *device;
    bool force;
    int rc;
    struct err *e;
};

static struct raid_member *find_member(struct raid_array *a, const char *device)
{
    struct raid_member *m;
    list_for_each (m, &a->members, link)
        if (!strcmp(m->device, device))
            return m;
    return NULL;
}

/* meta_lock held. */
static int fail_locked(struct change *c)
{
    struct raid_array *a = c->a;
    struct raid_member *m = find_member(a, c->device);
    if (!m)
        return err_set(c->e, ERR_NOT_FOUND, "member", "array %s has no member %s", a->bdev.name,
                       c->device);
    if (a->read_only)
        return err_set(c->e, ERR_UNSUPPORTED, "", "array %s is read-only: %s", a->bdev.name,
                       a->reason);
    if (m->state == RAID_MEMBER_FAULTY)
        return 0;
    bool last = m->state == RAID_MEMBER_IN_SYNC && !raid_alive(a, m);
    if (last && !c->force)
        return err_set(c->e, ERR_NEEDS_FORCE, "force",
                       "without %s array %s has failed: its data cannot be reached", c->device,
                       a->bdev.name);
    raid_kick(a, m, 0, true);
    if (a->level->redundant && raid_alive(a, NULL) && raid_meta_write(a))
        return err_set(c->e, ERR_IO, "", "no other member could store the change");
    return 0;
}

static void fail_home(void *arg)
{
    struct change *c = arg;
    tlock_lock(&c->a->meta_lock);
    c->rc = fail_locked(c);
    tlock_unlock(&c->a->meta_lock);
    raid_sync_next(c->a);
}

int raid_fail_member(const char *name, const char *member, bool force, struct err *e)
{
    struct change c = {.a = find(name, e), .device = member, .force = force, .e = e};
    if (!c.a)
        return -1;
    c.a->main_tasks++; /* it stays meanwhile */
    task_call(c.a->home, fail_home, &c);
    c.a->main_tasks--;
    return c.rc;
}

static void remove_home(void *arg)
{
    struct change *c = arg;
    struct raid_array *a = c->a;
    tlock_lock(&a->meta_lock);
    struct raid_member *m = find_member(a, c->device);
    bool spare = m && m->state == RAID_MEMBER_SPARE;
    c->rc = spare ? 0 : fail_locked(c);
    if (!c->rc) {
        c->m = m;
        list_del(&m->link);
        list_add_tail(&a->gone, &m->link);
        if (spare) {
            raid_store(&m->state, RAID_MEMBER_FAULTY);
            m->recorded = true;
            /* Its own superblock goes on calling it a spare: it must not come back by itself, and
             * its number comes last when one is given. */
            a->sb.role[m->sb.dev_number] = MD_ROLE_FAULTY;
            raid_meta_write(a);
        } else if (!m->recorded) { /* nobody is left to record it */
            __atomic_fetch_sub(&a->unrecorded, 1, __ATOMIC_SEQ_CST);
            raid_vacate(a, m);
        }
        raid_publish(a);
    }
    tlock_unlock(&a->meta_lock);
    raid_sync_next(a);
}

int raid_remove_member(const char *name, const char *member, bool force, struct err *e)
{
    struct change c = {.a = find(name, e), .device = member, .force = force, .e = e};
    char users[200];
    if (!c.a)
        return -1;
    if (raid_load(&c.a->lends) && bdev_users(&c.a->bdev, users, sizeof users))
        return err_set(e, ERR_IN_USE, "member",
                       "%s may still look at memory of %s: array %s is in use", users, member,
                       name);
    c.a->main_tasks++; /* the array stays while its member closes */
    task_call(c.a->home, remove_home, &c);
    if (!c.rc) {
        char object[80];
        raid_object(c.a, object);
        raid_member_close(c.m);
        event_raise(object, "member-removed", "%s is released", member);
    }
    c.a->main_tasks--;
    return c.rc;
}

/* ---- add */

static bool carries_us(struct raid_array *a, struct bdev_desc *desc)
{
    autofree struct md_super *sb = xcalloc(1, sizeof *sb);
    autofree uint8_t *bytes = xcalloc(1, MD_SUPER_SIZE);
    struct err e;
    return bdev_size(desc) >= MD_SUPER_OFFSET + MD_SUPER_SIZE &&
           !bdev_read(desc, MD_SUPER_OFFSET, bytes, MD_SUPER_SIZE) &&
           !md_super_read(sb, bytes, &e) && uuid_equal(&sb->set_uuid, &a->bdev.uuid);
}

static int check_new(struct raid_array *a, struct raid_member *m, bool force, struct err *e)
{
    struct bdev_info info;
    char what[256] = "";
    bdev_get_info(m->desc, &info);
    uint64_t size = info.size / 4096 * 4096;
    pthread_mutex_lock(&a->info_lock);
    m->data_offset = a->info.data_offset;
    pthread_mutex_unlock(&a->info_lock);
    if (size < m->data_offset + a->member_bytes)
        m->data_offset = md_data_offset(size / MD_SECTOR, 0) * MD_SECTOR;
    if (info.read_only)
        return err_set(e, ERR_INVALID, "device", "%s is read-only", m->device);
    if (size < m->data_offset + a->member_bytes)
        return err_set(e, ERR_NO_SPACE, "device",
                       "%s has %llu bytes, a member of array %s needs %llu", m->device,
                       (unsigned long long)info.size, a->bdev.name,
                       (unsigned long long)(m->data_offset + a->member_bytes));
    if (info.block_size > a->bdev.block_size)
        return err_set(e, ERR_INVALID, "device",
                       "%s has blocks of %u bytes, array %s has %u: its users could not go on",
                       m->device, info.block_size, a->bdev.name, a->bdev.block_size);
    m->data_size = size - m->data_offset;
    if (a->level->accepts && a->level->accepts(a, m, e))
        return -1;
    if (force || info.known_zero || carries_us(a, m->desc))
        return 0;
    int found = probe_signature(m->desc, what, sizeof what, e);
    if (found)
        return found < 0 ? -1
                         : err_set(e, ERR_NEEDS_FORCE, "device", "%s carries: %s", m->device, what);
    return 0;
}

/* A number that no member has now; used ones come last, since old superblocks remember them. */
static int free_number(struct raid_array *a)
{
    const struct raid_member *m;
    for (int pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < a->sb.max_dev; i++) {
            bool taken = pass == 0 && a->sb.role[i] != MD_ROLE_SPARE;
            list_for_each (m, &a->members, link)
                taken = taken || m->sb.dev_number == i;
            if (!taken)
                return (int)i;
        }
    }
    return -1;
}

static void add_home(void *arg)
{
    struct change *c = arg;
    struct raid_array *a = c->a;
    tlock_lock(&a->meta_lock);
    int number = free_number(a);
    if (number < 0 || raid_load(&a->failed)) {
        c->rc = err_set(c->e, ERR_UNSUPPORTED, "", "array %s %s", a->bdev.name,
                        number < 0 ? "has no number left for a member" : "has failed");
    } else {
        c->m->sb.dev_number = (uint32_t)number;
        c->m->sb.device_uuid = uuid_random();
        c->m->state = RAID_MEMBER_SPARE;
        raid_bad_give(a, c->m);
        raid_member_add(a, c->m);
        c->rc = raid_meta_write(a);
        if (!c->rc && c->m->state == RAID_MEMBER_FAULTY)
            c->rc = -1;
        if (c->rc) {
            list_del(&c->m->link);
            list_add_tail(&a->gone, &c->m->link);
            raid_publish(a);
            err_set(c->e, ERR_IO, "device", "the superblock of %s could not be written", c->device);
        }
    }
    tlock_unlock(&a->meta_lock);
    raid_sync_start(a);
}

int raid_add_member(const char *name, const char *device, bool force, struct err *e)
{
    struct change c = {.a = find(name, e), .device = device, .e = e};
    struct raid_array *a = c.a;
    if (!a)
        return -1;
    if (!a->level->redundant || a->read_only)
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is %s: members cannot be added", name,
                       a->read_only ? "read-only" : a->level->name);
    c.m = raid_member_open(a, device, CLAIM_EXCLUSIVE, e);
    if (!c.m)
        return -1;
    a->main_tasks++;
    bool listed = false;
    c.rc = check_new(a, c.m, force, e) || raid_bitmap_place(a, c.m, e) ? -1 : 0;
    if (!c.rc) {
        listed = true;
        task_call(a->home, add_home, &c);
    }
    if (c.rc) {
        raid_member_close(c.m);
        if (!listed || list_empty(&c.m->link))
            raid_member_free(&c.m);
    } else {
        char object[80];
        raid_object(a, object);
        event_raise(object, "member-added", "%s has joined", device);
    }
    a->main_tasks--;
    return c.rc;
}
