/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A member is replaced while it serves, as in md (feature 0x10 of the new one's superblock, both in
 * the same role): the new one is filled from it, or from the others where it cannot be read, and
 * gets what is written meanwhile. Then it takes the slot and the old one leaves. When the old one
 * fails first, the new one goes on as one that is rebuilt; when the new one fails, nothing is lost.
 * One at a time.
 */
#include <errno.h>
#include <string.h>

#include "block/event.h"
#include "raid/raid_private.h"

void raid_vacate(struct raid_array *a, struct raid_member *m)
{
    struct raid_member *second = a->replacement;
    if (m == second) {
        raid_store(&a->replacement, NULL);
        return;
    }
    if (m->slot < 0 || a->slot[m->slot] != m)
        return;
    bool heir = second && second->slot == m->slot && second->state == RAID_MEMBER_REBUILDING;
    if (heir) {
        /* What the log says of the slot from before now is not about the heir. */
        raid_store(&a->era, a->era + 1);
        second->era = a->era;
        second->replaces = false;
        raid_store(&second->checkpoint, 0);
    }
    raid_store(&a->slot[m->slot], heir ? second : NULL);
    if (heir)
        raid_store(&a->replacement, NULL);
}

/* ---- the end */

struct handover {
    struct raid_array *a;
    struct raid_member *m, *source;
    bool good;
};

/* All that was written is on it. Both are in sync first, and only then the old one is out: at no
 * moment does the slot hang on which superblocks a power cut lets through. */
static void hand_over(struct handover *h)
{
    struct raid_array *a = h->a;
    struct raid_member *m = h->m, *source = raid_load(&a->slot[m->slot]);
    if (a->replacement != m || raid_meta_flush(a) || a->replacement != m)
        return;
    raid_store(&m->state, RAID_MEMBER_IN_SYNC);
    if (raid_meta_write(a) || a->replacement != m || !raid_in_sync(m))
        return;
    m->replaces = false;
    raid_store(&a->slot[m->slot], m);
    raid_store(&a->replacement, NULL);
    raid_cast_out(a, source);
    raid_meta_write(a);
    list_del(&source->link);
    list_add_tail(&a->gone, &source->link);
    h->source = source;
    h->good = true;
}

static void close_it(void *arg) /* main */
{
    struct raid_member *m = arg;
    if (!m->closing)
        raid_member_close(m);
}

int raid_replace_end(struct raid_array *a, struct raid_member *m, struct err *e)
{
    struct handover h = {.a = a, .m = m};
    char object[80];
    bdev_quiesce(&a->bdev); /* what the log has on the old one counts no more afterwards */
    tlock_lock(&a->meta_lock);
    hand_over(&h);
    raid_publish(a);
    tlock_unlock(&a->meta_lock);
    bdev_resume(&a->bdev);
    if (h.source)
        task_call(reactor_main(), close_it, h.source);
    if (!h.good)
        return err_set(e, ERR_IO, "", "%s or the one that it was to replace failed at the end",
                       m->device);
    raid_object(a, object);
    event_raise(object, "replace-done", "%s has slot %d; %s is free", m->device, m->slot,
                h.source->device);
    return 0;
}

/* ---- the beginning */

struct replace_call {
    struct raid_array *a;
    const char *member, *device;
    bool spare;   /* the device is one already */
    uint64_t job; /* that fills it; 0: not yet known */
    int rc;
    struct err *e;
};

static struct raid_member *find_in(const struct raid_array *a, const char *device, unsigned state)
{
    struct raid_member *m;
    list_for_each (m, &a->members, link)
        if (m->state == state && (!device || !strcmp(m->device, device)))
            return m;
    return NULL;
}

/* Meta_lock held. `added`: the device is a spare by now. */
static int check(const struct replace_call *c, bool added)
{
    const struct raid_array *a = c->a;
    struct err *e = c->e;
    if (!find_in(a, c->member, RAID_MEMBER_IN_SYNC))
        return err_set(e, ERR_NOT_FOUND, "member", "array %s has no member %s that is in sync",
                       a->bdev.name, c->member);
    if (a->replacement)
        return err_set(e, ERR_IN_USE, "", "array %s: %s is replacing another member: one at a time",
                       a->bdev.name, a->replacement->device);
    if (raid_load(&a->failed) || raid_in_sync_count(a) < a->slots)
        return err_set(e, ERR_UNSUPPORTED, "",
                       "array %s lacks a member: a new one has to take that slot first",
                       a->bdev.name);
    if (added && !find_in(a, c->device, RAID_MEMBER_SPARE))
        return err_set(e, ERR_NOT_FOUND, "device",
                       c->device ? "%s is no spare of array %s" : "%sthere is no spare in array %s",
                       c->device ? c->device : "", a->bdev.name);
    return 0;
}

static void check_home(void *arg)
{
    struct replace_call *c = arg;
    tlock_lock(&c->a->meta_lock);
    c->spare = find_in(c->a, c->device, RAID_MEMBER_SPARE);
    c->rc = check(c, !c->device);
    tlock_unlock(&c->a->meta_lock);
}

/* A scrub gives way at its next step; behind a resync one waits its turn. */
static void await_job(struct replace_call *c, uint64_t before)
{
    enum { NAP_US = 1000 };
    struct raid_array *a = c->a;
    raid_sync_next(a);
    while (a->last_job == before && a->sync_runs && raid_load(&a->resync_pos) == UINT64_MAX)
        task_sleep_us(NAP_US);
    if (a->last_job != before)
        c->job = a->last_job;
}

static void replace_home(void *arg)
{
    struct replace_call *c = arg;
    struct raid_array *a = c->a;
    uint64_t before = a->last_job;
    char object[80];
    tlock_lock(&a->meta_lock);
    c->rc = check(c, true);
    if (!c->rc) {
        struct raid_member *spare = find_in(a, c->device, RAID_MEMBER_SPARE);
        int slot = find_in(a, c->member, RAID_MEMBER_IN_SYNC)->slot;
        raid_object(a, object);
        if (raid_take_slot(a, spare, slot, true))
            event_raise(object, "replace-started", "%s is to take slot %d from %s", spare->device,
                        slot, c->member);
        else
            c->rc = err_set(c->e, ERR_IO, "device", "%s could not be written", spare->device);
    }
    tlock_unlock(&a->meta_lock);
    if (!c->rc)
        await_job(c, before);
}

int raid_replace_member(const char *name, const char *member, const char *device, bool force,
                        uint64_t *job_r, struct err *e)
{
    struct raid_array *a = raid_find(name);
    struct replace_call c = {.a = a, .member = member, .device = device, .e = e};
    if (!a || a->freeing)
        return err_set(e, ERR_NOT_FOUND, "", "no array %s", name);
    if (!a->level->redundant || a->read_only)
        return err_set(e, ERR_UNSUPPORTED, "", "array %s is %s: members cannot be replaced", name,
                       a->read_only ? "read-only" : a->level->name);
    a->main_tasks++;
    task_call(a->home, check_home, &c);
    if (!c.rc && !c.spare)
        c.rc = raid_add_member(name, device, force, e);
    if (!c.rc)
        task_call(a->home, replace_home, &c);
    a->main_tasks--;
    if (job_r)
        *job_r = c.job;
    return c.rc;
}
