/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resync (a dirty array: members are made to agree) and rebuild (a new member is filled), as jobs.
 * One at a time; a resync comes first. Both yield to clients (pace.c), and the superblock has the
 * cursor.
 */
#include <errno.h>
#include <string.h>

#include "block/event.h"
#include "block/job.h"
#include "raid/bad.h"
#include "raid/bitmap.h"

enum {
    WINDOW = 512 << 10,
    /* Between two checkpoints: a sixteenth of the work, as in md, and not more often than: */
    CHECKPOINT_MS = 1000,
    CHECKPOINT_MAX_MS = 10 * 1000, /* md: five minutes */
};

/* A slot that nobody serves comes first. */
static struct raid_member *rebuilding(const struct raid_array *a)
{
    struct raid_member *m, *other = NULL;
    list_for_each (m, &a->members, link) {
        if (raid_load(&m->state) == RAID_MEMBER_REBUILDING && !m->replaces)
            return m;
        if (raid_load(&m->state) == RAID_MEMBER_REBUILDING)
            other = m;
    }
    return other;
}

static uint64_t window(const struct raid_array *a, uint64_t pos, uint64_t all, bool by_bitmap)
{
    uint64_t end = all - pos < WINDOW ? all : pos + WINDOW;
    return (by_bitmap ? raid_bitmap_marked(a, pos, end) : end) - pos;
}

/* Where a rebuild by the bitmap goes on, and how far at once. */
static uint64_t next_marked(const struct raid_array *a, const struct raid_member *m, uint64_t pos,
                            uint64_t *length_r)
{
    if (a->level->next_marked)
        return a->level->next_marked(a, m, pos, a->member_bytes, length_r);
    uint64_t at = raid_bitmap_next(a, pos, a->member_bytes);
    *length_r = at < a->member_bytes ? window(a, at, a->member_bytes, true) : 0;
    return at;
}

/* ---- checkpoints: what a restart need not do again */

struct mark {
    uint64_t pos, ns;
};

static unsigned checkpoint_ms = CHECKPOINT_MS; /* atomic */

void raid_set_checkpoint_ms(unsigned ms)
{
    raid_store(&checkpoint_ms, ms);
}

static void checkpoint(struct raid_array *a, struct mark *last, uint64_t pos, uint64_t all)
{
    uint64_t ms = (clock_ns() - last->ns) / 1000000;
    if (ms < raid_load(&checkpoint_ms) || (ms < CHECKPOINT_MAX_MS && pos - last->pos < all / 16))
        return;
    raid_checkpoint(a);
    *last = (struct mark){pos, clock_ns()};
}

static int stopped(uint64_t pos, struct err *e)
{
    err_set(e, ERR_NOT_READY, "", "stopped at byte %llu", (unsigned long long)pos);
    return JOB_STOPPED;
}

/* ---- resync */

static void resync_end(struct raid_array *a, uint64_t unread)
{
    char object[80];
    raid_object(a, object);
    tlock_lock(&a->meta_lock);
    if (!raid_meta_flush(a)) {
        raid_store(&a->resync_pos, UINT64_MAX);
        raid_meta_write(a);
    }
    tlock_unlock(&a->meta_lock);
    raid_bitmap_arm(a);
    if (unread)
        event_raise(object, "resync-unreadable", "%llu windows have a part that no member can read",
                    (unsigned long long)unread);
    event_raise(object, "resync-done", "all members agree");
}

static int resync_job(struct job *job, void *arg, struct err *e)
{
    struct raid_array *a = arg;
    struct raid_pace pace;
    uint64_t pos = raid_load(&a->resync_pos), unread = 0, skip;
    char object[80];
    raid_object(a, object);
    struct mark mark = {pos, clock_ns()};
    raid_pace_begin(a, &pace);
    raid_bitmap_arm(a);
    event_raise(object, "resync-started", "at byte %llu of %llu", (unsigned long long)pos,
                (unsigned long long)a->sync_bytes);
    while (pos < a->sync_bytes) {
        if (!job_step(job, pos, a->sync_bytes) || a->stopping)
            return stopped(pos, e);
        if (raid_load(&a->failed))
            return err_set(e, ERR_IO, "", "the array has failed");
        if (!raid_may_differ(a) && !rebuilding(a))
            break; /* the only copy is right by definition */
        if (a->bitmap && (skip = raid_bitmap_next(a, pos, a->sync_bytes)) > pos) {
            pos = skip;
            raid_store(&a->resync_pos, pos);
            continue;
        }
        uint64_t len = window(a, pos, a->sync_bytes, a->bitmap);
        int rc = a->level->sync_window(a, NULL, pos, len);
        if (rc && rc != -EIO)
            return err_set(e, ERR_IO, "", "%s", strerror(-rc));
        unread += rc == -EIO;
        pos += len;
        raid_store(&a->resync_pos, pos);
        checkpoint(a, &mark, pos, a->sync_bytes);
        raid_pace_give_way(a, &pace, len);
    }
    job_step(job, a->sync_bytes, a->sync_bytes);
    resync_end(a, unread);
    return 0;
}

/* ---- rebuild */

static int rebuild_end(struct raid_array *a, struct raid_member *m, struct err *e)
{
    char object[80];
    raid_object(a, object);
    if (m->replaces && !raid_replace_end(a, m, e))
        return 0;
    tlock_lock(&a->meta_lock);
    bool good = m->state == RAID_MEMBER_REBUILDING && !m->replaces && !raid_meta_flush(a) &&
                m->state == RAID_MEMBER_REBUILDING;
    if (good) {
        raid_store(&m->unproven, true);
        raid_store(&m->state, RAID_MEMBER_IN_SYNC);
        m->by_bitmap = false;
        good = !raid_meta_write(a) && raid_in_sync(m);
        raid_store(&m->unproven, false);
    }
    tlock_unlock(&a->meta_lock);
    raid_bitmap_arm(a);
    if (!good)
        return err_set(e, ERR_IO, "", "%s failed at the end of its rebuild", m->device);
    event_raise(object, "rebuild-done", "%s is in sync; %u of %u are", m->device,
                raid_in_sync_count(a), a->slots);
    return 0;
}

/* Did `m` fail, and not one of those that it is filled from? */
static bool has_failed(const struct raid_member *m)
{
    return raid_load(&m->report) || raid_load(&m->state) != RAID_MEMBER_REBUILDING;
}

/* Nobody can tell what belongs there: it is on the new member's list of bad blocks before it is
 * tried once more, so that what a client writes meanwhile takes it off again. */
static int without(struct raid_array *a, struct raid_member *m, uint64_t at, uint64_t length)
{
    tlock_lock(&a->meta_lock);
    bool listed = raid_bad_add(m, at, length, -EIO) && !raid_meta_write(a);
    tlock_unlock(&a->meta_lock);
    if (!listed)
        return -EIO;
    int rc = a->level->sync_window(a, m, at, length);
    return rc == -EIO && !has_failed(m) ? 0 : rc;
}

static int fill_around(struct raid_array *a, struct raid_member *m, uint64_t pos, uint64_t length)
{
    enum { STEP = 4096 };
    int rc = 0;
    for (uint64_t at = pos, n; at < pos + length && !rc; at += n) {
        n = pos + length - at < STEP ? pos + length - at : STEP;
        rc = a->level->sync_window(a, m, at, n);
        if (rc == -EIO && !has_failed(m))
            rc = without(a, m, at, n);
    }
    return rc;
}

/* Whoever failed a request was reported where that was seen. A place that nobody can read is not
 * the new member's fault: it keeps what it has, and waits for better times. */
static int rebuild_step(struct raid_array *a, struct raid_member *m, uint64_t pos, struct err *e)
{
    enum { NO_MEMORY_US = 100 * 1000 };
    uint64_t len = window(a, pos, a->member_bytes, false);
    if (m->by_bitmap)
        next_marked(a, m, pos, &len);
    int rc = a->level->sync_window(a, m, pos, len);
    if (rc == -EIO && m->bad && !has_failed(m))
        rc = fill_around(a, m, pos, len);
    if (!rc) {
        raid_store(&m->rebuilt, pos + len);
        return 0;
    }
    if (has_failed(m))
        return err_set(e, ERR_IO, "", "%s failed at byte %llu: %s", m->device,
                       (unsigned long long)pos, strerror(-rc));
    if (rc == -ENOMEM) {
        task_sleep_us(NO_MEMORY_US);
        return 0;
    }
    char object[80];
    raid_object(a, object);
    err_set(e, ERR_IO, "", "no member can read all of the data at byte %llu: %s stays incomplete",
            (unsigned long long)pos, m->device);
    event_raise(object, "rebuild-halted", "%s", e->msg);
    return -1;
}

static int rebuild_job(struct job *job, void *arg, struct err *e)
{
    struct raid_array *a = arg;
    struct raid_member *m = rebuilding(a);
    struct raid_pace pace;
    uint64_t skip, len;
    raid_pace_begin(a, &pace);
    if (!m)
        return 0;
    struct mark mark = {m->rebuilt, clock_ns()};
    for (uint64_t pos = m->rebuilt; pos < a->member_bytes; pos = m->rebuilt) {
        if (m->by_bitmap && (skip = next_marked(a, m, pos, &len)) > pos) {
            raid_store(&m->rebuilt, skip);
            continue;
        }
        if (!job_step(job, pos, a->member_bytes) || a->stopping)
            return stopped(pos, e);
        if (raid_load(&m->state) != RAID_MEMBER_REBUILDING || raid_load(&a->failed))
            return err_set(e, ERR_IO, "", "%s or the array has failed", m->device);
        if (rebuild_step(a, m, pos, e))
            return -1;
        checkpoint(a, &mark, m->rebuilt, a->member_bytes);
        raid_pace_give_way(a, &pace, m->rebuilt - pos);
    }
    job_step(job, a->member_bytes, a->member_bytes);
    return rebuild_end(a, m, e);
}

/* ---- what comes next */

/* Its superblock says so, with recovery_offset 0, before the first write reaches it. */
bool raid_take_slot(struct raid_array *a, struct raid_member *spare, int slot, bool replaces)
{
    spare->slot = slot;
    spare->replaces = replaces;
    raid_store(&spare->rebuilt, 0);
    spare->checkpoint = 0;
    raid_store(&a->era, a->era + 1);
    spare->era = a->era;
    raid_store(&spare->state, RAID_MEMBER_REBUILDING);
    struct err e;
    int error = raid_bitmap_place(a, spare, &e) ? -ENOSPC : 0;
    if (a->bitmap && !error)
        error = raid_bitmap_store_all(a, spare);
    if (error && raid_kick(a, spare, error, false))
        spare->slot = -1;
    if (raid_meta_write(a) || spare->state != RAID_MEMBER_REBUILDING)
        return false;
    raid_store(replaces ? &a->replacement : &a->slot[slot], spare);
    raid_publish(a);
    return true;
}

/* A spare into a slot that nobody has. */
static bool take_spare(struct raid_array *a)
{
    struct raid_member *m, *spare = NULL;
    int slot = -1;
    list_for_each (m, &a->members, link)
        if (m->state == RAID_MEMBER_SPARE && !spare)
            spare = m;
    for (unsigned i = 0; i < a->slots && slot < 0; i++)
        if (!raid_load(&a->slot[i]))
            slot = (int)i;
    if (!spare || slot < 0 || !raid_alive(a, NULL) || !raid_take_slot(a, spare, slot, false))
        return false;
    char object[80];
    raid_object(a, object);
    event_raise(object, "rebuild-started", "%s takes slot %d", spare->device, slot);
    return true;
}

static int sync_job(struct job *job, void *arg, struct err *e)
{
    struct raid_array *a = arg;
    bool resync = raid_load(&a->resync_pos) != UINT64_MAX;
    raid_publish(a);
    int rc = resync ? resync_job(job, a, e) : rebuild_job(job, a, e);
    raid_store(&a->sync_job, 0);
    raid_pace_end(a);
    raid_publish(a);
    raid_task_end(a, &a->sync_runs);
    if (!rc || (rc < 0 && !rebuilding(a))) /* one that was stopped waits for the next change */
        raid_sync_next(a);
    return rc;
}

static void begin(struct raid_array *a, bool resync)
{
    a->last_job =
        job_start(a->home, resync ? "resync" : "rebuild", a->bdev.name, true, sync_job, a);
    raid_store(&a->sync_job, a->last_job);
}

static void next_task(void *arg)
{
    struct raid_array *a = arg;
    tlock_lock(&a->meta_lock);
    bool resync = raid_load(&a->resync_pos) != UINT64_MAX;
    bool work = resync || rebuilding(a) || take_spare(a);
    tlock_unlock(&a->meta_lock);
    if (work && !a->stopping && !raid_load(&a->failed))
        begin(a, resync);
    else
        raid_task_end(a, &a->sync_runs);
}

void raid_sync_next(struct raid_array *a)
{
    if (!a->level->redundant || a->read_only || a->stopping || raid_load(&a->failed))
        return;
    raid_task(a, &a->sync_runs, "raid-sync", next_task);
}

void raid_sync_start(struct raid_array *a)
{
    uint64_t before = a->last_job;
    raid_sync_next(a);
    while (a->sync_runs && !raid_load(&a->sync_job) && a->last_job == before)
        task_yield();
}
